/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store as a whole: opening and closing, workers, and what can be read of it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "valcached/store/recency.h"

#define REINSERT_ALL    0.70
#define REINSERT_SECOND 0.60

int store_open(const struct store_config *cfg, const struct io_engine *engine, struct store **out,
	       char **cause)
{
	struct store *s;
	int res;

	A(cfg->npaths >= 1 && cfg->npaths <= STORE_PATHS_MAX);
	A(cfg->workers >= 1);
	*cause = NULL;
	if (posix_memalign((void **)&s, CACHE_LINE, sizeof *s) != 0)
		return -ENOMEM;
	memset(s, 0, sizeof *s);
	s->cfg = *cfg;
	if (s->cfg.shm_dir == NULL)
		s->cfg.shm_dir = "/dev/shm";
	if (s->cfg.reinsert_all == 0)
		s->cfg.reinsert_all = REINSERT_ALL;
	if (s->cfg.reinsert_second == 0)
		s->cfg.reinsert_second = REINSERT_SECOND;
	if (s->cfg.sync_ns == 0)
		s->cfg.sync_ns = NS_PER_S;
	if (s->cfg.mean_value == 0)
		s->cfg.mean_value = 40960;
	if (s->cfg.item_max > STORE_VALUE_MAX)
		s->cfg.item_max = STORE_VALUE_MAX;
	s->engine = engine;
	s->npaths = cfg->npaths;
	s->opened_ns = clock_ns();
	pthread_mutex_init(&s->drop_lock, NULL);
	pthread_mutex_init(&s->base_lock, NULL);
	for (unsigned i = 0; i < STRIPES; i++)
		pthread_mutex_init(&s->stripe[i].m, NULL);
	s->worker = calloc(s->cfg.workers + 1, sizeof(struct store_worker * _Atomic));
	s->base = calloc(1, sizeof *s->base);
	s->lat_base = calloc(STORE_LATS, sizeof *s->lat_base);
	if (s->worker == NULL || s->base == NULL || s->lat_base == NULL) {
		res = -ENOMEM;
		goto fail;
	}
	res = ram_open(&(struct ram_config){.ram_bytes = s->cfg.ram_bytes,
					    .ram_bytes_max = s->cfg.ram_bytes_max,
					    .buffer_bytes = s->cfg.buffer_bytes},
		       &s->ram, cause);
	if (res < 0)
		goto fail;
	res = recency_open(s);
	if (res < 0)
		goto fail;
	res = paths_open(s, cause);
	if (res < 0)
		goto fail;
	res = scrub_open(s);
	if (res < 0)
		goto fail;
	s->opened = true;
	*out = s;
	return 0;
fail:
	if (*cause == NULL && asprintf(cause, "cannot open the store: %s", strerror(-res)) < 0)
		*cause = NULL;
	/* what it has read of a disk that then failed is not for the next start to believe [AT-8] */
	if (s->live != NULL && s->layer != NULL && strcmp(s->layer, "shm") != 0)
		atomic_store(&s->live->complete, 0);
	store_close(&s);
	return res;
}

void store_close(struct store **sp)
{
	struct store *s = *sp;

	*sp = NULL;
	for (unsigned i = 0; s->worker != NULL && i <= s->cfg.workers; i++)
		if (s->worker[i] != NULL) {
			A(atomic_load(&s->worker[i]->gone));
			pthread_mutex_destroy(&s->worker[i]->wake_lock);
			free(s->worker[i]);
		}
	load_free(&s->load);
	live_stopped(s);
	/* [RC-12] also of a start that failed, and of a stop that could not say that it was in order */
	wbufs_close(s, s->replayed && (s->opened || !s->writes_lost) && !paths_stopped_well(s));
	scrub_close(s);
	recency_close(s);
	paths_close(s);
	if (s->ram != NULL)
		ram_close(&s->ram);
	if (s->ghost != NULL)
		ghost_close(&s->ghost);
	live_close(s);
	live_let_go(s); /* the last of all that others may want */
	for (unsigned i = 0; i < STRIPES; i++)
		pthread_mutex_destroy(&s->stripe[i].m);
	pthread_mutex_destroy(&s->drop_lock);
	pthread_mutex_destroy(&s->base_lock);
	free(s->drops);
	free(s->worker);
	free(s->base);
	free(s->lat_base);
	free(s);
}

