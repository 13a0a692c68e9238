/* SPDX-License-Identifier: Apache-2.0 */
/* Datoms by chance for tests of datoms/, from few values, so that parts are equal often. */
#ifndef TESTS_UNIT_DATOMS_RIG_H
#define TESTS_UNIT_DATOMS_RIG_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datoms/segment.h"

static inline uint64_t draw(uint64_t *random, uint64_t below)
{
	*random = *random * 6364136223846793005ull + 1442695040888963407ull;
	return (*random >> 33) % below;
}

static inline struct value some_value(uint64_t *random)
{
	static const char *const texts[] = {"", "a", "ab", "b", "b\0", "zebra", "\xff", "Name"};
	static const int64_t longs[] = {INT64_MIN, -5, -1, 0, 1, 300, 70000, INT64_MAX};
	uint64_t at = draw(random, 8);

	switch (draw(random, VALUE_TYPES)) {
	case VALUE_LONG:
		return (struct value){.type = VALUE_LONG, .n = longs[at]};
	case VALUE_INSTANT:
		return (struct value){.type = VALUE_INSTANT, .n = 1600000000000 + (int64_t)at};
	case VALUE_REF:
		return (struct value){.type = VALUE_REF, .ref = at == 7 ? UINT64_MAX : at << 42};
	case VALUE_STRING:
		return (struct value){.type = VALUE_STRING,
				      .len = at == 4 ? 2 : (uint32_t)strlen(texts[at]),
				      .text = texts[at]};
	default:
		return (struct value){
		    .type = VALUE_KEYWORD, .len = (uint32_t)strlen(texts[at]), .text = texts[at]};
	}
}

static inline struct datom some_datom(uint64_t *random)
{
	static const uint64_t entities[] = {0, 1, 2, 3ull << 42, (3ull << 42) + 1, UINT64_MAX};

	return (struct datom){.e = entities[draw(random, 6)],
			      .a = draw(random, 9) == 0 ? UINT32_MAX : (uint32_t)draw(random, 3),
			      .v = some_value(random),
			      .t = draw(random, 9) == 0 ? 0 : (3ull << 42) + draw(random, 4),
			      .added = draw(random, 4) != 0};
}

static enum datom_sort rig_sort;
static inline int rig_compare(const void *x, const void *y)
{
	return datom_compare(rig_sort, x, y, DATOM_PARTS);
}

/* At most n that differ, in order. Returns how many. */
static inline uint32_t some_datoms(uint64_t *random, enum datom_sort sort, struct datom *d,
				   uint32_t n)
{
	uint32_t kept = 1;

	for (uint32_t i = 0; i < n; i++) {
		d[i] = some_datom(random);
		if (sort == SORT_VAET)
			d[i].v = (struct value){.type = VALUE_REF, .ref = draw(random, 9)};
	}
	rig_sort = sort;
	qsort(d, n, sizeof *d, rig_compare);
	for (uint32_t i = 1; i < n; i++)
		if (rig_compare(&d[kept - 1], &d[i]) != 0)
			d[kept++] = d[i];
	return kept;
}

static inline void assert_same(const struct datom *x, const struct datom *y)
{
	assert_int_equal(x->e, y->e);
	assert_int_equal(x->a, y->a);
	assert_int_equal(x->t, y->t);
	assert_int_equal(x->added, y->added);
	assert_int_equal(x->v.type, y->v.type);
	assert_int_equal(value_compare(&x->v, &y->v), 0);
}

/*
 * Reads and asks what can be read and asked of any segment, sorted or not; a sum, so that nothing is left out.
 */
static inline uint64_t use_all(const struct segment *s)
{
	struct datom d, key;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < s->n; i++) {
		segment_datom(s, i, &d);
		sum += d.e + d.a + d.t + d.added + d.v.type + (uint64_t)d.v.len;
		for (uint32_t b = 0; value_is_text(d.v.type) && b < d.v.len; b++)
			sum += (uint8_t)d.v.text[b];
		if (s->child != NULL)
			sum += s->child[i].hi ^ s->child[i].lo;
		if (i % 64 != 0 && i + 1 < s->n)
			continue;
		for (unsigned type = 0; type < VALUE_TYPES; type++) {
			key = d;
			if (key.v.type != type)
				key.v = (struct value){.type = (uint8_t)type,
						       .len = value_is_text((uint8_t)type) ? 1 : 0};
			if (value_is_text((uint8_t)type) && key.v.type != d.v.type)
				key.v.text = "m";
			for (unsigned parts = 0; parts <= DATOM_PARTS; parts++) {
				uint32_t from = segment_search(s, &key, parts, false);
				uint32_t to = segment_search(s, &key, parts, true);

				if (from > to || to > s->n)
					abort();
				sum += from + to;
			}
		}
	}
	return sum + segment_ordered(s);
}

#endif
