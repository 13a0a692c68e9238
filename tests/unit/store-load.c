/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serving while the tables of sealed segments are read [RC-6] to [RC-9]: hits from what has been read, sets,
 * deletes and flushes of what has not, kills, tables and paths that fail meanwhile. Simulated machine, one
 * thread.
 */
#include "tests/unit/store_rig.h"
#include "valcached/store/recover_int.h"

#define KEYS 600u
#define MANY 2400u /* in nine segments */
#define LEN  15000u

static void begin(struct rig *r, uint64_t seed)
{
	rig_init(r, sim_env_new(seed, NULL));
	r->cfg.no_attach = true;
}

/* A store of n values, closed. */
static void fill(struct rig *r, uint64_t n)
{
	rig_open(r);
	for (uint64_t k = 0; k < n; k++)
		assert_int_equal(set_k(r, k, k, LEN), STORE_OK);
	rig_close(r);
}

/* Serves, and has read no table. */
static void open_early(struct rig *r)
{
	r->early = r->held = true;
	rig_open(r);
	assert_true(store_loading(r->s));
	r->early = false;
}

static void let_load(struct rig *r)
{
	r->held = false;
	RIG_UNTIL(r, !store_loading(r->s));
}

/* A delete that may wait. */
static struct rop *del_begin(struct rig *r, uint64_t k)
{
	struct rop *o = malloc(sizeof *o);
	char key[32];

	o->done = false;
	store_op_init(&o->op, r->w[0], key, (uint8_t)rig_key(key, k), rop_done, o);
	o->done = store_delete(&o->op) || o->done;
	return o;
}

static enum store_status del_end(struct rig *r, struct rop *o)
{
	enum store_status st;

	RIG_UNTIL(r, o->done);
	st = o->op.status;
	store_op_end(&o->op);
	free(o);
	return st;
}

static uint64_t recovered(const struct rig *r)
{
	return atomic_load(&r->s->recovered);
}

/* The newest are there first, the others are misses, and in the end all are there. */
static void newest_first(void **state)
{
	struct rig r;
	uint64_t last = 0;
	bool half = false;

	(void)state;
	begin(&r, 5);
	fill(&r, MANY);
	open_early(&r);
	assert_string_equal(r.s->layer, "disk");
	assert_int_equal(atomic_load(&r.s->live->complete), 0);
	for (uint64_t k = 0; k < MANY; k += 100)
		assert_false(get_k(&r, k, k, LEN));
	sim_env_config(r.env)->read_ns[0] = 100000;
	sim_env_config(r.env)->read_ns[1] = 500000000;
	r.held = false;
	while (store_loading(r.s)) {
		rig_turn(&r);
		assert_true(recovered(&r) >= last);
		last = recovered(&r);
		if (last == 0 || last == MANY || half)
			continue;
		half = r.held = true;
		assert_true(get_k(&r, MANY - 1, MANY - 1, LEN));
		assert_false(get_k(&r, 0, 0, LEN));
		r.held = false;
	}
	assert_true(half);
	assert_int_equal(recovered(&r), MANY);
	assert_int_equal(atomic_load(&r.s->segments_loaded), atomic_load(&r.s->segments_to_load));
	for (uint64_t k = 0; k < MANY; k++)
		assert_true(get_k(&r, k, k, LEN));
	assert_int_equal(atomic_load(&r.s->live->complete), 1);
	rig_close(&r);
	rig_free(&r);
}

/* What each key must be in the end: k % 6 says what was done to it meanwhile. */
enum deed { NOTHING, SET_SAME, SET_OTHER, ADD_OTHER, SET_DELETED, DELETED, DEEDS };

/* unsure: what was not answered may have happened or not. */
static void check(struct rig *r, bool unsure)
{
	for (uint64_t k = 0; k < KEYS; k++) {
		switch ((enum deed)(k % DEEDS)) {
		case NOTHING:
		case SET_SAME:
			assert_true(get_k(r, k, k, LEN));
			break;
		case SET_OTHER:
		case ADD_OTHER:
			assert_true(get_k(r, k, k + 1000, LEN));
			break;
		case DELETED:
			if (unsure) {
				(void)get_k(r, k, k, LEN);
				break;
			}
			/* fallthrough */
		default:
			assert_false(get_k(r, k, k, LEN));
		}
	}
}

