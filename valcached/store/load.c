/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading: the tables of sealed segments go into the index, the newest first.
 *
 *   begin: what ends records, what is not sealed --> tables, in bites --> keys that are there twice --> done
 *
 *  [RC-3] What ends other records (tombstones, drops, flushes) is collected from every segment before
 *         the first value is indexed.
 *  [RC-4] A value is indexed unless something with a higher seq ends it. Of two records of one key (a kill
 *         while one was written again, a power cut that took the tombstone between them) the newer
 *         stays, and the older is ended by a DROP record: else it would come to light when the newer is
 *         evicted.
 *
 * Many tables are asked for at a time, and taken in their order. The values of one are put in the order of their
 * stripes, which is that of their lines in the index: so a key's lock is taken once for many, and lines,
 * pages and ends that are looked at lie close together.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "valcached/store/recency.h"
#include "valcached/store/recover_int.h"
#include "valcached/store/slow_int.h"

#define SAY_NS (2 * NS_PER_S)
#define BITE   (1u << 18) /* entries that are indexed before others have their turn */

/* ---- reading tables ---------------------------------------------------------------------------- */

static bool wanted(const struct load *l, const struct unread *u)
{
	return u->state == UNREAD && (!l->ends_only || u->others > 0) &&
	       !atomic_load(&u->path->gone);
}

static void ask(struct load *l, struct io *io)
{
	for (; l->flying < l->tables && l->next < l->n; l->next++) {
		struct table *t = &l->table[(l->head + l->flying) % l->tables];
		struct unread *u = &l->unread[l->next];

		if (!wanted(l, u))
			continue;
		if (t->d == NULL && (t->d = disk_io_new(io, u->path, l->table_bytes)) == NULL)
			return; /* later */
		t->d->io = io;
		t->d->path = u->path;
		t->u = u;
		u->state = READING;
		disk_read(t->d, (uint32_t)table_bytes(u->entries),
			  seg_offset(u->path, u->seg) + u->table_off);
		l->flying++;
	}
}

static void over(struct load *l, struct unread *u, bool good)
{
	u->state = good ? READ : UNREADABLE;
	A(l->left > 0);
	l->left--;
}

static void again(struct load *l, struct unread *u)
{
	u->state = UNREAD;
	if ((size_t)(u - l->unread) < l->next)
		l->next = (size_t)(u - l->unread);
}

/* A table that has been read, or NULL: it was not to be had. */
static const struct format_entry *table_of(struct load *l, const struct table *t, int res)
{
	struct unread *u = t->u;
	const struct format_footer f = {
	    .entries = u->entries, .table_off = u->table_off, .table_sum = u->table_sum};
	const struct format_entry *e;

	if (atomic_load(&u->path->seg[u->seg].generation) != u->generation) {
		over(l, u, true); /* the path came back without it */
		return NULL;
	}
	e = t->d != NULL ? (const struct format_entry *)(const void *)t->d->mem : NULL;
	if (res == (int)table_bytes(u->entries) && table_good(&f, e, l->s->id_seed))
		return e;
	if (atomic_load(&u->path->gone) || ++u->tries < READ_TRIES)
		again(l, u);
	else
		over(l, u, false);
	return NULL;
}

/* ---- indexing them ----------------------------------------------------------------------------- */

/* The entries of one segment. */
struct part {
	const struct path *path;
	uint32_t seg, n;
	const struct format_entry *e;
	uint32_t values; /* of a table: whose clocks may have been saved [RE-3]; else 0 */
};

/* Sums say that an entry is what was written, not that it makes sense. */
static bool usable(const struct load *l, const struct format_entry *e)
{
	return e->type == FORMAT_VALUE && e->units_at < l->s->seg_size / FORMAT_UNIT;
}

