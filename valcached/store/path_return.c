/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing a path back without a restart: after `path online`, or SIGHUP. The slow worker does it, while the
 * other paths serve on.
 *
 *  [PR-1] Before the file is touched nothing of the path is in flight and nothing can begin: it is gone for
 *         everybody, each worker has passed a loop turn, pins and unfinished extents are zero.
 *  [PR-2] The lock stays on the descriptor that does the I/O. If that descriptor still works it is kept;
 *         else it is closed, every ring is told, the name is opened anew, and every ring is told again.
 *  [PR-3] A path that has missed deletes [PS-2], or is blank, is empty: first in memory, then, in one write of
 *         its superblock, on disk. Otherwise a segment is kept if its header says what memory says.
 *  [PR-4] It serves again only when its superblock has been written and synced.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "valcached/store/store_int.h"

#define DRAIN_NS (2 * NS_PER_S)
#define DEPTH    16u

static bool no(char why[static PATH_WHY_MAX], const char *what, int err)
{
	snprintf(why, PATH_WHY_MAX, "%s: %s", what, strerror(-err));
	return false;
}

/* ---- [PR-1], [PR-2] ---------------------------------------------------------------------------- */

void files_told(struct store_worker *sw)
{
	struct store *s = sw->s;
	uint64_t now = atomic_load(&s->files);

	if (sw->files_seen == now)
		return;
	sw->files_seen = now;
	for (unsigned i = 0; i < s->npaths; i++)
		(void)io_add_file(sw->io,
				  s->path[i].file); /* refused: the plain descriptor is used */
}

static void tell_rings(struct store_worker *sw)
{
	atomic_fetch_add(&sw->s->files, 1);
	files_told(sw);
	grace(sw);
}

/* Asks for everything that is unfinished to be given up or finished. False: nothing was. */
static bool still_busy(struct store_worker *sw, struct path *p)
{
	bool busy = false;

	for (uint32_t k = 0; k < p->nseg; k++) {
		struct segment *g = &p->seg[k];
		bool open;

		pthread_mutex_lock(&p->lock);
		open = (g->state == SEG_OPEN || g->state == SEG_FULL) && g->extents > 0;
		pthread_mutex_unlock(&p->lock);
		if (open) {
			atomic_store(&g->close_wanted, true);
			long_sets_abort(sw->s, p, k);
		}
		busy = busy || open || atomic_load(&g->pins) > 0;
	}
	return busy;
}

static bool drain(struct store_worker *sw, struct path *p)
{
	uint64_t end = io_now(sw->io) + DRAIN_NS;

	while (still_busy(sw, p)) {
		uint64_t due = UINT64_MAX;

		if (io_now(sw->io) >= end)
			return false;
		workers_wake(sw);
		wbufs_turn(sw, &due);
		wait_for_others(sw, NS_PER_MS);
	}
	return true;
}

static bool reopen(struct store_worker *sw, struct path *p, char why[static PATH_WHY_MAX])
{
	const struct io_engine *e = sw->s->engine;
	char *cause = NULL;
	int res;

	if (e->file_works(p->file))
		return true;
	e->file_shut(p->file);
	tell_rings(sw);
	res = e->file_reopen(p->file, &cause);
	if (res < 0) {
		snprintf(why, PATH_WHY_MAX, "%s", cause != NULL ? cause : strerror(-res));
		free(cause);
		return false;
	}
	tell_rings(sw);
	return true;
}

/* ---- [PR-3] ------------------------------------------------------------------------------------ */

/* Nothing of this segment is known any more. Under the path's lock; its slots are gone. */
static void make_virgin(struct path *p, struct segment *g)
{
	free(g->entries);
	g->entries = NULL;
	g->entries_cap = g->nentries = g->extents = g->allowed = g->used = 0;
	g->opened_ns = 0;
	g->pending = 0;
	g->unwalked = g->ragged = g->lost = false;
	g->cut = FORMAT_CUT_NOT;
	atomic_store(&g->data_bytes, 0);
	atomic_store(&g->quarantined, false);
	atomic_store(&g->close_wanted, false);
	atomic_store(&g->generation, 0);
	if (g >= p->seg + p->nstay) {
		atomic_store(&g->state, SEG_LEFT);
		return;
	}
	atomic_store(&g->state, SEG_VIRGIN);
	p->virgins++;
}

