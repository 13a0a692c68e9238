/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes Segments as files: there and back, alone and under a cache; what is damaged,
 * torn or foreign; disks that are full, folders that are not there, two processes' worth of
 * writers.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "efs/efs.h"
#include "efs/efs_int.h"
#include "tests/unit/ocache_tier.h"
#include "tests/unit/root_dir.h"

#define MIB (1ull << 20)

static struct tier *open_efs(bool read_only, bool named)
{
	struct efs_config cfg = {.struct_size = sizeof cfg, .path = root, .read_only = read_only};
	struct tier *t = NULL;
	char *cause;

	if (efs_open(&cfg, &t, &cause) != 0)
		fail_msg("%s", cause);
	efs__dir_of(t)->no_tmpfile = named;
	return t;
}

static const char *path_of(struct seg_id id)
{
	static char path[300];
	char name[EFS_NAME];

	efs__name(id, name);
	snprintf(path, sizeof path, "%s/%s", root, name);
	return path;
}

static unsigned files_in(const char *dir)
{
	char command[300], line[32];
	FILE *p;

	snprintf(command, sizeof command, "find '%s/%s' -type f | wc -l", root, dir);
	p = popen(command, "r");
	assert_non_null(p);
	assert_non_null(fgets(line, sizeof line, p));
	assert_int_equal(pclose(p), 0);
	return (unsigned)atoi(line);
}

static int put(struct tier *t, uint64_t key)
{
	struct seg_buf *b = fake_bytes(id_of(key), FAKE_GOOD, false);
	int err = efs__file_write(efs__dir_of(t), id_of(key), b);

	seg_buf_drop(b);
	return err;
}

static int look(struct tier *t, uint64_t key)
{
	struct seg_buf *b = NULL, *want;
	int err = efs__file_read(efs__dir_of(t), id_of(key), &b);

	if (err != 0) {
		assert_null(b);
		return err;
	}
	want = fake_bytes(id_of(key), FAKE_GOOD, false);
	assert_int_equal(seg_buf_len(b), seg_buf_len(want));
	assert_memory_equal(seg_buf_data(b), seg_buf_data(want), seg_buf_len(b));
	seg_buf_drop(b);
	seg_buf_drop(want);
	return 0;
}

static void names(void **state)
{
	char name[EFS_NAME];
	struct seg_id id;

	(void)state;
	assert_int_equal(seg_id_parse("6243cb8a-2b3c-4031-a4cd-8c7df49e33f8", &id), 0);
	efs__name(id, name);
	assert_string_equal(name, "3f8/6243cb8a-2b3c-4031-a4cd-8c7df49e33f8");
}

static void there_and_back(void **state)
{
	(void)state;
	for (unsigned named = 0; named < 2; named++) {
		struct tier *t = open_efs(false, named);

		for (uint64_t key = named * 100; key < named * 100 + 50; key++) {
			assert_int_equal(look(t, key), -ENOENT);
			assert_int_equal(put(t, key), 0);
			assert_int_equal(put(t, key), 0); /* is there already */
			assert_int_equal(look(t, key), 0);
		}
		assert_int_equal(files_in("tmp"), 0);
		assert_int_equal(efs__file_drop(efs__dir_of(t), id_of(named * 100)), 0);
		assert_int_equal(look(t, named * 100), -ENOENT);
		t->ops->close(t);
	}
	assert_int_equal(files_in("."), 98);
}

