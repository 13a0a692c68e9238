/* SPDX-License-Identifier: Apache-2.0 */
/* Packing and searching columns; see column.h. */
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/assert.h"
#include "datoms/column.h"

#define ASCENDS 0x80u
/* What one block's bits take, and room to read 8 bytes from any of them. */
#define BITS_MAX (COLUMN_BLOCK * 8u + 8u)

static unsigned bits_for(uint64_t v)
{
	return v == 0 ? 0 : 64u - (unsigned)__builtin_clzll(v);
}

/* ---- searching ---- */

#define SEARCH(type)                                                                               \
	do {                                                                                       \
		const type *at = c->at;                                                            \
                                                                                                   \
		while (n > 0) {                                                                    \
			uint32_t half = n / 2;                                                     \
			uint32_t past = at[from + half] < want ? half + 1 : 0;                     \
                                                                                                   \
			from += past;                                                              \
			n = past != 0 ? n - past : half;                                           \
		}                                                                                  \
	} while (0)

uint32_t column_search(const struct column *c, uint32_t from, uint32_t to, uint64_t value)
{
	uint64_t want = value - c->base;
	uint32_t n = to - from;

	if (value <= c->base)
		return from;
	switch (c->width) {
	case 0:
		return to;
	case 1:
		SEARCH(uint8_t);
		break;
	case 2:
		SEARCH(uint16_t);
		break;
	case 4:
		SEARCH(uint32_t);
		break;
	default:
		SEARCH(uint64_t);
		break;
	}
	return from;
}

/* ---- writing ---- */

void column_measure(const uint64_t *values, uint32_t n, uint64_t *base, uint8_t *width)
{
	uint64_t least = values[0], most = values[0];
	unsigned bits;

	for (uint32_t i = 1; i < n; i++) {
		least = values[i] < least ? values[i] : least;
		most = values[i] > most ? values[i] : most;
	}
	bits = bits_for(most - least);
	*base = least;
	*width = bits == 0 ? 0 : bits <= 8 ? 1 : bits <= 16 ? 2 : bits <= 32 ? 4 : 8;
}

static uint8_t *put_varint(uint8_t *to, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		*to++ = (uint8_t)(v | 0x80);
	*to++ = (uint8_t)v;
	return to;
}

static uint8_t *put_bits(uint8_t *to, const uint64_t *v, uint32_t n, unsigned width)
{
	unsigned __int128 held = 0;
	unsigned bits = 0;

	for (uint32_t i = 0; i < n; i++) {
		held |= (unsigned __int128)v[i] << bits;
		for (bits += width; bits >= 8; bits -= 8, held >>= 8)
			*to++ = (uint8_t)held;
	}
	if (bits > 0)
		*to++ = (uint8_t)held;
	return to;
}

static uint8_t *put_block(uint8_t *to, const uint64_t *values, uint32_t n, uint64_t base)
{
	uint64_t flat[COLUMN_BLOCK], step[COLUMN_BLOCK], least = values[0], any = 0, any_step = 0;
	bool ascends = true;
	unsigned width, step_width;

	for (uint32_t i = 1; i < n; i++)
		least = values[i] < least ? values[i] : least;
	for (uint32_t i = 0; i < n; i++) {
		flat[i] = values[i] - least;
		any |= flat[i];
		if (i == 0)
			continue;
		ascends = ascends && values[i] >= values[i - 1];
		step[i - 1] = values[i] - values[i - 1];
		any_step |= step[i - 1];
	}
	width = bits_for(any);
	step_width = bits_for(any_step);
	ascends = ascends && step_width < width;
	*to++ = (uint8_t)(ascends ? ASCENDS | step_width : width);
	to = put_varint(to, least - base); /* of what ascends the least is the first */
	return ascends ? put_bits(to, step, n - 1, step_width) : put_bits(to, flat, n, width);
}

size_t column_pack(uint8_t *to, const uint64_t *values, uint32_t n, uint64_t base, uint8_t width)
{
	uint8_t *at = to;

	if (width == 0)
		return 0;
	for (uint32_t i = 0; i < n; i += COLUMN_BLOCK)
		at = put_block(at, values + i, n - i < COLUMN_BLOCK ? n - i : COLUMN_BLOCK, base);
	A((size_t)(at - to) <= COLUMN_ROOM(n));
	return (size_t)(at - to);
}

/* ---- reading ---- */

/* NULL: it does not end, or is too large. */
static const uint8_t *get_varint(const uint8_t *at, const uint8_t *end, uint64_t *v)
{
	*v = 0;
	for (unsigned shift = 0; at < end && shift < 70; shift += 7) {
		uint64_t bits = *at & 0x7fu;

		if (shift == 63 && bits > 1)
			return NULL;
		*v |= bits << shift;
		if ((*at++ & 0x80u) == 0)
			return at;
	}
	return NULL;
}

static inline uint64_t load8(const uint8_t *at)
{
	uint64_t v;

	memcpy(&v, at, sizeof v);
	return le64toh(v);
}

