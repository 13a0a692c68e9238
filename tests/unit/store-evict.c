/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recycling: laps around the store, what is written again, tombstones and DROP records as long as
 * they are needed and not longer, admission, write budget, discard. Simulated machine, one thread.
 */
#include "tests/unit/store_rig.h"

static void begin(struct rig *r, uint64_t seed)
{
	rig_init(r, sim_env_new(seed, NULL));
}

static uint64_t recycled(struct rig *r)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < r->s->npaths; i++)
		n += atomic_load(&r->s->path[i].seg_recycled);
	return n;
}

static uint64_t next_key = 1000000;

/* New values until so many more segments have been recycled. */
static void lap(struct rig *r, uint64_t segments, uint32_t len)
{
	uint64_t until = recycled(r) + segments;

	while (recycled(r) < until) {
		assert_int_equal(set_k(r, next_key, next_key, len), STORE_OK);
		next_key++;
	}
}

static unsigned ends_among(const struct format_entry *e, uint32_t n)
{
	unsigned ends = 0;

	for (uint32_t i = 0; e != NULL && i < n; i++) /* NULL: sealed */
		ends += e[i].type != FORMAT_VALUE;
	return ends;
}

/* Records that are not values: in tables on disk ... */
static unsigned others(struct rig *r)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->s->npaths; i++)
		for (uint32_t k = 0; k < r->s->path[i].nseg; k++) {
			struct path *p = &r->s->path[i];
			struct format_footer f;

			if (atomic_load(&p->seg[k].state) != SEG_SEALED)
				continue;
			sim_disk_peek(r->env, p->file->info.path,
				      seg_offset(p, k) + r->s->seg_size - sizeof f, &f, sizeof f);
			assert_true(footer_good(
			    &f, r->s->id_seed, atomic_load(&p->seg[k].generation), r->s->seg_size));
			n += f.others;
		}
	return n;
}

/* ... and of segments that have no table yet, and write buffers. */
static unsigned others_open(struct rig *r)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->s->npaths; i++)
		for (uint32_t k = 0; k < r->s->path[i].nseg; k++)
			n +=
			    ends_among(r->s->path[i].seg[k].entries, r->s->path[i].seg[k].nentries);
	for (unsigned i = 0; i < r->s->nwbuf; i++)
		if (r->s->wbuf[i].active)
			n += ends_among(r->s->wbuf[i].entries, r->s->wbuf[i].nentries);
	return n;
}

/* [S-4] A start from the disk, which has the generations alone, finds the order of age. */
static void ordered_by_generation(const struct rig *r)
{
	const struct path *p = &r->s->path[0];

	for (unsigned t = 0; t < STREAMS; t++) {
		const struct order *o = &p->order[t];

		for (uint32_t i = 1; i < o->n; i++)
			assert_true(
			    atomic_load(&p->seg[o->ring[(o->head + i - 1) % p->nseg]].generation) <
			    atomic_load(&p->seg[o->ring[(o->head + i) % p->nseg]].generation));
	}
}

static void hot_ones_stay(void **state)
{
	struct rig r;
	unsigned there = 0;
	struct store_counters c;

	(void)state;
	begin(&r, 1);
	r.cfg.ram_bytes = 2 * MIB;
	rig_open(&r);
	for (uint64_t k = 0; k < 100; k++)
		assert_int_equal(set_k(&r, k, k, 9000), STORE_OK);
	for (uint64_t k = 0; k < 200; k++) {
		ram_clear(r.s->ram);
		assert_true(get_k(&r, k % 100, k % 100, 9000));
	}
	for (unsigned round = 0; round < 60; round++) {
		lap(&r, 1, 9000);
		ordered_by_generation(&r);
		ram_clear(r.s->ram);
		for (uint64_t k = 0; k < 100; k++)
			(void)get_k(&r, k, k, 9000);
	}
	for (uint64_t k = 0; k < 100; k++)
		there += get_k(&r, k, k, 9000);
	assert_true(there >= 95);
	assert_true(atomic_load(&r.s->reinserted) >= 100);
	assert_true(atomic_load(&r.s->evicted) > 1000);
	c = rig_counters(&r);
	assert_true((double)atomic_load(&r.s->reinserted_bytes) <
		    CREDIT * (double)c.user_bytes + (double)r.s->seg_size);
	assert_true(c.corrupt_reads + c.read_errors == 0);
	rig_close(&r);
	rig_open(&r);
	for (uint64_t k = 0; k < 100; k++)
		there -= get_k(&r, k, k, 9000);
	assert_int_equal(there, 0);
	assert_true(atomic_load(&r.s->full));
	rig_close(&r);
	rig_free(&r);
}

