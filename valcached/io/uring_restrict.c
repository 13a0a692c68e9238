/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a ring may be asked for once it is enabled: the requests, their flags and the calls of io_uring_register(2)
 * that this engine makes, and nothing else. A seccomp filter sees io_uring_enter(2) only, not the requests; a
 * process in a stranger's hands would open files and make connections by them. The kernel holds this list
 * for as long as the ring lives; nobody can take a line of it back.
 *
 * Left in: an entry of the table of files, for a path that is brought back, and one of the table of buffers,
 * whose pieces are registered when they are first used.
 */
#include "valcached/io/uring_int.h"

#define LINES_MAX 24u

struct list {
	struct io_uring_restriction line[LINES_MAX];
	unsigned n;
};

static void request(struct list *l, unsigned opcode)
{
	A(l->n < LINES_MAX);
	l->line[l->n++] = (struct io_uring_restriction){.opcode = IORING_RESTRICTION_SQE_OP,
							.sqe_op = (__u8)opcode};
}

static void call(struct list *l, unsigned opcode)
{
	A(l->n < LINES_MAX);
	l->line[l->n++] = (struct io_uring_restriction){.opcode = IORING_RESTRICTION_REGISTER_OP,
							.register_op = (__u8)opcode};
}

static void flags(struct list *l, unsigned allowed)
{
	A(l->n < LINES_MAX);
	l->line[l->n++] = (struct io_uring_restriction){
	    .opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = (__u8)allowed};
}

int uring_restrict(struct uring *u)
{
	struct list l = {.n = 0};

	flags(&l, IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS);
	call(&l, IORING_REGISTER_FILES_UPDATE2);
	call(&l, IORING_REGISTER_BUFFERS_UPDATE);
	call(&l, IORING_UNREGISTER_RING_FDS); /* liburing's, when the ring is closed */
	request(&l, IORING_OP_POLL_ADD);      /* io_wake() */
	request(&l, IORING_OP_ASYNC_CANCEL);
	request(&l, IORING_OP_READ);
	request(&l, IORING_OP_READ_FIXED);
	request(&l, IORING_OP_WRITE);
	request(&l, IORING_OP_WRITE_FIXED);
	request(&l, IORING_OP_FSYNC);
	if (u->devices) {
		request(&l, IORING_OP_URING_CMD);
		request(&l, IORING_OP_FALLOCATE);
	}
	if (u->bufs != NULL) { /* io_config.net */
		request(&l, IORING_OP_ACCEPT);
		request(&l, IORING_OP_RECV);
		request(&l, IORING_OP_SEND);
		request(&l, IORING_OP_SENDMSG);
	}
	/* liburing 2.3 declares a function for this and does not export it */
	return io_uring_register((unsigned)u->ring.ring_fd, IORING_REGISTER_RESTRICTIONS, l.line,
				 l.n);
}
