/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deaths: what is kept of a process that was killed or lost its power.
 *
 * What it had in shared memory when it died is put back when its shade has closed; after a power cut
 * there is none.
 */
#include "tests/simulation/simulation.h"

/*
 * Of a killed process's segment something could not be read, twice: the index has it all the same, and the table, which
 * is all that a start from the disk reads, has not.
 */
static void ragged_may_go(struct world *w)
{
	for (unsigned i = 0; w->plan->setup.faults && i < w->s->npaths; i++) {
		const struct path *p = &w->s->path[i];

		for (uint32_t seg = 0; seg < p->nseg; seg++)
			if (p->seg[seg].ragged)
				world_may_go(loc_of(p, seg, 0), loc_of(p, seg + 1, 0));
	}
}

void world_hurt_again(struct world *w)
{
	if (w->s != NULL && !w->starting)
		ragged_may_go(w);
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
	cover_at(state_all(w), power ? FAULT_POWER : FAULT_KILL);
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
