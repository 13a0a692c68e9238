/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the index (index.c looks up one key, index_many.c many, index_change.c changes).
 *
 * The index: 64-byte lines in one mapping. index.h has the picture of a slot and rules [IX-1..5].
 *
 *     word   63.....................32 31..............1 0
 *            | 16 x 2 bits: away      | version         | locked |
 *
 * A key has a home line and one other line. The line count is even, home's parity is the tag's low
 * bit, and the other line has the opposite parity; so a slot tells by itself whether it is at home,
 * and the two lines of a key always differ.
 *
 *  [IX-6] The away counts of a line say, for each of 16 classes of tags (tag & 15), how many keys
 *         that are at home here live in their other line: 0, 1, 2, or "3 and perhaps more", which
 *         sticks. A count may be too high, never too low. It changes only in a locked line that is
 *         then bumped. So the common lookup, hit or miss, reads one line: a zero count is proof
 *         that the other line has nothing.
 *  [IX-7] A thread waits for a lock only while it holds none, or holds one of a lower address;
 *         any further lock is only tried. So there is no cycle.
 *  [IX-8] All slots that an operation changes are written before the first of its locks is let go.
 *         So whatever a dead process left locked holds whole slots, at worst one of them twice,
 *         and counts that are not to be trusted: see line_repair().
 *
 * Memory order: slots are stored with release and loaded with acquire, after the lock bit was set
 * and before the word is looked at again. A reader that saw a new slot therefore sees the changed
 * word too. (No fences: the thread sanitizer understands this form.)
 *
 * Threads: any; each function says what its caller must hold.
 */
#ifndef VALCACHED_STORE_INDEX_INT_H
#define VALCACHED_STORE_INDEX_INT_H

#include <sched.h>
#include <stdatomic.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/assert.h"
#include "valcached/store/index.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN_FEATURE 1
#endif
#endif
#ifndef TSAN_FEATURE
#define TSAN_FEATURE 0
#endif

#define HEADER_BYTES 4096u
#define LINE_BYTES   64u
#define HANDLE_MAGIC 0x1d7a11e5u
#define LANES        16u
#define SPINS        128u

struct line {
	_Atomic uint64_t word;
	_Atomic uint64_t slot[INDEX_SLOTS];
};
_Static_assert(sizeof(struct line) == LINE_BYTES, "one cache line");
_Static_assert(offsetof(struct line, slot) == 8, "line layout");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "slots are shared between processes");

enum { C_INSERTS, C_REMOVES, C_DISPLACEMENTS, C_VICTIMS, C_RETRIES, C_GUESTS, C_COUNT };

/* Counters of the threads that share a lane; a cache line each, so writers do not meet. */
struct lane {
	_Alignas(64) _Atomic uint64_t n[C_COUNT];
};

struct index {
	unsigned magic;
	uint64_t half; /* lines / 2 */
	uint64_t lines;
	struct line *line;
	struct lane *lane;      /* LANES of them */
	uint64_t items_base;    /* found by attach */
	bool attached;          /* its lines are another process's word */
	_Atomic uint64_t *owed; /* index_owe() */
};

#define SLOT_LEN_SHIFT 37
#define SLOT_TAG_SHIFT 48
#define WORD_LOCK      1ull
#define WORD_BUMP      2ull
#define WORD_AWAY      32 /* bit where the away counts begin */
#define WORD_VERSION   0xfffffffeull
#define AWAY_MAX       3u

_Static_assert(2 + INDEX_LOC_BITS == SLOT_LEN_SHIFT, "slot layout");
_Static_assert(INDEX_LEN_CODES == 1u << (SLOT_TAG_SHIFT - SLOT_LEN_SHIFT), "slot layout");
_Static_assert(INDEX_CLOCK_MAX == 3, "slot layout");

void index__count_n(const struct index *ix, unsigned what, uint64_t n);
static inline void index__count(const struct index *ix, unsigned what)
{
	index__count_n(ix, what, 1);
}

/* ---- slots and places ------------------------------------------------------------------------ */

