/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to replay: what its files share.
 *
 * Everything is measured twice: over the whole trace, and from request `skip` on, when the store is
 * full and its hit ratio no longer rises (the first lap into a fresh file flatters the device
 * writes and spoils the hit ratio of every policy).
 */
#ifndef BENCH_REPLAY_REPLAY_H
#define BENCH_REPLAY_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/replay/trace.h"
#include "valcached/store/store.h"

/* A span of the trace. */
struct tally {
	uint64_t gets, hits, hits_ram;
	uint64_t get_bytes, hit_bytes; /* of values */
	uint64_t sets, set_bytes;      /* of values, after a miss */
	uint64_t device_bytes; /* written, by the store's own count; a simulator: set_bytes */
	uint64_t kernel_bytes; /* written, by /sys/block; 0: not asked for */
};

struct result {
	const char *name;       /* of the policy */
	uint64_t size;          /* byte budget */
	struct tally all, late; /* whole trace; from skip on */
	double seconds;
	/* the store's only: */
	bool real;
	uint64_t wrong; /* values with a wrong byte, sets that were refused */
	struct store_counters counters;
	uint64_t recycled, reinserted;
	uint64_t items; /* there at the end */
};

/*
 * Simulators of policies with perfect accounting: a budget of value bytes, nothing for keys,
 * headers or tables. Each returns false if there is no memory. A value larger than the budget is
 * never kept.
 */
bool sim_lru(const struct trace *t, uint64_t budget, uint64_t skip, struct result *r);
bool sim_fifo(const struct trace *t, uint64_t budget, uint64_t skip, struct result *r);
/*
 * Belady's MIN: keeps what is needed soonest, does not take in what is needed later than all it
 * has. The optimum where values are of equal size; else a strong bound, but not the optimum (which
 * is NP-hard).
 */
bool sim_min(const struct trace *t, uint64_t budget, uint64_t skip, struct result *r);

/*
 * The object cache of libocache, which has this budget for everything. False: it could not be
 * opened.
 */
bool sim_ocache(const struct trace *t, uint64_t budget, uint64_t skip, struct result *r);

/* Compares the simulators with brute force on small random traces. Prints, returns failures. */
unsigned check_simulators(uint64_t seed);

/* The real store. */
struct drive {
	const char *path;
	uint64_t size, ram;
	enum store_admit admit;
	unsigned depth;   /* requests in flight */
	const char *disk; /* name in /sys/block, or NULL */
	/* at request skip the store is stopped and started again: from what */
	enum reboot { REBOOT_NONE, REBOOT_SHM, REBOOT_DISK, REBOOT_LOST } reboot;
	bool keep; /* leave the file there */
	uint64_t seed;
	bool progress;
};
/* 0, or -errno with a sentence in *cause. r->wrong > 0 is a result, not an error. */
int drive_store(const struct trace *t, const struct drive *d, uint64_t skip, struct result *r,
		char **cause);

void report_table(const struct trace *t, const struct result *r, unsigned n);
bool report_json(const char *path, const struct trace *t, const struct result *r, unsigned n,
		 uint64_t skip);
/* Draws hit ratio against device writes by gnuplot: FILE.svg and FILE.png, data in FILE.dat. */
bool report_plot(const char *stem, const struct trace *t, const struct result *r, unsigned n);

/* A line that redraws on a terminal; silent elsewhere. done == total ends it. */
void progress(const char *what, uint64_t done, uint64_t total);

/* printf into malloc'd memory; NULL: no memory. */
char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Finaliser of SplitMix64: a bijection that scatters. */
static inline uint64_t mix64(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static inline void tally_get(struct result *r, bool late, uint32_t bytes, bool hit)
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

static inline void tally_set(struct result *r, bool late, uint32_t bytes)
{
	r->all.sets++;
	r->all.set_bytes += bytes;
	if (late) {
		r->late.sets++;
		r->late.set_bytes += bytes;
	}
}

#endif
