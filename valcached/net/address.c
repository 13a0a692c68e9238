/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP connections by the address that they come from, so that one address cannot take all of -c. An
 * IPv6 address counts with its /64: whoever has one of these has them all. Local sockets do not count.
 *
 * An address is known while it has a connection. Taken by worker 0, given back by any worker: under a
 * lock, which is taken twice in the life of a connection.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "valcached/net/net_int.h"

#define BUCKETS 4096u

struct address {
	struct address *next;
	uint32_t bucket, n;
	uint8_t addr[16];
};

struct addresses {
	pthread_mutex_t lock;
	struct address *bucket[BUCKETS];
};

int address__open(struct net *net)
{
	if (net->cfg.per_address == 0)
		return 0;
	net->addresses = calloc(1, sizeof *net->addresses);
	if (net->addresses == NULL)
		return -ENOMEM;
	pthread_mutex_init(&net->addresses->lock, NULL);
	return 0;
}

static void mask(uint8_t *addr)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (memcmp(addr, mapped, sizeof mapped) != 0)
		memset(addr + 8, 0, 8);
}

/* FNV-1a; who has many addresses gains nothing by their meeting in one bucket but a longer look. */
static uint32_t bucket_of(const uint8_t *addr)
{
	uint32_t h = 2166136261u;

	for (unsigned i = 0; i < 16; i++)
		h = (h ^ addr[i]) * 16777619u;
	return (h ^ h >> 16) % BUCKETS;
}

static struct address *find(struct addresses *t, const uint8_t *addr)
{
	uint32_t b = bucket_of(addr);
	struct address *a = t->bucket[b];

	while (a != NULL && memcmp(a->addr, addr, sizeof a->addr) != 0)
		a = a->next;
	if (a != NULL)
		return a;
	a = calloc(1, sizeof *a);
	if (a == NULL)
		return NULL;
	memcpy(a->addr, addr, sizeof a->addr);
	a->bucket = b;
	a->next = t->bucket[b];
	t->bucket[b] = a;
	return a;
}

bool address__take(struct worker *w, const struct listener *l, int fd, struct address **ap)
{
	static struct log_limit limit;
	struct addresses *t = w->net->addresses;
	struct io_peer peer;
	struct address *a;
	bool may;

	*ap = NULL;
	/* one that is gone already ends by itself */
	if (t == NULL || l->port == 0 || !io_sock_peer(w->io, fd, &peer))
		return true;
	mask(peer.addr);
	pthread_mutex_lock(&t->lock);
	a = find(t, peer.addr);
	may = a != NULL && a->n < w->net->cfg.per_address;
	if (may)
		a->n++;
	pthread_mutex_unlock(&t->lock);
	if (may) {
		*ap = a;
		return true;
	}
	count_add(&w->count.rejected_addresses, 1);
	log_limited(&limit, LOG_WARN,
		    "turned a connection away on %s: its address has %u already "
		    "(--conns-per-address)",
		    l->where, w->net->cfg.per_address);
	return false;
}

void address__give(struct net *net, struct address *a)
{
	struct addresses *t = net->addresses;
	struct address **at;

	if (a == NULL)
		return;
	pthread_mutex_lock(&t->lock);
	A(a->n > 0);
	if (--a->n == 0) {
		at = &t->bucket[a->bucket];
		while (*at != a)
			at = &(*at)->next;
		*at = a->next;
		free(a);
	}
	pthread_mutex_unlock(&t->lock);
}

void address__close(struct net *net)
{
	if (net->addresses == NULL)
		return;
	for (unsigned b = 0; b < BUCKETS; b++)
		AZ(net->addresses->bucket[b]);
	pthread_mutex_destroy(&net->addresses->lock);
	free(net->addresses);
	net->addresses = NULL;
}
