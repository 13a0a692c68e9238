/* SPDX-License-Identifier: Apache-2.0 */
/* The tier over memcached servers: who has a key, and the connection to ask; see memcached.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/assert.h"
#include "base/cause.h"
#include "base/clock.h"
#include "ocache/ketama.h"
#include "ocache/mc_conn.h"
#include "ocache/memcached.h"
#include "ocache/thread.h"

#define PORT      11211u
#define HOST_MAX  256u
#define VALUE_MAX (64ull << 20)
#define IN_FLIGHT 4096u
#define WORD_MAX  250u /* of user and password */

struct tier_mc {
	struct tier tier;
	char key[TIER_KEY_MAX + 1];
	struct ketama *ring;
	unsigned n;
	struct mc_conn *conn[];
};

static struct tier_mc *mc_of(struct tier *t)
{
	return container_of(t, struct tier_mc, tier);
}

/* Always the same one for an id: a drop and the write that follows come in this order. */
static struct mc_conn *conn_of(const struct tier_mc *m, struct seg_id id)
{
	char text[SEG_ID_TEXT];

	if (m->n == 1)
		return m->conn[0];
	return m->conn[ketama_server(m->ring, seg_id_format(id, text), SEG_ID_TEXT - 1)];
}

static void mc_read(struct tier *t, struct seg_read *const *reads, unsigned n)
{
	struct tier_mc *m = mc_of(t);

	for (unsigned i = 0; i < n; i++)
		mc_conn_read(conn_of(m, reads[i]->id), reads[i]);
}

/* Which server it is at is not asked of the read: that may be somebody else's by now. */
static void mc_cancel(struct tier *t, struct seg_read *r)
{
	struct tier_mc *m = mc_of(t);

	for (unsigned i = 0; i < m->n; i++)
		if (mc_conn_cancel(m->conn[i], r))
			return;
}

static void mc_write(struct tier *t, struct seg_write *const *writes, unsigned n)
{
	struct tier_mc *m = mc_of(t);

	for (unsigned i = 0; i < n; i++)
		mc_conn_write(conn_of(m, writes[i]->id), writes[i]);
}

static void mc_drop(struct tier *t, struct seg_id id)
{
	struct tier_mc *m = mc_of(t);

	mc_conn_drop(conn_of(m, id), id);
}

static void mc_close(struct tier *t)
{
	struct tier_mc *m = mc_of(t);

	for (unsigned i = 0; i < m->n; i++)
		mc_conn_close(&m->conn[i]);
	ketama_free(m->ring);
	free(m);
}

static const struct tier_ops mc_ops = {
    .abi = TIER_ABI,
    .key = "memcached",
    .read = mc_read,
    .cancel = mc_cancel,
    .close = mc_close,
    .write = mc_write,
    .drop = mc_drop,
};

/* ---- opening ----------------------------------------------------------------------- */

/* "host", "host:port", "[v6]", "[v6]:port", "/path". False: none of these. */
static bool name_read(const char *text, char host[HOST_MAX], unsigned *port)
{
	const char *end = text + strlen(text), *colon = NULL;
	unsigned long v = 0;

	*port = PORT;
	if (*text == '/') {
		*port = 0;
	} else if (*text == '[') {
		text++;
		end = strchr(text, ']');
		if (end == NULL || (end[1] != '\0' && end[1] != ':'))
			return false;
		colon = end[1] == ':' ? end + 1 : NULL;
	} else {
		colon = strchr(text, ':');
		if (colon != NULL && strchr(colon + 1, ':') != NULL)
			return false; /* IPv6 without brackets */
		end = colon != NULL ? colon : end;
	}
	if (colon != NULL) {
		size_t digits = strspn(colon + 1, "0123456789");

		if (digits == 0 || digits > 5 || colon[1 + digits] != '\0')
			return false;
		v = strtoul(colon + 1, NULL, 10);
		if (v == 0 || v > 65535)
			return false;
		*port = (unsigned)v;
	}
	if (end == text || (size_t)(end - text) >= HOST_MAX)
		return false;
	memcpy(host, text, (size_t)(end - text));
	host[end - text] = '\0';
	return true;
}

static bool word_ok(const char *word, char above)
{
	size_t n = 0;

	while (word[n] != '\0' && n <= WORD_MAX && (unsigned char)word[n] > (unsigned char)above &&
	       word[n] != 0x7f)
		n++;
	return n > 0 && n <= WORD_MAX && word[n] == '\0';
}

