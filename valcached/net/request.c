/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests: what the parser understood is begun here, and ends here. How each kind is carried out is in
 * read.c, set.c, remove.c and service.c; how it is answered in answer.c.
 *
 * Rules
 *  1. Answers leave in the order of the requests. A request that is complete while earlier ones are
 *     not waits in the queue; when the queue is empty it is answered without entering it.
 *  2. Reads (get, gets, mg, me, touch) run concurrently, at most WINDOW_REQS of them and
 *     WINDOW_BYTES of answers.
 *  3. Everything else holds the input (IN_HOLD) until it is complete: what follows on this connection
 *     sees its effect. It begins its effect only when no earlier read of the same key is
 *     pending, so that a read does not see what was written after it.
 *  4. A value longer than STORE_WHOLE_MAX goes out in chunks; the next is asked for when the one
 *     before is sent. Such a request stays at the head of the queue meanwhile (c->stream).
 *  5. Each request that is taken is ended exactly once, by request__end().
 *  6. While a read waits for memory, nothing later is begun on its connection: what holds memory is never
 *     behind what waits for it, so those that wait are served in the end, and a pipeline has one place
 *     in the line, not many. Reads that were parsed already are in the queue, deferred.
 *  7. A connection has WINDOW_FIRST bytes of disk reads and answers under way, and twice as much after each
 *     send, up to WINDOW_BYTES; one longer value alone may exceed it. So who takes nothing has hardly more
 *     than one value's memory. What is parsed beyond it is deferred, as in rule 6. Of a stranger, who has yet to log
 *     in, WINDOW_STRANGER bytes.
 *
 * Threads: the connection's worker.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "valcached/net/request_int.h"

/* ---- taking and ending ------------------------------------------------------------------------ */

void request__end(struct conn *c, struct req *r)
{
	A(!r->busy);
	if (r->open)
		store_op_end(&r->op);
	if (r->text.at != NULL) {
		worker__let_go(c->w, r->text.room);
		text_free(&r->text);
	}
	if (r->dumps) {
		r->dumps = false;
		atomic_store(&c->w->net->dumping, false);
	}
	worker__req_free(c->w, r);
}

void request__step_done(struct store_op *op)
{
	struct req *r = op->user;
	struct conn *c = r->conn;

	MAGIC_OK(c, CONN_MAGIC);
	A(r->busy && c->busy > 0);
	r->busy = false;
	c->busy--;
	if (!c->dead)
		r->then(r);
	conn__dirty(c);
}

/* ---- what holds the input --------------------------------------------------------------------- */

static bool read_pending(const struct conn *c, const struct req *r)
{
	if (c->pending == 0)
		return false;
	if (r->op.key_len == 0)
		return true;
	for (const struct req *q = c->queue; q != NULL; q = q->next)
		if ((q->busy || q->deferred) && q->open && q->op.key_len == r->op.key_len &&
		    memcmp(q->op.key, r->op.key, r->op.key_len) == 0)
			return true;
	return false;
}

/* Rule 3: runs begin(r) when no earlier read of the key is pending, now or later. */
void request__hold(struct conn *c, struct req *r, void (*begin)(struct req *))
{
	c->cur = r;
	c->in = IN_HOLD;
	r->then = begin;
	if (read_pending(c, r))
		c->wait_gets = true;
	else
		begin(r);
}

void request__resume(struct conn *c)
{
	if (!c->wait_gets || c->pending > 0)
		return;
	c->wait_gets = false;
	c->cur->then(c->cur);
}

void request__hold_new(struct conn *c, const struct proto_request *rq, void (*begin)(struct req *))
{
	struct req *r = request__take(c, rq);

	request__open(r, rq->key, rq->key_len);
	request__hold(c, r, begin);
}

/* ---- input ------------------------------------------------------------------------------------ */

bool request__may_begin(struct conn *c)
{
	uint64_t due;

	if (c->queue_n + c->w->ahead_n >= WINDOW_REQS)
		return false;
	/* who waits here has an answer under way, and goes on when that is sent */
	if (worker__tight(c->w) && (c->out != NULL || c->queue != NULL || c->w->ahead_n > 0))
		return false;
	if (c->deferred != NULL || request__starved(c) || request__crowded(c))
		return false;
	due = c->out_bytes + c->held_bytes + (uint64_t)(c->pending + c->w->ahead_n) * c->mean;
	return due < (proto_locked(&c->proto) ? WINDOW_STRANGER : c->window) ||
	       (c->out == NULL && c->queue == NULL && c->w->ahead_n == 0);
}

