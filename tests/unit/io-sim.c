/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated machine keeps its own promises: see sim.h. Each over many seeds. */
#include <fcntl.h>

#include "tests/unit/io_test.h"
#include "valcached/io/sim.h"

#define PATH    "/store"
#define SECTORS 2048u
#define BYTES   (SECTORS * 512u)
#define WRITES  24u /* in flight at most */
#define SECTOR  512u

/* Each sector holds the number of its write, repeated. What it may hold: */
struct model {
	uint32_t done[SECTORS];    /* of the last completed write */
	uint32_t durable[SECTORS]; /* by the last completed sync */
	/* every write, so that what is neither can be looked up */
	struct {
		uint32_t first, n;
		bool completed;
		bool durable;
	} write[4096];
	uint32_t writes;
};

struct slot {
	struct io_op op;
	struct rig *rig;
	uint32_t number;
	unsigned char *mem;
};

struct rig {
	struct sim_env *env;
	struct io *io[2];
	struct io_file *file;
	struct slot slot[WRITES];
	struct io_op sync;
	uint32_t sync_upto_n, sync_list[4096]; /* writes done when the sync was submitted */
	struct model m;
	uint64_t trace;
	int busy;
	bool syncing;
};

static void note(struct rig *r, uint64_t what)
{
	r->trace = (r->trace ^ what ^ sim_env_now(r->env)) * 0x100000001b3ull;
}

static void wrote(struct io_op *op)
{
	struct slot *s = container_of(op, struct slot, op);
	struct rig *r = s->rig;

	note(r, s->number);
	r->busy--;
	if (op->res < 0)
		return;
	r->m.write[s->number].completed = true;
	for (uint32_t i = 0; i < r->m.write[s->number].n; i++)
		r->m.done[r->m.write[s->number].first + i] = s->number;
}

static void synced(struct io_op *op)
{
	struct rig *r = container_of(op, struct rig, sync);

	note(r, 1u << 31);
	r->syncing = false;
	if (op->res < 0)
		return;
	for (uint32_t i = 0; i < r->sync_upto_n; i++)
		r->m.write[r->sync_list[i]].durable = true;
}

static void rig_open(struct rig *r)
{
	struct io_config c = {.disk_depth = 8};
	const struct io_engine *e = sim_env_engine(r->env);
	char *cause = NULL;

	assert_int_equal(e->file_open(e, PATH, BYTES, &r->file, &cause), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(io_open(e, &c, &r->io[i], &cause), 0);
		assert_int_equal(io_add_file(r->io[i], r->file), 0);
	}
}

static void rig_close(struct rig *r)
{
	for (int i = 0; i < 2; i++)
		io_close(&r->io[i]);
	sim_env_engine(r->env)->file_close(r->file);
}

static struct rig *rig_new(uint64_t seed, const struct sim_config *c)
{
	struct rig *r = calloc(1, sizeof *r);

	assert_non_null(r);
	r->env = sim_env_new(seed, c);
	rig_open(r);
	for (unsigned i = 0; i < WRITES; i++) {
		r->slot[i].rig = r;
		assert_int_equal(posix_memalign((void **)&r->slot[i].mem, 4096, 64 * SECTOR), 0);
	}
	r->m.writes = 1;
	return r;
}

static void rig_free(struct rig *r)
{
	sim_env_free(&r->env);
	for (unsigned i = 0; i < WRITES; i++)
		free(r->slot[i].mem);
	free(r);
}

/* Writes that are in flight together never overlap, as a store's do not. */
static bool overlaps(const struct rig *r, uint32_t first, uint32_t n)
{
	for (unsigned i = 0; i < WRITES; i++) {
		const struct slot *s = &r->slot[i];

		if (!io_op_idle(&s->op) &&
		    first < r->m.write[s->number].first + r->m.write[s->number].n &&
		    r->m.write[s->number].first < first + n)
			return true;
	}
	return false;
}

static void random_write(struct rig *r)
{
	uint32_t n = 1 + (uint32_t)sim_env_random(r->env, 64);
	uint32_t first = (uint32_t)sim_env_random(r->env, SECTORS - n);
	unsigned i = 0;
	struct slot *s;

	while (i < WRITES && !io_op_idle(&r->slot[i].op))
		i++;
	if (i == WRITES || overlaps(r, first, n))
		return;
	s = &r->slot[i];
	s->number = r->m.writes++;
	r->m.write[s->number].first = first;
	r->m.write[s->number].n = n;
	for (uint32_t k = 0; k < n * SECTOR / 4; k++)
		((uint32_t *)(void *)s->mem)[k] = s->number;
	r->busy++;
	io_write(r->io[sim_env_random(r->env, 2)], &s->op, r->file, s->mem, n * SECTOR,
		 (uint64_t)first * SECTOR, wrote);
}