/* [EV-7] Each start seals what was open. A row of kills uses up segment after segment, and evicts nothing. */
static void kills_evict_nothing(void **state)
{
	struct rig r;
	uint64_t k = 0, laps = 0;

	(void)state;
	begin(&r, 12);
	rig_open(&r);
	for (unsigned life = 0; laps < 3u * r.s->path[0].nseg; life++) {
		for (unsigned i = 0; i < 3; i++, k++)
			assert_int_equal(set_k(&r, k, k, 9000), STORE_OK);
		rig_settle(&r);
		laps += recycled(&r);
		rig_crash(&r, false);
		rig_open(&r);
		assert_true(life < 10u * r.s->path[0].nseg);
	}
	ram_clear(r.s->ram);
	for (uint64_t i = 0; i < k; i++)
		assert_true(get_k(&r, i, i, 9000));
	assert_int_equal(atomic_load(&r.s->evicted), 0);
	rig_close(&r);
	rig_free(&r);
}

/* In a store that is full the stubs that kills leave go first, not the values before them. */
static void kills_evict_stubs(void **state)
{
	struct rig r;
	uint64_t laps = 0;

	(void)state;
	begin(&r, 13);
	rig_open(&r);
	lap(&r, 2, 9000);
	for (uint64_t k = 0; k < 100; k++)
		assert_int_equal(set_k(&r, k, k, 9000), STORE_OK);
	for (unsigned life = 0; laps < 3u * r.s->path[0].nseg; life++) {
		for (unsigned i = 0; i < 3; i++, next_key++)
			assert_int_equal(set_k(&r, next_key, next_key, 9000), STORE_OK);
		rig_settle(&r);
		laps += recycled(&r);
		rig_crash(&r, life % 8 == 7);
		rig_open(&r);
		assert_true(life < 10u * r.s->path[0].nseg);
	}
	ram_clear(r.s->ram);
	for (uint64_t k = 0; k < 100; k++)
		assert_true(get_k(&r, k, k, 9000));
	rig_close(&r);
	rig_free(&r);
}

/*
 * A full store that is mostly young: what main has is what came last, here because it had been evicted before. A start
 * knows nothing of main's use, and evicts what is older.
 */
static void young_is_older(void **state)
{
	uint64_t oldest = next_key, off, set[400];
	const struct order *main;
	struct index_ref ref;
	struct rig r;
	uint32_t seg;
	unsigned n = 0;

	(void)state;
	begin(&r, 15);
	rig_open(&r);
	lap(&r, r.s->path[0].nseg, 9000);
	main = &r.s->path[0].order[STREAM_MAIN];
	while (main->n < 2 || n < 400) {
		assert_true(n < 10000);
		lap(&r, 1, 9000);
		while (rig_place(&r, oldest, &seg, &off, &ref) == NULL ||
		       r.s->path[0].seg[seg].stream == STREAM_MAIN)
			oldest++;
		/* what has just been evicted, and the ghost list remembers */
		for (uint64_t k = oldest - 200; k < oldest && (main->n < 2 || n < 400); k++) {
			assert_int_equal(set_k(&r, k, k, 9000), STORE_OK);
			set[n++ % 400] = k;
		}
	}
	rig_crash(&r, false);
	rig_open(&r);
	lap(&r, 6, 9000);
	ram_clear(r.s->ram);
	for (unsigned i = 0; i < 400; i++)
		assert_true(get_k(&r, set[i], set[i], 9000));
	rig_close(&r);
	rig_free(&r);
}

