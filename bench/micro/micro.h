/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Micro-benchmarks in C, run by Google Benchmark (harness.cc). A file of this folder fills a table
 * and says MICRO_TABLE(table) once; harness and Makefile need no change.
 *
 * Rounds of all benchmarks alternate, and the summary gives the median of the rounds of each, and
 * its ratio to the peer that it names: so both sides of a ratio come from the same run.
 *
 * Threads: everything runs on the main thread.
 */
#ifndef BENCH_MICRO_MICRO_H
#define BENCH_MICRO_MICRO_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct micro {
	const char *name; /* "index/hit"; also what --benchmark_filter matches */
	const char *peer; /* name of the benchmark this one is compared with, or NULL */
	double ratio_max; /* the goal for time / peer's time; 0: none */
	uint64_t batch;   /* operations per call of run; enough to hide the call, > 100 ns */
	uint64_t bytes;   /* per operation, for a bytes/s column; 0: none */
	/* Before the first round; 0 or -errno. Tables may share what they set up. */
	int (*setup)(void **state);
	/* Does n operations. Returns something that depends on all results. */
	uint64_t (*run)(void *state, uint64_t n);
	void (*teardown)(void *state); /* or NULL */
};

void micro_register(const struct micro *table, size_t n);

#define MICRO_TABLE(table)                                                                         \
	__attribute__((constructor)) static void micro_register_table(void)                        \
	{                                                                                          \
		micro_register(table, sizeof(table) / sizeof((table)[0]));                         \
	}

#ifdef __cplusplus
}
#endif

#endif
