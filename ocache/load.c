/* SPDX-License-Identifier: Apache-2.0 */
/* Loads and those who wait for them; see load.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/envelope.h"
#include "ocache/iostats_int.h"
#include "ocache/load.h"
#include "ocache/thread.h"

enum load_state { LOAD_TIERS, LOAD_OPENING, LOAD_DECODING, LOAD_DONE };

/* A read that is out. One reference is the tier's, another that of who cancels it. */
struct attempt {
	struct seg_read read;
	struct load *load;
	struct chain_tier *tier;
	uint64_t begun_ns;
	_Atomic uint32_t refs;
};

struct waiter {
	struct waiter *next;
	bool ready;
	int status;
	struct ocache_ref ref;
	bool joined;
	uint64_t since_ns;
	/* who waits in ocache_get(): */
	_Atomic(void *) *pin; /* NULL: the others */
	pthread_cond_t wake;
	/* ocache_submit(): */
	struct load *load;
	struct timer timer;
	ocache_done_fn *done;
	void *user;
	unsigned index;
	struct iostats *io;
	_Atomic uint32_t refs; /* the load's list, the timer */
};

struct load {
	struct load *chain; /* in the shard's list */
	struct ocache *cache;
	struct shard *shard;
	struct seg_id id;
	uint64_t hash;
	_Atomic uint32_t refs;
	const struct ocache_decoder *decoder;
	uint16_t flags;
	struct iostats *io; /* of who began it */
	enum load_state state;
	struct waiter *waiters;
	/* where in the chain */
	unsigned tier, tries;
	int64_t tier_until_ns;
	struct attempt *active;
	bool pausing;
	bool again;    /* [LD-7] */
	uint32_t fill; /* tiers that would like to have it: they had none, or a damaged one */
	uint32_t damaged;
	uint32_t
	    undecoded; /* whole, but this decoder did not take it; dropped when a better one is in hand */
	int failure; /* the last; 0: nobody failed */
	struct trail trail;
	/* OPENING, DECODING */
	struct seg_buf *bytes;
	unsigned from;
	bool pushed;
	struct job job;
	struct timer timer;
	int64_t due_ns;
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

static struct load **load_place(struct shard *s, uint64_t hash, struct seg_id id)
{
	struct load **at = &s->loads[hash >> 32 & (SHARD_LOADS - 1)];

	while (*at != NULL && ((*at)->id.hi != id.hi || (*at)->id.lo != id.lo))
		at = &(*at)->chain;
	return at;
}

static void load_hold(struct load *ld)
{
	atomic_fetch_add_explicit(&ld->refs, 1, memory_order_relaxed);
}

static void load_drop(struct load *ld)
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

/* The same where somebody else is known to have one: it is not the last. */
static void load_unhold(struct load *ld)
{
	A(atomic_fetch_sub_explicit(&ld->refs, 1, memory_order_release) > 1);
}

static void load_fire(struct timer *t);
static void load_run(struct job *job);

/*
 * Under the lock; there is none. With a reference for the list and one for who begins it; NULL: no
 * memory.
 */
static struct load *load_new(struct ocache *c, struct shard *s, struct seg_id id, uint64_t hash,
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

static void waiter_drop(struct waiter *w)
{
	if (atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) != 1)
		return;
	iostats_drop(w->io);
	free(w);
}

static void waiter_unhold(struct waiter *w)
{
	A(atomic_fetch_sub_explicit(&w->refs, 1, memory_order_release) > 1);
}

/* Under the lock: what a waiter gets. e, or box, or a status. */
static void waiter_answer(struct waiter *w, int status, struct entry *e, struct box *box)
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

static void waiter_call(struct waiter *w)
{
	if (w->joined)
		iostats_inflight(w->io, clock_ns() - w->since_ns);
	w->done(w->user, w->index, w->status, &w->ref);
}

/*
 * With the lock, which it gives back: the load is DONE. Takes the list's reference; the caller has
 * another.
 */
static void load_end(struct load *ld, int status, struct entry *e, struct box *box)
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

static void next_tier(struct load *ld)
{
	ld->tier++;
	ld->tries = 0;
}

/* Under the lock: nobody had it. True: it was written meanwhile, load_step() is due [LD-7]. */
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

/*
 * Without the lock: sends the next read, or ends the load. Called by who has taken the last read's
 * answer, so never by two at a time. The caller holds a reference.
 */
static void load_step(struct load *ld)
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
			next_tier(ld);
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
 * together.
 */
static int64_t pause_ns(const struct load *ld, const struct chain_tier *t, uint64_t now)
{
	uint64_t base = t->deadline_ns / 20 * ld->tries;

	return (int64_t)(base + (base * ((now ^ ld->hash) * 0x9e3779b97f4a7c15ull >> 54) >> 10));
}

/* Under the lock: a read has failed. True: load_step() is due; else it will be tried again. */
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
	next_tier(ld);
	return true;
}

/* A storage of record keeps what it has: it may be all that there is, and a person can look at it. */
static void drop_from(const struct load *ld, unsigned tier)
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
	int status = r->status == 0 && bytes == NULL ? -EBADMSG : r->status;
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
		next_tier(ld);
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
		drop_from(ld, (unsigned)(t - ld->cache->tier));
	}
	attempt_drop(a);
	if (step)
		load_step(ld);
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
			next_tier(ld);
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
		load_step(ld);
	load_drop(ld);
}

