/* SPDX-License-Identifier: Apache-2.0 */
/* Loads, from tier to tier; see load.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ocache/iostats_int.h"
#include "ocache/load_int.h"
#include "ocache/thread.h"

#define PAUSE_MAX NS_PER_S

/* A read that is out. One reference is the tier's, another that of who cancels it. */
struct attempt {
	struct seg_read read;
	struct load *load;
	struct chain_tier *tier;
	uint64_t begun_ns;
	_Atomic uint32_t refs;
};

/* ---- life ---- */

void ocache__busy(struct ocache *c)
{
	pthread_mutex_lock(&c->busy_lock);
	c->busy++;
	pthread_mutex_unlock(&c->busy_lock);
}

void ocache__idle(struct ocache *c)
{
	pthread_mutex_lock(&c->busy_lock);
	if (--c->busy == 0)
		pthread_cond_broadcast(&c->busy_none);
	pthread_mutex_unlock(&c->busy_lock);
}

struct load **load_place(struct shard *s, uint64_t hash, struct seg_id id)
{
	struct load **at = &s->loads[hash >> 32 & (SHARD_LOADS - 1)];

	while (*at != NULL && ((*at)->id.hi != id.hi || (*at)->id.lo != id.lo))
		at = &(*at)->chain;
	return at;
}

void load_hold(struct load *ld)
{
	atomic_fetch_add_explicit(&ld->refs, 1, memory_order_relaxed);
}

void load_drop(struct load *ld)
{
	struct ocache *c = ld->cache;

	if (atomic_fetch_sub_explicit(&ld->refs, 1, memory_order_acq_rel) != 1)
		return;
	A(ld->state == LOAD_DONE && ld->active == NULL && ld->waiters == NULL);
	seg_buf_drop(ld->bytes);
	iostats_drop(ld->io);
	free(ld);
	ocache__idle(c);
}

void load_unhold(struct load *ld)
{
	A(atomic_fetch_sub_explicit(&ld->refs, 1, memory_order_release) > 1);
}

static void load_fire(struct timer *t);

struct load *load_new(struct ocache *c, struct shard *s, struct seg_id id, uint64_t hash,
		      const struct ocache_hint *hint, struct iostats *io)
{
	struct load *ld = calloc(1, sizeof *ld);

	if (ld == NULL)
		return NULL;
	ld->cache = c;
	ld->shard = s;
	ld->id = id;
	ld->hash = hash;
	ld->decoder = hint != NULL && hint->decoder != NULL ? hint->decoder : c->decoder;
	ld->flags = hint != NULL ? hint->flags : 0;
	ld->io = iostats_hold(io);
	ld->trail.begun_ns = clock_ns();
	ld->job.run = load_run;
	ld->timer.fire = load_fire;
	atomic_init(&ld->refs, 2);
	*load_place(s, hash, id) = ld;
	s->loads_now++;
	s->loads_begun++;
	ocache__busy(c);
	return ld;
}

static bool arm(struct load *ld, int64_t due_ns)
{
	load_hold(ld);
	ld->due_ns = due_ns;
	if (timer_arm(ld->cache->timers, &ld->timer, due_ns) == 0)
		return true;
	load_unhold(ld);
	return false;
}

/* Who calls this holds a reference. */
static void disarm(struct load *ld)
{
	if (timer_disarm(ld->cache->timers, &ld->timer))
		load_unhold(ld);
}

static void attempt_drop(struct attempt *a)
{
	if (atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) == 1)
		free(a);
}

/* ---- the answer ---- */

void load_end(struct load *ld, int status, struct entry *e, struct box *box)
{
	struct waiter *call = NULL, **end = &call, *next;
	struct shard *s = ld->shard;

	A(ld->state != LOAD_DONE);
	A(ld->active == NULL);
	ld->state = LOAD_DONE;
	ld->pausing = false;
	disarm(ld);
	slow_note(ld->cache, ld->id, &ld->trail, iostats__name(ld->io), status);
	report_load(ld->cache, &ld->trail);
	*load_place(s, ld->hash, ld->id) = ld->chain;
	s->loads_now--;
	s->loads_failed += status != 0;
	for (struct waiter *w = ld->waiters; w != NULL; w = next) {
		next = w->next;
		w->next = NULL;
		waiter_answer(w, status, e, box);
		if (w->pin != NULL) {
			pthread_cond_signal(&w->wake); /* w is its thread's from the unlocking on */
		} else {
			*end = w;
			end = &w->next;
		}
	}
	ld->waiters = NULL;
	pthread_mutex_unlock(&s->lock);
	for (struct waiter *w = call; w != NULL; w = next) {
		next = w->next;
		if (timer_disarm(ld->cache->timers, &w->timer)) {
			waiter_unhold(w);
			load_unhold(ld);
		}
		waiter_call(w);
		waiter_drop(w);
	}
	load_unhold(ld);
}

/* ---- from tier to tier ---- */

static void attempt_done(struct seg_read *r);

