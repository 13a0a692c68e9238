/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The io_uring engine: one ring per io, sockets and files together. The only file that includes
 * liburing.
 *
 * Threads. io_open() makes a disabled ring on any thread, and memory and files may be added to it
 * there. The first io_turn() enables it: from then on that thread alone may use the io, except for
 * io_wake(). The ring is DEFER_TASKRUN: completions appear only while that thread is in enter.
 *
 * One turn is one system call: it submits what callbacks of the last turn prepared, waits, and
 * then runs all completions. Only a full submission queue makes another. The end of a lazy send
 * alone is no reason to turn; see patient().
 *
 * Invariants (cited as [URING-n]):
 *  1. user_data is the op's address. An op has at most one request in the kernel, and completes to
 *     its owner only after that request's last completion, so an address is never stale. The
 *     exceptions are the small tags below, which no op can have as address.
 *  2. A cancel names an op that is in OP_KERNEL. Requests are issued in queue order, so a cancel
 *     never meets a later request of the same op.
 *  3. Provided buffers are given back before the callback loop takes the next completion. So when
 *     a receive finds none (-ENOBUFS), some are back by the time it is armed again.
 *  4. Requests leave op->flags & OP_CANCELLED alone; a cancelled op is never continued.
 *  5. While the backlog is not empty, nothing passes it: submissions stay in order.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "valcached/io/io_int.h"
#include "valcached/io/memcheck.h"
#include "valcached/io/uring_compat.h"

#define URING_MAGIC  0x75726e67u
#define TAG_NONE     0u /* nobody waits for it: cancels that found nothing */
#define TAG_WAKE     1u
#define REGIONS_MAX  1024u
#define REGION_BYTES (1ull << 30) /* the kernel's limit for one registered buffer */
#define RECV_GROUP   0
#define ACCEPT_FLAGS (SOCK_NONBLOCK | SOCK_CLOEXEC)
#define SEND_FLAGS   (MSG_NOSIGNAL | MSG_WAITALL)

struct region {
	uintptr_t base, end;
	unsigned index;
};

struct uring {
	struct io io; /* first: the callers' handle */
	unsigned magic;
	bool enabled;
	bool memcheck; /* memcheck_runs() */
	pid_t owner;   /* the thread that turns it, once enabled */

	/* hot */
	struct io_uring ring;
	unsigned enter_flags;
	unsigned in_kernel; /* ops in OP_KERNEL */
	unsigned receiving; /* of them receives */
	unsigned lazy;      /* lazy sends since the last turn */
	unsigned disk_now, disk_depth;
	uint64_t files_fixed; /* bit i: slot i of the ring's file table is file id i */
	struct op_list disk_wait, backlog, local;
	struct op_list cancels; /* in OP_KERNEL; their cancel found no room in the queue */
	struct region *hit;     /* the region of the last buffer looked up */

	/* provided buffers of receives */
	struct io_uring_buf_ring *bufs;
	char *buf_base;
	unsigned buf_n, buf_size;
	size_t bufs_len, buf_base_len;

	/* registered memory, sorted by base */
	unsigned region_n;
	bool table_buffers, table_files;
	struct region region[REGIONS_MAX];

	/* other threads */
	int wake_fd;
	_Atomic bool woken;
};

static struct uring *uring_of(struct io *io)
{
	struct uring *u = container_of(io, struct uring, io);

	DIAG(u->magic == URING_MAGIC);
	return u;
}

/* ---- the submission queue ---------------------------------------------------------------------
 */

/* Hands all prepared requests to the kernel; wait: sleeps until a completion or ts. 0 or -errno. */
static int ring_enter(struct uring *u, bool get, unsigned wait, struct __kernel_timespec *ts)
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

/* As ring_enter(get, 1), but asleep for a millisecond in poll(2) at most: see memcheck.h. */
static int ring_wait_poll(struct uring *u)
{
	int r = ring_enter(u, true, 0, NULL);

	if (r < 0 || io_uring_cq_ready(&u->ring) > 0)
		return r;
	(void)poll(NULL, 0, 1);
	return ring_enter(u, true, 0, NULL);
}

