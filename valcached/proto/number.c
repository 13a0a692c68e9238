/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decimal numbers, read as memcached's strtol reads them and written fast. Pure functions, any
 * thread.
 *
 * Reading accepts what memcached accepts (a tab before, white space and then anything after), but a
 * value that does not fit its field is refused, where memcached keeps its lower 32 bits.
 */
#include <string.h>

#include "valcached/proto/proto_int.h"

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Magnitude and sign. */
static bool read_number(const struct proto__word *w, uint64_t *out, bool *negative)
{
	const char *s = w->s;
	const char *end = s + w->len;
	uint64_t v = 0;
	const char *digits;

	while (s < end && is_space(*s))
		s++;
	*negative = s < end && *s == '-';
	if (s < end && (*s == '-' || *s == '+'))
		s++;
	digits = s;
	while (s < end && *s >= '0' && *s <= '9') {
		unsigned d = (unsigned)(*s - '0');

		if (v > (UINT64_MAX - d) / 10)
			return false;
		v = v * 10 + d;
		s++;
	}
	if (s == digits || (s < end && !is_space(*s)))
		return false;
	*out = v;
	return true;
}

bool proto__u64(const struct proto__word *w, uint64_t *out)
{
	bool negative;
	uint64_t v;

	if (!read_number(w, &v, &negative) || (negative && v != 0))
		return false;
	/* memcached's test for a sign: it looks for one in all of the word, if the number is that big */
	if (v > INT64_MAX && memchr(w->s, '-', w->len) != NULL)
		return false;
	*out = v;
	return true;
}

bool proto__u32(const struct proto__word *w, uint32_t *out)
{
	uint64_t v;

	if (!proto__u64(w, &v) || v > UINT32_MAX)
		return false;
	*out = (uint32_t)v;
	return true;
}

bool proto__i64(const struct proto__word *w, int64_t *out)
{
	bool negative;
	uint64_t v;

	if (!read_number(w, &v, &negative))
		return false;
	if (negative) {
		if (v > (uint64_t)INT64_MAX + 1)
			return false;
		*out = (int64_t)(0 - v);
	} else {
		if (v > INT64_MAX)
			return false;
		*out = (int64_t)v;
	}
	return true;
}

static const char pairs[201] = "00010203040506070809"
			       "10111213141516171819"
			       "20212223242526272829"
			       "30313233343536373839"
			       "40414243444546474849"
			       "50515253545556575859"
			       "60616263646566676869"
			       "70717273747576777879"
			       "80818283848586878889"
			       "90919293949596979899";

size_t proto_put_u64(char *out, uint64_t v)
{
	char tmp[20];
	char *t = tmp + sizeof(tmp);
	size_t n;

	while (v >= 100) {
		t -= 2;
		memcpy(t, pairs + 2 * (v % 100), 2);
		v /= 100;
	}
	if (v >= 10) {
		t -= 2;
		memcpy(t, pairs + 2 * v, 2);
	} else {
		*--t = (char)('0' + v);
	}
	n = (size_t)(tmp + sizeof(tmp) - t);
	memcpy(out, t, n);
	return n;
}

size_t proto_put_u32(char *out, uint32_t v)
{
	unsigned n = 1;
	uint32_t x = v;
	char *t;

	if (v < 10) {
		*out = (char)('0' + v);
		return 1;
	}
	for (; x >= 10; x /= 10)
		n++;
	t = out + n;
	while (v >= 100) {
		t -= 2;
		memcpy(t, pairs + (size_t)2 * (v % 100), 2);
		v /= 100;
	}
	if (v >= 10)
		memcpy(t - 2, pairs + (size_t)2 * v, 2);
	else
		t[-1] = (char)('0' + v);
	return n;
}
