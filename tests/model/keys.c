/* SPDX-License-Identifier: Apache-2.0 */
/* The model of all keys; see model.h. Any thread; a key's state is under its stripe's lock. */
#include "tests/model/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define RECORD_OVERHEAD 512u /* of a record on disk, at most, but for long values */
#define SAID_MAX        20u

/* States of a key that a power cut may bring back: the last ones, each with the uptime it began. */
#define PASTS 6u
struct past {
	uint64_t at, written_at;
	uint32_t cur, dead;
	bool unknown, window;
};
struct pasts {
	struct past past[PASTS]; /* the newest at (n - 1) % PASTS */
	uint32_t n;
};

struct key_state {
	uint32_t cur;      /* generation that was acknowledged last; 0: deleted, or never set */
	uint32_t dead;     /* generations up to here never come back */
	uint32_t attempts; /* highest generation ever sent */
	uint32_t version;
	uint64_t refused;    /* bit i: generation attempts - i was refused */
	uint64_t written_at; /* bytes sent by all before cur was certainly written */
	uint64_t cas;        /* of cas_gen, as first seen */
	uint32_t cas_gen;
	bool claimed, deleting, unknown; /* unknown: [MC-5] */
	bool window;                     /* written_at is known */
};

static struct key_state *states;
/* Set while no worker runs. */
static struct rate {
	uint64_t mb, since, written;
} rate;
static struct pasts *pasts; /* NULL: no power is cut */
static pthread_mutex_t stripes[STRIPES];
static _Atomic uint64_t written; /* bytes of records sent by all */
struct totals totals;

bool keys_open(void)
{
	states = calloc(config.keys, sizeof(*states));
	if (config.cut != NULL) {
		pasts = calloc(config.keys, sizeof(*pasts));
		if (pasts == NULL)
			return false;
	}
	for (unsigned i = 0; i < STRIPES; i++)
		pthread_mutex_init(&stripes[i], NULL);
	return states != NULL;
}

bool key_is_free(uint32_t k)
{
	return k % 8 == 7;
}

static struct key_state *lock(uint32_t k)
{
	A(k < config.keys);
	pthread_mutex_lock(&stripes[k % STRIPES]);
	return &states[k];
}

static void unlock(uint32_t k)
{
	pthread_mutex_unlock(&stripes[k % STRIPES]);
}

