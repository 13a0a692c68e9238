/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a store again: after a clean stop, a kill, with damaged superblocks, headers, tables,
 * footers, values and blocks; with other options than it was made with: taken, or refused in one
 * sentence. Simulated machine, one thread.
 *
 * test: limit=300
 */
#include "tests/unit/store_rig.h"

static void begin(struct rig *r, uint64_t seed)
{
	rig_init(r, sim_env_new(seed, NULL));
}

static void fill_keys(struct rig *r, uint64_t from, uint64_t to, uint32_t len)
{
	for (uint64_t k = from; k < to; k++)
		assert_int_equal(set_k(r, k, k, len), STORE_OK);
}

static unsigned count_keys(struct rig *r, uint64_t from, uint64_t to, uint32_t len)
{
	unsigned n = 0;

	for (uint64_t k = from; k < to; k++)
		n += get_k(r, k, k, len);
	return n;
}

static uint64_t seg_start(struct rig *r, uint32_t seg)
{
	return ((uint64_t)seg + 1) * r->cfg.size / 16; /* 64 MiB in segments of 4 MiB */
}

static void hurt(struct rig *r, uint64_t off, size_t len)
{
	uint8_t *junk = malloc(len);

	sim_disk_peek(r->env, "disk0", off, junk, len);
	for (size_t i = 0; i < len; i++)
		junk[i] ^= 0x5a;
	sim_disk_poke(r->env, "disk0", off, junk, len);
	free(junk);
}

/* The write buffers of a killed process are replayed, whatever it was doing; also by other workers.
 */
static void killed(void **state)
{
	struct rig r;

	(void)state;
	begin(&r, 1);
	r.cfg.sync_ns = 100 * NS_PER_S; /* nothing is flushed by time */
	rig_open(&r);
	fill_keys(&r, 0, 400, 7000);
	for (uint64_t k = 0; k < 400; k += 4)
		assert_int_equal(del_k(&r, k), STORE_OK);
	rig_crash(&r, false);
	r.cfg.workers = 2;
	rig_open(&r);
	for (uint64_t k = 0; k < 400; k++)
		assert_int_equal(get_k(&r, k, k, 7000), k % 4 != 0);
	rig_crash(&r, false); /* at once */
	r.cfg.workers = 1;
	rig_open(&r);
	assert_int_equal(count_keys(&r, 0, 400, 7000), 300);
	assert_int_equal(rig_flush_all(&r, 0), STORE_OK);
	fill_keys(&r, 500, 510, 100);
	rig_crash(&r, false);
	rig_open(&r);
	assert_int_equal(count_keys(&r, 0, 400, 7000), 0);
	assert_int_equal(count_keys(&r, 500, 510, 100), 10);
	rig_close(&r);
	rig_free(&r);
}

/* A start that fails must not cost what the killed process had left in its write buffers. */
static void killed_then_bad_start(void **state)
{
	struct rig r;

	(void)state;
	begin(&r, 2);
	r.cfg.sync_ns = 100 * NS_PER_S;
	rig_open(&r);
	fill_keys(&r, 0, 100, 5000);
	rig_crash(&r, false);
	sim_disk_fault(r.env, "disk0", seg_start(&r, 3), 4096, SIM_READ_ERROR);
	assert_true(rig_try(&r) < 0);
	assert_non_null(strstr(r.cause, "cannot read disk0"));
	sim_disk_fault(r.env, "disk0", seg_start(&r, 3), 4096, SIM_OK);
	rig_open(&r);
	assert_int_equal(count_keys(&r, 0, 100, 5000), 100);
	/* [RC-1] nor one that cannot write it to the disk, with the index or without */
	for (unsigned k = 0; k < 4; k++) {
		r.cfg.no_attach = k % 2 != 0;
		fill_keys(&r, 100 * (k + 1), 100 * (k + 2), 5000);
		assert_int_equal(del_k(&r, k), STORE_OK);
		rig_crash(&r, false);
		sim_disk_fault(r.env, "disk0", seg_start(&r, 0), 15 * 4 * MIB, SIM_WRITE_ERROR);
		assert_true(rig_try(&r) < 0);
		assert_non_null(strstr(r.cause, "what a killed process had left"));
		sim_disk_fault(r.env, "disk0", seg_start(&r, 0), 15 * 4 * MIB, SIM_OK);
		rig_open(&r);
		assert_string_equal(r.s->layer, k % 2 != 0 ? "disk" : "shm");
		assert_int_equal(count_keys(&r, 0, 100 * (k + 2), 5000), 100 * (k + 2) - k - 1);
	}
	rig_close(&r);
	assert_int_equal(rig_files(r.shm), 1); /* the index, for the next start */
	rig_free(&r);
}

