/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target for a connection under TLS: OpenSSL as the client, whose ciphertext is cut, changed, doubled,
 * left out or followed by garbage, through the real state machine on simulated sockets. Whatever comes:
 *   - what the client understands is what would be answered without TLS, as far as it got;
 *   - a stream that was not touched is answered whole;
 *   - a client that is gone is closed, and every byte that was held is given back.
 *
 * Input: 8 bytes of choice (seed, version and what is done to the ciphertext, where, how large pieces are), then
 * either the ciphertext as it is (choice 1, bit 0) or commands by number.
 */
#include <errno.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/unit/net_rig.h"
#include "valcached/net/tls_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define CHOICE 8u
#define STREAM (1u << 20)

static const struct {
	const char *ask, *answer;
} commands[] = {
    {"set a 0 0 2\r\nAA\r\n", "STORED\r\n"},
    {"get a\r\n", NULL},
    {"mn\r\n", "MN\r\n"},
    {"delete b\r\n", "NOT_FOUND\r\n"},
    {"bogus\r\n", "ERROR\r\n"},
    {"set c 0 0 9000\r\n", "STORED\r\n"}, /* and 9000 bytes */
};

/* ---- a certificate that signs itself, in a file of this process ---------------------------------- */

static char cert_file[64];

static void forget(void)
{
	unlink(cert_file);
}

static void make_cert(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	X509_NAME *name;
	FILE *f;
	int fd;

	AN(key);
	AN(x);
	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 86400);
	X509_set_pubkey(x, key);
	name = X509_get_subject_name(x);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"fuzz", -1, -1,
				   0);
	X509_set_issuer_name(x, name);
	A(X509_sign(x, key, EVP_sha256()) > 0);
	strcpy(cert_file, "/tmp/fuzz-tls-XXXXXX");
	fd = mkstemp(cert_file);
	A(fd >= 0);
	f = fdopen(fd, "w");
	AN(f);
	A(PEM_write_X509(f, x) == 1);
	A(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1);
	fclose(f);
	X509_free(x);
	EVP_PKEY_free(key);
	atexit(forget);
}

/* ---- the client ----------------------------------------------------------------------------------- */

struct client {
	SSL *ssl;
	BIO *in, *out;
	int fd;
	const uint8_t *choice;
	size_t sent;  /* bytes of ciphertext so far */
	bool touched; /* something was done to it */
	bool over;    /* the other end has closed */
	char *got;    /* plain text */
	size_t got_n;
};

/* What the choice does to the ciphertext, once, at a place that it says. */
static void spoil(struct client *c, char *p, size_t *n)
{
	size_t at = (size_t)(c->choice[2] | c->choice[3] << 8) * 3 / 8;
	unsigned how = c->choice[1] >> 2 & 7;

	if (how == 0 || c->touched || at < c->sent || at >= c->sent + *n)
		return;
	c->touched = true;
	at -= c->sent;
	switch (how) {
	case 1:
		p[at] = (char)(p[at] ^ (1 << (c->choice[4] & 7)));
		break;
	case 2: /* the rest is lost */
		*n = at;
		break;
	case 3: /* one is missing */
		memmove(p + at, p + at + 1, *n - at - 1);
		--*n;
		break;
	case 4: /* a run of others */
		memset(p + at, c->choice[4], *n - at);
		break;
	default: /* twice */
		memmove(p + *n / 2, p, *n - *n / 2);
		break;
	}
}

static void pump(struct rig *r, struct client *c)
{
	static char buf[65536];
	size_t piece = 1ul << (c->choice[5] % 15);
	int n;

	while ((n = BIO_read(c->out, buf, sizeof buf)) > 0) {
		size_t all = (size_t)n, at = 0;

		spoil(c, buf, &all);
		c->sent += (size_t)n;
		if (all > 4000 && piece < 64)
			piece = 64;
		for (unsigned idle = 0; at < all && idle < 100;) {
			size_t want = piece < all - at ? piece : all - at;
			size_t did = rig_send(r, c->fd, buf + at, want);

			at += did;
			idle = did > 0 ? 0 : idle + 1;
			rig_turn(r);
			if (did == 0)
				rig_run(r);
		}
	}
	rig_run(r);
	for (;;) {
		int32_t m = rig_recv(r, c->fd, buf, sizeof buf);

		if (m <= 0) {
			c->over = c->over || m == 0 || m == -ECONNRESET;
			return;
		}
		A(BIO_write(c->in, buf, m) == m);
		rig_run(r);
	}
}

