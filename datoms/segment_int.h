/* SPDX-License-Identifier: Apache-2.0 */
/* Private to datoms. Where things lie in a segment's bytes; the picture is in segment.h. */
#ifndef DATOMS_SEGMENT_INT_H
#define DATOMS_SEGMENT_INT_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#include "datoms/segment.h"

#define SEGMENT_VERSION 1u

enum {
	AT_VERSION,
	AT_LEVEL,
	AT_SORT,
	AT_ZERO,
	AT_N,
	AT_COUNTS = 8,
	AT_TEXTS = 28,
	AT_TEXT_BYTES = 32,
	AT_ZEROS = 36,
	AT_COLUMNS = 40
};

enum segment_column {
	COL_E,
	COL_A,
	COL_T,
	COL_ADDED,
	COL_TYPE,
	COL_LONG,
	COL_INSTANT,
	COL_REF,
	COL_TEXT,
	COL_TEXT_LEN,
	COLS
};

#define COLUMN_HEAD 16u
#define SIGN        (1ull << 63) /* inverted in longs and instants: they are in order as unsigned */

_Static_assert(AT_COLUMNS + COLS * COLUMN_HEAD == SEGMENT_HEAD, "the head's picture");
_Static_assert(AT_COUNTS + VALUE_TYPES * 4 == AT_TEXTS, "a count for each type");

static inline uint32_t get4(const uint8_t *at)
{
	uint32_t v;

	memcpy(&v, at, sizeof v);
	return le32toh(v);
}

static inline uint64_t get8(const uint8_t *at)
{
	uint64_t v;

	memcpy(&v, at, sizeof v);
	return le64toh(v);
}

static inline void put4(uint8_t *at, uint32_t v)
{
	v = htole32(v);
	memcpy(at, &v, sizeof v);
}

static inline void put8(uint8_t *at, uint64_t v)
{
	v = htole64(v);
	memcpy(at, &v, sizeof v);
}

#endif
