/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects for tests of the cache: each knows its key, says when it is dead, and is counted.
 * Segments' bytes are the object's: key, length, then words made of the key.
 */
#ifndef TESTS_UNIT_OCACHE_RIG_H
#define TESTS_UNIT_OCACHE_RIG_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "ocache/ocache.h"

#define OBJECT_ALIVE 0xa11fe0b1ec7ull
#define OBJECT_DEAD  0xdeadull

struct object {
	_Atomic uint64_t state;
	struct seg_id id;
	size_t size;
	uint64_t word[];
};

static _Atomic int64_t objects_alive, objects_bytes;

static inline struct seg_id id_of(uint64_t key)
{
	/* as UUIDs are: some bits the same in all */
	uint64_t x = (key + 1) * 0x9e3779b97f4a7c15ull;

	x ^= x >> 29;
	return (struct seg_id){(x & ~0xf000ull) | 0x4000, (key << 2 >> 2) | 1ull << 63};
}

static inline uint64_t word_of(struct seg_id id, size_t i)
{
	return (id.hi ^ id.lo * 3) + i * 0x2545f4914f6cdd1dull;
}

/* From now on the process gets so many bytes of addresses more. The limit of before, for setrlimit(). */
static inline struct rlimit limit_addresses(uint64_t more)
{
	FILE *p = fopen("/proc/self/statm", "re");
	struct rlimit before, small;
	unsigned long pages;

	assert_non_null(p);
	assert_int_equal(fscanf(p, "%lu", &pages), 1);
	fclose(p);
	assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
	small = before;
	small.rlim_cur = pages * (rlim_t)sysconf(_SC_PAGESIZE) + more;
	assert_int_equal(setrlimit(RLIMIT_AS, &small), 0);
	return before;
}

static inline struct object *object_new(struct seg_id id, size_t size)
{
	struct object *o;

	size = size < sizeof *o ? sizeof *o : size & ~7ul;
	o = malloc(size);
	if (o == NULL)
		return NULL;
	atomic_init(&o->state, OBJECT_ALIVE);
	o->id = id;
	o->size = size;
	for (size_t i = 0; i < (size - sizeof *o) / 8; i++)
		o->word[i] = word_of(id, i);
	atomic_fetch_add(&objects_alive, 1);
	atomic_fetch_add(&objects_bytes, (int64_t)size);
	return o;
}

static inline void object_destroy(void *ctx, void *object)
{
	struct object *o = object;

	(void)ctx;
	if (atomic_load_explicit(&o->state, memory_order_relaxed) != OBJECT_ALIVE) {
		fprintf(stderr, "an object was destroyed twice\n");
		abort();
	}
	atomic_store_explicit(&o->state, OBJECT_DEAD, memory_order_relaxed);
	atomic_fetch_sub(&objects_alive, 1);
	atomic_fetch_sub(&objects_bytes, (int64_t)o->size);
	free(o);
}

/* Aborts unless ref is alive, of this key, and whole at both ends. */
static inline void object_check(const struct ocache_ref *ref, struct seg_id id)
{
	const struct object *o = ref->object;
	size_t words = (o->size - sizeof *o) / 8;

	if (atomic_load_explicit(&o->state, memory_order_relaxed) != OBJECT_ALIVE ||
	    o->id.hi != id.hi || o->id.lo != id.lo || o->size != ref->size ||
	    (words > 0 &&
	     (o->word[0] != word_of(id, 0) || o->word[words - 1] != word_of(id, words - 1)))) {
		fprintf(stderr, "not the object of its key: state %llx, key %llx, not %llx\n",
			(unsigned long long)o->state, (unsigned long long)o->id.hi,
			(unsigned long long)id.hi);
		abort();
	}
}

/* A segment's bytes are an id and a size. */
struct segment {
	struct seg_id id;
	uint64_t size;
};

static inline int object_decode(void *ctx, struct seg_id id, const void *bytes, size_t len,
				void **object, size_t *size)
{
	struct segment s;
	struct object *o;

	(void)ctx;
	if (len != sizeof s)
		return -EBADMSG;
	memcpy(&s, bytes, sizeof s);
	if (s.id.hi != id.hi || s.id.lo != id.lo)
		return -EBADMSG;
	o = object_new(id, s.size);
	if (o == NULL)
		return -ENOMEM;
	*object = o;
	*size = o->size;
	return 0;
}

static const struct ocache_decoder object_decoder = {NULL, object_decode, object_destroy};

static inline struct ocache *cache_open(uint64_t budget)
{
	struct ocache_config cfg = {
	    .struct_size = sizeof cfg, .budget = budget, .decoder = &object_decoder};
	struct ocache *c = NULL;
	char *cause = NULL;

	if (ocache_open(&cfg, &c, &cause) != 0)
		fail_msg("%s", cause);
	return c;
}

static inline struct ocache_stats stats_of(struct ocache *c)
{
	struct ocache_stats st;

	ocache_stats(c, &st, sizeof st);
	return st;
}

/* Closes, and nothing is left. */
static inline void cache_close(struct ocache *c)
{
	assert_int_equal(ocache_close(&c), 0);
	assert_null(c);
	assert_int_equal(objects_alive, 0);
	assert_int_equal(objects_bytes, 0);
}

static inline int add(struct ocache *c, uint64_t key, size_t size, struct ocache_ref *ref)
{
	struct object *o = object_new(id_of(key), size);

	assert_non_null(o);
	return ocache_add(c, id_of(key), &object_decoder, o, o->size, ref);
}

/* Is it there? Looks at it, too. */
static inline bool has(struct ocache *c, uint64_t key)
{
	struct ocache_ref ref;
	int err = ocache_get(c, id_of(key), NULL, NULL, &ref);

	if (err == 0) {
		object_check(&ref, id_of(key));
		ocache_release(&ref);
	} else {
		assert_int_equal(err, -ENOENT);
	}
	return err == 0;
}

#endif
