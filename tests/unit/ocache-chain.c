/* SPDX-License-Identifier: Apache-2.0 */
/* A tier's breaker, by the clock that it is told: when it opens, for how long, who tries it, what closes it. */
#include "tests/unit/ocache_tier.h"

#include "ocache/chain.h"

#define HOUR ((int64_t)3600 * (int64_t)NS_PER_S)

static void fails(struct chain_tier *t)
{
	chain_answer(t, -EIO, 1, 0);
}

/* Open for so many hours from now on, give or take a minute; then for one read. */
static void open_for(struct chain_tier *t, int64_t hours)
{
	int64_t now = (int64_t)clock_ns(), minute = HOUR / 60;

	assert_false(chain_allows(t, now));
	assert_false(chain_allows(t, now + hours * HOUR - minute));
	assert_true(chain_allows(t, now + hours * HOUR + minute));
	assert_false(chain_allows(t, now + hours * HOUR + minute)); /* one is out */
}

static void breaker(void **state)
{
	struct fake *f = fake_new("efs", 0);
	struct ocache_tier cfg = {.tier = &f->tier, .breaker = 3, .breaker_ns = 3600 * NS_PER_S};
	static const int64_t hours[] = {1, 2, 4, 8, 16, 16, 16};
	struct ocache_tier_stats st;
	struct chain_tier t;
	char *cause = NULL;
	int64_t now;

	(void)state;
	assert_int_equal(chain_tier_open(&t, &cfg, &cause), 0);
	now = (int64_t)clock_ns();
	/* a miss is a success, and so is a damaged value: the tier works */
	for (unsigned i = 0; i < 12; i++) {
		assert_true(chain_allows(&t, now));
		chain_answer(&t, i % 3 < 2 ? -EIO : i % 2 == 0 ? -ENOENT : -EBADMSG, 1, 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		assert_true(chain_allows(&t, now));
		fails(&t);
	}
	for (unsigned i = 0; i < sizeof hours / sizeof *hours; i++) {
		open_for(&t, hours[i]);
		if (i % 2 == 0)
			fails(&t);
		else
			chain_timeout(&t, 1);
	}
	/* what was out before says nothing; nor does who gives up, and the next may try */
	fails(&t);
	open_for(&t, 16);
	chain_gave_up(&t);
	assert_true(chain_allows(&t, now + 17 * HOUR));
	chain_answer(&t, 0, 1, 100);
	chain_stats(&t, &st);
	assert_int_equal(st.breaker_open, 0);
	/* from the beginning */
	for (unsigned i = 0; i < 3; i++) {
		assert_true(chain_allows(&t, now));
		fails(&t);
	}
	open_for(&t, 1);
	chain_stats(&t, &st);
	assert_int_equal(st.breaker_open, 1);
	chain_tier_close(&t);
	fake_close(&f->tier);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(breaker),
	};

	return cmocka_run_group_tests_name("ocache-chain", tests, NULL, NULL);
}
