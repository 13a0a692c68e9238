/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a store that has been used before: the index is built from what lies on disk.
 * Start-up only, one thread, its own io.
 *
 *  [RC-1] Write buffers of a killed process are written to disk first, if they belong to this store and
 *         to the segment's present generation.
 *  [RC-2] Sealed segments are known by their tables, unsealed ones by walking their blocks (a torn one
 *         is stepped over), after which they are sealed.
 *  [RC-3] What ends other records (tombstones, drops, flushes) is collected from every segment before
 *         the first value is indexed.
 *  [RC-4] A value is indexed unless something with a higher seq ends it. Of two records of one key (a kill
 *         while one was written again, a power cut that took the tombstone between them) the newer
 *         stays, and the older is ended by a DROP record: else it would come to light when the newer is
 *         evicted.
 *  [RC-5] Nothing here is believed without its checksum, and every hit checks its record again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "base/xxh.h"
#include "valcached/store/store_int.h"

#define DEPTH      16u /* pages in flight */
#define READ_TRIES 2u  /* of what makes no sense: it may have been the read */
#define DROPPED    UINT64_MAX
#define SCAN_BYTES (WBUF_BYTES > DEPTH * FORMAT_ALIGN ? WBUF_BYTES : DEPTH * FORMAT_ALIGN)

/* ---- what ends records: hash -> highest seq ---------------------------------------------------- */

struct ends {
	struct end {
		uint64_t hash, seq;
		uint64_t loc; /* the first value that it ended; 0: none */
	} * slot;             /* seq 0: free */
	size_t cap, n;
	uint64_t flush; /* every record with a lower seq is ended */
};

static void ends_put(struct ends *t, uint64_t hash, uint64_t seq)
{
	size_t i;

	if (t->n * 2 >= t->cap) {
		struct ends big = {.cap = t->cap == 0 ? 1024 : t->cap * 2, .flush = t->flush};

		big.slot = calloc(big.cap, sizeof *big.slot);
		AN(big.slot != NULL);
		for (i = 0; i < t->cap; i++)
			if (t->slot[i].seq != 0)
				ends_put(&big, t->slot[i].hash, t->slot[i].seq);
		free(t->slot);
		*t = big;
	}
	for (i = hash & (t->cap - 1); t->slot[i].seq != 0; i = (i + 1) & (t->cap - 1))
		if (t->slot[i].hash == hash) {
			if (seq > t->slot[i].seq)
				t->slot[i].seq = seq;
			return;
		}
	t->slot[i].hash = hash;
	t->slot[i].seq = seq;
	t->n++;
}

static struct end *ends_get(const struct ends *t, uint64_t hash)
{
	if (t->n == 0)
		return NULL;
	for (size_t i = hash & (t->cap - 1); t->slot[i].seq != 0; i = (i + 1) & (t->cap - 1))
		if (t->slot[i].hash == hash)
			return &t->slot[i];
	return NULL;
}

/* ---- reading ----------------------------------------------------------------------------------- */

struct found {
	struct path *path;
	uint32_t seg;
	uint64_t generation;
	bool sealed;
	bool unwalked; /* attached: its entries are asked for later */
	bool redo;     /* attached: its recycling was begun */
	uint32_t entries, others, stream;
	uint64_t table_off, table_sum, data_bytes, age;
	struct format_entry *scanned; /* unsealed: what the walk found */
};

struct reading {
	struct store *s;
	struct io *io;
	uint8_t *mem; /* SCAN_BYTES + slack, aligned */
	struct ends ends;
	struct found *found;
	size_t n;
	uint64_t *doubts; /* hashes of keys that may be there twice */
	size_t ndoubts, doubts_cap;
	uint64_t seq_max, gen_max, torn, indexed, ended;
	uint8_t *dead; /* write buffers of a dead process, or NULL */
	size_t dead_len, ndead;
	bool
	    running; /* not at start: no memory of ours is given to an operation that may take too long */
	bool attached; /* to the index of the process before, which this boot has seen */
};

static int read_at(struct reading *r, struct path *p, void *buf, uint32_t len, uint64_t off)
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

static void note(struct reading *r, const struct format_entry *e)
{
	if (e->seq > r->seq_max)
		r->seq_max = e->seq;
	if (e->type == FORMAT_FLUSH) {
		if (e->seq > r->ends.flush)
			r->ends.flush = e->seq;
	} else if (e->type != FORMAT_VALUE) {
		ends_put(&r->ends, e->hash, e->seq);
	}
}

