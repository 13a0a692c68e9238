/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recency: how often values were used lies in the index, in shared memory. So that a reboot does not forget it, the
 * slow worker saves it now and then to the room behind each path's superblock (format.h has the picture), and a start
 * that builds the index from the disk gives each value its clock, and each stream its order, back.
 *
 *     due, and enough used -> path by path: tables -> clocks -> chunks -> the older half -> due in RECENCY_NS
 *
 *  [RE-1] A hint: no answer depends on it, nothing waits for it, a save that fails is one that was not made.
 *  [RE-2] The two halves are written in turn, and each chunk is believed by itself: a torn save costs what it tore,
 *         and of that the save before is still there.
 *  [RE-3] A chunk is of one life of one segment, and only of a sealed one: its table, and so the order of its clocks,
 *         never changes.
 *  [RE-4] Bounded: 2 bits a value and 56 bytes a segment, rounded up to 64, each RECENCY_NS at most, and not before
 *         as many gets and sets as RECENCY_PART of the values. For 10 million values of 40 KB that is 2.9 MB a save and
 *         17 MB an hour; the tables, 240 MB, are read at RECENCY_RATE.
 *  [RE-5] What does not fit (values far below 512 bytes) is left out from the end of the order: the segments that are
 *         recycled last have time to be used again.
 *  [RE-6] A clean stop saves once more, for as long as STOP_NS; what it does not get to has its clocks of the
 *         save before. Nothing is saved while tables are loaded.
 *
 * The slow worker's, and before it the start's; what stats read is atomic.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "valcached/store/recency.h"
#include "valcached/store/slow_int.h"

#define RECENCY_NS   (600 * NS_PER_S)
#define RECENCY_RATE (4.0 * 1024 * 1024) /* bytes of tables a second */
#define RECENCY_PART 100u                /* of the values: so many uses are worth a save */
#define STOP_NS      NS_PER_S
#define PIECE        FORMAT_CHUNK
#define LEAD         ((uint32_t)sizeof(struct format_lead))

struct recency {
	uint64_t due;  /* of the next save, or of its next step; 0: not known yet */
	uint64_t uses; /* as counted when the last one began */
	uint64_t save[STORE_PATHS_MAX]; /* number of each path's last that was written to its end */
	/* a save: of one path after the other */
	bool saving, saved;
	unsigned path;
	struct member {
		uint32_t seg;
		uint64_t generation, age;
	} * list; /* its sealed segments in the order of recycling; NULL: not begun */
	uint32_t n, next;
	uint8_t *image; /* of the half: lead, chunks */
	size_t len, cap, put;
	bool writing, told_full;
	/* a start from the disk: */
	struct loaded {
		uint8_t *half[2];
		uint32_t len[2];
		const struct format_clocks **of; /* by segment */
	} loaded[STORE_PATHS_MAX];
	/* read by stats */
	_Atomic uint64_t saves, bytes, restored;
};

static uint64_t half_bytes(const struct store *s)
{
	return ((s->seg_size - FORMAT_CLOCKS_AT) / 2) & ~(uint64_t)(FORMAT_ALIGN - 1);
}

static uint64_t half_offset(const struct store *s, unsigned half)
{
	return FORMAT_CLOCKS_AT + half * half_bytes(s);
}

static uint64_t room_bytes(const struct store *s)
{
	uint64_t room = s->cfg.recency_room;

	return room != 0 && room < half_bytes(s) ? room : half_bytes(s);
}

int recency_open(struct store *s)
{
	s->recency = calloc(1, sizeof *s->recency);
	return s->recency == NULL ? -ENOMEM : 0;
}

static void forget_path(struct recency *rc)
{
	free(rc->list);
	free(rc->image);
	rc->list = NULL;
	rc->image = NULL;
	rc->len = rc->cap = rc->put = 0;
	rc->n = rc->next = 0;
	rc->writing = false;
}

void recency_close(struct store *s)
{
	if (s->recency != NULL) {
		forget_path(s->recency);
		recency_loaded(s);
	}
	free(s->recency);
	s->recency = NULL;
}

void recency_stats(const struct store *s, store_emit_fn *emit, void *arg)
{
	const struct recency *rc = s->recency;

	emit(arg, "recency_saves", "%" PRIu64, atomic_load(&rc->saves));
	emit(arg, "recency_bytes", "%" PRIu64, atomic_load(&rc->bytes));
	emit(arg, "recency_restored", "%" PRIu64, atomic_load(&rc->restored));
}

/* ---- saving ------------------------------------------------------------------------------------ */