static void forget_range(struct store *s, uint64_t from, uint64_t to)
{
	/* twice: a slot on its way to its other line may have escaped */
	(void)index_remove_range(s->index, from, to);
	(void)index_remove_range(s->index, from, to);
	ram_displace(s->ram, from, to);
}

static void empty(struct store *s, struct path *p)
{
	tell_gone(s, STORE_GONE_PATH, 0, loc_of(p, 0, 0));
	forget_range(s, loc_of(p, 0, 0), loc_of(p, p->nseg, 0));
	pthread_mutex_lock(&p->lock);
	p->virgins = p->nclean = p->redo = 0;
	atomic_store(&p->keep_ends, false);
	p->main_use = MAIN_UNKNOWN;
	for (unsigned t = 0; t < STREAMS; t++) {
		p->open[t] = SEG_NONE;
		p->order[t].head = p->order[t].n = 0;
	}
	for (uint32_t k = 0; k < p->nseg; k++)
		make_virgin(p, &p->seg[k]);
	pthread_mutex_unlock(&p->lock);
}

/*
 * The generation in header k, which is being read; 0: none. Read once more if memory has another: a header that is
 * dropped takes the tombstones of its segment with it. *d is NULL after an operation that took too long.
 */
static uint64_t generation_read(struct path *p, uint32_t k, struct disk_io **d, bool *any)
{
	const struct store *s = p->store;
	uint64_t gen = 0;

	for (unsigned tries = 1;; tries++) {
		if (disk_wait(d) == (int)FORMAT_ALIGN) {
			const struct format_segment *h =
			    (const struct format_segment *)(const void *)(*d)->mem;

			*any = true;
			gen = segment_good(h, s->id_seed, s->id, k) ? h->generation : 0;
		}
		if (*d == NULL || gen == atomic_load(&p->seg[k].generation) || tries == READ_TRIES)
			return gen;
		disk_read(*d, FORMAT_ALIGN, seg_offset(p, k));
	}
}

/* The generations in all headers, 0 where there is none; malloc'd. NULL: not one can be read. */
static uint64_t *read_generations(struct store_worker *sw, struct path *p)
{
	uint64_t *gen = calloc(p->nseg, sizeof *gen);
	struct disk_io *d[DEPTH] = {0};
	bool any = false, late = false;

	for (unsigned i = 0; i < DEPTH && gen != NULL; i++)
		if ((d[i] = disk_io_new(sw->io, p, FORMAT_ALIGN)) == NULL)
			late = true;
	for (uint32_t first = 0; gen != NULL && !late && first < p->nseg; first += DEPTH) {
		uint32_t n = p->nseg - first < DEPTH ? p->nseg - first : DEPTH;

		for (uint32_t i = 0; i < n; i++)
			disk_read(d[i], FORMAT_ALIGN, seg_offset(p, first + i));
		for (uint32_t i = 0; i < n; i++) {
			gen[first + i] = generation_read(p, first + i, &d[i], &any);
			late = late || d[i] == NULL;
		}
	}
	for (unsigned i = 0; i < DEPTH; i++)
		disk_io_free(&d[i]);
	if (any && !late)
		return gen;
	free(gen);
	return NULL;
}

/*
 * Drops every segment whose header is not what memory has; what was left out of use, because it could not be
 * recycled while the path failed, is sealed again and first in line.
 */
