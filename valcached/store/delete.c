/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deletes and flush_all: find, then under the key's lock append a tombstone, unindex, forget.
 * Worker's own thread.
 *
 *  [DEL-1] The tombstone goes to the path of the value and names its place [F-6]; it is committed
 *          before the slot is removed: a kill between the two leaves the
 *          key deleted or untouched, and the answer is not out yet.
 *  [DEL-2] What was taken out of the index without having been deleted (it could not be read, or the index had
 *          no place for it) is ended by a DROP record of the slow worker. Who finds nothing of a key to delete
 *          waits until all that are owed are appended: "not found" holds over a restart, too.
 *          One that lies on a path which takes no writes is ended by the delete epoch [PS-2].
 *  [DEL-3] While a flush_all ends everything nothing is published: each publisher looks at `flushing` under
 *          its key's lock, and waits. So what has a higher seq than the FLUSH record is indexed after
 *          it, and what has a lower one before.
 */
#include <string.h>

#include "valcached/store/store_int.h"

static bool finish(struct store_op *op, enum store_status st)
{
	run_drop(op);
	return op_finish(op, st, -1);
}

static void tombstone(struct store_op *op, struct wbuf *w, uint64_t place, uint64_t generation)
{
	uint8_t head[sizeof(struct format_record) + STORE_KEY_MAX + 8] = {0};
	struct format_record *rec = (struct format_record *)(void *)head;
	uint32_t units;

	rec->type = FORMAT_TOMBSTONE;
	rec->key_len = op->key_len;
	rec->value_off = record_value_off(op->key_len, 0);
	rec->content[0] = place;
	rec->content[1] = generation;
	memcpy(rec + 1, op->key, op->key_len);
	wbuf_append(w, head, record_head_len(op->key_len, 0), NULL, op->hash, false, &units);
	COUNT(op->sw, tombstones);
}

/* The RAM tier has the key and names the one candidate: no disk read is needed to be sure of it. */
static bool known_from_ram(struct store_op *op)
{
	struct store *s = op->sw->s;
	struct store_io *run = run_get(op);
	struct buf *b;
	uint64_t loc;
	bool touched;

	if (run->probed)
		return false; /* a read for it is under way already */
	b = ram_lookup(s->ram, op->hash, op->key, op->key_len, &touched);
	if (b == NULL)
		return false;
	loc = atomic_load_explicit(&b->loc, memory_order_relaxed);
	buf_put(s->ram, b);
	index_find(s->index, op->hash, &run->probe);
	if (run->probe.n != 1 || run->probe.ref[0].loc != loc)
		return false;
	run->probed = true;
	run->at = 1;
	run->matches = 1;
	return true;
}

/* Are DROP records owed from before this delete? */
static bool owed(struct store_io *run)
{
	struct store *s = run->sw->s;

	/* the slow worker may be between its look and its count: the next time is not enough */
	if (run->ticket == 0 && atomic_load(&s->live->owed) > 0)
		run->ticket = atomic_load(&s->drops_paid) + 2;
	if (run->ticket <= atomic_load(&s->drops_paid))
		return false;
	atomic_store(&s->drops_wanted, true);
	slow_call(s);
	return true;
}

