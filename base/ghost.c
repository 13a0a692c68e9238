/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of 16 slots, one cache line each; a hash has two sets and goes to the older slot of both.
 *
 *     slot   31.........12 11.......0
 *            | fingerprint | epoch   |      all zero: empty
 *
 * An epoch is a power of two of additions, between 1/512 and 1/256 of the entries, counted modulo
 * 4096: an entry must survive 8 times its window unreplaced before it could look young again,
 * while its two sets are written 14 times each per window, oldest slot first.
 *
 * Why two sets: with one, sets fill unevenly and 5 % of the newest entries are lost early; with two
 * it is 0.25 % (tests/unit/base-ghost.c measures).
 *
 * Threads: slots are atomic words that stand alone; a lost race costs one fingerprint.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif
#ifdef __has_feature
#define GHOST_TSAN __has_feature(thread_sanitizer)
#else
#define GHOST_TSAN 0
#endif

#include "base/assert.h"
#include "base/ghost.h"

#define GHOST_MAGIC 0x47484f53u
#define WAYS        16u
#define EPOCH_BITS  12u
#define EPOCH_MASK  ((1u << EPOCH_BITS) - 1)
#define TAG_BITS    (32u - EPOCH_BITS)

struct ghost {
	uint32_t magic;
	uint32_t nsets;
	uint32_t entries;
	unsigned epoch_shift; /* additions an epoch, log2 */
	_Atomic uint32_t *slots;
	_Atomic uint32_t window; /* in epochs */
	_Alignas(64) _Atomic uint64_t adds;
};

struct place {
	_Atomic uint32_t *set[2];
	uint32_t tag; /* in its bits, epoch zero */
};

/* The two sets of a hash, by number, and its fingerprint in its bits. */
static inline uint32_t ghost_sets(uint32_t nsets, uint64_t hash, uint32_t set[2])
{
	uint64_t a = hash * 0x9e3779b97f4a7c15ull;
	uint64_t b;
	uint32_t tag;

	a ^= a >> 32;
	b = a * 0xd6e8feb86659fd93ull;
	set[0] = (uint32_t)(((a & 0xffffffffu) * nsets) >> 32);
	set[1] = (uint32_t)(((b >> 32) * nsets) >> 32);
	tag = (uint32_t)b << EPOCH_BITS;
	return tag != 0 ? tag : 1u << EPOCH_BITS;
}

static void ghost_place(const struct ghost *g, uint64_t hash, struct place *p)
{
	uint32_t set[2];

	p->tag = ghost_sets(g->nsets, hash, set);
	p->set[0] = g->slots + (size_t)set[0] * WAYS;
	p->set[1] = g->slots + (size_t)set[1] * WAYS;
	__builtin_prefetch(p->set[1]);
}

static uint32_t ghost_now(const struct ghost *g)
{
	return (uint32_t)(atomic_load_explicit(&g->adds, memory_order_relaxed) >> g->epoch_shift) &
	       EPOCH_MASK;
}

int ghost_open(uint64_t entries, struct ghost **out)
{
	struct ghost *g;
	uint64_t slots;

	*out = NULL;
	if (entries == 0 || entries >= 1ull << 31)
		return -EINVAL;
	g = aligned_alloc(64, (sizeof *g + 63) / 64 * 64);
	if (g == NULL)
		return -ENOMEM;
	memset(g, 0, sizeof *g);
	slots = entries + entries / 8;
	g->nsets = (uint32_t)((slots + WAYS - 1) / WAYS);
	if (g->nsets < 2)
		g->nsets = 2;
	g->slots = aligned_alloc(64, (size_t)g->nsets * WAYS * sizeof *g->slots);
	if (g->slots == NULL) {
		free(g);
		return -ENOMEM;
	}
	g->magic = GHOST_MAGIC;
	g->entries = (uint32_t)entries;
	while (entries >> g->epoch_shift > 512)
		g->epoch_shift++;
	ghost_clear(g);
	ghost_window(g, entries);
	*out = g;
	return 0;
}

