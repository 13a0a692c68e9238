/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. Which object goes when one must: S3-FIFO (J. Yang et al., "FIFO queues are all
 * you need for cache eviction", SOSP 2023), by bytes. docs/policies.md has
 * the traces behind what differs from the paper, [PO-2] to [PO-5].
 *
 *     new ----> small --used--> main <--+ round again: used [PO-3]
 *      |          |              ^ |----+
 *      |          +--> ghost ----+ +--> out
 *      +-- main has room [PO-2] -^
 *
 *  [PO-1] New objects enter the small queue. What is used before it comes to its end moves to main;
 *         the rest goes, and a fingerprint of it is remembered for a while: what comes back in that
 *         time enters main at once. So a scan passes through the small queue and pushes out nothing.
 *  [PO-2] While main has not its share, new objects enter it at once, and none leaves it. So of a
 *         loop that is larger than the cache a part stays, and hits.
 *  [PO-3] Uses are counted, up to three; each move to or in main costs one, and what has none goes.
 *         So what is used now and then outlives what was used once.
 *  [PO-4] The ghost remembers a quarter more than main has, down to half of that while less than
 *         half of those that came back were used again by the time main had gone round. Then those
 *         that it lets in are worth less than what goes for them.
 *  [PO-5] The small queue's share is a forty-fifth of the bytes.
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
	uint64_t ghost_entries, ghost_bytes;
	/* ghost_where(), read without the lock to fetch ahead: both of now, or not, or zero */
	_Atomic uintptr_t ghost_base;
	_Atomic uint32_t ghost_sets;
	uint64_t ghost_short; /* it remembers so many fewer than main has */
	uint64_t seed[2];
};

void policy_open(struct policy *p, const uint64_t seed[2]);
void policy_close(struct policy *p);
/* Both queues are empty: what has left is no longer remembered. */
void policy_forget(struct policy *p);

#define POLICY_USES_MAX 3u /* [PO-3] */

/*
 * Once for each hit. Writes only what is less than that; else *spare is written instead, the thread's
 * own: a branch would be guessed wrong for most objects that have just come, and known for wrong only
 * when their line is there. Of two at the same time one may be lost.
 */
static inline void policy_touch(struct entry *e, _Atomic uint8_t *spare)
{
	uintptr_t uses = atomic_load_explicit(&e->uses, memory_order_relaxed); /* 0 to 3 */
	uintptr_t own = (uintptr_t)spare ^ (uintptr_t)&e->uses;
	uintptr_t at = (uintptr_t)&e->uses ^ (own & -(uintptr_t)(uses == POLICY_USES_MAX));

	atomic_store_explicit((_Atomic uint8_t *)at, (uint8_t)(uses + 1), memory_order_relaxed);
}
/* The same under the lock, where there is no spare. */
static inline void policy_use(struct entry *e)
{
	_Atomic uint8_t spare;

	policy_touch(e, &spare);
}

/* budget is that of all objects, here and below. */
void policy_insert(struct policy *p, struct entry *e, uint64_t budget);
void policy_remove(struct policy *p, struct entry *e);
/*
 * Takes the next to go out of its queue; NULL: there is none, or too many that pinned() says are
 * held were passed over.
 */
struct entry *policy_evict(struct policy *p, uint64_t budget,
			   bool (*pinned)(void *ctx, const struct entry *e), void *ctx);
/*
 * Begins to fetch what the next eviction, or the insertion of this hash, will look at, so that it
 * does not wait for memory line by line.
 */
void policy_prefetch_evict(const struct policy *p, const struct table *t);
/* Without the lock. */
static inline void policy_prefetch_insert(const struct policy *p, uint64_t hash)
{
	ghost_prefetch_at(
	    (struct ghost_where){atomic_load_explicit(&p->ghost_base, memory_order_relaxed),
				 atomic_load_explicit(&p->ghost_sets, memory_order_relaxed)},
	    hash);
}
/* How much an object has been used, from 0 to POLICY_WORTH_MAX: what is higher is evicted later. */
#define POLICY_WORTH_MAX (POLICY_USES_MAX + 1)
static inline unsigned policy_worth(const struct entry *e)
{
	return (e->queue == POLICY_MAIN ? 1u : 0u) +
	       atomic_load_explicit(&e->uses, memory_order_relaxed);
}
/* Bytes of memory that it takes. */
static inline uint64_t policy_bytes(const struct policy *p)
{
	return p->ghost_bytes;
}

#endif
