/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated engine: virtual time, the order of completions, and which faults happen. See sim.h
 * for what it promises; contents of disks are in sim_disk.c, sockets in
 * sim_net.c. One thread.
 *
 * A disk operation in flight is a struct sim_flight with the time at which it is due. Its effect on
 * the disk and its done() happen together, when its io turns at or after that time. Nobody can tell
 * that from an effect at an earlier moment, except by a read that overlaps a write in flight: that
 * read takes each sector from the disk or from the write, by chance.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "valcached/io/sim_int.h"

#define MILLION 1000000u

/* ---- chance -----------------------------------------------------------------------------------
 */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* xorshift128+ */
static uint64_t next_random(struct sim_env *env)
{
	uint64_t a = env->rng[0], b = env->rng[1];

	env->rng[0] = b;
	a ^= a << 23;
	env->rng[1] = a ^ b ^ a >> 18 ^ b >> 5;
	return env->rng[1] + b;
}

uint64_t sim_random(struct sim_env *env, uint64_t below)
{
	A(below > 0);
	return (next_random(env) >> 11) % below;
}

bool sim_chance(struct sim_env *env, uint32_t in_a_million)
{
	return in_a_million > 0 && sim_random(env, MILLION) < in_a_million;
}

static uint64_t latency(struct sim_env *env, const uint64_t range[2])
{
	return range[1] > range[0] ? range[0] + sim_random(env, range[1] - range[0] + 1) : range[0];
}

/* ---- operations -------------------------------------------------------------------------------
 */

static struct sim_io *sim_of(struct io *io)
{
	return container_of(io, struct sim_io, io);
}

static struct sim_file *file_of(const struct io_op *op)
{
	return container_of(op->u.disk.file, struct sim_file, pub);
}

