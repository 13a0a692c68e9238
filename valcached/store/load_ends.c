/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading: what ends records, and keys that have two. [RC-3], [RC-4], [RC-6]
 */
#include <stdlib.h>
#include <string.h>

#include "base/xxh.h"
#include "valcached/store/recover_int.h"

/* ---- what ends records: hash -> highest seq ---------------------------------------------------- */

static struct end *place_of(const struct ends *t, uint64_t hash)
{
	size_t i;

	for (i = hash & (t->cap - 1); t->slot[i].seq != 0; i = (i + 1) & (t->cap - 1))
		if (t->slot[i].hash == hash)
			break;
	return &t->slot[i];
}

struct end *ends_put(struct ends *t, uint64_t hash, uint64_t seq)
{
	struct end *e;

	AN(seq);
	if (t->n * 2 >= t->cap) {
		struct ends big = {.cap = t->cap == 0 ? 16 : t->cap * 2, .n = t->n};

		big.slot = calloc(big.cap, sizeof *big.slot);
		AN(big.slot != NULL);
		for (size_t i = 0; i < t->cap; i++)
			if (t->slot[i].seq != 0)
				*place_of(&big, t->slot[i].hash) = t->slot[i];
		free(t->slot);
		*t = big;
	}
	e = place_of(t, hash);
	t->n += e->seq == 0;
	e->hash = hash;
	if (seq > e->seq)
		e->seq = seq;
	return e;
}

struct end *ends_get(const struct ends *t, uint64_t hash)
{
	struct end *e;

	if (t->n == 0)
		return NULL;
	e = place_of(t, hash);
	return e->seq != 0 ? e : NULL;
}

/* NULL: it knows an end that is as new. */
static struct end *ends_newer(struct ends *t, const struct format_entry *e)
{
	const struct end *end = ends_get(t, e->hash);

	return end == NULL || end->seq < e->seq ? ends_put(t, e->hash, e->seq) : NULL;
}

void load_note(struct load *l, const struct format_entry *e)
{
	struct end *end;

	switch (e->type) {
	case FORMAT_FLUSH:
		if (e->seq > l->flush)
			l->flush = l->flush_kept = e->seq;
		break;
	case FORMAT_TOMBSTONE:
		end = ends_put(&l->key[key_stripe(e->hash)], e->hash, e->seq);
		if (end->seq == e->seq)
			end->named = entry_named(e) & 0xffff;
		break;
	case FORMAT_DROP:
		(void)ends_put(&l->place, e->hash, e->seq);
		break;
	default:
		break;
	}
}

/* [RC-11] After all load_note(): what is known of elsewhere, too, is not lost. */
void load_note_lost(struct load *l, const struct format_entry *e)
{
	struct end *end = NULL;

	switch (e->type) {
	case FORMAT_FLUSH:
		if (e->seq > l->flush)
			l->flush = e->seq;
		return;
	case FORMAT_TOMBSTONE:
		end = ends_newer(&l->key[key_stripe(e->hash)], e);
		break;
	case FORMAT_DROP:
		end = ends_newer(&l->place, e);
		break;
	default:
		break;
	}
	if (end != NULL)
		end->loc = END_LOST;
}

static uint64_t generation_of(struct store *s, uint64_t loc)
{
	uint32_t seg, at;

	return atomic_load(&loc_path(s, loc, &seg, &at)->seg[seg].generation);
}

/* The name of a DROP of the record at loc. */
static uint64_t drop_of(struct store *s, uint64_t loc)
{
	uint32_t seg, at;
	const struct path *p = loc_path(s, loc, &seg, &at);

	return drop_hash(place_on(p, loc), atomic_load(&p->seg[seg].generation));
}

/*
 * What ended the record at loc is on disk, or has only been appended by this process, like all with such a seq.
 * Then a power cut may still take it, and must not find the record ended already [RC-7].
 */
