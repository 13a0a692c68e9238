/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a value holds: every byte is a function of its key, so that whoever reads it can tell a
 * right byte from a wrong one without having kept anything.
 *
 *   chunk i of 4 KiB:  | stamp(key, i), 8 bytes | pattern[o .. o + 4088), o = top 16 bits of stamp
 * |
 *
 * The pattern is 68 KiB of fixed random bytes and stays in the L2 cache, so checking is a memcmp
 * at memory speed. A value of another key, a chunk in the wrong place, a torn, short, stale or
 * shifted chunk differs in its stamp (chance of a false pass 2^-64 for each chunk that begins in
 * the damaged part) and nearly everywhere in its pattern (2^-16 for a part without a stamp).
 * Length and flags are functions of the key too and are compared by the connection.
 *
 * Threads: value_init() once before threads start; the rest is pure.
 */
#ifndef VALBENCH_VALUE_H
#define VALBENCH_VALUE_H

#include <stddef.h>
#include <stdint.h>

#define VALUE_CHUNK  4096u
#define VALUE_WINDOW 65536u

void value_init(void);
/* Writes bytes [pos, pos + n) of the value of this key hash to dst. */
void value_render(uint64_t hash, uint64_t pos, uint8_t *dst, size_t n);
/* -1 when p holds bytes [pos, pos + n) of the value, else the index in p of the first wrong one. */
int64_t value_check(uint64_t hash, uint64_t pos, const uint8_t *p, size_t n);

/* Bijective 64-bit mixer (the finalizer of splitmix64). */
static inline uint64_t value_mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* The client flags stored with a value: 16 bits, as every memcached client can carry. */
static inline uint32_t value_flags(uint64_t hash)
{
	return (uint32_t)(value_mix(hash ^ 0x6a09e667f3bcc909ull) & 0xffff);
}

#endif
