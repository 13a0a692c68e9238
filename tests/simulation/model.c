/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checker: what each key may be.
 *
 * For each key it keeps every configuration that could be true: the key's value (an epoch, 0 for none) and, of
 * each operation under way, whether it has taken effect and with which result. An operation takes effect
 * at one moment between its begin and its end. When one ends, configurations in which it has not, or
 * with another result, were not true. None left: no order of the operations explains the answer.
 *
 *  [M-1] A value leaves without being asked only after the store's hook has named it (model_gone).
 *  [M-2] A process that dies leaves each operation under way done or not done.
 *  [M-3] After a power cut the key may be what it could have been at any time since the promise began.
 *  [M-5] While a start is still reading its disks a value may be hidden: a get may miss it, and a set may take its
 *        place. Who has seen it once sees it from then on; but of two records of a key that a power cut or a kill
 *        left, a get may see the older until the newer has been read.
 *  [M-6] What is written again elsewhere, because its path failed, stays, also if its key is damaged: in the process, until
 *        something may have touched it. A power cut may take it like what is stored now; its first record: [M-4].
 *  [M-4] What left because it could not be read or written, or because the index was full, may be back after
 *        a start, unless the key was deleted (answered so, not "not found") since.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/simulation/simulation.h"

#define EVICTABLE (1u << 31)
#define HIDDEN    (1u << 30)
#define EPOCH     (HIDDEN - 1)
#define ASKED     64u
#define CONFS     1024u
#define PASTS     64u

enum result { NOT_YET, DONE_OK, DONE_EXISTS, DONE_CONFLICT, DONE_MISS, DONE_NOTHING, DONE_SAW };

struct conf {
	uint32_t val;
	uint32_t res[SIM_PENDING]; /* enum result, or DONE_SAW + what a get saw */
};

struct mkey {
	struct conf *conf;
	unsigned n, cap;
	struct {
		bool used;
		bool hidden;    /* began while values may be hidden */
		uint32_t moved; /* as it was then, and nothing has touched it since */
		enum ask ask;
		uint32_t epoch;
	} pend[SIM_PENDING];
	unsigned npend;
	struct {
		uint32_t val;
		uint64_t until; /* the last time at which it was possible */
	} past[PASTS];
	unsigned npast;
	uint32_t asked[ASKED]; /* the last epochs that were asked to be set, in a ring */
	unsigned nasked;
	uint32_t revive[4];
	unsigned nrevive;
	uint32_t
	    moved; /* [M-6] this epoch is there, also of a key that is damaged; 0: nobody knows */
	bool damaged;
};

struct model {
	const struct setup *setup;
	bool hidden; /* [M-5] a start is reading its disks */
	struct mkey key[SIM_KEYS];
};

struct model *model_new(const struct setup *s)
{
	struct model *m = calloc(1, sizeof *m);

	AN(m != NULL);
	m->setup = s;
	for (unsigned i = 0; i < SIM_KEYS; i++) {
		m->key[i].cap = 8;
		m->key[i].conf = calloc(8, sizeof(struct conf));
		AN(m->key[i].conf != NULL);
		m->key[i].n = 1;
	}
	return m;
}

void model_free(struct model **m)
{
	for (unsigned i = 0; i < SIM_KEYS; i++)
		free((*m)->key[i].conf);
	free(*m);
	*m = NULL;
}

static void add(struct mkey *k, const struct conf *c)
{
	for (unsigned i = 0; i < k->n; i++)
		if (memcmp(&k->conf[i], c, sizeof *c) == 0)
			return;
	if (k->n == k->cap) {
		A(k->cap > 0 && k->cap < CONFS);
		k->cap *= 2;
		k->conf = realloc(k->conf, k->cap * sizeof *c);
		AN(k->conf != NULL);
	}
	k->conf[k->n++] = *c;
}

/* Operation p takes effect in c, as if the key were val. */
static void take(const struct model *m, const struct mkey *k, unsigned p, uint32_t val,
		 struct conf *c)
{
	switch (k->pend[p].ask) {
	case ASK_GET:
		c->res[p] = DONE_SAW + val;
		break;
	case ASK_SET:
	case ASK_ADD:
		if (val == 0) {
			c->val = k->pend[p].epoch;
			/* in RAM alone, until it is seen on disk */
			if (m->setup->admit == STORE_ADMIT_SECOND)
				c->val |= EVICTABLE;
			c->res[p] = DONE_OK;
		} else if (val == k->pend[p].epoch) {
			c->res[p] = k->pend[p].ask == ASK_SET ? DONE_OK : DONE_EXISTS;
		} else {
			c->res[p] = DONE_CONFLICT;
		}
		break;
	case ASK_DELETE:
		c->val = 0;
		c->res[p] = val != 0 ? DONE_OK : DONE_MISS;
		break;
	case ASK_FLUSH:
		c->val = 0;
		c->res[p] = DONE_OK;
		break;
	}
}

