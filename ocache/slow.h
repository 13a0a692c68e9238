/* SPDX-License-Identifier: Apache-2.0 */
/* Private to ocache. Where a load's time went, and the last loads that took long. */
#ifndef OCACHE_SLOW_H
#define OCACHE_SLOW_H

#include <pthread.h>

#include "ocache/ocache.h"

#define SLOW_LOADS 64u

/* Of one load; under its shard's lock, or its decoder's. */
struct trail {
	uint64_t begun_ns, decode_ns;
	struct {
		uint32_t reads;
		int32_t status;
		uint64_t ns;
	} tier[OCACHE_TIERS_MAX];
};

struct slow_log {
	uint64_t slow_ns;
	pthread_mutex_t lock; /* takes no other */
	/* under lock: */
	uint64_t n;               /* since open */
	struct ocache_slow *load; /* SLOW_LOADS; NULL: there was none, or no memory */
};

static inline void trail_read(struct trail *t, unsigned tier, uint64_t ns, int status)
{
	t->tier[tier].reads++;
	t->tier[tier].ns += ns;
	t->tier[tier].status = status;
}

/* A load has ended. Any thread; the shard's lock may be held. */
void slow_note(struct ocache *c, struct seg_id id, const struct trail *trail,
	       const char *io_context, int status);

#endif
