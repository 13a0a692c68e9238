/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object cache: a hit whose reference is given back at once, with and without io-stats, and a
 * new object that pushes an old one out. Beside the hits two bounds: bare loads from the cache's own
 * memory, of a word of the bucket of an id's hash, and then of a line among the entries; and a load
 * from a random object's line through a dense table of pointers, what a cache without keys, references
 * and recency would cost. In all of them the next key depends on what was read, as in a walk from
 * node to node.
 *
 * MICRO_OCACHE_OBJECTS (default 20000) is how many objects there are.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "bench/micro/micro.h"
#include "ocache/cache_int.h"

#define OBJECT 40000u /* bytes, as the cache is told; of the object nothing is read */

struct line {
	_Alignas(64) struct seg_id id;
	uint64_t size;
};

static struct {
	struct ocache *cache, *full; /* the rounds are mixed: what evicts has a cache of its own */
	struct iostats *io;
	struct entry **entries; /* of the cache's, in an order of its own */
	struct line *lines;
	struct line **table;
	uint64_t objects, next, rng;
	unsigned users;
} B;

static void destroy(void *ctx, void *object)
{
	(void)ctx;
	(void)object;
}

static const struct ocache_decoder decoder = {.destroy = destroy};

static inline struct seg_id id_of(uint64_t key)
{
	uint64_t x = (key + 1) * 0x9e3779b97f4a7c15ull;

	return (struct seg_id){x ^ x >> 30, (x * 0xbf58476d1ce4e5b9ull) | 1ull << 63};
}

static inline uint64_t draw(void)
{
	B.rng = B.rng * 6364136223846793005ull + 1442695040888963407ull;
	return (uint64_t)(((unsigned __int128)B.rng * B.objects) >> 64);
}

static void add(struct ocache *c, uint64_t key)
{
	(void)ocache_add(c, id_of(key), &decoder, &B, OBJECT, NULL);
}

static void note_entry(void *ctx, const struct entry *e)
{
	uint64_t *n = ctx;

	if (*n < B.objects)
		B.entries[(*n)++] = (struct entry *)(uintptr_t)e;
}

/* The entries, for bare loads: there are as many as objects. */
static int find_entries(void)
{
	uint64_t n = 0;

	B.entries = malloc(B.objects * sizeof(struct entry *));
	if (B.entries == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < B.cache->shards; i++) {
		struct shard_walk walk = {0};

		while (shard_walk(&B.cache->shard[i], &walk, 4096, note_entry, &n))
			;
	}
	A(n == B.objects);
	return 0;
}

static int setup(void **state)
{
	const char *env = getenv("MICRO_OCACHE_OBJECTS");
	struct ocache_config cfg = {.struct_size = sizeof cfg};
	struct ocache_stats st;
	int err;

	*state = &B;
	if (B.users++ > 0)
		return 0;
	B.objects = env != NULL ? strtoull(env, NULL, 10) : 20000;
	/* shards have not all as many */
	cfg.budget = B.objects * (OBJECT + 200) / 16 * 17 + (16u << 20);
	err = ocache_open(&cfg, &B.cache, NULL);
	if (err == 0)
		err = ocache_open(&cfg, &B.full, NULL);
	if (err != 0)
		return err;
	B.io = iostats_begin("query", NULL, NULL);
	B.lines = aligned_alloc(64, B.objects * sizeof *B.lines);
	B.table = malloc(B.objects * sizeof(struct line *));
	if (B.io == NULL || B.lines == NULL || B.table == NULL)
		return -ENOMEM;
	for (uint64_t k = 0; k < B.objects; k++) {
		add(B.cache, k);
		add(B.full, k);
		B.lines[k] = (struct line){id_of(k), OBJECT};
	}
	/* in another order than their pointers */
	for (uint64_t k = 0; k < B.objects; k++)
		B.table[k] = &B.lines[k];
	for (uint64_t k = B.objects; k-- > 1;) {
		uint64_t j = draw() % (k + 1);
		struct line *l = B.table[k];

		B.table[k] = B.table[j];
		B.table[j] = l;
	}
	B.next = B.objects;
	ocache_stats(B.cache, &st, sizeof st);
	A(st.objects_now == B.objects);
	return find_entries();
}

static void teardown(void *state)
{
	(void)state;
	if (--B.users > 0)
		return;
	AZ(ocache_close(&B.cache));
	AZ(ocache_close(&B.full));
	iostats_drop(B.io);
	free(B.entries);
	free(B.lines);
	free(B.table);
}

/* What a hit has to wait for in any case: the line of its bucket, then that of an entry. */
static uint64_t load(void *state, uint64_t n)
{
	const struct ocache *c = B.cache;
	uint64_t sum = 0;

	(void)state;
	while (n-- > 0) {
		uint64_t key = draw(), hash = table_hash(c->seed, id_of(key)), root, word;
		const struct entry *e;

		root =
		    atomic_load_explicit(&ocache__shard(c, hash)->table.root, memory_order_relaxed);
		word = atomic_load_explicit(&table_bucket(root, hash & table_mask(root))->slot[0],
					    memory_order_relaxed);
		e = B.entries[key] + (word & 63); /* 0, after the word has come */
		sum += e->id.lo & 1;
		B.rng += e->size - OBJECT; /* nothing, but who knows */
	}
	return sum;
}

static uint64_t pointer(void *state, uint64_t n)
{
	uint64_t sum = 0;

	(void)state;
	while (n-- > 0) {
		const struct line *l = B.table[draw()];

		sum += l->id.lo & 1;
		B.rng += l->size - OBJECT;
	}
	return sum;
}

static inline uint64_t hits(uint64_t n, struct iostats *io)
{
	static const struct ocache_hint hint = {.sort = IOSTATS_EAVT};
	uint64_t sum = 0;

	while (n-- > 0) {
		struct ocache_ref ref;

		if (ocache_get(B.cache, id_of(draw()), &hint, io, &ref) != 0)
			continue;
		sum += (uintptr_t)ref.object & 1;
		B.rng += ref.size - OBJECT;
		ocache_release(&ref);
	}
	return sum;
}

static uint64_t hit(void *state, uint64_t n)
{
	(void)state;
	return hits(n, NULL);
}

static uint64_t hit_iostats(void *state, uint64_t n)
{
	(void)state;
	return hits(n, B.io);
}

static uint64_t add_evict(void *state, uint64_t n)
{
	(void)state;
	for (uint64_t i = 0; i < n; i++)
		add(B.full, B.next++);
	return B.next;
}

static const struct micro table[] = {
    {.name = "ocache/load", .batch = 4096, .setup = setup, .run = load, .teardown = teardown},
    {.name = "ocache/pointer", .batch = 4096, .setup = setup, .run = pointer, .teardown = teardown},
    {.name = "ocache/hit",
     .peer = "ocache/load",
     .batch = 4096,
     .setup = setup,
     .run = hit,
     .teardown = teardown},
    {.name = "ocache/hit_iostats",
     .peer = "ocache/load",
     .batch = 4096,
     .setup = setup,
     .run = hit_iostats,
     .teardown = teardown},
    {.name = "ocache/add_evict",
     .batch = 4096,
     .setup = setup,
     .run = add_evict,
     .teardown = teardown},
};
MICRO_TABLE(table)
