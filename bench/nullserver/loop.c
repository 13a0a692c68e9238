/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring of a null worker; see loop.h.
 *
 * 1. Each connection has one multishot receive armed and at most one send in flight.
 * 2. What is owed to a connection is a number of bytes of the endless repetition of one reply:
 *    requests that arrive while a send is in flight add to it, so N requests cost one send. Each
 *    send takes its replies from a random place of the working set, as a cache would.
 * 3. A receive buffer goes back to the ring as soon as its lines were counted.
 * 4. A connection is freed when its receive has ended and no send is in flight.
 *
 * Bodies are received and not discarded in the kernel (MSG_TRUNC): a cache must have the bytes, so
 * the bound must pay for the copy too.
 */
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "bench/nullserver/loop.h"

#define SQ_ENTRIES 1024
#define CQ_ENTRIES 8192
#define FILES      16384
#define GROUP      0

enum tag { TAG_RECV = 0, TAG_SEND = 1, TAG_INBOX = 2, TAG_MASK = 7 };

struct peer {
	int fd;
	bool receiving, sending, closing;
	uint64_t owed;      /* bytes of replies not yet sent */
	size_t reply_at;    /* where in a reply the next byte is */
	uint64_t body_left; /* sink: of the value and its \r\n */
	uint64_t number;    /* sink: the last number of the line so far */
};

struct loop {
	struct loop_config cfg;
	struct io_uring ring;
	struct io_uring_buf_ring *bufs;
	uint8_t *memory;
	int inbox[2]; /* a pipe of descriptors; [1] is the main thread's end */
	int incoming;
	int fixed; /* sockets below this number are in the ring's file table, at that number */
	uint64_t rng;
	pthread_t thread;
};

static struct io_uring_sqe *get_sqe(struct loop *l)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&l->ring);

	if (sqe == NULL) {
		A(io_uring_submit(&l->ring) >= 0);
		sqe = io_uring_get_sqe(&l->ring);
	}
	AN(sqe);
	return sqe;
}

static void set_tag(struct io_uring_sqe *sqe, void *p, enum tag tag)
{
	io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)p | tag);
}

static void use_socket(struct loop *l, struct io_uring_sqe *sqe, const struct peer *c)
{
	if (c->fd < l->fixed)
		sqe->flags |= IOSQE_FIXED_FILE;
}

