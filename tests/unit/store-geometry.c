/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other sizes, fewer paths, another -I, another version, on the simulated machine: what is kept is kept, what was
 * deleted stays so, also if the process or the power goes at any I/O of the change.
 *
 * test: set=full limit=800
 */
#include <sys/mman.h>

#include "base/xxh.h"
#include "tests/unit/store_rig.h"

#define KEYS  4000u
#define LEN   60000u
#define SMALL (64u * MIB)
#define LARGE (128u * MIB)

/* ---- what must and what may be there ------------------------------------------------------------ */

struct model {
	struct rig r;
	uint64_t id[KEYS]; /* of the value that was set last; 0: none, or deleted */
	uint64_t ids;
	uint32_t len;
};

static void begin(struct model *m, uint64_t seed)
{
	memset(m, 0, sizeof *m);
	rig_init(&m->r, sim_env_new(seed, NULL));
	m->r.cfg.seed = seed;
	m->len = LEN;
}

/* Keys [from, to) get new values: who has one that may still be there is deleted first. */
static void put(struct model *m, unsigned from, unsigned to)
{
	for (unsigned k = from; k < to; k++) {
		if (m->id[k] != 0)
			(void)del_k(&m->r, k);
		m->id[k] = ++m->ids;
		assert_int_equal(set_k(&m->r, k, m->id[k], m->len), STORE_OK);
	}
}

static void take(struct model *m, unsigned from, unsigned to, unsigned step)
{
	for (unsigned k = from; k < to; k += step) {
		(void)del_k(&m->r, k);
		m->id[k] = 0;
	}
}

/* Every key of [from, to) has its value or none; how many have it. */
static unsigned there(struct model *m, unsigned from, unsigned to)
{
	unsigned n = 0;

	for (unsigned k = from; k < to; k++) {
		bool found = get_k(&m->r, k, m->id[k], m->len);

		if (found && m->id[k] == 0)
			fail_msg("key %u was deleted and is back", k);
		n += found;
	}
	return n;
}

