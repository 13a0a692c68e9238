/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to replay: what its files share. The first lap into a fresh file flatters the device
 * writes and spoils the hit ratio of every policy, so figures are given twice (sim.h).
 */
#ifndef BENCH_REPLAY_REPLAY_H
#define BENCH_REPLAY_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/sim/sim.h"
#include "valcached/store/store.h"

struct result {
	struct run run;
	/* the store's only: */
	bool real;
	uint64_t wrong; /* values with a wrong byte, sets that were refused */
	struct store_counters counters;
	uint64_t recycled, reinserted;
	uint64_t items; /* there at the end */
};

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

#endif
