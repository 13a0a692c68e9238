/* SPDX-License-Identifier: Apache-2.0 */
/* Opening store files and rings: what is found, and a sentence with the remedy for what is wrong.
 */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/unit/io_test.h"

#define MIB (1u << 20)

static char dir[64], path[128];

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "io-open-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/store", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

#define e engine

/* Opening must fail with err and a sentence that has each of the words. */
static void refused(const char *p, uint64_t size, int err, const char *word1, const char *word2)
{
	struct io_file *f = NULL;
	char *cause = NULL;

	assert_int_equal(e->file_open(e, p, size, &f, &cause), err);
	assert_non_null(cause);
	if (strstr(cause, word1) == NULL || strstr(cause, word2) == NULL ||
	    strstr(cause, p) == NULL)
		fail_msg("cause: %s", cause);
	assert_null(strchr(cause, '\n'));
	free(cause);
	assert_null(f);
}

static void a_new_file(void **state)
{
	struct io_file *f;
	struct stat st;
	char *cause = NULL;

	(void)state;
	assert_int_equal(e->file_open(e, path, 3 * MIB, &f, &cause), 0);
	assert_true(f->info.created);
	assert_false(f->info.block_device);
	assert_int_equal(f->info.size, 3 * MIB);
	assert_in_range(f->info.align, 512, 4096);
	assert_string_equal(f->info.path, path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 3 * MIB);
	assert_true(st.st_blocks * 512 >= 3 * MIB);
	assert_int_equal(st.st_mode & 07777, 0600);
	e->file_close(f);

	assert_int_equal(e->file_open(e, path, 5 * MIB, &f, &cause), 0); /* grows */
	assert_false(f->info.created);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 5 * MIB);
	assert_true(st.st_blocks * 512 >= 5 * MIB);
	e->file_close(f);

	assert_int_equal(e->file_open(e, path, 4 * MIB, &f, &cause), 0); /* is never cut */
	assert_int_equal(f->info.size, 4 * MIB);
	assert_int_equal(f->info.have, 5 * MIB);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 5 * MIB);
	assert_int_equal(e->file_resize(f, 7 * MIB, &cause), 0); /* but by this */
	assert_int_equal(f->info.size, 7 * MIB);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 7 * MIB);
	assert_true(st.st_blocks * 512 >= 7 * MIB);
	assert_int_equal(e->file_resize(f, 1ull << 60, &cause), -ENOSPC);
	assert_non_null(strstr(cause, "is larger than the space for it"));
	free(cause);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 7 * MIB);
	assert_int_equal(e->file_resize(f, 5 * MIB, &cause), 0);
	assert_int_equal(f->info.have, 5 * MIB);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 5 * MIB);
	e->file_close(f);

	assert_int_equal(e->file_open(e, path, 0, &f, &cause), 0);
	assert_int_equal(f->info.size, 5 * MIB);
	e->file_close(f);
}

static void bad_paths(void **state)
{
	char p[400];

	(void)state;
	refused(dir, MIB, -EISDIR, "is a folder", "/valcache");
	snprintf(p, sizeof p, "%s/none/store", dir);
	refused(p, MIB, -ENOENT, "does not exist", "mkdir -p");
	refused("/dev/null", MIB, -EINVAL, "neither", "block device");
	refused(path, 0, -EINVAL, "--size", "");
	assert_int_equal(access(path, F_OK), -1); /* a failed open leaves nothing */
	memset(p, 'x', 300);
	p[300] = '\0';
	refused(p, MIB, -ENAMETOOLONG, "at most", "bytes");
}

static void larger_than_the_disk(void **state)
{
	struct statfs fs;

	(void)state;
	assert_int_equal(statfs(dir, &fs), 0);
	refused(path, ((uint64_t)fs.f_blocks + 1000) * (uint64_t)fs.f_bsize, -ENOSPC,
		"--size=", "smaller --size");
	assert_int_equal(access(path, F_OK), -1);
}

