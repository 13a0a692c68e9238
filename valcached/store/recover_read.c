/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery: reading what lies in segments. Headers and footers of all, tables of the sealed ones, and blocks
 * of those that are not. [RC-2], [RC-5]
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/xxh.h"
#include "valcached/store/recover_int.h"

int read_at(struct reading *r, struct path *p, void *buf, uint32_t len, uint64_t off)
{
	struct io_op op = {0};
	int res;

	if (r->running) {
		struct disk_io *d = disk_io_new(r->io, p, len);

		if (d == NULL)
			return -ENOMEM;
		disk_read(d, len, off);
		res = disk_wait(&d);
		if (res > 0)
			memcpy(buf, d->mem, (size_t)res);
		disk_io_free(&d);
	} else {
		io_read(r->io, &op, p->file, buf, len, off, io_wait_done);
		res = io_wait(r->io, &op);
	}
	return res < 0 ? res : (uint32_t)res == len ? 0 : -EIO;
}

/*
 * [RC-11] Its header makes no sense: was it written, or is this what the device was delivered with? Its first block or
 * its footer says so.
 */
static bool was_written(struct reading *r, struct path *p, uint32_t seg, uint8_t *page)
{
	const struct format_block *b = (const struct format_block *)(const void *)page;
	const struct format_footer *t = (const struct format_footer *)(const void *)page;
	const struct store *s = r->s;

	if (read_at(r, p, page, FORMAT_ALIGN, seg_offset(p, seg) + FORMAT_ALIGN) == 0 &&
	    block_good(b, s->id_seed, b->generation, FORMAT_ALIGN, s->seg_size - FORMAT_ALIGN))
		return true;
	return read_at(r, p, page, FORMAT_ALIGN, seg_offset(p, seg + 1) - FORMAT_ALIGN) == 0 &&
	       footer_good(t, s->id_seed, t->generation, s->seg_size);
}

/* Of the header in page, of segment seg. What was never written is zeros; else a read may have gone wrong. */
static bool header_good(struct reading *r, struct path *p, uint32_t seg, uint8_t *page)
{
	const struct format_segment *h = (const struct format_segment *)(const void *)page;
	const struct store *s = r->s;

	if (segment_good(h, s->id_seed, s->id, seg))
		return true;
	if (h->magic == 0 && h->generation == 0)
		return false;
	if (read_at(r, p, page, FORMAT_ALIGN, seg_offset(p, seg)) == 0 &&
	    segment_good(h, s->id_seed, s->id, seg))
		return true;
	if (!was_written(r, p, seg, page))
		return false;
	log_warn(
	    "store: %s: the header of segment %u is damaged: its values are gone, what it says of "
	    "deletes counts",
	    p->file->info.path, seg);
	r->lost = realloc(r->lost, (r->nlost + 1) * sizeof *r->lost);
	AN(r->lost != NULL);
	r->lost[r->nlost++] = (struct found){.path = p, .seg = seg, .lost = true};
	p->seg[seg].lost = true;
	atomic_store(&p->seg[seg].state, SEG_RECYCLING);
	return false;
}

int read_headers(struct reading *r, struct path *p, char **cause)
{
	struct io_op op[DEPTH], *bad = NULL;

	memset(op, 0, sizeof op);
	for (uint32_t first = 0; first < p->nseg; first += DEPTH) {
		uint32_t n = p->nseg - first < DEPTH ? p->nseg - first : DEPTH;

		for (uint32_t i = 0; i < n; i++)
			io_read(r->io, &op[i], p->file, r->mem + i * FORMAT_ALIGN, FORMAT_ALIGN,
				seg_offset(p, first + i), io_wait_done);
		for (uint32_t i = 0; i < n; i++)
			if (io_wait(r->io, &op[i]) != (int)FORMAT_ALIGN)
				bad = &op[i];
		if (bad != NULL) { /* now that none is in flight any more */
			if (asprintf(cause, "cannot read %s: %s", p->file->info.path,
				     bad->res < 0 ? strerror(-bad->res) : "short read") < 0)
				*cause = NULL;
			return -EIO;
		}
		for (uint32_t i = 0; i < n; i++) {
			uint8_t *page = r->mem + i * FORMAT_ALIGN;
			const struct format_segment *h =
			    (const struct format_segment *)(const void *)page;

			if (!header_good(r, p, first + i, page))
				continue;
			if (h->generation > r->gen_max)
				r->gen_max = h->generation;
			if (h->generation >= p->super.empty_below) /* [F-8] */
				atomic_store(&p->seg[first + i].generation, h->generation);
		}
	}
	return 0;
}

