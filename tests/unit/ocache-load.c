/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes Reading through tiers: single flight, deadlines, tries, breakers, fills, damage
 * and its repair, closing in the middle of it all.
 */
#include "tests/unit/ocache_tier.h"

#define MIB (1ull << 20)
#define MS  ((int64_t)NS_PER_MS)

static int64_t in_ms(int64_t ms)
{
	return (int64_t)clock_ns() + ms * MS;
}

/* A cache over `near` and `far`, which has keys 0 to 999. */
static struct fake *near, *far;

static struct ocache *two_tiers(uint64_t near_deadline_ns)
{
	near = fake_new("valcache", 0);
	far = fake_new("efs", TIER_RECORD);
	fake_set(far, 0, 1000, FAKE_GOOD);
	struct ocache_tier tiers[] = {
	    {.tier = &near->tier,
	     .deadline_ns = near_deadline_ns,
	     .breaker = 3,
	     .breaker_ns = NS_PER_S},
	    {.tier = &far->tier, .deadline_ns = 20 * NS_PER_S},
	};

	return chain_of(4 * MIB, tiers, 2);
}

static void reads_through_and_fills(void **state)
{
	struct ocache *c = two_tiers(0);
	struct iostats *io = iostats_begin("query", NULL, NULL);
	struct ocache_hint hint = {.sort = IOSTATS_EAVT, .flags = OCACHE_CACHED_ONLY};
	struct iostats_map *map;

	(void)state;
	assert_int_equal(get(c, 1, &hint, io), -ENOENT);
	assert_int_equal(far->reads, 0);
	assert_int_equal(get(c, 1, NULL, io), 0);
	assert_int_equal(get(c, 1, NULL, io), 0);
	WAIT_FOR(FAKE_GET(near, writes) == 1);
	WAIT_FOR(tier_of(c, 0).writes == 1);
	assert_true(ocache_forget(c, id_of(1)));
	assert_int_equal(get(c, 1, NULL, io), 0);
	assert_int_equal(FAKE_GET(near, reads), 2);
	assert_int_equal(FAKE_GET(far, reads), 1);
	hint.flags = OCACHE_NO_FILL;
	assert_int_equal(get(c, 2, &hint, io), 0);
	assert_int_equal(get(c, 2000, NULL, io), -ENOENT);
	map = iostats_end(&io);
	assert_true(iostats_map_number(map, "reads ocache") == 6);
	assert_true(iostats_map_number(map, "reads eavt-load") == 2);
	assert_true(iostats_map_number(map, "reads valcache") == 4);
	assert_true(iostats_map_number(map, "reads efs") == 3);
	assert_true(iostats_map_number(map, "reads deserialize") == 3);
	assert_false(iostats_map_has(map, "reads inflight-lookup-ms"));
	iostats_map_free(map);
	assert_int_equal(stats_of(c).hits, 1);
	assert_int_equal(stats_of(c).misses, 5);
	assert_int_equal(stats_of(c).loads, 4);
	assert_int_equal(stats_of(c).loads_failed, 1);
	assert_int_equal(stats_of(c).fills, 1);
	assert_int_equal(tier_of(c, 1).hits, 2);
	assert_int_equal(tier_of(c, 1).misses, 1);
	assert_string_equal(tier_of(c, 1).key, "efs");
	cache_close(c);
}

struct caller {
	pthread_t thread;
	struct ocache *cache;
	uint64_t key;
	int64_t deadline_ns;
	struct iostats *io;
	int err;
};

static void *call(void *arg)
{
	struct caller *k = arg;
	struct ocache_hint hint = {.deadline_ns = k->deadline_ns};

	k->err = get(k->cache, k->key, &hint, k->io);
	return NULL;
}

static void start(struct caller *k, struct ocache *c, uint64_t key, int64_t deadline_ns)
{
	k->cache = c;
	k->key = key;
	k->deadline_ns = deadline_ns;
	assert_int_equal(pthread_create(&k->thread, NULL, call, k), 0);
}

static int finish(struct caller *k)
{
	assert_int_equal(pthread_join(k->thread, NULL), 0);
	return k->err;
}

