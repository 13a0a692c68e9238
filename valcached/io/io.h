/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io.h: the one interface between valcached and the kernel, for sockets and files alike.
 * Submit, and be called back: an engine never blocks inside a submit call and never calls done()
 * from one; callbacks run only from io_turn(), on the thread that owns the io.
 *
 * Engines: "uring" (one ring per io), "libevent" (readiness, and threads for the disk, where io_uring is
 * refused) and "sim" (in memory, seeded, virtual time, for tests).
 *
 * Rules of an operation (cited as [IO-n]):
 *  1. struct io_op is the caller's memory. From submit until the last done() it belongs to the
 *     engine: the caller must not move, free or reuse it.
 *  2. Every submitted op gets exactly one last done() (op->more == false), also when it was
 *     cancelled or failed. Multishot ops get any number of done() calls with more == true first.
 *  3. Buffers and iovecs handed to an op belong to the engine for the same time.
 *  4. op->res is a count or descriptor >= 0, or -errno. File reads and writes are continued by the
 *     engine until all bytes are done: a read result short of len means end of file, a write
 *     result is always len or an error. Sends are continued likewise; a send that fails after some
 *     bytes reports the error (the stream is lost anyway).
 *  5. io_cancel() is a request. The op still completes, with its result or with -ECANCELED.
 *     Before the last done() the engine sets op->kind = IO_NONE, so done() may reuse or free op.
 *  6. Nothing here is thread-safe except io_wake().
 *  7. At most disk_depth file operations are in the kernel at a time; more wait inside the engine
 *     in submit order. (A full device queue would block the submitting thread.) One that is cancelled
 *     there gives its place to the next: a device that keeps it for ever must not stop the others.
 *  8. A write is one operation, but not one request of the device: an engine may hand it over piece by
 *     piece, in order of offset, so that reads do not wait behind it.
 */
#ifndef VALCACHED_IO_H
#define VALCACHED_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct io;
struct io_op;
struct io_file;
struct io_engine;

typedef void io_done_fn(struct io_op *op);

enum io_kind {
	IO_NONE,
	IO_READ,
	IO_WRITE,
	IO_SYNC,
	IO_DISCARD,
	IO_ACCEPT,
	IO_RECV_MULTI,
	IO_RECV_SOME,
	IO_RECV,
	IO_SEND,
	IO_KINDS
};

struct io_op {
	/* set by the engine for done() */
	io_done_fn *done;
	int32_t res;
	bool more;     /* multishot: this was not the last call */
	uint8_t kind;  /* enum io_kind; IO_NONE when idle */
	uint8_t state; /* engine's */
	uint8_t flags; /* engine's */
	const void
	    *data; /* RECV_MULTI, RECV_SOME with res > 0: the bytes, valid until done() returns */
	/* engine's own from here on */
	struct io_op *next;
	union {
		struct {
			struct io_file *file;
			void *buf;
			uint64_t off;
			uint32_t len, did;
		} disk;
		struct {
			int fd;
			uint32_t len, did;
			bool lazy; /* see io_send_lazy() */
			void *buf;
			struct msghdr msg;
		} net;
	} u;
};

static inline bool io_op_idle(const struct io_op *op)
{
	return op->kind == IO_NONE;
}

/* An operation under way: has the kernel got it, or does it wait for a place [IO-7]? */
bool io_op_begun(const struct io_op *op);

/* Counters of one io, written by its thread, read by any (relaxed). */
#define IO_COUNTERS(X)                                                                             \
	X(enters, "system calls into the engine")                                                  \
	X(submitted, "operations handed to the kernel")                                            \
	X(completed, "completions received")                                                       \
	X(reads, "file reads")                                                                     \
	X(read_bytes, "bytes read from files")                                                     \
	X(writes, "file writes")                                                                   \
	X(write_bytes, "bytes written to files")                                                   \
	X(syncs, "fdatasyncs")                                                                     \
	X(short_reads, "file reads that were continued")                                           \
	X(short_writes, "file writes that were continued")                                         \
	X(short_sends, "sends that were continued")                                                \
	X(retries, "operations resubmitted after EAGAIN or EINTR")                                 \
	X(disk_waits, "file operations that waited for a place in the device queue")               \
	X(recv_nobufs, "receives that found no provided buffer and were armed again")              \
	X(overflows, "completion queue overflows")                                                 \
	X(file_errors, "file operations that failed")

struct io_counters {
#define X(n, s) _Atomic uint64_t n;
	IO_COUNTERS(X)
#undef X
};

