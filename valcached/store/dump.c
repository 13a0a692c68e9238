/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A walk over all keys, for `lru_crawler metadump all`: first the write buffers, then the segments'
 * blocks, one buffer at a time; every record that the index points to gives a line. What was listed out of
 * a write buffer is skipped when it is met on disk. What is in RAM only is not listed. One walk at a time;
 * its worker's own thread.
 *
 * The cursor is 0:8 | write buffer:24 | 0:16, then path + 1:8 | segment:24 | offset in 4096s:16, and counts
 * upwards, so segments that are recycled meanwhile are met once or not at all; a value that is
 * written again may be met twice.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/xxh.h"
#include "valcached/store/store_int.h"

#define LINE_MAX_BYTES (3 * STORE_KEY_MAX + 160)

static uint64_t cursor_make(uint32_t path, uint32_t seg, uint32_t off)
{
	return (uint64_t)(path + 1) << 40 | (uint64_t)seg << 16 | off / FORMAT_ALIGN;
}

/* Percent-encoding as memcached's metadump does it: everything but unreserved characters. */
static size_t encode(char *out, const uint8_t *key, size_t len)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		uint8_t c = key[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    c == '-' || c == '.' || c == '_' || c == '~') {
			out[n++] = (char)c;
		} else {
			out[n++] = '%';
			out[n++] = hex[c >> 4];
			out[n++] = hex[c & 15];
		}
	}
	return n;
}

static void add_line(struct store_op *op, const uint8_t *key, const struct format_record *rec)
{
	struct store_io *run = op->run;
	char *line;

	if (run->text_n + LINE_MAX_BYTES > run->text_cap) {
		size_t cap = run->text_cap == 0 ? 65536 : run->text_cap * 2;
		char *more = realloc(run->text, cap);

		if (more == NULL)
			return; /* a line less */
		run->text = more;
		run->text_cap = cap;
	}
	line = run->text + run->text_n;
	memcpy(line, "key=", 4);
	run->text_n += 4;
	run->text_n += encode(line + 4, key, rec->key_len);
	run->text_n += (size_t)sprintf(run->text + run->text_n,
				       " exp=-1 la=0 cas=%" PRIu64 " fetch=no cls=1 size=%u\r\n",
				       cas_of(rec->content), rec->value_len);
}

/* A line, if it is the record at loc that the index has. */
static void add_record(struct store_op *op, const uint8_t *mem, const struct format_record *rec,
		       uint64_t loc)
{
	struct store *s = op->sw->s;
	const uint8_t *key = mem + sizeof *rec;
	struct index_ref ref;

	if (rec->type == FORMAT_VALUE &&
	    index_get(s->index, XXH3_64bits_withSeed(key, rec->key_len, s->hash_secret), loc, &ref))
		add_line(op, key, rec);
}

/* What is in this write buffer and not known to be on disk. */
static void walk_wbuf(struct store_op *op, struct wbuf *w)
{
	struct store *s = op->sw->s;
	uint64_t base = atomic_load_explicit(&w->base, memory_order_acquire), generation;
	uint32_t at, end;

	w->dumped.generation = 0;
	if (base == 0)
		return;
	atomic_fetch_add(&w->pins, 1); /* [W-3] */
	if (atomic_load(&w->base) == base) {
		generation = atomic_load(&w->shm->generation);
		at = atomic_load(&w->shm->written) + FORMAT_BLOCK;
		end = atomic_load_explicit(&w->shm->committed, memory_order_acquire);
		w->dumped.from = base + at / FORMAT_UNIT;
		w->dumped.to = base + end / FORMAT_UNIT;
		w->dumped.generation = generation;
		while (at < end) {
			struct format_record rec;

			if (record_check(w->mem + at, end - at, s->id_seed, generation,
					 (w->ext_off + at) / FORMAT_UNIT, &rec) != RECORD_GOOD) {
				/* the end of a block: the next one begins at a page */
				at = ((at + FORMAT_ALIGN - 1) & ~(FORMAT_ALIGN - 1)) + FORMAT_BLOCK;
				continue;
			}
			add_record(op, w->mem + at, &rec, base + at / FORMAT_UNIT);
			at += record_units(rec.value_off, rec.value_len) * FORMAT_UNIT;
		}
	}
	atomic_fetch_sub(&w->pins, 1);
}

static bool was_listed(const struct store *s, uint64_t loc, uint64_t generation)
{
	for (unsigned i = 0; i < s->nwbuf; i++) {
		const struct wbuf *w = &s->wbuf[i];

		if (w->dumped.generation == generation && loc >= w->dumped.from &&
		    loc < w->dumped.to)
			return true;
	}
	return false;
}

