/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes Warm start: what is saved is loaded by the next, the most used first; files that are cut, damaged,
 * foreign or not there; by itself, at open and close; closing in the middle of it.
 */
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ocache/keys.h"
#include "tests/unit/ocache_tier.h"
#include "tests/unit/root_dir.h"

#define MIB  (1ull << 20)
#define KEYS 3000u

static struct fake *tier;

static struct ocache *cache_with(const char *keys_file, uint64_t every_ns, uint64_t budget)
{
	struct ocache_tier chain;
	struct ocache_config cfg = {.struct_size = sizeof cfg,
				    .budget = budget,
				    .tiers = &chain,
				    .tiers_count = 1,
				    .decoder = &object_decoder,
				    .keys_file = keys_file,
				    .keys_save_ns = every_ns};
	struct ocache *c = NULL;

	tier = fake_new("efs", TIER_RECORD);
	fake_set(tier, 0, KEYS, FAKE_GOOD);
	chain = (struct ocache_tier){.tier = &tier->tier, .deadline_ns = 30 * NS_PER_S};
	assert_int_equal(ocache_open(&cfg, &c, NULL), 0);
	return c;
}

static void fill(struct ocache *c)
{
	for (uint64_t key = 0; key < KEYS; key++)
		assert_int_equal(get(c, key, NULL, NULL), 0);
}

static unsigned count(struct ocache *c)
{
	const struct ocache_hint cached = {.flags = OCACHE_CACHED_ONLY};
	unsigned n = 0;

	for (uint64_t key = 0; key < KEYS; key++)
		n += get(c, key, &cached, NULL) == 0;
	return n;
}

static void saved_and_loaded(void **state)
{
	struct ocache *c = cache_with(NULL, 0, 32 * MIB);
	struct object *foreign = object_new(id_of(3500), 200);
	static const struct ocache_decoder other = {NULL, object_decode, object_destroy};
	uint64_t saved = 0, loaded = 0;
	struct stat st;

	(void)state;
	fill(c);
	/* of another decoder: nobody could make it again */
	assert_int_equal(ocache_add(c, id_of(3500), &other, foreign, 200, NULL), 0);
	assert_int_equal(ocache_save(c, file("keys"), &saved, NULL), 0);
	assert_int_equal(saved, KEYS);
	assert_int_equal(stat(file("keys"), &st), 0);
	assert_int_equal(st.st_size, (KEYS + KEYS_IDS - 1) / KEYS_IDS * KEYS_BLOCK);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(access(file("keys.new"), F_OK), -1);
	cache_close(c);

	c = cache_with(NULL, 0, 32 * MIB);
	assert_int_equal(ocache_warm(c, file("keys"), NULL, NULL, &loaded, NULL), 0);
	assert_int_equal(loaded, KEYS);
	assert_int_equal(count(c), KEYS);
	assert_int_equal(tier->reads, KEYS);
	/* again: all is there, nothing is read */
	assert_int_equal(ocache_warm(c, file("keys"), NULL, NULL, &loaded, NULL), 0);
	assert_int_equal(tier->reads, KEYS);
	cache_close(c);
}

/* What is used comes first, and the limit is kept. */
static void most_used_first(void **state)
{
	struct ocache_warm how = {.struct_size = sizeof how, .bytes = 300000, .loads = 4};
	struct ocache *c = cache_with(NULL, 0, 32 * MIB);
	uint64_t loaded = 0, used = 0, resident;

	(void)state;
	fill(c);
	for (uint64_t key = 1000; key < 1060; key++)
		assert_int_equal(get(c, key, NULL, NULL), 0);
	assert_int_equal(ocache_save(c, file("keys"), NULL, NULL), 0);
	cache_close(c);
	c = cache_with(NULL, 0, 32 * MIB);
	assert_int_equal(ocache_warm(c, file("keys"), &how, NULL, &loaded, NULL), 0);
	resident = stats_of(c).resident;
	for (uint64_t key = 1000; key < 1060; key++) {
		const struct ocache_hint cached = {.flags = OCACHE_CACHED_ONLY};

		used += get(c, key, &cached, NULL) == 0;
	}
	assert_int_equal(used, 60);
	assert_in_range(loaded, 60, 400);
	assert_in_range(resident, how.bytes, how.bytes + 5 * 5200); /* loads that were out */
	cache_close(c);
	/* a budget that is smaller than what is saved: no eviction */
	c = cache_with(NULL, 0, 2 * MIB);
	assert_int_equal(ocache_warm(c, file("keys"), NULL, NULL, &loaded, NULL), 0);
	assert_true(loaded > 100);
	assert_int_equal(stats_of(c).evicted, 0);
	cache_close(c);
}

