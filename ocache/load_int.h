/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the loads: load.c (from tier to tier), decode.c (bytes to object), wait.c (who waits). The rules are in
 * load.h.
 */
#ifndef OCACHE_LOAD_INT_H
#define OCACHE_LOAD_INT_H

#include "ocache/load.h"

enum load_state { LOAD_TIERS, LOAD_OPENING, LOAD_DECODING, LOAD_DONE };

struct attempt; /* a read that is out: load.c */

struct waiter {
	struct waiter *next;
	bool ready;
	int status;
	struct ocache_ref ref;
	bool joined;
	uint64_t since_ns;
	/* who waits in ocache_get(): */
	_Atomic(void *) *pin; /* NULL: the others */
	pthread_cond_t wake;
	/* ocache_submit(): */
	struct load *load;
	struct timer timer;
	ocache_done_fn *done;
	void *user;
	unsigned index;
	struct iostats *io;
	_Atomic uint32_t refs; /* the load's list, the timer */
};

struct load {
	struct load *chain; /* in the shard's list */
	struct ocache *cache;
	struct shard *shard;
	struct seg_id id;
	uint64_t hash;
	_Atomic uint32_t refs;
	const struct ocache_decoder *decoder;
	uint16_t flags;
	struct iostats *io; /* of who began it */
	enum load_state state;
	struct waiter *waiters;
	/* where in the chain */
	unsigned tier, tries;
	int64_t tier_until_ns;
	struct attempt *active;
	bool pausing;
	bool again;    /* [LD-7] */
	uint32_t fill; /* tiers that would like to have it: they had none, or a damaged one */
	uint32_t damaged;
	uint32_t
	    undecoded; /* whole, but this decoder did not take it; dropped when a better one is in hand */
	int failure; /* the last; 0: nobody failed */
	struct trail trail;
	/* OPENING, DECODING */
	struct seg_buf *bytes;
	unsigned from;
	bool pushed;
	struct job job;
	struct timer timer;
	int64_t due_ns;
};

/* ---- load.c ---- */

/* Where the pointer to the key's load stands, or would; under the lock. */
struct load **load_place(struct shard *s, uint64_t hash, struct seg_id id);
/*
 * Under the lock; there is none. With a reference for the list and one for who begins it; NULL: no
 * memory.
 */
struct load *load_new(struct ocache *c, struct shard *s, struct seg_id id, uint64_t hash,
		      const struct ocache_hint *hint, struct iostats *io);
void load_hold(struct load *ld);
void load_drop(struct load *ld);
/* The same where somebody else is known to have one: it is not the last. */
void load_unhold(struct load *ld);
/*
 * Without the lock: sends the next read, or ends the load. Called by who has taken the last read's
 * answer, so never by two at a time. The caller holds a reference.
 */
void load_go_on(struct load *ld);
/* Under the lock: the tier has had its tries. */
void load_next_tier(struct load *ld);
/*
 * With the lock, which it gives back: the load is DONE. Takes the list's reference; the caller has
 * another.
 */
void load_end(struct load *ld, int status, struct entry *e, struct box *box);
/* A storage of record keeps what it has: it may be all that there is, and a person can look at it. */
void load_drop_from(const struct load *ld, unsigned tier);

/* ---- decode.c ---- */

/* By the thread that made it DECODING, without the lock. The caller holds a reference. */
void load_decode(struct load *ld);
/* The same by one of the pool, if nobody was quicker [LD-6]. Takes the push's reference. */
void load_run(struct job *job);

/* ---- wait.c ---- */

/* Under the lock: what a waiter gets. e, or box, or a status. */
void waiter_answer(struct waiter *w, int status, struct entry *e, struct box *box);
void waiter_call(struct waiter *w);
void waiter_drop(struct waiter *w);
void waiter_unhold(struct waiter *w);

#endif
