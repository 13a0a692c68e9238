/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. A part of the cache: its objects, their budget, and how they leave.
 *
 *     FREE --insert--> IN --evict, forget--> LEAVING --no pin names it--> DEAD --destroyed--> FREE
 *
 * Rules
 *  [SH-1] used = overhead + resident + leaving; an object is let in only if used stays within the
 *         budget. LEAVING objects, which references hold, count until they are freed.
 *  [SH-2] An entry leaves LEAVING after a lane_fence() that came after its word left the table
 *         [TB-2].
 *  [SH-3] Objects are destroyed without the lock: functions that free some put their entries into a
 *         list, and the caller gives that to shard_bury() when he has unlocked.
 *  [SH-4] The memory of entries is the shard's to the end; a pin never leads to memory that is not
 *         there.
 */
#ifndef OCACHE_SHARD_H
#define OCACHE_SHARD_H

#include <pthread.h>

#include "ocache/policy.h"
#include "ocache/table.h"

struct chunk;
struct load;

#define SHARD_LOADS 256u /* lists of loads, by hash */

struct shard {
	struct table table;
	_Alignas(64) pthread_mutex_t lock;
	/* under lock: */
	struct policy policy;
	uint64_t seed[2];
	uint64_t budget, resident, leaving_bytes, chunk_bytes;
	struct entry *free;               /* by older */
	struct entry *leaving;            /* by older */
	uint64_t leaving_n, leaving_kept; /* how many; and after the last sweep */
	struct chunk *chunks;
	void **pins; /* room for lane_pinned() */
	size_t pins_room;
	uint64_t added, evicted, forgotten;
	/* load.h: */
	bool closing;
	struct load *loads[SHARD_LOADS];
	uint64_t loads_now, loads_begun, loads_failed, joined, timeouts;
};

int shard_open(struct shard *s, const uint64_t seed[2], uint64_t budget);
/* Destroys all objects; nobody has a reference. Also of a shard that is all zero. */
void shard_close(struct shard *s);

/* All below under the lock, but for shard_bury(). */

uint64_t shard_overhead(const struct shard *s);
static inline uint64_t shard_used(const struct shard *s)
{
	return shard_overhead(s) + s->resident + s->leaving_bytes;
}

/*
 * The entry of a new object, in the table (id is not); NULL if it cannot be had: references fill
 * the budget, or there is no memory. Then the object is still the caller's.
 */
struct entry *shard_insert(struct shard *s, struct seg_id id, const struct ocache_decoder *decoder,
			   void *object, size_t size, struct entry **dead);
void shard_forget(struct shard *s, struct entry *e, struct entry **dead);
/*
 * Looks at the next `most` entries of the shard's memory, in no order, and calls each() for the objects that are in the
 * cache. False: there are no more. *walk is zero at the beginning; the lock may be given back between calls.
 */
struct shard_walk {
	const struct chunk *chunk;
	size_t at;
	bool begun;
};
bool shard_walk(const struct shard *s, struct shard_walk *walk, unsigned most,
		void (*each)(void *ctx, const struct entry *e), void *ctx);
void shard_resize(struct shard *s, uint64_t budget, struct entry **dead);
/* Frees what has left and is no longer held. */
void shard_sweep(struct shard *s, struct entry **dead);
/* Without the lock: destroys the objects of a list. */
void shard_bury(struct shard *s, struct entry *dead);
/* Is this an entry of the shard's? */
bool shard_owns(const struct shard *s, const void *entry);
/* Calls each() for every mapping: all memory that a hit reads. */
void shard_each_mapping(const struct shard *s, void (*each)(void *ctx, void *base, size_t bytes),
			void *ctx);

#endif
