/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a store file or block device: O_DIRECT, locked, preallocated. Start-up only; it blocks.
 *
 * The lock is flock(2) on the descriptor that does the I/O. The kernel keeps it until the last
 * request of a dying process is over, so whoever holds the lock is alone on the file.
 *
 * Fallocated but unwritten extents are left as they are: on ext4 and xfs an O_DIRECT write into
 * them stays asynchronous, while one that extends the file does not.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cause.h"
#include "base/clock.h"
#include "base/filelock.h"
#include "base/log.h"
#include "base/size.h"
#include "valcached/io/io_int.h"

#define ALIGN_MIN    512u
#define ALIGN_MAX    4096u
#define SHUT_WAIT_NS (FILELOCK_WAIT_S * NS_PER_S)
#define SHUT_STEP_NS (20 * NS_PER_MS)

static const char *fs_name(long type)
{
	switch (type) {
	case TMPFS_MAGIC:
		return "tmpfs";
	case OVERLAYFS_SUPER_MAGIC:
		return "overlayfs";
	case EXT4_SUPER_MAGIC:
		return "ext4";
	case XFS_SUPER_MAGIC:
		return "xfs";
	case BTRFS_SUPER_MAGIC:
		return "btrfs";
	case NFS_SUPER_MAGIC:
		return "nfs";
	case FUSE_SUPER_MAGIC:
		return "fuse";
	case V9FS_MAGIC:
		return "9p";
	case 0x2fc12fc1:
		return "zfs";
	default:
		return "unknown";
	}
}

static void open_cause(int err, const char *path, char **cause)
{
	char dir[PATH_MAX + 1], own[64] = "";
	struct stat st;
	char *up;

	snprintf(dir, sizeof dir, "%s", path);
	up = dirname(dir); /* cuts dir, or points to a constant */
	memmove(dir, up, strlen(up) + 1);
	switch (err) {
	case EROFS:
		cause_say(
		    cause,
		    "%s: the file system is mounted read-only: mount it for writing (mount -o "
		    "remount,rw), or choose another --path",
		    path);
		break;
	case EACCES:
	case EPERM:
		if (stat(path, &st) == 0 || stat(dir, &st) == 0)
			snprintf(own, sizeof own, ", owner uid %u, mode %04o", (unsigned)st.st_uid,
				 (unsigned)st.st_mode & 07777);
		cause_say(cause,
			  "%s: cannot be opened for writing: %s. This process is user %u%s: give "
			  "that user the file and its folder, or choose another --path",
			  path, strerror(err), (unsigned)geteuid(), own);
		break;
	case ENOENT:
		cause_say(cause, "%s: the folder %s does not exist: create it with mkdir -p %s",
			  path, dir, dir);
		break;
	case ENOTDIR:
		cause_say(cause, "%s: %s is not a folder", path, dir);
		break;
	case EISDIR:
		cause_say(cause,
			  "%s: is a folder: --path must name a file in it, such as %s/valcache",
			  path, path);
		break;
	case EBUSY:
		cause_say(
		    cause,
		    "%s: the device is mounted or in use by the kernel: unmount it, or choose "
		    "another "
		    "--path",
		    path);
		break;
	case ENXIO:
	case ENODEV:
		cause_say(cause, "%s: there is no such device", path);
		break;
	case EMFILE:
	case ENFILE:
		cause_say(cause, "%s: no descriptor left: raise LimitNOFILE, or ulimit -n", path);
		break;
	default:
		cause_say(cause, "%s: cannot be opened: %s", path, strerror(err));
		break;
	}
}

/* Opens, O_DIRECT if it can be had. Descriptor or -errno. */
static int open_direct(const char *path, bool block, bool make, bool *direct)
{
	int flags = O_RDWR | O_CLOEXEC | (block ? O_EXCL : make ? O_CREAT : 0);
	int fd;

	*direct = true;
	fd = open(path, flags | O_DIRECT, 0600);
	if (fd < 0 && errno == EINVAL) {
		*direct = false;
		fd = open(path, flags, 0600);
	}
	return fd < 0 ? -errno : fd;
}

static int lock(int fd, const char *path, char **cause)
{
	char who[32];
	int r = filelock(fd, path, "the store is in use by another process", who);

	if (r == -EBUSY)
		cause_say(cause,
			  "%s: the store is in use by another process%s: stop that one first, or "
			  "choose another --path",
			  path, who);
	else if (r < 0)
		cause_say(cause, "%s: cannot be locked: %s", path, strerror(-r));
	return r;
}

