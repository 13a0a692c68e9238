/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. The tiers of a cache as it sees them: what each may cost, how each does, and
 * whether it is asked at all.
 *
 * The breaker of a tier
 *
 *     CLOSED --`breaker` failures in a row--> OPEN --its time is over--> one read tries it
 *       ^                                      ^                              |
 *       |                                      +-- it fails: for twice as long
 *       +---------------- it succeeds ----------------------------------------+
 *
 * A miss is a success.
 *
 * Fills and repairs of a tier are capped, at a time and by the second: a hundred processes that come up cold over
 * one shared tier, or find all of it damaged, write what it bears, and leave out the rest. Who reads is not held up by
 * that.
 *
 * Everything here may be called by any thread.
 */
#ifndef OCACHE_CHAIN_H
#define OCACHE_CHAIN_H

#include <pthread.h>

#include "base/hist.h"
#include "ocache/meter.h"
#include "ocache/ocache.h"

/* Which metrics a tier feeds, by its key; see metrics.h. */
enum chain_kind { CHAIN_OTHER, CHAIN_VALCACHE, CHAIN_MEMCACHED, CHAIN_STORAGE, CHAIN_KINDS };

/* Since they were taken last. */
struct chain_meters {
	struct meter get_ns, get_bytes, put_ns, put_failed_ns, put_bytes, backoff_ns;
};

struct chain_latency {
	struct hist read, write;
};

struct chain_tier {
	struct tier *tier;
	const char *key;
	uint64_t deadline_ns, breaker_ns;
	uint32_t tries, breaker;
	bool fill, record, verifies;
	uint32_t fills_max;
	uint64_t fill_gap_ns; /* from one to the next on the average; 0: none */
	enum chain_kind kind;
	pthread_mutex_t lock;
	/* under lock: */
	struct ocache_tier_stats stats; /* but for what is worked out when it is asked */
	struct chain_latency *latency;
	struct chain_meters meters;
	uint32_t failed_in_a_row;
	uint32_t opened;       /* times since it last worked */
	int64_t open_until_ns; /* 0: closed */
	bool trying;           /* open, and one read is out */
	int64_t fill_next_ns;  /* when the next fill would come, were they in even steps */
};

/* Takes over the settings, not yet the tier. 0, -EINVAL with a sentence in *cause, or -ENOMEM. */
int chain_tier_open(struct chain_tier *t, const struct ocache_tier *cfg, char **cause);
/* Frees what is ours. */
void chain_tier_close(struct chain_tier *t);

/* May a read go there now? Each yes is followed by one chain_answer() or chain_timeout(). */
bool chain_allows(struct chain_tier *t, int64_t now_ns);
/* A read that was waited for has ended: with this status, after ns, with bytes. */
void chain_answer(struct chain_tier *t, int status, uint64_t ns, uint64_t bytes);
/* A read is not waited for any longer; and its answer, later. */
void chain_timeout(struct chain_tier *t, uint64_t ns);
/* The cache is closing: a read is not waited for, which says nothing about the tier. */
void chain_gave_up(struct chain_tier *t);
void chain_late(struct chain_tier *t);
void chain_damaged(struct chain_tier *t);
/*
 * May a segment be written to it in the background now? Counted either way; each yes is followed by one
 * chain_fill_end().
 */
bool chain_fill_begin(struct chain_tier *t, int64_t now_ns);
void chain_fill_end(struct chain_tier *t);
/* A read that failed will be tried again, after ns. */
void chain_backs_off(struct chain_tier *t, uint64_t ns);
/* A write has ended: with this status, after ns, of bytes. */
void chain_written(struct chain_tier *t, int status, uint64_t ns, uint64_t bytes);
void chain_stats(struct chain_tier *t, struct ocache_tier_stats *stats);
void chain_histogram(struct chain_tier *t, bool writes, struct ocache_latency *out);
/* The meters, which are zero then. */
void chain_take(struct chain_tier *t, struct chain_meters *meters);

#endif
