/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tier: whatever holds segments by id farther away than the object cache: a valcached, a
 * memcached cluster, files, a storage of record. ocache.h strings tiers into a chain and asks the
 * next one when one has no answer. This header is all that a tier needs to be written, and it is
 * usable from C++. What is written comes in an envelope (base/envelope.h) and must come back as it was, byte for byte: the
 * chain verifies it, unless the tier says that it has, and takes anything else for damage. ocache/skeleton/ is one to begin with, which says at each hook what it has to
 * do.
 *
 * Rules
 *  1. A read (struct seg_read) belongs to its asker. While it is in flight, from read() until
 *     done(), the tier may keep a pointer to it and use `own`; the asker changes nothing in it.
 *  2. Each read that was given to read() gets exactly one done(), on any thread, at any time:
 *     before read() has returned, after cancel(), or long after its deadline. The tier does not
 *     touch it after that. There is no other way to refuse one.
 *  3. Before done() the tier sets `status`, and `bytes` if it is 0. The asker owns that reference.
 *  4. `deadline_ns` is a help, not an order: a tier that knows sooner that it will fail may say
 *     -ETIMEDOUT then. The chain does not rely on it, it stops waiting by itself.
 *  5. cancel() asks for an early done(), by choice with -ECANCELED. It may come at the same moment
 *     as done(), or after it; the struct is still there until cancel() has returned, and the tier
 *     looks among the reads that it has before it touches it. It must not block.
 *  6. Writes (struct seg_write) are under rules 1, 2 and 4, and have no cancel.
 *  7. read(), write(), drop() and cancel() are called from any thread, several at a time, with no
 *     lock held; they do not wait for I/O. A library that blocks belongs behind threads of its own.
 *  8. done() may call read() of this or another tier before it returns, and may take microseconds,
 *     not more: it never decodes. No lock that read(), write(), drop() or cancel() take may be held
 *     when it is called.
 *  9. close() comes once, when nothing is in flight and no other call is made any more. It frees
 *     the tier.
 *
 * Statuses: 0; -ENOENT: the tier works and has no such segment. Everything else is a failure:
 * -ETIMEDOUT, -ECANCELED, -EIO, -ECONNREFUSED and its kin, -ENOMEM, -EAGAIN (too much in flight),
 * -EBADMSG (what it has is damaged; as with a value that the chain finds damaged, it is repaired). A number
 * above 0 is taken for -EIO.
 */
#ifndef OCACHE_TIER_H
#define OCACHE_TIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- segment ids --------------------------------------------------------------- */

/* A UUID; hi holds its first 16 hexadecimal digits. */
struct seg_id {
	uint64_t hi, lo;
};

#define SEG_ID_TEXT 37 /* "6243cb8a-2b3c-4031-a4cd-8c7df49e3981" and a zero byte */

/* Writes 36 lower-case characters and a zero byte. Returns text. Any thread. */
char *seg_id_format(struct seg_id id, char text[SEG_ID_TEXT]);
/* Reads 36 characters of either case, all of text. 0, or -EINVAL and *id is untouched. */
int seg_id_parse(const char *text, struct seg_id *id);

/* ---- bytes --------------------------------------------------------------------- */

/*
 * Bytes with a reference count. Whoever makes one fills it before it hands it on; from then on the
 * bytes do not change. Any thread; one seg_buf_drop() for each reference.
 */
struct seg_buf;

/* len bytes, not set, with one reference; NULL: no memory. */
struct seg_buf *seg_buf_new(size_t len);
/*
 * Memory of the caller's, freed by free_data(data, ctx) with the last reference, on the thread that
 * drops it. NULL: no memory, and data is still the caller's.
 */
struct seg_buf *seg_buf_wrap(void *data, size_t len, void (*free_data)(void *data, void *ctx),
			     void *ctx);
struct seg_buf *seg_buf_hold(struct seg_buf *buf); /* one reference more; returns buf */
void seg_buf_drop(struct seg_buf *buf);            /* NULL is fine */
void *seg_buf_data(const struct seg_buf *buf);
size_t seg_buf_len(const struct seg_buf *buf);
/* Only the first len bytes count from now on; before it is handed on. */
void seg_buf_cut(struct seg_buf *buf, size_t len);

/* ---- requests ------------------------------------------------------------------ */

struct seg_read {
	/* the asker's */
	struct seg_id id;
	int64_t deadline_ns; /* absolute, CLOCK_MONOTONIC */
	void (*done)(struct seg_read *);
	void *user;
	/* the answer */
	int status;
	struct seg_buf *bytes;
	/* the tier's while in flight; zero at the start */
	void *own[4];
};

struct seg_write {
	/* the asker's */
	struct seg_id id;
	int64_t deadline_ns;   /* absolute, CLOCK_MONOTONIC; 0: none */
	struct seg_buf *bytes; /* the asker holds a reference until done() */
	void (*done)(struct seg_write *);
	void *user;
	/* the answer: 0 if the tier has it now, also if it had it before */
	int status;
	/* the tier's while in flight; zero at the start */
	void *own[4];
};

/* ---- the tier ------------------------------------------------------------------ */

#define TIER_ABI 1u

/* caps */
#define TIER_RECORD 1u /* storage of record: put() waits for it, and what it does not have is not */
/* Its reads end with 0 only if it has verified the envelope's sum: that is not done a second time. */
#define TIER_VERIFIES 2u

struct tier;

struct tier_ops {
	uint32_t abi;  /* TIER_ABI */
	uint32_t caps; /* TIER_... */
	/*
	 * Its name in io-stats and stats: "efs" gives :efs and :efs-ms. Lower-case letters, digits
	 * and "-", at most TIER_KEY_MAX. A struct tier may have a name of its own.
	 */
	const char *key;
	/* Required. */
	void (*read)(struct tier *, struct seg_read *const *, unsigned n);
	void (*cancel)(struct tier *, struct seg_read *);
	void (*close)(struct tier *);
	/*
	 * Optional (NULL): a tier without write() is never filled, one without drop() not repaired.
	 */
	void (*write)(struct tier *, struct seg_write *const *, unsigned n);
	void (*drop)(struct tier *, struct seg_id); /* best effort: forget it soon, tell nobody */
};

#define TIER_KEY_MAX 23u

/* Is this a name for a tier? Not NULL. */
bool tier_key_ok(const char *key);

/* The head of every tier's own struct. */
struct tier {
	const struct tier_ops *ops;
	const char *key; /* NULL: ops->key; lives as long as the tier */
};

/* ---- tiers of this library ------------------------------------------------------- */

/*
 * Segments in the memory of this process: for tests, for tools, and as the nearest tier of who has
 * memory but no disk. Holds at most `bytes` bytes of values, oldest first out; key NULL: "mem".
 * 0, -ENOMEM, or -EINVAL (a bad key). Any thread.
 */
int tier_mem_open(const char *key, uint64_t bytes, struct tier **tier);

#ifdef __cplusplus
}
#endif

#endif
