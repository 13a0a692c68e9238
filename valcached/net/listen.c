/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listening sockets: made at start on the main thread, each failure one sentence for the operator.
 *
 * Accepted TCP sockets inherit TCP_NODELAY, SO_KEEPALIVE and TCP_NOTSENT_LOWAT from the listener, so
 * accepting a connection costs no further call.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/cause.h"
#include "base/clock.h"
#include "base/log.h"
#include "valcached/net/net_int.h"

#define BIND_WAIT_NS (5 * NS_PER_S)
/*
 * What the kernel keeps for a client that takes nothing, beyond what is under way. Without a limit it is
 * megabytes each, and a few hundred such clients bring the whole host to its limit of TCP memory
 * (net.ipv4.tcp_mem): then everybody's windows shrink.
 */
#define UNSENT_MAX (128 * 1024)

/* Who holds an inode of a socket: walks /proc like ss does. Start-up only. */
static bool find_holder(unsigned long inode, char *who, size_t room)
{
	char want[64], path[300], link[64], comm[32] = "?";
	DIR *proc = opendir("/proc"), *fds;
	struct dirent *p, *f;
	bool found = false;
	FILE *file;
	ssize_t n;

	if (proc == NULL)
		return false;
	snprintf(want, sizeof want, "socket:[%lu]", inode);
	while (!found && (p = readdir(proc)) != NULL) {
		if (p->d_name[0] < '0' || p->d_name[0] > '9')
			continue;
		snprintf(path, sizeof path, "/proc/%.16s/fd", p->d_name);
		fds = opendir(path);
		if (fds == NULL)
			continue;
		while (!found && (f = readdir(fds)) != NULL) {
			snprintf(path, sizeof path, "/proc/%.16s/fd/%.16s", p->d_name, f->d_name);
			n = readlink(path, link, sizeof link - 1);
			if (n <= 0)
				continue;
			link[n] = '\0';
			found = strcmp(link, want) == 0;
		}
		closedir(fds);
		if (!found)
			continue;
		snprintf(path, sizeof path, "/proc/%.16s/comm", p->d_name);
		file = fopen(path, "re");
		if (file != NULL) {
			if (fgets(comm, sizeof comm, file) != NULL)
				comm[strcspn(comm, "\n")] = '\0';
			fclose(file);
		}
		snprintf(who, room, "by %s (process %.16s)", comm, p->d_name);
	}
	closedir(proc);
	return found;
}

/* The process that listens on a TCP port, as "by NAME (process N)"; false: it cannot be found. */
static bool port_holder(unsigned port, char *who, size_t room)
{
	static const char *const tables[] = {"/proc/net/tcp", "/proc/net/tcp6"};
	bool found = false;
	char line[512];

	snprintf(who, room, "by another process");
	for (unsigned i = 0; i < 2 && !found; i++) {
		FILE *file = fopen(tables[i], "re");

		if (file == NULL)
			continue;
		while (!found && fgets(line, sizeof line, file) != NULL) {
			unsigned local, state;
			unsigned long inode;

			if (sscanf(line, " %*u: %*[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %*s %*s %lu",
				   &local, &state, &inode) == 3 &&
			    local == port && state == 0x0a)
				found = find_holder(inode, who, room);
		}
		fclose(file);
	}
	return found;
}

/* Is it one of our own, given before, or one that stands for every address of the host? */
static bool have_already(const struct net *net, const char *where, unsigned port)
{
	for (unsigned i = 0; i < net->listener_n; i++) {
		const char *w = net->listener[i].where;

		if (strcmp(w, where) == 0 || (net->listener[i].port == port &&
					      (where[0] == '*' || strncmp(w, "0.0.0.0:", 8) == 0 ||
					       strncmp(w, "[::]:", 5) == 0)))
			return true;
	}
	return false;
}

static int listen_failed(const struct net *net, char **cause, int err, const char *where,
			 unsigned port)
{
	char who[128];

	switch (err) {
	case EADDRINUSE:
		if (have_already(net, where, port))
			return cause_fail(
			    cause, -err,
			    "cannot listen on %s twice: give -l each address once, and * alone",
			    where);
		port_holder(port, who, sizeof who);
		return cause_fail(
		    cause, -err,
		    "cannot listen on %s: the port is taken %s; stop it, or choose another port with "
		    "-p or -l",
		    where, who);
	case EADDRNOTAVAIL:
		return cause_fail(
		    cause, -err,
		    "cannot listen on %s: this host has no such address; see `ip address` and give -l "
		    "one of them",
		    where);
	case EACCES:
		return cause_fail(
		    cause, -err,
		    "cannot listen on %s: ports below %s are for root; choose a higher one with -p, or "
		    "grant CAP_NET_BIND_SERVICE",
		    where, "net.ipv4.ip_unprivileged_port_start");
	case EAFNOSUPPORT:
		return cause_fail(
		    cause, -err,
		    "cannot listen on %s: this kernel has no such address family; leave this address "
		    "out of -l",
		    where);
	default:
		return cause_fail(cause, -err, "cannot listen on %s: %s", where, strerror(err));
	}
}

