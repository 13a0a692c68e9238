/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rights of the unix socket. Its file has mode, owner and group before anybody can connect. A list of users
 * narrows that down: the kernel says who connected (SO_PEERCRED: the effective user of the process at that
 * moment; a descriptor that is handed on keeps the name of who opened it), and others are hung up on.
 *
 * Names are looked up once, at start, on the main thread; read-only from then on.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/size.h"
#include "valcached/net/net_int.h"

#define NAME_MAX_BYTES 256u

static int unknown(char **cause, const char *flag, const char *what, const char *name)
{
	if (asprintf(cause, "%s: there is no %s \"%s\"; give a name of this host, or a number",
		     flag, what, name) < 0)
		*cause = NULL;
	return -EINVAL;
}

/* Digits are a number even if there is no such user: ids of containers have no names here. */
static bool read_number(const char *name, uint32_t *id)
{
	uint64_t n;

	if (size_parse_number(name, &n) != 0 || n >= UINT32_MAX)
		return false;
	*id = (uint32_t)n;
	return true;
}

static bool read_user(const char *name, uid_t *uid)
{
	const struct passwd *pw;

	if (read_number(name, uid))
		return true;
	pw = getpwnam(name);
	if (pw == NULL)
		return false;
	*uid = pw->pw_uid;
	return true;
}

static bool read_group(const char *name, gid_t *gid)
{
	const struct group *gr;

	if (read_number(name, gid))
		return true;
	gr = getgrnam(name);
	if (gr == NULL)
		return false;
	*gid = gr->gr_gid;
	return true;
}

static int read_list(struct rights *r, const char *text, char **cause)
{
	char name[NAME_MAX_BYTES];

	r->listed = true;
	for (;;) {
		size_t len;
		uid_t *more;

		text += strspn(text, " ");
		len = strcspn(text, ",");
		snprintf(name, sizeof name, "%.*s", (int)len, text);
		more = reallocarray(r->allow, r->allow_n + 1, sizeof *more);
		if (more == NULL)
			return -ENOMEM;
		r->allow = more;
		if (len == 0 || len >= sizeof name || !read_user(name, &r->allow[r->allow_n]))
			return unknown(cause, "--unix-allow", "user", name);
		r->allow_n++;
		text += len;
		if (*text == '\0')
			return 0;
		text++;
	}
}

int rights__read(struct net *net, char **cause)
{
	const struct net_config *cfg = &net->cfg;
	struct rights *r = &net->rights;

	*r = (struct rights){.uid = (uid_t)-1, .gid = (gid_t)-1};
	if (cfg->unix_owner != NULL && !read_user(cfg->unix_owner, &r->uid))
		return unknown(cause, "--unix-owner", "user", cfg->unix_owner);
	if (cfg->unix_group != NULL && !read_group(cfg->unix_group, &r->gid))
		return unknown(cause, "--unix-group", "group", cfg->unix_group);
	return cfg->unix_allow != NULL ? read_list(r, cfg->unix_allow, cause) : 0;
}

int rights__give(const struct net *net, char **cause)
{
	const struct rights *r = &net->rights;
	int err;

	if (r->uid == (uid_t)-1 && r->gid == (gid_t)-1)
		return 0;
	if (lchown(net->cfg.unix_path, r->uid, r->gid) == 0)
		return 0;
	err = errno;
	if (asprintf(
		cause,
		"cannot give %s the owner and group that --unix-owner and --unix-group ask for: %s; "
		"start as root, or name a group that the daemon's user is in",
		net->cfg.unix_path, strerror(err)) < 0)
		*cause = NULL;
	return -err;
}

static bool listed(const struct rights *r, uid_t uid)
{
	for (unsigned i = 0; i < r->allow_n; i++)
		if (r->allow[i] == uid)
			return true;
	return false;
}

bool rights__admit(struct worker *w, const struct listener *l, int fd)
{
	static struct log_limit limit;
	const struct rights *r = &w->net->rights;
	struct io_peer peer;

	if (!r->listed || l->port != 0)
		return true;
	if (io_sock_peer(w->io, fd, &peer) && peer.local && listed(r, peer.uid))
		return true;
	count_add(&w->count.rejected_peers, 1);
	log_limited(
	    &limit, LOG_WARN,
	    "hung up on a process of user %u (process %u) on %s: --unix-allow does not list it",
	    peer.uid, peer.pid, l->where);
	return false;
}

void rights__free(struct net *net)
{
	free(net->rights.allow);
	net->rights.allow = NULL;
	net->rights.allow_n = 0;
}
