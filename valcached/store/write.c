/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Write buffers: appending records, flushing blocks, giving extents back. The picture and the rules
 * [W-1] to [W-4] are at struct wbuf in store_int.h.
 *
 * The buffers are one file in shared memory: a page of struct wbuf_shm and an image each. What is
 * needed to replay a buffer after a kill is stored before what depends on it:
 *
 *  [W-5] The identity of the extent is complete before `generation` is set, and `generation` is zeroed
 *        before anything of it changes.
 *  [W-6] A record is complete in the image before `committed` covers it; a block's header is complete
 *        before shm->block_off moves behind it; `written` moves only when the write is done.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/sum.h"
#include "valcached/store/store_int.h"

#define IDLE_CLOSE_NS (5 * NS_PER_S) /* an extent nobody appends to is given back after this */
#define ROUND(n)      (((n) + FORMAT_ALIGN - 1) & ~(FORMAT_ALIGN - 1))

static void wbuf_done(struct io_op *op);

/* What it holds can be read when the path is back; until then it stays as it is, in shared memory, too. */
static void wbuf_expired(struct watch *w)
{
	struct wbuf *b = container_of(w, struct wbuf, watch);

	watch_late(b->owner, w, "a write", true);
}

static void submit(struct wbuf *w, uint32_t from, uint32_t end)
{
	io_write(w->owner->io, &w->op, w->path->file, w->mem + from, end - from,
		 seg_offset(w->path, w->seg) + w->ext_off + from, wbuf_done);
	watch_begin(w->owner, &w->watch, w->path, &w->op, wbuf_expired);
}

void wbufs_name(struct store *s)
{
	live_name(s, s->store_id, "writes", s->shm_wbuf);
}

/* Of len bytes, beside the old one, if there is one: replay() gives it the name. errno as shm_map(). */
static int file_make(struct store *s, size_t len, const char *what, const char *remedy,
		     char **cause)
{
	char tmp[sizeof s->shm_wbuf + 8];

	snprintf(tmp, sizeof tmp, "%s.new", s->shm_wbuf);
	s->wbuf_mem = shm_map(tmp, len, what, remedy, cause);
	return s->wbuf_mem == NULL ? -ENOMEM : 0;
}

int wbufs_make(struct store *s, char **cause)
{
	unsigned n = s->nwbuf;
	int res = file_make(s, s->wbuf_len, "write buffers", "use fewer threads (-t)", cause);

	for (unsigned i = 0; res >= 0 && i < n; i++) {
		struct wbuf *w = &s->wbuf[i];

		w->shm = (struct wbuf_shm *)(void *)(s->wbuf_mem + (size_t)i * FORMAT_ALIGN);
		w->mem = s->wbuf_mem + (size_t)n * FORMAT_ALIGN + (size_t)i * WBUF_BYTES;
		w->shm->magic = WBUF_MAGIC;
		w->shm->buffers = n;
		memcpy(w->shm->store_id, s->store_id, 16);
	}
	return res;
}

/*
 * There is no room for both files. True: there will be when a killed process's is gone, which is tried out
 * before anything is done that cannot be taken back.
 */
static bool room_later(struct store *s, char **cause)
{
	size_t old = 0;
	void *dead = shm_attach(s->shm_wbuf, &old);
	bool room = dead != NULL;

	if (dead == NULL)
		return false;
	shm_unmap(dead, old);
	free(*cause);
	*cause = NULL;
	if (s->wbuf_len > old) {
		size_t more = s->wbuf_len - old;

		room = file_make(s, more, "write buffers beside those of a killed process",
				 "use as many threads (-t) and paths as it had", cause) == 0;
		if (room)
			shm_unmap(s->wbuf_mem, more);
		s->wbuf_mem = NULL;
	}
	return room;
}

int wbufs_open(struct store *s, char **cause)
{
	int res;

	s->wbufs_per_worker = 2 * s->npaths * STREAMS + 2;
	s->nwbuf = (s->cfg.workers + 1) * s->wbufs_per_worker;
	s->wbuf_len = (size_t)s->nwbuf * (FORMAT_ALIGN + WBUF_BYTES);
	s->wbuf = calloc(s->nwbuf, sizeof *s->wbuf);
	if (s->wbuf == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < s->nwbuf; i++) {
		struct wbuf *w = &s->wbuf[i];

		w->entries_cap = ALLOW_STEP;
		w->entries = malloc(w->entries_cap * sizeof *w->entries);
		if (w->entries == NULL)
			return -ENOMEM;
	}
	wbufs_name(s);
	res = wbufs_make(s, cause);
	if (res < 0 && errno == ENOSPC && room_later(s, cause))
		res = 0;
	return res;
}

