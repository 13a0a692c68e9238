/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RAM tier's calls: opening, resizing, counting, and those that join pool, table and queues.
 * Invariants and locks: ram_int.h. Threads: any.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "valcached/store/ram_int.h"

#define LINES_FIRST 64u
#define LINES_CHUNK                                                                                \
	(RAM_SLOTS / RAM_LINE_LOAD)  /* lines that a chunk of the smallest objects fills */
#define EVICT_BATCH 64u              /* evictions before others get the lock */
#define DEBT_STEP   (RAM_CHUNK / 16) /* a look for the cheapest chunk is not cheap */
#define GHOST_MEAN  1024u            /* one ghost entry per so many bytes of RAM */

static size_t round_up(uint64_t n, uint64_t to)
{
	return (size_t)((n + to - 1) / to * to);
}

static uint64_t chunks_for(const struct ram *r, uint64_t ram_bytes)
{
	return (ram_bytes + r->buffer_bytes + RAM_CHUNK - 1) / RAM_CHUNK;
}

/* Address space only: no access, no memory, no commit charge. */
static void *reserve(size_t len)
{
	void *p = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int access_chunks(struct ram *r, uint32_t chunks)
{
	size_t lines = ((size_t)chunks * LINES_CHUNK + LINES_FIRST) * sizeof(struct ram_line);

	if (chunks <= r->chunks_top)
		return 0;
	if (mprotect(r->arena, (size_t)chunks * RAM_CHUNK, PROT_READ | PROT_WRITE) != 0 ||
	    mprotect(r->bufs, ((size_t)chunks + 1) * RAM_SLOTS * sizeof(struct buf),
		     PROT_READ | PROT_WRITE) != 0 ||
	    mprotect(r->lines, round_up(lines, 4096), PROT_READ | PROT_WRITE) != 0)
		return -errno;
	madvise(r->arena, (size_t)chunks * RAM_CHUNK, MADV_HUGEPAGE);
	return 0;
}

/* Puts chunks up to `chunks` into use. Under r->lock. */
static void open_chunks(struct ram *r, uint32_t chunks)
{
	uint32_t was = atomic_load_explicit(&r->nchunks, memory_order_relaxed);

	atomic_store_explicit(&r->nchunks, chunks, memory_order_relaxed);
	if (chunks > r->chunks_top) {
		r->chunks_top = chunks;
		r->lines_max = chunks * LINES_CHUNK + LINES_FIRST;
	}
	for (uint32_t i = chunks; i > was; i--)
		ram__chunk_open(r, i);
}

int ram_open(const struct ram_config *cfg, struct ram **out, char **cause)
{
	uint64_t max = cfg->ram_bytes_max != 0 ? cfg->ram_bytes_max : 4 * cfg->ram_bytes;
	uint64_t chunks, chunks_max, remembered;
	struct ram *r;
	int ret;

	*out = NULL;
	r = aligned_alloc(64, round_up(sizeof *r, 64));
	if (r == NULL)
		return -ENOMEM;
	memset(r, 0, sizeof *r);
	r->magic = RAM_MAGIC;
	pthread_mutex_init(&r->resize_lock, NULL);
	r->bytes_max = max < cfg->ram_bytes ? cfg->ram_bytes : max;
	r->buffer_bytes = cfg->buffer_bytes;
	r->limit = cfg->ram_bytes;
	r->nclasses = ram__classes(r->cls, r->class_of);
	chunks = chunks_for(r, cfg->ram_bytes);
	chunks_max = chunks_for(r, r->bytes_max);
	ret = -EINVAL;
	if (chunks == 0 || chunks_max >= UINT32_MAX / RAM_SLOTS) {
		if (asprintf(cause,
			     "RAM tier of %llu bytes (at most %llu) and %llu bytes of buffers: "
			     "the sum must be above 0 and below 2 TiB",
			     (unsigned long long)cfg->ram_bytes, (unsigned long long)r->bytes_max,
			     (unsigned long long)cfg->buffer_bytes) < 0)
			*cause = NULL;
		goto fail;
	}
	r->chunks_max = (uint32_t)chunks_max;
	r->arena_map_len = (chunks_max + 1) * RAM_CHUNK;
	r->bufs_map_len = (chunks_max + 1) * RAM_SLOTS * sizeof(struct buf);
	r->lines_map_len =
	    round_up((chunks_max * LINES_CHUNK + LINES_FIRST) * sizeof(struct ram_line), 4096);
	r->chunks_map_len = round_up((chunks_max + 1) * sizeof(struct ram_chunk), 4096);
	r->arena_map = reserve(r->arena_map_len);
	r->bufs = reserve(r->bufs_map_len);
	r->lines = reserve(r->lines_map_len);
	r->chunks = reserve(r->chunks_map_len);
	ret = -ENOMEM;
	if (r->arena_map == NULL || r->bufs == NULL || r->lines == NULL || r->chunks == NULL)
		goto fail_memory;
	r->arena = (uint8_t *)round_up((uintptr_t)r->arena_map, RAM_CHUNK);
	if (mprotect(r->chunks, r->chunks_map_len, PROT_READ | PROT_WRITE) != 0)
		goto fail_memory;
	ret = access_chunks(r, (uint32_t)chunks);
	if (ret != 0)
		goto fail_memory;
	remembered = (r->limit > r->bytes_max / 4 ? r->limit : r->bytes_max / 4) / GHOST_MEAN;
	ret = ghost_open(remembered < 64 ? 64 : remembered, &r->ghost);
	if (ret != 0)
		goto fail_memory;
	open_chunks(r, (uint32_t)chunks);
	atomic_store(&r->shape, (uint64_t)(LINES_FIRST - 1) << 32 | LINES_FIRST);
	*out = r;
	return 0;

fail_memory:
	if (asprintf(cause,
		     "RAM tier: cannot map %zu MiB of address space and %llu MiB of memory: %s: "
		     "give it less (-m), or raise vm.overcommit_memory or RLIMIT_AS",
		     r->arena_map_len >> 20, (unsigned long long)(chunks * RAM_CHUNK) >> 20,
		     strerror(-ret)) < 0)
		*cause = NULL;
fail:
	ram_close(&r);
	return ret;
}

void ram_close(struct ram **rp)
{
	struct ram *r = *rp;

	if (r == NULL)
		return;
	MAGIC_OK(r, RAM_MAGIC);
	*rp = NULL;
	r->magic = 0;
	if (r->arena_map != NULL)
		munmap(r->arena_map, r->arena_map_len);
	if (r->bufs != NULL)
		munmap(r->bufs, r->bufs_map_len);
	if (r->lines != NULL)
		munmap(r->lines, r->lines_map_len);
	if (r->chunks != NULL)
		munmap(r->chunks, r->chunks_map_len);
	ghost_close(&r->ghost);
	pthread_mutex_destroy(&r->resize_lock);
	free(r);
}

void ram_arena(const struct ram *r, void **base, size_t *len)
{
	*base = r->arena;
	*len = (size_t)atomic_load_explicit(&r->nchunks, memory_order_relaxed) * RAM_CHUNK;
}

void ram_arena_pinned(struct ram *r)
{
	ram_lock(&r->lock);
	r->chunks_pinned = atomic_load_explicit(&r->nchunks, memory_order_relaxed);
	ram_unlock(&r->lock);
}

/* Lets others have the lock in the middle of long work. */
static void breathe(struct ram *r, unsigned *n)
{
	if (++*n % EVICT_BATCH == 0) {
		ram_unlock(&r->lock);
		ram_lock(&r->lock);
	}
}

int ram_resize(struct ram *r, uint64_t ram_bytes)
{
	uint32_t chunks;
	unsigned n = 0;
	int ret = 0;

	MAGIC_OK(r, RAM_MAGIC);
	if (ram_bytes > r->bytes_max)
		return -EINVAL;
	chunks = (uint32_t)chunks_for(r, ram_bytes);
	if (chunks == 0)
		return -EINVAL;
	pthread_mutex_lock(&r->resize_lock);
	ram_lock(&r->lock);
	if (chunks >= atomic_load_explicit(&r->nchunks, memory_order_relaxed))
		ret = access_chunks(r, chunks);
	if (ret != 0)
		goto out;
	r->limit = ram_bytes;
	while (ram__resident(r) > r->limit && ram__evict(r))
		breathe(r, &n);
	if (chunks >= atomic_load_explicit(&r->nchunks, memory_order_relaxed)) {
		open_chunks(r, chunks);
		goto out;
	}
	atomic_store_explicit(&r->nchunks, chunks, memory_order_relaxed);
	ram__chunks_close(r);
	for (uint32_t i = chunks + 1; i <= r->chunks_top; i++) {
		if (r->chunks[i].assigned)
			ram__chunk_drain(r, i, true);
		ram_unlock(&r->lock);
		ram_lock(&r->lock);
	}
out:
	ram_unlock(&r->lock);
	pthread_mutex_unlock(&r->resize_lock);
	return ret;
}

/* Has the class paid for a chunk? Then one is free now. */
static bool debt_due(struct ram *r, struct ram_class *cl)
{
	if (cl->debt < cl->debt_asked + DEBT_STEP)
		return false;
	cl->debt_asked = cl->debt;
	return ram__chunk_empty(r, cl->debt);
}

struct buf *ram_alloc(struct ram *r, uint32_t size)
{
	unsigned c, n = 0;
	struct ram_class *cl;
	struct buf *b;

	MAGIC_OK(r, RAM_MAGIC);
	A(size <= RAM_OBJECT_MAX);
	c = r->class_of[ram__step(size)];
	cl = &r->cls[c];
	ram_lock(&r->lock);
	b = ram__take(r, c);
	/*
	 * Nothing free. By turns, until one of these helps: move a sparse chunk's residents away;
	 * take an object of the next class, then of one further; evict the next in order; and once
	 * that has cost the class as much as the cheapest chunk holds, empty that.
	 */
	while (b == NULL) {
		uint64_t had = ram__resident(r);

		if (ram__chunk_join(r) || debt_due(r, cl)) {
			b = ram__take(r, c);
			break;
		}
		b = ram__take_larger(r, c, n < RAM_REACH ? n + 1 : RAM_REACH);
		if (b != NULL)
			cl->debt += b->size - cl->size;
		if (b != NULL || !ram__evict(r))
			break;
		cl->debt += had - ram__resident(r);
		breathe(r, &n);
		b = ram__take(r, c);
	}
	/* Next to nothing is resident, or chunks are pinned here and there: take what there is. */
	if (b == NULL && ram__chunk_empty(r, UINT64_MAX))
		b = ram__take(r, c);
	if (b == NULL)
		b = ram__take_larger(r, c, RAM_CLASSES);
	if (b == NULL && ram__evict_class(r, c)) {
		b = ram__take(r, c);
		if (b == NULL)
			b = ram__take_larger(r, c, RAM_CLASSES);
	}
	if (b == NULL)
		r->alloc_failures++;
	ram_unlock(&r->lock);
	return b;
}

struct buf *ram_alloc_outside(struct ram *r, uint32_t size)
{
	struct buf *b = calloc(1, sizeof *b);

	A(size <= RAM_OBJECT_MAX);
	if (b == NULL)
		return NULL;
	if (posix_memalign((void **)&b->mem, 4096, size > 0 ? size : 1) != 0) {
		free(b);
		return NULL;
	}
	b->size = size;
	b->class_id = RAM_OUTSIDE;
	atomic_store_explicit(&b->refs, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&r->outside_bytes, size, memory_order_relaxed);
	return b;
}

void buf_put(struct ram *r, struct buf *b)
{
	uint32_t old = atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel);

	A(old > 0);
	if (old == 1 && b->class_id == RAM_OUTSIDE) {
		atomic_fetch_sub_explicit(&r->outside_bytes, b->size, memory_order_relaxed);
		free(b->mem);
		free(b);
		return;
	}
	if (old == 1) {
		ram_lock(&r->lock);
		ram__free(r, b);
		ram_unlock(&r->lock);
	}
}