/* What raises clocks, or brings new ones. */
static uint64_t uses(const struct store *s)
{
	uint64_t n = 0;

	for (unsigned i = 0; i <= s->cfg.workers; i++) {
		const struct store_worker *w = s->worker[i];

		if (w != NULL)
			n += atomic_load_explicit(&w->count.get_hits_ram, memory_order_relaxed) +
			     atomic_load_explicit(&w->count.get_hits_disk, memory_order_relaxed) +
			     atomic_load_explicit(&w->count.sets_stored, memory_order_relaxed);
	}
	return n;
}

static bool image_room(struct recency *rc, size_t more, uint64_t most)
{
	size_t cap = rc->cap == 0 ? 64 * 1024 : rc->cap;
	uint8_t *mem;

	if (rc->len + more > most)
		return false;
	while (cap < rc->len + more)
		cap *= 2;
	if (cap > rc->cap) {
		mem = realloc(rc->image, cap);
		if (mem == NULL)
			return false;
		rc->image = mem;
		rc->cap = cap;
	}
	memset(rc->image + rc->len, 0, more);
	rc->len += more;
	return true;
}

/* What is sealed now, in the order of recycling. False: no memory. */
static bool begin_path(struct recency *rc, struct path *p)
{
	rc->list = calloc(p->nseg, sizeof *rc->list);
	if (rc->list == NULL || !image_room(rc, LEAD, UINT64_MAX)) {
		forget_path(rc);
		return false;
	}
	pthread_mutex_lock(&p->lock);
	for (unsigned t = 0; t < STREAMS; t++) {
		const struct order *o = &p->order[t];
		uint64_t age = 0;

		for (uint32_t i = 0; i < o->n; i++) {
			uint32_t seg = o->ring[(o->head + i) % p->nseg];
			uint64_t generation = atomic_load(&p->seg[seg].generation);

			/* a clean segment may wait for long: who was opened later is not older for that */
			age = generation > age ? generation : age;
			if (atomic_load(&p->seg[seg].state) == SEG_SEALED)
				rc->list[rc->n++] = (struct member){seg, generation, age};
		}
	}
	pthread_mutex_unlock(&p->lock);
	return true;
}

/* One that was not written to its end is written again: the other half is the better one until then [RE-2]. */
static uint64_t number(const struct recency *rc, const struct path *p)
{
	return rc->save[p->index] + 1;
}

/* The next segment's chunk. Returns the bytes that were read; *full: it did not fit. */
static uint64_t add_chunk(struct store_worker *sw, struct recency *rc, struct path *p, bool *full)
{
	const struct member *m = &rc->list[rc->next++];
	struct store *s = sw->s;
	const struct segment *g = &p->seg[m->seg];
	struct format_clocks *c;
	struct format_entry *e;
	uint32_t n, others = 0, v = 0;
	size_t at = rc->len, bytes;
	bool any = false;
	uint8_t *bits;

	if (atomic_load(&g->state) != SEG_SEALED || atomic_load(&g->generation) != m->generation ||
	    slow_read_table(sw, p, m->seg, &e, &n) < 0)
		return FORMAT_ALIGN; /* it says nothing, then; who needs the table will meet the error */
	while (others < n && e[others].type != FORMAT_VALUE)
		others++;
	bytes = clocks_bytes(n - others);
	if (!image_room(rc, bytes, room_bytes(s))) {
		free(e);
		*full = true;
		return FORMAT_ALIGN + table_bytes(n);
	}
	bits = rc->image + at + sizeof *c;
	for (uint32_t i = others; i < n; i++, v++) {
		struct index_ref ref;

		if (i + 8 < n)
			index_prefetch(s->index, e[i + 8].hash);
		if (e[i].type == FORMAT_VALUE &&
		    index_get(s->index, e[i].hash, loc_of(p, m->seg, e[i].units_at), &ref)) {
			bits[v / 4] |= (uint8_t)(ref.clock << v % 4 * 2);
			any = any || ref.clock > 0;
		}
	}
	free(e);
	if (!any) {
		v = 0;
		rc->len = at + clocks_bytes(0);
	}
	c = (struct format_clocks *)(void *)(rc->image + at);
	c->magic = FORMAT_CLOCK_MAGIC;
	c->seg = m->seg;
	c->generation = m->generation;
	c->save = number(rc, p);
	c->age = m->age;
	c->rank = rc->next;
	c->values = v;
	c->checked = seg_live(p, m->seg)->checked;
	clocks_seal(c, s->id_seed);
	return FORMAT_ALIGN + table_bytes(n);
}

static bool end_image(struct store *s, struct recency *rc, struct path *p)
{
	struct format_lead *l;

	if (!image_room(rc, (FORMAT_ALIGN - rc->len % FORMAT_ALIGN) % FORMAT_ALIGN, half_bytes(s)))
		return false;
	l = (struct format_lead *)(void *)rc->image;
	l->magic = FORMAT_LEAD_MAGIC;
	l->version = FORMAT_VERSION;
	l->save = number(rc, p);
	l->bytes = rc->len - LEAD;
	lead_seal(l, s->id_seed);
	rc->writing = true;
	return true;
}

