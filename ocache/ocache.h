/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ocache: decoded segments in the memory of this process, and behind them a chain of tiers (tier.h)
 * that are asked, nearest first, for what is not there. For every call an account of where its
 * segments came from can be kept (iostats.h). Usable from C++.
 *
 *     struct ocache *cache;
 *     char *cause;
 *     if (ocache_open(&config, &cache, &cause) != 0) ... cause is a sentence; free(cause)
 *     struct ocache_ref ref;
 *     if (ocache_get(cache, id, &hint, io, &ref) == 0) {
 *             use(ref.object);
 *             ocache_release(&ref);
 *     }
 *     ocache_close(&cache);
 *
 * Segments never change: an id has one value for ever, so nothing here is ever stale.
 *
 * Threads: every call may be made from any thread, several at a time, but open and close of one
 * cache. Nothing needs to be registered. A child of fork() may not use a cache of its parent.
 *
 * Errors are 0 or -errno. A failed call changes nothing and sets no output but *cause.
 *
 * Lifetime
 *  1. A reference (struct ocache_ref) keeps its object valid until it is released, exactly once, by
 *     any thread. It may be held for minutes: it holds back that one object and nothing else.
 *  2. The struct is the caller's; it may be copied, and one of the copies is released. Objects are
 *     shared by all who have references: they are read, not written.
 *  3. What the caller passes in (config, hints, wants, keys) is copied before the call returns, but
 *     for decoders and tiers, which are kept until ocache_close() has returned 0.
 *  4. An io-stats context is held by loads for as long as they need it.
 */
#ifndef OCACHE_OCACHE_H
#define OCACHE_OCACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "iostats.h"
#include "metrics.h"
#include "tier.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ocache;

/* ---- what a segment becomes ------------------------------------------------------ */

/*
 * Makes an object of a segment's bytes. Both functions are called without locks, on a thread that
 * waits for the object or on one of the cache's own; several at a time; never on a thread that does
 * I/O.
 */
struct ocache_decoder {
	void *ctx;
	/*
	 * 0 with the object, which is not NULL, and the bytes of memory that it takes, its
	 * allocator's overhead included as well as is known: that is what counts against the
	 * budget; 0 counts as 1. Or -ENOMEM; or -EBADMSG (any other): this is no such object. bytes are valid
	 * during the call. The chain then looks farther, and what a farther tier has replaces it. While none
	 * has, it stays where it is: bytes that are as they were written are not dropped for a decoder's word.
	 * May call ocache_get() for another id, not for the same.
	 */
	int (*decode)(void *ctx, struct seg_id id, const void *bytes, size_t len, void **object,
		      size_t *size);
	/*
	 * Once for each object, when nobody can see it any more; calls nothing of the same cache.
	 */
	void (*destroy)(void *ctx, void *object);
};

/* What the decoder of who names none makes: the bytes themselves. */
struct ocache_bytes {
	size_t len;
	const unsigned char *data;
};
const struct ocache_decoder *ocache_bytes_decoder(void);

/* ---- opening --------------------------------------------------------------------- */

/* A tier in a cache's chain. Zeros are the defaults. */
struct ocache_tier {
	struct tier *tier;    /* the cache's from now on: closed with it */
	uint64_t deadline_ns; /* one load waits so long for it, tries again included; 1 s */
	uint32_t tries;       /* of a read that fails, with pauses of at most 2 s between; 2 */
	uint32_t breaker;     /* so many failed reads in a row and it is left out; 5 */
	uint64_t breaker_ns;  /* for so long, then one read tries it; doubled up to 16 times; 1 s */
	bool no_fill;         /* what came from farther away is not written to it */
	/*
	 * What is written to it in the background, for what it lacked or had damaged: so many at a time (0: 64), and
	 * so many in a second (0: any number). What is above is left out and counted, and so is all while the breaker
	 * keeps it out; it is filled when it is asked the next time.
	 */
	uint32_t fills, fills_per_s;
};