static void refused(struct rig *r, const char *words)
{
	assert_true(rig_try(r) < 0);
	assert_non_null(r->cause);
	if (strstr(r->cause, words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", r->cause, words);
}

static void emit_one(void *arg, const char *name, const char *fmt, ...)
{
	struct {
		const char *name;
		char value[200];
	} *want = arg;
	va_list ap;

	if (strcmp(name, want->name) != 0)
		return;
	va_start(ap, fmt);
	vsnprintf(want->value, sizeof want->value, fmt, ap);
	va_end(ap);
}

static unsigned stat_of(struct rig *r, const char *name)
{
	struct {
		const char *name;
		char value[200];
	} want = {name, ""};

	store_stats(r->s, emit_one, &want);
	assert_true(want.value[0] != '\0');
	return (unsigned)strtoul(want.value, NULL, 10);
}

/* ---- dying at the n-th operation ---------------------------------------------------------------- */

struct death {
	struct rig *r;
	unsigned at, n; /* 0: never */
	bool power, dead;
	unsigned files;
	struct {
		char name[400];
		void *mem;
		size_t len;
	} file[6];
};

static void shm_keep(struct death *d)
{
	DIR *dir = opendir(d->r->shm);
	struct dirent *e;

	assert_non_null(dir);
	d->files = 0;
	while ((e = readdir(dir)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		assert_true(d->files < 6);
		snprintf(d->file[d->files].name, sizeof d->file[0].name, "%s/%s", d->r->shm,
			 e->d_name);
		d->file[d->files].mem = rig_slurp(d->file[d->files].name, &d->file[d->files].len);
		d->files++;
	}
	closedir(dir);
}

/* Shared memory as it was when the process died; after a power cut there is none. */
static void shm_restore(struct death *d)
{
	DIR *dir = opendir(d->r->shm);
	struct dirent *e;
	char name[600];

	assert_non_null(dir);
	while ((e = readdir(dir)) != NULL) {
		snprintf(name, sizeof name, "%s/%s", d->r->shm, e->d_name);
		if (e->d_name[0] != '.')
			unlink(name);
	}
	closedir(dir);
	for (unsigned i = 0; i < d->files; i++) {
		if (!d->power)
			rig_spill(d->file[i].name, d->file[i].mem, d->file[i].len);
		free(d->file[i].mem);
	}
	d->files = 0;
}

static void die(void *arg, struct io *io, const struct io_op *op, struct sim_fate *fate)
{
	struct death *d = arg;

	(void)io;
	(void)op;
	(void)fate;
	if (d->dead || ++d->n != d->at)
		return;
	d->dead = true;
	shm_keep(d);
	if (d->power)
		sim_env_power_loss(d->r->env);
	else
		sim_env_kill(d->r->env);
}

static void arm(struct death *d, struct rig *r, unsigned at, bool power)
{
	memset(d, 0, sizeof *d);
	d->r = r;
	d->at = at;
	d->power = power;
	sim_env_on_submit(r->env, die, d);
}

/* One start that ends at operation `at`. False: it has fewer; then the store is open. */
static bool start_dies(struct rig *r, unsigned at, bool power)
{
	struct death d;
	int res;

	arm(&d, r, at, power);
	res = rig_try(r);
	sim_env_on_submit(r->env, NULL, NULL);
	if (!d.dead) {
		if (res < 0)
			fail_msg("store_open: %d: %s", res, r->cause);
		RIG_UNTIL(r, !store_loading(r->s));
		return false;
	}
	/* the last write may have been all that was missing; nothing has been answered */
	if (res >= 0) {
		r->dead = true;
		rig_stop(r);
	}
	shm_restore(&d);
	return true;
}

/* ---- growing ------------------------------------------------------------------------------------ */

static void grows(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 4; round++) {
		bool power = (round & 1) != 0, killed = (round & 2) != 0;
		struct model *m = malloc(sizeof *m);
		unsigned at, want;
		struct rig *r;

		begin(m, 10 + round);
		r = &m->r;
		r->cfg.npaths = 2;
		r->cfg.size = SMALL;
		rig_open(r);
		assert_int_equal(r->s->path[1].nseg, 15);
		put(m, 0, 900);
		take(m, 0, 900, 3);
		want = there(m, 0, 900);
		assert_int_equal(want, 600);
		killed ? rig_crash(r, false) : rig_close(r);
		r->cfg.size = LARGE;
		/* ever later; in steps, for most operations read headers */
		for (at = 1; start_dies(r, at, power); at += at < 10 ? 1 : 11)
			;
		assert_true(at > 60); /* operations */
		if (power) /* else the start that died last may have been through with it */
			assert_string_equal(r->s->layer, "disk");
		assert_int_equal(r->s->seg_size, 4 * MIB);
		assert_int_equal(r->s->path[0].nseg, 31);
		assert_int_equal(r->s->path[1].nseg, 31);
		assert_int_equal(sim_disk_size(r->env, "disk1"), LARGE);
		assert_int_equal(there(m, 0, 900), want);
		/* what lay on the second path has another location now, and can be deleted */
		take(m, 1, 900, 3);
		rig_crash(r, false);
		rig_open(r);
		assert_string_equal(r->s->layer, "shm");
		assert_int_equal(there(m, 0, 900), 300);
		put(m, 900, 3800);
		assert_int_equal(there(m, 0, 3800), 300 + 2900);
		rig_close(r);
		r->cfg.no_attach = true;
		rig_open(r);
		assert_int_equal(there(m, 0, 3800), 300 + 2900);
		rig_close(r);
		rig_free(r);
		free(m);
	}
}

/* One file cannot be made longer: none is, and the old size still starts. */
static void cannot_grow(void **state)
{
	struct model *m = malloc(sizeof *m);
	struct rig *r = &m->r;

	(void)state;
	begin(m, 20);
	r->cfg.npaths = 2;
	rig_open(r);
	put(m, 0, 300);
	rig_close(r);
	sim_env_config(r->env)->space = SMALL + LARGE + 30 * MIB;
	r->cfg.size = LARGE;
	refused(r, "is larger than the space for it");
	assert_int_equal(sim_disk_size(r->env, "disk0"), SMALL);
	assert_int_equal(sim_disk_size(r->env, "disk1"), SMALL);
	r->cfg.size = SMALL;
	rig_open(r);
	assert_string_equal(r->s->layer, "shm");
	assert_int_equal(there(m, 0, 300), 300);
	rig_close(r);
	rig_free(r);
	free(m);
}

/* ---- shrinking ---------------------------------------------------------------------------------- */

static void shrunk(struct rig *r)
{
	for (unsigned i = 0; i < r->s->npaths; i++) {
		struct path *p = &r->s->path[i];

		RIG_UNTIL(r, !leaving(p));
		for (uint32_t k = p->nstay; k < p->nseg; k++)
			assert_int_equal(atomic_load(&p->seg[k].state), SEG_LEFT);
		assert_int_equal(p->super.seg_count, 15);
		assert_int_equal(sim_disk_size(r->env, r->path[i]), SMALL);
	}
}

/* Several laps; the newest are keys [KEYS - 400, KEYS). */
static void laps(struct model *m)
{
	for (unsigned lap = 0; lap < 2; lap++) {
		put(m, 0, KEYS);
		take(m, 0, KEYS, 3);
	}
	put(m, KEYS - 400, KEYS);
}

static void shrinks(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		struct model *m = malloc(sizeof *m);
		struct rig *r;
		unsigned n;

		begin(m, 30 + round);
		r = &m->r;
		r->cfg.npaths = 1 + (round & 1);
		r->cfg.size = LARGE;
		rig_open(r);
		laps(m);
		n = there(m, 0, KEYS);
		(round & 1) != 0 ? rig_crash(r, false) : rig_close(r);
		r->cfg.size = SMALL;
		rig_open(r);
		/* nothing of the geometry has changed yet: recency is there */
		assert_string_equal(r->s->layer, "shm");
		assert_int_equal(stat_of(r, "path0_segments"), 31);
		shrunk(r);
		assert_int_equal(stat_of(r, "path0_segments"), 15);
		assert_int_equal(stat_of(r, "path0_segments_leaving"), 0);
		assert_true(there(m, 0, KEYS) < n);
		assert_int_equal(there(m, KEYS - 400, KEYS), 400);
		/* it is a store of its new size: sets and evictions go on */
		put(m, 0, 1500);
		assert_int_equal(there(m, 1300, 1500), 200);
		(void)there(m, 0, KEYS);
		n = there(m, 0, KEYS);
		rig_close(r);
		rig_open(r);
		assert_string_equal(r->s->layer, "disk");
		assert_int_equal(r->s->path[0].nseg, 15);
		assert_int_equal(there(m, 0, KEYS), n);
		rig_close(r);
		rig_open(r);
		assert_string_equal(r->s->layer, "shm");
		assert_int_equal(there(m, 0, KEYS), n);
		take(m, 0, KEYS, 2);
		rig_close(r);
		/* what had been cut off does not come back with the size */
		r->cfg.size = LARGE;
		rig_open(r);
		assert_int_equal(r->s->path[0].nseg, 31);
		(void)there(m, 0, KEYS);
		put(m, 0, 1000);
		assert_int_equal(there(m, 0, 1000), 1000);
		rig_close(r);
		rig_free(r);
		free(m);
	}
}

/* Nothing is dropped from a store that is not fuller than its new size. */
static void shrinks_without_loss(void **state)
{
	struct model *m = malloc(sizeof *m);
	struct rig *r = &m->r;

	(void)state;
	begin(m, 40);
	r->cfg.size = LARGE;
	rig_open(r);
	put(m, 0, 1600); /* beyond the 15th segment */
	take(m, 0, 1600, 1);
	put(m, 0, 300);
	assert_true(r->s->path[0].seg[20].generation != 0);
	/* the first are empty of values that count, and go first */
	rig_close(r);
	r->cfg.size = SMALL;
	rig_open(r);
	shrunk(r);
	assert_int_equal(there(m, 0, 300), 300);
	rig_crash(r, true);
	rig_open(r);
	assert_int_equal(there(m, 0, 1600), 300);
	rig_close(r);
	rig_free(r);
	free(m);
}

static bool any_leaving(struct rig *r)
{
	for (unsigned i = 0; i < r->s->npaths; i++)
		if (leaving(&r->s->path[i]))
			return true;
	return false;
}

/* Lets it shrink until operation `at`, which it does not survive. False: it was done before. */
static bool shrinking_dies(struct rig *r, unsigned at, bool power)
{
	struct death d;

	arm(&d, r, at, power);
	while (!d.dead && any_leaving(r))
		rig_turn(r);
	sim_env_on_submit(r->env, NULL, NULL);
	if (!d.dead)
		return false;
	r->dead = true;
	rig_stop(r);
	shm_restore(&d);
	return true;
}

/*
 * Nor if it is killed, at any operation: of what was being moved then everything is moved, used or not [LV-2]. The
 * values lie in the part that leaves.
 */
static void killed_without_loss(void **state)
{
	unsigned at = 1, last = 0; /* operations; at the end of it each is tried */

	(void)state;
	while (last == 0 || at + 8 > last) {
		struct model *m = malloc(sizeof *m);
		struct rig *r = &m->r;
		unsigned n;

		begin(m, 60);
		r->cfg.size = LARGE;
		rig_open(r);
		put(m, 0, 1500);
		take(m, 0, 1500, 1);
		put(m, 0, 300);
		rig_close(r);
		r->cfg.size = SMALL;
		rig_open(r);
		if (shrinking_dies(r, at, false)) {
			rig_open(r);
			assert_string_equal(r->s->layer, r->s->path[0].nseg == 15 ? "disk" : "shm");
		} else if (last == 0) {
			last = at;
		}
		shrunk(r);
		n = there(m, 0, 300);
		if (n != 300)
			fail_msg("killed at operation %u: %u of 300 are there", at, n);
		rig_close(r);
		rig_free(r);
		free(m);
		at = last == 0 ? at + 5 : at - 1;
	}
	assert_in_range(last, 100, 10000);
}

/*
 * The process (even rounds, between sets and deletes) or the power goes at any operation while it shrinks, again
 * and again; then it grows and shrinks once more.
 */
static void shrinks_and_dies(void **state)
{
	unsigned all = 0;

	(void)state;
	for (unsigned round = 0; round < 6; round++) {
		struct model *m = malloc(sizeof *m);
		bool power = (round & 1) != 0;
		unsigned deaths = 0, k = 0;
		struct rig *r;

		begin(m, 50 + round);
		r = &m->r;
		r->cfg.npaths = 1 + round / 2 % 2;
		r->cfg.size = LARGE;
		rig_open(r);
		laps(m);
		rig_close(r);
		for (unsigned lap = 0; lap < 3; lap++) {
			bool small = lap != 1;

			r->cfg.size = small ? SMALL : LARGE;
			rig_open(r);
			while (small && (round >= 3 || deaths < 2) &&
			       shrinking_dies(r, 1 + (unsigned)sim_env_random(r->env, 16), power)) {
				deaths++;
				r->cfg.no_attach = sim_env_random(r->env, 3) == 0;
				rig_open(r);
				if (deaths % 4 == 0)
					(void)there(m, 0, KEYS);
				for (unsigned n = 0; !power && n < 4; n++) {
					k = (k + 7) % (KEYS - 400);
					n % 2 == 0 ? put(m, k, k + 1) : take(m, k, k + 1, 1);
				}
			}
			if (small)
				shrunk(r);
			(void)there(m, 0, KEYS);
			/* each death leaves segments that are hardly used, and those cost others their place */
			if (lap == 0 && deaths <= 2)
				assert_int_equal(there(m, KEYS - 200, KEYS), 200);
			rig_close(r);
			r->cfg.no_attach = !r->cfg.no_attach;
			rig_open(r);
			(void)there(m, 0, KEYS);
			if (!small)
				put(m, 0, 2500);
			rig_close(r);
		}
		all += deaths;
		rig_free(r);
		free(m);
	}
	assert_in_range(all, 20, 10000);
}

/* A device keeps what it has: the headers that were cut off are there when it grows again. */
static void device(void **state)
{
	struct model *m = malloc(sizeof *m);
	struct rig *r = &m->r;
	unsigned n;

	(void)state;
	begin(m, 60);
	strcpy(r->path[0], "/dev/x");
	sim_disk_make(r->env, "/dev/x", LARGE);
	r->cfg.size = LARGE;
	rig_open(r);
	laps(m);
	rig_close(r);
	r->cfg.size = SMALL;
	rig_open(r);
	RIG_UNTIL(r, !leaving(&r->s->path[0]));
	n = there(m, 0, KEYS);
	rig_close(r);
	/* as if the end had not been reached by the zeros: headers of segments that were cut off */
	for (uint32_t k = 15; k < 31; k++) {
		struct format_segment h = {.magic = FORMAT_SEG_MAGIC,
					   .version = FORMAT_VERSION,
					   .index = k,
					   .generation = 5};
		struct format_super sb;

		sim_disk_peek(r->env, "/dev/x", 0, &sb, sizeof sb);
		memcpy(h.store_id, sb.store_id, 16);
		segment_seal(&h, record_seed(sb.store_id));
		sim_disk_poke(r->env, "/dev/x", (uint64_t)(k + 1) * 4 * MIB, &h, sizeof h);
	}
	r->cfg.size = LARGE;
	rig_open(r);
	for (uint32_t k = 15; k < 31; k++)
		assert_int_not_equal(atomic_load(&r->s->path[0].seg[k].generation), 5);
	assert_int_equal(there(m, 0, KEYS), n);
	rig_close(r);
	r->cfg.size = 2 * LARGE;
	refused(r, "smaller than --size");
	rig_free(r);
	free(m);
}

/* The path fails while it shrinks, and comes back. */
static void fails_meanwhile(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		struct model *m = malloc(sizeof *m);
		struct rig *r = &m->r;
		unsigned first;

		begin(m, 70 + round);
		r->cfg.npaths = 2;
		r->cfg.size = LARGE;
		rig_open(r);
		laps(m);
		rig_close(r);
		r->cfg.size = SMALL;
		rig_open(r);
		first = stat_of(r, "path1_segments_leaving");
		RIG_UNTIL(r, stat_of(r, "path1_segments_leaving") < 8);
		assert_true(first > 8);
		sim_disk_fault(r->env, "disk1", round == 0 ? 0 : 4 * MIB, LARGE, SIM_WRITE_ERROR);
		put(m, 0, 300);
		RIG_UNTIL(r, atomic_load(&r->s->path[1].offline));
		if (round == 1)
			take(m, 0, KEYS, 5);
		sim_disk_fault(r->env, "disk1", 0, LARGE, SIM_OK);
		store_paths_online(r->s);
		RIG_UNTIL(r, !atomic_load(&r->s->path[1].offline));
		shrunk(r);
		(void)there(m, 0, KEYS);
		rig_close(r);
		rig_open(r);
		(void)there(m, 0, KEYS);
		rig_close(r);
		rig_free(r);
		free(m);
	}
}

