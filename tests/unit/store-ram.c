/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RAM tier: classes, life of a buf, replacing, eviction, budget, change of class, resizing; and
 * all of it at once by several threads that check every byte they see.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "valcached/store/format.h"
#include "valcached/store/ram.h"

#define MIB (1ull << 20)

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 31)) * 0x7fb5d329728ea185ull;
	x = (x ^ (x >> 27)) * 0x81dadef4bc2dd44dull;
	return x ^ (x >> 33);
}

static struct ram *open_ram(uint64_t ram_bytes, uint64_t buffer_bytes, uint64_t max)
{
	struct ram_config cfg = {ram_bytes, buffer_bytes, max};
	struct ram *r = NULL;
	char *cause = NULL;

	assert_int_equal(ram_open(&cfg, &r, &cause), 0);
	assert_non_null(r);
	return r;
}

static unsigned key_text(uint64_t k, char *key)
{
	return (unsigned)snprintf(key, 32, "key-%llu", (unsigned long long)k);
}

/* A record of this key whose every 64-bit word tells the key and its place. */
static void fill(struct buf *b, uint64_t k, uint32_t len)
{
	struct format_record h;
	char key[32];
	unsigned n = key_text(k, key);

	memset(&h, 0, sizeof h);
	h.magic = FORMAT_RECORD_MAGIC;
	h.type = FORMAT_VALUE;
	h.key_len = (uint8_t)n;
	h.value_len = len;
	h.value_off = 128;
	b->rec_off = 0;
	memcpy(b->mem, &h, sizeof h);
	memcpy(b->mem + sizeof h, key, n);
	for (uint32_t i = 128; i + 8 <= len; i += 8) {
		uint64_t w = mix(k * 0x10001 + i);

		memcpy(b->mem + i, &w, 8);
	}
	b->hash = mix(k);
	b->loc = k + 1;
}

static int intact(const struct buf *b, uint64_t k)
{
	struct format_record h;

	memcpy(&h, b->mem + b->rec_off, sizeof h);
	if (h.magic != FORMAT_RECORD_MAGIC || b->hash != mix(k))
		return 0;
	for (uint32_t i = 128; i + 8 <= h.value_len; i += 8) {
		uint64_t w = mix(k * 0x10001 + i);

		if (memcmp(b->mem + b->rec_off + i, &w, 8) != 0)
			return 0;
	}
	return 1;
}

static struct buf *lookup(struct ram *r, uint64_t k)
{
	char key[32];
	unsigned n = key_text(k, key);
	bool touched;

	return ram_lookup(r, mix(k), key, n, &touched);
}

static bool has(struct ram *r, uint64_t k)
{
	char key[32];
	unsigned n = key_text(k, key);

	return ram_has(r, mix(k), key, n);
}

static bool take_out(struct ram *r, uint64_t k)
{
	char key[32];
	unsigned n = key_text(k, key);

	return ram_remove(r, mix(k), key, n);
}

static void add(struct ram *r, uint64_t k, uint32_t size)
{
	struct buf *b = ram_alloc(r, size);

	assert_non_null(b);
	assert_true(b->size >= size);
	fill(b, k, size);
	ram_insert(r, b);
	buf_put(r, b);
}

static struct ram_stats stats(struct ram *r)
{
	struct ram_stats st;

	ram_stats(r, &st);
	assert_true(st.resident_bytes <= st.limit_bytes || st.resident_items == 0);
	return st;
}

static void assert_all_free(struct ram *r)
{
	struct ram_class_stats cs[128];
	struct ram_stats st;
	unsigned n;

	ram_clear(r);
	st = stats(r);
	assert_int_equal(st.resident_items, 0);
	assert_int_equal(st.pinned_bytes, 0);
	assert_int_equal(st.free_chunks * RAM_CHUNK, st.arena_bytes);
	n = ram_class_stats(r, cs, 128);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(cs[i].chunks, 0);
		assert_int_equal(cs[i].resident, 0);
		assert_int_equal(cs[i].pinned, 0);
	}
}