static bool reconcile(struct store_worker *sw, struct path *p, uint32_t *dropped)
{
	struct store *s = sw->s;
	uint64_t *gen = read_generations(sw, p);
	uint32_t n = 0;

	*dropped = 0;
	if (gen == NULL)
		return false;
	for (uint32_t k = 0; k < p->nseg; k++)
		if (gen[k] != atomic_load(&p->seg[k].generation) &&
		    atomic_load(&p->seg[k].generation) != 0) {
			tell_gone(s, STORE_GONE_SEGMENT, 0, loc_of(p, k, 0));
			forget_range(s, loc_of(p, k, 0), loc_of(p, k + 1, 0));
			++*dropped;
		}
	pthread_mutex_lock(&p->lock);
	for (uint32_t i = 0; i < p->nclean; i++)
		if (gen[p->clean[i]] == atomic_load(&p->seg[p->clean[i]].generation))
			p->clean[n++] = p->clean[i];
	p->nclean = n;
	for (unsigned t = 0; t < STREAMS; t++) {
		struct order *o = &p->order[t];

		n = 0;
		for (uint32_t i = 0; i < o->n; i++) {
			uint32_t k = o->ring[(o->head + i) % p->nseg];

			if (gen[k] == atomic_load(&p->seg[k].generation))
				o->ring[(o->head + n++) % p->nseg] = k;
			else if (p->open[t] == k)
				p->open[t] = SEG_NONE;
		}
		o->n = n;
	}
	for (uint32_t k = 0; k < p->nseg; k++) {
		struct segment *g = &p->seg[k];
		uint32_t state = atomic_load(&g->state);
		struct order *o = &p->order[STREAM_MAIN]; /* [AT-5] */

		if (state == SEG_VIRGIN || state == SEG_LEFT || g->lost)
			continue;
		if (atomic_load(&g->generation) == 0 || gen[k] != atomic_load(&g->generation)) {
			make_virgin(p, g);
		} else if (state == SEG_RECYCLING) {
			o->head = (o->head + p->nseg - 1) % p->nseg;
			o->ring[o->head] = k;
			o->n++;
			p->redo++;
			/* its next header never got to the disk: it is written again */
			g->pending = 0;
			atomic_store(&g->state, SEG_SEALED);
		}
	}
	pthread_mutex_unlock(&p->lock);
	free(gen);
	return true;
}

/* ---- the whole --------------------------------------------------------------------------------- */

static bool same_store(const struct format_super *a, const struct path *p)
{
	const struct format_super *b = &p->super;

	return a->version == b->version && memcmp(a->store_id, b->store_id, 16) == 0 &&
	       a->path_index == b->path_index && a->seg_shift == b->seg_shift &&
	       (a->seg_count == p->nseg || a->seg_count == p->nstay);
}

/* True: it serves again. False: it is what it was, or offline; why says more. */
static bool bring_back(struct store_worker *sw, struct path *p, char why[static PATH_WHY_MAX])
{
	struct store *s = sw->s;
	bool was_gone, missed;
	uint64_t epoch = atomic_load(&s->epoch);
	struct format_super disk = {0};
	uint32_t dropped = 0;
	int res;

	if (atomic_load(&p->late) > 0) { /* [LT-4] */
		snprintf(why, PATH_WHY_MAX, "the device still has %u operations of before",
			 atomic_load(&p->late));
		return false;
	}
	was_gone = atomic_exchange(&p->gone, true);
	load_drain(s->load);
	grace(sw);
	if (!drain(sw, p)) {
		atomic_store(&p->gone, was_gone);
		snprintf(why, PATH_WHY_MAX, "operations of before are still under way: try again");
		return false;
	}
	if (was_gone) /* also for reads that failed when it was known to be gone */
		path_pardon(p);
	if (!reopen(sw, p, why))
		return false;
	res = super_read(sw->io, p, &disk);
	if (res == -EINVAL || (res == 1 && !same_store(&disk, p))) {
		snprintf(why, PATH_WHY_MAX, "it holds something else than this path of this store");
		return false;
	}
	if (res < 0)
		return no(why, "its superblock cannot be read", res);
	/* ends that got lost are as good as a missed epoch */
	missed = res == 0 || p->must_empty || disk.delete_epoch < epoch ||
		 atomic_load(&p->ends_made) != atomic_load(&p->ends_safe);
	if (missed) {
		empty(s, p);
		p->must_empty = true;
		p->super.empty_below = atomic_load(&s->live->generation);
	} else if (!reconcile(sw, p, &dropped)) {
		return no(why, "its segments cannot be read", -EIO);
	}
	if (disk.serial > p->super.serial)
		p->super.serial = disk.serial;
	p->super.delete_epoch = epoch;
	p->super.epoch_paths = 0; /* others know [PS-5] */
	res = super_write(sw->io, p);
	if (res < 0) {
		COUNT(sw, write_errors);
		atomic_fetch_add(&p->write_errors, 1);
		atomic_store(&p->gone, missed || atomic_load(&p->silent));
		return no(why, "its superblock cannot be written", res);
	}
	p->must_empty = false;
	atomic_store(&p->epoch, epoch);
	atomic_store(&p->ends_safe, atomic_load(&p->ends_made));
	atomic_store(&p->silent, false);
	atomic_store(&p->gone, false);
	atomic_store(&p->offline, false);
	if (missed)
		snprintf(why, PATH_WHY_MAX,
			 disk.magic == 0 ? "online, and empty: the device was blank"
					 : "online, and empty: it has missed deletes");
	else if (dropped > 0)
		snprintf(why, PATH_WHY_MAX,
			 "online with its values, but for those of %u segments that have changed",
			 dropped);
	else
		snprintf(why, PATH_WHY_MAX, "online with its values");
	return true;
}

