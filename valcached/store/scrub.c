/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scrub: the slow worker reads every sealed segment again, at a bounded rate, and verifies what nobody may have
 * asked for in months: header, table, each record's head and each value.
 *
 *     pick -> header, table -> records by place, a piece at a time -> checked -> pick ... -> end of the pass
 *
 *  [SC-1] Each segment knows the pass in which it was verified last, or written. A pass takes all of a lower number, the
 *         lowest and oldest first. The number is in shared memory, and on disk with the clocks (recency.c): a restart
 *         goes on with the pass instead of beginning with the same ones again.
 *  [SC-2] One read at a time, of a chunk and its edges at most, and none sooner than the bytes of the one before
 *         allow. None while there is something to seal, to recycle or to sync, or while SCRUB_BUSY reads of
 *         others are under way on the path. Time that was not used is not made up for.
 *  [SC-3] Between two pieces the segment may be recycled and its path fail: then what is known of it is let go.
 *  [SC-4] What is bad is read once more. A value that is still bad is treated as by a get that found it: its slot goes,
 *         a DROP record ends it, its segment is quarantined [QU-1]. The same for a damaged header. A damaged table is
 *         made anew from the blocks first, or nothing of the segment could be recycled. What ends other records
 *         (tombstones and their like) and is bad is counted and said: the table has what a start needs of it, and
 *         to recycle the segment sooner would only put it out of use sooner [EV-3].
 *  [SC-5] A value that the index does not know any more is nobody's, and is not looked at. No segment is left out
 *         for being read often: what is hot is single records, served from RAM, beside thousands that are not.
 *
 * The slow worker's; what stats read is atomic.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/xxh.h"
#include "valcached/store/slow_int.h"

#define SCRUB_BUSY 16u /* reads under way on the path */
#define PIECE      (FORMAT_CHUNK + 2 * FORMAT_ALIGN)
#define HEAD       (2 * FORMAT_ALIGN) /* any record's head, wherever in a page it begins */
#define BUSY_NS    (10 * NS_PER_MS)
#define IDLE_NS    NS_PER_S
#define PASS_NS    (10 * NS_PER_S) /* a pass begins so long after the one before at the earliest */

_Static_assert(RECORD_HEAD_MAX + FORMAT_ALIGN <= HEAD, "a head with its slop");

struct scrub {
	/* the segment that is being verified */
	struct path *path; /* NULL: none */
	uint32_t seg, n, next;
	uint64_t generation;
	struct format_entry *e; /* its table, by place; NULL: not read yet */
	uint32_t bad;           /* records of it */
	/* entry `next` is longer than a piece, and its head is known */
	bool in_long;
	struct format_record rec;
	uint32_t off; /* of its value, verified so far */
	uint8_t head[RECORD_HEAD_MAX];
	/* the pass */
	uint64_t due, began;
	bool passing;
	/* read by stats */
	_Atomic uint64_t segments, left, pass_bytes, pass_errors;  /* of this pass */
	_Atomic uint64_t passes, passed_ns, bytes, errors, yields; /* since the start */
};

int scrub_open(struct store *s)
{
	uint32_t pass = 0;

	s->scrub = calloc(1, sizeof *s->scrub);
	if (s->scrub == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < s->npaths; i++)
		for (uint32_t k = 0; k < s->path[i].nseg; k++)
			if (seg_live(&s->path[i], k)->checked > pass)
				pass = seg_live(&s->path[i], k)->checked;
	atomic_store(&s->scrub_pass, pass);
	s->scrub->passing = pass > 0;
	return 0;
}

static void leave(struct scrub *sc)
{
	free(sc->e);
	sc->e = NULL;
	sc->path = NULL;
	sc->in_long = false;
}

void scrub_close(struct store *s)
{
	if (s->scrub != NULL)
		leave(s->scrub);
	free(s->scrub);
	s->scrub = NULL;
}

