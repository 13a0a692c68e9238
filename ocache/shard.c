/* SPDX-License-Identifier: Apache-2.0 */
/* Objects, their budget, how they leave; see shard.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "ocache/shard.h"

/*
 * So much has left ahead of what must, [SH-5]: a fence costs up to some microseconds of all
 * processors, so it is shared by all of that; a look at all pins by half. No more than that and a
 * half is left unused.
 */
#define AHEAD(budget) ((budget) / 256 < AHEAD_MAX ? (budget) / 256 : AHEAD_MAX)
#define AHEAD_MAX     (512u << 10)

/* So many forgotten objects wait for the next sweep at least. */
#define SWEEP_MIN 32u

/*
 * Entries come in chunks, larger ones as there are more: a quarter of those that there are, so that
 * no more than a fifth of them stands unused in the budget.
 */
#define CHUNK_MIN (64u << 10)
#define CHUNK_MAX (4u << 20)

/*
 * Pins that there is room for from the start: it is mostly when the budget is full that they are
 * looked at, and then there is no room for the room.
 */
#define PINS_MIN 512u

struct chunk {
	struct chunk *next;
	void *base;
	size_t bytes;
};

/* It is held for less than it takes to sleep and be woken: who waits spins for a while. */
static void lock_open(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attr;

	AZ(pthread_mutexattr_init(&attr));
	AZ(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP));
	AZ(pthread_mutex_init(lock, &attr));
	AZ(pthread_mutexattr_destroy(&attr));
}

int shard_open(struct shard *s, const uint64_t seed[2], uint64_t budget)
{
	int err = table_open(&s->table);

	if (err != 0)
		return err;
	s->pins = malloc(PINS_MIN * sizeof *s->pins);
	if (s->pins == NULL) {
		table_close(&s->table);
		memset(s, 0, sizeof *s);
		return -ENOMEM;
	}
	s->pins_room = PINS_MIN;
	s->seed[0] = seed[0];
	s->seed[1] = seed[1];
	s->budget = budget;
	policy_open(&s->policy, seed);
	lock_open(&s->lock);
	return 0;
}

static void destroy_queue(struct entry *newest)
{
	for (struct entry *e = newest; e != NULL; e = e->older)
		e->decoder->destroy(e->decoder->ctx, e->object);
}

void shard_close(struct shard *s)
{
	if (atomic_load_explicit(&s->table.root, memory_order_relaxed) == 0)
		return;
	for (unsigned q = 0; q < POLICY_QUEUES; q++)
		destroy_queue(s->policy.q[q].newest);
	destroy_queue(s->leaving);
	destroy_queue(s->dead);
	for (struct chunk *c = s->chunks, *next; c != NULL; c = next) {
		next = c->next;
		AZ(munmap(c->base, c->bytes));
		free(c);
	}
	free(s->pins);
	policy_close(&s->policy);
	table_close(&s->table);
	AZ(pthread_mutex_destroy(&s->lock));
}

uint64_t shard_overhead(const struct shard *s)
{
	return sizeof *s + table_bytes(&s->table) + s->chunk_bytes + policy_bytes(&s->policy) +
	       s->pins_room * sizeof(void *);
}

static struct entry *entry_get(struct shard *s)
{
	struct entry *e = s->free;

	if (e == NULL) {
		size_t quarter = s->chunk_bytes / 4 / CHUNK_MIN * CHUNK_MIN;
		size_t bytes = quarter < CHUNK_MIN   ? CHUNK_MIN
			       : quarter < CHUNK_MAX ? quarter
						     : CHUNK_MAX;
		struct chunk *c = malloc(sizeof *c);
		void *base;

		if (c == NULL)
			return NULL;
		base =
		    mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (base == MAP_FAILED) {
			free(c);
			return NULL;
		}
		*c = (struct chunk){s->chunks, base, bytes};
		s->chunks = c;
		s->chunk_bytes += bytes;
		for (size_t at = bytes; at > 0; at -= ENTRY_BYTES) {
			e = (void *)((char *)base + at - ENTRY_BYTES);
			e->older = s->free;
			s->free = e;
		}
	}
	s->free = e->older;
	DIAG(e->state == ENTRY_FREE);
	return e;
}

static void entry_put(struct shard *s, struct entry *e)
{
	e->state = ENTRY_FREE;
	e->older = s->free;
	s->free = e;
}

/* ---- leaving ---- */

static bool among(void *const *pins, size_t n, const void *e)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if ((const void *)pins[mid] < e)
			low = mid + 1;
		else
			high = mid;
	}
	return low < n && pins[low] == e;
}

