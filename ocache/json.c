/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON in the manner of Datomic Cloud's logs: keywords are Pascal case, "ValcacheDirectMs" for
 * :valcache-direct-ms and "DbTx" for :db/tx.
 *
 *     Pascal   [A-Z][A-Za-z0-9]*                   one capital begins each part
 *     kebab    [a-z][a-z0-9]*(-[a-z][a-z0-9]*)*
 *
 * Between these two names a text can be taken there and back; any other key or value stays a
 * string.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ocache/data.h"

struct reader {
	const char *at, *end;
	unsigned depth;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool is_pascal(const char *s, size_t n)
{
	if (n == 0 || !is_upper(s[0]))
		return false;
	for (size_t i = 1; i < n; i++)
		if (!is_digit(s[i]) && !((s[i] | 32) >= 'a' && (s[i] | 32) <= 'z'))
			return false;
	return true;
}

/* A string that is Pascal case becomes a keyword. */
static int to_keyword(struct data *d)
{
	struct data_out o = {0};
	bool ok;

	if (d->kind != DATA_STRING || !is_pascal(d->text, d->len))
		return 0;
	for (size_t i = 0; i < d->len; i++) {
		char c = (char)(d->text[i] | (is_upper(d->text[i]) ? 32 : 0));

		if (i > 0 && is_upper(d->text[i]))
			data_out(&o, "-", 1);
		data_out(&o, &c, 1);
	}
	ok = !o.failed && data_text(d, DATA_KEYWORD, o.text, o.len);
	free(o.text);
	return ok ? 0 : -ENOMEM;
}

static void skip(struct reader *r)
{
	while (r->at < r->end &&
	       (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
		r->at++;
}

static bool take(struct reader *r, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0)
		return false;
	r->at += n;
	return true;
}

static int read_string(struct reader *r, struct data *d)
{
	struct data_out o = {0};
	bool ok;

	if (!take(r, "\""))
		return -EINVAL;
	data_out(&o, "", 0); /* so that there is a text */
	for (;;) {
		const char *from = r->at;
		char bytes[4];
		size_t n;

		while (r->at < r->end && *r->at != '"' && *r->at != '\\' &&
		       (unsigned char)*r->at >= ' ')
			r->at++;
		data_out(&o, from, (size_t)(r->at - from));
		if (r->at == r->end || (unsigned char)*r->at < ' ')
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

static bool digits(struct reader *r)
{
	const char *from = r->at;

	while (r->at < r->end && is_digit(*r->at))
		r->at++;
	return r->at > from;
}

static int read_number(struct reader *r, struct data *d)
{
	const char *from = r->at;

	take(r, "-");
	if (!take(r, "0") && !digits(r))
		return -EINVAL;
	if (take(r, ".") && !digits(r))
		return -EINVAL;
	if (take(r, "e") || take(r, "E")) {
		if (!take(r, "-"))
			take(r, "+");
		if (!digits(r))
			return -EINVAL;
	}
	return data_text(d, DATA_NUMBER, from, (size_t)(r->at - from)) ? 0 : -ENOMEM;
}

static int read_value(struct reader *r, struct data *d);

static int read_member(struct reader *r, struct data *d)
{
	struct data *key = data_add(d), *value;
	bool keyword;
	int err;

	if (key == NULL)
		return -ENOMEM;
	skip(r);
	err = read_string(r, key);
	if (err == 0)
		err = to_keyword(key);
	if (err != 0)
		return err;
	skip(r);
	if (!take(r, ":"))
		return -EINVAL;
	/* the two whose values are keywords */
	keyword = key->kind == DATA_KEYWORD &&
		  (strcmp(key->text, "api") == 0 || strcmp(key->text, "io-context") == 0);
	value = data_add(d);
	if (value == NULL)
		return -ENOMEM;
	err = read_value(r, value);
	return err == 0 && keyword ? to_keyword(value) : err;
}

static int read_many(struct reader *r, struct data *d, enum data_kind kind, const char *closing)
{
	int err = 0;

	r->at++;
	d->kind = kind;
	skip(r);
	if (take(r, closing))
		return 0;
	while (err == 0) {
		if (kind == DATA_MAP) {
			err = read_member(r, d);
		} else {
			struct data *kid = data_add(d);

			err = kid == NULL ? -ENOMEM : read_value(r, kid);
		}
		skip(r);
		if (err != 0 || take(r, closing))
			return err;
		if (!take(r, ","))
			err = -EINVAL;
	}
	return err;
}

static int read_value(struct reader *r, struct data *d)
{
	int err;

	if (r->depth == DATA_DEPTH)
		return -EINVAL;
	skip(r);
	if (r->at == r->end)
		return -EINVAL;
	r->depth++;
	switch (*r->at) {
	case '{':
		err = read_many(r, d, DATA_MAP, "}");
		break;
	case '[':
		err = read_many(r, d, DATA_VECTOR, "]");
		break;
	case '"':
		err = read_string(r, d);
		break;
	default:
		err = 0;
		if (take(r, "true")) {
			d->kind = DATA_BOOL;
			d->truth = true;
		} else if (take(r, "false")) {
			d->kind = DATA_BOOL;
		} else if (!take(r, "null")) {
			err = read_number(r, d);
		}
	}
	r->depth--;
	return err;
}

int json_read(const char *text, size_t len, struct data *d)
{
	struct reader r = {text, text + len, 0};
	int err = read_value(&r, d);

	skip(&r);
	if (err == 0 && r.at != r.end)
		err = -EINVAL;
	if (err != 0)
		data_clear(d);
	return err;
}

/* ---- writing ---- */

static void write_pascal(struct data_out *o, const struct data *d)
{
	struct data_out name = {0};
	bool first = true;

	for (size_t i = 0; i < d->len; i++) {
		char c = d->text[i];

		if (c == '-' || c == '/' || c == '.' || c == '_') {
			first = true;
			continue;
		}
		if (first && c >= 'a' && c <= 'z')
			c = (char)(c & ~32);
		first = false;
		data_out(&name, &c, 1);
	}
	if (name.failed)
		o->failed = true;
	else
		data_out_string(o, name.len > 0 ? name.text : "", name.len);
	free(name.text);
}

/* JSON has no plus, no 5N and 2.5M, and no "1." */
static void write_number(struct data_out *o, const struct data *d)
{
	for (size_t i = 0; i < d->len; i++) {
		char c = d->text[i];

		if ((c == '+' && i == 0) || c == 'N' || c == 'M')
			continue;
		data_out(o, &c, 1);
		if (c == '.' && (i + 1 == d->len || !is_digit(d->text[i + 1])))
			data_out(o, "0", 1);
	}
}

/* A key must be a string: of what is none, its EDN. */
static void write_key(struct data_out *o, const struct data *d)
{
	struct data_out text = {0};

	if (d->kind == DATA_KEYWORD || d->kind == DATA_STRING) {
		json_write(o, d);
		return;
	}
	edn_write(&text, d);
	if (text.failed)
		o->failed = true;
	else
		data_out_string(o, text.text, text.len);
	free(text.text);
}

void json_write(struct data_out *o, const struct data *d)
{
	switch (d->kind) {
	case DATA_NIL:
		data_out_text(o, "null");
		break;
	case DATA_BOOL:
		data_out_text(o, d->truth ? "true" : "false");
		break;
	case DATA_STRING:
	case DATA_SYMBOL:
		data_out_string(o, d->text, d->len);
		break;
	case DATA_KEYWORD:
		write_pascal(o, d);
		break;
	case DATA_NUMBER:
		write_number(o, d);
		break;
	case DATA_LIST:
	case DATA_VECTOR:
	case DATA_SET:
		data_out_text(o, "[");
		for (size_t i = 0; i < d->kids; i++) {
			data_out_text(o, i > 0 ? ", " : "");
			json_write(o, &d->kid[i]);
		}
		data_out_text(o, "]");
		break;
	case DATA_MAP:
		data_out_text(o, "{");
		for (size_t i = 0; i + 1 < d->kids; i += 2) {
			data_out_text(o, i > 0 ? ", " : "");
			write_key(o, &d->kid[i]);
			data_out_text(o, ": ");
			json_write(o, &d->kid[i + 1]);
		}
		data_out_text(o, "}");
		break;
	case DATA_TAGGED:
		json_write(o, &d->kid[0]);
		break;
	}
}
