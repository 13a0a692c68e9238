/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads: get, gets, gat, gats, mg, me, touch. They run concurrently (rule 2 of request.c). Those that come
 * together are put off until AHEAD_MAX of them are parsed, so that their cache misses overlap.
 * A gat or mg that expires its key is a write, too: it holds the input. The connection's worker.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "valcached/net/request_int.h"

/* ---- reads ------------------------------------------------------------------------------------ */

static void count_read(struct conn *c, const struct req *r)
{
	struct worker_counters *n = &c->w->count;
	bool hit = r->op.status == STORE_OK;

	switch ((enum proto_op)r->kind) {
	case PROTO_TOUCH:
		count_add(&n->cmd_touch, 1);
		count_add(hit ? &n->touch_hits : &n->touch_misses, 1);
		return;
	case PROTO_ME:
		return;
	case PROTO_GAT:
	case PROTO_GATS:
		count_add(&n->cmd_touch, 1);
		count_add(hit ? &n->touch_hits : &n->touch_misses, 1);
		break;
	default:
		break;
	}
	count_add(&n->cmd_get, 1);
	count_add(hit ? &n->get_hits : &n->get_misses, 1);
}

/* What is known only now of a read's answer. */
static void read_known(struct conn *c, struct req *r)
{
	count_read(c, r);
	if (r->kind != PROTO_TOUCH || r->bin.on)
		return;
	if (r->noreply)
		r->kind = PROTO_OPS;
	else
		r->line = &proto_lines[r->op.status == STORE_OK ? PROTO_TOUCHED : PROTO_NOT_FOUND];
}

/* A read in the queue is complete. */
static void read_came(struct req *r)
{
	struct conn *c = r->conn;

	c->pending--;
	c->reading -= r->counted;
	r->counted = 0;
	if (c->last_read == r)
		c->last_read = NULL;
	read_known(c, r);
	r->ready = true;
	c->held_bytes += answer__weight(r);
}

/* A small value is here and it is its turn: the answer's head is put, and this is where the rest goes. */
static uint8_t *place_value(struct store_op *op)
{
	struct req *r = op->user;
	char *to = output__room(r->conn, PROTO_HEAD_MAX + COPY_MAX + PROTO_TAIL_MAX);

	r->placed = to + answer__head(r, to);
	return (uint8_t *)r->placed;
}

static void answer_placed(struct conn *c, struct req *r)
{
	uint32_t len = r->op.value_len;
	char *to = output__room(c, PROTO_HEAD_MAX + COPY_MAX + PROTO_TAIL_MAX),
	     *end = r->placed + len;

	A(end - to <= PROTO_HEAD_MAX + COPY_MAX);
	c->mean += (len >> 3) - (c->mean >> 3);
	end += answer__tail(r, end);
	output__wrote(c, (uint32_t)(end - to));
	request__end(c, r);
}

static bool is_head(const struct req *r)
{
	return r->kind == PROTO_TOUCH || r->kind == PROTO_ME || (r->kind == PROTO_MG && !r->value);
}

static void begin_read(struct conn *c, struct req *r)
{
	r->then = read_came;
	if (c->queue == NULL) {
		r->op.place = place_value;
		r->op.place_max = COPY_MAX;
	}
	if (store_get(&r->op, is_head(r))) {
		read_known(c, r);
		if (r->op.placed)
			answer_placed(c, r);
		else
			answer__give(c, r);
		return;
	}
	r->busy = true;
	c->busy++;
	c->pending++;
	request__count_last(c); /* before it is forgotten */
	c->last_read = r;
	request__count_last(c);
	answer__enqueue(c, r);
}

/* Takes its place in the queue, to be begun when the read before it has its memory. */
static void defer(struct conn *c, struct req *r)
{
	r->then = read_came;
	r->deferred = true;
	c->pending++;
	if (c->deferred == NULL)
		c->deferred = r;
	answer__enqueue(c, r);
}

unsigned read__begin_ahead(struct conn *c)
{
	struct worker *w = c->w;
	unsigned n = w->ahead_n;

	if (n == 0)
		return 0;
	w->ahead_n = 0;
	for (unsigned stage = 1; stage < STORE_PREFETCH_STAGES; stage++)
		for (unsigned i = n > stage * AHEAD_STEP ? n - stage * AHEAD_STEP : 0; i < n; i++)
			store_prefetch(&w->ahead[i]->op, stage);
	for (unsigned i = 0; i < n; i++)
		if (c->deferred != NULL || request__starved(c) || request__crowded(c))
			defer(c, w->ahead[i]);
		else
			begin_read(c, w->ahead[i]);
	return n;
}

void read__resume(struct conn *c)
{
	while (c->deferred != NULL && !request__starved(c) && !request__crowded(c)) {
		struct req *r = c->deferred, *q = r->next;

		while (q != NULL && !q->deferred)
			q = q->next;
		c->deferred = q;
		r->deferred = false;
		if (store_get(&r->op, is_head(r))) {
			read_came(r);
		} else {
			r->busy = true;
			c->busy++;
			request__count_last(c);
			c->last_read = r;
			request__count_last(c);
		}
	}
}

/* A read: put off for a moment if more input is here, while its cache lines are on their way. */
void read__key(struct conn *c, const struct proto_request *rq, bool more)
{
	struct worker *w = c->w;
	struct req *r = request__take(c, rq);

	request__open(r, rq->key, rq->key_len);
	if (!more && w->ahead_n == 0) {
		begin_read(c, r);
		return;
	}
	for (unsigned stage = 0; stage < STORE_PREFETCH_STAGES; stage++) {
		unsigned before = stage * AHEAD_STEP;

		if (before == 0)
			store_prefetch(&r->op, 0);
		else if (w->ahead_n >= before)
			store_prefetch(&w->ahead[w->ahead_n - before]->op, stage);
	}
	w->ahead[w->ahead_n++] = r;
}

/* ---- reads that remove ------------------------------------------------------------------------- */

static void removed_after(struct req *r)
{
	request__let_go(r->conn);
	request__end(r->conn, r);
}

/* gat, mg or a binary touch with an expiry that is over: the value is taken, now the key goes. */
static void taken(struct req *r)
{
	struct conn *c = r->conn;
	struct req *d;

	read_known(c, r);
	if (r->op.status != STORE_OK) {
		request__let_go(c);
		answer__give(c, r);
		return;
	}
	d = worker__req(c->w);
	d->conn = c;
	d->kind = PROTO_OPS;
	d->busy = d->ready = false;
	d->line = NULL;
	request__open(d, r->op.key, r->op.key_len);
	answer__give(c, r);
	c->cur = d;
	d->then = removed_after;
	request__step(d, store_delete(&d->op));
}

void read__take(struct req *r)
{
	r->then = taken;
	request__step(r, store_get(&r->op, is_head(r)));
}
