/* SPDX-License-Identifier: Apache-2.0 */
/* The object cache: hits, and what goes in and out of it by hand; see ocache.h. */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#include "base/cause.h"
#include "base/clock.h"
#include "ocache/load.h"
#include "ocache/warm.h"

#define THREADS     2u
#define THREADS_MAX 256u
#define FILLS       256u
#define SLOW_NS     (100 * NS_PER_MS)

/* ---- opening, closing ---- */

/*
 * As many as there are processors, twice, so that who inserts seldom waits for another; more of a
 * large budget. But a part must hold enough objects to choose among.
 */
static unsigned shards_for(uint64_t budget)
{
	unsigned n = 1, cpus = (unsigned)get_nprocs();

	while (n < SHARDS_MAX && budget / (2 * n) >= (n <= cpus ? SHARD_MIN : SHARD_BUDGET))
		n *= 2;
	return n;
}

static uint64_t shard_share(const struct ocache *c, uint64_t budget)
{
	return budget / c->shards - c->own_bytes / c->shards;
}

static void cache_free(struct ocache *c)
{
	report_close(&c->report);
	pool_close(&c->pool);
	timers_close(&c->timers);
	for (unsigned i = 0; i < c->tiers; i++)
		chain_tier_close(&c->tier[i]);
	for (unsigned i = 0; c->shard != NULL && i < c->shards; i++)
		shard_close(&c->shard[i]);
	free(c->shard);
	AZ(pthread_cond_destroy(&c->busy_none));
	AZ(pthread_mutex_destroy(&c->busy_lock));
	AZ(pthread_mutex_destroy(&c->resize_lock));
	AZ(pthread_mutex_destroy(&c->save_lock));
	AZ(pthread_mutex_destroy(&c->slow.lock));
	free(c->slow.load);
	curve_close(&c->curve);
	lane_cache_close(c->number);
	c->magic = 0;
	free(c);
}

static int chain_open(struct ocache *c, const struct ocache_config *cfg, char **cause)
{
	char *why = NULL;
	int err = 0;

	c->fills_max = cfg->fills != 0 ? cfg->fills : FILLS;
	c->compress = cfg->compress;
	if (cfg->tiers_count == 0)
		return 0;
	if (cfg->tiers_count > OCACHE_TIERS_MAX)
		return cause_fail(cause, -EINVAL, "%u tiers are more than %u", cfg->tiers_count,
				  OCACHE_TIERS_MAX);
	if (cfg->tiers == NULL)
		return cause_fail(cause, -EINVAL, "tiers is NULL, but tiers_count is %u",
				  cfg->tiers_count);
	for (unsigned i = 1; i < cfg->tiers_count; i++)
		for (unsigned k = 0; k < i; k++)
			if (cfg->tiers[i].tier == cfg->tiers[k].tier && cfg->tiers[i].tier != NULL)
				return cause_fail(cause, -EINVAL, "tiers %u and %u are the same", k,
						  i);
	while (c->tiers < cfg->tiers_count && err == 0) {
		err = chain_tier_open(&c->tier[c->tiers], &cfg->tiers[c->tiers], &why);
		c->tiers += err == 0;
	}
	if (why != NULL)
		cause_say(cause, "tier %u: %s", c->tiers, why);
	free(why);
	if (err == 0)
		err = timers_open(&c->timers);
	if (err == 0)
		err = pool_open(cfg->threads != 0 ? cfg->threads : THREADS, &c->pool);
	return err;
}

