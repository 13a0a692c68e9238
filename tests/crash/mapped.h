/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine whose one disk is a mapping, so that another process sees each byte of a write arrive, and so
 * that a copy of the disk costs nothing (MAP_PRIVATE). Everything is done in the turn after the submit,
 * in order; time is virtual. A write takes effect either before anything else of the process (early) or
 * with its completion (late): between the two lies all that a kernel may do. One thread.
 */
#ifndef TESTS_CRASH_MAPPED_H
#define TESTS_CRASH_MAPPED_H

#include "valcached/io/io.h"

/* Where the last write went; may lie in shared memory. */
struct mapped_write {
	volatile uint64_t off, len;
};

struct mapped {
	struct io_engine engine;
	unsigned char *disk;
	uint64_t size, now;
	bool early;
	bool dead; /* the process is: nothing has an effect any more, and every operation fails */
	struct mapped_write *last;                   /* NULL: nobody wants to know */
	void (*submitted)(struct io *io, void *arg); /* called after each submit; NULL: nobody is */
	void *arg;
};

void mapped_init(struct mapped *m, void *disk, uint64_t size);

#endif
