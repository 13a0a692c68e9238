/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms: the bound of what is read from them, and intervals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/hist.h"

static struct hist h, before, part;

/* A quantile is the value, or at most 1/16 above it, for every magnitude. */
static void bound(void **state)
{
	(void)state;
	for (uint64_t v = 0; v < 1ull << 62; v += v / 4 + 1) {
		memset(&h, 0, sizeof h);
		hist_add(&h, v);
		hist_add(&h, 1ull << 62);
		assert_in_range(hist_quantile(&h, 0.5), v, v + v / 16);
		assert_int_equal(hist_quantile(&h, 1), 1ull << 62);
	}
}

static void interval(uint64_t lo, uint64_t hi, uint64_t count)
{
	memset(&part, 0, sizeof part);
	hist_merge(&part, &h);
	hist_subtract(&part, &before);
	assert_int_equal(atomic_load(&part.count), count);
	assert_in_range(atomic_load(&part.max), lo, hi);
	assert_in_range(hist_quantile(&part, 1), lo, hi);
}

/* The maximum of an interval is of that interval. */
static void maximum(void **state)
{
	(void)state;
	memset(&h, 0, sizeof h);
	memset(&before, 0, sizeof before);
	hist_add(&h, 5000);
	hist_add(&h, 1000000);
	interval(1000000, 1000000, 2);
	hist_merge(&before, &h);
	interval(0, 0, 0);
	hist_add(&h, 3000);
	interval(3000, 3000 + 3000 / 16, 1);
	hist_add(&h, 999999); /* in the bucket of the old maximum */
	interval(999999, 1000000, 2);
	hist_add(&h, 2000000);
	interval(2000000, 2000000, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(bound), cmocka_unit_test(maximum)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