/* "user password", or "" without one. False: it cannot be sent. */
static bool login_of(const struct tier_memcached_config *cfg, char login[2 * WORD_MAX + 2])
{
	login[0] = '\0';
	if (cfg->user == NULL && cfg->password == NULL)
		return true;
	if (cfg->user == NULL || cfg->password == NULL || !word_ok(cfg->user, ' ') ||
	    !word_ok(cfg->password, ' ' - 1))
		return false;
	snprintf(login, 2 * WORD_MAX + 2, "%s %s", cfg->user, cfg->password);
	return true;
}

static int connect_all(struct tier_mc *m, const struct tier_memcached_config *cfg,
		       const char *login, char **cause)
{
	struct ketama_server *server = calloc(m->n, sizeof *server);
	char(*host)[HOST_MAX] = calloc(m->n, sizeof *host);
	int err = server == NULL || host == NULL ? -ENOMEM : 0;
	char name[KETAMA_NAME_MAX];

	for (unsigned i = 0; i < m->n && err == 0; i++) {
		struct mc_conn_config cc = {
		    .host = host[i],
		    .login = *login != '\0' ? login : NULL,
		    .in_flight = cfg->in_flight != 0 ? cfg->in_flight : IN_FLIGHT,
		    .value_max = cfg->value_max != 0 ? cfg->value_max : VALUE_MAX,
		    .connect_ns = thread_ns(cfg->connect_ns, NS_PER_S),
		    .stall_ns = thread_ns(cfg->stall_ns, 10 * NS_PER_S),
		};

		if (cfg->servers[i] == NULL) {
			cause_say(cause, "memcached: server %u is NULL", i);
			err = -EINVAL;
			break;
		}
		if (!name_read(cfg->servers[i], host[i], &cc.port)) {
			cause_say(
			    cause,
			    "memcached: \"%s\" is none of host, host:port, [ipv6]:port, /socket",
			    cfg->servers[i]);
			err = -EINVAL;
			break;
		}
		if (cc.port == 0 && strlen(host[i]) >= sizeof(struct sockaddr_un){0}.sun_path) {
			cause_say(cause, "memcached: \"%s\": a socket's path has at most %zu bytes",
				  cfg->servers[i], sizeof(struct sockaddr_un){0}.sun_path - 1);
			err = -ENAMETOOLONG;
			break;
		}
		server[i] = (struct ketama_server){
		    .host = host[i],
		    .port = cc.port,
		    .weight = cfg->weights != NULL ? cfg->weights[i] : 1,
		    .name = cfg->ring_names != NULL ? cfg->ring_names[i] : NULL,
		};
		if (!ketama_name(cfg->ring, &server[i], name) || server[i].weight == 0 ||
		    server[i].weight > KETAMA_WEIGHT_MAX) {
			cause_say(
			    cause,
			    "memcached: %s: its weight is not 1 to %u, or its name on the ring is too long or unknown",
			    cfg->servers[i], KETAMA_WEIGHT_MAX);
			err = -EINVAL;
			break;
		}
		err = mc_conn_open(&cc, &m->conn[i]);
		if (err != 0)
			cause_say(cause, "memcached: %s: %s", cfg->servers[i], strerror(-err));
	}
	if (err == 0 &&
	    (m->ring = ketama_new(cfg->ring, cfg->weights != NULL, server, m->n)) == NULL)
		err = -ENOMEM;
	free(server);
	free(host);
	return err;
}

int tier_memcached_open(const struct tier_memcached_config *cfg, struct tier **tier, char **cause)
{
	const char *key = cfg->key != NULL ? cfg->key : mc_ops.key;
	char login[2 * WORD_MAX + 2];
	struct tier_mc *m;
	int err;

	if (cause != NULL)
		*cause = NULL;
	if (cfg->struct_size != sizeof *cfg || cfg->servers_count == 0 || cfg->servers == NULL ||
	    cfg->servers_count > TIER_MEMCACHED_SERVERS_MAX || !tier_key_ok(key) ||
	    (unsigned)cfg->ring > TIER_MEMCACHED_SPYMEMCACHED_LIB || cfg->value_max > UINT32_MAX)
		return cause_fail(
		    cause, -EINVAL,
		    "memcached: struct_size, servers, key, ring or value_max are not what memcached.h says");
	if (!login_of(cfg, login))
		return cause_fail(cause, -EINVAL,
				  "memcached: user or password are not what memcached.h says");
	m = calloc(1, sizeof *m + cfg->servers_count * sizeof(struct mc_conn *));
	if (m == NULL)
		return -ENOMEM;
	m->n = cfg->servers_count;
	memcpy(m->key, key, strlen(key) + 1);
	m->tier = (struct tier){.ops = &mc_ops, .key = m->key};
	err = connect_all(m, cfg, login, cause);
	explicit_bzero(login, sizeof login);
	if (err != 0) {
		mc_close(&m->tier);
		return err;
	}
	*tier = &m->tier;
	return 0;
}
