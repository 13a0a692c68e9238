/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes Segments as files: there and back, alone and under a cache; what is damaged,
 * torn or foreign; disks that are full, folders that are not there, two processes' worth of
 * writers.
 */
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "efs/efs.h"
#include "efs/efs_int.h"
#include "tests/unit/ocache_tier.h"

#define MIB (1ull << 20)

static char root[200];

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static int make_root(void **state)
{
	const char *tmp = getenv("TEST_TMP");

	(void)state;
	snprintf(root, sizeof root, "%s/efs.XXXXXX", tmp != NULL ? tmp : "/tmp");
	return mkdtemp(root) == NULL;
}

static int remove_root(void **state)
{
	(void)state;
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

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
	t->ops->close(t);
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

static _Atomic unsigned given_back;

static void on_read(struct seg_read *r)
{
	if (r->status == 0)
		seg_buf_drop(r->bytes);
	atomic_fetch_add(&given_back, 1);
}

static void cancelled_reads(void **state)
{
	enum { N = 1000 };
	struct seg_read *reads = calloc(N, sizeof *reads), *all[N];
	struct tier *t = open_efs(false, false);

	(void)state;
	assert_non_null(reads);
	assert_int_equal(put(t, 1), 0);
	for (unsigned i = 0; i < N; i++) {
		reads[i] = (struct seg_read){.id = id_of(i % 2), .done = on_read};
		all[i] = &reads[i];
	}
	t->ops->read(t, all, N);
	for (unsigned i = N; i-- > 0;)
		t->ops->cancel(t, all[i]);
	WAIT_FOR(given_back == N);
	t->ops->close(t);
	assert_int_equal(given_back, N);
	free(reads);
}

#define EFS_TEST(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    EFS_TEST(names),
	    EFS_TEST(there_and_back),
	    EFS_TEST(damaged_files),
	    EFS_TEST(full_disk),
	    EFS_TEST(folders_that_cannot_be_used),
	    EFS_TEST(old_temporaries_go),
	    EFS_TEST(repaired_from_the_record),
	    EFS_TEST(many_writers),
	    EFS_TEST(cancelled_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
