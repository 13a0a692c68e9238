/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing the index: insert, with displacement and victims; remove; relocate. Each locks the lines
 * it changes by [IX-7] and lets them go by [IX-8].
 *
 * Threads: any; the caller holds the key's lock [IX-4].
 */
#include <string.h>

#include "valcached/store/index_int.h"

/*
 * Locks l too, while held is locked. False if that needed both to be let go for a moment: then both
 * are locked, but what was seen of held before is stale.
 */
static bool line_lock_second(struct line *held, struct line *l)
{
	if (line_trylock(l))
		return true;
	if (held < l) {
		line_lock(l);
		return true;
	}
	line_unlock(held);
	line_lock(l);
	line_lock(held);
	return false;
}

/* The two lines of the key that is being inserted, both full and both locked. */
struct pair {
	uint64_t l[2]; /* home, other */
	struct line *line[2];
};

enum moved { MOVED, NO_ROOM, BUSY };

/*
 * Copies slot i of line l[k] to its own other line, which is then locked too and returned in *to;
 * the caller overwrites the slot [IX-3]. On NO_ROOM and BUSY nothing has changed.
 */
static enum moved slot_copy_out(struct index *ix, const struct pair *p, unsigned k, unsigned i,
				struct line **to)
{
	uint64_t s = slot_load(p->line[k], i), tag = slot_tag(s);
	struct line *t = &ix->line[other_of(ix, tag, p->l[k])];
	unsigned j;

	if (t == p->line[!k] || line_empty_slot(t) == INDEX_SLOTS)
		return NO_ROOM;
	if (!line_trylock(t)) /* [IX-7] */
		return BUSY;
	j = line_empty_slot(t);
	if (j == INDEX_SLOTS) {
		line_unlock(t);
		return NO_ROOM;
	}
	slot_store(t, j, s);
	if (is_home(tag, p->l[k]))
		away_add(ix, p->line[k], tag);
	else
		away_sub(ix, t, tag);
	*to = t;
	return MOVED;
}

/* Copies out some slot of line l[k] that is a resident there (or a guest); *i says which. */
static enum moved line_copy_out(struct index *ix, const struct pair *p, unsigned k, bool resident,
				unsigned *i, struct line **to)
{
	enum moved r, result = NO_ROOM;
	uint64_t tag[INDEX_SLOTS];

	for (*i = 0; *i < INDEX_SLOTS; (*i)++) {
		tag[*i] = slot_tag(slot_load(p->line[k], *i));
		if (is_home(tag[*i], p->l[k]) == resident)
			__builtin_prefetch(&ix->line[other_of(ix, tag[*i], p->l[k])]);
	}
	for (*i = 0; *i < INDEX_SLOTS; (*i)++) {
		if (is_home(tag[*i], p->l[k]) != resident)
			continue;
		r = slot_copy_out(ix, p, k, *i, to);
		if (r == MOVED)
			return r;
		if (r == BUSY)
			result = BUSY;
	}
	return result;
}

/*
 * Finds a place for a key: its line l[*k], slot *i, on MOVED. The order keeps keys at home, where a
 * lookup finds them first; the second step halves the number of guests in a long-lived index.
 */
static enum moved pair_make_room(struct index *ix, const struct pair *p, unsigned *k, unsigned *i,
				 struct line **to)
{
	enum moved r, result = NO_ROOM;
	unsigned step;

	*to = NULL;
	for (step = 0; step < 6; step++) {
		r = NO_ROOM;
		switch (step) {
		case 0: /* home has room */
		case 2: /* other has room */
			*k = step / 2;
			*i = line_empty_slot(p->line[*k]);
			if (*i != INDEX_SLOTS)
				return MOVED;
			break;
		case 1: /* a guest of home goes home */
		case 3: /* a guest of other goes home */
			*k = step / 2;
			r = line_copy_out(ix, p, *k, false, i, to);
			break;
		case 4: /* a resident of home leaves */
		case 5: /* a resident of other leaves */
			*k = step - 4;
			r = line_copy_out(ix, p, *k, true, i, to);
			break;
		}
		if (r == MOVED)
			return r;
		if (r == BUSY)
			result = BUSY;
	}
	return result;
}