static struct io_uring_sqe *sqe_get(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	if (likely(sqe != NULL))
		return sqe;
	if (!u->enabled || ring_enter(u, false, 0, NULL) < 0)
		return NULL;
	return io_uring_get_sqe(&u->ring);
}

static struct region *region_find(struct uring *u, const void *buf, size_t len)
{
	uintptr_t at = (uintptr_t)buf;
	struct region *r = u->hit;
	unsigned lo = 0, hi = u->region_n;

	if (likely(r != NULL && at >= r->base && at + len <= r->end))
		return r;
	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (u->region[mid].base <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0)
		return NULL;
	r = &u->region[lo - 1];
	if (at + len > r->end)
		return NULL;
	return u->hit = r;
}

static void prep_disk(struct uring *u, struct io_op *op, struct io_uring_sqe *sqe)
{
	struct file *f = container_of(op->u.disk.file, struct file, pub);
	uint32_t did = op->u.disk.did, len = op->u.disk.len - did;
	uint64_t off = op->u.disk.off + did;
	char *buf = op->u.disk.buf;
	struct region *r;

	switch (op->kind) {
	case IO_READ:
		buf += did;
		r = region_find(u, buf, len);
		if (likely(r != NULL))
			io_uring_prep_read_fixed(sqe, f->fd, buf, len, off, (int)r->index);
		else
			io_uring_prep_read(sqe, f->fd, buf, len, off);
		break;
	case IO_WRITE:
		buf += did;
		r = region_find(u, buf, len);
		if (likely(r != NULL))
			io_uring_prep_write_fixed(sqe, f->fd, buf, len, off, (int)r->index);
		else
			io_uring_prep_write(sqe, f->fd, buf, len, off);
		break;
	case IO_SYNC:
		io_uring_prep_fsync(sqe, f->fd, IORING_FSYNC_DATASYNC);
		break;
	default:
		A(op->kind == IO_DISCARD);
		if (op->u.disk.buf == NULL) {
			io_uring_prep_rw(IORING_OP_URING_CMD, sqe, f->fd, NULL, 0, 0);
			sqe->cmd_op = BLOCK_URING_CMD_DISCARD;
			sqe->addr = op->u.disk.off;
			sqe->addr3 = op->u.disk.len;
		} else { /* the kernel has no such command; see disk_done() */
			io_uring_prep_fallocate(sqe, f->fd,
						FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
						(off_t)op->u.disk.off, (off_t)op->u.disk.len);
		}
		break;
	}
	if (likely(u->files_fixed & 1ull << f->pub.id)) {
		sqe->fd = (int)f->pub.id;
		sqe->flags |= IOSQE_FIXED_FILE;
	}
}

/* The last receive emptied the socket: the next waits at once, instead of trying in vain before. */
static uint16_t drained(const struct io_op *op)
{
	return op->flags & OP_DRAINED ? IORING_RECVSEND_POLL_FIRST : 0;
}

static void prep(struct uring *u, struct io_op *op, struct io_uring_sqe *sqe)
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
	case IO_SEND:
		if (op->u.net.msg.msg_iovlen == 1)
			io_uring_prep_send(sqe, op->u.net.fd, op->u.net.msg.msg_iov->iov_base,
					   op->u.net.msg.msg_iov->iov_len, SEND_FLAGS);
		else
			io_uring_prep_sendmsg(sqe, op->u.net.fd, &op->u.net.msg, SEND_FLAGS);
		break;
	default:
		prep_disk(u, op, sqe);
		break;
	}
	sqe->user_data = (uintptr_t)op;
}

static bool is_recv(const struct io_op *op)
{
	return op->kind >= IO_RECV_MULTI && op->kind <= IO_RECV;
}

static void start(struct uring *u, struct io_op *op)
{
	struct io_uring_sqe *sqe;

	if (likely(u->backlog.head == NULL && (sqe = sqe_get(u)) != NULL)) {
		prep(u, op, sqe);
		op->state = OP_KERNEL;
		u->in_kernel++;
		u->receiving += is_recv(op);
		u->lazy += op->kind == IO_SEND && op->u.net.lazy;
	} else {
		op->state = OP_BACKLOG;
		op_list_append(&u->backlog, op);
	}
}

