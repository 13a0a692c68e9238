/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What gets, sets and deletes share: memory within the worker's share, the queues of those that wait,
 * and finding a key's record. Worker's own thread.
 *
 * An op is a step function and a step number. A step runs until it is done (true) or something has
 * been submitted or queued whose completion runs it again (false).
 *
 *  [OP-1] A disk read pins its segment from before the submit, in the same loop turn as the index was
 *         read, until its completion; so the recycler's grace and pins cover it. Waiting for memory
 *         holds no pin: the index is read anew afterwards.
 *  [OP-2] A slot is a hint: only a record whose header, place and key are right counts. Of several, the
 *         highest seq. (More than one can only be there after a recovery.)
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/copy.h"
#include "base/log.h"
#include "base/xxh.h"
#include "valcached/store/store_int.h"

/* ---- memory ------------------------------------------------------------------------------------ */

/*
 * The worker's budget is what bounds memory in flight. Within it an op is never refused because the
 * arena happens to be pinned in the wrong places: that memory comes from outside. Who is refused waits
 * in line, and nobody new overtakes: so the first in line gets what it needs as others give back.
 *
 * must: others may be waiting behind this op (its connection's later answers hold memory, or it holds a
 * buffer itself), so it must not wait for them: it goes above the budget. Such an op has just given a
 * buffer back, or wants a small one beside the one it has.
 */
struct buf *buf_take(struct store_worker *sw, uint32_t size, bool must, uint32_t *charge)
{
	uint32_t bytes = ram_class_size(size);
	struct buf *b;

	uint64_t charged = atomic_load_explicit(&sw->charged, memory_order_relaxed);

	if (!must &&
	    (sw->wait[WAIT_MEMORY].head != NULL || (charged > 0 && charged + bytes > sw->budget)))
		return NULL;
	b = ram_alloc(sw->s->ram, size);
	if (b == NULL)
		b = ram_alloc_outside(sw->s->ram, size);
	if (b == NULL)
		return NULL;
	b->hash = 0;
	b->loc = 0;
	b->rec_off = 0;
	atomic_store_explicit(&sw->charged, charged + bytes, memory_order_relaxed);
	*charge = bytes;
	return b;
}

struct buf *buf_take_read(struct store_worker *sw, uint32_t size, bool must, uint32_t *charge,
			  enum wait_for *line)
{
	bool large = size > BODY_LARGE;
	struct buf *b;

	*line = WAIT_READ;
	if (large && !must && sw->reads > 0 &&
	    sw->reads + sw->bodies + ram_class_size(size) > large_share(sw))
		return NULL;
	*line = WAIT_MEMORY;
	b = buf_take(sw, size, must, charge);
	if (b != NULL && large) {
		sw->reads += *charge;
		*charge |= CHARGE_READ;
	}
	return b;
}

void buf_uncharge(struct store_worker *sw, uint32_t *charge)
{
	uint64_t charged = atomic_load_explicit(&sw->charged, memory_order_relaxed);
	uint32_t bytes = *charge & ~CHARGE_READ;

	A(charged >= bytes);
	atomic_store_explicit(&sw->charged, charged - bytes, memory_order_relaxed);
	if (*charge & CHARGE_READ) {
		A(sw->reads >= bytes);
		sw->reads -= bytes;
	}
	*charge = 0;
	sw->retry = sw->retry || store_memory_wanted(sw) > 0;
}

void buf_give(struct store_worker *sw, struct buf *b, uint32_t charge)
{
	if (charge > 0)
		buf_uncharge(sw, &charge);
	buf_put(sw->s->ram, b);
}

uint64_t store_memory_wanted(const struct store_worker *sw)
{
	return sw->wait[WAIT_MEMORY].head != NULL || sw->wait[WAIT_READ].head != NULL ||
		       sw->wait[WAIT_BODY].head != NULL
		   ? sw->budget
		   : 0;
}

enum store_places store_places(const struct store_worker *sw)
{
	uint64_t asked;

