/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of the simulated machine: streams with a bounded queue at each end. What a receive or a
 * send moves at a time is cut by the seed. One thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "valcached/io/sim_int.h"

struct sim_sock {
	int fd, peer; /* peer < 0: closed */
	unsigned char *in;
	uint32_t in_n, in_at, cap;
	uint64_t moved; /* bytes that the peer gave or took */
	bool eof;       /* the peer sends no more */
	bool reset;     /* the peer has thrown our bytes away */
	bool rd_shut, wr_shut;
	bool listens;
	int waiting[64]; /* of a listener: ends to accept */
	unsigned waiting_n;
};

static struct sim_sock *find(const struct sim_env *env, int fd)
{
	unsigned i = (unsigned)(fd - SIM_FD);

	return fd >= SIM_FD && i < env->socks ? env->sock[i] : NULL;
}

static struct sim_sock *make(struct sim_env *env)
{
	struct sim_sock *s = calloc(1, sizeof *s);
	unsigned i = 0;

	AN(s);
	while (i < env->socks && env->sock[i] != NULL)
		i++;
	if (i == env->socks) {
		env->socks = i * 2 + 16;
		env->sock = realloc(env->sock, env->socks * sizeof(struct sim_sock *));
		AN(env->sock);
		memset(env->sock + i, 0, (env->socks - i) * sizeof(struct sim_sock *));
	}
	env->sock[i] = s;
	s->fd = SIM_FD + (int)i;
	s->peer = -1;
	return s;
}

static struct sim_sock *make_stream(struct sim_env *env)
{
	struct sim_sock *s = make(env);

	s->cap = env->config.sock_bytes != 0 ? env->config.sock_bytes : 65536;
	s->in = malloc(s->cap);
	AN(s->in);
	return s;
}

void sim_sock_pair(struct sim_env *env, int fd[2])
{
	struct sim_sock *a = make_stream(env), *b = make_stream(env);

	a->peer = b->fd;
	b->peer = a->fd;
	fd[0] = a->fd;
	fd[1] = b->fd;
}

int sim_sock_listen(struct sim_env *env)
{
	struct sim_sock *s = make(env);

	s->listens = true;
	return s->fd;
}

int sim_sock_connect(struct sim_env *env, int listener)
{
	struct sim_sock *l = find(env, listener);
	int fd[2];

	if (l == NULL || !l->listens || l->waiting_n == 64)
		return -ECONNREFUSED;
	sim_sock_pair(env, fd);
	l->waiting[l->waiting_n++] = fd[1];
	return fd[0];
}

int32_t sim_sock_send(struct sim_env *env, int fd, const void *buf, uint32_t len)
{
	struct sim_sock *s = find(env, fd), *p;
	uint32_t n;

	if (s == NULL)
		return -EBADF;
	p = find(env, s->peer);
	if (s->reset) {
		s->reset = false;
		return -ECONNRESET;
	}
	if (s->wr_shut || p == NULL)
		return -EPIPE;
	if (p->rd_shut)
		return (int32_t)len; /* as TCP does: taken, and thrown away */
	n = p->cap - p->in_n;
	if (n == 0)
		return -EAGAIN;
	if (n > len)
		n = len;
	memmove(p->in, p->in + p->in_at, p->in_n);
	p->in_at = 0;
	memcpy(p->in + p->in_n, buf, n);
	p->in_n += n;
	p->moved += n;
	return (int32_t)n;
}

int32_t sim_sock_recv(struct sim_env *env, int fd, void *buf, uint32_t len)
{
	struct sim_sock *s = find(env, fd), *p;

	if (s == NULL)
		return -EBADF;
	p = find(env, s->peer);
	if (s->reset) {
		s->reset = false;
		s->eof = true;
		return -ECONNRESET;
	}
	if (s->in_n == 0)
		return s->eof || s->rd_shut ? 0 : -EAGAIN;
	if (len > s->in_n)
		len = s->in_n;
	memcpy(buf, s->in + s->in_at, len);
	s->in_at += len;
	s->in_n -= len;
	if (p != NULL)
		p->moved += len;
	return (int32_t)len;
}

