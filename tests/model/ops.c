/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches of requests: a worker puts up to BATCH of them on its connection at once, in text and
 * meta forms, and then judges the answers in order. Reads of one batch may be of keys that the same
 * batch changes. See model.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "tests/model/model.h"

#define BATCH     12u
#define MULTI_MAX 24u

enum form { FORM_TEXT, FORM_META };

struct request {
	bool read, with_cas;
	enum form form;
	unsigned n; /* reads: keys */
	struct glimpse glimpse[MULTI_MAX];
	struct claim claim; /* changes */
};

_Atomic bool stopping, killing, cutting;

static uint64_t draw(struct worker *w)
{
	w->random += 0x9e3779b97f4a7c15ull;
	return mix64(w->random);
}

/* Half of the requests go to a tenth of the keys. */
static uint32_t draw_key(struct worker *w)
{
	uint64_t r = draw(w);
	uint32_t hot = config.keys / 10 + 1;

	return (uint32_t)(r / 2 % (r % 2 == 0 ? hot : config.keys));
}

/* ---- putting
 * ------------------------------------------------------------------------------------- */

static void put_value(struct conn *c, const struct claim *m)
{
	uint32_t len = value_len(m->key, m->gen);
	uint8_t *at;

	conn_put(c, "", 0);
	while (c->out_cap - c->out_n < len + 2) {
		uint8_t *bigger = realloc(c->out, c->out_cap * 2 + len + 2);

		AN(bigger);
		c->out = bigger;
		c->out_cap = c->out_cap * 2 + len + 2;
	}
	at = c->out + c->out_n;
	value_fill(m->key, m->gen, at);
	c->out_n += len;
	conn_put(c, "\r\n", 2);
}

static void put_change(struct conn *c, const struct request *q)
{
	const struct claim *m = &q->claim;
	char key[KEY_TEXT_MAX];
	int n = (int)key_text(m->key, key);
	bool meta = q->form == FORM_META;

	switch (m->change) {
	case CHANGE_SET_NEW:
	case CHANGE_SET_SAME:
	case CHANGE_SET_OTHER:
		if (meta)
			conn_printf(c, "ms %.*s %u F%u\r\n", n, key, value_len(m->key, m->gen),
				    value_flags(m->key, m->gen));
		else
			conn_printf(c, "set %.*s %u 0 %u\r\n", n, key, value_flags(m->key, m->gen),
				    value_len(m->key, m->gen));
		put_value(c, m);
		break;
	case CHANGE_ADD_SAME:
	case CHANGE_ADD_OTHER:
		if (meta)
			conn_printf(c, "ms %.*s %u ME F%u\r\n", n, key, value_len(m->key, m->gen),
				    value_flags(m->key, m->gen));
		else
			conn_printf(c, "add %.*s %u 0 %u\r\n", n, key, value_flags(m->key, m->gen),
				    value_len(m->key, m->gen));
		put_value(c, m);
		break;
	case CHANGE_EXPIRED:
		if (meta)
			conn_printf(c, "ms %.*s %u T-1 F%u\r\n", n, key, value_len(m->key, m->gen),
				    value_flags(m->key, m->gen));
		else
			conn_printf(c, "set %.*s %u -1 %u\r\n", n, key, value_flags(m->key, m->gen),
				    value_len(m->key, m->gen));
		put_value(c, m);
		break;
	case CHANGE_DELETE:
		conn_printf(c, "%s %.*s\r\n", meta ? "md" : "delete", n, key);
		break;
	case CHANGE_TOUCH:
		conn_printf(c, "touch %.*s -1\r\n", n, key);
		break;
	}
}

static void put_read(struct conn *c, const struct request *q)
{
	char key[KEY_TEXT_MAX];
	int n;

	if (q->form == FORM_META) {
		A(q->n == 1);
		n = (int)key_text(q->glimpse[0].key, key);
		conn_printf(c, "mg %.*s k f %sv\r\n", n, key, q->with_cas ? "c " : "");
		return;
	}
	conn_put(c, "gets", q->with_cas ? 4 : 3);
	for (unsigned i = 0; i < q->n; i++) {
		n = (int)key_text(q->glimpse[i].key, key);
		conn_printf(c, " %.*s", n, key);
	}
	conn_put(c, "\r\n", 2);
}

/* ---- taking
 * -------------------------------------------------------------------------------------- */

static bool bad_line(uint32_t key, const char *line)
{
	/* a daemon that sees the power go before it is killed itself says what it sees */
	bool cut = atomic_load(&cutting) && line != NULL &&
		   strcmp(line, "SERVER_ERROR no path accepts writes") == 0;

	if (line != NULL && !cut)
		violation(key, "unexpected answer: %.120s", line);
	return false;
}

