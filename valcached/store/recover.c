/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a store that has been used before: the index is built from what lies on disk.
 * Start-up only, one thread, its own io.
 *
 *  [RC-1] Write buffers of a killed process are written to disk first, if they belong to this store and
 *         to the segment's present generation.
 *  [RC-2] Sealed segments are known by their tables, unsealed ones by walking their blocks (a torn one
 *         is stepped over), after which they are sealed.
 *  [RC-3] What ends other records (tombstones, drops, flushes) is collected from every segment before
 *         the first value is indexed.
 *  [RC-4] A value is indexed unless something with a higher seq ends it. Of two records of one key (a kill
 *         while one was written again, a power cut that took the tombstone between them) the newer
 *         stays, and the older is ended by a DROP record: else it would come to light when the newer is
 *         evicted.
 *  [RC-5] Nothing here is believed without its checksum, and every hit checks its record again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "valcached/store/recency.h"
#include "valcached/store/recover_int.h"

static int newest_first(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return x->generation > y->generation ? -1 : x->generation < y->generation;
}

static int youngest_first(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return x->age > y->age ? -1 : x->age < y->age;
}

static struct live_seg *live_of(const struct found *f)
{
	return seg_live(f->path, f->seg);
}

/* Sets a recovered segment's state, and its place in the order of age (called oldest first). */
static void adopt(struct reading *r, struct found *f, uint64_t age)
{
	struct path *p = f->path;
	struct segment *g = &p->seg[f->seg];
	struct live_seg *l = live_of(f);

	g->used =
	    FORMAT_ALIGN + (uint32_t)f->data_bytes; /* about: what it holds, not where it ends */
	if (!f->sealed && !f->unwalked && f->entries == 0) {
		/* not in the same life [RC-2]: a torn head would vouch for the next value that is the same */
		atomic_store(&g->state, f->torn ? SEG_VIRGIN : SEG_CLEAN);
		if (f->torn)
			p->virgins++;
		else
			p->clean[p->nclean++] = f->seg;
		return;
	}
	g->data_bytes = f->data_bytes;
	g->stream = (uint8_t)f->stream;
	g->unwalked = f->unwalked;
	g->cut = f->sealed ? f->cut : FORMAT_CUT_ALL; /* its sealing will say */
	g->ragged = f->sealed && f->ragged;
	atomic_store(&g->state, f->sealed ? SEG_SEALED : SEG_FULL);
	if (r->attached) {
		/* a small number is one that the start before gave */
		g->opened_ns = f->age >= NS_PER_S ? f->age : 0;
	} else {
		const struct format_clocks *c = recency_of(p, f->seg);

		l->opened_ns = age;
		l->stream = f->stream;
		l->checked = c != NULL ? c->checked : 0;
		atomic_store(&l->begun, 0);
		atomic_store(&l->opened, f->generation);
	}
	if (!f->sealed) {
		/* the slow worker writes its table */
		g->entries = f->scanned;
		g->entries_cap = g->nentries = f->entries;
		f->scanned = NULL;
	}
	segment_add_order(p, f->redo ? STREAM_MAIN : f->stream, f->seg);
	p->redo += f->redo;
}

/* ---- the first layer: shared memory ------------------------------------------------------------ */

/* [AT-2] What the segments' headers and footers say against what shared memory says of them. */
static const char *segments_gate(struct reading *r)
{
	const struct store *s = r->s;

	if (r->gen_max >= atomic_load(&s->live->generation))
		return "generation counter";
	if (r->seq_max >= atomic_load(&s->live->seq) || atomic_load(&s->live->seq) > SEQ_LIMIT)
		return "sequence counter";
	/* what they hold has slots in the index: to lose one is to lose its segment */
	if (r->dead == NULL && atomic_load(&s->live->clean) != 1)
		return "existence of the write buffers";
	if (r->dead != NULL && r->fault != NULL)
		return "write buffers";
	for (size_t i = 0; i < r->n; i++)
		if (r->found[i].sealed &&
		    atomic_load(&live_of(&r->found[i])->opened) != r->found[i].generation)
			return "segment generations";
	return NULL;
}

