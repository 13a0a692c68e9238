/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes The miss-ratio curve: exact where all objects are followed, near where a sample is, within its memory,
 * fed by every way of access, independent of shards; its text.
 */
#include <math.h>

#include "ocache/cache_int.h"
#include "tests/unit/ocache_tier.h"

#define MIB (1ull << 20)

static struct ocache_curve curve;

static struct ocache *cache_with(uint64_t budget, uint32_t one_in)
{
	struct ocache_config cfg = {.struct_size = sizeof cfg,
				    .budget = budget,
				    .decoder = &object_decoder,
				    .curve_one_in = one_in};
	struct ocache *c = NULL;

	assert_int_equal(ocache_open(&cfg, &c, NULL), 0);
	return c;
}

static uint64_t draw(uint64_t *x)
{
	*x = *x * 6364136223846793005u + 1442695040888963407u;
	return *x >> 33;
}

/* Objects that take no memory, whatever they say. */
static void nothing(void *ctx, void *object)
{
	(void)ctx;
	(void)object;
}
static const struct ocache_decoder light = {.destroy = nothing};

/* An access, and what follows a miss. */
static void use(struct ocache *c, uint64_t key, size_t size)
{
	static char object;
	struct ocache_ref ref;

	if (ocache_get(c, id_of(key), NULL, NULL, &ref) == 0)
		ocache_release(&ref);
	else
		(void)ocache_add(c, id_of(key), &light, &object, size, NULL);
}

static void is_a_curve(void)
{
	for (unsigned i = 0; i < curve.n; i++) {
		assert_true(curve.point[i].misses >= 0 && curve.point[i].misses <= 1);
		if (i > 0) {
			assert_true(curve.point[i].bytes > curve.point[i - 1].bytes);
			assert_true(curve.point[i].misses <= curve.point[i - 1].misses);
		}
	}
}

static void is_near(uint64_t bytes, double misses, double by)
{
	double is = ocache_curve_misses(&curve, bytes);

	if (fabs(is - misses) > by)
		fail_msg("%g of the accesses miss with %llu bytes, not %g", is,
			 (unsigned long long)bytes, misses);
}

/* ---- exact ---- */

#define KEYS 700u
#define USES 60000u /* the tree is compacted some times */

/* By a list, the newest first: bytes of what stands before a key, and its own. */
struct list {
	uint32_t key[KEYS];
	unsigned n;
};

static uint64_t list_use(struct list *l, uint32_t key, const uint64_t *size)
{
	uint64_t before = 0;
	unsigned i = 0;

	while (i < l->n && l->key[i] != key)
		before += size[l->key[i++]];
	before = i < l->n ? before + size[key] : UINT64_MAX;
	l->n += i == l->n;
	memmove(&l->key[1], &l->key[0], i * sizeof l->key[0]);
	l->key[0] = key;
	return before;
}

static void list_forget(struct list *l, uint32_t key)
{
	unsigned i = 0;

	while (i < l->n && l->key[i] != key)
		i++;
	if (i < l->n)
		memmove(&l->key[i], &l->key[i + 1], (--l->n - i) * sizeof l->key[0]);
}

static void exact(void **state)
{
	struct ocache *c = cache_with(16 * MIB, 1);
	uint64_t size[KEYS], x = 7, *far = malloc(USES * sizeof *far);
	static struct list list;

	(void)state;
	assert_non_null(far);
	for (unsigned i = 0; i < KEYS; i++)
		size[i] = 1000 + draw(&x) % 100000;
	for (unsigned i = 0; i < USES; i++) {
		/* often the first */
		uint32_t a = (uint32_t)(draw(&x) % KEYS), b = (uint32_t)(draw(&x) % KEYS);
		uint32_t key = a < b ? a : b;

		if (i % 500 == 499) {
			(void)ocache_forget(c, id_of(b));
			list_forget(&list, b);
		}
		far[i] = list_use(&list, key, size);
		use(c, key, size[key]);
	}
	assert_int_equal(ocache_curve(c, false, &curve), 0);
	is_a_curve();
	assert_int_equal(curve.accesses, USES);
	assert_in_range(curve.objects, KEYS - 5, KEYS); /* the last are hardly drawn */
	assert_true(fabs(curve.one_in - 1) < 1e-9);
	assert_true(curve.n > 100);
	for (unsigned i = 0; i < curve.n; i++) {
		uint64_t hits = 0;

		for (unsigned k = 0; k < USES; k++)
			hits += far[k] <= curve.point[i].bytes;
		is_near(curve.point[i].bytes, 1 - (double)hits / USES, 1e-9);
	}
	free(far);
	cache_close(c);
}

/* ---- sampled ---- */

/*
 * Keys drawn evenly: LRU finds as many as it has room for, whatever the order. There are more than can
 * be followed, so the threshold falls; and anew from when all have been seen. What the sizes are wrong by is what the number of those followed
 * strays: less than a hundredth part with 16384, a 43rd with 1900.
 */
