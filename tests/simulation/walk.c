/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the simulated disks by itself, block by block, with no more of the store than the checks of
 * single headers, and compares with what the index says after a start:
 *
 *  [K-1] of each key the newest record that nothing ends is in the index, unless the hook named it; of
 *        copies with one seq (a kill while it was written again) any, and no other;
 *  [K-2] each slot of the index leads to such a record;
 *  [K-3] what a table lists is there, and where it says.
 *
 * Silent damage (a lost, misdirected or flipped write) ends the comparison for its schedule: then only
 * bytes are checked.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/xxh.h"
#include "tests/simulation/simulation.h"

struct rec {
	uint64_t hash, seq, loc, place, generation;
	uint8_t type;
};

/* A place at which a key may be; of places with the same number one is in the index. */
struct lives {
	uint64_t loc;
	size_t key;
};

struct walk {
	struct world *w;
	struct rec *rec;
	size_t n, cap;
	uint64_t flush;
};

static unsigned key_at(const uint8_t *mem, const struct format_record *r)
{
	return key_of((const char *)mem + sizeof *r, r->key_len);
}

static void take(struct walk *v, const struct path *p, uint32_t seg, const uint8_t *mem,
		 const struct format_record *r)
{
	struct rec *x;

	if (v->n == v->cap) {
		v->cap = v->cap == 0 ? 1024 : v->cap * 2;
		v->rec = realloc(v->rec, v->cap * sizeof *v->rec);
		AN(v->rec != NULL);
	}
	x = &v->rec[v->n++];
	*x = (struct rec){.seq = r->seq,
			  .loc = loc_of(p, seg, r->units_at),
			  .place = place_on(p, loc_of(p, seg, r->units_at)),
			  .generation = r->generation,
			  .type = r->type};
	if (r->type == FORMAT_DROP) {
		x->hash = drop_hash(r->content[0], r->content[1]);
	} else if (r->type == FORMAT_FLUSH) {
		v->flush = r->seq > v->flush ? r->seq : v->flush;
	} else {
		x->hash = XXH3_64bits_withSeed(mem + sizeof *r, r->key_len, v->w->s->hash_secret);
	}
}

static bool value_whole(const uint8_t *at, const struct format_record *r, const uint8_t *end)
{
	const uint8_t *value = at + r->value_off;

	return value + r->value_len <= end && record_value_good(at, r, 0, value, r->value_len);
}

static int by_place(const void *a, const void *b)
{
	const struct format_entry *x = a, *y = b;

	return x->units_at < y->units_at ? -1 : x->units_at > y->units_at;
}