static void classes(void **state)
{
	uint32_t last = 0;

	(void)state;
	for (uint32_t size = 1; size <= RAM_OBJECT_MAX; size += size < 8192 ? 1 : 509) {
		uint32_t c = ram_class_size(size);
		uint32_t fit = RAM_CHUNK / size;

		assert_true(c >= size);
		assert_true(c >= last);
		assert_int_equal(c % 512, 0);
		if (c > 32768)
			assert_int_equal(c % 4096, 0);
		if (size <= 4096)
			assert_true(c - size < 512);
		else if (fit > 16)
			assert_true((uint64_t)c * 8 <= (uint64_t)size * 9 + 4096);
		else /* as many a chunk as could be, or one less at most by the step of 1/8 */
			assert_true(RAM_CHUNK / c + 2 >= fit);
		last = c;
	}
	assert_true(ram_class_size(RAM_OBJECT_MAX) >= RAM_OBJECT_MAX);
	assert_int_equal(ram_class_size(0), 512);
}

static void memory_is_disjoint_and_aligned(void **state)
{
	static const uint32_t sizes[] = {1, 512, 4096, 5000, 33000, 41000, 300000, RAM_OBJECT_MAX};
	struct ram *r = open_ram(0, 32 * MIB, 0);

	(void)state;
	for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
		static struct buf *all[70000];
		size_t n = 0;
		uint8_t *base;
		size_t len;
		void *p;

		ram_arena(r, &p, &len);
		base = p;
		assert_int_equal(len, 32 * MIB);
		while ((all[n] = ram_alloc(r, sizes[s])) != NULL) {
			struct buf *b = all[n++];

			assert_true(b->mem >= base && b->mem + b->size <= base + len);
			assert_int_equal((uintptr_t)b->mem % (b->size % 4096 == 0 ? 4096 : 512), 0);
			memset(b->mem, (int)(n & 255), sizes[s]);
		}
		assert_int_equal(n, 16 * (RAM_CHUNK / ram_class_size(sizes[s])));
		assert_int_equal(stats(r).pinned_bytes, n * ram_class_size(sizes[s]));
		for (size_t i = 0; i < n; i++) {
			for (uint32_t k = 0; k < sizes[s]; k += 97)
				assert_int_equal(all[i]->mem[k], (i + 1) & 255);
			buf_put(r, all[i]);
		}
		assert_int_equal(stats(r).pinned_bytes, 0);
		assert_int_equal(stats(r).free_chunks, 16);
	}
	assert_int_equal(stats(r).alloc_failures, sizeof sizes / sizeof sizes[0]);
	ram_close(&r);
	assert_null(r);
}

static void life_of_a_buf(void **state)
{
	struct ram *r = open_ram(8 * MIB, 4 * MIB, 0);
	struct buf *b, *c;
	char key[32];
	unsigned n = key_text(7, key);
	bool touched;

	(void)state;
	assert_null(lookup(r, 7));
	b = ram_alloc(r, 5000);
	fill(b, 7, 5000);
	assert_false(has(r, 7));
	ram_insert(r, b);
	buf_put(r, b);
	assert_true(has(r, 7));
	for (int i = 0; i < 5; i++) {
		c = ram_lookup(r, mix(7), key, n, &touched);
		assert_ptr_equal(c, b);
		assert_int_equal(touched, i < 3);
		assert_int_equal(c->freq, i < 3 ? i + 1 : 3);
		assert_true(intact(c, 7));
		buf_put(r, c);
	}
	/* Same hash, another key: not found; same key, another hash: neither. */
	assert_null(ram_lookup(r, mix(7), "key-8", 5, &touched));
	assert_null(ram_lookup(r, mix(8), key, n, &touched));
	assert_null(ram_lookup(r, mix(7), key, n - 1, &touched));

	ram_relocate(r, mix(7), 99, 100);
	assert_int_equal(b->loc, 8);
	ram_relocate(r, mix(7), 8, 100);
	assert_int_equal(b->loc, 100);

	/* Removed while held: gone for others, whole for the holder. */
	c = lookup(r, 7);
	assert_true(take_out(r, 7));
	assert_false(take_out(r, 7));
	assert_null(lookup(r, 7));
	assert_int_equal(stats(r).resident_items, 0);
	assert_int_equal(stats(r).pinned_bytes, b->size);
	assert_true(intact(c, 7));
	buf_put(r, c);
	assert_int_equal(stats(r).pinned_bytes, 0);
	assert_all_free(r);
	ram_close(&r);
}

static void insert_replaces(void **state)
{
	struct ram *r = open_ram(8 * MIB, 4 * MIB, 0);
	struct buf *held;

	(void)state;
	add(r, 1, 1000);
	held = lookup(r, 1);
	add(r, 1, 60000);
	assert_int_equal(stats(r).resident_items, 1);
	assert_true(intact(held, 1));
	assert_int_equal(held->size, 1024);
	buf_put(r, held);
	held = lookup(r, 1);
	assert_int_equal(held->size, ram_class_size(60000));
	buf_put(r, held);
	assert_all_free(r);
	ram_close(&r);
}

