/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes
 * The documented skeleton of a tier is a whole tier: read, written, repaired, cancelled, closed.
 */
#include "ocache/skeleton/tier.h"
#include "tests/unit/ocache_tier.h"

#define MIB (1ull << 20)

static void as_the_nearer_tier(void **state)
{
	struct fake *far = fake_new("efs", TIER_RECORD);
	struct ocache_tier tiers[2] = {{.deadline_ns = 20 * NS_PER_S}, {.tier = &far->tier}};
	struct ocache *c;

	(void)state;
	fake_set(far, 0, 100, FAKE_GOOD);
	assert_int_equal(tier_skeleton_open(&tiers[0].tier), 0);
	c = chain_of(MIB, tiers, 2);
	for (uint64_t key = 0; key < 10; key++) {
		assert_int_equal(get(c, key, NULL, NULL), 0);
		WAIT_FOR(tier_of(c, 0).writes == key + 1);
		assert_true(ocache_forget(c, id_of(key)));
		assert_int_equal(get(c, key, NULL, NULL), 0);
		assert_int_equal(tier_of(c, 0).hits, key + 1);
	}
	assert_int_equal(get(c, 2000, NULL, NULL), -ENOENT);
	assert_int_equal(tier_of(c, 0).failures, 0);
	/* damage is dropped there and written again */
	assert_true(ocache_forget(c, id_of(9)));
	struct seg_buf *bad = fake_bytes(id_of(9), FAKE_DAMAGED, false);
	ocache__fill(c, 0, id_of(9), bad);
	seg_buf_drop(bad);
	WAIT_FOR(tier_of(c, 0).writes == 11);
	assert_int_equal(get(c, 9, NULL, NULL), 0);
	WAIT_FOR(tier_of(c, 0).writes == 12);
	assert_int_equal(stats_of(c).repairs, 1);
	cache_close(c);
}

/* ---- by hand: reads that are cancelled while they are queued, or when it is too late ---- */

static _Atomic unsigned given_back, cancelled;
static _Atomic bool entered, gate;

/* The tier's only thread stands here: what is asked for after this read is queued for as long. */
static void stand_there(struct seg_read *r)
{
	const struct timespec nap = {0, 1000000};

	assert_int_equal(r->status, -ENOENT);
	atomic_store(&entered, true);
	while (!atomic_load(&gate))
		nanosleep(&nap, NULL);
}

static void on_read(struct seg_read *r)
{
	atomic_fetch_add(&cancelled, r->status == -ECANCELED);
	assert_true(r->status == -ECANCELED || r->status == -ENOENT);
	atomic_fetch_add(&given_back, 1);
}

static void each_is_given_back_once(void **state)
{
	enum { N = 2000 };
	struct seg_read *reads = calloc(N, sizeof *reads), *all[N];
	struct seg_read first = {.id = id_of(N), .done = stand_there}, *one = &first;
	struct tier *t;

	(void)state;
	assert_non_null(reads);
	assert_int_equal(tier_skeleton_open(&t), 0);
	for (unsigned i = 0; i < N; i++) {
		reads[i] = (struct seg_read){.id = id_of(i), .done = on_read};
		all[i] = &reads[i];
	}
	t->ops->read(t, &one, 1);
	WAIT_FOR(atomic_load(&entered));
	t->ops->read(t, all, N);
	t->ops->cancel(t, one); /* is not queued any more */
	for (unsigned i = N; i-- > N / 2;)
		t->ops->cancel(t, all[i]);
	assert_int_equal(given_back, N / 2);
	assert_int_equal(cancelled, N / 2);
	/* the others while the thread takes them: of some it is too late */
	atomic_store(&gate, true);
	for (unsigned i = N / 2; i-- > 0;)
		t->ops->cancel(t, all[i]);
	WAIT_FOR(given_back == N);
	t->ops->close(t);
	assert_int_equal(given_back, N);
	free(reads);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(as_the_nearer_tier),
	    cmocka_unit_test(each_is_given_back_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
