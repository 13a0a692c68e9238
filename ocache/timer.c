/* SPDX-License-Identifier: Apache-2.0 */
/* A heap of deadlines and its thread; see timer.h. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"
#include "ocache/thread.h"
#include "ocache/timer.h"

struct timers {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t sooner; /* the first has changed, or it is over */
	/* under lock: */
	struct timer **heap; /* from 1 */
	size_t n, room;
	bool over;
};

static void place(struct timers *ts, size_t at, struct timer *t)
{
	ts->heap[at] = t;
	t->place = at;
}

static void rise(struct timers *ts, size_t at, struct timer *t)
{
	for (; at > 1 && ts->heap[at / 2]->due_ns > t->due_ns; at /= 2)
		place(ts, at, ts->heap[at / 2]);
	place(ts, at, t);
}

static void sink(struct timers *ts, size_t at, struct timer *t)
{
	for (size_t kid; (kid = at * 2) <= ts->n; at = kid) {
		if (kid < ts->n && ts->heap[kid + 1]->due_ns < ts->heap[kid]->due_ns)
			kid++;
		if (ts->heap[kid]->due_ns >= t->due_ns)
			break;
		place(ts, at, ts->heap[kid]);
	}
	place(ts, at, t);
}

static void take_out(struct timers *ts, struct timer *t)
{
	size_t at = t->place;
	struct timer *last = ts->heap[ts->n--];

	t->place = 0;
	if (last == t)
		return;
	if (at > 1 && ts->heap[at / 2]->due_ns > last->due_ns)
		rise(ts, at, last);
	else
		sink(ts, at, last);
}

static void *run(void *arg)
{
	struct timers *ts = arg;

	pthread_mutex_lock(&ts->lock);
	while (!ts->over) {
		struct timer *t = ts->n > 0 ? ts->heap[1] : NULL;

		if (t == NULL) {
			pthread_cond_wait(&ts->sooner, &ts->lock);
		} else if (t->due_ns > (int64_t)clock_ns()) {
			struct timespec until = thread_timespec(t->due_ns);

			pthread_cond_timedwait(&ts->sooner, &ts->lock, &until);
		} else {
			take_out(ts, t);
			pthread_mutex_unlock(&ts->lock);
			t->fire(t);
			pthread_mutex_lock(&ts->lock);
		}
	}
	pthread_mutex_unlock(&ts->lock);
	return NULL;
}

int timers_open(struct timers **out)
{
	struct timers *ts = calloc(1, sizeof *ts);
	int err;

	if (ts == NULL)
		return -ENOMEM;
	AZ(pthread_mutex_init(&ts->lock, NULL));
	thread_cond_init(&ts->sooner);
	err = thread_start(&ts->thread, "ocache-timer", run, ts);
	if (err != 0) {
		AZ(pthread_cond_destroy(&ts->sooner));
		AZ(pthread_mutex_destroy(&ts->lock));
		free(ts);
		return err;
	}
	*out = ts;
	return 0;
}

void timers_close(struct timers **out)
{
	struct timers *ts = *out;

	if (ts == NULL)
		return;
	*out = NULL;
	pthread_mutex_lock(&ts->lock);
	ts->over = true;
	pthread_cond_signal(&ts->sooner);
	pthread_mutex_unlock(&ts->lock);
	AZ(pthread_join(ts->thread, NULL));
	AZ(pthread_cond_destroy(&ts->sooner));
	AZ(pthread_mutex_destroy(&ts->lock));
	free(ts->heap);
	free(ts);
}

int timer_arm(struct timers *ts, struct timer *t, int64_t due_ns)
{
	bool first = false;
	int err = 0;

	pthread_mutex_lock(&ts->lock);
	AZ(t->place);
	if (ts->n + 1 >= ts->room) {
		size_t room = ts->room == 0 ? 64 : ts->room * 2;
		struct timer **heap = realloc(ts->heap, room * sizeof(struct timer *));

		if (heap == NULL) {
			err = -ENOMEM;
		} else {
			ts->heap = heap;
			ts->room = room;
		}
	}
	if (err == 0) {
		t->due_ns = due_ns;
		rise(ts, ++ts->n, t);
		first = t->place == 1;
	}
	pthread_mutex_unlock(&ts->lock);
	if (first)
		pthread_cond_signal(&ts->sooner);
	return err;
}

bool timer_disarm(struct timers *ts, struct timer *t)
{
	bool armed;

	pthread_mutex_lock(&ts->lock);
	armed = t->place != 0;
	if (armed)
		take_out(ts, t);
	pthread_mutex_unlock(&ts->lock);
	return armed;
}
