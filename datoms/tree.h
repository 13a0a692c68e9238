/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An index as a tree of segments: a root, dirs, leaves. Written bottom up from sorted datoms, read
 * through an ocache.
 *
 *     root   for each dir its first datom and its id
 *       dir    for each leaf its first datom and its id
 *         leaf   datoms
 *
 * A tree never changes: another state of the database is another root.
 */
#ifndef DATOMS_TREE_H
#define DATOMS_TREE_H

#include "datoms/segment.h"

/* ---- writing ---- */

/*
 * A writer makes segments of about TREE_BYTES: of TREE_DATOMS_MIN to TREE_DATOMS_MAX datoms, and of at most
 * TREE_BYTES_MAX bytes. Where both cannot be, the bytes count: there are fewer datoms if texts are long, and
 * shorter segments if TREE_DATOMS_MAX pack so well, or an index has no more. The root is one segment, whatever
 * its length.
 */
#define TREE_BYTES      40000u
#define TREE_BYTES_MAX  60000u
#define TREE_DATOMS_MIN 1000u
#define TREE_DATOMS_MAX 20000u

struct tree_writer {
	/* Names a new segment of a level: number 0, 1, 2 ... in their order. */
	struct seg_id (*name)(void *ctx, enum segment_level level, uint32_t number);
	/*
	 * Takes a finished one; bytes are valid during the call. Children come before their parents. Not 0:
	 * the tree is given up with this error.
	 */
	int (*emit)(void *ctx, enum segment_level level, struct seg_id id, uint32_t datoms,
		    const void *bytes, size_t len);
	void *ctx;
};

/*
 * Writes the tree of n datoms (at least 1) that ascend in the sort; *root is its root's id. 0; -EINVAL: they
 * do not, or the root would need more than SEGMENT_DATOMS_MAX children; -ENOMEM; what emit says.
 */
int tree_write(enum datom_sort sort, const struct datom *datoms, uint64_t n,
	       const struct tree_writer *writer, struct seg_id *root);

/* ---- reading ---- */

/* A database's indexes, as of one moment. An id of zeros: no datoms in this sort. */
struct tree_roots {
	struct seg_id id[DATOM_SORTS];
};

/*
 * Part of an index: datoms that are at least `from` by its first from_parts parts, and at most `to` by its
 * first to_parts; with to_open below it. No parts: all of the index on that side.
 */
struct tree_range {
	enum datom_sort sort;
	struct datom from, to; /* their texts live as long as the scan */
	unsigned from_parts, to_parts;
	bool to_open;
};

/* What people ask of a database. */
struct tree_range tree_entity(uint64_t e);               /* all of an entity: EAVT */
struct tree_range tree_lookup(uint64_t e, uint32_t a);   /* its values of a: EAVT */
struct tree_range tree_attribute(uint32_t a);            /* all values of a: AEVT */
struct tree_range tree_find(uint32_t a, struct value v); /* who has this value: AVET */
struct tree_range tree_values(uint32_t a, struct value from,
			      struct value to);              /* [from, to): AVET */
struct tree_range tree_referrers(uint64_t e);                /* who refers to e: VAET */
struct tree_range tree_referrers_by(uint64_t e, uint32_t a); /* by this attribute */

/* How a scan reads. */
struct tree_reader {
	struct ocache *cache;
	struct tree_roots roots;
	struct iostats *io;  /* NULL: nothing is counted */
	int64_t deadline_ns; /* absolute, CLOCK_MONOTONIC; 0: none */
	uint16_t flags;      /* of struct ocache_hint */
};

/*
 * A walk over a range in order. Used by one thread; it holds references to a leaf and its parents, so it is
 * closed, also after an error.
 */
struct tree_scan {
	struct tree_reader reader;
	struct tree_range range;
	struct ocache_ref ref[SEGMENT_LEVELS]; /* by level */
	uint32_t at[SEGMENT_LEVELS];           /* the child, or in a leaf the next datom */
	uint32_t end;                          /* of the range in this leaf */
	bool over;
};

/*
 * 0; -EBADMSG: a segment is not of this tree (another sort or level); an error of ocache_get(). After an
 * error nothing is open.
 */
int tree_scan_open(struct tree_scan *scan, const struct tree_reader *reader,
		   const struct tree_range *range);
/*
 * The next datoms that lie in one leaf: *leaf, from *from up to and without *to; at least one. 1; 0: there
 * are no more; or as above. They are valid until the next call for this scan.
 */
int tree_scan_run(struct tree_scan *scan, const struct segment **leaf, uint32_t *from,
		  uint32_t *to);
/* The next datom; its text is valid until the next call. 1, 0 or an error. */
int tree_scan_next(struct tree_scan *scan, struct datom *d);
void tree_scan_close(struct tree_scan *scan);

#endif
