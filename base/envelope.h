/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is kept of a segment anywhere outside of its writer: the bytes, whole or compressed, behind
 * a header that tells whose they are and whether they are what was written. Byte order little
 * endian, the key as a UUID's 16 bytes.
 *
 *      0  u32  magic "VSEG"          24  u64  raw length
 *      4  u8   version, 1            32  u64  stored length: what follows the header
 *      5  u8   codec                 40  u64  XXH3-64 of bytes 0 to 39 and of what is stored
 *      6  u16  0 (id of a key)       48       what is stored
 *      8  16   key
 *
 * Pure functions; any thread. Bytes that come from elsewhere are believed after envelope_open()
 * only.
 */
#ifndef BASE_ENVELOPE_H
#define BASE_ENVELOPE_H

#include <stddef.h>
#include <stdint.h>

#define ENVELOPE_HEAD    48u
#define ENVELOPE_RAW_MAX (256u << 20) /* no segment is longer */

enum envelope_codec { ENVELOPE_NONE, ENVELOPE_ZSTD, ENVELOPE_CODECS };

struct envelope {
	enum envelope_codec codec;
	size_t raw_len;
	size_t stored_len;
	const void *stored; /* in the bytes that were opened */
};

/* The most that envelope_seal() writes for len bytes; 0: len is above ENVELOPE_RAW_MAX. */
size_t envelope_room(enum envelope_codec codec, size_t len);
/*
 * Writes the envelope of len bytes to `to`, which has envelope_room(). What compression does not
 * make smaller is stored as it is. The number of bytes written, or 0: no memory.
 */
size_t envelope_seal(void *to, const uint8_t key[16], enum envelope_codec codec, const void *bytes,
		     size_t len);
/* 0 and *e; -EBADMSG: these are not whole bytes of that key. */
int envelope_open(const void *bytes, size_t len, const uint8_t key[16], struct envelope *e);
/* The same without the sum, for bytes of this process that envelope_open() has found whole before. */
int envelope_open_again(const void *bytes, size_t len, const uint8_t key[16], struct envelope *e);
/* Writes the e->raw_len bytes that were sealed. 0; -EBADMSG: they cannot be unpacked; -ENOMEM. */
int envelope_unpack(const struct envelope *e, void *to);

#endif