bool delete_step(struct store_op *op)
{
	struct store_worker *sw = op->sw;
	struct store *s = sw->s;
	pthread_mutex_t *lock = key_lock(s, op->hash);
	struct {
		struct wbuf *w;
		struct path *path;
		uint64_t loc, generation;
	} end[INDEX_CANDIDATES];
	unsigned n;
	struct store_io *run;
	bool in_ram, was_there;

again:
	if (!known_from_ram(op) && op_find(op, false) == FIND_PENDING)
		return false;
	run = op->run;
	if (unlikely(run->matches == 0 && owed(run))) {
		bool load = loading(s); /* which counts as owed [RC-10] */

		if (load && !any_path_online(s))
			return finish(op, STORE_UNAVAILABLE);
		find_restart(op);
		op_wait(op, load ? WAIT_LOAD : WAIT_WRITE);
		return false;
	}
	n = 0;
	for (unsigned i = 0; i < run->probe.n; i++) {
		uint32_t seg, at;
		struct path *p;

		if (((run->matches | run->gone) & (1u << i)) == 0)
			continue;
		p = loc_path(s, run->probe.ref[i].loc, &seg, &at);
		if (p == NULL)
			continue;
		switch (path_end(p)) {
		case END_WRITE:
			break;
		case END_MOOT:
			continue;
		case END_REFUSED:
			return finish(op, STORE_UNAVAILABLE);
		case END_WAIT:
			find_restart(op);
			op_wait(op, WAIT_WRITE);
			return false;
		}
		end[n].path = p;
		end[n].loc = run->probe.ref[i].loc;
		end[n].generation =
		    atomic_load_explicit(&p->seg[seg].generation, memory_order_acquire);
		/* room for one more than there are so far, as they may share a buffer */
		end[n].w = wbuf_reserve(sw, p, STREAM_MAIN, TOMBSTONE_MAX * (n + 1));
		if (end[n++].w == NULL) {
			find_restart(op);
			op_wait(op, WAIT_WRITE);
			return false;
		}
	}
	pthread_mutex_lock(lock);
	if (!index_unchanged(s->index, op->hash, &run->probe)) {
		pthread_mutex_unlock(lock);
		find_restart(op);
		goto again;
	}
	/* a later reserve on a path may have closed the buffer of an earlier one */
	for (unsigned i = 0; i < n; i++)
		for (unsigned k = i + 1; k < n; k++)
			if (end[k].path == end[i].path)
				end[i].w = end[k].w;
	load_hide(s, op->hash);
	for (unsigned i = 0; i < n; i++)
		tombstone(op, end[i].w, place_on(end[i].path, end[i].loc), end[i].generation);
	for (unsigned i = 0; i < run->probe.n; i++)
		if ((run->matches | run->gone) & (1u << i))
			index_remove(s->index, op->hash, run->probe.ref[i].loc);
	for (unsigned i = 0; i < n; i++)
		wbuf_published(end[i].w);
	in_ram = ram_remove(s->ram, op->hash, op->key, op->key_len);
	pthread_mutex_unlock(lock);
	was_there = run->matches != 0 || in_ram;
	if (was_there)
		COUNT(sw, deletes);
	else
		COUNT(sw, delete_misses);
	return finish(op, was_there ? STORE_OK : STORE_MISS);
}

bool store_delete(struct store_op *op)
{
	A(op->kind == OP_NONE);
	op->kind = OP_DELETE;
	run_get(op)->ticket = 0;
	return delete_step(op);
}

/*
 * A FLUSH record on every path ends everything with a lower seq; then index and RAM tier are emptied.
 */
bool flush_step(struct store_op *op)
{
	struct store_worker *sw = op->sw;
	struct store *s = sw->s;
	struct wbuf *on[STORE_PATHS_MAX] = {0};
	bool idle = false;
	uint64_t ends;
	uint32_t units;

	if (!any_path_online(s))
		return finish(op, STORE_UNAVAILABLE);
	for (unsigned i = 0; i < s->npaths; i++) {
		enum path_end end = path_end(&s->path[i]);

		if (end == END_WAIT || end == END_REFUSED) {
			op_wait(op, WAIT_WRITE);
			return false;
		}
		if (end == END_MOOT)
			continue;
		on[i] = wbuf_reserve(sw, &s->path[i], STREAM_MAIN, TOMBSTONE_MAX);
		if (on[i] == NULL) {
			op_wait(op, WAIT_WRITE);
			return false;
		}
	}
	if (!atomic_compare_exchange_strong(&s->flushing, &idle, true)) {
		op_wait(op, WAIT_WRITE);
		return false;
	}
	for (unsigned i = 0; i < STRIPES; i++) {
		/* whoever was publishing is done, whoever comes sees the flag */
		pthread_mutex_lock(&s->stripe[i].m);
		pthread_mutex_unlock(&s->stripe[i].m);
	}
	ends = atomic_load(&s->live->generation) - 1;
	for (unsigned i = 0; i < s->npaths; i++) {
		struct format_record rec = {
		    .type = FORMAT_FLUSH, .value_off = sizeof rec, .content = {0, ends}};

		if (on[i] == NULL)
			continue;
		wbuf_append(on[i], (uint8_t *)&rec, sizeof rec, NULL, 0, false, &units);
		atomic_store(&s->flush_seq, rec.seq);
	}
	index_clear(s->index);
	for (unsigned i = 0; i < s->npaths; i++)
		if (on[i] != NULL)
			wbuf_published(on[i]);
	ram_clear(s->ram);
	atomic_store(&s->flushing, false);
	return finish(op, STORE_OK);
}

bool store_flush_all(struct store_op *op)
{
	A(op->kind == OP_NONE);
	op->kind = OP_FLUSH;
	return flush_step(op);
}