struct buf *ram_hold(struct ram *r, uint64_t hash, const void *key, unsigned key_len, bool *touched,
		     struct ram_line **held)
{
	struct ram_line *l = ram__line(r, hash);
	struct buf *b = ram__find(r, l, hash, key, key_len);
	uint8_t freq;

	*touched = false;
	if (b == NULL) {
		ram_unlock(&l->lock);
		return NULL;
	}
	freq = atomic_load_explicit(&b->freq, memory_order_relaxed);
	if (freq < RAM_FREQ_MAX) {
		atomic_store_explicit(&b->freq, (uint8_t)(freq + 1), memory_order_relaxed);
		*touched = true;
	}
	*held = l;
	return b;
}

void ram_let_go(struct ram_line *held)
{
	ram_unlock(&held->lock);
}

struct buf *ram_lookup(struct ram *r, uint64_t hash, const void *key, unsigned key_len,
		       bool *touched)
{
	struct ram_line *l;
	struct buf *b = ram_hold(r, hash, key, key_len, touched, &l);

	if (b != NULL) {
		buf_get(b);
		ram_let_go(l);
	}
	return b;
}

bool ram_has(struct ram *r, uint64_t hash, const void *key, unsigned key_len)
{
	struct ram_line *l = ram__line(r, hash);
	bool has = ram__find(r, l, hash, key, key_len) != NULL;

	ram_unlock(&l->lock);
	return has;
}

