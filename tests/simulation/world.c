/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine: simulated disks, and a process that opens the store, does what the plan's steps say, and
 * ends or dies.
 *
 * A process that dies goes on as a shade: its I/O fails, nothing it says or writes counts, and it must be able to
 * close with every pool at zero.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/simulation/simulation.h"

#define IDLE_STEPS    50000u
#define HOLD_AT_START 3u
#define LAP_EPOCH     100000u /* above all of the plan's */
#define LAP_MOST      20000u

struct world *world;
uint64_t world_digest;

void say(const char *fmt, ...)
{
	va_list ap;

	if (world == NULL || !world->verbose)
		return;
	fprintf(stderr, "%12.6f  ", (double)sim_env_now(world->env) / 1e9);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

void violation(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "VIOLATION at %.6f s, step %u: ",
		world != NULL && world->env != NULL ? (double)sim_env_now(world->env) / 1e9 : 0.0,
		world != NULL ? world->next : 0);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	fflush(stderr);
	_exit(SIM_VIOLATED);
}

/* ---- opening and closing ----------------------------------------------------------------------- */

static void check_rest(struct world *w)
{
	struct store *s = w->s;
	struct ram_stats ram;

	for (unsigned i = 0; i <= w->plan->setup.workers; i++) {
		if (atomic_load(&w->w[i]->charged) != 0 || w->w[i]->in_flight != 0 ||
		    w->w[i]->bodies != 0)
			violation("worker %u holds %" PRIu64 " bytes, %" PRIu64
				  " operations, %" PRIu64 " bytes of bodies at its end",
				  i, atomic_load(&w->w[i]->charged), w->w[i]->in_flight,
				  w->w[i]->bodies);
	}
	ram_stats(s->ram, &ram);
	if (ram.pinned_bytes != 0 || ram.outside_bytes != 0)
		violation("%" PRIu64 " bytes of RAM are held, %" PRIu64 " outside of the arena",
			  ram.pinned_bytes, ram.outside_bytes);
	for (unsigned i = 0; i < s->nwbuf; i++)
		if (s->wbuf[i].active || atomic_load(&s->wbuf[i].pins) != 0 ||
		    atomic_load(&s->wbuf[i].base) != 0)
			violation("write buffer %u is in use at the end", i);
	for (unsigned i = 0; i < LARGE_SETS_MAX; i++)
		if (atomic_load(&s->large[i].state) != 0)
			violation("a long set is under way at the end");
	for (unsigned i = 0; i < s->npaths; i++) {
		struct path *p = &s->path[i];
		uint32_t ordered = 0, n[SEG_STATES] = {0};

		for (uint32_t k = 0; k < p->nseg; k++) {
			struct segment *g = &p->seg[k];
			uint32_t state = atomic_load(&g->state);

			if (atomic_load(&g->pins) != 0)
				violation("path %u segment %u is pinned at the end", i, k);
			n[state]++;
			if ((state == SEG_OPEN || state == SEG_FULL) &&
			    (g->extents != 0 || g->allowed != 0))
				violation("path %u segment %u has extents at the end", i, k);
		}
		for (unsigned t = 0; t < STREAMS; t++)
			ordered += p->order[t].n;
		if (n[SEG_CLEAN] != p->nclean || n[SEG_VIRGIN] != p->virgins ||
		    n[SEG_OPEN] + n[SEG_FULL] + n[SEG_SEALED] != ordered)
			violation(
			    "path %u: %u clean of %u, %u virgin of %u, %u in order of %u: space "
			    "is lost",
			    i, n[SEG_CLEAN], p->nclean, n[SEG_VIRGIN], p->virgins,
			    n[SEG_OPEN] + n[SEG_FULL] + n[SEG_SEALED], ordered);
		if (!atomic_load(&p->offline) && n[SEG_OPEN] + n[SEG_FULL] != 0)
			violation("path %u: %u segments are not sealed after a clean stop", i,
				  n[SEG_OPEN] + n[SEG_FULL]);
	}
}