/* ---- going on without a path -------------------------------------------------------------------- */

static unsigned path_of(struct rig *r, uint64_t k)
{
	char key[STORE_KEY_MAX]; /* longer than it needs: the compiler looks into the hash */
	size_t n = rig_key(key, k);
	struct index_probe probe;
	uint32_t seg, at;

	index_find(r->s->index, XXH3_64bits_withSeed(key, n, r->s->hash_secret), &probe);
	return probe.n == 1 ? loc_path(r->s, probe.ref[0].loc, &seg, &at)->index : 99;
}

static void names(struct rig *r, const char *a, const char *b)
{
	snprintf(r->path[0], sizeof r->path[0], "%s", a);
	snprintf(r->path[1], sizeof r->path[1], "%s", b);
	r->cfg.npaths = b[0] != '\0' ? 2 : 1;
}

static void clear_head(struct rig *r, const char *name)
{
	static const uint8_t zero[8192];

	sim_disk_poke(r->env, name, 0, zero, sizeof zero);
}

/* Three paths, of which the given one goes; every key of another path stays. */
static void forgets(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 6; round++) {
		struct model *m = malloc(sizeof *m);
		unsigned goes = round % 3, at, kept = 0;
		bool power = round >= 3;
		bool *lost = calloc(KEYS, sizeof *lost);
		uint8_t id[16];
		struct rig *r;
		char gone[8];

		begin(m, 80 + round);
		r = &m->r;
		r->cfg.npaths = 3;
		rig_open(r);
		put(m, 0, 1200);
		take(m, 0, 1200, 4);
		memcpy(id, r->s->store_id, sizeof id);
		for (unsigned k = 0; k < 1200; k++) {
			lost[k] = m->id[k] != 0 && path_of(r, k) == goes;
			kept += m->id[k] != 0 && !lost[k];
		}
		assert_in_range(kept, 450, 750);
		rig_crash(r, false);
		snprintf(gone, sizeof gone, "disk%u", goes);
		names(r, goes == 0 ? "disk2" : "disk0", goes == 1 ? "disk2" : "disk1");
		refused(r, "--forget-paths");
		/* who was killed may have missed deletes that the third remembers */
		r->cfg.forget_paths = true;
		refused(r, "was not stopped in order");
		r->cfg.npaths = 3;
		strcpy(r->path[2], gone);
		rig_open(r);
		assert_int_equal(memcmp(r->s->store_id, id, sizeof id),
				 0); /* all are given: nothing is forgotten */
		assert_int_equal(there(m, 0, 1200), 900);
		rig_close(r);
		r->cfg.npaths = 2;
		for (at = 1; start_dies(r, at, power); at += at < 20 ? 1 : 7)
			;
		assert_true(at > 20);
		assert_int_not_equal(memcmp(r->s->store_id, id, sizeof id), 0);
		for (unsigned k = 0; k < 1200; k++)
			if (lost[k])
				m->id[k] = 0;
		assert_int_equal(there(m, 0, 1200), kept);
		assert_int_equal(rig_files(r->shm), 3); /* nothing of the old name is left */
		put(m, 2000, 2300);
		take(m, 1, 1200, 4);
		kept = there(m, 0, 2300);
		rig_crash(r, false);
		r->cfg.forget_paths = false;
		rig_open(r);
		assert_string_equal(r->s->layer, "shm");
		assert_int_equal(there(m, 0, 2300), kept);
		rig_close(r);
		/* what was left out is another store's; cleared, it joins and brings nothing back */
		r->cfg.npaths = 3;
		refused(r, "another store");
		clear_head(r, gone);
		rig_open(r);
		assert_string_equal(r->s->path[2].file->info.path, gone);
		assert_int_equal(there(m, 0, 2300), kept);
		put(m, 2300, 3500);
		take(m, 2, 1200, 4);
		kept = there(m, 0, 3500);
		rig_crash(r, power);
		rig_open(r);
		if (!power)
			assert_int_equal(there(m, 0, 3500), kept);
		rig_close(r);
		rig_free(r);
		free(lost);
		free(m);
	}
}

