/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics: what an operator watches of a cache, under the names that people know from Datomic, a
 * report a minute. Usable from C++.
 *
 *     static void report(void *user, const struct ocache_metrics *m)
 *     {
 *             char *line = ocache_metrics_edn(m);    // {:ObjectCache {:lo 0, :hi 1, :sum 90, ...
 *             ...
 *     }
 *     config.metrics = report;
 *
 * Which tier feeds which names is told by its key (tier.h):
 *     "valcache", "valcache-direct"   Valcache...
 *     "memcached"                     Memcache, Memcached...
 *     those with TIER_RECORD, whatever their key, and "s3", "ddb", "sql", "cass", "cass2", "dev"
 *                                     Storage...: the storage of record
 *     all others, also "efs" and "mem"   none: nobody knows a name for them. ocache_tier_stats()
 *                                     has the figures of every tier
 * Names are about all tiers that feed them together.
 *
 * Rules
 *  1. A report is about the time since the one before, or since the cache was opened: nothing is in
 *     two of them, and nothing is left out. An event counts when it ends. Durations are of reads and
 *     writes by themselves: from handing them to the tier until its answer, or until the chain stopped
 *     waiting.
 *  2. What nothing happened to has no entry. ObjectCacheCount always has one.
 *  3. The function is called without locks, on a thread of the cache's own, on that of who calls
 *     ocache_metrics(), and, for what is left, on that of ocache_close(); by the last two perhaps while
 *     another report goes on elsewhere. ocache_close() waits for it. It may call the cache, but not
 *     ocache_close(); and in the report that ocache_close() makes only ocache_stats(),
 *     ocache_tier_stats(), ocache_slow_loads() and ocache_curve().
 *  4. The report is valid until the function returns; its names are valid for ever.
 */
#ifndef OCACHE_METRICS_H
#define OCACHE_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ocache;

/*
 * name, unit, sentence. The names of a cache are sums over accesses that are 1 for a hit and 0 for a
 * miss: sum hits, count accesses, sum / count the hit ratio.
 */
#define OCACHE_METRICS(X)                                                                          \
	X(ObjectCache, "count", "accesses to the object cache; 1: a hit")                          \
	X(ObjectCacheCount, "count", "objects in the object cache, now; count is 1")               \
	X(Valcache, "count", "loads that asked a valcache; 1: it had the segment, whole")          \
	X(ValcachePutMsec, "msec", "writes to a valcache that succeeded")                          \
	X(ValcachePutFailedMsec, "msec", "writes to a valcache that failed")                       \
	X(Memcache, "count", "loads that asked memcached; 1: it had the segment, whole")           \
	X(MemcachedPutMsec, "msec", "writes to memcached that succeeded")                          \
	X(MemcachedPutFailedMsec, "msec", "writes to memcached that failed")                       \
	X(StorageGetMsec, "msec", "reads of the storage: found, not there, failed or timed out")   \
	X(StorageGetBytes, "bytes", "reads of the storage that found their segment")               \
	X(StoragePutMsec, "msec", "writes to the storage, succeeded or failed")                    \
	X(StoragePutBytes, "bytes", "writes to the storage that succeeded")                        \
	X(StorageBackoff, "msec",                                                                  \
	  "pauses before a read of the storage was tried again; count: retries")

enum ocache_metric_name {
#define X(name, unit, text) OCACHE_METRIC_##name,
	OCACHE_METRICS(X)
#undef X
	    OCACHE_METRICS_MAX
};

struct ocache_metric {
	const char *name; /* "StorageGetMsec" */
	const char *unit; /* "count", "msec", "bytes" */
	double lo, hi, sum;
	uint64_t count; /* not 0 */
};

/* A report. */
struct ocache_metrics {
	int64_t begun_ns, ended_ns; /* CLOCK_REALTIME */
	unsigned n;
	struct ocache_metric metric[OCACHE_METRICS_MAX]; /* n of them, in the order above */
};

typedef void ocache_metrics_fn(void *user, const struct ocache_metrics *report);

/*
 * A report now, on the calling thread, before this returns: to the function given, or, if that is
 * NULL, to the configuration's, whose user is then used. The next one is about what comes after. 0;
 * -EINVAL: both are NULL. Any thread; without a function in the configuration it is the only way to
 * get one.
 */
int ocache_metrics(struct ocache *cache, ocache_metrics_fn *report, void *user);

/*
 * A report as text, malloc'd: the caller frees it. NULL: no memory. Milliseconds have at most two
 * decimals; ObjectCacheCount is a number by itself, as in Datomic's log.
 *     {:ObjectCache {:lo 0, :hi 1, :sum 90, :count 100}, :ObjectCacheCount 20}
 *     {"ObjectCache": {"Lo": 0, "Hi": 1, "Sum": 90, "Count": 100}, "ObjectCacheCount": 20}
 */
char *ocache_metrics_edn(const struct ocache_metrics *report);
char *ocache_metrics_json(const struct ocache_metrics *report);

/* ---- how much memory would help ---------------------------------------------------- */

/*
 * The miss-ratio curve: the part of the accesses that would have missed with another budget. It is that
 * of LRU, which this cache's own policy misses no more than (docs/policies.md), from a sample of the
 * objects (SHARDS, Waldspurger et al., FAST 2015): mean error below 0.01 with some thousands of them,
 * 0.03 with some hundreds. Kept if config.curve_one_in is not 0, in a sixteenth of the budget or less, at
 * most 1 MiB.
 */
struct ocache_curve_point {
	uint64_t bytes; /* of objects; the cache's own memory comes on top: ocache_stats.overhead */
	double misses;  /* 0 to 1 of the accesses */
};

/* Points are 1/32 apart where something changes, from 1 KiB to 1 TiB. */
#define OCACHE_CURVE_POINTS 961u

struct ocache_curve {
	uint64_t accesses; /* that it is about */
	uint64_t objects;  /* followed, now: at most 16384 */
	double one_in;     /* of so many objects one is followed, now */
	unsigned n;
	struct ocache_curve_point point[OCACHE_CURVE_POINTS]; /* n of them, by bytes */
};

/*
 * The curve since the cache was opened, or since it was last begun anew; restart: it is begun anew
 * after this, with the objects that are followed. Any thread; 16 KB are written. 0; -ENOENT: none
 * is kept.
 */
int ocache_curve(struct ocache *cache, bool restart, struct ocache_curve *curve);
/*
 * The misses with so many bytes, between points by a straight line; 1 with none. Beyond the last
 * point nothing more is gained: what misses there was asked for once.
 */
double ocache_curve_misses(const struct ocache_curve *curve, uint64_t bytes);

/*
 * As text, malloc'd: the caller frees it. NULL: no memory. Misses have four decimals.
 *     {:accesses 3000000, :objects 2338, :one-in 128, :points [[8191 0.9312] [8703 0.9104] ...]}
 *     {"Accesses": 3000000, "Objects": 2338, "OneIn": 128, "Points": [[8191, 0.9312], ...]}
 */
char *ocache_curve_edn(const struct ocache_curve *curve);
char *ocache_curve_json(const struct ocache_curve *curve);

#ifdef __cplusplus
}
#endif

#endif
