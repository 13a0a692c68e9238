/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values above STORE_WHOLE_MAX: received and sent in chunks of 256 KiB, so that memory is bounded by
 * two chunks an op. Such a record has an extent of its own; its chunks are written as they come,
 * the page with block and record header last, so that a half-written one was never there.
 * Worker's own thread.
 *
 *  get:  every chunk is verified before it is handed out; one is read ahead.
 *  set:  FIND -> EXTENT -> CHUNK -> (filled) -> WRITE -> CHUNK ... -> HEAD -> CHECK -> done
 *        A key that is there is not written again: its body is hashed and compared.
 *
 *  [L-1] A set holds its segment open, which the recycler must not wait for for ever: it may abort a set
 *        between two chunks (s->large[]: RECEIVING -> ABORTED).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/sum.h"
#include "valcached/store/store_int.h"

#define CHUNKS_MAX (STORE_VALUE_MAX / FORMAT_CHUNK)
#define ROUND(n)   (((n) + FORMAT_ALIGN - 1) & ~(FORMAT_ALIGN - 1))

enum { LARGE_FREE, LARGE_RECEIVING, LARGE_WRITING, LARGE_ABORTED };
enum { AHEAD_NONE, AHEAD_READING, AHEAD_READY, AHEAD_FAILED };
enum { SET_FIND, SET_EXTENT, SET_CHUNK, SET_FILLED, SET_WRITING, SET_HEAD_WRITING, SET_CHECK };

struct long_value {
	struct store_worker *sw;
	/* get */
	uint64_t loc, generation;
	struct path *path;
	uint32_t seg;
	bool want;  /* the caller waits for the next chunk */
	bool late;  /* a chunk's read has taken too long */
	bool ended; /* the caller has ended the op while I/O was in flight */
	uint8_t ahead;
	struct buf *buf; /* get: the chunk read ahead; set: the one being filled or written */
	uint32_t charge, off, n; /* of buf: place in the value, bytes */
	uint32_t next;           /* next byte of the value to read, or to receive */
	struct format_record rec;
	/* set */
	uint8_t step;
	bool exists;
	uint32_t ext_off, ext_len, slot;
	bool headed; /* its head may be on disk */
	bool has_extent;
	int err;
	struct sum_state *hash;
	struct format_record have;
	uint64_t sums[CHUNKS_MAX];
};

static struct long_value *lv_new(struct store_op *op)
{
	struct long_value *lv = calloc(1, sizeof *lv);

	if (lv == NULL)
		return NULL;
	lv->sw = op->sw;
	lv->slot = LARGE_SETS_MAX;
	op->run->lv = lv;
	return lv;
}

static void give_extent(struct store_io *run, bool whole, const struct format_entry *entry)
{
	struct long_value *lv = run->lv;
	struct store *s = lv->sw->s;

	if (!lv->has_extent)
		return;
	lv->has_extent = false;
	if (lv->slot < LARGE_SETS_MAX) {
		uint32_t was = atomic_exchange(&s->large[lv->slot].state, LARGE_FREE);

		lv->slot = LARGE_SETS_MAX;
		lv->sw->long_sets--;
		lv->sw->retry = lv->sw->retry || lv->sw->wait[WAIT_PLACE].head != NULL;
		if (was == LARGE_ABORTED)
			return; /* the recycler has given it back */
	}
	segment_finish(lv->path, lv->seg, lv->ext_off, lv->ext_len, whole ? lv->ext_len : 0, 1,
		       entry, entry != NULL ? 1 : 0);
}

static void lv_free(struct store_io *run)
{
	struct long_value *lv = run->lv;
	bool headed = lv->headed && lv->has_extent;

	if (headed) { /* [L-3] */
		struct index_ref own = {.loc = loc_of(lv->path, lv->seg, lv->rec.units_at)};

		drop_other(lv->sw->s, &own);
	}
	give_extent(run, headed, NULL);
	if (lv->buf != NULL)
		buf_give(lv->sw, lv->buf, lv->charge);
	if (lv->hash != NULL)
		sum_free(lv->hash);
	free(lv);
	run->lv = NULL;
}

uint32_t long_held(const struct long_value *lv)
{
	return lv->buf != NULL ? lv->charge & ~CHARGE_READ : 0;
}

/* From run_drop(): no I/O is in flight. */
void long_drop(struct store_op *op)
{
	lv_free(op->run);
}

