/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the libevent engine. Reads go to the kernel (aio.h) where it takes them, as many as there are places
 * [IO-7]; what it gives back, and all that is no read of an O_DIRECT file, goes to the pool. The io's thread, save
 * lev_landed().
 */
#include <errno.h>

#include "base/memcheck.h"
#include "valcached/io/libevent_int.h"

static bool by_aio(const struct lev *l, const struct io_op *op)
{
	const struct io_file *f = op->u.disk.file;

	return op->kind == IO_READ && l->aio.ring != NULL && f->info.direct &&
	       !(l->no_aio & 1ull << f->id);
}

void lev_disk(struct io *io, struct io_op *op)
{
	struct lev *l = lev_of(io);
	int32_t res;

	if (unlikely(io_disk_begin(op, &res))) {
		op_local(&l->local, op, res);
		return;
	}
	if (++l->disk_now > l->disk_depth)
		io_count(&l->io.count.disk_waits, 1);
	op->state = OP_WAIT;
	op_list_append(by_aio(l, op) ? &l->reads_new : &l->pool_new, op);
}

/* The kernel did not begin this one. */
static void refused(struct lev *l, struct io_op *op, int err)
{
	if (err != -EAGAIN && err != -ENOMEM) /* nor would it the next */
		l->no_aio |= 1ull << op->u.disk.file->id;
	op->flags &= (uint8_t)~OP_AIO;
	op->state = OP_WAIT;
	op_list_append(&l->pool_new, op);
}

static void submit(struct lev *l, struct io_op **batch, unsigned n)
{
	unsigned did = 0;

	atomic_store_explicit(&l->pool.read_ns, l->io.now_ns, memory_order_relaxed);
	while (did < n) {
		int r = aio_submit(&l->aio, batch + did, n - did);

		io_count(&l->io.count.enters, 1);
		if (likely(r > 0)) {
			io_count(&l->io.count.submitted, (uint64_t)r);
			did += (unsigned)r;
			continue;
		}
		l->aio_now--;
		refused(l, batch[did++], r);
	}
}

static void hand_reads(struct lev *l)
{
	struct io_op *batch[AIO_BATCH], *op;
	unsigned n = 0;

	while (l->aio_now < l->disk_depth && (op = op_list_pop(&l->reads_new)) != NULL) {
		op->state = OP_KERNEL;
		op->flags |= OP_AIO;
		l->aio_now++;
		batch[n++] = op;
		if (n == AIO_BATCH) {
			submit(l, batch, n);
			n = 0;
		}
	}
	if (n > 0)
		submit(l, batch, n);
}

/* All of a turn at once: one system call, one lock, and threads are woken together. */
void lev_disk_hand(struct lev *l)
{
	unsigned n = 0;

	if (l->reads_new.head != NULL && l->aio_now < l->disk_depth)
		hand_reads(l);
	if (l->pool_new.head == NULL)
		return;
	for (struct io_op *op = l->pool_new.head; op != NULL; op = op->next)
		n++;
	io_count(&l->io.count.submitted, n);
	io_pool_hand(&l->pool, &l->pool_new);
}

void lev_landed(void *lev, struct io_op *op)
{
	struct lev *l = lev;

	op->next = atomic_load_explicit(&l->landed, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(&l->landed, &op->next, op))
		;
	lev_rouse(l);
}

static unsigned op_landed(struct lev *l, struct io_op *op, int32_t res)
{
	if (unlikely(!io_disk_result(&l->io, op, &res))) {
		op->state = OP_WAIT;
		op_list_append(by_aio(l, op) ? &l->reads_new : &l->pool_new, op);
		return 0;
	}
	if (likely(!(op->flags & OP_PLACELESS)))
		l->disk_now--;
	op_finish(op, res);
	return 1;
}

void lev_aio_take(struct lev *l)
{
	struct io_op *op;
	int32_t res;

	while ((op = aio_take(&l->aio, &res)) != NULL) {
		if (op->kind == IO_SEND) {
			lev_sent(l, op, res);
			continue;
		}
		op->res = res;
		op_list_append(&l->reads_over, op);
	}
}

static unsigned read_over(struct lev *l, struct io_op *op, int32_t res)
{
	io_count(&l->io.count.completed, 1);
	if (likely(!(op->flags & OP_PLACELESS)))
		l->aio_now--;
	if (unlikely((res == -EAGAIN || res == -EOPNOTSUPP) && !(op->flags & OP_CANCELLED))) {
		refused(l, op, res);
		return 0;
	}
	if (unlikely(l->memcheck) && res > 0)
		memcheck_filled((char *)op->u.disk.buf + op->u.disk.did, (size_t)res);
	op->flags &= (uint8_t)~OP_AIO;
	return op_landed(l, op, res);
}

static unsigned reads_done(struct lev *l)
{
	struct op_list over;
	struct io_op *op;
	unsigned n = 0;

	if (l->aio.ring != NULL)
		lev_aio_take(l);
	over = l->reads_over;
	op_list_init(&l->reads_over);
	while ((op = over.head) != NULL) {
		over.head = op->next;
		n += read_over(l, op, op->res);
	}
	return n;
}

unsigned lev_disk_done(struct lev *l)
{
	struct io_op *op, *next, *first = NULL;
	unsigned n = reads_done(l);

	if (atomic_load_explicit(&l->landed, memory_order_relaxed) == NULL)
		return n;
	for (op = atomic_exchange(&l->landed, NULL); op != NULL; op = next) {
		next = op->next;
		op->next = first;
		first = op;
	}
	for (op = first; op != NULL; op = next) {
		next = op->next;
		io_count(&l->io.count.completed, 1);
		n += op_landed(l, op, op->res);
	}
	return n;
}

void lev_disk_cancel(struct lev *l, struct io_op *op)
{
	enum pool_cancelled r = POOL_TAKEN_BACK;

	if (op->flags & OP_AIO) {
		l->aio_now--;
		r = POOL_LOST;
	} else if (!op_list_remove(&l->reads_new, op) && !op_list_remove(&l->pool_new, op)) {
		r = io_pool_cancel(&l->pool, op);
	}
	if (r == POOL_OVER)
		return;
	l->disk_now--;
	if (r == POOL_LOST)
		op->flags |= OP_PLACELESS;
	else
		op_local(&l->local, op, -ECANCELED);
}
