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
#include "base/xxh.h"
#include "tests/fuzz/store_machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* A template: the pages of a store that was filled and closed, and one that was left unsealed. */
static struct page *pages;
static size_t npages;
static uint8_t id[16];

static void template_make(void)
{
	struct machine m = {0};

	shm_folder();
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
	pages = disk_pages(&m, &npages);
	machine_close(&m);
	sim_env_free(&m.env);
}

/* Makes the sums of a page right, whatever it seems to be; so that the checks behind them are met.
 */
static void seal(uint8_t *page, bool alone)
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
		if (f->entries <= (alone ? 0 : 40))
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
			seal(mem, true);
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
		seal(two + PAGE, false);
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
	disk_make(&m, pages, npages);
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
