/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log-bucket latency histogram: 64 octaves of 16 buckets, so a reported value is at most 1/16
 * (6.25 %) above the true one; values below 16 are exact. One writer per histogram (counts are
 * plain relaxed atomics, so readers on other threads see a consistent-enough picture); merge to
 * read many. Value 0 to 2^63; units are the caller's (ours: nanoseconds).
 */
#ifndef BASE_HIST_H
#define BASE_HIST_H

#include <stdatomic.h>
#include <stdint.h>

#define HIST_SUB     16
#define HIST_BUCKETS (61 * HIST_SUB)

struct hist {
	_Atomic uint64_t count, sum, max;
	_Atomic uint64_t bucket[HIST_BUCKETS];
};

static inline unsigned hist_index(uint64_t v)
{
	unsigned oct;

	if (v < HIST_SUB)
		return (unsigned)v;
	oct = 63u - (unsigned)__builtin_clzll(v); /* >= 4 */
	return (oct - 3) * HIST_SUB + (unsigned)((v >> (oct - 4)) & (HIST_SUB - 1));
}

static inline void hist_bump_(_Atomic uint64_t *c, uint64_t by)
{
	/* one writer: no locked instruction needed */
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

/* Owner thread only. */
static inline void hist_add(struct hist *h, uint64_t v)
{
	hist_bump_(&h->bucket[hist_index(v)], 1);
	hist_bump_(&h->count, 1);
	hist_bump_(&h->sum, v);
	if (v > atomic_load_explicit(&h->max, memory_order_relaxed))
		atomic_store_explicit(&h->max, v, memory_order_relaxed);
}

/* The highest value of a bucket. */
uint64_t hist_top(unsigned index);
/* Adds all of from to the caller's own histogram into. */
void hist_merge(struct hist *into, const struct hist *from);
/* into := into - before, for intervals; max then has the bound of a quantile. */
void hist_subtract(struct hist *into, const struct hist *before);
/* Upper edge of the bucket that holds the q-quantile (0 < q <= 1), never above max; 0 if empty. */
uint64_t hist_quantile(const struct hist *h, double q);

#endif
