/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop of a worker, its free lists, and the list of clients that owe progress.
 *
 * One turn: io_turn() waits and runs the callbacks, which change state and mark connections; each
 * marked connection is settled once; then store_worker_turn() does what the store has to do.
 * With nothing marked and no timer the loop sleeps in io_turn(): idle costs nothing.
 *
 * Threads: everything here is the worker's own, but for the mailbox.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "valcached/net/net_int.h"

/* Free lists keep at most so many; more go back to the allocator. */
#define REQS_KEPT       1024u
#define OUTS_KEPT       256u
#define LEFT_KEPT_BYTES (1024u * 1024)
#define LEFT_MIN_SHIFT  9u
/*
 * While draining: so long what had arrived is still received, however much it is; and so many looks after
 * any client that was told the end of the stream took output or sent more, they may all hang up. Looks, not half a
 * second at once: where the whole machine stood still, nobody had that time.
 */
#define INTAKE_NS    (300 * NS_PER_MS)
#define LINGER_NS    (100 * NS_PER_MS)
#define LINGER_LOOKS 5u

/* ---- free lists ------------------------------------------------------------------------------- */

static void *must(void *p)
{
	/* the bounds on connections and windows bound these; a daemon without 17 KiB is past helping */
	AN(p);
	return p;
}

void worker__hold(struct worker *w, size_t n)
{
	count_add(&w->held, n);
}

void worker__let_go(struct worker *w, size_t n)
{
	count_add(&w->held, -(uint64_t)n);
}

struct req *worker__req(struct worker *w)
{
	struct req *r = w->reqs;

	worker__hold(w, sizeof *r);
	if (r == NULL)
		return must(calloc(1, sizeof *r));
	w->reqs = r->next;
	w->reqs_n--;
	return r;
}

void worker__req_free(struct worker *w, struct req *r)
{
	worker__let_go(w, sizeof *r);
	if (w->reqs_n >= REQS_KEPT) {
		free(r);
		return;
	}
	r->next = w->reqs;
	w->reqs = r;
	w->reqs_n++;
}

struct out *worker__out(struct worker *w)
{
	struct out *o = w->outs;

	worker__hold(w, sizeof *o);
	if (o == NULL) {
		o = must(malloc(sizeof *o));
	} else {
		w->outs = o->next;
		w->outs_n--;
	}
	o->next = NULL;
	o->held = NULL;
	o->used = o->iov_n = 0;
	o->bytes = 0;
	return o;
}

void worker__out_free(struct worker *w, struct out *o)
{
	worker__let_go(w, sizeof *o);
	if (w->outs_n >= OUTS_KEPT) {
		free(o);
		return;
	}
	o->next = w->outs;
	w->outs = o;
	w->outs_n++;
}

static unsigned left_class(uint32_t n)
{
	unsigned k = 0;

	while (k < LEFT_CLASSES && (1u << (LEFT_MIN_SHIFT + k)) < n)
		k++;
	return k;
}

/* A buffer of at least need bytes; *room says how many. */
char *worker__left(struct worker *w, uint32_t need, uint32_t *room)
{
	unsigned k = left_class(need);
	struct left *p;

	*room = k == LEFT_CLASSES ? need : 1u << (LEFT_MIN_SHIFT + k);
	worker__hold(w, *room);
	if (k == LEFT_CLASSES)
		return must(malloc(need));
	p = w->left[k];
	if (p == NULL)
		return must(malloc(*room));
	w->left[k] = p->next;
	w->left_n[k]--;
	return (char *)(void *)p;
}

void worker__left_free(struct worker *w, char *left, uint32_t room)
{
	unsigned k = left_class(room);
	struct left *p = (struct left *)(void *)left;

	worker__let_go(w, room);
	if (k == LEFT_CLASSES || (w->left_n[k] + 1) * (uint64_t)room > LEFT_KEPT_BYTES) {
		free(left);
		return;
	}
	p->next = w->left[k];
	w->left[k] = p;
	w->left_n[k]++;
}

static void free_lists(struct worker *w)
{
	while (w->reqs != NULL) {
		struct req *r = w->reqs;

		w->reqs = r->next;
		free(r);
	}
	while (w->outs != NULL) {
		struct out *o = w->outs;

		w->outs = o->next;
		free(o);
	}
	for (unsigned k = 0; k < LEFT_CLASSES; k++)
		while (w->left[k] != NULL) {
			struct left *p = w->left[k];

			w->left[k] = p->next;
			free(p);
		}
}

/* ---- who owes progress ------------------------------------------------------------------------ */

/* All wait equally long, so the list is in the order of its deadlines. */
void worker__watch(struct worker *w, struct conn *c)
{
	A(!c->watched);
	c->watched = true;
	c->watch_ns = io_now(w->io);
	c->watch_idle = 0;
	c->watch_next = NULL;
	c->watch_prev = w->watch_last;
	if (w->watch_last != NULL)
		w->watch_last->watch_next = c;
	else
		w->watch = c;
	w->watch_last = c;
}

