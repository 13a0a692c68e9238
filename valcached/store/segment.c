/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments: giving out extents, counting what is unfinished, pins, quarantine. The states and who
 * moves them are drawn at enum seg_state in store_int.h. Any thread; everything under the path's lock.
 *
 *  [S-1] Extents and table entries are given out only while header, all extents, the table of all
 *        entries given out, and the footer fit the segment.
 *  [S-2] A segment is sealed only when no extent of it is unfinished.
 *  [S-3] Each stream's segments are recycled strictly in the order in which they were opened.
 *  [S-4] They are opened in the order of their generations.
 *  [S-5] An extent is given back (write.c) when others have gone on to segments so much newer that a record there
 *        would soon be among the oldest.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "valcached/store/store_int.h"

static void set_state(struct segment *g, enum seg_state from, enum seg_state to)
{
	A(atomic_load_explicit(&g->state, memory_order_relaxed) == from);
	atomic_store_explicit(&g->state, to, memory_order_release);
}

/* Appends to the path's order of age. Under its lock. */
void segment_add_order(struct path *p, enum stream stream, uint32_t seg)
{
	struct order *o = &p->order[stream];

	A(o->n < p->nseg);
	o->ring[(o->head + o->n) % p->nseg] = seg;
	o->n++;
}

/*
 * [S-4] Clean segments are taken in the order of their generations, which is then that of what is written: a start
 * that knows no better takes it for the age. Those that leave come last [LV-1]. Under the path's lock.
 */
static uint32_t take_clean(struct path *p)
{
	uint32_t best = 0, seg;

	A(p->nclean > 0);
	for (uint32_t i = 1; i < p->nclean; i++) {
		uint32_t a = p->clean[i], b = p->clean[best];

		if ((a >= p->nstay) != (b >= p->nstay)
			? a < p->nstay
			: atomic_load(&p->seg[a].generation) < atomic_load(&p->seg[b].generation))
			best = i;
	}
	seg = p->clean[best];
	p->clean[best] = p->clean[--p->nclean];
	return seg;
}

/* Bytes left for extents if the table is to hold `more` entries above those given out. [S-1] */
static uint64_t room(const struct path *p, const struct segment *g, uint32_t more)
{
	uint64_t fixed =
	    g->used + FORMAT_ALIGN + table_bytes((uint64_t)g->nentries + g->allowed + more);

	return fixed < p->store->seg_size ? p->store->seg_size - fixed : 0;
}

bool segment_allow(struct path *p, uint32_t seg, uint32_t n)
{
	struct segment *g = &p->seg[seg];
	uint64_t need;
	bool ok;

	pthread_mutex_lock(&p->lock);
	need = g->used + FORMAT_ALIGN + table_bytes((uint64_t)g->nentries + g->allowed + n);
	ok = need <= p->store->seg_size;
	if (ok)
		g->allowed += n;
	pthread_mutex_unlock(&p->lock);
	return ok;
}

