/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments as files. A file gets its name by link(), when all of it is written and synced: so
 * whoever finds the name finds all, also after a crash. Without O_TMPFILE, and where it replaces a damaged one by
 * rename(), it is written under another name in tmp/ first; what a crash leaves there is removed by an open that finds it an hour
 * old.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/envelope.h"
#include "base/write.h"
#include "efs/efs_int.h"

#define OLD_S    3600
#define FILE_MAX ((size_t)ENVELOPE_RAW_MAX + ENVELOPE_HEAD)

void efs__name(struct seg_id id, char name[EFS_NAME])
{
	static const char hex[] = "0123456789abcdef";

	for (unsigned i = 0; i < 3; i++)
		name[i] = hex[id.lo >> (8 - 4 * i) & 15];
	name[3] = '/';
	seg_id_format(id, name + 4);
}

/*
 * close() that says what it said: on a network file system it may be the first to tell of a failed
 * write.
 */
static int shut(int fd)
{
	return close(fd) == 0 || errno == EINTR ? 0 : -errno;
}

/* Temporaries of writers that are gone. A failure here is nobody's. */
static void sweep(int tmp_fd)
{
	int fd = openat(tmp_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	time_t now = time(NULL);
	struct dirent *e;
	struct stat st;

	if (dir == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	while ((e = readdir(dir)) != NULL)
		if (fstatat(tmp_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode) && st.st_mtime < now - OLD_S)
			(void)unlinkat(tmp_fd, e->d_name, 0);
	(void)closedir(dir);
}

int efs__dir_open(const char *path, bool read_only, struct efs_dir *d)
{
	int err;

	*d = (struct efs_dir){.fd = -1, .tmp_fd = -1};
	d->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->fd < 0)
		return -errno;
	if (read_only)
		return 0;
	if (mkdirat(d->fd, "tmp", 0777) == 0 || errno == EEXIST)
		d->tmp_fd = openat(d->fd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->tmp_fd < 0) {
		err = -errno;
		efs__dir_close(d);
		return err;
	}
	sweep(d->tmp_fd);
	return 0;
}

void efs__dir_close(struct efs_dir *d)
{
	if (d->fd >= 0)
		(void)close(d->fd);
	if (d->tmp_fd >= 0)
		(void)close(d->tmp_fd);
	d->fd = d->tmp_fd = -1;
}

/* ---- reading ---- */

static void key_bytes(struct seg_id id, uint8_t key[16])
{
	for (unsigned i = 0; i < 8; i++) {
		key[i] = (uint8_t)(id.hi >> (56 - 8 * i));
		key[8 + i] = (uint8_t)(id.lo >> (56 - 8 * i));
	}
}

/* All len bytes, no more and no less being there. 0, -EBADMSG or -errno. */
static int read_all(int fd, uint8_t *to, size_t len)
{
	size_t at = 0;

	while (at < len) {
		ssize_t n = read(fd, to + at, len - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EBADMSG; /* it has become shorter */
		at += (size_t)n;
	}
	return 0;
}

int efs__file_read(struct efs_dir *d, struct seg_id id, struct seg_buf **bytes)
{
	struct seg_buf *b = NULL;
	char name[EFS_NAME];
	struct envelope env;
	struct stat st;
	uint8_t key[16];
	int fd, err = 0;

	efs__name(id, name);
	/* not blocking: under a name there may be a FIFO, whose other end nobody opens */
	fd = openat(d->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0)
		err = -errno;
	else if (!S_ISREG(st.st_mode) || st.st_size < (off_t)ENVELOPE_HEAD ||
		 (uint64_t)st.st_size > FILE_MAX)
		err = -EBADMSG;
	if (err == 0) {
		b = seg_buf_new((size_t)st.st_size);
		err = b == NULL ? -ENOMEM : read_all(fd, seg_buf_data(b), (size_t)st.st_size);
	}
	(void)close(fd); /* nothing was written */
	key_bytes(id, key);
	if (err == 0)
		err = envelope_open(seg_buf_data(b), seg_buf_len(b), key, &env);
	if (err == 0)
		*bytes = b;
	else
		seg_buf_drop(b);
	return err;
}

/* ---- writing ---- */

static int write_buf(const struct efs_dir *d, int fd, const struct seg_buf *b)
{
	int err = write_all(fd, seg_buf_data(b), seg_buf_len(b));

	if (err == 0 && !d->no_sync && fdatasync(fd) != 0)
		err = -errno;
	return err;
}

/*
 * The segment's folder, made if it is not there; -errno. Its own name is synced once by each process, whoever has made
 * it: another may not have come so far, or its sync has failed.
 */
static int folder(struct efs_dir *d, struct seg_id id, const char *name)
{
	_Atomic uint64_t *named = &d->named[(id.lo & 4095) / 64];
	uint64_t bit = 1ull << (id.lo & 63);
	char dir[4];
	int fd;

	memcpy(dir, name, 3);
	dir[3] = '\0';
	fd = openat(d->fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) {
		atomic_fetch_and(named, ~bit);
		if (mkdirat(d->fd, dir, 0777) != 0 && errno != EEXIST)
			return -errno;
		fd = openat(d->fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd < 0)
		return -errno;
	if (!d->no_sync && (atomic_load(named) & bit) == 0) {
		if (fsync(d->fd) != 0) {
			int err = -errno;

			(void)close(fd);
			return err;
		}
		atomic_fetch_or(named, bit);
	}
	return fd;
}

static bool no_such_flag(int err)
{
	return err == EOPNOTSUPP || err == EISDIR || err == EINVAL || err == ENOENT;
}

/* Without a name; 1: this file system cannot do that. */
static int write_unnamed(struct efs_dir *d, int dir_fd, const char *leaf, const struct seg_buf *b)
{
	int fd = openat(dir_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666), err, closed;
	char proc[32];

	if (fd < 0)
		return no_such_flag(errno) ? 1 : -errno;
	err = write_buf(d, fd, b);
	snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
	if (err == 0 && linkat(AT_FDCWD, proc, dir_fd, leaf, AT_SYMLINK_FOLLOW) != 0)
		err = errno == ENOENT ? 1 : -errno; /* no /proc */
	closed = shut(fd);
	return err != 0 ? err : closed;
}

/* over: in the place of what has the name, which is damaged. */
static int write_named(struct efs_dir *d, int dir_fd, const char *leaf, const struct seg_buf *b,
		       bool over)
{
	char tmp[SEG_ID_TEXT + 64], host[32];
	int fd, err, closed;

	if (gethostname(host, sizeof host) != 0)
		host[0] = '\0';
	host[sizeof host - 1] = '\0';
	/*
	 * Of this host, process and write. One may be there all the same: of another tier of the process, or, in a container
	 * that always has the same names and numbers, of the one that was killed.
	 */
	do {
		uint64_t serial = atomic_fetch_add_explicit(&d->serial, 1, memory_order_relaxed);

		snprintf(tmp, sizeof tmp, "%s.%s.%d.%u", leaf, host, (int)getpid(),
			 (unsigned)serial);
		fd = openat(d->tmp_fd, tmp, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
	} while (fd < 0 && errno == EEXIST);
	if (fd < 0)
		return -errno;
	err = write_buf(d, fd, b);
	closed = shut(fd);
	if (err == 0)
		err = closed;
	if (err == 0 && over && renameat(d->tmp_fd, tmp, dir_fd, leaf) == 0)
		return 0;
	if (err == 0 && (over || linkat(d->tmp_fd, tmp, dir_fd, leaf, 0) != 0))
		err = -errno;
	(void)unlinkat(d->tmp_fd, tmp, 0); /* else the next open does it */
	return err;
}

/* Is it there already? 1: whole; 0: no; -EBADMSG: damaged; or -errno. */
static int is_there(struct efs_dir *d, struct seg_id id)
{
	struct seg_buf *b = NULL;
	int err = efs__file_read(d, id, &b);

	if (err == 0)
		seg_buf_drop(b);
	return err == 0 ? 1 : err == -ENOENT ? 0 : err;
}

/* What is there is on the disk: who wrote it may have been told not to sync. */
static int sync_found(const struct efs_dir *d, int dir_fd, const char *leaf)
{
	int fd, err = 0;

	if (d->no_sync)
		return 0;
	fd = openat(dir_fd, leaf, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (fdatasync(fd) != 0)
		err = -errno;
	(void)close(fd); /* it was only read */
	return err;
}

int efs__file_write(struct efs_dir *d, struct seg_id id, const struct seg_buf *bytes)
{
	char name[EFS_NAME];
	int dir_fd, there, err;

	if (d->tmp_fd < 0)
		return -EROFS;
	if (seg_buf_len(bytes) > FILE_MAX)
		return -E2BIG;
	efs__name(id, name);
	there = is_there(d, id);
	if (there < 0 && there != -EBADMSG)
		return there;
	dir_fd = folder(d, id, name);
	if (dir_fd < 0)
		return dir_fd;
	err = there == 1 ? -EEXIST : 1;
	if (there == 0 && !d->no_tmpfile)
		err = write_unnamed(d, dir_fd, name + 4, bytes);
	if (err == 1) /* at no time is there none: another may have mended it meanwhile */
		err = write_named(d, dir_fd, name + 4, bytes, there == -EBADMSG);
	if (err == -EEXIST) /* or somebody was quicker: it is the same */
		err = sync_found(d, dir_fd, name + 4);
	/* also of who finds it: whoever gave it the name may not have come so far */
	if (err == 0 && !d->no_sync && fsync(dir_fd) != 0)
		err = -errno;
	(void)close(dir_fd); /* it was only read */
	return err;
}

int efs__file_drop(struct efs_dir *d, struct seg_id id)
{
	char name[EFS_NAME];

	if (d->tmp_fd < 0)
		return -EROFS;
	efs__name(id, name);
	return unlinkat(d->fd, name, 0) == 0 ? 0 : -errno;
}
