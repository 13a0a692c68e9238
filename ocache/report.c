/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reports of metrics; see metrics.h and report.h. What is counted anyway is taken as a difference;
 * what has a least and a most is in the tiers' meters, which are emptied.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ocache/load.h"
#include "ocache/thread.h"

#define EVERY_NS (60 * NS_PER_S)

struct before {
	int64_t at_ns; /* CLOCK_REALTIME */
	uint64_t hits, all;
	uint64_t asked[CHAIN_KINDS], found[CHAIN_KINDS];
};

struct report {
	struct ocache *cache;
	ocache_metrics_fn *fn; /* NULL: none, and no thread */
	void *user;
	uint64_t every_ns;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* under lock: */
	struct before before;
	bool stop;
};

size_t report_bytes(void)
{
	return sizeof(struct report);
}

void report_load(struct ocache *c, const struct trail *t)
{
	bool asked[CHAIN_KINDS] = {false}, found[CHAIN_KINDS] = {false};

	for (unsigned i = 0; i < c->tiers; i++) {
		enum chain_kind kind = c->tier[i].kind;

		asked[kind] = asked[kind] || t->tier[i].reads > 0;
		found[kind] = found[kind] || (t->tier[i].reads > 0 && t->tier[i].status == 0);
	}
	for (unsigned k = CHAIN_VALCACHE; k <= CHAIN_MEMCACHED; k++) {
		if (asked[k])
			atomic_fetch_add_explicit(&c->loads.asked[k], 1, memory_order_relaxed);
		if (found[k])
			atomic_fetch_add_explicit(&c->loads.found[k], 1, memory_order_relaxed);
	}
}

/* ---- making one ---- */

static int64_t real_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * (int64_t)NS_PER_S + now.tv_nsec;
}

static void put(struct ocache_metrics *m, enum ocache_metric_name name, const struct meter *meter)
{
	static const struct {
		const char *name, *unit;
	} known[] = {
#define X(name, unit, text) {#name, unit},
	    OCACHE_METRICS(X)
#undef X
	};
	double one = strcmp(known[name].unit, "msec") == 0 ? (double)NS_PER_MS : 1;

	if (meter->count == 0)
		return;
	m->metric[m->n++] = (struct ocache_metric){.name = known[name].name,
						   .unit = known[name].unit,
						   .lo = (double)meter->lo / one,
						   .hi = (double)meter->hi / one,
						   .sum = (double)meter->sum / one,
						   .count = meter->count};
}

static struct before count_now(struct ocache *c)
{
	struct before b = {.at_ns = real_ns()};
	uint64_t misses;

	ocache__counts(c, &b.hits, &misses);
	b.all = b.hits + misses;
	for (unsigned k = 0; k < CHAIN_KINDS; k++) {
		/* in the other order than they are counted: never more hits than requests */
		b.found[k] = atomic_load_explicit(&c->loads.found[k], memory_order_acquire);
		b.asked[k] = atomic_load_explicit(&c->loads.asked[k], memory_order_relaxed);
	}
	return b;
}

/* The tiers' meters, added up by what they feed. */
static void take_tiers(struct ocache *c, struct chain_meters kind[CHAIN_KINDS])
{
	struct chain_meters one;

	memset(kind, 0, CHAIN_KINDS * sizeof *kind);
	for (unsigned i = 0; i < c->tiers; i++) {
		struct chain_meters *to = &kind[c->tier[i].kind];

		chain_take(&c->tier[i], &one);
		meter_merge(&to->get_ns, &one.get_ns);
		meter_merge(&to->get_bytes, &one.get_bytes);
		meter_merge(&to->put_ns, &one.put_ns);
		meter_merge(&to->put_failed_ns, &one.put_failed_ns);
		meter_merge(&to->put_bytes, &one.put_bytes);
		meter_merge(&to->backoff_ns, &one.backoff_ns);
	}
}

static uint64_t count_objects(struct ocache *c)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < c->shards; i++) {
		pthread_mutex_lock(&c->shard[i].lock);
		n += c->shard[i].table.count;
		pthread_mutex_unlock(&c->shard[i].lock);
	}
	return n;
}

