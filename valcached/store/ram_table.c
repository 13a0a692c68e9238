/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a key to its resident buf: lines of eight entries (tag and id), each with a lock, that grow
 * one by one (Litwin, "Linear hashing", VLDB 1980), so that the table costs 16 bytes a resident
 * whatever their size, and no growth stops anybody.
 *
 * With n lines in use and mask the next power of two less one, a hash belongs to line hash & mask,
 * or, if that is not there yet, to line hash & (mask >> 1). Adding line n splits line n & (mask >>
 * 1).
 *
 *  [RT-1] shape changes with the split line locked: so a hash whose line was locked, and is its
 *         line by the shape read after that too, stays there until the line is unlocked.
 *  [RT-2] Lines above n are touched by the thread under r->lock alone.
 */
#include <string.h>

#include "valcached/store/ram_int.h"

#define RAM_PREFETCH 256u /* bytes of a record */

static uint32_t line_of(uint64_t shape, uint64_t hash)
{
	uint32_t mask = (uint32_t)(shape >> 32);
	uint32_t i = (uint32_t)hash & mask;

	return i < (uint32_t)shape ? i : i & (mask >> 1);
}

static uint16_t tag_of(uint64_t hash)
{
	return (uint16_t)(hash >> 48);
}

struct ram_line *ram__line(const struct ram *r, uint64_t hash)
{
	uint64_t shape = atomic_load_explicit(&r->shape, memory_order_acquire);

	for (;;) {
		uint32_t i = line_of(shape, hash);
		struct ram_line *l = &r->lines[i];

		ram_lock(&l->lock);
		shape = atomic_load_explicit(&r->shape, memory_order_acquire);
		if (likely(line_of(shape, hash) == i))
			return l;
		ram_unlock(&l->lock);
	}
}

static bool is_key(const struct buf *b, uint64_t hash, const void *key, unsigned key_len)
{
	const uint8_t *rec = b->mem + b->rec_off;

	return b->hash == hash && rec[offsetof(struct format_record, key_len)] == key_len &&
	       memcmp(rec + sizeof(struct format_record), key, key_len) == 0;
}

/* One bit at the top of each 16-bit lane that is zero; lanes above a true one may be false. */
static uint64_t zero_lanes(uint64_t x)
{
	return (x - 0x0001000100010001ull) & ~x & 0x8000800080008000ull;
}

/*
 * Reads the line without its lock: what it finds may be stale, and is only ever prefetched. The ids
 * are bounded by the arena, so their bufs are always mapped.
 */
__attribute__((no_sanitize("thread"))) void ram_prefetch(const struct ram *r, uint64_t hash,
							 unsigned stage)
{
	const struct ram_line *l =
	    &r->lines[line_of(atomic_load_explicit(&r->shape, memory_order_relaxed), hash)];
	uint64_t want = tag_of(hash) * 0x0001000100010001ull;

	if (stage == 0) {
		__builtin_prefetch(l, 1);
		return;
	}
	for (unsigned half = 0; half < RAM_WAYS / 4; half++) {
		uint64_t m = zero_lanes(l->tags[half] ^ want);

		if (m != 0) {
			uint32_t id = l->id[half * 4 + (unsigned)__builtin_ctzll(m) / 16];
			const struct buf *b = ram__buf(r, id);

			if (id == 0)
				continue;
			if (stage == 1) {
				__builtin_prefetch(b, 1);
			} else {
				/* header and key; of a small value most or all, a large one is sent by reference */
				for (unsigned at = 0; at < RAM_PREFETCH; at += 64)
					__builtin_prefetch(b->mem + b->rec_off + at);
			}
			return;
		}
	}
}

struct buf *ram__find(const struct ram *r, const struct ram_line *l, uint64_t hash, const void *key,
		      unsigned key_len)
{
	uint64_t want = tag_of(hash) * 0x0001000100010001ull;

	for (unsigned half = 0; half < RAM_WAYS / 4; half++) {
		uint64_t m = zero_lanes(l->tags[half] ^ want);

		for (; m != 0; m &= m - 1) {
			uint32_t id = l->id[half * 4 + (unsigned)__builtin_ctzll(m) / 16];
			struct buf *b = ram__buf(r, id);

			if (id != 0 && is_key(b, hash, key, key_len))
				return b;
		}
	}
	for (uint32_t id = l->over; id != 0; id = ram__buf(r, id)->chain) {
		if (is_key(ram__buf(r, id), hash, key, key_len))
			return ram__buf(r, id);
	}
	return NULL;
}

void ram__enter(struct ram *r, struct ram_line *l, struct buf *b)
{
	for (unsigned i = 0; i < RAM_WAYS; i++) {
		if (l->id[i] == 0) {
			l->id[i] = ram__id(r, b);
			l->tag[i] = tag_of(b->hash);
			return;
		}
	}
	b->chain = l->over;
	l->over = ram__id(r, b);
}

bool ram__leave(struct ram *r, struct ram_line *l, struct buf *b)
{
	uint32_t id = ram__id(r, b);

	for (unsigned i = 0; i < RAM_WAYS; i++) {
		if (l->id[i] == id) {
			l->id[i] = l->over;
			if (l->over != 0) {
				struct buf *o = ram__buf(r, l->over);

				l->tag[i] = tag_of(o->hash);
				l->over = o->chain;
			}
			return true;
		}
	}
	for (uint32_t *at = &l->over; *at != 0; at = &ram__buf(r, *at)->chain) {
		if (*at == id) {
			*at = b->chain;
			return true;
		}
	}
	return false;
}

void ram__grow(struct ram *r)
{
	uint64_t shape = atomic_load_explicit(&r->shape, memory_order_relaxed);
	uint32_t n = (uint32_t)shape, mask = (uint32_t)(shape >> 32);
	uint64_t items = r->fifo[RAM_SMALL].items + r->fifo[RAM_MAIN].items;
	struct ram_line old, *from, *to;

	if (items <= (uint64_t)n * RAM_LINE_LOAD || n >= r->lines_max)
		return;
	if (n > mask)
		mask = mask * 2 + 1;
	to = &r->lines[n];
	memset(to, 0, sizeof *to);
	from = &r->lines[n & (mask >> 1)];
	ram_lock(&from->lock);
	shape = (uint64_t)mask << 32 | (n + 1);
	memcpy(old.id, from->id, sizeof old.id);
	old.over = from->over;
	memset(from->id, 0, sizeof from->id);
	from->over = 0;
	for (unsigned i = 0; i < RAM_WAYS; i++) {
		struct buf *b = ram__buf(r, old.id[i]);

		if (old.id[i] != 0)
			ram__enter(r, line_of(shape, b->hash) == n ? to : from, b);
	}
	for (uint32_t id = old.over, next; id != 0; id = next) {
		struct buf *b = ram__buf(r, id);

		next = b->chain;
		ram__enter(r, line_of(shape, b->hash) == n ? to : from, b);
	}
	atomic_store_explicit(&r->shape, shape, memory_order_release); /* [RT-1] */
	ram_unlock(&from->lock);
}