void wbufs_close(struct store *s, bool keep)
{
	for (unsigned i = 0; s->wbuf != NULL && i < s->nwbuf; i++) {
		free(s->wbuf[i].entries);
		if (s->wbuf[i].shm != NULL)
			atomic_store(&s->wbuf[i].shm->generation, 0);
	}
	free(s->wbuf);
	s->wbuf = NULL;
	if (s->wbuf_mem != NULL)
		shm_unmap(s->wbuf_mem, s->wbuf_len);
	s->wbuf_mem = NULL;
	if (!keep && s->shm_wbuf[0] != '\0') {
		char tmp[sizeof s->shm_wbuf + 8];

		/* before recovery has replayed it, the file of that name is a dead process's [RC-1] */
		snprintf(tmp, sizeof tmp, "%s%s", s->shm_wbuf, s->replayed ? "" : ".new");
		shm_remove(tmp);
	}
}

/* ---- the write budget: a bucket of one second -------------------------------------------------- */

static bool budget_left(struct store *s, uint64_t now)
{
	uint64_t last = atomic_load_explicit(&s->tokens_at, memory_order_relaxed);

	if (s->cfg.write_budget == 0)
		return true;
	if (now > last && now - last > 10 * NS_PER_MS &&
	    atomic_compare_exchange_strong(&s->tokens_at, &last, now)) {
		int64_t most = (int64_t)s->cfg.write_budget;
		uint64_t gone = now - last < NS_PER_S ? now - last : NS_PER_S;
		int64_t add = (int64_t)((double)most * (double)gone / (double)NS_PER_S);
		int64_t have = atomic_fetch_add(&s->tokens, add) + add;

		if (have > most)
			atomic_fetch_sub(&s->tokens, have - most);
	}
	return atomic_load_explicit(&s->tokens, memory_order_relaxed) > 0;
}

/* ---- one buffer -------------------------------------------------------------------------------- */

static void wbuf_free(struct wbuf *w)
{
	/* [W-4]; the image stays as it is until the pins are gone, see wbuf_take() */
	atomic_store(&w->base, 0);
	atomic_store_explicit(&w->shm->generation, 0, memory_order_release);
	segment_finish(w->path, w->seg, w->ext_off, w->ext_len, ROUND(w->block_off), w->allowed,
		       w->entries, w->nentries);
	w->active = false;
	w->owner->retry = true;
}

/* Nobody appends to it any more. */
static void forget_cur(struct wbuf *w)
{
	struct wbuf **cur = &w->owner->cur[w->path->index][w->stream];

	if (*cur == w)
		*cur = NULL;
}

static void wbuf_close(struct wbuf *w)
{
	if (w->closing)
		return;
	w->closing = true;
	forget_cur(w);
	if (w->writing == 0) {
		if (w->records > 0)
			wbuf_flush(w);
		else
			wbuf_free(w);
	}
}

static struct wbuf *wbuf_take(struct store_worker *sw, struct path *p, enum stream stream,
			      uint32_t bytes)
{
	uint32_t min = ROUND(FORMAT_BLOCK + bytes), want;
	struct wbuf *w = NULL;

	A(min <= WBUF_BYTES);
	/* as many records of this size as the buffer takes: nothing is left over if all are alike */
	want = ROUND(FORMAT_BLOCK + (WBUF_BYTES - FORMAT_BLOCK) / bytes * bytes);
	A(want >= min && want <= WBUF_BYTES);
	for (unsigned i = 0; i < sw->nwbufs; i++)
		if (!sw->wbufs[i]->active && atomic_load(&sw->wbufs[i]->pins) == 0) {
			w = sw->wbufs[i];
			break;
		}
	if (w == NULL)
		return NULL;
	/* before the question, so that the answer "now there is one" cannot be missed */
	atomic_store(&sw->extent_wanted, true);
	if (segment_extent(p, stream, sw->id == sw->s->cfg.workers && !sw->rescuing, min, want,
			   ALLOW_STEP, &w->seg, &w->generation, &w->ext_off, &w->ext_len) < 0)
		return NULL;
	atomic_store(&sw->extent_wanted, false);
	w->active = true;
	w->closing = false;
	w->path = p;
	w->block_off = w->writing = w->records = w->nentries = w->tries = 0;
	w->ends = w->ends_writing = 0;
	w->held = w->lost = false;
	w->fill = FORMAT_BLOCK;
	w->dirty_since = w->idle_since = 0;
	w->allowed = ALLOW_STEP;
	w->stream = stream;
	w->shm->path = p->index;
	w->shm->seg = w->seg;
	w->shm->ext_off = w->ext_off;
	w->shm->ext_len = w->ext_len;
	w->shm->block_off = 0;
	atomic_store_explicit(&w->shm->written, 0, memory_order_relaxed);
	atomic_store_explicit(&w->shm->committed, 0, memory_order_relaxed);
	atomic_store_explicit(&w->shm->published, 0, memory_order_relaxed);
	atomic_store_explicit(&w->shm->generation, w->generation, memory_order_release); /* [W-5] */
	atomic_store(&w->ext_units, w->ext_len / FORMAT_UNIT);
	atomic_store(&w->base, loc_of(p, w->seg, w->ext_off / FORMAT_UNIT));
	sw->cur[p->index][stream] = w;
	return w;
}

