/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object cache by one thread: what is in it, what a reference keeps, what the budget counts,
 * and that a hit writes nothing that is shared.
 */
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/memcheck.h"
#include "ocache/cache_int.h"
#include "tests/unit/ocache_rig.h"

#define MIB (1ull << 20)

static void opening(void **state)
{
	struct ocache_config cfg = {.struct_size = sizeof cfg, .budget = 1000};
	struct ocache *c = NULL;
	char *cause;

	(void)state;
	assert_int_equal(ocache_open(NULL, &c, NULL), 0);
	assert_true(stats_of(c).budget >= OCACHE_BUDGET_MIN);
	assert_int_equal(ocache_close(&c), 0);
	assert_null(c);
	assert_int_equal(ocache_close(&c), 0); /* there is none any more */
	assert_int_equal(ocache_open(&cfg, &c, &cause), -EINVAL);
	assert_string_equal(cause, "the budget of 1000 bytes is below 1048576");
	free(cause);
	cfg.struct_size = 3;
	assert_int_equal(ocache_open(&cfg, &c, NULL), -EINVAL);
	assert_null(c);
}

static void too_many_caches(void **state)
{
	struct ocache *c[LANE_CACHES], *more = NULL;
	char *cause;

	(void)state;
	for (unsigned i = 0; i < LANE_CACHES; i++)
		c[i] = cache_open(MIB);
	assert_int_equal(add(c[7], 1, 100, NULL), 0);
	assert_true(has(c[7], 1));
	assert_int_equal(ocache_open(NULL, &more, &cause), -ENFILE);
	assert_string_equal(cause, "64 caches are open already");
	free(cause);
	assert_int_equal(ocache_close(&c[7]), 0);
	c[7] = cache_open(MIB); /* takes over the number, not the counts */
	assert_int_equal(stats_of(c[7]).hits, 0);
	assert_false(has(c[7], 1));
	for (unsigned i = 0; i < LANE_CACHES; i++)
		assert_int_equal(ocache_close(&c[i]), 0);
}

static void in_and_out(void **state)
{
	struct ocache *c = cache_open(MIB);
	struct ocache_ref ref, other;
	struct ocache_stats st;

	(void)state;
	assert_false(has(c, 1));
	assert_int_equal(add(c, 1, 1000, NULL), 0);
	assert_true(has(c, 1));
	assert_int_equal(add(c, 2, 1000, &ref), 0);
	object_check(&ref, id_of(2));
	/* an id has one object */
	assert_int_equal(add(c, 2, 500, &other), -EEXIST);
	assert_ptr_equal(other.object, ref.object);
	assert_int_equal(other.size, 1000);
	assert_int_equal(objects_alive, 2);
	ocache_release(&other);
	ocache_release(&other);
	assert_null(other.object);
	object_check(&ref, id_of(2));
	st = stats_of(c);
	assert_int_equal(st.hits, 1);
	assert_int_equal(st.misses, 1);
	assert_int_equal(st.added, 2);
	assert_int_equal(st.objects_now, 2);
	assert_int_equal(st.resident, 2000);
	assert_int_equal(st.leaving, 0);
	assert_int_equal(st.used, 2000 + st.overhead);
	assert_int_equal(st.budget, MIB);
	ocache_release(&ref);
	cache_close(c);
}

static void counted_in_io_stats(void **state)
{
	struct ocache *c = cache_open(MIB);
	struct iostats *io = iostats_begin("query", NULL, NULL);
	struct ocache_hint hint = {.sort = IOSTATS_AVET, .is_dir = true};
	struct iostats_map *map;
	struct ocache_ref ref;

	(void)state;
	assert_int_equal(ocache_get(c, id_of(1), &hint, io, &ref), -ENOENT);
	assert_int_equal(add(c, 1, 100, NULL), 0);
	assert_int_equal(ocache_get(c, id_of(1), &hint, io, &ref), 0);
	ocache_release(&ref);
	assert_int_equal(ocache_get(c, id_of(1), NULL, io, &ref), 0);
	ocache_release(&ref);
	map = iostats_end(&io);
	assert_true(iostats_map_number(map, "reads ocache") == 3);
	assert_true(iostats_map_number(map, "reads avet") == 2);
	assert_true(iostats_map_number(map, "reads avet-load") == 1);
	assert_true(iostats_map_number(map, "reads dir") == 2);
	iostats_map_free(map);
	cache_close(c);
}

