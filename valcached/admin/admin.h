/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin: what an operator sees of the daemon. Reads the counters of net, store and io; changes
 * nothing. Any thread.
 */
#ifndef VALCACHED_ADMIN_ADMIN_H
#define VALCACHED_ADMIN_ADMIN_H

#include <stdbool.h>
#include <stddef.h>

struct net;
struct options;
struct text;

struct admin {
	const struct net *net;
	const struct options *options;
	const char *engine;        /* name of the I/O engine in use */
	const char *engine_reason; /* ... and why it is that one */
	const char *sandbox;       /* on, partly or off */
	const char *sandbox_reason;
};

/* The reply to "stats GROUP"; fits net_config.stats, arg is a struct admin. False: no such group. */
bool admin_stats(void *arg, const char *group, size_t n, struct text *out);

#endif
