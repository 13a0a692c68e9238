/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox: what is taken from the process before it reads the first byte of a client, for good. A process in a
 * stranger's hands can then do what the daemon does anyway, and nothing else.
 *
 * Three calls, in this order; each is a layer of its own, and the others hold where one is refused:
 *   sandbox_begin()  before -u and any thread: nothing that is executed gives rights, no capability can come back
 *   sandbox_drop()   by each thread, once it has its ring, before it uses it: no capability
 *   sandbox_shut()   by one, when every ring and thread of the start exists: only listed system calls, in all threads
 * Requests of a ring are no system calls: io/uring_restrict.c.
 */
#ifndef VALCACHED_SANDBOX_H
#define VALCACHED_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

struct sandbox_config {
	bool uring; /* the engine: calls of the other one are refused */
	bool
	    notify; /* messages go to the service manager, by a unix socket that is made each time */
};

/* Why there can be none in this process, a sentence; NULL: there can. Any thread. */
const char *sandbox_unfit(void);

/* 0, or -errno and a sentence for the operator (malloc'd): the layer is not there. */
int sandbox_begin(char **cause);
int sandbox_drop(char **cause);
int sandbox_shut(const struct sandbox_config *, char **cause);

/* System calls that were refused since sandbox_shut(). Any thread. */
uint64_t sandbox_refused(void);

#endif