/* Everything that may happen without an answer. */
static void close_over(const struct model *m, struct mkey *k)
{
	for (unsigned i = 0; i < k->n; i++) {
		struct conf c = k->conf[i];

		if (c.val & EVICTABLE) {
			struct conf e = c;

			e.val = 0;
			add(k, &e);
		}
		for (unsigned p = 0; p < SIM_PENDING; p++) {
			struct conf e = c;

			if (!k->pend[p].used || c.res[p] != NOT_YET)
				continue;
			if (c.val & HIDDEN && k->pend[p].ask != ASK_DELETE &&
			    k->pend[p].ask != ASK_FLUSH) {
				struct conf h = c;

				take(m, k, p, 0, &h);
				add(k, &h);
				e.val &= ~HIDDEN;
			}
			take(m, k, p, c.val & EPOCH, &e);
			add(k, &e);
		}
	}
}

/* It may have left, been deleted, or be hard to read. */
static void unmove(struct mkey *k)
{
	k->moved = 0;
	for (unsigned i = 0; i < SIM_PENDING; i++)
		k->pend[i].moved = 0;
}

static bool possible(const struct mkey *k, uint32_t val)
{
	for (unsigned i = 0; i < k->n; i++)
		if ((k->conf[i].val & EPOCH) == val)
			return true;
	return false;
}

static void past(struct mkey *k, uint32_t val, uint64_t now)
{
	unsigned i = 0;

	/* each value once, at the last time at which it was possible */
	while (i < k->npast && k->past[i].val != val)
		i++;
	if (i == k->npast && k->npast < PASTS)
		k->npast++;
	else if (i == k->npast)
		i--;
	memmove(k->past + 1, k->past, i * sizeof k->past[0]);
	k->past[0].val = val;
	k->past[0].until = now;
}

/* Keeps those with this result (0: any), forgets the operation, remembers what is no longer possible. */
static void settle(struct mkey *k, unsigned nth, uint32_t res, uint64_t now)
{
	struct conf *old = malloc(k->n * sizeof *old);
	unsigned n = k->n;

	AN(old != NULL);
	memcpy(old, k->conf, n * sizeof *old);
	k->n = 0;
	for (unsigned i = 0; i < n; i++)
		if (res == NOT_YET || old[i].res[nth] == res) {
			struct conf c = old[i];

			c.res[nth] = NOT_YET;
			add(k, &c);
		}
	k->pend[nth].used = false;
	k->npend--;
	for (unsigned i = 0; i < n && k->n > 0; i++)
		if (!possible(k, old[i].val & EPOCH))
			past(k, old[i].val & EPOCH, now);
	free(old);
}

static const char *ask_name(enum ask a)
{
	static const char *const name[] = {"get", "set", "add", "delete", "flush_all"};

	return name[a];
}

static void explain(const struct mkey *k)
{
	for (unsigned i = 0; i < k->n && i < 12; i++)
		fprintf(stderr, "    could be: epoch %u%s\n", k->conf[i].val & EPOCH,
			k->conf[i].val & EVICTABLE ? " (may have left)" : "");
	for (unsigned i = 0; i < SIM_PENDING; i++)
		if (k->pend[i].used)
			fprintf(stderr, "    under way: %s epoch %u\n", ask_name(k->pend[i].ask),
				k->pend[i].epoch);
	for (unsigned i = 0; i < k->npast && i < 6; i++)
		fprintf(stderr, "    was: epoch %u until %.6f s\n", k->past[i].val,
			(double)k->past[i].until / 1e9);
}

/* Was val asked to be set after old was? */
static bool newer(const struct mkey *k, uint32_t val, uint32_t old)
{
	for (unsigned n = k->nasked; n > 0 && k->nasked - n < ASKED; n--)
		if (k->asked[(n - 1) % ASKED] == val || k->asked[(n - 1) % ASKED] == old)
			return k->asked[(n - 1) % ASKED] == val && val != old;
	return false;
}

/* [M-5] What answered was still to be followed by a newer record, which the start had not read yet. */
static void newer_hidden(struct mkey *k, unsigned nth, uint32_t res)
{
	for (unsigned j = 0, n = k->n; j < n; j++) {
		uint32_t seen = k->conf[j].val & EPOCH;

		if (seen == 0 || k->conf[j].res[nth] != res)
			continue;
		for (unsigned i = 0; i < n; i++) {
			struct conf c = k->conf[i];
			uint32_t val = c.val & EPOCH;

			if (!(c.val & HIDDEN || k->pend[nth].hidden) || val == 0 ||
			    !newer(k, val, seen))
				continue;
			c.res[nth] = res;
			add(k, &c);
		}
	}
}

