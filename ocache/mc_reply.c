/* SPDX-License-Identifier: Apache-2.0 */
/* Lines and answers of a memcached server; see mc_reply.h. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "ocache/mc_reply.h"

static bool is(const char *line, size_t len, const char *word)
{
	return len == strlen(word) && memcmp(line, word, len) == 0;
}

static bool begins(const char *line, size_t len, const char *word)
{
	return len >= strlen(word) && memcmp(line, word, strlen(word)) == 0;
}

/* The digits at *at, moved behind them. */
static bool number(const char **at, const char *end, uint64_t most, uint64_t *n)
{
	const char *p = *at;
	uint64_t v = 0;

	for (; p < end && *p >= '0' && *p <= '9'; p++) {
		v = v * 10 + (uint64_t)(*p - '0');
		if (v > most)
			return false;
	}
	if (p == *at)
		return false;
	*at = p;
	*n = v;
	return true;
}

/* "<key> <flags> <bytes>", and perhaps " <cas>" */
static bool value(const char *p, const char *end, struct mc_line *l)
{
	const char *space = memchr(p, ' ', (size_t)(end - p));
	uint64_t ignored;

	if (space == NULL || space == p)
		return false;
	l->key = p;
	l->key_len = (size_t)(space - p);
	p = space + 1;
	if (!number(&p, end, UINT32_MAX, &ignored) || p == end || *p++ != ' ' ||
	    !number(&p, end, UINT32_MAX, &l->bytes))
		return false;
	if (p == end)
		return true;
	return *p++ == ' ' && number(&p, end, UINT64_MAX / 10 - 1, &ignored) && p == end;
}

struct mc_line mc_line(const char *in, size_t n)
{
	size_t look = n < MC_LINE_MAX ? n : MC_LINE_MAX, len;
	const char *end = look > 0 ? memchr(in, '\n', look) : NULL;
	struct mc_line l = {.what = MC_BROKEN};

	if (end == NULL) {
		l.what = look < MC_LINE_MAX ? MC_MORE : MC_BROKEN;
		return l;
	}
	l.used = (size_t)(end - in) + 1;
	if (l.used < 2 || end[-1] != '\r')
		return l;
	len = l.used - 2;
	if (is(in, len, "END"))
		l.what = MC_END;
	else if (is(in, len, "STORED"))
		l.what = MC_STORED;
	else if (is(in, len, "NOT_STORED") || is(in, len, "EXISTS"))
		l.what = MC_KEPT;
	else if (is(in, len, "DELETED"))
		l.what = MC_DELETED;
	else if (is(in, len, "NOT_FOUND"))
		l.what = MC_NOT_FOUND;
	else if (is(in, len, "SERVER_ERROR") || begins(in, len, "SERVER_ERROR "))
		l.what = MC_SERVER_ERROR;
	else if (begins(in, len, "VALUE ") && value(in + 6, in + len, &l))
		l.what = MC_VALUE;
	return l;
}

/* ---- answers ------------------------------------------------------------------------ */

void mc_reader_init(struct mc_reader *r, uint64_t value_max)
{
	r->value_max = value_max;
	r->body = NULL;
	mc_reader_reset(r);
}

void mc_reader_reset(struct mc_reader *r)
{
	seg_buf_drop(r->body);
	r->body = NULL;
	r->body_at = 0;
	r->in_body = false;
	r->at = r->n = 0;
}

/* Bytes of the value that are still to come, without its line end. */
static size_t body_left(const struct mc_reader *r)
{
	size_t len = r->in_body ? seg_buf_len(r->body) : 0;

	return r->in_body && r->body_at < len ? len - r->body_at : 0;
}

int mc_reader_room(struct mc_reader *r, struct iovec v[2])
{
	size_t left = body_left(r);
	int n = 0;

	memmove(r->in, r->in + r->at, r->n - r->at);
	r->n -= r->at;
	r->at = 0;
	/* a line is shorter than MC_LINE_MAX, and of a value nothing stays here */
	A(r->n < MC_LINE_MAX);
	if (left > 0)
		v[n++] = (struct iovec){(char *)seg_buf_data(r->body) + r->body_at, left};
	v[n++] = (struct iovec){r->in + r->n, sizeof r->in - r->n};
	return n;
}

void mc_reader_put(struct mc_reader *r, size_t n)
{
	size_t left = body_left(r), body = n < left ? n : left;

	r->body_at += body;
	r->n += n - body;
	A(r->n <= sizeof r->in);
}

/* A value's bytes and its line end, as many as are there. 0 or -EPROTO. */
static int take_body(struct mc_reader *r)
{
	size_t left = body_left(r), n = r->n - r->at < left ? r->n - r->at : left;

	if (n > 0) {
		memcpy((char *)seg_buf_data(r->body) + r->body_at, r->in + r->at, n);
		r->body_at += n;
		r->at += n;
	}
	while (body_left(r) == 0 && r->in_body && r->at < r->n) {
		if (r->in[r->at++] != "\r\n"[r->body_at++ - seg_buf_len(r->body)])
			return -EPROTO;
		r->in_body = r->body_at < seg_buf_len(r->body) + 2;
	}
	return 0;
}

/* A value's line: room for its bytes. 0 or -errno. */
static int begin_body(struct mc_reader *r, const struct mc_asked *asked, const struct mc_line *l)
{
	if (r->body != NULL || l->key_len != SEG_ID_TEXT - 1 ||
	    memcmp(l->key, asked->key, SEG_ID_TEXT - 1) != 0 || l->bytes > r->value_max)
		return -EPROTO;
	r->body = seg_buf_new((size_t)l->bytes);
	if (r->body == NULL)
		return -ENOMEM;
	r->in_body = true;
	r->body_at = 0;
	return 0;
}

/* What one line says to `asked`: 1 with the answer, 0 if it begins one, or -errno. */
static int take_line(struct mc_reader *r, const struct mc_asked *asked, const struct mc_line *l,
		     int *status)
{
	*status = 0;
	if (asked == NULL || !asked->begun)
		return -EPROTO;
	if (l->what == MC_SERVER_ERROR && r->body == NULL &&
	    (asked->written || asked->kind == MC_SET)) {
		*status = -EIO;
		return 1;
	}
	if (!asked->written)
		return -EPROTO;
	switch (asked->kind) {
	case MC_GET:
		if (l->what == MC_VALUE)
			return begin_body(r, asked, l);
		*status = r->body != NULL ? 0 : -ENOENT;
		return l->what == MC_END ? 1 : -EPROTO;
	case MC_SET:
		return l->what == MC_STORED || l->what == MC_KEPT ? 1 : -EPROTO;
	case MC_DELETE:
		return l->what == MC_DELETED || l->what == MC_NOT_FOUND ? 1 : -EPROTO;
	}
	return -EPROTO;
}

int mc_reader_take(struct mc_reader *r, const struct mc_asked *asked, int *status,
		   struct seg_buf **bytes)
{
	int got = 0;

	*bytes = NULL;
	while (got == 0 && (r->at < r->n || r->in_body)) {
		struct mc_line l;

		if (r->in_body) {
			got = take_body(r);
			if (got != 0 || r->in_body)
				return got;
			continue;
		}
		l = mc_line(r->in + r->at, r->n - r->at);
		if (l.what == MC_MORE)
			return 0;
		got = l.what == MC_BROKEN ? -EPROTO : take_line(r, asked, &l, status);
		r->at += l.used;
	}
	if (got == 1) {
		*bytes = r->body;
		r->body = NULL;
	}
	return got;
}
