/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tier over the files: requests in a queue, and threads that take one after the other and may
 * block. Reads go before drops, and these before writes: for the former somebody waits, and a write
 * that is to repair a segment must find that the damaged file is gone. A read that is cancelled
 * while it is queued is given back at once.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/cause.h"
#include "efs/efs.h"
#include "efs/efs_int.h"

#define EFS_MAGIC   0x0ef5717eu
#define THREADS     16u
#define THREADS_MAX 256u

/* Requests, linked by own[0]. */
struct queue {
	void *first, **end;
};

struct drop {
	struct seg_id id;
	void *own;
};

struct efs {
	struct tier tier;
	struct tier_ops ops;
	uint32_t magic;
	char key[TIER_KEY_MAX + 1];
	struct efs_dir dir;
	pthread_mutex_t lock;
	pthread_cond_t more;
	/* under lock: */
	struct queue reads, drops, writes;
	unsigned dropping; /* drops that are being done: no write begins */
	unsigned idle;     /* threads that wait */
	bool called;       /* one of them was, and is not there yet */
	bool closing;
	unsigned threads;
	pthread_t thread[];
};

static struct efs *efs_of(struct tier *t)
{
	struct efs *e = container_of(t, struct efs, tier);

	MAGIC_OK(e, EFS_MAGIC);
	return e;
}

struct efs_dir *efs__dir_of(struct tier *t)
{
	return &efs_of(t)->dir;
}

/* ---- queues, under the lock ---- */

static void push(struct queue *q, void *request, void **own)
{
	*own = NULL;
	*q->end = request;
	q->end = own;
}

static void after_taking(struct queue *q)
{
	if (q->first == NULL)
		q->end = &q->first;
}

static bool work(const struct efs *e)
{
	return e->reads.first != NULL || e->drops.first != NULL ||
	       (e->dropping == 0 && e->writes.first != NULL);
}

/*
 * Gives the lock back, and calls a thread if there is more to do. One at a time, each of which calls the next: all
 * at once they would wake up to wait for the lock, and for each other's processor.
 */
static void unlock_and_call(struct efs *e)
{
	bool call = e->idle > 0 && !e->called && work(e);

	e->called = e->called || call;
	pthread_mutex_unlock(&e->lock);
	if (call)
		pthread_cond_signal(&e->more);
}