/* The largest values that lie in write buffers are written again like any other; longer ones are not. */
static void large_ones_stay(void **state)
{
	struct rig r;

	(void)state;
	begin(&r, 11);
	r.cfg.item_max = 2 * MIB;
	rig_open(&r);
	for (uint64_t k = 0; k < 2; k++)
		assert_int_equal(set_k(&r, k, k, STORE_WHOLE_MAX), STORE_OK);
	assert_int_equal(set_k(&r, 2, 2, STORE_WHOLE_MAX + 1), STORE_OK);
	ram_clear(r.s->ram);
	for (uint64_t k = 0; k < 3; k++)
		assert_true(get_k(&r, k, k, STORE_WHOLE_MAX + (k == 2 ? 1 : 0)));
	for (unsigned round = 0; round < 60; round++) {
		lap(&r, 1, 9000);
		ram_clear(r.s->ram);
		for (uint64_t k = 0; k < 3; k++)
			(void)get_k(&r, k, k, STORE_WHOLE_MAX + (k == 2 ? 1 : 0));
	}
	assert_true(get_k(&r, 0, 0, STORE_WHOLE_MAX));
	assert_true(get_k(&r, 1, 1, STORE_WHOLE_MAX));
	assert_false(get_k(&r, 2, 2, STORE_WHOLE_MAX + 1));
	assert_true(atomic_load(&r.s->reinserted) >= 2);
	rig_close(&r);
	rig_free(&r);
}

/* A tombstone in an older segment than its value: it must be written again, and then no more. */
static void tombstones(void **state)
{
	struct rig r;
	char key[32];
	uint64_t k = 0;

	(void)state;
	begin(&r, 2);
	r.cfg.workers = 2;
	r.cfg.sync_ns = 1000 * NS_PER_S; /* worker 1 keeps its extent in the first segment */
	rig_open(&r);
	assert_int_equal(rig_put(&r, 1, STORE_SET, "old", 3, 0, 1, 100, NULL), STORE_OK);
	while (r.s->path[0].order[STREAM_MAIN].n < 9)
		assert_int_equal(set_k(&r, k, k, 20000), STORE_OK), k++;
	/* the last ones are deleted by worker 1 */
	for (uint64_t i = k - 50; i < k; i++)
		assert_int_equal(rig_remove(&r, 1, key, rig_key(key, i)), STORE_OK);
	assert_int_equal(r.s->path[0].seg[r.w[1]->cur[0][STREAM_MAIN]->seg].stream, STREAM_MAIN);
	r.s->cfg.sync_ns = 50 * NS_PER_MS;
	r.cfg.sync_ns = 50 * NS_PER_MS;
	rig_settle(&r);
	lap(&r, 3, 20000); /* the first segments are gone, the deleted values' are not */
	for (unsigned how = 0; how < 2; how++) {
		if (how == 0)
			rig_crash(&r, false);
		else
			rig_close(&r);
		rig_open(&r);
		for (uint64_t i = k - 50; i < k; i++)
			assert_false(get_k(&r, i, i, 20000));
		rig_pass(&r, 100 * NS_PER_MS); /* what was open when it stopped is sealed */
		assert_true(others(&r) + others_open(&r) >= 50);
	}
	for (unsigned i = 0; i < 40 && others(&r) > 0; i++) {
		lap(&r, 10, 20000);
		rig_settle(&r);
	}
	assert_int_equal(others(&r), 0);
	for (uint64_t i = k - 50; i < k; i++)
		assert_false(get_k(&r, i, i, 20000));
	rig_close(&r);
	rig_free(&r);
}