static void forgotten_but_held(void **state)
{
	struct ocache *c = cache_open(MIB);
	struct ocache_ref ref;

	(void)state;
	assert_int_equal(add(c, 1, 1000, &ref), 0);
	assert_true(ocache_forget(c, id_of(1)));
	assert_false(ocache_forget(c, id_of(1)));
	assert_false(has(c, 1));
	object_check(&ref, id_of(1));
	assert_int_equal(stats_of(c).leaving, 1000);
	assert_int_equal(add(c, 1, 2000, NULL), 0); /* the key again: another object */
	object_check(&ref, id_of(1));
	assert_true(has(c, 1));
	assert_int_equal(objects_alive, 2);
	assert_int_equal(ocache_close(&c), -EBUSY);
	object_check(&ref, id_of(1));
	ocache_release(&ref);
	assert_int_equal(stats_of(c).leaving, 0);
	assert_int_equal(objects_alive, 1);
	cache_close(c);
}

/* Much more than fits goes through; the account is that of the objects that live. */
static void budget_holds(void **state)
{
	struct ocache *c = cache_open(4 * MIB);
	struct ocache_stats st;
	uint64_t most = 0;

	(void)state;
	for (uint64_t key = 0; key < 5000; key++) {
		assert_int_equal(add(c, key, 1000 + key % 7 * 1000, NULL), 0);
		if (key % 3 == 0)
			has(c, key / 2);
		st = stats_of(c);
		assert_int_equal(st.resident, objects_bytes);
		assert_int_equal(st.objects_now, objects_alive);
		assert_true(st.used <= st.budget);
		most = st.used > most ? st.used : most;
	}
	assert_true(most > 4 * MIB - MIB / 16);
	assert_int_equal(st.added, 5000);
	assert_int_equal(st.added - st.evicted, st.objects_now);
	cache_close(c);
}

/*
 * [SH-6] Fences are made before anybody must wait for one: whenever an insertion needs room, something is
 * dead already. What is held passes through many of them.
 */
static void fenced_ahead(void **state)
{
	struct ocache *c = cache_open(12 * MIB);
	struct shard *s = &c->shard[0];
	struct ocache_ref held;
	uint64_t waited = 0, most = 0;

	(void)state;
	assert_int_equal(c->shards, 1);
	assert_int_equal(add(c, 1, 1000, &held), 0);
	for (uint64_t key = 100; key < 200000; key++) {
		assert_int_equal(add(c, key, 1000, NULL), 0);
		if (key < 100000)
			continue; /* until it is full */
		waited += s->dead == NULL;
		most = s->leaving_bytes > most ? s->leaving_bytes : most;
	}
	assert_int_equal(waited, 0);
	assert_true(most <= 12 * MIB / 64);
	object_check(&held, id_of(1));
	ocache_release(&held);
	assert_int_equal(stats_of(c).leaving, 0);
	cache_close(c);
}

/* [SH-2] What has left is not dead before a fence that was begun after that is over, whoever made it. */
static void dead_after_a_fence(void **state)
{
	struct ocache *c = cache_open(12 * MIB);
	struct shard *s = &c->shard[0];
	uint64_t swept = 0, stamp = lane_stamp();

	(void)state;
	assert_false(lane_fenced(stamp));
	lane_fence();
	assert_true(lane_fenced(stamp));
	assert_false(lane_fenced(lane_stamp()));
	for (uint64_t key = 1; key < 100000; key++) {
		const struct entry *stamped = s->stamped;
		uint64_t begun = atomic_load(&lane__begun), at = s->stamp;

		if (key % 1000 == 0)
			lane_fence(); /* somebody else's */
		assert_int_equal(add(c, key, 1000, NULL), 0);
		if (stamped == NULL || s->stamped == stamped)
			continue;
		swept++;
		assert_true(begun > at || atomic_load(&lane__begun) > begun);
	}
	assert_true(swept > 100);
	cache_close(c);
}

