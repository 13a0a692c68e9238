/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared memory torn anywhere: a process that has a store open is run instruction by instruction through
 * a scene (torn_scenes.c). While it is stopped, its files of shared memory and its disk are exactly what
 * SIGKILL at that instruction would leave, so they are copied, a start is made on the copy, and every
 * promise is checked (torn_check.c). Instructions that change nothing of what would be left leave the
 * same, and share a check.
 *
 *   torn [--all] [--seed N] [--late | --early] [scene ...]
 *     --all    every state that differs from the one before is checked; else, of those in which only bytes
 *              of records or of the disk differ, one in scene.every, as the seed says
 *
 * Each scene is run twice: disk writes take effect when they are submitted (early), or when they complete.
 */
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "tests/crash/torn.h"

#define SKIP        77
#define HANG        60u   /* seconds that a check may take */
#define WHOLE_EVERY 4096u /* instructions: was looking at the last write's place enough? */

extern const char __executable_start[];

struct told *told;

static struct rig rig; /* the children's: they fork with it closed */
static struct mapped machine;
static uint8_t *disk;
static int disk_fd;
static pid_t parent, child;
static uint64_t seed = 1;
static bool all;

static struct point {
	const struct scene *scene;
	uint64_t step, state;
} point;

static struct {
	uint64_t steps, states, checked, covered, starts, missed;
} sum;

/* ---- where it went wrong ----------------------------------------------------------------------- */

static void say_point(void) // NOLINTBEGIN(bugprone-signal-handler): it ends, and says what it can
{
	char what[64], cmd[200], exe[100];
	uint64_t at = child > 0 ? step_at(child) : 0,
		 base = (uint64_t)(uintptr_t)__executable_start;
	ssize_t n;

	if (point.scene == NULL)
		return;
	check_name(what, sizeof what);
	fprintf(stderr,
		"torn: scene %s, writes %s, killed at instruction %" PRIu64 " (state %" PRIu64
		"): %s\n",
		point.scene->name, machine.early ? "early" : "late", point.step, point.state, what);
	n = readlink("/proc/self/exe", exe, sizeof exe - 1);
	if (n > 0 && at >= base) {
		exe[n] = '\0';
		snprintf(cmd, sizeof cmd, "addr2line -f -e %s %#" PRIx64 " | head -2 >&2", exe,
			 at - base);
		(void)!system(cmd);
	}
}

static void on_signal(int sig)
{
	if (getpid() == parent) {
		fprintf(stderr,
			sig == SIGALRM ? "torn: a check hangs\n" : "torn: an assertion failed\n");
		say_point();
		check_abandon();
		rig_remove_dir(rig.shm);
		rig_remove_dir(rig.dir);
	}
	signal(SIGABRT, SIG_DFL);
	abort();
} // NOLINTEND(bugprone-signal-handler)

static int teardown(void **state)
{
	(void)state;
	if (point.scene != NULL) {
		say_point();
		check_abandon();
	}
	if (child > 0) {
		kill(child, SIGKILL);
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
		child = 0;
	}
	point.scene = NULL;
	return 0;
}

/* ---- children ---------------------------------------------------------------------------------- */

static void folder_empty(void)
{
	rig_remove_dir(rig.shm);
	assert_int_equal(mkdir(rig.shm, 0700), 0);
}

/* Nothing is left of what was before. */
static void anew(void)
{
	folder_empty();
	assert_int_equal(ftruncate(disk_fd, 0), 0);
	assert_int_equal(ftruncate(disk_fd, (off_t)DISK_SIZE), 0);
	told->over = false;
}

static pid_t fork_one(void)
{
	pid_t pid;

	(void)fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid ==
	    0) /* a failed assertion of cmocka's ends it, and no test of the parent's goes on here */
		(void)setenv("CMOCKA_TEST_ABORT", "1", 1);
	return pid;
}

static void wait_well(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("scene %s: a child ended with status %#x", point.scene->name, status);
}

/* What keys hold before the scene (0), or after it (1), says a process that nobody kills. */
static void measure(const struct scene *sc, unsigned which)
{
	pid_t pid;

	anew();
	pid = fork_one();
	if (pid == 0) {
		rig_open(&rig);
		sc->prepare(&rig);
		if (which == 1)
			sc->act(&rig);
		check_measure(&rig, which);
		_exit(0);
	}
	wait_well(pid);
}

