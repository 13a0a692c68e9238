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

#endif
