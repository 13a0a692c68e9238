/* SPDX-License-Identifier: Apache-2.0 */
/* Where the server is, and a blocking connect to it. Any thread after address_parse(). */
#ifndef VALBENCH_ADDRESS_H
#define VALBENCH_ADDRESS_H

#include <sys/socket.h>

struct address {
	struct sockaddr_storage sa;
	socklen_t len;
};

/* "host:port", "[v6]:port" or the path of a unix socket. 0 or -EINVAL with *cause set. */
int address_parse(struct address *a, const char *text, char **cause);
/* A connected, non-blocking, close-on-exec descriptor without Nagle's delay, or -errno. */
int address_connect(const struct address *a);

#endif
