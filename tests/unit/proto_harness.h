/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives the parser as a connection would and writes down what came of it, one item after another,
 * so that the same bytes cut in different ways can be compared. Used by the unit tests and the
 * fuzzer. Each window is a fresh allocation of exactly its size: a byte read beyond it is found by
 * the address sanitizer.
 *
 * The transcript, for example: "get a;get b;END;set k f0 5:hello;R:ERROR;"
 *   !  after the command: req.expire      /  noreply      ~  quiet
 *   a set is followed by its length and body, or "bad chunk" (rule 4a of proto.h), or "too large"
 * (4b)
 * Of a binary request the opcode and the opaque stand before it: "#00@01020304 get a;"; an answer without a
 * request is its status' code: "#0e@00000000 R:0083;".
 * A login says whether user and password are "user" and "pass".
 */
#ifndef TESTS_UNIT_PROTO_HARNESS_H
#define TESTS_UNIT_PROTO_HARNESS_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "valcached/proto/binary.h"
#include "base/assert.h"

#define HARNESS_ITEM_MAX 1000u /* above it the harness answers TOO_LARGE */

struct harness {
	struct proto p;
	/* the stream that was received and not consumed */
	char *window;
	size_t len;
	/* a set whose body is under way */
	enum { H_PARSE, H_BODY, H_DRAIN } step;
	char body[HARNESS_ITEM_MAX + 2];
	size_t body_got, body_want, body_end; /* body_end: bytes of "\r\n" in body_want */
	/* transcript */
	char *out;
	size_t out_len, out_cap;
	size_t leftover_max; /* largest window left over by PROTO_MORE */
	bool dead;
};

static inline void h_put(struct harness *h, const char *s, size_t n)
{
	if (h->out_len + n + 1 > h->out_cap) {
		h->out_cap = (h->out_len + n + 1) * 2;
		h->out = realloc(h->out, h->out_cap);
		AN(h->out != NULL);
	}
	memcpy(h->out + h->out_len, s, n);
	h->out_len += n;
	h->out[h->out_len] = '\0';
}

__attribute__((format(printf, 2, 3))) static inline void h_printf(struct harness *h,
								  const char *fmt, ...)
{
	char buf[256];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	A(n >= 0 && (size_t)n < sizeof(buf));
	h_put(h, buf, (size_t)n);
}

/* Text, with what is not printable ASCII as hex. */
static inline void h_text(struct harness *h, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c < 0x20 || c >= 0x7f)
			h_printf(h, "\\x%02x", c);
		else
			h_put(h, s + i, 1);
	}
}

/* Any answer to a request fits in PROTO_HEAD_MAX bytes and is one line. */
static inline void h_answers(const struct proto_request *r)
{
	const struct proto_item it = {UINT32_MAX, UINT32_MAX, UINT64_MAX};
	char *out = malloc(PROTO_HEAD_MAX);
	size_t n[4];

	AN(out != NULL);
	n[0] = proto_put_meta(out, &r->meta, PROTO_VA, r->key, r->key_len, &it);
	n[1] = proto_put_meta(out, &r->meta, PROTO_HD, r->key, r->key_len, &it);
	n[2] = proto_put_me(out, &r->meta, r->key, r->key_len, &it);
	n[3] = proto_put_value(out, r->key, r->key_len, &it, true);
	for (unsigned i = 0; i < 4; i++)
		A(n[i] >= 4 && n[i] <= PROTO_HEAD_MAX);
	A(memcmp(out + n[3] - 2, "\r\n", 2) == 0);
	free(out);
}

