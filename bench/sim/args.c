/* SPDX-License-Identifier: Apache-2.0 */
/* Values of flags; see args.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/size.h"
#include "bench/sim/args.h"

_Noreturn void args_bad(const char *name, const char *value, const char *want)
{
	fprintf(stderr, "%s: --%s %s: %s; --help lists the flags\n", program_invocation_short_name,
		name, value, want);
	exit(2);
}

uint64_t args_number(const char *name, const char *value, uint64_t min, uint64_t max)
{
	uint64_t n;

	if (size_parse_number(value, &n) != 0 || n < min || n > max)
		args_bad(name, value, "is not a number in range");
	return n;
}

double args_real(const char *name, const char *value, double min, double max)
{
	char *end;
	double x = strtod(value, &end);

	if (end == value || *end != '\0' || !(x >= min && x <= max))
		args_bad(name, value, "is not a number in range");
	return x;
}
