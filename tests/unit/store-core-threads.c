/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two workers and the slow worker on threads of their own, on a store smaller than the data: sets,
 * gets, deletes, flushes of the same keys by both, long values, laps. Every byte is checked; at the
 * end everything has been given back.
 *
 * test: threads=yes limit=120
 */
#include <pthread.h>
#include <sched.h>

#include "tests/unit/store_rig.h"

#define KEYS    3000u
#define WINDOW  8u
#define SECONDS 3u

/*
 * The value of a key is one of four, said by the flags; a length and bytes follow from both. So a
 * get can be verified without a model.
 */
struct work {
	struct rig *r;
	unsigned id;
	pthread_t thread;
	uint64_t rng, ops, hits, stored, deleted, flushed, broken;
};

static _Atomic unsigned finished;
static _Atomic bool stop_slow, all_over;

static uint32_t len_of(uint64_t k, uint32_t v)
{
	uint64_t x = rig_mix(k * 4 + v + 77);

	return (uint32_t)(x % 100 == 0 ? MIB + x % 300000 : x % 10 == 0 ? x % 100000 : x % 8000);
}

static uint64_t rnd(struct work *w)
{
	return w->rng = rig_mix(w->rng + 0x9e3779b97f4a7c15ull);
}

struct job {
	struct rop o;
	struct work *w;
	bool used;
	uint8_t kind;
	uint64_t k;
	uint32_t v, at, len;
	uint8_t *value;
};

static void end(struct job *j)
{
	store_op_end(&j->o.op);
	free(j->value);
	j->value = NULL;
	j->used = false;
	j->w->ops++;
}

static void go(struct job *j)
{
	struct store_op *op = &j->o.op;

	while (j->used && j->o.done) {
		bool done;

		if (j->kind == 's' && op->body_n > 0) {
			memcpy(op->body, j->value + j->at, op->body_n);
			j->at += op->body_n;
			j->o.done = false;
			done = store_set_body(op);
		} else if (j->kind == 'g' && op->status == STORE_OK) {
			if (j->value == NULL) {
				assert_true(op->flags < 4);
				assert_int_equal(op->value_len, len_of(j->k, op->flags));
				j->len = op->value_len;
				j->v = op->flags;
				j->value = malloc(j->len + 1);
			}
			memcpy(j->value + j->at, op->value, op->value_n);
			j->at += op->value_n;
			if (j->at == j->len) {
				assert_true(rig_is(j->value, j->len, j->k * 4 + j->v));
				j->w->hits++;
				end(j);
				return;
			}
			j->o.done = false;
			done = store_get_next(op);
		} else {
			j->w->stored += j->kind == 's' && op->status == STORE_OK;
			j->w->deleted += j->kind == 'd' && op->status == STORE_OK;
			j->w->flushed += j->kind == 'f';
			j->w->broken += op->status == STORE_BROKEN;
			assert_true(op->status != STORE_UNAVAILABLE || j->len > MIB);
			end(j);
			return;
		}
		j->o.done = j->o.done || done;
	}
}

static void begin_job(struct job *j)
{
	struct work *w = j->w;
	uint64_t dice = rnd(w) % 1000;
	char key[32];
	bool done;

	j->used = true;
	j->o.done = false;
	j->at = 0;
	j->k = rnd(w) % KEYS;
	if (rnd(w) % 3 == 0)
		j->k %= 50; /* both workers meet here */
	store_op_init(&j->o.op, w->r->w[w->id], key, (uint8_t)rig_key(key, j->k), rop_done, &j->o);
	if (dice < 500) {
		j->kind = 's';
		j->v = rnd(w) % 4;
		j->len = len_of(j->k, j->v);
		j->value = malloc(j->len + 1);
		rig_fill(j->value, j->len, j->k * 4 + j->v);
		done = store_set(&j->o.op, STORE_SET, j->v, j->len);
	} else if (dice < 850) {
		j->kind = 'g';
		done = store_get(&j->o.op, false);
	} else if (dice < 999 || rnd(w) % 8 != 0) {
		j->kind = 'd';
		done = store_delete(&j->o.op);
	} else {
		j->kind = 'f';
		done = store_flush_all(&j->o.op);
	}
	j->o.done = j->o.done || done;
}