static void drop(struct load *l, const struct end *end, uint64_t loc)
{
	if (end->seq < l->seq) {
		drop_other(l->s, &(struct index_ref){.loc = loc});
		return;
	}
	if (l->nreplaced == l->replaced_cap) {
		l->replaced_cap = l->replaced_cap == 0 ? 256 : l->replaced_cap * 2;
		l->replaced = realloc(l->replaced, l->replaced_cap * sizeof *l->replaced);
		AN(l->replaced != NULL);
	}
	l->replaced[l->nreplaced++] =
	    (struct replaced){.loc = loc, .generation = generation_of(l->s, loc)};
}

void load_end_replaced(struct load *l)
{
	for (size_t i = 0; i < l->nreplaced; i++)
		if (generation_of(l->s, l->replaced[i].loc) == l->replaced[i].generation)
			drop_other(l->s, &(struct index_ref){.loc = l->replaced[i].loc});
	l->nreplaced = 0;
}

/*
 * A tombstone goes when the one place that it names is gone [F-6]. If there is another of the key (it was being written
 * again when the power went; its write had failed for good and was on the disk), that one gets a DROP.
 */
void load_ended(struct load *l, struct end *end, uint64_t loc)
{
	l->ended++;
	if (end->loc == END_LOST)
		l->lost_needed = true;
	else if (end->loc == END_NAMES_NONE ||
		 (end->named != 0 && end->named != named_mark(drop_of(l->s, loc))))
		;
	else if (end->loc == 0) {
		end->loc = loc & INDEX_LOC_MAX;
		return;
	} else {
		drop(l, end, end->loc);
		end->loc = END_NAMES_NONE;
	}
	drop(l, end, loc);
}

void load_ended_lost(struct load *l, const struct item *it)
{
	const struct end *drop = ends_get(&l->place, drop_of(l->s, it->loc));

	if (drop != NULL && drop->seq > it->seq && drop->loc != END_LOST)
		return; /* by the start before this one */
	l->lost_needed = true;
	drop_other(l->s, &(struct index_ref){.loc = it->loc});
}

/* Every older record of this key that is met from now on is ended by a DROP. */
static void end_older(struct ends *t, uint64_t hash, uint64_t seq)
{
	struct end *end = ends_put(t, hash, seq);

	if (end->loc == 0)
		end->loc = END_NAMES_NONE;
}

void load_hide(struct store *s, uint64_t hash)
{
	if (unlikely(loading(s)))
		end_older(&s->load->key[key_stripe(hash)], hash, s->load->seq);
}

bool load_vouch(struct store *s, uint64_t hash, uint64_t loc)
{
	pthread_mutex_t *lock = key_lock(s, hash);
	struct index_ref ref;
	bool there;

	if (likely(!loading(s)))
		return true;
	pthread_mutex_lock(lock);
	there = index_get(s->index, hash, loc, &ref);
	if (there)
		load_hide(s, hash);
	pthread_mutex_unlock(lock);
	return there;
}

bool slot_add(struct store *s, uint64_t hash, uint64_t loc, uint32_t units, uint8_t clock,
	      struct index_ref *victim)
{
	victim->loc = 0;
	if (likely(!loading(s))) {
		index_insert(s->index, hash, loc, units, clock, victim);
		return true;
	}
	load_hide(s, hash);
	if (index_add(s->index, hash, loc, units, clock))
		return true;
	drop_other(s, &(struct index_ref){.loc = loc});
	return false;
}

/* ---- a value ----------------------------------------------------------------------------------- */

