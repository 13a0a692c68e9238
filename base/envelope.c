/* SPDX-License-Identifier: Apache-2.0 */
/* Envelopes; see envelope.h. */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/assert.h"
#include "base/envelope.h"
#include "base/xxh.h"

#define MAGIC      0x47455356u /* "VSEG" */
#define VERSION    1u
#define AT_SUM     40u
#define ZSTD_LEVEL 3

_Static_assert(AT_SUM + 8 == ENVELOPE_HEAD, "the sum ends the header");

static void put64(uint8_t *to, uint64_t v)
{
	v = htole64(v);
	memcpy(to, &v, sizeof v);
}

static uint64_t get64(const uint8_t *from)
{
	uint64_t v;

	memcpy(&v, from, sizeof v);
	return le64toh(v);
}

static void put_head(uint8_t head[AT_SUM], const uint8_t key[16], enum envelope_codec codec,
		     uint64_t raw_len, uint64_t stored_len)
{
	const uint32_t magic = htole32(MAGIC);

	memset(head, 0, AT_SUM);
	memcpy(head, &magic, sizeof magic);
	head[4] = VERSION;
	head[5] = (uint8_t)codec;
	memcpy(head + 8, key, 16);
	put64(head + 24, raw_len);
	put64(head + 32, stored_len);
}

/* The sum of the header seeds that of the rest. */
static uint64_t sum(const uint8_t *head, const void *stored, size_t len)
{
	return XXH3_64bits_withSeed(stored, len, XXH3_64bits(head, AT_SUM));
}

size_t envelope_room(enum envelope_codec codec, size_t len)
{
	if (len > ENVELOPE_RAW_MAX)
		return 0;
	return ENVELOPE_HEAD + (codec == ENVELOPE_ZSTD ? ZSTD_compressBound(len) : len);
}

size_t envelope_seal(void *to, const uint8_t key[16], enum envelope_codec codec, const void *bytes,
		     size_t len)
{
	uint8_t *head = to, *stored = head + ENVELOPE_HEAD;
	size_t n = len;

	A(len <= ENVELOPE_RAW_MAX);
	if (codec == ENVELOPE_ZSTD) {
		n = ZSTD_compress(stored, ZSTD_compressBound(len), bytes, len, ZSTD_LEVEL);
		if (ZSTD_isError(n))
			return 0;
	}
	if (codec == ENVELOPE_NONE || n >= len) {
		codec = ENVELOPE_NONE;
		n = len;
		if (len > 0)
			memcpy(stored, bytes, len);
	}
	put_head(head, key, codec, len, n);
	put64(head + AT_SUM, sum(head, stored, n));
	return ENVELOPE_HEAD + n;
}

int envelope_open_again(const void *bytes, size_t len, const uint8_t key[16], struct envelope *e)
{
	const uint8_t *head = bytes;
	uint8_t want[AT_SUM];
	uint64_t raw_len;

	if (len < ENVELOPE_HEAD || head[5] >= ENVELOPE_CODECS)
		return -EBADMSG;
	/* all but the raw length is known; that is checked for what is done with it, and by the sum */
	raw_len = get64(head + 24);
	put_head(want, key, head[5], raw_len, len - ENVELOPE_HEAD);
	if (memcmp(want, head, AT_SUM) != 0 || raw_len > ENVELOPE_RAW_MAX ||
	    (head[5] == ENVELOPE_NONE && raw_len != len - ENVELOPE_HEAD))
		return -EBADMSG;
	*e = (struct envelope){head[5], raw_len, len - ENVELOPE_HEAD, head + ENVELOPE_HEAD};
	return 0;
}

int envelope_open(const void *bytes, size_t len, const uint8_t key[16], struct envelope *e)
{
	const uint8_t *head = bytes;
	struct envelope opened;

	if (envelope_open_again(bytes, len, key, &opened) != 0 ||
	    sum(head, opened.stored, opened.stored_len) != get64(head + AT_SUM))
		return -EBADMSG;
	*e = opened;
	return 0;
}

int envelope_unpack(const struct envelope *e, void *to)
{
	size_t n;

	if (e->codec == ENVELOPE_NONE) {
		if (e->raw_len > 0)
			memcpy(to, e->stored, e->raw_len);
		return 0;
	}
	n = ZSTD_decompress(to, e->raw_len, e->stored, e->stored_len);
	if (ZSTD_isError(n))
		return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? -ENOMEM : -EBADMSG;
	return n == e->raw_len ? 0 : -EBADMSG;
}