/* The cache's own memory is more than the new budget: it begins anew, and with references when they go. */
static void resized_below_overhead(void **state)
{
	(void)state;
	for (unsigned held = 0; held < 2; held++) {
		struct ocache *c = cache_open(200 * MIB);
		struct ocache_ref ref = {0};
		struct ocache_stats st;
		unsigned shards = c->shards;

		assert_int_equal(add(c, 1, 100, held ? &ref : NULL), 0);
		for (uint64_t key = 2; key < 400000; key++)
			assert_int_equal(add(c, key, 100, NULL), 0);
		assert_true(stats_of(c).overhead > 24 * MIB);
		assert_int_equal(ocache_resize(c, 16 * MIB), 0);
		assert_int_equal(c->shards, shards);
		if (held)
			object_check(&ref, id_of(1));
		ocache_release(&ref);
		for (uint64_t key = 500000; key < 600000; key++)
			assert_int_equal(add(c, key, 1000, NULL), 0);
		st = stats_of(c);
		assert_true(st.used <= st.budget);
		assert_true(st.resident > 12 * MIB);
		assert_true(has(c, 599999));
		cache_close(c);
	}
}

/* References into one cache take nothing from another. */
static void references_of_others(void **state)
{
	enum { N = 100000 };
	struct ocache *a = cache_open(200 * MIB), *b = cache_open(2 * MIB);
	struct ocache_ref *ref = calloc(N, sizeof *ref);
	struct ocache_stats st;

	(void)state;
	assert_non_null(ref);
	for (uint64_t key = 0; key < N; key++)
		assert_int_equal(add(a, key, 100, &ref[key]), 0);
	for (uint64_t key = 0; key < 3000; key++)
		assert_int_equal(add(b, key, 2000, NULL), 0);
	st = stats_of(b);
	assert_int_equal(st.uncached, 0);
	assert_true(st.resident > MIB);
	assert_true(st.used <= st.budget);
	for (uint64_t key = 0; key < N; key++)
		ocache_release(&ref[key]);
	free(ref);
	assert_int_equal(ocache_close(&a), 0);
	cache_close(b);
}

/* A size that no memory has. */
static void sizes_are_checked(void **state)
{
	static const size_t sizes[] = {MIB, 1ull << 40, SIZE_MAX - 100, SIZE_MAX};
	struct ocache *c = cache_open(MIB);

	(void)state;
	assert_int_equal(add(c, 1, 1000, NULL), 0);
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct object *o = object_new(id_of(2), 100);

		assert_non_null(o);
		assert_int_equal(ocache_add(c, id_of(2), &object_decoder, o, sizes[i], NULL), 0);
		assert_false(has(c, 2));
		assert_int_equal(stats_of(c).resident, 1000);
		assert_int_equal(stats_of(c).uncached, i + 1);
	}
	assert_true(has(c, 1));
	cache_close(c);
}

/* A held object stays, and holds back nothing else. */
static void let_be(void *ctx, void *object)
{
	(void)ctx;
	(void)object;
}

/* Objects that are said to take nothing: their entries do, and the newest are in the cache. */
static void sizes_of_nothing(void **state)
{
	static char nothing;
	static const struct ocache_decoder decoder = {NULL, NULL, let_be};
	struct ocache *c = cache_open(MIB);
	uint64_t most = 0;

	(void)state;
	for (uint64_t key = 0; key < 60000; key++) {
		assert_int_equal(ocache_add(c, id_of(key), &decoder, &nothing, 0, NULL), 0);
		if (key % 500 == 0 && stats_of(c).used > most)
			most = stats_of(c).used;
	}
	assert_in_range(most, MIB / 2, MIB);
	assert_true(stats_of(c).evicted > 10000);
	assert_in_range(stats_of(c).uncached, 0, 100);
	cache_close(c);
}

static void held_for_long(void **state)
{
	struct ocache *c = cache_open(4 * MIB);
	struct ocache_ref held[10];

	(void)state;
	for (uint64_t key = 0; key < 10; key++)
		assert_int_equal(add(c, key, 10000, &held[key]), 0);
	for (uint64_t key = 100; key < 5000; key++)
		assert_int_equal(add(c, key, 10000, NULL), 0);
	for (uint64_t key = 0; key < 10; key++)
		object_check(&held[key], id_of(key));
	assert_true(objects_bytes <= (int64_t)(4 * MIB));
	assert_true(stats_of(c).used <= 4 * MIB);
	assert_int_equal(stats_of(c).uncached, 0);
	for (uint64_t key = 0; key < 10; key++)
		ocache_release(&held[key]);
	cache_close(c);
}

