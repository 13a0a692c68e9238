/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is it: from hashes, records and places to keys; and what the store's hook says has gone.
 */
#include <string.h>

#include "base/xxh.h"
#include "tests/simulation/simulation.h"

uint64_t world_hash(unsigned key)
{
	struct world *w = world;

	if (w->hashed_with != w->s->hash_secret) {
		for (unsigned k = 0; k < SIM_KEYS; k++) {
			unsigned n;
			const char *name = key_name(k, &n);

			w->hash[k] = XXH3_64bits_withSeed(name, n, w->s->hash_secret);
		}
		w->hashed_with = w->s->hash_secret;
	}
	return w->hash[key];
}

unsigned world_key(uint64_t hash)
{
	for (unsigned k = 0; k < world->plan->setup.keys; k++)
		if (world_hash(k) == hash)
			return k;
	return SIM_KEYS;
}

unsigned key_of(const char *name, unsigned n)
{
	unsigned k = 0, at, len;
	const char *have;

	if (n < 5 || n > SIM_KEY_MAX || memcmp(name, "key-", 4) != 0)
		return SIM_KEYS;
	for (at = 4; at < n && name[at] >= '0' && name[at] <= '9' && k < SIM_KEYS; at++)
		k = k * 10 + (unsigned)(name[at] - '0');
	if (at == 4 || k >= SIM_KEYS)
		return SIM_KEYS;
	have = key_name(k, &len);
	return len == n && memcmp(have, name, n) == 0 ? k : SIM_KEYS;
}

unsigned world_record(uint64_t loc, uint32_t *epoch)
{
	struct world *w = world;
	struct store *s = w->s;
	uint8_t buffered[512];
	const uint8_t *mem = buffered;
	uint32_t seg, at, n;
	struct path *p = loc_path(s, loc, &seg, &at);
	struct format_record rec;

	if (p == NULL || at > SIM_SEG / FORMAT_UNIT - 4)
		return SIM_KEYS;
	n = wbuf_copy(s, loc, buffered, sizeof buffered);
	if (n == 0) {
		n = sizeof buffered;
		mem = sim_disk_bytes(w->env, w->path[p->index]) + seg_offset(p, seg) +
		      (uint64_t)at * FORMAT_UNIT;
	}
	if (record_check(mem, n, s->id_seed,
			 ((const struct format_record *)(const void *)mem)->generation, at,
			 &rec) != RECORD_GOOD ||
	    rec.type != FORMAT_VALUE)
		return SIM_KEYS;
	*epoch = rec.flags;
	return key_of((const char *)mem + sizeof rec, rec.key_len);
}

uint32_t world_where(unsigned key)
{
	struct index_probe probe;
	uint32_t epoch;

	index_find(world->s->index, world_hash(key), &probe);
	for (unsigned i = 0; i < probe.n; i++)
		if (world_record(probe.ref[i].loc, &epoch) == key)
			return epoch;
	return 0;
}

void world_may_go(uint64_t from, uint64_t to)
{
	struct world *w = world;
	struct index_probe probe;

	for (unsigned k = 0; k < w->plan->setup.keys; k++) {
		index_find(w->s->index, world_hash(k), &probe);
		for (unsigned i = 0; i < probe.n; i++)
			if (probe.ref[i].loc >= from && probe.ref[i].loc < to)
				model_gone(w->model, k, 0, true);
	}
}

void world_on_gone(void *arg, enum store_gone why, uint64_t hash, uint64_t loc)
{
	struct world *w = arg;
	uint32_t epoch = 0, seg, at;
	unsigned key;

	if (w->dead)
		return;
	if (w->s == NULL ||
	    (w->loading && why != STORE_GONE_RECYCLED && why != STORE_GONE_UNREAD)) {
		A(w->nstart_gone < sizeof w->start_gone / sizeof w->start_gone[0]);
		w->start_life[w->nstart_gone] = 0;
		w->start_gone[w->nstart_gone++] = loc;
		if (w->s == NULL)
			return;
		w->start_life[w->nstart_gone - 1] =
		    atomic_load(&loc_path(w->s, loc, &seg, &at)->seg[seg].generation);
	}
	if (why == STORE_GONE_SEGMENT || why == STORE_GONE_PATH) {
		struct path *p = loc_path(w->s, loc, &seg, &at);
		bool all = why == STORE_GONE_PATH;

		say("gone: path %u segment %d", p->index, all ? -1 : (int)seg);
		/* a death can leave a torn block: what lies behind it is no longer known by name */
		if (!w->plan->setup.faults && (all || !p->seg[seg].ragged))
			violation("path %u segment %u is given up, and nothing was wrong with it",
				  p->index, seg);
		world_may_go(loc, loc_of(p, all ? p->nseg : seg + 1, 0));
		cover->emptied += all;
		cover->quarantined += !all;
		return;
	}
	if (why == STORE_GONE_VICTIM) {
		key = world_record(loc, &epoch);
		cover->victims++;
		if (key == SIM_KEYS) {
			if (!w->plan->setup.faults)
				violation("an index victim is no record");
			return;
		}
	} else {
		unsigned is;

		key = world_key(hash);
		if (key == SIM_KEYS)
			violation("a hash left that is no key's");
		is = world_record(loc, &epoch);
		if (is != key)
			epoch = 0; /* damaged, or of another life by now */
		if (why == STORE_GONE_RECYCLED)
			cover->evicted++;
	}
	if ((why == STORE_GONE_UNREADABLE || why == STORE_GONE_UNREAD) && !w->plan->setup.faults)
		violation(
		    "key %u: its record was not readable, and nothing was wrong with the disk",
		    key);
	say("gone: key %u epoch %u, why %d", key, epoch, why);
	if (why == STORE_GONE_UNREAD) {
		model_unread(w->model, key);
		return;
	}
	if (why == STORE_GONE_MOVED) {
		cover->rescued++;
		model_moved(w->model, key, epoch, sim_env_now(w->env));
		return;
	}
	cover->lost += why == STORE_GONE_UNWRITTEN && any_path_online(w->s);
	model_gone(w->model, key, epoch, why != STORE_GONE_RECYCLED);
}
