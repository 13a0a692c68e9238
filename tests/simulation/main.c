/* SPDX-License-Identifier: Apache-2.0 */
/*
 * simulate: runs schedules by seed, in several processes; a failing one is shrunk and printed.
 *
 * The parent runs no schedule: a violation, an assertion or a crash of the store ends a child, and the
 * seed that it was at stands in memory that all share.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/simulation/simulation.h"

#define JOBS_MAX       16u
#define OPS            2000u
#define CHILD_SECONDS  60u
#define SHRINK_SECONDS 30u
#define TEXT           4096u

struct shared {
	struct cover cover;
	_Atomic uint64_t next, done;
	_Atomic uint64_t at[JOBS_MAX];
};

static struct shared *shared;
static int job_text[JOBS_MAX]; /* what a job has said, for failures that do not come again */
static uint64_t first = 1, last = 100;
static unsigned jobs = 1, ops = OPS;
static bool calm, verbose, keep_going, must_cover, twice, shrink_it = true;

static double seconds(void)
{
	return (double)clock_ns() / 1e9;
}

static void quiet(void)
{
	log_set_level(verbose && getenv("SIM_LOG") != NULL ? LOG_INFO : (enum log_level)0);
}

static void run_seed(uint64_t seed)
{
	struct plan p;

	plan_make(&p, seed, ops, calm);
	world_run(&p, false);
	if (twice) {
		uint64_t digest = world_digest;

		world_run(&p, false);
		if (world_digest != digest)
			violation("two runs of seed %" PRIu64 " were not the same", seed);
	}
	plan_free(&p);
}

/* ---- one plan in a child ----------------------------------------------------------------------- */

struct outcome {
	bool failed;
	char text[TEXT];
};

/* What a failure is about: its first line without numbers. */
static void gist(const char *text, char out[200])
{
	const char *v = strstr(text, ", step ");
	size_t n = 0;

	v = v != NULL ? strchr(v + 7, ':') : text;
	v = v != NULL ? v : text;
	for (; *v != '\0' && *v != '\n' && n < 199; v++)
		if (*v < '0' || *v > '9')
			out[n++] = *v;
	out[n] = '\0';
}

