/* SPDX-License-Identifier: Apache-2.0 */
/* How each tier does, and whether it is asked; see chain.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "ocache/chain.h"
#include "ocache/thread.h"

#define DEADLINE_NS NS_PER_S
#define BREAKER_NS  NS_PER_S
#define TRIES       2u
#define BREAKER     5u
#define OPEN_MAX    16u /* times breaker_ns */
#define FILLS       64u
#define FILL_BURST  ((int64_t)(NS_PER_S / 10)) /* they may be ahead of their even steps by so much */

_Static_assert(OCACHE_LATENCY_BUCKETS == HIST_BUCKETS, "all of a histogram");

static enum chain_kind kind_of(const char *key, bool record)
{
	static const struct {
		const char *key;
		enum chain_kind kind;
	} known[] = {
	    {"valcache", CHAIN_VALCACHE},   {"valcache-direct", CHAIN_VALCACHE},
	    {"memcached", CHAIN_MEMCACHED}, {"s3", CHAIN_STORAGE},
	    {"ddb", CHAIN_STORAGE},         {"sql", CHAIN_STORAGE},
	    {"cass", CHAIN_STORAGE},        {"cass2", CHAIN_STORAGE},
	    {"dev", CHAIN_STORAGE},
	};

	for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++)
		if (strcmp(known[i].key, key) == 0)
			return known[i].kind;
	return record ? CHAIN_STORAGE : CHAIN_OTHER;
}

int chain_tier_open(struct chain_tier *t, const struct ocache_tier *cfg, char **cause)
{
	const struct tier_ops *ops = cfg->tier != NULL ? cfg->tier->ops : NULL;
	const char *bad = NULL, *key;

	memset(t, 0, sizeof *t);
	if (ops == NULL)
		bad = "a tier of the chain is NULL";
	else if (ops->abi != TIER_ABI)
		bad = "a tier was made for another version of tier.h";
	else if (ops->read == NULL || ops->cancel == NULL || ops->close == NULL)
		bad = "a tier lacks read, cancel or close";
	else if ((key = cfg->tier->key != NULL ? cfg->tier->key : ops->key) == NULL)
		bad = "a tier has no key";
	else if (!tier_key_ok(key))
		bad = "a tier's key is not lower-case letters, digits and \"-\"";
	if (bad != NULL) {
		*cause = strdup(bad);
		return -EINVAL;
	}
	t->latency = calloc(1, sizeof *t->latency);
	if (t->latency == NULL)
		return -ENOMEM;
	AZ(pthread_mutex_init(&t->lock, NULL));
	t->tier = cfg->tier;
	t->key = key;
	t->deadline_ns = thread_ns(cfg->deadline_ns, DEADLINE_NS);
	t->breaker_ns = thread_ns(cfg->breaker_ns, BREAKER_NS);
	t->tries = cfg->tries != 0 ? cfg->tries : TRIES;
	t->breaker = cfg->breaker != 0 ? cfg->breaker : BREAKER;
	t->fills_max = cfg->fills != 0 ? cfg->fills : FILLS;
	t->fill_gap_ns = cfg->fills_per_s != 0 ? NS_PER_S / cfg->fills_per_s : 0;
	t->fill = ops->write != NULL && !cfg->no_fill;
	t->record = (ops->caps & TIER_RECORD) != 0;
	t->verifies = (ops->caps & TIER_VERIFIES) != 0;
	t->kind = kind_of(key, t->record);
	memcpy(t->stats.key, key, strlen(key) + 1);
	return 0;
}

void chain_tier_close(struct chain_tier *t)
{
	if (t->latency == NULL)
		return;
	free(t->latency);
	AZ(pthread_mutex_destroy(&t->lock));
	memset(t, 0, sizeof *t);
}

bool chain_allows(struct chain_tier *t, int64_t now_ns)
{
	bool yes;

	pthread_mutex_lock(&t->lock);
	yes = t->open_until_ns == 0 || (now_ns >= t->open_until_ns && !t->trying);
	if (!yes) {
		t->stats.skipped++;
	} else {
		t->stats.reads++;
		t->stats.in_flight++;
		t->trying = t->open_until_ns != 0;
	}
	pthread_mutex_unlock(&t->lock);
	return yes;
}

/* Under the lock. */
static void worked(struct chain_tier *t)
{
	t->failed_in_a_row = 0;
	t->opened = 0;
	t->open_until_ns = 0;
	t->trying = false;
}

static void failed(struct chain_tier *t)
{
	uint64_t times;

	t->failed_in_a_row++;
	if (t->open_until_ns != 0 ? !t->trying : t->failed_in_a_row < t->breaker)
		return; /* not enough; or one that was out already when it opened */
	times = t->opened < 5 ? 1ull << t->opened : OPEN_MAX;
	t->opened++;
	t->open_until_ns = (int64_t)(clock_ns() + t->breaker_ns * times);
	t->trying = false;
}

static void read_took(struct chain_tier *t, uint64_t ns)
{
	t->stats.read_ns += ns;
	hist_add(&t->latency->read, ns);
	meter_add(&t->meters.get_ns, ns);
}