void load_value(struct load *l, struct ends *t, const struct item *it)
{
	struct end *end = ends_get(t, it->hash);
	const struct end *drop =
	    l->place.n > 0 ? ends_get(&l->place, drop_of(l->s, it->loc)) : NULL;

	if (drop != NULL && drop->seq > it->seq) { /* else of one that had its place before [F-6] */
		if (unlikely(drop->loc == END_LOST))
			load_ended_lost(l, it);
		l->ended++;
		return;
	}
	if (unlikely(end != NULL && end->seq > it->seq)) {
		load_ended(l, end, it->loc);
		return;
	}
	switch (index_add_new(l->s->index, it->hash, it->loc, it->units, (uint8_t)it->clock)) {
	case INDEX_ADDED:
		l->added++;
		l->used += it->clock > 0;
		return;
	case INDEX_LIKE: {
		struct doubt d = {.hash = it->hash,
				  .seq = it->seq,
				  .loc = it->loc,
				  .generation = generation_of(l->s, it->loc),
				  .units = it->units,
				  .clock = (uint8_t)it->clock};

		doubts_add(&l->doubts, &d);
		break;
	}
	case INDEX_FULL:
		/*
		 * The newest come first. One for which there is no room goes itself: to throw out a newer one
		 * could bring an older record of that one's key to light.
		 */
		drop_other(l->s, &(struct index_ref){.loc = it->loc});
		break;
	}
	end_older(t, it->hash, it->seq);
}

/* ---- RC-4: two records of one key --------------------------------------------------------------- */

#define SETTLE 16u /* of what is in doubt at a time */
#define LOOKS  4u  /* at so many candidates of each; there is one */

void doubts_add(struct doubts *ds, const struct doubt *d)
{
	if (ds->n == ds->cap) {
		ds->cap = ds->cap == 0 ? 256 : ds->cap * 2;
		ds->d = realloc(ds->d, ds->cap * sizeof *ds->d);
		AN(ds->d != NULL);
	}
	ds->d[ds->n++] = *d;
}

/* What a candidate's record says. */
struct look {
	struct disk_io *d; /* NULL: nothing is known */
	uint64_t loc;
	const struct path *path;
	uint32_t seg, units_at, slop, got;
	bool read;
};

enum whose { OTHERS, THE_KEYS, NOBODY_KNOWS };

static void look_begin(struct store *s, struct io *io, struct look *k, uint64_t loc)
{
	struct path *p = loc_path(s, loc, &k->seg, &k->units_at);
	uint64_t off;

	k->loc = loc;
	k->read = false;
	k->path = p;
	k->d = p != NULL && !atomic_load(&p->gone) ? disk_io_new(io, p, 2 * FORMAT_ALIGN) : NULL;
	if (k->d == NULL)
		return;
	k->slop = 0;
	if (atomic_load(&p->seg[k->seg].state) != SEG_SEALED) {
		k->got = wbuf_copy(s, loc, k->d->mem, 2 * FORMAT_ALIGN);
		if (k->got > 0)
			return;
	}
	off = seg_offset(p, k->seg) + (uint64_t)k->units_at * FORMAT_UNIT;
	k->slop = (uint32_t)(off & (FORMAT_ALIGN - 1));
	k->read = true;
	disk_read(k->d, 2 * FORMAT_ALIGN, off - k->slop);
}

static void look_end(struct look *k)
{
	for (unsigned tries = 1; k->d != NULL && k->read; tries++) {
		uint64_t off = seg_offset(k->path, k->seg) + (uint64_t)k->units_at * FORMAT_UNIT;
		int res = disk_wait(&k->d);

		k->got = res > 0 ? (uint32_t)res : 0;
		if (k->got == 2 * FORMAT_ALIGN || k->d == NULL || tries == READ_TRIES)
			break;
		disk_read(k->d, 2 * FORMAT_ALIGN, off - k->slop);
	}
}

static enum whose look_whose(struct store *s, const struct look *k, uint64_t hash,
			     struct format_record *rec)
{
	const uint8_t *head;

	if (k->d == NULL || k->got <= k->slop)
		return NOBODY_KNOWS;
	head = k->d->mem + k->slop;
	if (record_check(head, k->got - k->slop, s->id_seed,
			 atomic_load(&k->path->seg[k->seg].generation), k->units_at,
			 rec) != RECORD_GOOD)
		return NOBODY_KNOWS;
	return rec->type == FORMAT_VALUE && XXH3_64bits_withSeed(head + sizeof *rec, rec->key_len,
								 s->hash_secret) == hash
		   ? THE_KEYS
		   : OTHERS;
}

