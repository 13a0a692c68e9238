/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of the libevent engine: who waits for which, and the system calls that move bytes. The io's
 * thread. A struct sock is there from the first operation on its descriptor until io_sock_close(), or
 * until the last accept on it is over.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "valcached/io/libevent_int.h"

#define ACCEPT_FLAGS (SOCK_NONBLOCK | SOCK_CLOEXEC)
#define SEND_FLAGS   (MSG_NOSIGNAL | MSG_DONTWAIT)
/* Sockets looked at in one turn, and connections accepted at once; the rest comes next turn. */
#define TURN_MAX   64u
#define ACCEPT_MAX 16u
/* While files are read, sends go so many bytes a turn: who asks meanwhile is served before the rest. */
#define SEND_SHARE (48u << 10)

/* ---- sockets ---------------------------------------------------------------------------------- */

static struct sock *find(const struct lev *l, int fd)
{
	return fd >= 0 && (unsigned)fd < l->sock_n ? l->sock[fd] : NULL;
}

static void set_ready(struct sock *s)
{
	struct link *head = &s->lev->ready;

	if (s->ready)
		return;
	s->ready = true;
	s->link.next = head;
	s->link.prev = head->prev;
	head->prev->next = &s->link;
	head->prev = &s->link;
}

static void unset_ready(struct sock *s)
{
	s->ready = false;
	s->link.next->prev = s->link.prev;
	s->link.prev->next = s->link.next;
}

static void can_read(evutil_socket_t fd, short what, void *arg)
{
	struct sock *s = arg;

	(void)fd;
	(void)what;
	s->more = true;
	if (s->recv.head != NULL) {
		set_ready(s);
		return;
	}
	event_del(&s->rd); /* [LEV-2] */
	s->rd_known = false;
}

static struct sock *sock_new(struct lev *l, int fd)
{
	struct sock *s;

	if ((unsigned)fd >= l->sock_n) {
		unsigned n = l->sock_n * 2 > (unsigned)fd ? l->sock_n * 2 : (unsigned)fd + 64;
		struct sock **more = realloc(l->sock, n * sizeof(struct sock *));

		if (more == NULL)
			return NULL;
		memset(more + l->sock_n, 0, (n - l->sock_n) * sizeof(struct sock *));
		l->sock = more;
		l->sock_n = n;
	}
	s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	s->lev = l;
	s->fd = fd;
	op_list_init(&s->recv);
	op_list_init(&s->send);
	AZ(event_assign(&s->rd, l->base, fd, EV_READ | EV_PERSIST, can_read, s));
	return l->sock[fd] = s;
}

static void sock_free(struct sock *s)
{
	A(s->recv.head == NULL && s->send.head == NULL);
	if (s->ready)
		unset_ready(s);
	if (s->rd_known)
		event_del(&s->rd);
	if (s->wr != NULL)
		event_free(s->wr);
	s->lev->sock[s->fd] = NULL;
	free(s);
}

/* Of a listener nothing stays: it is closed by its owner. */
static void accept_over(struct sock *s)
{
	if (s->recv.head == NULL && s->send.head == NULL)
		sock_free(s);
}

void lev_net_free(struct lev *l)
{
	for (unsigned fd = 0; fd < l->sock_n; fd++)
		if (l->sock[fd] != NULL)
			sock_free(l->sock[fd]);
	free(l->sock);
}

static void close_sock(struct io *io, int fd)
{
	struct sock *s = find(lev_of(io), fd);

	if (s != NULL)
		sock_free(s);
	io_real_close(io, fd);
}

/* ---- sending ---------------------------------------------------------------------------------- */

/* What the kernel said. True: the op is over, and its result is in local; false: it waits for its socket. */
static bool sent(struct lev *l, struct io_op *op, ssize_t r)
{
	if (unlikely(r < 0)) {
		if (r == -EAGAIN)
			return false;
		op_local(&l->local, op, (int32_t)r);
		return true;
	}
	op->u.net.did += (uint32_t)r;
	A(op->u.net.did <= op->u.net.len);
	if (likely(op->u.net.did == op->u.net.len)) {
		op_local(&l->local, op, (int32_t)op->u.net.did);
		return true;
	}
	io_count(&l->io.count.short_sends, 1);
	io_iov_advance(&op->u.net.msg, (size_t)r);
	return false;
}

static bool try_send(struct lev *l, struct io_op *op)
{
	const struct msghdr *msg = &op->u.net.msg;
	ssize_t r;

	do
		r = msg->msg_iovlen == 1 ? send(op->u.net.fd, msg->msg_iov->iov_base,
						msg->msg_iov->iov_len, SEND_FLAGS)
					 : sendmsg(op->u.net.fd, msg, SEND_FLAGS);
	while (r < 0 && errno == EINTR);
	return sent(l, op, r < 0 ? -errno : r);
}