/* ---- RC-4: two records of one key --------------------------------------------------------------- */

/* Something with this tag is there already: the same key, or one in some thousand others. */
static void doubt(struct reading *r, uint64_t hash)
{
	struct index_probe probe;

	index_find(r->s->index, hash, &probe);
	if (probe.n == 0)
		return;
	if (r->ndoubts == r->doubts_cap) {
		r->doubts_cap = r->doubts_cap == 0 ? 256 : r->doubts_cap * 2;
		r->doubts = realloc(r->doubts, r->doubts_cap * sizeof *r->doubts);
		AN(r->doubts != NULL);
	}
	r->doubts[r->ndoubts++] = hash;
}

/* The head of the record at loc in mem; false: it is not sound, or of another key. */
static bool head_of(struct reading *r, uint64_t hash, uint64_t loc, struct format_record *rec)
{
	struct store *s = r->s;
	uint32_t seg, at, slop;
	struct path *p = loc_path(s, loc, &seg, &at);
	uint64_t off;

	if (p == NULL)
		return false;
	off = seg_offset(p, seg) + (uint64_t)at * FORMAT_UNIT;
	slop = (uint32_t)(off & (FORMAT_ALIGN - 1));
	for (unsigned tries = 0; tries < READ_TRIES; tries++)
		if (read_at(r, p, r->mem, 2 * FORMAT_ALIGN, off - slop) == 0 &&
		    record_check(r->mem + slop, 2 * FORMAT_ALIGN - slop, s->id_seed,
				 atomic_load(&p->seg[seg].generation), at, rec) == RECORD_GOOD)
			return rec->type == FORMAT_VALUE &&
			       XXH3_64bits_withSeed(r->mem + slop + sizeof *rec, rec->key_len,
						    s->hash_secret) == hash;
	return false;
}

/* Of several records of one key all but the newest are ended, so that none comes to light again. */
static void settle_doubts(struct reading *r)
{
	struct store *s = r->s;

	for (size_t i = 0; i < r->ndoubts; i++) {
		struct index_ref best = {0};
		struct format_record top = {0}, rec;
		struct index_probe probe;

		index_find(s->index, r->doubts[i], &probe);
		for (unsigned k = 0; k < probe.n; k++) {
			struct index_ref lower = probe.ref[k];

			if (!head_of(r, r->doubts[i], probe.ref[k].loc, &rec))
				continue;
			if (best.loc == 0 || rec.seq > top.seq ||
			    (rec.seq == top.seq && rec.generation > top.generation)) {
				lower = best;
				best = probe.ref[k];
				top = rec;
			}
			if (lower.loc != 0) {
				index_remove(s->index, r->doubts[i], lower.loc);
				drop_other(s, &lower);
				r->ended++;
			}
		}
	}
	r->ndoubts = 0;
}

/* ---- RC-1 -------------------------------------------------------------------------------------- */

/* Is it a buffer of this store, of a segment's present life, with places that make sense? */
static bool wbuf_good(const struct store *s, const struct wbuf_shm *h, const uint8_t *image)
{
	uint64_t generation = atomic_load_explicit(&h->generation, memory_order_acquire);
	uint32_t written = atomic_load(&h->written), committed = atomic_load(&h->committed);
	uint32_t published = atomic_load(&h->published);
	const uint8_t *first = image + written + FORMAT_BLOCK;
	struct format_record rec;
	const struct path *p;

	if (h->magic != WBUF_MAGIC || generation == 0 || memcmp(h->store_id, s->id, 16) != 0 ||
	    h->path >= s->npaths)
		return false;
	p = &s->path[h->path];
	return h->seg < p->nseg && h->ext_len <= WBUF_BYTES && h->ext_off <= s->seg_size &&
	       h->ext_off >= FORMAT_ALIGN && h->ext_len % FORMAT_ALIGN == 0 &&
	       h->ext_off + (uint64_t)h->ext_len <= s->seg_size && h->ext_off % FORMAT_ALIGN == 0 &&
	       h->block_off <= h->ext_len && h->block_off % FORMAT_ALIGN == 0 &&
	       written % FORMAT_ALIGN == 0 && written <= h->block_off && committed <= h->ext_len &&
	       committed % FORMAT_UNIT == 0 && published <= committed &&
	       published % FORMAT_UNIT == 0 &&
	       atomic_load(&p->seg[h->seg].generation) == generation && /* not recycled since */
	       /* what is to be written says itself where it belongs */
	       (committed <= written + FORMAT_BLOCK ||
		record_check(first, committed - written - FORMAT_BLOCK, s->id_seed, generation,
			     (h->ext_off + written + FORMAT_BLOCK) / FORMAT_UNIT,
			     &rec) == RECORD_GOOD);
}

