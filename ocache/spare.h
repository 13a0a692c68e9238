/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. Memory of buffers that were dropped, for the next ones. A segment's bytes are held by one
 * thread, dropped by another a moment later, and are too long for an allocator's own caches of threads: many return
 * the pages to the kernel, which clears others for the next one. Here they stay, warm.
 *
 * At most SPARES of each size from 8 KiB to 64 KiB in steps of 8 KiB, so 4.5 MiB in the process, beside the budget;
 * shorter and longer ones are malloc's alone. No locks, any thread. Under sanitizers nothing is kept: they see who uses
 * what he has dropped.
 */
#ifndef OCACHE_SPARE_H
#define OCACHE_SPARE_H

#include <stdbool.h>
#include <stddef.h>

#define SPARES 16u

/* Does it keep anything in this build? */
extern const bool spare_keeps;

/* At least `size` bytes, as malloc(); *room is what spare_free() wants to know. */
void *spare_malloc(size_t size, size_t *room);
void spare_free(void *memory, size_t room);

#endif
