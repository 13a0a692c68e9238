/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real store under a trace, through store.h on a real file: a get, and after a miss a set of a
 * value that is a function of its key. Every byte of every hit is compared.
 *
 * Threads: the caller's is worker 0; another runs the slow worker until `stop`. They share nothing
 * but the store.
 *
 * [D-1] Of one key at most one request is under way, so a key that is asked for twice in a row is
 *       one miss and one hit, as in the simulators. A request for a busy key holds up the later
 * ones. [D-2] Requests begin in the order of the trace.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "bench/replay/replay.h"

#define KEY_LEN    36u
#define TURN_ISSUE 256u /* requests answered from memory between two turns of the loop */

struct slot {
	struct store_op op;
	struct driver *d;
	struct slot *next; /* free */
	uint32_t key;
	bool late, setting;
	uint32_t pos; /* bytes of the value compared or filled so far */
};

struct driver {
	const struct trace *t;
	const struct drive *cfg;
	struct result *r;
	struct store *store;
	struct store_worker *sw;
	struct io *io;
	struct slot *slot, *free;
	bool *busy; /* by key [D-1] */
	unsigned in_flight;
	/* the slow thread's */
	struct store_worker *slow;
	struct io *slow_io;
	pthread_t slow_thread;
	bool runs;
	_Atomic bool stop;
};

/* ---- keys and values: functions of the key's number and the seed -------------------------------
 */

static void key_text(const struct driver *d, uint32_t key, char *out)
{
	static const char hex[] = "0123456789abcdef";
	uint64_t x[2] = {mix64(key + d->cfg->seed), mix64(~(uint64_t)key ^ d->cfg->seed)};

	for (unsigned i = 0, at = 0; i < 32; i++) {
		if (i == 8 || i == 12 || i == 16 || i == 20)
			out[at++] = '-';
		out[at++] = hex[x[i / 16] >> (i % 16 * 4) & 15];
	}
}

static uint64_t value_word(const struct driver *d, uint32_t key, uint32_t pos)
{
	return mix64(((uint64_t)key << 32 | pos / 8) + d->cfg->seed * 0x9e3779b97f4a7c15ull);
}

static void value_fill(const struct driver *d, uint32_t key, uint32_t pos, uint8_t *to, uint32_t n)
{
	while (n > 0) {
		uint64_t w = value_word(d, key, pos);
		uint32_t part = 8 - pos % 8 < n ? 8 - pos % 8 : n;

		memcpy(to, (uint8_t *)&w + pos % 8, part);
		to += part;
		pos += part;
		n -= part;
	}
}

static bool value_same(const struct driver *d, uint32_t key, uint32_t pos, const uint8_t *at,
		       uint32_t n)
{
	while (n > 0) {
		uint64_t w = value_word(d, key, pos);
		uint32_t part = 8 - pos % 8 < n ? 8 - pos % 8 : n;

		if (memcmp(at, (uint8_t *)&w + pos % 8, part) != 0)
			return false;
		at += part;
		pos += part;
		n -= part;
	}
	return true;
}

/* ---- one request -------------------------------------------------------------------------------
 */

static void slot_done(struct store_op *op);

static void slot_end(struct slot *s)
{
	struct driver *d = s->d;

	store_op_end(&s->op);
	d->busy[s->key] = false;
	s->next = d->free;
	d->free = s;
	d->in_flight--;
}

static void wrong(struct slot *s, const char *what)
{
	char key[KEY_LEN + 1] = {0};

	key_text(s->d, s->key, key);
	if (s->d->r->wrong++ < 10)
		fprintf(stderr, "replay: key %s: %s\n", key, what);
}

static bool set_step(struct slot *s)
{
	while (s->op.body_n > 0) {
		uint32_t n = s->op.body_n;

		value_fill(s->d, s->key, s->pos, s->op.body, n);
		s->pos += n;
		if (!store_set_body(&s->op))
			return false;
	}
	if (s->op.status == STORE_OK)
		tally_set(&s->d->r->run, s->late, s->d->t->size[s->key]);
	else if (s->op.status != STORE_TOO_LARGE)
		wrong(s, "the set was refused");
	slot_end(s);
	return true;
}

static bool get_step(struct slot *s)
{
	const struct driver *d = s->d;
	uint32_t size = d->t->size[s->key];
	char key[KEY_LEN];

	for (;;) {
		if (s->op.status == STORE_MISS)
			break;
		if (s->op.status != STORE_OK) {
			wrong(s, "the get ended in the middle of a value");
			slot_end(s);
			return true;
		}
		if (s->pos == 0) {
			tally_get(&s->d->r->run, s->late, size, true);
			s->d->r->run.all.hits_ram += s->op.from_ram;
			s->d->r->run.late.hits_ram += s->late && s->op.from_ram;
		}
		if (s->op.value_len != size || s->op.flags != s->key || s->op.value_off != s->pos ||
		    !value_same(d, s->key, s->pos, s->op.value, s->op.value_n)) {
			wrong(s, "a wrong value");
			slot_end(s);
			return true;
		}
		s->pos += s->op.value_n;
		if (s->pos == size) {
			slot_end(s);
			return true;
		}
		if (!store_get_next(&s->op))
			return false;
	}
	tally_get(&s->d->r->run, s->late, size, false);
	store_op_end(&s->op);
	key_text(d, s->key, key);
	store_op_init(&s->op, d->sw, key, KEY_LEN, slot_done, s);
	s->setting = true;
	if (!store_set(&s->op, STORE_SET, s->key, size))
		return false;
	return set_step(s);
}