static void random_work(struct rig *r, int steps)
{
	for (int i = 0; i < steps; i++) {
		uint64_t x = sim_env_random(r->env, 100);

		if (x < 50) {
			random_write(r);
		} else if (x < 55 && !r->syncing) {
			r->syncing = true;
			r->sync_upto_n = 0;
			for (uint32_t w = 1; w < r->m.writes; w++)
				if (r->m.write[w].completed)
					r->sync_list[r->sync_upto_n++] = w;
			io_sync(r->io[0], &r->sync, r->file, synced);
		} else {
			sim_env_step(r->env);
		}
	}
}

static void durable_now(struct rig *r)
{
	/* Completion order is the order on the disk, so the newest durable write of a sector wins.
	 */
	memset(r->m.durable, 0, sizeof r->m.durable);
	for (uint32_t w = 1; w < r->m.writes; w++)
		if (r->m.write[w].durable)
			for (uint32_t k = 0; k < r->m.write[w].n; k++)
				r->m.durable[r->m.write[w].first + k] = w;
}

static uint32_t sector(struct rig *r, uint32_t at)
{
	uint32_t v[SECTOR / 4];

	sim_disk_peek(r->env, PATH, (uint64_t)at * SECTOR, v, sizeof v);
	for (unsigned i = 1; i < SECTOR / 4; i++)
		assert_int_equal(v[i], v[0]); /* a sector is never torn */
	return v[0];
}

static bool covers(const struct rig *r, uint32_t w, uint32_t at)
{
	return at >= r->m.write[w].first && at < r->m.write[w].first + r->m.write[w].n;
}

static void power_loss(void **state)
{
	struct sim_counters sum = {0};

	(void)state;
	for (uint64_t seed = 1; seed <= 150; seed++) {
		struct rig *r = rig_new(seed, NULL);

		random_work(r, 300);
		durable_now(r);
		sim_env_power_loss(r->env);
		for (uint32_t at = 0; at < SECTORS; at++) {
			uint32_t v = sector(r, at);

			if (v == r->m.durable[at])
				continue;
			/* Else it is a write that was not durable; never one that a durable one
			 * replaced. */
			assert_in_range(v, 1, r->m.writes - 1);
			assert_true(covers(r, v, at));
			assert_false(r->m.write[v].durable);
		}
		sum.kept += sim_env_counters(r->env)->kept;
		sum.dropped += sim_env_counters(r->env)->dropped;
		sum.torn += sim_env_counters(r->env)->torn;
		sum.reordered += sim_env_counters(r->env)->reordered;
		rig_close(r); /* with operations in flight: the io is dead */
		rig_open(r);  /* and the lock is free */
		rig_close(r);
		rig_free(r);
	}
	assert_true(sum.kept > 100 && sum.dropped > 100 && sum.torn > 100 && sum.reordered > 10);
}

static void death_of_the_process(void **state)
{
	struct sim_counters sum = {0};

	(void)state;
	for (uint64_t seed = 1; seed <= 100; seed++) {
		struct rig *r = rig_new(seed, NULL);

		random_work(r, 200);
		sim_env_kill(r->env);
		for (uint32_t at = 0; at < SECTORS; at++) {
			uint32_t v = sector(r, at);

			if (v == r->m.done[at])
				continue; /* what was reported is there */
			assert_in_range(v, 1, r->m.writes - 1);
			assert_true(covers(r, v, at));
			assert_false(r->m.write[v].completed);
		}
		sum.kept += sim_env_counters(r->env)->kept;
		sum.dropped += sim_env_counters(r->env)->dropped;
		sum.torn += sim_env_counters(r->env)->torn;
		/* the ordinary way out of a dead machine: everything ends with -ENODEV */
		while (r->busy > 0 || r->syncing)
			assert_true(sim_env_step(r->env));
		random_write(r);
		assert_int_equal(r->busy, 1);
		while (r->busy > 0)
			assert_true(sim_env_step(r->env));
		for (unsigned i = 0; i < WRITES; i++)
			assert_true(io_op_idle(&r->slot[i].op));
		rig_close(r);
		rig_free(r);
	}
	assert_true(sum.kept > 10 && sum.dropped > 10 && sum.torn > 10);
}

