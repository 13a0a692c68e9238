/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that the store counts in whole extents is this power of two smaller: extents, chunks, the
 * length from which values are streamed, segments. 0 in every program that is shipped. The simulation
 * (tests/simulation) builds the same sources with another number, so that a store of two megabytes goes
 * through all that one of gigabytes does. What lies on disk is then another format: geometry_good()
 * of either refuses the other's segments.
 */
#ifndef VALCACHED_STORE_SHRINK_H
#define VALCACHED_STORE_SHRINK_H

#ifndef STORE_SHRINK
#define STORE_SHRINK 0
#endif

#endif
