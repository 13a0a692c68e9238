/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for values: one arena, cut into 2-MiB chunks, chunks into objects of size classes no more
 * than 12.5 % apart (above 4 KiB; above 128 KiB as far apart as fits a chunk once more), and the
 * RAM tier that lives in it.
 *
 * An object is a struct buf: memory for one record as it is on disk, with a reference count.
 * It is in flight (somebody holds a reference), or resident (the RAM tier holds it), or both, or
 * free. So the buffer that a disk read filled is the buffer that is sent, then kept or dropped.
 * An empty chunk may change its class. An unpinned resident may be moved to other memory: a struct
 * buf is a resident's only as long as a reference to it is held.
 *
 * The tier is scan-resistant: S3-FIFO (Yang et al., "FIFO queues are all you need for cache
 * eviction", SOSP 2023): a small queue, a main queue, a ghost list of fingerprints.
 *
 * Rules:
 *  Any thread may call anything here.
 *  The bytes of a resident buf never change. They are written before ram_insert().
 *  buf_put() of the last reference to a buf that is not resident frees it.
 *  ram_alloc() never blocks: NULL means that no object is free that is large enough, and no
 *        resident without a reference is in the way of one; try again after a buf_put().
 *        In-flight buffers may take more than buffer_bytes: residents then make room. Residents
 *        never take more than their budget, overhead included.
 *  Eviction never waits for references: an evicted buf leaves the table at once and is freed
 *        by its last buf_put().
 */
#ifndef VALCACHED_STORE_RAM_H
#define VALCACHED_STORE_RAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ram;

#define RAM_CHUNK (2u << 20)
/* Largest object: a record of a 1-MiB value with header, key, sums and alignment slack. */
#define RAM_OBJECT_MAX ((1u << 20) + 16384u)

struct buf {
	/* Aligned to 4096 if size is a multiple of it (every size above 32 KiB is), else to 512. */
	uint8_t *mem;
	uint32_t size;         /* bytes of the object: the class's size */
	uint32_t rec_off;      /* where the record's header (format_record) begins in mem */
	uint64_t hash;         /* resident: the key's */
	_Atomic uint64_t loc;  /* resident: the record's place on disk in units, 0: RAM only */
	_Atomic uint32_t refs; /* the tier's hold on a resident one is one of them */
	_Atomic uint8_t freq;  /* resident: touches since it came or was reinserted, 0 to 3 */
	uint8_t queue;         /* resident: which queue */
	uint16_t class_id;
	/* ram's own follow; see ram_int.h */
	uint32_t chunk;
	uint32_t chain, prev, next;
	uint32_t born_s; /* resident: when it came, coarse monotonic seconds */
	uint32_t reserved;
};

struct ram_config {
	uint64_t ram_bytes;     /* budget of resident bytes */
	uint64_t buffer_bytes;  /* in-flight bytes on top of it */
	uint64_t ram_bytes_max; /* the most ram_resize() may ask for; address space only; 0: 4x */
};

/* cause: a sentence on failure. Memory is touched as chunks are used. */
int ram_open(const struct ram_config *cfg, struct ram **r, char **cause);
void ram_close(struct ram **r);
/* The arena, for io_add_memory(): base and the length in use now (ram + buffers). */
void ram_arena(const struct ram *r, void **base, size_t *len);
/*
 * What ram_arena() says is registered with the kernel, which has pinned its pages: it is never given
 * back. The kernel would keep the old pages and go on reading into them, and we would see new ones.
 */
void ram_arena_pinned(struct ram *r);
/*
 * New budget. 0, -EINVAL above ram_bytes_max. Evicts at once; memory goes back to the system, but for
 * what is pinned.
 */
int ram_resize(struct ram *r, uint64_t ram_bytes);

/*
 * An object of at least size bytes, refs 1, not resident, rec_off 0; contents undefined.
 * NULL. Between 4 and 32 KiB mem may be aligned to 512 only: for a device that wants 4096,
 * ask for 4096 more and align inside.
 */
struct buf *ram_alloc(struct ram *r, uint32_t size);
static inline void buf_get(struct buf *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
}
/*
 * The same from the system's memory, for when the arena is pinned here and there: aligned to 4096, never
 * resident (ram_insert() leaves it alone), not known to the rings. The caller bounds its use. NULL: the
 * system has none.
 */
struct buf *ram_alloc_outside(struct ram *r, uint32_t size);
void buf_put(struct ram *r, struct buf *b);
/* Bytes that ram_alloc(size) would take. */
uint32_t ram_class_size(uint32_t size);

/*
 * The resident buf of this key with one more reference, or NULL. Counts as a touch; *touched says
 * that freq has risen (so it is time to raise the clock of the index as well).
 */
struct buf *ram_lookup(struct ram *r, uint64_t hash, const void *key, unsigned key_len,
		       bool *touched);
/*
 * The same without a reference, for a look: the buf stays as it is until ram_let_go(*held), which comes
 * before any other call with this ram. NULL: nothing is held.
 */
struct ram_line;
struct buf *ram_hold(struct ram *r, uint64_t hash, const void *key, unsigned key_len, bool *touched,
		     struct ram_line **held);
void ram_let_go(struct ram_line *held);
/* Stage 0: the table's line; 1: the state of what its tag points to; 2: the record. Hints. */
void ram_prefetch(const struct ram *r, uint64_t hash, unsigned stage);
/* Is this key resident? No reference, no touch. */
bool ram_has(struct ram *r, uint64_t hash, const void *key, unsigned key_len);

/*
 * Makes b resident under its record's key (rec_off, hash, loc are set; the caller keeps its
 * reference). If the key is there already, the older one is replaced. A record seen in the ghost
 * list goes to the main queue, another to the small one. The caller holds the key's lock.
 */
void ram_insert(struct ram *r, struct buf *b);
/* Removes the key, if there. The caller holds the key's lock. */
bool ram_remove(struct ram *r, uint64_t hash, const void *key, unsigned key_len);
/* The record got a place on disk (or a new one, or lost it: 0), if b is still resident. */
void ram_relocate(struct ram *r, uint64_t hash, uint64_t from_loc, uint64_t to_loc);
/* The same for every record whose place is in [from, to): it has none any more. Rare: walks the table. */
void ram_displace(struct ram *r, uint64_t from_loc, uint64_t to_loc);
void ram_clear(struct ram *r);

#define RAM_COUNTERS(X)                                                                            \
	X(arena_bytes, "gauge: bytes of the arena in chunks")                                      \
	X(resident_bytes, "gauge: bytes of resident objects, by class size, with overhead")        \
	X(resident_items, "gauge: resident objects")                                               \
	X(pinned_bytes,                                                                            \
	  "gauge: bytes of objects that somebody holds a reference to and that are not resident")  \
	X(outside_bytes,                                                                           \
	  "gauge: in-flight bytes outside of the arena, which was pinned here and there")          \
	X(limit_bytes, "gauge: budget of resident bytes")                                          \
	X(free_chunks, "gauge: chunks without a class")                                            \
	X(inserts, "records made resident")                                                        \
	X(ghost_hits, "records that came back while remembered in the ghost list")                 \
	X(evicted_small, "evicted from the small queue")                                           \
	X(evicted_main, "evicted from the main queue")                                             \
	X(chunk_moves, "chunks that changed class")                                                \
	X(alloc_failures, "ram_alloc() that returned NULL")
struct ram_stats {
#define X(n, s) uint64_t n;
	RAM_COUNTERS(X)
#undef X
};
void ram_stats(struct ram *r, struct ram_stats *out);
struct ram_class_stats {
	uint32_t size;
	uint64_t chunks, objects, resident, pinned, evicted;
	uint64_t age_s; /* of the oldest resident */
};
/* Fills up to max classes; returns how many there are. */
unsigned ram_class_stats(struct ram *r, struct ram_class_stats *out, unsigned max);

#endif