/* Shared memory that is not what it says is not believed. */
static void bad_write_buffers(void **state)
{
	struct rig_corpse c;
	struct rig r;

	(void)state;
	for (unsigned round = 0; round < 40; round++) {
		begin(&r, 100 + round);
		r.cfg.no_attach = round % 2;
		r.cfg.sync_ns = 100 * NS_PER_S;
		rig_open(&r);
		fill_keys(&r, 0, 30, 5000);
		rig_settle(&r);
		fill_keys(&r, 30, 60, 5000);
		rig_die(&r, false, &c);
		for (unsigned i = 0; i < r.s->nwbuf; i++) {
			struct wbuf_shm *h =
			    (struct wbuf_shm *)(void *)((char *)c.mem + i * FORMAT_ALIGN);
			uint32_t *word = (uint32_t *)(void *)h;

			/* one field of each is wrong */
			word[sim_env_random(r.env, sizeof *h / 4)] ^= 1u
								      << sim_env_random(r.env, 32);
		}
		rig_bury(&r, &c);
		rig_open(&r);
		for (uint64_t k = 0; k < 30; k++)
			(void)get_k(&r, k, k, 5000); /* never wrong; there or not */
		assert_true(count_keys(&r, 0, 60, 5000) >= 29);
		rig_close(&r);
		rig_free(&r);
	}
}

/* [RC-12] After a kill, write buffers that are gone, cut or damaged anywhere are said to be lost, and no others. */
static void writes_lost(void **state)
{
	enum { WHOLE, STOPPED, GONE, CUT, CUT_ODD, HEAD, IDLE_HEAD, VALUE, NEXT_BOOT, CASES };

	(void)state;
	for (unsigned round = 0; round < 2 * CASES; round++) {
		unsigned what = round % CASES;
		bool lost = what != WHOLE && what != STOPPED;
		struct rig_corpse c;
		struct rig r;
		size_t at = 0;

		begin(&r, 300 + round);
		r.cfg.sync_ns = 100 * NS_PER_S;
		rig_open(&r);
		assert_false(r.s->writes_lost); /* it has just been made */
		rig_close(&r);
		r.cfg.no_attach = round >= CASES;
		rig_open(&r);
		assert_false(r.s->writes_lost);
		fill_keys(&r, 0, 30, 5000);
		if (what == STOPPED) {
			rig_close(&r);
			rig_open(&r);
			assert_false(r.s->writes_lost);
			rig_close(&r);
			rig_free(&r);
			continue;
		}
		rig_die(&r, what == NEXT_BOOT, &c);
		for (unsigned i = 0; c.mem != NULL && i < r.s->nwbuf; i++) {
			struct wbuf_shm *h =
			    (struct wbuf_shm *)(void *)((char *)c.mem + i * FORMAT_ALIGN);
			bool used = atomic_load(&h->generation) != 0;

			if ((what == HEAD && used) || (what == IDLE_HEAD && !used))
				memset(h, 0x5a, sizeof *h);
			if (used &&
			    atomic_load(&h->committed) > FORMAT_BLOCK) /* in its last record */
				at = r.s->nwbuf * FORMAT_ALIGN + i * WBUF_BYTES +
				     atomic_load(&h->committed) - 1000;
		}
		if (what == VALUE) {
			assert_true(at != 0);
			((char *)c.mem)[at] ^= 1;
		}
		if (what == CUT)
			c.len = c.len / r.s->nwbuf * (r.s->nwbuf - 1);
		if (what == CUT_ODD)
			c.len -= 8192;
		if (what == GONE) {
			free(c.mem);
			c.mem = NULL;
		}
		rig_bury(&r, &c);
		/* a start that fails neither hides it from the next one nor makes it up */
		sim_disk_fault(r.env, "disk0", 0, 2 * FORMAT_ALIGN, SIM_WRITE_ERROR);
		assert_true(rig_try(&r) < 0);
		sim_disk_fault(r.env, "disk0", 0, 2 * FORMAT_ALIGN, SIM_OK);
		rig_open(&r);
		assert_int_equal(r.s->writes_lost, lost);
		rig_crash(&r, false);
		rig_open(&r);
		assert_false(r.s->writes_lost);
		rig_close(&r);
		rig_free(&r);
	}
}

