/* SPDX-License-Identifier: Apache-2.0 */
/* Changing the table, under the shard's lock; see table.h. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "ocache/table.h"

#define LOG_FIRST 6u  /* 64 buckets: a page */
#define LOG_MAX   26u /* 512 million slots a shard */

/*
 * Grown above so many of its slots; and given up on if it is full below so many (keys of one hash).
 */
#define FULL(slots)  ((slots) / 5 * 3)
#define EMPTY(slots) ((slots) / 16)

static uint64_t root_of(const struct table *t)
{
	return atomic_load_explicit(&t->root, memory_order_relaxed);
}

static uint64_t word_of(const _Atomic uint64_t *slot)
{
	return atomic_load_explicit(slot, memory_order_relaxed);
}

static struct entry *entry_of(uint64_t word)
{
	return (struct entry *)(uintptr_t)(word & TABLE_ADDRESS);
}

static void *map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static size_t root_bytes(uint64_t root)
{
	return (size_t)(table_mask(root) + 1) * sizeof(struct bucket);
}

int table_open(struct table *t)
{
	void *base = map(sizeof(struct bucket) << LOG_FIRST);

	*t = (struct table){0};
	if (base == NULL)
		return -ENOMEM;
	atomic_init(&t->root, (uint64_t)(uintptr_t)base | LOG_FIRST);
	return 0;
}

void table_close(struct table *t)
{
	uint64_t root = root_of(t);

	if (root == 0)
		return;
	AZ(munmap(table_bucket(root, 0), root_bytes(root)));
	for (struct table_old *o = t->old, *next; o != NULL; o = next) {
		next = o->next;
		AZ(munmap(o->base, o->bytes));
		free(o);
	}
	*t = (struct table){0};
}

struct entry *table_get(const struct table *t, uint64_t hash, uint64_t hi, uint64_t lo,
			_Atomic(void *) *pin)
{
	uint64_t tag = table_tag(hash), moves;

	do {
		uint64_t root, index;

		moves = atomic_load_explicit(&t->moves, memory_order_acquire);
		root = atomic_load_explicit(&t->root, memory_order_acquire);
		index = hash & table_mask(root);
		for (unsigned side = 0; side < 2; side++) {
			const struct bucket *b = table_bucket(root, index);

			for (unsigned match = table_match(b, tag); match != 0; match &= match - 1) {
				struct entry *e =
				    table_try(&b->slot[__builtin_ctz(match)], hi, lo, pin);

				if (e != NULL)
					return e;
			}
			index = table_partner(root, index, tag);
		}
		atomic_thread_fence(memory_order_acquire);
	} while (unlikely(atomic_load_explicit(&t->moves, memory_order_relaxed) != moves));
	return NULL;
}

/* [TB-4] Under the lock, between what is written first and what is taken away. */
static void count_move(struct table *t)
{
	atomic_store_explicit(&t->moves, atomic_load_explicit(&t->moves, memory_order_relaxed) + 1,
			      memory_order_release);
}

static inline __attribute__((always_inline)) _Atomic uint64_t *find_slot(const struct table *t,
									 uint64_t hash,
									 struct seg_id id)
{
	uint64_t root = root_of(t), tag = table_tag(hash), index = hash & table_mask(root);

#pragma GCC unroll 2
	for (unsigned side = 0; side < 2; side++) {
		struct bucket *b = table_bucket(root, index);

		for (unsigned match = table_match(b, tag); match != 0; match &= match - 1) {
			_Atomic uint64_t *slot = &b->slot[__builtin_ctz(match)];
			const struct entry *e = entry_of(word_of(slot));

			if (e != NULL && e->id.hi == id.hi && e->id.lo == id.lo)
				return slot;
		}
		index = table_partner(root, index, tag);
	}
	return NULL;
}

struct entry *table_find(const struct table *t, uint64_t hash, struct seg_id id)
{
	const _Atomic uint64_t *slot = find_slot(t, hash, id);

	return slot == NULL ? NULL : entry_of(word_of(slot));
}

/* A free slot; NULL: there is none. */
static _Atomic uint64_t *free_slot(struct bucket *b)
{
	for (unsigned match = table_match(b, 0); match != 0; match &= match - 1) {
		_Atomic uint64_t *slot = &b->slot[__builtin_ctz(match)];

		if (likely(word_of(slot) == 0))
			return slot;
	}
	return NULL;
}

/* Room in this bucket, made by moving one of its entries to that one's other bucket; or NULL. */
static _Atomic uint64_t *make_room(struct table *t, uint64_t root, uint64_t index)
{
	struct bucket *b = table_bucket(root, index);

	for (unsigned i = 0; i < TABLE_WAYS; i++) {
		uint64_t w = word_of(&b->slot[i]);
		uint64_t other = table_partner(root, index, w & ~TABLE_ADDRESS);
		_Atomic uint64_t *to = free_slot(table_bucket(root, other));

		if (to == NULL)
			continue;
		atomic_store_explicit(to, w, memory_order_release);
		count_move(t);
		return &b->slot[i];
	}
	return NULL;
}

