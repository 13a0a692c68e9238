/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A seed becomes a setup and a list of steps. Nothing here looks at what the store does, so that steps can
 * be taken out of a list and the rest still means the same: each carries its key, its epoch, and the seed
 * of what chance does from there on.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/simulation/simulation.h"

uint64_t plan_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* ---- keys and values --------------------------------------------------------------------------- */

const char *key_name(unsigned key, unsigned *len)
{
	static struct {
		char text[SIM_KEY_MAX + 1];
		uint8_t n;
	} name[SIM_KEYS];

	if (name[key].n == 0) {
		char *text = name[key].text;
		int n = snprintf(text, sizeof name[key].text, "key-%u", key);

		if (key % 9 == 4) /* long ones: heads cross pages */
			for (; n < (int)SIM_KEY_MAX - (int)(key % 5); n++)
				text[n] = (char)('a' + n % 26);
		text[n] = '\0';
		name[key].n = (uint8_t)n;
	}
	*len = name[key].n;
	return name[key].text;
}

uint32_t value_len(const struct setup *s, unsigned key, uint32_t epoch)
{
	uint64_t x = plan_mix(s->seed * 1000003 + key * 5001 + epoch), kind = x % 100;
	uint32_t most = (uint32_t)s->item_max;

	x = plan_mix(x);
	if (kind < 2)
		return 0;
	if (kind < 55)
		return (uint32_t)(x % s->small) + 1;
	if (kind < 88)
		return (uint32_t)(x % s->middle) + 1;
	if (kind < 94 || most <= STORE_WHOLE_MAX)
		return (uint32_t)(x % (most < STORE_WHOLE_MAX ? most : STORE_WHOLE_MAX)) + 1;
	return STORE_WHOLE_MAX + 1 + (uint32_t)(x % (most - STORE_WHOLE_MAX));
}

#define STEP_OF_WORDS 0x9e3779b97f4a7c15ull

/* The at-th eight bytes of a value; the next is one step more, which compilers do several at a time. */
static uint64_t word(unsigned key, uint32_t epoch, uint32_t at)
{
	return (((uint64_t)key << 40 ^ (uint64_t)epoch << 20) + at) * STEP_OF_WORDS;
}

/* Chunks begin at multiples of eight: all but the tail is whole words. */
void value_fill(uint8_t *to, uint32_t from, uint32_t n, unsigned key, uint32_t epoch)
{
	uint32_t words = from % 8 == 0 ? n / 8 : 0;
	uint64_t x = word(key, epoch, from / 8);

	for (uint32_t i = 0; i < words; i++) {
		memcpy(to + 8ul * i, &x, 8);
		x += STEP_OF_WORDS;
	}
	for (uint32_t i = words * 8; i < n;) {
		uint32_t at = from + i, in = at % 8, k = 8 - in < n - i ? 8 - in : n - i;

		x = word(key, epoch, at / 8);
		memcpy(to + i, (const char *)&x + in, k);
		i += k;
	}
}

bool value_is(const uint8_t *v, uint32_t from, uint32_t n, unsigned key, uint32_t epoch)
{
	uint32_t words = from % 8 == 0 ? n / 8 : 0;
	uint64_t wrong = 0, have, x = word(key, epoch, from / 8);

	for (uint32_t i = 0; i < words; i++) {
		memcpy(&have, v + 8ul * i, 8);
		wrong |= have ^ x;
		x += STEP_OF_WORDS;
	}
	if (wrong != 0)
		return false;
	for (uint32_t i = words * 8; i < n;) {
		uint32_t at = from + i, in = at % 8, k = 8 - in < n - i ? 8 - in : n - i;

		x = word(key, epoch, at / 8);
		if (memcmp(v + i, (const char *)&x + in, k) != 0)
			return false;
		i += k;
	}
	return true;
}

/* ---- the plan ---------------------------------------------------------------------------------- */

struct dice {
	uint64_t x;
};

static uint64_t rnd(struct dice *d, uint64_t n)
{
	d->x = plan_mix(d->x);
	return (d->x >> 11) % n;
}

static uint64_t between(struct dice *d, uint64_t a, uint64_t b)
{
	return a + rnd(d, b - a + 1);
}