	if (sw->long_sets == 0)
		return STORE_PLACES_FREE;
	asked = atomic_load_explicit(&sw->s->place_wanted_ns, memory_order_relaxed);
	return asked != 0 && io_now(sw->io) < asked + PLACE_WANTED_NS ? STORE_PLACES_WANTED
								      : STORE_PLACES_HELD;
}

uint64_t store_op_held(const struct store_op *op)
{
	const struct store_io *run = op->run;
	uint64_t n = op->buf != NULL ? op->charge & ~CHARGE_READ : 0;

	if (run != NULL && run->lv != NULL)
		n += long_held(run->lv);
	return n;
}

/* The body is there, or will never be. */
void op_body_over(struct store_op *op)
{
	struct store_worker *sw = op->sw;

	if (op->body_charge == 0)
		return;
	A(sw->bodies >= op->body_charge);
	sw->bodies -= op->body_charge;
	op->body_charge = 0;
	if (sw->wait[WAIT_BODY].head != NULL)
		sw->retry = true;
}

void op_drop_buf(struct store_op *op)
{
	op_body_over(op);
	if (op->buf != NULL)
		buf_give(op->sw, op->buf, op->charge);
	op->buf = NULL;
}

struct store_io *run_get(struct store_op *op)
{
	struct store_worker *sw = op->sw;
	struct store_io *run = op->run;

	if (run != NULL)
		return run;
	run = sw->io_free;
	if (run != NULL) {
		sw->io_free = run->free_next;
	} else {
		run = malloc(sizeof *run);
		AN(run != NULL); /* bounded by connections times their window */
	}
	memset(run, 0, offsetof(struct store_io, probe));
	run->probed = run->found = false;
	run->matches = run->gone = 0;
	run->at = 0;
	run->pinned = NULL;
	run->rd = run->found_buf = NULL;
	run->lv = NULL;
	run->text = NULL;
	run->text_n = run->text_cap = 0;
	run->op = op;
	run->sw = sw;
	op->run = run;
	return run;
}

static void drop_found(struct store_op *op)
{
	struct store_io *run = op->run;

	if (run->found_buf != NULL)
		buf_give(op->sw, run->found_buf, run->found_charge);
	run->found_buf = NULL;
	run->found = false;
}

void run_drop(struct store_op *op)
{
	struct store_io *run = op->run;

	if (run == NULL)
		return;
	A(io_op_idle(&run->io));
	A(run->pinned == NULL);
	if (run->lv != NULL)
		long_drop(op);
	drop_found(op);
	if (run->rd != NULL)
		buf_give(op->sw, run->rd, run->rd_charge);
	free(run->text);
	op->run = NULL;
	run->free_next = op->sw->io_free;
	op->sw->io_free = run;
}

void run_leave(struct store_op *op, const char *what, bool serious)
{
	struct store_io *late = op->run, *run;

	drop_found(op);
	op->run = NULL;
	run = run_get(op);
	run->lv = late->lv;
	run->cursor = late->cursor;
	run->cursor_out = late->cursor_out;
	run->text = late->text;
	run->ticket = late->ticket;
	run->text_n = late->text_n;
	run->text_cap = late->text_cap;
	late->lv = NULL;
	late->text = NULL;
	late->op = NULL;
	buf_uncharge(op->sw, &late->rd_charge);
	watch_late(op->sw, &late->watch, what, serious);
}

void run_late_over(struct store_io *run)
{
	struct store_worker *sw = run->sw;

	segment_unpin(sw->s, run->pinned);
	run->pinned = NULL;
	buf_give(sw, run->rd, run->rd_charge);
	run->rd = NULL;
	run->free_next = sw->io_free;
	sw->io_free = run;
}

/* ---- waiting ----------------------------------------------------------------------------------- */

void op_wait(struct store_op *op, enum wait_for what)
{
	struct store_worker *sw = op->sw;

	op->next = NULL;
	*sw->wait[what].tail = op;
	sw->wait[what].tail = &op->next;
	op->waits = what == WAIT_MEMORY || what == WAIT_READ;
	if (what == WAIT_WRITE || what == WAIT_PLACE)
		COUNT(sw, write_waits);
	else if (what != WAIT_PATH && what != WAIT_LOAD)
		COUNT(sw, buffer_waits);
}

