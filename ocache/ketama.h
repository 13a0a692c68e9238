/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. Which of several servers has a key: points of all servers on a ring of 2^32, a
 * key belongs to the first point at or behind its own. A server that comes or goes moves its own
 * share of the keys and no others.
 *
 * The ring is libmemcached's of MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED with equal weights: the MD5 of
 * "host-i" (port 11211) or "host:port-i", of which each gives four points, its little-endian words;
 * the count of i is worked out in float, and is 40, or 39 for some numbers of servers.
 */
#ifndef OCACHE_KETAMA_H
#define OCACHE_KETAMA_H

#include <stddef.h>
#include <stdint.h>

struct ketama_server {
	const char *host;
	unsigned port; /* of a unix socket: 0, and host is its path */
};

struct ketama;

/* NULL: no memory. What it is made of is not kept. */
struct ketama *ketama_new(const struct ketama_server *server, unsigned n);
void ketama_free(struct ketama *k);
/* The number of the server. Any thread. */
unsigned ketama_server(const struct ketama *k, const void *key, size_t len);

#endif
