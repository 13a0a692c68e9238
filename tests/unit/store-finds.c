/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the simulation has found once, each as one short history: places that were torn, copies of what is out of use,
 * tombstones without room, superblocks that a power cut takes. tests/simulation/seeds has the seeds, which are other
 * schedules as soon as the store takes another turn. Simulated machine, one thread.
 */
#include "tests/unit/store_rig.h"

static uint64_t next_key = 1000000;

static void begin(struct rig *r, uint64_t seed)
{
	rig_init(r, sim_env_new(seed, NULL));
}

static uint64_t recycled(const struct rig *r)
{
	return atomic_load(&r->s->path[0].seg_recycled);
}

/* New values until so many more segments have been recycled. */
static void lap(struct rig *r, uint64_t segments, uint32_t len)
{
	for (uint64_t until = recycled(r) + segments; recycled(r) < until; next_key++)
		assert_int_equal(set_k(r, next_key, next_key, len), STORE_OK);
}

static void synced(struct rig *r)
{
	rig_settle(r);
	rig_pass(r, 2 * NS_PER_S);
}

/* ---- 3523168: the head of a long value that a power cut has torn ------------------------------------ */

/* The segment that holds nothing else begins another life before it is used again [RC-2]. */
static void torn_begins_anew(void **state)
{
	static const uint8_t zeros[FORMAT_ALIGN];
	uint64_t off, generation;
	struct index_ref ref;
	struct segment *g;
	struct path *p;
	struct rig r;
	uint32_t seg;

	(void)state;
	begin(&r, 1);
	r.cfg.item_max = 2 * MIB;
	rig_open(&r);
	assert_int_equal(set_k(&r, 1, 1, MIB + 50000), STORE_OK);
	p = rig_place(&r, 1, &seg, &off, &ref);
	assert_non_null(p);
	generation = atomic_load(&p->seg[seg].generation);
	synced(&r);
	rig_crash(&r, true);
	sim_disk_poke(r.env, "disk0", off + MIB, zeros, sizeof zeros); /* in its last chunk */
	rig_open(&r);
	assert_false(get_k(&r, 1, 1, MIB + 50000));
	g = &r.s->path[0].seg[seg];
	for (; atomic_load(&g->state) == SEG_VIRGIN || atomic_load(&g->state) == SEG_RECYCLING;
	     next_key++)
		assert_int_equal(set_k(&r, next_key, next_key, 100000), STORE_OK);
	assert_true(atomic_load(&g->generation) > generation);
	rig_close(&r);
	rig_free(&r);
}

/* ---- 2543873: segments that are half empty by themselves ------------------------------------------- */

/* They go like any other: what nobody has used is not written again [EV-7]. */
static void half_empty_goes(void **state)
{
	char key[32];
	unsigned half = 0;
	struct path *p;
	struct rig r;

	(void)state;
	begin(&r, 2);
	r.cfg.workers = 2;
	r.cfg.item_max = 2 * MIB;
	rig_open(&r);
	p = &r.s->path[0];
	/* two write buffers that are given back with little in them, and a value that is long */
	for (unsigned n = 0; recycled(&r) < 3u * p->nseg; n++, next_key++) {
		size_t k = rig_key(key, next_key);

		assert_int_equal(rig_put(&r, n % 3 == 1, STORE_SET, key, k, 0, next_key,
					 n % 3 == 2 ? MIB + MIB / 2 : 1000, NULL),
				 STORE_OK);
		if (n % 3 == 2)
			rig_settle(&r);
		assert_true(n < 600);
	}
	for (uint32_t i = 0; i < p->nseg; i++)
		half += atomic_load(&p->seg[i].state) == SEG_SEALED &&
			atomic_load(&p->seg[i].data_bytes) < r.s->seg_size / 2;
	assert_true(half > 2);
	assert_int_equal(atomic_load(&r.s->reinserted), 0);
	rig_close(&r);
	rig_free(&r);
}

/* ---- 54058: a copy of what lies in a segment out of use is evicted --------------------------------- */

/* The process ends at its write to this place of the path; or when that is made, before its sync. */
struct kill {
	struct rig *r;
	unsigned path;
	uint64_t at;
	bool sync, written;
	struct rig_corpse corpse;
};

