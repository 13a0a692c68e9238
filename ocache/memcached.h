/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tier over the memcached protocol: one valcached, or a cluster of servers that speak it. Keys are
 * the 36 characters of the segment's id; which server has which key is decided by ketama, as
 * libmemcached or spymemcached does. Usable from C++.
 *
 * Each server has one connection and one thread, and many requests in flight on it, answered in
 * order. The connection is made when it is first needed and again when it was lost; meanwhile, and
 * for a pause that grows from 20 ms to 1 s, requests fail at once, so that the chain asks the next
 * tier. A server that answers something else than the protocol says is hung up on.
 *
 * A set that is refused because the key has a value counts as done: segments never change.
 */
#ifndef OCACHE_MEMCACHED_H
#define OCACHE_MEMCACHED_H

#include "tier.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whose ring: a key belongs to the same server as in that client with these settings. */
enum tier_memcached_ring {
	TIER_MEMCACHED_LIBMEMCACHED,     /* MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED */
	TIER_MEMCACHED_SPYMEMCACHED,     /* KetamaConnectionFactory, its own format of names */
	TIER_MEMCACHED_SPYMEMCACHED_LIB, /* the same with Format.LIBMEMCACHED */
};

/* Zeros are the defaults. */
struct tier_memcached_config {
	size_t struct_size; /* sizeof(struct tier_memcached_config) */
	/* "host", "host:port", "[::1]:port" (port 11211), or "/path/of/a/socket" */
	const char *const *servers;
	unsigned servers_count; /* 1 to TIER_MEMCACHED_SERVERS_MAX */
	const char *key;        /* the tier's name in io-stats; "memcached" */
	uint32_t in_flight;  /* requests of one server, beyond which they fail with -EAGAIN; 4096 */
	uint64_t value_max;  /* bytes; an answer that announces more is not believed; 64 MiB */
	uint64_t connect_ns; /* a connection takes no longer than this; 1 s */
	uint64_t
	    stall_ns; /* a server that owes an answer sends and takes nothing for so long; 10 s */
	enum tier_memcached_ring ring;
	const uint32_t *weights; /* of each server, 1 to 65535; NULL: none are set */
	/*
	 * Of each server its name on the ring; NULL, or NULL for some: as the client makes it. spymemcached's own
	 * format has the address of a server that is given by name: "cache1/10.0.0.1:11211"; so servers that are not
	 * IPv4 addresses must be named here for it, as InetSocketAddress.toString() does.
	 */
	const char *const *ring_names;
	/*
	 * What each server is told first, as memcached's text protocol has it (-Y there and in valcached): 1 to 250 bytes each, no
	 * control characters, in the user no blank. NULL: nothing. They cross the network as they are; a server without
	 * logins takes them for a value, and shows it. What is refused is -EACCES.
	 */
	const char *user, *password;
};

#define TIER_MEMCACHED_SERVERS_MAX 256u

/*
 * Connects to nobody yet. 0; -EINVAL (config, a server's name), -ENOMEM, or why threads cannot be
 * started. cause may be NULL; else on failure it is a sentence, malloc'd, or NULL without memory.
 * What config points to is copied. Any thread.
 */
int tier_memcached_open(const struct tier_memcached_config *config, struct tier **tier,
			char **cause);

#ifdef __cplusplus
}
#endif

#endif