static void local(struct uring *u, struct io_op *op, int32_t res)
{
	op->res = res;
	op->state = OP_LOCAL;
	op_list_append(&u->local, op);
}

static void start_disk(struct uring *u, struct io_op *op)
{
	op->flags = 0;
	if (unlikely(u->disk_now >= u->disk_depth)) {
		io_count(&u->io.count.disk_waits, 1);
		op->state = OP_WAIT;
		op_list_append(&u->disk_wait, op);
		return;
	}
	u->disk_now++;
	start(u, op);
}

/* An op gave its place in the device queue back. */
static void disk_next(struct uring *u)
{
	struct io_op *op = op_list_pop(&u->disk_wait);

	if (likely(op == NULL))
		u->disk_now--;
	else
		start(u, op);
}

static void send_cancel(struct uring *u, struct io_op *op)
{
	struct io_uring_sqe *sqe = u->cancels.head == NULL ? sqe_get(u) : NULL;

	if (sqe == NULL) {
		op_list_append(&u->cancels, op);
		return;
	}
	io_uring_prep_cancel64(sqe, (uintptr_t)op, 0);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	sqe->user_data = TAG_NONE;
}

static void drain_backlog(struct uring *u)
{
	struct op_list late = u->cancels, ops = u->backlog;
	struct io_op *op;

	if (late.head != NULL) {
		op_list_init(&u->cancels);
		while ((op = late.head) != NULL) {
			late.head = op->next;
			send_cancel(u, op);
		}
	}
	if (ops.head != NULL) {
		op_list_init(&u->backlog);
		while ((op = ops.head) != NULL) {
			ops.head = op->next;
			start(u, op);
		}
	}
}

/* ---- completions ------------------------------------------------------------------------------
 */

static void finish(struct io_op *op, int32_t res)
{
	op->res = res;
	op->more = false;
	op->kind = IO_NONE;
	op->state = OP_IDLE;
	op->done(op);
}

static void deliver(struct io_op *op, int32_t res)
{
	op->res = res;
	op->more = true;
	op->done(op);
}

static unsigned disk_done(struct uring *u, struct io_op *op, int32_t res)
{
	if (unlikely(op->kind == IO_DISCARD) && op->u.disk.buf == NULL &&
	    (res == -EINVAL || res == -EOPNOTSUPP) && !(op->flags & OP_CANCELLED)) {
		op->u.disk.buf = op; /* not NULL: the other way of asking */
		start(u, op);
		return 0;
	}
	if (unlikely(!io_disk_result(&u->io, op, &res))) {
		start(u, op);
		return 0;
	}
	if (unlikely(u->memcheck) && op->kind == IO_READ && res > 0)
		memcheck_filled(op->u.disk.buf, (size_t)res);
	disk_next(u);
	finish(op, res);
	return 1;
}

static bool accept_goes_on(int32_t res)
{
	switch (res) {
	case -ECONNABORTED: /* this caller is gone; accept(2) says the others are not */
	case -EPROTO:
	case -EPERM:
	case -EAGAIN:
	case -EINTR:
	case -ENETDOWN:
	case -ENOPROTOOPT:
	case -EHOSTDOWN:
	case -ENONET:
	case -EHOSTUNREACH:
	case -ENETUNREACH:
	case -ETIMEDOUT:
		return true;
	default:
		return res >= 0;
	}
}

static unsigned accept_done(struct uring *u, struct io_op *op, int32_t res, bool more)
{
	if (!more && !(op->flags & OP_CANCELLED) && accept_goes_on(res)) {
		start(u, op);
		more = true;
	}
	if (res < 0 && more)
		return 0;
	if (more)
		deliver(op, res);
	else
		finish(op, res);
	return 1;
}

