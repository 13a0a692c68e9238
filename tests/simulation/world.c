/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine: simulated disks, a process that opens the store, works and dies, and what happens at each
 * submit.
 *
 * Workers have no threads: they take turns. A turn of another worker may also come inside any submit, as if
 * the processor had been taken away there; a worker on the stack is not turned again (busy[]). The slow
 * worker is only turned at the bottom of the stack, since it waits for the others.
 *
 * A process that dies goes on as a shade: its I/O fails, nothing it says or writes counts, and it must be able to
 * close with every pool at zero. What it had in shared memory when it died is put back afterwards, or
 * not after a power cut.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/xxh.h"
#include "tests/simulation/simulation.h"

#define SEG           ((uint64_t)FORMAT_SEG_MIN)
#define STUCK         100000u /* turns without an end of anything */
#define IDLE_STEPS    2000u
#define PIECE_MAX     (STORE_WHOLE_MAX + 65536u)
#define HOLD_AT_START 3u

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
	if (world != NULL) {
		char cmd[200];

		snprintf(cmd, sizeof cmd, "rm -rf %s", world->shm);
		(void)!system(cmd);
	}
	_exit(SIM_VIOLATED);
}

static uint64_t rnd(struct world *w, uint64_t n)
{
	return sim_env_random(w->env, n);
}

/* ---- who is it --------------------------------------------------------------------------------- */

unsigned world_key(uint64_t hash)
{
	struct world *w = world;
	char name[SIM_KEY_MAX + 1];

	for (unsigned i = 0; i < w->plan->setup.keys; i++) {
		unsigned n = key_name(name, i);

		if (XXH3_64bits_withSeed(name, n, w->s->hash_secret) == hash)
			return i;
	}
	return SIM_KEYS;
}

static unsigned key_of(const char *name, unsigned n)
{
	char have[SIM_KEY_MAX + 1];
	unsigned k;

	if (n < 5 || n > SIM_KEY_MAX || sscanf(name, "key-%u", &k) != 1 || k >= SIM_KEYS)
		return SIM_KEYS;
	return key_name(have, k) == n && memcmp(have, name, n) == 0 ? k : SIM_KEYS;
}

unsigned world_record(uint64_t loc, uint32_t *epoch)
{
	struct world *w = world;
	struct store *s = w->s;
	uint8_t mem[512];
	uint32_t seg, at, n;
	struct path *p = loc_path(s, loc, &seg, &at);
	const struct format_record *r = (const struct format_record *)(const void *)mem;
	struct format_record rec;

	if (p == NULL || at > SEG / FORMAT_UNIT - 4)
		return SIM_KEYS;
	n = wbuf_copy(s, loc, mem, sizeof mem);
	if (n == 0) {
		n = sizeof mem;
		sim_disk_peek(w->env, w->path[p->index],
			      seg_offset(p, seg) + (uint64_t)at * FORMAT_UNIT, mem, n);
	}
	if (record_check(mem, n, s->id_seed, r->generation, at, &rec) != RECORD_GOOD ||
	    rec.type != FORMAT_VALUE)
		return SIM_KEYS;
	*epoch = rec.flags;
	return key_of((const char *)mem + sizeof rec, rec.key_len);
}

uint32_t world_where(unsigned key)
{
	struct index_probe probe;
	char name[SIM_KEY_MAX + 1];
	unsigned n = key_name(name, key);
	uint32_t epoch;

	index_find(world->s->index, XXH3_64bits_withSeed(name, n, world->s->hash_secret), &probe);
	for (unsigned i = 0; i < probe.n; i++)
		if (world_record(probe.ref[i].loc, &epoch) == key)
			return epoch;
	return 0;
}

static void on_gone(void *arg, enum store_gone why, uint64_t hash, uint64_t loc)
{
	struct world *w = arg;
	uint32_t epoch = 0, seg, at;
	unsigned key;

	if (w->dead)
		return;
	if (w->s == NULL) {
		A(w->nstart_gone < sizeof w->start_gone / sizeof w->start_gone[0]);
		w->start_gone[w->nstart_gone++] = loc;
		return;
	}
	if (why == STORE_GONE_SEGMENT) {
		struct path *p = loc_path(w->s, loc, &seg, &at);

		say("gone: path %u segment %u", p->index, seg);
		if (!w->plan->setup.faults)
			violation("segment %u is quarantined, and nothing was wrong with it", seg);
		for (unsigned k = 0; k < w->plan->setup.keys; k++) {
			struct index_probe probe;
			char name[SIM_KEY_MAX + 1];
			unsigned n = key_name(name, k);
			uint32_t seg2;

			index_find(w->s->index, XXH3_64bits_withSeed(name, n, w->s->hash_secret),
				   &probe);
			for (unsigned i = 0; i < probe.n; i++)
				if (loc_path(w->s, probe.ref[i].loc, &seg2, &at) == p &&
				    seg2 == seg)
					model_gone(w->model, k, 0, true);
		}
		cover->quarantined++;
		return;
	}
	if (why == STORE_GONE_VICTIM) {
		key = world_record(loc, &epoch);
		cover->victims++;
		if (key == SIM_KEYS) {
			if (!w->plan->setup.faults)
				violation("an index victim is no record");
			return;
		}
	} else {
		unsigned is;

		key = world_key(hash);
		if (key == SIM_KEYS)
			violation("a hash left that is no key's");
		is = world_record(loc, &epoch);
		if (is != key)
			epoch = 0; /* damaged, or of another life by now */
		if (why == STORE_GONE_RECYCLED)
			cover->evicted++;
	}
	if (why == STORE_GONE_UNREADABLE && !w->plan->setup.faults)
		violation(
		    "key %u: its record was not readable, and nothing was wrong with the disk",
		    key);
	say("gone: key %u epoch %u, why %d", key, epoch, why);
	model_gone(w->model, key, epoch, why != STORE_GONE_RECYCLED);
}