/* What nobody waits for any more is still the kernel's. */
static void wait_late(struct world *w)
{
	w->idle_turns = 0;
	while (store_late(w->s) > 0)
		world_turn(w);
}

/* Stops and closes a living process, or what is left of a dead one. */
static void close_store(struct world *w)
{
	unsigned slow = w->plan->setup.workers;
	struct store_counters c;

	w->stopping = true;
	world_drain(w);
	for (unsigned i = 0; i < w->plan->setup.paths; i++)
		if (w->hangs[i]) /* else the process would be killed after a while */
			fault_heal_path(w, i);
	wait_late(w);
	for (unsigned i = 0; i < slow; i++)
		store_worker_stop(w->w[i]);
	w->idle_turns = 0;
	for (unsigned i = 0; i < slow; i++)
		while (!store_worker_idle(w->w[i]))
			world_turn(w);
	store_worker_stop(w->w[slow]);
	w->idle_turns = 0;
	while (!store_worker_idle(w->w[slow]))
		world_turn(w);
	wait_late(w);
	check_rest(w);
	if (!w->dead)
		world_hurt_again(w);
	store_counters(w->s, &c);
	cover->admitted += c.admitted_later;
	cover->reinserted += atomic_load(&w->s->reinserted);
	for (unsigned i = 0; i < w->s->npaths; i++) {
		w->recycled += atomic_load(&w->s->path[i].seg_recycled);
		cover->sealed += atomic_load(&w->s->path[i].seg_sealed);
	}
	for (unsigned i = 0; i <= slow; i++)
		store_worker_close(&w->w[i]);
	for (unsigned i = 0; i <= slow; i++)
		io_close(&w->io[i]);
	store_close(&w->s);
	memset(w->was_offline, 0, sizeof w->was_offline);
	memset(w->failed, 0, sizeof w->failed);
	if (w->dead)
		sim_shm_restore();
	else
		model_ended(w->model);
	w->stopping = false;
}

/* Reads every key, through the ordinary operations and their judge. */
static void verify(struct world *w)
{
	w->checking = true;
	for (unsigned k = 0; k < w->plan->setup.keys; k++) {
		struct step st = {.kind = STEP_GET,
				  .key = (uint16_t)k,
				  .worker = (uint8_t)(k % w->plan->setup.workers)};

		while (!sop_start(w, &st))
			world_turn(w);
		sops_go_on(w);
	}
	world_drain(w);
	w->checking = false;
	for (unsigned k = 0; k < w->plan->setup.keys; k++) {
		uint32_t epoch = world_where(k);

		if (epoch != 0 && !any_offline(w)) /* else its path may come back empty */
			model_there(w->model, k, epoch, sim_env_now(w->env));
	}
}

/* How a start has gone about it, and what it has met. */
static void note_start(const struct world *w, enum layer l, enum ended before)
{
	atomic_fetch_add_explicit(&cover->layer[l][before], 1, memory_order_relaxed);
	for (unsigned f = 0; f < FAULT_N; f++)
		if (w->start_met >> f & 1)
			atomic_fetch_add_explicit(&cover->start[l][f], 1, memory_order_relaxed);
}

static void note_layer(struct world *w)
{
	enum layer l = strcmp(w->s->layer, "shm") == 0    ? LAYER_SHM
		       : strcmp(w->s->layer, "disk") == 0 ? LAYER_DISK
							  : LAYER_EMPTY;

	note_start(w, l, w->ended);
	w->after_kill = w->ended == ENDED_KILL;
	w->ended = ENDED_CLEAN;
}

static void settle(struct world *w)
{
	bool busy = true;

	world_drain(w);
	for (unsigned n = 0; busy && !w->dead && n < IDLE_STEPS; n++) {
		busy = false;
		world_turn(w);
		for (unsigned i = 0; i < w->s->nwbuf; i++) {
			struct wbuf *b = &w->s->wbuf[i];

			if (b->active && b->dirty_since == 0 && b->writing == 0)
				b->idle_since = 1; /* as if nobody had used it for long */
			busy = busy || b->active;
		}
	}
}

