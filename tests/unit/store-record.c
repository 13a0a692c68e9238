/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies on disk, byte by byte: every single-bit error in a record's head, a block, a header, a
 * table, a footer is found; a sound record of another life or place is told from a torn one; sizes
 * are right at their borders.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "valcached/store/record.h"

static const uint8_t id[16] = "a store's own id";

static uint32_t make(uint8_t *mem, uint8_t key_len, uint32_t value_len, uint64_t generation,
		     uint32_t at)
{
	struct format_record *r = (struct format_record *)(void *)mem;

	memset(mem, 0, 4096);
	*r = (struct format_record){.magic = FORMAT_RECORD_MAGIC,
				    .type = FORMAT_VALUE,
				    .key_len = key_len,
				    .flags = 7,
				    .value_len = value_len,
				    .seq = 99,
				    .generation = generation,
				    .units_at = at,
				    .value_off = record_value_off(key_len, value_len)};
	memset(mem + sizeof *r, 'k', key_len);
	if (value_len <= FORMAT_WHOLE_MAX) {
		memset(mem + r->value_off, 'v', value_len);
		record_content(mem + r->value_off, value_len, r->content);
		record_fill_sums(mem, key_len, value_len);
	}
	record_seal(mem, record_seed(id));
	return record_head_len(key_len, value_len);
}

static void heads(void **state)
{
	static const uint8_t keys[] = {1, 7, 8, 9, 250};
	static const uint32_t lens[] = {0,
					1,
					4096,
					FORMAT_CHUNK,
					FORMAT_CHUNK + 1,
					FORMAT_WHOLE_MAX,
					FORMAT_WHOLE_MAX + 1,
					FORMAT_SEG_MAX};
	uint8_t *mem = malloc(2u << 20);
	uint64_t seed = record_seed(id);
	struct format_record rec;

	(void)state;
	for (unsigned k = 0; k < sizeof keys; k++)
		for (unsigned l = 0; l < sizeof lens / sizeof lens[0]; l++) {
			uint32_t head = make(mem, keys[k], lens[l], 5, 64);

			assert_int_equal(record_check(mem, head, seed, 5, 64, &rec), RECORD_GOOD);
			assert_int_equal(rec.value_len, lens[l]);
			assert_true(head <= rec.value_off && rec.value_off <= RECORD_HEAD_MAX);
			assert_int_equal(rec.value_off % 8, 0);
			/* of another life, another place, another store; cut short */
			assert_int_equal(record_check(mem, head, seed, 6, 64, &rec),
					 RECORD_FOREIGN);
			assert_int_equal(record_check(mem, head, seed, 5, 65, &rec),
					 RECORD_FOREIGN);
			assert_int_equal(record_check(mem, head, seed + 1, 5, 64, &rec),
					 RECORD_TORN);
			assert_int_equal(record_check(mem, head - 1, seed, 5, 64, &rec),
					 RECORD_TORN);
			assert_int_equal(record_check(mem, 63, seed, 5, 64, &rec), RECORD_TORN);
			assert_int_equal(record_check(mem, 0, seed, 5, 64, &rec), RECORD_TORN);
			for (uint32_t bit = 0; bit < head * 8; bit++) {
				mem[bit / 8] ^= (uint8_t)(1u << bit % 8);
				assert_int_not_equal(record_check(mem, 4096, seed, 5, 64, &rec),
						     RECORD_GOOD);
				mem[bit / 8] ^= (uint8_t)(1u << bit % 8);
			}
		}
	/* well summed nonsense */
	for (unsigned i = 0; i < 7; i++) {
		struct format_record *r = (struct format_record *)(void *)mem;

		make(mem, 10, 100, 5, 64);
		if (i == 0)
			r->type = 0;
		else if (i == 1)
			r->type = FORMAT_FLUSH; /* with a key */
		else if (i == 2)
			r->type = FORMAT_TOMBSTONE; /* with a value */
		else if (i == 3)
			r->value_off += 8;
		else if (i == 4)
			r->seq = 0;
		else if (i == 5)
			r->key_len = 251;
		else
			r->value_len = UINT32_MAX;
		if (i < 5)
			record_seal(mem, seed);
		assert_int_equal(record_check(mem, 4096, seed, 5, 64, &rec), RECORD_TORN);
	}
	free(mem);
}

static void values(void **state)
{
	static const uint32_t lens[] = {
	    0, 1, FORMAT_CHUNK, FORMAT_CHUNK + 1, 3 * FORMAT_CHUNK - 1, FORMAT_WHOLE_MAX};
	uint8_t *mem = malloc(2u << 20);
	struct format_record rec;

	(void)state;
	for (unsigned l = 0; l < sizeof lens / sizeof lens[0]; l++) {
		uint32_t len = lens[l];

		make(mem, 36, len, 5, 64);
		memcpy(&rec, mem, sizeof rec);
		assert_true(record_value_good(mem, &rec, 0, mem + rec.value_off, len));
		for (uint32_t i = 0; i < len; i += len / 37 + 1) {
			mem[rec.value_off + i] ^= 4;
			assert_false(record_value_good(mem, &rec, 0, mem + rec.value_off, len));
			mem[rec.value_off + i] ^= 4;
		}
		if (len > FORMAT_CHUNK) /* a chunk alone */
			assert_true(record_value_good(
			    mem, &rec, FORMAT_CHUNK, mem + rec.value_off + FORMAT_CHUNK,
			    len - FORMAT_CHUNK < FORMAT_CHUNK ? len - FORMAT_CHUNK : FORMAT_CHUNK));
		assert_int_equal(record_units(rec.value_off, len),
				 (rec.value_off + len + 127) / 128);
	}
	free(mem);
}

