/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Base64 (RFC 4648, standard alphabet, with padding) for the meta commands' b flag. Pure functions.
 * Stricter than memcached, which skips characters outside the alphabet and stops at the first
 * padding: here they make the key malformed. Unused low bits of the last character are ignored, as
 * there.
 */
#include "valcached/proto/proto_int.h"

static const char alphabet[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	if (c == '/')
		return 63;
	return -1;
}

size_t proto__base64_decode(char *out, size_t out_max, const char *in, size_t n)
{
	size_t got = 0;

	if (n == 0 || n % 4 != 0)
		return 0;
	for (size_t i = 0; i < n; i += 4) {
		bool tail = i + 4 == n;
		unsigned pad = 0;
		uint32_t v = 0;

		if (tail)
			pad = in[i + 3] != '=' ? 0 : in[i + 2] != '=' ? 1 : 2;
		for (unsigned j = 0; j < 4; j++) {
			int d = j < 4 - pad ? digit(in[i + j]) : 0;

			if (d < 0)
				return 0;
			v = v << 6 | (uint32_t)d;
		}
		for (unsigned j = 0; j < 3 - pad; j++) {
			if (got == out_max)
				return 0;
			out[got++] = (char)(unsigned char)(v >> (16 - 8 * j) & 0xff);
		}
	}
	return got;
}

size_t proto__base64_encode(char *out, const char *in, size_t n)
{
	const unsigned char *s = (const unsigned char *)in;
	char *o = out;

	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)s[i] << 16;

		if (i + 1 < n)
			v |= (uint32_t)s[i + 1] << 8;
		if (i + 2 < n)
			v |= s[i + 2];
		*o++ = alphabet[v >> 18];
		*o++ = alphabet[v >> 12 & 63];
		*o++ = i + 1 < n ? alphabet[v >> 6 & 63] : '=';
		*o++ = i + 2 < n ? alphabet[v & 63] : '=';
	}
	return (size_t)(o - out);
}