static uint64_t run(uint64_t seed)
{
	struct sim_config c = {.short_io = 100000, .again = 50000, .write_error = 10000};
	struct rig *r = rig_new(seed, &c);
	uint64_t t;

	random_work(r, 500);
	while (r->busy > 0 || r->syncing)
		assert_true(sim_env_step(r->env));
	assert_false(sim_env_step(r->env)); /* nothing is in flight any more */
	t = r->trace ^ sim_env_now(r->env);
	rig_close(r);
	rig_free(r);
	return t;
}

static void same_seed_same_run(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		uint64_t a = run(seed);

		assert_int_equal(a, run(seed));
		assert_int_not_equal(a, run(seed + 1000));
	}
}

/* One op to its end; its result. */
static int32_t ended(struct rig *r, struct box *b)
{
	int before = b->lasts;

	while (b->lasts == before)
		assert_true(io_turn(r->io[0], -1) >= 0);
	return b->res;
}

static void faults(void **state)
{
	struct rig *r = rig_new(7, NULL);
	struct sim_config *c = sim_env_config(r->env);
	const struct sim_counters *n = sim_env_counters(r->env);
	unsigned char *out = r->slot[0].mem, *in = r->slot[1].mem;
	struct box b = {0};
	int differ = 0;

	(void)state;
	memset(out, 0x5a, 4096);
	io_write(r->io[0], &b.op, r->file, out, 4096, 8192, box_done);
	assert_int_equal(ended(r, &b), 4096);

	sim_disk_fault(r->env, PATH, 8192 + 512, 512, SIM_READ_ERROR);
	io_read(r->io[0], &b.op, r->file, in, 4096, 8192, box_done);
	assert_int_equal(ended(r, &b), -EIO);
	io_read(r->io[0], &b.op, r->file, in, 512, 8192, box_done);
	assert_int_equal(ended(r, &b), 512);
	io_write(r->io[0], &b.op, r->file, out, 4096, 8192, box_done);
	assert_int_equal(ended(r, &b), 4096);
	sim_disk_fault(r->env, PATH, 0, BYTES, SIM_OK);
	io_read(r->io[0], &b.op, r->file, in, 4096, 8192, box_done);
	assert_int_equal(ended(r, &b), 4096);
	assert_memory_equal(in, out, 4096);
	assert_int_equal(n->read_errors, 1);
	assert_int_equal(counter(&r->io[0]->count.file_errors), 1);

	sim_disk_fault(r->env, PATH, 0, BYTES, SIM_DEAD);
	io_write(r->io[0], &b.op, r->file, out, 4096, 0, box_done);
	assert_int_equal(ended(r, &b), -EIO);
	io_sync(r->io[0], &b.op, r->file, box_done);
	assert_int_equal(ended(r, &b), -EIO);
	sim_disk_fault(r->env, PATH, 0, BYTES, SIM_OK);

	c->read_flip = 1000000;
	io_read(r->io[0], &b.op, r->file, in, 4096, 8192, box_done);
	assert_int_equal(ended(r, &b), 4096);
	for (int i = 0; i < 4096; i++)
		differ += in[i] != 0x5a;
	assert_int_equal(differ, 1);
	c->read_flip = 0;

	c->write_flip = 1000000;
	io_write(r->io[0], &b.op, r->file, out, 4096, 8192, box_done);
	assert_int_equal(ended(r, &b), 4096);
	c->write_flip = 0;
	io_read(r->io[0], &b.op, r->file, in, 4096, 8192, box_done);
	assert_int_equal(ended(r, &b), 4096);
	differ = 0;
	for (int i = 0; i < 4096; i++)
		differ += in[i] != 0x5a;
	assert_int_equal(differ, 1);

	c->lost_write = 1000000;
	memset(out, 0x11, 4096);
	io_write(r->io[0], &b.op, r->file, out, 4096, 65536, box_done);
	assert_int_equal(ended(r, &b), 4096);
	c->lost_write = 0;
	sim_disk_peek(r->env, PATH, 65536, in, 4096);
	assert_int_equal(in[0], 0);

	c->misdirect = 1000000;
	io_write(r->io[0], &b.op, r->file, out, 512, 65536, box_done);
	assert_int_equal(ended(r, &b), 512);
	c->misdirect = 0;
	assert_int_equal(n->misdirected, 1);
	sim_disk_peek(r->env, PATH, 65536, in, 512);
	assert_int_equal(in[0], 0);
	differ = 0;
	for (uint32_t at = 0; at < SECTORS; at++) {
		sim_disk_peek(r->env, PATH, (uint64_t)at * SECTOR, in, 1);
		differ += in[0] == 0x11;
	}
	assert_int_equal(differ, 1);

	in[0] = 1;
	sim_disk_poke(r->env, PATH, 0, in, 1);
	sim_disk_flip(r->env, PATH, 1);
	sim_disk_peek(r->env, PATH, 0, in, 1);
	assert_int_equal(in[0], 3);
	rig_close(r);
	rig_free(r);
}

