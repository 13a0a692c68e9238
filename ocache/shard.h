/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. A part of the cache: its objects, their budget, and how they leave.
 *
 *     FREE --insert--> IN --evict, forget--> LEAVING --no pin names it--> DEAD --bury--> FREE
 *
 * Rules
 *  [SH-1] used = overhead + resident + leaving; an object is let in only if used stays within the
 *         budget. LEAVING objects, which references may hold, and DEAD ones count until they are
 *         buried.
 *  [SH-2] An entry leaves LEAVING after a lane_fence() that came after its word left the table
 *         [TB-2].
 *  [SH-3] Objects are destroyed without the lock: functions that free some put them into a grave,
 *         and the caller gives that to shard_bury() when he has unlocked.
 *  [SH-4] The addresses of entries are the shard's to the end, so that a pin of any thread tells whose it is
 *         by its value alone.
 *  [SH-5] Room is made in three steps, each for some objects at once, a little ahead: they leave
 *         (a look at all pins); a fence tells which of them are dead; and as many dead ones are
 *         buried as an insertion needs. So the memory of the last is what the allocator gives next,
 *         and the lock is held for a short time.
 *  [SH-6] That fence, some microseconds in which all processors are interrupted, is shared by all
 *         shards: what has left is stamped, and dead when any fence is over that was begun later. If
 *         none is by the time that it is a lot, the insertion that sees it makes one, without the
 *         lock. Who finds nothing dead makes one of his own, with the lock.
 */
#ifndef OCACHE_SHARD_H
#define OCACHE_SHARD_H

#include <pthread.h>

#include "ocache/policy.h"
#include "ocache/table.h"

struct load;

#define SHARD_LOADS 256u /* lists of loads, by hash */

/* Its size is a power of two, so that a hit finds the one it wants by a shift. */
struct shard {
	_Alignas(4096) struct table table;
	_Alignas(64) pthread_mutex_t lock;
	/* under lock: */
	uint64_t budget, resident, leaving_bytes; /* the last: LEAVING and DEAD */
	struct entry *free, *leaving, *dead;      /* each by older */
	uint64_t leaving_n;
	/* [SH-6] LEAVING from this one on (by older) has this stamp; NULL: none has */
	struct entry *stamped;
	uint64_t stamp;
	bool fencing;                /* somebody was asked to make a fence for it */
	uint64_t unswept_bytes;      /* of LEAVING, what left since the last sweep */
	uint64_t kept_n, kept_bytes; /* of LEAVING, those that the last sweep found pinned */
	/* [SH-4] address space of entries_room bytes, of which the first entries_bytes are entries */
	struct entry *entries;
	size_t entries_bytes, entries_room;
	uint64_t free_n;
	uint64_t *held; /* a bit for each entry: pinned when look_at_pins() looked */
	size_t held_words;
	struct policy policy;
	uint64_t seed[2];
	uint64_t added, evicted, forgotten;
	/* load.h: */
	bool closing;
	struct load *loads[SHARD_LOADS];
	uint64_t loads_now, loads_begun, loads_failed, joined, timeouts;
};

/* Objects that nobody sees any more, to be destroyed. */
#define GRAVE_ROOM 8u
struct grave {
	unsigned n;
	bool fence;         /* [SH-6] */
	struct entry *more; /* DEAD, by older: what had no room below */
	struct {
		const struct ocache_decoder *decoder;
		void *object;
		size_t size;
	} at[GRAVE_ROOM];
};
static inline void grave_open(struct grave *g)
{
	g->n = 0;
	g->fence = false;
	g->more = NULL;
}

int shard_open(struct shard *s, const uint64_t seed[2], uint64_t budget);
/* Destroys all objects; nobody has a reference. Also of a shard that is all zero. */
void shard_close(struct shard *s);

/* All below under the lock, but for shard_bury(). */

uint64_t shard_overhead(const struct shard *s);

/*
 * The entry of a new object, in the table (id is not); NULL if it cannot be had: references fill
 * the budget, or there is no memory. Then the object is still the caller's.
 */
struct entry *shard_insert(struct shard *s, struct seg_id id, const struct ocache_decoder *decoder,
			   void *object, size_t size, struct grave *g);
void shard_forget(struct shard *s, struct entry *e, struct grave *g);
/*
 * Looks at the next `most` entries of the shard's memory, in no order, and calls each() for the objects that are in the
 * cache. False: there are no more. *walk is zero at the beginning; the lock may be given back between calls.
 */
struct shard_walk {
	size_t at;
};
bool shard_walk(const struct shard *s, struct shard_walk *walk, unsigned most,
		void (*each)(void *ctx, const struct entry *e), void *ctx);
/*
 * Lets go of what no longer fits. Of everything, if the cache's own memory is more than half of it; that is
 * given back when nothing is held any more.
 */
void shard_resize(struct shard *s, uint64_t budget, struct grave *g);
/* If that is so, and there is no object, nor one that leaves: gives that memory back. */
void shard_trim(struct shard *s);
/* Frees what has left and is no longer held. */
void shard_sweep(struct shard *s, struct grave *g);
/* Without the lock: destroys the objects of a grave, and makes the fence that it asks for. */
void shard_bury(struct shard *s, struct grave *g);
/* Is this an entry of the shard's? */
bool shard_owns(const struct shard *s, const void *entry);
/* Calls each() for every mapping: all memory that a hit reads. */
void shard_each_mapping(const struct shard *s, void (*each)(void *ctx, void *base, size_t bytes),
			void *ctx);

#endif
