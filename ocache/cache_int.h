/* SPDX-License-Identifier: Apache-2.0 */
/* Private to ocache: the cache as its files see it. */
#ifndef OCACHE_CACHE_INT_H
#define OCACHE_CACHE_INT_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/assert.h"
#include "ocache/chain.h"
#include "ocache/curve.h"
#include "ocache/iostats.h"
#include "ocache/lane.h"
#include "ocache/ocache.h"
#include "ocache/pool.h"
#include "ocache/report.h"
#include "ocache/shard.h"
#include "ocache/slow.h"
#include "ocache/timer.h"

#define OCACHE_MAGIC 0x0cac4e01u
#define SHARDS_MAX   16u
#define SHARD_BUDGET (128ull << 20) /* at least, of each when there are more than processors want */
#define SHARD_MIN    (8ull << 20)   /* at least, of each when there are several */

struct ocache {
	/* set at open, read by hits */
	uint32_t magic;
	uint32_t number; /* of count[] in the lanes */
	uint32_t shards; /* a power of two */
	uint64_t seed[2];
	struct shard *shard;
	const struct ocache_decoder *decoder;
	_Atomic uint64_t curve_below;        /* [CV-1]; 0: there is no curve */
	uint64_t hits_before, misses_before; /* of an earlier cache with this number */
	uint32_t tiers;
	uint32_t fills_max;
	uint64_t own_bytes; /* of the budget: what is not the shards' */
	bool compress;
	struct chain_tier tier[OCACHE_TIERS_MAX];
	struct timers *timers; /* with pool: if there are tiers */
	struct pool *pool;
	/* changes */
	_Alignas(64) _Atomic uint64_t budget; /* as it was asked for */
	_Atomic uint64_t uncached;
	_Atomic uint64_t boxes;       /* objects that are given out uncached */
	_Atomic uint64_t boxes_bytes; /* and their bytes */
	_Atomic uint64_t fills_due, fills, fills_failed, fills_dropped, repairs;
	_Atomic uint64_t warmed, saves, saves_failed;
	struct warm *warm; /* NULL: none */
	struct report_loads loads;
	struct report *report;
	struct curve *curve;
	struct slow_log slow;
	pthread_mutex_t busy_lock;
	pthread_cond_t busy_none;
	uint64_t busy; /* under busy_lock: loads, writes, callers that wait */
	pthread_mutex_t resize_lock;
	pthread_mutex_t save_lock; /* one file of keys is written at a time */
};

/* Accesses since it was opened. */
static inline void ocache__counts(const struct ocache *c, uint64_t *hits, uint64_t *misses)
{
	lane_counts(c->number, hits, misses);
	*hits -= c->hits_before;
	*misses -= c->misses_before;
}

/* An access that does not go the short way. number: the cache's, which may be closed by now. */
static inline void ocache__count(uint32_t number, bool hit)
{
	struct lane *ln = lane_mine();

	if (ln != NULL)
		lane_step(hit ? &ln->count[number].hits : &ln->count[number].misses);
}

static inline struct shard *ocache__shard(const struct ocache *c, uint64_t hash)
{
	return &c->shard[hash >> 60 & (c->shards - 1)];
}

/* [CV-1] */
static inline uint64_t ocache__place(uint64_t hash)
{
	return hash << 4;
}

/* Is the curve to be told of what has this hash? */
static inline bool ocache__followed(const struct ocache *c, uint64_t hash)
{
	return unlikely(ocache__place(hash) <
			atomic_load_explicit(&c->curve_below, memory_order_relaxed));
}

/* An object outside of the table, with a count of references: what the budget has no room for. */
struct box {
	_Atomic uint64_t refs;
	struct ocache *cache;
	const struct ocache_decoder *decoder;
	void *object;
	size_t size;
};

/* With one reference; NULL: no memory. */
struct box *ocache__box(struct ocache *c, const struct ocache_decoder *decoder, void *object,
			size_t size);
void ocache__box_drop(struct box *b);

/* References: the pin or the box, told apart by the lowest bit. */
static inline struct ocache_ref ocache__ref_entry(struct entry *e, _Atomic(void *) *pin)
{
	return (struct ocache_ref){e->object, e->size, (void *)pin};
}

static inline struct ocache_ref ocache__ref_box(struct box *b)
{
	return (struct ocache_ref){b->object, b->size, (char *)b + 1};
}

/* A quarter of what this process may use, by its cgroups and the machine; at least the minimum. */
uint64_t ocache__default_budget(void);

/* For tests: makes all memory that hits read read-only, or not. */
void ocache__protect(struct ocache *c, bool read_only);

#endif