void op_step(struct store_op *op)
{
	bool done = false;

	op->waits = false;
	switch (op->kind) {
	case OP_GET:
		done = get_step(op);
		break;
	case OP_SET:
		done = set_step(op);
		break;
	case OP_DELETE:
		done = delete_step(op);
		break;
	case OP_FLUSH:
		done = flush_step(op);
		break;
	case OP_DUMP:
		done = dump_step(op);
		break;
	case OP_PATH:
		done = path_step(op);
		break;
	default:
		A(false);
	}
	if (done)
		op->done(op);
}

/* Runs those that wait, in order, until one of each queue has to wait again. */
void ops_retry(struct store_worker *sw)
{
	for (unsigned q = 0; q < WAITS; q++) {
		struct store_op *list = sw->wait[q].head, **tail = sw->wait[q].tail;

		sw->wait[q].head = NULL;
		sw->wait[q].tail = &sw->wait[q].head;
		while (list != NULL) {
			struct store_op *op = list;

			list = op->next;
			op->next = NULL;
			op_step(op);
			if (sw->wait[q].head != NULL) {
				/* nothing left to give: the rest keeps its order behind this one */
				if (list != NULL) {
					*sw->wait[q].tail = list;
					sw->wait[q].tail = tail;
				}
				break;
			}
		}
	}
}

bool op_finish(struct store_op *op, enum store_status st, int lat)
{
	op->status = st;
	if (lat >= 0)
		hist_add(&op->sw->lat[lat], clock_ns() - op->start_ns);
	return true;
}

/* ---- finding ----------------------------------------------------------------------------------- */

void find_restart(struct store_op *op)
{
	struct store_io *run = run_get(op);

	drop_found(op);
	run->probed = false;
	run->at = 0;
	run->matches = run->gone = 0;
}

/* Bytes of a record of this size that the first read wants. */
static uint32_t first_bytes(uint32_t units, bool whole)
{
	uint64_t all = (uint64_t)units * FORMAT_UNIT;

	if (!whole)
		return all < RECORD_HEAD_MAX ? (uint32_t)all : RECORD_HEAD_MAX;
	if (all <= FORMAT_WHOLE_MAX + FORMAT_ALIGN * 3)
		return (uint32_t)all;
	return RECORD_HEAD_MAX + FORMAT_CHUNK;
}

/*
 * What lies there cannot be read. The slot goes, and a DROP record ends what it led to: it must not be there again
 * after a restart, when the key was deleted meanwhile [DEL-2].
 */
void slot_unreadable(struct store *s, uint64_t hash, uint64_t loc)
{
	pthread_mutex_t *lock = key_lock(s, hash);
	struct index_ref ref;

	pthread_mutex_lock(lock);
	if (index_get(s->index, hash, loc, &ref)) {
		tell_gone(s, STORE_GONE_UNREADABLE, hash, loc);
		drop_other(s, &ref); /* owed before the slot is gone [AT-8] */
		index_remove(s->index, hash, loc);
		load_hide(s, hash);
	}
	ram_relocate(s->ram, hash, loc, 0);
	pthread_mutex_unlock(lock);
}

/* The slot leads to an earlier life of its place: nobody shall follow it again. */
static void forget_slot(struct store_op *op, uint64_t loc)
{
	struct store *s = op->sw->s;
	pthread_mutex_t *lock = key_lock(s, op->hash);

	pthread_mutex_lock(lock);
	if (index_remove(s->index, op->hash, loc))
		tell_gone(s, STORE_GONE_UNREADABLE, op->hash, loc);
	ram_relocate(s->ram, op->hash, loc, 0);
	pthread_mutex_unlock(lock);
}

