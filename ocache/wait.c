/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits for loads: one thread for one object, or nobody for many; see load.h and ocache.h. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "ocache/iostats_int.h"
#include "ocache/load_int.h"
#include "ocache/thread.h"

/* ---- answers ---- */

void waiter_drop(struct waiter *w)
{
	if (atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) != 1)
		return;
	iostats_drop(w->io);
	free(w);
}

void waiter_unhold(struct waiter *w)
{
	A(atomic_fetch_sub_explicit(&w->refs, 1, memory_order_release) > 1);
}

void waiter_answer(struct waiter *w, int status, struct entry *e, struct box *box)
{
	_Atomic(void *) *pin = w->pin;
	struct lane *ln;

	if (status == 0 && e != NULL && pin == NULL) { /* the lane of who calls back */
		ln = lane_mine();
		pin = ln != NULL ? lane_pin(ln) : NULL;
		if (pin == NULL)
			status = -ENOMEM;
	}
	w->status = status;
	if (status == 0 && e != NULL) {
		atomic_store_explicit(pin, e, memory_order_release);
		if (w->joined) /* the access that loads it is not one that finds it */
			policy_use(e);
		w->ref = ocache__ref_entry(e, pin);
	} else if (status == 0) {
		atomic_fetch_add_explicit(&box->refs, 1, memory_order_relaxed);
		w->ref = ocache__ref_box(box);
	}
	w->ready = true;
}

void waiter_call(struct waiter *w)
{
	if (w->joined)
		iostats_inflight(w->io, clock_ns() - w->since_ns);
	w->done(w->user, w->index, w->status, &w->ref);
}

/* ---- waiting ---- */

static void waiter_leave(struct load *ld, struct waiter *w)
{
	struct waiter **at = &ld->waiters;

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
}

/* What stands in a pin that its thread has set aside for an answer. */
static void *const set_aside = (void *)8;

/* With the lock and a reference; until w is ready, or has left. */
static void wait_for(struct load *ld, struct shard *s, struct waiter *w, int64_t deadline_ns)
{
	struct timespec until = thread_timespec(deadline_ns);
	bool late = false;

	while (!w->ready) {
		/* also when it is late: it may be the one that was asked to */
		if (ld->state == LOAD_OPENING) {
			ld->state = LOAD_DECODING;
			pthread_mutex_unlock(&s->lock);
			load_decode(ld);
			pthread_mutex_lock(&s->lock);
		} else if (late) {
			waiter_leave(ld, w);
			w->status = -ETIMEDOUT;
			s->timeouts++;
			return;
		} else if (deadline_ns == 0) {
			pthread_cond_wait(&w->wake, &s->lock);
		} else {
			late = pthread_cond_timedwait(&w->wake, &s->lock, &until) == ETIMEDOUT;
		}
	}
}

int ocache__load_wait(struct ocache *c, struct seg_id id, uint64_t hash,
		      const struct ocache_hint *hint, struct iostats *io, _Atomic(void *) *pin,
		      struct ocache_ref *ref)
{
	struct shard *s = ocache__shard(c, hash);
	struct waiter w = {.pin = pin};
	struct entry *e;
	struct load *ld;
	bool began = false;

	pthread_mutex_lock(&s->lock);
	e = table_find(&s->table, hash, id); /* it may have come meanwhile */
	if (e != NULL) {
		atomic_store_explicit(pin, e, memory_order_release);
		policy_use(e);
		*ref = ocache__ref_entry(e, pin);
		pthread_mutex_unlock(&s->lock);
		return 1;
	}
	ld = s->closing ? NULL : *load_place(s, hash, id);
	if (ld == NULL && !s->closing) {
		ld = load_new(c, s, id, hash, hint, io);
		began = true;
	}
	if (ld == NULL) {
		w.status = s->closing ? -ECANCELED : -ENOMEM;
		pthread_mutex_unlock(&s->lock);
		return w.status;
	}
	ocache__busy(c);
	w.joined = !began;
	s->joined += !began;
	w.since_ns = clock_ns();
	thread_cond_init(&w.wake);
	atomic_store_explicit(pin, set_aside, memory_order_relaxed);
	w.next = ld->waiters;
	ld->waiters = &w;
	if (!began)
		load_hold(ld);
	if (began) {
		pthread_mutex_unlock(&s->lock);
		load_go_on(ld);
		pthread_mutex_lock(&s->lock);
	}
	wait_for(ld, s, &w, hint != NULL ? hint->deadline_ns : 0);
	pthread_mutex_unlock(&s->lock);
	load_drop(ld);
	if (!began)
		iostats_inflight(io, clock_ns() - w.since_ns);
	AZ(pthread_cond_destroy(&w.wake));
	if (w.status != 0 || w.ref.hold_ != (void *)pin)
		lane_unpin(pin);
	if (w.status == 0)
		*ref = w.ref;
	ocache__idle(c);
	return w.status;
}

