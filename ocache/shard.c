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

/* Where there cannot be more entries, so many objects go at a time. */
#define ENTRIES_AHEAD 64u

/*
 * Entries come in steps, larger ones as there are more: a quarter of those that there are, so that no
 * more than a fifth of them stands unused in the budget.
 */
#define STEP_MIN (64u << 10)
#define STEP_MAX (4u << 20)

/*
 * Addresses for entries: as much as four times the budget, so that it may grow and objects be small, and
 * at least so much. Addresses are not memory; where a limit says that they are, less of them.
 */
#define ROOM(budget) ((budget) < ROOM_MIN / 4 ? ROOM_MIN : (budget) / STEP_MIN * STEP_MIN * 4)
#define ROOM_MIN     ((size_t)64 << 20)

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
	void *base = MAP_FAILED;

	if (err != 0)
		return err;
	/* in whole steps: `held` has a word for each 64 entries */
	for (s->entries_room = ROOM(budget); s->entries_room >= STEP_MIN;
	     s->entries_room = s->entries_room / 2 / STEP_MIN * STEP_MIN) {
		base = mmap(NULL, s->entries_room, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (base != MAP_FAILED)
			break;
	}
	if (base == MAP_FAILED) {
		table_close(&s->table);
		memset(s, 0, sizeof *s);
		return -ENOMEM;
	}
	s->entries = base;
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
	AZ(munmap(s->entries, s->entries_room));
	free(s->held);
	policy_close(&s->policy);
	table_close(&s->table);
	AZ(pthread_mutex_destroy(&s->lock));
}

uint64_t shard_overhead(const struct shard *s)
{
	return sizeof *s + table_bytes(&s->table) + s->entries_bytes + policy_bytes(&s->policy) +
	       s->held_words * sizeof *s->held;
}

/* More entries. False: there is no memory for them. */
static bool entries_grow(struct shard *s)
{
	size_t quarter = s->entries_bytes / 4 / STEP_MIN * STEP_MIN;
	size_t bytes = quarter < STEP_MIN ? STEP_MIN : quarter < STEP_MAX ? quarter : STEP_MAX;
	char *base = (char *)s->entries + s->entries_bytes;
	uint64_t *held;

	if (bytes > s->entries_room - s->entries_bytes)
		bytes = s->entries_room - s->entries_bytes;
	if (bytes < STEP_MIN)
		return false;
	held = realloc(s->held, (s->entries_bytes + bytes) / ENTRY_BYTES / 8);
	if (held == NULL)
		return false;
	s->held = held;
	if (mprotect(base, bytes, PROT_READ | PROT_WRITE) != 0)
		return false;
	s->entries_bytes += bytes;
	s->held_words = s->entries_bytes / ENTRY_BYTES / 64;
	for (size_t at = bytes; at > 0; at -= ENTRY_BYTES) {
		struct entry *e = (void *)(base + at - ENTRY_BYTES);

		e->older = s->free;
		s->free = e;
	}
	s->free_n += bytes / ENTRY_BYTES;
	return true;
}

static struct entry *entry_get(struct shard *s)
{
	struct entry *e;

	if (s->free == NULL && !entries_grow(s))
		return NULL;
	e = s->free;
	s->free = e->older;
	s->free_n--;
	DIAG(e->state == ENTRY_FREE);
	return e;
}

static void entry_put(struct shard *s, struct entry *e)
{
	e->state = ENTRY_FREE;
	e->older = s->free;
	s->free = e;
	s->free_n++;
}

/* The cache's own memory is more than half of the budget. */
static bool top_heavy(const struct shard *s)
{
	return shard_overhead(s) > s->budget / 2;
}

void shard_trim(struct shard *s)
{
	if (likely(!top_heavy(s)) || s->entries_bytes == 0 ||
	    s->free_n != s->entries_bytes / ENTRY_BYTES)
		return;
	/* all zero again, as ENTRY_FREE is, and without memory; nobody reads: no pin, no slot leads here */
	if (madvise(s->entries, s->entries_bytes, MADV_DONTNEED) != 0)
		return;
	(void)mprotect(s->entries, s->entries_bytes, PROT_NONE);
	s->entries_bytes = 0;
	s->free = NULL;
	s->free_n = 0;
	free(s->held);
	s->held = NULL;
	s->held_words = 0;
	table_shrink(&s->table);
	policy_forget(&s->policy);
}

