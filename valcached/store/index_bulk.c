/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index: removing many slots at once, by place. One line at a time under its lock, so lookups and
 * changes go on meanwhile. Away counts of other lines stay too high, which [IX-6] allows. Any thread.
 */
#include "valcached/store/index_int.h"

uint64_t index_remove_range(struct index *ix, uint64_t from, uint64_t to)
{
	uint64_t removed = 0;

	for (uint64_t l = 0; l < ix->lines; l++) {
		struct line *line = &ix->line[l];
		bool any = false;

		for (unsigned i = 0; i < INDEX_SLOTS && !any; i++) {
			uint64_t s = slot_load(line, i);

			any = s != 0 && slot_loc(s) >= from && slot_loc(s) < to;
		}
		if (!any)
			continue;
		line_lock(line);
		for (unsigned i = 0; i < INDEX_SLOTS; i++) {
			uint64_t s = slot_load(line, i);

			if (s != 0 && slot_loc(s) >= from && slot_loc(s) < to) {
				slot_store(line, i, 0);
				index__count(ix, C_REMOVES);
				removed++;
			}
		}
		line_unlock_bump(line);
	}
	return removed;
}

void index_clear(struct index *ix)
{
	index_remove_range(ix, 0, INDEX_LOC_MAX + 1);
}