/* One hash for many keys: they fill one line and its overflow, whatever the table's size. */
static void equal_hashes(void **state)
{
	struct ram *r = open_ram(8 * MIB, 4 * MIB, 0);
	bool touched;
	char key[32];

	(void)state;
	for (uint64_t k = 0; k < 40; k++) {
		struct buf *b = ram_alloc(r, 600);

		fill(b, k, 600);
		b->hash = 42;
		ram_insert(r, b);
		buf_put(r, b);
	}
	for (uint64_t k = 0; k < 1000; k++) /* the table grows */
		add(r, 1000 + k, 600);
	for (uint64_t k = 0; k < 40; k += 2)
		assert_true(ram_remove(r, 42, key, key_text(k, key)));
	for (uint64_t k = 0; k < 40; k++) {
		unsigned n = key_text(k, key);
		struct buf *b = ram_lookup(r, 42, key, n, &touched);

		assert_int_equal(b != NULL, k % 2);
		if (b != NULL)
			buf_put(r, b);
	}
	for (uint64_t k = 0; k < 1000; k++)
		assert_true(has(r, 1000 + k));
	assert_all_free(r);
	ram_close(&r);
}

static void budget_holds(void **state)
{
	struct ram *r = open_ram(48 * MIB, 16 * MIB, 0);
	struct ram_stats st;

	(void)state;
	for (uint64_t k = 0; k < 9000; k++) {
		add(r, k, (uint32_t)(600 + mix(k) % 60000));
		if (k % 16 == 0)
			stats(r);
	}
	st = stats(r);
	assert_true(st.resident_bytes > 46 * MIB);
	assert_int_equal(st.evicted_small + st.evicted_main + st.resident_items, 9000);
	assert_true(has(r, 8999));
	assert_false(has(r, 0));
	for (uint64_t k = 0; k < 9000; k++) {
		struct buf *b = lookup(r, k);

		if (b != NULL) {
			assert_true(intact(b, k));
			buf_put(r, b);
		}
	}
	/* What cannot be resident is not; its holder keeps it. */
	ram_resize(r, 0);
	assert_int_equal(stats(r).resident_items, 0);
	add(r, 5, 1000);
	assert_false(has(r, 5));
	assert_all_free(r);
	ram_close(&r);
}

/* Residents never keep an in-flight buffer from being had, nor do pins of others of that size. */
static void in_flight_has_its_room(void **state)
{
	struct ram *r = open_ram(16 * MIB, 8 * MIB, 0);
	struct buf *b[64], *big[2048];
	unsigned n = 0;

	(void)state;
	for (uint64_t k = 0; k < 40000; k++)
		add(r, k, 600);
	for (unsigned i = 0; i < 8; i++) { /* 8 MiB of another size, residents stay */
		for (unsigned j = 0; j < 7; j++) {
			b[i * 7 + j] = ram_alloc(r, 128 << 10);
			assert_non_null(b[i * 7 + j]);
		}
	}
	assert_true(stats(r).resident_bytes > 14 * MIB);
	/* More than the buffers: residents give way, until all is pinned. */
	while (n < 2048 && (big[n] = ram_alloc(r, 40 << 10)) != NULL)
		n++;
	assert_true(n > 300);
	assert_int_equal(stats(r).resident_items, 0);
	assert_int_equal(stats(r).free_chunks, 0);
	assert_int_equal(stats(r).alloc_failures, 1);
	buf_put(r, big[--n]);
	big[n] = ram_alloc(r, 40 << 10);
	assert_non_null(big[n++]);
	while (n > 0)
		buf_put(r, big[--n]);
	for (unsigned i = 0; i < 56; i++)
		buf_put(r, b[i]);
	assert_all_free(r);
	ram_close(&r);
}

/* Pinned objects in every chunk: what is left in them can still be had. */
static void pins_in_every_chunk(void **state)
{
	struct ram *r = open_ram(16 * MIB, 4 * MIB, 0);
	struct buf *pin[64], *b;
	unsigned pins = 0;
	uint64_t k = 0;

	(void)state;
	for (; k < 16 * 1024; k++)
		add(r, k, 1000);
	/* Hold one in about each 1000 residents. */
	for (uint64_t i = 0; i < k && pins < 64; i += 500) {
		b = lookup(r, i);
		if (b != NULL)
			pin[pins++] = b;
	}
	for (unsigned i = 0; i < 2000; i++) {
		b = ram_alloc(r, 1000);
		assert_non_null(b);
		fill(b, k, 1000);
		ram_insert(r, b);
		buf_put(r, b);
		k++;
	}
	for (unsigned i = 0; i < pins; i++)
		buf_put(r, pin[i]);
	assert_all_free(r);
	ram_close(&r);
}

