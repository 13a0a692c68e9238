/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers of the binary protocol. A value's memory is sent as it is, as in the text protocol (answer.c);
 * what differs is what stands before it, and that nothing stands behind it. The connection's worker.
 */
#include <string.h>

#include "base/assert.h"
#include "valcached/net/request_int.h"

static void put_status(struct conn *c, const struct proto_bin *bin, enum proto_status st,
		       uint64_t cas, const struct proto_line *body)
{
	char *to = output__room(c, PROTO_HEAD_MAX);

	output__wrote(c, (uint32_t)proto_bin_put(to, bin, st, cas, body->s, body->len));
}

static enum put put_read(struct conn *c, struct req *r)
{
	const struct store_op *op = &r->op;
	char *to;

	if (op->status == STORE_OK && r->kind != PROTO_TOUCH)
		return answer__put_value(c, r);
	if (op->status != STORE_OK && r->bin.quiet)
		return PUT_DONE;
	to = output__room(c, PROTO_HEAD_MAX);
	output__wrote(c, op->status == STORE_OK
			     ? answer__head(r, to)
			     : (uint32_t)proto_bin_put_miss(to, &r->bin, op->key, op->key_len));
	return PUT_DONE;
}

enum put binary__put(struct conn *c, struct req *r)
{
	static const struct proto_line nothing = {"", 0};
	enum proto_status st = (enum proto_status)r->status;
	bool stored = r->kind == PROTO_SET || r->kind == PROTO_ADD;

	if (r->kind == PROTO_GET || r->kind == PROTO_GAT || r->kind == PROTO_TOUCH)
		return put_read(c, r);
	if (r->kind == PROTO_STATS && r->text.n > 0) {
		output__ref(c, r->text.at, r->text.n);
		return PUT_HELD;
	}
	if (st != PROTO_ST_OK || !r->bin.quiet)
		put_status(c, &r->bin, st, stored && st == PROTO_ST_OK ? r->op.cas : 0,
			   r->kind == PROTO_OPS ? &r->constant : &nothing);
	return PUT_DONE;
}

void binary__answer(struct conn *c, const struct proto_bin *bin, enum proto_status st,
		    const char *body, uint32_t n)
{
	const struct proto_line constant = {body, n};
	struct req *r;

	if (st == PROTO_ST_OK && bin->quiet)
		return;
	if (c->queue == NULL) {
		put_status(c, bin, st, 0, &constant);
		return;
	}
	r = worker__req(c->w);
	r->conn = c;
	r->kind = PROTO_OPS;
	r->bin = *bin;
	r->status = (uint8_t)st;
	r->open = r->busy = false;
	r->line = NULL;
	r->constant = constant;
	answer__give(c, r);
}

void binary__stats(struct req *r)
{
	struct text lines = r->text;
	const char *at = lines.at, *end = at + lines.n;
	char head[PROTO_HEAD_MAX];

	r->text = (struct text){.failed = lines.failed};
	while (at < end) {
		const char *eol = memchr(at, '\r', (size_t)(end - at)), *name = at + 5, *value;

		if (eol == NULL || eol - at < 5 || memcmp(at, "STAT ", 5) != 0)
			break; /* END */
		value = memchr(name, ' ', (size_t)(eol - name));
		if (value == NULL || value - name > UINT8_MAX)
			break;
		value++;
		text_add(&r->text, head,
			 proto_bin_put_stat(head, &r->bin, name, (uint8_t)(value - 1 - name),
					    (uint32_t)(eol - value)));
		text_add(&r->text, value, (size_t)(eol - value));
		at = eol + 2;
	}
	text_add(&r->text, head, proto_bin_put(head, &r->bin, PROTO_ST_OK, 0, NULL, 0));
	text_free(&lines);
}
