/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments in memory: a table of buffers and their order of arrival, under one lock. It answers
 * before read() and write() have returned.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "ocache/tier.h"

#define HEADS_MIN 64u

struct item {
	struct seg_id id;
	struct seg_buf *bytes;
	struct item *chain;
	struct item *older, *newer;
};

struct tier_mem {
	struct tier tier;
	char key[TIER_KEY_MAX + 1];
	uint64_t budget;
	pthread_mutex_t lock;
	/* under lock: */
	struct item **head; /* mask + 1 chains */
	uint64_t mask, items, used;
	struct item *newest, *oldest;
};

static struct tier_mem *mem_of(struct tier *t)
{
	return container_of(t, struct tier_mem, tier);
}

/* Where the pointer to the item stands, or would. */
static struct item **place(struct tier_mem *m, struct seg_id id)
{
	uint64_t h = (id.hi ^ id.lo) * 0x9e3779b97f4a7c15ull;
	struct item **at = &m->head[(h >> 32) & m->mask];

	while (*at != NULL && ((*at)->id.hi != id.hi || (*at)->id.lo != id.lo))
		at = &(*at)->chain;
	return at;
}

static void unlink_item(struct tier_mem *m, struct item **at)
{
	struct item *it = *at;

	AN(it);
	*at = it->chain;
	*(it->older != NULL ? &it->older->newer : &m->oldest) = it->newer;
	*(it->newer != NULL ? &it->newer->older : &m->newest) = it->older;
	m->used -= seg_buf_len(it->bytes);
	m->items--;
	seg_buf_drop(it->bytes);
	free(it);
}

/* Twice as many chains; without memory they get longer. */
static void grow(struct tier_mem *m)
{
	uint64_t mask = m->mask * 2 + 1;
	struct item **head = calloc(mask + 1, sizeof(struct item *)), **old = m->head;

	if (head == NULL)
		return;
	m->head = head;
	m->mask = mask;
	for (struct item *it = m->oldest; it != NULL; it = it->newer) {
		it->chain = NULL;
		*place(m, it->id) = it;
	}
	free(old);
}

static void mem_read(struct tier *t, struct seg_read *const *reads, unsigned n)
{
	struct tier_mem *m = mem_of(t);

	for (unsigned i = 0; i < n; i++) {
		struct seg_read *r = reads[i];
		struct item *it;

		pthread_mutex_lock(&m->lock);
		it = *place(m, r->id);
		r->bytes = it != NULL ? seg_buf_hold(it->bytes) : NULL;
		pthread_mutex_unlock(&m->lock);
		r->status = it != NULL ? 0 : -ENOENT;
		r->done(r);
	}
}

/* Nothing is ever in flight. */
static void mem_cancel(struct tier *t, struct seg_read *r)
{
	(void)t;
	(void)r;
}

static int store(struct tier_mem *m, struct seg_id id, struct seg_buf *bytes)
{
	uint64_t len = seg_buf_len(bytes);
	struct item **at = place(m, id), *it;

	if (*at != NULL) /* a segment never changes; but what was damaged may come again */
		unlink_item(m, at);
	if (len > m->budget)
		return -E2BIG;
	while (m->used + len > m->budget)
		unlink_item(m, place(m, m->oldest->id));
	it = calloc(1, sizeof *it);
	if (it == NULL)
		return -ENOMEM;
	if (m->items > m->mask)
		grow(m);
	it->id = id;
	it->bytes = seg_buf_hold(bytes);
	it->older = m->newest;
	*(m->newest != NULL ? &m->newest->newer : &m->oldest) = it;
	m->newest = it;
	*place(m, id) = it;
	m->used += len;
	m->items++;
	return 0;
}

static void mem_write(struct tier *t, struct seg_write *const *writes, unsigned n)
{
	struct tier_mem *m = mem_of(t);

	for (unsigned i = 0; i < n; i++) {
		struct seg_write *w = writes[i];

		pthread_mutex_lock(&m->lock);
		w->status = store(m, w->id, w->bytes);
		pthread_mutex_unlock(&m->lock);
		w->done(w);
	}
}

static void mem_drop(struct tier *t, struct seg_id id)
{
	struct tier_mem *m = mem_of(t);
	struct item **at;

	pthread_mutex_lock(&m->lock);
	at = place(m, id);
	if (*at != NULL)
		unlink_item(m, at);
	pthread_mutex_unlock(&m->lock);
}

static void mem_close(struct tier *t)
{
	struct tier_mem *m = mem_of(t);

	while (m->oldest != NULL)
		unlink_item(m, place(m, m->oldest->id));
	AZ(m->items);
	AZ(m->used);
	AZ(pthread_mutex_destroy(&m->lock));
	free(m->head);
	free(m);
}

static const struct tier_ops mem_ops = {
    .abi = TIER_ABI,
    .key = "mem",
    .read = mem_read,
    .cancel = mem_cancel,
    .close = mem_close,
    .write = mem_write,
    .drop = mem_drop,
};

int tier_mem_open(const char *key, uint64_t bytes, struct tier **tier)
{
	struct tier_mem *m;

	if (key == NULL)
		key = mem_ops.key;
	if (!tier_key_ok(key))
		return -EINVAL;
	m = calloc(1, sizeof *m);
	if (m == NULL)
		return -ENOMEM;
	m->head = calloc(HEADS_MIN, sizeof(struct item *));
	if (m->head == NULL) {
		free(m);
		return -ENOMEM;
	}
	m->mask = HEADS_MIN - 1;
	m->budget = bytes;
	AZ(pthread_mutex_init(&m->lock, NULL));
	memcpy(m->key, key, strlen(key) + 1);
	m->tier = (struct tier){.ops = &mem_ops, .key = m->key};
	*tier = &m->tier;
	return 0;
}