static uint32_t now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint32_t)ts.tv_sec;
}

/* Room for one more of this cost, and for a line of the table. */
static bool make_room(struct ram *r, uint64_t cost)
{
	while (ram__resident(r) + cost + sizeof(struct ram_line) > r->limit) {
		if (ram__overhead(r) + cost + sizeof(struct ram_line) > r->limit || !ram__evict(r))
			return false;
	}
	return true;
}

void ram_insert(struct ram *r, struct buf *b)
{
	const uint8_t *rec = b->mem + b->rec_off;
	unsigned key_len = rec[offsetof(struct format_record, key_len)];
	struct ram_line *l;
	struct buf *old;
	bool fits;

	MAGIC_OK(r, RAM_MAGIC);
	A(b->rec_off + sizeof(struct format_record) + key_len <= b->size);
	if (b->class_id == RAM_OUTSIDE) {
		ram_remove(r, b->hash, rec + sizeof(struct format_record), key_len);
		return;
	}
	ram_lock(&r->lock);
	A(b->queue == RAM_NONE);
	fits = make_room(r, r->cls[b->class_id].cost);
	if (fits) {
		bool ghost = ghost_take(r->ghost, b->hash);

		atomic_store_explicit(&b->freq, 0, memory_order_relaxed);
		b->born_s = now_s();
		buf_get(b);
		ram__push(r, b, ghost ? RAM_MAIN : RAM_SMALL);
		r->inserts++;
		r->ghost_hits += ghost;
		A(ram__resident(r) <= r->limit); /* [RI-6] */
	}
	l = ram__line(r, b->hash);
	old = ram__find(r, l, b->hash, rec + sizeof(struct format_record), key_len);
	if (old != NULL)
		A(ram__leave(r, l, old));
	if (fits)
		ram__enter(r, l, b);
	ram_unlock(&l->lock);
	if (old != NULL) {
		ram__unlink(r, old);
		ram__drop(r, old);
	}
	ram__grow(r);
	ram_unlock(&r->lock);
}

