/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths: opening the store's files, their superblocks, and the arithmetic of locations.
 * Start-up and shutdown only; one thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/log.h"
#include "valcached/store/store_int.h"

struct path *loc_path(struct store *s, uint64_t loc, uint32_t *seg, uint32_t *units_at)
{
	uint64_t per_seg = s->seg_size / FORMAT_UNIT;

	for (unsigned i = 0; i < s->npaths; i++) {
		struct path *p = &s->path[i];
		uint64_t at;

		if (loc < p->unit_base)
			break;
		at = loc - p->unit_base;
		if (at < ((uint64_t)p->nseg + 1) * per_seg) {
			if (at < per_seg)
				return NULL; /* the superblock's segment */
			*seg = (uint32_t)(at / per_seg - 1);
			*units_at = (uint32_t)(at % per_seg);
			return p;
		}
	}
	return NULL;
}

/* A path turns over: open and young ones, clean ones ahead, and enough to be worth a cache. */
#define SEGMENTS_MIN 16u

/* store/256 as a power of two within the format's bounds. */
uint32_t path_segment_shift(uint64_t size)
{
	uint32_t shift = FORMAT_SEG_SHIFT;

	while ((1ull << (shift + 1)) <= FORMAT_SEG_MAX && (1ull << (shift + 1)) <= size / 256)
		shift++;
	return shift;
}

static void new_super(struct store *s, struct path *p)
{
	p->super = (struct format_super){
	    .magic = FORMAT_SUPER_MAGIC,
	    .version = FORMAT_VERSION,
	    .path_index = p->index,
	    .path_count = s->npaths,
	    .seg_shift = s->seg_shift,
	    .seg_count = p->nseg,
	    .item_max = s->cfg.item_max,
	    .hash_secret = s->hash_secret,
	    .delete_epoch = s->path[0].super.delete_epoch,
	    .generation_floor = s->path[0].super.generation_floor,
	};
	memcpy(p->super.store_id, s->store_id, 16);
	memcpy(p->super.seed_id, s->id, 16);
}

/* seg_shift and seg_count are only numbers from the disk, even under a good sum. */
static bool geometry_good(const struct format_super *sb)
{
	return sb->seg_shift >= FORMAT_SEG_SHIFT && sb->seg_shift < 32 &&
	       (1ull << sb->seg_shift) <= FORMAT_SEG_MAX * 2 && sb->seg_count >= 1 &&
	       sb->seg_count < 1u << 24 && sb->path_index < STORE_PATHS_MAX &&
	       sb->path_count >= 1 && sb->path_count <= STORE_PATHS_MAX;
}

/* One that was there before, by itself: does it fit what is asked for? */
static int check_super(struct store *s, struct path *p, char **cause)
{
	const struct format_super *sb = &p->super;
	const char *name = p->file->info.path;
	uint64_t seg;

	if (sb->version != FORMAT_VERSION)
		return cause_fail(
		    cause, -EINVAL,
		    "%s was written by another version of valcached (format %u, this one reads %u): use "
		    "that version, or start empty with --restart=empty",
		    name, sb->version, FORMAT_VERSION);
	if (!geometry_good(sb))
		return cause_fail(
		    cause, -EINVAL,
		    "%s is damaged: its segment size makes no sense: start empty with "
		    "--restart=empty",
		    name);
	seg = 1ull << sb->seg_shift;
	if (s->cfg.item_max > seg / 2)
		return cause_fail(
		    cause, -EINVAL,
		    "-I of %" PRIu64 " bytes does not fit the segments of %s (%" PRIu64
		    " MiB, twice -I at least), and a store keeps the segments that it was made with: "
		    "use -I of %" PRIu64 "k or less, or start empty with --restart=empty",
		    s->cfg.item_max, name, seg >> 20, seg >> 11);
	if (s->cfg.size / seg < SEGMENTS_MIN)
		return cause_fail(cause, -EINVAL,
				  "--size is too small for the segments of %s (%" PRIu64
				  " MiB, and a store needs %u of them): use --size=%" PRIu64
				  "m or more, or start empty with --restart=empty",
				  name, seg >> 20, SEGMENTS_MIN, seg * SEGMENTS_MIN >> 20);
	if (p->file->info.have < (sb->seg_count + 1) * seg)
		return cause_fail(
		    cause, -ENOSPC,
		    "%s has %" PRIu64 " bytes, less than the %u segments of %" PRIu64
		    " MiB that it says to have: it was cut: give the whole file, or start "
		    "empty with --restart=empty",
		    name, p->file->info.have, (unsigned)sb->seg_count, seg >> 20);
	if (memcmp(sb->store_id, s->path[0].super.store_id, 16) != 0 ||
	    sb->seg_shift != s->path[0].super.seg_shift)
		return cause_fail(
		    cause, -EINVAL,
		    "%s belongs to another store than %s: give the paths of one store; what is to join "
		    "it as a new path must be empty: remove the file, or clear the first 8 KiB of the "
		    "device",
		    name, s->path[0].file->info.path);
	return 0;
}

