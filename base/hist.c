/* SPDX-License-Identifier: Apache-2.0 */
/* Reading log-bucket histograms; see hist.h. */
#include "base/hist.h"

static uint64_t get(const _Atomic uint64_t *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

void hist_merge(struct hist *into, const struct hist *from)
{
	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		hist_bump_(&into->bucket[i], get(&from->bucket[i]));
	hist_bump_(&into->count, get(&from->count));
	hist_bump_(&into->sum, get(&from->sum));
	if (get(&from->max) > get(&into->max))
		atomic_store_explicit(&into->max, get(&from->max), memory_order_relaxed);
}

uint64_t hist_top(unsigned i)
{
	unsigned oct = i / HIST_SUB + 3, sub = i % HIST_SUB;

	if (i < HIST_SUB)
		return i;
	return ((uint64_t)(HIST_SUB + sub + 1) << (oct - 4)) - 1;
}

void hist_subtract(struct hist *into, const struct hist *before)
{
	uint64_t top = 0;

	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		hist_bump_(&into->bucket[i], 0 - get(&before->bucket[i]));
	hist_bump_(&into->count, 0 - get(&before->count));
	hist_bump_(&into->sum, 0 - get(&before->sum));
	if (get(&into->max) > get(&before->max))
		return; /* it came after */
	/* else the last bucket that has any is all that is known */
	for (unsigned i = HIST_BUCKETS; i-- > 0 && top == 0;)
		if (get(&into->bucket[i]) != 0)
			top = hist_top(i);
	if (top < get(&into->max))
		atomic_store_explicit(&into->max, top, memory_order_relaxed);
}

uint64_t hist_quantile(const struct hist *h, double q)
{
	uint64_t total = 0, seen = 0, want;

	/* count may run ahead of the buckets on another thread: use the buckets' own sum */
	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		total += get(&h->bucket[i]);
	if (total == 0)
		return 0;
	want = (uint64_t)((double)total * q + 0.5);
	if (want < 1)
		want = 1;
	if (want > total)
		want = total;
	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		seen += get(&h->bucket[i]);
		if (seen >= want) {
			uint64_t top = hist_top(i), max = get(&h->max);

			return top < max ? top : max;
		}
	}
	return get(&h->max);
}