static int cache_new(const struct ocache_config *cfg, struct ocache **out, char **cause)
{
	uint64_t budget = cfg->budget != 0 ? cfg->budget : ocache__default_budget();
	struct ocache *c;
	int number, err = 0;

	if (budget < OCACHE_BUDGET_MIN)
		return cause_fail(cause, -EINVAL, "the budget of %llu bytes is below %u",
				  (unsigned long long)budget, OCACHE_BUDGET_MIN);
	number = lane_cache_open();
	if (number < 0) {
		cause_say(cause, "%u caches are open already", LANE_CACHES);
		return number;
	}
	c = aligned_alloc(64, sizeof *c);
	if (c == NULL) {
		lane_cache_close((unsigned)number);
		return -ENOMEM;
	}
	memset(c, 0, sizeof *c);
	c->magic = OCACHE_MAGIC;
	c->number = (uint32_t)number;
	AZ(pthread_mutex_init(&c->slow.lock, NULL));
	c->slow.slow_ns = cfg->slow_ns != 0 ? cfg->slow_ns : SLOW_NS;
	AZ(pthread_mutex_init(&c->busy_lock, NULL));
	AZ(pthread_mutex_init(&c->resize_lock, NULL));
	AZ(pthread_mutex_init(&c->save_lock, NULL));
	AZ(pthread_cond_init(&c->busy_none, NULL));
	lane_counts(c->number, &c->hits_before, &c->misses_before);
	c->decoder = cfg->decoder != NULL ? cfg->decoder : ocache_bytes_decoder();
	/* random bytes that the kernel gives every process: keys cannot be chosen to collide */
	memcpy(c->seed, (const void *)(uintptr_t)getauxval(AT_RANDOM), sizeof c->seed);
	atomic_init(&c->budget, budget);
	c->shards = shards_for(budget);
	if (cfg->curve_one_in != 0)
		err = curve_open(cfg->curve_one_in, budget, &c->curve_below, &c->curve);
	/* the log of slow loads, too, which is made when there is one */
	c->own_bytes = sizeof *c + report_bytes() + curve_bytes(c->curve) +
		       SLOW_LOADS * sizeof(struct ocache_slow) +
		       cfg->tiers_count * sizeof(struct chain_latency);
	c->shard = aligned_alloc(_Alignof(struct shard), c->shards * sizeof *c->shard);
	if (c->shard == NULL) {
		cache_free(c);
		return -ENOMEM;
	}
	memset(c->shard, 0, c->shards * sizeof *c->shard);
	for (unsigned i = 0; i < c->shards && err == 0; i++)
		err = shard_open(&c->shard[i], c->seed, shard_share(c, budget));
	if (err == 0)
		err = chain_open(c, cfg, cause);
	if (err == 0)
		err = report_open(c, cfg, &c->report);
	if (err == 0)
		err = warm_open(c, cfg, &c->warm);
	if (err != 0)
		cache_free(c);
	else
		*out = c;
	return err;
}

int ocache_open(const struct ocache_config *config, struct ocache **cache, char **cause)
{
	static const struct ocache_config defaults = {.struct_size = sizeof defaults};
	int err;

	if (cause != NULL)
		*cause = NULL;
	if (config == NULL)
		config = &defaults;
	if (config->struct_size != sizeof *config)
		return cause_fail(cause, -EINVAL,
				  "struct_size of the configuration is %zu, not %zu",
				  config->struct_size, sizeof *config);
	if (config->threads > THREADS_MAX)
		return cause_fail(cause, -EINVAL, "%u threads are more than %u", config->threads,
				  THREADS_MAX);
	err = cache_new(config, cache, cause);
	if (err == -ENOMEM)
		cause_say(cause, "there is not enough memory for a cache");
	if (err == -EAGAIN)
		cause_say(cause, "the threads of a cache cannot be started: %s", strerror(EAGAIN));
	return err;
}

struct mine {
	const struct ocache *cache;
	uint64_t pins;
};

static void count_mine(void *ctx, const void *pinned)
{
	struct mine *mine = ctx;

	for (unsigned i = 0; i < mine->cache->shards; i++)
		mine->pins += shard_owns(&mine->cache->shard[i], pinned);
}

int ocache_close(struct ocache **cache)
{
	struct ocache *c = *cache;
	struct mine mine = {.cache = c};

	if (c == NULL)
		return 0;
	MAGIC_OK(c, OCACHE_MAGIC);
	warm_stop(c->warm);
	ocache__loads_end(c);
	warm_close(&c->warm); /* [WM-2] */
	report_stop(c->report);
	pool_close(&c->pool);
	timers_close(&c->timers);
	lane_fence();
	lane_each_pin(count_mine, &mine);
	if (mine.pins != 0 || atomic_load_explicit(&c->boxes, memory_order_acquire) != 0)
		return -EBUSY;
	for (unsigned i = 0; i < c->tiers; i++)
		c->tier[i].tier->ops->close(c->tier[i].tier);
	cache_free(c);
	*cache = NULL;
	return 0;
}

/* ---- references ---- */

struct box *ocache__box(struct ocache *c, const struct ocache_decoder *decoder, void *object,
			size_t size)
{
	struct box *b = malloc(sizeof *b);

	if (b == NULL)
		return NULL;
	*b = (struct box){1, c, decoder, object, size};
	atomic_fetch_add_explicit(&c->uncached, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->boxes_bytes, size + sizeof *b, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->boxes, 1, memory_order_relaxed);
	return b;
}

