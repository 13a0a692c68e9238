/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns. Workers have no threads: they take turns. A turn of another worker may also come inside any
 * submit, as if the processor had been taken away there; a worker on the stack is not turned again (busy[]).
 * The slow worker is only turned at the bottom of the stack, since it waits for the others.
 */
#include <stdio.h>

#include "tests/simulation/simulation.h"

static void turn_worker(struct world *w, unsigned i)
{
	if (w->busy[i] || w->w[i] == NULL)
		return;
	w->busy[i] = true;
	A(io_turn(w->io[i], 0) >= 0);
	(void)store_worker_turn(w->w[i]);
	w->busy[i] = false;
}

void world_pump(struct world *w)
{
	const struct step *st;

	if (w->dead || w->stopping || w->checking || w->starting || w->next >= w->plan->n)
		return;
	st = &w->plan->step[w->next];
	if (st->kind > STEP_DELETE || !sop_start(w, st))
		return;
	w->next++;
}

void world_turn_others(struct world *w)
{
	unsigned first = (unsigned)world_rnd(w, w->plan->setup.workers);

	w->depth++;
	sim_env_advance(w->env, world_rnd(w, 20000));
	for (unsigned i = 0; i < w->plan->setup.workers && !w->dead; i++)
		turn_worker(w, (first + i) % w->plan->setup.workers);
	sops_go_on(w);
	if (world_rnd(w, 2) == 0)
		world_pump(w);
	w->depth--;
}

void world_on_yield(void *arg)
{
	struct world *w = arg;

	fault_on_yield(w);
	world_turn_others(w);
	for (unsigned i = 0; i < w->plan->setup.workers && w->dead; i++)
		turn_worker(w, i); /* shades must end, too */
	/* it may wait for seconds, and looks at the clock */
	sim_env_advance(w->env, w->idle_turns > 1000 ? 50000 : 2000);
	if (++w->idle_turns > SIM_STUCK)
		violation("the slow worker waits for ever");
}

void world_watch_paths(struct world *w)
{
	for (unsigned i = 0; i < w->s->npaths && !w->dead; i++) {
		bool offline = atomic_load(&w->s->path[i].offline);

		if (w->s->path[i].parked && !w->parked[i])
			cover->parked++;
		w->parked[i] = w->s->path[i].parked;
		if (!offline && w->was_offline[i]) {
			w->was_offline[i] = false;
			cover->returned++;
		} else if (offline && !w->was_offline[i]) {
			if (!w->plan->setup.faults)
				violation("path %u went offline, and nothing was wrong with it", i);
			w->was_offline[i] = w->failed[i] = true;
			cover->offline++;
			/* deletes of what lies there are kept in memory only: known limit */
			walk_damage(w, i, SIM_SEG, w->plan->setup.size - SIM_SEG);
		}
	}
}

void world_turn(struct world *w)
{
	unsigned n = w->plan->setup.workers + 1, first = (unsigned)world_rnd(w, n);
	uint64_t now = sim_env_now(w->env), next, nap = w->plan->setup.sync_ns / 16;

	w->turns++;
	for (unsigned i = 0; i < n; i++)
		turn_worker(w, (first + i) % n);
	world_watch_paths(w);
	sops_go_on(w);
	next = sim_env_next(w->env);
	if (next == UINT64_MAX)
		sim_env_advance(w->env, NS_PER_MS);
	else if (next > now)
		sim_env_advance(w->env, next - now < nap ? next - now : nap); /* timers are kept */
	else
		sim_env_advance(w->env, 500);
	if (++w->idle_turns > SIM_STUCK) {
		for (unsigned i = 0; i < SIM_SLOTS; i++)
			if (w->slot[i].used)
				fprintf(stderr,
					"    w%u op %u key %u is stuck at step %u, done %d\n",
					w->slot[i].worker, w->slot[i].kind, w->slot[i].key,
					w->slot[i].op.step, w->slot[i].done);
		violation("nothing comes to an end any more");
	}
}

void world_drain(struct world *w)
{
	w->idle_turns = 0;
	while (sop_any(w))
		world_turn(w);
}