/* FLUSH records, too, are dropped when nothing older is left. */
static void flushes(void **state)
{
	struct rig r;

	(void)state;
	begin(&r, 3);
	r.cfg.npaths = 2;
	rig_open(&r);
	for (uint64_t k = 0; k < 1000; k++)
		assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
	assert_int_equal(rig_flush_all(&r, 0), STORE_OK);
	lap(&r, 4, 20000);
	rig_crash(&r, false);
	rig_open(&r);
	for (uint64_t k = 0; k < 1000; k++)
		assert_false(get_k(&r, k, k, 20000));
	for (unsigned i = 0; i < 80 && others(&r) > 0; i++) {
		lap(&r, 10, 20000);
		rig_settle(&r);
	}
	assert_int_equal(others(&r), 0);
	rig_close(&r);
	rig_free(&r);
}

/* An index that is too small: what it throws out does not come back. */
static void victims(void **state)
{
	struct rig r;
	bool *was = calloc(20000, 1);
	struct index_stats ix;
	unsigned there = 0, back = 0, still = 0;

	(void)state;
	begin(&r, 4);
	r.cfg.mean_value = 10 * MIB; /* 4096 items */
	r.cfg.ram_bytes = 2 * MIB;
	rig_open(&r);
	for (uint64_t k = 0; k < 20000; k++)
		assert_int_equal(set_k(&r, k, k, 500), STORE_OK);
	index_stats(r.s->index, &ix);
	assert_true(ix.victims > 10000);
	RIG_UNTIL(&r, r.s->ndrops == 0);
	ram_clear(r.s->ram);
	for (uint64_t k = 0; k < 20000; k++)
		there += was[k] = get_k(&r, k, k, 500);
	assert_int_equal(recycled(&r), 0);
	rig_crash(&r, false);
	rig_open(&r);
	for (uint64_t k = 0; k < 20000; k++) {
		bool is = get_k(&r, k, k, 500);

		back += is && !was[k];
		still += is && was[k];
	}
	assert_int_equal(back, 0);
	assert_true(there > 3500 && still > there * 9 / 10);
	rig_close(&r);
	rig_free(&r);
	free(was);
}

/* A long value does not go past what is in RAM alone, nor one that got there while the long one came. */
static void long_and_ram_alone(void **state)
{
	struct rop late = {0};
	struct store_counters was;
	char key[32];
	struct rig r;

	(void)state;
	begin(&r, 5);
	r.cfg.admit = STORE_ADMIT_SECOND;
	r.cfg.ram_bytes = 4 * MIB;
	r.cfg.size = 128 * MIB;
	r.cfg.item_max = 4 * MIB;
	rig_open(&r);
	lap(&r, 1, 100000); /* full from now on */
	assert_int_equal(set_k(&r, 1, 1, 10000), STORE_OK);
	was = rig_counters(&r);
	assert_true(was.sets_ram_only > 0);
	assert_int_equal(set_k(&r, 1, 2, 2 * MIB), STORE_CONFLICT);
	assert_int_equal(rig_counters(&r).sets_stored, was.sets_stored);
	assert_true(get_k(&r, 1, 1, 10000));
	/* half of the long one is there when the other comes */
	store_op_init(&late.op, r.w[0], key, (uint8_t)rig_key(key, 2), rop_done, &late);
	if (!store_set(&late.op, STORE_SET, 0, 2 * MIB))
		RIG_UNTIL(&r, late.done);
	for (unsigned chunks = 0; late.op.body_n > 0; chunks++) {
		if (chunks == 3)
			assert_int_equal(set_k(&r, 2, 2, 10000), STORE_OK);
		memset(late.op.body, 7, late.op.body_n);
		late.done = false;
		if (!store_set_body(&late.op))
			RIG_UNTIL(&r, late.done);
	}
	assert_int_equal(late.op.status, STORE_CONFLICT);
	store_op_end(&late.op);
	assert_true(get_k(&r, 2, 2, 10000));
	assert_int_equal(rig_counters(&r).sets_ram_only, was.sets_ram_only + 1);
	rig_close(&r);
	rig_free(&r);
}