static void one_load_for_all(void **state)
{
	struct ocache *c = two_tiers(0);
	struct caller k[8] = {{0}};
	struct iostats_map *map;

	(void)state;
	FAKE_SET(far, hold, true);
	for (unsigned i = 0; i < 8; i++) {
		k[i].io = iostats_begin("query", NULL, NULL);
		start(&k[i], c, 5, 0);
		if (i == 0)
			WAIT_FOR(FAKE_GET(far, held_n) == 1);
	}
	WAIT_FOR(stats_of(c).joined == 7);
	assert_int_equal(stats_of(c).loads_now, 1);
	assert_int_equal(fake_let_go(far), 1);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(finish(&k[i]), 0);
		map = iostats_end(&k[i].io);
		assert_true(iostats_map_number(map, "reads ocache") == 1);
		/* who joined is charged no read, and who began no waiting for others */
		assert_true(iostats_map_number(map, "reads efs") == (i == 0));
		assert_true(iostats_map_has(map, "reads inflight-lookup-ms") == (i != 0));
		iostats_map_free(map);
	}
	assert_int_equal(FAKE_GET(far, reads), 1);
	assert_int_equal(stats_of(c).loads_now, 0);
	cache_close(c);
}

/* He who began it gives up; the load goes on, and is there for who comes. */
static void a_time_out_leaves_the_load(void **state)
{
	struct ocache *c = two_tiers(0);
	struct caller first = {0}, second = {0};

	(void)state;
	FAKE_SET(far, hold, true);
	start(&first, c, 5, in_ms(50));
	WAIT_FOR(FAKE_GET(far, held_n) == 1);
	start(&second, c, 5, 0);
	assert_int_equal(finish(&first), -ETIMEDOUT);
	WAIT_FOR(stats_of(c).joined == 1);
	fake_let_go(far);
	assert_int_equal(finish(&second), 0);
	/* nobody waits any more when the bytes come: a thread of the pool decodes */
	start(&first, c, 6, in_ms(50));
	assert_int_equal(finish(&first), -ETIMEDOUT);
	assert_int_equal(stats_of(c).timeouts, 2);
	fake_let_go(far);
	WAIT_FOR(stats_of(c).objects_now == 2);
	FAKE_SET(far, hold, false);
	assert_int_equal(get(c, 6, NULL, NULL), 0);
	assert_int_equal(FAKE_GET(far, reads), 2);
	cache_close(c);
}

static void a_failure_wakes_all(void **state)
{
	struct ocache *c = two_tiers(0);
	struct caller k[4] = {{0}};

	(void)state;
	FAKE_SET(far, hold, true);
	for (unsigned i = 0; i < 4; i++)
		start(&k[i], c, 7, 0);
	WAIT_FOR(stats_of(c).joined == 3 && FAKE_GET(far, held_n) == 1);
	FAKE_SET(far, fail, -EBADMSG); /* is not tried again */
	fake_let_go(far);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(finish(&k[i]), -EBADMSG);
	FAKE_SET(far, fail, 0);
	FAKE_SET(far, hold, false);
	fake_set(far, 7, 8, FAKE_GOOD);
	assert_int_equal(get(c, 7, NULL, NULL), 0);
	cache_close(c);
}

static void tried_again(void **state)
{
	struct ocache *c = two_tiers(200 * NS_PER_MS);

	(void)state;
	FAKE_SET(far, fail_few, 1);
	FAKE_SET(far, fail, -EIO);
	assert_int_equal(get(c, 1, NULL, NULL), 0);
	assert_int_equal(FAKE_GET(far, reads), 2);
	assert_int_equal(tier_of(c, 1).failures, 1);
	FAKE_SET(near, fail, -EIO); /* the nearer one fails for good: the next has it */
	assert_int_equal(get(c, 2, NULL, NULL), 0);
	assert_int_equal(FAKE_GET(near, reads), 3);
	FAKE_SET(far, fail, -ECONNREFUSED);
	assert_int_equal(get(c, 3, NULL, NULL), -ECONNREFUSED);
	cache_close(c);
}

