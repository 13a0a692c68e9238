/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents of simulated disks: what is there now, what is durable, and what lies between.
 * One thread.
 */
#include <stdlib.h>
#include <string.h>

#include "valcached/io/sim_int.h"

static void *must(void *p)
{
	AN(p); /* a test without memory is no test */
	return p;
}

static void image_grow(struct sim_image *im, uint64_t from, uint64_t to)
{
	if (im->mem == NULL) {
		im->mem = must(calloc(1, to + 1)); /* pages that are not written take none */
		return;
	}
	im->mem = must(realloc(im->mem, to + 1));
	memset(im->mem + from, 0, to - from);
}

struct sim_disk *sim_disk_find(struct sim_env *env, const char *path)
{
	struct sim_disk *d = env->disks;

	while (d != NULL && strcmp(d->path, path) != 0)
		d = d->next;
	return d;
}

struct sim_disk *sim_disk_new(struct sim_env *env, const char *path, uint64_t size)
{
	struct sim_disk *d = must(calloc(1, sizeof *d));

	d->path = must(strdup(path));
	d->block_device = strncmp(path, "/dev/", 5) == 0;
	d->writes_tail = &d->writes;
	d->next = env->disks;
	env->disks = d;
	sim_disk_grow(d, size);
	return d;
}

void sim_disk_grow(struct sim_disk *d, uint64_t size)
{
	A(size >= d->size);
	image_grow(&d->now, d->size, size);
	image_grow(&d->durable, d->size, size);
	d->size = size;
}

void sim_disk_cut(struct sim_disk *d, uint64_t size)
{
	struct sim_write **at = &d->writes, *w;

	A(size <= d->size);
	while ((w = *at) != NULL) {
		if (w->off < size) {
			A(w->off + w->len <= size);
			at = &w->next;
			continue;
		}
		*at = w->next;
		free(w);
	}
	d->writes_tail = at;
	d->now.mem = must(realloc(d->now.mem, size + 1));
	d->durable.mem = must(realloc(d->durable.mem, size + 1));
	d->size = size;
}

void sim_disk_free(struct sim_disk *d)
{
	struct sim_write *w;

	while ((w = d->writes) != NULL) {
		d->writes = w->next;
		free(w);
	}
	free(d->now.mem);
	free(d->durable.mem);
	free(d->path);
	free(d);
}

enum sim_fault sim_disk_faulty(const struct sim_disk *d, uint64_t off, uint64_t len)
{
	unsigned f = SIM_OK;

	for (unsigned i = 0; i < d->faults; i++)
		if (off < d->fault[i].off + d->fault[i].len && d->fault[i].off < off + len)
			f |= d->fault[i].fault;
	return (enum sim_fault)f;
}

struct sim_write *sim_write_new(uint64_t seq, uint64_t off, const void *buf, uint32_t len)
{
	struct sim_write *w = must(malloc(sizeof *w + len));

	*w = (struct sim_write){.seq = seq, .off = off, .len = len};
	memcpy(w->data, buf, len);
	return w;
}

void sim_disk_queue(struct sim_disk *d, struct sim_write *w)
{
	w->next = NULL;
	*d->writes_tail = w;
	d->writes_tail = &w->next;
}

void sim_disk_write(struct sim_env *env, struct sim_disk *d, uint64_t off, const void *buf,
		    uint32_t len)
{
	if (len == 0)
		return;
	A(off + len <= d->size);
	memcpy(d->now.mem + off, buf, len);
	sim_disk_queue(d, sim_write_new(++env->seq, off, buf, len));
}

void sim_disk_sync(struct sim_disk *d, uint64_t seq)
{
	struct sim_write *w;

	while ((w = d->writes) != NULL && w->seq <= seq) {
		memcpy(d->durable.mem + w->off, w->data, w->len);
		d->writes = w->next;
		free(w);
	}
	if (d->writes == NULL)
		d->writes_tail = &d->writes;
}

/* A torn write: a front part, a back part, or any sectors. */
static void tear(struct sim_env *env, struct sim_disk *d, const struct sim_write *w)
{
	uint32_t n = (w->len + SIM_SECTOR - 1) / SIM_SECTOR;
	uint32_t cut = (uint32_t)sim_random(env, n + 1);
	uint64_t how = sim_random(env, 3);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = i * SIM_SECTOR;
		uint32_t len = w->len - at < SIM_SECTOR ? w->len - at : SIM_SECTOR;

		if (how == 0 ? i < cut : how == 1 ? i >= cut : sim_random(env, 2) == 0)
			memcpy(d->durable.mem + w->off + at, w->data + at, len);
	}
}

