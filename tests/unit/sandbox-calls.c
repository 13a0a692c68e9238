/* SPDX-License-Identifier: Apache-2.0 */
/* test: wrap=no */
/*
 * Processes that go into the sandbox by the daemon's own code: which system calls are refused, which end the
 * process, which go on, in threads of before and after; that rights are gone; and what is said where a layer is
 * refused. Each case is a child, which the sandbox would not let go on testing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "valcached/sandbox/sandbox.h"

#define NO_CALL 900 /* no kernel has a call of this number yet */

/* In a child: ends it with the line of what did not hold. */
#define HOLDS(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "line %d: %s (errno %d)\n", __LINE__, #x, errno);          \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)
#define REFUSED(call, err)                                                                         \
	do {                                                                                       \
		uint64_t before_ = sandbox_refused();                                              \
		errno = 0;                                                                         \
		HOLDS((call) == -1 && errno == (err));                                             \
		HOLDS(sandbox_refused() == before_ + 1);                                           \
	} while (0)

static void enter(bool uring, bool notify)
{
	const struct sandbox_config cfg = {.uring = uring, .notify = notify};
	char *cause = NULL;

	HOLDS(sandbox_begin(&cause) == 0);
	HOLDS(sandbox_drop(&cause) == 0);
	HOLDS(sandbox_shut(&cfg, &cause) == 0);
	HOLDS(cause == NULL);
	HOLDS(sandbox_refused() == 0);
}

/* The status of waitpid() of a child that does this. */
static int child(void (*what)(void *), void *arg)
{
	int status = 0;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(20);
		log_set_level((enum log_level)0); /* not a line a call */
		what(arg);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void holds(void (*what)(void *), void *arg)
{
	int status = child(what, arg);

	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("the child's status: %#x", (unsigned)status);
}

/* ---- refused --------------------------------------------------------------------------------- */

static void many_refused(void *uring)
{
	struct sockaddr addr = {.sa_family = AF_UNIX};
	struct epoll_event event;
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool on_uring = *(bool *)uring;
	pid_t parent = getppid();

	HOLDS(page != MAP_FAILED);
	enter(on_uring, false);
	REFUSED(socket(AF_INET, SOCK_STREAM, 0), EPERM);
	REFUSED(socket(AF_PACKET, SOCK_RAW, 0), EPERM);
	REFUSED(socket(AF_UNIX, SOCK_DGRAM, 0), EPERM);
	REFUSED(connect(0, &addr, sizeof addr), EPERM);
	REFUSED(bind(0, &addr, sizeof addr), EPERM);
	REFUSED(listen(0, 1), EPERM);
	REFUSED(open("/dev/null", O_WRONLY), EPERM);
	REFUSED(open("/dev/null", O_RDWR | O_TRUNC), EPERM);
	REFUSED(open("/dev/null", O_RDWR | O_APPEND), EPERM);
	REFUSED(open("/tmp", O_RDWR | O_TMPFILE, 0600), EPERM);
	REFUSED(mprotect(page, 4096, PROT_READ | PROT_EXEC), EPERM);
	REFUSED(
	    (intptr_t)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
	    EPERM);
	REFUSED(kill(parent, SIGTERM), EPERM);
	REFUSED(syscall(SYS_tgkill, 1, 1, SIGTERM), EPERM);
	REFUSED(chmod("/nothing", 0777), EPERM);
	REFUSED(chown("/nothing", 0, 0), EPERM);
	REFUSED(mkdir("/nothing/at/all", 0700), EPERM);
	REFUSED(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), EPERM);
	REFUSED(setuid(0), EPERM);
	REFUSED(syscall(SYS_io_setup, 1, NULL), EPERM);
	REFUSED(syscall(SYS_io_uring_register, -1, IORING_REGISTER_BUFFERS, NULL, 0), EPERM);
	REFUSED(syscall(NO_CALL), ENOSYS);
	/* the other engine's */
	errno = 0;
	if (on_uring) {
		REFUSED(epoll_wait(-1, &event, 1, 0), EPERM);
		HOLDS(syscall(SYS_io_uring_register, -1, IORING_REGISTER_FILES_UPDATE2, NULL, 0) ==
			  -1 &&
		      errno != EPERM);
		HOLDS(syscall(SYS_io_uring_register, -1, 1u << 31 | IORING_REGISTER_BUFFERS_UPDATE,
			      NULL, 0) == -1 &&
		      errno != EPERM);
	} else {
		REFUSED(syscall(SYS_io_uring_enter, -1, 0, 0, 0, NULL, 0), EPERM);
		HOLDS(epoll_wait(-1, &event, 1, 0) == -1 && errno == EBADF);
	}
}

