/* SPDX-License-Identifier: Apache-2.0 */
/* All of it: from a cold object cache through the tiers to decoded segments; see segments.h. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"
#include "bench/segments/segments.h"
#include "datoms/segment.h"

struct run {
	struct ocache *cache;
	const struct seg_id *ids;
	uint64_t *took_ns; /* of each call */
	uint64_t *begun_ns;
	uint32_t n, depth;
	_Atomic uint32_t next, failed, done;
	int first_error; /* some failed call's */
	sem_t over;
};

/* ---- calls ---- */

static void note(struct run *r, uint32_t i, int status, struct ocache_ref *ref)
{
	r->took_ns[i] = clock_ns() - r->begun_ns[i];
	if (status != 0) {
		atomic_fetch_add(&r->failed, 1);
		r->first_error = status;
		r->took_ns[i] = UINT64_MAX; /* for ever */
	} else {
		const struct segment *s = ref->object;

		if (s->n == 0)
			die("an empty segment");
		ocache_release(ref);
	}
	if (atomic_fetch_add(&r->done, 1) + 1 == r->n)
		AZ(sem_post(&r->over));
}

static void submit_next(struct run *r);

struct call {
	struct run *run;
	uint32_t index;
};

static void came(void *user, unsigned index, int status, struct ocache_ref *ref)
{
	struct call *c = user;
	struct run *r = c->run;

	(void)index;
	note(r, c->index, status, ref);
	free(c);
	submit_next(r);
}

static void submit_next(struct run *r)
{
	struct ocache_want want = {0};
	uint32_t i = atomic_fetch_add(&r->next, 1);
	struct call *c;

	if (i >= r->n)
		return;
	c = malloc(sizeof *c);
	if (c == NULL)
		die("no memory");
	*c = (struct call){r, i};
	want.id = r->ids[i];
	r->begun_ns[i] = clock_ns();
	if (ocache_submit(r->cache, &want, 1, 0, NULL, came, c) != 0)
		die("no memory");
}

static void *get_some(void *arg)
{
	struct run *r = arg;
	uint32_t i;

	while ((i = atomic_fetch_add(&r->next, 1)) < r->n) {
		struct ocache_ref ref;
		int err;

		r->begun_ns[i] = clock_ns();
		err = ocache_get(r->cache, r->ids[i], NULL, NULL, &ref);
		note(r, i, err, &ref);
	}
	return NULL;
}

static void call_all(struct run *r, bool get)
{
	pthread_t *thread = calloc(r->depth, sizeof *thread);

	if (thread == NULL)
		die("no memory");
	for (uint32_t i = 0; i < r->depth; i++) {
		if (get)
			AZ(pthread_create(&thread[i], NULL, get_some, r));
		else
			submit_next(r);
	}
	while (sem_wait(&r->over) != 0)
		;
	for (uint32_t i = 0; get && i < r->depth; i++)
		AZ(pthread_join(thread[i], NULL));
	free(thread);
}

/* ---- what is said ---- */

static int by_number(const void *x, const void *y)
{
	const uint64_t *a = x, *b = y;

	return *a < *b ? -1 : *a > *b;
}

static double ms(uint64_t ns)
{
	return 1e-6 * (double)ns;
}

static struct ocache_stats stats_of(struct ocache *c)
{
	struct ocache_stats st;

	ocache_stats(c, &st, sizeof st);
	return st;
}

/* Fills go on when the calls are over: until none is due. */
static void wait_for_fills(struct ocache *c)
{
	struct ocache_tier_stats t;
	struct ocache_stats st;

	do {
		struct timespec pause = {.tv_nsec = 2000000};

		nanosleep(&pause, NULL);
		st = stats_of(c);
		if (ocache_tier_stats(c, 0, &t, sizeof t) != 0)
			return;
	} while (t.writes + t.writes_failed < st.fills);
}