static void superblocks(void **state)
{
	struct rig r;

	(void)state;
	begin(&r, 3);
	for (unsigned copy = 0; copy < 2; copy++) {
		rig_open(&r);
		fill_keys(&r, 0, 50, 3000);
		rig_close(&r);
		hurt(&r, copy * 4096 + 100, 8);
		rig_open(&r);
		assert_int_equal(count_keys(&r, 0, 50, 3000), 50);
		rig_close(&r);
	}
	hurt(&r, 100, 8);
	hurt(&r, 4096 + 100, 8);
	assert_int_equal(rig_try(&r), -EINVAL);
	assert_non_null(strstr(r.cause, "not a valcached store"));
	assert_non_null(strstr(r.cause, "remove the file"));
	hurt(&r, 100, 8);
	rig_open(&r);
	assert_int_equal(count_keys(&r, 0, 50, 3000), 50);
	rig_close(&r);
	r.cfg.fresh = true;
	rig_open(&r);
	assert_int_equal(count_keys(&r, 0, 50, 3000), 0);
	rig_close(&r);
	rig_free(&r);
}

/* Segments 0.. hold the keys in order: which key's record is where? */
static uint64_t place_of(struct rig *r, uint64_t k, uint32_t *seg)
{
	struct index_probe probe;
	struct rop o;
	char key[32];
	uint32_t at;

	store_op_init(&o.op, r->w[0], key, (uint8_t)rig_key(key, k), rop_done, &o);
	index_find(r->s->index, o.op.hash, &probe);
	store_op_end(&o.op);
	assert_int_equal(probe.n, 1);
	assert_non_null(loc_path(r->s, probe.ref[0].loc, seg, &at));
	return seg_start(r, *seg) + (uint64_t)at * FORMAT_UNIT;
}

enum damage { HEADER, FOOTER, TABLE, RECORD_HEAD, VALUE, BLOCK, DAMAGES };

