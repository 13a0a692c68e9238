/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that fail: reads, writes, syncs, headers; one path of several, the only path; bits that
 * flip, writes that get lost or land elsewhere. Never a wrong byte, never a hang. Simulated
 * machine, one thread.
 *
 * test: limit=300
 */
#include "tests/unit/store_rig.h"

static void begin(struct rig *r, uint64_t seed)
{
	rig_init(r, sim_env_new(seed, NULL));
}

/* A turn's end for everything that is in flight, with a limit of time instead of a count of turns. */
static void pass_hung(struct rig *r, uint64_t ns)
{
	uint64_t end = sim_env_now(r->env) + ns;

	while (sim_env_now(r->env) < end)
		rig_turn(r);
}

static unsigned online(struct rig *r)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->s->npaths; i++)
		n += !atomic_load(&r->s->path[i].offline);
	return n;
}

static void unreadable(void **state)
{
	struct rig r;
	unsigned there = 0, again = 0;

	(void)state;
	begin(&r, 1);
	rig_open(&r);
	for (uint64_t k = 0; k < 600; k++)
		assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
	rig_settle(&r);
	ram_clear(r.s->ram);
	sim_disk_fault(r.env, "disk0", 9 * MIB, 4096, SIM_READ_ERROR);
	for (uint64_t k = 0; k < 600; k++)
		there += get_k(&r, k, k, 20000);
	assert_true(there < 600 && there > 300);
	assert_true(rig_counters(&r).read_errors >= 1);
	assert_int_equal(atomic_load(&r.s->quarantines), 1);
	rig_pass(&r, 20 * NS_PER_MS);
	/* what is lost can be set anew and deleted; it stays so */
	for (uint64_t k = 0; k < 600; k++) {
		if (!get_k(&r, k, k, 20000)) {
			assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
			if (k % 2)
				assert_int_equal(del_k(&r, k), STORE_OK);
			else
				again++;
		}
	}
	assert_true(again > 0);
	sim_disk_fault(r.env, "disk0", 9 * MIB, 4096, SIM_OK);
	/* laps: the quarantined segment comes back into use */
	for (uint64_t k = 1000; atomic_load(&r.s->path[0].seg_recycled) < 40; k++)
		assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
	for (uint32_t i = 0; i < r.s->path[0].nseg; i++)
		assert_false(atomic_load(&r.s->path[0].seg[i].quarantined));
	assert_int_equal(online(&r), 1);
	rig_close(&r);
	rig_free(&r);
}

/*
 * Values that cannot be read, then are deleted ("not found") or set to something else, do not come back when the
 * process dies and the disk reads well again.
 */
static void unreadable_then_deleted(void **state)
{
	(void)state;
	/* the reads fail, or bring other bytes; killed at once, after a while, or the power fails */
	for (unsigned how = 0; how < 6; how++) {
		struct rig r;
		unsigned lost = 0;
		uint64_t replaced = UINT64_MAX, deleted = UINT64_MAX;
		static uint8_t was[65536], is[65536];

		begin(&r, 100 + how);
		rig_open(&r);
		for (uint64_t k = 0; k < 600; k++)
			assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
		rig_settle(&r);
		ram_clear(r.s->ram);
		if (how % 2)
			sim_disk_fault(r.env, "disk0", 9 * MIB, 65536, SIM_READ_ERROR);
		sim_disk_peek(r.env, "disk0", 9 * MIB, was, sizeof was);
		for (unsigned i = 0; i < sizeof was; i++)
			is[i] = (uint8_t)~was[i];
		if (how % 2 == 0)
			sim_disk_poke(r.env, "disk0", 9 * MIB, is, sizeof is);
		for (uint64_t k = 0; k < 600 && lost < 2; k++) {
			if (get_k(&r, k, k, 20000))
				continue;
			/* at once, before the slow worker has done anything about it */
			if (lost++ == 0) {
				assert_int_equal(del_k(&r, k), STORE_MISS);
				deleted = k;
			} else {
				assert_int_equal(set_k(&r, k, k + 5000, 20000), STORE_OK);
				replaced = k;
			}
		}
		assert_int_equal(lost, 2);
		assert_true(atomic_load(&r.s->quarantines) >= 1);
		sim_disk_poke(r.env, "disk0", 9 * MIB, was, sizeof was);
		sim_disk_fault(r.env, "disk0", 0, 64 * MIB, SIM_OK);
		if (how / 2 > 0)
			rig_pass(&r, NS_PER_S);
		if (how / 2 == 1) { /* and when what has ended it is gone, too */
			assert_int_equal(del_k(&r, replaced), STORE_OK);
			for (uint64_t k = 6000; atomic_load(&r.s->path[0].seg_recycled) < 40; k++)
				assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
		}
		rig_crash(&r, how / 2 == 2);
		rig_open(&r);
		assert_false(get_k(&r, deleted, deleted, 20000));
		if (how / 2 != 1)
			assert_true(get_k(&r, replaced, replaced + 5000, 20000));
		else
			assert_false(get_k(&r, replaced, replaced, 20000));
		rig_close(&r);
		rig_free(&r);
	}
}

/* What is used and can be read survives the quarantine of its segment, and soon the segment is in use again. */
static void quarantine_keeps_used(void **state)
{
	struct rig r;
	struct path *p;
	unsigned there = 0;

	(void)state;
	begin(&r, 110);
	rig_open(&r);
	p = &r.s->path[0];
	for (uint64_t k = 0; k < 600; k++)
		assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
	rig_settle(&r);
	ram_clear(r.s->ram);
	for (uint64_t k = 0; k < 600; k++) /* all are used once */
		assert_true(get_k(&r, k, k, 20000));
	ram_clear(r.s->ram);
	sim_disk_fault(r.env, "disk0", 9 * MIB, 4096, SIM_READ_ERROR);
	for (uint64_t k = 0; k < 600; k++)
		there += get_k(&r, k, k, 20000);
	assert_true(there >= 598);
	assert_int_equal(atomic_load(&r.s->quarantines), 1);
	RIG_UNTIL(&r, atomic_load(&p->seg_recycled) == 1);
	assert_false(atomic_load(&p->seg[1].quarantined));
	assert_false(atomic_load(&r.s->full));
	there = 0;
	ram_clear(r.s->ram);
	for (uint64_t k = 0; k < 600; k++)
		there += get_k(&r, k, k, 20000);
	assert_true(there >= 598);
	rig_close(&r);
	rig_free(&r);
}