/* The size of what is asked for changes, and changes back: each time most of the budget follows. */
static void classes_follow_the_sizes(void **state)
{
	static const uint32_t sizes[] = {2000, 40000, 700, 250000, 9000, 1000000, 2000};
	struct ram *r = open_ram(32 * MIB, 8 * MIB, 0);
	uint64_t k = 0, moves = 0;

	(void)state;
	for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
		struct ram_class_stats cs[128];
		uint64_t of_size = 0, bytes = 0;
		unsigned n;

		/* In between and among each other, a mix: no chunk is of one age. */
		for (uint64_t sum = 0; sum < 80 * MIB; k++) {
			uint32_t size = k % 10 == 0 ? (uint32_t)(mix(k) % 100000 + 600) : sizes[s];

			add(r, k, size);
			sum += size;
		}
		n = ram_class_stats(r, cs, 128);
		for (unsigned i = 0; i < n; i++) {
			bytes += cs[i].resident * cs[i].size;
			if (cs[i].size == ram_class_size(sizes[s]))
				of_size = cs[i].resident * cs[i].size;
		}
		assert_true(bytes > 28 * MIB);
		/* Of 80 MiB most were of this size, unless the tenth of 50,000 bytes outweighs. */
		if (sizes[s] >= 9000)
			assert_true(of_size > bytes / 2);
		assert_true(stats(r).chunk_moves > moves || s == 0);
		moves = stats(r).chunk_moves;
		for (uint64_t i = k - 5; i < k; i++) { /* few: what is touched stays in main */
			struct buf *b = lookup(r, i);

			if (b != NULL) {
				assert_true(intact(b, i));
				buf_put(r, b);
			}
		}
	}
	assert_int_equal(stats(r).alloc_failures, 0);
	assert_all_free(r);
	ram_close(&r);
}

/* A sparse chunk's residents move rather than go. */
static void sparse_chunks_are_joined(void **state)
{
	struct ram *r = open_ram(24 * MIB, 0, 0);
	struct buf *b;
	uint64_t k, n = 0;

	(void)state;
	for (k = 0; k < 19000; k++)
		add(r, k, 1000); /* about 20 of 24 MiB, 10 chunks */
	while (stats(r).free_chunks != 0)
		add(r, k++, 1000);
	assert_int_equal(stats(r).evicted_small + stats(r).evicted_main, 0);
	for (uint64_t i = 0; i < k; i++)
		if (i % 4 != 0)
			assert_true(take_out(r, i)); /* every chunk is three quarters empty */
	assert_int_equal(stats(r).free_chunks, 0);
	for (unsigned i = 0; i < 16; i++) { /* eight chunks of another class */
		b = ram_alloc(r, 1 << 20);
		assert_non_null(b);
		fill(b, 100000 + i, 1 << 20);
		if (i < 8)
			buf_put(r, b);
		else
			ram_insert(r, b), buf_put(r, b);
	}
	assert_int_equal(stats(r).evicted_small + stats(r).evicted_main, 0);
	for (uint64_t i = 0; i < k; i += 4) {
		b = lookup(r, i);
		assert_non_null(b);
		assert_true(intact(b, i));
		n++;
		buf_put(r, b);
	}
	assert_int_equal(stats(r).resident_items, n + 8);
	assert_all_free(r);
	ram_close(&r);
}

static uint64_t resident_pages(struct ram *r, uint64_t bytes)
{
	static unsigned char vec[64 << 10];
	void *base;
	size_t len;
	uint64_t n = 0;

	ram_arena(r, &base, &len);
	assert_int_equal(mincore(base, bytes, vec), 0);
	for (uint64_t i = 0; i < bytes / 4096; i++)
		n += vec[i] & 1;
	return n;
}

