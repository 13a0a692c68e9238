/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The slow worker: what it does in a turn, and what its duties share. Sealing full segments, ending index victims
 * on disk, syncing; recycling is evict.c, paths that fail are path_state.c. It writes straight-line code
 * over io_wait(); nobody waits for it but for room.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "valcached/store/slow_int.h"

void io_wait_done(struct io_op *op)
{
	(void)op;
}

int io_wait(struct io *io, struct io_op *op)
{
	while (!io_op_idle(op)) {
		int res = io_turn(io, -1);

		A(res >= 0);
	}
	return op->res;
}

void slow_call(struct store *s)
{
	if (s->worker[s->cfg.workers] != NULL)
		worker_wake(s->worker[s->cfg.workers]);
}

/* Writes what d holds, and gives it back. */
int slow_write(struct store_worker *sw, struct disk_io *d, uint32_t len, uint64_t off)
{
	int res;

	COUNT_N(sw, disk_write_bytes, len);
	disk_write(d, len, off);
	res = disk_wait(&d);
	disk_io_free(&d);
	return res;
}

int slow_sync(struct store_worker *sw, struct path *p)
{
	uint64_t ends = path_ends_before_sync(p);
	struct disk_io *d = disk_io_new(sw->io, p, 0);
	int res = -ENOMEM;

	atomic_store(&p->dirty, 0);
	if (d != NULL) {
		disk_sync(d);
		res = disk_wait(&d);
		disk_io_free(&d);
	}
	if (res < 0) {
		COUNT(sw, write_errors);
		atomic_fetch_add(&p->write_errors, 1);
		path_fail(p, "sync", res);
	} else {
		atomic_store(&p->ends_safe, ends);
	}
	return res;
}

/*
 * [W-8] A write buffer waits for half an interval, and so does what it has written; less by what the sync takes, so that
 * it has ended within the interval.
 */
uint64_t sync_turn(struct store_worker *sw)
{
	struct store *s = sw->s;
	uint64_t now = io_now(sw->io), half = s->cfg.sync_ns / 2, took;
	bool due = now >= sw->sync_at, dirty = false;

	for (unsigned i = 0; i < s->npaths; i++) {
		struct path *p = &s->path[i];

		/* a failed sync is not tried again: what the disk has is not known */
		if (atomic_load(&p->dirty) == 0 || atomic_load(&p->offline))
			continue;
		if (due)
			slow_sync(sw, p);
		dirty = true;
	}
	if (due) {
		took = io_now(sw->io) - now;
		sw->sync_at = now + (took < half / 2 ? half - took : half / 2);
	}
	return dirty ? sw->sync_at : UINT64_MAX;
}

/* ---- sealing ----------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
	const struct format_entry *x = a, *y = b;

	if ((x->type == FORMAT_VALUE) != (y->type == FORMAT_VALUE))
		return x->type == FORMAT_VALUE ? 1 : -1;
	return x->units_at < y->units_at ? -1 : x->units_at > y->units_at;
}

/* Writes table and footer, which is copied to *said. entries are sorted in place. */
static int write_table(struct store_worker *sw, struct path *p, uint32_t seg, uint64_t generation,
		       uint32_t stream, struct format_entry *entries, uint32_t n,
		       struct format_footer *said)
{
	struct store *s = p->store;
	uint64_t bytes = table_bytes(n);
	struct disk_io *d = disk_io_new(sw->io, p, bytes + FORMAT_ALIGN);
	struct format_footer *f;
	uint8_t *mem;

