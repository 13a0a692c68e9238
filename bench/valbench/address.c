/* SPDX-License-Identifier: Apache-2.0 */
/* Resolving and connecting; see address.h. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench/valbench/address.h"

static int parse_unix(struct address *a, const char *path, char **cause)
{
	struct sockaddr_un *un = (struct sockaddr_un *)(void *)&a->sa;

	if (strlen(path) >= sizeof un->sun_path) {
		if (asprintf(cause, "socket path too long: %s", path) < 0)
			*cause = NULL;
		return -EINVAL;
	}
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, strlen(path) + 1);
	a->len = sizeof *un;
	return 0;
}

int address_parse(struct address *a, const char *text, char **cause)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC}, *found;
	const char *colon = strrchr(text, ':');
	char host[256];
	size_t len;
	int rc;

	*cause = NULL;
	memset(a, 0, sizeof *a);
	if (strchr(text, '/') != NULL || colon == NULL)
		return parse_unix(a, text, cause);
	len = (size_t)(colon - text);
	if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
		text++;
		len -= 2;
	}
	if (len == 0 || len >= sizeof host) {
		if (asprintf(cause, "bad server address: %s", text) < 0)
			*cause = NULL;
		return -EINVAL;
	}
	memcpy(host, text, len);
	host[len] = '\0';
	rc = getaddrinfo(host, colon + 1, &hints, &found);
	if (rc != 0) {
		if (asprintf(cause, "cannot resolve %s: %s", host, gai_strerror(rc)) < 0)
			*cause = NULL;
		return -EINVAL;
	}
	memcpy(&a->sa, found->ai_addr, found->ai_addrlen);
	a->len = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

int address_connect(const struct address *a)
{
	int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, rc;

	if (fd < 0)
		return -errno;
	do
		rc = connect(fd, (const struct sockaddr *)&a->sa, a->len);
	while (rc < 0 && errno == EINTR);
	if (rc < 0)
		goto fail;
	if (a->sa.ss_family != AF_UNIX &&
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0)
		goto fail;
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		goto fail;
	return fd;
fail:
	rc = -errno;
	close(fd);
	return rc;
}
