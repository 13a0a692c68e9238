/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scrub: what it finds before anybody asks, and what becomes of it; what it does to others, which is to keep
 * to its rate and out of their way. Simulated machine, one thread, virtual time.
 */
#include "tests/unit/store_rig.h"

#define KEYS 1500u
#define LEN  20000u

static void begin(struct rig *r, uint64_t seed)
{
	rig_init(r, sim_env_new(seed, NULL));
	r->cfg.ram_bytes = 2 * MIB;
}

static void fill_keys(struct rig *r)
{
	for (uint64_t k = 0; k < KEYS; k++)
		assert_int_equal(set_k(r, k, k, LEN), STORE_OK);
	rig_settle(r);
	rig_pass(r, NS_PER_S); /* sealed and synced */
}

/* All but the key that the test hurts are used: they may be written again. */
static unsigned use_keys(struct rig *r)
{
	unsigned n = 0;

	ram_clear(r->s->ram);
	for (uint64_t k = 0; k < KEYS; k++)
		n += get_k(r, k, k, LEN);
	ram_clear(r->s->ram);
	return n;
}

static void flip(struct rig *r, uint64_t off)
{
	sim_disk_flip(r->env, "disk0", off * 8 + 3);
}

/* A bit of a record's head, key or value flips, or a sector does not read any more. */
static void finds_bad_values(void **state)
{
	const uint32_t where[] = {4, 66, 5000, 19000};

	(void)state;
	for (unsigned how = 0; how < 5; how++) {
		struct store_counters c;
		struct index_ref ref;
		struct segment *g;
		struct path *p;
		struct rig r;
		uint64_t off;
		uint32_t seg;

		begin(&r, 1 + how);
		rig_open(&r);
		fill_keys(&r);
		assert_int_equal(use_keys(&r), KEYS);
		p = rig_place(&r, 500, &seg, &off, &ref);
		g = &p->seg[seg];
		assert_int_equal(atomic_load(&g->state), SEG_SEALED);
		assert_int_equal(rig_stat(&r, "scrub_bytes"), 0); /* off */
		r.s->cfg.scrub_rate = 32 * MIB;
		rig_pass(&r, 5 * NS_PER_S);
		assert_int_equal(rig_stat(&r, "scrub_errors"), 0);
		assert_true(rig_stat(&r, "scrub_passes") >= 1);
		if (how < 4)
			flip(&r, off + where[how]);
		else
			sim_disk_fault(r.env, "disk0", (off + 8192) & ~511ull, 512, SIM_READ_ERROR);
		RIG_UNTIL(&r, rig_stat(&r, "scrub_errors") > 0);
		RIG_UNTIL(&r, atomic_load(&p->seg_recycled) == 1);
		sim_disk_fault(r.env, "disk0", 0, 64 * MIB, SIM_OK);
		assert_int_equal(rig_stat(&r, "scrub_errors"), 1);
		c = rig_counters(&r);
		assert_int_equal(c.corrupt_reads, how < 4);
		assert_int_equal(c.read_errors > 0, how == 4);
		assert_int_equal(atomic_load(&r.s->quarantines), 1);
		assert_false(atomic_load(&g->quarantined));
		/* it alone is gone, also after a restart that has only the disk; the rest was kept */
		assert_int_equal(use_keys(&r), KEYS - 1);
		assert_false(get_k(&r, 500, 500, LEN));
		RIG_UNTIL(&r, r.s->ndrops == 0);
		r.cfg.no_attach = true;
		rig_crash(&r, false);
		rig_open(&r);
		assert_int_equal(use_keys(&r), KEYS - 1);
		assert_false(get_k(&r, 500, 500, LEN));
		rig_close(&r);
		rig_free(&r);
	}
}

