/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes
 *
 * Threads of the libevent engine that a device keeps: others take their places, files that answer are served, what
 * waits for a file that does not can be cancelled, and all is as before when it answers again. Reads of
 * one file hang here: pread(2) is this program's own.
 */
#include <dirent.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "tests/unit/io_test.h"

#define THREADS 2
#define PAGE    4096

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int fd;       /* -1: none */
	unsigned may; /* reads of it that still go through */
	unsigned in;  /* reads that hang */
} hang = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, -1, 0, 0};

ssize_t pread(int fd, void *buf, size_t n, off_t off)
{
	pthread_mutex_lock(&hang.lock);
	if (fd == hang.fd && hang.may > 0) {
		hang.may--;
	} else if (fd == hang.fd) {
		hang.in++;
		pthread_cond_broadcast(&hang.changed);
		while (fd == hang.fd)
			pthread_cond_wait(&hang.changed, &hang.lock);
		hang.in--;
	}
	pthread_mutex_unlock(&hang.lock);
	return syscall(SYS_pread64, fd, buf, n, off);
}

static void set_hanging(int fd, unsigned may)
{
	pthread_mutex_lock(&hang.lock);
	hang.fd = fd;
	hang.may = may;
	pthread_cond_broadcast(&hang.changed);
	pthread_mutex_unlock(&hang.lock);
}

static unsigned hanging(void)
{
	unsigned n;

	pthread_mutex_lock(&hang.lock);
	n = hang.in;
	pthread_mutex_unlock(&hang.lock);
	return n;
}

/* The threads for the disk, by their name. */
static unsigned threads(void)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		char path[300], name[32] = "";
		FILE *f;

		snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
		f = fopen(path, "re");
		if (f == NULL)
			continue;
		if (fgets(name, sizeof name, f) != NULL && strcmp(name, "disk\n") == 0)
			n++;
		fclose(f);
	}
	closedir(d);
	return n;
}

struct world {
	struct io *io;
	struct io_file *file[2];
	char dir[64], path[2][128];
	char *mem;
};

static int setup(void **state)
{
	const struct io_config c = {.pool_only = true, .disk_threads = THREADS};
	struct world *w = calloc(1, sizeof *w);
	char *cause = NULL;

	assert_non_null(w);
	engine = &io_libevent_engine;
	strcpy(w->dir, "io-pool-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(io_open(engine, &c, &w->io, &cause), 0);
	for (int i = 0; i < 2; i++) {
		snprintf(w->path[i], sizeof w->path[i], "%s/%d", w->dir, i);
		assert_int_equal(
		    engine->file_open(engine, w->path[i], 1 << 20, &w->file[i], &cause), 0);
	}
	assert_int_equal(posix_memalign((void **)&w->mem, PAGE, 64 * PAGE), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	io_close(&w->io);
	/* one that was joined stands in /proc until the kernel has done with it, a moment later */
	for (uint64_t end = clock_ns() + 10 * NS_PER_S; threads() > 0 && clock_ns() < end;)
		usleep(1000);
	assert_int_equal(threads(), 0);
	for (int i = 0; i < 2; i++) {
		engine->file_close(w->file[i]);
		unlink(w->path[i]);
	}
	rmdir(w->dir);
	free(w->mem);
	free(w);
	return 0;
}

static void get(struct world *w, struct box *b, int file, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		io_read(w->io, &b[i].op, w->file[file], w->mem + i * PAGE, PAGE, i * PAGE,
			box_done);
}

static int fd_of(const struct world *w, int file)
{
	char link[64], name[4200], *real = realpath(w->path[file], NULL);
	int found = -1;

	assert_non_null(real);
	for (int fd = 3; fd < 200 && found < 0; fd++) {
		ssize_t len;

		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		len = readlink(link, name, sizeof name - 1);
		name[len > 0 ? len : 0] = '\0';
		if (strcmp(name, real) == 0)
			found = fd;
	}
	free(real);
	assert_true(found >= 0);
	return found;
}

static void a_file_that_hangs(void **state)
{
	enum { N = 8 };
	struct world *w = *state;
	struct box a[N] = {0}, b[N] = {0};
	unsigned begun = 0;

	set_hanging(fd_of(w, 0), 0);
	get(w, a, 0, N);
	get(w, b, 1, N);
	turn_until(w->io, hanging() == THREADS);
	for (int i = 0; i < N; i++) { /* in order, and the rest is not the device's yet */
		assert_int_equal(io_op_begun(&a[i].op), i < THREADS);
		assert_false(io_op_begun(&b[i].op));
	}
	assert_int_equal(io_turn(w->io, 20 * NS_PER_MS), 0);
	io_cancel(w->io, &a[0].op);
	turn_until(w->io, hanging() == THREADS + 1); /* a[2] in its place */
	assert_int_equal(b[0].calls, 0);
	io_cancel(w->io, &a[1].op);
	for (int i = 0; i < N; i++) /* one thread is enough for all of the other file */
		turn_until(w->io, b[i].lasts == 1 && b[i].res == PAGE);
	for (int i = 0; i < N; i++) /* what is held counts as begun: nobody waits for it for ever */
		begun += io_op_begun(&a[i].op);
	assert_int_equal(begun, N);
	assert_int_equal(hanging(), THREADS + 1);
	assert_in_range(threads(), THREADS + 1, 2 * THREADS);
	io_cancel(w->io, &a[2].op);
	io_cancel(w->io, &a[3].op);
	turn_until(w->io, a[3].lasts == 1);
	assert_int_equal(a[3].res, -ECANCELED);
	assert_int_equal(a[2].lasts, 0); /* the kernel has it */
	get(w, b, 1, N);
	for (int i = 0; i < N; i++)
		turn_until(w->io, b[i].lasts == 2);
	assert_in_range(threads(), THREADS, 2 * THREADS + 1);

	set_hanging(-1, 0);
	for (int i = 0; i < N; i++) {
		turn_until(w->io, a[i].lasts == 1);
		assert_int_equal(a[i].calls, 1);
		assert_int_equal(a[i].res, i == 3 ? -ECANCELED : PAGE);
	}
	turn_until(w->io, threads() <= THREADS);
	get(w, a, 0, N);
	for (int i = 0; i < N; i++)
		turn_until(w->io, a[i].lasts == 2 && a[i].res == PAGE);
}

/* One place that cannot be read is not the whole device: the others of its file are. */
static void one_read_that_hangs(void **state)
{
	enum { N = 20 };
	struct world *w = *state;
	struct box bad = {0}, a[N] = {0};

	set_hanging(fd_of(w, 0), 0);
	get(w, &bad, 0, 1);
	turn_until(w->io, hanging() == 1);
	io_cancel(w->io, &bad.op);
	set_hanging(fd_of(w, 0), N);
	get(w, a, 0, N);
	for (int i = 0; i < N; i++)
		turn_until(w->io, a[i].lasts == 1 && a[i].res == PAGE);
	assert_int_equal(bad.lasts, 0);
	set_hanging(-1, 0);
	turn_until(w->io, bad.lasts == 1);
	assert_int_equal(bad.res, PAGE);
}

#define on(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {on(a_file_that_hangs), on(one_read_that_hangs)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