static void make_setup(struct setup *s, struct dice *d, uint64_t seed)
{
	uint64_t seg = FORMAT_SEG_MIN, segs, most;

	memset(s, 0, sizeof *s);
	s->seed = seed;
	s->paths = (unsigned)(rnd(d, 10) < 6 ? 1 : between(d, 2, SIM_PATHS));
	s->workers = (unsigned)between(d, 2, SIM_WORKERS);
	segs = between(d, 16, s->paths == 1 ? 26 : 18);
	s->size = segs * seg + (rnd(d, 3) == 0 ? 4096 * rnd(d, 8) : 0);
	s->admit = rnd(d, 3) == 0 ? STORE_ADMIT_SECOND : STORE_ADMIT_ALL;
	s->slots = (unsigned)between(d, 2, SIM_SLOTS);
	s->item_max = between(d, STORE_WHOLE_MAX / 2, seg / 2);
	/* small ones make the recycler's tables long, large ones turn the store over */
	s->small = (uint32_t)between(d, 500, 6000);
	s->middle = (uint32_t)(s->paths * between(d, 4000, STORE_WHOLE_MAX / 3));
	if (s->middle > s->item_max)
		s->middle = (uint32_t)s->item_max;
	most = s->size * s->paths / (s->small / 3 + s->middle / 6 + STORE_WHOLE_MAX / 10);
	s->keys = (unsigned)(between(d, most / 3, most) + 20);
	if (s->keys > SIM_KEYS)
		s->keys = SIM_KEYS;
	s->ram = rnd(d, 4) == 0 ? 4096 : between(d, 16384, 1 << 20);
	s->buffers = between(d, 2 * STORE_WHOLE_MAX, 40 * STORE_WHOLE_MAX);
	if (rnd(d, 4) == 0) /* somebody waits for memory most of the time */
		s->buffers = between(d, s->workers, 2 * s->workers) * 2 * STORE_WHOLE_MAX;
	s->sync_ns = between(d, 20, 200) * NS_PER_MS;
	s->mean_value = rnd(d, 4) == 0 ? between(d, 8192, 16384) : between(d, 1024, 4096);
	s->align = rnd(d, 3) == 0 ? 4096 : 512;
	/* shrunk chunks are below what the RAM tier's classes align to 4096 */
	if (s->align == 4096 && STORE_SHRINK > 0 && s->item_max > STORE_WHOLE_MAX)
		s->item_max = STORE_WHOLE_MAX;
	s->device = rnd(d, 4) == 0;
	s->write_budget = rnd(d, 6) == 0 ? between(d, 1 << 20, 8 << 20) : 0;
	s->faults = rnd(d, 10) < 6;
	s->io_timeout_ns = s->faults && rnd(d, 2) == 0 ? between(d, 50, 250) * NS_PER_MS : 0;
	s->sim = (struct sim_config){.align = s->align};
	switch (rnd(d, 4)) {
	case 0: /* all alike: what is under way together ends together */
		s->sim.read_ns[0] = s->sim.read_ns[1] = 100000;
		s->sim.write_ns[0] = s->sim.write_ns[1] = 100000;
		break;
	case 1: /* far apart */
		s->sim.read_ns[0] = 1000, s->sim.read_ns[1] = 2 * NS_PER_MS;
		s->sim.write_ns[0] = 1000, s->sim.write_ns[1] = 5 * NS_PER_MS;
		break;
	default:
		break;
	}
	if (rnd(d, 2) == 0) {
		s->sim.again = 2000;
		s->sim.short_io = 2000;
	}
}

#define MEETINGS 16u

struct maker {
	struct plan *p;
	struct dice d;
	unsigned cap;
	uint32_t epoch[SIM_KEYS];
	unsigned heal_at; /* operation; 0: all paths work */
};

/*
 * Four schedules of twenty-five let faults meet states that hardly any would meet by chance. None of them is in
 * tests/simulation/seeds: those are what they were.
 */
static bool meets(uint64_t seed)
{
	uint64_t k = seed % 25;

	return k == 0 || k == 2 || k == 17 || k == 24;
}

static struct step *add(struct maker *m, enum step_kind kind)
{
	struct step *st;

	if (m->p->n == m->cap) {
		m->cap = m->cap == 0 ? 4096 : m->cap * 2;
		m->p->step = realloc(m->p->step, m->cap * sizeof *st);
		AN(m->p->step != NULL);
	}
	st = &m->p->step[m->p->n++];
	memset(st, 0, sizeof *st);
	st->kind = (uint8_t)kind;
	st->seed = (uint32_t)rnd(&m->d, UINT32_MAX);
	return st;
}