/* Tombstones in a segment of which parts cannot be read any more still hold after a restart. */
static void tombstones_of_bad_segments(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 3; how++) {
		struct rig r;
		uint32_t tseg;
		uint64_t off;

		begin(&r, 2);
		r.cfg.ram_bytes = 2 * MIB;
		rig_open(&r);
		/* values in several segments, their tombstones in the one that is open then */
		for (uint64_t k = 0; k < 1500; k++)
			assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
		for (uint64_t k = 0; k < 1500; k += 3)
			assert_int_equal(del_k(&r, k), STORE_OK);
		rig_settle(&r);
		tseg = r.s->path[0].open[STREAM_MAIN];
		assert_true(tseg != SEG_NONE);
		off = seg_offset(&r.s->path[0], tseg);
		for (uint64_t k = 2000; atomic_load(&r.s->path[0].seg[tseg].state) != SEG_SEALED;
		     k++)
			assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
		if (how == 0) /* a piece in the middle, the footer, or only what reads find bad */
			sim_disk_fault(r.env, "disk0", off + 2 * MIB, 4096, SIM_READ_ERROR);
		else if (how == 1)
			sim_disk_fault(r.env, "disk0", off + 4 * MIB - 4096, 4096, SIM_READ_ERROR);
		else
			segment_quarantine(r.s, &r.s->path[0], tseg, "the test says so");
		for (uint64_t k = 5000; atomic_load(&r.s->path[0].seg_recycled) < 60; k++)
			assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
		for (unsigned restart = 0; restart < 2; restart++) {
			for (uint64_t k = 0; k < 1500; k += 3)
				assert_false(get_k(&r, k, k, 20000));
			sim_disk_fault(r.env, "disk0", 0, 64 * MIB, SIM_OK);
			rig_crash(&r, false);
			rig_open(&r);
		}
		rig_close(&r);
		rig_free(&r);
	}
}

static void one_path_fails(void **state)
{
	struct rig r;
	unsigned there = 0;

	(void)state;
	begin(&r, 3);
	r.cfg.npaths = 2;
	r.cfg.item_max = 2 * MIB;
	rig_open(&r);
	for (uint64_t k = 0; k < 300; k++)
		assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
	rig_settle(&r);
	sim_disk_fault(r.env, "disk1", 0, 64 * MIB, SIM_WRITE_ERROR);
	for (uint64_t k = 300; k < 900; k++) {
		assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
		rig_turn(&r);
	}
	assert_int_equal(set_k(&r, 5000, 5000, 2 * MIB), STORE_OK);
	assert_int_equal(online(&r), 1);
	assert_true(atomic_load(&r.s->path[1].offline));
	assert_true(rig_counters(&r).write_errors >= 1);
	ram_clear(r.s->ram);
	for (uint64_t k = 0; k < 300; k++)
		assert_true(get_k(&r, k, k, 20000)); /* still read from both */
	for (uint64_t k = 300; k < 900; k++)
		there += get_k(&r, k, k, 20000);
	assert_int_equal(there, 600); /* what was on its way to it has gone to the other */
	assert_int_equal(rig_counters(&r).values_lost, 0);
	assert_true(rig_counters(&r).values_rescued > 0);
	for (uint64_t k = 0; k < 900; k++)
		(void)del_k(&r, k);
	for (uint64_t k = 0; k < 900; k++)
		assert_false(get_k(&r, k, k, 20000));
	for (uint64_t k = 10000; atomic_load(&r.s->path[0].seg_recycled) < 20; k++)
		assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
	rig_close(&r);
	rig_free(&r);
}

/* What was answered, and can be written nowhere: it is counted, to the last value. */
static void lost_are_counted(void **state)
{
	struct rig r;
	unsigned there = 0;

	(void)state;
	begin(&r, 15);
	rig_open(&r);
	for (uint64_t k = 0; k < 300; k++)
		assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
	rig_settle(&r);
	assert_int_equal(rig_counters(&r).values_lost, 0);
	sim_disk_fault(r.env, "disk0", 0, 64 * MIB, SIM_WRITE_ERROR);
	for (uint64_t k = 300; k < 317; k++)
		assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
	for (uint64_t k = 300; k < 304; k++) /* of these nothing is lost */
		assert_int_equal(del_k(&r, k), STORE_OK);
	rig_pass(&r, NS_PER_S);
	assert_int_equal(online(&r), 0);
	assert_int_equal(rig_counters(&r).values_lost, 13);
	ram_clear(r.s->ram);
	for (uint64_t k = 0; k < 317; k++)
		there += get_k(&r, k, k, 20000);
	assert_int_equal(there, 300);
	rig_close(&r);
	rig_free(&r);
}

/* Every fifth write fails once, in part perhaps: it is tried again, where it belongs. */
static void fail_fifth(void *arg, struct io *io, const struct io_op *op, struct sim_fate *fate)
{
	unsigned *n = arg;

	(void)io;
	if (op->kind == IO_WRITE && op->u.disk.len < MIB / 2 && ++*n % 5 == 0) {
		fate->what = SIM_FATE_ERROR;
		fate->err = -EIO;
	}
}

static void writes_tried_again(void **state)
{
	unsigned writes = 0;
	struct rig r;

	(void)state;
	begin(&r, 14);
	rig_open(&r);
	rig_settle(&r); /* headers are not tried again */
	sim_env_on_submit(r.env, fail_fifth, &writes);
	for (uint64_t k = 0; k < 200; k++) {
		assert_int_equal(set_k(&r, k, k, 5000), STORE_OK);
		if (k % 10 == 0)
			rig_pass(&r, 200 * NS_PER_MS); /* a block of its own */
	}
	rig_settle(&r);
	sim_env_on_submit(r.env, NULL, NULL);
	assert_true(writes >= 20);
	assert_true(rig_counters(&r).write_errors >= 3);
	ram_clear(r.s->ram);
	for (uint64_t k = 0; k < 200; k++)
		assert_true(get_k(&r, k, k, 5000));
	rig_close(&r);
	rig_free(&r);
}