static void change(const char *path, off_t at)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char b;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &b, 1, at), 1);
	b = (char)(b ^ 4);
	assert_int_equal(pwrite(fd, &b, 1, at), 1);
	close(fd);
}

static uint64_t warm_with(int want)
{
	struct ocache *c = cache_with(NULL, 0, 32 * MIB);
	uint64_t loaded = 0;
	char *cause = NULL;

	assert_int_equal(ocache_warm(c, file("keys"), NULL, NULL, &loaded, &cause), want);
	assert_int_equal(cause != NULL, want != 0);
	if (cause != NULL)
		assert_non_null(strstr(cause, file("keys")));
	free(cause);
	assert_int_equal(count(c), loaded);
	cache_close(c);
	return loaded;
}

static void bad_files(void **state)
{
	struct ocache *c = cache_with(NULL, 0, 32 * MIB);
	struct ocache_warm how = {0};
	char *cause = NULL;
	int fd;

	(void)state;
	fill(c);
	assert_int_equal(ocache_warm(c, file("keys"), &how, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(ocache_save(c, file("keys"), NULL, NULL), 0);
	/* a directory that is not there, one in the file's place, a name that is too long */
	assert_int_equal(ocache_save(c, file("none/keys"), NULL, &cause), -ENOENT);
	assert_non_null(strstr(cause, "none/keys: No such file"));
	free(cause);
	assert_int_equal(mkdir(file("dir"), 0700), 0);
	assert_int_equal(ocache_save(c, file("dir"), NULL, NULL), -EISDIR);
	assert_int_equal(access(file("dir.new"), F_OK), -1);
	/* a link in the new file's place is not followed */
	assert_int_equal(symlink("/etc/hostname", file("link.new")), 0);
	assert_int_equal(ocache_save(c, file("link"), NULL, NULL), -ELOOP);
	cache_close(c);

	assert_int_equal(warm_with(0), KEYS);
	change(file("keys"), KEYS_BLOCK + 2000); /* an id of the second block */
	assert_int_equal(warm_with(0), KEYS - KEYS_IDS);
	change(file("keys"), 12); /* the first one's count */
	assert_int_equal(warm_with(0), KEYS - 2 * KEYS_IDS);
	assert_int_equal(truncate(file("keys"), 5 * KEYS_BLOCK - 1), 0);
	assert_int_equal(warm_with(0), 2 * KEYS_IDS);
	assert_int_equal(truncate(file("keys"), 2 * KEYS_BLOCK), 0);
	assert_int_equal(warm_with(-EBADMSG), 0);
	assert_int_equal(truncate(file("keys"), 0), 0);
	assert_int_equal(warm_with(0), 0); /* of an empty cache */
	fd = open(file("keys"), O_WRONLY | O_CLOEXEC);
	assert_int_equal(write(fd, "no keys at all\n", 15), 15);
	close(fd);
	assert_int_equal(warm_with(-EBADMSG), 0); /* not even a block */
	assert_int_equal(unlink(file("keys")), 0);
	assert_int_equal(warm_with(-ENOENT), 0);
	/* what has no end */
	assert_int_equal(symlink("/dev/zero", file("keys")), 0);
	assert_int_equal(warm_with(-EBADMSG), 0);
	assert_int_equal(unlink(file("keys")), 0);
	assert_int_equal(mkfifo(file("keys"), 0600), 0);
	assert_int_equal(warm_with(-EBADMSG), 0);
	assert_int_equal(unlink(file("keys")), 0);
	assert_int_equal(mkdir(file("keys"), 0700), 0);
	assert_int_equal(warm_with(-EISDIR), 0);
	assert_int_equal(rmdir(file("keys")), 0);
}

/* A file of terabytes in which nothing is: close does not wait for its end. */
static void closed_in_a_large_file(void **state)
{
	struct ocache *c;
	int fd = open(file("large"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)1 << 42), 0);
	assert_int_equal(close(fd), 0);
	c = cache_with(file("large"), 0, 32 * MIB);
	cache_close(c);
	assert_int_equal(truncate(file("large"), 0), 0);
}

static void by_itself(void **state)
{
	struct ocache *c = cache_with(file("self"), 0, 32 * MIB);
	struct stat st;

	(void)state;
	fill(c);
	cache_close(c);
	assert_int_equal(stat(file("self"), &st), 0);
	c = cache_with(file("self"), 20 * NS_PER_MS, 32 * MIB);
	WAIT_FOR(stats_of(c).warmed == KEYS);
	assert_int_equal(count(c), KEYS);
	assert_int_equal(tier->reads, KEYS);
	/* and now and then */
	WAIT_FOR(stats_of(c).saves >= 3);
	assert_int_equal(stats_of(c).saves_failed, 0);
	cache_close(c);
	c = cache_with(file("nowhere/self"), 10 * NS_PER_MS, 32 * MIB);
	WAIT_FOR(stats_of(c).saves_failed >= 2);
	cache_close(c);
}

/* Two saves under one name, as by hand while the cache does so by itself: each leaves a whole file. */
static void *saves_to_one(void *arg)
{
	char path[160];

	snprintf(path, sizeof path, "%s/one", root);
	for (unsigned i = 0; i < 100; i++)
		AZ(ocache_save(arg, path, NULL, NULL));
	return NULL;
}

static void saved_by_two(void **state)
{
	struct ocache *c = cache_with(NULL, 0, 32 * MIB);
	uint64_t loaded = 0;
	pthread_t t[2];

	(void)state;
	fill(c);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, saves_to_one, c), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	cache_close(c);
	c = cache_with(NULL, 0, 32 * MIB);
	assert_int_equal(ocache_warm(c, file("one"), NULL, NULL, &loaded, NULL), 0);
	assert_int_equal(loaded, KEYS);
	cache_close(c);
}

