/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates and settings of TLS, for all connections. They are read at start, at SIGHUP and at refresh_certs
 * into a new SSL_CTX, which takes the place of the one before only if all is right; connections keep the one
 * that they began with. Keys of session tickets begin anew with it, so that nobody who was let in by
 * an old list of authorities is let in again without a look.
 *
 * Threads: lock covers ctx and its time. Reading files may take milliseconds, and is done outside of it.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "valcached/net/tls_int.h"

#define SESSIONS_MAX 20480 /* of --ssl-session-cache */

struct tls_server {
	pthread_mutex_t lock;
	SSL_CTX *ctx;
	uint64_t read_ns;
	uint64_t asked_ns; /* a client asked to read anew, and it was tried */
};

/* flag, file and OpenSSL's reason; -EINVAL. */
static int bad(char **cause, const char *flag, const char *value, const char *remedy)
{
	unsigned long e =
	    ERR_peek_error(); /* the first: later ones say only where it was noticed */
	const char *why = NULL;

	if (ERR_SYSTEM_ERROR(e))
		why = strerror(ERR_GET_REASON(e));
	else if (e != 0)
		why = ERR_reason_error_string(e);
	if (asprintf(cause, "%s=%s cannot be used: %s; %s", flag, value,
		     why != NULL ? why : "it is not what was expected", remedy) < 0)
		*cause = NULL;
	return -EINVAL;
}

/* A key with a passphrase: nobody is there to type it. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)arg;
	return 0;
}

static void look_at_dates(SSL_CTX *ctx, const char *file)
{
	const X509 *x = SSL_CTX_get0_certificate(ctx);

	if (x == NULL)
		return;
	if (X509_cmp_current_time(X509_get0_notAfter(x)) < 0)
		log_warn("the certificate in %s has expired: clients will refuse it", file);
	else if (X509_cmp_current_time(X509_get0_notBefore(x)) > 0)
		log_warn("the certificate in %s is not valid yet: clients will refuse it", file);
}

static int read_keys(SSL_CTX *ctx, const struct net_tls *t, char **cause)
{
	const char *key = t->key != NULL ? t->key : t->chain_cert;
	int type = t->key_der ? SSL_FILETYPE_ASN1 : SSL_FILETYPE_PEM;

	if (SSL_CTX_use_certificate_chain_file(ctx, t->chain_cert) != 1)
		return bad(cause, "--ssl-chain-cert", t->chain_cert,
			   "give a file with the certificate and those above it, in PEM");
	if (SSL_CTX_use_PrivateKey_file(ctx, key, type) != 1)
		return bad(cause, "--ssl-key", key,
			   "give a file with the key of the certificate, without a passphrase");
	if (SSL_CTX_check_private_key(ctx) != 1)
		return bad(cause, "--ssl-key", key, "give the key that belongs to the certificate");
	look_at_dates(ctx, t->chain_cert);
	return 0;
}

static int read_authorities(SSL_CTX *ctx, const struct net_tls *t, char **cause)
{
	static const char remedy[] = "give a file with certificates of authorities, in PEM";
	STACK_OF(X509_NAME) * names;

	if (t->ca_cert == NULL)
		return 0;
	if (SSL_CTX_load_verify_locations(ctx, t->ca_cert, NULL) != 1)
		return bad(cause, "--ssl-ca-cert", t->ca_cert, remedy);
	names = SSL_load_client_CA_file(t->ca_cert);
	if (names == NULL)
		return bad(cause, "--ssl-ca-cert", t->ca_cert, remedy);
	SSL_CTX_set_client_CA_list(ctx, names);
	return 0;
}

static int choose_ciphers(SSL_CTX *ctx, const char *list, char **cause)
{
	/* those of TLS 1.3 have names of their own, and a list of their own */
	if (list == NULL ||
	    (strncmp(list, "TLS_", 4) == 0 ? SSL_CTX_set_ciphersuites(ctx, list)
					   : SSL_CTX_set_cipher_list(ctx, list)) == 1)
		return 0;
	return bad(cause, "--ssl-ciphers", list, "`openssl ciphers` lists the names");
}

