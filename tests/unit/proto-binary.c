/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Binary packets: each opcode with what it may and may not come with, whole, cut at every byte, byte by byte
 * and many after each other. Heads whose lengths contradict each other or fit nothing. And the bytes of answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/unit/proto_harness.h"

#define K10  "kkkkkkkkkk"
#define K50  K10 K10 K10 K10 K10
#define K250 K50 K50 K50 K50 K50

/* extras of a set: flags 7, expiry 0xffffffff */
#define SET  "\0\0\0\7\xff\xff\xff\xff", 8
#define NONE "", 0
#define EXP  "\xff\xff\xff\xff", 4
#define NUM  "01234567890123456789", 20

static const struct packet {
	uint8_t opcode;
	const char *extras;
	size_t extras_n;
	const char *key, *value;
	uint64_t cas;
	const char *want; /* after "#opcode@opaque " */
} packets[] = {
    {0x00, NONE, "a", "", 0, "get a;"},
    {0x00, NONE, K250, "", 0, "get " K250 ";"},
    {0x00, NONE, "a b\n", "", 0, "get a b\\x0a;"},
    {0x00, NONE, "a", "", 5, "get a;"},
    {0x09, NONE, "a", "", 0, "get a;"},
    {0x0c, NONE, "a", "", 0, "get a;"},
    {0x0d, NONE, "a", "", 0, "get a;"},
    {0x01, SET, "a", "hello", 0, "set a f7 5:hello;"},
    {0x01, SET, "a", "", 0, "set a f7 0:;"},
    {0x11, SET, "a", "hello", 0, "set a f7 5:hello;"},
    {0x02, SET, "a", "hello", 0, "add a f7 5:hello;"},
    {0x12, SET, "a", "hello", 0, "add a f7 5:hello;"},
    {0x01, "\xff\xff\xff\xff\0\0\0\0", 8, "a", "\r\n", 0, "set a f4294967295 2:\\x0d\\x0a;"},
    {0x01, "\0\0\0\7\x3b\x9a\xca\0", 8, "a", "hello", 0, "set! a f7 5:drained;"},
    {0x12, "\0\0\0\7\x3b\x9a\xca\0", 8, "a", "", 0, "add! a f7 0:drained;"},
    {0x1c, "\x3b\x9a\xca\0", 4, "a", "", 0, "touch! a;"},
    {0x24, "\x00\x27\x8d\x01", 4, "a", "", 0, "gat! a;"},
    {0x24, "\x00\x27\x8d\x00", 4, "a", "", 0, "gat a;"},
    {0x01, SET, "a", "hello", 1, "set a C1 f7 5:hello;"},
    {0x12, SET, "a", "", UINT64_MAX, "add a C18446744073709551615 f7 0:;"},
    {0x11, "\0\0\0\7\x3b\x9a\xca\0", 8, "a", "hello", 1, "R:0083;"},
    {0x02, "\0\0\0\7\x3b\x9a\xca\0", 8, "a", "", 1, "R:0083;"},
    {0x03, SET, "a", "hello", 0, "R:0083;"},
    {0x13, SET, "a", "hello", 0, "R:0083;"},
    {0x04, NONE, "a", "", 0, "delete a;"},
    {0x14, NONE, "a", "", 0, "delete a;"},
    {0x04, NONE, "a", "", 0x0102030405060708, "delete a C72623859790382856;"},
    {0x05, NUM, "a", "", 0, "R:0083;"},
    {0x06, NUM, "a", "", 0, "R:0083;"},
    {0x15, NUM, "a", "", 0, "R:0083;"},
    {0x16, NUM, "a", "", 0, "R:0083;"},
    {0x0e, NONE, "a", "x", 0, "R:0083;"},
    {0x0f, NONE, "a", "", 0, "R:0083;"},
    {0x19, NONE, "a", "x", 3, "R:0083;"},
    {0x1a, NONE, "a", "x", 0, "R:0083;"},
    {0x07, NONE, "", "", 0, "quit;"},
    {0x17, NONE, "", "", 0, "quit;"},
    {0x08, NONE, "", "", 0, "flush_all 0;"},
    {0x08, "\0\0\1\2", 4, "", "", 0, "flush_all 258;"},
    {0x18, EXP, "", "", 0, "flush_all 2147483647;"},
    {0x0a, NONE, "", "", 0, "noop;"},
    {0x0b, NONE, "", "", 0, "version;"},
    {0x10, NONE, "", "", 0, "stats ();"},
    {0x10, NONE, "store", "", 0, "stats (store);"},
    {0x10, NONE, "reset", "", 0, "stats reset;"},
    {0x10, NONE, "resets", "", 0, "stats reset;"},
    {0x10, NONE, "rese", "", 0, "stats (rese);"},
    {0x1c, EXP, "a", "", 0, "touch a;"},
    {0x1d, EXP, "a", "", 0, "gat a;"},
    {0x1e, EXP, "a", "", 0, "gat a;"},
    {0x23, EXP, "a", "", 0, "gat a;"},
    {0x24, EXP, "a", "", 0, "gat a;"},
    /* no such opcode: whatever it brings is dropped */
    {0x1b, "\0\0\0\1", 4, "", "", 0, "R:0081;"},
    {0x20, NONE, "", "", 0, "R:0081;"},
    {0x21, NONE, "PLAIN", "xux", 0, "R:0081;"},
    {0x22, NONE, "PLAIN", "", 0, "R:0081;"},
    {0x30, NONE, "a", "", 0, "R:0081;"},
    {0xff, NUM, K250, "x", 9, "R:0081;"},
    /* what does not fit its opcode */
    {0x00, NONE, "", "", 0, "R:0004;HANGUP;"},
    {0x00, NONE, "a", "x", 0, "R:0004;HANGUP;"},
    {0x00, EXP, "a", "", 0, "R:0004;HANGUP;"},
    {0x00, NONE, K250 "k", "", 0, "R:0004;HANGUP;"},
    {0xff, NONE, K250 "k", "", 0, "R:0004;HANGUP;"},
    {0x01, NONE, "a", "hello", 0, "R:0004;HANGUP;"},
    {0x01, EXP, "a", "hello", 0, "R:0004;HANGUP;"},
    {0x01, NUM, "a", "hello", 0, "R:0004;HANGUP;"},
    {0x01, SET, "", "hello", 0, "R:0004;HANGUP;"},
    {0x04, NONE, "", "", 0, "R:0004;HANGUP;"},
    {0x04, NONE, "a", "x", 0, "R:0004;HANGUP;"},
    {0x05, SET, "a", "", 0, "R:0004;HANGUP;"},
    {0x05, NUM, "a", "x", 0, "R:0004;HANGUP;"},
    {0x07, NONE, "a", "", 0, "R:0004;HANGUP;"},
    {0x08, "\0\0", 2, "", "", 0, "R:0004;HANGUP;"},
    {0x08, NONE, "a", "", 0, "R:0004;HANGUP;"},
    {0x0a, NONE, "", "x", 0, "R:0004;HANGUP;"},
    {0x0b, EXP, "", "", 0, "R:0004;HANGUP;"},
    {0x0e, EXP, "a", "x", 0, "R:0004;HANGUP;"},
    {0x0e, NONE, "", "x", 0, "R:0004;HANGUP;"},
    {0x10, EXP, "", "", 0, "R:0004;HANGUP;"},
    {0x10, NONE, "", "x", 0, "R:0004;HANGUP;"},
    {0x1c, NONE, "a", "", 0, "R:0004;HANGUP;"},
    {0x1d, SET, "a", "", 0, "R:0004;HANGUP;"},
    {0x24, EXP, "", "", 0, "R:0004;HANGUP;"},
    {0x20, NONE, "", "x", 0, "R:0004;HANGUP;"},
    {0x20, NONE, "a", "", 0, "R:0004;HANGUP;"},
    {0x21, NONE, "", "xux", 0, "R:0004;HANGUP;"},
    {0x22, EXP, "PLAIN", "", 0, "R:0004;HANGUP;"},
    {0x24, EXP, "a", "x", 0, "R:0004;HANGUP;"},
};
#define PACKETS (sizeof(packets) / sizeof(*packets))

