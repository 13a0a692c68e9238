/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes Reading through tiers: single flight, deadlines, tries, breakers, fills, damage
 * and its repair, closing in the middle of it all.
 */
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/memcheck.h"
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
	     .breaker_ns = 2 * NS_PER_S},
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
	struct ocache *c = two_tiers(4 * NS_PER_S); /* what is over is not tried again */

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
	/* another one only if the machine kept the first for as long as its deadline */
	assert_int_equal(FAKE_GET(near, reads), 1 + tier_of(c, 0).timeouts);
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
		WAIT_FOR(tier_of(c, 0).fills_now == 0);
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

static void take_metrics(void *user, const struct ocache_metrics *m)
{
	*(struct ocache_metrics *)user = *m;
}

/* Of many, each with a deadline of its own has that, also a later one; the others have the call's. */
static void deadlines_of_many(void **state)
{
	struct ocache *c = two_tiers(20 * NS_PER_S);
	struct ocache_want wants[20];

	(void)state;
	memset(answers, 0, sizeof answers);
	memset(wants, 0, sizeof wants);
	FAKE_SET(near, hold, true);
	for (unsigned i = 0; i < 20; i++) {
		wants[i].id = id_of(i);
		wants[i].hint.deadline_ns = i < 8 ? in_ms(60000) : i < 13 ? in_ms(1) : 0;
	}
	assert_int_equal(ocache_submit(c, wants, 20, in_ms(20), NULL, on_answer, wants), 0);
	WAIT_FOR(answers[2] == 12);
	fake_let_go(near);
	WAIT_FOR(answers[0] == 8);
	assert_int_equal(answers[2], 12);
	assert_int_equal(ocache_submit(c, wants + 13, 1, 0, NULL, on_answer, wants + 13), 0);
	WAIT_FOR(answers[0] == 9);
	cache_close(c);
}

/* Those that fail together are not tried again together. */
static void pauses_differ(void **state)
{
	struct fake *f = fake_new("efs", TIER_RECORD);
	struct ocache_tier tier = {.tier = &f->tier, .deadline_ns = 20 * NS_PER_S, .breaker = 1000};
	struct ocache *c = chain_of(4 * MIB, &tier, 1);
	struct ocache_metrics m;
	const struct ocache_metric *pause = NULL;

	(void)state;
	FAKE_SET(f, fail, -EIO);
	for (uint64_t key = 0; key < 10; key++) {
		struct ocache_hint hint = {.deadline_ns = in_ms(1)};

		assert_int_not_equal(get(c, key, &hint, NULL), 0);
	}
	WAIT_FOR(tier_of(c, 0).retries >= 10);
	assert_int_equal(ocache_metrics(c, take_metrics, &m), 0);
	for (unsigned i = 0; i < m.n; i++)
		if (strcmp(m.metric[i].name, "StorageBackoff") == 0)
			pause = &m.metric[i];
	assert_non_null(pause);
	assert_true(pause->hi > pause->lo + 10); /* between one second and two */
	cache_close(c);
}

