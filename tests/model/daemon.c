/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon under test as a child process, its lives and their ends; see model.h. Called by the main
 * thread only, but for daemon_uptime().
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
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
static _Atomic uint64_t up_before, up_since; /* of the lives before; 0: it is not up */
static uint64_t loss;                        /* what the last power cut may cost, ns */

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

/* Has it read all that its disk holds? Before that a miss says nothing. */
static bool loaded(void)
{
	static const char *const names[] = {"segments_to_load", "segments_loaded"};
	uint64_t sums[2] = {0};

	return daemon_stats(names, sums, 2) && sums[0] == sums[1];
}

uint64_t daemon_uptime(void)
{
	uint64_t before = atomic_load(&up_before), since = atomic_load(&up_since);

	return before + (since != 0 ? clock_ns() - since : 0);
}

static void is_down(void)
{
	uint64_t now = daemon_uptime();

	atomic_store(&up_since, 0);
	atomic_store(&up_before, now);
}

/* The daemon's arguments and those of one life; ends the child. */
static void child(uint64_t random)
{
	char *argv[128], *more = NULL;
	unsigned n = 0;

	for (; config.daemon[n] != NULL && n < 100; n++)
		argv[n] = config.daemon[n];
	if (config.lives > 0)
		more = config.life[random % config.lives];
	for (char *word = more == NULL ? NULL : strtok(more, " "); word != NULL && n < 127;
	     word = strtok(NULL, " "))
		argv[n++] = word;
	argv[n] = NULL;
	execvp(argv[0], argv);
	fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

bool daemon_start_short(uint64_t random, unsigned us, enum end end)
{
	pid = fork();
	if (pid == 0)
		child(random);
	if (pid < 0)
		return false;
	usleep(us);
	if (end == END_CUT)
		return daemon_cut(random);
	daemon_kill();
	return true;
}

/* Removes what a power cut does not leave of the store in shared memory: its id is in the names. */
static bool forget_shared_memory(void)
{
	static const off_t at[] = {40, 4136}; /* of either superblock; one may be torn */
	int fd = open(config.store, O_RDONLY | O_CLOEXEC);
	char pattern[96];
	bool ok = true;
	uint64_t id[2];
	glob_t found;

	if (fd < 0)
		return errno == ENOENT; /* cut before there was a store */
	for (unsigned k = 0; k < 2; k++) {
		ok = pread(fd, id, sizeof(id), at[k]) == (ssize_t)sizeof(id) && ok;
		snprintf(pattern, sizeof(pattern),
			 "/dev/shm/valcached-%016" PRIx64 "%016" PRIx64 "-*", id[0], id[1]);
		if (!ok || glob(pattern, 0, NULL, &found) != 0)
			continue;
		for (size_t i = 0; i < found.gl_pathc; i++)
			unlink(found.gl_pathv[i]);
		globfree(&found);
	}
	close(fd);
	return ok;
}

static bool command(const char *text)
{
	int fd = open(config.cut, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	if (!ok)
		printf("%s: cannot write: %s\n", config.cut, strerror(errno));
	return ok;
}

/* Of the life of the disk that the next "on" ends, ns; 0: it does not say. */
static uint64_t slowest_request(void)
{
	int fd = open(config.cut, O_RDONLY | O_CLOEXEC);
	char text[4096] = {0};
	const char *at;

	if (fd >= 0 && pread(fd, text, sizeof(text) - 1, 0) < 0)
		text[0] = 0;
	if (fd >= 0)
		close(fd);
	at = strstr(text, "slowest_us ");
	return at != NULL ? strtoull(at + 11, NULL, 10) * 1000 : 0;
}

uint64_t daemon_loss(void)
{
	return loss;
}

uint64_t daemon_loss_now(void)
{
	return config.loss_ns + 10 * witness_worst() + 2 * slowest_request();
}

bool daemon_cut(uint64_t seed)
{
	char text[64];
	bool ok;

	loss = config.loss_ns + 10 * witness_worst();

	/* nothing reaches the disk after the cut; what is answered after it nobody was promised */
	snprintf(text, sizeof(text), "cut %" PRIu64, seed);
	ok = command(text);
	daemon_kill();
	loss += 2 * slowest_request();
	ok = command("on") && ok;
	if (ok && !forget_shared_memory()) {
		printf("%s: no superblock to read\n", config.store);
		ok = false;
	}
	return ok;
}

bool daemon_start(uint64_t random)
{
	uint64_t until = clock_ns() + START_S * NS_PER_S;

	pid = fork();
	if (pid == 0)
		child(random);
	if (pid < 0)
		return false;
	while (clock_ns() < until && daemon_alive()) {
		if (answers() && loaded()) {
			atomic_store(&up_since, clock_ns());
			return true;
		}
		pause_ms(5);
	}
	printf("the daemon %s\n", daemon_alive() ? "does not answer" : "did not start");
	return false;
}

void daemon_kill(void)
{
	A(pid > 0);
	kill(pid, SIGKILL);
	is_down();
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
	is_down();
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
