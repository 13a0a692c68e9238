/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of a memcached server, whole and cut at every byte; MD5 by the test vectors of RFC 1321; the ring. */
#include "ocache/ketama.h"
#include "ocache/mc_reply.h"
#include "ocache/md5.h"
#include "tests/unit/ocache_rig.h"

static void lines(void **state)
{
	static const struct {
		const char *text;
		enum mc_what what;
		const char *key;
		uint64_t bytes;
	} all[] = {
	    {"END\r\n", MC_END, NULL, 0},
	    {"STORED\r\n", MC_STORED, NULL, 0},
	    {"NOT_STORED\r\n", MC_KEPT, NULL, 0},
	    {"EXISTS\r\n", MC_KEPT, NULL, 0},
	    {"DELETED\r\n", MC_DELETED, NULL, 0},
	    {"NOT_FOUND\r\n", MC_NOT_FOUND, NULL, 0},
	    {"SERVER_ERROR\r\n", MC_SERVER_ERROR, NULL, 0},
	    {"SERVER_ERROR out of memory\r\n", MC_SERVER_ERROR, NULL, 0},
	    {"VALUE k 0 0\r\n", MC_VALUE, "k", 0},
	    {"VALUE key 4294967295 4294967295\r\n", MC_VALUE, "key", 4294967295},
	    {"VALUE key 7 12 99\r\n", MC_VALUE, "key", 12},
	    {"ERROR\r\n", MC_BROKEN, NULL, 0},
	    {"CLIENT_ERROR bad command line format\r\n", MC_BROKEN, NULL, 0},
	    {"SERVER_ERRORS\r\n", MC_BROKEN, NULL, 0},
	    {"END\n", MC_BROKEN, NULL, 0},
	    {"\n", MC_BROKEN, NULL, 0},
	    {"\r\n", MC_BROKEN, NULL, 0},
	    {"ENDS\r\n", MC_BROKEN, NULL, 0},
	    {"VALUE \r\n", MC_BROKEN, NULL, 0},
	    {"VALUE  0 0\r\n", MC_BROKEN, NULL, 0},
	    {"VALUE k 0\r\n", MC_BROKEN, NULL, 0},
	    {"VALUE k 0 \r\n", MC_BROKEN, NULL, 0},
	    {"VALUE k -1 1\r\n", MC_BROKEN, NULL, 0},
	    {"VALUE k 0 -1\r\n", MC_BROKEN, NULL, 0},
	    {"VALUE k 0 4294967296\r\n", MC_BROKEN, NULL, 0},
	    {"VALUE k 0 18446744073709551617\r\n", MC_BROKEN, NULL, 0},
	    {"VALUE k 0 1x\r\n", MC_BROKEN, NULL, 0},
	    {"VALUE k 0 1 \r\n", MC_BROKEN, NULL, 0},
	    {"VALUE k 0 1 2 3\r\n", MC_BROKEN, NULL, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		size_t n = strlen(all[i].text);
		char *copy = malloc(n); /* so that a sanitizer sees who reads on */
		struct mc_line l;

		memcpy(copy, all[i].text, n);
		for (size_t cut = 0; cut < n; cut++)
			assert_int_equal(mc_line(copy, cut).what, MC_MORE);
		l = mc_line(copy, n);
		if (l.what != all[i].what)
			fail_msg("%s is %d", all[i].text, l.what);
		assert_int_equal(l.used, n);
		if (l.what == MC_VALUE) {
			assert_int_equal(l.key_len, strlen(all[i].key));
			assert_memory_equal(l.key, all[i].key, l.key_len);
			assert_int_equal(l.bytes, all[i].bytes);
		}
		free(copy);
	}
}

/* What each kind of request takes for its answer, and with which status; all else is no answer to it. */
static void answers(void **state)
{
	static const char key[] = "00000000-0000-0000-0000-000000000001";
	static const struct {
		const char *line;
		int get, set, del; /* 1: not an answer */
	} all[] = {
	    {"END\r\n", -ENOENT, 1, 1},  {"STORED\r\n", 1, 0, 1},
	    {"NOT_STORED\r\n", 1, 0, 1}, /* it has a value, and segments never change */
	    {"EXISTS\r\n", 1, 0, 1},     {"DELETED\r\n", 1, 1, 0},
	    {"NOT_FOUND\r\n", 1, 1, 0},  {"SERVER_ERROR busy\r\n", -EIO, -EIO, -EIO},
	    {"ERROR\r\n", 1, 1, 1},
	};
	struct mc_reader *r = malloc(sizeof *r);

	(void)state;
	assert_non_null(r);
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		for (unsigned kind = MC_GET; kind <= MC_DELETE; kind++) {
			const int want = kind == MC_GET   ? all[i].get
					 : kind == MC_SET ? all[i].set
							  : all[i].del;
			struct mc_asked asked = {(enum mc_kind)kind, true, true, key};
			size_t n = strlen(all[i].line);
			struct iovec v[2];
			struct seg_buf *bytes;
			int status = 77;

			mc_reader_init(r, 1000);
			assert_int_equal(mc_reader_room(r, v), 1);
			memcpy(v[0].iov_base, all[i].line, n);
			mc_reader_put(r, n);
			assert_int_equal(mc_reader_take(r, &asked, &status, &bytes),
					 want == 1 ? -EPROTO : 1);
			assert_null(bytes);
			if (want != 1)
				assert_int_equal(status, want);
			/* nobody has asked */
			mc_reader_reset(r);
			assert_int_equal(mc_reader_room(r, v), 1);
			memcpy(v[0].iov_base, all[i].line, n);
			mc_reader_put(r, n);
			assert_int_equal(mc_reader_take(r, NULL, &status, &bytes), -EPROTO);
			mc_reader_reset(r);
		}
	}
	free(r);
}