/*
 * A power cut may leave a record's head and not its value, in any order: in segments that were not sealed
 * every value is looked at. avail: bytes of the record in memory; of a long value only the head.
 */
static bool value_arrived(struct reading *r, const struct found *f, const struct format_record *rec,
			  const uint8_t *head, uint32_t avail)
{
	uint64_t at =
	    seg_offset(f->path, f->seg) + (uint64_t)rec->units_at * FORMAT_UNIT + rec->value_off;
	uint8_t *mem;
	bool good = true;

	if (rec->value_len <= FORMAT_WHOLE_MAX)
		return (uint64_t)rec->value_off + rec->value_len <= avail &&
		       record_value_good(head, rec, 0, head + rec->value_off, rec->value_len);
	if (at + rec->value_len > seg_offset(f->path, f->seg) + r->s->seg_size ||
	    posix_memalign((void **)&mem, FORMAT_ALIGN, FORMAT_CHUNK) != 0)
		return false;
	for (uint32_t off = 0; good && off < rec->value_len; off += FORMAT_CHUNK) {
		uint32_t n =
		    rec->value_len - off < FORMAT_CHUNK ? rec->value_len - off : FORMAT_CHUNK;
		uint32_t len = (n + FORMAT_ALIGN - 1) & ~(FORMAT_ALIGN - 1);

		good = read_at(r, f->path, mem, len, at + off) == 0 &&
		       record_value_good(head, rec, off, mem, n);
	}
	free(mem);
	return good;
}

/* Collects the records of one block that is whole in memory. False: not all that it says is there. */
static bool walk_block(struct reading *r, struct found *f, const uint8_t *block, uint32_t used,
		       uint32_t off, uint32_t *cap)
{
	struct store *s = r->s;
	uint64_t generation = ((const struct format_block *)(const void *)block)->generation;
	uint32_t at = FORMAT_BLOCK;
	bool whole = true;

	if (f->lost && generation > r->gen_max)
		r->gen_max = generation;
	while (at + sizeof(struct format_record) <= used) {
		struct format_record rec;
		struct format_entry e;
		uint32_t units;

		if (record_check(block + at, used - at, s->id_seed, generation,
				 (off + at) / FORMAT_UNIT, &rec) != RECORD_GOOD) {
			r->torn++;
			return false;
		}
		units = record_units(rec.value_off, rec.value_len);
		if (f->lost && rec.type == FORMAT_VALUE) {
			at += units * FORMAT_UNIT;
			continue;
		}
		if (rec.type == FORMAT_VALUE && !value_arrived(r, f, &rec, block + at, used - at)) {
			r->torn++;
			whole = false;
			at += units * FORMAT_UNIT;
			continue;
		}
		e = entry_make(&rec, rec.key_len == 0
					 ? 0
					 : XXH3_64bits_withSeed(block + at + sizeof rec,
								rec.key_len, s->hash_secret));
		if (f->entries == *cap) {
			*cap = *cap == 0 ? 1024 : *cap * 2;
			f->scanned = realloc(f->scanned, *cap * sizeof e);
			AN(f->scanned != NULL);
		}
		f->scanned[f->entries++] = e;
		f->data_bytes += (uint64_t)units * FORMAT_UNIT;
		at += units * FORMAT_UNIT;
	}
	return whole;
}

/*
 * Into r->mem what lies at off of the segment, n bytes, or if some of that cannot be read the block that begins there,
 * or its first page: what is behind a bad sector is not lost with it. Returns how many; 0: nothing.
 */
static uint32_t read_ahead(struct reading *r, const struct found *f, uint32_t off, uint32_t n)
{
	uint64_t at = seg_offset(f->path, f->seg) + off;
	struct format_block b;

	for (unsigned tries = 0; tries < READ_TRIES; tries++)
		if (read_at(r, f->path, r->mem, n, at) == 0)
			return n;
	if (n <= FORMAT_ALIGN || read_at(r, f->path, r->mem, FORMAT_ALIGN, at) < 0)
		return 0;
	memcpy(&b, r->mem, sizeof b);
	if (block_good(&b, r->s->id_seed, f->lost ? b.generation : f->generation, off, n) &&
	    read_at(r, f->path, r->mem, b.bytes, at) == 0)
		return b.bytes;
	return read_at(r, f->path, r->mem, FORMAT_ALIGN, at) == 0 ? FORMAT_ALIGN : 0;
}

