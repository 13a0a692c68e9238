/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. Threads that do what nobody waits for: decode what was prefetched, hand
 * segments to nearer tiers. Jobs run in the order in which they came, without locks; a job may be
 * pushed again, also by itself, when it runs. Any thread.
 */
#ifndef OCACHE_POOL_H
#define OCACHE_POOL_H

struct pool;

struct job {
	void (*run)(struct job *);
	struct job *next;
};

int pool_open(unsigned threads, struct pool **pool); /* 0 or -errno */
/* Runs what is due, then ends the threads. */
void pool_close(struct pool **pool);
void pool_push(struct pool *pool, struct job *job);

#endif
