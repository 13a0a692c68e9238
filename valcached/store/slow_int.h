/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the slow worker (slow.c, evict.c); all of it on its thread. */
#ifndef VALCACHED_STORE_SLOW_INT_H
#define VALCACHED_STORE_SLOW_INT_H

#include "valcached/store/store_int.h"

/* ---- slow.c ------------------------------------------------------------------------------------ */

/* Writes what d holds, and gives it back. */
int slow_write(struct store_worker *sw, struct disk_io *d, uint32_t len, uint64_t off);
/* Makes durable what has been written to the path; if that fails, the path has failed. */
int slow_sync(struct store_worker *sw, struct path *p);
/* Does that for all paths when it is time. Returns when (io_now) it will be; UINT64_MAX: there is nothing to sync. */
uint64_t sync_turn(struct store_worker *sw);
/* Writes what is in the slow worker's own write buffers. */
void slow_flush(struct store_worker *sw);

/* Writes table and footer of a FULL segment without extents. If that fails, the path has failed. */
void slow_seal(struct store_worker *sw, struct path *p, uint32_t seg);

/* ---- scrub.c, recency.c: what it does when it has nothing else to do ---------------------------- */

/* *next: when to call again at the latest, if that is sooner. */
void scrub_turn(struct store_worker *sw, uint64_t *next);
void recency_turn(struct store_worker *sw, uint64_t *next);
/* A clean stop: everything is sealed. */
void recency_stop(struct store_worker *sw);

/* ---- evict.c ----------------------------------------------------------------------------------- */

/* A sealed segment's table, malloc'd. 0, -EBADMSG (damaged), or -errno; on failure *e is NULL or unchanged. */
int slow_read_table(struct store_worker *sw, struct path *p, uint32_t seg, struct format_entry **e,
		    uint32_t *n);
/* Recycles the oldest of a stream, or of `only`. False: nothing can be recycled yet. */
bool recycle(struct store_worker *sw, struct path *p, struct order *only);
/* Recycles this one, which is sealed, before its turn. */
bool recycle_now(struct store_worker *sw, struct path *p, uint32_t seg);
/* Who keeps this segment from being sealed is asked to let go: long sets [L-1], idle write buffers. */
void close_soon(struct store_worker *sw, struct path *p, uint32_t seg);
/* Segments whose next life has begun on disk, and that a late read still pinned. */
void pending_turn(struct store_worker *sw, struct path *p);
/* Gives a segment that was never used its first life. */
void prepare_virgin(struct store_worker *sw, struct path *p);
/* [QU-1] Returns whether it must be called again soon. */
bool quarantine_turn(struct store_worker *sw, struct path *p);

/* ---- leave.c ----------------------------------------------------------------------------------- */

/* Nothing is left in it, and nobody reads it. */
void leave_done(struct path *p, uint32_t seg);

#endif
