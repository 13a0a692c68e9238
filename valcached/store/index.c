/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index: making one, looking up, touching. Rules, layout and locks: index.h, index_int.h.
 *
 * Threads: any, but for open and close. Nothing here takes a lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "valcached/store/index_int.h"

#define HEADER_MAGIC   0x317864692e6c6176ull /* "val.idx1" */
#define HEADER_VERSION 1u

struct header {
	uint64_t magic;
	uint32_t version;
	uint32_t slots;
	uint64_t lines;
	uint64_t checksum; /* XXH3-64 of what is above */
};
_Static_assert(sizeof(struct header) == 32, "header layout is shared between processes");
_Static_assert(offsetof(struct header, lines) == 16, "header layout");
_Static_assert(offsetof(struct header, checksum) == 24, "header layout");

static atomic_uint lane_next;
static _Thread_local unsigned lane_mine; /* + 1; 0: not chosen */

void index__count_n(const struct index *ix, unsigned what, uint64_t n)
{
	if (unlikely(lane_mine == 0))
		lane_mine =
		    atomic_fetch_add_explicit(&lane_next, 1, memory_order_relaxed) % LANES + 1;
	atomic_fetch_add_explicit(&ix->lane[lane_mine - 1].n[what], n, memory_order_relaxed);
}

void index_added(const struct index *ix, uint64_t n)
{
	index__count_n(ix, C_INSERTS, n);
}

/* ---- making one ------------------------------------------------------------------------------ */

size_t index_bytes(uint64_t items)
{
	/* 7 slots x 85 % = 5.95 items a line */
	uint64_t lines = (items * 100 + 594) / 595;

	if (lines < 2)
		lines = 2;
	return HEADER_BYTES + (size_t)(lines + (lines & 1)) * LINE_BYTES;
}

static uint64_t header_checksum(const struct header *h)
{
	return XXH3_64bits(h, offsetof(struct header, checksum));
}

/*
 * Makes a line that a dead process left locked usable again, without loss: slots are whole [IX-8].
 * One that was being moved may be here and in its other line; this one goes. The counts are
 * unknown, so all are set to "perhaps": such a line costs its lookups a second line from now on.
 */
static void line_repair(struct index *ix, uint64_t l)
{
	struct line *line = &ix->line[l];
	unsigned i;

	for (i = 0; i < INDEX_SLOTS; i++) {
		uint64_t s = slot_load(line, i), twin;

		if (s != 0 && line_slot_of(&ix->line[other_of(ix, slot_tag(s), l)], slot_tag(s),
					   slot_loc(s), &twin) != INDEX_SLOTS)
			slot_store(line, i, 0);
	}
	atomic_fetch_or(&line->word, ~0ull << WORD_AWAY);
	line_unlock_bump(line);
}

int index_open(void *mem, size_t bytes, bool attach, uint64_t *dropped, struct index **out)
{
	struct header *h = mem;
	struct index *ix = NULL;
	uint64_t lines, l, torn = 0;
	unsigned i;
	int err = -ENOMEM;

	A((uintptr_t)mem % LINE_BYTES == 0);
	AN(out);
	if (bytes < HEADER_BYTES + 2 * LINE_BYTES)
		return -EINVAL;
	lines = (bytes - HEADER_BYTES) / LINE_BYTES & ~1ull;
	if (attach &&
	    (h->magic != HEADER_MAGIC || h->version != HEADER_VERSION || h->slots != INDEX_SLOTS ||
	     h->lines != lines || h->checksum != header_checksum(h)))
		return -EINVAL;

	ix = calloc(1, sizeof(*ix));
	if (ix == NULL)
		goto fail;
	ix->lane = aligned_alloc(_Alignof(struct lane), LANES * sizeof(struct lane));
	if (ix->lane == NULL)
		goto fail;
	memset(ix->lane, 0, LANES * sizeof(struct lane));
	ix->magic = HANDLE_MAGIC;
	ix->lines = lines;
	ix->half = lines / 2;
	ix->attached = attach;
	ix->line = (struct line *)(void *)((char *)mem + HEADER_BYTES);

	if (attach) {
		/* a repair removes slots of its own line only, so one pass does for both */
		for (l = 0; l < lines; l++) {
			if (atomic_load_explicit(&ix->line[l].word, memory_order_relaxed) &
			    WORD_LOCK) {
				line_repair(ix, l);
				torn++;
			}
			for (i = 0; i < INDEX_SLOTS; i++)
				ix->items_base += atomic_load_explicit(&ix->line[l].slot[i],
								       memory_order_relaxed) != 0;
		}
	} else {
		/* The header comes last: a process that dies in between leaves nothing to attach.
		 */
		memset(h, 0, HEADER_BYTES);
		memset((char *)mem + HEADER_BYTES, 0, (size_t)lines * LINE_BYTES);
		h->version = HEADER_VERSION;
		h->slots = INDEX_SLOTS;
		h->lines = lines;
		h->magic = HEADER_MAGIC;
		atomic_thread_fence(memory_order_release);
		h->checksum = header_checksum(h);
	}
	if (dropped != NULL)
		*dropped = torn;
	*out = ix;
	return 0;
fail:
	free(ix);
	return err;
}

