/* SPDX-License-Identifier: Apache-2.0 */
/* Private to ocache. Where the metrics of metrics.h come from, and the thread that reports them. */
#ifndef OCACHE_REPORT_H
#define OCACHE_REPORT_H

#include <stddef.h>

#include "ocache/chain.h"

struct trail;
struct report;

/*
 * What a report needs and nothing else counts: loads that asked a tier of this kind, and those that
 * had their segment from one.
 */
struct report_loads {
	_Atomic uint64_t asked[CHAIN_KINDS], found[CHAIN_KINDS];
};

/* 0 or -errno. With a thread if the configuration names a function. */
int report_open(struct ocache *c, const struct ocache_config *cfg, struct report **report);
/* Ends the thread, and reports for the last time. Twice is once. Nothing is in flight. */
void report_stop(struct report *report);
/* Also of a cache that failed to open; no report then. */
void report_close(struct report **report);
size_t report_bytes(void);

/* A load has ended. Any thread; the shard's lock may be held. */
void report_load(struct ocache *c, const struct trail *trail);

#endif
