/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Eviction: the slow worker recycles the oldest segment. Straight-line code over io_wait(), see slow.c.
 *
 * Recycling a segment (numbered for README and tests):
 *  [EV-1] Only the oldest of its path [S-3], and only when sealed.
 *  [EV-2] Its hottest records, up to a quota of its size, are written again on the same path, each
 *         under its key's lock, with their old seq; their clock is halved.
 *  [EV-3] Its tombstones and their like are written again while they are needed [F-6], before any value.
 *         If one of them cannot be read, the segment is left as it is, out of use until the next start: what
 *         it ends must not come back. If there is no room for them, others are tried first.
 *  [EV-4] The copies are on disk and synced before the header of the new generation is written and
 *         synced: from here on a restart knows nothing of the old life.
 *  [EV-5] Only then is everything else taken out of the index: so there is no moment at which a key
 *         that is not there could be set or deleted, and its old record be found by a restart. What the RAM
 *         tier has of it lives on in RAM alone.
 *  [EV-6] Every worker passes a loop turn (grace), then the segment's pins reach zero: no read of the
 *         old bytes is under way or can begin. Only now is the segment clean.
 *  [EV-7] A segment less than half full, which a stop or a kill has cut short, is moved whole, and before its turn if
 *         all of it can be moved: else a row of them would evict what has just been stored. Not one that is less than half
 *         full for other reasons, as where values of many sizes leave gaps: a row of these would go round for ever.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "valcached/store/slow_int.h"

#define RUN_BYTES (FORMAT_EXTENT + 65536u)      /* the longest read of the recycler */
#define RUN_WANT  (256u * 1024 >> STORE_SHRINK) /* ... of several records: others read meanwhile */
#define RUN_GAP   (64u * 1024 >> STORE_SHRINK) /* unwanted bytes that are read rather than skipped */
#define RUNS      2u                           /* reads in flight */

/* Bytes at off into mem, in pieces: others read meanwhile. */
static int read_into(struct store_worker *sw, struct path *p, uint8_t *mem, uint64_t bytes,
		     uint64_t off)
{
	for (uint64_t at = 0; at < bytes;) {
		uint32_t n = bytes - at < RUN_WANT ? (uint32_t)(bytes - at) : RUN_WANT;
		struct disk_io *d = disk_io_new(sw->io, p, n);
		int res;

		if (d == NULL)
			return -ENOMEM;
		disk_read(d, n, off + at);
		res = disk_wait(&d);
		if (res == (int)n)
			memcpy(mem + at, d->mem, n);
		disk_io_free(&d);
		if (res != (int)n)
			return res < 0 ? res : -EIO;
		at += n;
	}
	return 0;
}

int slow_read_table(struct store_worker *sw, struct path *p, uint32_t seg, struct format_entry **e,
		    uint32_t *n)
{
	struct store *s = p->store;
	uint64_t end = seg_offset(p, seg) + s->seg_size, bytes;
	struct format_footer f;
	int res = read_into(sw, p, (uint8_t *)&f, sizeof f, end - sizeof f);

	if (res < 0)
		return res;
	if (!footer_good(&f, s->id_seed, atomic_load(&p->seg[seg].generation), s->seg_size))
		return -EBADMSG;
	bytes = table_bytes(f.entries);
	*n = f.entries;
	*e = calloc(1, bytes > 0 ? bytes : 1);
	if (*e == NULL)
		return -ENOMEM;
	res = read_into(sw, p, (uint8_t *)*e, bytes, end - sizeof f - bytes);
	if (res == 0 && !table_good(&f, *e, s->id_seed))
		res = -EBADMSG;
	if (res < 0) {
		free(*e);
		*e = NULL;
	}
	return res;
}

/* Takes one record out of the index. True if it was there. */
static bool unindex(struct store *s, uint64_t hash, uint64_t loc)
{
	pthread_mutex_t *lock = key_lock(s, hash);
	bool was;

	pthread_mutex_lock(lock);
	was = index_remove(s->index, hash, loc);
	if (was)
		ram_relocate(s->ram, hash, loc, 0);
	pthread_mutex_unlock(lock);
	return was;
}

struct pick {
	uint32_t entry;
	uint8_t clock; /* or OTHER: a tombstone or its like */
};
#define OTHER 255