/* ---- death ------------------------------------------------------------------------------------- */

static void keep_shm(struct world *w)
{
	struct corpse *c = &w->corpse;
	struct dirent *e;
	DIR *d = opendir(w->shm);

	c->n = 0;
	AN(d != NULL);
	while ((e = readdir(d)) != NULL) {
		struct stat st;
		size_t at = 0;
		int fd;

		if (e->d_name[0] == '.')
			continue;
		A(c->n < 8);
		snprintf(c->name[c->n], sizeof c->name[0], "%s/%.100s", w->shm, e->d_name);
		fd = open(c->name[c->n], O_RDONLY | O_CLOEXEC);
		A(fd >= 0);
		AZ(fstat(fd, &st));
		c->len[c->n] = (size_t)st.st_size;
		c->mem[c->n] = malloc(c->len[c->n] + 1);
		AN(c->mem[c->n] != NULL);
		while (at < c->len[c->n]) {
			ssize_t n = read(fd, (char *)c->mem[c->n] + at, c->len[c->n] - at);

			A(n > 0);
			at += (size_t)n;
		}
		close(fd);
		c->n++;
	}
	closedir(d);
}

/* What the dead process left in shared memory, and nothing that its shade did to it. */
static void restore_shm(struct world *w)
{
	struct corpse *c = &w->corpse;
	struct dirent *e;
	DIR *d = opendir(w->shm);
	char name[400];

	AN(d != NULL);
	while ((e = readdir(d)) != NULL) {
		snprintf(name, sizeof name, "%s/%s", w->shm, e->d_name);
		if (e->d_name[0] != '.')
			unlink(name);
	}
	closedir(d);
	for (unsigned i = 0; i < c->n; i++) {
		int fd = open(c->name[i], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		size_t at = 0;

		A(fd >= 0);
		while (at < c->len[i]) {
			ssize_t n = write(fd, (char *)c->mem[i] + at, c->len[i] - at);

			A(n > 0);
			at += (size_t)n;
		}
		close(fd);
		free(c->mem[i]);
	}
	c->n = 0;
}

/* What has been written since to segments that are not what the store believes. */
static void hurt_again(struct world *w)
{
	for (unsigned i = 0; i < w->plan->setup.paths; i++)
		for (unsigned k = 1; k < 64 && (k + 1) * SEG <= w->plan->setup.size; k++)
			if (w->hurt[i][k])
				walk_damage(w, i, k * SEG, SEG);
}

/* Between the write of a segment's next header and its sync, the old life is over or not. */
static void recycled_or_not(struct world *w)
{
	char name[SIM_KEY_MAX + 1];
	struct index_probe probe;
	uint32_t seg, at;

	for (unsigned k = 0; w->s != NULL && !w->starting && k < w->plan->setup.keys; k++) {
		unsigned n = key_name(name, k);

		index_find(w->s->index, XXH3_64bits_withSeed(name, n, w->s->hash_secret), &probe);
		for (unsigned i = 0; i < probe.n; i++) {
			struct path *p = loc_path(w->s, probe.ref[i].loc, &seg, &at);

			if (p != NULL && atomic_load(&p->seg[seg].state) == SEG_RECYCLING &&
			    w->header_of[p->index] == seg)
				model_gone(w->model, k, 0, true);
		}
	}
}

static void note_moments(struct world *w, enum fault f)
{
	struct store *s = w->s;
	bool busy = false;

	if (s == NULL || w->starting)
		return;
	for (unsigned i = 0; i < s->npaths; i++)
		for (uint32_t k = 0; s->path[i].seg != NULL && k < s->path[i].nseg; k++) {
			cover_crash(
			    (enum moment)(MOMENT_VIRGIN + atomic_load(&s->path[i].seg[k].state)),
			    f);
			if (atomic_load(&s->path[i].seg[k].quarantined))
				cover_crash(MOMENT_QUARANTINE, f);
		}
	for (unsigned i = 0; i < SIM_SLOTS; i++) {
		const struct sop *o = &w->slot[i];
		bool set = o->kind == STEP_SET || o->kind == STEP_ADD;
		bool is_long = o->len > STORE_WHOLE_MAX;

		if (!o->used)
			continue;
		busy = true;
		if (o->op.waits)
			cover_crash(MOMENT_WAIT_MEMORY, f);
		if (set && o->done && o->op.body_n > 0)
			cover_crash(is_long && o->at > 0 ? MOMENT_RECEIVING : MOMENT_BODY, f);
		else if (set)
			cover_crash(MOMENT_SETTING, f);
		else if (o->kind == STEP_GET && o->at > 0)
			cover_crash(MOMENT_STREAMING, f);
		else if (o->kind == STEP_DELETE)
			cover_crash(MOMENT_DELETING, f);
		else
			cover_crash(MOMENT_GETTING, f);
	}
	for (unsigned i = 0; i < w->plan->setup.workers; i++)
		if (w->w[i] != NULL && w->w[i]->wait[WAIT_WRITE].head != NULL)
			cover_crash(MOMENT_WAIT_WRITE, f);
	for (unsigned i = 0; i < s->nwbuf; i++) {
		busy = busy || s->wbuf[i].active;
		if (s->wbuf[i].active && s->wbuf[i].writing != 0)
			cover_crash(MOMENT_WRITING, f);
		if (s->wbuf[i].active && s->wbuf[i].records > 0)
			cover_crash(MOMENT_DIRTY, f);
	}
	if (!busy)
		cover_crash(MOMENT_IDLE, f);
}

static void watch_paths(struct world *w);

static void die(struct world *w, bool power)
{
	const struct setup *c = &w->plan->setup;
	const struct sim_config *sc = sim_env_config(w->env);
	uint64_t now = sim_env_now(w->env), slack;

	if (w->dead)
		return;
	if (w->s != NULL && !w->starting)
		watch_paths(w);
	hurt_again(w);
	recycled_or_not(w);
	note_moments(w, power ? FAULT_POWER : FAULT_KILL);
	w->dead = true;
	w->power = power;
	w->died_at = now;
	say("%s", power ? "power cut" : "killed");
	if (power)
		cover->powers++;
	else
		cover->kills++;
	cover->cut_starts += w->starting;
	if (!power)
		keep_shm(w);
	else
		w->corpse.n = 0;
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

/* ---- at each submit ---------------------------------------------------------------------------- */

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
	uint64_t in = op->u.disk.off % SEG;

	switch (op->kind) {
	case IO_READ:
		if (op->u.disk.off < SEG)
			return PLACE_O_SUPER;
		if (in == 0 && op->u.disk.len == FORMAT_ALIGN)
			return PLACE_O_HEADER;
		if (in == SEG - FORMAT_ALIGN && op->u.disk.len == FORMAT_ALIGN)
			return PLACE_O_FOOTER;
		return PLACE_O_READ;
	case IO_WRITE:
		return op->u.disk.off < SEG ? PLACE_O_SUPER_WRITE : PLACE_O_REPLAY;
	default:
		return PLACE_O_SYNC;
	}
}

static enum place place_slow(struct world *w, const struct io_op *op)
{
	uint64_t in = op->u.disk.off % SEG;
	enum place p;

	if (op->kind != IO_SYNC && op->u.disk.off < SEG)
		return op->kind == IO_READ ? PLACE_PROBE : PLACE_EPOCH;
	switch (op->kind) {
	case IO_SYNC:
		p = w->last_slow == PLACE_HEADER ? PLACE_HEADER_SYNC
		    : w->last_slow >= PLACE_R_FOOTER && w->last_slow <= PLACE_R_BLOCK ? PLACE_R_SYNC
										      : PLACE_SYNC;
		break;
	case IO_WRITE:
		p = is_wbuf(w, op)                              ? PLACE_R_BLOCK
		    : in == 0 && op->u.disk.len == FORMAT_ALIGN ? PLACE_HEADER
								: PLACE_TABLE;
		break;
	case IO_READ:
		p = in == SEG - FORMAT_ALIGN && op->u.disk.len == FORMAT_ALIGN ? PLACE_R_FOOTER
		    : w->last_slow == PLACE_R_FOOTER && in + op->u.disk.len == SEG - FORMAT_ALIGN
			? PLACE_R_TABLE
			: PLACE_R_COPY;
		break;
	default:
		p = PLACE_DISCARD;
	}
	w->last_slow = p;
	return p;
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
			    l->seg == op->u.disk.off / SEG - 1 &&
			    l->ext_off == op->u.disk.off % SEG)
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

static bool fits(enum fault f, const struct io_op *op)
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
		w->hurt[path][at / SEG] = true;
	for (uint64_t at = to; at < to + len; at += FORMAT_ALIGN)
		w->hurt[path][at / SEG] = true;
	if (op->u.disk.off < SEG || to < SEG)
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
	w->start_fault = w->start_fault || (w->starting && f < FAULT_SLOW);
	say("fault %d at place %d: path %u, segment %d, byte %" PRIu64 ", %u bytes", f, place, path,
	    (int)(op->u.disk.off / SEG) - 1, op->u.disk.off % SEG, op->u.disk.len);
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
		fate->to =
		    rnd(w, (w->plan->setup.size - op->u.disk.len) / FORMAT_ALIGN) * FORMAT_ALIGN;
		silent(w, path, op, fate->to, op->u.disk.len);
		break;
	case FAULT_SLOW:
		fate->delay_ns = rnd(w, 2) == 0 ? rnd(w, 20 * NS_PER_MS) : rnd(w, 400 * NS_PER_MS);
		w->delays += fate->delay_ns;
		break;
	case FAULT_KILL:
		die(w, false);
		break;
	case FAULT_POWER:
		die(w, true);
		break;
	default:
		break;
	}
}

