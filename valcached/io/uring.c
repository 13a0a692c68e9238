/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The io_uring engine: the turns of the loop. See uring_int.h for the rules of the whole.
 *
 * One turn is one system call: it submits what callbacks of the last turn prepared, waits, and
 * then runs all completions. A full submission queue makes another, and file operations that meet sends
 * go first by one of their own; see send_some(). The end of a lazy send alone is no reason to turn;
 * see patient().
 */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/clock.h"
#include "valcached/io/uring_int.h"

static void arm_wake(struct uring *u)
{
	struct io_uring_sqe *sqe = uring_sqe(u);

	if (sqe == NULL) /* cannot be: at the start of a turn the queue has room */
		return;
	/* Multishot and never read: each write to the eventfd is one event, the sum means nothing.
	 */
	io_uring_prep_poll_multishot(sqe, u->wake_fd, POLLIN);
	sqe->user_data = TAG_WAKE;
}

static unsigned op_done(struct uring *u, struct io_op *op, int32_t res, uint32_t flags)
{
	if (likely(!(flags & IORING_CQE_F_MORE))) {
		DIAG(op->state == OP_KERNEL);
		u->in_kernel--;
		u->receiving -= uring_is_recv(op);
		if (unlikely(op->flags & OP_CANCELLED) && u->cancels.head != NULL)
			op_list_remove(&u->cancels, op); /* [URING-2] */
	}
	return op->kind <= IO_DISCARD ? uring_disk_done(u, op, res)
				      : uring_net_done(u, op, res, flags);
}

static unsigned wake_done(struct uring *u, uint32_t flags)
{
	if (!(flags & IORING_CQE_F_MORE))
		arm_wake(u);
	/* Cleared before the callback looks at what it was woken for: a later wake writes again. */
	if (!atomic_exchange_explicit(&u->woken, false, memory_order_acq_rel))
		return 0;
	if (u->io.on_wake != NULL)
		u->io.on_wake(u->io.wake_arg);
	return 1;
}

/* Completions taken in one turn; the rest comes next turn, whose enter finds it and does not sleep. */
#define TURN_MAX 64u

static int reap(struct uring *u)
{
	struct io_uring_cq *cq = &u->ring.cq;
	unsigned head = *cq->khead, tail = io_uring_smp_load_acquire(cq->ktail), n = 0;
	struct io_op *op;

	if (tail - head > TURN_MAX)
		tail = head + TURN_MAX;
	io_count(&u->io.count.completed, tail - head);
	while (head != tail) {
		/* A copy, and the slot goes back first: a callback may fill the queue and enter. */
		const struct io_uring_cqe cqe = cq->cqes[head & cq->ring_mask];

		io_uring_smp_store_release(cq->khead, ++head);
		if (likely(cqe.user_data > TAG_WAKE))
			n += op_done(u, (struct io_op *)(uintptr_t)cqe.user_data, cqe.res,
				     cqe.flags);
		else if (cqe.user_data == TAG_WAKE)
			n += wake_done(u, cqe.flags);
	}
	if (unlikely(u->local.head != NULL)) {
		struct op_list now =
		    u->local; /* what these callbacks add waits for the next turn */

		op_list_init(&u->local);
		while ((op = now.head) != NULL) {
			now.head = op->next;
			op_finish(op, op->res);
			n++;
		}
	}
	return (int)n;
}

/* The ring becomes this thread's. */
static int enable(struct uring *u)
{
	unsigned workers[2] = {4, 4};
	int r;

	/* first what the restrictions will no longer allow */
	if (io_uring_register_ring_fd(&u->ring) == 1)
		u->enter_flags |= IORING_ENTER_REGISTERED_RING;
	/* fdatasync runs on kernel workers; a burst must not make a crowd of them. */
	(void)io_uring_register_iowq_max_workers(&u->ring, workers);
	r = uring_restrict(u);
	if (r == 0)
		r = io_uring_register((unsigned)u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL,
				      0);
	if (r < 0)
		return r;
	u->owner = gettid();
	u->enabled = true;
	arm_wake(u);
	return 0;
}

