/* SPDX-License-Identifier: Apache-2.0 */
/* Names to sockets; see mc_dial.h. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ocache/mc_dial.h"
#include "ocache/thread.h"

#define PORT_MAX 12u

/* 0: the descriptor is ready. -ETIMEDOUT, -ECANCELED. */
static int wait_for(const struct mc_dial *d, int fd, short events, uint64_t end)
{
	while (!d->stop(d->ctx)) {
		struct pollfd p[2] = {{.fd = d->wake, .events = POLLIN},
				      {.fd = fd, .events = events}};
		uint64_t now = clock_ns(), n;
		struct timespec ts = thread_timespec((int64_t)(end > now ? end - now : 0));

		if (ppoll(p, 2, &ts, NULL) > 0) {
			if (p[0].revents != 0)
				(void)!read(d->wake, &n,
					    sizeof n); /* it says no more than "look" */
			if (p[1].revents != 0)
				return 0;
		} else if (clock_ns() >= end) {
			return -ETIMEDOUT;
		}
	}
	return -ECANCELED;
}

/* ---- names --------------------------------------------------------------------------- */

/* Shared by who asks and the thread that looks; the last of them frees it. */
struct lookup {
	_Atomic unsigned users;
	int ready; /* eventfd: err and all are set */
	_Atomic bool done;
	int err;
	struct addrinfo *all;
	char port[PORT_MAX];
	char host[];
};

static void lookup_drop(struct lookup *l)
{
	if (atomic_fetch_sub_explicit(&l->users, 1, memory_order_acq_rel) > 1)
		return;
	if (l->all != NULL)
		freeaddrinfo(l->all);
	close(l->ready);
	free(l);
}

static void *lookup_run(void *arg)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct lookup *l = arg;
	uint64_t one = 1;

	l->err = getaddrinfo(l->host, l->port, &hints, &l->all);
	atomic_store_explicit(&l->done, true, memory_order_release);
	AZ(write(l->ready, &one, sizeof one) != (ssize_t)sizeof one);
	lookup_drop(l);
	return NULL;
}

static struct lookup *lookup_new(const struct mc_dial *d)
{
	size_t len = strlen(d->host) + 1;
	struct lookup *l = calloc(1, sizeof *l + len);

	if (l == NULL)
		return NULL;
	l->users = 1;
	l->ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	memcpy(l->host, d->host, len);
	snprintf(l->port, sizeof l->port, "%u", d->port);
	if (l->ready >= 0)
		return l;
	free(l);
	return NULL;
}

/* The host's addresses, in *lookup, which is the caller's. 0 or -errno. */
static int look_up(const struct mc_dial *d, uint64_t end, struct lookup **lookup)
{
	const struct addrinfo digits = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
	struct lookup *l = lookup_new(d);
	pthread_t thread;
	int err;

	*lookup = l;
	if (l == NULL)
		return -ENOMEM;
	if (getaddrinfo(l->host, l->port, &digits, &l->all) == 0)
		return 0;
	l->all = NULL;
	l->users = 2;
	err = thread_start(&thread, "lookup", lookup_run, l);
	if (err != 0) {
		l->users = 1;
		return err;
	}
	AZ(pthread_detach(thread));
	err = wait_for(d, l->ready, POLLIN, end);
	if (err != 0)
		return err;
	A(atomic_load_explicit(&l->done, memory_order_acquire));
	return l->err != 0 ? -EHOSTUNREACH : 0;
}

/* ---- sockets ------------------------------------------------------------------------- */

static int connect_to(const struct mc_dial *d, const struct sockaddr *to, socklen_t len,
		      uint64_t end)
{
	int fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
	int err = 0;
	socklen_t n = sizeof err;

	if (fd < 0)
		return -errno;
	if (to->sa_family != AF_UNIX)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (connect(fd, to, len) != 0) {
		err = errno;
		if (err == EINPROGRESS) {
			err = -wait_for(d, fd, POLLOUT, end);
			if (err == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n) != 0)
				err = errno;
		}
	}
	if (err == 0)
		return fd;
	close(fd);
	/* a unix socket whose backlog is full, or that is not there */
	return err == EAGAIN || err == ENOENT ? -ECONNREFUSED : -err;
}

static int connect_unix(const struct mc_dial *d, uint64_t end)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	size_t len = strlen(d->host) + 1;

	if (len > sizeof un.sun_path)
		return -ENAMETOOLONG;
	memcpy(un.sun_path, d->host, len);
	return connect_to(d, (const struct sockaddr *)&un, sizeof un, end);
}

int mc_dial(const struct mc_dial *d, uint64_t end)
{
	struct lookup *l;
	unsigned left = 0;
	int fd;

	if (d->port == 0)
		return connect_unix(d, end);
	fd = look_up(d, end, &l);
	if (fd == 0) {
		fd = -EHOSTUNREACH;
		for (const struct addrinfo *a = l->all; a != NULL; a = a->ai_next)
			left++;
		/* one that does not answer leaves time for the others */
		for (const struct addrinfo *a = l->all; a != NULL && fd < 0; a = a->ai_next) {
			uint64_t now = clock_ns();

			fd = connect_to(d, a->ai_addr, a->ai_addrlen,
					now < end ? now + (end - now) / left-- : end);
		}
	}
	if (l != NULL)
		lookup_drop(l);
	return fd;
}