/* The number that the scene is about. */
static void search(const struct scene *sc)
{
	pid_t pid;

	anew();
	pid = fork_one();
	if (pid == 0) {
		rig_open(&rig);
		sc->prepare(&rig);
		_exit(told->number == 0);
	}
	wait_well(pid);
}

/* A child that is about to do the scene; or only the start, on what is there. */
static void begin(const struct scene *sc, bool start_only)
{
	child = fork_one();
	if (child == 0) {
		if (start_only) {
			rig.cfg.no_attach = sc->from_disk;
		} else {
			rig_open(&rig);
			sc->prepare(&rig);
			memset((void *)(uintptr_t)told->answered, 0, sizeof told->answered);
		}
		machine.last = &told->write;
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(SKIP);
		raise(SIGSTOP);
		sc->act(&rig);
		told->over = true;
		pause();
	}
	if (!step_begin(child))
		fail_msg("the child does not stop");
}

static void end(void)
{
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	child = 0;
}

/* ---- a scene ----------------------------------------------------------------------------------- */

static void go_on(void)
{
	int status = 0;

	if (!step(child, &status)) {
		child = WIFSTOPPED(status) ? child : 0;
		fail_msg("the stepped process has failed by itself, status %#x", status);
	}
	point.step++;
}

/* The scene is stepped and killed at its moment; what that leaves stays. */
static void step_to(const struct scene *sc, bool (*moment)(const struct sight *v))
{
	struct sight v;

	begin(sc, false);
	sight_open(&v, rig.shm, disk, DISK_SIZE, &told->write);
	for (bool there = false; !there; there = sight_changed(&v) != SIGHT_SAME && moment(&v)) {
		if (told->over)
			fail_msg("there is no such moment in scene %s", sc->name);
		go_on();
	}
	end();
	sight_close(&v);
	point.step = 0;
}

static const struct scene *scene_named(const char *name)
{
	for (unsigned i = 0; i < scene_count; i++)
		if (strcmp(scene_list[i].name, name) == 0)
			return &scene_list[i];
	return NULL;
}

static void run(const struct scene *sc, bool early)
{
	const struct scene *first = sc->after != NULL ? scene_named(sc->after) : sc;
	uint64_t states = 0, checked = 0, covered = 0, changed_keys = 0;
	struct found found = {0};
	bool fresh = false;
	struct sight v;

	point = (struct point){.scene = sc};
	machine.early = early;
	memset(told, 0, sizeof *told);
	if (first->searches)
		search(first);
	measure(first, 0);
	measure(first, 1);
	for (uint32_t k = 0; k < KEYS; k++)
		changed_keys += told->id[0][k] != told->id[1][k];
	memset((void *)(uintptr_t)told->answered, 0, sizeof told->answered);
	anew();
	if (sc->after != NULL)
		step_to(first, sc->moment);
	begin(sc, sc->after != NULL);
	sight_open(&v, rig.shm, disk, DISK_SIZE, &told->write);
	check_open(&v, disk_fd);
	for (unsigned changed = SIGHT_WORDS;; changed = sight_changed(&v)) {
		if (changed != SIGHT_SAME) {
			point.state = ++states;
			fresh = all || (changed & SIGHT_WORDS) || sc->every < 2 ||
				rig_mix(seed * 0x10001 + states) % sc->every == 0;
			if (fresh) {
				alarm(HANG);
				check_state(&v, ++checked, &found);
				alarm(0);
			}
		}
		covered += fresh;
		if (point.step % WHOLE_EVERY == 0 && !sight_whole(&v))
			fail_msg("the disk has changed where nobody looked");
		if (told->over)
			break;
		go_on();
	}
	if (!sight_whole(&v))
		fail_msg("the disk has changed where nobody looked");
	end();
	/* answered, and as it was told */
	alarm(HANG);
	check_state(&v, ++checked, &found);
	alarm(0);
	check_close();
	sight_close(&v);
	printf("%-16s %-5s %8" PRIu64 " instructions, %6" PRIu64 " states; checked %6" PRIu64
	       ", which are %8" PRIu64 " instructions; %" PRIu64
	       " keys differ; first starts: %" PRIu64 " from memory, %" PRIu64
	       " from disk, laps %" PRIu64 ", again %" PRIu64 "\n",
	       sc->name, early ? "early" : "late", point.step, states, checked, covered,
	       changed_keys, found.from_shm, found.from_disk, found.laps, told->again);
	sum.steps += point.step;
	sum.states += states;
	sum.checked += checked;
	sum.covered += covered;
	sum.starts += found.starts;
	sum.missed += found.missed;
	point.scene = NULL;
}

