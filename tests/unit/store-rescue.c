/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values in the write buffers of a path that fails: they are written again on another path, whatever comes in
 * between: a write that failed and is on the disk all the same, deletes, kills, power cuts, the path's
 * return, no room. Simulated machine, one thread.
 *
 * test: limit=300
 */
#include "tests/unit/store_rig.h"

/* Writes to this path fail from now on; some of them (of 8) are on the disk all the same. */
struct failing {
	struct rig *r;
	unsigned path, land;
	uint64_t rnd;
};

static void fate(void *arg, struct io *io, const struct io_op *op, struct sim_fate *fate)
{
	struct failing *f = arg;
	const char *name;

	(void)io;
	if (op->kind != IO_WRITE)
		return;
	name = op->u.disk.file->info.path;
	if (strcmp(name, f->r->s->path[f->path].file->info.path) != 0)
		return;
	f->rnd = rig_mix(f->rnd);
	if (f->rnd % 8 < f->land)
		sim_disk_poke(f->r->env, name, op->u.disk.off, op->u.disk.buf, op->u.disk.len);
	fate->what = SIM_FATE_ERROR;
	fate->err = -EIO;
}

static void fail_writes(struct failing *f, struct rig *r, unsigned path, unsigned land)
{
	*f = (struct failing){.r = r, .path = path, .land = land, .rnd = path + 1};
	sim_env_on_submit(r->env, fate, f);
}

static void heal(struct rig *r)
{
	sim_env_on_submit(r->env, NULL, NULL);
}

static bool any_lost(const struct rig *r)
{
	for (unsigned i = 0; i < r->s->nwbuf; i++)
		if (r->s->wbuf[i].active && r->s->wbuf[i].lost)
			return true;
	return false;
}

static void settled(struct rig *r)
{
	RIG_UNTIL(r, !any_lost(r));
}

static enum store_status put(struct rig *r, uint64_t k, uint32_t len)
{
	char key[32];
	size_t n = rig_key(key, k);

	return rig_put(r, (unsigned)(k % RIG_WORKERS), STORE_SET, key, n, (uint32_t)k, k, len,
		       NULL);
}

static unsigned there(struct rig *r, uint64_t from, uint64_t to, uint32_t len)
{
	unsigned n = 0;

	ram_clear(r->s->ram);
	for (uint64_t k = from; k < to; k++)
		n += get_k(r, k, k, len);
	return n;
}

static void begin(struct rig *r, uint64_t seed, unsigned npaths)
{
	rig_init(r, sim_env_new(seed, NULL));
	r->cfg.npaths = npaths;
	r->cfg.workers = RIG_WORKERS;
	rig_open(r);
}

static bool is_lost(struct rig *r, unsigned path)
{
	return atomic_load(&r->s->path[path].offline);
}

/* None is missing, at once and after every kind of end. */
static void none_is_missing(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 12; how++) {
		unsigned end = how % 4, land = how / 4 * 4;
		struct failing f;
		struct rig r;
		uint64_t k = 300;

		begin(&r, 200 + how, 2 + how % 2);
		for (uint64_t i = 0; i < 300; i++)
			assert_int_equal(put(&r, i, 20000), STORE_OK);
		rig_settle(&r);
		fail_writes(&f, &r, 1, land);
		for (; k < 500 || !is_lost(&r, 1); k++) {
			assert_int_equal(put(&r, k, 20000), STORE_OK);
			rig_turn(&r);
		}
		settled(&r);
		assert_int_equal(rig_counters(&r).values_lost, 0);
		assert_true(rig_counters(&r).values_rescued > 0);
		assert_int_equal(there(&r, 0, k, 20000), k);
		rig_settle(&r);
		rig_pass(&r, 2 * NS_PER_S); /* and synced */
		heal(&r);
		if (end == 0)
			rig_close(&r);
		else if (end < 3)
			rig_crash(&r, end == 2);
		if (end < 3)
			rig_open(&r);
		assert_int_equal(there(&r, 0, k, 20000), k);
		rig_close(&r);
		rig_open(&r);
		assert_int_equal(there(&r, 0, k, 20000), k);
		rig_close(&r);
		rig_free(&r);
	}
}

