/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to proto: what parse.c (the stream), text.c and meta.c (one line each), binary.c (one packet)
 * and auth.c (who has not said who it is) share.
 *
 * A line handler is given a whole line, already split. It fills in req and returns what
 * proto_parse() returns; it never sees a partial line and never looks beyond it.
 */
#ifndef VALCACHED_PROTO_PROTO_INT_H
#define VALCACHED_PROTO_PROTO_INT_H

#include <string.h>

#include "valcached/proto/proto.h"

/* memcached looks at the first 23 words of a line; more are as good as 23. */
#define PROTO__WORDS 23u

struct proto__word {
	const char *s;
	uint32_t len;
};

struct proto__line {
	unsigned n; /* words, at most PROTO__WORDS */
	struct proto__word w[PROTO__WORDS];
	const char *end; /* after the last byte before the line end */
};

/* States of struct proto; the drawing is in parse.c. */
enum proto__state {
	PROTO__LINE,    /* at the start of a line */
	PROTO__LIST,    /* inside the key list of a get */
	PROTO__SKIP,    /* dropping the rest of a line */
	PROTO__SWALLOW, /* dropping p->left bytes */
	PROTO__DRAIN,   /* dropping a block of p->left bytes, the terminator included */
	PROTO__DEAD,    /* hung up */
};

/* What a drained block answers (p->op). */
enum proto__drained { PROTO__DRAIN_BLOCK, PROTO__DRAIN_IMMUTABLE };

static inline bool proto__word_is(const struct proto__word *w, const char *s)
{
	size_t n = strlen(s);

	return w->len == n && memcmp(w->s, s, n) == 0;
}

/* Text line, w[0] is the command. List commands do not come here. */
enum proto_result proto__text(struct proto *p, const struct proto__line *l,
			      struct proto_request *req);
/* Meta line, w[0] is one of mn mg me ms md ma. */
enum proto_result proto__meta(struct proto *p, const struct proto__line *l,
			      struct proto_request *req);

/*
 * An expiry that is over when it comes: negative, or, above 30 days, a date long ago; libmemcached asks whether a
 * key exists by adding it with a date of 1970. Later dates and times are ignored, for which no clock is needed.
 */
#define PROTO__DAYS_30  2592000
#define PROTO__LONG_AGO 1500000000 /* 2017 */
static inline bool proto__is_over(int64_t expiry)
{
	return expiry < 0 || (expiry > PROTO__DAYS_30 && expiry < PROTO__LONG_AGO);
}

/* A packet that begins at b, wholly in the window or not; len > 0. */
enum proto_result proto__binary(struct proto *p, const char *b, size_t len, size_t *consumed,
				struct proto_request *req);

/* The parts of the request that do not differ between the keys of a list, nor between commands. */
static inline void proto__request_clear(struct proto_request *req)
{
	req->bin.on = false;
	req->key_len = 0;
	req->first = true;
	req->last = true;
	req->noreply = false;
	req->expire = false;
	req->value = false;
	req->add = false;
	req->has_cas = false;
	req->good = false;
	req->immutable = false;
	req->status = 0;
	req->reply_len = 0;
	req->body_len = 0;
}

/* auth.c: a line of a client that is not known yet, and a SASL packet. */
enum proto_result proto__locked_line(struct proto *p, const struct proto__line *l, const char *b,
				     const char *nl, size_t len, size_t *consumed,
				     struct proto_request *req);
enum proto_result proto__sasl(struct proto *p, bool step, const char *b, size_t len, uint32_t mech,
			      uint32_t body, size_t *consumed, struct proto_request *req);

/* Answers of the line handlers. noreply hides the text. */
enum proto_result proto__reply(struct proto_request *req, const char *text, uint32_t len,
			       bool noreply);
#define PROTO__REPLY(req, text, noreply)                                                           \
	proto__reply(req, text "\r\n", sizeof(text "\r\n") - 1, noreply)
/* Gives PROTO_HANGUP, now and from now on. */
enum proto_result proto__hangup(struct proto *p, struct proto_request *req);
/* The command would change a value: its block, if any, is drained, then the immutable error is
 * given. */
enum proto_result proto__immutable(struct proto *p, struct proto_request *req, bool has_block,
				   uint32_t body_len, bool noreply);

/*
 * Numbers as memcached reads them: white space, a sign, decimal digits, then the end or white
 * space. Return false if there are no digits or the value does not fit.
 */
bool proto__u64(const struct proto__word *w, uint64_t *out);
bool proto__u32(const struct proto__word *w, uint32_t *out);
bool proto__i64(const struct proto__word *w, int64_t *out);

/* Decodes standard base64 with padding. Returns the length, 0 for anything malformed or empty. */
size_t proto__base64_decode(char *out, size_t out_max, const char *in, size_t n);
/* Writes 4 characters per started 3 bytes; returns how many. */
size_t proto__base64_encode(char *out, const char *in, size_t n);

#endif