/* The next piece of the image. False: it cannot be written. */
static bool put_piece(struct store_worker *sw, struct recency *rc, struct path *p)
{
	static struct log_limit limit;
	struct store *s = sw->s;
	uint32_t n = rc->len - rc->put < PIECE ? (uint32_t)(rc->len - rc->put) : PIECE;
	struct disk_io *d = disk_io_new(sw->io, p, n);
	int res;

	if (d == NULL)
		return false;
	memcpy(d->mem, rc->image + rc->put, n);
	res = slow_write(sw, d, n, half_offset(s, number(rc, p) & 1) + rc->put);
	if (res < 0) {
		COUNT(sw, write_errors);
		atomic_fetch_add(&p->write_errors, 1);
		log_limited(&limit, LOG_WARN, "store: %s: recency could not be saved: %s",
			    p->file->info.path, strerror(-res));
		return false;
	}
	if (s->cfg.write_budget != 0)
		atomic_fetch_sub(&s->tokens, n);
	atomic_fetch_add(&rc->bytes, n);
	path_dirtied(p, n);
	rc->put += n;
	return true;
}

/* One step of the save of the path that it is at; true: that path is done. *read: bytes of tables. */
static bool step(struct store_worker *sw, struct recency *rc, uint64_t *read)
{
	struct path *p = &sw->s->path[rc->path];
	bool full = false;

	*read = 0;
	if (atomic_load(&p->offline))
		return true;
	if (rc->list == NULL)
		return !begin_path(rc, p);
	if (!rc->writing && rc->next < rc->n) {
		*read = add_chunk(sw, rc, p, &full);
		if (!full)
			return false;
		if (!rc->told_full)
			log_info(
			    "store: %s: there is room to save the recency of %u of %u segments",
			    p->file->info.path, rc->next - 1, rc->n);
		rc->told_full = true;
		rc->next = rc->n;
		return false;
	}
	if (!rc->writing)
		return rc->len == LEAD || !end_image(sw->s, rc, p);
	if (!put_piece(sw, rc, p))
		return true;
	if (rc->put < rc->len)
		return false;
	rc->save[p->index]++;
	rc->saved = true;
	return true;
}

static void begin_save(struct store *s, struct recency *rc)
{
	rc->uses = uses(s);
	rc->path = 0;
	rc->saving = true;
	rc->saved = false;
}

/* Goes on with the save. True: that was the last step. */
static bool go_on(struct store_worker *sw, struct recency *rc, uint64_t *read)
{
	if (!step(sw, rc, read))
		return false;
	forget_path(rc);
	if (++rc->path < sw->s->npaths)
		return false;
	rc->saving = false;
	atomic_fetch_add(&rc->saves, rc->saved);
	return true;
}

void recency_turn(struct store_worker *sw, uint64_t *next)
{
	struct store *s = sw->s;
	struct recency *rc = s->recency;
	uint64_t now = io_now(sw->io), every = s->cfg.recency_ns, read = 0;
	struct index_stats ix;

	if (every == 0)
		every = RECENCY_NS;
	if (rc->due == 0)
		rc->due = now + every;
	if (now >= rc->due && !rc->saving) {
		index_stats(s->index, &ix);
		if (ix.items > 0 && (uses(s) - rc->uses) * RECENCY_PART >= ix.items)
			begin_save(s, rc);
		else
			rc->due = now + every;
	}
	if (now >= rc->due && rc->saving) {
		if (rc->writing && !wbufs_budget(sw))
			rc->due = now + 10 * NS_PER_MS;
		else if (go_on(sw, rc, &read))
			rc->due = now + every;
		else
			rc->due = now + (uint64_t)((double)read / RECENCY_RATE * 1e9);
	}
	if (rc->due < *next)
		*next = rc->due;
}

void recency_stop(struct store_worker *sw)
{
	struct recency *rc = sw->s->recency;
	uint64_t end = io_now(sw->io) + STOP_NS, read;

	/* what a save under way has gathered may be of segments that were open; all are sealed now */
	forget_path(rc);
	rc->saving = false;
	/* an index that has not been loaded to its end would say "not used" of the rest */
	if (loading(sw->s) || uses(sw->s) == rc->uses)
		return;
	begin_save(sw->s, rc);
	while (!go_on(sw, rc, &read))
		if (io_now(sw->io) >= end && rc->list != NULL && !rc->writing)
			rc->next = rc->n;
}

/* ---- a start ----------------------------------------------------------------------------------- */

