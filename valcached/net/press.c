/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory is short: requests wait for it, and clients that take no output keep some. They may keep 1/SHARE of
 * it together. Beyond that those whose output has stood still longest are closed until it holds: whose
 * window is shut for a tenth of a second may be unlucky, whose is shut for a second costs the others.
 * Without anybody waiting there is nothing to look at here. The worker's own thread.
 */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "valcached/net/net_int.h"

#define PRESS_NS (25 * NS_PER_MS)  /* between two looks */
#define STILL_NS (100 * NS_PER_MS) /* a send without progress for so long stands still */
#define SHARE    8u

/* Memory of the store's that waits for this client to take it. */
static uint64_t kept(const struct conn *c)
{
	uint64_t n = 0;

	for (const struct out *o = c->out; o != NULL; o = o->next)
		for (const struct req *r = o->held; r != NULL; r = r->next)
			n += r->open ? store_op_held(&r->op) : 0;
	for (const struct req *r = c->queue; r != NULL; r = r->next)
		n += r->open && !r->busy && !r->deferred ? store_op_held(&r->op) : 0;
	return n;
}

/* Since when the connection's send has made no progress. */
static uint64_t still_for(struct conn *c, uint64_t now)
{
	uint64_t mark;

	if (c->dead || io_op_idle(&c->tx)) {
		c->still_ns = 0;
		return 0;
	}
	mark = io_sock_progress(c->w->io, c->fd);
	if (c->still_ns == 0 || mark != c->still_mark) {
		c->still_ns = now;
		c->still_mark = mark;
	}
	return now - c->still_ns;
}

static void close_one(struct conn *c, uint64_t still)
{
	static struct log_limit limit;

	count_add(&c->w->count.stalled_connections, 1);
	log_limited(
	    &limit, LOG_INFO,
	    "closed a connection whose client took no output for %llu ms while others waited for "
	    "its memory",
	    (unsigned long long)(still / NS_PER_MS));
	worker__unwatch(c->w, c);
	conn__die(c);
}

uint64_t press__turn(struct worker *w, uint64_t now)
{
	uint64_t all = store_memory_wanted(w->store), sum = 0;
	struct conn *c, *next;

	if (likely(all == 0))
		return UINT64_MAX;
	if (now < w->press_ns + PRESS_NS)
		return w->press_ns + PRESS_NS;
	w->press_ns = now;
	for (c = w->watch; c != NULL; c = c->watch_next)
		if (still_for(c, now) >= STILL_NS) {
			sum += kept(c);
			c->window = WINDOW_FIRST;
		}
	/* the longest first, by halves: one pass for each, however many they are */
	for (uint64_t age = 16 * STILL_NS; age >= STILL_NS && sum > all / SHARE; age /= 2)
		for (c = w->watch; c != NULL && sum > all / SHARE; c = next) {
			uint64_t n;

			next = c->watch_next;
			if (c->dead || c->still_ns == 0 || now - c->still_ns < age)
				continue;
			n = kept(c);
			if (n == 0)
				continue;
			sum -= n;
			close_one(c, now - c->still_ns);
		}
	return now + PRESS_NS;
}