	if (d == NULL)
		return -ENOMEM;
	mem = d->mem;
	memset(mem, 0, bytes + FORMAT_ALIGN);
	if (n > 0) {
		qsort(entries, n, sizeof *entries, by_place);
		memcpy(mem, entries, n * sizeof *entries);
	}
	f = (struct format_footer *)(void *)(mem + bytes);
	f->stream = stream;
	f->magic = FORMAT_FOOT_MAGIC;
	f->version = FORMAT_VERSION;
	f->entries = n;
	f->generation = generation;
	f->table_off = s->seg_size - FORMAT_ALIGN - bytes;
	f->cut_short = p->seg[seg].cut;
	f->ragged = p->seg[seg].ragged;
	for (uint32_t i = 0; i < n; i++) {
		if (entries[i].seq > f->seq_max)
			f->seq_max = entries[i].seq;
		f->data_bytes += (uint64_t)entry_units(&entries[i]) * FORMAT_UNIT;
		f->others += entries[i].type != FORMAT_VALUE;
		if ((uint64_t)entry_units(&entries[i]) * FORMAT_UNIT > WHOLE_RECORD &&
		    f->cut_short == FORMAT_CUT_ALL)
			f->cut_short = FORMAT_CUT_LONG;
	}
	if (f->data_bytes >= s->seg_size / 2)
		f->cut_short = FORMAT_CUT_NOT;
	footer_seal(f, (const struct format_entry *)(const void *)mem, s->id_seed);
	*said = *f;
	return slow_write(sw, d, (uint32_t)(bytes + FORMAT_ALIGN),
			  seg_offset(p, seg) + f->table_off);
}

void slow_seal(struct store_worker *sw, struct path *p, uint32_t seg)
{
	struct segment *g = &p->seg[seg];
	struct format_footer footer = {0};
	int res;

	if (g->unwalked)
		recover_walk(sw, p, seg);
	/* FULL without extents: nobody else touches entries now */
	A(g->used + table_bytes(g->nentries) + FORMAT_ALIGN <= p->store->seg_size); /* [S-1] */
	/* a power cut must not leave a table of records that are not there [F-2] */
	res = atomic_load(&p->dirty) > 0 ? slow_sync(sw, p) : 0;
	if (res >= 0)
		res = write_table(sw, p, seg, atomic_load(&g->generation), g->stream, g->entries,
				  g->nentries, &footer);
	if (res < 0) {
		/* it stays readable; a restart walks its blocks, and it is tried again if the path comes back */
		COUNT(sw, write_errors);
		atomic_fetch_add(&p->write_errors, 1);
		path_fail(p, "a segment's table", res);
		log_warn("store: %s: the table of segment %u could not be written: %s",
			 p->file->info.path, seg, strerror(-res));
		return;
	}
	pthread_mutex_lock(&p->lock);
	free(g->entries);
	g->entries = NULL;
	g->entries_cap = 0;
	g->data_bytes = footer.data_bytes;
	g->cut = (uint8_t)footer.cut_short;
	atomic_store(&g->state, SEG_SEALED);
	pthread_mutex_unlock(&p->lock);
	atomic_fetch_add(&p->seg_sealed, 1);
}

/* Seals what is full and finished; with all, the open segment too. */
static bool seal_ready(struct store_worker *sw, struct path *p, bool all)
{
	bool did = false;

	for (;;) {
		uint32_t seg = SEG_NONE;

		pthread_mutex_lock(&p->lock);
		for (unsigned t = 0; t < STREAMS; t++) {
			const struct order *o = &p->order[t];

			if (all && p->open[t] != SEG_NONE) {
				p->seg[p->open[t]].cut = FORMAT_CUT_ALL;
				atomic_store(&p->seg[p->open[t]].state, SEG_FULL);
				p->open[t] = SEG_NONE;
			}
			/* the newest few, and the oldest if a long set has kept it open until now */
			for (uint32_t i = 0; i < o->n; i++) {
				uint32_t k = o->ring[(o->head + o->n - 1 - i) % p->nseg];

				if (!all && i >= 64) {
					k = o->ring[o->head];
					i = o->n;
				}
				if (p->seg[k].state == SEG_FULL && p->seg[k].extents == 0)
					seg = k;
			}
		}
		pthread_mutex_unlock(&p->lock);
		if (seg == SEG_NONE || atomic_load(&p->offline))
			return did;
		slow_seal(sw, p, seg);
		did = true;
	}
}