/*
 * Chooses what is worth writing again: live records that were used, the most used first, up to the
 * quota; with unused, also the others [LV-2]. Returns their number, in the order of their places.
 * *used, *total: bytes of records that were used, and of all.
 */
static uint32_t choose(struct store *s, struct path *p, uint32_t seg, const struct format_entry *e,
		       uint32_t n, uint64_t quota, bool unused, struct pick *out, uint64_t *used,
		       uint64_t *total)
{
	uint64_t bytes[INDEX_CLOCK_MAX + 1] = {0}, left = quota;
	uint64_t allow[INDEX_CLOCK_MAX + 1] = {0};
	uint32_t all = 0, k = 0;

	*total = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct index_ref ref;

		*total += (uint64_t)entry_units(&e[i]) * FORMAT_UNIT;
		if (e[i].type != FORMAT_VALUE) {
			out[all].entry = i;
			out[all++].clock = OTHER;
			continue;
		}
		if (!index_get(s->index, e[i].hash, loc_of(p, seg, e[i].units_at), &ref))
			continue;
		out[all].entry = i;
		out[all].clock = ref.clock;
		bytes[ref.clock] += (uint64_t)e[i].units * FORMAT_UNIT;
		all++;
	}
	*used = bytes[1] + bytes[2] + bytes[3];
	for (unsigned c = INDEX_CLOCK_MAX + 1; c-- > (unused ? 0 : 1);) {
		allow[c] = bytes[c] < left ? bytes[c] : left;
		left -= allow[c];
	}
	for (uint32_t i = 0; i < all; i++) {
		uint64_t size = (uint64_t)e[out[i].entry].units * FORMAT_UNIT;

		if (out[i].clock == OTHER)
			out[k++] = out[i];
		else if (size <= allow[out[i].clock] && size <= WHOLE_RECORD) {
			allow[out[i].clock] -= size;
			out[k++] = out[i];
		}
	}
	return k;
}

/* Could the slow worker write anything again? */
static bool any_room(struct path *p)
{
	bool room;

	pthread_mutex_lock(&p->lock);
	room = p->nclean > 0 || p->open[STREAM_MAIN] != SEG_NONE;
	pthread_mutex_unlock(&p->lock);
	return room;
}

/* Room on this path, waiting for our own writes if need be. NULL: there is none to be had. */
static struct wbuf *room(struct store_worker *sw, struct path *p, enum stream to, uint32_t bytes)
{
	for (;;) {
		struct wbuf *w = wbuf_reserve(sw, p, to, bytes);
		bool busy = false;

		if (w != NULL)
			return w;
		for (unsigned i = 0; i < sw->nwbufs; i++)
			busy = busy || sw->wbufs[i]->writing != 0;
		if (!busy || atomic_load(&p->offline))
			return NULL;
		turn_waiting(sw);
	}
}

/* Does any path have a segment, other than this, of a life that began before the flush_all? */
static bool flush_needed(const struct path *p, uint32_t seg, uint64_t until)
{
	const struct store *s = p->store;

	for (unsigned i = 0; i < s->npaths; i++)
		for (uint32_t k = 0; k < s->path[i].nseg; k++) {
			uint64_t g = atomic_load(&s->path[i].seg[k].generation);

			if ((&s->path[i] != p || k != seg) && g != 0 && g <= until)
				return true;
		}
	return false;
}

/* [F-6] Does what this record ends still lie somewhere? Not in seg, which is about to be overwritten. */
static bool still_needed(struct path *p, uint32_t seg, const struct format_record *rec)
{
	uint64_t other =
	    rec->content[0] / (p->store->seg_size / FORMAT_UNIT); /* 0: the superblock's */

	if (atomic_load(&p->keep_ends)) /* the disk may have older records of anything [EV-3] */
		return true;
	if (rec->type == FORMAT_FLUSH)
		return flush_needed(p, seg, rec->content[1]);
	return other >= 1 && other <= p->nseg && other - 1 != seg &&
	       atomic_load(&p->seg[other - 1].generation) == rec->content[1];
}

enum again { AGAIN_DONE, AGAIN_LOST, AGAIN_NO_ROOM };