static inline uint64_t slot_make(uint64_t tag, uint64_t loc, uint32_t units, uint8_t clock)
{
	uint32_t code = index_len_encode(units);

	A(loc != 0 && loc <= INDEX_LOC_MAX);
	A(code < INDEX_LEN_CODES);
	A(clock <= INDEX_CLOCK_MAX);
	return tag << SLOT_TAG_SHIFT | (uint64_t)code << SLOT_LEN_SHIFT | loc << 2 | clock;
}

static inline uint64_t slot_tag(uint64_t s)
{
	return s >> SLOT_TAG_SHIFT;
}

static inline uint64_t slot_loc(uint64_t s)
{
	return s >> 2 & INDEX_LOC_MAX;
}

static inline unsigned slot_clock(uint64_t s)
{
	return (unsigned)(s & INDEX_CLOCK_MAX);
}

static inline struct index_ref slot_ref(uint64_t s)
{
	return index_found_ref(s);
}

static inline uint64_t hash_tag(uint64_t hash)
{
	return hash & 0xffff;
}

/* x of [0, 2^64) to [0, n), evenly (Lemire's multiply-shift). */
static inline uint64_t fastrange(uint64_t x, uint64_t n)
{
	return (uint64_t)(((unsigned __int128)x * n) >> 64);
}

static inline uint64_t home_of(const struct index *ix, uint64_t hash)
{
	return 2 * fastrange(hash, ix->half) + (hash & 1);
}

/* The other line of a slot with this tag in line l: an involution, and always of other parity. */
static inline uint64_t other_of(const struct index *ix, uint64_t tag, uint64_t l)
{
	uint64_t h = tag * 0x9e3779b97f4a7c15ull, d; /* Fibonacci hashing: evenly spread */

	d = 2 * fastrange(h, ix->half) + 1 - l;
	return d + (ix->lines & (0 - (d >> 63))); /* a branch would be a coin toss */
}

static inline bool is_home(uint64_t tag, uint64_t l)
{
	return ((tag ^ l) & 1) == 0;
}

/* The line to look at after home: other, or home again if nothing of this class is away. */
static inline uint64_t second_of(const struct index *ix, uint64_t tag, uint64_t l, bool away)
{
	return l ^ ((l ^ other_of(ix, tag, l)) & (0 - (uint64_t)away));
}

static inline unsigned away_shift(uint64_t tag)
{
	return WORD_AWAY + 2 * (unsigned)(tag & 15);
}

static inline unsigned away_count(uint64_t word, uint64_t tag)
{
	return (unsigned)(word >> away_shift(tag)) & AWAY_MAX;
}

/* ---- locks ----------------------------------------------------------------------------------- */

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static inline void back_off(unsigned *spins)
{
	if (++*spins % SPINS == 0)
		sched_yield();
	else
		cpu_relax();
}

static inline bool line_trylock(struct line *l)
{
	uint64_t w = atomic_load_explicit(&l->word, memory_order_relaxed);

	return (w & WORD_LOCK) == 0 &&
	       atomic_compare_exchange_strong_explicit(&l->word, &w, w | WORD_LOCK,
						       memory_order_acquire, memory_order_relaxed);
}

static inline void line_lock(struct line *l)
{
	unsigned spins = 0;

	while (!line_trylock(l))
		back_off(&spins);
}

/* Lets go of a line that was not changed. */
static inline void line_unlock(struct line *l)
{
	uint64_t w = atomic_load_explicit(&l->word, memory_order_relaxed);

	A(w & WORD_LOCK);
	atomic_store_explicit(&l->word, w & ~WORD_LOCK, memory_order_release);
}

/* Lets go of a line that was changed [IX-2]. */
static inline void line_unlock_bump(struct line *l)
{
	uint64_t w = atomic_load_explicit(&l->word, memory_order_relaxed);

	A(w & WORD_LOCK);
	w = (w & ~(WORD_VERSION | WORD_LOCK)) | ((w + WORD_BUMP) & WORD_VERSION);
	atomic_store_explicit(&l->word, w, memory_order_release);
}

