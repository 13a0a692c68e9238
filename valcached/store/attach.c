/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state that outlives the process: one file of named shared memory that holds struct live and,
 * behind it, the index. A daemon that starts after a clean stop, a kill or an upgrade takes it over
 * if it passes every gate here; else it makes a new one, and recover.c fills that from the disk.
 * Start-up and shutdown only, one thread; what others write into struct live while the store runs
 * is said there.
 *
 * The bytes are a dead process's: nothing of them is used as a length or a place before its gate.
 * The rules [AT-1] to [AT-6] are in the README.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sum.h"
#include "valcached/store/store_int.h"

#define HUGE_BYTES   (2u << 20)
#define GHOST_ALL    0.10 /* fingerprints, as a share of the items that fit */
#define GHOST_SECOND 0.25

#define LIVE_MAGIC   0x314556494c434c56ull /* "VLCLIVE1" */
#define LIVE_VERSION 1u                    /* also of what the fields mean */
#define LIVE_LAYOUT                                                                                \
	((uint32_t)sizeof(struct live) << 16 ^ (uint32_t)sizeof(struct live_seg) << 8 ^            \
	 (uint32_t)offsetof(struct live, seg) ^ STORE_SHRINK)

_Static_assert(offsetof(struct live, sum) % 8 == 0, "the sum covers all before it");
_Static_assert(sizeof(struct live_seg) == 32, "shared between processes");

static uint64_t index_items(const struct store *s)
{
	uint64_t items = 0;

	/* by what there is: while a path shrinks, of all that it still has */
	for (unsigned i = 0; i < s->npaths; i++)
		items +=
		    (((uint64_t)s->path[i].nseg + 1) << s->seg_shift) / (s->cfg.mean_value + 128);
	return items < 4096 >> STORE_SHRINK ? 4096 >> STORE_SHRINK : items;
}

static uint32_t segments(const struct store *s)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < s->npaths; i++)
		n += s->path[i].nseg;
	return n;
}

void live_name(const struct store *s, const uint8_t id[16], const char *what, char name[160])
{
	uint64_t hi, lo;

	memcpy(&hi, id, 8);
	memcpy(&lo, id + 8, 8);
	snprintf(name, 160, "%s/valcached-%016" PRIx64 "%016" PRIx64 "-%s", s->cfg.shm_dir, hi, lo,
		 what);
}

static void name_it(struct store *s)
{
	live_name(s, s->store_id, "index", s->shm_index);
}

int live_hold(struct store *s, char **cause)
{
	char name[sizeof s->shm_lock];
	int hold;

	live_name(s, s->store_id, "lock", name);
	hold = shm_hold(name, s->cfg.paths[0], cause);
	if (hold < 0)
		return hold;
	live_let_go(s);
	s->hold = hold;
	memcpy(s->shm_lock, name, sizeof name);
	return 0;
}

void live_let_go(struct store *s)
{
	if (s->shm_lock[0] != '\0')
		shm_let_go(s->hold, s->shm_lock);
	s->shm_lock[0] = '\0';
}

/* Shared memory that has lived through a boot is not memory; what it says is then of another time. */
static void read_boot(char boot[40])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(boot, 0, 40);
	if (fd < 0)
		return;
	if (read(fd, boot, 36) != 36)
		memset(boot, 0, 40);
	close(fd);
}

/* What the file must say to be this store's, all but its sum. */
static void identity(const struct store *s, struct live *l)
{
	uint32_t first = 0;

	memset(l, 0, sizeof *l);
	l->magic = LIVE_MAGIC;
	l->version = LIVE_VERSION;
	l->layout = LIVE_LAYOUT;
	memcpy(l->store_id, s->store_id, 16);
	read_boot(l->boot);
	l->index_off = (sizeof *l + segments(s) * sizeof(struct live_seg) + FORMAT_ALIGN - 1) &
		       ~(uint64_t)(FORMAT_ALIGN - 1);
	l->index_len = index_bytes(index_items(s));
	l->npaths = s->npaths;
	l->seg_shift = s->seg_shift;
	for (unsigned i = 0; i < s->npaths; i++) {
		l->path[i].unit_base = s->path[i].unit_base;
		l->path[i].nseg = s->path[i].nseg;
		l->path[i].first = first;
		first += s->path[i].nseg;
	}
	l->sum = sum64(l, offsetof(struct live, sum));
}

