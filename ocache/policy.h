/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. Which object goes when one must: S3-FIFO (J. Yang et al., "FIFO queues are all
 * you need for cache eviction", SOSP 2023), by bytes. New objects enter a small queue; what is used
 * before it comes to its end moves to the main queue, the rest goes, and is remembered for a while
 * by a fingerprint: what comes back in that time enters main at once. In main, what was used goes
 * round again. So a scan passes through the small queue and pushes out nothing.
 *
 * All under the shard's lock, but for policy_touch(), which hits call.
 */
#ifndef OCACHE_POLICY_H
#define OCACHE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/ghost.h"
#include "ocache/table.h"

enum policy_queue { POLICY_SMALL, POLICY_MAIN, POLICY_QUEUES };

struct policy {
	struct {
		struct entry *newest, *oldest;
		uint64_t bytes, entries;
	} q[POLICY_QUEUES];
	struct ghost *ghost; /* NULL: nothing is remembered */
	uint64_t ghost_entries;
	uint64_t seed[2];
};

void policy_open(struct policy *p, const uint64_t seed[2]);
void policy_close(struct policy *p);

/* Once for each hit. Writes only what is not yet set. */
static inline void policy_touch(struct entry *e)
{
	if (atomic_load_explicit(&e->used, memory_order_relaxed) == 0)
		atomic_store_explicit(&e->used, 1, memory_order_relaxed);
}

void policy_insert(struct policy *p, struct entry *e);
void policy_remove(struct policy *p, struct entry *e);
/*
 * Takes the next to go out of its queue; NULL: there is none, or too many that pinned() says are
 * held were passed over. budget is that of all objects.
 */
struct entry *policy_evict(struct policy *p, uint64_t budget,
			   bool (*pinned)(void *ctx, const struct entry *e), void *ctx);
/* Bytes of memory that it takes. */
uint64_t policy_bytes(const struct policy *p);

#endif