/* The slot of the pair with the lowest clock; ties go to a slot that depends on the hash. */
static void pair_victim(const struct pair *p, uint64_t hash, unsigned *k, unsigned *i)
{
	unsigned best = INDEX_CLOCK_MAX + 1, c, n, at = (unsigned)(hash >> 16) % INDEX_CANDIDATES;

	for (n = 0; n < INDEX_CANDIDATES; n++, at = (at + 1) % INDEX_CANDIDATES) {
		c = slot_clock(slot_load(p->line[at / INDEX_SLOTS], at % INDEX_SLOTS));
		if (c < best) {
			best = c;
			*k = at / INDEX_SLOTS;
			*i = at % INDEX_SLOTS;
		}
	}
	A(best <= INDEX_CLOCK_MAX);
}

/*
 * A guest was overwritten: its home counts one less. If that home cannot be locked at once, the
 * count stays too high, which is allowed [IX-6].
 */
static void guest_gone(struct index *ix, const struct pair *p, unsigned k, uint64_t tag)
{
	struct line *h = &ix->line[other_of(ix, tag, p->l[k])];

	if (h == p->line[!k]) {
		away_sub(ix, h, tag);
	} else if (line_trylock(h)) {
		away_sub(ix, h, tag);
		line_unlock_bump(h);
	}
}

/* False, if there is no room and may be no victim: nothing has changed. */
static bool insert(struct index *ix, uint64_t hash, uint64_t loc, uint32_t units, uint8_t clock,
		   struct index_ref *victim)
{
	uint64_t tag = hash_tag(hash), s = slot_make(tag, loc, units, clock), old = 0;
	struct line *third = NULL;
	enum moved r = NO_ROOM;
	unsigned i, k = 0, spins = 0;
	struct pair p;

	p.l[0] = home_of(ix, hash);
	p.line[0] = &ix->line[p.l[0]];
	line_lock(p.line[0]);
	i = line_empty_slot(p.line[0]);
	if (likely(i != INDEX_SLOTS)) {
		slot_store(p.line[0], i, s);
		line_unlock_bump(p.line[0]);
		return true;
	}
	p.l[1] = other_of(ix, tag, p.l[0]);
	p.line[1] = &ix->line[p.l[1]];
	for (;;) {
		(void)line_lock_second(p.line[0], p.line[1]);
		r = pair_make_room(ix, &p, &k, &i, &third);
		if (r != BUSY)
			break;
		line_unlock(p.line[1]);
		line_unlock(p.line[0]);
		back_off(&spins);
		line_lock(p.line[0]);
	}
	if (third != NULL) {
		index__count(ix, C_DISPLACEMENTS);
	} else if (r == NO_ROOM && victim == NULL) {
		line_unlock(p.line[1]);
		line_unlock(p.line[0]);
		return false;
	} else if (r == NO_ROOM) {
		pair_victim(&p, hash, &k, &i);
		old = slot_load(p.line[k], i);
		*victim = slot_ref(old);
		if (ix->owed != NULL)
			atomic_fetch_add(ix->owed, 1);
		index__count(ix, C_VICTIMS);
	}
	slot_store(p.line[k], i, s);
	if (k == 1)
		away_add(ix, p.line[0], tag);
	if (old != 0 && !is_home(slot_tag(old), p.l[k]))
		guest_gone(ix, &p, k, slot_tag(old));
	if (third != NULL)
		line_unlock_bump(third);
	line_unlock_bump(p.line[1]);
	line_unlock_bump(p.line[0]);
	return true;
}

void index_insert(struct index *ix, uint64_t hash, uint64_t loc, uint32_t units, uint8_t clock,
		  struct index_ref *victim)
{
	memset(victim, 0, sizeof(*victim));
	index__count(ix, C_INSERTS);
	AN(insert(ix, hash, loc, units, clock, victim));
}