/* The caller ends an op whose I/O is in flight: the run lives on until that is done. */
bool long_orphan(struct store_op *op)
{
	struct store_io *run = op->run;

	if (run == NULL || run->lv == NULL || io_op_idle(&run->io))
		return false;
	run->lv->ended = true;
	run->op = NULL;
	op->run = NULL;
	return true;
}

static bool orphan_done(struct store_io *run)
{
	struct store_worker *sw = run->lv->sw;

	if (!run->lv->ended)
		return false;
	lv_free(run);
	if (run->found_buf != NULL)
		buf_give(sw, run->found_buf, run->found_charge);
	run->free_next = sw->io_free;
	sw->io_free = run;
	return true;
}

/* ---- get --------------------------------------------------------------------------------------- */

static void ahead_done(struct io_op *io)
{
	struct store_io *run = container_of(io, struct store_io, io);
	struct long_value *lv = run->lv;
	struct store_worker *sw = lv->sw;
	struct segment *g = run->pinned;
	bool good;

	(void)watch_end(sw, &run->watch);
	run->pinned = NULL;
	sw->in_flight--;
	good = io->res >= 0 && (uint32_t)io->res >= lv->n &&
	       atomic_load(&g->generation) == lv->generation;
	if (good) {
		uint64_t sum = sum64(lv->buf->mem, lv->n);

		good = sum == lv->sums[lv->off / FORMAT_CHUNK];
		if (!good) {
			COUNT(sw, corrupt_reads);
			segment_quarantine(sw->s, lv->path, lv->seg, "a chunk has a bad checksum");
		}
	} else if (io->res < 0 && io->res != -ECANCELED) {
		COUNT(sw, read_errors);
		atomic_fetch_add(&lv->path->read_errors, 1);
		segment_quarantine(sw->s, lv->path, lv->seg, strerror(-io->res));
	}
	segment_unpin(sw->s, g);
	lv->ahead = good ? AHEAD_READY : AHEAD_FAILED;
	lv->late = false;
	if (!orphan_done(run))
		op_step(run->op);
}

static bool broken(struct store_op *op);

static void ahead_expired(struct watch *w)
{
	struct store_io *run = container_of(w, struct store_io, watch);
	struct long_value *lv = run->lv;

	lv->late = true;
	buf_uncharge(lv->sw, &lv->charge);
	watch_late(lv->sw, w, "a read for a get", false);
	if (run->op != NULL && lv->want && broken(run->op))
		run->op->done(run->op);
}

/* False: no memory. must: see buf_take(); else it is a favour to the next call. */
static bool read_ahead(struct store_op *op, bool must)
{
	struct store_io *run = op->run;
	struct long_value *lv = run->lv;
	uint32_t left = lv->rec.value_len - lv->next;
	enum wait_for line;
	uint64_t at;

	lv->n = left < FORMAT_CHUNK ? left : FORMAT_CHUNK;
	lv->buf = buf_take_read(op->sw, FORMAT_CHUNK, must, &lv->charge, &line);
	if (lv->buf == NULL)
		return false;
	lv->off = lv->next;
	lv->next += lv->n;
	lv->ahead = AHEAD_READING;
	atomic_fetch_add(&lv->path->seg[lv->seg].pins, 1);
	run->pinned = &lv->path->seg[lv->seg];
	if (atomic_load(&run->pinned->generation) != lv->generation ||
	    atomic_load_explicit(&lv->path->gone, memory_order_relaxed)) {
		segment_unpin(op->sw->s, run->pinned);
		run->pinned = NULL;
		lv->ahead = AHEAD_FAILED;
		return true;
	}
	at = seg_offset(lv->path, lv->seg) + (uint64_t)lv->rec.units_at * FORMAT_UNIT +
	     lv->rec.value_off + lv->off;
	op->sw->in_flight++;
	COUNT(op->sw, disk_reads);
	io_read(op->sw->io, &run->io, lv->path->file, lv->buf->mem, ROUND(lv->n), at, ahead_done);
	watch_begin(op->sw, &run->watch, lv->path, &run->io, ahead_expired);
	return true;
}

