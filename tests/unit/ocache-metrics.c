/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes Metrics: which tier feeds which name, what each sums, that reports share nothing and leave nothing out,
 * the function's thread, its text, and the close.
 */
#include <math.h>

#include "tests/unit/ocache_tier.h"

#define MIB         (1ull << 20)
#define DEADLINE_NS (4 * NS_PER_S)

enum { VALCACHE, MEMCACHED, EFS, S3, TIERS };
static const char *const keys[TIERS] = {"valcache", "memcached", "efs", "s3"};
static struct fake *tier[TIERS];

/* Reports, added up; under lock. */
static struct seen {
	pthread_mutex_t lock;
	unsigned reports;
	struct ocache_metric sum[OCACHE_METRICS_MAX];
	struct ocache_metrics last;
	int64_t begun_ns, ended_ns, length_ns; /* of all; and the sum of each one's */
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void report(void *user, const struct ocache_metrics *m)
{
	struct seen *s = user;

	pthread_mutex_lock(&s->lock);
	/* of two that go on at a time either may come first */
	s->begun_ns = s->reports == 0 || m->begun_ns < s->begun_ns ? m->begun_ns : s->begun_ns;
	s->ended_ns = s->reports == 0 || m->ended_ns > s->ended_ns ? m->ended_ns : s->ended_ns;
	s->length_ns += m->ended_ns - m->begun_ns;
	s->reports++;
	s->last = *m;
	for (unsigned i = 0; i < m->n; i++) {
		for (unsigned k = 0; k < OCACHE_METRICS_MAX; k++) {
			struct ocache_metric *to = &s->sum[k];

			if (to->name != NULL && strcmp(to->name, m->metric[i].name) != 0)
				continue;
			to->name = m->metric[i].name;
			to->sum += m->metric[i].sum;
			to->count += m->metric[i].count;
			break;
		}
	}
	pthread_mutex_unlock(&s->lock);
}

static const struct ocache_metric *find(const struct ocache_metric *all, const char *name)
{
	static const struct ocache_metric none;

	for (unsigned i = 0; i < OCACHE_METRICS_MAX; i++)
		if (all[i].name != NULL && strcmp(all[i].name, name) == 0)
			return &all[i];
	return &none;
}

/* A report now, and what it says of a name: count 0 if it says nothing. */
static struct ocache_metrics now;

static void keep(void *user, const struct ocache_metrics *m)
{
	*(struct ocache_metrics *)user = *m;
}

static void take(struct ocache *c)
{
	memset(&now, 0, sizeof now);
	assert_int_equal(ocache_metrics(c, keep, &now), 0);
}

static void is(const char *name, uint64_t sum, uint64_t count)
{
	const struct ocache_metric *m = find(now.metric, name);

	if (m->count != count || (uint64_t)m->sum != sum)
		fail_msg("%s: sum %g of %llu, not %llu of %llu", name, m->sum,
			 (unsigned long long)m->count, (unsigned long long)sum,
			 (unsigned long long)count);
	if (count > 0)
		assert_true(m->lo * (double)count <= m->sum + 1e-6 &&
			    m->hi * (double)count >= m->sum - 1e-6);
}

/* A time: so many of at least `ms`, and not absurdly long. */
static void took(const char *name, uint64_t count, double ms)
{
	const struct ocache_metric *m = find(now.metric, name);

	if (m->count != count || (count > 0 && (m->lo < ms || m->hi > 60000 || m->hi < m->lo ||
						m->sum < m->lo + m->hi * (count > 1) - 1e-6)))
		fail_msg("%s: %g to %g, sum %g of %llu, not of %llu above %g", name, m->lo, m->hi,
			 m->sum, (unsigned long long)m->count, (unsigned long long)count, ms);
}

static struct ocache *cache_of(const char *const *key, unsigned n, uint64_t every_ns,
			       ocache_metrics_fn *fn)
{
	struct ocache_tier chain[TIERS] = {{0}};
	struct ocache_config cfg = {.struct_size = sizeof cfg,
				    .budget = 16 * MIB,
				    .tiers = chain,
				    .tiers_count = n,
				    .decoder = &object_decoder,
				    .metrics = fn,
				    .metrics_user = &seen,
				    .metrics_every_ns = every_ns};
	struct ocache *c = NULL;

	for (unsigned i = 0; i < n; i++) {
		tier[i] = fake_new(key[i], strcmp(key[i], "s3") == 0 ? TIER_RECORD : 0);
		chain[i] = (struct ocache_tier){.tier = &tier[i]->tier, .deadline_ns = DEADLINE_NS};
	}
	assert_int_equal(ocache_open(&cfg, &c, NULL), 0);
	return c;
}

/* Bytes of an envelope around a segment. */
static uint64_t segment_bytes(void)
{
	struct seg_buf *b = fake_bytes(id_of(0), FAKE_GOOD, false);
	uint64_t n = seg_buf_len(b);

	seg_buf_drop(b);
	return n;
}

static void names_by_key(void **state)
{
	struct ocache *c = cache_of(keys, TIERS, 0, NULL);
	uint64_t bytes = segment_bytes();

	(void)state;
	fake_set(tier[VALCACHE], 0, 4, FAKE_GOOD);
	fake_set(tier[MEMCACHED], 4, 6, FAKE_GOOD);
	fake_set(tier[EFS], 6, 7, FAKE_GOOD);
	fake_set(tier[S3], 7, 10, FAKE_GOOD);
	for (uint64_t key = 0; key < 10; key++)
		assert_int_equal(get(c, key, NULL, NULL), 0);
	assert_int_equal(get(c, 10, NULL, NULL), -ENOENT);
	for (unsigned i = 0; i < 30; i++)
		assert_int_equal(get(c, i % 10, NULL, NULL), 0);
	/* fills: valcache lacked six, memcached four, efs three */
	WAIT_FOR(tier_of(c, VALCACHE).writes == 6 && tier_of(c, MEMCACHED).writes == 4 &&
		 tier_of(c, EFS).writes == 3);
	take(c);
	is("ObjectCache", 30, 41);
	is("ObjectCacheCount", 10, 1);
	is("Valcache", 4, 11);
	is("Memcache", 2, 7);
	took("ValcachePutMsec", 6, 0);
	took("ValcachePutFailedMsec", 0, 0);
	took("MemcachedPutMsec", 4, 0);
	took("MemcachedPutFailedMsec", 0, 0);
	took("StorageGetMsec", 4, 0); /* one of them: not there */
	is("StorageGetBytes", 3 * bytes, 3);
	took("StoragePutMsec", 0, 0);
	is("StorageBackoff", 0, 0);
	/* no other names */
	assert_int_equal(now.n, 8);

	/* the writer's path: all tiers that can be written */
	assert_int_equal(ocache_put(c, id_of(20), "x", 1, 0), 0);
	WAIT_FOR(tier_of(c, VALCACHE).writes == 7 && tier_of(c, MEMCACHED).writes == 5 &&
		 tier_of(c, EFS).writes == 4);
	take(c);
	took("ValcachePutMsec", 1, 0);
	took("MemcachedPutMsec", 1, 0);
	took("StoragePutMsec", 1, 0);
	is("StoragePutBytes", bytes - sizeof(struct segment) + 1, 1);
	is("ObjectCacheCount", 10, 1);
	assert_int_equal(now.n, 5);
	/* nothing happened */
	take(c);
	assert_int_equal(now.n, 1);
	assert_string_equal(now.metric[0].name, "ObjectCacheCount");
	cache_close(c);
}

static void lo_and_hi(void **state)
{
	struct ocache *c = cache_of(keys, TIERS, 0, NULL);
	const struct ocache_metric *m;

	(void)state;
	fake_set(tier[VALCACHE], 0, 2, FAKE_GOOD);
	assert_int_equal(get(c, 0, NULL, NULL), 0);
	take(c);
	m = find(now.metric, "ObjectCache");
	assert_true(m->lo == 0 && m->hi == 0 && m->sum == 0 && m->count == 1);
	m = find(now.metric, "Valcache");
	assert_true(m->lo == 1 && m->hi == 1 && m->sum == 1 && m->count == 1);
	assert_int_equal(get(c, 0, NULL, NULL), 0);
	take(c);
	m = find(now.metric, "ObjectCache");
	assert_true(m->lo == 1 && m->hi == 1 && m->sum == 1 && m->count == 1);
	assert_int_equal(get(c, 0, NULL, NULL), 0);
	assert_int_equal(get(c, 1, NULL, NULL), 0);
	take(c);
	m = find(now.metric, "ObjectCache");
	assert_true(m->lo == 0 && m->hi == 1 && m->sum == 1 && m->count == 2);
	cache_close(c);
}

/* A valcache that is asked in two ways is one; what it has damaged is no hit. */
static void one_valcache(void **state)
{
	static const char *const two[] = {"valcache-direct", "valcache", "dev"};
	struct ocache *c = cache_of(two, 3, 0, NULL);

	(void)state;
	fake_set(tier[0], 0, 3, FAKE_GOOD);
	fake_set(tier[1], 3, 5, FAKE_GOOD);
	fake_set(tier[1], 5, 6, FAKE_UNDECODABLE);
	fake_set(tier[2], 5, 7, FAKE_GOOD);
	for (uint64_t key = 0; key < 7; key++)
		assert_int_equal(get(c, key, NULL, NULL), 0);
	take(c);
	is("Valcache", 5, 7);
	is("Memcache", 0, 0);
	took("StorageGetMsec", 2, 0); /* by its key: it is no TIER_RECORD */
	cache_close(c);
}

static void failures(void **state)
{
	struct ocache *c = cache_of(keys, TIERS, 0, NULL);
	struct ocache_hint no_fill = {.flags = OCACHE_NO_FILL};
	double pause = DEADLINE_NS / 1e6 / 20;

	(void)state;
	/* writes that fail */
	fake_set(tier[S3], 0, 9, FAKE_GOOD);
	FAKE_SET(tier[VALCACHE], hold_writes, true);
	FAKE_SET(tier[MEMCACHED], hold_writes, true);
	assert_int_equal(get(c, 0, NULL, NULL), 0);
	WAIT_FOR(FAKE_GET(tier[VALCACHE], write_n) == 1 && FAKE_GET(tier[MEMCACHED], write_n) == 1);
	nanosleep(&(struct timespec){0, 3000000}, NULL);
	tier[VALCACHE]->write[0]->status = -EIO;
	tier[MEMCACHED]->write[0]->status = -ECONNREFUSED;
	assert_int_equal(fake_let_go(tier[VALCACHE]), 1);
	assert_int_equal(fake_let_go(tier[MEMCACHED]), 1);
	take(c);
	took("ValcachePutMsec", 0, 0);
	took("ValcachePutFailedMsec", 1, 3);
	took("MemcachedPutMsec", 0, 0);
	took("MemcachedPutFailedMsec", 1, 3);
	FAKE_SET(tier[S3], fail, -EIO);
	assert_int_equal(ocache_put(c, id_of(21), "x", 1, 0), -EIO);
	take(c);
	took("StoragePutMsec", 1, 0);
	is("StoragePutBytes", 0, 0);

	/* a read that fails once, and is tried again after a pause that the test does not wait for */
	FAKE_SET(tier[S3], fail_few, 1);
	{
		struct ocache_hint hint = {.flags = OCACHE_NO_FILL,
					   .deadline_ns = (int64_t)clock_ns() + 50000000};

		assert_int_equal(get(c, 1, &hint, NULL), -ETIMEDOUT);
	}
	take(c);
	took("StorageGetMsec", 1, 0);
	is("StorageGetBytes", 0, 0);
	assert_int_equal(find(now.metric, "StorageBackoff")->count, 1);
	assert_true(find(now.metric, "StorageBackoff")->lo >= pause &&
		    find(now.metric, "StorageBackoff")->hi <= 2 * pause + 1);
	assert_int_equal(tier_of(c, S3).retries, 1);
	/* valcache and memcached were asked, but the load goes on */
	is("Valcache", 0, 0);
	assert_int_equal(get(c, 1, &no_fill, NULL), 0);
	take(c);
	is("Valcache", 0, 1);
	is("StorageGetBytes", segment_bytes(), 1);
	cache_close(c);
}

/* A read of the storage that hangs: as long as it was waited for. */
static void timed_out(void **state)
{
	struct fake *s3 = fake_new("s3", TIER_RECORD);
	struct ocache_tier chain = {.tier = &s3->tier, .deadline_ns = 20 * NS_PER_MS};
	struct ocache *c = chain_of(16 * MIB, &chain, 1);

	(void)state;
	FAKE_SET(s3, hold, true);
	assert_int_equal(get(c, 1, NULL, NULL), -ETIMEDOUT);
	take(c);
	took("StorageGetMsec", 1, 20);
	is("StorageGetBytes", 0, 0);
	is("ObjectCache", 0, 1);
	cache_close(c);
}

static void by_itself(void **state)
{
	struct ocache *c;
	uint64_t hits = 0, all = 0;

	(void)state;
	memset(seen.sum, 0, sizeof seen.sum);
	seen.reports = 0;
	seen.length_ns = 0;
	c = cache_of(keys, TIERS, 2 * NS_PER_MS, report);
	fake_set(tier[VALCACHE], 0, 1000, FAKE_GOOD);
	while (FAKE_GET(&seen, reports) < 5) {
		hits += has(c, all % 10) && all >= 10;
		all++;
	}
	/* the configuration's function, now */
	assert_int_equal(ocache_metrics(c, NULL, NULL), 0);
	hits += has(c, 0);
	all++;
	cache_close(c);
	/* the last at the close, and nothing twice or lost */
	assert_int_equal(seen.length_ns, seen.ended_ns - seen.begun_ns);
	assert_int_equal((uint64_t)find(seen.sum, "ObjectCache")->sum, hits);
	assert_int_equal(find(seen.sum, "ObjectCache")->count, all);
	assert_int_equal(find(seen.sum, "Valcache")->count, 10);
	assert_int_equal((uint64_t)find(seen.last.metric, "ObjectCacheCount")->sum, 10);
}

static void no_function(void **state)
{
	struct ocache *c = cache_of(keys, TIERS, 1, NULL);

	(void)state;
	assert_int_equal(ocache_metrics(c, NULL, NULL), -EINVAL);
	cache_close(c);
}

static void looks_at_the_cache(void *user, const struct ocache_metrics *m)
{
	struct ocache **c = user;
	struct ocache_stats st = stats_of(*c);

	(void)st;
	(void)m;
	assert_int_equal(ocache_metrics(*c, keep, &now), 0); /* no lock is held */
}

/* References hold up the close: one last report, and the text of it. */
static void closed_twice(void **state)
{
	struct ocache *c, *same;
	struct ocache_ref ref;
	char *text;

	(void)state;
	seen.reports = 0;
	c = same = cache_of(keys, TIERS, 3600 * NS_PER_S, report);
	assert_int_equal(ocache_metrics(c, looks_at_the_cache, &same), 0);
	fake_set(tier[S3], 0, 1, FAKE_GOOD);
	FAKE_SET(tier[VALCACHE], fail, -EIO);
	assert_int_equal(ocache_get(c, id_of(0), NULL, NULL, &ref), 0);
	assert_int_equal(ocache_close(&c), -EBUSY);
	assert_int_equal(seen.reports, 1);
	ocache_release(&ref);
	cache_close(c);
	assert_int_equal(seen.reports, 1);
	is("ObjectCache", 0, 0);

	text = ocache_metrics_edn(&seen.last);
	assert_non_null(strstr(text, "{:ObjectCache {:lo 0, :hi 0, :sum 0, :count 1}, "
				     ":ObjectCacheCount 1, :Valcache {:lo 0, :hi 0, :sum 0, "
				     ":count 1}, :"));
	free(text);
}

/* A report that is being made when the close begins: the close waits for its function. */
static _Atomic bool close_is_over, entered;
static _Atomic int over_in_report = -1;

static void waits_for_the_close(void *user, const struct ocache_metrics *m)
{
	uint64_t end = clock_ns() + 300 * NS_PER_MS;
	struct timespec nap = {0, 1000000};

	(void)user;
	(void)m;
	atomic_store(&entered, true);
	while (!atomic_load(&close_is_over) && clock_ns() < end)
		nanosleep(&nap, NULL);
	atomic_store(&over_in_report, atomic_load(&close_is_over));
}

static void *reports(void *cache)
{
	AZ(ocache_metrics(cache, waits_for_the_close, NULL));
	return NULL;
}

static void closed_during_a_report(void **state)
{
	struct ocache *c = cache_of(keys, TIERS, 0, NULL);
	pthread_t t;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, reports, c), 0);
	WAIT_FOR(atomic_load(&entered));
	cache_close(c);
	atomic_store(&close_is_over, true);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(over_in_report, 0);
}

