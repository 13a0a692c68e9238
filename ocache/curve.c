/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sampled miss-ratio curve; see curve.h.
 *
 *     table   hash table of followed objects, by place
 *     heap    the same, the highest place first
 *     tree    bytes by time of last use: a Fenwick tree over positions 1 .. 2 * objects. A use takes the
 *             next position; when there is none left, those in use move together
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "ocache/curve.h"

#define OBJECTS_MIN 64u
#define FAR_BYTES   0x1p62

/* Distances: 32 buckets for each doubling, from 1 KiB to 1 TiB, and one for what is nearer. */
#define SUB     5
#define OCT_MIN 10
#define OCT_MAX 40
#define BUCKETS (1u + ((OCT_MAX - OCT_MIN) << SUB))

_Static_assert(OCACHE_CURVE_POINTS >= BUCKETS, "a point for each");

struct followed {
	uint64_t place, size;
	uint32_t at; /* in the tree; 0: forgotten */
};

struct curve {
	pthread_mutex_t lock;
	_Atomic uint64_t *hint; /* never below `below`, and little above */
	size_t bytes;
	uint32_t max, positions, mask;
	/* under lock: */
	uint64_t below; /* places below it are followed */
	uint32_t n;     /* objects */
	uint32_t last;  /* position that was given out last */
	uint64_t total; /* bytes in the tree */
	uint64_t before;
	double counted; /* accesses, [CV-2] */
	double near[BUCKETS];
	struct followed *object; /* max of them; the first n are used */
	uint16_t *table;         /* number of an object + 1; 0: free */
	uint16_t *heap;
	uint64_t *tree;
	uint16_t *owner; /* by position: number of an object + 1 */
};

int curve_open(uint32_t one_in, uint64_t budget, _Atomic uint64_t *below, struct curve **curve)
{
	const size_t each = sizeof(struct followed) + (2 + 1) * sizeof(uint16_t) +
			    2 * (sizeof(uint64_t) + sizeof(uint16_t));
	uint32_t max = OBJECTS_MIN;
	struct curve *cv;
	size_t bytes;
	char *at;

	while (max < CURVE_OBJECTS && 2 * max * each <= budget / 16)
		max *= 2;
	bytes = sizeof *cv + max * each + sizeof(uint64_t) + sizeof(uint16_t);
	cv = calloc(1, bytes);
	if (cv == NULL)
		return -ENOMEM;
	at = (char *)(cv + 1);
	cv->object = (void *)at;
	at += max * sizeof *cv->object;
	cv->tree = (void *)at;
	at += (2 * (size_t)max + 1) * sizeof *cv->tree;
	cv->table = (void *)at;
	at += 2 * (size_t)max * sizeof *cv->table;
	cv->heap = (void *)at;
	at += max * sizeof *cv->heap;
	cv->owner = (void *)at;
	AZ(pthread_mutex_init(&cv->lock, NULL));
	cv->bytes = bytes;
	cv->max = max;
	cv->positions = 2 * max;
	cv->mask = 2 * max - 1;
	cv->below = UINT64_MAX / one_in;
	cv->hint = below;
	atomic_store_explicit(below, cv->below, memory_order_relaxed);
	*curve = cv;
	return 0;
}

void curve_close(struct curve **curve)
{
	struct curve *cv = *curve;

	if (cv == NULL)
		return;
	AZ(pthread_mutex_destroy(&cv->lock));
	free(cv);
	*curve = NULL;
}

size_t curve_bytes(const struct curve *cv)
{
	return cv != NULL ? cv->bytes : 0;
}

/* ---- the tree ---- */

static void tree_add(struct curve *cv, uint32_t at, uint64_t bytes)
{
	cv->total += bytes;
	for (; at <= cv->positions; at += at & -at)
		cv->tree[at] += bytes;
}

static uint64_t tree_sum(const struct curve *cv, uint32_t at)
{
	uint64_t sum = 0;

	for (; at > 0; at -= at & -at)
		sum += cv->tree[at];
	return sum;
}

