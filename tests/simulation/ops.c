/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of clients: begun by steps, led on whenever their worker is not on the stack, and judged.
 */
#include <inttypes.h>
#include <string.h>

#include "tests/simulation/simulation.h"

static void sop_done(struct store_op *op)
{
	((struct sop *)op->user)->done = true;
}

bool any_offline(const struct world *w)
{
	for (unsigned i = 0; i < w->s->npaths; i++)
		if (atomic_load(&w->s->path[i].offline) || w->failed[i])
			return true;
	return false;
}

static void end_op(struct world *w, struct sop *o)
{
	w->busy[o->worker] = true;
	store_op_end(&o->op);
	w->busy[o->worker] = false;
	o->used = false;
	w->idle_turns = 0;
}

/* The answer of an operation, before it is given back. */
static void judge(struct world *w, struct sop *o)
{
	enum store_status st = o->op.status;
	uint64_t now = sim_env_now(w->env);
	uint32_t seen = 0;

	say("w%u op %u key %u epoch %u: status %d, flags %u, %u bytes%s; the index has %u",
	    o->worker, o->kind, o->key, o->epoch, st, o->op.flags, o->op.value_len,
	    o->op.from_ram ? ", from RAM" : "", world->verbose ? world_where(o->key) : 0);
	atomic_fetch_add_explicit(&cover->ops, 1, memory_order_relaxed);
	w->digest =
	    plan_mix(w->digest ^ now ^ (uint64_t)o->key << 32 ^ (uint64_t)st << 48 ^ o->op.flags);
	switch (o->kind) {
	case STEP_FLUSH:
		if (st != STORE_OK && (st != STORE_UNAVAILABLE || !any_offline(w)))
			violation("flush_all answered %d", st);
		for (unsigned k = 0; k < w->plan->setup.keys; k++)
			model_end(w->model, k, o->flush_nth[k], st, 0, now);
		cover->flushes++;
		return;
	case STEP_ONLINE:
		if (st != STORE_OK && st != STORE_UNAVAILABLE)
			violation("path online answered %d", st);
		say("%.*s", (int)o->op.value_n, (const char *)o->op.value);
		return;
	case STEP_GET:
	case STEP_HEAD:
		if (st == STORE_OK) {
			seen = o->op.flags;
			if (o->op.value_len != value_len(&w->plan->setup, o->key, seen) ||
			    seen == 0)
				violation("key %u: %u bytes with flags %u: no value of it is such",
					  o->key, o->op.value_len, seen);
			cover->hits++;
		} else if (st == STORE_MISS) {
			cover->misses++;
		} else if (st != STORE_BROKEN || o->len <= STORE_WHOLE_MAX) {
			violation("key %u: a get answered %d", o->key, st);
		}
		break;
	case STEP_DELETE:
		if (st != STORE_OK && st != STORE_MISS &&
		    (st != STORE_UNAVAILABLE || !any_offline(w)))
			violation("key %u: a delete answered %d", o->key, st);
		cover->deleted += st == STORE_OK;
		break;
	default:
		if (st == STORE_TOO_LARGE || st == STORE_MISS || st == STORE_BROKEN ||
		    (st == STORE_EXISTS && o->kind == STEP_SET))
			violation("key %u: a set answered %d", o->key, st);
		if (st == STORE_UNAVAILABLE) {
			cover->refused++;
			if (o->len <= STORE_WHOLE_MAX && !any_offline(w))
				violation("key %u: a set was refused, and every path is good",
					  o->key);
		}
		cover->conflicts += st == STORE_CONFLICT;
		cover->same += st == STORE_EXISTS;
		cover->stored += st == STORE_OK;
		cover->longs += st == STORE_OK && o->len > STORE_WHOLE_MAX;
	}
	if (st == STORE_BROKEN)
		model_forget(w->model, o->key, o->nth, now);
	else
		model_end(w->model, o->key, o->nth, st, seen, now);
	if (st == STORE_UNAVAILABLE && o->len > STORE_WHOLE_MAX)
		/* it may be on a path that has failed, which may come back empty */
		model_gone(w->model, o->key, o->epoch, true);
	if ((o->kind == STEP_SET || o->kind == STEP_ADD) &&
	    (st == STORE_OK || st == STORE_EXISTS)) {
		if (any_offline(w)) {
			/* of a path that has failed, which may come back empty */
			model_gone(w->model, o->key, o->epoch, true);
		} else if (world_where(o->key) == o->epoch) {
			model_there(w->model, o->key, o->epoch, now);
		} else if (w->plan->setup.admit == STORE_ADMIT_SECOND) {
			model_gone(w->model, o->key, o->epoch, false); /* in RAM alone */
			cover->ram_only++;
		}
	}
}

static void finish_op(struct world *w, struct sop *o)
{
	if (!o->given_up)
		judge(w, o);
	end_op(w, o);
}

