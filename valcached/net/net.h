/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net: listeners, connections and the event loops of the workers. What main.c and admin/ may know
 * of it; the inside is in net_int.h.
 *
 * Threads: net_open(), net_start(), net_stop() and net_close() are for the main thread, in that
 * order. net_counters(), net_reset() and the other readers may be called from any thread.
 */
#ifndef VALCACHED_NET_H
#define VALCACHED_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct io_engine;
struct net;
struct store;
struct text;

struct net_addr {
	const char *host; /* a name or an address without brackets; "*": every address */
	uint16_t port;    /* 0: one the kernel picks (tests) */
};

struct net_config {
	const struct net_addr *addr;
	unsigned addr_n;
	const char *unix_path; /* NULL: none */
	unsigned unix_mode;    /* permissions of the socket file */
	unsigned backlog;
	unsigned connections;   /* at most; one more is told so and closed */
	unsigned turn_requests; /* of one connection before it is another's turn */
	unsigned workers;
	bool allow_flush;
	uint64_t spin_ns;      /* of a loop before it sleeps; 0: none */
	unsigned disk_threads; /* of each loop, where the engine has such; 0: its default */
	uint64_t stall_ns;     /* a client that takes no output for so long is closed */
	/*
	 * The reply to "stats GROUP" (group: n bytes, n == 0: the general one), whole, END included.
	 * Called from any worker. False: no such group.
	 */
	bool (*stats)(void *arg, const char *group, size_t n, struct text *out);
	void *stats_arg;
};

/*
 * Opens every listener, so that the port answers from now on; nothing is accepted yet. The strings
 * of cfg must live as long as the net. On failure nothing is left open, and *cause is one sentence
 * for the operator (malloc'd).
 */
int net_open(const struct net_config *cfg, struct net **net, char **cause);

/* Before the process becomes another user: gives that user the unix socket. -errno. */
int net_give(const struct net *net, uid_t user, gid_t group);

/* Starts the workers and the slow thread on a store that is open: from here on clients are served. */
int net_start(struct net *net, const struct io_engine *engine, struct store *store, char **cause);

/*
 * Accepts no more, lets what clients asked for be answered for at most bound_ns, then closes all
 * connections, and the store's workers after them. Blocks until the threads have ended.
 */
void net_stop(struct net *net, uint64_t bound_ns);

/* Closes the listeners and removes the socket file. Empties the caller's pointer. */
void net_close(struct net **net);

/* The port of listener i (the kernel's choice if 0 was asked for), 0 if it is not TCP. */
uint16_t net_port(const struct net *net, unsigned i);

/* Counters, sums over the workers since start or net_reset(): name, what it counts. */
#define NET_COUNTERS(X)                                                                            \
	X(total_connections, "connections accepted and served")                                    \
	X(rejected_connections, "connections turned away at the limit")                            \
	X(closed_connections, "connections that have ended")                                       \
	X(accept_pauses, "times accepting paused for want of descriptors or memory")               \
	X(cmd_get, "keys asked for by any reading command")                                        \
	X(cmd_set, "storing commands")                                                             \
	X(cmd_flush, "flush_all commands")                                                         \
	X(cmd_touch, "touch and gat commands")                                                     \
	X(cmd_meta, "meta commands")                                                               \
	X(cmd_refused, "commands refused because values are immutable")                            \
	X(get_hits, "keys found")                                                                  \
	X(get_misses, "keys not found")                                                            \
	X(delete_hits, "deletes of keys that were there")                                          \
	X(delete_misses, "deletes of keys that were not there")                                    \
	X(touch_hits, "touches of keys that were there")                                           \
	X(touch_misses, "touches of keys that were not there")                                     \
	X(bytes_read, "bytes received from clients")                                               \
	X(bytes_written, "bytes sent to clients")                                                  \
	X(sends, "send operations")                                                                \
	X(receives, "receive operations that brought bytes")                                       \
	X(protocol_errors, "requests answered with ERROR or CLIENT_ERROR")                         \
	X(foreign_greetings, "connections hung up on because they spoke HTTP or TLS")              \
	X(stalled_connections, "connections closed because they took no output")                   \
	X(input_pauses, "times a connection was not read from until its output moved")             \
	X(yields, "times a connection gave way to others after max-reqs-per-event requests")

struct net_counters {
#define X(n, s) uint64_t n;
	NET_COUNTERS(X)
#undef X
	uint64_t curr_connections; /* gauge: now */
	bool accepting;            /* gauge */
};
void net_counters(const struct net *net, struct net_counters *out);
/* The counters count from here; gauges stay. */
void net_reset(struct net *net);

const struct net_config *net_config(const struct net *net);
struct store *net_store(const struct net *net);

/* Seconds since net_open(). */
uint64_t net_uptime(const struct net *net);

/* The counters of a worker's engine; id <= workers (the last is the slow thread's). NULL: none. */
struct io_counters;
const struct io_counters *net_io_counters(const struct net *net, unsigned id);

#endif
