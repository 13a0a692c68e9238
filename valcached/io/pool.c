/* SPDX-License-Identifier: Apache-2.0 */
/* The threads of pool.h: one system call each at a time. */
#include <errno.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "valcached/io/pool.h"

/* Where reads come and go, a write goes to the device in pieces of so much [IO-8]; as in uring_disk.c. */
#define WRITE_PIECE (256u * 1024)
#define READS_NS    (10 * NS_PER_MS)

struct pool_thread {
	struct pool *pool;
	pthread_t id;
	/* under the pool's lock */
	struct io_op *op; /* NULL: nothing */
	bool made;        /* there is such a thread */
	bool over;        /* ... which ends, and can be joined */
	bool lost;        /* [POOL-3] */
};

/* ---- what a thread does ----------------------------------------------------------------------- */

static bool gone(struct pool_thread *t)
{
	bool lost;

	pthread_mutex_lock(&t->pool->lock);
	lost = t->lost;
	pthread_mutex_unlock(&t->pool->lock);
	return lost;
}

static ssize_t write_pieces(struct pool_thread *t, int fd, const char *buf, size_t len, off_t off)
{
	size_t did = 0;

	for (;;) {
		uint64_t read_ns = atomic_load_explicit(&t->pool->read_ns, memory_order_relaxed);
		size_t n = len - did;
		ssize_t r;

		if (n > WRITE_PIECE && clock_ns() - read_ns < READS_NS)
			n = WRITE_PIECE;
		r = pwrite(fd, buf + did, n, off + (off_t)did);
		if (r < 0)
			return did > 0 ? (ssize_t)did : r;
		did += (size_t)r;
		if (did == len || (size_t)r < n || gone(t))
			return (ssize_t)did;
	}
}

static int32_t perform(struct pool_thread *t, const struct io_op *op)
{
	const struct file *f = container_of(op->u.disk.file, struct file, pub);
	size_t len = op->u.disk.len - op->u.disk.did;
	off_t off = (off_t)(op->u.disk.off + op->u.disk.did);
	char *buf = op->u.disk.buf;
	uint64_t range[2];
	ssize_t r;

	switch (op->kind) {
	case IO_READ:
		atomic_store_explicit(&t->pool->read_ns, clock_ns(), memory_order_relaxed);
		r = pread(f->fd, buf + op->u.disk.did, len, off);
		break;
	case IO_WRITE:
		r = write_pieces(t, f->fd, buf + op->u.disk.did, len, off);
		break;
	case IO_SYNC:
		r = fdatasync(f->fd);
		break;
	default:
		A(op->kind == IO_DISCARD);
		range[0] = op->u.disk.off;
		range[1] = op->u.disk.len;
		r = ioctl(f->fd, BLKDISCARD, range);
		break;
	}
	return r < 0 ? -errno : (int32_t)r;
}

/* ---- under lock ------------------------------------------------------------------------------- */

static bool held(const struct pool *p, const struct io_op *op) /* [POOL-4] */
{
	return p->lost_of[op->u.disk.file->id] >= p->max;
}

static void set_begun(struct io_op *op)
{
	__atomic_store_n(&op->state, OP_KERNEL, __ATOMIC_RELAXED);
}

/* Those whose file has lost its last thread are the device's from now on. */
static void mark_held(struct pool *p)
{
	for (struct io_op *op = p->queue.head; op != NULL; op = op->next)
		if (held(p, op))
			set_begun(op);
}

static struct io_op *take(struct pool *p)
{
	struct io_op *op = p->queue.head;

	while (unlikely(p->lost > 0) && op != NULL && held(p, op))
		op = op->next;
	if (op == NULL)
		return NULL;
	if (op == p->queue.head)
		op_list_pop(&p->queue);
	else
		A(op_list_remove(&p->queue, op));
	p->queued--;
	set_begun(op);
	return op;
}

static void came_back(struct pool_thread *t, const struct io_op *op)
{
	struct pool *p = t->pool;

	t->lost = false;
	p->lost--;
	p->lost_of[op->u.disk.file->id]--;
	p->running++;
	pthread_cond_broadcast(&p->more); /* its file's operations may begin */
}

/* Waits for an op of t's; NULL: it ends. */
static struct io_op *wait_op(struct pool_thread *t)
{
	struct pool *p = t->pool;
	struct io_op *op = NULL;

	while (p->running <= p->max && (op = take(p)) == NULL && !p->stop) {
		p->idle++;
		pthread_cond_wait(&p->more, &p->lock);
		p->idle--;
		if (p->waking > 0)
			p->waking--;
	}
	t->op = op;
	if (op == NULL) {
		p->running--;
		t->over = true;
	}
	return op;
}

