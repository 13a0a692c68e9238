/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments of an index: up to 65,535 sorted datoms in columns. Leaves hold the datoms; dirs hold
 * for each of their children its first datom and its id; a root is a dir of dirs.
 *
 * The bytes, little endian. They have no checksum: what carries them (base/envelope.h) has.
 *
 *      0  u8   version, 1              8  5 x u32  datoms by the type of their value; n is the sum
 *      1  u8   level                  28  u32      distinct texts (values of strings and keywords)
 *      2  u8   sort                   32  u32      bytes of these
 *      3  u8   0                      36  u32      0
 *      4  u32  n, 1 to 65,535         40  10 x column: u64 base, u32 bytes, u8 width, 3 x 0
 *    200  the columns (column.h), in the order of their heads:
 *             e           n values
 *             a           n
 *             t           n, each the complement of the transaction, so that it ascends
 *             added       n, 0 or 1
 *             type        n, enum value_type
 *             long        of each long, in the order of the datoms: n with its top bit inverted
 *             instant     of each instant, the same
 *             ref         of each ref
 *             text        of each string and keyword: which of the distinct texts
 *             text length of each distinct text
 *         the distinct texts, ascending, one behind the other
 *         of a dir: n ids of 16 bytes, as a UUID's
 *
 * A column whose values are all the same has width 0 and no bytes.
 *
 * Threads: pure functions; a decoded segment does not change, and any number of threads may read it.
 * Errors: 0 or -errno; a failed call leaves nothing.
 */
#ifndef DATOMS_SEGMENT_H
#define DATOMS_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datoms/column.h"
#include "datoms/datom.h"
#include "ocache/ocache.h"

#define SEGMENT_DATOMS_MAX 65535u
#define SEGMENT_TEXT_MAX   4096u /* bytes of one string or keyword */
#define SEGMENT_HEAD       200u

enum segment_level { SEGMENT_LEAF, SEGMENT_DIR, SEGMENT_ROOT, SEGMENT_LEVELS };

/* A segment as an object: one piece of memory, in which everything points. */
struct segment {
	enum segment_level level;
	enum datom_sort sort;
	uint32_t n;
	struct column e, a, t, added, type;
	struct column number[3]; /* by type: long, instant, ref */
	struct column text;
	const uint16_t *slot;    /* a datom's place in its type's column; NULL: its own number */
	const uint32_t *text_at; /* of text i: texts + text_at[i], up to text_at[i + 1] */
	const char *texts;
	uint32_t texts_count;
	const struct seg_id *child; /* n ids; NULL: a leaf */
};

/* ---- reading ---- */

/*
 * Makes an object of bytes that may come from anywhere; *size is the memory that it takes. 0;
 * -EBADMSG; -ENOMEM. Whether the datoms are sorted is not looked at (segment_ordered): in those that
 * are not a search finds the wrong place, and nothing else happens.
 */
int segment_decode(const void *bytes, size_t len, struct segment **segment, size_t *size);
void segment_free(struct segment *segment);
/* The same for a cache; the object is a struct segment. */
extern const struct ocache_decoder segment_decoder;

/* Datom i, below n. Its text is the segment's, and valid as long. */
void segment_datom(const struct segment *s, uint32_t i, struct datom *d);
/*
 * The first datom that is not below key by the first `parts` (0 to 4) parts of the sort; n: all
 * are. With `past` the first that is above it. So both are the ends of what equals it.
 */
uint32_t segment_search(const struct segment *s, const struct datom *key, unsigned parts,
			bool past);
/* Do the datoms ascend, none twice? */
bool segment_ordered(const struct segment *s);

/* ---- writing ---- */

/*
 * Writes a segment of n datoms, which ascend in the sort, and for a dir their children's ids (else NULL). *bytes
 * is malloc'd. 0; -EINVAL: n, a type, the length of a text, or the order are not as said above; -ENOMEM.
 */
int segment_encode(enum segment_level level, enum datom_sort sort, const struct datom *datoms,
		   const struct seg_id *children, uint32_t n, void **bytes, size_t *len);

#endif