void worker__unwatch(struct worker *w, struct conn *c)
{
	if (!c->watched)
		return;
	c->watched = false;
	if (c->watch_prev != NULL)
		c->watch_prev->watch_next = c->watch_next;
	else
		w->watch = c->watch_next;
	if (c->watch_next != NULL)
		c->watch_next->watch_prev = c->watch_prev;
	else
		w->watch_last = c->watch_prev;
}

static uint64_t watch_turn(struct worker *w, uint64_t now)
{
	uint64_t period = w->net->cfg.stall_ns / WATCH_LOOKS;

	while (w->watch != NULL && w->watch->watch_ns + period <= now) {
		struct conn *c = w->watch;
		uint8_t idle;

		if (conn__look(c))
			continue; /* it was taken down */
		idle = c->watch_idle;
		worker__unwatch(w, c);
		worker__watch(w, c);
		c->watch_idle = idle;
	}
	return w->watch != NULL ? w->watch->watch_ns + period : UINT64_MAX;
}

/* ---- the loop --------------------------------------------------------------------------------- */

static void woken(void *arg)
{
	struct worker *w = arg;
	struct conn *c = atomic_exchange_explicit(&w->mailbox, NULL, memory_order_acquire), *next;

	for (; c != NULL; c = next) {
		next = c->next;
		conn__begin(w, c);
	}
	if (w->accept_at_ns != 0)
		w->accept_at_ns = 1; /* a descriptor may be free again */
	w->woken = true;
	store_worker_woken(w->store);
}

static void settle_marked(struct worker *w)
{
	struct conn *c = w->dirty, *next;

	/* those marked meanwhile have their turn after the next io_turn() */
	w->dirty = NULL;
	w->dirty_end = &w->dirty;
	w->greeted = 0;
	for (; c != NULL; c = next) {
		next = c->dirty_next;
		c->dirty = false;
		conn__settle(c);
	}
}

static void mark_all(struct worker *w)
{
	for (struct conn *c = w->conns; c != NULL; c = c->next)
		conn__dirty(c);
}

static void follow_stage(struct worker *w)
{
	int stage = atomic_load_explicit(&w->net->stage, memory_order_acquire);

	if (stage == NET_SERVING && !w->serving) {
		w->serving = true;
		if (w->id == 0)
			accept__start(w);
	}
	if (stage >= NET_DRAINING && !w->draining) {
		w->draining = true;
		w->drain_ns = io_now(w->io);
		if (w->id == 0)
			accept__stop(w);
		mark_all(w);
	}
	if (stage >= NET_KILLING && !w->killed) {
		w->killed = true;
		mark_all(w);
	}
}

/*
 * A receive that is armed may bring hundreds of kilobytes in one go, and each connection has one: once memory
 * for input is short, all are exchanged for small ones.
 */