/* Nothing to submit, and the kernel says that it holds nothing for us: no need to ask. */
static bool idle(const struct uring *u)
{
	unsigned flags = IO_URING_READ_ONCE(*u->ring.sq.kflags);

	return u->ring.flags & IORING_SETUP_TASKRUN_FLAG &&
	       !(flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) &&
	       u->ring.sq.sqe_tail == *u->ring.sq.khead;
}

/*
 * One connection asks, waits for its answer and asks again: the answer's send is done at once, and to be
 * woken for that alone would cost a system call a request. So the wait is for what comes after it, too.
 * With more connections others would wait for a send that is slow; there, turns have company anyway.
 */
static bool patient(const struct uring *u)
{
	return u->lazy == 1 && u->receiving <= 1 && u->disk_now == 0;
}

/*
 * Sends run inside the enter that submits them, one after another, and copy: 10 us for 32 KiB. Meanwhile a
 * device that has finished its reads waits for the next. So file operations go first, by an enter of
 * their own (behind sends of the same enter the kernel holds them back: it plugs the queue), and
 * while any are under way the sends go SEND_SHARE a turn: who asks meanwhile is served before the rest.
 */
#define SEND_SHARE (48u << 10)

static void send_some(struct uring *u)
{
	uint32_t share = u->disk_now > 0 ? SEND_SHARE : UINT32_MAX, n = 0;
	struct io_op *op;

	if (u->disk_queued)
		(void)uring_enter(u, false, 0, NULL); /* refused: the next enter says why */
	while (n < share && (op = op_list_pop(&u->sends)) != NULL) {
		n += op->u.net.len;
		uring_start(u, op);
	}
}

/*
 * Of thousands of clients that ask at once all but as many as there are buffers would be armed in vain again and
 * again, each turn. So they wait in line, and half of the buffers that are free are for them: the other half is for
 * whoever has data by then.
 */
static void feed_some(struct uring *u)
{
	unsigned taken = io_uring_cq_ready(&u->ring), n = taken < u->buf_n ? u->buf_n - taken : 0;
	struct io_op *op;

	for (n = (n + 1) / 2; n > 0 && (op = op_list_pop(&u->starved)) != NULL; n--)
		uring_start(u, op);
}

static int wait_asleep(struct uring *u, unsigned wait, int64_t timeout_ns)
{
	struct __kernel_timespec ts = {.tv_sec = timeout_ns / (int64_t)NS_PER_S,
				       .tv_nsec = timeout_ns % (int64_t)NS_PER_S};

	if (unlikely(u->memcheck))
		return uring_wait_poll(u, timeout_ns);
	return uring_enter(u, true, wait, timeout_ns < 0 ? NULL : &ts);
}

/*
 * To wake a sleeping CPU takes longer than many waits do. So, if asked for, a wait that is likely to be short
 * is spent looking: only after one that was, so that an idle loop sleeps. True: there is something to take.
 */
static bool wait_awake(struct uring *u, unsigned wait, int64_t timeout_ns)
{
	uint64_t until = clock_ns() + u->spin_ns;

	if (!u->restless || !(u->ring.flags & IORING_SETUP_TASKRUN_FLAG) ||
	    uring_enter(u, true, 0, NULL) < 0)
		return false;
	if (timeout_ns > 0 && clock_ns() + (uint64_t)timeout_ns < until)
		until = clock_ns() + (uint64_t)timeout_ns;
	do {
		if (io_uring_cq_ready(&u->ring) >= wait ||
		    IO_URING_READ_ONCE(*u->ring.sq.kflags) &
			(IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW))
			return true;
#if defined(__x86_64__)
		__builtin_ia32_pause();
#endif
	} while (clock_ns() < until);
	return false;
}

