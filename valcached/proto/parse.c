/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream: finds lines in the window, drops what must be dropped, walks key lists.
 *
 *                    line complete                    key list, keys left
 *        +--------+ ---------------> text.c, meta.c  +-----------------+
 *        |        |                                  |                 v
 *   ---> |  LINE  | <----------------- END ----------|-------------  LIST
 *        |        | <--- \n ---- SKIP <--------------|-- bad key ------+
 *        +--------+ <--- 0 left - SWALLOW            (after the error line)
 *          |    ^ ^----- 0 left - DRAIN  (gives BLOCK or the immutable error)
 *          |
 *          +--> DEAD: a greeting of another protocol, or a line without end
 *
 *   LINE     binary connection: a packet's head, extras and key          -> LINE, SWALLOW, DEAD
 *            whole line: split and handled, or the head of a list        -> any
 *            2048 bytes without an end: a list is begun unchecked, else hung up
 *   LIST     one word a call
 *   SKIP     to the next \n                                              -> LINE
 *   SWALLOW  p->left bytes                                               -> LINE
 *   DRAIN    p->left bytes, of which the last two are compared with \r\n -> LINE
 *
 * Invariants
 *  1. What is decided on a line of up to PROTO_LINE_MAX bytes does not depend on how it was cut.
 *  2. Every call consumes something, or returns MORE or HANGUP.
 *  3. MORE leaves at most PROTO_LINE_MAX bytes unconsumed.
 *
 * Pure functions; any thread, one struct proto at a time.
 */
#include <string.h>

#include "valcached/proto/proto_int.h"
#include "base/assert.h"

/* The longest run without a delimiter that can still become a key: 250 and a \r. */
#define WORD_MAX (PROTO_KEY_MAX + 1)

void proto_swallow(struct proto *p, uint64_t n)
{
	A(p->state == PROTO__LINE);
	if (n == 0)
		return;
	p->state = PROTO__SWALLOW;
	p->left = n;
}

void proto_lock(struct proto *p, bool text, bool sasl)
{
	p->locked = true;
	p->text_login = text;
	p->sasl = sasl;
}

void proto_set_locked(struct proto *p, bool locked)
{
	p->locked = locked;
}

static void drain(struct proto *p, uint32_t body_len, enum proto__drained what, bool noreply)
{
	A(p->state == PROTO__LINE);
	p->state = PROTO__DRAIN;
	p->left = (uint64_t)body_len + (p->binary ? 0 : 2);
	p->op = (uint8_t)what;
	p->noreply = noreply;
	p->tail = p->binary ? 2 : 0;
}

void proto_drain(struct proto *p, uint32_t body_len)
{
	drain(p, body_len, PROTO__DRAIN_BLOCK, false);
}

bool proto_idle(const struct proto *p)
{
	return p->state == PROTO__LINE || p->state == PROTO__DEAD;
}

bool proto_in_block(const struct proto *p)
{
	return p->state == PROTO__SWALLOW || p->state == PROTO__DRAIN;
}

enum proto_result proto__reply(struct proto_request *req, const char *text, uint32_t len,
			       bool noreply)
{
	req->bin.on = false;
	req->reply = text;
	req->reply_len = noreply ? 0 : len;
	return PROTO_REPLY;
}

#define IMMUTABLE "SERVER_ERROR immutable: a stored value never changes"

enum proto_result proto__immutable(struct proto *p, struct proto_request *req, bool has_block,
				   uint32_t body_len, bool noreply)
{
	req->immutable = true;
	if (!has_block)
		return PROTO__REPLY(req, IMMUTABLE, noreply);
	drain(p, body_len, PROTO__DRAIN_IMMUTABLE, noreply);
	return PROTO_MORE;
}

enum proto_result proto__hangup(struct proto *p, struct proto_request *req)
{
	p->state = PROTO__DEAD;
	req->bin.on = false;
	req->status = 0;
	req->reply = "";
	req->reply_len = 0;
	return PROTO_HANGUP;
}

/* ---- key lists ------------------------------------------------------------ */

static enum proto_result list_key(struct proto *p, struct proto_request *req, const char *key,
				  size_t len, bool last)
{
	proto__request_clear(req);
	req->op = (enum proto_op)p->op;
	req->key = key;
	req->key_len = (uint8_t)len;
	req->first = !p->unfinished;
	req->last = last;
	req->expire = p->expire;
	p->unfinished = !last;
	if (last)
		p->state = PROTO__LINE;
	return PROTO_REQUEST;
}