/* A head; lengths as told, not as they are. */
static size_t put_head(char *to, uint8_t opcode, uint32_t key, uint32_t extras, uint32_t body,
		       uint64_t cas)
{
	const uint8_t h[24] = {0x80,
			       opcode,
			       (uint8_t)(key >> 8),
			       (uint8_t)key,
			       (uint8_t)extras,
			       0xdd,
			       0xbb,
			       0xbb,
			       (uint8_t)(body >> 24),
			       (uint8_t)(body >> 16),
			       (uint8_t)(body >> 8),
			       (uint8_t)body,
			       1,
			       2,
			       3,
			       4,
			       (uint8_t)(cas >> 56),
			       (uint8_t)(cas >> 48),
			       (uint8_t)(cas >> 40),
			       (uint8_t)(cas >> 32),
			       (uint8_t)(cas >> 24),
			       (uint8_t)(cas >> 16),
			       (uint8_t)(cas >> 8),
			       (uint8_t)cas};

	memcpy(to, h, sizeof(h));
	return sizeof(h);
}

static size_t put(char *to, const struct packet *p)
{
	size_t key = strlen(p->key), value = strlen(p->value);
	size_t n = put_head(to, p->opcode, (uint32_t)key, (uint32_t)p->extras_n,
			    (uint32_t)(key + p->extras_n + value), p->cas);

	memcpy(to + n, p->extras, p->extras_n);
	memcpy(to + n + p->extras_n, p->key, key);
	memcpy(to + n + p->extras_n + key, p->value, value);
	return n + p->extras_n + key + value;
}