/* Opcode and opaque; and any answer fits in PROTO_HEAD_MAX bytes and is a whole head with what it counts. */
static inline void h_binary(struct harness *h, const struct proto_request *r)
{
	const struct proto_item it = {UINT32_MAX, 5, UINT64_MAX};
	char *out = malloc(PROTO_HEAD_MAX);
	uint8_t op[4];
	size_t n[3];

	AN(out != NULL);
	memcpy(op, &r->bin.opaque, 4);
	h_printf(h, "#%02x@%02x%02x%02x%02x ", r->bin.opcode, op[0], op[1], op[2], op[3]);
	for (unsigned i = 0; i < 3; i++) {
		const uint8_t *u = (const uint8_t *)out;
		uint32_t body;

		memset(out, 0xee, PROTO_HEAD_MAX);
		n[i] = i == 0 ? proto_bin_put(out, &r->bin, (enum proto_status)r->status, 1, "v", 1)
		       : i == 1 ? proto_bin_put_hit(out, &r->bin, r->key, r->key_len, &it)
				: proto_bin_put_miss(out, &r->bin, r->key, r->key_len);
		body = (uint32_t)u[8] << 24 | (uint32_t)u[9] << 16 | (uint32_t)u[10] << 8 | u[11];
		A(u[0] == 0x81 && u[1] == r->bin.opcode && memcmp(u + 12, op, 4) == 0);
		A(u[2] == 0 && u[3] <= PROTO_KEY_MAX && u[3] + u[4] <= body);
		A(n[i] <= PROTO_HEAD_MAX);
		A(n[i] + (i == 1 && r->bin.opcode != 0x1c ? it.len : 0) == PROTO_BIN_HEAD + body);
	}
	free(out);
}

static inline void h_request(struct harness *h, const struct proto_request *r)
{
	bool list = r->op <= PROTO_GATS;
	bool meta =
	    r->op == PROTO_MG || r->op == PROTO_MS || r->op == PROTO_MD || r->op == PROTO_ME;

	A(r->op < PROTO_OPS);
	A(r->key_len <= PROTO_KEY_MAX);
	if (list && r->key_len == 0) {
		A(r->last);
		h_printf(h, "END;");
		return;
	}
	A(list || (r->first && r->last));
	if (r->bin.on)
		h_binary(h, r);
	h_printf(h, "%s%s%s%s", proto_op_name(r->op), r->expire ? "!" : "", r->noreply ? "/" : "",
		 meta && r->meta.quiet ? "~" : "");
	if (list || meta || r->op == PROTO_TOUCH || r->op == PROTO_SET || r->op == PROTO_ADD ||
	    r->op == PROTO_DELETE) {
		A(r->key_len > 0);
		h_printf(h, " ");
		h_text(h, r->key, r->key_len);
	}
	if (meta) {
		h_answers(r);
		A(r->meta.nflags <= PROTO_FLAGS_MAX && r->meta.opaque_len <= PROTO_OPAQUE_MAX);
		h_printf(h, " [%.*s]", r->meta.nflags, r->meta.flags);
		if (memchr(r->meta.flags, 'O', r->meta.nflags) != NULL) {
			h_printf(h, " O");
			h_text(h, r->meta.opaque, r->meta.opaque_len);
		}
		if (r->meta.base64)
			h_printf(h, " b64");
		if (r->op == PROTO_MG && r->value)
			h_printf(h, " v");
		if (r->op == PROTO_MS && r->add)
			h_printf(h, " add");
		if (r->op == PROTO_MD && r->has_cas)
			h_printf(h, " C%llu", (unsigned long long)r->cas);
	}
	if (r->op == PROTO_VERBOSITY || r->op == PROTO_MEMLIMIT || r->op == PROTO_PATH)
		h_printf(h, " %u", r->number);
	if ((r->op == PROTO_DELETE || r->op == PROTO_SET || r->op == PROTO_ADD) && r->has_cas)
		h_printf(h, " C%llu", (unsigned long long)r->cas);
	if (r->op == PROTO_LOGIN) {
		bool known = r->key_len == 4 && memcmp(r->key, "user", 4) == 0 &&
			     r->args_len == 4 && memcmp(r->args, "pass", 4) == 0;

		h_printf(h, " ");
		h_text(h, r->key, r->key_len);
		h_printf(h, " (");
		h_text(h, r->args, r->args_len);
		h_printf(h, known ? ") known" : ") nobody");
		proto_set_locked(&h->p, !known);
	}
	if (r->op == PROTO_FLUSH_ALL)
		h_printf(h, " %lld", (long long)r->delay_s);
	if (r->op == PROTO_STATS) {
		h_printf(h, " (");
		h_text(h, r->args, r->args_len);
		h_printf(h, ")");
	}
	if (r->op == PROTO_SET || r->op == PROTO_ADD || r->op == PROTO_MS) {
		h_printf(h, " f%u %u:", r->flags, r->body_len);
		if (r->expire && r->bin.on && r->body_len == 0) {
			h_printf(h, "drained;");
			return;
		}
		if (r->expire) {
			proto_drain(&h->p, r->body_len);
			h->step = H_DRAIN;
			return;
		}
		if (r->body_len > HARNESS_ITEM_MAX) {
			proto_swallow(&h->p, (uint64_t)r->body_len + (r->bin.on ? 0 : 2));
			h_printf(h, "too large;");
			return;
		}
		h->step = H_BODY;
		h->body_got = 0;
		h->body_end = r->bin.on ? 0 : 2;
		h->body_want = (size_t)r->body_len + h->body_end;
		return;
	}
	h_printf(h, ";");
	if (list && r->last && !r->bin.on)
		h_printf(h, "END;");
}