/* A tier that keeps what it was given costs its deadline, then nothing. */
static void a_hanging_tier_is_passed(void **state)
{
	struct ocache *c = two_tiers(30 * NS_PER_MS);
	uint64_t before;

	(void)state;
	FAKE_SET(near, stubborn, true);
	FAKE_SET(near, hold, true);
	for (unsigned i = 0; i < 3; i++) {
		before = clock_ns();
		assert_int_equal(get(c, i, NULL, NULL), 0);
		assert_true(clock_ns() - before >= 30 * NS_PER_MS);
	}
	assert_int_equal(tier_of(c, 0).timeouts, 3);
	assert_int_equal(tier_of(c, 0).breaker_open, 1);
	assert_int_equal(get(c, 4, NULL, NULL), 0);
	assert_int_equal(tier_of(c, 0).skipped, 1);
	assert_int_equal(FAKE_GET(near, reads), 3);
	assert_int_equal(FAKE_GET(near, cancels), 3);
	assert_int_equal(tier_of(c, 0).in_flight, 3);
	assert_int_equal(fake_let_go(near), 3);
	assert_int_equal(tier_of(c, 0).late, 3);
	assert_int_equal(tier_of(c, 0).in_flight, 0);
	/* when its time is over one read tries it */
	FAKE_SET(near, hold, false);
	for (uint64_t key = 100; tier_of(c, 0).breaker_open != 0; key++) {
		struct timespec nap = {0, 50 * MS};

		assert_true(key < 500);
		assert_int_equal(get(c, key, NULL, NULL), 0);
		nanosleep(&nap, NULL);
	}
	assert_int_equal(FAKE_GET(near, reads), 4);
	cache_close(c);
}

/* What comes late is not taken for the answer of the read that is out then. */
static void late_while_the_next_is_out(void **state)
{
	struct ocache *c = two_tiers(30 * NS_PER_MS);
	struct caller k = {0};

	(void)state;
	FAKE_SET(near, stubborn, true);
	FAKE_SET(near, hold, true);
	FAKE_SET(far, hold, true);
	fake_set(near, 5, 6, FAKE_GOOD);
	start(&k, c, 5, 0);
	WAIT_FOR(FAKE_GET(far, held_n) == 1);
	assert_int_equal(fake_let_go(near), 1);
	assert_int_equal(tier_of(c, 0).late, 1);
	assert_int_equal(tier_of(c, 0).hits, 0);
	assert_int_equal(stats_of(c).loads_now, 1);
	assert_int_equal(fake_let_go(far), 1);
	assert_int_equal(finish(&k), 0);
	assert_int_equal(tier_of(c, 1).hits, 1);
	assert_int_equal(tier_of(c, 1).late, 0);
	cache_close(c);
}

static void damage_is_repaired_once(void **state)
{
	static const enum fake_has kinds[] = {FAKE_DAMAGED, FAKE_UNDECODABLE, FAKE_FOREIGN};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct ocache *c = two_tiers(0);

		fake_set(near, 9, 10, kinds[i]);
		assert_int_equal(get(c, 9, NULL, NULL), 0);
		WAIT_FOR(tier_of(c, 0).writes == 1);
		assert_int_equal(stats_of(c).repairs, 1);
		assert_int_equal(tier_of(c, 0).damaged, 1);
		assert_int_equal(FAKE_GET(near, drops), 1);
		assert_true(ocache_forget(c, id_of(9)));
		assert_int_equal(get(c, 9, NULL, NULL), 0);
		assert_int_equal(FAKE_GET(far, reads), 1);
		assert_int_equal(FAKE_GET(near, writes), 1);
		assert_int_equal(tier_of(c, 0).hits, 2);
		/* damaged everywhere: the storage of record keeps what it has, the nearer tier what is only not decoded */
		fake_set(near, 10, 11, kinds[i]);
		fake_set(far, 10, 11, kinds[i]);
		assert_int_equal(get(c, 10, NULL, NULL), -EBADMSG);
		assert_int_equal(get(c, 10, NULL, NULL), -EBADMSG);
		assert_int_equal(FAKE_GET(near, drops), kinds[i] == FAKE_UNDECODABLE ? 1 : 2);
		assert_int_equal(FAKE_GET(far, drops), 0);
		assert_int_equal(FAKE_GET(near, writes), 1);
		cache_close(c);
	}
}

static void compressed(void **state)
{
	struct ocache *c = two_tiers(0);

	(void)state;
	FAKE_SET(far, compress, true);
	for (uint64_t key = 0; key < 50; key++)
		assert_int_equal(get(c, key, NULL, NULL), 0);
	cache_close(c);
}