void scrub_stats(const struct store *s, store_emit_fn *emit, void *arg)
{
	const struct scrub *sc = s->scrub;
	uint64_t passed = atomic_load(&sc->passed_ns);

	emit(arg, "scrub_rate", "%" PRIu64, s->cfg.scrub_rate);
	emit(arg, "scrub_segments", "%" PRIu64, atomic_load(&sc->segments));
	emit(arg, "scrub_segments_left", "%" PRIu64, atomic_load(&sc->left));
	emit(arg, "scrub_passes", "%" PRIu64, atomic_load(&sc->passes));
	emit(arg, "scrub_pass_age_s", "%.0f",
	     passed != 0 ? (double)(clock_ns() - passed) / 1e9 : -1.0);
	emit(arg, "scrub_bytes", "%" PRIu64, atomic_load(&sc->bytes));
	emit(arg, "scrub_errors", "%" PRIu64, atomic_load(&sc->errors));
	emit(arg, "scrub_yields", "%" PRIu64, atomic_load(&sc->yields));
}

/* ---- which segment ----------------------------------------------------------------------------- */

/* [SC-3] What was picked is still what it was. */
static bool there(const struct scrub *sc)
{
	const struct segment *g = &sc->path->seg[sc->seg];

	return !atomic_load(&sc->path->offline) && atomic_load(&g->state) == SEG_SEALED &&
	       atomic_load(&g->generation) == sc->generation && !atomic_load(&g->quarantined);
}

/* The next one of this pass [SC-1]. False: there is none. */
static bool pick(struct store *s, struct scrub *sc)
{
	uint32_t pass = atomic_load(&s->scrub_pass), lowest = 0;
	uint64_t left = 0;

	for (unsigned i = 0; i < s->npaths; i++) {
		struct path *p = &s->path[i];

		for (uint32_t k = 0; k < p->nseg && !atomic_load(&p->offline); k++) {
			const struct segment *g = &p->seg[k];
			uint64_t generation = atomic_load(&g->generation);
			uint32_t checked;

			if (atomic_load(&g->state) != SEG_SEALED || atomic_load(&g->quarantined))
				continue;
			checked = seg_live(p, k)->checked;
			if (checked >= pass)
				continue;
			if (left++ == 0 || checked < lowest ||
			    (checked == lowest && generation < sc->generation)) {
				lowest = checked;
				sc->path = p;
				sc->seg = k;
				sc->generation = generation;
			}
		}
	}
	atomic_store(&sc->left, left);
	sc->next = sc->bad = 0;
	return left > 0;
}

static void begin_pass(struct store_worker *sw, struct scrub *sc)
{
	atomic_fetch_add(&sw->s->scrub_pass, 1);
	atomic_store(&sc->segments, 0);
	atomic_store(&sc->pass_bytes, 0);
	atomic_store(&sc->pass_errors, 0);
	sc->began = io_now(sw->io);
	sc->passing = true;
}

static void end_pass(struct store_worker *sw, struct scrub *sc)
{
	sc->passing = false;
	if (atomic_load(&sc->segments) == 0 && atomic_load(&sc->pass_errors) == 0) {
		sc->began = 0; /* there was nothing to verify */
		return;
	}
	atomic_fetch_add(&sc->passes, 1);
	atomic_store(&sc->passed_ns, clock_ns());
	log_info("scrub: %" PRIu64 " segments verified in %.0f s, %" PRIu64 " MiB read, %" PRIu64
		 " records or tables were bad",
		 atomic_load(&sc->segments), (double)(io_now(sw->io) - sc->began) / 1e9,
		 atomic_load(&sc->pass_bytes) >> 20, atomic_load(&sc->pass_errors));
}

/* All of it has been read. */
static void end_segment(struct scrub *sc)
{
	if (sc->bad > 0)
		log_warn("scrub: %s: segment %u: %u of %u records are bad",
			 sc->path->file->info.path, sc->seg, sc->bad, sc->n);
	seg_live(sc->path, sc->seg)->checked = atomic_load(&sc->path->store->scrub_pass);
	atomic_fetch_add(&sc->segments, 1);
	leave(sc);
}

/* ---- reading ----------------------------------------------------------------------------------- */

