/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. A file of ids, in order:
 *
 *     block  4096 bytes, little-endian   | magic | number | count | sum | 254 ids of 16 bytes |
 *
 * Each block is believed by itself, if its magic, its number (0, 1, 2 ... in the file) and the XXH3-64 of its bytes,
 * with 0 for the sum, are right: of a file that was cut or damaged the rest is read.
 */
#ifndef OCACHE_KEYS_H
#define OCACHE_KEYS_H

#include "ocache/tier.h"

#define KEYS_BLOCK 4096u
#define KEYS_IDS   254u

struct keys_block {
	uint64_t magic;
	uint32_t number, count;
	uint64_t sum;
	uint64_t zero;
	struct seg_id id[KEYS_IDS];
};
_Static_assert(sizeof(struct keys_block) == KEYS_BLOCK, "a page");

/* Writes n ids to a new file that takes the place of path when it is whole. 0 or -errno. */
int keys_write(const char *path, const struct seg_id *id, uint64_t n);
/* The next block of an open file; one that is not good has count 0. 1, 0 at the end, or -errno. */
int keys_read(int fd, uint32_t number, struct keys_block *b);

#endif
