/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tier for tests that does as it is told: answers at once, after a while, never, wrongly. What it
 * holds are envelopes of segments of ocache_rig.h. Its settings may be changed at any time.
 */
#ifndef TESTS_UNIT_OCACHE_TIER_H
#define TESTS_UNIT_OCACHE_TIER_H

#include <pthread.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/envelope.h"
#include "ocache/load.h"
#include "tests/unit/ocache_rig.h"

#define FAKE_KEYS 4096u
#define FAKE_OUT  4096u

/* FAKE_UNSUMMED: all is right but the sum itself */
enum fake_has { FAKE_NONE, FAKE_GOOD, FAKE_DAMAGED, FAKE_UNDECODABLE, FAKE_FOREIGN, FAKE_UNSUMMED };

struct fake {
	struct tier tier;
	struct tier_ops ops;
	pthread_mutex_t lock;
	pthread_cond_t more;
	pthread_t thread;
	/* settings: */
	bool hold;     /* reads are kept until fake_let_go() */
	bool stubborn; /* and are not given back when they are cancelled */
	bool hold_writes;
	int fail;          /* status of reads */
	unsigned fail_few; /* so many of them; 0: all */
	uint64_t delay_ns; /* each answer comes so late, from a thread of the tier's */
	uint64_t spin_ns;  /* the same on the caller's thread, to the microsecond */
	bool compress;
	uint8_t has[FAKE_KEYS];
	int64_t write_deadline_ns; /* the last write's */
	/* counts: */
	unsigned reads, writes, drops, cancels;
	uint64_t took_ns; /* reads that it answered late, from being asked to answering */
	/* what is out: */
	struct seg_read *held[FAKE_OUT], *late[FAKE_OUT];
	uint64_t asked_ns[FAKE_OUT], due_ns[FAKE_OUT]; /* of the late ones */
	struct seg_write *write[FAKE_OUT];
	unsigned held_n, late_n, write_n;
	bool over;
	bool *closed;
};

static inline struct fake *fake_of(struct tier *t)
{
	return container_of(t, struct fake, tier);
}

static inline uint64_t key_of_id(struct seg_id id)
{
	return id.lo & (FAKE_KEYS - 1);
}

static inline struct seg_buf *fake_bytes(struct seg_id id, enum fake_has has, bool compress)
{
	struct segment s = {.id = id, .size = 100 + key_of_id(id) % 50 * 100};
	enum envelope_codec codec = compress ? ENVELOPE_ZSTD : ENVELOPE_NONE;
	struct seg_buf *b = seg_buf_new(envelope_room(codec, sizeof s));
	uint8_t key[16];
	size_t n;

	AN(b);
	if (has == FAKE_UNDECODABLE)
		s.id.lo++;
	if (has == FAKE_FOREIGN)
		id.hi++;
	ocache__key_bytes(id, key);
	n = envelope_seal(seg_buf_data(b), key, codec, &s, sizeof s);
	AN(n);
	seg_buf_cut(b, n);
	if (has == FAKE_DAMAGED)
		((char *)seg_buf_data(b))[n / 2] ^= 1;
	if (has == FAKE_UNSUMMED)
		((char *)seg_buf_data(b))[ENVELOPE_HEAD - 1] ^= 1;
	return b;
}

/* Under the lock: what this read is told. */
static inline void fake_fill_in(struct fake *f, struct seg_read *r)
{
	enum fake_has has = f->has[key_of_id(r->id)];

	r->status = has == FAKE_NONE ? -ENOENT : 0;
	if (f->fail != 0) {
		r->status = f->fail;
		if (f->fail_few > 0 && --f->fail_few == 0)
			f->fail = 0;
	}
	if (r->status == 0)
		r->bytes = fake_bytes(r->id, has, f->compress);
}