struct io_config {
	unsigned entries;    /* submission queue, 0 = 512 */
	unsigned disk_depth; /* [IO-7], 0 = 128 */
	unsigned
	    recv_buffers; /* provided buffers, a power of two, 0 = 64; none are made if net == false */
	unsigned recv_buffer_size; /* bytes, 0 = 16384 */
	unsigned disk_threads;     /* libevent: at most so many that wait for the disk, 0 = 4 */
	bool pool_only;            /* libevent: reads, too, wait in these threads; for tests */
	uint64_t spin_ns; /* looked for completions so long before sleeping; 0: sleeps at once */
	bool net;         /* this io serves sockets */
	bool trial;       /* io_uring: is there room at all? Else there is, if not at once */
};

/* Who is at the other end. */
struct io_peer {
	bool local;        /* a process of this host, on a unix socket */
	uint32_t uid, pid; /* local: as it was when it connected */
	uint8_t addr[16];  /* else its address: IPv6, or IPv4 mapped into it */
};

/*
 * What is done to a socket at once, without an operation; a descriptor is its engine's to close, too. All
 * but close() may be called while operations are in flight on it.
 */
struct io_sock_ops {
	bool (*say)(struct io *, int fd, const void *bytes, size_t n);
	void (*finish)(struct io *, int fd, bool local);
	void (*close)(struct io *, int fd);
	uint32_t (*unread)(struct io *, int fd);
	uint32_t (*unsent)(struct io *, int fd);
	uint64_t (*progress)(struct io *, int fd);
	bool (*peer)(struct io *, int fd, struct io_peer *);
};

/* ---- the engine's table; every entry is required unless marked optional ---------------------- */
struct io_ops {
	void (*close)(struct io *);
	int (*turn)(struct io *, int64_t timeout_ns);
	void (*wake)(struct io *);
	int (*add_memory)(struct io *, void *base, size_t len);
	int (*add_file)(struct io *, struct io_file *);
	void (*disk)(struct io *, struct io_op *); /* IO_READ to IO_DISCARD */
	void (*net)(struct io *, struct io_op *);  /* IO_ACCEPT to IO_SEND */
	void (*cancel)(struct io *, struct io_op *);
	const struct io_sock_ops *sock;
};

struct io_file_info {
	char path[256];
	uint64_t size;  /* bytes usable */
	uint64_t have;  /* bytes that are there: more, if it was opened with a smaller size */
	uint32_t align; /* offsets, lengths and memory of every read and write: 512 to 4096 */
	bool direct; /* O_DIRECT works; when false the file system refused and cause was logged */
	bool block_device;
	bool created; /* was empty or absent before this open */
};

struct io_engine {
	const char *name;
	void *env; /* sim: the simulated machine; NULL for the others */
	/* Opens one loop. cause: a sentence for the operator on failure (malloc'd, caller frees). */
	int (*open)(const struct io_engine *, const struct io_config *, struct io **, char **cause);
	/*
	 * Opens, locks and preallocates a store file: creates it if absent, extends and fallocates it
	 * to size if it is smaller and its head is blank (else it stays, info.size); a block device must have size bytes (size 0: its own). Blocking;
	 * start-up only. The lock (flock on the descriptor that does the I/O) is waited for up to 5 s.
	 * -EACCES, -ENOSPC, -EBUSY (in use), -ENOENT (no such folder) ... each with a sentence.
	 */
	int (*file_open)(const struct io_engine *, const char *path, uint64_t size,
			 struct io_file **, char **cause);
	/* The same, but never makes it: -ENOENT, without a sentence, if it is not there. */
	int (*file_open_made)(const struct io_engine *, const char *path, uint64_t size,
			      struct io_file **, char **cause);
	void (*file_close)(struct io_file *);
	/*
	 * Makes a file size bytes long, all of them set aside, or cuts it, durably; what a device has stays, size
	 * changes. Blocking; nothing may be in flight beyond size. 0, or -errno with a sentence: it is as it was.
	 */
	int (*file_resize)(struct io_file *, uint64_t size, char **cause);
	/*
	 * To bring back a file that failed; blocking, and no operation on it may be in flight or begin.
	 * file_works(): its descriptor is still what its name stands for, and can be read; nothing is to be
	 * done. Else file_shut() gives file and lock back, and every io is told by io_add_file(); then
	 * file_reopen() opens what the name stands for now, never making it, and every io is told again.
	 * Operations on a file that is shut fail. 0, or -errno with a sentence: it stays shut.
	 */
	bool (*file_works)(struct io_file *);
	void (*file_shut)(struct io_file *);
	int (*file_reopen)(struct io_file *, char **cause);
};