/*
 * Takes the next word of a list out of the window. Whatever is decided here depends only on bytes
 * up to the end of that word, and on what follows it if that is already there.
 */
static enum proto_result list_next(struct proto *p, const char *b, size_t len, size_t *consumed,
				   struct proto_request *req)
{
	const char *s = b, *end = b + len, *stop;
	const char *space, *nl;
	size_t span, n;

	while (s < end && *s == ' ')
		s++;
	if (s == end) {
		*consumed = len;
		return PROTO_MORE;
	}
	span = (size_t)(end - s) > WORD_MAX + 1 ? WORD_MAX + 1 : (size_t)(end - s);
	nl = memchr(s, '\n', span);
	space = memchr(s, ' ', nl != NULL ? (size_t)(nl - s) : span);
	stop = space != NULL ? space : nl;
	if (stop == NULL) {
		if (span <= WORD_MAX) {
			*consumed = (size_t)(s - b);
			return PROTO_MORE;
		}
		*consumed = (size_t)(s - b) + span;
		p->state = PROTO__SKIP;
		p->unfinished = false;
		return PROTO__REPLY(req, "CLIENT_ERROR bad command line format", false);
	}
	n = (size_t)(stop - s);
	if (stop == nl && n > 0 && s[n - 1] == '\r')
		n--;
	if (n > PROTO_KEY_MAX) {
		*consumed = (size_t)(stop - b) + (stop == nl);
		p->state = stop == nl ? PROTO__LINE : PROTO__SKIP;
		p->unfinished = false;
		return PROTO__REPLY(req, "CLIENT_ERROR bad command line format", false);
	}
	if (stop == nl) {
		*consumed = (size_t)(stop - b) + 1;
		return list_key(p, req, s, n, true);
	}
	while (stop < end && *stop == ' ')
		stop++;
	/* If the end of the line follows at once, say so now rather than by a request of its own.
	 */
	if (stop < end && *stop == '\n')
		nl = stop;
	else if (stop + 1 < end && stop[0] == '\r' && stop[1] == '\n')
		nl = stop + 1;
	else
		nl = NULL;
	*consumed = (size_t)((nl != NULL ? nl + 1 : stop) - b);
	return list_key(p, req, s, n, nl != NULL);
}

/* True if every word of [s, end) can be a key. */
static bool keys_ok(const char *s, const char *end)
{
	while (s < end) {
		const char *e;

		if (*s == ' ') {
			s++;
			continue;
		}
		e = memchr(s, ' ', (size_t)(end - s));
		if (e == NULL)
			e = end;
		if ((size_t)(e - s) > PROTO_KEY_MAX)
			return false;
		s = e;
	}
	return true;
}

/* get, gets, bget, gat, gats by their name; PROTO_OPS if it is none of them. */
static enum proto_op list_op(const char *s, size_t n)
{
	if (n == 3 && memcmp(s, "get", 3) == 0)
		return PROTO_GET;
	if (n == 3 && memcmp(s, "gat", 3) == 0)
		return PROTO_GAT;
	if (n == 4 && memcmp(s, "gets", 4) == 0)
		return PROTO_GETS;
	if (n == 4 && memcmp(s, "gats", 4) == 0)
		return PROTO_GATS;
	if (n == 4 && memcmp(s, "bget", 4) == 0)
		return PROTO_GET;
	return PROTO_OPS;
}

/*
 * A list command whose words begin at s. eol is the end of the line without its \r\n and nl the \n,
 * or both are NULL: the line has no end in the window, which ends at `end`.
 */
