/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Write buffers whose path has failed: the values in them that the disk has not, and that were answered, are
 * written again on a path that takes writes, while the image is still there. Worker's own thread.
 *
 *   write fails for good -> values, one by one: again, elsewhere -> ends moot [PS-3] -> extent given back [W-7]
 *
 *  [RS-1] A value is written again under its key's lock if the index still names it here, with its seq, as in
 *         recycling: so whatever has ended it, or will, ends both records, the one that may be on the failed disk
 *         all the same, too. What ends records is let go by no path any more [EV-3], and the next start reads
 *         the disks [AT-8], takes one of the two and ends the other [RC-4].
 *  [RS-2] Until then it is served out of the image; a kill leaves both images to the next start [RC-1].
 *  [RS-3] It waits for room like a set does, but not at a stop, nor when its path is to be brought back [PR-1],
 *         nor in the slow worker, which is the one that makes room. What finds none is lost: it leaves the index
 *         and is counted.
 */
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "valcached/store/store_int.h"

#define AGAIN_NS (2 * NS_PER_MS)

static bool unwritten(const struct wbuf *w, const struct format_entry *e)
{
	return e->units_at * FORMAT_UNIT >= w->ext_off + atomic_load(&w->shm->written);
}

void wbuf_lost(struct wbuf *w, int err)
{
	struct store *s = w->owner->s;

	path_fail(w->path, "write", err);
	/* it may be on the disk all the same, and a newer record of the key on any path [EV-3] */
	for (unsigned i = 0; i < s->npaths; i++)
		atomic_store(&s->path[i].keep_ends, true);
	wbuf_no_more(w);
	w->lost = true;
	w->lost_at = w->lost_values = w->rescued = 0;
	w->records = 0;
	if (w->ends + w->ends_writing > 0) {
		path_ends_written(w->path, w->ends + w->ends_writing);
		w->ends = w->ends_writing = 0;
		w->held = true;
	}
}

/* No room is worth waiting for [RS-3]. */
static bool impatient(const struct wbuf *w)
{
	const struct store_worker *sw = w->owner;

	if (sw->id == sw->s->cfg.workers || !any_path_online(sw->s))
		return true;
	if (!sw->stopping && !atomic_load(&w->path->seg[w->seg].close_wanted))
		return false;
	for (unsigned i = 0; i < sw->nwbufs; i++)
		if (sw->wbufs[i]->writing != 0)
			return false;
	return true;
}

/* False: not yet. */
static bool rescue(struct wbuf *w, const struct format_entry *e)
{
	struct store_worker *sw = w->owner;
	struct store *s = sw->s;
	const uint8_t *mem = w->mem + (e->units_at * FORMAT_UNIT - w->ext_off);
	uint64_t loc = loc_of(w->path, w->seg, e->units_at), copy;
	pthread_mutex_t *lock = key_lock(s, e->hash);
	uint8_t head[RECORD_HEAD_MAX] __attribute__((aligned(8)));
	struct format_record rec;
	struct index_ref ref;
	struct wbuf *to;
	uint32_t n, units = 0;
	bool there, waits = false;

	pthread_mutex_lock(lock);
	there = index_get(s->index, e->hash, loc, &ref);
	pthread_mutex_unlock(lock);
	if (!there)
		return true;
	memcpy(&rec, mem, sizeof rec);
	n = record_head_len(rec.key_len, rec.value_len);
	memcpy(head, mem, n);
	sw->rescuing = true;
	to = wbuf_reserve(sw, NULL, w->stream, rec.value_off + rec.value_len);
	sw->rescuing = false;
	if (to == NULL && !impatient(w))
		return false;
	pthread_mutex_lock(lock);
	if (atomic_load(&s->flushing)) { /* [DEL-3] */
		waits = true;
	} else if (index_get(s->index, e->hash, loc, &ref)) {
		if (to != NULL) {
			tell_gone(s, STORE_GONE_MOVED, e->hash, loc);
			copy = wbuf_append(to, head, n, mem + rec.value_off, e->hash, true, &units);
			AN(index_relocate(s->index, e->hash, loc, copy, units, ref.clock));
			wbuf_published(to);
			ram_relocate(s->ram, e->hash, loc, copy);
			w->rescued++;
		} else {
			index_remove(s->index, e->hash, loc);
			tell_gone(s, STORE_GONE_UNWRITTEN, e->hash, loc);
			ram_relocate(s->ram, e->hash, loc, 0);
			w->lost_values++;
		}
	}
	pthread_mutex_unlock(lock);
	if (to != NULL && to->fill + units * FORMAT_UNIT > to->ext_len)
		wbuf_flush(to);
	return !waits;
}

static void say(const struct wbuf *w)
{
	if (w->rescued > 0) {
		COUNT_N(w->owner, values_rescued, w->rescued);
		log_warn(
		    "store: %s: %u values that had been answered STORED were written again on other "
		    "paths",
		    w->path->file->info.path, w->rescued);
	}
	if (w->lost_values > 0) {
		COUNT_N(w->owner, values_lost, w->lost_values);
		log_error(
		    "store: %s: %u values that had been answered STORED could not be written and are "
		    "gone",
		    w->path->file->info.path, w->lost_values);
	}
}

void wbuf_lost_turn(struct wbuf *w, uint64_t *deadline)
{
	uint32_t kept = 0;

	while (w->lost_at < w->nentries) {
		const struct format_entry *e = &w->entries[w->lost_at];
		uint64_t due;

		if (e->type == FORMAT_VALUE && unwritten(w, e) && !rescue(w, e)) {
			due = io_now(w->owner->io) + AGAIN_NS;
			*deadline = due < *deadline ? due : *deadline;
			return;
		}
		w->lost_at++;
	}
	if (w->nentries > 0)
		say(w);
	for (uint32_t i = 0; i < w->nentries; i++)
		if (!unwritten(w, &w->entries[i]))
			w->entries[kept++] = w->entries[i];
	w->nentries = w->lost_at = kept;
	w->rescued = w->lost_values = 0;
	/* what ends records stays, to be replayed after a kill, until it is moot [PS-3] */
	if (w->held && !w->owner->stopping && path_end(w->path) == END_WAIT)
		return;
	w->held = w->lost = false;
	wbuf_lost_free(w);
}