/* Bytes [from, from + len) of the segment: 0, or -errno; *mem is valid until d is used again. */
static int read_piece(struct scrub *sc, struct disk_io **d, uint32_t from, uint32_t len)
{
	struct segment *g = &sc->path->seg[sc->seg];
	int res;

	atomic_fetch_add(&sc->bytes, len);
	atomic_fetch_add(&sc->pass_bytes, len);
	atomic_fetch_add(&g->pins, 1);
	disk_read(*d, len, seg_offset(sc->path, sc->seg) + from);
	res = disk_wait(d);
	segment_unpin(sc->path->store, g); /* what is late has memory of its own */
	return res < 0 ? res : (uint32_t)res == len ? 0 : -EIO;
}

static void count_error(struct store_worker *sw, struct scrub *sc, bool unreadable)
{
	atomic_fetch_add(&sc->errors, 1);
	atomic_fetch_add(&sc->pass_errors, 1);
	if (unreadable) {
		COUNT(sw, read_errors);
		atomic_fetch_add(&sc->path->read_errors, 1);
	} else {
		COUNT(sw, corrupt_reads);
	}
}

/* [SC-4] This entry's record cannot be read (err), or is not what it should be (0). */
static void bad_record(struct store_worker *sw, struct scrub *sc, const struct format_entry *e,
		       int err)
{
	static struct log_limit limit;
	struct store *s = sw->s;

	/* the path's fault is not the record's */
	if ((err < 0 && !path_answers(sw, sc->path)) || !there(sc))
		return;
	sc->bad++;
	count_error(sw, sc, err < 0);
	if (e->type != FORMAT_VALUE) {
		log_limited(&limit, LOG_WARN,
			    "scrub: %s: segment %u: a record of a delete is bad, at unit %u: %s",
			    sc->path->file->info.path, sc->seg, e->units_at,
			    err < 0 ? strerror(-err) : "bad checksum");
		return;
	}
	slot_unreadable(s, e->hash, loc_of(sc->path, sc->seg, e->units_at));
	segment_quarantine(s, sc->path, sc->seg,
			   err < 0 ? strerror(-err) : "the scrub found a bad checksum");
}

/* ---- header and table -------------------------------------------------------------------------- */

static int by_units(const void *a, const void *b)
{
	const struct format_entry *x = a, *y = b;

	return x->units_at < y->units_at ? -1 : x->units_at > y->units_at;
}

static int read_header(struct store_worker *sw, struct scrub *sc)
{
	struct disk_io *d = disk_io_new(sw->io, sc->path, FORMAT_ALIGN);
	const struct format_segment *h;
	int res = -ENOMEM;

	if (d != NULL)
		res = read_piece(sc, &d, 0, FORMAT_ALIGN);
	if (res == 0) {
		h = (const struct format_segment *)(const void *)d->mem;
		if (!segment_good(h, sw->s->id_seed, sw->s->id, sc->seg) ||
		    h->generation != sc->generation)
			res = -EBADMSG;
	}
	disk_io_free(&d);
	return res;
}

static int read_table(struct store_worker *sw, struct scrub *sc)
{
	struct segment *g = &sc->path->seg[sc->seg];
	int res;

	atomic_fetch_add(&g->pins, 1);
	res = slow_read_table(sw, sc->path, sc->seg, &sc->e, &sc->n);
	segment_unpin(sw->s, g);
	if (res >= 0) {
		uint64_t len = FORMAT_ALIGN + table_bytes(sc->n);

		atomic_fetch_add(&sc->bytes, len);
		atomic_fetch_add(&sc->pass_bytes, len);
		qsort(sc->e, sc->n, sizeof *sc->e, by_units);
	}
	return res;
}

/* Header or table cannot be used. */
static void bad_segment(struct store_worker *sw, struct scrub *sc, bool table, int err)
{
	struct path *p = sc->path;
	struct segment *g = &p->seg[sc->seg];
	uint32_t seg = sc->seg;

	if (err == -ENOMEM || err == -ETIMEDOUT || !path_answers(sw, p) || !there(sc)) {
		leave(sc); /* another time */
		return;
	}
	count_error(sw, sc, err != -EBADMSG);
	log_warn("scrub: %s: the %s of segment %u is bad: %s", p->file->info.path,
		 table ? "table" : "header", seg,
		 err != -EBADMSG ? strerror(-err) : "bad checksum");
	leave(sc);
	if (table) {
		pthread_mutex_lock(&p->lock);
		g->nentries = g->extents = g->allowed = 0;
		g->unwalked = true;
		atomic_store(&g->state, SEG_FULL);
		pthread_mutex_unlock(&p->lock);
		slow_seal(sw, p, seg);
	}
	segment_quarantine(sw->s, p, seg, table ? "its table is bad" : "its header is bad");
}