static void refused(struct conn *c, const struct proto_request *rq)
{
	struct worker_counters *n = &c->w->count;

	if (rq->immutable)
		count_add(&n->cmd_refused, 1);
	else if (!rq->bin.on || rq->status != PROTO_ST_CONTINUE)
		count_add(&n->protocol_errors, 1);
	if (rq->bin.on)
		binary__answer(c, &rq->bin, (enum proto_status)rq->status, NULL, 0);
	else
		answer__text(c, rq->reply, rq->reply_len);
}

/* What may be put off; everything else takes its place behind those put off. False: it is no such read. */
static bool begin_read(struct conn *c, const struct proto_request *rq, bool more)
{
	struct worker *w = c->w;

	switch (rq->op) {
	case PROTO_GET:
	case PROTO_GETS:
	case PROTO_GAT:
	case PROTO_GATS:
		if (rq->key_len == 0 || rq->expire)
			break;
		read__key(c, rq, more);
		return true;
	case PROTO_MG:
	case PROTO_TOUCH:
		if (rq->expire)
			break;
		if (rq->op == PROTO_MG)
			count_add(&w->count.cmd_meta, 1);
		read__key(c, rq, more);
		return true;
	case PROTO_ME:
		count_add(&w->count.cmd_meta, 1);
		read__key(c, rq, more);
		return true;
	default:
		break;
	}
	return false;
}

static void begin(struct conn *c, const struct proto_request *rq)
{
	struct worker *w = c->w;

	switch (rq->op) {
	case PROTO_GET:
	case PROTO_GETS:
	case PROTO_GAT:
	case PROTO_GATS:
		if (rq->key_len == 0)
			answer__constant(c, rq, PROTO_END);
		else
			request__hold_new(c, rq, read__take);
		return;
	case PROTO_MG:
		count_add(&w->count.cmd_meta, 1);
		request__hold_new(c, rq, read__take);
		return;
	case PROTO_TOUCH:
		request__hold_new(c, rq, rq->bin.on ? read__take : remove__key);
		return;
	case PROTO_ME:
		break;
	case PROTO_MS:
		count_add(&w->count.cmd_meta, 1);
		set__begin(c, rq);
		return;
	case PROTO_SET:
	case PROTO_ADD:
		set__begin(c, rq);
		return;
	case PROTO_MD:
		count_add(&w->count.cmd_meta, 1);
		request__hold_new(c, rq, remove__meta);
		return;
	case PROTO_DELETE:
		request__hold_new(c, rq, remove__meta);
		return;
	case PROTO_FLUSH_ALL:
		service__flush_all(c, rq);
		return;
	case PROTO_VERSION:
		if (rq->bin.on)
			binary__answer(c, &rq->bin, PROTO_ST_OK, VALCACHED_VERSION,
				       sizeof(VALCACHED_VERSION) - 1);
		else
			answer__constant(c, rq, PROTO_VERSION_LINE);
		return;
	case PROTO_VERBOSITY:
		log_set_level(rq->number >= 2 ? LOG_DEBUG : LOG_INFO);
		answer__constant(c, rq, PROTO_OK);
		return;
	case PROTO_STATS:
		service__stats(c, rq);
		c->served = w->net->cfg.turn_requests; /* costs as much as many others */
		return;
	case PROTO_STATS_RESET:
		net_reset(w->net);
		answer__constant(c, rq, PROTO_RESET);
		return;
	case PROTO_QUIT:
		if (rq->bin.on)
			answer__constant(c, rq, PROTO_OK);
		c->closing = true;
		return;
	case PROTO_NOOP:
		answer__constant(c, rq, PROTO_OK);
		return;
	case PROTO_LOGIN:
		login__try(c, rq);
		c->served = w->net->cfg.turn_requests;
		return;
	case PROTO_SASL_MECHS:
		binary__answer(c, &rq->bin, PROTO_ST_OK, "PLAIN", 5);
		return;
	case PROTO_METADUMP:
		service__metadump(c, rq);
		return;
	case PROTO_MEMLIMIT:
		answer__constant(c, rq,
				 store_set_ram(w->net->store, (uint64_t)rq->number << 20) == 0
				     ? PROTO_OK
				     : PROTO_MEMLIMIT_BAD);
		return;
	case PROTO_PATH:
		service__path(c, rq);
		return;
	case PROTO_REFRESH_CERTS:
		service__refresh_certs(c, rq);
		return;
	case PROTO_MN:
		count_add(&w->count.cmd_meta, 1);
		answer__constant(c, rq, PROTO_MN_LINE);
		return;
	case PROTO_OPS:
		break;
	}
	A(false);
}

