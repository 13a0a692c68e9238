/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ocache/policy.c by itself, rule by rule of policy.h: a cache of keys in an array, objects of one
 * size, evicting when the budget is full.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ocache/policy.h"

#define SIZE 1000u
#define KEYS 100000u

static const uint64_t seed[2] = {0x1234567890abcdef, 0xfedcba0987654321};

static struct {
	struct policy policy;
	struct entry *entry; /* by key */
	bool *in, *held;
	uint64_t budget, bytes;
} R;

static int rig_open(void **state)
{
	(void)state;
	policy_open(&R.policy, seed);
	R.entry = calloc(KEYS, sizeof *R.entry);
	R.in = calloc(KEYS, sizeof *R.in);
	R.held = calloc(KEYS, sizeof *R.held);
	R.bytes = 0;
	R.budget = 1000 * SIZE;
	return R.entry != NULL && R.in != NULL && R.held != NULL ? 0 : -1;
}

static int rig_close(void **state)
{
	(void)state;
	policy_close(&R.policy);
	free(R.entry);
	free(R.in);
	free(R.held);
	return 0;
}

static uint64_t key_of(const struct entry *e)
{
	return (uint64_t)(e - R.entry);
}

static bool is_held(void *ctx, const struct entry *e)
{
	(void)ctx;
	return R.held[key_of(e)];
}

static struct entry *evict(void)
{
	struct entry *e = policy_evict(&R.policy, R.budget, is_held, NULL);

	if (e != NULL) {
		assert_true(R.in[key_of(e)]);
		R.in[key_of(e)] = false;
		R.bytes -= SIZE;
	}
	return e;
}

/* A get, and after a miss an add. Was it a hit? */
static bool ask(uint64_t key)
{
	struct entry *e = &R.entry[key];

	if (R.in[key]) {
		policy_use(e);
		return true;
	}
	while (R.bytes + SIZE > R.budget)
		assert_non_null(evict());
	e->id = (struct seg_id){key * 0x9e3779b97f4a7c15, ~key};
	e->size = SIZE;
	policy_insert(&R.policy, e, R.budget);
	R.in[key] = true;
	R.bytes += SIZE;
	return false;
}

static unsigned ask_all(uint64_t from, uint64_t to)
{
	unsigned hits = 0;

	for (uint64_t key = from; key < to; key++)
		hits += ask(key);
	return hits;
}

/* [PO-1] What has come back once is in main, and outlives a scan of twenty times the cache. */
static void scan_passes_through(void **state)
{
	unsigned kept;

	(void)state;
	ask_all(50000, 51000); /* main is full of others */
	ask_all(0, 300);       /* through the small queue, and remembered */
	ask_all(51000, 51100);
	assert_int_equal(ask_all(0, 280), 0);
	assert_int_equal(ask_all(0, 280), 280);
	ask_all(60000, 80000);
	kept = ask_all(0, 280);
	if (kept < 279)
		fail_msg("%u of 280 are left", kept);
}

/* [PO-1] [PO-5] What is used on its way through the small queue moves to main. */
static void small_queue_is_small(void **state)
{
	(void)state;
	ask_all(0, 5000);
	assert_int_equal(R.policy.q[POLICY_SMALL].entries, 23);
	assert_int_equal(R.policy.q[POLICY_MAIN].entries, 977);
	assert_true(ask(4999)); /* used in the small queue */
	ask_all(5000, 5023);
	assert_int_equal(R.entry[4999].queue, POLICY_MAIN);
	assert_true(R.in[4999]);
}

/* [PO-2] Of a loop, what fits into main hits in each lap, however long the loop is. */
static void loop_keeps_a_part(void **state)
{
	static const unsigned lengths[] = {1250, 3000, 20000};

	for (unsigned i = 0; i < 3; i++) {
		unsigned hits = 0;

		rig_close(state);
		rig_open(state);
		for (unsigned lap = 0; lap < 20; lap++)
			hits = ask_all(0, lengths[i]);
		if (hits < 850)
			fail_msg("a loop of %u: %u hits in a lap, of 1000 that could", lengths[i],
				 hits);
	}
}