static void damaged(void **state)
{
	(void)state;
	for (unsigned d = 0; d < DAMAGES; d++) {
		struct rig r;
		uint32_t seg, seg_of[600], lost = 0, there = 0;
		uint64_t at;

		begin(&r, 10 + d);
		r.cfg.no_attach = true; /* what the disk alone can tell */
		rig_open(&r);
		fill_keys(&r, 0, 600, 20000); /* 12 MB: three segments and a bit */
		rig_close(&r);
		rig_open(&r);
		for (uint64_t k = 0; k < 600; k++)
			(void)place_of(&r, k, &seg_of[k]);
		at = place_of(&r, 100, &seg);
		rig_close(&r);
		switch (d) {
		case HEADER:
			hurt(&r, seg_start(&r, seg) + 16, 1);
			break;
		case FOOTER:
			hurt(&r, seg_start(&r, seg + 1) - 4096 + 8, 1);
			break;
		case TABLE:
			hurt(&r, seg_start(&r, seg + 1) - 2 * 4096 + 40, 1);
			break;
		case RECORD_HEAD:
			hurt(&r, at + 20, 1);
			break;
		case VALUE:
			hurt(&r, at + 9000, 1);
			break;
		default:
			/* without its table, and with a block whose header is torn */
			hurt(&r, seg_start(&r, seg + 1) - 4096 + 8, 1);
			hurt(&r, seg_start(&r, seg) + 4096, 512);
		}
		rig_open(&r);
		if (d == RECORD_HEAD || d == VALUE) {
			assert_false(get_k(&r, 100, 100, 20000));
			assert_int_equal(rig_counters(&r).corrupt_reads, 1);
			assert_int_equal(atomic_load(&r.s->quarantines), 1);
			rig_pass(&r, 10 * NS_PER_MS);
		}
		for (uint64_t k = 0; k < 600; k++)
			if (get_k(&r, k, k, 20000)) {
				there++;
				if (seg_of[k] == seg)
					assert_true(d == FOOTER || d == TABLE || d == BLOCK);
			} else {
				lost++;
				assert_int_equal(seg_of[k], seg);
			}
		assert_int_equal(there + lost, 600);
		if (d == FOOTER || d == TABLE)
			assert_int_equal(lost, 0);
		else if (d == BLOCK)
			assert_true(lost > 0 && lost < 60); /* one block of up to 1 MiB */
		else
			assert_true(lost > 100 && lost < 250); /* one segment */
		/* and what was lost can be set again */
		fill_keys(&r, 0, 600, 20000);
		rig_close(&r);
		rig_open(&r);
		assert_int_equal(count_keys(&r, 0, 600, 20000), 600);
		rig_close(&r);
		rig_free(&r);
	}
}

/* [RC-11] A header goes bad while nobody looks: what its segment says of deletes goes on to count. */
static void header_gone(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 8; how++) {
		bool flush = how & 1, attach = how & 2, sealed = how & 4;
		uint32_t seg, expect = flush ? 0 : 50;
		struct rig r;

		begin(&r, 60 + how);
		rig_open(&r);
		fill_keys(&r, 0, 100, 20000);
		seg = r.s->path[0].open[STREAM_MAIN];
		for (uint64_t k = 1000; r.s->path[0].open[STREAM_MAIN] == seg; k++)
			assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
		seg = r.s->path[0].open[STREAM_MAIN];
		if (flush)
			assert_int_equal(rig_flush_all(&r, 0), STORE_OK);
		else
			for (uint64_t k = 0; k < 50; k++)
				assert_int_equal(del_k(&r, k), STORE_OK);
		if (sealed)
			for (uint64_t k = 2000; r.s->path[0].open[STREAM_MAIN] == seg; k++)
				assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
		rig_settle(&r);
		rig_close(&r);
		hurt(&r, seg_start(&r, seg) + 16, 1);
		r.cfg.no_attach = !attach;
		rig_open(&r);
		assert_true(r.s->path[0].seg[seg].lost);
		assert_int_equal(count_keys(&r, 0, 100, 20000), expect);
		/* it is kept while it is all that knows of them, and turns over with the others then */
		for (unsigned starts = 0; starts < 2; starts++) {
			rig_settle(&r);
			rig_pass(&r, 300 * NS_PER_MS);
			if (attach)
				rig_crash(&r, true);
			else
				rig_close(&r);
			rig_open(&r);
			assert_int_equal(count_keys(&r, 0, 100, 20000), expect);
			assert_int_equal(r.s->path[0].seg[seg].lost, attach && starts == 0);
		}
		for (uint64_t k = 10000; atomic_load(&r.s->path[0].seg_recycled) < 20; k++)
			assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
		rig_settle(&r);
		rig_close(&r);
		rig_open(&r);
		assert_int_equal(count_keys(&r, 0, 50, 20000), 0);
		rig_close(&r);
		rig_free(&r);
	}
}