static void damaged_files(void **state)
{
	struct tier *t = open_efs(false, false);
	struct stat st;
	int fd;

	(void)state;
	assert_int_equal(put(t, 1), 0);
	assert_int_equal(stat(path_of(id_of(1)), &st), 0);
	for (off_t at = 0; at < st.st_size; at++) {
		char c;

		fd = open(path_of(id_of(1)), O_RDWR);
		assert_int_equal(pread(fd, &c, 1, at), 1);
		c = (char)(c ^ 4);
		assert_int_equal(pwrite(fd, &c, 1, at), 1);
		assert_int_equal(look(t, 1), -EBADMSG);
		c = (char)(c ^ 4);
		assert_int_equal(pwrite(fd, &c, 1, at), 1);
		assert_int_equal(close(fd), 0);
	}
	assert_int_equal(look(t, 1), 0);
	for (off_t len = 0; len < st.st_size; len++) { /* torn */
		assert_int_equal(truncate(path_of(id_of(1)), len), 0);
		assert_int_equal(look(t, 1), -EBADMSG);
	}
	assert_int_equal(truncate(path_of(id_of(1)), (off_t)1 << 40),
			 0); /* not believed as a length */
	assert_int_equal(look(t, 1), -EBADMSG);
	assert_int_equal(unlink(path_of(id_of(1))), 0);
	/* another segment's file; a folder; a link */
	assert_int_equal(put(t, 1), 0);
	char from[300];
	snprintf(from, sizeof from, "%s", path_of(id_of(1)));
	assert_int_equal(put(t, 2), 0);
	assert_int_equal(unlink(path_of(id_of(2))), 0);
	assert_int_equal(link(from, path_of(id_of(2))), 0);
	assert_int_equal(look(t, 2), -EBADMSG);
	assert_int_equal(unlink(path_of(id_of(2))), 0);
	assert_int_equal(mkdir(path_of(id_of(2)), 0777), 0);
	assert_int_equal(look(t, 2), -EBADMSG);
	assert_int_equal(rmdir(path_of(id_of(2))), 0);
	assert_int_equal(symlink(from, path_of(id_of(2))), 0);
	assert_int_equal(look(t, 2), -ELOOP);
	assert_int_equal(unlink(path_of(id_of(2))), 0);
	assert_int_equal(mkfifo(path_of(id_of(2)), 0666), 0);
	assert_int_equal(look(t, 2), -EBADMSG); /* at once: nobody writes into it */
	t->ops->close(t);
}

/* A write says that the segment is there: of what is damaged under its name that is not so. */
static void written_over_damage(void **state)
{
	(void)state;
	for (unsigned named = 0; named < 2; named++) {
		struct tier *t = open_efs(false, named);
		uint64_t key = 10 + named;

		assert_int_equal(put(t, key), 0);
		assert_int_equal(truncate(path_of(id_of(key)), 60), 0);
		assert_int_equal(look(t, key), -EBADMSG);
		assert_int_equal(put(t, key), 0);
		assert_int_equal(look(t, key), 0);
		assert_int_equal(truncate(path_of(id_of(key)), 0),
				 0); /* as a power cut leaves it, with no_sync */
		assert_int_equal(put(t, key), 0);
		assert_int_equal(look(t, key), 0);
		/* what cannot be removed is told */
		assert_int_equal(unlink(path_of(id_of(key))), 0);
		assert_int_equal(mkdir(path_of(id_of(key)), 0777), 0);
		assert_int_equal(put(t, key), -EISDIR);
		assert_int_equal(rmdir(path_of(id_of(key))), 0);
		assert_int_equal(symlink("/etc/hostname", path_of(id_of(key))), 0);
		assert_int_equal(put(t, key), -ELOOP);
		t->ops->close(t);
	}
}

/* A disk that takes no more, in the middle of a file: no name, nothing left. */
static void full_disk(void **state)
{
	struct rlimit before, small = {60, 60};

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small.rlim_max = before.rlim_max;
	for (unsigned named = 0; named < 2; named++) {
		struct tier *t = open_efs(false, named);
		int err;

		assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
		err = put(t, 1);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
		assert_int_equal(err, -EFBIG);
		assert_int_equal(look(t, 1), -ENOENT);
		assert_int_equal(files_in("."), 0);
		t->ops->close(t);
	}
}

/* ---- syncs ---- */

/* In the place of libc's: what a thread that wants to know called, in this order, and the one of them that fails. */
static _Thread_local bool wants_calls;
static char calls[16];
static char failing;

static bool called(char what)
{
	size_t n;

	if (!wants_calls)
		return true;
	n = strlen(calls);
	if (n + 1 < sizeof calls)
		calls[n] = what;
	errno = EIO;
	return what != failing;
}

