/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the process may do, and gives up on its way to serving: root for -u's user, and the rest in the sandbox.
 * Start-up, main thread, in the order below. Failures are logged, with what to do.
 */
#ifndef VALCACHED_PRIVILEGES_H
#define VALCACHED_PRIVILEGES_H

#include <stdbool.h>
#include <sys/types.h>

#include "valcached/options.h"

struct io_engine;
struct net;
struct store;

struct privileges {
	const struct options *opt;
	bool changes_user; /* -u, as root */
	uid_t uid;         /* if changes_user */
	gid_t gid;
	bool boxed;               /* a sandbox is wanted and possible */
	bool uring;               /* the engine */
	char *missing;            /* the first layer that was refused, as a sentence; NULL: none */
	_Atomic int thread_error; /* of a thread that keeps its capabilities: -errno */
};

/* Before anything is made that a user who does not exist would leave behind. p is zero. 0 or -1. */
int privileges_find(struct privileges *p, const struct options *);
/* The process becomes that user and nothing else; if changes_user. 0 or -errno. */
int privileges_be_user(const struct privileges *p);
/* Everything is open, no worker runs: gives -u's user what is its own, and becomes it. 0 or -1. */
int privileges_lower(struct privileges *p, const struct io_engine *, struct net *, struct store *);
/* A net_config.opened; arg is the struct. */
void privileges_of_thread(void *privileges);
/* All workers have begun, nobody is let in: from here on only what sandbox/ lists. 0 or -1. */
int privileges_shut(struct privileges *p);
void privileges_free(struct privileges *p);

/* For stats, once shut: on, partly or off, and why. */
const char *privileges_state(const struct privileges *p);
const char *privileges_reason(const struct privileges *p);

#endif
