/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values above 1 MiB: streamed in and out, given up half-way, compared with what is there, killed
 * and recycled under their readers and writers. Real engine and simulated machine, also with
 * 4096-byte sectors.
 */
#include "tests/unit/store_rig.h"

static const uint32_t sizes[] = {MIB + 1,     MIB + 4096, MIB + 4608,  MIB + 4609,  MIB + 12288,
				 MIB + 20000, 5 * MIB,    5 * MIB + 1, 8 * MIB - 1, 8 * MIB};
#define NSIZES (sizeof sizes / sizeof sizes[0])

static void begin(struct rig *r, struct sim_env *env)
{
	rig_init(r, env);
	r->cfg.size = 512 * MIB;
	r->cfg.item_max = 8 * MIB;
}

static void all_sizes(struct rig *r, bool crash)
{
	char key[32];

	rig_open(r);
	for (unsigned i = 0; i < NSIZES; i++) {
		uint64_t cas = 0, again = 0;
		size_t n = rig_key(key, i);

		assert_int_equal(rig_put(r, 0, STORE_SET, key, n, (uint32_t)i, i, sizes[i], &cas),
				 STORE_OK);
		assert_true(get_k(r, i, i, sizes[i]));
		assert_int_equal(rig_put(r, 0, STORE_SET, key, n, (uint32_t)i, i, sizes[i], &again),
				 STORE_OK);
		assert_int_equal(cas, again);
		assert_int_equal(add_k(r, i, i, sizes[i]), STORE_EXISTS);
		assert_int_equal(set_k(r, i, i + 1, sizes[i]), STORE_CONFLICT);
		assert_int_equal(set_k(r, i, i, 100), STORE_CONFLICT);
		assert_int_equal(set_k(r, 100 + i, i, 100), STORE_OK);
		assert_int_equal(set_k(r, 100 + i, i, sizes[i]), STORE_CONFLICT);
	}
	assert_int_equal(set_k(r, 50, 1, 8 * MIB + 1), STORE_TOO_LARGE);
	assert_int_equal(rig_counters(r).sets_stored, 2 * NSIZES);
	for (unsigned i = 0; i < 2; i++) {
		if (crash)
			rig_crash(r, false);
		else
			rig_close(r);
		rig_open(r);
		for (unsigned k = 0; k < NSIZES; k++)
			assert_true(get_k(r, k, k, sizes[k]));
	}
	for (unsigned i = 0; i < NSIZES; i += 2)
		assert_int_equal(del_k(r, i), STORE_OK);
	rig_close(r);
	rig_open(r);
	for (unsigned k = 0; k < NSIZES; k++)
		assert_int_equal(get_k(r, k, k, sizes[k]), k % 2 == 1);
	rig_close(r);
	assert_int_equal(r->last.broken_values + r->last.corrupt_reads, 0);
	rig_free(r);
}

static void sizes_on_disk(void **state)
{
	struct rig r;

	(void)state;
	begin(&r, NULL);
	all_sizes(&r, false);
}

static void sizes_killed(void **state)
{
	struct rig r;
	struct sim_config sc = {.align = 4096, .short_io = 100000, .again = 20000};

	(void)state;
	begin(&r, sim_env_new(1, NULL));
	all_sizes(&r, true);
	begin(&r, sim_env_new(2, &sc));
	all_sizes(&r, true);
}

/* Values around 1 MiB on a disk with 4096-byte sectors: read in one piece, with slack on both
 * sides. */
static void big_sectors(void **state)
{
	static const uint32_t len[] = {MIB, MIB - 1, MIB - 500, MIB - 4096, 900000, 4096, 100, 0};
	struct sim_config sc = {.align = 4096};
	struct rig r;

	(void)state;
	rig_init(&r, sim_env_new(3, &sc));
	rig_open(&r);
	for (unsigned i = 0; i < sizeof len / sizeof len[0]; i++)
		assert_int_equal(set_k(&r, i, i, len[i]), STORE_OK);
	rig_close(&r);
	rig_open(&r);
	for (unsigned i = 0; i < sizeof len / sizeof len[0]; i++)
		assert_true(get_k(&r, i, i, len[i]));
	rig_close(&r);
	rig_free(&r);
}

