/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The picture of top. A number that the server does not give, or that needs a sample before, is
 * a dash. Counters that went back (a restart, stats reset) show as zero for one frame.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/size.h"
#include "tools/valcachectl/view.h"

#define CELL 24

/* 1234567 as 1,234,567; with a fraction if small. */
static const char *count_text(char *cell, double v)
{
	char digits[40];
	int n, out = 0;

	if (isnan(v))
		return "-";
	n = snprintf(digits, sizeof digits, "%.0f", v);
	if (n > 15)
		return size_human(cell, CELL, v);
	for (int i = 0; i < n; i++) {
		if (i > 0 && (n - i) % 3 == 0 && digits[i - 1] != '-')
			cell[out++] = ',';
		cell[out++] = digits[i];
	}
	cell[out] = '\0';
	return cell;
}

static const char *bytes_text(char *cell, double v)
{
	return isnan(v) ? "-" : size_human(cell, CELL, v);
}

static const char *percent_text(char *cell, double part, double whole)
{
	if (isnan(part) || isnan(whole) || whole <= 0)
		return "-";
	snprintf(cell, CELL, "%.2f %%", 100 * part / whole);
	return cell;
}

static double number(const struct stats *s, const char *name)
{
	double v;

	return stats_number(s, name, &v) ? v : (double)NAN;
}

/* Growth of a counter a second between the samples. */
static double rate(const struct stats *now, const struct stats *before, const char *name,
		   double secs)
{
	double a = number(before, name), b = number(now, name);

	if (isnan(a) || isnan(b) || secs <= 0)
		return (double)NAN;
	return b > a ? (b - a) / secs : 0;
}

static void bar(char *out, unsigned width, double part)
{
	unsigned full = isnan(part) || part < 0 ? 0
			: part > 1              ? width
						: (unsigned)(part * width + .5);

	memset(out, '#', full);
	memset(out + full, '.', width - full);
	out[width] = '\0';
}

static void title(struct screen *s, const char *server, const struct sample *now)
{
	const char *version = stats_text(&now->general, "version");
	double up = number(&now->general, "uptime");
	char text[200], clock[16];
	time_t t = time(NULL);
	struct tm tm;
	int used;

	strftime(clock, sizeof clock, "%H:%M:%S", localtime_r(&t, &tm));
	used =
	    snprintf(text, sizeof text, " %s  version %s", server, version != NULL ? version : "-");
	if (!isnan(up) && used < (int)sizeof text) {
		unsigned long u = (unsigned long)up;

		snprintf(text + used, sizeof text - (size_t)used, "  up %lud %02lu:%02lu:%02lu",
			 u / 86400, u / 3600 % 24, u / 60 % 60, u % 60);
	}
	screen_line(s, SCREEN_BAR, "%-60s  %s  q quits ", text, clock);
}

static void traffic(struct screen *s, const struct sample *now, const struct sample *before,
		    double secs)
{
	static const struct {
		const char *label, *name;
		bool bytes;
	} rows[] = {
	    {"gets", "cmd_get", false},
	    {"  hits", "get_hits", false},
	    {"  misses", "get_misses", false},
	    {"sets", "cmd_set", false},
	    {"deletes", "delete_hits", false},
	    {"bytes in", "bytes_read", true},
	    {"bytes out", "bytes_written", true},
	    {"disk reads", "disk_reads", false},
	    {"disk written", "disk_write_bytes", true},
	    {"conflicts", "immutable_conflicts", false},
	};
	const struct stats *g = &now->general, *b = &before->general;
	double up = number(g, "uptime"), hits, misses;
	char a[CELL], c[CELL], d[CELL], picture[41];

	screen_line(s, SCREEN_BOLD, "%-12s %14s %14s %20s", "traffic", "now/s", "mean/s", "total");
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const char *(*text)(char *, double) = rows[i].bytes ? bytes_text : count_text;
		double total = number(g, rows[i].name);

		screen_line(s, SCREEN_PLAIN, "%-12s %14s %14s %20s", rows[i].label,
			    text(a, rate(g, b, rows[i].name, secs)),
			    text(c, up > 0 ? total / up : (double)NAN), text(d, total));
	}
	hits = rate(g, b, "get_hits", secs);
	misses = rate(g, b, "get_misses", secs);
	bar(picture, 40, hits / (hits + misses));
	screen_line(
	    s, SCREEN_PLAIN, "%-12s %14s %14s  [%s]", "hit ratio",
	    percent_text(a, hits, hits + misses),
	    percent_text(c, number(g, "get_hits"), number(g, "get_hits") + number(g, "get_misses")),
	    picture);
}