static void second_touch(void **state)
{
	struct rig r;
	struct store_counters was, now;

	(void)state;
	begin(&r, 5);
	r.cfg.admit = STORE_ADMIT_SECOND;
	r.cfg.ram_bytes = 4 * MIB;
	rig_open(&r);
	lap(&r, 1, 20000); /* full from now on */
	was = rig_counters(&r);
	for (uint64_t k = 0; k < 20; k++)
		assert_int_equal(set_k(&r, k, k, 10000), STORE_OK);
	now = rig_counters(&r);
	assert_int_equal(now.sets_ram_only - was.sets_ram_only, 20);
	assert_int_equal(now.sets_stored, was.sets_stored);
	for (uint64_t k = 0; k < 10; k++) /* touched: they have earned a place */
		assert_true(get_k(&r, k, k, 10000));
	assert_int_equal(rig_counters(&r).admitted_later, 10);
	for (uint64_t k = 0; k < 20; k++) {
		assert_int_equal(add_k(&r, k, k, 10000), STORE_EXISTS);
		assert_int_equal(set_k(&r, k, k + 1, 10000), STORE_CONFLICT);
	}
	assert_int_equal(del_k(&r, 19), STORE_OK); /* from RAM alone */
	assert_int_equal(del_k(&r, 9), STORE_OK);  /* from disk */
	ram_clear(r.s->ram);
	for (uint64_t k = 0; k < 20; k++)
		assert_int_equal(get_k(&r, k, k, 10000), k < 9);
	/* set again while remembered: to disk at once */
	was = rig_counters(&r);
	for (uint64_t k = 10; k < 19; k++)
		assert_int_equal(set_k(&r, k, k, 10000), STORE_OK);
	now = rig_counters(&r);
	assert_int_equal(now.sets_stored - was.sets_stored, 9);
	rig_crash(&r, false);
	rig_open(&r);
	for (uint64_t k = 0; k < 20; k++)
		assert_int_equal(get_k(&r, k, k, 10000), k != 9 && k != 19);
	lap(&r, 0, 1);
	rig_close(&r);
	rig_free(&r);
}

static void write_budget(void **state)
{
	struct rig r;
	uint64_t began, took, bytes;

	(void)state;
	begin(&r, 6);
	r.cfg.write_budget = 8 * MIB;
	rig_open(&r);
	rig_pass(&r, 2 * NS_PER_S); /* the bucket is full: one second's worth */
	began = io_now(r.io[0]);
	bytes = rig_counters(&r).disk_write_bytes;
	for (uint64_t k = 0; k < 1500; k++)
		assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
	took = io_now(r.io[0]) - began;
	bytes = rig_counters(&r).disk_write_bytes - bytes;
	assert_true(bytes > 25 * MIB);
	assert_true((double)bytes / (double)r.cfg.write_budget < (double)took / 1e9 + 1.3);
	assert_true(took > 2 * NS_PER_S && took < 5 * NS_PER_S);
	assert_true(rig_counters(&r).write_waits > 0);
	rig_close(&r);
	rig_free(&r);
}

static void block_device(void **state)
{
	uint8_t junk[8192] = {1, 2, 3};
	struct rig r;

	(void)state;
	begin(&r, 7);
	snprintf(r.path[0], sizeof r.path[0], "/dev/sim0");
	sim_disk_make(r.env, r.path[0], 64 * MIB);
	r.cfg.ram_bytes = 2 * MIB;
	rig_open(&r);
	lap(&r, 20, 30000);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t from = next_key - 300;

		rig_crash(&r, i & 1);
		rig_open(&r);
		for (uint64_t k = from; k < next_key; k++)
			(void)get_k(&r, k, k, 30000);
		assert_int_equal(rig_counters(&r).corrupt_reads, 0);
		lap(&r, 5, 30000);
	}
	rig_close(&r);
	sim_disk_poke(r.env, r.path[0], 0, junk, sizeof junk);
	assert_int_equal(rig_try(&r), -EINVAL);
	assert_non_null(strstr(r.cause, "clear the device"));
	memset(junk, 0, sizeof junk); /* as it says */
	sim_disk_poke(r.env, r.path[0], 0, junk, sizeof junk);
	rig_open(&r);
	rig_close(&r);
	rig_free(&r);
}