static void can_write(evutil_socket_t fd, short what, void *arg)
{
	struct sock *s = arg;
	struct io_op *op;

	(void)fd;
	(void)what;
	if (s->send.head == NULL) { /* [LEV-2] */
		event_del(s->wr);
		s->wr_known = false;
		return;
	}
	while ((op = op_list_pop(&s->send)) != NULL)
		if (!try_send(s->lev, op)) {
			op->next = s->send.head;
			if (s->send.head == NULL)
				s->send.tail = &op->next;
			s->send.head = op;
			return;
		}
}

/* The op waits until its socket takes bytes. 0 or -errno. */
static int wait_writable(struct lev *l, struct sock *s, struct io_op *op)
{
	if (s == NULL && (s = sock_new(l, op->u.net.fd)) == NULL)
		return -ENOMEM;
	if (s->wr == NULL)
		s->wr = event_new(l->base, s->fd, EV_WRITE | EV_PERSIST, can_write, s);
	if (s->wr == NULL || (!s->wr_known && event_add(s->wr, NULL) < 0))
		return -ENOMEM;
	s->wr_known = true;
	op->state = OP_KERNEL;
	op_list_append(&s->send, op);
	return 0;
}

static void wait_or_fail(struct lev *l, struct io_op *op)
{
	int r = wait_writable(l, find(l, op->u.net.fd), op);

	if (r < 0)
		op_local(&l->local, op, r);
}

/* Each is for a socket of its own, or the kernel does them in order all the same. */
static void send_batch(struct lev *l, struct io_op **batch, unsigned n)
{
	unsigned did = 0;
	int r;

	while (n - did > 1 && (r = aio_submit(&l->aio, batch + did, n - did)) > 0) {
		io_count(&l->io.count.enters, 1);
		did += (unsigned)r;
		lev_aio_take(l);
	}
	for (; did < n; did++)
		if (!try_send(l, batch[did]))
			wait_or_fail(l, batch[did]);
}

void lev_sent(struct lev *l, struct io_op *op, int32_t res)
{
	if (res == -EOPNOTSUPP ? !try_send(l, op) : !sent(l, op, res))
		wait_or_fail(l, op);
}

void lev_send_some(struct lev *l)
{
	uint32_t share = l->disk_now > 0 ? SEND_SHARE : UINT32_MAX, bytes = 0;
	struct io_op *batch[AIO_BATCH], *op;
	unsigned n = 0;

	while (bytes < share && (op = op_list_pop(&l->sends)) != NULL) {
		const struct sock *s = find(l, op->u.net.fd);

		bytes += op->u.net.len;
		io_count(&l->io.count.submitted, 1);
		if (unlikely(s != NULL && s->send.head != NULL)) {
			wait_or_fail(l, op);
		} else if (!l->batches) {
			if (!try_send(l, op))
				wait_or_fail(l, op);
		} else {
			batch[n++] = op;
			if (n == AIO_BATCH) {
				send_batch(l, batch, n);
				n = 0;
			}
		}
	}
	if (n > 0)
		send_batch(l, batch, n);
}

/* ---- receiving -------------------------------------------------------------------------------- */

/* s has an op that waits: for bytes that may be there, or for what epoll says. 0 or -errno. */
static int wait_readable(struct sock *s)
{
	if (s->more) {
		set_ready(s);
		return 0;
	}
	if (s->rd_known)
		return 0;
	if (event_add(&s->rd, NULL) < 0)
		return errno == EBADF || errno == EPERM ? -errno : -ENOMEM;
	s->rd_known = true;
	return 0;
}

/* The head of s->recv is over. Afterwards s may be gone. */
static void finish(struct lev *l, struct sock *s, int32_t res)
{
	struct io_op *op = op_list_pop(&s->recv);

	io_count(&l->io.count.completed, 1);
	if (s->recv.head != NULL) {
		int r = wait_readable(s);

		A(r == 0); /* it was known, or there is more */
	}
	if (op->kind == IO_ACCEPT)
		accept_over(s);
	op_finish(op, res);
}

/* The first op of s can do nothing now. */
static unsigned go_on_waiting(struct lev *l, struct sock *s)
{
	int r;

	s->more = false;
	r = wait_readable(s);
	if (likely(r == 0))
		return 0;
	s->more = true; /* the others find out by themselves */
	finish(l, s, r);
	return 1;
}

