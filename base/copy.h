/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying keys. Where a compiler knows that a length is below a few hundred, it likes string
 * instructions (`rep movs`), which cost more to start than a key takes to copy. Any thread.
 */
#ifndef BASE_COPY_H
#define BASE_COPY_H

#include <stdint.h>
#include <string.h>

/* memcpy for a few to a few hundred bytes; touches no byte outside of the n. */
static inline void copy_key(void *to, const void *from, size_t n)
{
	uint8_t *d = to;
	const uint8_t *s = from;

	if (n >= 16) {
		for (size_t at = 0; at + 16 <= n; at += 16)
			memcpy(d + at, s + at, 16);
		memcpy(d + n - 16, s + n - 16, 16); /* the rest, and some again */
	} else if (n >= 8) {
		memcpy(d, s, 8);
		memcpy(d + n - 8, s + n - 8, 8);
	} else {
		for (size_t at = 0; at < n; at++)
			d[at] = s[at];
	}
}

#endif
