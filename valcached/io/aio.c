/* SPDX-License-Identifier: Apache-2.0 */
/* Reads by io_submit(2); see aio.h. The shape of the ring is the kernel's ABI, fs/aio.c, version 1. */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "valcached/io/aio.h"

#define RING_MAGIC  0xa10a10a1u
#define RING_COMPAT 1u

struct aio_ring {
	uint32_t id, nr; /* nr: places in events */
	uint32_t head, tail;
	uint32_t magic, compat, incompat, header_length;
	struct io_event events[];
};

_Static_assert(sizeof(struct aio_ring) == 32, "the kernel's header");

int aio_open(struct aio *a, unsigned entries, int event_fd)
{
	memset(a, 0, sizeof *a);
	a->event_fd = event_fd;
	if (syscall(SYS_io_setup, entries, &a->ctx) < 0)
		return -errno;
	a->ring = (struct aio_ring *)a->ctx; /* the context is the address where it is mapped */
	if (a->ring->magic == RING_MAGIC && a->ring->compat == RING_COMPAT &&
	    a->ring->incompat == 0 && a->ring->header_length == sizeof(struct aio_ring))
		return 0;
	aio_close(a);
	return -ENOSYS;
}

void aio_close(struct aio *a)
{
	if (a->ring != NULL)
		syscall(SYS_io_destroy, a->ctx);
	a->ring = NULL;
}

static struct iocb read_cb(const struct aio *a, const struct io_op *op)
{
	const struct file *f = container_of(op->u.disk.file, struct file, pub);
	uint32_t did = op->u.disk.did;

	return (struct iocb){
	    .aio_data = (uintptr_t)op,
	    .aio_lio_opcode = IOCB_CMD_PREAD,
	    .aio_rw_flags = RWF_NOWAIT,
	    .aio_fildes = (uint32_t)f->fd,
	    .aio_buf = (uintptr_t)op->u.disk.buf + did,
	    .aio_nbytes = op->u.disk.len - did,
	    .aio_offset = (int64_t)(op->u.disk.off + did),
	    .aio_flags = IOCB_FLAG_RESFD,
	    .aio_resfd = (uint32_t)a->event_fd,
	};
}

static struct iocb send_cb(const struct io_op *op)
{
	A(op->kind == IO_SEND);
	return (struct iocb){
	    .aio_data = (uintptr_t)op,
	    .aio_lio_opcode = IOCB_CMD_PWRITEV,
	    .aio_rw_flags = RWF_NOWAIT,
	    .aio_fildes = (uint32_t)op->u.net.fd,
	    .aio_buf = (uintptr_t)op->u.net.msg.msg_iov,
	    .aio_nbytes = op->u.net.msg.msg_iovlen,
	};
}

int aio_submit(const struct aio *a, struct io_op *const *op, unsigned n)
{
	struct iocb cb[AIO_BATCH], *p[AIO_BATCH];
	long r;

	A(n <= AIO_BATCH);
	for (unsigned i = 0; i < n; i++) {
		cb[i] = op[i]->kind == IO_READ ? read_cb(a, op[i]) : send_cb(op[i]);
		p[i] = &cb[i];
	}
	r = syscall(SYS_io_submit, a->ctx, (long)n, p);
	return r < 0 ? -errno : (int)r;
}

static uint32_t tail_of(const struct aio_ring *r)
{
	return __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE);
}

bool aio_any(const struct aio *a)
{
	return a->ring != NULL && a->ring->head != tail_of(a->ring);
}

struct io_op *aio_take(struct aio *a, int32_t *res)
{
	struct aio_ring *r = a->ring;
	uint32_t head = r->head;
	struct io_event e;

	if (head == tail_of(r))
		return NULL;
	e = r->events[head];
	__atomic_store_n(&r->head, head + 1 == r->nr ? 0 : head + 1, __ATOMIC_RELEASE);
	*res = (int32_t)e.res;
	return (struct io_op *)(uintptr_t)e.data;
}