/* What reads and writes must be aligned to; 0: O_DIRECT does not work here. */
static uint32_t alignment(int fd, bool block)
{
	uint32_t a = 0;
	int sector;

#ifdef STATX_DIOALIGN
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
	    sx.stx_mask & STATX_DIOALIGN) {
		a = sx.stx_dio_mem_align > sx.stx_dio_offset_align ? sx.stx_dio_mem_align
								   : sx.stx_dio_offset_align;
		if (a == 0)
			return 0;
	}
#endif
	if (a == 0 && block && ioctl(fd, BLKSSZGET, &sector) == 0)
		a = (uint32_t)sector;
	if (a == 0)
		a = ALIGN_MAX;
	return a < ALIGN_MIN ? ALIGN_MIN : a;
}

/* Some file systems take O_DIRECT at open and refuse the I/O. */
static bool direct_reads(int fd, uint32_t align)
{
	void *p;
	ssize_t r;
	int err;

	if (align == 0 || align > ALIGN_MAX || posix_memalign(&p, ALIGN_MAX, ALIGN_MAX) != 0)
		return false;
	r = pread(fd, p, ALIGN_MAX, 0);
	err = errno;
	free(p);
	return r >= 0 || err == EIO; /* a bad sector is the store's to handle */
}

static int preallocate(int fd, const char *path, const struct stat *st, uint64_t size, char **cause)
{
	uint64_t have = (uint64_t)st->st_blocks * 512, space = 0;
	char want[SIZE_TEXT_MAX], room[SIZE_TEXT_MAX];
	struct statfs fs;
	int err;

	if ((uint64_t)st->st_size >= size && have >= size)
		return 0;
	if (fstatfs(fd, &fs) == 0)
		/* not f_bfree: the reserve is for others, and filling it up breaks their machine */
		space = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	else
		memset(&fs, 0, sizeof fs);
	size_human(want, sizeof want, (double)size);
	size_human(room, sizeof room, (double)(space + have));
	if (size > have && size - have > space && fs.f_bsize > 0) {
		err = ENOSPC;
		goto full;
	}
	while (fallocate(fd, 0, 0, (off_t)size) < 0) {
		err = errno;
		if (err == EINTR)
			continue;
		if (err == EOPNOTSUPP) {
			log_warn("%s: this file system (%s) cannot set space aside: the store may "
				 "meet a "
				 "full disk later, and its first lap of writes is slow",
				 path, fs_name((long)fs.f_type));
			if ((uint64_t)st->st_size >= size || ftruncate(fd, (off_t)size) == 0)
				break;
			err = errno;
		}
		/* As it was before: a store that cannot start takes no space. */
		if (ftruncate(fd, st->st_size) < 0)
			log_warn("%s: cannot be cut back to its old size: %s", path,
				 strerror(errno));
		goto full;
	}
	if (fsync(fd) < 0) {
		err = errno;
		cause_say(cause, "%s: cannot be synced: %s", path, strerror(err));
		return -err;
	}
	return 0;

full:
	if (err == ENOSPC || err == EDQUOT)
		cause_say(
		    cause,
		    "%s: --size=%s is larger than the space for it, %s: choose a smaller --size or "
		    "make room",
		    path, want, room);
	else if (err == EFBIG)
		cause_say(
		    cause,
		    "%s: --size=%s is more than this file system (%s) or the limit of the process "
		    "(ulimit -f) allows for one file",
		    path, want, fs_name((long)fs.f_type));
	else
		cause_say(cause, "%s: %s cannot be set aside: %s", path, want, strerror(err));
	return -err;
}

/*
 * Whether the head of the file says anything: if so, it is not made longer here. The store may refuse it,
 * and then it must be as it was.
 */
static bool has_content(int fd)
{
	static const uint8_t zero[ALIGN_MAX];
	ssize_t r = -1;
	void *p;
	bool some = true;

	if (posix_memalign(&p, ALIGN_MAX, 2 * ALIGN_MAX) != 0)
		return true;
	memset(p, 0, 2 * ALIGN_MAX);
	r = pread(fd, p, 2 * ALIGN_MAX, 0);
	if (r >= 0)
		some = memcmp(p, zero, ALIGN_MAX) != 0 ||
		       memcmp((uint8_t *)p + ALIGN_MAX, zero, ALIGN_MAX) != 0;
	free(p);
	return some;
}

