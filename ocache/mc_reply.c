/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of a memcached server; see mc_reply.h. */
#include <stdbool.h>
#include <string.h>

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
