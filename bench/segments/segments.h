/* SPDX-License-Identifier: Apache-2.0 */
/*
 * build/segments: what bench/readthrough measures with. One command a run, one line of JSON on stdout.
 * The segments are those of datoms/generate.h, in a folder of efs; a list has their ids, in the order in which they
 * are read.
 */
#ifndef BENCH_SEGMENTS_SEGMENTS_H
#define BENCH_SEGMENTS_SEGMENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "ocache/ocache.h"

struct options {
	const char *dir;    /* of efs */
	const char *list;   /* a file of ids */
	const char *server; /* of the memcached tier; NULL: none */
	const char *by;     /* "submit" or "get" */
	uint64_t count, seed, budget;
	uint32_t depth;       /* reads at a time */
	uint32_t threads;     /* that decode */
	uint32_t files;       /* threads of efs; 0: its default */
	uint64_t deadline_ns; /* of the memcached tier; 0: its default */
	uint64_t datoms;      /* of a database */
	bool no_fill;
};

/* Ends the program with a sentence. */
_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

struct seg_id *list_read(const char *path, uint32_t *n);
struct tier *files_open(const struct options *o);
struct tier *server_open(const struct options *o);
/* utime + stime of this process, in seconds. */
double cpu_s(void);

/* The commands; exit status. */
int make_segments(const struct options *o);
int drop_segments(const struct options *o);
int read_tier(const struct options *o); /* the server if there is one, else the files */
int decode_segments(const struct options *o);
int read_chain(const struct options *o);

#endif
