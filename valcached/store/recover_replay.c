/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery: write buffers of a killed process, and what it had appended and not yet published.
 * [RC-1], [AT-3], [AT-6]
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/xxh.h"
#include "valcached/store/recover_int.h"

/* Is it a buffer of this store, of a segment's present life, with places that make sense? */
bool wbuf_good(const struct store *s, const struct wbuf_shm *h, const uint8_t *image)
{
	uint64_t generation = atomic_load_explicit(&h->generation, memory_order_acquire);
	uint32_t written = atomic_load(&h->written), committed = atomic_load(&h->committed);
	uint32_t published = atomic_load(&h->published);
	const uint8_t *first = image + written + FORMAT_BLOCK;
	struct format_record rec;
	const struct path *p;

	if (h->magic != WBUF_MAGIC || generation == 0 ||
	    memcmp(h->store_id, s->store_id, 16) != 0 || h->path >= s->npaths)
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

/* Are the records there, and whole, that lie between two places of an image? */
static bool records_whole(const struct store *s, const struct wbuf_shm *h, const uint8_t *image,
			  uint32_t at, uint32_t end)
{
	uint64_t generation = atomic_load_explicit(&h->generation, memory_order_acquire);
	struct format_record rec;

	for (; at < end; at += record_units(rec.value_off, rec.value_len) * FORMAT_UNIT) {
		const uint8_t *head = image + at;

		if (record_check(head, end - at, s->id_seed, generation,
				 (h->ext_off + at) / FORMAT_UNIT, &rec) != RECORD_GOOD)
			return false;
		if (rec.type == FORMAT_VALUE &&
		    ((uint64_t)rec.value_off + rec.value_len > end - at ||
		     !record_value_good(head, &rec, 0, head + rec.value_off, rec.value_len)))
			return false;
	}
	return true;
}

/* Of a good buffer all that is not known to be on disk: the blocks that are complete, and the one that is filled. */
static bool image_whole(const struct store *s, const struct wbuf_shm *h, const uint8_t *image)
{
	uint64_t generation = atomic_load_explicit(&h->generation, memory_order_acquire);
	uint32_t at = atomic_load(&h->written);

	while (at < h->block_off) {
		const struct format_block *b =
		    (const struct format_block *)(const void *)(image + at);

		if (!block_good(b, s->id_seed, generation, h->ext_off + at, h->block_off - at) ||
		    !records_whole(s, h, image, at + FORMAT_BLOCK, at + b->used))
			return false;
		at += b->bytes;
	}
	return records_whole(s, h, image, at + FORMAT_BLOCK, atomic_load(&h->committed));
}

const char *wbufs_fault(const struct reading *r)
{
	if (r->dead == NULL)
		return "gone";
	if (r->ndead == 0 || r->dead_len % (FORMAT_ALIGN + WBUF_BYTES) != 0)
		return "cut";
	for (size_t i = 0; i < r->ndead; i++) {
		uint8_t *image;
		const struct wbuf_shm *h = dead_wbuf(r, i, &image);

		if (h->magic != WBUF_MAGIC || memcmp(h->store_id, r->s->store_id, 16) != 0)
			return "damaged";
		if (h->buffers != r->ndead)
			return "cut";
		if (atomic_load(&h->generation) != 0 &&
		    (!wbuf_good(r->s, h, image) || !image_whole(r->s, h, image)))
			return "damaged";
	}
	return NULL;
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

static void redo_value(struct reading *r, uint64_t hash, uint64_t loc, uint32_t units,
		       const struct format_record *rec)
{
	struct store *s = r->s;
	const struct doubt d = {.hash = hash,
				.seq = rec->seq,
				.loc = loc,
				.generation = rec->generation,
				.units = units};

	switch (index_add_new(s->index, hash, loc, units, 0)) {
	case INDEX_ADDED:
		index_added(s->index, 1);
		break;
	case INDEX_LIKE:
		doubts_add(&r->doubts, &d);
		break;
	case INDEX_FULL: /* nobody was told that it is there */
		drop_other(s, &(struct index_ref){.loc = loc});
		break;
	}
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
			index_remove(s->index, hash, s->path[h->path].unit_base + rec.content[0]);
		else if (rec.type == FORMAT_VALUE && !index_get(s->index, hash, loc, &ref))
			redo_value(r, hash, loc, units, &rec);
	}
}

/*
 * [AT-6] A long value that was being received, and whose head is on disk: if it has no slot it is ended, since
 * nobody was answered. A start from the disk would find it, also after a delete that has found nothing. The place
 * may still name the extent of the set before: then this is done in vain. A head that cannot be read is taken for
 * one: another start may be able to read it.
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
	int res = -EIO;

	if (p == NULL || seg >= p->nseg || off % FORMAT_ALIGN != 0 || off < FORMAT_ALIGN ||
	    off > s->seg_size - 2 * FORMAT_ALIGN)
		return;
	generation = atomic_load(&p->seg[seg].generation);
	for (size_t i = 0; i < r->n; i++)
		if (r->found[i].path == p && r->found[i].seg == seg && !r->found[i].unwalked)
			return;
	for (unsigned tries = 0; res < 0 && tries < READ_TRIES; tries++)
		res = read_at(r, &s->path[l->path], r->mem, FORMAT_ALIGN, seg_offset(p, seg) + off);
	loc = loc_of(p, seg, (off + FORMAT_BLOCK) / FORMAT_UNIT);
	if (res < 0) {
		tell_gone(s, STORE_GONE_SEGMENT, 0, loc_of(p, seg, 0));
		(void)index_remove_range(s->index, loc, loc + 1);
		drop_other(s, &(struct index_ref){.loc = loc});
		return;
	}
	memcpy(&b, r->mem, sizeof b);
	if (!block_good(&b, s->id_seed, generation, off, s->seg_size - off) ||
	    record_check(r->mem + FORMAT_BLOCK, FORMAT_ALIGN - FORMAT_BLOCK, s->id_seed, generation,
			 (off + FORMAT_BLOCK) / FORMAT_UNIT, &rec) != RECORD_GOOD ||
	    rec.type != FORMAT_VALUE)
		return;
	hash =
	    XXH3_64bits_withSeed(r->mem + FORMAT_BLOCK + sizeof rec, rec.key_len, s->hash_secret);
	if (!index_get(s->index, hash, loc, &ref))
		drop_other(s, &(struct index_ref){.loc = loc});
}

/* Write buffer i of a process that is dead. */
const struct wbuf_shm *dead_wbuf(const struct reading *r, size_t i, uint8_t **image)
{
	*image = r->dead + r->ndead * FORMAT_ALIGN + i * WBUF_BYTES;
	return (const struct wbuf_shm *)(const void *)(r->dead + i * FORMAT_ALIGN);
}

/* The old file of write buffers, if there is one, then the new one takes its name. */
int replay(struct reading *r, char **cause)
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
		while (!flush && !doubts_settle(s, r->io, NULL, &r->doubts))
			;
		if (bytes > 0)
			log_info("store: wrote %" PRIu64
				 " KiB that a killed process had left in its write buffers",
				 bytes >> 10);
	}
	if (s->wbuf_mem == NULL) {
		/* no room for both files; all that the old one held is on disk, and in an index that was attached */
		if (r->attached)
			atomic_store(&s->live->clean, 1);
		if (r->dead != NULL)
			shm_unmap(r->dead, r->dead_len);
		r->dead = NULL;
		r->ndead = 0;
		shm_remove(s->shm_wbuf);
		res = wbufs_make(s, cause);
		if (res < 0)
			return res;
		log_info(
		    "store: %s had no room for new write buffers beside those of a killed process",
		    s->cfg.shm_dir);
	}
	snprintf(tmp, sizeof tmp, "%s.new", s->shm_wbuf);
	res = shm_rename(tmp, s->shm_wbuf);
	if (res < 0) {
		if (asprintf(cause, "cannot rename %s: %s", tmp, strerror(-res)) < 0)
			*cause = NULL;
		return res;
	}
	s->replayed = true;
	return 0;
}
