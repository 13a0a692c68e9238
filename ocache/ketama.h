/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. Which of several servers has a key: points of all servers on a ring of 2^32, a
 * key belongs to the first point at or behind its own. A server that comes or goes moves its own
 * share of the keys and no others.
 *
 * A point is a little-endian word of the MD5 of "name-i", of which each gives four. Clients differ in the
 * name of a server and in how many i it has:
 *
 *     libmemcached, KETAMA_WEIGHTED    "host" if its port is 11211, else "host:port"
 *     spymemcached, LIBMEMCACHED       the same
 *     spymemcached, SPYMEMCACHED       "address:port", or "host/address:port" of one that has a name
 *
 * With weights all of them have the server's share of 40 for each server, worked out in float; without,
 * spymemcached has 40, and libmemcached the same as with equal weights: 40, or 39 for some numbers of servers.
 * Where two servers have the same point, it belongs to the first of them, and in spymemcached to the last.
 */
#ifndef OCACHE_KETAMA_H
#define OCACHE_KETAMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ocache/memcached.h"

struct ketama_server {
	const char *host;
	unsigned port; /* of a unix socket: 0, and host is its path */
	uint32_t weight;
	const char *name; /* NULL: as the client makes it */
};

#define KETAMA_NAME_MAX   300u
#define KETAMA_WEIGHT_MAX 65535u

struct ketama;

/*
 * The name of a server. False: it is longer than KETAMA_NAME_MAX - 16, or this client makes it of an address that is
 * not known (SPYMEMCACHED, and host is no IPv4 address).
 */
bool ketama_name(enum tier_memcached_ring ring, const struct ketama_server *server,
		 char name[KETAMA_NAME_MAX]);
/* All servers have a ketama_name(), weights from 1 to the maximum. NULL: no memory. What it is made of is not kept. */
struct ketama *ketama_new(enum tier_memcached_ring ring, bool weights,
			  const struct ketama_server *server, unsigned n);
void ketama_free(struct ketama *k);
/* The number of the server. Any thread. */
unsigned ketama_server(const struct ketama *k, const void *key, size_t len);

#endif
