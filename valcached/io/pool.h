/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.h: threads that do the file operations of one io by ordinary system calls. Private to io.
 *
 * Rules (cited as [POOL-n])
 *  1. An op belongs to the pool from io_pool_hand() until its landed() call, which happens once and comes on
 *     the thread that did it. Operations begin in the order in which they were handed over.
 *  2. At most max threads work for owners that wait. A thread is made when there is more to do than
 *     threads to do it; it sleeps when there is nothing.
 *  3. A thread whose op is cancelled is lost: it is stuck in the kernel, and no call can get it out. It no
 *     longer counts, so another takes its place [IO-7]; when it comes back and is one too many, it ends.
 *  4. A file may have max lost threads. Its further operations are held: they wait for one of them to come back, and
 *     count as begun, for it is the device that they wait for. So a pool has at most max * (files + 1) threads.
 *
 * Threads: io_pool_hand(), io_pool_cancel() and the rest are called by the io's thread; io_pool_open() and io_pool_close()
 * by whoever opens and closes the io. What is shared is under the pool's lock, but for op->state of an op
 * that is being begun, which io_op_begun() reads as it is.
 */
#ifndef VALCACHED_IO_POOL_H
#define VALCACHED_IO_POOL_H

#include <pthread.h>

#include "valcached/io/io_int.h"

struct pool_thread;

struct pool {
	unsigned max;                              /* [POOL-2] */
	void (*landed)(void *arg, struct io_op *); /* op->res is the system call's, or -errno */
	void *arg;
	_Atomic uint64_t read_ns; /* when a read last began; see WRITE_PIECE */

	/* under lock */
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct op_list queue;
	unsigned queued;  /* in queue */
	unsigned idle;    /* threads that sleep */
	unsigned waking;  /* of them: told to wake up */
	unsigned running; /* threads that are not lost */
	unsigned lost;
	uint8_t lost_of[IO_FILES_MAX]; /* of each file, by id */
	bool stop;
	struct pool_thread **thread;
	unsigned thread_n;
};

/* With one thread, so that a process that may have none learns it at its start. 0 or -errno. */
int io_pool_open(struct pool *, unsigned max, void (*landed)(void *, struct io_op *), void *arg);
/* All ops must have landed. */
void io_pool_close(struct pool *);

/* Takes all ops of the list, which is empty then. */
void io_pool_hand(struct pool *, struct op_list *);

enum pool_cancelled {
	POOL_TAKEN_BACK, /* it had not begun: the op is the caller's again */
	POOL_LOST,       /* [POOL-3] */
	POOL_OVER,       /* it has landed or is about to */
};
enum pool_cancelled io_pool_cancel(struct pool *, struct io_op *);

#endif
