/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cutfs: a FUSE pass-through over one folder that behaves as a disk with a volatile write cache, loses
 * power when told to, and fails when told to.
 *
 *     cutfs FOLDER MOUNTPOINT [lie]        in the foreground; ends when it is unmounted
 *
 * A write is acknowledged when it is in the cache. An fsync makes durable what was acknowledged before
 * the fsync came in, by moving it to the file in FOLDER, which so holds what a disk would hold. Reads
 * see both. "lie": fsync is acknowledged and does nothing; only what no longer fits into the cache
 * (LIE_CACHE bytes) becomes durable, the oldest first.
 *
 * Control: each write(2) to MOUNTPOINT/.control is one command, which has happened when it returns.
 *     cut SEED     the power goes: a seed decides what of the cache survives, and how (enum fate);
 *                  from now on everything is EIO
 *     on           the power is back; handles from before stay EIO, as their process should be dead
 *     fault KIND OP FROM TO COUNT MS
 *                  the next COUNT (0: all) of OP (read, write, fsync) that touch bytes FROM to TO (0: to
 *                  the end) are KIND: eio, enospc, short (half of its pages), empty (a read of nothing),
 *                  slow (MS later), flip (a read with one wrong bit), hold (until "clear")
 *     clear        no faults any more; what is held goes on
 * Reading it gives counters, one a line.
 *
 * Metadata (names, sizes, fallocate) is durable at once: what is tested is data.
 *
 * Threads: those of libfuse. `lock` covers everything; a request that is slow or held waits without it.
 * libfuse has ten: fewer must be held, or no command comes through.
 */
#define FUSE_USE_VERSION 34
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"

#define SECTOR    512u
#define LIE_CACHE (8u * 1024 * 1024)
#define FAULTS    16u
#define FILES     16u /* in all */
#define CONTROL   "/.control"

/* What a cut does to the cache. Torn: each sector for itself. Shuffled: later writes may go first. */
#define FATES(X)                                                                                   \
	X(DROP, "dropped")                                                                         \
	X(KEEP, "kept")                                                                            \
	X(PREFIX, "the first ones kept")                                                           \
	X(SUFFIX, "the last ones kept")                                                            \
	X(SOME, "some kept")                                                                       \
	X(TORN, "torn")                                                                            \
	X(SHUFFLED, "torn and shuffled")

enum fate {
#define X(n, t) FATE_##n,
	FATES(X)
#undef X
	    FATE_COUNT
};
static const char *const fate_text[] = {
#define X(n, t) t,
    FATES(X)
#undef X
};

/* A write in the cache; in the order of acknowledgement. */
struct pending {
	struct pending *next;
	ino_t ino;
	int fd; /* of the folder's file */
	uint64_t off;
	size_t len;
	uint8_t data[];
};

struct fault {
	bool used;
	char kind[8], op[8];
	uint64_t from, to, count, ms;
	bool for_ever;
};

struct handle {
	int fd;
	ino_t ino;
	uint64_t boot;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct pending *first, **tail = &first;
static uint64_t cached; /* bytes in the cache */
static struct fault faults[FAULTS];
static pthread_cond_t cleared = PTHREAD_COND_INITIALIZER;
static uint64_t clears, held; /* held: requests, now */
static bool lies, off;
static uint64_t boot = 1;
static char top[4096];
static struct {
	ino_t ino;
	int fd;
} disks[FILES];
static struct {
	uint64_t reads, writes, write_bytes, fsyncs, cuts, kept, dropped, torn, faults, cached_max;
	uint64_t refused;      /* without power, or by a handle from before */
	uint64_t bytes_before; /* written before the first cut */
	uint64_t fates[FATE_COUNT];
	uint64_t slowest_ns; /* of writes and fsyncs, since the power came on */
} count;

static uint64_t rnd(uint64_t *x)
{
	uint64_t z = *x += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static void real_name(char *to, size_t n, const char *path)
{
	snprintf(to, n, "%s%s", top, path);
}

static struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh; // NOLINT(performance-no-int-to-ptr)
}

/* ---- the cache; under lock ----------------------------------------------------------------------- */

static void to_disk(int fd, const uint8_t *data, size_t len, uint64_t at)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, (off_t)at);

		A(n >
		  0); /* the folder's own disk must not fail here: nobody could tell what was tested */
		data += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
}

static void take_out(struct pending **at)
{
	struct pending *p = *at;

	*at = p->next;
	if (p->next == NULL)
		tail = at;
	cached -= p->len;
	free(p);
}

/* What the file's readers see: the disk, and over it the cache. */
static void overlay(const struct handle *h, uint8_t *to, size_t len, uint64_t at)
{
	for (const struct pending *p = first; p != NULL; p = p->next) {
		uint64_t from = p->off > at ? p->off : at;
		uint64_t end = p->off + p->len < at + len ? p->off + p->len : at + len;

		if (p->ino == h->ino && from < end)
			memcpy(to + (from - at), p->data + (from - p->off), end - from);
	}
}

