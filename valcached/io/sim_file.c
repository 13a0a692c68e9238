/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the simulated machine: opening them, and what an operation does to their contents, with the
 * faults that the seed decides. One thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cause.h"
#include "base/size.h"
#include "valcached/io/sim_int.h"

/* Sectors of other ios' and our own writes in flight may or may not be on the disk already. */
static void overlay(struct sim_env *env, const struct sim_disk *d, uint64_t off, unsigned char *buf,
		    uint32_t len)
{
	for (struct sim_io *s = env->ios; s != NULL; s = s->next)
		for (struct sim_flight *f = s->flight; f != NULL; f = f->next) {
			const struct io_op *w = f->op;
			uint64_t a, b;

			if (w->kind != IO_WRITE || f->dead || sim_file_of(w)->disk != d)
				continue;
			a = w->u.disk.off > off ? w->u.disk.off : off;
			b = w->u.disk.off + w->u.disk.len < off + len
				? w->u.disk.off + w->u.disk.len
				: off + len;
			for (; a < b; a += SIM_SECTOR)
				if (sim_random(env, 2) == 0)
					memcpy(buf + (a - off),
					       (const unsigned char *)w->u.disk.buf +
						   (a - w->u.disk.off),
					       SIM_SECTOR);
		}
}

/* How many of len bytes this time: all, or by chance a shorter aligned part. */
static uint32_t part(struct sim_env *env, const struct sim_fate *fate, const struct io_file *file,
		     uint32_t len)
{
	uint32_t units = len / file->info.align;

	if (units < 2 || (fate->what != SIM_FATE_SHORT && !sim_chance(env, env->config.short_io)))
		return len;
	env->count.shorts++;
	return (uint32_t)(1 + sim_random(env, units - 1)) * file->info.align;
}

static int32_t do_read(struct sim_env *env, const struct sim_fate *fate, struct io_op *op,
		       struct sim_disk *d)
{
	uint64_t off = op->u.disk.off + op->u.disk.did;
	uint32_t len = op->u.disk.len - op->u.disk.did;
	unsigned char *buf = (unsigned char *)op->u.disk.buf + op->u.disk.did;

	if (off >= d->size)
		return 0;
	if (len > d->size - off)
		len = (uint32_t)(d->size - off);
	if (sim_disk_faulty(d, off, len) & SIM_READ_ERROR || fate->what == SIM_FATE_ERROR ||
	    sim_chance(env, env->config.read_error)) {
		env->count.read_errors++;
		return fate->what == SIM_FATE_ERROR ? fate->err : -EIO;
	}
	len = part(env, fate, op->u.disk.file, len);
	memcpy(buf, d->now.mem + off, len);
	overlay(env, d, off, buf, len);
	if (fate->what == SIM_FATE_FLIP || sim_chance(env, env->config.read_flip)) {
		env->count.read_flips++;
		buf[sim_random(env, len)] ^= (unsigned char)(1u << sim_random(env, 8));
	}
	return (int32_t)len;
}

static int32_t do_write(struct sim_env *env, const struct sim_fate *fate, struct io_op *op,
			struct sim_disk *d)
{
	uint64_t off = op->u.disk.off + op->u.disk.did;
	uint32_t len = op->u.disk.len - op->u.disk.did, align = op->u.disk.file->info.align;
	unsigned char *buf = (unsigned char *)op->u.disk.buf + op->u.disk.did;

	if (off >= d->size || len > d->size - off)
		return -ENOSPC; /* stores never write past their size */
	if (sim_disk_faulty(d, off, len) & SIM_WRITE_ERROR || fate->what == SIM_FATE_ERROR ||
	    sim_chance(env, env->config.write_error)) {
		env->count.write_errors++;
		sim_disk_write(env, d, off, buf,
			       (uint32_t)sim_random(env, len / align + 1) * align);
		return fate->what == SIM_FATE_ERROR ? fate->err : -EIO;
	}
	if (fate->what == SIM_FATE_LOST || sim_chance(env, env->config.lost_write)) {
		env->count.lost_writes++;
		return (int32_t)len;
	}
	if (fate->what == SIM_FATE_ASTRAY || sim_chance(env, env->config.misdirect)) {
		uint64_t places = (d->size - len) / align + 1;
		uint64_t to =
		    fate->what == SIM_FATE_ASTRAY ? fate->to : sim_random(env, places) * align;

		if (to != off) {
			env->count.misdirected++;
			off = to;
		}
		sim_disk_write(env, d, off, buf, len);
		return (int32_t)len;
	}
	len = part(env, fate, op->u.disk.file, len);
	if (fate->what == SIM_FATE_FLIP || sim_chance(env, env->config.write_flip)) {
		unsigned char *copy = malloc(len);

		AN(copy);
		memcpy(copy, buf, len);
		copy[sim_random(env, len)] ^= (unsigned char)(1u << sim_random(env, 8));
		sim_disk_write(env, d, off, copy, len);
		free(copy);
		env->count.write_flips++;
	} else {
		sim_disk_write(env, d, off, buf, len);
	}
	return (int32_t)len;
}