/* A path is replaced in one start; and two halves of a store that went on by themselves are two stores. */
static void replaced(void **state)
{
	struct model *m = malloc(sizeof *m);
	struct rig *r = &m->r;
	unsigned n, at;

	(void)state;
	begin(m, 90);
	r->cfg.npaths = 2;
	rig_open(r);
	put(m, 0, 600);
	rig_close(r);
	names(r, "disk0", "disk5");
	refused(r, "disk5 is not there");
	r->cfg.forget_paths = true;
	for (at = 1; start_dies(r, at, true); at++) {
		struct format_super sb[2];

		/* the first write of a new file was torn: as the refusal says, it is made anew */
		if (sim_disk_size(r->env, "disk5") == 0)
			continue;
		sim_disk_peek(r->env, "disk5", 0, sb, sizeof sb);
		if (!super_good(&sb[0]) && !super_good(&sb[1]))
			clear_head(r, "disk5");
	}
	n = there(m, 0, 600);
	assert_in_range(n, 150, 450);
	put(m, 600, 1200);
	assert_int_equal(there(m, 0, 1200), n + 600);
	rig_close(r);
	names(r, "disk0", "disk1");
	refused(r, "another store");
	r->cfg.forget_paths = false;
	names(r, "disk5", "disk0");
	rig_open(r);
	assert_int_equal(there(m, 0, 1200), n + 600);
	rig_close(r);
	/* the other half */
	names(r, "disk1", "");
	r->cfg.forget_paths = true;
	r->cfg.seed = 91; /* tests draw ids from it */
	rig_open(r);
	assert_int_equal(there(m, 0, 600), 600 - n);
	rig_close(r);
	rig_free(r);
	free(m);
}