void ghost_close(struct ghost **gp)
{
	struct ghost *g = *gp;

	if (g == NULL)
		return;
	MAGIC_OK(g, GHOST_MAGIC);
	*gp = NULL;
	g->magic = 0;
	free(g->slots);
	free(g);
}

void ghost_clear(struct ghost *g)
{
	for (size_t i = 0; i < (size_t)g->nsets * WAYS; i++)
		atomic_store_explicit(&g->slots[i], 0, memory_order_relaxed);
}

void ghost_window(struct ghost *g, uint64_t n)
{
	uint32_t epochs;

	if (n > g->entries)
		n = g->entries;
	epochs = (uint32_t)((n + (1ull << g->epoch_shift) - 1) >> g->epoch_shift);
	if (atomic_load_explicit(&g->window, memory_order_relaxed) != epochs)
		atomic_store_explicit(&g->window, epochs, memory_order_relaxed);
}

size_t ghost_bytes(const struct ghost *g)
{
	return sizeof *g + (size_t)g->nsets * WAYS * sizeof *g->slots;
}

/*
 * Sets as a whole: a bit for each slot. They are hints: who follows one reads the word again, as an
 * atomic. (With SSE2, which every x86-64 has, an addition takes a third of the instructions of the
 * scalar loops; TSan would take its loads for races.)
 */
#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__) && !GHOST_TSAN
static inline __m128i words(const _Atomic uint32_t *set, unsigned four)
{
	return _mm_load_si128((const __m128i *)(const void *)set + four);
}

/* Two lots of four 32-bit numbers that fit in 15 bits as one of eight. */
static inline __m128i eight(__m128i low, __m128i high)
{
	return _mm_packs_epi32(low, high);
}

static inline unsigned match(const _Atomic uint32_t *set, uint32_t tag)
{
	__m128i want = _mm_set1_epi32((int)tag), bits = _mm_set1_epi32((int)~EPOCH_MASK);
	__m128i m[4];

#pragma GCC unroll 4
	for (unsigned i = 0; i < 4; i++)
		m[i] = _mm_cmpeq_epi32(_mm_and_si128(words(set, i), bits), want);
	return (unsigned)_mm_movemask_epi8(_mm_packs_epi16(eight(m[0], m[1]), eight(m[2], m[3])));
}

static inline __m128i ages(__m128i w, __m128i now)
{
	__m128i empty = _mm_cmpeq_epi32(w, _mm_setzero_si128());
	__m128i age = _mm_and_si128(_mm_sub_epi32(now, w), _mm_set1_epi32((int)EPOCH_MASK));

	/* an empty slot is older than any */
	return _mm_or_si128(_mm_andnot_si128(empty, age),
			    _mm_and_si128(empty, _mm_set1_epi32((int)EPOCH_MASK + 1)));
}

/* Those as old as the oldest of both sets. */
static void oldest(const struct place *p, uint32_t epoch, unsigned old[2])
{
	__m128i now = _mm_set1_epi32((int)epoch), age[4], max;

#pragma GCC unroll 4
	for (unsigned i = 0; i < 4; i++)
		age[i] = eight(ages(words(p->set[i / 2], i % 2 * 2), now),
			       ages(words(p->set[i / 2], i % 2 * 2 + 1), now));
	max = _mm_max_epi16(_mm_max_epi16(age[0], age[1]), _mm_max_epi16(age[2], age[3]));
	max = _mm_max_epi16(max, _mm_shuffle_epi32(max, _MM_SHUFFLE(1, 0, 3, 2)));
	max = _mm_max_epi16(max, _mm_shuffle_epi32(max, _MM_SHUFFLE(2, 3, 0, 1)));
	max = _mm_max_epi16(max, _mm_or_si128(_mm_slli_epi32(max, 16), _mm_srli_epi32(max, 16)));
#pragma GCC unroll 2
	for (unsigned s = 0; s < 2; s++)
		old[s] = (unsigned)_mm_movemask_epi8(_mm_packs_epi16(
		    _mm_cmpeq_epi16(age[s * 2], max), _mm_cmpeq_epi16(age[s * 2 + 1], max)));
}
#else
static unsigned match(const _Atomic uint32_t *set, uint32_t tag)
{
	unsigned m = 0;

	for (unsigned i = 0; i < WAYS; i++) {
		uint32_t w = atomic_load_explicit(&set[i], memory_order_relaxed);

		m |= (unsigned)(((w ^ tag) & ~EPOCH_MASK) == 0) << i;
	}
	return m;
}