/* Returns the bytes that were read. */
static uint64_t begin_segment(struct store_worker *sw, struct scrub *sc)
{
	uint64_t before = atomic_load(&sc->bytes);
	int res = 0;

	for (unsigned tries = 0; tries < 2; tries++)
		if ((res = read_header(sw, sc)) == 0 || !there(sc))
			break;
	if (res < 0) {
		bad_segment(sw, sc, false, res);
		return atomic_load(&sc->bytes) - before;
	}
	for (unsigned tries = 0; tries < 2; tries++)
		if ((res = read_table(sw, sc)) == 0 || !there(sc))
			break;
	if (res < 0)
		bad_segment(sw, sc, true, res);
	return atomic_load(&sc->bytes) - before;
}

/* ---- records ----------------------------------------------------------------------------------- */

static bool head_sound(const struct store *s, const struct scrub *sc, const struct format_entry *e,
		       const uint8_t *mem, size_t avail, struct format_record *rec)
{
	if (record_check(mem, avail, s->id_seed, sc->generation, e->units_at, rec) != RECORD_GOOD ||
	    rec->type != e->type || rec->seq != e->seq ||
	    record_units(rec->value_off, rec->value_len) != entry_units(e))
		return false;
	return rec->key_len == 0 ||
	       XXH3_64bits_withSeed(mem + sizeof *rec, rec->key_len, s->hash_secret) == e->hash;
}

/* A record that is whole in memory, avail bytes of it. */
static bool sound(const struct store *s, const struct scrub *sc, const struct format_entry *e,
		  const uint8_t *mem, size_t avail)
{
	struct format_record rec;

	return head_sound(s, sc, e, mem, avail, &rec) &&
	       (rec.type != FORMAT_VALUE ||
		record_value_good(mem, &rec, 0, mem + rec.value_off, rec.value_len));
}

static uint32_t begins(const struct format_entry *e)
{
	return e->units_at * FORMAT_UNIT;
}

static uint32_t ends(const struct format_entry *e)
{
	return (e->units_at + entry_units(e)) * FORMAT_UNIT;
}

static uint32_t page_down(uint32_t off)
{
	return off & ~(FORMAT_ALIGN - 1);
}

static uint32_t page_up(uint32_t off)
{
	return page_down(off + FORMAT_ALIGN - 1);
}

/* One record alone, after what was read with others was bad. */
static void look_again(struct store_worker *sw, struct scrub *sc, const struct format_entry *e)
{
	uint32_t from = page_down(begins(e)), len = page_up(ends(e)) - from;
	struct disk_io *d = disk_io_new(sw->io, sc->path, len);
	int res;

	if (d == NULL)
		return; /* in the next pass */
	res = read_piece(sc, &d, from, len);
	if (res < 0 || !sound(sw->s, sc, e, d->mem + (begins(e) - from), ends(e) - begins(e)))
		bad_record(sw, sc, e, res);
	disk_io_free(&d);
}

/* [SC-5] */
static bool dead(const struct store *s, const struct scrub *sc, const struct format_entry *e)
{
	struct index_ref ref;

	return e->type == FORMAT_VALUE &&
	       !index_get(s->index, e->hash, loc_of(sc->path, sc->seg, e->units_at), &ref);
}

/* As many whole records as a piece takes. */
static void whole_ones(struct store_worker *sw, struct scrub *sc)
{
	uint32_t first = sc->next, from = page_down(begins(&sc->e[first])), end = from;
	struct disk_io *d = disk_io_new(sw->io, sc->path, PIECE);
	bool got;

	if (d == NULL)
		return;
	while (sc->next < sc->n && ends(&sc->e[sc->next]) <= from + PIECE)
		end = page_up(ends(&sc->e[sc->next++]));
	got = read_piece(sc, &d, from, end - from) == 0;
	for (uint32_t i = first; i < sc->next && there(sc); i++) {
		const struct format_entry *e = &sc->e[i];

		if (!dead(sw->s, sc, e) &&
		    (!got ||
		     !sound(sw->s, sc, e, d->mem + (begins(e) - from), ends(e) - begins(e))))
			look_again(sw, sc, e);
	}
	disk_io_free(&d);
}

