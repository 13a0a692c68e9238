/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A null worker: one thread, one ring, its connections.
 *
 * Threads: loop_start() from the main thread; loop_give() from the main thread, at any time; all
 * else happens on the worker's own thread.
 */
#ifndef NULLSERVER_LOOP_H
#define NULLSERVER_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop_config {
	bool sink;        /* swallow set bodies instead of answering lines */
	uint8_t *replies; /* whole replies, one after the other; the caller's, for ever */
	size_t reply_len;
	size_t starts;                 /* replies at which a send may begin */
	size_t replies_len;            /* a multiple of reply_len */
	unsigned buffer_size, buffers; /* for receiving; buffers is a power of two */
};

struct loop;

/* 0 and *l, or -errno with one line on stderr. */
int loop_start(struct loop **l, const struct loop_config *cfg);
/* Hands a connected socket over. */
void loop_give(struct loop *l, int fd);

#endif
