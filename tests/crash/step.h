/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running a process instruction by instruction (ptrace), and seeing when what it would leave has changed:
 * its files of shared memory, and its disk (mapped.h).
 */
#ifndef TESTS_CRASH_STEP_H
#define TESTS_CRASH_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/crash/mapped.h"

#define SIGHT_FILES 4u

/* All that outlives the process, as it is and as it was when sight_changed() last said so. */
struct sight {
	char dir[200];
	int notify;
	struct sight_file {
		char name[120];
		size_t len;
		bool buffers;       /* write buffers: only those in use mean anything */
		const uint8_t *now; /* mapped; NULL: it is empty */
		uint8_t *last;
	} file[SIGHT_FILES];
	unsigned n;
	const uint8_t *disk;
	uint8_t *disk_last;
	uint64_t disk_size;
	const struct mapped_write *write;
};

void sight_open(struct sight *v, const char *dir, const uint8_t *disk, uint64_t disk_size,
		const struct mapped_write *write);
void sight_close(struct sight *v);
/*
 * What of that which a start would read has changed: words that say how things are, or bytes of records, in
 * a write buffer or on disk. Of the disk it looks only at where the last write went; sight_whole() says
 * whether that was enough.
 */
enum { SIGHT_SAME = 0, SIGHT_WORDS = 1, SIGHT_BYTES = 2 };
unsigned sight_changed(struct sight *v);
bool sight_whole(const struct sight *v);
/* Writes the files, as they are now, into another folder. */
void sight_copy(const struct sight *v, const char *dir);
/* The file whose name ends so; NULL. */
const struct sight_file *sight_find(const struct sight *v, const char *end);

/* The child has asked to be traced and stopped itself. False: it is dead. */
bool step_begin(pid_t pid);
/* One instruction. False: it is dead, and *status is waitpid()'s. */
bool step(pid_t pid, int *status);
/* The program counter of a stopped child; 0 on machines where we do not know how to ask. */
uint64_t step_at(pid_t pid);

#endif
