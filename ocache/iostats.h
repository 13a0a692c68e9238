/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io-stats: for one call of an API, how many segments it touched, of which index, and from which
 * tier they came and how long that took. Usable from C++.
 *
 *     struct iostats *io = iostats_begin("query", "artist/by-name", NULL);
 *     ... ocache_get(cache, id, &hint, io, &ref) on one or many threads ...
 *     struct iostats_map *map = iostats_end(&io);
 *     char *line = iostats_edn(map);      // {:io-context :artist/by-name, :api :query, ...}
 *
 * Contexts
 *  1. A context is an argument, never a hidden property of a thread. Every call that takes one also
 *     takes NULL and then counts nothing.
 *  2. It is counted by references: iostats_begin() gives one, iostats_hold() another, each is given
 *     back by iostats_drop() or, once, by iostats_end(). Loads and prefetches that outlive the call
 *     hold one of their own.
 *  3. Any number of threads may count in one context at a time; each counts in a lane of its own,
 *     without locks or shared lines, and lanes are added when they are read. iostats_snapshot()
 *     sees everything that happened before it (in the sense of threads that were joined or
 *     signalled).
 *  4. A context that was begun with a parent is nested: when it ends, what it counted is added to
 *     the parent's reads; if it has an io-context, it is also added to the parent's :nested under
 *     that name, where calls of one name are summed (counts, milliseconds, and what is nested in
 *     them). Without an io-context it is seen in the parent's sums only, and so is its own :nested.
 *     The parent lives at least until its last child has ended: a child holds a reference.
 *  5. What is counted in a context after it has ended (a load that its asker did not wait for) is
 *     dropped.
 *
 * What is counted (the keys of :reads)
 *     :ocache              accesses through the object cache; the sum of the sorts and of what had
 *                          no sort. There is no :ocache-ms
 *     :eavt :aevt :avet :vaet    accesses by index sort
 *     :dir                 of all accesses, those to directory nodes; each is also one of its sort
 *     :eavt-load ... :dir-load   of these, those that were not in the object cache
 *     :<tier> :<tier>-ms   reads that reached this tier, whether it had the segment or not; so
 *                          counts never grow from a tier to the next. A tier that is not there has
 *                          no key. Milliseconds are summed over threads
 *     :inflight-lookup-ms  time spent waiting for a segment that somebody else was loading. Who
 *                          does is charged the access and the load, but no read of a tier
 *     :deserialize :deserialize-ms   segments decoded
 * A count of zero has no key; nor has a time that rounds to 0.00 ms. A context tells 16 tiers
 * apart; what comes from more is summed as :other-tiers.
 *
 * Errors: calls that return pointers return NULL when there is no memory; counting itself never
 * fails: without memory for a new lane it takes a lock and counts in a shared one.
 */
#ifndef OCACHE_IOSTATS_H
#define OCACHE_IOSTATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct iostats;

enum iostats_sort {
	IOSTATS_NO_SORT,
	IOSTATS_EAVT,
	IOSTATS_AEVT,
	IOSTATS_AVET,
	IOSTATS_VAET,
};

/*
 * Starts the clock of a call. api: "query", "qseq", "pull", "pull-many", "tx", "tx-with" or a name
 * of your own; io_context: a qualified name such as "artist/by-name", or NULL; both without the
 * colon, at most IOSTATS_NAME_MAX bytes, copied. parent: the context of the call that this one is
 * part of, or NULL. NULL: no memory, or a name that is no keyword (letters, digits and
 * * + ! - _ ' ? < > = . #, one "/" inside).
 */
#define IOSTATS_NAME_MAX 127u
struct iostats *iostats_begin(const char *api, const char *io_context, struct iostats *parent);

/* One reference more; returns io. */
struct iostats *iostats_hold(struct iostats *io);
/*
 * Gives a reference back. The last one frees it. A context that never ended tells its parent
 * nothing.
 */
void iostats_drop(struct iostats *io);

/*
 * Stops the clock, adds what was counted to the parent, gives the caller's reference back (*io is
 * NULL after) and returns the io-stats map, which the caller frees. Once per context. NULL: *io was, or no
 * memory for the map; all else is done. iostats_finish() is the same for who wants no map.
 */
struct iostats_map;
struct iostats_map *iostats_end(struct iostats **io);
void iostats_finish(struct iostats **io);

/* The map as it is now, while the call goes on; :api-ms is the time so far. */
struct iostats_map *iostats_snapshot(struct iostats *io);

/*
 * ---- counting: what a cache and its tiers call; people who write tiers need none of it
 * ------------
 */

/* One access. load: it was not in the cache. A few instructions. */
void iostats_access(struct iostats *io, enum iostats_sort sort, bool is_dir, bool load);
/* `reads` reads of the tier with this key took ns in all. */
void iostats_tier(struct iostats *io, const char *key, uint64_t reads, uint64_t ns);
void iostats_inflight(struct iostats *io, uint64_t ns);
void iostats_deserialize(struct iostats *io, uint64_t segments, uint64_t ns);

/* ---- maps --------------------------------------------------------------------- */

/*
 * An io-stats map as data, ordered, with string and keyword keys. From iostats_end(), or read from
 * text; keys that this library does not know are kept, in their place. Immutable: any thread may
 * read one. NULL is a map in which nothing is found. A path is the names of keys without their colons, with a blank between: "reads efs-ms",
 * "nested transfer/check-auth api-ms".
 */
void iostats_map_free(struct iostats_map *map); /* NULL is fine */
/* The number under a path; 0 if there is none: absent counts are zero. */
double iostats_map_number(const struct iostats_map *map, const char *path);
bool iostats_map_has(const struct iostats_map *map, const char *path);
/*
 * A string, keyword or symbol under a path, without its colon; NULL: none. Valid as long as the
 * map.
 */
const char *iostats_map_name(const struct iostats_map *map, const char *path);
/*
 * Calls each() for every entry of the map under path ("" is the map itself); false: it is no map.
 */
bool iostats_map_each(const struct iostats_map *map, const char *path,
		      void (*each)(void *ctx, const char *key, double number), void *ctx);

/*
 * The text of a map, malloc'd: the caller frees it. NULL: no memory, or the map is NULL.
 *
 * EDN as Datomic Pro logs it: {:io-context :artist/by-name, :api :query, :api-ms 105.08, :reads
 * {...}}. JSON as Datomic Cloud logs it: Pascal-case keys and keywords ("ValcacheDirectMs", and
 * "DbTx" for :db/tx). Milliseconds have at most two decimals, and none that are zero.
 */
char *iostats_edn(const struct iostats_map *map);
char *iostats_json(const struct iostats_map *map);

/*
 * Reads one value, with blanks around it, strictly; text need not end in a zero byte. 0 and *map;
 * -EINVAL: it is not a map in that form, or more follows, or it is nested more than 64 deep;
 * -ENOMEM. A text written by iostats_edn() and read by iostats_edn_read() is written the same
 * again; so with JSON. Between the two forms keywords lose their namespace ("DbTx" comes back as
 * :db-tx), as in Cloud's own logs; in JSON strings and keywords look alike, so reading makes
 * keywords of the values of Api and IoContext, and of keys, and strings of the rest.
 */
int iostats_edn_read(const char *text, size_t len, struct iostats_map **map);
int iostats_json_read(const char *text, size_t len, struct iostats_map **map);

#ifdef __cplusplus
}
#endif

#endif