static void slot_done(struct store_op *op)
{
	struct slot *s = op->user;

	if (s->setting)
		set_step(s);
	else
		get_step(s);
}

static void request(struct driver *d, uint32_t k, bool late)
{
	struct slot *s = d->free;
	char key[KEY_LEN];

	d->free = s->next;
	d->in_flight++;
	d->busy[k] = true;
	s->key = k;
	s->late = late;
	s->setting = false;
	s->pos = 0;
	key_text(d, k, key);
	store_op_init(&s->op, d->sw, key, KEY_LEN, slot_done, s);
	if (store_get(&s->op, false))
		get_step(s);
}

/* ---- loops -------------------------------------------------------------------------------------
 */

static void woken(void *arg)
{
	store_worker_woken(arg);
}

/* Waits for the earlier of the store's deadline and now + most; 0: does not wait. */
static void turn(struct io *io, struct store_worker *sw, uint64_t most)
{
	uint64_t at = store_worker_turn(sw), now = clock_ns(), wait = most;

	if (at != UINT64_MAX && wait > 0)
		wait = at <= now ? 0 : at - now < most ? at - now : most;
	A(io_turn(io, (int64_t)wait) >= 0);
}

static void *slow_main(void *arg)
{
	struct driver *d = arg;

	while (!atomic_load(&d->stop))
		turn(d->slow_io, d->slow, 100 * NS_PER_MS);
	store_worker_stop(d->slow);
	while (!store_worker_idle(d->slow))
		turn(d->slow_io, d->slow, 10 * NS_PER_MS);
	return NULL;
}

static uint64_t disk_written(const char *disk)
{
	unsigned long long sectors = 0;
	char path[128];
	FILE *f;

	if (disk == NULL)
		return 0;
	snprintf(path, sizeof(path), "/sys/block/%s/stat", disk);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	if (fscanf(f, "%*u %*u %*u %*u %*u %*u %llu", &sectors) != 1)
		sectors = 0;
	fclose(f);
	return sectors * 512;
}

/* Requests [from, to); those from skip on are late. */
static void run(struct driver *d, uint64_t from, uint64_t to, uint64_t skip)
{
	const struct trace *t = d->t;
	unsigned issued = 0;

	for (uint64_t i = from; i < to || d->in_flight > 0;) {
		bool stuck = i == to || d->free == NULL || d->busy[t->key[i]];

		if (!stuck) {
			request(d, t->key[i], i >= skip);
			i++;
			issued++;
			if (d->cfg->progress && i % 4096 == 0)
				progress(d->r->run.name, i, t->n);
		}
		if (stuck || issued >= TURN_ISSUE) {
			turn(d->io, d->sw, stuck ? 100 * NS_PER_MS : 0);
			issued = 0;
		}
	}
}

static void catch_stat(void *arg, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void catch_stat(void *arg, const char *name, const char *fmt, ...)
{
	struct result *r = arg;
	uint64_t *to = strcmp(name, "segments_recycled") == 0    ? &r->recycled
		       : strcmp(name, "records_reinserted") == 0 ? &r->reinserted
								 : NULL;
	char value[64];
	va_list ap;

	if (to == NULL)
		return;
	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	*to = strtoull(value, NULL, 10);
}

static void remove_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *f;

	while (dir != NULL && (f = readdir(dir)) != NULL)
		unlinkat(dirfd(dir), f->d_name, 0);
	if (dir != NULL)
		closedir(dir);
	rmdir(path);
}

static int start(struct driver *d, const struct store_config *sc, char **cause)
{
	const struct io_engine *engine =
	    io_try(&io_uring_engine, 1, NULL) == 0 ? &io_uring_engine : &io_libevent_engine;
	int e;

	if ((e = store_open(sc, engine, &d->store, cause)) != 0 ||
	    (e = io_open(engine, &(struct io_config){0}, &d->io, cause)) != 0 ||
	    (e = io_open(engine, &(struct io_config){0}, &d->slow_io, cause)) != 0 ||
	    (e = store_worker_open(d->store, d->io, 0, &d->sw, cause)) != 0 ||
	    (e = store_worker_open(d->store, d->slow_io, 1, &d->slow, cause)) != 0)
		return e;
	d->io->on_wake = woken;
	d->io->wake_arg = d->sw;
	d->slow_io->on_wake = woken;
	d->slow_io->wake_arg = d->slow;
	atomic_store(&d->stop, false);
	e = -pthread_create(&d->slow_thread, NULL, slow_main, d);
	if (e != 0)
		*cause = text("no thread for the slow worker: %s", strerror(-e));
	d->runs = e == 0;
	return e;
}

