/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random work on a simulated machine that is killed or loses power again and again, beside a model.
 *
 *  - A get returns what was set last, never anything older, never a deleted value, never a wrong
 * byte.
 *  - A key that was missed once stays away until it is set.
 *  - After a kill every answer still holds. After a power cut, what was answered more than the sync
 *    interval (and a little for the disk) ago.
 *  - While nothing has been recycled no key is missed.
 *
 * test: limit=300 wrap=no
 */
#include "tests/unit/store_rig.h"

#define KEYS  900u
#define SLOTS 6u
#define HIST  24u

struct state {
	uint64_t t, id; /* id 0: not there */
	uint32_t len;
};

struct mkey {
	struct state now;
	struct state hist[HIST]; /* newest first; hist[0] is now */
	unsigned nhist;
	bool busy;
};

struct slot {
	struct rop o;
	bool used;
	uint8_t kind; /* 'g', 's', 'd' */
	uint64_t k, id;
	uint32_t len, at;
	uint8_t *value;
};

struct model {
	struct rig r;
	struct mkey key[KEYS];
	struct slot slot[SLOTS];
	uint64_t ids;
	bool strict; /* the store holds everything: a miss is an error */
	bool crashing;
	unsigned die_in; /* at so manieth yield from now; 0: not then */
	bool power;
	struct rig_corpse corpse;
	struct {
		bool is;
		uint64_t k;
		struct state would_be;
	} unsure[SLOTS]; /* what was under way when the machine died */
	uint64_t died_at;
	uint32_t len_max;
	/* what has happened */
	uint64_t hits, misses, sets, conflicts, deletes, crashes, in_recycling, dropped, attached;
};

static struct sim_env *env_of(struct model *m)
{
	return m->r.env;
}

static void tell(struct model *m)
{
	struct store_counters c = rig_counters(&m->r);

#define X(n, s) print_message("%s %" PRIu64 "\n", #n, c.n);
	STORE_COUNTERS(X)
#undef X
}

static uint64_t rnd(struct model *m, uint64_t n)
{
	return sim_env_random(env_of(m), n);
}

static void become(struct model *m, struct mkey *k, uint64_t id, uint32_t len)
{
	memmove(k->hist + 1, k->hist, (HIST - 1) * sizeof k->hist[0]);
	if (k->nhist < HIST)
		k->nhist++;
	k->hist[0] = k->now = (struct state){sim_env_now(env_of(m)), id, len};
}

static bool same_as(const struct slot *s, const struct state *st)
{
	return s->o.op.value_len == st->len && s->o.op.flags == (uint32_t)st->id;
}

/* The op is over. */
static void judge(struct model *m, struct slot *s)
{
	struct mkey *k = &m->key[s->k];
	enum store_status st = s->o.op.status;

	if (m->crashing)
		goto over; /* nobody is told what it answers */
	switch (s->kind) {
	case 'g':
		if (st == STORE_OK) {
			if (k->now.id == 0)
				fail_msg("key %" PRIu64 " is there, flags %u", s->k, s->o.op.flags);
			if (!same_as(s, &k->now))
				fail_msg(
				    "key %" PRIu64 " has flags %u, %u bytes, not %" PRIu64 ", %u",
				    s->k, s->o.op.flags, s->o.op.value_len, k->now.id, k->now.len);
			assert_true(rig_is(s->value, s->len, k->now.id));
			m->hits++;
		} else {
			if (st == STORE_BROKEN) {
				assert_false(m->strict); /* recycled under the reader */
				break;
			}
			assert_int_equal(st, STORE_MISS);
			if (k->now.id != 0) {
				if (m->strict)
					fail_msg("key %" PRIu64 " is lost", s->k);
				become(m, k, 0, 0);
			}
			m->misses++;
		}
		break;
	case 's':
		if (st == STORE_OK) {
			if (s->id != k->now.id) {
				if (m->strict && k->now.id != 0) {
					tell(m);
					fail_msg("key %" PRIu64 ": %" PRIu64
						 " of %u bytes took the place of %" PRIu64
						 " of %u bytes, set at %.3f s",
						 s->k, s->id, s->len, k->now.id, k->now.len,
						 (double)k->now.t / 1e9);
				}
				become(m, k, s->id, s->len);
			}
			m->sets++;
		} else if (st == STORE_EXISTS) {
			assert_true(k->now.id == s->id);
		} else if (st == STORE_UNAVAILABLE && s->len > STORE_WHOLE_MAX) {
			assert_false(m->strict); /* given up by the recycler [L-1] */
		} else {
			assert_int_equal(st, STORE_CONFLICT);
			assert_true(k->now.id != 0 && k->now.id != s->id);
			m->conflicts++;
		}
		break;
	default:
		if (st == STORE_OK) {
			assert_true(k->now.id != 0);
			become(m, k, 0, 0);
			m->deletes++;
		} else {
			assert_true(!m->strict || k->now.id == 0);
			become(m, k, 0, 0);
		}
	}
over:
	if (getenv("KEY") && s->k == strtoull(getenv("KEY"), NULL, 10))
		print_message("%.4f %c status %d id %" PRIu64 " len %u now %" PRIu64
			      " crashing %d w%u ram %d\n",
			      (double)sim_env_now(env_of(m)) / 1e9, s->kind, st, s->id, s->len,
			      k->now.id, m->crashing, s->o.op.sw->id, s->o.op.from_ram);
	store_op_end(&s->o.op);
	free(s->value);
	s->value = NULL;
	s->used = false;
	k->busy = false;
}

