/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ocache-speed: the time of an operation of libocache's object cache, on the requests that
 * src/speed.rs gives its rivals: each thread gets the keys of a file in turn, each from a place of
 * its own, looks at the object it is given, and adds a new one after a miss. One JSON object on
 * standard output. Exit status 0, 1 (it could not run, or an object was another key's), 2 (bad
 * arguments).
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"
#include "bench/sim/sim.h"
#include "ocache/ocache.h"

#define BATCH       1024u
#define THREADS_MAX 256u
#define TIMES_MAX   (1u << 20) /* batches of a thread that are timed one by one */

struct done {
	uint64_t ops, misses, wrong, cpu_ns, wall_ns;
	uint32_t *times; /* of each batch, ns */
	size_t times_n;
};

static struct {
	struct ocache *cache;
	uint32_t *key;
	size_t keys;
	size_t value;
	unsigned threads;
	pthread_barrier_t begin;
	_Atomic bool stop;
} S;

struct worker {
	pthread_t thread;
	unsigned number;
	struct done done;
};

static void destroy(void *ctx, void *object)
{
	(void)ctx;
	free(object);
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec t;

	AZ(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t));
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/*
 * What ocache_bytes_decoder() would make of the value: 16 bytes before it, as many as Rust's
 * Arc<[u8]> has, so that the allocator gives both the same.
 */
static void add(struct seg_id id, uint32_t key)
{
	static const struct ocache_decoder decoder = {.destroy = destroy};
	struct ocache_bytes *object = malloc(sizeof(*object) + S.value);

	AN(object);
	memset(object + 1, (int)(key & 0xff), S.value);
	memcpy(object + 1, &key, sizeof(key));
	object->len = S.value;
	object->data = (const unsigned char *)(object + 1);
	(void)ocache_add(S.cache, id, &decoder, object, S.value, NULL);
}

static void batch(const uint32_t *keys, size_t n, struct done *d)
{
	static const struct ocache_hint hint = {.flags = OCACHE_CACHED_ONLY};

	for (size_t i = 0; i < n; i++) {
		uint32_t key = keys[i], there;
		struct seg_id id = {mix64(key), mix64(~(uint64_t)key)};
		struct ocache_ref ref;

		if (ocache_get(S.cache, id, &hint, NULL, &ref) == 0) {
			memcpy(&there, (const struct ocache_bytes *)ref.object + 1, sizeof(there));
			d->wrong += there != key;
			ocache_release(&ref);
		} else {
			add(id, key);
			d->misses++;
		}
	}
	d->ops += n;
}