/* ---- refusals and their remedies, versions, -I --------------------------------------------------- */

static void reseal(struct rig *r, const char *name, uint32_t version, uint32_t shift)
{
	for (unsigned i = 0; i < 2; i++) {
		struct format_super sb;

		sim_disk_peek(r->env, name, i * 4096, &sb, sizeof sb);
		if (version != 0)
			sb.version = version;
		if (shift != 0)
			sb.seg_shift = shift;
		super_seal(&sb);
		sim_disk_poke(r->env, name, i * 4096, &sb, sizeof sb);
	}
}

static void remedies(void **state)
{
	struct model *m = malloc(sizeof *m);
	struct rig *r = &m->r;

	(void)state;
	begin(m, 100);
	r->cfg.size = 256 * MIB;
	r->cfg.item_max = 4 * MIB;
	rig_open(r);
	assert_int_equal(r->s->seg_size, 8 * MIB);
	put(m, 0, 50);
	assert_int_equal(set_k(r, 3999, 7, 3 * MIB), STORE_OK); /* longer than the -I of later */
	rig_close(r);
	r->cfg.item_max = MIB;
	for (unsigned i = 0; i < 2; i++) {
		r->cfg.no_attach = i != 0;
		rig_open(r);
		assert_int_equal(there(m, 0, 50), 50);
		assert_true(get_k(r, 3999, 7, 3 * MIB));
		rig_close(r);
	}
	/* a larger -I than the segments take: what the sentence says is true */
	r->cfg.item_max = 5 * MIB;
	refused(r, "use -I of 4096k or less, or start empty with --restart=empty");
	r->cfg.size = 1024 * (uint64_t)MIB;
	refused(r, "use -I of 4096k or less");
	r->cfg.item_max = 4 * MIB;
	rig_open(r);
	assert_int_equal(r->s->path[0].nseg, 127);
	assert_int_equal(there(m, 0, 50), 50);
	rig_close(r);
	/* too small for these segments */
	r->cfg.size = 64 * MIB;
	refused(r, "use --size=128m or more, or start empty with --restart=empty");
	r->cfg.size = 128 * MIB;
	rig_open(r);
	RIG_UNTIL(r, !leaving(&r->s->path[0]));
	assert_int_equal(there(m, 0, 50), 50);
	rig_close(r);
	r->cfg.item_max = 5 * MIB;
	r->cfg.size = 320 * MIB;
	r->cfg.fresh = true;
	rig_open(r);
	assert_int_equal(r->s->seg_size, 16 * MIB);
	assert_int_equal(sim_disk_size(r->env, "disk0"), 320 * MIB);
	rig_close(r);
	r->cfg.item_max = MIB;
	r->cfg.size = 64 * MIB;
	rig_open(r); /* empty, and shorter */
	assert_int_equal(r->s->seg_size, 4 * MIB);
	assert_int_equal(sim_disk_size(r->env, "disk0"), 64 * MIB);
	r->cfg.fresh = false;
	memset(m->id, 0, sizeof m->id);
	put(m, 0, 50);
	rig_close(r);
	/* another version of the format */
	reseal(r, "disk0", FORMAT_VERSION - 1, 0);
	refused(
	    r, "was written by another version of valcached (format 1, this one reads 2): use that "
	       "version, or start empty with --restart=empty");
	reseal(r, "disk0", FORMAT_VERSION, 0);
	rig_open(r);
	assert_int_equal(there(m, 0, 50), 50);
	rig_close(r);
	reseal(r, "disk0", FORMAT_VERSION + 1, 0);
	r->cfg.fresh = true;
	rig_open(r);
	rig_close(r);
	r->cfg.fresh = false;
	rig_open(r);
	put(m, 0, 50);
	rig_close(r);
	/* the file was cut */
	{
		const struct io_engine *e = r->engine;
		struct io_file *f;

		assert_int_equal(e->file_open(e, "disk0", SMALL, &f, NULL), 0);
		assert_int_equal(e->file_resize(f, SMALL / 2, NULL), 0);
		e->file_close(f);
	}
	refused(r, "it was cut");
	r->cfg.fresh = true;
	rig_open(r);
	rig_close(r);
	rig_free(r);
	free(m);
}