/* Writes one record again [EV-2], a value to stream `to`, or lets it go. LOST: a tombstone that cannot be read [EV-3]. */
static enum again reinsert(struct store_worker *sw, struct path *p, uint32_t seg,
			   const struct format_entry *e, uint8_t *mem, enum stream to)
{
	struct store *s = sw->s;
	uint64_t loc = loc_of(p, seg, e->units_at), copy;
	pthread_mutex_t *lock = key_lock(s, e->hash);
	struct format_record rec;
	struct index_ref ref;
	struct wbuf *w;
	uint32_t units = 0;

	if (record_check(mem, (size_t)entry_units(e) * FORMAT_UNIT, s->id_seed,
			 atomic_load(&p->seg[seg].generation), e->units_at, &rec) != RECORD_GOOD ||
	    rec.type != e->type) {
		atomic_fetch_add(&s->reinsert_corrupt, 1);
		return e->type == FORMAT_VALUE ? AGAIN_DONE : AGAIN_LOST;
	}
	if (rec.type != FORMAT_VALUE) {
		if (!still_needed(p, seg, &rec))
			return AGAIN_DONE;
		w = room(sw, p, STREAM_MAIN, TOMBSTONE_MAX);
		if (w == NULL)
			return AGAIN_NO_ROOM;
		wbuf_append(w, mem, record_head_len(rec.key_len, 0), NULL, e->hash, true, &units);
		wbuf_published(w);
		return AGAIN_DONE;
	}
	if ((uint64_t)rec.value_off + rec.value_len > (uint64_t)e->units * FORMAT_UNIT ||
	    !record_value_good(mem, &rec, 0, mem + rec.value_off, rec.value_len)) {
		atomic_fetch_add(&s->reinsert_corrupt, 1);
		return AGAIN_DONE; /* unindexed with the rest */
	}
	w = room(sw, p, to, rec.value_off + rec.value_len);
	if (w == NULL && to != STREAM_MAIN) /* others have used young up meanwhile */
		w = room(sw, p, STREAM_MAIN, rec.value_off + rec.value_len);
	if (w == NULL)
		return AGAIN_NO_ROOM;
	pthread_mutex_lock(lock);
	if (!atomic_load(&s->flushing) && index_get(s->index, e->hash, loc, &ref)) {
		copy = wbuf_append(w, mem, record_head_len(rec.key_len, rec.value_len),
				   mem + rec.value_off, e->hash, true, &units);
		AN(index_relocate(s->index, e->hash, loc, copy, units, ref.clock / 2));
		wbuf_published(w);
		ram_relocate(s->ram, e->hash, loc, copy);
		count_add(&s->reinserted, 1);
		count_add(&s->reinserted_bytes, (uint64_t)units * FORMAT_UNIT);
		if (s->cfg.admit == STORE_ADMIT_ALL && seg < p->nstay)
			atomic_fetch_sub(&s->credit, (int64_t)units * FORMAT_UNIT);
	}
	pthread_mutex_unlock(lock);
	if (w->fill + units * FORMAT_UNIT > w->ext_len)
		wbuf_flush(w);
	return AGAIN_DONE;
}

struct run {
	struct disk_io *d;     /* NULL: no memory, or it has taken too long */
	uint32_t first, count; /* of the picks */
	uint32_t from, bytes;  /* in the segment */
};

/* A run that could not be read as a whole: its records one by one. */
static bool read_alone(struct path *p, uint32_t seg, const struct format_entry *f, struct run *r)
{
	uint32_t end = (f->units_at + entry_units(f)) * FORMAT_UNIT;

	r->from = f->units_at * FORMAT_UNIT & ~(FORMAT_ALIGN - 1);
	r->bytes = ((end + FORMAT_ALIGN - 1) & ~(FORMAT_ALIGN - 1)) - r->from;
	if (r->d == NULL || atomic_load(&p->gone))
		return false;
	disk_read(r->d, r->bytes, seg_offset(p, seg) + r->from);
	return disk_wait(&r->d) == (int)r->bytes;
}

/*
 * Reads the chosen records in runs, RUNS at a time, and writes them again. Not AGAIN_DONE: something that ends
 * other records could not be [EV-3].
 */
static enum again reinsert_all(struct store_worker *sw, struct path *p, uint32_t seg,
			       const struct format_entry *e, const struct pick *pick, uint32_t n,
			       enum stream to)
{
	struct run run[RUNS] = {0};
	uint32_t next = 0, head = 0, flying = 0;
	enum again ends = AGAIN_DONE;
	bool stop = false;

