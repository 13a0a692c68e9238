/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deaths: what is kept of a process that was killed or lost its power, and in which states it was.
 *
 * What it had in shared memory when it died is put back when its shade has closed; after a power cut
 * there is none.
 */
#include "tests/simulation/simulation.h"

void world_hurt_again(struct world *w)
{
	for (unsigned i = 0; i < w->plan->setup.paths; i++)
		for (unsigned k = 1; k < 64 && (k + 1) * SIM_SEG <= w->plan->setup.size; k++)
			if (w->hurt[i][k] != 0)
				walk_damage(w, i, k * SIM_SEG, SIM_SEG);
}

/* Between the write of a segment's next header and its sync, the old life is over or not. */
static void recycled_or_not(struct world *w)
{
	if (w->s == NULL || w->starting)
		return;
	for (unsigned i = 0; i < w->s->npaths; i++) {
		const struct path *p = &w->s->path[i];
		uint32_t seg = w->header_of[i];

		if (seg < p->nseg && atomic_load(&p->seg[seg].state) == SEG_RECYCLING)
			world_may_go(loc_of(p, seg, 0), loc_of(p, seg + 1, 0));
	}
}

/* ---- in which states it was -------------------------------------------------------------------- */

static void note_segments(const struct path *p, enum fault f)
{
	for (uint32_t k = 0; p->seg != NULL && k < p->nseg; k++) {
		const struct segment *g = &p->seg[k];

		cover_crash((enum moment)(MOMENT_VIRGIN + atomic_load(&g->state)), f);
		if (atomic_load(&g->quarantined))
			cover_crash(MOMENT_QUARANTINE, f);
		if (g->unwalked)
			cover_crash(MOMENT_UNWALKED, f);
		if (g->pending != 0 && p->parked)
			cover_crash(MOMENT_PENDING, f);
	}
}

static void note_path(const struct path *p, enum fault f)
{
	bool back = atomic_load(&p->returns_asked) != atomic_load(&p->returns_done);

	if (back && atomic_load(&p->offline) && atomic_load(&p->gone))
		cover_crash(MOMENT_RETURN, f);
	cover_crash(!atomic_load(&p->offline) ? MOMENT_ONLINE
		    : !atomic_load(&p->gone)  ? MOMENT_READONLY
		    : atomic_load(&p->silent) ? MOMENT_SILENT
					      : MOMENT_OFFLINE,
		    f);
}

static bool note_wbuf(const struct wbuf *b, enum fault f)
{
	if (!b->active)
		return false;
	if (b->writing != 0)
		cover_crash(b->tries > 0 ? MOMENT_AGAIN : MOMENT_WRITING, f);
	if (b->records > 0)
		cover_crash(MOMENT_DIRTY, f);
	else if (b->writing == 0 && !b->lost)
		cover_crash(MOMENT_EMPTY, f);
	if (b->held)
		cover_crash(MOMENT_HELD, f);
	if (b->closing && !b->lost)
		cover_crash(MOMENT_CLOSING, f);
	return true;
}

static bool note_op(const struct sop *o, enum fault f)
{
	bool set = o->kind == STEP_SET || o->kind == STEP_ADD;

	if (!o->used)
		return false;
	if (o->op.waits)
		cover_crash(MOMENT_WAIT_MEMORY, f);
	if (set && o->done && o->op.body_n > 0)
		cover_crash(o->len > STORE_WHOLE_MAX && o->at > 0 ? MOMENT_RECEIVING : MOMENT_BODY,
			    f);
	else if (set)
		cover_crash(MOMENT_SETTING, f);
	else if (o->kind == STEP_GET && o->at > 0)
		cover_crash(MOMENT_STREAMING, f);
	else if (o->kind == STEP_DELETE)
		cover_crash(MOMENT_DELETING, f);
	else if (o->kind == STEP_FLUSH)
		cover_crash(MOMENT_FLUSHING, f);
	else if (o->kind != STEP_ONLINE)
		cover_crash(MOMENT_FINDING, f);
	return true;
}

static void note_moments(struct world *w, enum fault f)
{
	const struct store *s = w->s;
	bool busy = false;

	if (s == NULL || w->starting)
		return;
	for (unsigned i = 0; i < s->npaths; i++) {
		note_segments(&s->path[i], f);
		note_path(&s->path[i], f);
	}
	for (unsigned i = 0; i < SIM_SLOTS; i++)
		busy = note_op(&w->slot[i], f) || busy;
	for (unsigned i = 0; i < w->plan->setup.workers; i++)
		if (w->w[i] != NULL && w->w[i]->wait[WAIT_WRITE].head != NULL)
			cover_crash(MOMENT_WAIT_WRITE, f);
	for (unsigned i = 0; i < s->nwbuf; i++)
		busy = note_wbuf(&s->wbuf[i], f) || busy;
	cover_crash(atomic_load(&s->live->owed) != 0    ? MOMENT_SHM_OWED
		    : atomic_load(&s->live->doubt) != 0 ? MOMENT_SHM_DOUBT
							: MOMENT_SHM_GOOD,
		    f);
	if (w->stopping)
		cover_crash(MOMENT_STOPPING, f);
	if (!busy)
		cover_crash(MOMENT_IDLE, f);
}

/* ---- the death --------------------------------------------------------------------------------- */

void world_die(struct world *w, bool power)
{
	const struct setup *c = &w->plan->setup;
	const struct sim_config *sc = sim_env_config(w->env);
	uint64_t now = sim_env_now(w->env), slack;

	if (w->dead)
		return;
	if (w->s != NULL && !w->starting)
		world_watch_paths(w);
	world_hurt_again(w);
	recycled_or_not(w);
	note_moments(w, power ? FAULT_POWER : FAULT_KILL);
	w->dead = true;
	w->power = power;
	w->ended = power ? ENDED_POWER : ENDED_KILL;
	w->died_at = now;
	say("%s", power ? "power cut" : "killed");
	if (power)
		cover->powers++;
	else
		cover->kills++;
	cover->cut_starts += w->starting;
	if (!power)
		sim_shm_keep();
	if (power)
		sim_env_power_loss(w->env);
	else
		sim_env_kill(w->env);
	for (unsigned i = 0; i < SIM_SLOTS; i++)
		w->slot[i].given_up = true;
	/*
	 * The promise is --sync, and the time that the disk itself takes: for one pass of the slow worker's
	 * duties, which may be a recycle.
	 */
	slack = c->sync_ns + 50 * NS_PER_MS + 400 * (sc->read_ns[1] + sc->write_ns[1]) +
		50 * sc->sync_ns[1] + w->delays;
	model_died(w->model, power, now > slack ? now - slack : 0, now);
}
