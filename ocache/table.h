/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. A hash table of entries that is read without locks and changed under the lock
 * of its shard.
 *
 *     bucket  one cache line, 8 slots          slot   63....48 47.........................0
 *                                                     | tag  | address of the entry, 0: free |
 *
 * A hash has two buckets: the one that its low bits say, and that one's partner under the tag. An
 * entry stands in either. When both are full, an entry of theirs that has room in its other bucket
 * is moved there (written there, then overwritten here); when none has, the table is doubled.
 *
 *     root    table's address | log2 of the buckets      one word, so that both are of one table
 *
 * Rules
 *  [TB-1] A slot's word is written whole, after the entry it leads to.
 *  [TB-2] Readers pin what a slot leads to and look at the slot again (lane.h) before they look at
 *         the entry. An entry whose word has left the table and that no pin names after a
 *         lane_fence() is seen by nobody.
 *  [TB-3] A table that was outgrown is emptied after the new root is there, and stays mapped,
 *         without memory, until the end: who still reads it finds nothing, or finds his slot
 *         changed.
 *  [TB-4] What is moved is counted after it stands in its new place and before it leaves the old
 *         one. Who finds nothing, and that count unchanged, can say that it was not there.
 */
#ifndef OCACHE_TABLE_H
#define OCACHE_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif
#ifdef __has_feature
#define TABLE_TSAN __has_feature(thread_sanitizer)
#else
#define TABLE_TSAN 0
#endif

#include "base/assert.h"
#include "ocache/lane.h"
#include "ocache/ocache.h"

enum entry_state { ENTRY_FREE, ENTRY_IN, ENTRY_LEAVING, ENTRY_DEAD };

/*
 * One object; one cache line. Fields change under the shard's lock, and not while it is in the
 * table.
 */
struct entry {
	struct seg_id id;
	void *object;
	size_t size;
	const struct ocache_decoder *decoder;
	struct entry *newer, *older; /* in its queue; older alone in other lists */
	_Atomic uint8_t uses;        /* hits write it; the policy's */
	uint8_t queue;               /* the policy's */
	bool back;                   /* the policy's */
	uint8_t state;
};
#define ENTRY_BYTES 64u
_Static_assert(sizeof(struct entry) <= ENTRY_BYTES, "an entry is a line");

#define TABLE_WAYS    8u
#define TABLE_ADDRESS ((1ull << 48) - 1)

struct bucket {
	_Alignas(64) _Atomic uint64_t slot[TABLE_WAYS];
};

struct table_old {
	void *base;
	size_t bytes;
	struct table_old *next;
};

struct table {
	_Alignas(
	    64) _Atomic uint64_t root; /* what hits read stands in a line that is hardly written */
	_Atomic uint64_t moves;        /* [TB-4] */
	struct table_old *old;
	_Alignas(64) uint64_t count; /* entries */
};

static inline uint64_t table_hash(const uint64_t seed[2], struct seg_id id)
{
	unsigned __int128 m = (unsigned __int128)(id.hi ^ seed[0]) * (id.lo ^ seed[1]);

	return (uint64_t)(m >> 64) ^ (uint64_t)m;
}

static inline uint64_t table_tag(uint64_t hash)
{
	return hash << 16 & ~TABLE_ADDRESS;
}

static inline uint64_t table_mask(uint64_t root)
{
	return (1ull << (root & 63)) - 1;
}

static inline struct bucket *table_bucket(uint64_t root, uint64_t index)
{
	return (struct bucket *)(uintptr_t)(root & ~63ull) + index;
}

/* The other bucket of what has this tag and stands in bucket index. */
static inline uint64_t table_partner(uint64_t root, uint64_t index, uint64_t tag)
{
	return (index ^ ((tag >> 48) * 0x9e3779b1u | 1)) & table_mask(root);
}

/*
 * A bit for each slot whose tag is this one. Free slots have tag 0. It is a hint: who follows one
 * reads the word again, as an atomic. (With SSE2, which every x86-64 has, a third of the scalar
 * loop's instructions; TSan would take its loads for races.)
 */