static _Thread_local bool waits_once; /* at the first of these that changes the disk */
static void wait_for_gate(void);

static void wait_once(void)
{
	if (waits_once)
		wait_for_gate();
	waits_once = false;
}

int fdatasync(int fd)
{
	wait_once();
	return called('d') ? (int)syscall(SYS_fdatasync, fd) : -1;
}

int fsync(int fd)
{
	return called('f') ? (int)syscall(SYS_fsync, fd) : -1;
}

int linkat(int from, const char *name, int to, const char *as, int flags)
{
	return called('l') ? (int)syscall(SYS_linkat, from, name, to, as, flags) : -1;
}

static _Atomic bool slow_unlink;

int unlinkat(int dir, const char *name, int flags)
{
	wait_once();
	if (atomic_load(&slow_unlink))
		wait_for_gate();
	return (int)syscall(SYS_unlinkat, dir, name, flags);
}

static const char *calls_of_put(struct tier *t, uint64_t key, char fails, int want)
{
	memset(calls, 0, sizeof calls);
	failing = fails;
	wants_calls = true;
	assert_int_equal(put(t, key), want);
	wants_calls = false;
	return calls;
}

/*
 * A file is on the disk before it has its name, and the name before the write is answered; what cannot be synced has not
 * been written.
 */
static void synced_before_it_has_a_name(void **state)
{
	(void)state;
	for (unsigned named = 0; named < 2; named++) {
		struct tier *t = open_efs(false, named);
		uint64_t key = 20 + named;

		assert_int_equal(efs__file_drop(efs__dir_of(t), id_of(key)), -ENOENT);
		assert_string_equal(calls_of_put(t, key, 0, 0), "fdlf"); /* its folder is new */
		assert_int_equal(efs__file_drop(efs__dir_of(t), id_of(key)), 0);
		assert_string_equal(calls_of_put(t, key, 'd', -EIO), "d");
		assert_int_equal(look(t, key), -ENOENT);
		assert_string_equal(calls_of_put(t, key, 'l', -EIO), "dl");
		assert_int_equal(look(t, key), -ENOENT);
		assert_string_equal(calls_of_put(t, key, 'f', -EIO), "dlf");
		assert_string_equal(calls_of_put(t, key, 0, 0),
				    "df"); /* it has its name, but for how long? */
		assert_int_equal(files_in("tmp"), 0);
		assert_int_equal(efs__file_drop(efs__dir_of(t), id_of(key)), 0);
		efs__dir_of(t)->no_sync = true;
		assert_string_equal(calls_of_put(t, key, 0, 0), "l");
		assert_int_equal(look(t, key), 0);
		t->ops->close(t);
	}
}

/*
 * A folder that another process has made, or whose sync has failed, may not be on the disk yet, and a file in it is lost
 * with it: each process syncs its name once.
 */
static void folders_of_others_are_synced(void **state)
{
	struct tier *t = open_efs(false, false), *other = open_efs(false, false);
	char dir[300];

	(void)state;
	efs__dir_of(other)->no_sync = true;
	assert_int_equal(put(other, 30), 0);
	assert_int_equal(efs__file_drop(efs__dir_of(other), id_of(30)), 0);
	assert_string_equal(calls_of_put(t, 30, 'f', -EIO), "f");
	assert_int_equal(look(t, 30), -ENOENT);
	assert_string_equal(calls_of_put(t, 30, 0, 0), "fdlf");
	assert_int_equal(efs__file_drop(efs__dir_of(t), id_of(30)), 0);
	assert_string_equal(calls_of_put(t, 30, 0, 0), "dlf");
	/* one that was removed is another */
	assert_int_equal(efs__file_drop(efs__dir_of(t), id_of(30)), 0);
	snprintf(dir, sizeof dir, "%s", path_of(id_of(30)));
	*strrchr(dir, '/') = '\0';
	assert_int_equal(rmdir(dir), 0);
	assert_string_equal(calls_of_put(t, 30, 0, 0), "fdlf");
	t->ops->close(t);
	other->ops->close(other);
}

