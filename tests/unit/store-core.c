/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every operation of the store and each of its answers, wherever the key is: nowhere, in a write
 * buffer, on disk, in the RAM tier with and without a place on disk; all sizes at which something
 * changes; keys of 1 to 250 bytes; several paths; counters. One thread, uring engine, real files.
 */
#include "tests/unit/store_rig.h"

static const uint32_t sizes[] = {0,
				 1,
				 7,
				 8,
				 100,
				 447,
				 448,
				 449,
				 511,
				 512,
				 513,
				 4031,
				 4095,
				 4096,
				 4097,
				 32767,
				 65536,
				 256 * 1024 - 1,
				 256 * 1024,
				 256 * 1024 + 1,
				 512 * 1024 + 5,
				 MIB - 1,
				 MIB};
#define NSIZES (sizeof sizes / sizeof sizes[0])

static void forget_ram(struct rig *r)
{
	ram_clear(r->s->ram);
}

static void sizes_everywhere(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, NULL);
	rig_open(&r);
	for (unsigned i = 0; i < NSIZES; i++) {
		assert_int_equal(set_k(&r, i, 1000 + i, sizes[i]), STORE_OK);
		assert_true(get_k(&r, i, 1000 + i, sizes[i]));
	}
	forget_ram(&r); /* from write buffers, where they still are, else from disk */
	for (unsigned i = 0; i < NSIZES; i++)
		assert_true(get_k(&r, i, 1000 + i, sizes[i]));
	rig_settle(&r);
	forget_ram(&r);
	for (unsigned i = 0; i < NSIZES; i++)
		assert_true(get_k(&r, i, 1000 + i, sizes[i]));
	assert_true(rig_counters(&r).get_hits_disk >= NSIZES);
	rig_close(&r);
	assert_int_equal(rig_files(r.shm), 1); /* the index, for the next start */
	rig_open(&r);                          /* sealed tables */
	for (unsigned i = 0; i < NSIZES; i++)
		assert_true(get_k(&r, i, 1000 + i, sizes[i]));
	assert_int_equal(rig_counters(&r).get_misses, 0);
	rig_close(&r);
	rig_free(&r);
}

static void keys_of_all_lengths(void **state)
{
	struct rig r;
	char key[STORE_KEY_MAX];

	(void)state;
	rig_init(&r, NULL);
	rig_open(&r);
	memset(key, 'k', sizeof key);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned n = 1; n <= STORE_KEY_MAX; n++) {
			struct got g;

			if (round == 0)
				assert_int_equal(
				    rig_put(&r, 0, STORE_SET, key, n, n, n, 3 * n, NULL), STORE_OK);
			g = rig_fetch(&r, 0, key, n, false);
			assert_int_equal(g.status, STORE_OK);
			assert_int_equal(g.flags, n);
			assert_int_equal(g.len, 3 * n);
			assert_true(rig_is(g.value, g.len, n));
			rig_drop(&g);
		}
		rig_settle(&r);
		forget_ram(&r);
		if (round == 1) {
			rig_close(&r);
			rig_open(&r);
		}
	}
	for (unsigned n = 1; n <= STORE_KEY_MAX; n++)
		assert_int_equal(rig_remove(&r, 0, key, n), STORE_OK);
	for (unsigned n = 1; n <= STORE_KEY_MAX; n++)
		assert_int_equal(rig_fetch(&r, 0, key, n, false).status, STORE_MISS);
	rig_close(&r);
	rig_free(&r);
}

