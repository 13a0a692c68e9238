/* SPDX-License-Identifier: Apache-2.0 */
/* Queues of keys, newest to oldest. The nodes are an array by key that several queues share. */
#ifndef BENCH_SIM_LIST_H
#define BENCH_SIM_LIST_H

#include <stdint.h>

#define NIL UINT32_MAX

struct node {
	uint32_t newer, older;
	uint8_t queue; /* the policy's; 0: in none */
	uint8_t used;  /* the policy's */
};

struct list {
	struct node *node;
	uint32_t newest, oldest;
	uint64_t bytes;
};

static inline void list_push(struct list *l, uint32_t k, uint8_t queue, uint32_t bytes)
{
	struct node *n = &l->node[k];

	n->newer = NIL;
	n->older = l->newest;
	n->queue = queue;
	if (l->newest != NIL)
		l->node[l->newest].newer = k;
	else
		l->oldest = k;
	l->newest = k;
	l->bytes += bytes;
}

static inline void list_remove(struct list *l, uint32_t k, uint32_t bytes)
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
	n->queue = 0;
	l->bytes -= bytes;
}

#endif
