/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the io_uring engine: registered memory and files, what is asked of the kernel, what its
 * answers mean, and the bound on what is in the device's queue [IO-7].
 */
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "valcached/io/memcheck.h"
#include "valcached/io/uring_int.h"

#define REGION_BYTES (1ull << 30) /* the kernel's limit for one registered buffer */
/*
 * Where reads come and go, a write goes to the kernel in pieces of so much [IO-8]: a device may have no
 * place for a read before a large write is over (virtio without indirect descriptors has 256
 * places for all requests, and a megabyte of scattered pages takes every one).
 */
#define WRITE_PIECE (256u * 1024)
#define READS_NS    (10 * NS_PER_MS) /* so long after the last read began */

static struct region *region_find(struct uring *u, const void *buf, size_t len)
{
	uintptr_t at = (uintptr_t)buf;
	struct region *r = u->hit;
	unsigned lo = 0, hi = u->region_n;

	if (likely(r != NULL && at >= r->base && at + len <= r->end))
		return r;
	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (u->region[mid].base <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0)
		return NULL;
	r = &u->region[lo - 1];
	if (at + len > r->end)
		return NULL;
	return u->hit = r;
}

void uring_prep_disk(struct uring *u, struct io_op *op, struct io_uring_sqe *sqe)
{
	struct file *f = container_of(op->u.disk.file, struct file, pub);
	uint32_t did = op->u.disk.did, len = op->u.disk.len - did;
	uint64_t off = op->u.disk.off + did;
	char *buf = op->u.disk.buf;
	struct region *r;

	switch (op->kind) {
	case IO_READ:
		u->read_ns = u->io.now_ns;
		buf += did;
		r = region_find(u, buf, len);
		if (likely(r != NULL))
			io_uring_prep_read_fixed(sqe, f->fd, buf, len, off, (int)r->index);
		else
			io_uring_prep_read(sqe, f->fd, buf, len, off);
		break;
	case IO_WRITE:
		buf += did;
		if (len > WRITE_PIECE && u->io.now_ns - u->read_ns < READS_NS)
			len = WRITE_PIECE;
		r = region_find(u, buf, len);
		if (likely(r != NULL))
			io_uring_prep_write_fixed(sqe, f->fd, buf, len, off, (int)r->index);
		else
			io_uring_prep_write(sqe, f->fd, buf, len, off);
		break;
	case IO_SYNC:
		io_uring_prep_fsync(sqe, f->fd, IORING_FSYNC_DATASYNC);
		break;
	default:
		A(op->kind == IO_DISCARD);
		if (op->u.disk.buf == NULL) {
			io_uring_prep_rw(IORING_OP_URING_CMD, sqe, f->fd, NULL, 0, 0);
			sqe->cmd_op = BLOCK_URING_CMD_DISCARD;
			sqe->addr = op->u.disk.off;
			sqe->addr3 = op->u.disk.len;
		} else { /* the kernel has no such command; see uring_disk_done() */
			io_uring_prep_fallocate(sqe, f->fd,
						FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
						(off_t)op->u.disk.off, (off_t)op->u.disk.len);
		}
		break;
	}
	if (likely(u->files_fixed & 1ull << f->pub.id)) {
		sqe->fd = (int)f->pub.id;
		sqe->flags |= IOSQE_FIXED_FILE;
	}
}

static void start_disk(struct uring *u, struct io_op *op)
{
	if (unlikely(u->disk_now >= u->disk_depth)) {
		io_count(&u->io.count.disk_waits, 1);
		op->state = OP_WAIT;
		op_list_append(&u->disk_wait, op);
		return;
	}
	u->disk_now++;
	uring_start(u, op);
}

void uring_disk_next(struct uring *u)
{
	struct io_op *op = op_list_pop(&u->disk_wait);

	if (likely(op == NULL))
		u->disk_now--;
	else
		uring_start(u, op);
}