/* A read of a segment is under way: it is not used again before that ends [EV-6]. */
static struct {
	struct segment *seg;
	uint64_t generation;
	unsigned waits;
} held;

static void while_held(struct rig *r)
{
	if (held.seg == NULL || atomic_load(&held.seg->state) != SEG_RECYCLING)
		return;
	assert_int_equal(atomic_load(&held.seg->generation), held.generation);
	if (++held.waits == 100) {
		segment_unpin(r->s, held.seg);
		held.seg = NULL;
	}
}

static void readers_are_waited_for(void **state)
{
	struct segment *g;
	struct rig r;

	(void)state;
	begin(&r, 9);
	rig_open(&r);
	lap(&r, 3, 9000);
	g = &r.s->path[0]
		 .seg[r.s->path[0].order[STREAM_MAIN].ring[r.s->path[0].order[STREAM_MAIN].head]];
	assert_int_equal(atomic_load(&g->state), SEG_SEALED);
	held.seg = g;
	held.generation = atomic_load(&g->generation);
	held.waits = 0;
	atomic_fetch_add(&g->pins, 1);
	r.on_yield = while_held;
	lap(&r, 20, 9000);
	assert_int_equal(held.waits, 100);
	assert_int_not_equal(atomic_load(&g->generation), held.generation);
	rig_close(&r);
	rig_free(&r);
}

/* Where the record of key k is, and its sequence number on disk. */
static uint64_t seq_of(struct rig *r, uint64_t k, uint64_t *loc)
{
	struct index_probe probe;
	struct format_record rec;
	uint32_t seg, at;
	struct path *p;
	struct rop o;
	char key[32];

	store_op_init(&o.op, r->w[0], key, (uint8_t)rig_key(key, k), rop_done, &o);
	index_find(r->s->index, o.op.hash, &probe);
	store_op_end(&o.op);
	assert_int_equal(probe.n, 1);
	*loc = probe.ref[0].loc;
	p = loc_path(r->s, *loc, &seg, &at);
	rig_settle(r);
	sim_disk_peek(r->env, p->file->info.path, seg_offset(p, seg) + (uint64_t)at * FORMAT_UNIT,
		      &rec, sizeof rec);
	return rec.seq;
}

/* What is written again is as old as it was [F-5]. */
static void seq_is_kept(void **state)
{
	uint64_t was, loc, first, moves = 0;
	struct rig r;

	(void)state;
	begin(&r, 10);
	rig_open(&r);
	assert_int_equal(set_k(&r, 1, 1, 9000), STORE_OK);
	was = seq_of(&r, 1, &first);
	for (unsigned i = 0; i < 60 && moves == 0; i++) {
		ram_clear(r.s->ram);
		assert_true(get_k(&r, 1, 1, 9000));
		lap(&r, 1, 9000);
		assert_int_equal(seq_of(&r, 1, &loc), was);
		moves += loc != first;
		first = loc;
	}
	assert_int_equal(moves, 1);
	rig_close(&r);
	rig_free(&r);
}

/* ---- the power fails when a recycled segment's new header is written and not yet synced ------------ */

struct cut {
	struct rig *r;
	struct rig_corpse corpse;
	uint64_t header; /* place of the header being written; 0: none */
	uint64_t reinserted;
	bool armed, told[400];
	uint64_t hash[400];
};

static void cut_at_header_sync(void *arg, struct io *io, const struct io_op *op,
			       struct sim_fate *fate)
{
	struct cut *c = arg;
	uint64_t at = op->u.disk.off, seg = at >> c->r->s->seg_shift;

