/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Something is short, and slow clients keep some of it: who takes no output keeps the values of his answers,
 * who sends no more of a value keeps the place for it. Slow is who has moved less than a
 * quarter of SLOW_RATE for a while. Three things can be short:
 *
 *   memory of the store     while requests wait for it, the slow may keep 1/SHARE of it together
 *   memory of net           (worker__tight()) the same
 *   places for long values  while a set waits for one, who has been slow for PLACE_NS loses his; and the rate
 *                           that it takes doubles each second that somebody has waited
 *
 * Of the first two those who have been slow longest are closed until it holds: whose window is shut for a
 * fifth of a second may be unlucky, whose is shut for a second costs the others. Without anybody waiting
 * there is nothing to look at here. The worker's own thread.
 */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "valcached/net/tls_int.h"

#define PRESS_NS    (25 * NS_PER_MS)  /* between two looks */
#define LOOKED_NS   (NS_PER_MS / 20)  /* and so much for each connection that was looked at */
#define STILL_NS    (200 * NS_PER_MS) /* slow for so long counts */
#define SHARE       8u
#define PLACE_NS    (500 * NS_PER_MS)
#define PLACE_LOOK  (100 * NS_PER_MS) /* places are held, nobody is known to wait */
#define DOUBLED_MAX 10u

/* Memory of the store's that waits for this client. */
static uint64_t kept(const struct conn *c)
{
	uint64_t n = 0;

	for (const struct out *o = c->out; o != NULL; o = o->next)
		for (const struct req *r = o->held; r != NULL; r = r->next)
			n += r->open ? store_op_held(&r->op) : 0;
	for (const struct req *r = c->queue; r != NULL; r = r->next)
		n += r->open && !r->busy && !r->deferred ? store_op_held(&r->op) : 0;
	if (c->cur != NULL && c->cur->open && !c->cur->busy)
		n += store_op_held(&c->cur->op);
	return n;
}

/* Memory of ours. */
static uint64_t kept_here(const struct conn *c)
{
	uint64_t n = c->left_room + c->queue_n * (uint64_t)sizeof(struct req);

	for (const struct out *o = c->out; o != NULL; o = o->next) {
		n += sizeof *o;
		for (const struct req *r = o->held; r != NULL; r = r->next)
			n += sizeof *r + r->text.room;
	}
	for (const struct req *r = c->queue; r != NULL; r = r->next)
		n += r->text.room;
	if (c->tls != NULL)
		n += c->tls->out_room + c->tls->flying_room;
	return n;
}

static bool has_place(const struct conn *c)
{
	return (c->owes & OWES_BODY) && c->cur != NULL && c->cur->open && !c->cur->busy &&
	       c->cur->body_len > STORE_WHOLE_MAX;
}

static bool may_be_slow(const struct conn *c)
{
	return !c->dead && (c->owes & (OWES_BODY | OWES_TAKING)) != 0;
}

/*
 * For how long the connection has been slow. Of a body on a unix socket that is known as it was at the last look,
 * when its receive was ended: had we no CPU since, that is not the client's fault.
 */
static uint64_t still_for(struct conn *c, uint64_t rate, uint64_t now)
{
	uint64_t moved, at = now;

	if (!may_be_slow(c)) {
		c->still_ns = 0;
		return 0;
	}
	moved = limits__moved(c);
	if (c->local && c->rx_direct)
		at = c->rx_cancel ? 0 : c->ended_ns;
	conn__ask_progress(c); /* for the next look */
	if (c->still_ns == 0) {
		c->still_ns = now;
		c->still_mark = moved;
	}
	if (at < c->still_ns)
		return 0;
	if (moved - c->still_mark > rate * ((at - c->still_ns) / NS_PER_MS) / 1000) {
		c->still_ns = at;
		c->still_mark = moved;
	}
	return at - c->still_ns;
}

static void close_one(struct conn *c, uint64_t still, const char *what)
{
	static struct log_limit limit;

	count_add(&c->w->count.stalled_connections, 1);
	log_limited(&limit, LOG_INFO,
		    "closed a connection whose client %s for %llu ms while others waited for %s",
		    c->owes & OWES_TAKING ? "took little or no output"
					  : "sent little or nothing of a value",
		    (unsigned long long)(still / NS_PER_MS), what);
	worker__unwatch(c->w, c);
	conn__die(c);
}

struct shortage {
	uint64_t all;
	const char *what;
	uint64_t (*keeps)(const struct conn *);
};

/*
 * The slow may keep all / SHARE. Who keeps nothing or was not slow is looked at again when he can have been slow
 * for long enough: of thousands who hurt most are passed over. How many connections were looked at.
 */
static unsigned relieve(struct worker *w, uint64_t now, unsigned is, const struct shortage *s)
{
	struct conn *c, *next;
	uint64_t sum = 0, longest = 0, age = 16 * STILL_NS;
	unsigned n = 0;

	for (c = w->watch; c != NULL; c = c->watch_next) {
		uint64_t its, still;

		if (now < c->press_ns[is])
			continue;
		n++;
		its = may_be_slow(c) ? s->keeps(c) : 0;
		still = its > 0 ? still_for(c, SLOW_RATE / 4, now) : 0;
		if (still < STILL_NS) {
			c->press_ns[is] = now - still + STILL_NS;
			continue;
		}
		sum += its;
		c->window = WINDOW_FIRST;
		longest = still > longest ? still : longest;
	}
	while (age > longest && age > STILL_NS)
		age /= 2;
	/* the longest first, by halves: one pass for each, however many they are */
	for (; age >= STILL_NS && sum > s->all / SHARE; age /= 2)
		for (c = w->watch; c != NULL && sum > s->all / SHARE; c = next) {
			uint64_t its;

			next = c->watch_next;
			if (now < c->press_ns[is] || now - c->still_ns < age)
				continue;
			its = s->keeps(c);
			sum -= its;
			close_one(c, now - c->still_ns, s->what);
		}
	return n;
}

static unsigned free_places(struct worker *w, uint64_t now)
{
	uint64_t doubled = (now - w->places_ns) / NS_PER_S;
	uint64_t rate = (uint64_t)SLOW_RATE / 4 << (doubled < DOUBLED_MAX ? doubled : DOUBLED_MAX);
	struct conn *c, *next;
	unsigned n = 0;

	for (c = w->watch; c != NULL; c = next) {
		uint64_t still;

		next = c->watch_next;
		if (!has_place(c))
			continue;
		n++;
		still = still_for(c, rate, now);
		if (still >= PLACE_NS)
			close_one(c, still, "its place");
	}
	return n;
}

uint64_t press__turn(struct worker *w, uint64_t now)
{
	uint64_t all = store_memory_wanted(w->store);
	enum store_places places = store_places(w->store);
	bool tight = worker__tight(w);
	unsigned n = 0;

	if (places != STORE_PLACES_WANTED)
		w->places_ns = 0;
	else if (w->places_ns == 0)
		w->places_ns = now;
	if (likely(all == 0 && !tight && places != STORE_PLACES_WANTED))
		return places == STORE_PLACES_HELD ? now + PLACE_LOOK : UINT64_MAX;
	if (now < w->press_ns)
		return w->press_ns;
	if (all != 0)
		n += relieve(w, now, SHORT_STORE, &(struct shortage){all, "its memory", kept});
	if (tight)
		n += relieve(
		    w, now, SHORT_NET,
		    &(struct shortage){w->net->held_max, "memory of connections", kept_here});
	if (places == STORE_PLACES_WANTED)
		n += free_places(w, now);
	w->press_ns = now + PRESS_NS + n * LOOKED_NS;
	return w->press_ns;
}