static void references_fill_the_budget(void **state)
{
	struct ocache *c = cache_open(MIB);
	struct ocache_ref ref[400];
	struct ocache_stats st;
	unsigned cached = 0;

	(void)state;
	for (unsigned i = 0; i < 400; i++) {
		assert_int_equal(add(c, i, 5000, &ref[i]), 0);
		object_check(&ref[i], id_of(i));
	}
	st = stats_of(c);
	assert_true(st.uncached > 150);
	assert_true(st.resident + st.overhead <= MIB);
	assert_true(st.leaving > 150u * 5000);
	assert_int_equal(add(c, 1000, 5000, NULL), 0); /* nobody has it: gone at once */
	assert_false(has(c, 1000));
	for (unsigned i = 0; i < 400; i++) {
		object_check(&ref[i], id_of(i));
		cached += has(c, i);
	}
	assert_int_equal(cached, 400 - st.uncached);
	assert_int_equal(objects_alive, 400);
	for (unsigned i = 0; i < 400; i++)
		ocache_release(&ref[i]);
	assert_int_equal(objects_alive,
			 cached); /* what was not cached is gone with its reference */
	assert_int_equal(add(c, 1000, 5000, NULL), 0);
	assert_true(has(c, 1000));
	cache_close(c);
}

/* What is forgotten and held, and what is held and cannot go for it, is within the budget together. */
static void forgotten_and_held(void **state)
{
	struct ocache *c = cache_open(MIB);
	struct shard *s = &c->shard[0];
	struct ocache_ref ref[400];

	(void)state;
	for (unsigned i = 0; i < 400; i++) {
		assert_int_equal(add(c, i, 5000, &ref[i]), 0);
		if (i < 100)
			assert_true(ocache_forget(c, id_of(i)));
		assert_true(shard_overhead(s) + s->resident + s->leaving_bytes <= s->budget);
	}
	assert_true(stats_of(c).uncached > 150);
	for (unsigned i = 0; i < 400; i++) {
		object_check(&ref[i], id_of(i));
		ocache_release(&ref[i]);
	}
	cache_close(c);
}

/* However many references there are, only what is given out uncached is above the budget, as ocache.h says. */
static void references_themselves_take_nothing(void **state)
{
	enum { N = 5000 };
	struct ocache *c = cache_open(MIB);
	struct ocache_ref *ref = calloc(N, sizeof *ref), more;
	struct ocache_stats st;
	unsigned n = 0;

	(void)state;
	assert_non_null(ref);
	for (; stats_of(c).uncached == 0; n++)
		assert_int_equal(add(c, n, 5000, &ref[n]), 0);
	assert_true(stats_of(c).used - 5000 - sizeof(struct box) <= MIB);
	for (; n < N; n++)
		assert_int_equal(ocache_get(c, id_of(0), NULL, NULL, &ref[n]), 0);
	assert_int_equal(add(c, 1000, 5000, &more), 0);
	st = stats_of(c);
	assert_true(st.used > MIB); /* else this test is of nothing */
	assert_true(st.used - (5000 + sizeof(struct box)) * 2 <= MIB);
	for (unsigned i = 0; i < N; i++)
		ocache_release(&ref[i]);
	ocache_release(&more);
	assert_int_equal(add(c, 1000, 5000, NULL), 0);
	assert_true(stats_of(c).used <= MIB);
	free(ref);
	cache_close(c);
}

/* What has left the table and is held takes its part of the budget. */
static void forgotten_bytes_count(void **state)
{
	struct ocache *c = cache_open(MIB);
	struct ocache_ref ref[100];

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(add(c, i, 5000, &ref[i]), 0);
		assert_true(ocache_forget(c, id_of(i)));
	}
	for (unsigned i = 1000; i < 2000; i++)
		assert_int_equal(add(c, i, 5000, NULL), 0);
	assert_int_equal(stats_of(c).leaving, 500000);
	assert_true(objects_bytes + (int64_t)stats_of(c).overhead <= (int64_t)MIB + 16 * 100);
	assert_true(stats_of(c).objects_now > 50);
	for (unsigned i = 0; i < 100; i++) {
		object_check(&ref[i], id_of(i));
		ocache_release(&ref[i]);
	}
	cache_close(c);
}

static void larger_than_the_cache(void **state)
{
	struct ocache *c = cache_open(MIB);
	struct ocache_ref ref;

	(void)state;
	assert_int_equal(add(c, 1, 3 * MIB, &ref), 0);
	object_check(&ref, id_of(1));
	assert_int_equal(ocache_close(&c), -EBUSY);
	ocache_release(&ref);
	assert_int_equal(objects_alive, 0);
	cache_close(c);
}

