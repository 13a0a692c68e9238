/* SPDX-License-Identifier: Apache-2.0 */
/* A connection and its thread; see mc_conn.h. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/sockios.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ocache/mc_conn.h"
#include "ocache/mc_dial.h"
#include "ocache/mc_reply.h"
#include "ocache/thread.h"

#define VECTORS   128u
#define LOOKS     4u /* at the socket's queue, in stall_ns */
#define PAUSE_MIN (20 * NS_PER_MS)
#define PAUSE_MAX NS_PER_S
#define HEAD_MAX  80u
#define PORT_MAX  12u

struct op {
	struct op *next;
	enum mc_kind kind;
	struct seg_read *r;  /* MC_GET; NULL: cancelled */
	struct seg_write *w; /* SET */
	struct seg_buf *bytes;
	uint64_t
	    end; /* where it ends in what was written to the connection; 0: it is not all written */
	bool login;
	uint32_t head_len;
	char head[HEAD_MAX]; /* the request's line */
};

struct list {
	struct op *first, **end;
};

struct mc_conn {
	char *host;
	char *login; /* NULL: none */
	unsigned port;
	uint32_t in_flight_max;
	uint64_t connect_ns, stall_ns;
	int wake; /* eventfd */
	pthread_t thread;
	pthread_mutex_t lock;
	/* under lock: */
	struct list todo, sent;
	uint32_t in_flight;
	bool woken, closing;
	int down; /* why requests fail at once; 0: they are taken */
	/* the thread's: */
	int fd;
	struct op *unsent; /* the first in `sent` that is not all written; NULL: all are */
	size_t unsent_off;
	int early; /* status of `unsent`, a set that was refused before its end */
	bool worked;
	uint64_t pause_ns, heard_ns;
	uint64_t written,
	    taken; /* bytes of this connection; and those that have left the socket's queue */
	uint64_t look_ns; /* when to look at that again */
	unsigned seed;
	struct mc_reader reader;
};

/* ---- lists ----------------------------------------------------------------------- */

static void push(struct list *l, struct op *o)
{
	o->next = NULL;
	*l->end = o;
	l->end = &o->next;
}

static void unlink_op(struct list *l, struct op **at)
{
	struct op *o = *at;

	*at = o->next;
	if (l->end == &o->next)
		l->end = at;
}

static void free_op(struct op *o)
{
	seg_buf_drop(o->bytes);
	free(o);
}

/* Gives it back to who asked. Not under the lock [MC-4]. */
static void finish(struct op *o, int status, struct seg_buf *bytes)
{
	if (o->r != NULL) {
		o->r->status = status;
		o->r->bytes = status == 0 ? bytes : NULL;
		if (status == 0)
			bytes = NULL;
		o->r->done(o->r);
	} else if (o->w != NULL) {
		o->w->status = status;
		o->w->done(o->w);
	}
	seg_buf_drop(bytes);
	free_op(o);
}

static void wake(struct mc_conn *c)
{
	uint64_t one = 1;

	AZ(write(c->wake, &one, sizeof one) != (ssize_t)sizeof one);
}

/* ---- asking: any thread ------------------------------------------------------------- */

static void submit(struct mc_conn *c, struct op *o)
{
	bool call = false;
	int err;

	pthread_mutex_lock(&c->lock);
	err = c->down != 0 ? c->down : c->in_flight >= c->in_flight_max ? -EAGAIN : 0;
	if (err == 0) {
		push(&c->todo, o);
		c->in_flight++;
		call = !c->woken;
		c->woken = true;
	}
	pthread_mutex_unlock(&c->lock);
	if (call)
		wake(c);
	if (err != 0)
		finish(o, err, NULL);
}

static struct op *new_op(enum mc_kind kind, struct seg_id id)
{
	static const char *const verb[] = {
	    [MC_GET] = "get", [MC_SET] = "set", [MC_DELETE] = "delete"};
	struct op *o = calloc(1, sizeof *o);
	char text[SEG_ID_TEXT];

