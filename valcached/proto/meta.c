/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The meta commands: mn mg me ms md ma. The order of the checks, and so which of two mistakes is
 * named, is memcached's: number of words, key length, number of flags, length of the block, flags
 * from left to right (the last bad token is named, but a repeated or unknown flag ends the look),
 * then modes and the opaque. Errors are answered also under q. Pure functions, any thread.
 */
#include <string.h>

#include "valcached/proto/proto_int.h"
#include "base/assert.h"

#define BODY_MAX (INT32_MAX - 2)

enum meta_op { MG, MS, MD, MA };

/* What the flags said, besides what is kept in req. */
struct flags {
	char mode;
	bool base64;
	bool has_cas;
	bool opaque_long;
	bool remove_value; /* x */
	uint64_t cas;
};

/* Flags that give something back in an answer of this command, a bit per letter from 'A'. */
#define F(c) (1ull << ((c) - 'A'))
static const uint64_t echoed[] = {
    [MG] = F('s') | F('t') | F('c') | F('f') | F('l') | F('h') | F('O') | F('k'),
    [MS] = F('s') | F('c') | F('O') | F('k'),
    [MD] = F('O') | F('k'),
    [MA] = 0,
};

/*
 * Looks at words [from, n) as flags. NULL, or the error to answer. Fills in req->meta, req's fields
 * of the flags, and f.
 */
static const char *read_flags(const struct proto__line *l, unsigned from, enum meta_op op,
			      struct proto_request *req, struct flags *f)
{
	struct proto_meta *m = &req->meta;
	const char *err = NULL;
	uint64_t seen[2] = {0, 0};

	for (unsigned i = from; i < l->n; i++) {
		const struct proto__word *w = &l->w[i];
		const struct proto__word tok = {w->s + 1, w->len - 1};
		unsigned char c = (unsigned char)w->s[0];
		uint64_t number;
		int64_t time;

		if (c >= 127 || (seen[c >> 6] >> (c & 63) & 1) != 0)
			return "CLIENT_ERROR duplicate flag\r\n";
		seen[c >> 6] |= 1ull << (c & 63);
		switch (c) {
		case 'b':
			f->base64 = true;
			m->base64 = true;
			req->key_len = (uint8_t)proto__base64_decode(
			    req->keybuf, sizeof(req->keybuf), req->key, req->key_len);
			req->key = req->keybuf;
			if (req->key_len == 0)
				err = "CLIENT_ERROR error decoding key\r\n";
			break;
		case 'N':
		case 'R':
		case 'T':
			if (!proto__i64(&tok, &time))
				err = "CLIENT_ERROR bad token in command line format\r\n";
			else if (c == 'T')
				req->expire = proto__is_over(time);
			break;
		case 'C':
		case 'E':
			if (!proto__u64(&tok, &number)) {
				err = "CLIENT_ERROR bad token in command line format\r\n";
			} else if (c == 'C') {
				f->has_cas = true;
				f->cas = number;
			}
			break;
		case 'F':
			/* memcached names the mistake made last, or the format if this is the only
			 * one. */
			if (!proto__u32(&tok, &req->flags) && err == NULL)
				err = "CLIENT_ERROR bad command line format\r\n";
			break;
		case 'M':
			if (w->len != 2)
				err = "CLIENT_ERROR incorrect length for M token\r\n";
			else
				f->mode = tok.s[0];
			break;
		case 'J':
			if (!proto__u64(&tok, &number))
				err = "CLIENT_ERROR invalid numeric initial value\r\n";
			break;
		case 'D':
			if (!proto__u64(&tok, &number))
				err = "CLIENT_ERROR invalid numeric delta value\r\n";
			break;
		case 'O':
			f->opaque_long = tok.len > PROTO_OPAQUE_MAX;
			if (!f->opaque_long) {
				m->opaque_len = (uint8_t)tok.len;
				memcpy(m->opaque, tok.s, tok.len);
			}
			break;
		case 'v':
			req->value = true;
			break;
		case 'q':
			m->quiet = true;
			break;
		case 'x':
			f->remove_value = true;
			break;
		case 'I':
		case 'P':
		case 'L':
		case 'c':
		case 'f':
		case 'h':
		case 'k':
		case 'l':
		case 's':
		case 't':
		case 'u':
			break;
		default:
			return "CLIENT_ERROR invalid flag\r\n";
		}
		/* Only letters come here. */
		if ((echoed[op] & F(c)) != 0) {
			A(m->nflags < PROTO_FLAGS_MAX);
			m->flags[m->nflags++] = (char)c;
		}
	}
	return err;
}

static void meta_clear(struct proto_meta *m)
{
	m->nflags = 0;
	m->opaque_len = 0;
	m->quiet = false;
	m->base64 = false;
}

static enum proto_result bad_format(struct proto_request *req)
{
	return PROTO__REPLY(req, "CLIENT_ERROR bad command line format", false);
}

static enum proto_result reply(struct proto_request *req, const char *text)
{
	return proto__reply(req, text, (uint32_t)strlen(text), false);
}

