/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepting: one multishot accept per listener, all on worker 0, which hands each connection to the
 * worker that has the fewest. (SO_REUSEPORT spreads the few long-lived connections of a cache badly.)
 *
 * Without descriptors or memory, accepting pauses for PAUSE_NS or until a connection ends: a listener
 * that stays ready would spin otherwise. Those who wait are kept by the kernel.
 *
 * Threads: worker 0, save accept__freed(), which is any worker's.
 */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "valcached/net/net_int.h"

#define PAUSE_NS 200000000ull

static void accepted(struct io_op *op);

static void arm(struct worker *w)
{
	for (unsigned i = 0; i < w->net->listener_n; i++) {
		struct listener *l = &w->net->listener[i];

		if (io_op_idle(&l->accept))
			io_accept(w->io, &l->accept, l->fd, accepted);
	}
	w->accept_at_ns = 0;
	atomic_store_explicit(&w->net->accepting, true, memory_order_relaxed);
}

static void pause_accepting(struct worker *w, const struct listener *l, int err)
{
	static struct log_limit limit;

	count_add(&w->count.accept_pauses, 1);
	w->accept_at_ns = io_now(w->io) + PAUSE_NS;
	atomic_store_explicit(&w->net->accepting, false, memory_order_relaxed);
	log_limited(&limit, LOG_WARN, "cannot accept on %s: %s; %s", l->where, strerror(err),
		    err == EMFILE || err == ENFILE
			? "raise the limit of open files (LimitNOFILE=, ulimit -n) or lower -c"
			: "trying again in a moment");
}

/* Told at once and closed, as memcached does; a client that waits for TLS is only closed. */
static void turn_away(struct worker *w, const struct listener *l, int fd)
{
	static struct log_limit limit;
	const struct proto_line *line = &proto_lines[PROTO_TOO_MANY];

	if (!l->tls && !io_sock_say(w->io, fd, line->s, line->len))
		log_limited(&limit, LOG_DEBUG, "a connection that was turned away is gone already");
	io_sock_close(w->io, fd);
}

static void at_limit(struct worker *w, const struct listener *l, int fd)
{
	static struct log_limit limit;

	count_add(&w->count.rejected_connections, 1);
	turn_away(w, l, fd);
	log_limited(&limit, LOG_WARN,
		    "turned a connection away: %u are open; raise -c to allow more",
		    w->net->cfg.connections);
}

static void hand_over(struct net *net, struct conn *c)
{
	struct worker *best = &net->worker[0];
	unsigned least = UINT32_MAX;

	for (unsigned i = 0; i < net->cfg.workers; i++) {
		unsigned n = atomic_load_explicit(&net->worker[i].conn_n, memory_order_relaxed);

		if (n < least) {
			least = n;
			best = &net->worker[i];
		}
	}
	atomic_fetch_add_explicit(&best->conn_n, 1, memory_order_relaxed);
	if (best == &net->worker[0]) {
		conn__begin(best, c);
		return;
	}
	c->next = atomic_load_explicit(&best->mailbox, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&best->mailbox, &c->next, c,
						      memory_order_release, memory_order_relaxed))
		;
	io_wake(best->io);
}

static void accepted(struct io_op *op)
{
	struct listener *l = container_of(op, struct listener, accept);
	struct net *net = l->net;
	struct worker *w = &net->worker[0];
	struct address *address = NULL;
	struct conn *c;

	if (op->res < 0) {
		if (w->draining || op->res == -ECANCELED)
			return;
		if (op->res == -ECONNABORTED || op->res == -EINTR || op->res == -EAGAIN) {
			if (!op->more)
				arm(w);
			return;
		}
		pause_accepting(w, l, -op->res);
		return;
	}
	if (w->draining) {
		io_sock_close(w->io, op->res);
		return;
	}
	if (!rights__admit(w, l, op->res)) {
		io_sock_close(w->io, op->res);
	} else if (atomic_load_explicit(&net->conn_n, memory_order_relaxed) >=
		   net->cfg.connections) {
		at_limit(w, l, op->res);
	} else if (!address__take(w, l, op->res, &address)) {
		turn_away(w, l, op->res);
	} else {
		c = conn__new(op->res);
		if (c == NULL) {
			address__give(net, address);
			io_sock_close(w->io, op->res);
			pause_accepting(w, l, ENOMEM);
		} else {
			c->local = l->port == 0;
			c->secure = l->tls;
			c->address = address;
			atomic_fetch_add_explicit(&net->conn_n, 1, memory_order_relaxed);
			hand_over(net, c);
		}
	}
	if (!op->more && w->accept_at_ns == 0)
		arm(w);
}

void accept__start(struct worker *w)
{
	arm(w);
}

void accept__stop(struct worker *w)
{
	w->accept_at_ns = 0;
	atomic_store_explicit(&w->net->accepting, false, memory_order_relaxed);
	for (unsigned i = 0; i < w->net->listener_n; i++)
		io_cancel(w->io, &w->net->listener[i].accept);
}

bool accept__idle(const struct worker *w)
{
	for (unsigned i = 0; i < w->net->listener_n; i++)
		if (!io_op_idle(&w->net->listener[i].accept))
			return false;
	return true;
}

void accept__freed(struct worker *w)
{
	if (!atomic_load_explicit(&w->net->accepting, memory_order_relaxed))
		io_wake(w->io);
}

/* When it wants to be called again at the latest. */
uint64_t accept__turn(struct worker *w, uint64_t now)
{
	if (w->accept_at_ns == 0 || w->draining)
		return UINT64_MAX;
	if (now >= w->accept_at_ns) {
		arm(w);
		return UINT64_MAX;
	}
	return w->accept_at_ns;
}