	if (o == NULL)
		return NULL;
	o->kind = kind;
	o->head_len = (uint32_t)snprintf(o->head, sizeof o->head, "%s %s\r\n", verb[kind],
					 seg_id_format(id, text));
	return o;
}

void mc_conn_read(struct mc_conn *c, struct seg_read *r)
{
	struct op *o = new_op(MC_GET, r->id);

	if (o == NULL) {
		r->status = -ENOMEM;
		r->done(r);
		return;
	}
	o->r = r;
	submit(c, o);
}

void mc_conn_write(struct mc_conn *c, struct seg_write *w)
{
	struct op *o = new_op(MC_SET, w->id);

	if (o == NULL) {
		w->status = -ENOMEM;
		w->done(w);
		return;
	}
	o->head_len -= 2;
	o->head_len += (uint32_t)snprintf(o->head + o->head_len, sizeof o->head - o->head_len,
					  " 0 0 %zu\r\n", seg_buf_len(w->bytes));
	A(o->head_len < sizeof o->head);
	o->w = w;
	o->bytes = seg_buf_hold(w->bytes);
	submit(c, o);
}

void mc_conn_drop(struct mc_conn *c, struct seg_id id)
{
	struct op *o = new_op(MC_DELETE, id);

	if (o != NULL)
		submit(c, o);
}

bool mc_conn_cancel(struct mc_conn *c, struct seg_read *r)
{
	struct op **at, *gone = NULL;
	bool found = false;

	pthread_mutex_lock(&c->lock);
	for (at = &c->todo.first; *at != NULL && (*at)->r != r;)
		at = &(*at)->next;
	if (*at != NULL) {
		gone = *at;
		unlink_op(&c->todo, at);
		c->in_flight--;
		found = true;
	}
	for (struct op *o = c->sent.first; !found && o != NULL; o = o->next)
		if (o->r == r) {
			o->r = NULL;
			found = true;
		}
	pthread_mutex_unlock(&c->lock);
	if (gone != NULL)
		free_op(gone);
	if (found) {
		r->status = -ECANCELED;
		r->done(r);
	}
	return found;
}

/* ---- the thread: what ends a connection ---------------------------------------------- */

/* All that was sent fails, the first with err. */
static void hang_up(struct mc_conn *c, int err, int others)
{
	struct op *all;

	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	mc_reader_reset(&c->reader);
	c->unsent = NULL;
	c->unsent_off = 0;
	c->early = 0;
	c->written = 0;
	c->taken = 0;
	c->look_ns = 0;
	pthread_mutex_lock(&c->lock);
	all = c->sent.first;
	c->sent.first = NULL;
	c->sent.end = &c->sent.first;
	for (const struct op *o = all; o != NULL; o = o->next)
		c->in_flight--;
	pthread_mutex_unlock(&c->lock);
	while (all != NULL) {
		struct op *o = all;

		all = o->next;
		finish(o, err, NULL);
		err = others;
	}
}

/* All that waits goes to `sent`. */
static void take_todo(struct mc_conn *c)
{
	pthread_mutex_lock(&c->lock);
	c->woken = false;
	if (c->todo.first != NULL) {
		if (c->unsent == NULL) {
			c->unsent = c->todo.first;
			c->unsent_off = 0;
		}
		if (c->sent.first == NULL)
			c->heard_ns = clock_ns();
		*c->sent.end = c->todo.first;
		c->sent.end = c->todo.end;
		c->todo.first = NULL;
		c->todo.end = &c->todo.first;
	}
	pthread_mutex_unlock(&c->lock);
}

/* Waits for the socket or for a call, at most until end (0: without). The socket's events. */
static short wait_for(struct mc_conn *c, int fd, short events, uint64_t end)
{
	struct pollfd p[2] = {{.fd = c->wake, .events = POLLIN}, {.fd = fd, .events = events}};
	uint64_t now = clock_ns(), n;
	struct timespec ts = thread_timespec((int64_t)(end > now ? end - now : 0));

	if (ppoll(p, fd >= 0 ? 2 : 1, end != 0 ? &ts : NULL, NULL) <= 0)
		return 0;
	if (p[0].revents != 0)
		(void)!read(c->wake, &n, sizeof n); /* it says no more than "look" */
	return fd >= 0 ? p[1].revents : 0;
}