/*
 * Whether the kernel gave huge pages to the mapping at mem, which is in a tmpfs: what it says in smaps.
 * The mount decides, and huge=advise is not enough: shm_map allocates before anybody can advise.
 */
static bool on_huge_pages(const void *mem)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end, kib;
	char line[512];
	bool mine = false, huge = false;

	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			mine = start == (uintptr_t)mem;
		else if (mine && sscanf(line, "ShmemPmdMapped: %lu kB", &kib) == 1)
			huge = kib > 0;
	}
	if (f != NULL)
		(void)fclose(f);
	return huge;
}

static int common(struct store *s)
{
	bool huge;

	index_owe(s->index, &s->live->owed);
	s->index_len = s->live->index_len;
	s->large = s->live->large;
	(void)madvise(s->live, s->live_len, MADV_HUGEPAGE);
	/* one walk over all mappings, not needed where there cannot be any */
	huge = s->index_len >= HUGE_BYTES && on_huge_pages(s->live);
	log_info("index: %" PRIu64 " items of %" PRIu64
		 " bytes on average (--mean-value), %zu MiB in %s, "
		 "on %s pages",
		 index_items(s), s->cfg.mean_value, (s->index_len >> 20) + 1, s->cfg.shm_dir,
		 huge ? "huge" : "small");
	if (s->index_len >= HUGE_BYTES && !huge)
		log_info(
		    "index: lookups are faster on huge pages: mount -o remount,huge=within_size %s",
		    s->cfg.shm_dir);
	return ghost_open(
	    (uint64_t)((double)index_items(s) *
		       (s->cfg.admit == STORE_ADMIT_SECOND ? GHOST_SECOND : GHOST_ALL)) +
		1024,
	    &s->ghost);
}

/* A killed process's file of that name is removed: it did not pass a gate. */
int live_make(struct store *s, char **cause)
{
	struct live want;
	int res;

	identity(s, &want);
	name_it(s);
	s->live_len = want.index_off + want.index_len;
	s->live = shm_map(s->shm_index, s->live_len, "index",
			  "give a larger --mean-value (fewer items) or a smaller --size", cause);
	if (s->live == NULL)
		return -ENOMEM;
	memcpy(s->live, &want, sizeof want);
	atomic_store(&s->live->seq, 1);
	atomic_store(&s->live->generation, 1);
	res = index_open((char *)s->live + want.index_off, want.index_len, false, NULL, &s->index);
	return res < 0 ? res : common(s);
}

/* The first gate that does not let it pass; NULL: all do. */
static const char *gate(const struct store *s, const struct live *l, size_t len)
{
	struct live want;

	if (len < sizeof *l || l->magic != LIVE_MAGIC)
		return "magic number";
	if (l->version != LIVE_VERSION || l->layout != LIVE_LAYOUT)
		return "version";
	if (l->sum != sum64(l, offsetof(struct live, sum)))
		return "checksum";
	identity(s, &want);
	if (memcmp(l->store_id, want.store_id, 16) != 0)
		return "store id";
	if (memcmp(l->boot, want.boot, sizeof want.boot) != 0)
		return "boot id";
	if (l->npaths != want.npaths || l->seg_shift != want.seg_shift ||
	    memcmp(l->path, want.path, sizeof want.path) != 0)
		return "geometry";
	if (l->index_len != want.index_len)
		return "index size (another --mean-value)";
	/* all that is covered by the sum is now as expected; what follows changes while a store runs */
	if (l->sum != want.sum || len != want.index_off + want.index_len)
		return "file size";
	for (unsigned i = 0; i < s->npaths; i++)
		if (s->path[i].serial_found == 0 ||
		    (atomic_load(&l->serial[i]) != s->path[i].serial_found &&
		     atomic_load(&l->next[i]) != s->path[i].serial_found))
			return "superblock's serial number";
	if (atomic_load(&l->complete) != 1)
		return "completeness";
	if (atomic_load(&l->doubt) != 0)
		return "a path or a segment had failed";
	if (atomic_load(&l->owed) != 0)
		return "records that had left the index and were not ended yet";
	return NULL;
}