static inline void fake_read(struct tier *t, struct seg_read *const *reads, unsigned n)
{
	struct fake *f = fake_of(t);

	for (unsigned i = 0; i < n; i++) {
		struct seg_read *r = reads[i];
		uint64_t asked = clock_ns(), until;
		bool now = false;

		pthread_mutex_lock(&f->lock);
		f->reads++;
		until = asked + f->spin_ns;
		if (f->hold) {
			A(f->held_n < FAKE_OUT);
			f->held[f->held_n++] = r;
		} else if (f->delay_ns != 0) {
			A(f->late_n < FAKE_OUT);
			f->asked_ns[f->late_n] = asked;
			f->due_ns[f->late_n] = asked + f->delay_ns;
			f->late[f->late_n++] = r;
			pthread_cond_signal(&f->more);
		} else {
			fake_fill_in(f, r);
			now = true;
		}
		pthread_mutex_unlock(&f->lock);
		while (now && clock_ns() < until)
			;
		if (now && until > asked) {
			pthread_mutex_lock(&f->lock);
			f->took_ns += clock_ns() - asked;
			pthread_mutex_unlock(&f->lock);
		}
		if (now)
			r->done(r);
	}
}

static inline void fake_cancel(struct tier *t, struct seg_read *r)
{
	struct fake *f = fake_of(t);
	bool mine = false;

	pthread_mutex_lock(&f->lock);
	f->cancels++;
	for (unsigned i = 0; !f->stubborn && i < f->held_n && !mine; i++) {
		mine = f->held[i] == r;
		if (mine)
			f->held[i] = f->held[--f->held_n];
	}
	pthread_mutex_unlock(&f->lock);
	if (mine) {
		r->status = -ECANCELED;
		r->done(r);
	}
}

/* Answers the reads and writes that were kept; their number. */
static inline unsigned fake_let_go(struct fake *f)
{
	unsigned n = 0;

	for (;; n++) {
		struct seg_read *r = NULL;
		struct seg_write *w = NULL;

		pthread_mutex_lock(&f->lock);
		if (f->held_n > 0) {
			r = f->held[--f->held_n];
			fake_fill_in(f, r);
		} else if (f->write_n > 0) {
			w = f->write[--f->write_n];
		}
		pthread_mutex_unlock(&f->lock);
		if (r != NULL)
			r->done(r);
		else if (w != NULL)
			w->done(w);
		else
			return n;
	}
}

static inline void fake_write(struct tier *t, struct seg_write *const *writes, unsigned n)
{
	struct fake *f = fake_of(t);

	for (unsigned i = 0; i < n; i++) {
		struct seg_write *w = writes[i];
		bool keep;

		pthread_mutex_lock(&f->lock);
		f->writes++;
		f->write_deadline_ns = w->deadline_ns;
		w->status = f->fail;
		if (f->fail == 0)
			f->has[key_of_id(w->id)] = FAKE_GOOD;
		keep = f->hold_writes;
		if (keep)
			f->write[f->write_n++] = w;
		pthread_mutex_unlock(&f->lock);
		if (!keep)
			w->done(w);
	}
}

static inline void fake_drop(struct tier *t, struct seg_id id)
{
	struct fake *f = fake_of(t);

	pthread_mutex_lock(&f->lock);
	f->drops++;
	f->has[key_of_id(id)] = FAKE_NONE;
	pthread_mutex_unlock(&f->lock);
}

