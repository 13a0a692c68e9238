/* SPDX-License-Identifier: Apache-2.0 */
/* Trees, bottom up; see tree.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "datoms/tree.h"

#define TRIES 12u

/* Segments of one level, and of what the level above is made. */
struct level {
	struct datom *first;
	struct seg_id *id;
	uint32_t n, room;
};

static int level_add(struct level *l, const struct datom *first, struct seg_id id)
{
	if (l->n == l->room) {
		uint32_t room = l->room == 0 ? 64 : l->room * 2;
		struct datom *d = realloc(l->first, room * sizeof *d);
		struct seg_id *i;

		if (d == NULL)
			return -ENOMEM;
		l->first = d;
		i = realloc(l->id, room * sizeof *i);
		if (i == NULL)
			return -ENOMEM;
		l->id = i;
		l->room = room;
	}
	l->first[l->n] = *first;
	l->id[l->n++] = id;
	return 0;
}

static void level_free(struct level *l)
{
	free(l->first);
	free(l->id);
}

static bool good(uint32_t n, uint64_t left, size_t len)
{
	return len >= TREE_BYTES / 4 * 3 && len <= TREE_BYTES / 4 * 5 &&
	       (n >= TREE_DATOMS_MIN || n == left);
}

/* What is left of an index, of which a segment would be made next. */
struct rest {
	enum segment_level level;
	enum datom_sort sort;
	const struct datom *d;
	const struct seg_id *children;
	uint64_t n;
};

static int encode(const struct rest *r, uint32_t n, void **bytes, size_t *len)
{
	return segment_encode(r->level, r->sort, r->d, r->children, n, bytes, len);
}

/* Encodes as many as make it about TREE_BYTES long. *n is a guess, then what it has. */
static int encode_some(const struct rest *r, uint32_t *n, void **bytes, size_t *len)
{
	uint32_t most = r->n < TREE_DATOMS_MAX ? (uint32_t)r->n : TREE_DATOMS_MAX;
	uint32_t few = 0, many = most + 1, take = *n < most ? *n : most;

	for (unsigned tries = 0;; tries++) {
		uint64_t next;
		int err = encode(r, take, bytes, len);

		if (err != 0)
			return err;
		*n = take;
		if (*len <= TREE_BYTES)
			few = take;
		else
			many = take;
		if (take == 1 || (*len <= TREE_BYTES_MAX &&
				  (good(take, r->n, *len) || many - few <= 1 || tries >= TRIES)))
			return 0;
		next = (uint64_t)take * TREE_BYTES / *len;
		next = next < TREE_DATOMS_MIN ? TREE_DATOMS_MIN : next;
		take = next > few && next < many ? (uint32_t)next : few + (many - few) / 2;
		take = take == 0 ? 1 : take;
		free(*bytes);
	}
}

/* The same; and what would be left would be little: takes it in, or leaves half. */
static int encode_next(const struct rest *r, uint32_t *n, void **bytes, size_t *len)
{
	int err = encode_some(r, n, bytes, len);
	void *all;

	if (err != 0 || r->n == *n || r->n - *n >= *n / 2)
		return err;
	if (r->n <= TREE_DATOMS_MAX) {
		size_t all_len;

		err = encode(r, (uint32_t)r->n, &all, &all_len);
		if (err != 0) {
			free(*bytes);
			return err;
		}
		if (all_len <= TREE_BYTES_MAX) {
			free(*bytes);
			*n = (uint32_t)r->n;
			*bytes = all;
			*len = all_len;
			return 0;
		}
		free(all);
	}
	free(*bytes);
	*n = (uint32_t)(r->n / 2);
	return encode(r, *n, bytes, len);
}

/* All segments of a level; the next one's are in *up. */
static int write_level(enum segment_level level, enum datom_sort sort, const struct datom *d,
		       const struct seg_id *children, uint64_t n, const struct tree_writer *w,
		       struct level *up)
{
	uint32_t guess = TREE_DATOMS_MAX / 4;
	int err = 0;

	for (uint64_t at = 0; at < n && err == 0;) {
		struct seg_id id = w->name(w->ctx, level, up->n);
		struct rest r = {level, sort, d + at, children != NULL ? children + at : NULL,
				 n - at};
		uint32_t take = guess;
		void *bytes;
		size_t len;

		err = encode_next(&r, &take, &bytes, &len);
		if (err != 0)
			break;
		err = w->emit(w->ctx, level, id, take, bytes, len);
		if (err == 0)
			err = level_add(up, d + at, id);
		free(bytes);
		guess = take;
		at += take;
	}
	return err;
}

int tree_write(enum datom_sort sort, const struct datom *datoms, uint64_t n,
	       const struct tree_writer *w, struct seg_id *root)
{
	struct level leaves = {0}, dirs = {0};
	struct seg_id id;
	void *bytes;
	size_t len;
	int err = n == 0 ? -EINVAL : 0;

	if (err == 0)
		err = write_level(SEGMENT_LEAF, sort, datoms, NULL, n, w, &leaves);
	if (err == 0)
		err = write_level(SEGMENT_DIR, sort, leaves.first, leaves.id, leaves.n, w, &dirs);
	if (err == 0)
		err = segment_encode(SEGMENT_ROOT, sort, dirs.first, dirs.id, dirs.n, &bytes, &len);
	if (err == 0) {
		id = w->name(w->ctx, SEGMENT_ROOT, 0);
		err = w->emit(w->ctx, SEGMENT_ROOT, id, dirs.n, bytes, len);
		free(bytes);
		if (err == 0)
			*root = id;
	}
	level_free(&leaves);
	level_free(&dirs);
	return err;
}
