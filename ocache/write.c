/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments on their way to tiers: what nearer ones lacked, in the background; and what a writer
 * puts. A write is out until its tier has given it back; ocache_close() waits for that.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/envelope.h"
#include "ocache/load.h"
#include "ocache/thread.h"

/* A writer who waits for `due` tiers. */
struct put {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	unsigned due, refs; /* refs: the writer, and each write */
	int status;         /* the first failure */
};

struct write {
	struct job job;
	struct seg_write write;
	struct ocache *cache;
	struct chain_tier *tier;
	struct put *put; /* NULL: nobody waits, it is one of the fills */
	uint64_t begun_ns;
};

static void put_drop(struct put *p)
{
	bool last;

	pthread_mutex_lock(&p->lock);
	last = --p->refs == 0;
	pthread_mutex_unlock(&p->lock);
	if (!last)
		return;
	AZ(pthread_cond_destroy(&p->wake));
	AZ(pthread_mutex_destroy(&p->lock));
	free(p);
}

static void put_answer(struct put *p, int status)
{
	pthread_mutex_lock(&p->lock);
	if (status != 0 && p->status == 0)
		p->status = status;
	if (--p->due == 0)
		pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
	put_drop(p);
}

static void write_done(struct seg_write *sw)
{
	struct write *w = container_of(sw, struct write, write);
	struct ocache *c = w->cache;
	int status = ocache__status(sw->status);

	chain_written(w->tier, status, clock_ns() - w->begun_ns, seg_buf_len(sw->bytes));
	if (w->put != NULL) {
		ocache__written(
		    c, sw->id); /* also if it failed: that does not say that it is not there */
		put_answer(w->put, status);
	} else {
		if (status != 0)
			atomic_fetch_add_explicit(&c->fills_failed, 1, memory_order_relaxed);
		atomic_fetch_sub_explicit(&c->fills_due, 1, memory_order_relaxed);
		chain_fill_end(w->tier);
	}
	seg_buf_drop(sw->bytes);
	free(w);
	ocache__idle(c);
}

static void write_run(struct job *job)
{
	struct write *w = container_of(job, struct write, job);
	struct seg_write *one = &w->write;

	w->begun_ns = clock_ns();
	w->tier->tier->ops->write(w->tier->tier, &one, 1);
}

/* Not yet sent; NULL: no memory. */
static struct write *write_new(struct ocache *c, unsigned tier, struct seg_id id,
			       struct seg_buf *bytes, int64_t deadline_ns, struct put *put)
{
	struct write *w = calloc(1, sizeof *w);

	if (w == NULL)
		return NULL;
	w->job.run = write_run;
	w->write.id = id;
	w->write.bytes = seg_buf_hold(bytes);
	w->write.deadline_ns = deadline_ns;
	w->write.done = write_done;
	w->cache = c;
	w->tier = &c->tier[tier];
	w->put = put;
	ocache__busy(c);
	return w;
}

bool ocache__fill(struct ocache *c, unsigned tier, struct seg_id id, struct seg_buf *bytes)
{
	struct chain_tier *t = &c->tier[tier];
	int64_t now = (int64_t)clock_ns();
	struct write *w = NULL;

	if (atomic_fetch_add_explicit(&c->fills_due, 1, memory_order_relaxed) < c->fills_max &&
	    chain_fill_begin(t, now)) {
		w = write_new(c, tier, id, bytes, now + (int64_t)t->deadline_ns, NULL);
		if (w == NULL)
			chain_fill_end(t);
	}
	if (w == NULL) {
		atomic_fetch_sub_explicit(&c->fills_due, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&c->fills_dropped, 1, memory_order_relaxed);
		return false;
	}
	atomic_fetch_add_explicit(&c->fills, 1, memory_order_relaxed);
	pool_push(c->pool, &w->job);
	return true;
}

/* ---- the writer's path ---- */

static struct seg_buf *seal(const struct ocache *c, struct seg_id id, const void *bytes, size_t len)
{
	enum envelope_codec codec = c->compress ? ENVELOPE_ZSTD : ENVELOPE_NONE;
	struct seg_buf *b = seg_buf_new(envelope_room(codec, len));
	uint8_t key[16];
	size_t n;

	if (b == NULL)
		return NULL;
	ocache__key_bytes(id, key);
	n = envelope_seal(seg_buf_data(b), key, codec, bytes, len);
	if (n == 0) {
		seg_buf_drop(b);
		return NULL;
	}
	seg_buf_cut(b, n);
	return b;
}

/* Waits until all that were sent have answered, or the deadline. */
static int put_wait(struct put *p, int64_t deadline_ns)
{
	struct timespec until = thread_timespec(deadline_ns);
	int err = 0;

	pthread_mutex_lock(&p->lock);
	while (p->due > 0 && err == 0) {
		if (deadline_ns == 0)
			pthread_cond_wait(&p->wake, &p->lock);
		else if (pthread_cond_timedwait(&p->wake, &p->lock, &until) == ETIMEDOUT)
			err = -ETIMEDOUT;
	}
	if (p->due == 0)
		err = p->status;
	pthread_mutex_unlock(&p->lock);
	return err;
}

/* To every storage of record; 0 or the first failure. */
static int put_records(struct ocache *c, struct seg_id id, struct seg_buf *b, int64_t deadline_ns)
{
	struct write *w[OCACHE_TIERS_MAX] = {NULL};
	struct put *p = calloc(1, sizeof *p);
	unsigned n = 0;
	int err = 0;

	if (p == NULL)
		return -ENOMEM;
	AZ(pthread_mutex_init(&p->lock, NULL));
	thread_cond_init(&p->wake);
	p->refs = 1;
	for (unsigned i = 0; i < c->tiers && err == 0; i++) {
		if (!c->tier[i].record || c->tier[i].tier->ops->write == NULL)
			continue;
		w[n] = write_new(c, i, id, b, deadline_ns, p);
		err = w[n] == NULL ? -ENOMEM : 0;
		n += err == 0;
	}
	p->due = err == 0 ? n : 0;
	p->refs += p->due;
	for (unsigned i = 0; i < n; i++) {
		if (err == 0) {
			write_run(&w[i]->job);
			continue;
		}
		seg_buf_drop(w[i]->write.bytes);
		free(w[i]);
		ocache__idle(c);
	}
	if (err == 0)
		err = put_wait(p, deadline_ns);
	put_drop(p);
	return err;
}

int ocache_put(struct ocache *c, struct seg_id id, const void *bytes, size_t len,
	       int64_t deadline_ns)
{
	unsigned can = 0, records = 0;
	struct seg_buf *b;
	int err = 0;

	MAGIC_OK(c, OCACHE_MAGIC);
	for (unsigned i = 0; i < c->tiers; i++) {
		can += c->tier[i].tier->ops->write != NULL;
		records += c->tier[i].record;
		if (c->tier[i].record && c->tier[i].tier->ops->write == NULL)
			return -EROFS;
	}
	if (can == 0)
		return -EROFS;
	if (len > ENVELOPE_RAW_MAX)
		return -E2BIG;
	b = seal(c, id, bytes, len);
	if (b == NULL)
		return -ENOMEM;
	ocache__busy(c); /* also between the storage's answer and the fills */
	if (records > 0)
		err = put_records(c, id, b, deadline_ns);
	for (unsigned i = 0; i < c->tiers && err == 0; i++)
		if (!c->tier[i].record && c->tier[i].fill)
			(void)ocache__fill(c, i, id, b);
	seg_buf_drop(b);
	ocache__idle(c);
	return err;
}
