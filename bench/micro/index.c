/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Index lookups beside the least they could cost: a bare load from a random line of the same
 * mapping. Alone, each address depends on the value loaded before, so latencies add up; in batches,
 * addresses are known ahead and lines are prefetched a batch ahead. "many" is index_find_many in
 * calls of 512 keys, "some" in calls of 32, "batch" the same by hand with index_prefetch.
 *
 * MICRO_INDEX_ITEMS (default 50,000,000) is the number of items; MICRO_INDEX_HUGE=0 leaves the
 * mapping on small pages.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "bench/micro/micro.h"
#include "valcached/store/index.h"

#define BATCH 32u
#define MANY  512u
#define SOME  32u

static struct {
	struct index *ix;
	char *mem;
	size_t bytes;
	uint64_t items;
	uint64_t lines;
	unsigned users;
	uint64_t rng; /* where the walks are: every round sees new keys */
} B;

/* Key number to hash, as a good hash function would give it (splitmix64's finalizer). */
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

static inline uint64_t next(uint64_t *x)
{
	*x = *x * 6364136223846793005ull + 1442695040888963407ull;
	return *x;
}

static int setup(void **state)
{
	const char *env = getenv("MICRO_INDEX_ITEMS"), *huge = getenv("MICRO_INDEX_HUGE");
	struct index_ref victim;
	struct index_stats st;
	uint64_t i;
	int err;

	*state = &B;
	if (B.users++ > 0)
		return 0;
	B.items = env != NULL ? strtoull(env, NULL, 10) : 50000000;
	B.bytes = index_bytes(B.items);
	B.mem = mmap(NULL, B.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (B.mem == MAP_FAILED)
		return -errno;
	if (huge == NULL || *huge != '0')
		(void)madvise(B.mem, B.bytes, MADV_HUGEPAGE); /* slower without, no more */
	err = index_open(B.mem, B.bytes, false, NULL, &B.ix);
	if (err != 0)
		return err;
	for (i = 0; i < B.items; i++)
		index_insert(B.ix, hash_of(i), i + 1, 80, 0, &victim);
	index_stats(B.ix, &st);
	B.lines = st.capacity / INDEX_SLOTS;
	fprintf(stderr, "index: %llu items, %.2f bytes an item, load %.1f %%\n",
		(unsigned long long)st.items, (double)B.bytes / (double)B.items,
		100.0 * (double)st.items / (double)st.capacity);
	return 0;
}

static void teardown(void *state)
{
	(void)state;
	if (--B.users > 0)
		return;
	index_close(&B.ix);
	munmap(B.mem, B.bytes);
}

/* A word of the line of this number; the first 4 KiB are the header. */
static inline const uint64_t *line_at(uint64_t n)
{
	return (const uint64_t *)(const void *)(B.mem + 4096 + n * 64);
}

static uint64_t load_single(void *state, uint64_t n)
{
	uint64_t x = B.rng, v = 0;

	(void)state;
	while (n-- > 0)
		v = *(const volatile uint64_t *)line_at(
		    below(hash_of(next(&x) ^ (v & 1)), B.lines));
	B.rng = x;
	return v;
}

static uint64_t load_batch(void *state, uint64_t n)
{
	uint64_t x = B.rng, sum = 0, at[2][BATCH], i, k = 0;

	(void)state;
	for (i = 0; i < BATCH; i++) {
		at[0][i] = below(hash_of(next(&x)), B.lines);
		__builtin_prefetch(line_at(at[0][i]));
	}
	for (; n >= BATCH; n -= BATCH, k = !k)
		for (i = 0; i < BATCH; i++) {
			at[!k][i] = below(hash_of(next(&x)), B.lines);
			__builtin_prefetch(line_at(at[!k][i]));
			sum += *(const volatile uint64_t *)line_at(at[k][i]);
		}
	B.rng = x;
	return sum;
}

/* Keys that are there are [0, items); others are above. */
static inline uint64_t lookup_single(uint64_t n, uint64_t base)
{
	struct index_probe p;
	uint64_t x = B.rng, v = 0;

	while (n-- > 0) {
		index_find(B.ix, hash_of(base + below(next(&x), B.items - 1) + (v & 1)), &p);
		v = p.word1 ^ p.n;
	}
	B.rng = x;
	return v;
}

/* Three stages a batch apart: fetch home, fetch other where needed, look up. */
static inline uint64_t lookup_batch(uint64_t n, uint64_t base)
{
	struct index_probe p;
	uint64_t x = B.rng, sum = 0, at[4 * BATCH], i;

	for (i = 0; i < n + 2 * BATCH; i++) {
		if (i < n) {
			at[i % (4 * BATCH)] = hash_of(base + below(next(&x), B.items));
			index_prefetch(B.ix, at[i % (4 * BATCH)]);
		}
		if (i >= BATCH && i < n + BATCH)
			index_prefetch_other(B.ix, at[(i - BATCH) % (4 * BATCH)]);
		if (i >= 2 * BATCH) {
			index_find(B.ix, at[(i - 2 * BATCH) % (4 * BATCH)], &p);
			sum += p.n;
		}
	}
	B.rng = x;
	return sum;
}

/* Calls of up to MANY keys. */
static inline uint64_t lookup_many(uint64_t n, uint64_t base, unsigned many)
{
	uint64_t x = B.rng, sum = 0, hash[MANY], found[MANY];
	unsigned i, m;

	for (; n > 0; n -= m) {
		m = n < many ? (unsigned)n : many;
		for (i = 0; i < m; i++)
			hash[i] = hash_of(base + below(next(&x), B.items));
		index_find_many(B.ix, hash, m, found);
		for (i = 0; i < m; i++)
			sum += index_found_ref(found[i]).units;
	}
	B.rng = x;
	return sum;
}

/* The bare loads of a call: hashes in, a word of each line out. */
static uint64_t load_many(void *state, uint64_t n)
{
	uint64_t x = B.rng, sum = 0, hash[MANY + BATCH / 2], found[MANY];
	unsigned i, m;

	(void)state;
	for (i = 0; i < BATCH / 2; i++)
		hash[MANY + i] = 0;
	for (; n > 0; n -= m) {
		m = n < MANY ? (unsigned)n : MANY;
		for (i = 0; i < m; i++)
			hash[i] = hash_of(below(next(&x), B.items));
		for (i = 0; i < BATCH / 2; i++)
			__builtin_prefetch(line_at(below(hash[i], B.lines)));
		for (i = 0; i < m; i++) {
			__builtin_prefetch(line_at(below(hash[i + BATCH / 2], B.lines)));
			found[i] = *(const volatile uint64_t *)line_at(below(hash[i], B.lines));
		}
		for (i = 0; i < m; i++)
			sum += index_found_ref(found[i]).units;
	}
	B.rng = x;
	return sum;
}

static uint64_t hit_many(void *state, uint64_t n)
{
	(void)state;
	return lookup_many(n, 0, MANY);
}

static uint64_t miss_many(void *state, uint64_t n)
{
	(void)state;
	return lookup_many(n, 1ull << 40, MANY);
}

static uint64_t hit_some(void *state, uint64_t n)
{
	(void)state;
	return lookup_many(n, 0, SOME);
}

static uint64_t hit_single(void *state, uint64_t n)
{
	(void)state;
	return lookup_single(n, 0);
}

static uint64_t miss_single(void *state, uint64_t n)
{
	(void)state;
	return lookup_single(n, 1ull << 40);
}

static uint64_t hit_batch(void *state, uint64_t n)
{
	(void)state;
	return lookup_batch(n, 0);
}

static uint64_t miss_batch(void *state, uint64_t n)
{
	(void)state;
	return lookup_batch(n, 1ull << 40);
}

static const struct micro table[] = {
    {"index/load", NULL, 0, 4096, 0, setup, load_single, teardown},
    {"index/hit", "index/load", 1.3, 4096, 0, setup, hit_single, teardown},
    {"index/miss", "index/load", 1.3, 4096, 0, setup, miss_single, teardown},
    {"index/load-batch", NULL, 0, 4096, 0, setup, load_batch, teardown},
    {"index/load-many", NULL, 0, 4096, 0, setup, load_many, teardown},
    {"index/hit-many", "index/load-many", 1.3, 4096, 0, setup, hit_many, teardown},
    {"index/miss-many", "index/load-many", 1.3, 4096, 0, setup, miss_many, teardown},
    {"index/hit-some", "index/load-batch", 0, 4096, 0, setup, hit_some, teardown},
    {"index/hit-batch", "index/load-batch", 0, 4096, 0, setup, hit_batch, teardown},
    {"index/miss-batch", "index/load-batch", 0, 4096, 0, setup, miss_batch, teardown},
};
MICRO_TABLE(table)
