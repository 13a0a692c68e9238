/* SPDX-License-Identifier: Apache-2.0 */
/* test: threads=yes */
/* Memory of dropped buffers: it is used again, by one at a time, and by nobody whom it is too small for. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "ocache/spare.h"
#include "ocache/tier.h"

static void what_was_freed_comes_back(void **state)
{
	size_t room, again;
	void *m = spare_malloc(40000, &room), *n;
	uintptr_t was = (uintptr_t)m;

	(void)state;
	assert_non_null(m);
	assert_true(room >= 40000 && room < 40000 + 8192);
	spare_free(m, room);
	n = spare_malloc(room - 100, &again);
	assert_int_equal(again, room);
	assert_true(!spare_keeps || (uintptr_t)n == was);
	m = spare_malloc(room + 1, &room); /* of the next size */
	assert_true(room > again && m != n);
	spare_free(m, room);
	spare_free(n, again);
}

/* More than are kept, and sizes that are not: all are freed once (valgrind, leak sanitizer). */
static void no_more_than_so_many_are_kept(void **state)
{
	static const size_t sizes[] = {0, 1, 8191, 8192, 8193, 65536, 65537, 1 << 20};
	void *m[SPARES + 9];
	size_t room[SPARES + 9];

	(void)state;
	for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		for (unsigned i = 0; i < SPARES + 9; i++) {
			m[i] = spare_malloc(sizes[s], &room[i]);
			assert_true(room[i] >= sizes[s]);
			if (sizes[s] < 8192 || sizes[s] > 65536)
				assert_int_equal(room[i], sizes[s]);
			for (unsigned j = 0; sizes[s] > 0 && j < i; j++)
				assert_ptr_not_equal(m[j], m[i]);
			memset(m[i], (int)i, sizes[s]);
		}
		for (unsigned i = 0; i < SPARES + 9; i++)
			spare_free(m[i], room[i]);
	}
}

#define HELD 24u

/* Each buffer is filled from end to end, and is still so when it is dropped. */
static void *use(void *arg)
{
	struct seg_buf *held[HELD] = {NULL};
	uint8_t mark[HELD] = {0};
	uint64_t random = (uintptr_t)arg;

	for (unsigned i = 0; i < 20000; i++) {
		unsigned at;
		size_t len;

		random = random * 6364136223846793005ull + 1442695040888963407ull;
		at = (unsigned)(random >> 33) % HELD;
		len = (size_t)(random >> 40) % 70000;
		if (held[at] != NULL) {
			const uint8_t *b = seg_buf_data(held[at]);
			size_t n = seg_buf_len(held[at]);

			A(n == 0 ||
			  (b[0] == mark[at] && b[n / 2] == mark[at] && b[n - 1] == mark[at]));
			seg_buf_drop(held[at]);
		}
		held[at] = seg_buf_new(len);
		AN(held[at]);
		mark[at] = (uint8_t)(random >> 25);
		memset(seg_buf_data(held[at]), mark[at], len);
	}
	for (unsigned at = 0; at < HELD; at++)
		seg_buf_drop(held[at]);
	return NULL;
}

static void no_two_have_the_same(void **state)
{
	pthread_t thread[4];

	(void)state;
	for (uintptr_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, use, (void *)(i + 1)), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_was_freed_comes_back),
	    cmocka_unit_test(no_more_than_so_many_are_kept),
	    cmocka_unit_test(no_two_have_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