/* One line, or one key of a list. False: bytes are missing. */
static bool input_line(struct conn *c, const char *p, size_t n, size_t *did)
{
	struct proto_request *rq = &c->w->rq;
	const struct proto before = c->proto;
	enum proto_result res = proto_parse(&c->proto, p, n, did, rq);

	switch (res) {
	case PROTO_MORE:
		return false;
	case PROTO_REQUEST:
		if (begin_read(c, rq, *did < n))
			break;
		if (read__begin_ahead(c) > 0 && (c->deferred != NULL || request__starved(c))) {
			/* rule 6: it is parsed again when what is before it has its memory */
			c->proto = before;
			*did = 0;
			return false;
		}
		begin(c, rq);
		break;
	case PROTO_BLOCK:
		read__begin_ahead(c);
		set__block_drained(c, rq->good);
		break;
	case PROTO_REPLY:
		read__begin_ahead(c);
		refused(c, rq);
		break;
	case PROTO_HANGUP:
		read__begin_ahead(c);
		if (rq->reply_len == 0 && rq->status == PROTO_ST_OK)
			count_add(&c->w->count.foreign_greetings, 1);
		else
			refused(c, rq);
		c->closing = true;
		return false;
	}
	c->served++;
	if (c->bulk && ++c->small_run >= BULK_RUN)
		c->bulk = false;
	return true;
}

/* Until bytes are missing, or something has to happen first. */
static size_t input(struct conn *c, const char *bytes, size_t n)
{
	size_t did = 0, used;

	while (!c->closing && !c->dead) {
		switch ((enum conn_in)c->in) {
		case IN_LINE:
			if (c->w->ahead_n == AHEAD_MAX)
				read__begin_ahead(c);
			if (c->served >= c->w->net->cfg.turn_requests || !request__may_begin(c))
				return did;
			if (!input_line(c, bytes + did, n - did, &used))
				return did + used;
			did += used;
			break;
		case IN_BODY:
			if (did == n)
				return did;
			did += set__input_body(c, bytes + did, n - did);
			break;
		case IN_END:
			if (did == n)
				return did;
			did += set__input_end(c, bytes + did, n - did);
			break;
		case IN_HOLD:
			return did;
		}
	}
	return did;
}

/*
 * Takes from n bytes what can be understood and begun now. Returns how many were taken; the rest is to
 * be given again. When it stops with c->in == IN_LINE and request__may_begin(), the bytes are
 * the beginning of a request.
 */
size_t request__input(struct conn *c, const char *bytes, size_t n)
{
	size_t did = 0;

	do
		did += input(c, bytes + did, n - did);
	while (read__begin_ahead(c) > 0 && did < n);
	return did;
}

/* ---- ends ------------------------------------------------------------------------------------- */

void request__abort(struct conn *c)
{
	struct req *r = c->cur;

	if (r == NULL || r->busy || c->wait_gets)
		return;
	request__let_go(c);
	request__end(c, r);
}

/* Of a dead connection: all that the store does not have; the rest when it comes back. */
void request__free_all(struct conn *c)
{
	struct req *r = c->queue, *next;

	c->stream = NULL;
	c->deferred = NULL;
	c->queue = NULL;
	c->queue_end = &c->queue;
	c->queue_n = 0;
	c->held_bytes = 0;
	for (; r != NULL; r = next) {
		next = r->next;
		r->deferred = false;
		if (r->busy)
			answer__enqueue(c, r);
		else
			request__end(c, r);
	}
	r = c->cur;
	if (r != NULL && !r->busy) {
		c->cur = NULL;
		request__end(c, r);
	}
}
