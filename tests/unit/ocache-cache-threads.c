/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes limit=300 Eight threads do everything to one cache that is too small: every
 * object that a reference leads to is alive and the right one for as long as it is held, and at the
 * end the account is exact.
 */
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "ocache/cache_int.h"
#include "tests/unit/ocache_rig.h"

#define MIB     (1ull << 20)
#define THREADS 8
#define KEYS    3000
#define HELD    40

static unsigned steps = 60000;
static struct ocache *cache;
/* references that wait to be given back by whoever comes along */
static struct ocache_ref parked[64];
static uint64_t parked_key[64];
static pthread_mutex_t parked_lock = PTHREAD_MUTEX_INITIALIZER;

static void swap_parked(unsigned at, struct ocache_ref *ref, uint64_t *key)
{
	struct ocache_ref r;
	uint64_t k;

	pthread_mutex_lock(&parked_lock);
	r = parked[at];
	k = parked_key[at];
	parked[at] = *ref;
	parked_key[at] = *key;
	*ref = r;
	*key = k;
	pthread_mutex_unlock(&parked_lock);
}

static void *everything(void *arg)
{
	struct ocache_ref held[HELD] = {{0}};
	uint64_t key_of[HELD] = {0}, x = (uint64_t)(uintptr_t)arg * 77 + 1;

	for (unsigned i = 0; i < steps; i++) {
		unsigned slot, what;
		uint64_t key;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		slot = (unsigned)(x >> 40) % HELD;
		what = (unsigned)(x >> 33) % 100;
		/* some keys much more than others */
		key = (x >> 50) % KEYS;
		key = key * key / KEYS;
		if (held[slot].object != NULL) {
			object_check(&held[slot], id_of(key_of[slot]));
			if (what < 10)
				swap_parked((unsigned)(x >> 20) % 64, &held[slot], &key_of[slot]);
			ocache_release(&held[slot]);
		}
		if (what < 85) {
			key_of[slot] = key;
			if (ocache_get(cache, id_of(key), NULL, NULL, &held[slot]) != 0) {
				struct object *o = object_new(id_of(key), 200 + key % 50 * 100);

				if (o == NULL)
					abort();
				(void)ocache_add(cache, id_of(key), &object_decoder, o, o->size,
						 &held[slot]);
			}
			object_check(&held[slot], id_of(key));
		} else if (what < 97) {
			(void)ocache_forget(cache, id_of(key));
		} else if (what < 98) {
			(void)ocache_resize(cache, MIB + (x >> 44) % 4 * MIB);
		} else {
			(void)stats_of(cache);
		}
	}
	for (unsigned i = 0; i < HELD; i++)
		ocache_release(&held[i]);
	return NULL;
}

static void all_calls_at_once(void **state)
{
	pthread_t t[THREADS];
	struct ocache_stats st;

	(void)state;
	cache = cache_open(2 * MIB);
	for (unsigned round = 0; round < 2;
	     round++) { /* new threads take over the lanes of old ones */
		for (uintptr_t i = 0; i < THREADS; i++)
			assert_int_equal(
			    pthread_create(&t[i], NULL, everything, (void *)(i + round * 8)), 0);
		for (unsigned i = 0; i < THREADS; i++)
			assert_int_equal(pthread_join(t[i], NULL), 0);
	}
	for (unsigned i = 0; i < 64; i++) {
		if (parked[i].object != NULL)
			object_check(&parked[i], id_of(parked_key[i]));
		ocache_release(&parked[i]);
	}
	assert_int_equal(ocache_resize(cache, 2 * MIB), 0);
	st = stats_of(cache);
	assert_int_equal(st.leaving, 0);
	assert_int_equal(st.resident, objects_bytes);
	assert_int_equal(st.objects_now, objects_alive);
	assert_int_equal(st.added - st.evicted - st.forgotten, st.objects_now);
	assert_true(st.used <= st.budget);
	assert_true(st.hits > THREADS * (uint64_t)steps / 4);
	assert_true(st.evicted > 1000);
	cache_close(cache);
}

/* Two resizes at a time: all parts end with their share of the same budget, which is the one that is said. */
static _Atomic unsigned arrived;

/* Without sleeping: one that wakes up comes when the other is done. */
static void meet(unsigned times)
{
	atomic_fetch_add(&arrived, 1);
	for (unsigned i = 0; atomic_load(&arrived) < 2 * times; i++)
		if (i > 10000)
			sched_yield();
}

static void *resizes(void *arg)
{
	for (unsigned i = 0; i < 3000; i++) {
		meet(2 * i + 1);
		AZ(ocache_resize(cache, *(const uint64_t *)arg));
		meet(2 * i + 2);
		for (unsigned k = 1; k < cache->shards; k++)
			A(cache->shard[k].budget == cache->shard[0].budget);
		A(cache->shard[0].budget ==
		  cache->budget / cache->shards - cache->own_bytes / cache->shards);
	}
	return NULL;
}

static void resized_by_two(void **state)
{
	uint64_t budget[2] = {1500 * MIB, 3000 * MIB};
	pthread_t t[2];

	(void)state;
	cache = cache_open(2048 * MIB); /* in as many parts as there are */
	assert_int_equal(cache->shards, 16);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, resizes, &budget[i]), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	cache_close(cache);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(all_calls_at_once),
	    cmocka_unit_test(resized_by_two),
	};
	const char *set = getenv("TEST_SET");

	if (set != NULL && strcmp(set, "long") == 0)
		steps *= 100;
	if (set != NULL && strcmp(set, "short") == 0) /* tests/system/early-free */
		steps /= 6;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
