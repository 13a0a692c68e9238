/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What LRU of every size makes of a trace, by one pass: the stack distances of R. L. Mattson et al.,
 * "Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2), 1970, in bytes.
 */
#include <stdlib.h>

#include "bench/sim/sim.h"

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void tree_add(uint64_t *tree, uint64_t n, uint64_t at, uint64_t bytes)
{
	for (; at <= n; at += at & -at)
		tree[at] += bytes;
}

static uint64_t tree_sum(const uint64_t *tree, uint64_t at)
{
	uint64_t sum = 0;

	for (; at > 0; at -= at & -at)
		sum += tree[at];
	return sum;
}

uint64_t *stack_distances(const struct trace *t)
{
	uint64_t *distance = malloc(t->n * sizeof(*distance));
	uint64_t *tree = calloc(t->n + 1, sizeof(*tree)); /* bytes, at the key's last request */
	uint64_t *last = calloc(t->nkeys, sizeof(*last));
	uint64_t total = 0;

	if (distance == NULL || tree == NULL || last == NULL) {
		free(distance);
		distance = NULL;
	}
	for (uint64_t i = 0; distance != NULL && i < t->n; i++) {
		uint32_t k = t->key[i], bytes = t->size[k];

		distance[i] = UINT64_MAX;
		if (last[k] != 0) {
			/* what was asked for since, and itself */
			distance[i] = total - tree_sum(tree, last[k]) + bytes;
			tree_add(tree, t->n, last[k], 0 - (uint64_t)bytes);
		} else {
			total += bytes;
		}
		last[k] = i + 1;
		tree_add(tree, t->n, i + 1, bytes);
	}
	free(tree);
	free(last);
	if (distance != NULL)
		qsort(distance, t->n, sizeof(*distance), by_value);
	return distance;
}

uint64_t stack_hits(const uint64_t *distance, uint64_t n, uint64_t bytes)
{
	uint64_t from = 0;

	while (from < n) {
		uint64_t mid = from + (n - from) / 2;

		if (distance[mid] <= bytes)
			from = mid + 1;
		else
			n = mid;
	}
	return from;
}