static void fills_are_bounded(void **state)
{
	struct fake *f = fake_new("valcache", 0), *g = fake_new("efs", 0);
	struct ocache_tier tiers[] = {{.tier = &f->tier}, {.tier = &g->tier}};
	struct ocache_config cfg = {.struct_size = sizeof cfg,
				    .budget = MIB,
				    .tiers = tiers,
				    .tiers_count = 2,
				    .decoder = &object_decoder,
				    .fills = 2};
	struct ocache *c;

	(void)state;
	assert_int_equal(ocache_open(&cfg, &c, NULL), 0);
	fake_set(g, 0, 100, FAKE_GOOD);
	FAKE_SET(f, hold_writes, true);
	for (uint64_t key = 0; key < 10; key++)
		assert_int_equal(get(c, key, NULL, NULL), 0);
	assert_int_equal(stats_of(c).fills, 2);
	assert_int_equal(stats_of(c).fills_dropped, 8);
	WAIT_FOR(FAKE_GET(f, write_n) == 2);
	FAKE_SET(f, hold_writes, false);
	fake_let_go(f);
	WAIT_FOR(tier_of(c, 0).writes == 2);
	assert_int_equal(get(c, 20, NULL, NULL), 0);
	WAIT_FOR(tier_of(c, 0).writes == 3);
	assert_int_equal(stats_of(c).fills_failed, 0);
	cache_close(c);
}

/*
 * All of a shared tier is damaged, or it is new and empty: who reads is served, the tier gets so many writes at a
 * time and in a second, and everything in the end. While its breaker is open it gets none.
 */
static void fills_and_repairs_are_capped(void **state)
{
	for (unsigned damaged = 0; damaged < 2; damaged++) {
		struct fake *f = fake_new("memcached", 0), *g = fake_new("efs", TIER_RECORD);
		struct ocache_tier tiers[] = {{.tier = &f->tier,
					       .fills = 3,
					       .fills_per_s = 100,
					       .breaker = 1,
					       .breaker_ns = NS_PER_S / 20},
					      {.tier = &g->tier, .deadline_ns = 20 * NS_PER_S}};
		struct ocache *c = chain_of(16 * MIB, tiers, 2);
		uint64_t begun = clock_ns(), sent;
		unsigned most;

		(void)state;
		fake_set(g, 0, 600, FAKE_GOOD);
		fake_set(f, 0, 600, damaged ? FAKE_DAMAGED : FAKE_NONE);
		/* at a time */
		FAKE_SET(f, hold_writes, true);
		for (uint64_t key = 0; key < 100; key++)
			assert_int_equal(get(c, key, NULL, NULL), 0);
		assert_int_equal(tier_of(c, 0).fills, 3);
		assert_int_equal(tier_of(c, 0).fills_now, 3);
		assert_int_equal(tier_of(c, 0).fills_dropped, 97);
		WAIT_FOR(FAKE_GET(f, write_n) == 3);
		FAKE_SET(f, hold_writes, false);
		fake_let_go(f);
		WAIT_FOR(tier_of(c, 0).fills_now == 0);
		/* in a second: a tenth of it ahead, and the first */
		for (uint64_t key = 100; key < 600; key++) {
			assert_int_equal(get(c, key, NULL, NULL), 0);
			most = (unsigned)((clock_ns() - begun) / (NS_PER_S / 100)) + 12;
			assert_in_range(FAKE_GET(f, writes), 0, most);
		}
		sent = tier_of(c, 0).fills;
		assert_in_range(sent, 4, 599);
		assert_int_equal(sent + tier_of(c, 0).fills_dropped, 600);
		assert_int_equal(stats_of(c).fills_dropped, tier_of(c, 0).fills_dropped);
		assert_int_equal(stats_of(c).repairs, damaged ? sent : 0);
		/* none to one that fails */
		FAKE_SET(f, fail, -EIO);
		assert_true(ocache_forget(c, id_of(599)));
		fake_set(f, 599, 600, FAKE_NONE);
		assert_int_equal(get(c, 599, NULL, NULL), 0);
		assert_int_equal(tier_of(c, 0).breaker_open, 1);
		most = FAKE_GET(f, writes);
		assert_int_equal(ocache_put(c, id_of(700), "", 0, 0), 0);
		assert_int_equal(FAKE_GET(f, writes), most);
		assert_int_equal(tier_of(c, 0).fills, sent);
		FAKE_SET(f, fail, 0);
		/* in the end it has what is asked for */
		for (uint64_t key = 0; key < 40; key++)
			WAIT_FOR((ocache_forget(c, id_of(key)), get(c, key, NULL, NULL) == 0) &&
				 FAKE_GET(f, has[key]) == FAKE_GOOD);
		most = (unsigned)((clock_ns() - begun) / (NS_PER_S / 100)) + 12;
		assert_in_range(FAKE_GET(f, writes), 40, most);
		cache_close(c);
	}
}

