/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recency on disk: a start that has nothing else gives each value the clock that it had and each stream its order;
 * what is torn, damaged or could not be written costs clocks and nothing else. Simulated machine, one thread.
 */
#include "tests/unit/store_rig.h"

#define KEYS 1500u
#define LEN  20000u

static void begin(struct rig *r, uint64_t seed)
{
	rig_init(r, sim_env_new(seed, NULL));
	r->cfg.ram_bytes = 2 * MIB;
	r->cfg.no_attach = true;
}

static void fill_keys(struct rig *r)
{
	for (uint64_t k = 0; k < KEYS; k++)
		assert_int_equal(set_k(r, k, k, LEN), STORE_OK);
	rig_settle(r);
	rig_pass(r, NS_PER_S);
}

/* Key k is asked for k % 4 times, from disk each time. */
static void use_keys(struct rig *r)
{
	for (unsigned round = 1; round < 4; round++) {
		ram_clear(r->s->ram);
		for (uint64_t k = 0; k < KEYS; k++)
			if (k % 4 >= round)
				assert_true(get_k(r, k, k, LEN));
	}
	ram_clear(r->s->ram);
}

static uint8_t clock_of(struct rig *r, uint64_t k)
{
	struct index_ref ref = {0};
	uint32_t seg;
	uint64_t off;

	assert_non_null(rig_place(r, k, &seg, &off, &ref));
	return ref.clock;
}

static void take_clocks(struct rig *r, uint8_t clock[KEYS])
{
	for (uint64_t k = 0; k < KEYS; k++)
		clock[k] = clock_of(r, k);
}

static uint64_t area(const struct rig *r, unsigned half, uint64_t *len)
{
	*len = (r->s->seg_size - FORMAT_CLOCKS_AT) / 2 & ~4095ull;
	return FORMAT_CLOCKS_AT + half * *len;
}

static void wipe(struct rig *r, uint64_t seg_size)
{
	uint8_t *zero = calloc(seg_size - FORMAT_CLOCKS_AT, 1);

	sim_disk_poke(r->env, "disk0", FORMAT_CLOCKS_AT, zero, seg_size - FORMAT_CLOCKS_AT);
	free(zero);
}

/* After a clean stop every clock is what it was, on each path, and the streams have their order. */
static void kept(void **state)
{
	static uint8_t was[KEYS], is[KEYS];
	uint32_t *order[2][STREAMS], n[2][STREAMS];
	unsigned count[4] = {0};
	struct rig r;

	(void)state;
	begin(&r, 1);
	r.cfg.npaths = 2;
	rig_open(&r);
	fill_keys(&r);
	use_keys(&r);
	take_clocks(&r, was);
	rig_stop(&r);
	rig_open(&r);
	assert_string_equal(r.s->layer, "disk");
	take_clocks(&r, is);
	for (unsigned k = 0; k < KEYS; k++) {
		assert_int_equal(is[k], was[k]);
		count[is[k]]++;
	}
	for (unsigned c = 0; c < 4; c++) /* and they were not all the same */
		assert_true(count[c] > KEYS / 10);
	assert_int_equal(rig_stat(&r, "recency_restored"), KEYS - count[0]);
	/* laps, so that there are two streams, and segments that waited long to be opened */
	for (uint64_t k = 5000; atomic_load(&r.s->path[0].seg_recycled) < 40; k++) {
		assert_int_equal(set_k(&r, k, k, LEN), STORE_OK);
		(void)get_k(&r, k - k % 7, k - k % 7, LEN);
	}
	rig_settle(&r);
	rig_pass(&r, NS_PER_S);
	for (unsigned again = 0; again < 2; again++) {
		unsigned w = 0, streams = 0;

		for (unsigned i = 0; i < 2; i++)
			for (unsigned t = 0; t < STREAMS; t++) {
				const struct order *o = &r.s->path[i].order[t];

				streams += o->n > 2;
				if (again == 0) {
					n[i][t] = o->n;
					order[i][t] = calloc(o->n + 1, sizeof **order[i]);
				} else {
					assert_int_equal(o->n, n[i][t]);
				}
				for (uint32_t q = 0; q < o->n; q++) {
					uint32_t seg = o->ring[(o->head + q) % r.s->path[i].nseg];

					if (again == 0)
						order[i][t][q] = seg;
					else
						assert_int_equal(seg, order[i][t][q]);
					w++;
				}
			}
		assert_true(w > 16 && streams >= 3);
		rig_stop(&r);
		rig_open(&r);
	}
	for (unsigned i = 0; i < 2; i++)
		for (unsigned t = 0; t < STREAMS; t++)
			free(order[i][t]);
	rig_close(&r);
	rig_free(&r);
}