static void choose_verification(SSL_CTX *ctx, unsigned mode)
{
	static const int modes[] = {
	    SSL_VERIFY_NONE,
	    SSL_VERIFY_PEER,
	    SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
	    SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT | SSL_VERIFY_CLIENT_ONCE,
	};

	A(mode < sizeof modes / sizeof *modes);
	SSL_CTX_set_verify(ctx, modes[mode], NULL);
}

static int make(const struct net_tls *t, SSL_CTX **out, char **cause)
{
	static const unsigned char id[] = "valcached";
	SSL_CTX *ctx;
	int rc = -ENOMEM;

	ERR_clear_error();
	ctx = SSL_CTX_new(TLS_server_method());
	if (ctx == NULL)
		return rc;
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	SSL_CTX_set_min_proto_version(ctx, t->min_13 ? TLS1_3_VERSION : TLS1_2_VERSION);
	/* a client that asks for a new handshake again and again asks for our CPU */
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
				     SSL_OP_IGNORE_UNEXPECTED_EOF |
				     SSL_OP_CIPHER_SERVER_PREFERENCE);
	/* an idle connection has no buffers */
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_num_tickets(ctx, 1);
	SSL_CTX_set_session_id_context(ctx, id, sizeof id - 1);
	SSL_CTX_set_session_cache_mode(ctx, t->session_cache ? SSL_SESS_CACHE_SERVER
							     : SSL_SESS_CACHE_OFF);
	SSL_CTX_sess_set_cache_size(ctx, SESSIONS_MAX);
	choose_verification(ctx, t->verify);
	rc = read_keys(ctx, t, cause);
	if (rc == 0)
		rc = read_authorities(ctx, t, cause);
	if (rc == 0)
		rc = choose_ciphers(ctx, t->ciphers, cause);
	if (rc != 0) {
		SSL_CTX_free(ctx);
		ERR_clear_error(); /* a connection of this thread would take it for its own */
		return rc;
	}
	*out = ctx;
	return 0;
}

int tls__open(struct net *net, char **cause)
{
	struct tls_server *s;
	int rc;

	if (net->cfg.tls.chain_cert == NULL)
		return 0;
	s = calloc(1, sizeof *s);
	if (s == NULL)
		return -ENOMEM;
	rc = make(&net->cfg.tls, &s->ctx, cause);
	if (rc != 0) {
		free(s);
		return rc;
	}
	pthread_mutex_init(&s->lock, NULL);
	s->read_ns = clock_ns();
	net->tls = s;
	return 0;
}

void tls__close(struct net *net)
{
	struct tls_server *s = net->tls;

	net->tls = NULL;
	if (s == NULL)
		return;
	SSL_CTX_free(s->ctx);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

int tls__reload(struct net *net, char **cause)
{
	struct tls_server *s = net->tls;
	SSL_CTX *ctx, *old;
	int rc;

	*cause = NULL;
	A(s != NULL);
	rc = make(&net->cfg.tls, &ctx, cause);
	if (rc != 0) {
		log_warn("the certificates stay as they were: %s",
			 *cause != NULL ? *cause : strerror(-rc));
		return rc;
	}
	pthread_mutex_lock(&s->lock);
	old = s->ctx;
	s->ctx = ctx;
	s->read_ns = clock_ns();
	pthread_mutex_unlock(&s->lock);
	SSL_CTX_free(old); /* connections that began with it hold it */
	log_info("certificates were read anew");
	return 0;
}

bool tls__may_ask(struct net *net)
{
	struct tls_server *s = net->tls;
	uint64_t now = clock_ns();
	bool may;

	pthread_mutex_lock(&s->lock);
	may = now - s->read_ns >= NS_PER_S && now - s->asked_ns >= NS_PER_S;
	if (may)
		s->asked_ns = now;
	pthread_mutex_unlock(&s->lock);
	return may;
}

uint64_t tls__age(const struct net *net)
{
	struct tls_server *s = net->tls;
	uint64_t ns;

	pthread_mutex_lock(&s->lock);
	ns = clock_ns() - s->read_ns;
	pthread_mutex_unlock(&s->lock);
	return ns / NS_PER_S;
}

SSL *tls__session(struct net *net)
{
	struct tls_server *s = net->tls;
	SSL *ssl;

	pthread_mutex_lock(&s->lock);
	ssl = SSL_new(s->ctx);
	pthread_mutex_unlock(&s->lock);
	return ssl;
}