static void references_fill_the_budget(void **state)
{
	struct fake *f = fake_new("dev", TIER_RECORD);
	struct ocache_tier tier = {.tier = &f->tier};
	struct ocache *c = chain_of(MIB, &tier, 1);
	struct ocache_ref ref[1000];

	(void)state;
	fake_set(f, 0, 1000, FAKE_GOOD);
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(ocache_get(c, id_of(i), NULL, NULL, &ref[i]), 0);
		object_check(&ref[i], id_of(i));
	}
	assert_true(stats_of(c).uncached > 400);
	for (unsigned i = 0; i < 1000; i++) {
		object_check(&ref[i], id_of(i));
		ocache_release(&ref[i]);
	}
	assert_int_equal(ocache_resize(c, MIB), 0); /* the list of pins has grown meanwhile */
	assert_true(stats_of(c).used <= MIB);
	cache_close(c);
}

/* ---- many at once ---- */

static _Atomic unsigned answers[4]; /* 0, -ENOENT, -ETIMEDOUT, -ECANCELED */

static void on_answer(void *user, unsigned index, int status, struct ocache_ref *ref)
{
	const struct ocache_want *wants = user;

	if (status == 0)
		object_check(ref, wants[index].id);
	ocache_release(ref);
	answers[status == 0            ? 0
		: status == -ENOENT    ? 1
		: status == -ETIMEDOUT ? 2
		: status == -ECANCELED ? 3
				       : (abort(), 0)]++;
}

static void asked_for_many(void **state)
{
	struct ocache *c = two_tiers(0);
	struct iostats *io = iostats_begin("query", NULL, NULL);
	struct ocache_want wants[30];
	struct iostats_map *map;

	(void)state;
	memset(answers, 0, sizeof answers);
	memset(wants, 0, sizeof wants);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(get(c, i, NULL, NULL), 0);
	FAKE_SET(far, hold, true);
	for (unsigned i = 0; i < 30; i++) /* ten are there, ten can be had, ten are not */
		wants[i].id = id_of(i < 20 ? i : 2000 + i);
	assert_int_equal(ocache_submit(c, wants, 30, 0, io, on_answer, wants), 0);
	assert_int_equal(answers[0], 10);
	assert_int_equal(ocache_submit(c, wants, 30, in_ms(30), NULL, on_answer, wants), 0);
	assert_int_equal(answers[0], 20);
	WAIT_FOR(answers[2] == 20); /* these gave up */
	fake_let_go(far);
	WAIT_FOR(answers[0] == 30 && answers[1] == 10);
	map = iostats_end(&io);
	assert_true(iostats_map_number(map, "reads ocache") == 30);
	assert_true(iostats_map_number(map, "reads efs") == 20);
	iostats_map_free(map);
	assert_int_equal(ocache_submit(c, wants, 30, 0, NULL, on_answer, wants), 0);
	assert_int_equal(answers[0], 50);
	fake_let_go(far);
	WAIT_FOR(answers[1] == 20);
	cache_close(c);
}

static void prefetched(void **state)
{
	struct ocache *c = two_tiers(0);
	struct iostats *io = iostats_begin("query", NULL, NULL);
	struct ocache_want wants[20];
	struct iostats_map *map;

	(void)state;
	memset(wants, 0, sizeof wants);
	for (unsigned i = 0; i < 20; i++)
		wants[i].id = id_of(i);
	assert_int_equal(ocache_prefetch(c, wants, 10, io), 0);
	WAIT_FOR(stats_of(c).objects_now == 10);
	assert_int_equal(ocache_prefetch(c, wants, 20, io), 0);
	WAIT_FOR(stats_of(c).objects_now == 20);
	assert_int_equal(FAKE_GET(far, reads), 20);
	map = iostats_end(&io);
	assert_true(iostats_map_number(map, "reads ocache") ==
		    20); /* what was there is no access */
	assert_true(iostats_map_number(map, "reads efs") == 20);
	iostats_map_free(map);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(get(c, i, NULL, NULL), 0);
	assert_int_equal(stats_of(c).hits, 20);
	cache_close(c);
}

/* ---- closing ---- */

static void *let_go_later(void *arg)
{
	struct timespec nap = {0, 100 * MS};

	nanosleep(&nap, NULL);
	fake_let_go(arg);
	return NULL;
}

