/* SPDX-License-Identifier: Apache-2.0 */
/* From bytes to a segment, and looking things up in it; see segment.h. */
#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "datoms/segment_int.h"

/* What the head says, checked against the length of all. */
struct head {
	enum segment_level level;
	enum datom_sort sort;
	uint32_t n, count[VALUE_TYPES], texts, text_bytes;
	bool one_type;
	struct packed {
		uint64_t base;
		uint32_t len, n;
		uint8_t width;
		const uint8_t *bytes;
	} col[COLS];
	const uint8_t *text, *ids;
};

/* ---- the head ---- */

static int head_counts(const uint8_t *bytes, size_t len, struct head *h)
{
	uint64_t sum = 0;

	if (len < SEGMENT_HEAD || len > INT32_MAX || bytes[AT_VERSION] != SEGMENT_VERSION ||
	    bytes[AT_LEVEL] >= SEGMENT_LEVELS || bytes[AT_SORT] >= DATOM_SORTS ||
	    bytes[AT_ZERO] != 0 || get4(bytes + AT_ZEROS) != 0)
		return -EBADMSG;
	h->level = (enum segment_level)bytes[AT_LEVEL];
	h->sort = (enum datom_sort)bytes[AT_SORT];
	h->n = get4(bytes + AT_N);
	h->one_type = false;
	for (unsigned i = 0; i < VALUE_TYPES; i++) {
		h->count[i] = get4(bytes + AT_COUNTS + (size_t)4 * i);
		h->one_type |= h->count[i] == h->n;
		sum += h->count[i];
	}
	/* strings and keywords share a column, in which a datom of one type has not its own number */
	h->texts = get4(bytes + AT_TEXTS);
	h->text_bytes = get4(bytes + AT_TEXT_BYTES);
	if (h->n == 0 || h->n > SEGMENT_DATOMS_MAX || sum != h->n ||
	    h->texts > h->count[VALUE_STRING] + h->count[VALUE_KEYWORD] || h->text_bytes > len)
		return -EBADMSG;
	return 0;
}

static int head_read(const uint8_t *bytes, size_t len, struct head *h)
{
	int err = head_counts(bytes, len, h);
	size_t at = SEGMENT_HEAD;

	if (err != 0)
		return err;
	for (unsigned i = 0; i < COLS; i++) {
		const uint8_t *head = bytes + AT_COLUMNS + (size_t)COLUMN_HEAD * i;
		struct packed *p = &h->col[i];

		p->base = get8(head);
		p->len = get4(head + 8);
		p->width = head[12];
		p->bytes = bytes + at;
		p->n = i < COL_LONG    ? h->n
		       : i < COL_TEXT  ? h->count[i - COL_LONG + VALUE_LONG]
		       : i == COL_TEXT ? h->count[VALUE_STRING] + h->count[VALUE_KEYWORD]
				       : h->texts;
		if (head[13] != 0 || head[14] != 0 || head[15] != 0 || p->width > 8 ||
		    (p->width & (p->width - 1)) != 0 || (p->width == 0 && p->len != 0) ||
		    (p->n == 0 && p->width != 0) || p->len > len - at)
			return -EBADMSG;
		at += p->len;
	}
	h->text = bytes + at;
	if (h->text_bytes > len - at)
		return -EBADMSG;
	at += h->text_bytes;
	h->ids = bytes + at;
	if (len - at != (h->level == SEGMENT_LEAF ? 0 : (size_t)16 * h->n))
		return -EBADMSG;
	return 0;
}

/* ---- the object ---- */

