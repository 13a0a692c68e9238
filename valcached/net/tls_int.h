/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to net/: TLS by OpenSSL. tls.c has certificates and settings, for all workers; tls_conn.c what is between
 * a connection and its socket.
 */
#ifndef VALCACHED_NET_TLS_INT_H
#define VALCACHED_NET_TLS_INT_H

#include <openssl/ssl.h>

#include "valcached/net/net_int.h"

struct io_op;

/* A connection's. Its worker's. */
struct tls {
	SSL *ssl;
	bool open;   /* the handshake is done */
	bool failed; /* what is left to say is an alert */
	bool bye;    /* our end of the stream was said */
	/* what OpenSSL reads from: ciphertext of the call under way */
	const char *in;
	size_t in_n;
	/* what it has written and is not sent yet; and what is in a send, the kernel's until it is done */
	char *out, *flying;
	uint32_t out_n, out_room, flying_n, flying_room;
	struct iovec iov;
	/* of the first struct out: how far it is encrypted */
	uint32_t piece;
	size_t piece_off;
	bool ends; /* the rest of it is in flying */
};

/* ---- tls.c ------------------------------------------------------------------------------------ */

/* Reads certificate and key; *cause is one sentence on failure. Main thread, before anything is served. */
int tls__open(struct net *net, char **cause);
void tls__close(struct net *net);
/*
 * Reads them anew, for connections to come. On failure what was read before stays; *cause says why. Any thread.
 */
int tls__reload(struct net *net, char **cause);
/* For clients: not within a second of the last time, whether that failed or not. Any thread. */
bool tls__may_ask(struct net *net);
/* When they were read last; seconds since. */
uint64_t tls__age(const struct net *net);
/* A session for one connection; NULL: no memory. */
SSL *tls__session(struct net *net);

/* ---- tls_conn.c ------------------------------------------------------------------------------- */

/* Of a connection that was accepted on a TLS listener, on its worker. False: no memory. */
bool tls__begin(struct conn *c);
void tls__free(struct conn *c);
/* Ciphertext came; the handshake is done: it is decrypted, and what can be is understood. */
void tls__came(struct conn *c, const char *bytes, size_t n);
/* A record has begun to come and is not whole: OpenSSL has what there is of it. */
bool tls__in_record(const struct conn *c);
/* Goes on with the handshake with what has come (c->left). */
void tls__greet(struct conn *c);
/* Sends what OpenSSL wants to say, and answers, encrypted. No send is under way. */
void tls__send(struct conn *c);
/* Says that our stream ends. True: that was sent. */
bool tls__parted(struct conn *c);

#endif