/* ---- workers ----------------------------------------------------------------------------------- */

int store_worker_open(struct store *s, struct io *io, unsigned id, struct store_worker **out,
		      char **cause)
{
	struct store_worker *sw;
	void *base;
	size_t len;
	int res;

	A(id <= s->cfg.workers);
	A(s->worker[id] == NULL);
	*cause = NULL;
	if (posix_memalign((void **)&sw, CACHE_LINE, sizeof *sw) != 0)
		return -ENOMEM;
	memset(sw, 0, sizeof *sw);
	sw->s = s;
	sw->io = io;
	sw->id = id;
	pthread_mutex_init(&sw->wake_lock, NULL);
	atomic_store(&sw->grace_seen, atomic_load(&s->grace));
	sw->files_seen = atomic_load(&s->files);
	sw->budget = s->cfg.buffer_bytes / s->cfg.workers;
	for (unsigned i = 0; i < WAITS; i++)
		sw->wait[i].tail = &sw->wait[i].head;
	sw->nwbufs = s->wbufs_per_worker;
	sw->wbufs = calloc(sw->nwbufs, sizeof(struct wbuf *));
	if (sw->wbufs == NULL) {
		free(sw);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < sw->nwbufs; i++) {
		sw->wbufs[i] = &s->wbuf[id * sw->nwbufs + i];
		sw->wbufs[i]->owner = sw;
	}
	for (unsigned i = 0; i < s->npaths; i++) {
		res = io_add_file(io, s->path[i].file);
		if (res < 0) {
			if (asprintf(cause, "cannot use %s: %s", s->path[i].file->info.path,
				     strerror(-res)) < 0)
				*cause = NULL;
			free(sw->wbufs);
			free(sw);
			return res;
		}
	}
	/* a refusal (memlock) is the engine's to log; I/O works without */
	(void)io_add_memory(io, sw->wbufs[0]->mem, (size_t)sw->nwbufs * WBUF_BYTES);
	if (id < s->cfg.workers) {
		ram_arena(s->ram, &base, &len);
		(void)io_add_memory(io, base, len);
		ram_arena_pinned(s->ram);
	}
	s->worker[id] = sw;
	*out = sw;
	return 0;
}

void store_worker_woken(struct store_worker *sw)
{
	sw->retry = true;
}

static bool anyone_waits(const struct store_worker *sw)
{
	for (unsigned q = 0; q < WAITS; q++)
		if (sw->wait[q].head != NULL)
			return true;
	return false;
}

uint64_t store_worker_turn(struct store_worker *sw)
{
	struct store *s = sw->s;
	uint64_t now = io_now(sw->io), next = UINT64_MAX, epoch;

	/* quiescence: nothing of the last turn's handlers is still looking at the index */
	epoch = atomic_load(&s->grace);
	if (atomic_load_explicit(&sw->grace_seen, memory_order_relaxed) != epoch) {
		files_told(sw);
		atomic_store(&sw->grace_seen, epoch);
		slow_call(s);
	}
	if (sw->retry_at != 0 && now >= sw->retry_at) {
		sw->retry_at = 0;
		sw->retry = true;
	}
	if (sw->retry) {
		sw->retry = false;
		ops_retry(sw);
		/* memory may be given back by others, who do not call us */
		if (anyone_waits(sw))
			sw->retry_at = now + 2 * NS_PER_MS;
	} else if (sw->retry_at == 0 && anyone_waits(sw)) {
		sw->retry_at = now + 2 * NS_PER_MS;
	}
	watch_turn(sw, &next);
	wbufs_turn(sw, &next);
	if (sw->retry_at != 0 && sw->retry_at < next)
		next = sw->retry_at;
	if (sw->id == s->cfg.workers) {
		if (sw->stopping && !sw->finished) {
			slow_finish(sw);
			sw->finished = true;
		} else if (!sw->stopping) {
			uint64_t due = slow_turn(sw);

			next = due < next ? due : next;
		}
	}
	/* also when a wake-up came while the slow worker was waiting for its I/O */
	return sw->retry ? now : next;
}