/* Pages that are pinned for the kernel's I/O stay the same ones: what was in them is still there. */
static void resize_keeps_pinned_pages(void **state)
{
	struct ram *r = open_ram(32 * MIB, 8 * MIB, 64 * MIB);
	void *base;
	size_t len;

	(void)state;
	ram_arena(r, &base, &len);
	assert_int_equal(len, 40 * MIB);
	ram_arena_pinned(r);
	memset(base, 0x5a, len);
	assert_int_equal(ram_resize(r, 8 * MIB), 0);
	assert_int_equal(ram_resize(r, 64 * MIB), 0);
	for (size_t at = 0; at < len; at += 4096)
		assert_int_equal(((uint8_t *)base)[at], 0x5a);
	for (uint64_t k = 0; k < 3000; k++)
		add(r, k, 40000);
	assert_int_equal(ram_resize(r, 8 * MIB), 0);
	assert_true(resident_pages(r, 72 * MIB) < 44 * MIB / 4096); /* the rest is given back */
	assert_true(resident_pages(r, 72 * MIB) >= 40 * MIB / 4096);
	assert_all_free(r);
	ram_close(&r);
}

static void resize(void **state)
{
	struct ram *r = open_ram(32 * MIB, 8 * MIB, 64 * MIB);
	struct buf *held[8];
	uint64_t k = 0, whole = 0;
	void *base;
	size_t len;

	(void)state;
	assert_int_equal(ram_resize(r, 65 * MIB), -EINVAL);
	for (; k < 800; k++)
		add(r, k, 40000);
	for (uint64_t i = 0; i < 8; i++) {
		held[i] = lookup(r, k - 1 - i * 50);
		assert_non_null(held[i]);
	}
	assert_int_equal(ram_resize(r, 8 * MIB), 0);
	ram_arena(r, &base, &len);
	assert_int_equal(len, 16 * MIB);
	assert_true(stats(r).resident_bytes <= 8 * MIB);
	assert_true(stats(r).resident_bytes > 6 * MIB); /* moved down, not lost */
	assert_int_equal(stats(r).limit_bytes, 8 * MIB);
	/* Held ones above the new end keep their pages; all others are given back. */
	assert_true(resident_pages(r, 40 * MIB) <= 16 * MIB / 4096 + 8 * RAM_CHUNK / 4096);
	for (uint64_t i = 0; i < 8; i++) {
		assert_true(intact(held[i], k - 1 - i * 50));
		buf_put(r, held[i]);
	}
	for (uint64_t i = 0; i < k; i++) {
		struct buf *b = lookup(r, i);

		if (b != NULL) {
			assert_true(intact(b, i));
			assert_true(b->mem + b->size <= (uint8_t *)base + 16 * MIB ||
				    stats(r).arena_bytes == 16 * MIB);
			whole++;
			buf_put(r, b);
		}
	}
	assert_true(whole > 120);
	for (uint64_t i = 0; i < 400; i++)
		add(r, k++, 40000);
	assert_true(stats(r).resident_bytes <= 8 * MIB);
	assert_int_equal(ram_resize(r, 64 * MIB), 0);
	for (uint64_t i = 0; i < 3000; i++)
		add(r, k++, 40000);
	assert_true(stats(r).resident_bytes > 62 * MIB);
	ram_arena(r, &base, &len);
	assert_int_equal(len, 72 * MIB);
	assert_all_free(r);
	ram_close(&r);
}

/* ---- many threads ---------------------------------------- */

#define THREADS 4
#define KEYS    6000
#define STRIPES 64

static struct {
	struct ram *r;
	pthread_mutex_t key[STRIPES]; /* the key's lock of the contract */
	_Atomic uint64_t hits, misses, bad, over, fails, removed;
	_Atomic int stop;
	unsigned ops; /* a worker's; sizes change at each quarter */
} st;

static uint32_t size_of(uint64_t k, unsigned epoch)
{
	static const uint32_t top[] = {3000, 90000, 12000, 300000};

	return (uint32_t)(700 + mix(k + epoch * 77777) % top[epoch % 4]);
}

