/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared memory torn anywhere: what scenes (torn_scenes.c), checks (torn_check.c) and the one who steps
 * (torn.c) share. README.md says how it works.
 */
#ifndef TESTS_CRASH_TORN_H
#define TESTS_CRASH_TORN_H

#include "tests/crash/mapped.h"
#include "tests/crash/step.h"
#include "tests/unit/store_rig.h"

#define KEYS      1024u
#define DISK_SIZE (16u * FORMAT_SEG_MIN) /* the smallest store */

/*
 * Values: the id says the length, and is the client's flags: so whatever is found says what it must be.
 * 0: the key is not there.
 */
#define ID(nth, len) ((uint32_t)(nth) << 16 | (uint32_t)(len))
#define ID_LEN(id)   ((id)&0xffffu)

/* What the processes tell each other: shared, and no part of what is left. */
struct told {
	struct mapped_write write;
	volatile bool over;              /* the scene */
	volatile bool ever[KEYS];        /* the key has been set */
	volatile bool answered[KEYS];    /* the scene's operation on it was answered */
	volatile uint32_t id[2][KEYS];   /* what there is before the scene, and after it */
	volatile uint32_t number;        /* what a search has found */
	volatile uint64_t again, yields; /* recycled: records that were written again */
};
extern struct told *told;

/* Stepped: what act() does, in a process that has done prepare(). Both are deterministic. */
struct scene {
	const char *name;
	void (*prepare)(struct rig *r); /* may hold the slow worker */
	void (*act)(struct rig *r);
	bool searches; /* prepare() alone, while told->number is 0, finds the number */
	/* its act is a start, on what this other scene leaves when it is killed at such a moment */
	const char *after;
	bool (*moment)(const struct sight *v);
	bool from_disk;
	unsigned
	    every; /* in the full set so manieth state is checked, of those whose bytes alone differ */
};
extern const struct scene scene_list[];
extern const unsigned scene_count;

/* A rig on a disk that is mapped; its folder for shared memory is empty. */
void torn_rig(struct rig *r, struct mapped *m, void *disk);

/* ---- torn_check.c ------------------------------------------------------------------------------ */

/* What has been found out about the starts of one scene. */
struct found {
	uint64_t starts, from_shm, from_disk, missed, laps;
	bool turned[KEYS]; /* it has been seen as it is after the scene: it stays so */
};

void check_open(const struct sight *v, int disk_fd);
void check_close(void);
void check_abandon(void); /* a check has failed: nothing stays behind but memory */
/* Starts on what v shows, and asks for everything. nth: of the check, decides what is done then. */
void check_state(const struct sight *v, uint64_t nth, struct found *f);
/* What a key holds; 0: nothing. Its bytes, or with head alone its length and flags, are right. */
uint32_t check_key(struct rig *r, uint32_t k, bool head);
/* What there is when r's process is killed now (or was stopped), into told->id[which]. */
void check_measure(struct rig *r, unsigned which);
void check_name(char *to, size_t n); /* where a check is; for messages */

#endif