static bool put_word(struct table *t, uint64_t root, uint64_t index, uint64_t word)
{
	uint64_t partner = table_partner(root, index, word & ~TABLE_ADDRESS);
	_Atomic uint64_t *slot = free_slot(table_bucket(root, index));

	if (slot == NULL)
		slot = free_slot(table_bucket(root, partner));
	if (slot == NULL)
		slot = make_room(t, root, index);
	if (slot == NULL)
		slot = make_room(t, root, partner);
	if (slot == NULL)
		return false;
	atomic_store_explicit(slot, word, memory_order_release);
	return true;
}

/* [TB-3] The entries are in the new table; o is for the old one. */
static void replace(struct table *t, uint64_t root, struct table_old *o)
{
	uint64_t old = root_of(t);

	atomic_store_explicit(&t->root, root, memory_order_release);
	count_move(t);
	for (uint64_t i = 0; i <= table_mask(old); i++)
		for (unsigned s = 0; s < TABLE_WAYS; s++)
			atomic_store_explicit(&table_bucket(old, i)->slot[s], 0,
					      memory_order_release);
	*o = (struct table_old){table_bucket(old, 0), root_bytes(old), t->old};
	t->old = o;
	(void)madvise(o->base, o->bytes, MADV_DONTNEED); /* else it keeps its memory */
}

/* To a table of twice the size, or four times ...: the first that takes all. 0 or -ENOMEM. */
static int grow(struct table *t, const uint64_t seed[2])
{
	uint64_t old = root_of(t), root = 0;
	struct table_old *o = malloc(sizeof *o);
	unsigned log = (unsigned)(old & 63);
	bool whole = false;

	if (o == NULL)
		return -ENOMEM;
	while (!whole && ++log <= LOG_MAX) {
		void *base = map(sizeof(struct bucket) << log);

		if (base == NULL)
			break;
		root = (uint64_t)(uintptr_t)base | log;
		whole = true;
		for (uint64_t i = 0; whole && i <= table_mask(old) * TABLE_WAYS + TABLE_WAYS - 1;
		     i++) {
			uint64_t w =
			    word_of(&table_bucket(old, i / TABLE_WAYS)->slot[i % TABLE_WAYS]);

			if (w != 0)
				whole = put_word(
				    t, root, table_hash(seed, entry_of(w)->id) & table_mask(root),
				    w);
		}
		if (!whole)
			AZ(munmap(base, root_bytes(root)));
	}
	if (!whole) {
		free(o);
		return -ENOMEM;
	}
	replace(t, root, o);
	return 0;
}

void table_shrink(struct table *t)
{
	struct table_old *o;
	void *base;

	A(t->count == 0);
	if ((root_of(t) & 63) == LOG_FIRST)
		return;
	o = malloc(sizeof *o);
	base = o != NULL ? map(sizeof(struct bucket) << LOG_FIRST) : NULL;
	if (base == NULL) {
		free(o);
		return;
	}
	replace(t, (uint64_t)(uintptr_t)base | LOG_FIRST, o);
}

void table_reserve(struct table *t, const uint64_t seed[2])
{
	if (t->count >= FULL((table_mask(root_of(t)) + 1) * TABLE_WAYS))
		(void)grow(t, seed); /* without memory it gets fuller */
}

int table_insert(struct table *t, const uint64_t seed[2], struct entry *e)
{
	uint64_t hash = table_hash(seed, e->id), word = table_tag(hash) | (uint64_t)(uintptr_t)e;
	uint64_t slots;

	AZ((uint64_t)(uintptr_t)e & ~TABLE_ADDRESS);
	while (!put_word(t, root_of(t), hash & table_mask(root_of(t)), word)) {
		slots = (table_mask(root_of(t)) + 1) * TABLE_WAYS;
		if (t->count < EMPTY(slots) || grow(t, seed) != 0)
			return -ENOMEM;
	}
	t->count++;
	return 0;
}

void table_remove(struct table *t, uint64_t hash, const struct entry *e)
{
	_Atomic uint64_t *slot = find_slot(t, hash, e->id);

	AN(slot);
	A(entry_of(word_of(slot)) == e);
	atomic_store_explicit(slot, 0, memory_order_release);
	t->count--;
}

void table_each_mapping(const struct table *t, void (*each)(void *ctx, void *base, size_t bytes),
			void *ctx)
{
	each(ctx, table_bucket(root_of(t), 0), table_bytes(t));
	for (const struct table_old *o = t->old; o != NULL; o = o->next)
		each(ctx, o->base, o->bytes);
}