/* [WM-1], [WM-2] A tier that does not answer: close does not wait for it, and the file stays. */
static void closed_while_it_loads(void **state)
{
	struct ocache *c = cache_with(file("hung"), 0, 32 * MIB);
	uint64_t begin;

	(void)state;
	fill(c);
	cache_close(c);
	c = cache_with(file("hung"), 0, 32 * MIB);
	WAIT_FOR(stats_of(c).warmed == KEYS); /* the file is whole */
	cache_close(c);
	{
		struct fake *f = fake_new("efs", TIER_RECORD);
		struct ocache_tier chain = {.tier = &f->tier, .deadline_ns = 30 * NS_PER_S};
		struct ocache_config cfg = {.struct_size = sizeof cfg,
					    .budget = 32 * MIB,
					    .tiers = &chain,
					    .tiers_count = 1,
					    .decoder = &object_decoder,
					    .keys_file = file("hung"),
					    .warm_loads = 7};

		FAKE_SET(f, hold, true);
		assert_int_equal(ocache_open(&cfg, &c, NULL), 0);
		WAIT_FOR(FAKE_GET(f, held_n) == 7);
		begin = clock_ns();
		cache_close(c);
		assert_true(clock_ns() - begin < 5 * NS_PER_S);
	}
	c = cache_with(file("hung"), 0, 32 * MIB);
	WAIT_FOR(stats_of(c).warmed == KEYS);
	cache_close(c);
}

/* [WM-1] A process that lives while its tiers are away has nothing to save, and leaves the file. */
static void closed_while_tiers_are_away(void **state)
{
	struct ocache *c = cache_with(file("away"), 0, 32 * MIB);

	(void)state;
	fill(c);
	cache_close(c);
	{
		struct fake *f = fake_new("efs", TIER_RECORD);
		struct ocache_tier chain = {.tier = &f->tier, .tries = 1};
		struct ocache_config cfg = {.struct_size = sizeof cfg,
					    .budget = 32 * MIB,
					    .tiers = &chain,
					    .tiers_count = 1,
					    .decoder = &object_decoder,
					    .keys_file = file("away")};

		FAKE_SET(f, fail, -ECONNREFUSED);
		assert_int_equal(ocache_open(&cfg, &c, NULL), 0);
		WAIT_FOR(stats_of(c).loads_failed == KEYS);
		/* for the thread to come to the end of it; if it does not, nothing is saved either */
		nanosleep(&(struct timespec){0, 30000000}, NULL);
		assert_int_equal(stats_of(c).warmed, 0);
		cache_close(c);
	}
	c = cache_with(file("away"), 0, 32 * MIB);
	WAIT_FOR(stats_of(c).warmed == KEYS);
	cache_close(c);
}

