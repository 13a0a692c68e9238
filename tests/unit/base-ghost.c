/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ghost list: what it remembers, for how long, how often it is wrong; and taking by many
 * threads at once. The fractions asserted are the ones ghost.c promises.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/ghost.h"

static uint64_t hash_of(uint64_t x)
{
	x = (x + 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static uint64_t count(const struct ghost *g, uint64_t from, uint64_t to)
{
	uint64_t n = 0;

	for (uint64_t i = from; i < to; i++)
		n += ghost_has(g, hash_of(i));
	return n;
}

static void basics(void **state)
{
	struct ghost *g;

	(void)state;
	assert_int_equal(ghost_open(0, &g), -EINVAL);
	assert_int_equal(ghost_open(1ull << 31, &g), -EINVAL);
	assert_null(g);
	assert_int_equal(ghost_open(1000, &g), 0);
	assert_true(ghost_bytes(g) < 1000 * 5 + 256);
	assert_false(ghost_has(g, 7));
	assert_false(ghost_take(g, 7));
	ghost_add(g, 7);
	ghost_add(g, 7); /* twice is once */
	ghost_add(g, 0);
	assert_true(ghost_has(g, 7));
	assert_true(ghost_has(g, 0));
	assert_true(ghost_take(g, 7));
	assert_false(ghost_has(g, 7));
	assert_false(ghost_take(g, 7));
	assert_true(ghost_take(g, 0));
	ghost_add(g, 9);
	ghost_clear(g);
	assert_false(ghost_has(g, 9));
	ghost_close(&g);
	assert_null(g);
	ghost_close(&g);
}

static void ages_out_in_order(void **state)
{
	static const uint64_t sizes[] = {64, 1000, 100000};

	(void)state;
	for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
		uint64_t n = sizes[s], newest, previous, at = 0;
		struct ghost *g;

		assert_int_equal(ghost_open(n, &g), 0);
		/* Many laps, so that nothing depends on an empty start, nor on the epoch's wrap. */
		for (unsigned lap = 0; lap < 20; lap++) {
			for (uint64_t i = 0; i < n; i++)
				ghost_add(g, hash_of(at++));
			newest = count(g, at - n, at);
			previous = lap == 0 ? 0 : count(g, at - 2 * n, at - n);
			assert_true(newest * 1000 >= n * (n < 10000 ? 980 : 996));
			assert_true(previous * 100 <= n * 5);
		}
		print_message("%llu entries: of the newest %llu, of those before %llu\n",
			      (unsigned long long)n, (unsigned long long)newest,
			      (unsigned long long)previous);
		/* By tenths of the window: nothing is forgotten long before its time. */
		for (uint64_t d = 0; d + 1 < 10; d++)
			assert_true(count(g, at - (d + 1) * n / 10, at - d * n / 10) * 1000 >=
				    n / 10 * (n < 10000 ? 950 : 997));
		assert_int_equal(count(g, 0, at - 3 * n) > at / 1000, 0);
		ghost_close(&g);
	}
}

static void refresh_keeps(void **state)
{
	struct ghost *g;

	(void)state;
	assert_int_equal(ghost_open(1000, &g), 0);
	for (uint64_t i = 0; i < 5000; i++) {
		ghost_add(g, hash_of(i));
		if (i % 500 == 0)
			ghost_add(g, 12345);
	}
	assert_true(ghost_has(g, 12345));
	for (uint64_t i = 0; i < 1100; i++)
		ghost_add(g, hash_of(10000 + i));
	assert_false(ghost_has(g, 12345));
	ghost_close(&g);
}

static void window(void **state)
{
	struct ghost *g;
	uint64_t n;

	(void)state;
	assert_int_equal(ghost_open(10000, &g), 0);
	for (uint64_t i = 0; i < 30000; i++)
		ghost_add(g, hash_of(i));
	ghost_window(g, 1000);
	n = count(g, 20000, 30000);
	assert_true(n >= 1000 && n <= 1100);
	assert_true(count(g, 29000, 30000) >= 998);
	ghost_window(g, 1u << 30); /* as large as it is, not more */
	assert_true(count(g, 20000, 30000) > 9950);
	assert_true(count(g, 10000, 20000) < 500);
	ghost_close(&g);
}

static void false_memories(void **state)
{
	struct ghost *g;
	uint64_t n;

	(void)state;
	assert_int_equal(ghost_open(100000, &g), 0);
	for (uint64_t i = 0; i < 300000; i++)
		ghost_add(g, hash_of(i));
	n = count(g, 10000000, 12000000);
	print_message("%llu false of 2000000\n", (unsigned long long)n);
	assert_true(n < 2000000ull * 5 / 100000);
	ghost_close(&g);
}

#define THREADS 4
#define TAKES   200000u

static struct ghost *shared;
static _Atomic uint64_t taken;

static void *taker(void *arg)
{
	uint64_t n = 0;

	(void)arg;
	for (uint64_t i = 0; i < TAKES; i++)
		n += ghost_take(shared, hash_of(i));
	taken += n;
	return NULL;
}

static void *adder(void *arg)
{
	uint64_t base = (uint64_t)(uintptr_t)arg * TAKES;

	for (uint64_t i = 0; i < TAKES; i++)
		ghost_add(shared, hash_of(base + i));
	return NULL;
}

static void many_threads(void **state)
{
	pthread_t t[THREADS];
	uint64_t n;

	(void)state;
	assert_int_equal(ghost_open(THREADS * TAKES, &shared), 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, adder, (void *)i), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	n = count(shared, 0, (uint64_t)THREADS * TAKES);
	assert_true(n * 1000 > (uint64_t)THREADS * TAKES * 995);
	n = count(shared, 0, TAKES);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, taker, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	/* Each was told to one thread; a few keys share a fingerprint with another. */
	assert_true(taken * 1000 >= n * 999 && taken * 1000 <= n * 1001);
	assert_true(count(shared, 0, TAKES) * 100000 < TAKES * 10);
	ghost_close(&shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(basics),         cmocka_unit_test(ages_out_in_order),
	    cmocka_unit_test(refresh_keeps),  cmocka_unit_test(window),
	    cmocka_unit_test(false_memories), cmocka_unit_test(many_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
