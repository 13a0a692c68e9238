/* SPDX-License-Identifier: Apache-2.0 */
/* Policies of one queue: LRU, FIFO, CLOCK and SIEVE. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "bench/sim/list.h"
#include "bench/sim/sim.h"

enum kind { LRU, FIFO, CLOCK, SIEVE };

static void hit_one(struct list *l, enum kind kind, uint32_t k, uint32_t bytes)
{
	if (kind == LRU) {
		list_remove(l, k, bytes);
		list_push(l, k, 1, bytes);
	}
	l->node[k].used = 1;
}

/* FIFO and LRU: the oldest. CLOCK: the oldest that was not used since it was pushed. */
static void evict_oldest(struct list *l, enum kind kind, const uint32_t *size)
{
	uint32_t k;

	while (kind == CLOCK && l->node[l->oldest].used != 0) {
		k = l->oldest;
		list_remove(l, k, size[k]);
		l->node[k].used = 0;
		list_push(l, k, 1, size[k]);
	}
	A(l->oldest != NIL);
	list_remove(l, l->oldest, size[l->oldest]);
}

/*
 * SIEVE (Y. Zhang et al., "SIEVE is simpler than LRU", NSDI 2024): the hand goes from the oldest to
 * the newest and round again, and what it spares stays where it is.
 */
static void evict_sieve(struct list *l, uint32_t *hand, const uint32_t *size)
{
	uint32_t k = *hand != NIL ? *hand : l->oldest;

	while (l->node[k].used != 0) {
		l->node[k].used = 0;
		k = l->node[k].newer != NIL ? l->node[k].newer : l->oldest;
	}
	*hand = l->node[k].newer;
	list_remove(l, k, size[k]);
}

static bool simulate(const struct trace *t, uint64_t budget, uint64_t skip, enum kind kind,
		     struct run *r)
{
	static const char *const names[] = {"LRU", "FIFO", "CLOCK", "SIEVE"};
	struct list l = {calloc(t->nkeys, sizeof(struct node)), NIL, NIL, 0};
	uint64_t start = clock_ns();
	uint32_t hand = NIL;

	*r = (struct run){.name = names[kind], .size = budget};
	if (l.node == NULL)
		return false;
	for (uint64_t i = 0; i < t->n; i++) {
		uint32_t k = t->key[i], bytes = t->size[k];
		bool hit = l.node[k].queue != 0;

		tally_get(r, i >= skip, bytes, hit);
		if (hit) {
			hit_one(&l, kind, k, bytes);
			continue;
		}
		tally_set(r, i >= skip, bytes);
		if (bytes > budget)
			continue;
		while (l.bytes + bytes > budget) {
			if (kind == SIEVE)
				evict_sieve(&l, &hand, t->size);
			else
				evict_oldest(&l, kind, t->size);
		}
		l.node[k].used = 0;
		list_push(&l, k, 1, bytes);
	}
	r->all.device_bytes = r->all.set_bytes;
	r->late.device_bytes = r->late.set_bytes;
	r->seconds = (double)(clock_ns() - start) / 1e9;
	free(l.node);
	return true;
}

bool sim_lru(const struct trace *t, uint64_t budget, uint64_t skip, struct run *r)
{
	return simulate(t, budget, skip, LRU, r);
}

bool sim_fifo(const struct trace *t, uint64_t budget, uint64_t skip, struct run *r)
{
	return simulate(t, budget, skip, FIFO, r);
}

bool sim_clock(const struct trace *t, uint64_t budget, uint64_t skip, struct run *r)
{
	return simulate(t, budget, skip, CLOCK, r);
}

bool sim_sieve(const struct trace *t, uint64_t budget, uint64_t skip, struct run *r)
{
	return simulate(t, budget, skip, SIEVE, r);
}
