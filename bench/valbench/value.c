/* SPDX-License-Identifier: Apache-2.0 */
/* Making and checking values; see value.h. Pure after value_init(). */
#include <string.h>

#include "bench/valbench/value.h"

#define GOLDEN 0x9e3779b97f4a7c15ull

static uint8_t pattern[VALUE_WINDOW + VALUE_CHUNK];

void value_init(void)
{
	for (size_t i = 0; i < sizeof pattern; i += 8) {
		uint64_t v = value_mix((i / 8 + 1) * GOLDEN);

		memcpy(pattern + i, &v, 8);
	}
}

static uint64_t stamp(uint64_t hash, uint64_t chunk)
{
	return value_mix(hash + (chunk + 1) * GOLDEN);
}

void value_render(uint64_t hash, uint64_t pos, uint8_t *dst, size_t n)
{
	while (n > 0) {
		uint64_t s = stamp(hash, pos / VALUE_CHUNK);
		size_t in = pos % VALUE_CHUNK, part = VALUE_CHUNK - in;
		const uint8_t *src = pattern + (s >> 48);

		if (part > n)
			part = n;
		memcpy(dst, src + in, part);
		if (in < 8)
			memcpy(dst, (uint8_t *)&s + in, part < 8 - in ? part : 8 - in);
		dst += part;
		pos += part;
		n -= part;
	}
}

/* Only called once a difference is known: finds where. */
static int64_t first_difference(const uint8_t *a, const uint8_t *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (a[i] != b[i])
			return (int64_t)i;
	return -1;
}

int64_t value_check(uint64_t hash, uint64_t pos, const uint8_t *p, size_t n)
{
	const uint8_t *begin = p;

	while (n > 0) {
		uint64_t s = stamp(hash, pos / VALUE_CHUNK);
		size_t in = pos % VALUE_CHUNK, part = VALUE_CHUNK - in, head = 0;
		const uint8_t *want = pattern + (s >> 48) + in;

		if (part > n)
			part = n;
		if (in < 8) {
			const uint8_t *sp = (uint8_t *)&s + in;

			head = part < 8 - in ? part : 8 - in;
			if (memcmp(p, sp, head) != 0)
				return p - begin + first_difference(p, sp, head);
		}
		if (memcmp(p + head, want + head, part - head) != 0)
			return p - begin + (int64_t)head +
			       first_difference(p + head, want + head, part - head);
		p += part;
		pos += part;
		n -= part;
	}
	return -1;
}
