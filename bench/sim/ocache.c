/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libocache itself: a get, and after a miss an object of the value's size is added. Unlike the
 * simulators it pays for its table, entries and what it remembers out of the same budget.
 */
#include "ocache/ocache.h"
#include "base/assert.h"
#include "base/clock.h"
#include "bench/sim/sim.h"

static void destroy(void *ctx, void *object)
{
	(void)ctx;
	(void)object;
}

bool sim_ocache(const struct trace *t, uint64_t budget, uint64_t skip, struct run *r)
{
	static const struct ocache_decoder decoder = {.destroy = destroy};
	static const struct ocache_hint hint = {.flags = OCACHE_CACHED_ONLY};
	static char object; /* nobody looks at it */
	struct ocache_config cfg = {.struct_size = sizeof cfg, .budget = budget};
	uint64_t start = clock_ns();
	struct ocache_stats st;
	struct ocache_ref ref;
	struct ocache *c;

	*r = (struct run){.name = "ocache", .size = budget};
	if (ocache_open(&cfg, &c, NULL) != 0)
		return false;
	for (uint64_t i = 0; i < t->n; i++) {
		uint32_t k = t->key[i], bytes = t->size[k];
		struct seg_id id = {mix64(k), mix64(~(uint64_t)k)};
		bool hit = ocache_get(c, id, &hint, NULL, &ref) == 0;

		tally_get(r, i >= skip, bytes, hit);
		if (hit) {
			ocache_release(&ref);
			continue;
		}
		tally_set(r, i >= skip, bytes);
		(void)ocache_add(c, id, &decoder, &object, bytes, NULL);
	}
	ocache_stats(c, &st, sizeof st);
	A(st.hits == r->all.hits && st.used <= budget);
	r->overhead = st.overhead;
	AZ(ocache_close(&c));
	r->all.device_bytes = r->all.set_bytes;
	r->late.device_bytes = r->late.set_bytes;
	r->seconds = (double)(clock_ns() - start) / 1e9;
	return true;
}

bool sim_ocache_net(const struct trace *t, uint64_t budget, uint64_t skip, struct run *r)
{
	if (!sim_ocache(t, budget, skip, r) || !sim_ocache(t, budget + r->overhead, skip, r))
		return false;
	r->name = "ocache net";
	r->size = budget;
	return true;
}