static void kill_at(void *arg, struct io *io, const struct io_op *op, struct sim_fate *fate)
{
	struct kill *k = arg;
	bool here = strcmp(op->u.disk.file->info.path, k->r->path[k->path]) == 0;

	(void)io;
	(void)fate;
	if (k->r->dead || !here)
		return;
	if (op->kind == IO_WRITE && op->u.disk.off == k->at)
		k->written = true;
	if (k->written && (!k->sync || op->kind == IO_SYNC))
		rig_die(k->r, false, &k->corpse);
}

/* Where a sealed segment has the records that end others: bytes in the segment. */
static void ends_of(struct rig *r, uint32_t seg, uint32_t *from, uint32_t *to)
{
	const uint64_t at = seg_offset(&r->s->path[0], seg);
	struct format_footer f;

	sim_disk_peek(r->env, r->path[0], at + r->s->seg_size - sizeof f, &f, sizeof f);
	assert_true(f.others > 0 && f.magic == FORMAT_FOOT_MAGIC);
	*from = UINT32_MAX;
	*to = 0;
	for (uint32_t i = 0; i < f.others; i++) {
		struct format_entry e;
		uint32_t in;

		sim_disk_peek(r->env, r->path[0], at + f.table_off + i * sizeof e, &e, sizeof e);
		in = e.units_at * FORMAT_UNIT;
		*from = in < *from ? in : *from;
		*to = in > *to ? in : *to;
	}
	*from &= ~(FORMAT_ALIGN - 1);
	*to = (*to | (FORMAT_ALIGN - 1)) + 1;
}

/*
 * Killed when a segment's values have been written again, and then its tombstones cannot be read: it stays as it is,
 * out of use. What has a copy is ended there, so that it does not come back when the copy has been evicted [EV-3].
 */
static void copied_is_ended(void **state)
{
	enum { KEYS = 600, LEN = 20000 };
	uint32_t seg, from, to, in, ended = 0;
	bool mine[KEYS] = {false};
	uint64_t n = 0, off;
	struct index_ref ref;
	struct path *p;
	struct kill k;
	char key[32];
	struct rig r;

	(void)state;
	begin(&r, 3);
	r.cfg.workers = 2;
	r.cfg.sync_ns = 1000 * NS_PER_S; /* worker 1 keeps its extent in the first segment */
	rig_open(&r);
	p = &r.s->path[0];
	assert_int_equal(rig_put(&r, 1, STORE_SET, "old", 3, 0, 1, 100, NULL), STORE_OK);
	seg = r.w[1]->cur[0][STREAM_MAIN]->seg;
	for (; p->order[STREAM_MAIN].n < 2; n++)
		assert_int_equal(set_k(&r, n, n, LEN), STORE_OK);
	for (unsigned x = 0; x < 20; x++, n++) /* these are younger */
		assert_int_equal(set_k(&r, n, n, LEN), STORE_OK);
	assert_true(n < KEYS);
	for (uint64_t i = n - 20; i < n; i++)
		assert_int_equal(rig_remove(&r, 1, key, rig_key(key, i)), STORE_OK);
	r.s->cfg.sync_ns = r.cfg.sync_ns = 50 * NS_PER_MS;
	rig_settle(&r);
	ram_clear(r.s->ram);
	for (uint64_t i = 0; i < n - 20; i++) {
		assert_ptr_equal(rig_place(&r, i, &in, &off, &ref), p);
		mine[i] = in == seg;
		if (mine[i])
			assert_true(get_k(&r, i, i, LEN)); /* used, so it is written again */
	}
	k = (struct kill){.r = &r, .at = seg_offset(p, seg)};
	sim_env_on_submit(r.env, kill_at, &k);
	for (; !r.dead; next_key++)
		(void)set_k(&r, next_key, next_key, LEN);
	sim_env_on_submit(r.env, NULL, NULL);
	assert_true(atomic_load(&r.s->reinserted) > 20);
	ends_of(&r, seg, &from, &to);
	rig_bury(&r, &k.corpse);
	sim_disk_fault(r.env, r.path[0], ((uint64_t)seg + 1) * 4 * MIB + from, to - from,
		       SIM_READ_ERROR);
	rig_open(&r);
	assert_string_equal(r.s->layer, "shm");
	p = &r.s->path[0];
	lap(&r, 3u * p->nseg, LEN);
	assert_int_equal(atomic_load(&p->seg[seg].state), SEG_RECYCLING); /* out of use */
	for (uint64_t i = 0; i < KEYS; i++)
		if (mine[i]) {
			(void)del_k(&r, i); /* mostly there is nothing to be deleted any more */
			ended++;
		}
	assert_true(ended > 50);
	rig_close(&r);
	sim_disk_fault(r.env, r.path[0], 0, 64 * MIB, SIM_OK);
	r.cfg.no_attach = true;
	rig_open(&r);
	for (uint64_t i = 0; i < n; i++)
		if (mine[i] || i >= n - 20)
			assert_false(get_k(&r, i, i, LEN));
	rig_close(&r);
	rig_free(&r);
}

