/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection: what arrives, what leaves, and its end.
 *
 * Every event (bytes, an operation of the store that is done, a send that is done) only changes state
 * and marks the connection; once all events of a turn are in, conn__settle() acts: answers
 * what is ready, understands what is left, sends, receives, closes. So many events of one turn
 * cost one send.
 *
 * The input (c->in):
 *
 *              read begun, constant answered
 *                 +----+
 *                 v    |        set                       whole body
 *   begin ----> IN_LINE ------> IN_HOLD <-----+            in place
 *                 ^ ^  \          |           | chunk   +------------> IN_END
 *                 | |   \         | a place   | full    |                | "\r\n" or not
 *                 | |    \        v for body  |         |                |
 *                 | |     \     IN_BODY ------+---------+                |
 *                 | |      \                                             |
 *                 | |       +-> IN_HOLD (delete, md, gat -1, flush_all)  |
 *                 | +--------------/ store's step done                   |
 *                 +---------------------- IN_HOLD <----------------------+
 *                        stored          (commit)      bad: IN_LINE at once
 *
 *   state    event                                 function                 next
 *   IN_LINE  read or constant                      read__key, answer__text  IN_LINE
 *   IN_LINE  set, add, ms                          set__begin               IN_HOLD, IN_END if empty
 *   IN_LINE  delete, md, ...                       request__hold_new        IN_HOLD
 *   IN_LINE  set with an expiry that is over        set__block_drained       IN_LINE, then IN_HOLD
 *   IN_HOLD  the store gives a place for the body  body_wanted              IN_BODY
 *   IN_HOLD  the store refuses (too large)         body_wanted              IN_LINE, swallowing
 *   IN_BODY  the place is full, more to come       body_came                IN_HOLD
 *   IN_BODY  the last byte                         body_came                IN_END
 *   IN_END   "\r\n"                                set__input_end           IN_HOLD (commit)
 *   IN_END   anything else                         set__input_end           IN_LINE
 *   IN_HOLD  the step that ends the request        stored, deleted, ...     IN_LINE
 *   any      end of the stream                     conn__settle             closing
 *   closing  all answers sent                      parted, conn__die        dead
 *   dead     kernel and store have let go          reap                     (freed)
 *
 * The receive (c->rx), re-armed in receive() only:
 *
 *   multishot          the rule. Bytes arrive in the engine's buffers; an idle connection has none.
 *   some               bulk mode: at most HEAD_MAX bytes, so that most of a body does not arrive yet; and
 *                      while the worker is short of memory for input (w->narrow), or the client has to log in
 *   direct             the rest of a body with its "\r\n", into its place, when more than DIRECT_MIN is
 *                      to come
 *   none               back-pressure: LEFT_MAX bytes wait here, the others in the socket
 *
 * A bulk body ends multishot mode (by cancelling it); BULK_RUN requests without one bring it back.
 *
 * Rules
 *  1. A connection is freed when rx and tx are idle and busy == 0: the kernel and the store hold pointers
 *     into it and its requests.
 *  2. left holds bytes only while they cannot be taken; it goes back to the worker when empty.
 *
 * Threads: the connection's worker.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "valcached/net/tls_int.h"

static void conn_assert(const struct conn *c)
{
	MAGIC_OK(c, CONN_MAGIC);
	A((c->queue == NULL) == (c->queue_n == 0));
	A(c->stream == NULL || c->stream == c->queue);
	A(c->out != NULL || (c->out_bytes == 0 && (io_op_idle(&c->tx) || c->tls != NULL)));
	A(c->left != NULL || c->left_n == 0);
	if (c->dead)
		return;
	switch ((enum conn_in)c->in) {
	case IN_LINE: /* cur: a set with an expiry that is over, whose block is being dropped */
		A(c->cur == NULL || c->cur->expire);
		break;
	case IN_BODY:
		AN(c->cur);
		A(!c->cur->busy && c->filled < c->cur->op.body_n && c->body_left > 0);
		break;
	case IN_END:
		AN(c->cur);
		A(!c->cur->busy && c->body_left == 0 && c->end_seen < 2);
		break;
	case IN_HOLD:
		AN(c->cur);
		A(c->cur->busy || c->wait_gets);
		break;
	}
}

/* ---- bytes that wait -------------------------------------------------------------------------- */