	for (unsigned i = 0; i < RUNS; i++)
		run[i].d = disk_io_new(sw->io, p, RUN_BYTES + 2 * FORMAT_ALIGN);
	while ((next < n && !stop) || flying > 0) {
		struct run *r;

		while (next < n && !stop && flying < RUNS &&
		       run[(head + flying) % RUNS].d != NULL) {
			const struct format_entry *f = &e[pick[next].entry];
			uint32_t end = (f->units_at + entry_units(f)) * FORMAT_UNIT;

			r = &run[(head + flying) % RUNS];
			r->first = next;
			r->from = f->units_at * FORMAT_UNIT & ~(FORMAT_ALIGN - 1);
			for (next++; next < n; next++) {
				const struct format_entry *m = &e[pick[next].entry];

				/* entries that are not values come first, so places may go back once */
				if (m->units_at * FORMAT_UNIT < end ||
				    m->units_at * FORMAT_UNIT > end + RUN_GAP ||
				    (m->units_at + entry_units(m)) * FORMAT_UNIT - r->from >
					RUN_WANT)
					break;
				end = (m->units_at + entry_units(m)) * FORMAT_UNIT;
			}
			r->count = next - r->first;
			r->bytes = ((end + FORMAT_ALIGN - 1) & ~(FORMAT_ALIGN - 1)) - r->from;
			disk_read(r->d, r->bytes, seg_offset(p, seg) + r->from);
			flying++;
		}
		if (flying == 0)
			break;       /* no memory at all */
		(void)sync_turn(sw); /* [W-8] */
		r = &run[head];
		bool whole = disk_wait(&r->d) == (int)r->bytes;

		if (!whole)
			COUNT(sw, read_errors);
		for (uint32_t i = 0; i < r->count; i++) {
			const struct format_entry *f = &e[pick[r->first + i].entry];
			enum again did = AGAIN_LOST;

			stop = stop || atomic_load(&p->gone);
			if (stop)
				did = AGAIN_NO_ROOM;
			else if (whole || read_alone(p, seg, f, r))
				did = reinsert(
				    sw, p, seg, f,
				    r->d->mem + ((size_t)f->units_at * FORMAT_UNIT - r->from), to);
			/* what ends others comes first: without it no value is written again [EV-3] */
			if (f->type != FORMAT_VALUE && ends == AGAIN_DONE)
				ends = did;
			stop = stop || did == AGAIN_NO_ROOM || ends != AGAIN_DONE;
		}
		head = (head + 1) % RUNS;
		flying--;
	}
	for (; next < n && ends == AGAIN_DONE; next++)
		if (e[pick[next].entry].type != FORMAT_VALUE)
			ends = stop ? AGAIN_NO_ROOM : AGAIN_LOST;
	for (unsigned i = 0; i < RUNS; i++)
		disk_io_free(&run[i].d);
	return ends;
}

/* Block devices that like it are told that the old content is not needed; the new header stays. */
static void discard(struct store_worker *sw, struct path *p, uint32_t seg)
{
	struct disk_io *d;

	if (!p->file->info.block_device || (d = disk_io_new(sw->io, p, 0)) == NULL)
		return;
	disk_discard(d, seg_offset(p, seg) + FORMAT_ALIGN,
		     (uint32_t)p->store->seg_size - FORMAT_ALIGN);
	(void)disk_wait(&d); /* a hint: refusal changes nothing */
	disk_io_free(&d);
}

/*
 * Begins the segment's next life on disk; *generation is for memory, when the old one is over there. One that
 * leaves has none: zeros are no header [LV-3].
 */
static int new_header(struct store_worker *sw, struct path *p, uint32_t seg, uint64_t *generation)
{
	struct store *s = sw->s;
	struct segment *g = &p->seg[seg];
	struct format_segment *h;
	struct disk_io *d = disk_io_new(sw->io, p, sizeof *h);
	int res;

	if (d == NULL)
		return -ENOMEM;
	h = (struct format_segment *)(void *)d->mem;
	memset(h, 0, sizeof *h);
	*generation = atomic_load(&g->generation);
	if (seg < p->nstay) {
		h->magic = FORMAT_SEG_MAGIC;
		h->version = FORMAT_VERSION;
		h->index = seg;
		h->prev_generation = *generation;
		h->generation = *generation = atomic_fetch_add(&s->live->generation, 1);
		memcpy(h->store_id, s->id, 16);
		segment_seal(h, s->id_seed);
	}
	res = slow_write(sw, d, sizeof *h, seg_offset(p, seg));
	if (res < 0) {
		COUNT(sw, write_errors);
		atomic_fetch_add(&p->write_errors, 1);
		path_fail(p, "a segment's header", res);
	} else {
		res = slow_sync(sw, p);
	}
	return res;
}

