/* SPDX-License-Identifier: Apache-2.0 */
/*
 * S3-FIFO as its authors have it (J. Yang, Y. Zhang, Z. Qiu, Y. Yue, R. Vinayak, "FIFO queues are
 * all you need for cache eviction", SOSP 2023, algorithm 1), with bytes for objects: a tenth of
 * the budget is the small queue's, the ghost queue remembers as many bytes as the main queue may
 * have, uses are counted up to three.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "bench/sim/list.h"
#include "bench/sim/sim.h"

enum { SMALL = 1, MAIN, GHOST };
#define USED_MAX 3u

struct s3fifo {
	struct list small, main, ghost;
	uint64_t budget, small_max;
	const uint32_t *size;
};

static void ghost_push(struct s3fifo *s, uint32_t k)
{
	list_push(&s->ghost, k, GHOST, s->size[k]);
	while (s->ghost.bytes > s->budget - s->small_max)
		list_remove(&s->ghost, s->ghost.oldest, s->size[s->ghost.oldest]);
}

/* One step; something has left the cache, or moved from small to main, or round main. */
static void evict_step(struct s3fifo *s)
{
	bool small = s->small.bytes > s->small_max || s->main.oldest == NIL;
	struct list *from = small ? &s->small : &s->main;
	uint32_t k = from->oldest;
	struct node *n;

	A(k != NIL);
	n = &from->node[k];
	list_remove(from, k, s->size[k]);
	if (small && n->used > 1) {
		n->used = 0;
		list_push(&s->main, k, MAIN, s->size[k]);
	} else if (small) {
		ghost_push(s, k);
	} else if (n->used > 0) {
		n->used--;
		list_push(&s->main, k, MAIN, s->size[k]);
	}
}

bool sim_s3fifo(const struct trace *t, uint64_t budget, uint64_t skip, struct run *r)
{
	struct node *node = calloc(t->nkeys, sizeof(*node));
	struct s3fifo s = {.small = {node, NIL, NIL, 0},
			   .main = {node, NIL, NIL, 0},
			   .ghost = {node, NIL, NIL, 0},
			   .budget = budget,
			   .small_max = budget / 10,
			   .size = t->size};
	uint64_t start = clock_ns();

	*r = (struct run){.name = "S3-FIFO", .size = budget};
	if (node == NULL)
		return false;
	for (uint64_t i = 0; i < t->n; i++) {
		uint32_t k = t->key[i], bytes = t->size[k];
		bool remembered = node[k].queue == GHOST;
		bool hit = node[k].queue != 0 && !remembered;

		tally_get(r, i >= skip, bytes, hit);
		if (hit) {
			if (node[k].used < USED_MAX)
				node[k].used++;
			continue;
		}
		tally_set(r, i >= skip, bytes);
		if (bytes > budget)
			continue;
		if (remembered)
			list_remove(&s.ghost, k, bytes);
		while (s.small.bytes + s.main.bytes + bytes > budget)
			evict_step(&s);
		node[k].used = 0;
		list_push(remembered ? &s.main : &s.small, k, remembered ? MAIN : SMALL, bytes);
	}
	r->all.device_bytes = r->all.set_bytes;
	r->late.device_bytes = r->late.set_bytes;
	r->seconds = (double)(clock_ns() - start) / 1e9;
	free(node);
	return true;
}