	(void)io;
	(void)fate;
	if (!c->armed || c->r->dead)
		return;
	if (op->kind == IO_WRITE && at == seg << c->r->s->seg_shift && seg > 0) {
		/* of a segment of which something was written again */
		if (atomic_load(&c->r->s->reinserted) > c->reinserted)
			c->header = at;
		c->reinserted = atomic_load(&c->r->s->reinserted);
	} else if (op->kind == IO_SYNC && c->header != 0) {
		/* what was not chosen is about to be evicted, and may be gone already */
		for (unsigned k = 0; k < 400; k++) {
			struct index_probe probe;
			uint32_t in, units;

			index_find(c->r->s->index, c->hash[k], &probe);
			for (unsigned i = 0; i < probe.n; i++)
				if (loc_path(c->r->s, probe.ref[i].loc, &in, &units) != NULL &&
				    seg_offset(&c->r->s->path[0], in) == c->header)
					c->told[k] = true;
		}
		rig_die(c->r, true, &c->corpse);
	}
}

static void told_gone(void *arg, enum store_gone why, uint64_t hash, uint64_t loc)
{
	struct cut *c = arg;

	(void)why;
	(void)loc;
	for (unsigned k = 0; k < 400 && !c->r->dead; k++)
		c->told[k] = c->told[k] || c->hash[k] == hash;
}

/* What was written again is durable before that header can be [EV-4]: nothing but what was evicted is gone. */
static void copies_before_header(void **state)
{
	unsigned looked = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 12; seed++) {
		struct cut c = {0};
		struct rig r;

		begin(&r, seed);
		c.r = &r;
		r.cfg.gone = told_gone;
		r.cfg.gone_arg = &c;
		r.cfg.ram_bytes = 2 * MIB;
		rig_open(&r);
		sim_env_on_submit(r.env, cut_at_header_sync, &c);
		for (uint64_t k = 0; k < 400; k++) {
			struct rop o;
			char key[32];

			store_op_init(&o.op, r.w[0], key, (uint8_t)rig_key(key, k), rop_done, &o);
			c.hash[k] = o.op.hash;
			store_op_end(&o.op);
			assert_int_equal(set_k(&r, k, k, 9000), STORE_OK);
		}
		c.armed = true;
		for (unsigned i = 0; i < 20000 && !r.dead; i++) {
			(void)set_k(&r, next_key, next_key, 9000);
			next_key++;
			if (i % 64 == 0)
				ram_clear(r.s->ram);
			if (!r.dead && !c.told[i % 400])
				(void)get_k(&r, i % 400, i % 400, 9000);
		}
		assert_true(r.dead);
		sim_env_on_submit(r.env, NULL, NULL);
		rig_bury(&r, &c.corpse);
		rig_open(&r);
		for (uint64_t k = 0; k < 400; k++)
			if (!c.told[k]) {
				assert_true(get_k(&r, k, k, 9000));
				looked++;
			}
		rig_close(&r);
		rig_free(&r);
	}
	assert_true(looked > 1000);
}

/* [S-5] A worker that sets seldom has its extent in a segment of long ago; what it puts there is not gone at once. */
static void seldom_is_not_old(void **state)
{
	enum { KEEPS = 8 }; /* values of its own; between each two of them 20 of the other one's */
	uint64_t mine[KEEPS];
	struct rig r;

	(void)state;
	begin(&r, 15);
	r.cfg.workers = 2;
	rig_open(&r);
	for (unsigned n = 0; n < 2000; n++) {
		char key[32];

		/* nobody has asked for it yet: that would keep it */
		ram_clear(r.s->ram);
		if (n >= KEEPS)
			assert_true(get_k(&r, mine[n % KEEPS], mine[n % KEEPS], 9000));
		for (unsigned i = 0; i < 20; i++, next_key++)
			assert_int_equal(set_k(&r, next_key, next_key, 9000), STORE_OK);
		mine[n % KEEPS] = next_key++;
		assert_int_equal(rig_put(&r, 1, STORE_SET, key, rig_key(key, mine[n % KEEPS]),
					 (uint32_t)mine[n % KEEPS], mine[n % KEEPS], 9000, NULL),
				 STORE_OK);
	}
	rig_close(&r);
	rig_free(&r);
}