/* ---- opening ---- */

void ocache__key_bytes(struct seg_id id, uint8_t key[16])
{
	for (unsigned i = 0; i < 8; i++) {
		key[i] = (uint8_t)(id.hi >> (56 - 8 * i));
		key[8 + i] = (uint8_t)(id.lo >> (56 - 8 * i));
	}
}

/* *whole: it is what was written, whatever the decoder says. */
static int decode(const struct load *ld, void **object, size_t *size, bool *whole)
{
	struct envelope env;
	uint8_t key[16];
	void *raw;
	int err;

	ocache__key_bytes(ld->id, key);
	err = envelope_open(seg_buf_data(ld->bytes), seg_buf_len(ld->bytes), key, &env);
	if (err != 0)
		return err;
	if (env.codec == ENVELOPE_NONE) {
		*whole = true;
		return ld->decoder->decode(ld->decoder->ctx, ld->id, env.stored, env.raw_len,
					   object, size);
	}
	raw = malloc(env.raw_len > 0 ? env.raw_len : 1);
	if (raw == NULL)
		return -ENOMEM;
	err = envelope_unpack(&env, raw);
	*whole = err == 0;
	if (err == 0)
		err = ld->decoder->decode(ld->decoder->ctx, ld->id, raw, env.raw_len, object, size);
	free(raw);
	return err;
}

/* The object is made: into the cache and to all who wait. */
static void load_publish(struct load *ld, void *object, size_t size)
{
	const struct ocache_decoder *decoder = ld->decoder;
	struct entry *e;
	struct grave g;
	struct shard *s = ld->shard;
	struct box *box = NULL;
	bool ours = true;

	policy_prefetch_insert(&s->policy, ld->hash);
	grave_open(&g);
	pthread_mutex_lock(&s->lock);
	e = table_find(&s->table, ld->hash, ld->id);
	if (e != NULL)
		ours = false; /* ocache_add() was quicker */
	else
		e = shard_insert(s, ld->id, decoder, object, size, &g);
	if (ours && ocache__followed(ld->cache, ld->hash))
		curve_add(ld->cache->curve, ocache__place(ld->hash), size);
	if (e == NULL)
		box = ocache__box(ld->cache, decoder, object, size);
	load_end(ld, e == NULL && box == NULL ? -ENOMEM : 0, e, box);
	shard_bury(s, &g);
	if (box != NULL)
		ocache__box_drop(box);
	else if (e == NULL || !ours)
		decoder->destroy(decoder->ctx, object);
}

static void load_fills(const struct load *ld)
{
	struct ocache *c = ld->cache;

	for (unsigned i = 0; i < ld->from; i++) {
		bool damaged = (ld->damaged >> i & 1) != 0;

		if ((ld->fill >> i & 1) == 0 || !c->tier[i].fill)
			continue;
		if (!damaged && (ld->flags & OCACHE_NO_FILL) != 0)
			continue;
		if ((ld->undecoded >> i & 1) != 0)
			drop_from(ld, i);
		if (ocache__fill(c, i, ld->id, ld->bytes) && damaged)
			atomic_fetch_add_explicit(&c->repairs, 1, memory_order_relaxed);
	}
}

/* By the thread that made it DECODING, without the lock. The caller holds a reference. */
static void load_decode(struct load *ld)
{
	uint64_t begun = clock_ns();
	void *object = NULL;
	size_t size = 0;
	bool whole = false;
	int err = decode(ld, &object, &size, &whole);
	uint64_t ns = clock_ns() - begun;

	ld->trail.decode_ns += ns;
	if (err == 0) {
		iostats_deserialize(ld->io, 1, ns);
		load_fills(ld);
		load_publish(ld, object, size);
		return;
	}
	if (err == -ENOMEM) {
		pthread_mutex_lock(&ld->shard->lock);
		load_end(ld, -ENOMEM, NULL, NULL);
		return;
	}
	chain_damaged(&ld->cache->tier[ld->from]);
	if (!whole)
		drop_from(ld, ld->from);
	pthread_mutex_lock(&ld->shard->lock);
	ld->trail.tier[ld->from].status = -EBADMSG;
	seg_buf_drop(ld->bytes);
	ld->bytes = NULL;
	ld->fill |= 1u << ld->from;
	ld->damaged |= 1u << ld->from;
	ld->undecoded |= (uint32_t)whole << ld->from;
	ld->failure = -EBADMSG;
	next_tier(ld);
	ld->state = LOAD_TIERS;
	pthread_mutex_unlock(&ld->shard->lock);
	load_step(ld);
}

static void load_run(struct job *job)
{
	struct load *ld = container_of(job, struct load, job);
	bool mine;

	pthread_mutex_lock(&ld->shard->lock);
	ld->pushed = false;
	mine = ld->state == LOAD_OPENING; /* [LD-6] */
	if (mine)
		ld->state = LOAD_DECODING;
	pthread_mutex_unlock(&ld->shard->lock);
	if (mine)
		load_decode(ld);
	load_drop(ld);
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
		load_step(ld);
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
		load_step(ld);
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