static inline void h_status(struct harness *h, const struct proto_request *r)
{
	static const unsigned codes[PROTO_STS] = {
#define X(n, c, t) [PROTO_ST_##n] = (c),
	    PROTO_STATUSES(X)
#undef X
	};
	uint8_t op[4];

	A(r->bin.on && r->status < PROTO_STS && r->status != PROTO_ST_OK);
	memcpy(op, &r->bin.opaque, 4);
	h_printf(h, "#%02x@%02x%02x%02x%02x R:%04x;", r->bin.opcode, op[0], op[1], op[2], op[3],
		 codes[r->status]);
}

static inline void h_drop(struct harness *h, size_t n)
{
	char *rest = malloc(h->len - n);

	A(n <= h->len && (rest != NULL || n == h->len));
	if (h->len > n)
		memcpy(rest, h->window + n, h->len - n);
	memset(h->window, 0xee, h->len);
	free(h->window);
	h->window = rest;
	h->len -= n;
}

/* Adds bytes to the window and goes as far as they allow. */
static inline void h_feed(struct harness *h, const char *s, size_t n)
{
	char *w = malloc(h->len + n);

	A(w != NULL || h->len + n == 0);
	if (h->len > 0)
		memcpy(w, h->window, h->len);
	if (n > 0)
		memcpy(w + h->len, s, n);
	free(h->window);
	h->window = w;
	h->len += n;
	while (!h->dead) {
		struct proto_request req;
		enum proto_result r;
		size_t used;

		if (h->step == H_BODY) {
			used = h->body_want - h->body_got;
			if (used > h->len)
				used = h->len;
			memcpy(h->body + h->body_got, h->window, used);
			h->body_got += used;
			h_drop(h, used);
			if (h->body_got < h->body_want)
				return;
			h->step = H_PARSE;
			if (memcmp(h->body + h->body_want - h->body_end, "\r\n", h->body_end) !=
			    0) {
				h_printf(h, "bad chunk;");
			} else {
				h_text(h, h->body, h->body_want - h->body_end);
				h_printf(h, ";");
			}
			continue;
		}
		memset(&req, 0xaa, sizeof(req));
		r = proto_parse(&h->p, h->window, h->len, &used, &req);
		A(used <= h->len);
		switch (r) {
		case PROTO_MORE:
			h_drop(h, used);
			if (h->len > h->leftover_max)
				h->leftover_max = h->len;
			return;
		case PROTO_REQUEST:
			A(used > 0 && h->step == H_PARSE);
			h_request(h, &req);
			break;
		case PROTO_BLOCK:
			A(h->step == H_DRAIN);
			h->step = H_PARSE;
			h_printf(h, req.good ? "drained;" : "bad chunk;");
			break;
		case PROTO_REPLY:
			A(used > 0);
			if (req.bin.on) {
				h_status(h, &req);
				break;
			}
			A(req.reply_len == 0 ||
			  (req.reply_len > 2 &&
			   memcmp(req.reply + req.reply_len - 2, "\r\n", 2) == 0));
			h_printf(h, "R:");
			h_text(h, req.reply, req.reply_len == 0 ? 0 : req.reply_len - 2);
			h_printf(h, ";");
			break;
		case PROTO_HANGUP:
			if (req.bin.on && req.status != PROTO_ST_OK)
				h_status(h, &req);
			h_printf(h, "HANGUP;");
			h->dead = true;
			break;
		}
		h_drop(h, used);
	}
}

static inline void h_open(struct harness *h)
{
	memset(h, 0, sizeof(*h));
	h_put(h, "", 0);
}

static inline void h_close(struct harness *h)
{
	free(h->window);
	free(h->out);
}

#endif