/* Room for one more entry (or the few that a delete may need) in the segment's table? */
static bool allow(struct wbuf *w)
{
	struct format_entry *more;

	if (w->nentries + INDEX_CANDIDATES <= w->allowed)
		return true;
	if (w->entries_cap < w->allowed + ALLOW_STEP) {
		more = realloc(w->entries, (w->allowed + ALLOW_STEP) * sizeof *more);
		if (more == NULL)
			return false;
		w->entries = more;
		w->entries_cap = w->allowed + ALLOW_STEP;
	}
	if (!segment_allow(w->path, w->seg, ALLOW_STEP))
		return false;
	w->allowed += ALLOW_STEP;
	return true;
}

/*
 * [S-5] Of a worker that writes little: the others, were they as slow, would lie no further ahead than their extents
 * need. Relaxed: it is a matter of megabytes.
 */
static bool left_behind(const struct wbuf *w)
{
	const struct path *p = w->path;
	const struct store *s = p->store;
	uint64_t ahead =
	    atomic_load_explicit(&p->opens[w->stream], memory_order_relaxed) - p->seg[w->seg].nth;

	return unlikely(ahead >= 2) &&
	       ahead > ((uint64_t)(s->cfg.workers + 1) * WBUF_BYTES + s->seg_size - 1) >>
		   s->seg_shift;
}

static struct wbuf *reserve_on(struct store_worker *sw, struct path *p, enum stream stream,
			       uint32_t bytes)
{
	struct wbuf *w = sw->cur[p->index][stream];

	if (w != NULL) {
		/* [AT-3] whoever appended has published */
		A(w->shm->published == w->shm->committed);
		if (w->fill + bytes <= w->ext_len && !left_behind(w) && allow(w))
			return w;
		wbuf_close(w);
	}
	return wbuf_take(sw, p, stream, bytes);
}

struct wbuf *wbuf_reserve(struct store_worker *sw, struct path *p, enum stream stream,
			  uint32_t bytes)
{
	struct store *s = sw->s;

	bytes = (bytes + FORMAT_UNIT - 1) & ~(FORMAT_UNIT - 1);
	if (p != NULL)
		return atomic_load(&p->offline) ? NULL : reserve_on(sw, p, stream, bytes);
	for (unsigned i = 0; i < s->npaths; i++) {
		unsigned k = (sw->value_path + i) % s->npaths;
		struct wbuf *w = sw->cur[k][stream];

		if (atomic_load(&s->path[k].offline))
			continue;
		if (w != NULL && w->fill + bytes > w->ext_len && i == 0 && s->npaths > 1) {
			/* this extent is full: the next one comes from the next path */
			wbuf_close(w);
			sw->value_path = (k + 1) % s->npaths;
			return wbuf_reserve(sw, NULL, stream, bytes);
		}
		w = reserve_on(sw, &s->path[k], stream, bytes);
		if (w != NULL) {
			sw->value_path = k;
			return w;
		}
	}
	return NULL;
}