static size_t up8(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

/* Each count is at most 65,535, and the texts' bytes are at most those of the segment. */
static size_t object_size(const struct head *h)
{
	size_t size = up8(sizeof(struct segment));

	for (unsigned i = 0; i < COL_TEXT_LEN; i++)
		size += up8((size_t)h->col[i].n * h->col[i].width);
	if (!h->one_type)
		size += up8((size_t)h->n * sizeof(uint16_t));
	size += up8(((size_t)h->texts + 1) * sizeof(uint32_t)) + up8(h->text_bytes);
	if (h->level != SEGMENT_LEAF)
		size += (size_t)h->n * sizeof(struct seg_id);
	return size;
}

/* The next len bytes of the object. */
static void *take(uint8_t **room, size_t len)
{
	uint8_t *at = *room;

	*room += up8(len);
	return at;
}

static int unpack(const struct packed *p, uint8_t **room, struct column *c)
{
	void *at = take(room, (size_t)p->n * p->width);

	*c = (struct column){.base = p->base, .at = at, .n = p->n, .width = p->width};
	return p->width == 0 ? 0 : column_unpack(p->bytes, p->len, p->n, p->width, at);
}

/*
 * The types are what the head counts; slots, if there are several. Four counters in one word, of which none can
 * run into the next: there are at most 65,535 datoms. Keywords are in the column of strings.
 */
static int read_types(const struct head *h, struct segment *s, uint8_t **room)
{
	static const uint8_t shift[8] = {[VALUE_LONG] = 0,
					 [VALUE_INSTANT] = 16,
					 [VALUE_REF] = 32,
					 [VALUE_STRING] = 48,
					 [VALUE_KEYWORD] = 48};
	uint64_t seen = 0, want = 0, base = s->type.base;
	const uint8_t *type = s->type.at;
	bool good = true;
	uint16_t *slot;

	if (h->one_type) /* then all are the same: one look is enough */
		return s->type.width == 0 && base < VALUE_TYPES && h->count[base] == h->n
			   ? 0
			   : -EBADMSG;
	if (s->type.width != 1 || base >= VALUE_TYPES)
		return -EBADMSG;
	slot = take(room, (size_t)h->n * sizeof *slot);
	for (uint32_t i = 0; i < h->n; i++) {
		unsigned at = (unsigned)base + type[i];

		good &= at < VALUE_TYPES;
		slot[i] = (uint16_t)(seen >> shift[at & 7]);
		seen += 1ull << shift[at & 7];
	}
	for (unsigned i = 0; i < VALUE_TYPES; i++)
		want += (uint64_t)h->count[i] << shift[i];
	s->slot = slot;
	return good && seen == want ? 0 : -EBADMSG;
}

/* Is every value at most `most`? */
static bool at_most(const struct column *c, uint64_t most)
{
	uint64_t widest = c->width == 0 ? 0 : UINT64_MAX >> (64 - 8 * c->width);

	if (c->base > most || widest <= most - c->base)
		return c->base <= most;
	for (uint32_t i = 0; i < c->n; i++) {
		uint64_t v = column_get(c, i);

		if (v > most || v < c->base)
			return false;
	}
	return true;
}

static int read_texts(const struct head *h, struct segment *s, uint8_t **room)
{
	const struct packed *p = &h->col[COL_TEXT_LEN];
	uint32_t *text_at = take(room, ((size_t)h->texts + 1) * sizeof *text_at);
	char *texts = take(room, h->text_bytes);
	struct column len = {.base = p->base, .width = p->width, .at = text_at};
	uint32_t at = 0;

	/* lengths are at most 4096, so 2 bytes are enough, and are read where places will be */
	if (p->width > 2 ||
	    (p->width != 0 && column_unpack(p->bytes, p->len, p->n, p->width, text_at) != 0))
		return -EBADMSG;
	if (p->width != 0) { /* from the end on, where what is written has been read */
		for (uint32_t i = h->texts; i-- > 0;) {
			uint64_t v = column_get(&len, i);

			text_at[i] = v > SEGMENT_TEXT_MAX ? UINT32_MAX : (uint32_t)v;
		}
	} else {
		for (uint32_t i = 0; i < h->texts; i++)
			text_at[i] = p->base > SEGMENT_TEXT_MAX ? UINT32_MAX : (uint32_t)p->base;
	}
	for (uint32_t i = 0; i < h->texts; i++) {
		uint32_t n = text_at[i];

		if (n > h->text_bytes - at)
			return -EBADMSG;
		text_at[i] = at;
		at += n;
	}
	text_at[h->texts] = at;
	if (at != h->text_bytes)
		return -EBADMSG;
	memcpy(texts, h->text, h->text_bytes);
	s->text_at = text_at;
	s->texts = texts;
	s->texts_count = h->texts;
	if (s->text.n == 0)
		return 0;
	return h->texts > 0 && at_most(&s->text, h->texts - 1) ? 0 : -EBADMSG;
}

static int read_rest(const struct head *h, struct segment *s, uint8_t **room)
{
	struct seg_id *child;

	if (!at_most(&s->added, 1) || !at_most(&s->a, UINT32_MAX))
		return -EBADMSG;
	if (h->level == SEGMENT_LEAF)
		return 0;
	child = take(room, (size_t)h->n * sizeof *child);
	for (uint32_t i = 0; i < h->n; i++) {
		child[i].hi = be64toh(htole64(get8(h->ids + (size_t)16 * i)));
		child[i].lo = be64toh(htole64(get8(h->ids + (size_t)16 * i + 8)));
	}
	s->child = child;
	return 0;
}

int segment_decode(const void *bytes, size_t len, struct segment **out, size_t *size)
{
	struct segment *s;
	uint8_t *room;
	struct head h;
	size_t need;
	int err = head_read(bytes, len, &h);

	if (err != 0)
		return err;
	need = object_size(&h);
	s = malloc(need);
	if (s == NULL)
		return -ENOMEM;
	*s = (struct segment){.level = h.level, .sort = h.sort, .n = h.n};
	room = (uint8_t *)s + up8(sizeof *s);
	struct column *const col[COL_TEXT_LEN] = {&s->e,         &s->a,         &s->t,
						  &s->added,     &s->type,      &s->number[0],
						  &s->number[1], &s->number[2], &s->text};
	for (unsigned i = 0; i < COL_TEXT_LEN && err == 0; i++)
		err = unpack(&h.col[i], &room, col[i]);
	if (err == 0)
		err = read_types(&h, s, &room);
	if (err == 0)
		err = read_texts(&h, s, &room);
	if (err == 0)
		err = read_rest(&h, s, &room);
	if (err != 0) {
		free(s);
		return err;
	}
	A(room == (uint8_t *)s + need);
	*out = s;
	*size = need + 16; /* and what malloc keeps of it */
	return 0;
}

void segment_free(struct segment *s)
{
	free(s);
}

static int decode(void *ctx, struct seg_id id, const void *bytes, size_t len, void **object,
		  size_t *size)
{
	struct segment *s;
	int err = segment_decode(bytes, len, &s, size);

	(void)ctx;
	(void)id;
	if (err == 0)
		*object = s;
	return err;
}

static void destroy(void *ctx, void *object)
{
	(void)ctx;
	segment_free(object);
}

const struct ocache_decoder segment_decoder = {NULL, decode, destroy};

/* ---- looking things up ---- */

static uint32_t slot(const struct segment *s, uint32_t i)
{
	return s->slot != NULL ? s->slot[i] : i;
}

void segment_datom(const struct segment *s, uint32_t i, struct datom *d)
{
	uint8_t type = (uint8_t)column_get(&s->type, i);
	uint32_t at = slot(s, i);

	d->e = column_get(&s->e, i);
	d->a = (uint32_t)column_get(&s->a, i);
	d->t = ~column_get(&s->t, i);
	d->added = column_get(&s->added, i) != 0;
	d->v = (struct value){.type = type};
	if (value_is_text(type)) {
		uint32_t text = (uint32_t)column_get(&s->text, at);

		d->v.text = s->texts + s->text_at[text];
		d->v.len = s->text_at[text + 1] - s->text_at[text];
	} else {
		uint64_t v = column_get(&s->number[type], at);

		d->v.ref = type == VALUE_REF ? v : v ^ SIGN;
	}
}

/* A stretch of datoms that are equal so far. */
struct stretch {
	uint32_t from, to;
};

/* Narrows it to the values that are v; empty: to where they would be. */
static void narrow_number(const struct column *c, uint64_t v, struct stretch *r)
{
	uint32_t from = column_search(c, r->from, r->to, v);

	r->to = v == UINT64_MAX ? r->to : column_search(c, from, r->to, v + 1);
	r->from = from;
}

/* Texts below v; and whether the next one is v. */
static uint32_t texts_below(const struct segment *s, const struct value *v, bool *equal)
{
	uint32_t from = 0, to = s->texts_count;

	*equal = false;
	while (from < to) {
		uint32_t mid = from + (to - from) / 2;
		struct value x = {.type = v->type,
				  .len = s->text_at[mid + 1] - s->text_at[mid],
				  .text = s->texts + s->text_at[mid]};
		int c = value_compare(&x, v);

		*equal |= c == 0;
		if (c < 0)
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}

/* Values in a stretch ascend, by type first; those of one type have their slots in a row. */
static void narrow_value(const struct segment *s, const struct value *v, struct stretch *r)
{
	struct stretch of_type = *r, at;
	const struct column *c;
	uint64_t want = v->type == VALUE_REF ? v->ref : v->ref ^ SIGN;
	bool equal = true;

	narrow_number(&s->type, v->type, &of_type);
	*r = of_type;
	if (of_type.from == of_type.to)
		return;
	at.from = slot(s, of_type.from);
	at.to = at.from + (of_type.to - of_type.from);
	c = value_is_text(v->type) ? &s->text : &s->number[v->type];
	if (at.to > c->n)
		return; /* types that are not sorted; then no place is right */
	if (value_is_text(v->type))
		want = texts_below(s, v, &equal);
	if (equal) {
		narrow_number(c, want, &at);
	} else {
		at.from = column_search(c, at.from, at.to, want);
		at.to = at.from;
	}
	r->to = of_type.from + (at.to - slot(s, of_type.from));
	r->from = of_type.from + (at.from - slot(s, of_type.from));
}

uint32_t segment_search(const struct segment *s, const struct datom *key, unsigned parts, bool past)
{
	struct stretch r = {0, s->n};

	for (unsigned i = 0; i < parts && r.from < r.to; i++) {
		switch ((enum datom_part)datom_order[s->sort][i]) {
		case PART_E:
			narrow_number(&s->e, key->e, &r);
			break;
		case PART_A:
			narrow_number(&s->a, key->a, &r);
			break;
		case PART_V:
			narrow_value(s, &key->v, &r);
			break;
		case PART_T:
			narrow_number(&s->t, ~key->t, &r);
			break;
		case DATOM_PARTS:
			break;
		}
	}
	return past ? r.to : r.from;
}

bool segment_ordered(const struct segment *s)
{
	struct datom x, y;

	segment_datom(s, 0, &x);
	for (uint32_t i = 1; i < s->n; i++, x = y) {
		segment_datom(s, i, &y);
		if (datom_compare(s->sort, &x, &y, DATOM_PARTS) >= 0)
			return false;
	}
	return true;
}
