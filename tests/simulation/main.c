/* SPDX-License-Identifier: Apache-2.0 */
/*
 * simulate: runs schedules by seed, in several processes; a failing one is shrunk and printed.
 *
 * The parent runs no schedule: a violation, an assertion or a crash of the store ends a child, and the
 * seed that it was at stands in memory that all share.
 */
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/simulation/simulation.h"

#define JOBS_MAX 16u

struct shared {
	struct cover cover;
	_Atomic uint64_t next, done;
	_Atomic uint64_t at[JOBS_MAX]; /* 0: at none */
	_Atomic bool stop;
};

static struct shared *shared;
static volatile sig_atomic_t stopped;
static const char *shard_file;
static struct shard *shard;    /* NULL: nothing is kept */
static int job_text[JOBS_MAX]; /* what a job has said, for failures that do not come again */
static uint64_t first = 1, last = 100;
static unsigned jobs = 1, ops = SIM_OPS;
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
	signal(SIGINT, SIG_IGN); /* the parent says when */
	signal(SIGTERM, SIG_IGN);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		uint64_t seed;

		if (atomic_load(&shared->stop))
			_exit(0);
		/* in this order, so that no seed is between the two */
		atomic_store(&shared->at[job], atomic_load(&shared->next));
		seed = atomic_fetch_add(&shared->next, 1);
		if (seed > last)
			_exit(0);
		atomic_store(&shared->at[job], seed);
		alarm(SIM_SECONDS);
		run_seed(seed);
		atomic_fetch_add(&shared->done, 1);
	}
}

/* All seeds below this one have been run. */
static uint64_t low_water(void)
{
	uint64_t low = atomic_load(&shared->next);

	for (unsigned i = 0; i < jobs; i++) {
		uint64_t at = atomic_load(&shared->at[i]);

		low = at != 0 && at < low ? at : low;
	}
	return low <= last ? low : last + 1;
}

static void save(uint64_t failures)
{
	if (shard == NULL)
		return;
	shard->next = low_water();
	shard->failures = failures;
	memcpy(&shard->cover, &shared->cover, sizeof shard->cover);
	shard_save(shard_file, shard);
}

static void show_progress(uint64_t failures, double began)
{
	uint64_t done = low_water() - first, all = last - first + 1,
		 ran = atomic_load(&shared->done);
	double rate = (double)ran / (seconds() - began);
	char bar[31] = "..............................";

	memset(bar, '#', done * 30 / all);
	fprintf(stderr,
		"%s[%s] %5.1f %%  %" PRIu64 " of %" PRIu64 ", %.0f a second, %" PRIu64
		" failed, %.0f min left%s",
		isatty(STDERR_FILENO) ? "\r" : "", bar, 100.0 * (double)done / (double)all, done,
		all, rate, failures, rate > 0 ? (double)(all - done) / rate / 60 : 0.0,
		isatty(STDERR_FILENO) ? "   " : "\n");
}

static void on_stop(int sig)
{
	(void)sig;
	stopped = 1;
}