static void make_clean(struct store_worker *sw, struct path *p, uint32_t seg, uint64_t generation)
{
	struct store *s = sw->s;

	pthread_mutex_lock(&p->lock);
	atomic_store(&p->seg[seg].generation, generation);
	atomic_store(&p->seg[seg].quarantined, false);
	atomic_store(&p->seg[seg].state, SEG_CLEAN);
	A(p->nclean < p->nseg);
	p->clean[p->nclean++] = seg;
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i <= s->cfg.workers; i++) {
		struct store_worker *w = s->worker[i];

		if (w != NULL && w != sw && atomic_load(&w->extent_wanted))
			worker_wake(w);
	}
	sw->retry = true;
}

/* Is all that main's oldest holds older than young? It was filled when main's next was opened [S-4]: there must be one. */
static bool main_is_older(const struct path *p)
{
	const struct order *young = &p->order[STREAM_YOUNG], *main = &p->order[STREAM_MAIN];

	return atomic_load(&p->seg[main->ring[(main->head + 1) % p->nseg]].generation) <
	       atomic_load(&p->seg[young->ring[young->head]].generation);
}

/*
 * Main's oldest if young is within its share. Else also, if it is known to be dead, or main has not been looked at
 * for a while; but after a start, when nothing is known of main, and while the path shrinks [LV-2], only if it is
 * older than young: in a store that is mostly young main has what came last. Else young's oldest. Under the path's
 * lock. NULL: nothing to recycle.
 */
static struct order *victim_stream(struct path *p)
{
	struct order *young = &p->order[STREAM_YOUNG], *main = &p->order[STREAM_MAIN];
	uint64_t share = (uint64_t)((double)p->nstay * YOUNG_SHARE), bytes = 0;
	bool look = p->main_use == MAIN_DEAD || p->since_main >= MAIN_PROBE;

	if (p->redo > 0 && main->n > 0)
		return main;                      /* [AT-5] */
	if (p->no_room > main->n && young->n > 0) /* [EV-3] all of main has been tried */
		return young;
	if (share < YOUNG_MIN)
		share = YOUNG_MIN;
	/* by bytes: a stop seals what is open, and such stubs are no reason to evict anything */
	for (uint32_t i = 0; i < young->n; i++)
		bytes += p->seg[young->ring[(young->head + i) % p->nseg]].used;
	if (main->n > 1 && (p->main_use == MAIN_UNKNOWN || leaving(p)))
		look = main_is_older(p);
	if (main->n <= 1 || (young->n > YOUNG_MIN && bytes > share * p->store->seg_size && !look))
		return young->n > 1 ? young : NULL;
	return main;
}

/*
 * [EV-3] It stays SEG_RECYCLING, and on disk as it was: a restart finds everything in it. copied: some of its
 * values may have been written again by an earlier try; a tombstone of such a copy must outlive the
 * original, so this path lets none go any more.
 */
static void out_of_use(struct path *p, uint32_t seg, bool copied, const char *why)
{
	if (copied)
		atomic_store(&p->keep_ends, true);
	log_warn("store: %s: segment %u is not used again before the next start: %s",
		 p->file->info.path, seg, why);
}

/*
 * There was no room for what it has to say [EV-3], as after kills that each left the segment that was opened last. It is
 * the youngest now: others may need none. False: that has been tried with all of them.
 */
static bool put_back(struct path *p, uint32_t seg)
{
	struct segment *g = &p->seg[seg];
	bool ok;

	pthread_mutex_lock(&p->lock);
	ok = !atomic_load(&p->offline) &&
	     p->no_room++ <= p->order[STREAM_MAIN].n + p->order[STREAM_YOUNG].n;
	if (ok) {
		atomic_store(&g->state, SEG_SEALED);
		segment_add_order(p, g->stream, seg);
	}
	pthread_mutex_unlock(&p->lock);
	return ok;
}

