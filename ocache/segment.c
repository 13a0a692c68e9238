/* SPDX-License-Identifier: Apache-2.0 */
/* Segment ids as text, bytes that are counted by references, names; see tier.h. Any thread. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/assert.h"
#include "ocache/spare.h"
#include "ocache/tier.h"

#define BUF_MAGIC 0x5e6b0f11u

char *seg_id_format(struct seg_id id, char text[SEG_ID_TEXT])
{
	static const char hex[] = "0123456789abcdef";
	unsigned at = 0;

	for (unsigned digit = 0; digit < 32; digit++) {
		uint64_t half = digit < 16 ? id.hi : id.lo;

		if (digit == 8 || digit == 12 || digit == 16 || digit == 20)
			text[at++] = '-';
		text[at++] = hex[half >> (60 - 4 * (digit & 15)) & 15];
	}
	text[at] = '\0';
	return text;
}

int seg_id_parse(const char *text, struct seg_id *id)
{
	uint64_t half[2] = {0, 0};
	unsigned digit = 0;

	for (unsigned at = 0; at < SEG_ID_TEXT - 1; at++) {
		char c = text[at];
		unsigned v;

		if (at == 8 || at == 13 || at == 18 || at == 23) {
			if (c != '-')
				return -EINVAL;
			continue;
		}
		if (c >= '0' && c <= '9')
			v = (unsigned)(c - '0');
		else if (c >= 'a' && c <= 'f')
			v = (unsigned)(c - 'a') + 10;
		else if (c >= 'A' && c <= 'F')
			v = (unsigned)(c - 'A') + 10;
		else
			return -EINVAL; /* also the end of text */
		half[digit / 16] = half[digit / 16] << 4 | v;
		digit++;
	}
	if (text[SEG_ID_TEXT - 1] != '\0')
		return -EINVAL;
	id->hi = half[0];
	id->lo = half[1];
	return 0;
}

struct seg_buf {
	uint32_t magic;
	_Atomic uint32_t refs;
	void *data;
	size_t len, room;                         /* room: of all, for spare_free() */
	void (*free_data)(void *data, void *ctx); /* NULL: the data stands behind this struct */
	void *ctx;
};

static struct seg_buf *buf_new(size_t extra)
{
	struct seg_buf *b;
	size_t room;

	if (extra > SIZE_MAX - sizeof *b)
		return NULL;
	b = spare_malloc(sizeof *b + extra, &room);
	if (b == NULL)
		return NULL;
	b->room = room;
	b->magic = BUF_MAGIC;
	atomic_init(&b->refs, 1);
	return b;
}

struct seg_buf *seg_buf_new(size_t len)
{
	struct seg_buf *b = buf_new(len);

	if (b == NULL)
		return NULL;
	b->data = b + 1;
	b->len = len;
	b->free_data = NULL;
	b->ctx = NULL;
	return b;
}

struct seg_buf *seg_buf_wrap(void *data, size_t len, void (*free_data)(void *data, void *ctx),
			     void *ctx)
{
	struct seg_buf *b = buf_new(0);

	if (b == NULL)
		return NULL;
	b->data = data;
	b->len = len;
	b->free_data = free_data;
	b->ctx = ctx;
	return b;
}

struct seg_buf *seg_buf_hold(struct seg_buf *b)
{
	MAGIC_OK(b, BUF_MAGIC);
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

void seg_buf_drop(struct seg_buf *b)
{
	if (b == NULL)
		return;
	MAGIC_OK(b, BUF_MAGIC);
	if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (b->free_data != NULL)
		b->free_data(b->data, b->ctx);
	b->magic = 0;
	spare_free(b, b->room);
}

void *seg_buf_data(const struct seg_buf *b)
{
	MAGIC_OK(b, BUF_MAGIC);
	return b->data;
}

size_t seg_buf_len(const struct seg_buf *b)
{
	MAGIC_OK(b, BUF_MAGIC);
	return b->len;
}

void seg_buf_cut(struct seg_buf *b, size_t len)
{
	MAGIC_OK(b, BUF_MAGIC);
	A(len <= b->len);
	b->len = len;
}

bool tier_key_ok(const char *key)
{
	size_t n = 0;

	for (; key[n] != '\0' && n <= TIER_KEY_MAX; n++)
		if (!(key[n] >= 'a' && key[n] <= 'z') && !(key[n] >= '0' && key[n] <= '9') &&
		    key[n] != '-')
			return false;
	return n > 0 && n <= TIER_KEY_MAX && key[0] >= 'a';
}
