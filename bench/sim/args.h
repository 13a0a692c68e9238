/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of flags, for programs that print one line about a bad one and exit with status 2. name: the flag's, without
 * its dashes.
 */
#ifndef BENCH_SIM_ARGS_H
#define BENCH_SIM_ARGS_H

#include <stdint.h>

/* want: what the value is not, a predicate: "is not a size such as 64m". */
_Noreturn void args_bad(const char *name, const char *value, const char *want);
uint64_t args_number(const char *name, const char *value, uint64_t min, uint64_t max);
double args_real(const char *name, const char *value, double min, double max);

#endif