static void say_tiers(struct ocache *c)
{
	struct ocache_tier_stats t;

	printf("\"tiers\": {");
	for (unsigned i = 0; ocache_tier_stats(c, i, &t, sizeof t) == 0; i++)
		printf(
		    "%s\"%s\": {\"reads\": %llu, \"hits\": %llu, \"misses\": %llu, \"timeouts\": %llu, "
		    "\"failures\": %llu, \"skipped\": %llu, \"p50_ms\": %.3f, \"p99_ms\": %.3f}",
		    i == 0 ? "" : ", ", t.key, (unsigned long long)t.reads,
		    (unsigned long long)t.hits, (unsigned long long)t.misses,
		    (unsigned long long)t.timeouts, (unsigned long long)t.failures,
		    (unsigned long long)t.skipped, ms(t.read_ns_p50), ms(t.read_ns_p99));
	printf("}");
}

static struct ocache *chain_open(const struct options *o)
{
	struct ocache_tier tier[2];
	struct ocache_config cfg = {.struct_size = sizeof cfg,
				    .budget = o->budget,
				    .tiers = tier,
				    .threads = o->threads,
				    .decoder = &segment_decoder};
	struct ocache *cache;
	char *cause;

	memset(tier, 0, sizeof tier);
	if (o->server != NULL) {
		tier[cfg.tiers_count].tier = server_open(o);
		tier[cfg.tiers_count].deadline_ns = o->deadline_ns;
		tier[cfg.tiers_count++].no_fill = o->no_fill;
	}
	tier[cfg.tiers_count].tier = files_open(o);
	tier[cfg.tiers_count++].deadline_ns = 60 * NS_PER_S;
	if (ocache_open(&cfg, &cache, &cause) != 0)
		die("%s", cause);
	return cache;
}

/* Calls that have succeeded within the server's deadline and the 99th percentile of the files. */
static uint32_t in_time(const struct run *r, uint64_t limit_ns)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->n; i++)
		n += r->took_ns[i] <= limit_ns;
	return n;
}

int read_chain(const struct options *o)
{
	struct run r = {.depth = o->depth};
	struct ocache_tier_stats files;
	double cpu = cpu_s(), cpu_calls, took, filled;
	uint64_t begun, limit;
	struct ocache_stats st;

	r.ids = list_read(o->list, &r.n);
	r.n = o->count < r.n ? (uint32_t)o->count : r.n;
	r.took_ns = calloc(r.n, sizeof *r.took_ns);
	r.begun_ns = calloc(r.n, sizeof *r.begun_ns);
	if (r.took_ns == NULL || r.begun_ns == NULL)
		die("no memory");
	r.cache = chain_open(o);
	AZ(sem_init(&r.over, 0, 0));
	begun = clock_ns();
	call_all(&r, strcmp(o->by, "get") == 0);
	took = 1e-9 * (double)(clock_ns() - begun);
	cpu_calls = cpu_s() - cpu;
	wait_for_fills(r.cache);
	filled = 1e-9 * (double)(clock_ns() - begun);
	st = stats_of(r.cache);
	if (ocache_tier_stats(r.cache, o->server != NULL, &files, sizeof files) != 0)
		die("no tier of files");
	limit = o->deadline_ns + files.read_ns_p99;
	printf(
	    "{\"seconds\": %.6f, \"segments\": %u, \"failed\": %u, \"error\": \"%s\", \"cpu_s\": %.3f, "
	    "\"filled_s\": %.3f, \"fills\": %llu, \"fills_dropped\": %llu, \"fills_failed\": %llu, ",
	    took, r.n, atomic_load(&r.failed), r.first_error != 0 ? strerror(-r.first_error) : "",
	    cpu_calls, filled, (unsigned long long)st.fills, (unsigned long long)st.fills_dropped,
	    (unsigned long long)st.fills_failed);
	printf("\"limit_ms\": %.3f, \"in_time\": %u, ", ms(limit), in_time(&r, limit));
	qsort(r.took_ns, r.n, sizeof *r.took_ns, by_number);
	printf("\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f, ", ms(r.took_ns[r.n / 2]),
	       ms(r.took_ns[(uint64_t)r.n * 99 / 100]), ms(r.took_ns[r.n - 1]));
	say_tiers(r.cache);
	printf("}\n");
	if (ocache_close(&r.cache) != 0)
		die("the cache is still in use");
	return r.failed == 0 ? 0 : 1;
}
