/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which keys are asked for, in what order, and how long their values are.
 *
 * A key is a number, mixed to a 64-bit hash; its text is a UUID of 36 characters made from the
 * hash, its length and flags are functions of the hash (of the first sight, for a trace). So two
 * runs, or two machines, with the same options speak of the same data.
 *
 * The distribution `recent` is a log: a set writes a new key, never seen before, and a get asks
 * for one of the last n: a store that evicts in order of age stays full and recycles while every
 * get hits. In `churn` a set writes a new key too, but gets ask for the first n, which a store must
 * keep against the stream of values nobody asks for.
 *
 * Threads: a keyspace is built before threads start; afterwards only its counters change
 * (atomic). A cursor belongs to one connection.
 */
#ifndef VALBENCH_KEYS_H
#define VALBENCH_KEYS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define KEY_LEN 36

enum key_dist { KEYS_UNIFORM, KEYS_ZIPF, KEYS_SEQ, KEYS_RECENT, KEYS_CHURN, KEYS_TRACE };
enum size_dist { SIZE_RANGE, SIZE_LIST, SIZE_LOGNORMAL };

#define SIZE_LIST_MAX 16

struct size_spec {
	enum size_dist dist;
	uint32_t min, max; /* range; max also caps lognormal */
	double mu, sigma;  /* lognormal */
	unsigned n;        /* list */
	uint32_t value[SIZE_LIST_MAX];
	double weight_upto[SIZE_LIST_MAX]; /* cumulative, the last is 1 */
};

struct key {
	uint64_t hash;
	uint32_t size;
};

struct keyspace {
	/* configuration, fixed after keyspace_open() */
	enum key_dist dist;
	uint64_t n, first;
	uint64_t new_from;  /* recent, churn: number of the first new key; 0: first + n */
	uint64_t in_flight; /* recent: how many of the newest may not be stored yet */
	double theta;
	struct size_spec size;
	double zipf_h_x1, zipf_h_n, zipf_s;
	uint64_t scatter;
	/* trace: requests as indices of distinct keys */
	uint32_t *request;
	uint64_t requests;
	struct key *distinct;
	/* state */
	_Atomic uint64_t trace_next;
	_Atomic uint64_t written; /* recent, churn: the next new key, counted from first */
};

struct key_cursor {
	uint64_t rng;
	uint64_t next;
};

/*
 * dist, n, first, theta and size are set by the caller; trace is NULL but for KEYS_TRACE, where n
 * becomes the number of distinct keys. 0 or -errno with *cause set (to be freed).
 */
int keyspace_open(struct keyspace *ks, const char *trace, char **cause);
void keyspace_close(struct keyspace *ks);

/* The i-th key of the space, i < n; for loading. */
struct key keyspace_nth(const struct keyspace *ks, uint64_t i);
/* The next key of this connection, to be read or to be written. */
struct key keyspace_next(struct keyspace *ks, struct key_cursor *c, bool write);
void key_cursor_init(struct key_cursor *c, const struct keyspace *ks, uint64_t seed, unsigned nth,
		     unsigned of);
/* 36 characters, no terminator. */
void key_format(uint64_t hash, char *dst);

static inline uint64_t key_random(struct key_cursor *c)
{
	uint64_t x = c->rng += 0x9e3779b97f4a7c15ull;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

#endif
