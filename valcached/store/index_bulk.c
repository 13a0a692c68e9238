/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index: removing many slots at once, by place. One or two lines at a time under their locks, so
 * lookups and changes go on meanwhile. Any thread.
 */
#include "valcached/store/index_int.h"

/* Which slots are to go: those in [from, to), or, with keep, those in a segment that is not kept. */
struct choice {
	uint64_t from, to;
	const uint8_t *keep;
	uint64_t n;
	unsigned shift;
};

static inline bool slot_goes(const struct choice *c, uint64_t s)
{
	uint64_t loc = slot_loc(s);

	if (s == 0)
		return false;
	if (c->keep != NULL)
		return loc >> c->shift >= c->n || !c->keep[loc >> c->shift];
	return loc >= c->from && loc < c->to;
}

/* Removes what goes of line l, while both lines are locked for a guest's count [IX-6]. */
static uint64_t line_remove(struct index *ix, uint64_t l, const struct choice *c)
{
	struct line *line = &ix->line[l], *home;
	uint64_t removed = 0, s, tag;
	unsigned i;

	line_lock(line);
	for (i = 0; i < INDEX_SLOTS; i++) {
		s = slot_load(line, i);
		if (!slot_goes(c, s))
			continue;
		tag = slot_tag(s);
		slot_store(line, i, 0);
		index__count(ix, C_REMOVES);
		removed++;
		if (is_home(tag, l))
			continue;
		/* If home cannot be locked at once, its count stays too high [IX-6, IX-7]. */
		home = &ix->line[other_of(ix, tag, l)];
		if (line_trylock(home)) {
			away_sub(ix, home, tag);
			line_unlock_bump(home);
		}
	}
	line_unlock_bump(line);
	return removed;
}

static uint64_t lines_remove(struct index *ix, const struct choice *c)
{
	uint64_t removed = 0, l;

	for (l = 0; l < ix->lines; l++) {
		bool any = false;
		unsigned i;

		for (i = 0; i < INDEX_SLOTS; i++)
			any |= slot_goes(c, slot_load(&ix->line[l], i));
		if (any)
			removed += line_remove(ix, l, c);
	}
	return removed;
}

uint64_t index_remove_range(struct index *ix, uint64_t from, uint64_t to)
{
	return lines_remove(ix, &(struct choice){.from = from, .to = to});
}

uint64_t index_retain(struct index *ix, const uint8_t *keep, uint64_t n, unsigned shift)
{
	return lines_remove(ix, &(struct choice){.keep = keep, .n = n, .shift = shift});
}

static uint64_t guests_placed(const struct index *ix)
{
	uint64_t n = 0;
	unsigned i;

	for (i = 0; i < LANES; i++)
		n += atomic_load_explicit(&ix->lane[i].n[C_GUESTS], memory_order_relaxed);
	return n;
}

/*
 * Every line is locked in turn, and emptied. Then no guest is left of those that were placed before
 * guests_placed() was first asked; one placed since is counted by now, because the count goes up
 * under the lock of its home [IX-6]. So as long as the number stands still, counts may go to zero;
 * when it does not, those that are left stay too high.
 */
void index_clear(struct index *ix)
{
	const struct choice all = {.to = INDEX_LOC_MAX + 1};
	uint64_t placed = guests_placed(ix), l, w;

	for (l = 0; l < ix->lines; l++)
		(void)line_remove(ix, l, &all);
	for (l = 0; l < ix->lines; l++) {
		struct line *line = &ix->line[l];

		if (atomic_load_explicit(&line->word, memory_order_relaxed) >> WORD_AWAY == 0)
			continue;
		line_lock(line);
		if (guests_placed(ix) != placed) {
			line_unlock(line);
			return;
		}
		w = atomic_load_explicit(&line->word, memory_order_relaxed);
		atomic_store_explicit(&line->word, w & ~(~0ull << WORD_AWAY), memory_order_relaxed);
		line_unlock_bump(line);
	}
}
