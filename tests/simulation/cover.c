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
	case PLACE_BACK_SUPER:
		return WRITES;
	case PLACE_SYNC:
	case PLACE_R_SYNC:
	case PLACE_HEADER_SYNC:
	case PLACE_SUPER_SYNC:
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
		    p == PLACE_O_FOOTER || p == PLACE_R_FOOTER || p == PLACE_BACK_HEADER)
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
		    p == PLACE_O_SUPER_WRITE || p == PLACE_BACK_SUPER)
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
	case FAULT_HANGS:
		return p >= PLACE_O_SUPER ? "a start waits without a limit" : NULL;
	default:
		return NULL;
	}
}

bool cover_can(enum place p, enum fault f)
{
	return impossible(p, f) == NULL;
}

/* Why a process cannot die so in this state. */
static const char *no_death(enum moment m, enum fault f)
{
	(void)m;
	(void)f;
	return NULL;
}

/* Why no start is so after that end. */
static const char *no_start(enum layer l, enum ended e)
{
	if (l == LAYER_SHM && e == ENDED_POWER)
		return "a power cut takes shared memory with it";
	return NULL;
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

/* One cell: 1 if it should have been filled. */
static unsigned cell(FILE *f, uint64_t n, const char *why_not)
{
	if (n > 0)
		fprintf(f, "%9" PRIu64, n);
	else
		fprintf(f, "%9s", why_not != NULL ? "-" : "0!");
	return n == 0 && why_not == NULL;
}

static const char *const layer_name[] = {
#define X(n, s) s,
    LAYERS(X)
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
		for (unsigned k = 0; k < FAULT_N; k++)
			missing += cell(f, atomic_load(&cover->io[p][k]),
					impossible((enum place)p, (enum fault)k));
		fprintf(f, "\n");
	}
	fprintf(f, "%-42s%9s%9s\n", "state at a death", "kill", "power");
	for (unsigned m = 0; m < MOMENT_N; m++) {
		fprintf(f, "%-42s", moment_name[m]);
		for (unsigned k = FAULT_KILL; k <= FAULT_POWER; k++)
			missing += cell(f, atomic_load(&cover->at[m][k]),
					no_death((enum moment)m, (enum fault)k));
		fprintf(f, "\n");
	}
	fprintf(f, "%-42s%9s%9s%9s\n", "after a", "stop", "kill", "power");
	for (unsigned l = 0; l < LAYER_N; l++) {
		fprintf(f, "%-42s", layer_name[l]);
		for (unsigned e = 0; e < ENDED_N; e++)
			missing += cell(f, atomic_load(&cover->layer[l][e]),
					no_start((enum layer)l, (enum ended)e));
		fprintf(f, "\n");
	}
#define N(x) fprintf(f, "%s %" PRIu64 "  ", #x, atomic_load(&cover->x))
	N(schedules), N(ops), N(restarts), N(kills), N(powers), N(cut_starts), N(laps), N(recycled);
	fprintf(f, "\n");
	N(sealed), N(hits), N(misses), N(stored), N(same), N(conflicts), N(deleted), N(flushes),
	    N(longs);
	fprintf(f, "\n");
	N(admitted), N(ram_only), N(reinserted), N(evicted), N(victims), N(quarantined), N(offline),
	    N(rescued), N(moved), N(lost), N(returned), N(emptied), N(parked), N(refused), N(left),
	    N(walked), N(damaged);
	fprintf(f, "\n");
#undef N
	if (must && missing > 0)
		fprintf(f, "%u cells that this run should have filled are empty\n", missing);
	return missing;
}
