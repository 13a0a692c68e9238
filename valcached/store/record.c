/* SPDX-License-Identifier: Apache-2.0 */
/* Making and checking records, blocks, headers and tables; see record.h and format.h. */
#include <string.h>

#include "base/sum.h"
#include "base/assert.h"
#include "base/xxh.h"
#include "valcached/store/record.h"

uint64_t record_seed(const uint8_t store_id[16])
{
	return XXH3_64bits(store_id, 16);
}

/* The header up to its checksum, then all after it, chained through the seed. */
static uint64_t head_sum(const uint8_t *head, size_t head_len, uint64_t seed)
{
	uint64_t h = XXH3_64bits_withSeed(head, offsetof(struct format_record, sum), seed);

	return XXH3_64bits_withSeed(head + sizeof(struct format_record),
				    head_len - sizeof(struct format_record), h);
}

void record_seal(uint8_t *head, uint64_t seed)
{
	struct format_record *r = (struct format_record *)(void *)head;

	r->sum = head_sum(head, record_head_len(r->key_len, r->value_len), seed);
}

enum record_verdict record_check(const uint8_t *mem, size_t avail, uint64_t seed,
				 uint64_t generation, uint32_t units_at, struct format_record *out)
{
	struct format_record r;

	if (avail < sizeof r)
		return RECORD_TORN;
	memcpy(&r, mem, sizeof r);
	if (r.magic != FORMAT_RECORD_MAGIC || r.type < FORMAT_VALUE || r.type > FORMAT_FLUSH ||
	    r.seq == 0)
		return RECORD_TORN;
	if (r.key_len > FORMAT_KEY_MAX || r.value_len > FORMAT_SEG_MAX)
		return RECORD_TORN;
	if ((r.type == FORMAT_VALUE || r.type == FORMAT_TOMBSTONE) != (r.key_len > 0))
		return RECORD_TORN;
	if (r.type != FORMAT_VALUE && r.value_len != 0)
		return RECORD_TORN;
	if (r.value_off != record_value_off(r.key_len, r.value_len))
		return RECORD_TORN;
	if (record_head_len(r.key_len, r.value_len) > avail)
		return RECORD_TORN;
	if (r.sum != head_sum(mem, record_head_len(r.key_len, r.value_len), seed))
		return RECORD_TORN;
	if (r.generation != generation || r.units_at != units_at)
		return RECORD_FOREIGN;
	*out = r;
	return RECORD_GOOD;
}

void record_content(const uint8_t *value, size_t len, uint64_t content[2])
{
	sum128(value, len, content);
}

void record_fill_sums(uint8_t *head, uint32_t key_len, uint32_t value_len)
{
	uint32_t off = record_value_off(key_len, value_len);

	for (uint32_t i = 0, n = record_chunks(value_len); i < n; i++) {
		uint32_t at = i * FORMAT_CHUNK;
		uint32_t len = value_len - at < FORMAT_CHUNK ? value_len - at : FORMAT_CHUNK;
		uint64_t sum = sum64(head + off + at, len);

		memcpy(head + record_sums_off(key_len) + 8u * i, &sum, 8);
	}
}

bool record_value_good(const uint8_t *head, const struct format_record *rec, uint32_t off,
		       const uint8_t *data, uint32_t len)
{
	if (record_chunks(rec->value_len) == 0) {
		uint64_t content[2];

		if (off != 0 || len != rec->value_len)
			return false;
		record_content(data, len, content);
		return content[0] == rec->content[0] && content[1] == rec->content[1];
	}
	for (uint32_t did = 0; did < len;) {
		uint32_t n = len - did < FORMAT_CHUNK ? len - did : FORMAT_CHUNK;
		uint64_t want;

		memcpy(&want,
		       head + record_sums_off(rec->key_len) + 8u * ((off + did) / FORMAT_CHUNK), 8);
		if (sum64(data + did, n) != want)
			return false;
		did += n;
	}
	return true;
}

void super_seal(struct format_super *sb)
{
	sb->sum = XXH3_64bits(sb, offsetof(struct format_super, sum));
}

bool super_good(const struct format_super *sb)
{
	return sb->magic == FORMAT_SUPER_MAGIC &&
	       sb->sum == XXH3_64bits(sb, offsetof(struct format_super, sum));
}

void segment_seal(struct format_segment *sh, uint64_t seed)
{
	sh->sum = XXH3_64bits_withSeed(sh, offsetof(struct format_segment, sum), seed);
}