/* The values of some tables, in the order of their stripes. first: of each stripe. */
static void sort(struct load *l, const struct part *part, unsigned parts,
		 uint32_t first[STRIPES + 1])
{
	uint32_t at[STRIPES] = {0}, n = 0;

	for (unsigned k = 0; k < parts; k++)
		n += part[k].n;
	if (n > l->items_cap) {
		free(l->item);
		l->items_cap = n > BITE ? n : BITE;
		l->item = malloc(l->items_cap * sizeof *l->item);
		AN(l->item != NULL);
	}
	for (unsigned k = 0; k < parts; k++)
		for (uint32_t i = 0; i < part[k].n; i++)
			at[key_stripe(part[k].e[i].hash)] += usable(l, &part[k].e[i]);
	n = 0;
	for (unsigned k = 0; k < STRIPES; k++) {
		first[k] = n;
		n += at[k];
		at[k] = first[k];
	}
	first[STRIPES] = n;
	for (unsigned k = 0; k < parts; k++) {
		const struct format_entry *e = part[k].e;
		uint64_t base = loc_of(part[k].path, part[k].seg, 0);
		uint32_t v = 0, values = part[k].values;
		const struct format_clocks *clocks =
		    values > 0 ? recency_of(part[k].path, part[k].seg) : NULL;

		for (uint32_t i = 0; i < part[k].n; i++) {
			uint8_t clock = 0;

			if (clocks != NULL && e[i].type == FORMAT_VALUE)
				clock = recency_clock(clocks, values, v++);
			if (usable(l, &e[i]))
				l->item[at[key_stripe(e[i].hash)]++] =
				    (struct item){.hash = e[i].hash,
						  .seq = e[i].seq,
						  .loc = (base + e[i].units_at) & INDEX_LOC_MAX,
						  .units = e[i].units & 0xffffffu,
						  .clock = clock & INDEX_CLOCK_MAX};
		}
	}
}

#define AHEAD 12u

/* Those from i up to end, which are of one stripe. */
static void index_stripe(struct load *l, unsigned stripe, uint32_t i, uint32_t end, uint32_t all)
{
	struct store *s = l->s;
	uint64_t flush, added = l->added, used = l->used;

	pthread_mutex_lock(&s->stripe[stripe].m);
	/* a flush_all that is under way will have a higher seq than all of them [DEL-3] */
	flush = atomic_load(&s->flushing) ? UINT64_MAX : atomic_load(&s->flush_seq);
	flush = flush > l->flush ? flush : l->flush;
	for (; i < end; i++) {
		const struct item *it = &l->item[i];

		if (i + AHEAD < all)
			index_prefetch(s->index, l->item[i + AHEAD].hash);
		if (unlikely(it->seq < flush)) {
			if (unlikely(it->seq < l->flush && it->seq >= l->flush_kept))
				load_ended_lost(l, it);
			l->ended++;
		} else {
			load_value(l, &l->key[stripe], it);
		}
	}
	index_added(s->index, l->added - added);
	if (l->used > used)
		recency_restored(s, l->used - used);
	pthread_mutex_unlock(&s->stripe[stripe].m);
}

static void index_parts(struct load *l, const struct part *part, unsigned parts)
{
	uint32_t first[STRIPES + 1];

	sort(l, part, parts, first);
	for (unsigned k = 0; k < STRIPES; k++)
		if (first[k] < first[k + 1])
			index_stripe(l, k, first[k], first[k + 1], first[STRIPES]);
}

/*
 * Its table cannot be had: its blocks say what it holds, and it is sealed anew [RC-2]; if it is not the whole path
 * that does not answer.
 */
static void walk(struct load *l, struct io *io, struct unread *u)
{
	struct path *p = u->path;
	struct segment *g = &p->seg[u->seg];
	struct store_worker *slow = l->s->worker[l->s->cfg.workers];
	struct reading r = {.s = l->s, .io = io, .running = true};
	struct found f = {
	    .path = p, .seg = u->seg, .generation = u->generation, .table_off = u->table_off};

	if (posix_memalign((void **)&r.mem, FORMAT_ALIGN, SCAN_BYTES + FORMAT_ALIGN) != 0)
		A(false); /* a megabyte */
	scan(&r, &f);
	free(r.mem);
	if (r.torn > 0 && !path_answers(slow, p)) {
		free(f.scanned);
		l->left++;
		again(l, u);
		return;
	}
	for (uint32_t i = 0; i < f.entries; i++) {
		pthread_mutex_t *lock = key_lock(l->s, f.scanned[i].hash);

		pthread_mutex_lock(lock);
		load_note(l, &f.scanned[i]);
		pthread_mutex_unlock(lock);
	}
	index_parts(l, &(struct part){p, u->seg, f.entries, f.scanned, 0}, 1);
	pthread_mutex_lock(&p->lock);
	A(atomic_load(&g->state) == SEG_SEALED);
	g->used = FORMAT_ALIGN + (uint32_t)f.data_bytes;
	g->entries = f.scanned;
	g->entries_cap = g->nentries = f.entries;
	atomic_store(&g->state, SEG_FULL);
	pthread_mutex_unlock(&p->lock);
	if (r.unreadable > 0) /* not for a block that a power cut tore before it was sealed */
		segment_quarantine(l->s, p, u->seg, "its table and some of its blocks are damaged");
}