/* Chunks of one half that say something of a segment's present life; better: than the other half's. */
static void note_half(struct store *s, struct path *p, struct loaded *l, unsigned half)
{
	const uint8_t *mem = l->half[half];

	for (size_t at = 0; mem != NULL && at + sizeof(struct format_clocks) <= l->len[half];) {
		const struct format_clocks *c =
		    (const struct format_clocks *)(const void *)(mem + at);

		if (!clocks_good(c, l->len[half] - at, s->id_seed)) {
			at += FORMAT_CLOCKS_ALIGN; /* torn, or the rest: the next one may be good */
			continue;
		}
		at += clocks_bytes(c->values);
		if (c->seg < p->nseg && c->generation != 0 &&
		    c->generation == atomic_load(&p->seg[c->seg].generation) &&
		    (l->of[c->seg] == NULL || l->of[c->seg]->save < c->save))
			l->of[c->seg] = c;
	}
}

/* Reads the leads of all halves at once: *len of each, 0 if there is nothing of use. */
static void read_leads(struct store *s, struct io *io)
{
	struct recency *rc = s->recency;
	struct io_op op[2 * STORE_PATHS_MAX];
	uint8_t *mem;

	if (posix_memalign((void **)&mem, FORMAT_ALIGN, (size_t)LEAD * 2 * s->npaths) != 0)
		return;
	memset(op, 0, sizeof op);
	for (unsigned i = 0; i < 2 * s->npaths; i++)
		io_read(io, &op[i], s->path[i / 2].file, mem + (size_t)i * LEAD, LEAD,
			half_offset(s, i % 2), io_wait_done);
	for (unsigned i = 0; i < 2 * s->npaths; i++) {
		const struct format_lead *l =
		    (const struct format_lead *)(const void *)(mem + (size_t)i * LEAD);

		if (io_wait(io, &op[i]) != (int)LEAD ||
		    !lead_good(l, s->id_seed, i % 2, half_bytes(s) - LEAD))
			continue;
		rc->loaded[i / 2].len[i % 2] = (uint32_t)l->bytes;
		if (l->save > rc->save[i / 2])
			rc->save[i / 2] = l->save;
	}
	free(mem);
}

void recency_load(struct store *s, struct io *io, bool clocks)
{
	struct recency *rc = s->recency;
	struct io_op op[2 * STORE_PATHS_MAX];

	read_leads(s, io);
	if (!clocks)
		return;
	memset(op, 0, sizeof op);
	for (unsigned i = 0; i < 2 * s->npaths; i++) {
		struct loaded *l = &rc->loaded[i / 2];
		uint8_t **half = &l->half[i % 2];

		if (l->len[i % 2] == 0 ||
		    posix_memalign((void **)half, FORMAT_ALIGN, l->len[i % 2]) != 0) {
			*half = NULL;
			continue;
		}
		io_read(io, &op[i], s->path[i / 2].file, *half, l->len[i % 2],
			half_offset(s, i % 2) + LEAD, io_wait_done);
	}
	for (unsigned i = 0; i < 2 * s->npaths; i++) {
		struct loaded *l = &rc->loaded[i / 2];

		if (l->half[i % 2] != NULL && io_wait(io, &op[i]) != (int)l->len[i % 2]) {
			log_warn("store: %s: recency cannot be read: %s",
				 s->path[i / 2].file->info.path,
				 op[i].res < 0 ? strerror(-op[i].res) : "short read");
			free(l->half[i % 2]);
			l->half[i % 2] = NULL;
		}
	}
	for (unsigned i = 0; i < s->npaths; i++) {
		struct loaded *l = &rc->loaded[i];

		l->of = calloc(s->path[i].nseg, sizeof(const struct format_clocks *));
		for (unsigned half = 0; l->of != NULL && half < 2; half++)
			note_half(s, &s->path[i], l, half);
	}
}

void recency_loaded(struct store *s)
{
	for (unsigned i = 0; i < STORE_PATHS_MAX; i++) {
		struct loaded *l = &s->recency->loaded[i];

		free(l->half[0]);
		free(l->half[1]);
		free(l->of);
		memset(l, 0, sizeof *l);
	}
}

const struct format_clocks *recency_of(const struct path *p, uint32_t seg)
{
	const struct loaded *l = &p->store->recency->loaded[p->index];

	return l->of == NULL ? NULL : l->of[seg];
}

uint64_t recency_age(const struct path *p, uint32_t seg)
{
	const struct format_clocks *c = recency_of(p, seg);
	uint64_t age = c != NULL ? c->age : atomic_load(&p->seg[seg].generation);

	return age << 20 | (c != NULL ? c->rank & 0xfffff : 0);
}

void recency_restored(struct store *s, uint64_t values)
{
	atomic_fetch_add(&s->recency->restored, values);
}
