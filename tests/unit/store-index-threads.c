/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes
 *
 * The index under threads: readers look for keys that are always there, while writers insert,
 * remove, relocate and displace around them, in an index so small and full that every line is
 * always in motion. A false miss fails. INDEX_OPS sets the work of each writer.
 *
 * Resident keys have the highest clock and transient ones the lowest, so that no resident is ever
 * chosen as a victim: each line pair would have to hold nothing but residents.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <cmocka.h>

#include "base/assert.h"
#include "valcached/store/index.h"

#define LINES      48u
#define CAPACITY   (LINES * INDEX_SLOTS)
#define RESIDENTS  150u
#define WRITERS    2u
#define READERS    2u
#define TRANSIENTS 80u /* of each writer at a time: 92 % load */
#define MANY       50u
#define LOC_STEP   (1ull << 20)

static struct index *ix;
static atomic_bool stop;
static atomic_uint_fast64_t found, missed, proven, disproved;
static uint64_t ops;

static uint64_t hash_of(uint64_t x)
{
	return XXH3_64bits_withSeed(&x, sizeof(x), 7);
}

static uint64_t next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

/*
 * A resident's location is its number plus a multiple of LOC_STEP that grows as it is relocated.
 * Locations of transients are numbered from (w + 1) * 2^32 up.
 */
static bool is_resident(uint64_t loc, uint64_t key)
{
	return loc < 1ull << 32 && loc % LOC_STEP == key + 1;
}

static void *reader(void *arg)
{
	uint64_t s = (uint64_t)(uintptr_t)arg * 7919 + 1, hits = 0, same = 0, changed = 0;
	uint64_t hash[MANY], many[MANY], strangers = 0;
	struct index_probe p;
	struct index_ref r;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		uint64_t x = next(&s), key = x % RESIDENTS, h = hash_of(key);
		unsigned i, seen = 0;

		index_find(ix, h, &p);
		for (i = 0; i < p.n; i++)
			seen += is_resident(p.ref[i].loc, key);
		if (seen != 1)
			atomic_fetch_add(&missed, 1);
		hits++;
		/* Many at once: all are there; one whose tag another shares is looked up again. */
		for (i = 0; i < MANY; i++)
			hash[i] = hash_of((key + i) % RESIDENTS);
		index_find_many(ix, hash, MANY, many);
		for (i = 0; i < MANY; i++) {
			if (many[i] == 0)
				atomic_fetch_add(&missed, 1);
			else if (!is_resident(index_found_ref(many[i]).loc, (key + i) % RESIDENTS))
				strangers++;
		}
		/* An absent key is a proven miss, and never one of ours. */
		h = hash_of(1ull << 60 | x >> 8);
		index_find(ix, h, &p);
		if (index_unchanged(ix, h, &p))
			same++;
		else
			changed++;
		if (index_get(ix, h, INDEX_LOC_MAX, &r) || index_touch(ix, h, INDEX_LOC_MAX))
			atomic_fetch_add(&missed, 1);
	}
	if (strangers * 50 > hits * MANY)
		atomic_fetch_add(&missed, 1); /* tags agree by chance one time in thousands */
	atomic_fetch_add(&found, hits);
	atomic_fetch_add(&proven, same);
	atomic_fetch_add(&disproved, changed);
	return NULL;
}

/* Each writer owns its transients, and the residents whose number is its own modulo WRITERS [IX-4].
 */
static void *writer(void *arg)
{
	uint64_t w = (uintptr_t)arg, s = w * 104729 + 3, n, loc;
	uint64_t base = (w + 1) << 32, key[TRANSIENTS] = {0}, at[RESIDENTS];
	struct index_ref v;
	unsigned i;

	for (i = 0; i < RESIDENTS; i++)
		at[i] = i + 1;
	for (n = 1; n <= ops; n++) {
		uint64_t x = next(&s);

		i = (unsigned)(x >> 16) % TRANSIENTS;
		if (key[i] != 0)
			(void)index_remove(ix, hash_of(key[i]),
					   key[i]); /* may have been a victim */
		key[i] = base + n;
		index_insert(ix, hash_of(key[i]), key[i], 1, 0, &v);
		if (v.loc != 0 && v.loc < 1ull << 32)
			atomic_fetch_add(&missed, 1000000); /* a resident was overwritten */
		i = (unsigned)(x >> 40) % (RESIDENTS / WRITERS) * WRITERS + (unsigned)w;
		if (x % 4 == 0) {
			loc = at[i] + LOC_STEP < 1ull << 32 ? at[i] + LOC_STEP : i + 1;
			if (!index_relocate(ix, hash_of(i), at[i], loc, 1, INDEX_CLOCK_MAX))
				atomic_fetch_add(&missed, 1);
			at[i] = loc;
		} else if (x % 4 == 1) {
			if (!index_touch(ix, hash_of(i), at[i]))
				atomic_fetch_add(&missed, 1);
		}
	}
	return NULL;
}

static bool count_resident(void *arg, const struct index_ref *ref)
{
	*(uint64_t *)arg += ref->loc < 1ull << 32;
	return true;
}