/* ---- a bite ------------------------------------------------------------------------------------ */

/* The result of a read; -EAGAIN: there is none yet. */
static int table_result(struct load *l, struct table *t, uint64_t *due)
{
	struct store *s = l->s;
	uint64_t limit = s->worker[s->cfg.workers] != NULL ? s->cfg.io_timeout_ns : 0;

	if (io_op_idle(&t->d->op))
		return t->d->op.res;
	if (limit == 0 || !io_op_begun(&t->d->op)) /* [LT-5] */
		return -EAGAIN;
	if (io_now(t->d->io) - t->d->since >= limit)
		return disk_wait(&t->d); /* says at once that it is late, if it is */
	if (t->d->since + limit < *due)
		*due = t->d->since + limit;
	return -EAGAIN;
}

/* Of the tables that were asked for the first ones, as far as they are there. False: the first is not. */
static bool tables_turn(struct load *l, struct io *io, uint64_t *due)
{
	struct part part[LOAD_TABLES];
	struct unread *bad[LOAD_TABLES];
	unsigned n = 0, parts = 0, bads = 0;

	for (uint32_t entries = 0; n < l->flying && entries < BITE; n++) {
		struct table *t = &l->table[(l->head + n) % l->tables];
		const struct format_entry *e;
		int res = table_result(l, t, due);

		if (res == -EAGAIN)
			break;
		e = table_of(l, t, res);
		entries += t->u->entries;
		if (e != NULL)
			part[parts++] = (struct part){t->u->path, t->u->seg, t->u->entries, e,
						      t->u->entries - t->u->others};
		else if (t->u->state == UNREADABLE && !l->ends_only)
			bad[bads++] = t->u;
		if (e != NULL && l->ends_only) {
			for (uint32_t i = 0; i < t->u->others; i++)
				load_note(l, &e[i]);
			t->u->state = READ;
		} else if (e != NULL) {
			over(l, t->u, true);
		}
	}
	if (!l->ends_only)
		index_parts(l, part, parts);
	l->head = (l->head + n) % l->tables;
	l->flying -= n;
	for (unsigned i = 0; i < bads; i++)
		walk(l, io, bad[i]);
	return n > 0;
}

/*
 * [RC-9] What is left lies on paths that are gone. One that comes back empty [PS-2] has nothing to say; else it
 * is waited for.
 */
static void forget_gone(struct load *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->unread[i].state == UNREAD && path_end(l->unread[i].path) == END_MOOT)
			over(l, &l->unread[i], true);
	l->next = 0;
}

/*
 * [RC-7] True: all that was appended before everything had been read is durable, or its path has failed. What it
 * has replaced may be ended now.
 */
static bool replaced_safe(struct load *l)
{
	struct store *s = l->s;
	bool offline = false;

	for (unsigned i = 0; i < s->npaths; i++)
		offline = offline || atomic_load(&s->path[i].offline);
	if (l->mark == NULL) {
		l->mark = calloc(s->nwbuf, sizeof *l->mark);
		AN(l->mark != NULL);
		for (unsigned i = 0; i < s->nwbuf; i++) {
			const struct wbuf_shm *h = s->wbuf[i].shm;

			l->mark[i].generation = atomic_load(&h->generation);
			l->mark[i].committed = atomic_load(&h->committed);
		}
	}
	for (unsigned i = 0; i < s->nwbuf && !offline; i++) {
		const struct wbuf_shm *h = s->wbuf[i].shm;

		if (l->mark[i].generation != 0 && atomic_load(&h->written) < l->mark[i].committed &&
		    atomic_load(&h->generation) == l->mark[i].generation)
			return false;
	}
	for (unsigned i = 0; i < s->npaths; i++)
		if (!atomic_load(&s->path[i].offline))
			(void)slow_sync(s->worker[s->cfg.workers], &s->path[i]);
	return true;
}

