/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Histories of a cache that several threads use at once, for tests/linear/check.
 *
 *   record exact|evict SEED THREADS ROUNDS CALLS
 *
 * exact: the budget is never full, so an object is there until it is forgotten. evict: it is, by those of a
 * round alone and by others of keys that are not recorded, and it is resized. Behind the cache are a tier in memory and a storage of
 * record, which answers at once or after a while, and of both reads and writes some fail. In each round
 * the threads make CALLS calls each on the same few new keys.
 *
 * A line of stdout is a call: what, thread, key, in, out, status, when it began, when it ended
 * (CLOCK_MONOTONIC, ns). Every object has a number of its own, which grows within a key: even if it was
 * decoded, odd if it was added. in: of add the number of the object that is added, of release that of
 * the object that was got. out: the number of the object that a reference leads to. The first line is the
 * mode. Exit status 1: the run was not what it should be, see stderr.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "ocache/ocache.h"

#define MIB          (1ull << 20)
#define THREADS_MAX  16u
#define HELD_MAX     4u
#define FILLERS      1024u
#define FILLER_BYTES 4096u
#define EVICTED      1000ull /* at least, in all */

enum what { GET, SUBMIT, CACHED, ADD, FORGET, PUT, RELEASE };
static const char *const names[] = {"get", "get", "cached", "add", "forget", "put", "release"};

struct call {
	enum what what;
	unsigned thread, key;
	uint64_t in, out;
	int status;
	uint64_t begun_ns, ended_ns;
};

struct object {
	_Atomic uint64_t number; /* 0: destroyed */
};

static struct ocache *cache;
static bool evict;
static unsigned keys = 3; /* of a round */
static unsigned held_max = HELD_MAX;
static size_t object_size = 200; /* as the cache is told */
static unsigned threads, rounds, calls_each;
static uint64_t seed;
static _Atomic uint64_t *numbers; /* by key */
static pthread_barrier_t barrier;
static _Atomic bool over;

static uint64_t next_random(uint64_t *x)
{
	*x = *x * 6364136223846793005ull + 1442695040888963407ull;
	return *x >> 33;
}

static struct seg_id id_of(uint64_t key)
{
	return (struct seg_id){(key + 1) * 0x9e3779b97f4a7c15ull, key};
}

/* ---- objects ---- */

static struct object *object_new(uint64_t key, bool added)
{
	struct object *o = malloc(sizeof *o);

	AN(o);
	atomic_init(&o->number, 2 * (atomic_fetch_add(&numbers[key], 1) + 1) + added);
	return o;
}

static int decode(void *ctx, struct seg_id id, const void *bytes, size_t len, void **object,
		  size_t *size)
{
	(void)ctx;
	if (len != sizeof id || memcmp(bytes, &id, len) != 0)
		return -EBADMSG;
	*object = object_new(id.lo, false);
	*size = object_size;
	return 0;
}

static void destroy(void *ctx, void *object)
{
	struct object *o = object;

	(void)ctx;
	atomic_store(&o->number, 0);
	free(o);
}

static const struct ocache_decoder decoder = {NULL, decode, destroy};

static uint64_t number_of(const struct ocache_ref *ref)
{
	return atomic_load(&((const struct object *)ref->object)->number);
}

/* ---- the storage of record ---- */

struct record {
	struct tier tier;
	pthread_mutex_t lock;
	pthread_cond_t more;
	pthread_t thread;
	/* under lock: */
	uint64_t random;
	struct seg_buf **has; /* by key */
	struct seg_read *late[4 * THREADS_MAX];
	unsigned late_n;
	bool over;
};

static struct record *record_of(struct tier *t)
{
	return container_of(t, struct record, tier);
}