void ocache__box_drop(struct box *b)
{
	struct ocache *c = b->cache;

	if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
		return;
	b->decoder->destroy(b->decoder->ctx, b->object);
	atomic_fetch_sub_explicit(&c->boxes_bytes, b->size + sizeof *b, memory_order_relaxed);
	free(b);
	atomic_fetch_sub_explicit(&c->boxes, 1, memory_order_release); /* c may go now */
}

void ocache_release(struct ocache_ref *ref)
{
	char *hold = ref->hold_;

	if (hold == NULL)
		return;
	ref->object = NULL;
	ref->hold_ = NULL;
	if (unlikely((uintptr_t)hold & 1))
		ocache__box_drop((struct box *)(void *)(hold - 1));
	else
		lane_unpin((_Atomic(void *) *)(void *)hold);
}

/* ---- reading ---- */

static inline void hit(struct ocache *c, struct lane *ln, struct entry *e)
{
	policy_touch(e, &ln->spare);
	lane_step(&ln->count[c->number].hits);
}

/* It is not in the table. */
static __attribute__((noinline)) int get_absent(struct ocache *c, struct seg_id id, uint64_t hash,
						const struct ocache_hint *hint, struct iostats *io,
						_Atomic(void *) *pin, struct ocache_ref *ref)
{
	uint32_t number = c->number; /* ocache_close() waits for the load, not for what follows */
	int err = -ENOENT;

	if (c->tiers != 0 && (hint == NULL || (hint->flags & OCACHE_CACHED_ONLY) == 0))
		err = ocache__load_wait(c, id, hash, hint, io, pin, ref);
	ocache__count(number, err == 1);
	if (io != NULL)
		iostats_access(io, hint != NULL ? (enum iostats_sort)hint->sort : IOSTATS_NO_SORT,
			       hint != NULL && hint->is_dir, err != 1);
	return err == 1 ? 0 : err;
}

static __attribute__((noinline)) int count_access(struct iostats *io,
						  const struct ocache_hint *hint)
{
	iostats_access(io, hint != NULL ? (enum iostats_sort)hint->sort : IOSTATS_NO_SORT,
		       hint != NULL && hint->is_dir, false);
	return 0;
}

/*
 * A thread's first call, a pin that is taken, another entry with the same tag, one that leaves or is
 * moved.
 */
static __attribute__((noinline)) int get_other(struct ocache *c, struct seg_id id,
					       const struct ocache_hint *hint, struct iostats *io,
					       struct ocache_ref *ref)
{
	uint64_t hash = table_hash(c->seed, id);
	struct lane *ln = lane_mine();
	_Atomic(void *) *pin = ln != NULL ? lane_pin(ln) : NULL;
	struct entry *e;

	if (pin == NULL)
		return -ENOMEM;
	e = table_get(&ocache__shard(c, hash)->table, hash, id.hi, id.lo, pin);
	if (e == NULL)
		return get_absent(c, id, hash, hint, io, pin, ref);
	hit(c, ln, e);
	*ref = ocache__ref_entry(e, pin);
	return count_access(io, hint);
}

static __attribute__((noinline)) int get_followed(struct ocache *c, struct seg_id id,
						  const struct ocache_hint *hint,
						  struct iostats *io, struct ocache_ref *ref)
{
	curve_access(c->curve, ocache__place(table_hash(c->seed, id)));
	return get_other(c, id, hint, io, ref);
}

/* Other functions are called at its end only, so that it has no registers to save. */
int ocache_get(struct ocache *c, struct seg_id id, const struct ocache_hint *hint,
	       struct iostats *io, struct ocache_ref *ref)
{
	uint64_t hash = table_hash(c->seed, id);
	struct lane *ln = lane__mine;
	_Atomic(void *) *pin;
	struct entry *e;
	bool absent;

	DIAG(c->magic == OCACHE_MAGIC);
	if (ocache__followed(c, hash))
		return get_followed(c, id, hint, io, ref);
	if (unlikely(ln == NULL))
		return get_other(c, id, hint, io, ref);
	pin = lane_pin_first(ln);
	if (unlikely(pin == NULL))
		return get_other(c, id, hint, io, ref);
	e = table_get_first(&ocache__shard(c, hash)->table, hash, id.hi, id.lo, pin, &absent);
	if (unlikely(e == NULL))
		return absent ? get_absent(c, id, hash, hint, io, pin, ref)
			      : get_other(c, id, hint, io, ref);
	hit(c, ln, e);
	*ref = ocache__ref_entry(e, pin);
	return likely(io == NULL) ? 0 : count_access(io, hint);
}