static void *thread_main(void *arg)
{
	struct pool_thread *t = arg;
	struct pool *p = t->pool;
	struct io_op *op, *before;

	pthread_setname_np(pthread_self(), "disk");
	pthread_mutex_lock(&p->lock);
	op = wait_op(t);
	pthread_mutex_unlock(&p->lock);
	while (op != NULL) {
		op->res = perform(t, op);
		before = op;
		pthread_mutex_lock(&p->lock);
		if (unlikely(t->lost))
			came_back(t, before);
		t->op = op = p->running <= p->max ? take(p) : NULL;
		pthread_mutex_unlock(&p->lock);
		p->landed(p->arg, before);
		if (op == NULL) {
			pthread_mutex_lock(&p->lock);
			op = wait_op(t);
			pthread_mutex_unlock(&p->lock);
		}
	}
	return NULL;
}

/* A place in the table of threads that has none; NULL: no memory. */
static struct pool_thread *place(struct pool *p)
{
	struct pool_thread **more, *t;

	for (unsigned i = 0; i < p->thread_n; i++) {
		t = p->thread[i];
		if (t->made && t->over) {
			AZ(pthread_join(t->id, NULL));
			t->made = false;
		}
		if (!t->made)
			return t;
	}
	more = realloc(p->thread, (p->thread_n + 1) * sizeof(struct pool_thread *));
	if (more == NULL)
		return NULL;
	p->thread = more;
	t = calloc(1, sizeof *t);
	if (t != NULL)
		p->thread[p->thread_n++] = t;
	return t;
}

/* One thread more. 0 or -errno. */
static int spawn(struct pool *p)
{
	struct pool_thread *t = place(p);
	sigset_t all, old;
	int r;

	if (t == NULL)
		return -ENOMEM;
	*t = (struct pool_thread){.pool = p};
	sigfillset(&all);
	sigdelset(&all, SIGSYS); /* blocked, it would end the process; see sandbox/ */
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are main's */
	r = pthread_create(&t->id, NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0)
		return -r;
	t->made = true;
	p->running++;
	return 0;
}

/* As many threads as there is work for. How many of those that sleep must be woken. */
static unsigned enough_threads(struct pool *p)
{
	static struct log_limit limit;
	unsigned ready = p->idle - p->waking, want = p->queued, wake;
	int r = 0;

	want = want > p->waking ? want - p->waking : 0;
	wake = want < ready ? want : ready;
	for (want -= wake; want > 0 && p->running < p->max && r == 0; want--)
		r = spawn(p);
	if (r < 0)
		log_limited(&limit, LOG_WARN,
			    "io: no further thread for the disk can be made: %s; %u go on",
			    strerror(-r), p->running);
	p->waking += wake;
	return wake;
}

/* ---- for the owner ---------------------------------------------------------------------------- */

int io_pool_open(struct pool *p, unsigned max, void (*landed)(void *, struct io_op *), void *arg)
{
	int r;

	A(max > 0 && max <= UINT8_MAX);
	memset(p, 0, sizeof *p);
	p->max = max;
	p->landed = landed;
	p->arg = arg;
	op_list_init(&p->queue);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->more, NULL);
	pthread_mutex_lock(&p->lock);
	r = spawn(p);
	pthread_mutex_unlock(&p->lock);
	if (r < 0)
		io_pool_close(p);
	return r;
}

void io_pool_close(struct pool *p)
{
	pthread_mutex_lock(&p->lock);
	A(p->queue.head == NULL && p->lost == 0);
	p->stop = true;
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->thread_n; i++) {
		if (p->thread[i]->made)
			AZ(pthread_join(p->thread[i]->id, NULL));
		free(p->thread[i]);
	}
	free(p->thread);
	pthread_cond_destroy(&p->more);
	pthread_mutex_destroy(&p->lock);
}

void io_pool_hand(struct pool *p, struct op_list *ops)
{
	unsigned n = 0, wake;

	for (struct io_op *op = ops->head; op != NULL; op = op->next)
		n++;
	pthread_mutex_lock(&p->lock);
	*p->queue.tail = ops->head;
	p->queue.tail = ops->tail;
	p->queued += n;
	if (unlikely(p->lost > 0))
		mark_held(p);
	wake = enough_threads(p);
	pthread_mutex_unlock(&p->lock);
	op_list_init(ops);
	while (wake-- > 0)
		pthread_cond_signal(&p->more);
}

enum pool_cancelled io_pool_cancel(struct pool *p, struct io_op *op)
{
	enum pool_cancelled r = POOL_OVER;
	struct pool_thread *t = NULL;
	unsigned wake = 0;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < p->thread_n; i++)
		if (p->thread[i]->made && p->thread[i]->op == op)
			t = p->thread[i];
	if (t != NULL) {
		A(!t->lost);
		t->lost = true;
		p->running--;
		p->lost++;
		p->lost_of[op->u.disk.file->id]++;
		mark_held(p);
		wake = enough_threads(p);
		r = POOL_LOST;
	} else if (op_list_remove(&p->queue, op)) {
		p->queued--;
		r = POOL_TAKEN_BACK;
	}
	pthread_mutex_unlock(&p->lock);
	while (wake-- > 0)
		pthread_cond_signal(&p->more);
	return r;
}
