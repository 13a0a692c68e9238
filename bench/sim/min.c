/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Belady's MIN (L. A. Belady, "A study of replacement algorithms for a virtual-storage computer",
 * IBM Systems Journal 5(2), 1966), with bypass: a heap of the resident keys, the one whose next use
 * is farthest on top. What is never used again is not taken in, which is never worse.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "bench/sim/sim.h"

#define NOT_IN UINT32_MAX

/* [M-1] at[heap[i].key] == i, NOT_IN for all others. [M-2] No child is farther than its parent. */
struct heap {
	struct {
		uint64_t next;
		uint32_t key;
	} * e;
	uint32_t *at;
	uint32_t n;
};

static void heap_place(struct heap *h, uint32_t i, uint64_t next, uint32_t key)
{
	h->e[i].next = next;
	h->e[i].key = key;
	h->at[key] = i;
}

static void heap_up(struct heap *h, uint32_t i, uint64_t next, uint32_t key)
{
	while (i > 0) {
		uint32_t parent = (i - 1) / 2;

		if (h->e[parent].next >= next)
			break;
		heap_place(h, i, h->e[parent].next, h->e[parent].key);
		i = parent;
	}
	heap_place(h, i, next, key);
}

static void heap_down(struct heap *h, uint32_t i, uint64_t next, uint32_t key)
{
	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= h->n)
			break;
		if (child + 1 < h->n && h->e[child + 1].next > h->e[child].next)
			child++;
		if (h->e[child].next <= next)
			break;
		heap_place(h, i, h->e[child].next, h->e[child].key);
		i = child;
	}
	heap_place(h, i, next, key);
}

static void heap_pop(struct heap *h)
{
	A(h->n > 0);
	h->at[h->e[0].key] = NOT_IN;
	if (--h->n > 0)
		heap_down(h, 0, h->e[h->n].next, h->e[h->n].key);
}

bool sim_min(const struct trace *t, uint64_t budget, uint64_t skip, struct run *r)
{
	struct heap h = {.e = calloc(t->nkeys, sizeof(*h.e)),
			 .at = malloc((uint64_t)t->nkeys * sizeof(*h.at))};
	uint64_t *next = trace_next_uses(t);
	uint64_t start = clock_ns(), used = 0;
	bool ok = h.e != NULL && h.at != NULL && next != NULL;

	*r = (struct run){.name = "MIN", .size = budget};
	if (!ok)
		goto out;
	memset(h.at, 0xff, (uint64_t)t->nkeys * sizeof(*h.at));
	for (uint64_t i = 0; i < t->n; i++) {
		uint32_t k = t->key[i], bytes = t->size[k];
		bool hit = h.at[k] != NOT_IN;

		tally_get(r, i >= skip, bytes, hit);
		if (hit) /* its next use was now, so it has become farther */
			heap_up(&h, h.at[k], next[i], k);
		else
			tally_set(r, i >= skip, bytes);
		if (hit || bytes > budget || next[i] == UINT64_MAX)
			continue;
		used += bytes;
		heap_up(&h, h.n++, next[i], k);
		while (used > budget) {
			used -= t->size[h.e[0].key];
			heap_pop(&h);
		}
		if (h.at[k] != NOT_IN) { /* what is not taken in is not written */
			r->all.device_bytes += bytes;
			r->late.device_bytes += i >= skip ? bytes : 0;
		}
	}
	r->seconds = (double)(clock_ns() - start) / 1e9;
out:
	free(h.e);
	free(h.at);
	free(next);
	return ok;
}
