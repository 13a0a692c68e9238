/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees through a cache over files: every answer is that of a sorted array in memory, each call is charged the
 * segments that it reads, and segments are as long as they should be.
 */
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/envelope.h"
#include "datoms/generate.h"
#include "efs/efs.h"
#include "tests/unit/datoms_rig.h"

#define DATOMS 60000u

static char dir[200];
static struct generated *made;
static struct tree_roots roots;
static struct generate_count count;
static struct datom *sorted[DATOM_SORTS];
static uint64_t sorted_n[DATOM_SORTS];

static struct ocache *cache_open(uint64_t budget)
{
	struct efs_config efs = {
	    .struct_size = sizeof efs, .path = dir, .threads = 2, .record = true, .no_sync = true};
	struct ocache_tier tier = {0};
	struct ocache_config cfg = {
	    .struct_size = sizeof cfg, .budget = budget, .tiers = &tier, .tiers_count = 1};
	struct ocache *c = NULL;
	char *cause = NULL;

	tier.deadline_ns = 60 * NS_PER_S; /* the machine may be busy */
	if (efs_open(&efs, &tier.tier, &cause) != 0 || ocache_open(&cfg, &c, &cause) != 0)
		fail_msg("%s", cause);
	return c;
}

static void cache_close(struct ocache *c)
{
	assert_int_equal(ocache_close(&c), 0);
}

/* ---- segments ---- */

struct seen {
	unsigned n[DATOM_SORTS], small[DATOM_SORTS];
	bool was_small[DATOM_SORTS]; /* the last one so far, which may be */
};

static void note(void *ctx, enum datom_sort sort, enum segment_level level, struct seg_id id,
		 uint32_t datoms, size_t len)
{
	struct seen *seen = ctx;

	(void)id;
	assert_true(datoms >= 1 && datoms <= TREE_DATOMS_MAX);
	assert_true(len <= TREE_BYTES_MAX);
	if (level == SEGMENT_LEAF) {
		seen->n[sort]++;
		seen->small[sort] += seen->was_small[sort];
		seen->was_small[sort] =
		    (len < 20000 && datoms < TREE_DATOMS_MAX) || (datoms < 1000 && len < 50000);
	}
}