void index_owe(struct index *ix, _Atomic uint64_t *owed)
{
	MAGIC_OK(ix, HANDLE_MAGIC);
	ix->owed = owed;
}

void index_close(struct index **ix)
{
	AN(ix);
	MAGIC_OK(*ix, HANDLE_MAGIC);
	(*ix)->magic = 0;
	free((*ix)->lane);
	free(*ix);
	*ix = NULL;
}

/* ---- looking up ------------------------------------------------------------------------------ */

/*
 * One attempt; false if a line was locked or changed meanwhile. Which of the two lines has the key
 * is as unpredictable as the slot, so there is no branch here either (measured: 17 against 21 ns
 * in batches): when nothing is away, home is looked at twice and the second look masked.
 */
static inline __attribute__((always_inline)) bool try_find(const struct index *ix, uint64_t hash,
							   struct index_probe *p)
{
	uint64_t tag = hash_tag(hash), l = home_of(ix, hash), w1, w2;
	const struct line *home = &ix->line[l], *other;
	struct index_ref *r = p->ref;
	uint32_t match;
	bool away;

	w1 = atomic_load_explicit(&home->word, memory_order_acquire);
	match = line_match(home, tag);
	away = away_count(w1, tag) != 0;
	other = &ix->line[second_of(ix, tag, l, away)];
	w2 = atomic_load_explicit(&other->word, memory_order_acquire);
	match |= (line_match(other, tag) << 16) & (0 - (uint32_t)away);
	p->word1 = w1;
	p->word2 = w2;
	for (; match != 0; match &= match - 1) {
		unsigned at = (unsigned)__builtin_ctz(match) / 2;
		uint64_t s = slot_load(at & 8 ? other : home, (at & 7) - 1);

		/* Tag 0 matches empty slots; and a slot may have changed between the looks. */
		if (likely(s != 0 && slot_tag(s) == tag))
			*r++ = slot_ref(s);
	}
	p->n = (unsigned)(r - p->ref);
	return likely(((w1 | w2) & WORD_LOCK) == 0 &&
		      atomic_load_explicit(&other->word, memory_order_acquire) == w2 &&
		      atomic_load_explicit(&home->word, memory_order_acquire) == w1);
}

static __attribute__((noinline, cold)) void find_again(const struct index *ix, uint64_t hash,
						       struct index_probe *p)
{
	unsigned spins = 0;

	index__count(ix, C_RETRIES); /* the lookup, however often it is repeated */
	do {
		back_off(&spins);
	} while (!try_find(ix, hash, p));
}

void index_find(const struct index *ix, uint64_t hash, struct index_probe *p)
{
	if (unlikely(!try_find(ix, hash, p)))
		find_again(ix, hash, p);
}

void index_prefetch(const struct index *ix, uint64_t hash)
{
	__builtin_prefetch(&ix->line[home_of(ix, hash)]);
}

void index_prefetch_other(const struct index *ix, uint64_t hash)
{
	uint64_t tag = hash_tag(hash), l = home_of(ix, hash);
	uint64_t w = atomic_load_explicit(&ix->line[l].word, memory_order_relaxed);

	__builtin_prefetch(&ix->line[second_of(ix, tag, l, away_count(w, tag) != 0)]);
}

