/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What cache policies make of a trace, in memory: simulators, and libocache's real object cache.
 * Used by replay (beside the store) and by policies.
 *
 * Everything is measured twice: over the whole trace, and from request `skip` on, when the cache is
 * full and its hit ratio no longer rises.
 *
 * One thread.
 */
#ifndef BENCH_SIM_SIM_H
#define BENCH_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "bench/sim/trace.h"

/* A span of the trace. */
struct tally {
	uint64_t gets, hits, hits_ram;
	uint64_t get_bytes, hit_bytes; /* of values */
	uint64_t sets, set_bytes;      /* of values, after a miss */
	uint64_t device_bytes; /* written, by the store's own count; a simulator: set_bytes */
	uint64_t kernel_bytes; /* written, by /sys/block; 0: not asked for */
};

/* A policy with a byte budget on a trace. */
struct run {
	const char *name;       /* of the policy */
	uint64_t size;          /* byte budget */
	struct tally all, late; /* whole trace; from skip on */
	uint64_t overhead;      /* of size at the end, bytes that are no values; a simulator: 0 */
	double seconds;
};

/*
 * Simulators of policies with perfect accounting: a budget of value bytes, nothing for keys,
 * headers or tables. Each returns false if there is no memory. A value larger than the budget is
 * never kept.
 */
typedef bool sim_fn(const struct trace *t, uint64_t budget, uint64_t skip, struct run *r);

sim_fn sim_lru, sim_fifo;
/* One recency bit, a hand: CLOCK keeps the order of arrival by moving what was used to the front;
 * SIEVE leaves it where it is. */
sim_fn sim_clock, sim_sieve;
sim_fn sim_s3fifo, sim_tinylfu;
/*
 * Belady's MIN: keeps what is needed soonest, does not take in what is needed later than all it
 * has. The optimum where values are of equal size; else a strong bound, but not the optimum (which
 * is NP-hard).
 */
sim_fn sim_min;

/*
 * The object cache of libocache. sim_ocache: it has this budget for everything, as its user gives
 * it. sim_ocache_net: it is given what its own memory takes on top, so that the bytes of values are
 * the simulators'. False: it could not be opened.
 */
sim_fn sim_ocache, sim_ocache_net;

/*
 * LRU at every size at once: the least budget with which each request would have hit, sorted;
 * UINT64_MAX for the first of each key. malloc'd; NULL: no memory. And how many of n hit with a budget.
 */
uint64_t *stack_distances(const struct trace *t);
uint64_t stack_hits(const uint64_t *distance, uint64_t n, uint64_t bytes);

/* Compares the simulators with brute force on small random traces. Prints, returns failures. */
unsigned check_simulators(uint64_t seed);

/* printf into malloc'd memory; NULL: no memory. */
char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A trace's name without quotes, for JSON. */
void json_name(FILE *f, const char *name);

/* Finaliser of SplitMix64: a bijection that scatters. */
static inline uint64_t mix64(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static inline double ratio(uint64_t a, uint64_t b)
{
	return b == 0 ? 0 : (double)a / (double)b;
}

static inline void tally_get(struct run *r, bool late, uint32_t bytes, bool hit)
{
	for (struct tally *y = &r->all;; y = &r->late) {
		y->gets++;
		y->get_bytes += bytes;
		y->hits += hit;
		y->hit_bytes += hit ? bytes : 0;
		if (y == &r->late || !late)
			return;
	}
}

static inline void tally_set(struct run *r, bool late, uint32_t bytes)
{
	r->all.sets++;
	r->all.set_bytes += bytes;
	if (late) {
		r->late.sets++;
		r->late.set_bytes += bytes;
	}
}

#endif
