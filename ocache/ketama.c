/* SPDX-License-Identifier: Apache-2.0 */
/* The ring; see ketama.h. */
#include <arpa/inet.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "ocache/ketama.h"
#include "ocache/md5.h"

#define HASHES 40u /* of a server among equals, if float arithmetic does not say one less */

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

/* spymemcached: the last of those that have the same point. */
static int by_place_last(const void *a, const void *b)
{
	const struct point *x = a, *y = b;

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return x->server > y->server ? -1 : x->server < y->server;
}

/* In the clients' own arithmetic, float by float. */
static unsigned hashes(uint32_t weight, uint64_t all, unsigned servers)
{
	float share = (float)weight / (float)all;

	return (unsigned)floor(
	    (double)(float)((double)(share * 160.0f / 4.0f * (float)servers) + 0.0000000001));
}

bool ketama_name(enum tier_memcached_ring ring, const struct ketama_server *server,
		 char name[KETAMA_NAME_MAX])
{
	bool bare =
	    server->port == 0 || (ring != TIER_MEMCACHED_SPYMEMCACHED && server->port == 11211);
	struct in_addr address;
	int len;

	if (server->name != NULL)
		len = snprintf(name, KETAMA_NAME_MAX, "%s", server->name);
	else if (ring == TIER_MEMCACHED_SPYMEMCACHED &&
		 inet_pton(AF_INET, server->host, &address) != 1)
		return false;
	else if (bare)
		len = snprintf(name, KETAMA_NAME_MAX, "%s", server->host);
	else
		len = snprintf(name, KETAMA_NAME_MAX, "%s:%u", server->host, server->port);
	return len > 0 && (unsigned)len <= KETAMA_NAME_MAX - 16;
}

struct ketama *ketama_new(enum tier_memcached_ring ring, bool weights,
			  const struct ketama_server *server, unsigned n)
{
	bool spy = ring != TIER_MEMCACHED_LIBMEMCACHED;
	uint64_t all = 0, points = 0;
	struct ketama *k;

	for (unsigned s = 0; s < n; s++)
		all += server[s].weight;
	for (unsigned s = 0; s < n; s++)
		points += 4ull * (spy && !weights ? HASHES : hashes(server[s].weight, all, n));
	A(points > 0 && points <= UINT32_MAX);
	k = malloc(sizeof *k + points * sizeof k->point[0]);
	if (k == NULL)
		return NULL;
	k->n = 0;
	for (unsigned s = 0; s < n; s++) {
		unsigned each = spy && !weights ? HASHES : hashes(server[s].weight, all, n);
		char name[KETAMA_NAME_MAX];
		size_t len;

		A(ketama_name(ring, &server[s], name));
		len = strlen(name);
		for (unsigned i = 0; i < each; i++) {
			int digits = snprintf(name + len, sizeof name - len, "-%u", i);
			uint8_t digest[16];

			A(digits > 0 && len + (size_t)digits < sizeof name);
			md5(name, len + (size_t)digits, digest);
			for (unsigned w = 0; w < 4; w++)
				k->point[k->n++] = (struct point){word(digest, w), s};
		}
	}
	qsort(k->point, k->n, sizeof k->point[0], spy ? by_place_last : by_place);
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