static void fault_at(struct maker *m, enum fault fault, enum aim aim, enum place place)
{
	struct step *st = add(m, STEP_FAULT);

	st->fault = (uint8_t)fault;
	st->aim = (uint8_t)aim;
	st->place = (uint8_t)place;
}

static void add_op(struct maker *m)
{
	static const uint8_t turns[8] = {0, 0, 0, 1, 1, 2, 3, 6};
	const struct setup *s = &m->p->setup;
	uint64_t what = rnd(&m->d, 100);
	struct step *st = add(m, STEP_GET);
	uint32_t *e;

	st->worker = (uint8_t)rnd(&m->d, s->workers);
	st->key = (uint16_t)(rnd(&m->d, 4) == 0 ? rnd(&m->d, 12) : rnd(&m->d, s->keys));
	st->turns = turns[rnd(&m->d, 8)];
	e = &m->epoch[st->key];
	if (rnd(&m->d, 60) == 0)
		st->leave = (uint8_t)between(&m->d, 1, 3);
	if (what < 46) {
		st->kind = what < 6 ? STEP_ADD : STEP_SET;
		if (*e == 0 || rnd(&m->d, 100) < 60)
			++*e;
		st->epoch = *e;
		if (*e > 1 && rnd(&m->d, 30) == 0)
			st->epoch = (uint32_t)between(&m->d, 1, *e);
	} else if (what < 54) {
		st->kind = STEP_DELETE;
	} else if (what < 58) {
		st->kind = STEP_HEAD;
	}
}

static uint8_t any_place(struct maker *m, enum fault f)
{
	for (;;) {
		enum place p = (enum place)rnd(&m->d, PLACE_N);

		if (cover_can(p, f))
			return (uint8_t)p;
	}
}

static void add_fault(struct maker *m, unsigned did)
{
	const struct setup *s = &m->p->setup;
	enum fault f = (enum fault)rnd(&m->d, FAULT_KILL);
	struct step *st;

	if (rnd(&m->d, 16) == 0) {
		st = add(m, rnd(&m->d, 2) == 0 ? STEP_DISK : STEP_FULL);
		st->n = rnd(&m->d, s->paths);
		f = FAULT_OUT;
		if (s->paths > 1 && rnd(&m->d, 2) == 0) { /* while the others are told */
			st = add(m, rnd(&m->d, 2) == 0 ? STEP_KILL : STEP_POWER);
			st->aim = AIM_PLACE;
			st->place = rnd(&m->d, 3) == 0 ? PLACE_SUPER_SYNC : PLACE_EPOCH;
			st->n = rnd(&m->d, 2);
			if (rnd(&m->d, 2) == 0) { /* waits for that, too */
				st = add(m, STEP_FLUSH);
				st->worker = (uint8_t)rnd(&m->d, s->workers);
			}
		}
	} else if (s->io_timeout_ns != 0 && rnd(&m->d, 6) == 0) {
		st = add(m, STEP_FAULT); /* beside the recycler */
		st->fault = FAULT_LATE;
		st->aim = AIM_PLACE;
		st->place = PLACE_GET_WHOLE;
	} else {
		st = add(m, STEP_FAULT);
		st->fault = (uint8_t)f;
		if (rnd(&m->d, 3) > 0) {
			st->aim = AIM_PLACE;
			st->place = any_place(m, f);
			st->n = rnd(&m->d, rnd(&m->d, 3) == 0 ? 20 : 3);
		} else {
			st->aim = (uint8_t)rnd(&m->d, AIM_PLACE);
			st->n = rnd(&m->d, rnd(&m->d, 3) == 0 ? 3 : 60);
		}
	}
	if (m->heal_at == 0 && (f == FAULT_OUT || f == FAULT_HANGS))
		m->heal_at = did + (unsigned)between(&m->d, 10, 300);
}

/* All paths work again, and are mostly told so at once; else by the next start. */
static void add_heal(struct maker *m)
{
	const struct setup *s = &m->p->setup;

	m->heal_at = 0;
	add(m, STEP_HEAL_ALL);
	for (unsigned i = 0; i < s->paths; i++)
		if (rnd(&m->d, 4) > 0) {
			struct step *st = add(m, STEP_ONLINE);

			st->worker = (uint8_t)rnd(&m->d, s->workers);
			st->n = i;
			st->turns = (uint8_t)rnd(&m->d, 8);
		}
}