bool segment_good(const struct format_segment *sh, uint64_t seed, const uint8_t id[16],
		  uint32_t index)
{
	return sh->magic == FORMAT_SEG_MAGIC && sh->version == FORMAT_VERSION &&
	       sh->index == index && sh->generation != 0 && memcmp(sh->store_id, id, 16) == 0 &&
	       sh->sum == XXH3_64bits_withSeed(sh, offsetof(struct format_segment, sum), seed);
}

void block_seal(struct format_block *b, uint64_t seed)
{
	b->sum = XXH3_64bits_withSeed(b, offsetof(struct format_block, sum), seed);
}

bool block_good(const struct format_block *b, uint64_t seed, uint64_t generation, uint64_t offset,
		uint64_t left)
{
	return b->magic == FORMAT_BLOCK_MAGIC && b->generation == generation &&
	       b->offset == offset && b->bytes >= FORMAT_ALIGN && b->bytes % FORMAT_ALIGN == 0 &&
	       b->bytes <= left && b->used >= FORMAT_BLOCK && b->used <= b->bytes &&
	       b->sum == XXH3_64bits_withSeed(b, offsetof(struct format_block, sum), seed);
}

struct format_entry entry_make(const struct format_record *r, uint64_t hash)
{
	uint32_t units = record_units(r->value_off, r->value_len);

	if (r->type == FORMAT_DROP)
		hash = drop_hash(r->content[0], r->content[1]);
	if (r->type == FORMAT_TOMBSTONE) {
		A(units <= 0xff);
		units |= named_mark(drop_hash(r->content[0], r->content[1])) << 8;
	}
	return (struct format_entry){.hash = hash,
				     .seq = r->seq,
				     .units_at = r->units_at,
				     .units = units & 0xffffffu,
				     .type = r->type};
}

void footer_seal(struct format_footer *f, const struct format_entry *entries, uint64_t seed)
{
	f->table_sum = XXH3_64bits_withSeed(entries, f->entries * sizeof *entries, seed);
	f->sum = XXH3_64bits_withSeed(f, offsetof(struct format_footer, sum), seed);
}

bool footer_good(const struct format_footer *f, uint64_t seed, uint64_t generation,
		 uint64_t seg_size)
{
	return f->magic == FORMAT_FOOT_MAGIC && f->version == FORMAT_VERSION &&
	       f->generation == generation && f->table_off % FORMAT_ALIGN == 0 &&
	       f->table_off >= FORMAT_ALIGN && f->others <= f->entries &&
	       f->table_off + table_bytes(f->entries) == seg_size - FORMAT_ALIGN &&
	       f->sum == XXH3_64bits_withSeed(f, offsetof(struct format_footer, sum), seed);
}

bool table_good(const struct format_footer *f, const struct format_entry *entries, uint64_t seed)
{
	if (f->table_sum != XXH3_64bits_withSeed(entries, f->entries * sizeof *entries, seed))
		return false;
	for (uint32_t i = 0; i < f->entries; i++) {
		const struct format_entry *e = &entries[i];

		if (e->type < FORMAT_VALUE || e->type > FORMAT_FLUSH || entry_units(e) == 0 ||
		    e->seq == 0 || e->units_at < FORMAT_ALIGN / FORMAT_UNIT ||
		    ((uint64_t)e->units_at + entry_units(e)) * FORMAT_UNIT > f->table_off)
			return false;
	}
	return true;
}

void lead_seal(struct format_lead *l, uint64_t seed)
{
	l->sum = XXH3_64bits_withSeed(l, offsetof(struct format_lead, sum), seed);
}

bool lead_good(const struct format_lead *l, uint64_t seed, unsigned half, uint64_t room)
{
	return l->magic == FORMAT_LEAD_MAGIC && l->version == FORMAT_VERSION &&
	       (l->save & 1) == half && l->bytes <= room && l->bytes % FORMAT_ALIGN == 0 &&
	       l->sum == XXH3_64bits_withSeed(l, offsetof(struct format_lead, sum), seed);
}

/* The header up to its sum, then the clocks with their padding. */
static uint64_t clocks_sum(const struct format_clocks *c, uint64_t seed)
{
	uint64_t h = XXH3_64bits_withSeed(c, offsetof(struct format_clocks, sum), seed);

	return XXH3_64bits_withSeed(c + 1, clocks_bytes(c->values) - sizeof *c, h);
}

void clocks_seal(struct format_clocks *c, uint64_t seed)
{
	c->sum = clocks_sum(c, seed);
}

bool clocks_good(const struct format_clocks *c, size_t left, uint64_t seed)
{
	return left >= sizeof *c && c->magic == FORMAT_CLOCK_MAGIC &&
	       clocks_bytes(c->values) <= left && c->sum == clocks_sum(c, seed);
}
