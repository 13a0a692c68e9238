/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to valcached/io: the libevent engine from inside. libevent says which sockets are ready, ordinary
 * system calls move the bytes; reads of files go to the kernel's older interface (aio.h), and a few threads (pool.h)
 * do what blocks: all else that is done to files. libevent.c turns the loop, libevent_net.c has the sockets, libevent_disk.c the files, libevent_open.c makes and ends an io.
 *
 * Threads. io_open(), io_add_memory() and io_add_file() on any thread until the first io_turn(), whose thread
 * has the io from then on; the base is used by one thread at a time, without libevent's locks. Others call
 * io_wake() and, the pool's, landed(); the two touch only what is marked below.
 *
 * Invariants (cited as [LEV-n]):
 *  1. No done() is called from inside libevent: its callbacks note what is ready, and send.
 *  2. A socket is known to epoll from its first wait on, level-triggered, and stays known when nobody waits:
 *     who asks, answers and asks again costs no epoll_ctl(2). Only an event that finds nobody
 *     waiting takes it out; so what nobody wants to receive wakes no loop a second time.
 *  3. Who pushes to landed or sets woken looks at asleep after that; the loop sets asleep before it looks at
 *     those and sleeps (all sequentially consistent). So nothing is missed, and a loop that
 *     is awake costs no write to the eventfd.
 */
#ifndef VALCACHED_IO_LIBEVENT_INT_H
#define VALCACHED_IO_LIBEVENT_INT_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "valcached/io/aio.h"
#include "valcached/io/io_int.h"
#include "valcached/io/pool.h"

#define LEV_MAGIC 0x6c657665u

struct lev;

struct link {
	struct link *next, *prev;
};

/* A socket with operations, until it is closed. */
struct sock {
	struct link link; /* in lev.ready */
	struct lev *lev;
	int fd;
	bool ready;      /* in the list */
	bool more;       /* there may be bytes: worth a try before waiting */
	bool rd_known;   /* rd is added; [LEV-2] */
	bool wr_known;   /* wr likewise */
	uint32_t served; /* the turn in which it was last looked at */
	struct op_list recv, send;
	struct event rd;
	struct event *wr; /* NULL: no send has ever waited */
};

struct lev {
	struct io io; /* first: the callers' handle */
	unsigned magic;
	bool enabled;
	bool memcheck; /* memcheck_runs() */
	pid_t owner;   /* the thread that turns it, once enabled */
	struct event_base *base;

	/* waiting */
	struct event *timer;
	uint64_t timer_ns; /* when it fires; UINT64_MAX: it is not set */
	uint64_t spin_ns;
	bool restless; /* the last wait was a short one */
	bool skipped;  /* the last turn did not look at the sockets */
	uint32_t turn;

	/* sockets */
	struct sock **sock; /* by descriptor */
	unsigned sock_n;
	struct link ready;
	struct op_list sends; /* not yet tried; see lev_send_some() */
	bool batches;         /* many at a time: aio.h */
	struct op_list local;
	char *buf; /* of the receive under way: one, for all */
	unsigned buf_size;

	/* files */
	struct op_list reads_new, pool_new; /* not yet with the kernel, with the pool */
	struct op_list reads_over;          /* by the kernel; op->res is its result */
	unsigned disk_now;                  /* submitted, neither done nor cancelled */
	unsigned aio_now, disk_depth;       /* of them with the kernel; at most: [IO-7] */
	uint64_t no_aio;                    /* bit i: reads of file i go to the pool */
	struct aio aio;
	struct pool pool;

	/* shared with other threads: [LEV-3] */
	int wake_fd;
	struct event *wake;
	_Atomic bool asleep, woken;
	_Atomic(struct io_op *) landed; /* pushed by the pool's threads, latest first */
};

static inline struct lev *lev_of(struct io *io)
{
	struct lev *l = container_of(io, struct lev, io);

	DIAG(l->magic == LEV_MAGIC);
	return l;
}

/* ---- libevent.c ------------------------------------------------------------------------------- */

extern const struct io_ops lev_ops;

/* Any thread: the loop does not go on sleeping. */
void lev_rouse(struct lev *);
void lev_on_timer(evutil_socket_t, short what, void *lev);
void lev_on_wake(evutil_socket_t, short what, void *lev);

/* ---- libevent_net.c --------------------------------------------------------------------------- */

void lev_net(struct io *, struct io_op *);
void lev_net_cancel(struct lev *, struct io_op *);
/* Sends that were not yet tried; a few, if files are being read. */
void lev_send_some(struct lev *);
/* Receives and accepts of ready sockets. The number of callbacks run. */
unsigned lev_receive(struct lev *);
/* A send of a batch: what the kernel said. */
void lev_sent(struct lev *, struct io_op *, int32_t res);
void lev_net_free(struct lev *);
extern const struct io_sock_ops lev_sock_ops;

/* ---- libevent_disk.c -------------------------------------------------------------------------- */

void lev_disk(struct io *, struct io_op *);
void lev_disk_cancel(struct lev *, struct io_op *);
void lev_disk_hand(struct lev *);
/* All that aio.h has: sends are judged, reads wait in reads_over. */
void lev_aio_take(struct lev *);
/* Those that have landed. The number of callbacks run. */
unsigned lev_disk_done(struct lev *);
void lev_landed(void *lev, struct io_op *); /* the pool's threads */

/* ---- libevent_open.c -------------------------------------------------------------------------- */

int lev_open(const struct io_engine *, const struct io_config *, struct io **, char **cause);
void lev_close(struct io *);

#endif