static void turn(struct rig *r, unsigned id)
{
	uint64_t at = store_worker_turn(r->w[id]), now = clock_ns();
	int64_t wait = at == UINT64_MAX ? (int64_t)(5 * NS_PER_MS)
		       : at <= now      ? 0
					: (int64_t)(at - now);

	assert_true(
	    io_turn(r->io[id], wait < (int64_t)(5 * NS_PER_MS) ? wait : (int64_t)(5 * NS_PER_MS)) >=
	    0);
}

static void *worker(void *arg)
{
	struct work *w = arg;
	struct job job[WINDOW] = {0};
	uint64_t until = clock_ns() + SECONDS * NS_PER_S, limit = until + 15 * NS_PER_S;
	bool busy = true;

	while (busy) {
		/* longer on a slow machine: laps are wanted, too */
		if (clock_ns() >= until && clock_ns() < limit &&
		    atomic_load(&w->r->s->path[0].seg_recycled) == 0)
			until = clock_ns() + NS_PER_S / 10;
		busy = clock_ns() < until;
		for (unsigned i = 0; i < WINDOW; i++) {
			job[i].w = w;
			if (!job[i].used && clock_ns() < until)
				begin_job(&job[i]);
			go(&job[i]);
			busy = busy || job[i].used;
		}
		turn(w->r, w->id);
	}
	store_worker_stop(w->r->w[w->id]);
	while (!store_worker_idle(w->r->w[w->id]))
		turn(w->r, w->id);
	atomic_fetch_add(&finished, 1);
	while (!atomic_load(&all_over)) /* the slow worker waits for those that are not closed */
		turn(w->r, w->id);
	return NULL;
}

static void *slow(void *arg)
{
	struct work *w = arg;

	while (!atomic_load(&stop_slow))
		turn(w->r, w->id);
	store_worker_stop(w->r->w[w->id]);
	while (!store_worker_idle(w->r->w[w->id]))
		turn(w->r, w->id);
	return NULL;
}

static void together(void **state)
{
	struct rig r;
	struct work w[3];
	struct store_counters c;

	(void)state;
	for (unsigned admit = 0; admit < 2; admit++) {
		rig_init(&r, NULL);
		r.cfg.workers = 2;
		r.cfg.npaths = 2;
		r.cfg.item_max = 2 * MIB;
		r.cfg.ram_bytes = 6 * MIB;
		r.cfg.admit = admit ? STORE_ADMIT_SECOND : STORE_ADMIT_ALL;
		r.cfg.sync_ns = 200 * NS_PER_MS;
		r.threads = true;
		rig_open(&r);
		atomic_store(&stop_slow, false);
		atomic_store(&all_over, false);
		atomic_store(&finished, 0);
		for (unsigned i = 0; i < 3; i++) {
			w[i] = (struct work){.r = &r, .id = i, .rng = i + 1};
			AZ(pthread_create(&w[i].thread, NULL, i < 2 ? worker : slow, &w[i]));
		}
		while (atomic_load(&finished) < 2)
			usleep(1000);
		atomic_store(&stop_slow, true);
		AZ(pthread_join(w[2].thread, NULL));
		atomic_store(&all_over, true);
		for (unsigned i = 0; i < 2; i++)
			AZ(pthread_join(w[i].thread, NULL));
		c = rig_counters(&r);
		print_message("%" PRIu64 " ops, %" PRIu64 " hits, %" PRIu64 " stored, %" PRIu64
			      " conflicts, %" PRIu64 " deleted, %" PRIu64 " retried, %" PRIu64
			      " stale, %" PRIu64 " recycled, %" PRIu64 " written again\n",
			      w[0].ops + w[1].ops, w[0].hits + w[1].hits, w[0].stored + w[1].stored,
			      c.immutable_conflicts, c.deletes, c.sets_retried, c.stale_reads,
			      atomic_load(&r.s->path[0].seg_recycled) +
				  atomic_load(&r.s->path[1].seg_recycled),
			      atomic_load(&r.s->reinserted));
		assert_true(w[0].hits > 0 && w[1].hits > 0);
		assert_int_equal(c.corrupt_reads + c.read_errors + c.write_errors, 0);
		rig_close(&r);
		r.threads = false;
		rig_open(&r);
		for (uint64_t k = 0; k < KEYS; k++) {
			char key[32];
			struct got g = rig_fetch(&r, 0, key, rig_key(key, k), false);

			if (g.status == STORE_OK) {
				assert_int_equal(g.len, len_of(k, g.flags));
				assert_true(rig_is(g.value, g.len, k * 4 + g.flags));
			}
			rig_drop(&g);
		}
		assert_int_equal(rig_counters(&r).corrupt_reads, 0);
		rig_close(&r);
		rig_free(&r);
	}
}