static void add_crash(struct maker *m)
{
	uint64_t k = rnd(&m->d, 9), how = rnd(&m->d, 8);
	struct step *st = add(m, k < 4 ? STEP_KILL : k < 8 ? STEP_POWER : STEP_STOP);

	if (how < 3) {
		st->aim = AIM_PLACE;
		st->place = (uint8_t)rnd(&m->d, PLACE_N);
		st->n = rnd(&m->d, 6);
	} else if (how == 3) {
		st->aim = AIM_YIELD;
		st->n = rnd(&m->d, 30);
	} else if (how == 4) {
		st->aim = AIM_RARE;
		st->n = rnd(&m->d, 8);
	} else {
		st->aim = (uint8_t)rnd(&m->d, AIM_START);
		st->n = rnd(&m->d, 4) == 0 ? 0 : rnd(&m->d, 40);
	}
	if (rnd(&m->d, 5) == 0) { /* and the start that follows is cut, too */
		st = add(m, rnd(&m->d, 2) == 0 ? STEP_KILL : STEP_POWER);
		st->aim = AIM_START;
		st->n = rnd(&m->d, 80);
	}
}

/* The first start meets something, too. */
static void add_first(struct maker *m)
{
	for (uint64_t n = rnd(&m->d, 4); n > 0; n--) {
		enum fault f = (enum fault)rnd(&m->d, FAULT_N);
		struct step *st = add(m, f == FAULT_KILL    ? STEP_KILL
					 : f == FAULT_POWER ? STEP_POWER
							    : STEP_FAULT);

		st->fault = (uint8_t)f;
		st->aim = AIM_START;
		st->n = rnd(&m->d, rnd(&m->d, 2) == 0 ? 4 : 60);
	}
}

