/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. Single flight: one load per key at a time, and who waits for it.
 *
 *              +---- miss, failure, time-out, damage: the next try or tier ----+
 *              v                                                               |
 *     start --> TIERS --bytes--> OPENING --a thread takes it--> DECODING ------+
 *              |                    |                              |
 *              +--no tier is left---+--closing--> DONE <---object--+
 *
 *     TIERS     a read is out (`active`), or a pause before the next try (`pausing`), or
 *               load_go_on() runs
 *     OPENING   the bytes are here and wait for a thread: one of those that wait, else one of the
 *               pool
 *     DECODING  a thread verifies, unpacks and decodes
 *
 * Rules
 *  [LD-1] All fields change under the shard's lock. The load is in the shard's list until it is
 *         DONE.
 *  [LD-2] A load is nobody's: it goes on when all who wait have gone. It always ends: a read that
 *         is out is not waited for longer than the tier's deadline, whether or not the tier keeps
 *         it.
 *  [LD-3] A read is `active` or late. What a late one brings is dropped. Its memory stays until the
 *         tier has given it back.
 *  [LD-4] References: one for the list, one for each read that is out, each arming of the timer,
 *         each push of the job. What holds one may look at the load.
 *  [LD-5] A waiter belongs to its thread (ocache_get) or to the load (ocache_submit), and is in the
 *         load's list until it has its answer or has given up.
 *  [LD-6] Of OPENING one thread makes DECODING; then the others have nothing to do with the bytes.
 *  [LD-7] Who begins to wait after a storage of record has said that it wrote the segment may join a
 *         load that had asked before. So the write marks the load (`again`), and where it would end
 *         with -ENOENT it begins once more at the nearest tier.
 */
#ifndef OCACHE_LOAD_H
#define OCACHE_LOAD_H

#include <errno.h>

#include "ocache/cache_int.h"

/*
 * ocache_get() of what is not in the table, with tiers. pin is the calling thread's, free. 1: it
 * was in the table after all; 0: it was loaded; or -errno. ref is set, and pin taken, unless it
 * failed.
 */
int ocache__load_wait(struct ocache *c, struct seg_id id, uint64_t hash,
		      const struct ocache_hint *hint, struct iostats *io, _Atomic(void *) *pin,
		      struct ocache_ref *ref);
/* Ends all loads; returns when there are none, and no write is out. */
void ocache__loads_end(struct ocache *c);

/* What keeps ocache_close() waiting: loads, writes, callers that wait, who calls a caller's function. */
void ocache__busy(struct ocache *c);
void ocache__idle(struct ocache *c);

/* A storage of record may have the segment now, though a load has been told that it does not [LD-7]. */
void ocache__written(struct ocache *c, struct seg_id id);

/* What a tier has answered: 0 or an error, also of one that breaks the rules. */
static inline int ocache__status(int status)
{
	return status <= 0 ? status : -EIO;
}

/* The id as an envelope has it. */
void ocache__key_bytes(struct seg_id id, uint8_t key[16]);

/* Writes bytes, an envelope, to a tier in the background, if its caps and the cache's have room for one more. Will it? */
bool ocache__fill(struct ocache *c, unsigned tier, struct seg_id id, struct seg_buf *bytes);

#endif