/* Some header on disk may be ahead of memory, or a path is not what memory says. */
static bool comparable(const struct world *w)
{
	for (unsigned i = 0; i < w->s->npaths; i++) {
		if (atomic_load(&w->s->path[i].offline))
			return false;
		for (uint32_t k = 0; k < w->s->path[i].nseg; k++)
			if (atomic_load(&w->s->path[i].seg[k].state) == SEG_RECYCLING)
				return false;
	}
	return true;
}

/* The start goes on, and the store serves what has been read of its disks, and what is new [M-5]. */
static void serve_early(struct world *w)
{
	unsigned turns = 0;

	w->loading = true;
	model_hide(w->model, true);
	w->idle_turns = 0;
	while (!w->dead && store_loading(w->s)) {
		if (world_rnd(w, 2) == 0)
			world_pump(w);
		world_turn(w);
		if (++turns % 2000 == 0) { /* it waits for a path, and no step of the plan comes */
			fault_heal(w);
			store_paths_online(w->s);
		}
	}
	if (!w->dead) {
		model_hide(w->model, false);
		settle(w); /* what is on its way must be on the disks */
	}
	w->loading = false;
}

/* What a first start has left half written is nobody's: the operator is told so, and empties it. */
static void empty_devices(struct world *w)
{
	static const uint8_t zeros[2 * FORMAT_ALIGN];

	for (unsigned i = 0; i < w->plan->setup.paths; i++)
		if (sim_disk_size(w->env, w->path[i]) >= sizeof zeros)
			sim_disk_poke(w->env, w->path[i], 0, zeros, sizeof zeros);
	say("the operator empties what no store was made on");
}

/* False: the store cannot be opened any more, for a reason that it may have. */
static bool open_store(struct world *w)
{
	struct io_config ic = {.entries = 128, .disk_depth = 32};
	char *cause = NULL;

	for (unsigned tries = 0;; tries++) {
		enum ended before = w->ended;
		int res;

		if (w->super_damaged) /* a path may have to come back empty */
			for (unsigned k = 0; k < w->plan->setup.keys; k++)
				model_damaged(w->model, k);
		w->dead = false;
		w->starting = true;
		w->start_fault = false;
		w->start_met = 0;
		w->nstart_gone = 0;
		res = store_open(&w->cfg, sim_env_engine(w->env), &w->s, &cause);
		w->starting = false;
		if (res == 0 && !w->dead)
			break;
		note_start(w, LAYER_NONE, before);
		if (res == 0) {
			/* it died with its last I/O, and opened all the same: nobody knows */
			store_close(&w->s);
			sim_shm_restore();
			continue;
		}
		w->s = NULL;
		say("start: %s", cause);
		if (cause == NULL)
			violation("a start failed without a word: %s", strerror(-res));
		free(cause);
		cause = NULL;
		if (w->dead) {
			sim_shm_restore();
			continue;
		}
		if (w->super_damaged)
			return false;
		if (!w->plan->setup.faults || tries > HOLD_AT_START + 8)
			violation("the store cannot be opened: %s", strerror(-res));
		if (res == -EINVAL && !w->made)
			empty_devices(w);
		fault_heal(w);
		if (!w->plan->setup.meets || tries > HOLD_AT_START)
			fault_disarm(w);
		w->ended = ENDED_START; /* it gave up by itself */
	}
	w->made = true;
	cover->restarts++;
	note_layer(w);
	for (unsigned i = 0; i < w->nstart_gone; i++) {
		uint32_t epoch, seg, at;
		unsigned key = world_record(w->start_gone[i], &epoch);
		struct path *p = loc_path(w->s, w->start_gone[i], &seg, &at);

		/* of this life: what the segment holds in its next one is something else */
		w->start_life[i] = atomic_load(&p->seg[seg].generation);
		if (key != SIM_KEYS)
			model_gone(w->model, key, epoch, true);
	}
	for (unsigned i = 0; i <= w->plan->setup.workers; i++) {
		AZ(io_open(sim_env_engine(w->env), &ic, &w->io[i], &cause));
		w->busy[i] = true;
		AZ(store_worker_open(w->s, w->io[i], i, &w->w[i], &cause));
		w->busy[i] = false;
		w->io[i]->on_wake = (void (*)(void *))store_worker_woken;
		w->io[i]->wake_arg = w->w[i];
	}
	say("start: from %s%s", w->s->layer, store_loading(w->s) ? ", serving meanwhile" : "");
	if (store_loading(w->s)) {
		serve_early(w);
		if (w->dead)
			return true;
		if (comparable(w))
			walk_compare(w);
	} else {
		walk_compare(w);
	}
	/* what it does before anything else can fail, too */
	for (unsigned i = 0; i < 3 && !w->dead; i++)
		world_turn(w);
	if (!w->dead)
		verify(w);
	return true;
}

