/* SPDX-License-Identifier: Apache-2.0 */
/* Segment ids, buffers with references, names of tiers, and the tier in memory. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ocache/tier.h"

static void ids_there_and_back(void **state)
{
	static const char text[] = "6243cb8a-2b3c-4031-a4cd-8c7df49e3981";
	struct seg_id id;
	char again[SEG_ID_TEXT];

	(void)state;
	assert_int_equal(seg_id_parse(text, &id), 0);
	assert_true(id.hi == 0x6243cb8a2b3c4031 && id.lo == 0xa4cd8c7df49e3981);
	assert_string_equal(seg_id_format(id, again), text);
	assert_int_equal(seg_id_parse("6243CB8A-2B3C-4031-A4CD-8C7DF49E3981", &id), 0);
	assert_string_equal(seg_id_format(id, again), text);
	id = (struct seg_id){0, 1};
	assert_string_equal(seg_id_format(id, again), "00000000-0000-0000-0000-000000000001");
}

static void bad_ids(void **state)
{
	static const char good[] = "6243cb8a-2b3c-4031-a4cd-8c7df49e3981";
	struct seg_id id = {1, 2};

	(void)state;
	for (size_t n = 0; n < sizeof good - 1; n++) {
		char *text =
		    strndup(good, n); /* exactly its bytes: a sanitizer sees one too many */

		assert_non_null(text);
		assert_int_equal(seg_id_parse(text, &id), -EINVAL);
		free(text);
		text = strdup(good);
		assert_non_null(text);
		text[n] = good[n] == '-' ? '0' : 'g';
		assert_int_equal(seg_id_parse(text, &id), -EINVAL);
		free(text);
	}
	assert_int_equal(seg_id_parse("6243cb8a-2b3c-4031-a4cd-8c7df49e39810", &id), -EINVAL);
	assert_true(id.hi == 1 && id.lo == 2);
}

static unsigned freed;

static void free_data(void *data, void *ctx)
{
	assert_ptr_equal(ctx, &freed);
	free(data);
	freed++;
}

static void buffers(void **state)
{
	struct seg_buf *b = seg_buf_new(10), *w;
	char *mine = malloc(5);

	(void)state;
	assert_non_null(b);
	memset(seg_buf_data(b), 1, 10);
	seg_buf_cut(b, 7);
	assert_int_equal(seg_buf_len(b), 7);
	assert_ptr_equal(seg_buf_hold(b), b);
	seg_buf_drop(b);
	assert_int_equal(seg_buf_len(b), 7);
	seg_buf_drop(b);
	seg_buf_drop(NULL);
	assert_null(seg_buf_new(SIZE_MAX));
	w = seg_buf_wrap(mine, 5, free_data, &freed);
	assert_non_null(w);
	assert_ptr_equal(seg_buf_data(w), mine);
	seg_buf_drop(seg_buf_hold(w));
	assert_int_equal(freed, 0);
	seg_buf_drop(w);
	assert_int_equal(freed, 1);
}

static void names_of_tiers(void **state)
{
	struct tier *t;

	(void)state;
	assert_true(tier_key_ok("valcache-direct"));
	assert_true(tier_key_ok("cass2"));
	assert_true(tier_key_ok("abcdefghijklmnopqrstuvw"));
	assert_false(tier_key_ok("abcdefghijklmnopqrstuvwx"));
	assert_false(tier_key_ok(""));
	assert_false(tier_key_ok("EFS"));
	assert_false(tier_key_ok("a b"));
	assert_false(tier_key_ok("3s"));
	assert_int_equal(tier_mem_open("a/b", 1, &t), -EINVAL);
}

/* ---- the tier in memory ---- */

static unsigned done_reads, done_writes;

static void on_read(struct seg_read *r)
{
	(void)r;
	done_reads++;
}

static void on_write(struct seg_write *w)
{
	(void)w;
	done_writes++;
}

static int put(struct tier *t, uint64_t key, const char *text)
{
	struct seg_buf *b = seg_buf_new(strlen(text));
	struct seg_write w = {.id = {key, ~key}, .bytes = b, .done = on_write, .status = 1};
	struct seg_write *one = &w;
	unsigned before = done_writes;

	assert_non_null(b);
	memcpy(seg_buf_data(b), text, strlen(text));
	t->ops->write(t, &one, 1);
	assert_int_equal(done_writes, before + 1);
	seg_buf_drop(b);
	return w.status;
}

static void assert_has(struct tier *t, uint64_t key, const char *want)
{
	struct seg_read r = {.id = {key, ~key}, .done = on_read, .status = 1}, *one = &r;
	unsigned before = done_reads;

	t->ops->read(t, &one, 1);
	assert_int_equal(done_reads, before + 1);
	if (want == NULL) {
		assert_int_equal(r.status, -ENOENT);
		assert_null(r.bytes);
		return;
	}
	assert_int_equal(r.status, 0);
	assert_int_equal(seg_buf_len(r.bytes), strlen(want));
	assert_memory_equal(seg_buf_data(r.bytes), want, strlen(want));
	seg_buf_drop(r.bytes);
}

static void mem_keeps_the_newest(void **state)
{
	struct tier *t;

	(void)state;
	assert_int_equal(tier_mem_open("efs", 10, &t), 0);
	assert_string_equal(t->key, "efs");
	assert_has(t, 1, NULL);
	assert_int_equal(put(t, 1, "12345"), 0);
	assert_int_equal(put(t, 2, "1234"), 0);
	assert_has(t, 1, "12345");
	assert_int_equal(put(t, 3, "12"), 0); /* 11 bytes: the first goes */
	assert_has(t, 1, NULL);
	assert_has(t, 2, "1234");
	assert_has(t, 3, "12");
	assert_int_equal(put(t, 2, "abcd"), 0); /* repaired: it is the newest now */
	assert_int_equal(put(t, 4, "12345"), 0);
	assert_has(t, 3, NULL);
	assert_has(t, 2, "abcd");
	assert_int_equal(put(t, 5, "12345678901"), -E2BIG);
	t->ops->drop(t, (struct seg_id){2, ~2ull});
	t->ops->drop(t, (struct seg_id){2, ~2ull});
	assert_has(t, 2, NULL);
	assert_has(t, 4, "12345");
	t->ops->close(t);
}

static void mem_holds_many(void **state)
{
	struct tier *t;
	char text[24];

	(void)state;
	assert_int_equal(tier_mem_open(NULL, 1 << 20, &t), 0);
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(text, sizeof text, "value-%u", i);
		assert_int_equal(put(t, i, text), 0);
	}
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(text, sizeof text, "value-%u", i);
		assert_has(t, i, text);
	}
	t->ops->close(t);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(ids_there_and_back),
	    cmocka_unit_test(bad_ids),
	    cmocka_unit_test(buffers),
	    cmocka_unit_test(names_of_tiers),
	    cmocka_unit_test(mem_keeps_the_newest),
	    cmocka_unit_test(mem_holds_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
