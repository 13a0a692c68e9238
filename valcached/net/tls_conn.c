/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS between a connection and its socket. OpenSSL sees no socket: it reads from the bytes that the engine has just
 * delivered and writes to a buffer, which goes out by the connection's one send. So it never waits, and a
 * handshake that is slow is only a connection with little to do.
 *
 *     socket -> engine's buffer -> [handshake | decrypt] -> body of a set, or bytes_came()
 *     struct out, values of the store -> encrypt -> t->out -> t->flying (c->tx) -> socket
 *
 * Rules
 *  1. OpenSSL takes all that came at once, a part of a record, too: nothing encrypted waits here, but for what
 *     a handshake that is put off has (c->left, which holds plain text only after it).
 *  2. What is encrypted from the first struct out at a time is BATCH bytes; the out is done when its last batch
 *     is sent, and what it holds of the store goes back then.
 *  3. Values are encrypted where they are; only pieces below GATHER are put together before, so that a line
 *     and its neighbours are one record.
 *  4. A connection whose handshake has failed says its alert and ends. The handshake has HANDSHAKE_NS (limits.c),
 *     and at most GREETINGS go on in a turn: their arithmetic takes up to a millisecond each.
 *  5. No renegotiation. What a client can make OpenSSL say beside answers (tickets, key updates) is bounded
 *     by SAID_MAX: who asks and does not take it ends.
 *
 * The connection's worker.
 */
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "valcached/net/tls_int.h"

#define RECORD    16384u       /* plain text of one */
#define BATCH     (3 * RECORD) /* with what TLS adds, below 64 KiB */
#define GATHER    4096u
#define GREETINGS 8u
#define SAID_MAX  (32u * 1024)
/* What a record has beside its text: header, nonce, tag, type, padding of older suites. */
#define RECORD_MORE 128u

/* ---- what OpenSSL takes for a socket ------------------------------------------------------------ */

static int feed(BIO *b, char *to, int n)
{
	struct tls *t = BIO_get_data(b);
	size_t take = n > 0 && (size_t)n < t->in_n ? (size_t)n : t->in_n;

	BIO_clear_retry_flags(b);
	if (take == 0) {
		BIO_set_retry_read(b);
		return -1;
	}
	memcpy(to, t->in, take);
	t->in += take;
	t->in_n -= take;
	return (int)take;
}

static void out_room(struct conn *c, uint32_t more)
{
	struct tls *t = c->tls;
	uint32_t room;
	char *to;

	if (t->out_n + more <= t->out_room)
		return;
	to = worker__left(c->w, t->out_n + more, &room);
	if (t->out != NULL) {
		memcpy(to, t->out, t->out_n);
		worker__left_free(c->w, t->out, t->out_room);
	}
	t->out = to;
	t->out_room = room;
}

static int taken(BIO *b, const char *bytes, int n)
{
	struct tls *t = BIO_get_data(b);
	struct conn *c = SSL_get_app_data(t->ssl);

	BIO_clear_retry_flags(b);
	A(n >= 0);
	out_room(c, (uint32_t)n);
	memcpy(t->out + t->out_n, bytes, (size_t)n);
	t->out_n += (uint32_t)n;
	return n;
}

static long control(BIO *b, int what, long n, void *p)
{
	(void)b;
	(void)n;
	(void)p;
	return what == BIO_CTRL_FLUSH;
}

static int created(BIO *b)
{
	BIO_set_init(b, 1);
	return 1;
}

static BIO_METHOD *method;

static void make_method(void)
{
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "valcached");
	AN(method);
	BIO_meth_set_read(method, feed);
	BIO_meth_set_write(method, taken);
	BIO_meth_set_ctrl(method, control);
	BIO_meth_set_create(method, created);
}

bool tls__begin(struct conn *c)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct tls *t = calloc(1, sizeof *t);
	BIO *b;

	AZ(pthread_once(&once, make_method));
	if (t == NULL)
		return false;
	t->ssl = tls__session(c->w->net);
	b = t->ssl != NULL ? BIO_new(method) : NULL;
	if (b == NULL) {
		SSL_free(t->ssl);
		free(t);
		return false;
	}
	BIO_set_data(b, t);
	SSL_set_bio(t->ssl, b, b);
	SSL_set_app_data(t->ssl, c);
	SSL_set_accept_state(t->ssl);
	c->tls = t;
	return true;
}

