/* SPDX-License-Identifier: Apache-2.0 */
/* The orders of datoms; see datom.h. */
#include <string.h>

#include "datoms/datom.h"

const uint8_t datom_order[DATOM_SORTS][DATOM_PARTS] = {
    [SORT_EAVT] = {PART_E, PART_A, PART_V, PART_T},
    [SORT_AEVT] = {PART_A, PART_E, PART_V, PART_T},
    [SORT_AVET] = {PART_A, PART_V, PART_E, PART_T},
    [SORT_VAET] = {PART_V, PART_A, PART_E, PART_T},
};

static int order(uint64_t x, uint64_t y)
{
	return x < y ? -1 : x > y;
}

int value_compare(const struct value *x, const struct value *y)
{
	int c;

	if (x->type != y->type)
		return order(x->type, y->type);
	if (x->type == VALUE_REF)
		return order(x->ref, y->ref);
	if (!value_is_text(x->type))
		return x->n < y->n ? -1 : x->n > y->n;
	c = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
	return c != 0 ? c : order(x->len, y->len);
}

int datom_compare(enum datom_sort sort, const struct datom *x, const struct datom *y,
		  unsigned parts)
{
	for (unsigned i = 0; i < parts; i++) {
		int c = 0;

		switch ((enum datom_part)datom_order[sort][i]) {
		case PART_E:
			c = order(x->e, y->e);
			break;
		case PART_A:
			c = order(x->a, y->a);
			break;
		case PART_V:
			c = value_compare(&x->v, &y->v);
			break;
		case PART_T:
			c = order(y->t, x->t); /* descends */
			break;
		case DATOM_PARTS:
			break;
		}
		if (c != 0)
			return c;
	}
	return parts == DATOM_PARTS ? order(x->added, y->added) : 0;
}