static void go_on(struct model *m, struct slot *s)
{
	struct store_op *op = &s->o.op;

	while (s->used && s->o.done) {
		bool done = true;

		if (s->kind == 's') {
			if (op->body_n == 0) {
				judge(m, s);
				return;
			}
			memcpy(op->body, s->value + s->at, op->body_n);
			s->at += op->body_n;
			s->o.done = false;
			done = store_set_body(op);
		} else if (s->kind == 'g') {
			if (op->status != STORE_OK) {
				judge(m, s);
				return;
			}
			if (s->value == NULL) {
				s->value = malloc(op->value_len + 1);
				s->len = op->value_len;
			}
			memcpy(s->value + s->at, op->value, op->value_n);
			s->at += op->value_n;
			if (s->at == op->value_len) {
				judge(m, s);
				return;
			}
			s->o.done = false;
			done = store_get_next(op);
		} else {
			judge(m, s);
			return;
		}
		s->o.done = s->o.done || done;
	}
}

static void start(struct model *m, struct slot *s)
{
	struct store_worker *sw = m->r.w[rnd(m, m->r.cfg.workers)];
	uint64_t dice = rnd(m, 100);
	char key[32];
	bool done;

	do
		s->k = rnd(m, KEYS);
	while (m->key[s->k].busy);
	m->key[s->k].busy = true;
	s->used = true;
	s->o.done = false;
	s->at = 0;
	store_op_init(&s->o.op, sw, key, (uint8_t)rig_key(key, s->k), rop_done, &s->o);
	if (dice < 45) {
		struct state *now = &m->key[s->k].now;

		s->kind = 's';
		if (now->id != 0 && rnd(m, 2) == 0) {
			s->id = now->id;
			s->len = now->len;
		} else {
			uint64_t d = rnd(m, 100);

			s->id = ++m->ids;
			s->len = (uint32_t)rnd(m, d < 60 ? 6000 : d < 95 ? 40000 : m->len_max);
		}
		s->value = malloc(s->len + 1);
		rig_fill(s->value, s->len, s->id);
		done = store_set(&s->o.op, rnd(m, 5) == 0 ? STORE_ADD : STORE_SET, (uint32_t)s->id,
				 s->len);
	} else if (dice < 85) {
		s->kind = 'g';
		done = store_get(&s->o.op, false);
	} else {
		s->kind = 'd';
		done = store_delete(&s->o.op);
	}
	s->o.done = s->o.done || done;
}

static void die(struct model *m)
{
	m->died_at = sim_env_now(env_of(m));
	m->crashing = true;
	if (getenv("KEY"))
		print_message("%.4f dies, in yield %d\n", (double)sim_env_now(env_of(m)) / 1e9,
			      m->die_in == 0);
	for (unsigned i = 0; i < SLOTS; i++) {
		const struct slot *s = &m->slot[i];

		m->unsure[i].is =
		    s->used && s->kind != 'g' && !(s->kind == 's' && s->id == m->key[s->k].now.id);
		m->unsure[i].k = s->k;
		m->unsure[i].would_be =
		    (struct state){m->died_at, s->kind == 's' ? s->id : 0, s->len};
	}
	rig_die(&m->r, m->power, &m->corpse);
}

static void at_yield(struct rig *r)
{
	struct model *m = container_of(r, struct model, r);

	if (m->die_in > 0 && --m->die_in == 0 && !m->crashing) {
		m->in_recycling++;
		die(m);
	}
}

