/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stats command. Most answers are printed as aligned pairs; `stats store` grouped by the first
 * word of its names, `stats latency` as a table. -r prints what the server sent. One thread.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/valcachectl/ctl.h"
#include "tools/valcachectl/stats.h"

static void print_raw(const struct stats *s)
{
	for (unsigned i = 0; i < s->n; i++)
		printf("%s %s\n", s->line[i].name, s->line[i].value);
}

static int widest(const struct stats *s)
{
	int w = 0;

	for (unsigned i = 0; i < s->n; i++) {
		int n = (int)strlen(s->line[i].name);

		w = n > w ? n : w;
	}
	return w;
}

static void print_pairs(const struct stats *s)
{
	int w = widest(s);

	for (unsigned i = 0; i < s->n; i++)
		printf("%-*s  %s\n", w, s->line[i].name, s->line[i].value);
}

static void print_group(const struct stats *s, unsigned first, int width)
{
	size_t n = stats_group(s, first);

	if (n > 0)
		printf("%.*s\n", (int)n, s->line[first].name);
	else
		puts("general");
	for (unsigned j = first; j < s->n; j++)
		if (stats_same_group(s, first, j))
			printf("  %-*s  %s\n", width, s->line[j].name + (n > 0 ? n + 1 : 0),
			       s->line[j].value);
}

/* Each group where its first line stands, with all of its names below. */
static void print_groups(const struct stats *s)
{
	int w = widest(s);

	for (unsigned i = 0; i < s->n; i++) {
		if (!stats_group_begins(s, i))
			continue;
		if (i > 0)
			putchar('\n');
		print_group(s, i, w);
	}
}

/* Lines are OP:FIELD; a row an operation and a column a field, both in the server's order. */
static void print_latency(const struct stats *s)
{
	const char *columns[16];
	unsigned n = 0;

	for (unsigned i = 0; i < s->n; i++) {
		const char *field = strchr(s->line[i].name, ':');
		bool seen = false;

		if (field == NULL) {
			print_pairs(s);
			return;
		}
		for (unsigned j = 0; j < n; j++)
			seen = seen || strcmp(columns[j], field + 1) == 0;
		if (!seen && n < sizeof columns / sizeof columns[0])
			columns[n++] = field + 1;
	}
	printf("%-10s", "");
	for (unsigned j = 0; j < n; j++)
		printf(" %12s", columns[j]);
	putchar('\n');
	for (unsigned i = 0; i < s->n; i++) {
		const char *name = s->line[i].name;
		int op = (int)strcspn(name, ":");
		bool first = true;

		for (unsigned j = 0; j < i && first; j++)
			first = strncmp(s->line[j].name, name, (size_t)op + 1) != 0;
		if (!first)
			continue;
		printf("%-10.*s", op, name);
		for (unsigned j = 0; j < n; j++) {
			char cell[200];
			const char *value;

			snprintf(cell, sizeof cell, "%.*s:%s", op, name, columns[j]);
			value = stats_text(s, cell);
			printf(" %12s", value != NULL ? value : "-");
		}
		putchar('\n');
	}
}

int ctl_stats(const struct ctl *ctl, int argc, char **argv)
{
	bool raw = false;
	int status = CTL_OK, f;
	struct conn *c;

	while ((f = getopt(argc, argv, "+r")) != -1) {
		if (f != 'r')
			return CTL_USAGE;
		raw = true;
	}
	for (int i = optind; i < argc; i++)
		if (ctl_check_key(argv[i]) != 0)
			return CTL_USAGE;
	c = ctl_connect(ctl);
	if (c == NULL)
		return CTL_SERVER;
	for (int i = optind; i < argc || i == optind; i++) {
		const char *what = i < argc ? argv[i] : NULL;
		struct stats s;
		int ret = stats_fetch(c, what, &s);

		if (ret != 0) {
			status = ctl_fail(CTL_SERVER, "%s: %s", ctl->server, conn_error(ret));
			break;
		}
		if (argc - optind > 1)
			printf("%s--- %s\n", i > optind ? "\n" : "", what);
		if (s.refused[0] != '\0')
			status = ctl_fail(CTL_NO, "stats%s%s: %s", what != NULL ? " " : "",
					  what != NULL ? what : "", ctl_refusal(ctl, s.refused));
		else if (raw)
			print_raw(&s);
		else if (what != NULL && strcmp(what, "store") == 0)
			print_groups(&s);
		else if (what != NULL && strcmp(what, "latency") == 0)
			print_latency(&s);
		else
			print_pairs(&s);
		stats_free(&s);
	}
	ctl_disconnect(&c);
	return status;
}
