/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: set=full wrap=no
 * The published io-stats samples that have tiers of their own, read through a real valcached on a socket and real files,
 * each answer held back until it has taken as long as theirs did. (All samples, over a tier that does as it is told, are in
 * ocache-golden.c.)
 */
#include "efs/efs.h"
#include "ocache/memcached.h"
#include "tests/unit/golden.h"
#include "tests/unit/server.h"

/* ---- a tier whose reads take so long at least -------------------------------------------------- */

struct held {
	struct seg_read read; /* the tier's below */
	struct seg_read *asked;
	struct late *late;
	uint64_t asked_ns, due_ns;
	struct held *next;
};

struct late {
	struct tier tier;
	struct tier_ops ops;
	struct tier *below;
	_Atomic uint64_t delay_ns;
	_Atomic uint64_t took_ns; /* reads, from being asked to answering */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more;
	/* under lock: */
	struct held *first, **end;
	bool over;
};

static struct late *late_of(struct tier *t)
{
	return container_of(t, struct late, tier);
}

static void has_come(struct seg_read *r)
{
	struct held *h = container_of(r, struct held, read);
	struct late *l = h->late;

	pthread_mutex_lock(&l->lock);
	h->next = NULL;
	*l->end = h;
	l->end = &h->next;
	pthread_cond_signal(&l->more);
	pthread_mutex_unlock(&l->lock);
}

