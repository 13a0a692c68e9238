/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. One connection to one memcached server and the thread that owns its socket.
 *
 *     mc_conn_read() ... --> todo --> sent (in order of the answers) --> done()
 *                             |         |
 *                          cancel:   cancel: done() at once; its answer, when it comes,
 *                          gone      is nobody's
 *
 *  [MC-1] Answers come in the order of the requests: the first in `sent` is the one that is answered.
 *  [MC-2] Lists change under the lock, and only the thread takes from `sent`.
 *  [MC-3] What is not understood ends the connection, and with it all that was sent: a stream that is
 *         out of step would give one key's bytes for another's.
 *  [MC-5] A server stalls if it has a whole request and sends nothing for stall_ns. While it has not all of the first
 *         in `sent`, what it takes counts as well as what it sends: what the socket takes of that request, and then
 *         what leaves the socket's queue.
 *  [MC-4] No done() is called under the lock.
 *  [MC-6] A login is the first request of a connection; what is asked goes behind it without waiting. If it is refused, all
 *         that was sent fails, and the next attempt waits as for a server that is not there.
 */
#ifndef OCACHE_MC_CONN_H
#define OCACHE_MC_CONN_H

#include "ocache/tier.h"

struct mc_conn;

struct mc_conn_config {
	const char *host; /* or the path of a unix socket, with port 0 */
	unsigned port;
	const char *login; /* "user password", sent first on each connection; NULL: nothing is */
	uint32_t in_flight;
	uint64_t value_max, connect_ns, stall_ns;
};

/* Host and login are copied. 0 or -errno. */
int mc_conn_open(const struct mc_conn_config *config, struct mc_conn **conn);
/* Nothing that has a done() is in flight. */
void mc_conn_close(struct mc_conn **conn);

/* Any thread. */
void mc_conn_read(struct mc_conn *c, struct seg_read *r);
void mc_conn_write(struct mc_conn *c, struct seg_write *w);
void mc_conn_drop(struct mc_conn *c, struct seg_id id);
/* True: it was in flight here, and done() has been called. */
bool mc_conn_cancel(struct mc_conn *c, struct seg_read *r);

#endif