/* What is found may have been written by a process that does not sync. */
static void found_files_are_synced(void **state)
{
	struct tier *t = open_efs(false, false), *other = open_efs(false, false);

	(void)state;
	efs__dir_of(other)->no_sync = true;
	assert_int_equal(put(other, 31), 0);
	assert_string_equal(calls_of_put(t, 31, 0, 0), "fdf");
	assert_string_equal(calls_of_put(t, 31, 'd', -EIO), "d");
	assert_string_equal(calls_of_put(other, 31, 0, 0), "");
	t->ops->close(t);
	other->ops->close(other);
}

static void folders_that_cannot_be_used(void **state)
{
	struct efs_config cfg = {.struct_size = sizeof cfg, .path = "/nowhere/at/all"};
	struct tier *t = NULL;
	char *cause, file[250];
	int fd;

	(void)state;
	assert_int_equal(efs_open(&cfg, &t, &cause), -ENOENT);
	assert_string_equal(cause, "efs: /nowhere/at/all: No such file or directory");
	free(cause);
	assert_int_equal(efs_open(&cfg, &t, NULL), -ENOENT);
	cfg.path = root;
	cfg.key = "E";
	assert_int_equal(efs_open(&cfg, &t, &cause), -EINVAL);
	free(cause);
	cfg.key = NULL;
	snprintf(file, sizeof file, "%s/tmp", root);
	fd = open(file, O_CREAT | O_WRONLY, 0666);
	assert_int_equal(close(fd), 0);
	assert_int_equal(efs_open(&cfg, &t, NULL), -ENOTDIR);
	assert_null(t);
	cfg.read_only = true; /* needs no tmp */
	assert_int_equal(efs_open(&cfg, &t, NULL), 0);
	assert_int_equal(put(t, 1), -EROFS);
	assert_null(t->ops->write);
	t->ops->close(t);
}

static void old_temporaries_go(void **state)
{
	struct tier *t = open_efs(false, true);
	struct timespec old[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}};
	char path[250];

	(void)state;
	t->ops->close(t);
	for (unsigned i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s/tmp/%u", root, i);
		assert_int_equal(close(open(path, O_CREAT | O_WRONLY, 0666)), 0);
	}
	old[1] = (struct timespec){time(NULL) - 4000, 0};
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
	t = open_efs(false, true);
	assert_int_equal(files_in("tmp"), 1); /* the other may be somebody's */
	t->ops->close(t);
}

/* What a killed process of the same host and number was writing is not taken for the segment. */
static void a_temporary_of_the_same_name(void **state)
{
	struct tier *t = open_efs(false, true);
	char host[32] = "", path[300];

	(void)state;
	assert_int_equal(gethostname(host, sizeof host), 0);
	host[sizeof host - 1] = '\0';
	snprintf(path, sizeof path, "%s/tmp/%s.%s.%d.0", root, strrchr(path_of(id_of(6)), '/') + 1,
		 host, (int)getpid());
	assert_int_equal(close(open(path, O_CREAT | O_EXCL | O_WRONLY, 0666)), 0);
	assert_int_equal(put(t, 6), 0);
	assert_int_equal(look(t, 6), 0);
	assert_int_equal(files_in("tmp"), 1); /* goes when it is old */
	t->ops->close(t);
}

/* ---- under a cache ---- */

static void repaired_from_the_record(void **state)
{
	struct fake *far = fake_new("dev", TIER_RECORD);
	struct ocache_tier tiers[] = {
	    {.tier = open_efs(false, false), .deadline_ns = 20 * NS_PER_S}, {.tier = &far->tier}};
	struct ocache *c = chain_of(MIB, tiers, 2);

	(void)state;
	fake_set(far, 0, 100, FAKE_GOOD);
	for (uint64_t key = 0; key < 50; key++)
		assert_int_equal(get(c, key, NULL, NULL), 0);
	WAIT_FOR(tier_of(c, 0).writes == 50);
	assert_int_equal(truncate(path_of(id_of(7)), 60), 0);
	for (uint64_t key = 0; key < 50; key++) {
		assert_true(ocache_forget(c, id_of(key)));
		assert_int_equal(get(c, key, NULL, NULL), 0);
	}
	WAIT_FOR(tier_of(c, 0).writes == 51);
	assert_int_equal(stats_of(c).repairs, 1);
	assert_int_equal(FAKE_GET(far, reads), 51);
	assert_int_equal(tier_of(c, 0).damaged, 1);
	assert_true(ocache_forget(c, id_of(7)));
	assert_int_equal(get(c, 7, NULL, NULL), 0);
	assert_int_equal(FAKE_GET(far, reads), 51);
	cache_close(c);
}

