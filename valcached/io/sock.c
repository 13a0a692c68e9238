/* SPDX-License-Identifier: Apache-2.0 */
/* What is done to a kernel's socket at once; see struct io_sock_ops. Any thread. */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "valcached/io/io_int.h"

bool io_real_say(struct io *io, int fd, const void *bytes, size_t n)
{
	(void)io;
	return send(fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n;
}

void io_real_finish(struct io *io, int fd)
{
	(void)io;
	shutdown(fd, SHUT_WR); /* fails only where the other end is gone already */
}

void io_real_close(struct io *io, int fd)
{
	(void)io;
	close(fd);
}

uint32_t io_real_unread(struct io *io, int fd)
{
	int n = 0;

	(void)io;
	return ioctl(fd, SIOCINQ, &n) == 0 && n > 0 ? (uint32_t)n : 0;
}

uint32_t io_real_unsent(struct io *io, int fd)
{
	int n = 0;

	(void)io;
	return ioctl(fd, SIOCOUTQ, &n) == 0 && n > 0 ? (uint32_t)n : 0;
}

/*
 * Of TCP what was acknowledged and received; of a unix socket what it has not yet taken or we not yet
 * read.
 */
uint64_t io_real_progress(struct io *io, int fd)
{
	struct tcp_info ti = {0};
	socklen_t len = sizeof ti;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) == 0)
		return ti.tcpi_bytes_acked + ti.tcpi_bytes_received;
	return (uint64_t)io_real_unsent(io, fd) << 32 | io_real_unread(io, fd);
}

const struct io_sock_ops io_real_sock = {
    .say = io_real_say,
    .finish = io_real_finish,
    .close = io_real_close,
    .unread = io_real_unread,
    .unsent = io_real_unsent,
    .progress = io_real_progress,
};
