/* SPDX-License-Identifier: Apache-2.0 */
/* Making and ending a loop of the libevent engine. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cause.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memcheck.h"
#include "valcached/io/libevent_int.h"

#define DISK_THREADS 4u /* docs/decisions.md has the figures */

static void open_cause(int r, char **cause)
{
	switch (r) {
	case -EMFILE:
	case -ENFILE:
		cause_say(cause, "no descriptor left for an event loop: raise the limit "
				 "(LimitNOFILE=65536 in "
				 "the unit file, or ulimit -n 65536)");
		break;
	case -EAGAIN:
		cause_say(cause, "no thread can be made for the disk: raise the limit of processes "
				 "(TasksMax= in the unit file, --pids-limit of the container, or "
				 "ulimit -u)");
		break;
	case -ENOSYS:
		cause_say(cause, "libevent %s has no epoll here", event_get_version());
		break;
	default:
		cause_say(cause, "an event loop cannot be set up: %s", strerror(-r));
		break;
	}
}

static void log_libevent(int severity, const char *text)
{
	static struct log_limit limit;

	if (severity != EVENT_LOG_DEBUG)
		log_limited(&limit, severity == EVENT_LOG_MSG ? LOG_INFO : LOG_WARN,
			    "io: libevent: %s", text);
}

static int make_base(struct lev *l)
{
	struct event_config *c = event_config_new();
	int r = -ENOMEM;

	if (c == NULL)
		return r;
	errno = 0;
	/* edge-triggered: see lev_on_wake() */
	if (event_config_require_features(c, EV_FEATURE_ET) == 0 &&
	    event_config_set_flag(c, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV) == 0)
		l->base = event_base_new_with_config(c);
	if (l->base == NULL)
		r = errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : -ENOSYS;
	event_config_free(c);
	return l->base == NULL ? r : 0;
}

static int make_events(struct lev *l)
{
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd < 0)
		return -errno;
	l->wake = event_new(l->base, l->wake_fd, EV_READ | EV_PERSIST | EV_ET, lev_on_wake, l);
	l->timer = event_new(l->base, -1, 0, lev_on_timer, l);
	if (l->wake == NULL || l->timer == NULL || event_add(l->wake, NULL) < 0)
		return -ENOMEM;
	return 0;
}

/* Reads go to the pool where this is not allowed, or fs.aio-max-nr is used up. */
static void make_aio(struct lev *l)
{
	static _Atomic bool said;
	int r = aio_open(&l->aio, l->disk_depth + AIO_BATCH, l->wake_fd);

	if (!atomic_exchange(&said, true))
		log_info(
		    "io: libevent %s, at most %u threads a loop for the disk, reads by %s%s",
		    event_get_version(), l->pool.max,
		    r == 0 ? "io_submit" : "them, too: io_setup: ", r == 0 ? "" : strerror(-r));
}

static void lev_free(struct lev *l)
{
	lev_net_free(l);
	aio_close(&l->aio);
	if (l->wake != NULL)
		event_free(l->wake);
	if (l->timer != NULL)
		event_free(l->timer);
	if (l->base != NULL)
		event_base_free(l->base);
	if (l->wake_fd >= 0)
		close(l->wake_fd);
	free(l->buf);
	l->magic = 0;
	free(l);
}

void lev_close(struct io *io)
{
	struct lev *l = lev_of(io);

	A(l->disk_now == 0 && l->reads_new.head == NULL && l->pool_new.head == NULL &&
	  atomic_load(&l->landed) == NULL);
	A(l->local.head == NULL && l->sends.head == NULL);
	A(l->aio_now == 0);
	io_pool_close(&l->pool);
	lev_free(l);
}

int lev_open(const struct io_engine *engine, const struct io_config *c, struct io **io,
	     char **cause)
{
	unsigned depth = c->disk_depth != 0 ? c->disk_depth : 128;
	unsigned threads = c->disk_threads != 0 ? c->disk_threads : DISK_THREADS;
	struct lev *l = calloc(1, sizeof *l);
	int r = -ENOMEM;

	event_set_log_callback(log_libevent);
	if (l == NULL) {
		open_cause(r, cause);
		return r;
	}
	l->magic = LEV_MAGIC;
	l->io.ops = &lev_ops;
	l->io.engine = engine;
	l->io.now_ns = clock_ns();
	l->memcheck = memcheck_runs();
	l->wake_fd = -1;
	l->timer_ns = UINT64_MAX;
	l->spin_ns = c->spin_ns;
	l->ready.next = l->ready.prev = &l->ready;
	op_list_init(&l->sends);
	op_list_init(&l->local);
	op_list_init(&l->reads_new);
	op_list_init(&l->pool_new);
	op_list_init(&l->reads_over);
	l->disk_depth = depth;
	l->buf_size = c->recv_buffer_size != 0 ? c->recv_buffer_size : 16384;
	if (c->net && (l->buf = malloc(l->buf_size)) == NULL)
		goto fail;
	r = make_base(l);
	if (r == 0)
		r = make_events(l);
	if (r == 0)
		r = io_pool_open(&l->pool, threads < depth ? threads : depth, lev_landed, l);
	if (r < 0)
		goto fail;
	if (!c->pool_only)
		make_aio(l);
	*io = &l->io;
	return 0;

fail:
	open_cause(r, cause);
	lev_free(l);
	return r;
}