static bool closing(struct mc_conn *c)
{
	bool is;

	pthread_mutex_lock(&c->lock);
	is = c->closing;
	pthread_mutex_unlock(&c->lock);
	return is;
}

/* ---- connecting ------------------------------------------------------------------------ */

static bool closing_ctx(void *ctx)
{
	return closing(ctx);
}

/* Those that wait, and those that come during the pause, fail at once with err. */
static void stay_down(struct mc_conn *c, int err)
{
	uint64_t until;

	pthread_mutex_lock(&c->lock);
	c->down = err;
	pthread_mutex_unlock(&c->lock);
	take_todo(c);
	hang_up(c, err, err);
	c->pause_ns = c->pause_ns == 0 ? PAUSE_MIN : c->pause_ns * 2;
	if (c->pause_ns > PAUSE_MAX)
		c->pause_ns = PAUSE_MAX;
	/* three quarters to all of it: clients of one server do not come back as one */
	until =
	    clock_ns() + c->pause_ns - c->pause_ns / 4 * (uint64_t)(rand_r(&c->seed) % 256) / 256;
	while (clock_ns() < until && !closing(c))
		(void)wait_for(c, -1, 0, until);
	pthread_mutex_lock(&c->lock);
	c->down = 0;
	pthread_mutex_unlock(&c->lock);
}

static void answered(struct mc_conn *c, int status, struct seg_buf *bytes)
{
	struct op *o;

	pthread_mutex_lock(&c->lock);
	o = c->sent.first;
	c->worked = c->worked || !o->login;
	unlink_op(&c->sent, &c->sent.first);
	c->in_flight--;
	pthread_mutex_unlock(&c->lock);
	finish(o, status, bytes);
}

/* ---- writing --------------------------------------------------------------------------- */

/* What of o is still to be written from off on: up to three pieces. */
static unsigned pieces(const struct op *o, size_t off, struct iovec *v)
{
	struct iovec all[3] = {{(void *)(uintptr_t)o->head, o->head_len}};
	unsigned n = 1, out = 0;

	if (o->kind == MC_SET) {
		all[1] = (struct iovec){seg_buf_data(o->bytes), seg_buf_len(o->bytes)};
		all[2] = (struct iovec){(void *)(uintptr_t) "\r\n", 2};
		n = 3;
	}
	for (unsigned i = 0; i < n; i++) {
		size_t skip = off < all[i].iov_len ? off : all[i].iov_len;

		off -= skip;
		if (skip < all[i].iov_len)
			v[out++] =
			    (struct iovec){(char *)all[i].iov_base + skip, all[i].iov_len - skip};
	}
	return out;
}

static size_t length(const struct op *o)
{
	return o->head_len + (o->kind == MC_SET ? seg_buf_len(o->bytes) + 2 : 0);
}

/*
 * As much as the socket takes. 0 or -errno. Without the lock: what is in `sent` is changed by this thread, but for
 * `r`, and next of the last one, which is this thread's, too.
 */
static int flush(struct mc_conn *c)
{
	while (c->unsent != NULL) {
		struct iovec v[VECTORS];
		struct msghdr m = {.msg_iov = v};
		size_t off = c->unsent_off;
		ssize_t n;

		for (const struct op *o = c->unsent; o != NULL && m.msg_iovlen + 3 <= VECTORS;
		     o = o->next, off = 0)
			m.msg_iovlen += pieces(o, off, v + m.msg_iovlen);
		n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		if (c->unsent == c->sent.first)
			c->heard_ns = clock_ns(); /* it takes what it cannot answer yet [MC-5] */
		c->written += (size_t)n;
		c->unsent_off += (size_t)n;
		while (c->unsent != NULL && c->unsent_off >= length(c->unsent)) {
			c->unsent_off -= length(c->unsent);
			c->unsent->end = c->written - c->unsent_off;
			c->unsent = c->unsent->next;
		}
		if (c->early != 0 && c->unsent != c->sent.first) {
			int status = c->early;

			c->early = 0;
			answered(c, status, NULL);
		}
	}
	return 0;
}