static void opening(void **state)
{
	struct sim_config c = {.space = 1 << 20};
	struct sim_env *env = sim_env_new(1, &c);
	const struct io_engine *e = sim_env_engine(env);
	struct io_file *f, *g;
	char *cause;

	(void)state;
	assert_int_equal(e->file_open(e, "/a", 2 << 20, &f, &cause), -ENOSPC);
	assert_non_null(strstr(cause, "--size=2"));
	free(cause);
	assert_int_equal(sim_disk_size(env, "/a"), 0);
	assert_int_equal(e->file_open(e, "/a", 512 << 10, &f, &cause), 0);
	assert_true(f->info.created);
	assert_int_equal(e->file_open(e, "/a", 512 << 10, &g, &cause), -EBUSY);
	free(cause);
	e->file_close(f);
	assert_int_equal(e->file_open(e, "/a", 1 << 20, &f, &cause), 0); /* grows */
	assert_false(f->info.created);
	assert_int_equal(f->info.size, 1 << 20);
	assert_int_equal(e->file_open(e, "/b", 4096, &g, &cause), -ENOSPC);
	free(cause);
	assert_int_equal(e->file_resize(f, 2 << 20, &cause), -ENOSPC);
	free(cause);
	sim_disk_poke(env, "/a", 4096, "x",
		      1); /* what says something is not made longer by itself */
	sim_disk_poke(env, "/a", 900 << 10, "y", 1);
	assert_int_equal(e->file_resize(f, 512 << 10, &cause), 0);
	assert_int_equal(sim_disk_size(env, "/a"), 512 << 10);
	e->file_close(f);
	assert_int_equal(e->file_open(e, "/a", 1 << 20, &f, &cause), 0);
	assert_int_equal(f->info.size, 512 << 10);
	assert_int_equal(e->file_resize(f, 1 << 20, &cause), 0);
	{
		char was = 1;

		sim_disk_peek(env, "/a", 900 << 10, &was, 1);
		assert_int_equal(was, 0); /* what was cut off does not come back */
	}
	assert_int_equal(e->file_open(e, "/dev/x", 0, &g, &cause), -ENOENT);
	free(cause);
	sim_disk_make(env, "/dev/x", 8 << 20);
	assert_int_equal(e->file_open(e, "/dev/x", 0, &g, &cause), 0);
	assert_int_equal(g->info.size, 8 << 20);
	assert_true(g->info.block_device);
	assert_int_not_equal(f->id, g->id);
	e->file_close(g);
	e->file_close(f);
	sim_env_free(&env);
}

static void clock_and_discard(void **state)
{
	struct sim_env *env = sim_env_new(3, NULL);
	const struct io_engine *e = sim_env_engine(env);
	struct io_config c = {0};
	struct io_file *f;
	struct box b = {0};
	struct io *io;
	uint64_t t0;

	(void)state;
	sim_disk_make(env, "/dev/x", 1 << 20);
	assert_int_equal(e->file_open(e, "/dev/x", 0, &f, NULL), 0);
	assert_int_equal(io_open(e, &c, &io, NULL), 0);
	t0 = sim_env_now(env);
	assert_int_equal(io_turn(io, NS_PER_S), 0);
	assert_int_equal(sim_env_now(env), t0 + NS_PER_S); /* a timeout takes its time at once */
	assert_int_equal(io_now(io), t0 + NS_PER_S);
	io_discard(io, &b.op, f, 0, 1 << 20, box_done);
	assert_int_equal(io_turn(io, 0), 0); /* it is not due yet */
	while (b.lasts == 0)
		assert_true(io_turn(io, -1) >= 0);
	assert_int_equal(b.res, 0);
	assert_true(sim_env_now(env) > t0 + NS_PER_S);
	io_close(&io);
	e->file_close(f);
	sim_env_free(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(power_loss),
	    cmocka_unit_test(death_of_the_process),
	    cmocka_unit_test(same_seed_same_run),
	    cmocka_unit_test(faults),
	    cmocka_unit_test(opening),
	    cmocka_unit_test(clock_and_discard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
