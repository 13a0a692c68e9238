/* SPDX-License-Identifier: Apache-2.0 */
/* Envelopes: there and back, and every damage is seen. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/envelope.h"

static const uint8_t key[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static uint8_t *sealed(enum envelope_codec codec, const void *bytes, size_t len, size_t *n)
{
	uint8_t *to = malloc(envelope_room(codec, len)), *exact;

	assert_non_null(to);
	*n = envelope_seal(to, key, codec, bytes, len);
	assert_true(*n >= ENVELOPE_HEAD);
	exact = malloc(*n); /* a sanitizer sees one byte too many */
	assert_non_null(exact);
	memcpy(exact, to, *n);
	free(to);
	return exact;
}

static void there_and_back(void **state)
{
	static const size_t lens[] = {0, 1, 100, 4096, 60000};

	(void)state;
	for (unsigned i = 0; i < sizeof lens / sizeof *lens; i++) {
		for (enum envelope_codec codec = 0; codec < ENVELOPE_CODECS; codec++) {
			uint8_t *bytes = malloc(lens[i] + 1), *back = malloc(lens[i] + 1), *box;
			struct envelope e;
			size_t n;

			for (size_t b = 0; b < lens[i]; b++)
				bytes[b] = (uint8_t)(b % 10 * b / 100);
			box = sealed(codec, bytes, lens[i], &n);
			assert_int_equal(envelope_open(box, n, key, &e), 0);
			assert_int_equal(e.raw_len, lens[i]);
			assert_int_equal(e.codec, lens[i] < 100 ? ENVELOPE_NONE : codec);
			if (e.codec == ENVELOPE_ZSTD)
				assert_true(n - ENVELOPE_HEAD < lens[i]);
			assert_int_equal(envelope_unpack(&e, back), 0);
			assert_memory_equal(back, bytes, lens[i]);
			free(bytes);
			free(back);
			free(box);
		}
	}
	assert_int_equal(envelope_room(ENVELOPE_NONE, (size_t)ENVELOPE_RAW_MAX + 1), 0);
}

/* What lies on disks and in other processes is read for years. */
static void the_format_stays(void **state)
{
	static const uint8_t want[] = {'V', 'S', 'E', 'G', 1,  0,  0,  0,  1,  2,  3, 4, 5, 6,
				       7,   8,   9,   10,  11, 12, 13, 14, 15, 16, 3, 0, 0, 0,
				       0,   0,   0,   0,   3,  0,  0,  0,  0,  0,  0, 0};
	size_t n;
	uint8_t *box = sealed(ENVELOPE_NONE, "abc", 3, &n);

	(void)state;
	assert_int_equal(n, ENVELOPE_HEAD + 3);
	assert_memory_equal(box, want, sizeof want);
	assert_memory_equal(box + ENVELOPE_HEAD, "abc", 3);
	free(box);
}

static void every_damage_is_seen(void **state)
{
	char text[300];
	struct envelope e;

	(void)state;
	memset(text, 'x', sizeof text);
	for (enum envelope_codec codec = 0; codec < ENVELOPE_CODECS; codec++) {
		size_t n;
		uint8_t *box = sealed(codec, text, sizeof text, &n), other[16];

		for (size_t at = 0; at < n; at++) {
			for (unsigned bit = 0; bit < 8; bit++) {
				box[at] ^= (uint8_t)(1u << bit);
				assert_int_equal(envelope_open(box, n, key, &e), -EBADMSG);
				/* key and lengths are compared without the sum, too; the codec is not known */
				if (at != 5 && at < ENVELOPE_HEAD - 8 && (at < 24 || at >= 32))
					assert_int_equal(envelope_open_again(box, n, key, &e),
							 -EBADMSG);
				if (at >= ENVELOPE_HEAD - 8)
					assert_int_equal(envelope_open_again(box, n, key, &e), 0);
				box[at] ^= (uint8_t)(1u << bit);
			}
			assert_int_equal(envelope_open(box, at, key, &e), -EBADMSG);
		}
		memcpy(other, key, 16);
		other[7]++;
		assert_int_equal(envelope_open(box, n, other, &e), -EBADMSG);
		assert_int_equal(envelope_open(box, n, key, &e), 0);
		free(box);
	}
}

/* A sum that is right over what zstd cannot read, or of another length. */
static void packed_wrongly(void **state)
{
	uint8_t packed[300], back[301];
	struct envelope e = {.codec = ENVELOPE_ZSTD, .stored = packed};
	char text[300];
	struct envelope good;
	size_t n;
	uint8_t *box;

	(void)state;
	memset(packed, 7, sizeof packed);
	e.stored_len = sizeof packed;
	e.raw_len = 300;
	assert_int_equal(envelope_unpack(&e, back), -EBADMSG);
	memset(text, 'x', sizeof text);
	box = sealed(ENVELOPE_ZSTD, text, sizeof text, &n);
	assert_int_equal(envelope_open(box, n, key, &good), 0);
	good.raw_len = 299;
	assert_int_equal(envelope_unpack(&good, back), -EBADMSG);
	good.raw_len = 301;
	assert_int_equal(envelope_unpack(&good, back), -EBADMSG);
	free(box);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(there_and_back),
	    cmocka_unit_test(the_format_stays),
	    cmocka_unit_test(every_damage_is_seen),
	    cmocka_unit_test(packed_wrongly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
