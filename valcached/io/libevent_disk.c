/* SPDX-License-Identifier: Apache-2.0 */
/* Files of the libevent engine: operations on their way to the pool and back. The io's thread, save lev_landed(). */
#include <errno.h>

#include "valcached/io/libevent_int.h"

void lev_disk(struct io *io, struct io_op *op)
{
	struct lev *l = lev_of(io);
	int32_t res;

	if (unlikely(io_disk_begin(op, &res))) {
		op_local(&l->local, op, res);
		return;
	}
	l->disk_now++;
	op->state = OP_WAIT;
	op_list_append(&l->disk_new, op);
}

/* All of a turn at once: one lock, and threads are woken together. */
void lev_disk_hand(struct lev *l)
{
	unsigned n = 0, wait;

	if (l->disk_new.head == NULL)
		return;
	for (struct io_op *op = l->disk_new.head; op != NULL; op = op->next)
		n++;
	io_count(&l->io.count.submitted, n);
	wait = pool_hand(&l->pool, &l->disk_new);
	if (wait > 0)
		io_count(&l->io.count.disk_waits, wait);
}

void lev_landed(void *lev, struct io_op *op)
{
	struct lev *l = lev;

	op->next = atomic_load_explicit(&l->landed, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(&l->landed, &op->next, op))
		;
	lev_rouse(l);
}

static unsigned op_landed(struct lev *l, struct io_op *op)
{
	int32_t res = op->res;

	io_count(&l->io.count.completed, 1);
	if (unlikely(!io_disk_result(&l->io, op, &res))) {
		op->state = OP_WAIT;
		op_list_append(&l->disk_new, op);
		return 0;
	}
	if (likely(!(op->flags & OP_PLACELESS)))
		l->disk_now--;
	op_finish(op, res);
	return 1;
}

unsigned lev_disk_done(struct lev *l)
{
	struct io_op *op, *next, *first = NULL;
	unsigned n = 0;

	if (atomic_load_explicit(&l->landed, memory_order_relaxed) == NULL)
		return 0;
	for (op = atomic_exchange(&l->landed, NULL); op != NULL; op = next) {
		next = op->next;
		op->next = first;
		first = op;
	}
	for (op = first; op != NULL; op = next) {
		next = op->next;
		n += op_landed(l, op);
	}
	return n;
}

void lev_disk_cancel(struct lev *l, struct io_op *op)
{
	enum pool_cancelled r = POOL_TAKEN_BACK;

	if (!op_list_remove(&l->disk_new, op))
		r = pool_cancel(&l->pool, op);
	if (r == POOL_OVER)
		return;
	l->disk_now--;
	if (r == POOL_LOST)
		op->flags |= OP_PLACELESS;
	else
		op_local(&l->local, op, -ECANCELED);
}
