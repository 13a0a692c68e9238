/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts on what a killed process would leave, and asks for every promise. A check is three starts:
 *
 *   memory   as a daemon would: from shared memory, or through the gate to the disk. Every key is looked
 *            at; then the store is used, and is stopped or killed
 *   then     a start on what that left: what was seen and answered holds
 *   disk     what the first process left, from the disk alone: the same is found as from memory
 *
 * The store under check is opened in this process. Its disk is a private mapping of the other's.
 */
#include <sys/mman.h>

#include "tests/crash/torn.h"

#define LAPS_EVERY 64u /* checks: afterwards the store is written over */
#define LAP_KEYS   400u
#define LAP_LEN    9000u

static struct rig rig;
static struct mapped machine;
static void *disk;
static uint32_t have[KEYS]; /* what the store under check holds */
static bool lossy;          /* ... or nothing: it has evicted */
static const char *phase = "";
static uint32_t phase_key;

void check_name(char *to, size_t n)
{
	snprintf(to, n, "%s, key %u", phase, phase_key);
}

void torn_rig(struct rig *r, struct mapped *m, void *mem)
{
	mapped_init(m, mem, DISK_SIZE);
	rig_init(r, NULL);
	log_set_level(getenv("RIG_LOG") != NULL ? LOG_INFO : (enum log_level)2);
	r->engine = &m->engine;
	r->cfg.size = DISK_SIZE;
	r->cfg.item_max = FORMAT_SEG_MIN / 2;
	r->cfg.mean_value = 64 * 1024; /* the smallest index */
	r->cfg.ram_bytes = 64 * 1024;
	r->cfg.buffer_bytes = 512 * 1024;
	r->cfg.sync_ns = 2 * NS_PER_MS;
	r->cfg.reinsert_all = 0.5;
}

/* The store names what it lets go of; with a good disk there is no reason but room. */
static void on_gone(void *arg, enum store_gone why, uint64_t hash, uint64_t loc)
{
	(void)arg;
	(void)hash;
	(void)loc;
	if (machine.dead)
		return;
	if (why != STORE_GONE_RECYCLED && why != STORE_GONE_VICTIM)
		fail_msg("a value is gone, reason %d, and nothing was wrong with the disk",
			 (int)why);
	lossy = true;
}

void check_open(const struct sight *v, int disk_fd)
{
	disk = mmap(NULL, v->disk_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, disk_fd, 0);
	assert_true(disk != MAP_FAILED);
	torn_rig(&rig, &machine, disk);
	rig.cfg.gone = on_gone;
}

static void empty_folder(void)
{
	rig_remove_dir(rig.shm);
	assert_int_equal(mkdir(rig.shm, 0700), 0);
}

void check_abandon(void)
{
	if (rig.shm[0] != '\0') {
		rig_remove_dir(rig.shm);
		rig_remove_dir(rig.dir);
	}
}

void check_close(void)
{
	rig_free(&rig);
	munmap(disk, DISK_SIZE);
}

/* As the other process would leave it now. */
static void lay_out(const struct sight *v)
{
	empty_folder();
	sight_copy(v, rig.shm);
	assert_int_equal(madvise(disk, v->disk_size, MADV_DONTNEED), 0);
}

static void start(const char *name, bool from_disk)
{
	phase = name;
	phase_key = 0;
	rig.cfg.no_attach = from_disk;
	rig_open(&rig);
}

/* SIGKILL: shared memory as it is now, and no write that is not on disk yet. over: nobody comes after it. */
static void kill_it(struct rig *r, bool over)
{
	struct mapped *m = r->engine->env;
	struct rig_corpse c = {0};

	snprintf(c.name, sizeof c.name, "%s", r->s->shm_wbuf);
	snprintf(c.index_name, sizeof c.index_name, "%s", r->s->shm_index);
	if (!over) {
		c.mem = rig_slurp(c.name, &c.len);
		c.index = rig_slurp(c.index_name, &c.index_len);
	}
	m->dead = true;
	rig_bury(r, &c);
	m->dead = false;
}

uint32_t check_key(struct rig *r, uint32_t k, bool head)
{
	char key[32];
	size_t n = rig_key(key, k);
	struct got g = rig_fetch(r, 0, key, n, head);
	uint32_t id = g.flags;

	phase_key = k;
	if (g.status != STORE_OK) {
		assert_int_equal(g.status, STORE_MISS);
		return 0;
	}
	if (id == 0 || g.len != ID_LEN(id) || (!head && !rig_is(g.value, g.len, id)))
		fail_msg("key %u: %u bytes, flags %#x: no value is such", k, g.len, id);
	rig_drop(&g);
	return id;
}

/* Values that the scene does not touch are read as a whole now and then, else by their heads. */
static bool head_is_enough(uint32_t k, uint64_t nth)
{
	return told->id[0][k] == told->id[1][k] && rig_mix(k * 7919u + nth) % 8 != 0;
}

/* Meanwhile the slow worker does nothing: it might evict what is asked for. */
static void look(struct rig *r, uint32_t *id, uint64_t nth)
{
	r->held = true;
	for (uint32_t k = 0; k < KEYS; k++)
		id[k] = told->ever[k] ? check_key(r, k, head_is_enough(k, nth)) : 0;
	r->held = false;
}