static int device_size(int fd, const char *path, uint64_t want, struct io_file_info *info,
		       char **cause)
{
	char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX];
	uint64_t have;

	if (ioctl(fd, BLKGETSIZE64, &have) < 0) {
		int err = errno;

		cause_say(cause, "%s: its size cannot be read: %s", path, strerror(err));
		return -err;
	}
	if (want > have) {
		cause_say(cause,
			  "%s: the device has %s, less than --size=%s: choose a smaller --size",
			  path, size_human(a, sizeof a, (double)have),
			  size_human(b, sizeof b, (double)want));
		return -ENOSPC;
	}
	info->have = have;
	info->size = want != 0 ? want : have;
	return 0;
}

static int file_open(const struct io_engine *engine, const char *path, uint64_t size, bool make,
		     struct io_file **out, char **cause)
{
	struct io_file_info info = {.size = size};
	struct statfs fs;
	struct stat st;
	struct file *f;
	bool block = false, existed, locked = false;
	int fd = -1, id = -1, r;

	if (cause != NULL)
		*cause = NULL;
	if (strlen(path) >= sizeof info.path) {
		cause_say(cause, "%s: a path may have at most %zu bytes", path,
			  sizeof info.path - 1);
		return -ENAMETOOLONG;
	}
	memcpy(info.path, path, strlen(path) + 1);
	existed = stat(path, &st) == 0;
	if (existed) {
		if (S_ISDIR(st.st_mode)) {
			open_cause(EISDIR, path, cause);
			return -EISDIR;
		}
		block = S_ISBLK(st.st_mode);
		if (!block && !S_ISREG(st.st_mode)) {
			cause_say(cause, "%s: is neither a file nor a block device", path);
			return -EINVAL;
		}
	}
	info.block_device = block;
	fd = r = open_direct(path, block, make, &info.direct);
	if (fd < 0 && !make && r == -ENOENT)
		return r;
	if (fd < 0) {
		open_cause(-r, path, cause);
		goto fail;
	}
	if (fstat(fd, &st) < 0) {
		r = -errno;
		open_cause(-r, path, cause);
		goto fail;
	}
	r = lock(fd, path, cause);
	if (r < 0)
		goto fail;
	if (fstat(fd, &st) < 0) { /* its last owner may have changed it while we waited */
		r = -errno;
		open_cause(-r, path, cause);
		goto fail;
	}
	if (st.st_nlink == 0) { /* what would be stored in it could never be found again */
		cause_say(cause,
			  "%s: another process removed it while this one opened it: start again",
			  path);
		r = -ENOENT;
		goto fail;
	}
	locked = true;
	info.created = !block && st.st_size == 0;

	info.align = info.direct ? alignment(fd, block) : ALIGN_MAX;
	if (fstatfs(fd, &fs) < 0)
		memset(&fs, 0, sizeof fs);
	/* Newer kernels take O_DIRECT on tmpfs and ignore it. */
	if (info.direct &&
	    ((!block && fs.f_type == TMPFS_MAGIC) || !direct_reads(fd, info.align))) {
		info.direct = false;
		info.align = ALIGN_MAX;
		if (fcntl(fd, F_SETFL, 0) < 0) {
			r = -errno;
			open_cause(-r, path, cause);
			goto fail;
		}
	}
	if (!info.direct)
		log_warn("%s: the file system (%s) does not support O_DIRECT: going on with "
			 "buffered I/O, "
			 "which costs more CPU and fills the page cache",
			 path, fs_name((long)fs.f_type));

	if (block)
		r = device_size(fd, path, size, &info, cause);
	else if (size == 0 && st.st_size == 0) {
		cause_say(cause, "%s: a new store needs a --size", path);
		r = -EINVAL;
	} else {
		if (size == 0 || ((uint64_t)st.st_size < size && st.st_size > 0 && has_content(fd)))
			info.size = (uint64_t)st.st_size;
		r = preallocate(fd, path, &st, info.size, cause);
		info.have = (uint64_t)st.st_size > info.size ? (uint64_t)st.st_size : info.size;
	}
	if (r < 0)
		goto fail;
	info.size -= info.size % info.align;

	id = r = io_file_id_get();
	if (id < 0) {
		cause_say(cause, "%s: at most %d stores can be open", path, IO_FILES_MAX);
		goto fail;
	}
	f = calloc(1, sizeof *f);
	if (f == NULL) {
		cause_say(cause, "%s: no memory", path);
		io_file_id_put((unsigned)id);
		r = -ENOMEM;
		goto fail;
	}
	f->pub.engine = engine;
	f->pub.info = info;
	f->pub.id = (unsigned)id;
	f->fd = fd;
	*out = &f->pub;
	return 0;

fail:
	if (fd >= 0) {
		if (!existed && locked) /* who has the lock may have made it a moment before us */
			unlink(path);
		close(fd);
	}
	return r;
}