unsigned uring_disk_done(struct uring *u, struct io_op *op, int32_t res)
{
	if (unlikely(op->kind == IO_DISCARD) && op->u.disk.buf == NULL &&
	    (res == -EINVAL || res == -EOPNOTSUPP) && !(op->flags & OP_CANCELLED)) {
		op->u.disk.buf = op; /* not NULL: the other way of asking */
		uring_start(u, op);
		return 0;
	}
	if (op->kind == IO_WRITE && res == (int32_t)WRITE_PIECE &&
	    op->u.disk.len - op->u.disk.did > WRITE_PIECE && !(op->flags & OP_CANCELLED)) {
		op->u.disk.did += WRITE_PIECE;
		uring_start(u, op);
		return 0;
	}
	if (unlikely(!io_disk_result(&u->io, op, &res))) {
		uring_start(u, op);
		return 0;
	}
	if (unlikely(u->memcheck) && op->kind == IO_READ && res > 0)
		memcheck_filled(op->u.disk.buf, (size_t)res);
	if (likely(!(op->flags & OP_PLACELESS)))
		uring_disk_next(u);
	op_finish(op, res);
	return 1;
}

void uring_disk(struct io *io, struct io_op *op)
{
	struct uring *u = uring_of(io);
	int32_t res;

	if (unlikely(io_disk_begin(op, &res)))
		op_local(&u->local, op, res);
	else
		start_disk(u, op);
}

static int add_piece(struct uring *u, void *base, size_t len)
{
	struct iovec iov = {.iov_base = base, .iov_len = len};
	__u64 tag = 0;
	unsigned at = u->region_n;
	int r;

	if (u->region_n == REGIONS_MAX)
		return -ENOSPC;
	r = io_uring_register_buffers_update_tag(&u->ring, u->region_n, &iov, &tag, 1);
	if (r < 0)
		return r;
	while (at > 0 && u->region[at - 1].base > (uintptr_t)base) {
		u->region[at] = u->region[at - 1];
		at--;
	}
	u->region[at] = (struct region){
	    .base = (uintptr_t)base,
	    .end = (uintptr_t)base + len,
	    .index = u->region_n,
	};
	u->region_n++;
	u->hit = NULL;
	return 0;
}

int uring_add_memory(struct io *io, void *base, size_t len)
{
	static struct log_limit limit;
	struct uring *u = uring_of(io);
	size_t at = 0;
	int r = u->table_buffers ? 0 : -EOPNOTSUPP;

	while (r == 0 && at < len) {
		size_t n = len - at < REGION_BYTES ? len - at : REGION_BYTES;

		r = add_piece(u, (char *)base + at, n);
		at += n;
	}
	if (r == -ENOMEM || r == -EPERM)
		log_limited(&limit, LOG_WARN,
			    "io: %zu MiB of buffers are not registered with the kernel (%s): disk "
			    "I/O costs "
			    "more CPU. Raise the locked-memory limit: LimitMEMLOCK=infinity in the "
			    "unit file, "
			    "or ulimit -l unlimited",
			    len >> 20, strerror(-r));
	else if (r < 0)
		log_limited(&limit, LOG_WARN,
			    "io: %zu MiB of buffers are not registered with the kernel (%s): disk "
			    "I/O costs "
			    "more CPU",
			    len >> 20, strerror(-r));
	return r;
}

int uring_add_file(struct io *io, struct io_file *pub)
{
	struct uring *u = uring_of(io);
	struct file *f = container_of(pub, struct file, pub);
	__u64 tag = 0;
	int r;

	A(pub->engine == io->engine && pub->id < IO_FILES_MAX);
	u->files_fixed &= ~(1ull << pub->id);
	if (!u->table_files)
		return 0; /* works with the plain descriptor */
	r = io_uring_register_files_update_tag(&u->ring, pub->id, &f->fd, &tag, 1);
	if (r < 0)
		return r;
	u->files_fixed |= 1ull << pub->id;
	return 0;
}