/* ---- reading --------------------------------------------------------------------------- */

/* Every answer that is there. 0 or -errno [MC-3]. */
static int take_answers(struct mc_conn *c)
{
	for (;;) {
		const struct op *o = c->sent.first;
		struct mc_asked asked = {0};
		struct seg_buf *bytes;
		int got, status;

		if (o != NULL)
			asked = (struct mc_asked){o->kind, o != c->unsent || c->unsent_off > 0,
						  o != c->unsent, o->head + sizeof "get " - 1};
		/* who was refused has his answer, and what is left of his request has none */
		got = mc_reader_take(&c->reader, o != NULL && c->early == 0 ? &asked : NULL,
				     &status, &bytes);
		if (got == -EPROTO && o != NULL && o->login)
			return -EACCES; /* it says so in many words */
		if (got <= 0)
			return got;
		if (asked.written)
			answered(c, status, bytes);
		else
			c->early = status;
	}
}

/* What the socket has. 0 or -errno. */
static int receive(struct mc_conn *c)
{
	struct iovec v[2];
	ssize_t got = readv(c->fd, v, mc_reader_room(&c->reader, v));

	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (got == 0)
		return -ECONNRESET;
	c->heard_ns = clock_ns();
	mc_reader_put(&c->reader, (size_t)got);
	return take_answers(c);
}

/* ---- stalls ------------------------------------------------------------------------------ */

/* Has the server taken more of the first request, of which it had not all [MC-5]? Now and then. */
static void look_at_queue(struct mc_conn *c, uint64_t now)
{
	const struct op *first = c->sent.first;
	uint64_t taken = c->taken;
	int queued;

	if (now < c->look_ns || c->taken == c->written)
		return;
	c->look_ns = now + c->stall_ns / LOOKS;
	if (ioctl(c->fd, SIOCOUTQ, &queued) != 0 || queued < 0)
		return;
	/* of a unix socket it is the memory, which is more than the bytes */
	if ((uint64_t)queued < c->written && c->written - (uint64_t)queued > taken)
		c->taken = c->written - (uint64_t)queued;
	if (first != NULL && c->taken > taken && (first->end == 0 || first->end > taken))
		c->heard_ns = now;
}

/* When to wake up for that, or for the end of a server that stalls; 0: for neither. */
static uint64_t next_look(const struct mc_conn *c)
{
	uint64_t stall = c->heard_ns + c->stall_ns;

	if (c->sent.first == NULL)
		return 0;
	return c->taken < c->written && c->look_ns < stall ? c->look_ns : stall;
}

/* ---- the loop ---------------------------------------------------------------------------- */

static void keep(void *data, void *ctx)
{
	(void)data;
	(void)ctx;
}

/* The first request of a connection, if there is to be one; nothing else has been sent [MC-6]. 0 or -ENOMEM. */
static int log_in(struct mc_conn *c)
{
	struct op *o;

	if (c->login == NULL)
		return 0;
	o = calloc(1, sizeof *o);
	if (o == NULL)
		return -ENOMEM;
	o->kind = MC_SET;
	o->login = true;
	o->bytes = seg_buf_wrap(c->login, strlen(c->login), keep, NULL);
	if (o->bytes == NULL) {
		free(o);
		return -ENOMEM;
	}
	o->head_len = (uint32_t)snprintf(o->head, sizeof o->head, "set auth 0 0 %zu\r\n",
					 seg_buf_len(o->bytes));
	pthread_mutex_lock(&c->lock);
	push(&c->sent, o);
	c->in_flight++;
	pthread_mutex_unlock(&c->lock);
	c->unsent = o;
	c->unsent_off = 0;
	c->heard_ns = clock_ns();
	return 0;
}