/* Values of several chunks, and those above 1 MiB, which are verified chunk by chunk. */
static void finds_bad_chunks(void **state)
{
	const uint32_t lens[] = {300000, 700000, STORE_WHOLE_MAX, 3 * STORE_WHOLE_MAX / 2};

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		uint32_t len = lens[i / 2], seg;
		struct index_ref ref;
		struct path *p;
		struct rig r;
		uint64_t off;

		begin(&r, 20 + i);
		r.cfg.item_max = 2 * MIB;
		r.cfg.scrub_rate = 32 * MIB;
		rig_open(&r);
		for (uint64_t k = 0; k < 20; k++)
			assert_int_equal(set_k(&r, k, k, len), STORE_OK);
		rig_settle(&r);
		rig_pass(&r, 15 * NS_PER_S);
		assert_int_equal(rig_stat(&r, "scrub_errors"), 0);
		assert_true(rig_stat(&r, "scrub_bytes") > 12ull * len);
		p = rig_place(&r, 3, &seg, &off, &ref);
		assert_int_equal(atomic_load(&p->seg[seg].state), SEG_SEALED);
		flip(&r, i % 2 ? off + 20 : off + len - 10); /* the head; the last chunk */
		RIG_UNTIL(&r, rig_stat(&r, "scrub_errors") > 0);
		ram_clear(r.s->ram);
		assert_null(rig_place(&r, 3, &seg, &off, &ref));
		assert_false(get_k(&r, 3, 3, len));
		assert_int_equal(atomic_load(&r.s->quarantines), 1);
		rig_close(&r);
		rig_free(&r);
	}
}

/* A segment's header, its footer, its table: found, and nothing of what is used is lost. */
static void finds_bad_segments(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 6; how++) {
		struct index_ref ref;
		struct path *p;
		struct rig r;
		uint64_t off, at;
		uint32_t seg;

		begin(&r, 40 + how);
		r.cfg.scrub_rate = 32 * MIB;
		rig_open(&r);
		fill_keys(&r);
		assert_int_equal(use_keys(&r), KEYS);
		p = rig_place(&r, 500, &seg, &off, &ref);
		assert_int_equal(atomic_load(&p->seg[seg].state), SEG_SEALED);
		at = seg_offset(p, seg) + (how % 3 == 0   ? 8
					   : how % 3 == 1 ? 4 * MIB - 4096 + 8
							  : 4 * MIB - 4096 - 4000);
		if (how < 3)
			flip(&r, at);
		else /* a read error that stays, but where it is written again */
			sim_disk_fault(r.env, "disk0", at & ~511ull, 512, SIM_READ_ERROR);
		RIG_UNTIL(&r, rig_stat(&r, "scrub_errors") > 0);
		sim_disk_fault(r.env, "disk0", 0, 64 * MIB, SIM_OK);
		RIG_UNTIL(&r, atomic_load(&p->seg_recycled) == 1);
		assert_int_equal(rig_stat(&r, "scrub_errors"), 1);
		assert_int_equal(use_keys(&r), KEYS);
		r.cfg.no_attach = true;
		rig_crash(&r, false);
		rig_open(&r);
		assert_int_equal(use_keys(&r), KEYS);
		rig_close(&r);
		rig_free(&r);
	}
}

/* A tombstone that is bad is said, its segment is left where it is, and what it ended stays away. */
static void finds_bad_tombstones(void **state)
{
	struct format_entry *e;
	struct path *p;
	struct rig r;
	uint32_t seg, n;
	uint64_t k;

	(void)state;
	begin(&r, 60);
	rig_open(&r);
	fill_keys(&r);
	p = &r.s->path[0];
	seg = p->open[STREAM_MAIN];
	assert_true(seg != SEG_NONE);
	for (k = 0; k < 10; k++)
		assert_int_equal(del_k(&r, k), STORE_OK);
	for (k = KEYS; atomic_load(&p->seg[seg].state) != SEG_SEALED; k++)
		assert_int_equal(set_k(&r, k, k, LEN), STORE_OK);
	e = malloc(4096); /* the table begins with what is no value */
	n = (uint32_t)(sizeof(struct format_footer));
	{
		struct format_footer f;

		sim_disk_peek(r.env, "disk0", seg_offset(p, seg) + r.s->seg_size - n, &f, n);
		assert_int_equal(f.others, 10);
		sim_disk_peek(r.env, "disk0", seg_offset(p, seg) + f.table_off, e, 4096);
	}
	assert_int_equal(e[2].type, FORMAT_TOMBSTONE);
	flip(&r, seg_offset(p, seg) + (uint64_t)e[2].units_at * FORMAT_UNIT + 20);
	free(e);
	r.s->cfg.scrub_rate = 32 * MIB;
	RIG_UNTIL(&r, rig_stat(&r, "scrub_errors") > 0);
	RIG_UNTIL(&r, rig_stat(&r, "scrub_passes") > 0);
	assert_int_equal(rig_stat(&r, "scrub_errors"), 1);
	assert_int_equal(atomic_load(&r.s->quarantines), 0);
	assert_int_equal(atomic_load(&p->seg[seg].state), SEG_SEALED);
	r.cfg.no_attach = true;
	rig_crash(&r, false);
	rig_open(&r);
	for (k = 0; k < 10; k++)
		assert_false(get_k(&r, k, k, LEN));
	assert_true(get_k(&r, 11, 11, LEN));
	rig_close(&r);
	rig_free(&r);
}