/* What was used before the start is what is written again after it: so it is there a lap later. */
static void decides_what_stays(void **state)
{
	unsigned there[2] = {0};

	(void)state;
	for (unsigned lost = 0; lost < 2; lost++) {
		uint64_t seg_size, k;
		struct rig r;

		begin(&r, 2);
		rig_open(&r);
		fill_keys(&r);
		use_keys(&r);
		seg_size = r.s->seg_size;
		rig_stop(&r);
		if (lost)
			wipe(&r, seg_size);
		rig_open(&r);
		assert_int_equal(rig_stat(&r, "recency_restored") > 0, !lost);
		for (k = 5000; atomic_load(&r.s->path[0].seg_recycled) < 10; k++)
			assert_int_equal(set_k(&r, k, k, LEN), STORE_OK);
		for (k = 0; k < KEYS; k++)
			if (k % 4 == 3)
				there[lost] += get_k(&r, k, k, LEN);
		rig_close(&r);
		rig_free(&r);
	}
	print_message("of %u hot values %u are there a lap after a start with clocks, %u without\n",
		      KEYS / 4, there[0], there[1]);
	assert_true(there[0] > KEYS / 4 * 7 / 10);
	assert_true(there[1] < KEYS / 4 * 6 / 10);
}

/* Saved while it runs, too: a power cut costs what was not sealed or not saved. Bounded, and not for nothing. */
static void saved_meanwhile(void **state)
{
	static uint8_t was[KEYS];
	unsigned sealed = 0, same = 0;
	uint64_t saves, bytes;
	struct rig r;

	(void)state;
	begin(&r, 3);
	r.cfg.recency_ns = 5 * NS_PER_S;
	rig_open(&r);
	fill_keys(&r);
	use_keys(&r);
	take_clocks(&r, was);
	saves = rig_stat(&r, "recency_saves");
	bytes = rig_stat(&r, "recency_bytes");
	RIG_UNTIL(&r, rig_stat(&r, "recency_saves") == saves + 2 ||
			  rig_stat(&r, "recency_saves") == saves + 1);
	bytes = rig_stat(&r, "recency_bytes") - bytes;
	/* a clock is 2 bits, a segment 56 bytes; lead and padding */
	assert_in_range(bytes, KEYS / 8, 2 * (KEYS / 4 + 15 * 128 + 2 * 4096));
	saves = rig_stat(&r, "recency_saves");
	rig_pass(&r, 60 * NS_PER_S);
	assert_true(rig_stat(&r, "recency_saves") <= saves + 1); /* nobody has used anything */
	saves = rig_stat(&r, "recency_saves");
	for (unsigned i = 0; i < 20; i++)
		assert_true(get_k(&r, 1, 1, LEN)); /* more than a hundredth of the values */
	rig_pass(&r, 12 * NS_PER_S);
	assert_int_equal(rig_stat(&r, "recency_saves"), saves + 1);
	rig_crash(&r, true);
	rig_open(&r);
	for (uint64_t k = 2; k < KEYS; k++) {
		struct index_ref ref;
		uint32_t seg;
		uint64_t off;

		if (rig_place(&r, k, &seg, &off, &ref) == NULL)
			continue;
		sealed++;
		same += ref.clock == was[k];
		assert_true(ref.clock == was[k] || ref.clock == 0);
	}
	assert_true(sealed > KEYS * 9 / 10);
	assert_true(same > KEYS * 8 / 10); /* all but those of the open segment */
	rig_close(&r);
	rig_free(&r);
}

