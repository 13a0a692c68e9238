/* SPDX-License-Identifier: Apache-2.0 */
/* Walking a tree through a cache; see tree.h. */
#include <errno.h>
#include <string.h>

#include "datoms/tree.h"

_Static_assert(SORT_EAVT + 1 == IOSTATS_EAVT && SORT_AEVT + 1 == IOSTATS_AEVT &&
		   SORT_AVET + 1 == IOSTATS_AVET && SORT_VAET + 1 == IOSTATS_VAET,
	       "sorts are in the order of io-stats");

/* ---- ranges ---- */

static struct tree_range prefix(enum datom_sort sort, struct datom key, unsigned parts)
{
	return (struct tree_range){
	    .sort = sort, .from = key, .to = key, .from_parts = parts, .to_parts = parts};
}

struct tree_range tree_entity(uint64_t e)
{
	return prefix(SORT_EAVT, (struct datom){.e = e}, 1);
}

struct tree_range tree_lookup(uint64_t e, uint32_t a)
{
	return prefix(SORT_EAVT, (struct datom){.e = e, .a = a}, 2);
}

struct tree_range tree_attribute(uint32_t a)
{
	return prefix(SORT_AEVT, (struct datom){.a = a}, 1);
}

struct tree_range tree_find(uint32_t a, struct value v)
{
	return prefix(SORT_AVET, (struct datom){.a = a, .v = v}, 2);
}

struct tree_range tree_values(uint32_t a, struct value from, struct value to)
{
	struct tree_range r = prefix(SORT_AVET, (struct datom){.a = a, .v = from}, 2);

	r.to.v = to;
	r.to_open = true;
	return r;
}

struct tree_range tree_referrers(uint64_t e)
{
	return prefix(SORT_VAET, (struct datom){.v = {.type = VALUE_REF, .ref = e}}, 1);
}

struct tree_range tree_referrers_by(uint64_t e, uint32_t a)
{
	return prefix(SORT_VAET, (struct datom){.a = a, .v = {.type = VALUE_REF, .ref = e}}, 2);
}

/* ---- from segment to segment ---- */

static const struct segment *node(const struct tree_scan *s, enum segment_level level)
{
	return s->ref[level].object;
}

/* Puts a segment in its level's place; it belongs to this tree, or -EBADMSG. */
static int load(struct tree_scan *s, enum segment_level level, struct seg_id id)
{
	struct ocache_hint hint = {.decoder = &segment_decoder,
				   .deadline_ns = s->reader.deadline_ns,
				   .sort = (uint8_t)(s->range.sort + IOSTATS_EAVT),
				   .is_dir = level != SEGMENT_LEAF,
				   .flags = s->reader.flags};
	const struct segment *g;
	int err;

	ocache_release(&s->ref[level]);
	err = ocache_get(s->reader.cache, id, &hint, s->reader.io, &s->ref[level]);
	if (err != 0) {
		s->ref[level] = (struct ocache_ref){0};
		return err;
	}
	g = node(s, level);
	return g->level == level && g->sort == s->range.sort ? 0 : -EBADMSG;
}

/* The child in which the range begins: the last one whose first datom is not above, or the first. */
static uint32_t child_for(const struct tree_scan *s, const struct segment *dir)
{
	/* one whose first datom equals the range's begin may have equal ones before it */
	uint32_t at = segment_search(dir, &s->range.from, s->range.from_parts, false);

	return at > 0 ? at - 1 : 0;
}

static bool in_range(const struct tree_scan *s, const struct segment *g, uint32_t i)
{
	return s->range.to_parts == 0 ||
	       i < segment_search(g, &s->range.to, s->range.to_parts, !s->range.to_open);
}

/* A leaf is there: what of it is in the range. */
static void enter_leaf(struct tree_scan *s, bool first)
{
	const struct segment *leaf = node(s, SEGMENT_LEAF);

	s->at[SEGMENT_LEAF] =
	    first ? segment_search(leaf, &s->range.from, s->range.from_parts, false) : 0;
	s->end = s->range.to_parts == 0
		     ? leaf->n
		     : segment_search(leaf, &s->range.to, s->range.to_parts, !s->range.to_open);
}

/* The next leaf that can hold something of the range; 1, 0: there is none, or an error. */
static int next_leaf(struct tree_scan *s)
{
	const struct segment *root = node(s, SEGMENT_ROOT), *dir = node(s, SEGMENT_DIR);
	int err;

	if (++s->at[SEGMENT_DIR] == dir->n) {
		if (++s->at[SEGMENT_ROOT] == root->n || !in_range(s, root, s->at[SEGMENT_ROOT]))
			return 0;
		err = load(s, SEGMENT_DIR, root->child[s->at[SEGMENT_ROOT]]);
		if (err != 0)
			return err;
		dir = node(s, SEGMENT_DIR);
		s->at[SEGMENT_DIR] = 0;
	}
	if (!in_range(s, dir, s->at[SEGMENT_DIR]))
		return 0;
	err = load(s, SEGMENT_LEAF, dir->child[s->at[SEGMENT_DIR]]);
	if (err != 0)
		return err;
	enter_leaf(s, false);
	return 1;
}

/* ---- scans ---- */

static int descend(struct tree_scan *s)
{
	struct seg_id id = s->reader.roots.id[s->range.sort];

	for (unsigned level = SEGMENT_ROOT; level > SEGMENT_LEAF; level--) {
		const struct segment *dir;
		int err = load(s, (enum segment_level)level, id);

		if (err != 0)
			return err;
		dir = node(s, (enum segment_level)level);
		s->at[level] = child_for(s, dir);
		id = dir->child[s->at[level]];
	}
	return load(s, SEGMENT_LEAF, id);
}

int tree_scan_open(struct tree_scan *s, const struct tree_reader *reader,
		   const struct tree_range *range)
{
	struct seg_id root = reader->roots.id[range->sort];
	int err;

	*s = (struct tree_scan){.reader = *reader, .range = *range};
	if (root.hi == 0 && root.lo == 0) {
		s->over = true;
		return 0;
	}
	err = descend(s);
	if (err != 0) {
		tree_scan_close(s);
		return err;
	}
	enter_leaf(s, true);
	return 0;
}

/* Until there is a datom in the range; 1, 0 or an error. */
static int settle(struct tree_scan *s)
{
	while (!s->over && s->at[SEGMENT_LEAF] >= s->end) {
		const struct segment *leaf = node(s, SEGMENT_LEAF);
		int more = s->end < leaf->n ? 0 : next_leaf(s);

		s->over = more != 1;
		if (more < 0)
			return more;
	}
	return !s->over;
}

int tree_scan_run(struct tree_scan *s, const struct segment **leaf, uint32_t *from, uint32_t *to)
{
	int more = settle(s);

	if (more != 1)
		return more;
	*leaf = node(s, SEGMENT_LEAF);
	*from = s->at[SEGMENT_LEAF];
	*to = s->end;
	s->at[SEGMENT_LEAF] = s->end;
	return 1;
}

int tree_scan_next(struct tree_scan *s, struct datom *d)
{
	int more = settle(s);

	if (more == 1)
		segment_datom(node(s, SEGMENT_LEAF), s->at[SEGMENT_LEAF]++, d);
	return more;
}

void tree_scan_close(struct tree_scan *s)
{
	for (unsigned level = 0; level < SEGMENT_LEVELS; level++)
		ocache_release(&s->ref[level]);
	s->over = true;
}
