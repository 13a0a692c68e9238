/* SPDX-License-Identifier: Apache-2.0 */
/* Private to valcachectl: what the commands share. One thread. */
#ifndef VALCACHECTL_CTL_H
#define VALCACHECTL_CTL_H

#include "tools/valcachectl/conn.h"

struct ctl {
	const char *server;
	const char *auth_file; /* NULL: the server does not ask who we are */
	int timeout_ms;
};

/*
 * A command gets the words behind its name and returns the exit status: 0 done, 1 the answer is no
 * (not there, not stored), 2 bad usage, 3 the server cannot be reached or answered nonsense.
 */
#define CTL_OK     0
#define CTL_NO     1
#define CTL_USAGE  2
#define CTL_SERVER 3

int ctl_ping(const struct ctl *ctl, int argc, char **argv);
int ctl_stats(const struct ctl *ctl, int argc, char **argv);
int ctl_get(const struct ctl *ctl, int argc, char **argv);
int ctl_put(const struct ctl *ctl, int argc, char **argv);
int ctl_del(const struct ctl *ctl, int argc, char **argv);
int ctl_top(const struct ctl *ctl, int argc, char **argv);
int ctl_path(const struct ctl *ctl, int argc, char **argv);

/* login.c: conn_open(), and a login if there is a file for it. */
int ctl_open(const struct ctl *ctl, struct conn *c, char **cause);
/* A line of the server's that says no, for people: what to do, where that is known. */
const char *ctl_refusal(const struct ctl *ctl, const char *line);
/* Connects or says why not; false then. */
struct conn *ctl_connect(const struct ctl *ctl);
void ctl_disconnect(struct conn **c);

/* "valcachectl: text" on stderr; returns status. */
int ctl_fail(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Is this a key memcached takes? Says what is wrong if not. */
int ctl_check_key(const char *key);

#endif