int io_real_file_open(const struct io_engine *engine, const char *path, uint64_t size,
		      struct io_file **out, char **cause)
{
	return file_open(engine, path, size, true, out, cause);
}

int io_real_file_open_made(const struct io_engine *engine, const char *path, uint64_t size,
			   struct io_file **out, char **cause)
{
	return file_open(engine, path, size, false, out, cause);
}

void io_real_file_close(struct io_file *pub)
{
	struct file *f = container_of(pub, struct file, pub);

	/* A ring that knows the file keeps it open a little longer; the lock must not wait for
	 * that. */
	flock(f->fd, LOCK_UN);
	close(f->fd);
	io_file_id_put(pub->id);
	free(f);
}

int io_real_file_resize(struct io_file *pub, uint64_t size, char **cause)
{
	struct file *f = container_of(pub, struct file, pub);
	char text[SIZE_TEXT_MAX];
	struct stat st;
	int r = 0;

	if (cause != NULL)
		*cause = NULL;
	if (pub->info.block_device) {
		r = device_size(f->fd, pub->info.path, size, &pub->info, cause);
	} else if (fstat(f->fd, &st) < 0 ||
		   ((uint64_t)st.st_size > size &&
		    (ftruncate(f->fd, (off_t)size) < 0 || fsync(f->fd) < 0))) {
		r = -errno;
		cause_say(cause, "%s: cannot be cut to %s: %s", pub->info.path,
			  size_human(text, sizeof text, (double)size), strerror(-r));
	} else {
		r = preallocate(f->fd, pub->info.path, &st, size, cause);
		if (r >= 0)
			pub->info.size = pub->info.have = size;
	}
	if (r >= 0)
		pub->info.size -= pub->info.size % pub->info.align;
	return r;
}

/* ---- bringing a file back ---------------------------------------------------------------------- */

bool io_real_file_works(struct io_file *pub)
{
	struct file *f = container_of(pub, struct file, pub);
	struct stat name, have;
	ssize_t r = -1;
	void *p;

	if (stat(pub->info.path, &name) < 0 || fstat(f->fd, &have) < 0)
		return false;
	if (name.st_dev != have.st_dev || name.st_ino != have.st_ino ||
	    name.st_rdev != have.st_rdev)
		return false;
	if (posix_memalign(&p, ALIGN_MAX, ALIGN_MAX) != 0)
		return false;
	r = pread(f->fd, p, ALIGN_MAX, 0);
	free(p);
	return r == (ssize_t)ALIGN_MAX;
}

/*
 * The descriptor's number stays, so that whoever kept it does not hit another file; what it stands for is
 * closed when the last ring has been told.
 */
void io_real_file_shut(struct io_file *pub)
{
	struct file *f = container_of(pub, struct file, pub);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	flock(f->fd, LOCK_UN);
	if (null < 0 || dup3(null, f->fd, O_CLOEXEC) < 0)
		log_warn("%s: cannot be closed: %s", pub->info.path, strerror(errno));
	if (null >= 0)
		close(null);
}

int io_real_file_reopen(struct io_file *pub, char **cause)
{
	struct file *f = container_of(pub, struct file, pub), *now;
	uint64_t until = clock_ns() + SHUT_WAIT_NS;
	const struct timespec step = {.tv_nsec = (long)SHUT_STEP_NS};
	struct io_file *new = NULL;
	int r;

	for (;;) {
		r = file_open(pub->engine, pub->info.path, pub->info.size, false, &new, cause);
		if (r != -EBUSY || clock_ns() >= until)
			break;
		/* a device is ours alone until the rings have let go of it */
		if (cause != NULL)
			free(*cause);
		nanosleep(&step, NULL);
	}
	if (r == -ENOENT && cause != NULL && *cause == NULL)
		cause_say(cause, "%s: %s", pub->info.path, strerror(-r));
	if (r < 0)
		return r;
	AN(new);
	now = container_of(new, struct file, pub);
	if (now->pub.info.align > pub->info.align ||
	    now->pub.info.block_device != pub->info.block_device) {
		cause_say(cause, "%s: is of another kind than it was: restart to use it",
			  pub->info.path);
		io_real_file_close(new);
		return -EINVAL;
	}
	if (dup3(now->fd, f->fd, O_CLOEXEC) < 0) {
		r = -errno;
		cause_say(cause, "%s: %s", pub->info.path, strerror(-r));
		io_real_file_close(new);
		return r;
	}
	pub->info.direct = now->pub.info.direct;
	close(now->fd); /* the lock belongs to what it stood for, and stays */
	io_file_id_put(now->pub.id);
	free(now);
	return 0;
}