static int path_alloc(struct path *p)
{
	p->seg = calloc(p->nseg, sizeof *p->seg);
	p->clean = calloc(p->nseg, sizeof *p->clean);
	if (p->seg == NULL || p->clean == NULL)
		return -ENOMEM;
	p->main_use = MAIN_UNKNOWN;
	for (unsigned k = 0; k < STREAMS; k++) {
		p->open[k] = SEG_NONE;
		p->order[k].ring = calloc(p->nseg, sizeof *p->order[k].ring);
		if (p->order[k].ring == NULL)
			return -ENOMEM;
	}
	return 0;
}

/* Two names of one file would be two owners of its blocks. */
static int same_path(struct store *s, char **cause)
{
	for (unsigned i = 0; i < s->npaths; i++)
		for (unsigned k = i + 1; k < s->npaths; k++) {
			const char *a = s->cfg.paths[i], *b = s->cfg.paths[k];
			struct stat x, y;

			if (strcmp(a, b) == 0 || (stat(a, &x) == 0 && stat(b, &y) == 0 &&
						  x.st_dev == y.st_dev && x.st_ino == y.st_ino))
				return cause_fail(
				    cause, -EINVAL,
				    "--path %s and --path %s are the same file: give each once", a,
				    b);
		}
	return 0;
}

/*
 * Opens path i's file and reads its superblock: 1, or 0 if it is blank. -ENOENT, and no sentence: it is not there,
 * and not to be made.
 */
static int file_open(struct store *s, struct io *io, unsigned i, bool make, char **cause)
{
	struct path *p = &s->path[i];
	const char *name = s->cfg.paths[i];
	int res;

	res = (make ? s->engine->file_open
		    : s->engine->file_open_made)(s->engine, name, s->cfg.size, &p->file, cause);
	if (res < 0)
		return res;
	res = io_add_file(io, p->file);
	if (res < 0)
		return cause_fail(cause, res, "cannot use %s: %s", name, strerror(-res));
	res = p->file->info.size < 2 * FORMAT_ALIGN ? -EINVAL : super_read(io, p, &p->super);
	if (res == -EINVAL)
		return cause_fail(
		    cause, res,
		    "%s holds something that is not a valcached store: give another --path, or, "
		    "if that is not needed, %s",
		    name,
		    p->file->info.block_device
			? "clear the device's first 8 KiB (dd if=/dev/zero bs=8k count=1 of=...)"
			: "remove the file");
	if (res < 0)
		return cause_fail(cause, res, "cannot read %s: %s", name, strerror(-res));
	return res;
}

/* The files that are there; found: those that have a superblock. */
static int files_open(struct store *s, struct io *io, unsigned *found, char **cause)
{
	*found = 0;
	for (unsigned i = 0; i < s->npaths; i++) {
		struct path *p = &s->path[i];
		int res;

		p->store = s;
		p->index = i;
		pthread_mutex_init(&p->lock, NULL);
		res = file_open(s, io, i, false, cause);
		if (res == -ENOENT && p->file == NULL && *cause == NULL)
			continue;
		if (s->cfg.fresh && res == 1) {
			/* what the old store has in shared memory is nobody's any more */
			res = live_forget(s, s->cfg.paths[i], p->super.store_id, cause);
			memset(&p->super, 0, sizeof p->super);
		}
		if (res < 0)
			return res;
		p->serial_found = res == 1 ? p->super.serial : 0;
		*found += res == 1;
	}
	return 0;
}

/* And those that are not: they are new paths, so none is made before that is sure. */
static int files_make(struct store *s, struct io *io, char **cause)
{
	for (unsigned i = 0; i < s->npaths; i++) {
		int res = s->path[i].file != NULL ? 0 : file_open(s, io, i, true, cause);

		if (res == 1)
			return cause_fail(cause, -EBUSY,
					  "%s: another process made it meanwhile: start again",
					  s->cfg.paths[i]);
		if (res < 0)
			return res;
	}
	return 0;
}