static void refused(void **state)
{
	bool uring = true;

	(void)state;
	holds(many_refused, &uring);
	uring = false;
	holds(many_refused, &uring);
}

static void service_manager(void *arg)
{
	(void)arg;
	enter(true, true);
	HOLDS(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) >= 0);
	REFUSED(socket(AF_UNIX, SOCK_STREAM, 0), EPERM);
	REFUSED(socket(AF_INET, SOCK_DGRAM, 0), EPERM);
}

static void notify(void **state)
{
	(void)state;
	holds(service_manager, NULL);
}

/* ---- deadly ---------------------------------------------------------------------------------- */

static void do_exec(void)
{
	execl("/bin/true", "true", NULL);
}

static void do_fork(void)
{
	(void)fork();
}

static void do_vfork(void)
{
	(void)syscall(SYS_vfork);
}

static void do_trace(void)
{
	(void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static void do_write_other(void)
{
	char c = 0;
	struct iovec here = {&c, 1}, there = {&c, 1};

	(void)process_vm_writev(1, &here, 1, &there, 1, 0);
}

static void do_ring(void)
{
	(void)syscall(SYS_io_uring_setup, 1, NULL);
}

static void do_namespace(void)
{
	(void)syscall(SYS_unshare, 0x10000000);
}

static void do_32_bit(void)
{
#if defined(__x86_64__)
	__asm__ volatile("int $0x80" : : "a"(20) : "memory"); /* getpid, by the other door */
#else
	do_exec();
#endif
}

static void one_deadly(void *arg)
{
	void (*const *what)(void) = arg;

	signal(SIGSYS, SIG_IGN); /* the kernel does not ask */
	enter(true, false);
	(*what)();
}

static void deadly(void **state)
{
	static void (*const all[])(void) = {do_exec,        do_fork, do_vfork,     do_trace,
					    do_write_other, do_ring, do_namespace, do_32_bit};

	(void)state;
	for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
		void (*what)(void) = all[i];
		int status = child(one_deadly, &what);

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("call %u: the child's status: %#x", i, (unsigned)status);
	}
}

/* ---- threads --------------------------------------------------------------------------------- */

static pthread_barrier_t opened, shut;

static void *thread_of_before(void *arg)
{
	(void)arg;
	HOLDS(sandbox_drop(NULL) == 0);
	pthread_barrier_wait(&opened);
	pthread_barrier_wait(&shut);
	REFUSED(socket(AF_INET, SOCK_STREAM, 0), EPERM);
	return NULL;
}

static void *thread_of_after(void *arg)
{
	(void)arg;
	REFUSED(socket(AF_INET, SOCK_STREAM, 0), EPERM);
	return NULL;
}

static bool line_is(const char *text, const char *name, const char *value)
{
	const char *at = strstr(text, name);

	return at != NULL && strncmp(at + strlen(name), value, strlen(value)) == 0;
}

static void status_of(pid_t tid, bool root)
{
	char name[64], text[8192];
	ssize_t n;
	int fd;

	snprintf(name, sizeof name, "/proc/self/task/%d/status", (int)tid);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	HOLDS(fd >= 0);
	n = read(fd, text, sizeof text - 1);
	HOLDS(n > 0);
	text[n] = '\0';
	HOLDS(line_is(text, "\nCapInh:\t", "0000000000000000\n"));
	HOLDS(line_is(text, "\nCapPrm:\t", "0000000000000000\n"));
	HOLDS(line_is(text, "\nCapEff:\t", "0000000000000000\n"));
	HOLDS(line_is(text, "\nCapAmb:\t", "0000000000000000\n"));
	HOLDS(!root || line_is(text, "\nCapBnd:\t", "0000000000000000\n"));
	HOLDS(line_is(text, "\nNoNewPrivs:\t", "1\n"));
	HOLDS(line_is(text, "\nSeccomp:\t", "2\n"));
	close(fd);
}

static void *tid_of_before(void *tid)
{
	*(pid_t *)tid = gettid();
	return thread_of_before(NULL);
}

static void threads_in(void *arg)
{
	const struct sandbox_config cfg = {.uring = true};
	bool root = geteuid() == 0;
	pthread_t before, after;
	pid_t tid = 0;

	(void)arg;
	HOLDS(pthread_barrier_init(&opened, NULL, 2) == 0 &&
	      pthread_barrier_init(&shut, NULL, 2) == 0);
	HOLDS(sandbox_begin(NULL) == 0);
	HOLDS(pthread_create(&before, NULL, tid_of_before, &tid) == 0);
	pthread_barrier_wait(&opened);
	HOLDS(sandbox_drop(NULL) == 0);
	HOLDS(sandbox_shut(&cfg, NULL) == 0);
	status_of(gettid(), root);
	status_of(tid, root);
	pthread_barrier_wait(&shut);
	HOLDS(pthread_join(before, NULL) == 0);
	HOLDS(pthread_create(&after, NULL, thread_of_after, NULL) == 0);
	HOLDS(pthread_join(after, NULL) == 0);
	HOLDS(sandbox_refused() == 2);
	/* sent by somebody, it is nothing */
	HOLDS(syscall(SYS_tgkill, getpid(), gettid(), SIGSYS) == 0);
	HOLDS(sandbox_refused() == 2);
}

static void threads(void **state)
{
	(void)state;
	holds(threads_in, NULL);
}

static void aborts(void *arg)
{
	(void)arg;
	enter(true, false);
	abort();
}

/* A failed assertion must still end it as it does elsewhere. */
static void aborting(void **state)
{
	int status = child(aborts, NULL);

	(void)state;
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

/* ---- where a layer is refused ---------------------------------------------------------------- */

/* From here on this call of the process fails; with two, also that one if its first argument is arg. */
static void forbid(unsigned call, unsigned call2, unsigned arg)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 3, 0),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call2, 0, 3),
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, arg, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof code / sizeof *code, code};

	HOLDS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	HOLDS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0);
}