static unsigned recv_multi_done(struct uring *u, struct io_op *op, int32_t res, bool more)
{
	if (likely(res > 0)) {
		if (!more && !(op->flags & OP_CANCELLED)) {
			start(u, op); /* the kernel stopped for reasons of its own */
			more = true;
		}
		if (likely(more))
			deliver(op, res);
		else
			finish(op, res);
		return 1;
	}
	A(!more);
	if (res == -ENOBUFS && !(op->flags & OP_CANCELLED)) {
		io_count(&u->io.count.recv_nobufs, 1);
		start(u, op);
		return 0;
	}
	if ((res == -EAGAIN || res == -EINTR) && !(op->flags & OP_CANCELLED) &&
	    op_retry(&u->io, op)) {
		start(u, op);
		return 0;
	}
	if (res < 0 && (op->flags & OP_CANCELLED))
		res = -ECANCELED;
	finish(op, res);
	return 1;
}

static unsigned recv_some_done(struct uring *u, struct io_op *op, int32_t res)
{
	if (unlikely(res < 0) && (op->flags & OP_CANCELLED))
		res = -ECANCELED;
	if (unlikely(res == -ENOBUFS)) {
		io_count(&u->io.count.recv_nobufs, 1);
		start(u, op);
		return 0;
	}
	if (unlikely(res == -EAGAIN || res == -EINTR) && op_retry(&u->io, op)) {
		start(u, op);
		return 0;
	}
	finish(op, res);
	return 1;
}

static unsigned recv_done(struct uring *u, struct io_op *op, int32_t res)
{
	if (unlikely(res < 0)) {
		if (op->flags & OP_CANCELLED) {
			res = (int32_t)op->u.net.did;
		} else if ((res == -EAGAIN || res == -EINTR) && op_retry(&u->io, op)) {
			start(u, op);
			return 0;
		}
		finish(op, res);
		return 1;
	}
	if (unlikely(u->memcheck))
		memcheck_filled((char *)op->u.net.buf + op->u.net.did, (size_t)res);
	op->u.net.did += (uint32_t)res;
	A(op->u.net.did <= op->u.net.len);
	if (unlikely(op->u.net.did < op->u.net.len && res > 0 && !(op->flags & OP_CANCELLED))) {
		start(u, op);
		return 0;
	}
	finish(op, (int32_t)op->u.net.did);
	return 1;
}

static unsigned send_done(struct uring *u, struct io_op *op, int32_t res)
{
	if (unlikely(res <= 0)) {
		if (op->flags & OP_CANCELLED)
			res = -ECANCELED;
		else if (res == 0)
			res = -EIO;
		else if ((res == -EAGAIN || res == -EINTR) && op_retry(&u->io, op)) {
			start(u, op);
			return 0;
		}
		finish(op, res);
		return 1;
	}
	op->u.net.did += (uint32_t)res;
	A(op->u.net.did <= op->u.net.len);
	if (unlikely(op->u.net.did < op->u.net.len)) {
		io_count(&u->io.count.short_sends, 1);
		if (op->flags & OP_CANCELLED) {
			finish(op, -ECANCELED);
			return 1;
		}
		io_iov_advance(&op->u.net.msg, (size_t)res);
		start(u, op);
		return 0;
	}
	finish(op, (int32_t)op->u.net.did);
	return 1;
}

static void arm_wake(struct uring *u)
{
	struct io_uring_sqe *sqe = sqe_get(u);

	if (sqe == NULL) /* cannot be: at the start of a turn the queue has room */
		return;
	/* Multishot and never read: each write to the eventfd is one event, the sum means nothing.
	 */
	io_uring_prep_poll_multishot(sqe, u->wake_fd, POLLIN);
	sqe->user_data = TAG_WAKE;
}

static void note_drained(struct io_op *op, uint32_t flags)
{
	if (flags & IORING_CQE_F_SOCK_NONEMPTY)
		op->flags &= (uint8_t)~OP_DRAINED;
	else
		op->flags |= OP_DRAINED;
}

