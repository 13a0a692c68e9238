/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes io-stats contexts: every key, sums of threads and of nested calls, what a
 * parent is told and when. (The samples of the documents are made by reading through a cache in
 * ocache-golden.c.)
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "ocache/iostats.h"

static struct iostats *begin(const char *api, const char *context, struct iostats *parent)
{
	struct iostats *io = iostats_begin(api, context, parent);

	assert_non_null(io);
	return io;
}

static unsigned keys;

static void count_key(void *ctx, const char *key, double number)
{
	(void)ctx;
	(void)key;
	assert_true(number > 0); /* zero counts have no key */
	keys++;
}

static void assert_number(const struct iostats_map *map, const char *path, double want)
{
	double got = iostats_map_number(map, path);

	if (got != want)
		fail_msg("%s is %g, not %g: %s", path, got, want, iostats_edn(map));
}

static void every_key(void **state)
{
	struct iostats *io = begin("query", "artist/by-name", NULL);
	struct iostats_map *map;

	(void)state;
	iostats_access(io, IOSTATS_AVET, true, true);
	iostats_access(io, IOSTATS_AVET, false, true);
	iostats_access(io, IOSTATS_EAVT, false, false);
	iostats_access(io, IOSTATS_VAET, true, false);
	iostats_access(io, IOSTATS_NO_SORT, false, false);
	iostats_tier(io, "valcache", 2, 70000);
	iostats_tier(io, "efs", 1, 13135000);
	iostats_tier(io, "efs", 1, 13135000);
	iostats_tier(io, "dev", 1, 4999); /* 0.00 ms: no key */
	iostats_inflight(io, 1500000);
	iostats_deserialize(io, 2, 20000);
	map = iostats_end(&io);
	assert_non_null(map);
	assert_null(io);
	assert_number(map, "reads ocache", 5);
	assert_number(map, "reads avet", 2);
	assert_number(map, "reads avet-load", 2);
	assert_number(map, "reads eavt", 1);
	assert_number(map, "reads vaet", 1);
	assert_number(map, "reads dir", 2);
	assert_number(map, "reads dir-load", 1);
	assert_number(map, "reads valcache", 2);
	assert_number(map, "reads valcache-ms", 0.07);
	assert_number(map, "reads efs", 2);
	assert_number(map, "reads efs-ms", 26.27);
	assert_number(map, "reads dev", 1);
	assert_number(map, "reads inflight-lookup-ms", 1.5);
	assert_number(map, "reads deserialize", 2);
	assert_number(map, "reads deserialize-ms", 0.02);
	keys = 0;
	assert_true(iostats_map_each(map, "reads", count_key, NULL));
	assert_int_equal(keys, 15); /* and no other: not aevt, eavt-load, ocache-ms, dev-ms ... */
	assert_string_equal(iostats_map_name(map, "api"), "query");
	assert_string_equal(iostats_map_name(map, "io-context"), "artist/by-name");
	assert_true(iostats_map_has(map, "api-ms"));
	assert_false(iostats_map_has(map, "nested"));
	iostats_map_free(map);
}

static void no_context_counts_nothing(void **state)
{
	struct iostats *io = NULL;
	struct iostats_map *map;

	(void)state;
	iostats_access(NULL, IOSTATS_EAVT, false, false);
	iostats_tier(NULL, "efs", 1, 1);
	iostats_inflight(NULL, 1);
	iostats_deserialize(NULL, 1, 1);
	iostats_drop(NULL);
	assert_null(iostats_hold(NULL));
	assert_null(iostats_snapshot(io));
	assert_null(map = iostats_end(&io));
	iostats_finish(&io);
	assert_null(iostats_edn(map));
	assert_null(iostats_json(map));
	assert_false(iostats_map_has(map, "reads"));
	assert_false(iostats_map_has(map, ""));
	assert_null(iostats_map_name(map, "api"));
	assert_true(iostats_map_number(map, "reads ocache") == 0);
	assert_false(iostats_map_each(map, "", NULL, NULL));
	iostats_map_free(map);
}