static void texts(void **state)
{
	struct ocache_metrics m = {
	    .n = 3,
	    .metric = {{"ObjectCache", "count", 0, 1, 90, 100},
		       {"ObjectCacheCount", "count", 20, 20, 20, 1},
		       {"StorageGetMsec", "msec", 0.0712, 12.3, 61.4999, 8}}};
	char *text = ocache_metrics_edn(&m);

	(void)state;
	assert_string_equal(text, "{:ObjectCache {:lo 0, :hi 1, :sum 90, :count 100}, "
				  ":ObjectCacheCount 20, "
				  ":StorageGetMsec {:lo 0.07, :hi 12.3, :sum 61.5, :count 8}}");
	free(text);
	text = ocache_metrics_json(&m);
	assert_string_equal(
	    text, "{\"ObjectCache\": {\"Lo\": 0, \"Hi\": 1, \"Sum\": 90, \"Count\": 100}, "
		  "\"ObjectCacheCount\": 20, "
		  "\"StorageGetMsec\": {\"Lo\": 0.07, \"Hi\": 12.3, \"Sum\": 61.5, \"Count\": 8}}");
	free(text);
}

/* ---- the figures of a tier ---- */

static void every_read_is_counted(void **state)
{
	static const int with[] = {0, -EIO, -EBADMSG, -ECANCELED, -ECONNREFUSED, -ETIMEDOUT};
	static struct ocache_latency l;
	struct fake *s3 = fake_new("s3", TIER_RECORD);
	struct ocache_tier chain = {
	    .tier = &s3->tier, .deadline_ns = 250 * NS_PER_MS, .tries = 1, .breaker = 1000};
	struct ocache *c = chain_of(16 * MIB, &chain, 1);
	struct ocache_tier_stats st;
	double least = 0, most = 0;
	unsigned timeouts, bad = 0;

	(void)state;
	fake_set(s3, 0, 300, FAKE_GOOD);
	fake_set(s3, 300, 330, FAKE_UNDECODABLE);
	for (uint64_t key = 0; key < 600; key++) {
		int err;

		FAKE_SET(s3, fail, key % 50 == 0 ? with[key / 50 % 6] : 0);
		FAKE_SET(s3, hold, key % 200 == 7);
		FAKE_SET(s3, spin_ns, key % 64 * 1000);
		err = get(c, key, NULL, NULL);
		/* what cannot be decoded was read all the same */
		bad += err != 0 && err != -ENOENT && (err != -EBADMSG || key / 30 != 10);
		FAKE_SET(s3, hold, false);
		(void)fake_let_go(s3);
	}
	st = tier_of(c, 0);
	assert_int_equal(st.reads, 600);
	assert_int_equal(st.in_flight, 0);
	/* those that it keeps, and what the machine kept for so long */
	timeouts = FAKE_GET(s3, cancels);
	assert_in_range(timeouts, 3, 600);
	assert_int_equal(st.timeouts, timeouts);
	assert_int_equal(st.late, timeouts);
	assert_in_range(bad, 10 + 3, 10 + timeouts);
	assert_int_equal(st.failures, bad);
	assert_int_equal(st.hits + st.misses + st.failures, st.reads);
	assert_int_equal(st.bytes, st.hits * segment_bytes());
	assert_int_equal(st.retries, 0);

	assert_int_equal(ocache_tier_latency(c, 1, false, &l), -ENOENT);
	assert_int_equal(ocache_tier_latency(c, 0, false, &l), 0);
	assert_int_equal(l.count, st.reads);
	assert_int_equal(l.sum_ns, st.read_ns);
	assert_int_equal(l.max_ns, st.read_ns_max);
	assert_in_range(l.max_ns, 250 * NS_PER_MS, 60 * NS_PER_S);
	assert_true(l.n > 10);
	for (unsigned i = 0; i < l.n; i++) {
		assert_true(l.bucket[i].count > 0 &&
			    (i == 0 || l.bucket[i].ns > l.bucket[i - 1].ns));
		most += (double)l.bucket[i].ns * (double)l.bucket[i].count;
		least += (double)l.bucket[i].ns * (double)l.bucket[i].count * 15 / 16;
	}
	assert_true(least <= (double)l.sum_ns && (double)l.sum_ns <= most);
	assert_int_equal(ocache_latency_quantile(&l, 0.5), st.read_ns_p50);
	assert_int_equal(ocache_latency_quantile(&l, 0.99), st.read_ns_p99);
	assert_in_range(st.read_ns_p99, 55000, 60 * NS_PER_S);
	assert_int_equal(ocache_latency_quantile(&l, 1), l.max_ns);

	/* writes: none yet; then ten */
	assert_int_equal(ocache_tier_latency(c, 0, true, &l), 0);
	assert_int_equal(l.n, 0);
	assert_int_equal(ocache_latency_quantile(&l, 0.5), 0);
	for (uint64_t key = 0; key < 10; key++)
		assert_int_equal(ocache_put(c, id_of(key), "0123", 4, 0), 0);
	FAKE_SET(s3, fail, -EIO);
	assert_int_equal(ocache_put(c, id_of(11), "0123", 4, 0), -EIO);
	st = tier_of(c, 0);
	assert_int_equal(ocache_tier_latency(c, 0, true, &l), 0);
	assert_int_equal(st.writes, 10);
	assert_int_equal(st.writes_failed, 1);
	assert_int_equal(st.bytes_written, 10 * (segment_bytes() - sizeof(struct segment) + 4));
	assert_int_equal(l.count, 11);
	assert_int_equal(l.sum_ns, st.write_ns);
	assert_int_equal(l.max_ns, st.write_ns_max);
	assert_int_equal(ocache_latency_quantile(&l, 0.5), st.write_ns_p50);
	assert_int_equal(ocache_latency_quantile(&l, 0.99), st.write_ns_p99);
	cache_close(c);
}