/* Does it, and begins those deletes that have to wait. */
static void do_deeds(struct rig *r, struct rop *del[KEYS])
{
	for (uint64_t k = 0; k < KEYS; k++) {
		switch ((enum deed)(k % DEEDS)) {
		case NOTHING:
			break;
		case SET_SAME:
			assert_int_equal(set_k(r, k, k, LEN), STORE_OK);
			break;
		case SET_OTHER: /* it is not resident */
			assert_int_equal(set_k(r, k, k + 1000, LEN), STORE_OK);
			assert_true(get_k(r, k, k + 1000, LEN));
			assert_int_equal(set_k(r, k, k, LEN), STORE_CONFLICT);
			break;
		case ADD_OTHER:
			assert_int_equal(add_k(r, k, k + 1000, LEN), STORE_OK);
			break;
		case SET_DELETED:
			assert_int_equal(set_k(r, k, k, LEN), STORE_OK);
			assert_int_equal(del_k(r, k), STORE_OK);
			/* fallthrough */
		default:
			/* nobody knows yet whether it is there */
			del[k] = del_begin(r, k);
			assert_false(del[k]->done);
		}
	}
}

/*
 * Sets and deletes of keys that are still to be read; then what was stored counts, and what was deleted is gone,
 * also after a kill at once, a kill or a power cut in the end, or a stop.
 */
static void meanwhile(void **state)
{
	enum { AT_ONCE, KILLED, POWER_CUT, KILLED_LATER, STOPPED, STOPPED_EARLY, WAYS };

	(void)state;
	for (unsigned way = 0; way < WAYS; way++) {
		struct rop *del[KEYS] = {0};
		struct rig_corpse corpse;
		struct rig r;

		begin(&r, 10 + way);
		fill(&r, KEYS);
		open_early(&r);
		do_deeds(&r, del);
		if (way == AT_ONCE)
			rig_die(&r, false, &corpse);
		else
			let_load(&r);
		r.held = false;
		for (uint64_t k = 0; k < KEYS; k++)
			if (del[k] != NULL) {
				enum store_status st = del_end(&r, del[k]);

				if (way != AT_ONCE)
					assert_int_equal(st, k % DEEDS == DELETED ? STORE_OK
										  : STORE_MISS);
			}
		if (way != AT_ONCE)
			check(&r, false);
		switch (way) {
		case AT_ONCE:
			rig_bury(&r, &corpse);
			break;
		case KILLED:
			rig_crash(&r, false);
			break;
		case POWER_CUT:
			rig_pass(&r, 2 * NS_PER_S);
			rig_crash(&r, true);
			break;
		case KILLED_LATER:
			rig_pass(&r, NS_PER_S);
			rig_crash(&r, false);
			r.cfg.no_attach = false;
			break;
		default:
			rig_close(&r);
		}
		rig_open(&r);
		assert_string_equal(r.s->layer, way == KILLED_LATER ? "shm" : "disk");
		check(&r, way == AT_ONCE);
		rig_close(&r);
		rig_free(&r);
	}
}

/* Killed or stopped half-way, again and again: the next start begins anew, and nothing is lost. */
static void never_finished(void **state)
{
	struct rig r;

	(void)state;
	begin(&r, 30);
	r.cfg.size *= 2; /* each start seals what was open */
	fill(&r, MANY);
	r.cfg.no_attach = false; /* it is not complete: the disk is asked all the same */
	for (unsigned round = 0; round < 12; round++) {
		if (round == 0)
			r.cfg.no_attach = true;
		open_early(&r);
		assert_string_equal(r.s->layer, "disk");
		r.cfg.no_attach = false;
		sim_env_config(r.env)->read_ns[0] = 100000;
		sim_env_config(r.env)->read_ns[1] = 500000000;
		r.held = false;
		for (uint64_t n = sim_env_random(r.env, 60); n > 0 && store_loading(r.s); n--)
			rig_turn(&r);
		/* one key each round, by turns set to what it is and deleted */
		if (round % 2 == 0)
			assert_int_equal(set_k(&r, round, round, LEN), STORE_OK);
		else if (store_loading(r.s))
			assert_int_equal(set_k(&r, MANY + round, round, LEN), STORE_OK);
		if (round % 3 == 0 && store_loading(r.s))
			rig_close(&r);
		else if (store_loading(r.s))
			rig_crash(&r, round % 3 == 1);
		else {
			rig_close(&r);
			r.cfg.no_attach = true;
		}
	}
	rig_open(&r);
	for (uint64_t k = 0; k < MANY; k++)
		assert_true(get_k(&r, k, k, LEN));
	rig_close(&r);
	rig_free(&r);
}