static void left_add(struct conn *c, const char *bytes, size_t n)
{
	uint32_t room;
	char *to;

	if (n == 0)
		return;
	if (c->left != NULL && c->left_at > 0 && c->left_at + c->left_n + n > c->left_room) {
		memmove(c->left, c->left + c->left_at, c->left_n);
		c->left_at = 0;
	}
	if (c->left == NULL || c->left_n + n > c->left_room) {
		to = worker__left(c->w, c->left_n + (uint32_t)n, &room);
		if (c->left != NULL) {
			memcpy(to, c->left + c->left_at, c->left_n);
			worker__left_free(c->w, c->left, c->left_room);
		}
		c->left = to;
		c->left_at = 0;
		c->left_room = room;
	}
	memcpy(c->left + c->left_at + c->left_n, bytes, n);
	c->left_n += (uint32_t)n;
}

static void left_drop(struct conn *c)
{
	if (c->left != NULL)
		worker__left_free(c->w, c->left, c->left_room);
	c->left = NULL;
	c->left_at = c->left_n = c->left_room = 0;
}

/* Understands what can be understood of the bytes that wait. */
static void left_input(struct conn *c)
{
	uint32_t did;

	if (c->left_n == 0 || c->dead)
		return;
	if (c->tls != NULL && !c->tls->open) {
		tls__greet(c);
		return;
	}
	did = (uint32_t)request__input(c, c->left + c->left_at, c->left_n);
	c->left_at += did;
	c->left_n -= did;
	if (c->left_n == 0)
		left_drop(c);
}

/* ---- receiving -------------------------------------------------------------------------------- */

void conn__bytes_came(struct conn *c, const char *bytes, size_t n)
{
	size_t did = 0;

	if (c->dead || c->closing)
		return;
	if (c->left_n == 0)
		did = request__input(c, bytes, n);
	left_add(c, bytes + did, n - did);
}

static void received(struct io_op *op)
{
	struct conn *c = container_of(op, struct conn, rx);
	struct worker *w = c->w;
	bool direct = c->rx_direct, cancelled = c->rx_cancel;

	MAGIC_OK(c, CONN_MAGIC);
	if (!op->more)
		c->rx_direct = c->rx_cancel = false;
	conn__dirty(c);
	service__flush_in_time(w);
	if (op->res > 0) {
		count_add(&w->count.receives, 1);
		count_add(&w->count.bytes_read, (uint64_t)op->res);
		c->moved += (uint64_t)op->res;
		c->asked_ns = io_now(w->io);
		if (c->drain == DRAIN_IN)
			c->drain_in -= (uint32_t)op->res;
	}
	if (direct && !c->dead) {
		uint32_t got = op->res > 0 ? (uint32_t)op->res : 0;

		if (c->watched && got > 0)
			worker__unwatch(w, c); /* progress */
		if (got < op->u.net.len && !cancelled)
			c->eof = c->hung_up = true;
		if (got > 0)
			set__body_came(c, got);
	} else if (op->res > 0) {
		if (c->watched && io_op_idle(&c->tx))
			worker__unwatch(w, c);
		if (c->tls == NULL)
			conn__bytes_came(c, op->data, (size_t)op->res);
		else if (c->dead || c->closing)
			; /* not even decrypted */
		else if (c->tls->open)
			tls__came(c, op->data, (size_t)op->res);
		else
			left_add(c, op->data, (size_t)op->res); /* for the handshake */
	}
	if (op->res == 0 && !direct)
		c->eof = c->hung_up = true;
	else if (op->res < 0 && op->res != -ECANCELED && !c->dead)
		conn__die(c); /* reset by the client, or its host is gone */
}

/* The rest of a body is long enough to go straight to its place. */
static bool direct_wanted(const struct conn *c)
{
	return c->in == IN_BODY && c->left_n == 0 && c->tls == NULL &&
	       c->cur->op.body_n - c->filled > DIRECT_MIN;
}

static void stop_receiving(struct conn *c)
{
	if (io_op_idle(&c->rx) || c->rx_cancel)
		return;
	c->rx_cancel = true;
	io_cancel(c->w->io, &c->rx);
}

void conn__ask_progress(struct conn *c)
{
	if (!c->local || !c->rx_direct || c->rx_cancel)
		return;
	c->ended_ns = io_now(c->w->io);
	stop_receiving(c);
}

void conn__narrow(struct conn *c)
{
	if (c->rx.kind == IO_RECV_MULTI && !c->dead && c->drain == DRAIN_NOT)
		stop_receiving(c);
}

