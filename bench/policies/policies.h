/* SPDX-License-Identifier: Apache-2.0 */
/* Private to policies: a table of miss ratios, a line for each trace and size. */
#ifndef BENCH_POLICIES_POLICIES_H
#define BENCH_POLICIES_POLICIES_H

#include "bench/sim/sim.h"

#define SHARES_MAX   8u
#define POLICIES_MAX 9u
#define LINES_MAX    256u

struct table_spec {
	double share[SHARES_MAX]; /* of a trace's distinct bytes, percent */
	unsigned shares;
	double skip; /* part of the requests that is not counted */
	const char *policies;
};

struct line {
	char trace[96];
	double share;
	uint64_t size, requests;
	struct run run[POLICIES_MAX];
};

struct table {
	struct line line[LINES_MAX];
	unsigned lines, policies;
};

/* Runs all policies on a trace at all sizes and prints as it goes. An exit status. */
int table_trace(const struct table_spec *spec, const struct trace *t, struct table *out);
/* Means, and against LRU: the mean and the worst line. */
void table_summary(const struct table *table);
/* False: it could not be written; a sentence has been printed. */
bool table_json(const struct table *table, const char *path);

/* One line about a trace's curve; it is also kept for the drawing. An exit status. */
int curve_trace(const struct trace *t, uint32_t one_in);
/* An SVG of all lines. False: it could not be written; a sentence has been printed. */
bool curve_draw(const char *file);

#endif
