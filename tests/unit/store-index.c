/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index, one thread: size codes, geometry, comparison with a plain model over millions of
 * random operations, and what attach makes of a process that was killed in the middle.
 * It includes the index to see slots and lines.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "valcached/store/index.c"
#include "valcached/store/index_change.c"
#include "valcached/store/index_bulk.c"
#include "valcached/store/index_many.c"

static uint64_t rng = 88172645463325252ull;

static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * 0x2545f4914f6cdd1dull;
}

static uint64_t hash_of(uint64_t x)
{
	return XXH3_64bits_withSeed(&x, sizeof(x), 42);
}

static void *map(size_t bytes)
{
	void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(m, MAP_FAILED);
	return m;
}

static struct index *make(void **mem, size_t *bytes, uint64_t lines)
{
	struct index *ix = NULL;

	*bytes = HEADER_BYTES + lines * LINE_BYTES;
	*mem = map(*bytes);
	assert_int_equal(index_open(*mem, *bytes, false, NULL, &ix), 0);
	assert_int_equal(ix->lines, lines & ~1ull);
	return ix;
}

/* Every count is the number of its guests elsewhere, or "3 and more"; nothing is left locked. */
static void check_counts(const struct index *ix, bool exact)
{
	unsigned char(*n)[16] = calloc(ix->lines, sizeof(*n));
	uint64_t l, s, t;
	unsigned i;

	assert_non_null(n);
	for (l = 0; l < ix->lines; l++)
		for (i = 0; i < INDEX_SLOTS; i++) {
			s = slot_load(&ix->line[l], i);
			t = slot_tag(s);
			if (s != 0 && !is_home(t, l) && n[other_of(ix, t, l)][t & 15] < AWAY_MAX)
				n[other_of(ix, t, l)][t & 15]++;
		}
	for (l = 0; l < ix->lines; l++) {
		assert_false(ix->line[l].word & WORD_LOCK);
		for (i = 0; i < 16; i++) {
			unsigned c = away_count(ix->line[l].word, i);

			if (exact && c != AWAY_MAX)
				assert_int_equal(c, n[l][i]);
			assert_true(c >= n[l][i]);
		}
	}
	free(n);
}

static void test_len_codes(void **state)
{
	const uint32_t top = index_len_decode(INDEX_LEN_CODES - 1);
	uint32_t u, c, d, last = 0;

	(void)state;
	assert_int_equal(top, 255u << 14);
	for (u = 0; u <= top; u++) {
		c = index_len_encode(u);
		d = index_len_decode(c);
		if (c < last || c > last + 1 || d < u || (u < 128 && d != u) ||
		    (uint64_t)(d - u) * 128 >= (u < 128 ? 1 : u))
			fail_msg("units %u code %u (last %u) decoded %u", u, c, last, d);
		last = c;
	}
	assert_int_equal(last, INDEX_LEN_CODES - 1);
	for (c = 0; c < INDEX_LEN_CODES; c++)
		assert_int_equal(index_len_encode(index_len_decode(c)), c);
	assert_int_equal(index_len_encode(top + 1), INDEX_LEN_CODES); /* slot_make asserts */
}

static void test_geometry(void **state)
{
	uint64_t n;
	struct index *ix = NULL;
	void *mem = map(1 << 20);

	(void)state;
	for (n = 0; n < 100000; n += 7) {
		size_t b = index_bytes(n);

		assert_int_equal((b - HEADER_BYTES) % (2 * LINE_BYTES), 0);
		assert_true((b - HEADER_BYTES) / LINE_BYTES * INDEX_SLOTS * 85 >= n * 100);
	}
	assert_true((double)index_bytes(1000000) / 1e6 <= 12.0);
	assert_int_equal(index_open(mem, HEADER_BYTES + LINE_BYTES, false, NULL, &ix), -EINVAL);
	assert_int_equal(index_open(mem, 1 << 20, true, NULL, &ix), -EINVAL);
	assert_null(ix);
	munmap(mem, 1 << 20);
}

