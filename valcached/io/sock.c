/* SPDX-License-Identifier: Apache-2.0 */
/* What is done to a kernel's socket at once; see struct io_sock_ops. Any thread. */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <string.h>
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

void io_real_finish(struct io *io, int fd, bool local)
{
	(void)io;
	/*
	 * A unix socket that is closed with unread bytes takes what it sent from the other end's hands:
	 * it is shut both ways, and once read to its end nothing can be unread. TCP would reset on what
	 * comes to a socket that is shut. Fails only where the other end is gone already.
	 */
	shutdown(fd, local ? SHUT_RDWR : SHUT_WR);
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

bool io_real_peer(struct io *io, int fd, struct io_peer *p)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct sockaddr_storage ss = {0};
	const struct sockaddr_in *in4 = (const void *)&ss;
	const struct sockaddr_in6 *in6 = (const void *)&ss;
	struct ucred cred;
	socklen_t len = sizeof ss;

	(void)io;
	*p = (struct io_peer){0};
	if (getpeername(fd, (struct sockaddr *)&ss, &len) != 0)
		return false;
	switch (ss.ss_family) {
	case AF_INET:
		memcpy(p->addr, mapped, sizeof mapped);
		memcpy(p->addr + sizeof mapped, &in4->sin_addr, 4);
		return true;
	case AF_INET6:
		memcpy(p->addr, &in6->sin6_addr, sizeof p->addr);
		return true;
	default:
		len = sizeof cred;
		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
			return false;
		p->local = true;
		p->uid = cred.uid;
		p->pid = (uint32_t)cred.pid;
		return true;
	}
}

const struct io_sock_ops io_real_sock = {
    .say = io_real_say,
    .finish = io_real_finish,
    .close = io_real_close,
    .unread = io_real_unread,
    .unsent = io_real_unsent,
    .progress = io_real_progress,
    .peer = io_real_peer,
};
