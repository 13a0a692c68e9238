/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the store: how often values were used, kept on disk for a start that has nothing else. recency.c */
#ifndef VALCACHED_STORE_RECENCY_H
#define VALCACHED_STORE_RECENCY_H

#include "valcached/store/store_int.h"

int recency_open(struct store *s);
void recency_close(struct store *s);
void recency_stats(const struct store *s, store_emit_fn *emit, void *arg);

/*
 * At start, when the segments' generations are known: reads what was saved. Without clocks only what the next save must
 * know. What is damaged or cannot be read is as if it had not been saved.
 */
void recency_load(struct store *s, struct io *io, bool clocks);
/* Until recency_loaded(): what was saved of this life of a segment, verified; NULL: nothing. */
const struct format_clocks *recency_of(const struct path *p, uint32_t seg);
void recency_loaded(struct store *s);
/* For the order of recycling within a stream, the lowest first. */
uint64_t recency_age(const struct path *p, uint32_t seg);
/* So many clocks were not 0. */
void recency_restored(struct store *s, uint64_t values);

/* The clock of value number v of a table with so many values. */
static inline uint8_t recency_clock(const struct format_clocks *c, uint32_t values, uint32_t v)
{
	const uint8_t *bits = (const uint8_t *)(c + 1);

	if (c == NULL || c->values != values)
		return 0;
	return (uint8_t)((unsigned)bits[v / 4] >> v % 4 * 2 & (unsigned)INDEX_CLOCK_MAX);
}

#endif