static int add(struct net *net, int fd, const char *where, uint16_t port)
{
	struct listener *l, *more;

	more = realloc(net->listener, (net->listener_n + 1) * sizeof *more);
	if (more == NULL)
		return -ENOMEM;
	net->listener = more;
	l = &more[net->listener_n++];
	*l = (struct listener){.fd = fd, .net = net, .port = port};
	snprintf(l->where, sizeof l->where, "%s", where);
	return 0;
}

static int bind_now(const struct addrinfo *ai, unsigned backlog)
{
	int fd, on = 1, unsent = UNSENT_MAX, err;

	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
	if (ai->ai_family == AF_INET6) /* so that 0.0.0.0 and :: can both be given */
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, (int)backlog) == 0)
		return fd;
	err = errno;
	close(fd);
	return -err;
}

/*
 * The ring of a process that was killed keeps its listener for tens of milliseconds: a port that is
 * taken by no living process is worth waiting for.
 */
static int bind_one(const struct addrinfo *ai, unsigned backlog)
{
	unsigned port =
	    ntohs(ai->ai_family == AF_INET6
		      ? ((const struct sockaddr_in6 *)(const void *)ai->ai_addr)->sin6_port
		      : ((const struct sockaddr_in *)(const void *)ai->ai_addr)->sin_port);
	uint64_t begin = clock_ns();
	char who[128];
	int fd;

	for (;;) {
		fd = bind_now(ai, backlog);
		if (fd != -EADDRINUSE || clock_ns() - begin > BIND_WAIT_NS ||
		    port_holder(port, who, sizeof who))
			return fd;
		usleep(20000);
	}
}

static void name_socket(int fd, char *where, size_t room, uint16_t *port)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof ss;
	char host[INET6_ADDRSTRLEN] = "?";

	*port = 0;
	getsockname(fd, (struct sockaddr *)&ss, &len);
	if (ss.ss_family == AF_INET6) {
		const struct sockaddr_in6 *a = (const void *)&ss;

		inet_ntop(AF_INET6, &a->sin6_addr, host, sizeof host);
		*port = ntohs(a->sin6_port);
		snprintf(where, room, "[%s]:%u", host, *port);
	} else {
		const struct sockaddr_in *a = (const void *)&ss;

		inet_ntop(AF_INET, &a->sin_addr, host, sizeof host);
		/* getsockname() has filled it, which the analyzer does not know */
		*port = ntohs(a->sin_port); /* NOLINT(clang-analyzer-core.CallAndMessage) */
		snprintf(where, room, "%s:%u", host, *port);
	}
}

/* Listens on every address the name stands for. */
static int listen_tcp(struct net *net, const struct net_addr *addr, char **cause)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC,
				 .ai_socktype = SOCK_STREAM,
				 .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	struct addrinfo *list, *ai;
	bool any = strcmp(addr->host, "*") == 0;
	char service[8], where[300], bound[64];
	unsigned made = 0;
	uint16_t port;
	int rc, fd;

	snprintf(service, sizeof service, "%u", addr->port);
	rc = getaddrinfo(any ? NULL : addr->host, service, &hints, &list);
	if (rc != 0)
		return cause_fail(cause, -EINVAL,
				  "cannot listen on \"%s\": %s; give -l an address of this host",
				  addr->host, gai_strerror(rc));
	rc = 0;
	for (ai = list; ai != NULL; ai = ai->ai_next) {
		snprintf(where, sizeof where, strchr(addr->host, ':') ? "[%s]:%u" : "%s:%u",
			 addr->host, addr->port);
		fd = bind_one(ai, net->cfg.backlog);
		/* a host without IPv6 still serves "*" and "localhost" */
		if ((fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL) &&
		    (made > 0 || ai->ai_next != NULL))
			continue;
		if (fd < 0) {
			rc = listen_failed(net, cause, -fd, where, addr->port);
			break;
		}
		name_socket(fd, bound, sizeof bound, &port);
		rc = add(net, fd, bound, port);
		if (rc == 0)
			net->listener[net->listener_n - 1].tls = net->tls != NULL && !addr->plain;
		if (rc != 0) {
			close(fd);
			break;
		}
		made++;
		log_info("listening on %s%s", bound,
			 net->listener[net->listener_n - 1].tls ? " with TLS" : "");
	}
	freeaddrinfo(list);
	return rc;
}

/* Whether the process that listens at the other end is there still. */
static bool listener_lives(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof cred;
	char path[64], at[1];

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0 || cred.pid == 0)
		return true;
	snprintf(path, sizeof path, "/proc/%d/exe", (int)cred.pid);
	return readlink(path, at, sizeof at) >= 0 || errno != ENOENT;
}

/*
 * 0: a process answers there; ECONNREFUSED: nobody does, ENOENT: it is gone; -errno: that cannot be asked.
 * As with ports, the ring of a process that was killed answers for a moment longer: bind_one().
 */
