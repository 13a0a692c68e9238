/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's settings: built-in defaults, then the --config file, then the command line; the
 * later wins. One table (options.c) drives all three, --help, the man page's list of options and
 * the example configuration file.
 *
 * Parsed once at start, before any thread exists; read-only from then on.
 *
 * Where we part from memcached: without -l we listen on 127.0.0.1 only, not on every address; and
 * -s switches TCP off only if neither -p nor -l is given.
 */
#ifndef VALCACHED_OPTIONS_H
#define VALCACHED_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum options_io { OPTIONS_IO_AUTO, OPTIONS_IO_URING, OPTIONS_IO_LIBEVENT };
enum options_sandbox { OPTIONS_SANDBOX_AUTO, OPTIONS_SANDBOX_ON, OPTIONS_SANDBOX_OFF };
enum options_keyformat { OPTIONS_KEY_PEM, OPTIONS_KEY_DER };
/* In the order of the words that are taken, memcached's numbers among them. */
enum options_tls { OPTIONS_TLS12, OPTIONS_TLS13, OPTIONS_TLS12_NUMBER, OPTIONS_TLS13_NUMBER };
enum options_restart { OPTIONS_RESTART_AUTO, OPTIONS_RESTART_DISK, OPTIONS_RESTART_EMPTY };
enum options_admit { OPTIONS_ADMIT_ALL, OPTIONS_ADMIT_SECOND };

/* A TCP address as written: a name, an IPv4 or an IPv6 address (without brackets), or "*" = any. */
struct options_addr {
	char *host;
	uint16_t port;
	bool plain; /* "notls:" before it */
};

struct options {
	/* network */
	struct options_addr *listen; /* TCP; empty if TCP is off (-p 0, or -s alone) */
	unsigned listen_n;
	unsigned port;      /* -p; of those in listen without a port of their own */
	char *unix_path;    /* NULL: none */
	unsigned unix_mask; /* permissions of the socket file, as in chmod: 0700 */
	char *unix_owner, *unix_group, *unix_allow; /* as written; NULL: not given */
	unsigned connections, backlog, requests_per_event;
	char *auth_file; /* NULL: none */
	bool sasl;
	unsigned per_address; /* connections; 0: no limit */
	uint64_t conn_bytes;  /* of all connections; never 0 once parsed */
	uint64_t idle_ns;     /* 0: no limit */
	uint64_t request_ns;  /* 0: no limit */

	/* TLS */
	bool ssl, ssl_session_cache;
	char *ssl_chain_cert, *ssl_key, *ssl_ca_cert, *ssl_ciphers; /* NULL: not given */
	enum options_keyformat ssl_keyformat;
	unsigned ssl_verify_mode; /* 0 to 3 */
	enum options_tls ssl_min_version;

	/* store */
	char **path;
	unsigned path_n; /* at least 1 */
	uint64_t size;   /* bytes, each path */
	uint64_t mean_value, item_max;
	uint64_t sync_ns;       /* 0: after each flush */
	uint64_t io_timeout_ns; /* 0: no limit */
	uint64_t write_budget;  /* bytes a second; 0: no limit */
	uint64_t scrub_rate;    /* bytes a second; 0: no scrub */
	enum options_admit admit;
	enum options_restart restart;
	enum options_io io;
	unsigned io_threads; /* of a worker, for the disk; engine libevent */
	bool allow_flush, forget_paths;

	/* memory */
	uint64_t ram_bytes, buffers_bytes;

	/* process */
	unsigned threads;
	uint64_t spin_ns; /* 0: none */
	unsigned verbose;
	char *user;    /* NULL: stay who we are */
	char *pidfile; /* NULL: none */
	char *config;  /* NULL: none */
	bool daemon;
	enum options_sandbox sandbox;
};

/*
 * Fills o, which need not be initialised. Returns
 *   0   o is valid; options_free() it
 *   >0  --help or --version was answered on stdout: exit 0 now; o is empty
 *   <0  -errno, and *cause is one sentence for the operator (free() it); o is empty
 * Reads no more than the configuration file and opens nothing else.
 */
int options_parse(struct options *o, int argc, char **argv, char **cause);
void options_free(struct options *o);

/* Other forms of the same table. */
void options_print_help(FILE *to);
void options_print_man(FILE *to);  /* troff (man) paragraphs, one an option */
void options_print_conf(FILE *to); /* a configuration file with every default, commented out */

/* Each setting in effect as (long name, value), in table order; a list gives one pair an entry. */
void options_each(const struct options *o,
		  void (*fn)(void *user, const char *name, const char *value), void *user);

#endif