/* The next piece of a record that is longer than one: its head, then chunk by chunk. */
static void long_one(struct store_worker *sw, struct scrub *sc)
{
	const struct format_entry *e = &sc->e[sc->next];
	uint32_t at = begins(e), n = 0, from, len;
	struct disk_io *d;
	bool good = false;
	int res = 0;

	if (sc->in_long) {
		at += sc->rec.value_off + sc->off;
		n = sc->rec.value_len - sc->off;
		n = n < FORMAT_CHUNK ? n : FORMAT_CHUNK;
	}
	from = page_down(at);
	len = sc->in_long ? page_up(at + n) - from : HEAD;
	for (unsigned tries = 0; tries < 2 && !good && there(sc); tries++) {
		d = disk_io_new(sw->io, sc->path, len);
		if (d == NULL)
			return;
		res = read_piece(sc, &d, from, len);
		if (res == 0 && sc->in_long)
			good =
			    record_value_good(sc->head, &sc->rec, sc->off, d->mem + (at - from), n);
		else if (res == 0)
			good = head_sound(sw->s, sc, e, d->mem + (at - from), len - (at - from),
					  &sc->rec);
		if (good && !sc->in_long)
			memcpy(sc->head, d->mem + (at - from), RECORD_HEAD_MAX);
		disk_io_free(&d);
	}
	if (!there(sc))
		return;
	if (!good) {
		bad_record(sw, sc, e, res);
	} else if (!sc->in_long) {
		sc->in_long = true;
		sc->off = 0;
		return;
	} else if ((sc->off += n) < sc->rec.value_len) {
		return;
	}
	sc->in_long = false;
	sc->next++;
}

/* One piece of the segment's records. Returns the bytes that were read. */
static uint64_t step(struct store_worker *sw, struct scrub *sc)
{
	uint64_t before = atomic_load(&sc->bytes);

	while (sc->next < sc->n && !sc->in_long && dead(sw->s, sc, &sc->e[sc->next]))
		sc->next++;
	if (sc->next == sc->n)
		end_segment(sc);
	else if (ends(&sc->e[sc->next]) > page_down(begins(&sc->e[sc->next])) + PIECE)
		long_one(sw, sc);
	else
		whole_ones(sw, sc);
	return atomic_load(&sc->bytes) - before;
}

/* ---- a turn ------------------------------------------------------------------------------------ */

/* [SC-2] Pins are what reads are under way. */
static bool busy(const struct path *p)
{
	uint32_t n = 0;

	for (uint32_t k = 0; k < p->nseg && n < SCRUB_BUSY; k++)
		n += atomic_load_explicit(&p->seg[k].pins, memory_order_relaxed);
	return n >= SCRUB_BUSY;
}

void scrub_turn(struct store_worker *sw, uint64_t *next)
{
	struct store *s = sw->s;
	struct scrub *sc = s->scrub;
	uint64_t now = io_now(sw->io), rate = s->cfg.scrub_rate, read = 0;

	if (rate == 0)
		return;
	if (now >= sc->due) {
		sc->due = now;
		if (sc->path != NULL && !there(sc))
			leave(sc);
		if (!sc->passing && (sc->began == 0 || now - sc->began >= PASS_NS))
			begin_pass(sw, sc);
		if (!sc->passing) {
			sc->due = sc->began + PASS_NS;
		} else if (sc->path == NULL && !pick(s, sc)) {
			end_pass(sw, sc);
			sc->due = now + IDLE_NS;
		} else if (busy(sc->path)) {
			atomic_fetch_add(&sc->yields, 1);
			sc->due = now + BUSY_NS;
		} else {
			read = sc->e == NULL ? begin_segment(sw, sc) : step(sw, sc);
			sc->due += (uint64_t)((double)read / (double)rate * 1e9);
			if (read == 0) /* the end of a segment, or no memory */
				sc->due = now + BUSY_NS;
		}
	}
	if (sc->due < *next)
		*next = sc->due;
}
