/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One loop of the simulated engine: operations in flight, turns, the table. One thread.
 *
 * A disk operation in flight is a struct sim_flight with the time at which it is due. Its effect on
 * the disk and its done() happen together, when its io turns at or after that time. Nobody can tell
 * that from an effect at an earlier moment, except by a read that overlaps a write in flight: that
 * read takes each sector from the disk or from the write, by chance.
 */
#include <errno.h>
#include <stdlib.h>

#include "valcached/io/sim_int.h"

static struct sim_io *sim_of(struct io *io)
{
	return container_of(io, struct sim_io, io);
}

static uint64_t latency(struct sim_env *env, const uint64_t range[2])
{
	return range[1] > range[0] ? range[0] + sim_random(env, range[1] - range[0] + 1) : range[0];
}

static void launch(struct sim_io *s, struct io_op *op)
{
	struct sim_env *env = s->env;
	struct sim_flight *f = calloc(1, sizeof *f);
	const uint64_t *range = op->kind == IO_READ      ? env->config.read_ns
				: op->kind == IO_WRITE   ? env->config.write_ns
				: op->kind <= IO_DISCARD ? env->config.sync_ns
							 : env->config.sock_ns;

	AN(f);
	f->op = op;
	if (env->on_submit != NULL && op->kind <= IO_DISCARD && !s->dead)
		env->on_submit(env->submit_arg, &s->io, op, &f->fate);
	f->due = s->dead ? env->now : env->now + latency(env, range) + f->fate.delay_ns;
	f->seq = env->seq;
	f->dead = s->dead;
	f->next = s->flight;
	s->flight = f;
	op->state = OP_KERNEL;
	io_count(&s->io.count.submitted, 1);
}

static void start_disk(struct sim_io *s, struct io_op *op)
{
	if (s->dead || sim_file_of(op)->dead || sim_file_of(op)->shut) {
		op_local(&s->local, op, -ENODEV);
		return;
	}
	if (s->disk_now >= s->disk_depth) {
		io_count(&s->io.count.disk_waits, 1);
		op->state = OP_WAIT;
		op_list_append(&s->wait, op);
		return;
	}
	s->disk_now++;
	launch(s, op);
}

static void disk_next(struct sim_io *s)
{
	struct io_op *op = op_list_pop(&s->wait);

	if (op == NULL)
		s->disk_now--;
	else
		launch(s, op);
}

static void flight_drop(struct sim_io *s, struct sim_flight *f)
{
	struct sim_flight **p = &s->flight;

	while (*p != f)
		p = &(*p)->next;
	*p = f->next;
	free(f);
}

static unsigned land_net(struct sim_io *s, struct sim_flight *f)
{
	struct io_op *op = f->op;
	enum sim_net_next next = SIM_NET_LAST;
	void *data;
	int32_t res;

	op->data = NULL;
	if (f->dead)
		res = -ENODEV;
	else if (op->flags & OP_CANCELLED)
		res = op->kind == IO_RECV ? (int32_t)op->u.net.did : -ECANCELED;
	else
		next = sim_net_do(s, op, &res);
	data = (void *)(uintptr_t)op->data;
	io_count(&s->io.count.completed, 1);
	if (next == SIM_NET_LAST) {
		flight_drop(s, f);
		op_finish(op, res);
	} else {
		f->due = s->env->now + latency(s->env, s->env->config.sock_ns);
		if (next == SIM_NET_MORE)
			op_deliver(op, res);
	}
	free(data); /* not a byte of it is valid after done(), and tests see who looks */
	return next != SIM_NET_AGAIN;
}

/* The flight is over: its effect, and its done() unless it must go on. */
static unsigned land(struct sim_io *s, struct sim_flight *f)
{
	struct io_op *op = f->op;
	int32_t res;

	if (op->kind > IO_DISCARD)
		return land_net(s, f);
	res = sim_file_do(s->env, f);
	flight_drop(s, f);
	io_count(&s->io.count.completed, 1);
	if (!io_disk_result(&s->io, op, &res)) {
		launch(s, op);
		return 0;
	}
	if (!(op->flags & OP_PLACELESS))
		disk_next(s);
	op_finish(op, res);
	return 1;
}

/* When f can land, if nothing else happens; UINT64_MAX: somebody else must act first. */
static uint64_t due(const struct sim_io *s, const struct sim_flight *f)
{
	if (!f->dead && f->op->kind <= IO_DISCARD && sim_file_of(f->op)->disk->hangs)
		return UINT64_MAX;
	if (f->dead || f->op->kind <= IO_DISCARD || f->op->flags & OP_CANCELLED ||
	    sim_net_ready(s->env, f->op))
		return f->due;
	return UINT64_MAX;
}

bool sim_io_due_now(const struct sim_io *s)
{
	if (s->woken || s->local.head != NULL)
		return true;
	for (const struct sim_flight *f = s->flight; f != NULL; f = f->next)
		if (due(s, f) <= s->env->now)
			return true;
	return false;
}

