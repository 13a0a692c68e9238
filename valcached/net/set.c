/* SPDX-License-Identifier: Apache-2.0 */
/*
 * set, add, ms: the line, the body into the place that the store gives, its end, and the answer. How c->in
 * moves meanwhile is drawn in conn.c. A set that has expired already deletes its key instead.
 * The connection's worker.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "valcached/net/request_int.h"

/* ---- set, add, ms ----------------------------------------------------------------------------- */

/*
 * With a cas: what is there must have it, and then only its own bytes are taken, which are written nowhere.
 */
static void answer_compared(struct conn *c, struct req *r, enum store_status status)
{
	bool right = r->op.cas == r->cas;

	switch (status) {
	case STORE_OK:
		r->status = right ? PROTO_ST_OK : PROTO_ST_KEY_EXISTS;
		break;
	case STORE_CONFLICT:
		r->status = right ? PROTO_ST_IMMUTABLE : PROTO_ST_KEY_EXISTS;
		if (right)
			count_add(&c->w->count.cmd_refused, 1);
		break;
	case STORE_MISS:
		r->status = PROTO_ST_KEY_MISSING;
		break;
	case STORE_TOO_LARGE:
		r->status = PROTO_ST_TOO_BIG;
		break;
	default:
		r->status = PROTO_ST_NO_PATH;
		break;
	}
	answer__give(c, r);
}

static void answer_set(struct conn *c, struct req *r, enum store_status status)
{
	bool meta = r->kind == PROTO_MS;

	if (r->open)
		request__close(r);
	if (r->has_cas) {
		answer_compared(c, r, status);
		return;
	}
	switch (status) {
	case STORE_OK:
		r->rc = PROTO_HD;
		break;
	case STORE_TOO_LARGE:
		answer__line(c, r, PROTO_TOO_LARGE);
		return;
	case STORE_EXISTS:
	case STORE_CONFLICT:
		r->rc = PROTO_NS;
		break;
	default:
		answer__line(c, r, PROTO_UNAVAILABLE);
		return;
	}
	if (meta)
		answer__give(c, r);
	else
		answer__line(c, r, r->rc == PROTO_HD ? PROTO_STORED : PROTO_NOT_STORED);
}

static void stored(struct req *r)
{
	request__let_go(r->conn);
	answer_set(r->conn, r, r->op.status);
}

static enum store_mode mode_of(const struct req *r)
{
	if (r->has_cas)
		return STORE_COMPARE;
	return r->kind == PROTO_ADD || r->add ? STORE_ADD : STORE_SET;
}

static void commit(struct req *r)
{
	r->then = stored;
	if (r->body_len == 0)
		request__step(r, store_set(&r->op, mode_of(r), r->flags, 0));
	else
		request__step(r, store_set_body(&r->op));
}

/* All of the body is here. In the binary protocol nothing follows it. */
static void body_ends(struct conn *c, struct req *r)
{
	if (r->bin.on)
		request__hold(c, r, commit);
	else
		c->in = IN_END;
}

/* The store has a place for the next part of the body, or refused. */
static void body_wanted(struct req *r)
{
	struct conn *c = r->conn;

	if (r->op.body_n == 0) {
		request__let_go(c);
		proto_swallow(&c->proto, (uint64_t)c->body_left + (r->bin.on ? 0 : 2));
		answer_set(c, r, r->op.status);
		return;
	}
	A(r->op.body_n <= c->body_left);
	c->in = IN_BODY;
	c->filled = 0;
}

/*
 * A set that expires at once: the key is removed. An add leaves what is there, and nothing if there is nothing.
 */
static void expired(struct req *r)
{
	bool add = mode_of(r) == STORE_ADD;
	enum store_status st = r->op.status;

	request__let_go(r->conn);
	r->op.cas = 0;
	if (add)
		st = st == STORE_OK ? STORE_EXISTS : STORE_OK;
	answer_set(r->conn, r, st == STORE_MISS ? STORE_OK : st);
}

static void begin_expire(struct req *r)
{
	r->then = expired;
	request__step(r, mode_of(r) == STORE_ADD ? store_get(&r->op, true) : store_delete(&r->op));
}

void set__begin(struct conn *c, const struct proto_request *rq)
{
	struct req *r = request__take(c, rq);
	/* what is too large is refused, whatever else it asks */
	bool expires = rq->expire && rq->body_len <= c->w->net->cfg.item_max;

	count_add(&c->w->count.cmd_set, 1);
	request__open(r, rq->key, rq->key_len);
	c->cur = r;
	c->body_left = rq->body_len;
	c->end_seen = 0;
	c->end_bad = false;
	if (expires && rq->bin.on && rq->body_len == 0) {
		request__hold(c, r, begin_expire);
		return;
	}
	if (expires) {
		proto_drain(&c->proto, rq->body_len); /* answered with PROTO_BLOCK */
		return;
	}
	if (rq->body_len == 0) {
		body_ends(c, r);
		return;
	}
	c->in = IN_HOLD;
	r->then = body_wanted;
	request__step(r, store_set(&r->op, mode_of(r), rq->flags, rq->body_len));
}

static void body_came(struct conn *c, uint32_t n)
{
	struct req *r = c->cur;

	A(c->in == IN_BODY && n <= c->body_left);
	c->filled += n;
	c->body_left -= n;
	A(c->filled <= r->op.body_n);
	if (c->filled < r->op.body_n)
		return;
	if (c->body_left == 0) {
		body_ends(c, r);
		return;
	}
	c->in = IN_HOLD;
	r->then = body_wanted;
	request__step(r, store_set_body(&r->op));
}

size_t set__input_body(struct conn *c, const char *p, size_t n)
{
	struct store_op *op = &c->cur->op;
	uint32_t take_n = op->body_n - c->filled;

	if (take_n > n)
		take_n = (uint32_t)n;
	memcpy(op->body + c->filled, p, take_n);
	body_came(c, take_n);
	return take_n;
}

size_t set__input_end(struct conn *c, const char *p, size_t n)
{
	struct req *r = c->cur;
	size_t did = 0;

	while (c->end_seen < 2 && did < n)
		c->end_bad |= p[did++] != "\r\n"[c->end_seen++];
	if (c->end_seen < 2)
		return did;
	if (c->end_bad) {
		request__let_go(c);
		request__close(r);
		count_add(&c->w->count.protocol_errors, 1);
		answer__line(c, r, PROTO_BAD_CHUNK);
		return did;
	}
	request__hold(c, r, commit);
	return did;
}

uint32_t set__body_room(const struct conn *c)
{
	const struct req *r = c->cur;

	A(c->in == IN_BODY);
	return r->op.body_n - c->filled +
	       (r->body_len <= STORE_WHOLE_MAX && !r->bin.on ? STORE_BODY_SLACK : 0);
}

void set__body_came(struct conn *c, uint32_t n)
{
	struct store_op *op = &c->cur->op;
	const char *end = (const char *)op->body + op->body_n;
	uint32_t body = op->body_n - c->filled;

	_Static_assert(STORE_BODY_SLACK == 2, "the place of \"\\r\\n\"");
	if (body > n)
		body = n;
	body_came(c, body);
	if (n > body) {
		size_t did = set__input_end(c, end, n - body);

		A(did == n - body);
	}
}

void set__block_drained(struct conn *c, bool good)
{
	struct req *r = c->cur;

	AN(r);
	if (good) {
		request__hold(c, r, begin_expire);
		return;
	}
	request__let_go(c);
	request__close(r);
	count_add(&c->w->count.protocol_errors, 1);
	answer__line(c, r, PROTO_BAD_CHUNK);
}