/* n numbers of `width` bits; 8 bytes can be read from each byte in which one begins. */
static inline void get_bits(const uint8_t *bits, uint32_t n, unsigned width, uint64_t *v)
{
	uint64_t mask = width < 64 ? (1ull << width) - 1 : UINT64_MAX;
	size_t at = 0;

	if (width == 0) {
		memset(v, 0, n * sizeof *v);
	} else if (width <= 57) { /* with the 7 bits before it, it is in 8 bytes */
		for (uint32_t i = 0; i < n; i++, at += width)
			v[i] = load8(bits + (at >> 3)) >> (at & 7) & mask;
	} else {
		for (uint32_t i = 0; i < n; i++, at += width) {
			unsigned __int128 wide = load8(bits + (at >> 3));

			wide |= (unsigned __int128)bits[(at >> 3) + 8] << 64;
			v[i] = (uint64_t)(wide >> (at & 7)) & mask;
		}
	}
}

/* What is known of a block before its bits are looked at. */
struct block {
	const uint8_t *bits; /* as get_bits() wants them */
	uint64_t first;
	uint32_t n;
	unsigned width;
	bool ascends;
};

/* Can no value be more than 64 bits have, or than `most`? Whatever the bits are. */
static bool surely_fits(const struct block *b, uint64_t most)
{
	uint64_t step = (1ull << (b->width & 63)) - 1, bound;

	return b->width <= 56 && !__builtin_mul_overflow(step, b->ascends ? b->n - 1 : 1, &bound) &&
	       !__builtin_add_overflow(bound, b->first, &bound) && bound <= most;
}

#define QUICK(type)                                                                                \
	do {                                                                                       \
		type *out = to;                                                                    \
                                                                                                   \
		if (b->ascends) {                                                                  \
			uint64_t sum = b->first;                                                   \
                                                                                                   \
			out[0] = (type)sum;                                                        \
			for (uint32_t i = 1; i < b->n; i++, at += b->width) {                      \
				sum += load8(b->bits + (at >> 3)) >> (at & 7) & mask;              \
				out[i] = (type)sum;                                                \
			}                                                                          \
		} else {                                                                           \
			for (uint32_t i = 0; i < b->n; i++, at += b->width)                        \
				out[i] = (type)(b->first +                                         \
						(load8(b->bits + (at >> 3)) >> (at & 7) & mask));  \
		}                                                                                  \
	} while (0)

/* A block of which nothing has to be checked. */
static void unpack_quick(const struct block *b, uint8_t width, void *to)
{
	uint64_t mask = (1ull << b->width) - 1;
	size_t at = 0;

	switch (width) {
	case 1:
		QUICK(uint8_t);
		break;
	case 2:
		QUICK(uint16_t);
		break;
	case 4:
		QUICK(uint32_t);
		break;
	default:
		QUICK(uint64_t);
		break;
	}
}

/* Distances from the column's base. False: one is more than 64 bits have, or than `most`. */
static bool sum_up(uint64_t *v, const struct block *b, uint64_t most)
{
	uint64_t sum = b->first;
	bool fits = true;

	for (uint32_t i = 0; i < b->n; i++) {
		fits &= !__builtin_add_overflow(b->ascends ? sum : b->first, v[i], &sum);
		fits &= sum <= most;
		v[i] = sum;
	}
	return fits;
}

static void narrow(void *to, const uint64_t *v, uint32_t n, uint8_t width)
{
	switch (width) {
	case 1:
		for (uint32_t i = 0; i < n; i++)
			((uint8_t *)to)[i] = (uint8_t)v[i];
		break;
	case 2:
		for (uint32_t i = 0; i < n; i++)
			((uint16_t *)to)[i] = (uint16_t)v[i];
		break;
	case 4:
		for (uint32_t i = 0; i < n; i++)
			((uint32_t *)to)[i] = (uint32_t)v[i];
		break;
	default:
		memcpy(to, v, n * sizeof *v);
		break;
	}
}

/* Any other. False: see sum_up(). */
static bool unpack_checked(const struct block *b, uint8_t width, uint64_t most, void *to)
{
	uint64_t v[COLUMN_BLOCK];

	v[0] = 0;
	get_bits(b->bits, b->ascends ? b->n - 1 : b->n, b->width, b->ascends ? v + 1 : v);
	if (!sum_up(v, b, most))
		return false;
	narrow(to, v, b->n, width);
	return true;
}

int column_unpack(const uint8_t *bytes, size_t len, uint32_t n, uint8_t width, void *to)
{
	const uint8_t *at = bytes, *end = bytes + len;
	uint64_t most = width < 8 ? (1ull << (8 * width)) - 1 : UINT64_MAX;
	uint8_t spare[BITS_MAX + 8];

	for (uint32_t done = 0; done < n;) {
		struct block b = {.n = n - done < COLUMN_BLOCK ? n - done : COLUMN_BLOCK};
		uint8_t *out = (uint8_t *)to + (size_t)done * width;
		size_t take;

		if (at == end)
			return -EBADMSG;
		b.ascends = (*at & ASCENDS) != 0;
		b.width = *at++ & 0x7fu;
		at = get_varint(at, end, &b.first);
		take = ((size_t)(b.ascends ? b.n - 1 : b.n) * b.width + 7) / 8;
		if (at == NULL || b.width > 64 || take > (size_t)(end - at))
			return -EBADMSG;
		b.bits = at;
		if ((size_t)(end - at) < take + 8) { /* the end is near: where more can be read */
			memcpy(spare, at, take);
			memset(spare + take, 0, 16);
			b.bits = spare;
		}
		if (surely_fits(&b, most))
			unpack_quick(&b, width, out);
		else if (!unpack_checked(&b, width, most, out))
			return -EBADMSG;
		at += take;
		done += b.n;
	}
	return at == end ? 0 : -EBADMSG;
}
