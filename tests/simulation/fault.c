/* SPDX-License-Identifier: Apache-2.0 */
/*
 * At each submit: what the I/O is for, what it meets, and whose turn comes in between.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tests/simulation/simulation.h"

static unsigned who(const struct world *w, const struct io *io)
{
	for (unsigned i = 0; i <= w->plan->setup.workers; i++)
		if (w->io[i] == io)
			return i;
	return SIM_WORKERS + 1;
}

static unsigned path_of(const struct world *w, const struct io_op *op)
{
	for (unsigned i = 0; i < w->plan->setup.paths; i++)
		if (strcmp(w->path[i], op->u.disk.file->info.path) == 0)
			return i;
	A(false);
	return 0;
}

static bool is_wbuf(const struct world *w, const struct io_op *op)
{
	const char *a = (const char *)w->s->wbuf, *b = (const char *)(w->s->wbuf + w->s->nwbuf);

	return (const char *)op >= a && (const char *)op < b;
}

static enum place place_at_start(const struct io_op *op)
{
	uint64_t in = op->u.disk.off % SIM_SEG;

	switch (op->kind) {
	case IO_READ:
		if (op->u.disk.off < SIM_SEG)
			return PLACE_O_SUPER;
		if (in == 0 && op->u.disk.len == FORMAT_ALIGN)
			return PLACE_O_HEADER;
		if (in == SIM_SEG - FORMAT_ALIGN && op->u.disk.len == FORMAT_ALIGN)
			return PLACE_O_FOOTER;
		return PLACE_O_READ;
	case IO_WRITE:
		return op->u.disk.off < SIM_SEG ? PLACE_O_SUPER_WRITE : PLACE_O_REPLAY;
	default:
		return PLACE_O_SYNC;
	}
}

static bool whole_page(const struct io_op *op, uint64_t in_segment)
{
	return op->u.disk.off % SIM_SEG == in_segment && op->u.disk.len == FORMAT_ALIGN;
}

static enum place slow_read(const struct world *w, const struct path *p, const struct io_op *op)
{
	uint64_t off = op->u.disk.off;

	if (off < SIM_SEG)
		return PLACE_PROBE;
	if (whole_page(op, 0))
		return PLACE_BACK_HEADER;
	if (p->seg[off / SIM_SEG - 1].unwalked)
		return PLACE_WALK;
	if (whole_page(op, SIM_SEG - FORMAT_ALIGN))
		return PLACE_R_FOOTER;
	return w->last_slow == PLACE_R_FOOTER &&
		       off % SIM_SEG + op->u.disk.len == SIM_SEG - FORMAT_ALIGN
		   ? PLACE_R_TABLE
		   : PLACE_R_COPY;
}

static enum place slow_write(const struct world *w, const struct path *p, const struct io_op *op)
{
	if (op->u.disk.off < SIM_SEG)
		return atomic_load(&p->offline) ? PLACE_BACK_SUPER : PLACE_EPOCH;
	return is_wbuf(w, op) ? PLACE_R_BLOCK : whole_page(op, 0) ? PLACE_HEADER : PLACE_TABLE;
}

static enum place slow_sync(const struct world *w)
{
	switch (w->last_slow) {
	case PLACE_HEADER:
		return PLACE_HEADER_SYNC;
	case PLACE_EPOCH:
	case PLACE_BACK_SUPER:
		return PLACE_SUPER_SYNC;
	case PLACE_R_FOOTER:
	case PLACE_R_TABLE:
	case PLACE_R_COPY:
	case PLACE_R_BLOCK:
		return PLACE_R_SYNC;
	default:
		return PLACE_SYNC;
	}
}

static enum place place_slow(struct world *w, const struct io_op *op)
{
	const struct path *p = &w->s->path[path_of(w, op)];

	w->last_slow = op->kind == IO_SYNC    ? slow_sync(w)
		       : op->kind == IO_WRITE ? slow_write(w, p, op)
		       : op->kind == IO_READ  ? slow_read(w, p, op)
					      : PLACE_DISCARD;
	return w->last_slow;
}

static enum place place_serving(struct world *w, const struct io_op *op)
{
	if (op->kind == IO_SYNC)
		return PLACE_SYNC;
	if (op->kind == IO_WRITE) {
		if (is_wbuf(w, op))
			return PLACE_BLOCK;
		for (unsigned i = 0; i < LARGE_SETS_MAX; i++) {
			const struct large_set *l = &w->s->large[i];

			if (atomic_load(&l->state) != 0 && l->path == path_of(w, op) &&
			    l->seg == op->u.disk.off / SIM_SEG - 1 &&
			    l->ext_off == op->u.disk.off % SIM_SEG)
				return PLACE_LONG_HEAD;
		}
		return PLACE_LONG_CHUNK;
	}
	for (unsigned i = 0; i < SIM_SLOTS; i++) {
		const struct sop *o = &w->slot[i];

		if (!o->used || o->op.run == NULL || &o->op.run->io != op)
			continue;
		switch (o->kind) {
		case STEP_GET:
			return o->op.run->lv != NULL ? PLACE_GET_AHEAD : PLACE_GET_WHOLE;
		case STEP_HEAD:
			return PLACE_GET_HEAD;
		case STEP_DELETE:
			return PLACE_DELETE_FIND;
		default:
			return PLACE_SET_FIND;
		}
	}
	return PLACE_GET_AHEAD;
}

/* Is it in a segment that is recycled next? So that late reads of gets meet the recycler. */
static bool is_oldest(const struct world *w, const struct io_op *op)
{
	const struct path *p = &w->s->path[path_of(w, op)];
	uint32_t seg = (uint32_t)(op->u.disk.off / SIM_SEG - 1);

	if (p->virgins > 0)
		return false;
	for (unsigned t = 0; t < STREAMS; t++)
		if (p->order[t].n > 0 && p->order[t].ring[p->order[t].head] == seg)
			return true;
	return false;
}