/* Something comes into a state that is rare, and faults wait for it. */
static void add_meeting(struct maker *m, unsigned did)
{
	static const uint8_t of[] = {
	    MOMENT_VIRGIN, MOMENT_CLEAN,  MOMENT_QUARANTINE, MOMENT_READONLY, MOMENT_OFFLINE,
	    MOMENT_SILENT, MOMENT_RETURN, MOMENT_AGAIN,      MOMENT_UNWALKED,
	};
	/* the more often, the shorter it lasts */
	static const uint8_t at[] = {
	    MOMENT_GRACE,       MOMENT_GRACE,       MOMENT_GRACE,       MOMENT_GRACE,
	    MOMENT_PINS,        MOMENT_PINS,        MOMENT_PENDING,     MOMENT_AGAIN,
	    MOMENT_LOST,        MOMENT_LOST,        MOMENT_LOST,        MOMENT_LOST,
	    MOMENT_HELD,        MOMENT_HELD,        MOMENT_FLUSHING,    MOMENT_FLUSHING,
	    MOMENT_WAIT_MEMORY, MOMENT_WAIT_MEMORY, MOMENT_WAIT_MEMORY, MOMENT_WAIT_MEMORY,
	    MOMENT_WAIT_MEMORY, MOMENT_WAIT_MEMORY, MOMENT_RETURN,      MOMENT_SILENT,
	    MOMENT_RECEIVING,   MOMENT_UNWALKED,    MOMENT_STOPPING,    MOMENT_START_START,
	    MOMENT_START_START,
	};
	const struct setup *s = &m->p->setup;
	bool own = rnd(&m->d, 3) == 0;
	enum moment is = (enum moment)(own ? of[rnd(&m->d, sizeof of)] : at[rnd(&m->d, sizeof at)]);
	struct step *st;

	switch (is) {
	case MOMENT_PINS:
	case MOMENT_PENDING:
		fault_at(m, FAULT_LATE, AIM_PLACE, PLACE_GET_WHOLE);
		break;
	case MOMENT_AGAIN:
		fault_at(m, FAULT_WRITE_ERROR, AIM_PLACE, PLACE_BLOCK);
		break;
	case MOMENT_QUARANTINE:
		fault_at(m, FAULT_READ_FLIP, AIM_PLACE, PLACE_GET_WHOLE);
		break;
	case MOMENT_LOST: /* and is so for a while, if the other paths do not take it at once */
		st = add(m, STEP_FAULT);
		st->fault = rnd(&m->d, 2) == 0 ? FAULT_LATE : FAULT_SLOW;
		st->aim = AIM_PLACE;
		st->place = rnd(&m->d, 2) == 0 ? PLACE_BLOCK : PLACE_HEADER;
		/* fallthrough */
	case MOMENT_HELD:
	case MOMENT_READONLY:
		add(m, STEP_FULL)->n = rnd(&m->d, s->paths);
		break;
	case MOMENT_SILENT:
		fault_at(m, FAULT_HANGS, AIM_ANY, 0);
		break;
	case MOMENT_OFFLINE:
	case MOMENT_RETURN:
	case MOMENT_VIRGIN: /* a path that comes back reads their headers */
	case MOMENT_CLEAN:
		add(m, STEP_DISK)->n = rnd(&m->d, s->paths);
		break;
	case MOMENT_START_START:
		fault_at(m, FAULT_READ_ERROR, AIM_START, 0);
		break;
	default:
		break;
	}
	if (m->heal_at == 0)
		m->heal_at = did + (unsigned)between(&m->d, 10, 100);
	for (uint64_t n = between(&m->d, 1, 3); n > 0; n--) {
		enum fault f;

		do /* most reads are too small to be short */
			f = rnd(&m->d, 8) == 0 ? FAULT_READ_SHORT : (enum fault)rnd(&m->d, FAULT_N);
		while (own ? !cover_can_of(is, f) : !cover_can_at(is, f));
		st = add(m, f == FAULT_KILL    ? STEP_KILL
			    : f == FAULT_POWER ? STEP_POWER
					       : STEP_FAULT);
		st->fault = (uint8_t)f;
		st->aim = own ? AIM_OWN : AIM_STATE;
		st->place = (uint8_t)is;
		st->n = rnd(&m->d, 3);
	}
	if (s->device && rnd(&m->d, 4) == 0) { /* hardly anything else meets one */
		static const uint8_t rare[] = {FAULT_SLOW, FAULT_LATE, FAULT_OUT, FAULT_HANGS};

		st = add(m, STEP_FAULT);
		st->fault = rare[rnd(&m->d, sizeof rare)];
		st->aim = AIM_PLACE;
		st->place = PLACE_DISCARD;
	}
	if (is == MOMENT_FLUSHING)
		add(m, STEP_FLUSH)->worker = (uint8_t)rnd(&m->d, s->workers);
	else if (is == MOMENT_STOPPING)
		add(m, STEP_STOP);
	else if (is == MOMENT_UNWALKED || is == MOMENT_START_START)
		add(m, STEP_KILL);
}

void plan_make(struct plan *p, uint64_t seed, unsigned ops, bool calm)
{
	struct maker m = {.p = p, .d = {.x = plan_mix(seed)}};
	unsigned faults, crash, did = 0;

	memset(p, 0, sizeof *p);
	make_setup(&p->setup, &m.d, seed);
	if (calm)
		p->setup.faults = false;
	if (!calm && meets(seed)) {
		for (unsigned n = 0; n < 2 && p->setup.paths == 1; n++)
			make_setup(&p->setup, &m.d, seed); /* so that there is another one */
		if (rnd(&m.d, 2) == 0)
			p->setup.buffers = p->setup.workers * 2 * STORE_WHOLE_MAX;
		p->setup.faults = p->setup.meets = true;
		if (p->setup.io_timeout_ns == 0)
			p->setup.io_timeout_ns = between(&m.d, 50, 250) * NS_PER_MS;
		add_first(&m);
	}
	faults = p->setup.faults ? (unsigned)between(&m.d, 1, 16) : 0;
	crash = ops / (unsigned)between(&m.d, 3, 6);
	while (did < ops) {
		uint64_t x = rnd(&m.d, 1000);
		struct step *st;

		if (rnd(&m.d, ops) < faults)
			add_fault(&m, did);
		if (p->setup.meets && rnd(&m.d, ops / MEETINGS + 1) == 0)
			add_meeting(&m, did);
		if (m.heal_at != 0 && did >= m.heal_at)
			add_heal(&m);
		if (rnd(&m.d, crash) == 0)
			add_crash(&m);
		if (x < 12) {
			st = add(&m, STEP_PASS);
			st->n = rnd(&m.d, 3) == 0 ? rnd(&m.d, 3 * p->setup.sync_ns)
						  : rnd(&m.d, 5 * NS_PER_MS);
		} else if (x < 15) {
			add(&m, STEP_SETTLE);
		} else if (x < 17) {
			add(&m, STEP_DRAIN);
		} else if (x < 19) {
			st = add(&m, STEP_RAM);
			st->n = rnd(&m.d, 3) == 0 ? 4096 : between(&m.d, 4096, 4 * p->setup.ram);
		} else if (x < 20 && rnd(&m.d, 3) == 0) {
			st = add(&m, STEP_FLUSH);
			st->worker = (uint8_t)rnd(&m.d, p->setup.workers);
		} else {
			add_op(&m);
			did++;
		}
	}
}