static void test_involution(void **state)
{
	static const uint64_t lines[] = {2, 4, 6, 10, 14, 254, 256, 1000, 4098, 1000006};
	struct index ix = {0};
	unsigned i;
	uint64_t tag, l, o, k;

	(void)state;
	for (i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		ix.lines = lines[i];
		ix.half = lines[i] / 2;
		for (tag = 0; tag < 65536; tag++)
			for (k = 0; k < 40; k++) {
				l = k < 2 ? k * (lines[i] - 1) : rnd() % lines[i];
				o = other_of(&ix, tag, l);
				assert_true(o < lines[i]);
				assert_int_equal(other_of(&ix, tag, o), l);
				assert_int_equal((o ^ l) & 1, 1);
				assert_int_equal(second_of(&ix, tag, l, false), l);
				assert_int_equal(second_of(&ix, tag, l, true), o);
			}
		for (k = 0; k < 100000; k++) {
			uint64_t h = rnd();

			l = home_of(&ix, h);
			assert_true(l < lines[i]);
			assert_true(is_home(hash_tag(h), l));
			assert_false(is_home(hash_tag(h), other_of(&ix, hash_tag(h), l)));
		}
	}
}

static void test_limits(void **state)
{
	struct index_ref v, r;
	struct index_probe p;
	size_t bytes;
	void *mem;
	struct index *ix = make(&mem, &bytes, 5); /* four are used */
	uint64_t h = 0xffffffffffff0000ull;       /* tag 0, like an empty slot */
	uint32_t top = index_len_decode(INDEX_LEN_CODES - 1);
	uint64_t w;

	(void)state;
	index_find(ix, h, &p);
	assert_int_equal(p.n, 0);
	assert_true(index_unchanged(ix, h, &p));
	index_insert(ix, h, INDEX_LOC_MAX, top, 3, &v);
	assert_int_equal(v.loc, 0);
	assert_false(index_unchanged(ix, h, &p));
	index_find(ix, h, &p);
	assert_int_equal(p.n, 1);
	assert_int_equal(p.ref[0].loc, INDEX_LOC_MAX);
	assert_int_equal(p.ref[0].units, top);
	assert_int_equal(p.ref[0].clock, 3);
	assert_true(index_touch(ix, h, INDEX_LOC_MAX)); /* stays 3, and changes no version */
	assert_true(index_unchanged(ix, h, &p));
	assert_true(index_relocate(ix, h, INDEX_LOC_MAX, 1, 1, 0));
	assert_false(index_unchanged(ix, h, &p));
	assert_false(index_relocate(ix, h, INDEX_LOC_MAX, 2, 1, 0));
	assert_false(index_touch(ix, h, INDEX_LOC_MAX));
	assert_true(index_touch(ix, h, 1));
	assert_true(index_get(ix, h, 1, &r));
	assert_int_equal(r.clock, 1);
	assert_int_equal(r.units, 1);

	/* The version wraps into nothing else. */
	w = home_of(ix, h);
	ix->line[w].word = 0xaaaaaaaaull << 32 | WORD_VERSION;
	assert_true(index_remove(ix, h, 1));
	assert_int_equal(ix->line[w].word, 0xaaaaaaaaull << 32);
	assert_false(index_remove(ix, h, 1));
	assert_false(index_get(ix, h, 1, &r));
	index_close(&ix);
	assert_null(ix);
	munmap(mem, bytes);
}

/* ---- against a model ------------------------------------------------------------------------- */

#define KEYS 4096u

struct entry {
	uint64_t loc; /* 0: absent */
	uint32_t units;
	uint8_t clock;
};

static bool count_slot(void *arg, const struct index_ref *ref)
{
	assert_int_not_equal(ref->loc, 0);
	++*(uint64_t *)arg;
	return true;
}

