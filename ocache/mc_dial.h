/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. Makes a connection, in bounded time: the name is looked up by a thread of its own, because
 * getaddrinfo() cannot be told to stop, and of several addresses each gets its share of the time.
 */
#ifndef OCACHE_MC_DIAL_H
#define OCACHE_MC_DIAL_H

#include <stdbool.h>
#include <stdint.h>

struct mc_dial {
	const char *host; /* or the path of a unix socket, with port 0 */
	unsigned port;
	int wake;             /* an eventfd: when it is written, stop() is asked */
	bool (*stop)(void *); /* give up? */
	void *ctx;
};

/*
 * A socket that does not block, or -errno: never later than end_ns (CLOCK_MONOTONIC) by more than scheduling, and
 * never -ENOENT, which is said of segments. What is written to `wake` meanwhile is read.
 */
int mc_dial(const struct mc_dial *d, uint64_t end_ns);

#endif