/* A tier that has all the time there is: what fails is tried again soon all the same. */
static void pauses_end(void **state)
{
	struct fake *f = fake_new("efs", TIER_RECORD);
	struct ocache_tier tier = {.tier = &f->tier, .deadline_ns = UINT64_MAX, .tries = 3};
	struct ocache *c = chain_of(4 * MIB, &tier, 1);
	struct ocache_hint hint = {.deadline_ns = in_ms(15000)};

	(void)state;
	fake_set(f, 0, 1, FAKE_GOOD);
	FAKE_SET(f, fail_few, 1);
	FAKE_SET(f, fail, -EIO);
	assert_int_equal(get(c, 0, &hint, NULL), 0);
	assert_int_equal(FAKE_GET(f, reads), 2);
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

/* When the close has given up all four reads, and waits for them. */
static void *let_go_later(void *arg)
{
	int64_t end = in_ms(20000);
	struct timespec nap = {0, 50 * MS};
	struct fake *f = arg;

	do
		nanosleep(&nap, NULL);
	while (FAKE_GET(f, cancels) < 4 && in_ms(0) < end);
	fake_let_go(f);
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

/*
 * A call that waits when the close begins returns before the close does. Its thread is kept from running on, by a signal,
 * until the close is over, or for 300 ms if that is not over without it.
 */
static _Atomic bool close_is_over, kept;

static void keep_thread(int sig)
{
	uint64_t end = clock_ns() + 300 * MS;
	struct timespec nap = {0, MS};

	(void)sig;
	atomic_store(&kept, true);
	while (!atomic_load(&close_is_over) && clock_ns() < end)
		nanosleep(&nap, NULL);
	if (atomic_load(&close_is_over)) { /* it would go on with a cache that is gone */
		static const char said[] =
		    "the close was over before a call that had begun before\n";

		(void)!write(STDERR_FILENO, said, sizeof said - 1);
		_exit(1);
	}
}

static void *close_it(void *cache)
{
	struct ocache *c = cache;

	AZ(ocache_close(&c));
	atomic_store(&close_is_over, true);
	return NULL;
}

static bool is_closing(struct ocache *c)
{
	bool is;

	pthread_mutex_lock(&c->shard[0].lock);
	is = c->shard[0].closing;
	pthread_mutex_unlock(&c->shard[0].lock);
	return is;
}

/* The cache, and the tier, are there for as long as the test looks at them. */
static _Atomic bool let_go;

static void close_later(struct tier *t)
{
	struct timespec nap = {0, MS};

	while (!atomic_load(&let_go))
		nanosleep(&nap, NULL);
	fake_close(t);
}

/* `thread` waits for `held`, which keeps what it was given. */
static void close_beside(struct ocache *c, pthread_t thread, struct fake *held)
{
	struct sigaction act = {.sa_handler = keep_thread}, before;
	pthread_t closer;

	atomic_store(&close_is_over, false);
	atomic_store(&kept, false);
	atomic_store(&let_go, false);
	held->ops.close = close_later;
	assert_int_equal(sigaction(SIGUSR1, &act, &before), 0);
	assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
	WAIT_FOR(atomic_load(&kept));
	assert_int_equal(pthread_create(&closer, NULL, close_it, c), 0);
	WAIT_FOR(is_closing(c));
	fake_let_go(held);
	atomic_store(&let_go, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(pthread_join(closer, NULL), 0);
	assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
}

static void *put_one(void *cache)
{
	struct segment s = {.id = id_of(3000), .size = 500};

	AZ(ocache_put(cache, s.id, &s, sizeof s, 0));
	return NULL;
}

static void closed_during_a_put(void **state)
{
	struct ocache *c = two_tiers(0);
	pthread_t t;

	(void)state;
	FAKE_SET(far, hold_writes, true);
	assert_int_equal(pthread_create(&t, NULL, put_one, c), 0);
	WAIT_FOR(FAKE_GET(far, write_n) == 1);
	close_beside(c, t, far);
}

static char keys_file[100];

static void *warm_up(void *cache)
{
	AZ(ocache_warm(cache, keys_file, NULL, NULL, NULL, NULL));
	return NULL;
}

static void closed_during_a_warm_start(void **state)
{
	struct ocache *c = two_tiers(0);
	pthread_t t;
	int fd;

	(void)state;
	snprintf(keys_file, sizeof keys_file, "%s/keys.XXXXXX",
		 getenv("TEST_TMP") != NULL ? getenv("TEST_TMP") : "/tmp");
	fd = mkstemp(keys_file);
	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
	for (uint64_t key = 0; key < 100; key++)
		assert_int_equal(get(c, key, NULL, NULL), 0);
	assert_int_equal(ocache_save(c, keys_file, NULL, NULL), 0);
	cache_close(c);
	c = two_tiers(20 * NS_PER_S);
	FAKE_SET(near, hold, true);
	assert_int_equal(pthread_create(&t, NULL, warm_up, c), 0);
	WAIT_FOR(FAKE_GET(near, held_n) == 32);
	close_beside(c, t, near);
	assert_int_equal(unlink(keys_file), 0);
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

/* What no tier can take is refused, and nothing is sent. */
static void put_refused(void **state)
{
	struct fake *f[2] = {fake_new("valcache", 0), fake_new("dev", TIER_RECORD)};
	struct ocache_tier tiers[] = {{.tier = &f[0]->tier}, {.tier = &f[1]->tier}};
	struct ocache *c;
	char byte = 'x';

	(void)state;
	f[1]->ops.write = NULL; /* a record that is only read */
	c = chain_of(4 * MIB, tiers, 2);
	assert_int_equal(ocache_put(c, id_of(1), &byte, 1, 0), -EROFS);
	assert_int_equal(FAKE_GET(f[0], writes), 0);
	cache_close(c);
	f[0] = fake_new("valcache", 0);
	f[0]->ops.write = NULL; /* nobody writes */
	tiers[0].tier = &f[0]->tier;
	c = chain_of(4 * MIB, tiers, 1);
	assert_int_equal(ocache_put(c, id_of(1), &byte, 1, 0), -EROFS);
	cache_close(c);
	c = two_tiers(0);
	assert_int_equal(ocache_put(c, id_of(1), &byte, (256u << 20) + 1, 0), -E2BIG);
	assert_int_equal(ocache_put(c, id_of(1), &byte, SIZE_MAX, 0), -E2BIG);
	assert_int_equal(FAKE_GET(far, writes), 0);
	cache_close(c);
}

/* A fill has its tier's deadline; a tier that is not to be filled is not, but what it had damaged comes again. */
static void fills_of_a_tier(void **state)
{
	struct ocache_tier tiers[2] = {{.deadline_ns = 7 * NS_PER_S}, {.no_fill = true}};
	struct fake *f[3] = {fake_new("valcache", 0), fake_new("mem", 0),
			     fake_new("dev", TIER_RECORD)};
	struct ocache_tier chain[3];
	struct ocache *c;
	int64_t before = (int64_t)clock_ns(), deadline;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		chain[i] = i < 2 ? tiers[i] : (struct ocache_tier){0};
		chain[i].tier = &f[i]->tier;
	}
	fake_set(f[2], 0, 10, FAKE_GOOD);
	c = chain_of(4 * MIB, chain, 3);
	assert_int_equal(get(c, 1, NULL, NULL), 0);
	WAIT_FOR(tier_of(c, 0).writes == 1);
	deadline = FAKE_GET(f[0], write_deadline_ns);
	assert_true(deadline >= before + 7000 * MS && deadline <= (int64_t)clock_ns() + 7000 * MS);
	assert_int_equal(ocache_put(c, id_of(2), "x", 1, 0), 0);
	WAIT_FOR(tier_of(c, 0).writes == 2);
	assert_int_equal(FAKE_GET(f[1], writes), 0);
	assert_int_equal(stats_of(c).fills, 2);
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
				    .decoder = &object_decoder};
	uint64_t began, took[2];
	struct ocache *c;
	char line[400], want[100];

	(void)state;
	for (unsigned told = 0; told < 2; told++) {
		near = fake_new("valcache", 0);
		far = fake_new("efs", TIER_RECORD);
		fake_set(far, 0, 1000, FAKE_GOOD);
		tiers[0] = (struct ocache_tier){.tier = &near->tier, .deadline_ns = NS_PER_S / 20};
		tiers[1] = (struct ocache_tier){.tier = &far->tier, .deadline_ns = 20 * NS_PER_S};
		cfg.slow_ns = told ? 40 * NS_PER_S / 1000 : 1000 * NS_PER_S;
		assert_int_equal(ocache_open(&cfg, &c, NULL), 0);
		FAKE_SET(near, hold, true);
		began = clock_ns();
		assert_int_equal(get(c, 2, NULL, io), 0);
		took[1] = clock_ns() - began;
		FAKE_SET(near, hold, false);
		if (told)
			break;
		assert_int_equal(ocache_slow_loads(c, slow, 3, sizeof slow[0]), 0);
		cache_close(c);
	}
	FAKE_SET(far, delay_ns, 60 * NS_PER_S / 1000);
	began = clock_ns();
	assert_int_equal(get(c, 2001, NULL, NULL), -ENOENT);
	took[0] = clock_ns() - began;
	assert_int_equal(ocache_slow_loads(c, slow, 3, sizeof slow[0]), 2);
	assert_int_equal(stats_of(c).slow, 2);
	/* the newest first */
	assert_true(slow[0].id.lo == id_of(2001).lo && slow[1].id.lo == id_of(2).lo);
	assert_int_equal(slow[0].status, -ENOENT);
	assert_string_equal(slow[0].io_context, "");
	assert_int_equal(slow[0].tiers, 2);
	assert_string_equal(slow[0].tier[1].key, "efs");
	assert_int_equal(slow[0].tier[1].status, -ENOENT);
	assert_in_range(slow[0].tier[1].ns, 60 * MS, took[0]);
	assert_in_range(slow[0].ns, slow[0].tier[1].ns, took[0]);
	assert_string_equal(slow[1].io_context, "artist/by-name");
	assert_int_equal(slow[1].status, 0);
	assert_int_equal(slow[1].tier[0].status, -ETIMEDOUT);
	assert_int_equal(slow[1].tier[0].reads, 1);
	assert_in_range(slow[1].tier[0].ns, 49 * MS, took[1]);
	assert_in_range(slow[1].ns, slow[1].tier[0].ns, took[1]);
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
	/* so many that all of the cache goes by more times than uses are counted */
	for (uint64_t key = 300; key < 4ul * FAKE_KEYS; key++) {
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

/* Times before the clock's beginning have passed as well. */
static void deadlines_that_have_passed(void **state)
{
	static const int64_t passed[] = {1, -1, -5 * (int64_t)NS_PER_S - 3, INT64_MIN};
	struct ocache *c = two_tiers(20 * NS_PER_S);
	struct segment s = {.id = id_of(3000), .size = 500};

	(void)state;
	FAKE_SET(near, hold, true);
	FAKE_SET(far, hold_writes, true);
	for (unsigned i = 0; i < sizeof passed / sizeof *passed; i++) {
		struct ocache_hint hint = {.deadline_ns = passed[i]};

		assert_int_equal(get(c, 1, &hint, NULL), -ETIMEDOUT);
		assert_int_equal(ocache_put(c, s.id, &s, sizeof s, passed[i]), -ETIMEDOUT);
	}
	fake_let_go(near);
	fake_let_go(far);
	WAIT_FOR(tier_of(c, 0).writes == 1); /* what went on alone */
	cache_close(c);
}

static void no_object(void *ctx, void *object)
{
	(void)ctx;
	(void)object;
	fail_msg("there is nothing to destroy");
}

static int decode_nothing(void *ctx, struct seg_id id, const void *bytes, size_t len, void **object,
			  size_t *size)
{
	(void)ctx;
	(void)id;
	(void)bytes;
	(void)len;
	(void)object;
	*size = 10;
	return 0;
}

/* Tiers whose errors are positive, a decoder that says 0 and has no object: none is a hit. */
static void answers_against_the_rules(void **state)
{
	struct ocache *c = two_tiers(0);
	const struct ocache_decoder nothing = {NULL, decode_nothing, no_object};
	const struct ocache_hint hint = {.decoder = &nothing};
	struct segment s = {.id = id_of(3000), .size = 500};

	(void)state;
	FAKE_SET(far, fail, 1); /* as ocache__load_wait() says that it was in the table */
	assert_int_equal(get(c, 1, NULL, NULL), -EIO);
	assert_int_equal(ocache_put(c, s.id, &s, sizeof s, 0), -EIO);
	assert_int_equal(tier_of(c, 1).failures, 2);
	assert_int_equal(tier_of(c, 1).writes_failed, 1);
	FAKE_SET(far, fail, 0);
	assert_int_equal(get(c, 1, &hint, NULL), -EBADMSG);
	assert_int_equal(tier_of(c, 1).damaged, 1);
	assert_int_equal(FAKE_GET(far, drops), 0);
	assert_int_equal(get(c, 1, NULL, NULL), 0);
	cache_close(c);
}

/* A sum is verified once: by the chain, unless the tier says that it has. Key and lengths are looked at again. */
static void verified_once(void **state)
{
	(void)state;
	for (unsigned verifies = 0; verifies < 2; verifies++) {
		struct fake *dev = fake_new("dev", TIER_RECORD);
		struct fake *files = fake_new("efs", verifies ? TIER_VERIFIES : 0);
		struct ocache_tier tiers[] = {{.tier = &files->tier}, {.tier = &dev->tier}};
		struct ocache *c;

		fake_set(dev, 0, 10, FAKE_GOOD);
		fake_set(files, 0, 5, FAKE_UNSUMMED);
		fake_set(files, 5, 6, FAKE_FOREIGN);
		c = chain_of(4 * MIB, tiers, 2);
		for (uint64_t key = 0; key < 6; key++)
			assert_int_equal(get(c, key, NULL, NULL), 0);
		assert_int_equal(tier_of(c, 0).damaged, verifies ? 1 : 6);
		assert_int_equal(FAKE_GET(dev, reads), verifies ? 1 : 6);
		cache_close(c);
	}
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
	f->ops.read = fake_read;
	cfg.threads = 257;
	assert_int_equal(ocache_open(&cfg, &c, &cause), -EINVAL);
	assert_string_equal(cause, "257 threads are more than 256");
	free(cause);
	fake_close(&f->tier); /* it is still ours */
}

/* No addresses for so many stacks: what has begun ends, and there is a sentence. Sanitizers need their addresses. */
static void no_more_threads(void **state)
{
	struct fake *f = fake_new("efs", 0);
	struct ocache_tier tier = {.tier = &f->tier};
	struct ocache_config cfg = {.struct_size = sizeof cfg,
				    .budget = MIB,
				    .tiers = &tier,
				    .tiers_count = 1,
				    .threads = 256};
	struct ocache *c = NULL;
	char *cause = NULL;
	int err = -EAGAIN;

	(void)state;
#ifndef INSTRUMENTED
	if (!memcheck_runs()) {
		struct rlimit before = limit_addresses(256 * MIB);

		err = ocache_open(&cfg, &c, &cause);
		assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
		assert_string_equal(cause, "the threads of a cache cannot be started: "
					   "Resource temporarily unavailable");
		free(cause);
	}
#endif
	assert_int_equal(err, -EAGAIN);
	assert_null(c);
	assert_int_equal(ocache_open(&cfg, &c, &cause), 0);
	cache_close(c);
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
	    cmocka_unit_test(deadlines_of_many),
	    cmocka_unit_test(pauses_differ),
	    cmocka_unit_test(pauses_end),
	    cmocka_unit_test(prefetched),
	    cmocka_unit_test(closed_in_flight),
	    cmocka_unit_test(close_waits_for_references),
	    cmocka_unit_test(closed_during_a_put),
	    cmocka_unit_test(closed_during_a_warm_start),
	    cmocka_unit_test(put),
	    cmocka_unit_test(put_refused),
	    cmocka_unit_test(fills_of_a_tier),
	    cmocka_unit_test(put_while_a_load_is_out),
	    cmocka_unit_test(put_and_get_by_memory),
	    cmocka_unit_test(slow_loads_are_told),
	    cmocka_unit_test(a_scan_passes_through),
	    cmocka_unit_test(deadlines_that_have_passed),
	    cmocka_unit_test(answers_against_the_rules),
	    cmocka_unit_test(verified_once),
	    cmocka_unit_test(bad_chains),
	    cmocka_unit_test(no_more_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