static enum proto_result list_begin(struct proto *p, enum proto_op op, const char *b, const char *s,
				    const char *eol, const char *nl, const char *end,
				    size_t *consumed, struct proto_request *req)
{
	const char *stop = eol != NULL ? eol : end;
	bool touch = op == PROTO_GAT || op == PROTO_GATS;
	struct proto__word w;
	int64_t exptime = 0;

	while (s < stop && *s == ' ')
		s++;
	if (nl != NULL)
		*consumed = (size_t)(nl + 1 - b);
	if (s == stop && nl != NULL)
		return PROTO__REPLY(req, "ERROR", false);
	if (touch) {
		const char *e = memchr(s, ' ', (size_t)(stop - s));

		if (e == NULL && nl == NULL)
			return proto__hangup(p, req);
		w.s = s;
		w.len = (uint32_t)((e != NULL ? e : stop) - s);
		if (!proto__i64(&w, &exptime)) {
			if (nl == NULL) {
				*consumed = (size_t)(s - b);
				p->state = PROTO__SKIP;
			}
			return PROTO__REPLY(req, "CLIENT_ERROR invalid exptime argument", false);
		}
		s += w.len;
	}
	if (nl != NULL && !keys_ok(s, eol))
		return PROTO__REPLY(req, "CLIENT_ERROR bad command line format", false);
	p->state = PROTO__LIST;
	p->op = (uint8_t)op;
	p->expire = proto__is_over(exptime);
	p->unfinished = false;
	if (nl != NULL) {
		/* The whole line is here, so the first word is too. */
		enum proto_result r = list_next(p, s, (size_t)(nl + 1 - s), consumed, req);

		DIAG(r == PROTO_REQUEST);
		*consumed += (size_t)(s - b);
		return r;
	}
	*consumed = (size_t)(s - b);
	return PROTO_MORE;
}

/* ---- lines ------------------------------------------------------------ */

/* The words of [s, eol); the first one is already known to be [s, w). */
static void split(struct proto__line *l, const char *s, const char *w, const char *eol)
{
	l->end = eol;
	l->w[0].s = s;
	l->w[0].len = (uint32_t)(w - s);
	l->n = 1;
	while (l->n < PROTO__WORDS) {
		while (w < eol && *w == ' ')
			w++;
		if (w == eol)
			break;
		s = w;
		w = memchr(s, ' ', (size_t)(eol - s));
		if (w == NULL)
			w = eol;
		l->w[l->n].s = s;
		l->w[l->n].len = (uint32_t)(w - s);
		l->n++;
	}
}

/* A whole line in [b, nl). */
static enum proto_result whole_line(struct proto *p, const char *b, const char *nl,
				    size_t *consumed, struct proto_request *req)
{
	struct proto__line l;
	const char *eol = nl, *s = b, *w;
	enum proto_op op;

	if (nl - b > 1 && nl[-1] == '\r')
		eol--;
	*consumed = (size_t)(nl + 1 - b);
	proto__request_clear(req);
	while (s < eol && *s == ' ')
		s++;
	if (s == eol)
		return PROTO__REPLY(req, "ERROR", false);
	w = s;
	while (w < eol && *w != ' ')
		w++;
	op = list_op(s, (size_t)(w - s));
	if (op != PROTO_OPS)
		return list_begin(p, op, b, w, eol, nl, nl + 1, consumed, req);
	split(&l, s, w, eol);
	if (w - s == 2 && s[0] == 'm' && strchr("ngesda", s[1]) != NULL && s[1] != '\0')
		return proto__meta(p, &l, req);
	return proto__text(p, &l, req);
}

/* PROTO_LINE_MAX bytes and no end: a key list that came in pieces, or nothing we speak. */
static enum proto_result endless_line(struct proto *p, const char *b, size_t len, size_t *consumed,
				      struct proto_request *req)
{
	const char *end = b + len;
	const char *s = b, *e, *nl;
	enum proto_op op;

	while (s < end && *s == ' ')
		s++;
	e = s < end ? memchr(s, ' ', (size_t)(end - s)) : NULL;
	op = e != NULL && s - b <= 100 ? list_op(s, (size_t)(e - s)) : PROTO_OPS;
	if (op == PROTO_OPS)
		return proto__hangup(p, req);
	proto__request_clear(req);
	nl = memchr(b + PROTO_LINE_MAX, '\n', len - PROTO_LINE_MAX);
	return list_begin(p, op, b, e,
			  nl == NULL       ? NULL
			  : nl[-1] == '\r' ? nl - 1
					   : nl,
			  nl, end, consumed, req);
}

/* The client has to say who it is first. */
static enum proto_result locked(struct proto *p, const char *b, const char *nl, size_t len,
				size_t *consumed, struct proto_request *req)
{
	const char *s = b, *eol = nl, *w;
	struct proto__line l;

	if (!p->text_login || (nl == NULL && len > PROTO_LINE_MAX))
		return proto__hangup(p, req);
	if (nl == NULL) {
		p->scanned = (uint32_t)len;
		return PROTO_MORE;
	}
	proto__request_clear(req);
	if (nl > b && nl[-1] == '\r')
		eol--;
	while (s < eol && *s == ' ')
		s++;
	w = s;
	while (w < eol && *w != ' ')
		w++;
	split(&l, s, w, eol);
	return proto__locked_line(p, &l, b, nl, len, consumed, req);
}

