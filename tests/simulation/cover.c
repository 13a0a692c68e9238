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

static void add(_Atomic uint64_t at[MOMENT_N][FAULT_N], uint64_t moments, enum fault f)
{
	for (unsigned m = 0; moments != 0; m++, moments >>= 1)
		if (moments & 1)
			atomic_fetch_add_explicit(&at[m][f], 1, memory_order_relaxed);
}

void cover_of(uint64_t moments, enum fault f)
{
	add(cover->of, moments, f);
}

void cover_at(uint64_t moments, enum fault f)
{
	add(cover->at, moments, f);
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

/* Why this fault cannot meet an I/O for a segment, a path or a write buffer in this state. */
static const char *not_of(enum moment m, enum fault f)
{
	bool reads = f == FAULT_READ_ERROR || f == FAULT_READ_FLIP || f == FAULT_READ_SHORT;
	bool writes = f >= FAULT_WRITE_ERROR && f <= FAULT_WRITE_SHORT;

	switch (m) {
	case MOMENT_VIRGIN:
	case MOMENT_CLEAN:
		if (f == FAULT_READ_SHORT)
			return "only their headers are read, by a path that comes back";
		/* fallthrough */
	case MOMENT_SEALED:
	case MOMENT_UNWALKED:
		if (writes)
			return "who writes to it takes it out of this state first";
		/* fallthrough */
	case MOMENT_OPEN:
	case MOMENT_FULL:
	case MOMENT_QUARANTINE:
		return f == FAULT_SYNC_ERROR ? "a sync is of a path" : NULL;
	case MOMENT_RECYCLING:
		if (f == FAULT_WRITE_SHORT)
			return "its next header is one page";
		return f == FAULT_SYNC_ERROR ? "a sync is of a path" : NULL;
	case MOMENT_ONLINE:
		return NULL;
	case MOMENT_READONLY:
		return f == FAULT_SYNC_ERROR ? "what takes no writes is not synced" : NULL;
	case MOMENT_OFFLINE:
	case MOMENT_SILENT:
	case MOMENT_RETURN:
		return f == FAULT_READ_SHORT
			   ? "superblock and headers are pages; else it is the rest of a read"
			   : NULL;
	case MOMENT_WRITING:
	case MOMENT_AGAIN:
	case MOMENT_CLOSING:
		return reads                   ? "it is written"
		       : f == FAULT_SYNC_ERROR ? "a sync is of a path"
					       : NULL;
	default:
		return "no I/O is for this";
	}
}

/* Why this fault cannot come while anything is in this state. */
static const char *not_at(enum moment m, enum fault f)
{
	switch (m) {
	case MOMENT_GRACE:
	case MOMENT_PINS:
		return f == FAULT_SYNC_ERROR ? "who syncs is waiting" : NULL;
	case MOMENT_START_CLEAN:
	case MOMENT_START_POWER:
		if (f == FAULT_WRITE_SHORT)
			return "nothing was buffered, and superblocks are pages";
		/* fallthrough */
	case MOMENT_START_KILL:
	case MOMENT_START_START:
		return f == FAULT_HANGS ? "a start waits without a limit" : NULL;
	default:
		return NULL;
	}
}

bool cover_can_of(enum moment m, enum fault f)
{
	return not_of(m, f) == NULL;
}

bool cover_can_at(enum moment m, enum fault f)
{
	return not_at(m, f) == NULL;
}

/* Why no start that meets it goes so. */
static const char *not_started(enum layer l, enum fault f)
{
	if (f == FAULT_HANGS)
		return "a start waits without a limit";
	if (l == LAYER_NONE)
		return NULL;
	if (f == FAULT_KILL || f == FAULT_POWER)
		return "that was its end";
	if (f == FAULT_SYNC_ERROR || f == FAULT_OUT)
		return "it gives up, or mostly";
	if (f == FAULT_READ_SHORT && l != LAYER_DISK)
		return "it reads single pages";
	if (f >= FAULT_WRITE_ERROR && f <= FAULT_WRITE_SHORT && l == LAYER_EMPTY)
		return f == FAULT_WRITE_SHORT ? "superblocks are pages"
		       : f <= FAULT_WRITE_FULL
			   ? "it mostly gives up if a superblock cannot be written"
			   : NULL;
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

static void title(FILE *f, const char *what, const char *all)
{
	fprintf(f, "%-42s%9s", what, all);
	for (unsigned k = 0; k < FAULT_N; k++)
		fprintf(f, "%9s", fault_name[k]);
	fprintf(f, "\n");
}

unsigned cover_print(FILE *f, bool must)
{
	unsigned missing = 0;

	title(f, "what the I/O was for, and what it met", "I/Os");
	for (unsigned p = 0; p < PLACE_N; p++) {
		fprintf(f, "%-42s%9" PRIu64, place_name[p], atomic_load(&cover->all[p]));
		for (unsigned k = 0; k < FAULT_N; k++)
			missing += cell(f, atomic_load(&cover->io[p][k]),
					impossible((enum place)p, (enum fault)k));
		fprintf(f, "\n");
	}
	title(f, "how that was, and what the I/O met", "");
	for (unsigned m = 0; m < MOMENT_N; m++) {
		if (not_of((enum moment)m, FAULT_SLOW) != NULL)
			continue;
		fprintf(f, "%-51s", moment_name[m]);
		for (unsigned k = 0; k < FAULT_N; k++)
			missing += cell(f, atomic_load(&cover->of[m][k]),
					not_of((enum moment)m, (enum fault)k));
		fprintf(f, "\n");
	}
	title(f, "anything was so, and an I/O met", "");
	for (unsigned m = 0; m < MOMENT_N; m++) {
		fprintf(f, "%-51s", moment_name[m]);
		for (unsigned k = 0; k < FAULT_N; k++)
			missing += cell(f, atomic_load(&cover->at[m][k]),
					not_at((enum moment)m, (enum fault)k));
		fprintf(f, "\n");
	}
	title(f, "a start went so, and had met", "");
	for (unsigned l = 0; l < LAYER_N; l++) {
		fprintf(f, "%-51s", layer_name[l]);
		for (unsigned k = 0; k < FAULT_N; k++)
			missing += cell(f, atomic_load(&cover->start[l][k]),
					not_started((enum layer)l, (enum fault)k));
		fprintf(f, "\n");
	}
	fprintf(f, "%-42s%9s%9s%9s%9s\n", "after a", "stop", "kill", "power", "start");
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