/* [RC-1] Nothing that was answered is given up: if the disk does not take it, there is no start. */
static int replay_one(struct reading *r, const struct wbuf_shm *h, uint8_t *image, uint64_t *bytes,
		      char **cause)
{
	struct store *s = r->s;
	uint64_t generation = atomic_load_explicit(&h->generation, memory_order_acquire);
	uint32_t written = atomic_load(&h->written), committed = atomic_load(&h->committed), end;
	struct path *p = &s->path[h->path];
	struct io_op op = {0};
	struct format_block *b;

	end = h->block_off;
	if (committed > h->block_off + FORMAT_BLOCK) {
		/* the block that was being filled gets its header now */
		b = (struct format_block *)(void *)(image + h->block_off);
		end = (committed + FORMAT_ALIGN - 1) & ~(FORMAT_ALIGN - 1);
		if (end > h->ext_len)
			return 0;
		memset(image + committed, 0, end - committed);
		memset(b, 0, sizeof *b);
		b->magic = FORMAT_BLOCK_MAGIC;
		b->bytes = end - h->block_off;
		b->generation = generation;
		b->offset = h->ext_off + h->block_off;
		b->used = committed - h->block_off;
		block_seal(b, s->id_seed);
	}
	if (end <= written)
		return 0;
	for (unsigned tries = 0; tries < WRITE_TRIES; tries++) {
		io_write(r->io, &op, p->file, image + written, end - written,
			 seg_offset(p, h->seg) + h->ext_off + written, io_wait_done);
		if (io_wait(r->io, &op) >= 0)
			break;
	}
	if (op.res < 0) {
		if (asprintf(
			cause,
			"cannot write to %s what a killed process had left in its write buffers: %s: "
			"repair the device, or start empty with --restart=empty",
			p->file->info.path, strerror(-op.res)) < 0)
			*cause = NULL;
		return op.res;
	}
	*bytes += end - written;
	return 0;
}

/*
 * [AT-3] Finishes what the dead process had appended and not yet published, when all images are on disk.
 */
static void redo_one(struct reading *r, const struct wbuf_shm *h, const uint8_t *image, bool *flush)
{
	struct store *s = r->s;
	uint64_t generation = atomic_load_explicit(&h->generation, memory_order_acquire);
	uint32_t at = atomic_load(&h->published), committed = atomic_load(&h->committed);
	struct format_record rec;

	/* a block is begun only when everything in those before it has been published */
	if (at < h->block_off + FORMAT_BLOCK)
		at = h->block_off + FORMAT_BLOCK;
	for (; at < committed && record_check(image + at, committed - at, s->id_seed, generation,
					      (h->ext_off + at) / FORMAT_UNIT, &rec) == RECORD_GOOD;
	     at += record_units(rec.value_off, rec.value_len) * FORMAT_UNIT) {
		uint64_t loc = loc_of(&s->path[h->path], h->seg, (h->ext_off + at) / FORMAT_UNIT);
		uint64_t hash =
		    XXH3_64bits_withSeed(image + at + sizeof rec, rec.key_len, s->hash_secret);
		uint32_t units = record_units(rec.value_off, rec.value_len);
		struct index_ref ref;

		if (rec.type == FORMAT_FLUSH)
			*flush = true;
		else if (rec.type == FORMAT_TOMBSTONE)
			index_remove(s->index, hash, rec.content[0]);
		else if (rec.type == FORMAT_VALUE && !index_get(s->index, hash, loc, &ref)) {
			doubt(r, hash);
			index_insert(s->index, hash, loc, units, 0, &ref);
			if (ref.loc != 0)
				drop_later(s, &ref);
		}
	}
}

/*
 * [AT-6] A long value whose first page got to the disk, which is written last, is whole; it gets its slot
 * like one of a write buffer.
 */