static void oldest(const struct place *p, uint32_t epoch, unsigned old[2])
{
	uint32_t max = 0;

	old[0] = old[1] = 0;
	for (unsigned i = 0; i < 2 * WAYS; i++) {
		uint32_t w = atomic_load_explicit(&p->set[i & 1][i >> 1], memory_order_relaxed);
		uint32_t age = w == 0 ? EPOCH_MASK + 1 : (epoch - w) & EPOCH_MASK;

		if (age > max) {
			max = age;
			old[0] = old[1] = 0;
		}
		old[i & 1] |= (unsigned)(age == max) << (i >> 1);
	}
}
#endif

/* The first slot whose bit is set, by turns of both sets, from the front; NULL: none is. */
static _Atomic uint32_t *first(const struct place *p, const unsigned bits[2])
{
	unsigned at0 = (unsigned)__builtin_ctz(bits[0] | 1u << WAYS);
	unsigned at1 = (unsigned)__builtin_ctz(bits[1] | 1u << WAYS);

	if (at0 == WAYS && at1 == WAYS)
		return NULL;
	return at0 <= at1 ? &p->set[0][at0] : &p->set[1][at1];
}

/* The slot of a remembered hash, its word in *w; NULL if there is none within the window. */
static _Atomic uint32_t *ghost_find(const struct ghost *g, uint64_t hash, uint32_t *w)
{
	uint32_t now = ghost_now(g);
	uint32_t window = atomic_load_explicit(&g->window, memory_order_relaxed);
	struct place p;

	ghost_place(g, hash, &p);
	for (unsigned s = 0; s < 2; s++) {
		for (unsigned m = match(p.set[s], p.tag); m != 0; m &= m - 1) {
			_Atomic uint32_t *slot = &p.set[s][__builtin_ctz(m)];

			*w = atomic_load_explicit(slot, memory_order_relaxed);
			if (((*w ^ p.tag) & ~EPOCH_MASK) == 0 &&
			    ((now - *w) & EPOCH_MASK) <= window)
				return slot;
		}
	}
	return NULL;
}

struct ghost_where ghost_where(const struct ghost *g)
{
	return (struct ghost_where){(uintptr_t)g->slots, g->nsets};
}

void ghost_prefetch_at(struct ghost_where where, uint64_t hash)
{
	uint32_t set[2];

	(void)ghost_sets(where.nsets, hash, set);
	for (unsigned i = 0; i < 2; i++)
		__builtin_prefetch((const void *)(where.base + (size_t)set[i] * WAYS * 4));
}

void ghost_prefetch(const struct ghost *g, uint64_t hash)
{
	ghost_prefetch_at(ghost_where(g), hash);
}

void ghost_add(struct ghost *g, uint64_t hash)
{
	_Atomic uint32_t *slot;
	unsigned bits[2];
	struct place p;
	uint32_t now;

	now = (uint32_t)(atomic_fetch_add_explicit(&g->adds, 1, memory_order_relaxed) >>
			 g->epoch_shift) &
	      EPOCH_MASK;
	ghost_place(g, hash, &p);
	bits[0] = match(p.set[0], p.tag);
	bits[1] = match(p.set[1], p.tag);
	slot = first(&p, bits);
	if (slot == NULL) {
		oldest(&p, now, bits);
		slot = first(&p, bits);
	}
	AN(slot);
	atomic_store_explicit(slot, p.tag | now, memory_order_relaxed);
}

bool ghost_take(struct ghost *g, uint64_t hash)
{
	_Atomic uint32_t *slot;
	uint32_t w;

	slot = ghost_find(g, hash, &w);
	return slot != NULL && atomic_compare_exchange_strong_explicit(
				   slot, &w, 0, memory_order_relaxed, memory_order_relaxed);
}

bool ghost_has(const struct ghost *g, uint64_t hash)
{
	uint32_t w;

	return ghost_find(g, hash, &w) != NULL;
}