/* ---- steps ------------------------------------------------------------------------------------- */

static bool restart(struct world *w)
{
	bool open;

	do { /* it may die again before all has been read */
		close_store(w);
		open = open_store(w);
	} while (open && w->dead);
	return open;
}

static uint64_t recycled(const struct world *w)
{
	uint64_t n = w->recycled;

	for (unsigned i = 0; i < w->s->npaths; i++)
		n += atomic_load(&w->s->path[i].seg_recycled);
	return n;
}

/* A schedule recycles as many segments as the store has; what the plan's steps have left of that is done here. */
static void lap(struct world *w)
{
	const struct setup *c = &w->plan->setup;
	uint64_t want = c->paths * (c->size / SIM_SEG - 1);
	uint32_t epoch = LAP_EPOCH;

	for (unsigned n = 0; recycled(w) < want; n++) {
		uint16_t key = (uint16_t)(n % c->keys);
		static const enum step_kind kind[] = {STEP_DELETE, STEP_SET, STEP_SET};

		if (n > LAP_MOST)
			violation("%" PRIu64 " of %" PRIu64 " segments were recycled", recycled(w),
				  want);
		for (epoch++; value_len(c, key, epoch) < STORE_WHOLE_MAX / 2 ||
			      value_len(c, key, epoch) > STORE_WHOLE_MAX;
		     epoch++)
			if (epoch % 64 == 0)
				break;
		/* the second time admits it to the disk, if the first did not */
		for (unsigned i = 0; i < (c->admit == STORE_ADMIT_SECOND ? 3u : 2u); i++) {
			struct step st = {.kind = (uint8_t)kind[i],
					  .key = key,
					  .epoch = epoch,
					  .worker = (uint8_t)(n % c->workers)};

			while (!sop_start(w, &st))
				world_turn(w);
			world_drain(w);
		}
	}
	cover->laps++;
}

