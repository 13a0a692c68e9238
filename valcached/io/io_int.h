/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to valcached/io: what the engines share.
 *
 * States of an operation (op->state), the same in every engine:
 *
 *     submit ---> OP_KERNEL ----------------> last done()
 *        |            ^          ^
 *        |            |          |
 *        +-> OP_WAIT -+ (disk queue is full [IO-7]; uring: a send, until the turn's end)
 *        +-> OP_BACKLOG (the submission queue is full)
 *        +-> OP_LOCAL (decided here: bad arguments, nothing to do, cancelled before the kernel saw
 *                      it); done() comes from the next turn
 */
#ifndef VALCACHED_IO_INT_H
#define VALCACHED_IO_INT_H

#include <stdatomic.h>

#include "base/assert.h"
#include "valcached/io/io.h"

enum op_state { OP_IDLE, OP_KERNEL, OP_WAIT, OP_BACKLOG, OP_LOCAL };

/* op->flags: three bits and a count of resubmissions */
#define OP_CANCELLED 1u
#define OP_DRAINED   2u /* uring: the op's last receive left its socket empty */
#define OP_AIO       2u /* libevent: the kernel has this read, not a thread */
#define OP_PLACELESS                                                                               \
	4u /* a file operation that was cancelled in the kernel; its place is another's */
#define OP_RETRY_ONE   8u
#define OP_RETRY_SPENT 0xf8u

/* Threads of the libevent engine set it when they begin an operation. */
static inline uint8_t op_state(const struct io_op *op)
{
	return __atomic_load_n(&op->state, __ATOMIC_RELAXED);
}

struct op_list {
	struct io_op *head, **tail;
};

static inline void op_list_init(struct op_list *l)
{
	l->head = NULL;
	l->tail = &l->head;
}

static inline void op_list_append(struct op_list *l, struct io_op *op)
{
	op->next = NULL;
	*l->tail = op;
	l->tail = &op->next;
}

static inline struct io_op *op_list_pop(struct op_list *l)
{
	struct io_op *op = l->head;

	if (op != NULL) {
		l->head = op->next;
		if (l->head == NULL)
			l->tail = &l->head;
	}
	return op;
}

/* Linear; only for cancels. Returns whether op was there. */
static inline bool op_list_remove(struct op_list *l, struct io_op *op)
{
	for (struct io_op **p = &l->head; *p != NULL; p = &(*p)->next)
		if (*p == op) {
			*p = op->next;
			if (l->tail == &op->next)
				l->tail = p;
			return true;
		}
	return false;
}

/* One writer, so a plain load and store; readers of other threads see a whole value. */
static inline void io_count(_Atomic uint64_t *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* Counts one more resubmission of op; false when it has had its share. */
static inline bool op_retry(struct io *io, struct io_op *op)
{
	if ((op->flags & OP_RETRY_SPENT) == OP_RETRY_SPENT)
		return false;
	op->flags = (uint8_t)(op->flags + OP_RETRY_ONE);
	io_count(&io->count.retries, 1);
	return true;
}

/* The last done(). */
static inline void op_finish(struct io_op *op, int32_t res)
{
	op->res = res;
	op->more = false;
	op->kind = IO_NONE;
	op->state = OP_IDLE;
	op->done(op);
}

/* One of several. */
static inline void op_deliver(struct io_op *op, int32_t res)
{
	op->res = res;
	op->more = true;
	op->done(op);
}

/* Decided already: the next turn finishes what is in this list. */
static inline void op_local(struct op_list *l, struct io_op *op, int32_t res)
{
	op->res = res;
	op->state = OP_LOCAL;
	op_list_append(l, op);
}

/*
 * An op that was just submitted is made ready. True: its result is known already (bad arguments,
 * nothing to do) and is in *res.
 */
bool io_disk_begin(struct io_op *op, int32_t *res);
bool io_net_begin(struct io_op *op, int32_t *res);

/* What accept(2) says here concerns one caller, or is nothing: an accept goes on. */
bool io_accept_goes_on(int32_t res);

/*
 * What a file op's result means: true when op is done and *res is its final result, false when
 * the rest (from u.disk.did on) must be submitted. Counts.
 */
bool io_disk_result(struct io *io, struct io_op *op, int32_t *res);

/* Takes n bytes off the front of an iovec list. */
void io_iov_advance(struct msghdr *msg, size_t n);
/* Sum of the pieces; at most INT32_MAX, asserted. */
uint32_t io_iov_len(const struct msghdr *msg);

/* Dense ids of open files: a small number, or -ENFILE. Any thread. */
#define IO_FILES_MAX 64
int io_file_id_get(void);
void io_file_id_put(unsigned id);

/* Of engines on the kernel's files. */
struct file {
	struct io_file pub;
	int fd;
};

/* Of engines on the kernel's sockets. */
extern const struct io_sock_ops io_real_sock;
bool io_real_say(struct io *, int fd, const void *bytes, size_t n);
void io_real_finish(struct io *, int fd, bool local);
void io_real_close(struct io *, int fd);
uint32_t io_real_unread(struct io *, int fd);
uint32_t io_real_unsent(struct io *, int fd);
uint64_t io_real_progress(struct io *, int fd);
bool io_real_peer(struct io *, int fd, struct io_peer *);

int io_real_file_open(const struct io_engine *, const char *path, uint64_t size, struct io_file **,
		      char **cause);
int io_real_file_open_made(const struct io_engine *, const char *path, uint64_t size,
			   struct io_file **, char **cause);
void io_real_file_close(struct io_file *);
int io_real_file_resize(struct io_file *, uint64_t size, char **cause);
bool io_real_file_works(struct io_file *);
void io_real_file_shut(struct io_file *);
int io_real_file_reopen(struct io_file *, char **cause);

#endif