static void thousands_of_references(void **state)
{
	enum { N = 20000 };
	struct ocache *c = cache_open(64 * MIB);
	struct ocache_ref *ref = calloc(N, sizeof *ref);

	(void)state;
	assert_non_null(ref);
	for (uint64_t i = 0; i < N; i++)
		assert_int_equal(add(c, i, 64, NULL), 0);
	for (unsigned round = 0; round < 2; round++) {
		for (uint64_t i = 0; i < N; i++)
			assert_int_equal(ocache_get(c, id_of(i), NULL, NULL, &ref[i]), 0);
		for (uint64_t i = 0; i < N; i++) {
			object_check(&ref[i], id_of(i));
			assert_true(ocache_forget(c, id_of(i)));
			if (round == 0)
				assert_int_equal(add(c, i, 64, NULL), 0);
			ocache_release(&ref[i]);
		}
	}
	free(ref);
	assert_int_equal(stats_of(c).leaving, 0);
	cache_close(c);
}

static void resized(void **state)
{
	struct ocache *c = cache_open(16 * MIB);
	struct ocache_ref ref;
	uint64_t before;

	(void)state;
	for (uint64_t key = 0; key < 3000; key++)
		assert_int_equal(add(c, key, 5000, NULL), 0);
	before = stats_of(c).objects_now;
	assert_int_equal(ocache_get(c, id_of(2999), NULL, NULL, &ref), 0);
	assert_int_equal(ocache_resize(c, 2 * MIB), 0);
	object_check(&ref, id_of(2999));
	ocache_release(&ref);
	assert_true(stats_of(c).used <= 2 * MIB);
	assert_true(stats_of(c).objects_now < before / 4);
	assert_true(stats_of(c).objects_now > 200);
	assert_int_equal(stats_of(c).budget, 2 * MIB);
	assert_int_equal(ocache_resize(c, OCACHE_BUDGET_MIN - 1), -EINVAL);
	assert_int_equal(ocache_resize(c, 64 * MIB), 0);
	for (uint64_t key = 0; key < 9000; key++)
		(void)add(c, key, 5000, NULL);
	assert_int_equal(stats_of(c).objects_now, 9000);
	cache_close(c);
}

static void large_tables(void **state)
{
	enum { N = 300000 };
	struct ocache *c = cache_open(512 * MIB); /* several shards */

	(void)state;
	assert_true(c->shards > 1);
	for (uint64_t key = 0; key < N; key++)
		assert_int_equal(add(c, key, 0, NULL), 0);
	for (uint64_t key = 0; key < N; key++)
		assert_true(has(c, key));
	assert_int_equal(stats_of(c).objects_now, N);
	/*
	 * 64 bytes an entry, 8 a slot of a table that is between three and six tenths full, chunks
	 */
	assert_true(stats_of(c).overhead < N * 150ull);
	for (uint64_t key = 0; key < N; key += 2)
		assert_true(ocache_forget(c, id_of(key)));
	for (uint64_t key = 0; key < N; key++)
		assert_true(has(c, key) == (key % 2 == 1));
	cache_close(c);
}

/* What was used comes through a scan of ten times the cache. */
static void scans_pass_through(void **state)
{
	struct ocache *c = cache_open(4 * MIB);
	unsigned kept = 0;

	(void)state;
	for (unsigned round = 0; round < 3; round++)
		for (uint64_t key = 0; key < 400; key++)
			if (!has(c, key))
				assert_int_equal(add(c, key, 4000, NULL), 0);
	for (uint64_t key = 1000; key < 11000; key++)
		assert_int_equal(add(c, key, 4000, NULL), 0);
	for (uint64_t key = 0; key < 400; key++)
		kept += has(c, key);
	if (kept < 380)
		fail_msg("%u of 400 are left", kept);
	cache_close(c);
}

static void hits_write_nothing_shared(void **state)
{
	enum { N = 20000, HITS = 1000000, LAPS = 3 };
	struct ocache *c = cache_open(64 * MIB);
	uint64_t x = 1;

	(void)state;
	for (uint64_t key = 0; key < N; key++)
		assert_int_equal(add(c, key, 64, NULL), 0);
	for (uint64_t key = 0; key < LAPS * N; key++)
		assert_true(has(c, key % N)); /* the uses are counted */
	ocache__protect(c, true);
	for (unsigned i = 0; i < HITS; i++) {
		struct ocache_ref ref;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		if (ocache_get(c, id_of((x >> 33) % N), NULL, NULL, &ref) != 0)
			abort();
		object_check(&ref, id_of((x >> 33) % N));
		ocache_release(&ref);
	}
	ocache__protect(c, false);
	assert_int_equal(stats_of(c).hits, HITS + LAPS * N);
	cache_close(c);
}

