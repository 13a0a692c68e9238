/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the RAM tier (ram.c, ram_pool.c, ram_table.c, ram_tier.c).
 *
 *   ram_pool.c   chunks, classes, free objects
 *   ram_table.c  from a key to its resident buf
 *   ram_tier.c   the queues and the choice of what goes
 *   ram.c        opening, resizing, counting; the calls that join the three
 *
 * Rules:
 *  [RI-1] Two kinds of locks: r->lock over pool, queues and counters, and one in each line of
 *         the table. Order: r->lock, then a line. At most one line at a time.
 *  [RI-2] The tier's hold on a resident buf is one of its refs. Who takes the buf's entry out of
 *         its line owns that ref, and drops it under r->lock after the buf has left its queue.
 *  [RI-3] A buf's refs can rise from the tier's one only under its line's lock. So refs == 1,
 *         seen there, stays true there.
 *  [RI-4] A hit takes its line's lock and nothing else; a buf_put() that is not the last: none.
 *  [RI-5] The queue of a buf, its links and all struct ram_chunk are under r->lock; chain is
 *         under the line's lock.
 *  [RI-6] resident cost + overhead <= limit, asserted at each insert; only a ram_resize() to less
 *         that is under way is an exception.
 */
#ifndef VALCACHED_STORE_RAM_INT_H
#define VALCACHED_STORE_RAM_INT_H

#include <pthread.h>
#include <sched.h>

#include "base/assert.h"
#include "valcached/store/format.h"
#include "base/ghost.h"
#include "valcached/store/ram.h"

#define RAM_MAGIC     0x52414d54u
#define RAM_SLOTS     (RAM_CHUNK / 512u) /* most objects of a chunk, and ids a chunk has */
#define RAM_CLASSES   80u                /* at most */
#define RAM_OUTSIDE   0xffffu            /* class_id of what is not in the arena */
#define RAM_WAYS      8u                 /* entries of a line */
#define RAM_FREQ_MAX  3u
#define RAM_REACH     4u /* classes that may stand in for the next smaller: +50 % */
#define RAM_LINE_LOAD 4u /* residents a line, on average, before the table grows */

_Static_assert(sizeof(struct buf) == 64, "one cache line of metadata an object");

struct ram_lock {
	_Atomic uint32_t v;
};

static inline void ram_lock(struct ram_lock *l)
{
	unsigned n = 0;

	while (unlikely(atomic_exchange_explicit(&l->v, 1, memory_order_acquire) != 0)) {
		while (atomic_load_explicit(&l->v, memory_order_relaxed) != 0) {
			/* The holder may be descheduled: there can be more threads than CPUs. */
			if (++n % 128 == 0)
				sched_yield();
#if defined(__x86_64__)
			__builtin_ia32_pause();
#endif
		}
	}
}

static inline void ram_unlock(struct ram_lock *l)
{
	atomic_store_explicit(&l->v, 0, memory_order_release);
}

/* Ids: chunk * RAM_SLOTS + slot; chunks count from 1, so that 0 is nobody. */
struct ram_line {
	struct ram_lock lock;
	uint32_t over; /* those that found no entry free, linked by chain */
	union {
		uint16_t tag[RAM_WAYS];
		uint64_t tags[RAM_WAYS / 4];
	};
	uint32_t id[RAM_WAYS]; /* 0: entry is free */
	uint64_t reserved;
};
_Static_assert(sizeof(struct ram_line) == 64, "a line is a cache line");

enum ram_queue { RAM_NONE, RAM_SMALL, RAM_MAIN, RAM_QUEUES };

struct ram_fifo {
	uint32_t head, tail; /* enter at the head, leave at the tail */
	uint64_t bytes;      /* cost */
	uint64_t items;
};

struct ram_chunk {
	uint16_t class_id;
	uint16_t used;       /* objects not free */
	uint16_t inflight;   /* of these, not resident */
	uint16_t bump;       /* objects from here on were never used in this class */
	uint32_t free;       /* list of the others that are free, by next */
	uint32_t prev, next; /* in its class's partial list, or next in the list of free chunks */
	uint8_t assigned;    /* has a class */
	uint8_t partial;     /* is in the partial list: has a class, and something is free */
	uint8_t closed;      /* being emptied: stays out of the partial list */
	uint8_t reserved;
};

struct ram_class {
	uint32_t size;
	uint32_t per_chunk;
	uint32_t cost;       /* what an object counts: its part of the chunk and its metadata */
	uint32_t head, tail; /* partial chunks; those that were full last are at the head */
	uint64_t chunks, used, resident, evicted;
	/*
	 * Bytes evicted, and bytes too large that were given, for want of an own chunk since it got
	 * one: when they reach what the cheapest chunk to empty holds, that is emptied.
	 */
	uint64_t debt, debt_asked;
};

