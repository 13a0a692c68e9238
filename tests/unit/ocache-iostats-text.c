/* SPDX-License-Identifier: Apache-2.0 */
/* EDN and JSON of io-stats: both samples of the documents, what is kept, what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ocache/iostats.h"

typedef int reader(const char *, size_t, struct iostats_map **);
typedef char *writer(const struct iostats_map *);

static struct iostats_map *read_ok(reader *read, const char *text)
{
	struct iostats_map *map;
	/* exactly its bytes, so that a sanitizer sees one too many */
	char *copy = malloc(strlen(text));

	assert_non_null(copy);
	memcpy(copy, text, strlen(text));
	if (read(copy, strlen(text), &map) != 0)
		fail_msg("not read: %s", text);
	free(copy);
	return map;
}

static void assert_written(writer *write, const struct iostats_map *map, const char *want)
{
	char *text = write(map);

	assert_non_null(text);
	assert_string_equal(text, want);
	free(text);
}

static const char pro[] = "{:io-context :artist/by-name, :api :query, :api-ms 105.08, :reads "
			  "{:dir 1, :avet 2, :valcache-direct 2, :efs 2, :efs-ms 26.27, "
			  ":valcache 2, :dir-load 1, :valcache-ms 50.57, :avet-load 2, :ocache 2}}";

static const char cloud[] =
    "{\"IoContext\": \"DbTx\", \"Api\": \"TxWith\", \"ApiMs\": 4.86, \"Reads\": {\"Avet\": 2, "
    "\"Aevt\": 3, \"ValcacheDirectMs\": 0.14, \"Ocache\": 5, \"ValcacheDirect\": 2}}";

static void samples_there_and_back(void **state)
{
	struct iostats_map *map = read_ok(iostats_edn_read, pro);

	(void)state;
	assert_string_equal(iostats_map_name(map, "io-context"), "artist/by-name");
	assert_true(iostats_map_number(map, "reads efs-ms") == 26.27);
	assert_written(iostats_edn, map, pro);
	iostats_map_free(map);
	map = read_ok(iostats_json_read, cloud);
	assert_string_equal(iostats_map_name(map, "api"), "tx-with");
	assert_true(iostats_map_number(map, "reads valcache-direct") == 2);
	assert_true(iostats_map_number(map, "reads valcache-direct-ms") == 0.14);
	assert_written(iostats_json, map, cloud);
	assert_written(
	    iostats_edn, map,
	    "{:io-context :db-tx, :api :tx-with, :api-ms 4.86, :reads {:avet 2, :aevt 3, "
	    ":valcache-direct-ms 0.14, :ocache 5, :valcache-direct 2}}");
	iostats_map_free(map);
	/* as it is printed, with a comma missing */
	map = read_ok(iostats_edn_read, "{:api :tx, :api-ms 5 :reads {:ocache 2}}");
	assert_written(iostats_edn, map, "{:api :tx, :api-ms 5, :reads {:ocache 2}}");
	assert_written(iostats_json, map,
		       "{\"Api\": \"Tx\", \"ApiMs\": 5, \"Reads\": {\"Ocache\": 2}}");
	iostats_map_free(map);
}

static void namespaces_are_joined(void **state)
{
	struct iostats_map *map = read_ok(iostats_edn_read, "{:io-context :db/tx}");

	(void)state;
	assert_written(iostats_json, map, "{\"IoContext\": \"DbTx\"}");
	iostats_map_free(map);
}

/* What a later version, or somebody else, has written. */
static void unknown_keys_are_kept(void **state)
{
	static const char edn[] =
	    "{:api :query, :why \"say \\\"so\\\"\\n\", :at #inst \"2022-03-29\", :list (1 -2.5e3 5N 2.5M), "
	    ":set #{:a b/c}, :v [nil true false \\a \\newline], \"text\" {:x {}}, 7 8}";
	static const char json[] =
	    "{\"Api\": \"Query\", \"why\": \"say \\\"so\\\"\\n\", \"List\": [1, -2.5e3, null, true, false, "
	    "{}], \"Text\": \"Pascal\", \"odd key\": {\"X\": {}}}";
	struct iostats_map *map = read_ok(iostats_edn_read, edn);

	(void)state;
	assert_written(iostats_edn, map, edn);
	assert_written(
	    iostats_json, map,
	    "{\"Api\": \"Query\", \"Why\": \"say \\\"so\\\"\\n\", \"At\": \"2022-03-29\", \"List\": [1, "
	    "-2.5e3, 5, 2.5], \"Set\": [\"A\", \"b/c\"], \"V\": [null, true, false, \"\\\\a\", "
	    "\"\\\\newline\"], \"text\": {\"X\": {}}, \"7\": 8}");
	iostats_map_free(map);
	map = read_ok(iostats_json_read, json);
	assert_written(iostats_json, map, json);
	iostats_map_free(map);
}

