/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers: each request's is put to the output when it is complete and its turn has come. What waits
 * for its turn is the queue (c->queue); what goes out in chunks stays at its head (c->stream).
 * Rules 1 and 4 of request.c. The connection's worker.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "valcached/net/request_int.h"

/* ---- answers ---------------------------------------------------------------------------------- */

static void put_line(struct conn *c, const struct proto_line *line)
{
	output__text(c, line->s, line->len);
}

static void put_end(struct conn *c, const struct req *r)
{
	if (r->bin.on)
		return;
	output__wrote(c, answer__tail(r, output__room(c, PROTO_TAIL_MAX)));
}

uint32_t answer__head(const struct req *r, char *to)
{
	const struct store_op *op = &r->op;
	const struct proto_item it = {op->flags, op->value_len, op->cas};

	if (r->bin.on)
		return (uint32_t)proto_bin_put_hit(to, &r->bin, op->key, op->key_len, &it);
	if (r->kind == PROTO_MG)
		return (uint32_t)proto_put_meta(to, &r->meta, r->value ? PROTO_VA : PROTO_HD,
						op->key, op->key_len, &it);
	return (uint32_t)proto_put_value(to, op->key, op->key_len, &it,
					 r->kind == PROTO_GETS || r->kind == PROTO_GATS);
}

static void put_meta(struct conn *c, const struct req *r)
{
	const struct store_op *op = &r->op;
	const struct proto_item it = {op->flags, op->value_len, op->cas};
	bool stored = r->kind == PROTO_MS && r->rc == PROTO_HD && !r->expire;
	char *to = output__room(c, PROTO_HEAD_MAX);

	output__wrote(c, (uint32_t)proto_put_meta(to, &r->meta, r->rc, op->key, op->key_len,
						  stored ? &it : NULL));
}

static void chunk_came(struct req *r);

enum put answer__put_value(struct conn *c, struct req *r)
{
	struct store_op *op = &r->op;
	char *to;
	uint32_t n;

	c->mean += (op->value_len >> 3) - (c->mean >> 3);
	if (op->value_len <= COPY_MAX) {
		to = output__room(c, PROTO_HEAD_MAX + COPY_MAX + PROTO_TAIL_MAX);
		n = answer__head(r, to);
		memcpy(to + n, op->value, op->value_len);
		n += op->value_len;
		n += answer__tail(r, to + n);
		output__wrote(c, n);
		return PUT_DONE;
	}
	to = output__room(c, PROTO_HEAD_MAX + PROTO_TAIL_MAX);
	output__wrote(c, answer__head(r, to));
	output__ref(c, op->value, op->value_n);
	if (op->value_n < op->value_len) {
		c->stream = r;
		r->then = chunk_came;
		return PUT_STREAM;
	}
	put_end(c, r);
	return PUT_HELD;
}

static enum put put_get(struct conn *c, struct req *r)
{
	bool hit = r->open && r->op.status == STORE_OK;

	if (r->kind == PROTO_MG) {
		if (hit && r->value)
			return answer__put_value(c, r);
		if (hit)
			output__wrote(c, answer__head(r, output__room(c, PROTO_HEAD_MAX)));
		else if (!r->meta.quiet || !proto_quiet(PROTO_MG, PROTO_EN))
			r->rc = PROTO_EN, put_meta(c, r);
		return PUT_DONE;
	}
	if (hit)
		return answer__put_value(c, r);
	if (r->last)
		put_line(c, &proto_lines[PROTO_END]);
	return PUT_DONE;
}

static enum put put_answer(struct conn *c, struct req *r)
{
	if (r->bin.on)
		return binary__put(c, r);
	if (r->line != NULL) {
		put_line(c, r->line);
		return PUT_DONE;
	}
	switch ((enum proto_op)r->kind) {
	case PROTO_GET:
	case PROTO_GETS:
	case PROTO_GAT:
	case PROTO_GATS:
	case PROTO_MG:
		return put_get(c, r);
	case PROTO_ME:
		if (r->op.status == STORE_OK) {
			const struct proto_item it = {r->op.flags, r->op.value_len, r->op.cas};
			char *to = output__room(c, PROTO_HEAD_MAX);

			output__wrote(
			    c, (uint32_t)proto_put_me(to, &r->meta, r->op.key, r->op.key_len, &it));
		} else {
			put_line(c, &proto_lines[PROTO_EN_LINE]);
		}
		return PUT_DONE;
	case PROTO_MS:
	case PROTO_MD:
		if (!r->meta.quiet || !proto_quiet((enum proto_op)r->kind, r->rc))
			put_meta(c, r);
		return PUT_DONE;
	case PROTO_STATS:
	case PROTO_PATH:
	case PROTO_REFRESH_CERTS:
		if (r->text.n == 0)
			return PUT_DONE;
		output__ref(c, r->text.at, r->text.n);
		return PUT_HELD;
	case PROTO_METADUMP:
		if (r->op.value_n == 0) {
			put_line(c, &proto_lines[PROTO_END]);
			return PUT_DONE;
		}
		output__ref(c, r->op.value, r->op.value_n);
		c->stream = r;
		r->then = chunk_came;
		return PUT_STREAM;
	default: /* nothing to say: noreply */
		return PUT_DONE;
	}
}