/* The first chunk and the head have been read and verified by op_find(). */
bool long_get_begin(struct store_op *op)
{
	struct store_io *run = op->run;
	struct long_value *lv = lv_new(op);
	uint32_t at;

	COUNT(op->sw, get_hits_disk);
	if (lv == NULL) {
		run_drop(op);
		return op_finish(op, STORE_MISS, -1);
	}
	lv->rec = run->rec;
	lv->loc = run->found_loc;
	lv->path = loc_path(op->sw->s, lv->loc, &lv->seg, &at);
	lv->generation = run->rec.generation;
	op->buf = run->found_buf;
	op->charge = run->found_charge;
	run->found_buf = NULL;
	memcpy(lv->sums, op->buf->mem + op->buf->rec_off + record_sums_off(lv->rec.key_len),
	       8ul * record_chunks(lv->rec.value_len));
	op->value = op->buf->mem + op->buf->rec_off + lv->rec.value_off;
	op->value_n = FORMAT_CHUNK;
	op->value_off = 0;
	lv->next = FORMAT_CHUNK;
	(void)read_ahead(op, false);
	return op_finish(op, STORE_OK, STORE_LAT_GET_DISK);
}

static bool broken(struct store_op *op)
{
	static struct log_limit limit;

	COUNT(op->sw, broken_values);
	log_limited(
	    &limit, LOG_WARN,
	    "store: the rest of the long value of key %.*s is gone or unreadable; its connection is closed",
	    (int)op->key_len, op->key);
	op->run->lv->want = false;
	op->value_n = 0;
	op->status = STORE_BROKEN;
	return true;
}

bool long_get_step(struct store_op *op)
{
	struct long_value *lv;

	A(op->run != NULL && op->run->lv != NULL);
	lv = op->run->lv;
	if (!lv->want)
		return false;
	switch (lv->ahead) {
	case AHEAD_NONE:
		if (!read_ahead(op, true)) {
			op_wait(op, WAIT_MEMORY);
			return false;
		}
		return lv->ahead == AHEAD_FAILED ? broken(op) : false;
	case AHEAD_READING:
		return lv->late ? broken(op) : false;
	case AHEAD_FAILED:
		return broken(op);
	default:
		op->buf = lv->buf;
		op->charge = lv->charge;
		lv->buf = NULL;
		op->value = op->buf->mem;
		op->value_off = lv->off;
		op->value_n = lv->n;
		op->status = STORE_OK;
		lv->want = false;
		lv->ahead = AHEAD_NONE;
		if (lv->next < lv->rec.value_len)
			(void)read_ahead(op, false);
		return true;
	}
}

bool store_get_next(struct store_op *op)
{
	A(op->kind == OP_GET);
	A(op->run != NULL && op->run->lv != NULL);
	if (op->buf != NULL)
		buf_give(op->sw, op->buf, op->charge);
	op->buf = NULL;
	op->run->lv->want = true;
	return long_get_step(op);
}

/* ---- set --------------------------------------------------------------------------------------- */

static void write_done(struct io_op *io)
{
	struct store_io *run = container_of(io, struct store_io, io);
	struct long_value *lv = run->lv;

	(void)watch_end(lv->sw, &run->watch);
	lv->sw->in_flight--;
	if (io->res < 0) {
		COUNT(lv->sw, write_errors);
		atomic_fetch_add(&lv->path->write_errors, 1);
		lv->err = io->res;
	} else {
		path_dirtied(lv->path, (uint64_t)io->res);
	}
	atomic_store(&lv->sw->s->large[lv->slot].state, LARGE_RECEIVING);
	if (!orphan_done(run))
		op_step(run->op);
}

/* Refused; the extent is given back when the write is over. */
static void write_expired(struct watch *w)
{
	struct store_io *run = container_of(w, struct store_io, watch);
	struct store_op *op = run->op;

	buf_uncharge(run->sw, &run->lv->charge);
	watch_late(run->sw, w, "a write of a long value", true);
	if (op == NULL)
		return; /* its caller has left before */
	A(long_orphan(op));
	if (set_finish(op, STORE_UNAVAILABLE))
		op->done(op);
}

static bool write_at(struct store_op *op, uint32_t ext_at, uint32_t len)
{
	struct long_value *lv = op->run->lv;
	uint32_t want = LARGE_RECEIVING;

	if (!atomic_compare_exchange_strong(&op->sw->s->large[lv->slot].state, &want,
					    LARGE_WRITING))
		return false; /* [L-1] */
	op->sw->in_flight++;
	COUNT_N(op->sw, disk_write_bytes, len);
	if (op->sw->s->cfg.write_budget != 0)
		atomic_fetch_sub(&op->sw->s->tokens, len);
	io_write(op->sw->io, &op->run->io, lv->path->file, lv->buf->mem, len,
		 seg_offset(lv->path, lv->seg) + lv->ext_off + ext_at, write_done);
	watch_begin(op->sw, &op->run->watch, lv->path, &op->run->io, write_expired);
	return true;
}

