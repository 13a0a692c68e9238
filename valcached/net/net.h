/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net: listeners, connections and the event loops of the workers. What main.c and admin/ may know
 * of it; the inside is in net_int.h.
 *
 * Threads: net_open(), net_start(), net_serve(), net_stop() and net_close() are for the main thread, in that
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
	bool plain;       /* without TLS, also if it is on */
};

/* TLS on the TCP listeners; see the flags --ssl-... */
struct net_tls {
	const char *chain_cert; /* NULL: no TLS */
	const char *key;        /* NULL: in chain_cert */
	const char *ca_cert;    /* NULL: none */
	const char *ciphers;    /* NULL: OpenSSL's */
	unsigned verify;        /* 0 to 3: memcached's ssl_verify_mode */
	bool key_der, min_13, session_cache;
};

struct net_config {
	const struct net_addr *addr;
	unsigned addr_n;
	const char *unix_path;               /* NULL: none */
	unsigned unix_mode;                  /* permissions of the socket file */
	const char *unix_owner, *unix_group; /* names or numbers; NULL: the process's own */
	const char *unix_allow; /* users with commas: nobody else is served there; NULL: all */
	unsigned backlog;
	unsigned connections;   /* at most; one more is told so and closed */
	unsigned turn_requests; /* of one connection before it is another's turn */
	unsigned workers;
	bool allow_flush;
	uint64_t item_max; /* the store's: a longer value is refused, also if it expires at once */
	const char *auth_file; /* users and passwords (auth.h); NULL: whoever connects is served */
	bool text_login, sasl; /* with auth_file: how a client may say who it is */
	struct net_tls tls;
	uint64_t spin_ns;      /* of a loop before it sleeps; 0: none */
	unsigned disk_threads; /* of each loop, where the engine has such; 0: its default */
	unsigned per_address;  /* TCP connections of one address; 0: no limit */
	uint64_t
	    conn_bytes;   /* of input, requests, short answers, stats of all connections together */
	uint64_t idle_ns; /* a client that asks nothing for so long is closed; 0: it is not */
	uint64_t request_ns; /* for one request or answer, then SLOW_RATE; 0: no limit */
	uint64_t stall_ns;   /* a client that takes no output for so long is closed */
	/*
	 * The reply to "stats GROUP" (group: n bytes, n == 0: the general one), whole, END included.
	 * Called from any worker. False: no such group, and nothing was written.
	 */
	bool (*stats)(void *arg, const char *group, size_t n, struct text *out);
	void *stats_arg;
	/* Called by each thread of net when it has its loop, before it asks anything of it; NULL: nothing. */
	void (*opened)(void *arg);
	void *opened_arg;
};

/*
 * Opens every listener, so that the port answers from now on; nothing is accepted yet. The strings
 * of cfg must live as long as the net. On failure nothing is left open, and *cause is one sentence
 * for the operator (malloc'd).
 */
int net_open(const struct net_config *cfg, struct net **net, char **cause);

/* Before the process becomes another user: gives that user the unix socket, as far as its owner and
 * group were not stated. -errno. */
int net_give(const struct net *net, uid_t user, gid_t group);

/*
 * Starts the workers and the slow thread on a store that is open. They have all that they open at a start when this
 * returns, and no byte of a client has been read: net_serve() lets clients in.
 */
int net_start(struct net *net, const struct io_engine *engine, struct store *store, char **cause);
void net_serve(struct net *net);

/*
 * Accepts no more, lets what clients asked for be answered for at most bound_ns, then closes all
 * connections, and the store's workers after them. Blocks until the threads have ended.
 */
void net_stop(struct net *net, uint64_t bound_ns);

/*
 * Reads users and passwords, and certificates and key, again, as far as there are any; for connections to come, and for
 * clients that have yet to say who they are. What is bad is said in the log, and what was read before stays. Any thread.
 */
void net_reload(struct net *net);

/* Closes the listeners and removes the socket file. Empties the caller's pointer. */
void net_close(struct net **net);

/* The port of listener i (the kernel's choice if 0 was asked for), 0 if it is not TCP. */
uint16_t net_port(const struct net *net, unsigned i);

/* Counters, sums over the workers since start or net_reset(): name, what it counts. */
#define NET_COUNTERS(X)                                                                            \
	X(total_connections, "connections accepted and served")                                    \
	X(rejected_connections, "connections turned away at the limit")                            \
	X(rejected_peers, "connections to the unix socket of users that are not allowed")          \
	X(rejected_addresses, "connections turned away because their address had its share")       \
	X(idle_kicks, "connections closed because they asked nothing for --idle-timeout")          \
	X(slow_connections, "connections closed because a request or an answer took too long")     \
	X(ssl_handshakes, "TLS handshakes that were completed")                                    \
	X(ssl_resumed, "of these, those that resumed a session")                                   \
	X(ssl_handshake_errors, "TLS handshakes that failed or took too long")                     \
	X(ssl_proto_errors, "TLS connections that were broken later")                              \
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
	X(auth_cmds, "clients that said who they are, also wrongly")                               \
	X(auth_errors, "clients that came with a wrong user or password")                          \
	X(bytes_read, "bytes received from clients")                                               \
	X(bytes_written, "bytes sent to clients")                                                  \
	X(sends, "send operations")                                                                \
	X(receives, "receive operations that brought bytes")                                       \
	X(protocol_errors, "requests answered with ERROR or CLIENT_ERROR")                         \
	X(foreign_greetings, "connections hung up on because they spoke HTTP or TLS")              \
	X(stalled_connections, "connections closed because they took no output")                   \
	X(input_pauses, "times a connection was not read from until its output moved")             \
	X(yields, "times a connection gave way to others in a turn")

struct net_counters {
#define X(n, s) uint64_t n;
	NET_COUNTERS(X)
#undef X
	uint64_t curr_connections; /* gauge: now */
	uint64_t conn_bytes;       /* gauge: of net_config.conn_bytes, in use */
	bool accepting;            /* gauge */
};
void net_counters(const struct net *net, struct net_counters *out);
/* The counters count from here; gauges stay. */
void net_reset(struct net *net);

const struct net_config *net_config(const struct net *net);
struct store *net_store(const struct net *net);

/* Seconds since certificates were read; 0 without TLS. */
uint64_t net_tls_age(const struct net *net);

/* Seconds since net_open(). */
uint64_t net_uptime(const struct net *net);

/* The counters of a worker's engine; id <= workers (the last is the slow thread's). NULL: none. */
struct io_counters;
const struct io_counters *net_io_counters(const struct net *net, unsigned id);

#endif