static void examine(struct store_op *op, uint32_t avail, bool whole, bool from_disk)
{
	struct store_io *run = op->run;
	struct store_worker *sw = op->sw;
	struct store *s = sw->s;
	uint32_t seg = 0, units_at = 0;
	struct path *p = loc_path(s, run->loc, &seg, &units_at);
	const uint8_t *mem;
	struct format_record rec;
	enum record_verdict v;
	bool good;

	AN(p != NULL && run->rd != NULL);
	mem = run->rd->mem + run->rd->rec_off;
	v = record_check(mem, avail, s->id_seed,
			 atomic_load_explicit(&p->seg[seg].generation, memory_order_acquire),
			 units_at, &rec);
	if (v != RECORD_GOOD) {
		if (v == RECORD_FOREIGN) {
			COUNT(sw, stale_reads);
			forget_slot(op, run->loc);
			goto drop;
		}
		if (from_disk) {
			COUNT(sw, corrupt_reads);
			segment_quarantine(s, p, seg, "a record's header has a bad checksum");
		}
		slot_unreadable(s, op->hash, run->loc);
		goto drop;
	}
	if (rec.type != FORMAT_VALUE || rec.key_len != op->key_len ||
	    memcmp(mem + sizeof rec, op->key, op->key_len) != 0) {
		COUNT(sw, false_reads);
		goto drop;
	}
	if (whole) {
		uint32_t n = rec.value_len > FORMAT_WHOLE_MAX ? FORMAT_CHUNK : rec.value_len;

		good = (uint64_t)rec.value_off + n <= avail &&
		       record_value_good(mem, &rec, 0, mem + rec.value_off, n);
		if (!good) {
			COUNT(sw, corrupt_reads);
			segment_quarantine(s, p, seg, "a value has a bad checksum");
			slot_unreadable(s, op->hash, run->loc);
			goto drop;
		}
	}
	run->matches |= 1u << run->at;
	if (run->found && run->rec.seq >= rec.seq)
		goto drop;
	drop_found(op);
	run->found = true;
	run->found_buf = run->rd;
	run->found_charge = run->rd_charge;
	run->found_loc = run->loc;
	run->found_avail = avail;
	run->rec = rec;
	run->rd = NULL;
	return;
drop:
	buf_give(sw, run->rd, run->rd_charge);
	run->rd = NULL;
}

static void find_read_done(struct io_op *io)
{
	struct store_io *run = container_of(io, struct store_io, io);
	struct store_op *op = run->op;
	struct store_worker *sw = run->sw;
	struct store *s = sw->s;
	struct segment *g = run->pinned;
	uint32_t off = run->rd->rec_off;

	(void)watch_end(sw, &run->watch);
	sw->in_flight--;
	if (unlikely(op == NULL)) {
		run_late_over(run);
		return;
	}
	run->pinned = NULL;
	if (io->res < 0 || (uint32_t)io->res < run->io.u.disk.len) {
		uint32_t seg, at;
		struct path *p = loc_path(s, run->loc, &seg, &at);

		COUNT(sw, read_errors);
		atomic_fetch_add(&p->read_errors, 1);
		segment_quarantine(s, p, seg, io->res < 0 ? strerror(-io->res) : "short read");
		slot_unreadable(s, op->hash, run->loc);
		buf_give(sw, run->rd, run->rd_charge);
		run->rd = NULL;
	} else {
		uint32_t gap = off - (uint32_t)((uint8_t *)run->io.u.disk.buf - run->rd->mem);

		examine(op, (uint32_t)io->res - gap, op->kind == OP_GET && !op->head, true);
	}
	segment_unpin(s, g);
	run->at++;
	op_step(op);
}

/* A get is a miss. Who wants to write must know what is there, or that nobody can: so the path is offline. */
static void find_expired(struct watch *w)
{
	struct store_io *run = container_of(w, struct store_io, watch);
	struct store_op *op = run->op;
	struct store *s = run->sw->s;
	bool get = op->kind == OP_GET;

	if (get)
		tell_gone(s, STORE_GONE_UNREAD, op->hash, run->loc);
	run_leave(op, get ? "a read for a get" : "a read for a set or a delete", !get);
	if (get && get_miss(op))
		op->done(op);
	else if (!get)
		op_step(op);
}

enum find_result op_find(struct store_op *op, bool whole)
{
	struct store_worker *sw = op->sw;
	struct store *s = sw->s;
	struct store_io *run = run_get(op);
	enum wait_for line;