void check_measure(struct rig *r, unsigned which)
{
	uint32_t id[KEYS];

	r->held = false;
	if (r->s != NULL)
		kill_it(r, false);
	rig_open(r);
	look(r, id, 0);
	for (uint32_t k = 0; k < KEYS; k++)
		told->id[which][k] = id[k];
	kill_it(r, true);
}

/* What the first start has found: before the scene, or after it. */
static void judge(const uint32_t *id, struct found *f)
{
	uint64_t missed = 0;

	for (uint32_t k = 0; k < KEYS; k++) {
		uint32_t before = told->id[0][k], after = told->id[1][k];

		phase_key = k;
		if (before != after && id[k] == after) {
			/* not by this start itself, for want of room in its index */
			f->turned[k] = f->turned[k] || rig.s->drops_total == 0;
			continue;
		}
		if (id[k] == before && !f->turned[k] && (before == after || !told->answered[k]))
			continue;
		/* the start itself may have had no room in its index */
		if (id[k] == 0 && ++missed <= rig.s->drops_total)
			continue;
		fail_msg("key %u: %#x was there; %#x before the scene, %#x after it%s%s", k, id[k],
			 before, after, told->answered[k] ? ", which was answered" : "",
			 f->turned[k] ? ", and found so by an earlier start" : "");
	}
	f->missed += missed;
}

static uint32_t fresh(uint32_t len)
{
	static uint32_t nth = 0x8000;

	nth = nth == 0xffff ? 0x8000 : nth + 1;
	return ID(nth, len);
}

/* want; or, once the store evicts, what an absent key would answer. */
static void answer(enum store_status got, enum store_status want, enum store_status absent)
{
	if (got != want && atomic_load(&rig.s->path[0].seg_recycled) > 0)
		want = absent;
	assert_int_equal(got, want);
}

/* Each operation on it, and their answers. */
static void use_key(uint32_t k)
{
	uint32_t id = have[k], other = fresh(900 + k);

	phase_key = k;
	if (id != 0) {
		answer(add_k(&rig, k, id, ID_LEN(id)), STORE_EXISTS, STORE_OK);
		answer(set_k(&rig, k, other, ID_LEN(other)), STORE_CONFLICT, STORE_OK);
		answer(del_k(&rig, k), STORE_OK, STORE_MISS);
		assert_int_equal(check_key(&rig, k, false), 0);
	}
	assert_int_equal(del_k(&rig, k), STORE_MISS);
	have[k] = 0;
	if (k % 3 != 0) {
		told->ever[k] = true;
		assert_int_equal(set_k(&rig, k, other, ID_LEN(other)), STORE_OK);
		assert_int_equal(check_key(&rig, k, false), other);
		have[k] = other;
	}
}

/* What the scene was about, something else, something new; now and then the whole store. */
static void use(uint64_t nth, struct found *f)
{
	uint32_t k, any = (uint32_t)(rig_mix(nth) % KEYS);
	unsigned n = 0;

	phase = "use";
	for (k = 0; k < KEYS && n < 3; k++)
		if (told->id[0][k] != told->id[1][k] && rig_mix(nth + k) % 2 == 0) {
			use_key(k);
			n++;
		}
	for (k = any; have[k] == 0 && k < KEYS - 1; k++)
		;
	use_key(k);
	if (nth % LAPS_EVERY == 0) {
		phase = "laps";
		for (uint32_t i = 0; i < LAP_KEYS; i++) {
			uint32_t id = fresh(LAP_LEN);

			k = KEYS + i;
			assert_int_equal(set_k(&rig, k, id, ID_LEN(id)), STORE_OK);
		}
		f->laps++;
	}
}

static void look_again(uint64_t nth)
{
	uint32_t id[KEYS];

	look(&rig, id, nth + 1);
	for (uint32_t k = 0; k < KEYS; k++)
		if (id[k] != have[k] && (id[k] != 0 || !lossy))
			fail_msg("key %u: %#x was there, not %#x", k, id[k], have[k]);
}

void check_state(const struct sight *v, uint64_t nth, struct found *f)
{
	uint64_t coin = rig_mix(nth * 31 + 7);
	uint32_t first[KEYS], second[KEYS];
	uint64_t drops;

	f->starts += 3;
	lay_out(v);
	lossy = false;
	start("start from memory", false);
	if (strcmp(rig.s->layer, "shm") == 0)
		f->from_shm++;
	else
		f->from_disk++;
	look(&rig, first, nth);
	judge(first, f);
	drops = rig.s->drops_total;
	memcpy(have, first, sizeof have);
	use(nth, f);
	phase = "end";
	if (coin & 1)
		rig_close(&rig);
	else
		kill_it(&rig, false);
	start("the start after that", coin & 2);
	look_again(nth);
	phase = "end";
	kill_it(&rig, true);

	lay_out(v);
	start("start from disk", true);
	look(&rig, second, nth);
	for (uint32_t k = 0; k < KEYS; k++)
		if (first[k] != second[k] && drops == 0 && rig.s->drops_total == 0)
			fail_msg("key %u: %#x from memory, %#x from disk", k, first[k], second[k]);
	phase = "end";
	kill_it(&rig, true);
}
