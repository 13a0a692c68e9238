/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RAM tier: a hit that is let go at once (64 keys, in the CPU's cache; and all keys), a miss, a
 * buffer taken and given back, a new record that pushes an old one out; and the ghost list. Beside
 * the hits: a load from a random object's metadata, what a table without locks and keys would cost.
 *
 * MICRO_RAM_MIB (default 256) is the tier's size, in objects of 1000 bytes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "bench/micro/micro.h"
#include "valcached/store/format.h"
#include "base/ghost.h"
#include "valcached/store/ram.h"

#define OBJECT  1000u
#define KEY_LEN 8u

static struct {
	struct ram *r;
	struct ghost *g;
	uint8_t *base;
	size_t len;
	uint64_t items, next;
	unsigned users;
	uint64_t rng;
} B;

static inline uint64_t hash_of(uint64_t x)
{
	x = (x + 1) * 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static inline uint64_t below(uint64_t x, uint64_t n)
{
	return (uint64_t)(((unsigned __int128)x * n) >> 64);
}

static inline uint64_t draw(void)
{
	B.rng = B.rng * 6364136223846793005ull + 1442695040888963407ull;
	return B.rng;
}

static void add(uint64_t k)
{
	struct buf *b = ram_alloc(B.r, OBJECT);
	struct format_record h = {.magic = FORMAT_RECORD_MAGIC, .key_len = KEY_LEN};

	AN(b);
	memcpy(b->mem, &h, sizeof h);
	memcpy(b->mem + sizeof h, &k, KEY_LEN);
	b->hash = hash_of(k);
	b->loc = 1;
	ram_insert(B.r, b);
	buf_put(B.r, b);
}

static int setup(void **state)
{
	const char *env = getenv("MICRO_RAM_MIB");
	uint64_t mib = env != NULL ? strtoull(env, NULL, 10) : 256;
	struct ram_config cfg = {.ram_bytes = mib << 20, .buffer_bytes = 16u << 20};
	struct ram_stats st;
	char *cause = NULL;
	void *base;
	int err;

	*state = &B;
	if (B.users++ > 0)
		return 0;
	err = ram_open(&cfg, &B.r, &cause);
	if (err != 0)
		return err;
	err = ghost_open(1u << 20, &B.g);
	if (err != 0)
		return err;
	B.items = cfg.ram_bytes / 1250;
	for (uint64_t k = 0; k < B.items; k++)
		add(k);
	B.next = B.items;
	ram_stats(B.r, &st);
	AZ(st.evicted_small + st.evicted_main);
	ram_arena(B.r, &base, &B.len);
	B.base = base;
	fprintf(stderr, "ram: %llu objects, %llu MiB with overhead\n",
		(unsigned long long)st.resident_items, (unsigned long long)st.resident_bytes >> 20);
	return 0;
}

static void teardown(void *state)
{
	(void)state;
	if (--B.users > 0)
		return;
	ram_close(&B.r);
	ghost_close(&B.g);
}

static inline uint64_t hits(uint64_t n, uint64_t keys)
{
	uint64_t sum = 0;
	bool touched;

	while (n-- > 0) {
		uint64_t k = below(draw(), keys);
		struct buf *b = ram_lookup(B.r, hash_of(k), &k, KEY_LEN, &touched);

		if (b == NULL)
			continue;
		sum += b->size;
		buf_put(B.r, b);
	}
	return sum;
}

static uint64_t hit_hot(void *state, uint64_t n)
{
	(void)state;
	return hits(n, 64);
}

static uint64_t hit_all(void *state, uint64_t n)
{
	(void)state;
	return hits(n, B.items);
}

/* Eight requests of a pipeline: lines are prefetched, then looked up. */
static uint64_t hit_batch(void *state, uint64_t n)
{
	uint64_t sum = 0;
	bool touched;

	(void)state;
	for (; n >= 8; n -= 8) {
		uint64_t k[8];

		for (unsigned i = 0; i < 8; i++) {
			k[i] = below(draw(), B.items);
			ram_prefetch(B.r, hash_of(k[i]), 0);
		}
		for (unsigned i = 0; i < 8; i++) {
			struct buf *b = ram_lookup(B.r, hash_of(k[i]), &k[i], KEY_LEN, &touched);

			if (b == NULL)
				continue;
			sum += b->size;
			buf_put(B.r, b);
		}
	}
	return sum;
}

static uint64_t load(void *state, uint64_t n)
{
	uint64_t sum = 0;

	(void)state;
	while (n-- > 0) {
		uint64_t at = below(hash_of(draw() ^ (sum & 1)), B.items) * 1024;

		sum += *(const volatile uint8_t *)(B.base + at + 5);
	}
	return sum;
}

static uint64_t miss(void *state, uint64_t n)
{
	uint64_t sum = 0;
	bool touched;

	(void)state;
	while (n-- > 0) {
		uint64_t k = draw() | 1ull << 63;

		sum += ram_lookup(B.r, hash_of(k), &k, KEY_LEN, &touched) == NULL;
	}
	return sum;
}

static uint64_t alloc_put(void *state, uint64_t n)
{
	uint64_t sum = 0;

	(void)state;
	while (n-- > 0) {
		struct buf *b = ram_alloc(B.r, 40000);

		sum += b->size;
		buf_put(B.r, b);
	}
	return sum;
}

/* Comes last: it replaces all keys. */
static uint64_t insert_evict(void *state, uint64_t n)
{
	(void)state;
	while (n-- > 0)
		add(B.next++);
	return B.next;
}

static uint64_t ghost_cycle(void *state, uint64_t n)
{
	uint64_t sum = 0;

	(void)state;
	while (n-- > 0) {
		uint64_t h = hash_of(below(draw(), 1u << 21));

		if (ghost_take(B.g, h))
			sum++;
		else
			ghost_add(B.g, h);
	}
	return sum;
}

static const struct micro table[] = {
    {.name = "ram/load", .batch = 4096, .setup = setup, .run = load, .teardown = teardown},
    {.name = "ram/hit_hot", .batch = 4096, .setup = setup, .run = hit_hot, .teardown = teardown},
    {.name = "ram/hit_all",
     .peer = "ram/load",
     .batch = 4096,
     .setup = setup,
     .run = hit_all,
     .teardown = teardown},
    {.name = "ram/hit_batch",
     .peer = "ram/load",
     .batch = 4096,
     .setup = setup,
     .run = hit_batch,
     .teardown = teardown},
    {.name = "ram/miss",
     .peer = "ram/load",
     .batch = 4096,
     .setup = setup,
     .run = miss,
     .teardown = teardown},
    {.name = "ram/alloc_put",
     .batch = 4096,
     .setup = setup,
     .run = alloc_put,
     .teardown = teardown},
    {.name = "ram/ghost", .batch = 4096, .setup = setup, .run = ghost_cycle, .teardown = teardown},
    {.name = "ram/insert_evict",
     .batch = 4096,
     .setup = setup,
     .run = insert_evict,
     .teardown = teardown},
};
MICRO_TABLE(table)