/* The common head of every engine's io and io_file. */
struct io {
	const struct io_ops *ops;
	const struct io_engine *engine;
	uint64_t now_ns;            /* the engine's clock at the start of this turn */
	void (*on_wake)(void *arg); /* set by the owner; called from io_turn() after io_wake() */
	void *wake_arg;
	struct io_counters count;
};

struct io_file {
	const struct io_engine *engine;
	struct io_file_info info;
	unsigned id; /* small, dense, unique among open files of the process */
};

extern const struct io_engine io_uring_engine;
extern const struct io_engine io_libevent_engine;

/* ---- calls ------------------------------------------------------------------------------------ */

static inline int io_open(const struct io_engine *e, const struct io_config *c, struct io **io,
			  char **cause)
{
	return e->open(e, c, io, cause);
}

/* All ops must be done. Empties the caller's pointer. */
static inline void io_close(struct io **io)
{
	struct io *p = *io;

	*io = NULL;
	p->ops->close(p);
}

/*
 * Does the engine work here, for so many loops at a time? Found by trying: they are opened, one is turned, and closed
 * again. 0, or -errno with a sentence. Any thread.
 */
int io_try(const struct io_engine *, unsigned loops, char **cause);

/*
 * Submits what was prepared, waits until something completes, io_wake() is called or timeout_ns
 * passes (-1: no limit, 0: does not wait), then runs all callbacks. Returns the number of
 * callbacks run, or -errno if the engine itself is broken.
 */
static inline int io_turn(struct io *io, int64_t timeout_ns)
{
	return io->ops->turn(io, timeout_ns);
}

/* Any thread. Wakes io_turn(); many calls before it turns count as one. */
static inline void io_wake(struct io *io)
{
	io->ops->wake(io);
}

/* The engine's monotonic clock, as of the start of this turn. */
static inline uint64_t io_now(const struct io *io)
{
	return io->now_ns;
}

/*
 * Tells the engine of memory that reads and writes will use often, before it is used. 0, or
 * -errno: then I/O in it still works, only dearer (-ENOMEM: RLIMIT_MEMLOCK is too small; which may also
 * come to light later, for the pages are brought in when they are first used, and then only the log says so).
 */
static inline int io_add_memory(struct io *io, void *base, size_t len)
{
	return io->ops->add_memory(io, base, len);
}

/* Makes a file usable on this io. 0 or -errno. */
static inline int io_add_file(struct io *io, struct io_file *f)
{
	return io->ops->add_file(io, f);
}

static inline void io_disk_(struct io_op *op, enum io_kind kind, struct io_file *f, void *buf,
			    uint32_t len, uint64_t off, io_done_fn *done)
{
	op->kind = (uint8_t)kind;
	op->more = false;
	op->done = done;
	op->u.disk.file = f;
	op->u.disk.buf = buf;
	op->u.disk.len = len;
	op->u.disk.did = 0;
	op->u.disk.off = off;
}

/* buf, len and off are multiples of file->info.align. */
static inline void io_read(struct io *io, struct io_op *op, struct io_file *f, void *buf,
			   uint32_t len, uint64_t off, io_done_fn *done)
{
	io_disk_(op, IO_READ, f, buf, len, off, done);
	io->ops->disk(io, op);
}

static inline void io_write(struct io *io, struct io_op *op, struct io_file *f, const void *buf,
			    uint32_t len, uint64_t off, io_done_fn *done)
{
	io_disk_(op, IO_WRITE, f, (void *)(uintptr_t)buf, len, off, done);
	io->ops->disk(io, op);
}

/* fdatasync: durable is what was written by ops that were done before this submit. */
static inline void io_sync(struct io *io, struct io_op *op, struct io_file *f, io_done_fn *done)
{
	io_disk_(op, IO_SYNC, f, NULL, 0, 0, done);
	io->ops->disk(io, op);
}

/* Block devices only: the range's content is no longer needed. Elsewhere -EOPNOTSUPP. */
static inline void io_discard(struct io *io, struct io_op *op, struct io_file *f, uint64_t off,
			      uint32_t len, io_done_fn *done)
{
	io_disk_(op, IO_DISCARD, f, NULL, len, off, done);
	io->ops->disk(io, op);
}