/* What was saved of a segment's life that is over says nothing about the next one. */
static void of_another_life(void **state)
{
	struct rig r;

	(void)state;
	begin(&r, 4);
	rig_open(&r);
	fill_keys(&r);
	use_keys(&r);
	rig_stop(&r);
	rig_open(&r);
	assert_true(rig_stat(&r, "recency_restored") > KEYS / 2);
	for (uint64_t k = 5000; atomic_load(&r.s->path[0].seg_recycled) < 40; k++)
		assert_int_equal(set_k(&r, k, k, LEN), STORE_OK);
	rig_settle(&r);
	rig_pass(&r, NS_PER_S);
	rig_crash(&r, true); /* nothing was saved since */
	rig_open(&r);
	assert_true(atomic_load(&r.s->recovered) > 1000);
	assert_int_equal(rig_stat(&r, "recency_restored"), 0);
	rig_close(&r);
	rig_free(&r);
}

/* A stop while tables are still loaded leaves what was saved as it was. */
static void stopped_while_loading(void **state)
{
	static uint8_t was[KEYS], is[KEYS];
	struct rig r;

	(void)state;
	begin(&r, 7);
	rig_open(&r);
	fill_keys(&r);
	use_keys(&r);
	take_clocks(&r, was);
	rig_stop(&r);
	for (unsigned i = 0; i < 3; i++) {
		r.early = r.held = true;
		rig_open(&r);
		assert_true(store_loading(r.s));
		r.early = r.held = false;
		assert_int_equal(set_k(&r, KEYS + i, KEYS + i, LEN), STORE_OK); /* a use */
		assert_true(store_loading(r.s));
		rig_stop(&r);
	}
	rig_open(&r);
	take_clocks(&r, is);
	assert_memory_equal(is, was, sizeof was);
	rig_close(&r);
	rig_free(&r);
}

/* Any damage to what was saved: each clock is what it was, or forgotten; never another's. */
static void damaged(void **state)
{
	static uint8_t was[KEYS], old[KEYS];
	unsigned lost = 0, right = 0;

	(void)state;
	for (unsigned round = 0; round < 24; round++) {
		uint64_t at, len;
		struct rig r;

		begin(&r, 100 + round);
		rig_open(&r);
		fill_keys(&r);
		take_clocks(&r, old);
		at = area(&r, 0, &len);
		rig_stop(&r);
		rig_open(&r);
		use_keys(&r);
		take_clocks(&r, was);
		rig_stop(&r);
		/* the first pages, where all of it is: some flips, a torn sector, or a page of one half in the other */
		for (unsigned i = 0; i < 1 + round; i++) {
			uint64_t place =
			    at + sim_env_random(r.env, 2) * len + 4000 +
			    sim_env_random(r.env, 2048); /* the end of a lead, chunks */
			uint8_t page[4096];

			switch (round % 3) {
			case 0:
				sim_disk_flip(r.env, "disk0", place * 8 + round % 8);
				break;
			case 1:
				memset(page, (int)round, 512);
				sim_disk_poke(r.env, "disk0", place & ~511ull, page, 512);
				break;
			default:
				sim_disk_peek(r.env, "disk0", place & ~4095ull, page, 4096);
				sim_disk_poke(r.env, "disk0",
					      at + sim_env_random(r.env, 2) * len +
						  sim_env_random(r.env, 3) * 64,
					      page, 4096);
				break;
			}
		}
		rig_open(&r);
		for (uint64_t k = 0; k < KEYS; k++) {
			uint8_t is = clock_of(&r, k);

			assert_true(is == was[k] || is == old[k] || is == 0);
			lost += is != was[k];
			right += is == was[k];
		}
		for (uint64_t k = 0; k < KEYS; k += 97)
			assert_true(get_k(&r, k, k, LEN));
		rig_close(&r);
		rig_free(&r);
	}
	print_message("%u clocks right, %u older or forgotten\n", right, lost);
	assert_true(lost > KEYS && right > 5 * KEYS);
}

