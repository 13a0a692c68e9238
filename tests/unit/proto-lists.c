/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key lists of any length and lines without end: memory stays bounded, a list that is wholly in the
 * window is validated before its first key, a longer one gives its error after the keys so far,
 * and what is not a list is hung up on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/unit/proto_harness.h"

struct text {
	char *s;
	size_t n, cap;
};

static void add(struct text *t, const char *s)
{
	size_t n = strlen(s);

	if (t->n + n + 1 > t->cap) {
		t->cap = (t->n + n + 1) * 2;
		t->s = realloc(t->s, t->cap);
		assert_non_null(t->s);
	}
	memcpy(t->s + t->n, s, n + 1);
	t->n += n;
}

static void fill(struct text *t, char c, size_t n)
{
	char one[2] = {c, '\0'};

	for (size_t i = 0; i < n; i++)
		add(t, one);
}

/* Feeds in pieces of `step` bytes. */
static void run(const struct text *in, size_t step, const char *want)
{
	struct harness h;

	h_open(&h);
	for (size_t at = 0; at < in->n; at += step)
		h_feed(&h, in->s + at, in->n - at < step ? in->n - at : step);
	if (strcmp(h.out, want) != 0)
		print_error("pieces of %zu\n", step);
	assert_string_equal(h.out, want);
	assert_in_range(h.leftover_max, 0, PROTO_LINE_MAX);
	h_close(&h);
}

static const size_t steps[] = {1, 7, 100, 2047, 2048, 2049, 4096, 10007, 1 << 20};
#define NSTEPS (sizeof(steps) / sizeof(*steps))

static void ten_thousand_keys(void **state)
{
	static const char *const heads[] = {"get", "gets", "gat", "gats"};

	(void)state;
	for (unsigned h = 0; h < 4; h++) {
		struct text in = {0}, want = {0};
		char buf[64];

		add(&in, heads[h]);
		add(&in, h >= 2 ? " -1" : "");
		for (unsigned i = 0; i < 10000; i++) {
			snprintf(buf, sizeof(buf), " key-%u", i);
			add(&in, buf);
			snprintf(buf, sizeof(buf), "%s%s key-%u;", heads[h], h >= 2 ? "!" : "", i);
			add(&want, buf);
		}
		add(&in, " \r\nversion\r\n");
		add(&want, "END;version;");
		for (size_t s = 0; s < NSTEPS; s++)
			run(&in, steps[s], want.s);
		free(in.s);
		free(want.s);
	}
}

#define BAD "R:CLIENT_ERROR bad command line format;"

/* Thirty good keys, one too long, one good. */
static void long_key_late(void **state)
{
	struct text in = {0}, late = {0};
	struct harness h;

	(void)state;
	add(&in, "get");
	for (unsigned i = 0; i < 30; i++) {
		add(&in, " ");
		fill(&in, 'k', 100);
		add(&late, "get ");
		fill(&late, 'k', 100);
		add(&late, ";");
	}
	add(&in, " ");
	fill(&in, 'x', 251);
	add(&in, " b\r\nversion\r\n");
	add(&late, BAD "version;");
	/* It comes in pieces: the error follows the keys, and the rest of the line is dropped. */
	run(&in, 1, late.s);
	run(&in, 500, late.s);
	run(&in, 2049, late.s);
	/* It is here at once: the error alone. */
	run(&in, in.n, BAD "version;");
	/* The same in the last word, and with a bare line feed. */
	h_open(&h);
	h_feed(&h, in.s, in.n - strlen(" b\r\nversion\r\n"));
	h_feed(&h, "\nversion\r\n", 10);
	assert_string_equal(h.out, late.s);
	h_close(&h);
	free(in.s);
	free(late.s);
}

/* A key without an end, after one that was given: the answer takes bytes, as every answer does. */
static void endless_key_late(void **state)
{
	struct text in = {0};

	(void)state;
	add(&in, "get a ");
	fill(&in, 'k', 5000);
	for (size_t s = 0; s < NSTEPS; s++)
		run(&in, steps[s], "get a;" BAD);
	add(&in, " b\r\nversion\r\n");
	run(&in, 3000, "get a;" BAD "version;");
	free(in.s);
}

static void endless_key(void **state)
{
	struct text in = {0};

	(void)state;
	add(&in, "get ");
	fill(&in, 'k', 1000000);
	for (size_t s = 0; s < NSTEPS; s++)
		if (steps[s] > 1)
			run(&in, steps[s], BAD);
	add(&in, "\r\nversion\r\n");
	for (size_t s = 0; s < NSTEPS; s++)
		if (steps[s] > 1)
			run(&in, steps[s], BAD "version;");
	free(in.s);
}