static void *write_all_keys(void *t)
{
	for (uint64_t key = 0; key < 200; key++)
		if (put(t, key) != 0)
			abort();
	return NULL;
}

/* Several writers of the same segments, as on several hosts: each ends with whole files. */
static void many_writers(void **state)
{
	struct tier *t[2] = {open_efs(false, false), open_efs(false, true)};
	pthread_t w[4];

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&w[i], NULL, write_all_keys, t[i % 2]), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_join(w[i], NULL), 0);
	for (uint64_t key = 0; key < 200; key++)
		assert_int_equal(look(t[0], key), 0);
	assert_int_equal(files_in("."), 200);
	t[0]->ops->close(t[0]);
	t[1]->ops->close(t[1]);
}

/* ---- the order of requests: one thread, which stands in the done() of a first read ---- */

static _Atomic unsigned given_back, cancelled;
static _Atomic bool entered, gate;

static void on_read(struct seg_read *r)
{
	if (r->status == 0)
		seg_buf_drop(r->bytes);
	atomic_fetch_add(&cancelled, r->status == -ECANCELED);
	atomic_fetch_add(&given_back, 1);
}

static void wait_for_gate(void)
{
	const struct timespec nap = {0, 1000000};

	atomic_store(&entered, true);
	while (!atomic_load(&gate))
		nanosleep(&nap, NULL);
}

static void stand_there(struct seg_read *r)
{
	assert_int_equal(r->status, -ENOENT);
	wait_for_gate();
}

/* `r` is the read in whose done() it stands. */
static struct tier *standing(struct seg_read *r)
{
	struct efs_config cfg = {.struct_size = sizeof cfg, .path = root, .threads = 1};
	struct tier *t = NULL;

	assert_int_equal(efs_open(&cfg, &t, NULL), 0);
	atomic_store(&entered, false);
	atomic_store(&gate, false);
	*r = (struct seg_read){.id = id_of(999), .done = stand_there};
	t->ops->read(t, &r, 1);
	WAIT_FOR(atomic_load(&entered));
	return t;
}

static void cancelled_reads(void **state)
{
	enum { N = 1000 };
	struct seg_read *reads = calloc(N, sizeof *reads), *all[N], first;
	struct tier *t = standing(&first);

	(void)state;
	assert_non_null(reads);
	assert_int_equal(put(t, 1), 0);
	for (unsigned i = 0; i < N; i++) {
		reads[i] = (struct seg_read){.id = id_of(i % 2), .done = on_read};
		all[i] = &reads[i];
	}
	t->ops->read(t, all, N);
	t->ops->cancel(t, &first); /* is not queued any more */
	for (unsigned i = N; i-- > N / 2;)
		t->ops->cancel(t, all[i]);
	assert_int_equal(given_back, N / 2);
	assert_int_equal(cancelled, N / 2);
	atomic_store(&gate, true);
	WAIT_FOR(given_back == N);
	assert_int_equal(cancelled, N / 2);
	for (unsigned i = 0; i < N; i++) /* they are somebody else's by now, or nobody's */
		t->ops->cancel(t, all[i]);
	t->ops->close(t);
	assert_int_equal(given_back, N);
	free(reads);
}

static _Atomic unsigned written;

static void on_write(struct seg_write *w)
{
	assert_int_equal(w->status, 0);
	atomic_fetch_add(&written, 1);
}

