/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In which states the machines are: segments, paths, write buffers, operations, shared memory, starts and stops. For
 * the table of what each fault has met.
 */
#include "tests/simulation/simulation.h"

#define BIT(m) ((uint64_t)1 << MOMENT_##m)

_Static_assert(MOMENT_N <= 64, "a set of moments is one word");
_Static_assert((int)MOMENT_RECYCLING - MOMENT_VIRGIN == SEG_RECYCLING - SEG_VIRGIN,
	       "moments of segments are in the order of their states");

static uint64_t of_segment(const struct path *p, const struct segment *g)
{
	uint32_t state = atomic_load_explicit(&g->state, memory_order_relaxed);
	uint64_t m = 0;

	A(state <= SEG_RECYCLING); /* no path shrinks here */
	m |= BIT(VIRGIN) << state;
	if (atomic_load_explicit(&g->quarantined, memory_order_relaxed))
		m |= BIT(QUARANTINE);
	if (g->unwalked)
		m |= BIT(UNWALKED);
	if (g->pending != 0 && atomic_load_explicit(&g->pins, memory_order_relaxed) > 0)
		m |= p->parked ? BIT(PENDING) : BIT(PINS);
	return m;
}

static uint64_t of_path(const struct path *p)
{
	bool back = atomic_load(&p->returns_asked) != atomic_load(&p->returns_done);

	if (!atomic_load(&p->offline))
		return BIT(ONLINE);
	if (!atomic_load(&p->gone))
		return BIT(READONLY);
	return (atomic_load(&p->silent) ? BIT(SILENT) : BIT(OFFLINE)) | (back ? BIT(RETURN) : 0);
}

static uint64_t of_wbuf(const struct wbuf *b)
{
	uint64_t m = 0;

	if (!b->active)
		return 0;
	if (b->writing != 0)
		m |= b->tries > 0 ? BIT(AGAIN) : BIT(WRITING);
	if (b->records > 0)
		m |= BIT(DIRTY);
	else if (b->writing == 0 && !b->lost)
		m |= BIT(EMPTY);
	if (b->lost && b->lost_at < b->nentries)
		m |= BIT(LOST);
	if (b->held)
		m |= BIT(HELD);
	if (b->closing && !b->lost)
		m |= BIT(CLOSING);
	return m;
}

static uint64_t of_sop(const struct sop *o)
{
	bool set = o->kind == STEP_SET || o->kind == STEP_ADD;
	uint64_t m = o->op.waits ? BIT(WAIT_MEMORY) : 0;

	if (set && o->done && o->op.body_n > 0)
		return m | (o->len > STORE_WHOLE_MAX && o->at > 0 ? BIT(RECEIVING) : BIT(BODY));
	if (set)
		return m | BIT(SETTING);
	if (o->kind == STEP_GET && o->at > 0)
		return m | BIT(STREAMING);
	if (o->kind == STEP_DELETE)
		return m | BIT(DELETING);
	if (o->kind == STEP_FLUSH)
		return m | BIT(FLUSHING);
	return o->kind != STEP_ONLINE ? m | BIT(FINDING) : m;
}

static uint64_t of_workers(const struct world *w)
{
	uint64_t m = 0;

	for (unsigned i = 0; i < w->plan->setup.workers; i++) {
		const struct store_worker *sw = w->w[i];

		if (sw == NULL)
			continue;
		if (sw->wait[WAIT_WRITE].head != NULL)
			m |= BIT(WAIT_WRITE);
		if (!atomic_load(&sw->gone) &&
		    atomic_load(&sw->grace_seen) < atomic_load(&w->s->grace))
			m |= BIT(GRACE);
	}
	return m;
}

uint64_t state_all(const struct world *w)
{
	const struct store *s = w->s;
	uint64_t m = 0;
	bool busy = false;

	if (w->starting)
		return BIT(START_CLEAN) << w->ended;
	if (s == NULL)
		return 0;
	for (unsigned i = 0; i < s->npaths; i++) {
		const struct path *p = &s->path[i];

		for (uint32_t k = 0; p->seg != NULL && k < p->nseg; k++)
			m |= of_segment(p, &p->seg[k]);
		m |= of_path(p);
	}
	for (unsigned i = 0; i < SIM_SLOTS; i++)
		if (w->slot[i].used) {
			m |= of_sop(&w->slot[i]);
			busy = true;
		}
	for (unsigned i = 0; i < s->nwbuf; i++) {
		m |= of_wbuf(&s->wbuf[i]);
		busy = busy || s->wbuf[i].active;
	}
	m |= of_workers(w);
	m |= atomic_load(&s->live->owed) != 0    ? BIT(SHM_OWED)
	     : atomic_load(&s->live->doubt) != 0 ? BIT(SHM_DOUBT)
						 : BIT(SHM_GOOD);
	if (w->loading)
		m |= BIT(LOADING);
	if (w->stopping)
		m |= BIT(STOPPING);
	return busy ? m : m | BIT(IDLE);
}

uint64_t state_of(const struct world *w, unsigned path, const struct io_op *op)
{
	const char *at = (const char *)op;
	const struct store *s = w->s;
	const struct path *p;
	uint64_t m;

	if (s == NULL || w->starting)
		return 0;
	p = &s->path[path];
	m = of_path(p);
	if (op->kind != IO_SYNC && op->u.disk.off >= SIM_SEG)
		m |= of_segment(p, &p->seg[op->u.disk.off / SIM_SEG - 1]);
	if (at >= (const char *)s->wbuf && at < (const char *)(s->wbuf + s->nwbuf))
		m |= of_wbuf(&s->wbuf[(size_t)(at - (const char *)s->wbuf) / sizeof *s->wbuf]);
	return m;
}