/* Arms the receive that the state asks for, or ends the one that it no longer wants. */
static void receive(struct conn *c)
{
	struct io *io = c->w->io;
	bool direct = direct_wanted(c);
	/* of a stranger no more than a login takes */
	bool narrow = c->w->narrow || proto_locked(&c->proto);

	if (direct) {
		c->bulk = true;
		c->small_run = 0;
	}
	if (!io_op_idle(&c->rx)) {
		if (c->rx.kind == IO_RECV_MULTI &&
		    (direct || c->left_n > (narrow ? PROTO_LINE_MAX : LEFT_MAX))) {
			if (!direct && !c->rx_cancel)
				count_add(&c->w->count.input_pauses, 1);
			stop_receiving(c);
		}
		return;
	}
	if (c->eof)
		return;
	if (c->drain != DRAIN_NOT) {
		if (c->left_n <= LEFT_MAX / 2)
			io_recv_some(io, &c->rx, c->fd, c->drain_in, received);
		return;
	}
	if (direct) {
		c->rx_direct = true;
		io_recv(io, &c->rx, c->fd, c->cur->op.body + c->filled, set__body_room(c),
			received);
		return;
	}
	if (c->left_n > LEFT_MAX / 2)
		return; /* what is here comes first */
	if (!c->bulk && !narrow) {
		io_recv_multi(io, &c->rx, c->fd, received);
		return;
	}
	if (c->left_n > PROTO_LINE_MAX || c->in == IN_HOLD)
		return; /* asks for little, and only when it can be used */
	io_recv_some(io, &c->rx, c->fd,
		     c->in == IN_BODY ? c->cur->op.body_n - c->filled + 2 : HEAD_MAX, received);
}

/* ---- the end ---------------------------------------------------------------------------------- */

void conn__die(struct conn *c)
{
	if (c->dead)
		return;
	c->dead = true;
	left_drop(c);
	if (!io_op_idle(&c->tx))
		io_cancel(c->w->io, &c->tx);
	conn__dirty(c);
}

/* Frees what nobody else holds; the connection itself when that is everything. */
static void reap(struct conn *c)
{
	struct worker *w = c->w;

	/* the body is the kernel's while it is received into [IO-3] */
	stop_receiving(c);
	if (!c->rx_direct)
		request__free_all(c);
	output__free_all(c);
	/* dirty: the list of those to settle has it, and it comes here again */
	if (!io_op_idle(&c->rx) || !io_op_idle(&c->tx) || c->busy > 0 || c->dirty)
		return;
	A(c->cur == NULL && c->queue == NULL && c->out == NULL && c->left == NULL);
	tls__free(c);
	worker__unwatch(w, c);
	if (c->prev != NULL)
		c->prev->next = c->next;
	else
		w->conns = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	io_sock_close(w->io, c->fd);
	address__give(w->net, c->address);
	c->magic = 0;
	free(c);
	atomic_fetch_sub_explicit(&w->conn_n, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&w->net->conn_n, 1, memory_order_relaxed);
	count_add(&w->count.closed_connections, 1);
	accept__freed(&w->net->worker[0]);
}

bool conn__at_rest(const struct conn *c)
{
	return (c->tls == NULL || (c->tls->open && io_op_idle(&c->tx) && !tls__in_record(c))) &&
	       c->in == IN_LINE && c->cur == NULL && c->queue == NULL && c->out == NULL &&
	       c->left_n == 0 && proto_idle(&c->proto);
}

/* The daemon ends: what has arrived by now is the last of the input. */
static void drain(struct conn *c)
{
	if (c->drain == DRAIN_NOT) {
		c->rested = conn__at_rest(c) && io_sock_unsent(c->w->io, c->fd) == 0;
		stop_receiving(c);
		c->drain = DRAIN_STOP;
	}
	if (c->drain == DRAIN_STOP && io_op_idle(&c->rx)) {
		c->drain_in = io_sock_unread(c->w->io, c->fd);
		c->rested = c->rested && c->drain_in == 0 && conn__at_rest(c);
		c->drain = DRAIN_IN;
	}
	if (c->drain == DRAIN_IN && (c->drain_in == 0 || c->w->sated)) {
		stop_receiving(c);
		c->eof = true;
	}
}

uint64_t conn__exchanged(const struct conn *c)
{
	return c->moved - io_sock_unsent(c->w->io, c->fd);
}

/*
 * Everything is answered. To close a socket with unread bytes, or before the client has hung up, would
 * reset the stream and with it answers that are still under way. False: the client has yet to hang up.
 */