/* Answers late, to the microsecond where the machine lets it. */
static inline void *fake_run(void *arg)
{
	struct fake *f = arg;

	pthread_mutex_lock(&f->lock);
	while (!f->over || f->late_n > 0) {
		struct seg_read *r = NULL;
		uint64_t now = clock_ns();

		for (unsigned i = 0; i < f->late_n && r == NULL; i++) {
			if (f->due_ns[i] > now)
				continue;
			r = f->late[i];
			fake_fill_in(f, r);
			f->took_ns += clock_ns() - f->asked_ns[i];
			f->late[i] = f->late[--f->late_n];
			f->asked_ns[i] = f->asked_ns[f->late_n];
			f->due_ns[i] = f->due_ns[f->late_n];
		}
		if (r != NULL) {
			pthread_mutex_unlock(&f->lock);
			r->done(r);
			pthread_mutex_lock(&f->lock);
		} else if (f->late_n == 0) {
			pthread_cond_wait(&f->more, &f->lock);
		} else {
			struct timespec nap = {0, 20000};

			pthread_mutex_unlock(&f->lock);
			nanosleep(&nap, NULL);
			pthread_mutex_lock(&f->lock);
		}
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

static inline void fake_close(struct tier *t)
{
	struct fake *f = fake_of(t);

	pthread_mutex_lock(&f->lock);
	f->over = true;
	pthread_cond_signal(&f->more);
	pthread_mutex_unlock(&f->lock);
	AZ(pthread_join(f->thread, NULL));
	A(f->held_n == 0 && f->write_n == 0 && f->late_n == 0);
	AZ(pthread_cond_destroy(&f->more));
	AZ(pthread_mutex_destroy(&f->lock));
	if (f->closed != NULL)
		*f->closed = true;
	free(f);
}

static inline struct fake *fake_new(const char *key, uint32_t caps)
{
	struct fake *f = calloc(1, sizeof *f);

	assert_non_null(f);
	f->ops = (struct tier_ops){.abi = TIER_ABI,
				   .caps = caps,
				   .key = key,
				   .read = fake_read,
				   .cancel = fake_cancel,
				   .close = fake_close,
				   .write = fake_write,
				   .drop = fake_drop};
	f->tier.ops = &f->ops;
	AZ(pthread_mutex_init(&f->lock, NULL));
	AZ(pthread_cond_init(&f->more, NULL));
	AZ(pthread_create(&f->thread, NULL, fake_run, f));
	return f;
}

static inline void fake_set(struct fake *f, uint64_t from, uint64_t to, enum fake_has has)
{
	pthread_mutex_lock(&f->lock);
	for (uint64_t key = from; key < to; key++)
		f->has[key] = (uint8_t)has;
	pthread_mutex_unlock(&f->lock);
}

/* A count or setting of the tier's, under its lock. */
#define FAKE_GET(f, field)                                                                         \
	({                                                                                         \
		pthread_mutex_lock(&(f)->lock);                                                    \
		__typeof__((f)->field) v_ = (f)->field;                                            \
		pthread_mutex_unlock(&(f)->lock);                                                  \
		v_;                                                                                \
	})
#define FAKE_SET(f, field, value)                                                                  \
	do {                                                                                       \
		pthread_mutex_lock(&(f)->lock);                                                    \
		(f)->field = (value);                                                              \
		pthread_mutex_unlock(&(f)->lock);                                                  \
	} while (0)

/* Waits until it is so; fails after 20 s. */
#define WAIT_FOR(what)                                                                             \
	do {                                                                                       \
		uint64_t limit_ = clock_ns() + 20 * NS_PER_S;                                      \
		struct timespec nap_ = {0, 200000};                                                \
		while (!(what)) {                                                                  \
			if (clock_ns() > limit_)                                                   \
				fail_msg("not within 20 s: %s", #what);                            \
			nanosleep(&nap_, NULL);                                                    \
		}                                                                                  \
	} while (0)

static inline struct ocache *chain_of(uint64_t budget, const struct ocache_tier *tiers, unsigned n)
{
	struct ocache_config cfg = {.struct_size = sizeof cfg,
				    .budget = budget,
				    .tiers = tiers,
				    .tiers_count = n,
				    .decoder = &object_decoder};
	struct ocache *c = NULL;
	char *cause = NULL;

	if (ocache_open(&cfg, &c, &cause) != 0)
		fail_msg("%s", cause);
	return c;
}

static inline int get(struct ocache *c, uint64_t key, const struct ocache_hint *hint,
		      struct iostats *io)
{
	struct ocache_ref ref;
	int err = ocache_get(c, id_of(key), hint, io, &ref);

	if (err == 0) {
		object_check(&ref, id_of(key));
		ocache_release(&ref);
	}
	return err;
}

static inline struct ocache_tier_stats tier_of(struct ocache *c, unsigned tier)
{
	struct ocache_tier_stats st;

	assert_int_equal(ocache_tier_stats(c, tier, &st, sizeof st), 0);
	return st;
}

#endif
