/* SPDX-License-Identifier: Apache-2.0 */
/* Key distributions, value sizes and the trace reader; see keys.h. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bench/valbench/keys.h"
#include "bench/valbench/value.h"

static double unit(uint64_t x)
{
	return (double)(x >> 11) * 0x1p-53;
}

static uint64_t below(uint64_t x, uint64_t n)
{
	return (uint64_t)(((unsigned __int128)x * n) >> 64);
}

/* --- sizes ---------------------------------------------------------------------------------- */

static uint32_t size_of(const struct size_spec *s, uint64_t hash)
{
	uint64_t r = value_mix(hash ^ 0xbb67ae8584caa73bull);
	double u, v;

	switch (s->dist) {
	case SIZE_RANGE:
		if (s->min == s->max)
			return s->min;
		return s->min + (uint32_t)below(r, (uint64_t)s->max - s->min + 1);
	case SIZE_LIST:
		u = unit(r);
		for (unsigned i = 0; i + 1 < s->n; i++)
			if (u < s->weight_upto[i])
				return s->value[i];
		return s->value[s->n - 1];
	case SIZE_LOGNORMAL:
		u = unit(r) + 0x1p-54;
		v = unit(value_mix(r));
		v = exp(s->mu + s->sigma * sqrt(-2 * log(u)) * cos(2 * M_PI * v));
		if (v < 1)
			return 1;
		return v > s->max ? s->max : (uint32_t)v;
	}
	return 0;
}

/* --- Zipf: rejection-inversion (Hoermann and Derflinger 1996), any theta > 0, O(1) -------------
 */

/* (exp(x) - 1) / x and log(1 + x) / x, well behaved at 0 */
static double expm1_over(double x)
{
	return fabs(x) > 1e-8 ? expm1(x) / x : 1 + x / 2;
}

static double log1p_over(double x)
{
	return fabs(x) > 1e-8 ? log1p(x) / x : 1 - x / 2;
}

static double zipf_h_integral(const struct keyspace *ks, double x)
{
	double l = log(x);

	return expm1_over((1 - ks->theta) * l) * l;
}

static double zipf_h(const struct keyspace *ks, double x)
{
	return exp(-ks->theta * log(x));
}

static double zipf_h_inverse(const struct keyspace *ks, double x)
{
	double t = x * (1 - ks->theta);

	if (t < -1)
		t = -1;
	return exp(log1p_over(t) * x);
}

static void zipf_init(struct keyspace *ks)
{
	ks->zipf_h_x1 = zipf_h_integral(ks, 1.5) - 1;
	ks->zipf_h_n = zipf_h_integral(ks, (double)ks->n + 0.5);
	ks->zipf_s = 2 - zipf_h_inverse(ks, zipf_h_integral(ks, 2.5) - zipf_h(ks, 2));
}

/* Rank 0 is the most popular. */
static uint64_t zipf_rank(const struct keyspace *ks, struct key_cursor *c)
{
	for (;;) {
		double u = ks->zipf_h_n + unit(key_random(c)) * (ks->zipf_h_x1 - ks->zipf_h_n);
		double x = zipf_h_inverse(ks, u);
		double k = floor(x + 0.5);

		if (k < 1)
			k = 1;
		if (k > (double)ks->n)
			k = (double)ks->n;
		if (k - x <= ks->zipf_s || u >= zipf_h_integral(ks, k + 0.5) - zipf_h(ks, k))
			return (uint64_t)k - 1;
	}
}

/* --- traces --------------------------------------------------------------------------------- */

struct seen {
	uint64_t hash;
	uint32_t index; /* + 1; 0 is empty */
};

