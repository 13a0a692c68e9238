/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tier that works and says at each hook what it has to do: copy it, and put your store where
 * `look_up` and `keep` are. It has what a tier over a blocking library needs: a queue and a thread
 * of its own, so that read() never waits; reads that can be cancelled as long as they are queued;
 * and answers that come on that thread. What it keeps is one segment, the last that was written.
 * The tests run it; the library is without it.
 *
 * Threads: read(), write(), drop() and cancel() come from any thread, several at a time, and done()
 * may call them, so it is called without our lock. `lock` guards everything but the constants.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "ocache/skeleton/tier.h"

struct skeleton {
	struct tier tier; /* first: a struct tier * is a struct skeleton * */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more;
	void *reads,
	    **reads_end; /* struct seg_read, linked by own[0], which is ours while one is here */
	void *writes, **writes_end;
	bool closing;
	/* what is kept */
	struct seg_id id;
	struct seg_buf *bytes;
};

static struct skeleton *skeleton_of(struct tier *t)
{
	return (struct skeleton *)(void *)t;
}

/* ---- the store: this is where yours goes; it may block ---- */

/*
 * 0 with a reference to the bytes; -ENOENT; or another error: the chain tries again, or elsewhere.
 */
static int look_up(struct skeleton *s, struct seg_id id, struct seg_buf **bytes)
{
	int status = -ENOENT;

	pthread_mutex_lock(&s->lock);
	if (s->bytes != NULL && s->id.hi == id.hi && s->id.lo == id.lo) {
		*bytes = seg_buf_hold(s->bytes);
		status = 0;
	}
	pthread_mutex_unlock(&s->lock);
	return status;
}

/* 0: it is there now, or was before. A segment never changes, so there is nothing to compare. */
static int keep(struct skeleton *s, struct seg_id id, struct seg_buf *bytes)
{
	struct seg_buf *before;

	pthread_mutex_lock(&s->lock);
	before = s->bytes;
	s->id = id;
	s->bytes = seg_buf_hold(bytes); /* the asker's reference ends with done() */
	pthread_mutex_unlock(&s->lock);
	seg_buf_drop(before);
	return 0;
}

/* ---- the thread ---- */

static void *run(void *arg)
{
	struct skeleton *s = arg;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		struct seg_read *r = s->reads;
		struct seg_write *w = s->writes;

		if (r != NULL) {
			s->reads = r->own[0];
			if (s->reads == NULL)
				s->reads_end = &s->reads;
			pthread_mutex_unlock(&s->lock);
			/* bytes are looked at by the asker only if status is 0 */
			r->status = look_up(s, r->id, &r->bytes);
			r->done(r); /* from here on r is not ours */
			pthread_mutex_lock(&s->lock);
		} else if (w != NULL) {
			s->writes = w->own[0];
			if (s->writes == NULL)
				s->writes_end = &s->writes;
			pthread_mutex_unlock(&s->lock);
			w->status = keep(s, w->id, w->bytes);
			w->done(w);
			pthread_mutex_lock(&s->lock);
		} else if (s->closing) {
			break;
		} else {
			pthread_cond_wait(&s->more, &s->lock);
		}
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* ---- hooks ---- */

/*
 * Takes n reads. Each gets one done(), sooner or later; a read that cannot be taken gets it at
 * once.
 */
static void skeleton_read(struct tier *t, struct seg_read *const *reads, unsigned n)
{
	struct skeleton *s = skeleton_of(t);

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < n; i++) {
		reads[i]->own[0] = NULL;
		*s->reads_end = reads[i];
		s->reads_end = &reads[i]->own[0];
	}
	pthread_cond_signal(&s->more);
	pthread_mutex_unlock(&s->lock);
}

/*
 * The asker does not want it any more. What is still queued is given back now; what the thread has
 * already taken gets its done() as ever. The read is looked for before it is touched: it may be
 * answered already.
 */
static void skeleton_cancel(struct tier *t, struct seg_read *r)
{
	struct skeleton *s = skeleton_of(t);
	struct seg_read *found;
	void **at;

	pthread_mutex_lock(&s->lock);
	for (at = &s->reads; *at != NULL && *at != r;)
		at = &((struct seg_read *)*at)->own[0];
	found = *at;
	if (found != NULL) {
		*at = found->own[0];
		if (*at == NULL)
			s->reads_end = at;
	}
	pthread_mutex_unlock(&s->lock);
	if (found != NULL) {
		found->status = -ECANCELED;
		found->done(found);
	}
}

/* Leave it out (NULL) and the tier is never filled. */
static void skeleton_write(struct tier *t, struct seg_write *const *writes, unsigned n)
{
	struct skeleton *s = skeleton_of(t);

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < n; i++) {
		writes[i]->own[0] = NULL;
		*s->writes_end = writes[i];
		s->writes_end = &writes[i]->own[0];
	}
	pthread_cond_signal(&s->more);
	pthread_mutex_unlock(&s->lock);
}

/*
 * What was read here was damaged: forget it, so that the next write is not taken for the same.
 * Optional.
 */
static void skeleton_drop(struct tier *t, struct seg_id id)
{
	struct skeleton *s = skeleton_of(t);
	struct seg_buf *gone = NULL;

	pthread_mutex_lock(&s->lock);
	if (s->bytes != NULL && s->id.hi == id.hi && s->id.lo == id.lo) {
		gone = s->bytes;
		s->bytes = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	seg_buf_drop(gone);
}

/*
 * Nothing is in flight and nobody calls any more. Ends the thread and frees all, the tier itself
 * too.
 */
static void skeleton_close(struct tier *t)
{
	struct skeleton *s = skeleton_of(t);

	pthread_mutex_lock(&s->lock);
	s->closing = true;
	pthread_cond_signal(&s->more);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	seg_buf_drop(s->bytes);
	pthread_cond_destroy(&s->more);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static const struct tier_ops skeleton_ops = {
    .abi = TIER_ABI,   /* which tier.h this was made for */
    .caps = 0,         /* TIER_RECORD: what it does not have is nowhere, and a put waits for it */
    .key = "skeleton", /* :skeleton and :skeleton-ms in io-stats */
    .read = skeleton_read,
    .cancel = skeleton_cancel,
    .close = skeleton_close,
    .write = skeleton_write,
    .drop = skeleton_drop,
};

/* 0 and *tier, which ocache_open() takes over and closes; or -errno and nothing is left. */
int tier_skeleton_open(struct tier **tier)
{
	struct skeleton *s = calloc(1, sizeof *s);
	int err;

	if (s == NULL)
		return -ENOMEM;
	s->tier.ops = &skeleton_ops;
	s->reads_end = &s->reads;
	s->writes_end = &s->writes;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->more, NULL);
	err = pthread_create(&s->thread, NULL, run, s);
	if (err != 0) {
		pthread_cond_destroy(&s->more);
		pthread_mutex_destroy(&s->lock);
		free(s);
		return -err;
	}
	*tier = &s->tier;
	return 0;
}
