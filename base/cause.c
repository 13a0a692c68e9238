/* SPDX-License-Identifier: Apache-2.0 */
/* Why a start failed; see cause.h. */
#include <stdarg.h>
#include <stdio.h>

#include "base/cause.h"

void cause_say(char **cause, const char *fmt, ...)
{
	va_list ap;

	if (cause == NULL)
		return;
	va_start(ap, fmt);
	if (vasprintf(cause, fmt, ap) < 0)
		*cause = NULL;
	va_end(ap);
}