uint64_t wbuf_append(struct wbuf *w, uint8_t *head, uint32_t head_len, const uint8_t *value,
		     uint64_t hash, bool keep_seq, uint32_t *units)
{
	struct store *s = w->owner->s;
	struct format_record *r = (struct format_record *)(void *)head;
	uint32_t at = (w->ext_off + w->fill) / FORMAT_UNIT, n, end;
	uint8_t *to = w->mem + w->fill;

	AZ(w->fill % FORMAT_UNIT);
	n = record_units(r->value_off, r->value_len);
	end = w->fill + n * FORMAT_UNIT;
	A(end <= w->ext_len);
	A(w->nentries < w->entries_cap);
	if (!keep_seq)
		r->seq = atomic_fetch_add(&s->live->seq, 1);
	r->magic = FORMAT_RECORD_MAGIC;
	r->generation = w->generation;
	r->units_at = at;
	record_seal(head, s->id_seed);
	memcpy(to, head, head_len);
	if (r->value_len > 0)
		copy_away(to + r->value_off, value, r->value_len);
	memset(to + r->value_off + r->value_len, 0,
	       (size_t)n * FORMAT_UNIT - r->value_off - r->value_len);
	w->entries[w->nentries++] = entry_make(r, hash);
	w->records++;
	if (r->type != FORMAT_VALUE)
		w->ends++;
	w->fill = end;
	atomic_store_explicit(&w->shm->committed, end, memory_order_release); /* [W-6] */
	w->idle_since = 0;
	if (w->dirty_since == 0)
		w->dirty_since = io_now(w->owner->io);
	if (r->type != FORMAT_VALUE)
		path_end_made(w->path);
	*units = n;
	return loc_of(w->path, w->seg, at);
}

/* Writes what has been appended since the last flush as one block. */
void wbuf_flush(struct wbuf *w)
{
	struct store_worker *sw = w->owner;
	struct format_block *b = (struct format_block *)(void *)(w->mem + w->block_off);
	uint32_t end = ROUND(w->fill), from = w->block_off;

	if (w->writing != 0 || w->records == 0)
		return;
	A(end <= w->ext_len);
	memset(w->mem + w->fill, 0, end - w->fill);
	memset(b, 0, sizeof *b);
	b->magic = FORMAT_BLOCK_MAGIC;
	b->bytes = end - from;
	b->generation = w->generation;
	b->offset = w->ext_off + from;
	b->used = w->fill - from;
	b->records = w->records;
	block_seal(b, sw->s->id_seed);
	atomic_thread_fence(memory_order_release); /* [W-6] */
	w->shm->block_off = end;
	w->writing = end;
	w->records = 0;
	w->ends_writing = w->ends;
	w->ends = 0;
	w->block_off = end;
	w->fill = end + FORMAT_BLOCK;
	w->dirty_since = 0;
	w->idle_since = io_now(sw->io);
	if (w->fill + FORMAT_UNIT > w->ext_len && !w->closing) {
		w->closing = true;
		forget_cur(w);
	}
	sw->in_flight++;
	if (sw->s->cfg.write_budget != 0)
		atomic_fetch_sub(&sw->s->tokens, end - from);
	COUNT_N(sw, disk_write_bytes, end - from);
	submit(w, from, end);
}

/* [W-7] */
void wbuf_lost_free(struct wbuf *w)
{
	w->block_off = w->ext_len;
	wbuf_free(w);
}

void wbuf_no_more(struct wbuf *w)
{
	w->closing = true;
	forget_cur(w);
}

static void wbuf_done(struct io_op *op)
{
	struct wbuf *w = container_of(op, struct wbuf, op);
	struct store_worker *sw = w->owner;
	uint32_t end = w->writing, from = atomic_load(&w->shm->written);
	bool late;

	AN(end);
	late = watch_end(sw, &w->watch);
	if (op->res < 0) {
		COUNT(sw, write_errors);
		atomic_fetch_add(&w->path->write_errors, 1);
		if (++w->tries < WRITE_TRIES && op->res != -EBADF && !late) {
			submit(w, from, end);
			return;
		}
		sw->in_flight--;
		w->writing = 0;
		wbuf_lost(w, op->res);
		return;
	}
	sw->in_flight--;
	w->tries = 0;
	w->writing = 0;
	if (w->ends_writing > 0) {
		path_ends_written(w->path, w->ends_writing);
		w->ends_writing = 0;
	}
	atomic_store_explicit(&w->shm->written, end, memory_order_release);
	path_dirtied(w->path, end - from);
	if (w->closing) {
		if (w->records > 0)
			wbuf_flush(w);
		else
			wbuf_free(w);
	}
}

/*
 * Timers of this worker's buffers: flush what has waited for half a sync interval; give back the extent
 * of one that is not used any more, so that its segment can be sealed.
 */