bool index_add(struct index *ix, uint64_t hash, uint64_t loc, uint32_t units, uint8_t clock)
{
	bool added = insert(ix, hash, loc, units, clock, NULL);

	if (added)
		index__count(ix, C_INSERTS);
	return added;
}

/*
 * Locks the line that holds the slot of this tag and location: home alone, or home and other.
 * NULL, and nothing locked, if there is none.
 */
static struct line *slot_lock(struct index *ix, uint64_t hash, uint64_t loc, struct line **home,
			      unsigned *i)
{
	uint64_t tag = hash_tag(hash), l = home_of(ix, hash), held;
	struct line *other;

	*home = &ix->line[l];
	line_lock(*home);
	*i = line_slot_of(*home, tag, loc, &held);
	if (*i != INDEX_SLOTS)
		return *home;
	if (away_count(atomic_load_explicit(&(*home)->word, memory_order_relaxed), tag) == 0) {
		line_unlock(*home);
		return NULL;
	}
	other = &ix->line[other_of(ix, tag, l)];
	if (!line_lock_second(*home, other)) {
		*i = line_slot_of(*home, tag, loc, &held);
		if (*i != INDEX_SLOTS) {
			line_unlock(other);
			return *home;
		}
	}
	*i = line_slot_of(other, tag, loc, &held);
	if (*i != INDEX_SLOTS)
		return other;
	line_unlock(other);
	line_unlock(*home);
	return NULL;
}

/* Has it a slot of this tag? */
static bool line_like(const struct line *l, uint64_t tag)
{
	for (uint32_t match = line_match(l, tag); match != 0; match &= match - 1)
		if (slot_load(l, (unsigned)__builtin_ctz(match) / 2 - 1) != 0)
			return true; /* tag 0 matches empty slots, too */
	return false;
}

enum index_added index_add_new(struct index *ix, uint64_t hash, uint64_t loc, uint32_t units,
			       uint8_t clock)
{
	uint64_t tag = hash_tag(hash), l = home_of(ix, hash);
	struct line *home = &ix->line[l];
	unsigned i;

	/* under home's lock no slot of a key that is at home here moves between its two lines [IX-3, IX-6] */
	line_lock(home);
	if (line_like(home, tag) ||
	    (away_count(atomic_load_explicit(&home->word, memory_order_relaxed), tag) != 0 &&
	     line_like(&ix->line[other_of(ix, tag, l)], tag))) {
		line_unlock(home);
		return INDEX_LIKE;
	}
	i = line_empty_slot(home);
	if (unlikely(i == INDEX_SLOTS)) {
		line_unlock(home);
		return insert(ix, hash, loc, units, clock, NULL) ? INDEX_ADDED : INDEX_FULL;
	}
	slot_store(home, i, slot_make(tag, loc, units, clock));
	line_unlock_bump(home);
	return INDEX_ADDED;
}

bool index_remove(struct index *ix, uint64_t hash, uint64_t loc)
{
	struct line *home, *l;
	unsigned i;

	l = slot_lock(ix, hash, loc, &home, &i);
	if (l == NULL)
		return false;
	slot_store(l, i, 0);
	if (l != home) {
		away_sub(ix, home, hash_tag(hash));
		line_unlock_bump(l);
	}
	line_unlock_bump(home);
	index__count(ix, C_REMOVES);
	return true;
}

bool index_relocate(struct index *ix, uint64_t hash, uint64_t from, uint64_t to, uint32_t units,
		    uint8_t clock)
{
	uint64_t s = slot_make(hash_tag(hash), to, units, clock);
	struct line *home, *l;
	unsigned i;

	l = slot_lock(ix, hash, from, &home, &i);
	if (l == NULL)
		return false;
	slot_store(l, i, s);
	line_unlock_bump(l);
	if (l != home)
		line_unlock(home);
	return true;
}
