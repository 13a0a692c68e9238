/* SPDX-License-Identifier: Apache-2.0 */
/* XXH3 of long inputs by the library's dispatch, and copies past the cache; see sum.h. */
#include <string.h>
#include <xxhash.h>
#ifdef __x86_64__
#include <emmintrin.h>
#include <xxh_x86dispatch.h>
#endif

#include "base/sum.h"

uint64_t sum64(const void *data, size_t len)
{
	return XXH3_64bits(data, len);
}

void sum128(const void *data, size_t len, uint64_t out[2])
{
	XXH128_hash_t h = XXH3_128bits(data, len);

	out[0] = h.low64;
	out[1] = h.high64;
}

struct sum_state *sum_new(void)
{
	XXH3_state_t *st = XXH3_createState();

	if (st != NULL)
		XXH3_128bits_reset(st);
	return (struct sum_state *)st;
}

void sum_free(struct sum_state *st)
{
	XXH3_freeState((XXH3_state_t *)st);
}

void sum_reset(struct sum_state *st)
{
	XXH3_128bits_reset((XXH3_state_t *)st);
}

void sum_add(struct sum_state *st, const void *data, size_t len)
{
	XXH3_128bits_update((XXH3_state_t *)st, data, len);
}

void sum_digest(const struct sum_state *st, uint64_t out[2])
{
	XXH128_hash_t h = XXH3_128bits_digest((const XXH3_state_t *)st);

	out[0] = h.low64;
	out[1] = h.high64;
}

/* Below this a plain copy is as good: the lines may well be in the cache already. */
#define AWAY_MIN 4096

void copy_away(void *to, const void *from, size_t len)
{
#ifdef __x86_64__
	uint8_t *d = to;
	const uint8_t *s = from;
	size_t head = (size_t)(-(uintptr_t)d & 63);

	if (len < AWAY_MIN) {
		memcpy(d, s, len);
		return;
	}
	memcpy(d, s, head);
	d += head;
	s += head;
	len -= head;
	for (; len >= 64; len -= 64, d += 64, s += 64) {
		__m128i a = _mm_loadu_si128((const __m128i *)(const void *)s);
		__m128i b = _mm_loadu_si128((const __m128i *)(const void *)(s + 16));
		__m128i c = _mm_loadu_si128((const __m128i *)(const void *)(s + 32));
		__m128i e = _mm_loadu_si128((const __m128i *)(const void *)(s + 48));

		_mm_stream_si128((__m128i *)(void *)d, a);
		_mm_stream_si128((__m128i *)(void *)(d + 16), b);
		_mm_stream_si128((__m128i *)(void *)(d + 32), c);
		_mm_stream_si128((__m128i *)(void *)(d + 48), e);
	}
	_mm_sfence();
	memcpy(d, s, len);
#else
	memcpy(to, from, len);
#endif
}