/* ---- 2046858: no room for what ends others -------------------------------------------------------- */

/* Segments that wait for room are the youngest then, and others are tried first [EV-3]: none goes out of use. */
static void no_room_is_no_end(void **state)
{
	enum { LEN = 20000, WITH = 4 };
	uint32_t with[WITH], out = 0;
	struct rig_corpse corpse;
	struct path *p;
	struct kill k;
	uint64_t n = 0;
	char key[32];
	struct rig r;

	(void)state;
	begin(&r, 4);
	r.cfg.workers = 2;
	r.cfg.sync_ns = 1000 * NS_PER_S; /* worker 1 keeps its extent */
	rig_open(&r);
	p = &r.s->path[0];
	/* the first segments end records of younger ones */
	for (unsigned i = 0; i < WITH; i++) {
		uint32_t next;

		assert_int_equal(
		    rig_put(&r, 1, STORE_SET, key, rig_key(key, next_key++), 0, 1, 100, NULL),
		    STORE_OK);
		with[i] = r.w[1]->cur[0][STREAM_MAIN]->seg;
		next = p->order[STREAM_MAIN].n + 1;
		for (; p->order[STREAM_MAIN].n < next; n++)
			assert_int_equal(set_k(&r, n, n, LEN), STORE_OK);
		for (unsigned x = 0; x < 20; x++, n++)
			assert_int_equal(set_k(&r, n, n, LEN), STORE_OK);
		for (uint64_t x = n - 10; x < n; x++)
			assert_int_equal(rig_remove(&r, 1, key, rig_key(key, x)), STORE_OK);
		rig_settle(&r);
		assert_true(i == 0 || with[i] != with[i - 1]);
	}
	for (; p->virgins > 0 || p->nclean > CLEAN_AHEAD; n++)
		assert_int_equal(set_k(&r, n, n, LEN), STORE_OK);
	rig_settle(&r);
	assert_int_equal(recycled(&r), 0);
	/* kills of which each leaves more than half a segment, until the last clean one is left */
	while (p->nclean > CLEAN_RESERVE) {
		uint32_t was = p->nclean;

		r.held = true;
		for (uint32_t more = 0; more < 130; more += p->nclean < was, n++)
			assert_int_equal(set_k(&r, n, n, LEN), STORE_OK);
		rig_die(&r, false, &corpse);
		r.held = false;
		rig_bury(&r, &corpse);
		r.held = true;
		rig_open(&r);
		p = &r.s->path[0];
	}
	/* which what ends others is written to when the next kill comes */
	k = (struct kill){.r = &r, .at = seg_offset(p, with[0])};
	sim_env_on_submit(r.env, kill_at, &k);
	r.held = false;
	RIG_UNTIL(&r, r.dead);
	sim_env_on_submit(r.env, NULL, NULL);
	assert_int_equal(p->nclean, 0);
	rig_bury(&r, &k.corpse);
	rig_open(&r);
	p = &r.s->path[0];
	assert_int_equal(p->nclean, 0);
	lap(&r, 2u * p->nseg, LEN);
	assert_false(atomic_load(&p->offline));
	for (unsigned i = 0; i < WITH; i++)
		out += atomic_load(&p->seg[with[i]].state) == SEG_RECYCLING;
	assert_in_range(out, 0, 1); /* the one that had been begun */
	rig_close(&r);
	rig_free(&r);
}