static unsigned op_done(struct uring *u, struct io_op *op, int32_t res, uint32_t flags)
{
	bool more = (flags & IORING_CQE_F_MORE) != 0;
	unsigned n, bid = 0;

	if (likely(!more)) {
		DIAG(op->state == OP_KERNEL);
		u->in_kernel--;
		u->receiving -= is_recv(op);
		if (unlikely(op->flags & OP_CANCELLED) && u->cancels.head != NULL)
			op_list_remove(&u->cancels, op); /* [URING-2] */
	}
	switch (op->kind) {
	case IO_READ:
	case IO_WRITE:
	case IO_SYNC:
	case IO_DISCARD:
		return disk_done(u, op, res);
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

/*
 * Completions taken in one turn. What they lead to is submitted at its end, and sends run in that submit, one
 * after another: after a burst of 32 disk reads the disk and the clients would be idle until the last of 32
 * answers is copied, then all ask at once, and the burst is kept alive. In small turns the first
 * client asks again while the others are still answered (32 connections, cold 32 KiB: the device had nothing to
 * do for 40 % of the time).
 */
#define TURN_MAX 8u

static int reap(struct uring *u)
{
	struct io_uring_cq *cq = &u->ring.cq;
	unsigned head = *cq->khead, tail = io_uring_smp_load_acquire(cq->ktail), n = 0;
	struct io_op *op;

	/* the rest comes next turn, whose enter finds it ready and does not sleep */
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
			finish(op, op->res);
			n++;
		}
	}
	return (int)n;
}

/* ---- the table --------------------------------------------------------------------------------
 */

