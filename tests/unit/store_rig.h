/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store on one thread, for tests: its serving workers and its slow worker take turns, on the
 * uring engine (or TEST_IO's) and a real file or on the simulated machine. Calls here look blocking: they turn
 * everybody until the operation is done.
 *
 *     struct rig r;
 *     rig_init(&r, env or NULL);  r.cfg....;  rig_open(&r);  ...  rig_close(&r);  rig_free(&r);
 *
 * rig_close() is a clean stop and checks that everything was given back; rig_crash() is SIGKILL or
 * a power cut of the simulated machine. Either may be followed by another rig_open().
 */
#ifndef TESTS_STORE_RIG_H
#define TESTS_STORE_RIG_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "valcached/io/sim.h"
#include "valcached/store/store.h"
#include "valcached/store/store_int.h"

#define RIG_WORKERS 2u
#define RIG_PATHS   3u
#define RIG_TURNS   20000000u
#define MIB         (1024u * 1024)

struct rig {
	struct sim_env *env; /* NULL: uring */
	const struct io_engine *engine;
	struct store_config cfg;
	struct store *s;
	struct io *io[RIG_WORKERS + 1];
	struct store_worker *w[RIG_WORKERS + 1];
	char *cause; /* of the last rig_try() that failed */
	char shm[128], dir[64];
	char path[RIG_PATHS][96];
	void (*on_yield)(struct rig *r); /* while the slow worker waits for the others */
	void *user;
	bool dead;
	bool threads; /* the workers have some of their own */
	bool held;    /* the slow worker has no turns */
	bool early;   /* rig_open() does not wait until everything has been read from the disk */
	uint64_t yields;
	struct store_counters last; /* of the store that was closed last */
};

/* Turns everybody until cond. */
#define RIG_UNTIL(r, cond)                                                                         \
	for (unsigned rig_n_ = 0; !(cond); rig_n_++) {                                             \
		if (rig_n_ >= RIG_TURNS)                                                           \
			fail_msg("%s never came true", #cond);                                     \
		rig_turn(r);                                                                       \
	}

static inline uint64_t rig_mix(uint64_t x)
{
	x = (x ^ (x >> 31)) * 0x7fb5d329728ea185ull;
	x = (x ^ (x >> 27)) * 0x81dadef4bc2dd44dull;
	return x ^ (x >> 33);
}

/* The bytes of value number id. */
static inline void rig_fill(uint8_t *v, size_t len, uint64_t id)
{
	uint64_t x = rig_mix(id + 1);

	for (size_t i = 0; i < len; i += 8) {
		size_t n = len - i < 8 ? len - i : 8;

		x += 0x9e3779b97f4a7c15ull;
		memcpy(v + i, &x, n);
		if ((i & 0xfff) == 0)
			x = rig_mix(x);
	}
}

static inline bool rig_is(const uint8_t *v, size_t len, uint64_t id)
{
	uint8_t *want = malloc(len + 1);
	bool same;

	rig_fill(want, len, id);
	same = memcmp(v, want, len) == 0;
	free(want);
	return same;
}

/* ---- life --------------------------------------------------------------------------------------
 */

static inline void rig_one(struct rig *r, unsigned i)
{
	if (r->w[i] == NULL || (r->held && i == r->cfg.workers))
		return;
	assert_true(io_turn(r->io[i], 0) >= 0);
	(void)store_worker_turn(r->w[i]);
}

static inline void rig_yield(void *arg)
{
	struct rig *r = arg;

	r->yields++;
	if (r->on_yield != NULL)
		r->on_yield(r);
	for (unsigned i = 0; i < r->cfg.workers; i++)
		rig_one(r, i);
	if (r->env != NULL)
		sim_env_advance(r->env, 5000);
}

static inline void rig_turn(struct rig *r)
{
	for (unsigned i = 0; i <= r->cfg.workers; i++)
		rig_one(r, i);
	if (r->env != NULL) {
		if (!sim_env_step(r->env))
			sim_env_advance(r->env, NS_PER_MS);
	} else if (r->io[0] != NULL) {
		assert_true(io_turn(r->io[0], 50000) >= 0);
	}
}

static inline void rig_init(struct rig *r, struct sim_env *env)
{
	const char *tmp = getenv("TEST_TMP"), *shm = getenv("TEST_SHM"), *io = getenv("TEST_IO");

	memset(r, 0, sizeof *r);
	log_set_level(getenv("RIG_LOG") != NULL ? LOG_INFO : (enum log_level)2);
	r->env = env;
	r->engine = env != NULL                                 ? sim_env_engine(env)
		    : io != NULL && strcmp(io, "libevent") == 0 ? &io_libevent_engine
								: &io_uring_engine;
	snprintf(r->shm, sizeof r->shm, "%.100s/store-rig-XXXXXX", shm != NULL ? shm : "/dev/shm");
	assert_non_null(mkdtemp(r->shm));
	snprintf(r->dir, sizeof r->dir, "%.40s/rig-XXXXXX", tmp != NULL ? tmp : "/tmp");
	if (env == NULL)
		assert_non_null(mkdtemp(r->dir));
	for (unsigned i = 0; i < RIG_PATHS; i++) {
		if (env != NULL)
			snprintf(r->path[i], sizeof r->path[i], "disk%u", i);
		else
			snprintf(r->path[i], sizeof r->path[i], "%s/store%u", r->dir, i);
	}
	r->cfg = (struct store_config){
	    .npaths = 1,
	    .size = 64 * MIB,
	    .mean_value = 8192,
	    .item_max = 1 * MIB,
	    .workers = 1,
	    .ram_bytes = 8 * MIB,
	    .buffer_bytes = 16 * MIB,
	    .sync_ns = 100 * NS_PER_MS,
	    .shm_dir = r->shm,
	    .seed = 7,
	};
}

static inline void rig_woken(void *arg)
{
	store_worker_woken(arg);
}

/* 0, or what store_open() said, with r->cause. */
static inline int rig_try(struct rig *r)
{
	struct io_config ic = {.entries = 128, .disk_depth = 32};
	char *cause = NULL;
	int res;

	free(r->cause);
	r->cause = NULL;
	for (unsigned i = 0; i < r->cfg.npaths; i++)
		r->cfg.paths[i] = r->path[i];
	r->cfg.yield = r->threads ? NULL : rig_yield;
	r->cfg.yield_arg = r;
	r->dead = false;
	res = store_open(&r->cfg, r->engine, &r->s, &r->cause);
	if (res < 0) {
		r->s = NULL;
		return res;
	}
	for (unsigned i = 0; i <= r->cfg.workers; i++) {
		assert_int_equal(io_open(r->engine, &ic, &r->io[i], &cause), 0);
		assert_int_equal(store_worker_open(r->s, r->io[i], i, &r->w[i], &cause), 0);
		r->io[i]->on_wake = rig_woken;
		r->io[i]->wake_arg = r->w[i];
	}
	return 0;
}

static inline void rig_open(struct rig *r)
{
	int res = rig_try(r);

	if (res < 0)
		fail_msg("store_open: %d: %s", res, r->cause);
	if (!r->early && !r->threads)
		RIG_UNTIL(r, !store_loading(r->s));
}

/* Nothing is held any more: no pins, no buffers, no extents; every segment is where it belongs. */
static inline void rig_check(struct rig *r)
{
	struct store *s = r->s;
	struct ram_stats ram;

	for (unsigned i = 0; i <= r->cfg.workers; i++) {
		assert_int_equal(r->w[i]->charged, 0);
		assert_int_equal(r->w[i]->in_flight, 0);
	}
	ram_stats(s->ram, &ram);
	assert_int_equal(ram.pinned_bytes, 0);
	for (unsigned i = 0; i < s->nwbuf; i++) {
		assert_false(s->wbuf[i].active);
		assert_int_equal(atomic_load(&s->wbuf[i].pins), 0);
		assert_int_equal(atomic_load(&s->wbuf[i].base), 0);
	}
	for (unsigned i = 0; i < LARGE_SETS_MAX; i++)
		assert_int_equal(atomic_load(&s->large[i].state), 0);
	for (unsigned i = 0; i < s->npaths; i++) {
		struct path *p = &s->path[i];
		uint32_t ordered = 0, n[SEG_STATES] = {0};

		for (uint32_t k = 0; k < p->nseg; k++) {
			struct segment *g = &p->seg[k];

			assert_int_equal(atomic_load(&g->pins), 0);
			n[atomic_load(&g->state)]++;
			if (atomic_load(&g->state) == SEG_OPEN ||
			    atomic_load(&g->state) == SEG_FULL) {
				assert_int_equal(g->extents, 0);
				assert_int_equal(g->allowed, 0);
			}
		}
		for (unsigned t = 0; t < STREAMS; t++)
			ordered += p->order[t].n;
		assert_int_equal(n[SEG_CLEAN], p->nclean);
		assert_int_equal(n[SEG_VIRGIN], p->virgins);
		assert_int_equal(n[SEG_OPEN] + n[SEG_FULL] + n[SEG_SEALED], ordered);
		if (!atomic_load(&p->offline))
			assert_int_equal(n[SEG_OPEN] + n[SEG_FULL], 0);
	}
}

static inline void rig_stop(struct rig *r)
{
	unsigned slow = r->cfg.workers;

	for (unsigned i = 0; i < slow; i++)
		store_worker_stop(r->w[i]);
	for (unsigned i = 0; i < slow; i++)
		RIG_UNTIL(r, store_worker_idle(r->w[i]));
	store_worker_stop(r->w[slow]);
	RIG_UNTIL(r, store_worker_idle(r->w[slow]));
	store_counters(r->s, &r->last);
	rig_check(r);
	for (unsigned i = 0; i <= slow; i++)
		store_worker_close(&r->w[i]);
	for (unsigned i = 0; i <= slow; i++)
		io_close(&r->io[i]);
	store_close(&r->s);
}

static inline void rig_close(struct rig *r)
{
	rig_stop(r);
}

/* A file's bytes, malloc'd; NULL if there is none. */
static inline void *rig_slurp(const char *name, size_t *len)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *mem;

	if (fd < 0)
		return NULL;
	assert_int_equal(fstat(fd, &st), 0);
	*len = (size_t)st.st_size;
	mem = malloc(*len + 1);
	for (size_t at = 0; at < *len;) {
		ssize_t n = read(fd, mem + at, *len - at);

		assert_true(n > 0);
		at += (size_t)n;
	}
	close(fd);
	return mem;
}

static inline void rig_spill(const char *name, const void *mem, size_t len)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	for (size_t at = 0; at < len;) {
		ssize_t n = write(fd, (const char *)mem + at, len - at);

		assert_true(n > 0);
		at += (size_t)n;
	}
	close(fd);
}