static void check_key(const struct index *ix, const struct entry *m, const uint32_t *key_at,
		      unsigned key)
{
	uint64_t h = hash_of(key);
	struct index_probe p;
	unsigned i, found = 0;

	index_find(ix, h, &p);
	for (i = 0; i < p.n; i++) {
		if (p.ref[i].loc == m[key].loc) {
			assert_int_equal(p.ref[i].units,
					 index_len_decode(index_len_encode(m[key].units)));
			assert_int_equal(p.ref[i].clock, m[key].clock);
			found++;
		} else {
			unsigned k = key_at[p.ref[i].loc];

			assert_int_equal(m[k].loc, p.ref[i].loc);
			assert_int_equal(hash_tag(hash_of(k)), hash_tag(h));
		}
	}
	assert_int_equal(found, m[key].loc != 0);
	assert_true(index_unchanged(ix, h, &p));
}

static void model_run(uint64_t lines, unsigned keys, unsigned ops)
{
	struct entry *m = calloc(KEYS, sizeof(*m));
	uint32_t *key_at = calloc(ops + 2, sizeof(*key_at));
	uint64_t next = 1, items = 0, walked = 0, inserts = 0, victims = 0;
	struct index_stats st;
	struct index_ref v, r;
	struct index *ix;
	unsigned n, key;
	size_t bytes;
	void *mem;

	assert_true(m != NULL && key_at != NULL && keys <= KEYS);
	ix = make(&mem, &bytes, lines);
	for (n = 0; n < ops; n++) {
		uint64_t x = rnd(), h, loc;

		key = (unsigned)(x >> 32) % keys;
		h = hash_of(key);
		loc = m[key].loc;
		switch (x % 8) {
		case 0:
		case 1:
		case 2: /* insert, or move */
			if (loc == 0) {
				m[key] =
				    (struct entry){next, (uint32_t)(x >> 8) % 300 + 1, x >> 20 & 3};
				key_at[next] = key;
				index_insert(ix, h, next, m[key].units, m[key].clock, &v);
				next++;
				inserts++;
				items++;
				if (v.loc != 0) {
					assert_int_equal(m[key_at[v.loc]].loc, v.loc);
					assert_int_equal(m[key_at[v.loc]].clock, v.clock);
					m[key_at[v.loc]].loc = 0;
					items--;
					victims++;
				}
			} else {
				m[key] = (struct entry){next, (uint32_t)(x >> 8) % 3000 + 1,
							x >> 20 & 3};
				key_at[next] = key;
				assert_true(
				    index_relocate(ix, h, loc, next, m[key].units, m[key].clock));
				next++;
			}
			break;
		case 3: /* remove */
			assert_int_equal(index_remove(ix, h, loc == 0 ? next : loc), loc != 0);
			items -= loc != 0;
			m[key].loc = 0;
			break;
		case 4:
			assert_int_equal(index_touch(ix, h, loc == 0 ? next : loc), loc != 0);
			if (loc != 0 && m[key].clock < INDEX_CLOCK_MAX)
				m[key].clock++;
			break;
		case 5:
			assert_int_equal(index_get(ix, h, loc == 0 ? next : loc, &r), loc != 0);
			if (loc != 0)
				assert_int_equal(r.clock, m[key].clock);
			break;
		default:
			index_prefetch(ix, h);
			index_prefetch_other(ix, h);
			check_key(ix, m, key_at, key);
		}
	}
	for (key = 0; key < keys; key++)
		check_key(ix, m, key_at, key);
	check_counts(ix, true);
	index_walk(ix, count_slot, &walked);
	index_stats(ix, &st);
	assert_int_equal(walked, items);
	assert_int_equal(st.items, items);
	assert_int_equal(st.inserts, inserts);
	assert_int_equal(st.victims, victims);
	assert_int_equal(st.capacity, (lines & ~1ull) * INDEX_SLOTS);
	assert_int_equal(st.retries, 0);
	print_message(
	    "%u ops, %llu lines, load %.2f: %llu inserts, %llu displacements, %llu victims\n", ops,
	    (unsigned long long)lines, (double)items / (double)st.capacity,
	    (unsigned long long)inserts, (unsigned long long)st.displacements,
	    (unsigned long long)victims);
	if (keys > st.capacity && lines > 2)
		assert_true(st.displacements > 0 && victims > 0);
	index_close(&ix);

	/* Another handle sees the same. */
	assert_int_equal(index_open(mem, bytes, true, &walked, &ix), 0);
	assert_int_equal(walked, 0);
	index_stats(ix, &st);
	assert_int_equal(st.items, items);
	for (key = 0; key < keys; key++)
		check_key(ix, m, key_at, key);
	index_close(&ix);
	munmap(mem, bytes);
	free(key_at);
	free(m);
}

