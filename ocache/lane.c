/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes of threads; see lane.h. */
#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ocache/lane.h"

#define LOOK_MAX 128u /* pins looked at before more are made */

_Thread_local struct lane *lane__mine;
bool lane__weak;
_Atomic uint64_t lane__begun, lane__done;

static _Atomic(struct lane *) lanes;
static pthread_key_t lane_key;
static pthread_once_t lane_once = PTHREAD_ONCE_INIT;
static bool lane_ready; /* set once */
static _Atomic uint64_t caches;

static int membarrier(int cmd)
{
	return (int)syscall(SYS_membarrier, cmd, 0, 0);
}

/* The thread ends. What it pinned stays pinned until it is let go by whoever has it. */
static void lane_leave(void *p)
{
	struct lane *ln = p;

	lane__mine = NULL;
	atomic_store_explicit(&ln->owned, false, memory_order_release);
}

static void lane_start(void)
{
	lane__weak = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) != 0;
	lane_ready = pthread_key_create(&lane_key, lane_leave) == 0;
}

static struct lane *lane_new(void)
{
	size_t size = sizeof(struct lane) + LANE_PINS * sizeof(_Atomic(void *));
	struct lane *ln = aligned_alloc(64, (size + 63) / 64 * 64);

	if (ln == NULL)
		return NULL;
	memset(ln, 0, size);
	ln->first.n = LANE_PINS;
	ln->chunk = &ln->first;
	ln->pin = &ln->first.pin[0];
	atomic_store_explicit(&ln->owned, true, memory_order_relaxed);
	ln->next = atomic_load_explicit(&lanes, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&lanes, &ln->next, ln, memory_order_release,
						      memory_order_relaxed))
		;
	return ln;
}

struct lane *lane__join(void)
{
	struct lane *ln;

	pthread_once(&lane_once, lane_start);
	if (!lane_ready)
		return NULL;
	for (ln = atomic_load_explicit(&lanes, memory_order_acquire); ln != NULL; ln = ln->next) {
		bool owned = atomic_load_explicit(&ln->owned, memory_order_relaxed);

		if (!owned && atomic_compare_exchange_strong_explicit(&ln->owned, &owned, true,
								      memory_order_acquire,
								      memory_order_relaxed))
			break;
	}
	if (ln == NULL)
		ln = lane_new();
	if (ln == NULL)
		return NULL;
	if (pthread_setspecific(lane_key, ln) != 0) {
		atomic_store_explicit(&ln->owned, false, memory_order_release);
		return NULL;
	}
	lane__mine = ln;
	return ln;
}

/*
 * Looks from where the last one was found; who holds many finds the free ones by going round. If
 * LOOK_MAX in a row are taken, there are more from now on: as many again as there were.
 */
_Atomic(void *) *lane__pin_slow(struct lane *ln)
{
	struct pins *chunk = ln->chunk, *p;
	uint32_t at = ln->at, all = 0;

	for (unsigned looked = 0; looked < LOOK_MAX; looked++) {
		if (++at >= chunk->n) {
			at = 0;
			chunk = atomic_load_explicit(&chunk->next, memory_order_relaxed);
			if (chunk == NULL)
				chunk = &ln->first;
		}
		if (atomic_load_explicit(&chunk->pin[at], memory_order_acquire) == NULL) {
			ln->chunk = chunk;
			ln->at = at;
			return ln->pin = &chunk->pin[at];
		}
	}
	for (chunk = &ln->first;; chunk = p) {
		all += chunk->n;
		p = atomic_load_explicit(&chunk->next, memory_order_relaxed);
		if (p == NULL)
			break;
	}
	p = calloc(1, sizeof *p + all * sizeof p->pin[0]);
	if (p == NULL)
		return NULL;
	p->n = all;
	atomic_store_explicit(&chunk->next, p, memory_order_release);
	ln->chunk = p;
	ln->at = 0;
	return ln->pin = &p->pin[0];
}

void lane_fence(void)
{
	uint64_t mine = atomic_fetch_add_explicit(&lane__begun, 1, memory_order_seq_cst) + 1, done;

	atomic_thread_fence(memory_order_seq_cst);
	if (!lane__weak)
		AZ(membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED));
	done = atomic_load_explicit(&lane__done, memory_order_relaxed);
	while (done < mine &&
	       !atomic_compare_exchange_weak_explicit(&lane__done, &done, mine,
						      memory_order_acq_rel, memory_order_relaxed))
		;
}

void lane_each_pin(void (*each)(void *ctx, const void *pinned), void *ctx)
{
	for (struct lane *ln = atomic_load_explicit(&lanes, memory_order_acquire); ln != NULL;
	     ln = ln->next) {
		for (struct pins *c = &ln->first; c != NULL;
		     c = atomic_load_explicit(&c->next, memory_order_acquire)) {
			for (uint32_t i = 0; i < c->n; i++) {
				void *p = atomic_load_explicit(&c->pin[i], memory_order_acquire);

				if (p != NULL)
					each(ctx, p);
			}
		}
	}
}

void lane_counts(unsigned cache, uint64_t *hits, uint64_t *misses)
{
	*hits = *misses = 0;
	for (struct lane *ln = atomic_load_explicit(&lanes, memory_order_acquire); ln != NULL;
	     ln = ln->next) {
		*hits += atomic_load_explicit(&ln->count[cache].hits, memory_order_relaxed);
		*misses += atomic_load_explicit(&ln->count[cache].misses, memory_order_relaxed);
	}
}

int lane_cache_open(void)
{
	uint64_t used = atomic_load_explicit(&caches, memory_order_relaxed);

	pthread_once(&lane_once, lane_start);
	do {
		if (used == UINT64_MAX)
			return -ENFILE;
	} while (!atomic_compare_exchange_weak_explicit(
	    &caches, &used, used | (used + 1), memory_order_acquire, memory_order_relaxed));
	return __builtin_ctzll(~used);
}

void lane_cache_close(unsigned cache)
{
	atomic_fetch_and_explicit(&caches, ~(1ull << cache), memory_order_release);
}