/* ---- by hand ---- */

int ocache_add(struct ocache *c, struct seg_id id, const struct ocache_decoder *decoder,
	       void *object, size_t size, struct ocache_ref *ref)
{
	uint64_t hash = table_hash(c->seed, id);
	struct shard *s = ocache__shard(c, hash);
	struct entry *e, *there;
	struct grave g;
	struct lane *ln = lane_mine();
	_Atomic(void *) *pin = NULL;
	struct box *b;
	int err = 0;

	MAGIC_OK(c, OCACHE_MAGIC);
	if (ref != NULL)
		pin = ln != NULL ? lane_pin(ln) : NULL;
	if (ref != NULL && pin == NULL) {
		decoder->destroy(decoder->ctx, object);
		return -ENOMEM;
	}
	/* comes while the lock waits for what the caller has just written */
	policy_prefetch_insert(&s->policy, hash);
	grave_open(&g);
	pthread_mutex_lock(&s->lock);
	there = table_find(&s->table, hash, id);
	e = there != NULL ? there : shard_insert(s, id, decoder, object, size, &g);
	if (e != NULL && ref != NULL) {
		atomic_store_explicit(pin, e, memory_order_release);
		*ref = ocache__ref_entry(e, pin);
	}
	if (there == NULL && ocache__followed(c, hash))
		curve_add(c->curve, ocache__place(hash), size);
	pthread_mutex_unlock(&s->lock);
	shard_bury(s, &g);
	if (there != NULL) {
		err = -EEXIST;
	} else if (e == NULL && ref != NULL) {
		b = ocache__box(c, decoder, object, size);
		if (b != NULL) {
			*ref = ocache__ref_box(b);
			return 0;
		}
		err = -ENOMEM;
	} else if (e == NULL) {
		atomic_fetch_add_explicit(&c->uncached, 1, memory_order_relaxed);
	}
	if (e != NULL && there == NULL)
		return 0;
	decoder->destroy(decoder->ctx, object);
	return err;
}

bool ocache_forget(struct ocache *c, struct seg_id id)
{
	uint64_t hash = table_hash(c->seed, id);
	struct shard *s = ocache__shard(c, hash);
	struct entry *e;
	struct grave g;

	MAGIC_OK(c, OCACHE_MAGIC);
	grave_open(&g);
	pthread_mutex_lock(&s->lock);
	e = table_find(&s->table, hash, id);
	if (e != NULL)
		shard_forget(s, e, &g);
	if (ocache__followed(c, hash))
		curve_forget(c->curve, ocache__place(hash));
	pthread_mutex_unlock(&s->lock);
	shard_bury(s, &g);
	return e != NULL;
}

int ocache_resize(struct ocache *c, uint64_t budget)
{
	struct grave g[SHARDS_MAX];

	MAGIC_OK(c, OCACHE_MAGIC);
	if (budget < OCACHE_BUDGET_MIN)
		return -EINVAL;
	/* one at a time: all shards have their shares of the same budget */
	pthread_mutex_lock(&c->resize_lock);
	atomic_store_explicit(&c->budget, budget, memory_order_relaxed);
	for (unsigned i = 0; i < c->shards; i++) {
		struct shard *s = &c->shard[i];

		grave_open(&g[i]);
		pthread_mutex_lock(&s->lock);
		shard_resize(s, shard_share(c, budget), &g[i]);
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&c->resize_lock);
	for (unsigned i = 0; i < c->shards; i++) {
		struct shard *s = &c->shard[i];

		shard_bury(s, &g[i]);
		pthread_mutex_lock(&s->lock);
		shard_trim(s);
		pthread_mutex_unlock(&s->lock);
	}
	return 0;
}

/* ---- watching ---- */