static bool fits(const struct world *w, enum fault f, enum place place, const struct io_op *op)
{
	switch (f) {
	case FAULT_READ_ERROR:
	case FAULT_READ_FLIP:
		return op->kind == IO_READ;
	case FAULT_READ_SHORT:
		return op->kind == IO_READ && op->u.disk.len >= 2 * FORMAT_ALIGN;
	case FAULT_WRITE_SHORT:
		return op->kind == IO_WRITE && op->u.disk.len >= 2 * FORMAT_ALIGN;
	case FAULT_WRITE_ERROR:
	case FAULT_WRITE_FULL:
	case FAULT_WRITE_FLIP:
	case FAULT_WRITE_LOST:
	case FAULT_WRITE_ASTRAY:
		return op->kind == IO_WRITE;
	case FAULT_SYNC_ERROR:
		return op->kind == IO_SYNC;
	case FAULT_OUT:
		return !w->away[path_of(w, op)];
	case FAULT_LATE:
		return w->plan->setup.io_timeout_ns != 0 &&
		       (place != PLACE_GET_WHOLE || is_oldest(w, op));
	case FAULT_HANGS: /* a start waits without a limit; a stop is ended by a kill */
		return w->plan->setup.io_timeout_ns != 0 && !w->starting && !w->stopping &&
		       !w->hangs[path_of(w, op)];
	default:
		return true;
	}
}

/* Bytes of the disk are not what the store believes. Which keys may suffer? */
static void silent(struct world *w, unsigned path, const struct io_op *op, uint64_t to,
		   uint32_t len)
{
	w->silent_damage = true;
	for (uint64_t at = op->u.disk.off; at < op->u.disk.off + op->u.disk.len; at += FORMAT_ALIGN)
		w->hurt[path][at / SIM_SEG] = sim_env_now(w->env);
	for (uint64_t at = to; at < to + len; at += FORMAT_ALIGN)
		w->hurt[path][at / SIM_SEG] = sim_env_now(w->env);
	if (op->u.disk.off < SIM_SEG || to < SIM_SEG)
		w->super_damaged = true;
	walk_damage(w, path, to, len);
	walk_damage(w, path, op->u.disk.off, op->u.disk.len);
	walk_damage_bytes(w, op->u.disk.buf, op->u.disk.len);
}

static void strike(struct world *w, enum fault f, enum place place, const struct io_op *op,
		   struct sim_fate *fate)
{
	unsigned path = path_of(w, op);

