/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XXH3 of long inputs through the library, which picks the widest vectors that this CPU has at run
 * time (SSE2, AVX2, AVX-512); base/xxh.h inlines the baseline for short ones. The results are the
 * same. Any thread.
 */
#ifndef BASE_SUM_H
#define BASE_SUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t sum64(const void *data, size_t len);
void sum128(const void *data, size_t len, uint64_t out[2]);

/* A running 128-bit sum, for values that come in pieces. NULL: out of memory. */
struct sum_state;
struct sum_state *sum_new(void);
void sum_free(struct sum_state *st);
void sum_reset(struct sum_state *st);
void sum_add(struct sum_state *st, const void *data, size_t len);
void sum_digest(const struct sum_state *st, uint64_t out[2]);

/*
 * Copies to memory that is not read again soon: past the cache where the CPU can, which saves
 * reading the destination's lines first. Visible to other threads like any store, when it returns.
 */
void copy_away(void *to, const void *from, size_t len);

#endif
