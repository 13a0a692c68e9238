/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The io-stats that are published as samples, made by reading through a cache over tiers that take
 * as long as theirs did. No test here sets a counter.
 */
#include "tests/unit/golden.h"

/*
 * {:dir 1 :avet 2 :valcache-direct 2 :efs 2 :efs-ms 26.27 :valcache 2 :dir-load 1 :valcache-ms
 * 50.57
 *  :avet-load 2 :ocache 2}
 */
static void cold_lookup(void **state)
{
	bool good = false;

	(void)state;
	for (unsigned i = 0; i < (TIMED ? TRIES : 1) && !good; i++) {
		struct fake *direct = fake_new("valcache-direct", 0),
			    *daemon = fake_new("valcache", 0), *efs = fake_new("efs", 0);
		struct ocache_tier tiers[] = {
		    {.tier = &direct->tier}, {.tier = &daemon->tier}, {.tier = &efs->tier}};
		struct ocache *c = chain_of(4 * MIB, tiers, 3);
		struct iostats *io = iostats_begin("query", "artist/by-name", NULL);
		struct iostats_map *map;

		fake_set(efs, 0, 10, FAKE_GOOD);
		FAKE_SET(daemon, delay_ns, 25285000);
		FAKE_SET(efs, delay_ns, 13135000);
		assert_int_equal(get_one(c, 1, IOSTATS_AVET, true, io), 0);
		assert_int_equal(get_one(c, 2, IOSTATS_AVET, false, io), 0);
		map = iostats_end(&io);
		assert_count(map, "reads deserialize", 2);
		good = is_cold_lookup(map, FAKE_GET(daemon, took_ns), FAKE_GET(efs, took_ns));
		assert_true(iostats_map_number(map, "api-ms") >= 76.8);
		assert_string_equal(iostats_map_name(map, "io-context"), "artist/by-name");
		iostats_map_free(map);
		cache_close(c);
	}
	assert_true(good || !TIMED);
}

/*
 * {:aevt 607 :aevt-load 414 :ocache 607 :dev 212 :dev-ms 304.1}, then {:aevt 405 :ocache 405}: the
 * query reads 405 segments; 193 are there, 10 it loads itself, and 202 it has asked for ahead and
 * then waits for.
 */
static void cold_then_warm(void **state)
{
	bool good = false;

	(void)state;
	for (unsigned i = 0; i < (TIMED ? TRIES : 1) && !good; i++) {
		struct fake *dev = fake_new("dev", TIER_RECORD);
		struct ocache_tier tier = {.tier = &dev->tier};
		struct ocache *c = chain_of(64 * MIB, &tier, 1);
		struct ocache_want *wants = calloc(202, sizeof *wants);
		struct iostats *io;
		struct iostats_map *map;

		assert_non_null(wants);
		fake_set(dev, 0, 405, FAKE_GOOD);
		for (uint64_t key = 0; key < 193; key++)
			assert_int_equal(get_one(c, key, IOSTATS_AEVT, false, NULL), 0);
		io = iostats_begin("query", "artist/avg-name-length", NULL);
		FAKE_SET(dev, delay_ns, 1434434);
		for (uint64_t key = 0; key < 203; key++)
			assert_int_equal(get_one(c, key, IOSTATS_AEVT, false, io), 0);
		/* one is on its way each time that the query asks for it */
		for (unsigned k = 0; k < 202; k++) {
			wants[k].id = id_of(203 + k);
			wants[k].hint.sort = IOSTATS_AEVT;
			assert_int_equal(ocache_prefetch(c, &wants[k], 1, io), 0);
			assert_int_equal(get_one(c, 203 + k, IOSTATS_AEVT, false, io), 0);
		}
		map = iostats_end(&io);
		good = is_half_cold_query(map, FAKE_GET(dev, took_ns));
		assert_true(iostats_map_has(map, "reads inflight-lookup-ms"));
		iostats_map_free(map);
		assert_warm_query(c);
		free(wants);
		cache_close(c);
	}
	assert_true(good || !TIMED);
}

/*
 * "IoContext": "DbTx", "Api": "TxWith", "Reads": {"Avet": 2, "Aevt": 3, "ValcacheDirectMs": 0.14,
 * "Ocache": 5, "ValcacheDirect": 2}
 */
static void cloud_transaction(void **state)
{
	bool good = false;

	(void)state;
	for (unsigned i = 0; i < (TIMED ? TRIES * 10 : 1) && !good; i++) {
		struct fake *direct = fake_new("valcache-direct", 0);
		struct ocache_tier tier = {.tier = &direct->tier};
		struct ocache *c = chain_of(4 * MIB, &tier, 1);
		struct iostats *io;
		struct iostats_map *map;
		char *json;

		fake_set(direct, 0, 10, FAKE_GOOD);
		for (uint64_t key = 0; key < 3; key++)
			assert_int_equal(get(c, key, NULL, NULL), 0);
		FAKE_SET(direct, spin_ns, 70000);
		io = iostats_begin("tx-with", "db/tx", NULL);
		for (uint64_t key = 0; key < 5; key++)
			assert_int_equal(
			    get_one(c, key, key < 3 ? IOSTATS_AEVT : IOSTATS_AVET, false, io), 0);
		map = iostats_end(&io);
		assert_count(map, "reads avet", 2);
		assert_count(map, "reads aevt", 3);
		assert_count(map, "reads ocache", 5);
		assert_count(map, "reads valcache-direct", 2);
		good =
		    near_enough(map, "reads valcache-direct-ms", 0.14, FAKE_GET(direct, took_ns));
		json = iostats_json(map);
		assert_non_null(
		    strstr(json, "{\"IoContext\": \"DbTx\", \"Api\": \"TxWith\", \"ApiMs\": "));
		/* below a millisecond, unless the machine is busy */
		assert_non_null(
		    strstr(json, iostats_map_number(map, "reads valcache-direct-ms") < 0.99
				     ? "\"ValcacheDirect\": 2, \"ValcacheDirectMs\": 0."
				     : "\"ValcacheDirect\": 2, \"ValcacheDirectMs\": "));
		free(json);
		iostats_map_free(map);
		cache_close(c);
	}
	assert_true(good || !TIMED);
}

/* {:api :tx, :api-ms 5 :reads {:ocache 2}} */
static void pro_transaction(void **state)
{
	struct ocache *c = cache_open(MIB);
	struct iostats *io;
	struct iostats_map *map;
	char *edn;

	(void)state;
	assert_int_equal(add(c, 1, 100, NULL), 0);
	io = iostats_begin("tx", NULL, NULL);
	assert_int_equal(get(c, 1, NULL, io), 0);
	assert_int_equal(get(c, 1, NULL, io), 0);
	map = iostats_end(&io);
	edn = iostats_edn(map);
	assert_memory_equal(edn, "{:api :tx, :api-ms ", 19);
	assert_non_null(strstr(edn, ", :reads {:ocache 2}}"));
	free(edn);
	iostats_map_free(map);
	cache_close(c);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(cold_lookup),
	    cmocka_unit_test(cold_then_warm),
	    cmocka_unit_test(cloud_transaction),
	    cmocka_unit_test(pro_transaction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