static void names_are_keywords(void **state)
{
	static const char *const bad[] = {"", "a b", ":a", "a/b/c", "/a", "a/", "a\"", "a\n"};
	char name[IOSTATS_NAME_MAX + 2];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_null(iostats_begin(bad[i], NULL, NULL));
		assert_null(iostats_begin("tx", bad[i], NULL));
	}
	memset(name, 'a', sizeof name);
	name[IOSTATS_NAME_MAX + 1] = '\0';
	assert_null(iostats_begin(name, NULL, NULL));
	name[IOSTATS_NAME_MAX] = '\0';
	struct iostats *io = begin(name, name, NULL);
	iostats_drop(io);
}

static void seventeenth_tier_is_other(void **state)
{
	struct iostats *io = begin("tx", NULL, NULL);
	struct iostats_map *map;
	char key[16] = "t-a";

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		key[2] = (char)('a' + i);
		iostats_tier(io, key, i + 1, 0);
	}
	map = iostats_end(&io);
	assert_number(map, "reads t-a", 1);
	assert_number(map, "reads t-p", 16);
	assert_number(map, "reads other-tiers", 17 + 18 + 19 + 20);
	iostats_map_free(map);
}

/* ---- nesting ---- */

static void query(struct iostats *parent, const char *context, unsigned n)
{
	struct iostats *io = begin("query", context, parent);

	for (unsigned i = 0; i < n; i++)
		iostats_access(io, IOSTATS_EAVT, false, i == 0);
	iostats_tier(io, "dev", 1, 2000000);
	nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
	iostats_finish(&io);
}

/* The example of the documents: two calls of one name, one of another. */
static void nested_calls_are_summed_by_context(void **state)
{
	struct iostats *io = begin("tx-with", "transfer/funds", NULL);
	struct iostats_map *map;

	(void)state;
	iostats_access(io, IOSTATS_AEVT, false, false);
	query(io, "transfer/check-balance", 3);
	query(io, "transfer/check-balance", 4);
	query(io, "transfer/check-auth", 5);
	map = iostats_end(&io);
	assert_number(map, "reads ocache", 13);
	assert_number(map, "reads eavt", 12);
	assert_number(map, "reads eavt-load", 3);
	assert_number(map, "reads aevt", 1);
	assert_number(map, "reads dev", 3);
	assert_number(map, "reads dev-ms", 6);
	assert_number(map, "nested transfer/check-balance reads eavt", 7);
	assert_number(map, "nested transfer/check-balance reads eavt-load", 2);
	assert_number(map, "nested transfer/check-balance reads dev-ms", 4);
	assert_number(map, "nested transfer/check-auth reads ocache", 5);
	assert_string_equal(iostats_map_name(map, "nested transfer/check-auth api"), "query");
	assert_true(iostats_map_number(map, "nested transfer/check-auth api-ms") >= 3);
	assert_true(iostats_map_number(map, "nested transfer/check-balance api-ms") >= 6);
	assert_true(iostats_map_number(map, "api-ms") >= 9);
	iostats_map_free(map);
}

static void count(void *ctx, const char *key, double number)
{
	(void)number;
	(void)key;
	(*(unsigned *)ctx)++;
}

static void nested_without_context_goes_to_the_parent_only(void **state)
{
	struct iostats *io = begin("tx", NULL, NULL), *anonymous = begin("tx", NULL, io);
	struct iostats_map *map;
	unsigned n = 0;

	(void)state;
	query(anonymous, "a/b", 2);
	query(anonymous, NULL, 3);
	iostats_finish(&anonymous);
	map = iostats_end(&io);
	assert_number(map, "reads ocache", 5);
	/* what the anonymous call had nested is the parent's */
	assert_number(map, "nested a/b reads ocache", 2);
	assert_true(iostats_map_each(map, "nested", count, &n));
	assert_int_equal(n, 1);
	iostats_map_free(map);
}

