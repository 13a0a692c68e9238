/* SPDX-License-Identifier: Apache-2.0 */
/* A blocking connection with time-outs; see conn.h. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/valcachectl/conn.h"

static int say(char **cause, int error, const char *server, const char *text)
{
	if (asprintf(cause, "%s: %s", server, text) < 0)
		*cause = NULL;
	return error;
}

/* Splits HOST[:PORT] or [IPV6][:PORT] in place. */
static int split(char *text, char **host, const char **port)
{
	char *close = NULL, *colon;

	*host = text;
	*port = "11211";
	if (*text == '[') {
		close = strchr(text, ']');
		if (close == NULL || (close[1] != '\0' && close[1] != ':'))
			return -EINVAL;
		*host = text + 1;
		*close = '\0';
		colon = close[1] == ':' ? close + 1 : NULL;
	} else {
		colon = strchr(text, ':');
		if (colon != NULL && strchr(colon + 1, ':') != NULL)
			colon = NULL; /* an IPv6 address and no port */
	}
	if (colon != NULL) {
		*colon = '\0';
		*port = colon + 1;
	}
	return **host == '\0' || **port == '\0' ? -EINVAL : 0;
}

static int connect_within(int fd, const struct sockaddr *addr, socklen_t len, int timeout_ms)
{
	struct timeval tv = {timeout_ms / 1000, (timeout_ms % 1000) * 1000};

	/* connect() obeys the send time-out and then says EINPROGRESS */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) < 0)
		return -errno;
	if (connect(fd, addr, len) < 0)
		return errno == EINPROGRESS || errno == EAGAIN ? -ETIMEDOUT : -errno;
	return 0;
}

static int open_unix(struct conn *c, const char *path, int timeout_ms)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int ret;

	if (strlen(path) >= sizeof addr.sun_path)
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, strlen(path) + 1);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	ret = connect_within(c->fd, (struct sockaddr *)&addr, sizeof addr, timeout_ms);
	if (ret != 0)
		conn_close(c);
	return ret;
}

int conn_open(struct conn *c, const char *server, int timeout_ms, char **cause)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	char text[300], *host;
	const char *port;
	int ret, one = 1;

	c->fd = -1;
	c->at = c->end = 0;
	c->answered = false;
	c->local = strchr(server, '/') != NULL;
	*cause = NULL;
	if (c->local) {
		ret = open_unix(c, server, timeout_ms);
		return ret == 0 ? 0 : say(cause, ret, server, conn_error(ret));
	}
	if (strlen(server) >= sizeof text)
		return say(cause, -EINVAL, server, "the name is too long");
	memcpy(text, server, strlen(server) + 1);
	if (split(text, &host, &port) != 0)
		return say(cause, -EINVAL, server,
			   "HOST, HOST:PORT, [IPV6]:PORT or the path of a unix socket is wanted");
	ret = getaddrinfo(host, port, &hints, &list);
	if (ret != 0)
		return say(cause, -EINVAL, server, gai_strerror(ret));
	ret = -EHOSTUNREACH;
	for (struct addrinfo *a = list; a != NULL; a = a->ai_next) {
		c->fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
		if (c->fd < 0) {
			ret = -errno;
			continue;
		}
		ret = connect_within(c->fd, a->ai_addr, a->ai_addrlen, timeout_ms);
		if (ret == 0) {
			/* harmless if refused: only slower */
			setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
			break;
		}
		conn_close(c);
	}
	freeaddrinfo(list);
	return ret == 0 ? 0 : say(cause, ret, server, conn_error(ret));
}

void conn_close(struct conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->at = c->end = 0;
}

/* What it means that the server closed. */
static int closed(const struct conn *c)
{
	return c->answered ? -ECONNRESET : c->local ? -ESHUTDOWN : -ENODATA;
}

int conn_send(struct conn *c, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = send(c->fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EPIPE || errno == ECONNRESET ? closed(c)
			       : errno == EAGAIN                     ? -ETIMEDOUT
								     : -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Receives more behind what is there; the caller made room. */
static int fill(struct conn *c)
{
	for (;;) {
		ssize_t n = recv(c->fd, c->in + c->end, sizeof c->in - c->end, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN       ? -ETIMEDOUT
			       : errno == ECONNRESET ? closed(c)
						     : -errno;
		if (n == 0)
			return closed(c);
		c->end += (size_t)n;
		return 0;
	}
}

int conn_line(struct conn *c, char *line, size_t size)
{
	size_t seen = 0;
	int ret;

	for (;;) {
		char *start = c->in + c->at, *nl = NULL;

		if (c->end > c->at + seen)
			nl = memchr(start + seen, '\n', c->end - c->at - seen);
		if (nl != NULL) {
			size_t len = (size_t)(nl - start);

			c->at += len + 1;
			if (len > 0 && start[len - 1] == '\r')
				len--;
			if (len >= size)
				return -EPROTO;
			memcpy(line, start, len);
			line[len] = '\0';
			c->answered = true;
			return (int)len;
		}
		seen = c->end - c->at;
		if (seen >= size)
			return -EPROTO;
		if (c->at > 0) {
			memmove(c->in, start, seen);
			c->at = 0;
			c->end = seen;
		}
		if (c->end == sizeof c->in)
			return -EPROTO;
		ret = fill(c);
		if (ret != 0)
			return ret;
	}
}

int conn_some(struct conn *c, const char **data, size_t max)
{
	size_t n;

	if (c->at == c->end) {
		int ret;

		c->at = c->end = 0;
		ret = fill(c);
		if (ret != 0)
			return ret;
	}
	n = c->end - c->at < max ? c->end - c->at : max;
	*data = c->in + c->at;
	c->at += n;
	return (int)n;
}

int conn_crlf(struct conn *c)
{
	const char *p = "";

	for (int i = 0; i < 2; i++) {
		int n = conn_some(c, &p, 1);

		if (n < 0)
			return n;
		if (*p != "\r\n"[i])
			return -EPROTO;
	}
	return 0;
}

const char *conn_error(int error)
{
	switch (error) {
	case -ETIMEDOUT:
		return "no answer in time";
	case -ECONNRESET:
		return "the server closed the connection";
	case -ENODATA:
		return "the server closed the connection without an answer: it may want TLS (-Z; then "
		       "ask at its unix socket or an address of -l notls:) or SASL (-S; then start it "
		       "with -Y, too), neither of which valcachectl speaks";
	case -ESHUTDOWN:
		return "the server closed the connection without an answer: its --unix-allow may not "
		       "list this user, or it wants SASL (-S; then start it with -Y, too), which "
		       "valcachectl does not speak";
	case -EPROTO:
		return "the server sent what memcached's text protocol does not allow";
	default:
		return strerror(-error);
	}
}
