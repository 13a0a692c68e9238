/* SPDX-License-Identifier: Apache-2.0 */
/* The path command: what `stats store` says of each path, and `path online N`. One thread. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/valcachectl/ctl.h"
#include "tools/valcachectl/stats.h"

static const char *field(const struct stats *s, unsigned path, const char *what)
{
	char name[64];
	const char *v;

	snprintf(name, sizeof name, "path%u_%s", path, what);
	v = stats_text(s, name);
	return v != NULL ? v : "-";
}

/* CTL_NO if one is not online, so that a script can ask. */
static int list(const struct ctl *ctl, struct conn *c)
{
	struct stats s;
	int r = stats_fetch(c, "store", &s), status = CTL_OK;
	unsigned n = 0;

	if (r < 0)
		return ctl_fail(CTL_SERVER, "%s: %s", ctl->server, conn_error(r));
	if (ctl_refusal(ctl, s.refused) != s.refused)
		return ctl_fail(CTL_NO, "%s", ctl_refusal(ctl, s.refused));
	if (s.refused[0] != '\0' || strcmp(field(&s, 0, "file"), "-") == 0) {
		stats_free(&s);
		return ctl_fail(CTL_NO, "this server has no paths");
	}
	printf("%4s  %-9s  %11s  %12s  %8s  %s\n", "path", "state", "read errors", "write errors",
	       "segments", "file");
	for (; strcmp(field(&s, n, "file"), "-") != 0; n++) {
		const char *state = field(&s, n, "state");

		printf("%4u  %-9s  %11s  %12s  %8s  %s\n", n, state, field(&s, n, "read_errors"),
		       field(&s, n, "write_errors"), field(&s, n, "segments"),
		       field(&s, n, "file"));
		if (strcmp(state, "online") != 0) {
			printf("      %s\n", field(&s, n, "reason"));
			status = CTL_NO;
		}
	}
	stats_free(&s);
	return status;
}

static int online(const struct ctl *ctl, struct conn *c, const char *number)
{
	char line[512], *end;
	unsigned long n;
	int r;

	errno = 0;
	n = strtoul(number, &end, 10);
	if (end == number || *end != '\0' || errno != 0 || n > 1000)
		return ctl_fail(CTL_USAGE, "%s is not the number of a path", number);
	snprintf(line, sizeof line, "path online %lu\r\n", n);
	r = conn_send(c, line, strlen(line));
	if (r >= 0)
		r = conn_line(c, line, sizeof line);
	if (r < 0)
		return ctl_fail(CTL_SERVER, "%s: %s", ctl->server, conn_error(r));
	if (strncmp(line, "OK ", 3) != 0) {
		const char *why = ctl_refusal(ctl, line), *word = strstr(why, "_ERROR ");

		return ctl_fail(CTL_NO, "%s", word != NULL ? word + 7 : why);
	}
	printf("path %lu: %s\n", n, line + 3);
	return CTL_OK;
}

int ctl_path(const struct ctl *ctl, int argc, char **argv)
{
	struct conn *c;
	int status;

	if (argc != 1 && (argc != 3 || strcmp(argv[1], "online") != 0))
		return ctl_fail(CTL_USAGE, "usage: path [online N]");
	c = ctl_connect(ctl);
	if (c == NULL)
		return CTL_SERVER;
	status = argc == 1 ? list(ctl, c) : online(ctl, c, argv[2]);
	ctl_disconnect(&c);
	return status;
}