static void only_path_fails(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 5; how++) {
		struct rig r;
		unsigned refused = 0;

		begin(&r, 4 + how);
		r.cfg.item_max = 2 * MIB;
		rig_open(&r);
		for (uint64_t k = 0; k < 300; k++)
			assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
		rig_settle(&r);
		ram_clear(r.s->ram);
		if (how == 0)
			sim_disk_fault(r.env, "disk0", 0, 64 * MIB, SIM_WRITE_ERROR);
		else if (how == 1)
			sim_env_config(r.env)->sync_error = 1000000;
		else if (how == 2) /* headers only: segments can no longer be prepared */
			for (uint32_t i = 0; i < 15; i++)
				sim_disk_fault(r.env, "disk0", (i + 1) * 4ull * MIB, 4096,
					       SIM_WRITE_ERROR);
		else if (how == 3) /* footers: nothing can be recycled */
			for (uint32_t i = 0; i < 15; i++)
				sim_disk_fault(r.env, "disk0", (i + 2) * 4ull * MIB - 4096, 4096,
					       SIM_READ_ERROR);
		else
			sim_env_config(r.env)->write_error = 1000000;
		for (uint64_t k = 1000; k < 5000 && refused < 10; k++) {
			enum store_status st = set_k(&r, k, k, k % 50 == 0 ? 2 * MIB : 20000);

			assert_true(st == STORE_OK || st == STORE_UNAVAILABLE);
			refused += st == STORE_UNAVAILABLE;
		}
		assert_int_equal(refused, 10);
		assert_int_equal(online(&r), 0);
		for (uint64_t k = 0; k < 300; k++)
			assert_true(get_k(&r, k, k, 20000));
		/* nobody could remember it */
		assert_int_equal(del_k(&r, 7), STORE_UNAVAILABLE);
		assert_int_equal(rig_flush_all(&r, 0), STORE_UNAVAILABLE);
		assert_true(get_k(&r, 7, 7, 20000));
		rig_close(&r); /* and it stops */
		sim_env_config(r.env)->sync_error = sim_env_config(r.env)->write_error = 0;
		sim_disk_fault(r.env, "disk0", 0, 64 * MIB, SIM_OK);
		rig_open(&r);
		for (uint64_t k = 0; k < 300 && how != 3; k++) /* there it is full, and recycles */
			assert_true(get_k(&r, k, k, 20000));
		assert_int_equal(set_k(&r, 9000, 9000, 100), STORE_OK);
		rig_close(&r);
		rig_free(&r);
	}
}

/*
 * Deletes of values on a path that takes no writes hold over a restart: the path starts empty. Without
 * deletes it starts with all its values.
 */
static void deletes_without_path(void **state)
{
	enum { KEYS = 300 };

	(void)state;
	/* nothing is deleted; deletes; flush_all; the process is killed, or the power fails */
	for (unsigned how = 0; how < 8; how++) {
		bool deletes = how % 4 == 1, flushes = how % 4 == 2, power = how >= 4;
		struct rig r;
		unsigned there = 0, gone = 0;
		uint64_t epoch;

		begin(&r, 40 + how);
		r.cfg.npaths = 3;
		r.cfg.sync_ns = 10 * NS_PER_S; /* so that nothing but the raise itself is synced */
		rig_open(&r);
		for (uint64_t k = 0; k < KEYS; k++)
			assert_int_equal(set_k(&r, k, k, 40000), STORE_OK);
		rig_settle(&r);
		ram_clear(r.s->ram);
		path_fail(&r.s->path[1], "the test says so", -EIO);
		assert_int_equal(atomic_load(&r.s->epoch), 0);
		if (how % 4 == 3)
			sim_disk_fault(r.env, "disk1", 0, 64 * MIB, SIM_DEAD);
		if (deletes)
			for (uint64_t k = 0; k < KEYS; k += 2)
				assert_int_equal(del_k(&r, k), STORE_OK);
		if (flushes)
			assert_int_equal(rig_flush_all(&r, 0), STORE_OK);
		epoch = atomic_load(&r.s->epoch);
		assert_int_equal(epoch, deletes || flushes ? 1 : 0);
		for (uint64_t k = 0; k < KEYS; k++)
			if (how % 4 != 3)
				assert_int_equal(get_k(&r, k, k, 40000),
						 !flushes && !(deletes && k % 2 == 0));
		if (power) /* the tombstones on the other paths are given time, the epoch was not */
			rig_pass(&r, 12 * NS_PER_S);
		rig_crash(&r, power);
		sim_disk_fault(r.env, "disk1", 0, 64 * MIB, SIM_OK);
		for (unsigned restart = 0; restart < 2; restart++) {
			rig_open(&r);
			assert_int_equal(atomic_load(&r.s->epoch), epoch);
			there = gone = 0;
			for (uint64_t k = 0; k < KEYS; k++) {
				bool is = get_k(&r, k, k, 40000);

				assert_false(is && (flushes || (deletes && k % 2 == 0)));
				there += is;
				gone += !is;
			}
			if (!deletes && !flushes)
				assert_int_equal(there, KEYS);
			else if (deletes) /* what the two other paths have */
				assert_true(there > KEYS / 2 / 2 && there < KEYS / 2);
			assert_int_equal(online(&r), 3);
			rig_close(&r);
		}
		rig_free(&r);
	}
}

/* Answered deletes that never reach a failing path: its buffer is lost, or its sync fails. */
static void deletes_on_their_way(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 2; how++) {
		struct rig r;

		begin(&r, 60 + how);
		r.cfg.npaths = 2;
		rig_open(&r);
		for (uint64_t k = 0; k < 300; k++)
			assert_int_equal(set_k(&r, k, k, 40000), STORE_OK);
		rig_settle(&r);
		ram_clear(r.s->ram);
		if (how == 0)
			sim_disk_fault(r.env, "disk0", 0, 64 * MIB, SIM_WRITE_ERROR);
		for (uint64_t k = 0; k < 300; k++)
			assert_int_equal(del_k(&r, k), STORE_OK);
		if (how == 1)
			path_fail(&r.s->path[0], "sync", -EIO);
		RIG_UNTIL(&r, atomic_load(&r.s->epoch) == 1);
		assert_true(atomic_load(&r.s->path[0].offline));
		sim_disk_fault(r.env, "disk0", 0, 64 * MIB, SIM_OK);
		rig_crash(&r, how == 1);
		rig_open(&r);
		for (uint64_t k = 0; how == 0 && k < 300; k++)
			assert_false(get_k(&r, k, k, 40000));
		for (uint32_t i = 0; i < r.s->path[0].nseg; i++)
			assert_int_equal(r.s->path[0].seg[i].data_bytes, 0);
		rig_close(&r);
		rig_free(&r);
	}
}

