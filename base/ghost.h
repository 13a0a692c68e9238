/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A memory of keys that were here lately: fingerprints without values, forgotten first in, first
 * out. The S3-FIFO tier uses one for what left its small queue, admission another for what was
 * seen once.
 *
 * Four bytes a slot, 9/8 slots an entry: 4.5 bytes an entry. The answer "was here" is wrong for
 * about 3 in 100,000 keys that never were (20 bits of fingerprint, 32 slots compared); "was not" is
 * wrong where two threads wrote one slot at once, and near the end of the window.
 *
 * Threads: any, no locks; a call touches two cache lines.
 */
#ifndef BASE_GHOST_H
#define BASE_GHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ghost;

/* Remembers the last `entries` keys added. 0, -ENOMEM, or -EINVAL (0, or 2^31 and more). */
int ghost_open(uint64_t entries, struct ghost **g);
void ghost_close(struct ghost **g);

/* Remembers hash (again). */
void ghost_add(struct ghost *g, uint64_t hash);
/* Was it remembered? It is forgotten now; of several threads that ask at once, one is told yes. */
bool ghost_take(struct ghost *g, uint64_t hash);
bool ghost_has(const struct ghost *g, uint64_t hash);
/*
 * Begins to fetch the lines that the calls above look at for this hash. The second one needs what
 * ghost_where() said, not the ghost, which may be gone meanwhile.
 */
void ghost_prefetch(const struct ghost *g, uint64_t hash);
struct ghost_where {
	uintptr_t base;
	uint32_t nsets;
};
struct ghost_where ghost_where(const struct ghost *g);
void ghost_prefetch_at(struct ghost_where where, uint64_t hash);

/* From now on only the last n keys added count, at most those of ghost_open(). */
void ghost_window(struct ghost *g, uint64_t n);
void ghost_clear(struct ghost *g);
/* Bytes of memory that it takes. */
size_t ghost_bytes(const struct ghost *g);

#endif