static void want(char *to, size_t room, const struct packet *p)
{
	int n = snprintf(to, room, "#%02x@01020304 %s", p->opcode, p->want);

	assert_true(n > 0 && (size_t)n < room);
}

/* Cut every step bytes, and once at `at`; 0: not. */
static void run(const char *in, size_t n, size_t step, size_t at, const char *out)
{
	struct harness h;

	h_open(&h);
	for (size_t from = 0, to; from < n; from = to) {
		to = step != 0 && n - from > step ? from + step : n;
		if (from < at && at < to)
			to = at;
		h_feed(&h, in + from, to - from);
	}
	if (strcmp(h.out, out) != 0)
		print_error("steps of %zu, a cut at %zu\n", step, at);
	assert_string_equal(h.out, out);
	assert_in_range(h.leftover_max, 0, PROTO_LINE_MAX);
	h_close(&h);
}

static void each_cut_anywhere(void **state)
{
	char in[1024], out[512];

	(void)state;
	for (size_t i = 0; i < PACKETS; i++) {
		size_t n = put(in, &packets[i]);

		want(out, sizeof(out), &packets[i]);
		run(in, n, 0, 0, out);
		run(in, n, 1, 0, out);
		for (size_t at = 1; at < n; at++)
			run(in, n, 0, at, out);
	}
}

static void pipelined(void **state)
{
	static char in[PACKETS * 1024], out[PACKETS * 512];
	size_t n = 0, m = 0;

	(void)state;
	for (size_t i = 0; i < PACKETS; i++) {
		if (strstr(packets[i].want, "HANGUP") != NULL)
			continue;
		n += put(in + n, &packets[i]);
		want(out + m, sizeof(out) - m, &packets[i]);
		m += strlen(out + m);
	}
	assert_true(n > 2000);
	for (size_t step = 0; step < 400; step++)
		run(in, n, step, 0, out);
}

/* What is too large is swallowed to its last byte, also if it is four gigabytes. */
static void large_bodies(void **state)
{
	char in[4096];
	size_t n = put_head(in, 0x01, 1, 8, 9 + 3000, 0);
	struct harness h;

	(void)state;
	memset(in + n, 0, 8);
	memset(in + n + 8, 'a', 3001);
	n += 3009;
	n += put_head(in + n, 0x0a, 0, 0, 0, 0);
	run(in, n, 0, 0, "#01@01020304 set a f0 3000:too large;#0a@01020304 noop;");
	run(in, n, 100, 0, "#01@01020304 set a f0 3000:too large;#0a@01020304 noop;");

	n = put_head(in, 0x0e, 1, 0, UINT32_MAX, 0);
	in[n++] = 'a';
	memset(in + n, 0x80, 1000);
	run(in, n + 1000, 0, 0, "#0e@01020304 R:0083;");
	h_open(&h);
	h_feed(&h, in, n);
	assert_true(h.p.left == (uint64_t)UINT32_MAX - 1);
	assert_true(proto_in_block(&h.p));
	h_close(&h);
}

