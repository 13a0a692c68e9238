/* SPDX-License-Identifier: Apache-2.0 */
/* Slots for memory that waits to be used again; see spare.h. */
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "ocache/spare.h"

#define STEP    8192u
#define CLASSES 8u

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OFF 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OFF 1
#endif
#endif
#ifndef OFF
#define OFF 0
#endif

const bool spare_keeps = !OFF;

static _Atomic(void *) slot[CLASSES][SPARES];

/* The class of a room; CLASSES: none. */
static size_t class_of(size_t room)
{
	size_t class = room / STEP - 1;

	return OFF || room < STEP || room % STEP != 0 || class >= CLASSES ? CLASSES : class;
}

void *spare_malloc(size_t size, size_t *room)
{
	size_t up =
	    size < STEP || size > (size_t)CLASSES * STEP ? size : (size + STEP - 1) / STEP * STEP;
	size_t class = class_of(up);

	*room = up;
	for (unsigned i = 0; class < CLASSES && i < SPARES; i++) {
		void *m = atomic_load_explicit(&slot[class][i], memory_order_relaxed);

		if (m != NULL) {
			m = atomic_exchange_explicit(&slot[class][i], NULL, memory_order_acquire);
			if (m != NULL)
				return m;
		}
	}
	return malloc(up);
}

void spare_free(void *memory, size_t room)
{
	size_t class = class_of(room);

	for (unsigned i = 0; class < CLASSES && i < SPARES; i++) {
		void *none = NULL;

		if (atomic_load_explicit(&slot[class][i], memory_order_relaxed) == NULL &&
		    atomic_compare_exchange_strong_explicit(
			&slot[class][i], &none, memory, memory_order_release, memory_order_relaxed))
			return;
	}
	free(memory);
}