uint32_t answer__weight(const struct req *r)
{
	return r->open && r->line == NULL ? r->op.value_n : 0;
}

void answer__enqueue(struct conn *c, struct req *r)
{
	r->next = NULL;
	*c->queue_end = r;
	c->queue_end = &r->next;
	c->queue_n++;
}

static void dequeue(struct conn *c)
{
	struct req *r = c->queue;

	c->queue = r->next;
	if (c->queue == NULL)
		c->queue_end = &c->queue;
	c->queue_n--;
}

/* r is complete and not in the queue. */
void answer__give(struct conn *c, struct req *r)
{
	r->ready = true;
	if (c->queue != NULL) {
		c->held_bytes += answer__weight(r);
		answer__enqueue(c, r);
		return;
	}
	switch (put_answer(c, r)) {
	case PUT_DONE:
		request__end(c, r);
		break;
	case PUT_HELD:
		output__hold(c, r);
		break;
	case PUT_STREAM:
		answer__enqueue(c, r);
		break;
	}
}

void answer__line(struct conn *c, struct req *r, enum proto_line_id id)
{
	if (r->noreply)
		r->kind = PROTO_OPS; /* no answer of any kind */
	else if (r->bin.on)
		r->status = (uint8_t)proto_bin_status(id);
	else
		r->line = &proto_lines[id];
	answer__give(c, r);
}

/* An answer that needs nothing of the store. s is static memory. */
void answer__text(struct conn *c, const char *s, uint32_t n)
{
	struct req *r;

	if (n == 0)
		return;
	if (c->queue == NULL) {
		output__text(c, s, n);
		return;
	}
	r = worker__req(c->w);
	r->conn = c;
	r->kind = PROTO_OPS;
	r->bin.on = false;
	r->open = r->busy = false;
	r->constant = (struct proto_line){s, n};
	r->line = &r->constant;
	answer__give(c, r);
}

void answer__constant(struct conn *c, const struct proto_request *rq, enum proto_line_id id)
{
	if (rq->bin.on)
		binary__answer(c, &rq->bin, proto_bin_status(id), NULL, 0);
	else if (!rq->noreply)
		answer__text(c, proto_lines[id].s, proto_lines[id].len);
}

/* ---- chunks of long values and of dumps ------------------------------------------------------- */

static void stream_end(struct conn *c, bool held)
{
	struct req *r = c->stream;

	A(r == c->queue);
	c->stream = NULL;
	dequeue(c);
	if (held)
		output__hold(c, r);
	else
		request__end(c, r);
}

static void chunk_came(struct req *r)
{
	struct conn *c = r->conn;
	struct store_op *op = &r->op;

	A(c->stream == r);
	if (r->kind == PROTO_METADUMP) {
		if (op->value_n > 0) {
			output__ref(c, op->value, op->value_n);
			return;
		}
		put_line(c, &proto_lines[PROTO_END]);
		stream_end(c, false);
		return;
	}
	if (op->status != STORE_OK) {
		conn__die(
		    c); /* the length was promised: only the end of the stream tells the truth */
		return;
	}
	output__ref(c, op->value, op->value_n);
	if (op->value_off + op->value_n < op->value_len)
		return;
	put_end(c, r);
	stream_end(c, true);
}

static void stream_on(struct conn *c)
{
	struct req *r = c->stream;

	if (r == NULL || r->busy || c->out != NULL)
		return;
	if (r->kind == PROTO_METADUMP)
		request__step(r, store_dump(&r->op, &r->cursor));
	else
		request__step(r, store_get_next(&r->op));
}

void answer__emit(struct conn *c)
{
	stream_on(c);
	while (c->stream == NULL && c->queue != NULL && c->queue->ready) {
		struct req *r = c->queue;
		enum put put;

		A(c->held_bytes >= answer__weight(r));
		c->held_bytes -= answer__weight(r);
		put = put_answer(c, r);
		if (put == PUT_STREAM)
			break;
		dequeue(c);
		if (put == PUT_HELD)
			output__hold(c, r);
		else
			request__end(c, r);
	}
}