static void closed_in_flight(void **state)
{
	struct ocache *c = two_tiers(0);
	struct caller k[3] = {{0}};
	struct ocache_want want = {.id = id_of(50)};
	bool closed = false;
	pthread_t t;

	(void)state;
	memset(answers, 0, sizeof answers);
	far->closed = &closed;
	FAKE_SET(far, stubborn, true);
	FAKE_SET(far, hold, true);
	for (unsigned i = 0; i < 3; i++)
		start(&k[i], c, 20 + i / 2, 0);
	assert_int_equal(ocache_submit(c, &want, 1, in_ms(100000), NULL, on_answer, &want), 0);
	assert_int_equal(ocache_prefetch(c, &(struct ocache_want){.id = id_of(51)}, 1, NULL), 0);
	WAIT_FOR(stats_of(c).joined == 1 && FAKE_GET(far, held_n) == 4);
	assert_int_equal(pthread_create(&t, NULL, let_go_later, far), 0);
	cache_close(c); /* waits until the tier has given all reads back */
	assert_true(closed);
	assert_int_equal(answers[3], 1);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(finish(&k[i]), -ECANCELED);
	assert_int_equal(pthread_join(t, NULL), 0);
}

static void close_waits_for_references(void **state)
{
	struct ocache *c = two_tiers(0);
	struct ocache_ref ref;

	(void)state;
	assert_int_equal(ocache_get(c, id_of(1), NULL, NULL, &ref), 0);
	assert_int_equal(ocache_close(&c), -EBUSY);
	assert_int_equal(ocache_close(&c), -EBUSY);
	object_check(&ref, id_of(1));
	ocache_release(&ref);
	cache_close(c);
}

/* ---- writing ---- */

static void put(void **state)
{
	struct ocache *c = two_tiers(0);
	struct segment s = {.id = id_of(3000), .size = 500};

	(void)state;
	assert_int_equal(ocache_put(c, s.id, &s, sizeof s, 0), 0);
	assert_int_equal(FAKE_GET(far, writes), 1);
	WAIT_FOR(FAKE_GET(near, writes) == 1);
	assert_int_equal(get(c, 3000, NULL, NULL), 0);
	FAKE_SET(far, fail, -EIO);
	assert_int_equal(ocache_put(c, s.id, &s, sizeof s, 0), -EIO);
	assert_int_equal(FAKE_GET(near, writes), 1); /* not without the record */
	FAKE_SET(far, fail, 0);
	FAKE_SET(far, hold_writes, true);
	assert_int_equal(ocache_put(c, s.id, &s, sizeof s, in_ms(30)), -ETIMEDOUT);
	fake_let_go(far);
	cache_close(c);
}

/* Who asks after a put joins a load that had asked before, and is told that the segment is there. */
static void put_while_a_load_is_out(void **state)
{
	struct ocache *c = two_tiers(0);
	struct segment s = {.id = id_of(3000), .size = 100 + 3000 % 50 * 100};
	struct caller before = {0}, after = {0};

	(void)state;
	FAKE_SET(far, hold, true);
	start(&before, c, 3000, 0);
	WAIT_FOR(FAKE_GET(far, held_n) == 1);
	assert_int_equal(ocache_put(c, s.id, &s, sizeof s, 0), 0);
	WAIT_FOR(FAKE_GET(near, writes) == 1);
	fake_set(near, 3000, 3001, FAKE_NONE); /* the record alone has it */
	start(&after, c, 3000, 0);
	WAIT_FOR(stats_of(c).joined == 1);
	FAKE_SET(far, hold, false);
	FAKE_SET(far, fail_few, 1);
	FAKE_SET(far, fail, -ENOENT); /* as it was when it was asked */
	fake_let_go(far);
	assert_int_equal(finish(&after), 0);
	assert_int_equal(finish(&before), 0);
	assert_int_equal(FAKE_GET(far, reads), 2);
	assert_int_equal(stats_of(c).loads, 1);
	cache_close(c);
}

