/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes
 *
 * Files through io.h, real ones and simulated ones: the same promises of each engine.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/unit/io_test.h"
#include "valcached/io/sim.h"

#define FILE_BYTES (8u << 20)

struct world {
	const struct io_engine *engine;
	struct sim_env *env; /* NULL: a real machine */
	struct io *io;
	struct io_file *file;
	char dir[64], path[128];
	unsigned char *mem; /* page-aligned, 4 MiB, known to the engine */
};

#define MEM_BYTES (4u << 20)

static void world_open(struct world *w, const struct io_config *c)
{
	char *cause = NULL;

	assert_int_equal(io_open(w->engine, c, &w->io, &cause), 0);
	assert_int_equal(w->engine->file_open(w->engine, w->path, FILE_BYTES, &w->file, &cause), 0);
	assert_int_equal(io_add_file(w->io, w->file), 0);
}

static int setup_with(void **state, struct sim_env *env, const struct io_config *c)
{
	struct world *w = calloc(1, sizeof *w);
	int rc;

	assert_non_null(w);
	w->env = env;
	w->engine = env != NULL ? sim_env_engine(env) : engine;
	strcpy(w->dir, "io-disk-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof w->path, "%s/store", w->dir);
	world_open(w, c);
	w->mem = mmap(NULL, MEM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(w->mem != MAP_FAILED);
	/* an ordinary user's limit of locked memory may be too small; all must work without, too */
	rc = io_add_memory(w->io, w->mem, MEM_BYTES);
	assert_true(rc == 0 || (rc == -ENOMEM && env == NULL));
	*state = w;
	return 0;
}

static int setup(void **state, struct sim_env *env)
{
	struct io_config c = {0};

	return setup_with(state, env, &c);
}

static int setup_uring(void **state)
{
	engine = &io_uring_engine;
	return setup(state, NULL);
}

static int setup_libevent(void **state)
{
	engine = &io_libevent_engine;
	return setup(state, NULL);
}

/* ... where io_submit(2) is refused, too. */
static int setup_pool(void **state)
{
	struct io_config c = {.pool_only = true};

	engine = &io_libevent_engine;
	return setup_with(state, NULL, &c);
}

static int setup_sim(void **state)
{
	return setup(state, sim_env_new(1, NULL));
}

/* A disk on which much must be tried twice. */
static int setup_sim_rough(void **state)
{
	struct sim_config c = {.short_io = 300000, .again = 100000};

	return setup(state, sim_env_new(2, &c));
}

static int teardown(void **state)
{
	struct world *w = *state;

	io_close(&w->io);
	assert_null(w->io);
	w->engine->file_close(w->file);
	munmap(w->mem, MEM_BYTES);
	if (w->env != NULL)
		sim_env_free(&w->env);
	unlink(w->path);
	rmdir(w->dir);
	free(w);
	return 0;
}

static void fill(unsigned char *p, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		p[i] = (unsigned char)(seed >> 56);
	}
}

static void write_read(void **state)
{
	struct world *w = *state;
	struct box b = {0}, s = {0};
	unsigned char *in = w->mem, *out = w->mem + (1 << 20);

	fill(in, 1 << 20, 1);
	io_write(w->io, &b.op, w->file, in, 1 << 20, 4096, box_done);
	assert_int_equal(b.calls, 0); /* never from the submit call */
	turn_until(w->io, b.lasts == 1);
	assert_int_equal(b.res, 1 << 20);
	io_sync(w->io, &s.op, w->file, box_done);
	turn_until(w->io, s.lasts == 1);
	assert_int_equal(s.res, 0);
	io_read(w->io, &b.op, w->file, out, 1 << 20, 4096, box_done);
	turn_until(w->io, b.lasts == 2);
	assert_int_equal(b.res, 1 << 20);
	assert_memory_equal(in, out, 1 << 20);
	assert_int_equal(counter(&w->io->count.read_bytes), 1 << 20);
	assert_int_equal(counter(&w->io->count.write_bytes), 1 << 20);
	assert_int_equal(counter(&w->io->count.syncs), 1);
}

/* Large writes beside reads go to the disk in pieces [IO-8]: all of their bytes arrive, counted once. */
static void write_beside_reads(void **state)
{
	struct world *w = *state;
	struct box rd[4], wr = {0};
	unsigned char *in = w->mem, *out = w->mem + (3 << 20);
	const uint32_t len = (1 << 20) + 12288;

	memset(rd, 0, sizeof rd);
	for (int round = 1; round <= 8; round++) {
		fill(in, len, (uint64_t)round);
		for (int i = 0; i < 4; i++)
			io_read(w->io, &rd[i].op, w->file, out + (i << 17), 1 << 17,
				(4u << 20) + ((unsigned)i << 17), box_done);
		io_write(w->io, &wr.op, w->file, in, len, 8192, box_done);
		turn_until(w->io, wr.lasts == round);
		assert_int_equal(wr.res, len);
		for (int i = 0; i < 4; i++)
			turn_until(w->io, rd[i].lasts == round);
		io_read(w->io, &rd[0].op, w->file, in + (3 << 19), len, 8192, box_done);
		turn_until(w->io, rd[0].lasts == round + 1);
		rd[0].lasts = round;
		assert_memory_equal(in, in + (3 << 19), len);
	}
	assert_int_equal(counter(&w->io->count.writes), 8);
	assert_int_equal(counter(&w->io->count.write_bytes), 8 * len);
	if (w->env == NULL)
		assert_int_equal(counter(&w->io->count.short_writes), 0);
}

/* Memory that the engine was never told of. */
static void unregistered_memory(void **state)
{
	struct world *w = *state;
	struct box b = {0};
	void *p = NULL, *q = NULL;

	assert_int_equal(posix_memalign(&p, 4096, 8192), 0);
	assert_int_equal(posix_memalign(&q, 4096, 8192), 0);
	fill(p, 8192, 2);
	memset(q, 0, 8192); /* valgrind does not see what a ring writes */
	io_write(w->io, &b.op, w->file, p, 8192, 65536, box_done);
	turn_until(w->io, b.lasts == 1);
	assert_int_equal(b.res, 8192);
	io_read(w->io, &b.op, w->file, q, 8192, 65536, box_done);
	turn_until(w->io, b.lasts == 2);
	assert_int_equal(b.res, 8192);
	assert_memory_equal(p, q, 8192);
	free(p);
	free(q);
}

static void bad_alignment(void **state)
{
	struct world *w = *state;
	struct box b = {0};
	uint32_t a = w->file->info.align;

	assert_true(a >= 512 && a <= 4096 && (a & (a - 1)) == 0);
	io_read(w->io, &b.op, w->file, w->mem, a, a / 2, box_done);
	turn_until(w->io, b.lasts == 1);
	assert_int_equal(b.res, -EINVAL);
	io_write(w->io, &b.op, w->file, w->mem, a / 2, 0, box_done);
	turn_until(w->io, b.lasts == 2);
	assert_int_equal(b.res, -EINVAL);
	io_read(w->io, &b.op, w->file, w->mem + 1, a, 0, box_done);
	turn_until(w->io, b.lasts == 3);
	assert_int_equal(b.res, -EINVAL);
	io_read(w->io, &b.op, w->file, w->mem, 0, 0, box_done);
	turn_until(w->io, b.lasts == 4);
	assert_int_equal(b.res, 0);
}

static void past_the_end(void **state)
{
	struct world *w = *state;
	struct box b = {0};

	io_read(w->io, &b.op, w->file, w->mem, 65536, FILE_BYTES - 4096, box_done);
	turn_until(w->io, b.lasts == 1);
	assert_int_equal(b.res, 4096);
	io_read(w->io, &b.op, w->file, w->mem, 65536, FILE_BYTES, box_done);
	turn_until(w->io, b.lasts == 2);
	assert_int_equal(b.res, 0);
}

static void discard_on_a_file(void **state)
{
	struct world *w = *state;
	struct box b = {0};

	io_discard(w->io, &b.op, w->file, 0, 1 << 20, box_done);
	assert_int_equal(b.calls, 0);
	turn_until(w->io, b.lasts == 1);
	assert_int_equal(b.res, -EOPNOTSUPP);
}

/* More operations than disk_depth, and more than the submission queue holds. */
static void many(void **state)
{
	struct world *w = *state;
	enum { N = 2000 };
	struct box *b = calloc(N, sizeof *b);
	unsigned char *page = w->mem;
	int done = 0;

	for (unsigned i = 0; i < FILE_BYTES / 4096; i += 256) {
		struct box one = {0};

		for (unsigned j = 0; j < 256; j++)
			memset(page + j * 4096, (int)((i + j) & 0xff), 4096);
		io_write(w->io, &one.op, w->file, page, 256 * 4096, (uint64_t)i * 4096, box_done);
		turn_until(w->io, one.lasts == 1);
	}
	for (unsigned i = 0; i < N; i++)
		io_read(w->io, &b[i].op, w->file, w->mem + (i % 1024) * 4096, 4096,
			(uint64_t)(i % 1024) * 4096, box_done);
	while (done < N) {
		int n = io_turn(w->io, NS_PER_S);

		assert_true(n >= 0);
		done += n;
	}
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(b[i].lasts, 1);
		assert_int_equal(b[i].res, 4096);
	}
	for (unsigned i = 0; i < 1024; i++)
		assert_int_equal(w->mem[i * 4096 + 17], i & 0xff);
	assert_true(counter(&w->io->count.disk_waits) > 0);
	free(b);
}

