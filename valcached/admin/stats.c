/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `stats` and its groups. Names are memcached's where the meaning is the same; what we have not is
 * left out rather than given as zero, save get_expired, which is zero by design (values never
 * expire). docs/protocol.md lists every name.
 *
 * Threads: any; reads relaxed counters, so lines of one reply may be a few requests apart.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "valcached/admin/admin.h"
#include "valcached/io/io.h"
#include "valcached/net/net.h"
#include "valcached/net/text.h"
#include "valcached/options.h"
#include "valcached/sandbox/sandbox.h"
#include "valcached/store/store.h"

static void stat_line(void *arg, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A store_emit_fn: one "STAT name value" line. */
static void stat_line(void *arg, const char *name, const char *fmt, ...)
{
	struct text *out = arg;
	char value[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof value, fmt, ap);
	va_end(ap);
	text_printf(out, "STAT %s %s\r\n", name, value);
}

static void number(struct text *out, const char *name, uint64_t v)
{
	stat_line(out, name, "%" PRIu64, v);
}

static void general_process(const struct admin *a, struct text *out)
{
	struct rusage ru = {0};

	getrusage(RUSAGE_SELF, &ru);
	number(out, "pid", (uint64_t)getpid());
	number(out, "uptime", net_uptime(a->net));
	number(out, "time", (uint64_t)time(NULL));
	stat_line(out, "version", "%s", VALCACHED_VERSION);
	stat_line(out, "io_engine", "%s", a->engine);
	stat_line(out, "io_engine_reason", "%s", a->engine_reason);
	stat_line(out, "sandbox_state", "%s", a->sandbox);
	stat_line(out, "sandbox_reason", "%s", a->sandbox_reason);
	number(out, "sandbox_refused_calls", sandbox_refused());
	number(out, "pointer_size", 8 * sizeof(void *));
	stat_line(out, "rusage_user", "%ld.%06ld", (long)ru.ru_utime.tv_sec,
		  (long)ru.ru_utime.tv_usec);
	stat_line(out, "rusage_system", "%ld.%06ld", (long)ru.ru_stime.tv_sec,
		  (long)ru.ru_stime.tv_usec);
}

static void general_net(const struct admin *a, struct text *out)
{
	const struct net_config *cfg = net_config(a->net);
	struct net_counters n;

	net_counters(a->net, &n);
	number(out, "max_connections", cfg->connections);
	number(out, "curr_connections", n.curr_connections);
#define X(name, text) number(out, #name, n.name);
	NET_COUNTERS(X)
#undef X
	number(out, "conn_buffers_used_bytes", n.conn_bytes);
	number(out, "listen_disabled_num", n.accept_pauses);
	number(out, "time_since_server_cert_refresh", net_tls_age(a->net));
	number(out, "get_expired", 0);
	number(out, "accepting_conns", n.accepting);
	number(out, "threads", cfg->workers);
}

static void general_store(const struct admin *a, struct text *out)
{
	const struct store *s = net_store(a->net);
	struct store_counters c;
	uint64_t items, bytes;

	store_counters(s, &c);
	store_totals(s, &items, &bytes);
	number(out, "limit_maxbytes", a->options->size * a->options->path_n);
	number(out, "bytes", bytes);
	number(out, "curr_items", items);
	number(out, "total_items", c.sets_stored);
	/* of names that net has, too, memcached means net's: commands, not lookups */
#define X(name, text)                                                                              \
	if (strcmp(#name, "get_misses") != 0 && strcmp(#name, "delete_misses") != 0)               \
		number(out, #name, c.name);
	STORE_COUNTERS(X)
#undef X
}

static void general_io(const struct admin *a, struct text *out)
{
	const struct net_config *cfg = net_config(a->net);
	uint64_t sum;

#define X(name, text)                                                                              \
	sum = 0;                                                                                   \
	for (unsigned i = 0; i <= cfg->workers; i++) {                                             \
		const struct io_counters *c = net_io_counters(a->net, i);                          \
		sum += c != NULL ? atomic_load_explicit(&c->name, memory_order_relaxed) : 0;       \
	}                                                                                          \
	number(out, "io_" #name, sum);
	IO_COUNTERS(X)
#undef X
}

static void group_general(const struct admin *a, struct text *out)
{
	general_process(a, out);
	general_net(a, out);
	general_store(a, out);
	general_io(a, out);
}

static void setting(void *user, const char *name, const char *value)
{
	stat_line(user, name, "%s", value);
}

/* Our own long names, then memcached's name for the same, for tools that look for it. */
static void group_settings(const struct admin *a, struct text *out)
{
	const struct options *o = a->options;

	options_each(o, setting, out);
	number(out, "maxbytes", o->size * o->path_n);
	number(out, "maxconns", o->connections);
	number(out, "tcpport", o->port);
	number(out, "udpport", 0);
	stat_line(out, "domain_socket", "%s", o->unix_path != NULL ? o->unix_path : "NULL");
	stat_line(out, "umask", "%o", o->unix_mask);
	number(out, "num_threads", o->threads);
	number(out, "item_size_max", o->item_max);
	number(out, "idle_timeout", o->idle_ns / 1000000000u);
	stat_line(out, "maxconns_fast", "yes");
	stat_line(out, "ssl_enabled", "%s", o->ssl ? "yes" : "no");
	number(out, "tcp_backlog", o->backlog);
	number(out, "reqs_per_event", o->requests_per_event);
	stat_line(out, "cas_enabled", "yes");
	stat_line(out, "flush_enabled", "%s", o->allow_flush ? "yes" : "no");
	stat_line(out, "auth_enabled_sasl", "%s", o->sasl ? "yes" : "no");
	stat_line(out, "auth_enabled_ascii", "%s", o->auth_file != NULL ? o->auth_file : "no");
	stat_line(out, "evictions", "on");
	stat_line(out, "io_engine", "%s", a->engine);
	stat_line(out, "io_engine_reason", "%s", a->engine_reason);
}

static void latency(const struct store *s, enum store_latency which, const char *name,
		    struct text *out)
{
	static const struct {
		const char *name;
		double q;
	} points[] = {{"p50_us", 0.5}, {"p90_us", 0.9}, {"p99_us", 0.99}, {"p99.9_us", 0.999}};
	struct hist *h = calloc(1, sizeof *h);
	char line[64];

	if (h == NULL) {
		out->failed = true;
		return;
	}
	store_latency(s, which, h);
	snprintf(line, sizeof line, "%s:count", name);
	number(out, line, atomic_load_explicit(&h->count, memory_order_relaxed));
	for (unsigned i = 0; i < sizeof points / sizeof *points; i++) {
		snprintf(line, sizeof line, "%s:%s", name, points[i].name);
		stat_line(out, line, "%.1f", (double)hist_quantile(h, points[i].q) / 1000);
	}
	snprintf(line, sizeof line, "%s:max_us", name);
	stat_line(out, line, "%.1f",
		  (double)atomic_load_explicit(&h->max, memory_order_relaxed) / 1000);
	free(h);
}

static void group_latency(const struct admin *a, struct text *out)
{
	const struct store *s = net_store(a->net);

	latency(s, STORE_LAT_GET_RAM, "get_ram", out);
	latency(s, STORE_LAT_GET_DISK, "get_disk", out);
	latency(s, STORE_LAT_MISS, "miss", out);
	latency(s, STORE_LAT_SET, "set", out);
}

static void group_items(const struct admin *a, struct text *out)
{
	store_stats_items(net_store(a->net), stat_line, out);
}

static void group_store(const struct admin *a, struct text *out)
{
	store_stats(net_store(a->net), stat_line, out);
}

bool admin_stats(void *arg, const char *group, size_t n, struct text *out)
{
	static const struct {
		const char *name;
		void (*print)(const struct admin *, struct text *);
	} groups[] = {
	    {"", group_general},    {"settings", group_settings}, {"items", group_items},
	    {"store", group_store}, {"latency", group_latency},
	};
	const struct admin *a = arg;

	for (unsigned i = 0; i < sizeof groups / sizeof *groups; i++) {
		if (strlen(groups[i].name) != n || memcmp(groups[i].name, group, n) != 0)
			continue;
		groups[i].print(a, out);
		text_add(out, "END\r\n", 5);
		return true;
	}
	return false;
}
