/* SPDX-License-Identifier: Apache-2.0 */
/* Reading `stats`; see stats.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/valcachectl/stats.h"

#define LINES_MAX 100000u /* an answer without end is not an answer */

static int add(struct stats *s, const char *name, const char *value)
{
	struct stat_line *grown;

	if (s->n >= LINES_MAX)
		return -EPROTO;
	grown = reallocarray(s->line, s->n + 1, sizeof *grown);
	if (grown == NULL)
		return -ENOMEM;
	s->line = grown;
	grown[s->n].name = strdup(name);
	grown[s->n].value = strdup(value);
	if (grown[s->n].name == NULL || grown[s->n].value == NULL) {
		free(grown[s->n].name);
		free(grown[s->n].value);
		return -ENOMEM;
	}
	s->n++;
	return 0;
}

int stats_fetch(struct conn *c, const char *what, struct stats *s)
{
	char line[4096];
	int ret;

	memset(s, 0, sizeof *s);
	ret = snprintf(line, sizeof line, "stats%s%s\r\n", what != NULL ? " " : "",
		       what != NULL ? what : "");
	if (ret >= (int)sizeof line)
		return -EINVAL;
	ret = conn_send(c, line, (size_t)ret);
	while (ret == 0) {
		char *name, *value;

		ret = conn_line(c, line, sizeof line);
		if (ret < 0)
			break;
		if (strcmp(line, "END") == 0 || strcmp(line, "RESET") == 0)
			return 0;
		if (strncmp(line, "STAT ", 5) != 0) {
			if (s->n > 0) {
				stats_free(s);
				return -EPROTO;
			}
			snprintf(s->refused, sizeof s->refused, "%.*s", (int)sizeof s->refused - 1,
				 line);
			return 0;
		}
		name = line + 5;
		value = strchr(name, ' ');
		if (value != NULL)
			*value++ = '\0';
		ret = add(s, name, value != NULL ? value : "");
	}
	stats_free(s);
	return ret;
}

void stats_free(struct stats *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		free(s->line[i].name);
		free(s->line[i].value);
	}
	free(s->line);
	s->line = NULL;
	s->n = 0;
}

const char *stats_text(const struct stats *s, const char *name)
{
	for (unsigned i = 0; i < s->n; i++)
		if (strcmp(s->line[i].name, name) == 0)
			return s->line[i].value;
	return NULL;
}

bool stats_number(const struct stats *s, const char *name, double *value)
{
	const char *text = stats_text(s, name);
	char *end;
	double v;

	if (text == NULL)
		return false;
	v = strtod(text, &end);
	if (end == text || *end != '\0')
		return false;
	*value = v;
	return true;
}

static size_t word(const char *name)
{
	size_t n = strcspn(name, "_");

	return name[n] == '_' ? n : 0;
}

size_t stats_group(const struct stats *s, unsigned i)
{
	size_t n = word(s->line[i].name);
	unsigned shared = 0;

	for (unsigned j = 0; j < s->n && n > 0; j++)
		if (word(s->line[j].name) == n && memcmp(s->line[j].name, s->line[i].name, n) == 0)
			shared++;
	return shared >= 3 ? n : 0;
}

bool stats_same_group(const struct stats *s, unsigned i, unsigned j)
{
	size_t n = stats_group(s, i);

	return n == stats_group(s, j) && memcmp(s->line[i].name, s->line[j].name, n) == 0;
}

bool stats_group_begins(const struct stats *s, unsigned i)
{
	for (unsigned j = 0; j < i; j++)
		if (stats_same_group(s, i, j))
			return false;
	return true;
}