static void local(struct sim_io *s, struct io_op *op, int32_t res)
{
	op->res = res;
	op->state = OP_LOCAL;
	op_list_append(&s->local, op);
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
	op->flags = 0;
	if (s->dead || file_of(op)->dead) {
		local(s, op, -ENODEV);
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

static void finish(struct io_op *op, int32_t res)
{
	op->res = res;
	op->more = false;
	op->kind = IO_NONE;
	op->state = OP_IDLE;
	op->done(op);
}

/* Sectors of other ios' and our own writes in flight may or may not be on the disk already. */
static void overlay(struct sim_env *env, const struct sim_disk *d, uint64_t off, unsigned char *buf,
		    uint32_t len)
{
	for (struct sim_io *s = env->ios; s != NULL; s = s->next)
		for (struct sim_flight *f = s->flight; f != NULL; f = f->next) {
			const struct io_op *w = f->op;
			uint64_t a, b;

			if (w->kind != IO_WRITE || f->dead || file_of(w)->disk != d)
				continue;
			a = w->u.disk.off > off ? w->u.disk.off : off;
			b = w->u.disk.off + w->u.disk.len < off + len
				? w->u.disk.off + w->u.disk.len
				: off + len;
			for (; a < b; a += SIM_SECTOR)
				if (sim_random(env, 2) == 0)
					memcpy(buf + (a - off),
					       (const unsigned char *)w->u.disk.buf +
						   (a - w->u.disk.off),
					       SIM_SECTOR);
		}
}

/* How many of len bytes this time: all, or by chance a shorter aligned part. */
static uint32_t part(struct sim_env *env, const struct sim_fate *fate, const struct io_file *file,
		     uint32_t len)
{
	uint32_t units = len / file->info.align;

	if (units < 2 || (fate->what != SIM_FATE_SHORT && !sim_chance(env, env->config.short_io)))
		return len;
	env->count.shorts++;
	return (uint32_t)(1 + sim_random(env, units - 1)) * file->info.align;
}

static int32_t do_read(struct sim_env *env, const struct sim_fate *fate, struct io_op *op,
		       struct sim_disk *d)
{
	uint64_t off = op->u.disk.off + op->u.disk.did;
	uint32_t len = op->u.disk.len - op->u.disk.did;
	unsigned char *buf = (unsigned char *)op->u.disk.buf + op->u.disk.did;

	if (off >= d->size)
		return 0;
	if (len > d->size - off)
		len = (uint32_t)(d->size - off);
	if (sim_disk_faulty(d, off, len) & SIM_READ_ERROR || fate->what == SIM_FATE_ERROR ||
	    sim_chance(env, env->config.read_error)) {
		env->count.read_errors++;
		return fate->what == SIM_FATE_ERROR ? fate->err : -EIO;
	}
	len = part(env, fate, op->u.disk.file, len);
	sim_image_get(&d->now, off, buf, len);
	overlay(env, d, off, buf, len);
	if (fate->what == SIM_FATE_FLIP || sim_chance(env, env->config.read_flip)) {
		env->count.read_flips++;
		buf[sim_random(env, len)] ^= (unsigned char)(1u << sim_random(env, 8));
	}
	return (int32_t)len;
}

static int32_t do_write(struct sim_env *env, const struct sim_fate *fate, struct io_op *op,
			struct sim_disk *d)
{
	uint64_t off = op->u.disk.off + op->u.disk.did;
	uint32_t len = op->u.disk.len - op->u.disk.did, align = op->u.disk.file->info.align;
	unsigned char *buf = (unsigned char *)op->u.disk.buf + op->u.disk.did;

	if (off >= d->size || len > d->size - off)
		return -ENOSPC; /* stores never write past their size */
	if (sim_disk_faulty(d, off, len) & SIM_WRITE_ERROR || fate->what == SIM_FATE_ERROR ||
	    sim_chance(env, env->config.write_error)) {
		env->count.write_errors++;
		sim_disk_write(env, d, off, buf,
			       (uint32_t)sim_random(env, len / align + 1) * align);
		return fate->what == SIM_FATE_ERROR ? fate->err : -EIO;
	}
	if (fate->what == SIM_FATE_LOST || sim_chance(env, env->config.lost_write)) {
		env->count.lost_writes++;
		return (int32_t)len;
	}
	if (fate->what == SIM_FATE_ASTRAY || sim_chance(env, env->config.misdirect)) {
		uint64_t places = (d->size - len) / align + 1;
		uint64_t to =
		    fate->what == SIM_FATE_ASTRAY ? fate->to : sim_random(env, places) * align;

		if (to != off) {
			env->count.misdirected++;
			off = to;
		}
		sim_disk_write(env, d, off, buf, len);
		return (int32_t)len;
	}
	len = part(env, fate, op->u.disk.file, len);
	if (fate->what == SIM_FATE_FLIP || sim_chance(env, env->config.write_flip)) {
		unsigned char *copy = malloc(len);

		AN(copy);
		memcpy(copy, buf, len);
		copy[sim_random(env, len)] ^= (unsigned char)(1u << sim_random(env, 8));
		sim_disk_write(env, d, off, copy, len);
		free(copy);
		env->count.write_flips++;
	} else {
		sim_disk_write(env, d, off, buf, len);
	}
	return (int32_t)len;
}

/* What was there is zeros afterwards, or still there: a device may ignore the hint. */
static int32_t do_discard(struct sim_env *env, struct io_op *op, struct sim_disk *d)
{
	static const unsigned char zero[SIM_PAGE];
	uint64_t at = op->u.disk.off, end = at + op->u.disk.len;

	if (end > d->size)
		return -EINVAL;
	if (sim_random(env, 4) == 0)
		return 0;
	while (at < end) {
		uint32_t n = (uint32_t)(end - at < SIM_PAGE ? end - at : SIM_PAGE);

		sim_disk_write(env, d, at, zero, n);
		at += n;
	}
	return 0;
}

static int32_t do_disk(struct sim_env *env, struct sim_flight *f)
{
	struct io_op *op = f->op;
	struct sim_disk *d = file_of(op)->disk;

	if (f->dead)
		return -ENODEV;
	if (sim_chance(env, env->config.again)) {
		env->count.agains++;
		return -EAGAIN;
	}
	/* A cancel comes in time or too late; a write may have begun. */
	if (op->flags & OP_CANCELLED && sim_random(env, 2) == 0) {
		if (op->kind == IO_WRITE && op->u.disk.off + op->u.disk.len <= d->size) {
			uint32_t n = (uint32_t)sim_random(env, op->u.disk.len / SIM_SECTOR + 1);

			sim_disk_write(env, d, op->u.disk.off, op->u.disk.buf, n * SIM_SECTOR);
		}
		return -ECANCELED;
	}
	switch (op->kind) {
	case IO_READ:
		return do_read(env, &f->fate, op, d);
	case IO_WRITE:
		return do_write(env, &f->fate, op, d);
	case IO_DISCARD:
		return do_discard(env, op, d);
	default:
		A(op->kind == IO_SYNC);
		if (sim_disk_faulty(d, 0, d->size) & SIM_WRITE_ERROR ||
		    f->fate.what == SIM_FATE_ERROR || sim_chance(env, env->config.sync_error)) {
			env->count.sync_errors++;
			return f->fate.what == SIM_FATE_ERROR ? f->fate.err : -EIO;
		}
		sim_disk_sync(d, f->seq);
		return 0;
	}
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
		finish(op, res);
	} else {
		f->due = s->env->now + latency(s->env, s->env->config.sock_ns);
		if (next == SIM_NET_MORE) {
			op->res = res;
			op->more = true;
			op->done(op);
		}
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
	res = do_disk(s->env, f);
	flight_drop(s, f);
	io_count(&s->io.count.completed, 1);
	if (!io_disk_result(&s->io, op, &res)) {
		launch(s, op);
		return 0;
	}
	disk_next(s);
	finish(op, res);
	return 1;
}

/* ---- turns ------------------------------------------------------------------------------------
 */

/* When f can land, if nothing else happens; UINT64_MAX: somebody else must act first. */
static uint64_t due(const struct sim_io *s, const struct sim_flight *f)
{
	if (f->dead || f->op->kind <= IO_DISCARD || f->op->flags & OP_CANCELLED ||
	    sim_net_ready(s->env, f->op))
		return f->due;
	return UINT64_MAX;
}

static bool due_now(const struct sim_io *s)
{
	if (s->woken || s->local.head != NULL)
		return true;
	for (const struct sim_flight *f = s->flight; f != NULL; f = f->next)
		if (due(s, f) <= s->env->now)
			return true;
	return false;
}

static uint64_t next_due(const struct sim_io *s)
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

	if (!due_now(s) && timeout_ns != 0) {
		uint64_t next = next_due(s);

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
		finish(op, op->res);
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

	op->flags = 0;
	if (io_disk_check(op) < 0)
		local(s, op, -EINVAL);
	else if (op->u.disk.len == 0)
		local(s, op, 0);
	else
		start_disk(s, op);
}

static void sim_sync(struct io *io, struct io_op *op)
{
	start_disk(sim_of(io), op);
}

static void sim_discard(struct io *io, struct io_op *op)
{
	struct sim_io *s = sim_of(io);

	op->flags = 0;
	if (!op->u.disk.file->info.block_device)
		local(s, op, -EOPNOTSUPP);
	else if ((op->u.disk.off | op->u.disk.len) % op->u.disk.file->info.align != 0)
		local(s, op, -EINVAL);
	else if (op->u.disk.len == 0)
		local(s, op, 0);
	else
		start_disk(s, op);
}

static void sim_net(struct io *io, struct io_op *op)
{
	struct sim_io *s = sim_of(io);

	op->flags = 0;
	op->data = NULL;
	if (op->kind == IO_SEND)
		op->u.net.len = io_iov_len(&op->u.net.msg);
	if (s->dead)
		local(s, op, -ENODEV);
	else if ((op->kind == IO_SEND || op->kind == IO_RECV) && op->u.net.len == 0)
		local(s, op, 0);
	else
		launch(s, op);
}

static void sim_cancel(struct io *io, struct io_op *op)
{
	struct sim_io *s = sim_of(io);

	if (op->state == OP_LOCAL)
		return;
	op->flags |= OP_CANCELLED;
	if (op->state == OP_WAIT) {
		A(op_list_remove(&s->wait, op));
		local(s, op, -ECANCELED);
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
    .read = sim_disk,
    .write = sim_disk,
    .sync = sim_sync,
    .discard = sim_discard,
    .accept = sim_net,
    .recv_multi = sim_net,
    .recv_some = sim_net,
    .recv = sim_net,
    .send = sim_net,
    .cancel = sim_cancel,
};

/* ---- opening ----------------------------------------------------------------------------------
 */

static int sim_open(const struct io_engine *engine, const struct io_config *c, struct io **io,
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

static int make_room(struct sim_env *env, struct sim_disk **d, const char *path, uint64_t size,
		     char **cause)
{
	uint64_t have = *d != NULL ? (*d)->size : 0, used = 0;

	for (const struct sim_disk *e = env->disks; e != NULL; e = e->next)
		used += e->block_device ? 0 : e->size;
	if (size == 0 && have == 0) {
		io_cause(cause, "%s: a new store needs a --size", path);
		return -EINVAL;
	}
	if (size > have && env->config.space != 0 && used + (size - have) > env->config.space) {
		char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX];
		uint64_t room = env->config.space > used ? env->config.space - used : 0;

		io_cause(cause, "%s: --size=%s is larger than the space for it, %s", path,
			 size_human(a, sizeof a, (double)size),
			 size_human(b, sizeof b, (double)(room + have)));
		return -ENOSPC;
	}
	if (*d == NULL)
		*d = sim_disk_new(env, path, size);
	else if (size > have)
		sim_disk_grow(*d, size);
	return 0;
}

static int sim_file_open(const struct io_engine *engine, const char *path, uint64_t size,
			 struct io_file **out, char **cause)
{
	struct sim_env *env = engine->env;
	struct sim_disk *d = sim_disk_find(env, path);
	bool block = strncmp(path, "/dev/", 5) == 0, created = d == NULL;
	struct sim_file *f;
	int id, r;

	if (cause != NULL)
		*cause = NULL;
	A(strlen(path) < sizeof f->pub.info.path);
	if (d != NULL && d->open != NULL) {
		io_cause(cause, "%s: the store is in use by another process", path);
		return -EBUSY;
	}
	if (block && (d == NULL || size > d->size)) {
		io_cause(cause,
			 d == NULL ? "%s: there is no such device"
				   : "%s: the device is smaller than --size",
			 path);
		return d == NULL ? -ENOENT : -ENOSPC;
	}
	if (!block) {
		r = make_room(env, &d, path, size, cause);
		if (r < 0)
			return r;
	}
	id = io_file_id_get();
	if (id < 0)
		return id;
	f = calloc(1, sizeof *f);
	AN(f);
	f->pub.engine = engine;
	f->pub.id = (unsigned)id;
	f->pub.info.size = size != 0 ? size : d->size;
	f->pub.info.align = env->config.align != 0 ? env->config.align : 512;
	f->pub.info.direct = true;
	f->pub.info.block_device = block;
	f->pub.info.created = created;
	strcpy(f->pub.info.path, path);
	f->env = env;
	f->disk = d;
	d->open = f;
	*out = &f->pub;
	return 0;
}

static void sim_file_close(struct io_file *pub)
{
	struct sim_file *f = container_of(pub, struct sim_file, pub);

	if (!f->dead)
		f->disk->open = NULL;
	io_file_id_put(pub->id);
	free(f);
}

static void defaults(uint64_t range[2], uint64_t least, uint64_t most)
{
	if (range[0] == 0 && range[1] == 0) {
		range[0] = least;
		range[1] = most;
	}
}

struct sim_env *sim_env_new(uint64_t seed, const struct sim_config *config)
{
	struct sim_env *env = calloc(1, sizeof *env);

	AN(env);
	env->engine = (struct io_engine){
	    .name = "sim",
	    .env = env,
	    .open = sim_open,
	    .file_open = sim_file_open,
	    .file_close = sim_file_close,
	};
	if (config != NULL)
		env->config = *config;
	defaults(env->config.read_ns, 50000, 300000);
	defaults(env->config.write_ns, 30000, 300000);
	defaults(env->config.sync_ns, 500000, 3000000);
	defaults(env->config.sock_ns, 1000, 50000);
	sim_env_reseed(env, seed);
	env->now = NS_PER_S;
	return env;
}

void sim_env_reseed(struct sim_env *env, uint64_t seed)
{
	env->rng[0] = mix(seed);
	env->rng[1] = mix(env->rng[0]) | 1;
}

void sim_env_on_submit(struct sim_env *env, sim_fate_fn *fn, void *arg)
{
	env->on_submit = fn;
	env->submit_arg = arg;
}

void sim_env_free(struct sim_env **p)
{
	struct sim_env *env = *p;
	struct sim_disk *d;

	*p = NULL;
	A(env->ios == NULL);
	sim_net_free(env);
	while ((d = env->disks) != NULL) {
		A(d->open == NULL);
		env->disks = d->next;
		sim_disk_free(d);
	}
	free(env);
}

const struct io_engine *sim_env_engine(struct sim_env *env)
{
	return &env->engine;
}

const struct sim_counters *sim_env_counters(const struct sim_env *env)
{
	return &env->count;
}

struct sim_config *sim_env_config(struct sim_env *env)
{
	return &env->config;
}

uint64_t sim_env_now(const struct sim_env *env)
{
	return env->now;
}

void sim_env_advance(struct sim_env *env, uint64_t ns)
{
	env->now += ns;
}

uint64_t sim_env_random(struct sim_env *env, uint64_t n)
{
	return sim_random(env, n);
}

bool sim_env_step(struct sim_env *env)
{
	struct sim_io *best = NULL;
	uint64_t n = 0, t = UINT64_MAX;

	for (struct sim_io *s = env->ios; s != NULL; s = s->next)
		if (due_now(s) && sim_random(env, ++n) == 0)
			best = s;
	if (best == NULL)
		for (struct sim_io *s = env->ios; s != NULL; s = s->next)
			if (next_due(s) < t) {
				t = next_due(s);
				best = s;
			}
	if (best == NULL)
		return false;
	if (t != UINT64_MAX && t > env->now)
		env->now = t;
	AN(sim_turn(&best->io, 0) >= 0);
	return true;
}

/* All ios and files are dead from here on; what was in flight has had its effect or never will. */
static void all_dead(struct sim_env *env)
{
	for (struct sim_io *s = env->ios; s != NULL; s = s->next) {
		struct io_op *op;

		s->dead = true;
		for (struct sim_flight *f = s->flight; f != NULL; f = f->next) {
			f->dead = true;
			f->due = env->now;
		}
		while ((op = op_list_pop(&s->wait)) != NULL)
			local(s, op, -ENODEV);
	}
	for (struct sim_disk *d = env->disks; d != NULL; d = d->next)
		if (d->open != NULL) {
			d->open->dead = true;
			d->open = NULL;
		}
}

static bool lands_now(const struct sim_flight *f)
{
	const struct io_op *op = f->op;

	return !f->dead && op->kind == IO_WRITE &&
	       op->u.disk.off + op->u.disk.len <= file_of(op)->disk->size;
}

void sim_env_power_loss(struct sim_env *env)
{
	for (struct sim_io *s = env->ios; s != NULL; s = s->next)
		for (struct sim_flight *f = s->flight; f != NULL; f = f->next)
			if (lands_now(f))
				sim_disk_queue(file_of(f->op)->disk,
					       sim_write_new(++env->seq, f->op->u.disk.off,
							     f->op->u.disk.buf, f->op->u.disk.len));
	for (struct sim_disk *d = env->disks; d != NULL; d = d->next)
		sim_disk_power_loss(env, d);
	all_dead(env);
}

void sim_env_kill(struct sim_env *env)
{
	for (struct sim_io *s = env->ios; s != NULL; s = s->next)
		for (struct sim_flight *f = s->flight; f != NULL; f = f->next) {
			struct io_op *op = f->op;
			uint32_t len;

			if (!lands_now(f))
				continue;
			switch (sim_random(env, 3)) {
			case 0:
				env->count.kept++;
				len = op->u.disk.len;
				break;
			case 1:
				env->count.dropped++;
				len = 0;
				break;
			default:
				env->count.torn++;
				len = (uint32_t)sim_random(env, op->u.disk.len / SIM_SECTOR + 1) *
				      SIM_SECTOR;
				break;
			}
			sim_disk_write(env, file_of(op)->disk, op->u.disk.off, op->u.disk.buf, len);
		}
	all_dead(env);
}