/* So many bytes a second and no more, in pieces of a chunk. */
static void longest_read(void *arg, struct io *io, const struct io_op *op, struct sim_fate *fate)
{
	uint32_t *longest = arg;

	(void)io;
	(void)fate;
	if (op->kind == IO_READ && op->u.disk.len > *longest)
		*longest = op->u.disk.len;
}

static void keeps_its_rate(void **state)
{
	uint64_t rate = MIB, before, read;
	uint32_t longest = 0;
	struct rig r;

	(void)state;
	begin(&r, 70);
	rig_open(&r);
	fill_keys(&r);
	r.s->cfg.scrub_rate = rate;
	sim_env_on_submit(r.env, longest_read, &longest);
	for (unsigned i = 0; i < 3; i++) {
		before = rig_stat(&r, "scrub_bytes");
		rig_pass(&r, 8 * NS_PER_S);
		read = rig_stat(&r, "scrub_bytes") - before;
		assert_in_range(read, 7 * rate, 8 * rate + FORMAT_CHUNK + 2 * FORMAT_ALIGN);
	}
	assert_in_range(longest, FORMAT_CHUNK / 2, FORMAT_CHUNK + 2 * FORMAT_ALIGN);
	assert_int_equal(rig_stat(&r, "scrub_errors"), 0);
	rig_close(&r);
	rig_free(&r);
}

/* While many reads of others are under way on the path it waits. */
static void lets_others_go_first(void **state)
{
	uint64_t before;
	struct rig r;

	(void)state;
	begin(&r, 71);
	rig_open(&r);
	fill_keys(&r);
	r.s->cfg.scrub_rate = MIB;
	rig_pass(&r, 2 * NS_PER_S);
	before = rig_stat(&r, "scrub_bytes");
	assert_true(before > 0);
	atomic_fetch_add(&r.s->path[0].seg[3].pins, 16);
	rig_pass(&r, 2 * NS_PER_S);
	assert_in_range(rig_stat(&r, "scrub_bytes") - before, 0, FORMAT_CHUNK + 2 * FORMAT_ALIGN);
	assert_true(rig_stat(&r, "scrub_yields") > 10);
	before = rig_stat(&r, "scrub_bytes");
	atomic_fetch_sub(&r.s->path[0].seg[3].pins, 16);
	rig_pass(&r, 2 * NS_PER_S);
	assert_true(rig_stat(&r, "scrub_bytes") - before > MIB);
	rig_close(&r);
	rig_free(&r);
}

/* The segment that it is at, and all others, are recycled: nothing is found bad for that. */
static void recycled_meanwhile(void **state)
{
	struct rig r;

	(void)state;
	begin(&r, 72);
	rig_open(&r);
	fill_keys(&r);
	r.s->cfg.scrub_rate = 100 * 1024;
	for (uint64_t k = KEYS, lap = 0; lap < 5; lap++) {
		uint64_t until = atomic_load(&r.s->path[0].seg_recycled) + 15, read;

		read = rig_stat(&r, "scrub_bytes");
		rig_pass(&r, 5 * NS_PER_S);
		assert_true(rig_stat(&r, "scrub_bytes") > read);
		assert_int_equal(rig_stat(&r, "scrub_segments"), 0); /* in the middle of one */
		for (; atomic_load(&r.s->path[0].seg_recycled) < until; k++)
			assert_int_equal(set_k(&r, k, k, LEN), STORE_OK);
	}
	r.s->cfg.scrub_rate = 64 * MIB;
	RIG_UNTIL(&r, rig_stat(&r, "scrub_passes") >= 2);
	assert_int_equal(rig_stat(&r, "scrub_errors"), 0);
	assert_int_equal(atomic_load(&r.s->quarantines), 0);
	rig_close(&r);
	rig_free(&r);
}

