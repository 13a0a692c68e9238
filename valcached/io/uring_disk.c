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
#include "base/memcheck.h"
#include "valcached/io/uring_int.h"

#define PIECE_SHIFT_MIN 21u /* a huge page */
#define PIECE_SHIFT_MAX 30u /* the kernel's limit for one registered buffer */
/*
 * Where reads come and go, a write goes to the kernel in pieces of so much [IO-8]: a device may have no
 * place for a read before a large write is over (virtio without indirect descriptors has 256
 * places for all requests, and a megabyte of scattered pages takes every one).
 */
#define WRITE_PIECE (256u * 1024)
#define READS_NS    (10 * NS_PER_MS) /* so long after the last read began */

static struct memory *memory_find(struct uring *u, uintptr_t at, size_t len)
{
	struct memory *m = u->hit;

	if (likely(m != NULL && at >= m->base && at + len <= m->end))
		return m;
	for (unsigned i = 0; i < u->memory_n; i++) {
		m = &u->memory[i];
		if (at >= m->base && at + len <= m->end)
			return u->hit = m;
	}
	return NULL;
}

/* r, having said that len bytes are not. */
static int not_registered(size_t len, int r)
{
	static struct log_limit limit;

	log_limited(
	    &limit, LOG_WARN,
	    "io: %zu MiB of buffers are not registered with the kernel (%s): disk I/O costs more CPU%s",
	    len >> 20, strerror(-r),
	    r == -ENOMEM || r == -EPERM
		? ". Raise the locked-memory limit: LimitMEMLOCK=infinity in the unit file, or ulimit -l unlimited"
		: "");
	return r;
}

/*
 * Gives a piece to the kernel, which brings its pages in and keeps them. On the first use of each, not all at once
 * when the memory is made known: the pages of a large cache would take seconds, and nobody would be served
 * before.
 */
static int piece_register(struct uring *u, struct memory *m, unsigned piece)
{
	uintptr_t base = m->base + ((uintptr_t)piece << m->shift);
	size_t left = m->end - base, len = (size_t)1 << m->shift;
	struct iovec iov = {.iov_base = (void *)base, .iov_len = left < len ? left : len};
	unsigned slot = m->slot + piece;
	__u64 tag = 0;
	int r;

	r = io_uring_register_buffers_update_tag(&u->ring, slot, &iov, &tag, 1);
	if (r >= 0) {
		u->registered[slot / 64] |= 1ull << slot % 64;
		return 0;
	}
	m->refused = true;
	return not_registered((size_t)(m->end - base), r);
}

/* The slot of the piece that holds the buffer; -1: of none, or of more than one. */
static int slot_of(struct uring *u, const void *buf, size_t len)
{
	uintptr_t at = (uintptr_t)buf;
	struct memory *m = memory_find(u, at, len);
	unsigned piece, slot;

	if (m == NULL)
		return -1;
	piece = (unsigned)((at - m->base) >> m->shift);
	if ((at + len - 1 - m->base) >> m->shift != piece)
		return -1;
	slot = m->slot + piece;
	if (unlikely((u->registered[slot / 64] >> slot % 64 & 1) == 0) &&
	    (m->refused || piece_register(u, m, piece) < 0))
		return -1;
	return (int)slot;
}

void uring_prep_disk(struct uring *u, struct io_op *op, struct io_uring_sqe *sqe)
{
	struct file *f = container_of(op->u.disk.file, struct file, pub);
	uint32_t did = op->u.disk.did, len = op->u.disk.len - did;
	uint64_t off = op->u.disk.off + did;
	char *buf = op->u.disk.buf;
	int slot;

	switch (op->kind) {
	case IO_READ:
		u->read_ns = u->io.now_ns;
		buf += did;
		slot = slot_of(u, buf, len);
		if (likely(slot >= 0))
			io_uring_prep_read_fixed(sqe, f->fd, buf, len, off, slot);
		else
			io_uring_prep_read(sqe, f->fd, buf, len, off);
		break;
	case IO_WRITE:
		buf += did;
		if (len > WRITE_PIECE && u->io.now_ns - u->read_ns < READS_NS)
			len = WRITE_PIECE;
		slot = slot_of(u, buf, len);
		if (likely(slot >= 0))
			io_uring_prep_write_fixed(sqe, f->fd, buf, len, off, slot);
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

int uring_add_memory(struct io *io, void *base, size_t len)
{
	struct uring *u = uring_of(io);
	unsigned shift = PIECE_SHIFT_MIN;
	size_t n, room = PIECES_MAX - u->pieces;

	if (len == 0)
		return 0;
	if (!u->table_buffers)
		return not_registered(len, -EOPNOTSUPP);
	/* small pieces, but half of the table for what comes after */
	while (shift < PIECE_SHIFT_MAX && (len - 1) >> shift >= room / 2)
		shift++;
	n = ((len - 1) >> shift) + 1;
	if (n > room || u->memory_n == MEMORIES_MAX)
		return not_registered(len, -ENOSPC);
	u->memory[u->memory_n] = (struct memory){.base = (uintptr_t)base,
						 .end = (uintptr_t)base + len,
						 .shift = shift,
						 .slot = u->pieces};
	u->pieces += (unsigned)n;
	return piece_register(u, &u->memory[u->memory_n++], 0);
}

int uring_add_file(struct io *io, struct io_file *pub)
{
	struct uring *u = uring_of(io);
	struct file *f = container_of(pub, struct file, pub);
	__u64 tag = 0;
	int r;

	A(pub->engine == io->engine && pub->id < IO_FILES_MAX);
	u->devices |= !u->enabled && pub->info.block_device;
	u->files_fixed &= ~(1ull << pub->id);
	if (!u->table_files)
		return 0; /* works with the plain descriptor */
	r = io_uring_register_files_update_tag(&u->ring, pub->id, &f->fd, &tag, 1);
	if (r < 0)
		return r;
	u->files_fixed |= 1ull << pub->id;
	return 0;
}
