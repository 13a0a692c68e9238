/* SPDX-License-Identifier: Apache-2.0 */
/*
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
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/assert.h"
#include "valcached/store/index.h"

#define HEADER_MAGIC   0x317864692e6c6176ull /* "val.idx1" */
#define HEADER_VERSION 1u
#define HEADER_BYTES   4096u
#define LINE_BYTES     64u
#define HANDLE_MAGIC   0x1d7a11e5u
#define LANES          16u
#define SPINS          128u

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN_FEATURE 1
#endif
#endif
#ifndef TSAN_FEATURE
#define TSAN_FEATURE 0
#endif

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

struct line {
	_Atomic uint64_t word;
	_Atomic uint64_t slot[INDEX_SLOTS];
};
_Static_assert(sizeof(struct line) == LINE_BYTES, "one cache line");
_Static_assert(offsetof(struct line, slot) == 8, "line layout");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "slots are shared between processes");

enum { C_INSERTS, C_REMOVES, C_DISPLACEMENTS, C_VICTIMS, C_RETRIES, C_COUNT };

/* Counters of the threads that share a lane; a cache line each, so writers do not meet. */
struct lane {
	_Alignas(64) _Atomic uint64_t n[C_COUNT];
};

struct index {
	unsigned magic;
	uint64_t half;       /* lines / 2 */
	uint64_t lines;
	struct line *line;
	struct lane *lane;   /* LANES of them */
	uint64_t items_base; /* found by attach */
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

static atomic_uint lane_next;
static _Thread_local unsigned lane_mine; /* + 1; 0: not chosen */

static void count(const struct index *ix, unsigned what)
{
	if (unlikely(lane_mine == 0))
		lane_mine = atomic_fetch_add_explicit(&lane_next, 1, memory_order_relaxed) % LANES + 1;
	atomic_fetch_add_explicit(&ix->lane[lane_mine - 1].n[what], 1, memory_order_relaxed);
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
	struct index_ref r;

	r.loc = slot_loc(s);
	r.units = index_len_decode((uint32_t)(s >> SLOT_LEN_SHIFT) & (INDEX_LEN_CODES - 1));
	r.clock = (uint8_t)slot_clock(s);
	return r;
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
	uint64_t h = (tag + 1) * 0x9e3779b97f4a7c15ull, d;

	h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9ull;
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

static void back_off(unsigned *spins)
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

static void line_lock(struct line *l)
{
	unsigned spins = 0;

	while (!line_trylock(l))
		back_off(&spins);
}

/* Lets go of a line that was not changed. */
static void line_unlock(struct line *l)
{
	uint64_t w = atomic_load_explicit(&l->word, memory_order_relaxed);

	A(w & WORD_LOCK);
	atomic_store_explicit(&l->word, w & ~WORD_LOCK, memory_order_release);
}

/* Lets go of a line that was changed [IX-2]. */
static void line_unlock_bump(struct line *l)
{
	uint64_t w = atomic_load_explicit(&l->word, memory_order_relaxed);

	A(w & WORD_LOCK);
	w = (w & ~(WORD_VERSION | WORD_LOCK)) | ((w + WORD_BUMP) & WORD_VERSION);
	atomic_store_explicit(&l->word, w, memory_order_release);
}

/*
 * Locks l too, while held is locked. False if that needed both to be let go for a moment: then both
 * are locked, but what was seen of held before is stale.
 */
static bool line_lock_second(struct line *held, struct line *l)
{
	if (line_trylock(l))
		return true;
	if (held < l) {
		line_lock(l);
		return true;
	}
	line_unlock(held);
	line_lock(l);
	line_lock(held);
	return false;
}

/* The owner of the lock changes the away count of a tag's class [IX-6]. */
static void away_add(struct line *home, uint64_t tag)
{
	uint64_t w = atomic_load_explicit(&home->word, memory_order_relaxed);

	A(w & WORD_LOCK);
	if (away_count(w, tag) < AWAY_MAX)
		atomic_store_explicit(&home->word, w + (1ull << away_shift(tag)),
		    memory_order_relaxed);
}

static void away_sub(struct line *home, uint64_t tag)
{
	uint64_t w = atomic_load_explicit(&home->word, memory_order_relaxed);
	unsigned n = away_count(w, tag);

	A(w & WORD_LOCK);
	DIAG(n > 0); /* not A(): an attached index is another process's word */
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

/* INDEX_SLOTS if there is none. */
static unsigned line_empty_slot(const struct line *l)
{
	unsigned i;

	for (i = 0; i < INDEX_SLOTS; i++)
		if (slot_load(l, i) == 0)
			break;
	return i;
}

/* The slot of exactly this tag and location, and what it held; INDEX_SLOTS if there is none. */
static unsigned line_slot_of(const struct line *l, uint64_t tag, uint64_t loc, uint64_t *held)
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
	if (attach && (h->magic != HEADER_MAGIC || h->version != HEADER_VERSION ||
	        h->slots != INDEX_SLOTS || h->lines != lines || h->checksum != header_checksum(h)))
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
	ix->line = (struct line *)(void *)((char *)mem + HEADER_BYTES);

	if (attach) {
		for (l = 0; l < lines; l++)
			if (atomic_load_explicit(&ix->line[l].word, memory_order_relaxed) &
			    WORD_LOCK) {
				line_repair(ix, l);
				torn++;
			}
		for (l = 0; l < lines; l++)
			for (i = 0; i < INDEX_SLOTS; i++)
				ix->items_base += atomic_load_explicit(&ix->line[l].slot[i],
				                      memory_order_relaxed) != 0;
	} else {
		/* The header comes last: a process that dies in between leaves nothing to attach. */
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
 * Bit 4 * i + 7 is set if slot i has this tag; no branches, for where a key is in its line cannot be
 * predicted. Tag 0 matches empty slots too.
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
	/* 16-bit lanes that equal the tag, as bytes; of each slot's four lanes the last is its tag. */
	a = _mm_packs_epi16(_mm_cmpeq_epi16(t, _mm_load_si128(v)),
	    _mm_cmpeq_epi16(t, _mm_load_si128(v + 1)));
	b = _mm_packs_epi16(_mm_cmpeq_epi16(t, _mm_load_si128(v + 2)),
	    _mm_cmpeq_epi16(t, _mm_load_si128(v + 3)));
	atomic_signal_fence(memory_order_acq_rel);
	return ((uint32_t)_mm_movemask_epi8(a) | (uint32_t)_mm_movemask_epi8(b) << 16) &
	    0x88888880u;
}
#else
static inline uint32_t line_match(const struct line *l, uint64_t tag)
{
	uint32_t i, match = 0;

#pragma GCC unroll 7
	for (i = 0; i < INDEX_SLOTS; i++)
		match |= (uint32_t)(slot_tag(slot_load(l, i)) == tag) << (4 * i + 7);
	return match;
}
#endif

/*
 * One attempt; false if a line was locked or changed meanwhile. Which of the two lines has the key
 * is as unpredictable as the slot, so there is no branch here either (measured: 17 against 21 ns
 * in batches): when nothing is away, home is looked at twice and the second look masked.
 */
static inline __attribute__((always_inline)) bool try_find(const struct index *ix, uint64_t hash,
    struct index_probe *p)
{
	uint64_t tag = hash_tag(hash), l = home_of(ix, hash), match, w1, w2;
	const struct line *home = &ix->line[l], *other;
	struct index_ref *r = p->ref;
	bool away;

	w1 = atomic_load_explicit(&home->word, memory_order_acquire);
	match = line_match(home, tag);
	away = away_count(w1, tag) != 0;
	other = &ix->line[second_of(ix, tag, l, away)];
	w2 = atomic_load_explicit(&other->word, memory_order_acquire);
	match |= ((uint64_t)line_match(other, tag) << 32) & (0 - (uint64_t)away);
	p->word1 = w1;
	p->word2 = w2;
	for (; match != 0; match &= match - 1) {
		unsigned at = (unsigned)__builtin_ctzll(match) / 4;
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

	count(ix, C_RETRIES); /* the lookup, however often it is repeated */
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
			count(ix, C_RETRIES);
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
	} while (!atomic_compare_exchange_weak_explicit(&l->slot[i], &s, s + 1,
	    memory_order_relaxed, memory_order_relaxed));
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

/* ---- changing -------------------------------------------------------------------------------- */

/* The two lines of the key that is being inserted, both full and both locked. */
struct pair {
	uint64_t l[2]; /* home, other */
	struct line *line[2];
};

enum moved { MOVED, NO_ROOM, BUSY };

/*
 * Copies slot i of line l[k] to its own other line, which is then locked too and returned in *to;
 * the caller overwrites the slot [IX-3]. On NO_ROOM and BUSY nothing has changed.
 */
static enum moved slot_copy_out(struct index *ix, const struct pair *p, unsigned k, unsigned i,
    struct line **to)
{
	uint64_t s = slot_load(p->line[k], i), tag = slot_tag(s);
	struct line *t = &ix->line[other_of(ix, tag, p->l[k])];
	unsigned j;

	if (t == p->line[!k] || line_empty_slot(t) == INDEX_SLOTS)
		return NO_ROOM;
	if (!line_trylock(t)) /* [IX-7] */
		return BUSY;
	j = line_empty_slot(t);
	if (j == INDEX_SLOTS) {
		line_unlock(t);
		return NO_ROOM;
	}
	slot_store(t, j, s);
	if (is_home(tag, p->l[k]))
		away_add(p->line[k], tag);
	else
		away_sub(t, tag);
	*to = t;
	return MOVED;
}

/* Copies out some slot of line l[k] that is a resident there (or a guest); *i says which. */
static enum moved line_copy_out(struct index *ix, const struct pair *p, unsigned k, bool resident,
    unsigned *i, struct line **to)
{
	enum moved r, result = NO_ROOM;
	uint64_t tag[INDEX_SLOTS];

	for (*i = 0; *i < INDEX_SLOTS; (*i)++) {
		tag[*i] = slot_tag(slot_load(p->line[k], *i));
		if (is_home(tag[*i], p->l[k]) == resident)
			__builtin_prefetch(&ix->line[other_of(ix, tag[*i], p->l[k])]);
	}
	for (*i = 0; *i < INDEX_SLOTS; (*i)++) {
		if (is_home(tag[*i], p->l[k]) != resident)
			continue;
		r = slot_copy_out(ix, p, k, *i, to);
		if (r == MOVED)
			return r;
		if (r == BUSY)
			result = BUSY;
	}
	return result;
}

/*
 * Finds a place for a key: its line l[*k], slot *i, on MOVED. The order keeps keys at home, where a
 * lookup finds them first; the second step halves the number of guests in a long-lived index.
 */
static enum moved pair_make_room(struct index *ix, const struct pair *p, unsigned *k, unsigned *i,
    struct line **to)
{
	enum moved r, result = NO_ROOM;
	unsigned step;

	*to = NULL;
	for (step = 0; step < 6; step++) {
		r = NO_ROOM;
		switch (step) {
		case 0: /* home has room */
		case 2: /* other has room */
			*k = step / 2;
			*i = line_empty_slot(p->line[*k]);
			if (*i != INDEX_SLOTS)
				return MOVED;
			break;
		case 1: /* a guest of home goes home */
		case 3: /* a guest of other goes home */
			*k = step / 2;
			r = line_copy_out(ix, p, *k, false, i, to);
			break;
		case 4: /* a resident of home leaves */
		case 5: /* a resident of other leaves */
			*k = step - 4;
			r = line_copy_out(ix, p, *k, true, i, to);
			break;
		}
		if (r == MOVED)
			return r;
		if (r == BUSY)
			result = BUSY;
	}
	return result;
}

/* The slot of the pair with the lowest clock; ties go to a slot that depends on the hash. */
static void pair_victim(const struct pair *p, uint64_t hash, unsigned *k, unsigned *i)
{
	unsigned best = INDEX_CLOCK_MAX + 1, c, n, at = (unsigned)(hash >> 16) % INDEX_CANDIDATES;

	for (n = 0; n < INDEX_CANDIDATES; n++, at = (at + 1) % INDEX_CANDIDATES) {
		c = slot_clock(slot_load(p->line[at / INDEX_SLOTS], at % INDEX_SLOTS));
		if (c < best) {
			best = c;
			*k = at / INDEX_SLOTS;
			*i = at % INDEX_SLOTS;
		}
	}
	A(best <= INDEX_CLOCK_MAX);
}

/*
 * A guest was overwritten: its home counts one less. If that home cannot be locked at once, the
 * count stays too high, which is allowed [IX-6].
 */
static void guest_gone(struct index *ix, const struct pair *p, unsigned k, uint64_t tag)
{
	struct line *h = &ix->line[other_of(ix, tag, p->l[k])];

	if (h == p->line[!k]) {
		away_sub(h, tag);
	} else if (line_trylock(h)) {
		away_sub(h, tag);
		line_unlock_bump(h);
	}
}

void index_insert(struct index *ix, uint64_t hash, uint64_t loc, uint32_t units, uint8_t clock,
    struct index_ref *victim)
{
	uint64_t tag = hash_tag(hash), s = slot_make(tag, loc, units, clock), old = 0;
	struct line *third = NULL;
	enum moved r = NO_ROOM;
	unsigned i, k = 0, spins = 0;
	struct pair p;

	memset(victim, 0, sizeof(*victim));
	count(ix, C_INSERTS);
	p.l[0] = home_of(ix, hash);
	p.line[0] = &ix->line[p.l[0]];
	line_lock(p.line[0]);
	i = line_empty_slot(p.line[0]);
	if (likely(i != INDEX_SLOTS)) {
		slot_store(p.line[0], i, s);
		line_unlock_bump(p.line[0]);
		return;
	}
	p.l[1] = other_of(ix, tag, p.l[0]);
	p.line[1] = &ix->line[p.l[1]];
	for (;;) {
		(void)line_lock_second(p.line[0], p.line[1]);
		r = pair_make_room(ix, &p, &k, &i, &third);
		if (r != BUSY)
			break;
		line_unlock(p.line[1]);
		line_unlock(p.line[0]);
		back_off(&spins);
		line_lock(p.line[0]);
	}
	if (third != NULL) {
		count(ix, C_DISPLACEMENTS);
	} else if (r == NO_ROOM) {
		pair_victim(&p, hash, &k, &i);
		old = slot_load(p.line[k], i);
		*victim = slot_ref(old);
		count(ix, C_VICTIMS);
	}
	slot_store(p.line[k], i, s);
	if (k == 1)
		away_add(p.line[0], tag);
	if (old != 0 && !is_home(slot_tag(old), p.l[k]))
		guest_gone(ix, &p, k, slot_tag(old));
	if (third != NULL)
		line_unlock_bump(third);
	line_unlock_bump(p.line[1]);
	line_unlock_bump(p.line[0]);
}

/*
 * Locks the line that holds the slot of this tag and location: home alone, or home and other.
 * NULL, and nothing locked, if there is none.
 */
static struct line *slot_lock(struct index *ix, uint64_t hash, uint64_t loc, struct line **home,
    unsigned *i)
{
	uint64_t tag = hash_tag(hash), l = home_of(ix, hash), held;
	struct line *other;

	*home = &ix->line[l];
	line_lock(*home);
	*i = line_slot_of(*home, tag, loc, &held);
	if (*i != INDEX_SLOTS)
		return *home;
	if (away_count(atomic_load_explicit(&(*home)->word, memory_order_relaxed), tag) == 0) {
		line_unlock(*home);
		return NULL;
	}
	other = &ix->line[other_of(ix, tag, l)];
	if (!line_lock_second(*home, other)) {
		*i = line_slot_of(*home, tag, loc, &held);
		if (*i != INDEX_SLOTS) {
			line_unlock(other);
			return *home;
		}
	}
	*i = line_slot_of(other, tag, loc, &held);
	if (*i != INDEX_SLOTS)
		return other;
	line_unlock(other);
	line_unlock(*home);
	return NULL;
}

bool index_remove(struct index *ix, uint64_t hash, uint64_t loc)
{
	struct line *home, *l;
	unsigned i;

	l = slot_lock(ix, hash, loc, &home, &i);
	if (l == NULL)
		return false;
	slot_store(l, i, 0);
	if (l != home) {
		away_sub(home, hash_tag(hash));
		line_unlock_bump(l);
	}
	line_unlock_bump(home);
	count(ix, C_REMOVES);
	return true;
}

bool index_relocate(struct index *ix, uint64_t hash, uint64_t from, uint64_t to, uint32_t units,
    uint8_t clock)
{
	uint64_t s = slot_make(hash_tag(hash), to, units, clock);
	struct line *home, *l;
	unsigned i;

	l = slot_lock(ix, hash, from, &home, &i);
	if (l == NULL)
		return false;
	slot_store(l, i, s);
	line_unlock_bump(l);
	if (l != home)
		line_unlock(home);
	return true;
}
