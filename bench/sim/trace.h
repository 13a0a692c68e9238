/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A trace: a sequence of requests for keys, in memory. Read from a file or made from a seed.
 *
 * [T-1] Keys are dense numbers from 0; a key has one size for the whole trace (of a file: the size
 *       of its first request), because values are immutable.
 * [T-2] The same specification makes the same trace on every machine.
 *
 * One thread; read-only once made.
 */
#ifndef BENCH_SIM_TRACE_H
#define BENCH_SIM_TRACE_H

#include <stdint.h>

struct trace {
	char name[96];
	uint64_t n;    /* requests */
	uint32_t *key; /* n of them */
	uint32_t nkeys;
	uint32_t *size; /* bytes of the value, by key */
	uint64_t distinct_bytes, requested_bytes;
};

/*
 * A made trace.
 *   zipf   independent requests, rank r with weight r^-alpha
 *   loop   0, 1, ... keys-1, again and again
 *   scan   as zipf, but every 70,000 requests are followed by 30,000 of keys never used before
 *   walk   root, one of 1,500 directories, leaf: leaves as zipf, a leaf's directory is always the
 *          same
 *   drift  as zipf by age: rank 1 is the newest key, and every 20 requests there is a newer one
 */
struct trace_spec {
	const char *kind;
	double alpha;
	uint32_t keys;
	uint64_t requests;
	uint32_t value; /* bytes of every value; 0: log-normal, median 32 KiB, 1 KiB to 1 MiB */
	uint64_t seed;
};

/*
 * "key,bytes" a line, plain or .gz; lines beyond `limit` (if not 0) are not read. 0, or -errno with
 * a sentence in *cause (malloc'd). Nothing is left on failure.
 */
int trace_load(struct trace *t, const char *path, uint64_t limit, char **cause);
int trace_make(struct trace *t, const struct trace_spec *spec, char **cause);
void trace_free(struct trace *t);

/* For each request the number of the next one of its key, or UINT64_MAX. malloc'd; NULL: no memory.
 */
uint64_t *trace_next_uses(const struct trace *t);

#endif
