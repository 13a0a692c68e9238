/* SPDX-License-Identifier: Apache-2.0 */
/* The ring; see ketama.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "ocache/ketama.h"
#include "ocache/md5.h"

#define HASHES    40u /* of a server, if float arithmetic does not say one less */
#define NAME_MAX_ 300u

struct point {
	uint32_t at;
	unsigned server;
};

struct ketama {
	unsigned n;
	struct point point[];
};

static uint32_t word(const uint8_t digest[16], unsigned k)
{
	const uint8_t *p = digest + (size_t)4 * k;

	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int by_place(const void *a, const void *b)
{
	const struct point *x = a, *y = b;

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return x->server < y->server ? -1 : x->server > y->server;
}

static unsigned hashes(unsigned servers)
{
	float share = 1.0f / (float)servers;

	return (unsigned)floor(
	    (double)(float)((double)(share * 160.0f / 4.0f * (float)servers) + 0.0000000001));
}

struct ketama *ketama_new(const struct ketama_server *server, unsigned n)
{
	struct ketama *k = malloc(sizeof *k + (size_t)n * HASHES * 4 * sizeof k->point[0]);
	unsigned each = hashes(n);

	A(each <= HASHES);
	if (k == NULL)
		return NULL;
	k->n = 0;
	for (unsigned s = 0; s < n; s++)
		for (unsigned i = 0; i < each; i++) {
			char name[NAME_MAX_];
			uint8_t digest[16];
			int len = server[s].port == 11211 || server[s].port == 0
				      ? snprintf(name, sizeof name, "%s-%u", server[s].host, i)
				      : snprintf(name, sizeof name, "%s:%u-%u", server[s].host,
						 server[s].port, i);

			A(len > 0 && (size_t)len < sizeof name);
			md5(name, (size_t)len, digest);
			for (unsigned w = 0; w < 4; w++)
				k->point[k->n++] = (struct point){word(digest, w), s};
		}
	qsort(k->point, k->n, sizeof k->point[0], by_place);
	return k;
}

void ketama_free(struct ketama *k)
{
	free(k);
}

unsigned ketama_server(const struct ketama *k, const void *key, size_t len)
{
	unsigned lo = 0, hi = k->n;
	uint8_t digest[16];
	uint32_t at;

	md5(key, len, digest);
	at = word(digest, 0);
	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (k->point[mid].at < at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return k->point[lo == k->n ? 0 : lo].server;
}