/* The record in doubt against what the index has of its key. Under the key's lock. */
static void decide(struct store *s, struct load *l, const struct doubt *d, const struct look *look,
		   unsigned n)
{
	struct index_ref own = {.loc = d->loc};
	struct format_record rec;
	bool stays = true;

	/* one that cannot be read may be anything: to be newer, too */
	for (unsigned i = 0; i < n; i++) {
		enum whose w = look_whose(s, &look[i], d->hash, &rec);

		if (w == NOBODY_KNOWS ||
		    (w == THE_KEYS &&
		     (rec.seq > d->seq || (rec.seq == d->seq && rec.generation >= d->generation))))
			stays = false;
	}
	for (unsigned i = 0; stays && i < n; i++) {
		struct index_ref lower = {.loc = look[i].loc};

		if (look_whose(s, &look[i], d->hash, &rec) != THE_KEYS)
			continue;
		drop_other(s, &lower);
		index_remove(s->index, d->hash, lower.loc);
		(void)ram_remove(s->ram, d->hash, look[i].d->mem + look[i].slop + sizeof rec,
				 rec.key_len);
	}
	if (stays && index_add(s->index, d->hash, d->loc, d->units, d->clock)) {
		if (l != NULL)
			l->added++;
		return;
	}
	drop_other(s, &own);
	if (l != NULL)
		l->ended++;
}

/* Does something end it that the index does not know? Under the key's lock. */
static bool doubt_ended(struct store *s, struct load *l, const struct doubt *d)
{
	uint32_t seg, at;
	const struct path *p = loc_path(s, d->loc, &seg, &at);
	struct end *end;

	AN(p != NULL);
	if (atomic_load(&p->seg[seg].generation) != d->generation)
		return true; /* its path came back empty */
	if (l == NULL)
		return false;
	if (d->seq < l->flush || d->seq < atomic_load(&s->flush_seq)) {
		l->ended++;
		return true;
	}
	end = ends_get(&l->key[key_stripe(d->hash)], d->hash);
	if (end == NULL || end->seq <= d->seq)
		return false;
	load_ended(l, end, d->loc);
	return true;
}

bool doubts_settle(struct store *s, struct io *io, struct load *l, struct doubts *ds)
{
	struct {
		struct doubt d;
		struct index_probe probe;
		struct look look[LOOKS];
		bool over;
	} q[SETTLE];
	unsigned n = ds->n < SETTLE ? (unsigned)ds->n : SETTLE;

	for (unsigned i = 0; i < n; i++) {
		pthread_mutex_t *lock;

		q[i].d = ds->d[--ds->n];
		lock = key_lock(s, q[i].d.hash);
		pthread_mutex_lock(lock);
		q[i].over = doubt_ended(s, l, &q[i].d);
		pthread_mutex_unlock(lock);
		index_find(s->index, q[i].d.hash, &q[i].probe);
		for (unsigned k = 0; !q[i].over && k < q[i].probe.n && k < LOOKS; k++)
			look_begin(s, io, &q[i].look[k], q[i].probe.ref[k].loc);
	}
	for (unsigned i = 0; i < n; i++) {
		pthread_mutex_t *lock = key_lock(s, q[i].d.hash);
		unsigned looks = q[i].probe.n < LOOKS ? q[i].probe.n : LOOKS;

		if (q[i].over)
			continue;
		for (unsigned k = 0; k < looks; k++)
			look_end(&q[i].look[k]);
		pthread_mutex_lock(lock);
		if (atomic_load(&s->flushing) ||
		    !index_unchanged(s->index, q[i].d.hash, &q[i].probe))
			doubts_add(ds, &q[i].d); /* again */
		else if (doubt_ended(s, l, &q[i].d))
			;
		else if (q[i].probe.n > LOOKS)
			drop_other(s, &(struct index_ref){.loc = q[i].d.loc});
		else
			decide(s, l, &q[i].d, q[i].look, looks);
		pthread_mutex_unlock(lock);
		for (unsigned k = 0; k < looks; k++)
			disk_io_free(&q[i].look[k].d);
	}
	return ds->n == 0;
}
