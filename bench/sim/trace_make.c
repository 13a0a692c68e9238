/* SPDX-License-Identifier: Apache-2.0 */
/* Made traces; see trace.h. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/sim/sim.h"
#include "bench/sim/trace.h"

#define SCAN_HOT  70000u
#define SCAN_COLD 30000u
#define WALK_DIRS 1500u
#define DRIFT     20u /* requests until the next new key */

/* SplitMix64 (Steele, Lea, Flood 2014): one addition and mix64 a number. */
struct random {
	uint64_t state;
};

static uint64_t random_u64(struct random *r)
{
	r->state += 0x9e3779b97f4a7c15ull;
	return mix64(r->state);
}

/* [0, 1) */
static double random_unit(struct random *r)
{
	return (double)(random_u64(r) >> 11) * 0x1p-53;
}

/* Ranks by the cumulated weights, exact for every alpha. A rank's key is a random one. */
struct zipf {
	double *sum;
	uint32_t *key;
	uint32_t n;
};

static int zipf_init(struct zipf *z, uint32_t n, double alpha, struct random *rnd)
{
	double total = 0;

	z->n = n;
	z->sum = malloc(n * sizeof(*z->sum));
	z->key = malloc(n * sizeof(*z->key));
	if (z->sum == NULL || z->key == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		total += pow((double)i + 1, -alpha);
		z->sum[i] = total;
		z->key[i] = i;
	}
	for (uint32_t i = n - 1; i > 0; i--) {
		uint32_t j = (uint32_t)(random_u64(rnd) % (i + 1)), k = z->key[i];

		z->key[i] = z->key[j];
		z->key[j] = k;
	}
	return 0;
}

static void zipf_free(struct zipf *z)
{
	free(z->sum);
	free(z->key);
}

static uint32_t zipf_rank(const struct zipf *z, struct random *rnd)
{
	double x = random_unit(rnd) * z->sum[z->n - 1];
	uint32_t lo = 0, hi = z->n - 1;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (z->sum[mid] <= x)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static uint32_t log_normal(struct random *rnd)
{
	double u = random_unit(rnd), v = random_unit(rnd), bytes;

	bytes = 32768.0 * exp(0.8 * sqrt(-2 * log(1 - u)) * cos(2 * M_PI * v));
	return bytes < 1024 ? 1024 : bytes > 1048576 ? 1048576 : (uint32_t)bytes;
}

/* What is asked for: keys that never are do not count as distinct. False: no memory. */
static bool trace_count(struct trace *t)
{
	bool *seen = calloc(t->nkeys > 0 ? t->nkeys : 1, sizeof(*seen));

	if (seen == NULL)
		return false;
	for (uint64_t i = 0; i < t->n; i++) {
		uint32_t k = t->key[i];

		t->requested_bytes += t->size[k];
		t->distinct_bytes += seen[k] ? 0 : t->size[k];
		seen[k] = true;
	}
	free(seen);
	return true;
}

int trace_make(struct trace *t, const struct trace_spec *spec, char **cause)
{
	struct random rnd = {spec->seed};
	struct zipf z = {0};
	bool loop = strcmp(spec->kind, "loop") == 0, scan = strcmp(spec->kind, "scan") == 0;
	bool walk = strcmp(spec->kind, "walk") == 0, zipf = strcmp(spec->kind, "zipf") == 0;
	bool drift = strcmp(spec->kind, "drift") == 0;
	uint64_t cold = 0;
	int r = -ENOMEM;

	memset(t, 0, sizeof(*t));
	if (!loop && !scan && !walk && !zipf && !drift) {
		*cause =
		    text("there is no trace of the kind %s; zipf, loop, scan, walk and drift are",
			 spec->kind);
		return -EINVAL;
	}
	if (spec->keys == 0 || spec->requests == 0) {
		*cause = text("a trace needs at least one key and one request");
		return -EINVAL;
	}
	if (scan)
		cold = (spec->requests / (SCAN_HOT + SCAN_COLD) + 1) * SCAN_COLD;
	if (walk)
		cold = 1 + WALK_DIRS;
	if (drift)
		cold = spec->requests / DRIFT + 1;
	if (spec->keys + cold >= UINT32_MAX) {
		*cause = text("too many keys: %lu", (unsigned long)(spec->keys + cold));
		return -EINVAL;
	}
	if (loop)
		snprintf(t->name, sizeof(t->name), "loop of %u", spec->keys);
	else
		snprintf(t->name, sizeof(t->name), "%s %.2g over %u", spec->kind, spec->alpha,
			 spec->keys);
	t->n = spec->requests;
	t->key = malloc(t->n * sizeof(*t->key));
	t->size = calloc(spec->keys + cold, sizeof(*t->size));
	if (t->key == NULL || t->size == NULL ||
	    (!loop && zipf_init(&z, spec->keys, spec->alpha, &rnd) != 0))
		goto out;
	t->nkeys = spec->keys;
	for (uint64_t i = 0; i < t->n; i++) {
		if (loop) {
			t->key[i] = (uint32_t)(i % spec->keys);
		} else if (scan && i % (SCAN_HOT + SCAN_COLD) >= SCAN_HOT) {
			t->key[i] = t->nkeys++;
		} else if (walk) {
			uint32_t rank = zipf_rank(&z, &rnd);

			t->key[i] = spec->keys;
			if (++i < t->n)
				t->key[i] = spec->keys + 1 + rank % WALK_DIRS;
			if (++i < t->n)
				t->key[i] = z.key[rank];
		} else if (drift) {
			t->key[i] = spec->keys + (uint32_t)(i / DRIFT) - zipf_rank(&z, &rnd);
		} else {
			t->key[i] = z.key[zipf_rank(&z, &rnd)];
		}
	}
	if (walk)
		t->nkeys += 1 + WALK_DIRS;
	if (drift)
		t->nkeys += (uint32_t)cold;
	for (uint32_t k = 0; k < t->nkeys; k++)
		t->size[k] = spec->value != 0 ? spec->value : log_normal(&rnd);
	if (!trace_count(t))
		goto out;
	r = 0;
out:
	if (r != 0) {
		*cause =
		    text("no memory for a trace of %lu requests", (unsigned long)spec->requests);
		trace_free(t);
	}
	zipf_free(&z);
	return r;
}