static void walk_segment(struct walk *v, struct path *p, uint32_t seg)
{
	struct store *s = v->w->s;
	const uint8_t *mem = sim_disk_bytes(v->w->env, v->w->path[p->index]) + seg_offset(p, seg);
	const struct format_segment *h = (const struct format_segment *)(const void *)mem;
	const struct format_footer *f =
	    (const struct format_footer *)(const void *)(mem + SIM_SEG - FORMAT_ALIGN);
	uint64_t gen = atomic_load(&p->seg[seg].generation);
	struct format_entry *e = NULL;
	bool *met = NULL; /* of its table's entries; blocks of a torn one's place may overlap */
	uint32_t listed = 0;

	if (gen == 0)
		return;
	if (!segment_good(h, s->id_seed, s->id, seg) || h->generation != gen)
		violation("path %u segment %u: the header on disk is not of generation %" PRIu64,
			  p->index, seg, gen);
	if (footer_good(f, s->id_seed, gen, SIM_SEG) &&
	    table_good(f, (const struct format_entry *)(const void *)(mem + f->table_off),
		       s->id_seed)) {
		e = malloc((f->entries + 1) * sizeof *e);
		met = calloc(f->entries + 1, sizeof *met);
		AN(e != NULL && met != NULL);
		memcpy(e, mem + f->table_off, f->entries * sizeof *e);
		qsort(e, f->entries, sizeof *e, by_place);
	}
	for (uint32_t off = FORMAT_ALIGN; off + FORMAT_ALIGN <= SIM_SEG - FORMAT_ALIGN;) {
		struct format_block b;
		uint32_t at = FORMAT_BLOCK;
		bool whole = true;

		memcpy(&b, mem + off, sizeof b);
		if (!block_good(&b, s->id_seed, gen, off, SIM_SEG - off)) {
			off += FORMAT_ALIGN;
			continue;
		}
		while (at + sizeof(struct format_record) <= b.used) {
			struct format_record r;
			struct format_entry key;

			if (record_check(mem + off + at, b.used - at, s->id_seed, gen,
					 (off + at) / FORMAT_UNIT, &r) != RECORD_GOOD) {
				whole = false;
				break;
			}
			key.units_at = r.units_at;
			if (e != NULL) {
				const struct format_entry *have =
				    bsearch(&key, e, f->entries, sizeof *e, by_place);

				if (have != NULL && have->seq == r.seq && have->type == r.type) {
					listed += !met[have - e];
					met[have - e] = true;
					take(v, p, seg, mem + off + at, &r);
				} else {
					/* torn by a power cut; its place was given out again */
					whole = false;
				}
			} else if (r.type != FORMAT_VALUE ||
				   value_whole(mem + off + at, &r, mem + SIM_SEG)) {
				take(v, p, seg, mem + off + at, &r);
			} else {
				whole = false;
			}
			at += record_units(r.value_off, r.value_len) * FORMAT_UNIT;
		}
		off += whole ? b.bytes : FORMAT_ALIGN;
	}
	for (uint32_t i = 0; e != NULL && listed != f->entries && i < f->entries; i++)
		fprintf(stderr, "    its table: type %u seq %" PRIu64 " at unit %u, %u units\n",
			e[i].type, e[i].seq, e[i].units_at, e[i].units);
	if (e != NULL && listed != f->entries)
		violation(
		    "path %u segment %u: its table lists %u records, of which %u are there", // [K-3]
		    p->index, seg, f->entries, listed);
	free(met);
	free(e);
}

static int newest_of_key(const void *a, const void *b)
{
	const struct rec *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	if (x->seq != y->seq)
		return x->seq > y->seq ? -1 : 1;
	return x->generation > y->generation ? -1 : x->generation < y->generation;
}

static int by_loc(const void *a, const void *b)
{
	const struct lives *x = a, *y = b;

	return x->loc < y->loc ? -1 : x->loc > y->loc;
}

struct slots {
	const struct walk *walk;
	const struct lives *lives;
	size_t n;
	bool *seen; /* by key */
};

/* Says what the disk has of the key of a slot, and of what ends the record. */
static void explain(const struct walk *v, const struct index_ref *ref, unsigned key)
{
	struct store *s = v->w->s;
	uint64_t hash = key < SIM_KEYS ? world_hash(key) : 0;

	fprintf(stderr, "    the last flush_all has seq %" PRIu64 "\n", v->flush);
	for (size_t i = 0; i < v->n; i++) {
		const struct rec *x = &v->rec[i];
		uint32_t seg = 0, at = 0;
		struct path *p = loc_path(s, x->loc, &seg, &at);
		uint64_t drop = p != NULL ? drop_hash(place_on(p, ref->loc),
						      atomic_load(&p->seg[seg].generation))
					  : 0;

		if (p != NULL && (x->hash == hash || x->hash == drop || x->loc == ref->loc))
			fprintf(stderr,
				"    disk: type %u seq %" PRIu64 " generation %" PRIu64
				" at path %u segment %u unit %u\n",
				x->type, x->seq, x->generation, p->index, seg, at);
	}
}

static bool slot(void *arg, const struct index_ref *ref)
{
	struct slots *a = arg;
	struct lives want = {.loc = ref->loc};
	const struct lives *is = bsearch(&want, a->lives, a->n, sizeof want, by_loc);
	uint32_t seg = 0, at = 0, epoch = 0;
	struct path *p = loc_path(world->s, ref->loc, &seg, &at);
	unsigned key;

	if (is != NULL && !a->seen[is->key]) {
		a->seen[is->key] = true;
		return true;
	}
	if (p != NULL && p->seg[seg].ragged)
		return true; /* its table may lack what shared memory knows; gets are judged */
	key = world_record(ref->loc, &epoch);
	explain(a->walk, ref, key);
	violation("the index has path %d segment %u unit %u (key %u epoch %u), which is not the "
		  "newest living record of a key%s", // [K-2]
		  p != NULL ? (int)p->index : -1, seg, at, key, epoch,
		  is != NULL ? ", but its copy" : "");
	return true;
}

