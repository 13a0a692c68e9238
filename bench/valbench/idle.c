/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, holding and probing idle connections; see idle.h. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/valbench/idle.h"
#include "bench/valbench/watch.h"

#define SETTLE_S 1.0

static void nap(double s)
{
	struct timespec ts = {.tv_sec = (time_t)s,
			      .tv_nsec = (long)((s - (double)(time_t)s) * 1e9)};

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

/* Whether the server still answers on this connection. */
static bool probe(int fd, double timeout_s)
{
	static const char ask[] = "version\r\n";
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char answer[128];
	ssize_t n;

	if (send(fd, ask, sizeof ask - 1, MSG_NOSIGNAL) != sizeof ask - 1)
		return false;
	if (poll(&p, 1, (int)(timeout_s * 1000)) != 1)
		return false;
	n = recv(fd, answer, sizeof answer, 0);
	return n > 8 && memcmp(answer, "VERSION ", 8) == 0;
}

/* A tick of utime would be a quarter of a per cent of four seconds. */
static double cpu_s(const struct watch_sample *held)
{
	return held->run_ns > 0 ? (double)held->run_ns / 1e9
				: held->cpu_user_s + held->cpu_system_s;
}

static void print_table(const struct options *o, unsigned dead, double open_s,
			const struct watch_sample *first, const struct watch_sample *opened,
			const struct watch_sample *held)
{
	printf("%u idle connections opened in %.2f s, held %.1f s, %u did not answer after\n",
	       o->idle, open_s, o->duration_s, dead);
	if (!held->have_process)
		return;
	printf("server RSS %.2f MiB -> %.2f MiB: %.0f bytes a connection\n",
	       (double)first->rss_bytes / 1048576, (double)opened->rss_bytes / 1048576,
	       ((double)opened->rss_bytes - (double)first->rss_bytes) / o->idle);
	printf("server CPU while held: %.4f s, %.3f %%; context switches %llu\n", cpu_s(held),
	       cpu_s(held) / o->duration_s * 100,
	       (unsigned long long)(held->switches_voluntary + held->switches_forced));
}

int idle_run(const struct options *o, const struct address *a, FILE *json)
{
	struct watch_sample first, opened, after, held;
	unsigned n = 0, dead = 0;
	int *fds = calloc(o->idle, sizeof *fds), exit_code = 3;
	uint64_t begin;
	double open_s;

	if (fds == NULL)
		return 3;
	watch_take(&first, o->server_pid, NULL);
	begin = clock_ns();
	for (; n < o->idle; n++) {
		fds[n] = address_connect(a);
		if (fds[n] < 0) {
			fprintf(stderr, "valbench: connection %u of %u: %s%s\n", n + 1, o->idle,
				strerror(-fds[n]),
				fds[n] == -EMFILE ? "; raise the limit of open files" : "");
			goto out;
		}
	}
	open_s = (double)(clock_ns() - begin) / 1e9;
	nap(SETTLE_S);
	watch_take(&opened, o->server_pid, NULL);
	nap(o->duration_s);
	watch_take(&after, o->server_pid, NULL);
	held = watch_between(&opened, &after);
	for (unsigned i = 0; i < n; i++)
		dead += !probe(fds[i], o->timeout_s < 5 ? o->timeout_s : 5);
	exit_code = dead > 0;
	if (!o->quiet)
		print_table(o, dead, open_s, &first, &opened, &held);
	if (json != NULL)
		fprintf(json,
			"{\"idle\": %u, \"open_s\": %.3f, \"held_s\": %.3f, \"dead\": %u,\n"
			" \"rss_before\": %llu, \"rss_open\": %llu, \"rss_per_connection\": %.1f,\n"
			" \"cpu_held_s\": %.6f, \"switches_held\": %llu}\n",
			o->idle, open_s, o->duration_s, dead, (unsigned long long)first.rss_bytes,
			(unsigned long long)opened.rss_bytes,
			((double)opened.rss_bytes - (double)first.rss_bytes) / o->idle,
			cpu_s(&held),
			(unsigned long long)(held.switches_voluntary + held.switches_forced));
out:
	while (n > 0)
		close(fds[--n]);
	free(fds);
	return exit_code;
}