void sim_disk_power_loss(struct sim_env *env, struct sim_disk *d)
{
	uint32_t keep = env->config.keep, drop = env->config.drop;
	struct sim_write **w, *e;
	size_t n = 0, i = 0;

	if (keep == 0 && drop == 0)
		keep = drop = 333333;
	for (e = d->writes; e != NULL; e = e->next)
		n++;
	w = must(calloc(n + 1, sizeof(struct sim_write *)));
	for (e = d->writes; e != NULL; e = e->next)
		w[i++] = e;
	if (n > 1 && sim_random(env, 2) == 0) {
		env->count.reordered++;
		for (i = n - 1; i > 0; i--) {
			size_t j = (size_t)sim_random(env, i + 1);

			e = w[i];
			w[i] = w[j];
			w[j] = e;
		}
	}
	for (i = 0; i < n; i++) {
		uint64_t x = sim_random(env, 1000000);

		if (x < keep) {
			memcpy(d->durable.mem + w[i]->off, w[i]->data, w[i]->len);
			env->count.kept++;
		} else if (x < (uint64_t)keep + drop) {
			env->count.dropped++;
		} else {
			tear(env, d, w[i]);
			env->count.torn++;
		}
	}
	/* the two images differ only where such writes were */
	for (i = 0; i < n; i++) {
		memcpy(d->now.mem + w[i]->off, d->durable.mem + w[i]->off, w[i]->len);
		free(w[i]);
	}
	free(w);
	d->writes = NULL;
	d->writes_tail = &d->writes;
}

/* ---- for tests --------------------------------------------------------------------------------
 */

void sim_disk_make(struct sim_env *env, const char *path, uint64_t size)
{
	A(sim_disk_find(env, path) == NULL);
	sim_disk_new(env, path, size);
}

static struct sim_disk *disk_must(struct sim_env *env, const char *path)
{
	return must(sim_disk_find(env, path));
}

void sim_disk_fault(struct sim_env *env, const char *path, uint64_t off, uint64_t len,
		    enum sim_fault fault)
{
	struct sim_disk *d = disk_must(env, path);

	if (fault == SIM_OK) {
		unsigned kept = 0;

		for (unsigned i = 0; i < d->faults; i++)
			if (!(off < d->fault[i].off + d->fault[i].len &&
			      d->fault[i].off < off + len))
				d->fault[kept++] = d->fault[i];
		d->faults = kept;
		return;
	}
	A(d->faults < SIM_FAULTS);
	d->fault[d->faults].off = off;
	d->fault[d->faults].len = len;
	d->fault[d->faults++].fault = fault;
}

void sim_disk_hang(struct sim_env *env, const char *path, bool hangs)
{
	disk_must(env, path)->hangs = hangs;
}

void sim_disk_peek(struct sim_env *env, const char *path, uint64_t off, void *buf, size_t len)
{
	struct sim_disk *d = disk_must(env, path);

	A(off + len <= d->size);
	memcpy(buf, d->now.mem + off, len);
}

const unsigned char *sim_disk_bytes(struct sim_env *env, const char *path)
{
	return disk_must(env, path)->now.mem;
}

void sim_disk_poke(struct sim_env *env, const char *path, uint64_t off, const void *buf, size_t len)
{
	struct sim_disk *d = disk_must(env, path);

	A(off + len <= d->size);
	memcpy(d->now.mem + off, buf, len);
	memcpy(d->durable.mem + off, buf, len);
}

void sim_disk_flip(struct sim_env *env, const char *path, uint64_t bit)
{
	unsigned char c;

	sim_disk_peek(env, path, bit / 8, &c, 1);
	c ^= (unsigned char)(1u << bit % 8);
	sim_disk_poke(env, path, bit / 8, &c, 1);
}

uint64_t sim_disk_size(struct sim_env *env, const char *path)
{
	const struct sim_disk *d = sim_disk_find(env, path);

	return d != NULL ? d->size : 0;
}

uint64_t sim_disk_unsynced(struct sim_env *env, const char *path)
{
	uint64_t n = 0;

	for (const struct sim_write *w = disk_must(env, path)->writes; w != NULL; w = w->next)
		n++;
	return n;
}