static unsigned do_accept(struct lev *l, struct sock *s)
{
	const struct io_op *first = s->recv.head;
	int fd = s->fd;
	unsigned n = 0;

	for (unsigned i = 0; i < ACCEPT_MAX; i++) {
		struct io_op *op = s->recv.head;
		int r = accept4(fd, NULL, NULL, ACCEPT_FLAGS);

		if (r < 0 && errno == EAGAIN)
			return n + go_on_waiting(l, s);
		if (r < 0 && io_accept_goes_on(-errno))
			continue;
		if (r < 0) {
			finish(l, s, -errno);
			return n + 1;
		}
		n++;
		io_count(&l->io.count.completed, 1);
		op_deliver(op, r);
		/* the callback may have cancelled it, and that was all of s */
		if (find(l, fd) != s || s->recv.head != first)
			return n;
	}
	set_ready(s);
	return n;
}

static unsigned do_recv(struct lev *l, struct sock *s)
{
	struct io_op *op = s->recv.head;
	bool whole = op->kind == IO_RECV;
	char *to = whole ? (char *)op->u.net.buf + op->u.net.did : l->buf;
	size_t room = whole ? op->u.net.len - op->u.net.did : l->buf_size;
	ssize_t r;

	if (op->kind == IO_RECV_SOME && room > op->u.net.len)
		room = op->u.net.len;
	do
		r = recv(s->fd, to, room, MSG_DONTWAIT);
	while (r < 0 && errno == EINTR);
	if (r < 0 && errno == EAGAIN)
		return go_on_waiting(l, s);
	/* the end and errors come again when they are asked for again */
	s->more = r <= 0 || (size_t)r == room;
	if (unlikely(r < 0)) {
		finish(l, s, -errno);
		return 1;
	}
	if (whole) {
		op->u.net.did += (uint32_t)r;
		if (r > 0 && op->u.net.did < op->u.net.len)
			return go_on_waiting(l, s);
		finish(l, s, (int32_t)op->u.net.did);
		return 1;
	}
	op->data = l->buf;
	if (op->kind == IO_RECV_SOME || r == 0) {
		finish(l, s, (int32_t)r);
		return 1;
	}
	if (s->more || !s->rd_known) {
		int e = wait_readable(s);

		if (unlikely(e < 0)) { /* these bytes, and no more: the next op says why */
			finish(l, s, (int32_t)r);
			return 1;
		}
	}
	io_count(&l->io.count.completed, 1);
	op_deliver(op, (int32_t)r);
	return 1;
}

unsigned lev_receive(struct lev *l)
{
	unsigned n = 0;

	for (unsigned i = 0; i < TURN_MAX && l->ready.next != &l->ready; i++) {
		struct sock *s = container_of(l->ready.next, struct sock, link);

		if (s->served == l->turn) /* once a turn: the others behind it had theirs, too */
			break;
		s->served = l->turn;
		unset_ready(s);
		if (s->recv.head == NULL)
			continue;
		n += s->recv.head->kind == IO_ACCEPT ? do_accept(l, s) : do_recv(l, s);
	}
	return n;
}

/* ---- operations ------------------------------------------------------------------------------- */

static void start_recv(struct lev *l, struct io_op *op)
{
	struct sock *s = find(l, op->u.net.fd);
	int r = op->u.net.fd < 0 ? -EBADF : -ENOMEM;

	if (s == NULL && op->u.net.fd >= 0)
		s = sock_new(l, op->u.net.fd);
	if (s != NULL)
		r = wait_readable(s);
	if (r < 0) {
		if (s != NULL)
			accept_over(s);
		op_local(&l->local, op, r);
		return;
	}
	io_count(&l->io.count.submitted, 1);
	op->state = OP_KERNEL;
	op_list_append(&s->recv, op);
}

void lev_net(struct io *io, struct io_op *op)
{
	struct lev *l = lev_of(io);
	int32_t res;

	A(l->buf != NULL || op->kind == IO_RECV || op->kind == IO_SEND);
	if (unlikely(io_net_begin(op, &res))) {
		op_local(&l->local, op, res);
	} else if (op->kind == IO_SEND) {
		op->state = OP_WAIT;
		op_list_append(&l->sends, op);
	} else {
		start_recv(l, op);
	}
}

void lev_net_cancel(struct lev *l, struct io_op *op)
{
	int32_t res = op->kind == IO_RECV ? (int32_t)op->u.net.did : -ECANCELED;
	struct sock *s = find(l, op->u.net.fd);

	if (op->state == OP_WAIT) {
		A(op_list_remove(&l->sends, op));
	} else if (op->kind == IO_SEND) {
		A(op_list_remove(&s->send, op));
	} else {
		A(op_list_remove(&s->recv, op));
		if (op->kind == IO_ACCEPT)
			accept_over(s);
	}
	op_local(&l->local, op, res);
}

const struct io_sock_ops lev_sock_ops = {
    .say = io_real_say,
    .finish = io_real_finish,
    .close = close_sock,
    .unread = io_real_unread,
    .unsent = io_real_unsent,
    .progress = io_real_progress,
    .peer = io_real_peer,
};
