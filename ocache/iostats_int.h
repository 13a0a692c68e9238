/* SPDX-License-Identifier: Apache-2.0 */
/* Private to ocache: how io-stats are kept while they are counted. */
#ifndef OCACHE_IOSTATS_INT_H
#define OCACHE_IOSTATS_INT_H

#include <stdatomic.h>
#include <stdint.h>

#include "ocache/data.h"
#include "ocache/iostats.h"
#include "ocache/tier.h"

#define SORTS        5u
#define TIERS_MAX    16u
#define TIERS_CELLS  (TIERS_MAX + 1) /* the last is that of all others */
#define TIER_KEY_LEN (TIER_KEY_MAX + 1)

/* What is counted. Each access is one step of one cell; everything else is a sum of them. */
struct cells {
	_Atomic uint64_t access[SORTS][2][2]; /* [sort][is_dir][load] */
	_Atomic uint64_t tier_reads[TIERS_CELLS], tier_ns[TIERS_CELLS];
	_Atomic uint64_t inflight_ns, deserialize, deserialize_ns;
};

/* The same at rest, with the names of the tiers. */
struct totals {
	uint64_t access[SORTS][2][2];
	uint64_t inflight_ns, deserialize, deserialize_ns;
	struct {
		char key[TIER_KEY_LEN]; /* "": free */
		uint64_t reads, ns;
	} tier[TIERS_CELLS];
};

/* All nested calls of one io-context. */
struct nested {
	struct nested *next;
	char *io_context, *api;
	uint64_t api_ns;
	struct totals totals;
	struct nested *nested;
};

/* The io-context's name, or else the api's; NULL: of none. Valid while it is held. */
const char *iostats__name(const struct iostats *io);

void totals_add(struct totals *to, const struct totals *from);
struct iostats_map *iostats__map(const char *api, const char *io_context, uint64_t api_ns,
				 const struct totals *t, const struct nested *nested);

#endif