unsigned model_begin(struct model *m, unsigned key, enum ask ask, uint32_t epoch)
{
	struct mkey *k = &m->key[key];

	/* the last place is kept for a flush */
	for (unsigned i = ask == ASK_FLUSH ? 0 : 1; i < SIM_PENDING; i++)
		if (!k->pend[i].used) {
			k->pend[i].used = true;
			k->pend[i].hidden = m->hidden;
			if (ask == ASK_DELETE || ask == ASK_FLUSH)
				unmove(k);
			k->pend[i].moved = k->moved;
			if (ask == ASK_SET || ask == ASK_ADD)
				k->asked[k->nasked++ % ASKED] = epoch;
			k->pend[i].ask = ask;
			k->pend[i].epoch = epoch;
			k->npend++;
			if (!k->damaged)
				close_over(m, k);
			return i;
		}
	return SIM_PENDING;
}

/* [M-6] */
static void still_there(unsigned key, uint32_t moved, enum ask ask, uint32_t epoch,
			enum store_status st, uint32_t seen)
{
	bool good = true;

	if (st == STORE_MISS)
		good = false;
	else if (st == STORE_OK && ask == ASK_GET)
		good = seen == moved;
	else if (st == STORE_OK || st == STORE_EXISTS)
		good = epoch == moved;
	else if (st == STORE_CONFLICT)
		good = epoch != moved;
	if (!good)
		violation(
		    "key %u: epoch %u was written again when its path failed; %s of epoch %u answered "
		    "%d, epoch %u",
		    key, moved, ask_name(ask), epoch, (int)st, seen);
	cover->moved++;
}

void model_end(struct model *m, unsigned key, unsigned nth, enum store_status st, uint32_t seen,
	       uint64_t now)
{
	struct mkey *k = &m->key[key];
	enum ask ask = k->pend[nth].ask;
	uint32_t epoch = k->pend[nth].epoch, res = NOT_YET;

	switch (st) {
	case STORE_OK:
		res = ask == ASK_GET ? DONE_SAW + seen : DONE_OK;
		break;
	case STORE_MISS:
		res = ask == ASK_GET ? DONE_SAW : DONE_MISS;
		break;
	case STORE_EXISTS:
		res = DONE_EXISTS;
		break;
	case STORE_CONFLICT:
		res = DONE_CONFLICT;
		break;
	default:
		break; /* unavailable, broken: it may have taken effect or not */
	}
	if (st == STORE_OK && (ask == ASK_DELETE || ask == ASK_FLUSH))
		k->nrevive = 0; /* [M-4] */
	if (k->pend[nth].moved != 0)
		still_there(key, k->pend[nth].moved, ask, epoch, st, seen);
	if (k->damaged) {
		k->pend[nth].used = false;
		k->npend--;
		return;
	}
	close_over(m, k);
	if (res != NOT_YET && ask != ASK_DELETE && ask != ASK_FLUSH)
		newer_hidden(k, nth, res);
	if (res != NOT_YET) {
		bool any = false;

		for (unsigned i = 0; i < k->n; i++)
			any = any || k->conf[i].res[nth] == res;
		if (!any) {
			explain(k);
			violation(
			    "key %u: %s of epoch %u answered %s%s%u: no order of events explains it",
			    key, ask_name(ask), epoch,
			    st == STORE_OK         ? "ok"
			    : st == STORE_MISS     ? "miss"
			    : st == STORE_EXISTS   ? "exists"
			    : st == STORE_CONFLICT ? "conflict"
						   : "another status",
			    ", epoch ", seen);
		}
	}
	settle(k, nth, res, now);
}

void model_forget(struct model *m, unsigned key, unsigned nth, uint64_t now)
{
	struct mkey *k = &m->key[key];

	if (!k->damaged)
		close_over(m, k);
	settle(k, nth, NOT_YET, now);
}

void model_gone(struct model *m, unsigned key, uint32_t epoch, bool revive)
{
	struct mkey *k = &m->key[key];

	if (epoch == 0 || epoch == k->moved)
		unmove(k);
	if (k->damaged)
		return;
	close_over(m, k);
	for (unsigned i = 0; i < k->n; i++) {
		uint32_t val = k->conf[i].val & EPOCH;
		bool known = false;

		if (val == 0 || (epoch != 0 && val != epoch))
			continue;
		k->conf[i].val |= EVICTABLE;
		for (unsigned r = 0; r < k->nrevive; r++)
			known = known || k->revive[r] == val;
		if (revive && !known && k->nrevive < 4)
			k->revive[k->nrevive++] = val;
	}
	close_over(m, k);
}