static void half_way(void **state)
{
	struct rig r;
	const uint32_t len = 3 * MIB + 77;

	(void)state;
	begin(&r, sim_env_new(4, NULL));
	rig_open(&r);
	assert_int_equal(set_k(&r, 1, 1, len), STORE_OK);
	for (unsigned stop = 0; stop < 14; stop++) {
		struct rop o;
		char key[32];

		/* a set that ends after so many chunks, at once or while the chunk is being written
		 */
		for (unsigned flying = 0; flying < 2; flying++) {
			o.done = false;
			store_op_init(&o.op, r.w[0], key, (uint8_t)rig_key(key, 2), rop_done, &o);
			if (!store_set(&o.op, STORE_SET, 0, len))
				RIG_UNTIL(&r, o.done);
			for (unsigned i = 0; i < stop && o.op.body_n > 0; i++) {
				memset(o.op.body, 7, o.op.body_n);
				o.done = false;
				if (!store_set_body(&o.op))
					RIG_UNTIL(&r, o.done);
			}
			if (o.op.body_n == 0) {
				assert_int_equal(o.op.status, STORE_OK);
				assert_int_equal(del_k(&r, 2), STORE_OK);
			}
			store_op_end(&o.op);
			assert_false(get_k(&r, 2, 2, len));
		}
		/* a get that is given up with the next chunk on its way */
		o.done = false;
		store_op_init(&o.op, r.w[0], key, (uint8_t)rig_key(key, 1), rop_done, &o);
		if (!store_get(&o.op, false))
			RIG_UNTIL(&r, o.done);
		for (unsigned i = 0; i < stop && o.op.value_off + o.op.value_n < len; i++) {
			o.done = false;
			if (!store_get_next(&o.op))
				RIG_UNTIL(&r, o.done);
			assert_int_equal(o.op.status, STORE_OK);
		}
		store_op_end(&o.op);
	}
	assert_true(get_k(&r, 1, 1, len));
	RIG_UNTIL(&r, r.w[0]->charged == 0);
	rig_close(&r);
	rig_open(&r);
	assert_true(get_k(&r, 1, 1, len));
	assert_false(get_k(&r, 2, 2, len));
	rig_close(&r);
	rig_free(&r);
}

/* A slow reader's value is recycled: it is told so, and gets no other bytes. A slow writer is given
 * up. */
static void recycled_under(void **state)
{
	const uint32_t len = 2 * MIB;
	struct rop get, set;
	struct rig r;
	char key[32];
	uint64_t k = 1000;

	(void)state;
	rig_init(&r, sim_env_new(5, NULL));
	r.cfg.item_max = 2 * MIB;
	rig_open(&r);
	assert_int_equal(set_k(&r, 1, 1, len), STORE_OK);
	get.done = set.done = false;
	store_op_init(&get.op, r.w[0], key, (uint8_t)rig_key(key, 1), rop_done, &get);
	if (!store_get(&get.op, false))
		RIG_UNTIL(&r, get.done);
	assert_int_equal(get.op.status, STORE_OK);
	store_op_init(&set.op, r.w[0], key, (uint8_t)rig_key(key, 2), rop_done, &set);
	if (!store_set(&set.op, STORE_SET, 0, len))
		RIG_UNTIL(&r, set.done);
	rig_fill(set.op.body, set.op.body_n, 2);
	while (atomic_load(&r.s->path[0].seg_recycled) < 30)
		assert_int_equal(set_k(&r, k, k, 200000), STORE_OK), k++;
	for (unsigned i = 0; i < 9 && get.op.status == STORE_OK; i++) {
		get.done = false;
		if (!store_get_next(&get.op))
			RIG_UNTIL(&r, get.done);
	}
	assert_int_equal(get.op.status, STORE_BROKEN);
	assert_int_equal(rig_counters(&r).broken_values, 1);
	assert_int_equal(rig_counters(&r).corrupt_reads, 0);
	store_op_end(&get.op);
	set.done = false;
	if (!store_set_body(&set.op))
		RIG_UNTIL(&r, set.done);
	assert_int_equal(set.op.body_n, 0);
	assert_int_equal(set.op.status, STORE_UNAVAILABLE);
	store_op_end(&set.op);
	assert_false(get_k(&r, 2, 2, len));
	rig_close(&r);
	rig_free(&r);
}

