/* SPDX-License-Identifier: Apache-2.0 */
/* What idle connections cost a server: valbench --idle N. Main thread only. */
#ifndef VALBENCH_IDLE_H
#define VALBENCH_IDLE_H

#include <stdio.h>

#include "bench/valbench/address.h"
#include "bench/valbench/options.h"

/*
 * Opens the connections, waits for the server to settle, holds them for the duration, then asks
 * each for the server's version. Writes JSON to json unless it is NULL. The exit code.
 */
int idle_run(const struct options *o, const struct address *a, FILE *json);

#endif
