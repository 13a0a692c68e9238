/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A database made up from a seed, for tests and measurements: artists, releases, tracks, listeners
 * and what they play, put in by transactions in the order of time, some of it changed later. The
 * same seed and size give the same datoms and the same segments, on any machine.
 *
 * Pure functions, but for the cache that is written to; any thread.
 */
#ifndef DATOMS_GENERATE_H
#define DATOMS_GENERATE_H

#include "datoms/tree.h"

/* id, name, type, kept in AVET */
#define GENERATE_ATTRIBUTES(X)                                                                     \
	X(10, TX_INSTANT, INSTANT, true)                                                           \
	X(64, ARTIST_GID, STRING, true)                                                            \
	X(65, ARTIST_NAME, STRING, true)                                                           \
	X(66, ARTIST_TYPE, KEYWORD, false)                                                         \
	X(67, ARTIST_COUNTRY, REF, false)                                                          \
	X(68, ARTIST_START, LONG, false)                                                           \
	X(72, RELEASE_GID, STRING, true)                                                           \
	X(73, RELEASE_NAME, STRING, true)                                                          \
	X(74, RELEASE_ARTISTS, REF, false)                                                         \
	X(75, RELEASE_YEAR, LONG, true)                                                            \
	X(76, RELEASE_STATUS, KEYWORD, true)                                                       \
	X(80, TRACK_NAME, STRING, true)                                                            \
	X(81, TRACK_POSITION, LONG, false)                                                         \
	X(82, TRACK_DURATION, LONG, false)                                                         \
	X(83, TRACK_RELEASE, REF, false)                                                           \
	X(84, TRACK_ARTISTS, REF, false)                                                           \
	X(88, LISTENER_NAME, STRING, true)                                                         \
	X(89, LISTENER_JOINED, INSTANT, true)                                                      \
	X(90, LISTENER_COUNTRY, REF, false)                                                        \
	X(92, PLAY_TRACK, REF, false)                                                              \
	X(93, PLAY_LISTENER, REF, false)                                                           \
	X(94, PLAY_AT, INSTANT, true)                                                              \
	X(95, PLAY_SECONDS, LONG, false)

enum generate_attribute {
#define X(id, name, type, indexed) A_##name = (id),
	GENERATE_ATTRIBUTES(X)
#undef X
};

struct generated {
	uint64_t seed;
	uint64_t n;           /* about as many as were asked for */
	struct datom *datoms; /* sorted by EAVT */
	char *texts;          /* theirs */
	uint64_t entities;    /* numbers 0 to entities - 1 are in use: generate_entity() */
};

/* About n datoms, at least 1. 0 and *g; -ENOMEM. */
int generate(uint64_t seed, uint64_t n, struct generated **g);
void generate_free(struct generated *g);
/* The id of an entity by its number. */
uint64_t generate_entity(uint64_t number);

/* Those of its datoms that are in a sort, in its order; malloc'd. 0 or -ENOMEM. */
int generate_sorted(const struct generated *g, enum datom_sort sort, struct datom **datoms,
		    uint64_t *n);

/* What generate_store() has written. */
struct generate_count {
	uint32_t segments[DATOM_SORTS][SEGMENT_LEVELS];
	uint64_t bytes;
};
/*
 * Writes its four trees with ocache_put() and says where their roots are; each(), if it is not NULL, is told
 * of every segment. 0; an error of ocache_put(), or -ENOMEM.
 */
int generate_store(const struct generated *g, struct ocache *cache, struct tree_roots *roots,
		   struct generate_count *count,
		   void (*each)(void *ctx, enum datom_sort sort, enum segment_level level,
				struct seg_id id, uint32_t datoms, size_t len),
		   void *ctx);

/* ---- what is asked of it ---- */

enum generate_call { CALL_LOOKUP, CALL_ENTITY, CALL_RANGE, CALL_REFERRERS, CALLS };
extern const char *const generate_call_name[CALLS];

/*
 * The i-th call of a workload: half are point lookups, a quarter walks of an entity, the rest ranges of values
 * and referrers; popular entities are asked for more often. Its texts are g's.
 */
enum generate_call generate_call(const struct generated *g, uint64_t i, struct tree_range *range);

#endif