void model_moved(struct model *m, unsigned key, uint32_t epoch, uint64_t now)
{
	struct mkey *k = &m->key[key];
	bool known = false;

	if (epoch == 0)
		return;
	k->moved = epoch;
	for (unsigned i = 0; i < SIM_PENDING; i++)
		if (k->pend[i].used &&
		    (k->pend[i].ask == ASK_DELETE || k->pend[i].ask == ASK_FLUSH))
			k->moved = 0;
	if (k->damaged)
		return;
	for (unsigned r = 0; r < k->nrevive; r++)
		known = known || k->revive[r] == epoch;
	if (!known && k->nrevive < 4)
		k->revive[k->nrevive++] = epoch;
	past(k, 0, now);
}

void model_unread(struct model *m, unsigned key)
{
	struct mkey *k = &m->key[key];

	unmove(k);
	if (k->damaged)
		return;
	close_over(m, k);
	for (unsigned i = 0, n = k->n; i < n; i++)
		for (unsigned p = 0; p < SIM_PENDING; p++) {
			struct conf e = k->conf[i];

			if (!k->pend[p].used)
				continue;
			e.res[p] = NOT_YET;
			take(m, k, p, 0, &e);
			if (k->pend[p].ask == ASK_GET)
				e.val = k->conf[i].val;
			add(k, &e);
		}
	close_over(m, k);
}

void model_there(struct model *m, unsigned key, uint32_t epoch, uint64_t now)
{
	struct mkey *k = &m->key[key];

	if (k->damaged || k->npend > 0)
		return;
	for (unsigned i = 0; i < k->n; i++)
		if ((k->conf[i].val & ~HIDDEN) == (epoch | EVICTABLE)) {
			for (unsigned j = 0; j < k->n; j++)
				if ((k->conf[j].val & EPOCH) != epoch)
					past(k, k->conf[j].val & EPOCH, now);
			k->n = 1;
			memset(&k->conf[0], 0, sizeof k->conf[0]);
			k->conf[0].val = epoch;
			return;
		}
}

void model_hide(struct model *m, bool hidden)
{
	m->hidden = hidden;
	for (unsigned i = 0; i < m->setup->keys; i++) {
		struct mkey *k = &m->key[i];
		struct conf *old;
		unsigned n;

		if (k->damaged)
			continue;
		close_over(m, k);
		n = k->n;
		old = malloc(n * sizeof *old);
		AN(old != NULL);
		memcpy(old, k->conf, n * sizeof *old);
		k->n = 0;
		for (unsigned c = 0; c < n; c++) {
			if (!hidden)
				old[c].val &= ~HIDDEN;
			else if ((old[c].val & EPOCH) != 0)
				old[c].val |= HIDDEN;
			add(k, &old[c]);
		}
		free(old);
	}
}

void model_damaged(struct model *m, unsigned key)
{
	unmove(&m->key[key]);
	m->key[key].damaged = true;
}

bool model_is_damaged(const struct model *m, unsigned key)
{
	return m->key[key].damaged;
}

bool model_busy(const struct model *m, unsigned key)
{
	return m->key[key].npend > 0;
}

bool model_may(struct model *m, unsigned key, uint32_t epoch)
{
	if (m->key[key].damaged)
		return true;
	close_over(m, &m->key[key]);
	return possible(&m->key[key], epoch);
}

static void restart(const struct model *m, struct mkey *k, bool power, uint64_t since, uint64_t now)
{
	uint32_t val[CONFS];
	unsigned n = 0;

	close_over(m, k);
	for (unsigned i = 0; i < k->n; i++)
		val[n++] = k->conf[i].val & EPOCH;
	for (unsigned i = 0; power && i < k->npast; i++)
		if (k->past[i].until >= since && n < CONFS)
			val[n++] = k->past[i].val;
	for (unsigned i = 0; i < k->nrevive && n < CONFS; i++)
		val[n++] = k->revive[i];
	k->n = 0;
	for (unsigned i = 0; i < n; i++) {
		struct conf c = {.val = val[i]};

		add(k, &c);
	}
	memset(k->pend, 0, sizeof k->pend);
	k->moved = 0;
	k->npend = 0;
	k->nrevive = 0;
	if (power)
		k->npast = 0; /* what is there now was on the disk */
	(void)now;
}

void model_died(struct model *m, bool power, uint64_t since, uint64_t now)
{
	for (unsigned i = 0; i < m->setup->keys; i++)
		restart(m, &m->key[i], power, since, now);
}

void model_ended(struct model *m)
{
	model_died(m, false, 0, 0);
}