static void redo_large(struct reading *r, const struct large_set *l)
{
	struct store *s = r->s;
	uint32_t seg = l->seg, off = l->ext_off;
	const struct path *p = l->path < s->npaths ? &s->path[l->path] : NULL;
	struct format_record rec;
	struct format_block b;
	struct index_ref ref;
	uint64_t generation, hash, loc;

	if (p == NULL || seg >= p->nseg || off % FORMAT_ALIGN != 0 || off < FORMAT_ALIGN ||
	    off > s->seg_size - 2 * FORMAT_ALIGN)
		return;
	generation = atomic_load(&p->seg[seg].generation);
	for (size_t i = 0; i < r->n; i++)
		if (r->found[i].path == p && r->found[i].seg == seg && !r->found[i].unwalked)
			return;
	if (read_at(r, &s->path[l->path], r->mem, FORMAT_ALIGN, seg_offset(p, seg) + off) < 0)
		return;
	memcpy(&b, r->mem, sizeof b);
	if (!block_good(&b, s->id_seed, generation, off, s->seg_size - off) ||
	    record_check(r->mem + FORMAT_BLOCK, FORMAT_ALIGN - FORMAT_BLOCK, s->id_seed, generation,
			 (off + FORMAT_BLOCK) / FORMAT_UNIT, &rec) != RECORD_GOOD ||
	    rec.type != FORMAT_VALUE || rec.seq != l->seq) /* a torn one's, at the same place */
		return;
	hash =
	    XXH3_64bits_withSeed(r->mem + FORMAT_BLOCK + sizeof rec, rec.key_len, s->hash_secret);
	loc = loc_of(p, seg, (off + FORMAT_BLOCK) / FORMAT_UNIT);
	if (rec.seq < atomic_load(&s->live->flushed) || index_get(s->index, hash, loc, &ref))
		return;
	doubt(r, hash);
	index_insert(s->index, hash, loc, record_units(rec.value_off, rec.value_len), 0, &ref);
	if (ref.loc != 0)
		drop_later(s, &ref);
}

/* Write buffer i of a process that is dead. */
static const struct wbuf_shm *dead_wbuf(const struct reading *r, size_t i, uint8_t **image)
{
	*image = r->dead + r->ndead * FORMAT_ALIGN + i * WBUF_BYTES;
	return (const struct wbuf_shm *)(const void *)(r->dead + i * FORMAT_ALIGN);
}

/* The old file of write buffers, if there is one, then the new one takes its name. */
static int replay(struct reading *r, char **cause)
{
	struct store *s = r->s;
	char tmp[sizeof s->shm_wbuf + 8];
	uint64_t bytes = 0;
	bool flush = false;
	int res;

	if (r->dead != NULL) {
		for (unsigned redo = 0; redo < (r->attached ? 2u : 1u); redo++)
			for (size_t i = 0; i < r->ndead; i++) {
				uint8_t *image;
				const struct wbuf_shm *h = dead_wbuf(r, i, &image);

				if (!wbuf_good(s, h, image))
					continue;
				res = 0;
				if (redo)
					redo_one(r, h, image, &flush);
				else
					res = replay_one(r, h, image, &bytes, cause);
				if (res < 0)
					return res;
			}
		for (unsigned i = 0; r->attached && i < LARGE_SETS_MAX; i++) {
			if (atomic_load(&s->large[i].state) != 0)
				redo_large(r, &s->large[i]);
			atomic_store(&s->large[i].state, 0);
		}
		/* also what it had written and not synced: it was answered a while ago */
		for (unsigned i = 0; i < s->npaths; i++) {
			struct io_op op = {0};

			io_sync(r->io, &op, s->path[i].file, io_wait_done);
			if (io_wait(r->io, &op) < 0) {
				if (asprintf(cause, "cannot sync %s: %s",
					     s->path[i].file->info.path, strerror(-op.res)) < 0)
					*cause = NULL;
				return op.res;
			}
		}
		if (flush)
			index_clear(s->index);
		else
			settle_doubts(r);
		if (bytes > 0)
			log_info("store: wrote %" PRIu64
				 " KiB that a killed process had left in its write buffers",
				 bytes >> 10);
	}
	snprintf(tmp, sizeof tmp, "%s.new", s->shm_wbuf);
	if (rename(tmp, s->shm_wbuf) < 0) {
		int err = errno;

		if (asprintf(cause, "cannot rename %s: %s", tmp, strerror(err)) < 0)
			*cause = NULL;
		return -err;
	}
	s->replayed = true;
	return 0;
}

