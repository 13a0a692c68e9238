/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a result means, the same for every engine: continuing short reads and writes, walking
 * iovecs, ids of files. On the thread of the io, except for the ids.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cause.h"
#include "valcached/io/io_int.h"

static _Atomic uint64_t file_ids; /* bit i: id i is taken */

int io_file_id_get(void)
{
	uint64_t old = atomic_load(&file_ids);

	for (;;) {
		unsigned id;

		if (old == UINT64_MAX)
			return -ENFILE;
		id = (unsigned)__builtin_ctzll(~old);
		if (atomic_compare_exchange_weak(&file_ids, &old, old | 1ull << id))
			return (int)id;
	}
}

void io_file_id_put(unsigned id)
{
	uint64_t old = atomic_fetch_and(&file_ids, ~(1ull << id));

	AN(old & 1ull << id);
}

int io_try(const struct io_engine *engine, unsigned loops, char **cause)
{
	const struct io_config cfg = {.net = true, .trial = true};
	struct io **io = calloc(loops, sizeof(struct io *));
	unsigned n = 0;
	int r = io != NULL ? 0 : -ENOMEM;

	if (cause != NULL)
		*cause = NULL;
	while (r == 0 && n < loops) {
		r = io_open(engine, &cfg, &io[n], cause);
		if (r == 0)
			n++;
	}
	if (r == 0 && n > 0) {
		r = io_turn(io[0], 0); /* which enables a ring */
		if (r < 0)
			cause_say(cause, "%s does not work here: %s", engine->name, strerror(-r));
		else
			r = 0;
	}
	while (n > 0)
		io_close(&io[--n]);
	free(io);
	return r;
}

bool io_op_begun(const struct io_op *op)
{
	uint8_t state = op_state(op);

	return state == OP_KERNEL || state == OP_LOCAL;
}

bool io_disk_begin(struct io_op *op, int32_t *res)
{
	const struct io_file_info *info = &op->u.disk.file->info;
	uint64_t all = op->u.disk.off | op->u.disk.len | (uintptr_t)op->u.disk.buf;

	op->flags = 0;
	if (op->kind == IO_SYNC)
		return false;
	*res = 0;
	if (unlikely(op->kind == IO_DISCARD && !info->block_device))
		*res = -EOPNOTSUPP;
	else if (unlikely((all & (info->align - 1)) != 0 || op->u.disk.len > INT32_MAX))
		*res = -EINVAL;
	return *res < 0 || op->u.disk.len == 0;
}

bool io_net_begin(struct io_op *op, int32_t *res)
{
	op->flags &= OP_DRAINED;
	op->data = NULL;
	if (op->kind == IO_SEND)
		op->u.net.len = io_iov_len(&op->u.net.msg);
	else if (op->kind != IO_RECV)
		return false;
	A(op->u.net.len <= INT32_MAX);
	*res = 0;
	return op->u.net.len == 0;
}

bool io_accept_goes_on(int32_t res)
{
	switch (res) {
	case -ECONNABORTED: /* this caller is gone; accept(2) says the others are not */
	case -EPROTO:
	case -EPERM:
	case -EAGAIN:
	case -EINTR:
	case -ENETDOWN:
	case -ENOPROTOOPT:
	case -EHOSTDOWN:
	case -ENONET:
	case -EHOSTUNREACH:
	case -ENETUNREACH:
	case -ETIMEDOUT:
		return true;
	default:
		return res >= 0;
	}
}

static bool disk_failed(struct io *io, struct io_op *op, int32_t *res)
{
	bool again = *res == -EAGAIN || *res == -EINTR;

	if (again && !(op->flags & OP_CANCELLED) && op_retry(io, op))
		return false;
	if (again && (op->flags & OP_CANCELLED))
		*res = -ECANCELED;
	if (*res != -ECANCELED && *res != -EOPNOTSUPP)
		io_count(&io->count.file_errors, 1);
	return true;
}

/* The rest must go to the kernel: not if the op was cancelled meanwhile. */
static bool disk_rest(struct io_op *op, int32_t *res)
{
	if (!(op->flags & OP_CANCELLED))
		return false;
	*res = -ECANCELED;
	return true;
}

static bool read_result(struct io *io, struct io_op *op, int32_t *res)
{
	const struct io_file_info *info = &op->u.disk.file->info;

	op->u.disk.did += (uint32_t)*res;
	A(op->u.disk.did <= op->u.disk.len);
	/* With O_DIRECT only the end of the file stops a read between sectors. */
	if (unlikely(op->u.disk.did < op->u.disk.len) && *res > 0 &&
	    !(info->direct && op->u.disk.did % info->align != 0)) {
		io_count(&io->count.short_reads, 1);
		return disk_rest(op, res);
	}
	*res = (int32_t)op->u.disk.did;
	io_count(&io->count.reads, 1);
	io_count(&io->count.read_bytes, op->u.disk.did);
	return true;
}

static bool write_result(struct io *io, struct io_op *op, int32_t *res)
{
	const struct io_file_info *info = &op->u.disk.file->info;
	uint32_t before = op->u.disk.did, now = before + (uint32_t)*res;

	A(now <= op->u.disk.len);
	if (unlikely(now < op->u.disk.len)) {
		/* O_DIRECT goes on at a sector: what is after the last whole one goes again. */
		op->u.disk.did = info->direct ? now - now % info->align : now;
		io_count(&io->count.short_writes, 1);
		if (op->u.disk.did == before && !op_retry(io, op)) {
			*res = -EIO;
			io_count(&io->count.file_errors, 1);
			return true;
		}
		return disk_rest(op, res);
	}
	*res = (int32_t)now;
	io_count(&io->count.writes, 1);
	io_count(&io->count.write_bytes, now);
	return true;
}

bool io_disk_result(struct io *io, struct io_op *op, int32_t *res)
{
	if (unlikely(*res < 0))
		return disk_failed(io, op, res);
	switch (op->kind) {
	case IO_READ:
		return read_result(io, op, res);
	case IO_WRITE:
		return write_result(io, op, res);
	case IO_SYNC:
		io_count(&io->count.syncs, 1);
		break;
	default:
		break;
	}
	*res = 0;
	return true;
}

uint32_t io_iov_len(const struct msghdr *msg)
{
	size_t n = 0;

	for (size_t i = 0; i < msg->msg_iovlen; i++)
		n += msg->msg_iov[i].iov_len;
	A(n <= INT32_MAX);
	return (uint32_t)n;
}

void io_iov_advance(struct msghdr *msg, size_t n)
{
	while (n > 0) {
		struct iovec *v = msg->msg_iov;

		A(msg->msg_iovlen > 0);
		if (n < v->iov_len) {
			v->iov_base = (char *)v->iov_base + n;
			v->iov_len -= n;
			return;
		}
		n -= v->iov_len;
		msg->msg_iov++;
		msg->msg_iovlen--;
	}
}