/* Takes the segments as shared memory knows them, and drops slots that lead to none of them. */
static int take_segments(struct reading *r, uint64_t *dropped)
{
	struct store *s = r->s;
	const struct path *last = &s->path[s->npaths - 1];
	unsigned shift = s->seg_shift - (unsigned)__builtin_ctz(FORMAT_UNIT);
	uint64_t n = (last->unit_base >> shift) + last->nseg + 1;
	uint8_t *keep = calloc(n, 1);

	if (keep == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < r->n; i++) {
		struct found *f = &r->found[i];
		const struct live_seg *l = live_of(f);

		f->age = l->opened_ns;
		f->redo = f->sealed && atomic_load(&l->begun) == f->generation; /* [AT-5] */
		if (!f->sealed && atomic_load(&l->opened) == f->generation) {   /* [AT-4] */
			f->unwalked = true;
			f->stream = l->stream < STREAMS ? l->stream : STREAM_MAIN;
		}
		keep[(f->path->unit_base >> shift) + f->seg + 1] = f->sealed || f->unwalked;
	}
	/* [AT-8] a header that is damaged, or could not be read today */
	for (unsigned i = 0; i < s->npaths; i++)
		for (uint32_t k = 0; k < s->path[i].nseg; k++)
			if (atomic_load(&s->path[i].seg[k].generation) == 0 &&
			    atomic_load(&seg_live(&s->path[i], k)->opened) != 0)
				atomic_store(&s->live->doubt, 1);
	*dropped = index_retain(s->index, keep, n, shift);
	free(keep);
	qsort(r->found, r->n, sizeof *r->found, youngest_first);
	return 0;
}

/* True: attached. The log says why not, once. */
static bool attach(struct reading *r)
{
	struct store *s = r->s;
	uint64_t torn = 0, dropped = 0;
	const char *why = live_attach(s, &torn);
	struct index_stats ix;

	if (why == NULL) {
		why = segments_gate(r);
		if (why == NULL && take_segments(r, &dropped) < 0)
			why = "memory";
		if (why != NULL)
			live_close(s);
	}
	if (why != NULL) {
		if (r->n > 0)
			log_info("restart: from disk: shared memory does not pass the gate: %s",
				 why);
		return false;
	}
	index_stats(s->index, &ix);
	log_info("restart: from shared memory: %" PRIu64 " items; %" PRIu64
		 " torn lines repaired, %" PRIu64 " slots of recycled segments dropped",
		 ix.items, torn, dropped);
	return true;
}

void recover_walk(struct store_worker *sw, struct path *p, uint32_t seg)
{
	struct store *s = sw->s;
	struct segment *g = &p->seg[seg];
	struct reading r = {
	    .s = s,
	    .io = sw->io,
	    .running = true,
	};
	struct found f = {.path = p, .seg = seg, .generation = atomic_load(&g->generation)};

	A(g->nentries == 0);
	if (posix_memalign((void **)&r.mem, FORMAT_ALIGN, SCAN_BYTES + FORMAT_ALIGN) != 0)
		A(false); /* a megabyte */
	scan(&r, &f);
	g->ragged = r.torn > 0; /* the index may know more, and it can be read */
	pthread_mutex_lock(&p->lock);
	g->used = FORMAT_ALIGN + (uint32_t)f.data_bytes;
	g->entries = f.scanned;
	g->entries_cap = g->nentries = f.entries;
	g->unwalked = false;
	pthread_mutex_unlock(&p->lock);
	free(r.mem);
}

/* ---- the second: the disk ---------------------------------------------------------------------- */

/* Those that leave and hold nothing are no room for anything [LV-1]. */
static bool has_unused(const struct path *p)
{
	for (uint32_t k = 0; k < p->nstay; k++)
		if (atomic_load(&p->seg[k].state) == SEG_VIRGIN)
			return true;
	return false;
}

