/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of the io_uring engine: what is asked of the kernel, and what its answers mean.
 */
#include <errno.h>

#include "base/memcheck.h"
#include "valcached/io/uring_int.h"

#define ACCEPT_FLAGS (SOCK_NONBLOCK | SOCK_CLOEXEC)
#define SEND_FLAGS   (MSG_NOSIGNAL | MSG_WAITALL)

/* The last receive emptied the socket, or a send found no room: wait at once, instead of trying in vain before. */
static uint16_t drained(const struct io_op *op)
{
	return op->flags & OP_DRAINED ? IORING_RECVSEND_POLL_FIRST : 0;
}

void uring_prep_net(struct uring *u, struct io_op *op, struct io_uring_sqe *sqe)
{
	uint32_t len;

	switch (op->kind) {
	case IO_ACCEPT:
		io_uring_prep_multishot_accept(sqe, op->u.net.fd, NULL, NULL, ACCEPT_FLAGS);
		break;
	case IO_RECV_MULTI:
		io_uring_prep_recv_multishot(sqe, op->u.net.fd, NULL, 0, 0);
		sqe->flags |= IOSQE_BUFFER_SELECT;
		sqe->buf_group = RECV_GROUP;
		break;
	case IO_RECV_SOME:
		len = op->u.net.len < u->buf_size ? op->u.net.len : u->buf_size;
		io_uring_prep_recv(sqe, op->u.net.fd, NULL, len, 0);
		sqe->ioprio = drained(op);
		sqe->flags |= IOSQE_BUFFER_SELECT;
		sqe->buf_group = RECV_GROUP;
		break;
	case IO_RECV:
		io_uring_prep_recv(sqe, op->u.net.fd, (char *)op->u.net.buf + op->u.net.did,
				   op->u.net.len - op->u.net.did, MSG_WAITALL);
		sqe->ioprio = drained(op);
		break;
	default:
		A(op->kind == IO_SEND);
		if (op->u.net.msg.msg_iovlen == 1)
			io_uring_prep_send(sqe, op->u.net.fd, op->u.net.msg.msg_iov->iov_base,
					   op->u.net.msg.msg_iov->iov_len, SEND_FLAGS);
		else
			io_uring_prep_sendmsg(sqe, op->u.net.fd, &op->u.net.msg, SEND_FLAGS);
		sqe->ioprio = drained(op);
		break;
	}
}

/*
 * The kernel waits for a socket by itself, and yet was seen (6.18, a busy machine, answers of some 100 KiB to clients
 * that had closed their half) to say EAGAIN more than four times for one send. Nobody is gone then: the request is
 * made again and waits first, however often. True: it is under way.
 */
static bool made_again(struct uring *u, struct io_op *op, int32_t res)
{
	if (op->flags & OP_CANCELLED)
		return false;
	if (res == -EAGAIN) {
		op->flags |= OP_DRAINED;
		io_count(&u->io.count.retries, 1);
	} else if (res != -EINTR || !op_retry(&u->io, op)) {
		return false;
	}
	uring_start(u, op);
	return true;
}

static unsigned accept_done(struct uring *u, struct io_op *op, int32_t res, bool more)
{
	if (!more && !(op->flags & OP_CANCELLED) && io_accept_goes_on(res)) {
		uring_start(u, op);
		more = true;
	}
	if (res < 0 && more)
		return 0;
	if (more)
		op_deliver(op, res);
	else
		op_finish(op, res);
	return 1;
}

/* There was no buffer: it waits for one, in line. */
static void starve(struct uring *u, struct io_op *op)
{
	io_count(&u->io.count.recv_nobufs, 1);
	op->flags &= (uint8_t)~OP_DRAINED;
	op->state = OP_WAIT;
	op_list_append(&u->starved, op);
}

static unsigned recv_multi_done(struct uring *u, struct io_op *op, int32_t res, bool more)
{
	if (likely(res > 0)) {
		if (!more && !(op->flags & OP_CANCELLED)) {
			uring_start(u, op); /* the kernel stopped for reasons of its own */
			more = true;
		}
		if (likely(more))
			op_deliver(op, res);
		else
			op_finish(op, res);
		return 1;
	}
	A(!more);
	if (res == -ENOBUFS && !(op->flags & OP_CANCELLED)) {
		starve(u, op);
		return 0;
	}
	if (made_again(u, op, res))
		return 0;
	if (res < 0 && (op->flags & OP_CANCELLED))
		res = -ECANCELED;
	op_finish(op, res);
	return 1;
}