static void *give_back(void *arg)
{
	struct late *l = arg;

	pthread_mutex_lock(&l->lock);
	for (;;) {
		struct held *h = l->first;

		if (h == NULL && l->over)
			break;
		if (h == NULL) {
			pthread_cond_wait(&l->more, &l->lock);
			continue;
		}
		l->first = h->next;
		if (l->first == NULL)
			l->end = &l->first;
		pthread_mutex_unlock(&l->lock);
		while (clock_ns() + 100000 < h->due_ns)
			nap(h->due_ns - clock_ns() - 100000);
		while (clock_ns() < h->due_ns)
			;
		h->asked->status = h->read.status;
		h->asked->bytes = h->read.bytes;
		atomic_fetch_add(&l->took_ns, clock_ns() - h->asked_ns);
		h->asked->done(h->asked);
		free(h);
		pthread_mutex_lock(&l->lock);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

static void late_read(struct tier *t, struct seg_read *const *reads, unsigned n)
{
	struct late *l = late_of(t);

	for (unsigned i = 0; i < n; i++) {
		struct held *h = calloc(1, sizeof *h);
		struct seg_read *r;

		AN(h);
		h->late = l;
		h->asked = reads[i];
		h->asked_ns = clock_ns();
		h->due_ns = h->asked_ns + atomic_load(&l->delay_ns);
		h->read = (struct seg_read){
		    .id = reads[i]->id, .deadline_ns = reads[i]->deadline_ns, .done = has_come};
		r = &h->read;
		l->below->ops->read(l->below, &r, 1);
	}
}

static void late_cancel(struct tier *t, struct seg_read *r)
{
	(void)t; /* it comes by itself */
	(void)r;
}

static void late_write(struct tier *t, struct seg_write *const *writes, unsigned n)
{
	struct late *l = late_of(t);

	l->below->ops->write(l->below, writes, n);
}

static void late_close(struct tier *t)
{
	struct late *l = late_of(t);

	pthread_mutex_lock(&l->lock);
	l->over = true;
	pthread_cond_signal(&l->more);
	pthread_mutex_unlock(&l->lock);
	AZ(pthread_join(l->thread, NULL));
	l->below->ops->close(l->below);
	AZ(pthread_cond_destroy(&l->more));
	AZ(pthread_mutex_destroy(&l->lock));
	free(l);
}

static struct late *late_over(struct tier *below, uint64_t delay_ns)
{
	struct late *l = calloc(1, sizeof *l);

	assert_non_null(l);
	l->below = below;
	l->tier = (struct tier){.ops = &l->ops, .key = below->key};
	l->ops = (struct tier_ops){.abi = TIER_ABI,
				   .caps = below->ops->caps,
				   .key = below->ops->key,
				   .read = late_read,
				   .cancel = late_cancel,
				   .close = late_close,
				   .write = late_write};
	atomic_init(&l->delay_ns, delay_ns);
	l->end = &l->first;
	AZ(pthread_mutex_init(&l->lock, NULL));
	AZ(pthread_cond_init(&l->more, NULL));
	AZ(pthread_create(&l->thread, NULL, give_back, l));
	return l;
}

/* ---- the real ones ------------------------------------------------------------------------------ */

static struct tier *files(const char *key, bool record)
{
	struct efs_config cfg = {
	    .struct_size = sizeof cfg, .path = root, .key = key, .record = record, .no_sync = true};
	struct tier *t = NULL;

	assert_int_equal(efs_open(&cfg, &t, NULL), 0);
	return t;
}

static struct tier *daemon_at(const struct server *s)
{
	struct tier_memcached_config cfg = {.struct_size = sizeof cfg,
					    .servers = &(const char *){s->sock},
					    .servers_count = 1,
					    .key = "valcache"};
	struct tier *t = NULL;

	assert_int_equal(tier_memcached_open(&cfg, &t, NULL), 0);
	return t;
}

/* Keys 0 to n - 1, by the writer's path. */
static void write_files(uint64_t n)
{
	struct ocache_tier tier = {.tier = files("efs", true), .deadline_ns = 60 * NS_PER_S};
	struct ocache *c = chain_of(MIB, &tier, 1);

	for (uint64_t key = 0; key < n; key++) {
		struct segment s = {.id = id_of(key), .size = 100 + key % 50 * 100};

		assert_int_equal(ocache_put(c, s.id, &s, sizeof s, 0), 0);
	}
	cache_close(c);
}

/* ---- samples ------------------------------------------------------------------------------------ */

/*
 * {:dir 1 :avet 2 :valcache-direct 2 :efs 2 :efs-ms 26.27 :valcache 2 :dir-load 1 :valcache-ms 50.57
 *  :avet-load 2 :ocache 2}
 */
static void cold_lookup(void **state)
{
	struct server s = {0};
	bool good = false;

	(void)state;
	server_start(&s, true, "golden");
	write_files(2 * TRIES);
	for (uint64_t try = 0; try < (TIMED ? TRIES : 1) && !good; try++) {
		struct ocache_tier tiers[3] = {{.deadline_ns = 20 * NS_PER_S},
					       {.deadline_ns = 20 * NS_PER_S},
					       {.deadline_ns = 20 * NS_PER_S}};
		struct iostats *io = iostats_begin("query", "artist/by-name", NULL);
		struct late *server, *efs;
		struct iostats_map *map;
		struct ocache *c;

		assert_int_equal(tier_mem_open("valcache-direct", MIB, &tiers[0].tier), 0);
		server = late_over(daemon_at(&s), 25285000);
		efs = late_over(files("efs", false), 13135000);
		tiers[1].tier = &server->tier;
		tiers[2].tier = &efs->tier;
		c = chain_of(4 * MIB, tiers, 3);
		assert_int_equal(get_one(c, 2 * try, IOSTATS_AVET, true, io), 0);
		assert_int_equal(get_one(c, 2 * try + 1, IOSTATS_AVET, false, io), 0);
		map = iostats_end(&io);
		good =
		    is_cold_lookup(map, atomic_load(&server->took_ns), atomic_load(&efs->took_ns));
		iostats_map_free(map);
		/* and the daemon was filled with it */
		WAIT_FOR(tier_of(c, 1).writes == 2);
		assert_true(ocache_forget(c, id_of(2 * try)));
		atomic_store(&server->delay_ns, 0);
		assert_int_equal(get(c, 2 * try, NULL, NULL), 0);
		cache_close(c);
	}
	assert_true(good || !TIMED);
	server_end(&s, SIGTERM);
}

/* {:aevt 607 :aevt-load 414 :ocache 607 :dev 212 :dev-ms 304.1}, then {:aevt 405 :ocache 405} */
static void cold_then_warm(void **state)
{
	bool good = false;

	(void)state;
	write_files(405);
	for (unsigned try = 0; try < (TIMED ? TRIES : 1) && !good; try++) {
		struct late *dev = late_over(files("dev", true), 0);
		struct ocache_tier tier = {.tier = &dev->tier, .deadline_ns = 20 * NS_PER_S};
		struct ocache *c = chain_of(64 * MIB, &tier, 1);
		struct iostats *io;
		struct iostats_map *map;

		for (uint64_t key = 0; key < 193; key++)
			assert_int_equal(get_one(c, key, IOSTATS_AEVT, false, NULL), 0);
		io = iostats_begin("query", "artist/avg-name-length", NULL);
		atomic_store(&dev->took_ns, 0); /* what was there is not asked for in it */
		atomic_store(&dev->delay_ns, 1434434);
		for (uint64_t key = 0; key < 203; key++)
			assert_int_equal(get_one(c, key, IOSTATS_AEVT, false, io), 0);
		for (uint64_t key = 203; key < 405; key++) {
			struct ocache_want want = {.id = id_of(key), .hint.sort = IOSTATS_AEVT};

			assert_int_equal(ocache_prefetch(c, &want, 1, io), 0);
			assert_int_equal(get_one(c, key, IOSTATS_AEVT, false, io), 0);
		}
		map = iostats_end(&io);
		good = is_half_cold_query(map, atomic_load(&dev->took_ns));
		iostats_map_free(map);
		assert_warm_query(c);
		cache_close(c);
	}
	assert_true(good || !TIMED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(cold_lookup, make_root, remove_root),
	    cmocka_unit_test_setup_teardown(cold_then_warm, make_root, remove_root),
	};

	return cmocka_run_group_tests_name("efs-golden", tests, NULL, NULL);
}