/* A cancelled op ends exactly once, wherever it was: waiting, in the kernel, or over already. */
static void cancel_disk(void **state)
{
	struct world *w = *state;
	enum { N = 400 };
	struct box *b = calloc(N, sizeof *b);
	int cancelled = 0, read = 0;

	for (unsigned i = 0; i < N; i++)
		io_read(w->io, &b[i].op, w->file, w->mem + i * 4096, 4096, (uint64_t)i * 4096,
			box_done);
	for (unsigned i = 0; i < N; i += 2) {
		io_cancel(w->io, &b[i].op);
		io_cancel(w->io, &b[i].op); /* twice is once */
	}
	for (unsigned i = 0; i < N; i++)
		turn_until(w->io, b[i].lasts > 0);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(b[i].lasts, 1);
		assert_int_equal(b[i].calls, 1);
		if (b[i].res == -ECANCELED)
			cancelled++;
		else if (b[i].res == 4096)
			read++;
		if (i % 2 == 1)
			assert_int_equal(b[i].res, 4096);
	}
	assert_int_equal(cancelled + read, N);
	assert_true(cancelled > 0); /* at least those that waited inside the engine */
	for (unsigned i = 0; i < N; i++)
		io_cancel(w->io, &b[i].op); /* idle: nothing happens */
	free(b);
}