/* What it has now is the answer, also of one that is given later. */
static void record_read(struct tier *t, struct seg_read *const *reads, unsigned n)
{
	struct record *r = record_of(t);

	for (unsigned i = 0; i < n; i++) {
		struct seg_buf *b;
		bool now;

		pthread_mutex_lock(&r->lock);
		b = r->has[reads[i]->id.lo];
		reads[i]->bytes = b != NULL ? seg_buf_hold(b) : NULL;
		reads[i]->status = b != NULL ? 0 : -ENOENT;
		if (next_random(&r->random) % 16 == 0) {
			seg_buf_drop(reads[i]->bytes);
			reads[i]->bytes = NULL;
			reads[i]->status = -EIO;
		}
		now = next_random(&r->random) % 2 == 0 ||
		      r->late_n == sizeof r->late / sizeof r->late[0];
		if (!now) {
			r->late[r->late_n++] = reads[i];
			pthread_cond_signal(&r->more);
		}
		pthread_mutex_unlock(&r->lock);
		if (now)
			reads[i]->done(reads[i]);
	}
}

static void record_cancel(struct tier *t, struct seg_read *read)
{
	(void)t;
	(void)read; /* it is answered soon */
}

/* A write that fails may have been done or not. */
static void record_write(struct tier *t, struct seg_write *const *writes, unsigned n)
{
	struct record *r = record_of(t);

	for (unsigned i = 0; i < n; i++) {
		struct seg_buf **has;

		pthread_mutex_lock(&r->lock);
		has = &r->has[writes[i]->id.lo];
		writes[i]->status = next_random(&r->random) % 4 == 0 ? -EIO : 0;
		if (*has == NULL && (writes[i]->status == 0 || next_random(&r->random) % 2 == 0))
			*has = seg_buf_hold(writes[i]->bytes);
		pthread_mutex_unlock(&r->lock);
		writes[i]->done(writes[i]);
	}
}