static FILE *trace_open(const char *path, int *is_pipe)
{
	size_t len = strlen(path);
	char *cmd;
	FILE *f;

	*is_pipe = len > 3 && strcmp(path + len - 3, ".gz") == 0;
	if (!*is_pipe)
		return fopen(path, "re");
	f = fopen(path, "re"); /* popen() would hide a missing file */
	if (f == NULL)
		return NULL;
	fclose(f);
	if (strchr(path, '\'') != NULL) {
		errno = EINVAL;
		return NULL;
	}
	if (asprintf(&cmd, "zcat -- '%s'", path) < 0)
		return NULL;
	f = popen(cmd, "re");
	free(cmd);
	return f;
}

/* Index of the distinct key with this hash; adds it with this size when it is new. */
static int64_t trace_intern(struct keyspace *ks, struct seen **table, uint64_t *mask,
			    uint64_t *room, uint64_t hash, uint32_t size)
{
	uint64_t at;

	if ((ks->n + 1) * 2 > *mask) {
		uint64_t m = *mask == 0 ? (1u << 16) - 1 : *mask * 2 + 1;
		struct seen *t = calloc(m + 1, sizeof *t);

		if (t == NULL)
			return -ENOMEM;
		for (uint64_t i = 0; *table != NULL && i <= *mask; i++) {
			if ((*table)[i].index == 0)
				continue;
			for (at = (*table)[i].hash & m; t[at].index != 0; at = (at + 1) & m)
				;
			t[at] = (*table)[i];
		}
		free(*table);
		*table = t;
		*mask = m;
	}
	for (at = hash & *mask; (*table)[at].index != 0; at = (at + 1) & *mask)
		if ((*table)[at].hash == hash)
			return (*table)[at].index - 1;
	if (ks->n == *room) {
		uint64_t r = *room == 0 ? 65536 : *room * 2;
		struct key *d = r > UINT32_MAX ? NULL : realloc(ks->distinct, r * sizeof *d);

		if (d == NULL)
			return -ENOMEM;
		ks->distinct = d;
		*room = r;
	}
	ks->distinct[ks->n] = (struct key){.hash = hash, .size = size};
	(*table)[at] = (struct seen){.hash = hash, .index = (uint32_t)++ks->n};
	return (int64_t)ks->n - 1;
}

static int trace_read(struct keyspace *ks, FILE *f, const char *path, char **cause)
{
	struct seen *table = NULL;
	uint64_t mask = 0, room = 0, request_room = 0, line_no = 0;
	char line[512];
	int rc = 0;

	ks->n = 0;
	while (fgets(line, sizeof line, f) != NULL) {
		char *comma = strchr(line, ','), *end;
		unsigned long long size;
		int64_t index;

		line_no++;
		if (line[0] == '#' || line[0] == '\n')
			continue;
		size = comma == NULL ? 0 : strtoull(comma + 1, &end, 10);
		if (comma == NULL || comma == line || end == comma + 1 || size > UINT32_MAX) {
			if (line_no == 1)
				continue; /* a header line */
			rc = -EINVAL;
			if (asprintf(cause, "%s:%llu: expected `key,bytes`", path,
				     (unsigned long long)line_no) < 0)
				*cause = NULL;
			break;
		}
		index = trace_intern(ks, &table, &mask, &room,
				     XXH3_64bits(line, (size_t)(comma - line)), (uint32_t)size);
		if (ks->requests == request_room) {
			uint32_t *r;

			request_room = request_room == 0 ? 65536 : request_room * 2;
			r = realloc(ks->request, request_room * sizeof *r);
			if (r == NULL)
				index = -ENOMEM;
			else
				ks->request = r;
		}
		if (index < 0) {
			rc = (int)index;
			break;
		}
		ks->request[ks->requests++] = (uint32_t)index;
	}
	free(table);
	if (rc == 0 && ks->requests == 0) {
		rc = -EINVAL;
		if (asprintf(cause, "%s: the trace is empty", path) < 0)
			*cause = NULL;
	}
	return rc;
}

