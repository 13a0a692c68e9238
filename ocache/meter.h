/* SPDX-License-Identifier: Apache-2.0 */
/* Private to ocache. What a metric is made of: the least, the most, sum and number of some values. */
#ifndef OCACHE_METER_H
#define OCACHE_METER_H

#include <stdint.h>

/* All zero: of none. Its owner's lock guards it. */
struct meter {
	uint64_t lo, hi, sum, count;
};

static inline void meter_merge(struct meter *to, const struct meter *from)
{
	if (from->count == 0)
		return;
	to->lo = to->count == 0 || from->lo < to->lo ? from->lo : to->lo;
	to->hi = from->hi > to->hi ? from->hi : to->hi;
	to->sum += from->sum;
	to->count += from->count;
}

static inline void meter_add(struct meter *m, uint64_t v)
{
	meter_merge(m, &(struct meter){v, v, v, 1});
}

/* Values of which `ones` are 1, the others 0. */
static inline struct meter meter_of_hits(uint64_t ones, uint64_t all)
{
	return (struct meter){all > 0 && ones == all, ones > 0, ones, all};
}

#endif
