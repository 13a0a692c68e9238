/* SPDX-License-Identifier: Apache-2.0 */
/* Growing texts; see text.h. Any thread. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "valcached/net/text.h"

static bool text_room(struct text *t, size_t n)
{
	size_t room = t->room != 0 ? t->room : 1024;
	char *at;

	if (t->failed)
		return false;
	while (room - t->n <= n)
		room *= 2;
	if (room == t->room)
		return true;
	at = realloc(t->at, room);
	if (at == NULL) {
		t->failed = true;
		return false;
	}
	t->at = at;
	t->room = room;
	return true;
}

void text_add(struct text *t, const char *bytes, size_t n)
{
	if (!text_room(t, n))
		return;
	memcpy(t->at + t->n, bytes, n);
	t->n += n;
}

void text_printf(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || !text_room(t, (size_t)n + 1))
		return;
	va_start(ap, fmt);
	vsnprintf(t->at + t->n, t->room - t->n, fmt, ap);
	va_end(ap);
	t->n += (size_t)n;
}

void text_free(struct text *t)
{
	free(t->at);
	*t = (struct text){0};
}