static bool was_named(const struct world *w, const struct rec *x)
{
	for (unsigned i = 0; i < w->nstart_gone; i++)
		if (w->start_gone[i] == x->loc &&
		    (w->start_life[i] == 0 || w->start_life[i] == x->generation))
			return true;
	return false;
}

static bool dropped(const struct walk *v, const struct rec *x)
{
	uint64_t hash = drop_hash(x->place, x->generation);
	size_t lo = 0;

	for (size_t hi = v->n; lo < hi;) {
		size_t mid = (lo + hi) / 2;

		if (v->rec[mid].hash < hash)
			lo = mid + 1;
		else
			hi = mid;
	}
	/* the first of them is the newest; what was put at the place since lives */
	return lo < v->n && v->rec[lo].hash == hash && v->rec[lo].type == FORMAT_DROP &&
	       v->rec[lo].seq > x->seq;
}

/*
 * [AT-5] Some of a segment whose recycling was cut short has been written again elsewhere. Those copies may have
 * left, while the originals lie where they were until it is recycled. Right after a kill they are all still known; but
 * by the time a start has read its disks, which knows of no recycling before, it may have begun one itself.
 */
static bool recycle_begun(const struct rec *x)
{
	uint32_t seg, at;
	struct path *p = loc_path(world->s, x->loc, &seg, &at);

	return (!world->after_kill || strcmp(world->s->layer, "shm") != 0) &&
	       atomic_load(&seg_live(p, seg)->begun) == x->generation;
}

/* An early start serves meanwhile: a long value's head is on the disk before its set is answered, and indexed. */
static bool being_set(unsigned key)
{
	for (unsigned i = 0; i < SIM_SLOTS; i++) {
		const struct sop *o = &world->slot[i];

		if (o->used && !o->done && o->key == key)
			return true;
	}
	return false;
}

void walk_compare(struct world *w)
{
	struct walk v = {.w = w};
	struct slots slots = {.walk = &v};
	struct lives *lives;
	size_t keys = 0;

	if (w->silent_damage || w->start_fault)
		return;
	for (unsigned i = 0; i < w->s->npaths; i++)
		for (uint32_t k = 0; k < w->s->path[i].nseg; k++)
			walk_segment(&v, &w->s->path[i], k);
	lives = calloc(v.n + 1, sizeof *lives);
	AN(lives != NULL);
	if (v.n > 0)
		qsort(v.rec, v.n, sizeof *v.rec, newest_of_key);
	for (size_t i = 0, first; i < v.n; i = first) {
		uint64_t ends = v.flush, best = 0;
		size_t had = slots.n;

		for (first = i; first < v.n && v.rec[first].hash == v.rec[i].hash; first++)
			if (v.rec[first].type == FORMAT_TOMBSTONE && v.rec[first].seq > ends)
				ends = v.rec[first].seq;
		for (size_t j = i; j < first && (best == 0 || v.rec[j].seq == best); j++) {
			const struct rec *x = &v.rec[j];

			if (x->type != FORMAT_VALUE || x->seq < ends || dropped(&v, x) ||
			    was_named(w, x))
				continue;
			best = x->seq;
			lives[slots.n].loc = x->loc;
			lives[slots.n++].key = keys;
		}
		keys += slots.n > had;
	}
	if (slots.n > 0)
		qsort(lives, slots.n, sizeof *lives, by_loc);
	slots.lives = lives;
	slots.seen = calloc(keys + 1, sizeof *slots.seen);
	AN(slots.seen != NULL);
	index_walk(w->s->index, slot, &slots);
	for (size_t i = 0; i < v.n; i++) {
		struct lives want = {.loc = v.rec[i].loc};
		const struct lives *is = bsearch(&want, lives, slots.n, sizeof want, by_loc);
		uint32_t epoch = 0;

		if (v.rec[i].type == FORMAT_VALUE && is != NULL && !slots.seen[is->key] &&
		    !recycle_begun(&v.rec[i])) {
			unsigned key = world_record(v.rec[i].loc, &epoch);

			if (being_set(key))
				continue;
			explain(&v, &(struct index_ref){.loc = v.rec[i].loc}, key);
			violation("key %u epoch %u seq %" PRIu64
				  " lives on disk, and the index does not know it", // [K-1]
				  key, epoch, v.rec[i].seq);
		}
	}
	cover->walked++;
	free(slots.seen);
	free(lives);
	free(v.rec);
}