/* The answers to every operation on a key that is there, however it is there. */
static void answers_when_there(struct rig *r, uint64_t k, uint64_t id, uint32_t len, uint64_t cas)
{
	char key[32];
	size_t n = rig_key(key, k);
	struct store_counters was = rig_counters(r), now;
	uint64_t again = 0;
	struct got g;

	assert_int_equal(rig_put(r, 0, STORE_SET, key, n, (uint32_t)id, id, len, &again), STORE_OK);
	assert_int_equal(again, cas);
	assert_int_equal(rig_put(r, 0, STORE_ADD, key, n, (uint32_t)id, id, len, NULL),
			 STORE_EXISTS);
	assert_int_equal(rig_put(r, 0, STORE_SET, key, n, (uint32_t)id, id + 1, len, NULL),
			 len > 0 ? STORE_CONFLICT : STORE_OK);
	assert_int_equal(rig_put(r, 0, STORE_ADD, key, n, (uint32_t)id, id, len + 1, NULL),
			 STORE_CONFLICT);
	assert_int_equal(rig_put(r, 0, STORE_SET, key, n, (uint32_t)id + 1, id, len, NULL),
			 STORE_CONFLICT);
	assert_int_equal(rig_put(r, 0, STORE_COMPARE, key, n, (uint32_t)id, id, len, &again),
			 STORE_OK);
	assert_int_equal(again, cas);
	assert_int_equal(rig_put(r, 0, STORE_COMPARE, key, n, (uint32_t)id, id, len + 1, &again),
			 STORE_CONFLICT);
	assert_int_equal(again, cas);
	g = rig_fetch(r, 0, key, n, true);
	assert_int_equal(g.status, STORE_OK);
	assert_int_equal(g.len, len);
	assert_int_equal(g.cas, cas);
	rig_drop(&g);
	assert_true(get_k(r, k, id, len));
	now = rig_counters(r);
	assert_int_equal(now.sets_same - was.sets_same, len > 0 ? 3 : 4);
	assert_int_equal(now.immutable_conflicts - was.immutable_conflicts, len > 0 ? 4 : 3);
	assert_int_equal(now.sets_stored, was.sets_stored);
	assert_int_equal(now.user_bytes, was.user_bytes);
}

static void answers_when_gone(struct rig *r, uint64_t k)
{
	char key[32];
	size_t n = rig_key(key, k);
	struct store_counters was = rig_counters(r), now;

	assert_int_equal(rig_put(r, 0, STORE_COMPARE, key, n, 0, k, 0, NULL), STORE_MISS);
	assert_int_equal(rig_put(r, 0, STORE_COMPARE, key, n, 0, k, 999, NULL), STORE_MISS);
	if (r->cfg.item_max > MIB)
		assert_int_equal(rig_put(r, 0, STORE_COMPARE, key, n, 0, k, MIB + 9, NULL),
				 STORE_MISS);
	now = rig_counters(r);
	assert_int_equal(now.user_bytes, was.user_bytes);
	assert_int_equal(now.sets_stored, was.sets_stored);
	assert_int_equal(rig_fetch(r, 0, key, n, false).status, STORE_MISS);
	assert_int_equal(rig_fetch(r, 0, key, n, true).status, STORE_MISS);
	assert_int_equal(del_k(r, k), STORE_MISS);
}

enum where { IN_RAM, IN_WBUF, ON_DISK, RESTARTED, PLACES };

/* Key k is set, and brought to where it is to be. */
static uint64_t put_there(struct rig *r, enum where where, uint64_t k, uint64_t id, uint32_t len)
{
	char key[32];
	size_t n = rig_key(key, k);
	uint64_t cas;

	assert_int_equal(rig_put(r, 0, STORE_SET, key, n, (uint32_t)id, id, len, &cas), STORE_OK);
	switch (where) {
	case IN_RAM:
		break;
	case IN_WBUF:
		forget_ram(r);
		break;
	case ON_DISK:
		rig_settle(r);
		forget_ram(r);
		break;
	default:
		rig_close(r);
		rig_open(r);
	}
	return cas;
}