/* The ring becomes this thread's. */
static int enable(struct uring *u)
{
	unsigned workers[2] = {4, 4};
	int r = 0;

	if (u->ring.flags & IORING_SETUP_R_DISABLED)
		r = io_uring_register((unsigned)u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL,
				      0);
	if (r < 0)
		return r;
	if (io_uring_register_ring_fd(&u->ring) == 1)
		u->enter_flags |= IORING_ENTER_REGISTERED_RING;
	/* fdatasync runs on kernel workers; a burst must not make a crowd of them. */
	(void)io_uring_register_iowq_max_workers(&u->ring, workers);
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

static int uring_turn(struct io *io, int64_t timeout_ns)
{
	struct uring *u = uring_of(io);
	struct __kernel_timespec ts;
	unsigned sq_flags, wait = 1;
	int r;

	if (unlikely(!u->enabled)) {
		r = enable(u);
		if (r < 0)
			return r;
	}
	if (unlikely(u->backlog.head != NULL || u->cancels.head != NULL))
		drain_backlog(u);
	if (unlikely(u->local.head != NULL))
		timeout_ns = 0;
	if (timeout_ns != 0 && patient(u)) {
		wait = 2;
		if (timeout_ns < 0 || timeout_ns > IO_LAZY_NS)
			timeout_ns = IO_LAZY_NS;
	}
	u->lazy = 0;
	if (timeout_ns == 0) {
		r = idle(u) ? 0 : ring_enter(u, true, 0, NULL);
	} else if (unlikely(u->memcheck)) {
		r = ring_wait_poll(u);
	} else if (timeout_ns < 0) {
		r = ring_enter(u, true, wait, NULL);
	} else {
		ts.tv_sec = timeout_ns / (int64_t)NS_PER_S;
		ts.tv_nsec = timeout_ns % (int64_t)NS_PER_S;
		r = ring_enter(u, true, wait, &ts);
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

static int add_piece(struct uring *u, void *base, size_t len)
{
	struct iovec iov = {.iov_base = base, .iov_len = len};
	__u64 tag = 0;
	unsigned at = u->region_n;
	int r;

	if (u->region_n == REGIONS_MAX)
		return -ENOSPC;
	r = io_uring_register_buffers_update_tag(&u->ring, u->region_n, &iov, &tag, 1);
	if (r < 0)
		return r;
	while (at > 0 && u->region[at - 1].base > (uintptr_t)base) {
		u->region[at] = u->region[at - 1];
		at--;
	}
	u->region[at] = (struct region){
	    .base = (uintptr_t)base,
	    .end = (uintptr_t)base + len,
	    .index = u->region_n,
	};
	u->region_n++;
	u->hit = NULL;
	return 0;
}

static int uring_add_memory(struct io *io, void *base, size_t len)
{
	static struct log_limit limit;
	struct uring *u = uring_of(io);
	size_t at = 0;
	int r = u->table_buffers ? 0 : -EOPNOTSUPP;

	while (r == 0 && at < len) {
		size_t n = len - at < REGION_BYTES ? len - at : REGION_BYTES;

		r = add_piece(u, (char *)base + at, n);
		at += n;
	}
	if (r == -ENOMEM || r == -EPERM)
		log_limited(&limit, LOG_WARN,
			    "io: %zu MiB of buffers are not registered with the kernel (%s): disk "
			    "I/O costs "
			    "more CPU. Raise the locked-memory limit: LimitMEMLOCK=infinity in the "
			    "unit file, "
			    "or ulimit -l unlimited",
			    len >> 20, strerror(-r));
	else if (r < 0)
		log_limited(&limit, LOG_WARN,
			    "io: %zu MiB of buffers are not registered with the kernel (%s): disk "
			    "I/O costs "
			    "more CPU",
			    len >> 20, strerror(-r));
	return r;
}

static int uring_add_file(struct io *io, struct io_file *pub)
{
	struct uring *u = uring_of(io);
	struct file *f = container_of(pub, struct file, pub);
	__u64 tag = 0;
	int r;

	A(pub->engine == io->engine && pub->id < IO_FILES_MAX);
	u->files_fixed &= ~(1ull << pub->id);
	if (!u->table_files)
		return 0; /* works with the plain descriptor */
	r = io_uring_register_files_update_tag(&u->ring, pub->id, &f->fd, &tag, 1);
	if (r < 0)
		return r;
	u->files_fixed |= 1ull << pub->id;
	return 0;
}

static void uring_disk(struct io *io, struct io_op *op)
{
	struct uring *u = uring_of(io);

	if (unlikely(io_disk_check(op) < 0))
		local(u, op, -EINVAL);
	else if (unlikely(op->u.disk.len == 0))
		local(u, op, 0);
	else
		start_disk(u, op);
}

static void uring_sync(struct io *io, struct io_op *op)
{
	start_disk(uring_of(io), op);
}

static void uring_discard(struct io *io, struct io_op *op)
{
	struct uring *u = uring_of(io);

	if (!op->u.disk.file->info.block_device)
		local(u, op, -EOPNOTSUPP);
	else if ((op->u.disk.off | op->u.disk.len) % op->u.disk.file->info.align != 0)
		local(u, op, -EINVAL);
	else if (op->u.disk.len == 0)
		local(u, op, 0);
	else
		start_disk(u, op);
}

static void uring_net(struct io *io, struct io_op *op)
{
	struct uring *u = uring_of(io);

	op->flags &= OP_DRAINED;
	op->data = NULL;
	A(u->bufs != NULL);
	start(u, op);
}

static void uring_recv(struct io *io, struct io_op *op)
{
	struct uring *u = uring_of(io);

	op->flags &= OP_DRAINED;
	A(op->u.net.len <= INT32_MAX);
	if (unlikely(op->u.net.len == 0))
		local(u, op, 0);
	else
		start(u, op);
}

static void uring_send(struct io *io, struct io_op *op)
{
	struct uring *u = uring_of(io);

	op->flags = 0;
	op->u.net.len = io_iov_len(&op->u.net.msg);
	if (unlikely(op->u.net.len == 0))
		local(u, op, 0);
	else
		start(u, op);
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
		send_cancel(u, op);
		break;
	case OP_WAIT:
		A(op_list_remove(&u->disk_wait, op));
		local(u, op, res);
		break;
	default:
		A(op->state == OP_BACKLOG);
		A(op_list_remove(&u->backlog, op));
		if (op->kind <= IO_DISCARD)
			disk_next(u);
		local(u, op, res);
		break;
	}
}

static void uring_free(struct uring *u)
{
	if (u->ring.ring_fd >= 0) {
		/*
		 * A registered ring descriptor is its thread's and goes with that thread; another
		 * thread would give back one of its own.
		 */
		if (u->enter_flags & IORING_ENTER_REGISTERED_RING && u->owner != gettid()) {
			u->ring.int_flags = 0;
			u->ring.enter_ring_fd = u->ring.ring_fd;
		}
		io_uring_queue_exit(&u->ring);
	}
	if (u->bufs != NULL)
		munmap(u->bufs, u->bufs_len);
	if (u->buf_base != NULL)
		munmap(u->buf_base, u->buf_base_len);
	if (u->wake_fd >= 0)
		close(u->wake_fd);
	u->magic = 0;
	free(u);
}

static void uring_close(struct io *io)
{
	struct uring *u = uring_of(io);

	A(u->in_kernel == 0 && u->disk_now == 0);
	A(u->local.head == NULL && u->backlog.head == NULL && u->disk_wait.head == NULL);
	uring_free(u);
}

static const struct io_ops uring_ops = {
    .close = uring_close,
    .turn = uring_turn,
    .wake = uring_wake,
    .add_memory = uring_add_memory,
    .add_file = uring_add_file,
    .read = uring_disk,
    .write = uring_disk,
    .sync = uring_sync,
    .discard = uring_discard,
    .accept = uring_net,
    .recv_multi = uring_net,
    .recv_some = uring_net,
    .recv = uring_recv,
    .send = uring_send,
    .cancel = uring_cancel,
};

/* ---- open -------------------------------------------------------------------------------------
 */

/* What to leave out, in this order, when the kernel does not know it; 6.1 knows all. */
static const struct {
	unsigned drop, add;
} peel[] = {
    {IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_COOP_TASKRUN},
    {IORING_SETUP_SINGLE_ISSUER, 0},
    {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, 0},
    {IORING_SETUP_SUBMIT_ALL, 0},
};

static int ring_setup(struct uring *u, unsigned entries, struct io_uring_params *p)
{
	unsigned flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
			 IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED;
	int r = -EINVAL;

	for (size_t i = 0; r == -EINVAL && i <= sizeof peel / sizeof *peel; i++) {
		if (i > 0)
			flags = (flags & ~peel[i - 1].drop) | peel[i - 1].add;
		/* Multishot requests complete many times: room for eight each. */
		*p = (struct io_uring_params){.flags = flags, .cq_entries = entries * 8};
		r = io_uring_queue_init_params(entries, &u->ring, p);
	}
	if (r < 0)
		u->ring.ring_fd = -1;
	return r;
}

static void setup_cause(int r, char **cause)
{
	struct utsname un;

	if (uname(&un) < 0)
		un.release[0] = '\0';
	switch (r) {
	case -EPERM:
	case -EACCES:
		io_cause(
		    cause,
		    "io_uring is not allowed here (%s): in a container, its seccomp profile must "
		    "allow the io_uring system calls; elsewhere, sysctl kernel.io_uring_disabled "
		    "must be 0",
		    strerror(-r));
		break;
	case -ENOSYS:
	case -EINVAL:
		io_cause(cause,
			 "this kernel (%s) has no io_uring or one that is too old: Linux 6.1 or "
			 "newer is "
			 "needed",
			 un.release);
		break;
	case -ENOMEM:
		io_cause(cause, "no memory for an io_uring ring: raise the locked-memory limit "
				"(LimitMEMLOCK=infinity in the unit file, or ulimit -l unlimited)");
		break;
	case -EMFILE:
	case -ENFILE:
		io_cause(cause, "no descriptor left for an io_uring ring: raise the limit "
				"(LimitNOFILE=65536 in "
				"the unit file, or ulimit -n 65536)");
		break;
	default:
		io_cause(cause, "io_uring cannot be set up: %s", strerror(-r));
		break;
	}
}

/* io_uring of 6.0 or newer? Multishot receive has no feature bit; SEND_ZC came with it. */
static bool new_enough(struct uring *u)
{
	struct io_uring_probe *p = io_uring_get_probe_ring(&u->ring);
	bool ok = p != NULL && io_uring_opcode_supported(p, IORING_OP_SEND_ZC);

	io_uring_free_probe(p);
	return ok;
}

static int make_buffers(struct uring *u, unsigned n, unsigned size)
{
	struct io_uring_buf_reg reg = {.ring_entries = n, .bgid = RECV_GROUP};
	void *p;
	int r;

	u->bufs_len = n * sizeof(struct io_uring_buf);
	u->buf_base_len = (size_t)n * size;
	p = mmap(NULL, u->bufs_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	u->bufs = p;
	p = mmap(NULL, u->buf_base_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	u->buf_base = p;
	reg.ring_addr = (uintptr_t)u->bufs;
	r = io_uring_register_buf_ring(&u->ring, &reg, 0);
	if (r < 0)
		return r;
	u->buf_n = n;
	u->buf_size = size;
	io_uring_buf_ring_init(u->bufs);
	for (unsigned i = 0; i < n; i++)
		io_uring_buf_ring_add(u->bufs, u->buf_base + (size_t)i * size, size,
				      (unsigned short)i, (int)(n - 1), (int)i);
	io_uring_buf_ring_advance(u->bufs, (int)n);
	return 0;
}

static void log_features(const struct uring *u, const struct io_uring_params *p)
{
	static _Atomic bool said;

	if (atomic_exchange(&said, true))
		return;
	log_info("io: io_uring, %u+%u entries a ring%s%s%s%s%s%s", p->sq_entries, p->cq_entries,
		 p->flags & IORING_SETUP_DEFER_TASKRUN ? ", deferred task work" : "",
		 p->flags & IORING_SETUP_COOP_TASKRUN ? ", cooperative task work" : "",
		 p->flags & IORING_SETUP_SINGLE_ISSUER ? ", single issuer" : "",
		 u->table_files ? ", registered files" : "",
		 u->table_buffers ? ", registered buffers" : "",
		 p->features & IORING_FEAT_NO_IOWAIT ? ", no iowait" : "");
}

static int uring_open(const struct io_engine *engine, const struct io_config *c, struct io **io,
		      char **cause)
{
	unsigned entries = c->entries != 0 ? c->entries : 512;
	unsigned buf_n = c->recv_buffers != 0 ? c->recv_buffers : 64;
	unsigned buf_size = c->recv_buffer_size != 0 ? c->recv_buffer_size : 16384;
	struct io_uring_params p;
	struct uring *u;
	int r = -ENOMEM;

	A((buf_n & (buf_n - 1)) == 0 && buf_n <= 32768);
	u = calloc(1, sizeof *u);
	if (u == NULL) {
		io_cause(cause, "no memory for an event loop");
		return r;
	}
	u->magic = URING_MAGIC;
	u->io.ops = &uring_ops;
	u->io.engine = engine;
	u->io.now_ns = clock_ns();
	u->ring.ring_fd = -1;
	u->disk_depth = c->disk_depth != 0 ? c->disk_depth : 128;
	op_list_init(&u->disk_wait);
	op_list_init(&u->backlog);
	op_list_init(&u->local);
	op_list_init(&u->cancels);
	u->memcheck = memcheck_runs();

	u->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (u->wake_fd < 0) {
		r = -errno;
		setup_cause(r, cause);
		goto fail;
	}
	r = ring_setup(u, entries, &p);
	if (r < 0) {
		setup_cause(r, cause);
		goto fail;
	}
	if (!(p.features & IORING_FEAT_EXT_ARG) || !(p.features & IORING_FEAT_NODROP) ||
	    !new_enough(u)) {
		r = -ENOSYS;
		setup_cause(r, cause);
		goto fail;
	}
	if (p.features & IORING_FEAT_NO_IOWAIT)
		u->enter_flags |= IORING_ENTER_NO_IOWAIT;
	for (unsigned i = 0; i < p.sq_entries; i++)
		u->ring.sq.array[i] = i;
	(void)io_uring_ring_dontfork(&u->ring);
	if (c->net) {
		r = make_buffers(u, buf_n, buf_size);
		if (r < 0) {
			setup_cause(r, cause);
			goto fail;
		}
	}
	/* Tables without entries yet; where they are refused we go on without. */
	u->table_files = io_uring_register_files_sparse(&u->ring, IO_FILES_MAX) == 0;
	u->table_buffers = io_uring_register_buffers_sparse(&u->ring, REGIONS_MAX) == 0;
	log_features(u, &p);
	*io = &u->io;
	return 0;

fail:
	uring_free(u);
	return r;
}

const struct io_engine io_uring_engine = {
    .name = "uring",
    .open = uring_open,
    .file_open = io_real_file_open,
    .file_close = io_real_file_close,
};