static void refused(struct rig *r, const char *words)
{
	assert_true(rig_try(r) < 0);
	assert_non_null(r->cause);
	if (strstr(r->cause, words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", r->cause, words);
}

static void other_options(void **state)
{
	struct rig r;
	char one[96];

	(void)state;
	begin(&r, 5);
	r.cfg.npaths = 2;
	rig_open(&r);
	fill_keys(&r, 0, 100, 3000);
	rig_close(&r);
	r.cfg.npaths = 1;
	refused(
	    &r,
	    "disk0 belongs to a store of 2 paths of which path 2 is not given: give it, or go on "
	    "without its values with --forget-paths");
	r.cfg.npaths = 2;
	memcpy(one, r.path[1], sizeof one);
	memcpy(r.path[1], "disk9", 6);
	refused(&r, "disk9 is not there");
	memcpy(r.path[0], "disk8", 6);
	memcpy(r.path[1], one, sizeof one);
	refused(
	    &r,
	    "disk8 is not there, and disk1 belongs to a store of 2 paths of which path 1 is not given");
	assert_int_equal(sim_disk_size(r.env, "disk8"), 0); /* none is made */
	memcpy(r.path[0], "disk0", 6);
	r.cfg.item_max = 3 * MIB;
	refused(&r, "-I of 3145728 bytes");
	r.cfg.item_max = 2 * MIB; /* still fits segments of 4 MiB */
	rig_open(&r);
	assert_int_equal(count_keys(&r, 0, 100, 3000), 100);
	rig_close(&r);
	/* another version, well summed */
	{
		struct format_super sb;

		for (unsigned i = 0; i < 2; i++) {
			sim_disk_peek(r.env, "disk0", i * 4096, &sb, sizeof sb);
			sb.version = 99;
			super_seal(&sb);
			sim_disk_poke(r.env, "disk0", i * 4096, &sb, sizeof sb);
		}
	}
	refused(&r, "another version");
	rig_free(&r);

	begin(&r, 6);
	r.cfg.size = 40 * MIB;
	refused(&r, "too small");
	r.cfg.size = 64 * MIB;
	r.cfg.item_max = 16 * MIB;
	refused(&r, "raise --size or lower -I");
	sim_env_config(r.env)->space = 10 * MIB;
	r.cfg.item_max = MIB;
	refused(&r, "larger than the space");
	rig_free(&r);
}

/*
 * The order of paths does not matter, neither to the index in shared memory nor to the disk; an empty path
 * joins. What was deleted stays so, killed or not.
 */
static void other_paths(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 8; round++) {
		char one[96];
		struct rig r;

		begin(&r, 50 + round);
		r.cfg.npaths = 2;
		r.cfg.no_attach = (round & 1) != 0;
		rig_open(&r);
		fill_keys(&r, 0, 1000, 9000);
		for (uint64_t k = 0; k < 1000; k += 5)
			assert_int_equal(del_k(&r, k), STORE_OK);
		(round & 2) != 0 ? rig_crash(&r, false) : rig_close(&r);
		memcpy(one, r.path[0], sizeof one);
		memcpy(r.path[0], r.path[1], sizeof one);
		memcpy(r.path[1], one, sizeof one);
		rig_open(&r);
		assert_string_equal(r.s->layer, (round & 1) != 0 ? "disk" : "shm");
		assert_string_equal(r.s->path[0].file->info.path, one);
		for (uint64_t k = 0; k < 1000; k++)
			assert_int_equal(get_k(&r, k, k, 9000), k % 5 != 0);
		for (uint64_t k = 1; k < 1000; k += 5)
			assert_int_equal(del_k(&r, k), STORE_OK);
		(round & 2) != 0 ? rig_crash(&r, false) : rig_close(&r);
		/* the new one is named first */
		memcpy(r.path[2], r.path[0], sizeof one);
		memcpy(r.path[0], "disk7", 6);
		r.cfg.npaths = 3;
		for (unsigned k = 0; k < 3; k++) {
			if (k == 1 && (round & 4) != 0) {
				/* the others had not learned of the new path when it was killed */
				for (unsigned i = 0; i < 2; i++) {
					struct format_super sb;

					sim_disk_peek(r.env, "disk0", i * 4096, &sb, sizeof sb);
					sb.path_count = 2;
					super_seal(&sb);
					sim_disk_poke(r.env, "disk0", i * 4096, &sb, sizeof sb);
				}
			}
			rig_open(&r);
			if (k == 0)
				assert_string_equal(r.s->layer, "disk");
			assert_string_equal(r.s->path[2].file->info.path, "disk7");
			for (uint64_t i = 0; i < 1000; i++)
				assert_int_equal(get_k(&r, i, i, 9000), i % 5 > 1);
			fill_keys(&r, 2000, 2600, 9000);
			assert_int_equal(count_keys(&r, 2000, 2600, 9000), 600);
			(round & 2) != 0 ? rig_crash(&r, false) : rig_close(&r);
		}
		r.cfg.npaths = 2;
		refused(&r, "a store of 3 paths of which path 2 is not given");
		rig_free(&r);
	}
}

/* A geometry that makes no sense, well summed: 121 and 64 would be shifts by more than a word. */
static void senseless_geometry(void **state)
{
	static const uint32_t shift[] = {0, 21, 28, 32, 63, 64, 121, UINT32_MAX};
	struct rig r;

	(void)state;
	begin(&r, 8);
	rig_open(&r);
	rig_close(&r);
	for (size_t i = 0; i < sizeof shift / sizeof *shift; i++) {
		for (unsigned copy = 0; copy < 2; copy++) {
			struct format_super sb;

			sim_disk_peek(r.env, "disk0", copy * 4096, &sb, sizeof sb);
			sb.seg_shift = shift[i];
			super_seal(&sb);
			sim_disk_poke(r.env, "disk0", copy * 4096, &sb, sizeof sb);
		}
		assert_int_equal(rig_try(&r), -EINVAL);
		assert_non_null(strstr(r.cause, "segment size makes no sense"));
	}
	rig_free(&r);
}

/* A smaller -I than the store was made with is no reason to refuse it. */
static void smaller_items(void **state)
{
	struct rig r;

	(void)state;
	begin(&r, 7);
	r.cfg.size = 256 * MIB;
	r.cfg.item_max = 4 * MIB;
	rig_open(&r);
	assert_int_equal(r.s->seg_size, 8 * MIB);
	fill_keys(&r, 0, 20, 100000);
	rig_close(&r);
	r.cfg.item_max = MIB;
	rig_open(&r);
	assert_int_equal(r.s->seg_size, 8 * MIB);
	assert_int_equal(count_keys(&r, 0, 20, 100000), 20);
	rig_close(&r);
	rig_free(&r);
}

static void in_use(void **state)
{
	struct rig r, other;

	(void)state;
	rig_init(&r, NULL);
	rig_open(&r);
	fill_keys(&r, 0, 10, 100);
	rig_init(&other, NULL);
	memcpy(other.path, r.path, sizeof r.path);
	assert_int_equal(rig_try(&other), -EBUSY);
	assert_non_null(strstr(other.cause, "in use"));
	assert_int_equal(count_keys(&r, 0, 10, 100), 10);
	rig_close(&r);
	rig_free(&other);
	rig_free(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(killed),
	    cmocka_unit_test(killed_then_bad_start),
	    cmocka_unit_test(bad_write_buffers),
	    cmocka_unit_test(writes_lost),
	    cmocka_unit_test(superblocks),
	    cmocka_unit_test(damaged),
	    cmocka_unit_test(header_gone),
	    cmocka_unit_test(other_options),
	    cmocka_unit_test(other_paths),
	    cmocka_unit_test(senseless_geometry),
	    cmocka_unit_test(smaller_items),
	    cmocka_unit_test(in_use),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