struct ocache_config {
	size_t struct_size; /* sizeof(struct ocache_config): later versions add fields at the end */
	/*
	 * Bytes for objects and the cache's own memory. Beside it are loads and writes in flight, with their
	 * bytes; objects in the moment in which a thread destroys them; and objects that are given out uncached,
	 * which `used` then has above the budget. 0: a quarter of the memory that the process
	 * may use (its cgroup's limit, or the machine's).
	 *
	 * When it is opened, the cache is divided into 1, 2, 4, 8 or 16 parts with a lock each: up to twice as
	 * many as there are processors of at least 8 MiB each, and more of at least 128 MiB. A part has its share of the budget; an
	 * object that is larger is given out uncached.
	 */
	uint64_t budget;
	const struct ocache_tier *tiers; /* nearest first */
	unsigned tiers_count;            /* at most OCACHE_TIERS_MAX; 0: a cache of what is added */
	const struct ocache_decoder
	    *decoder;     /* for hints without one; NULL: ocache_bytes_decoder() */
	unsigned threads; /* of its own, that decode what nobody waits for; at most 256; 0: 2 */
	unsigned fills;   /* writes to nearer tiers that may be due at a time; 0: 256 */
	bool compress;    /* ocache_put() packs with zstd what gets smaller by it */
	/*
	 * Warm start: a file that the process may write, and no other cache uses. What the process before
	 * had in its cache is loaded in the background from the open on, as by ocache_warm(); when that is
	 * done the ids are saved every keys_save_ns (0: ten minutes) and at close; if most could not be loaded,
	 * because tiers failed, not at a close before the first is due. A file that is not there is made. NULL: none.
	 */
	const char *keys_file;
	uint64_t keys_save_ns;
	unsigned warm_loads; /* as ocache_warm.loads */
	uint64_t slow_ns;    /* loads that take longer are in ocache_slow_loads(); 0: 100 ms */
	/* metrics.h: called with metrics_user every so often, and at close; NULL: by nobody */
	ocache_metrics_fn *metrics;
	void *metrics_user;
	uint64_t metrics_every_ns; /* 0: a minute */
	/*
	 * metrics.h: the miss-ratio curve follows one object in so many, 128 for instance. 0: there is
	 * no curve. An access of an object that is followed takes a lock and a third of a microsecond.
	 */
	uint32_t curve_one_in;
};

#define OCACHE_TIERS_MAX 8u

/*
 * config NULL: all defaults. 0; -EINVAL (with what is wrong), -ENOMEM, -ENFILE (64 caches are
 * open), -EAGAIN (no more threads may be started). cause may be NULL; else on failure it is a sentence, malloc'd, or NULL without memory.
 * After a failure the tiers are still the caller's.
 */
int ocache_open(const struct ocache_config *config, struct ocache **cache, char **cause);

/*
 * Ends loads in flight with -ECANCELED for who waits for them, waits until their tiers have given
 * the reads back, ends the cache's threads, closes the tiers and frees everything; *cache is NULL
 * then. No call may begin when this has begun; those that wait return before it does. -EBUSY:
 * references are still held. Then loads have ended, and the only calls allowed are ocache_release()
 * and this again. *cache NULL: 0.
 */
int ocache_close(struct ocache **cache);

/* ---- reading --------------------------------------------------------------------- */

struct ocache_ref {
	const void *object;
	size_t size; /* as the decoder said */
	void *hold_; /* the library's */
};

#define OCACHE_CACHED_ONLY                                                                         \
	1u                /* hint.flags: what is not in the cache is -ENOENT; nothing is loaded */
#define OCACHE_NO_FILL 2u /* what is loaded is not written to nearer tiers */

/* What the caller knows of a segment. NULL or zeros where a call takes one: nothing. */
struct ocache_hint {
	const struct ocache_decoder *decoder; /* NULL: the config's */
	int64_t
	    deadline_ns; /* the caller's own, absolute, CLOCK_MONOTONIC; 0: as long as it takes */
	uint8_t sort;    /* enum iostats_sort */
	bool is_dir;
	uint16_t flags;
};