/* ---- RC-2 -------------------------------------------------------------------------------------- */

static int read_headers(struct reading *r, struct path *p, char **cause)
{
	struct store *s = r->s;
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
			const struct format_segment *h =
			    (const struct format_segment *)(const void *)(r->mem +
									  i * FORMAT_ALIGN);

			/* what was never written is zeros; else a read may have gone wrong */
			if (!segment_good(h, s->id_seed, s->id, first + i) &&
			    ((h->magic == 0 && h->generation == 0) ||
			     read_at(r, p, r->mem + i * FORMAT_ALIGN, FORMAT_ALIGN,
				     seg_offset(p, first + i)) < 0 ||
			     !segment_good(h, s->id_seed, s->id, first + i)))
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
	uint32_t at = FORMAT_BLOCK;
	bool whole = true;

	while (at + sizeof(struct format_record) <= used) {
		struct format_record rec;
		struct format_entry e;
		uint32_t units;

		if (record_check(block + at, used - at, s->id_seed, f->generation,
				 (off + at) / FORMAT_UNIT, &rec) != RECORD_GOOD) {
			r->torn++;
			return false;
		}
		units = record_units(rec.value_off, rec.value_len);
		if (rec.type == FORMAT_VALUE && !value_arrived(r, f, &rec, block + at, used - at)) {
			r->torn++;
			whole = false;
			at += units * FORMAT_UNIT;
			continue;
		}
		e = (struct format_entry){.seq = rec.seq,
					  .units_at = (off + at) / FORMAT_UNIT,
					  .units = units & 0xffffffu,
					  .type = rec.type};
		if (rec.type == FORMAT_DROP)
			e.hash = drop_hash(rec.content[0], rec.content[1]);
		else if (rec.key_len > 0)
			e.hash = XXH3_64bits_withSeed(block + at + sizeof rec, rec.key_len,
						      s->hash_secret);
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
 * An unsealed segment: block headers may be at every multiple of 4096. A block may be longer than
 * what is in memory (a long value): its one record's head is in its first page.
 */
static void scan(struct reading *r, struct found *f)
{
	struct store *s = r->s;
	struct path *p = f->path;
	uint32_t off = FORMAT_ALIGN, have_from = 0, have_to = 0, cap = 0, again = 0;

	while (off + FORMAT_ALIGN <= s->seg_size - FORMAT_ALIGN) {
		uint64_t torn = r->torn, data = f->data_bytes;
		uint32_t want = WBUF_BYTES, n, entries = f->entries;
		struct format_block b;

		if (off < have_from || off + FORMAT_ALIGN > have_to) {
			n = (uint32_t)(s->seg_size - off < want ? s->seg_size - off : want);
			if (read_at(r, p, r->mem, n, seg_offset(p, f->seg) + off) < 0 &&
			    (again == off ||
			     read_at(r, p, r->mem, n, seg_offset(p, f->seg) + off) < 0)) {
				r->torn++;
				off += FORMAT_ALIGN;
				continue;
			}
			have_from = off;
			have_to = off + n;
		}
		memcpy(&b, r->mem + (off - have_from), sizeof b);
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
		 * block may have been given to others since, in the same generation, for an empty segment
		 * is used again as it is, and so is the extent of a long set that was given up.
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
}

static void read_footers(struct reading *r)
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
			if (t->seq_max > r->seq_max)
				r->seq_max = t->seq_max;
		}
	}
}

/* The table of a sealed segment; NULL if it is damaged (then its blocks are walked). */
static struct format_entry *load_table(struct reading *r, struct found *f)
{
	struct store *s = r->s;
	uint64_t bytes = table_bytes(f->entries);
	struct format_footer t = {
	    .entries = f->entries, .table_off = f->table_off, .table_sum = f->table_sum};
	uint8_t *mem;

	if (posix_memalign((void **)&mem, FORMAT_ALIGN, bytes > 0 ? bytes : FORMAT_ALIGN) != 0)
		return NULL;
	if ((bytes > 0 && read_at(r, f->path, mem, (uint32_t)bytes,
				  seg_offset(f->path, f->seg) + f->table_off) < 0) ||
	    !table_good(&t, (struct format_entry *)(void *)mem, s->id_seed)) {
		free(mem);
		return NULL;
	}
	return (struct format_entry *)(void *)mem;
}