/* Keys by Zipf's law with exponent 0.9, shuffled; the cache has room for a third of them. */
static double hit_ratio(struct ocache *c, uint64_t *x, unsigned n)
{
	static double sum[FAKE_KEYS];
	struct ocache_stats before = stats_of(c), after;

	for (unsigned k = 0; k < FAKE_KEYS && sum[FAKE_KEYS - 1] == 0; k++)
		sum[k] = (k > 0 ? sum[k - 1] : 0) + pow(k + 1, -0.9);
	for (unsigned i = 0; i < n; i++) {
		unsigned lo = 0, hi = FAKE_KEYS - 1;
		double at;

		*x = *x * 6364136223846793005u + 1442695040888963407u;
		at = (double)(*x >> 11) / 9007199254740992.0 * sum[FAKE_KEYS - 1];
		while (lo < hi) {
			unsigned mid = (lo + hi) / 2;

			if (sum[mid] < at)
				lo = mid + 1;
			else
				hi = mid;
		}
		assert_int_equal(get(c, lo * 1193 % FAKE_KEYS, NULL, NULL), 0);
	}
	after = stats_of(c);
	return (double)(after.hits - before.hits) / n;
}

static void hit_ratio_is_back(void **state)
{
	struct ocache *c = cache_with(file("zipf"), 0, 4 * MIB);
	double old, cold, warm;
	uint64_t x = 42;

	(void)state;
	fake_set(tier, 0, FAKE_KEYS, FAKE_GOOD);
	(void)hit_ratio(c, &x, 50000);
	old = hit_ratio(c, &x, 20000);
	cache_close(c);
	c = cache_with(NULL, 0, 4 * MIB);
	fake_set(tier, 0, FAKE_KEYS, FAKE_GOOD);
	cold = hit_ratio(c, &x, 2000);
	cache_close(c);
	c = cache_with(NULL, 0, 4 * MIB);
	fake_set(tier, 0, FAKE_KEYS, FAKE_GOOD);
	assert_int_equal(ocache_warm(c, file("zipf"), NULL, NULL, NULL, NULL), 0);
	warm = hit_ratio(c, &x, 2000);
	cache_close(c);
	print_message("hit ratio of 2000 accesses: %.3f warm, %.3f cold; before, %.3f\n", warm,
		      cold, old);
	assert_true(warm >= 0.9 * old);
	assert_true(cold < 0.9 * old); /* else this shows nothing */
}

/* Saving, loading, resizing, forgetting and asking at once; for the sanitizers. */
static void *saves(void *arg)
{
	char arg_file[160];

	snprintf(arg_file, sizeof arg_file, "%s/by-hand", root);
	for (unsigned i = 0; i < 30; i++) {
		assert_int_equal(ocache_save(arg, arg_file, NULL, NULL), 0);
		if (i % 3 == 0)
			assert_int_equal(ocache_warm(arg, arg_file, NULL, NULL, NULL, NULL), 0);
	}
	return NULL;
}

static void all_at_once(void **state)
{
	struct ocache *c = cache_with(file("all"), 3 * NS_PER_MS, 4 * MIB);
	pthread_t thread;
	uint64_t x = 1;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, saves, c), 0);
	for (unsigned i = 0; i < 30000; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		assert_int_equal(get(c, (x >> 33) % KEYS, NULL, NULL), 0);
		if (i % 64 == 0)
			(void)ocache_forget(c, id_of((x >> 40) % KEYS));
		if (i % 1000 == 0)
			assert_int_equal(ocache_resize(c, i % 2000 == 0 ? 2 * MIB : 4 * MIB), 0);
	}
	pthread_join(thread, NULL);
	cache_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(saved_and_loaded),
	    cmocka_unit_test(most_used_first),
	    cmocka_unit_test(bad_files),
	    cmocka_unit_test(by_itself),
	    cmocka_unit_test(saved_by_two),
	    cmocka_unit_test(closed_while_it_loads),
	    cmocka_unit_test(closed_while_tiers_are_away),
	    cmocka_unit_test(closed_in_a_large_file),
	    cmocka_unit_test(hit_ratio_is_back),
	    cmocka_unit_test(all_at_once),
	};

	return cmocka_run_group_tests_name("ocache-warm", tests, make_root, remove_root);
}