static void test_model(void **state)
{
	(void)state;
	model_run(2, 40, 200000);
	model_run(6, 60, 300000); /* half of it odd */
	model_run(46, 400, 500000);
	model_run(401, 4000, 1500000); /* above its capacity */
	model_run(701, 4000, 1000000);
}

/* ---- attach ---------------------------------------------------------------------------------- */

static void test_attach_header(void **state)
{
	struct index_ref v;
	struct index *ix, *again = NULL;
	size_t bytes, i;
	void *mem;

	(void)state;
	ix = make(&mem, &bytes, 100);
	index_insert(ix, 5, 7, 9, 1, &v);
	index_close(&ix);
	for (i = 0; i < sizeof(struct header); i++) { /* every byte of it counts */
		((unsigned char *)mem)[i] ^= 0x10;
		assert_int_equal(index_open(mem, bytes, true, NULL, &again), -EINVAL);
		((unsigned char *)mem)[i] ^= 0x10;
	}
	assert_int_equal(index_open(mem, bytes - 2 * LINE_BYTES, true, NULL, &again), -EINVAL);
	assert_int_equal(index_open(mem, bytes, true, NULL, &again), 0);
	index_close(&again);
	munmap(mem, bytes);
}

/*
 * A dead process may leave a move anywhere between "copied", "counted" and "removed" [IX-8]. Here
 * each resident in turn is left twice, uncounted, with both lines locked.
 */
static void test_attach_torn_move(void **state)
{
	struct index_ref v;
	struct index_probe p;
	struct index *ix;
	size_t bytes;
	uint64_t k, dropped;
	unsigned i, moved = 0;
	void *mem;

	(void)state;
	for (k = 0; k < 300; k++) {
		ix = make(&mem, &bytes, 100);
		for (i = 0; i < 300; i++)
			index_insert(ix, hash_of(i), i + 1, 1, 0, &v);
		{
			uint64_t h = hash_of(k), l = home_of(ix, h),
				 o = other_of(ix, hash_tag(h), l), s;
			unsigned from = line_slot_of(&ix->line[l], hash_tag(h), k + 1, &s), to;

			to = line_empty_slot(&ix->line[o]);
			if (from != INDEX_SLOTS && to != INDEX_SLOTS) {
				line_lock(&ix->line[l]);
				line_lock(&ix->line[o]);
				slot_store(&ix->line[o], to, s);
				if (k % 2 != 0)
					slot_store(&ix->line[l], from, 0);
				moved++;
			}
			index_close(&ix);
			assert_int_equal(index_open(mem, bytes, true, &dropped, &ix), 0);
			assert_int_equal(dropped, from != INDEX_SLOTS && to != INDEX_SLOTS ? 2 : 0);
		}
		check_counts(ix, false);
		for (i = 0; i < 300; i++) {
			unsigned j, seen = 0;

			index_find(ix, hash_of(i), &p);
			for (j = 0; j < p.n; j++)
				seen += p.ref[j].loc == i + 1;
			assert_int_equal(seen, 1);
			assert_true(index_remove(ix, hash_of(i), i + 1));
		}
		index_close(&ix);
		munmap(mem, bytes);
	}
	assert_true(moved > 100);
}