/* A connection's life, with at least one request to begin with. Why it ended; 0: it is being closed. */
static int serve(struct mc_conn *c)
{
	int err = log_in(c);

	while (err == 0) {
		short events = POLLIN, got;

		take_todo(c);
		err = flush(c);
		if (err != 0)
			return err;
		if (c->unsent != NULL)
			events |= POLLOUT;
		look_at_queue(c, clock_ns());
		got = wait_for(c, c->fd, events, next_look(c));
		if (closing(c))
			return 0;
		if (got & (POLLIN | POLLERR | POLLHUP)) {
			err = receive(c);
			continue;
		}
		look_at_queue(c, clock_ns());
		if (c->sent.first != NULL && clock_ns() >= c->heard_ns + c->stall_ns)
			err = -ETIMEDOUT;
	}
	return err;
}

static bool asked(struct mc_conn *c)
{
	bool is;

	pthread_mutex_lock(&c->lock);
	c->woken = false;
	is = c->todo.first != NULL;
	pthread_mutex_unlock(&c->lock);
	return is;
}

static void *run(void *arg)
{
	struct mc_conn *c = arg;
	const struct mc_dial dial = {c->host, c->port, c->wake, closing_ctx, c};

	while (!closing(c)) {
		int err;

		if (!asked(c)) {
			(void)wait_for(c, -1, 0, 0);
			continue;
		}
		c->worked = false;
		c->fd = mc_dial(&dial, clock_ns() + c->connect_ns);
		err = c->fd;
		if (err >= 0)
			err = serve(c);
		if (err == 0)
			break;
		hang_up(c, err, err == -EACCES ? err : -ECONNRESET);
		/* one that was lost is made again at once; one that cannot be made, or is no use, later */
		if (c->worked && err != -EPROTO && err != -EACCES)
			c->pause_ns = 0;
		else
			stay_down(c, err);
	}
	take_todo(c);
	hang_up(c, -ECANCELED, -ECANCELED);
	return NULL;
}

/* ---- open and close ---------------------------------------------------------------------- */

static void free_strings(struct mc_conn *c)
{
	free(c->host);
	if (c->login != NULL)
		explicit_bzero(c->login, strlen(c->login));
	free(c->login);
}

int mc_conn_open(const struct mc_conn_config *cfg, struct mc_conn **conn)
{
	struct mc_conn *c = calloc(1, sizeof *c);
	int err = -ENOMEM;

	if (c == NULL)
		return -ENOMEM;
	c->host = strdup(cfg->host);
	c->login = cfg->login != NULL ? strdup(cfg->login) : NULL;
	c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->wake < 0)
		err = -errno;
	if (c->host == NULL || c->wake < 0 || (cfg->login != NULL && c->login == NULL))
		goto fail;
	c->port = cfg->port;
	c->in_flight_max = cfg->in_flight;
	mc_reader_init(&c->reader, cfg->value_max);
	c->connect_ns = cfg->connect_ns;
	c->stall_ns = cfg->stall_ns;
	c->fd = -1;
	c->seed = (unsigned)clock_ns();
	c->todo.end = &c->todo.first;
	c->sent.end = &c->sent.first;
	AZ(pthread_mutex_init(&c->lock, NULL));
	err = thread_start(&c->thread, "memcached", run, c);
	if (err != 0) {
		AZ(pthread_mutex_destroy(&c->lock));
		goto fail;
	}
	*conn = c;
	return 0;
fail:
	if (c->wake >= 0)
		close(c->wake);
	free_strings(c);
	free(c);
	return err;
}

void mc_conn_close(struct mc_conn **conn)
{
	struct mc_conn *c = *conn;

	*conn = NULL;
	if (c == NULL)
		return;
	pthread_mutex_lock(&c->lock);
	c->closing = true;
	pthread_mutex_unlock(&c->lock);
	wake(c);
	AZ(pthread_join(c->thread, NULL));
	AZ(c->in_flight);
	AZ(pthread_mutex_destroy(&c->lock));
	close(c->wake);
	free_strings(c);
	free(c);
}