/*
 * A device that is gone: what lies there is a miss without a read, what is set anew stays, and what was there
 * does not come to light again.
 */
static void device_gone(void **state)
{
	struct store_counters c;
	struct rig r;
	uint64_t id[902] = {0};
	unsigned missed = 0;
	uint64_t reads;

	(void)state;
	begin(&r, 70);
	r.cfg.npaths = 2;
	r.cfg.item_max = 2 * MIB;
	rig_open(&r);
	for (uint64_t k = 0; k < 600; k++)
		assert_int_equal(set_k(&r, k, k, 20000), STORE_OK);
	assert_int_equal(set_k(&r, 900, 900, 2 * MIB), STORE_OK);
	assert_int_equal(set_k(&r, 901, 901, 2 * MIB), STORE_OK);
	rig_settle(&r);
	ram_clear(r.s->ram);
	sim_disk_fault(r.env, "disk0", 0, 64 * MIB, SIM_DEAD);
	for (uint64_t k = 0; k < 600; k++) {
		missed += !get_k(&r, k, k, 20000);
		rig_turn(&r);
	}
	assert_true(missed > 200 && missed < 400);
	assert_true(atomic_load(&r.s->path[0].gone));
	assert_false(atomic_load(&r.s->path[1].offline));
	c = rig_counters(&r);
	assert_true(c.read_errors >= 1 && c.read_errors < 20);
	reads = c.disk_reads;
	ram_clear(r.s->ram);
	for (uint64_t k = 0; k < 600; k++)
		(void)get_k(&r, k, k, 20000);
	c = rig_counters(&r);
	assert_int_equal(c.disk_reads - reads, 600 - missed);
	assert_true(c.offline_misses >= missed);
	/* other bytes than those that cannot be seen: those are ended */
	for (uint64_t k = 0; k < 600; k++)
		if (!get_k(&r, k, k, 20000)) {
			id[k] = 10000;
			assert_int_equal(set_k(&r, k, k + 10000, 20000), STORE_OK);
		}
	assert_int_equal(atomic_load(&r.s->epoch), 1);
	for (uint64_t k = 900; k < 902; k++)
		if (!get_k(&r, k, k, 2 * MIB))
			id[k] = 10000, assert_int_equal(set_k(&r, k, k + 10000, 2 * MIB), STORE_OK);
	for (uint64_t k = 0; k < 600; k++)
		assert_true(get_k(&r, k, k + id[k], 20000));
	rig_crash(&r, false);
	sim_disk_fault(r.env, "disk0", 0, 64 * MIB, SIM_OK);
	rig_open(&r);
	for (uint64_t k = 0; k < 600; k++)
		assert_true(get_k(&r, k, k + id[k], 20000));
	for (uint64_t k = 900; k < 902; k++)
		assert_true(get_k(&r, k, k + id[k], 2 * MIB));
	rig_close(&r);
	rig_free(&r);
}

/* Brings path n back; what came of it is in text. */
static enum store_status path_back(struct rig *r, unsigned n, char text[static 200])
{
	struct rop *o = calloc(1, sizeof *o);
	enum store_status st;

	store_op_init(&o->op, r->w[0], "", 0, rop_done, o);
	if (!store_path_online(&o->op, n))
		RIG_UNTIL(r, o->done);
	st = o->op.status;
	snprintf(text, 200, "%.*s", (int)o->op.value_n, (const char *)o->op.value);
	store_op_end(&o->op);
	free(o);
	return st;
}

enum { BACK_KEYS = 400 };

static unsigned there(struct rig *r, uint64_t step, uint64_t first)
{
	unsigned n = 0;

	for (uint64_t k = first; k < BACK_KEYS; k += step)
		n += get_k(r, k, k, 30000);
	return n;
}

/*
 * A path that failed is brought back: with its values if nothing was deleted meanwhile, else empty, and deleted
 * keys stay away, also after a restart. It takes writes again, for laps.
 */
static void brought_back(void **state)
{
	(void)state;
	/* read-only, offline, with a new descriptor; nothing happens meanwhile, or deletes, or sets */
	for (unsigned how = 0; how < 9; how++) {
		bool dead = how % 3 != 0, replaced = how % 3 == 2, deletes = how / 3 == 1;
		bool sets = how / 3 == 2;
		struct rig r;
		char text[200];
		uint64_t recycled;

		begin(&r, 80 + how);
		r.cfg.npaths = 2;
		r.cfg.ram_bytes = 2 * MIB;
		rig_open(&r);
		for (uint64_t k = 0; k < BACK_KEYS; k++)
			assert_int_equal(set_k(&r, k, k, 30000), STORE_OK);
		rig_settle(&r);
		rig_pass(&r, 300 * NS_PER_MS);
		assert_int_equal(path_back(&r, 1, text), STORE_OK);
		assert_string_equal(text, "already online");
		assert_int_equal(path_back(&r, 2, text), STORE_MISS);
		ram_clear(r.s->ram);
		sim_disk_fault(r.env, "disk1", 0, 64 * MIB, dead ? SIM_DEAD : SIM_WRITE_ERROR);
		path_fail(&r.s->path[1], "the test says so", -EIO);
		if (dead)
			RIG_UNTIL(&r, atomic_load(&r.s->path[1].gone));
		assert_int_equal(path_back(&r, 1, text), STORE_UNAVAILABLE);
		assert_true(atomic_load(&r.s->path[1].offline));
		assert_int_equal(atomic_load(&r.s->path[1].gone), dead);
		if (!dead)
			assert_int_equal(there(&r, 1, 0), BACK_KEYS);
		if (deletes)
			for (uint64_t k = 0; k < BACK_KEYS; k += 4)
				(void)del_k(&r, k);
		if (sets)
			for (uint64_t k = 1000; k < 1600; k++)
				assert_int_equal(set_k(&r, k, k, 30000), STORE_OK);
		if (replaced && r.s->path[1].file != NULL)
			r.engine->file_shut(r.s->path[1].file);
		sim_disk_fault(r.env, "disk1", 0, 64 * MIB, SIM_OK);
		ram_clear(r.s->ram);
		assert_int_equal(path_back(&r, 1, text), STORE_OK);
		assert_int_equal(online(&r), 2);
		if (deletes) {
			assert_string_equal(text, "online, and empty: it has missed deletes");
			assert_int_equal(there(&r, 4, 0), 0);
			assert_true(there(&r, 1, 0) > 100);
		} else {
			/* tags of new keys may look like those of hidden ones: then it is empty */
			if (!sets || !dead)
				assert_string_equal(text, "online with its values");
			if (!sets)
				assert_int_equal(there(&r, 1, 0), BACK_KEYS);
		}
		/* it is used again, and turns over */
		recycled = atomic_load(&r.s->path[1].seg_recycled);
		for (uint64_t k = 10000; atomic_load(&r.s->path[1].seg_recycled) < recycled + 20;
		     k++)
			assert_int_equal(set_k(&r, k, k, 30000), STORE_OK);
		assert_int_equal(online(&r), 2);
		rig_crash(&r, how % 2 == 0);
		rig_open(&r);
		if (deletes)
			assert_int_equal(there(&r, 4, 0), 0);
		rig_close(&r);
		rig_free(&r);
	}
}