void store_worker_stop(struct store_worker *sw)
{
	sw->stopping = true;
}

bool store_worker_idle(const struct store_worker *sw)
{
	if (sw->in_flight > 0 || anyone_waits(sw))
		return false;
	return wbufs_idle(sw) && (sw->id < sw->s->cfg.workers || sw->finished);
}

void store_worker_close(struct store_worker **swp)
{
	struct store_worker *sw = *swp;
	struct store *s = sw->s;

	*swp = NULL;
	AZ(sw->in_flight);
	pthread_mutex_lock(&sw->wake_lock);
	atomic_store(&sw->gone, true);
	pthread_mutex_unlock(&sw->wake_lock);
	if (sw->id < s->cfg.workers)
		slow_call(s);
	while (sw->io_free != NULL) {
		struct store_io *run = sw->io_free;

		sw->io_free = run->free_next;
		free(run);
	}
	/* the rest stays until the store is closed: counters are still read */
	free(sw->wbufs);
	sw->wbufs = NULL;
	sw->nwbufs = 0;
	sw->io = NULL;
}

void worker_wake(struct store_worker *sw)
{
	pthread_mutex_lock(&sw->wake_lock);
	if (!atomic_load(&sw->gone))
		io_wake(sw->io);
	pthread_mutex_unlock(&sw->wake_lock);
}

bool store_loading(const struct store *s)
{
	return loading(s);
}

/* ---- looking inside ---------------------------------------------------------------------------- */

/* Since the start. */
static void counters_sum(const struct store *s, struct store_counters *out)
{
	memset(out, 0, sizeof *out);
	for (unsigned i = 0; i <= s->cfg.workers; i++) {
		const struct store_worker *sw = s->worker[i];

		if (sw == NULL)
			continue;
#define X(n, t) out->n += atomic_load_explicit(&sw->count.n, memory_order_relaxed);
		STORE_COUNTERS(X)
#undef X
	}
}

static void latency_sum(const struct store *s, enum store_latency which, struct hist *into)
{
	memset(into, 0, sizeof *into);
	for (unsigned i = 0; i <= s->cfg.workers; i++)
		if (s->worker[i] != NULL)
			hist_merge(into, &s->worker[i]->lat[which]);
}

/* Bases and sums are read together: a base newer than the sum would make it negative. */
static pthread_mutex_t *base_lock(const struct store *s)
{
	return &((struct store *)(uintptr_t)s)->base_lock;
}

void store_counters(const struct store *s, struct store_counters *out)
{
	pthread_mutex_lock(base_lock(s));
	counters_sum(s, out);
#define X(n, t) out->n -= s->base->n;
	STORE_COUNTERS(X)
#undef X
	pthread_mutex_unlock(base_lock(s));
}

void store_latency(const struct store *s, enum store_latency which, struct hist *into)
{
	pthread_mutex_lock(base_lock(s));
	latency_sum(s, which, into);
	hist_subtract(into, &s->lat_base[which]);
	pthread_mutex_unlock(base_lock(s));
}

void store_stats_reset(struct store *s)
{
	pthread_mutex_lock(base_lock(s));
	counters_sum(s, s->base);
	for (unsigned k = 0; k < STORE_LATS; k++)
		latency_sum(s, (enum store_latency)k, &s->lat_base[k]);
	pthread_mutex_unlock(base_lock(s));
}