static void follow_memory(struct worker *w)
{
	if (!w->narrow && worker__tight(w)) {
		w->narrow = true;
		for (struct conn *c = w->conns; c != NULL; c = c->next)
			conn__narrow(c);
	} else if (w->narrow &&
		   atomic_load_explicit(&w->held, memory_order_relaxed) < w->net->held_max / 2) {
		w->narrow =
		    false; /* those that are small stay so until they have brought something */
	}
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Whether a client that was told the end of the stream has taken output, or sent, since the last look. */
static bool still_at_work(struct worker *w)
{
	bool at_work = false;

	for (struct conn *c = w->conns; c != NULL; c = c->next)
		if (c->drain == DRAIN_TOLD) {
			uint64_t mark = conn__exchanged(c);

			at_work = at_work || mark != c->told_mark;
			c->told_mark = mark;
		}
	return at_work;
}

/* Ends the intake, then the patience of a drain. */
static uint64_t drain_turn(struct worker *w, uint64_t now)
{
	uint64_t intake = w->drain_ns + INTAKE_NS;

	if (now >= intake && !w->sated) {
		w->sated = true;
		mark_all(w);
	}
	if (w->told_ns == 0 || w->lingered)
		return now < intake ? intake : UINT64_MAX;
	if (now >= w->told_ns + LINGER_NS) {
		w->told_ns = now;
		w->told_looks = still_at_work(w) ? 0 : w->told_looks + 1;
		w->lingered = w->told_looks == LINGER_LOOKS;
		if (w->lingered)
			mark_all(w);
	}
	return earlier(now < intake ? intake : UINT64_MAX, w->told_ns + LINGER_NS);
}

static bool all_gone(const struct worker *w)
{
	return w->draining && atomic_load_explicit(&w->conn_n, memory_order_relaxed) == 0 &&
	       w->flush == NULL && (w->id != 0 || accept__idle(w));
}

/*
 * Tells net_stop() that this worker has no connection. The loop goes on: the store needs its turns,
 * and other workers may wake this one until all are gone. True: that is so.
 */
static bool report_gone(struct worker *w)
{
	struct net *net = w->net;

	if (all_gone(w) != w->gone) {
		pthread_mutex_lock(&net->lock);
		w->gone = !w->gone;
		pthread_cond_broadcast(&net->changed);
		pthread_mutex_unlock(&net->lock);
	}
	return atomic_load_explicit(&net->stage, memory_order_acquire) >= NET_CLOSING;
}

bool worker__turn(struct worker *w)
{
	uint64_t due, now;

	A(io_turn(w->io, w->timeout_ns) >= 0);
	w->woken = false;
	follow_stage(w);
	service__flush_in_time(w);
	settle_marked(w);
	follow_memory(w);
	/* last: what was begun while settling may have set its timers */
	due = store_worker_turn(w->store);
	if (w->draining && report_gone(w))
		return false;
	now = io_now(w->io);
	due = earlier(due, watch_turn(w, now));
	due = earlier(due, limits__idle_turn(w, now));
	due = earlier(due, press__turn(w, now));
	if (w->draining)
		due = earlier(due, drain_turn(w, now));
	if (w->id == 0)
		due = earlier(due, accept__turn(w, now));
	if (w->flush_at_ns != 0 && !w->draining)
		due = earlier(due, w->flush_at_ns);
	/* the slow worker's store turns the loop itself, and may have eaten a wake-up */
	if (w->dirty != NULL || w->woken)
		due = 0;
	w->timeout_ns = due == UINT64_MAX ? -1 : due <= now ? 0 : (int64_t)(due - now);
	return true;
}

static void stop_store(struct worker *w)
{
	store_worker_stop(w->store);
	while (!store_worker_idle(w->store)) {
		uint64_t due, now;

		due = store_worker_turn(w->store);
		now = io_now(w->io);
		if (store_worker_idle(w->store))
			break;
		A(io_turn(w->io, due == UINT64_MAX ? -1
				 : due <= now      ? 0
						   : (int64_t)(due - now)) >= 0);
	}
}

/* Tells net_start() how the beginning went. */
static void report(struct worker *w, int rc)
{
	struct net *net = w->net;

	pthread_mutex_lock(&net->lock);
	w->started = true;
	w->start_rc = rc;
	pthread_cond_broadcast(&net->changed);
	pthread_mutex_unlock(&net->lock);
}

/*
 * File operations in the kernel at a time, of all loops together: half of the usual 256 places of a device's
 * queue. A loop that finds none free would sleep in its submit, with all its connections.
 */
#define DISK_DEPTH     128u
#define DISK_DEPTH_MIN 8u

int worker__loop(struct worker *w, bool serves)
{
	unsigned depth = DISK_DEPTH / (w->net->cfg.workers + 1);
	const struct io_config cfg = {
	    .net = serves,
	    .spin_ns = serves ? w->net->cfg.spin_ns : 0,
	    .disk_depth = depth > DISK_DEPTH_MIN ? depth : DISK_DEPTH_MIN,
	    .disk_threads = w->net->cfg.disk_threads,
	};

	return io_open(w->net->engine, &cfg, &w->io, &w->start_cause);
}

int worker__open(struct worker *w)
{
	int rc;

	w->dirty_end = &w->dirty;
	if (w->net->cfg.opened != NULL)
		w->net->cfg.opened(w->net->cfg.opened_arg);
	w->io->on_wake = woken;
	w->io->wake_arg = w;
	rc = store_worker_open(w->net->store, w->io, w->id, &w->store, &w->start_cause);
	if (rc != 0)
		io_close(&w->io);
	return rc;
}

/* Opens it, and turns it once: a ring is enabled by its first turn, which is a part of the start. */
static int begin(struct worker *w)
{
	int rc = worker__open(w);

	if (rc != 0)
		return rc;
	A(io_turn(w->io, 0) >= 0);
	return 0;
}

void worker__close(struct worker *w)
{
	stop_store(w);
	store_worker_close(&w->store);
	pthread_mutex_lock(&w->net->lock); /* net_io_counters() may be reading */
	io_close(&w->io);
	pthread_mutex_unlock(&w->net->lock);
	free_lists(w);
}

void *worker__main(void *worker)
{
	struct worker *w = worker;
	char name[16];
	int rc;

	MAGIC_OK(w, WORKER_MAGIC);
	snprintf(name, sizeof name, "worker-%u", w->id);
	pthread_setname_np(pthread_self(), name);
	rc = begin(w);
	report(w, rc);
	if (rc != 0)
		return NULL;
	while (worker__turn(w))
		;
	worker__close(w);
	return NULL;
}

/* The slow thread: no sockets, only what the store does in the background; stops last. */
void *worker__slow_main(void *worker)
{
	struct worker *w = worker;
	uint64_t due, now;
	int rc;

	MAGIC_OK(w, WORKER_MAGIC);
	pthread_setname_np(pthread_self(), "slow");
	rc = begin(w);
	report(w, rc);
	if (rc != 0)
		return NULL;
	while (atomic_load_explicit(&w->net->stage, memory_order_acquire) < NET_SLOW_STOP) {
		due = store_worker_turn(w->store);
		now = io_now(w->io);
		A(io_turn(w->io, due == UINT64_MAX ? -1
				 : due <= now      ? 0
						   : (int64_t)(due - now)) >= 0);
	}
	worker__close(w);
	return NULL;
}
