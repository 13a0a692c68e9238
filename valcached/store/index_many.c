/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index: looking up many keys at once. Rules, layout and locks: index.h, index_int.h.
 *
 * Memory answers in some 100 ns and takes a dozen questions at a time, so each step asks for the
 * home line of a key some way ahead, and compares the home line of one that has arrived. The few keys
 * that home does not settle, because it has none of the tag and counts guests of its class
 * elsewhere, are collected by the group; then their other lines are asked for, and are compared some
 * groups later. What a lookup finds cannot be predicted, so nothing branches on it: collecting is
 * adding 0 or 1 to the length of a list.
 *
 * Threads: any. Nothing here takes a lock.
 */
#include "valcached/store/index_int.h"

#define GROUP 16u
#define AHEAD 1u /* groups: home lines asked for before they are looked at */
#define AFTER 2u /* groups: other lines asked for before they are looked at */
#define RING  8u /* groups of home lines remembered */
_Static_assert(RING > AHEAD + AFTER && (RING & (RING - 1)) == 0, "the ring's size");

/* Keys of one group that home did not settle. */
struct unsettled {
	unsigned n;
	unsigned at[GROUP];
	uint64_t word[GROUP]; /* home's, when it was compared */
};

/* The slot of this line that has the tag, or 0; *match is not 0 if one looked as if it had. */
static inline uint64_t line_pick(const struct line *l, uint64_t hash, uint32_t *match)
{
	const _Atomic uint64_t *word = (const _Atomic uint64_t *)l;
	uint64_t s;

	*match = line_match(l, hash_tag(hash));
	/* the first match, or the last slot, which then has another tag */
	s = atomic_load_explicit(&word[(unsigned)__builtin_ctz(*match | 0x8000u) / 2],
				 memory_order_acquire);
	/* s, or 0 if its tag differs: by mask, lest the compiler branch */
	return s & (uint64_t)((int64_t)(slot_tag(s ^ hash << SLOT_TAG_SHIFT) - 1) >> 63);
}

static __attribute__((noinline, cold)) uint64_t find_alone(const struct index *ix, uint64_t hash)
{
	struct index_probe p;

	index_find(ix, hash, &p);
	if (p.n == 0)
		return 0;
	return slot_make(hash_tag(hash), p.ref[0].loc, p.ref[0].units, p.ref[0].clock);
}

static inline __attribute__((always_inline)) void home_fetch(const struct line *lines,
							     uint64_t half, uint64_t hash,
							     const struct line **home)
{
	*home = &lines[2 * fastrange(hash, half) + (hash & 1)];
	__builtin_prefetch(*home);
}

/* Compares a key with its home line; the number of unsettled keys after it. */
static inline __attribute__((always_inline)) unsigned home_compare(uint64_t h, const struct line *l,
								   uint64_t *found, unsigned at,
								   struct unsettled *u,
								   unsigned count)
{
	uint64_t w, s, open;
	uint32_t match;

	w = atomic_load_explicit(&l->word, memory_order_acquire);
	*found = s = line_pick(l, h, &match);
	/*
	 * Not a proven miss: changed or still locked, or guests of this class elsewhere, or tag 0
	 * looked like an empty slot.
	 */
	open = (w & ~WORD_LOCK) ^ atomic_load_explicit(&l->word, memory_order_acquire);
	open |= (uint32_t)(w >> WORD_AWAY) >> (2 * h & 31) & AWAY_MAX;
	open |= match;
	u->at[count] = at;
	u->word[count] = w;
	return count + ((s == 0) & (open != 0));
}

/* A whole group, unrolled, while the home lines of a whole later group are asked for. */
static __attribute__((noinline)) void group_compare(const struct index *ix, const uint64_t *hash,
						    const struct line *const *home,
						    const struct line **later, uint64_t *found,
						    struct unsettled *u)
{
	const struct line *lines = ix->line;
	uint64_t half = ix->half;
	unsigned i, count = 0;

#pragma GCC unroll 16
	for (i = 0; i < GROUP; i++) {
		home_fetch(lines, half, hash[i + AHEAD * GROUP], &later[i]);
		/* the group before last has fetched them; the analyzer does not follow the ring */
		/* NOLINTNEXTLINE */
		count = home_compare(hash[i], home[i], &found[i], i, u, count);
	}
	u->n = count;
}

static inline uint64_t other_line(const struct index *ix, uint64_t hash, const struct line *home)
{
	return other_of(ix, hash_tag(hash), (uint64_t)(home - ix->line));
}

/*
 * Always inline: gcc 12 takes a function that only prefetches for one without effect, and drops its
 * calls.
 */
static inline __attribute__((always_inline)) void others_fetch(const struct index *ix,
							       const uint64_t *hash,
							       const struct line *const *home,
							       const struct unsettled *u)
{
	unsigned i;

	for (i = 0; i < u->n; i++)
		__builtin_prefetch(&ix->line[other_line(ix, hash[u->at[i]], home[u->at[i]])]);
}

static inline void others_compare(const struct index *ix, const uint64_t *hash,
				  const struct line *const *home, const struct unsettled *u,
				  uint64_t *found)
{
	unsigned i;

	for (i = 0; i < u->n; i++) {
		unsigned at = u->at[i];
		uint64_t h = hash[at], w1 = u->word[i], w2;
		const struct line *other = &ix->line[other_line(ix, h, home[at])];
		uint32_t match;

		w2 = atomic_load_explicit(&other->word, memory_order_acquire);
		found[at] = line_pick(other, h, &match);
		/* [IX-3], from the look at home to this one; a slot without a tag is no proof. */
		if (unlikely(((w1 | w2) & WORD_LOCK) != 0 || hash_tag(h) == 0 ||
			     atomic_load_explicit(&other->word, memory_order_acquire) != w2 ||
			     atomic_load_explicit(&home[at]->word, memory_order_acquire) != w1))
			found[at] = find_alone(ix, h);
	}
}

void index_find_many(const struct index *ix, const uint64_t *hash, unsigned n, uint64_t *found)
{
	const struct line *home[RING][GROUP];
	struct unsettled u[RING];
	unsigned groups = n / GROUP + (n % GROUP != 0), at, i, k;

	for (at = 0; at < n && at < AHEAD * GROUP; at++)
		home_fetch(ix->line, ix->half, hash[at], &home[at / GROUP][at % GROUP]);
	for (k = 0; k < groups + AFTER; k++) {
		const struct line **now = home[k % RING], **later = home[(k + AHEAD) % RING];
		unsigned old = k - AFTER;

		at = k * GROUP;
		if (likely(k + AHEAD + 1 < groups)) {
			group_compare(ix, hash + at, now, later, found + at, &u[k % RING]);
			others_fetch(ix, hash + at, now, &u[k % RING]);
		} else if (k < groups) {
			unsigned count = 0;

			for (i = at + AHEAD * GROUP; i < n && i < at + (AHEAD + 1) * GROUP; i++)
				home_fetch(ix->line, ix->half, hash[i], &later[i % GROUP]);
			for (i = at; i < n && i < at + GROUP; i++)
				count = home_compare(hash[i], now[i % GROUP], &found[i], i % GROUP,
						     &u[k % RING], count);
			u[k % RING].n = count;
			others_fetch(ix, hash + at, now, &u[k % RING]);
		}
		if (k >= AFTER)
			others_compare(ix, hash + old * GROUP, home[old % RING], &u[old % RING],
				       found + old * GROUP);
	}
}
