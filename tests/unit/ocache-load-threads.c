/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes limit=300 Eight threads do everything to a cache that is too small, over tiers
 * that fail, hang, answer late and hold damaged values. What is given is right, nobody waits for
 * ever, and at the end the accounts agree.
 */
#include "tests/unit/ocache_tier.h"

#define MIB     (1ull << 20)
#define THREADS 8
#define KEYS    2000u

static unsigned steps = 6000;
static struct ocache *cache;
static struct fake *near, *far;
static struct iostats *io;
static _Atomic uint64_t wanted, answered, gets, failed;
static _Atomic bool over;
static pthread_mutex_t path_lock = PTHREAD_MUTEX_INITIALIZER;

static void on_answer(void *user, unsigned index, int status, struct ocache_ref *ref)
{
	(void)index;
	if (status == 0)
		object_check(ref, id_of((uint64_t)(uintptr_t)user));
	ocache_release(ref);
	atomic_fetch_add(&answered, 1);
}

/* What is called now and then. */
static void seldom(uint64_t x)
{
	struct ocache_warm how = {.struct_size = sizeof how, .loads = 4, .bytes = 20000};
	struct iostats *own = iostats_begin("warm", NULL, NULL);
	struct ocache_slow slow[8];
	char line[400], path[300];
	struct ocache_ref ref;
	uint64_t n;

	snprintf(path, sizeof path, "%s/keys",
		 getenv("TEST_TMP") != NULL ? getenv("TEST_TMP") : "/tmp");
	pthread_mutex_lock(&path_lock); /* a file is one caller's at a time */
	assert_int_equal(ocache_save(cache, path, &n, NULL), 0);
	if (n > 0)
		assert_int_equal(ocache_warm(cache, path, &how, own, &n, NULL), 0);
	(void)remove(path);
	pthread_mutex_unlock(&path_lock);
	for (unsigned i = ocache_slow_loads(cache, slow, 8, sizeof slow[0]); i-- > 0;)
		assert_true(ocache_slow_line(&slow[i], line, sizeof line) > 0);
	if (ocache_get(cache, id_of(x % KEYS), NULL, own, &ref) == 0)
		ocache_release(&ref);
	iostats_map_free(iostats_end(&own));
}

static void *everything(void *arg)
{
	uint64_t x = (uint64_t)(uintptr_t)arg * 99 + 7;
	struct ocache_ref held[8] = {{0}};
	uint64_t key_of[8] = {0};

	for (unsigned i = 0; i < steps; i++) {
		struct ocache_hint hint = {.sort = IOSTATS_EAVT};
		struct ocache_want want = {.hint = hint};
		unsigned what, slot;
		uint64_t key;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		what = (unsigned)(x >> 33) % 100;
		slot = (unsigned)(x >> 41) % 8;
		key = (x >> 44) % KEYS;
		key = key * key / KEYS;
		if (held[slot].object != NULL) {
			object_check(&held[slot], id_of(key_of[slot]));
			ocache_release(&held[slot]);
		}
		want.id = id_of(key);
		if (what < 70) {
			if (what < 20)
				hint.deadline_ns =
				    (int64_t)(clock_ns() + (x >> 50) % 3 * NS_PER_MS);
			key_of[slot] = key;
			atomic_fetch_add(&gets, 1);
			if (ocache_get(cache, id_of(key), &hint, io, &held[slot]) == 0)
				object_check(&held[slot], id_of(key));
			else
				atomic_fetch_add(&failed, 1);
		} else if (what < 85) {
			if (what < 78)
				want.hint.deadline_ns = (int64_t)(clock_ns() + NS_PER_MS);
			atomic_fetch_add(&wanted, 1);
			assert_int_equal(ocache_submit(cache, &want, 1, 0, io, on_answer,
						       (void *)(uintptr_t)key),
					 0);
		} else if (what < 88) {
			assert_int_equal(ocache_prefetch(cache, &want, 1, NULL), 0);
		} else if (what < 90) {
			int err = ocache_put(cache, want.id, &want.id, sizeof want.id,
					     (int64_t)(clock_ns() + NS_PER_MS));

			assert_true(err == 0 || err == -EIO || err == -ETIMEDOUT);
		} else if (what < 96) {
			(void)ocache_forget(cache, id_of(key));
		} else if (what < 97) {
			(void)ocache_resize(cache, MIB + (x >> 44) % 2 * MIB);
		} else if (what < 98) {
			(void)add(cache, key, 100 + key % 50 * 100, NULL);
		} else {
			(void)stats_of(cache);
			(void)tier_of(cache, what % 2);
			if ((x >> 20) % 8 == 0)
				seldom(x);
		}
	}
	for (unsigned i = 0; i < 8; i++)
		ocache_release(&held[i]);
	return NULL;
}