/* What was there is zeros afterwards, or still there: a device may ignore the hint. */
static int32_t do_discard(struct sim_env *env, struct io_op *op, struct sim_disk *d)
{
	static const unsigned char zero[SIM_PAGE];
	uint64_t at = op->u.disk.off, end = at + op->u.disk.len;

	if (end > d->size)
		return -EINVAL;
	if (sim_random(env, 4) == 0)
		return 0;
	while (at < end) {
		uint32_t n = (uint32_t)(end - at < SIM_PAGE ? end - at : SIM_PAGE);

		sim_disk_write(env, d, at, zero, n);
		at += n;
	}
	return 0;
}

int32_t sim_file_do(struct sim_env *env, struct sim_flight *f)
{
	struct io_op *op = f->op;
	struct sim_disk *d = sim_file_of(op)->disk;

	if (f->dead)
		return -ENODEV;
	if (sim_chance(env, env->config.again)) {
		env->count.agains++;
		return -EAGAIN;
	}
	/* A cancel comes in time or too late; a write may have begun. */
	if (op->flags & OP_CANCELLED && sim_random(env, 2) == 0) {
		if (op->kind == IO_WRITE && op->u.disk.off + op->u.disk.len <= d->size) {
			uint32_t n = (uint32_t)sim_random(env, op->u.disk.len / SIM_SECTOR + 1);

			sim_disk_write(env, d, op->u.disk.off, op->u.disk.buf, n * SIM_SECTOR);
		}
		return -ECANCELED;
	}
	switch (op->kind) {
	case IO_READ:
		return do_read(env, &f->fate, op, d);
	case IO_WRITE:
		return do_write(env, &f->fate, op, d);
	case IO_DISCARD:
		return do_discard(env, op, d);
	default:
		A(op->kind == IO_SYNC);
		if (sim_disk_faulty(d, 0, d->size) & SIM_WRITE_ERROR ||
		    f->fate.what == SIM_FATE_ERROR || sim_chance(env, env->config.sync_error)) {
			env->count.sync_errors++;
			return f->fate.what == SIM_FATE_ERROR ? f->fate.err : -EIO;
		}
		sim_disk_sync(d, f->seq);
		return 0;
	}
}

static int make_room(struct sim_env *env, struct sim_disk **d, const char *path, uint64_t size,
		     char **cause)
{
	uint64_t have = *d != NULL ? (*d)->size : 0, used = 0;

	for (const struct sim_disk *e = env->disks; e != NULL; e = e->next)
		used += e->block_device ? 0 : e->size;
	if (size == 0 && have == 0) {
		cause_say(cause, "%s: a new store needs a --size", path);
		return -EINVAL;
	}
	if (size > have && env->config.space != 0 && used + (size - have) > env->config.space) {
		char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX];
		uint64_t room = env->config.space > used ? env->config.space - used : 0;

		cause_say(cause, "%s: --size=%s is larger than the space for it, %s", path,
			  size_human(a, sizeof a, (double)size),
			  size_human(b, sizeof b, (double)(room + have)));
		return -ENOSPC;
	}
	if (*d == NULL)
		*d = sim_disk_new(env, path, size);
	else if (size > have)
		sim_disk_grow(*d, size);
	return 0;
}

/* As of a real file: one whose head says anything is not made longer when it is opened. */
static bool has_content(const struct sim_disk *d)
{
	static const uint8_t zero[2 * SIM_PAGE];
	uint8_t head[2 * SIM_PAGE] = {0};

	if (d->size >= sizeof head)
		memcpy(head, d->now.mem, sizeof head);
	return memcmp(head, zero, sizeof head) != 0;
}

