/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xxHash's XXH3, inlined: short keys are hashed on every request, and a call into the shared
 * library costs more than the hash. Built for the baseline CPU, XXH3 uses SSE2; long inputs go
 * through the library's run-time dispatch where the package offers it.
 */
#ifndef BASE_XXH_H
#define BASE_XXH_H

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wundef"
#define XXH_INLINE_ALL
#include <xxhash.h>
#pragma GCC diagnostic pop

#endif
