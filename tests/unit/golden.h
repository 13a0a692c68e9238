/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a published io-stats sample is compared with: counts exactly, milliseconds within a tenth, in at least one of
 * several tries (a machine that is busy makes them longer, never shorter).
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

/* At least what the tier took; is it within a tenth? */
static inline bool near_enough(const struct iostats_map *map, const char *path, double want)
{
	double got = iostats_map_number(map, path);

	if (got < want - 0.02)
		fail_msg("%s is %g, less than %g", path, got, want);
	return got <= want * 1.1;
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
static inline bool is_cold_lookup(const struct iostats_map *map)
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
	good = near_enough(map, "reads valcache-ms", 50.57);
	return near_enough(map, "reads efs-ms", 26.27) && good;
}

#endif