void sim_sock_shutdown(struct sim_env *env, int fd, int how)
{
	struct sim_sock *s = find(env, fd), *p;

	AN(s);
	p = find(env, s->peer);
	if (how != SHUT_WR)
		s->rd_shut = true;
	if (how != SHUT_RD) {
		s->wr_shut = true;
		if (p != NULL)
			p->eof = true;
	}
}

void sim_sock_close(struct sim_env *env, int fd, bool reset)
{
	struct sim_sock *s = find(env, fd), *p;

	AN(s);
	for (struct sim_io *io = env->ios; io != NULL; io = io->next)
		for (struct sim_flight *f = io->flight; f != NULL; f = f->next)
			A(f->dead || f->op->kind <= IO_DISCARD || f->op->u.net.fd != fd);
	p = find(env, s->peer);
	if (p != NULL) {
		p->peer = -1;
		p->eof = true;
		if (reset || s->in_n > 0) { /* bytes that nobody read reset the stream, as in TCP */
			p->reset = true;
			p->in_n = 0;
		}
	}
	for (unsigned i = 0; i < s->waiting_n; i++)
		sim_sock_close(env, s->waiting[i], true);
	env->sock[fd - SIM_FD] = NULL;
	free(s->in);
	free(s);
}

unsigned sim_sock_count(const struct sim_env *env)
{
	unsigned n = 0;

	for (unsigned i = 0; i < env->socks; i++)
		n += env->sock[i] != NULL;
	return n;
}

void sim_net_free(struct sim_env *env)
{
	for (unsigned i = 0; i < env->socks; i++)
		if (env->sock[i] != NULL)
			sim_sock_close(env, env->sock[i]->fd, false);
	free(env->sock);
}

/* ---- operations -------------------------------------------------------------------------------
 */

bool sim_net_ready(const struct sim_env *env, const struct io_op *op)
{
	const struct sim_sock *s = find(env, op->u.net.fd), *p;

	if (s == NULL)
		return true;
	if (op->kind == IO_ACCEPT)
		return s->waiting_n > 0 || !s->listens;
	if (op->kind != IO_SEND)
		return s->in_n > 0 || s->eof || s->reset || s->rd_shut;
	p = find(env, s->peer);
	return s->reset || s->wr_shut || p == NULL || p->rd_shut || p->in_n < p->cap;
}

/* How much of n to move this time. */
static uint32_t cut(struct sim_env *env, uint32_t n)
{
	if (n < 2 || !sim_chance(env, env->config.cut))
		return n;
	env->count.cuts++;
	return 1 + (uint32_t)sim_random(env, n - 1);
}

static enum sim_net_next do_send(struct sim_io *io, struct io_op *op, int32_t *res)
{
	struct sim_env *env = io->env;
	const struct iovec *v = op->u.net.msg.msg_iov;
	int32_t r;

	while (v->iov_len == 0) { /* some of the bytes are left, so there is another piece */
		op->u.net.msg.msg_iovlen--;
		v = ++op->u.net.msg.msg_iov;
	}
	r = sim_sock_send(env, op->u.net.fd, v->iov_base, cut(env, (uint32_t)v->iov_len));
	if (r < 0) {
		*res = r;
		return r == -EAGAIN ? SIM_NET_AGAIN : SIM_NET_LAST;
	}
	op->u.net.did += (uint32_t)r;
	io_iov_advance(&op->u.net.msg, (size_t)r);
	*res = (int32_t)op->u.net.did;
	if (op->u.net.did == op->u.net.len)
		return SIM_NET_LAST;
	io_count(&io->io.count.short_sends, 1);
	return SIM_NET_AGAIN;
}

static enum sim_net_next do_recv(struct sim_env *env, struct io_op *op, int32_t *res)
{
	uint32_t left = op->u.net.len - op->u.net.did;
	int32_t r =
	    sim_sock_recv(env, op->u.net.fd, (char *)op->u.net.buf + op->u.net.did, cut(env, left));