static int set_up(void **state)
{
	const char *tmp = getenv("TEST_TMP");
	struct seen seen = {0};
	struct ocache *c;

	(void)state;
	snprintf(dir, sizeof dir, "%s/datoms-tree.XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(generate(7, DATOMS, &made), 0);
	c = cache_open(1 << 20);
	assert_int_equal(generate_store(made, c, &roots, &count, note, &seen), 0);
	cache_close(c);
	for (unsigned s = 0; s < DATOM_SORTS; s++) {
		assert_int_equal(generate_sorted(made, s, &sorted[s], &sorted_n[s]), 0);
		assert_int_equal(count.segments[s][SEGMENT_LEAF], seen.n[s]);
		assert_int_equal(count.segments[s][SEGMENT_DIR], 1);
		assert_int_equal(count.segments[s][SEGMENT_ROOT], 1);
		assert_true(seen.n[s] >= 2);
		assert_int_equal(seen.small[s], 0);
	}
	return 0;
}

static int tear_down(void **state)
{
	char command[300];

	(void)state;
	for (unsigned s = 0; s < DATOM_SORTS; s++)
		free(sorted[s]);
	generate_free(made);
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	return system(command);
}

/* ---- answers ---- */

/* By looking at every datom: the oracle must not share the search. Returns how many there are. */
static uint64_t expect(const struct tree_range *r, const struct datom **first)
{
	const struct datom *d = sorted[r->sort];
	uint64_t n = 0;

	*first = NULL;
	for (uint64_t i = 0; i < sorted_n[r->sort]; i++, d++) {
		int below = datom_compare(r->sort, d, &r->from, r->from_parts);
		int above = datom_compare(r->sort, d, &r->to, r->to_parts);

		if (below < 0 || above > 0 || (above == 0 && r->to_open && r->to_parts > 0))
			continue;
		*first = n++ == 0 ? d : *first;
	}
	return n;
}

static uint64_t check(const struct tree_reader *reader, const struct tree_range *r)
{
	const struct datom *want;
	uint64_t n = expect(r, &want), got = 0;
	struct tree_scan scan;
	struct datom d;
	int more;

	assert_int_equal(tree_scan_open(&scan, reader, r), 0);
	while ((more = tree_scan_next(&scan, &d)) == 1) {
		assert_true(got < n);
		assert_same(&d, &want[got++]);
	}
	assert_int_equal(more, 0);
	assert_int_equal(tree_scan_next(&scan, &d), 0);
	assert_int_equal(got, n);
	tree_scan_close(&scan);
	return n;
}

static void every_call_has_the_arrays_answer(void **state)
{
	struct ocache *c = cache_open(1 << 20); /* too little for all: segments come and go */
	struct tree_reader reader = {.cache = c, .roots = roots};
	uint64_t found[CALLS] = {0}, calls[CALLS] = {0};
	struct ocache_stats st;
	struct tree_range r;

	(void)state;
	for (uint64_t i = 0; i < 1500; i++) {
		enum generate_call call = generate_call(made, i, &r);

		found[call] += check(&reader, &r);
		calls[call]++;
	}
	for (unsigned i = 0; i < CALLS; i++) {
		assert_true(calls[i] >= 100);
		assert_true(found[i] >= calls[i]);
	}
	ocache_stats(c, &st, sizeof st);
	assert_true(st.evicted > 10);
	cache_close(c);
}

static void any_range_has_the_arrays_answer(void **state)
{
	struct ocache *c = cache_open(64 << 20);
	struct tree_reader reader = {.cache = c, .roots = roots};
	uint64_t random = 5;

	(void)state;
	for (unsigned i = 0; i < 1500; i++) {
		enum datom_sort sort = (enum datom_sort)(i % DATOM_SORTS);
		struct tree_range r = {.sort = sort,
				       .from = sorted[sort][draw(&random, sorted_n[sort])],
				       .from_parts = (unsigned)draw(&random, 5),
				       .to = sorted[sort][draw(&random, sorted_n[sort])],
				       .to_parts = (unsigned)draw(&random, 5),
				       .to_open = draw(&random, 2) == 0};

		if (draw(&random, 3) == 0) /* a short one */
			r.to = r.from;
		if (draw(&random, 3) == 0) /* of what is not there */
			r.from.v = r.to.v = some_value(&random);
		if (draw(&random, 5) == 0)
			r.to = some_datom(&random);
		/* at four parts `added` decides in the array, and is no part of a range */
		r.from.added = false;
		r.to.added = !r.to_open;
		(void)check(&reader, &r);
	}
	for (unsigned s = 0; s < DATOM_SORTS; s++) {
		struct tree_range all = {.sort = s};

		assert_int_equal(check(&reader, &all), sorted_n[s]);
	}
	(void)check(&reader, &(struct tree_range){.sort = SORT_AEVT,
						  .from = {.a = A_RELEASE_STATUS},
						  .to = {.a = A_RELEASE_STATUS},
						  .from_parts = 1,
						  .to_parts = 1});
	{
		struct tree_range r = tree_attribute(A_RELEASE_STATUS),
				  f = tree_find(A_ARTIST_NAME,
						sorted[SORT_AVET][sorted_n[SORT_AVET] / 2].v);

		assert_true(check(&reader, &r) > 1000);
		(void)check(&reader, &f);
	}
	cache_close(c);
}

/* Whole leaves at a time are the same datoms. */
static void runs_are_the_same_datoms(void **state)
{
	struct ocache *c = cache_open(64 << 20);
	struct tree_reader reader = {.cache = c, .roots = roots};
	struct tree_range all = {.sort = SORT_AVET};
	const struct segment *leaf;
	struct tree_scan scan;
	uint64_t at = 0;
	uint32_t from, to, runs = 0;

	(void)state;
	assert_int_equal(tree_scan_open(&scan, &reader, &all), 0);
	for (; tree_scan_run(&scan, &leaf, &from, &to) == 1; runs++) {
		assert_true(from < to);
		for (; from < to; from++, at++) {
			struct datom d;

			segment_datom(leaf, from, &d);
			assert_same(&d, &sorted[SORT_AVET][at]);
		}
	}
	tree_scan_close(&scan);
	assert_int_equal(at, sorted_n[SORT_AVET]);
	assert_int_equal(runs, count.segments[SORT_AVET][SEGMENT_LEAF]);
	cache_close(c);
}

/* ---- accounts ---- */

static struct iostats_map *account(struct tree_reader *reader, const struct tree_range *r)
{
	struct iostats *io = iostats_begin("query", NULL, NULL);
	struct iostats_map *map;

	assert_non_null(io);
	reader->io = io;
	(void)check(reader, r);
	map = iostats_end(&io);
	assert_non_null(map);
	reader->io = NULL;
	return map;
}

#define IS(map, key, n) assert_int_equal((int)iostats_map_number(map, "reads " key), n)

static void each_call_is_charged_what_it_reads(void **state)
{
	static const char *const name[DATOM_SORTS] = {"eavt", "aevt", "avet", "vaet"};
	struct ocache *c = cache_open(64 << 20);
	struct tree_reader reader = {.cache = c, .roots = roots};

	(void)state;
	for (unsigned s = 0; s < DATOM_SORTS; s++) {
		/* in the middle of the first leaf */
		struct tree_range one = {.sort = s,
					 .from = sorted[s][10],
					 .from_parts = 4,
					 .to = sorted[s][10],
					 .to_parts = 4};
		struct tree_range all = {.sort = s};
		int leaves = (int)count.segments[s][SEGMENT_LEAF];
		struct iostats_map *map;
		char path[40];

		one.from.added = false;
		one.to.added = true;
		map = account(&reader, &one);
		IS(map, "ocache", 3);
		IS(map, "dir", 2);
		IS(map, "dir-load", 2);
		IS(map, "efs", 3);
		IS(map, "deserialize", 3);
		snprintf(path, sizeof path, "reads %s", name[s]);
		assert_int_equal((int)iostats_map_number(map, path), 3);
		snprintf(path, sizeof path, "reads %s-load", name[s]);
		assert_int_equal((int)iostats_map_number(map, path), 3);
		iostats_map_free(map);

		map = account(&reader, &one); /* now from memory */
		IS(map, "ocache", 3);
		IS(map, "dir", 2);
		assert_false(iostats_map_has(map, "reads efs"));
		assert_false(iostats_map_has(map, "reads dir-load"));
		iostats_map_free(map);

		map = account(&reader, &all); /* two of the three are there */
		IS(map, "ocache", 2 + leaves);
		IS(map, "dir", 2);
		IS(map, "efs", leaves - 1);
		iostats_map_free(map);
	}
	cache_close(c);
}

/* ---- what is wrong ---- */

static void another_trees_segment_is_an_error(void **state)
{
	struct ocache *c = cache_open(64 << 20);
	struct tree_reader reader = {.cache = c, .roots = roots};
	struct tree_range r = tree_entity(generate_entity(3));
	struct tree_scan scan;
	struct datom d;

	(void)state;
	reader.roots.id[SORT_EAVT] = roots.id[SORT_AEVT];
	assert_int_equal(tree_scan_open(&scan, &reader, &r), -EBADMSG);
	reader.roots.id[SORT_EAVT] = (struct seg_id){1, 2};
	assert_int_equal(tree_scan_open(&scan, &reader, &r), -ENOENT);
	reader.roots.id[SORT_EAVT] = (struct seg_id){0, 0}; /* no index */
	assert_int_equal(tree_scan_open(&scan, &reader, &r), 0);
	assert_int_equal(tree_scan_next(&scan, &d), 0);
	tree_scan_close(&scan);
	cache_close(c);
}

/* A whole envelope of bytes that are no segment: the decoder says so, and the chain that nobody else has it. */
static void what_cannot_be_decoded_is_an_error(void **state)
{
	struct ocache *c = cache_open(64 << 20);
	struct tree_reader reader = {.cache = c, .roots = roots};
	struct tree_range r = tree_entity(generate_entity(3));
	struct seg_id id = {0x4000, 2ull << 62};
	struct tree_scan scan;

	(void)state;
	assert_int_equal(ocache_put(c, id, "no segment", 10, 0), 0);
	reader.roots.id[SORT_EAVT] = id;
	assert_int_equal(tree_scan_open(&scan, &reader, &r), -EBADMSG);
	cache_close(c);
}

static int refuse(void *ctx, enum segment_level level, struct seg_id id, uint32_t datoms,
		  const void *bytes, size_t len)
{
	(void)level;
	(void)id;
	(void)datoms;
	(void)bytes;
	(void)len;
	return --*(int *)ctx == 0 ? -ENOSPC : 0;
}

static struct seg_id name_one(void *ctx, enum segment_level level, uint32_t number)
{
	(void)ctx;
	return (struct seg_id){level + 1, number};
}

static void a_writer_that_fails_ends_the_tree(void **state)
{
	struct seg_id root = {9, 9};
	struct datom twice[2] = {{.e = 1}, {.e = 1}};
	unsigned segments = count.segments[SORT_EAVT][SEGMENT_LEAF] + 2;

	(void)state;
	for (unsigned at = 1; at <= segments + 1; at++) {
		int left = (int)at;
		struct tree_writer w = {.name = name_one, .emit = refuse, .ctx = &left};
		int err = tree_write(SORT_EAVT, sorted[SORT_EAVT], sorted_n[SORT_EAVT], &w, &root);

		assert_int_equal(err, at <= segments ? -ENOSPC : 0);
		assert_int_equal(root.hi, at <= segments ? 9 : SEGMENT_ROOT + 1);
	}
	{
		int left = 100;
		struct tree_writer w = {.name = name_one, .emit = refuse, .ctx = &left};

		assert_int_equal(tree_write(SORT_EAVT, twice, 2, &w, &root), -EINVAL);
		assert_int_equal(tree_write(SORT_EAVT, twice, 0, &w, &root), -EINVAL);
		assert_int_equal(tree_write(SORT_EAVT, twice, 1, &w, &root), 0);
	}
}

/* Long texts: a thousand datoms do not fit, and no segment gets longer for it. */
static void long_texts_make_segments_of_fewer_datoms(void **state)
{
	static char text[3000][SEGMENT_TEXT_MAX];
	static struct datom d[3000];
	struct seen seen = {0};
	struct generated g = {.seed = 1, .n = 3000, .datoms = d};
	struct tree_roots at;
	struct generate_count n;
	struct ocache *c = cache_open(64 << 20);

	(void)state;
	for (uint32_t i = 0; i < 3000; i++) {
		memset(text[i], 'a' + (int)(i % 26), sizeof text[i]);
		d[i] = (struct datom){
		    .e = i,
		    .a = 1,
		    .v = {.type = VALUE_STRING, .len = i < 2900 ? 100 + i : 4096, .text = text[i]}};
		memcpy(text[i], &i, sizeof i);
	}
	assert_int_equal(generate_store(&g, c, &at, &n, note, &seen), 0);
	assert_true(seen.n[SORT_EAVT] > 80);
	assert_true(seen.n[SORT_EAVT] < 200);
	cache_close(c);
}

static void a_seed_gives_the_same_again(void **state)
{
	struct generated *again;

	(void)state;
	assert_int_equal(generate(7, DATOMS, &again), 0);
	assert_int_equal(again->n, made->n);
	for (uint64_t i = 0; i < again->n; i++)
		assert_same(&again->datoms[i], &made->datoms[i]);
	generate_free(again);
	assert_int_equal(generate(8, 1, &again), 0);
	assert_true(again->n >= 1);
	generate_free(again);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_call_has_the_arrays_answer),
	    cmocka_unit_test(any_range_has_the_arrays_answer),
	    cmocka_unit_test(runs_are_the_same_datoms),
	    cmocka_unit_test(each_call_is_charged_what_it_reads),
	    cmocka_unit_test(another_trees_segment_is_an_error),
	    cmocka_unit_test(what_cannot_be_decoded_is_an_error),
	    cmocka_unit_test(a_writer_that_fails_ends_the_tree),
	    cmocka_unit_test(long_texts_make_segments_of_fewer_datoms),
	    cmocka_unit_test(a_seed_gives_the_same_again),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