const char *live_attach(struct store *s, uint64_t *torn)
{
	const char *why;
	struct live *l;
	size_t len;

	name_it(s);
	if (s->cfg.fresh || s->cfg.no_attach)
		return "--restart";
	l = shm_attach(s->shm_index, &len);
	if (l == NULL)
		return "existence";
	why = gate(s, l, len);
	if (why == NULL &&
	    index_open((char *)l + l->index_off, l->index_len, true, torn, &s->index) < 0)
		why = "index header";
	if (why != NULL) {
		shm_unmap(l, len);
		return why;
	}
	s->live = l;
	s->live_len = len;
	if (common(s) < 0) {
		live_close(s);
		return "memory";
	}
	return NULL;
}

/* [AT-1] A superblock's next copy is about to be written, or is durable. */
void live_serial(struct path *p, bool done)
{
	struct live *l = p->store->live;

	if (l != NULL)
		atomic_store(done ? &l->serial[p->index] : &l->next[p->index], p->super.serial);
}

/* All superblocks have been written: the next start may find anything in this file. */
void live_started(struct store *s)
{
	atomic_store(&s->live->clean, 0);
}

int live_rename(struct store *s, const uint8_t id[16], char **cause)
{
	char index[sizeof s->shm_index], writes[sizeof s->shm_wbuf];
	int res;

	memcpy(index, s->shm_index, sizeof index);
	memcpy(writes, s->shm_wbuf, sizeof writes);
	memcpy(s->store_id, id, 16);
	name_it(s);
	wbufs_name(s);
	res = live_hold(s, cause);
	if (res < 0)
		return res;
	memcpy(s->live->store_id, s->store_id, 16);
	s->live->sum = sum64(s->live, offsetof(struct live, sum));
	for (unsigned i = 0; i < s->nwbuf; i++)
		memcpy(s->wbuf[i].shm->store_id, s->store_id, 16);
	if (rename(index, s->shm_index) == 0 && rename(writes, s->shm_wbuf) == 0)
		return 0;
	if (asprintf(cause, "cannot rename %s: %s", index, strerror(errno)) < 0)
		*cause = NULL;
	return -EIO;
}

int live_forget(const struct store *s, const char *path, const uint8_t id[16], char **cause)
{
	static const char *const what[] = {"index", "writes"};
	char name[160], lock[160];
	int hold;

	live_name(s, id, "lock", lock);
	hold = shm_hold(lock, path, cause);
	if (hold < 0)
		return hold;
	for (unsigned i = 0; i < 2; i++) {
		live_name(s, id, what[i], name);
		shm_remove(name);
	}
	shm_let_go(hold, lock);
	return 0;
}

int store_give(const struct store *s, uid_t user, gid_t group, const char **what)
{
	struct stat st;

	const char *shm[] = {s->shm_index, s->shm_wbuf, s->shm_lock};

	for (unsigned i = 0; i < s->npaths + 3; i++) {
		*what = i < 3 ? shm[i] : s->cfg.paths[i - 3];
		if (stat(*what, &st) != 0)
			return -errno;
		if (S_ISREG(st.st_mode) && (st.st_uid != user || st.st_gid != group) &&
		    chown(*what, user, group) != 0)
			return -errno;
	}
	return 0;
}

/* Everything is idle. */
void live_stopped(struct store *s)
{
	bool clean = s->wbuf != NULL && s->replayed;

	for (unsigned i = 0; clean && i < s->nwbuf; i++)
		clean = atomic_load(&s->wbuf[i].shm->generation) == 0;
	if (clean && s->live != NULL)
		atomic_store(&s->live->clean, 1);
}

/* What is complete stays for the next start. */
void live_close(struct store *s)
{
	bool keep = s->live != NULL && atomic_load(&s->live->complete) == 1;

	ghost_close(&s->ghost);
	if (s->index != NULL)
		index_close(&s->index);
	if (s->live != NULL) {
		shm_unmap(s->live, s->live_len);
		if (!keep)
			shm_remove(s->shm_index);
	}
	s->live = NULL;
}
