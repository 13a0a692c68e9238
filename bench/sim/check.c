/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulators against the plainest programs that could do the same: LRU and FIFO by looking at
 * every key's time stamp, CLOCK, SIEVE and S3-FIFO on arrays from the oldest to the newest, MIN by
 * trying every choice that a cache could make. W-TinyLFU has too much of its own (sketch, aging)
 * for that: of it, what a scan and a loop must do is checked by tests/system/policies.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "bench/sim/sim.h"

#define KEYS_MAX     8u
#define REQUESTS_MAX 48u

static uint64_t brute_list(const struct trace *t, uint64_t budget, bool lru)
{
	uint64_t stamp[KEYS_MAX] = {0}, hits = 0; /* 0: not there */

	for (uint64_t i = 0; i < t->n; i++) {
		uint32_t k = t->key[i];

		if (stamp[k] != 0) {
			hits++;
			if (lru)
				stamp[k] = i + 1;
			continue;
		}
		if (t->size[k] > budget)
			continue;
		for (;;) {
			uint64_t used = t->size[k];
			uint32_t victim = KEYS_MAX;

			for (uint32_t j = 0; j < t->nkeys; j++) {
				if (stamp[j] == 0)
					continue;
				used += t->size[j];
				if (victim == KEYS_MAX || stamp[j] < stamp[victim])
					victim = j;
			}
			if (used <= budget)
				break;
			stamp[victim] = 0;
		}
		stamp[k] = i + 1;
	}
	return hits;
}

/* Keys from the oldest to the newest. */
struct array {
	uint32_t key[REQUESTS_MAX];
	unsigned n;
};

static unsigned array_find(const struct array *a, uint32_t key)
{
	unsigned i = 0;

	while (i < a->n && a->key[i] != key)
		i++;
	return i;
}

static uint32_t array_take(struct array *a, unsigned i)
{
	uint32_t key = a->key[i];

	memmove(&a->key[i], &a->key[i + 1], (--a->n - i) * sizeof(a->key[0]));
	return key;
}

static void array_add(struct array *a, uint32_t key)
{
	a->key[a->n++] = key;
}

static uint64_t array_bytes(const struct array *a, const struct trace *t)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < a->n; i++)
		bytes += t->size[a->key[i]];
	return bytes;
}

static uint64_t brute_hand(const struct trace *t, uint64_t budget, bool sieve)
{
	struct array a = {.n = 0};
	bool used[KEYS_MAX] = {false};
	uint64_t hits = 0;
	unsigned hand = 0;

	for (uint64_t i = 0; i < t->n; i++) {
		uint32_t k = t->key[i];

		if (array_find(&a, k) < a.n) {
			used[k] = true;
			hits++;
			continue;
		}
		if (t->size[k] > budget)
			continue;
		while (array_bytes(&a, t) + t->size[k] > budget) {
			A(a.n > 0); /* it fits into an empty cache */
			hand = sieve ? hand % a.n : 0;
			if (used[a.key[hand]]) {
				used[a.key[hand]] = false;
				if (sieve)
					hand++;
				else
					array_add(&a, array_take(&a, 0));
			} else {
				bool newest = hand == a.n - 1;

				array_take(&a, hand);
				hand = newest ? 0 : hand; /* the next, and round again */
			}
		}
		used[k] = false;
		array_add(&a, k);
	}
	return hits;
}

/* The paper's algorithm 1, line by line. */
static uint64_t brute_s3fifo(const struct trace *t, uint64_t budget)
{
	struct array small = {.n = 0}, large = {.n = 0}, ghost = {.n = 0};
	unsigned freq[KEYS_MAX] = {0};
	uint64_t hits = 0;

	for (uint64_t i = 0; i < t->n; i++) {
		uint32_t k = t->key[i], out;

		if (array_find(&small, k) < small.n || array_find(&large, k) < large.n) {
			freq[k] = freq[k] < 3 ? freq[k] + 1 : 3;
			hits++;
			continue;
		}
		if (t->size[k] > budget)
			continue;
		freq[k] = array_find(&ghost, k) < ghost.n ? 100 : 0; /* a mark, for below */
		if (freq[k] == 100)
			array_take(&ghost, array_find(&ghost, k));
		while (array_bytes(&small, t) + array_bytes(&large, t) + t->size[k] > budget) {
			if (large.n == 0 || array_bytes(&small, t) > budget / 10) {
				out = array_take(&small, 0);
				if (freq[out] > 1)
					array_add(&large, out);
				else
					array_add(&ghost, out);
				freq[out] = 0;
			} else {
				out = array_take(&large, 0);
				if (freq[out] > 0) {
					freq[out]--;
					array_add(&large, out);
				}
			}
			while (array_bytes(&ghost, t) > budget - budget / 10)
				array_take(&ghost, 0);
		}
		array_add(freq[k] == 100 ? &large : &small, k);
		freq[k] = 0;
	}
	return hits;
}