static void server_line(struct screen *s, const struct sample *now, const struct sample *before,
			double secs)
{
	const struct stats *g = &now->general, *b = &before->general;
	double cpu = rate(g, b, "rusage_user", secs) + rate(g, b, "rusage_system", secs);
	const char *engine = stats_text(g, "io_engine");
	char a[CELL], c[CELL], d[CELL], e[CELL], f[CELL], h[CELL];

	screen_line(
	    s, SCREEN_PLAIN, "%-12s %s of %s, %s refused    threads %s    cpu %s    engine %s",
	    "clients", count_text(a, number(g, "curr_connections")),
	    count_text(c, number(g, "max_connections")),
	    count_text(d, number(g, "rejected_connections")), count_text(e, number(g, "threads")),
	    percent_text(f, cpu, 1), engine != NULL ? engine : "-");
	screen_line(s, SCREEN_PLAIN, "%-12s %s, %s bytes of %s    evictions/s %s", "items",
		    count_text(a, number(g, "curr_items")), bytes_text(c, number(g, "bytes")),
		    bytes_text(d, number(g, "limit_maxbytes")),
		    count_text(h, rate(g, b, "evictions", secs)));
}

static void latency(struct screen *s, const struct sample *now, const struct sample *before,
		    double secs)
{
	static const struct {
		const char *label, *op;
	} rows[] = {
	    {"get from RAM", "get_ram"},
	    {"get from disk", "get_disk"},
	    {"miss", "miss"},
	    {"set", "set"},
	};
	static const char *const fields[] = {"p50_us", "p90_us", "p99_us", "p99.9_us", "max_us"};

	screen_line(s, SCREEN_BOLD, "%-14s %12s %9s %9s %9s %9s %9s", "latency (us)", "now/s",
		    "p50", "p90", "p99", "p99.9", "max");
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char name[40], c[CELL];
		const char *v[5];

		for (size_t j = 0; j < 5; j++) {
			snprintf(name, sizeof name, "%s:%s", rows[i].op, fields[j]);
			v[j] = stats_text(&now->latency, name);
			if (v[j] == NULL)
				v[j] = "-";
		}
		snprintf(name, sizeof name, "%s:count", rows[i].op);
		screen_line(s, SCREEN_PLAIN, "%-14s %12s %9s %9s %9s %9s %9s", rows[i].label,
			    count_text(c, rate(&now->latency, &before->latency, name, secs)), v[0],
			    v[1], v[2], v[3], v[4]);
	}
}

/* A value as people read it: bytes with a unit, counts with commas, the rest as it is. */
static const char *value_text(char *cell, const struct stat_line *l)
{
	size_t n = strlen(l->name), digits = strspn(l->value, "0123456789");
	double v;

	if (l->value[digits] != '\0' || digits == 0 || sscanf(l->value, "%lf", &v) != 1)
		return l->value;
	return n > 5 && strcmp(l->name + n - 5, "bytes") == 0 ? bytes_text(cell, v)
							      : count_text(cell, v);
}

static void pool(struct screen *s, const char *label, double used, double limit,
		 const char *(*text)(char *, double))
{
	char a[CELL], c[CELL], picture[41];

	bar(picture, 40, used / limit);
	screen_line(s, SCREEN_PLAIN, "%-12s [%s] %s of %s", label, picture, text(a, used),
		    text(c, limit));
}