static void *run(void *arg)
{
	struct efs *e = arg;

	pthread_mutex_lock(&e->lock);
	for (;;) {
		struct seg_read *r = e->reads.first;
		struct seg_write *w = e->dropping == 0 ? e->writes.first : NULL;
		struct drop *d = e->drops.first;

		if (r != NULL) {
			e->reads.first = r->own[0];
			after_taking(&e->reads);
			unlock_and_call(e);
			r->status = efs__file_read(&e->dir, r->id, &r->bytes);
			r->done(r);
			pthread_mutex_lock(&e->lock);
		} else if (d != NULL) {
			e->drops.first = d->own;
			after_taking(&e->drops);
			e->dropping++;
			unlock_and_call(e);
			(void)efs__file_drop(&e->dir, d->id); /* best effort, as drop() is */
			free(d);
			pthread_mutex_lock(&e->lock);
			e->dropping--; /* this thread goes on with the writes that waited for it */
		} else if (w != NULL) {
			e->writes.first = w->own[0];
			after_taking(&e->writes);
			unlock_and_call(e);
			w->status = efs__file_write(&e->dir, w->id, w->bytes);
			w->done(w);
			pthread_mutex_lock(&e->lock);
		} else if (e->closing) {
			break;
		} else {
			e->idle++;
			pthread_cond_wait(&e->more, &e->lock);
			e->idle--;
			e->called = false;
		}
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

/* ---- hooks ---- */

static void efs_read(struct tier *t, struct seg_read *const *reads, unsigned n)
{
	struct efs *e = efs_of(t);

	pthread_mutex_lock(&e->lock);
	for (unsigned i = 0; i < n; i++)
		push(&e->reads, reads[i], &reads[i]->own[0]);
	unlock_and_call(e);
}

static void efs_cancel(struct tier *t, struct seg_read *r)
{
	struct efs *e = efs_of(t);
	struct seg_read *found;
	void **at;

	pthread_mutex_lock(&e->lock);
	for (at = &e->reads.first; *at != NULL && *at != r;)
		at = &((struct seg_read *)*at)->own[0];
	found = *at;
	if (found != NULL) {
		*at = found->own[0];
		if (*at == NULL)
			e->reads.end = at;
	}
	pthread_mutex_unlock(&e->lock);
	if (found != NULL) {
		found->status = -ECANCELED;
		found->done(found);
	}
}

static void efs_write(struct tier *t, struct seg_write *const *writes, unsigned n)
{
	struct efs *e = efs_of(t);

	pthread_mutex_lock(&e->lock);
	for (unsigned i = 0; i < n; i++)
		push(&e->writes, writes[i], &writes[i]->own[0]);
	unlock_and_call(e);
}

static void efs_drop(struct tier *t, struct seg_id id)
{
	struct efs *e = efs_of(t);
	struct drop *d = malloc(sizeof *d);

	if (d == NULL)
		return; /* it is found damaged again, then */
	d->id = id;
	pthread_mutex_lock(&e->lock);
	push(&e->drops, d, &d->own);
	unlock_and_call(e);
}

static void efs_free(struct efs *e)
{
	pthread_mutex_lock(&e->lock);
	e->closing = true;
	pthread_cond_broadcast(&e->more);
	pthread_mutex_unlock(&e->lock);
	for (unsigned i = 0; i < e->threads; i++)
		AZ(pthread_join(e->thread[i], NULL));
	AZ(pthread_cond_destroy(&e->more));
	AZ(pthread_mutex_destroy(&e->lock));
	efs__dir_close(&e->dir);
	e->magic = 0;
	free(e);
}

static void efs_close(struct tier *t)
{
	efs_free(efs_of(t));
}

/* ---- opening ---- */

/* Threads that take none of the program's signals. 0 or -errno. */
static int start(struct efs *e, unsigned threads)
{
	sigset_t all, before;
	int err = 0;

	sigfillset(&all);
	AZ(pthread_sigmask(SIG_SETMASK, &all, &before));
	while (e->threads < threads && err == 0) {
		err = pthread_create(&e->thread[e->threads], NULL, run, e);
		e->threads += err == 0;
	}
	AZ(pthread_sigmask(SIG_SETMASK, &before, NULL));
	return -err;
}

int efs_open(const struct efs_config *cfg, struct tier **tier, char **cause)
{
	const char *key = cfg->key != NULL ? cfg->key : "efs";
	unsigned threads = cfg->threads != 0 ? cfg->threads : THREADS;
	struct efs *e;
	int err;

	if (cause != NULL)
		*cause = NULL;
	if (cfg->struct_size != sizeof *cfg || cfg->path == NULL || threads > THREADS_MAX ||
	    !tier_key_ok(key))
		return cause_fail(cause, -EINVAL,
				  "efs: struct_size, path, key or threads are not what efs.h says");
	e = calloc(1, sizeof *e + threads * sizeof e->thread[0]);
	if (e == NULL)
		return -ENOMEM;
	err = efs__dir_open(cfg->path, cfg->read_only, &e->dir);
	if (err != 0) {
		cause_say(cause, "efs: %s: %s", cfg->path, strerror(-err));
		free(e);
		return err;
	}
	e->dir.no_sync = cfg->no_sync;
	e->magic = EFS_MAGIC;
	e->reads.end = &e->reads.first;
	e->drops.end = &e->drops.first;
	e->writes.end = &e->writes.first;
	memcpy(e->key, key, strlen(key) + 1);
	e->ops = (struct tier_ops){.abi = TIER_ABI,
				   .caps = TIER_VERIFIES | (cfg->record ? TIER_RECORD : 0),
				   .key = e->key,
				   .read = efs_read,
				   .cancel = efs_cancel,
				   .close = efs_close,
				   .write = cfg->read_only ? NULL : efs_write,
				   .drop = cfg->read_only ? NULL : efs_drop};
	e->tier.ops = &e->ops;
	AZ(pthread_mutex_init(&e->lock, NULL));
	AZ(pthread_cond_init(&e->more, NULL));
	err = start(e, threads);
	if (err != 0) {
		cause_say(cause, "efs: %u threads cannot be started: %s", threads, strerror(-err));
		efs_free(e);
		return err;
	}
	*tier = &e->tier;
	return 0;
}
