/* SPDX-License-Identifier: Apache-2.0 */
/* The log of slow loads; see ocache.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "ocache/cache_int.h"

static void put(struct ocache_slow *r, const struct ocache *c, struct seg_id id,
		const struct trail *t, const char *io_context, uint64_t ns, int status)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	memset(r, 0, sizeof *r);
	r->ended_ns = (int64_t)now.tv_sec * (int64_t)NS_PER_S + now.tv_nsec;
	r->id = id;
	r->ns = ns;
	r->decode_ns = t->decode_ns;
	r->status = status;
	snprintf(r->io_context, sizeof r->io_context, "%s", io_context != NULL ? io_context : "");
	for (unsigned i = 0; i < c->tiers; i++) {
		if (t->tier[i].reads == 0)
			continue;
		snprintf(r->tier[r->tiers].key, sizeof r->tier[r->tiers].key, "%s", c->tier[i].key);
		r->tier[r->tiers].reads = t->tier[i].reads;
		r->tier[r->tiers].status = t->tier[i].status;
		r->tier[r->tiers++].ns = t->tier[i].ns;
	}
}

void slow_note(struct ocache *c, struct seg_id id, const struct trail *trail,
	       const char *io_context, int status)
{
	struct slow_log *log = &c->slow;
	uint64_t ns = clock_ns() - trail->begun_ns;

	if (likely(ns < log->slow_ns))
		return;
	pthread_mutex_lock(&log->lock);
	if (log->load == NULL)
		log->load = calloc(SLOW_LOADS, sizeof *log->load);
	if (log->load != NULL)
		put(&log->load[log->n++ % SLOW_LOADS], c, id, trail, io_context, ns, status);
	pthread_mutex_unlock(&log->lock);
}

unsigned ocache_slow_loads(struct ocache *c, struct ocache_slow *slow, unsigned n,
			   size_t struct_size)
{
	struct slow_log *log = &c->slow;
	size_t size = struct_size < sizeof *slow ? struct_size : sizeof *slow;
	unsigned got = 0;

	MAGIC_OK(c, OCACHE_MAGIC);
	pthread_mutex_lock(&log->lock);
	for (; got < n && got < log->n && got < SLOW_LOADS; got++)
		memcpy((char *)slow + got * struct_size,
		       &log->load[(log->n - 1 - got) % SLOW_LOADS], size);
	pthread_mutex_unlock(&log->lock);
	return got;
}

static const char *outcome(int status)
{
	return status == 0            ? "found"
	       : status == -ENOENT    ? "not there"
	       : status == -ETIMEDOUT ? "timed out"
	       : status == -EBADMSG   ? "damaged"
	       : status == -ECANCELED ? "cancelled"
				      : "failed";
}

int ocache_slow_line(const struct ocache_slow *slow, char *line, size_t room)
{
	time_t s = (time_t)(slow->ended_ns / (int64_t)NS_PER_S);
	char when[32], id[SEG_ID_TEXT], text[1024];
	struct tm tm;
	size_t at;

	gmtime_r(&s, &tm);
	strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
	seg_id_format(slow->id, id);
	at = (size_t)snprintf(text, sizeof text, "%s.%03dZ %s %.1f ms, %s%s%s", when,
			      (int)(slow->ended_ns / (int64_t)NS_PER_MS % 1000), id,
			      (double)slow->ns / 1e6, outcome(slow->status),
			      slow->io_context[0] != '\0' ? ", for " : "", slow->io_context);
	for (unsigned i = 0; i < slow->tiers && at < sizeof text; i++)
		at += (size_t)snprintf(text + at, sizeof text - at, "; %s: %.1f ms in %u reads, %s",
				       slow->tier[i].key, (double)slow->tier[i].ns / 1e6,
				       slow->tier[i].reads, outcome(slow->tier[i].status));
	if (slow->decode_ns != 0 && at < sizeof text)
		(void)snprintf(text + at, sizeof text - at, "; decoding: %.1f ms",
			       (double)slow->decode_ns / 1e6);
	return snprintf(line, room, "%s", text);
}