void violation(uint32_t key, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	if (atomic_fetch_add(&totals.violations, 1) >= SAID_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	printf("violation, key %u: %s\n", key, line);
	fflush(stdout);
}

/* ---- keys and values
 * ----------------------------------------------------------------------------- */

unsigned key_text(uint32_t k, char *to)
{
	uint64_t x = mix64(k + 1000);
	unsigned len = x % 64 == 0 ? KEY_TEXT_MAX : 10 + (unsigned)(x / 64 % 50);
	unsigned n = (unsigned)snprintf(to, KEY_TEXT_MAX, "%08x:", (uint32_t)x);

	A(len >= n);
	for (; n < len; n++)
		to[n] = (char)('a' + (x >> n % 48 & 15));
	/* the tail tells keys apart whose hash above is equal */
	for (unsigned i = 0; i < 6 && i < len; i++)
		to[i] = (char)('0' + (k >> 4 * i & 15));
	return len;
}

uint32_t value_len(uint32_t k, uint32_t gen)
{
	uint64_t x = mix64((uint64_t)k << 32 | (key_is_free(k) ? 1 : gen));
	uint64_t shape = x % 1000;

	x /= 1000;
	if (key_is_free(k) && shape < 200)
		return (uint32_t)(x % 24); /* also nothing at all */
	if (shape < 3)
		return 262144 + (uint32_t)(x % 700000); /* several chunks */
	if (shape < 20)
		return 16 + (uint32_t)(x % 262144);
	/* others have the same length in two generations that follow each other: only bytes differ
	 */
	x = mix64((uint64_t)k << 32 | gen / 2);
	return 16 + (uint32_t)(x % (2ull * config.mean));
}

uint32_t value_flags(uint32_t k, uint32_t gen)
{
	return (uint32_t)mix64((uint64_t)gen << 32 | k);
}

static void word_of(uint32_t k, uint32_t gen, uint32_t at, uint8_t w[8])
{
	uint64_t x = at == 0 ? (uint64_t)k << 32 | gen
			     : mix64(((uint64_t)k << 32 | gen) * 0x9e3779b97f4a7c15ull + at);

	memcpy(w, &x, 8);
}

void value_fill(uint32_t k, uint32_t gen, uint8_t *to)
{
	uint32_t len = value_len(k, gen);
	uint8_t w[8];

	for (uint32_t at = 0; at < len; at += 8) {
		word_of(k, gen, at, w);
		memcpy(to + at, w, len - at < 8 ? len - at : 8);
	}
}

uint32_t value_check(uint32_t k, const uint8_t *value, uint32_t len, uint32_t flags)
{
	uint64_t head;
	uint32_t gen = 1;
	uint8_t w[8];

	if (!key_is_free(k)) {
		if (len < 16)
			return 0;
		memcpy(&head, value, 8);
		gen = (uint32_t)head;
		if (head >> 32 != k || gen == 0)
			return 0;
	}
	if (len != value_len(k, gen) || flags != value_flags(k, gen))
		return 0;
	for (uint32_t at = 0; at < len; at += 8) {
		word_of(k, gen, at, w);
		if (memcmp(value + at, w, len - at < 8 ? len - at : 8) != 0)
			return 0;
	}
	return gen;
}

/* ---- reads
 * --------------------------------------------------------------------------------------- */

void keys_glimpse(uint32_t k, struct glimpse *g)
{
	struct key_state *s = lock(k);

	*g = (struct glimpse){.key = k,
			      .cur = s->cur,
			      .dead = s->dead,
			      .version = s->version,
			      .settled = !s->deleting && !s->unknown && s->window,
			      .written_at = s->written_at};
	unlock(k);
}

/* [MC-4]: a miss cannot be explained by what was written since. */
static bool too_young(uint64_t written_at)
{
	return atomic_load(&written) - written_at < config.window;
}

static bool was_refused(const struct key_state *s, uint32_t gen)
{
	uint32_t back = s->attempts - gen;

	return back < 64 && (s->refused >> back & 1);
}

void keys_judge_read(const struct glimpse *g, uint32_t gen, uint64_t cas)
{
	struct key_state *s;

	atomic_fetch_add_explicit(gen != 0 ? &totals.hits : &totals.misses, 1,
				  memory_order_relaxed);
	if (key_is_free(g->key) || (gen == 0 && atomic_load(&cutting)))
		return;
	s = lock(g->key);
	if (gen == 0) {
		if (g->cur != 0 && g->settled && s->version == g->version) {
			if (too_young(g->written_at))
				violation(
				    g->key,
				    "generation %u is not there, %lu bytes after it was stored",
				    g->cur, (unsigned long)(atomic_load(&written) - g->written_at));
			atomic_fetch_add_explicit(&totals.evicted_seen, 1, memory_order_relaxed);
		}
	} else if (gen > s->attempts) {
		violation(g->key, "generation %u was never sent", gen);
	} else if (gen <= g->dead || gen < g->cur) {
		violation(g->key, "generation %u came back; %u is the oldest that may", gen,
			  g->cur != 0 ? g->cur : g->dead + 1);
	} else if (was_refused(s, gen)) {
		violation(g->key, "generation %u was refused and is there", gen);
	} else if (cas != 0) {
		/* memcached's cas is a count: it may differ for the same bytes stored again */
		if (s->cas_gen == gen && s->cas != cas && !config.mutable_values)
			violation(g->key, "generation %u had cas %lu, now %lu", gen,
				  (unsigned long)s->cas, (unsigned long)cas);
		s->cas_gen = gen;
		s->cas = cas;
	}
	unlock(g->key);
}

/* ---- changes
 * ------------------------------------------------------------------------------------- */

static enum change choose(const struct key_state *s, uint64_t r)
{
	struct wish {
		uint8_t below;
		enum change change;
	};
	static const struct wish absent[] = {{70, CHANGE_SET_NEW},
					     {90, CHANGE_ADD_OTHER},
					     {95, CHANGE_DELETE},
					     {97, CHANGE_TOUCH},
					     {100, CHANGE_EXPIRED}};
	static const struct wish there[] = {{35, CHANGE_SET_SAME}, {55, CHANGE_SET_OTHER},
					    {65, CHANGE_ADD_SAME}, {75, CHANGE_ADD_OTHER},
					    {90, CHANGE_DELETE},   {95, CHANGE_TOUCH},
					    {100, CHANGE_EXPIRED}};
	const struct wish *p = s->cur == 0 || s->unknown ? absent : there;

	for (r %= 100; r >= p->below; p++)
		;
	return p->change;
}

bool keys_claim(uint32_t k, uint64_t r, struct claim *c)
{
	struct key_state *s = lock(k);
	bool ok = key_is_free(k) || !s->claimed;

	if (!ok)
		goto out;
	c->key = k;
	c->gen = 0;
	if (key_is_free(k)) {
		r %= 100;
		c->change = r < 60 ? CHANGE_SET_SAME : r < 75 ? CHANGE_ADD_SAME : CHANGE_DELETE;
		if (c->change != CHANGE_DELETE)
			c->gen = 1;
	} else {
		c->change = choose(s, r);
		s->claimed = true;
		s->version++;
		switch (c->change) {
		case CHANGE_SET_NEW:
		case CHANGE_SET_OTHER:
		case CHANGE_ADD_OTHER:
			c->gen = ++s->attempts;
			s->refused <<= 1;
			break;
		case CHANGE_SET_SAME:
		case CHANGE_ADD_SAME:
			c->gen = s->cur;
			break;
		case CHANGE_EXPIRED:
			c->gen = ++s->attempts;
			s->refused = s->refused << 1 | 1; /* nobody may ever see it */
			s->deleting = true;
			break;
		case CHANGE_DELETE:
		case CHANGE_TOUCH:
			s->deleting = true;
			break;
		}
	}
	/* what others write between the storing and the count is counted too: never too young by it
	 */
	c->written = atomic_fetch_add(
	    &written, c->gen == 0 ? RECORD_OVERHEAD
				  : RECORD_OVERHEAD + value_len(k, c->gen) *
							  (value_len(k, c->gen) > 262144 ? 2 : 1));
out:
	unlock(k);
	return ok;
}

static void now_current(struct key_state *s, const struct claim *c)
{
	s->cur = c->gen;
	s->dead = c->gen - 1;
	s->written_at = c->written;
	s->window = true;
	s->unknown = false;
}

static void settle_set(struct key_state *s, const struct claim *c, enum answer a)
{
	bool there = s->cur != 0 && !s->unknown, gone = s->cur == 0 && !s->unknown;
	bool add = c->change == CHANGE_ADD_SAME || c->change == CHANGE_ADD_OTHER;
	bool fresh = c->change == CHANGE_SET_NEW || c->change == CHANGE_SET_OTHER ||
		     c->change == CHANGE_ADD_OTHER;

	if (a == ANSWER_STORED) {
		/* stored where it must be refused: only because the key was evicted */
		if (there && (add || (fresh && !config.mutable_values))) {
			if (s->window && too_young(s->written_at))
				violation(
				    c->key,
				    "%s of generation %u was stored over %u, %lu bytes after that",
				    add ? "add" : "set", c->gen, s->cur,
				    (unsigned long)(atomic_load(&written) - s->written_at));
			atomic_fetch_add_explicit(&totals.evicted_seen, 1, memory_order_relaxed);
		}
		if (fresh || add)
			now_current(s, c);
		/* a set of the same value wrote nothing, or the value anew: written_at stays the
		 * older */
		atomic_fetch_add_explicit(&totals.stored, 1, memory_order_relaxed);
		return;
	}
	if (gone)
		violation(c->key, "generation %u was refused, and the key is not there", c->gen);
	if (c->change == CHANGE_SET_SAME || (!add && config.mutable_values))
		violation(c->key, "a set of the same value was refused");
	if (fresh) /* the claim keeps attempts == gen */
		s->refused |= 1;
	atomic_fetch_add_explicit(&totals.refused, 1, memory_order_relaxed);
}

/* After each change of s. A key that changes more often than PASTS times an interval is judged less. */
static void remember(const struct key_state *s)
{
	struct pasts *p;
	struct past *last;

	if (pasts == NULL)
		return;
	p = &pasts[s - states];
	last = &p->past[(p->n - 1) % PASTS];
	if (p->n > 0 && last->cur == s->cur && last->dead == s->dead &&
	    last->unknown == s->unknown && last->written_at == s->written_at)
		return;
	p->past[p->n++ % PASTS] = (struct past){.at = daemon_uptime(),
						.cur = s->cur,
						.dead = s->dead,
						.written_at = s->written_at,
						.unknown = s->unknown,
						.window = s->window};
}

void keys_rate(unsigned mb)
{
	rate = (struct rate){mb, daemon_uptime(), keys_written()};
}

uint64_t keys_allowance(void)
{
	if (rate.mb == 0)
		return UINT64_MAX;
	return rate.written + rate.mb * ((daemon_uptime() - rate.since) / 1000 + 100000);
}

void keys_cut(uint64_t at, uint64_t loss_ns)
{
	static const struct past never;
	uint64_t safe = at > loss_ns ? at - loss_ns : 0;

	for (uint32_t k = 0; k < config.keys; k++) {
		struct key_state *s = &states[k];
		struct pasts *p = &pasts[k];
		const struct past *was = NULL;
		uint32_t seen = 0;

		A(!s->claimed);
		if (key_is_free(k) || p->n == 0)
			continue;
		for (; seen < PASTS && seen < p->n && was == NULL; seen++) {
			const struct past *q = &p->past[(p->n - 1 - seen) % PASTS];

			if (q->at <= safe)
				was = q;
		}
		if (was != NULL && seen == 1)
			continue; /* long settled */
		if (was == NULL)
			was = &never; /* nothing at all is known of so long ago */
		s->cur = was->cur;
		s->dead = was->dead;
		s->written_at = was->written_at;
		s->window = was->window;
		s->unknown = true;
		s->version++;
		p->n = 0;
		remember(s);
		p->past[0].at = 0; /* what the disk has now it keeps */
	}
}

void keys_count_demands(uint64_t *there, uint64_t *away)
{
	for (uint32_t k = 0; k < config.keys; k++) {
		struct key_state *s = lock(k);

		if (!key_is_free(k) && !s->unknown && !s->deleting) {
			*there += s->cur != 0 && s->window && too_young(s->written_at);
			*away += s->cur == 0 && s->attempts != 0;
		}
		unlock(k);
	}
}

void keys_settle(const struct claim *c, enum answer a)
{
	struct key_state *s;
	bool expired = c->change == CHANGE_EXPIRED;
	bool removes = c->change == CHANGE_DELETE || c->change == CHANGE_TOUCH || expired;

	if (atomic_load(&cutting))
		a = ANSWER_LOST;

	if (key_is_free(c->key)) {
		if (c->change == CHANGE_SET_SAME && a == ANSWER_NOT_STORED)
			violation(c->key, "a set of the only value was refused");
		return;
	}
	s = lock(c->key);
	A(s->claimed);
	if (a == ANSWER_LOST) {
		/* the same value again changes nothing, whether it arrived or not */
		if (removes || c->gen != s->cur)
			s->unknown = true;
		atomic_fetch_add_explicit(&totals.lost, 1, memory_order_relaxed);
	} else if (removes) {
		if (expired && a != ANSWER_STORED)
			violation(c->key, "a set with a negative expiry was refused");
		if (a == ANSWER_GONE && s->cur == 0 && !s->unknown)
			violation(c->key, "deleted a key that was deleted (generations up to %u)",
				  s->dead);
		if (a == ANSWER_NOT_FOUND && s->cur != 0 && !s->unknown) {
			if (s->window && too_young(s->written_at))
				violation(
				    c->key,
				    "nothing to delete; generation %u was stored %lu bytes ago",
				    s->cur, (unsigned long)(atomic_load(&written) - s->written_at));
			atomic_fetch_add_explicit(&totals.evicted_seen, 1, memory_order_relaxed);
		}
		s->cur = 0;
		s->dead = s->attempts;
		s->unknown = s->window = false;
		atomic_fetch_add_explicit(&totals.deleted, 1, memory_order_relaxed);
	} else {
		settle_set(s, c, a);
	}
	s->claimed = s->deleting = false;
	s->version++;
	remember(s);
	unlock(c->key);
}

uint64_t keys_present(void)
{
	uint64_t n = 0;

	for (uint32_t k = 0; k < config.keys; k++)
		n += states[k].cur != 0;
	return n;
}

uint64_t keys_written(void)
{
	return atomic_load(&written);
}