static bool parted(struct conn *c)
{
	if (c->drain == DRAIN_NOT || c->hung_up || c->rested)
		return true;
	if (c->drain == DRAIN_TOLD && c->w->lingered)
		return true;
	if (c->drain != DRAIN_TOLD) {
		io_sock_finish(c->w->io, c->fd, c->local);
		c->drain = DRAIN_TOLD;
		c->told_mark = conn__exchanged(c);
		c->w->told_ns = io_now(c->w->io);
		c->w->told_looks = 0;
		c->w->lingered = false;
	}
	if (io_op_idle(&c->rx))
		io_recv_some(c->w->io, &c->rx, c->fd, LEFT_MAX, received);
	return false;
}

/* All input is understood that ever can be. */
static bool input_over(struct conn *c)
{
	if (!c->eof || c->closing)
		return c->closing;
	if (c->tls != NULL && !c->tls->open && c->left_n > 0)
		return false; /* a handshake that is put off: requests may be behind it */
	switch ((enum conn_in)c->in) {
	case IN_LINE:
		return c->served < c->w->net->cfg.turn_requests && request__may_begin(c);
	case IN_BODY:
	case IN_END:
		return c->left_n == 0;
	case IN_HOLD:
		break;
	}
	return false;
}

void conn__settle(struct conn *c)
{
	struct worker *w = c->w;

	conn_assert(c);
	if (!c->dead) {
		read__resume(c);
		answer__emit(c);
		request__resume(c);
		left_input(c);
		if (w->draining)
			drain(c);
		if (input_over(c)) {
			c->closing = true;
			request__abort(c);
			left_drop(c);
		}
		output__send(c);
		if (c->tls != NULL && c->tls->failed && io_op_idle(&c->tx))
			conn__die(c); /* its alert was sent */
		if ((c->closing && c->cur == NULL && c->queue == NULL && c->out == NULL &&
		     (c->tls == NULL || tls__parted(c)) && parted(c)) ||
		    w->killed)
			conn__die(c);
	}
	if (c->dead) {
		reap(c);
		return;
	}
	if (!c->closing)
		receive(c);
	if (limits__settled(c))
		return;
	if (c->owes != 0 && !c->watched)
		worker__watch(w, c);
	else if (c->owes == 0 && c->watched)
		worker__unwatch(w, c);
	if (c->served >= w->net->cfg.turn_requests) {
		count_add(&w->count.yields, 1);
		conn__dirty(c); /* others first; then again */
	}
	c->served = 0;
	conn_assert(c);
}

bool conn__look(struct conn *c)
{
	static struct log_limit limit;
	uint64_t mark = io_sock_progress(c->w->io, c->fd) + c->rx.u.net.did;

	if (limits__overdue(c))
		return true;
	conn__ask_progress(c);
	if (c->owes ==
	    OWES_LINE) /* it may have gone for a coffee: --request-timeout is about that */
		return false;
	/* the first look has nothing to compare with, but a period has passed */
	if (c->watch_idle == 0 || mark != c->watch_mark) {
		c->watch_idle = 1;
		c->watch_mark = mark;
		return false;
	}
	if (++c->watch_idle < WATCH_LOOKS)
		return false;
	count_add(&c->w->count.stalled_connections, 1);
	log_limited(&limit, LOG_INFO, "closed a connection whose client %s for %llu s",
		    io_op_idle(&c->tx) ? "did not send the rest of a value" : "took no output",
		    (unsigned long long)(c->w->net->cfg.stall_ns / 1000000000u));
	worker__unwatch(c->w, c);
	conn__die(c);
	return true;
}

/* ---- the beginning ---------------------------------------------------------------------------- */

struct conn *conn__new(int fd)
{
	struct conn *c = calloc(1, sizeof *c);

	/* a class of jemalloc's: in the next, and with libevent's part, an idle connection would take more than 1 kB */
	_Static_assert(sizeof(struct conn) <= 640, "an idle connection takes at most 1 kB");
	if (c == NULL)
		return NULL;
	c->magic = CONN_MAGIC;
	c->fd = fd;
	c->queue_end = &c->queue;
	c->window = WINDOW_FIRST;
	return c;
}

/* On its worker's thread, once. */
void conn__begin(struct worker *w, struct conn *c)
{
	MAGIC_OK(c, CONN_MAGIC);
	c->w = w;
	c->prev = NULL;
	c->next = w->conns;
	if (c->next != NULL)
		c->next->prev = c;
	w->conns = c;
	login__begin(w, c);
	c->asked_ns = io_now(w->io);
	if (c->secure && !tls__begin(c))
		conn__die(c);
	count_add(&w->count.total_connections, 1);
	conn__dirty(c);
}