static int many(void)
{
	pid_t pid[JOBS_MAX] = {0};
	const struct report_how how = {ops, calm, verbose, shrink_it};
	unsigned running = 0;
	uint64_t failures = shard != NULL ? shard->failures : 0;
	double began = seconds(), told = began;
	bool stop = false, tty = isatty(STDERR_FILENO);

	atomic_store(&shared->next, shard != NULL ? shard->next : first);
	for (unsigned i = 0; i < jobs; i++, running++) {
		job_text[i] = memfd_create("simulate", MFD_CLOEXEC);
		A(job_text[i] >= 0);
		pid[i] = start_job(i);
	}
	signal(SIGINT, on_stop);
	signal(SIGTERM, on_stop);
	while (running > 0) {
		int status;
		pid_t who = waitpid(-1, &status, WNOHANG);

		if (stopped && !stop) { /* each job ends what it is at */
			stop = true;
			atomic_store(&shared->stop, true);
		}
		if (who == 0) {
			struct timespec ts = {.tv_nsec = 50000000};

			if (seconds() - told > (tty ? 1 : 20)) {
				told = seconds();
				show_progress(failures, began);
				save(failures);
			}
			nanosleep(&ts, NULL);
			continue;
		}
		if (who < 0 && errno == EINTR)
			continue;
		A(who > 0);
		for (unsigned i = 0; i < jobs; i++) {
			uint64_t seed = atomic_load(&shared->at[i]);

			if (pid[i] != who)
				continue;
			pid[i] = 0;
			running--;
			atomic_store(&shared->at[i], 0);
			if (status == 0)
				continue;
			failures++;
			report(&how, seed, status, job_text[i]);
			if (keep_going && !stop) {
				pid[i] = start_job(i);
				running++;
			} else {
				stop = true;
				atomic_store(&shared->stop, true);
			}
		}
	}
	save(failures);
	fprintf(stderr, "%s%" PRIu64 " schedules in %.1f s\n", tty ? "\n" : "",
		atomic_load(&shared->done), seconds() - began);
	if (cover_print(stdout, must_cover && !stopped) > 0 && must_cover && !stopped)
		failures++;
	printf("%" PRIu64 " passed, %" PRIu64 " failed\n", atomic_load(&shared->done), failures);
	return failures > 0 || stopped ? 1 : 0;
}

static int usage(void)
{
	fprintf(
	    stderr,
	    "simulate [--seeds A-B] [--seed N] [--ops N] [--jobs N] [--calm] [--cover] [--twice] [--keep-going] "
	    "[--no-shrink] [--verbose] [--shard FILE]\nsimulate --total FILE...\n"
	    "  --seeds A-B   these schedules (1-100)\n"
	    "  --seed N      this one; with --verbose all that happens in what is left after shrinking, "
	    "or in the whole if it passes\n"
	    "  --calm        deaths, and no other fault\n"
	    "  --ops N       operations a schedule (%u)\n"
	    "  --jobs N      processes\n"
	    "  --cover       fail if a cell of the coverage table is empty\n"
	    "  --twice       run each seed twice and compare\n"
	    "  --keep-going  after a failure\n"
	    "  --shard FILE  keeps there how far it is and what it has met, and goes on from there\n"
	    "  --total FILE  adds shards up\n",
	    SIM_OPS);
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
	else if (strcmp(a, "--shard") == 0)
		shard_file = v;
	else if (strcmp(a, "--jobs") == 0)
		jobs = (unsigned)strtoul(v, NULL, 10);
	else
		return false;
	return true;
}

static int total(char *const *path, unsigned n)
{
	static struct cover sum;
	uint64_t all = shard_total(path, n, &sum);

	cover = &sum;
	if (all == 0)
		return 2;
	(void)cover_print(stdout, true);
	printf("%" PRIu64 " schedules\n", all);
	return 0;
}

/* Takes up what the shard's file says. */
static bool resume(void)
{
	static struct shard s;

	s.first = s.next = first;
	s.last = last;
	if (!shard_load(shard_file, &s)) {
		fprintf(stderr, "%s is of other seeds, or of another version\n", shard_file);
		return false;
	}
	memcpy(&shared->cover, &s.cover, sizeof s.cover);
	shard = &s;
	return true;
}

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "--total") == 0)
		return total(argv + 2, (unsigned)argc - 2);
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
	/* a schedule opens its store many times: memory is kept, and only what is used is zeroed */
	(void)mallopt(M_MMAP_THRESHOLD, 256 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 256 << 20);
	(void)mallopt(M_TOP_PAD, 4 << 20);
	(void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	shared =
	    mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	A(shared != MAP_FAILED);
	cover = &shared->cover;
	if (shard_file != NULL && !resume())
		return 2;
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
