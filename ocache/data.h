/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. A small tree of data, as EDN and JSON write it, for io-stats maps: what a map
 * made by this library has, and whatever else a text holds that somebody else wrote. Pure
 * functions; a tree belongs to one thread until it is read only.
 */
#ifndef OCACHE_DATA_H
#define OCACHE_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DATA_DEPTH 64u /* deepest nesting that is read */

enum data_kind {
	DATA_NIL,
	DATA_BOOL,
	DATA_NUMBER,  /* text: as it was written */
	DATA_STRING,  /* text */
	DATA_KEYWORD, /* text without the colon */
	DATA_SYMBOL,  /* text; characters (\a), too */
	DATA_LIST,
	DATA_VECTOR,
	DATA_SET,
	DATA_MAP,    /* kids: key, value, key, value ... */
	DATA_TAGGED, /* text: the tag; one kid */
};

struct data {
	enum data_kind kind;
	bool truth;
	char *text; /* len bytes and a zero; may hold zeros */
	size_t len;
	struct data *kid;
	size_t kids, room;
};

/* Frees what d holds, not d. */
void data_clear(struct data *d);
/* A kid more, all zero (nil); NULL: no memory. Valid until the next one. */
struct data *data_add(struct data *d);
/* Copies len bytes into d->text; false: no memory. */
bool data_text(struct data *d, enum data_kind kind, const char *text, size_t len);
/* A value under a new keyword of a map: nil, to be filled; NULL: no memory. */
struct data *data_put(struct data *map, const char *keyword);
bool data_put_keyword(struct data *map, const char *keyword, const char *name);
bool data_put_whole(struct data *map, const char *keyword, uint64_t n);
bool data_put_count(struct data *map, const char *keyword, uint64_t n); /* nothing if 0 */
/* Milliseconds with two decimals at most; nothing if it rounds to zero, unless always. */
bool data_put_ms(struct data *map, const char *keyword, uint64_t ns, bool always);
/* The first value under a key whose text is the n bytes of name; NULL: none, or d is no map. */
const struct data *data_get(const struct data *d, const char *name, size_t n);
double data_number(const struct data *d); /* 0 if it is none */

/* Text that grows. */
struct data_out {
	char *text;
	size_t len, room;
	bool failed; /* no memory: the text is not whole */
};
void data_out(struct data_out *o, const char *bytes, size_t n);
void data_out_text(struct data_out *o, const char *text);
/* The text, which is the caller's, or NULL if it failed (and all is freed). */
char *data_out_end(struct data_out *o);
/* A code point as UTF-8 into to; the number of bytes, 0 if there is no such code point. */
size_t data_utf8(char to[4], uint32_t code);
/* "...": with the escapes that EDN and JSON share. */
void data_out_string(struct data_out *o, const char *text, size_t len);
/*
 * What follows a backslash in a string, at *p (before end): its bytes in to, *n of them, and *p
 * behind it. False: no escape of EDN and JSON.
 */
bool data_escape(const char **p, const char *end, char to[4], size_t *n);

void edn_write(struct data_out *o, const struct data *d);
void json_write(struct data_out *o, const struct data *d);
/* d is zeroed by the caller. 0; -EINVAL or -ENOMEM, and d is cleared. */
int edn_read(const char *text, size_t len, struct data *d);
int json_read(const char *text, size_t len, struct data *d);

#endif
