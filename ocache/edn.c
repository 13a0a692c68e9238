/* SPDX-License-Identifier: Apache-2.0 */
/*
 * EDN, the subset-free way: every element of the format is read (comments and discarded elements
 * are dropped), and written with one blank between elements and ", " between a map's entries.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ocache/data.h"

struct reader {
	const char *at, *end;
	unsigned depth;
};

static int read_value(struct reader *r, struct data *d);

static bool is_blank(char c)
{
	return c == ' ' || c == ',' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* What may stand in a symbol or keyword; beyond ASCII everything. */
static bool is_name(char c)
{
	return (c & 0x80) != 0 || is_digit(c) || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
	       (c != '\0' && strchr(".*+!-_?$%&=<>/:#'|", c) != NULL);
}

/* To the next element; 0, or an error of a discarded one. */
static int skip(struct reader *r)
{
	for (;;) {
		while (r->at < r->end && is_blank(*r->at))
			r->at++;
		if (r->at < r->end && *r->at == ';') {
			while (r->at < r->end && *r->at != '\n')
				r->at++;
		} else if (r->end - r->at >= 2 && r->at[0] == '#' && r->at[1] == '_') {
			struct data dropped = {0};
			int err;

			r->at += 2;
			err = read_value(r, &dropped);
			data_clear(&dropped);
			if (err != 0)
				return err;
		} else {
			return 0;
		}
	}
}

static int read_string(struct reader *r, struct data *d)
{
	struct data_out o = {0};
	bool ok;

	data_out(&o, "", 0); /* so that there is a text */
	for (r->at++;;) {
		const char *from = r->at;
		char bytes[4];
		size_t n;

		while (r->at < r->end && *r->at != '"' && *r->at != '\\')
			r->at++;
		data_out(&o, from, (size_t)(r->at - from));
		if (r->at == r->end)
			break;
		if (*r->at++ == '"') {
			ok = !o.failed && data_text(d, DATA_STRING, o.text, o.len);
			free(o.text);
			return ok ? 0 : -ENOMEM;
		}
		if (!data_escape(&r->at, r->end, bytes, &n))
			break;
		data_out(&o, bytes, n);
	}
	free(o.text);
	return -EINVAL;
}

/* digits, fraction, exponent, N or M; a sign has been seen to be followed by a digit. */
static bool number_ok(const char *s, size_t n)
{
	size_t i = s[0] == '-' || s[0] == '+';

	if (s[i] == '0' && i + 1 < n && is_digit(s[i + 1]))
		return false;
	while (i < n && is_digit(s[i]))
		i++;
	if (i + 1 == n && s[i] == 'N')
		return true;
	if (i < n && s[i] == '.')
		for (i++; i < n && is_digit(s[i]);)
			i++;
	if (i < n && (s[i] | 32) == 'e') {
		i++;
		if (i < n && (s[i] == '-' || s[i] == '+'))
			i++;
		if (i == n || !is_digit(s[i]))
			return false;
		while (i < n && is_digit(s[i]))
			i++;
	}
	return i == n || (i + 1 == n && s[i] == 'M');
}

/* A keyword, symbol, number, nil, true, false. */
static int read_atom(struct reader *r, struct data *d)
{
	const char *s = r->at;
	enum data_kind kind;
	size_t n;

	while (r->at < r->end && is_name(*r->at))
		r->at++;
	n = (size_t)(r->at - s);
	if (n == 0)
		return -EINVAL;
	if (*s == ':') {
		if (n == 1 || s[1] == ':' || s[1] == '/')
			return -EINVAL;
		return data_text(d, DATA_KEYWORD, s + 1, n - 1) ? 0 : -ENOMEM;
	}
	if (n == 3 && memcmp(s, "nil", 3) == 0)
		return 0;
	if ((n == 4 && memcmp(s, "true", 4) == 0) || (n == 5 && memcmp(s, "false", 5) == 0)) {
		d->kind = DATA_BOOL;
		d->truth = n == 4;
		return 0;
	}
	kind = DATA_SYMBOL;
	if (is_digit(*s) || (n > 1 && (*s == '-' || *s == '+') && is_digit(s[1]))) {
		kind = DATA_NUMBER;
		if (!number_ok(s, n))
			return -EINVAL;
	} else if (*s == '#') {
		return -EINVAL;
	}
	return data_text(d, kind, s, n) ? 0 : -ENOMEM;
}

