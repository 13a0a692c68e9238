/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A start with another geometry than the start before: --size was raised, or not all of the store's paths are
 * given (new ones are path.c's; a lower --size is leave.c's, while the store serves). Start-up only, one thread.
 *
 *  [GE-1] Growing: the file is made longer, the headers of the new segments are zeroed and synced (what an earlier
 *         life of the file or the device has left there must not be believed), then the superblock gets the
 *         new count. A kill before that leaves the old geometry.
 *  [GE-2] Places on disk count from their path's start, generations are the store's: so paths may grow, shrink
 *         and go by themselves, and a start takes each as its superblock says.
 *  [GE-3] Going on without a path: only if every path that stays was stopped in order and took writes until then.
 *         Else it may have missed deletes that only the missing one remembers [PS-2].
 *  [GE-4] Then the store gets a new id, with a gap of generations [F-10], so that what is missing, when it comes
 *         back, is another store's and cannot bring anything back. The superblocks are written one after
 *         another, each saying which id the store had and which of its paths stay: a start after a kill
 *         takes a path that was not reached yet for what it is [geometry_adopt]. Until all are written no
 *         value has changed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "valcached/store/store_int.h"

#define DEPTH             16u
#define FORGET_GENERATION (1ull << 32) /* more than any path can have drawn by itself */

static bool has_super(const struct path *p)
{
	return p->serial_found != 0 && p->super.version == FORMAT_VERSION &&
	       p->super.path_index < STORE_PATHS_MAX;
}

void geometry_adopt(struct store *s)
{
	for (unsigned i = 0; i < s->npaths; i++) {
		const struct format_super *n = &s->path[i].super;

		if (!has_super(&s->path[i]) || n->former_paths == 0)
			continue;
		for (unsigned k = 0; k < s->npaths; k++) {
			struct format_super *o = &s->path[k].super;

			if (!has_super(&s->path[k]) || memcmp(o->store_id, n->former_id, 16) != 0 ||
			    (n->former_paths >> o->path_index & 1) == 0)
				continue;
			o->path_index = (uint32_t)__builtin_popcountll(
			    n->former_paths & ((1ull << o->path_index) - 1));
			o->path_count = n->path_count;
			o->former_paths = n->former_paths;
			memcpy(o->former_id, n->former_id, 16);
			memcpy(o->seed_id, n->seed_id, 16);
			memcpy(o->store_id, n->store_id, 16);
		}
	}
}

/* "path 2" or "paths 2, 3". */
static const char *numbers(uint64_t paths, char text[static 96])
{
	size_t n = (size_t)snprintf(text, 96, "%s", (paths & (paths - 1)) != 0 ? "paths" : "path");

	for (unsigned i = 0; i < STORE_PATHS_MAX; i++)
		if (paths >> i & 1) {
			n += (size_t)snprintf(text + n, 96 - n, " %u,", i + 1);
			A(n < 96);
		}
	text[n - 1] = '\0';
	return text;
}

int geometry_members(struct store *s, unsigned found, char **cause)
{
	const char *first = s->path[0].file->info.path;
	uint64_t have = 0, missing;
	unsigned count = 0;
	char text[96];

	for (unsigned i = 0; i < found; i++) {
		const struct format_super *sb = &s->path[i].super;

		if (have >> sb->path_index & 1)
			return cause_fail(
			    cause, -EINVAL,
			    "%s and %s say both that they are path %u of their store: give one of them",
			    s->path[i - 1].file->info.path, s->path[i].file->info.path,
			    sb->path_index + 1);
		have |= 1ull << sb->path_index;
		count = sb->path_count > count ? sb->path_count : count;
		count = sb->path_index >= count ? sb->path_index + 1 : count;
	}
	missing = ~have & ((1ull << count) - 1);
	if (missing == 0)
		return 0;
	/* its first start was interrupted: it has no values */
	if (s->path[0].super.serial == 1 && s->npaths >= count && have == (1ull << found) - 1)
		return 0;
	numbers(missing, text);
	if (!s->cfg.forget_paths && found < s->npaths)
		return cause_fail(
		    cause, -EINVAL,
		    "%s %s, and %s belongs to a store of %u paths of which %s is not given: give it "
		    "(is it mounted?), or go on without its values with --forget-paths, or start empty "
		    "with --restart=empty",
		    s->cfg.paths[found], s->path[found].file != NULL ? "is empty" : "is not there",
		    first, count, text);
	if (!s->cfg.forget_paths)
		return cause_fail(
		    cause, -EINVAL,
		    "%s belongs to a store of %u paths of which %s is not given: give it, or go on without "
		    "its values with --forget-paths, or start empty with --restart=empty",
		    first, count, text);
	for (unsigned i = 0; i < found; i++) /* [GE-3] */
		if ((s->path[i].super.flags & FORMAT_CLEAN) == 0 ||
		    s->path[i].super.delete_epoch != s->path[0].super.delete_epoch)
			return cause_fail(
			    cause, -EINVAL,
			    "--forget-paths: %s was not stopped in order, so %s may remember deletes that "
			    "it has missed: start once with all paths and stop that, or start empty with "
			    "--restart=empty",
			    s->path[i].file->info.path, text);
	s->forgets = have;
	log_warn("store: goes on without %s of %u (%u segments of %" PRIu64
		 " MiB each): what was there is gone; to give such a path again, clear it first",
		 text, count, (unsigned)s->path[0].super.seg_count, s->seg_size >> 20);
	return 0;
}

