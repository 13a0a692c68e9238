/* SPDX-License-Identifier: Apache-2.0 */
/* The bounds: one tier alone, and decoding alone; see segments.h. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/envelope.h"
#include "bench/segments/segments.h"
#include "datoms/segment.h"
#include "ocache/load.h"

/* ---- a tier alone ---- */

struct all {
	struct tier *tier;
	const struct seg_id *ids;
	struct seg_buf **kept; /* NULL: they are dropped */
	uint32_t n;
	_Atomic uint32_t next, failed, done;
	_Atomic uint64_t bytes;
	sem_t over;
};

struct one {
	struct seg_read read;
	struct all *all;
	uint32_t index;
};

/* The next read, by who has just got the last one's answer. */
static void go_on(struct one *one)
{
	struct all *a = one->all;
	struct seg_read *r = &one->read;

	one->index = atomic_fetch_add(&a->next, 1);
	if (one->index >= a->n) {
		free(one);
		return;
	}
	*r = (struct seg_read){.id = a->ids[one->index],
			       .deadline_ns = (int64_t)(clock_ns() + 60 * NS_PER_S),
			       .done = r->done};
	a->tier->ops->read(a->tier, &r, 1);
}

static void came(struct seg_read *r)
{
	struct one *one = container_of(r, struct one, read);
	struct all *a = one->all;

	if (r->status != 0) {
		atomic_fetch_add(&a->failed, 1);
	} else {
		atomic_fetch_add(&a->bytes, seg_buf_len(r->bytes));
		if (a->kept != NULL)
			a->kept[one->index] = r->bytes;
		else
			seg_buf_drop(r->bytes);
	}
	if (atomic_fetch_add(&a->done, 1) + 1 == a->n)
		AZ(sem_post(&a->over));
	go_on(one);
}

/* Reads all; the seconds that it took. */
static double read_all(const struct options *o, struct all *a)
{
	uint64_t begun;
	double took;

	a->ids = list_read(o->list, &a->n);
	a->tier = o->server != NULL ? server_open(o) : files_open(o);
	AZ(sem_init(&a->over, 0, 0));
	begun = clock_ns();
	for (uint32_t i = 0; i < o->depth; i++) {
		struct one *one = calloc(1, sizeof *one);

		if (one == NULL)
			die("no memory");
		one->all = a;
		one->read.done = came;
		go_on(one);
	}
	while (sem_wait(&a->over) != 0)
		;
	took = 1e-9 * (double)(clock_ns() - begun);
	a->tier->ops->close(a->tier); /* waits for its threads */
	return took;
}

int read_tier(const struct options *o)
{
	struct all a = {0};
	double cpu = cpu_s(), took = read_all(o, &a);

	printf(
	    "{\"seconds\": %.6f, \"segments\": %u, \"failed\": %u, \"bytes\": %llu, \"cpu_s\": %.3f}\n",
	    took, a.n, atomic_load(&a.failed), (unsigned long long)atomic_load(&a.bytes),
	    cpu_s() - cpu);
	return a.failed == 0 ? 0 : 1;
}

/* ---- decoding alone ---- */

static void decode_one(const struct all *a, uint32_t i)
{
	struct envelope env;
	uint8_t key[16];
	void *object;
	size_t size;

	ocache__key_bytes(a->ids[i], key);
	if (envelope_open(seg_buf_data(a->kept[i]), seg_buf_len(a->kept[i]), key, &env) != 0 ||
	    env.codec != ENVELOPE_NONE ||
	    segment_decoder.decode(NULL, a->ids[i], env.stored, env.raw_len, &object, &size) != 0)
		die("segment %u cannot be decoded", i);
	segment_decoder.destroy(NULL, object);
}

static void *decode_some(void *arg)
{
	struct all *a = arg;
	uint32_t i;

	while ((i = atomic_fetch_add(&a->next, 1)) < a->n)
		decode_one(a, i);
	return NULL;
}

int decode_segments(const struct options *o)
{
	pthread_t *thread = calloc(o->threads, sizeof *thread);
	struct all a = {0};
	uint64_t begun;
	double took, cpu;

	a.kept = calloc(o->count, sizeof(struct seg_buf *));
	if (thread == NULL || a.kept == NULL)
		die("no memory");
	(void)read_all(o, &a);
	if (a.failed != 0)
		die("%u of %u cannot be read", a.failed, a.n);
	atomic_store(&a.next, 0);
	cpu = cpu_s();
	begun = clock_ns();
	for (uint32_t i = 0; i < o->threads; i++)
		AZ(pthread_create(&thread[i], NULL, decode_some, &a));
	for (uint32_t i = 0; i < o->threads; i++)
		AZ(pthread_join(thread[i], NULL));
	took = 1e-9 * (double)(clock_ns() - begun);
	printf(
	    "{\"seconds\": %.6f, \"segments\": %u, \"failed\": 0, \"bytes\": %llu, \"cpu_s\": %.3f}\n",
	    took, a.n, (unsigned long long)atomic_load(&a.bytes), cpu_s() - cpu);
	return 0;
}