/*
 * A path's superblock says which one it is, so the order of --path options does not matter: locations in
 * index and records depend on this one. New paths come last.
 */
static void files_sort(struct store *s)
{
	for (unsigned i = 1; i < s->npaths; i++)
		for (unsigned k = i; k > 0; k--) {
			struct path *a = &s->path[k - 1], *b = &s->path[k];
			const char *name = s->cfg.paths[k - 1];
			struct format_super super = a->super;
			struct io_file *file = a->file;
			uint64_t serial = a->serial_found;

			if (b->serial_found == 0 ||
			    (a->serial_found != 0 && a->super.path_index <= b->super.path_index))
				break;
			a->super = b->super;
			b->super = super;
			a->file = b->file;
			b->file = file;
			a->serial_found = b->serial_found;
			b->serial_found = serial;
			s->cfg.paths[k - 1] = s->cfg.paths[k];
			s->cfg.paths[k] = name;
		}
}

/* The size of segments of a store that is made now. */
static int new_geometry(struct store *s, char **cause)
{
	s->seg_shift = path_segment_shift(s->cfg.size);
	while (s->cfg.item_max > 1ull << s->seg_shift >> 1) {
		/* long values want longer segments; a store needs a handful of them to turn over */
		if ((2ull << s->seg_shift) > FORMAT_SEG_MAX * 2 ||
		    s->cfg.size / (2ull << s->seg_shift) < SEGMENTS_MIN)
			return cause_fail(
			    cause, -EINVAL,
			    "-I of %" PRIu64 " bytes needs a store of at least %" PRIu64
			    " MiB: raise --size or lower -I",
			    s->cfg.item_max, (s->cfg.item_max * 2 * SEGMENTS_MIN) >> 20);
		s->seg_shift++;
	}
	return 0;
}

static int new_identity(struct store *s, char **cause)
{
	if (s->cfg.seed != 0) {
		s->hash_secret = s->cfg.seed * 0x9e3779b97f4a7c15ull;
		memcpy(s->store_id, &s->hash_secret, 8);
		memcpy(s->store_id + 8, &s->cfg.seed, 8);
	} else if (getrandom(s->store_id, 16, 0) != 16 || getrandom(&s->hash_secret, 8, 0) != 8) {
		return cause_fail(cause, -EIO, "no random numbers from the kernel");
	}
	memcpy(s->id, s->store_id, 16);
	return 0;
}

/* Who the store is, and its segments: by the superblocks that were found, or anew. */
static int identify(struct store *s, unsigned found, char **cause)
{
	static const uint8_t none[16];
	const struct format_super *sb = &s->path[0].super;
	int res = 0;

	for (unsigned i = 0; i < found && res >= 0; i++)
		res = check_super(s, &s->path[i], cause);
	if (res >= 0 && found > 0) {
		s->seg_shift = sb->seg_shift;
		s->seg_size = 1ull << s->seg_shift;
		s->hash_secret = sb->hash_secret;
		memcpy(s->store_id, sb->store_id, 16);
		memcpy(s->id, memcmp(sb->seed_id, none, 16) != 0 ? sb->seed_id : s->store_id, 16);
		res = geometry_members(s, found, cause);
	} else if (res >= 0) {
		res = new_geometry(s, cause);
		if (res >= 0)
			res = new_identity(s, cause);
	}
	s->seg_size = 1ull << s->seg_shift;
	s->id_seed = record_seed(s->id);
	return res;
}

/* A path that holds nothing of this store so far. */
static int path_make(struct store *s, struct io *io, struct path *p, unsigned found, char **cause)
{
	const char *name = p->file->info.path;
	int res = 0;

	new_super(s, p);
	if (found > 0) {
		/* a device may have been a path of this store before */
		res = geometry_clear(io, p, 0);
		if (res < 0)
			return cause_fail(cause, res, "cannot write to %s: %s", name,
					  strerror(-res));
		log_info("store: %s joins the store of %s, which keeps its values", name,
			 s->path[0].file->info.path);
	}
	if (!s->forgets) { /* else when the store has its new id */
		res = super_write(io, p);
		p->made = res >= 0;
	}
	if (res < 0)
		return cause_fail(cause, res, "cannot write to %s: %s", name, strerror(-res));
	log_info("store: made %s: %u segments of %" PRIu64 " MiB%s", name, p->nseg,
		 s->seg_size >> 20, p->file->info.block_device ? ", block device" : "");
	return 0;
}

