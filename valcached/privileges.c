/* SPDX-License-Identifier: Apache-2.0 */
/* Giving up what is not needed to serve; see privileges.h. */
#include "valcached/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "valcached/io/io.h"
#include "valcached/net/net.h"
#include "valcached/sandbox/sandbox.h"
#include "valcached/store/store.h"

#define HELD "no capabilities, no new privileges, listed system calls only"

/* A layer is refused: the start ends, or goes on without it and says so. */
static int without(struct privileges *p, char *cause, int rc)
{
	if (cause == NULL)
		cause = strdup(strerror(-rc));
	if (p->opt->sandbox == OPTIONS_SANDBOX_ON) {
		log_error("--sandbox=on: %s; --sandbox=auto goes on without",
			  cause != NULL ? cause : strerror(-rc));
		free(cause);
		return -1;
	}
	log_warn("sandbox: %s; going on without", cause != NULL ? cause : strerror(-rc));
	if (p->missing == NULL)
		p->missing = cause;
	else
		free(cause);
	return 0;
}

static int find_user(struct privileges *p)
{
	const char *name = p->opt->user;
	const struct passwd *pw;

	if (name == NULL)
		return 0;
	if (geteuid() != 0) {
		log_info("-u %s is not needed: not started as root", name);
		return 0;
	}
	errno = 0;
	pw = getpwnam(name);
	if (pw == NULL) {
		log_error("there is no user \"%s\"; make it with `adduser --system %s`, or give -u "
			  "another",
			  name, name);
		return -1;
	}
	p->changes_user = true;
	p->uid = pw->pw_uid;
	p->gid = pw->pw_gid;
	return 0;
}

int privileges_find(struct privileges *p, const struct options *opt)
{
	const char *unfit = sandbox_unfit();

	p->opt = opt;
	if (find_user(p) != 0)
		return -1;
	p->boxed = opt->sandbox != OPTIONS_SANDBOX_OFF && unfit == NULL;
	if (opt->sandbox != OPTIONS_SANDBOX_OFF && unfit != NULL)
		return without(p, strdup(unfit), -ENOTSUP);
	return 0;
}

int privileges_be_user(const struct privileges *p)
{
	return initgroups(p->opt->user, p->gid) == 0 && setgid(p->gid) == 0 && setuid(p->uid) == 0
		   ? 0
		   : -errno;
}

/* Becomes -u's user, who is given the files that were made or opened. */
static int become_user(const struct privileges *p, struct net *net, struct store *store)
{
	const char *name = p->opt->user, *what = p->opt->unix_path;
	int rc;

	if (!p->changes_user)
		return 0;
	rc = net_give(net, p->uid, p->gid);
	if (rc == 0)
		rc = store_give(store, p->uid, p->gid, &what);
	if (rc != 0) {
		log_error(
		    "cannot make %s belong to user \"%s\": %s; do it by hand, or start as that user",
		    what, name, strerror(-rc));
		return -1;
	}
	rc = privileges_be_user(p);
	if (rc != 0) {
		log_error("cannot become user \"%s\": %s", name, strerror(-rc));
		return -1;
	}
	log_info("running as user %s", name);
	return 0;
}

/* Of the calling thread. */
static int drop(struct privileges *p)
{
	char *cause = NULL;
	int rc = p->boxed ? sandbox_drop(&cause) : 0;

	return rc != 0 ? without(p, cause, rc) : 0;
}

int privileges_lower(struct privileges *p, const struct io_engine *engine, struct net *net,
		     struct store *store)
{
	char *cause = NULL;
	int rc = p->boxed ? sandbox_begin(&cause) : 0;

	p->uring = engine == &io_uring_engine;
	if (rc != 0 && without(p, cause, rc) != 0)
		return -1;
	if (become_user(p, net, store) != 0)
		return -1;
	/* the other engine's loops make threads when they are opened, and need no capability */
	return p->uring ? 0 : drop(p);
}

/*
 * Not before a thread has its ring: one that is made with CAP_IPC_LOCK registers memory without regard to the
 * locked-memory limit, and containers that give the capability need not allow to raise the limit.
 */
void privileges_of_thread(void *privileges)
{
	struct privileges *p = privileges;
	int rc = p->boxed ? sandbox_drop(NULL) : 0;

	if (rc != 0)
		atomic_store(&p->thread_error, rc);
}

int privileges_shut(struct privileges *p)
{
	const struct sandbox_config cfg = {
	    .uring = p->uring,
	    .notify = getenv("NOTIFY_SOCKET") != NULL,
	};
	char *cause = NULL;
	int rc = atomic_load(&p->thread_error);

	if (!p->boxed)
		return 0;
	if ((rc != 0 && without(p, NULL, rc) != 0) || drop(p) != 0)
		return -1;
	rc = sandbox_shut(&cfg, &cause);
	if (rc != 0 && without(p, cause, rc) != 0)
		return -1;
	if (p->missing == NULL)
		log_info("sandbox: " HELD);
	return 0;
}

void privileges_free(struct privileges *p)
{
	free(p->missing);
	p->missing = NULL;
}

const char *privileges_state(const struct privileges *p)
{
	return !p->boxed ? "off" : p->missing == NULL ? "on" : "partly";
}

const char *privileges_reason(const struct privileges *p)
{
	return p->missing != NULL ? p->missing : p->boxed ? HELD : "it was not asked for";
}