int recover(struct store *s, struct io *io, char **cause)
{
	struct reading r = {.s = s, .io = io};
	size_t all = 0;
	bool full = true;
	int res;

	s->recover_began = clock_ns();
	for (unsigned i = 0; i < s->npaths; i++)
		all += s->path[i].nseg;
	AN(all);
	r.found = calloc(all, sizeof *r.found);
	if (r.found == NULL ||
	    posix_memalign((void **)&r.mem, FORMAT_ALIGN, SCAN_BYTES + FORMAT_ALIGN) != 0) {
		free(r.found);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < s->npaths; i++) {
		res = s->cfg.fresh ? 0 : read_headers(&r, &s->path[i], cause);
		if (res < 0)
			goto out;
	}
	/* [F-9], [F-8]: a power cut may have taken the header that empty_below was drawn above */
	for (unsigned i = 0; i < s->npaths; i++) {
		const struct format_super *super = &s->path[i].super;
		uint64_t floor = super->generation_floor > super->empty_below
				     ? super->generation_floor
				     : super->empty_below;

		if (floor > r.gen_max + 1)
			r.gen_max = floor - 1;
	}
	res = paths_forget_outdated(s, io, r.gen_max, cause);
	if (res < 0)
		goto out;
	for (unsigned i = 0; i < s->npaths; i++)
		for (uint32_t k = 0; k < s->path[i].nseg; k++) {
			uint64_t g = atomic_load(&s->path[i].seg[k].generation);

			if (g == 0) {
				s->path[i].virgins += !s->path[i].seg[k].lost;
				continue;
			}
			r.found[r.n++] =
			    (struct found){.path = &s->path[i], .seg = k, .generation = g};
		}
	qsort(r.found, r.n, sizeof *r.found, newest_first);
	read_footers(&r);
	if (!s->cfg.fresh)
		r.dead = shm_attach(s->shm_wbuf, &r.dead_len);
	if (r.dead != NULL)
		r.ndead = r.dead_len / (FORMAT_ALIGN + WBUF_BYTES);
	r.fault = wbufs_fault(&r);
	s->writes_lost = !s->cfg.fresh && r.fault != NULL && !paths_stopped_well(s);
	r.attached = attach(&r);
	if (r.attached)
		s->writes_lost = false; /* its owner had none left */
	if (s->writes_lost)
		log_warn(
		    "store: it was not stopped in order and its write buffers (%s) are %s: what was "
		    "stored or deleted in the last --sync (%.3g s) before that may be undone",
		    s->shm_wbuf, r.fault, (double)s->cfg.sync_ns / 1e9);
	if (!r.attached) {
		res = live_make(s, cause);
		if (res < 0)
			goto out;
	}
	res = replay(&r, cause);
	if (res < 0)
		goto out;
	recency_load(s, io, !r.attached);
	if (!r.attached) {
		res = load_begin(&r);
		if (res < 0)
			goto out;
		for (size_t i = 0; i < r.n; i++)
			r.found[i].age = recency_age(r.found[i].path, r.found[i].seg);
		qsort(r.found, r.n, sizeof *r.found, youngest_first);
	}
	/* what is recycled first lies in front of main's order */
	for (int redo = 1; redo >= 0; redo--)
		for (size_t i = r.n; i-- > 0;)
			if (r.found[i].redo == (redo == 1))
				adopt(&r, &r.found[i], r.n - i);
	for (unsigned i = 0; i < s->npaths; i++)
		full = full && !has_unused(&s->path[i]);
	atomic_store(&s->full, full);
	A(atomic_load(&s->live->owed) == s->ndrops); /* [AT-8] */
	s->layer = r.attached ? "shm" : r.n > 0 ? "disk" : "empty";
	if (r.torn > 0)
		log_info("store: torn blocks were stepped over");
	if (r.attached) {
		atomic_store(&s->live->complete, 1);
		atomic_store(&s->recover_ns, clock_ns() - s->recover_began);
	} else {
		load_serve(s, io);
	}
	res = 0;
out:
	for (size_t i = 0; i < r.n; i++)
		free(r.found[i].scanned);
	if (r.dead != NULL)
		shm_unmap(r.dead, r.dead_len);
	if (s->load == NULL)
		recency_loaded(s); /* else at its end */
	free(r.found);
	free(r.lost);
	free(r.mem);
	free(r.doubts.d);
	return res;
}
