/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. MD5 (RFC 1321), for ketama's ring alone: it is no protection against anybody.
 * Pure function.
 */
#ifndef OCACHE_MD5_H
#define OCACHE_MD5_H

#include <stddef.h>
#include <stdint.h>

void md5(const void *bytes, size_t len, uint8_t digest[16]);

#endif