static void turn_others(struct world *w);

static void on_submit(void *arg, struct io *io, const struct io_op *op, struct sim_fate *fate)
{
	struct world *w = arg;
	unsigned me = who(w, io), workers = w->plan->setup.workers;
	enum place place = me > workers    ? place_at_start(op)
			   : me == workers ? place_slow(w, op)
					   : place_serving(w, op);

	bool whole = true;

	if (w->dead)
		return;
	atomic_fetch_add_explicit(&cover->all[place], 1, memory_order_relaxed);
	if (place == PLACE_HEADER)
		w->header_of[path_of(w, op)] = (uint32_t)(op->u.disk.off / SEG - 1);
	if (w->away[path_of(w, op)])
		cover_io(place, FAULT_GONE);
	for (unsigned i = 0; i < sizeof w->arm / sizeof w->arm[0] && !w->checking; i++) {
		bool mine = false;

		if (!w->arm[i].on)
			continue;
		switch (w->arm[i].aim) {
		case AIM_ANY:
			mine = me <= workers;
			break;
		case AIM_SERVING:
			mine = me < workers;
			break;
		case AIM_SLOW:
			mine = me == workers;
			break;
		default:
			mine = me > workers;
		}
		if (!mine || !fits((enum fault)w->arm[i].fault, op))
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
	if (whole && place == PLACE_HEADER) /* the segment's next life */
		w->hurt[path_of(w, op)][op->u.disk.off / SEG] = false;
	if (me <= workers && w->depth < 3 && !w->checking && rnd(w, 3) == 0)
		turn_others(w);
}

static void arm(struct world *w, enum fault f, uint8_t aim, uint64_t in)
{
	for (unsigned i = 0; i < sizeof w->arm / sizeof w->arm[0]; i++)
		if (!w->arm[i].on) {
			w->arm[i].on = true;
			w->arm[i].fault = (uint8_t)f;
			w->arm[i].aim = aim;
			w->arm[i].in = in;
			return;
		}
}

/* ---- operations -------------------------------------------------------------------------------- */

static void sop_done(struct store_op *op)
{
	((struct sop *)op->user)->done = true;
}

static bool any_offline(const struct world *w)
{
	for (unsigned i = 0; i < w->s->npaths; i++)
		if (atomic_load(&w->s->path[i].offline))
			return true;
	return false;
}

static void end_op(struct world *w, struct sop *o)
{
	w->busy[o->worker] = true;
	store_op_end(&o->op);
	w->busy[o->worker] = false;
	o->used = false;
	w->idle_turns = 0;
}

/* The answer of an operation, before it is given back. */
static void judge(struct world *w, struct sop *o)
{
	enum store_status st = o->op.status;
	uint64_t now = sim_env_now(w->env);
	uint32_t seen = 0;

	say("w%u op %u key %u epoch %u: status %d, flags %u, %u bytes%s; the index has %u",
	    o->worker, o->kind, o->key, o->epoch, st, o->op.flags, o->op.value_len,
	    o->op.from_ram ? ", from RAM" : "", world->verbose ? world_where(o->key) : 0);
	atomic_fetch_add_explicit(&cover->ops, 1, memory_order_relaxed);
	w->digest =
	    plan_mix(w->digest ^ now ^ (uint64_t)o->key << 32 ^ (uint64_t)st << 48 ^ o->op.flags);
	switch (o->kind) {
	case STEP_FLUSH:
		if (st != STORE_OK && (st != STORE_UNAVAILABLE || !any_offline(w)))
			violation("flush_all answered %d", st);
		for (unsigned k = 0; k < w->plan->setup.keys; k++)
			model_end(w->model, k, o->flush_nth[k], st, 0, now);
		cover->flushes++;
		return;
	case STEP_GET:
	case STEP_HEAD:
		if (st == STORE_OK) {
			seen = o->op.flags;
			if (o->op.value_len != value_len(&w->plan->setup, o->key, seen) ||
			    seen == 0)
				violation("key %u: %u bytes with flags %u: no value of it is such",
					  o->key, o->op.value_len, seen);
			cover->hits++;
		} else if (st == STORE_MISS) {
			cover->misses++;
		} else if (st != STORE_BROKEN || o->len <= STORE_WHOLE_MAX) {
			violation("key %u: a get answered %d", o->key, st);
		}
		break;
	case STEP_DELETE:
		if (st != STORE_OK && st != STORE_MISS &&
		    (st != STORE_UNAVAILABLE || !any_offline(w)))
			violation("key %u: a delete answered %d", o->key, st);
		cover->deleted += st == STORE_OK;
		break;
	default:
		if (st == STORE_TOO_LARGE || st == STORE_MISS || st == STORE_BROKEN ||
		    (st == STORE_EXISTS && o->kind == STEP_SET))
			violation("key %u: a set answered %d", o->key, st);
		if (st == STORE_UNAVAILABLE) {
			cover->refused++;
			if (o->len <= STORE_WHOLE_MAX && !any_offline(w))
				violation("key %u: a set was refused, and every path is good",
					  o->key);
		}
		if (st == STORE_UNAVAILABLE && o->len > STORE_WHOLE_MAX)
			/* it may be on a path that has failed, and may come back empty */
			model_damaged(w->model, o->key);
		cover->conflicts += st == STORE_CONFLICT;
		cover->same += st == STORE_EXISTS;
		cover->stored += st == STORE_OK;
		cover->longs += st == STORE_OK && o->len > STORE_WHOLE_MAX;
	}
	if (st == STORE_BROKEN)
		model_forget(w->model, o->key, o->nth, now);
	else
		model_end(w->model, o->key, o->nth, st, seen, now);
	if ((o->kind == STEP_SET || o->kind == STEP_ADD) &&
	    (st == STORE_OK || st == STORE_EXISTS)) {
		if (world_where(o->key) == o->epoch) {
			model_there(w->model, o->key, o->epoch, now);
		} else if (w->plan->setup.admit == STORE_ADMIT_SECOND) {
			model_gone(w->model, o->key, o->epoch, false); /* in RAM alone */
			cover->ram_only++;
		}
	}
}

static void finish_op(struct world *w, struct sop *o)
{
	if (!o->given_up)
		judge(w, o);
	end_op(w, o);
}

/* Its owner has had enough of it. */
static void leave_op(struct world *w, struct sop *o)
{
	say("w%u op %u key %u: left", o->worker, o->kind, o->key);
	if (!o->given_up)
		model_forget(w->model, o->key, o->nth, sim_env_now(w->env));
	cover->left++;
	end_op(w, o);
}

static void check_bytes(struct world *w, struct sop *o)
{
	const struct store_op *op = &o->op;

	(void)w;
	if (o->given_up)
		return;
	if (o->at == 0)
		o->len = op->value_len;
	if (op->value_off != o->at || o->at + op->value_n > op->value_len)
		violation("key %u: a chunk of %u bytes at %u follows byte %u", o->key, op->value_n,
			  op->value_off, o->at);
	if (!value_is(op->value, o->at, op->value_n, o->key, op->flags))
		violation("key %u epoch %u: wrong bytes within %u at %u", o->key, op->flags,
			  op->value_n, o->at);
}

static void go_on(struct world *w, struct sop *o)
{
	struct store_op *op = &o->op;

	while (o->used && o->done && !w->busy[o->worker]) {
		bool set = o->kind == STEP_SET || o->kind == STEP_ADD, done;

		if (set && op->body_n > 0) {
			if ((o->leave > 0 && --o->leave == 0) || w->dead) {
				leave_op(w, o);
				return;
			}
			value_fill(op->body, o->at, op->body_n, o->key, o->epoch);
			o->at += op->body_n;
			o->done = false;
			w->busy[o->worker] = true;
			done = store_set_body(op);
			w->busy[o->worker] = false;
			o->done = o->done || done;
			continue;
		}
		if (o->kind == STEP_GET && op->status == STORE_OK) {
			check_bytes(w, o);
			o->at += op->value_n;
			if (o->at < op->value_len) {
				if ((o->leave > 0 && --o->leave == 0) || w->dead) {
					leave_op(w, o);
					return;
				}
				o->done = false;
				w->busy[o->worker] = true;
				done = store_get_next(op);
				w->busy[o->worker] = false;
				o->done = o->done || done;
				continue;
			}
		}
		finish_op(w, o);
	}
}

static struct sop *free_slot(struct world *w)
{
	for (unsigned i = 0; i < w->plan->setup.slots; i++)
		if (!w->slot[i].used)
			return &w->slot[i];
	return NULL;
}

/* False: not now. */
static bool start_op(struct world *w, const struct step *st)
{
	static const enum ask ask[STEPS] = {
	    [STEP_SET] = ASK_SET, [STEP_ADD] = ASK_ADD, [STEP_DELETE] = ASK_DELETE};
	struct sop *o = free_slot(w);
	char name[SIM_KEY_MAX + 1];
	unsigned worker = st->worker % w->plan->setup.workers, n = 0;
	bool done;

	if (o == NULL || w->busy[worker])
		return false;
	if (st->kind == STEP_FLUSH) {
		for (unsigned i = 0; i < SIM_SLOTS; i++)
			if (w->slot[i].used && w->slot[i].kind == STEP_FLUSH)
				return false;
		for (unsigned k = 0; k < w->plan->setup.keys; k++)
			o->flush_nth[k] = model_begin(w->model, k, ASK_FLUSH, 0);
	} else {
		o->nth = model_begin(w->model, st->key, ask[st->kind], st->epoch);
		if (o->nth == SIM_PENDING)
			return false;
		n = key_name(name, st->key);
	}
	o->used = true;
	o->given_up = o->done = false;
	o->kind = st->kind;
	o->worker = (uint8_t)worker;
	o->leave = st->leave;
	o->key = st->key;
	o->epoch = st->epoch;
	o->at = 0;
	o->len = 0;
	store_op_init(&o->op, w->w[worker], name, (uint8_t)n, sop_done, o);
	w->busy[worker] = true;
	switch (st->kind) {
	case STEP_FLUSH:
		done = store_flush_all(&o->op);
		break;
	case STEP_GET:
	case STEP_HEAD:
		done = store_get(&o->op, st->kind == STEP_HEAD);
		break;
	case STEP_DELETE:
		done = store_delete(&o->op);
		break;
	default:
		o->len = value_len(&w->plan->setup, st->key, st->epoch);
		done = store_set(&o->op, st->kind == STEP_SET ? STORE_SET : STORE_ADD, st->epoch,
				 o->len);
	}
	w->busy[worker] = false;
	o->done = o->done || done;
	return true;
}

/* ---- turns ------------------------------------------------------------------------------------- */

static void turn_worker(struct world *w, unsigned i)
{
	if (w->busy[i] || w->w[i] == NULL)
		return;
	w->busy[i] = true;
	A(io_turn(w->io[i], 0) >= 0);
	(void)store_worker_turn(w->w[i]);
	w->busy[i] = false;
}

static void slots_go_on(struct world *w)
{
	for (unsigned i = 0; i < SIM_SLOTS; i++)
		if (w->slot[i].used)
			go_on(w, &w->slot[i]);
}

/* Steps that are operations may begin while somebody else is on the stack. */
static void pump(struct world *w)
{
	const struct step *st;

	if (w->dead || w->stopping || w->checking || w->starting || w->next >= w->plan->n)
		return;
	st = &w->plan->step[w->next];
	if (st->kind > STEP_DELETE || !start_op(w, st))
		return;
	w->next++;
}

static void turn_others(struct world *w)
{
	unsigned first = (unsigned)rnd(w, w->plan->setup.workers);

	w->depth++;
	sim_env_advance(w->env, rnd(w, 20000));
	for (unsigned i = 0; i < w->plan->setup.workers && !w->dead; i++)
		turn_worker(w, (first + i) % w->plan->setup.workers);
	slots_go_on(w);
	if (rnd(w, 2) == 0)
		pump(w);
	w->depth--;
}

static void on_yield(void *arg)
{
	struct world *w = arg;

	if (!w->dead && w->s != NULL && !w->starting && rnd(w, 64) == 0 && w->arm[0].on &&
	    w->arm[0].aim == AIM_SLOW &&
	    (w->arm[0].fault == FAULT_KILL || w->arm[0].fault == FAULT_POWER)) {
		enum fault f = (enum fault)w->arm[0].fault;

		cover_crash(MOMENT_GRACE, f);
		w->arm[0].on = false;
		die(w, f == FAULT_POWER);
	}
	turn_others(w);
	for (unsigned i = 0; i < w->plan->setup.workers && w->dead; i++)
		turn_worker(w, i); /* shades must end, too */
	sim_env_advance(w->env, 2000);
	if (++w->idle_turns > STUCK)
		violation("the slow worker waits for ever");
}

static void watch_paths(struct world *w)
{
	for (unsigned i = 0; i < w->s->npaths && !w->dead; i++)
		if (atomic_load(&w->s->path[i].offline) && !w->was_offline[i]) {
			if (!w->plan->setup.faults)
				violation("path %u went offline, and nothing was wrong with it", i);
			w->was_offline[i] = true;
			cover->offline++;
			/* deletes of what lies there are kept in memory only: known limit */
			walk_damage(w, i, SEG, w->plan->setup.size - SEG);
		}
}

static void turn(struct world *w)
{
	unsigned n = w->plan->setup.workers + 1, first = (unsigned)rnd(w, n);
	uint64_t now = sim_env_now(w->env), next;

	w->turns++;
	for (unsigned i = 0; i < n; i++)
		turn_worker(w, (first + i) % n);
	watch_paths(w);
	slots_go_on(w);
	next = sim_env_next(w->env);
	if (next == UINT64_MAX)
		sim_env_advance(w->env, NS_PER_MS);
	else if (next > now)
		sim_env_advance(w->env, next - now);
	else
		sim_env_advance(w->env, 500);
	if (++w->idle_turns > STUCK) {
		for (unsigned i = 0; i < SIM_SLOTS; i++)
			if (w->slot[i].used)
				fprintf(stderr,
					"    w%u op %u key %u is stuck at step %u, done %d\n",
					w->slot[i].worker, w->slot[i].kind, w->slot[i].key,
					w->slot[i].op.step, w->slot[i].done);
		violation("nothing comes to an end any more");
	}
}

static bool any_op(const struct world *w)
{
	for (unsigned i = 0; i < SIM_SLOTS; i++)
		if (w->slot[i].used)
			return true;
	return false;
}

static void drain(struct world *w)
{
	w->idle_turns = 0;
	while (any_op(w))
		turn(w);
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

/* Stops and closes a living process, or what is left of a dead one. */
static void close_store(struct world *w)
{
	unsigned slow = w->plan->setup.workers;
	struct store_counters c;

	w->stopping = true;
	drain(w);
	for (unsigned i = 0; i < slow; i++)
		store_worker_stop(w->w[i]);
	w->idle_turns = 0;
	for (unsigned i = 0; i < slow; i++)
		while (!store_worker_idle(w->w[i]))
			turn(w);
	store_worker_stop(w->w[slow]);
	w->idle_turns = 0;
	while (!store_worker_idle(w->w[slow]))
		turn(w);
	check_rest(w);
	if (!w->dead)
		hurt_again(w);
	store_counters(w->s, &c);
	cover->admitted += c.admitted_later;
	cover->reinserted += atomic_load(&w->s->reinserted);
	for (unsigned i = 0; i < w->s->npaths; i++) {
		cover->recycled += atomic_load(&w->s->path[i].seg_recycled);
		cover->sealed += atomic_load(&w->s->path[i].seg_sealed);
	}
	for (unsigned i = 0; i <= slow; i++)
		store_worker_close(&w->w[i]);
	for (unsigned i = 0; i <= slow; i++)
		io_close(&w->io[i]);
	store_close(&w->s);
	memset(w->was_offline, 0, sizeof w->was_offline);
	if (w->dead)
		restore_shm(w);
	else
		model_ended(w->model);
	w->stopping = false;
}

static void disarm(struct world *w)
{
	for (unsigned i = 0; i < sizeof w->arm / sizeof w->arm[0]; i++)
		w->arm[i].on = false;
}

static void heal(struct world *w)
{
	for (unsigned i = 0; i < w->plan->setup.paths; i++)
		if (w->away[i]) {
			sim_disk_fault(w->env, w->path[i], 0, w->plan->setup.size, SIM_OK);
			w->away[i] = false;
		}
}

/* Reads every key, through the ordinary operations and their judge. */
static void verify(struct world *w)
{
	w->checking = true;
	for (unsigned k = 0; k < w->plan->setup.keys; k++) {
		struct step st = {.kind = STEP_GET,
				  .key = (uint16_t)k,
				  .worker = (uint8_t)(k % w->plan->setup.workers)};

		while (!start_op(w, &st))
			turn(w);
		slots_go_on(w);
	}
	drain(w);
	w->checking = false;
	for (unsigned k = 0; k < w->plan->setup.keys; k++) {
		uint32_t epoch = world_where(k);

		if (epoch != 0)
			model_there(w->model, k, epoch, sim_env_now(w->env));
	}
}

/* False: the store cannot be opened any more, for a reason that it may have. */
static bool open_store(struct world *w)
{
	struct io_config ic = {.entries = 128, .disk_depth = 32};
	char *cause = NULL;

	for (unsigned tries = 0;; tries++) {
		int res;

		if (w->super_damaged) /* a path may have to come back empty */
			for (unsigned k = 0; k < w->plan->setup.keys; k++)
				model_damaged(w->model, k);
		w->dead = false;
		w->starting = true;
		w->start_fault = false;
		w->nstart_gone = 0;
		res = store_open(&w->cfg, sim_env_engine(w->env), &w->s, &cause);
		w->starting = false;
		if (res == 0 && !w->dead)
			break;
		if (res == 0) {
			/* it died with its last I/O, and opened all the same: nobody knows */
			store_close(&w->s);
			restore_shm(w);
			continue;
		}
		w->s = NULL;
		say("start: %s", cause);
		if (cause == NULL)
			violation("a start failed without a word: %s", strerror(-res));
		free(cause);
		cause = NULL;
		if (w->dead) {
			restore_shm(w);
			continue;
		}
		if (w->super_damaged)
			return false;
		if (!w->plan->setup.faults || tries > HOLD_AT_START + 8)
			violation("the store cannot be opened: %s", strerror(-res));
		heal(w);
		disarm(w);
	}
	cover->restarts++;
	for (unsigned i = 0; i < w->nstart_gone; i++) {
		uint32_t epoch;
		unsigned key = world_record(w->start_gone[i], &epoch);

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
	walk_compare(w);
	verify(w);
	return true;
}

/* ---- steps ------------------------------------------------------------------------------------- */

static bool restart(struct world *w)
{
	close_store(w);
	return open_store(w);
}

static void settle(struct world *w)
{
	bool busy = true;

	drain(w);
	for (unsigned n = 0; busy && !w->dead && n < IDLE_STEPS; n++) {
		busy = false;
		turn(w);
		for (unsigned i = 0; i < w->s->nwbuf; i++) {
			struct wbuf *b = &w->s->wbuf[i];

			if (b->active && b->dirty_since == 0 && b->writing == 0)
				b->idle_since = 1; /* as if nobody had used it for long */
			busy = busy || b->active;
		}
	}
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
			turn(w);
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
		drain(w);
		break;
	case STEP_FAULT:
		arm(w, (enum fault)st->fault, st->aim, st->n);
		break;
	case STEP_DISK:
		if (!w->away[st->n])
			sim_disk_fault(w->env, w->path[st->n], 0, w->plan->setup.size, SIM_DEAD);
		w->away[st->n] = true;
		break;
	case STEP_HEAL:
		if (w->away[st->n])
			sim_disk_fault(w->env, w->path[st->n], 0, w->plan->setup.size, SIM_OK);
		w->away[st->n] = false;
		break;
	case STEP_KILL:
	case STEP_POWER:
		if (st->n == 0 && st->aim != AIM_START)
			die(w, st->kind == STEP_POWER);
		else
			arm(w, st->kind == STEP_POWER ? FAULT_POWER : FAULT_KILL, st->aim, st->n);
		break;
	case STEP_STOP:
		w->stopping = true;
		drain(w);
		if (!w->dead)
			return restart(w);
		break;
	default:
		w->idle_turns = 0;
		while (!w->dead && !start_op(w, st))
			turn(w);
	}
	for (unsigned i = 0; i < st->turns && !w->dead; i++)
		turn(w);
	return true;
}

void world_run(const struct plan *p, bool verbose)
{
	struct world *w = calloc(1, sizeof *w);
	const struct setup *c = &p->setup;
	const char *dir = getenv("TEST_SHM");
	uint64_t recycled = atomic_load(&cover->recycled);
	bool open;

	AN(w != NULL);
	world = w;
	w->plan = p;
	w->verbose = verbose;
	w->env = sim_env_new(c->seed, &c->sim);
	w->model = model_new(c);
	snprintf(w->shm, sizeof w->shm, "%.70s/simulate-XXXXXX", dir != NULL ? dir : "/dev/shm");
	AN(mkdtemp(w->shm) != NULL);
	w->cfg = (struct store_config){
	    .npaths = c->paths,
	    .size = c->size,
	    .mean_value = c->mean_value,
	    .item_max = c->item_max,
	    .workers = c->workers,
	    .ram_bytes = c->ram,
	    .buffer_bytes = c->buffers,
	    .sync_ns = c->sync_ns,
	    .admit = c->admit,
	    .write_budget = c->write_budget,
	    .shm_dir = w->shm,
	    .seed = c->seed | 1,
	    .yield = on_yield,
	    .yield_arg = w,
	    .gone = on_gone,
	    .gone_arg = w,
	};
	for (unsigned i = 0; i < c->paths; i++) {
		snprintf(w->path[i], sizeof w->path[i], c->device ? "/dev/disk%u" : "disk%u", i);
		if (c->device)
			sim_disk_make(w->env, w->path[i], c->size);
		w->cfg.paths[i] = w->path[i];
	}
	sim_env_on_submit(w->env, on_submit, w);
	open = open_store(w);
	while (open && w->next < p->n) {
		const struct step *st = &p->step[w->next++];

		sim_env_reseed(w->env, st->seed);
		open = step(w, st);
		if (open && w->dead)
			open = restart(w);
	}
	if (open) {
		disarm(w);
		heal(w);
		drain(w);
		open = restart(w);
	}
	if (open) {
		close_store(w);
		recycled = atomic_load(&cover->recycled) - recycled;
		cover->laps += recycled >= c->paths * (c->size / SEG - 1);
	}
	cover->schedules++;
	world_digest = plan_mix(w->digest ^ sim_env_now(w->env));
	sim_env_free(&w->env);
	model_free(&w->model);
	rmdir(w->shm);
	{
		char cmd[200];

		if (access(w->shm, F_OK) == 0) {
			snprintf(cmd, sizeof cmd, "rm -rf %s", w->shm);
			(void)!system(cmd);
		}
	}
	free(w);
	world = NULL;
}