int geometry_sizes(struct store *s, char **cause)
{
	uint64_t was[STORE_PATHS_MAX];
	unsigned i;
	int res = 0;

	for (i = 0; i < s->npaths && res >= 0; i++) {
		struct path *p = &s->path[i];
		uint64_t all = ((uint64_t)p->nseg + 1) << s->seg_shift;
		uint64_t want = s->cfg.size > all ? s->cfg.size : all;

		was[i] = p->file->info.have;
		if (was[i] < all || (s->cfg.fresh && was[i] != want))
			res = s->engine->file_resize(p->file, want, cause);
		else
			p->file->info.size = want < was[i] ? want : was[i];
	}
	if (res >= 0)
		return 0;
	/* as it was before */
	for (i--; i-- > 0 && !s->cfg.fresh;)
		if (s->path[i].file->info.have > was[i])
			(void)s->engine->file_resize(s->path[i].file, was[i], NULL);
	return res;
}

void geometry_cut(struct path *p)
{
	const struct store *s = p->store;
	char *cause = NULL;
	int res;

	if (p->file->info.block_device || p->file->info.have <= s->cfg.size)
		return;
	res = s->engine->file_resize(p->file, s->cfg.size, &cause);
	if (res < 0)
		log_warn("store: %s keeps its length: %s", p->file->info.path,
			 cause != NULL ? cause : strerror(-res));
	free(cause);
}

int geometry_clear(struct io *io, struct path *p, uint32_t from)
{
	static const uint8_t zero[FORMAT_ALIGN] __attribute__((aligned(FORMAT_ALIGN)));
	struct io_op op[DEPTH];
	int res = 0;

	A(sizeof zero == sizeof(struct format_segment));
	memset(op, 0, sizeof op);
	for (; from < p->nseg && res >= 0; from += DEPTH) {
		uint32_t n = p->nseg - from < DEPTH ? p->nseg - from : DEPTH;

		for (uint32_t i = 0; i < n; i++)
			io_write(io, &op[i], p->file, zero, FORMAT_ALIGN, seg_offset(p, from + i),
				 io_wait_done);
		for (uint32_t i = 0; i < n; i++)
			if (io_wait(io, &op[i]) < 0)
				res = op[i].res;
	}
	if (res >= 0) {
		io_sync(io, &op[0], p->file, io_wait_done);
		res = io_wait(io, &op[0]);
	}
	return res < 0 ? res : 0;
}

int geometry_grow(struct store *s, struct io *io, struct path *p, char **cause)
{
	uint32_t before = (uint32_t)p->super.seg_count, fresh = path_segment_shift(s->cfg.size);
	char more[96] = "";
	int res;

	if (p->nseg <= before)
		return 0;
	res = geometry_clear(io, p, before);
	p->super.seg_count = p->nseg;
	if (res >= 0)
		res = super_write(io, p);
	if (res < 0)
		return cause_fail(cause, res, "cannot write to %s: %s", p->file->info.path,
				  strerror(-res));
	if (fresh > s->seg_shift)
		snprintf(more, sizeof more,
			 " (one made with this --size would have segments of %u MiB)",
			 1u << fresh >> 20);
	log_info("store: %s grows from %u to %u segments of %" PRIu64 " MiB and keeps its values%s",
		 p->file->info.path, before, p->nseg, s->seg_size >> 20, more);
	return 0;
}

int geometry_forget(struct store *s, struct io *io, char **cause)
{
	uint8_t id[16], former[16];

	memcpy(former, s->store_id, 16);
	memcpy(id, s->store_id, 16);
	if (s->cfg.seed != 0)
		id[0]++; /* tests want the same every time */
	else if (getrandom(id, 16, 0) != 16)
		return cause_fail(cause, -EIO, "no random numbers from the kernel");
	atomic_fetch_add(&s->live->generation, FORGET_GENERATION);
	for (unsigned i = 0; i < s->npaths; i++) {
		struct path *p = &s->path[i];
		int res;

		p->super.path_index = i;
		p->super.path_count = s->npaths;
		p->super.epoch_paths = p->super.epoch_before = 0;
		p->super.former_paths = s->forgets;
		memcpy(p->super.former_id, former, 16);
		memcpy(p->super.seed_id, s->id, 16);
		memcpy(p->super.store_id, id, 16);
		p->made = true;
		res = super_write(io, p);
		if (res < 0)
			return cause_fail(cause, res, "cannot write to %s: %s", p->file->info.path,
					  strerror(-res));
	}
	return live_rename(s, id, cause);
}

void geometry_settled(struct store *s, struct format_super *sb)
{
	char *cause = NULL;

	if (sb->former_paths == 0)
		return;
	/* a copy of what the store was may be in use: then that is the other's */
	if (live_forget(s, s->cfg.paths[0], sb->former_id, &cause) < 0)
		log_warn("store: the shared memory of what it was before is left alone: %s",
			 cause != NULL ? cause : "no memory");
	free(cause);
	sb->former_paths = 0;
	memset(sb->former_id, 0, sizeof sb->former_id);
}
