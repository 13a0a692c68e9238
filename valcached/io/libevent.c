/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The libevent engine: the turns of the loop. See libevent_int.h for the rules of the whole.
 *
 * One turn: file operations go to the pool, sends are tried, libevent is asked what is ready (and sleeps if there
 * is nothing else to do), callbacks run. A turn that has something to call back already leaves
 * libevent out, every other time: most often the sends of the last turn have gone and nothing else has happened.
 */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "valcached/io/libevent_int.h"

void lev_rouse(struct lev *l)
{
	uint64_t one = 1;

	if (!atomic_load(&l->asleep) || !atomic_exchange(&l->asleep, false))
		return;
	/* Never full: at most once a sleep, and 2^64 of those do not happen. */
	while (write(l->wake_fd, &one, sizeof one) < 0)
		A(errno == EINTR);
}

static void lev_wake(struct io *io)
{
	struct lev *l = container_of(io, struct lev, io);

	if (!atomic_exchange(&l->woken, true))
		lev_rouse(l);
}

/* Edge-triggered and never read: each write is one event. It has waked the loop, that is all. */
void lev_on_wake(evutil_socket_t fd, short what, void *lev)
{
	(void)fd;
	(void)what;
	(void)lev;
}

void lev_on_timer(evutil_socket_t fd, short what, void *lev)
{
	struct lev *l = lev;

	(void)fd;
	(void)what;
	l->timer_ns = UINT64_MAX;
}

/* There is something to do without waiting. */
static bool pending(struct lev *l)
{
	return l->local.head != NULL || l->reads_over.head != NULL || l->ready.next != &l->ready ||
	       l->sends.head != NULL || aio_any(&l->aio) || atomic_load(&l->landed) != NULL ||
	       atomic_load(&l->woken);
}

/* Once: EVLOOP_NONBLOCK alone goes on as long as any event is found, and ours stay until they are served. */
static int ask(struct lev *l, bool wait)
{
	int flags = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY | (wait ? 0 : EVLOOP_NONBLOCK);

	io_count(&l->io.count.enters, 1);
	l->skipped = false;
	return event_base_loop(l->base, flags) < 0 ? -EIO : 0;
}

/* It may fire earlier than is needed, for a wait that is over: then it is set again. */
static void set_timer(struct lev *l, uint64_t until)
{
	uint64_t now = clock_ns(), us = until > now ? (until - now + 999) / 1000 : 0;
	struct timeval tv = {.tv_sec = (time_t)(us / 1000000),
			     .tv_usec = (suseconds_t)(us % 1000000)};

	if (l->timer_ns <= until)
		return;
	l->timer_ns = until;
	AZ(event_add(l->timer, &tv));
}

/* After a wait that was short the next is likely to be, too, and is spent looking, if that is asked for. */
static int look(struct lev *l, uint64_t from, uint64_t until)
{
	uint64_t end = from + l->spin_ns < until ? from + l->spin_ns : until;
	int r = 0;

	while (r == 0 && !pending(l) && clock_ns() < end)
		r = ask(l, false);
	return r;
}

/* libevent's clock is a coarse one and may fire early: what counts is ours. */
static int wait_ready(struct lev *l, int64_t timeout_ns)
{
	uint64_t from = timeout_ns > 0 || l->spin_ns != 0 ? clock_ns() : 0;
	uint64_t until = timeout_ns < 0 ? UINT64_MAX : from + (uint64_t)timeout_ns;
	int r = 0;

	if (l->spin_ns != 0 && l->restless)
		r = look(l, from, until);
	while (r == 0 && !pending(l) && (until == UINT64_MAX || clock_ns() < until)) {
		if (until != UINT64_MAX)
			set_timer(l, until);
		atomic_store(&l->asleep, true);
		r = ask(l, !pending(l));
		atomic_store(&l->asleep, false);
	}
	if (l->spin_ns != 0)
		l->restless = clock_ns() - from < 2 * l->spin_ns;
	return r;
}

static unsigned wake_done(struct lev *l)
{
	/* Cleared before the callback looks at what it was woken for. */
	if (!atomic_load_explicit(&l->woken, memory_order_relaxed) ||
	    !atomic_exchange(&l->woken, false))
		return 0;
	if (l->io.on_wake != NULL)
		l->io.on_wake(l->io.wake_arg);
	return 1;
}

static unsigned local_done(struct lev *l)
{
	struct op_list now = l->local; /* what these callbacks add waits for the next turn */
	struct io_op *op;
	unsigned n = 0;

	op_list_init(&l->local);
	while ((op = now.head) != NULL) {
		now.head = op->next;
		io_count(&l->io.count.completed, 1);
		op_finish(op, op->res);
		n++;
	}
	return n;
}

static int lev_turn(struct io *io, int64_t timeout_ns)
{
	struct lev *l = lev_of(io);
	struct sigaction pipe;
	unsigned n;
	int r = 0;

	if (unlikely(!l->enabled)) {
		l->owner = gettid();
		/* such a send cannot be told to leave the signal out */
		l->batches = l->aio.ring != NULL && sigaction(SIGPIPE, NULL, &pipe) == 0 &&
			     pipe.sa_handler == SIG_IGN;
		l->enabled = true;
	}
	DIAG(l->owner == gettid());
	lev_disk_hand(l);
	lev_send_some(l);
	if (pending(l)) {
		if (l->skipped)
			r = ask(l, false);
		else
			l->skipped = true;
	} else if (timeout_ns == 0) {
		r = ask(l, false);
	} else {
		r = wait_ready(l, timeout_ns);
	}
	io->now_ns = clock_ns();
	if (unlikely(r < 0))
		return r;
	l->turn++;
	n = local_done(l);
	n += wake_done(l);
	n += lev_disk_done(l);
	n += lev_receive(l);
	return (int)n;
}

static void lev_cancel(struct io *io, struct io_op *op)
{
	struct lev *l = lev_of(io);

	if (op_state(op) == OP_LOCAL || op->flags & OP_CANCELLED)
		return;
	op->flags |= OP_CANCELLED;
	if (op->kind <= IO_DISCARD)
		lev_disk_cancel(l, op);
	else
		lev_net_cancel(l, op);
}

/* Nothing to tell the kernel of: it is told with each system call. */
static int lev_add_memory(struct io *io, void *base, size_t len)
{
	(void)io;
	(void)base;
	(void)len;
	return 0;
}

static int lev_add_file(struct io *io, struct io_file *f)
{
	A(f->engine == io->engine && f->id < IO_FILES_MAX);
	return 0;
}

const struct io_ops lev_ops = {
    .close = lev_close,
    .turn = lev_turn,
    .wake = lev_wake,
    .add_memory = lev_add_memory,
    .add_file = lev_add_file,
    .disk = lev_disk,
    .net = lev_net,
    .cancel = lev_cancel,
    .sock = &lev_sock_ops,
};

const struct io_engine io_libevent_engine = {
    .name = "libevent",
    .open = lev_open,
    .file_open = io_real_file_open,
    .file_open_made = io_real_file_open_made,
    .file_close = io_real_file_close,
    .file_resize = io_real_file_resize,
    .file_works = io_real_file_works,
    .file_shut = io_real_file_shut,
    .file_reopen = io_real_file_reopen,
};
