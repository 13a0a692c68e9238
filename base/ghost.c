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

static void ghost_place(const struct ghost *g, uint64_t hash, struct place *p)
{
	uint64_t a = hash * 0x9e3779b97f4a7c15ull;
	uint64_t b;

	a ^= a >> 32;
	b = a * 0xd6e8feb86659fd93ull;
	a = ((a & 0xffffffffu) * g->nsets) >> 32;
	p->set[0] = g->slots + a * WAYS;
	a = ((b >> 32) * g->nsets) >> 32;
	p->set[1] = g->slots + a * WAYS;
	__builtin_prefetch(p->set[1]);
	p->tag = (uint32_t)b << EPOCH_BITS;
	if (p->tag == 0)
		p->tag = 1u << EPOCH_BITS;
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

/* The slot of a remembered hash, its word in *w; NULL if there is none within the window. */
static _Atomic uint32_t *ghost_find(const struct ghost *g, uint64_t hash, uint32_t *w)
{
	uint32_t now = ghost_now(g);
	uint32_t window = atomic_load_explicit(&g->window, memory_order_relaxed);
	struct place p;

	ghost_place(g, hash, &p);
	for (unsigned s = 0; s < 2; s++) {
		for (unsigned i = 0; i < WAYS; i++) {
			*w = atomic_load_explicit(&p.set[s][i], memory_order_relaxed);
			if (((*w ^ p.tag) & ~EPOCH_MASK) == 0 &&
			    ((now - *w) & EPOCH_MASK) <= window)
				return &p.set[s][i];
		}
	}
	return NULL;
}

void ghost_prefetch(const struct ghost *g, uint64_t hash)
{
	struct place p;

	ghost_place(g, hash, &p); /* it fetches the second set */
	__builtin_prefetch(p.set[0]);
}

void ghost_add(struct ghost *g, uint64_t hash)
{
	_Atomic uint32_t *old = NULL;
	uint32_t now, w, age, age_max = 0;
	struct place p;

	now = (uint32_t)(atomic_fetch_add_explicit(&g->adds, 1, memory_order_relaxed) >>
			 g->epoch_shift) &
	      EPOCH_MASK;
	ghost_place(g, hash, &p);
	for (unsigned i = 0; i < 2 * WAYS; i++) {
		_Atomic uint32_t *slot = &p.set[i & 1][i >> 1];

		w = atomic_load_explicit(slot, memory_order_relaxed);
		if (((w ^ p.tag) & ~EPOCH_MASK) == 0) {
			old = slot;
			break;
		}
		/* One older than all, so that the first slot is taken where none has an age. */
		age = w == 0 ? EPOCH_MASK + 2 : ((now - w) & EPOCH_MASK) + 1;
		if (age > age_max) {
			age_max = age;
			old = slot;
		}
	}
	atomic_store_explicit(old, p.tag | now, memory_order_relaxed);
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
