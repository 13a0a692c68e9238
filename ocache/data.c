/* SPDX-License-Identifier: Apache-2.0 */
/* The tree, and text that grows; see data.h. */
#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ocache/data.h"

void data_clear(struct data *d)
{
	for (size_t i = 0; i < d->kids; i++)
		data_clear(&d->kid[i]);
	free(d->kid);
	free(d->text);
	memset(d, 0, sizeof *d);
}

struct data *data_add(struct data *d)
{
	if (d->kids == d->room) {
		size_t room = d->room == 0 ? 8 : d->room * 2;
		struct data *kid = realloc(d->kid, room * sizeof *kid);

		if (kid == NULL)
			return NULL;
		d->kid = kid;
		d->room = room;
	}
	memset(&d->kid[d->kids], 0, sizeof *d->kid);
	return &d->kid[d->kids++];
}

bool data_text(struct data *d, enum data_kind kind, const char *text, size_t len)
{
	char *copy = malloc(len + 1);

	if (copy == NULL)
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	free(d->text);
	d->text = copy;
	d->len = len;
	d->kind = kind;
	return true;
}

struct data *data_put(struct data *map, const char *keyword)
{
	struct data *key = data_add(map);

	if (key == NULL)
		return NULL;
	if (!data_text(key, DATA_KEYWORD, keyword, strlen(keyword))) {
		map->kids--;
		return NULL;
	}
	return data_add(map);
}

bool data_put_keyword(struct data *map, const char *keyword, const char *name)
{
	struct data *v = data_put(map, keyword);

	return v != NULL && data_text(v, DATA_KEYWORD, name, strlen(name));
}

static bool put_number(struct data *map, const char *keyword, const char *number)
{
	struct data *v = data_put(map, keyword);

	return v != NULL && data_text(v, DATA_NUMBER, number, strlen(number));
}

bool data_put_whole(struct data *map, const char *keyword, uint64_t n)
{
	char number[24];

	snprintf(number, sizeof number, "%" PRIu64, n);
	return put_number(map, keyword, number);
}

bool data_put_count(struct data *map, const char *keyword, uint64_t n)
{
	return n == 0 || data_put_whole(map, keyword, n);
}

bool data_put_ms(struct data *map, const char *keyword, uint64_t ns, bool always)
{
	uint64_t hundredths = ns / 10000 + (ns % 10000 >= 5000), frac = hundredths % 100;
	char number[32];

	if (hundredths == 0 && !always)
		return true;
	if (frac == 0)
		snprintf(number, sizeof number, "%" PRIu64, hundredths / 100);
	else if (frac % 10 == 0)
		snprintf(number, sizeof number, "%" PRIu64 ".%" PRIu64, hundredths / 100,
			 frac / 10);
	else
		snprintf(number, sizeof number, "%" PRIu64 ".%02" PRIu64, hundredths / 100, frac);
	return put_number(map, keyword, number);
}

const struct data *data_get(const struct data *d, const char *name, size_t n)
{
	if (d == NULL || d->kind != DATA_MAP)
		return NULL;
	for (size_t i = 0; i + 1 < d->kids; i += 2)
		if (d->kid[i].text != NULL && d->kid[i].len == n &&
		    memcmp(d->kid[i].text, name, n) == 0)
			return &d->kid[i + 1];
	return NULL;
}

double data_number(const struct data *d)
{
	double n = 0;
	locale_t c;

	if (d == NULL || d->kind != DATA_NUMBER)
		return 0;
	/* the program's locale may want a comma */
	c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (c != (locale_t)0) {
		n = strtod_l(d->text, NULL, c);
		freelocale(c);
	}
	return n;
}

/* ---- text that grows ---- */

void data_out(struct data_out *o, const char *bytes, size_t n)
{
	if (o->failed)
		return;
	if (o->room - o->len <= n) {
		size_t room = (o->len + n + 1) * 2;
		char *text = realloc(o->text, room);

		if (text == NULL) {
			o->failed = true;
			return;
		}
		o->text = text;
		o->room = room;
	}
	memcpy(o->text + o->len, bytes, n);
	o->len += n;
	o->text[o->len] = '\0';
}

void data_out_text(struct data_out *o, const char *text)
{
	data_out(o, text, strlen(text));
}

char *data_out_end(struct data_out *o)
{
	char *text = o->text;

	if (o->failed) {
		free(text);
		text = NULL;
	}
	memset(o, 0, sizeof *o);
	return text;
}

size_t data_utf8(char to[4], uint32_t code)
{
	static const uint8_t head[] = {0, 0, 0xc0, 0xe0, 0xf0};
	size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;

	if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return 0;
	for (size_t i = n; i-- > 1; code >>= 6)
		to[i] = (char)(0x80 | (code & 0x3f));
	to[0] = (char)(head[n] | code);
	return n;
}

void data_out_string(struct data_out *o, const char *text, size_t len)
{
	data_out(o, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		char c = text[i], hex[8];

		switch (c) {
		case '"':
		case '\\':
			data_out(o, (char[]){'\\', c}, 2);
			break;
		case '\n':
			data_out(o, "\\n", 2);
			break;
		case '\r':
			data_out(o, "\\r", 2);
			break;
		case '\t':
			data_out(o, "\\t", 2);
			break;
		default:
			if ((unsigned char)c < ' ') {
				snprintf(hex, sizeof hex, "\\u%04x", (unsigned)(unsigned char)c);
				data_out(o, hex, 6);
			} else {
				data_out(o, &c, 1);
			}
		}
	}
	data_out(o, "\"", 1);
}

/* Four hexadecimal digits. */
static bool hex4(const char **p, const char *end, uint32_t *code)
{
	*code = 0;
	if (end - *p < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		char c = *(*p)++;

		if (c >= '0' && c <= '9')
			*code = *code * 16 + (uint32_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			*code = *code * 16 + (uint32_t)(c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			*code = *code * 16 + (uint32_t)(c - 'A' + 10);
		else
			return false;
	}
	return true;
}

bool data_escape(const char **p, const char *end, char to[4], size_t *n)
{
	static const char from[] = "\"\\/nrtbf", into[] = "\"\\/\n\r\t\b\f";
	uint32_t code, low;
	const char *at;

	if (*p == end)
		return false;
	if (**p != 'u') {
		at = memchr(from, **p, sizeof from - 1);
		if (at == NULL)
			return false;
		(*p)++;
		to[0] = into[at - from];
		*n = 1;
		return true;
	}
	(*p)++;
	if (!hex4(p, end, &code))
		return false;
	if (code >= 0xd800 && code < 0xdc00) { /* the first of a pair */
		if (end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u')
			return false;
		*p += 2;
		if (!hex4(p, end, &low) || low < 0xdc00 || low >= 0xe000)
			return false;
		code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
	}
	*n = data_utf8(to, code);
	return *n != 0;
}