/* What was written again and is deleted stays so, though its first record is on the failed disk. */
static void deleted_stays_deleted(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 12; how++) {
		unsigned end = how % 3;
		bool laps = how / 3 % 2, back = how / 6;
		struct failing f;
		struct rig r;
		uint64_t k = 0;

		begin(&r, 300 + how, 2);
		for (; k < 20; k++)
			assert_int_equal(put(&r, k, 20000), STORE_OK);
		rig_settle(&r);
		fail_writes(&f, &r, 1, 8);
		for (; k < 200 || !is_lost(&r, 1); k++) {
			assert_int_equal(put(&r, k, 20000), STORE_OK);
			rig_turn(&r);
		}
		rig_settle(&r); /* all that was on its way to it has failed, too */
		assert_true(rig_counters(&r).values_rescued > 0);
		heal(&r);
		if (back) {
			store_paths_online(r.s);
			RIG_UNTIL(&r, !is_lost(&r, 1));
		}
		for (uint64_t i = 0; i < k; i += 2)
			assert_int_equal(del_k(&r, i), STORE_OK);
		for (uint64_t i = 10000; laps && atomic_load(&r.s->path[0].seg_recycled) < 20; i++)
			assert_int_equal(put(&r, i, 20000), STORE_OK);
		rig_settle(&r);
		rig_pass(&r, 2 * NS_PER_S); /* and synced */
		for (unsigned n = 0; n < 3; n++) {
			if (end == 0)
				rig_close(&r);
			else
				rig_crash(&r, end == 2);
			rig_open(&r);
			ram_clear(r.s->ram);
			for (uint64_t i = 0; i < k; i += 2)
				if (get_k(&r, i, i, 20000))
					fail_msg("how %u, start %u: key %" PRIu64 " is back", how,
						 n, i);
			/* and when more has gone */
			for (uint64_t i = 20000;
			     n == 1 && !laps && atomic_load(&r.s->path[0].seg_recycled) < 20; i++)
				assert_int_equal(put(&r, i, 20000), STORE_OK);
		}
		rig_close(&r);
		rig_free(&r);
	}
}

/* Killed while the values wait for room, or before the first of them was looked at. */
static void killed_on_the_way(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 8; how++) {
		bool waits = how % 2;
		struct failing f;
		struct rig r;
		uint64_t k = 300, n;

		begin(&r, 400 + how, 2);
		for (uint64_t i = 0; i < 300; i++)
			assert_int_equal(put(&r, i, 20000), STORE_OK);
		rig_settle(&r);
		fail_writes(&f, &r, 1, how / 2 * 2);
		if (waits)
			sim_disk_hang(r.env, "disk0", true);
		n = waits ? 380 : 500;
		for (; k < n; k++) {
			assert_int_equal(put(&r, k, 20000), STORE_OK);
			if (!waits && any_lost(&r))
				break;
		}
		if (waits) {
			RIG_UNTIL(&r, is_lost(&r, 1));
			for (unsigned i = 0; i < 100; i++)
				rig_turn(&r);
		}
		n = waits ? k : k + 1;
		n = n > 500 ? 500 : n;
		rig_crash(&r, false);
		heal(&r);
		sim_disk_hang(r.env, "disk0", false);
		rig_open(&r);
		assert_int_equal(there(&r, 0, n, 20000), n);
		rig_close(&r);
		rig_free(&r);
	}
}

/* Values from *k on until the buffer of path 1 holds so much, and that of path 0 cannot take more. */
static void fill_buffer(struct rig *r, uint64_t *k, uint32_t bytes)
{
	const struct store_worker *sw = r->w[0];
	const struct wbuf *w;

	do {
		assert_int_equal(set_k(r, *k, *k, 20000), STORE_OK);
		++*k;
		w = sw->cur[1][STREAM_MAIN];
	} while (w == NULL || w->fill < bytes || sw->cur[0][STREAM_MAIN] != NULL);
}