/*
 * The object of a segment: from the cache, or loaded. An id has one object; the decoder that came
 * first made it. One load a key at a time, which belongs to none of those who wait for it: it has
 * its tiers' deadlines, each who waits his own, and one that times out leaves it to the others.
 *
 * 0 and *ref; -ENOENT: the storage of record, or every tier, says that there is none; -ETIMEDOUT:
 * the caller's deadline has passed, or the last tier's that could have had it; -EIO and other
 * errors of tiers: none had it and at least one could not tell; -EBADMSG: what was found is damaged
 * everywhere; -ENOMEM; -ECANCELED: the cache is being closed.
 *
 * If references held by others fill the budget, the object is given all the same, uncached. What a
 * storage of record had before the call, because ocache_put() of this cache had returned 0, is found,
 * also by who joins a load that began before.
 */
int ocache_get(struct ocache *cache, struct seg_id id, const struct ocache_hint *hint,
	       struct iostats *io, struct ocache_ref *ref);

/*
 * Gives a reference back; any thread; ref->object is NULL then. Nothing happens if it is already.
 */
void ocache_release(struct ocache_ref *ref);

/* One of many that are wanted at once. */
struct ocache_want {
	struct seg_id id;
	struct ocache_hint hint;
};

/*
 * The answer for wants[index] of ocache_submit(): a status as of ocache_get(), and for 0 a
 * reference, which the callee owns. Called once for each, without locks: before ocache_submit() has
 * returned for what is in the cache; an object on one of the cache's threads or one that waits in
 * ocache_get(); a failure also on a thread of a tier. It must not block, nor call ocache_get() (it
 * may submit).
 */
typedef void ocache_done_fn(void *user, unsigned index, int status, struct ocache_ref *ref);

/*
 * Asks for many without waiting. The hints' deadlines count, and deadline_ns (0: none) for those
 * that have none. 0, or -ENOMEM: then done was and will be called for none.
 */
int ocache_submit(struct ocache *cache, const struct ocache_want *wants, unsigned n,
		  int64_t deadline_ns, struct iostats *io, ocache_done_fn *done, void *user);

/*
 * The same for nobody: what is not in the cache is loaded into it, charged to io. Accesses and
 * loads of who asks for it meanwhile are charged to him. Best effort: 0.
 */
int ocache_prefetch(struct ocache *cache, const struct ocache_want *wants, unsigned n,
		    struct iostats *io);

/* ---- writing --------------------------------------------------------------------- */

/*
 * The writer's path: hands a new segment to the tiers. Returns when the storage of record (every
 * tier with TIER_RECORD) has it; the others get it in the background, as far as fills have room.
 * deadline_ns is absolute, CLOCK_MONOTONIC; 0: as long as it takes.
 * Without a storage of record 0 means that it is on its way, best effort. Nothing is put in the
 * cache. 0; -E2BIG: above 256 MiB; -EROFS: no tier can write; -ETIMEDOUT (it may have been written); -ENOMEM; an error of
 * the tier.
 */
int ocache_put(struct ocache *cache, struct seg_id id, const void *bytes, size_t len,
	       int64_t deadline_ns);

/*
 * Adds an object that the caller has made, of `size` bytes; it is the cache's from now on, whatever
 * is returned: destroyed by decoder->destroy when nobody sees it any more. 0; -EEXIST: the id has
 * an object already, this one is destroyed; -ENOMEM (destroyed). With ref a reference to the object
 * that is there now, for 0 and -EEXIST.
 */
int ocache_add(struct ocache *cache, struct seg_id id, const struct ocache_decoder *decoder,
	       void *object, size_t size, struct ocache_ref *ref);

/*
 * Drops an object from the cache, not from the tiers. Was it there? References stay valid. Its
 * memory is freed soon after the last of them, with that of others.
 */
bool ocache_forget(struct ocache *cache, struct seg_id id);

/*
 * A new budget; evicts at once what no longer fits. The number of parts stays. If the cache's own memory (entries, tables)
 * is more than half of the new budget, everything is evicted, and that memory is given back when the last reference is
 * gone. 0, or -EINVAL below OCACHE_BUDGET_MIN.
 */
#define OCACHE_BUDGET_MIN (1u << 20)
int ocache_resize(struct ocache *cache, uint64_t budget);