static inline unsigned table_match(const struct bucket *b, uint64_t tag)
{
#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__) && !TABLE_TSAN
	const __m128 *w = (const __m128 *)(const void *)b->slot;
	__m128i want = _mm_set1_epi32((int)(tag >> 48));
	/* the upper halves of four words, their tags */
	__m128i low = _mm_castps_si128(_mm_shuffle_ps(w[0], w[1], _MM_SHUFFLE(3, 1, 3, 1)));
	__m128i high = _mm_castps_si128(_mm_shuffle_ps(w[2], w[3], _MM_SHUFFLE(3, 1, 3, 1)));

	low = _mm_cmpeq_epi32(_mm_srli_epi32(low, 16), want);
	high = _mm_cmpeq_epi32(_mm_srli_epi32(high, 16), want);
	low = _mm_packs_epi32(low, high);
	return (unsigned)_mm_movemask_epi8(_mm_packs_epi16(low, low)) & 0xff;
#else
	unsigned match = 0;

#pragma GCC unroll 8
	for (unsigned i = 0; i < TABLE_WAYS; i++) {
		uint64_t w = atomic_load_explicit(&b->slot[i], memory_order_relaxed);

		match |= (unsigned)((w ^ tag) < 1ull << 48) << i;
	}
	return match;
#endif
}

/*
 * The entry that slot leads to, pinned by *pin, if it is the id's; else NULL, and *pin is NULL. The
 * id comes in halves: as a struct it would be put together in memory and read by a vector load that
 * waits.
 */
static inline struct entry *table_try(const _Atomic uint64_t *slot, uint64_t hi, uint64_t lo,
				      _Atomic(void *) *pin)
{
	uint64_t w = atomic_load_explicit(slot, memory_order_relaxed);
	struct entry *e = (struct entry *)(uintptr_t)(w & TABLE_ADDRESS);

	if (unlikely(e == NULL))
		return NULL;
	atomic_store_explicit(pin, e, memory_order_release);
	lane_reader_fence();
	if (likely(atomic_load_explicit(slot, memory_order_acquire) == w) &&
	    likely(e->id.hi == hi && e->id.lo == lo))
		return e;
	lane_unpin(pin);
	return NULL;
}

/*
 * Two ways to find the entry of an id without the lock, pinned by *pin; NULL, and *pin is NULL: it
 * is not found. The first calls nothing and looks at the first slot with the tag; *absent: it is not
 * there. The second looks at all: it is not there if it is not found.
 */
static inline struct entry *table_get_first(const struct table *t, uint64_t hash, uint64_t hi,
					    uint64_t lo, _Atomic(void *) *pin, bool *absent)
{
	uint64_t moves = atomic_load_explicit(&t->moves, memory_order_acquire);
	uint64_t root = atomic_load_explicit(&t->root, memory_order_acquire);
	uint64_t tag = table_tag(hash), index = hash & table_mask(root);
	const struct bucket *b = table_bucket(root, index);
	unsigned match = table_match(b, tag);

	*absent = false;
	if (unlikely(match == 0)) {
		b = table_bucket(root, table_partner(root, index, tag));
		match = table_match(b, tag);
		if (match == 0) {
			atomic_thread_fence(memory_order_acquire);
			*absent = atomic_load_explicit(&t->moves, memory_order_relaxed) == moves;
			return NULL;
		}
	}
	return table_try(&b->slot[__builtin_ctz(match)], hi, lo, pin);
}
struct entry *table_get(const struct table *t, uint64_t hash, uint64_t hi, uint64_t lo,
			_Atomic(void *) *pin);

/* Begins to fetch the buckets of a hash. */
static inline void table_prefetch(const struct table *t, uint64_t hash)
{
	uint64_t root = atomic_load_explicit(&t->root, memory_order_relaxed);
	uint64_t index = hash & table_mask(root);

	__builtin_prefetch(table_bucket(root, index));
	__builtin_prefetch(table_bucket(root, table_partner(root, index, table_tag(hash))));
}

/* 0 or -ENOMEM. */
int table_open(struct table *t);
/* Nobody reads any more. */
void table_close(struct table *t);

/* All below under the lock. */
struct entry *table_find(const struct table *t, uint64_t hash, struct seg_id id);
/* Grows if one more would make it too full to be quick. */
void table_reserve(struct table *t, const uint64_t seed[2]);
/* e is not in the table. 0; -ENOMEM: it is full and cannot grow. */
int table_insert(struct table *t, const uint64_t seed[2], struct entry *e);
void table_remove(struct table *t, uint64_t hash, const struct entry *e);
/* It is empty: as small as at the beginning, if there is memory for that. */
void table_shrink(struct table *t);
static inline size_t table_bytes(const struct table *t)
{
	uint64_t root = atomic_load_explicit(&t->root, memory_order_relaxed);

	return (size_t)(table_mask(root) + 1) * sizeof(struct bucket);
}
/* Calls each() for every mapping. */
void table_each_mapping(const struct table *t, void (*each)(void *ctx, void *base, size_t bytes),
			void *ctx);

#endif