static void survive(const struct pending *p, bool tear, uint64_t *seed)
{
	if (!tear) {
		to_disk(p->fd, p->data, p->len, p->off);
		count.kept += p->len;
		return;
	}
	for (size_t at = 0; at < p->len; at += SECTOR) {
		size_t n = p->len - at < SECTOR ? p->len - at : SECTOR;

		if (rnd(seed) % 2 == 0) {
			to_disk(p->fd, p->data + at, n, p->off + at);
			count.kept += n;
		} else {
			count.dropped += n;
		}
	}
	count.torn++;
}

static void cut(uint64_t seed)
{
	enum fate fate = (enum fate)(rnd(&seed) % FATE_COUNT);
	struct pending **all;
	size_t n = 0, i = 0, edge;

	for (const struct pending *p = first; p != NULL; p = p->next)
		n++;
	all = calloc(n + 1, sizeof(struct pending *));
	AN(all);
	for (struct pending *p = first; p != NULL; p = p->next)
		all[i++] = p;
	edge = n > 0 ? rnd(&seed) % (n + 1) : 0;
	if (fate == FATE_SHUFFLED)
		for (i = n; i > 1; i--) {
			size_t j = rnd(&seed) % i;
			struct pending *p = all[j];

			all[j] = all[i - 1];
			all[i - 1] = p;
		}
	for (i = 0; i < n; i++) {
		bool keep = fate == FATE_KEEP || (fate == FATE_PREFIX && i < edge) ||
			    (fate == FATE_SUFFIX && i >= edge) ||
			    (fate >= FATE_SOME && rnd(&seed) % 3 != 0);

		if (keep)
			survive(all[i], fate >= FATE_TORN && rnd(&seed) % 2 == 0, &seed);
		else
			count.dropped += all[i]->len;
	}
	free(all);
	while (first != NULL)
		take_out(&first);
	tail = &first;
	off = true;
	if (count.cuts == 0)
		count.bytes_before = count.write_bytes;
	count.cuts++;
	count.fates[fate]++;
}

/* ---- faults ---------------------------------------------------------------------------------------- */

/* The fault that this request meets, counted; kind "" if none. What is slow or held has waited already. */
static struct fault meet(const char *op, uint64_t at, size_t len)
{
	struct fault f = {0};

	for (unsigned i = 0; i < FAULTS; i++) {
		struct fault *q = &faults[i];

		if (!q->used || strcmp(q->op, op) != 0 || (q->to != 0 && at >= q->to) ||
		    (len > 0 && at + len <= q->from))
			continue;
		f = *q;
		count.faults++;
		if (!q->for_ever && --q->count == 0)
			q->used = false;
		break;
	}
	if (strcmp(f.kind, "slow") == 0) {
		pthread_mutex_unlock(&lock);
		usleep((useconds_t)(f.ms * 1000));
		pthread_mutex_lock(&lock);
	}
	if (strcmp(f.kind, "hold") == 0) {
		uint64_t since = clears;

		held++;
		while (clears == since)
			pthread_cond_wait(&cleared, &lock);
		held--;
	}
	return f;
}

/* Under lock, and after a slow one or one that was held has waited. */
static int error_of(const struct fault *f, const struct handle *h)
{
	if (off || h->boot != boot) {
		count.refused++;
		return -EIO;
	}
	return strcmp(f->kind, "eio") == 0 ? -EIO : strcmp(f->kind, "enospc") == 0 ? -ENOSPC : 0;
}

/* Under lock. */
static void took(uint64_t since)
{
	uint64_t ns = clock_ns() - since;

	if (ns > count.slowest_ns)
		count.slowest_ns = ns;
}

static int command(const char *text)
{
	struct fault f = {.used = true};
	uint64_t seed;

	if (sscanf(text, "cut %" SCNu64, &seed) == 1) {
		cut(seed);
		return 0;
	}
	if (strncmp(text, "on", 2) == 0) {
		off = false;
		boot++;
		count.slowest_ns = 0;
		return 0;
	}
	if (strncmp(text, "clear", 5) == 0) {
		memset(faults, 0, sizeof(faults));
		clears++;
		pthread_cond_broadcast(&cleared);
		return 0;
	}
	if (sscanf(text, "fault %7s %7s %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, f.kind, f.op,
		   &f.from, &f.to, &f.count, &f.ms) != 6)
		return -EINVAL;
	f.for_ever = f.count == 0;
	for (unsigned i = 0; i < FAULTS; i++)
		if (!faults[i].used) {
			faults[i] = f;
			return 0;
		}
	return -ENOSPC;
}

