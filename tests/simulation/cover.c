/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which fault met which state. A cell that a full run has to fill is empty in the table as "0!"; one that cannot
 * be is "-", and why stands in impossible().
 */
#include <inttypes.h>
#include <string.h>

#include "tests/simulation/simulation.h"

struct cover *cover;

void cover_io(enum place p, enum fault f)
{
	atomic_fetch_add_explicit(&cover->io[p][f], 1, memory_order_relaxed);
}

void cover_crash(enum moment m, enum fault f)
{
	atomic_fetch_add_explicit(&cover->at[m][f], 1, memory_order_relaxed);
}

static const char *const fault_name[] = {
#define X(n, s) s,
    FAULTS(X)
#undef X
};

enum does { READS, WRITES, SYNCS, DISCARDS };

static enum does does(enum place p)
{
	switch (p) {
	case PLACE_BLOCK:
	case PLACE_LONG_CHUNK:
	case PLACE_LONG_HEAD:
	case PLACE_TABLE:
	case PLACE_R_BLOCK:
	case PLACE_HEADER:
	case PLACE_O_SUPER_WRITE:
	case PLACE_O_REPLAY:
	case PLACE_EPOCH:
		return WRITES;
	case PLACE_SYNC:
	case PLACE_R_SYNC:
	case PLACE_HEADER_SYNC:
	case PLACE_O_SYNC:
		return SYNCS;
	case PLACE_DISCARD:
		return DISCARDS;
	default:
		return READS;
	}
}

/* Why this fault cannot meet this I/O; NULL: it can. */
static const char *impossible(enum place p, enum fault f)
{
	switch (f) {
	case FAULT_READ_SHORT:
		if (p == PLACE_O_SUPER || p == PLACE_PROBE || p == PLACE_O_HEADER ||
		    p == PLACE_O_FOOTER || p == PLACE_R_FOOTER)
			return "one page is read whole or not";
		if (p == PLACE_GET_HEAD || p == PLACE_SET_FIND || p == PLACE_DELETE_FIND)
			return "a head is mostly one page";
		if (p == PLACE_R_TABLE)
			return "a small segment's table is mostly one page";
		/* fallthrough */
	case FAULT_READ_ERROR:
	case FAULT_READ_FLIP:
		return does(p) == READS ? NULL : "it does not read";
	case FAULT_WRITE_SHORT:
		if (p == PLACE_HEADER || p == PLACE_EPOCH || p == PLACE_LONG_HEAD ||
		    p == PLACE_O_SUPER_WRITE)
			return "one page is written whole or not";
		/* fallthrough */
	case FAULT_WRITE_ERROR:
	case FAULT_WRITE_FULL:
	case FAULT_WRITE_FLIP:
	case FAULT_WRITE_LOST:
	case FAULT_WRITE_ASTRAY:
		return does(p) == WRITES ? NULL : "it does not write";
	case FAULT_SYNC_ERROR:
		return does(p) == SYNCS ? NULL : "it does not sync";
	case FAULT_GONE:
		if (p == PLACE_DISCARD)
			return "a path that fails is not discarded";
		if (p == PLACE_R_TABLE)
			return "the footer's read has failed before";
		if (p >= PLACE_O_SUPER_WRITE)
			return "reading the superblock has failed before";
		return NULL;
	default:
		return NULL;
	}
}

static const char *const place_name[] = {
#define X(n, s) s,
    PLACES(X)
#undef X
};
static const char *const moment_name[] = {
#define X(n, s) s,
    MOMENTS(X)
#undef X
};

unsigned cover_print(FILE *f, bool must)
{
	unsigned missing = 0;

	fprintf(f, "%-42s%9s", "what the I/O was for, and what it met", "I/Os");
	for (unsigned k = 0; k < FAULT_N; k++)
		fprintf(f, "%9s", fault_name[k]);
	fprintf(f, "\n");
	for (unsigned p = 0; p < PLACE_N; p++) {
		fprintf(f, "%-42s%9" PRIu64, place_name[p], atomic_load(&cover->all[p]));
		for (unsigned k = 0; k < FAULT_N; k++) {
			uint64_t n = atomic_load(&cover->io[p][k]);

			if (n == 0 && impossible((enum place)p, (enum fault)k) != NULL) {
				fprintf(f, "%9s", "-");
			} else if (n == 0) {
				fprintf(f, "%9s", "0!");
				missing++;
			} else {
				fprintf(f, "%9" PRIu64, n);
			}
		}
		fprintf(f, "\n");
	}
	fprintf(f, "%-42s%9s%9s\n", "state at a death", "kill", "power");
	for (unsigned m = 0; m < MOMENT_N; m++) {
		uint64_t a = atomic_load(&cover->at[m][FAULT_KILL]);
		uint64_t b = atomic_load(&cover->at[m][FAULT_POWER]);

		fprintf(f, "%-42s%9" PRIu64 "%9" PRIu64 "%s\n", moment_name[m], a, b,
			a == 0 || b == 0 ? " !" : "");
		missing += (unsigned)(a == 0) + (unsigned)(b == 0);
	}
#define N(x) fprintf(f, "%s %" PRIu64 "  ", #x, atomic_load(&cover->x))
	N(schedules), N(ops), N(restarts), N(kills), N(powers), N(cut_starts), N(laps), N(recycled);
	fprintf(f, "\n");
	N(sealed), N(hits), N(misses), N(stored), N(same), N(conflicts), N(deleted), N(flushes),
	    N(longs);
	fprintf(f, "\n");
	N(admitted), N(ram_only), N(reinserted), N(evicted), N(victims), N(quarantined), N(offline),
	    N(refused), N(left), N(walked), N(damaged);
	fprintf(f, "\n");
#undef N
	if (must && missing > 0)
		fprintf(f, "%u cells that this run should have filled are empty\n", missing);
	return missing;
}