/* A drop of what is damaged and the write that repairs it, whichever was asked for first. */
static void drops_come_first(void **state)
{
	struct seg_buf *b = fake_bytes(id_of(1), FAKE_GOOD, false);
	struct seg_write write = {.id = id_of(1), .bytes = b, .done = on_write}, *w = &write;
	struct seg_read first;
	struct tier *t = standing(&first);

	(void)state;
	assert_int_equal(put(t, 1), 0);
	written = 0;
	t->ops->write(t, &w, 1);
	t->ops->drop(t, id_of(1));
	atomic_store(&gate, true);
	WAIT_FOR(written == 1);
	assert_int_equal(look(t, 1), 0);
	t->ops->close(t);
	seg_buf_drop(b);
}

/* No thread writes while another one drops. */
static void no_write_beside_a_drop(void **state)
{
	const struct timespec nap = {0, 50000000};
	struct seg_buf *b = fake_bytes(id_of(2), FAKE_GOOD, false);
	struct seg_write write = {.id = id_of(2), .bytes = b, .done = on_write}, *w = &write;
	struct seg_read read = {.id = id_of(3), .done = on_read}, *r = &read;
	struct tier *t = open_efs(false, false);

	(void)state;
	assert_int_equal(put(t, 1), 0);
	written = given_back = 0;
	atomic_store(&entered, false);
	atomic_store(&gate, false);
	atomic_store(&slow_unlink, true);
	t->ops->drop(t, id_of(1));
	WAIT_FOR(atomic_load(&entered));
	t->ops->write(t, &w, 1);
	t->ops->read(t, &r, 1); /* for which a thread wakes up, and looks what else there is */
	WAIT_FOR(given_back == 1);
	nanosleep(&nap, NULL);
	assert_int_equal(written, 0);
	atomic_store(&slow_unlink, false);
	atomic_store(&gate, true);
	WAIT_FOR(written == 1);
	t->ops->close(t);
	seg_buf_drop(b);
}

/*
 * A write has found a damaged file, and before it goes on another process has mended it: if the first one fails, what the
 * second has said to be durable is still there.
 */
static int failed_put;

static void *put_fails(void *t)
{
	struct seg_buf *b = fake_bytes(id_of(5), FAKE_GOOD, false);

	memset(calls, 0, sizeof calls);
	failing = 'd';
	wants_calls = true;
	waits_once = true;
	failed_put = efs__file_write(efs__dir_of(t), id_of(5), b);
	seg_buf_drop(b);
	return NULL;
}

static void mended_by_another(void **state)
{
	struct tier *t = open_efs(false, false), *other = open_efs(false, false);
	pthread_t thread;

	(void)state;
	assert_int_equal(put(t, 5), 0);
	assert_int_equal(truncate(path_of(id_of(5)), 60), 0);
	atomic_store(&entered, false);
	atomic_store(&gate, false);
	assert_int_equal(pthread_create(&thread, NULL, put_fails, t), 0);
	WAIT_FOR(atomic_load(&entered));
	assert_int_equal(put(other, 5), 0);
	atomic_store(&gate, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(failed_put, -EIO);
	assert_int_equal(look(t, 5), 0);
	assert_int_equal(files_in("tmp"), 0);
	t->ops->close(t);
	other->ops->close(other);
}

#define EFS_TEST(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    EFS_TEST(names),
	    EFS_TEST(there_and_back),
	    EFS_TEST(damaged_files),
	    EFS_TEST(written_over_damage),
	    EFS_TEST(full_disk),
	    EFS_TEST(synced_before_it_has_a_name),
	    EFS_TEST(folders_of_others_are_synced),
	    EFS_TEST(found_files_are_synced),
	    EFS_TEST(folders_that_cannot_be_used),
	    EFS_TEST(old_temporaries_go),
	    EFS_TEST(a_temporary_of_the_same_name),
	    EFS_TEST(repaired_from_the_record),
	    EFS_TEST(many_writers),
	    EFS_TEST(cancelled_reads),
	    EFS_TEST(drops_come_first),
	    EFS_TEST(no_write_beside_a_drop),
	    EFS_TEST(mended_by_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