/*
 * Of what stays in a segment out of use copies may have been made by an earlier try [EV-3]. They may be evicted, and
 * then a start must not find the originals: these are ended now that the copies are durable.
 */
static void end_copied(struct store_worker *sw, struct path *p, uint32_t seg,
		       const struct format_entry *e, uint32_t n)
{
	struct store *s = sw->s;

	if (slow_sync(sw, p) < 0)
		return;
	for (uint32_t i = 0; i < n; i++) {
		const struct index_ref own = {.loc = loc_of(p, seg, e[i].units_at)};
		pthread_mutex_t *lock = key_lock(s, e[i].hash);
		struct index_ref ref;

		if (e[i].type != FORMAT_VALUE)
			continue;
		pthread_mutex_lock(lock);
		if (!index_get(s->index, e[i].hash, own.loc, &ref))
			drop_other(s, &own);
		pthread_mutex_unlock(lock);
	}
}

/* Nobody reads its old life any more. */
static void recycled(struct store_worker *sw, struct path *p, uint32_t seg)
{
	uint64_t generation = p->seg[seg].pending;

	discard(sw, p, seg);
	p->seg[seg].pending = 0;
	atomic_fetch_add(&p->seg_recycled, 1);
	if (seg < p->nstay)
		make_clean(sw, p, seg, generation);
	else
		leave_done(p, seg);
}

void close_soon(struct store_worker *sw, struct path *p, uint32_t seg)
{
	long_sets_abort(sw->s, p, seg);
	if (!atomic_exchange(&p->seg[seg].close_wanted, true))
		workers_wake(sw);
}

/* The at-th of the order becomes the first. Under the path's lock. */
static void to_head(const struct path *p, struct order *o, uint32_t at)
{
	uint32_t seg = o->ring[(o->head + at) % p->nseg];

	for (; at > 0; at--)
		o->ring[(o->head + at) % p->nseg] = o->ring[(o->head + at - 1) % p->nseg];
	o->ring[o->head] = seg;
}

/*
 * The stream of the path's first segment that was cut short, which becomes its oldest; NULL: there is none. Under the
 * path's lock.
 */
static struct order *cut_short_first(struct path *p)
{
	for (unsigned t = 0; t < STREAMS; t++) {
		struct order *o = &p->order[t];

		for (uint32_t at = 0; at < o->n; at++) {
			const struct segment *g = &p->seg[o->ring[(o->head + at) % p->nseg]];

			if (g->cut == FORMAT_CUT_ALL && g->state == SEG_SEALED) {
				to_head(p, o, at);
				return o;
			}
		}
	}
	return NULL;
}

