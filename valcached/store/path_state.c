/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths that fail: what is still done with them, and how deletes are remembered without them.
 *
 *              a write, a sync or a header fails             the superblock cannot be read
 *     ONLINE ---------------------------------> READ-ONLY ---------------------------------> OFFLINE
 *       ^      path_fail(): offline                          path_gone(): gone, too             |
 *       +------------------------------ path_return.c -----------------------------------------+
 *
 *  [PS-1] Nothing is read from or written to a path that is gone: its values are misses at once. A read error
 *         alone makes no path gone: the slow worker looks whether the superblock can still be read.
 *  [PS-2] What ends a record (a delete, an index victim, a set of a key that may lie where nothing can be read)
 *         is written on the record's own path. If that takes no writes, the store's delete epoch is raised and
 *         made durable in the superblocks of all paths that do, before anybody is answered. A path that comes
 *         back with a lower epoch is empty. So one raise is enough until the next path fails; with no path
 *         left, the delete is refused.
 *  [PS-3] A path that fails while such records are on their way to it raises the epoch, too: they were answered.
 *         The write buffer that holds them stays in shared memory until that is done.
 *  [PS-4] A number of an epoch is never tried twice: if a superblock's write failed it may be there or not.
 *
 * path_fail() and path_end*() on any thread; the rest on the slow worker, or at start.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "valcached/store/store_int.h"

bool any_path_online(const struct store *s)
{
	for (unsigned i = 0; i < s->npaths; i++)
		if (!atomic_load(&s->path[i].offline))
			return true;
	return false;
}

const char *path_state(const struct path *p)
{
	return atomic_load(&p->gone)      ? "offline"
	       : atomic_load(&p->offline) ? "read-only"
					  : "online";
}

void path_why(const struct path *p, char why[static PATH_WHY_MAX])
{
	struct path *locked = (struct path *)(uintptr_t)p;

	pthread_mutex_lock(&locked->lock);
	snprintf(why, PATH_WHY_MAX, "%s", atomic_load(&p->offline) ? p->why : "none");
	pthread_mutex_unlock(&locked->lock);
}

/* ---- superblocks ------------------------------------------------------------------------------- */

int super_read(struct io *io, struct path *p, struct format_super *out)
{
	struct disk_io *d = disk_io_new(io, p, FORMAT_ALIGN);
	bool blank = true, found = false;
	int res = 0;

	if (d == NULL)
		return -ENOMEM;
	p->super_safe = false; /* whoever wrote it may have died, or failed, before its sync */
	/* each copy twice if it makes no sense: the older one may say that deletes were missed [PS-2] */
	for (unsigned n = 0; n < 4; n++) {
		struct format_super *sb;
		bool good, zeros = true;

		disk_read(d, FORMAT_ALIGN, n / 2 * FORMAT_ALIGN);
		res = disk_wait(&d);
		if (d == NULL)
			return res;
		sb = (struct format_super *)(void *)d->mem;
		if (res != (int)FORMAT_ALIGN) {
			res = res < 0 ? res : -EIO;
			break;
		}
		good = super_good(sb);
		if (good && (!found || sb->serial > out->serial))
			*out = *sb;
		found = found || good;
		for (unsigned i = 0; i < FORMAT_ALIGN && zeros; i++)
			zeros = d->mem[i] == 0;
		if (n % 2 == 0 && (good || zeros))
			n++;
		if (n % 2 == 1)
			blank = blank && zeros;
	}
	disk_io_free(&d);
	return res < 0 ? res : found ? 1 : blank ? 0 : -EINVAL;
}

int super_write(struct io *io, struct path *p)
{
	struct disk_io *d = disk_io_new(io, p, FORMAT_ALIGN);
	int res;

	if (d == NULL)
		return -ENOMEM;
	if (!p->super_safe) {
		disk_sync(d);
		res = disk_wait(&d);
		if (res < 0) {
			disk_io_free(&d);
			return res;
		}
		p->super_safe = true;
	}
	/* [PS-6] the two copies are written in turn, so that one is always whole */
	p->super.serial++;
	if (p->store->live != NULL && /* [F-9] */
	    atomic_load(&p->store->live->generation) > p->super.generation_floor)
		p->super.generation_floor = atomic_load(&p->store->live->generation);
	live_serial(p, false);
	super_seal(&p->super);
	memcpy(d->mem, &p->super, sizeof p->super);
	disk_write(d, FORMAT_ALIGN, (p->super.serial & 1) * FORMAT_ALIGN);
	res = disk_wait(&d);
	if (res >= 0) {
		disk_sync(d);
		res = disk_wait(&d);
	}
	disk_io_free(&d);
	if (res >= 0)
		live_serial(p, true);
	else
		p->super.serial--; /* the next try is at the same copy: the other one is whole */
	return res < 0 ? res : 0;
}

