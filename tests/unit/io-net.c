/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets through io.h on each engine: real TCP and unix sockets on this machine. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/unit/io_test.h"

struct world {
	struct io *io;
	int listener;
	struct sockaddr_in addr;
	int fds; /* open descriptors before the test */
};

static int fds_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 30000; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static int setup_with(void **state, const struct io_config *c)
{
	struct world *w = calloc(1, sizeof *w);
	socklen_t len = sizeof w->addr;
	char *cause = NULL;

	assert_non_null(w);
	w->fds = fds_open();
	assert_int_equal(io_open(engine, c, &w->io, &cause), 0);
	w->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(w->listener >= 0);
	w->addr.sin_family = AF_INET;
	w->addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(w->listener, (struct sockaddr *)&w->addr, sizeof w->addr), 0);
	assert_int_equal(listen(w->listener, 1024), 0);
	assert_int_equal(getsockname(w->listener, (struct sockaddr *)&w->addr, &len), 0);
	*state = w;
	return 0;
}

static int setup(void **state)
{
	struct io_config c = {.net = true};

	return setup_with(state, &c);
}

static int setup_few_buffers(void **state)
{
	struct io_config c = {
	    .net = true, .recv_buffers = 4, .recv_buffer_size = 1024, .entries = 16};

	return setup_with(state, &c);
}

static int teardown(void **state)
{
	struct world *w = *state;

	close(w->listener);
	io_close(&w->io);
	assert_int_equal(fds_open(), w->fds);
	free(w);
	return 0;
}

static int client(struct world *w)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&w->addr, sizeof w->addr), 0);
	return fd;
}

/* Ends an op that is still running. */
static void end(struct world *w, struct box *b)
{
	io_cancel(w->io, &b->op);
	turn_until(w->io, io_op_idle(&b->op));
}