static int uring_turn(struct io *io, int64_t timeout_ns)
{
	struct uring *u = uring_of(io);
	unsigned sq_flags, wait = 1;
	int r;

	if (unlikely(!u->enabled)) {
		r = enable(u);
		if (r < 0)
			return r;
	}
	if (unlikely(u->backlog.head != NULL || u->cancels.head != NULL))
		uring_drain(u);
	if (unlikely(u->local.head != NULL))
		timeout_ns = 0;
	if (u->sends.head != NULL)
		send_some(u);
	if (unlikely(u->starved.head != NULL))
		feed_some(u);
	if (u->sends.head != NULL || u->starved.head != NULL)
		timeout_ns = 0;
	if (timeout_ns != 0 && patient(u)) {
		wait = 2;
		if (timeout_ns < 0 || timeout_ns > IO_LAZY_NS)
			timeout_ns = IO_LAZY_NS;
	}
	u->lazy = 0;
	if (u->spin_ns != 0 && timeout_ns != 0) {
		uint64_t from = clock_ns();

		if (wait_awake(u, wait, timeout_ns))
			r = uring_enter(u, true, 0, NULL);
		else
			r = wait_asleep(u, wait, timeout_ns);
		u->restless = clock_ns() - from < 2 * u->spin_ns;
	} else if (timeout_ns == 0) {
		r = idle(u) ? 0 : uring_enter(u, true, 0, NULL);
	} else {
		r = wait_asleep(u, wait, timeout_ns);
	}
	io->now_ns = clock_ns();
	/* EBUSY, EAGAIN: the kernel wants completions taken, or memory; the rest goes next turn. */
	if (unlikely(r < 0 && r != -ETIME && r != -EINTR && r != -EBUSY && r != -EAGAIN))
		return r;
	sq_flags = IO_URING_READ_ONCE(*u->ring.sq.kflags);
	if (unlikely(sq_flags & IORING_SQ_CQ_OVERFLOW))
		io_count(&io->count.overflows,
			 1); /* kept by the kernel; the next enter brings them */
	return reap(u);
}

static void uring_wake(struct io *io)
{
	struct uring *u = container_of(io, struct uring, io);
	uint64_t one = 1;

	if (atomic_exchange_explicit(&u->woken, true, memory_order_acq_rel))
		return;
	/* Never full: it is written at most once a turn, and 2^64 turns do not happen. */
	while (write(u->wake_fd, &one, sizeof one) < 0)
		A(errno == EINTR);
}

static void uring_cancel(struct io *io, struct io_op *op)
{
	struct uring *u = uring_of(io);
	int32_t res = op->kind == IO_RECV ? (int32_t)op->u.net.did : -ECANCELED;

	if (op->state == OP_LOCAL || op->flags & OP_CANCELLED)
		return;
	op->flags |= OP_CANCELLED;
	switch (op->state) {
	case OP_KERNEL:
		uring_send_cancel(u, op);
		if (op->kind <= IO_DISCARD) {
			op->flags |= OP_PLACELESS;
			uring_disk_next(u);
		}
		break;
	case OP_WAIT:
		A(op_list_remove(op->kind == IO_SEND ? &u->sends
				 : uring_is_recv(op) ? &u->starved
						     : &u->disk_wait,
				 op));
		op_local(&u->local, op, res);
		break;
	default:
		A(op->state == OP_BACKLOG);
		A(op_list_remove(&u->backlog, op));
		if (op->kind <= IO_DISCARD)
			uring_disk_next(u);
		op_local(&u->local, op, res);
		break;
	}
}

const struct io_ops uring_ops = {
    .close = uring_close,
    .turn = uring_turn,
    .wake = uring_wake,
    .add_memory = uring_add_memory,
    .add_file = uring_add_file,
    .disk = uring_disk,
    .net = uring_net,
    .cancel = uring_cancel,
    .sock = &io_real_sock,
};

const struct io_engine io_uring_engine = {
    .name = "uring",
    .open = uring_open,
    .file_open = io_real_file_open,
    .file_open_made = io_real_file_open_made,
    .file_close = io_real_file_close,
    .file_resize = io_real_file_resize,
    .file_works = io_real_file_works,
    .file_shut = io_real_file_shut,
    .file_reopen = io_real_file_reopen,
};