/* Reads what is there; false: the stream is lost. */
static bool listen_to(struct rig *r, struct client *c)
{
	for (;;) {
		int n = SSL_read(c->ssl, c->got + c->got_n, (int)(STREAM - c->got_n)), e;

		if (n > 0) {
			c->got_n += (size_t)n;
			A(c->got_n < STREAM);
			continue;
		}
		e = SSL_get_error(c->ssl, n);
		ERR_clear_error();
		if (e != SSL_ERROR_WANT_READ)
			return false;
		if (BIO_ctrl_pending(c->out) == 0 && BIO_ctrl_pending(c->in) == 0) {
			size_t before = c->got_n;

			pump(r, c);
			if (BIO_ctrl_pending(c->in) == 0 && c->got_n == before)
				return !c->over;
		}
	}
}

/* The commands, and what is to be answered. */
static size_t compose(const uint8_t *data, size_t n, char *ask, char *want, size_t *want_n)
{
	size_t a = 0, w = 0;
	bool have = false;

	for (size_t i = 0; i < n && i < 40; i++) {
		unsigned k = data[i] % (sizeof commands / sizeof *commands);
		const char *answer = commands[k].answer;

		if (answer == NULL)
			answer = have ? "VALUE a 0 2\r\nAA\r\nEND\r\n" : "END\r\n";
		have = have || k == 0;
		a += (size_t)sprintf(ask + a, "%s", commands[k].ask);
		if (k == 5) {
			memset(ask + a, 'v', 9000);
			memcpy(ask + a + 9000, "\r\n", 2);
			a += 9002;
		}
		w += (size_t)sprintf(want + w, "%s", answer);
	}
	*want_n = w;
	return a;
}

static void talk(struct rig *r, SSL_CTX *ctx, const uint8_t *data, size_t n)
{
	static char ask[STREAM], want[STREAM], got[STREAM];
	struct client c = {.choice = data, .fd = rig_connect(r), .got = got};
	size_t ask_n, want_n;
	bool good;

	c.ssl = SSL_new(ctx);
	AN(c.ssl);
	c.in = BIO_new(BIO_s_mem());
	c.out = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(c.in, -1);
	SSL_set_bio(c.ssl, c.in, c.out);
	SSL_set_connect_state(c.ssl);
	if (data[1] & 2)
		SSL_set_max_proto_version(c.ssl, TLS1_2_VERSION);
	for (unsigned i = 0; i < 50 && !SSL_is_init_finished(c.ssl); i++) {
		(void)SSL_do_handshake(c.ssl);
		ERR_clear_error();
		pump(r, &c);
	}
	good = SSL_is_init_finished(c.ssl);
	A(good || c.touched);
	ask_n = compose(data + CHOICE, n - CHOICE, ask, want, &want_n);
	if (good && ask_n > 0) {
		A(SSL_write(c.ssl, ask, (int)ask_n) == (int)ask_n);
		for (unsigned i = 0; i < 200 && c.got_n < want_n && good; i++) {
			pump(r, &c);
			good = listen_to(r, &c);
		}
		A(c.got_n <= want_n);
		AZ(memcmp(c.got, want, c.got_n));
		A(c.touched || c.got_n == want_n);
	}
	sim_sock_close(r->env, c.fd, data[6] & 1);
	rig_run(r);
	SSL_free(c.ssl);
	ERR_clear_error();
}

/* No client at all: the bytes as they are. */
static void babble(struct rig *r, const uint8_t *data, size_t n)
{
	int fd = rig_connect(r);
	char some[4096];
	size_t at = 0;

	for (unsigned idle = 0; at < n && idle < 20;) {
		size_t did = rig_send(r, fd, data + at, n - at);

		at += did;
		idle = did > 0 ? 0 : idle + 1;
		rig_run(r);
		while (rig_recv(r, fd, some, sizeof some) > 0)
			rig_run(r);
	}
	sim_sock_close(r->env, fd, false);
	rig_run(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static SSL_CTX *ctx;
	struct sim_config sc = {0};
	char *cause = NULL;
	struct rig *r;

	if (n < CHOICE || n > 20000)
		return 0;
	if (ctx == NULL) {
		make_cert();
		ctx = SSL_CTX_new(TLS_client_method());
		AN(ctx);
	}
	sc.cut = data[6] & 2 ? 300000 : 0;
	sc.nobufs = data[6] & 4 ? 100000 : 0;
	sc.sock_bytes = 2000u << (data[7] % 8);
	r = rig_open(data[0], &sc, NULL);
	r->net.cfg.tls.chain_cert = cert_file;
	AZ(tls__open(&r->net, &cause));
	r->listener.tls = true;
	if (data[1] & 1)
		babble(r, data + CHOICE, n - CHOICE);
	else
		talk(r, ctx, data, n);
	A(rig_conns(r) == 0);
	A(atomic_load(&r->w->held) == 0);
	rig_stop(r);
	tls__close(&r->net);
	rig_free(&r);
	return 0;
}