int segment_extent(struct path *p, enum stream stream, bool slow, uint32_t min, uint32_t want,
		   uint32_t allowed, uint32_t *seg, uint64_t *generation, uint32_t *off,
		   uint32_t *len)
{
	bool call = false;
	int res = -EAGAIN;

	AZ(min % FORMAT_ALIGN);
	AZ(want % FORMAT_ALIGN);
	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct segment *g;
		uint64_t r;

		if (!slow && stream == STREAM_MAIN && p->nclean < CLEAN_RESERVE) {
			/* what the slow worker has opened from the reserve is for what it writes again */
			call = true;
			break;
		}
		if (p->open[stream] == SEG_NONE) {
			if (p->nclean <= (slow ? 0 : CLEAN_RESERVE) || atomic_load(&p->offline)) {
				/* who waits for his own writes would wake himself all the time */
				call = call || !slow;
				break;
			}
			if (unlikely(p->nstay < p->nseg) && !slow) {
				if (p->grants == 0) { /* [LV-5] */
					call = true;
					break;
				}
				p->grants--;
			}
			p->open[stream] = take_clean(p);
			g = &p->seg[p->open[stream]];
			g->stream = (uint8_t)stream;
			set_state(g, SEG_CLEAN, SEG_OPEN);
			g->used = FORMAT_ALIGN;
			g->extents = g->allowed = g->nentries = 0;
			g->data_bytes = 0;
			g->cut = FORMAT_CUT_NOT;
			atomic_store_explicit(&g->close_wanted, false, memory_order_relaxed);
			g->nth = atomic_load_explicit(&p->opens[stream], memory_order_relaxed) + 1;
			atomic_store_explicit(&p->opens[stream], g->nth, memory_order_relaxed);
			g->opened_ns = clock_ns();
			seg_live(p, p->open[stream])->opened_ns = g->opened_ns;
			seg_live(p, p->open[stream])->stream = (uint32_t)stream;
			seg_live(p, p->open[stream])->checked = /* [SC-1] */
			    atomic_load_explicit(&p->store->scrub_pass, memory_order_relaxed);
			/* [AT-4] before the first extent */
			atomic_store_explicit(
			    &seg_live(p, p->open[stream])->opened,
			    atomic_load_explicit(&g->generation, memory_order_relaxed),
			    memory_order_release);
			segment_add_order(p, stream, p->open[stream]);
			call = p->nclean < CLEAN_AHEAD;
		}
		g = &p->seg[p->open[stream]];
		r = room(p, g, allowed) & ~(uint64_t)(FORMAT_ALIGN - 1);
		if (r < min) {
			AN(g->used > FORMAT_ALIGN); /* a fresh segment has room for every record */
			set_state(g, SEG_OPEN, SEG_FULL);
			call = true;
			p->open[stream] = SEG_NONE;
			continue;
		}
		*seg = p->open[stream];
		*generation = atomic_load_explicit(&g->generation, memory_order_relaxed);
		*off = g->used;
		*len = (uint32_t)(r < want ? r : want);
		g->used += *len;
		g->extents++;
		g->allowed += allowed;
		res = 0;
		break;
	}
	pthread_mutex_unlock(&p->lock);
	if (call)
		slow_call(p->store);
	return res;
}

void segment_finish(struct path *p, uint32_t seg, uint32_t off, uint32_t len, uint32_t used,
		    uint32_t allowed, const struct format_entry *entries, uint32_t n)
{
	struct segment *g = &p->seg[seg];
	bool call;

	AZ(used % FORMAT_ALIGN);
	A(used <= len);
	pthread_mutex_lock(&p->lock);
	A(g->extents > 0);
	A(n <= allowed);
	A(g->allowed >= allowed);
	g->extents--;
	g->allowed -= allowed;
	/* the tail of the newest extent goes back */
	if (g->state == SEG_OPEN && g->used == off + len)
		g->used = off + used;
	if (g->nentries + n > g->entries_cap) {
		uint32_t cap = g->entries_cap == 0 ? 1024 : g->entries_cap;
		struct format_entry *more;

		while (cap < g->nentries + n)
			cap *= 2;
		more = realloc(g->entries, cap * sizeof *more);
		AN(more != NULL); /* 24 bytes a record of a few open segments */
		g->entries = more;
		g->entries_cap = cap;
	}
	if (n > 0)
		memcpy(g->entries + g->nentries, entries, n * sizeof *entries);
	g->nentries += n;
	call = g->state == SEG_FULL && g->extents == 0;
	pthread_mutex_unlock(&p->lock);
	if (call)
		slow_call(p->store);
}

void segment_unpin(struct store *s, struct segment *g)
{
	uint32_t before = atomic_fetch_sub(&g->pins, 1);

	A(before > 0);
	if (before == 1 && atomic_load(&g->state) == SEG_RECYCLING)
		slow_call(s);
}

void segment_quarantine(struct store *s, struct path *p, uint32_t seg, const char *why)
{
	static struct log_limit limit;

	/* the segment, or all of the path? The slow worker looks */
	if (!atomic_exchange(&p->probe, true))
		slow_call(s);
	atomic_store(&s->live->doubt, 1); /* [AT-8] */
	if (atomic_exchange(&p->seg[seg].quarantined, true))
		return;
	atomic_fetch_add(&s->quarantines, 1);
	atomic_store(&p->bad_new, true);
	log_limited(&limit, LOG_WARN, "store: %s: segment %u is quarantined: %s",
		    p->file->info.path, seg, why);
	slow_call(s);
}
