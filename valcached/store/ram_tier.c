/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is resident, and what goes: S3-FIFO, with bytes for lengths.
 *
 *     new ------> small (10 %) --touched--> main (90 %) <--.
 *                   |                        |   '--touched: one touch less, again to the head
 *     in ghost -----+----------------------->|
 *                   v                        v
 *                  out, into ghost          out
 *
 * One order over all classes, so what goes is the oldest wherever it lies, and a class that is no
 * longer asked for runs empty by itself: its chunks become free for others (ram_pool.c).
 *
 * A tail that somebody holds is passed over a few times: to evict it would free no memory yet.
 *
 * Everything here is under r->lock.
 */
#include <string.h>

#include "valcached/store/ram_int.h"

#define SMALL_SHARE 10u  /* 1/n of the limit */
#define PASSES      128u /* tails looked at before one must go whatever its touches */

uint64_t ram__overhead(const struct ram *r)
{
	return (uint64_t)(uint32_t)atomic_load_explicit(&r->shape, memory_order_relaxed) *
		   sizeof(struct ram_line) +
	       ghost_bytes(r->ghost);
}

uint64_t ram__resident(const struct ram *r)
{
	return r->fifo[RAM_SMALL].bytes + r->fifo[RAM_MAIN].bytes + ram__overhead(r);
}

static void link_head(struct ram *r, struct buf *b, unsigned q)
{
	struct ram_fifo *f = &r->fifo[q];
	uint32_t id = ram__id(r, b);

	b->queue = (uint8_t)q;
	b->prev = 0;
	b->next = f->head;
	if (f->head != 0)
		ram__buf(r, f->head)->prev = id;
	else
		f->tail = id;
	f->head = id;
	f->bytes += r->cls[b->class_id].cost;
	f->items++;
}

static void link_remove(struct ram *r, struct buf *b)
{
	struct ram_fifo *f = &r->fifo[b->queue];

	if (b->prev != 0)
		ram__buf(r, b->prev)->next = b->next;
	else
		f->head = b->next;
	if (b->next != 0)
		ram__buf(r, b->next)->prev = b->prev;
	else
		f->tail = b->prev;
	f->bytes -= r->cls[b->class_id].cost;
	f->items--;
	b->queue = RAM_NONE;
}

void ram__push(struct ram *r, struct buf *b, unsigned q)
{
	A(b->queue == RAM_NONE);
	link_head(r, b, q);
	r->chunks[b->chunk].inflight--;
	r->cls[b->class_id].resident++;
	r->resident_size += b->size;
}

void ram__unlink(struct ram *r, struct buf *b)
{
	A(b->queue != RAM_NONE);
	link_remove(r, b);
	r->chunks[b->chunk].inflight++;
	r->cls[b->class_id].resident--;
	r->resident_size -= b->size;
}

void ram__drop(struct ram *r, struct buf *b)
{
	uint32_t old = atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel);

	A(old > 0);
	if (old == 1)
		ram__free(r, b);
}

bool ram__evict_buf(struct ram *r, struct buf *b)
{
	struct ram_line *l = ram__line(r, b->hash);
	bool mine = ram__leave(r, l, b);

	ram_unlock(&l->lock);
	if (!mine) /* somebody took the entry out just now and waits for r->lock [RI-2] */
		return false;
	if (b->queue == RAM_SMALL) {
		r->evicted_small++;
		ghost_window(r->ghost, r->fifo[RAM_MAIN].items + r->fifo[RAM_SMALL].items);
		ghost_add(r->ghost, b->hash);
	} else {
		r->evicted_main++;
	}
	r->cls[b->class_id].evicted++;
	ram__unlink(r, b);
	ram__drop(r, b);
	__builtin_prefetch(ram__buf(r, r->fifo[RAM_SMALL].tail)); /* likely the next to go */
	return true;
}

bool ram__evict(struct ram *r)
{
	for (unsigned n = 0;; n++) {
		unsigned q =
		    r->fifo[RAM_SMALL].bytes > r->limit / SMALL_SHARE || r->fifo[RAM_MAIN].tail == 0
			? RAM_SMALL
			: RAM_MAIN;
		uint32_t id = r->fifo[q].tail;
		struct buf *b = ram__buf(r, id);
		uint8_t freq;

		if (id == 0)
			return false;
		freq = atomic_load_explicit(&b->freq, memory_order_relaxed);
		if (n < PASSES && freq > 0) {
			link_remove(r, b);
			atomic_store_explicit(&b->freq, q == RAM_SMALL ? 0 : (uint8_t)(freq - 1),
					      memory_order_relaxed);
			link_head(r, b, RAM_MAIN);
			continue;
		}
		if (n < PASSES / 2 && atomic_load_explicit(&b->refs, memory_order_relaxed) > 1) {
			link_remove(r, b);
			link_head(r, b, q);
			continue;
		}
		if (ram__evict_buf(r, b))
			return true;
		/* On its way out already: its remover unlinks it; not in our way meanwhile. */
		link_remove(r, b);
		link_head(r, b, q);
		if (n > 4 * PASSES)
			return false;
	}
}

bool ram__move(struct ram *r, struct buf *from, struct buf *to)
{
	uint64_t more = r->cls[to->class_id].cost - r->cls[from->class_id].cost;
	struct ram_fifo *f = &r->fifo[from->queue];
	uint32_t id = ram__id(r, to);
	struct ram_line *l;

	A(to->class_id >= from->class_id);
	if (ram__resident(r) + more > r->limit)
		return false;
	l = ram__line(r, from->hash);
	if (atomic_load_explicit(&from->refs, memory_order_acquire) != 1 ||
	    !ram__leave(r, l, from)) {
		ram_unlock(&l->lock);
		return false;
	}
	memcpy(to->mem, from->mem, from->size); /* nobody else can get at it: [RI-3] */
	to->rec_off = from->rec_off;
	to->hash = from->hash;
	to->loc = from->loc;
	to->freq = from->freq;
	to->born_s = from->born_s;
	ram__enter(r, l, to);
	ram_unlock(&l->lock);

	/* Into from's place in its queue. */
	to->queue = from->queue;
	to->prev = from->prev;
	to->next = from->next;
	if (to->prev != 0)
		ram__buf(r, to->prev)->next = id;
	else
		f->head = id;
	if (to->next != 0)
		ram__buf(r, to->next)->prev = id;
	else
		f->tail = id;
	from->queue = RAM_NONE;
	f->bytes += more;
	r->resident_size += to->size - from->size;
	r->cls[to->class_id].resident++;
	r->cls[from->class_id].resident--;
	r->chunks[to->chunk].inflight--;
	r->chunks[from->chunk].inflight++;
	ram__drop(r, from);
	return true;
}