void chain_answer(struct chain_tier *t, int status, uint64_t ns, uint64_t bytes)
{
	pthread_mutex_lock(&t->lock);
	t->stats.in_flight--;
	read_took(t, ns);
	if (status == 0) {
		t->stats.hits++;
		t->stats.bytes += bytes;
		meter_add(&t->meters.get_bytes, bytes);
	} else if (status == -ENOENT) {
		t->stats.misses++;
	} else {
		t->stats.failures++;
	}
	/*
	 * a damaged value does not make a bad tier, and a read that we gave up tells nothing of it
	 */
	if (status == 0 || status == -ENOENT || status == -EBADMSG)
		worked(t);
	else if (status == -ECANCELED)
		t->trying = false;
	else
		failed(t);
	pthread_mutex_unlock(&t->lock);
}

void chain_timeout(struct chain_tier *t, uint64_t ns)
{
	pthread_mutex_lock(&t->lock);
	t->stats.timeouts++;
	t->stats.failures++;
	read_took(t, ns);
	failed(t);
	pthread_mutex_unlock(&t->lock);
}

void chain_gave_up(struct chain_tier *t)
{
	pthread_mutex_lock(&t->lock);
	t->trying = false;
	pthread_mutex_unlock(&t->lock);
}

void chain_late(struct chain_tier *t)
{
	pthread_mutex_lock(&t->lock);
	t->stats.in_flight--;
	t->stats.late++;
	pthread_mutex_unlock(&t->lock);
}

void chain_damaged(struct chain_tier *t)
{
	pthread_mutex_lock(&t->lock);
	t->stats.damaged++;
	pthread_mutex_unlock(&t->lock);
}

void chain_backs_off(struct chain_tier *t, uint64_t ns)
{
	pthread_mutex_lock(&t->lock);
	t->stats.retries++;
	meter_add(&t->meters.backoff_ns, ns);
	pthread_mutex_unlock(&t->lock);
}

void chain_written(struct chain_tier *t, int status, uint64_t ns, uint64_t bytes)
{
	pthread_mutex_lock(&t->lock);
	t->stats.write_ns += ns;
	hist_add(&t->latency->write, ns);
	if (status == 0) {
		t->stats.writes++;
		t->stats.bytes_written += bytes;
		meter_add(&t->meters.put_ns, ns);
		meter_add(&t->meters.put_bytes, bytes);
	} else {
		t->stats.writes_failed++;
		meter_add(&t->meters.put_failed_ns, ns);
	}
	pthread_mutex_unlock(&t->lock);
}

void chain_histogram(struct chain_tier *t, bool writes, struct ocache_latency *out)
{
	const struct hist *h = writes ? &t->latency->write : &t->latency->read;

	memset(out, 0, sizeof *out);
	pthread_mutex_lock(&t->lock);
	out->count = atomic_load_explicit(&h->count, memory_order_relaxed);
	out->sum_ns = atomic_load_explicit(&h->sum, memory_order_relaxed);
	out->max_ns = atomic_load_explicit(&h->max, memory_order_relaxed);
	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		uint64_t n = atomic_load_explicit(&h->bucket[i], memory_order_relaxed);

		if (n == 0)
			continue;
		out->bucket[out->n].ns = hist_top(i);
		out->bucket[out->n++].count = n;
	}
	pthread_mutex_unlock(&t->lock);
}

void chain_take(struct chain_tier *t, struct chain_meters *meters)
{
	pthread_mutex_lock(&t->lock);
	*meters = t->meters;
	memset(&t->meters, 0, sizeof t->meters);
	pthread_mutex_unlock(&t->lock);
}

bool chain_fill_begin(struct chain_tier *t, int64_t now_ns)
{
	bool yes;

	pthread_mutex_lock(&t->lock);
	yes = t->open_until_ns == 0 && t->stats.fills_now < t->fills_max;
	if (yes && t->fill_gap_ns != 0) {
		yes = t->fill_next_ns <= now_ns + FILL_BURST;
		if (yes) {
			t->fill_next_ns = t->fill_next_ns > now_ns ? t->fill_next_ns : now_ns;
			t->fill_next_ns += (int64_t)t->fill_gap_ns;
		}
	}
	if (yes) {
		t->stats.fills++;
		t->stats.fills_now++;
	} else {
		t->stats.fills_dropped++;
	}
	pthread_mutex_unlock(&t->lock);
	return yes;
}

void chain_fill_end(struct chain_tier *t)
{
	pthread_mutex_lock(&t->lock);
	t->stats.fills_now--;
	pthread_mutex_unlock(&t->lock);
}

void chain_stats(struct chain_tier *t, struct ocache_tier_stats *stats)
{
	pthread_mutex_lock(&t->lock);
	*stats = t->stats;
	stats->breaker_open = t->open_until_ns != 0;
	stats->read_ns_p50 = hist_quantile(&t->latency->read, 0.5);
	stats->read_ns_p99 = hist_quantile(&t->latency->read, 0.99);
	stats->read_ns_max = atomic_load_explicit(&t->latency->read.max, memory_order_relaxed);
	stats->write_ns_p50 = hist_quantile(&t->latency->write, 0.5);
	stats->write_ns_p99 = hist_quantile(&t->latency->write, 0.99);
	stats->write_ns_max = atomic_load_explicit(&t->latency->write.max, memory_order_relaxed);
	pthread_mutex_unlock(&t->lock);
}
