/* SPDX-License-Identifier: Apache-2.0 */
/* Says who we are to a server that wants to know (-Y of memcached and valcached). One thread. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/valcachectl/ctl.h"

#define LINE_MAX_BYTES 600

static int say(char **cause, int rc, const char *what, const char *why)
{
	if (asprintf(cause, "%s: %s", what, why) < 0)
		*cause = NULL;
	return rc;
}

/* The first line USER:PASSWORD of the file as "USER PASSWORD". */
static int read_login(const char *file, char *line, char **cause)
{
	FILE *f = fopen(file, "re");
	char *colon;

	if (f == NULL)
		return say(cause, -errno, file, strerror(errno));
	do
		line[0] = '\0';
	while (fgets(line, LINE_MAX_BYTES, f) != NULL && line[strspn(line, "\r\n")] == '\0');
	fclose(f);
	line[strcspn(line, "\r\n")] = '\0';
	colon = strchr(line, ':');
	if (colon == NULL)
		return say(cause, -EINVAL, file, "a line USER:PASSWORD is wanted");
	*colon = ' ';
	return 0;
}

static int login(const struct ctl *ctl, struct conn *c, char **cause)
{
	char line[LINE_MAX_BYTES], text[LINE_MAX_BYTES + 64];
	int rc = read_login(ctl->auth_file, line, cause), n;

	if (rc != 0)
		return rc;
	n = snprintf(text, sizeof text, "set login 0 0 %zu\r\n%s\r\n", strlen(line), line);
	rc = conn_send(c, text, (size_t)n);
	if (rc == 0)
		rc = conn_line(c, text, sizeof text);
	explicit_bzero(line, sizeof line);
	if (rc < 0)
		return say(cause, rc, ctl->server, conn_error(rc));
	if (strcmp(text, "STORED") != 0)
		return say(cause, -EACCES, ctl->server, ctl_refusal(ctl, text));
	return 0;
}

const char *ctl_refusal(const struct ctl *ctl, const char *line)
{
	/* to who has not logged in; a set is taken for a login */
	static const char *const words[] = {"CLIENT_ERROR unauthenticated",
					    "CLIENT_ERROR authentication failure",
					    "CLIENT_ERROR bad authentication token format"};

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (strcmp(line, words[i]) == 0)
			return ctl->auth_file == NULL
				   ? "the server wants to know who we are: name a file with -Y whose "
				     "first line is USER:PASSWORD"
				   : "the server does not take the first line USER:PASSWORD of -Y's file";
	return line;
}

int ctl_open(const struct ctl *ctl, struct conn *c, char **cause)
{
	int rc = conn_open(c, ctl->server, ctl->timeout_ms, cause);

	if (rc != 0 || ctl->auth_file == NULL)
		return rc;
	rc = login(ctl, c, cause);
	if (rc != 0)
		conn_close(c);
	return rc;
}