/* ---- warm start ------------------------------------------------------------------ */

/*
 * Writes the ids of the objects in the cache that the config's decoder has made to a file, the most
 * used first: 16 bytes each. The file at path is the old one or the new one, whatever happens
 * (path.new is written first). *saved, if it is not NULL: how many. Calls of others go on. 0; -ENOMEM or
 * an error of the file, with *cause (NULL, or a sentence, malloc'd).
 */
int ocache_save(struct ocache *cache, const char *path, uint64_t *saved, char **cause);

struct ocache_warm {
	size_t struct_size; /* sizeof(struct ocache_warm) */
	uint64_t bytes;     /* stop at so many bytes of objects; 0: nine tenths of what fits */
	unsigned loads;     /* so many at a time; 0: 32 */
};

/*
 * Loads what such a file names, in its order, until it is at its end, or the cache or `bytes` is
 * full; returns then. They are accesses, charged to io. What cannot be loaded is passed by; so is what is
 * damaged in the file. how NULL: all defaults. *loaded, if it is not NULL: how many objects. 0;
 * -ENOENT: there is no file; -EBADMSG: no part of it is such a file; -EINVAL: struct_size; another
 * error of the file. cause as above. Not to be called in a done().
 */
int ocache_warm(struct ocache *cache, const char *path, const struct ocache_warm *how,
		struct iostats *io, uint64_t *loaded, char **cause);

/* ---- watching -------------------------------------------------------------------- */

/*
 * name, sentence. Counters since open, but for those that say "now". In all of them references are
 * counted when they are given, so hits + misses is the number of accesses.
 */
#define OCACHE_STATS(X)                                                                            \
	X(hits, "accesses that found their object")                                                \
	X(misses, "accesses that did not")                                                         \
	X(joined, "of the misses, those that waited for a load of somebody else")                  \
	X(loads, "loads that were begun")                                                          \
	X(loads_failed, "loads that ended without an object")                                      \
	X(loads_now, "now: loads in flight")                                                       \
	X(timeouts, "accesses that gave up at their own deadline")                                 \
	X(added, "objects that came into the cache")                                               \
	X(evicted, "objects that made room for others")                                            \
	X(forgotten, "objects dropped by ocache_forget()")                                         \
	X(uncached,                                                                                \
	  "objects given out without being cached: references filled the budget, or too large")    \
	X(objects_now, "now: objects in the cache")                                                \
	X(budget, "now: bytes that may be used")                                                   \
	X(used, "now: bytes of all objects not yet freed, and of the cache's own memory")          \
	X(resident, "now: of these, bytes of objects in the cache")                                \
	X(leaving, "now: bytes of objects evicted and not yet freed: references hold them")        \
	X(overhead, "now: bytes of the cache's own memory")                                        \
	X(fills, "writes of segments to nearer tiers")                                             \
	X(fills_failed, "of these, those that failed")                                             \
	X(fills_dropped, "writes that were left out: too many, or to a tier that fails")           \
	X(repairs, "segments that a tier had damaged, dropped there and written again")            \
	X(slow, "loads that took longer than config.slow_ns")                                      \
	X(warmed, "objects loaded by the warm start; set when it has ended")                       \
	X(saves, "times that the keys file was written")                                           \
	X(saves_failed, "times that it could not be")

struct ocache_stats {
#define X(name, text) uint64_t name;
	OCACHE_STATS(X)
#undef X
};
/* struct_size: sizeof(struct ocache_stats); what the library does not know is left as it is. */
void ocache_stats(struct ocache *cache, struct ocache_stats *stats, size_t struct_size);