void plan_free(struct plan *p)
{
	free(p->step);
	p->step = NULL;
	p->n = 0;
}

/* ---- for people -------------------------------------------------------------------------------- */

void plan_print_setup(FILE *f, const struct setup *s)
{
	fprintf(f,
		"seed %" PRIu64 ": %u path%s of %" PRIu64
		" KiB (%s, %u-byte sectors), %u workers, %u keys, "
		"values to %" PRIu64 ", RAM %" PRIu64 " KiB, buffers %" PRIu64 " KiB, sync %" PRIu64
		" ms, time-out %" PRIu64 " ms, admit %s, index for %" PRIu64
		"-byte values, %u at a time\n",
		s->seed, s->paths, s->paths == 1 ? "" : "s", s->size >> 10,
		s->device ? "devices" : "files", s->align, s->workers, s->keys, s->item_max,
		s->ram >> 10, s->buffers >> 10, (uint64_t)(s->sync_ns / NS_PER_MS),
		(uint64_t)(s->io_timeout_ns / NS_PER_MS),
		s->admit == STORE_ADMIT_ALL ? "all" : "second", s->mean_value, s->slots);
}

void plan_print_step(FILE *f, const struct setup *s, unsigned i, const struct step *st)
{
	static const char *const kind[] = {
#define X(n, s) s,
	    STEP_KINDS(X)
#undef X
	};
	static const char *const fault[] = {
#define X(n, s) s,
	    FAULTS(X)
#undef X
	};
	static const char *const aim[] = {
#define X(n, s) s,
	    AIMS(X)
#undef X
	};

	fprintf(f, "%5u  ", i);
	static const char *const place[] = {
#define X(n, s) s,
	    PLACES(X)
#undef X
	};
	static const char *const moment[] = {
#define X(n, s) s,
	    MOMENTS(X)
#undef X
	};
	char state[100];
	const char *at = st->aim == AIM_PLACE ? place[st->place] : aim[st->aim];

	if (st->aim == AIM_STATE || st->aim == AIM_OWN) {
		snprintf(state, sizeof state, "%s (%s)", aim[st->aim], moment[st->place]);
		at = state;
	}

	switch (st->kind) {
	case STEP_SET:
	case STEP_ADD:
		fprintf(f, "w%u %s key %u epoch %u (%u bytes)", st->worker, kind[st->kind], st->key,
			st->epoch, value_len(s, st->key, st->epoch));
		break;
	case STEP_GET:
	case STEP_HEAD:
	case STEP_DELETE:
		fprintf(f, "w%u %s key %u", st->worker, kind[st->kind], st->key);
		break;
	case STEP_PASS:
		fprintf(f, "%s: %.3f ms", kind[st->kind], (double)st->n / 1e6);
		break;
	case STEP_RAM:
		fprintf(f, "%s to %" PRIu64, kind[st->kind], st->n);
		break;
	case STEP_FAULT:
		fprintf(f, "%s: %s, in %" PRIu64 " submits of %s", kind[st->kind], fault[st->fault],
			st->n, at);
		break;
	case STEP_DISK:
	case STEP_FULL:
	case STEP_HEAL:
	case STEP_ONLINE:
		fprintf(f, "%s: %" PRIu64, kind[st->kind], st->n);
		break;
	case STEP_KILL:
	case STEP_POWER:
		fprintf(f, "%s in %" PRIu64 " submits of %s", kind[st->kind], st->n, at);
		break;
	default:
		fprintf(f, "%s", kind[st->kind]);
	}
	if (st->leave != 0)
		fprintf(f, ", left half-way");
	if (st->turns != 0)
		fprintf(f, ", %u turns", st->turns);
	fprintf(f, "\n");
}