/* A connection: *c is the test's end, blocking; returns the engine's end. */
static int pair(struct world *w, int *c)
{
	int fd;

	*c = client(w);
	fd = accept4(w->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	for (int i = 0; fd < 0 && i < 1000; i++) {
		usleep(1000);
		fd = accept4(w->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	}
	assert_true(fd >= 0);
	return fd;
}

static void accepts(void **state)
{
	struct world *w = *state;
	struct box a = {0};
	int c[8];

	io_accept(w->io, &a.op, w->listener, box_accepted);
	for (int i = 0; i < 8; i++)
		c[i] = client(w);
	turn_until(w->io, a.fd_n == 8);
	assert_int_equal(a.lasts, 0);
	for (int i = 0; i < 8; i++) {
		assert_true(fcntl(a.fd[i], F_GETFL) & O_NONBLOCK);
		assert_true(fcntl(a.fd[i], F_GETFD) & FD_CLOEXEC);
		close(a.fd[i]);
		close(c[i]);
	}
	end(w, &a);
	assert_int_equal(a.lasts, 1);
	assert_int_equal(a.res, -ECANCELED);
}

/* Out of descriptors: the accept ends with EMFILE and can be asked again later. */
static void accept_emfile(void **state)
{
	struct world *w = *state;
	struct box a = {0};
	struct rlimit old, few;
	int c = client(w), next = dup(0);

	close(next);
	if (on_valgrind()) { /* it keeps the limit to itself, the kernel never hears of it */
		close(c);
		return;
	}
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	io_accept(w->io, &a.op, w->listener, box_accepted);
	turn_until(w->io, a.lasts == 1);
	assert_int_equal(a.res, -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	io_accept(w->io, &a.op, w->listener, box_accepted);
	turn_until(w->io, a.fd_n == 1);
	close(a.fd[0]);
	close(c);
	end(w, &a);
}

static void recv_multi(void **state)
{
	struct world *w = *state;
	struct box r = {0};
	int c, s = pair(w, &c);

	io_recv_multi(w->io, &r.op, s, box_done);
	for (int i = 0; i < 100; i++) {
		char m[16];

		snprintf(m, sizeof m, "%06d\n", i);
		assert_int_equal(write(c, m, 7), 7);
		turn_until(w->io, r.got_n == (size_t)(i + 1) * 7);
	}
	assert_int_equal(r.lasts, 0);
	shutdown(c, SHUT_WR);
	turn_until(w->io, r.lasts == 1);
	assert_int_equal(r.res, 0);
	assert_memory_equal(r.got + 99 * 7, "000099\n", 7);
	close(c);
	io_sock_close(w->io, s);
	box_free(&r);
}

/* More bytes at once than there are buffers: all come, in order, by arming again. */
static void recv_multi_nobufs(void **state)
{
	struct world *w = *state;
	enum { N = 16, BYTES = 40000 };
	struct box r[N] = {0};
	int c[N], s[N];
	char *out = malloc(BYTES);

	for (int i = 0; i < BYTES; i++)
		out[i] = (char)(i * 7 + i / 251);
	for (int i = 0; i < N; i++) {
		s[i] = pair(w, &c[i]);
		assert_int_equal(write(c[i], out, BYTES), BYTES);
	}
	for (int i = 0; i < N; i++)
		io_recv_multi(w->io, &r[i].op, s[i], box_done);
	for (int i = 0; i < N; i++)
		turn_until(w->io, r[i].got_n >= BYTES);
	for (int i = 0; i < N; i++) {
		assert_int_equal(r[i].got_n, BYTES);
		assert_memory_equal(r[i].got, out, BYTES);
		assert_int_equal(r[i].lasts, 0);
		close(c[i]);
		turn_until(w->io, r[i].lasts == 1);
		assert_int_equal(r[i].res, 0);
		io_sock_close(w->io, s[i]);
		box_free(&r[i]);
	}
	if (on_uring())
		assert_true(counter(&w->io->count.recv_nobufs) > 0);
	free(out);
}

static void recv_some(void **state)
{
	struct world *w = *state;
	struct box r = {0};
	int c, s = pair(w, &c);

	io_recv_some(w->io, &r.op, s, 5, box_done);
	assert_int_equal(io_turn(w->io, 0), 0);
	assert_int_equal(write(c, "hello world", 11), 11);
	turn_until(w->io, r.lasts == 1);
	assert_int_equal(r.res, 5);
	io_recv_some(w->io, &r.op, s, 1000, box_done);
	turn_until(w->io, r.lasts == 2);
	assert_int_equal(r.res, 6);
	assert_memory_equal(r.got, "hello world", 11);
	close(c);
	io_recv_some(w->io, &r.op, s, 1000, box_done);
	turn_until(w->io, r.lasts == 3);
	assert_int_equal(r.res, 0);
	io_sock_close(w->io, s);
	box_free(&r);
}

/* Single receives on many sockets, few buffers. */
static void recv_some_nobufs(void **state)
{
	struct world *w = *state;
	enum { N = 32 };
	struct box r[N] = {0};
	int c[N], s[N];

	for (int i = 0; i < N; i++) {
		s[i] = pair(w, &c[i]);
		assert_int_equal(write(c[i], "abcdef", 6), 6);
	}
	for (int i = 0; i < N; i++)
		io_recv_some(w->io, &r[i].op, s[i], 100, box_done);
	for (int i = 0; i < N; i++) {
		turn_until(w->io, r[i].lasts == 1);
		assert_int_equal(r[i].res, 6);
		assert_memory_equal(r[i].got, "abcdef", 6);
		close(c[i]);
		io_sock_close(w->io, s[i]);
		box_free(&r[i]);
	}
	if (on_uring())
		assert_true(counter(&w->io->count.recv_nobufs) > 0);
}

/*
 * Hundreds that have data at once, few buffers: who finds none waits in line, and is not asked for in vain each
 * turn. Those in line can be cancelled.
 */
static void recv_in_line(void **state)
{
	struct world *w = *state;
	enum { N = 200 };
	struct box r[N] = {0};
	int c[N], s[N];
	uint64_t vain;

	for (int i = 0; i < N; i++) {
		s[i] = pair(w, &c[i]);
		io_recv_multi(w->io, &r[i].op, s[i], box_done);
	}
	assert_true(io_turn(w->io, 0) >= 0);
	for (int i = 0; i < N; i++)
		assert_int_equal(write(c[i], "abcdef", 6), 6);
	for (int i = 0; i < N; i++)
		turn_until(w->io, r[i].got_n == 6);
	vain = counter(&w->io->count.recv_nobufs);
	if (vain > 2 * N)
		fail_msg("%llu receives found no buffer, of %d", (unsigned long long)vain, N);

	for (int i = 0; i < N; i++)
		assert_int_equal(write(c[i], "ghijkl", 6), 6);
	assert_true(io_turn(w->io, 0) >= 0);
	for (int i = 0; i < N; i++)
		io_cancel(w->io, &r[i].op);
	for (int i = 0; i < N; i++) {
		turn_until(w->io, r[i].lasts == 1);
		assert_int_equal(r[i].res, -ECANCELED);
		assert_true(r[i].got_n == 6 || r[i].got_n == 12);
		close(c[i]);
		io_sock_close(w->io, s[i]);
		box_free(&r[i]);
	}
	if (on_uring())
		assert_true(vain > 0);
}

static void recv_whole(void **state)
{
	struct world *w = *state;
	struct box r = {0};
	char buf[1000] = {0}, out[1000];
	int c, s = pair(w, &c);

	for (int i = 0; i < 1000; i++)
		out[i] = (char)i;
	io_recv(w->io, &r.op, s, buf, 1000, box_done);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(write(c, out + i * 100, 100), 100);
		if (i == 9)
			break; /* now it may end at any time */
		assert_true(io_turn(w->io, NS_PER_MS) >= 0);
		assert_int_equal(r.calls, 0);
	}
	turn_until(w->io, r.lasts == 1);
	assert_int_equal(r.calls, 1);
	assert_int_equal(r.res, 1000);
	assert_memory_equal(buf, out, 1000);

	io_recv(w->io, &r.op, s, buf, 1000, box_done); /* the stream ends in between */
	assert_int_equal(write(c, "tail", 4), 4);
	assert_true(io_turn(w->io, NS_PER_MS) >= 0);
	close(c);
	turn_until(w->io, r.lasts == 2);
	assert_int_equal(r.res, 4);
	assert_memory_equal(buf, "tail", 4);
	io_sock_close(w->io, s);
}

/* Bytes on their way from c to s that nobody has received; with those that s has and nobody has read. */
static int untaken(int c, int s)
{
	int sent = 0, here = 0;

	assert_int_equal(ioctl(c, SIOCOUTQ, &sent), 0);
	assert_int_equal(ioctl(s, FIONREAD, &here), 0);
	return sent + here;
}

/* A cancelled io_recv() gives the count of what it took from the socket: no byte is lost. */
static void recv_cancel_keeps_bytes(void **state)
{
	struct world *w = *state;
	struct box r = {0};
	char buf[1000] = {0};
	int c, s = pair(w, &c);

	io_recv(w->io, &r.op, s, buf, 1000, box_done);
	assert_int_equal(write(c, "0123456789", 10), 10);
	turn_until(w->io, untaken(c, s) == 0);
	io_cancel(w->io, &r.op);
	turn_until(w->io, r.lasts == 1);
	assert_int_equal(r.res, 10);
	assert_memory_equal(buf, "0123456789", 10);
	io_recv(w->io, &r.op, s, buf, 3, box_done);
	assert_int_equal(write(c, "abc", 3), 3);
	turn_until(w->io, r.lasts == 2);
	assert_memory_equal(buf, "abc", 3);
	io_recv(w->io, &r.op, s, buf, 3, box_done);
	io_cancel(w->io, &r.op); /* before the kernel has seen it */
	turn_until(w->io, r.lasts == 3);
	assert_int_equal(r.res, 0);
	close(c);
	io_sock_close(w->io, s);
}

/* A reader that is slower than the sender: one done(), with every byte. */
static void send_slow_reader(void **state)
{
	struct world *w = *state;
	enum { N = 3 << 20 };
	struct box b = {0};
	char *out = malloc(N), *in = malloc(N);
	int c, s = pair(w, &c), small = 8192;
	size_t got = 0;
	struct iovec iov[3] = {{out, 1000}, {out + 1000, 2 << 20}, {out + 1000 + (2 << 20), 0}};

	iov[2].iov_len = N - 1000 - (2 << 20);
	for (int i = 0; i < N; i++)
		out[i] = (char)(i * 13 + i / 1021);
	setsockopt(s, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
	io_send(w->io, &b.op, s, iov, 3, box_done);
	while (got < N) {
		ssize_t n = recv(c, in + got, N - got < 50000 ? N - got : 50000, MSG_DONTWAIT);

		if (n > 0)
			got += (size_t)n;
		assert_true(io_turn(w->io, NS_PER_MS / 10) >= 0);
	}
	turn_until(w->io, b.lasts == 1);
	assert_int_equal(b.calls, 1);
	assert_int_equal(b.res, N);
	assert_memory_equal(in, out, N);
	iov[0] = (struct iovec){out, 100};
	io_send(w->io, &b.op, s, iov, 1, box_done);
	turn_until(w->io, b.lasts == 2);
	assert_int_equal(b.res, 100);
	io_send(w->io, &b.op, s, iov, 0, box_done);
	assert_int_equal(b.lasts, 2);
	turn_until(w->io, b.lasts == 3);
	assert_int_equal(b.res, 0);
	close(c);
	io_sock_close(w->io, s);
	free(in);
	free(out);
}

static void send_cancelled(void **state)
{
	struct world *w = *state;
	enum { N = 16 << 20 };
	struct box b = {0};
	char *out = calloc(1, N);
	struct iovec iov[2] = {{out, N / 2}, {out + N / 2, N / 2}};
	int c, s;

	for (unsigned n = 1; n <= 2; n++) {
		s = pair(w, &c);
		iov[0] = (struct iovec){out, N / 2};
		io_send(w->io, &b.op, s, iov, n, box_done);
		assert_int_equal(io_turn(w->io, 10 * NS_PER_MS), 0);
		io_cancel(w->io, &b.op);
		turn_until(w->io, b.lasts == (int)n);
		assert_int_equal(b.res, -ECANCELED);
		close(c);
		io_sock_close(w->io, s);
	}
	free(out);
}

/* Long sends go a few a turn, in order; one that still waits is cancelled without a byte sent. */
/* A read is under way: of many large sends only a few go in the same turn. */
static void sends_take_turns(void **state)
{
	struct world *w = *state;
	enum { N = 6, LEN = 40 << 10 };
	struct box b[N] = {0}, r = {0};
	struct iovec iov[N];
	char *out = calloc(1, LEN), *in = malloc(LEN), *cause = NULL;
	char path[] = "/var/tmp/io-net-XXXXXX";
	int c[N], s[N], fd = mkstemp(path);
	struct io_file *f;
	void *page = NULL;

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(posix_memalign(&page, 4096, 4096), 0);
	assert_int_equal(engine->file_open(engine, path, 1 << 20, &f, &cause), 0);
	assert_int_equal(io_add_file(w->io, f), 0);
	for (int i = 0; i < N; i++) {
		s[i] = pair(w, &c[i]);
		iov[i] = (struct iovec){out, LEN};
	}
	for (int i = 0; i < N; i++)
		io_send(w->io, &b[i].op, s[i], &iov[i], 1, box_done);
	io_cancel(w->io, &b[N - 1].op);
	assert_int_equal(b[N - 1].calls, 0);
	io_read(w->io, &r.op, f, page, 4096, 0, box_done);
	assert_true(io_turn(w->io, NS_PER_MS) >= 0);
	assert_int_equal(b[2].lasts + b[3].lasts + b[4].lasts, 0);
	for (int i = 0; i < N; i++) {
		ssize_t want = i == N - 1 ? -1 : LEN;

		turn_until(w->io, b[i].lasts == 1);
		assert_int_equal(b[i].calls, 1);
		assert_int_equal(b[i].res, i == N - 1 ? -ECANCELED : LEN);
		assert_int_equal(recv(c[i], in, LEN, want < 0 ? MSG_DONTWAIT : MSG_WAITALL), want);
	}
	turn_until(w->io, r.lasts == 1);
	assert_int_equal(r.res, 4096);
	for (int i = 0; i < N; i++) {
		close(c[i]);
		io_sock_close(w->io, s[i]);
	}
	engine->file_close(f);
	unlink(path);
	free(page);
	free(out);
	free(in);
}

/* Of sends that go together each has its own end: one cannot be sent, one does not fit yet, one is cancelled. */
static void sends_together(void **state)
{
	struct world *w = *state;
	enum { N = 40, LEN = 3 << 20, BROKEN = 1, LONG = 2, ENDED = 3 };
	struct box b[N] = {0};
	struct iovec iov[N][2];
	char *out = malloc(LEN), *in = malloc(LEN);
	int c[N], s[N], small = 8192;
	size_t got = 0;

	for (int i = 0; i < LEN; i++)
		out[i] = (char)(i * 11 + i / 997);
	for (int i = 0; i < N; i++) {
		size_t len = i == LONG || i == ENDED ? LEN : 1000 + (size_t)i;

		s[i] = pair(w, &c[i]);
		if (len == LEN)
			setsockopt(s[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
		iov[i][0] = (struct iovec){out, 10};
		iov[i][1] = (struct iovec){out + 10, len - 10};
	}
	shutdown(s[BROKEN], SHUT_WR);
	for (int i = 0; i < N; i++)
		io_send(w->io, &b[i].op, s[i], iov[i], 2, box_done);
	assert_true(io_turn(w->io, NS_PER_MS) >= 0);
	assert_true(io_turn(w->io, NS_PER_MS) >= 0);
	io_cancel(w->io, &b[ENDED].op);
	for (int i = 0; i < N; i++)
		if (i != LONG)
			turn_until(w->io, b[i].lasts == 1);
	assert_int_equal(b[LONG].calls, 0);
	while (got < LEN) {
		ssize_t n = recv(c[LONG], in + got, LEN - got, MSG_DONTWAIT);

		if (n > 0)
			got += (size_t)n;
		assert_true(io_turn(w->io, NS_PER_MS / 10) >= 0);
	}
	turn_until(w->io, b[LONG].lasts == 1);
	assert_memory_equal(in, out, LEN);
	for (int i = 0; i < N; i++) {
		int want = i == BROKEN  ? -EPIPE
			   : i == ENDED ? -ECANCELED
			   : i == LONG  ? LEN
					: 1000 + i;

		assert_int_equal(b[i].calls, 1);
		assert_int_equal(b[i].res, want);
		if (want > 0 && want != LEN) {
			assert_int_equal(recv(c[i], in, LEN, MSG_DONTWAIT), want);
			assert_memory_equal(in, out, (size_t)want);
		}
		close(c[i]);
		io_sock_close(w->io, s[i]);
	}
	free(out);
	free(in);
}

static void send_broken(void **state)
{
	struct world *w = *state;
	struct box b = {0}, r = {0};
	char x[100] = {0};
	struct iovec iov = {x, sizeof x};
	struct linger now = {.l_onoff = 1};
	int c, s = pair(w, &c);

	shutdown(s, SHUT_WR);
	io_send(w->io, &b.op, s, &iov, 1, box_done); /* and no SIGPIPE */
	turn_until(w->io, b.lasts == 1);
	assert_int_equal(b.res, -EPIPE);
	close(c);
	io_sock_close(w->io, s);

	s = pair(w, &c);
	io_recv_multi(w->io, &r.op, s, box_done);
	assert_int_equal(io_turn(w->io, 0), 0);
	setsockopt(c, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(c); /* a reset */
	turn_until(w->io, r.lasts == 1);
	assert_int_equal(r.res, -ECONNRESET);
	io_sock_close(w->io, s);
}

static void cancel_every_kind(void **state)
{
	struct world *w = *state;
	struct box b[4] = {0};
	char buf[10] = {0};
	int c, s = pair(w, &c);

	for (int before = 0; before < 2; before++) {
		io_accept(w->io, &b[0].op, w->listener, box_accepted);
		io_recv_multi(w->io, &b[1].op, s, box_done);
		io_recv_some(w->io, &b[2].op, s, 10, box_done);
		io_recv(w->io, &b[3].op, s, buf, 10, box_done);
		if (before == 0)
			assert_int_equal(io_turn(w->io, NS_PER_MS), 0);
		for (int i = 0; i < 4; i++)
			io_cancel(w->io, &b[i].op);
		for (int i = 0; i < 4; i++) {
			turn_until(w->io, b[i].lasts == before + 1);
			assert_int_equal(b[i].calls, before + 1);
			assert_int_equal(b[i].res, i == 3 ? 0 : -ECANCELED);
		}
	}
	close(c);
	io_sock_close(w->io, s);
}

/* Before the first turn nothing can be handed to the kernel: ops and cancels queue in the engine.
 */
static void cancel_in_backlog(void **state)
{
	struct world *w = *state;
	enum { N = 100 };
	struct box b[N] = {0};
	int c, s = pair(w, &c);

	for (int i = 0; i < N; i++)
		io_recv_multi(w->io, &b[i].op, s, box_done);
	for (int i = 0; i < N; i += 2)
		io_cancel(w->io, &b[i].op);
	for (int i = 0; i < N; i += 2) {
		turn_until(w->io, b[i].lasts == 1);
		assert_int_equal(b[i].res, -ECANCELED);
		assert_int_equal(b[i].calls, 1);
	}
	for (int i = 1; i < N; i += 2)
		assert_int_equal(b[i].calls, 0);
	close(c);
	for (int i = 1; i < N; i += 2) {
		turn_until(w->io, b[i].lasts == 1);
		assert_int_equal(b[i].res, 0);
	}
	io_sock_close(w->io, s);
}

/* shutdown(2) ends what is in flight; the descriptor is closed after the last done(). */
static void shutdown_in_flight(void **state)
{
	struct world *w = *state;
	struct box r = {0}, b = {0};
	char *out = calloc(1, 16 << 20);
	struct iovec iov = {out, 16 << 20};
	int c, s = pair(w, &c);

	io_recv_multi(w->io, &r.op, s, box_done);
	io_send(w->io, &b.op, s, &iov, 1, box_done);
	assert_int_equal(io_turn(w->io, NS_PER_MS), 0);
	shutdown(s, SHUT_RDWR);
	turn_until(w->io, r.lasts == 1 && b.lasts == 1);
	assert_int_equal(r.res, 0);
	assert_int_equal(b.res, -EPIPE);
	io_sock_close(w->io, s);
	close(c);
	free(out);
}

static void unix_sockets(void **state)
{
	struct world *w = *state;
	struct box r = {0}, b = {0};
	char buf[5] = {0};
	struct iovec iov[2] = {{(char *)"ab", 2}, {(char *)"cde", 3}};
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	io_recv(w->io, &r.op, sv[0], buf, 5, box_done);
	io_send(w->io, &b.op, sv[1], iov, 2, box_done);
	turn_until(w->io, r.lasts == 1 && b.lasts == 1);
	assert_int_equal(b.res, 5);
	assert_memory_equal(buf, "abcde", 5);
	io_sock_close(w->io, sv[0]);
	io_sock_close(w->io, sv[1]);
}

/* More completions before one turn than the completion queue holds: none is lost. */
static void overflow(void **state)
{
	struct world *w = *state;
	enum { N = 500 };
	struct box *b = calloc(N, sizeof *b);
	struct iovec *iov = calloc(N, sizeof *iov);
	int sv[2], done = 0, taken = 0;
	char c = 'x';

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(io_turn(w->io, 0), 0);
	for (int i = 0; i < N; i++) {
		iov[i] = (struct iovec){&c, 1};
		io_send(w->io, &b[i].op, sv[0], &iov[i], 1, box_done);
	}
	while (done < N) {
		char sink[N];
		int n = io_turn(w->io, NS_PER_S);

		assert_true(n > 0);
		done += n;
		/* a turn brings a few of the completions; all bytes may have come before */
		taken += recv(sv[1], sink, sizeof sink, MSG_DONTWAIT) > 0;
	}
	for (int i = 0; i < N; i++) {
		assert_int_equal(b[i].lasts, 1);
		assert_int_equal(b[i].res, 1);
	}
	assert_true(taken > 0);
	if (on_uring())
		assert_true(counter(&w->io->count.overflows) > 0);
	io_sock_close(w->io, sv[0]);
	io_sock_close(w->io, sv[1]);
	free(iov);
	free(b);
}

/* Ten thousand idle receives (or as many as descriptors allow) cost nothing, and all end when they
 * are cancelled. */
static void idle_crowd(void **state)
{
	struct world *w = *state;
	enum { MOST = 10000, LEAST = 1000 };
	struct box *r = calloc(MOST, sizeof *r);
	int(*sv)[2] = calloc(MOST, sizeof *sv), N = 0, left;
	struct rusage u0, u1;
	struct rlimit lim;
	uint64_t t0, cpu;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
	lim.rlim_cur = 2 * MOST + 100;
	if (lim.rlim_max < lim.rlim_cur)
		lim.rlim_max = lim.rlim_cur;
	if (setrlimit(RLIMIT_NOFILE, &lim) < 0) { /* only root may raise the hard limit */
		assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
		lim.rlim_cur = lim.rlim_max;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
	}
	while (N < (on_valgrind() ? LEAST : MOST) &&
	       socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv[N]) == 0)
		N++;
	assert_true(N >= LEAST);
	for (int i = 0; i < N; i++)
		io_recv_multi(w->io, &r[i].op, sv[i][0], box_done);
	for (int i = 0; i < 10; i++)
		assert_int_equal(io_turn(w->io, NS_PER_MS), 0);
	getrusage(RUSAGE_SELF, &u0);
	t0 = clock_ns();
	assert_int_equal(io_turn(w->io, 300 * NS_PER_MS), 0);
	assert_true(clock_ns() - t0 >= 290 * NS_PER_MS);
	getrusage(RUSAGE_SELF, &u1);
	cpu = (uint64_t)(u1.ru_utime.tv_usec - u0.ru_utime.tv_usec + u1.ru_stime.tv_usec -
			 u0.ru_stime.tv_usec) +
	      1000000u * (uint64_t)(u1.ru_utime.tv_sec - u0.ru_utime.tv_sec + u1.ru_stime.tv_sec -
				    u0.ru_stime.tv_sec);
	assert_true(cpu < 60000); /* of 300,000 us: nothing turns while nothing happens */
	for (int i = 0; i < N; i += 100)
		assert_int_equal(write(sv[i][1], "x", 1), 1);
	for (int i = 0; i < N; i += 100)
		turn_until(w->io, r[i].got_n == 1);
	for (int i = 0; i < N; i++)
		io_cancel(w->io, &r[i].op);
	left = N;
	for (t0 = clock_ns(); left > 0 && clock_ns() - t0 < 10 * NS_PER_S;) {
		assert_true(io_turn(w->io, 10 * NS_PER_MS) >= 0);
		left = 0;
		for (int i = 0; i < N; i++)
			left += !io_op_idle(&r[i].op);
	}
	assert_int_equal(left, 0);
	for (int i = 0; i < N; i++) {
		assert_int_equal(r[i].lasts, 1);
		assert_int_equal(r[i].res, -ECANCELED);
		io_sock_close(w->io, sv[i][0]);
		close(sv[i][1]);
		box_free(&r[i]);
	}
	free(r);
	free(sv);
}

#define on(f)  cmocka_unit_test_setup_teardown(f, setup, teardown)
#define few(f) cmocka_unit_test_setup_teardown(f, setup_few_buffers, teardown)

static int group(const char *name)
{
	const struct CMUnitTest tests[] = {
	    on(accepts),
	    on(accept_emfile),
	    on(recv_multi),
	    few(recv_multi),
	    few(recv_multi_nobufs),
	    on(recv_some),
	    few(recv_some_nobufs),
	    few(recv_in_line),
	    on(recv_whole),
	    on(recv_cancel_keeps_bytes),
	    on(send_slow_reader),
	    few(send_slow_reader),
	    on(send_cancelled),
	    on(send_broken),
	    on(cancel_every_kind),
	    on(shutdown_in_flight),
	    on(unix_sockets),
	    few(cancel_in_backlog),
	    few(overflow),
	    on(idle_crowd),
	    few(idle_crowd),
	    on(sends_take_turns),
	    on(sends_together),
	};

	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
	int failed = run_on_engines("io-net", group);

	/* with the signal ignored, as the daemon has it, libevent's sends go many at a time */
	signal(SIGPIPE, SIG_IGN);
	return failed + group("io-net on libevent, sends in batches");
}