/*
 * Most hits that any cache of at most `slots` keys can have: over the requests, the best for every
 * set of resident keys. After a request a cache may keep any part of what it had, and the key.
 */
static uint64_t brute_min(const struct trace *t, unsigned slots)
{
	static uint8_t best[1u << KEYS_MAX], then[1u << KEYS_MAX];
	const uint8_t never = UINT8_MAX;
	unsigned sets = 1u << t->nkeys;
	uint64_t most = 0;

	memset(best, never, sizeof(best));
	best[0] = 0;
	for (uint64_t i = 0; i < t->n; i++) {
		unsigned bit = 1u << t->key[i];

		memset(then, never, sizeof(then));
		for (unsigned s = 0; s < sets; s++) {
			uint8_t hits;

			if (best[s] == never)
				continue;
			hits = (uint8_t)(best[s] + ((s & bit) != 0));
			for (unsigned keep = s | bit;; keep = (keep - 1) & (s | bit)) {
				if ((unsigned)__builtin_popcount(keep) <= slots &&
				    (then[keep] == never || then[keep] < hits))
					then[keep] = hits;
				if (keep == 0)
					break;
			}
		}
		memcpy(best, then, sizeof(best));
	}
	for (unsigned s = 0; s < sets; s++)
		if (best[s] != never && best[s] > most)
			most = best[s];
	return most;
}

static unsigned differs(const char *what, unsigned round, uint64_t got, uint64_t want)
{
	if (got == want)
		return 0;
	printf("%s, round %u: the simulator has %lu hits, brute force %lu\n", what, round,
	       (unsigned long)got, (unsigned long)want);
	return 1;
}

/* LRU of one size by the distances that tell it for all. */
static unsigned stack_differs(const struct trace *t, uint64_t budget, unsigned round)
{
	uint64_t *distance = stack_distances(t);
	unsigned bad = distance == NULL ||
		       differs("stack distances", round, stack_hits(distance, t->n, budget),
			       brute_list(t, budget, true)) != 0;

	free(distance);
	return bad;
}

unsigned check_simulators(uint64_t seed)
{
	unsigned failed = 0, passed = 0;

	for (unsigned round = 0; round < 300; round++) {
		uint32_t key[REQUESTS_MAX], size[KEYS_MAX];
		struct trace t = {.key = key, .size = size};
		struct run r;
		uint64_t x = mix64(seed + round), budget, bad = 0;
		bool equal = round % 2 == 0;

		t.nkeys = 2 + (uint32_t)(x % (KEYS_MAX - 1));
		t.n = 1 + x / 64 % REQUESTS_MAX;
		for (uint32_t k = 0; k < t.nkeys; k++)
			size[k] = equal ? 10 : 1 + (uint32_t)(mix64(x + k + 1) % 20);
		for (uint64_t i = 0; i < t.n; i++) {
			uint64_t y = mix64(x ^ (i + 100) << 20);

			/* the smaller of two: some keys are asked for more often */
			key[i] = (uint32_t)(y % t.nkeys < y / 1024 % t.nkeys ? y % t.nkeys
									     : y / 1024 % t.nkeys);
		}
		budget = 10 * (1 + x / 4096 % t.nkeys) + (equal ? x / 65536 % 10 : 0);

		bad += !sim_lru(&t, budget, 0, &r) ||
		       differs("LRU", round, r.all.hits, brute_list(&t, budget, true)) != 0;
		bad += !sim_fifo(&t, budget, 0, &r) ||
		       differs("FIFO", round, r.all.hits, brute_list(&t, budget, false)) != 0;
		bad += !sim_clock(&t, budget, 0, &r) ||
		       differs("CLOCK", round, r.all.hits, brute_hand(&t, budget, false)) != 0;
		bad += !sim_sieve(&t, budget, 0, &r) ||
		       differs("SIEVE", round, r.all.hits, brute_hand(&t, budget, true)) != 0;
		bad += !sim_s3fifo(&t, budget, 0, &r) ||
		       differs("S3-FIFO", round, r.all.hits, brute_s3fifo(&t, budget)) != 0;
		if (equal)
			bad += stack_differs(&t, budget, round);
		if (equal)
			bad += !sim_min(&t, budget, 0, &r) ||
			       differs("MIN", round, r.all.hits,
				       brute_min(&t, (unsigned)(budget / 10))) != 0;
		failed += bad != 0;
		passed += bad == 0;
	}
	printf("%u passed, %u failed\n", passed, failed);
	return failed;
}