/* The other path has no room for a while: the values wait for it, and none is given up [RS-3]. */
static void waits_for_room(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 3; how++) {
		const struct path *p;
		struct failing f;
		struct rig r;
		uint64_t k = 0;

		rig_init(&r, sim_env_new(600 + how, NULL));
		r.cfg.npaths = 2;
		rig_open(&r);
		p = &r.s->path[0];
		RIG_UNTIL(&r, p->nclean == CLEAN_AHEAD && r.s->path[1].nclean == CLEAN_AHEAD);
		r.held = true; /* who makes room */
		do
			fill_buffer(&r, &k, 700000);
		while (p->nclean > CLEAN_RESERVE ||
		       p->seg[p->open[STREAM_MAIN]].used + FORMAT_EXTENT / 2 < r.s->seg_size);
		fail_writes(&f, &r, 1, how * 4);
		RIG_UNTIL(&r, is_lost(&r, 1));
		for (unsigned i = 0; i < 200; i++)
			rig_turn(&r);
		assert_true(any_lost(&r));
		r.held = false;
		settled(&r);
		assert_int_equal(rig_counters(&r).values_lost, 0);
		assert_true(rig_counters(&r).values_rescued > 20);
		assert_int_equal(there(&r, 0, k, 20000), k);
		heal(&r);
		rig_close(&r);
		rig_open(&r);
		assert_int_equal(there(&r, 0, k, 20000), k);
		rig_close(&r);
		rig_free(&r);
	}
}

static uint64_t seq_of(struct rig *r, uint64_t k, uint64_t *loc)
{
	uint8_t bytes[512] __attribute__((aligned(8)));
	struct index_ref ref = {0};
	uint64_t off = 0;
	struct path *p;
	uint32_t seg;

	p = rig_place(r, k, &seg, &off, &ref);
	assert_non_null(p);
	*loc = ref.loc;
	if (wbuf_copy(r->s, ref.loc, bytes, sizeof bytes) == 0)
		sim_disk_peek(r->env, p->file->info.path, off, bytes, sizeof bytes);
	return ((struct format_record *)(void *)bytes)->seq;
}

/* So that what ends one of the two records ends both [RS-1]. */
static void seq_is_kept(void **state)
{
	uint64_t *seq, *loc, k = 0, now;
	unsigned moved = 0;
	struct failing f;
	struct rig r;

	(void)state;
	rig_init(&r, sim_env_new(610, NULL));
	r.cfg.npaths = 2;
	rig_open(&r);
	fill_buffer(&r, &k, 300000);
	seq = malloc(k * sizeof *seq);
	loc = malloc(k * sizeof *loc);
	for (uint64_t i = 0; i < k; i++)
		seq[i] = seq_of(&r, i, &loc[i]);
	fail_writes(&f, &r, 1, 0);
	RIG_UNTIL(&r, rig_counters(&r).values_rescued > 0);
	settled(&r);
	for (uint64_t i = 0; i < k; i++) {
		assert_int_equal(seq_of(&r, i, &now), seq[i]);
		moved += now != loc[i];
	}
	assert_true(moved > 10);
	assert_int_equal(moved, rig_counters(&r).values_rescued);
	free(seq);
	free(loc);
	heal(&r);
	rig_close(&r);
	rig_free(&r);
}

/* A delete was answered whose tombstone the path will never take: a kill finds it in the write buffer [PS-3]. */
static void held_until_moot(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 8; how++) { /* a write that fails may be on the disk */
		uint64_t on = 0, off;
		struct index_ref ref;
		struct rig_corpse c;
		struct failing f;
		struct rig r;
		uint32_t seg;

		begin(&r, 620 + how, 2);
		for (uint64_t k = 0; k < 300; k++)
			assert_int_equal(put(&r, k, 20000), STORE_OK);
		rig_settle(&r);
		while (rig_place(&r, on, &seg, &off, &ref) != &r.s->path[1])
			on++;
		fail_writes(&f, &r, 1, 0);
		assert_int_equal(del_k(&r, on), STORE_OK);
		r.held = true; /* who would tell the other path */
		RIG_UNTIL(&r, is_lost(&r, 1));
		for (unsigned i = 0; i < 200; i++)
			rig_turn(&r);
		assert_true(any_lost(&r));
		rig_die(&r, false, &c);
		r.held = false;
		heal(&r);
		rig_bury(&r, &c);
		rig_open(&r);
		assert_false(get_k(&r, on, on, 20000));
		rig_close(&r);
		r.cfg.no_attach = true;
		rig_open(&r);
		assert_false(get_k(&r, on, on, 20000));
		rig_close(&r);
		rig_free(&r);
	}
}