bool ram_remove(struct ram *r, uint64_t hash, const void *key, unsigned key_len)
{
	struct ram_line *l = ram__line(r, hash);
	struct buf *b = ram__find(r, l, hash, key, key_len);

	if (b != NULL)
		A(ram__leave(r, l, b));
	ram_unlock(&l->lock);
	if (b == NULL)
		return false;
	/* The tier's ref is ours now [RI-2]; eviction passes b over while it is in its queue. */
	ram_lock(&r->lock);
	ram__unlink(r, b);
	ram__drop(r, b);
	ram_unlock(&r->lock);
	return true;
}

void ram_relocate(struct ram *r, uint64_t hash, uint64_t from_loc, uint64_t to_loc)
{
	struct ram_line *l = ram__line(r, hash);

	for (unsigned i = 0; i < RAM_WAYS; i++) {
		struct buf *b = ram__buf(r, l->id[i]);

		if (l->id[i] != 0 && b->hash == hash && atomic_load(&b->loc) == from_loc)
			atomic_store(&b->loc, to_loc);
	}
	for (uint32_t id = l->over; id != 0; id = ram__buf(r, id)->chain) {
		struct buf *b = ram__buf(r, id);

		if (b->hash == hash && atomic_load(&b->loc) == from_loc)
			atomic_store(&b->loc, to_loc);
	}
	ram_unlock(&l->lock);
}