/* Breaks the tiers and mends them. */
static void *trouble(void *arg)
{
	struct timespec nap = {0, 3000000};
	uint64_t x = 1;

	(void)arg;
	while (!atomic_load(&over)) {
		struct fake *f;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		f = (x >> 40) % 3 != 0 ? near : far;
		FAKE_SET(f, hold, (x >> 35) % 4 == 0);
		FAKE_SET(f, stubborn, (x >> 36) % 2 == 0);
		FAKE_SET(f, hold_writes, (x >> 39) % 4 == 0);
		FAKE_SET(f, fail, (x >> 37) % 5 == 0 ? -EIO : 0);
		FAKE_SET(f, delay_ns, (x >> 38) % 3 == 0 ? 300000 : 0);
		fake_set(near, (x >> 44) % KEYS, (x >> 44) % KEYS + 20,
			 (enum fake_has)((x >> 50) % 5));
		nanosleep(&nap, NULL);
		fake_let_go(near);
		fake_let_go(far);
	}
	return NULL;
}

/* A thread of the cache that has answered destroys what it has evicted for it after that. */
static bool agree(void)
{
	struct ocache_stats st = stats_of(cache);

	return st.leaving == 0 && st.resident == (uint64_t)objects_bytes &&
	       st.objects_now == (uint64_t)objects_alive;
}

static void all_calls_over_failing_tiers(void **state)
{
	pthread_t t[THREADS], bad;
	struct ocache_stats st;
	struct iostats_map *map;

	(void)state;
	near = fake_new("valcache", 0);
	far = fake_new("efs", TIER_RECORD);
	fake_set(far, 0, KEYS, FAKE_GOOD);
	struct ocache_tier tiers[] = {
	    {.tier = &near->tier,
	     .deadline_ns = 5 * NS_PER_MS,
	     .breaker_ns = 5 * NS_PER_MS,
	     .fills = 16,
	     .fills_per_s = 500},
	    {.tier = &far->tier, .deadline_ns = 20 * NS_PER_MS, .breaker_ns = 5 * NS_PER_MS},
	};
	cache = chain_of(MIB, tiers, 2);
	io = iostats_begin("query", NULL, NULL);
	assert_int_equal(pthread_create(&bad, NULL, trouble, NULL), 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, everything, (void *)i), 0);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	WAIT_FOR(stats_of(cache).loads_now == 0); /* no key is stuck */
	WAIT_FOR(answered == wanted);
	atomic_store(&over, true);
	assert_int_equal(pthread_join(bad, NULL), 0);
	FAKE_SET(near, hold, false);
	FAKE_SET(far, hold, false);
	FAKE_SET(near, hold_writes, false);
	FAKE_SET(far, hold_writes, false);
	FAKE_SET(far, fail, 0);
	FAKE_SET(far, delay_ns, 0);
	FAKE_SET(near, fail, 0);
	FAKE_SET(near, delay_ns, 0);
	fake_let_go(near);
	fake_let_go(far);
	/* all keys can be had once the breakers have closed */
	WAIT_FOR(get(cache, KEYS - 1, NULL, NULL) == 0);
	WAIT_FOR(agree());
	st = stats_of(cache);
	assert_int_equal(st.added - st.evicted - st.forgotten, st.objects_now);
	assert_true(st.loads > 1000 && st.joined > 0);
	assert_true(failed < gets); /* and some were given */
	map = iostats_end(&io);
	assert_true(iostats_map_number(map, "reads ocache") == (double)(gets + wanted));
	assert_true(iostats_map_number(map, "reads valcache") >=
		    iostats_map_number(map, "reads efs"));
	iostats_map_free(map);
	cache_close(cache);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(all_calls_over_failing_tiers),
	};
	const char *set = getenv("TEST_SET");

	if (set != NULL && strcmp(set, "long") == 0)
		steps *= 50;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
