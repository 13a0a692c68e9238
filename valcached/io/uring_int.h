/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to valcached/io: the io_uring engine from inside. One ring per io, sockets and files
 * together. uring.c turns the loop, uring_queue.c hands requests to the kernel, uring_net.c and uring_disk.c
 * make them and judge their results, uring_open.c sets a ring up and takes it down, uring_restrict.c bounds
 * what it may be asked.
 *
 * Threads. io_open() makes a disabled ring on any thread, and memory and files may be added to it
 * there. The first io_turn() enables it: from then on that thread alone may use the io, except for
 * io_wake(). The ring is DEFER_TASKRUN: completions appear only while that thread is in enter.
 *
 * Invariants (cited as [URING-n]):
 *  1. user_data is the op's address. An op has at most one request in the kernel, and completes to
 *     its owner only after that request's last completion, so an address is never stale. The
 *     exceptions are the small tags below, which no op can have as address.
 *  2. A cancel names an op that is in OP_KERNEL. Requests are issued in queue order, so a cancel
 *     never meets a later request of the same op.
 *  3. Provided buffers are given back before the callback loop takes the next completion. A receive that
 *     found none (-ENOBUFS) is armed again when some are back, and not before.
 *  4. Requests leave op->flags & OP_CANCELLED alone; a cancelled op is never continued.
 *  5. Sends apart, while the backlog is not empty, nothing passes it: submissions stay in order.
 */
#ifndef VALCACHED_IO_URING_INT_H
#define VALCACHED_IO_URING_INT_H

#include "valcached/io/io_int.h"
#include "valcached/io/uring_compat.h"

#define URING_MAGIC  0x75726e67u
#define TAG_NONE     0u /* nobody waits for it: cancels that found nothing */
#define TAG_WAKE     1u
#define MEMORIES_MAX 32u
#define PIECES_MAX   16384u /* the kernel's limit for a ring's table of buffers */
#define RECV_GROUP   0

/* What io_add_memory() was told of, in pieces of 2^shift bytes counted from base. */
struct memory {
	uintptr_t base, end;
	unsigned shift;
	unsigned slot; /* of its first piece in the ring's table */
	bool refused;  /* no further piece is asked for */
};

struct uring {
	struct io io; /* first: the callers' handle */
	unsigned magic;
	bool enabled;
	bool memcheck; /* memcheck_runs() */
	pid_t owner;   /* the thread that turns it, once enabled */

	/* hot */
	struct io_uring ring;
	unsigned enter_flags;
	unsigned in_kernel; /* ops in OP_KERNEL */
	unsigned receiving; /* of them receives */
	unsigned lazy;      /* lazy sends since the last turn */
	unsigned disk_now, disk_depth;
	uint64_t read_ns;     /* the last file read began in this turn */
	uint64_t spin_ns;     /* 0: never; see wait_awake() in uring.c */
	bool restless;        /* the last wait was a short one */
	uint64_t files_fixed; /* bit i: slot i of the ring's file table is file id i */
	bool disk_queued;     /* file operations, since the last enter */
	bool devices;         /* a file is a block device; known before the ring is enabled */
	struct op_list disk_wait, backlog, local;
	struct op_list sends;   /* not yet in the queue; see send_some() in uring.c */
	struct op_list starved; /* receives that found no buffer; see feed_some() in uring.c */
	struct op_list cancels; /* in OP_KERNEL; their cancel found no room in the queue */
	struct memory *hit;     /* the memory of the last buffer looked up */

	/* provided buffers of receives */
	struct io_uring_buf_ring *bufs;
	char *buf_base;
	unsigned buf_n, buf_size;
	size_t bufs_len, buf_base_len;

	/* bit i of registered: slot i of the ring's table has its piece */
	unsigned memory_n, pieces;
	bool table_buffers, table_files;
	struct memory memory[MEMORIES_MAX];
	uint64_t registered[PIECES_MAX / 64];

	/* other threads */
	int wake_fd;
	_Atomic bool woken;
};

static inline struct uring *uring_of(struct io *io)
{
	struct uring *u = container_of(io, struct uring, io);

	DIAG(u->magic == URING_MAGIC);
	return u;
}

static inline bool uring_is_recv(const struct io_op *op)
{
	return op->kind >= IO_RECV_MULTI && op->kind <= IO_RECV;
}

/* ---- uring_queue.c ---------------------------------------------------------------------------- */

/* Hands all prepared requests to the kernel; wait: sleeps until a completion or ts. 0 or -errno. */
int uring_enter(struct uring *, bool get, unsigned wait, struct __kernel_timespec *ts);
/* The same with get and one completion to wait for, but asleep in poll(2): see memcheck.h. */
int uring_wait_poll(struct uring *, int64_t timeout_ns);
/* A free place in the submission queue; NULL: it is full and cannot be handed over now. */
struct io_uring_sqe *uring_sqe(struct uring *);
/* Queues op's request, or op itself when there is no place. */
void uring_start(struct uring *, struct io_op *);
void uring_send_cancel(struct uring *, struct io_op *);
/* Cancels and ops that found no place. */
void uring_drain(struct uring *);

/* ---- uring_net.c, uring_disk.c: *_done() return the number of callbacks run ------------------- */

void uring_prep_net(struct uring *, struct io_op *, struct io_uring_sqe *);
unsigned uring_net_done(struct uring *, struct io_op *, int32_t res, uint32_t flags);
void uring_net(struct io *, struct io_op *);

void uring_prep_disk(struct uring *, struct io_op *, struct io_uring_sqe *);
unsigned uring_disk_done(struct uring *, struct io_op *, int32_t res);
void uring_disk(struct io *, struct io_op *);
/* An op gave its place in the device queue back. */
void uring_disk_next(struct uring *);
int uring_add_memory(struct io *, void *base, size_t len);
int uring_add_file(struct io *, struct io_file *);

/* ---- uring_open.c ----------------------------------------------------------------------------- */

int uring_open(const struct io_engine *, const struct io_config *, struct io **, char **cause);
void uring_close(struct io *);

/* ---- uring_restrict.c ------------------------------------------------------------------------- */

/* Before the ring is enabled, for good. 0 or -errno: it is not restricted. */
int uring_restrict(struct uring *);

/* ---- uring.c ---------------------------------------------------------------------------------- */

extern const struct io_ops uring_ops;

#endif
