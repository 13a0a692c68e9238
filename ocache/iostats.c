/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts: who counts where, and what becomes of it at the end; see iostats.h.
 *
 * A context has a list of lanes. The first belongs to the thread that began it; the others are
 * pushed by the threads that count, and found again by their struct lane. Nobody removes one before
 * the context is freed, so the list is walked without locks. `lock` guards what is not counted in
 * lanes: the names of tiers, the sums of nested calls, and the lane that threads without memory
 * share.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "ocache/iostats_int.h"
#include "ocache/lane.h"

#define IOSTATS_MAGIC 0x10574154u

struct io_lane {
	const struct lane *owner;
	struct cells cells;
	struct io_lane *next;
};

struct iostats {
	uint32_t magic;
	_Atomic uint32_t refs;
	_Atomic(struct io_lane *) lanes; /* those that were pushed */
	struct io_lane first;
	struct iostats *parent;
	uint64_t begun_ns;
	char *api, *io_context;
	_Atomic uint32_t tiers;
	char tier[TIERS_CELLS][TIER_KEY_LEN]; /* written once, before tiers says so */
	/* under lock: */
	pthread_mutex_t lock;
	struct cells shared;
	struct totals nested_totals;
	struct nested *nested;
	bool ended;
};

static uint64_t get(const _Atomic uint64_t *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

/* One writer: no locked instruction. */
static inline void add(_Atomic uint64_t *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* ---- lanes ---- */

static struct cells *cells_slow(struct iostats *io, const struct lane *me)
{
	struct io_lane *l;

	for (l = atomic_load_explicit(&io->lanes, memory_order_acquire); l != NULL; l = l->next)
		if (l->owner == me)
			return &l->cells;
	if (me == NULL)
		return NULL;
	l = calloc(1, sizeof *l);
	if (l == NULL)
		return NULL;
	l->owner = me;
	l->next = atomic_load_explicit(&io->lanes, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&io->lanes, &l->next, l, memory_order_release,
						      memory_order_relaxed))
		;
	return &l->cells;
}

/* Is the first lane the calling thread's? (No owner is NULL.) */
static inline bool is_first(const struct iostats *io)
{
	return io->first.owner == lane__mine;
}

/* The calling thread's; NULL: there is no memory for one, count in `shared`. */
static struct cells *cells_mine(struct iostats *io)
{
	return is_first(io) ? &io->first.cells : cells_slow(io, lane_mine());
}

/* Counts n in the cell at this offset. */
static void count_shared(struct iostats *io, size_t cell, uint64_t n)
{
	pthread_mutex_lock(&io->lock);
	add((_Atomic uint64_t *)(void *)((char *)&io->shared + cell), n);
	pthread_mutex_unlock(&io->lock);
}

static void count(struct iostats *io, struct cells *mine, size_t cell, uint64_t n)
{
	if (likely(mine != NULL))
		add((_Atomic uint64_t *)(void *)((char *)mine + cell), n);
	else
		count_shared(io, cell, n);
}

static __attribute__((noinline)) void access_slow(struct iostats *io, enum iostats_sort sort,
						  bool is_dir, bool load)
{
	count(io, cells_mine(io),
	      offsetof(struct cells, access) +
		  (size_t)(((unsigned)sort * 2 + is_dir) * 2 + load) * sizeof(uint64_t),
	      1);
}

void iostats_access(struct iostats *io, enum iostats_sort sort, bool is_dir, bool load)
{
	if (io == NULL)
		return;
	if (unlikely((unsigned)sort >= SORTS))
		sort = IOSTATS_NO_SORT;
	/* by a tail call, so that the short way saves no registers */
	if (unlikely(!is_first(io)))
		access_slow(io, sort, is_dir, load);
	else
		add(&io->first.cells.access[sort][is_dir][load], 1);
}

void iostats_inflight(struct iostats *io, uint64_t ns)
{
	if (io != NULL)
		count(io, cells_mine(io), offsetof(struct cells, inflight_ns), ns);
}

void iostats_deserialize(struct iostats *io, uint64_t segments, uint64_t ns)
{
	struct cells *mine;

	if (io == NULL)
		return;
	mine = cells_mine(io);
	count(io, mine, offsetof(struct cells, deserialize), segments);
	count(io, mine, offsetof(struct cells, deserialize_ns), ns);
}

/* The number of the tier with this key. */
static size_t tier_index(struct iostats *io, const char *key)
{
	uint32_t n = atomic_load_explicit(&io->tiers, memory_order_acquire), i;

	for (i = 0; i < n; i++)
		if (strcmp(io->tier[i], key) == 0)
			return i;
	pthread_mutex_lock(&io->lock);
	n = atomic_load_explicit(&io->tiers, memory_order_relaxed);
	for (; i < n && strcmp(io->tier[i], key) != 0; i++)
		;
	if (i == n && n < TIERS_MAX) {
		strncpy(io->tier[i], key, TIER_KEY_MAX);
		atomic_store_explicit(&io->tiers, n + 1, memory_order_release);
	}
	pthread_mutex_unlock(&io->lock);
	return i; /* TIERS_MAX: one of the others */
}

void iostats_tier(struct iostats *io, const char *key, uint64_t reads, uint64_t ns)
{
	struct cells *mine;
	size_t i;

	if (io == NULL)
		return;
	i = tier_index(io, key);
	mine = cells_mine(io);
	count(io, mine, offsetof(struct cells, tier_reads) + i * sizeof(uint64_t), reads);
	count(io, mine, offsetof(struct cells, tier_ns) + i * sizeof(uint64_t), ns);
}

/* ---- sums ---- */

static void totals_tier(struct totals *to, const char *key, uint64_t reads, uint64_t ns)
{
	size_t i = 0;

	if (reads == 0 && ns == 0)
		return;
	while (i < TIERS_MAX && to->tier[i].key[0] != '\0' && strcmp(to->tier[i].key, key) != 0)
		i++;
	if (to->tier[i].key[0] == '\0')
		strncpy(to->tier[i].key, i < TIERS_MAX ? key : "other-tiers", TIER_KEY_MAX);
	to->tier[i].reads += reads;
	to->tier[i].ns += ns;
}

void totals_add(struct totals *to, const struct totals *from)
{
	for (unsigned s = 0; s < SORTS; s++)
		for (unsigned k = 0; k < 4; k++)
			to->access[s][k / 2][k % 2] += from->access[s][k / 2][k % 2];
	to->inflight_ns += from->inflight_ns;
	to->deserialize += from->deserialize;
	to->deserialize_ns += from->deserialize_ns;
	for (unsigned i = 0; i < TIERS_CELLS; i++)
		totals_tier(to, from->tier[i].key, from->tier[i].reads, from->tier[i].ns);
}

static void totals_add_cells(struct iostats *io, struct totals *to, const struct cells *c)
{
	uint32_t tiers = atomic_load_explicit(&io->tiers, memory_order_acquire);

	for (unsigned s = 0; s < SORTS; s++)
		for (unsigned k = 0; k < 4; k++)
			to->access[s][k / 2][k % 2] += get(&c->access[s][k / 2][k % 2]);
	to->inflight_ns += get(&c->inflight_ns);
	to->deserialize += get(&c->deserialize);
	to->deserialize_ns += get(&c->deserialize_ns);
	for (unsigned i = 0; i < tiers; i++)
		totals_tier(to, io->tier[i], get(&c->tier_reads[i]), get(&c->tier_ns[i]));
	totals_tier(to, "other-tiers", get(&c->tier_reads[TIERS_MAX]), get(&c->tier_ns[TIERS_MAX]));
}

/* Under io's lock. */
static void totals_sum(struct iostats *io, struct totals *to)
{
	memset(to, 0, sizeof *to);
	totals_add_cells(io, to, &io->first.cells);
	for (struct io_lane *l = atomic_load_explicit(&io->lanes, memory_order_acquire); l != NULL;
	     l = l->next)
		totals_add_cells(io, to, &l->cells);
	totals_add_cells(io, to, &io->shared);
	totals_add(to, &io->nested_totals);
}

static void nested_free(struct nested *n)
{
	while (n != NULL) {
		struct nested *next = n->next;

		nested_free(n->nested);
		free(n->io_context);
		free(n->api);
		free(n);
		n = next;
	}
}

/* The one of this name, made if there is none; NULL: no memory. */
static struct nested *nested_get(struct nested **list, const char *io_context, const char *api)
{
	struct nested *n;

	for (; (n = *list) != NULL; list = &n->next)
		if (strcmp(n->io_context, io_context) == 0)
			return n;
	n = calloc(1, sizeof *n);
	if (n == NULL)
		return NULL;
	n->io_context = strdup(io_context);
	n->api = strdup(api);
	if (n->io_context == NULL || n->api == NULL) {
		nested_free(n);
		return NULL;
	}
	*list = n;
	return n;
}

static void nested_merge(struct nested **to, const struct nested *from)
{
	for (; from != NULL; from = from->next) {
		struct nested *n = nested_get(to, from->io_context, from->api);

		if (n == NULL)
			continue; /* its sums are in the parent's all the same */
		n->api_ns += from->api_ns;
		totals_add(&n->totals, &from->totals);
		nested_merge(&n->nested, from->nested);
	}
}

/* [iostats.h, 4] io has ended; nobody changes its nested sums any more. */
static void tell_parent(struct iostats *io, const struct totals *t, uint64_t api_ns)
{
	struct iostats *parent = io->parent;
	struct nested *n;

	pthread_mutex_lock(&parent->lock);
	if (!parent->ended) {
		totals_add(&parent->nested_totals, t);
		if (io->io_context == NULL) {
			nested_merge(&parent->nested, io->nested);
		} else {
			n = nested_get(&parent->nested, io->io_context, io->api);
			if (n != NULL) {
				n->api_ns += api_ns;
				totals_add(&n->totals, t);
				nested_merge(&n->nested, io->nested);
			}
		}
	}
	pthread_mutex_unlock(&parent->lock);
}

/* ---- life ---- */

/* EDN's symbol, with one namespace at most. */
static bool is_keyword(const char *s)
{
	static const char more[] = "*+!-_'?<>=.#";
	size_t n = strlen(s);
	unsigned slashes = 0;

	if (n == 0 || n > IOSTATS_NAME_MAX || s[0] == '/' || s[n - 1] == '/')
		return false;
	for (; *s != '\0'; s++) {
		if (*s == '/')
			slashes++;
		else if (!((*s | 32) >= 'a' && (*s | 32) <= 'z') && !(*s >= '0' && *s <= '9') &&
			 strchr(more, *s) == NULL)
			return false;
	}
	return slashes <= 1;
}

struct iostats *iostats_begin(const char *api, const char *io_context, struct iostats *parent)
{
	struct iostats *io;

	if (api == NULL || !is_keyword(api) || (io_context != NULL && !is_keyword(io_context)))
		return NULL;
	io = calloc(1, sizeof *io);
	if (io == NULL)
		return NULL;
	io->magic = IOSTATS_MAGIC;
	atomic_store_explicit(&io->refs, 1, memory_order_relaxed);
	io->first.owner = lane_mine();
	if (io->first.owner == NULL)
		io->first.owner = (const void *)io; /* nobody */
	AZ(pthread_mutex_init(&io->lock, NULL));
	io->api = strdup(api);
	io->io_context = io_context != NULL ? strdup(io_context) : NULL;
	if (io->api == NULL || (io_context != NULL && io->io_context == NULL)) {
		iostats_drop(io);
		return NULL;
	}
	io->parent = parent != NULL ? iostats_hold(parent) : NULL;
	io->begun_ns = clock_ns();
	return io;
}

const char *iostats__name(const struct iostats *io)
{
	if (io == NULL)
		return NULL;
	return io->io_context != NULL ? io->io_context : io->api;
}

struct iostats *iostats_hold(struct iostats *io)
{
	if (io != NULL) {
		MAGIC_OK(io, IOSTATS_MAGIC);
		atomic_fetch_add_explicit(&io->refs, 1, memory_order_relaxed);
	}
	return io;
}

void iostats_drop(struct iostats *io)
{
	struct iostats *parent;

	/* a chain of parents may end here: not by recursion */
	for (; io != NULL; io = parent) {
		MAGIC_OK(io, IOSTATS_MAGIC);
		if (atomic_fetch_sub_explicit(&io->refs, 1, memory_order_acq_rel) != 1)
			return;
		parent = io->parent;
		for (struct io_lane *l = atomic_load(&io->lanes), *next; l != NULL; l = next) {
			next = l->next;
			free(l);
		}
		nested_free(io->nested);
		free(io->api);
		free(io->io_context);
		AZ(pthread_mutex_destroy(&io->lock));
		io->magic = 0;
		free(io);
	}
}

/* Ends it if end; the map if want. */
static struct iostats_map *conclude(struct iostats *io, bool end, bool want)
{
	uint64_t api_ns = clock_ns() - io->begun_ns;
	struct iostats_map *map = NULL;
	struct totals t;

	MAGIC_OK(io, IOSTATS_MAGIC);
	pthread_mutex_lock(&io->lock);
	if (end) {
		A(!io->ended);
		io->ended = true;
	}
	totals_sum(io, &t);
	if (want)
		map = iostats__map(io->api, io->io_context, api_ns, &t, io->nested);
	pthread_mutex_unlock(&io->lock);
	if (end && io->parent != NULL)
		tell_parent(io, &t, api_ns);
	return map;
}

struct iostats_map *iostats_end(struct iostats **io)
{
	struct iostats_map *map = *io != NULL ? conclude(*io, true, true) : NULL;

	iostats_drop(*io);
	*io = NULL;
	return map;
}

void iostats_finish(struct iostats **io)
{
	if (*io != NULL)
		(void)conclude(*io, true, false);
	iostats_drop(*io);
	*io = NULL;
}

struct iostats_map *iostats_snapshot(struct iostats *io)
{
	return io != NULL ? conclude(io, false, true) : NULL;
}
