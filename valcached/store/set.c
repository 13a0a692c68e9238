/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets: take a buffer, let the caller fill it with the body, hash it, see whether the key is there
 * (by length, flags and 128-bit hash, never by reading the value), and publish.
 * Worker's own thread.
 *
 *   ALLOC --buffer--> BODY --all bytes--> CHECK --absent--> PUBLISH --> done
 *                                           ^ |there           |
 *                                           | +--> done        | lines changed since the check
 *                                           +------------------+
 *
 *  [SET-1] Between check and publish no lock is held; publishing takes the key's lock and goes back to
 *          the check if any slot of the key's lines has changed since.
 *  [SET-2] Order under the lock: copy, committed, index, RAM tier; the caller replies after that.
 */
#include <string.h>

#include "base/log.h"
#include "valcached/store/store_int.h"

enum { SET_ALLOC, SET_BODY, SET_CHECK, SET_PUBLISH };

static struct format_record *rec_of(struct store_op *op)
{
	return (struct format_record *)(void *)(op->buf->mem + op->buf->rec_off);
}

bool set_finish(struct store_op *op, enum store_status st)
{
	run_drop(op);
	op->body_n = 0;
	op->body = NULL;
	op_drop_buf(op);
	return op_finish(op, st, STORE_LAT_SET);
}

bool set_verdict(struct store_op *op, const struct format_record *have, bool equal)
{
	static struct log_limit limit;

	if (equal) {
		COUNT(op->sw, sets_same);
		return set_finish(op, op->mode == STORE_ADD ? STORE_EXISTS : STORE_OK);
	}
	op->cas = cas_of(have->content);
	COUNT(op->sw, immutable_conflicts);
	log_limited(
	    &limit, LOG_WARN,
	    "store: a set of key %.*s with other bytes than it has was refused: somebody breaks the "
	    "contract that values never change",
	    (int)op->key_len, op->key);
	return set_finish(op, STORE_CONFLICT);
}

/* Is it to go to the disk? With second-touch admission: what comes for the second time, once full. */
static bool admitted(struct store_op *op, bool known)
{
	struct store *s = op->sw->s;

	/* while tables are read, an older record must have something on disk that ends it [RC-6] */
	if (s->cfg.admit == STORE_ADMIT_ALL ||
	    !atomic_load_explicit(&s->full, memory_order_relaxed) || loading(s))
		return true;
	if (!wbufs_budget(op->sw))
		return false;
	return known;
}

/* Has it been here lately? Then it has come for the second time. */
static bool ghost_known(struct store_op *op)
{
	struct store *s = op->sw->s;

	return atomic_load_explicit(&s->full, memory_order_relaxed) &&
	       ghost_has(s->ghost, op->hash);
}

/* New values of a full store begin in the young stream, and must be used to get out of it alive. */
static enum stream stream_for(const struct store *s, bool known)
{
	return s->cfg.admit == STORE_ADMIT_ALL && !known &&
		       atomic_load_explicit(&s->full, memory_order_relaxed)
		   ? STREAM_YOUNG
		   : STREAM_MAIN;
}

/* True: finished. False with *again: start the check over; else it waits. */
static bool publish(struct store_op *op, bool *again)
{
	struct store_worker *sw = op->sw;
	struct store *s = sw->s;
	struct format_record *rec = rec_of(op);
	uint8_t *head = op->buf->mem + op->buf->rec_off;
	pthread_mutex_t *lock = key_lock(s, op->hash);
	struct index_ref victim = {0};
	bool known = ghost_known(op), ram_only = !admitted(op, known);
	enum stream stream = stream_for(s, known);
	struct wbuf *w = NULL;
	uint32_t units = 0;
	uint64_t loc = 0;

	*again = false;
	if (unlikely(op->run->gone != 0)) {
		enum path_end end = path_end_gone(op);

		if (end == END_REFUSED)
			return set_finish(op, STORE_UNAVAILABLE);
		if (end == END_WAIT) {
			op_wait(op, WAIT_WRITE);
			return false;
		}
		if (end == END_WRITE) { /* a path is back: what lies there can be read */
			*again = true;
			return false;
		}
	}
	if (!ram_only) {
		if (s->cfg.admit == STORE_ADMIT_ALL && !wbufs_budget(sw)) {
			op_wait(op, WAIT_WRITE);
			sw->retry_at = io_now(sw->io) + 10 * NS_PER_MS;
			return false;
		}
		w = wbuf_reserve(sw, NULL, stream, rec->value_off + rec->value_len);
		if (w == NULL) {
			if (!any_path_online(s))
				return set_finish(op, STORE_UNAVAILABLE);
			op_wait(op, WAIT_WRITE);
			return false;
		}
	}
	pthread_mutex_lock(lock);
	if (atomic_load_explicit(&s->flushing, memory_order_acquire)) {
		pthread_mutex_unlock(lock);
		op_wait(op, WAIT_WRITE); /* [DEL-3] */
		return false;
	}
	if (!index_unchanged(s->index, op->hash, &op->run->probe) ||
	    (op->run->matches == 0 && s->cfg.admit == STORE_ADMIT_SECOND && op->tries == 0 &&
	     ram_has(s->ram, op->hash, op->key, op->key_len))) {
		pthread_mutex_unlock(lock);
		COUNT(sw, sets_retried);
		*again = true;
		return false;
	}
	if (unlikely(op->run->gone != 0))
		path_forget_gone(op);
	if (!ram_only) {
		loc = wbuf_append(w, head, record_head_len(op->key_len, rec->value_len),
				  head + rec->value_off, op->hash, false, &units);
		if (!slot_add(s, op->hash, loc, units, 0, &victim))
			loc = 0;
		wbuf_published(w);
	} else {
		load_hide(s, op->hash);
		rec->seq = 0;
		ghost_add(s->ghost, op->hash);
	}
	if (known && !ram_only)
		ghost_take(s->ghost, op->hash);
	op->buf->hash = op->hash;
	atomic_store_explicit(&op->buf->loc, loc, memory_order_relaxed);
	ram_insert(s->ram, op->buf);
	pthread_mutex_unlock(lock);
	if (victim.loc != 0)
		drop_later(s, &victim);
	if (ram_only) {
		COUNT(sw, sets_ram_only);
	} else {
		COUNT(sw, sets_stored);
		COUNT_N(sw, user_bytes, (uint64_t)units * FORMAT_UNIT);
		if (w->fill + units * FORMAT_UNIT > w->ext_len)
			wbuf_flush(w); /* the next one like this will not fit: start writing now */
		if (s->cfg.admit == STORE_ADMIT_ALL)
			credit_add(s, (uint64_t)units * FORMAT_UNIT);
	}
	return set_finish(op, STORE_OK);
}

