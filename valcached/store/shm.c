/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named shared memory: tmpfs files that outlive the process. Start-up and shutdown only. The simulation has
 * another file in place of this one (tests/simulation/shm.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/filelock.h"
#include "valcached/store/store_int.h"

/*
 * A new, zeroed, fully allocated file (an old one of the name is removed), mapped. NULL: *cause, and errno is
 * ENOSPC if there is no room for it.
 */
void *shm_map(const char *name, size_t len, const char *what, const char *remedy, char **cause)
{
	void *mem;
	int fd, res;

	unlink(name);
	fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		if (asprintf(
			cause,
			"cannot make %s: %s: the user that runs valcached must be able to write there",
			name, strerror(errno)) < 0)
			*cause = NULL;
		return NULL;
	}
	/* allocated now: a full tmpfs would otherwise be a SIGBUS later */
	res = posix_fallocate(fd, 0, (off_t)len);
	if (res != 0) {
		char dir[256];
		char *slash;

		snprintf(dir, sizeof dir, "%s", name);
		slash = strrchr(dir, '/');
		if (slash != NULL)
			*slash = '\0';
		close(fd);
		unlink(name);
		if (res == EFBIG) {
			if (asprintf(
				cause,
				"%s of %zu MiB are more than the process may have in one file: "
				"raise the limit (ulimit -f, LimitFSIZE=)",
				what, (len >> 20) + 1) < 0)
				*cause = NULL;
			errno = res;
			return NULL;
		}
		if (asprintf(
			cause,
			"%s is too small for %zu MiB of %s: enlarge it (mount -o remount,size=... %s; "
			"docker: --shm-size=...) or %s",
			dir, (len >> 20) + 1, what, dir, remedy) < 0)
			*cause = NULL;
		errno = res;
		return NULL;
	}
	mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (mem == MAP_FAILED) {
		if (asprintf(cause, "cannot map %zu MiB of %s: %s", len >> 20, what,
			     strerror(errno)) < 0)
			*cause = NULL;
		unlink(name);
		return NULL;
	}
	return mem;
}

/* An existing file of ours, mapped whole for reading and writing; NULL if there is none. */
void *shm_attach(const char *name, size_t *len)
{
	off_t size;
	void *mem;
	int fd;

	fd = open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return NULL;
	size = lseek(fd, 0, SEEK_END);
	if (size <= 0) {
		close(fd);
		return NULL;
	}
	mem = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	close(fd);
	if (mem == MAP_FAILED)
		return NULL;
	*len = (size_t)size;
	return mem;
}

void shm_unmap(void *mem, size_t len)
{
	munmap(mem, len);
}

void shm_remove(const char *name)
{
	unlink(name);
}

int shm_rename(const char *from, const char *to)
{
	return rename(from, to) < 0 ? -errno : 0;
}

/* An empty file of ours; -errno. */
static int lock_file(const char *name)
{
	struct stat st;
	int fd;

	do {
		/* not O_CREAT at once: in a folder for all (sticky) that refuses root what is -u's user's */
		fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd < 0 && errno == ENOENT)
			fd = open(name, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	} while (fd < 0 && errno == EEXIST);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return -EINVAL;
	}
	return fd;
}

int shm_hold(const char *name, const char *path, char **cause)
{
	struct stat named, have;
	char who[32];
	int fd, res;

	for (;;) {
		fd = res = lock_file(name);
		if (fd < 0)
			break;
		res = filelock(fd, path, "its store is in use by another process", who);
		if (res < 0 || fstat(fd, &have) < 0) {
			res = res < 0 ? res : -errno;
			close(fd);
			break;
		}
		/* who had it before has removed it while we waited? */
		if (lstat(name, &named) == 0 && named.st_dev == have.st_dev &&
		    named.st_ino == have.st_ino)
			return fd;
		close(fd);
	}
	if (res == -EBUSY)
		return cause_fail(
		    cause, res,
		    "%s is a copy of a store that another process%s serves, and both would use the same "
		    "shared memory: stop that one first, or, for an empty store, remove this file or "
		    "clear the first 8 KiB of the device",
		    path, who);
	return cause_fail(
	    cause, res, "cannot lock %s: %s: the user that runs valcached must be able to read it",
	    name, strerror(-res));
}

void shm_let_go(int hold, const char *name)
{
	unlink(name); /* still ours: who waits for it sees that the name is gone */
	close(hold);
}