static void turn_all(struct model *m)
{
	rig_turn(&m->r);
	for (unsigned i = 0; i < SLOTS; i++)
		if (m->slot[i].used)
			go_on(m, &m->slot[i]);
}

/* Everything is forgotten, when nothing else is under way. */
static void flush(struct model *m)
{
	unsigned left = SLOTS, die_in = m->die_in;

	m->die_in = 0;
	for (unsigned n = 0; left > 0; n++) {
		assert_true(n < RIG_TURNS);
		turn_all(m);
		left = 0;
		for (unsigned i = 0; i < SLOTS; i++)
			left += m->slot[i].used;
	}
	assert_int_equal(rig_flush_all(&m->r, 0), STORE_OK);
	for (uint64_t i = 0; i < KEYS; i++)
		if (m->key[i].now.id != 0)
			become(m, &m->key[i], 0, 0);
	m->die_in = die_in;
}

/* Every key is what the model allows, and the model learns which of it. */
static void verify(struct model *m)
{
	uint64_t slack = m->r.cfg.sync_ns + 100 * NS_PER_MS;

	for (uint64_t i = 0; i < KEYS; i++) {
		struct mkey *k = &m->key[i];
		char key[32];
		struct got g = rig_fetch(&m->r, 0, key, rig_key(key, i), false);
		bool ok = false, there = g.status == STORE_OK, certain = true;
		struct state is = {0};

		for (unsigned h = 0; h < k->nhist && !ok; h++) {
			const struct state *st = &k->hist[h];

			if (there && st->id != 0 && st->len == g.len &&
			    (uint32_t)st->id == g.flags && rig_is(g.value, g.len, st->id)) {
				ok = true;
				is = *st;
			}
			if (st->id == 0)
				certain = false;
			/* this one held when the machine stopped, or is old enough to be safe */
			if (!m->power ? h == 0 : st->t + slack < m->died_at)
				break;
			if (h + 1 == k->nhist)
				certain = false; /* before the first there was nothing */
		}
		if (k->nhist == 0)
			certain = false;
		if (there && !ok)
			fail_msg("key %" PRIu64
				 " came back with flags %u and %u bytes; it was %" PRIu64 ", %u",
				 i, g.flags, g.len, k->now.id, k->now.len);
		if (!there && certain && m->strict)
			fail_msg("key %" PRIu64 " is lost: it was %" PRIu64
				 ", %u bytes, %u states, set %.3f s before",
				 i, k->now.id, k->now.len, k->nhist,
				 (double)(m->died_at - k->now.t) / 1e9);
		if (!there && certain)
			m->dropped++;
		rig_drop(&g);
		k->nhist = 0;
		if (there)
			become(m, k, is.id, is.len);
		else
			become(m, k, 0, 0);
		k->now.t = k->hist[0].t = 0;
	}
}

static void crash(struct model *m)
{
	bool left = true;

	if (!m->crashing)
		die(m);
	for (unsigned n = 0; left; n++) {
		assert_true(n < RIG_TURNS);
		left = false;
		turn_all(m);
		for (unsigned i = 0; i < SLOTS; i++)
			left = left || m->slot[i].used;
	}
	rig_bury(&m->r, &m->corpse);
	/* what shared memory says and what the disk says must be the same, in any order of asking */
	m->r.cfg.no_attach = rnd(m, 3) == 0;
	rig_open(&m->r);
	m->attached += strcmp(m->r.s->layer, "shm") == 0;
	for (unsigned i = 0; i < SLOTS; i++)
		if (m->unsure[i].is) {
			/* either state may be there: the old one stands behind it */
			struct mkey *k = &m->key[m->unsure[i].k];

			memmove(k->hist + 1, k->hist, (HIST - 1) * sizeof k->hist[0]);
			k->nhist += k->nhist < HIST;
			k->hist[0] = m->unsure[i].would_be;
			if (!m->power) {
				struct mkey two = *k;
				struct got g;
				char key[32];

				g = rig_fetch(&m->r, 0, key, rig_key(key, m->unsure[i].k), true);
				/* of the two, the model takes the one that is there */
				if (!(g.status == STORE_OK ? g.flags == (uint32_t)two.hist[0].id &&
								 g.len == two.hist[0].len
							   : two.hist[0].id == 0)) {
					memmove(k->hist, k->hist + 1,
						(HIST - 1) * sizeof k->hist[0]);
					k->nhist--;
				}
				rig_drop(&g);
			}
		}
	m->crashing = false;
	m->die_in = 0;
	m->crashes++;
	verify(m);
}

