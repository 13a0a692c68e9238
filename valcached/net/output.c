/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output of a connection: a list of struct out, the first of which may be in a send. Each is text in
 * a block of ours mixed, in order, with references to values. Text that follows text grows the
 * same piece, so that an answer without a referenced value is one plain send.
 *
 * Rules
 *  1. One send at a time: c->tx. While it is under way the first out is the kernel's and no byte is
 *     put to it; the next out gathers.
 *  2. A value referenced by an out is kept by the request in out.held until the send is done.
 *  3. When the send is done, its out and all it held go back at once.
 *
 * Threads: the connection's worker.
 */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "valcached/net/tls_int.h"

static struct out *append(struct conn *c)
{
	struct out *o = worker__out(c->w);

	if (c->out_last == NULL)
		c->out = o;
	else
		c->out_last->next = o;
	c->out_last = o;
	return o;
}

/* The out to put to: with n bytes of block and three pieces free. */
static struct out *writable(struct conn *c, uint32_t n)
{
	struct out *o = c->out_last;

	A(n <= OUT_BLOCK);
	if (o == NULL || (o == c->out && !io_op_idle(&c->tx)))
		return append(c);
	if (o->used + n > OUT_BLOCK || o->iov_n + 3 > OUT_IOV)
		return append(c);
	return o;
}

char *output__room(struct conn *c, uint32_t n)
{
	struct out *o = writable(c, n);

	return o->block + o->used;
}

void output__wrote(struct conn *c, uint32_t n)
{
	struct out *o = c->out_last;
	struct iovec *v;
	char *at = o->block + o->used;

	if (n == 0)
		return;
	v = o->iov_n > 0 ? &o->iov[o->iov_n - 1] : NULL;
	if (v != NULL && (char *)v->iov_base + v->iov_len == at) {
		v->iov_len += n;
	} else {
		A(o->iov_n < OUT_IOV);
		o->iov[o->iov_n++] = (struct iovec){at, n};
	}
	o->used += n;
	o->bytes += n;
	c->out_bytes += n;
	A(o->used <= OUT_BLOCK);
}

void output__text(struct conn *c, const char *bytes, size_t n)
{
	while (n > 0) {
		uint32_t part = n < OUT_BLOCK ? (uint32_t)n : OUT_BLOCK;

		memcpy(output__room(c, part), bytes, part);
		output__wrote(c, part);
		bytes += part;
		n -= part;
	}
}

void output__ref(struct conn *c, const void *bytes, size_t n)
{
	struct out *o = writable(c, 0);

	A(n > 0);
	o->iov[o->iov_n++] = (struct iovec){(void *)(uintptr_t)bytes, n};
	o->bytes += n;
	c->out_bytes += n;
}

void output__hold(struct conn *c, struct req *r)
{
	struct out *o = c->out_last;

	AN(o);
	r->next = o->held;
	o->held = r;
}

static void release(struct conn *c, struct out *o)
{
	while (o->held != NULL) {
		struct req *r = o->held;

		o->held = r->next;
		request__end(c, r);
	}
	A(c->out_bytes >= o->bytes);
	c->out_bytes -= o->bytes;
	worker__out_free(c->w, o);
}

void output__done(struct conn *c, bool done)
{
	struct out *o = c->out;

	AN(o);
	c->out = o->next;
	if (c->out == NULL)
		c->out_last = NULL;
	if (done && c->window < WINDOW_BYTES)
		c->window *= 2;
	release(c, o);
}

void output__moved(struct conn *c)
{
	c->asked_ns = io_now(c->w->io);
	c->still_ns = 0;
	c->out_time = (struct patience){0};
	worker__unwatch(c->w, c); /* progress; settling watches again what is still due */
	conn__dirty(c);
}

static void sent(struct io_op *op)
{
	struct conn *c = container_of(op, struct conn, tx);

	MAGIC_OK(c, CONN_MAGIC);
	AN(c->out);
	if (op->res >= 0) {
		A((uint64_t)op->res == c->out->bytes);
		count_add(&c->w->count.bytes_written, c->out->bytes);
		c->moved += c->out->bytes;
	} else if (!c->dead) {
		conn__die(c); /* the stream is lost, whatever the reason */
	}
	output__done(c, op->res >= 0);
	output__moved(c);
}

bool output__last(const struct conn *c)
{
	return c->out->next == NULL && c->queue == NULL && c->in == IN_LINE && c->left_n == 0 &&
	       !c->closing;
}

void output__send(struct conn *c)
{
	struct out *o = c->out;

	if (!io_op_idle(&c->tx))
		return;
	if (c->tls != NULL) {
		tls__send(c);
		return;
	}
	if (o == NULL)
		return;
	A(o->iov_n > 0);
	count_add(&c->w->count.sends, 1);
	if (output__last(c))
		io_send_lazy(c->w->io, &c->tx, c->fd, o->iov, o->iov_n, sent);
	else
		io_send(c->w->io, &c->tx, c->fd, o->iov, o->iov_n, sent);
}

/* All that is not in a send. */
void output__free_all(struct conn *c)
{
	struct out *o = c->out;

	if (o == NULL)
		return;
	if (!io_op_idle(&c->tx)) {
		struct out *flying = o;

		o = flying->next;
		flying->next = NULL;
		c->out_last = flying;
	} else {
		c->out = c->out_last = NULL;
	}
	while (o != NULL) {
		struct out *next = o->next;

		release(c, o);
		o = next;
	}
}