/* All positions are given out, not more than half of them in use. */
static void tree_compact(struct curve *cv)
{
	uint32_t to = 0;

	for (uint32_t at = 1; at <= cv->positions; at++) {
		uint16_t o = cv->owner[at];

		if (o == 0)
			continue;
		cv->owner[at] = 0;
		cv->owner[++to] = o;
		cv->object[o - 1].at = to;
	}
	cv->last = to;
	cv->total = 0;
	memset(cv->tree, 0, (cv->positions + 1) * sizeof *cv->tree);
	for (uint32_t at = 1; at <= to; at++)
		tree_add(cv, at, cv->object[cv->owner[at] - 1].size);
}

static void tree_remove(struct curve *cv, struct followed *f)
{
	tree_add(cv, f->at, 0 - f->size);
	cv->owner[f->at] = 0;
	f->at = 0;
}

/* It is used now. */
static void tree_push(struct curve *cv, struct followed *f)
{
	if (cv->last == cv->positions)
		tree_compact(cv);
	f->at = ++cv->last;
	cv->owner[f->at] = (uint16_t)(f - cv->object + 1);
	tree_add(cv, f->at, f->size);
}

/* ---- objects ---- */

static uint32_t home(const struct curve *cv, uint64_t place)
{
	return (uint32_t)(place >> 4) & cv->mask; /* its lowest bits are none */
}

/* The slot of the object of this place, or the free one where it would stand. */
static uint32_t table_slot(const struct curve *cv, uint64_t place)
{
	uint32_t i = home(cv, place);

	while (cv->table[i] != 0 && cv->object[cv->table[i] - 1].place != place)
		i = (i + 1) & cv->mask;
	return i;
}

/* The number of the object + 1; 0: it is not followed. */
static uint16_t find(const struct curve *cv, uint64_t place)
{
	return place < cv->below ? cv->table[table_slot(cv, place)] : 0;
}

/* What stands behind the gap and would not be found any more moves into it. */
static void table_remove(struct curve *cv, uint64_t place)
{
	uint32_t gap = table_slot(cv, place);

	for (uint32_t i = gap;;) {
		uint32_t from;

		i = (i + 1) & cv->mask;
		if (cv->table[i] == 0)
			break;
		from = home(cv, cv->object[cv->table[i] - 1].place);
		if (((i - from) & cv->mask) < ((i - gap) & cv->mask))
			continue;
		cv->table[gap] = cv->table[i];
		gap = i;
	}
	cv->table[gap] = 0;
}

static uint64_t heap_place(const struct curve *cv, uint32_t i)
{
	return cv->object[cv->heap[i]].place;
}

static void heap_up(struct curve *cv, uint32_t i)
{
	uint16_t o = cv->heap[i];

	for (; i > 0 && heap_place(cv, (i - 1) / 2) < cv->object[o].place; i = (i - 1) / 2)
		cv->heap[i] = cv->heap[(i - 1) / 2];
	cv->heap[i] = o;
}

/* Of n that are in the heap, after the first was replaced. */
static void heap_down(struct curve *cv, uint32_t n)
{
	uint16_t o = cv->heap[0];
	uint32_t i = 0, kid;

	while ((kid = 2 * i + 1) < n) {
		kid += kid + 1 < n && heap_place(cv, kid + 1) > heap_place(cv, kid);
		if (heap_place(cv, kid) <= cv->object[o].place)
			break;
		cv->heap[i] = cv->heap[kid];
		i = kid;
	}
	cv->heap[i] = o;
}

static void set_below(struct curve *cv, uint64_t below)
{
	uint64_t hint = atomic_load_explicit(cv->hint, memory_order_relaxed);

	cv->below = below;
	/* all threads read it at each hit: it is not written for every step */
	if (below < hint - hint / 16)
		atomic_store_explicit(cv->hint, below, memory_order_relaxed);
}

/* Follows a place that is not, as find(); 0: the threshold fell to it. */
static uint16_t follow(struct curve *cv, uint64_t place)
{
	struct followed *f;
	uint16_t o;

	if (cv->n < cv->max) {
		o = (uint16_t)cv->n++;
		cv->heap[o] = o;
		cv->object[o] = (struct followed){.place = place};
		heap_up(cv, o);
	} else if (place >= heap_place(cv, 0)) {
		set_below(cv, place);
		return 0;
	} else {
		o = cv->heap[0];
		f = &cv->object[o];
		set_below(cv, f->place);
		if (f->at != 0)
			tree_remove(cv, f);
		table_remove(cv, f->place);
		*f = (struct followed){.place = place};
		heap_down(cv, cv->n);
	}
	o++;
	cv->table[table_slot(cv, place)] = o;
	return o;
}