static int report(char *to, size_t n)
{
	size_t at = (size_t)snprintf(
	    to, n,
	    "reads %" PRIu64 "\nwrites %" PRIu64 "\nwrite_bytes %" PRIu64 "\nfsyncs %" PRIu64
	    "\ncuts %" PRIu64 "\nkept_bytes %" PRIu64 "\ndropped_bytes %" PRIu64
	    "\ntorn_writes %" PRIu64 "\nfaults %" PRIu64 "\nheld %" PRIu64 "\nrefused %" PRIu64
	    "\ncached_bytes_max %" PRIu64 "\nwritten_before_cuts %" PRIu64 "\nslowest_us %" PRIu64
	    "\n",
	    count.reads, count.writes, count.write_bytes, count.fsyncs, count.cuts, count.kept,
	    count.dropped, count.torn, count.faults, held, count.refused, count.cached_max,
	    count.bytes_before, count.slowest_ns / 1000);

	for (unsigned i = 0; i < FATE_COUNT && at < n; i++)
		at += (size_t)snprintf(to + at, n - at, "cuts: %s %" PRIu64 "\n", fate_text[i],
				       count.fates[i]);
	return (int)(at < n ? at : n);
}

/* ---- FUSE ------------------------------------------------------------------------------------------ */

static bool is_control(const char *path)
{
	return strcmp(path, CONTROL) == 0;
}

static int fs_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	char name[8192];

	(void)fi;
	if (is_control(path)) {
		memset(st, 0, sizeof(*st));
		st->st_mode = S_IFREG | 0600;
		st->st_nlink = 1;
		return 0;
	}
	real_name(name, sizeof(name), path);
	return lstat(name, st) == 0 ? 0 : -errno;
}

static int fs_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t at,
		      struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
	char name[8192];
	struct dirent *e;
	DIR *d;

	(void)at, (void)fi, (void)flags;
	real_name(name, sizeof(name), path);
	d = opendir(name);
	if (d == NULL)
		return -errno;
	while ((e = readdir(d)) != NULL) // NOLINT(concurrency-mt-unsafe)
		fill(buf, e->d_name, NULL, 0, 0);
	closedir(d);
	return 0;
}

/* The descriptor that stands for this file from now on; fd, or the one it had before. */
static int disk_of(int fd, ino_t ino)
{
	int had = -1;

	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < FILES && had < 0; i++) {
		if (disks[i].ino == ino) {
			had = disks[i].fd;
			close(fd);
		} else if (disks[i].ino == 0) {
			disks[i].ino = ino;
			had = disks[i].fd = fd;
		}
	}
	pthread_mutex_unlock(&lock);
	return had;
}

static int fs_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	struct handle *h;
	char name[8192];
	struct stat st;
	int fd;

	fi->direct_io = 1;
	if (is_control(path))
		return 0;
	if (off)
		return -EIO;
	h = calloc(1, sizeof(*h));
	if (h == NULL)
		return -ENOMEM;
	real_name(name, sizeof(name), path);
	/* the daemon's O_DIRECT ends here: the folder's pages are the disk */
	fd = open(name, O_RDWR | O_CLOEXEC | (mode != 0 ? O_CREAT : 0), mode);
	if (fd < 0 || fstat(fd, &st) != 0) {
		free(h);
		return -errno;
	}
	h->fd = disk_of(fd, st.st_ino);
	if (h->fd < 0) {
		free(h);
		return -ENFILE;
	}
	h->ino = st.st_ino;
	h->boot = boot;
	fi->fh = (uint64_t)(uintptr_t)h;
	return 0;
}

static int fs_open(const char *path, struct fuse_file_info *fi)
{
	return fs_create(path, 0, fi);
}

/* A write in the cache may outlive its handle: descriptors of the folder's files stay, one a file. */
static int fs_release(const char *path, struct fuse_file_info *fi)
{
	if (!is_control(path))
		free(handle_of(fi));
	return 0;
}

static int fs_read(const char *path, char *to, size_t len, off_t at, struct fuse_file_info *fi)
{
	struct handle *h;
	struct fault f;
	ssize_t n;
	int res;

	pthread_mutex_lock(&lock);
	if (is_control(path)) {
		res = at == 0 ? report(to, len) : 0;
		goto out;
	}
	h = handle_of(fi);
	f = meet("read", (uint64_t)at, len);
	res = error_of(&f, h);
	if (res < 0)
		goto out;
	if (strcmp(f.kind, "short") == 0 && len > 4096)
		len = len / 2 / 4096 * 4096;
	if (strcmp(f.kind, "empty") == 0)
		len = 0;
	n = pread(h->fd, to, len, at);
	res = n < 0 ? -errno : (int)n;
	if (n > 0)
		overlay(h, (uint8_t *)to, (size_t)n, (uint64_t)at);
	if (n > 0 && strcmp(f.kind, "flip") == 0)
		to[n / 2] ^= 4;
	count.reads++;
out:
	pthread_mutex_unlock(&lock);
	return res;
}