/* ---- 2033291: a power cut between superblocks ------------------------------------------------------ */

static void no_shm(const struct rig *r)
{
	DIR *d = opendir(r->shm);
	struct dirent *e;
	char name[600];

	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		snprintf(name, sizeof name, "%s/%s", r->shm, e->d_name);
		if (e->d_name[0] != '.')
			unlink(name);
	}
	closedir(d);
}

/* Power goes at the first I/O after a path's superblock has been written and synced so many times. */
struct cut {
	struct rig *r;
	unsigned path, synced;
	bool written, done;
};

static void cut_after(void *arg, struct io *io, const struct io_op *op, struct sim_fate *fate)
{
	struct cut *c = arg;
	bool here = strcmp(op->u.disk.file->info.path, c->r->path[c->path]) == 0;

	(void)io;
	(void)fate;
	if (c->done)
		return;
	if (c->synced == 0) {
		c->done = true;
		sim_env_power_loss(c->r->env);
	} else if (here && op->kind == IO_WRITE && op->u.disk.off < 2 * FORMAT_ALIGN) {
		c->written = true;
	} else if (here && op->kind == IO_SYNC && c->written) {
		c->written = false;
		c->synced--;
	}
}

static void cut_start(struct rig *r, unsigned path)
{
	struct cut c = {.r = r, .path = path, .synced = 1};
	int res;

	sim_env_on_submit(r->env, cut_after, &c);
	res = rig_try(r);
	sim_env_on_submit(r->env, NULL, NULL);
	assert_true(c.done);
	assert_true(res < 0);
	no_shm(r);
}

/*
 * A path has missed a delete. The process is killed when one of the others has been told of the new epoch, by a write
 * that is not synced; the next start empties the path that missed it, and then the power goes: what that one says of
 * the epoch is all that is left of it, and must not cost the others their values [PS-5].
 */
static void emptied_knows_all(void **state)
{
	(void)state;
	for (unsigned seed = 0; seed < 12; seed++) {
		enum { KEYS = 900, LEN = 20000 };
		uint64_t deleted = KEYS, off;
		bool on2[KEYS] = {false};
		struct index_ref ref;
		struct kill k;
		struct rig r;
		uint32_t seg;

		begin(&r, 20 + seed);
		r.cfg.npaths = 3;
		rig_open(&r);
		for (uint64_t i = 0; i < KEYS; i++)
			assert_int_equal(set_k(&r, i, i, LEN), STORE_OK);
		synced(&r);
		for (uint64_t i = 0; i < KEYS; i++) {
			on2[i] = rig_place(&r, i, &seg, &off, &ref) == &r.s->path[2];
			deleted = on2[i] && deleted == KEYS ? i : deleted;
		}
		assert_true(deleted < KEYS);
		sim_disk_fault(r.env, r.path[2], 0, 64 * MIB, SIM_WRITE_ERROR);
		for (; !atomic_load(&r.s->path[2].offline); next_key++)
			assert_int_equal(set_k(&r, next_key, next_key, LEN), STORE_OK);
		synced(&r);
		k = (struct kill){.r = &r, .path = 0, .sync = true};
		k.at = ((r.s->path[0].super.serial + 1) & 1) * FORMAT_ALIGN;
		sim_env_on_submit(r.env, kill_at, &k);
		(void)del_k(&r, deleted);
		assert_true(r.dead);
		sim_env_on_submit(r.env, NULL, NULL);
		sim_disk_fault(r.env, r.path[2], 0, 64 * MIB, SIM_OK);
		rig_bury(&r, &k.corpse);
		cut_start(&r, 2); /* as soon as that one knows that it is empty */
		rig_open(&r);
		for (uint64_t i = 0; i < KEYS; i++)
			if (!on2[i])
				assert_true(get_k(&r, i, i, LEN));
		assert_false(get_k(&r, deleted, deleted, LEN));
		rig_close(&r);
		rig_free(&r);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(torn_begins_anew),  cmocka_unit_test(half_empty_goes),
	    cmocka_unit_test(copied_is_ended),   cmocka_unit_test(no_room_is_no_end),
	    cmocka_unit_test(emptied_knows_all),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
