/* SPDX-License-Identifier: Apache-2.0 */
/* S3-FIFO by bytes; see policy.h. docs/policies.md has the figures behind the constants. */
#include "ocache/policy.h"

#define MAIN_SHARE(bytes) ((bytes) - (bytes) / 45) /* [PO-5] */
#define GHOST_MIN         64u
#define GHOST_STEP        4u   /* entries, for each object that came back and was looked at again */
#define STEPS_MAX         256u /* spared for one victim; then they go, used or not */
#define HELD_MAX          256u /* held objects passed over for one victim */

void policy_open(struct policy *p, const uint64_t seed[2])
{
	*p = (struct policy){.seed = {seed[0], seed[1]}};
}

void policy_close(struct policy *p)
{
	ghost_close(&p->ghost);
}

void policy_forget(struct policy *p)
{
	atomic_store_explicit(&p->ghost_base, 0, memory_order_relaxed);
	atomic_store_explicit(&p->ghost_sets, 0, memory_order_relaxed);
	ghost_close(&p->ghost);
	p->ghost_entries = p->ghost_bytes = p->ghost_short = 0;
}

static void push(struct policy *p, struct entry *e, enum policy_queue q)
{
	e->queue = (uint8_t)q;
	e->newer = NULL;
	e->older = p->q[q].newest;
	*(e->older != NULL ? &e->older->newer : &p->q[q].oldest) = e;
	p->q[q].newest = e;
	p->q[q].bytes += e->size;
	p->q[q].entries++;
}

void policy_remove(struct policy *p, struct entry *e)
{
	unsigned q = e->queue;

	*(e->newer != NULL ? &e->newer->older : &p->q[q].newest) = e->older;
	*(e->older != NULL ? &e->older->newer : &p->q[q].oldest) = e->newer;
	e->newer = e->older = NULL;
	p->q[q].bytes -= e->size;
	p->q[q].entries--;
}

/* [PO-4] */
static uint64_t ghost_most(const struct policy *p)
{
	return p->q[POLICY_MAIN].entries * 5 / 4;
}

/* The memory of what has left has room for all that it may remember; it is grown by starting anew. */
static void fit_ghost(struct policy *p)
{
	uint64_t most = ghost_most(p), want;
	struct ghost_where where;

	if (p->ghost_short > most / 2)
		p->ghost_short = most / 2;
	want = most - p->ghost_short;
	if (want < GHOST_MIN)
		want = GHOST_MIN;
	if (want > p->ghost_entries) {
		ghost_close(&p->ghost);
		p->ghost_entries = p->ghost_bytes = 0;
		if (ghost_open(want * 2, &p->ghost) != 0)
			return;
		p->ghost_entries = want * 2;
		p->ghost_bytes = ghost_bytes(p->ghost);
		where = ghost_where(p->ghost);
		atomic_store_explicit(&p->ghost_base, where.base, memory_order_relaxed);
		atomic_store_explicit(&p->ghost_sets, where.nsets, memory_order_relaxed);
	}
	if (p->ghost != NULL)
		ghost_window(p->ghost, want);
}

void policy_insert(struct policy *p, struct entry *e, uint64_t budget)
{
	bool room = p->q[POLICY_MAIN].bytes + e->size <= MAIN_SHARE(budget); /* [PO-2] */

	e->back = p->ghost != NULL && ghost_take(p->ghost, table_hash(p->seed, e->id));
	atomic_store_explicit(&e->uses, 0, memory_order_relaxed);
	push(p, e, e->back || room ? POLICY_MAIN : POLICY_SMALL);
}

/* [PO-4] The first look at an object since it came back: was it worth it? */
static void judge_ghost(struct policy *p, struct entry *e, bool used)
{
	if (used)
		p->ghost_short -= p->ghost_short < GHOST_STEP ? p->ghost_short : GHOST_STEP;
	else if (p->ghost_short < ghost_most(p) / 2)
		p->ghost_short += GHOST_STEP;
	e->back = false;
}

struct entry *policy_evict(struct policy *p, uint64_t budget,
			   bool (*pinned)(void *ctx, const struct entry *e), void *ctx)
{
	for (unsigned steps = 0, held = 0; held < HELD_MAX; steps++) {
		bool small = p->q[POLICY_MAIN].oldest == NULL ||
			     (p->q[POLICY_MAIN].bytes <= MAIN_SHARE(budget) &&
			      p->q[POLICY_SMALL].oldest != NULL);
		struct entry *e = p->q[small ? POLICY_SMALL : POLICY_MAIN].oldest;
		unsigned uses;

		if (e == NULL)
			return NULL;
		uses = atomic_load_explicit(&e->uses, memory_order_relaxed);
		if (e->back && !small)
			judge_ghost(p, e, uses > 0);
		policy_remove(p, e);
		if (uses > 0 && steps < STEPS_MAX) { /* [PO-3] */
			atomic_store_explicit(&e->uses, (uint8_t)(uses - 1), memory_order_relaxed);
			push(p, e, POLICY_MAIN);
		} else if (pinned(ctx, e)) {
			push(p, e, POLICY_MAIN); /* it is in use, and would free nothing */
			held++;
		} else {
			if (small) {
				fit_ghost(p);
				if (p->ghost != NULL)
					ghost_add(p->ghost, table_hash(p->seed, e->id));
			}
			return e;
		}
	}
	return NULL;
}

/* Who is next was fetched when he was the one after. */
void policy_prefetch_evict(const struct policy *p, const struct table *t)
{
	for (unsigned q = 0; q < POLICY_QUEUES; q++) {
		const struct entry *next = p->q[q].oldest;

		if (next == NULL)
			continue;
		if (next->newer != NULL)
			__builtin_prefetch(next->newer);
		table_prefetch(t, table_hash(p->seed, next->id));
		if (q == POLICY_SMALL)
			policy_prefetch_insert(p, table_hash(p->seed, next->id));
	}
}
