/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tier over the memcached protocol: one valcached, or a cluster of servers that speak it. Keys are
 * the 36 characters of the segment's id; which server has which key is decided by ketama, as
 * libmemcached does (MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED, all weights 1). Usable from C++.
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
	uint64_t stall_ns;   /* a server with requests that sends nothing for so long; 10 s */
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
