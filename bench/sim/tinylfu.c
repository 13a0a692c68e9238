/* SPDX-License-Identifier: Apache-2.0 */
/*
 * W-TinyLFU (G. Einziger, R. Friedman, B. Manes, "TinyLFU: a highly efficient cache admission
 * policy", ACM Transactions on Storage 13(4), 2017): a window of 1 % (LRU), and a main part of two
 * LRU segments, 20 % probation and 80 % protected. What leaves the window is let into main if it
 * is asked for more often than what would have to go for it, by a count-min sketch of 4-bit
 * counters that are halved after ten times as many requests as there are objects. With sizes: more
 * often than all of its victims together (G. Einziger, O. Eytan, R. Friedman, B. Manes,
 * "Lightweight robust size aware cache management", ACM Transactions on Storage 18(3), 2022,
 * "aggregated victims").
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "bench/sim/list.h"
#include "bench/sim/sim.h"

enum { WINDOW = 1, PROBATION, PROTECTED, QUEUES };
#define ROWS      4u
#define COUNT_MAX 15u

struct sketch {
	uint8_t *count; /* a counter a byte here; what counts is that it ends at 15 */
	uint64_t mask;  /* of the counters of a row */
	uint64_t adds, adds_max;
};

static uint8_t *sketch_at(const struct sketch *s, uint32_t k, uint64_t row)
{
	return &s->count[row * (s->mask + 1) + (mix64(k + (row << 32) + 1) & s->mask)];
}

static unsigned sketch_get(const struct sketch *s, uint32_t k)
{
	unsigned least = COUNT_MAX;

	for (uint64_t row = 0; row < ROWS; row++) {
		unsigned n = *sketch_at(s, k, row);

		least = n < least ? n : least;
	}
	return least;
}

static void sketch_add(struct sketch *s, uint32_t k)
{
	bool added = false;

	for (uint64_t row = 0; row < ROWS; row++) {
		uint8_t *n = sketch_at(s, k, row);

		if (*n < COUNT_MAX) {
			++*n;
			added = true;
		}
	}
	s->adds += added;
	if (s->adds < s->adds_max)
		return;
	for (uint64_t i = 0; i < ROWS * (s->mask + 1); i++)
		s->count[i] /= 2;
	s->adds /= 2;
}

struct tinylfu {
	struct list q[QUEUES];
	struct sketch sketch;
	uint64_t window_max, main_max, protected_max;
	const uint32_t *size;
};

static void move(struct tinylfu *p, uint32_t k, uint8_t to)
{
	struct list *from = &p->q[p->q[WINDOW].node[k].queue];

	list_remove(from, k, p->size[k]);
	list_push(&p->q[to], k, to, p->size[k]);
}

static void hit_one(struct tinylfu *p, uint32_t k)
{
	uint8_t queue = p->q[WINDOW].node[k].queue;

	move(p, k, queue == WINDOW ? WINDOW : PROTECTED);
	while (p->q[PROTECTED].bytes > p->protected_max)
		move(p, p->q[PROTECTED].oldest, PROBATION);
}

static uint64_t main_bytes(const struct tinylfu *p)
{
	return p->q[PROBATION].bytes + p->q[PROTECTED].bytes;
}

/* The next victim after k, oldest first, probation before protected; k NIL: the first. */
static uint32_t next_victim(const struct tinylfu *p, uint32_t k)
{
	const struct node *node = p->q[WINDOW].node;

	if (k == NIL)
		k = p->q[PROBATION].oldest;
	else if (node[k].newer != NIL)
		return node[k].newer;
	else
		k = node[k].queue == PROBATION ? NIL : p->q[PROTECTED].oldest;
	return k != NIL ? k : p->q[PROTECTED].oldest;
}

/* What has left the window against those that would have to go. */
static void admit(struct tinylfu *p, uint32_t k)
{
	uint64_t bytes = p->size[k], need, room = 0, victims = 0;
	unsigned uses = sketch_get(&p->sketch, k);
	uint32_t victim = NIL;

	list_remove(&p->q[WINDOW], k, p->size[k]);
	if (bytes > p->main_max)
		return;
	need = main_bytes(p) + bytes > p->main_max ? main_bytes(p) + bytes - p->main_max : 0;
	while (room < need) {
		victim = next_victim(p, victim);
		A(victim != NIL);
		room += p->size[victim];
		victims += sketch_get(&p->sketch, victim);
		if (victims >= uses)
			return;
	}
	while (main_bytes(p) + bytes > p->main_max) {
		victim = next_victim(p, NIL);
		list_remove(&p->q[p->q[WINDOW].node[victim].queue], victim, p->size[victim]);
	}
	list_push(&p->q[PROBATION], k, PROBATION, p->size[k]);
}

static bool sketch_open(struct sketch *s, uint64_t objects)
{
	uint64_t counters = 64;

	while (counters < objects)
		counters *= 2;
	s->count = calloc(counters, ROWS);
	s->mask = counters - 1;
	s->adds_max = 10 * (objects > 6 ? objects : 6);
	return s->count != NULL;
}

bool sim_tinylfu(const struct trace *t, uint64_t budget, uint64_t skip, struct run *r)
{
	struct node *node = calloc(t->nkeys, sizeof(*node));
	struct tinylfu p = {.window_max = budget / 100, .size = t->size};
	uint64_t start = clock_ns();

	*r = (struct run){.name = "W-TinyLFU", .size = budget};
	p.main_max = budget - p.window_max;
	p.protected_max = p.main_max / 5 * 4;
	for (unsigned q = WINDOW; q < QUEUES; q++)
		p.q[q] = (struct list){node, NIL, NIL, 0};
	if (node == NULL || !sketch_open(&p.sketch, (uint64_t)((double)budget * t->nkeys /
							       (double)t->distinct_bytes))) {
		free(node);
		return false;
	}
	for (uint64_t i = 0; i < t->n; i++) {
		uint32_t k = t->key[i], bytes = t->size[k];
		bool hit = node[k].queue != 0;

		tally_get(r, i >= skip, bytes, hit);
		sketch_add(&p.sketch, k);
		if (hit) {
			hit_one(&p, k);
			continue;
		}
		tally_set(r, i >= skip, bytes);
		list_push(&p.q[WINDOW], k, WINDOW, bytes);
		while (p.q[WINDOW].bytes > p.window_max)
			admit(&p, p.q[WINDOW].oldest);
	}
	r->all.device_bytes = r->all.set_bytes;
	r->late.device_bytes = r->late.set_bytes;
	r->seconds = (double)(clock_ns() - start) / 1e9;
	free(node);
	free(p.sketch.count);
	return true;
}