void wbufs_turn(struct store_worker *sw, uint64_t *deadline)
{
	struct store *s = sw->s;
	uint64_t now = io_now(sw->io), wait = s->cfg.sync_ns / 2;

	for (unsigned i = 0; i < sw->nwbufs; i++) {
		struct wbuf *w = sw->wbufs[i];
		uint64_t due;

		if (unlikely(w->lost))
			wbuf_lost_turn(w, deadline);
		if (!w->active || w->closing || w->writing != 0)
			continue;
		if (unlikely(atomic_load_explicit(&w->path->silent, memory_order_relaxed)) &&
		    !sw->stopping && !atomic_load(&w->path->seg[w->seg].close_wanted))
			continue; /* until the path is tried again */
		if (sw->stopping || atomic_load_explicit(&w->path->seg[w->seg].close_wanted,
							 memory_order_relaxed)) {
			wbuf_close(w);
			continue;
		}
		/* an idle one is kept even if its segment is full otherwise: its room is not wasted */
		due = w->dirty_since != 0 ? w->dirty_since + wait : w->idle_since + IDLE_CLOSE_NS;
		if (now >= due) {
			if (w->dirty_since != 0)
				wbuf_flush(w);
			else
				wbuf_close(w);
			continue;
		}
		if (due < *deadline)
			*deadline = due;
	}
}

bool wbufs_idle(const struct store_worker *sw)
{
	for (unsigned i = 0; i < sw->nwbufs; i++)
		if (sw->wbufs[i]->active)
			return false;
	return true;
}

bool wbufs_budget(struct store_worker *sw)
{
	return budget_left(sw->s, io_now(sw->io));
}

uint32_t wbuf_copy(struct store *s, uint64_t loc, void *to, uint32_t len)
{
	for (unsigned i = 0; i < s->nwbuf; i++) {
		struct wbuf *w = &s->wbuf[i];
		uint64_t base = atomic_load_explicit(&w->base, memory_order_acquire);
		uint32_t off, end, n = 0;

		if (base == 0 || loc < base || loc - base >= atomic_load(&w->ext_units))
			continue;
		atomic_fetch_add(&w->pins, 1); /* [W-3] */
		if (atomic_load(&w->base) == base) {
			off = (uint32_t)(loc - base) * FORMAT_UNIT;
			end = atomic_load_explicit(&w->shm->committed, memory_order_acquire);
			if (end >= off + sizeof(struct format_record)) {
				const struct format_record *r =
				    (const struct format_record *)(const void *)(w->mem + off);
				uint64_t all = (uint64_t)r->value_off + r->value_len;

				n = all < end - off ? (uint32_t)all : end - off;
				n = n < len ? n : len;
				memcpy(to, w->mem + off, n);
			}
		}
		atomic_fetch_sub(&w->pins, 1);
		if (n > 0)
			return n;
	}
	return 0;
}

/* A write is done and not yet synced: the slow worker is told of the first one since its last sync. */
void path_dirtied(struct path *p, uint64_t bytes)
{
	if (atomic_fetch_add(&p->dirty, bytes) == 0)
		slow_call(p->store);
}

/* More keys than the index was made for: the operator can do something about it. */
static void index_is_full(struct store *s, size_t waiting)
{
	static struct log_limit limit;
	struct index_stats ix;

	if (waiting % 1024 != 0)
		return;
	index_stats(s->index, &ix);
	if (ix.victims * 100 > ix.inserts)
		log_limited(&limit, LOG_WARN,
			    "index: full at %" PRIu64
			    " items: keys leave it before their time; values are smaller "
			    "than --mean-value=%" PRIu64 " says: lower it",
			    ix.items, s->cfg.mean_value);
}

void drop_later(struct store *s, const struct index_ref *victim)
{
	uint32_t seg, at;
	struct path *p = loc_path(s, victim->loc, &seg, &at);
	size_t total;

	AN(p != NULL);
	tell_gone(s, STORE_GONE_VICTIM, 0, victim->loc);
	pthread_mutex_lock(&s->drop_lock);
	if (s->ndrops == s->drops_cap) {
		size_t cap = s->drops_cap == 0 ? 64 : s->drops_cap * 2;
		void *more = realloc(s->drops, cap * sizeof *s->drops);

		AN(more != NULL);
		s->drops = more;
		s->drops_cap = cap;
	}
	s->drops[s->ndrops].loc = victim->loc;
	/* now: the slot was there in this loop turn, so the segment has not begun its next life */
	s->drops[s->ndrops].generation = atomic_load(&p->seg[seg].generation);
	s->ndrops++;
	total = ++s->drops_total;
	pthread_mutex_unlock(&s->drop_lock);
	index_is_full(s, total);
	slow_call(s);
}

void drop_other(struct store *s, const struct index_ref *ref)
{
	atomic_fetch_add(&s->live->owed, 1);
	drop_later(s, ref);
}
