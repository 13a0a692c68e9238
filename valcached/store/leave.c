/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A path that shrinks: --size is less than its superblock says. It serves as it is, and its last segments leave one
 * by one, while sets go on; then the superblock gets the new number, and the file is cut. Slow worker.
 *
 *  [LV-1] No segment that leaves is opened while others are clean. One that holds nothing leaves at once; while
 *         the others have not enough clean ones, it may be used once more.
 *  [LV-2] First the oldest are recycled as ever, wherever they lie, until what is left fits. Then each that is
 *         still to leave is recycled, the oldest first: all its values are written again, and all that ends
 *         others and is needed. So what a store of the new size has no room for is its oldest.
 *  [LV-3] As in all recycling [EV-4], the copies are durable before its old life is over on disk: here by a header
 *         of zeros, for there is no next life. [F-9] keeps its generations from being drawn again.
 *  [LV-4] The new number of segments is durable before the file is cut, if need be by the next start. A kill at
 *         any time leaves a path that goes on where it was; locations of this process stay as they are until the next start.
 *  [LV-5] Serving workers get one segment for two steps, so that a flood of sets cannot take all that eviction
 *         gains; while nothing can be done here (a late read, the write budget) they get what they need.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "valcached/store/slow_int.h"

#define RETRY_NS (10 * NS_PER_MS)

static void left(struct path *p, uint32_t seg)
{
	atomic_store(&p->seg[seg].generation, 0);
	atomic_store(&p->seg[seg].quarantined, false);
	atomic_store(&p->seg[seg].data_bytes, 0);
	/* a start that attaches misses no header there [AT-8] */
	atomic_store(&seg_live(p, seg)->opened, 0);
	atomic_store(&p->seg[seg].state, SEG_LEFT);
}

void leave_done(struct path *p, uint32_t seg)
{
	pthread_mutex_lock(&p->lock);
	left(p, seg);
	pthread_mutex_unlock(&p->lock);
}

struct tail {
	uint32_t used;  /* segments that what the path holds takes when all has been moved */
	uint32_t clean; /* of those that stay */
	uint32_t rest;  /* of those that are to leave and have not */
	uint32_t next;  /* of them the oldest, sealed; SEG_NONE */
	uint32_t open;  /* one that somebody must let go; SEG_NONE */
	bool redo; /* main's oldest was being recycled when a process or the path died [AT-5] */
};

/* Those without content leave [LV-1]; what is left to do. */
static struct tail look(struct path *p)
{
	struct tail t = {.next = SEG_NONE, .open = SEG_NONE};
	uint64_t bytes = 0;
	uint32_t kept = 0, nseg = p->nseg;

	A(nseg > p->nstay);
	pthread_mutex_lock(&p->lock);
	/* those that leave to the front */
	for (uint32_t i = 0; i < p->nclean; i++)
		if (p->clean[i] >= p->nstay) {
			uint32_t seg = p->clean[i];

			p->clean[i] = p->clean[kept];
			p->clean[kept++] = seg;
		}
	t.clean = p->nclean - kept;
	t.redo = p->redo > 0 && p->order[STREAM_MAIN].n > 0;
	if (t.clean >= CLEAN_AHEAD) {
		for (uint32_t i = 0; i < kept; i++)
			left(p, p->clean[i]);
		memmove(p->clean, p->clean + kept, t.clean * sizeof *p->clean);
		p->nclean = t.clean;
	}
	for (uint32_t k = 0; k < nseg; k++) {
		uint32_t state = atomic_load(&p->seg[k].state);

		if (k < p->nstay) {
			t.used += state >= SEG_OPEN && state <= SEG_RECYCLING;
			continue;
		}
		if (state == SEG_LEFT)
			continue;
		if (state == SEG_VIRGIN) {
			left(p, k);
			p->virgins--;
			continue;
		}
		t.rest++;
		if (state == SEG_OPEN) {
			atomic_store(&p->seg[k].state, state = SEG_FULL);
			p->open[p->seg[k].stream] = SEG_NONE;
		}
		if (state == SEG_FULL)
			t.open = k;
		if (state == SEG_FULL || state == SEG_SEALED)
			bytes += p->seg[k].used;
	}
	t.used += (uint32_t)(bytes / (p->store->seg_size / 16 * 15)) + 1;
	for (unsigned i = 0; i < STREAMS && t.next == SEG_NONE; i++) {
		const struct order *o = &p->order[i];

		for (uint32_t n = 0; n < o->n && t.next == SEG_NONE; n++) {
			uint32_t k = o->ring[(o->head + n) % nseg];

			if (k >= p->nstay && atomic_load(&p->seg[k].state) == SEG_SEALED)
				t.next = k;
		}
	}
	pthread_mutex_unlock(&p->lock);
	return t;
}

static void grant(struct path *p, uint32_t n)
{
	pthread_mutex_lock(&p->lock);
	p->grants = n;
	pthread_mutex_unlock(&p->lock);
}

static void finish(struct store_worker *sw, struct path *p)
{
	struct store *s = p->store;
	int res;

	p->super.seg_count = p->nstay;
	res = super_write(sw->io, p);
	if (res < 0) { /* it may stand there or not: bring_back() takes either */
		p->super.seg_count = p->nseg;
		COUNT(sw, write_errors);
		atomic_fetch_add(&p->write_errors, 1);
		path_fail(p, "the superblock", res);
		return;
	}
	p->left = true;
	grant(p, UINT32_MAX);
	geometry_cut(p);
	log_info("store: %s has shrunk to %u segments of %" PRIu64 " MiB: %" PRIu64
		 " values were written again, the %" PRIu64
		 " oldest or least used were dropped; the next start reads the disk",
		 p->file->info.path, p->nstay, s->seg_size >> 20, atomic_load(&p->leave_kept),
		 atomic_load(&p->leave_dropped));
}

void leave_turn(struct store_worker *sw, struct path *p, uint64_t *next, bool *more)
{
	struct store *s = sw->s;
	struct tail t = look(p);
	/* one is being opened, and the slow worker's reserve stays what it is */
	bool fits = t.used <= p->nstay - CLEAN_AHEAD - STREAMS;
	bool did;

	if (!p->leave_said) {
		p->leave_said = true;
		log_info(
		    "store: %s shrinks from %u to %u segments of %" PRIu64
		    " MiB while it serves: %u of those that leave hold something; what fits the new "
		    "--size is kept, the oldest are dropped",
		    p->file->info.path, p->nseg, p->nstay, s->seg_size >> 20, t.rest);
	}
	if (loading(s))
		return; /* [RC-8] it comes back here when that is over */
	if (t.rest == 0) {
		finish(sw, p);
		return;
	}
	if (t.open != SEG_NONE)
		close_soon(sw, p, t.open);
	if (t.redo && fits) { /* of what was being moved the rest is moved, too [LV-2] */
		did = recycle(sw, p, &p->order[STREAM_MAIN]);
	} else if (p->redo > 0 || !fits || (t.clean < CLEAN_AHEAD && p->virgins == 0)) {
		did = recycle(sw, p, NULL);
	} else if (t.clean < CLEAN_AHEAD) {
		prepare_virgin(sw, p);
		did = true;
	} else {
		did = t.next != SEG_NONE && wbufs_budget(sw) && recycle_now(sw, p, t.next);
	}
	if (!did || ++p->leave_steps % 2 == 0)
		grant(p, did ? 1 : CLEAN_AHEAD);
	if (did)
		*more = true;
	else if (io_now(sw->io) + RETRY_NS < *next)
		*next = io_now(sw->io) + RETRY_NS;
}