static void make(struct report *r, struct ocache_metrics *m)
{
	struct ocache *c = r->cache;
	struct chain_meters kind[CHAIN_KINDS];
	struct chain_meters *valcache = &kind[CHAIN_VALCACHE], *memcached = &kind[CHAIN_MEMCACHED],
			    *storage = &kind[CHAIN_STORAGE];
	struct before now, was;
	struct meter of;
	uint64_t objects = count_objects(c);

	memset(m, 0, sizeof *m);
	pthread_mutex_lock(&r->lock); /* one report at a time is made */
	was = r->before;
	r->before = now = count_now(c);
	take_tiers(c, kind);
	pthread_mutex_unlock(&r->lock);
	m->begun_ns = was.at_ns;
	m->ended_ns = now.at_ns;

	of = meter_of_hits(now.hits - was.hits, now.all - was.all);
	put(m, OCACHE_METRIC_ObjectCache, &of);
	put(m, OCACHE_METRIC_ObjectCacheCount, &(struct meter){objects, objects, objects, 1});
	of = meter_of_hits(now.found[CHAIN_VALCACHE] - was.found[CHAIN_VALCACHE],
			   now.asked[CHAIN_VALCACHE] - was.asked[CHAIN_VALCACHE]);
	put(m, OCACHE_METRIC_Valcache, &of);
	put(m, OCACHE_METRIC_ValcachePutMsec, &valcache->put_ns);
	put(m, OCACHE_METRIC_ValcachePutFailedMsec, &valcache->put_failed_ns);
	of = meter_of_hits(now.found[CHAIN_MEMCACHED] - was.found[CHAIN_MEMCACHED],
			   now.asked[CHAIN_MEMCACHED] - was.asked[CHAIN_MEMCACHED]);
	put(m, OCACHE_METRIC_Memcache, &of);
	put(m, OCACHE_METRIC_MemcachedPutMsec, &memcached->put_ns);
	put(m, OCACHE_METRIC_MemcachedPutFailedMsec, &memcached->put_failed_ns);
	put(m, OCACHE_METRIC_StorageGetMsec, &storage->get_ns);
	put(m, OCACHE_METRIC_StorageGetBytes, &storage->get_bytes);
	meter_merge(&storage->put_failed_ns, &storage->put_ns);
	put(m, OCACHE_METRIC_StoragePutMsec, &storage->put_failed_ns);
	put(m, OCACHE_METRIC_StoragePutBytes, &storage->put_bytes);
	put(m, OCACHE_METRIC_StorageBackoff, &storage->backoff_ns);
}

static void report_to(struct report *r, ocache_metrics_fn *fn, void *user)
{
	struct ocache_metrics m;

	make(r, &m);
	fn(user, &m); /* without a lock */
}

int ocache_metrics(struct ocache *c, ocache_metrics_fn *fn, void *user)
{
	struct report *r = c->report;

	MAGIC_OK(c, OCACHE_MAGIC);
	if (fn == NULL && r->fn == NULL)
		return -EINVAL;
	ocache__busy(c); /* the function may take long, and call the cache */
	report_to(r, fn != NULL ? fn : r->fn, fn != NULL ? user : r->user);
	ocache__idle(c);
	return 0;
}

/* ---- by itself ---- */

static void *run(void *arg)
{
	struct report *r = arg;
	uint64_t due = clock_ns() + r->every_ns;

	pthread_mutex_lock(&r->lock);
	while (!r->stop) {
		struct timespec until = thread_timespec((int64_t)due);
		uint64_t now;

		if (pthread_cond_timedwait(&r->wake, &r->lock, &until) != ETIMEDOUT || r->stop)
			continue;
		pthread_mutex_unlock(&r->lock);
		report_to(r, r->fn, r->user);
		now = clock_ns();
		due += r->every_ns;
		due = due > now ? due : now + r->every_ns; /* the function took long */
		pthread_mutex_lock(&r->lock);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

int report_open(struct ocache *c, const struct ocache_config *cfg, struct report **report)
{
	struct report *r = calloc(1, sizeof *r);
	int err = 0;

	if (r == NULL)
		return -ENOMEM;
	r->cache = c;
	r->fn = cfg->metrics;
	r->user = cfg->metrics_user;
	r->every_ns = thread_ns(cfg->metrics_every_ns, EVERY_NS);
	r->before.at_ns = real_ns();
	AZ(pthread_mutex_init(&r->lock, NULL));
	thread_cond_init(&r->wake);
	if (r->fn != NULL)
		err = thread_start(&r->thread, "ocache-metrics", run, r);
	*report = r;
	if (err != 0) {
		r->stop = true;
		report_close(report);
	}
	return err;
}

/* Was there one? */
static bool end_thread(struct report *r)
{
	bool was;

	pthread_mutex_lock(&r->lock);
	was = r->stop;
	r->stop = true;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
	if (was || r->fn == NULL)
		return false;
	AZ(pthread_join(r->thread, NULL));
	return true;
}

void report_stop(struct report *r)
{
	if (end_thread(r))
		report_to(r, r->fn, r->user);
}

void report_close(struct report **report)
{
	struct report *r = *report;

	if (r == NULL)
		return;
	(void)end_thread(r);
	AZ(pthread_cond_destroy(&r->wake));
	AZ(pthread_mutex_destroy(&r->lock));
	free(r);
	*report = NULL;
}
