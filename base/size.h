/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes and durations as people write them on a command line, read strictly: a whole number and
 * at most one unit, nothing before, between or after. Pure functions; any thread.
 *
 *   size      4096  64k  64m  1g  2t      powers of 1024, either case; no unit: bytes
 *   duration  500us  250ms  1s  5m  2h    a unit is wanted, except for 0
 */
#ifndef BASE_SIZE_H
#define BASE_SIZE_H

#include <stddef.h>
#include <stdint.h>

/* 0 and *bytes, or -EINVAL (not such a text) or -ERANGE (above 2^64-1); *bytes is then untouched.
 */
int size_parse(const char *text, uint64_t *bytes);

/* 0 and *ns, or -EINVAL or -ERANGE as above. */
int size_parse_duration(const char *text, uint64_t *ns);

/* A whole decimal number and nothing else: 0 and *n, or -EINVAL or -ERANGE. */
int size_parse_number(const char *text, uint64_t *n);

/*
 * The shortest text that size_parse() reads back as the same number: 1048576 gives "1m", 1000
 * gives "1000". Returns buf, which is cut if shorter than SIZE_TEXT_MAX.
 */
#define SIZE_TEXT_MAX 24
char *size_format(char *buf, size_t len, uint64_t bytes);

/* For people: three digits and a unit, "12.3m"; not meant to be read back. Returns buf. */
char *size_human(char *buf, size_t len, double bytes);

#endif