/*
 * An unsealed segment: block headers may be at every multiple of 4096. A block may be longer than
 * what is in memory (a long value): its one record's head is in its first page.
 */
void scan(struct reading *r, struct found *f)
{
	struct store *s = r->s;
	uint64_t torn_before = r->torn;
	uint32_t off = FORMAT_ALIGN, have_from = 0, have_to = 0, cap = 0, again = 0;
	/* where its table begins, if it has one */
	uint32_t end = (uint32_t)(f->table_off != 0 ? f->table_off : s->seg_size - FORMAT_ALIGN);

	while (off + FORMAT_ALIGN <= end) {
		uint64_t torn = r->torn, data = f->data_bytes;
		uint32_t want = WBUF_BYTES, n, entries = f->entries;
		struct format_block b;

		if (off < have_from || off + FORMAT_ALIGN > have_to) {
			n = end - off < want ? end - off : want;
			n = read_ahead(r, f, off, n);
			if (n == 0) {
				r->torn++;
				r->unreadable++;
				off += FORMAT_ALIGN;
				continue;
			}
			have_from = off;
			have_to = off + n;
		}
		memcpy(&b, r->mem + (off - have_from), sizeof b);
		if (f->lost)
			f->generation = b.generation;
		if (block_good(&b, s->id_seed, f->generation, off, s->seg_size - off)) {
			if (off + b.bytes > have_to && have_from != off) {
				have_to = 0; /* read again from here */
				continue;
			}
			if (walk_block(r, f, r->mem + (off - have_from),
				       b.used <= have_to - off ? b.used : have_to - off, off,
				       &cap)) {
				off += b.bytes;
				continue;
			}
		} else if (b.generation != f->generation &&
			   (b.magic != FORMAT_BLOCK_MAGIC ||
			    block_good(&b, s->id_seed, b.generation, off, s->seg_size - off))) {
			off += FORMAT_ALIGN; /* noise, of another life or a value's */
			continue;
		}
		/*
		 * Torn, or read badly: once more. Then it is stepped over by a page: the rest of a torn
		 * block may have been given to others since, in the same generation, as the extent of a
		 * long set that was given up is.
		 */
		if (again == off) {
			off += FORMAT_ALIGN;
			continue;
		}
		again = off;
		have_to = 0;
		r->torn = torn;
		f->data_bytes = data;
		f->entries = entries;
	}
	f->torn = r->torn > torn_before;
}

void read_footers(struct reading *r)
{
	struct store *s = r->s;
	struct io_op op[DEPTH];

	memset(op, 0, sizeof op);
	for (size_t first = 0; first < r->n; first += DEPTH) {
		size_t n = r->n - first < DEPTH ? r->n - first : DEPTH;

		for (size_t i = 0; i < n; i++) {
			struct found *f = &r->found[first + i];

			io_read(
			    r->io, &op[i], f->path->file, r->mem + i * FORMAT_ALIGN, FORMAT_ALIGN,
			    seg_offset(f->path, f->seg) + s->seg_size - FORMAT_ALIGN, io_wait_done);
		}
		for (size_t i = 0; i < n; i++) {
			struct found *f = &r->found[first + i];
			const struct format_footer *t =
			    (const struct format_footer *)(const void *)(r->mem + i * FORMAT_ALIGN);

			if (io_wait(r->io, &op[i]) != (int)FORMAT_ALIGN ||
			    !footer_good(t, s->id_seed, f->generation, s->seg_size))
				continue;
			f->sealed = true;
			f->entries = t->entries;
			f->others = t->others;
			f->stream = t->stream < STREAMS ? t->stream : STREAM_MAIN;
			f->table_off = t->table_off;
			f->table_sum = t->table_sum;
			f->data_bytes = t->data_bytes;
			f->cut = t->cut_short <= FORMAT_CUT_LONG ? (uint8_t)t->cut_short
								 : FORMAT_CUT_NOT;
			f->ragged = t->ragged != 0;
			if (t->seq_max > r->seq_max)
				r->seq_max = t->seq_max;
		}
	}
}
