/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing text on the heap, for replies whose length nobody knows before (stats). Running out of
 * memory is remembered and seen once, at the end. One owner; any thread.
 */
#ifndef VALCACHED_NET_TEXT_H
#define VALCACHED_NET_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct text {
	char *at; /* free() it, or text_free() */
	size_t n, room;
	bool failed;
};

void text_add(struct text *t, const char *bytes, size_t n);
void text_printf(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void text_free(struct text *t);

#endif
