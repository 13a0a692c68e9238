/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments: what is written is read, what is asked is found where a linear search finds it, and bytes that are
 * not a segment are an error, never a crash.
 */
#include <malloc.h>

#include "tests/unit/datoms_rig.h"

#define MOST 3000u

static void columns_are_read_as_written(void **state)
{
	static uint64_t in[MOST], out[MOST];
	static uint8_t packed[COLUMN_ROOM(MOST)];
	uint64_t random = 1;

	(void)state;
	for (unsigned round = 0; round < 4000; round++) {
		uint32_t n = 1 + (uint32_t)draw(&random, round % 10 == 0 ? MOST : 300);
		unsigned bits = (unsigned)draw(&random, 65);
		bool ascend = draw(&random, 2) == 0;
		uint64_t mask = bits == 64 ? UINT64_MAX : (1ull << bits) - 1, base, at = 0;
		struct column c;
		size_t len;

		for (uint32_t i = 0; i < n; i++) {
			uint64_t v =
			    (draw(&random, 1u << 31) << 33 ^ draw(&random, 1u << 31)) & mask;

			if (draw(&random, 50) == 0)
				v = draw(&random, 2) == 0 ? UINT64_MAX : 0; /* the extremes */
			if (ascend)
				v = __builtin_add_overflow(at, v / n, &at) ? at = UINT64_MAX : at;
			in[i] = v;
		}
		column_measure(in, n, &base, &c.width);
		len = column_pack(packed, in, n, base, c.width);
		c.base = base;
		c.at = out;
		if (c.width != 0) {
			/* of the buffer's very end, so that a reader that goes too far is seen */
			uint8_t *end = malloc(len);

			assert_non_null(end);
			memcpy(end, packed, len);
			assert_int_equal(column_unpack(end, len, n, c.width, out), 0);
			assert_int_equal(column_unpack(end, len - 1, n, c.width, out), -EBADMSG);
			free(end);
			packed[len] = 0;
			assert_int_equal(column_unpack(packed, len + 1, n, c.width, out), -EBADMSG);
			assert_int_equal(column_unpack(packed, len, n, c.width, out), 0);
		} else {
			assert_int_equal(len, 0);
		}
		for (uint32_t i = 0; i < n; i++)
			assert_int_equal(column_get(&c, i), in[i]);
		for (unsigned tries = 0; ascend && tries < 20; tries++) {
			uint64_t v = in[draw(&random, n)] + draw(&random, 3) - 1;
			uint32_t first = 0;

			while (first < n && in[first] < v)
				first++;
			assert_int_equal(column_search(&c, 0, n, v), first);
		}
	}
}