	cover_io(place, f);
	cover_of(state_of(w, path, op), f);
	w->start_met |= 1u << f;
	if (f < FAULT_KILL) /* of deaths death.c says it */
		cover_at(state_all(w), f);
	w->start_fault = w->start_fault || (w->starting && f != FAULT_SLOW && f != FAULT_LATE);
	say("fault %d at place %d: path %u, segment %d, byte %" PRIu64 ", %u bytes", f, place, path,
	    (int)(op->u.disk.off / SIM_SEG) - 1, op->u.disk.off % SIM_SEG, op->u.disk.len);
	switch (f) {
	case FAULT_READ_ERROR:
	case FAULT_WRITE_ERROR:
	case FAULT_SYNC_ERROR:
		fate->what = SIM_FATE_ERROR;
		fate->err = -EIO;
		break;
	case FAULT_WRITE_FULL:
		fate->what = SIM_FATE_ERROR;
		fate->err = -ENOSPC;
		break;
	case FAULT_READ_FLIP:
		fate->what = SIM_FATE_FLIP;
		break;
	case FAULT_WRITE_FLIP:
		fate->what = SIM_FATE_FLIP;
		silent(w, path, op, op->u.disk.off, op->u.disk.len);
		break;
	case FAULT_READ_SHORT:
	case FAULT_WRITE_SHORT:
		fate->what = SIM_FATE_SHORT;
		break;
	case FAULT_WRITE_LOST:
		fate->what = SIM_FATE_LOST;
		silent(w, path, op, op->u.disk.off, op->u.disk.len);
		break;
	case FAULT_WRITE_ASTRAY:
		fate->what = SIM_FATE_ASTRAY;
		fate->to = world_rnd(w, (w->plan->setup.size - op->u.disk.len) / FORMAT_ALIGN) *
			   FORMAT_ALIGN;
		silent(w, path, op, fate->to, op->u.disk.len);
		break;
	case FAULT_SLOW:
		fate->delay_ns = world_rnd(w, 20 * NS_PER_MS);
		w->delays += fate->delay_ns;
		break;
	case FAULT_LATE:
		fate->delay_ns = w->plan->setup.io_timeout_ns + world_rnd(w, 400 * NS_PER_MS);
		if (place <= PLACE_GET_AHEAD) /* no sync waits for a get */
			fate->delay_ns += world_rnd(w, 6 * NS_PER_S);
		else
			w->delays += fate->delay_ns;
		break;
	case FAULT_OUT:
		sim_disk_fault(w->env, w->path[path], 0, w->plan->setup.size, SIM_DEAD);
		w->away[path] = true;
		break;
	case FAULT_HANGS:
		sim_disk_hang(w->env, w->path[path], true);
		w->hangs[path] = true;
		w->delays +=
		    8 * w->plan->setup.io_timeout_ns; /* so long everybody may wait for it */
		break;
	case FAULT_KILL:
		world_die(w, false);
		break;
	case FAULT_POWER:
		world_die(w, true);
		break;
	default:
		break;
	}
}

/* States that deaths would hardly meet by chance. */
static bool rare(const struct world *w)
{
	for (unsigned i = 0; i < SIM_SLOTS; i++)
		if (w->slot[i].used && (w->slot[i].op.waits || w->slot[i].kind == STEP_FLUSH))
			return true;
	for (unsigned i = 0; i < w->s->npaths; i++)
		if (w->s->path[i].parked)
			return true;
	return false;
}

/* Does this one count for what is armed? */
static bool aimed(const struct world *w, unsigned arm, unsigned me, enum place place, unsigned path,
		  const struct io_op *op)
{
	unsigned slow = w->plan->setup.workers;

	switch (w->arm[arm].aim) {
	case AIM_ANY:
		return me <= slow;
	case AIM_SERVING:
		return me < slow;
	case AIM_SLOW:
		return me == slow;
	case AIM_START:
		return me > slow;
	case AIM_PLACE:
		return w->arm[arm].place == place;
	case AIM_RARE:
		return me <= slow && rare(w);
	case AIM_STATE:
		return state_all(w) >> w->arm[arm].place & 1;
	case AIM_OWN:
		return state_of(w, path, op) >> w->arm[arm].place & 1;
	default:
		return false;
	}
}

