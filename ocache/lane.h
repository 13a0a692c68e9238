/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. A lane is what one thread alone writes: its pins, which keep objects that it
 * was given from being freed, and its counts of accesses. Everything that must cost nothing on a hit.
 *
 * Pins are hazard pointers (M. M. Michael, "Hazard pointers: safe memory reclamation for lock-free
 * objects", IEEE TPDS 15(6), 2004) with the fence on the side that is rare:
 *
 *     reader                            who frees
 *       e = slot                          slot = NULL           (unlink)
 *       pin = e                           lane_fence()     (membarrier: a fence in every thread)
 *       (compiler barrier)                is any pin e? keep it : free it
 *       slot == e? it is ours : again
 *
 * Either the reader's second look comes before the unlinking, and then its pin is seen; or it comes
 * after, and then the reader does not touch e. So a reference costs the reader two stores to lines
 * of its own, may be held for as long as one likes, and holds up nothing but its own object.
 *
 * Rules
 *  [LN-1] A lane belongs to one thread until that ends, then to another. Its memory is never given
 *         back; so it may be read at any time, and a pin may be let go by any thread.
 *  [LN-2] Only the owner sets a pin that is NULL. Anybody who was given the pin sets it to NULL,
 *         once.
 *  [LN-3] A pin that lane_each_pin() finds is set before lane_fence() was called, or the reader's second
 *         look failed.
 *
 * The lanes are the library's only state outside of what a caller opened.
 */
#ifndef OCACHE_LANE_H
#define OCACHE_LANE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"

#define LANE_PINS   56u /* in a lane's first chunk: seven lines */
#define LANE_CACHES 64u /* caches open at a time */

struct pins {
	_Atomic(struct pins *) next;
	uint32_t n;
	_Atomic(void *) pin[];
};

struct lane {
	struct lane *next; /* set before it is in the list */
	_Atomic bool owned;
	/* the owner's: the pin that it looks at first, and where that stands */
	_Atomic(void *) *pin;
	struct pins *chunk;
	uint32_t at;
	_Atomic uint8_t spare; /* policy_touch() */
	/* the owner adds, others read; by the number of the cache */
	_Alignas(64) struct lane_count {
		_Atomic uint64_t hits, misses;
	} count[LANE_CACHES];
	_Alignas(64) struct pins first;
};

extern _Thread_local struct lane *lane__mine;
struct lane *lane__join(void);
_Atomic(void *) *lane__pin_slow(struct lane *ln);

/* The calling thread's lane; NULL: no memory for one. */
static inline struct lane *lane_mine(void)
{
	return likely(lane__mine != NULL) ? lane__mine : lane__join();
}

/*
 * The pin that was used last, if it is NULL again. Acquire, here and below: who let it go may be another thread, and what
 * that did with the object comes before what is pinned next is seen to be gone.
 */
static inline _Atomic(void *) *lane_pin_first(struct lane *ln)
{
	_Atomic(void *) *pin = ln->pin;

	return likely(atomic_load_explicit(pin, memory_order_acquire) == NULL) ? pin : NULL;
}

/* A pin of the owner's that is NULL, to be set by it; NULL: no memory for more of them. */
static inline _Atomic(void *) *lane_pin(struct lane *ln)
{
	_Atomic(void *) *pin = lane_pin_first(ln);

	return likely(pin != NULL) ? pin : lane__pin_slow(ln);
}

/*
 * Lets the compiler move no access of the reader's across this; the processor is held by
 * lane_fence(), or, where the kernel has none, by a fence here.
 */
extern bool lane__weak; /* no membarrier(2): set before the first lane exists */
static inline void lane_reader_fence(void)
{
	atomic_signal_fence(memory_order_seq_cst);
	if (unlikely(lane__weak))
		atomic_thread_fence(memory_order_seq_cst);
}

static inline void lane_unpin(_Atomic(void *) *pin)
{
	atomic_store_explicit(pin, NULL, memory_order_release);
}

/* A fence in every running thread of the process; some microseconds. No lock of a reader's. */
void lane_fence(void);
/*
 * One fence does for all who have unlinked something before it: a stamp, taken after that, and whether
 * a fence that was begun later is over.
 */
extern _Atomic uint64_t lane__begun, lane__done; /* fences, numbered as they begin */
static inline uint64_t lane_stamp(void)
{
	/* the unlinking is seen before the number is read */
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load_explicit(&lane__begun, memory_order_relaxed);
}
static inline bool lane_fenced(uint64_t stamp)
{
	return atomic_load_explicit(&lane__done, memory_order_acquire) > stamp;
}
/* Calls each() for every pin of the process that is set. What its holder did before it let go of one that is not is over. */
void lane_each_pin(void (*each)(void *ctx, const void *pinned), void *ctx);
/* The owner's step of one of its counts. */
static inline void lane_step(_Atomic uint64_t *count)
{
	atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}
/* Sums of count[cache] over all lanes. */
void lane_counts(unsigned cache, uint64_t *hits, uint64_t *misses);

/* A number for a cache, below LANE_CACHES; -ENFILE: all are in use. */
int lane_cache_open(void);
void lane_cache_close(unsigned cache);

#endif