	*res = r;
	if (r < 0)
		return r == -EAGAIN ? SIM_NET_AGAIN : SIM_NET_LAST;
	op->u.net.did += (uint32_t)r;
	*res = (int32_t)op->u.net.did;
	return r == 0 || op->u.net.did == op->u.net.len ? SIM_NET_LAST : SIM_NET_AGAIN;
}

/* Into a buffer of exactly the size received, so that a reader beyond it is caught. */
static enum sim_net_next do_recv_buffer(struct sim_io *io, struct io_op *op, int32_t *res)
{
	struct sim_env *env = io->env;
	const struct sim_sock *s = find(env, op->u.net.fd);
	uint32_t n = io->recv_size;
	void *data;

	if (s == NULL) {
		*res = -EBADF;
		return SIM_NET_LAST;
	}
	if (sim_chance(env, env->config.nobufs)) {
		io_count(&io->io.count.recv_nobufs, 1);
		return SIM_NET_AGAIN;
	}
	if (op->kind == IO_RECV_SOME && n > op->u.net.len)
		n = op->u.net.len;
	if (n > s->in_n)
		n = s->in_n;
	n = cut(env, n);
	data = malloc(n > 0 ? n : 1);
	AN(data);
	*res = sim_sock_recv(env, op->u.net.fd, data, n);
	if (*res <= 0) {
		free(data);
		return *res == -EAGAIN ? SIM_NET_AGAIN : SIM_NET_LAST;
	}
	op->data = data;
	return op->kind == IO_RECV_MULTI ? SIM_NET_MORE : SIM_NET_LAST;
}

enum sim_net_next sim_net_do(struct sim_io *io, struct io_op *op, int32_t *res)
{
	struct sim_sock *s;

	switch (op->kind) {
	case IO_ACCEPT:
		s = find(io->env, op->u.net.fd);
		if (s == NULL || !s->listens) {
			*res = s == NULL ? -EBADF : -EINVAL;
			return SIM_NET_LAST;
		}
		if (sim_chance(io->env, io->env->config.accept_error)) {
			*res = -EMFILE;
			return SIM_NET_LAST;
		}
		*res = s->waiting[0];
		memmove(s->waiting, s->waiting + 1, --s->waiting_n * sizeof *s->waiting);
		return SIM_NET_MORE;
	case IO_SEND:
		return do_send(io, op, res);
	case IO_RECV:
		return do_recv(io->env, op, res);
	default:
		return do_recv_buffer(io, op, res);
	}
}

/* ---- at once ---------------------------------------------------------------------------------- */

static bool sock_say(struct io *io, int fd, const void *bytes, size_t n)
{
	struct sim_env *env = io->engine->env;

	return sim_sock_send(env, fd, bytes, (uint32_t)n) == (int32_t)n;
}

static void sock_finish(struct io *io, int fd, bool local)
{
	(void)local;
	sim_sock_shutdown(io->engine->env, fd, SHUT_WR);
}

static void sock_close(struct io *io, int fd)
{
	sim_sock_close(io->engine->env, fd, false);
}

static uint32_t sock_unread(struct io *io, int fd)
{
	const struct sim_sock *s = find(io->engine->env, fd);

	return s != NULL ? s->in_n : 0;
}

/* What was sent is at the other end at once. */
static uint32_t sock_unsent(struct io *io, int fd)
{
	(void)io;
	(void)fd;
	return 0;
}

static uint64_t sock_progress(struct io *io, int fd)
{
	const struct sim_sock *s = find(io->engine->env, fd);

	return s != NULL ? s->moved : 0;
}

/* All come from one address. */
static bool sock_peer(struct io *io, int fd, struct io_peer *peer)
{
	*peer = (struct io_peer){.addr[15] = 1};
	return find(io->engine->env, fd) != NULL;
}

const struct io_sock_ops sim_sock_ops = {
    .say = sock_say,
    .finish = sock_finish,
    .close = sock_close,
    .unread = sock_unread,
    .unsent = sock_unsent,
    .progress = sock_progress,
    .peer = sock_peer,
};
