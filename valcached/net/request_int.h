/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the files of net/ that carry requests out: request.c begins and ends them, read.c,
 * set.c, remove.c and service.c are the kinds, answer.c and binary.c answer. The rules are at the head of request.c.
 * What every request passes is inline. The connection's worker.
 */
#ifndef VALCACHED_NET_REQUEST_INT_H
#define VALCACHED_NET_REQUEST_INT_H

#include "base/assert.h"
#include "valcached/net/net_int.h"

/* ---- request.c -------------------------------------------------------------------------------- */

/* The store is done with a step that was not complete at once. */
void request__step_done(struct store_op *op);

static inline struct req *request__take(struct conn *c, const struct proto_request *rq)
{
	struct req *r = worker__req(c->w);

	r->conn = c;
	r->kind = (uint8_t)rq->op;
	r->bin = rq->bin;
	r->status = PROTO_ST_OK;
	r->open = r->busy = r->ready = r->deferred = false;
	r->last = rq->last;
	r->noreply = rq->noreply;
	r->expire = rq->expire;
	r->value = rq->value;
	r->add = rq->add;
	r->has_cas = rq->has_cas;
	r->flags = rq->flags;
	r->body_len = rq->body_len;
	r->counted = 0;
	r->cas = rq->cas;
	r->line = NULL;
	if (rq->op >= PROTO_MG)
		r->meta = rq->meta;
	return r;
}

static inline void request__open(struct req *r, const char *key, uint8_t key_len)
{
	store_op_init(&r->op, r->conn->w->store, key, key_len, request__step_done, r);
	r->open = true;
}

/* now: the store's step is complete already. */
static inline void request__step(struct req *r, bool now)
{
	if (now) {
		r->then(r);
		return;
	}
	r->busy = true;
	r->conn->busy++;
}

static inline void request__let_go(struct conn *c)
{
	c->cur = NULL;
	c->in = IN_LINE;
}

/* The store's buffers go back at once; the results stay readable in the request. */
static inline void request__close(struct req *r)
{
	store_op_end(&r->op);
	r->open = false;
}

/* Rule 3: runs begin(r) when no earlier read of the key is pending, now or later. */
void request__hold(struct conn *c, struct req *r, void (*begin)(struct req *));
/* The same for a request that is taken here, with its key. */
void request__hold_new(struct conn *c, const struct proto_request *rq, void (*begin)(struct req *));

/* Rule 6: a read of the connection waits for memory. */
static inline bool request__starved(const struct conn *c)
{
	return c->last_read != NULL && c->last_read->op.waits;
}

/* The read that waited for memory may have it now. */
static inline void request__count_last(struct conn *c)
{
	struct req *r = c->last_read;

	if (r != NULL && r->counted == 0) {
		r->counted = r->op.under_way;
		c->reading += r->counted;
	}
}

/* Rule 7. */
static inline bool request__crowded(struct conn *c)
{
	request__count_last(c);
	return c->reading + c->held_bytes + c->out_bytes >= c->window;
}

/* ---- answer.c --------------------------------------------------------------------------------- */

/* r is complete and not in the queue: it is answered now, or waits for its turn. */
void answer__give(struct conn *c, struct req *r);
void answer__line(struct conn *c, struct req *r, enum proto_line_id id);
/* An answer that needs nothing of the store. s is static memory. */
void answer__text(struct conn *c, const char *s, uint32_t n);
void answer__constant(struct conn *c, const struct proto_request *rq, enum proto_line_id id);
/* To the end of the queue. */
void answer__enqueue(struct conn *c, struct req *r);
/* Bytes of the store's that r's answer refers to. */
uint32_t answer__weight(const struct req *r);
/* The line before a hit's value; at most PROTO_HEAD_MAX bytes. */
uint32_t answer__head(const struct req *r, char *to);
/* What ends a hit's value; at most PROTO_TAIL_MAX bytes. */
static inline uint32_t answer__tail(const struct req *r, char *to)
{
	if (r->bin.on)
		return 0;
	return proto_put_tail(to, r->last && r->kind != PROTO_MG);
}

/* Who ends the request after its answer was put. */
enum put { PUT_DONE, PUT_HELD, PUT_STREAM };
/* A hit with a value. */
enum put answer__put_value(struct conn *c, struct req *r);

/* ---- binary.c: answers in packets -------------------------------------------------------------- */

enum put binary__put(struct conn *c, struct req *r);
/* An answer that needs nothing of the store: body (static memory) if the status is OK. */
void binary__answer(struct conn *c, const struct proto_bin *bin, enum proto_status st,
		    const char *body, uint32_t n);
/* The lines of a reply to "stats", END included, as packets; in place. */
void binary__stats(struct req *r);

/* ---- login.c ---------------------------------------------------------------------------------- */

void login__try(struct conn *c, const struct proto_request *rq);

/* ---- read.c ----------------------------------------------------------------------------------- */

/* more: further input is here already. */
void read__key(struct conn *c, const struct proto_request *rq, bool more);
/* Begins the reads that were put off; how many. */
unsigned read__begin_ahead(struct conn *c);
/* gat, mg, a binary touch with an expiry that is over; held. */
void read__take(struct req *r);

/* ---- set.c ------------------------------------------------------------------------------------ */

void set__begin(struct conn *c, const struct proto_request *rq);
/* Bytes of the body, of its end; how many were taken. */
size_t set__input_body(struct conn *c, const char *p, size_t n);
size_t set__input_end(struct conn *c, const char *p, size_t n);
/* The parser has dropped the block of a set that has expired. */
void set__block_drained(struct conn *c, bool good);

/* ---- remove.c: held requests ------------------------------------------------------------------ */

void remove__key(struct req *r);
void remove__meta(struct req *r);

/* ---- service.c -------------------------------------------------------------------------------- */

void service__flush_all(struct conn *c, const struct proto_request *rq);
void service__metadump(struct conn *c, const struct proto_request *rq);
void service__path(struct conn *c, const struct proto_request *rq);
void service__refresh_certs(struct conn *c, const struct proto_request *rq);
void service__stats(struct conn *c, const struct proto_request *rq);

#endif