/* The owner of the lock changes the away count of a tag's class [IX-6]. */
static inline void away_add(const struct index *ix, struct line *home, uint64_t tag)
{
	uint64_t w = atomic_load_explicit(&home->word, memory_order_relaxed);

	A(w & WORD_LOCK);
	index__count(ix, C_GUESTS);
	if (away_count(w, tag) < AWAY_MAX)
		atomic_store_explicit(&home->word, w + (1ull << away_shift(tag)),
				      memory_order_relaxed);
}

static inline void away_sub(const struct index *ix, struct line *home, uint64_t tag)
{
	uint64_t w = atomic_load_explicit(&home->word, memory_order_relaxed);
	unsigned n = away_count(w, tag);

	A(w & WORD_LOCK);
	(void)ix; /* without DIAGNOSTIC */
	DIAG(n > 0 || ix->attached);
	if (n > 0 && n < AWAY_MAX)
		atomic_store_explicit(&home->word, w - (1ull << away_shift(tag)),
				      memory_order_relaxed);
}

static inline uint64_t slot_load(const struct line *l, unsigned i)
{
	return atomic_load_explicit(&l->slot[i], memory_order_acquire);
}

/* Under the line's lock. Blind: a clock that is raised meanwhile is lost, and no harm done. */
static inline void slot_store(struct line *l, unsigned i, uint64_t s)
{
	DIAG(atomic_load_explicit(&l->word, memory_order_relaxed) & WORD_LOCK);
	atomic_store_explicit(&l->slot[i], s, memory_order_release);
}

/*
 * Bit 2 * i + 3 is set if slot i has this tag; no branches, for where a key is in its line cannot
 * be predicted. Tag 0 matches empty slots too.
 *
 * The SSE2 form looks at slots two at a time with plain loads: x86 keeps loads in order, the signal
 * fences keep the compiler from moving them, and whoever matches is loaded again as an atomic. The
 * thread sanitizer cannot know that and gets the portable form.
 */
#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__) && !TSAN_FEATURE
static inline uint32_t line_match(const struct line *l, uint64_t tag)
{
	const __m128i *v = (const __m128i *)(const void *)l;
	__m128i t = _mm_set1_epi16((short)tag), a, b;

	atomic_signal_fence(memory_order_acq_rel);
	/*
	 * 16-bit lanes that equal the tag, as bytes; then pairs of bytes, of which saturation keeps
	 * the sign of the upper. Of each slot's four lanes the last is its tag.
	 */
	a = _mm_packs_epi16(_mm_cmpeq_epi16(t, _mm_load_si128(v)),
			    _mm_cmpeq_epi16(t, _mm_load_si128(v + 1)));
	b = _mm_packs_epi16(_mm_cmpeq_epi16(t, _mm_load_si128(v + 2)),
			    _mm_cmpeq_epi16(t, _mm_load_si128(v + 3)));
	atomic_signal_fence(memory_order_acq_rel);
	return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(a, b)) & 0xaaa8u;
}
#else
static inline uint32_t line_match(const struct line *l, uint64_t tag)
{
	uint32_t i, match = 0;

#pragma GCC unroll 7
	for (i = 0; i < INDEX_SLOTS; i++)
		match |= (uint32_t)(slot_tag(slot_load(l, i)) == tag) << (2 * i + 3);
	return match;
}
#endif

/* INDEX_SLOTS if there is none. */
static inline unsigned line_empty_slot(const struct line *l)
{
	unsigned i;

	for (i = 0; i < INDEX_SLOTS; i++)
		if (slot_load(l, i) == 0)
			break;
	return i;
}

/* The slot of exactly this tag and location, and what it held; INDEX_SLOTS if there is none. */
static inline unsigned line_slot_of(const struct line *l, uint64_t tag, uint64_t loc,
				    uint64_t *held)
{
	uint64_t want = tag << SLOT_TAG_SHIFT | loc << 2;
	uint64_t mask = 0xffffull << SLOT_TAG_SHIFT | INDEX_LOC_MAX << 2;
	unsigned i;

	for (i = 0; i < INDEX_SLOTS; i++) {
		*held = slot_load(l, i);
		if ((*held & mask) == want)
			break;
	}
	return i;
}

#endif
