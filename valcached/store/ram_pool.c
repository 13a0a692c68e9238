/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena's chunks, the classes that they belong to, and the objects in them.
 *
 *     free chunk --take--> chunk of a class: some objects free (in the class's partial list)
 *          ^                        or none (in no list)
 *          '------ last object freed ------'
 *
 * Classes: multiples of 512 up to 4 KiB, then steps of 1/8 of a power of two. Where fewer than 17
 * fit a chunk, sizes that fit it equally often are one class, stretched to fill the chunk: they
 * would take the same memory anyhow. Hence an object costs its part of the chunk, not its size.
 *
 * Objects are taken from the chunk that was full last, so that sparse chunks run empty and are
 * free for another class. Where that is not enough, the sparsest chunk's residents move to others.
 *
 * Everything here is under r->lock.
 */
#include <errno.h>
#include <sys/mman.h>

#include "valcached/store/ram_int.h"

#define SPARSE_TRIES 16u

unsigned ram__step(uint32_t size)
{
	unsigned e;

	if (size <= 4096)
		return size == 0 ? 0 : (size + 511) / 512 - 1;
	e = 31u - (unsigned)__builtin_clz(size - 1);
	return 8 + (e - 12) * 8 + (((size - 1) - (1u << e)) >> (e - 3));
}

static uint32_t step_size(unsigned step)
{
	uint32_t size;
	unsigned e;

	if (step < 8)
		return (step + 1) * 512;
	e = 12 + (step - 8) / 8;
	size = (1u << e) + ((step - 8) % 8 + 1) * (1u << (e - 3));
	if (RAM_CHUNK / size <= 16)
		size = RAM_CHUNK / (RAM_CHUNK / size) & ~4095u;
	return size;
}

uint32_t ram_class_size(uint32_t size)
{
	A(size <= RAM_OBJECT_MAX);
	return step_size(ram__step(size));
}

unsigned ram__classes(struct ram_class *cls, uint8_t *class_of)
{
	unsigned n = 0, last = ram__step(RAM_OBJECT_MAX);

	for (unsigned s = 0; s <= last; s++) {
		uint32_t size = step_size(s);

		if (n == 0 || cls[n - 1].size != size) {
			A(n < RAM_CLASSES);
			cls[n].size = size;
			cls[n].per_chunk = RAM_CHUNK / size;
			cls[n].cost = RAM_CHUNK / cls[n].per_chunk + (uint32_t)sizeof(struct buf);
			n++;
		}
		class_of[s] = (uint8_t)(n - 1);
	}
	return n;
}

static void partial_remove(struct ram *r, uint32_t chunk)
{
	struct ram_chunk *ch = &r->chunks[chunk];
	struct ram_class *cl = &r->cls[ch->class_id];

	if (!ch->partial)
		return;
	if (ch->prev != 0)
		r->chunks[ch->prev].next = ch->next;
	else
		cl->head = ch->next;
	if (ch->next != 0)
		r->chunks[ch->next].prev = ch->prev;
	else
		cl->tail = ch->prev;
	ch->partial = 0;
}

static void partial_add(struct ram *r, uint32_t chunk, bool at_head)
{
	struct ram_chunk *ch = &r->chunks[chunk];
	struct ram_class *cl = &r->cls[ch->class_id];

	AZ(ch->partial);
	ch->prev = at_head ? 0 : cl->tail;
	ch->next = at_head ? cl->head : 0;
	if (ch->prev != 0)
		r->chunks[ch->prev].next = chunk;
	else
		cl->head = chunk;
	if (ch->next != 0)
		r->chunks[ch->next].prev = chunk;
	else
		cl->tail = chunk;
	ch->partial = 1;
}

static void pages_back(struct ram *r, uint32_t chunk)
{
	if (chunk > r->chunks_pinned)
		madvise(r->arena + (size_t)(chunk - 1) * RAM_CHUNK, RAM_CHUNK, MADV_DONTNEED);
}

static void chunk_release(struct ram *r, uint32_t chunk)
{
	struct ram_chunk *ch = &r->chunks[chunk];

	AZ(ch->used);
	AZ(ch->inflight);
	partial_remove(r, chunk);
	if (ch->assigned)
		r->cls[ch->class_id].chunks--;
	ch->assigned = 0;
	if (chunk > atomic_load_explicit(&r->nchunks, memory_order_relaxed)) {
		pages_back(r, chunk);
		return;
	}
	ch->closed = 0;
	ch->next = r->free_head;
	r->free_head = chunk;
	r->free_chunks++;
}

void ram__chunk_open(struct ram *r, uint32_t chunk)
{
	struct ram_chunk *ch = &r->chunks[chunk];

	ch->closed = 0;
	if (!ch->assigned)
		chunk_release(r, chunk);
	else if (ch->used < r->cls[ch->class_id].per_chunk)
		partial_add(r, chunk, false);
}

void ram__chunks_close(struct ram *r)
{
	uint32_t n = atomic_load_explicit(&r->nchunks, memory_order_relaxed);
	uint32_t *at = &r->free_head;

	while (*at != 0) {
		if (*at > n) {
			pages_back(r, *at);
			*at = r->chunks[*at].next;
			r->free_chunks--;
		} else {
			at = &r->chunks[*at].next;
		}
	}
	for (uint32_t i = n + 1; i <= r->chunks_top; i++) {
		if (r->chunks[i].assigned)
			partial_remove(r, i);
		r->chunks[i].closed = 1;
	}
}

static bool chunk_assign(struct ram *r, unsigned c)
{
	uint32_t chunk = r->free_head;
	struct ram_chunk *ch = &r->chunks[chunk];

	if (chunk == 0)
		return false;
	r->free_head = ch->next;
	r->free_chunks--;
	if (ch->bump != 0 && ch->class_id != c)
		r->chunk_moves++;
	ch->class_id = (uint16_t)c;
	ch->bump = 0;
	ch->free = 0;
	ch->assigned = 1;
	r->cls[c].chunks++;
	r->cls[c].debt = 0;
	r->cls[c].debt_asked = 0;
	partial_add(r, chunk, true);
	return true;
}

struct buf *ram__take(struct ram *r, unsigned c)
{
	struct ram_class *cl = &r->cls[c];
	struct ram_chunk *ch;
	struct buf *b;

	if (cl->head == 0 && !chunk_assign(r, c))
		return NULL;
	ch = &r->chunks[cl->head];
	if (ch->free != 0) {
		b = ram__buf(r, ch->free);
		ch->free = b->next;
	} else {
		b = ram__buf(r, cl->head * RAM_SLOTS + ch->bump);
		b->mem =
		    r->arena + (size_t)(cl->head - 1) * RAM_CHUNK + (size_t)ch->bump * cl->size;
		b->size = cl->size;
		b->class_id = (uint16_t)c;
		b->chunk = cl->head;
		b->queue = RAM_NONE;
		ch->bump++;
	}
	DIAG(atomic_load(&b->refs) == 0);
	DIAG(b->queue == RAM_NONE);
	atomic_store_explicit(&b->refs, 1, memory_order_relaxed);
	b->rec_off = 0;
	ch->used++;
	ch->inflight++;
	cl->used++;
	r->used_bytes += cl->size;
	if (ch->used == cl->per_chunk)
		partial_remove(r, b->chunk);
	return b;
}

struct buf *ram__take_larger(struct ram *r, unsigned c, unsigned reach)
{
	for (unsigned d = c + 1; d <= c + reach && d < r->nclasses; d++) {
		if (r->cls[d].head != 0)
			return ram__take(r, d);
	}
	return NULL;
}

void ram__free(struct ram *r, struct buf *b)
{
	struct ram_chunk *ch = &r->chunks[b->chunk];

	A(b->queue == RAM_NONE);
	A(ch->used > 0 && ch->inflight > 0);
	b->next = ch->free;
	ch->free = ram__id(r, b);
	ch->used--;
	ch->inflight--;
	r->cls[b->class_id].used--;
	r->used_bytes -= b->size;
	if (ch->used == 0)
		chunk_release(r, b->chunk);
	else if (!ch->partial && !ch->closed)
		partial_add(r, b->chunk, true);
}

void ram__chunk_drain(struct ram *r, uint32_t chunk, bool evict)
{
	struct ram_chunk *ch = &r->chunks[chunk];
	bool closed = ch->closed;

	partial_remove(r, chunk);
	ch->closed = 1;
	for (uint32_t i = 0; ch->assigned && i < ch->bump; i++) {
		struct buf *to, *b = ram__buf(r, chunk * RAM_SLOTS + i);

		if (b->queue == RAM_NONE)
			continue;
		to = ram__take(r, ch->class_id);
		if (to == NULL && evict)
			to = ram__take_larger(r, ch->class_id, RAM_REACH);
		if (to != NULL) {
			if (ram__move(r, b, to))
				continue;
			ram__drop(r, to);
		}
		if (evict)
			ram__evict_buf(r, b);
	}
	if (ch->assigned && !closed) {
		ch->closed = 0;
		if (ch->used < r->cls[ch->class_id].per_chunk)
			partial_add(r, chunk, false);
	}
}

static bool chunk_pinned(const struct ram *r, uint32_t chunk)
{
	const struct ram_chunk *ch = &r->chunks[chunk];

	if (ch->inflight != 0)
		return true;
	for (uint32_t i = 0; i < ch->bump; i++) {
		const struct buf *b = ram__buf(r, chunk * RAM_SLOTS + i);

		if (b->queue != RAM_NONE &&
		    atomic_load_explicit(&b->refs, memory_order_relaxed) > 1)
			return true;
	}
	return false;
}

/* The sparsest of the last few partial chunks of a class, or 0. */
static uint32_t sparsest(const struct ram *r, unsigned c)
{
	uint32_t best = 0, chunk = r->cls[c].tail;

	for (unsigned n = 0; n < SPARSE_TRIES && chunk != 0; n++, chunk = r->chunks[chunk].prev) {
		if ((best == 0 || r->chunks[chunk].used < r->chunks[best].used) &&
		    !chunk_pinned(r, chunk))
			best = chunk;
	}
	return best;
}

/* The cheapest chunk to empty of those without a pin, and what is used of it; 0: there is none. */
static uint32_t cheapest(const struct ram *r, bool movable, uint64_t *cost_min)
{
	uint32_t best = 0;

	*cost_min = UINT64_MAX;
	for (unsigned c = 0; c < r->nclasses; c++) {
		const struct ram_class *cl = &r->cls[c];
		uint32_t chunk;
		uint64_t cost;

		if (cl->head == 0 ||
		    (movable && cl->chunks * cl->per_chunk < cl->used + cl->per_chunk))
			continue;
		chunk = sparsest(r, c);
		if (chunk == 0)
			continue;
		cost = (uint64_t)r->chunks[chunk].used * cl->size;
		if (cost < *cost_min) {
			*cost_min = cost;
			best = chunk;
		}
	}
	return best;
}

bool ram__chunk_join(struct ram *r)
{
	uint64_t cost;
	uint32_t chunk = cheapest(r, true, &cost);

	if (chunk != 0)
		ram__chunk_drain(r, chunk, false);
	return r->free_head != 0;
}

bool ram__chunk_empty(struct ram *r, uint64_t cost_max)
{
	uint64_t cost;
	uint32_t chunk = cheapest(r, false, &cost);

	if (chunk != 0 && cost <= cost_max)
		ram__chunk_drain(r, chunk, true);
	if (r->free_head != 0 || cost_max < UINT64_MAX)
		return r->free_head != 0;
	for (uint32_t i = 1; i <= r->chunks_top && r->free_head == 0; i++) {
		if (r->chunks[i].assigned && !r->chunks[i].closed && !chunk_pinned(r, i))
			ram__chunk_drain(r, i, true);
	}
	return r->free_head != 0;
}

bool ram__evict_class(struct ram *r, unsigned c)
{
	for (uint32_t k = 1; k <= r->chunks_top; k++) {
		struct ram_chunk *ch = &r->chunks[k];

		if (!ch->assigned || ch->closed || ch->class_id < c || ch->used == ch->inflight)
			continue;
		for (uint32_t i = 0; i < ch->bump; i++) {
			struct buf *b = ram__buf(r, k * RAM_SLOTS + i);

			if (b->queue != RAM_NONE &&
			    atomic_load_explicit(&b->refs, memory_order_relaxed) == 1 &&
			    ram__evict_buf(r, b))
				return true;
		}
	}
	return false;
}
