/* SPDX-License-Identifier: Apache-2.0 */
/* The scenes of the torn memory test: what a store does while it is killed at each instruction. */
#include "tests/crash/torn.h"
#include "valcached/store/index_int.h"

#define SLOW(r) ((r)->cfg.workers)

static uint32_t put(struct rig *r, uint32_t k, uint32_t len)
{
	static uint32_t nth;
	uint32_t id = ID(++nth, len);

	assert_true(k < KEYS);
	told->ever[k] = true;
	assert_int_equal(set_k(r, k, id, len), STORE_OK);
	return id;
}

static void put_told(struct rig *r, uint32_t k, uint32_t len)
{
	put(r, k, len);
	told->answered[k] = true;
}

static void del(struct rig *r, uint32_t k)
{
	assert_int_equal(del_k(r, k), STORE_OK);
}

/* Values on disk and in a write buffer, deleted ones of both. */
static void some(struct rig *r)
{
	for (uint32_t k = 1; k <= 20; k++)
		put(r, k, 60 + k * 131);
	rig_settle(r);
	del(r, 3);
	del(r, 7);
	del(r, 11);
	for (uint32_t k = 21; k <= 28; k++)
		put(r, k, 100 + k * 17);
	del(r, 22);
}

static void act_set(struct rig *r)
{
	put_told(r, 100, 1000);
}

static void act_set_again(struct rig *r)
{
	put_told(r, 3, 700);
}

/* One long value was set and deleted: what is left of it must not be taken for the next. */
static void some_long(struct rig *r)
{
	some(r);
	put(r, 60, STORE_WHOLE_MAX + 300);
	del(r, 60);
}

static void act_long(struct rig *r)
{
	put_told(r, 61, STORE_WHOLE_MAX + 500);
}

static void act_delete(struct rig *r)
{
	del(r, 5);
	told->answered[5] = true;
}

static void act_delete_buffered(struct rig *r)
{
	del(r, 25);
	told->answered[25] = true;
}

static void act_flush_all(struct rig *r)
{
	assert_int_equal(rig_flush_all(r, 0), STORE_OK);
	for (unsigned k = 0; k < KEYS; k++)
		told->answered[k] = true;
}

/* ---- a full index ------------------------------------------------------------------------------ */

#define CROWD 200u /* the first of the keys that fill it */

/* The first set of CROWD, CROWD + 1 ... that moves a slot, or that throws one out. */
static void crowd(struct rig *r, bool victim)
{
	uint32_t last = told->number != 0 ? told->number : KEYS - 1;

	for (uint32_t k = CROWD; k < last; k++) {
		struct index_stats a, b;

		index_stats(r->s->index, &a);
		put(r, k, 40);
		index_stats(r->s->index, &b);
		if (told->number == 0 &&
		    (victim ? b.victims > a.victims : b.displacements > a.displacements)) {
			told->number = k;
			return;
		}
	}
	assert_true(told->number != 0);
	RIG_UNTIL(r, atomic_load(&r->s->live->owed) == 0);
}

static void crowd_to_move(struct rig *r)
{
	crowd(r, false);
}

static void crowd_to_victim(struct rig *r)
{
	crowd(r, true);
}

static void act_last_of_crowd(struct rig *r)
{
	put_told(r, told->number, 40);
	RIG_UNTIL(r, atomic_load(&r->s->live->owed) == 0);
}

/* A record is not published, three lines are locked, and a slot is in two of them. */
static bool while_moved(const struct sight *v)
{
	const struct sight_file *live = sight_find(v, "-index"), *writes = sight_find(v, "-writes");
	const struct live *l = (const struct live *)(const void *)live->now;
	const struct line *line =
	    (const struct line *)(const void *)(live->now + l->index_off + HEADER_BYTES);
	uint64_t n = (l->index_len - HEADER_BYTES) / LINE_BYTES, locked[3];
	unsigned found = 0;
	bool open = false;

	for (size_t i = 0; i < writes->len / (FORMAT_ALIGN + WBUF_BYTES); i++) {
		const struct wbuf_shm *h =
		    (const struct wbuf_shm *)(const void *)(writes->now + i * FORMAT_ALIGN);

		open = open || (atomic_load(&h->generation) != 0 &&
				atomic_load(&h->committed) > atomic_load(&h->published));
	}
	for (uint64_t i = 0; i < n && found < 3; i++)
		if (atomic_load(&line[i].word) & WORD_LOCK)
			locked[found++] = i;
	if (!open || found < 3)
		return false;
	for (unsigned a = 0; a < 3; a++)
		for (unsigned b = a + 1; b < 3; b++)
			for (unsigned i = 0; i < INDEX_SLOTS; i++)
				for (unsigned k = 0; k < INDEX_SLOTS; k++)
					if (slot_load(&line[locked[a]], i) != 0 &&
					    slot_load(&line[locked[a]], i) ==
						slot_load(&line[locked[b]], k))
						return true;
	return false;
}

/* ---- the slow worker --------------------------------------------------------------------------- */

static bool written(const struct rig *r)
{
	for (unsigned i = 0; i < r->s->nwbuf; i++)
		if (r->s->wbuf[i].active &&
		    (r->s->wbuf[i].dirty_since != 0 || r->s->wbuf[i].writing != 0))
			return false;
	return atomic_load(&r->s->path[0].dirty) == 0;
}

static void some_unwritten(struct rig *r)
{
	some(r);
	RIG_UNTIL(r, written(r));
	put(r, 100, 3000);
	put(r, 101, 5000);
	del(r, 100);
}

static void act_write(struct rig *r)
{
	RIG_UNTIL(r, written(r));
}