static void even(uint32_t keys, uint32_t one_in, double by)
{
	struct ocache *c = cache_with(64 * MIB, one_in);
	uint64_t x = 99, all = keys * 1000ull;
	double error = 0;

	for (unsigned key = 0; key < keys; key++)
		use(c, key, 1000);
	assert_int_equal(ocache_curve(c, true, &curve), 0);
	assert_int_equal(curve.accesses, keys);
	is_near(all * 2, 1, 1e-9); /* each for the first time */
	for (unsigned i = 0; i < 5 * keys; i++)
		use(c, draw(&x) % keys, 1000);
	assert_int_equal(ocache_curve(c, false, &curve), 0);
	is_a_curve();
	assert_int_equal(curve.accesses, 5ull * keys);
	for (unsigned i = 1; i < 10; i++)
		error += fabs(ocache_curve_misses(&curve, all / 10 * i) - (1 - i / 10.0)) / 9;
	if (error > by)
		fail_msg("with one in %u a mean error of %g", one_in, error);
	is_near(all + all / 4, 0, by);
	cache_close(c);
}

static void sampled(void **state)
{
	(void)state;
	even(60000, 1, 0.03);
	assert_int_equal(curve.objects, CURVE_OBJECTS);
	assert_in_range((uint64_t)(curve.one_in * 100), 330, 400); /* 60000 / 16384 = 3.66 */
	even(60000, 32, 0.07);
	assert_in_range(curve.objects, 1600, 2150);
	assert_true(fabs(curve.one_in - 32) < 1e-6);
}

/* What is followed is spread over all shards as all objects are. */
static void over_all_shards(void **state)
{
	struct ocache *c = cache_with(8ull << 30, 8);
	unsigned in[SHARDS_MAX] = {0}, followed[SHARDS_MAX] = {0};

	(void)state;
	assert_int_equal(c->shards, SHARDS_MAX);
	for (uint64_t key = 0; key < 32000; key++) {
		uint64_t hash = table_hash(c->seed, id_of(key));
		unsigned shard = (unsigned)(ocache__shard(c, hash) - c->shard);

		in[shard]++;
		followed[shard] += ocache__followed(c, hash);
	}
	for (unsigned i = 0; i < SHARDS_MAX; i++) {
		assert_in_range(in[i], 1700, 2300);
		assert_in_range(followed[i], 160, 340); /* 250, give or take 15 */
	}
	cache_close(c);
}

/* ---- memory ---- */

static void memory(void **state)
{
	static const struct {
		uint64_t budget, most;
	} with[] = {
	    {MIB, MIB / 16 + 512}, {4 * MIB, MIB / 4 + 512}, {64 * MIB, MIB}, {1024 * MIB, MIB}};

	(void)state;
	for (unsigned i = 0; i < sizeof with / sizeof with[0]; i++) {
		struct ocache *c = cache_with(with[i].budget, 0);
		uint64_t without = stats_of(c).overhead;

		assert_int_equal(ocache_curve(c, false, &curve), -ENOENT);
		cache_close(c);
		c = cache_with(with[i].budget, 1);
		assert_in_range(stats_of(c).overhead - without, with[i].most / 2, with[i].most);
		for (uint64_t key = 0; key < 20000; key++) {
			use(c, key, 1000);
			if (key % 1000 == 0)
				assert_true(stats_of(c).used <= with[i].budget);
		}
		assert_int_equal(ocache_curve(c, false, &curve), 0);
		assert_true(curve.objects >= 512 && curve.objects <= CURVE_OBJECTS);
		assert_int_equal(ocache_resize(c, OCACHE_BUDGET_MIN), 0);
		cache_close(c);
	}
}

/* ---- ways of access ---- */

static void done(void *user, unsigned index, int status, struct ocache_ref *ref)
{
	(void)index;
	if (status == 0)
		ocache_release(ref);
	atomic_fetch_add((_Atomic unsigned *)user, 1);
}