/* ---- indexing ---------------------------------------------------------------------------------- */

/*
 * A tombstone ends this value. It goes when the one place that it names is gone [F-6]; if there are
 * more of the key (a record that was being written again when the power went), each gets a DROP [RC-4].
 */
static void ended(struct reading *r, struct end *end, uint64_t loc)
{
	struct index_ref ref = {.loc = loc}, first = {.loc = end->loc};

	r->ended++;
	if (end->loc == 0) {
		end->loc = loc;
		return;
	}
	if (first.loc != DROPPED)
		drop_other(r->s, &first);
	drop_other(r->s, &ref);
	end->loc = DROPPED;
}

static void index_values(struct reading *r, const struct found *f, const struct format_entry *e)
{
	struct store *s = r->s;

	for (uint32_t i = 0; i < f->entries; i++) {
		uint64_t loc = loc_of(f->path, f->seg, e[i].units_at);
		struct end *end;

		if (i + 8 < f->entries)
			index_prefetch(s->index, e[i + 8].hash);
		if (e[i].type != FORMAT_VALUE)
			continue;
		end = ends_get(&r->ends, e[i].hash);
		if (e[i].seq < r->ends.flush ||
		    ends_get(&r->ends, drop_hash(loc, f->generation)) != NULL) {
			r->ended++;
			continue;
		}
		if (end != NULL && end->seq > e[i].seq) {
			ended(r, end, loc);
			continue;
		}
		doubt(r, e[i].hash);
		/*
		 * The newest come first. One for which there is no room goes itself: to throw out a newer one
		 * could bring an older record of that one's key to light.
		 */
		if (index_add(s->index, e[i].hash, loc, e[i].units, 0))
			r->indexed++;
		else
			drop_other(s, &(struct index_ref){.loc = loc});
	}
}

static int newest_first(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return x->generation > y->generation ? -1 : x->generation < y->generation;
}

static int youngest_first(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return x->age > y->age ? -1 : x->age < y->age;
}

static struct live_seg *live_of(const struct found *f)
{
	return seg_live(f->path, f->seg);
}

/* Sets a recovered segment's state, and its place in the order of age (called oldest first). */
static void adopt(struct reading *r, struct found *f, uint64_t age)
{
	struct path *p = f->path;
	struct segment *g = &p->seg[f->seg];
	struct live_seg *l = live_of(f);

	g->used =
	    FORMAT_ALIGN + (uint32_t)f->data_bytes; /* about: what it holds, not where it ends */
	if (!f->sealed && !f->unwalked && f->entries == 0) {
		atomic_store(&g->state, SEG_CLEAN);
		p->clean[p->nclean++] = f->seg;
		return;
	}
	g->data_bytes = f->data_bytes;
	g->stream = (uint8_t)f->stream;
	g->unwalked = f->unwalked;
	atomic_store(&g->state, f->sealed ? SEG_SEALED : SEG_FULL);
	if (r->attached) {
		/* a small number is one that the start before gave */
		g->opened_ns = f->age >= NS_PER_S ? f->age : 0;
	} else {
		l->opened_ns = age;
		l->stream = f->stream;
		atomic_store(&l->begun, 0);
		atomic_store(&l->opened, f->generation);
	}
	if (!f->sealed) {
		/* the slow worker writes its table */
		g->entries = f->scanned;
		g->entries_cap = g->nentries = f->entries;
		f->scanned = NULL;
	}
	segment_add_order(p, f->redo ? STREAM_MAIN : f->stream, f->seg);
	p->redo += f->redo;
}

/* ---- the first layer: shared memory ------------------------------------------------------------ */

/* [AT-2] What the segments' headers and footers say against what shared memory says of them. */
static const char *segments_gate(struct reading *r)
{
	const struct store *s = r->s;

	if (r->gen_max >= atomic_load(&s->live->generation))
		return "generation counter";
	if (r->seq_max >= atomic_load(&s->live->seq))
		return "sequence counter";
	/* what they hold has slots in the index: to lose one is to lose its segment */
	if (r->dead == NULL && atomic_load(&s->live->clean) != 1)
		return "existence of the write buffers";
	for (size_t i = 0; i < r->ndead; i++) {
		uint8_t *image;
		const struct wbuf_shm *h = dead_wbuf(r, i, &image);

		if (h->magic != WBUF_MAGIC ||
		    (atomic_load(&h->generation) != 0 && !wbuf_good(s, h, image)))
			return "write buffers";
	}
	for (size_t i = 0; i < r->n; i++)
		if (r->found[i].sealed &&
		    atomic_load(&live_of(&r->found[i])->opened) != r->found[i].generation)
			return "segment generations";
	return NULL;
}

