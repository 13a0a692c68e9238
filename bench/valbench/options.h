/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of valbench. Main thread; read-only once threads run. */
#ifndef VALBENCH_OPTIONS_H
#define VALBENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/valbench/keys.h"

enum mode { MODE_TEXT, MODE_META, MODE_BINARY };

struct options {
	const char *server;
	enum mode mode;
	unsigned threads, connections, depth;
	struct keyspace keys;
	const char *trace;
	unsigned get_share, set_share; /* of get_share + set_share */
	bool load, fill, run, verify, tolerate, quiet, wakeup;
	double rate; /* operations a second over all connections; 0: as fast as answers come */
	double warmup_s, duration_s;
	uint64_t ops;     /* instead of a duration; 0 when timed */
	double timeout_s; /* no answer for so long is an error */
	uint64_t seed;
	unsigned idle;
	uint64_t print_trace;
	const char *json;
	int server_pid;
	const char *disk;
};

/* Fills o. 0; -EINVAL with *cause set (to be freed); 1 when --help was asked for and answered. */
int options_parse(struct options *o, int argc, char **argv, char **cause);

#endif