static void put_and_get_by_memory(void **state)
{
	struct ocache_tier tier = {0};
	struct ocache_config cfg = {.struct_size = sizeof cfg,
				    .budget = MIB,
				    .tiers = &tier,
				    .tiers_count = 1,
				    .compress = true};
	char bytes[2000] = "to be read again";
	const struct ocache_bytes *got;
	struct ocache_ref ref;
	struct ocache *c;

	(void)state;
	assert_int_equal(tier_mem_open("dev", MIB, &tier.tier), 0);
	assert_int_equal(ocache_open(&cfg, &c, NULL), 0);
	assert_int_equal(ocache_put(c, id_of(1), bytes, sizeof bytes, 0), 0);
	WAIT_FOR(tier_of(c, 0).writes == 1);
	assert_int_equal(ocache_get(c, id_of(1), NULL, NULL, &ref), 0);
	got = ref.object;
	assert_int_equal(got->len, sizeof bytes);
	assert_memory_equal(got->data, bytes, sizeof bytes);
	assert_true(tier_of(c, 0).bytes < 200); /* it was packed */
	ocache_release(&ref);
	assert_int_equal(ocache_close(&c), 0);
}

/* What took long, and where: a tier that hangs, one that is slow; and in a line. */
static void slow_loads_are_told(void **state)
{
	struct iostats *io = iostats_begin("query", "artist/by-name", NULL);
	struct ocache_slow slow[3], one[80];
	struct ocache_tier tiers[2];
	struct ocache_config cfg = {.struct_size = sizeof cfg,
				    .budget = 4 * MIB,
				    .tiers = tiers,
				    .tiers_count = 2,
				    .decoder = &object_decoder,
				    .slow_ns = 40 * NS_PER_S / 1000};
	struct ocache *c;
	char line[400], want[100];

	(void)state;
	near = fake_new("valcache", 0);
	far = fake_new("efs", TIER_RECORD);
	fake_set(far, 0, 1000, FAKE_GOOD);
	tiers[0] = (struct ocache_tier){.tier = &near->tier, .deadline_ns = NS_PER_S / 20};
	tiers[1] = (struct ocache_tier){.tier = &far->tier, .deadline_ns = 20 * NS_PER_S};
	assert_int_equal(ocache_open(&cfg, &c, NULL), 0);
	assert_int_equal(get(c, 1, NULL, io), 0);
	assert_int_equal(ocache_slow_loads(c, slow, 3, sizeof slow[0]), 0);
	FAKE_SET(near, hold, true);
	assert_int_equal(get(c, 2, NULL, io), 0);
	FAKE_SET(near, hold, false);
	FAKE_SET(far, delay_ns, 60 * NS_PER_S / 1000);
	assert_int_equal(get(c, 2001, NULL, NULL), -ENOENT);
	assert_int_equal(ocache_slow_loads(c, slow, 3, sizeof slow[0]), 2);
	assert_int_equal(stats_of(c).slow, 2);
	/* the newest first */
	assert_true(slow[0].id.lo == id_of(2001).lo && slow[1].id.lo == id_of(2).lo);
	assert_int_equal(slow[0].status, -ENOENT);
	assert_string_equal(slow[0].io_context, "");
	assert_int_equal(slow[0].tiers, 2);
	assert_string_equal(slow[0].tier[1].key, "efs");
	assert_int_equal(slow[0].tier[1].status, -ENOENT);
	assert_in_range(slow[0].tier[1].ns, 60 * MS, 400 * MS);
	assert_in_range(slow[0].ns, slow[0].tier[1].ns, 500 * MS);
	assert_string_equal(slow[1].io_context, "artist/by-name");
	assert_int_equal(slow[1].status, 0);
	assert_int_equal(slow[1].tier[0].status, -ETIMEDOUT);
	assert_int_equal(slow[1].tier[0].reads, 1);
	assert_in_range(slow[1].tier[0].ns, 49 * MS, 400 * MS);
	assert_true(slow[1].decode_ns > 0 && slow[1].decode_ns < slow[1].ns);
	assert_in_range(ocache_slow_line(&slow[1], line, sizeof line), 100, sizeof line - 1);
	seg_id_format(id_of(2), want);
	assert_non_null(strstr(line, want));
	assert_non_null(strstr(line, " ms, found, for artist/by-name; valcache: "));
	assert_non_null(strstr(line, " ms in 1 reads, timed out; efs: "));
	assert_non_null(strstr(line, "; decoding: "));
	assert_int_equal(ocache_slow_line(&slow[1], line, 10),
			 (int)ocache_slow_line(&slow[1], want, 0));
	assert_int_equal(strlen(line), 9);
	/* the last 64 are kept */
	FAKE_SET(far, delay_ns, 41 * NS_PER_S / 1000);
	{
		struct ocache_want wants[70];

		for (uint64_t i = 0; i < 70; i++)
			wants[i] = (struct ocache_want){.id = id_of(100 + i)};
		assert_int_equal(ocache_prefetch(c, wants, 70, io), 0);
		WAIT_FOR(stats_of(c).slow == 72);
	}
	assert_int_equal(ocache_slow_loads(c, one, 80, sizeof one[0]), 64);
	assert_int_equal(ocache_slow_loads(c, one, 2, sizeof one[0]), 2);
	iostats_map_free(iostats_end(&io));
	cache_close(c);
}