/*
 * Opens every path, makes or checks the superblocks, and reads what the segments hold. On failure
 * paths_close() cleans up.
 */
int paths_open(struct store *s, char **cause)
{
	struct io_config ic = {.entries = 128, .disk_depth = 64};
	struct io *io = NULL;
	uint64_t base = 0;
	unsigned found;
	int res;

	res = same_path(s, cause);
	if (res < 0)
		return res;
	if (s->cfg.size / FORMAT_SEG_MIN < SEGMENTS_MIN)
		return cause_fail(cause, -EINVAL,
				  "--size of %" PRIu64 " bytes is too small: at least 64m",
				  s->cfg.size);
	res = io_open(s->engine, &ic, &io, cause);
	if (res < 0)
		goto out;
	res = files_open(s, io, &found, cause);
	if (res < 0)
		goto out;
	geometry_adopt(s);
	files_sort(s);
	res = identify(s, found, cause);
	if (res >= 0)
		res = live_hold(s, cause);
	if (res >= 0)
		res = files_make(s, io, cause);
	if (res < 0)
		goto out;
	for (unsigned i = 0; i < s->npaths; i++) {
		struct path *p = &s->path[i];
		uint32_t asked = (uint32_t)(s->cfg.size / s->seg_size) - 1;

		p->nseg =
		    i < found && p->super.seg_count > asked ? (uint32_t)p->super.seg_count : asked;
		p->nstay = asked;
		p->unit_base = base;
		base += ((uint64_t)p->nseg + 1) * (s->seg_size / FORMAT_UNIT);
		if (base > INDEX_LOC_MAX) {
			res = cause_fail(cause, -EINVAL,
					 "the paths together are above 4 TiB: lower --size");
			goto out;
		}
		res = path_alloc(p);
		if (res < 0)
			goto out;
	}
	res = geometry_sizes(s, cause);
	for (unsigned i = 0; res >= 0 && i < s->npaths; i++)
		res = i < found ? geometry_grow(s, io, &s->path[i], cause)
				: path_make(s, io, &s->path[i], found, cause);
	if (res < 0)
		goto out;
	res = wbufs_open(s, cause);
	if (res < 0)
		goto out;
	res = recover(s, io, cause);
	if (res >= 0 && s->forgets)
		res = geometry_forget(s, io, cause);
	if (res < 0)
		goto out;
	/* the serial counts starts; a path whose serial is above 1 has been opened as a whole store */
	for (unsigned i = 0; i < s->npaths; i++) {
		struct format_super *sb = &s->path[i].super;

		geometry_settled(s, sb);
		sb->path_count = s->npaths;
		sb->flags &= ~(uint64_t)FORMAT_CLEAN;
		res = super_write(io, &s->path[i]);
		if (res < 0) {
			cause_fail(cause, res, "cannot write to %s: %s", s->cfg.paths[i],
				   strerror(-res));
			goto out;
		}
	}
	/* what shrank may have been killed before the cut [LV-4] */
	for (unsigned i = 0; i < s->npaths; i++)
		if (!leaving(&s->path[i]))
			geometry_cut(&s->path[i]);
	live_started(s);
	res = 0;
out:
	/* a start that is refused takes no space */
	for (unsigned i = 0; res < 0 && i < s->npaths; i++)
		if (s->path[i].file != NULL && s->path[i].file->info.created && !s->path[i].made)
			(void)s->engine->file_resize(s->path[i].file, 0, NULL);
	if (io != NULL)
		io_close(&io);
	return res;
}

bool paths_stopped_well(const struct store *s)
{
	bool used = false;

	for (unsigned i = 0; i < s->npaths; i++) {
		if (s->path[i].super.flags &
		    FORMAT_CLEAN) /* what it says was true of all [path_stopped] */
			return true;
		used = used || s->path[i].super.serial > 1; /* 1: it was made, and has not served */
	}
	return !used;
}

void paths_close(struct store *s)
{
	for (unsigned i = 0; i < s->npaths; i++) {
		struct path *p = &s->path[i];

		for (uint32_t k = 0; p->seg != NULL && k < p->nseg; k++)
			free(p->seg[k].entries);
		free(p->seg);
		free(p->clean);
		for (unsigned k = 0; k < STREAMS; k++)
			free(p->order[k].ring);
		if (p->file != NULL)
			s->engine->file_close(p->file);
		if (p->store != NULL)
			pthread_mutex_destroy(&p->lock);
		memset(p, 0, sizeof *p);
	}
}