int store_set_ram(struct store *s, uint64_t bytes)
{
	return ram_resize(s->ram, bytes);
}

void store_totals(const struct store *s, uint64_t *items, uint64_t *bytes)
{
	struct index_stats ix;

	index_stats(s->index, &ix);
	*items = ix.items;
	*bytes = 0;
	for (unsigned i = 0; i < s->npaths; i++)
		for (uint32_t k = 0; k < s->path[i].nseg; k++)
			*bytes += s->path[i].seg[k].data_bytes;
}

static void path_stats(const struct store *s, unsigned i, store_emit_fn *emit, void *arg)
{
	const struct path *p = &s->path[i];
	uint32_t count[SEG_STATES] = {0}, quarantined = 0, young = 0, tail = p->nseg - p->nstay;
	char name[64], why[PATH_WHY_MAX];

	for (uint32_t k = 0; k < p->nseg; k++) {
		const struct segment *g = &p->seg[k];

		count[atomic_load_explicit(&g->state, memory_order_relaxed)]++;
		quarantined += atomic_load_explicit(&g->quarantined, memory_order_relaxed);
		young += g->stream == STREAM_YOUNG &&
			 atomic_load_explicit(&g->state, memory_order_relaxed) == SEG_SEALED;
	}
#define P(what, fmt, v)                                                                            \
	snprintf(name, sizeof name, "path%u_%s", i, what);                                         \
	emit(arg, name, fmt, v)
	P("file", "%s", p->file->info.path);
	P("state", "%s", path_state(p));
	P("read_errors", "%" PRIu64, atomic_load(&p->read_errors));
	P("write_errors", "%" PRIu64, atomic_load(&p->write_errors));
	P("late", "%u", atomic_load(&p->late));
	path_why(p, why);
	P("reason", "%s", why);
	P("direct_io", "%s", p->file->info.direct ? "yes" : "no");
	P("segments", "%u", p->nseg - count[SEG_LEFT]);
	P("segments_leaving", "%u", tail - count[SEG_LEFT]);
	P("segments_unused", "%u", count[SEG_VIRGIN]);
	P("segments_clean", "%u", count[SEG_CLEAN]);
	P("segments_open", "%u", count[SEG_OPEN] + count[SEG_FULL]);
	P("segments_sealed", "%u", count[SEG_SEALED]);
	P("segments_young", "%u", young);
	P("segments_quarantined", "%u", quarantined);
	P("segments_recycled", "%" PRIu64, atomic_load(&p->seg_recycled));
#undef P
}