/* The oldest of a stream, or that of `only`. False: nothing can be recycled yet. */
bool recycle(struct store_worker *sw, struct path *p, struct order *only)
{
	struct store *s = sw->s;
	double share =
	    s->cfg.admit == STORE_ADMIT_SECOND ? s->cfg.reinsert_second : s->cfg.reinsert_all;
	uint64_t quota, generation;
	enum stream to = STREAM_MAIN; /* for the values that are written again */
	struct order *o;
	struct format_entry *e;
	struct pick *pick;
	struct segment *g;
	uint64_t used = 0, total = 0, before = atomic_load(&s->reinserted);
	uint32_t seg, n = 0, n_pick, gone = 0;
	enum again ends;
	bool again, whole, given_up;

	pthread_mutex_lock(&p->lock);
	o = only != NULL ? only : victim_stream(p);
	if (o == NULL) {
		bool stuck = p->nclean <= CLEAN_RESERVE && !p->parked;

		pthread_mutex_unlock(&p->lock);
		if (stuck) /* all but the open ones are out of use, and others do not get the last one */
			path_fail(p, "no segment can be recycled", -EIO);
		return false;
	}
	/* [AT-5] goes first; and there must be a place for all that is moved */
	if (only == NULL && p->redo == 0 && p->nclean > 0) {
		struct order *early = cut_short_first(p);

		if (early != NULL) {
			o = early;
			to = early == &p->order[STREAM_YOUNG] && p->nclean > CLEAN_RESERVE
				 ? STREAM_YOUNG
				 : STREAM_MAIN;
		}
	}
	seg = o->ring[o->head];
	g = &p->seg[seg];
	if (g->stream == STREAM_YOUNG || only != NULL)
		share =
		    1.0; /* what was used in young moves to main; and nothing is lost before its turn */
	quota = (uint64_t)((double)s->seg_size * share);
	/* what leaves is moved [LV-2], and what a stop or a kill has cut short [EV-7] */
	whole = (only != NULL && seg >= p->nstay) || g->cut != FORMAT_CUT_NOT;
	/* a rescue is on credit, if need be: a start, for one, begins with none */
	if (s->cfg.admit == STORE_ADMIT_ALL && only == NULL && !whole) {
		int64_t credit = atomic_load(&s->credit);

		if (credit < (int64_t)quota)
			quota = credit > 0 ? (uint64_t)credit : 0;
	}
	if (g->state != SEG_SEALED) {
		pthread_mutex_unlock(&p->lock);
		close_soon(sw, p, seg); /* sealed next time */
		return false;
	}
	o->head = (o->head + 1) % p->nseg;
	o->n--;
	again = p->redo > 0;
	p->redo -= again;
	/* [AT-5] before the first of its records is written again */
	atomic_store(&seg_live(p, seg)->begun, atomic_load(&g->generation));
	p->since_main = g->stream == STREAM_MAIN ? 0 : p->since_main + 1;
	atomic_store(&g->state, SEG_RECYCLING);
	pthread_mutex_unlock(&p->lock);
	if (only == NULL)
		atomic_store(&s->full, true);

	if (slow_read_table(sw, p, seg, &e, &n) < 0) {
		if (!path_answers(sw, p)) /* not this segment's fault [PS-1] */
			return true;
		out_of_use(p, seg, again, "its table cannot be read");
		return true;
	}
	pick = calloc(n > 0 ? n : 1, sizeof *pick);
	AN(pick != NULL);
	if (only == NULL && !whole && !wbufs_budget(sw))
		quota = 0;
	n_pick = choose(s, p, seg, e, n, quota, whole, pick, &used, &total);
	ends = reinsert_all(sw, p, seg, e, pick, n_pick, to);
	free(pick);
	if (g->stream == STREAM_MAIN && !whole && total > 0 && !atomic_load(&g->quarantined))
		p->main_use =
		    s->cfg.admit == STORE_ADMIT_ALL && (double)used >= (double)total * MAIN_HARDLY
			? MAIN_USED
			: MAIN_DEAD;
	slow_flush(sw);
	/* what was cut short is not given up while others may make room; if none of it has a copy yet */
	given_up = whole && n_pick > 0 && atomic_load(&s->reinserted) == before && !any_room(p);
	if ((ends == AGAIN_NO_ROOM || given_up) && only == NULL && !again && put_back(p, seg)) {
		free(e);
		return true;
	}
	if (ends != AGAIN_DONE || atomic_load(&p->offline)) {
		/* of a path that failed it is the first in line when that is back */
		out_of_use(p, seg, again && !atomic_load(&p->offline),
			   "not all that its tombstones say could be written again");
		if (again && !atomic_load(&p->offline))
			end_copied(sw, p, seg, e, n);
		free(e);
		return true;
	}
	if (slow_sync(sw, p) < 0 || new_header(sw, p, seg, &generation) < 0) { /* [EV-4] */
		free(e);
		return true; /* the path is offline; what is in the segment can still be read */
	}
	p->no_room = 0;
	for (uint32_t i = 0; i < n; i++) /* [EV-5] */
		if (e[i].type == FORMAT_VALUE &&
		    unindex(s, e[i].hash, loc_of(p, seg, e[i].units_at))) {
			tell_gone(s, STORE_GONE_RECYCLED, e[i].hash, loc_of(p, seg, e[i].units_at));
			ghost_add(s->ghost, e[i].hash);
			gone++;
		}
	free(e);
	if (g->ragged) {
		uint64_t lo = loc_of(p, seg, 0);

		tell_gone(s, STORE_GONE_SEGMENT, 0, lo);
		gone += (uint32_t)index_remove_range(s->index, lo, lo + s->seg_size / FORMAT_UNIT);
		g->ragged = false;
	}
	atomic_fetch_add(&s->evicted, gone);
	if (unlikely(leaving(p))) {
		atomic_fetch_add(&p->leave_kept, atomic_load(&s->reinserted) - before);
		atomic_fetch_add(&p->leave_dropped, gone);
	}
	if (!whole && g->opened_ns != 0 && g->stream == STREAM_MAIN)
		atomic_store(&s->eviction_age_ns, clock_ns() - g->opened_ns);
	grace(sw); /* [EV-6] */
	g->pending = generation;
	for (uint64_t t = io_now(sw->io); atomic_load(&g->pins) != 0;) {
		if (s->cfg.io_timeout_ns != 0 && io_now(sw->io) - t >= s->cfg.io_timeout_ns)
			return p->parked = true; /* until the read has come back */
		wait_for_others(sw, 10 * NS_PER_MS);
	}
	recycled(sw, p, seg);
	return true;
}