int sim_file_open(const struct io_engine *engine, const char *path, uint64_t size,
		  struct io_file **out, char **cause)
{
	struct sim_env *env = engine->env;
	struct sim_disk *d = sim_disk_find(env, path);
	bool block = strncmp(path, "/dev/", 5) == 0, created = d == NULL;
	struct sim_file *f;
	int id, r;

	if (cause != NULL)
		*cause = NULL;
	A(strlen(path) < sizeof f->pub.info.path);
	if (d != NULL && d->open != NULL) {
		cause_say(cause, "%s: the store is in use by another process", path);
		return -EBUSY;
	}
	if (block && (d == NULL || size > d->size)) {
		cause_say(cause,
			  d == NULL ? "%s: there is no such device"
				    : "%s: the device is smaller than --size",
			  path);
		return d == NULL ? -ENOENT : -ENOSPC;
	}
	if (!block && (d == NULL || size <= d->size || !has_content(d))) {
		r = make_room(env, &d, path, size, cause);
		if (r < 0)
			return r;
	}
	id = io_file_id_get();
	if (id < 0)
		return id;
	f = calloc(1, sizeof *f);
	AN(f);
	f->pub.engine = engine;
	f->pub.id = (unsigned)id;
	f->pub.info.size = size != 0 && size < d->size ? size : d->size;
	f->pub.info.have = d->size;
	f->pub.info.align = env->config.align != 0 ? env->config.align : 512;
	f->pub.info.direct = true;
	f->pub.info.block_device = block;
	f->pub.info.created = created;
	strcpy(f->pub.info.path, path);
	f->env = env;
	f->disk = d;
	d->open = f;
	*out = &f->pub;
	return 0;
}

int sim_file_open_made(const struct io_engine *engine, const char *path, uint64_t size,
		       struct io_file **out, char **cause)
{
	if (cause != NULL)
		*cause = NULL;
	if (sim_disk_find(engine->env, path) == NULL)
		return -ENOENT;
	return sim_file_open(engine, path, size, out, cause);
}

void sim_file_close(struct io_file *pub)
{
	struct sim_file *f = container_of(pub, struct sim_file, pub);

	if (!f->dead && !f->shut)
		f->disk->open = NULL;
	io_file_id_put(pub->id);
	free(f);
}

int sim_file_resize(struct io_file *pub, uint64_t size, char **cause)
{
	struct sim_file *f = container_of(pub, struct sim_file, pub);
	struct sim_disk *d = f->disk;
	int r = 0;

	if (cause != NULL)
		*cause = NULL;
	if (f->dead || f->shut) {
		cause_say(cause, "%s: there is no such device", pub->info.path);
		return -ENODEV;
	}
	if (size > d->size && d->block_device) {
		cause_say(cause, "%s: the device is smaller than --size", pub->info.path);
		return -ENOSPC;
	}
	if (size > d->size)
		r = make_room(f->env, &d, pub->info.path, size, cause);
	else if (!d->block_device)
		sim_disk_cut(d, size);
	if (r < 0)
		return r;
	pub->info.size = size;
	pub->info.have = d->size;
	return 0;
}

static bool readable(const struct sim_disk *d)
{
	return (sim_disk_faulty(d, 0, SIM_PAGE) & SIM_READ_ERROR) == 0;
}

bool sim_file_works(struct io_file *pub)
{
	struct sim_file *f = container_of(pub, struct sim_file, pub);

	return !f->dead && !f->shut && readable(f->disk);
}

void sim_file_shut(struct io_file *pub)
{
	struct sim_file *f = container_of(pub, struct sim_file, pub);

	if (!f->dead && !f->shut)
		f->disk->open = NULL;
	f->shut = true;
}

int sim_file_reopen(struct io_file *pub, char **cause)
{
	struct sim_file *f = container_of(pub, struct sim_file, pub);

	A(f->shut);
	if (f->dead)
		return -ENODEV;
	if (f->disk->open != NULL) {
		cause_say(cause, "%s: the store is in use by another process", pub->info.path);
		return -EBUSY;
	}
	if (!readable(f->disk)) {
		cause_say(cause, "%s: there is no such device", pub->info.path);
		return -ENODEV;
	}
	f->disk->open = f;
	f->shut = false;
	return 0;
}