static void same_conflict_add_delete(void **state)
{
	static const uint32_t lens[] = {0, 1, 5000, 300000, MIB, MIB + 70000};
	struct rig r;
	uint64_t k = 0;

	(void)state;
	rig_init(&r, NULL);
	r.cfg.size = 256 * MIB; /* nothing is to be evicted */
	r.cfg.item_max = 2 * MIB;
	r.cfg.sync_ns = 5 * NS_PER_S; /* so that IN_WBUF is true */
	rig_open(&r);
	for (unsigned i = 0; i < sizeof lens / sizeof lens[0]; i++)
		for (unsigned p = 0; p < PLACES; p++) {
			uint64_t cas;

			r.cfg.sync_ns = p == IN_WBUF ? 5 * NS_PER_S : 50 * NS_PER_MS;
			r.s->cfg.sync_ns = r.cfg.sync_ns;
			k++;
			answers_when_gone(&r, k);
			cas = put_there(&r, (enum where)p, k, 10 * k, lens[i]);
			answers_when_there(&r, k, 10 * k, lens[i], cas);
			assert_int_equal(del_k(&r, k), STORE_OK);
			answers_when_gone(&r, k);
			/* free again: another value, by add */
			assert_int_equal(add_k(&r, k, 10 * k + 5, lens[i] + 3), STORE_OK);
			assert_true(get_k(&r, k, 10 * k + 5, lens[i] + 3));
			/* and deleted where it is not in RAM */
			put_there(&r, (enum where)p, 1000 + k, 7, lens[i]);
			assert_int_equal(del_k(&r, 1000 + k), STORE_OK);
			answers_when_gone(&r, 1000 + k);
		}
	for (unsigned restart = 0; restart < 2; restart++) {
		for (uint64_t i = 1; i <= k; i++) {
			answers_when_gone(&r, 1000 + i);
			assert_true(get_k(&r, i, 10 * i + 5, lens[(i - 1) / PLACES] + 3));
		}
		rig_close(&r);
		rig_open(&r);
	}
	rig_close(&r);
	rig_free(&r);
}

/* The place on disk is gone (recycled), the RAM tier still has it. */
static void in_ram_alone(void **state)
{
	struct rig r;
	char key[32];
	size_t n = rig_key(key, 1);
	uint64_t cas;
	struct index_probe probe;

	(void)state;
	rig_init(&r, NULL);
	r.cfg.item_max = 2 * MIB;
	rig_open(&r);
	for (unsigned round = 0; round < 2; round++) {
		uint64_t hash;
		struct rop o;

		assert_int_equal(rig_put(&r, 0, STORE_SET, key, n, 5, 5, 999, &cas), STORE_OK);
		store_op_init(&o.op, r.w[0], key, (uint8_t)n, rop_done, &o);
		hash = o.op.hash;
		store_op_end(&o.op);
		index_find(r.s->index, hash, &probe);
		assert_int_equal(probe.n, 1);
		assert_true(index_remove(r.s->index, hash, probe.ref[0].loc));
		ram_relocate(r.s->ram, hash, probe.ref[0].loc, 0);
		assert_true(get_k(&r, 1, 5, 999));
		assert_int_equal(rig_put(&r, 0, STORE_ADD, key, n, 5, 5, 999, NULL), STORE_EXISTS);
		assert_int_equal(rig_put(&r, 0, STORE_SET, key, n, 5, 6, 999, NULL),
				 STORE_CONFLICT);
		assert_int_equal(rig_put(&r, 0, STORE_COMPARE, key, n, 5, 5, 999, NULL), STORE_OK);
		for (uint32_t len = 998; len <= MIB + 998; len += MIB) {
			uint64_t has = 0;

			assert_int_equal(rig_put(&r, 0, STORE_COMPARE, key, n, 5, 6, len, &has),
					 STORE_CONFLICT);
			assert_int_equal(has, cas);
		}
		index_find(r.s->index, hash, &probe);
		assert_int_equal(probe.n, 0);
		if (round == 0) {
			/* the same again: it gets a place on disk again */
			assert_int_equal(rig_put(&r, 0, STORE_SET, key, n, 5, 5, 999, NULL),
					 STORE_OK);
			index_find(r.s->index, hash, &probe);
			assert_int_equal(probe.n, 1);
			assert_int_equal(rig_counters(&r).sets_stored, 2);
		}
		assert_int_equal(del_k(&r, 1), STORE_OK);
		answers_when_gone(&r, 1);
	}
	rig_close(&r);
	rig_free(&r);
}

static void too_large(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, NULL);
	r.cfg.item_max = 100000;
	rig_open(&r);
	assert_int_equal(set_k(&r, 1, 1, 100000), STORE_OK);
	assert_int_equal(set_k(&r, 2, 1, 100001), STORE_TOO_LARGE);
	assert_int_equal(set_k(&r, 2, 1, 50u * MIB), STORE_TOO_LARGE);
	answers_when_gone(&r, 2);
	assert_int_equal(rig_counters(&r).sets_stored, 1);
	rig_close(&r);
	rig_free(&r);
}