void path_stopped(struct store_worker *sw, struct path *p)
{
	int res;

	if (atomic_load(&p->offline) || atomic_load(&p->store->live->owed) != 0 ||
	    atomic_load(&p->ends_made) != atomic_load(&p->ends_safe))
		return;
	p->super.flags |= FORMAT_CLEAN;
	res = super_write(sw->io, p);
	if (res < 0) {
		p->super.flags &= ~(uint64_t)FORMAT_CLEAN;
		COUNT(sw, write_errors);
		atomic_fetch_add(&p->write_errors, 1);
		path_fail(p, "the superblock", res);
	}
}

/* ---- failing ----------------------------------------------------------------------------------- */

static void ask_epoch(struct store *s)
{
	atomic_store(&s->epoch_wanted, true);
	slow_call(s);
}

static void say_why(struct path *p, const char *what, int err)
{
	pthread_mutex_lock(&p->lock);
	snprintf(p->why, sizeof p->why, "%s: %s", what, strerror(-err));
	pthread_mutex_unlock(&p->lock);
}

void path_fail(struct path *p, const char *what, int err)
{
	atomic_store(&p->store->live->doubt, 1); /* [AT-8] */
	if (atomic_exchange(&p->offline, true))
		return;
	say_why(p, what, err);
	log_error(
	    "store: %s takes no more writes: %s: %s; its values are still read, and new ones go "
	    "to the other paths if there are any. valcachectl path online %u tries it again",
	    p->file->info.path, what, strerror(-err), p->index);
	if (atomic_load(&p->ends_made) != atomic_load(&p->ends_safe)) /* [PS-3] */
		atomic_store(&p->store->epoch_wanted, true);
	atomic_store(&p->probe, true);
	slow_call(p->store);
}

void path_silent(struct path *p, const char *what)
{
	path_fail(p, what, -ETIMEDOUT);
	atomic_store(&p->silent, true); /* also of one that is being brought back [LT-4] */
	if (atomic_exchange(&p->gone, true))
		return;
	say_why(p, what, -ETIMEDOUT);
	log_error(
	    "store: %s does not answer: %s has taken longer than --io-timeout; its values are misses "
	    "until what it has been asked for is done",
	    p->file->info.path, what);
	slow_call(p->store);
}

void path_pardon(struct path *p)
{
	for (uint32_t k = 0; k < p->nseg; k++)
		atomic_store(&p->seg[k].quarantined, false);
}

static void path_gone(struct path *p, int err)
{
	path_fail(p, "its superblock cannot be read", err);
	if (atomic_exchange(&p->gone, true))
		return;
	say_why(p, "its superblock cannot be read", err);
	log_error(
	    "store: %s does not answer any more: %s; its values are misses until it is brought "
	    "back: valcachectl path online %u",
	    p->file->info.path, strerror(-err), p->index);
	path_pardon(p);
}

bool path_answers(struct store_worker *sw, struct path *p)
{
	struct disk_io *d = disk_io_new(sw->io, p, FORMAT_ALIGN);
	int res = -ENOMEM;

	for (unsigned copy = 0; d != NULL && copy < 2 && res != (int)FORMAT_ALIGN; copy++) {
		if (atomic_load(&p->gone))
			break;
		disk_read(d, FORMAT_ALIGN, copy * FORMAT_ALIGN);
		res = disk_wait(&d);
	}
	disk_io_free(&d);
	if (atomic_load(&p->gone))
		return false;
	if (res == -ENOMEM)
		return true;
	if (res == (int)FORMAT_ALIGN)
		return true;
	path_gone(p, res < 0 ? res : -EIO);
	return false;
}

/* ---- what ends records [PS-2], [PS-3] ---------------------------------------------------------- */

enum path_end path_end(struct path *p)
{
	struct store *s = p->store;

	if (!atomic_load(&p->offline))
		return END_WRITE;
	if (atomic_load(&p->epoch) < atomic_load(&s->epoch))
		return END_MOOT;
	if (!any_path_online(s))
		return END_REFUSED;
	ask_epoch(s);
	return END_WAIT;
}

enum path_end path_end_gone(struct store_op *op)
{
	struct store *s = op->sw->s;
	enum path_end all = END_MOOT;

	for (unsigned i = 0; i < op->run->probe.n; i++) {
		uint32_t seg, at;
		struct path *p;
		enum path_end end;

		if ((op->run->gone & 1u << i) == 0)
			continue;
		p = loc_path(s, op->run->probe.ref[i].loc, &seg, &at);
		AN(p != NULL);
		end = path_end(p);
		if (end == END_REFUSED || end == END_WAIT)
			return end;
		if (end == END_WRITE)
			all = end;
	}
	return all;
}

void path_forget_gone(struct store_op *op)
{
	for (unsigned i = 0; i < op->run->probe.n; i++)
		if (op->run->gone & 1u << i)
			index_remove(op->sw->s->index, op->hash, op->run->probe.ref[i].loc);
}