#define OCACHE_TIER_STATS(X)                                                                       \
	X(reads, "reads it was asked for, tries counted once each")                                \
	X(hits, "reads it had the segment for")                                                    \
	X(misses, "reads it had none for")                                                         \
	X(failures, "reads that ended otherwise, time-outs among them")                            \
	X(timeouts, "reads that were not waited for any longer")                                   \
	X(late, "of these, those that it has given back since")                                    \
	X(skipped, "loads that passed it by because its breaker was open")                         \
	X(damaged, "segments it had that were not what they should be")                            \
	X(bytes, "bytes read")                                                                     \
	X(writes, "segments written")                                                              \
	X(writes_failed, "writes that failed")                                                     \
	X(in_flight, "now: reads that it has")                                                     \
	X(breaker_open, "now: 1 while it is left out")                                             \
	X(read_ns, "time of all reads that were waited for")                                       \
	X(read_ns_p50, "median of these times, at most 1/16 too high")                             \
	X(read_ns_p99, "99 % of them are below this; the same error")                              \
	X(read_ns_max, "the longest")                                                              \
	X(bytes_written, "bytes written")                                                          \
	X(write_ns, "time of all writes, those that failed among them")                            \
	X(write_ns_p50, "median of these times; the same error")                                   \
	X(write_ns_p99, "99 % of them are below this; the same error")                             \
	X(write_ns_max, "the longest")                                                             \
	X(retries, "pauses after a read that failed, before it was tried again")                   \
	X(fills, "writes to it in the background, of what it lacked or had damaged")               \
	X(fills_dropped, "of these, left out: over a cap, or its breaker was open")                \
	X(fills_now, "now: those that it has, or that are due")

struct ocache_tier_stats {
	char key[TIER_KEY_MAX + 1];
#define X(name, text) uint64_t name;
	OCACHE_TIER_STATS(X)
#undef X
};
/*
 * Of the tier with this place in the chain, from 0. 0, or -ENOENT: there is none. When no read is in
 * flight, reads = hits + misses + failures, and the times are of all of them.
 */
int ocache_tier_stats(struct ocache *cache, unsigned tier, struct ocache_tier_stats *stats,
		      size_t struct_size);

/*
 * All of a tier's times, for who wants other percentiles, or adds up processes: how many reads (or
 * writes) took at most so long, and longer than the bucket before. Buckets are a sixteenth of their
 * values wide or less, so a time is at most 1/16 less than its bucket says; below 16 ns it is exact.
 */
#define OCACHE_LATENCY_BUCKETS 976u
struct ocache_latency {
	uint64_t count, sum_ns, max_ns; /* since the cache was opened */
	unsigned n;
	struct {
		uint64_t ns, count;       /* neither is 0 but the first ns */
	} bucket[OCACHE_LATENCY_BUCKETS]; /* n of them, by ns */
};
/* 0, or -ENOENT: there is no such tier. Any thread; 16 KB are written. */
int ocache_tier_latency(struct ocache *cache, unsigned tier, bool writes,
			struct ocache_latency *latency);
/* So much of them, 0 < part <= 1, took at most this, or up to 1/16 less. 0: there are none. */
uint64_t ocache_latency_quantile(const struct ocache_latency *latency, double part);

/* A load that took long, and where its time went. What is not in the sum was waiting. */
struct ocache_slow {
	int64_t ended_ns; /* CLOCK_REALTIME */
	struct seg_id id;
	uint64_t ns;        /* from its begin to its end */
	uint64_t decode_ns; /* verifying, unpacking, decoding */
	int status;         /* 0 or -errno: what who waited was told */
	char
	    io_context[64]; /* of who began it, cut to this length; else its api; "": no io-stats */
	unsigned tiers;     /* of those below: the tiers that were asked, in order */
	struct {
		char key[TIER_KEY_MAX + 1];
		uint32_t reads; /* tries */
		int32_t status; /* of the last */
		uint64_t ns;    /* of all */
	} tier[OCACHE_TIERS_MAX];
};

/*
 * The latest of the last 64 loads that took longer than config.slow_ns, the newest first, at most n.
 * struct_size: sizeof(struct ocache_slow). Returns how many; stats.slow counts all. Its 28 KB
 * are a part of `overhead` from the beginning.
 */
unsigned ocache_slow_loads(struct ocache *cache, struct ocache_slow *slow, unsigned n,
			   size_t struct_size);
/* One as a line of text, without a line end. Returns its length, as snprintf() does. */
int ocache_slow_line(const struct ocache_slow *slow, char *line, size_t room);

#ifdef __cplusplus
}
#endif

#endif
