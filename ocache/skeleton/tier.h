/* SPDX-License-Identifier: Apache-2.0 */
/* A documented tier to begin one's own with; see tier.c. */
#ifndef OCACHE_SKELETON_TIER_H
#define OCACHE_SKELETON_TIER_H

#include <ocache/tier.h>

/* 0 and *tier, which ocache_open() takes over and closes; or -errno and nothing is left. */
int tier_skeleton_open(struct tier **tier);

#endif