static void step(size_t *at, struct done *d)
{
	size_t n = S.keys - *at < BATCH ? S.keys - *at : BATCH;
	uint64_t begun = clock_ns();

	batch(S.key + *at, n, d);
	if (n == BATCH && d->times != NULL && d->times_n < TIMES_MAX)
		d->times[d->times_n++] = (uint32_t)(clock_ns() - begun);
	*at = *at + n == S.keys ? 0 : *at + n;
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* The time of an operation in the batch that this part of all were quicker than; 0: none was timed. */
static double quantile(const uint32_t *times, size_t n, double part)
{
	return n > 0 ? times[(size_t)((double)(n - 1) * part)] / (double)BATCH : 0;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	size_t at = S.keys / S.threads * w->number;
	struct done warm = {0};
	uint64_t cpu, wall;

	while (warm.ops < S.keys) /* a lap fills the cache */
		step(&at, &warm);
	w->done.times = malloc(TIMES_MAX * sizeof(*w->done.times));
	pthread_barrier_wait(&S.begin);
	cpu = thread_cpu_ns();
	wall = clock_ns();
	while (!atomic_load_explicit(&S.stop, memory_order_relaxed))
		step(&at, &w->done);
	w->done.cpu_ns = thread_cpu_ns() - cpu;
	w->done.wall_ns = clock_ns() - wall;
	w->done.wrong += warm.wrong;
	return NULL;
}

_Noreturn static void fail(int status, const char *what)
{
	fprintf(stderr, "ocache-speed: %s\n", what);
	exit(status);
}

static void load_keys(const char *path)
{
	FILE *f = fopen(path, "re");
	long bytes;

	if (f == NULL || fseek(f, 0, SEEK_END) != 0 || (bytes = ftell(f)) < 4)
		fail(1, "the file of keys cannot be read, or is empty");
	rewind(f);
	S.keys = (size_t)bytes / sizeof(*S.key);
	S.key = malloc(S.keys * sizeof(*S.key));
	if (S.key == NULL || fread(S.key, sizeof(*S.key), S.keys, f) != S.keys)
		fail(1, "the file of keys cannot be read");
	fclose(f);
}

int main(int argc, char **argv)
{
	static struct worker worker[THREADS_MAX];
	struct ocache_config cfg = {.struct_size = sizeof cfg};
	struct timespec pause;
	struct done sum = {0};
	uint32_t *times = NULL;
	double seconds;

	if (argc != 6)
		fail(
		    2,
		    "usage: ocache-speed KEYS CAPACITY THREADS SECONDS VALUE\n"
		    "KEYS is a file of 32-bit key numbers in this machine's order; CAPACITY and VALUE "
		    "are bytes");
	cfg.budget = strtoull(argv[2], NULL, 10);
	S.threads = (unsigned)strtoul(argv[3], NULL, 10);
	seconds = strtod(argv[4], NULL);
	S.value = strtoull(argv[5], NULL, 10);
	if (S.threads == 0 || S.threads > THREADS_MAX || S.value < sizeof(uint32_t) ||
	    !(seconds > 0))
		fail(2, "threads, seconds or bytes of a value are out of range");
	load_keys(argv[1]);
	if (S.keys < S.threads || ocache_open(&cfg, &S.cache, NULL) != 0)
		fail(
		    1,
		    "there are too few keys, or the cache cannot be opened: CAPACITY may be too small");
	AZ(pthread_barrier_init(&S.begin, NULL, S.threads + 1));
	for (unsigned i = 0; i < S.threads; i++) {
		worker[i].number = i;
		AZ(pthread_create(&worker[i].thread, NULL, work, &worker[i]));
	}
	pthread_barrier_wait(&S.begin);
	pause =
	    (struct timespec){(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
	nanosleep(&pause, NULL);
	atomic_store(&S.stop, true);
	for (unsigned i = 0; i < S.threads; i++) {
		const struct done *d = &worker[i].done;

		AZ(pthread_join(worker[i].thread, NULL));
		sum.ops += d->ops;
		sum.misses += d->misses;
		sum.wrong += d->wrong;
		sum.cpu_ns += d->cpu_ns;
		sum.wall_ns = d->wall_ns > sum.wall_ns ? d->wall_ns : sum.wall_ns;
		times = realloc(times, (sum.times_n + d->times_n + 1) * sizeof(*times));
		AN(times);
		if (d->times_n > 0)
			memcpy(times + sum.times_n, d->times, d->times_n * sizeof(*times));
		sum.times_n += d->times_n;
		free(d->times);
	}
	AN(times); /* there is a thread */
	qsort(times, sum.times_n, sizeof(*times), by_size);
	printf("{\"cache\": \"ocache\", \"threads\": %u, \"ops\": %lu, \"misses_percent\": %.3f, "
	       "\"ops_per_s\": %.0f, \"wall_ns\": %.2f, \"cpu_ns\": %.2f, \"p10_ns\": %.2f, "
	       "\"median_ns\": %.2f, \"wrong\": %lu}\n",
	       S.threads, (unsigned long)sum.ops, 100 * ratio(sum.misses, sum.ops),
	       (double)sum.ops * 1e9 / (double)sum.wall_ns,
	       (double)sum.wall_ns * S.threads / (double)sum.ops,
	       (double)sum.cpu_ns / (double)sum.ops, quantile(times, sum.times_n, 0.1),
	       quantile(times, sum.times_n, 0.5), (unsigned long)sum.wrong);
	free(times);
	AZ(ocache_close(&S.cache));
	pthread_barrier_destroy(&S.begin);
	free(S.key);
	return sum.wrong == 0 ? 0 : 1;
}
