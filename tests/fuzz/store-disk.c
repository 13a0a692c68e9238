/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target for what the store reads from disks: the readers of record.c on the bytes as
 * they are, and recovery of a small store into which the bytes have been written, with the
 * checksums made right again if the input says so. Whatever the bytes: no crash, no endless loop,
 * and every value that is served was set under its key.
 *
 * Input: one byte of choice, then patches: 1 byte where (a place worth hurting), 2 bytes offset, 1
 * byte length, bytes.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/xxh.h"
#include "valcached/io/sim.h"
#include "valcached/store/store_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define SIZE  (64ull << 20)
#define PAGE  4096u
#define KEYS  40u
#define TURNS 200000u

struct machine {
	struct sim_env *env;
	struct store *s;
	struct io *io[2];
	struct store_worker *w[2];
};

/* A template: the pages of a store that was filled and closed, and one that was left unsealed. */
static struct page {
	uint64_t off;
	uint8_t mem[PAGE];
} * pages;
static size_t npages;
static uint8_t id[16];
static char shm[128];

static void turn(struct machine *m)
{
	for (unsigned i = 0; i < 2; i++) {
		A(io_turn(m->io[i], 0) >= 0);
		(void)store_worker_turn(m->w[i]);
	}
	if (!sim_env_step(m->env))
		sim_env_advance(m->env, 1000000);
}

static void others(void *arg)
{
	struct machine *m = arg;

	A(io_turn(m->io[0], 0) >= 0);
	(void)store_worker_turn(m->w[0]);
	sim_env_advance(m->env, 5000);
}