/* Under load: the path fails and comes back again and again; no wrong byte, no deleted key, no leak. */
static void back_under_load(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		enum { KEYS = 500 };
		uint64_t id[KEYS] = {0}, ids = 0, hits = 0, backs = 0;
		bool may_be[KEYS] = {0}, bad = false;
		char text[200];
		struct rig r;

		begin(&r, 200 + seed);
		r.cfg.npaths = 2;
		r.cfg.workers = 2;
		r.cfg.item_max = 2 * MIB;
		r.cfg.ram_bytes = 2 * MIB;
		rig_open(&r);
		for (unsigned i = 0; i < 6000; i++) {
			uint64_t k = sim_env_random(r.env, KEYS),
				 dice = sim_env_random(r.env, 1000);
			unsigned w = (unsigned)sim_env_random(r.env, 2);
			char key[32];
			size_t n = rig_key(key, k);

			if (dice < 400) {
				uint64_t new = ++ids;
				uint32_t len = k % 50 == 0 ? 2 * MIB : 1000 + (uint32_t)k * 60;
				enum store_status st = rig_put(&r, w, STORE_SET, key, n,
							       (uint32_t) new, new, len, NULL);

				if (st == STORE_OK) {
					id[k] = new;
					may_be[k] = true;
				} else {
					assert_true(st == STORE_CONFLICT ||
						    st == STORE_UNAVAILABLE);
				}
			} else if (dice < 850) {
				struct got g = rig_fetch(&r, w, key, n, false);

				if (g.status == STORE_OK) {
					assert_true(may_be[k]);
					assert_int_equal(g.flags, id[k]);
					assert_true(rig_is(g.value, g.len, id[k]));
					hits++;
				}
				rig_drop(&g);
			} else if (dice < 950) {
				enum store_status st = rig_remove(&r, w, key, n);

				assert_true(st == STORE_OK || st == STORE_MISS);
				/* of a lost value nobody knows that it may come back */
				if (st == STORE_OK)
					may_be[k] = false;
			} else if (dice < 960) {
				const char *d = sim_env_random(r.env, 2) == 0 ? "disk0" : "disk1";

				if (!bad)
					sim_disk_fault(r.env, d, 0, 64 * MIB,
						       sim_env_random(r.env, 2) == 0
							   ? SIM_DEAD
							   : SIM_WRITE_ERROR);
				bad = true;
			} else if (dice < 970) {
				bad = false;
				sim_disk_fault(r.env, "disk0", 0, 64 * MIB, SIM_OK);
				sim_disk_fault(r.env, "disk1", 0, 64 * MIB, SIM_OK);
				for (unsigned p = 0; p < 2; p++)
					if (atomic_load(&r.s->path[p].offline))
						backs += path_back(&r, p, text) == STORE_OK;
				assert_int_equal(online(&r), 2);
			}
		}
		assert_true(hits > 500);
		assert_true(backs > 5);
		sim_disk_fault(r.env, "disk0", 0, 64 * MIB, SIM_OK);
		sim_disk_fault(r.env, "disk1", 0, 64 * MIB, SIM_OK);
		if (seed % 2)
			rig_crash(&r, false);
		else
			rig_close(&r);
		rig_open(&r);
		for (uint64_t k = 0; k < KEYS; k++) {
			char key[32];
			struct got g = rig_fetch(&r, 0, key, rig_key(key, k), false);

			if (g.status == STORE_OK) {
				if (!may_be[k] || g.flags != id[k])
					fail_msg(
					    "seed %" PRIu64 ": key %" PRIu64
					    ": deleted, but value %u is there; the last was %" PRIu64,
					    seed, k, g.flags, id[k]);
				assert_int_equal(g.flags, id[k]);
			}
			rig_drop(&g);
		}
		rig_close(&r);
		rig_free(&r);
	}
}

/* One in a few hundred operations goes wrong in some way, for several laps and restarts. */
static void everything_at_once(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 6; seed++) {
		enum { KEYS = 700 };
		uint64_t id[KEYS] = {0}, ids = 0, hits = 0, bad = 0;
		uint32_t len[KEYS] = {0};
		struct sim_config *sc;
		struct rig r;

		begin(&r, 100 + seed);
		r.cfg.npaths = 2;
		r.cfg.item_max = 2 * MIB;
		r.cfg.ram_bytes = 2 * MIB;
		rig_open(&r);
		sc = sim_env_config(r.env);
		sc->read_error = 2000;
		sc->read_flip = 3000;
		sc->write_flip = seed % 2 ? 3000 : 0;
		sc->lost_write = seed % 3 == 0 ? 3000 : 0;
		sc->misdirect = seed % 3 == 1 ? 1000 : 0;
		sc->short_io = sc->again = 10000;
		for (unsigned i = 0; i < 4000 && online(&r) > 0; i++) {
			uint64_t k = sim_env_random(r.env, KEYS), dice = sim_env_random(r.env, 100);
			char key[32];
			size_t n = rig_key(key, k);

			if (dice < 40) {
				uint64_t new = ++ids;
				uint32_t l = (uint32_t)sim_env_random(
				    r.env, sim_env_random(r.env, 50) == 0 ? 2 * MIB : 30000);
				enum store_status st =
				    rig_put(&r, 0, STORE_SET, key, n, (uint32_t) new, new, l, NULL);

				if (st == STORE_OK) {
					id[k] = new;
					len[k] = l;
				} else {
					assert_true(st == STORE_CONFLICT ||
						    st == STORE_UNAVAILABLE);
				}
			} else if (dice < 90) {
				struct got g = rig_fetch(&r, 0, key, n, false);

				if (g.status == STORE_OK) {
					assert_int_equal(g.flags, id[k]);
					assert_int_equal(g.len, len[k]);
					assert_true(rig_is(g.value, g.len, id[k]));
					hits++;
				}
				rig_drop(&g);
			} else {
				(void)rig_remove(&r, 0, key, n);
			}
		}
		bad = rig_counters(&r).corrupt_reads + rig_counters(&r).read_errors;
		rig_close(&r);
		*sc = (struct sim_config){0};
		rig_open(&r);
		for (uint64_t k = 0; k < KEYS; k++) {
			char key[32];
			struct got g = rig_fetch(&r, 0, key, rig_key(key, k), false);

			/* lost writes may bring an older one back, but never one that never was */
			if (g.status == STORE_OK) {
				assert_true(g.flags <= ids);
				assert_true(rig_is(g.value, g.len, g.flags));
			}
			rig_drop(&g);
		}
		assert_true(hits > 100);
		assert_true(bad > 0);
		rig_close(&r);
		rig_free(&r);
	}
}