static void all_ways(void **state)
{
	struct fake *s3 = fake_new("s3", TIER_RECORD);
	struct ocache_tier chain = {.tier = &s3->tier, .deadline_ns = 30 * NS_PER_S};
	struct ocache_config cfg = {.struct_size = sizeof cfg,
				    .budget = 16 * MIB,
				    .tiers = &chain,
				    .tiers_count = 1,
				    .decoder = &object_decoder,
				    .curve_one_in = 1};
	struct ocache_want want[10] = {{.id = {0, 0}}};
	const struct ocache_hint cached = {.flags = OCACHE_CACHED_ONLY};
	_Atomic unsigned answers = 0;
	struct ocache *c = NULL;

	(void)state;
	assert_int_equal(ocache_open(&cfg, &c, NULL), 0);
	fake_set(s3, 0, 20, FAKE_GOOD);
	/* ten that miss, by get; ten that hit */
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(get(c, i % 10, NULL, NULL), 0);
	/* ten that miss, by submit, while they are loaded ten that join; then ten that hit */
	for (unsigned i = 0; i < 10; i++)
		want[i].id = id_of(10 + i);
	FAKE_SET(s3, hold, true);
	assert_int_equal(ocache_submit(c, want, 10, 0, NULL, done, &answers), 0);
	assert_int_equal(ocache_submit(c, want, 10, 0, NULL, done, &answers), 0);
	assert_int_equal(fake_let_go(s3), 10);
	WAIT_FOR(answers == 20);
	FAKE_SET(s3, hold, false);
	assert_int_equal(ocache_submit(c, want, 10, 0, NULL, done, &answers), 0);
	WAIT_FOR(answers == 30);
	/* what is there is not prefetched; what is not there misses, again and again */
	assert_int_equal(ocache_prefetch(c, want, 10, NULL), 0);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(get(c, 100, NULL, NULL), -ENOENT);
		assert_int_equal(get(c, 101, &cached, NULL), -ENOENT);
	}
	/* what was forgotten misses once */
	assert_true(ocache_forget(c, id_of(5)));
	assert_int_equal(get(c, 5, NULL, NULL), 0);
	assert_int_equal(get(c, 5, NULL, NULL), 0);

	assert_int_equal(ocache_curve(c, false, &curve), 0);
	assert_int_equal(curve.accesses, stats_of(c).hits + stats_of(c).misses);
	assert_int_equal(curve.accesses, 20 + 30 + 20 + 2);
	assert_int_equal(curve.objects, 20);
	is_near(MIB, (72 - 21) / 72.0, 1e-9);
	is_near(0, 1, 1e-9);
	cache_close(c);
}

/* ---- as numbers and as text ---- */

static void texts(void **state)
{
	char *text;

	(void)state;
	curve = (struct ocache_curve){.accesses = 1000,
				      .objects = 20,
				      .one_in = 127.99,
				      .n = 3,
				      .point = {{1000, 1}, {2000, 0.5}, {4000, 0.12344}}};
	is_near(0, 1, 1e-9);
	is_near(500, 1, 1e-9);
	is_near(1500, 0.75, 1e-9);
	is_near(2000, 0.5, 1e-9);
	is_near(3000, 0.31172, 1e-9);
	is_near(4000, 0.12344, 1e-9);
	is_near(UINT64_MAX, 0.12344, 1e-9);
	text = ocache_curve_edn(&curve);
	assert_string_equal(text, "{:accesses 1000, :objects 20, :one-in 128, :points "
				  "[[1000 1.0000] [2000 0.5000] [4000 0.1234]]}");
	free(text);
	text = ocache_curve_json(&curve);
	assert_string_equal(text,
			    "{\"Accesses\": 1000, \"Objects\": 20, \"OneIn\": 128, \"Points\": "
			    "[[1000, 1.0000], [2000, 0.5000], [4000, 0.1234]]}");
	free(text);
	/* nothing has happened: all misses, and no division by zero */
	memset(&curve, 0, sizeof curve);
	is_near(MIB, 1, 1e-9);
	text = ocache_curve_edn(&curve);
	assert_string_equal(text, "{:accesses 0, :objects 0, :one-in 0, :points []}");
	free(text);
}

/* ---- all at once ---- */

#define THREADS 4u
#define GETS    50000u

static void *uses(void *arg)
{
	struct ocache *c = arg;
	uint64_t x = (uintptr_t)&x;

	for (unsigned i = 0; i < GETS; i++) {
		use(c, draw(&x) % 20000, 1000);
		if (i % 100 == 0)
			(void)ocache_forget(c, id_of(draw(&x) % 20000));
	}
	return NULL;
}

static void all_at_once(void **state)
{
	struct ocache *c = cache_with(16 * MIB, 1);
	pthread_t thread[THREADS];
	uint64_t accesses = 0;

	(void)state;
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, uses, c), 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(ocache_curve(c, i % 4 == 3, &curve), 0);
		is_a_curve();
		accesses += i % 4 == 3 ? curve.accesses : 0;
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(ocache_curve(c, true, &curve), 0);
	is_a_curve();
	assert_int_equal(accesses + curve.accesses, THREADS * GETS);
	assert_int_equal(ocache_curve(c, true, &curve), 0);
	assert_int_equal(curve.accesses, 0);
	assert_int_equal(curve.n, 0);
	cache_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(exact),           cmocka_unit_test(sampled),
	    cmocka_unit_test(over_all_shards), cmocka_unit_test(memory),
	    cmocka_unit_test(all_ways),        cmocka_unit_test(texts),
	    cmocka_unit_test(all_at_once),
	};

	return cmocka_run_group_tests_name("ocache-curve", tests, NULL, NULL);
}