enum load_step load_step(struct load *l, struct io *io, uint64_t *due)
{
	ask(l, io);
	if (l->flying > 0)
		return tables_turn(l, io, due) ? LOAD_MORE : LOAD_WAITS;
	if (l->next < l->n)
		return LOAD_MORE; /* no memory, for now */
	if (l->ends_only)
		return LOAD_DONE;
	if (l->left > 0) {
		forget_gone(l);
		*due = io_now(io) + 10 * NS_PER_MS;
		return LOAD_WAITS;
	}
	if (!doubts_settle(l->s, io, l, &l->doubts))
		return LOAD_MORE;
	if (l->nreplaced > 0 && !replaced_safe(l)) {
		*due = io_now(io) + l->s->cfg.sync_ns / 16;
		return LOAD_WAITS;
	}
	load_end_replaced(l);
	return LOAD_DONE;
}

/* ---- begin and end ----------------------------------------------------------------------------- */

static void to_the_end(struct load *l, struct io *io)
{
	uint64_t due = UINT64_MAX;

	for (;;) {
		switch (load_step(l, io, &due)) {
		case LOAD_DONE:
			return;
		case LOAD_WAITS:
			A(io_turn(io, -1) >= 0);
			break;
		case LOAD_MORE:
			break;
		}
	}
}

/* [RC-3] Of tables, only those that hold such records. */
static void read_ends(struct load *l, struct io *io)
{
	l->ends_only = true;
	to_the_end(l, io);
	l->ends_only = false;
	l->next = 0;
	for (size_t i = 0; i < l->n; i++) {
		l->unread[i].tries = 0;
		if (l->unread[i].state == READ && l->unread[i].entries > 0)
			l->unread[i].state = UNREAD;
	}
}

int load_begin(struct reading *r)
{
	struct store *s = r->s;
	struct load *l = calloc(1, sizeof *l);

	if (l == NULL)
		return -ENOMEM;
	s->load = l;
	l->s = s;
	l->unread = calloc(r->n + 1, sizeof *l->unread);
	if (l->unread == NULL)
		return -ENOMEM;
	l->table_bytes = FORMAT_ALIGN;
	for (size_t i = 0; i < r->n; i++) {
		const struct found *f = &r->found[i];

		if (!f->sealed)
			continue;
		l->unread[l->n++] = (struct unread){.path = f->path,
						    .seg = f->seg,
						    .generation = f->generation,
						    .entries = f->entries,
						    .others = f->others,
						    .table_off = f->table_off,
						    .table_sum = f->table_sum,
						    .state = f->entries > 0 ? UNREAD : READ};
		l->left += f->entries > 0;
		if (table_bytes(f->entries) > l->table_bytes)
			l->table_bytes = table_bytes(f->entries);
	}
	l->tables = (unsigned)(LOAD_BYTES / l->table_bytes);
	l->tables = l->tables < 2 ? 2 : l->tables > LOAD_TABLES ? LOAD_TABLES : l->tables;
	read_ends(l, r->io);
	for (size_t i = 0, k = 0; i < r->n; i++) {
		struct found *f = &r->found[i];

		if (f->sealed && l->unread[k++].state == UNREADABLE) {
			f->sealed = false;
			f->entries = 0;
			f->data_bytes = 0;
		}
		if (f->sealed)
			continue;
		scan(r, f);
		for (uint32_t e = 0; e < f->entries; e++) {
			if (f->scanned[e].seq > r->seq_max)
				r->seq_max = f->scanned[e].seq;
			load_note(l, &f->scanned[e]);
		}
	}
	for (size_t i = 0; i < r->nlost; i++) {
		struct found *f = &r->lost[i];

		scan(r, f);
		for (uint32_t e = 0; e < f->entries; e++) {
			if (f->scanned[e].seq > r->seq_max)
				r->seq_max = f->scanned[e].seq;
			load_note_lost(l, &f->scanned[e]);
		}
		free(f->scanned);
	}
	l->seq = (r->seq_max < SEQ_LIMIT ? r->seq_max : SEQ_LIMIT) + 1;
	atomic_store(&s->live->seq, l->seq);
	atomic_store(&s->live->generation, r->gen_max + 1);
	for (size_t i = 0; i < r->n; i++) {
		struct found *f = &r->found[i];

		if (!f->sealed)
			index_parts(l, &(struct part){f->path, f->seg, f->entries, f->scanned, 0},
				    1);
	}
	return 0;
}

