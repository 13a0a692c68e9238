/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes
 *
 * The index at its design load of 85 %: filled, looked up, then churned (a key goes, another comes)
 * while a second thread looks up keys that stay. Reports displacements, victims, retries, and how
 * often a lookup needs a second line, and asserts the bounds of each.
 *
 * INDEX_ITEMS (default 300,000) sets the size; tests/system/index-50m runs it at 50,000,000.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "base/clock.h"
#include "valcached/store/index.h"

#define AHEAD 24u

static struct index *ix;
static uint64_t items, churn;
static atomic_bool looking, stop;

/* Key number to a well-mixed hash: splitmix64's finalizer. */
static uint64_t hash_of(uint64_t x)
{
	x = (x + 1) * 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

struct seen {
	uint64_t lookups, found, others;
};

/* Looks up keys [from, to); others counts candidates that are not the key. */
static struct seen look(uint64_t from, uint64_t to)
{
	struct seen s = {0, 0, 0};
	struct index_probe p;
	uint64_t k;
	unsigned i;

	for (k = from; k < to + 2 * AHEAD; k++) {
		if (k < to)
			index_prefetch(ix, hash_of(k));
		if (k >= from + AHEAD && k < to + AHEAD)
			index_prefetch_other(ix, hash_of(k - AHEAD));
		if (k < from + 2 * AHEAD)
			continue;
		index_find(ix, hash_of(k - 2 * AHEAD), &p);
		s.lookups++;
		for (i = 0; i < p.n; i++)
			if (p.ref[i].loc == k - 2 * AHEAD + 1)
				s.found++;
			else
				s.others++;
	}
	return s;
}

static void *look_while_churning(void *arg)
{
	struct seen *sum = arg, s;
	uint64_t k = churn;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		s = look(k, k + 10000);
		atomic_store_explicit(&looking, true, memory_order_relaxed);
		sum->lookups += s.lookups;
		sum->found += s.found;
		k = k + 20000 < items ? k + 10000 : churn;
	}
	return NULL;
}

static uint64_t insert_ahead(uint64_t from, uint64_t to, bool remove)
{
	struct index_ref v;
	uint64_t k, victims = 0;

	for (k = from; k < to; k++) {
		index_prefetch(ix, hash_of(k + AHEAD));
		if (remove) {
			index_prefetch(ix, hash_of(k - items + AHEAD));
			(void)index_remove(ix, hash_of(k - items), k - items + 1);
		}
		index_insert(ix, hash_of(k), k + 1, 80, 0, &v);
		victims += v.loc != 0;
	}
	return victims;
}

static void test_load(void **state)
{
	const char *env = getenv("INDEX_ITEMS");
	struct index_stats a, b;
	struct seen s, live = {0, 0, 0};
	uint64_t t0, t1, victims;
	double share;
	pthread_t reader;
	size_t bytes;
	void *mem;

	(void)state;
	items = env != NULL ? strtoull(env, NULL, 10) : 300000;
	churn = items / 2;
	bytes = index_bytes(items);
	mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	(void)madvise(mem, bytes, MADV_HUGEPAGE); /* a hint */
	assert_int_equal(index_open(mem, bytes, false, NULL, &ix), 0);

	t0 = clock_ns();
	victims = insert_ahead(0, items, false);
	t1 = clock_ns();
	index_stats(ix, &a);
	print_message("fill:  %llu items, %.2f bytes an item, load %.3f, %.0f ns an insert; %llu "
		      "displacements (%.2f %%), %llu victims (%.5f %%)\n",
		      (unsigned long long)a.items, (double)bytes / (double)items,
		      (double)a.items / (double)a.capacity, (double)(t1 - t0) / (double)items,
		      (unsigned long long)a.displacements,
		      100.0 * (double)a.displacements / (double)items,
		      (unsigned long long)a.victims, 100.0 * (double)a.victims / (double)items);
	assert_true((double)bytes / (double)items <= 12.0);
	assert_int_equal(a.inserts, items);
	assert_int_equal(a.victims, victims);
	assert_int_equal(a.items, items - victims);
	assert_true((double)a.items / (double)a.capacity > 0.849);
	assert_true((double)victims / (double)items <= 0.0004);
	assert_true(a.displacements > 0);
	assert_int_equal(a.retries, 0);

	t0 = clock_ns();
	s = look(0, items);
	t1 = clock_ns();
	share = (double)s.others / (double)s.lookups;
	print_message("hits:  %llu, %.0f ns each; other candidates %.5f %%\n",
		      (unsigned long long)s.found, (double)(t1 - t0) / (double)items,
		      100.0 * share);
	assert_int_equal(s.found, items - victims);
	assert_true(share <= 0.0003);
	s = look(1ull << 33, (1ull << 33) + items);
	share = (double)s.others / (double)s.lookups;
	print_message("misses: %llu, of them with a candidate %.5f %%\n",
		      (unsigned long long)s.lookups, 100.0 * share);
	assert_int_equal(s.found, 0);
	assert_true(share <= 0.0003); /* the goal for device reads of a miss */

	assert_int_equal(pthread_create(&reader, NULL, look_while_churning, &live), 0);
	while (
	    !atomic_load(&looking)) /* or a small index is churned before the thread has a turn */
		sched_yield();
	t0 = clock_ns();
	victims = insert_ahead(items, items + churn, true);
	t1 = clock_ns();
	atomic_store(&stop, true);
	pthread_join(reader, NULL);
	index_stats(ix, &b);
	print_message(
	    "churn: %llu replaced, %.0f ns each; %.2f %% displacements, %llu victims (%.5f %%); "
	    "%llu lookups beside it, %llu retries (%.6f %%)\n",
	    (unsigned long long)churn, (double)(t1 - t0) / (double)churn,
	    100.0 * (double)(b.displacements - a.displacements) / (double)churn,
	    (unsigned long long)victims, 100.0 * (double)victims / (double)churn,
	    (unsigned long long)live.lookups, (unsigned long long)b.retries,
	    100.0 * (double)b.retries / (double)live.lookups);
	assert_true((double)victims / (double)churn <= 0.0004);
	assert_int_equal(b.victims - a.victims, victims);
	assert_true(live.lookups > 0);
	/* Keys that stay are found, but for the victims of both phases. */
	assert_true((double)live.found >= (double)live.lookups * 0.9992);
	assert_true((double)b.retries <= (double)live.lookups * 0.001 + 100);
	s = look(churn, items + churn);
	assert_int_equal(s.found, b.items);

	index_close(&ix);
	munmap(mem, bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_load),
	};

	return cmocka_run_group_tests_name("store-index-load", tests, NULL, NULL);
}