static bool key_is(const char *at, size_t n, uint32_t k)
{
	char key[KEY_TEXT_MAX];

	return key_text(k, key) == n && memcmp(at, key, n) == 0;
}

/* A value that follows on the connection: judged against the glimpse. */
static bool take_value(struct conn *c, const struct glimpse *g, uint32_t flags, uint64_t len,
		       uint64_t cas)
{
	const uint8_t *value = len <= VALUE_MAX ? conn_block(c, len) : NULL;
	uint32_t gen;

	if (value == NULL)
		return bad_line(g->key, len <= VALUE_MAX ? NULL : "a length that nobody sent");
	gen = value_check(g->key, value, (uint32_t)len, flags);
	if (gen == 0)
		violation(g->key, "wrong bytes in a value of %lu", (unsigned long)len);
	else
		keys_judge_read(g, gen, cas);
	atomic_fetch_add_explicit(&totals.bytes, len, memory_order_relaxed);
	return true;
}

/* VALUE <key> <flags> <bytes> [<cas>], for those of the keys that are there, in order; END. */
static bool take_text_read(struct conn *c, const struct request *q)
{
	unsigned i = 0;

	for (;;) {
		char *line = conn_line(c), *at, *end;
		uint64_t flags, len, cas = 0;

		if (line == NULL)
			return false;
		if (strcmp(line, "END") == 0)
			break;
		if (strncmp(line, "VALUE ", 6) != 0)
			return bad_line(q->glimpse[0].key, line);
		at = line + 6;
		end = strchr(at, ' ');
		if (end == NULL)
			return bad_line(q->glimpse[0].key, line);
		/* those before it that were left out are misses */
		while (i < q->n && !key_is(at, (size_t)(end - at), q->glimpse[i].key))
			keys_judge_read(&q->glimpse[i++], 0, 0);
		if (i == q->n)
			return bad_line(q->glimpse[0].key, line);
		flags = strtoull(end, &at, 10);
		len = strtoull(at, &end, 10);
		if (q->with_cas) {
			cas = strtoull(end, &end, 10);
			if (cas == 0)
				violation(q->glimpse[i].key, "a cas of 0");
		}
		if (*end != '\0' || flags > UINT32_MAX)
			return bad_line(q->glimpse[i].key, line);
		if (!take_value(c, &q->glimpse[i], (uint32_t)flags, len, cas))
			return false;
		i++;
	}
	while (i < q->n)
		keys_judge_read(&q->glimpse[i++], 0, 0);
	return true;
}

/* EN [k<key>], or VA <bytes> k<key> f<flags> [c<cas>] */
static bool take_meta_read(struct conn *c, const struct request *q)
{
	char *line = conn_line(c), *at, *end;
	uint64_t len, flags, cas = 0;

	if (line == NULL)
		return false;
	/* a miss may name its key, too */
	if (strcmp(line, "EN") == 0 || (strncmp(line, "EN k", 4) == 0 &&
					key_is(line + 4, strlen(line + 4), q->glimpse[0].key))) {
		keys_judge_read(&q->glimpse[0], 0, 0);
		return true;
	}
	if (strncmp(line, "VA ", 3) != 0)
		return bad_line(q->glimpse[0].key, line);
	len = strtoull(line + 3, &at, 10);
	if (strncmp(at, " k", 2) != 0 || (end = strchr(at + 2, ' ')) == NULL ||
	    !key_is(at + 2, (size_t)(end - at - 2), q->glimpse[0].key) ||
	    strncmp(end, " f", 2) != 0)
		return bad_line(q->glimpse[0].key, line);
	flags = strtoull(end + 2, &end, 10);
	if (q->with_cas) {
		if (strncmp(end, " c", 2) != 0)
			return bad_line(q->glimpse[0].key, line);
		cas = strtoull(end + 2, &end, 10);
		if (cas == 0)
			violation(q->glimpse[0].key, "a cas of 0");
	}
	if (*end != '\0' || flags > UINT32_MAX)
		return bad_line(q->glimpse[0].key, line);
	return take_value(c, &q->glimpse[0], (uint32_t)flags, len, cas);
}

