/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/crash/mapped.h"
#include "valcached/io/io_int.h"

#define SECTOR 512u

struct mapped_io {
	struct io io;
	struct mapped *m;
	struct op_list local;
	bool woken;
};

static struct mapped_io *mapped_of(struct io *io)
{
	return container_of(io, struct mapped_io, io);
}

static void write_now(struct mapped *m, const struct io_op *op)
{
	if (m->last != NULL) {
		m->last->len = 0;
		m->last->off = op->u.disk.off;
		m->last->len = op->u.disk.len;
	}
	for (uint32_t at = 0; at < op->u.disk.len; at += SECTOR)
		memcpy(m->disk + op->u.disk.off + at, (const char *)op->u.disk.buf + at, SECTOR);
}

static void mapped_disk(struct io *io, struct io_op *op)
{
	struct mapped_io *s = mapped_of(io);
	struct mapped *m = s->m;
	int32_t res = 0;

	if (!io_disk_begin(op, &res) && op->kind != IO_SYNC) {
		res = (int32_t)op->u.disk.len;
		if (op->u.disk.off > m->size || op->u.disk.len > m->size - op->u.disk.off)
			res = op->kind == IO_READ ? 0 : -ENOSPC;
	}
	if (m->dead)
		res = -ENODEV;
	else if (op->kind == IO_WRITE && res > 0 && m->early)
		write_now(m, op);
	op_local(&s->local, op, res);
	if (m->submitted != NULL)
		m->submitted(io, m->arg);
}

static int mapped_turn(struct io *io, int64_t timeout_ns)
{
	struct mapped_io *s = mapped_of(io);
	struct mapped *m = s->m;
	struct op_list mine = s->local;
	struct io_op *op;
	int n = 0;

	A(timeout_ns >= 0 || s->woken || mine.head != NULL); /* else nothing will ever come */
	m->now += 1000;
	if (!s->woken && mine.head == NULL)
		m->now += (uint64_t)timeout_ns;
	io->now_ns = m->now;
	op_list_init(&s->local);
	if (s->woken) {
		s->woken = false;
		if (io->on_wake != NULL)
			io->on_wake(io->wake_arg);
		n++;
	}
	while ((op = mine.head) != NULL) {
		int32_t res = m->dead ? -ENODEV : op->res;

		mine.head = op->next;
		if (op->kind == IO_WRITE && res > 0 && !m->early)
			write_now(m, op);
		if (op->kind == IO_READ && res > 0)
			memcpy(op->u.disk.buf, m->disk + op->u.disk.off, op->u.disk.len);
		A(io_disk_result(io, op, &res));
		op_finish(op, res);
		n++;
	}
	return n;
}

static void mapped_wake(struct io *io)
{
	mapped_of(io)->woken = true;
}

static int mapped_add_memory(struct io *io, void *base, size_t len)
{
	(void)io;
	(void)base;
	(void)len;
	return 0;
}

static int mapped_add_file(struct io *io, struct io_file *f)
{
	(void)io;
	(void)f;
	return 0;
}

static void mapped_net(struct io *io, struct io_op *op)
{
	(void)io;
	(void)op;
	A(false);
}

static void mapped_close(struct io *io)
{
	struct mapped_io *s = mapped_of(io);

	AZ(s->local.head);
	free(s);
}

static const struct io_ops mapped_ops = {
    .close = mapped_close,
    .turn = mapped_turn,
    .wake = mapped_wake,
    .add_memory = mapped_add_memory,
    .add_file = mapped_add_file,
    .disk = mapped_disk,
    .net = mapped_net,
    .cancel = mapped_net, /* nothing is late on such a disk */
};

static int mapped_open(const struct io_engine *e, const struct io_config *c, struct io **io,
		       char **cause)
{
	struct mapped_io *s = calloc(1, sizeof *s);

	(void)c;
	(void)cause;
	AN(s);
	s->m = e->env;
	s->io.ops = &mapped_ops;
	s->io.engine = e;
	s->io.now_ns = s->m->now;
	op_list_init(&s->local);
	*io = &s->io;
	return 0;
}

static int mapped_file_open(const struct io_engine *e, const char *path, uint64_t size,
			    struct io_file **out, char **cause)
{
	const struct mapped *m = e->env;
	struct io_file *f = calloc(1, sizeof *f);
	int id = io_file_id_get();

	AN(f);
	A(id >= 0);
	A(size <= m->size);
	A(strlen(path) < sizeof f->info.path);
	*cause = NULL;
	f->engine = e;
	f->id = (unsigned)id;
	f->info.size = f->info.have = m->size;
	f->info.align = SECTOR;
	f->info.direct = true;
	strcpy(f->info.path, path);
	*out = f;
	return 0;
}

static void mapped_file_close(struct io_file *f)
{
	io_file_id_put(f->id);
	free(f);
}

/* A mapping keeps its length: only the one that it has. */
static int mapped_file_resize(struct io_file *f, uint64_t size, char **cause)
{
	if (cause != NULL)
		*cause = NULL;
	return size == f->info.have ? 0 : -ENOSPC;
}

/* Of the calls that bring a path back: a path fails here only when its process is dead. */
static bool mapped_file_works(struct io_file *f)
{
	(void)f;
	return false;
}

static void mapped_file_shut(struct io_file *f)
{
	(void)f;
}

static int mapped_file_reopen(struct io_file *f, char **cause)
{
	(void)f;
	*cause = NULL;
	return -ENODEV;
}

void mapped_init(struct mapped *m, void *disk, uint64_t size)
{
	memset(m, 0, sizeof *m);
	m->engine = (struct io_engine){
	    .name = "mapped",
	    .env = m,
	    .open = mapped_open,
	    .file_open = mapped_file_open,
	    .file_open_made = mapped_file_open,
	    .file_close = mapped_file_close,
	    .file_resize = mapped_file_resize,
	    .file_works = mapped_file_works,
	    .file_shut = mapped_file_shut,
	    .file_reopen = mapped_file_reopen,
	};
	m->disk = disk;
	m->size = size;
	m->now = NS_PER_S;
}