static void arm_recv(struct loop *l, struct peer *c)
{
	struct io_uring_sqe *sqe = get_sqe(l);

	io_uring_prep_recv_multishot(sqe, c->fd, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	use_socket(l, sqe, c);
	sqe->buf_group = GROUP;
	set_tag(sqe, c, TAG_RECV);
	c->receiving = true;
}

static void arm_send(struct loop *l, struct peer *c)
{
	struct io_uring_sqe *sqe;
	size_t from, n;

	if (c->sending || c->closing || c->owed == 0)
		return;
	/* xorshift64: any reply of the working set will do, they are all alike */
	l->rng ^= l->rng << 13;
	l->rng ^= l->rng >> 7;
	l->rng ^= l->rng << 17;
	from = (size_t)(l->rng % l->cfg.starts) * l->cfg.reply_len + c->reply_at;
	n = l->cfg.replies_len - from;
	if (c->owed < n)
		n = (size_t)c->owed;
	sqe = get_sqe(l);
	io_uring_prep_send(sqe, c->fd, l->cfg.replies + from, n, MSG_NOSIGNAL | MSG_WAITALL);
	use_socket(l, sqe, c);
	set_tag(sqe, c, TAG_SEND);
	c->sending = true;
}

static void arm_inbox(struct loop *l)
{
	struct io_uring_sqe *sqe = get_sqe(l);

	io_uring_prep_read(sqe, l->inbox[0], &l->incoming, sizeof l->incoming, 0);
	set_tag(sqe, NULL, TAG_INBOX);
}

static void put_buffer(struct loop *l, unsigned bid)
{
	io_uring_buf_ring_add(l->bufs, l->memory + (size_t)bid * l->cfg.buffer_size,
			      l->cfg.buffer_size, (unsigned short)bid, (int)l->cfg.buffers - 1, 0);
	io_uring_buf_ring_advance(l->bufs, 1);
}

static void close_when_quiet(struct loop *l, struct peer *c)
{
	int none = -1;
	if (!c->closing) {
		c->closing = true;
		shutdown(c->fd, SHUT_RDWR); /* ends a receive that is still armed */
	}
	if (c->receiving || c->sending)
		return;
	if (c->fd < l->fixed)
		io_uring_register_files_update(&l->ring, (unsigned)c->fd, &none, 1);
	close(c->fd);
	free(c);
}

static uint64_t count_lines(const uint8_t *p, size_t n)
{
	const uint8_t *end = p + n;
	uint64_t lines = 0;

	while ((p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		lines++;
		p++;
	}
	return lines;
}

/* The last number of a line is the length of the body that follows it, without its \r\n. */
static uint64_t swallow(struct peer *c, const uint8_t *p, size_t n)
{
	const uint8_t *end = p + n;
	uint64_t done = 0;

	while (p < end) {
		if (c->body_left > 0) {
			uint64_t part = (uint64_t)(end - p);

			if (part > c->body_left)
				part = c->body_left;
			p += part;
			c->body_left -= part;
			done += c->body_left == 0;
			continue;
		}
		if (*p >= '0' && *p <= '9') {
			c->number = c->number * 10 + (uint64_t)(*p - '0');
		} else if (*p == '\n') {
			c->body_left = (c->number & 0x3fffffff) + 2;
			c->number = 0;
		} else if (*p != '\r') {
			c->number = 0;
		}
		p++;
	}
	return done;
}

static void on_recv(struct loop *l, struct peer *c, const struct io_uring_cqe *cqe)
{
	if (!(cqe->flags & IORING_CQE_F_MORE))
		c->receiving = false;
	if (cqe->res > 0) {
		unsigned bid = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
		const uint8_t *p = l->memory + (size_t)bid * l->cfg.buffer_size;
		uint64_t n = l->cfg.sink ? swallow(c, p, (size_t)cqe->res)
					 : count_lines(p, (size_t)cqe->res);

		put_buffer(l, bid);
		c->owed += n * l->cfg.reply_len;
		arm_send(l, c);
	}
	if (c->closing || (cqe->res <= 0 && cqe->res != -ENOBUFS)) {
		close_when_quiet(l, c);
		return;
	}
	if (!c->receiving)
		arm_recv(l, c);
}

static void on_send(struct loop *l, struct peer *c, int res)
{
	c->sending = false;
	if (res < 0 || c->closing) {
		close_when_quiet(l, c);
		return;
	}
	c->owed -= (uint64_t)res;
	c->reply_at = (c->reply_at + (size_t)res) % l->cfg.reply_len;
	arm_send(l, c);
}

static void on_inbox(struct loop *l, int res)
{
	struct peer *c;

	A(res == (int)sizeof l->incoming);
	c = calloc(1, sizeof *c);
	if (c == NULL) {
		close(l->incoming);
	} else {
		c->fd = l->incoming;
		if (c->fd < l->fixed)
			A(io_uring_register_files_update(&l->ring, (unsigned)c->fd, &c->fd, 1) ==
			  1);
		arm_recv(l, c);
	}
	arm_inbox(l);
}

static int ring_setup(struct loop *l)
{
	struct io_uring_params p = {.cq_entries = CQ_ENTRIES};
	int rc;

	p.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
		  IORING_SETUP_DEFER_TASKRUN;
	rc = io_uring_queue_init_params(SQ_ENTRIES, &l->ring, &p);
	if (rc != -EINVAL)
		return rc;
	fprintf(stderr, "nullserver: this kernel has no DEFER_TASKRUN (Linux 6.1); going on "
			"without, the bound is then too low\n");
	memset(&p, 0, sizeof p);
	p.cq_entries = CQ_ENTRIES;
	p.flags = IORING_SETUP_CQSIZE;
	return io_uring_queue_init_params(SQ_ENTRIES, &l->ring, &p);
}

static int buffers_setup(struct loop *l)
{
	size_t ring_size = l->cfg.buffers * sizeof(struct io_uring_buf);
	size_t size = (size_t)l->cfg.buffers * l->cfg.buffer_size;
	struct io_uring_buf_reg reg = {.ring_entries = l->cfg.buffers, .bgid = GROUP};

	l->bufs = mmap(NULL, ring_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	l->memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (l->bufs == MAP_FAILED || l->memory == MAP_FAILED)
		return -ENOMEM;
	reg.ring_addr = (uint64_t)(uintptr_t)l->bufs;
	io_uring_buf_ring_init(l->bufs);
	for (unsigned i = 0; i < l->cfg.buffers; i++)
		put_buffer(l, i);
	return io_uring_register_buf_ring(&l->ring, &reg, 0);
}

static void *loop_main(void *arg)
{
	struct loop *l = arg;
	int rc;

	/* on this thread: SINGLE_ISSUER binds the ring to who sets it up */
	rc = ring_setup(l);
	if (rc == 0)
		rc = buffers_setup(l);
	if (rc != 0) {
		fprintf(stderr, "nullserver: io_uring: %s%s\n", strerror(-rc),
			rc == -ENOMEM ? " (raise the memlock limit)" : "");
		exit(1);
	}
	/* both are savings, not needs */
	io_uring_register_ring_fd(&l->ring);
	l->fixed = io_uring_register_files_sparse(&l->ring, FILES) == 0 ? FILES : 0;
	l->rng = 0x9e3779b97f4a7c15ull;
	arm_inbox(l);
	for (;;) {
		struct io_uring_cqe *cqe;
		unsigned head, n = 0;

		rc = io_uring_submit_and_wait(&l->ring, 1);
		A(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
		io_uring_for_each_cqe(&l->ring, head, cqe)
		{
			uint64_t data = cqe->user_data;
			struct peer *c = (struct peer *)(uintptr_t)(data & ~(uint64_t)TAG_MASK);

			n++;
			if ((data & TAG_MASK) == TAG_RECV)
				on_recv(l, c, cqe);
			else if ((data & TAG_MASK) == TAG_SEND)
				on_send(l, c, cqe->res);
			else
				on_inbox(l, cqe->res);
		}
		io_uring_cq_advance(&l->ring, n);
	}
	return NULL;
}

int loop_start(struct loop **out, const struct loop_config *cfg)
{
	struct loop *l = calloc(1, sizeof *l);
	int rc;

	if (l == NULL)
		return -ENOMEM;
	l->cfg = *cfg;
	if (pipe(l->inbox) < 0) {
		rc = -errno;
		goto fail;
	}
	rc = -pthread_create(&l->thread, NULL, loop_main, l);
	if (rc != 0)
		goto fail_pipe;
	*out = l;
	return 0;
fail_pipe:
	close(l->inbox[0]);
	close(l->inbox[1]);
fail:
	fprintf(stderr, "nullserver: cannot start a thread: %s\n", strerror(-rc));
	free(l);
	return rc;
}

void loop_give(struct loop *l, int fd)
{
	A(write(l->inbox[1], &fd, sizeof fd) == (ssize_t)sizeof fd);
}