void pending_turn(struct store_worker *sw, struct path *p)
{
	p->parked = false;
	for (uint32_t k = 0; k < p->nseg; k++)
		if (p->seg[k].pending != 0 && atomic_load(&p->seg[k].pins) == 0)
			recycled(sw, p, k);
		else if (p->seg[k].pending != 0)
			p->parked = true;
}

void prepare_virgin(struct store_worker *sw, struct path *p)
{
	uint32_t seg = SEG_NONE;
	uint64_t generation;

	pthread_mutex_lock(&p->lock);
	for (uint32_t i = p->nstay - p->virgins; i < p->nstay; i++)
		if (p->seg[i].state == SEG_VIRGIN) {
			seg = i;
			break;
		}
	if (seg == SEG_NONE)
		for (uint32_t i = 0; i < p->nstay && seg == SEG_NONE; i++)
			if (p->seg[i].state == SEG_VIRGIN)
				seg = i;
	AN(p->virgins > 0 && seg != SEG_NONE);
	p->virgins--;
	atomic_store(&p->seg[seg].state, SEG_RECYCLING);
	pthread_mutex_unlock(&p->lock);
	if (new_header(sw, p, seg, &generation) >= 0)
		make_clean(sw, p, seg, generation);
}

/* ---- out of turn ------------------------------------------------------------------------------- */

bool recycle_now(struct store_worker *sw, struct path *p, uint32_t seg)
{
	struct order *o = &p->order[p->seg[seg].stream];
	uint32_t at = 0;

	pthread_mutex_lock(&p->lock);
	while (o->ring[(o->head + at) % p->nseg] != seg)
		A(++at < o->n);
	to_head(p, o, at);
	pthread_mutex_unlock(&p->lock);
	return recycle(sw, p, o);
}

/*
 * [QU-1] A segment in which something cannot be read is recycled before its turn. Until its next life has begun on
 * disk all that it holds stays in the index, so that what is deleted meanwhile is ended on disk, too. Returns
 * whether it must be looked at again.
 */
bool quarantine_turn(struct store_worker *sw, struct path *p)
{
	bool again = false;

	for (uint32_t seg = 0; seg < p->nseg; seg++) {
		struct segment *g = &p->seg[seg];
		uint32_t state;

		if (!atomic_load(&g->quarantined) || atomic_load(&g->state) == SEG_RECYCLING)
			continue;
		if (!path_answers(sw, p))
			return false; /* not this segment's fault */
		pthread_mutex_lock(&p->lock);
		state = atomic_load(&g->state);
		if (state == SEG_OPEN) {
			atomic_store(&g->state, state = SEG_FULL);
			p->open[g->stream] = SEG_NONE;
		}
		/* [AT-5] goes first; and what it holds must have a place to go to */
		if (state != SEG_SEALED || p->redo > 0 || p->nclean <= CLEAN_RESERVE) {
			pthread_mutex_unlock(&p->lock);
			if (state == SEG_FULL)
				close_soon(sw, p, seg);
			again = true;
			continue;
		}
		pthread_mutex_unlock(&p->lock);
		(void)recycle_now(sw, p, seg);
		if (!atomic_load(&g->quarantined)) {
			tell_gone(sw->s, STORE_GONE_SEGMENT, 0, loc_of(p, seg, 0));
			log_warn(
			    "store: %s: segment %u is empty; what it held and could be read and was used "
			    "was written again",
			    p->file->info.path, seg);
		}
		return true;
	}
	return again;
}