static int fs_write(const char *path, const char *from, size_t len, off_t at,
		    struct fuse_file_info *fi)
{
	uint64_t since = clock_ns();
	struct pending *p;
	struct handle *h;
	char text[128];
	struct fault f;
	int res;

	pthread_mutex_lock(&lock);
	if (is_control(path)) {
		snprintf(text, sizeof(text), "%.*s", (int)(len < 120 ? len : 120), from);
		res = command(text);
		res = res < 0 ? res : (int)len;
		goto out;
	}
	h = handle_of(fi);
	f = meet("write", (uint64_t)at, len);
	res = error_of(&f, h);
	if (res < 0)
		goto out;
	if (strcmp(f.kind, "short") == 0 && len > 4096)
		len = len / 2 / 4096 * 4096;
	p = malloc(sizeof(*p) + len);
	AN(p);
	*p = (struct pending){.ino = h->ino, .fd = h->fd, .off = (uint64_t)at, .len = len};
	memcpy(p->data, from, len);
	*tail = p;
	tail = &p->next;
	cached += len;
	if (cached > count.cached_max)
		count.cached_max = cached;
	while (lies && cached > LIE_CACHE) {
		to_disk(first->fd, first->data, first->len, first->off);
		take_out(&first);
	}
	count.writes++;
	count.write_bytes += len;
	res = (int)len;
out:
	took(since);
	pthread_mutex_unlock(&lock);
	return res;
}

static int fs_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
	uint64_t since = clock_ns();
	const struct pending *last;
	struct pending **at;
	struct handle *h;
	struct fault f;
	int res = 0;
	bool end;

	(void)datasync;
	if (is_control(path))
		return 0;
	h = handle_of(fi);
	pthread_mutex_lock(&lock);
	last = first;
	while (last != NULL && last->next != NULL)
		last = last->next;
	f = meet("fsync", 0, 0);
	res = error_of(&f, h);
	if (res < 0 || lies)
		goto out;
	/* what came while a slow one slept stays; `last` may be gone by another's fsync, then all may go */
	for (at = &first, end = false; *at != NULL && !end;) {
		end = *at == last;
		if ((*at)->ino != h->ino) {
			at = &(*at)->next;
			continue;
		}
		to_disk(h->fd, (*at)->data, (*at)->len, (*at)->off);
		take_out(at);
	}
	count.fsyncs++;
out:
	took(since);
	pthread_mutex_unlock(&lock);
	return res;
}

static int fs_fallocate(const char *path, int mode, off_t at, off_t len, struct fuse_file_info *fi)
{
	(void)path;
	if (off)
		return -EIO;
	return fallocate(handle_of(fi)->fd, mode, at, len) == 0 ? 0 : -errno;
}

static int fs_truncate(const char *path, off_t len, struct fuse_file_info *fi)
{
	char name[8192];

	(void)fi;
	if (is_control(path))
		return 0;
	real_name(name, sizeof(name), path);
	return truncate(name, len) == 0 ? 0 : -errno;
}

static int fs_unlink(const char *path)
{
	char name[8192];

	real_name(name, sizeof(name), path);
	return unlink(name) == 0 ? 0 : -errno;
}

static int fs_statfs(const char *path, struct statvfs *st)
{
	(void)path;
	return statvfs(top, st) == 0 ? 0 : -errno;
}

static void *fs_init(struct fuse_conn_info *conn, struct fuse_config *cfg)
{
	cfg->attr_timeout = cfg->entry_timeout = cfg->negative_timeout = 0;
	conn->max_write = 1u << 20;
	return NULL;
}

static const struct fuse_operations operations = {
    .init = fs_init,
    .getattr = fs_getattr,
    .readdir = fs_readdir,
    .create = fs_create,
    .open = fs_open,
    .release = fs_release,
    .read = fs_read,
    .write = fs_write,
    .fsync = fs_fsync,
    .fallocate = fs_fallocate,
    .truncate = fs_truncate,
    .unlink = fs_unlink,
    .statfs = fs_statfs,
};

int main(int argc, char **argv)
{
	char *fuse[] = {argv[0], "-f", "-o", "default_permissions", argc > 2 ? argv[2] : NULL,
			NULL};

	if (argc < 3 || realpath(argv[1], top) == NULL) {
		fprintf(stderr, "usage: cutfs FOLDER MOUNTPOINT [lie]\n");
		return 2;
	}
	lies = argc > 3 && strcmp(argv[3], "lie") == 0;
	return fuse_main(5, fuse, &operations, NULL);
}