/* What was there before a flush_all does not come back from what is read after it. */
static void flushed(void **state)
{
	(void)state;
	for (unsigned way = 0; way < 3; way++) {
		struct rig r;

		begin(&r, 40 + way);
		fill(&r, KEYS);
		open_early(&r);
		assert_int_equal(set_k(&r, 5, 1005, LEN), STORE_OK);
		assert_int_equal(rig_flush_all(&r, 0), STORE_OK);
		assert_int_equal(set_k(&r, 7, 1007, LEN), STORE_OK);
		if (way > 0)
			let_load(&r);
		r.held = false;
		if (way != 1)
			rig_crash(&r, false);
		if (way != 1)
			rig_open(&r);
		for (uint64_t k = 0; k < KEYS; k++)
			assert_int_equal(get_k(&r, k, k + 1000, LEN), k == 7);
		rig_close(&r);
		rig_free(&r);
	}
}

/* A table that is damaged, or cannot be read: the segment's blocks are walked, and it is sealed anew. */
static void bad_tables(void **state)
{
	(void)state;
	for (unsigned way = 0; way < 3; way++) {
		struct rig r;
		uint64_t off;
		uint32_t seg = 1;

		begin(&r, 50 + way);
		fill(&r, KEYS);
		open_early(&r);
		off = seg_offset(&r.s->path[0], seg + 1) - FORMAT_ALIGN - table_bytes(200);
		if (way == 0) {
			uint8_t page[FORMAT_ALIGN];

			sim_disk_peek(r.env, "disk0", off, page, sizeof page);
			page[40] ^= 1;
			sim_disk_poke(r.env, "disk0", off, page, sizeof page);
		} else {
			sim_disk_fault(r.env, "disk0", off, 4096, SIM_READ_ERROR);
		}
		assert_int_equal(set_k(&r, 3, 3, LEN), STORE_OK);
		if (way == 2) {
			r.held = false;
			rig_crash(&r, false);
			rig_open(&r);
		} else {
			let_load(&r);
		}
		for (uint64_t k = 0; k < KEYS; k++)
			if (!get_k(&r, k, k, LEN))
				fail_msg("way %u: key %" PRIu64 " is lost", way, k);
		sim_disk_fault(r.env, "disk0", off, 4096, SIM_OK);
		rig_pass(&r, NS_PER_S);
		assert_int_equal(atomic_load(&r.s->path[0].seg[seg].state), SEG_SEALED);
		rig_close(&r);
		rig_open(&r);
		for (uint64_t k = 0; k < KEYS; k++)
			assert_true(get_k(&r, k, k, LEN));
		rig_close(&r);
		rig_free(&r);
	}
}

/* A path dies before all of it has been read. */
static void path_gone(void **state)
{
	(void)state;
	for (unsigned paths = 1; paths <= 2; paths++) {
		const char *name = paths == 1 ? "disk0" : "disk1";
		struct rop *del, *never;
		unsigned there = 0;
		struct rig r;

		begin(&r, 60 + paths);
		r.cfg.npaths = paths;
		r.cfg.item_max = MIB;
		fill(&r, KEYS);
		open_early(&r);
		del = del_begin(&r, 7);
		never = del_begin(&r, 100000);
		sim_disk_fault(r.env, name, 0, 64 * MIB, SIM_DEAD);
		r.held = false;
		if (paths == 1) {
			/* nobody could remember it */
			assert_int_equal(del_end(&r, del), STORE_UNAVAILABLE);
			assert_int_equal(del_end(&r, never), STORE_UNAVAILABLE);
			rig_pass(&r, 100 * NS_PER_MS);
			assert_true(store_loading(r.s));
			assert_int_equal(del_k(&r, 7), STORE_UNAVAILABLE);
		} else {
			let_load(&r);
			(void)del_end(&r, del);
			assert_int_equal(del_end(&r, never), STORE_MISS);
			assert_int_equal(set_k(&r, 9000, 1009, LEN), STORE_OK);
		}
		assert_true(atomic_load(&r.s->path[paths - 1].gone));
		sim_disk_fault(r.env, name, 0, 64 * MIB, SIM_OK);
		store_paths_online(r.s);
		RIG_UNTIL(&r, !atomic_load(&r.s->path[paths - 1].offline));
		RIG_UNTIL(&r, !store_loading(r.s));
		for (uint64_t k = 0; k < KEYS; k++)
			there += get_k(&r, k, k, LEN);
		if (paths == 1)
			assert_int_equal(there, KEYS);
		else /* about half of them lay on the other one */
			assert_in_range(there, KEYS / 5, KEYS * 4 / 5);
		assert_int_equal(get_k(&r, 7, 7, LEN), paths == 1);
		rig_crash(&r, false);
		rig_open(&r);
		assert_int_equal(get_k(&r, 7, 7, LEN), paths == 1);
		if (paths == 2)
			assert_true(get_k(&r, 9000, 1009, LEN));
		rig_close(&r);
		rig_free(&r);
	}
}