static bool step(struct world *w, const struct step *st)
{
	switch (st->kind) {
	case STEP_PASS: {
		uint64_t end = sim_env_now(w->env) + st->n;

		/* nobody sleeps for long: timers are kept */
		while (!w->dead && sim_env_now(w->env) < end) {
			uint64_t left = end - sim_env_now(w->env), nap = w->cfg.sync_ns / 16;

			sim_env_advance(w->env, left < nap ? left : nap);
			world_turn(w);
		}
		w->idle_turns = 0;
		break;
	}
	case STEP_SETTLE:
		settle(w);
		break;
	case STEP_RAM:
		AZ(store_set_ram(w->s, st->n));
		break;
	case STEP_DRAIN:
		world_drain(w);
		break;
	case STEP_FAULT:
		fault_arm(w, (enum fault)st->fault, st);
		break;
	case STEP_DISK:
		if (!w->away[st->n])
			sim_disk_fault(w->env, w->path[st->n], 0, w->plan->setup.size, SIM_DEAD);
		w->away[st->n] = true;
		break;
	case STEP_FULL:
		w->full[st->n] = true;
		break;
	case STEP_HEAL_ALL:
		fault_heal(w);
		break;
	case STEP_HEAL:
		fault_heal_path(w, (unsigned)st->n);
		break;
	case STEP_KILL:
	case STEP_POWER:
		if (st->n == 0 && st->aim < AIM_START)
			world_die(w, st->kind == STEP_POWER);
		else
			fault_arm(w, st->kind == STEP_POWER ? FAULT_POWER : FAULT_KILL, st);
		break;
	case STEP_STOP:
		w->stopping = true;
		world_drain(w);
		if (!w->dead)
			return restart(w);
		break;
	default:
		w->idle_turns = 0;
		while (!w->dead && !sop_start(w, st))
			world_turn(w);
	}
	for (unsigned i = 0; i < st->turns && !w->dead; i++)
		world_turn(w);
	return true;
}

/* The plan begins with what comes before the store is made. */
static bool of_first_start(const struct step *st)
{
	return st->aim == AIM_START &&
	       (st->kind == STEP_FAULT || st->kind == STEP_KILL || st->kind == STEP_POWER);
}

void world_run(const struct plan *p, bool verbose)
{
	struct world *w = calloc(1, sizeof *w);
	const struct setup *c = &p->setup;
	bool open;

	AN(w != NULL);
	world = w;
	w->plan = p;
	w->verbose = verbose;
	w->env = sim_env_new(c->seed, &c->sim);
	w->model = model_new(c);
	w->cfg = (struct store_config){
	    .npaths = c->paths,
	    .size = c->size,
	    .mean_value = c->mean_value,
	    .item_max = c->item_max,
	    .workers = c->workers,
	    .ram_bytes = c->ram,
	    .buffer_bytes = c->buffers,
	    .sync_ns = c->sync_ns,
	    .io_timeout_ns = c->io_timeout_ns,
	    .admit = c->admit,
	    .write_budget = c->write_budget,
	    /* by the seed alone: what chance decides stays as it was */
	    .scrub_rate = c->seed % 4 == 0 ? 0 : 4ull << 20 >> STORE_SHRINK << (c->seed % 4 * 2),
	    .recency_ns = (20 + c->seed % 100) * NS_PER_MS,
	    .shm_dir = "/shm",
	    .seed = c->seed | 1,
	    .yield = world_on_yield,
	    .yield_arg = w,
	    .gone = world_on_gone,
	    .gone_arg = w,
	};
	for (unsigned i = 0; i < c->paths; i++) {
		snprintf(w->path[i], sizeof w->path[i], c->device ? "/dev/disk%u" : "disk%u", i);
		if (c->device)
			sim_disk_make(w->env, w->path[i], c->size);
		w->cfg.paths[i] = w->path[i];
	}
	sim_env_on_submit(w->env, fault_on_submit, w);
	while (w->next < p->n && of_first_start(&p->step[w->next]))
		step(w, &p->step[w->next++]);
	open = open_store(w);
	memory_begin(w);
	while (open && w->next < p->n) {
		const struct step *st = &p->step[w->next++];

		sim_env_reseed(w->env, st->seed);
		memory_check(w);
		open = step(w, st);
		while (open && w->dead)
			open = restart(w);
	}
	if (open) {
		fault_disarm(w);
		fault_heal(w);
		world_drain(w);
		open = restart(w);
	}
	if (open) {
		lap(w);
		if (c->seed % 3 != 0)
			world_die(w, c->seed % 3 == 1);
		open = restart(w);
	}
	if (open)
		close_store(w);
	cover->recycled += w->recycled;
	cover->schedules++;
	world_digest = plan_mix(w->digest ^ sim_env_now(w->env));
	sim_env_free(&w->env);
	model_free(&w->model);
	sim_shm_lose();
	free(w);
	world = NULL;
}
