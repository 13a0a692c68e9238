/* SPDX-License-Identifier: Apache-2.0 */
/* Private to ocache. Threads of the library's own, and waiting by CLOCK_MONOTONIC. */
#ifndef OCACHE_THREAD_H
#define OCACHE_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"

/* A time that was configured, or what is meant when it is 0. A year is for ever: sums with it do not overflow. */
static inline uint64_t thread_ns(uint64_t ns, uint64_t otherwise)
{
	const uint64_t year = 365ull * 24 * 3600 * NS_PER_S;

	return ns == 0 ? otherwise : ns < year ? ns : year;
}

/* What is before the clock's beginning has passed: as a struct timespec it would be invalid, and waited for without end. */
static inline struct timespec thread_timespec(int64_t ns)
{
	ns = ns > 0 ? ns : 0;
	return (struct timespec){ns / (int64_t)NS_PER_S, ns % (int64_t)NS_PER_S};
}

static inline void thread_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	AZ(pthread_condattr_init(&attr));
	AZ(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
	AZ(pthread_cond_init(cond, &attr));
	AZ(pthread_condattr_destroy(&attr));
}

/* A thread that takes none of the program's signals. 0 or -errno. */
static inline int thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	AZ(pthread_sigmask(SIG_SETMASK, &all, &before));
	err = pthread_create(thread, NULL, run, arg);
	AZ(pthread_sigmask(SIG_SETMASK, &before, NULL));
	if (err == 0)
		(void)pthread_setname_np(*thread, name); /* for people who look */
	return -err;
}

#endif