static void nested_in_nested(void **state)
{
	struct iostats *io = begin("tx", "a/root", NULL);
	struct iostats_map *map;
	unsigned n = 0;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct iostats *mid = begin("query", "a/mid", io);

		query(mid, "a/leaf", 1 + i);
		iostats_access(mid, IOSTATS_VAET, false, false);
		iostats_finish(&mid);
	}
	map = iostats_end(&io);
	assert_number(map, "reads ocache", 5);
	assert_number(map, "nested a/mid reads ocache", 5);
	assert_number(map, "nested a/mid nested a/leaf reads ocache", 3);
	assert_true(iostats_map_each(map, "nested", count, &n));
	assert_int_equal(n, 1);
	iostats_map_free(map);
}

static void what_comes_late_is_dropped(void **state)
{
	struct iostats *io = begin("tx", NULL, NULL), *kid = begin("query", "a/b", io), *held;
	struct iostats_map *map;

	(void)state;
	held = iostats_hold(kid);
	iostats_access(kid, IOSTATS_EAVT, false, true);
	iostats_finish(&kid);
	iostats_tier(held, "dev", 1, 1000000);
	map = iostats_snapshot(io);
	assert_number(map, "reads ocache", 1);
	assert_false(iostats_map_has(map, "reads dev"));
	iostats_map_free(map);
	iostats_drop(held);

	/* a child that outlives its parent, and one that never ends */
	kid = begin("query", "a/b", io);
	held = begin("query", "a/c", io);
	iostats_access(held, IOSTATS_EAVT, false, true);
	iostats_drop(held);
	map = iostats_end(&io);
	assert_number(map, "reads ocache", 1);
	iostats_map_free(map);
	iostats_finish(&kid);
}

/* ---- threads ---- */

#define THREADS 4
#define STEPS   50000

static void *count_many(void *arg)
{
	struct iostats *io = arg;

	for (unsigned i = 0; i < STEPS; i++) {
		iostats_access(io, (enum iostats_sort)(1 + i % 4), i % 10 == 0, i % 5 == 0);
		if (i % 1000 == 0) {
			iostats_tier(io, "efs", 1, 1000000);
			iostats_tier(io, i % 2000 == 0 ? "dev" : "sql", 1, 0);
			query(io, "a/b", 1);
			iostats_map_free(iostats_snapshot(io));
		}
	}
	return NULL;
}

static void threads_add_up(void **state)
{
	struct iostats *io = begin("query", "a/threads", NULL);
	struct iostats_map *map;
	pthread_t t[THREADS];
	double n = THREADS, queries = n * STEPS / 1000;

	(void)state;
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, count_many, io), 0);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	map = iostats_end(&io);
	assert_number(map, "reads ocache", n * STEPS + queries);
	assert_number(map, "reads eavt", n * STEPS / 4 + queries);
	assert_number(map, "reads dir", n * STEPS / 10);
	assert_number(map, "reads dir-load", n * STEPS / 10);
	assert_number(map, "reads efs", queries);
	assert_number(map, "reads efs-ms", queries);
	assert_number(map, "reads dev", queries / 2 + queries);
	assert_number(map, "reads sql", queries / 2);
	assert_number(map, "nested a/b reads ocache", queries);
	iostats_map_free(map);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_key),
	    cmocka_unit_test(no_context_counts_nothing),
	    cmocka_unit_test(names_are_keywords),
	    cmocka_unit_test(seventeenth_tier_is_other),
	    cmocka_unit_test(nested_calls_are_summed_by_context),
	    cmocka_unit_test(nested_without_context_goes_to_the_parent_only),
	    cmocka_unit_test(nested_in_nested),
	    cmocka_unit_test(what_comes_late_is_dropped),
	    cmocka_unit_test(threads_add_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
