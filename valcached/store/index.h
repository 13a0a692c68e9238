/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index: from a key's hash to the places on disk where its record may lie.
 *
 * One mapping of shared memory, position-independent: a header page and lines of 64 bytes, each a
 * version-and-lock word and seven slots of 8 bytes:
 *
 *     line   | word | slot 0 | slot 1 | ... | slot 6 |
 *     slot   63........48 47.......37 36...........2 1..0
 *            | tag 16    | length 11 | location 35  | clock 2 |     all zero: empty
 *
 * location is in 128-byte units over all paths (never 0: unit 0 holds a superblock); length is a
 * code for the record's size on disk (index_len_*); the tag is 16 bits of the key's hash. A key has
 * two candidate lines, home and other, by partial-key hashing (Fan et al., "Cuckoo Filter", CoNEXT
 * 2014): other = (H(tag) - home) mod lines, an involution, so a slot can be moved to its other line
 * without knowing its key. Home counts what lives in other, so most lookups read one line
 * (index_int.h).
 *
 * A slot says "perhaps": the record on disk carries the key, and the caller compares it.
 *
 * Concurrency:
 *  [IX-1] Readers take no lock. A slot is one atomic 64-bit word and is self-contained.
 *  [IX-2] A writer holds the lock bit of a line's word while it changes any slot's tag, length or
 *         location, and adds 2 to the word when it is done. Clock bits change without either.
 *  [IX-3] A slot that moves to its other line is written there before it is removed here, and both
 *         lines are locked and bumped: so a reader that found nothing and saw both words unchanged
 *         and unlocked has proof that the key was not there.
 *  [IX-4] index_insert of a key happens under the caller's lock for that key, so a key is in at most
 *         one slot (recovery excepted, see store).
 *  [IX-5] Clock: a touch is an atomic OR-like raise, tested first, so hot keys do not dirty the line.
 */
#ifndef VALCACHED_STORE_INDEX_H
#define VALCACHED_STORE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INDEX_SLOTS      7
#define INDEX_LOC_BITS   35
#define INDEX_LOC_MAX    ((1ull << INDEX_LOC_BITS) - 1)
#define INDEX_UNIT       128u /* bytes; the store's FORMAT_UNIT */
#define INDEX_CLOCK_MAX  3u
#define INDEX_CANDIDATES (2 * INDEX_SLOTS)

struct index;

/* Where a record may be. */
struct index_ref {
	uint64_t loc; /* 128-byte units */
	uint32_t
	    units; /* size on disk in 128-byte units, rounded up by the code: at most 1/128 more */
	uint8_t clock;
};

/* What a lookup saw, so that a writer can tell later whether anything has changed since. */
struct index_probe {
	uint64_t word1, word2;                  /* versions of the lines that were read */
	unsigned n;                             /* candidates */
	struct index_ref ref[INDEX_CANDIDATES]; /* in no particular order */
};

/* Bytes of a mapping that holds items at 85 % load. */
size_t index_bytes(uint64_t items);

/*
 * Makes an empty index in mem (64-byte aligned, zeroed or not), or takes over what is there when
 * attach is true: 0, or -EINVAL if header or geometry do not fit. Attach checks nothing else; lines
 * that a dead process left locked are repaired without loss of a slot and counted in *dropped (may
 * be NULL). Nobody else may change the index meanwhile.
 */
int index_open(void *mem, size_t bytes, bool attach, uint64_t *dropped, struct index **out);
/* Who adds slots owes the end of each victim: *owed rises by one before the victim is overwritten. */
void index_owe(struct index *ix, _Atomic uint64_t *owed);
/* Frees the handle, not the memory. */
void index_close(struct index **ix);

/*
 * Candidates of a key. Lock-free, any thread. p->n == 0 is a proven miss [IX-3].
 * Never spins for ever: a line locked for long by a descheduled writer is waited for with
 * sched_yield().
 */
void index_find(const struct index *ix, uint64_t hash, struct index_probe *p);
/*
 * For batches: index_prefetch fetches the key's home line into the CPU's cache; index_prefetch_other,
 * some 100 ns later, the other line too if home says that it will be looked at (one lookup in four).
 */
void index_prefetch(const struct index *ix, uint64_t hash);
void index_prefetch_other(const struct index *ix, uint64_t hash);
/*
 * Many keys at once, in half the time: what of each may hold its key, for index_found_ref(), or 0 for
 * a proven miss [IX-3]. If the record is another key's (one time in ten thousand), index_find knows
 * whether there are more candidates. A call of some dozens of keys, or more, pays for its start.
 */
void index_find_many(const struct index *ix, const uint64_t *hash, unsigned n, uint64_t *found);
/* True if nothing that could hold this key was added, removed or moved since index_find filled p. */
bool index_unchanged(const struct index *ix, uint64_t hash, const struct index_probe *p);