/* ---- both add the same key at the same moment ---------------------------------------------------- */

#define ROUNDS  30000u
#define SLOW_NS (20 * NS_PER_S) /* fewer where each must wait for a processor to meet the other */

struct racer {
	struct rig *r;
	unsigned id;
	pthread_t thread;
};

static _Atomic unsigned arrived;
static _Atomic unsigned winners;
static _Atomic unsigned rounds; /* to be made: told by the first of them before they meet */
static _Atomic bool given_up;

/* A turn that does not sleep. */
static void nudge(const struct racer *me)
{
	(void)store_worker_turn(me->r->w[me->id]);
	assert_true(io_turn(me->r->io[me->id], 0) >= 0);
}

/* Until both are here for the nth time. */
static void meet(struct racer *me, unsigned nth)
{
	atomic_fetch_add(&arrived, 1);
	for (unsigned spins = 1; atomic_load(&arrived) < 2 * nth; spins++)
		if (spins % 4096 == 0) {
			nudge(me); /* the slow worker may wait for us */
			sched_yield();
		}
}

static void *racer(void *arg)
{
	uint64_t until = clock_ns() + SLOW_NS;
	struct racer *me = arg;
	struct rop o;
	char key[32];

	for (unsigned n = 0; n < atomic_load(&rounds); n++) {
		store_op_init(&o.op, me->r->w[me->id], key, (uint8_t)rig_key(key, n), rop_done, &o);
		meet(me, 2 * n + 1);
		o.done = store_set(&o.op, STORE_ADD, me->id, 8);
		while (!o.done)
			nudge(me);
		while (o.op.body_n > 0) {
			memset(o.op.body, 'a' + (int)me->id, o.op.body_n);
			o.done = false;
			o.done = store_set_body(&o.op) || o.done;
			while (!o.done)
				nudge(me);
		}
		if (o.op.status == STORE_OK)
			atomic_fetch_add(&winners, 1);
		store_op_end(&o.op);
		if (me->id == 0 && n >= ROUNDS / 30 && clock_ns() > until)
			atomic_store(&rounds, n + 1);
		meet(me, 2 * n + 2);
		/* none, or both were told that theirs is stored */
		if (atomic_load(&winners) != n + 1) {
			atomic_store(&given_up, true);
			return NULL;
		}
		if (n % 64 == 0)
			nudge(me);
	}
	store_worker_stop(me->r->w[me->id]);
	while (!store_worker_idle(me->r->w[me->id]))
		nudge(me);
	atomic_fetch_add(&finished, 1);
	while (!atomic_load(&all_over))
		turn(me->r, me->id);
	return NULL;
}

static void one_winner(void **state)
{
	struct racer two[2];
	struct work w = {.id = 2};
	struct rig r;

	(void)state;
	rig_init(&r, NULL);
	r.cfg.workers = 2;
	r.threads = true;
	w.r = &r;
	rig_open(&r);
	atomic_store(&stop_slow, false);
	atomic_store(&all_over, false);
	atomic_store(&finished, 0);
	atomic_store(&rounds, ROUNDS);
	AZ(pthread_create(&w.thread, NULL, slow, &w));
	for (unsigned i = 0; i < 2; i++) {
		two[i] = (struct racer){.r = &r, .id = i};
		AZ(pthread_create(&two[i].thread, NULL, racer, &two[i]));
	}
	/* one that gives up leaves its store as it is: there is nothing to close any more */
	while (atomic_load(&finished) < 2) {
		usleep(1000);
		if (atomic_load(&given_up))
			fail_msg("of two adds of one key none was stored, or both were");
	}
	atomic_store(&stop_slow, true);
	AZ(pthread_join(w.thread, NULL));
	atomic_store(&all_over, true);
	for (unsigned i = 0; i < 2; i++)
		AZ(pthread_join(two[i].thread, NULL));
	assert_int_equal(atomic_load(&winners), atomic_load(&rounds));
	rig_close(&r);
	rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(together),
	    cmocka_unit_test(one_winner),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