static bool is_full(const struct rig *r)
{
	const struct path *p = &r->s->path[0];

	for (uint32_t i = 0; i < p->nseg; i++)
		if (atomic_load(&p->seg[i].state) == SEG_FULL && p->seg[i].extents == 0)
			return true;
	return false;
}

static void one_full(struct rig *r)
{
	some(r);
	r->held = true;
	for (uint32_t k = 300; !is_full(r); k++) {
		put(r, k, 5000);
		rig_turn(r);
	}
	del(r, 301);
}

static void act_seal(struct rig *r)
{
	uint64_t before = atomic_load(&r->s->path[0].seg_sealed);

	r->held = false;
	RIG_UNTIL(r, atomic_load(&r->s->path[0].seg_sealed) > before);
}

/* Keys of the segments that are recycled next, one of each stream: they are deleted while that goes on. */
static uint32_t due[6];
static unsigned due_n;

static void intruded(struct store_op *op)
{
	told->answered[*(uint32_t *)op->user] = true;
}

static uint64_t hash_of(struct rig *r, uint32_t k)
{
	struct store_op op;
	char key[32];

	store_op_init(&op, r->w[0], key, (uint8_t)rig_key(key, k), intruded, NULL);
	store_op_end(&op);
	return op.hash;
}

static void find_due(struct rig *r)
{
	struct path *p = &r->s->path[0];

	due_n = 0;
	for (unsigned t = 0; t < STREAMS; t++) {
		unsigned n = 0;

		for (uint32_t k = 1; k < KEYS && n < 3 && p->order[t].n > 0; k++) {
			struct index_probe probe;
			uint32_t seg, at;

			if (!told->ever[k])
				continue;
			index_find(r->s->index, hash_of(r, k), &probe);
			if (probe.n == 1 && probe.ref[0].clock > 0 &&
			    loc_path(r->s, probe.ref[0].loc, &seg, &at) == p &&
			    seg == p->order[t].ring[p->order[t].head]) {
				due[due_n++] = k;
				n++;
			}
		}
	}
}

/* The store is full, its values have been used, and there is a segment too few that is clean. */
static void needs_recycling(struct rig *r)
{
	struct path *p = &r->s->path[0];
	uint32_t k = 300;

	for (; atomic_load(&p->seg_recycled) < 20; k++) {
		put(r, k, 3000 + k * 977 % 11000);
		for (unsigned i = 0; i < 3; i++) {
			(void)check_key(r, k, false);
			(void)check_key(r, k - (k > 320 ? 20 : 0), false);
		}
		if (k % 5 == 0)
			(void)del_k(r, k - (k > 310 ? 7 : 0));
	}
	RIG_UNTIL(r, p->nclean >= CLEAN_AHEAD);
	r->held = true;
	for (; p->nclean >= CLEAN_AHEAD; k++)
		put(r, k, 4000);
	find_due(r);
}

/* The other worker comes in between: a delete of what is being written again. */
static void intrude(struct io *io, void *arg)
{
	static struct store_op op;
	static bool busy;
	static unsigned next;
	struct rig *r = arg;
	char key[32];

	if (io != r->io[SLOW(r)] || busy || next >= due_n)
		return;
	busy = true;
	store_op_init(&op, r->w[0], key, (uint8_t)rig_key(key, due[next]), intruded, &due[next]);
	if (store_delete(&op))
		intruded(&op);
	for (unsigned n = 0; !told->answered[due[next]]; n++) {
		assert_true(n < 1000);
		rig_one(r, 0);
	}
	store_op_end(&op);
	next++;
	busy = false;
}

static void act_recycle(struct rig *r)
{
	struct mapped *m = r->engine->env;
	uint64_t before = atomic_load(&r->s->path[0].seg_recycled);

	m->submitted = intrude;
	m->arg = r;
	r->held = false;
	RIG_UNTIL(r, atomic_load(&r->s->path[0].seg_recycled) > before);
	m->submitted = NULL;
	told->again = atomic_load(&r->s->reinserted);
}

/* ---- ends and beginnings ----------------------------------------------------------------------- */

static void act_stop(struct rig *r)
{
	rig_close(r);
}

static void act_start(struct rig *r)
{
	rig_open(r);
	for (unsigned i = 0; i < 50; i++)
		rig_turn(r);
	RIG_UNTIL(r, atomic_load(&r->s->live->owed) == 0);
}

const struct scene scene_list[] = {
    {.name = "set", .prepare = some, .act = act_set, .every = 1},
    {.name = "set-deleted", .prepare = some, .act = act_set_again, .every = 1},
    {.name = "set-long", .prepare = some_long, .act = act_long, .every = 8},
    {.name = "delete", .prepare = some, .act = act_delete, .every = 1},
    {.name = "delete-buffered", .prepare = some, .act = act_delete_buffered, .every = 1},
    {.name = "displace",
     .prepare = crowd_to_move,
     .act = act_last_of_crowd,
     .searches = true,
     .every = 1},
    {.name = "victim",
     .prepare = crowd_to_victim,
     .act = act_last_of_crowd,
     .searches = true,
     .every = 1},
    {.name = "flush_all", .prepare = some, .act = act_flush_all, .every = 1},
    {.name = "write", .prepare = some_unwritten, .act = act_write, .every = 4},
    {.name = "seal", .prepare = one_full, .act = act_seal, .every = 1},
    {.name = "recycle", .prepare = needs_recycling, .act = act_recycle, .every = 10},
    {.name = "stop", .prepare = some, .act = act_stop, .every = 1},
    {.name = "start", .act = act_start, .after = "displace", .moment = while_moved, .every = 8},
    {.name = "start-from-disk",
     .act = act_start,
     .after = "displace",
     .moment = while_moved,
     .from_disk = true,
     .every = 8},
};
const unsigned scene_count = sizeof scene_list / sizeof scene_list[0];