void load_next_tier(struct load *ld)
{
	ld->tier++;
	ld->tries = 0;
}

/* Under the lock: nobody had it. True: it was written meanwhile, load_go_on() is due [LD-7]. */
static bool load_again(struct load *ld)
{
	if (!ld->again)
		return false;
	ld->again = false;
	ld->tier = 0;
	ld->tries = 0;
	return true;
}

void ocache__written(struct ocache *c, struct seg_id id)
{
	uint64_t hash = table_hash(c->seed, id);
	struct shard *s = ocache__shard(c, hash);
	struct load *ld;

	pthread_mutex_lock(&s->lock);
	ld = *load_place(s, hash, id);
	if (ld != NULL)
		ld->again = true;
	pthread_mutex_unlock(&s->lock);
}

void load_go_on(struct load *ld)
{
	struct ocache *c = ld->cache;
	struct shard *s = ld->shard;

	for (;;) {
		struct attempt *a;
		struct chain_tier *t;
		struct seg_read *one;
		int64_t now = (int64_t)clock_ns();

		pthread_mutex_lock(&s->lock);
		if (ld->state == LOAD_DONE) {
			pthread_mutex_unlock(&s->lock);
			return;
		}
		A(ld->state == LOAD_TIERS && ld->active == NULL && !ld->pausing);
		if (ld->tier == c->tiers && ld->failure == 0)
			(void)load_again(ld);
		if (s->closing || ld->tier == c->tiers) {
			load_end(ld,
				 s->closing         ? -ECANCELED
				 : ld->failure != 0 ? ld->failure
						    : -ENOENT,
				 NULL, NULL);
			return;
		}
		t = &c->tier[ld->tier];
		if (ld->tries == 0) {
			ld->tier_until_ns = now + (int64_t)t->deadline_ns;
			iostats_tier(ld->io, t->key, 1, 0);
		}
		if (!chain_allows(t, now)) {
			ld->failure = ld->failure != 0 ? ld->failure : -EIO;
			load_next_tier(ld);
			pthread_mutex_unlock(&s->lock);
			continue;
		}
		a = calloc(1, sizeof *a);
		if (a == NULL || !arm(ld, ld->tier_until_ns)) {
			free(a);
			chain_answer(t, -ECANCELED, 0, 0);
			load_end(ld, -ENOMEM, NULL, NULL);
			return;
		}
		a->read = (struct seg_read){.id = ld->id,
					    .deadline_ns = ld->tier_until_ns,
					    .done = attempt_done,
					    .user = a};
		a->load = ld;
		a->tier = t;
		a->begun_ns = (uint64_t)now;
		atomic_init(&a->refs, 1);
		load_hold(ld);
		ld->active = a;
		ld->tries++;
		pthread_mutex_unlock(&s->lock);
		one = &a->read;
		t->tier->ops->read(t->tier, &one, 1);
		return;
	}
}

/* Under the lock; the bytes are here: a thread that waits opens them, else one of the pool. */
static void load_offer(struct load *ld)
{
	for (struct waiter *w = ld->waiters; w != NULL; w = w->next) {
		if (w->pin != NULL) {
			pthread_cond_signal(&w->wake);
			return;
		}
	}
	if (!ld->pushed) {
		ld->pushed = true;
		load_hold(ld);
		pool_push(ld->cache->pool, &ld->job);
	}
}

/*
 * Between a twentieth and a tenth of the tier's deadline, longer each time: they do not come
 * together. At most PAUSE_MAX to twice that: the deadline may be far away.
 */
static int64_t pause_ns(const struct load *ld, const struct chain_tier *t, uint64_t now)
{
	uint64_t each = t->deadline_ns / 20 < PAUSE_MAX ? t->deadline_ns / 20 : PAUSE_MAX;
	uint64_t base = each * ld->tries < PAUSE_MAX ? each * ld->tries : PAUSE_MAX;

	return (int64_t)(base + (base * ((now ^ ld->hash) * 0x9e3779b97f4a7c15ull >> 54) >> 10));
}

/* Under the lock: a read has failed. True: load_go_on() is due; else it will be tried again. */
static bool load_failed(struct load *ld, struct chain_tier *t, int status, uint64_t now)
{
	int64_t due = (int64_t)now + pause_ns(ld, t, now);

	if (status != -EBADMSG && ld->tries < t->tries && due < ld->tier_until_ns &&
	    !ld->shard->closing && arm(ld, due)) {
		ld->pausing = true;
		chain_backs_off(t, (uint64_t)due - now);
		return false;
	}
	ld->failure = status;
	load_next_tier(ld);
	return true;
}

void load_drop_from(const struct load *ld, unsigned tier)
{
	struct chain_tier *t = &ld->cache->tier[tier];

	if (!t->record && t->tier->ops->drop != NULL)
		t->tier->ops->drop(t->tier, ld->id);
}

