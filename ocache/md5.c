/* SPDX-License-Identifier: Apache-2.0 */
/* MD5 as RFC 1321 describes it, of a message that is in memory whole. */
#include <math.h>
#include <string.h>

#include "ocache/md5.h"

static uint32_t turned(uint32_t x, unsigned n)
{
	return x << n | x >> (32 - n);
}

/* RFC 1321, 3.4: T[i] is the integer part of 2^32 times abs(sin(i)), i in radians, from 1. */
static uint32_t sine(unsigned i)
{
	return (uint32_t)(4294967296.0 * fabs(sin((double)i + 1)));
}

static void block(uint32_t state[4], const uint8_t *p)
{
	static const uint8_t turn[4][4] = {
	    {7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
	uint32_t a = state[0], b = state[1], c = state[2], d = state[3], x[16];

	for (unsigned i = 0; i < 16; i++)
		x[i] = (uint32_t)p[4 * i] | (uint32_t)p[4 * i + 1] << 8 |
		       (uint32_t)p[4 * i + 2] << 16 | (uint32_t)p[4 * i + 3] << 24;
	for (unsigned i = 0; i < 64; i++) {
		uint32_t f, t;
		unsigned k;

		if (i < 16) {
			f = (b & c) | (~b & d);
			k = i;
		} else if (i < 32) {
			f = (b & d) | (c & ~d);
			k = 5 * i + 1;
		} else if (i < 48) {
			f = b ^ c ^ d;
			k = 3 * i + 5;
		} else {
			f = c ^ (b | ~d);
			k = 7 * i;
		}
		t = b + turned(a + f + x[k & 15] + sine(i), turn[i / 16][i % 4]);
		a = d;
		d = c;
		c = b;
		b = t;
	}
	state[0] += a;
	state[1] += b;
	state[2] += c;
	state[3] += d;
}

void md5(const void *bytes, size_t len, uint8_t digest[16])
{
	uint32_t state[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
	const uint8_t *p = bytes;
	size_t left = len, end;
	uint8_t last[128] = {0};

	for (; left >= 64; left -= 64, p += 64)
		block(state, p);
	if (left > 0)
		memcpy(last, p, left);
	last[left] = 0x80;
	end = left < 56 ? 64 : 128;
	for (unsigned i = 0; i < 8; i++)
		last[end - 8 + i] = (uint8_t)((uint64_t)len * 8 >> (8 * i));
	block(state, last);
	if (end == 128)
		block(state, last + 64);
	for (unsigned i = 0; i < 16; i++)
		digest[i] = (uint8_t)(state[i / 4] >> (8 * (i % 4)));
}