static void flushing(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, NULL);
	r.cfg.npaths = 2;
	rig_open(&r);
	for (uint64_t k = 0; k < 300; k++)
		assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
	assert_int_equal(rig_flush_all(&r, 0), STORE_OK);
	for (uint64_t k = 0; k < 300; k++)
		answers_when_gone(&r, k);
	for (uint64_t k = 0; k < 300; k += 3)
		assert_int_equal(set_k(&r, k, k + 1, 700), STORE_OK);
	for (unsigned restart = 0; restart < 2; restart++) {
		for (uint64_t k = 0; k < 300; k++)
			assert_int_equal(get_k(&r, k, k + 1, 700), k % 3 == 0);
		rig_close(&r);
		rig_open(&r);
	}
	rig_close(&r);
	rig_free(&r);
}

static void several_paths(void **state)
{
	struct rig r;
	uint64_t used[RIG_PATHS] = {0};

	(void)state;
	rig_init(&r, NULL);
	r.cfg.npaths = RIG_PATHS;
	r.cfg.workers = 2;
	rig_open(&r);
	for (uint64_t k = 0; k < 600; k++) {
		char key[32];
		size_t n = rig_key(key, k);

		assert_int_equal(rig_put(&r, k & 1, STORE_SET, key, n, (uint32_t)k, k, 30000, NULL),
				 STORE_OK);
	}
	rig_settle(&r);
	forget_ram(&r);
	for (uint64_t k = 0; k < 600; k++)
		assert_true(get_k(&r, k, k, 30000));
	for (uint64_t k = 0; k < 600; k += 2)
		assert_int_equal(del_k(&r, k), STORE_OK);
	rig_close(&r);
	rig_open(&r);
	for (unsigned i = 0; i < RIG_PATHS; i++)
		for (uint32_t g = 0; g < r.s->path[i].nseg; g++)
			used[i] += r.s->path[i].seg[g].data_bytes;
	for (unsigned i = 0; i < RIG_PATHS; i++)
		assert_true(used[i] > MIB);
	for (uint64_t k = 0; k < 600; k++)
		assert_int_equal(get_k(&r, k, k, 30000), k & 1);
	rig_close(&r);
	rig_free(&r);
}

/* What was done is what is counted, and reset begins at zero. */
static void counting(void **state)
{
	struct rig r;
	struct store_counters c;
	uint64_t items, bytes;
	struct hist h;

	(void)state;
	rig_init(&r, NULL);
	rig_open(&r);
	for (uint64_t k = 0; k < 50; k++)
		assert_int_equal(set_k(&r, k, k, 3000), STORE_OK);
	for (uint64_t k = 0; k < 100; k++)
		(void)get_k(&r, k, k, 3000);
	rig_settle(&r);
	forget_ram(&r);
	for (uint64_t k = 0; k < 50; k++)
		assert_true(get_k(&r, k, k, 3000));
	for (uint64_t k = 40; k < 60; k++)
		assert_int_equal(del_k(&r, k), k < 50 ? STORE_OK : STORE_MISS);
	c = rig_counters(&r);
	assert_int_equal(c.sets_stored, 50);
	assert_int_equal(c.user_bytes, 50 * 3072); /* 64 + 6 or so + 3000, in units of 128 */
	assert_int_equal(c.get_hits_ram, 50);
	assert_int_equal(c.get_misses, 50);
	assert_int_equal(c.get_hits_disk, 50);
	assert_true(c.disk_reads >= 50);
	assert_int_equal(c.deletes, 10);
	assert_int_equal(c.tombstones, 10);
	assert_int_equal(c.delete_misses, 10);
	assert_int_equal(c.corrupt_reads + c.read_errors + c.write_errors + c.stale_reads, 0);
	assert_true(c.disk_write_bytes >= c.user_bytes);
	store_totals(r.s, &items, &bytes);
	assert_int_equal(items, 40);
	store_latency(r.s, STORE_LAT_MISS, &h);
	store_stats_reset(r.s);
	c = rig_counters(&r);
	assert_int_equal(c.sets_stored + c.get_hits_ram + c.deletes + c.disk_write_bytes, 0);
	assert_true(get_k(&r, 1, 1, 3000));
	assert_int_equal(rig_counters(&r).get_hits_ram, 1);
	rig_close(&r);
	rig_free(&r);
}

