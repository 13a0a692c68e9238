/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gets: RAM tier, then index, then one disk read, whose buffer is sent and then kept or dropped.
 * Worker's own thread.
 */
#include <string.h>

#include "valcached/store/store_int.h"

/*
 * One get in 16 is timed from here; reading the clock costs as much as half a hit in RAM. Which one is
 * spread by Fibonacci hashing: each 16th would never see the hits of a client that asks hit, miss, hit, miss.
 */
static bool is_timed(uint64_t nth)
{
	return (nth * 0x9e3779b97f4a7c15ull) >> 60 == 0;
}

static void fill_result(struct store_op *op, const struct format_record *rec)
{
	op->flags = rec->flags;
	op->value_len = rec->value_len;
	op->cas = cas_of(rec->content);
	op->value_off = 0;
	op->value = NULL;
	op->value_n = 0;
}

/*
 * A record that lives in RAM alone was touched again: it has earned its place on disk. Only if that can
 * be done at once; another touch will come.
 */
static void admit_now(struct store_op *op, struct buf *b)
{
	struct store_worker *sw = op->sw;
	struct store *s = sw->s;
	uint8_t head[RECORD_HEAD_MAX];
	const uint8_t *mem = b->mem + b->rec_off;
	pthread_mutex_t *lock = key_lock(s, op->hash);
	struct index_probe probe;
	struct index_ref victim = {0};
	struct format_record rec;
	struct wbuf *w;
	uint32_t n, units;
	uint64_t loc;
	struct buf *same;
	bool touched;

	memcpy(&rec, mem, sizeof rec);
	n = record_head_len(rec.key_len, rec.value_len);
	w = wbufs_budget(sw) ? wbuf_reserve(sw, NULL, STREAM_MAIN, rec.value_off + rec.value_len)
			     : NULL;
	if (w == NULL)
		return;
	memcpy(head, mem, n);
	pthread_mutex_lock(lock);
	index_find(s->index, op->hash, &probe);
	/* still this value? The key may have been deleted and set to another since */
	same = ram_lookup(s->ram, op->hash, op->key, op->key_len, &touched);
	if (same != NULL)
		buf_put(s->ram, same);
	if (probe.n == 0 && same == b && !atomic_load(&s->flushing)) {
		loc = wbuf_append(w, head, n, mem + rec.value_off, op->hash, false, &units);
		if (slot_add(s, op->hash, loc, units, 1, &victim))
			ram_relocate(s->ram, op->hash, 0, loc);
		wbuf_published(w);
		COUNT(sw, admitted_later);
		COUNT_N(sw, user_bytes, (uint64_t)units * FORMAT_UNIT);
	}
	pthread_mutex_unlock(lock);
	if (victim.loc != 0)
		drop_later(s, &victim);
}

/* What is wanted of a record in RAM, while b is held: the value with a reference to b, or a copy. */
static void take_ram(struct store_op *op, bool head, struct buf *b, const struct format_record *rec)
{
	const uint8_t *value = b->mem + b->rec_off + rec->value_off;

	if (head)
		return;
	if (op->place != NULL && rec->value_len <= op->place_max) {
		memcpy(op->place(op), value, rec->value_len);
		op->placed = true;
		return;
	}
	buf_get(b);
	op->buf = b;
	op->charge = 0;
	op->value = value;
	op->value_n = rec->value_len;
}

static bool from_ram(struct store_op *op, bool head)
{
	struct store_worker *sw = op->sw;
	struct store *s = sw->s;
	struct ram_line *held;
	uint64_t loc;
	struct format_record rec;
	bool touched, admit;
	struct buf *b;

	b = ram_hold(s->ram, op->hash, op->key, op->key_len, &touched, &held);
	if (b == NULL)
		return false;
	memcpy(&rec, b->mem + b->rec_off, sizeof rec);
	loc = atomic_load_explicit(&b->loc, memory_order_relaxed);
	fill_result(op, &rec);
	op->from_ram = true;
	admit = touched && loc == 0 && s->cfg.admit == STORE_ADMIT_SECOND;
	if (admit)
		buf_get(b);
	take_ram(op, head, b, &rec);
	ram_let_go(held);
	if (admit) {
		admit_now(op, b);
		buf_put(s->ram, b);
	} else if (touched && loc != 0) {
		index_touch(s->index, op->hash, loc);
	}
	COUNT(sw, get_hits_ram);
	op->status = STORE_OK;
	if (op->timed)
		hist_add(&sw->lat[STORE_LAT_GET_RAM], clock_ns() - op->start_ns);
	return true;
}

bool get_miss(struct store_op *op)
{
	COUNT(op->sw, get_misses);
	run_drop(op);
	return op_finish(op, STORE_MISS, op->timed ? STORE_LAT_MISS : -1);
}

/* Makes the buffer just read resident, unless the key has been deleted or moved meanwhile. */
static void keep(struct store_op *op, struct buf *b, uint64_t loc)
{
	struct store *s = op->sw->s;
	pthread_mutex_t *lock = key_lock(s, op->hash);
	struct index_ref ref;

	pthread_mutex_lock(lock);
	if (!atomic_load(&s->flushing) && index_get(s->index, op->hash, loc, &ref)) {
		b->hash = op->hash;
		atomic_store_explicit(&b->loc, loc, memory_order_relaxed);
		ram_insert(s->ram, b);
	}
	pthread_mutex_unlock(lock);
}

bool get_step(struct store_op *op)
{
	struct store_worker *sw = op->sw;
	struct store_io *run;

	if (op->run != NULL && op->run->lv != NULL)
		return long_get_step(op);
	if (op_find(op, !op->head) == FIND_PENDING)
		return false;
	run = op->run;
	if (!run->found) {
		if (!index_unchanged(sw->s->index, op->hash, &run->probe) && ++op->tries < 8) {
			/* it may have moved while we were looking at its old place */
			find_restart(op);
			if (from_ram(op, op->head)) {
				run_drop(op);
				return true;
			}
			return get_step(op);
		}
		return get_miss(op);
	}
	fill_result(op, &run->rec);
	index_touch(sw->s->index, op->hash, run->found_loc);
	if (!op->head && run->rec.value_len > STORE_WHOLE_MAX)
		return long_get_begin(op);
	if (!op->head) {
		op->buf = run->found_buf;
		op->charge = run->found_charge;
		run->found_buf = NULL;
		op->value = op->buf->mem + op->buf->rec_off + run->rec.value_off;
		op->value_n = run->rec.value_len;
		keep(op, op->buf, run->found_loc);
	}
	run_drop(op);
	COUNT(sw, get_hits_disk);
	return op_finish(op, STORE_OK, STORE_LAT_GET_DISK);
}

bool store_get(struct store_op *op, bool head)
{
	struct store *s = op->sw->s;

	A(op->kind == OP_NONE);
	op->kind = OP_GET;
	op->head = head;
	op->timed = is_timed(op->sw->gets++);
	if (op->timed)
		op->start_ns = clock_ns();
	if (from_ram(op, head))
		return true;
	op->place = NULL;
	run_get(op);
	index_find(s->index, op->hash, &op->run->probe);
	op->run->probed = true;
	if (op->run->probe.n == 0)
		return get_miss(op);
	return get_step(op);
}