	if (!run->probed) {
		index_find(s->index, op->hash, &run->probe);
		run->probed = true;
		run->at = 0;
	}
	while (run->at < run->probe.n) {
		const struct index_ref *ref = &run->probe.ref[run->at];
		uint32_t bytes = first_bytes(ref->units, whole), seg, units_at, slop, len, align, n,
			 pad;
		struct path *p = loc_path(s, ref->loc, &seg, &units_at);
		uint64_t off, seg_end;

		run->loc = ref->loc;
		if (p == NULL || units_at < FORMAT_ALIGN / FORMAT_UNIT) {
			/* only a damaged index can say this */
			if (index_remove(s->index, op->hash, ref->loc))
				tell_gone(s, STORE_GONE_UNREADABLE, op->hash, ref->loc);
			run->at++;
			continue;
		}
		if (unlikely(atomic_load_explicit(&p->gone, memory_order_relaxed))) {
			COUNT(sw, offline_misses);
			tell_gone(s, STORE_GONE_UNREAD, op->hash, ref->loc);
			run->gone |= 1u << run->at++;
			continue;
		}
		/* the size code rounds up; a record never crosses its segment's end */
		seg_end = s->seg_size - (uint64_t)units_at * FORMAT_UNIT;
		if (bytes > seg_end)
			bytes = (uint32_t)seg_end;
		align = p->file->info.align;
		off = seg_offset(p, seg) + (uint64_t)units_at * FORMAT_UNIT;
		slop = (uint32_t)(off & (align - 1));
		len = (slop + bytes + align - 1) & ~(align - 1);
		run->rd = buf_take_read(sw, align > MEM_ALIGN ? len + align : len,
					op->tries > 0 || run->at > 0 ||
					    (!whole && (op->buf != NULL || run->lv != NULL)),
					&run->rd_charge, &line);
		if (run->rd == NULL) {
			find_restart(op); /* [OP-1] */
			op_wait(op, line);
			return FIND_PENDING;
		}
		op->under_way = len;
		pad = (uint32_t)(-(uintptr_t)run->rd->mem & (align - 1));
		run->rd->rec_off = pad + slop;
		if (atomic_load_explicit(&p->seg[seg].state, memory_order_acquire) != SEG_SEALED) {
			n = wbuf_copy(s, ref->loc, run->rd->mem + run->rd->rec_off, bytes);
			if (n > 0) {
				examine(op, n, whole, false);
				run->at++;
				continue;
			}
		}
		atomic_fetch_add(&p->seg[seg].pins, 1);
		run->pinned = &p->seg[seg];
		sw->in_flight++;
		COUNT(sw, disk_reads);
		io_read(sw->io, &run->io, p->file, run->rd->mem + pad, len, off - slop,
			find_read_done);
		watch_begin(sw, &run->watch, p, &run->io, find_expired);
		return FIND_PENDING;
	}
	return FIND_DONE;
}

uint64_t cas_of(const uint64_t content[2])
{
	return content[0] != 0 ? content[0] : 1;
}

/* ---- the caller's side ------------------------------------------------------------------------- */

void store_op_init(struct store_op *op, struct store_worker *sw, const void *key, uint8_t key_len,
		   store_done_fn *done, void *user)
{
	A(key_len <= STORE_KEY_MAX);
	/* in pieces that compilers clear without string instructions */
	memset(op, 0, 64);
	memset((char *)op + 64, 0, 64);
	memset((char *)op + 128, 0, offsetof(struct store_op, key) - 128);
	op->run = NULL;
	op->done = done;
	op->user = user;
	op->sw = sw;
	op->key_len = key_len;
	copy_key(op->key, key, key_len);
	op->hash = XXH3_64bits_withSeed(key, key_len, sw->s->hash_secret);
	op->start_ns = io_now(sw->io);
}

void store_op_end(struct store_op *op)
{
	if (!long_orphan(op))
		run_drop(op);
	op_drop_buf(op);
	op->kind = OP_NONE;
}

void store_prefetch(const struct store_op *op, unsigned stage)
{
	ram_prefetch(op->sw->s->ram, op->hash, stage);
}
