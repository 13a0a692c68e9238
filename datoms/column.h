/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Columns of unsigned integers: packed by the bit on disk, by the byte in memory, so that there any
 * one can be read, and searched for, where it lies.
 *
 * On disk a column is blocks of 128 values, the last one shorter. What is kept are distances from
 * the column's base, its least value:
 *
 *      0  u8      bit 7: the block ascends; bits 0 to 6: width, 0 to 64
 *      1  varint  least of the block's distances (the first one if it ascends), 7 bits a byte, low
 *                 ones first, at most 10 bytes
 *         bits    width bits for each: its distance from that least. If the block ascends: for
 *                 each but the first its distance from the one before. Low bits first; the last
 *                 byte is filled with zeros
 *
 * Pure functions; any thread.
 */
#ifndef DATOMS_COLUMN_H
#define DATOMS_COLUMN_H

#include <stddef.h>
#include <stdint.h>

#define COLUMN_BLOCK 128u
/* The most that n values take on disk. */
#define COLUMN_ROOM(n) (((size_t)(n) + COLUMN_BLOCK - 1) / COLUMN_BLOCK * 11 + 8 * (size_t)(n))

/* In memory: value i is base + at[i], of `width` bytes: 1, 2, 4, 8, or 0 when all are the base. */
struct column {
	uint64_t base;
	const void *at;
	uint32_t n;
	uint8_t width;
};

static inline uint64_t column_get(const struct column *c, uint32_t i)
{
	switch (c->width) {
	case 0:
		return c->base;
	case 1:
		return c->base + ((const uint8_t *)c->at)[i];
	case 2:
		return c->base + ((const uint16_t *)c->at)[i];
	case 4:
		return c->base + ((const uint32_t *)c->at)[i];
	default:
		return c->base + ((const uint64_t *)c->at)[i];
	}
}

/*
 * In values from `from` up to and without `to`, which must ascend: the first one that is at least
 * `value`, or `to`. What does not ascend gives some place in between.
 */
uint32_t column_search(const struct column *c, uint32_t from, uint32_t to, uint64_t value);

/* What a writer has to say about n values, at least 1: base and width. */
void column_measure(const uint64_t *values, uint32_t n, uint64_t *base, uint8_t *width);
/* Writes n values to `to`, which has COLUMN_ROOM(n); nothing if the width is 0. The bytes written. */
size_t column_pack(uint8_t *to, const uint64_t *values, uint32_t n, uint64_t base, uint8_t width);
/*
 * Reads n values, of a width that is not 0, to `to`, which has n * width bytes. 0; -EBADMSG: these
 * len bytes are not just that.
 */
int column_unpack(const uint8_t *bytes, size_t len, uint32_t n, uint8_t width, void *to);

#endif
