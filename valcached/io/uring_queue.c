/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The submission queue of a ring: requests on their way to the kernel, in order, and what waits for a
 * place among them.
 */
#include <poll.h>

#include "base/clock.h"
#include "valcached/io/uring_int.h"

int uring_enter(struct uring *u, bool get, unsigned wait, struct __kernel_timespec *ts)
{
	struct io_uring_sq *sq = &u->ring.sq;
	struct io_uring_getevents_arg arg = {.ts = (uintptr_t)ts};
	unsigned flags = u->enter_flags, submit;
	int r;

	/* The index array is the identity (see open), so publishing the tail is all there is. */
	if (sq->sqe_head != sq->sqe_tail) {
		sq->sqe_head = sq->sqe_tail;
		io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
	}
	u->disk_queued = false;
	submit = sq->sqe_tail - io_uring_smp_load_acquire(sq->khead);
	if (get)
		flags |= IORING_ENTER_GETEVENTS;
	io_count(&u->io.count.enters, 1);
	if (ts != NULL)
		r = io_uring_enter2((unsigned)u->ring.enter_ring_fd, submit, wait,
				    flags | IORING_ENTER_EXT_ARG, (sigset_t *)(void *)&arg,
				    sizeof arg);
	else
		r = io_uring_enter2((unsigned)u->ring.enter_ring_fd, submit, wait, flags, NULL, 0);
	if (r > 0)
		io_count(&u->io.count.submitted, (uint64_t)r);
	return r < 0 ? r : 0;
}

/* Waits for one completion as uring_enter() does, but asleep in poll(2), a millisecond at a time. */
int uring_wait_poll(struct uring *u, int64_t timeout_ns)
{
	uint64_t t0 = clock_ns();

	for (;;) {
		int r = uring_enter(u, true, 0, NULL);

		if (r < 0 || io_uring_cq_ready(&u->ring) > 0 ||
		    (timeout_ns >= 0 && clock_ns() - t0 >= (uint64_t)timeout_ns))
			return r;
		(void)poll(NULL, 0, 1);
	}
}

struct io_uring_sqe *uring_sqe(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	if (likely(sqe != NULL))
		return sqe;
	if (!u->enabled || uring_enter(u, false, 0, NULL) < 0)
		return NULL;
	return io_uring_get_sqe(&u->ring);
}

void uring_start(struct uring *u, struct io_op *op)
{
	struct io_uring_sqe *sqe;

	if (likely(u->backlog.head == NULL && (sqe = uring_sqe(u)) != NULL)) {
		if (op->kind <= IO_DISCARD) {
			uring_prep_disk(u, op, sqe);
			u->disk_queued = true;
		} else {
			uring_prep_net(u, op, sqe);
		}
		sqe->user_data = (uintptr_t)op;
		op->state = OP_KERNEL;
		u->in_kernel++;
		u->receiving += uring_is_recv(op);
		u->lazy += op->kind == IO_SEND && op->u.net.lazy;
	} else {
		op->state = OP_BACKLOG;
		op_list_append(&u->backlog, op);
	}
}

void uring_send_cancel(struct uring *u, struct io_op *op)
{
	struct io_uring_sqe *sqe = u->cancels.head == NULL ? uring_sqe(u) : NULL;

	if (sqe == NULL) {
		op_list_append(&u->cancels, op);
		return;
	}
	io_uring_prep_cancel64(sqe, (uintptr_t)op, 0);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	sqe->user_data = TAG_NONE;
}

void uring_drain(struct uring *u)
{
	struct op_list late = u->cancels, ops = u->backlog;
	struct io_op *op;

	if (late.head != NULL) {
		op_list_init(&u->cancels);
		while ((op = late.head) != NULL) {
			late.head = op->next;
			uring_send_cancel(u, op);
		}
	}
	if (ops.head != NULL) {
		op_list_init(&u->backlog);
		while ((op = ops.head) != NULL) {
			ops.head = op->next;
			uring_start(u, op);
		}
	}
}
