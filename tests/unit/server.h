/* SPDX-License-Identifier: Apache-2.0 */
/* The real valcached and the real memcached on unix sockets, for unit tests of what talks to them. */
#ifndef TESTS_UNIT_SERVER_H
#define TESTS_UNIT_SERVER_H

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ocache/thread.h"
#include "tests/unit/ocache_rig.h"
#include "tests/unit/root_dir.h"

#define MS 1000000ull

static inline void nap(uint64_t ns)
{
	const struct timespec ts = thread_timespec((int64_t)ns);

	nanosleep(&ts, NULL);
}

struct server {
	bool valcached;
	const char *users; /* a file of them: without a login there is nothing; NULL: it is open */
	char sock[160];
	pid_t pid;
};

static inline int dial(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	snprintf(un.sun_path, sizeof un.sun_path, "%.107s", path);
	if (connect(fd, (const struct sockaddr *)&un, sizeof un) == 0)
		return fd;
	close(fd);
	return -1;
}

static inline void server_start(struct server *s, bool valcached, const char *name)
{
	const char *build = getenv("TEST_BUILD");
	int fd = -1;

	s->valcached = valcached;
	snprintf(s->sock, sizeof s->sock, "%s", file(name));
	unlink(s->sock);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		char program[300], store[200];
		int log =
		    open(file("servers.log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

		dup2(log, STDERR_FILENO);
		dup2(log, STDOUT_FILENO);
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* of a test that fails */
		snprintf(program, sizeof program, "%s/valcached", build != NULL ? build : "build");
		snprintf(store, sizeof store, "--path=%s.store", s->sock);
		if (valcached)
			execl(program, program, "-s", s->sock, "-t", "1", "-I", "8m", "--size=256m",
			      store, s->users != NULL ? "-Y" : NULL, s->users, (char *)NULL);
		else
			execlp("memcached", "memcached", "-s", s->sock, "-u", "root", "-m", "256",
			       "-I", "8m", "-t", "1", s->users != NULL ? "-Y" : NULL, s->users,
			       (char *)NULL);
		_exit(127);
	}
	for (unsigned i = 0; fd < 0 && i < 2000; i++) {
		fd = dial(s->sock);
		if (fd < 0)
			nap(10 * MS);
	}
	assert_true(fd >= 0);
	close(fd);
}

static inline void server_end(struct server *s, int sig)
{
	int status;

	if (s->pid == 0)
		return;
	assert_int_equal(kill(s->pid, sig), 0);
	assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
	s->pid = 0;
}

/* Stopped when this returns: the signal alone takes a while to arrive. */
static inline void server_hold(const struct server *s)
{
	int status;

	assert_int_equal(kill(s->pid, SIGSTOP), 0);
	assert_int_equal(waitpid(s->pid, &status, WUNTRACED), s->pid);
	assert_true(WIFSTOPPED(status));
}

#endif