/* ---- leaving ---- */

static void mark(void *ctx, const void *pinned)
{
	struct shard *s = ctx;
	uintptr_t at = (uintptr_t)pinned - (uintptr_t)s->entries;

	if (at < s->entries_bytes)
		s->held[at / ENTRY_BYTES / 64] |= 1ull << at / ENTRY_BYTES % 64;
}

/* Which of the entries are pinned: a line of each lane, or as many as it has references. */
static void look_at_pins(struct shard *s)
{
	if (s->held == NULL)
		return; /* there is no entry */
	memset(s->held, 0, s->held_words * sizeof *s->held);
	lane_each_pin(mark, s);
}

static bool is_held(void *ctx, const struct entry *e)
{
	const struct shard *s = ctx;
	size_t i = (size_t)(e - s->entries);

	return (s->held[i / 64] >> i % 64 & 1) != 0;
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
	struct entry *e;

	s->stamped = NULL;
	s->fencing = false;
	s->unswept_bytes = 0;
	for (e = s->leaving; e != *at; e = e->older)
		s->unswept_bytes += e->size;
	look_at_pins(s);
	s->kept_n = s->kept_bytes = 0;
	while ((e = *at) != NULL) {
		if (is_held(s, e)) {
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

	if (overhead < s->budget && need > s->budget - overhead)
		return;
	want = overhead < s->budget ? s->budget - overhead - need : 0;
	want = want > s->kept_bytes ? want - s->kept_bytes : 0;
	want = want > ahead ? want - ahead : want;
	if (s->resident <= want)
		return;
	/* a look without a fence: those that it sees held would free nothing if they went */
	look_at_pins(s);
	want = want > ahead / 2 ? want - ahead / 2 : want;
	while (s->resident > want) {
		struct entry *e = policy_evict(&s->policy, policy_room(s), is_held, s);

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

/*
 * An entry, though there may be no memory or no addresses for more of them: then for the object of another, some of which
 * go at once. NULL: references hold them all.
 */
static struct entry *entry_for_one(struct shard *s, struct grave *g)
{
	struct entry *e = entry_get(s);

	if (likely(e != NULL))
		return e;
	if (s->dead == NULL) {
		look_at_pins(s);
		for (unsigned i = 0; i < ENTRIES_AHEAD; i++) {
			e = policy_evict(&s->policy, policy_room(s), is_held, s);
			if (e == NULL)
				break;
			leave(s, e);
			s->evicted++;
		}
		sweep(s);
	}
	if (s->dead != NULL)
		bury_one(s, g);
	return s->free != NULL ? entry_get(s) : NULL;
}

struct entry *shard_insert(struct shard *s, struct seg_id id, const struct ocache_decoder *decoder,
			   void *object, size_t size, struct grave *g)
{
	struct entry *e;

	if (size > s->budget)
		return NULL;
	size += size == 0; /* else evicting frees nothing, and entries fill the budget */
	shard_trim(s);
	table_reserve(&s->table, s->seed);
	e = entry_for_one(s, g);
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
	if (top_heavy(s)) {
		s->budget = 0;
		evict(s, 0, g);
		s->budget = budget;
	}
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
	return (uintptr_t)entry - (uintptr_t)s->entries < s->entries_bytes;
}

void shard_each_mapping(const struct shard *s, void (*each)(void *ctx, void *base, size_t bytes),
			void *ctx)
{
	table_each_mapping(&s->table, each, ctx);
	if (s->entries_bytes > 0)
		each(ctx, s->entries, s->entries_bytes);
}

bool shard_walk(const struct shard *s, struct shard_walk *w, unsigned most,
		void (*each)(void *ctx, const struct entry *e), void *ctx)
{
	for (; w->at < s->entries_bytes / ENTRY_BYTES; w->at++) {
		if (most-- == 0)
			return true;
		if (s->entries[w->at].state == ENTRY_IN)
			each(ctx, &s->entries[w->at]);
	}
	return false;
}
