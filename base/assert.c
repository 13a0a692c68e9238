/* SPDX-License-Identifier: Apache-2.0 */
/* What a failed assertion does: one line on stderr, then a core dump. Any thread. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"

_Noreturn void assert_fail(const char *what, const char *file, int line, const char *func)
{
	fprintf(stderr, "panic: %s:%d %s(): assertion failed: %s\n", file, line, func, what);
	abort();
}
