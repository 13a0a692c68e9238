/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blocking connection to one server, with a time-out on each wait. One thread.
 *
 * Functions return 0 or a length, or -errno: -ETIMEDOUT if the server was silent for the time-out,
 * -ECONNRESET if it closed, -ENODATA (-ESHUTDOWN: a unix socket) if it did so before its first whole line,
 * -EPROTO if it sent what the protocol does not allow. After any error the stream is out of step: close.
 */
#ifndef VALCACHECTL_CONN_H
#define VALCACHECTL_CONN_H

#include <stdbool.h>
#include <stddef.h>

struct conn {
	int fd;         /* -1: closed */
	bool local;     /* a unix socket */
	bool answered;  /* a line has come */
	size_t at, end; /* what is received and not yet read: in[at .. end) */
	char in[65536];
};

/*
 * server is HOST, HOST:PORT, [IPV6]:PORT or, with a slash in it, the path of a unix socket. On
 * error *cause is a sentence (free() it).
 */
int conn_open(struct conn *c, const char *server, int timeout_ms, char **cause);
void conn_close(struct conn *c);

int conn_send(struct conn *c, const void *data, size_t len);
/* One line without its end, as a string of at most size - 1 bytes; returns its length. */
int conn_line(struct conn *c, char *line, size_t size);
/* Some bytes of the stream, 1 to max: *data points to them until the next call. Returns how many.
 */
int conn_some(struct conn *c, const char **data, size_t max);
/* The next two bytes must end a value. */
int conn_crlf(struct conn *c);

/* What went wrong, for people. */
const char *conn_error(int error);

#endif