/* The access that loads an object does not count as its use: what is read once pushes nothing out. */
static void a_scan_passes_through(void **state)
{
	const struct ocache_hint cached = {.flags = OCACHE_CACHED_ONLY};
	struct ocache *c = two_tiers(0);
	unsigned there = 0;

	(void)state;
	fake_set(far, 0, FAKE_KEYS, FAKE_GOOD);
	for (unsigned round = 0; round < 4; round++)
		for (uint64_t key = 0; key < 300; key++) /* a sixth of the budget */
			assert_int_equal(get(c, key, NULL, NULL), 0);
	for (uint64_t key = 300; key < FAKE_KEYS; key++) {
		struct ocache_want want = {.id = id_of(key)};

		if (key % 2 == 0) /* alone, or ahead of who wants it */
			assert_int_equal(ocache_prefetch(c, &want, 1, NULL), 0);
		else
			assert_int_equal(get(c, key, NULL, NULL), 0);
	}
	WAIT_FOR(stats_of(c).loads_now == 0);
	for (uint64_t key = 0; key < 300; key++)
		there += get(c, key, &cached, NULL) == 0;
	assert_in_range(there, 290, 300);
	assert_true(stats_of(c).evicted > 1000);
	cache_close(c);
}

static void bad_chains(void **state)
{
	struct fake *f = fake_new("efs", 0);
	struct ocache_tier tiers[9] = {{0}};
	struct ocache_config cfg = {.struct_size = sizeof cfg, .tiers = tiers, .tiers_count = 9};
	struct ocache *c = NULL;
	char *cause;

	(void)state;
	assert_int_equal(ocache_open(&cfg, &c, &cause), -EINVAL);
	assert_string_equal(cause, "9 tiers are more than 8");
	free(cause);
	cfg.tiers_count = 2;
	tiers[0].tier = &f->tier;
	assert_int_equal(ocache_open(&cfg, &c, &cause), -EINVAL);
	assert_string_equal(cause, "tier 1: a tier of the chain is NULL");
	free(cause);
	f->ops.abi = 7;
	cfg.tiers_count = 1;
	assert_int_equal(ocache_open(&cfg, &c, &cause), -EINVAL);
	assert_string_equal(cause, "tier 0: a tier was made for another version of tier.h");
	free(cause);
	f->ops.abi = TIER_ABI;
	f->tier.key = "E F S";
	assert_int_equal(ocache_open(&cfg, &c, NULL), -EINVAL);
	f->tier.key = NULL;
	f->ops.read = NULL;
	assert_int_equal(ocache_open(&cfg, &c, NULL), -EINVAL);
	fake_close(&f->tier); /* it is still ours */
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(reads_through_and_fills),
	    cmocka_unit_test(one_load_for_all),
	    cmocka_unit_test(a_time_out_leaves_the_load),
	    cmocka_unit_test(a_failure_wakes_all),
	    cmocka_unit_test(tried_again),
	    cmocka_unit_test(a_hanging_tier_is_passed),
	    cmocka_unit_test(late_while_the_next_is_out),
	    cmocka_unit_test(damage_is_repaired_once),
	    cmocka_unit_test(compressed),
	    cmocka_unit_test(fills_are_bounded),
	    cmocka_unit_test(fills_and_repairs_are_capped),
	    cmocka_unit_test(references_fill_the_budget),
	    cmocka_unit_test(asked_for_many),
	    cmocka_unit_test(prefetched),
	    cmocka_unit_test(closed_in_flight),
	    cmocka_unit_test(close_waits_for_references),
	    cmocka_unit_test(put),
	    cmocka_unit_test(put_while_a_load_is_out),
	    cmocka_unit_test(put_and_get_by_memory),
	    cmocka_unit_test(slow_loads_are_told),
	    cmocka_unit_test(a_scan_passes_through),
	    cmocka_unit_test(bad_chains),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