static void dump_once(struct rig *r)
{
	bool seen[500] = {0};
	uint64_t cursor = 0;
	unsigned n = 0;
	struct rop o;

	for (;;) {
		char *text, *line, *save = NULL;

		o.done = false;
		store_op_init(&o.op, r->w[0], "", 0, rop_done, &o);
		if (!store_dump(&o.op, &cursor))
			RIG_UNTIL(r, o.done);
		if (o.op.value_n == 0) {
			store_op_end(&o.op);
			break;
		}
		text = strndup((const char *)o.op.value, o.op.value_n);
		store_op_end(&o.op);
		for (line = strtok_r(text, "\r\n", &save); line != NULL;
		     line = strtok_r(NULL, "\r\n", &save)) {
			unsigned k, size;

			assert_int_equal(sscanf(line, "key=key-%u exp=-1", &k), 1);
			assert_non_null(strstr(line, " size="));
			size = (unsigned)strtoul(strstr(line, " size=") + 6, NULL, 10);
			assert_true(k < 500 && !seen[k] && k % 5 != 0);
			assert_int_equal(size, k % 100 == 7 ? MIB + 1000 : 9000);
			seen[k] = true;
			n++;
		}
		free(text);
		if (n % 3 == 0) /* what is listed is being written meanwhile */
			rig_turn(r);
	}
	assert_int_equal(n, 400);
}

/* metadump lists every key once, be it on disk or in a write buffer. */
static void dumping(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, NULL);
	r.cfg.npaths = 2;
	r.cfg.item_max = 2 * MIB;
	rig_open(&r);
	for (uint64_t k = 0; k < 500; k++)
		assert_int_equal(set_k(&r, k, k, k % 100 == 7 ? MIB + 1000 : 9000), STORE_OK);
	for (uint64_t k = 0; k < 500; k += 5)
		assert_int_equal(del_k(&r, k), STORE_OK);
	for (unsigned i = 0; i < 5; i++)
		dump_once(&r);
	rig_settle(&r);
	dump_once(&r);
	rig_close(&r);
	rig_free(&r);
}

/* A set, a get that are given up half-way hold nothing afterwards. */
static void given_up(void **state)
{
	struct rig r;
	struct rop o;
	char key[32];
	size_t n = rig_key(key, 1);

	(void)state;
	rig_init(&r, NULL);
	rig_open(&r);
	o.done = false;
	store_op_init(&o.op, r.w[0], key, (uint8_t)n, rop_done, &o);
	assert_true(store_set(&o.op, STORE_SET, 0, 50000));
	assert_int_equal(o.op.body_n, 50000);
	memset(o.op.body, 1, 100);
	store_op_end(&o.op);
	answers_when_gone(&r, 1);
	assert_int_equal(set_k(&r, 1, 1, 50000), STORE_OK);
	store_op_init(&o.op, r.w[0], key, (uint8_t)n, rop_done, &o);
	assert_true(store_get(&o.op, false));
	assert_true(o.op.from_ram);
	assert_int_equal(del_k(&r, 1), STORE_OK); /* its value stays as long as it is held */
	assert_true(rig_is(o.op.value, o.op.value_n, 1));
	store_op_end(&o.op);
	assert_int_equal(r.w[0]->charged, 0);
	rig_close(&r);
	rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sizes_everywhere),
	    cmocka_unit_test(keys_of_all_lengths),
	    cmocka_unit_test(same_conflict_add_delete),
	    cmocka_unit_test(in_ram_alone),
	    cmocka_unit_test(too_large),
	    cmocka_unit_test(flushing),
	    cmocka_unit_test(several_paths),
	    cmocka_unit_test(counting),
	    cmocka_unit_test(dumping),
	    cmocka_unit_test(given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