/* Writing, or reading, what is saved fails: the path stays online, and the half of before counts. */
struct bad_area {
	uint64_t end;
	enum io_kind kind;
	unsigned failed;
};

static void fail_area(void *arg, struct io *io, const struct io_op *op, struct sim_fate *fate)
{
	struct bad_area *b = arg;

	(void)io;
	if (op->kind != b->kind || op->u.disk.off < FORMAT_CLOCKS_AT || op->u.disk.off >= b->end)
		return;
	b->failed++;
	fate->what = SIM_FATE_ERROR;
	fate->err = -EIO;
}

static void errors(void **state)
{
	static uint8_t was[KEYS], is[KEYS];
	struct bad_area bad = {0};
	struct rig r;

	(void)state;
	begin(&r, 5);
	rig_open(&r);
	bad.end = r.s->seg_size;
	fill_keys(&r);
	use_keys(&r);
	take_clocks(&r, was);
	rig_stop(&r);
	rig_open(&r);
	assert_true(get_k(&r, 4, 4, LEN)); /* was not used */
	bad.kind = IO_WRITE;
	sim_env_on_submit(r.env, fail_area, &bad);
	rig_stop(&r);
	assert_int_equal(bad.failed, 1);
	assert_int_equal(r.last.write_errors, 1);
	sim_env_on_submit(r.env, NULL, NULL);
	rig_open(&r);
	assert_false(atomic_load(&r.s->path[0].offline));
	take_clocks(&r, is);
	for (unsigned k = 0; k < KEYS; k++) /* a write that fails may have written some */
		assert_true(is[k] == was[k] || (k == 4 && is[k] == 1));
	rig_stop(&r);
	bad.kind = IO_READ;
	bad.failed = 0;
	sim_env_on_submit(r.env, fail_area, &bad);
	rig_open(&r);
	assert_true(bad.failed >= 2);
	take_clocks(&r, is);
	for (unsigned k = 0; k < KEYS; k++)
		assert_int_equal(is[k], 0);
	sim_env_on_submit(r.env, NULL, NULL);
	rig_close(&r);
	rig_free(&r);
}

/* No room for all: those that are recycled first have their clocks, and it is said. */
static void too_little_room(void **state)
{
	static uint8_t was[KEYS], is[KEYS];
	unsigned front = 0, back = 0;
	struct rig r;

	(void)state;
	begin(&r, 6);
	r.cfg.recency_room = 4096 + 4 * 128; /* four segments of some 200 values */
	rig_open(&r);
	fill_keys(&r);
	use_keys(&r);
	take_clocks(&r, was);
	rig_stop(&r);
	rig_open(&r);
	take_clocks(&r, is);
	for (unsigned k = 0; k < KEYS; k++) {
		assert_true(is[k] == was[k] || is[k] == 0);
		if (k < KEYS / 3)
			front += is[k] > 0;
		else if (k > KEYS * 2 / 3)
			back += is[k] > 0;
	}
	assert_int_equal(front, KEYS / 4);
	assert_int_equal(back, 0);
	rig_close(&r);
	rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(kept),
	    cmocka_unit_test(decides_what_stays),
	    cmocka_unit_test(saved_meanwhile),
	    cmocka_unit_test(of_another_life),
	    cmocka_unit_test(stopped_while_loading),
	    cmocka_unit_test(damaged),
	    cmocka_unit_test(errors),
	    cmocka_unit_test(too_little_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