static bool take_extent(struct store_op *op, enum wait_for *line)
{
	struct long_value *lv = op->run->lv;
	struct store_worker *sw = op->sw;
	struct store *s = sw->s;
	uint32_t bytes = ROUND(FORMAT_ALIGN + op->value_len);

	for (uint32_t i = 0; i < LARGE_SETS_MAX && lv->slot == LARGE_SETS_MAX; i++) {
		uint32_t want = LARGE_FREE;

		if (atomic_compare_exchange_strong(&s->large[i].state, &want, LARGE_WRITING))
			lv->slot = i;
	}
	if (lv->slot == LARGE_SETS_MAX) {
		sw->retry_at = io_now(sw->io) + 10 * NS_PER_MS;
		atomic_store_explicit(&s->place_wanted_ns, io_now(sw->io), memory_order_relaxed);
		*line = WAIT_PLACE;
		return false;
	}
	*line = WAIT_WRITE;
	atomic_store(&sw->extent_wanted, true);
	for (unsigned i = 0; i < s->npaths; i++) {
		struct path *p = &s->path[(sw->value_path + i) % s->npaths];

		if (atomic_load(&p->offline) ||
		    segment_extent(p, STREAM_MAIN, false, bytes, bytes, 1, &lv->seg,
				   &lv->generation, &lv->ext_off, &lv->ext_len) < 0)
			continue;
		atomic_store(&sw->extent_wanted, false);
		sw->value_path = (p->index + 1) % s->npaths;
		lv->path = p;
		lv->has_extent = true;
		s->large[lv->slot].path = p->index;
		s->large[lv->slot].seg = lv->seg;
		s->large[lv->slot].ext_off = lv->ext_off;
		s->large[lv->slot].ext_len = lv->ext_len;
		atomic_store(&s->large[lv->slot].state, LARGE_RECEIVING);
		sw->long_sets++;
		return true;
	}
	atomic_store(&s->large[lv->slot].state, LARGE_FREE);
	lv->slot = LARGE_SETS_MAX;
	return false;
}

/* Slow worker: long sets that keep this segment open are given up, unless a write is in flight. */
void long_sets_abort(struct store *s, struct path *p, uint32_t seg)
{
	for (unsigned i = 0; i < LARGE_SETS_MAX; i++) {
		struct large_set *l = &s->large[i];
		uint32_t want = LARGE_RECEIVING;

		if (atomic_load(&l->state) != LARGE_RECEIVING || l->path != p->index ||
		    l->seg != seg)
			continue;
		if (atomic_compare_exchange_strong(&l->state, &want, LARGE_ABORTED))
			segment_finish(p, seg, l->ext_off, l->ext_len, 0, 1, NULL, 0);
	}
}

/*
 * The page in front of the value: block header, record header, key, sums. [L-2] A head that may be written
 * gets its seq under the key's lock, while the key is not there.
 */
static void fill_head(struct store_op *op)
{
	struct long_value *lv = op->run->lv;
	struct store *s = op->sw->s;
	uint8_t *page = lv->buf->mem;
	struct format_block *b = (struct format_block *)(void *)page;
	struct format_record *rec = (struct format_record *)(void *)(page + FORMAT_BLOCK);

	memset(page, 0, FORMAT_ALIGN);
	rec->magic = FORMAT_RECORD_MAGIC;
	rec->type = FORMAT_VALUE;
	rec->key_len = op->key_len;
	rec->flags = op->flags;
	rec->value_len = op->value_len;
	rec->value_off = RECORD_HEAD_MAX;
	sum_digest(lv->hash, rec->content);
	rec->generation = lv->generation;
	rec->units_at = (lv->ext_off + FORMAT_BLOCK) / FORMAT_UNIT;
	memcpy(rec + 1, op->key, op->key_len);
	memcpy((uint8_t *)rec + record_sums_off(op->key_len), lv->sums,
	       8ul * record_chunks(op->value_len));
	rec->seq = atomic_fetch_add(&s->live->seq, 1);
	record_seal((uint8_t *)rec, s->id_seed);
	lv->rec = *rec;
	b->magic = FORMAT_BLOCK_MAGIC;
	b->bytes = lv->ext_len;
	b->generation = lv->generation;
	b->offset = lv->ext_off;
	b->used = FORMAT_ALIGN + op->value_len;
	b->records = 1;
	block_seal(b, s->id_seed);
}