/* A path that takes no writes, or does not answer, is left alone until it is back. */
static void pauses_offline(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 2; how++) {
		struct index_ref ref;
		struct path *p = NULL;
		struct rig r;
		uint64_t off = 0, k, passes;
		uint32_t seg;

		begin(&r, 80 + how);
		r.cfg.npaths = 2;
		r.cfg.io_timeout_ns = NS_PER_S;
		rig_open(&r);
		fill_keys(&r);
		for (k = 100; p != &r.s->path[1] || atomic_load(&p->seg[seg].state) != SEG_SEALED;
		     k++)
			p = rig_place(&r, k, &seg, &off, &ref);
		k--;
		if (how == 0) {
			path_fail(p, "the test", -EIO);
		} else {
			/* its own read is the one that hangs */
			sim_disk_hang(r.env, "disk1", true);
			r.s->cfg.scrub_rate = 32 * MIB;
			RIG_UNTIL(&r, atomic_load(&p->gone));
		}
		r.s->cfg.scrub_rate = 32 * MIB;
		sim_disk_flip(r.env, "disk1", (off + 1000) * 8);
		passes = rig_stat(&r, "scrub_passes");
		RIG_UNTIL(&r, rig_stat(&r, "scrub_passes") >= passes + 2);
		assert_int_equal(rig_stat(&r, "scrub_errors"), 0);
		sim_disk_hang(r.env, "disk1", false);
		if (how == 0)
			store_paths_online(r.s);
		RIG_UNTIL(&r, !atomic_load(&p->offline));
		RIG_UNTIL(&r, rig_stat(&r, "scrub_errors") > 0);
		assert_int_equal(rig_stat(&r, "scrub_errors"), 1);
		ram_clear(r.s->ram);
		assert_false(get_k(&r, k, k, LEN));
		rig_close(&r);
		rig_free(&r);
	}
}

/* A restart, by shared memory or the disk, goes on with the pass. */
static void goes_on_after_restart(void **state)
{
	(void)state;
	for (unsigned disk = 0; disk < 2; disk++) {
		uint64_t done, left;
		struct rig r;

		begin(&r, 90 + disk);
		r.cfg.scrub_rate = 2 * MIB;
		rig_open(&r);
		fill_keys(&r);
		RIG_UNTIL(&r, rig_stat(&r, "scrub_passes") >= 1);
		RIG_UNTIL(&r, rig_stat(&r, "scrub_segments") == 0);
		RIG_UNTIL(&r, rig_stat(&r, "scrub_segments") == 4);
		rig_pass(&r, 100 * NS_PER_MS); /* the next is picked */
		done = rig_stat(&r, "scrub_segments");
		left = rig_stat(&r, "scrub_segments_left");
		assert_int_equal(done, 4);
		assert_true(left >= 3);
		r.cfg.no_attach = disk == 1;
		rig_close(&r);
		rig_open(&r);
		assert_string_equal(r.s->layer, disk ? "disk" : "shm");
		RIG_UNTIL(&r, rig_stat(&r, "scrub_bytes") > 0);
		/* and no more than what a stop has sealed */
		assert_in_range(rig_stat(&r, "scrub_segments_left"), left, left + 1);
		RIG_UNTIL(&r, rig_stat(&r, "scrub_passes") == 1);
		RIG_UNTIL(&r, rig_stat(&r, "scrub_passes") == 2);
		assert_in_range(rig_stat(&r, "scrub_segments"), done + left, done + left + 1);
		rig_close(&r);
		rig_free(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(finds_bad_values),      cmocka_unit_test(finds_bad_chunks),
	    cmocka_unit_test(finds_bad_segments),    cmocka_unit_test(finds_bad_tombstones),
	    cmocka_unit_test(keeps_its_rate),        cmocka_unit_test(lets_others_go_first),
	    cmocka_unit_test(recycled_meanwhile),    cmocka_unit_test(pauses_offline),
	    cmocka_unit_test(goes_on_after_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