/* What rig_crash() keeps of the dead process: its shared memory. */
struct rig_corpse {
	char name[200], index_name[200];
	void *mem, *index; /* write buffers; counters, segments and index */
	size_t len, index_len;
};

/* The process dies now. What runs on until rig_bury() changes nothing any more. */
static inline void rig_die(struct rig *r, bool power, struct rig_corpse *c)
{
	assert_non_null(r->env);
	memset(c, 0, sizeof *c);
	if (r->dead)
		return;
	r->dead = true;
	snprintf(c->name, sizeof c->name, "%s", r->s->shm_wbuf);
	snprintf(c->index_name, sizeof c->index_name, "%s", r->s->shm_index);
	if (!power) {
		c->mem = rig_slurp(c->name, &c->len);
		c->index = rig_slurp(c->index_name, &c->index_len);
	}
	if (power)
		sim_env_power_loss(r->env);
	else
		sim_env_kill(r->env);
}

static inline void rig_bury(struct rig *r, struct rig_corpse *c)
{
	rig_stop(r);
	/* what its stop has left is of after its death */
	unlink(c->index_name);
	unlink(c->name);
	if (c->mem != NULL)
		rig_spill(c->name, c->mem, c->len);
	if (c->index != NULL)
		rig_spill(c->index_name, c->index, c->index_len);
	free(c->mem);
	free(c->index);
	c->mem = c->index = NULL;
}