/* A process is killed at any moment, many times over: keys that it did not touch are all there. */
static void test_attach_killed(void **state)
{
	/*
	 * Kills leave the lines in any order; where two lines come to hold nothing but fixed keys, one of these has to go for a
	 * new key. With 200 of them that was so in one run of 30 on a busy machine, and it falls with their fourteenth power.
	 */
	enum { FIXED = 100, OTHERS = 280, LINES = 64, MOST = 20000 };
	struct index_ref v;
	struct index_probe p;
	struct index *ix;
	uint64_t dropped, torn = 0;
	unsigned round, i, j;
	size_t bytes;
	void *mem;
	int status;

	(void)state;
	ix = make(&mem, &bytes, LINES);
	for (i = 0; i < FIXED; i++)
		index_insert(ix, hash_of(i), i + 1, 1, INDEX_CLOCK_MAX, &v);
	for (round = 0; round < 300; round++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			uint64_t n = round * 1000000ull + FIXED, q[OTHERS] = {0};

			for (unsigned k = 0; k < MOST; k++, n++) { /* about 85 % full */
				if (q[n % OTHERS] != 0)
					index_remove(ix, hash_of(q[n % OTHERS]), q[n % OTHERS] + 1);
				q[n % OTHERS] = n;
				index_insert(ix, hash_of(n), n + 1, 1, 0, &v);
				if (v.loc != 0 && v.loc <= FIXED)
					_exit(1); /* 14 fixed keys in two lines */
			}
			for (;;)
				pause();
		}
		usleep((useconds_t)(200 + rnd() % 1500));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		index_close(&ix);
		assert_int_equal(index_open(mem, bytes, true, &dropped, &ix), 0);
		torn += dropped;
		check_counts(ix, false);
		for (i = 0; i < FIXED; i++) {
			unsigned seen = 0;

			index_find(ix, hash_of(i), &p);
			for (j = 0; j < p.n; j++)
				seen += p.ref[j].loc == i + 1;
			if (seen != 1)
				fail_msg("round %u: key %u seen %u times", round, i, seen);
		}
		/* What the dead one left goes; its slots are found by the walk's means only. */
		for (i = 0; i < ix->lines; i++)
			for (j = 0; j < INDEX_SLOTS; j++)
				if (slot_loc(slot_load(&ix->line[i], j)) > FIXED) {
					uint64_t loc = slot_loc(slot_load(&ix->line[i], j));

					assert_true(index_remove(ix, hash_of(loc - 1), loc));
				}
		/* Sticky counts would in the end send every lookup the long way; start anew. */
		if (round % 16 == 15) {
			index_close(&ix);
			assert_int_equal(index_open(mem, bytes, false, NULL, &ix), 0);
			for (i = 0; i < FIXED; i++)
				index_insert(ix, hash_of(i), i + 1, 1, INDEX_CLOCK_MAX, &v);
		}
	}
	print_message("300 kills left %llu lines locked\n", (unsigned long long)torn);
	assert_true(torn > 0);
	index_close(&ix);
	munmap(mem, bytes);
}

/* index_find_many says what index_find says, for every size of call, lines full or nearly empty. */
static void test_find_many(void **state)
{
	enum { MANY_LINES = 1000, MOST = 6900, MANY_KEYS = 9000 };
	static uint64_t hash[MANY_KEYS], found[MANY_KEYS + 1];
	unsigned n, i, j, at, fill, hits, away;
	struct index_probe p;
	struct index_ref v, r;
	struct index *ix;
	size_t bytes;
	void *mem;

	(void)state;
	for (i = 0; i < MANY_KEYS; i++)
		hash[i] = i % 8 == 3 ? hash_of(i) & ~0xffffull : hash_of(i); /* tag 0 too */
	for (fill = 100; fill <= MOST; fill = fill < 1000 ? fill * 3 : fill + 1500) {
		ix = make(&mem, &bytes, MANY_LINES);
		for (i = 0; i < fill; i++)
			index_insert(ix, hash[i], i + 1, i + 1, i & 3, &v);
		for (i = 0; i < fill; i += 5)
			(void)index_remove(ix, hash[i], i + 1);
		for (n = 0, at = 0; at < MANY_KEYS; at += n, n = (n + 1) % 150) {
			if (n > MANY_KEYS - at)
				n = MANY_KEYS - at;
			found[at + n] = 0x5a5a;
			index_find_many(ix, hash + at, n, found + at);
			assert_int_equal(found[at + n], 0x5a5a);
		}
		hits = away = 0;
		for (i = 0; i < MANY_KEYS; i++) {
			index_find(ix, hash[i], &p);
			if (found[i] == 0) {
				if (p.n != 0)
					fail_msg("fill %u: key %u missed", fill, i);
				continue;
			}
			r = index_found_ref(found[i]);
			for (j = 0; j < p.n; j++)
				if (p.ref[j].loc == r.loc && p.ref[j].units == r.units &&
				    p.ref[j].clock == r.clock)
					break;
			if (j == p.n)
				fail_msg("fill %u: key %u found what is not there", fill, i);
			hits++;
			away += p.word1 != p.word2;
		}
		assert_true(hits > fill / 2);
		assert_true(fill < 5000 || away > 100);
		index_close(&ix);
		munmap(mem, bytes);
	}
}