static enum proto_result line(struct proto *p, const char *b, size_t len, size_t *consumed,
			      struct proto_request *req)
{
	size_t span = len > PROTO_LINE_MAX + 1 ? PROTO_LINE_MAX + 1 : len;
	size_t from = p->scanned <= span ? p->scanned : 0;
	const char *nl = memchr(b + from, '\n', span - from);

	p->scanned = 0;
	if (unlikely(!p->begun)) {
		/* The first byte tells the protocol: binary, the hello of TLS, else text. */
		if ((unsigned char)b[0] == 0x80) {
			p->begun = p->binary = true;
			return proto__binary(p, b, len, consumed, req);
		}
		if (b[0] == 0x16 && len >= 2 && b[1] == 0x03)
			return proto__hangup(p, req);
		p->begun = len >= 2 || b[0] != 0x16;
	}
	if (unlikely(p->locked))
		return locked(p, b, nl, len, consumed, req);
	if (likely(nl != NULL)) {
		/* The line that a cache sees most: `get key`. */
		if (nl - b > 4 && memcmp(b, "get ", 4) == 0) {
			const char *key = b + 4;
			size_t n = (size_t)(nl - key);

			if (n > 0 && key[n - 1] == '\r')
				n--;
			if (n - 1 < PROTO_KEY_MAX && memchr(key, ' ', n) == NULL) {
				*consumed = (size_t)(nl + 1 - b);
				proto__request_clear(req);
				req->op = PROTO_GET;
				req->key = key;
				req->key_len = (uint8_t)n;
				return PROTO_REQUEST;
			}
		}
		return whole_line(p, b, nl, consumed, req);
	}
	if (len > PROTO_LINE_MAX)
		return endless_line(p, b, len, consumed, req);
	p->scanned = (uint32_t)len;
	return PROTO_MORE;
}

/* Drops up to len bytes of a block; true when it is over. */
static bool drained(struct proto *p, const char *b, size_t len, size_t *consumed)
{
	size_t n = 0;

	if (p->binary || p->left > 2) {
		uint64_t most = p->left - (p->binary ? 0 : 2);

		n = len < most ? len : (size_t)most;
		p->left -= n;
	}
	for (; n < len && p->left > 0 && p->left <= 2; n++, p->left--)
		p->tail = (uint8_t)(p->tail + (b[n] == (p->left == 2 ? '\r' : '\n')));
	*consumed = n;
	return p->left == 0;
}

enum proto_result proto_parse(struct proto *p, const char *bytes, size_t len, size_t *consumed,
			      struct proto_request *req)
{
	size_t done = 0;

	*consumed = 0;
	for (;;) {
		const char *b = bytes + done;
		size_t left = len - done;
		size_t used = 0;
		enum proto_result r = PROTO_MORE;

		if (p->state == PROTO__DEAD)
			return proto__hangup(p, req);
		if (left == 0)
			return PROTO_MORE;
		switch ((enum proto__state)p->state) {
		case PROTO__LINE:
			r = p->binary ? proto__binary(p, b, left, &used, req)
				      : line(p, b, left, &used, req);
			break;
		case PROTO__LIST:
			r = list_next(p, b, left, &used, req);
			break;
		case PROTO__SKIP: {
			const char *nl = memchr(b, '\n', left);

			used = nl != NULL ? (size_t)(nl + 1 - b) : left;
			if (nl != NULL)
				p->state = PROTO__LINE;
			break;
		}
		case PROTO__SWALLOW:
			used = left < p->left ? left : (size_t)p->left;
			p->left -= used;
			if (p->left == 0)
				p->state = PROTO__LINE;
			break;
		case PROTO__DRAIN:
			if (!drained(p, b, left, &used))
				break;
			p->state = PROTO__LINE;
			proto__request_clear(req);
			req->good = p->tail == 2;
			if (p->op == PROTO__DRAIN_BLOCK)
				r = PROTO_BLOCK;
			else if (req->good)
				r = proto__immutable(p, req, false, 0, p->noreply);
			else
				r = PROTO__REPLY(req, "CLIENT_ERROR bad data chunk", p->noreply);
			break;
		case PROTO__DEAD:
			break;
		}
		done += used;
		*consumed = done;
		/* A step that gave nothing but moved on is followed by the next. */
		if (r != PROTO_MORE || used == 0)
			return r;
	}
}
