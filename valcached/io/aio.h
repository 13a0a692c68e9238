/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aio.h: the kernel's older asynchronous reads, io_submit(2), for the libevent engine. Private to io. Container
 * run-times that forbid io_uring let it pass, and a read by it costs half the CPU time of one that a thread
 * waits for. It is asynchronous only for O_DIRECT, and only if nothing on the way has to wait: so reads go with
 * RWF_NOWAIT, and what the kernel cannot do so it gives back (-EAGAIN, -EOPNOTSUPP), for a thread.
 *
 * It takes sends of many sockets in one call, too. Between calls of send(2) the peer that was just woken takes the
 * CPU; 18 % of the time went there.
 *
 * Completions are taken from the ring that the kernel shares with the process, without a system call; an eventfd
 * says that there are some. The io's thread.
 */
#ifndef VALCACHED_IO_AIO_H
#define VALCACHED_IO_AIO_H

#include <linux/aio_abi.h>

#include "valcached/io/io_int.h"

struct aio_ring;

struct aio {
	aio_context_t ctx;
	struct aio_ring *ring; /* NULL: there is none, aio_submit() is not to be called */
	int event_fd;
};

/* 0 or -errno: it is not allowed, or not as it is known here. */
int aio_open(struct aio *, unsigned entries, int event_fd);
/* Nothing may be under way. */
void aio_close(struct aio *);

/*
 * Begins IO_READs, each at what it did so far, and does IO_SENDs: a socket never makes this call wait, and
 * what became of it (-EAGAIN: it is full) can be taken when the call returns. How many of the ops; or -errno of the
 * first, with which nothing was done. SIGPIPE must be ignored if there are sends.
 */
#define AIO_BATCH 32u
int aio_submit(const struct aio *, struct io_op *const *, unsigned n);

bool aio_any(const struct aio *);
/* The next that is over, and the kernel's result; NULL: none. */
struct io_op *aio_take(struct aio *, int32_t *res);

#endif