/* ---- damage ------------------------------------------------------------------------------------ */

static void all_damaged(struct world *w)
{
	for (unsigned k = 0; k < SIM_KEYS; k++)
		model_damaged(w->model, k);
}

/* Where that lies which a DROP record ends; 0 if it is not there any more. */
static uint64_t dropped_loc(const struct world *w, const struct format_record *r)
{
	for (unsigned i = 0; i < w->s->npaths; i++) {
		struct path *p = &w->s->path[i];
		uint32_t seg, at;

		if (loc_path(w->s, p->unit_base + r->content[0], &seg, &at) == p &&
		    atomic_load(&p->seg[seg].generation) == r->content[1])
			return p->unit_base + r->content[0];
	}
	return 0;
}

void walk_damage_bytes(struct world *w, const uint8_t *mem, uint32_t len)
{
	if (w->s == NULL)
		return;
	for (uint32_t at = 0; at + sizeof(struct format_record) <= len; at += FORMAT_UNIT) {
		const struct format_record *h =
		    (const struct format_record *)(const void *)(mem + at);
		struct format_record r;
		uint32_t epoch;
		unsigned key;

		if (h->magic != FORMAT_RECORD_MAGIC ||
		    record_check(mem + at, len - at, w->s->id_seed, h->generation, h->units_at,
				 &r) != RECORD_GOOD)
			continue;
		if (r.type == FORMAT_FLUSH)
			all_damaged(w);
		key = r.type == FORMAT_DROP ? world_record(dropped_loc(w, &r), &epoch)
					    : key_at(mem + at, &r);
		if (key < SIM_KEYS)
			model_damaged(w->model, key);
	}
}

/* What the index has there: of a record that was put there since, what went astray may have landed on the head. */
static void indexed_damage(struct world *w, unsigned path, uint64_t off, uint64_t len)
{
	for (unsigned k = 0; k < w->plan->setup.keys; k++) {
		struct index_probe probe;

		index_find(w->s->index, world_hash(k), &probe);
		for (unsigned i = 0; i < probe.n; i++) {
			uint32_t seg = 0, at = 0;
			struct path *p = loc_path(w->s, probe.ref[i].loc, &seg, &at);

			if (p != NULL && p->index == path && seg_offset(p, seg) + SIM_SEG > off &&
			    seg_offset(p, seg) < off + len)
				model_damaged(w->model, k);
		}
	}
}

void walk_damage(struct world *w, unsigned path, uint64_t off, uint64_t len)
{
	uint64_t size = sim_disk_size(w->env, w->path[path]);

	if (w->s == NULL || w->starting)
		all_damaged(w);
	else
		indexed_damage(w, path, off, len);
	for (uint64_t at = off / SIM_SEG * SIM_SEG;
	     w->s != NULL && at < off + len && at + SIM_SEG <= size; at += SIM_SEG) {
		walk_damage_bytes(w, sim_disk_bytes(w->env, w->path[path]) + at, SIM_SEG);
		for (unsigned i = 0; i < w->s->nwbuf; i++)
			if (w->s->wbuf[i].active && w->s->wbuf[i].path->index == path &&
			    seg_offset(w->s->wbuf[i].path, w->s->wbuf[i].seg) == at)
				walk_damage_bytes(w, w->s->wbuf[i].mem, w->s->wbuf[i].ext_len);
	}
	cover->damaged++;
}
