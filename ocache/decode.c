/* SPDX-License-Identifier: Apache-2.0 */
/* Loads: a tier's bytes to an object, into the cache and to nearer tiers; see load.h. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/envelope.h"
#include "ocache/load_int.h"

void ocache__key_bytes(struct seg_id id, uint8_t key[16])
{
	for (unsigned i = 0; i < 8; i++) {
		key[i] = (uint8_t)(id.hi >> (56 - 8 * i));
		key[8 + i] = (uint8_t)(id.lo >> (56 - 8 * i));
	}
}

/* *whole: it is what was written, whatever the decoder says. */
static int decode(const struct load *ld, void **object, size_t *size, bool *whole)
{
	bool verified = ld->cache->tier[ld->from].verifies;
	struct envelope env;
	uint8_t key[16];
	void *raw;
	int err;

	ocache__key_bytes(ld->id, key);
	err = (verified ? envelope_open_again : envelope_open)(seg_buf_data(ld->bytes),
							       seg_buf_len(ld->bytes), key, &env);
	if (err != 0)
		return err;
	if (env.codec == ENVELOPE_NONE) {
		*whole = true;
		return ld->decoder->decode(ld->decoder->ctx, ld->id, env.stored, env.raw_len,
					   object, size);
	}
	raw = malloc(env.raw_len > 0 ? env.raw_len : 1);
	if (raw == NULL)
		return -ENOMEM;
	err = envelope_unpack(&env, raw);
	*whole = err == 0;
	if (err == 0)
		err = ld->decoder->decode(ld->decoder->ctx, ld->id, raw, env.raw_len, object, size);
	free(raw);
	return err;
}

/* The object is made: into the cache and to all who wait. */
static void load_publish(struct load *ld, void *object, size_t size)
{
	const struct ocache_decoder *decoder = ld->decoder;
	struct entry *e;
	struct grave g;
	struct shard *s = ld->shard;
	struct box *box = NULL;
	bool ours = true;

	policy_prefetch_insert(&s->policy, ld->hash);
	grave_open(&g);
	pthread_mutex_lock(&s->lock);
	e = table_find(&s->table, ld->hash, ld->id);
	if (e != NULL)
		ours = false; /* ocache_add() was quicker */
	else
		e = shard_insert(s, ld->id, decoder, object, size, &g);
	if (ours && ocache__followed(ld->cache, ld->hash))
		curve_add(ld->cache->curve, ocache__place(ld->hash), size);
	if (e == NULL)
		box = ocache__box(ld->cache, decoder, object, size);
	load_end(ld, e == NULL && box == NULL ? -ENOMEM : 0, e, box);
	shard_bury(s, &g);
	if (box != NULL)
		ocache__box_drop(box);
	else if (e == NULL || !ours)
		decoder->destroy(decoder->ctx, object);
}

static void load_fills(const struct load *ld)
{
	struct ocache *c = ld->cache;

	for (unsigned i = 0; i < ld->from; i++) {
		bool damaged = (ld->damaged >> i & 1) != 0;

		if ((ld->fill >> i & 1) == 0 || !c->tier[i].fill)
			continue;
		if (!damaged && (ld->flags & OCACHE_NO_FILL) != 0)
			continue;
		if ((ld->undecoded >> i & 1) != 0)
			load_drop_from(ld, i);
		if (ocache__fill(c, i, ld->id, ld->bytes) && damaged)
			atomic_fetch_add_explicit(&c->repairs, 1, memory_order_relaxed);
	}
}

void load_decode(struct load *ld)
{
	uint64_t begun = clock_ns();
	void *object = NULL;
	size_t size = 0;
	bool whole = false;
	int err = decode(ld, &object, &size, &whole);
	uint64_t ns = clock_ns() - begun;

	if (err == 0 && object == NULL)
		err = -EBADMSG;
	ld->trail.decode_ns += ns;
	if (err == 0) {
		iostats_deserialize(ld->io, 1, ns);
		load_fills(ld);
		load_publish(ld, object, size);
		return;
	}
	if (err == -ENOMEM) {
		pthread_mutex_lock(&ld->shard->lock);
		load_end(ld, -ENOMEM, NULL, NULL);
		return;
	}
	chain_damaged(&ld->cache->tier[ld->from]);
	if (!whole)
		load_drop_from(ld, ld->from);
	pthread_mutex_lock(&ld->shard->lock);
	ld->trail.tier[ld->from].status = -EBADMSG;
	seg_buf_drop(ld->bytes);
	ld->bytes = NULL;
	ld->fill |= 1u << ld->from;
	ld->damaged |= 1u << ld->from;
	ld->undecoded |= (uint32_t)whole << ld->from;
	ld->failure = -EBADMSG;
	load_next_tier(ld);
	ld->state = LOAD_TIERS;
	pthread_mutex_unlock(&ld->shard->lock);
	load_go_on(ld);
}

void load_run(struct job *job)
{
	struct load *ld = container_of(job, struct load, job);
	bool mine;

	pthread_mutex_lock(&ld->shard->lock);
	ld->pushed = false;
	mine = ld->state == LOAD_OPENING; /* [LD-6] */
	if (mine)
		ld->state = LOAD_DECODING;
	pthread_mutex_unlock(&ld->shard->lock);
	if (mine)
		load_decode(ld);
	load_drop(ld);
}