struct lateness {
	struct rig *r;
	struct rop set;
	bool begun; /* of set: it must be ended when it is done */
	uint64_t sets;
	uint64_t written, worst; /* ns; written: the first write since a sync began, 0: none */
};

/* At each step of the slow worker another worker sets a value. */
static void set_meanwhile(struct lateness *l)
{
	static const char value[100];
	struct rop *o = &l->set;
	char key[32];

	if (l->begun && !o->done)
		return;
	if (l->begun)
		store_op_end(&o->op);
	l->begun = true;
	store_op_init(&o->op, l->r->w[0], key, (uint8_t)rig_key(key, next_key++), rop_done, o);
	o->done = store_set(&o->op, STORE_SET, 0, sizeof value);
	if (o->op.body_n == sizeof value) {
		memcpy(o->op.body, value, sizeof value);
		o->done = store_set_body(&o->op);
	}
	l->sets++;
}

static void see_syncs(void *arg, struct io *io, const struct io_op *op, struct sim_fate *fate)
{
	struct lateness *l = arg;
	struct rig *r = l->r;
	uint64_t now = sim_env_now(r->env);

	(void)fate;
	if (op->kind == IO_WRITE && io == r->io[0] && l->written == 0)
		l->written = now;
	if (op->kind == IO_SYNC && l->written != 0) {
		if (now - l->written > l->worst)
			l->worst = now - l->written;
		l->written = 0;
	}
	if (io == r->io[0])
		return;
	set_meanwhile(l);
	rig_one(r, 0);
}

/* [W-8] To write a segment's used values again takes long on this disk; what is set meanwhile is not kept waiting. */
static void syncs_while_recycling(void **state)
{
	struct lateness l = {0};
	uint64_t began, slowest = 0;
	struct rig r;

	(void)state;
	begin(&r, 14);
	l.r = &r;
	rig_open(&r);
	lap(&r, 1, 9000);
	ram_clear(r.s->ram);
	for (uint64_t k = next_key - 5000; k < next_key; k += 8) /* each is a read of its own */
		(void)get_k(&r, k, k, 9000);
	rig_settle(&r);
	sim_env_config(r.env)->read_ns[0] = sim_env_config(r.env)->read_ns[1] = 20 * NS_PER_MS;
	sim_env_on_submit(r.env, see_syncs, &l);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t n = recycled(&r);

		while (recycled(&r) == n) {
			began = sim_env_now(r.env);
			assert_int_equal(set_k(&r, next_key, next_key, 9000), STORE_OK);
			next_key++;
			if (sim_env_now(r.env) - began > slowest)
				slowest = sim_env_now(r.env) - began;
		}
	}
	sim_env_on_submit(r.env, NULL, NULL);
	RIG_UNTIL(&r, l.set.done);
	store_op_end(&l.set.op);
	assert_true(slowest > 3 * r.cfg.sync_ns); /* the recycler was busy for so long */
	assert_true(l.sets > 30);
	assert_true(l.worst > 0);
	assert_true(l.worst < r.cfg.sync_ns);
	rig_close(&r);
	rig_free(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(hot_ones_stay),
	    cmocka_unit_test(large_ones_stay),
	    cmocka_unit_test(tombstones),
	    cmocka_unit_test(flushes),
	    cmocka_unit_test(victims),
	    cmocka_unit_test(long_and_ram_alone),
	    cmocka_unit_test(second_touch),
	    cmocka_unit_test(write_budget),
	    cmocka_unit_test(block_device),
	    cmocka_unit_test(readers_are_waited_for),
	    cmocka_unit_test(seq_is_kept),
	    cmocka_unit_test(copies_before_header),
	    cmocka_unit_test(syncs_while_recycling),
	    cmocka_unit_test(seldom_is_not_old),
	    cmocka_unit_test(kills_evict_nothing),
	    cmocka_unit_test(kills_evict_stubs),
	    cmocka_unit_test(young_is_older),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