/* Anything may happen at any time; what is deleted stays so, what is there stays while no more than one path fails. */
static void random_work(void **state)
{
	enum { KEYS = 150 };
	unsigned rescued = 0, deleted_back = 0;

	(void)state;
	for (unsigned seed = 0; seed < 24; seed++) {
		bool is[KEYS] = {0}, sure[KEYS] = {0}, laps = seed % 3 == 0;
		uint64_t rnd = rig_mix(seed + 77), filler = 100000, epoch;
		struct failing f;
		struct rig r;

		begin(&r, 500 + seed, 2 + seed % 2);
		for (unsigned life = 0; life < 4; life++) {
			unsigned bad = (unsigned)(rnd >> 20) % r.s->npaths, end;
			unsigned when = 20 + (unsigned)(rnd >> 30) % 150;

			epoch = atomic_load(&r.s->epoch);
			for (unsigned n = 0; n < 300; n++) {
				unsigned k;

				rnd = rig_mix(rnd);
				k = (unsigned)(rnd >> 8) % KEYS;
				if (n == when)
					fail_writes(&f, &r, bad, (unsigned)(rnd >> 40) % 9);
				switch (rnd % 8) {
				case 0:
				case 1:
				case 2:
				case 3:
					assert_int_equal(put(&r, k, 9000), STORE_OK);
					is[k] = sure[k] = true;
					break;
				case 4:
					if (life % 2 == 0 && n > when && seed % 2)
						break; /* no deletes: the path comes back with its values */
					(void)del_k(&r, k);
					is[k] = sure[k] = false;
					break;
				case 5:
					rig_turn(&r);
					break;
				case 6:
					ram_clear(r.s->ram);
					/* fallthrough */
				default:
					if (get_k(&r, k, k, 9000))
						deleted_back += !is[k];
					else
						assert_false(sure[k] && !laps);
				}
				for (unsigned i = 0; laps && i < 10; i++)
					assert_int_equal(put(&r, ++filler, 20000), STORE_OK);
			}
			rescued += (unsigned)rig_counters(&r).values_rescued;
			ram_clear(r.s->ram);
			for (unsigned k = 0; k < KEYS; k++)
				if (get_k(&r, k, k, 9000))
					deleted_back += !is[k];
				else
					assert_false(sure[k] && !laps);
			assert_int_equal(rig_counters(&r).values_lost, 0);
			rnd = rig_mix(rnd);
			end = (unsigned)(rnd >> 9) % 4;
			if (end == 2) {
				rig_settle(&r); /* what fails now is written again after that */
				settled(&r);
				rig_settle(&r);
				rig_pass(&r, 2 * NS_PER_S); /* and synced */
			}
			/* a path that has missed deletes comes back empty */
			if (atomic_load(&r.s->epoch) != epoch)
				memset(sure, 0, sizeof sure);
			if (end == 3) {
				RIG_UNTIL(&r, !any_lost(&r));
				heal(&r);
				store_paths_online(r.s);
				RIG_UNTIL(&r, !is_lost(&r, bad));
				continue;
			}
			if (end == 0)
				rig_close(&r);
			else
				rig_crash(&r, end == 2);
			heal(&r);
			rig_open(&r);
			ram_clear(r.s->ram);
			if (atomic_load(&r.s->epoch) != epoch)
				memset(sure, 0, sizeof sure);
			for (unsigned k = 0; k < KEYS; k++)
				if (get_k(&r, k, k, 9000))
					deleted_back += !is[k];
				else if (sure[k] && !laps)
					fail_msg(
					    "seed %u life %u end %u key %u bad %u epoch %d->%d layer %s off %d%d%d",
					    seed, life, end, k, bad, (int)epoch,
					    (int)atomic_load(&r.s->epoch), r.s->layer,
					    r.s->path[0].offline, r.s->path[1].offline,
					    r.s->path[2].offline);
		}
		rig_close(&r);
		rig_free(&r);
	}
	assert_int_equal(deleted_back, 0);
	assert_true(rescued > 200);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(none_is_missing),   cmocka_unit_test(deleted_stays_deleted),
	    cmocka_unit_test(killed_on_the_way), cmocka_unit_test(waits_for_room),
	    cmocka_unit_test(seq_is_kept),       cmocka_unit_test(held_until_moot),
	    cmocka_unit_test(random_work),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