/* ---- the other workers ------------------------------------------------------------------------- */

/* Waits a little for the other workers. */
void wait_for_others(struct store_worker *sw, uint64_t ns)
{
	const struct store_config *cfg = &sw->s->cfg;

	A(io_turn(sw->io, cfg->yield != NULL ? 0 : (int64_t)ns) >= 0);
	if (cfg->yield != NULL)
		cfg->yield(cfg->yield_arg);
}

/* [EV-4] */
void grace(struct store_worker *sw)
{
	struct store *s = sw->s;
	uint64_t epoch = atomic_fetch_add(&s->grace, 1) + 1;

	for (unsigned i = 0; i < s->cfg.workers; i++) {
		struct store_worker *w = s->worker[i];

		if (w == NULL)
			continue;
		worker_wake(w);
		while (atomic_load(&w->grace_seen) < epoch && !atomic_load(&w->gone))
			wait_for_others(sw, 100 * NS_PER_MS);
	}
}

void slow_flush(struct store_worker *sw)
{
	for (unsigned i = 0; i < sw->nwbufs; i++) {
		struct wbuf *w = sw->wbufs[i];

		while (w->active && (w->records > 0 || w->writing != 0) &&
		       !atomic_load(&w->path->silent)) {
			if (w->writing == 0)
				wbuf_flush(w);
			else
				turn_waiting(sw);
		}
	}
}

/* ---- records that the index threw out ---------------------------------------------------------- */

/*
 * loc 0: there is none that can be written. What lies on a path that takes no writes stays owed until the path is
 * back, or until a delete must be sure of it: to remember it elsewhere costs the path all its values [PS-2]. So
 * does one that is lost while records are on their way to it: while it is suspected, nothing is written [PS-3].
 */
static void next_drop(struct store *s, uint64_t *loc, uint64_t *generation)
{
	bool wanted = atomic_load(&s->drops_wanted);
	uint32_t seg, at;

	*loc = 0;
	pthread_mutex_lock(&s->drop_lock);
	for (size_t i = s->ndrops; i-- > 0 && *loc == 0;) {
		const struct path *p = loc_path(s, s->drops[i].loc, &seg, &at);

		if (!atomic_load(&p->probe) && (wanted || !atomic_load(&p->offline))) {
			*loc = s->drops[i].loc;
			*generation = s->drops[i].generation;
		}
	}
	pthread_mutex_unlock(&s->drop_lock);
}

/* Index victims: their records must not come back after a restart. */
static void write_drops(struct store_worker *sw)
{
	struct store *s = sw->s;

	for (;;) {
		struct format_record rec = {.type = FORMAT_DROP, .value_off = sizeof rec};
		struct path *p;
		struct wbuf *w;
		uint64_t loc, generation = 0;
		uint32_t seg, at, units;

		next_drop(s, &loc, &generation);
		if (loc == 0) {
			if (atomic_load(&s->live->owed) == 0) {
				atomic_store(&s->drops_wanted, false);
				atomic_fetch_add(&s->drops_paid, 1);
			}
			return;
		}
		p = loc_path(s, loc, &seg, &at);
		AN(p != NULL);
		switch (path_end(p)) {
		case END_WRITE:
			w = wbuf_reserve(sw, p, STREAM_MAIN, TOMBSTONE_MAX);
			if (w == NULL)
				return; /* later */
			break;
		case END_WAIT:
			return;
		default: /* nobody could remember it, or nobody needs to */
			w = NULL;
			break;
		}
		pthread_mutex_lock(&s->drop_lock);
		/* only this thread takes from the list, others append */
		for (size_t i = s->ndrops; i-- > 0;)
			if (s->drops[i].loc == loc && s->drops[i].generation == generation) {
				s->drops[i] = s->drops[--s->ndrops];
				break;
			}
		pthread_mutex_unlock(&s->drop_lock);
		if (w == NULL || atomic_load(&p->seg[seg].generation) != generation) {
			atomic_fetch_sub(&s->live->owed, 1); /* it is gone anyway */
			continue;
		}
		rec.content[0] = place_on(p, loc);
		rec.content[1] = generation;
		wbuf_append(w, (uint8_t *)&rec, sizeof rec, NULL, 0, false, &units);
		wbuf_published(w);
		AN(atomic_load(&s->live->owed)); /* [AT-8] */
		atomic_fetch_sub(&s->live->owed, 1);
	}
}

