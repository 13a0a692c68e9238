/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol: what it costs to parse a request out of a window of pipelined ones, and to write
 * the line of its answer. The peer is what no parser can do without: one memchr() for the end of
 * the line, over the same window. Keys are UUIDs of 36 characters, as in use.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/micro/micro.h"
#include "valcached/proto/proto.h"
#include "base/assert.h"

#define WINDOW_REQUESTS 64u

struct window {
	char *s;
	size_t n;
	size_t bodies; /* bytes after each request line that are not the parser's */
};

/* WINDOW_REQUESTS times head, a UUID, tail. */
static int window_make(void **state, const char *head, const char *tail, size_t body)
{
	struct window *w = calloc(1, sizeof(*w));
	size_t one = strlen(head) + 36 + strlen(tail) + body;
	uint64_t x = 88172645463325252ull;
	char *o;

	if (w == NULL)
		return -ENOMEM;
	w->n = one * WINDOW_REQUESTS;
	w->bodies = body;
	w->s = malloc(w->n + 64);
	if (w->s == NULL) {
		free(w);
		return -ENOMEM;
	}
	o = w->s;
	for (unsigned i = 0; i < WINDOW_REQUESTS; i++) {
		char key[48];

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		snprintf(key, sizeof(key), "%08x-%04x-4%03x-a%03x-%012llx", (unsigned)x,
			 (unsigned)(x >> 16 & 0xffff), (unsigned)(x >> 32 & 0xfff),
			 (unsigned)(x >> 44 & 0xfff), (unsigned long long)(x & 0xffffffffffff));
		o += sprintf(o, "%s%.36s%s", head, key, tail);
		if (body > 0) {
			memset(o, 'v', body - 2);
			memcpy(o + body - 2, "\r\n", 2);
			o += body;
		}
	}
	AZ((size_t)(o - w->s) - w->n);
	*state = w;
	return 0;
}

static void window_free(void *state)
{
	struct window *w = state;

	free(w->s);
	free(w);
}

static int get_setup(void **state)
{
	return window_make(state, "get ", "\r\n", 0);
}
static int gets_setup(void **state)
{
	return window_make(state, "gets ", "\r\n", 0);
}
static int set_setup(void **state)
{
	return window_make(state, "set ", " 0 0 100\r\n", 102);
}
static int mg_setup(void **state)
{
	return window_make(state, "mg ", " v f k O12345 q\r\n", 0);
}
static int multi_setup(void **state)
{
	struct window *w;
	int err = window_make(state, "get ", "\r\n", 0);

	if (err != 0)
		return err;
	/* One line of all keys: the line ends and commands become spaces. */
	w = *state;
	for (unsigned i = 1; i < WINDOW_REQUESTS; i++)
		memset(w->s + i * (w->n / WINDOW_REQUESTS) - 2, ' ', 6);
	return 0;
}

static uint64_t parse_run(void *state, uint64_t n)
{
	const struct window *w = state;
	struct proto_request req;
	struct proto p = {0};
	uint64_t sum = 0;
	size_t at = 0;

	while (n-- > 0) {
		size_t used;

		A(proto_parse(&p, w->s + at, w->n - at, &used, &req) == PROTO_REQUEST);
		sum += req.key_len + (uint64_t)req.key[35];
		at += used + w->bodies;
		if (at == w->n)
			at = 0;
	}
	return sum;
}

static uint64_t memchr_run(void *state, uint64_t n)
{
	const struct window *w = state;
	uint64_t sum = 0;
	size_t at = 0;

	while (n-- > 0) {
		const char *nl = memchr(w->s + at, '\n', w->n - at);

		at = (size_t)(nl + 1 - w->s);
		sum += (uint64_t)nl[-3];
		if (at == w->n)
			at = 0;
	}
	return sum;
}

static uint64_t value_run(void *state, uint64_t n)
{
	const struct window *w = state;
	char out[PROTO_HEAD_MAX];
	uint64_t sum = 0;

	for (uint64_t i = 0; i < n; i++) {
		const struct proto_item it = {
		    .flags = 0, .len = 32768 + (uint32_t)(i & 1023), .cas = i};

		sum += proto_put_value(out, w->s + 4, 36, &it, false) + (uint64_t)out[45];
	}
	return sum;
}

static uint64_t mg_answer_run(void *state, uint64_t n)
{
	const struct window *w = state;
	struct proto_request req;
	struct proto p = {0};
	char out[PROTO_HEAD_MAX];
	uint64_t sum = 0;
	size_t used;

	A(proto_parse(&p, w->s, w->n, &used, &req) == PROTO_REQUEST);
	for (uint64_t i = 0; i < n; i++) {
		const struct proto_item it = {
		    .flags = 0, .len = 32768 + (uint32_t)(i & 1023), .cas = i};

		sum += proto_put_meta(out, &req.meta, PROTO_VA, req.key, req.key_len, &it) +
		       (uint64_t)out[7];
	}
	return sum;
}

static const struct micro table[] = {
    {"parser/memchr", NULL, 0, 4096, 0, get_setup, memchr_run, window_free},
    {"parser/get", "parser/memchr", 0, 4096, 0, get_setup, parse_run, window_free},
    {"parser/gets", "parser/memchr", 0, 4096, 0, gets_setup, parse_run, window_free},
    {"parser/get-of-64-keys", "parser/memchr", 0, 4096, 0, multi_setup, parse_run, window_free},
    {"parser/set", "parser/memchr", 0, 4096, 0, set_setup, parse_run, window_free},
    {"parser/mg", "parser/memchr", 0, 4096, 0, mg_setup, parse_run, window_free},
    {"answer/value", NULL, 0, 4096, 0, get_setup, value_run, window_free},
    {"answer/mg", "answer/value", 0, 4096, 0, mg_setup, mg_answer_run, window_free},
};

MICRO_TABLE(table)
