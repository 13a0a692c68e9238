/* SPDX-License-Identifier: Apache-2.0 */
/* A connection with growing buffers both ways; see model.h. One thread each. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "tests/model/model.h"

#define ANSWER_MS 20000

bool conn_open(struct conn *c)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)config.port)};
	int one = 1;

	memset(c, 0, sizeof(*c));
	AN(inet_pton(AF_INET, config.host, &to.sin_addr));
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return false;
	if (connect(c->fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
		close(c->fd);
		c->fd = -1;
		return false;
	}
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return true;
}

void conn_close(struct conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	free(c->out);
	free(c->in);
	memset(c, 0, sizeof(*c));
	c->fd = -1;
}

static void reserve(uint8_t **buf, size_t *cap, size_t want)
{
	if (want <= *cap)
		return;
	*cap = want < 65536 ? 65536 : want + want / 2;
	*buf = realloc(*buf, *cap);
	AN(*buf);
}

void conn_put(struct conn *c, const void *bytes, size_t n)
{
	reserve(&c->out, &c->out_cap, c->out_n + n);
	if (n > 0)
		memcpy(c->out + c->out_n, bytes, n);
	c->out_n += n;
}

void conn_printf(struct conn *c, const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	A(n >= 0 && (size_t)n < sizeof(line));
	conn_put(c, line, (size_t)n);
}

/* Takes in what has come. False: end or error. */
static bool take(struct conn *c)
{
	ssize_t n;

	if (c->in_at == c->in_n)
		c->in_at = c->in_n = 0;
	else if (c->in_at > 1 << 20) {
		memmove(c->in, c->in + c->in_at, c->in_n - c->in_at);
		c->in_n -= c->in_at;
		c->in_at = 0;
	}
	reserve(&c->in, &c->in_cap, c->in_n + 65536);
	do
		n = recv(c->fd, c->in + c->in_n, c->in_cap - c->in_n, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	c->in_n += (size_t)n;
	return true;
}

bool conn_send(struct conn *c)
{
	size_t sent = 0;

	while (sent < c->out_n) {
		struct pollfd p = {.fd = c->fd, .events = POLLIN | POLLOUT};
		ssize_t n;
		int r = poll(&p, 1, ANSWER_MS);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		if ((p.revents & POLLIN) && !take(c))
			return false;
		if (!(p.revents & (POLLOUT | POLLERR | POLLHUP)))
			continue;
		n = send(c->fd, c->out + sent, c->out_n - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		sent += n > 0 ? (size_t)n : 0;
	}
	c->out_n = 0;
	return true;
}

static bool wait_more(struct conn *c)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};
	int r;

	do
		r = poll(&p, 1, ANSWER_MS);
	while (r < 0 && errno == EINTR);
	return r > 0 && take(c);
}

char *conn_line(struct conn *c)
{
	size_t seen = 0;

	for (;;) {
		uint8_t *from = c->in + c->in_at, *end = NULL;

		if (c->in_n - c->in_at > seen)
			end = memchr(from + seen, '\n', c->in_n - c->in_at - seen);
		if (end != NULL) {
			c->in_at += (size_t)(end - from) + 1;
			if (end == from || end[-1] != '\r')
				return NULL;
			end[-1] = '\0';
			return (char *)from;
		}
		seen = c->in_n - c->in_at;
		if (!wait_more(c))
			return NULL;
	}
}

const uint8_t *conn_block(struct conn *c, size_t n)
{
	const uint8_t *at;

	while (c->in_n - c->in_at < n + 2)
		if (!wait_more(c))
			return NULL;
	at = c->in + c->in_at;
	c->in_at += n + 2;
	return at[n] == '\r' && at[n + 1] == '\n' ? at : NULL;
}