/* Many reads of large values with little memory: each waits its turn, in order. */
static void queue(void **state)
{
	enum { N = 60 };
	struct rop *o = calloc(N, sizeof *o);
	struct rig r;
	unsigned next = 0, out_of_order = 0;
	bool seen[N] = {0};

	(void)state;
	begin(&r, 8);
	r.cfg.buffer_bytes = 4 * MIB;
	r.cfg.ram_bytes = 2 * MIB;
	rig_open(&r);
	for (uint64_t k = 0; k < N; k++)
		assert_int_equal(set_k(&r, k, k, 500000), STORE_OK);
	rig_settle(&r);
	ram_clear(r.s->ram);
	for (unsigned i = 0; i < N; i++) {
		char key[32];

		store_op_init(&o[i].op, r.w[0], key, (uint8_t)rig_key(key, i), rop_done, &o[i]);
		o[i].done = store_get(&o[i].op, false);
	}
	assert_true(r.w[0]->charged <= r.w[0]->budget);
	for (unsigned turns = 0; next < N; turns++) {
		assert_true(turns < RIG_TURNS);
		assert_true(r.w[0]->charged <= r.w[0]->budget);
		rig_turn(&r);
		for (unsigned i = 0; i < N; i++)
			if (o[i].done && !seen[i]) {
				assert_int_equal(o[i].op.status, STORE_OK);
				assert_true(rig_is(o[i].op.value, o[i].op.value_n, i));
				out_of_order +=
				    i >
				    next + 12; /* of those under way together, any may be first */
				store_op_end(&o[i].op);
				seen[i] = true;
				next++;
			}
	}
	assert_int_equal(out_of_order, 0);
	assert_true(rig_counters(&r).buffer_waits > 0);
	rig_close(&r);
	rig_free(&r);
	free(o);
}

static bool lies_on(struct rig *r, uint64_t k, unsigned path)
{
	struct index_probe probe;
	struct store_op op;
	char key[32];
	uint32_t seg, at;

	store_op_init(&op, r->w[0], key, (uint8_t)rig_key(key, k), rop_done, NULL);
	index_find(r->s->index, op.hash, &probe);
	return probe.n == 1 && loc_path(r->s, probe.ref[0].loc, &seg, &at) == &r->s->path[path];
}

static void fail_late(void *arg, struct io *io, const struct io_op *op, struct sim_fate *fate)
{
	bool *met = arg;

	(void)io;
	if (*met || op->kind != IO_READ || op->u.disk.len < 20000)
		return;
	*met = true;
	fate->what = SIM_FATE_ERROR;
	fate->err = -EIO;
	fate->delay_ns = 50 * NS_PER_MS;
}

/*
 * A read that fails when its path is already known to be gone is no reason to empty its segment when the path
 * is back.
 */
static void error_after_gone(void **state)
{
	struct rop *o = calloc(1, sizeof *o);
	uint64_t on0[BACK_KEYS], n = 0;
	bool met = false;
	struct rig r;
	char key[32], text[200];

	(void)state;
	begin(&r, 93);
	r.cfg.npaths = 2;
	rig_open(&r);
	for (uint64_t k = 0; k < BACK_KEYS; k++)
		assert_int_equal(set_k(&r, k, k, 30000), STORE_OK);
	rig_settle(&r);
	ram_clear(r.s->ram);
	for (uint64_t k = 0; k < BACK_KEYS; k++)
		if (lies_on(&r, k, 0))
			on0[n++] = k;
	sim_env_on_submit(r.env, fail_late, &met);
	store_op_init(&o->op, r.w[0], key, (uint8_t)rig_key(key, on0[0]), rop_done, o);
	o->done = store_get(&o->op, false);
	assert_true(met && !o->done);
	sim_disk_fault(r.env, "disk0", 0, 64 * MIB, SIM_DEAD);
	assert_false(get_k(&r, on0[1], on0[1], 30000));
	RIG_UNTIL(&r, atomic_load(&r.s->path[0].gone));
	assert_false(o->done);
	RIG_UNTIL(&r, o->done);
	assert_int_equal(o->op.status, STORE_MISS);
	store_op_end(&o->op);
	sim_env_on_submit(r.env, NULL, NULL);
	sim_disk_fault(r.env, "disk0", 0, 64 * MIB, SIM_OK);
	assert_int_equal(path_back(&r, 0, text), STORE_OK);
	assert_string_equal(text, "online with its values");
	rig_pass(&r, NS_PER_S);
	for (uint64_t i = 2; i < n; i++)
		assert_true(get_k(&r, on0[i], on0[i], 30000));
	assert_int_equal(atomic_load(&r.s->path[0].seg_recycled), 0);
	rig_close(&r);
	rig_free(&r);
	free(o);
}

/* Another worker cannot read key k, which lies on path 0, while the slow worker looks at path 1. */
struct second_error {
	struct rig *r;
	uint64_t k;
	bool met;
};

static void second_error(void *arg, struct io *io, const struct io_op *op, struct sim_fate *fate)
{
	struct second_error *e = arg;
	struct store *s = e->r->s;
	struct index_probe probe;
	struct store_op o;
	uint32_t seg, at;
	char key[32];

	(void)fate;
	if (e->met || io != e->r->io[e->r->cfg.workers] || op->kind != IO_READ ||
	    op->u.disk.file != s->path[1].file)
		return;
	e->met = true;
	sim_disk_fault(e->r->env, "disk0", 0, 64 * MIB, SIM_DEAD);
	store_op_init(&o, e->r->w[0], key, (uint8_t)rig_key(key, e->k), rop_done, NULL);
	index_find(s->index, o.hash, &probe);
	assert_int_equal(probe.n, 1);
	assert_ptr_equal(loc_path(s, probe.ref[0].loc, &seg, &at), &s->path[0]);
	segment_quarantine(s, &s->path[0], seg, "the test says so");
	slot_unreadable(s, o.hash, probe.ref[0].loc);
}

