/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a published io-stats sample is compared with: counts exactly; milliseconds are at least as many, and in at least
 * one of several tries within a tenth of what the tier took for its reads by its own clock. (A machine that is busy makes
 * a tier take longer than it was told, and may stop between the two clocks.)
 */
#ifndef TESTS_GOLDEN_H
#define TESTS_GOLDEN_H

#include "tests/unit/ocache_tier.h"

#define MIB   (1ull << 20)
#define TRIES 40

/* Sanitizers make it several times slower: there only counts, and that no time is too short, are checked. */
#ifdef INSTRUMENTED
#define TIMED false
#else
#define TIMED true
#endif

static inline void assert_count(const struct iostats_map *map, const char *path, double want)
{
	double got = iostats_map_number(map, path);

	if (got != want)
		fail_msg("%s is %g, not %g: %s", path, got, want, iostats_edn(map));
}

/* At least the sample's, and what the tier took; is it within a tenth of that? */
static inline bool near_enough(const struct iostats_map *map, const char *path, double want,
			       uint64_t took_ns)
{
	double got = iostats_map_number(map, path), took = (double)took_ns / NS_PER_MS;

	if (got < want - 0.02 || got < took - 0.02)
		fail_msg("%s is %g, less than %g or %g", path, got, want, took);
	return got <= took * 1.1;
}

static inline int get_one(struct ocache *c, uint64_t key, enum iostats_sort sort, bool is_dir,
			  struct iostats *io)
{
	struct ocache_hint hint = {.sort = (uint8_t)sort, .is_dir = is_dir};

	return get(c, key, &hint, io);
}

/*
 * {:dir 1 :avet 2 :valcache-direct 2 :efs 2 :efs-ms 26.27 :valcache 2 :dir-load 1 :valcache-ms 50.57
 *  :avet-load 2 :ocache 2}
 */
static inline bool is_cold_lookup(const struct iostats_map *map, uint64_t valcache_ns,
				  uint64_t efs_ns)
{
	bool good;

	assert_count(map, "reads dir", 1);
	assert_count(map, "reads dir-load", 1);
	assert_count(map, "reads avet", 2);
	assert_count(map, "reads avet-load", 2);
	assert_count(map, "reads valcache-direct", 2);
	assert_count(map, "reads valcache", 2);
	assert_count(map, "reads efs", 2);
	assert_count(map, "reads ocache", 2);
	good = near_enough(map, "reads valcache-ms", 50.57, valcache_ns);
	return near_enough(map, "reads efs-ms", 26.27, efs_ns) && good;
}

/* {:aevt 607 :aevt-load 414 :ocache 607 :dev 212 :dev-ms 304.1} */
static inline bool is_half_cold_query(const struct iostats_map *map, uint64_t dev_ns)
{
	assert_count(map, "reads ocache", 607);
	assert_count(map, "reads aevt", 607);
	assert_count(map, "reads dev", 212);
	assert_true(iostats_map_number(map, "reads aevt-load") <= 414);
	/* on a busy machine a segment may have come before it was asked for */
	return near_enough(map, "reads dev-ms", 304.1, dev_ns) &&
	       iostats_map_number(map, "reads aevt-load") == 414;
}

/* The same query again: {:aevt 405 :ocache 405} */
static inline void assert_warm_query(struct ocache *c)
{
	struct iostats *io = iostats_begin("query", "artist/avg-name-length", NULL);
	struct iostats_map *map;

	for (uint64_t key = 0; key < 405; key++)
		assert_int_equal(get_one(c, key, IOSTATS_AEVT, false, io), 0);
	map = iostats_end(&io);
	assert_count(map, "reads aevt", 405);
	assert_count(map, "reads ocache", 405);
	assert_false(iostats_map_has(map, "reads aevt-load"));
	assert_false(iostats_map_has(map, "reads dev"));
	assert_false(iostats_map_has(map, "reads dev-ms"));
	iostats_map_free(map);
}

#endif