struct look {
	const struct shard *s;
	size_t pins;
};

static bool is_pinned(void *ctx, const struct entry *e)
{
	const struct look *look = ctx;

	return among(look->s->pins, look->pins, e);
}

/* What the policy divides among its queues: what is free ahead is nobody's. */
static uint64_t policy_room(const struct shard *s)
{
	uint64_t taken = shard_overhead(s) + AHEAD(s->budget);

	return s->budget > taken ? s->budget - taken : 0;
}

/* The policy has let go of it. */
static void leave(struct shard *s, struct entry *e)
{
	A(e->state == ENTRY_IN);
	table_remove(&s->table, table_hash(s->seed, e->id), e);
	e->state = ENTRY_LEAVING;
	e->older = s->leaving;
	s->leaving = e;
	s->leaving_n++;
	s->resident -= e->size;
	s->leaving_bytes += e->size;
	s->unswept_bytes += e->size;
}

/* A fence has come after what is at *at and older left: what no pin names of it is dead. */
static void sweep_from(struct shard *s, struct entry **at)
{
	int64_t pins = lane_pinned(NULL, NULL, &s->pins, &s->pins_room);
	struct entry *e;

	s->stamped = NULL;
	s->fencing = false;
	s->unswept_bytes = 0;
	for (e = s->leaving; e != *at; e = e->older)
		s->unswept_bytes += e->size;
	if (pins < 0)
		return; /* no memory to know: they stay */
	s->kept_n = s->kept_bytes = 0;
	while ((e = *at) != NULL) {
		if (among(s->pins, (size_t)pins, e)) {
			s->kept_n++;
			s->kept_bytes += e->size;
			at = &e->older;
			continue;
		}
		*at = e->older;
		s->leaving_n--;
		e->state = ENTRY_DEAD;
		e->older = s->dead;
		s->dead = e;
	}
}

/* With a fence for all of it. */
static void sweep(struct shard *s)
{
	if (s->leaving == NULL)
		return;
	lane_fence(); /* [SH-2] */
	sweep_from(s, &s->leaving);
}

/* [SH-6] Without one: what somebody else's fence has done for. */
static void sweep_stamped(struct shard *s)
{
	struct entry **at = &s->leaving;

	if (s->stamped == NULL || !lane_fenced(s->stamp))
		return;
	while (*at != s->stamped)
		at = &(*at)->older;
	sweep_from(s, at);
}

/* What has left has a stamp. Is it so much that nobody else's fence is waited for? */
static bool stamp(struct shard *s)
{
	bool much = !s->fencing && s->unswept_bytes >= AHEAD(s->budget);

	if (much || s->stamped == NULL) {
		s->stamped = s->leaving;
		s->stamp = lane_stamp();
	}
	s->fencing |= much;
	return much;
}

static void bury_one(struct shard *s, struct grave *g)
{
	struct entry *e = s->dead;

	DIAG(e->state == ENTRY_DEAD);
	s->dead = e->older;
	s->leaving_bytes -= e->size;
	if (g->n < GRAVE_ROOM) {
		g->at[g->n].decoder = e->decoder;
		g->at[g->n].object = e->object;
		g->at[g->n++].size = e->size;
		entry_put(s, e);
	} else {
		e->older = g->more;
		g->more = e;
	}
}

/* Buries until need bytes fit. Do they? */
static bool bury(struct shard *s, uint64_t need, struct grave *g)
{
	uint64_t rest = shard_overhead(s) + s->resident + need;

	while (rest + s->leaving_bytes > s->budget && s->dead != NULL)
		bury_one(s, g);
	return rest + s->leaving_bytes <= s->budget;
}

/* Lets go of what must go so that need bytes will fit, and of some ahead. */
static void evict(struct shard *s, uint64_t need, struct grave *g)
{
	uint64_t overhead = shard_overhead(s), ahead = AHEAD(s->budget), want;
	struct look look = {s, 0};
	int64_t pins;

	if (overhead >= s->budget || need > s->budget - overhead)
		return;
	want = s->budget - overhead - need;
	want = want > s->kept_bytes ? want - s->kept_bytes : 0;
	want = want > ahead ? want - ahead : want;
	if (s->resident <= want)
		return;
	/* a look without a fence: those that it sees held would free nothing if they went */
	pins = lane_pinned(NULL, NULL, &s->pins, &s->pins_room);
	if (pins < 0)
		return;
	look.pins = (size_t)pins;
	want = want > ahead / 2 ? want - ahead / 2 : want;
	while (s->resident > want) {
		struct entry *e = policy_evict(&s->policy, policy_room(s), is_pinned, &look);

		if (e == NULL)
			break;
		policy_prefetch_evict(&s->policy, &s->table);
		leave(s, e);
		s->evicted++;
	}
	g->fence |= stamp(s);
}