static void comments_and_discarded(void **state)
{
	struct iostats_map *map = read_ok(
	    iostats_edn_read, " ;first\n{#_ {:x 1} :a #_ 3 1 ; last }\n,:b #_#_ 2 3 4} #_ z ;");

	(void)state;
	assert_written(iostats_edn, map, "{:a 1, :b 4}");
	iostats_map_free(map);
}

static void escapes(void **state)
{
	struct iostats_map *map =
	    read_ok(iostats_json_read, "{\"A\": \"\\u00e9\\uD83D\\ude00\\/\\b\\t\"}");

	(void)state;
	assert_string_equal(iostats_map_name(map, "a"), "\xc3\xa9\xf0\x9f\x98\x80/\b\t");
	assert_written(iostats_json, map, "{\"A\": \"\xc3\xa9\xf0\x9f\x98\x80/\\u0008\\t\"}");
	iostats_map_free(map);
}

static void assert_refused(reader *read, const char *text)
{
	struct iostats_map *map;
	int err = read(text, strlen(text), &map);

	if (err != -EINVAL)
		fail_msg("%d, not -EINVAL: %s", err, text);
	assert_null(map);
}

static void bad_texts(void **state)
{
	static const char *const edn[] = {
	    "",        "{",          "}",        "{:a}",    "{:a 1} {}",    "[1]",
	    "{:a 01}", "{:a 1.2.3}", "{: 1}",    "{:a \"}", "{:a \"\\q\"}", "{:a (1]}",
	    "{:a #}",  "{:a 1e}",    "{:a 1/2}", "{::a 1}", "{:a \\",       "{:a \"\\ud800\"}",
	    "{:a #_}", "#_ {}",      ":a",       "nil",     "{:a 1} x",     "{:a #1 2}",
	};
	static const char *const json[] = {
	    "",
	    "{",
	    "{\"A\"}",
	    "{\"A\": 1,}",
	    "{\"A\": 01}",
	    "{A: 1}",
	    "[]",
	    "{} {}",
	    "{\"A\": 1.}",
	    "{\"A\": +1}",
	    "{\"A\": 1e}",
	    "{\"A\": \"\n\"}",
	    "{\"A\": [1,]}",
	    "{\"A\" 1}",
	    "{\"A\": nul}",
	    "{\"A\": \"\\u12\"}",
	    "{\"A\": tru",
	    "1",
	};

	(void)state;
	for (size_t i = 0; i < sizeof edn / sizeof *edn; i++)
		assert_refused(iostats_edn_read, edn[i]);
	for (size_t i = 0; i < sizeof json / sizeof *json; i++)
		assert_refused(iostats_json_read, json[i]);
}

/* No text cut short, and none with a byte changed, does more than fail. */
static void damaged_texts(void **state)
{
	static const char *const texts[] = {pro, cloud};
	static reader *const readers[] = {iostats_edn_read, iostats_json_read};

	(void)state;
	for (unsigned t = 0; t < 2; t++) {
		size_t len = strlen(texts[t]);

		for (size_t n = 0; n < len; n++) {
			char *copy = malloc(len);
			struct iostats_map *map;

			assert_non_null(copy);
			memcpy(copy, texts[t], len);
			assert_int_equal(readers[t](copy, n, &map), -EINVAL);
			for (unsigned c = 0; c < 256; c += 7) {
				copy[n] = (char)c;
				if (readers[t](copy, len, &map) == 0)
					free(iostats_edn(map));
				iostats_map_free(map);
			}
			free(copy);
		}
	}
}

static void deep_texts(void **state)
{
	char text[1000];

	(void)state;
	for (unsigned depth = 2; depth < 100; depth++) {
		struct iostats_map *map;
		size_t n = 0;

		n += (size_t)sprintf(text, "{\"A\": ");
		memset(text + n, '[', depth - 1);
		n += depth - 1;
		memset(text + n, ']', depth - 1);
		n += depth - 1;
		text[n++] = '}';
		assert_int_equal(iostats_json_read(text, n, &map), depth <= 64 ? 0 : -EINVAL);
		iostats_map_free(map);
		memcpy(text, "{:a  ", 5);
		text[5] = ' ';
		assert_int_equal(iostats_edn_read(text, n, &map), depth <= 64 ? 0 : -EINVAL);
		iostats_map_free(map);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(samples_there_and_back),
	    cmocka_unit_test(namespaces_are_joined),
	    cmocka_unit_test(unknown_keys_are_kept),
	    cmocka_unit_test(comments_and_discarded),
	    cmocka_unit_test(escapes),
	    cmocka_unit_test(bad_texts),
	    cmocka_unit_test(damaged_texts),
	    cmocka_unit_test(deep_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