static void *release_it(void *ref)
{
	ocache_release(ref);
	return NULL;
}

static void *get_it(void *arg)
{
	struct ocache_ref *ref = malloc(sizeof *ref);

	if (ref != NULL && ocache_get(arg, id_of(1), NULL, NULL, ref) != 0)
		abort();
	return ref;
}

/* A reference outlives the thread that took it, and is given back by another. */
static void references_between_threads(void **state)
{
	struct ocache *c = cache_open(MIB);
	struct ocache_ref ref, *got;
	pthread_t t;
	void *p;

	(void)state;
	assert_int_equal(add(c, 1, 1000, &ref), 0);
	assert_int_equal(pthread_create(&t, NULL, release_it, &ref), 0);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(pthread_create(&t, NULL, get_it, c), 0);
	assert_int_equal(pthread_join(t, &p), 0);
	got = p;
	assert_non_null(got);
	assert_true(ocache_forget(c, id_of(1)));
	object_check(got, id_of(1));
	assert_int_equal(objects_alive, 1);
	ocache_release(got);
	free(got);
	assert_int_equal(stats_of(c).leaving, 0);
	assert_int_equal(objects_alive, 0);
	cache_close(c);
}

/*
 * Where a limit leaves few addresses for entries, there are fewer of them: the room is halved until it fits, and each of
 * them has its bit. When they are used up, what comes takes the place of others, as where the budget is. Sanitizers need
 * their addresses.
 */
static void few_addresses(void **state)
{
#ifndef INSTRUMENTED
	static struct shard s;
	const uint64_t seed[2] = {1, 2};
	struct rlimit before;
	struct grave g;

	if (memcheck_runs())
		return;
	before = limit_addresses(4 * MIB);
	assert_int_equal(shard_open(&s, seed, 100000000), 0);
	assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
	assert_in_range(s.entries_room, MIB, 4 * MIB);
	for (uint64_t key = 0; key < 100000; key++) {
		struct object *o = object_new(id_of(key), 64);

		grave_open(&g);
		assert_non_null(shard_insert(&s, o->id, &object_decoder, o, o->size, &g));
		shard_bury(&s, &g);
		assert_int_equal(s.held_words * 64, s.entries_bytes / ENTRY_BYTES);
	}
	assert_true(s.entries_bytes > s.entries_room - 65536);
	assert_in_range(s.table.count, s.entries_bytes / ENTRY_BYTES - 256,
			s.entries_bytes / ENTRY_BYTES);
	assert_int_equal(s.evicted, 100000 - s.table.count);
	shard_close(&s);
	assert_int_equal(objects_alive, 0);
#endif
	(void)state;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(opening),
	    cmocka_unit_test(too_many_caches),
	    cmocka_unit_test(in_and_out),
	    cmocka_unit_test(counted_in_io_stats),
	    cmocka_unit_test(forgotten_but_held),
	    cmocka_unit_test(budget_holds),
	    cmocka_unit_test(fenced_ahead),
	    cmocka_unit_test(dead_after_a_fence),
	    cmocka_unit_test(resized_below_overhead),
	    cmocka_unit_test(references_of_others),
	    cmocka_unit_test(sizes_are_checked),
	    cmocka_unit_test(sizes_of_nothing),
	    cmocka_unit_test(held_for_long),
	    cmocka_unit_test(references_fill_the_budget),
	    cmocka_unit_test(forgotten_and_held),
	    cmocka_unit_test(references_themselves_take_nothing),
	    cmocka_unit_test(forgotten_bytes_count),
	    cmocka_unit_test(larger_than_the_cache),
	    cmocka_unit_test(thousands_of_references),
	    cmocka_unit_test(resized),
	    cmocka_unit_test(large_tables),
	    cmocka_unit_test(few_addresses),
	    cmocka_unit_test(scans_pass_through),
	    cmocka_unit_test(hits_write_nothing_shared),
	    cmocka_unit_test(references_between_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
