/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon under test as a child process; see model.h. Called by the main thread only. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "tests/model/model.h"

#define START_S 60u
#define STOP_S  60u

static pid_t pid;

static void pause_ms(unsigned ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&t, NULL);
}

bool daemon_alive(void)
{
	return pid > 0 && waitpid(pid, NULL, WNOHANG) == 0;
}

static bool answers(void)
{
	struct conn c;
	char *line;
	bool ok;

	if (!conn_open(&c))
		return false;
	conn_put(&c, "version\r\n", 9);
	ok = conn_send(&c) && (line = conn_line(&c)) != NULL && strncmp(line, "VERSION ", 8) == 0;
	conn_close(&c);
	return ok;
}

bool daemon_start(void)
{
	uint64_t until = clock_ns() + START_S * NS_PER_S;

	pid = fork();
	if (pid == 0) {
		execvp(config.daemon[0], config.daemon);
		fprintf(stderr, "%s: %s\n", config.daemon[0], strerror(errno));
		_exit(127);
	}
	if (pid < 0)
		return false;
	while (clock_ns() < until && daemon_alive()) {
		if (answers())
			return true;
		pause_ms(20);
	}
	printf("the daemon %s\n", daemon_alive() ? "does not answer" : "did not start");
	return false;
}

void daemon_kill(void)
{
	A(pid > 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	pid = 0;
}

bool daemon_stop(void)
{
	uint64_t until = clock_ns() + STOP_S * NS_PER_S;
	int status = -1;

	if (pid <= 0)
		return false;
	kill(pid, SIGTERM);
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (clock_ns() > until) {
			daemon_kill();
			printf("the daemon did not stop within %u s of SIGTERM\n", STOP_S);
			return false;
		}
		pause_ms(20);
	}
	pid = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		printf("the daemon went with wait status 0x%x\n", (unsigned)status);
		return false;
	}
	return true;
}

bool daemon_stats(const char *const *names, uint64_t *sums, unsigned n)
{
	static const char *const commands[] = {"stats\r\n", "stats store\r\n"};
	uint64_t value[32] = {0};
	struct conn c;
	char *line = NULL;

	A(n <= 32);
	if (!conn_open(&c))
		return false;
	for (unsigned i = 0; i < 2; i++) {
		conn_put(&c, commands[i], strlen(commands[i]));
		if (!conn_send(&c))
			break;
		while ((line = conn_line(&c)) != NULL && strncmp(line, "STAT ", 5) == 0) {
			char *name = line + 5, *at = strchr(name, ' ');

			if (at == NULL)
				continue;
			*at++ = '\0';
			for (unsigned j = 0; j < n; j++)
				if (strcmp(names[j], name) == 0)
					value[j] = strtoull(at, NULL, 10);
		}
		if (line == NULL)
			break;
	}
	conn_close(&c);
	for (unsigned j = 0; j < n; j++)
		sums[j] += value[j];
	return line != NULL;
}