/* Lines for the records of whole blocks in mem; returns how far the walk came. */
static uint32_t walk(struct store_op *op, struct path *p, uint32_t seg, uint64_t generation,
		     const uint8_t *mem, uint32_t off, uint32_t n)
{
	struct store *s = op->sw->s;
	uint32_t at = 0;

	while (at + FORMAT_ALIGN <= n) {
		struct format_block b;
		uint32_t r = FORMAT_BLOCK, used;

		memcpy(&b, mem + at, sizeof b);
		if (!block_good(&b, s->id_seed, generation, off + at, s->seg_size - off - at)) {
			at += FORMAT_ALIGN;
			continue;
		}
		if (b.bytes > n - at && at > 0)
			return at; /* again, from its start */
		used = b.used <= n - at ? b.used : n - at;
		while (r + sizeof(struct format_record) <= used) {
			struct format_record rec;
			uint64_t loc;

			if (record_check(mem + at + r, used - r, s->id_seed, generation,
					 (off + at + r) / FORMAT_UNIT, &rec) != RECORD_GOOD)
				break;
			loc = loc_of(p, seg, rec.units_at);
			if (!was_listed(s, loc, generation))
				add_record(op, mem + at + r, &rec, loc);
			r += record_units(rec.value_off, rec.value_len) * FORMAT_UNIT;
		}
		at += b.bytes;
	}
	return at;
}

static void dump_read_done(struct io_op *io)
{
	struct store_io *run = container_of(io, struct store_io, io);
	struct store_op *op = run->op;
	struct store *s = run->sw->s;
	uint32_t pi = (uint32_t)(run->cursor >> 40) - 1,
		 seg = (uint32_t)(run->cursor >> 16) & 0xffffff;
	uint32_t off = (uint32_t)(run->cursor & 0xffff) * FORMAT_ALIGN, n;

	(void)watch_end(run->sw, &run->watch);
	run->sw->in_flight--;
	if (unlikely(op == NULL)) {
		run_late_over(run);
		return;
	}
	n = io->res > 0 ? (uint32_t)io->res : 0;
	if (n > 0)
		n = walk(op, &s->path[pi], seg, atomic_load(&run->pinned->generation), run->rd->mem,
			 off, n);
	segment_unpin(s, run->pinned);
	run->pinned = NULL;
	buf_give(op->sw, run->rd, run->rd_charge);
	run->rd = NULL;
	run->cursor = n == 0 || off + n >= s->seg_size ? cursor_make(pi, seg + 1, 0)
						       : cursor_make(pi, seg, off + n);
	op_step(op);
}

/* The rest of this segment is not listed. */
static void dump_expired(struct watch *w)
{
	struct store_op *op = container_of(w, struct store_io, watch)->op;
	uint64_t at = op->run->cursor;

	run_leave(op, "a read for a list of keys", false);
	op->run->cursor =
	    cursor_make((uint32_t)(at >> 40), ((uint32_t)(at >> 16) & 0xffffff) + 1, 0);
	op_step(op);
}

bool dump_step(struct store_op *op)
{
	struct store_io *run = op->run;
	struct store *s = op->sw->s;

	while (run->text_n == 0) {
		uint32_t pi = (uint32_t)(run->cursor >> 40) - 1;
		uint32_t seg = (uint32_t)(run->cursor >> 16) & 0xffffff;
		uint32_t off = (uint32_t)(run->cursor & 0xffff) * FORMAT_ALIGN, len, st;
		struct path *p;

		if (pi == UINT32_MAX) {
			run->cursor =
			    seg < s->nwbuf ? (uint64_t)(seg + 1) << 16 : cursor_make(0, 0, 0);
			if (seg < s->nwbuf)
				walk_wbuf(op, &s->wbuf[seg]);
			continue;
		}
		if (pi >= s->npaths)
			break;
		p = &s->path[pi];
		if (seg >= p->nseg || atomic_load(&p->gone)) {
			run->cursor = cursor_make(pi + 1, 0, 0);
			continue;
		}
		st = atomic_load(&p->seg[seg].state);
		if (st == SEG_VIRGIN || st == SEG_CLEAN || st == SEG_RECYCLING) {
			run->cursor = cursor_make(pi, seg + 1, 0);
			continue;
		}
		len = WBUF_BYTES < s->seg_size - off ? WBUF_BYTES : (uint32_t)(s->seg_size - off);
		run->rd = buf_take(op->sw, len, false, &run->rd_charge);
		if (run->rd == NULL) {
			op_wait(op, WAIT_MEMORY);
			return false;
		}
		run->pinned = &p->seg[seg];
		atomic_fetch_add(&run->pinned->pins, 1);
		op->sw->in_flight++;
		io_read(op->sw->io, &run->io, p->file, run->rd->mem, len, seg_offset(p, seg) + off,
			dump_read_done);
		watch_begin(op->sw, &run->watch, p, &run->io, dump_expired);
		return false;
	}
	*run->cursor_out = run->cursor;
	op->value = (const uint8_t *)run->text;
	op->value_n = (uint32_t)run->text_n;
	return op_finish(op, STORE_OK, -1);
}

bool store_dump(struct store_op *op, uint64_t *cursor)
{
	struct store_io *run = run_get(op);

	op->kind = OP_DUMP;
	run->cursor = *cursor;
	run->cursor_out = cursor;
	run->text_n = 0;
	return dump_step(op);
}