/* Do need bytes fit? If not: references hold too much. */
static bool make_room(struct shard *s, uint64_t need, struct grave *g)
{
	sweep_stamped(s);
	/* again, because what evicting needs itself may have grown, or pins were seen late */
	for (unsigned i = 0; i < 3; i++) {
		evict(s, need, g);
		if (bury(s, need, g))
			return true;
		sweep(s);
		if (bury(s, need, g))
			return true;
	}
	return false;
}

struct entry *shard_insert(struct shard *s, struct seg_id id, const struct ocache_decoder *decoder,
			   void *object, size_t size, struct grave *g)
{
	struct entry *e;

	table_reserve(&s->table, s->seed);
	e = entry_get(s);
	if (e == NULL)
		return NULL;
	e->id = id;
	e->object = object;
	e->size = size;
	e->decoder = decoder;
	/* the overhead has grown already if it must: now it is known what fits */
	if (!make_room(s, size, g) || table_insert(&s->table, s->seed, e) != 0) {
		entry_put(s, e);
		return NULL;
	}
	e->state = ENTRY_IN;
	policy_insert(&s->policy, e, policy_room(s));
	s->resident += size;
	s->added++;
	return e;
}

void shard_sweep(struct shard *s, struct grave *g)
{
	sweep(s);
	while (s->dead != NULL)
		bury_one(s, g);
}

void shard_forget(struct shard *s, struct entry *e, struct grave *g)
{
	policy_remove(&s->policy, e);
	leave(s, e);
	s->forgotten++;
	/* a sweep looks at all: one for many */
	if (s->leaving_n >= 2 * s->kept_n + SWEEP_MIN)
		shard_sweep(s, g);
}

void shard_resize(struct shard *s, uint64_t budget, struct grave *g)
{
	s->budget = budget;
	(void)make_room(s, 0, g); /* what references hold goes when they do */
	shard_sweep(s, g);
}

/*
 * What nobody has looked at for long, and is freed now, the allocator gives to who asks next; and
 * he writes it, and the lock of his insertion waits for that. So it is fetched, the first KiB of it.
 */
static void prefetch_memory(const char *object, size_t size)
{
	for (size_t at = 0; at < size && at < 1024; at += 64)
		__builtin_prefetch(object + at, 1);
}

void shard_bury(struct shard *s, struct grave *g)
{
	if (g->fence)
		lane_fence();
	for (unsigned i = 0; i < g->n; i++) {
		prefetch_memory(g->at[i].object, g->at[i].size);
		g->at[i].decoder->destroy(g->at[i].decoder->ctx, g->at[i].object);
	}
	if (g->more == NULL)
		return;
	for (struct entry *e = g->more; e != NULL; e = e->older)
		e->decoder->destroy(e->decoder->ctx, e->object);
	pthread_mutex_lock(&s->lock);
	for (struct entry *e = g->more, *next; e != NULL; e = next) {
		next = e->older;
		entry_put(s, e);
	}
	pthread_mutex_unlock(&s->lock);
}

bool shard_owns(const struct shard *s, const void *entry)
{
	for (const struct chunk *c = s->chunks; c != NULL; c = c->next)
		if (entry >= c->base && (const char *)entry < (const char *)c->base + c->bytes)
			return true;
	return false;
}

void shard_each_mapping(const struct shard *s, void (*each)(void *ctx, void *base, size_t bytes),
			void *ctx)
{
	table_each_mapping(&s->table, each, ctx);
	for (const struct chunk *c = s->chunks; c != NULL; c = c->next)
		each(ctx, c->base, c->bytes);
}

bool shard_walk(const struct shard *s, struct shard_walk *w, unsigned most,
		void (*each)(void *ctx, const struct entry *e), void *ctx)
{
	if (!w->begun)
		w->chunk = s->chunks; /* [SH-4]; what comes in front of it meanwhile is new */
	w->begun = true;
	for (; w->chunk != NULL; w->chunk = w->chunk->next, w->at = 0)
		for (; w->at < w->chunk->bytes; w->at += ENTRY_BYTES) {
			const struct entry *e =
			    (const void *)((const char *)w->chunk->base + w->at);

			if (most-- == 0)
				return true;
			if (e->state == ENTRY_IN)
				each(ctx, e);
		}
	return false;
}
