/* SPDX-License-Identifier: Apache-2.0 */
/* One answer to a stats command: names and values in the server's order. One thread. */
#ifndef VALCACHECTL_STATS_H
#define VALCACHECTL_STATS_H

#include <stdbool.h>

#include "tools/valcachectl/conn.h"

struct stat_line {
	char *name, *value;
};

struct stats {
	struct stat_line *line;
	unsigned n;
	char refused[200]; /* the server's words if it does not know this one, else empty */
};

/*
 * Asks for `stats WHAT` (what may be NULL). 0, also if the server refuses (s->refused says so, s->n
 * is 0), or -errno of the connection; s is empty then. stats_free() in every case.
 */
int stats_fetch(struct conn *c, const char *what, struct stats *s);
void stats_free(struct stats *s);

/* NULL if there is no such line. */
const char *stats_text(const struct stats *s, const char *name);
/* False if there is no such line, or no number in it. */
bool stats_number(const struct stats *s, const char *name, double *value);

/*
 * Groups by the first word of the names: the length of the word of line i, or 0 if fewer than three
 * names share it, which are then in the group of no name.
 */
size_t stats_group(const struct stats *s, unsigned i);
bool stats_same_group(const struct stats *s, unsigned i, unsigned j);
/* Is line i the first of its group? */
bool stats_group_begins(const struct stats *s, unsigned i);

#endif