static void endless_spaces(void **state)
{
	struct text in = {0};

	(void)state;
	add(&in, "get a");
	fill(&in, ' ', 100000);
	run(&in, 1000, "get a;");
	add(&in, "b\r\nversion\r\n");
	run(&in, 1000, "get a;get b;END;version;");
	run(&in, in.n, "get a;get b;END;version;");
	free(in.s);
}

static void endless_lines(void **state)
{
	static const char *const heads[] = {"set a 0 0 1 ", "x",    "stats ", "mg a v ", "",
					    "getx a ",      "gat ", "get",    "gat  "};

	(void)state;
	for (unsigned i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
		struct text in = {0};

		add(&in, heads[i]);
		if (strcmp(heads[i], "gat  ") == 0)
			fill(&in, ' ', 3000);
		fill(&in, 'y', 5000);
		for (size_t s = 0; s < NSTEPS; s++)
			run(&in, steps[s], "HANGUP;");
		/* The end of the line comes too late to change that. */
		add(&in, "\r\nversion\r\n");
		if (strcmp(heads[i], "gat ") != 0 && strcmp(heads[i], "gat  ") != 0)
			for (size_t s = 0; s < NSTEPS; s++)
				run(&in, steps[s], "HANGUP;");
		free(in.s);
	}
}

/* The longest line that is still a line, and one byte more. */
static void line_limit(void **state)
{
	struct text in = {0};
	struct harness h;

	(void)state;
	add(&in, "stats ");
	fill(&in, 'x', PROTO_LINE_MAX - 7);
	add(&in, "\r\n");
	assert_int_equal(in.n, PROTO_LINE_MAX + 1);
	for (size_t s = 0; s < NSTEPS; s++) {
		h_open(&h);
		for (size_t at = 0; at < in.n; at += steps[s])
			h_feed(&h, in.s + at, in.n - at < steps[s] ? in.n - at : steps[s]);
		assert_memory_equal(h.out, "stats (xxx", 10);
		assert_false(h.dead);
		h_close(&h);
	}
	in.n = 0;
	add(&in, "stats ");
	fill(&in, 'x', PROTO_LINE_MAX - 6);
	add(&in, "\r\n");
	for (size_t s = 0; s < NSTEPS; s++)
		run(&in, steps[s], "HANGUP;");
	free(in.s);
}

/* A refused block of 2 GB is dropped without being held, in whatever pieces. */
static void big_swallow(void **state)
{
	struct harness h;
	struct proto_request req;
	size_t used;
	uint64_t left = 2147483645ull + 2;
	static char junk[1 << 16];

	(void)state;
	h_open(&h);
	memset(junk, '\n', sizeof(junk));
	h_feed(&h, "append a 0 0 2147483645\r\n", 25);
	assert_string_equal(h.out, "");
	while (left > sizeof(junk)) {
		assert_int_equal(proto_parse(&h.p, junk, sizeof(junk), &used, &req), PROTO_MORE);
		assert_int_equal(used, sizeof(junk));
		left -= used;
	}
	h_feed(&h, junk, (size_t)left);
	h_feed(&h, "version\r\n", 9);
	assert_string_equal(h.out, "R:CLIENT_ERROR bad data chunk;version;");
	h_close(&h);
}

/* After a hang-up nothing is parsed any more. */
static void dead_stays_dead(void **state)
{
	struct proto p = {0};
	struct proto_request req;
	size_t used;

	(void)state;
	assert_int_equal(proto_parse(&p, "\x16\x03", 2, &used, &req), PROTO_HANGUP);
	assert_int_equal(proto_parse(&p, "version\r\n", 9, &used, &req), PROTO_HANGUP);
	assert_int_equal(used, 0);
	assert_int_equal(proto_parse(&p, "", 0, &used, &req), PROTO_HANGUP);
	assert_int_equal(req.reply_len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(ten_thousand_keys), cmocka_unit_test(long_key_late),
	    cmocka_unit_test(endless_key),       cmocka_unit_test(endless_key_late),
	    cmocka_unit_test(endless_spaces),    cmocka_unit_test(endless_lines),
	    cmocka_unit_test(line_limit),        cmocka_unit_test(big_swallow),
	    cmocka_unit_test(dead_stays_dead),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
