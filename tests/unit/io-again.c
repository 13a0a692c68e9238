/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A send or receive of the io_uring engine that the kernel gives up with EAGAIN, again and again, is made again
 * and comes to its end: a busy kernel says so many times for one request. Here it is made to, by MSG_DONTWAIT in
 * requests of the socket under test on their way into the kernel, which then does not wait for room or bytes.
 */
#include <sys/socket.h>
#include <sys/syscall.h>

#include "tests/unit/io_test.h"
#include "valcached/io/uring_int.h"

#define TIMES 40u /* above what op_retry() allows */
#define BIG   (8u << 20)

struct world {
	struct io *io;
	int ours, theirs; /* a connection: the engine's end, the test's */
	struct box b;
};

static struct uring *ring;
static const struct io_op *victim;
static unsigned left; /* so many of its requests are refused */

/* In the place of liburing's. */
int io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags, sigset_t *sig,
		    size_t size)
{
	const struct io_uring_sq *sq = ring != NULL ? &ring->ring.sq : NULL;
	long r;

	if (sq != NULL)
		for (unsigned i = *sq->khead; i != sq->sqe_tail; i++) {
			struct io_uring_sqe *sqe = &sq->sqes[i & sq->ring_mask];

			if (left == 0 || sqe->user_data != (uintptr_t)victim)
				continue;
			sqe->msg_flags |= MSG_DONTWAIT;
			left--;
		}
	r = syscall(__NR_io_uring_enter, fd, submit, wait, flags, sig, size);
	return r < 0 ? -errno : (int)r;
}

static int setup(void **state)
{
	struct io_config c = {.net = true};
	struct world *w = calloc(1, sizeof *w);
	char *cause = NULL;
	int fd[2], small = 4096;

	assert_non_null(w);
	assert_int_equal(io_open(&io_uring_engine, &c, &w->io, &cause), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
	assert_int_equal(setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
	w->ours = fd[0];
	w->theirs = fd[1];
	ring = container_of(w->io, struct uring, io);
	victim = &w->b.op;
	left = TIMES;
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	left = 0;
	if (!io_op_idle(&w->b.op))
		io_cancel(w->io, &w->b.op);
	turn_until(w->io, io_op_idle(&w->b.op));
	ring = NULL;
	io_sock_close(w->io, w->ours);
	close(w->theirs);
	io_close(&w->io);
	box_free(&w->b);
	free(w);
	return 0;
}

/* All refusals are used up, and the operation is still under way. */
static void refused(struct world *w)
{
	turn_until(w->io, left == 0);
	for (int i = 0; i < 3; i++)
		assert_true(io_turn(w->io, 0) >= 0);
	assert_int_equal(w->b.calls, 0);
	assert_true(counter(&w->io->count.retries) >= TIMES);
}

static char byte_at(uint32_t i)
{
	return (char)(i * 2654435761u >> 24);
}

/* All of a long answer arrives, in order, once its client takes it. */
static void send_some(void **state, unsigned pieces)
{
	struct world *w = *state;
	char *out = malloc(BIG), in[65536] = {0};
	struct iovec iov[2];
	uint32_t at = 0;

	assert_non_null(out);
	while (send(w->ours, in, sizeof in, 0) > 0) /* no room from the first request on */
		;
	for (uint32_t i = 0; i < BIG; i++)
		out[i] = byte_at(i);
	iov[0] = (struct iovec){out, pieces == 1 ? BIG : 1000};
	iov[1] = (struct iovec){out + 1000, BIG - 1000};
	io_send(w->io, &w->b.op, w->ours, iov, pieces, box_done);
	refused(w);
	while (recv(w->theirs, in, sizeof in, 0) > 0)
		;
	while (at < BIG) {
		ssize_t n = recv(w->theirs, in, sizeof in, 0);

		for (ssize_t i = 0; i < n; i++, at++)
			if (in[i] != byte_at(at))
				fail_msg("byte %u is %d, not %d", at, in[i], byte_at(at));
		assert_true(io_turn(w->io, 0) >= 0);
		assert_true(w->b.calls == 0 || w->b.res == (int32_t)BIG);
	}
	turn_until(w->io, w->b.calls == 1);
	assert_int_equal(w->b.res, BIG);
	free(out);
}

static void send_one(void **state)
{
	send_some(state, 1);
}

static void send_two(void **state)
{
	send_some(state, 2);
}

static void recv_multi(void **state)
{
	struct world *w = *state;

	io_recv_multi(w->io, &w->b.op, w->ours, box_done);
	refused(w);
	assert_int_equal(send(w->theirs, "hello", 5, 0), 5);
	turn_until(w->io, w->b.calls == 1);
	assert_int_equal(w->b.res, 5);
	assert_memory_equal(w->b.got, "hello", 5);
	io_cancel(w->io, &w->b.op);
	turn_until(w->io, io_op_idle(&w->b.op));
}

static void recv_some(void **state)
{
	struct world *w = *state;

	io_recv_some(w->io, &w->b.op, w->ours, 100, box_done);
	refused(w);
	assert_int_equal(send(w->theirs, "hello", 5, 0), 5);
	turn_until(w->io, w->b.calls == 1);
	assert_int_equal(w->b.res, 5);
	assert_memory_equal(w->b.got, "hello", 5);
}

static void recv_all(void **state)
{
	struct world *w = *state;
	char to[10];

	io_recv(w->io, &w->b.op, w->ours, to, sizeof to, box_done);
	refused(w);
	assert_int_equal(send(w->theirs, "01234", 5, 0), 5);
	assert_int_equal(send(w->theirs, "56789", 5, 0), 5);
	turn_until(w->io, w->b.calls == 1);
	assert_int_equal(w->b.res, 10);
	assert_memory_equal(to, "0123456789", 10);
}

/* One that is cancelled meanwhile ends, and is not made again. */
static void cancelled(void **state)
{
	struct world *w = *state;
	static char out[BIG];
	struct iovec iov = {out, BIG};

	left = UINT32_MAX;
	io_send(w->io, &w->b.op, w->ours, &iov, 1, box_done);
	turn_until(w->io, left < UINT32_MAX - TIMES);
	io_cancel(w->io, &w->b.op);
	turn_until(w->io, io_op_idle(&w->b.op));
	assert_int_equal(w->b.calls, 1);
	assert_int_equal(w->b.res, -ECANCELED);
}

#define on(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    on(send_one), on(send_two), on(recv_multi), on(recv_some), on(recv_all), on(cancelled),
	};

	return cmocka_run_group_tests_name("io: EAGAIN", tests, NULL, NULL);
}
