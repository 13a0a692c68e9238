/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A datom, the smallest fact of a database: an entity has a value for an attribute since a
 * transaction, or (added is false) no longer has it. And the four orders in which an index keeps
 * them. Pure functions; any thread.
 *
 *     EAVT  all about an entity        AVET  entities by an attribute's value
 *     AEVT  an attribute's column      VAET  who refers to an entity (values that are refs)
 *
 * e, a and v ascend, t descends: of several datoms about one fact the latest comes first. Values
 * of different types are ordered by type.
 */
#ifndef DATOMS_DATOM_H
#define DATOMS_DATOM_H

#include <stdbool.h>
#include <stdint.h>

/* On disk these numbers are kept: new ones go to the end. */
enum value_type {
	VALUE_LONG,    /* n */
	VALUE_INSTANT, /* n: milliseconds since 1970 */
	VALUE_REF,     /* ref: an entity */
	VALUE_STRING,  /* text, compared byte by byte */
	VALUE_KEYWORD, /* text, without its colon */
	VALUE_TYPES
};

struct value {
	uint8_t type;
	uint32_t len; /* of text, which need not end in a zero byte */
	union {
		int64_t n;
		uint64_t ref;
		const char *text;
	};
};

struct datom {
	uint64_t e, t;
	struct value v;
	uint32_t a;
	bool added;
};

enum datom_sort { SORT_EAVT, SORT_AEVT, SORT_AVET, SORT_VAET, DATOM_SORTS };
enum datom_part { PART_E, PART_A, PART_V, PART_T, DATOM_PARTS };

/* Which part of a datom comes first, second ... in a sort. */
extern const uint8_t datom_order[DATOM_SORTS][DATOM_PARTS];

static inline bool value_is_text(uint8_t type)
{
	return type == VALUE_STRING || type == VALUE_KEYWORD;
}

/* Below, at or above zero, as memcmp(). */
int value_compare(const struct value *x, const struct value *y);
/* By the first `parts` parts of the sort, 0 to 4; with all of them also by `added`. */
int datom_compare(enum datom_sort sort, const struct datom *x, const struct datom *y,
		  unsigned parts);
/* Is it kept in this sort? VAET has refs only. What is in AVET its database decides. */
static inline bool datom_in_sort(enum datom_sort sort, const struct datom *d)
{
	return sort != SORT_VAET || d->v.type == VALUE_REF;
}

#endif
