/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzzers of the store share: a small store on a simulated machine, and its clients, who know what
 * may be served. Built smaller (valcached/store/shrink.h), so that a start is a matter of milliseconds. A key is one byte; its value repeats one byte, too.
 */
#ifndef TESTS_FUZZ_STORE_MACHINE_H
#define TESTS_FUZZ_STORE_MACHINE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "valcached/io/sim.h"
#include "valcached/store/store_int.h"

#define SIZE  (64ull << 20 >> STORE_SHRINK)
#define PAGE  4096u
#define KEYS  40u
#define TURNS 200000u

struct machine {
	struct sim_env *env;
	struct store *s;
	struct io *io[2];
	struct store_worker *w[2];
};

/* The pages of a disk that are not zero. */
struct page {
	uint64_t off;
	uint8_t mem[PAGE];
};

static char shm[128]; /* the folder of shared memory */

static inline void turn(struct machine *m)
{
	for (unsigned i = 0; i < 2; i++) {
		A(io_turn(m->io[i], 0) >= 0);
		(void)store_worker_turn(m->w[i]);
	}
	if (!sim_env_step(m->env))
		sim_env_advance(m->env, 1000000);
}

static inline void others(void *arg)
{
	struct machine *m = arg;

	A(io_turn(m->io[0], 0) >= 0);
	(void)store_worker_turn(m->w[0]);
	sim_env_advance(m->env, 5000);
}

static inline int machine_open(struct machine *m)
{
	struct store_config cfg = {.paths = {"disk"},
				   .npaths = 1,
				   .size = SIZE,
				   .mean_value = 8192,
				   .item_max = 2 << 20 >> STORE_SHRINK,
				   .workers = 1,
				   .ram_bytes = 4 << 20,
				   .buffer_bytes = 8 << 20,
				   .sync_ns = 100000000,
				   .shm_dir = shm,
				   .seed = 7,
				   .yield = others,
				   .yield_arg = m};
	struct io_config ic = {.entries = 64};
	char *cause = NULL;
	int res = store_open(&cfg, sim_env_engine(m->env), &m->s, &cause);

	if (res < 0) {
		A(cause != NULL); /* a sentence for the operator */
		free(cause);
		return res;
	}
	for (unsigned i = 0; i < 2; i++) {
		AZ(io_open(sim_env_engine(m->env), &ic, &m->io[i], &cause));
		AZ(store_worker_open(m->s, m->io[i], i, &m->w[i], &cause));
	}
	return 0;
}

static inline void machine_close(struct machine *m)
{
	for (unsigned i = 0; i < 2; i++) {
		store_worker_stop(m->w[i]);
		for (unsigned k = 0; !store_worker_idle(m->w[i]); k++) {
			A(k < TURNS);
			turn(m);
		}
	}
	for (unsigned i = 0; i < 2; i++)
		store_worker_close(&m->w[i]);
	for (unsigned i = 0; i < 2; i++)
		io_close(&m->io[i]);
	store_close(&m->s);
}

struct wait {
	struct store_op op;
	bool done;
};

static inline void done(struct store_op *op)
{
	((struct wait *)op->user)->done = true;
}

static inline void until(struct machine *m, struct wait *w)
{
	for (unsigned k = 0; !w->done; k++) {
		A(k < TURNS);
		turn(m);
	}
}

static inline uint32_t len_of(unsigned k)
{
	return k == 7 ? STORE_WHOLE_MAX + 9000 : k % 5 == 0 ? STORE_CHUNK + 2000 + k : k * 97;
}

static inline void set(struct machine *m, unsigned k)
{
	struct wait w = {.done = false};
	uint8_t key = (uint8_t)('A' + k);

	store_op_init(&w.op, m->w[0], &key, 1, done, &w);
	w.done = store_set(&w.op, STORE_SET, k, len_of(k));
	until(m, &w);
	while (w.op.body_n > 0) {
		memset(w.op.body, (int)k, w.op.body_n);
		w.done = false;
		w.done = store_set_body(&w.op) || w.done;
		until(m, &w);
	}
	store_op_end(&w.op);
}

static inline void del(struct machine *m, unsigned k)
{
	struct wait w = {.done = false};
	uint8_t key = (uint8_t)('A' + k);

	store_op_init(&w.op, m->w[0], &key, 1, done, &w);
	w.done = store_delete(&w.op);
	until(m, &w);
	store_op_end(&w.op);
}

/* Not a loop: that is slow where each comparison is traced. */
static inline bool all_bytes(const uint8_t *p, size_t n, unsigned k)
{
	return n == 0 || (p[0] == (uint8_t)k && memcmp(p, p + 1, n - 1) == 0);
}

/* sealed: the input has made sums right, so what it says may be served. */
static inline void get(struct machine *m, unsigned k, bool sealed)
{
	struct wait w = {.done = false};
	uint8_t key = (uint8_t)('A' + k);

	store_op_init(&w.op, m->w[0], &key, 1, done, &w);
	w.done = store_get(&w.op, false);
	until(m, &w);
	if (w.op.status == STORE_OK) {
		uint32_t at = 0;

		while (w.op.status == STORE_OK) {
			A(sealed || (w.op.flags == k && all_bytes(w.op.value, w.op.value_n, k)));
			at += w.op.value_n;
			if (at >= w.op.value_len)
				break;
			w.done = false;
			w.done = store_get_next(&w.op) || w.done;
			until(m, &w);
		}
	}
	store_op_end(&w.op);
}

static inline void shm_folder(void)
{
	const char *dir = getenv("TEST_SHM");

	log_set_level((enum log_level)0);
	snprintf(shm, sizeof shm, "%.100s/fuzz-store-XXXXXX", dir != NULL ? dir : "/dev/shm");
	AN(mkdtemp(shm) != NULL);
}

/* malloc'd; how many in *n. */
static inline struct page *disk_pages(struct machine *m, size_t *n)
{
	static const uint8_t zero[PAGE];
	struct page *pages = calloc(SIZE / PAGE, sizeof *pages);

	AN(pages);
	*n = 0;
	for (uint64_t off = 0; off < SIZE; off += PAGE) {
		sim_disk_peek(m->env, "disk", off, pages[*n].mem, PAGE);
		pages[*n].off = off;
		*n += memcmp(pages[*n].mem, zero, PAGE) != 0;
	}
	return pages;
}

static inline void disk_make(struct machine *m, const struct page *pages, size_t n)
{
	sim_disk_make(m->env, "disk", SIZE);
	for (size_t i = 0; i < n; i++)
		sim_disk_poke(m->env, "disk", pages[i].off, pages[i].mem, PAGE);
}

#endif