void ocache_stats(struct ocache *c, struct ocache_stats *stats, size_t struct_size)
{
	struct ocache_stats st = {0};

	MAGIC_OK(c, OCACHE_MAGIC);
	ocache__counts(c, &st.hits, &st.misses);
	st.uncached = atomic_load_explicit(&c->uncached, memory_order_relaxed);
	st.fills = atomic_load_explicit(&c->fills, memory_order_relaxed);
	st.fills_failed = atomic_load_explicit(&c->fills_failed, memory_order_relaxed);
	st.fills_dropped = atomic_load_explicit(&c->fills_dropped, memory_order_relaxed);
	st.repairs = atomic_load_explicit(&c->repairs, memory_order_relaxed);
	pthread_mutex_lock(&c->slow.lock);
	st.slow = c->slow.n;
	pthread_mutex_unlock(&c->slow.lock);
	st.warmed = atomic_load_explicit(&c->warmed, memory_order_relaxed);
	st.saves = atomic_load_explicit(&c->saves, memory_order_relaxed);
	st.saves_failed = atomic_load_explicit(&c->saves_failed, memory_order_relaxed);
	st.overhead = c->own_bytes;
	for (unsigned i = 0; i < c->shards; i++) {
		struct shard *s = &c->shard[i];
		struct grave g;

		grave_open(&g);
		pthread_mutex_lock(&s->lock);
		shard_sweep(s, &g); /* what was released since the last miss is not "leaving" */
		st.added += s->added;
		st.evicted += s->evicted;
		st.forgotten += s->forgotten;
		st.joined += s->joined;
		st.loads += s->loads_begun;
		st.loads_failed += s->loads_failed;
		st.loads_now += s->loads_now;
		st.timeouts += s->timeouts;
		st.objects_now += s->table.count;
		st.resident += s->resident;
		st.leaving += s->leaving_bytes;
		st.overhead += shard_overhead(s);
		pthread_mutex_unlock(&s->lock);
		shard_bury(s, &g);
	}
	st.budget = atomic_load_explicit(&c->budget, memory_order_relaxed);
	st.leaving += atomic_load_explicit(&c->boxes_bytes, memory_order_relaxed);
	st.used = st.resident + st.leaving + st.overhead;
	memcpy(stats, &st, struct_size < sizeof st ? struct_size : sizeof st);
}

int ocache_curve(struct ocache *c, bool restart, struct ocache_curve *curve)
{
	uint64_t hits, misses;

	MAGIC_OK(c, OCACHE_MAGIC);
	if (c->curve == NULL)
		return -ENOENT;
	ocache__counts(c, &hits, &misses);
	curve_read(c->curve, hits + misses, restart, curve);
	return 0;
}

int ocache_tier_stats(struct ocache *c, unsigned tier, struct ocache_tier_stats *stats,
		      size_t struct_size)
{
	struct ocache_tier_stats st;

	MAGIC_OK(c, OCACHE_MAGIC);
	if (tier >= c->tiers)
		return -ENOENT;
	chain_stats(&c->tier[tier], &st);
	memcpy(stats, &st, struct_size < sizeof st ? struct_size : sizeof st);
	return 0;
}

int ocache_tier_latency(struct ocache *c, unsigned tier, bool writes, struct ocache_latency *out)
{
	MAGIC_OK(c, OCACHE_MAGIC);
	if (tier >= c->tiers)
		return -ENOENT;
	chain_histogram(&c->tier[tier], writes, out);
	return 0;
}

uint64_t ocache_latency_quantile(const struct ocache_latency *l, double part)
{
	double want = part * (double)l->count;
	uint64_t seen = 0;

	for (unsigned i = 0; i < l->n; i++) {
		seen += l->bucket[i].count;
		if ((double)seen >= want)
			return l->bucket[i].ns < l->max_ns ? l->bucket[i].ns : l->max_ns;
	}
	return l->max_ns;
}

static void protect(void *read_only, void *base, size_t bytes)
{
	AZ(mprotect(base, bytes, *(bool *)read_only ? PROT_READ : PROT_READ | PROT_WRITE));
}

void ocache__protect(struct ocache *c, bool read_only)
{
	for (unsigned i = 0; i < c->shards; i++)
		shard_each_mapping(&c->shard[i], protect, &read_only);
}

/* ---- the decoder of who has none ---- */

static int bytes_decode(void *ctx, struct seg_id id, const void *bytes, size_t len, void **object,
			size_t *size)
{
	struct ocache_bytes *b = malloc(sizeof *b + len);

	(void)ctx;
	(void)id;
	if (b == NULL)
		return -ENOMEM;
	memcpy(b + 1, bytes, len);
	b->len = len;
	b->data = (const unsigned char *)(b + 1);
	*object = b;
	*size = malloc_usable_size(b) + sizeof(size_t); /* and glibc's word before it */
	return 0;
}

static void bytes_destroy(void *ctx, void *object)
{
	(void)ctx;
	free(object);
}

const struct ocache_decoder *ocache_bytes_decoder(void)
{
	static const struct ocache_decoder decoder = {NULL, bytes_decode, bytes_destroy};

	return &decoder;
}
