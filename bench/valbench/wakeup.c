/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timing wake-ups; see wakeup.h. The main thread writes its clock into a pipe on which another
 * thread sleeps; that one takes the difference when it runs. Between two it sleeps about as long
 * as a disk read takes, so that the CPU really goes idle.
 *
 * The two are on different CPUs, as client and server of one connection are: left to itself the
 * scheduler runs the reader of a pipe on the writer's CPU, which is awake, and the figure is that
 * of a switch of threads.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hist.h"
#include "bench/valbench/wakeup.h"

#define ROUNDS   3000
#define PAUSE_NS 150000

struct sleeper {
	int fd;
	struct hist took;
};

/* The n-th of the CPUs that this process may use; where there is one only, both threads share it. */
static void use_cpu(int n)
{
	cpu_set_t may, one;

	if (sched_getaffinity(0, sizeof may, &may) < 0)
		return;
	n %= CPU_COUNT(&may);
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &may) && n-- == 0) {
			CPU_ZERO(&one);
			CPU_SET(cpu, &one);
			(void)sched_setaffinity(0, sizeof one, &one);
			return;
		}
}

static void *sleeper_main(void *arg)
{
	struct sleeper *s = arg;
	uint64_t then;

	use_cpu(1);

	while (read(s->fd, &then, sizeof then) == (ssize_t)sizeof then)
		hist_add(&s->took, clock_ns() - then);
	return NULL;
}

int wakeup_run(const struct options *o, FILE *json)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	static struct sleeper s;
	pthread_t thread;
	int fds[2], rc;

	if (pipe(fds) < 0) {
		rc = errno;
		goto fail;
	}
	s.fd = fds[0];
	rc = pthread_create(&thread, NULL, sleeper_main, &s);
	if (rc != 0)
		goto fail_pipe;
	use_cpu(0);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t now;

		nanosleep(&pause, NULL);
		now = clock_ns();
		if (write(fds[1], &now, sizeof now) != (ssize_t)sizeof now)
			break;
	}
	close(fds[1]);
	pthread_join(thread, NULL);
	close(fds[0]);
	if (!o->quiet)
		printf("wake-up: p50 %.1f us, p90 %.1f, p99 %.1f (%d rounds)\n",
		       (double)hist_quantile(&s.took, 0.5) / 1e3,
		       (double)hist_quantile(&s.took, 0.9) / 1e3,
		       (double)hist_quantile(&s.took, 0.99) / 1e3, ROUNDS);
	if (json != NULL)
		fprintf(
		    json,
		    "{\"wakeup_p50_us\": %.3f, \"wakeup_p90_us\": %.3f, \"wakeup_p99_us\": %.3f}\n",
		    (double)hist_quantile(&s.took, 0.5) / 1e3,
		    (double)hist_quantile(&s.took, 0.9) / 1e3,
		    (double)hist_quantile(&s.took, 0.99) / 1e3);
	return 0;
fail_pipe:
	close(fds[0]);
	close(fds[1]);
fail:
	fprintf(stderr, "valbench: %s\n", strerror(rc));
	return 3;
}