static inline void rig_crash(struct rig *r, bool power)
{
	struct rig_corpse c;

	rig_die(r, power, &c);
	rig_bury(r, &c);
}

static inline unsigned rig_files(const char *dir)
{
	struct dirent *e;
	unsigned n = 0;
	DIR *d = opendir(dir);

	assert_non_null(d);
	while ((e = readdir(d)) != NULL)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static inline void rig_remove_dir(const char *dir)
{
	struct dirent *e;
	DIR *d = opendir(dir);
	char name[400];

	if (d == NULL)
		return;
	while ((e = readdir(d)) != NULL) {
		snprintf(name, sizeof name, "%s/%s", dir, e->d_name);
		if (e->d_name[0] != '.')
			unlink(name);
	}
	closedir(d);
	rmdir(dir);
}

static inline void rig_free(struct rig *r)
{
	assert_null(r->s);
	rig_remove_dir(r->shm);
	if (r->env == NULL)
		rig_remove_dir(r->dir);
	else
		sim_env_free(&r->env);
	free(r->cause);
}

/* ---- operations, as if they blocked ------------------------------------------------------------
 */

struct rop {
	struct store_op op;
	bool done;
};

static inline void rop_done(struct store_op *op)
{
	((struct rop *)op->user)->done = true;
}

/* Set of any length; the value is number id unless bytes are given. */
static inline enum store_status rig_put(struct rig *r, unsigned wi, enum store_mode mode,
					const char *key, size_t key_len, uint32_t flags,
					uint64_t id, uint32_t len, uint64_t *cas)
{
	struct rop *o = malloc(sizeof *o);
	uint8_t *value = malloc(len + 1);
	enum store_status st;
	uint32_t at = 0;

	rig_fill(value, len, id);
	o->done = false;
	store_op_init(&o->op, r->w[wi], key, (uint8_t)key_len, rop_done, o);
	if (!store_set(&o->op, mode, flags, len))
		RIG_UNTIL(r, o->done);
	while (o->op.body_n > 0) {
		assert_true(o->op.body_n <= len - at);
		memcpy(o->op.body, value + at, o->op.body_n);
		at += o->op.body_n;
		o->done = false;
		if (!store_set_body(&o->op))
			RIG_UNTIL(r, o->done);
	}
	st = o->op.status;
	if (cas != NULL)
		*cas = o->op.cas;
	store_op_end(&o->op);
	free(value);
	free(o);
	return st;
}

struct got {
	enum store_status status;
	bool from_ram;
	uint32_t flags, len;
	uint64_t cas;
	uint8_t *value; /* malloc'd; rig_drop() */
};

static inline void rig_drop(struct got *g)
{
	free(g->value);
	g->value = NULL;
}

static inline struct got rig_fetch(struct rig *r, unsigned wi, const char *key, size_t key_len,
				   bool head)
{
	struct rop *o = malloc(sizeof *o);
	struct got g = {0};

	o->done = false;
	store_op_init(&o->op, r->w[wi], key, (uint8_t)key_len, rop_done, o);
	if (!store_get(&o->op, head))
		RIG_UNTIL(r, o->done);
	g.status = o->op.status;
	if (g.status == STORE_OK) {
		uint32_t at = 0;

		g.from_ram = o->op.from_ram;
		g.flags = o->op.flags;
		g.len = o->op.value_len;
		g.cas = o->op.cas;
		assert_true(g.cas != 0);
		g.value = malloc(g.len + 1);
		if (head)
			assert_int_equal(o->op.value_n, 0);
		else if (g.len <= STORE_WHOLE_MAX)
			assert_int_equal(o->op.value_n, g.len);
		while (!head && o->op.status == STORE_OK) {
			assert_int_equal(o->op.value_off, at);
			memcpy(g.value + at, o->op.value, o->op.value_n);
			at += o->op.value_n;
			assert_true(at <= g.len);
			if (at == g.len)
				break;
			o->done = false;
			if (!store_get_next(&o->op))
				RIG_UNTIL(r, o->done);
			g.status = o->op.status;
		}
	}
	store_op_end(&o->op);
	free(o);
	return g;
}

static inline enum store_status rig_remove(struct rig *r, unsigned wi, const char *key,
					   size_t key_len)
{
	struct rop *o = malloc(sizeof *o);
	enum store_status st;

	o->done = false;
	store_op_init(&o->op, r->w[wi], key, (uint8_t)key_len, rop_done, o);
	if (!store_delete(&o->op))
		RIG_UNTIL(r, o->done);
	st = o->op.status;
	store_op_end(&o->op);
	free(o);
	return st;
}

static inline enum store_status rig_flush_all(struct rig *r, unsigned wi)
{
	struct rop *o = malloc(sizeof *o);
	enum store_status st;

	o->done = false;
	store_op_init(&o->op, r->w[wi], "", 0, rop_done, o);
	if (!store_flush_all(&o->op))
		RIG_UNTIL(r, o->done);
	st = o->op.status;
	store_op_end(&o->op);
	free(o);
	return st;
}

/* Short forms: keys by number, worker 0, flags derived from the value. */
static inline size_t rig_key(char key[32], uint64_t k)
{
	return (size_t)snprintf(key, 32, "key-%" PRIu64, k);
}

static inline enum store_status set_k(struct rig *r, uint64_t k, uint64_t id, uint32_t len)
{
	char key[32];
	size_t n = rig_key(key, k);

	return rig_put(r, 0, STORE_SET, key, n, (uint32_t)id, id, len, NULL);
}

static inline enum store_status add_k(struct rig *r, uint64_t k, uint64_t id, uint32_t len)
{
	char key[32];
	size_t n = rig_key(key, k);

	return rig_put(r, 0, STORE_ADD, key, n, (uint32_t)id, id, len, NULL);
}

/* Gets key k, which must hold value id of that length, or be absent: then false. */
static inline bool get_k(struct rig *r, uint64_t k, uint64_t id, uint32_t len)
{
	char key[32];
	size_t n = rig_key(key, k);
	struct got g = rig_fetch(r, 0, key, n, false);

	if (g.status != STORE_OK) {
		assert_int_equal(g.status, STORE_MISS);
		return false;
	}
	if (g.len != len || g.flags != (uint32_t)id || !rig_is(g.value, len, id))
		fail_msg("key %" PRIu64 ": wrong value: flags %u, %u bytes; expected %" PRIu64
			 ", %u",
			 k, g.flags, g.len, id, len);
	rig_drop(&g);
	return true;
}

static inline enum store_status del_k(struct rig *r, uint64_t k)
{
	char key[32];
	size_t n = rig_key(key, k);

	return rig_remove(r, 0, key, n);
}

static inline struct store_counters rig_counters(struct rig *r)
{
	struct store_counters c;

	store_counters(r->s, &c);
	return c;
}

/* A number of `stats store`. */
struct rig_stat {
	const char *name;
	double value;
};

static inline void rig_stat_emit(void *arg, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static inline void rig_stat_emit(void *arg, const char *name, const char *fmt, ...)
{
	struct rig_stat *st = arg;
	char text[64];
	va_list ap;

	if (strcmp(name, st->name) != 0)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	st->value = strtod(text, NULL);
}

static inline uint64_t rig_stat(struct rig *r, const char *name)
{
	struct rig_stat st = {name, -2};

	store_stats(r->s, rig_stat_emit, &st);
	assert_true(st.value >= 0);
	return (uint64_t)st.value;
}

/* Where the record of key k lies: its path, its segment, and its first byte on disk. */
static inline struct path *rig_place(struct rig *r, uint64_t k, uint32_t *seg, uint64_t *off,
				     struct index_ref *ref)
{
	struct index_probe probe;
	struct path *p;
	struct rop o;
	char key[32];
	uint32_t at;

	store_op_init(&o.op, r->w[0], key, (uint8_t)rig_key(key, k), rop_done, &o);
	index_find(r->s->index, o.op.hash, &probe);
	store_op_end(&o.op);
	if (probe.n == 0)
		return NULL;
	assert_int_equal(probe.n, 1);
	p = loc_path(r->s, probe.ref[0].loc, seg, &at);
	assert_non_null(p);
	*off = seg_offset(p, *seg) + (uint64_t)at * FORMAT_UNIT;
	*ref = probe.ref[0];
	return p;
}

/* Lets the store's own time pass. */
static inline void rig_pass(struct rig *r, uint64_t ns)
{
	uint64_t end = io_now(r->io[0]) + ns;

	RIG_UNTIL(r, io_now(r->io[0]) >= end);
}

/* Every write buffer is on disk and given back, so that reads come from the disk. */
static inline void rig_settle(struct rig *r)
{
	bool busy = true;

	for (unsigned n = 0; busy; n++) {
		busy = false;
		assert_true(n < RIG_TURNS);
		rig_turn(r);
		for (unsigned i = 0; i < r->s->nwbuf; i++) {
			struct wbuf *w = &r->s->wbuf[i];

			if (w->active && w->dirty_since == 0 && w->writing == 0)
				w->idle_since = 1; /* as if nobody had used it for long */
			busy = busy || w->active;
		}
	}
}

#endif