void path_end_made(struct path *p)
{
	/* in this order: who reads `made` and then no open ones knows that all of them are written */
	atomic_fetch_add(&p->ends_open, 1);
	atomic_fetch_add(&p->ends_made, 1);
	if (unlikely(atomic_load(&p->offline)))
		ask_epoch(p->store);
}

void path_ends_written(struct path *p, uint32_t n)
{
	uint64_t before = atomic_fetch_sub(&p->ends_open, n);

	A(before >= n);
}

uint64_t path_ends_before_sync(const struct path *p)
{
	uint64_t made = atomic_load(&p->ends_made);

	return atomic_load(&p->ends_open) == 0 ? made : atomic_load(&p->ends_safe);
}

void workers_wake(struct store_worker *sw)
{
	for (unsigned i = 0; i < sw->s->cfg.workers; i++)
		if (sw->s->worker[i] != NULL)
			worker_wake(sw->s->worker[i]);
	sw->retry = true;
}

static bool epoch_needed(const struct store *s)
{
	for (unsigned i = 0; i < s->npaths; i++)
		if (atomic_load(&s->path[i].offline) &&
		    atomic_load(&s->path[i].epoch) >= atomic_load(&s->epoch))
			return true;
	return false;
}

static void raise_epoch(struct store_worker *sw)
{
	struct store *s = sw->s;

	while (epoch_needed(s) && any_path_online(s)) {
		uint64_t next = ++s->epoch_tried; /* [PS-4] */
		bool failed = false;
		uint64_t paths = 0;

		for (unsigned i = 0; i < s->npaths; i++)
			if (!atomic_load(&s->path[i].offline))
				paths |= 1ull << i;
		for (unsigned i = 0; i < s->npaths; i++) {
			struct path *p = &s->path[i];
			int res;

			if (atomic_load(&p->offline))
				continue;
			atomic_store(&p->epoch, next);
			p->super.delete_epoch = next;
			p->super.epoch_paths = paths;
			p->super.epoch_before = atomic_load(&s->epoch);
			res = super_write(sw->io, p);
			if (res < 0) {
				COUNT(sw, write_errors);
				atomic_fetch_add(&p->write_errors, 1);
				path_fail(p, "the superblock", res);
				failed = true;
			}
		}
		if (failed)
			continue;
		atomic_store(&s->epoch, next);
		atomic_fetch_add(&s->epochs_raised, 1);
		log_warn(
		    "store: deletes cannot be written on every path: those that take no writes will "
		    "be empty when they come back (delete epoch %" PRIu64 ")",
		    next);
	}
	workers_wake(sw);
}

int paths_forget_outdated(struct store *s, struct io *io, uint64_t gen_max, char **cause)
{
	uint64_t epoch = 0, before = 0, paths = 0;

	for (unsigned i = 0; i < s->npaths; i++)
		if (s->path[i].super.delete_epoch > epoch ||
		    (s->path[i].super.delete_epoch == epoch && paths == 0)) {
			epoch = s->path[i].super.delete_epoch;
			before = s->path[i].super.epoch_before;
			paths = s->path[i].super.epoch_paths;
		}
	atomic_store(&s->epoch, epoch);
	s->epoch_tried = epoch;
	for (unsigned i = 0; i < s->npaths; i++) {
		struct path *p = &s->path[i];
		int res;

		atomic_store(&p->epoch, epoch);
		if (p->super.delete_epoch == epoch)
			continue;
		/* [PS-5] killed before it was told: nobody was answered, nothing was missed */
		if ((paths >> i & 1) != 0 && p->super.delete_epoch >= before) {
			p->super.delete_epoch = epoch;
			p->super.epoch_paths = paths;
			p->super.epoch_before = before;
			continue;
		}
		for (uint32_t k = 0; k < p->nseg; k++)
			atomic_store(&p->seg[k].generation, 0);
		/* who was being told is asked again by the next start, which may come before they know */
		p->super.delete_epoch = epoch;
		p->super.epoch_paths = paths;
		p->super.epoch_before = before;
		p->super.empty_below = gen_max + 1;
		res = super_write(io, p);
		if (res < 0) {
			if (asprintf(cause, "cannot write to %s: %s", p->file->info.path,
				     strerror(-res)) < 0)
				*cause = NULL;
			return res;
		}
		log_warn("store: %s has missed deletes while it took no writes: it starts empty",
			 p->file->info.path);
	}
	return 0;
}

void paths_turn(struct store_worker *sw)
{
	struct store *s = sw->s;

	for (unsigned i = 0; i < s->npaths; i++)
		if (unlikely(atomic_load(&s->path[i].probe))) {
			atomic_store(&s->path[i].probe, false);
			(void)path_answers(sw, &s->path[i]);
		}
	if (unlikely(atomic_exchange(&s->epoch_wanted, false)))
		raise_epoch(sw);
	paths_return(sw);
}
