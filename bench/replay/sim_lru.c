/* SPDX-License-Identifier: Apache-2.0 */
/* Exact LRU and FIFO of a byte budget: one list by key number; LRU moves what is hit to its head.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "bench/replay/replay.h"

#define NIL UINT32_MAX

struct node {
	uint32_t newer, older;
	bool in;
};

struct list {
	struct node *node;
	uint32_t newest, oldest;
};

static void list_push(struct list *l, uint32_t k)
{
	l->node[k] = (struct node){.newer = NIL, .older = l->newest, .in = true};
	if (l->newest != NIL)
		l->node[l->newest].newer = k;
	else
		l->oldest = k;
	l->newest = k;
}

static void list_remove(struct list *l, uint32_t k)
{
	struct node *n = &l->node[k];

	if (n->newer != NIL)
		l->node[n->newer].older = n->older;
	else
		l->newest = n->older;
	if (n->older != NIL)
		l->node[n->older].newer = n->newer;
	else
		l->oldest = n->newer;
	n->in = false;
}

static bool simulate(const struct trace *t, uint64_t budget, uint64_t skip, bool lru,
		     struct result *r)
{
	struct list l = {calloc(t->nkeys, sizeof(struct node)), NIL, NIL};
	uint64_t start = clock_ns(), used = 0;

	*r = (struct result){.name = lru ? "LRU" : "FIFO", .size = budget};
	if (l.node == NULL)
		return false;
	for (uint64_t i = 0; i < t->n; i++) {
		uint32_t k = t->key[i], bytes = t->size[k];
		bool hit = l.node[k].in;

		tally_get(r, i >= skip, bytes, hit);
		if (hit) {
			if (lru && l.newest != k) {
				list_remove(&l, k);
				list_push(&l, k);
			}
			continue;
		}
		tally_set(r, i >= skip, bytes);
		if (bytes > budget)
			continue;
		while (used + bytes > budget) {
			A(l.oldest != NIL);
			used -= t->size[l.oldest];
			list_remove(&l, l.oldest);
		}
		list_push(&l, k);
		used += bytes;
	}
	r->all.device_bytes = r->all.set_bytes;
	r->late.device_bytes = r->late.set_bytes;
	r->seconds = (double)(clock_ns() - start) / 1e9;
	free(l.node);
	return true;
}

bool sim_lru(const struct trace *t, uint64_t budget, uint64_t skip, struct result *r)
{
	return simulate(t, budget, skip, true, r);
}

bool sim_fifo(const struct trace *t, uint64_t budget, uint64_t skip, struct result *r)
{
	return simulate(t, budget, skip, false, r);
}