/* ---- asking for many ---- */

static void waiter_fire(struct timer *timer)
{
	struct waiter *w = container_of(timer, struct waiter, timer);
	struct load *ld = w->load;
	struct shard *s = ld->shard;
	bool mine;

	pthread_mutex_lock(&s->lock);
	mine = !w->ready;
	if (mine) {
		waiter_leave(ld, w);
		w->ready = true;
		w->status = -ETIMEDOUT;
		s->timeouts++;
	}
	pthread_mutex_unlock(&s->lock);
	if (mine) {
		waiter_call(w);
		waiter_unhold(w); /* the list's */
	}
	load_drop(ld);
	waiter_drop(w);
}

/* One want. done NULL: nobody waits. w: a waiter, which is used up, or NULL with done. */
static void submit(struct ocache *c, const struct ocache_want *want, int64_t deadline_ns,
		   struct iostats *io, struct waiter *w)
{
	uint64_t hash = table_hash(c->seed, want->id);
	struct shard *s = ocache__shard(c, hash);
	bool asked = w != NULL, began = false, hit,
	     none = c->tiers == 0 || want->hint.flags & OCACHE_CACHED_ONLY;
	int64_t until = want->hint.deadline_ns != 0 ? want->hint.deadline_ns : deadline_ns;
	struct entry *e;
	struct load *ld = NULL;

	pthread_mutex_lock(&s->lock);
	e = table_find(&s->table, hash, want->id);
	hit = e != NULL;
	if (hit && w != NULL)
		policy_use(e);
	if (!hit && !s->closing && !none) {
		ld = *load_place(s, hash, want->id);
		if (ld == NULL) {
			ld = load_new(c, s, want->id, hash, &want->hint, io);
			began = ld != NULL;
		}
	}
	/* who only prefetches is charged for what he has loaded */
	if ((asked || began) && ocache__followed(c, hash))
		curve_access(c->curve, ocache__place(hash));
	if (asked || began)
		iostats_access(io, (enum iostats_sort)want->hint.sort, want->hint.is_dir, !hit);
	if (w != NULL && ld == NULL) {
		waiter_answer(w,
			      hit          ? 0
			      : s->closing ? -ECANCELED
			      : none       ? -ENOENT
					   : -ENOMEM,
			      e, NULL);
	} else if (w != NULL) {
		w->joined = !began;
		s->joined += !began;
		w->since_ns = clock_ns();
		w->load = ld;
		w->next = ld->waiters;
		ld->waiters = w;
		if (until != 0) {
			atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
			load_hold(ld);
			w->timer.fire = waiter_fire;
			if (timer_arm(c->timers, &w->timer, until) != 0) {
				/*
				 * without memory for its deadline it waits as long as the load does
				 */
				waiter_unhold(w);
				load_unhold(ld);
			}
		}
		w = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	if (asked || began)
		ocache__count(c->number, hit);
	if (w != NULL) {
		waiter_call(w);
		waiter_drop(w);
	}
	if (began) {
		load_go_on(ld);
		load_drop(ld);
	}
}

int ocache_submit(struct ocache *c, const struct ocache_want *wants, unsigned n,
		  int64_t deadline_ns, struct iostats *io, ocache_done_fn *done, void *user)
{
	struct waiter *all = NULL, *w;

	MAGIC_OK(c, OCACHE_MAGIC);
	for (unsigned i = n; i-- > 0;) {
		w = calloc(1, sizeof *w);
		if (w == NULL) {
			while ((w = all) != NULL) {
				all = w->next;
				free(w);
			}
			return -ENOMEM;
		}
		w->next = all;
		all = w;
	}
	ocache__busy(c);
	for (unsigned i = 0; i < n; i++) {
		w = all;
		all = w->next;
		w->next = NULL;
		w->done = done;
		w->user = user;
		w->index = i;
		w->io = iostats_hold(io);
		atomic_init(&w->refs, 1);
		submit(c, &wants[i], deadline_ns, io, w);
	}
	ocache__idle(c);
	return 0;
}

int ocache_prefetch(struct ocache *c, const struct ocache_want *wants, unsigned n,
		    struct iostats *io)
{
	MAGIC_OK(c, OCACHE_MAGIC);
	ocache__busy(c);
	for (unsigned i = 0; i < n; i++)
		submit(c, &wants[i], 0, io, NULL);
	ocache__idle(c);
	return 0;
}
