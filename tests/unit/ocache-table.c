/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: threads=yes What stands in the table is found without the lock at any time: while it is moved to
 * its other bucket, and while the table is outgrown.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ocache/table.h"

#define READERS 3u
#define LOOKS   100000u /* of each reader at least, while the writer writes */

static const uint64_t seed[2] = {0x9e3779b97f4a7c15ull, 0xbf58476d1ce4e5b9ull};

/* A table and how many of the entries are in it for good. */
struct grown {
	struct table table;
	_Atomic uint64_t stable;
};

static struct {
	struct entry *entry;
	_Atomic(struct grown *) now;
	_Atomic bool stop;
	_Atomic uint64_t looks, missed;
} T;

static uint64_t hash_of(const struct entry *e)
{
	return table_hash(seed, e->id);
}

static void *look(void *arg)
{
	uint64_t x = (uint64_t)(uintptr_t)arg + 1, looks = 0;
	struct lane *ln = lane_mine();
	_Atomic(void *) *pin = ln != NULL ? lane_pin(ln) : NULL;

	if (pin == NULL)
		abort();
	while (!atomic_load(&T.stop)) {
		struct grown *g = atomic_load_explicit(&T.now, memory_order_acquire);
		uint64_t n = atomic_load_explicit(&g->stable, memory_order_acquire);
		bool absent = false;
		struct entry *want, *e;

		if (n == 0)
			continue;
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		want = &T.entry[(x >> 33) % n];
		e = table_get_first(&g->table, hash_of(want), want->id.hi, want->id.lo, pin,
				    &absent);
		if (e == NULL && absent)
			atomic_fetch_add(&T.missed, 1);
		if (e != NULL)
			lane_unpin(pin);
		e = table_get(&g->table, hash_of(want), want->id.hi, want->id.lo, pin);
		if (e != want)
			atomic_fetch_add(&T.missed, 1);
		lane_unpin(pin);
		if (++looks % 256 == 0)
			atomic_fetch_add(&T.looks, 256);
	}
	return NULL;
}

static void begin(pthread_t *reader, unsigned entries)
{
	T.entry = aligned_alloc(64, entries * ENTRY_BYTES);
	assert_non_null(T.entry);
	memset(T.entry, 0, entries * ENTRY_BYTES);
	atomic_store(&T.stop, false);
	atomic_store(&T.looks, 0);
	atomic_store(&T.missed, 0);
	for (uintptr_t i = 0; i < READERS; i++)
		reader[i] = 0;
}

static void start(pthread_t *reader)
{
	for (uintptr_t i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&reader[i], NULL, look, (void *)i), 0);
}

static void end(pthread_t *reader)
{
	atomic_store(&T.stop, true);
	for (unsigned i = 0; i < READERS; i++)
		assert_int_equal(pthread_join(reader[i], NULL), 0);
	assert_int_equal(atomic_load(&T.missed), 0);
	free(T.entry);
}

static bool enough(void)
{
	return atomic_load(&T.looks) >= (uint64_t)READERS * LOOKS || atomic_load(&T.missed) > 0;
}

/*
 * Both buckets of every entry are among the first sixteen, which are full for the most part. When that is
 * too much for one of the tables, it is outgrown, and the next one's turn.
 */
static void found_while_moved(void **state)
{
	enum { TABLES = 1500, STABLE = 70, IN = 100, ALL = 200 };
	struct grown *g = aligned_alloc(64, TABLES * sizeof *g);
	struct entry *churn[ALL - STABLE]; /* the first of them are in the table */
	uint64_t x = 7, moves = 0;
	pthread_t reader[READERS];
	unsigned n;

	(void)state;
	assert_non_null(g);
	begin(reader, ALL);
	for (unsigned i = 0; i < ALL; x++) {
		struct entry *e = &T.entry[i];
		uint64_t hash;

		e->id = (struct seg_id){x * 0x2545f4914f6cdd1dull, x};
		hash = hash_of(e);
		/* a table of 64 buckets */
		i += (hash & 63) < 16 && table_partner(6, hash & 63, table_tag(hash)) < 16;
	}
	for (n = 0; n < TABLES && (n < 100 || !enough()); n++) {
		struct table *t = &g[n].table;

		assert_int_equal(table_open(t), 0);
		assert_int_equal(table_bytes(t), 64 * sizeof(struct bucket));
		for (unsigned i = 0; i < ALL; i++) {
			if (i >= STABLE)
				churn[i - STABLE] = &T.entry[i];
			if (i < IN)
				assert_int_equal(table_insert(t, seed, &T.entry[i]), 0);
		}
		atomic_init(&g[n].stable, STABLE);
		atomic_store(&T.now, &g[n]);
		if (n == 0)
			start(reader);
		for (unsigned i = 0; i < 5000 && table_bytes(t) == 64 * sizeof(struct bucket);
		     i++) {
			unsigned out, in;
			struct entry *e;

			x = x * 6364136223846793005ull + 1442695040888963407ull;
			out = (unsigned)(x >> 33) % (IN - STABLE);
			in = IN - STABLE + (unsigned)(x >> 40) % (ALL - IN);
			table_remove(t, hash_of(churn[out]), churn[out]);
			assert_int_equal(table_insert(t, seed, churn[in]), 0);
			e = churn[out];
			churn[out] = churn[in];
			churn[in] = e;
		}
		moves += atomic_load(&t->moves);
	}
	end(reader);
	assert_true(moves > 1000);
	print_message("%u tables, %llu moves\n", n, (unsigned long long)moves);
	while (n > 0)
		table_close(&g[--n].table);
	free(g);
}

/* Tables one after the other, each outgrown twice. */
static void found_while_it_grows(void **state)
{
	enum { TABLES = 1500, ENTRIES = 800 };
	struct grown *g = aligned_alloc(64, TABLES * sizeof *g);
	pthread_t reader[READERS];
	unsigned n;

	(void)state;
	assert_non_null(g);
	begin(reader, ENTRIES);
	for (uint64_t i = 0; i < ENTRIES; i++)
		T.entry[i].id = (struct seg_id){i * 0x2545f4914f6cdd1dull, i};
	for (n = 0; n < TABLES && (n < 100 || !enough()); n++) {
		assert_int_equal(table_open(&g[n].table), 0);
		atomic_init(&g[n].stable, 0);
		atomic_store(&T.now, &g[n]);
		if (n == 0)
			start(reader);
		for (unsigned i = 0; i < ENTRIES; i++) {
			table_reserve(&g[n].table, seed);
			assert_int_equal(table_insert(&g[n].table, seed, &T.entry[i]), 0);
			atomic_store_explicit(&g[n].stable, i + 1, memory_order_release);
		}
		assert_int_equal(table_bytes(&g[n].table), 256 * sizeof(struct bucket));
	}
	end(reader);
	while (n > 0)
		table_close(&g[--n].table);
	free(g);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(found_while_moved),
	    cmocka_unit_test(found_while_it_grows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