static unsigned recv_some_done(struct uring *u, struct io_op *op, int32_t res)
{
	if (unlikely(res < 0) && (op->flags & OP_CANCELLED))
		res = -ECANCELED;
	if (unlikely(res == -ENOBUFS)) {
		starve(u, op);
		return 0;
	}
	if (unlikely(res < 0) && made_again(u, op, res))
		return 0;
	op_finish(op, res);
	return 1;
}

static unsigned recv_done(struct uring *u, struct io_op *op, int32_t res)
{
	if (unlikely(res < 0)) {
		if (made_again(u, op, res))
			return 0;
		if (op->flags & OP_CANCELLED)
			res = (int32_t)op->u.net.did;
		op_finish(op, res);
		return 1;
	}
	if (unlikely(u->memcheck))
		memcheck_filled((char *)op->u.net.buf + op->u.net.did, (size_t)res);
	op->u.net.did += (uint32_t)res;
	A(op->u.net.did <= op->u.net.len);
	if (unlikely(op->u.net.did < op->u.net.len && res > 0 && !(op->flags & OP_CANCELLED))) {
		uring_start(u, op);
		return 0;
	}
	op_finish(op, (int32_t)op->u.net.did);
	return 1;
}

static unsigned send_done(struct uring *u, struct io_op *op, int32_t res)
{
	if (unlikely(res <= 0)) {
		if (made_again(u, op, res))
			return 0;
		if (op->flags & OP_CANCELLED)
			res = -ECANCELED;
		op_finish(op, res == 0 ? -EIO : res);
		return 1;
	}
	op->flags &= (uint8_t)~OP_DRAINED;
	op->u.net.did += (uint32_t)res;
	A(op->u.net.did <= op->u.net.len);
	if (unlikely(op->u.net.did < op->u.net.len)) {
		io_count(&u->io.count.short_sends, 1);
		if (op->flags & OP_CANCELLED) {
			op_finish(op, -ECANCELED);
			return 1;
		}
		io_iov_advance(&op->u.net.msg, (size_t)res);
		uring_start(u, op);
		return 0;
	}
	op_finish(op, (int32_t)op->u.net.did);
	return 1;
}

static void note_drained(struct io_op *op, uint32_t flags)
{
	if (flags & IORING_CQE_F_SOCK_NONEMPTY)
		op->flags &= (uint8_t)~OP_DRAINED;
	else
		op->flags |= OP_DRAINED;
}

unsigned uring_net_done(struct uring *u, struct io_op *op, int32_t res, uint32_t flags)
{
	bool more = (flags & IORING_CQE_F_MORE) != 0;
	unsigned n, bid = 0;

	switch (op->kind) {
	case IO_SEND:
		return send_done(u, op, res);
	case IO_RECV:
		note_drained(op, flags);
		return recv_done(u, op, res);
	case IO_ACCEPT:
		return accept_done(u, op, res, more);
	default:
		break;
	}
	note_drained(op, flags);
	if (likely(flags & IORING_CQE_F_BUFFER)) {
		bid = flags >> IORING_CQE_BUFFER_SHIFT;
		A(bid < u->buf_n);
		op->data = u->buf_base + (size_t)bid * u->buf_size;
	} else {
		A(res <= 0);
	}
	n = op->kind == IO_RECV_MULTI ? recv_multi_done(u, op, res, more)
				      : recv_some_done(u, op, res);
	if (likely(flags & IORING_CQE_F_BUFFER)) { /* [URING-3] */
		io_uring_buf_ring_add(u->bufs, u->buf_base + (size_t)bid * u->buf_size, u->buf_size,
				      (unsigned short)bid, (int)(u->buf_n - 1), 0);
		io_uring_buf_ring_advance(u->bufs, 1);
	}
	return n;
}

/* Until the end of this turn's callbacks; see send_some() in uring.c. */
static void send_later(struct uring *u, struct io_op *op)
{
	op->state = OP_WAIT;
	op_list_append(&u->sends, op);
}

void uring_net(struct io *io, struct io_op *op)
{
	struct uring *u = uring_of(io);
	int32_t res;

	A(u->bufs != NULL);
	if (unlikely(io_net_begin(op, &res)))
		op_local(&u->local, op, res);
	else if (op->kind == IO_SEND)
		send_later(u, op);
	else
		uring_start(u, op);
}