/* A full index: the range goes and nothing else, counts stay right, and after clear all are zero. */
static void test_bulk(void **state)
{
	enum { MANY_LINES = 600, MANY_KEYS = 4000 };
	struct index_probe p;
	struct index_stats st;
	struct index_ref v, r;
	struct index *ix;
	uint64_t l, gone = 0, before;
	size_t bytes;
	void *mem;
	unsigned i;

	(void)state;
	ix = make(&mem, &bytes, MANY_LINES);
	for (i = 0; i < MANY_KEYS; i++)
		index_insert(ix, hash_of(i), i + 1, 1, 0, &v);
	check_counts(ix, true);
	for (i = 1000; i < 3000; i++)
		gone += index_get(ix, hash_of(i), i + 1, &r);
	index_stats(ix, &st);
	before = st.items;
	assert_int_equal(index_remove_range(ix, 1001, 3001), gone);
	assert_int_equal(index_remove_range(ix, 1001, 3001), 0);
	index_stats(ix, &st);
	assert_int_equal(st.items, before - gone);
	check_counts(ix, true); /* one thread: every home could be locked */
	for (i = 1000; i < 3000; i++)
		assert_false(index_get(ix, hash_of(i), i + 1, &r));
	for (i = 0, gone = 0; i < 1000; i++)
		gone += index_get(ix, hash_of(i), i + 1, &r);
	for (i = 3000; i < MANY_KEYS; i++)
		gone += index_get(ix, hash_of(i), i + 1, &r);
	assert_int_equal(gone, st.items);

	/* Full again, some counts stuck at the most: clear sets them right too. */
	for (i = 0; i < MANY_KEYS; i++)
		if (!index_get(ix, hash_of(i), i + 1, &r))
			index_insert(ix, hash_of(i), i + 1, 1, 0, &v);
	for (l = 0, gone = 0; l < ix->lines; l++)
		gone += ix->line[l].word >> WORD_AWAY != 0;
	assert_true(gone > 50);
	index_clear(ix);
	index_stats(ix, &st);
	assert_int_equal(st.items, 0);
	for (l = 0; l < ix->lines; l++) {
		assert_int_equal(ix->line[l].word >> WORD_AWAY, 0);
		assert_int_equal(ix->line[l].word & WORD_LOCK, 0);
	}
	for (i = 0; i < MANY_KEYS; i++) {
		index_find(ix, hash_of(i), &p);
		assert_int_equal(p.n, 0);
	}
	index_close(&ix);
	munmap(mem, bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_len_codes),
	    cmocka_unit_test(test_geometry),
	    cmocka_unit_test(test_involution),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_model),
	    cmocka_unit_test(test_find_many),
	    cmocka_unit_test(test_bulk),
	    cmocka_unit_test(test_attach_header),
	    cmocka_unit_test(test_attach_torn_move),
	    cmocka_unit_test(test_attach_killed),
	};

	return cmocka_run_group_tests_name("store-index", tests, NULL, NULL);
}
