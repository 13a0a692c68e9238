/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timing wake-ups; see wakeup.h. The main thread writes its clock into a pipe on which another
 * thread sleeps; that one takes the difference when it runs. Between two it sleeps about as long
 * as a disk read takes, so that the CPU really goes idle.
 */
#include <errno.h>
#include <pthread.h>
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

static void *sleeper_main(void *arg)
{
	struct sleeper *s = arg;
	uint64_t then;

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
