/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's time. It owes us the rest of a request that it has begun, or the taking of an answer; for each
 * it has request_ns, and from then on must keep up SLOW_RATE. So who trickles bytes, which is progress to
 * conn__look(), does not keep what a request holds for ever. The clock of a request stands while the
 * client waits for us, and begins anew with the next request; that of an answer with the next send.
 *
 * And a client that owes nothing and asks nothing is closed after idle_ns. The connection's worker.
 */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "valcached/net/tls_int.h"

/* From the acceptance of a connection to the end of its TLS handshake, however much is sent meanwhile. */
#define HANDSHAKE_NS  (10 * NS_PER_S)
#define IDLE_LOOK_MIN (20 * NS_PER_MS)

/* On a unix socket only what is done is known: the kernel does not tell how far it is. */
uint64_t limits__moved(const struct conn *c)
{
	return c->local ? c->moved : io_sock_progress(c->w->io, c->fd);
}

static void run_clock(struct patience *p, bool owed, uint64_t now)
{
	if (owed && p->since_ns == 0) {
		p->since_ns = now;
	} else if (!owed && p->since_ns != 0) {
		p->spent_ns += now - p->since_ns;
		p->since_ns = 0;
	}
}

/* What may have been taken of a send that is under way: who is slow has the time for all of it. */
static uint64_t perhaps_taken(const struct conn *c, const struct patience *p)
{
	return c->local && p == &c->out_time && !io_op_idle(&c->tx) ? c->tx.u.net.len : 0;
}

/* Is the client's time over, and has it not kept up since? */
static bool lost(const struct conn *c, struct patience *p, uint64_t now)
{
	const struct net_config *cfg = &c->w->net->cfg;

	if (p->since_ns == 0 || p->spent_ns + (now - p->since_ns) < cfg->request_ns)
		return false;
	if (p->mark_ns == 0) {
		p->mark_ns = now;
		p->mark = limits__moved(c);
		return false;
	}
	/* a second at least: bytes come in lumps */
	return now - p->mark_ns >= NS_PER_S && limits__moved(c) - p->mark + perhaps_taken(c, p) <
						   (now - p->mark_ns) / (NS_PER_S / SLOW_RATE);
}

static bool handshaking(const struct conn *c)
{
	return c->tls != NULL && !c->tls->open && !c->closing;
}

bool limits__overdue(struct conn *c)
{
	static struct log_limit limit;
	uint64_t now = io_now(c->w->io);
	bool out;

	if (handshaking(c)) {
		if (c->in_time.since_ns == 0 || now - c->in_time.since_ns < HANDSHAKE_NS)
			return false;
		count_add(&c->w->count.ssl_handshake_errors, 1);
		log_limited(&limit, LOG_INFO,
			    "closed a connection whose TLS handshake took more than %llu s",
			    HANDSHAKE_NS / NS_PER_S);
		worker__unwatch(c->w, c);
		conn__die(c);
		return true;
	}
	if (c->w->net->cfg.request_ns == 0)
		return false;
	out = lost(c, &c->out_time, now);
	if (!out && !lost(c, &c->in_time, now))
		return false;
	count_add(&c->w->count.slow_connections, 1);
	log_limited(&limit, LOG_INFO,
		    "closed a connection whose client took longer than %llu s to %s",
		    (unsigned long long)(c->w->net->cfg.request_ns / NS_PER_S),
		    out ? "take an answer" : "send a request");
	worker__unwatch(c->w, c);
	conn__die(c);
	return true;
}

static uint8_t what_is_owed(struct conn *c)
{
	uint8_t owes = io_op_idle(&c->tx) ? 0 : OWES_TAKING;

	if (c->closing || c->eof)
		return owes;
	if (handshaking(c))
		return owes | OWES_LINE;
	switch ((enum conn_in)c->in) {
	case IN_BODY:
	case IN_END:
		return owes | OWES_BODY;
	case IN_LINE:
		if (c->left_n == 0 && proto_in_block(&c->proto))
			return owes | OWES_BODY;
		if (c->left_n == 0
			? !proto_idle(&c->proto) || (c->tls != NULL && tls__in_record(c))
			: c->served < c->w->net->cfg.turn_requests && request__may_begin(c))
			return owes | OWES_LINE;
		break;
	case IN_HOLD:
		break;
	}
	return owes;
}

bool limits__settled(struct conn *c)
{
	uint64_t now;

	c->owes = what_is_owed(c);
	if (c->served > 0)
		c->in_time = (struct patience){0};
	if (c->owes == 0 && c->in_time.since_ns == 0)
		return false;
	now = io_now(c->w->io);
	run_clock(&c->in_time, (c->owes & (OWES_LINE | OWES_BODY)) != 0, now);
	if (c->in == IN_LINE && c->in_time.since_ns == 0)
		c->in_time = (struct patience){0};
	run_clock(&c->out_time, (c->owes & OWES_TAKING) != 0, now);
	return limits__overdue(c);
}

uint64_t limits__idle_turn(struct worker *w, uint64_t now)
{
	static struct log_limit limit;
	uint64_t idle_ns = w->net->cfg.idle_ns, step = idle_ns / 8;

	if (idle_ns == 0 || w->conns == NULL)
		return UINT64_MAX;
	if (now < w->idle_ns)
		return w->idle_ns;
	for (struct conn *c = w->conns; c != NULL; c = c->next) {
		if (c->dead || now - c->asked_ns < idle_ns || !conn__at_rest(c))
			continue;
		count_add(&w->count.idle_kicks, 1);
		log_limited(&limit, LOG_INFO, "closed a connection that asked nothing for %llu s",
			    (unsigned long long)(idle_ns / NS_PER_S));
		conn__die(c);
	}
	w->idle_ns = now + (step < IDLE_LOOK_MIN ? IDLE_LOOK_MIN : step);
	return w->idle_ns;
}