/* ---- what happens ---- */

static unsigned bucket_of(uint64_t bytes)
{
	unsigned oct = 63u - (unsigned)__builtin_clzll(bytes | 1);

	if (oct < OCT_MIN)
		return 0;
	if (oct >= OCT_MAX)
		return BUCKETS - 1;
	return 1 + ((oct - OCT_MIN) << SUB) +
	       (unsigned)((bytes >> (oct - SUB)) & ((1u << SUB) - 1));
}

/* The highest distance in it. */
static uint64_t bucket_top(unsigned i)
{
	unsigned oct = OCT_MIN + (i >> SUB), sub = i & ((1u << SUB) - 1);

	return (((1ull << SUB) + sub) << (oct - SUB)) - 1;
}

static double one(const struct curve *cv)
{
	return 0x1p64 / ((double)cv->below + 1);
}

void curve_access(struct curve *cv, uint64_t place)
{
	struct followed *f;
	uint16_t o;
	double far;

	pthread_mutex_lock(&cv->lock);
	o = find(cv, place);
	if (place < cv->below)
		cv->counted += one(cv);
	if (o != 0 && cv->object[o - 1].at != 0) { /* else [CV-4] */
		f = &cv->object[o - 1];
		far = (double)(cv->total - tree_sum(cv, f->at)) * one(cv) + (double)f->size;
		far = far < FAR_BYTES ? far : FAR_BYTES;
		cv->near[bucket_of((uint64_t)far)] += one(cv);
		tree_remove(cv, f);
		tree_push(cv, f);
	}
	pthread_mutex_unlock(&cv->lock);
}

void curve_add(struct curve *cv, uint64_t place, uint64_t size)
{
	struct followed *f;
	uint16_t o;

	pthread_mutex_lock(&cv->lock);
	o = find(cv, place);
	if (o == 0 && place < cv->below)
		o = follow(cv, place);
	if (o != 0) {
		f = &cv->object[o - 1];
		if (f->at != 0)
			tree_remove(cv, f);
		f->size = size;
		tree_push(cv, f);
	}
	pthread_mutex_unlock(&cv->lock);
}

void curve_forget(struct curve *cv, uint64_t place)
{
	uint16_t o;

	pthread_mutex_lock(&cv->lock);
	o = find(cv, place);
	if (o != 0 && cv->object[o - 1].at != 0)
		tree_remove(cv, &cv->object[o - 1]);
	pthread_mutex_unlock(&cv->lock);
}

static struct ocache_curve_point point(uint64_t bytes, double hits, double all)
{
	return (struct ocache_curve_point){bytes, hits < 0 ? 1 : hits > all ? 0 : 1 - hits / all};
}

void curve_read(struct curve *cv, uint64_t accesses, bool restart, struct ocache_curve *out)
{
	double hits, all;

	memset(out, 0, sizeof *out);
	pthread_mutex_lock(&cv->lock);
	out->accesses = accesses > cv->before ? accesses - cv->before : 0;
	out->objects = cv->n;
	out->one_in = one(cv);
	all = (double)out->accesses;
	hits = all - cv->counted; /* [CV-3] */
	for (unsigned i = 0; i < BUCKETS && out->accesses > 0; i++) {
		if (cv->near[i] == 0)
			continue;
		/* nothing changes up to where the bucket begins */
		if (i > 0 && cv->near[i - 1] == 0)
			out->point[out->n++] = point(bucket_top(i - 1), hits, all);
		hits += cv->near[i];
		out->point[out->n++] = point(bucket_top(i), hits, all);
	}
	if (restart) {
		cv->before = accesses;
		cv->counted = 0;
		memset(cv->near, 0, sizeof cv->near);
	}
	pthread_mutex_unlock(&cv->lock);
}