/* A table that takes longer than --io-timeout: the path is offline until it has come, and then it goes on. */
static void slow_table(void **state)
{
	struct rig r;

	(void)state;
	begin(&r, 70);
	r.cfg.io_timeout_ns = 100 * NS_PER_MS;
	fill(&r, KEYS);
	open_early(&r);
	sim_disk_hang(r.env, "disk0", true);
	r.held = false;
	RIG_UNTIL(&r, atomic_load(&r.s->path[0].gone));
	assert_true(store_loading(r.s));
	sim_disk_hang(r.env, "disk0", false);
	RIG_UNTIL(&r, !store_loading(r.s));
	assert_false(atomic_load(&r.s->path[0].offline));
	for (uint64_t k = 0; k < KEYS; k++)
		assert_true(get_k(&r, k, k, LEN));
	rig_close(&r);
	rig_free(&r);
}

/* DROP records that a tombstone with this mark owes when it ends the records of keys first and second, in this order. */
static uint64_t owed(struct rig *r, uint32_t mark, uint64_t first, uint64_t second)
{
	struct load l = {.s = r->s, .seq = UINT64_MAX};
	struct format_entry e = {.hash = 1,
				 .seq = 1u << 20,
				 .units = (mark << 8 | 1) & 0xffffffu,
				 .type = FORMAT_TOMBSTONE};
	uint64_t before = r->s->drops_total, off, keys[2] = {first, second};
	struct index_ref ref = {0};
	struct end *end;
	uint32_t seg;

	load_note(&l, &e);
	end = ends_get(&l.key[key_stripe(1)], 1);
	assert_non_null(end);
	for (unsigned i = 0; i < 2; i++) {
		assert_non_null(rig_place(r, keys[i], &seg, &off, &ref));
		load_ended(&l, end, ref.loc);
	}
	free(l.key[key_stripe(1)].slot);
	return r->s->drops_total - before;
}

/* [F-6] A tombstone ends the record that it names for as long as that is there; others of its key get a DROP each. */
static void named(void **state)
{
	struct index_ref ref;
	struct path *p;
	struct rig r;
	uint32_t seg, mark;
	uint64_t off;

	(void)state;
	begin(&r, 9);
	rig_open(&r);
	for (uint64_t k = 0; k < 3; k++)
		assert_int_equal(set_k(&r, k, k, LEN), STORE_OK);
	r.held = true; /* the DROP records are counted, not written */
	p = rig_place(&r, 0, &seg, &off, &ref);
	assert_non_null(p);
	mark = named_mark(drop_hash(place_on(p, ref.loc), atomic_load(&p->seg[seg].generation)));
	assert_int_equal(owed(&r, mark, 0, 1), 1);
	assert_int_equal(owed(&r, mark, 1, 0), 1);
	assert_int_equal(owed(&r, mark, 1, 2), 2);
	assert_int_equal(owed(&r, 0, 0, 1), 2); /* of an older table: which one is not known */
	r.held = false;
	rig_close(&r);
	rig_free(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(newest_first),   cmocka_unit_test(meanwhile),
	    cmocka_unit_test(never_finished), cmocka_unit_test(flushed),
	    cmocka_unit_test(bad_tables),     cmocka_unit_test(path_gone),
	    cmocka_unit_test(slow_table),     cmocka_unit_test(named),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