#define EVERY_BIT(thing, good)                                                                     \
	for (uint32_t bit_ = 0; bit_ < 8 * sizeof(thing); bit_++) {                                \
		((uint8_t *)&(thing))[bit_ / 8] ^= (uint8_t)(1u << bit_ % 8);                      \
		assert_false(good);                                                                \
		((uint8_t *)&(thing))[bit_ / 8] ^= (uint8_t)(1u << bit_ % 8);                      \
	}                                                                                          \
	assert_true(good)

static void frames(void **state)
{
	static struct format_super sb;
	static struct format_segment sh;
	static struct format_block b;
	uint64_t seed = record_seed(id);

	(void)state;
	sb.magic = FORMAT_SUPER_MAGIC;
	super_seal(&sb);
	EVERY_BIT(sb, super_good(&sb));
	sh = (struct format_segment){
	    .magic = FORMAT_SEG_MAGIC, .version = FORMAT_VERSION, .index = 3, .generation = 9};
	memcpy(sh.store_id, id, 16);
	segment_seal(&sh, seed);
	EVERY_BIT(sh, segment_good(&sh, seed, id, 3));
	assert_false(segment_good(&sh, seed, id, 4));
	b = (struct format_block){.magic = FORMAT_BLOCK_MAGIC,
				  .bytes = 8192,
				  .generation = 9,
				  .offset = 4096,
				  .used = 8000};
	block_seal(&b, seed);
	EVERY_BIT(b, block_good(&b, seed, 9, 4096, 8192));
	assert_false(block_good(&b, seed, 9, 4096, 8191));
	assert_false(block_good(&b, seed, 8, 4096, 8192));
	assert_false(block_good(&b, seed, 9, 8192, 8192));
}

static void tables(void **state)
{
	static struct format_entry e[300];
	static struct format_footer f;
	uint64_t seed = record_seed(id);
	const uint64_t seg = 4u << 20;

	(void)state;
	for (unsigned i = 0; i < 300; i++)
		e[i] = (struct format_entry){.hash = i,
					     .seq = i + 1,
					     .units_at = 36 + 4 * i,
					     .units = 4,
					     .type = FORMAT_VALUE};
	f = (struct format_footer){.magic = FORMAT_FOOT_MAGIC,
				   .version = FORMAT_VERSION,
				   .entries = 300,
				   .generation = 9,
				   .table_off = seg - 4096 - table_bytes(300)};
	footer_seal(&f, e, seed);
	EVERY_BIT(f, footer_good(&f, seed, 9, seg));
	assert_false(footer_good(&f, seed, 8, seg));
	EVERY_BIT(e, table_good(&f, e, seed));
	/* well summed, but leading out of the segment, also where numbers overflow; or of no seq */
	for (unsigned i = 0; i < 5; i++) {
		struct format_entry was = e[17];

		if (i == 0)
			e[17].units_at = (uint32_t)(f.table_off / FORMAT_UNIT) - 3;
		else if (i == 1)
			e[17].units_at = UINT32_MAX - 2;
		else if (i == 2)
			e[17].units_at = 31;
		else if (i == 3)
			e[17].seq = 0;
		else
			e[17].units = 0;
		footer_seal(&f, e, seed);
		assert_false(table_good(&f, e, seed));
		e[17] = was;
	}
	assert_int_equal(table_bytes(0), 0);
	assert_int_equal(table_bytes(170), 4096);
	assert_int_equal(table_bytes(171), 8192);
}

/* What a table says of each kind of record. */
static void entries(void **state)
{
	struct format_record r = {.type = FORMAT_TOMBSTONE,
				  .key_len = 250,
				  .value_off = 64 + 250,
				  .seq = 7,
				  .units_at = 40,
				  .content = {900, 12}};
	struct format_entry e = entry_make(&r, 55), of_old;
	uint64_t low = 0; /* a place whose mark would be 0 */

	(void)state;
	assert_int_equal(entry_units(&e), 3);
	assert_int_equal(entry_named(&e), named_mark(drop_hash(900, 12)));
	assert_true(e.hash == 55 && e.seq == 7 && e.units_at == 40 && e.type == FORMAT_TOMBSTONE);
	of_old = e;
	of_old.units = 3;
	assert_int_equal(entry_units(&of_old), 3);
	assert_int_equal(entry_named(&of_old), 0);
	while ((drop_hash(low, 12) & 0xffff) != 0)
		low++;
	r.content[0] = low;
	e = entry_make(&r, 55);
	assert_int_equal(entry_named(&e), 1);
	r.type = FORMAT_DROP;
	e = entry_make(&r, 0);
	assert_true(e.hash == drop_hash(low, 12) && entry_units(&e) == 3 && entry_named(&e) == 0);
	r = (struct format_record){.type = FORMAT_VALUE, .value_off = 128, .value_len = 64u << 20};
	e = entry_make(&r, 1);
	assert_int_equal(entry_units(&e), (64u << 20) / 128 + 1);
	assert_int_equal(entry_named(&e), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(entries), cmocka_unit_test(heads),  cmocka_unit_test(values),
	    cmocka_unit_test(frames),  cmocka_unit_test(tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
