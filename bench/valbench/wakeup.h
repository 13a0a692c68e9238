/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a sleeping thread takes to wake on this machine: the unit in which the latency a server
 * adds to a disk read is stated. Starts one thread of its own.
 */
#ifndef VALBENCH_WAKEUP_H
#define VALBENCH_WAKEUP_H

#include <stdio.h>

#include "bench/valbench/options.h"

/* Prints a line, or JSON to json unless it is NULL. The exit code. */
int wakeup_run(const struct options *o, FILE *json);

#endif