/* Takes the segments as shared memory knows them, and drops slots that lead to none of them. */
static int take_segments(struct reading *r, uint64_t *dropped)
{
	struct store *s = r->s;
	const struct path *last = &s->path[s->npaths - 1];
	unsigned shift = s->seg_shift - (unsigned)__builtin_ctz(FORMAT_UNIT);
	uint64_t n = (last->unit_base >> shift) + last->nseg + 1;
	uint8_t *keep = calloc(n, 1);

	if (keep == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < r->n; i++) {
		struct found *f = &r->found[i];
		const struct live_seg *l = live_of(f);

		f->age = l->opened_ns;
		f->redo = f->sealed && atomic_load(&l->begun) == f->generation; /* [AT-5] */
		if (!f->sealed && atomic_load(&l->opened) == f->generation) {   /* [AT-4] */
			f->unwalked = true;
			f->stream = l->stream < STREAMS ? l->stream : STREAM_MAIN;
		}
		keep[(f->path->unit_base >> shift) + f->seg + 1] = f->sealed || f->unwalked;
	}
	/* [AT-8] a header that is damaged, or could not be read today */
	for (unsigned i = 0; i < s->npaths; i++)
		for (uint32_t k = 0; k < s->path[i].nseg; k++)
			if (atomic_load(&s->path[i].seg[k].generation) == 0 &&
			    atomic_load(&seg_live(&s->path[i], k)->opened) != 0)
				atomic_store(&s->live->doubt, 1);
	*dropped = index_retain(s->index, keep, n, shift);
	free(keep);
	qsort(r->found, r->n, sizeof *r->found, youngest_first);
	return 0;
}

/* True: attached. The log says why not, once. */
static bool attach(struct reading *r)
{
	struct store *s = r->s;
	uint64_t torn = 0, dropped = 0;
	const char *why = live_attach(s, &torn);
	struct index_stats ix;

	if (why == NULL) {
		why = segments_gate(r);
		if (why == NULL && take_segments(r, &dropped) < 0)
			why = "memory";
		if (why != NULL)
			live_close(s);
	}
	if (why != NULL) {
		if (r->n > 0)
			log_info("restart: from disk: shared memory does not pass the gate: %s",
				 why);
		return false;
	}
	index_stats(s->index, &ix);
	log_info("restart: from shared memory: %" PRIu64 " items; %" PRIu64
		 " torn lines repaired, %" PRIu64 " slots of recycled segments dropped",
		 ix.items, torn, dropped);
	return true;
}

void recover_walk(struct store_worker *sw, struct path *p, uint32_t seg)
{
	struct store *s = sw->s;
	struct segment *g = &p->seg[seg];
	struct reading r = {
	    .s = s,
	    .io = sw->io,
	    .running = true,
	};
	struct found f = {.path = p, .seg = seg, .generation = atomic_load(&g->generation)};

	A(g->nentries == 0);
	if (posix_memalign((void **)&r.mem, FORMAT_ALIGN, SCAN_BYTES + FORMAT_ALIGN) != 0)
		A(false); /* a megabyte */
	scan(&r, &f);
	g->ragged = r.torn > 0; /* the index may know more, and it can be read */
	pthread_mutex_lock(&p->lock);
	g->used = FORMAT_ALIGN + (uint32_t)f.data_bytes;
	g->entries = f.scanned;
	g->entries_cap = g->nentries = f.entries;
	g->unwalked = false;
	pthread_mutex_unlock(&p->lock);
	free(r.mem);
}

/* ---- the second: the disk ---------------------------------------------------------------------- */