/* ---- a turn ------------------------------------------------------------------------------------ */

static uint32_t nclean(struct path *p)
{
	uint32_t n;

	pthread_mutex_lock(&p->lock);
	n = p->nclean;
	pthread_mutex_unlock(&p->lock);
	return n;
}

/*
 * Does what is due. Returns when (io_now) it wants to run again; 0: at once. Each pass does at most one
 * recycle a path, so that seals and syncs are not kept waiting.
 */
uint64_t slow_turn(struct store_worker *sw)
{
	struct store *s = sw->s;
	uint64_t now = io_now(sw->io), next = UINT64_MAX, due;
	bool more = false, load = loading(s), idle = !load; /* [RC-8] */

	for (unsigned i = 0; i < s->npaths; i++) {
		struct path *p = &s->path[i];

		if (atomic_load(&p->offline))
			continue;
		if (unlikely(p->parked))
			pending_turn(sw, p);
		seal_ready(sw, p, false);
		if (unlikely(atomic_load(&p->offline)))
			continue; /* its sync has just failed: nothing more is written */
		if (unlikely(leaving(p)))
			leave_turn(sw, p, &next, &more);
		if (nclean(p) < CLEAN_AHEAD) {
			bool did = true;

			if (p->virgins > 0)
				prepare_virgin(sw, p);
			else /* [RC-8] */
				did = !load && recycle(sw, p, NULL);
			if (!did && now + 10 * NS_PER_MS < next)
				next = now + 10 * NS_PER_MS; /* who finishes an extent calls, too */
			more = more || (did && nclean(p) < CLEAN_AHEAD);
			idle = idle && did;
		}
		if (unlikely(!load && (p->bad || atomic_exchange(&p->bad_new, false)))) {
			p->bad = quarantine_turn(sw, p);
			idle = idle && !p->bad;
			if (p->bad && now + NS_PER_MS < next)
				next = now + NS_PER_MS;
		}
	}
	due = sync_turn(sw);
	next = due < next ? due : next;
	if (unlikely(load)) {
		due = load_turn(sw);
		next = due < next ? due : next;
	}
	paths_turn(sw);
	write_drops(sw); /* after a look at the paths: who suspects one since then has called */
	if (idle && !more) {
		scrub_turn(sw, &next);
		recency_turn(sw, &next);
	}
	return more ? now : next;
}

/* Clean stop, when every worker is idle: everything that is open is sealed and synced. */
void slow_finish(struct store_worker *sw)
{
	struct store *s = sw->s;

	load_drain(s->load);
	write_drops(sw);
	paths_turn(sw);
	slow_flush(sw);
	sw->stopping = true;
	while (!wbufs_idle(sw)) {
		uint64_t d = UINT64_MAX;

		watch_turn(sw, &d);
		wbufs_turn(sw, &d);
		if (!wbufs_idle(sw))
			A(io_turn(sw->io, (int64_t)(10 * NS_PER_MS)) >= 0);
	}
	for (unsigned i = 0; i < s->npaths; i++)
		if (!atomic_load(&s->path[i].offline))
			seal_ready(sw, &s->path[i], true);
	recency_stop(sw);
	for (unsigned i = 0; i < s->npaths; i++)
		if (!atomic_load(&s->path[i].offline) && slow_sync(sw, &s->path[i]) >= 0)
			path_stopped(sw, &s->path[i]);
}
