/* SPDX-License-Identifier: Apache-2.0 */
/* Why a start failed; see cause.h. */
#include <stdarg.h>
#include <stdio.h>

#include "base/cause.h"

static void say(char **cause, const char *fmt, va_list ap)
{
	if (cause != NULL && vasprintf(cause, fmt, ap) < 0)
		*cause = NULL;
}

void cause_say(char **cause, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(cause, fmt, ap);
	va_end(ap);
}

int cause_fail(char **cause, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(cause, fmt, ap);
	va_end(ap);
	return err;
}