static void *worker(void *arg)
{
	uint64_t seed = (uint64_t)(uintptr_t)arg;
	struct buf *held[8] = {NULL};
	uint64_t held_key[8] = {0};
	unsigned ops = st.ops;

	for (unsigned i = 0; i < ops; i++) {
		uint64_t x = mix(seed * 1000003 + i), k = mix(x) % KEYS;
		unsigned slot = (unsigned)(x >> 40) % 8;
		struct buf *b;

		if (k > KEYS / 4 && (x >> 50) % 4 != 0)
			k %= KEYS / 4;
		if ((x & 63) == 0) {
			pthread_mutex_lock(&st.key[k % STRIPES]);
			st.removed += take_out(st.r, k);
			pthread_mutex_unlock(&st.key[k % STRIPES]);
			continue;
		}
		b = lookup(st.r, k);
		if (b != NULL) {
			st.hits++;
		} else {
			st.misses++;
			b = ram_alloc(st.r, size_of(k, i / (ops / 4 + 1)));
			if (b == NULL) {
				st.fails++;
				for (unsigned j = 0; j < 8; j++) {
					if (held[j] != NULL)
						buf_put(st.r, held[j]);
					held[j] = NULL;
				}
				continue;
			}
			fill(b, k, size_of(k, i / (ops / 4 + 1)));
			pthread_mutex_lock(&st.key[k % STRIPES]);
			ram_insert(st.r, b);
			pthread_mutex_unlock(&st.key[k % STRIPES]);
			if ((x & 255) == 1)
				ram_relocate(st.r, b->hash, k + 1, k + 1);
		}
		/* Hold it for a while; look at it again before letting go. */
		if (held[slot] != NULL) {
			st.bad += !intact(held[slot], held_key[slot]);
			buf_put(st.r, held[slot]);
		}
		held[slot] = b;
		held_key[slot] = k;
	}
	for (unsigned j = 0; j < 8; j++) {
		if (held[j] != NULL) {
			st.bad += !intact(held[j], held_key[j]);
			buf_put(st.r, held[j]);
		}
	}
	return NULL;
}

static void *watcher(void *arg)
{
	static const uint64_t mib[] = {24, 8, 40, 16, 3, 32};
	bool resizing = arg != NULL;
	struct ram_class_stats cs[128];
	struct ram_stats s;

	for (unsigned i = 0; !st.stop; i++) {
		usleep(2000);
		if (resizing && i % 4 == 0)
			assert_int_equal(ram_resize(st.r, mib[i / 4 % 6] * MIB), 0);
		ram_stats(st.r, &s);
		st.over += s.resident_bytes > s.limit_bytes;
		ram_class_stats(st.r, cs, 128);
		if (i % 64 == 63)
			ram_clear(st.r);
	}
	return NULL;
}

static void storm(bool resizing, unsigned ops)
{
	pthread_t t[THREADS], w;
	struct ram_stats s;

	memset(&st, 0, sizeof st);
	st.r = open_ram(24 * MIB, 32 * MIB, 40 * MIB);
	st.ops = ops;
	for (unsigned i = 0; i < STRIPES; i++)
		pthread_mutex_init(&st.key[i], NULL);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, worker, (void *)(i + 1)), 0);
	assert_int_equal(pthread_create(&w, NULL, watcher, resizing ? &st : NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	st.stop = 1;
	pthread_join(w, NULL);
	s = stats(st.r);
	print_message(
	    "hits %llu misses %llu removed %llu evicted %llu+%llu moves %llu fails %llu\n",
	    (unsigned long long)st.hits, (unsigned long long)st.misses,
	    (unsigned long long)st.removed, (unsigned long long)s.evicted_small,
	    (unsigned long long)s.evicted_main, (unsigned long long)s.chunk_moves,
	    (unsigned long long)st.fails);
	assert_int_equal(st.bad, 0);
	assert_int_equal(st.over, 0);
	assert_true(st.hits > 1000 && st.misses > 1000 && st.removed > 0);
	assert_true(s.evicted_small > 0 && s.evicted_main > 0 && s.chunk_moves > 0);
	assert_all_free(st.r);
	ram_close(&st.r);
}

#ifndef STORM_OPS
#define STORM_OPS 40000
#endif

static void many_threads(void **state)
{
	(void)state;
	storm(false, STORM_OPS);
}

static void many_threads_while_resizing(void **state)
{
	(void)state;
	storm(true, STORM_OPS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(classes),
	    cmocka_unit_test(memory_is_disjoint_and_aligned),
	    cmocka_unit_test(life_of_a_buf),
	    cmocka_unit_test(insert_replaces),
	    cmocka_unit_test(equal_hashes),
	    cmocka_unit_test(budget_holds),
	    cmocka_unit_test(in_flight_has_its_room),
	    cmocka_unit_test(pins_in_every_chunk),
	    cmocka_unit_test(classes_follow_the_sizes),
	    cmocka_unit_test(sparse_chunks_are_joined),
	    cmocka_unit_test(resize),
	    cmocka_unit_test(resize_keeps_pinned_pages),
	    cmocka_unit_test(many_threads),
	    cmocka_unit_test(many_threads_while_resizing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