static void a_column_that_is_too_wide_is_refused(void **state)
{
	/* one value of 9 bits for a column of bytes; the same as a sum; a varint of 11 bytes; width 65 */
	static const uint8_t wide[] = {9, 0, 0, 1}, sum[] = {0x80 | 8, 255, 1, 1},
			     endless[] = {0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1},
			     big[] = {65, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
	uint64_t out[2];

	(void)state;
	assert_int_equal(column_unpack(wide, sizeof wide, 1, 1, out), -EBADMSG);
	assert_int_equal(column_unpack(wide, sizeof wide, 1, 2, out), 0);
	assert_int_equal(column_unpack(sum, sizeof sum, 2, 1, out), -EBADMSG);
	assert_int_equal(column_unpack(sum, sizeof sum, 2, 2, out), 0);
	assert_int_equal(column_unpack(endless, sizeof endless, 1, 8, out), -EBADMSG);
	assert_int_equal(column_unpack(big, sizeof big, 1, 8, out), -EBADMSG);
}

static uint32_t linear(const struct datom *d, uint32_t n, enum datom_sort sort, struct datom key,
		       unsigned parts, bool past)
{
	uint32_t i = 0;

	for (; i < n; i++) {
		int c;

		key.added = d[i].added; /* which is not a part */
		c = datom_compare(sort, &d[i], &key, parts);
		if (past ? c > 0 : c >= 0)
			break;
	}
	return i;
}

static void segments_are_read_as_written(void **state)
{
	static struct datom d[MOST];
	static struct seg_id ids[MOST];
	uint64_t random = 2;

	(void)state;
	for (unsigned round = 0; round < 400; round++) {
		enum datom_sort sort = (enum datom_sort)(round % DATOM_SORTS);
		enum segment_level level = (enum segment_level)(round / 4 % SEGMENT_LEVELS);
		uint32_t n = some_datoms(&random, sort, d,
					 1 + (uint32_t)draw(&random, round % 20 == 0 ? MOST : 60));
		struct segment *s;
		size_t len, size;
		void *bytes;

		for (uint32_t i = 0; i < n; i++)
			ids[i] = (struct seg_id){draw(&random, 1u << 30) << 34, i};
		assert_int_equal(segment_encode(level, sort, d, level == SEGMENT_LEAF ? NULL : ids,
						n, &bytes, &len),
				 0);
		assert_int_equal(segment_decode(bytes, len, &s, &size), 0);
		free(bytes);
		assert_true(size >= malloc_usable_size(s));
		assert_true(size <= malloc_usable_size(s) + 32);
		assert_int_equal(s->n, n);
		assert_int_equal(s->level, level);
		assert_int_equal(s->sort, sort);
		assert_true(segment_ordered(s));
		for (uint32_t i = 0; i < n; i++) {
			struct datom got;

			segment_datom(s, i, &got);
			assert_same(&got, &d[i]);
			if (level != SEGMENT_LEAF)
				assert_memory_equal(&s->child[i], &ids[i], sizeof ids[i]);
		}
		for (unsigned tries = 0; tries < 60; tries++) {
			struct datom key =
			    draw(&random, 2) == 0 ? some_datom(&random) : d[draw(&random, n)];
			unsigned parts = (unsigned)draw(&random, 5);

			for (int past = 0; past < 2; past++)
				assert_int_equal(segment_search(s, &key, parts, past),
						 linear(d, n, sort, key, parts, past));
		}
		segment_free(s);
	}
}

static void what_no_segment_can_hold_is_refused(void **state)
{
	static char longest[SEGMENT_TEXT_MAX + 1];
	struct datom d[2] = {{.e = 1}, {.e = 2}};
	struct seg_id id = {1, 1};
	struct segment *s;
	size_t len, size;
	void *bytes;

	(void)state;
	assert_int_equal(segment_encode(SEGMENT_LEAF, SORT_EAVT, d, NULL, 0, &bytes, &len),
			 -EINVAL);
	assert_int_equal(
	    segment_encode(SEGMENT_LEAF, SORT_EAVT, d, NULL, SEGMENT_DATOMS_MAX + 1, &bytes, &len),
	    -EINVAL);
	assert_int_equal(segment_encode(SEGMENT_LEAF, SORT_EAVT, d, &id, 1, &bytes, &len), -EINVAL);
	assert_int_equal(segment_encode(SEGMENT_DIR, SORT_EAVT, d, NULL, 1, &bytes, &len), -EINVAL);
	assert_int_equal(segment_encode(SEGMENT_LEVELS, SORT_EAVT, d, &id, 1, &bytes, &len),
			 -EINVAL);
	d[0].e = 2; /* twice the same */
	assert_int_equal(segment_encode(SEGMENT_LEAF, SORT_EAVT, d, NULL, 2, &bytes, &len),
			 -EINVAL);
	d[0].e = 3; /* not in order */
	assert_int_equal(segment_encode(SEGMENT_LEAF, SORT_EAVT, d, NULL, 2, &bytes, &len),
			 -EINVAL);
	d[0].v = (struct value){.type = VALUE_TYPES};
	assert_int_equal(segment_encode(SEGMENT_LEAF, SORT_EAVT, d, NULL, 1, &bytes, &len),
			 -EINVAL);
	d[0].v = (struct value){.type = VALUE_STRING, .len = SEGMENT_TEXT_MAX + 1, .text = longest};
	assert_int_equal(segment_encode(SEGMENT_LEAF, SORT_EAVT, d, NULL, 1, &bytes, &len),
			 -EINVAL);
	d[0].v.len--;
	assert_int_equal(segment_encode(SEGMENT_LEAF, SORT_EAVT, d, NULL, 1, &bytes, &len), 0);
	assert_int_equal(segment_decode(bytes, len, &s, &size), 0);
	assert_int_equal(use_all(s) != 0, 1);
	segment_free(s);
	free(bytes);
}

/* A copy that ends where its memory ends. */
static int try_decode(const uint8_t *bytes, size_t len)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	struct segment *s = NULL;
	size_t size;
	int err;

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	err = segment_decode(copy, len, &s, &size);
	free(copy);
	assert_true(err == 0 || err == -EBADMSG);
	if (err == 0) {
		(void)use_all(s);
		segment_free(s);
	}
	return err;
}