/* What it has counted is added to the result. Also what was only half started. */
static void stop(struct driver *d)
{
	struct result *r = d->r;
	uint64_t bytes;

	if (d->runs) {
		store_worker_stop(d->sw);
		while (!store_worker_idle(d->sw))
			turn(d->io, d->sw, 10 * NS_PER_MS);
		store_counters(d->store, &r->counters);
		/* first, because the slow worker may be waiting for a turn of it */
		store_worker_close(&d->sw);
		atomic_store(&d->stop, true);
		io_wake(d->slow_io);
		pthread_join(d->slow_thread, NULL);
		d->runs = false;
		r->run.all.device_bytes += r->counters.disk_write_bytes;
		store_stats(d->store, catch_stat, r);
		store_totals(d->store, &r->items, &bytes);
	}
	if (d->sw != NULL)
		store_worker_close(&d->sw);
	if (d->slow != NULL)
		store_worker_close(&d->slow);
	if (d->store != NULL)
		store_close(&d->store);
	if (d->io != NULL)
		io_close(&d->io);
	if (d->slow_io != NULL)
		io_close(&d->slow_io);
}

int drive_store(const struct trace *t, const struct drive *cfg, uint64_t skip, struct result *r,
		char **cause)
{
	struct driver d = {.t = t, .cfg = cfg, .r = r};
	struct store_config sc = {.paths = {cfg->path},
				  .npaths = 1,
				  .size = cfg->size,
				  .mean_value = t->distinct_bytes / t->nkeys + 1,
				  .item_max = 1 << 20,
				  .workers = 1,
				  .ram_bytes = cfg->ram,
				  .buffer_bytes = 64 << 20,
				  .sync_ns = NS_PER_S,
				  .admit = cfg->admit,
				  .fresh = true,
				  .seed = cfg->seed | 1};
	char shm[] = "/dev/shm/replay.XXXXXX";
	struct store_counters at_skip = {0};
	uint64_t began = 0, disk0 = 0, disk_skip = 0, before = 0;
	int e;

	*r = (struct result){.run.name = cfg->admit == STORE_ADMIT_ALL ? "all" : "second",
			     .run.size = cfg->size,
			     .real = true};
	d.slot = calloc(cfg->depth, sizeof(*d.slot));
	d.busy = calloc(t->nkeys, sizeof(*d.busy));
	if (d.slot == NULL || d.busy == NULL) {
		*cause = text("no memory for %u requests in flight", cfg->depth);
		e = -ENOMEM;
		goto out;
	}
	/* a folder of its own, so that nothing is left of the shared memory of a store that is */
	if (mkdtemp(shm) == NULL) {
		*cause = text("no folder in /dev/shm: %m");
		e = -errno;
		goto out;
	}
	sc.shm_dir = shm;
	if (cfg->reboot == REBOOT_LOST)
		sc.recency_room = 1; /* nothing fits */
	for (unsigned i = 0; i < cfg->depth; i++) {
		d.slot[i].d = &d;
		d.slot[i].next = d.free;
		d.free = &d.slot[i];
	}
	e = start(&d, &sc, cause);
	if (e != 0)
		goto out;
	began = clock_ns();
	disk0 = disk_written(cfg->disk);
	run(&d, 0, skip, skip);
	if (cfg->reboot != REBOOT_NONE) {
		stop(&d);
		before = r->run.all.device_bytes;
		sc.fresh = false;
		sc.no_attach = cfg->reboot != REBOOT_SHM;
		e = start(&d, &sc, cause);
		if (e != 0)
			goto out;
	}
	store_counters(d.store, &at_skip);
	disk_skip = disk_written(cfg->disk);
	run(&d, skip, t->n, skip);
	if (cfg->progress)
		progress(r->run.name, t->n, t->n);
	r->run.seconds = (double)(clock_ns() - began) / 1e9;
out:
	stop(&d);
	if (e == 0) {
		uint64_t disk1 = disk_written(cfg->disk);

		r->run.late.device_bytes =
		    r->run.all.device_bytes - before - at_skip.disk_write_bytes;
		if (cfg->disk != NULL) {
			r->run.all.kernel_bytes = disk1 - disk0;
			r->run.late.kernel_bytes = disk1 - disk_skip;
		}
	}
	if (e == 0 && !cfg->keep)
		unlink(cfg->path);
	if (sc.shm_dir != NULL)
		remove_folder(shm);
	free(d.slot);
	free(d.busy);
	return e;
}
