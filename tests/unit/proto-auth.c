/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that has to say who it is: what of the text protocol and of SASL is understood before, how a login
 * is read, and that no other request comes out of the parser, however the bytes are cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/unit/proto_harness.h"

enum how { TEXT = 1, SASL = 2 };

#define NO     "R:CLIENT_ERROR unauthenticated;"
#define FORMAT "R:CLIENT_ERROR bad authentication token format;"
#define IN     "set x 0 0 9\r\nuser pass\r\n"
#define K250                                                                                       \
	"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"                                       \
	"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"                                       \
	"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"                                       \
	"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"                                       \
	"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"

#define HEAD(op, key, extras, body)                                                                \
	"\x80" op "\0" key extras "\0\0\0\0\0\0" body "\1\2\3\4\0\0\0\0\0\0\0\0"
#define GET_A        HEAD("\0", "\1", "\0", "\1") "a"
#define PLAIN(op, n) HEAD(op, "\5", "\0", n) "PLAIN"

#define CASE(how, in, out)                                                                         \
	{                                                                                          \
		how, in, sizeof(in) - 1, out                                                       \
	}

static const struct {
	unsigned how;
	const char *in;
	size_t n;
	const char *out;
} cases[] = {
    CASE(TEXT, IN "get a\r\n", "login user (pass) known;get a;END;"),
    CASE(TEXT, "set x 0 0 9 noreply\nuser pass\r\nget a\r\n", "login user (pass) known;get a;END;"),
    CASE(TEXT, "  set " K250 "k y z 9 a b\r\nuser pass\r\n", "login user (pass) known;"),
    CASE(TEXT, "set x 0 0 9\r\nuser word\r\nget a\r\n", "login user (word) nobody;" NO),
    CASE(TEXT, "set x 0 0 9\r\nuser word\r\n" IN,
	 "login user (word) nobody;login user (pass) known;"),
    CASE(TEXT, "set x 0 0 11\r\nuser  p\nss \r\n", "login user ( p\\x0ass ) nobody;"),
    CASE(TEXT, "set x 0 0 254\r\n" K250 "k 12\r\n", "login  (12) nobody;"),
    CASE(TEXT, "set x 0 0 5\r\nuser \r\n", "login user () nobody;"),
    CASE(TEXT, "set x 0 0 4\r\nuser\r\n", FORMAT),
    CASE(TEXT, "set x 0 0 5\r\n pass\r\n", FORMAT),
    CASE(TEXT, "set x 0 0 0\r\n\r\n", FORMAT),
    CASE(TEXT, "set x 0 0 9\r\nuser passXXversion\r\n",
	 "R:CLIENT_ERROR bad command line termination;version;"),
    CASE(TEXT, "version\r\nmn\nquit\r\n", "version;mn;quit;"),
    CASE(TEXT, "version x\r\nVERSION\r\nmn x\r\n", NO NO NO),
    CASE(TEXT, "get a\r\ngets a\r\ngat 0 a\r\nmg a v\r\nms a 1\r\n\r\nstats\r\nflush_all\r\n\n",
	 NO NO NO NO NO NO NO NO NO),
    CASE(TEXT,
	 "set x 0 0\r\nset x 0 0 -1\r\nset x 0 0 1x\r\nset x 0 0 4294967296\r\nadd x 0 0 9\r\n",
	 NO NO NO NO NO),
    CASE(
	TEXT,
	"delete a\r\nincr a 1\r\ncache_memlimit 8\r\nlru_crawler metadump all\r\npath online 0\r\n",
	NO NO NO NO NO),
    CASE(TEXT, "GET / HTTP/1.1\r\n", NO),
    CASE(TEXT, "\x16\x03\x01\r\n", "HANGUP;"),
    CASE(SASL, "version\r\n", "HANGUP;"),
    CASE(SASL, IN, "HANGUP;"),
    CASE(TEXT, GET_A, "#00@01020304 R:0020;HANGUP;"),
    CASE(TEXT, HEAD("\x0a", "\0", "\0", "\0") HEAD("\x20", "\0", "\0", "\0"),
	 "#0a@01020304 noop;#20@01020304 R:0081;"),
    CASE(TEXT, PLAIN("\x21", "\x0f") "\0user\0pass" GET_A,
	 "#21@01020304 R:0081;#00@01020304 R:0020;HANGUP;"),
    CASE(SASL, HEAD("\x20", "\0", "\0", "\0"), "#20@01020304 sasl mechs;"),
    CASE(SASL, PLAIN("\x21", "\x0f") "\0user\0pass" GET_A,
	 "#21@01020304 login user (pass) known;#00@01020304 get a;"),
    CASE(SASL, PLAIN("\x21", "\x13") "user\0user\0pass", "#21@01020304 login user (pass) known;"),
    CASE(SASL, PLAIN("\x21", "\x13") "usex\0user\0pass", "#21@01020304 login  () nobody;"),
    CASE(SASL, PLAIN("\x21", "\x12") "use\0user\0pass", "#21@01020304 login  () nobody;"),
    CASE(SASL, PLAIN("\x21", "\x10") "\0user\0pass\0",
	 "#21@01020304 login user (pass\\x00) nobody;"),
    CASE(SASL, PLAIN("\x21", "\x0a") "\0user", "#21@01020304 login  () nobody;"),
    CASE(SASL, PLAIN("\x21", "\x09") "user", "#21@01020304 login  () nobody;"),
    CASE(SASL, PLAIN("\x21", "\x06") "\0", "#21@01020304 login  () nobody;"),
    CASE(SASL, PLAIN("\x21", "\x07") "\0\0", "#21@01020304 login  () nobody;"),
    CASE(SASL, HEAD("\x21", "\3", "\0", "\4") "FOOx", "#21@01020304 login  () nobody;"),
    CASE(SASL, HEAD("\x21", "\5", "\0", "\x0f") "plain\0user\0pass",
	 "#21@01020304 login user (pass) known;"),
    /* asked to go on */
    CASE(SASL, PLAIN("\x21", "\5") PLAIN("\x22", "\x0f") "\0user\0pass",
	 "#21@01020304 R:0021;#22@01020304 login user (pass) known;"),
    CASE(SASL, PLAIN("\x22", "\x0f") "\0user\0pass", "#22@01020304 login  () nobody;"),
    CASE(SASL, PLAIN("\x21", "\5") PLAIN("\x22", "\5") PLAIN("\x22", "\x0f") "\0user\0pass",
	 "#21@01020304 R:0021;#22@01020304 login  () nobody;#22@01020304 login user (pass) known;"),
    CASE(
	SASL,
	PLAIN("\x21", "\5")
	    PLAIN("\x21", "\x0f") "\0user\0word" PLAIN("\x22", "\x0f") "\0user\0pass",
	"#21@01020304 R:0021;#21@01020304 login user (word) nobody;#22@01020304 login  () nobody;"),
    /* known, and then a wrong password */
    CASE(SASL, PLAIN("\x21", "\x0f") "\0user\0pass" PLAIN("\x21", "\x0f") "\0user\0word" GET_A,
	 "#21@01020304 login user (pass) known;#21@01020304 login user (word) nobody;"
	 "#00@01020304 R:0020;HANGUP;"),
    /* what a stranger may ask, and not */
    CASE(SASL,
	 HEAD("\x0a", "\0", "\0", "\0") HEAD("\x0b", "\0", "\0", "\0")
	     HEAD("\x07", "\0", "\0", "\0"),
	 "#0a@01020304 noop;#0b@01020304 version;#07@01020304 quit;"),
    CASE(SASL, GET_A, "#00@01020304 R:0020;HANGUP;"),
    CASE(SASL, HEAD("\x70", "\0", "\0", "\0"), "#70@01020304 R:0020;HANGUP;"),
    CASE(SASL, HEAD("\x0e", "\1", "\0", "\2") "ab", "#0e@01020304 R:0020;HANGUP;"),
    CASE(SASL, HEAD("\x10", "\0", "\0", "\0"), "#10@01020304 R:0020;HANGUP;"),
    CASE(SASL, HEAD("\x18", "\0", "\0", "\0"), "#18@01020304 R:0020;HANGUP;"),
    CASE(SASL, HEAD("\x20", "\1", "\0", "\1") "a", "#20@01020304 R:0004;HANGUP;"),
    CASE(SASL, HEAD("\x21", "\0", "\0", "\1") "a", "#21@01020304 R:0004;HANGUP;"),
    CASE(TEXT | SASL, IN "get a\r\n", "login user (pass) known;get a;END;"),
    CASE(TEXT | SASL, PLAIN("\x21", "\x0f") "\0user\0pass",
	 "#21@01020304 login user (pass) known;"),
};
#define CASES (sizeof(cases) / sizeof(*cases))