/* ---- all at once ---- */

#define THREADS 4u
#define GETS    20000u

static void *reads(void *arg)
{
	struct ocache *c = arg;
	uint64_t x = (uintptr_t)&x;

	for (unsigned i = 0; i < GETS; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		assert_int_equal(get(c, (x >> 33) % 300, NULL, NULL), 0);
		if (i % 50 == 0)
			(void)ocache_forget(c, id_of((x >> 40) % 300));
		if (i % 1000 == 0)
			assert_int_equal(ocache_metrics(c, NULL, NULL), 0);
	}
	return NULL;
}

static void all_at_once(void **state)
{
	pthread_t thread[THREADS];
	struct ocache *c;
	uint64_t hits, misses, loads, found, bytes;

	(void)state;
	memset(seen.sum, 0, sizeof seen.sum);
	seen.reports = 0;
	c = cache_of(keys, TIERS, NS_PER_MS, report);
	fake_set(tier[MEMCACHED], 0, 150, FAKE_GOOD);
	fake_set(tier[S3], 0, 300, FAKE_GOOD);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, reads, c), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	WAIT_FOR(stats_of(c).loads_now == 0);
	hits = stats_of(c).hits;
	misses = stats_of(c).misses;
	loads = stats_of(c).loads;
	found = tier_of(c, VALCACHE).hits;
	bytes = tier_of(c, S3).bytes;
	cache_close(c);
	assert_int_equal((uint64_t)find(seen.sum, "ObjectCache")->sum, hits);
	assert_int_equal(find(seen.sum, "ObjectCache")->count, hits + misses);
	assert_int_equal(hits + misses, THREADS * GETS);
	assert_int_equal(find(seen.sum, "Valcache")->count, loads);
	assert_int_equal((uint64_t)find(seen.sum, "Valcache")->sum, found);
	assert_int_equal((uint64_t)find(seen.sum, "StorageGetBytes")->sum, bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(names_by_key),
	    cmocka_unit_test(lo_and_hi),
	    cmocka_unit_test(one_valcache),
	    cmocka_unit_test(failures),
	    cmocka_unit_test(timed_out),
	    cmocka_unit_test(by_itself),
	    cmocka_unit_test(no_function),
	    cmocka_unit_test(closed_twice),
	    cmocka_unit_test(closed_during_a_report),
	    cmocka_unit_test(texts),
	    cmocka_unit_test(all_at_once),
	    cmocka_unit_test(every_read_is_counted),
	};

	return cmocka_run_group_tests_name("ocache-metrics", tests, NULL, NULL);
}