static void attempt_done(struct seg_read *r)
{
	struct attempt *a = r->user;
	struct load *ld = a->load;
	struct chain_tier *t = a->tier;
	struct shard *s = ld->shard;
	struct seg_buf *bytes = r->status == 0 ? r->bytes : NULL;
	uint64_t now = clock_ns(), ns = now - a->begun_ns;
	int status = r->status == 0 && bytes == NULL ? -EBADMSG : ocache__status(r->status);
	bool step = false;

	pthread_mutex_lock(&s->lock);
	if (ld->active != a) { /* [LD-3] */
		pthread_mutex_unlock(&s->lock);
		chain_late(t);
		seg_buf_drop(bytes);
		attempt_drop(a);
		load_drop(ld);
		return;
	}
	ld->active = NULL;
	disarm(ld);
	iostats_tier(ld->io, t->key, 0, ns);
	trail_read(&ld->trail, ld->tier, ns, status);
	chain_answer(t, status, ns, bytes != NULL ? seg_buf_len(bytes) : 0);
	if (status == 0) {
		ld->bytes = bytes;
		ld->from = ld->tier;
		ld->state = LOAD_OPENING;
		load_offer(ld);
	} else if (status == -ENOENT && t->record && load_again(ld)) {
		step = true;
	} else if (status == -ENOENT && t->record) {
		load_end(ld, -ENOENT, NULL, NULL); /* gives the lock back */
		attempt_drop(a);
		load_drop(ld);
		return;
	} else if (status == -ENOENT) {
		ld->fill |= 1u << ld->tier;
		load_next_tier(ld);
		step = true;
	} else {
		if (status == -EBADMSG) {
			ld->fill |= 1u << ld->tier;
			ld->damaged |= 1u << ld->tier;
		}
		step = load_failed(ld, t, status, now);
	}
	pthread_mutex_unlock(&s->lock);
	if (status == -EBADMSG) {
		chain_damaged(t);
		load_drop_from(ld, (unsigned)(t - ld->cache->tier));
	}
	attempt_drop(a);
	if (step)
		load_go_on(ld);
	load_drop(ld);
}

/*
 * Takes the read that is out away from the load; under the lock. The caller cancels and drops it.
 */
static struct attempt *take_active(struct load *ld)
{
	struct attempt *a = ld->active;

	atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
	ld->active = NULL;
	return a;
}

static void cancel(struct attempt *a)
{
	a->tier->tier->ops->cancel(a->tier->tier, &a->read);
	attempt_drop(a);
}

/* The tier's deadline, or the end of a pause. */
static void load_fire(struct timer *timer)
{
	struct load *ld = container_of(timer, struct load, timer);
	struct shard *s = ld->shard;
	struct attempt *a = NULL;
	uint64_t now = clock_ns();
	bool step = false;

	pthread_mutex_lock(&s->lock);
	/* it may have been armed anew meanwhile, and this is of before */
	if (ld->state == LOAD_TIERS && (int64_t)now >= ld->due_ns) {
		disarm(ld); /* or it has been, and that is over by now as well */
		if (ld->active != NULL) {
			a = take_active(ld);
			iostats_tier(ld->io, a->tier->key, 0, now - a->begun_ns);
			trail_read(&ld->trail, ld->tier, now - a->begun_ns, -ETIMEDOUT);
			chain_timeout(a->tier, now - a->begun_ns);
			ld->failure = -ETIMEDOUT;
			load_next_tier(ld);
			step = true;
		} else if (ld->pausing) {
			ld->pausing = false;
			step = true;
		}
	}
	pthread_mutex_unlock(&s->lock);
	if (a != NULL)
		cancel(a);
	if (step)
		load_go_on(ld);
	load_drop(ld);
}

/* ---- closing ---- */

/* One load of the shard that waits for something; with the lock, which it gives back. */
static void end_one(struct load *ld)
{
	struct attempt *a = ld->active != NULL ? take_active(ld) : NULL;

	load_hold(ld);
	if (a != NULL) /* it says no more about the tier than that we gave up */
		chain_gave_up(a->tier);
	load_end(ld, -ECANCELED, NULL, NULL);
	if (a != NULL)
		cancel(a);
	load_drop(ld);
}

static struct load *load_to_end(struct shard *s)
{
	for (unsigned i = 0; i < SHARD_LOADS; i++)
		for (struct load *ld = s->loads[i]; ld != NULL; ld = ld->chain)
			if (ld->state == LOAD_OPENING ||
			    (ld->state == LOAD_TIERS && (ld->active != NULL || ld->pausing)))
				return ld;
	return NULL; /* the others look at `closing` themselves */
}

void ocache__loads_end(struct ocache *c)
{
	for (unsigned i = 0; i < c->shards; i++) {
		struct shard *s = &c->shard[i];
		struct load *ld;

		pthread_mutex_lock(&s->lock);
		s->closing = true;
		while ((ld = load_to_end(s)) != NULL) {
			end_one(ld);
			pthread_mutex_lock(&s->lock);
		}
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_lock(&c->busy_lock);
	while (c->busy > 0)
		pthread_cond_wait(&c->busy_none, &c->busy_lock);
	pthread_mutex_unlock(&c->busy_lock);
}