/* \a, \newline, \u0041: kept as it is written. */
static int read_character(struct reader *r, struct data *d)
{
	const char *s = r->at++;

	if (r->at == r->end || is_blank(*r->at))
		return -EINVAL;
	r->at++;
	while (r->at < r->end && is_name(*r->at))
		r->at++;
	return data_text(d, DATA_SYMBOL, s, (size_t)(r->at - s)) ? 0 : -ENOMEM;
}

static int read_many(struct reader *r, struct data *d, enum data_kind kind, char closing)
{
	int err;

	d->kind = kind;
	for (;;) {
		struct data *kid;

		err = skip(r);
		if (err != 0)
			return err;
		if (r->at == r->end)
			return -EINVAL;
		if (*r->at == closing) {
			r->at++;
			return kind == DATA_MAP && d->kids % 2 != 0 ? -EINVAL : 0;
		}
		kid = data_add(d);
		if (kid == NULL)
			return -ENOMEM;
		err = read_value(r, kid);
		if (err != 0)
			return err;
	}
}

static int read_tagged(struct reader *r, struct data *d)
{
	const char *s = ++r->at;
	struct data *kid;

	while (r->at < r->end && is_name(*r->at))
		r->at++;
	if (r->at == s || ((*s | 32) < 'a' || (*s | 32) > 'z'))
		return -EINVAL;
	if (!data_text(d, DATA_TAGGED, s, (size_t)(r->at - s)))
		return -ENOMEM;
	kid = data_add(d);
	return kid == NULL ? -ENOMEM : read_value(r, kid);
}

static int read_value(struct reader *r, struct data *d)
{
	int err;

	if (r->depth == DATA_DEPTH)
		return -EINVAL;
	r->depth++;
	err = skip(r);
	if (err == 0 && r->at == r->end)
		err = -EINVAL;
	if (err == 0) {
		switch (*r->at) {
		case '"':
			err = read_string(r, d);
			break;
		case '\\':
			err = read_character(r, d);
			break;
		case '(':
			r->at++;
			err = read_many(r, d, DATA_LIST, ')');
			break;
		case '[':
			r->at++;
			err = read_many(r, d, DATA_VECTOR, ']');
			break;
		case '{':
			r->at++;
			err = read_many(r, d, DATA_MAP, '}');
			break;
		case '#':
			if (r->end - r->at >= 2 && r->at[1] == '{') {
				r->at += 2;
				err = read_many(r, d, DATA_SET, '}');
			} else {
				err = read_tagged(r, d);
			}
			break;
		default:
			err = read_atom(r, d);
		}
	}
	r->depth--;
	return err;
}

int edn_read(const char *text, size_t len, struct data *d)
{
	struct reader r = {text, text + len, 0};
	int err = read_value(&r, d);

	if (err == 0)
		err = skip(&r);
	if (err == 0 && r.at != r.end)
		err = -EINVAL;
	if (err != 0)
		data_clear(d);
	return err;
}

/* ---- writing ---- */

static void write_many(struct data_out *o, const struct data *d, const char *open,
		       const char *close)
{
	data_out_text(o, open);
	for (size_t i = 0; i < d->kids; i++) {
		if (i > 0)
			data_out_text(o, d->kind == DATA_MAP && i % 2 == 0 ? ", " : " ");
		edn_write(o, &d->kid[i]);
	}
	data_out_text(o, close);
}

void edn_write(struct data_out *o, const struct data *d)
{
	switch (d->kind) {
	case DATA_NIL:
		data_out_text(o, "nil");
		break;
	case DATA_BOOL:
		data_out_text(o, d->truth ? "true" : "false");
		break;
	case DATA_STRING:
		data_out_string(o, d->text, d->len);
		break;
	case DATA_KEYWORD:
		data_out(o, ":", 1);
		data_out(o, d->text, d->len);
		break;
	case DATA_NUMBER:
	case DATA_SYMBOL:
		data_out(o, d->text, d->len);
		break;
	case DATA_LIST:
		write_many(o, d, "(", ")");
		break;
	case DATA_VECTOR:
		write_many(o, d, "[", "]");
		break;
	case DATA_SET:
		write_many(o, d, "#{", "}");
		break;
	case DATA_MAP:
		write_many(o, d, "{", "}");
		break;
	case DATA_TAGGED:
		data_out(o, "#", 1);
		data_out(o, d->text, d->len);
		data_out(o, " ", 1);
		edn_write(o, &d->kid[0]);
		break;
	}
}