static void run(uint64_t seed, bool power, bool strict, uint64_t size, uint32_t len_max,
		enum store_admit admit, unsigned crashes, unsigned ops, struct model *sum)
{
	struct sim_config sc = {.again = 5000, .short_io = 5000};
	struct model *m = calloc(1, sizeof *m);

	rig_init(&m->r, sim_env_new(seed, &sc));
	m->r.cfg.size = size;
	m->r.cfg.workers = 2;
	m->r.cfg.npaths = 1 + seed % 2;
	m->r.cfg.item_max = 2 * MIB;
	m->r.cfg.mean_value = 2048;
	m->r.cfg.ram_bytes = 2 * MIB;
	m->r.cfg.admit = admit;
	m->r.on_yield = at_yield;
	m->len_max = len_max;
	m->strict = strict;
	m->power = power;
	rig_open(&m->r);
	for (unsigned c = 0; c < crashes; c++) {
		uint64_t n = rnd(m, ops), recycled = 0;

		if (c % 3 == 2 && !strict)
			m->die_in = 1 + (unsigned)rnd(m, 40);
		for (uint64_t i = 0; (i < n || m->die_in > 0) && i < 4 * ops && !m->crashing; i++) {
			if (rnd(m, 1500) == 0)
				flush(m);
			for (unsigned s = 0; s < SLOTS && !m->crashing; s++)
				if (!m->slot[s].used)
					start(m, &m->slot[s]);
			turn_all(m);
		}
		for (unsigned i = 0; i < m->r.s->npaths; i++)
			recycled += atomic_load(&m->r.s->path[i].seg_recycled);
		sum->in_recycling += m->in_recycling;
		m->in_recycling = 0;
		sum->dropped += recycled > 0; /* runs in which segments were recycled */
		if (strict)
			assert_int_equal(recycled, 0);
		crash(m);
	}
	assert_true(m->hits > 0 && m->sets > 0 && m->deletes > 0 && m->conflicts > 0);
	sum->crashes += m->crashes;
	sum->attached += m->attached;
	rig_close(&m->r);
	assert_int_equal(m->r.last.corrupt_reads, 0);
	rig_free(&m->r);
	free(m);
}

/* SEED and SEEDS in the environment choose other runs. */
static uint64_t seed_or(uint64_t n)
{
	return getenv("SEED") != NULL ? strtoull(getenv("SEED"), NULL, 10) : n;
}

static uint64_t seeds_or(uint64_t n)
{
	return getenv("SEEDS") != NULL ? strtoull(getenv("SEEDS"), NULL, 10) : n;
}

static void killed(void **state)
{
	struct model sum = {0};

	(void)state;
	for (uint64_t seed = seed_or(1); seed < seed_or(1) + seeds_or(3); seed++)
		run(seed, false, true, 256 * MIB, 100000, STORE_ADMIT_ALL, 3, 1500, &sum);
	assert_true(sum.attached > 0);
}

static void power_cut(void **state)
{
	struct model sum = {0};

	(void)state;
	for (uint64_t seed = seed_or(1); seed < seed_or(1) + seeds_or(3); seed++)
		run(seed, true, true, 256 * MIB, 100000, STORE_ADMIT_ALL, 3, 1500, &sum);
	assert_int_equal(sum.attached, 0);
}

static void killed_while_recycling(void **state)
{
	struct model sum = {0};

	(void)state;
	for (uint64_t seed = seed_or(11); seed < seed_or(11) + seeds_or(4); seed++)
		run(seed, false, false, 64 * MIB, 2 * MIB,
		    seed % 2 ? STORE_ADMIT_ALL : STORE_ADMIT_SECOND, 4, 5000, &sum);
	assert_true(sum.in_recycling > 0);
	assert_true(sum.dropped > 0);
}

static void power_cut_while_recycling(void **state)
{
	struct model sum = {0};

	(void)state;
	for (uint64_t seed = seed_or(21); seed < seed_or(21) + seeds_or(4); seed++)
		run(seed, true, false, 64 * MIB, 2 * MIB,
		    seed % 2 ? STORE_ADMIT_ALL : STORE_ADMIT_SECOND, 4, 5000, &sum);
	assert_true(sum.in_recycling > 0);
	assert_true(sum.dropped > 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(killed),
	    cmocka_unit_test(power_cut),
	    cmocka_unit_test(killed_while_recycling),
	    cmocka_unit_test(power_cut_while_recycling),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
