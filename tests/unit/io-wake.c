/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes
 *
 * io_wake() from other threads: none is lost, many count as one, and the loop sleeps between.
 */
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#include "tests/unit/io_test.h"

#define THREADS 3
#define EACH    2000

struct mail {
	struct io *io;
	pthread_mutex_t lock;
	uint64_t posted; /* under lock */
	_Atomic uint64_t taken;
	_Atomic bool stop;
	unsigned wakes; /* loop thread */
};

static void on_wake(void *arg)
{
	struct mail *m = arg;

	m->wakes++;
	pthread_mutex_lock(&m->lock);
	atomic_store(&m->taken, m->posted);
	pthread_mutex_unlock(&m->lock);
}

static void *post(void *arg)
{
	struct mail *m = arg;

	for (int i = 0; i < EACH; i++) {
		uint64_t mine;

		pthread_mutex_lock(&m->lock);
		mine = ++m->posted;
		pthread_mutex_unlock(&m->lock);
		io_wake(m->io);
		/* Now and then wait for it: if this wake were lost, nobody else would make up for
		 * it. */
		if (i % 16 == 0)
			for (uint64_t t = clock_ns(); atomic_load(&m->taken) < mine;) {
				if (clock_ns() - t > 5 * NS_PER_S)
					return arg;
				sched_yield();
			}
	}
	return NULL;
}

static void *loop(void *arg)
{
	struct mail *m = arg;

	while (!atomic_load(&m->stop))
		if (io_turn(m->io, -1) < 0)
			return arg;
	return NULL;
}

/* Some tests are run again with a loop that spins before it sleeps. */
static uint64_t spin_of(void **state)
{
	return *state == NULL ? 0 : *(const uint64_t *)*state;
}

/* The io is opened and closed here, and turned by a thread of its own, as the daemon does it. */
static void no_wake_is_lost(void **state)
{
	struct io_config c = {.net = true, .spin_ns = spin_of(state)};
	struct mail m = {.lock = PTHREAD_MUTEX_INITIALIZER};
	pthread_t t[THREADS], l;
	char *cause = NULL;
	void *r;

	if (on_valgrind())
		return; /* the posters could not run while the loop sleeps */
	assert_int_equal(io_open(engine, &c, &m.io, &cause), 0);
	m.io->on_wake = on_wake;
	m.io->wake_arg = &m;
	assert_int_equal(pthread_create(&l, NULL, loop, &m), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, post, &m), 0);
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(t[i], &r), 0);
		assert_null(r);
	}
	atomic_store(&m.stop, true);
	io_wake(m.io);
	assert_int_equal(pthread_join(l, &r), 0);
	assert_null(r);
	assert_int_equal(m.posted, THREADS * EACH);
	assert_true(m.wakes > 0 && m.wakes <= THREADS * EACH + 1);
	io_close(&m.io);
}

static void many_count_as_one(void **state)
{
	struct io_config c = {0};
	struct mail m = {.lock = PTHREAD_MUTEX_INITIALIZER};
	char *cause = NULL;
	uint64_t t0;

	(void)state;
	assert_int_equal(io_open(engine, &c, &m.io, &cause), 0);
	m.io->on_wake = on_wake;
	m.io->wake_arg = &m;
	for (int i = 0; i < 100; i++)
		io_wake(m.io); /* before the first turn */
	assert_int_equal(io_turn(m.io, -1), 1);
	for (int i = 0; i < 100; i++)
		io_wake(m.io);
	t0 = clock_ns();
	while (m.wakes < 2)
		assert_true(io_turn(m.io, 30 * NS_PER_S) >= 0);
	assert_true(clock_ns() - t0 < 15 * NS_PER_S); /* it was woken: its time was not over */
	for (int i = 0; i < 3; i++)
		assert_int_equal(io_turn(m.io, 5 * NS_PER_MS), 0);
	assert_int_equal(m.wakes, 2);
	io_close(&m.io);
}

static void timeouts(void **state)
{
	struct io_config c = {.spin_ns = spin_of(state)};
	struct rusage a, b;
	struct io *io;
	char *cause = NULL;
	uint64_t t0, now, took, least = UINT64_MAX;
	long us;

	assert_int_equal(io_open(engine, &c, &io, &cause), 0);
	t0 = clock_ns();
	assert_int_equal(io_turn(io, 0), 0);
	now = io_now(io);
	assert_true(now >= t0 && now <= clock_ns());
	getrusage(RUSAGE_SELF, &a);
	for (int i = 0; i < 10; i++) {
		t0 = clock_ns();
		assert_int_equal(io_turn(io, 20 * NS_PER_MS), 0);
		assert_true(clock_ns() - t0 >= 19 * NS_PER_MS);
	}
	getrusage(RUSAGE_SELF, &b);
	us = (b.ru_utime.tv_sec - a.ru_utime.tv_sec + b.ru_stime.tv_sec - a.ru_stime.tv_sec) *
		 1000000 +
	     b.ru_utime.tv_usec - a.ru_utime.tv_usec + b.ru_stime.tv_usec - a.ru_stime.tv_usec;
	assert_true(us < 100000); /* of 200,000, which a loop that does not sleep takes all */
	for (int i = 0; i < 10; i++) {
		t0 = clock_ns();
		assert_int_equal(io_turn(io, 0), 0);
		took = clock_ns() - t0;
		least = took < least ? took : least;
	}
	assert_true(least < 10 * NS_PER_MS); /* one at least that nobody else held up */
	if (on_uring() && !on_valgrind())    /* there it looks every millisecond */
		assert_int_equal(counter(&io->count.enters), 11); /* an empty turn 0 asks nobody */
	io_close(&io);
}

static int group(const char *name)
{
	static uint64_t spin = 300 * 1000;
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(many_count_as_one),
	    cmocka_unit_test(no_wake_is_lost),
	    cmocka_unit_test(timeouts),
	    cmocka_unit_test_prestate(no_wake_is_lost, &spin),
	    cmocka_unit_test_prestate(timeouts, &spin),
	};

	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
	return run_on_engines("io-wake", group);
}
