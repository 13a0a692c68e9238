/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The formatters: each line as memcached 1.6.18 writes it, the longest one within its bound,
 * numbers against printf, base64 there and back.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "valcached/proto/proto_int.h"

static const struct proto_item item = {.flags = 7, .len = 3, .cas = 23};

/* The request that `line` makes; its key points into the line or the request. */
static struct proto_request *request(const char *line)
{
	static struct proto_request req;
	struct proto p = {0};
	size_t used;

	assert_int_equal(proto_parse(&p, line, strlen(line), &used, &req), PROTO_REQUEST);
	assert_int_equal(used, strlen(line));
	return &req;
}

static void expect(const char *out, size_t n, const char *want)
{
	char buf[PROTO_HEAD_MAX + 1];

	assert_in_range(n, 1, PROTO_HEAD_MAX);
	memcpy(buf, out, n);
	buf[n] = '\0';
	assert_string_equal(buf, want);
}

static void values(void **state)
{
	char out[PROTO_HEAD_MAX];

	(void)state;
	expect(out, proto_put_value(out, "a", 1, &item, false), "VALUE a 7 3\r\n");
	expect(out, proto_put_value(out, "a", 1, &item, true), "VALUE a 7 3 23\r\n");
	expect(out,
	       proto_put_value(out, "key", 3, &(struct proto_item){UINT32_MAX, 1048576, UINT64_MAX},
			       true),
	       "VALUE key 4294967295 1048576 18446744073709551615\r\n");
}

static void meta_get(void **state)
{
	static const struct {
		const char *line, *hit, *miss;
	} cases[] = {
	    {"mg a\r\n", "HD\r\n", "EN\r\n"},
	    {"mg a v s t f h l k Oxx q c N30 R30 T0 u\r\n", "VA 3 s3 t-1 f7 h0 l0 ka Oxx c23\r\n",
	     "EN ka Oxx\r\n"},
	    {"mg YQ== b k O1\r\n", "HD kYQ== b O1\r\n", "EN kYQ== b O1\r\n"},
	    {"mg a O\r\n", "HD O\r\n", "EN O\r\n"},
	    {"mg a t s\r\n", "HD t-1 s3\r\n", "EN\r\n"},
	};
	char out[PROTO_HEAD_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct proto_request *r;

		r = request(cases[i].line);
		expect(out,
		       proto_put_meta(out, &r->meta, r->value ? PROTO_VA : PROTO_HD, r->key,
				      r->key_len, &item),
		       cases[i].hit);
		expect(out, proto_put_meta(out, &r->meta, PROTO_EN, r->key, r->key_len, NULL),
		       cases[i].miss);
	}
}

static void meta_set_delete(void **state)
{
	struct proto_request *r;
	char out[PROTO_HEAD_MAX];

	(void)state;
	r = request("ms a 3 c k O1 s\r\n");
	expect(out, proto_put_meta(out, &r->meta, PROTO_HD, r->key, r->key_len, &item),
	       "HD c23 ka O1 s3\r\n");
	expect(out, proto_put_meta(out, &r->meta, PROTO_NS, r->key, r->key_len, NULL),
	       "NS c0 ka O1\r\n");
	r = request("ms YQ== 3 b k\r\n");
	expect(out, proto_put_meta(out, &r->meta, PROTO_HD, r->key, r->key_len, &item),
	       "HD kYQ== b\r\n");
	r = request("md a q k O1\r\n");
	expect(out, proto_put_meta(out, &r->meta, PROTO_NF, r->key, r->key_len, NULL),
	       "NF ka O1\r\n");
	expect(out, proto_put_meta(out, &r->meta, PROTO_EX, r->key, r->key_len, NULL),
	       "EX ka O1\r\n");
	assert_true(proto_quiet(PROTO_MG, PROTO_EN));
	assert_true(proto_quiet(PROTO_MS, PROTO_HD));
	assert_true(proto_quiet(PROTO_MD, PROTO_HD));
	assert_false(proto_quiet(PROTO_MG, PROTO_HD));
	assert_false(proto_quiet(PROTO_MS, PROTO_NS));
	assert_false(proto_quiet(PROTO_MD, PROTO_NF));
	assert_false(proto_quiet(PROTO_MD, PROTO_EX));
}

static void meta_debug(void **state)
{
	struct proto_request *r;
	char out[PROTO_HEAD_MAX];

	(void)state;
	r = request("me a\r\n");
	expect(out, proto_put_me(out, &r->meta, r->key, r->key_len, &item),
	       "ME a exp=-1 la=0 cas=23 fetch=no cls=1 size=3\r\n");
	r = request("me YQ== b\r\n");
	expect(out, proto_put_me(out, &r->meta, r->key, r->key_len, &item),
	       "ME YQ== exp=-1 la=0 cas=23 fetch=no cls=1 size=3\r\n");
}