/* Two paths are lost at once: what could not be read of them is no reason for either to come back empty. */
static void two_gone(void **state)
{
	struct second_error e = {.met = false};
	uint64_t k = 0, n = 0;
	struct rig r;
	char text[200];

	(void)state;
	begin(&r, 94);
	r.cfg.npaths = 2;
	rig_open(&r);
	for (uint64_t i = 0; i < BACK_KEYS; i++)
		assert_int_equal(set_k(&r, i, i, 30000), STORE_OK);
	rig_settle(&r);
	rig_pass(&r, NS_PER_S);
	ram_clear(r.s->ram);
	e.r = &r;
	while (!lies_on(&r, e.k, 0))
		e.k++;
	while (!lies_on(&r, k, 1))
		k++;
	sim_env_on_submit(r.env, second_error, &e);
	sim_disk_fault(r.env, "disk1", 0, 64 * MIB, SIM_DEAD);
	assert_false(get_k(&r, k, k, 30000));
	RIG_UNTIL(&r, atomic_load(&r.s->path[0].gone) && atomic_load(&r.s->path[1].gone));
	assert_true(e.met);
	sim_env_on_submit(r.env, NULL, NULL);
	assert_int_equal(set_k(&r, 1000, 1000, 30000), STORE_UNAVAILABLE);
	for (unsigned i = 0; i < 2; i++) {
		sim_disk_fault(r.env, i == 0 ? "disk0" : "disk1", 0, 64 * MIB, SIM_OK);
		assert_int_equal(path_back(&r, i, text), STORE_OK);
		assert_string_equal(text, "online with its values");
	}
	for (uint64_t i = 0; i < BACK_KEYS; i++)
		n += get_k(&r, i, i, 30000);
	assert_int_equal(n, BACK_KEYS - 2);
	rig_close(&r);
	rig_free(&r);
}

enum { SLOW_KEYS = 300 };

static void slow_begin(struct rig *r, uint64_t seed, unsigned paths)
{
	begin(r, seed);
	r->cfg.npaths = paths;
	r->cfg.item_max = 2 * MIB;
	r->cfg.io_timeout_ns = 200 * NS_PER_MS;
	rig_open(r);
	for (uint64_t k = 0; k < SLOW_KEYS; k++)
		assert_int_equal(set_k(r, k, k, 40000), STORE_OK);
	rig_settle(r);
	ram_clear(r->s->ram);
}

/* Reads that take too long are misses, their memory and pins stay; the path comes back with its values. */
static void slow_reads(void **state)
{
	struct rig r;
	uint64_t began, k, on0 = 0;
	unsigned there = 0, pins = 0;

	(void)state;
	slow_begin(&r, 90, 2);
	sim_disk_hang(r.env, "disk0", true);
	for (k = 0; on0 < PATH_LATE_MAX; k++) {
		bool slow = lies_on(&r, k, 0);

		began = sim_env_now(r.env);
		assert_int_equal(get_k(&r, k, k, 40000), !slow);
		if (slow) {
			assert_true(sim_env_now(r.env) - began >= r.cfg.io_timeout_ns);
			assert_true(sim_env_now(r.env) - began < 2 * r.cfg.io_timeout_ns);
			on0++;
			assert_int_equal(atomic_load(&r.s->path[0].gone), on0 == PATH_LATE_MAX);
			assert_int_equal(store_late(r.s), on0);
		}
	}
	assert_int_equal(rig_counters(&r).io_timeouts, PATH_LATE_MAX);
	for (uint32_t i = 0; i < r.s->path[0].nseg; i++)
		pins += atomic_load(&r.s->path[0].seg[i].pins);
	assert_int_equal(pins, PATH_LATE_MAX);
	assert_int_equal(r.w[0]->charged, 0);
	assert_int_equal(r.w[0]->in_flight, PATH_LATE_MAX);
	/* misses at once; the other path and RAM serve; sets go to the other path */
	began = sim_env_now(r.env);
	for (k = 0; k < SLOW_KEYS; k++)
		if (lies_on(&r, k, 0))
			assert_false(get_k(&r, k, k, 40000));
		else
			assert_true(get_k(&r, k, k, 40000) && get_k(&r, k, k, 40000));
	assert_true(sim_env_now(r.env) - began < r.cfg.io_timeout_ns);
	for (k = 1000; k < 1100; k++)
		assert_int_equal(set_k(&r, k, k, 40000), STORE_OK);
	assert_false(atomic_load(&r.s->path[1].offline));
	/* it cannot be brought back before the device has given back what it has */
	store_paths_online(r.s);
	pass_hung(&r, 100 * NS_PER_MS);
	assert_true(atomic_load(&r.s->path[0].gone));
	sim_disk_hang(r.env, "disk0", false);
	RIG_UNTIL(&r, !atomic_load(&r.s->path[0].offline));
	assert_int_equal(store_late(r.s), 0);
	ram_clear(r.s->ram);
	for (k = 0; k < SLOW_KEYS; k++)
		there += get_k(&r, k, k, 40000);
	assert_int_equal(there, SLOW_KEYS);
	assert_int_equal(r.s->path[0].seg[0].quarantined, false);
	rig_close(&r);
	rig_free(&r);
}

