/* SPDX-License-Identifier: Apache-2.0 */
/* S3-FIFO by bytes; see policy.h. docs/decisions.md has the figures behind the constants. */
#include "ocache/policy.h"

#define SMALL_SHARE(bytes) ((bytes) / 10)
#define GHOST_MIN          64u
#define PASS_MAX           256u /* held objects passed over for one victim */

void policy_open(struct policy *p, const uint64_t seed[2])
{
	*p = (struct policy){.seed = {seed[0], seed[1]}};
}

void policy_close(struct policy *p)
{
	ghost_close(&p->ghost);
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

/* The memory of what has left has room for as many as main has; it is grown by starting anew. */
static void fit_ghost(struct policy *p)
{
	uint64_t want = p->q[POLICY_MAIN].entries;

	if (want < GHOST_MIN)
		want = GHOST_MIN;
	if (want > p->ghost_entries) {
		ghost_close(&p->ghost);
		p->ghost_entries = 0;
		if (ghost_open(want * 2, &p->ghost) != 0)
			return;
		p->ghost_entries = want * 2;
	}
	if (p->ghost != NULL)
		ghost_window(p->ghost, want);
}

void policy_insert(struct policy *p, struct entry *e)
{
	bool back = p->ghost != NULL && ghost_take(p->ghost, table_hash(p->seed, e->id));

	atomic_store_explicit(&e->used, 0, memory_order_relaxed);
	push(p, e, back ? POLICY_MAIN : POLICY_SMALL);
}

struct entry *policy_evict(struct policy *p, uint64_t budget,
			   bool (*pinned)(void *ctx, const struct entry *e), void *ctx)
{
	for (unsigned passed = 0; passed < PASS_MAX;) {
		bool small = p->q[POLICY_SMALL].bytes > SMALL_SHARE(budget) ||
			     p->q[POLICY_MAIN].oldest == NULL;
		struct entry *e = p->q[small ? POLICY_SMALL : POLICY_MAIN].oldest;
		bool used;

		if (e == NULL)
			return NULL;
		used = atomic_load_explicit(&e->used, memory_order_relaxed) != 0;
		policy_remove(p, e);
		if (used) {
			atomic_store_explicit(&e->used, 0, memory_order_relaxed);
			push(p, e, POLICY_MAIN);
		} else if (pinned(ctx, e)) {
			push(p, e, POLICY_MAIN); /* it is in use, and would free nothing */
			passed++;
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

uint64_t policy_bytes(const struct policy *p)
{
	return p->ghost != NULL ? ghost_bytes(p->ghost) : 0;
}