static bool next_chunk(struct store_op *op)
{
	struct long_value *lv = op->run->lv;
	uint32_t left = op->value_len - lv->next;

	op->body = lv->buf->mem;
	op->body_n = left < FORMAT_CHUNK ? left : FORMAT_CHUNK;
	lv->step = SET_FILLED;
	return true;
}

/*
 * Has the key a value that is in RAM and nowhere else? One that was not admitted, or whose record was evicted: what
 * find tells nothing of, and what gets give out [L-4]. A value this long is another. have, if not NULL, is its head.
 */
static bool in_ram_alone(const struct store_op *op, struct format_record *have)
{
	struct ram *ram = op->sw->s->ram;
	bool touched, alone;
	struct buf *b = ram_lookup(ram, op->hash, op->key, op->key_len, &touched);

	if (b == NULL)
		return false;
	alone = atomic_load_explicit(&b->loc, memory_order_relaxed) == 0;
	if (have != NULL)
		*have = *(const struct format_record *)(const void *)(b->mem + b->rec_off);
	buf_put(ram, b);
	return alone;
}

/* The key has a value already. What has been written of this one ends here. */
static bool give_way(struct store_op *op, const struct format_record *have, bool equal)
{
	struct store_io *run = op->run;
	struct long_value *lv = run->lv;

	if (lv->headed) {
		struct index_ref own = {.loc = loc_of(lv->path, lv->seg, lv->rec.units_at)};
		struct format_entry entry = entry_make(&op->run->lv->rec, op->hash);

		drop_other(op->sw->s, &own);
		give_extent(run, true, &entry);
	}
	return set_verdict(op, have, equal);
}

/* Fills the head, if the key is still absent [L-2]. */
static bool number(struct store_op *op)
{
	struct store *s = op->sw->s;
	pthread_mutex_t *lock = key_lock(s, op->hash);
	bool absent;

	pthread_mutex_lock(lock);
	absent = !atomic_load(&s->flushing) &&
		 index_unchanged(s->index, op->hash, &op->run->probe) && !in_ram_alone(op, NULL);
	if (absent)
		fill_head(op);
	pthread_mutex_unlock(lock);
	if (!absent)
		find_restart(op);
	return absent;
}

/* The record is on disk: publish it, or end it if somebody else has published the key meanwhile. */
static bool publish(struct store_op *op)
{
	struct store_io *run = op->run;
	struct long_value *lv = run->lv;
	struct store *s = op->sw->s;
	pthread_mutex_t *lock = key_lock(s, op->hash);
	uint64_t loc = loc_of(lv->path, lv->seg, lv->rec.units_at);
	struct format_entry entry = entry_make(&op->run->lv->rec, op->hash);
	struct index_ref victim = {0}, own = {.loc = loc};
	uint32_t receiving = LARGE_RECEIVING;

	if (run->found) {
		bool eq = same_value(&run->rec, &lv->rec);

		if (!load_vouch(s, op->hash, run->found_loc)) {
			find_restart(op);
			lv->step = SET_CHECK;
			return false;
		}
		return give_way(op, &run->rec, eq);
	}
	pthread_mutex_lock(lock);
	if (atomic_load(&s->flushing) || !index_unchanged(s->index, op->hash, &run->probe) ||
	    in_ram_alone(op, NULL)) {
		pthread_mutex_unlock(lock);
		find_restart(op);
		lv->step = SET_CHECK;
		return false;
	}
	if (lv->rec.seq < atomic_load(&s->flush_seq)) {
		/* set before the flush, and ended by it [DEL-3] */
		pthread_mutex_unlock(lock);
		give_extent(run, true, &entry);
		COUNT(op->sw, sets_stored);
		return set_finish(op, STORE_OK);
	}
	if (!atomic_compare_exchange_strong(&s->large[lv->slot].state, &receiving, LARGE_WRITING)) {
		/* given up by the recycler [L-1]: the segment's table will not have it */
		pthread_mutex_unlock(lock);
		drop_other(s, &own);
		return set_finish(op, STORE_UNAVAILABLE);
	}
	if (unlikely(run->gone != 0))
		path_forget_gone(op);
	(void)slot_add(s, op->hash, loc, entry.units, 0, &victim);
	pthread_mutex_unlock(lock);
	if (victim.loc != 0)
		drop_later(s, &victim);
	give_extent(run, true, &entry);
	/*
	 * A path that has failed meanwhile may come back empty [PS-2], so nobody is told to rely on it. But
	 * the record is there, and a start would find it: only what is in the index can be deleted.
	 */
	if (atomic_load(&lv->path->offline))
		return set_finish(op, STORE_UNAVAILABLE);
	COUNT(op->sw, sets_stored);
	COUNT_N(op->sw, user_bytes, (uint64_t)entry.units * FORMAT_UNIT);
	return set_finish(op, STORE_OK);
}