/* root may write everywhere and lock all memory: be nobody. */
static bool become_ordinary(void)
{
	return geteuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0);
}

/* As a user who may not write there; the sentence says which. */
static void not_ours(void **state)
{
	pid_t pid;
	int status;

	(void)state;
	assert_int_equal(chmod(dir, 0500), 0);
	pid = fork();
	if (pid == 0) {
		struct io_file *f;
		char *cause = NULL, who[32];
		bool ok = become_ordinary() && e->file_open(e, path, MIB, &f, &cause) == -EACCES &&
			  cause != NULL;

		snprintf(who, sizeof who, "user %u,", (unsigned)geteuid());
		ok = ok && strstr(cause, who) != NULL && strstr(cause, "Permission denied") != NULL;

		if (!ok)
			fprintf(stderr, "cause: %s\n", cause != NULL ? cause : "none");
		_exit(ok ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(chmod(dir, 0700), 0);
	assert_int_equal(status, 0);
}

static void in_use(void **state)
{
	struct io_file *f;
	int to[2], from[2], status;
	uint64_t t0;
	char c, word[40];
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(to), 0);
	assert_int_equal(pipe(from), 0);
	pid = fork();
	if (pid == 0) {
		if (e->file_open(e, path, MIB, &f, NULL) != 0 || write(from[1], "x", 1) != 1)
			_exit(1);
		(void)!read(to[0], &c, 1); /* holds it until we say so, then dies with it */
		_exit(0);
	}
	assert_int_equal(read(from[0], &c, 1), 1);
	snprintf(word, sizeof word, "(process %d)", (int)pid);
	t0 = clock_ns();
	refused(path, MIB, -EBUSY, "in use", word);
	assert_in_range((clock_ns() - t0) / NS_PER_MS, 4900, 60000);
	assert_int_equal(write(to[1], "x", 1), 1);
	assert_int_equal(e->file_open(e, path, MIB, &f, NULL), 0);
	e->file_close(f);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (int i = 0; i < 2; i++) {
		close(to[i]);
		close(from[i]);
	}
}

static unsigned descriptors_of_path(void)
{
	char link[64], name[4200];
	unsigned n = 0;

	for (int fd = 3; fd < 100; fd++) {
		ssize_t len;

		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		len = readlink(link, name, sizeof name - 1);
		name[len > 0 ? len : 0] = '\0';
		n += strstr(name, path) != NULL;
	}
	return n;
}

static void *open_path(void *cause)
{
	struct io_file *f = NULL;

	return (void *)(intptr_t)e->file_open(e, path, MIB, &f, cause);
}

/* Whoever had the file removed it while another waited for the lock: values must not go to a file without a name. */
static void removed_meanwhile(void **state)
{
	struct io_file *f;
	char *cause = NULL;
	pthread_t other;
	void *res;

	(void)state;
	assert_int_equal(e->file_open(e, path, MIB, &f, NULL), 0);
	assert_int_equal(pthread_create(&other, NULL, open_path, &cause), 0);
	while (descriptors_of_path() < 2)
		usleep(1000);
	assert_int_equal(unlink(path), 0);
	e->file_close(f);
	assert_int_equal(pthread_join(other, &res), 0);
	assert_int_equal((intptr_t)res, -ENOENT);
	assert_non_null(cause);
	if (strstr(cause, "start again") == NULL)
		fail_msg("cause: %s", cause);
	free(cause);
}

/* A file that a ring knows keeps no lock once it is closed. */
static void lock_ends_with_close(void **state)
{
	struct io_config c = {0};
	struct io_file *f, *g;
	struct io *io;
	uint64_t t0;

	(void)state;
	assert_int_equal(io_open(e, &c, &io, NULL), 0);
	assert_int_equal(e->file_open(e, path, MIB, &f, NULL), 0);
	assert_int_equal(io_add_file(io, f), 0);
	e->file_close(f);
	t0 = clock_ns();
	assert_int_equal(e->file_open(e, path, MIB, &g, NULL), 0);
	assert_true(clock_ns() - t0 < 4 * NS_PER_S); /* in five it gives up */
	e->file_close(g);
	io_close(&io);
}

/* tmpfs has no O_DIRECT: said in the log, and it works all the same. */
static void shared_memory_fs(void **state)
{
	struct io_config c = {0};
	char p[64] = "/dev/shm/io-open-XXXXXX";
	struct box b = {0};
	struct io_file *f;
	struct io *io;
	void *mem = NULL;
	int fd = mkstemp(p);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(posix_memalign(&mem, 4096, 8192), 0);
	memset(mem, 7, 8192);
	assert_int_equal(e->file_open(e, p, MIB, &f, NULL), 0);
	assert_true(f->info.created);
	assert_false(f->info.direct);
	assert_int_equal(io_open(e, &c, &io, NULL), 0);
	assert_int_equal(io_add_file(io, f), 0);
	io_write(io, &b.op, f, mem, 4096, 4096, box_done);
	turn_until(io, b.lasts == 1);
	assert_int_equal(b.res, 4096);
	io_read(io, &b.op, f, (char *)mem + 4096, 4096, 0, box_done);
	turn_until(io, b.lasts == 2);
	assert_int_equal(b.res, 4096);
	assert_int_equal(((char *)mem)[4096], 0);
	io_read(io, &b.op, f, (char *)mem + 4096, 4096, 4096, box_done);
	turn_until(io, b.lasts == 3);
	assert_memory_equal(mem, (char *)mem + 4096, 4096);
	io_close(&io);
	e->file_close(f);
	unlink(p);
	free(mem);
}

/* A loop device over a file: size, discard. */
static void block_device(void **state)
{
	struct io_config c = {0};
	char dev[32];
	struct box b = {0};
	struct io_file *f;
	struct io *io;
	unsigned char *mem = NULL;
	int ctl, n, back, loop;

	(void)state;
	ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	n = ctl >= 0 ? ioctl(ctl, LOOP_CTL_GET_FREE) : -1;
	snprintf(dev, sizeof dev, "/dev/loop%d", n);
	loop = n >= 0 ? open(dev, O_RDWR | O_CLOEXEC) : -1;
	if (loop < 0) {
		if (ctl >= 0)
			close(ctl);
		skip(); /* no loop devices here */
	}
	close(ctl);
	back = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(back >= 0);
	assert_int_equal(ftruncate(back, 4 * MIB), 0);
	assert_int_equal(ioctl(loop, LOOP_SET_FD, back), 0);
	assert_int_equal(posix_memalign((void **)&mem, 4096, 65536), 0);

	refused(dev, 8 * MIB, -ENOSPC, "less than --size=", "smaller");
	assert_int_equal(e->file_open(e, dev, 0, &f, NULL), 0);
	assert_true(f->info.block_device);
	assert_false(f->info.created);
	assert_int_equal(f->info.size, 4 * MIB);
	assert_int_equal(io_open(e, &c, &io, NULL), 0);
	assert_int_equal(io_add_file(io, f), 0);
	memset(mem, 0xee, 65536);
	io_write(io, &b.op, f, mem, 65536, MIB, box_done);
	turn_until(io, b.lasts == 1);
	assert_int_equal(b.res, 65536);
	io_sync(io, &b.op, f, box_done);
	turn_until(io, b.lasts == 2);
	assert_int_equal(b.res, 0);
	io_discard(io, &b.op, f, MIB, 65536, box_done);
	turn_until(io, b.lasts == 3);
	assert_int_equal(b.res, 0);
	io_read(io, &b.op, f, mem, 65536, MIB, box_done);
	turn_until(io, b.lasts == 4);
	assert_int_equal(b.res, 65536);
	for (int i = 0; i < 65536; i++)
		assert_int_equal(mem[i], 0); /* a loop device makes a hole */
	io_close(&io);
	e->file_close(f);
	assert_int_equal(ioctl(loop, LOOP_CLR_FD), 0);
	close(loop);
	close(back);
	free(mem);
}

/* Memory: many regions, one above 1 GiB, addresses across the seam, and a limit that is too small.
 */
static void memory_regions(void **state)
{
	struct io_config c = {0};
	size_t big = (1ull << 30) + 64 * 4096;
	char *p = mmap(NULL, big, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct box b = {0};
	struct io_file *f;
	struct io *io;
	char *seam = p + (1ull << 30) - 4096;

	(void)state;
	assert_true(p != MAP_FAILED);
	assert_int_equal(e->file_open(e, path, MIB, &f, NULL), 0);
	assert_int_equal(io_open(e, &c, &io, NULL), 0);
	assert_int_equal(io_add_file(io, f), 0);
	for (int i = 20; i-- > 0;) { /* disjoint, highest first, some after the first turn */
		assert_int_equal(io_add_memory(io, p + (size_t)i * 65536, 32768), 0);
		if (i == 10)
			assert_int_equal(io_turn(io, 0), 0);
	}
	for (int i = 0; i < 20; i++) {
		char *m = p + (size_t)i * 65536;

		memset(m, i + 1, 32768 + 4096);
		io_write(io, &b.op, f, m, 32768 + (i % 2 ? 4096 : 0), (uint64_t)i * 40960,
			 box_done);
		turn_until(io, b.lasts == i + 1);
		assert_int_equal(b.res, 32768 + (i % 2 ? 4096 : 0));
	}
	memset(seam, 0x77, 8192);
	io_write(io, &b.op, f, seam, 8192, 0, box_done);
	turn_until(io, b.lasts == 21);
	assert_int_equal(b.res, 8192);
	io_read(io, &b.op, f, p, 8192, 0, box_done);
	turn_until(io, b.lasts == 22);
	assert_memory_equal(p, seam, 8192);
	io_close(&io);
	e->file_close(f);
	munmap(p, big);
}

/* KiB that the kernel keeps in memory for this process's rings. */
static unsigned long pinned(void)
{
	FILE *status = fopen("/proc/self/status", "r");
	unsigned long kib = 0;
	char line[128];

	assert_non_null(status);
	while (fgets(line, sizeof line, status) != NULL && sscanf(line, "VmPin: %lu kB", &kib) != 1)
		;
	fclose(status);
	return kib;
}

/* The rings that are closed give it back in the background, and with it what is counted from then on. */
static void nothing_pinned(void)
{
	uint64_t end = clock_ns() + 20 * NS_PER_S;

	while (pinned() != 0 && clock_ns() < end)
		usleep(1000);
	assert_int_equal(pinned(), 0);
}

/* A large memory costs nothing before it is used, then a piece for each place that was. */
static void memory_comes_when_used(void **state)
{
	struct io_config c = {0};
	size_t big = 8ull << 30;
	char *p = mmap(NULL, big, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct box b = {0};
	struct io_file *f;
	struct io *io;

	(void)state;
	assert_true(p != MAP_FAILED);
	nothing_pinned();
	assert_int_equal(e->file_open(e, path, MIB, &f, NULL), 0);
	assert_int_equal(io_open(e, &c, &io, NULL), 0);
	assert_int_equal(io_add_file(io, f), 0);
	assert_int_equal(io_add_memory(io, p, big), 0);
	assert_in_range(pinned() >> 10, on_uring(), on_uring() ? 2 : 0); /* libevent pins nothing */
	for (int i = 0; i < 6; i++) { /* three places, each twice */
		io_read(io, &b.op, f, p + (size_t)i % 3 * (2ull << 30), 8192, 0, box_done);
		turn_until(io, b.lasts == i + 1);
		assert_int_equal(b.res, 8192);
	}
	assert_in_range(pinned() >> 10, on_uring() ? 3 : 0, on_uring() ? 6 : 0);
	io_close(&io);
	e->file_close(f);
	munmap(p, big);
}

/* Without CAP_IPC_LOCK: -ENOMEM and a log line, and I/O in that memory works. */
static void memory_limit(void **state)
{
	pid_t pid;
	int status;

	(void)state;
	assert_int_equal(chmod(dir, 0777), 0);
	pid = fork();
	if (pid == 0) {
		struct rlimit lim = {MIB, MIB};
		struct io_config c = {0};
		size_t len = 16 * MIB;
		struct box b = {0};
		struct io_file *f;
		struct io *io;
		char *p =
		    mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (setrlimit(RLIMIT_MEMLOCK, &lim) < 0 || !become_ordinary())
			_exit(2);
		if (e->file_open(e, path, MIB, &f, NULL) != 0)
			_exit(3);
		/* the rings of earlier tests count against this user until the kernel has let them go */
		for (int i = 0; io_open(e, &c, &io, NULL) != 0; i++)
			if (i == 500 || poll(NULL, 0, 10) != 0)
				_exit(3);
		/* libevent locks nothing */
		if (io_add_file(io, f) != 0 ||
		    io_add_memory(io, p, len) != (on_uring() ? -ENOMEM : 0))
			_exit(4);
		io_write(io, &b.op, f, p, 8192, 0, box_done);
		for (int i = 0; i < 100 && b.lasts == 0; i++)
			if (io_turn(io, 100 * NS_PER_MS) < 0)
				_exit(5);
		if (b.res != 8192)
			_exit(6);
		io_close(&io);
		e->file_close(f);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(WIFEXITED(status));
}

/* Opens an io where io_uring_setup(2) fails with err; 0 if it ends as expected, and the cause has the word. */
static int ring_refused(int err, int expect, const char *word)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), /* the number of the system call */
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)err),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof code / sizeof *code, code};
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		const struct rlimit locked = {1 << 20, 1 << 20}; /* else it would not be named */
		struct io_config c = {.net = true, .trial = true};
		char *cause = NULL;
		struct io *io;

		if (setrlimit(RLIMIT_MEMLOCK, &locked) < 0 ||
		    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
			_exit(2);
		if (expect == 0 ? io_try(e, 3, NULL) != 0
				: io_open(e, &c, &io, &cause) != expect || cause == NULL ||
				      strstr(cause, word) == NULL) {
			fprintf(stderr, "cause: %s\n", cause != NULL ? cause : "none");
			_exit(1);
		}
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void no_ring(void **state)
{
	(void)state;
	if (!on_uring()) { /* what it is there for */
		assert_int_equal(ring_refused(EPERM, 0, NULL), 0);
		assert_int_equal(ring_refused(ENOSYS, 0, NULL), 0);
		return;
	}
	assert_int_equal(ring_refused(EPERM, -EPERM, "kernel.io_uring_disabled"), 0);
	assert_int_equal(ring_refused(EPERM, -EPERM, "seccomp"), 0);
	assert_int_equal(ring_refused(ENOSYS, -ENOSYS, "Linux 6.1"), 0);
	assert_int_equal(ring_refused(EINVAL, -EINVAL, "Linux 6.1"), 0);
	assert_int_equal(ring_refused(ENOMEM, -ENOMEM, "LimitMEMLOCK"), 0);
	assert_int_equal(ring_refused(EMFILE, -EMFILE, "LimitNOFILE"), 0);
}

#define on(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static int group(const char *name)
{
	const struct CMUnitTest tests[] = {
	    on(a_new_file),
	    on(bad_paths),
	    on(larger_than_the_disk),
	    on(not_ours),
	    on(in_use),
	    on(lock_ends_with_close),
	    on(shared_memory_fs),
	    on(block_device),
	    on(memory_regions),
	    on(memory_comes_when_used),
	    on(memory_limit),
	    on(no_ring),
	    on(removed_meanwhile),
	};

	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
	return run_on_engines("io-open", group);
}