struct ram {
	uint32_t magic;
	unsigned nclasses;
	uint8_t class_of[128]; /* by step, see ram__step() */
	/* read by every hit; written when the table grows */
	struct buf *bufs; /* by id */
	struct ram_line *lines;
	_Atomic uint64_t outside_bytes;
	_Alignas(64) _Atomic uint64_t shape; /* of the table: lines in use, and mask << 32 */
	uint64_t buffer_bytes, bytes_max;
	uint8_t *arena;
	void *arena_map;
	size_t arena_map_len, bufs_map_len, lines_map_len;
	uint32_t chunks_max, lines_max;
	struct ghost *ghost;
	pthread_mutex_t resize_lock; /* one ram_resize() at a time; taken before lock */

	/* under lock */
	_Alignas(64) struct ram_lock lock;
	/* Chunks 1 .. nchunks are in use; those above are on their way out, or gone. */
	_Atomic uint32_t nchunks;
	uint32_t chunks_top;    /* 1 .. chunks_top have accessible memory behind them */
	uint32_t chunks_pinned; /* 1 .. chunks_pinned keep their pages for ever */
	uint32_t free_head;
	uint64_t free_chunks;
	struct ram_chunk *chunks;
	size_t chunks_map_len;
	struct ram_fifo fifo[RAM_QUEUES];
	uint64_t limit;
	uint64_t used_bytes, resident_size; /* class sizes: all objects not free; residents */
	uint64_t inserts, ghost_hits, evicted_small, evicted_main, chunk_moves, alloc_failures;
	struct ram_class cls[RAM_CLASSES];
};

static inline struct buf *ram__buf(const struct ram *r, uint32_t id)
{
	return &r->bufs[id];
}
static inline uint32_t ram__id(const struct ram *r, const struct buf *b)
{
	return (uint32_t)(b - r->bufs);
}

/* ram_pool.c, all under r->lock */
unsigned ram__classes(struct ram_class *cls, uint8_t *class_of);
unsigned ram__step(uint32_t size);
/* A free object, from the class's chunks or from a free chunk; refs 1. NULL: none. */
struct buf *ram__take(struct ram *r, unsigned c);
/* A free object of the next larger classes, up to reach of them. */
struct buf *ram__take_larger(struct ram *r, unsigned c, unsigned reach);
void ram__free(struct ram *r, struct buf *b);
/* A chunk without a class comes into use, or back into use with what it holds. */
void ram__chunk_open(struct ram *r, uint32_t chunk);
/* Chunks above nchunks: no more objects from them; memory goes back when the last is free. */
void ram__chunks_close(struct ram *r);
/* Empties a chunk whose residents find room in others of its class. False if there is none. */
bool ram__chunk_join(struct ram *r);
/*
 * Empties a chunk at the price of evictions where larger classes have no room either; not one
 * where more than cost_max bytes are used. UINT64_MAX: any chunk without a pin, looked for
 * everywhere.
 */
bool ram__chunk_empty(struct ram *r, uint64_t cost_max);
/* Evicts some unpinned resident of class c or a larger one. */
bool ram__evict_class(struct ram *r, unsigned c);
/* Moves or evicts what can be moved or evicted out of a chunk. */
void ram__chunk_drain(struct ram *r, uint32_t chunk, bool evict);

/* ram_table.c */
/* A line of this hash, locked. */
struct ram_line *ram__line(const struct ram *r, uint64_t hash);
struct buf *ram__find(const struct ram *r, const struct ram_line *l, uint64_t hash, const void *key,
		      unsigned key_len);
void ram__enter(struct ram *r, struct ram_line *l, struct buf *b);
/* False if it is not in there. */
bool ram__leave(struct ram *r, struct ram_line *l, struct buf *b);
/* Grows the table by one line if it is loaded. Under r->lock. */
void ram__grow(struct ram *r);

/* ram_tier.c, all under r->lock */
uint64_t ram__overhead(const struct ram *r);
uint64_t ram__resident(const struct ram *r);
void ram__push(struct ram *r, struct buf *b, unsigned q);
/* Out of its queue: no longer resident. The ref remains. */
void ram__unlink(struct ram *r, struct buf *b);
/* Drops one ref; frees. */
void ram__drop(struct ram *r, struct buf *b);
/* Evicts one buf in S3-FIFO order. False if there is none. */
bool ram__evict(struct ram *r);
/* Evicts this one, if nobody else is removing it. */
bool ram__evict_buf(struct ram *r, struct buf *b);
/* If nobody holds the resident `from` and the budget allows, `to` takes its place; from is free. */
bool ram__move(struct ram *r, struct buf *from, struct buf *to);

#endif