static int ask(const struct sockaddr_un *sun)
{
	uint64_t begin = clock_ns();

	for (;;) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err = 0;
		bool sure;

		if (fd < 0)
			return -errno;
		if (connect(fd, (const struct sockaddr *)sun, sizeof *sun) != 0)
			err = errno;
		/* EAGAIN: too many wait there already, whoever it is */
		sure = err == 0 ? listener_lives(fd) : err != EAGAIN;
		close(fd);
		if (sure || clock_ns() - begin > BIND_WAIT_NS)
			return err;
		usleep(20000);
	}
}

/*
 * A socket file that nobody answers on is a leftover of a process that died: replace it. One that
 * somebody answers on, or a file of another kind, stays.
 */
static int clear_stale(const char *path, const struct sockaddr_un *sun, char **cause)
{
	struct stat st;
	int err;

	if (lstat(path, &st) != 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return cause_fail(
		    cause, -EEXIST,
		    "cannot listen on %s: it exists and is no socket; remove it, or choose another path "
		    "with -s",
		    path);
	err = ask(sun);
	if (err == ENOENT)
		return 0;
	if (err < 0)
		return cause_fail(cause, err, "cannot make a unix socket: %s", strerror(-err));
	if (err != ECONNREFUSED)
		return cause_fail(
		    cause, -EADDRINUSE,
		    "cannot listen on %s: another process answers there; stop it, or choose another "
		    "path with -s",
		    path);
	if (unlink(path) != 0)
		return cause_fail(
		    cause, -errno,
		    "cannot replace %s, left by a process that died: %s; remove it by hand", path,
		    strerror(errno));
	log_info("replaced %s, which nobody answered on", path);
	return 0;
}

static int listen_unix(struct net *net, char **cause)
{
	const char *path = net->cfg.unix_path;
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct stat st;
	int fd, rc;

	if (strlen(path) >= sizeof sun.sun_path)
		return cause_fail(
		    cause, -ENAMETOOLONG,
		    "cannot listen on %s: a socket path has at most %zu bytes; choose a shorter one with "
		    "-s",
		    path, sizeof sun.sun_path - 1);
	strcpy(sun.sun_path, path);
	rc = rights__read(net, cause);
	if (rc != 0)
		return rc;
	rc = clear_stale(path, &sun, cause);
	if (rc != 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return cause_fail(cause, -errno, "cannot make a unix socket: %s", strerror(errno));
	/* fchmod() of an unbound socket does not reach the file: no wider mode even for a moment */
	mode_t old = umask(0777 & ~(mode_t)net->cfg.unix_mode);

	rc = bind(fd, (const struct sockaddr *)&sun, sizeof sun) == 0 ? 0 : errno;
	umask(old);
	if (rc != 0) {
		close(fd);
		return cause_fail(cause, -rc,
				  "cannot listen on %s: %s; choose another path with -s", path,
				  rc == ENOENT   ? "its folder does not exist"
				  : rc == EACCES ? "its folder is not writable"
						 : strerror(rc));
	}
	net->unix_made = true;
	if (lstat(path, &st) == 0)
		net->unix_dev = st.st_dev, net->unix_ino = st.st_ino;
	rc = rights__give(net, cause);
	if (rc != 0) {
		close(fd);
		return rc;
	}
	if (listen(fd, (int)net->cfg.backlog) != 0 || add(net, fd, path, 0) != 0) {
		rc = errno;
		close(fd);
		return cause_fail(cause, -rc, "cannot listen on %s: %s", path, strerror(rc));
	}
	log_info("listening on %s, mode %04o", path, net->cfg.unix_mode);
	return 0;
}

int net__listen(struct net *net, char **cause)
{
	int rc = 0;

	for (unsigned i = 0; i < net->cfg.addr_n && rc == 0; i++)
		rc = listen_tcp(net, &net->cfg.addr[i], cause);
	if (rc == 0 && net->cfg.unix_path != NULL)
		rc = listen_unix(net, cause);
	return rc;
}

int net_give(const struct net *net, uid_t user, gid_t group)
{
	MAGIC_OK(net, NET_MAGIC);
	/* -1 leaves it as it is */
	if (!net->unix_made ||
	    lchown(net->cfg.unix_path, net->rights.uid == (uid_t)-1 ? user : (uid_t)-1,
		   net->rights.gid == (gid_t)-1 ? group : (gid_t)-1) == 0)
		return 0;
	return -errno;
}

void net__unlisten(struct net *net)
{
	struct stat st;

	for (unsigned i = 0; i < net->listener_n; i++)
		if (net->listener[i].fd >= 0)
			close(net->listener[i].fd);
	free(net->listener);
	net->listener = NULL;
	net->listener_n = 0;
	/* only our own file: another process may have taken the path over */
	if (net->unix_made && lstat(net->cfg.unix_path, &st) == 0 && st.st_dev == net->unix_dev &&
	    st.st_ino == net->unix_ino)
		unlink(net->cfg.unix_path);
	net->unix_made = false;
	rights__free(net);
}