bool set_step(struct store_op *op)
{
	struct store *s = op->sw->s;
	struct store_io *run;
	struct buf *b;
	bool touched, again;

	if (op->run != NULL && op->run->lv != NULL)
		return long_set_step(op);
	switch (op->step) {
	case SET_ALLOC: {
		uint32_t off = record_value_off(op->key_len, op->value_len);
		uint32_t bytes = record_units(off, op->value_len) * FORMAT_UNIT + STORE_BODY_SLACK;
		bool large = bytes > BODY_LARGE;
		struct format_record *rec;

		if (large && ((op->sw->bodies > 0 && op->sw->bodies + bytes > op->sw->budget / 2) ||
			      (op->sw->reads > 0 &&
			       op->sw->reads + op->sw->bodies + bytes > large_share(op->sw)))) {
			op_wait(op, WAIT_BODY);
			return false;
		}
		op->buf = buf_take(op->sw, bytes, false, &op->charge);
		if (op->buf == NULL) {
			op_wait(op, WAIT_MEMORY);
			return false;
		}
		if (large) {
			op->body_charge = op->charge;
			op->sw->bodies += op->charge;
		}
		rec = rec_of(op);
		memset(rec, 0, off);
		rec->magic = FORMAT_RECORD_MAGIC;
		rec->type = FORMAT_VALUE;
		rec->key_len = op->key_len;
		rec->flags = op->flags;
		rec->value_len = op->value_len;
		rec->value_off = off;
		memcpy(rec + 1, op->key, op->key_len);
		op->body = (uint8_t *)rec + off;
		op->body_n = op->value_len;
		op->step = SET_BODY;
		if (op->value_len > 0)
			return true;
	}
		/* fallthrough */
	case SET_BODY: {
		struct format_record *rec = rec_of(op);

		record_content(op->body, op->value_len, rec->content);
		record_fill_sums((uint8_t *)rec, op->key_len, op->value_len);
		op->cas = cas_of(rec->content);
		op->body_n = 0;
		op_body_over(op);
		op->step = SET_CHECK;
	}
		/* fallthrough */
	case SET_CHECK:
	check:
		run_get(op);
		b = ram_lookup(s->ram, op->hash, op->key, op->key_len, &touched);
		if (b != NULL) {
			const struct format_record *have =
			    (const struct format_record *)(const void *)(b->mem + b->rec_off);
			bool eq = same_value(have, rec_of(op));
			uint64_t loc = atomic_load_explicit(&b->loc, memory_order_relaxed);

			if ((loc == 0 || load_vouch(s, op->hash, loc)) &&
			    (!eq || loc != 0 || op->mode != STORE_SET)) {
				struct format_record was = *have;

				buf_put(s->ram, b);
				return set_verdict(op, &was, eq);
			}
			buf_put(s->ram, b);
			op->tries = 1; /* in RAM alone, the same: give it a place on disk */
		} else {
			op->tries = 0;
		}
		if (op_find(op, false) == FIND_PENDING)
			return false;
		run = op->run;
		if (run->found) {
			if (load_vouch(s, op->hash, run->found_loc))
				return set_verdict(op, &run->rec,
						   same_value(&run->rec, rec_of(op)));
			find_restart(op);
			goto check;
		}
		if (op->mode == STORE_COMPARE)
			return set_finish(op, STORE_MISS);
		op->step = SET_PUBLISH;
		/* fallthrough */
	case SET_PUBLISH:
		if (publish(op, &again))
			return true;
		if (again) {
			find_restart(op);
			op->step = SET_CHECK;
			goto check;
		}
		return false;
	default:
		A(false);
	}
	return false;
}

bool store_set(struct store_op *op, enum store_mode mode, uint32_t flags, uint32_t value_len)
{
	struct store *s = op->sw->s;

	A(op->kind == OP_NONE);
	op->kind = OP_SET;
	op->start_ns = clock_ns();
	op->mode = (uint8_t)mode;
	op->flags = flags;
	op->value_len = value_len;
	op->step = SET_ALLOC;
	op->body = NULL;
	op->body_n = 0;
	if (value_len > s->cfg.item_max) {
		op->status = STORE_TOO_LARGE;
		return true;
	}
	if (value_len > STORE_WHOLE_MAX) {
		struct store_io *run = run_get(op);

		(void)run;
		return long_set_step(op);
	}
	return set_step(op);
}

bool store_set_body(struct store_op *op)
{
	A(op->kind == OP_SET);
	if (op->run != NULL && op->run->lv != NULL)
		return long_set_step(op);
	A(op->step == SET_BODY);
	return set_step(op);
}
