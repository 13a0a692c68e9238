/* SPDX-License-Identifier: Apache-2.0 */
/* From datoms to a segment's bytes; see segment.h. */
#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "datoms/segment_int.h"

/* Columns that are being made. */
struct maker {
	uint32_t n, count[VALUE_TYPES], texts, text_bytes;
	uint64_t *col[COLS];
	uint32_t col_n[COLS];
	uint64_t base[COLS];
	uint8_t width[COLS];
	struct text {
		struct value v;
		uint32_t datom; /* whose it is, among those with texts */
	} * text;
};

static bool fits(enum datom_sort sort, const struct datom *d, uint32_t n)
{
	if (n == 0 || n > SEGMENT_DATOMS_MAX)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (d[i].v.type >= VALUE_TYPES ||
		    (value_is_text(d[i].v.type) && d[i].v.len > SEGMENT_TEXT_MAX) ||
		    (i > 0 && datom_compare(sort, &d[i - 1], &d[i], DATOM_PARTS) >= 0))
			return false;
	return true;
}

static int by_text(const void *x, const void *y)
{
	const struct text *a = x, *b = y;
	struct value va = a->v, vb = b->v;

	va.type = vb.type = VALUE_STRING; /* keywords are among them */
	return value_compare(&va, &vb);
}

/* Numbers the distinct texts; the first of each stays in m->text. */
static void number_texts(struct maker *m)
{
	uint32_t n = m->col_n[COL_TEXT];

	qsort(m->text, n, sizeof *m->text, by_text);
	for (uint32_t i = 0; i < n; i++) {
		if (i == 0 || by_text(&m->text[m->texts - 1], &m->text[i]) != 0) {
			m->text[m->texts] = m->text[i];
			m->col[COL_TEXT_LEN][m->texts++] = m->text[i].v.len;
			m->text_bytes += m->text[i].v.len;
		}
		m->col[COL_TEXT][m->text[i].datom] = m->texts - 1;
	}
	m->col_n[COL_TEXT_LEN] = m->texts;
}

static void add(struct maker *m, enum segment_column c, uint64_t v)
{
	m->col[c][m->col_n[c]++] = v;
}

static void spread(struct maker *m, const struct datom *d)
{
	for (uint32_t i = 0; i < m->n; i++, d++) {
		add(m, COL_E, d->e);
		add(m, COL_A, d->a);
		add(m, COL_T, ~d->t);
		add(m, COL_ADDED, d->added);
		add(m, COL_TYPE, d->v.type);
		m->count[d->v.type]++;
		if (value_is_text(d->v.type)) {
			m->text[m->col_n[COL_TEXT]] = (struct text){d->v, m->col_n[COL_TEXT]};
			add(m, COL_TEXT, 0);
		} else {
			add(m, (enum segment_column)(COL_LONG + d->v.type),
			    d->v.type == VALUE_REF ? d->v.ref : (uint64_t)d->v.n ^ SIGN);
		}
	}
	number_texts(m);
}

/* The most that it can take. */
static size_t room_for(const struct maker *m, enum segment_level level)
{
	size_t room = SEGMENT_HEAD + m->text_bytes;

	for (unsigned i = 0; i < COLS; i++)
		room += COLUMN_ROOM(m->col_n[i]);
	return room + (level == SEGMENT_LEAF ? 0 : (size_t)16 * m->n);
}

static size_t put(const struct maker *m, enum segment_level level, enum datom_sort sort,
		  const struct seg_id *children, uint8_t *to)
{
	uint8_t *at = to + SEGMENT_HEAD;

	memset(to, 0, SEGMENT_HEAD);
	to[AT_VERSION] = SEGMENT_VERSION;
	to[AT_LEVEL] = (uint8_t)level;
	to[AT_SORT] = (uint8_t)sort;
	put4(to + AT_N, m->n);
	for (unsigned i = 0; i < VALUE_TYPES; i++)
		put4(to + AT_COUNTS + (size_t)4 * i, m->count[i]);
	put4(to + AT_TEXTS, m->texts);
	put4(to + AT_TEXT_BYTES, m->text_bytes);
	for (unsigned i = 0; i < COLS; i++) {
		uint8_t *head = to + AT_COLUMNS + (size_t)COLUMN_HEAD * i;
		uint64_t base = 0;
		uint8_t width = 0;
		size_t len = 0;

		if (m->col_n[i] > 0) {
			column_measure(m->col[i], m->col_n[i], &base, &width);
			len = column_pack(at, m->col[i], m->col_n[i], base, width);
		}
		put8(head, base);
		put4(head + 8, (uint32_t)len);
		head[12] = width;
		at += len;
	}
	for (uint32_t i = 0; i < m->texts; i++) {
		memcpy(at, m->text[i].v.text, m->text[i].v.len);
		at += m->text[i].v.len;
	}
	for (uint32_t i = 0; level != SEGMENT_LEAF && i < m->n; i++, at += 16) {
		uint64_t hi = htobe64(children[i].hi), lo = htobe64(children[i].lo);

		memcpy(at, &hi, 8);
		memcpy(at + 8, &lo, 8);
	}
	return (size_t)(at - to);
}

int segment_encode(enum segment_level level, enum datom_sort sort, const struct datom *datoms,
		   const struct seg_id *children, uint32_t n, void **bytes, size_t *len)
{
	struct maker m = {.n = n};
	uint64_t *values = NULL;
	uint8_t *to = NULL;
	size_t room;
	int err = -ENOMEM;

	if (level >= SEGMENT_LEVELS || sort >= DATOM_SORTS || !fits(sort, datoms, n) ||
	    (level == SEGMENT_LEAF) != (children == NULL))
		return -EINVAL;
	values = malloc((size_t)n * COLS * sizeof *values);
	m.text = malloc((size_t)n * sizeof *m.text);
	if (values == NULL || m.text == NULL)
		goto out;
	for (unsigned i = 0; i < COLS; i++)
		m.col[i] = values + (size_t)n * i;
	spread(&m, datoms);
	room = room_for(&m, level);
	to = malloc(room);
	if (to == NULL)
		goto out;
	*len = put(&m, level, sort, children, to);
	A(*len <= room);
	*bytes = to;
	err = 0;
out:
	free(values);
	free(m.text);
	return err;
}
