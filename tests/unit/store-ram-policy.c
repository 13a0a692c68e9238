/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RAM tier's hit ratio beside exact LRU of the same bytes, on seeded traces: Zipf, Zipf with
 * scans, a working set that moves. LRU is a model that pays for records alone, rounded up to 512
 * bytes; the tier pays for classes, metadata, table and ghost list out of the same budget.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "valcached/store/format.h"
#include "valcached/store/ram.h"

#define MIB      (1ull << 20)
#define KEYS     40000u
#define SCANNED  400000u /* keys of scans: KEYS .. KEYS + SCANNED - 1 */
#define ALL      (KEYS + SCANNED)
#define REQUESTS 900000u

static double cum[KEYS];
static uint64_t rng;

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 31)) * 0x7fb5d329728ea185ull;
	x = (x ^ (x >> 27)) * 0x81dadef4bc2dd44dull;
	return x ^ (x >> 33);
}

static uint64_t draw(void)
{
	return mix(++rng * 0x9e3779b97f4a7c15ull);
}

static void zipf_init(double s)
{
	double sum = 0;

	for (unsigned i = 0; i < KEYS; i++)
		cum[i] = sum += pow(i + 1, -s);
}

static uint32_t zipf(void)
{
	double u = (double)(draw() >> 11) / 9007199254740992.0 * cum[KEYS - 1];
	uint32_t lo = 0, hi = KEYS - 1;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (cum[mid] < u)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static uint32_t size_lo, size_hi;

static uint32_t size_of(uint32_t k)
{
	return size_lo + (uint32_t)(mix(k + 12345) % (size_hi - size_lo + 1));
}

/* ---- exact LRU ---------------------------------------- */

static struct {
	uint32_t prev[ALL + 1], next[ALL + 1]; /* [ALL] is the ring's anchor: next is the newest */
	bool in[ALL];
	uint64_t bytes, limit;
} lru;

static void lru_open(uint64_t limit)
{
	memset(&lru, 0, sizeof lru);
	lru.prev[ALL] = lru.next[ALL] = ALL;
	lru.limit = limit;
}

static void lru_out(uint32_t k)
{
	lru.next[lru.prev[k]] = lru.next[k];
	lru.prev[lru.next[k]] = lru.prev[k];
}

static bool lru_get(uint32_t k)
{
	bool hit = lru.in[k];

	if (hit) {
		lru_out(k);
	} else {
		lru.in[k] = true;
		lru.bytes += (size_of(k) + 511) / 512 * 512;
	}
	lru.next[k] = lru.next[ALL];
	lru.prev[k] = ALL;
	lru.prev[lru.next[k]] = k;
	lru.next[ALL] = k;
	while (lru.bytes > lru.limit) {
		uint32_t v = lru.prev[ALL];

		lru_out(v);
		lru.in[v] = false;
		lru.bytes -= (size_of(v) + 511) / 512 * 512;
	}
	return hit;
}

/* ---- the tier ---------------------------------------- */

static bool ram_get(struct ram *r, uint32_t k)
{
	bool touched;
	struct buf *b = ram_lookup(r, mix(k + 1), &k, sizeof k, &touched);
	bool hit = b != NULL;

	if (!hit) {
		struct format_record h = {.magic = FORMAT_RECORD_MAGIC, .key_len = sizeof k};

		b = ram_alloc(r, size_of(k));
		assert_non_null(b);
		memcpy(b->mem, &h, sizeof h);
		memcpy(b->mem + sizeof h, &k, sizeof k);
		b->hash = mix(k + 1);
		b->loc = k;
		ram_insert(r, b);
	}
	buf_put(r, b);
	return hit;
}

enum shape { ZIPF, SCANS, MOVING };

/* Percent of hits in the second half, of both. */
static void compare(const char *name, enum shape shape, double s, uint64_t ram_bytes, uint32_t lo,
		    uint32_t hi, double *tier, double *exact)
{
	struct ram_config cfg = {ram_bytes, 32 * MIB, ram_bytes};
	uint64_t a = 0, b = 0, n = 0, scan = 0;
	struct ram_stats st;
	char *cause = NULL;
	struct ram *r;

	size_lo = lo;
	size_hi = hi;
	rng = 42;
	zipf_init(s);
	assert_int_equal(ram_open(&cfg, &r, &cause), 0);
	lru_open(ram_bytes);
	for (uint32_t i = 0; i < REQUESTS; i++) {
		uint32_t k = zipf();

		if (shape == SCANS && i % 60000 >= 40000)
			k = KEYS + (uint32_t)(scan++ % SCANNED);
		else if (shape == MOVING)
			k = (k + i / 100) % KEYS;
		else
			k = (uint32_t)(k * 7919ull % KEYS);
		if (i < REQUESTS / 2) {
			lru_get(k);
			ram_get(r, k);
			continue;
		}
		a += lru_get(k);
		b += ram_get(r, k);
		n++;
	}
	ram_stats(r, &st);
	*exact = 100.0 * (double)a / (double)n;
	*tier = 100.0 * (double)b / (double)n;
	print_message("%-40s LRU %.2f tier %.2f; full to %.1f %%\n", name, *exact, *tier,
		      100.0 * (double)st.resident_bytes / (double)st.limit_bytes);
	assert_true(st.resident_bytes <= st.limit_bytes);
	ram_close(&r);
}

static void not_below_lru(void **state)
{
	static const struct {
		const char *name;
		enum shape shape;
		double s;
		uint64_t mib;
		uint32_t lo, hi;
	} t[] = {
	    {"zipf 0.9, 3000, 1/4 fits", ZIPF, 0.9, 32, 3000, 3000},
	    {"zipf 0.9, 500-15000, 1/10 fits", ZIPF, 0.9, 32, 500, 15000},
	    {"zipf 0.9, 500-15000, 1/2 fits", ZIPF, 0.9, 150, 500, 15000},
	    {"zipf 0.7, 2000-60000, 1/20 fits", ZIPF, 0.7, 64, 2000, 60000},
	    {"zipf 1.1, 500-15000, 1/10 fits", ZIPF, 1.1, 32, 500, 15000},
	};

	(void)state;
	for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
		double tier, exact;

		compare(t[i].name, t[i].shape, t[i].s, t[i].mib * MIB, t[i].lo, t[i].hi, &tier,
			&exact);
		assert_true(tier >= exact);
	}
}

static void better_than_lru_with_scans(void **state)
{
	double tier, exact;

	(void)state;
	compare("zipf 0.9 and scans, 500-15000, 1/10 fits", SCANS, 0.9, 32 * MIB, 500, 15000, &tier,
		&exact);
	assert_true(tier > exact + 1);
	compare("zipf 0.9 and scans, 3000, 1/4 fits", SCANS, 0.9, 32 * MIB, 3000, 3000, &tier,
		&exact);
	assert_true(tier > exact + 1);
}

/* What is popular moves on by the whole set's width in 4 million requests: old favourites go. */
static void follows_a_moving_set(void **state)
{
	double tier, exact;

	(void)state;
	compare("zipf 0.9 moving, 500-15000, 1/10 fits", MOVING, 0.9, 32 * MIB, 500, 15000, &tier,
		&exact);
	assert_true(tier >= exact);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(not_below_lru),
	    cmocka_unit_test(better_than_lru_with_scans),
	    cmocka_unit_test(follows_a_moving_set),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
