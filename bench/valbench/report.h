/* SPDX-License-Identifier: Apache-2.0 */
/* The figures of a run, as a table for people and as JSON. Main thread, after the workers ended. */
#ifndef VALBENCH_REPORT_H
#define VALBENCH_REPORT_H

#include <stdio.h>

#include "bench/valbench/options.h"
#include "bench/valbench/watch.h"
#include "bench/valbench/worker.h"

struct report {
	const struct options *opt;
	struct conn_stats stats; /* measured phase, all workers */
	double rate;             /* operations a second, summed over workers */
	double seconds;          /* longest worker */
	uint64_t wrong_values, protocol_errors, lost, server_errors; /* of all phases */
	uint64_t loaded;
	double load_s;
	struct watch_sample load_seen, seen;
};

void report_collect(struct report *r, struct worker *workers, unsigned n);
/* Whether anything went wrong that makes the run fail. */
bool report_failed(const struct report *r);
void report_table(const struct report *r, FILE *f);
void report_json(const struct report *r, FILE *f, int argc, char **argv);
/* s as a JSON string, quoted */
void report_json_string(FILE *f, const char *s);

#endif