static void damage_is_an_error_or_another_segment(void **state)
{
	static const uint8_t to[] = {0x00, 0xff, 0x80, 0x7f, 0x01};
	struct datom d[200];
	struct seg_id ids[200] = {{1, 2}};
	uint64_t random = 3;
	unsigned refused = 0, cases = 0;

	(void)state;
	for (unsigned round = 0; round < 8; round++) {
		uint32_t n = some_datoms(&random, round % DATOM_SORTS, d, round < 4 ? 200 : 12);
		enum segment_level level = round < 4 ? SEGMENT_LEAF : SEGMENT_DIR;
		uint8_t *b;
		size_t len;
		void *bytes;

		assert_int_equal(segment_encode(level, round % DATOM_SORTS, d,
						level == SEGMENT_LEAF ? NULL : ids, n, &bytes,
						&len),
				 0);
		b = bytes;
		assert_int_equal(try_decode(b, len), 0);
		for (size_t cut = 0; cut < len; cut++)
			assert_int_equal(try_decode(b, cut), -EBADMSG);
		for (size_t at = 0; at < len; at++) {
			uint8_t was = b[at];

			for (unsigned i = 0; i < sizeof to + 8; i++) {
				b[at] =
				    (uint8_t)(i < sizeof to ? to[i] : was ^ 1u << (i - sizeof to));
				refused += try_decode(b, len) != 0;
				cases++;
				/* version, and what is to be zero */
				if (b[at] != was && (at == 0 || at == 3 || (at >= 36 && at < 40)))
					assert_int_equal(try_decode(b, len), -EBADMSG);
			}
			b[at] = was;
		}
		for (unsigned many = 0; many < 3000; many++) {
			uint8_t *worse = malloc(len);

			assert_non_null(worse);
			memcpy(worse, b, len);
			for (uint64_t i = 1 + draw(&random, 4); i > 0; i--)
				worse[draw(&random, len)] = (uint8_t)draw(&random, 256);
			(void)try_decode(worse, len);
			free(worse);
		}
		free(bytes);
	}
	assert_true(refused > cases / 20);
}

/* Types out of order: a search for one of them must not look behind its column's end. */
static void types_that_are_not_sorted_are_no_danger(void **state)
{
	struct datom d[3] = {
	    {.a = 1, .e = 1, .v = {.type = VALUE_REF, .ref = 7}},
	    {.a = 1, .e = 2, .v = {.type = VALUE_LONG, .n = 7}},
	    {.a = 1, .e = 3, .v = {.type = VALUE_REF, .ref = 9}},
	};
	struct segment *s;
	size_t len, size;
	void *bytes;

	(void)state;
	/* in order by e, then told to be of the sort of values */
	assert_int_equal(segment_encode(SEGMENT_LEAF, SORT_AEVT, d, NULL, 3, &bytes, &len), 0);
	((uint8_t *)bytes)[2] = SORT_AVET;
	assert_int_equal(segment_decode(bytes, len, &s, &size), 0);
	assert_false(segment_ordered(s));
	(void)use_all(s);
	segment_free(s);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(columns_are_read_as_written),
	    cmocka_unit_test(a_column_that_is_too_wide_is_refused),
	    cmocka_unit_test(segments_are_read_as_written),
	    cmocka_unit_test(what_no_segment_can_hold_is_refused),
	    cmocka_unit_test(damage_is_an_error_or_another_segment),
	    cmocka_unit_test(types_that_are_not_sorted_are_no_danger),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