/* Shared memory of another version is not looked into: the disk is. */
static void other_memory(void **state)
{
	struct model *m = malloc(sizeof *m);
	struct rig *r = &m->r;
	char name[sizeof r->s->shm_index];
	size_t len;
	struct live *l;

	(void)state;
	begin(m, 110);
	rig_open(r);
	put(m, 0, 300);
	take(m, 0, 300, 3);
	memcpy(name, r->s->shm_index, sizeof name);
	rig_crash(r, false);
	l = shm_attach(name, &len);
	assert_non_null(l);
	l->version++;
	munmap(l, len);
	rig_open(r);
	assert_string_equal(r->s->layer, "disk");
	assert_int_equal(there(m, 0, 300), 200);
	rig_close(r);
	/* another number of threads is no other geometry */
	r->cfg.workers = RIG_WORKERS;
	rig_open(r);
	assert_string_equal(r->s->layer, "shm");
	assert_int_equal(there(m, 0, 300), 200);
	put(m, 300, 400);
	rig_crash(r, false);
	r->cfg.workers = 1;
	rig_open(r);
	assert_string_equal(r->s->layer, "shm");
	assert_int_equal(there(m, 0, 400), 300);
	rig_close(r);
	rig_free(r);
	free(m);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(grows),
	    cmocka_unit_test(cannot_grow),
	    cmocka_unit_test(shrinks),
	    cmocka_unit_test(shrinks_without_loss),
	    cmocka_unit_test(killed_without_loss),
	    cmocka_unit_test(shrinks_and_dies),
	    cmocka_unit_test(device),
	    cmocka_unit_test(fails_meanwhile),
	    cmocka_unit_test(forgets),
	    cmocka_unit_test(replaced),
	    cmocka_unit_test(remedies),
	    cmocka_unit_test(other_memory),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