static void displace(struct buf *b, uint64_t from, uint64_t to)
{
	uint64_t loc = atomic_load(&b->loc);

	if (loc >= from && loc < to)
		atomic_store(&b->loc, 0);
}

void ram_displace(struct ram *r, uint64_t from_loc, uint64_t to_loc)
{
	unsigned n = 0;

	/* a line that is split meanwhile gives to one that comes later */
	ram_lock(&r->lock);
	for (uint32_t i = 0; i < (uint32_t)atomic_load(&r->shape); i++) {
		struct ram_line *l = &r->lines[i];

		ram_lock(&l->lock);
		for (unsigned k = 0; k < RAM_WAYS; k++)
			if (l->id[k] != 0)
				displace(ram__buf(r, l->id[k]), from_loc, to_loc);
		for (uint32_t id = l->over; id != 0; id = ram__buf(r, id)->chain)
			displace(ram__buf(r, id), from_loc, to_loc);
		ram_unlock(&l->lock);
		breathe(r, &n);
	}
	ram_unlock(&r->lock);
}

void ram_clear(struct ram *r)
{
	unsigned n = 0;

	MAGIC_OK(r, RAM_MAGIC);
	ram_lock(&r->lock);
	while (ram__evict(r))
		breathe(r, &n);
	ghost_clear(r->ghost);
	ram_unlock(&r->lock);
}

void ram_stats(struct ram *r, struct ram_stats *out)
{
	MAGIC_OK(r, RAM_MAGIC);
	ram_lock(&r->lock);
	out->arena_bytes =
	    (uint64_t)atomic_load_explicit(&r->nchunks, memory_order_relaxed) * RAM_CHUNK;
	out->resident_bytes = ram__resident(r);
	out->resident_items = r->fifo[RAM_SMALL].items + r->fifo[RAM_MAIN].items;
	out->pinned_bytes = r->used_bytes - r->resident_size;
	out->outside_bytes = atomic_load_explicit(&r->outside_bytes, memory_order_relaxed);
	out->limit_bytes = r->limit;
	out->free_chunks = r->free_chunks;
	out->inserts = r->inserts;
	out->ghost_hits = r->ghost_hits;
	out->evicted_small = r->evicted_small;
	out->evicted_main = r->evicted_main;
	out->chunk_moves = r->chunk_moves;
	out->alloc_failures = r->alloc_failures;
	ram_unlock(&r->lock);
}

unsigned ram_class_stats(struct ram *r, struct ram_class_stats *out, unsigned max)
{
	uint32_t now = now_s();
	unsigned n = r->nclasses < max ? r->nclasses : max;

	ram_lock(&r->lock);
	for (unsigned c = 0; c < n; c++) {
		out[c] = (struct ram_class_stats){
		    .size = r->cls[c].size,
		    .chunks = r->cls[c].chunks,
		    .objects = r->cls[c].chunks * r->cls[c].per_chunk,
		    .resident = r->cls[c].resident,
		    .pinned = r->cls[c].used - r->cls[c].resident,
		    .evicted = r->cls[c].evicted,
		};
	}
	/* Ages need a walk over the residents: chunk by chunk, so that nobody waits long. */
	for (uint32_t k = 1; k <= r->chunks_top; k++) {
		const struct ram_chunk *ch = &r->chunks[k];

		if (!ch->assigned || ch->class_id >= n || ch->used == ch->inflight)
			continue;
		for (uint32_t i = 0; i < ch->bump; i++) {
			const struct buf *b = ram__buf(r, k * RAM_SLOTS + i);

			if (b->queue != RAM_NONE && now - b->born_s > out[ch->class_id].age_s &&
			    now > b->born_s)
				out[ch->class_id].age_s = now - b->born_s;
		}
		ram_unlock(&r->lock);
		ram_lock(&r->lock);
	}
	ram_unlock(&r->lock);
	return r->nclasses;
}