static void contradictions(void **state)
{
	static const struct {
		uint32_t opcode, key, extras, body;
		const char *want;
	} heads[] = {
	    {0x00, 1, 0, 0, "#00@01020304 R:0081;HANGUP;"},
	    {0x00, 65535, 0, 65534, "#00@01020304 R:0081;HANGUP;"},
	    {0x00, 65535, 255, 65535, "#00@01020304 R:0081;HANGUP;"},
	    {0x00, 65535, 0, UINT32_MAX, "#00@01020304 R:0004;HANGUP;"},
	    {0x01, 1, 8, 8, "#01@01020304 R:0081;HANGUP;"},
	    {0x01, 0, 255, 254, "#01@01020304 R:0081;HANGUP;"},
	    {0x70, 1, 0, 0, "#70@01020304 R:0081;HANGUP;"},
	    {0x70, 0, 1, 0, "#70@01020304 R:0081;HANGUP;"},
	};
	char in[64];

	(void)state;
	for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
		size_t n = put_head(in, (uint8_t)heads[i].opcode, heads[i].key, heads[i].extras,
				    heads[i].body, 0);

		run(in, n, 0, 0, heads[i].want);
		run(in, n, 1, 0, heads[i].want);
	}
	/* another magic, at first or later */
	for (unsigned magic = 0; magic < 256; magic++) {
		size_t n = put_head(in, 0x0a, 0, 0, 0, 0);

		if (magic == 0x80)
			continue;
		in[n] = (char)magic;
		run(in, n + 1, 0, 0, "#0a@01020304 noop;HANGUP;");
	}
}

static void answers(void **state)
{
	static const struct proto_item it = {0x01020304, 5, 0x1112131415161718};
	struct proto_bin b = {.on = true, .opcode = 0x00};
	char out[PROTO_HEAD_MAX], key[250];

	(void)state;
	memcpy(&b.opaque, "\xde\xad\xbe\xef", 4);
	memset(key, 'k', sizeof(key));
#define SAME(call, bytes)                                                                          \
	do {                                                                                       \
		assert_int_equal(call, sizeof(bytes) - 1);                                         \
		assert_memory_equal(out, bytes, sizeof(bytes) - 1);                                \
	} while (0)
	SAME(
	    proto_bin_put_hit(out, &b, "a", 1, &it),
	    "\x81\0\0\0\4\0\0\0\0\0\0\x09\xde\xad\xbe\xef\x11\x12\x13\x14\x15\x16\x17\x18\1\2\3\4");
	SAME(proto_bin_put_miss(out, &b, "a", 1),
	     "\x81\0\0\0\0\0\0\1\0\0\0\x09\xde\xad\xbe\xef\0\0\0\0\0\0\0\0Not found");
	b.opcode = 0x0d;
	SAME(
	    proto_bin_put_hit(out, &b, "ab", 2, &it),
	    "\x81\x0d\0\2\4\0\0\0\0\0\0\x0b\xde\xad\xbe\xef\x11\x12\x13\x14\x15\x16\x17\x18\1\2\3\4"
	    "ab");
	SAME(proto_bin_put_miss(out, &b, "ab", 2),
	     "\x81\x0d\0\2\0\0\0\1\0\0\0\2\xde\xad\xbe\xef\0\0\0\0\0\0\0\0"
	     "ab");
	assert_int_equal(proto_bin_put_hit(out, &b, key, 250, &it), 278);
	b.opcode = 0x1c;
	SAME(
	    proto_bin_put_hit(out, &b, "a", 1, &it),
	    "\x81\x1c\0\0\4\0\0\0\0\0\0\4\xde\xad\xbe\xef\x11\x12\x13\x14\x15\x16\x17\x18\1\2\3\4");
	b.opcode = 0x01;
	SAME(proto_bin_put(out, &b, PROTO_ST_OK, 1, "", 0),
	     "\x81\1\0\0\0\0\0\0\0\0\0\0\xde\xad\xbe\xef\0\0\0\0\0\0\0\1");
	SAME(proto_bin_put(out, &b, PROTO_ST_TOO_BIG, 0, NULL, 0),
	     "\x81\1\0\0\0\0\0\3\0\0\0\x0a\xde\xad\xbe\xef\0\0\0\0\0\0\0\0Too large.");
	b.opcode = 0x10;
	SAME(proto_bin_put_stat(out, &b, "pid", 3, 2),
	     "\x81\x10\0\3\0\0\0\0\0\0\0\5\xde\xad\xbe\xef\0\0\0\0\0\0\0\0pid");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_cut_anywhere), cmocka_unit_test(pipelined),
	    cmocka_unit_test(large_bodies),      cmocka_unit_test(contradictions),
	    cmocka_unit_test(answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