static void broken_chunk(void **state)
{
	const uint32_t len = 2 * MIB;
	struct rig r;
	struct got g;
	char key[32];

	(void)state;
	for (unsigned how = 0; how < 2; how++) {
		uint64_t at = 0;

		rig_init(&r, sim_env_new(6, NULL));
		r.cfg.item_max = 2 * MIB;
		rig_open(&r);
		assert_int_equal(set_k(&r, 1, 1, len), STORE_OK);
		for (uint64_t off = 0; off < 64 * MIB && at == 0; off += 4096) {
			uint8_t page[16], want[16];

			rig_fill(want, 16, 1);
			sim_disk_peek(r.env, "disk0", off, page, 16);
			if (memcmp(page, want, 16) == 0)
				at = off;
		}
		assert_true(at > 0);
		if (how == 0)
			sim_disk_flip(r.env, "disk0", (at + 5 * STORE_CHUNK + 100) * 8);
		else
			sim_disk_fault(r.env, "disk0", at + 5 * STORE_CHUNK, 4096, SIM_READ_ERROR);
		g = rig_fetch(&r, 0, key, rig_key(key, 1), false);
		assert_int_equal(g.status, STORE_BROKEN);
		assert_true(rig_is(g.value, 16, 1));
		rig_drop(&g);
		assert_int_equal(rig_counters(&r).broken_values, 1);
		assert_int_equal(rig_counters(&r).corrupt_reads, how == 0);
		assert_int_equal(rig_counters(&r).read_errors, how == 1);
		assert_int_equal(atomic_load(&r.s->quarantines), 1);
		rig_close(&r);
		rig_free(&r);
	}
}

/* More long gets and sets than there is memory for: all are served in turn. */
static void little_memory(void **state)
{
	enum { N = 24 };
	const uint32_t len = MIB + 300000;
	struct rop *o;
	struct rig r;
	uint32_t at[N] = {0};
	unsigned left = N;

	(void)state;
	o = calloc(N, sizeof *o);
	begin(&r, sim_env_new(7, NULL));
	r.cfg.buffer_bytes = 2 * MIB;
	rig_open(&r);
	for (uint64_t k = 0; k < N / 2; k++)
		assert_int_equal(set_k(&r, k, k, len), STORE_OK);
	for (unsigned i = 0; i < N; i++) {
		char key[32];

		store_op_init(&o[i].op, r.w[0], key, (uint8_t)rig_key(key, i), rop_done, &o[i]);
		o[i].done =
		    i < N / 2 ? store_get(&o[i].op, false) : store_set(&o[i].op, STORE_SET, i, len);
	}
	for (unsigned turns = 0; left > 0; turns++) {
		assert_true(turns < RIG_TURNS);
		for (unsigned i = 0; i < N; i++) {
			struct store_op *op = &o[i].op;

			if (!o[i].done || at[i] > len)
				continue;
			o[i].done = false;
			if (i < N / 2) {
				assert_int_equal(op->status, STORE_OK);
				at[i] += op->value_n;
				if (at[i] < len) {
					o[i].done = store_get_next(op);
					continue;
				}
			} else if (op->body_n > 0) {
				uint8_t *v = malloc(len);

				rig_fill(v, len, i);
				memcpy(op->body, v + at[i], op->body_n);
				at[i] += op->body_n;
				free(v);
				o[i].done = store_set_body(op);
				continue;
			}
			assert_int_equal(op->status, STORE_OK);
			assert_int_equal(at[i], len);
			store_op_end(op);
			at[i] = UINT32_MAX;
			left--;
		}
		rig_turn(&r);
	}
	assert_true(rig_counters(&r).buffer_waits > 0);
	for (uint64_t k = 0; k < N; k++)
		assert_true(get_k(&r, k, k, len));
	rig_close(&r);
	rig_free(&r);
	free(o);
}

/* Killed when a set has taken the place of one whose value was deleted: that value does not return. */
static void place_used_again(void **state)
{
	struct rig_corpse c;
	struct rig r;

	(void)state;
	begin(&r, sim_env_new(8, NULL));
	rig_open(&r);
	assert_int_equal(set_k(&r, 1, 1, MIB + 5000), STORE_OK);
	assert_int_equal(del_k(&r, 1), STORE_OK);
	atomic_store(&r.s->large[0].state, 2); /* the first that the next set does: LARGE_WRITING */
	rig_die(&r, false, &c);
	atomic_store(&r.s->large[0].state, 0);
	rig_bury(&r, &c);
	rig_open(&r);
	assert_string_equal(r.s->layer, "shm");
	assert_false(get_k(&r, 1, 1, MIB + 5000));
	rig_close(&r);
	rig_free(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sizes_on_disk),  cmocka_unit_test(sizes_killed),
	    cmocka_unit_test(big_sectors),    cmocka_unit_test(half_way),
	    cmocka_unit_test(recycled_under), cmocka_unit_test(broken_chunk),
	    cmocka_unit_test(little_memory),  cmocka_unit_test(place_used_again),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