/* [RC-11] What they end has been ended elsewhere, too: they are as good as new. */
static void take_lost(struct store *s)
{
	for (unsigned i = 0; i < s->npaths; i++) {
		struct path *p = &s->path[i];

		pthread_mutex_lock(&p->lock);
		for (uint32_t k = 0; k < p->nseg; k++) {
			if (!p->seg[k].lost)
				continue;
			p->seg[k].lost = false;
			atomic_store(&p->seg[k].state, SEG_VIRGIN);
			p->virgins++;
		}
		pthread_mutex_unlock(&p->lock);
	}
}

/* All that the disk has is in the index, or has been ended. */
static void load_end(struct store *s)
{
	struct load *l = s->load;
	bool served = atomic_exchange(&s->loading, false);

	/* whoever has seen that it was going on is done with its ends */
	for (unsigned i = 0; i < STRIPES; i++) {
		pthread_mutex_lock(&s->stripe[i].m);
		pthread_mutex_unlock(&s->stripe[i].m);
	}
	atomic_store(&s->recovered, l->added);
	atomic_store(&s->segments_loaded, (uint32_t)l->n);
	atomic_store(&s->recover_ns, clock_ns() - s->recover_began);
	atomic_store(&s->live->complete, 1);
	if (served) {
		AN(atomic_load(&s->live->owed));
		atomic_fetch_sub(&s->live->owed, 1);
	}
	log_info("store: %" PRIu64 " values, %" PRIu64
		 " ended ones left out; read from %zu sealed segments in %.3f s",
		 l->added, l->ended, l->n, (double)atomic_load(&s->recover_ns) / 1e9);
	if (!l->lost_needed)
		take_lost(s);
	load_free(&s->load);
	recency_loaded(s);
}

void load_serve(struct store *s, struct io *io)
{
	struct load *l = s->load;

	atomic_store(&s->segments_to_load, (uint32_t)l->n);
	atomic_store(&s->recovered, l->added);
	if (l->left == 0) {
		to_the_end(l, io);
		load_end(s);
		return;
	}
	l->said = clock_ns();
	atomic_store(&s->segments_loaded, (uint32_t)(l->n - l->left));
	atomic_store(&s->loading, true);
	atomic_fetch_add(&s->live->owed, 1);
	log_info("store: serving what was written last, %" PRIu64
		 " values, while the tables of %zu segments are read",
		 l->added, l->left);
}

uint64_t load_turn(struct store_worker *sw)
{
	struct store *s = sw->s;
	struct load *l = s->load;
	uint64_t due = UINT64_MAX;
	enum load_step step = load_step(l, sw->io, &due);

	atomic_store_explicit(&s->recovered, l->added, memory_order_relaxed);
	/* the last one counts when nothing is in doubt any more, either */
	atomic_store_explicit(&s->segments_loaded, (uint32_t)(l->n - l->left - (l->left == 0)),
			      memory_order_relaxed);
	if (step == LOAD_DONE) {
		load_end(s);
		workers_wake(sw);
		return 0;
	}
	if (clock_ns() - l->said >= SAY_NS) {
		l->said = clock_ns();
		log_info("store: %zu of %zu segments' tables are read, %" PRIu64 " values",
			 l->n - l->left, l->n, l->added);
	}
	return step == LOAD_MORE ? 0 : due;
}

void load_drain(struct load *l)
{
	for (; l != NULL && l->flying > 0; l->flying--) {
		struct table *t = &l->table[l->head];

		(void)disk_wait(&t->d);
		again(l, t->u);
		l->head = (l->head + 1) % l->tables;
	}
}

void load_free(struct load **lp)
{
	struct load *l = *lp;

	*lp = NULL;
	if (l == NULL)
		return;
	for (unsigned i = 0; i < LOAD_TABLES; i++)
		disk_io_free(&l->table[i].d);
	for (unsigned i = 0; i < STRIPES; i++)
		free(l->key[i].slot);
	free(l->place.slot);
	free(l->doubts.d);
	free(l->replaced);
	free(l->mark);
	free(l->unread);
	free(l->item);
	free(l);
}
