/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. Warm start: what the process before had in its cache is loaded again by a thread of its own, which
 * then saves the ids now and then.
 *
 *  [WM-1] Nothing is saved before the loading has ended; nor, until a save is due, if most of it has failed. So a process
 *         that lives shortly, or while its tiers are away, leaves the longer one's file.
 *  [WM-2] The thread ends before the pool and the tiers, and after loads have been ended, so that it waits for none.
 */
#ifndef OCACHE_WARM_H
#define OCACHE_WARM_H

#include "ocache/ocache.h"

struct warm;

/* 0 or -errno; *warm is NULL if the configuration names no file. */
int warm_open(struct ocache *c, const struct ocache_config *cfg, struct warm **warm);
/* Saves for the last time, and lets no load begin any more. */
void warm_stop(struct warm *warm);
void warm_close(struct warm **warm);

#endif