/* Segments of all paths that hold values. */
static double segments_used(const struct stats *st)
{
	double sum = (double)NAN;

	for (unsigned i = 0;; i++) {
		char name[40];
		double all, clean, never;

		snprintf(name, sizeof name, "path%u_segments", i);
		all = number(st, name);
		snprintf(name, sizeof name, "path%u_segments_clean", i);
		clean = number(st, name);
		snprintf(name, sizeof name, "path%u_segments_unused", i);
		never = number(st, name);
		if (isnan(all) || isnan(clean) || isnan(never))
			return sum;
		sum = (isnan(sum) ? 0 : sum) + all - clean - never;
	}
}

/* What is used of what has a limit. */
static void pools(struct screen *s, const struct sample *now)
{
	const struct stats *st = &now->store;

	screen_line(s, SCREEN_BOLD, "pools");
	pool(s, "RAM tier", number(st, "ram_resident_bytes"), number(st, "ram_limit_bytes"),
	     bytes_text);
	pool(s, "in flight", number(st, "ram_pinned_bytes"), number(st, "buffers_bytes"),
	     bytes_text);
	pool(s, "index", number(st, "index_items"), number(st, "index_capacity"), count_text);
	pool(s, "segments", segments_used(st), number(st, "segments"), count_text);
}

/* The lines of group first, as many pairs in each as fit. What traffic() shows is left out. */
static void group(struct screen *s, const struct sample *now, unsigned first)
{
	const struct stats *st = &now->store;
	size_t n = stats_group(st, first);
	int used, indent;
	char line[512];

	indent = snprintf(line, sizeof line, "%-12.*s", n > 0 ? (int)n : 5,
			  n > 0 ? st->line[first].name : "store");
	used = indent;
	for (unsigned j = first; j < st->n; j++) {
		const struct stat_line *l = &st->line[j];
		char pair[200], cell[CELL];
		int len;

		if (!stats_same_group(st, first, j) || stats_text(&now->general, l->name) != NULL)
			continue;
		len = snprintf(pair, sizeof pair, " %s %s ", l->name + (n > 0 ? n + 1 : 0),
			       value_text(cell, l));
		if (len >= (int)sizeof pair)
			len = (int)sizeof pair - 1;
		if (used > indent &&
		    (used + len > (int)s->cols || used + len >= (int)sizeof line)) {
			screen_line(s, SCREEN_PLAIN, "%s", line);
			used = snprintf(line, sizeof line, "%-*s", indent, "");
		}
		used += snprintf(line + used, sizeof line - (size_t)used, "%s", pair);
	}
	if (used > indent)
		screen_line(s, SCREEN_PLAIN, "%s", line);
}

static void store(struct screen *s, const struct sample *now)
{
	screen_line(s, SCREEN_BOLD, "store");
	if (now->store.n == 0)
		screen_line(s, SCREEN_PLAIN, "-");
	for (unsigned i = 0; i < now->store.n; i++)
		if (stats_group_begins(&now->store, i))
			group(s, now, i);
}

void view_draw(struct screen *s, const char *server, const struct sample *now,
	       const struct sample *before, const char *problem)
{
	double secs = before->ns != 0 ? (double)(now->ns - before->ns) / 1e9 : 0;

	title(s, server, now);
	screen_line(s, problem != NULL ? SCREEN_BOLD : SCREEN_PLAIN, "%s%s",
		    problem != NULL ? problem : "", problem != NULL ? "; trying again" : "");
	traffic(s, now, before, secs);
	server_line(s, now, before, secs);
	screen_line(s, SCREEN_PLAIN, "%s", "");
	latency(s, now, before, secs);
	screen_line(s, SCREEN_PLAIN, "%s", "");
	pools(s, now);
	screen_line(s, SCREEN_PLAIN, "%s", "");
	store(s, now);
}
