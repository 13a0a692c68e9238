/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to store: making and checking what format.h describes. Pure functions; any thread.
 * Every byte that comes from a disk or from a dead process's memory passes one of the checks here
 * before it is used as a length or as a place.
 */
#ifndef VALCACHED_STORE_RECORD_H
#define VALCACHED_STORE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "valcached/store/format.h"

/* Longest head: header, key and chunk sums of a record of up to 1 MiB; and of any record. */
#define RECORD_HEAD_MAX (FORMAT_ALIGN - FORMAT_BLOCK)
/* records of values that are read and written in one piece are not larger; all others are */
#define WHOLE_RECORD (FORMAT_EXTENT + RECORD_HEAD_MAX)

uint64_t record_seed(const uint8_t store_id[16]);

/* Chunk sums between key and value: none for a value of one chunk, which its content hash verifies. */
static inline uint32_t record_chunks(uint32_t value_len)
{
	return value_len > FORMAT_CHUNK ? (value_len + FORMAT_CHUNK - 1) / FORMAT_CHUNK : 0;
}
static inline uint32_t record_sums_off(uint32_t key_len)
{
	return (64u + key_len + 7u) & ~7u;
}
/* Bytes covered by the header's checksum (with the header itself). */
static inline uint32_t record_head_len(uint32_t key_len, uint32_t value_len)
{
	return record_sums_off(key_len) + 8u * record_chunks(value_len);
}
static inline uint32_t record_value_off(uint32_t key_len, uint32_t value_len)
{
	return value_len > FORMAT_WHOLE_MAX ? RECORD_HEAD_MAX : record_head_len(key_len, value_len);
}
static inline uint32_t record_units(uint32_t value_off, uint32_t value_len)
{
	return (uint32_t)(((uint64_t)value_off + value_len + FORMAT_UNIT - 1) / FORMAT_UNIT);
}

/* Sets head's checksum; head is header, key and sums, in this order and complete. */
void record_seal(uint8_t *head, uint64_t seed);

enum record_verdict {
	RECORD_GOOD,
	RECORD_TORN,    /* no record, or damaged */
	RECORD_FOREIGN, /* a sound record of another life of the segment, or of another place */
};
/*
 * Is there a sound record head at mem? avail bytes may be looked at. generation and units_at must match.
 * RECORD_GOOD: *out is a copy of the header, and key_len, value_len, value_off and the type are sane
 * and consistent; head_len bytes are within avail.
 */
enum record_verdict record_check(const uint8_t *mem, size_t avail, uint64_t seed,
				 uint64_t generation, uint32_t units_at, struct format_record *out);

/* XXH3-128 of a whole value. */
void record_content(const uint8_t *value, size_t len, uint64_t content[2]);
/* Fills the sums (if the value has more than one chunk) of a record whose value lies at head + value_off. */
void record_fill_sums(uint8_t *head, uint32_t key_len, uint32_t value_len);
/* The value's bytes [off, off + len) at data: whole chunks (the last may be short), against the sums. */
bool record_value_good(const uint8_t *head, const struct format_record *rec, uint32_t off,
		       const uint8_t *data, uint32_t len);

void super_seal(struct format_super *sb);
bool super_good(const struct format_super *sb);
void segment_seal(struct format_segment *sh, uint64_t seed);
bool segment_good(const struct format_segment *sh, uint64_t seed, const uint8_t id[16],
		  uint32_t index);
void block_seal(struct format_block *b, uint64_t seed);
/* left: bytes from the block's start to the end of what may hold blocks. */
bool block_good(const struct format_block *b, uint64_t seed, uint64_t generation, uint64_t offset,
		uint64_t left);
void footer_seal(struct format_footer *f, const struct format_entry *entries, uint64_t seed);
bool footer_good(const struct format_footer *f, uint64_t seed, uint64_t generation,
		 uint64_t seg_size);
bool table_good(const struct format_footer *f, const struct format_entry *entries, uint64_t seed);
void lead_seal(struct format_lead *l, uint64_t seed);
/* half: which one it lies in; room: bytes that may hold chunks. */
bool lead_good(const struct format_lead *l, uint64_t seed, unsigned half, uint64_t room);
/* c and its clocks, which are complete. */
void clocks_seal(struct format_clocks *c, uint64_t seed);
/* left: bytes from c on that may be looked at. */
bool clocks_good(const struct format_clocks *c, size_t left, uint64_t seed);
static inline size_t clocks_bytes(uint64_t values)
{
	return (sizeof(struct format_clocks) + (values + 3) / 4 + FORMAT_CLOCKS_ALIGN - 1) &
	       ~(size_t)(FORMAT_CLOCKS_ALIGN - 1);
}
/* What stands for a record in a table's DROP: its place and the life of the segment it lies in. */
static inline uint64_t drop_hash(uint64_t place, uint64_t generation)
{
	uint64_t h = (place ^ generation * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;

	return h ^ h >> 32;
}
/* And in a tombstone: 16 bits of that, never 0. */
static inline uint32_t named_mark(uint64_t drop)
{
	return (drop & 0xffff) != 0 ? (uint32_t)(drop & 0xffff) : 1;
}

/* A record's entry in its segment's table. hash: of its key; a DROP and a FLUSH have none. */
struct format_entry entry_make(const struct format_record *r, uint64_t hash);
static inline uint32_t entry_units(const struct format_entry *e)
{
	return e->type == FORMAT_TOMBSTONE ? e->units & 0xff : e->units;
}
/* Of a TOMBSTONE the named_mark() of the record that it names; 0: a table from before there were marks. */
static inline uint32_t entry_named(const struct format_entry *e)
{
	return e->type == FORMAT_TOMBSTONE ? e->units >> 8 : 0;
}

/* Bytes of a table with n entries on disk, without the footer. */
static inline uint64_t table_bytes(uint64_t n)
{
	return (n * sizeof(struct format_entry) + FORMAT_ALIGN - 1) & ~(uint64_t)(FORMAT_ALIGN - 1);
}

#endif