static void met(const struct world *w, unsigned path, enum place place, const struct io_op *op,
		enum fault f)
{
	cover_io(place, f);
	cover_of(state_of(w, path, op), f);
	cover_at(state_all(w), f);
}

/* What the whole path is like. */
static void of_the_path(struct world *w, unsigned path, enum place place, const struct io_op *op,
			struct sim_fate *fate)
{
	if (w->away[path])
		met(w, path, place, op, FAULT_OUT);
	if (w->hangs[path])
		met(w, path, place, op, FAULT_HANGS);
	if (w->full[path] && op->kind == IO_WRITE) {
		met(w, path, place, op, FAULT_WRITE_FULL);
		w->start_fault = w->start_fault || w->starting;
		fate->what = SIM_FATE_ERROR;
		fate->err = -ENOSPC;
	}
}

void fault_on_submit(void *arg, struct io *io, const struct io_op *op, struct sim_fate *fate)
{
	struct world *w = arg;
	unsigned me = who(w, io), workers = w->plan->setup.workers, path;
	enum place place;
	bool whole = true;

	if (w->dead)
		return;
	path = path_of(w, op);
	place = me > workers    ? place_at_start(op)
		: me == workers ? place_slow(w, op)
				: place_serving(w, op);
	atomic_fetch_add_explicit(&cover->all[place], 1, memory_order_relaxed);
	if (place == PLACE_HEADER)
		w->header_of[path] = (uint32_t)(op->u.disk.off / SIM_SEG - 1);
	of_the_path(w, path, place, op, fate);
	if (me <= workers)
		world_watch_paths(w);
	for (unsigned i = 0; i < SIM_ARMS && !w->checking; i++) {
		if (!w->arm[i].on || !fits(w, (enum fault)w->arm[i].fault, place, op) ||
		    !aimed(w, i, me, place, path, op))
			continue;
		if (w->arm[i].in > 0) {
			w->arm[i].in--;
			continue;
		}
		w->arm[i].on = false;
		whole = false;
		strike(w, (enum fault)w->arm[i].fault, place, op, fate);
		if (w->dead)
			return;
	}
	/* the segment's next life; but not the rest of a short write, and what went astray lands later */
	if (whole && place == PLACE_HEADER && op->u.disk.did == 0 &&
	    sim_env_now(w->env) - w->hurt[path][op->u.disk.off / SIM_SEG] > NS_PER_S)
		w->hurt[path][op->u.disk.off / SIM_SEG] = 0;
	if (me <= workers && w->depth < 3 && !w->checking && world_rnd(w, 3) == 0)
		world_turn_others(w);
}

void fault_on_yield(struct world *w)
{
	if (w->dead || w->s == NULL || w->starting || w->checking)
		return;
	for (unsigned i = 0; i < SIM_ARMS && !w->dead; i++) {
		enum fault f = (enum fault)w->arm[i].fault;

		if (!w->arm[i].on || w->arm[i].aim != AIM_YIELD)
			continue;
		if (w->arm[i].in > 0) {
			w->arm[i].in--;
			continue;
		}
		w->arm[i].on = false;
		world_die(w, f == FAULT_POWER);
	}
}

void fault_arm(struct world *w, enum fault f, const struct step *st)
{
	for (unsigned i = 0; i < SIM_ARMS; i++)
		if (!w->arm[i].on) {
			w->arm[i].on = true;
			w->arm[i].fault = (uint8_t)f;
			w->arm[i].aim = st->aim;
			w->arm[i].place = st->place;
			w->arm[i].in = st->n;
			return;
		}
}

void fault_disarm(struct world *w)
{
	for (unsigned i = 0; i < SIM_ARMS; i++)
		w->arm[i].on = false;
}

void fault_heal_path(struct world *w, unsigned path)
{
	if (w->away[path])
		sim_disk_fault(w->env, w->path[path], 0, w->plan->setup.size, SIM_OK);
	if (w->hangs[path])
		sim_disk_hang(w->env, w->path[path], false);
	w->away[path] = w->full[path] = w->hangs[path] = false;
}

void fault_heal(struct world *w)
{
	for (unsigned i = 0; i < w->plan->setup.paths; i++)
		fault_heal_path(w, i);
}