bool index_unchanged(const struct index *ix, uint64_t hash, const struct index_probe *p)
{
	uint64_t tag = hash_tag(hash), l = home_of(ix, hash);

	if (atomic_load_explicit(&ix->line[l].word, memory_order_acquire) != p->word1)
		return false;
	return away_count(p->word1, tag) == 0 || /* then other was not looked at */
	       atomic_load_explicit(&ix->line[other_of(ix, tag, l)].word, memory_order_acquire) ==
		   p->word2;
}

/*
 * Where the slot of this tag and location is: its line, its number and what it held, or NULL with
 * proof that it is in neither line. Lock-free.
 */
static struct line *slot_seek(const struct index *ix, uint64_t hash, uint64_t loc, unsigned *slot,
			      uint64_t *held)
{
	uint64_t tag = hash_tag(hash), l = home_of(ix, hash), w1, w2;
	struct line *home = &ix->line[l], *other;
	unsigned spins = 0;

	for (;; back_off(&spins)) {
		if (spins == 1)
			index__count(ix, C_RETRIES);
		w1 = atomic_load_explicit(&home->word, memory_order_acquire);
		*slot = line_slot_of(home, tag, loc, held);
		if (*slot != INDEX_SLOTS)
			return home;
		other = home;
		w2 = w1;
		if (away_count(w1, tag) != 0) {
			other = &ix->line[other_of(ix, tag, l)];
			w2 = atomic_load_explicit(&other->word, memory_order_acquire);
			*slot = line_slot_of(other, tag, loc, held);
			if (*slot != INDEX_SLOTS)
				return other;
		}
		if (((w1 | w2) & WORD_LOCK) == 0 &&
		    atomic_load_explicit(&other->word, memory_order_acquire) == w2 &&
		    atomic_load_explicit(&home->word, memory_order_acquire) == w1)
			return NULL;
	}
}

bool index_get(const struct index *ix, uint64_t hash, uint64_t loc, struct index_ref *out)
{
	unsigned i;
	uint64_t s;

	if (slot_seek(ix, hash, loc, &i, &s) == NULL)
		return false;
	*out = slot_ref(s);
	return true;
}

bool index_touch(struct index *ix, uint64_t hash, uint64_t loc)
{
	struct line *l;
	unsigned i;
	uint64_t s;

	do {
		l = slot_seek(ix, hash, loc, &i, &s);
		if (l == NULL)
			return false;
		if (slot_clock(s) == INDEX_CLOCK_MAX)
			return true;
	} while (!atomic_compare_exchange_weak_explicit(
	    &l->slot[i], &s, s + 1, memory_order_relaxed, memory_order_relaxed));
	return true;
}

void index_walk(const struct index *ix, bool (*fn)(void *arg, const struct index_ref *ref),
		void *arg)
{
	struct index_ref r;
	uint64_t l, s;
	unsigned i;

	for (l = 0; l < ix->lines; l++)
		for (i = 0; i < INDEX_SLOTS; i++) {
			s = slot_load(&ix->line[l], i);
			if (s == 0)
				continue;
			r = slot_ref(s);
			if (!fn(arg, &r))
				return;
		}
}

void index_stats(const struct index *ix, struct index_stats *out)
{
	uint64_t n[C_COUNT] = {0};
	unsigned i, c;

	MAGIC_OK(ix, HANDLE_MAGIC);
	for (i = 0; i < LANES; i++)
		for (c = 0; c < C_COUNT; c++)
			n[c] += atomic_load_explicit(&ix->lane[i].n[c], memory_order_relaxed);
	out->capacity = ix->lines * INDEX_SLOTS;
	out->items = ix->items_base + n[C_INSERTS] - n[C_VICTIMS] - n[C_REMOVES];
	/* A remove may be seen before its insert. */
	if ((int64_t)out->items < 0)
		out->items = 0;
	out->inserts = n[C_INSERTS];
	out->displacements = n[C_DISPLACEMENTS];
	out->victims = n[C_VICTIMS];
	out->retries = n[C_RETRIES];
}