static void run(unsigned how, const char *in, size_t n, size_t step, size_t at, const char *out)
{
	struct harness h;

	h_open(&h);
	proto_lock(&h.p, (how & TEXT) != 0, (how & SASL) != 0);
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

static void cut_anywhere(void **state)
{
	(void)state;
	for (size_t i = 0; i < CASES; i++) {
		run(cases[i].how, cases[i].in, cases[i].n, 0, 0, cases[i].out);
		run(cases[i].how, cases[i].in, cases[i].n, 1, 0, cases[i].out);
		for (size_t at = 1; at < cases[i].n; at++)
			run(cases[i].how, cases[i].in, cases[i].n, 0, at, cases[i].out);
	}
}

/* A block or challenge that does not fit in a line's limit is dropped, not kept. */
static void too_long(void **state)
{
	static char in[8192];
	size_t n;

	(void)state;
	for (uint32_t body = 2000; body < 2050; body++) {
		size_t line = (size_t)sprintf(in, "set x 0 0 %u\r\n", body);

		memset(in + line, 'p', body);
		memcpy(in + line, "user", 4);
		in[line + 4] = ' ';
		memcpy(in + line + body, "\r\nversion\r\n", 11);
		n = line + body + 11;
		if (line + body + 2 > PROTO_LINE_MAX) {
			run(TEXT, in, n, 0, 0, FORMAT "version;");
			run(TEXT, in, n, 1000, 1, FORMAT "version;");
		} else {
			char out[2200];

			in[line + body] = '\0';
			snprintf(out, sizeof(out), "login user (%s) nobody;version;",
				 in + line + 5);
			in[line + body] = '\r';
			run(TEXT, in, n, 0, 0, out);
			run(TEXT, in, n, 1000, 1, out);
		}
	}
}

static void endless(void **state)
{
	static char in[PROTO_LINE_MAX + 2];

	(void)state;
	memset(in, 'x', sizeof(in));
	run(TEXT, in, PROTO_LINE_MAX, 0, 0, "");
	run(TEXT, in, PROTO_LINE_MAX + 1, 0, 0, "HANGUP;");
	memcpy(in, "get ", 4);
	run(TEXT, in, PROTO_LINE_MAX + 1, 7, 0, "HANGUP;");
}

static void long_challenge(void **state)
{
	static char in[70000];
	static const char head[] = PLAIN("\x21", "\0");
	size_t n = sizeof(head) - 1;

	(void)state;
	memcpy(in, head, n);
	in[9] = 1; /* a body of 65536 bytes */
	memset(in + n, 'x', 65531);
	memcpy(in + 24 + 65536, HEAD("\x0a", "\0", "\0", "\0"), 24);
	run(SASL, in, 24 + 65536 + 24, 0, 0, "#21@01020304 login  () nobody;#0a@01020304 noop;");
	run(SASL, in, 24 + 65536 + 24, 999, 0, "#21@01020304 login  () nobody;#0a@01020304 noop;");
	in[3] = 33;
	run(SASL, in, 24 + 65536 + 24, 0, 0, "#21@01020304 R:0004;#0a@01020304 noop;");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(cut_anywhere),
	    cmocka_unit_test(too_long),
	    cmocka_unit_test(endless),
	    cmocka_unit_test(long_challenge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