void store_stats(const struct store *s, store_emit_fn *emit, void *arg)
{
	uint64_t recycled = 0, sealed = 0, used = 0, age, items, bytes, waf_user, waf_disk, up;
	struct store_counters c, all;
	struct index_stats ix;
	struct ram_stats ram;
	uint32_t nseg = 0;

	store_counters(s, &c);
	index_stats(s->index, &ix);
	ram_stats(s->ram, &ram);
	store_totals(s, &items, &bytes);
	for (unsigned i = 0; i < s->npaths; i++) {
		recycled += atomic_load(&s->path[i].seg_recycled);
		sealed += atomic_load(&s->path[i].seg_sealed);
		nseg += s->path[i].nstay;
	}
	waf_user = c.user_bytes;
	waf_disk = c.disk_write_bytes;
	counters_sum(s, &all);
	up = clock_ns() - s->opened_ns;
	age = atomic_load(&s->eviction_age_ns);
	emit(arg, "segment_bytes", "%" PRIu64, s->seg_size);
	emit(arg, "segments", "%u", nseg);
	emit(arg, "segments_sealed_total", "%" PRIu64, sealed);
	emit(arg, "segments_recycled", "%" PRIu64, recycled);
	emit(arg, "segments_quarantined_total", "%" PRIu64, atomic_load(&s->quarantines));
	emit(arg, "delete_epoch", "%" PRIu64, atomic_load(&s->epoch));
	emit(arg, "store_full", "%s", atomic_load(&s->full) ? "yes" : "no");
	emit(arg, "records_reinserted", "%" PRIu64, atomic_load(&s->reinserted));
	emit(arg, "records_reinserted_bytes", "%" PRIu64, atomic_load(&s->reinserted_bytes));
	emit(arg, "records_reinsert_corrupt", "%" PRIu64, atomic_load(&s->reinsert_corrupt));
	emit(arg, "records_evicted", "%" PRIu64, atomic_load(&s->evicted));
	emit(arg, "eviction_age_s", "%.1f", (double)age / 1e9);
	/* the time that the rate of writes since the start needs to turn the whole store over */
	emit(arg, "retention_predicted_s", "%.0f",
	     all.disk_write_bytes > 0 ? (double)(nseg * s->seg_size) /
					    ((double)all.disk_write_bytes / ((double)up / 1e9))
				      : 0.0);
	emit(arg, "write_amplification", "%.3f",
	     waf_user > 0 ? (double)waf_disk / (double)waf_user : 0.0);
	emit(arg, "data_bytes", "%" PRIu64, bytes);
	scrub_stats(s, emit, arg);
	recency_stats(s, emit, arg);
	emit(arg, "restart_layer", "%s", s->layer);
	emit(arg, "restart_writes_lost", "%s", s->writes_lost ? "yes" : "no");
	emit(arg, "segments_to_load", "%u", atomic_load(&s->segments_to_load));
	emit(arg, "segments_loaded", "%u", atomic_load(&s->segments_loaded));
	emit(arg, "recovered_values", "%" PRIu64, atomic_load(&s->recovered));
	emit(arg, "recovery_ms", "%.1f",
	     (double)(loading(s) ? clock_ns() - s->recover_began : atomic_load(&s->recover_ns)) /
		 1e6);
#define X(n, t) emit(arg, #n, "%" PRIu64, c.n);
	STORE_COUNTERS(X)
#undef X
#define X(n, t) emit(arg, "index_" #n, "%" PRIu64, ix.n);
	INDEX_COUNTERS(X)
#undef X
	emit(arg, "index_bytes", "%zu", s->index_len);
	emit(arg, "ghost_bytes", "%zu", ghost_bytes(s->ghost));
#define X(n, t) emit(arg, "ram_" #n, "%" PRIu64, ram.n);
	RAM_COUNTERS(X)
#undef X
	for (unsigned i = 0; i <= s->cfg.workers; i++)
		if (s->worker[i] != NULL)
			used += atomic_load_explicit(&s->worker[i]->charged, memory_order_relaxed);
	emit(arg, "buffers_bytes", "%" PRIu64, s->cfg.buffer_bytes);
	emit(arg, "buffers_used_bytes", "%" PRIu64, used);
	for (unsigned i = 0; i < s->npaths; i++)
		path_stats(s, i, emit, arg);
}

void store_stats_items(const struct store *s, store_emit_fn *emit, void *arg)
{
	struct ram_class_stats cls[160];
	unsigned n = ram_class_stats(s->ram, cls, 160);
	char name[64];

	for (unsigned i = 0; i < n && i < 160; i++) {
		if (cls[i].chunks == 0)
			continue;
#define I(what, fmt, v)                                                                            \
	snprintf(name, sizeof name, "items:%u:%s", i + 1, what);                                   \
	emit(arg, name, fmt, v)
		I("size", "%u", cls[i].size);
		I("number", "%" PRIu64, cls[i].resident);
		I("chunks", "%" PRIu64, cls[i].chunks);
		I("objects", "%" PRIu64, cls[i].objects);
		I("pinned", "%" PRIu64, cls[i].pinned);
		I("age", "%" PRIu64, cls[i].age_s);
		I("evicted", "%" PRIu64, cls[i].evicted);
#undef I
	}
}