/* A few late reads do not take the path away, nor do they let their segments be recycled. */
static void slow_reads_pin(void **state)
{
	struct rig r;
	struct path *p;
	struct segment *g = NULL;
	uint64_t generation, k;

	(void)state;
	slow_begin(&r, 91, 1);
	p = &r.s->path[0];
	for (k = 1000; atomic_load(&p->seg_recycled) < 3; k++)
		assert_int_equal(set_k(&r, k, k, 40000), STORE_OK);
	rig_settle(&r);
	ram_clear(r.s->ram);
	for (k--; !lies_on(&r, k, 0); k--)
		;
	rig_pass(&r, NS_PER_S); /* nothing is left to be written */
	sim_disk_hang(r.env, "disk0", true);
	assert_false(get_k(&r, k, k, 40000));
	for (uint32_t i = 0; i < p->nseg; i++)
		if (atomic_load(&p->seg[i].pins) > 0)
			g = &p->seg[i];
	assert_non_null(g);
	assert_false(atomic_load(&p->gone));
	generation = atomic_load(&g->generation);
	atomic_fetch_add(&g->pins, 1); /* as if another were late after the device came back */
	sim_disk_hang(r.env, "disk0", false);
	for (k = 5000; atomic_load(&p->seg_recycled) < 40; k++)
		assert_int_equal(set_k(&r, k, k, 40000), STORE_OK);
	assert_int_equal(atomic_load(&g->generation), generation);
	assert_int_equal(atomic_load(&g->state), SEG_RECYCLING);
	assert_true(p->parked);
	segment_unpin(r.s, g);
	RIG_UNTIL(&r, atomic_load(&g->generation) > generation);
	rig_pass(&r, 10 * NS_PER_MS);
	assert_false(p->parked);
	rig_close(&r);
	rig_free(&r);
}

/* Sets and deletes of keys that lie on a device that hangs are answered, and what they say holds. */
static void slow_writers(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 6; how++) {
		bool crash = how >= 3;
		struct rig r;
		uint64_t k = 0, other = 0;

		slow_begin(&r, 92 + how, 2);
		while (!lies_on(&r, k, 0))
			k++;
		while (lies_on(&r, other, 0))
			other++;
		sim_disk_hang(r.env, "disk0", true);
		if (how % 3 == 0)
			assert_int_equal(set_k(&r, k, 7777, 30000), STORE_OK);
		else if (how % 3 == 1)
			assert_true(del_k(&r, k) != STORE_UNAVAILABLE);
		else /* a write buffer, and the sync of the slow worker */
			for (uint64_t n = 1000; n < 1200; n++) {
				assert_int_equal(set_k(&r, n, n, 40000), STORE_OK);
				rig_turn(&r);
			}
		pass_hung(&r, 3 * r.cfg.io_timeout_ns);
		assert_true(atomic_load(&r.s->path[0].gone));
		assert_false(atomic_load(&r.s->path[1].offline));
		assert_true(store_late(r.s) > 0);
		assert_true(get_k(&r, other, other, 40000));
		if (how % 3 != 2)
			assert_int_equal(atomic_load(&r.s->epoch), 1);
		if (crash) {
			sim_disk_hang(r.env, "disk0", false);
			rig_crash(&r, false);
			rig_open(&r);
		} else {
			sim_disk_hang(r.env, "disk0", false);
			RIG_UNTIL(&r, !atomic_load(&r.s->path[0].offline));
			ram_clear(r.s->ram);
		}
		if (how % 3 == 0)
			assert_true(get_k(&r, k, 7777, 30000));
		else if (how % 3 == 1)
			assert_false(get_k(&r, k, k, 40000));
		else
			for (uint64_t n = 1000; n < 1200; n++)
				assert_true(get_k(&r, n, n, 40000));
		assert_true(get_k(&r, other, other, 40000));
		rig_close(&r);
		rig_free(&r);
	}
}

/* The only path hangs in the middle of everything: nothing of it waits for ever. */
static void slow_only_path(void **state)
{
	struct rig r;
	struct rop *o = malloc(sizeof *o);
	unsigned refused = 0;

	(void)state;
	slow_begin(&r, 98, 1);
	assert_int_equal(set_k(&r, 500, 500, 2 * MIB), STORE_OK);
	for (uint64_t k = 600; atomic_load(&r.s->path[0].seg_recycled) < 2; k++)
		assert_int_equal(set_k(&r, k, k, 40000), STORE_OK);
	assert_int_equal(set_k(&r, 501, 501, 2 * MIB), STORE_OK);
	assert_int_equal(set_k(&r, 9999, 9999, 1000), STORE_OK);
	/* a long value is being sent when it happens */
	o->done = false;
	store_op_init(&o->op, r.w[0], "key-501", 7, rop_done, o);
	if (!store_get(&o->op, false))
		RIG_UNTIL(&r, o->done);
	assert_int_equal(o->op.status, STORE_OK);
	sim_disk_hang(r.env, "disk0", true);
	for (unsigned i = 0; o->op.status == STORE_OK; i++) {
		assert_true(i < 8);
		o->done = false;
		if (!store_get_next(&o->op))
			RIG_UNTIL(&r, o->done);
	}
	assert_int_equal(o->op.status, STORE_BROKEN);
	store_op_end(&o->op);
	free(o);
	for (uint64_t k = 3000; refused < 20; k++) {
		enum store_status st = set_k(&r, k, k, k % 5 == 0 ? 2 * MIB : 40000);

		assert_true(st == STORE_OK || st == STORE_UNAVAILABLE);
		refused += st == STORE_UNAVAILABLE;
	}
	assert_true(get_k(&r, 9999, 9999, 1000)); /* RAM */
	assert_true(atomic_load(&r.s->path[0].gone));
	sim_disk_hang(r.env, "disk0", false);
	RIG_UNTIL(&r, !atomic_load(&r.s->path[0].offline));
	assert_int_equal(store_late(r.s), 0);
	assert_int_equal(set_k(&r, 20000, 20000, 40000), STORE_OK);
	assert_true(get_k(&r, 501, 501, 2 * MIB));
	rig_close(&r);
	rig_free(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(unreadable),
	    cmocka_unit_test(tombstones_of_bad_segments),
	    cmocka_unit_test(one_path_fails),
	    cmocka_unit_test(lost_are_counted),
	    cmocka_unit_test(writes_tried_again),
	    cmocka_unit_test(only_path_fails),
	    cmocka_unit_test(everything_at_once),
	    cmocka_unit_test(queue),
	    cmocka_unit_test(deletes_without_path),
	    cmocka_unit_test(deletes_on_their_way),
	    cmocka_unit_test(device_gone),
	    cmocka_unit_test(error_after_gone),
	    cmocka_unit_test(two_gone),
	    cmocka_unit_test(brought_back),
	    cmocka_unit_test(back_under_load),
	    cmocka_unit_test(slow_reads),
	    cmocka_unit_test(slow_reads_pin),
	    cmocka_unit_test(slow_writers),
	    cmocka_unit_test(slow_only_path),
	    cmocka_unit_test(unreadable_then_deleted),
	    cmocka_unit_test(quarantine_keeps_used),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