static void *record_run(void *arg)
{
	struct record *r = arg;

	pthread_mutex_lock(&r->lock);
	while (!r->over || r->late_n > 0) {
		struct timespec nap = {0, (long)(next_random(&r->random) % 100000)};
		struct seg_read *read;

		if (r->late_n == 0) {
			pthread_cond_wait(&r->more, &r->lock);
			continue;
		}
		pthread_mutex_unlock(&r->lock);
		nanosleep(&nap, NULL);
		pthread_mutex_lock(&r->lock);
		read = r->late[next_random(&r->random) % r->late_n];
		for (unsigned i = 0; i < r->late_n; i++)
			if (r->late[i] == read)
				r->late[i] = r->late[--r->late_n];
		pthread_mutex_unlock(&r->lock);
		read->done(read);
		pthread_mutex_lock(&r->lock);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

static void record_close(struct tier *t)
{
	struct record *r = record_of(t);

	pthread_mutex_lock(&r->lock);
	r->over = true;
	pthread_cond_signal(&r->more);
	pthread_mutex_unlock(&r->lock);
	AZ(pthread_join(r->thread, NULL));
	for (unsigned i = 0; i < rounds * keys; i++)
		seg_buf_drop(r->has[i]);
	free(r->has);
	AZ(pthread_cond_destroy(&r->more));
	AZ(pthread_mutex_destroy(&r->lock));
	free(r);
}

static struct tier *record_open(void)
{
	static const struct tier_ops ops = {.abi = TIER_ABI,
					    .caps = TIER_RECORD,
					    .key = "record",
					    .read = record_read,
					    .cancel = record_cancel,
					    .close = record_close,
					    .write = record_write};
	struct record *r = calloc(1, sizeof *r);

	AN(r);
	r->tier.ops = &ops;
	r->random = seed + 1000;
	r->has = calloc((size_t)rounds * keys, sizeof(void *));
	AN(r->has);
	AZ(pthread_mutex_init(&r->lock, NULL));
	AZ(pthread_cond_init(&r->more, NULL));
	AZ(pthread_create(&r->thread, NULL, record_run, r));
	return &r->tier;
}

/* ---- the threads ---- */

struct worker {
	pthread_t thread;
	unsigned number;
	uint64_t random;
	struct call *call; /* rounds * (2 * calls_each + HELD_MAX) */
	size_t calls;
	struct ocache_ref held[HELD_MAX];
	struct call *got[HELD_MAX];
	_Atomic unsigned submitted; /* and not yet answered */
};

static struct call *begin(struct worker *w, enum what what, unsigned key, uint64_t in)
{
	struct call *k = &w->call[w->calls++];

	*k = (struct call){
	    .what = what, .thread = w->number, .key = key, .in = in, .begun_ns = clock_ns()};
	return k;
}

static void end(struct call *k, int status, const struct ocache_ref *ref)
{
	k->ended_ns = clock_ns();
	k->status = status;
	if (ref != NULL && ref->object != NULL)
		k->out = number_of(ref);
}

static void let_go(struct worker *w, unsigned slot)
{
	struct call *k;

	if (w->held[slot].object == NULL)
		return;
	k = begin(w, RELEASE, w->got[slot]->key, w->got[slot]->out);
	k->out = number_of(&w->held[slot]); /* the reference has kept it */
	ocache_release(&w->held[slot]);
	end(k, 0, NULL);
}

struct submitted {
	struct worker *worker;
	struct call *call;
};

static void on_answer(void *user, unsigned index, int status, struct ocache_ref *ref)
{
	struct submitted *s = user;

	(void)index;
	end(s->call, status, status == 0 ? ref : NULL);
	ocache_release(ref);
	atomic_fetch_sub(&s->worker->submitted, 1);
	free(s);
}

static void one_call(struct worker *w, unsigned key, unsigned dice, unsigned slot)
{
	struct ocache_hint cached = {.flags = OCACHE_CACHED_ONLY};
	struct ocache_want want = {.id = id_of(key)};
	struct ocache_ref *ref = &w->held[slot];
	struct seg_id id = id_of(key);
	struct submitted *s;
	struct object *o;
	struct call *k;

	if (dice < 55 && dice >= 5) {
		if (dice < 35)
			k = begin(w, GET, key, 0);
		else
			k = begin(w, CACHED, key, 0);
		end(k, ocache_get(cache, id, dice < 35 ? NULL : &cached, NULL, ref), ref);
		w->got[slot] = k;
	} else if (dice < 5) {
		s = malloc(sizeof *s);
		AN(s);
		atomic_fetch_add(&w->submitted, 1);
		*s = (struct submitted){w, begin(w, SUBMIT, key, 0)};
		AZ(ocache_submit(cache, &want, 1, 0, NULL, on_answer, s));
	} else if (dice < 70) {
		o = object_new(key, true);
		k = begin(w, ADD, key, atomic_load(&o->number));
		end(k, ocache_add(cache, id, &decoder, o, object_size, ref), ref);
		w->got[slot] = k;
	} else if (dice < 92) {
		k = begin(w, FORGET, key, 0);
		end(k, ocache_forget(cache, id), NULL);
	} else {
		k = begin(w, PUT, key, 0);
		end(k, ocache_put(cache, id, &id, sizeof id, 0), NULL);
	}
}

/* Until the pusher has had its turn: on a busy machine the calls may be over before. */
static void wait_for_evictions(uint64_t least)
{
	const struct timespec nap = {.tv_nsec = 1000000};
	uint64_t until = clock_ns() + 30 * NS_PER_S;
	struct ocache_stats st;

	do {
		ocache_stats(cache, &st, sizeof st);
		if (st.evicted >= least)
			return;
		nanosleep(&nap, NULL);
	} while (clock_ns() < until);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (unsigned round = 0; round < rounds; round++) {
		if (evict && w->number == 0 && round > 0)
			wait_for_evictions(EVICTED * round / (rounds - 1));
		(void)pthread_barrier_wait(&barrier);
		for (unsigned i = 0; i < calls_each; i++) {
			uint64_t r = next_random(&w->random);
			unsigned slot = (unsigned)(r >> 20) % held_max;

			let_go(w, slot);
			one_call(w, round * keys + (unsigned)(r >> 8) % keys, (unsigned)(r % 100),
				 slot);
		}
		for (unsigned slot = 0; slot < held_max; slot++)
			let_go(w, slot);
	}
	while (atomic_load(&w->submitted) > 0)
		sched_yield();
	return NULL;
}

/* Pushes out what is not used. */
static void *push(void *arg)
{
	struct seg_id id = {.hi = 1};
	uint64_t x = seed;

	(void)arg;
	while (!atomic_load(&over)) {
		struct ocache_bytes *b = malloc(FILLER_BYTES);

		AN(b);
		*b = (struct ocache_bytes){0, NULL};
		id.lo = 1ull << 32 | next_random(&x) % FILLERS;
		(void)ocache_add(cache, id, ocache_bytes_decoder(), b, FILLER_BYTES, NULL);
		if (next_random(&x) % 64 == 0)
			AZ(ocache_resize(cache, MIB + next_random(&x) % 4 * MIB / 4));
		if (next_random(&x) % 8 == 0)
			sched_yield();
	}
	return NULL;
}

static int by_begin(const void *a, const void *b)
{
	const struct call *x = a, *y = b;

	return x->begun_ns < y->begun_ns ? -1 : x->begun_ns > y->begun_ns;
}

static void print_all(const struct worker *w)
{
	struct call *all = NULL;
	size_t n = 0, room = 0;

	for (unsigned i = 0; i < threads; i++)
		room += w[i].calls;
	all = malloc(room * sizeof *all);
	AN(all);
	for (unsigned i = 0; i < threads; i++) {
		memcpy(all + n, w[i].call, w[i].calls * sizeof *all);
		n += w[i].calls;
	}
	qsort(all, n, sizeof *all, by_begin);
	for (size_t i = 0; i < n; i++)
		printf("%s %u %u %" PRIu64 " %" PRIu64 " %d %" PRIu64 " %" PRIu64 "\n",
		       names[all[i].what], all[i].thread, all[i].key, all[i].in, all[i].out,
		       all[i].status, all[i].begun_ns, all[i].ended_ns);
	free(all);
}

static void open_all(void)
{
	struct ocache_tier tiers[2] = {
	    {.deadline_ns = 60 * NS_PER_S, .tries = 1, .breaker = UINT32_MAX},
	    {.deadline_ns = 60 * NS_PER_S, .tries = 1, .breaker = UINT32_MAX}};
	struct ocache_config cfg = {.struct_size = sizeof cfg,
				    .budget = evict ? MIB : 64 * MIB,
				    .tiers = tiers,
				    .tiers_count = 2,
				    .decoder = &decoder};

	AZ(tier_mem_open("near", 16384, &tiers[0].tier));
	tiers[1].tier = record_open();
	AZ(ocache_open(&cfg, &cache, NULL));
}

int main(int argc, char **argv)
{
	static struct worker w[THREADS_MAX];
	struct ocache_stats st;
	pthread_t pusher;

	if (argc != 6 || (threads = (unsigned)atoi(argv[3])) == 0 || threads > THREADS_MAX ||
	    (rounds = (unsigned)atoi(argv[4])) == 0 ||
	    (calls_each = (unsigned)atoi(argv[5])) == 0) {
		fprintf(stderr, "record exact|evict SEED THREADS ROUNDS CALLS\n");
		return 2;
	}
	evict = strcmp(argv[1], "evict") == 0;
	if (evict) {
		keys = 48;
		held_max = 1;
		object_size = 30000;
	}
	seed = strtoull(argv[2], NULL, 10);
	numbers = calloc((size_t)rounds * keys, sizeof *numbers);
	AN(numbers);
	open_all();
	AZ(pthread_barrier_init(&barrier, NULL, threads));
	for (unsigned i = 0; i < threads; i++) {
		w[i].number = i;
		w[i].random = seed * 99 + i;
		w[i].call = calloc((size_t)rounds * (2 * calls_each + HELD_MAX), sizeof *w[i].call);
		AN(w[i].call);
		AZ(pthread_create(&w[i].thread, NULL, work, &w[i]));
	}
	if (evict)
		AZ(pthread_create(&pusher, NULL, push, NULL));
	for (unsigned i = 0; i < threads; i++)
		AZ(pthread_join(w[i].thread, NULL));
	atomic_store(&over, true);
	if (evict)
		AZ(pthread_join(pusher, NULL));
	ocache_stats(cache, &st, sizeof st);
	puts(argv[1]);
	print_all(w);
	fprintf(stderr,
		"%" PRIu64 " evicted, %" PRIu64 " uncached, %" PRIu64 " loads, %" PRIu64
		" joined\n",
		st.evicted, st.uncached, st.loads, st.joined);
	AZ(ocache_close(&cache));
	for (unsigned i = 0; i < threads; i++)
		free(w[i].call);
	free(numbers);
	return evict ? st.evicted < EVICTED || st.uncached > 0 : st.evicted + st.uncached > 0;
}