void paths_return(struct store_worker *sw)
{
	struct store *s = sw->s;

	for (unsigned i = 0; i < s->npaths; i++) {
		struct path *p = &s->path[i];
		uint64_t asked = atomic_load(&p->returns_asked);
		char why[PATH_WHY_MAX];
		bool back;

		if (likely(asked == atomic_load(&p->returns_done)))
			continue;
		if (!atomic_load(&p->offline)) {
			back = true;
			snprintf(why, sizeof why, "already online");
		} else {
			back = bring_back(sw, p, why);
			if (back)
				log_info("store: %s is back: %s", p->file->info.path, why);
			else
				log_error("store: %s is not back: %s", p->file->info.path, why);
		}
		pthread_mutex_lock(&p->lock);
		memcpy(p->outcome, why, sizeof why);
		if (!back)
			memcpy(p->why, why, sizeof why);
		pthread_mutex_unlock(&p->lock);
		atomic_store(&p->returns_done, asked);
		workers_wake(sw);
	}
}

/* ---- who asks ---------------------------------------------------------------------------------- */

static bool told(struct store_op *op, enum store_status st, const char *text)
{
	struct store_io *run = op->run;

	free(run->text);
	run->text = strdup(text);
	op->value = (const uint8_t *)run->text;
	op->value_n = run->text != NULL ? (uint32_t)strlen(run->text) : 0;
	return op_finish(op, st, -1);
}

bool path_step(struct store_op *op)
{
	struct path *p = &op->sw->s->path[op->run->cursor];
	char text[PATH_WHY_MAX];

	if (atomic_load(&p->returns_done) < op->run->ticket) {
		op_wait(op, WAIT_PATH);
		return false;
	}
	pthread_mutex_lock(&p->lock);
	memcpy(text, p->outcome, sizeof text);
	pthread_mutex_unlock(&p->lock);
	return told(op, atomic_load(&p->offline) ? STORE_UNAVAILABLE : STORE_OK, text);
}

bool store_path_online(struct store_op *op, unsigned n)
{
	struct store *s = op->sw->s;

	A(op->kind == OP_NONE);
	op->kind = OP_PATH;
	run_get(op);
	if (n >= s->npaths)
		return told(op, STORE_MISS, "there is no such path");
	op->run->cursor = n;
	op->run->ticket = atomic_fetch_add(&s->path[n].returns_asked, 1) + 1;
	slow_call(s);
	return path_step(op);
}

void store_paths_online(struct store *s)
{
	for (unsigned i = 0; i < s->npaths; i++)
		if (atomic_load(&s->path[i].offline))
			atomic_fetch_add(&s->path[i].returns_asked, 1);
	slow_call(s);
}