static int trace_load(struct keyspace *ks, const char *path, char **cause)
{
	int is_pipe, rc;
	FILE *f = trace_open(path, &is_pipe);

	if (f == NULL) {
		rc = -errno;
		if (asprintf(cause, "cannot read trace %s: %s", path, strerror(errno)) < 0)
			*cause = NULL;
		return rc;
	}
	rc = trace_read(ks, f, path, cause);
	if (is_pipe)
		pclose(f);
	else
		fclose(f);
	return rc;
}

/* --- the keyspace ----------------------------------------------------------------------------- */

static uint64_t gcd(uint64_t a, uint64_t b)
{
	while (b != 0) {
		uint64_t t = a % b;

		a = b;
		b = t;
	}
	return a;
}

int keyspace_open(struct keyspace *ks, const char *trace, char **cause)
{
	*cause = NULL;
	if (ks->dist == KEYS_TRACE)
		return trace_load(ks, trace, cause);
	atomic_store(&ks->written, ks->new_from > 0 ? ks->new_from - ks->first : ks->n);
	/* Popular ranks are spread over the space, else they would lie together on the disk. */
	ks->scatter = (uint64_t)((double)ks->n * 0.6180339887498949) | 1;
	while (gcd(ks->scatter, ks->n) != 1)
		ks->scatter += 2;
	if (ks->dist == KEYS_ZIPF)
		zipf_init(ks);
	return 0;
}

void keyspace_close(struct keyspace *ks)
{
	free(ks->request);
	free(ks->distinct);
	ks->request = NULL;
	ks->distinct = NULL;
}

struct key keyspace_nth(const struct keyspace *ks, uint64_t i)
{
	struct key k;

	if (ks->dist == KEYS_TRACE)
		return ks->distinct[i];
	k.hash = value_mix(ks->first + i + 1);
	k.size = size_of(&ks->size, k.hash);
	return k;
}

struct key keyspace_next(struct keyspace *ks, struct key_cursor *c, bool write)
{
	uint64_t i = 0;

	switch (ks->dist) {
	case KEYS_UNIFORM:
		i = below(key_random(c), ks->n);
		break;
	case KEYS_ZIPF:
		i = (uint64_t)(((unsigned __int128)zipf_rank(ks, c) * ks->scatter) % ks->n);
		break;
	case KEYS_SEQ:
		i = c->next;
		c->next = c->next + 1 == ks->n ? 0 : c->next + 1;
		break;
	case KEYS_CHURN:
	case KEYS_RECENT:
		if (!write && ks->dist == KEYS_CHURN) {
			i = below(key_random(c), ks->n);
		} else if (write) {
			i = atomic_fetch_add_explicit(&ks->written, 1, memory_order_relaxed);
		} else {
			i = atomic_load_explicit(&ks->written, memory_order_relaxed);
			i -= 1 + below(key_random(c), ks->n);
			i -= i >= ks->in_flight ? ks->in_flight : i;
		}
		break;
	case KEYS_TRACE:
		i = atomic_fetch_add_explicit(&ks->trace_next, 1, memory_order_relaxed);
		i = ks->request[i % ks->requests];
		break;
	}
	return keyspace_nth(ks, i);
}

void key_cursor_init(struct key_cursor *c, const struct keyspace *ks, uint64_t seed, unsigned nth,
		     unsigned of)
{
	c->rng = value_mix(seed * 1000003 + nth + 1);
	c->next = ks->n / of * nth;
}

void key_format(uint64_t hash, char *dst)
{
	static const char hex[] = "0123456789abcdef";
	static const uint8_t at[16] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};
	uint64_t low = value_mix(hash);
	uint8_t b[16];

	memcpy(b, &hash, 8);
	memcpy(b + 8, &low, 8);

	for (unsigned i = 0; i < 16; i++) {
		dst[at[i]] = hex[b[i] >> 4];
		dst[at[i] + 1] = hex[b[i] & 15];
	}
	dst[8] = dst[13] = dst[18] = dst[23] = '-';
}