static void run_child(const struct plan *p, bool show, struct outcome *o)
{
	size_t n = 0;
	int fd[2], status;
	ssize_t got;
	pid_t pid;

	memset(o, 0, sizeof *o);
	AZ(pipe(fd));
	pid = fork();
	A(pid >= 0);
	if (pid == 0) {
		close(fd[0]);
		if (!show)
			dup2(fd[1], STDERR_FILENO);
		close(fd[1]);
		alarm(show ? 600 : CHILD_SECONDS);
		world_run(p, show);
		_exit(0);
	}
	close(fd[1]);
	while ((got = read(fd[0], o->text + n, TEXT - 1 - n)) > 0 || (got < 0 && errno == EINTR)) {
		n += got > 0 ? (size_t)got : 0;
		if (n == TEXT - 1) {
			/* the start of what it has to say is enough, the end matters more */
			memmove(o->text, o->text + TEXT / 2, n - TEXT / 2);
			n -= TEXT / 2;
		}
	}
	o->text[n] = '\0';
	close(fd[0]);
	A(waitpid(pid, &status, 0) == pid);
	o->failed = status != 0;
	if (WIFSIGNALED(status))
		snprintf(o->text + n, TEXT - n, "died of signal %d (%s)\n", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
}

/* ---- shrinking: delta debugging over the steps ------------------------------------------------- */

static void shrink(struct plan *p, const struct outcome *was)
{
	double end = seconds() + SHRINK_SECONDS;
	char want[200], have[200];
	unsigned runs = 0;

	gist(was->text, want);
	for (unsigned chunk = (p->n + 1) / 2; chunk > 0 && seconds() < end;) {
		bool any = false;

		for (unsigned at = p->n; at > 0 && seconds() < end;) {
			unsigned n = chunk < at ? chunk : at, from = at - n;
			struct plan less = {.setup = p->setup, .n = p->n - n};
			struct outcome o;

			less.step = malloc((less.n + 1) * sizeof *less.step);
			AN(less.step != NULL);
			memcpy(less.step, p->step, from * sizeof *p->step);
			memcpy(less.step + from, p->step + at, (p->n - at) * sizeof *p->step);
			run_child(&less, false, &o);
			runs++;
			gist(o.text, have);
			if (o.failed && strcmp(have, want) == 0) {
				free(p->step);
				p->step = less.step;
				p->n = less.n;
				any = true;
			} else {
				free(less.step);
			}
			at = from;
		}
		if (!any || chunk > 1)
			chunk /= 2;
	}
	fprintf(stderr, "shrunk to %u steps in %u runs\n", p->n, runs);
}

static void report(uint64_t seed, int status, int said)
{
	struct outcome o;
	struct plan p;

	plan_make(&p, seed, ops, calm);
	run_child(&p, false, &o);
	if (!o.failed) {
		fprintf(stderr,
			"seed %" PRIu64 " failed with status %x, but not when it ran alone\n", seed,
			(unsigned)status);
		if (pread(said, o.text, TEXT - 1, 0) > 0)
			fprintf(stderr, "%s", o.text);
		plan_free(&p);
		return;
	}
	fprintf(stderr, "seed %" PRIu64 " failed:\n%s", seed, o.text);
	if (shrink_it) {
		shrink(&p, &o);
		run_child(&p, false, &o);
		plan_print_setup(stderr, &p.setup);
		for (unsigned i = 0; i < p.n && i < 200; i++)
			plan_print_step(stderr, &p.setup, i, &p.step[i]);
		fprintf(stderr, "%s", o.text);
	}
	if (verbose)
		run_child(&p, true, &o);
	fprintf(stderr, "again: tests/simulate --seed %" PRIu64 "%s%s --verbose\n", seed,
		calm ? " --calm" : "", ops != OPS ? " with the same --ops" : "");
	plan_free(&p);
}

/* ---- many seeds -------------------------------------------------------------------------------- */

static pid_t start_job(unsigned job)
{
	pid_t pid = fork();

	A(pid >= 0);
	if (pid > 0)
		return pid;
	if (ftruncate(job_text[job], 0) < 0 || lseek(job_text[job], 0, SEEK_SET) < 0 ||
	    dup2(job_text[job], STDERR_FILENO) < 0)
		_exit(2);
	for (;;) {
		uint64_t seed = atomic_fetch_add(&shared->next, 1);

		if (seed > last)
			_exit(0);
		atomic_store(&shared->at[job], seed);
		alarm(CHILD_SECONDS);
		run_seed(seed);
		atomic_fetch_add(&shared->done, 1);
	}
}

static int many(void)
{
	pid_t pid[JOBS_MAX] = {0};
	unsigned running = 0, failures = 0;
	double began = seconds(), told = began;
	uint64_t all = last - first + 1;
	bool stop = false;

	atomic_store(&shared->next, first);
	for (unsigned i = 0; i < jobs; i++, running++) {
		job_text[i] = memfd_create("simulate", MFD_CLOEXEC);
		A(job_text[i] >= 0);
		pid[i] = start_job(i);
	}
	while (running > 0) {
		int status;
		pid_t who = waitpid(-1, &status, WNOHANG);

		if (who == 0) {
			struct timespec ts = {.tv_nsec = 50000000};
			double now = seconds();

			if (now - told > 10) {
				uint64_t done = atomic_load(&shared->done);

				told = now;
				fprintf(stderr,
					"%" PRIu64 " of %" PRIu64 " schedules, %.0f a second\n",
					done, all, (double)done / (now - began));
			}
			nanosleep(&ts, NULL);
			continue;
		}
		if (who < 0 && errno == EINTR)
			continue;
		A(who > 0);
		for (unsigned i = 0; i < jobs; i++) {
			if (pid[i] != who)
				continue;
			pid[i] = 0;
			running--;
			if (status == 0)
				continue;
			failures++;
			report(atomic_load(&shared->at[i]), status, job_text[i]);
			if (keep_going && !stop) {
				pid[i] = start_job(i);
				running++;
			} else {
				stop = true;
				atomic_store(&shared->next, last + 1);
			}
		}
	}
	fprintf(stderr, "%" PRIu64 " schedules in %.1f s\n", atomic_load(&shared->done),
		seconds() - began);
	if (cover_print(stdout, must_cover) > 0 && must_cover)
		failures++;
	printf("%" PRIu64 " passed, %u failed\n", atomic_load(&shared->done), failures);
	return failures > 0 ? 1 : 0;
}

static int usage(void)
{
	fprintf(
	    stderr,
	    "simulate [--seeds A-B] [--seed N] [--ops N] [--jobs N] [--calm] [--cover] [--twice] [--keep-going] "
	    "[--no-shrink] [--verbose]\n"
	    "  --seeds A-B   these schedules (1-100)\n"
	    "  --seed N      this one; with --verbose all that happens in what is left after shrinking, "
	    "or in the whole if it passes\n"
	    "  --calm        deaths, and no other fault\n"
	    "  --ops N       operations a schedule (%u)\n"
	    "  --jobs N      processes\n"
	    "  --cover       fail if a cell of the coverage table is empty\n"
	    "  --twice       run each seed twice and compare\n"
	    "  --keep-going  after a failure\n",
	    OPS);
	return 2;
}

/* A flag with its value. */
static bool flag(const char *a, const char *v)
{
	if (strcmp(a, "--seeds") == 0)
		return sscanf(v, "%" SCNu64 "-%" SCNu64, &first, &last) == 2;
	if (strcmp(a, "--seed") == 0)
		first = last = strtoull(v, NULL, 10);
	else if (strcmp(a, "--ops") == 0)
		ops = (unsigned)strtoul(v, NULL, 10);
	else if (strcmp(a, "--jobs") == 0)
		jobs = (unsigned)strtoul(v, NULL, 10);
	else
		return false;
	return true;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(a, "--verbose") == 0)
			verbose = true;
		else if (strcmp(a, "--cover") == 0)
			must_cover = true;
		else if (strcmp(a, "--calm") == 0)
			calm = true;
		else if (strcmp(a, "--twice") == 0)
			twice = true;
		else if (strcmp(a, "--keep-going") == 0)
			keep_going = true;
		else if (strcmp(a, "--no-shrink") == 0)
			shrink_it = false;
		else if (v == NULL || !flag(a, v))
			return usage();
		else
			i++;
	}
	if (jobs < 1 || jobs > JOBS_MAX || ops < 1 || last < first)
		return usage();
	quiet();
	shared =
	    mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	A(shared != MAP_FAILED);
	cover = &shared->cover;
	if (verbose && first == last) {
		struct plan p;
		struct outcome o;

		plan_make(&p, first, ops, calm);
		run_child(&p, false, &o);
		if (!o.failed) {
			plan_print_setup(stderr, &p.setup);
			run_child(&p, true, &o);
			plan_free(&p);
			printf("1 passed, 0 failed\n");
			return 0;
		}
		plan_free(&p);
	}
	return many();
}