void tls__free(struct conn *c)
{
	struct tls *t = c->tls;

	if (t == NULL)
		return;
	c->tls = NULL;
	if (t->out != NULL)
		worker__left_free(c->w, t->out, t->out_room);
	if (t->flying != NULL)
		worker__left_free(c->w, t->flying, t->flying_room);
	SSL_free(t->ssl);
	free(t);
}

/* ---- in ----------------------------------------------------------------------------------------- */

/* The stream is lost: what OpenSSL has to say about it is still said. */
static void lost(struct conn *c)
{
	static struct log_limit limit;
	struct tls *t = c->tls;
	unsigned long e = ERR_peek_last_error();
	const char *why = e != 0 ? ERR_reason_error_string(e) : NULL;

	count_add(t->open ? &c->w->count.ssl_proto_errors : &c->w->count.ssl_handshake_errors, 1);
	log_limited(&limit, LOG_INFO, "ended a TLS connection%s: %s",
		    t->open ? "" : " in its handshake", why != NULL ? why : "unknown reason");
	ERR_clear_error();
	t->failed = true;
	c->closing = true;
}

/* SSL_read() or a handshake wants more (true), or the stream is over. */
static bool wants_more(struct conn *c, int rc)
{
	switch (SSL_get_error(c->tls->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		/* answers to key updates that it does not take */
		if (c->tls->out_n > SAID_MAX + BATCH) {
			lost(c);
			return false;
		}
		return true;
	case SSL_ERROR_ZERO_RETURN:
		c->eof = c->hung_up = true;
		return false;
	default:
		lost(c);
		return false;
	}
}

/* Decrypts all that there is: into the body of a set where it goes, without a copy between. */
static void decrypt(struct conn *c)
{
	struct tls *t = c->tls;
	size_t n;

	while (!c->dead && !c->closing && !t->failed) {
		bool body = c->in == IN_BODY && c->left_n == 0;
		char *to = body ? (char *)c->cur->op.body + c->filled : c->w->plain;
		size_t room = body ? set__body_room(c) : sizeof c->w->plain;
		int rc = SSL_read_ex(t->ssl, to, room, &n);

		if (rc != 1) {
			wants_more(c, rc);
			return;
		}
		if (body)
			set__body_came(c, (uint32_t)n);
		else
			conn__bytes_came(c, to, n);
	}
}

void tls__came(struct conn *c, const char *bytes, size_t n)
{
	struct tls *t = c->tls;

	ERR_clear_error();
	t->in = bytes;
	t->in_n = n;
	decrypt(c);
	t->in = NULL;
	t->in_n = 0;
}

bool tls__in_record(const struct conn *c)
{
	const SSL *ssl = c->tls->ssl;

	/* the second is so, and the first is not, when its head has come and nothing else */
	return SSL_has_pending(ssl) || strcmp(SSL_rstate_string(ssl), "RB") == 0;
}

void tls__greet(struct conn *c)
{
	struct tls *t = c->tls;
	char *left = c->left;
	uint32_t room = c->left_room;
	int rc;

	if (c->left_n == 0 || c->closing)
		return;
	if (c->w->greeted >= GREETINGS) {
		count_add(&c->w->count.yields, 1);
		conn__dirty(c);
		return;
	}
	c->w->greeted++;
	ERR_clear_error();
	t->in = left + c->left_at;
	t->in_n = c->left_n;
	/* plain text may come into c->left before this ends */
	c->left = NULL;
	c->left_at = c->left_n = c->left_room = 0;
	rc = SSL_do_handshake(t->ssl);
	if (rc == 1) {
		t->open = true;
		count_add(&c->w->count.ssl_handshakes, 1);
		if (SSL_session_reused(t->ssl))
			count_add(&c->w->count.ssl_resumed, 1);
		decrypt(c);
	} else {
		wants_more(c, rc);
	}
	t->in = NULL;
	t->in_n = 0;
	worker__left_free(c->w, left, room);
}

/* ---- out ---------------------------------------------------------------------------------------- */

static void encrypt_bytes(struct conn *c, const void *bytes, size_t n)
{
	size_t did;

	/* the buffer grows, so it takes all; what fails then is memory of OpenSSL's */
	if (SSL_write_ex(c->tls->ssl, bytes, n, &did) != 1)
		lost(c);
	else
		A(did == n);
}

/* Small pieces from here on, which fit one record: how many, and their bytes together. */
static uint32_t small_pieces(const struct tls *t, const struct out *o, size_t *bytes)
{
	uint32_t n = 0;

	*bytes = 0;
	for (uint32_t i = t->piece; i < o->iov_n; i++, n++) {
		size_t left = o->iov[i].iov_len - (n == 0 ? t->piece_off : 0);

		if (left >= GATHER || *bytes + left > RECORD)
			break;
		*bytes += left;
	}
	return n;
}

/* The next record of the first out. */
static void encrypt_record(struct conn *c, const struct out *o)
{
	struct tls *t = c->tls;
	const char *at = (const char *)o->iov[t->piece].iov_base + t->piece_off;
	size_t left = o->iov[t->piece].iov_len - t->piece_off, bytes, used = 0;
	uint32_t n = small_pieces(t, o, &bytes);

	if (n <= 1) {
		size_t part = left < RECORD ? left : RECORD;

		encrypt_bytes(c, at, part);
		t->piece_off += part;
		if (part == left) {
			t->piece++;
			t->piece_off = 0;
		}
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		memcpy(c->w->plain + used, at, left);
		used += left;
		t->piece++;
		t->piece_off = 0;
		at = o->iov[t->piece].iov_base;
		left = i + 1 < n ? o->iov[t->piece].iov_len : 0;
	}
	encrypt_bytes(c, c->w->plain, used);
}

static void encrypt(struct conn *c)
{
	struct tls *t = c->tls;
	const struct out *o = c->out;
	uint64_t want = o->bytes < BATCH ? o->bytes : BATCH;

	out_room(c, (uint32_t)want + RECORD_MORE * (uint32_t)(want / RECORD + 3));
	while (t->piece < o->iov_n && t->out_n < BATCH && !t->failed)
		encrypt_record(c, o);
	t->ends = t->piece == o->iov_n;
	if (t->ends) {
		t->piece = 0;
		t->piece_off = 0;
	}
}

static void sent(struct io_op *op)
{
	struct conn *c = container_of(op, struct conn, tx);
	struct tls *t = c->tls;
	bool ok = op->res >= 0, ends = t->ends;

	MAGIC_OK(c, CONN_MAGIC);
	if (ok) {
		count_add(&c->w->count.bytes_written, t->flying_n);
		c->moved += t->flying_n;
	} else if (!c->dead) {
		conn__die(c);
	}
	worker__left_free(c->w, t->flying, t->flying_room);
	t->flying = NULL;
	t->flying_n = 0;
	t->ends = false;
	if (ends || (!ok && c->out != NULL))
		output__done(c, ok);
	output__moved(c);
}

void tls__send(struct conn *c)
{
	struct tls *t = c->tls;
	bool more;

	A(t->flying == NULL);
	ERR_clear_error();
	if (t->open && !t->failed && c->out != NULL)
		encrypt(c);
	if (t->failed) {
		/* answers that are not encrypted yet never will be */
		t->ends = false;
		while (c->out != NULL)
			output__done(c, false);
	}
	if (t->out_n == 0)
		return;
	t->flying = t->out;
	t->flying_n = t->out_n;
	t->flying_room = t->out_room;
	t->out = NULL;
	t->out_n = t->out_room = 0;
	t->iov = (struct iovec){t->flying, t->flying_n};
	more = c->out != NULL && (!t->ends || c->out->next != NULL);
	count_add(&c->w->count.sends, 1);
	if (t->ends && !more && output__last(c))
		io_send_lazy(c->w->io, &c->tx, c->fd, &t->iov, 1, sent);
	else
		io_send(c->w->io, &c->tx, c->fd, &t->iov, 1, sent);
}

bool tls__parted(struct conn *c)
{
	struct tls *t = c->tls;

	if (!t->bye) {
		t->bye = true;
		ERR_clear_error();
		if (t->open && !t->failed)
			(void)SSL_shutdown(t->ssl); /* we do not wait for the client's */
		ERR_clear_error();
		if (io_op_idle(&c->tx))
			tls__send(c);
	}
	return io_op_idle(&c->tx) && t->out_n == 0;
}