/* [PO-3] Used four times it goes round three times, used once it does once. */
static void uses(void **state)
{
	struct entry *often = &R.entry[0], *once = &R.entry[1];

	(void)state;
	R.budget = 100 * SIZE;
	ask_all(0, 98);
	R.budget = 50 * SIZE; /* main has more than its share: it is what is evicted from */
	for (unsigned i = 0; i < 4; i++)
		policy_use(often);
	policy_use(once);
	assert_int_equal(often->uses, POLICY_USES_MAX);
	assert_ptr_equal(evict(), &R.entry[2]); /* often and once have gone round */
	assert_ptr_equal(R.policy.q[POLICY_MAIN].newest, once);
	assert_int_equal(often->uses, 2);
	assert_int_equal(once->uses, 0);
	for (uint64_t key = 3; key < 98; key++)
		R.held[key] = true; /* not they */
	assert_ptr_equal(evict(), once);
	assert_true(R.in[0]);
	assert_int_equal(often->uses, 1);
	assert_ptr_equal(evict(), often); /* a round more */
}

/* A hit on what has all its uses writes nothing of it. */
static void touch(void **state)
{
	struct entry *e = &R.entry[0];
	_Atomic uint8_t spare = 0;

	(void)state;
	ask(0);
	for (unsigned i = 1; i <= POLICY_USES_MAX; i++) {
		policy_touch(e, &spare);
		assert_int_equal(e->uses, i);
		assert_int_equal(spare, 0);
	}
	policy_touch(e, &spare);
	assert_int_equal(e->uses, POLICY_USES_MAX);
	assert_int_not_equal(spare, 0);
}

/* 160 times 500 keys, which fit into what is remembered, each asked for so often in turn. */
static void ask_in_turns(unsigned times)
{
	for (uint64_t key = 0; key < 80000; key += 500)
		for (unsigned i = 0; i < times; i++)
			ask_all(key, key + 500);
}

/* [PO-4] Who comes back and is not used again makes the memory shorter; who is, longer again. */
static void ghost_learns(void **state)
{
	(void)state;
	ask_in_turns(2);
	assert_in_range(R.policy.ghost_short, 977 * 5 / 8 - 4, 977 * 5 / 8 + 4);
	ask_in_turns(8);
	assert_in_range(R.policy.ghost_short, 0, 60);
}

/* One victim costs a bounded time, though all were used; those that are held stay. */
static void bounded_steps(void **state)
{
	unsigned cleared = 0;

	(void)state;
	R.budget = KEYS * (uint64_t)SIZE;
	ask_all(0, KEYS);
	for (uint64_t key = 0; key < KEYS; key++)
		policy_use(&R.entry[key]);
	for (uint64_t key = 0; key < 300; key++)
		R.held[key] = true;
	R.budget /= 2;
	assert_ptr_equal(evict(), &R.entry[300]);
	for (uint64_t key = 0; key < KEYS; key++)
		cleared += R.entry[key].uses == 0;
	assert_in_range(cleared, 1, 1000);
	for (uint64_t key = 0; key < KEYS; key++)
		R.held[key] = true;
	assert_null(evict());
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(scan_passes_through, rig_open, rig_close),
	    cmocka_unit_test_setup_teardown(small_queue_is_small, rig_open, rig_close),
	    cmocka_unit_test_setup_teardown(loop_keeps_a_part, rig_open, rig_close),
	    cmocka_unit_test_setup_teardown(uses, rig_open, rig_close),
	    cmocka_unit_test_setup_teardown(touch, rig_open, rig_close),
	    cmocka_unit_test_setup_teardown(ghost_learns, rig_open, rig_close),
	    cmocka_unit_test_setup_teardown(bounded_steps, rig_open, rig_close)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
