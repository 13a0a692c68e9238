/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slow devices: what becomes of disk operations that take longer than --io-timeout.
 *
 *  [LT-1] Nobody waits for such an operation any more: a get is a miss, a set or a delete looks at another path or
 *         is refused, the slow worker goes on. The operation itself cannot be taken back.
 *  [LT-2] Its memory and its segment's pin stay until the kernel gives it back, so no buffer is used again
 *         and no segment recycled under it. It no longer counts against the worker's share of memory, nor has it
 *         a place in the engine's queue [IO-7]: other paths have both.
 *  [LT-3] PATH_LATE_MAX gets that are late at a time, or one of anything else, make the path offline: one place
 *         that cannot be read is not the whole device.
 *  [LT-4] A path that is offline for this is tried again when the last late operation has come back.
 *  [LT-5] What waits inside the engine is not the path's fault: it is looked at again later.
 *
 * Each worker has the operations that it has begun in a list; all may take equally long, so it is in the order of
 * their deadlines. The slow worker waits for one operation at a time, in disk_wait().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "valcached/store/store_int.h"

/* ---- paths ------------------------------------------------------------------------------------- */

void path_late(struct store_worker *sw, struct path *p, const char *what, bool serious)
{
	static struct log_limit limit;
	uint32_t late = atomic_fetch_add(&p->late, 1) + 1;

	COUNT(sw, io_timeouts);
	atomic_fetch_add(&p->store->late, 1);
	log_limited(&limit, LOG_WARN,
		    "store: %s: %s has taken longer than --io-timeout; nobody waits for it",
		    p->file->info.path, what);
	if (serious || late >= PATH_LATE_MAX)
		path_silent(p, what);
}

void path_late_over(struct path *p)
{
	uint32_t before = atomic_fetch_sub(&p->late, 1);

	A(before > 0);
	atomic_fetch_sub(&p->store->late, 1);
	if (before == 1 && atomic_load(&p->silent)) { /* [LT-4] */
		atomic_fetch_add(&p->returns_asked, 1);
		slow_call(p->store);
	}
}

unsigned store_late(const struct store *s)
{
	return atomic_load(&s->late);
}

/* ---- a worker's operations --------------------------------------------------------------------- */

void watch_begin(struct store_worker *sw, struct watch *w, struct path *p, struct io_op *op,
		 void (*expired)(struct watch *w))
{
	w->path = p;
	w->op = op;
	w->expired = expired;
	w->late = false;
	w->since = io_now(sw->io);
	w->next = NULL;
	w->prev = sw->watch_last;
	*(sw->watch_last != NULL ? &sw->watch_last->next : &sw->watch) = w;
	sw->watch_last = w;
}

static void unlink_watch(struct store_worker *sw, struct watch *w)
{
	*(w->prev != NULL ? &w->prev->next : &sw->watch) = w->next;
	*(w->next != NULL ? &w->next->prev : &sw->watch_last) = w->prev;
}

bool watch_end(struct store_worker *sw, struct watch *w)
{
	if (likely(!w->late)) {
		unlink_watch(sw, w);
		return false;
	}
	w->late = false;
	path_late_over(w->path);
	return true;
}

void watch_late(struct store_worker *sw, struct watch *w, const char *what, bool serious)
{
	w->late = true;
	path_late(sw, w->path, what, serious);
	io_cancel(sw->io, w->op);
}

void watch_turn(struct store_worker *sw, uint64_t *next)
{
	uint64_t limit = sw->s->cfg.io_timeout_ns, now = io_now(sw->io);

	if (limit == 0)
		return;
	while (sw->watch != NULL && now - sw->watch->since >= limit) {
		struct watch *w = sw->watch;

		unlink_watch(sw, w);
		if (!io_op_begun(w->op)) { /* [LT-5] */
			watch_begin(sw, w, w->path, w->op, w->expired);
			continue;
		}
		w->expired(w);
	}
	if (sw->watch != NULL && sw->watch->since + limit < *next)
		*next = sw->watch->since + limit;
}

/* ---- what the slow worker waits for ------------------------------------------------------------ */

struct disk_io *disk_io_new(struct io *io, struct path *p, size_t bytes)
{
	struct disk_io *d = calloc(1, sizeof *d);

	if (d == NULL)
		return NULL;
	if (bytes > 0 && posix_memalign((void **)&d->mem, FORMAT_ALIGN, bytes) != 0) {
		free(d);
		return NULL;
	}
	d->io = io;
	d->path = p;
	return d;
}

void disk_io_free(struct disk_io **dp)
{
	struct disk_io *d = *dp;

	*dp = NULL;
	if (d == NULL)
		return;
	A(io_op_idle(&d->op));
	free(d->mem);
	free(d);
}

static void disk_io_done(struct io_op *op)
{
	struct disk_io *d = container_of(op, struct disk_io, op);

	if (!d->late)
		return;
	path_late_over(d->path);
	disk_io_free(&d);
}

void disk_read(struct disk_io *d, uint32_t len, uint64_t off)
{
	d->since = io_now(d->io);
	io_read(d->io, &d->op, d->path->file, d->mem, len, off, disk_io_done);
}

void disk_write(struct disk_io *d, uint32_t len, uint64_t off)
{
	d->since = io_now(d->io);
	io_write(d->io, &d->op, d->path->file, d->mem, len, off, disk_io_done);
}

void disk_sync(struct disk_io *d)
{
	d->since = io_now(d->io);
	io_sync(d->io, &d->op, d->path->file, disk_io_done);
}

void disk_discard(struct disk_io *d, uint64_t off, uint32_t len)
{
	d->since = io_now(d->io);
	io_discard(d->io, &d->op, d->path->file, off, len, disk_io_done);
}

int disk_wait(struct disk_io **dp)
{
	struct disk_io *d = *dp;
	struct store *s = d->path->store;
	struct store_worker *sw =
	    s->worker[s->cfg.workers]; /* NULL: at start, all the time there is */
	uint64_t limit = sw != NULL ? s->cfg.io_timeout_ns : 0, end = d->since + limit;
	struct io *io = d->io;

	while (!io_op_idle(&d->op)) {
		uint64_t now = io_now(io);

		if (limit == 0) {
			A(io_turn(io, -1) >= 0);
		} else if (now < end) {
			A(io_turn(io, (int64_t)(end - now)) >= 0);
		} else if (io_turn(io, 0) >= 0 && io_op_idle(&d->op)) {
			break; /* it was done, and nobody had looked */
		} else {
			*dp = NULL;
			d->late = true;
			path_late(sw, d->path, "an operation of the slow worker", true);
			io_cancel(io, &d->op);
			return -ETIMEDOUT;
		}
	}
	return d->op.res;
}

void turn_waiting(struct store_worker *sw)
{
	uint64_t next = UINT64_MAX, now;

	watch_turn(sw, &next);
	now = io_now(sw->io);
	A(io_turn(sw->io, next == UINT64_MAX ? -1 : next > now ? (int64_t)(next - now) : 0) >= 0);
}