static void endless(void **state)
{
	char line[MC_LINE_MAX];

	(void)state;
	memset(line, 'a', sizeof line);
	assert_int_equal(mc_line(line, sizeof line - 1).what, MC_MORE);
	assert_int_equal(mc_line(line, sizeof line).what, MC_BROKEN);
}

static void md5_vectors(void **state)
{
	static const struct {
		const char *text, *digest;
	} all[] = {
	    {"", "d41d8cd98f00b204e9800998ecf8427e"},
	    {"a", "0cc175b9c0f1b6a831c399e269772661"},
	    {"abc", "900150983cd24fb0d6963f7d28e17f72"},
	    {"message digest", "f96b697d7cb7938d525a2f31aaf161d0"},
	    {"abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"},
	    {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
	     "d174ab98d277d9f5a5611c2c9f419d9f"},
	    {"12345678901234567890123456789012345678901234567890123456789012345678901234567890",
	     "57edf4a22be3c955ac49da2e2107b67a"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		uint8_t digest[16];
		char text[33];

		md5(all[i].text, strlen(all[i].text), digest);
		for (unsigned k = 0; k < 16; k++)
			snprintf(text + (size_t)2 * k, 3, "%02x", digest[k]);
		assert_string_equal(text, all[i].digest);
	}
}

/* Each server has its share, and one that goes takes no key from another. tests/clients/ketama asks libmemcached. */
static void ring(void **state)
{
	static const struct ketama_server server[] = {{"10.0.0.1", 11211, 1, NULL},
						      {"10.0.0.2", 11211, 1, NULL},
						      {"10.0.0.3", 11311, 1, NULL},
						      {"cache", 11211, 1, NULL}};
	struct ketama *four = ketama_new(TIER_MEMCACHED_LIBMEMCACHED, false, server, 4),
		      *three = ketama_new(TIER_MEMCACHED_LIBMEMCACHED, false, server, 3);
	unsigned share[4] = {0};

	(void)state;
	assert_non_null(four);
	assert_non_null(three);
	for (uint64_t k = 0; k < 40000; k++) {
		char key[SEG_ID_TEXT];
		unsigned at, without;

		seg_id_format(id_of(k), key);
		at = ketama_server(four, key, SEG_ID_TEXT - 1);
		without = ketama_server(three, key, SEG_ID_TEXT - 1);
		assert_true(at < 4 && without < 3);
		assert_true(at == without || at == 3);
		share[at]++;
	}
	for (unsigned s = 0; s < 4; s++)
		assert_true(share[s] > 7000 && share[s] < 13000);
	ketama_free(four);
	ketama_free(three);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(lines),       cmocka_unit_test(answers), cmocka_unit_test(endless),
	    cmocka_unit_test(md5_vectors), cmocka_unit_test(ring),
	};

	return cmocka_run_group_tests_name("ocache-mc-reply", tests, NULL, NULL);
}