static void test_no_false_miss(void **state)
{
	const char *env = getenv("INDEX_OPS");
	size_t bytes = 4096 + LINES * 64;
	pthread_t t[WRITERS + READERS];
	struct index_stats st;
	struct index_ref v;
	uint64_t residents = 0;
	unsigned i;
	void *mem;

	(void)state;
	ops = env != NULL ? strtoull(env, NULL, 10) : 300000;
	mem = aligned_alloc(4096, (bytes + 4095) & ~4095ul);
	assert_non_null(mem);
	assert_int_equal(index_open(mem, bytes, false, NULL, &ix), 0);
	for (i = 0; i < RESIDENTS; i++)
		index_insert(ix, hash_of(i), i + 1, 1, INDEX_CLOCK_MAX, &v);
	for (i = 0; i < READERS; i++)
		assert_int_equal(
		    pthread_create(&t[WRITERS + i], NULL, reader, (void *)(uintptr_t)i), 0);
	for (i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, writer, (void *)(uintptr_t)i), 0);
	for (i = 0; i < WRITERS; i++)
		pthread_join(t[i], NULL);
	atomic_store(&stop, true);
	for (i = 0; i < READERS; i++)
		pthread_join(t[WRITERS + i], NULL);
	index_stats(ix, &st);
	print_message(
	    "%llu lookups, %llu misses proven, %llu disproved; %llu inserts, %llu displacements, "
	    "%llu victims, %llu retries\n",
	    (unsigned long long)found, (unsigned long long)proven, (unsigned long long)disproved,
	    (unsigned long long)st.inserts, (unsigned long long)st.displacements,
	    (unsigned long long)st.victims, (unsigned long long)st.retries);
	assert_int_equal(missed, 0);
	index_walk(ix, count_resident, &residents);
	assert_int_equal(residents, RESIDENTS);
	assert_int_equal(st.inserts, RESIDENTS + WRITERS * ops);
	assert_true(found > 0 && proven > 0);
	assert_true(st.displacements > ops / 100);
	assert_true(st.items <= CAPACITY);
	index_close(&ix);
	free(mem);
}

static void *range_remover(void *arg)
{
	(void)arg;
	while (!atomic_load_explicit(&stop, memory_order_relaxed))
		(void)index_remove_range(ix, 1ull << 32, INDEX_LOC_MAX + 1); /* transients */
	return NULL;
}

/* Removal by range, while writers displace and readers look: no resident is lost to a low count. */
static void test_remove_range(void **state)
{
	size_t bytes = 4096 + LINES * 64;
	pthread_t t[WRITERS + 2];
	struct index_ref v;
	uint64_t residents = 0;
	unsigned i;
	void *mem;

	(void)state;
	atomic_store(&stop, false);
	atomic_store(&missed, 0);
	ops = ops / 4 + 1;
	mem = aligned_alloc(4096, (bytes + 4095) & ~4095ul);
	assert_non_null(mem);
	assert_int_equal(index_open(mem, bytes, false, NULL, &ix), 0);
	for (i = 0; i < RESIDENTS; i++)
		index_insert(ix, hash_of(i), i + 1, 1, INDEX_CLOCK_MAX, &v);
	assert_int_equal(pthread_create(&t[WRITERS], NULL, reader, NULL), 0);
	assert_int_equal(pthread_create(&t[WRITERS + 1], NULL, range_remover, NULL), 0);
	for (i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, writer, (void *)(uintptr_t)i), 0);
	for (i = 0; i < WRITERS; i++)
		pthread_join(t[i], NULL);
	atomic_store(&stop, true);
	pthread_join(t[WRITERS], NULL);
	pthread_join(t[WRITERS + 1], NULL);
	assert_int_equal(missed, 0);
	index_walk(ix, count_resident, &residents);
	assert_int_equal(residents, RESIDENTS);
	index_close(&ix);
	free(mem);
}

static atomic_uint_fast64_t clears;

static void *clearer(void *arg)
{
	(void)arg;
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		index_clear(ix);
		atomic_fetch_add(&clears, 1);
	}
	return NULL;
}

static bool collect(void *arg, const struct index_ref *ref)
{
	uint64_t *left = arg;

	A(left[0] < CAPACITY);
	left[++left[0]] = ref->loc;
	return true;
}

/*
 * Clear against inserts: what is left in the end must be found, or a count went to zero while its
 * guest was being placed. Then a clear that is alone leaves nothing.
 */
static void test_clear(void **state)
{
	size_t bytes = 4096 + LINES * 64;
	uint64_t left[CAPACITY + 1], n, loc = 0, round, survivors = 0;
	struct index_stats st;
	struct index_ref v, r;
	unsigned i;
	pthread_t t;
	void *mem;

	(void)state;
	mem = aligned_alloc(4096, (bytes + 4095) & ~4095ul);
	assert_non_null(mem);
	assert_int_equal(index_open(mem, bytes, false, NULL, &ix), 0);
	for (round = 0; round < 200; round++) {
		atomic_store(&stop, false);
		atomic_store(&clears, 0);
		assert_int_equal(pthread_create(&t, NULL, clearer, NULL), 0);
		for (n = 0; n < 2000 || atomic_load(&clears) < 3; n++) {
			loc++;
			index_insert(ix, hash_of(loc), loc, 1, 0, &v);
		}
		atomic_store(&stop, true);
		for (i = 0; i < 300; i++) { /* some while the last clear runs */
			loc++;
			index_insert(ix, hash_of(loc), loc, 1, 0, &v);
		}
		pthread_join(t, NULL);
		left[0] = 0;
		index_walk(ix, collect, left);
		for (i = 1; i <= left[0]; i++)
			assert_true(index_get(ix, hash_of(left[i]), left[i], &r));
		survivors += left[0];
		index_clear(ix);
		index_stats(ix, &st);
		assert_int_equal(st.items, 0);
	}
	print_message("%llu survivors\n", (unsigned long long)survivors);
	assert_true(survivors > 1000);
	index_close(&ix);
	free(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_no_false_miss),
	    cmocka_unit_test(test_remove_range),
	    cmocka_unit_test(test_clear),
	};

	return cmocka_run_group_tests_name("store-index-threads", tests, NULL, NULL);
}