/* done() may submit the same op again, or another one. */
struct again {
	struct io_op op;
	struct world *w;
	int left;
};

static void again_done(struct io_op *op)
{
	struct again *a = container_of(op, struct again, op);

	assert_int_equal(op->res, 4096);
	if (--a->left > 0)
		io_read(a->w->io, op, a->w->file, a->w->mem, 4096, 0, again_done);
}

static void resubmit_from_done(void **state)
{
	struct world *w = *state;
	struct again a = {.w = w, .left = 100};

	io_read(w->io, &a.op, w->file, w->mem, 4096, 0, again_done);
	turn_until(w->io, a.left == 0);
}

static int workers(void)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	int n = 0;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		char path[300], name[32] = "";
		FILE *f;

		snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
		f = fopen(path, "re");
		if (f == NULL)
			continue;
		if (fgets(name, sizeof name, f) != NULL && strncmp(name, "iou-wrk", 7) == 0)
			n++;
		fclose(f);
	}
	closedir(d);
	return n;
}

/* Reads and writes of a preallocated file must not fall back to the kernel's worker threads. */
static void no_workers(void **state)
{
	struct world *w = *state;
	struct box b[32] = {0};
	int seen = 0;

	if (!w->file->info.direct)
		skip();
	for (int round = 0; round < 16; round++) {
		unsigned off = (unsigned)round * 262144;

		for (unsigned i = 0; i < 32; i++) {
			if ((i + (unsigned)round) % 2 == 0)
				io_write(w->io, &b[i].op, w->file, w->mem + i * 8192, 8192,
					 off + i * 8192, box_done);
			else
				io_read(w->io, &b[i].op, w->file, w->mem + i * 8192, 8192,
					off + i * 8192, box_done);
		}
		for (unsigned i = 0; i < 32; i++)
			turn_until(w->io, b[i].lasts == round + 1);
		seen += workers();
	}
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(b[i].res, 8192);
	assert_int_equal(seen, 0);
}

/* The rough disk was rough, and nobody saw it. */
static void continued(void **state)
{
	struct world *w = *state;

	write_read(state);
	many(state);
	assert_true(counter(&w->io->count.short_reads) > 0);
	assert_true(counter(&w->io->count.short_writes) > 0);
	assert_true(counter(&w->io->count.retries) > 0);
	assert_int_equal(counter(&w->io->count.file_errors), 0);
}

#define on_ring(f)     cmocka_unit_test_setup_teardown(f, setup_uring, teardown)
#define on_libevent(f) cmocka_unit_test_setup_teardown(f, setup_libevent, teardown)
#define on_pool(f)     cmocka_unit_test_setup_teardown(f, setup_pool, teardown)
#define on_sim(f)      cmocka_unit_test_setup_teardown(f, setup_sim, teardown)
#define on_rough(f)    cmocka_unit_test_setup_teardown(f, setup_sim_rough, teardown)
#define on_all(f)      on_ring(f), on_libevent(f), on_pool(f), on_sim(f), on_rough(f)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    on_ring(no_workers), /* first: a worker lives on for seconds */
	    on_all(write_read),    on_all(write_beside_reads), on_all(unregistered_memory),
	    on_all(bad_alignment), on_all(past_the_end),       on_all(discard_on_a_file),
	    on_all(many),          on_all(cancel_disk),        on_all(resubmit_from_done),
	    on_rough(continued),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
