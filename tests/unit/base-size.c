/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and durations: every accepted form, every kind of refused text, the edges of 64 bits. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/size.h"

#define UNTOUCHED 0xdeadbeefcafeull

static void accepted_sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} ok[] = {
	    {"0", 0},
	    {"1", 1},
	    {"4096", 4096},
	    {"64k", 65536},
	    {"64K", 65536},
	    {"1m", 1048576},
	    {"100g", 107374182400ull},
	    {"2T", 2199023255552ull},
	    {"007", 7},
	    {"18446744073709551615", UINT64_MAX},
	    {"16777215t", 16777215ull << 40},
	};

	(void)state;
	for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++) {
		uint64_t v = UNTOUCHED;

		assert_int_equal(size_parse(ok[i].text, &v), 0);
		assert_int_equal(v, ok[i].bytes);
	}
}

static void refused_sizes(void **state)
{
	static const struct {
		const char *text;
		int ret;
	} bad[] = {
	    {"", -EINVAL},          {"k", -EINVAL},
	    {" 1", -EINVAL},        {"1 ", -EINVAL},
	    {"1 k", -EINVAL},       {"+1", -EINVAL},
	    {"-1", -EINVAL},        {"1.5g", -EINVAL},
	    {"1kb", -EINVAL},       {"1q", -EINVAL},
	    {"0x10", -EINVAL},      {"1e3", -EINVAL},
	    {"1,000", -EINVAL},     {"18446744073709551616", -ERANGE},
	    {"16777216t", -ERANGE}, {"99999999999999999999999g", -ERANGE},
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		uint64_t v = UNTOUCHED;

		assert_int_equal(size_parse(bad[i].text, &v), bad[i].ret);
		assert_int_equal(v, UNTOUCHED);
	}
}

static void durations(void **state)
{
	static const struct {
		const char *text;
		int ret;
		uint64_t ns;
	} t[] = {
	    {"0", 0, 0},
	    {"0s", 0, 0},
	    {"500us", 0, 500000},
	    {"500ms", 0, 500000000},
	    {"1s", 0, 1000000000},
	    {"5m", 0, 300000000000},
	    {"2h", 0, 7200000000000},
	    {"1", -EINVAL, UNTOUCHED},
	    {"s", -EINVAL, UNTOUCHED},
	    {"", -EINVAL, UNTOUCHED},
	    {"1S", -EINVAL, UNTOUCHED},
	    {"1 s", -EINVAL, UNTOUCHED},
	    {"1d", -EINVAL, UNTOUCHED},
	    {"1.5s", -EINVAL, UNTOUCHED},
	    {"-1s", -EINVAL, UNTOUCHED},
	    {"5124096h", -ERANGE, UNTOUCHED},
	    {"18446744073709551616s", -ERANGE, UNTOUCHED},
	};

	(void)state;
	for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
		uint64_t v = UNTOUCHED;

		assert_int_equal(size_parse_duration(t[i].text, &v), t[i].ret);
		assert_int_equal(v, t[i].ns);
	}
}

static void numbers(void **state)
{
	uint64_t v = UNTOUCHED;

	(void)state;
	assert_int_equal(size_parse_number("11211", &v), 0);
	assert_int_equal(v, 11211);
	assert_int_equal(size_parse_number("11k", &v), -EINVAL);
	assert_int_equal(size_parse_number("", &v), -EINVAL);
	assert_int_equal(size_parse_number("18446744073709551616", &v), -ERANGE);
	assert_int_equal(v, 11211);
}

static void format_reads_back(void **state)
{
	static const uint64_t n[] = {
	    0,          1,          1000,      1023, 1024, 1025, 40960, 1048576, 107374182400ull,
	    1ull << 40, 1ull << 50, UINT64_MAX};
	char buf[SIZE_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof n / sizeof n[0]; i++) {
		uint64_t v = UNTOUCHED;

		assert_int_equal(size_parse(size_format(buf, sizeof buf, n[i]), &v), 0);
		assert_int_equal(v, n[i]);
	}
	assert_string_equal(size_format(buf, sizeof buf, 40960), "40k");
	assert_string_equal(size_format(buf, sizeof buf, 1ull << 30), "1g");
	assert_string_equal(size_format(buf, sizeof buf, 1000), "1000");
	assert_string_equal(size_format(buf, sizeof buf, 0), "0");
}

static void human(void **state)
{
	char buf[SIZE_TEXT_MAX];

	(void)state;
	assert_string_equal(size_human(buf, sizeof buf, 0), "0");
	assert_string_equal(size_human(buf, sizeof buf, 999), "999");
	assert_string_equal(size_human(buf, sizeof buf, 1536), "1.50k");
	assert_string_equal(size_human(buf, sizeof buf, 12.34 * 1048576), "12.3m");
	assert_string_equal(size_human(buf, sizeof buf, 1023.0 * 1048576), "1.00g");
	assert_string_equal(size_human(buf, sizeof buf, 250.0 * 1073741824), "250g");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(accepted_sizes),    cmocka_unit_test(refused_sizes),
	    cmocka_unit_test(durations),         cmocka_unit_test(numbers),
	    cmocka_unit_test(format_reads_back), cmocka_unit_test(human),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