bool long_set_step(struct store_op *op)
{
	struct store_io *run = run_get(op);
	struct long_value *lv = run->lv != NULL ? run->lv : lv_new(op);
	struct store *s = op->sw->s;
	enum wait_for line;

	if (lv == NULL || (lv->hash == NULL && (lv->hash = sum_new()) == NULL))
		return set_finish(op, STORE_UNAVAILABLE);
	for (;;) {
		switch (lv->step) {
		case SET_FIND:
			if (op_find(op, false) == FIND_PENDING)
				return false;
			if (run->found && !load_vouch(s, op->hash, run->found_loc)) {
				find_restart(op);
				break;
			}
			lv->exists = run->found || in_ram_alone(op, &lv->have);
			if (run->found)
				lv->have = run->rec;
			if (!lv->exists && op->mode == STORE_COMPARE)
				return set_finish(op, STORE_MISS);
			/* who waits for a chunk holds no memory that those before it may wait for */
			find_restart(op);
			sum_reset(lv->hash);
			lv->step = SET_EXTENT;
			break;
		case SET_EXTENT:
			if (!lv->exists && !take_extent(op, &line)) {
				if (!any_path_online(s))
					return set_finish(op, STORE_UNAVAILABLE);
				op_wait(op, line);
				return false;
			}
			lv->step = SET_CHUNK;
			break;
		case SET_CHUNK:
			lv->buf = buf_take(op->sw, FORMAT_CHUNK, false, &lv->charge);
			if (lv->buf == NULL) {
				op_wait(op, WAIT_MEMORY);
				return false;
			}
			return next_chunk(op);
		case SET_FILLED: {
			uint32_t n = op->body_n, at = lv->next;

			lv->sums[at / FORMAT_CHUNK] = sum64(lv->buf->mem, n);
			sum_add(lv->hash, lv->buf->mem, n);
			lv->next += n;
			if (lv->exists) {
				if (lv->next < op->value_len)
					return next_chunk(op);
				fill_head(op);
				op->cas = cas_of(lv->rec.content);
				return set_verdict(op, &lv->have, same_value(&lv->have, &lv->rec));
			}
			op->body_n = 0;
			memset(lv->buf->mem + n, 0, ROUND(n) - n);
			lv->step = SET_WRITING;
			if (!write_at(op, FORMAT_ALIGN + at, ROUND(n)))
				return set_finish(op, STORE_UNAVAILABLE);
			return false;
		}
		case SET_WRITING:
			if (lv->err < 0)
				return set_finish(op, STORE_UNAVAILABLE);
			if (lv->next < op->value_len)
				return next_chunk(op);
			fill_head(op);
			op->cas = cas_of(lv->rec.content);
			lv->step = SET_CHECK;
			find_restart(op);
			break;
		case SET_CHECK:
			if (op_find(op, false) == FIND_PENDING)
				return false;
			if (atomic_load(&s->flushing)) {
				find_restart(op);
				op_wait(op, WAIT_WRITE);
				return false;
			}
			if (unlikely(run->gone != 0)) {
				enum path_end end = path_end_gone(op);

				if (end == END_REFUSED)
					return set_finish(op, STORE_UNAVAILABLE);
				if (end == END_WAIT) {
					op_wait(op, WAIT_WRITE);
					return false;
				}
				if (end == END_WRITE) {
					find_restart(op);
					break;
				}
			}
			if (!run->found && in_ram_alone(op, &lv->have))
				return give_way(op, &lv->have, false);
			if (run->found && !lv->headed) {
				if (load_vouch(s, op->hash, run->found_loc))
					return set_verdict(op, &run->rec,
							   same_value(&run->rec, &lv->rec));
				find_restart(op);
				break;
			}
			if (!run->found) {
				if (!number(op))
					break;
				lv->step = SET_HEAD_WRITING;
				lv->headed = true;
				if (!write_at(op, 0, FORMAT_ALIGN))
					return set_finish(op, STORE_UNAVAILABLE);
				return false;
			}
			if (publish(op))
				return true;
			break;
		case SET_HEAD_WRITING:
			if (lv->err < 0)
				return set_finish(op, STORE_UNAVAILABLE);
			if (publish(op))
				return true;
			break;
		default:
			A(false);
		}
	}
}