static void longest(void **state)
{
	const struct proto_item big = {UINT32_MAX, UINT32_MAX, UINT64_MAX};
	struct proto_meta m = {.nflags = 8, .opaque_len = PROTO_OPAQUE_MAX, .base64 = true};
	char key[PROTO_KEY_MAX];
	char *out = malloc(PROTO_HEAD_MAX);

	(void)state;
	assert_non_null(out);
	memcpy(m.flags, "stcflhOk", 8);
	memset(m.opaque, 'o', sizeof(m.opaque));
	memset(key, 'k', sizeof(key));
	assert_in_range(proto_put_meta(out, &m, PROTO_VA, key, PROTO_KEY_MAX, &big), 400,
			PROTO_HEAD_MAX);
	assert_in_range(proto_put_me(out, &m, key, PROTO_KEY_MAX, &big), 400, PROTO_HEAD_MAX);
	assert_in_range(proto_put_value(out, key, PROTO_KEY_MAX, &big, true), 280, PROTO_HEAD_MAX);
	free(out);
}

static void constant_lines(void **state)
{
	(void)state;
	for (unsigned i = 0; i < PROTO_LINE_IDS; i++) {
		assert_int_equal(proto_lines[i].len, strlen(proto_lines[i].s));
		assert_memory_equal(proto_lines[i].s + proto_lines[i].len - 2, "\r\n", 2);
	}
	assert_string_equal(proto_lines[PROTO_BAD_CHUNK].s, "CLIENT_ERROR bad data chunk\r\n");
	for (unsigned i = 0; i < PROTO_OPS; i++)
		assert_non_null(proto_op_name((enum proto_op)i));
}

static void stat_lines(void **state)
{
	char out[32];

	(void)state;
	expect(out, proto_put_stat(out, sizeof(out), "pid", "12"), "STAT pid 12\r\n");
	assert_int_equal(proto_put_stat(out, 13, "pid", "12"), 13);
	assert_int_equal(proto_put_stat(out, 12, "pid", "12"), 0);
	assert_int_equal(proto_put_stat(out, 0, "pid", "12"), 0);
	assert_int_equal(proto_put_stat(out, 8, "pid", ""), 0);
}

static void one_number(uint64_t v)
{
	char out[21], want[21];
	size_t n;

	n = proto_put_u64(out, v);
	out[n] = '\0';
	snprintf(want, sizeof(want), "%" PRIu64, v);
	assert_string_equal(out, want);
	n = proto_put_u32(out, (uint32_t)v);
	out[n] = '\0';
	snprintf(want, sizeof(want), "%" PRIu32, (uint32_t)v);
	assert_string_equal(out, want);
}

static void numbers(void **state)
{
	uint64_t p = 1;

	(void)state;
	for (uint64_t v = 0; v < 100000; v++)
		one_number(v);
	for (unsigned i = 0; i < 20; i++, p *= 10) {
		one_number(p - 1);
		one_number(p);
		one_number(p + 1);
	}
	for (unsigned i = 0; i < 64; i++) {
		one_number((1ull << i) - 1);
		one_number(1ull << i);
	}
	one_number(UINT64_MAX);
}

static void base64(void **state)
{
	static const char *const vectors[][2] = {{"f", "Zg=="},           {"fo", "Zm8="},
						 {"foo", "Zm9v"},         {"foob", "Zm9vYg=="},
						 {"fooba", "Zm9vYmE="},   {"foobar", "Zm9vYmFy"},
						 {"\xfb\xff\xbe", "+/++"}};
	static const char *const bad[] = {"",     "Z",    "Zg",   "Zg=",    "Zg==Zg==", "Z===",
					  "====", "Zg=v", "Z!==", "Zg==\n", "Z\x80==",  "Zm9-"};
	char out[400], back[400], in[250];

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(*vectors); i++) {
		size_t n = proto__base64_encode(out, vectors[i][0], strlen(vectors[i][0]));

		expect(out, n, vectors[i][1]);
		n = proto__base64_decode(back, sizeof(back), out, n);
		expect(back, n, vectors[i][0]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(proto__base64_decode(out, sizeof(out), bad[i], strlen(bad[i])), 0);
	for (size_t len = 1; len <= sizeof(in); len++) {
		size_t n;

		for (size_t i = 0; i < len; i++)
			in[i] = (char)(unsigned char)(i * 37 + len);
		n = proto__base64_encode(out, in, len);
		assert_int_equal(n, (len + 2) / 3 * 4);
		assert_int_equal(proto__base64_decode(back, len, out, n), len);
		assert_memory_equal(back, in, len);
		assert_int_equal(proto__base64_decode(back, len - 1, out, n), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(values),          cmocka_unit_test(meta_get),
	    cmocka_unit_test(meta_set_delete), cmocka_unit_test(meta_debug),
	    cmocka_unit_test(longest),         cmocka_unit_test(constant_lines),
	    cmocka_unit_test(stat_lines),      cmocka_unit_test(numbers),
	    cmocka_unit_test(base64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