static void no_seccomp(void *arg)
{
	const struct sandbox_config cfg = {.uring = true};
	char *cause = NULL;

	(void)arg;
	forbid(SYS_seccomp, SYS_prctl, PR_SET_SECCOMP);
	HOLDS(sandbox_begin(&cause) == 0);
	HOLDS(sandbox_drop(&cause) == 0);
	HOLDS(sandbox_shut(&cfg, &cause) < 0);
	HOLDS(cause != NULL && strstr(cause, "seccomp") != NULL && strchr(cause, '\n') == NULL);
	HOLDS(socket(AF_INET, SOCK_STREAM, 0) >= 0); /* so it is not there */
}

static void no_capset(void *arg)
{
	char *cause = NULL;

	(void)arg;
	if (geteuid() == 0) {
		forbid(SYS_capset, SYS_capset, 0);
		HOLDS(sandbox_drop(&cause) == -EACCES);
		HOLDS(cause != NULL && strstr(cause, "capabilities") != NULL);
	}
}

/* Who has none needs no leave to drop them. */
static void no_capset_no_need(void *arg)
{
	char *cause = NULL;

	(void)arg;
	HOLDS(sandbox_drop(&cause) == 0);
	forbid(SYS_capset, SYS_capset, 0);
	HOLDS(sandbox_drop(&cause) == 0);
	HOLDS(cause == NULL);
}

static void no_privs_bit(void *arg)
{
	char *cause = NULL;

	(void)arg;
	forbid(NO_CALL, SYS_prctl, PR_SET_NO_NEW_PRIVS);
	HOLDS(sandbox_begin(&cause) == -EACCES);
	HOLDS(cause != NULL && strstr(cause, "no_new_privs") != NULL);
}

static void layers_refused(void **state)
{
	(void)state;
	holds(no_seccomp, NULL);
	holds(no_capset, NULL);
	holds(no_capset_no_need, NULL);
	holds(no_privs_bit, NULL);
}

/* Builds that need more than the list say so instead. */
static void unfit(void **state)
{
	(void)state;
	assert_non_null(sandbox_unfit());
	assert_non_null(strstr(sandbox_unfit(), "system calls of its own"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(refused), cmocka_unit_test(notify),   cmocka_unit_test(deadly),
	    cmocka_unit_test(threads), cmocka_unit_test(aborting), cmocka_unit_test(layers_refused),
	};
	const struct CMUnitTest other[] = {cmocka_unit_test(unfit)};

	if (sandbox_unfit() != NULL)
		return cmocka_run_group_tests_name("no sandbox", other, NULL, NULL);
	return cmocka_run_group_tests_name("sandbox", tests, NULL, NULL);
}