uint64_t sim_io_next_due(const struct sim_io *s)
{
	uint64_t t = UINT64_MAX;

	for (const struct sim_flight *f = s->flight; f != NULL; f = f->next)
		if (due(s, f) < t)
			t = due(s, f);
	return t;
}

/* A random one of those due at that time; NULL: none. */
static struct sim_flight *pick(struct sim_io *s, uint64_t now)
{
	struct sim_flight *best = NULL;
	uint64_t n = 0;

	for (struct sim_flight *f = s->flight; f != NULL; f = f->next)
		if (due(s, f) <= now && sim_random(s->env, ++n) == 0)
			best = f;
	return best;
}

static int sim_turn(struct io *io, int64_t timeout_ns)
{
	struct sim_io *s = sim_of(io);
	struct sim_env *env = s->env;
	struct op_list mine;
	struct sim_flight *f;
	struct io_op *op;
	uint64_t now, left = 0;
	int n = 0;

	if (!sim_io_due_now(s) && timeout_ns != 0) {
		uint64_t next = sim_io_next_due(s);

		if (timeout_ns > 0 && next > env->now + (uint64_t)timeout_ns)
			next = env->now + (uint64_t)timeout_ns;
		if (next != UINT64_MAX) /* else nothing will ever come, and nobody else can run */
			env->now = next;
	}
	io_count(&io->count.enters, 1);
	io->now_ns = now = env->now;
	mine = s->local;
	op_list_init(&s->local);
	if (s->woken) {
		s->woken = false;
		if (io->on_wake != NULL)
			io->on_wake(io->wake_arg);
		n++;
	}
	while ((op = mine.head) != NULL) {
		mine.head = op->next;
		op_finish(op, op->res);
		n++;
	}
	for (f = s->flight; f != NULL; f = f->next)
		left += due(s, f) <= now;
	/* Bounded: operations without latency that these callbacks submit wait for the next turn.
	 */
	while (left-- > 0 && (f = pick(s, now)) != NULL)
		n += (int)land(s, f);
	return n;
}

static void sim_wake(struct io *io)
{
	sim_of(io)->woken = true;
}

static int sim_add_memory(struct io *io, void *base, size_t len)
{
	(void)io;
	(void)base;
	(void)len;
	return 0;
}

static int sim_add_file(struct io *io, struct io_file *pub)
{
	A(pub->engine == io->engine);
	return 0;
}

static void sim_disk(struct io *io, struct io_op *op)
{
	struct sim_io *s = sim_of(io);
	int32_t res;

	if (io_disk_begin(op, &res))
		op_local(&s->local, op, res);
	else
		start_disk(s, op);
}

static void sim_net(struct io *io, struct io_op *op)
{
	struct sim_io *s = sim_of(io);
	int32_t res;

	if (io_net_begin(op, &res) || s->dead)
		op_local(&s->local, op, s->dead ? -ENODEV : res);
	else
		launch(s, op);
}

static void sim_cancel(struct io *io, struct io_op *op)
{
	struct sim_io *s = sim_of(io);

	if (op->state == OP_LOCAL || op->flags & OP_CANCELLED)
		return;
	op->flags |= OP_CANCELLED;
	if (op->state == OP_KERNEL && op->kind <= IO_DISCARD) {
		op->flags |= OP_PLACELESS;
		disk_next(s);
	}
	if (op->state == OP_WAIT) {
		A(op_list_remove(&s->wait, op));
		op_local(&s->local, op, -ECANCELED);
	}
}

static void sim_close(struct io *io)
{
	struct sim_io *s = sim_of(io), **p;
	struct sim_flight *f;

	A(s->dead || (s->flight == NULL && s->wait.head == NULL && s->local.head == NULL));
	while ((f = s->flight) != NULL) {
		s->flight = f->next;
		free(f);
	}
	for (p = &s->env->ios; *p != s; p = &(*p)->next)
		;
	*p = s->next;
	free(s);
}

static const struct io_ops sim_ops = {
    .close = sim_close,
    .turn = sim_turn,
    .wake = sim_wake,
    .add_memory = sim_add_memory,
    .add_file = sim_add_file,
    .disk = sim_disk,
    .net = sim_net,
    .cancel = sim_cancel,
    .sock = &sim_sock_ops,
};

int sim_open(const struct io_engine *engine, const struct io_config *c, struct io **io,
	     char **cause)
{
	struct sim_io *s = calloc(1, sizeof *s);

	(void)cause;
	AN(s);
	s->env = engine->env;
	s->io.ops = &sim_ops;
	s->io.engine = engine;
	s->io.now_ns = s->env->now;
	s->disk_depth = c->disk_depth != 0 ? c->disk_depth : 128;
	s->recv_size = c->recv_buffer_size != 0 ? c->recv_buffer_size : 16384;
	op_list_init(&s->wait);
	op_list_init(&s->local);
	s->next = s->env->ios;
	s->env->ios = s;
	*io = &s->io;
	return 0;
}