/* Its owner has had enough of it. */
static void leave_op(struct world *w, struct sop *o)
{
	say("w%u op %u key %u: left", o->worker, o->kind, o->key);
	if (!o->given_up)
		model_forget(w->model, o->key, o->nth, sim_env_now(w->env));
	cover->left++;
	end_op(w, o);
}

static void check_bytes(struct world *w, struct sop *o)
{
	const struct store_op *op = &o->op;

	(void)w;
	if (o->given_up)
		return;
	if (o->at == 0)
		o->len = op->value_len;
	if (op->value_off != o->at || o->at + op->value_n > op->value_len)
		violation("key %u: a chunk of %u bytes at %u follows byte %u", o->key, op->value_n,
			  op->value_off, o->at);
	if (!value_is(op->value, o->at, op->value_n, o->key, op->flags))
		violation("key %u epoch %u: wrong bytes within %u at %u", o->key, op->flags,
			  op->value_n, o->at);
}

static void go_on(struct world *w, struct sop *o)
{
	struct store_op *op = &o->op;

	while (o->used && o->done && !w->busy[o->worker]) {
		bool set = o->kind == STEP_SET || o->kind == STEP_ADD, done;

		if (set && op->body_n > 0) {
			if ((o->leave > 0 && --o->leave == 0) || w->dead) {
				leave_op(w, o);
				return;
			}
			value_fill(op->body, o->at, op->body_n, o->key, o->epoch);
			o->at += op->body_n;
			o->done = false;
			w->busy[o->worker] = true;
			done = store_set_body(op);
			w->busy[o->worker] = false;
			o->done = o->done || done;
			continue;
		}
		if (o->kind == STEP_GET && op->status == STORE_OK) {
			check_bytes(w, o);
			o->at += op->value_n;
			if (o->at < op->value_len) {
				if ((o->leave > 0 && --o->leave == 0) || w->dead) {
					leave_op(w, o);
					return;
				}
				o->done = false;
				w->busy[o->worker] = true;
				done = store_get_next(op);
				w->busy[o->worker] = false;
				o->done = o->done || done;
				continue;
			}
		}
		finish_op(w, o);
	}
}

static struct sop *free_slot(struct world *w)
{
	for (unsigned i = 0; i < w->plan->setup.slots; i++)
		if (!w->slot[i].used)
			return &w->slot[i];
	return NULL;
}

/* False: not now. */
bool sop_start(struct world *w, const struct step *st)
{
	static const enum ask ask[STEPS] = {
	    [STEP_SET] = ASK_SET, [STEP_ADD] = ASK_ADD, [STEP_DELETE] = ASK_DELETE};
	struct sop *o = free_slot(w);
	const char *name = "";
	unsigned worker = st->worker % w->plan->setup.workers, n = 0;
	bool done;

	if (o == NULL || w->busy[worker])
		return false;
	if (st->kind == STEP_FLUSH) {
		for (unsigned i = 0; i < SIM_SLOTS; i++)
			if (w->slot[i].used && w->slot[i].kind == STEP_FLUSH)
				return false;
		for (unsigned k = 0; k < w->plan->setup.keys; k++)
			o->flush_nth[k] = model_begin(w->model, k, ASK_FLUSH, 0);
	} else if (st->kind != STEP_ONLINE) {
		o->nth = model_begin(w->model, st->key, ask[st->kind], st->epoch);
		if (o->nth == SIM_PENDING)
			return false;
		name = key_name(st->key, &n);
	}
	o->used = true;
	o->given_up = o->done = false;
	o->kind = st->kind;
	o->worker = (uint8_t)worker;
	o->leave = st->leave;
	o->key = st->key;
	o->epoch = st->epoch;
	o->at = 0;
	o->len = 0;
	store_op_init(&o->op, w->w[worker], name, (uint8_t)n, sop_done, o);
	w->busy[worker] = true;
	switch (st->kind) {
	case STEP_FLUSH:
		done = store_flush_all(&o->op);
		break;
	case STEP_ONLINE:
		done = store_path_online(&o->op, (unsigned)st->n);
		break;
	case STEP_GET:
	case STEP_HEAD:
		done = store_get(&o->op, st->kind == STEP_HEAD);
		break;
	case STEP_DELETE:
		done = store_delete(&o->op);
		break;
	default:
		o->len = value_len(&w->plan->setup, st->key, st->epoch);
		done = store_set(&o->op, st->kind == STEP_SET ? STORE_SET : STORE_ADD, st->epoch,
				 o->len);
	}
	w->busy[worker] = false;
	o->done = o->done || done;
	return true;
}

void sops_go_on(struct world *w)
{
	for (unsigned i = 0; i < SIM_SLOTS; i++)
		if (w->slot[i].used)
			go_on(w, &w->slot[i]);
}

bool sop_any(const struct world *w)
{
	for (unsigned i = 0; i < SIM_SLOTS; i++)
		if (w->slot[i].used)
			return true;
	return false;
}