static enum proto_result opaque_long(struct proto_request *req)
{
	return PROTO__REPLY(req, "CLIENT_ERROR opaque token too long", false);
}

/* mg <key> <flags>* */
static enum proto_result mget(const struct proto__line *l, struct proto_request *req)
{
	struct flags f = {0};
	const char *err;

	if (l->n > 2 + PROTO_FLAGS_MAX)
		return PROTO__REPLY(req, "CLIENT_ERROR options flags are too long", false);
	err = read_flags(l, 2, MG, req, &f);
	if (err != NULL)
		return reply(req, err);
	if (f.opaque_long)
		return opaque_long(req);
	req->op = PROTO_MG;
	return PROTO_REQUEST;
}

/* ms <key> <datalen> <flags>* */
static enum proto_result mset(struct proto *p, const struct proto__line *l,
			      struct proto_request *req)
{
	struct flags f = {0};
	const char *err;
	int64_t bytes;

	if (l->n == 2)
		return bad_format(req);
	if (l->n > 2 + PROTO_FLAGS_MAX)
		return PROTO__REPLY(req, "CLIENT_ERROR options flags too long", false);
	if (!proto__i64(&l->w[2], &bytes) || bytes < 0 || bytes > BODY_MAX)
		return bad_format(req);
	req->flags = 0;
	err = read_flags(l, 3, MS, req, &f);
	/* From here the length of the block is known: whatever is refused, the block is dropped. */
	if (err == NULL && f.mode != '\0' && strchr("EAPRS", f.mode) == NULL)
		err = "CLIENT_ERROR invalid mode for ms M token\r\n";
	if (err == NULL && f.opaque_long)
		err = "CLIENT_ERROR opaque token too long\r\n";
	if (err != NULL) {
		proto_swallow(p, (uint64_t)bytes + 2);
		return reply(req, err);
	}
	req->add = f.mode == 'E';
	/* C makes any mode but add a compare-and-swap. */
	if (f.mode == 'A' || f.mode == 'P' || f.mode == 'R' || (f.has_cas && !req->add))
		return proto__immutable(p, req, true, (uint32_t)bytes, false);
	req->op = PROTO_MS;
	req->body_len = (uint32_t)bytes;
	return PROTO_REQUEST;
}

/* md <key> <flags>* */
static enum proto_result mdelete(struct proto *p, const struct proto__line *l,
				 struct proto_request *req)
{
	struct flags f = {0};

	if (l->n > 2 + PROTO_FLAGS_MAX)
		return PROTO__REPLY(req, "CLIENT_ERROR options flags too long", false);
	if (read_flags(l, 2, MD, req, &f) != NULL)
		return PROTO__REPLY(req, "CLIENT_ERROR invalid or duplicate flag", false);
	if (f.opaque_long)
		return opaque_long(req);
	if (f.remove_value)
		return proto__immutable(p, req, false, 0, false);
	req->op = PROTO_MD;
	req->expire = false;
	req->has_cas = f.has_cas;
	req->cas = f.cas;
	return PROTO_REQUEST;
}

/* ma <key> <flags>* */
static enum proto_result marithmetic(struct proto *p, const struct proto__line *l,
				     struct proto_request *req)
{
	struct flags f = {0};

	if (l->n > 2 + PROTO_FLAGS_MAX)
		return PROTO__REPLY(req, "CLIENT_ERROR options flags too long", false);
	if (read_flags(l, 2, MA, req, &f) != NULL)
		return PROTO__REPLY(req, "CLIENT_ERROR invalid or duplicate flag", false);
	if (f.mode != '\0' && strchr("I+D-", f.mode) == NULL)
		return PROTO__REPLY(req, "CLIENT_ERROR invalid mode for ma M token", false);
	return proto__immutable(p, req, false, 0, false);
}

/* me <key> [b]; further words are ignored */
static enum proto_result mdebug(const struct proto__line *l, struct proto_request *req)
{
	if (l->n > 2 && proto__word_is(&l->w[2], "b")) {
		req->key_len = (uint8_t)proto__base64_decode(req->keybuf, sizeof(req->keybuf),
							     req->key, req->key_len);
		req->key = req->keybuf;
		req->meta.base64 = true;
		if (req->key_len == 0)
			return bad_format(req);
	}
	req->op = PROTO_ME;
	return PROTO_REQUEST;
}

enum proto_result proto__meta(struct proto *p, const struct proto__line *l,
			      struct proto_request *req)
{
	char c = l->w[0].s[1];

	if (c == 'n') {
		req->op = PROTO_MN;
		return PROTO_REQUEST;
	}
	if (l->n < 2)
		return c == 'e' ? bad_format(req) : PROTO__REPLY(req, "ERROR", false);
	if (l->w[1].len > PROTO_KEY_MAX)
		return bad_format(req);
	req->key = l->w[1].s;
	req->key_len = (uint8_t)l->w[1].len;
	meta_clear(&req->meta);
	switch (c) {
	case 'g':
		return mget(l, req);
	case 'e':
		return mdebug(l, req);
	case 's':
		return mset(p, l, req);
	case 'd':
		return mdelete(p, l, req);
	default:
		return marithmetic(p, l, req);
	}
}