static void from_tables(struct reading *r)
{
	/* [RC-3]: unsealed ones are walked whole; of tables only those that hold such records */
	for (size_t i = 0; i < r->n; i++) {
		struct found *f = &r->found[i];
		struct format_entry *e = NULL;

		if (f->sealed && f->others == 0)
			continue;
		if (f->sealed) {
			e = load_table(r, f);
			if (e == NULL) {
				f->sealed = false;
				f->entries = 0;
				f->data_bytes = 0;
			}
		}
		if (!f->sealed)
			scan(r, f);
		for (uint32_t k = 0; k < f->entries; k++)
			note(r, e != NULL ? &e[k] : &f->scanned[k]);
		free(e);
	}
	for (size_t i = 0; i < r->n; i++) {
		struct found *f = &r->found[i];

		if (f->sealed) {
			struct format_entry *e = load_table(r, f);

			if (e == NULL) {
				f->sealed = false;
				f->entries = 0;
				f->data_bytes = 0;
				scan(r, f);
				for (uint32_t k = 0; k < f->entries; k++)
					note(r, &f->scanned[k]);
				index_values(r, f, f->scanned);
			} else {
				index_values(r, f, e);
			}
			free(e);
		} else {
			index_values(r, f, f->scanned);
		}
	}
	settle_doubts(r);
	atomic_store(&r->s->live->seq, r->seq_max + 1);
	atomic_store(&r->s->live->generation, r->gen_max + 1);
}

int recover(struct store *s, struct io *io, char **cause)
{
	struct reading r = {.s = s, .io = io};
	uint64_t began = clock_ns();
	size_t all = 0, sealed = 0, unsealed = 0;
	bool full = true;
	int res;

	for (unsigned i = 0; i < s->npaths; i++)
		all += s->path[i].nseg;
	AN(all);
	r.found = calloc(all, sizeof *r.found);
	if (r.found == NULL ||
	    posix_memalign((void **)&r.mem, FORMAT_ALIGN, SCAN_BYTES + FORMAT_ALIGN) != 0) {
		free(r.found);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < s->npaths; i++) {
		res = s->cfg.fresh ? 0 : read_headers(&r, &s->path[i], cause);
		if (res < 0)
			goto out;
	}
	res = paths_forget_outdated(s, io, r.gen_max, cause);
	if (res < 0)
		goto out;
	for (unsigned i = 0; i < s->npaths; i++)
		for (uint32_t k = 0; k < s->path[i].nseg; k++) {
			uint64_t g = atomic_load(&s->path[i].seg[k].generation);

			if (g == 0) {
				s->path[i].virgins++;
				continue;
			}
			r.found[r.n++] =
			    (struct found){.path = &s->path[i], .seg = k, .generation = g};
		}
	qsort(r.found, r.n, sizeof *r.found, newest_first);
	read_footers(&r);
	if (!s->cfg.fresh)
		r.dead = shm_attach(s->shm_wbuf, &r.dead_len);
	if (r.dead != NULL)
		r.ndead = r.dead_len / (FORMAT_ALIGN + WBUF_BYTES);
	r.attached = attach(&r);
	if (!r.attached) {
		res = live_make(s, cause);
		if (res < 0)
			goto out;
	}
	res = replay(&r, cause);
	if (res < 0)
		goto out;
	if (!r.attached)
		from_tables(&r);
	/* what is recycled first lies in front of main's order */
	for (int redo = 1; redo >= 0; redo--)
		for (size_t i = r.n; i-- > 0;)
			if (r.found[i].redo == (redo == 1))
				adopt(&r, &r.found[i], r.n - i);
	for (unsigned i = 0; i < s->npaths; i++)
		full = full && s->path[i].virgins == 0;
	for (size_t i = 0; i < r.n; i++) {
		sealed += r.found[i].sealed;
		unsealed += !r.found[i].sealed && (r.found[i].unwalked || r.found[i].entries > 0);
	}
	atomic_store(&s->full, full);
	A(atomic_load(&s->live->owed) == s->ndrops); /* [AT-8] */
	s->layer = r.attached ? "shm" : r.n > 0 ? "disk" : "empty";
	atomic_store(&s->live->complete, 1);
	atomic_store(&s->recovered, r.indexed);
	atomic_store(&s->recover_ns, clock_ns() - began);
	if (!r.attached)
		log_info("store: %" PRIu64
			 " values from %zu sealed and %zu unsealed segments in %.3f s%s",
			 r.indexed, sealed, unsealed, (double)(clock_ns() - began) / 1e9,
			 r.torn > 0 ? "; torn blocks were stepped over" : "");
	res = 0;
out:
	for (size_t i = 0; i < r.n; i++)
		free(r.found[i].scanned);
	if (r.dead != NULL)
		munmap(r.dead, r.dead_len);
	free(r.found);
	free(r.mem);
	free(r.ends.slot);
	free(r.doubts);
	return res;
}
