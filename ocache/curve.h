/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. How many accesses would miss if the budget were another one: a miss-ratio curve
 * of LRU, from a sample of the objects.
 *
 * SHARDS of fixed size (C. A. Waldspurger, N. Park, A. Garthwaite, I. Ahmad, "Efficient MRC
 * construction with SHARDS", FAST 2015). An object is followed if its hash is below a threshold, so
 * either all its accesses are seen or none; among those followed, the bytes used since an object was
 * used last, divided by the part of all objects that is followed, are how much memory LRU would
 * need to still have it (R. L. Mattson et al., "Evaluation techniques for storage hierarchies", IBM
 * Systems Journal 9(2), 1970). When there are more than fit, the one of the highest hash goes, and
 * its hash is the new threshold.
 *
 *  [CV-1] `place` is the hash without the bits that choose the shard, as the upper bits of a
 *         number: so what is followed is spread over all shards.
 *  [CV-2] An access counts as 1 / rate of its time. This is the paper's rescaling of older counts
 *         when the threshold falls, done beforehand.
 *  [CV-3] What all those counts differ from the number of accesses is added to the nearest distance
 *         (the paper's SHARDS-adj): what is missing is of objects that are used so often that a few of
 *         them make the difference.
 *  [CV-4] A distance is of the bytes of others, divided by the rate, and the object's own. An
 *         object is followed from when its size is known; before it cannot be found anywhere, and
 *         an access is a miss at every size.
 *
 * Any thread. One lock, which is taken for accesses of followed objects alone, and takes no other.
 */
#ifndef OCACHE_CURVE_H
#define OCACHE_CURVE_H

#include <stdatomic.h>
#include <stddef.h>

#include "ocache/metrics.h"

struct curve;

/*
 * One object in `one_in` is followed, and as many as fit in a sixteenth of the budget, at most
 * CURVE_OBJECTS. *below: places below it are to be told, and some that are not followed; kept up to
 * date. 0 or -ENOMEM.
 */
#define CURVE_OBJECTS 16384u
int curve_open(uint32_t one_in, uint64_t budget, _Atomic uint64_t *below, struct curve **curve);
void curve_close(struct curve **curve);
size_t curve_bytes(const struct curve *cv);

/* An access, before its object is looked for. */
void curve_access(struct curve *cv, uint64_t place);
/* An object of this size is there. */
void curve_add(struct curve *cv, uint64_t place, uint64_t size);
void curve_forget(struct curve *cv, uint64_t place);
/* accesses: the number of them since the cache was opened. */
void curve_read(struct curve *cv, uint64_t accesses, bool restart, struct ocache_curve *out);

#endif