/*
 * Adds a slot. If both lines are full, one slot of either line is moved to its own other line; if
 * that is impossible, a slot with the lowest clock is overwritten and *victim says which (victim->loc
 * != 0), because its record on disk is now unreachable and the caller must make sure that it stays
 * so. Clock starts at the given value. The caller holds the key's lock [IX-4].
 */
void index_insert(struct index *ix, uint64_t hash, uint64_t loc, uint32_t units, uint8_t clock,
		  struct index_ref *victim);

/* The same, but nothing is overwritten: false if there is no room, and for good unless something is removed. */
bool index_add(struct index *ix, uint64_t hash, uint64_t loc, uint32_t units, uint8_t clock);

/*
 * The same for a key that is not to be there: LIKE: something with its tag is, it or another, and nothing was
 * added. What was added is counted by index_added(), for many at a time.
 */
enum index_added { INDEX_ADDED, INDEX_LIKE, INDEX_FULL };
enum index_added index_add_new(struct index *ix, uint64_t hash, uint64_t loc, uint32_t units,
			       uint8_t clock);
void index_added(const struct index *ix, uint64_t n);

/* Removes the slot of this key that points to exactly loc. False if there is none (any more). */
bool index_remove(struct index *ix, uint64_t hash, uint64_t loc);

/* Moves a slot from one location to another, if it still points there: for re-insertion. */
bool index_relocate(struct index *ix, uint64_t hash, uint64_t from, uint64_t to, uint32_t units,
		    uint8_t clock);

/*
 * Removes every slot that points into [from, to), or all. Walks the whole index (about 1 ns an
 * item); for the rare cases in which the keys are not known. Returns how many there were. A slot
 * that a concurrent index_insert moves to its other line may escape.
 */
uint64_t index_remove_range(struct index *ix, uint64_t from, uint64_t to);
void index_clear(struct index *ix);
/*
 * After an attach: removes every slot whose loc >> shift is not below n, or for which keep says 0. Returns
 * how many there were.
 */
uint64_t index_retain(struct index *ix, const uint8_t *keep, uint64_t n, unsigned shift);

/* Raises the clock by one up to INDEX_CLOCK_MAX. False if the slot is gone. */
bool index_touch(struct index *ix, uint64_t hash, uint64_t loc);
/* The slot that points to exactly loc. False if there is none. */
bool index_get(const struct index *ix, uint64_t hash, uint64_t loc, struct index_ref *out);

/* Counters (sums over all threads; relaxed). */
#define INDEX_COUNTERS(X)                                                                          \
	X(items, "slots in use")                                                                   \
	X(capacity, "slots in all")                                                                \
	X(inserts, "slots added")                                                                  \
	X(displacements, "slots moved to their other line to make room")                           \
	X(victims, "slots overwritten because both lines were full")                               \
	X(retries, "lookups repeated because a line changed meanwhile")

struct index_stats {
#define X(n, s) uint64_t n;
	INDEX_COUNTERS(X)
#undef X
};
void index_stats(const struct index *ix, struct index_stats *out);

/*
 * Size codes: 11 bits, exact below 128 units, then 7 bits of mantissa and 4 of exponent, rounded up.
 */
#define INDEX_LEN_CODES 2048u
static inline uint32_t index_len_encode(uint32_t units)
{
	uint32_t exp = 0;

	if (units < 128)
		return units;
	exp = 32u - (uint32_t)__builtin_clz(units) - 7u; /* units >> (exp - 1) is 128..255 */
	{
		uint32_t m = (units + (1u << (exp - 1)) - 1) >> (exp - 1);

		if (m == 256) {
			m = 128;
			exp++;
		}
		return (exp << 7) | (m - 128);
	}
}
static inline uint32_t index_len_decode(uint32_t code)
{
	uint32_t exp = code >> 7, m = code & 127u, big = exp != 0;

	return (m | big << 7) << (exp - big); /* no branch: it is in every lookup */
}

/* Where an index_find_many's found (not 0) says that the record may be. */
static inline struct index_ref index_found_ref(uint64_t found)
{
	struct index_ref r;

	r.loc = found >> 2 & INDEX_LOC_MAX;
	r.units =
	    index_len_decode((uint32_t)(found >> (2 + INDEX_LOC_BITS)) & (INDEX_LEN_CODES - 1));
	r.clock = (uint8_t)(found & INDEX_CLOCK_MAX);
	return r;
}

/* For a whole walk (metadump, tests): calls fn for every slot in use; not a snapshot. */
void index_walk(const struct index *ix, bool (*fn)(void *arg, const struct index_ref *ref),
		void *arg);

#endif