static bool take_change(struct conn *c, const struct request *q)
{
	static const struct {
		const char *line;
		enum answer answer;
		bool set, touch, meta;
	} known[] = {{"STORED", ANSWER_STORED, true, false, false},
		     {"NOT_STORED", ANSWER_NOT_STORED, true, false, false},
		     {"HD", ANSWER_STORED, true, false, true},
		     {"NS", ANSWER_NOT_STORED, true, false, true},
		     {"DELETED", ANSWER_GONE, false, false, false},
		     {"HD", ANSWER_GONE, false, false, true},
		     {"NOT_FOUND", ANSWER_NOT_FOUND, false, false, false},
		     {"NF", ANSWER_NOT_FOUND, false, false, true},
		     {"TOUCHED", ANSWER_GONE, false, true, false},
		     {"NOT_FOUND", ANSWER_NOT_FOUND, false, true, false}};
	const struct claim *m = &q->claim;
	char *line = conn_line(c);
	bool touch = m->change == CHANGE_TOUCH, set = m->gen != 0;
	bool meta = q->form == FORM_META && !touch;

	if (line == NULL)
		return false;
	for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].set == set && known[i].touch == touch && known[i].meta == meta &&
		    strcmp(known[i].line, line) == 0) {
			keys_settle(m, known[i].answer);
			return true;
		}
	return bad_line(m->key, line);
}

/* ---- a worker
 * ------------------------------------------------------------------------------------ */

static void make_request(struct worker *w, struct request *q)
{
	uint64_t r = draw(w);

	*q = (struct request){.form = r % 2 == 0 ? FORM_TEXT : FORM_META,
			      .with_cas = r / 2 % 4 == 0};
	r /= 8;
	if (r % 100 < 40 && keys_claim(draw_key(w), draw(w), &q->claim))
		return;
	q->read = true;
	q->n = 1;
	if (r % 100 >= 90) {
		q->form = FORM_TEXT;
		q->n = 2 + (unsigned)(draw(w) % (MULTI_MAX - 1));
	}
}

static bool asked_before(const struct request *q, unsigned n, uint32_t k)
{
	for (unsigned i = 0; i < n; i++)
		if (q->glimpse[i].key == k)
			return true;
	return false;
}

static void put_request(struct worker *w, struct request *q)
{
	if (!q->read) {
		put_change(&w->conn, q);
		return;
	}
	for (unsigned i = 0; i < q->n; i++) {
		uint32_t k;

		/* the same key twice would make it unclear which of the two was left out */
		do
			k = draw_key(w);
		while (asked_before(q, i, k));
		keys_glimpse(k, &q->glimpse[i]);
	}
	put_read(&w->conn, q);
}

static bool take_request(struct worker *w, struct request *q)
{
	if (!q->read)
		return take_change(&w->conn, q);
	return q->form == FORM_META ? take_meta_read(&w->conn, q) : take_text_read(&w->conn, q);
}

static bool batch(struct worker *w)
{
	struct request q[BATCH];
	unsigned n = 1 + (unsigned)(draw(w) % BATCH), done = 0;
	bool ok;

	for (unsigned i = 0; i < n; i++) {
		make_request(w, &q[i]);
		put_request(w, &q[i]);
	}
	ok = conn_send(&w->conn);
	while (ok && done < n) {
		ok = take_request(w, &q[done]);
		if (!ok)
			break;
		atomic_fetch_add_explicit(&totals.ops, q[done].read ? q[done].n : 1,
					  memory_order_relaxed);
		done++;
	}
	for (; done < n; done++)
		if (!q[done].read)
			keys_settle(&q[done].claim, ANSWER_LOST);
	return ok;
}

void *worker_main(void *arg)
{
	struct worker *w = arg;

	if (!conn_open(&w->conn)) {
		if (!atomic_load(&killing))
			violation(0, "no connection");
		return NULL;
	}
	while (!atomic_load(&stopping)) {
		if (keys_written() > keys_allowance()) {
			usleep(1000);
			continue;
		}
		if (!batch(w)) {
			if (!atomic_load(&killing))
				violation(0, "connection %u broke, or had no answer in 20 s",
					  w->id);
			break;
		}
	}
	conn_close(&w->conn);
	return NULL;
}

bool ops_sweep(struct conn *c)
{
	struct request q;

	for (uint32_t k = 0; k < config.keys;) {
		q = (struct request){.read = true, .with_cas = true, .form = FORM_TEXT};
		while (k < config.keys && q.n < MULTI_MAX)
			keys_glimpse(k++, &q.glimpse[q.n++]);
		put_read(c, &q);
		if (!conn_send(c) || !take_text_read(c, &q)) {
			violation(q.glimpse[0].key, "the sweep's connection broke");
			return false;
		}
		atomic_fetch_add(&totals.ops, q.n);
	}
	return true;
}