static void late(void **state)
{
	run(*state, false);
}

static void early(void **state)
{
	run(*state, true);
}

/* ---- the whole --------------------------------------------------------------------------------- */

/* May a child of ours be traced? Containers may refuse. */
static bool may_trace(void)
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 ? SKIP : 0);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static bool chosen(const char *name, char *const *want, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(want[i], name) == 0)
			return true;
	return n == 0;
}

int main(int argc, char **argv)
{
	static struct CMUnitTest tests[64];
	static char names[64][40];
	bool want[2] = {true, true};
	unsigned n = 0;
	cpu_set_t one;
	int failed, at = 1;

	for (; at < argc && argv[at][0] == '-'; at++) {
		if (strcmp(argv[at], "--all") == 0) {
			all = true;
		} else if (strcmp(argv[at], "--seed") == 0 && at + 1 < argc) {
			seed = strtoull(argv[++at], NULL, 0);
		} else if (strcmp(argv[at], "--late") == 0) {
			want[1] = false;
		} else if (strcmp(argv[at], "--early") == 0) {
			want[0] = false;
		} else {
			fprintf(stderr, "torn [--all] [--seed N] [--late | --early] [scene ...]\n");
			return 2;
		}
	}
	for (unsigned i = 0; i < scene_count; i++)
		for (unsigned e = 0; e < 2; e++) {
			/* in a start hardly anything is written: once is enough for the sample */
			if (!want[e] || (e == 1 && scene_list[i].after != NULL && !all) ||
			    !chosen(scene_list[i].name, argv + at, argc - at))
				continue;
			snprintf(names[n], sizeof names[n], "%s-%s", scene_list[i].name,
				 e ? "early" : "late");
			tests[n] =
			    (struct CMUnitTest){.name = names[n],
						.test_func = e ? early : late,
						.teardown_func = teardown,
						.initial_state = (void *)(uintptr_t)&scene_list[i]};
			n++;
		}
	/* a string instruction is a step for each of its bytes: a hundred thousand points in one long copy */
	if (getenv("GLIBC_TUNABLES") == NULL) {
		(void)setenv("GLIBC_TUNABLES",
			     "glibc.cpu.x86_rep_movsb_threshold=16777216:"
			     "glibc.cpu.x86_rep_stosb_threshold=16777216",
			     1);
		(void)execv("/proc/self/exe", argv);
		return 1;
	}
	if (!may_trace()) {
		printf("this machine does not let a process trace its child\n");
		return SKIP;
	}
	/* two processes that take turns: on one processor, without waking another */
	CPU_ZERO(&one);
	CPU_SET((unsigned)sched_getcpu(), &one);
	(void)sched_setaffinity(0, sizeof one, &one);
	parent = getpid();
	signal(SIGABRT, on_signal);
	signal(SIGALRM, on_signal);
	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	disk_fd = memfd_create("torn", MFD_CLOEXEC);
	if (told == MAP_FAILED || disk_fd < 0 || ftruncate(disk_fd, (off_t)DISK_SIZE) < 0)
		return 1;
	disk = mmap(NULL, DISK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, disk_fd, 0);
	if (disk == MAP_FAILED)
		return 1;
	torn_rig(&rig, &machine, disk);
	failed = _cmocka_run_group_tests("torn", tests, n, NULL, NULL);
	rig_free(&rig);
	printf("seed %" PRIu64 ": %" PRIu64 " instructions, %" PRIu64
	       " states that differ; checked %" PRIu64 " of them, which are %" PRIu64
	       " instructions, with %" PRIu64 " starts\n",
	       seed, sum.steps, sum.states, sum.checked, sum.covered, sum.starts);
	return failed != 0;
}