static inline void io_net_(struct io_op *op, enum io_kind kind, int fd, void *buf, uint32_t len,
			   io_done_fn *done)
{
	op->kind = (uint8_t)kind;
	op->more = false;
	op->done = done;
	op->u.net.fd = fd;
	op->u.net.buf = buf;
	op->u.net.len = len;
	op->u.net.did = 0;
	op->u.net.lazy = false;
}

/* Multishot: done() with res = a new non-blocking, close-on-exec descriptor, again and again. */
static inline void io_accept(struct io *io, struct io_op *op, int fd, io_done_fn *done)
{
	io_net_(op, IO_ACCEPT, fd, NULL, 0, done);
	io->ops->net(io, op);
}

/*
 * Multishot receive into the engine's buffers: done() with op->data and res > 0; res == 0 is the
 * end of the stream; an idle connection holds no buffer. When buffers run out the engine arms
 * again by itself.
 */
static inline void io_recv_multi(struct io *io, struct io_op *op, int fd, io_done_fn *done)
{
	io_net_(op, IO_RECV_MULTI, fd, NULL, 0, done);
	io->ops->net(io, op);
}

/* Once, at most max bytes, into an engine's buffer that is taken only when bytes are there. */
static inline void io_recv_some(struct io *io, struct io_op *op, int fd, uint32_t max,
				io_done_fn *done)
{
	io_net_(op, IO_RECV_SOME, fd, NULL, max, done);
	io->ops->net(io, op);
}

/*
 * Fills buf completely (res == len), or res < len at the end of the stream, or an error.
 * After io_cancel(), res is the count received before it (0: nothing), never lost bytes.
 */
static inline void io_recv(struct io *io, struct io_op *op, int fd, void *buf, uint32_t len,
			   io_done_fn *done)
{
	io_net_(op, IO_RECV, fd, buf, len, done);
	io->ops->net(io, op);
}

/* Sends all n pieces in order. iov is the engine's until done, and may be changed by it. */
static inline void io_send(struct io *io, struct io_op *op, int fd, struct iovec *iov, unsigned n,
			   io_done_fn *done)
{
	io_net_(op, IO_SEND, fd, NULL, 0, done);
	op->u.net.msg = (struct msghdr){.msg_iov = iov, .msg_iovlen = n};
	io->ops->net(io, op);
}

/*
 * The same, when nothing will be begun because this send is done: if the loop has nothing else to do its
 * completion may come up to IO_LAZY_NS late, together with what comes next.
 */
#define IO_LAZY_NS 200000
static inline void io_send_lazy(struct io *io, struct io_op *op, int fd, struct iovec *iov,
				unsigned n, io_done_fn *done)
{
	io_net_(op, IO_SEND, fd, NULL, 0, done);
	op->u.net.lazy = true;
	op->u.net.msg = (struct msghdr){.msg_iov = iov, .msg_iovlen = n};
	io->ops->net(io, op);
}

/* Sends n bytes if the socket takes all of them now. */
static inline bool io_sock_say(struct io *io, int fd, const void *bytes, size_t n)
{
	return io->ops->sock->say(io, fd, bytes, n);
}

/*
 * The other end gets what was sent and then the end of the stream; receiving goes on. On a unix socket
 * (local) up to what is there by now: more is refused to the other end, as by a close.
 */
static inline void io_sock_finish(struct io *io, int fd, bool local)
{
	io->ops->sock->finish(io, fd, local);
}

static inline void io_sock_close(struct io *io, int fd)
{
	io->ops->sock->close(io, fd);
}

/* Bytes that have arrived and were not received yet. */
static inline uint32_t io_sock_unread(struct io *io, int fd)
{
	return io->ops->sock->unread(io, fd);
}

/* Bytes of what was sent that the other end's machine has not confirmed. */
static inline uint32_t io_sock_unsent(struct io *io, int fd)
{
	return io->ops->sock->unsent(io, fd);
}

/* A number that changes when the other end takes or gives bytes. */
static inline uint64_t io_sock_progress(struct io *io, int fd)
{
	return io->ops->sock->progress(io, fd);
}

/* False: the other end is gone. */
static inline bool io_sock_peer(struct io *io, int fd, struct io_peer *peer)
{
	return io->ops->sock->peer(io, fd, peer);
}

static inline void io_cancel(struct io *io, struct io_op *op)
{
	if (!io_op_idle(op))
		io->ops->cancel(io, op);
}

#endif