static int machine_open(struct machine *m)
{
	struct store_config cfg = {.paths = {"disk"},
				   .npaths = 1,
				   .size = SIZE,
				   .mean_value = 8192,
				   .item_max = 2 << 20,
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

static void machine_close(struct machine *m)
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

static void done(struct store_op *op)
{
	((struct wait *)op->user)->done = true;
}

static void until(struct machine *m, struct wait *w)
{
	for (unsigned k = 0; !w->done; k++) {
		A(k < TURNS);
		turn(m);
	}
}

static uint32_t len_of(unsigned k)
{
	return k == 7 ? (1u << 20) + 9000 : k % 5 == 0 ? 300000 + k : k * 97;
}

static void set(struct machine *m, unsigned k)
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

static void del(struct machine *m, unsigned k)
{
	struct wait w = {.done = false};
	uint8_t key = (uint8_t)('A' + k);

	store_op_init(&w.op, m->w[0], &key, 1, done, &w);
	w.done = store_delete(&w.op);
	until(m, &w);
	store_op_end(&w.op);
}

/* sealed: the input has made sums right, so what it says may be served. */
static void get(struct machine *m, unsigned k, bool sealed)
{
	struct wait w = {.done = false};
	uint8_t key = (uint8_t)('A' + k);

	store_op_init(&w.op, m->w[0], &key, 1, done, &w);
	w.done = store_get(&w.op, false);
	until(m, &w);
	if (w.op.status == STORE_OK) {
		uint32_t at = 0;

		while (w.op.status == STORE_OK) {
			for (uint32_t i = 0; i < w.op.value_n; i++)
				A(sealed || (w.op.flags == k && w.op.value[i] == (uint8_t)k));
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

static void template_make(void)
{
	static const uint8_t zero[PAGE];
	const char *dir = getenv("TEST_SHM");
	struct machine m = {0};

	log_set_level((enum log_level)0);
	snprintf(shm, sizeof shm, "%.100s/fuzz-store-XXXXXX", dir != NULL ? dir : "/dev/shm");
	AN(mkdtemp(shm) != NULL);
	m.env = sim_env_new(1, NULL);
	AZ(machine_open(&m));
	for (unsigned k = 0; k < KEYS; k++)
		set(&m, k);
	for (unsigned k = 0; k < KEYS; k += 6)
		del(&m, k);
	memcpy(id, m.s->id, 16);
	machine_close(&m);
	AZ(machine_open(&m));
	for (unsigned k = KEYS; k < KEYS + 10; k++)
		set(&m, k);
	/* as after a power cut: the last ones are on disk, in an unsealed segment */
	for (unsigned i = 0; i < 5000; i++)
		turn(&m);
	pages = calloc(SIZE / PAGE, sizeof *pages);
	AN(pages != NULL);
	for (uint64_t off = 0; off < SIZE; off += PAGE) {
		sim_disk_peek(m.env, "disk", off, pages[npages].mem, PAGE);
		pages[npages].off = off;
		npages += memcmp(pages[npages].mem, zero, PAGE) != 0;
	}
	machine_close(&m);
	sim_env_free(&m.env);
}

/* Makes the sums of a page right, whatever it seems to be; so that the checks behind them are met.
 */
static void seal(uint8_t *page)
{
	uint64_t seed = record_seed(id), magic;
	uint32_t word;

	memcpy(&magic, page, 8);
	memcpy(&word, page, 4);
	if (magic == FORMAT_SUPER_MAGIC) {
		super_seal((struct format_super *)(void *)page);
	} else if (magic == FORMAT_SEG_MAGIC) {
		segment_seal((struct format_segment *)(void *)page, seed);
	} else if (magic == FORMAT_FOOT_MAGIC) {
		struct format_footer *f = (struct format_footer *)(void *)page;

		/* a footer alone: its table's sum stays wrong unless it was right */
		f->sum = 0;
		if (f->entries <= 40)
			footer_seal(f, (struct format_entry *)(void *)(page - PAGE), seed);
	} else if (word == FORMAT_BLOCK_MAGIC) {
		struct format_record *r = (struct format_record *)(void *)(page + FORMAT_BLOCK);

		block_seal((struct format_block *)(void *)page, seed);
		if (record_head_len(r->key_len, r->value_len % (FORMAT_SEG_MAX + 1)) <
			PAGE - FORMAT_BLOCK &&
		    r->value_len <= FORMAT_SEG_MAX)
			record_seal((uint8_t *)r, seed);
	}
}

static void readers(const uint8_t *data, size_t n)
{
	uint8_t mem[2 * PAGE] __attribute__((aligned(4096))) = {0};
	struct format_record rec;
	uint64_t seed = record_seed(id);

	memcpy(mem, data, n < sizeof mem ? n : sizeof mem);
	for (unsigned round = 0; round < 2; round++) {
		(void)super_good((struct format_super *)(void *)mem);
		(void)segment_good((struct format_segment *)(void *)mem, seed, id, 0);
		(void)block_good((struct format_block *)(void *)mem, seed, 1, 4096, 1 << 22);
		if (footer_good((struct format_footer *)(void *)(mem + PAGE), seed, 1, 1 << 22) &&
		    ((struct format_footer *)(void *)(mem + PAGE))->entries <=
			PAGE / sizeof(struct format_entry))
			(void)table_good((struct format_footer *)(void *)(mem + PAGE),
					 (struct format_entry *)(void *)mem, seed);
		for (uint32_t at = 0; at + 64 < n && at < PAGE; at += FORMAT_UNIT)
			if (record_check(mem + at, sizeof mem - at, seed, 1, at / FORMAT_UNIT,
					 &rec) == RECORD_GOOD) {
				A(rec.key_len <= FORMAT_KEY_MAX && rec.value_len <= FORMAT_SEG_MAX);
				A(record_head_len(rec.key_len, rec.value_len) <= sizeof mem - at);
			}
		if (n >= 4)
			seal(mem);
	}
}

static void patch(struct machine *m, uint64_t at, uint32_t off, const uint8_t *bytes, size_t len,
		  bool sealed)
{
	uint8_t two[2 * PAGE] __attribute__((aligned(4096))) = {0};

	len = len < PAGE - off ? len : PAGE - off;
	sim_disk_peek(m->env, "disk", at, two + PAGE, PAGE);
	if (at >= PAGE)
		sim_disk_peek(m->env, "disk", at - PAGE, two, PAGE);
	memcpy(two + PAGE + off, bytes, len);
	if (sealed)
		seal(two + PAGE);
	sim_disk_poke(m->env, "disk", at, two + PAGE, PAGE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct machine m = {0};
	uint64_t target[64];
	unsigned targets = 0;
	uint8_t choice;

	if (pages == NULL)
		template_make();
	readers(data, n);
	if (n < 5)
		return 0;
	choice = *data++;
	n--;
	m.env = sim_env_new(2, NULL);
	sim_disk_make(m.env, "disk", SIZE);
	for (size_t i = 0; i < npages; i++)
		sim_disk_poke(m.env, "disk", pages[i].off, pages[i].mem, PAGE);
	/* worth hurting: what begins with one of our magics, and the tables */
	for (size_t i = 0; i < npages && targets < 64; i++) {
		uint32_t word;
		uint64_t magic;

		memcpy(&word, pages[i].mem, 4);
		memcpy(&magic, pages[i].mem, 8);
		if (word == FORMAT_BLOCK_MAGIC || magic == FORMAT_SUPER_MAGIC ||
		    magic == FORMAT_SEG_MAGIC || magic == FORMAT_FOOT_MAGIC ||
		    (i + 1 < npages && memcmp(pages[i + 1].mem, "VALCTAB1", 8) == 0))
			target[targets++] = pages[i].off;
	}
	A(targets > 0);
	if (choice & 4) /* short inputs stand for many random patches */
		for (unsigned i = 0; i < 1 + choice / 32u; i++) {
			uint64_t x = XXH3_64bits_withSeed(data, n, i);
			uint8_t bytes[8];

			memcpy(bytes, &x, 8);
			patch(&m, target[(x >> 40) % targets],
			      (uint32_t)(x >> 20) % (x & 64 ? 128 : PAGE), bytes, 1 + (x >> 60) % 8,
			      choice & 1);
		}
	while (n >= 4) {
		uint32_t len = data[3] % 64u;
		const uint8_t *head = data;

		data += 4;
		n -= 4;
		len = len < n ? len : (uint32_t)n;
		patch(&m, target[head[0] % targets], (head[1] | (uint32_t)head[2] << 8) % PAGE,
		      data, len, choice & 1);
		data += len;
		n -= len;
	}
	if (machine_open(&m) == 0) {
		for (unsigned k = 0; k < KEYS + 10; k++)
			get(&m, k, choice & 1);
		set(&m, 3);
		del(&m, 4);
		if (choice & 2)
			for (unsigned i = 0; i < 200; i++)
				turn(&m);
		machine_close(&m);
	}
	sim_env_free(&m.env);
	return 0;
}
