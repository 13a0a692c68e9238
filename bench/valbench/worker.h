/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client thread: an epoll loop over its share of the connections.
 *
 * The main thread moves `phase` forward; a worker notices within PHASE_POLL_MS and, on entering
 *
 *   LOAD     writes the keys it draws from the shared `load_next`, then says idle
 *   WARMUP   issues operations without counting them
 *   MEASURE  empties its statistics and counts; says idle when --ops are used up
 *   DRAIN    stops counting and issuing, takes the answers that are due, then ends
 *
 * Threads: struct run is shared and atomic where it changes; everything in a worker below `run`
 * is its own until it was joined, but for what is atomic, which the main thread may read.
 */
#ifndef VALBENCH_WORKER_H
#define VALBENCH_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/valbench/conn.h"
#include "bench/valbench/options.h"

#define PHASE_POLL_MS 10

enum phase { PHASE_START, PHASE_LOAD, PHASE_WARMUP, PHASE_MEASURE, PHASE_DRAIN };

struct run {
	/* configuration */
	struct options *opt;
	/* shared state */
	_Atomic int phase;
	_Atomic uint64_t load_next;
	_Atomic int64_t ops_left;
};

struct worker {
	struct run *run;
	pthread_t thread;
	unsigned conns_count;
	struct conn *conns;
	int epfd;
	int phase;
	bool counting;
	unsigned turn; /* whose turn it is when operations are due at a rate */
	uint64_t due_ns, interval_ns;
	int64_t ops_held; /* drawn from ops_left, not yet issued */
	uint64_t load_at, load_upto;
	uint64_t heard_ns; /* when an answer last came */
	uint8_t *in, *out;
	struct conn_stats stats, discard;
	uint64_t begin_ns, end_ns;
	_Atomic int idle_in; /* the phase in which nothing is left to do */
	_Atomic uint64_t loaded;
};

/* conns are opened and given before. 0 or -errno; worker_stop() undoes it. */
int worker_start(struct worker *w, struct run *run);
/* After PHASE_DRAIN: waits for the thread's end and frees what it had, but not the statistics. */
void worker_stop(struct worker *w);

#endif
