/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. Deadlines: a heap of them, and one thread that calls what is due.
 *
 * Rules
 *  [TM-1] A timer is armed when it is in the heap. It is taken out before fire() is called, without
 *         locks, and may be armed again at once, also by fire().
 *  [TM-2] timer_disarm() that says true: fire() will not be called for that arming. False: it has
 *         been or is being called, or the timer was not armed.
 *  [TM-3] fire() does not block; it may arm and disarm.
 */
#ifndef OCACHE_TIMER_H
#define OCACHE_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timer {
	int64_t due_ns; /* CLOCK_MONOTONIC */
	size_t place;   /* in the heap, from 1; 0: not armed */
	void (*fire)(struct timer *);
};

struct timers;

int timers_open(struct timers **timers); /* 0 or -errno */
/* Ends the thread. Nothing is armed any more, or is ever fired. */
void timers_close(struct timers **timers);
/* t is not armed. 0, or -ENOMEM: it is not. */
int timer_arm(struct timers *timers, struct timer *t, int64_t due_ns);
bool timer_disarm(struct timers *timers, struct timer *t);

#endif
