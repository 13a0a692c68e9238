/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests: what the parser understood is carried out by the store and answered in order.
 *
 * Rules
 *  1. Answers leave in the order of the requests. A request that is complete while earlier ones are
 *     not waits in the queue; when the queue is empty it is answered without entering it.
 *  2. Reads (get, gets, mg, me, touch) run concurrently, at most WINDOW_REQS of them and
 *     WINDOW_BYTES of answers.
 *  3. Everything else holds the input (IN_HOLD) until it is complete: what follows on this connection
 *     sees its effect. It begins its effect only when no earlier read of the same key is
 *     pending, so that a read does not see what was written after it.
 *  4. A value longer than STORE_WHOLE_MAX goes out in chunks; the next is asked for when the one
 *     before is sent. Such a request stays at the head of the queue meanwhile (c->stream).
 *  5. Each request that is taken is ended exactly once, by request__end().
 *  6. While a read waits for memory, nothing later is begun on its connection: what holds memory is never
 *     behind what waits for it, so those that wait are served in the end.
 *
 * Threads: the connection's worker.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "valcached/net/net_int.h"

/* Who ends the request after its answer was put. */
enum put { PUT_DONE, PUT_HELD, PUT_STREAM };

/* ---- taking and ending ------------------------------------------------------------------------ */

static struct req *take(struct conn *c, const struct proto_request *rq)
{
	struct req *r = worker__req(c->w);

	r->conn = c;
	r->kind = (uint8_t)rq->op;
	r->open = r->busy = r->ready = false;
	r->last = rq->last;
	r->noreply = rq->noreply;
	r->expire = rq->expire;
	r->value = rq->value;
	r->add = rq->add;
	r->has_cas = rq->has_cas;
	r->flags = rq->flags;
	r->body_len = rq->body_len;
	r->cas = rq->cas;
	r->line = NULL;
	if (rq->op >= PROTO_MG)
		r->meta = rq->meta;
	return r;
}

void request__end(struct conn *c, struct req *r)
{
	A(!r->busy);
	if (r->open)
		store_op_end(&r->op);
	if (r->text.at != NULL)
		text_free(&r->text);
	if (r->dumps) {
		r->dumps = false;
		atomic_store(&c->w->net->dumping, false);
	}
	worker__req_free(c->w, r);
}

static void step_done(struct store_op *op)
{
	struct req *r = op->user;
	struct conn *c = r->conn;

	MAGIC_OK(c, CONN_MAGIC);
	A(r->busy && c->busy > 0);
	r->busy = false;
	c->busy--;
	if (!c->dead)
		r->then(r);
	conn__dirty(c);
}

static void open_op(struct req *r, const char *key, uint8_t key_len)
{
	store_op_init(&r->op, r->conn->w->store, key, key_len, step_done, r);
	r->open = true;
}

/* now: the store's step is complete already. */
static void step(struct req *r, bool now)
{
	if (now) {
		r->then(r);
		return;
	}
	r->busy = true;
	r->conn->busy++;
}

/* ---- answers ---------------------------------------------------------------------------------- */

static void put_line(struct conn *c, const struct proto_line *line)
{
	output__text(c, line->s, line->len);
}

static void put_end(struct conn *c, const struct req *r)
{
	output__text(c, "\r\nEND\r\n", r->last && r->kind != PROTO_MG ? 7 : 2);
}

static uint32_t put_head(const struct req *r, char *to)
{
	const struct store_op *op = &r->op;
	const struct proto_item it = {op->flags, op->value_len, op->cas};

	if (r->kind == PROTO_MG)
		return (uint32_t)proto_put_mg(to, &r->meta, r->value, op->key, op->key_len, &it);
	return (uint32_t)proto_put_value(to, op->key, op->key_len, &it,
					 r->kind == PROTO_GETS || r->kind == PROTO_GATS);
}

static void put_meta(struct conn *c, const struct req *r)
{
	const struct store_op *op = &r->op;
	const struct proto_item it = {op->flags, op->value_len, op->cas};
	bool stored = r->kind == PROTO_MS && r->rc == PROTO_HD && !r->expire;
	char *to = output__room(c, PROTO_HEAD_MAX);

	output__wrote(c, (uint32_t)proto_put_meta(to, &r->meta, r->rc, op->key, op->key_len,
						  stored ? &it : NULL));
}

static void chunk_came(struct req *r);

/* A hit with a value. */
static enum put put_value(struct conn *c, struct req *r)
{
	struct store_op *op = &r->op;
	char *to;
	uint32_t n;

	c->mean += (op->value_len >> 3) - (c->mean >> 3);
	if (op->value_len <= COPY_MAX) {
		to = output__room(c, PROTO_HEAD_MAX + COPY_MAX + 8);
		n = put_head(r, to);
		memcpy(to + n, op->value, op->value_len);
		n += op->value_len;
		memcpy(to + n, "\r\nEND\r\n", 7);
		n += r->last && r->kind != PROTO_MG ? 7 : 2;
		output__wrote(c, n);
		return PUT_DONE;
	}
	to = output__room(c, PROTO_HEAD_MAX + 8);
	output__wrote(c, put_head(r, to));
	output__ref(c, op->value, op->value_n);
	if (op->value_n < op->value_len) {
		c->stream = r;
		r->then = chunk_came;
		return PUT_STREAM;
	}
	put_end(c, r);
	return PUT_HELD;
}

static enum put put_get(struct conn *c, struct req *r)
{
	bool hit = r->open && r->op.status == STORE_OK;

	if (r->kind == PROTO_MG) {
		if (hit && r->value)
			return put_value(c, r);
		if (hit)
			output__wrote(c, put_head(r, output__room(c, PROTO_HEAD_MAX)));
		else if (!r->meta.quiet || !proto_quiet(PROTO_MG, PROTO_EN))
			r->rc = PROTO_EN, put_meta(c, r);
		return PUT_DONE;
	}
	if (hit)
		return put_value(c, r);
	if (r->last)
		put_line(c, &proto_lines[PROTO_END]);
	return PUT_DONE;
}

static enum put put_answer(struct conn *c, struct req *r)
{
	if (r->line != NULL) {
		put_line(c, r->line);
		return PUT_DONE;
	}
	switch ((enum proto_op)r->kind) {
	case PROTO_GET:
	case PROTO_GETS:
	case PROTO_GAT:
	case PROTO_GATS:
	case PROTO_MG:
		return put_get(c, r);
	case PROTO_ME:
		if (r->op.status == STORE_OK) {
			const struct proto_item it = {r->op.flags, r->op.value_len, r->op.cas};
			char *to = output__room(c, PROTO_HEAD_MAX);

			output__wrote(
			    c, (uint32_t)proto_put_me(to, &r->meta, r->op.key, r->op.key_len, &it));
		} else {
			put_line(c, &proto_lines[PROTO_EN_LINE]);
		}
		return PUT_DONE;
	case PROTO_MS:
	case PROTO_MD:
		if (!r->meta.quiet || !proto_quiet((enum proto_op)r->kind, r->rc))
			put_meta(c, r);
		return PUT_DONE;
	case PROTO_STATS:
		if (r->text.n == 0)
			return PUT_DONE;
		output__ref(c, r->text.at, r->text.n);
		return PUT_HELD;
	case PROTO_METADUMP:
		if (r->op.value_n == 0) {
			put_line(c, &proto_lines[PROTO_END]);
			return PUT_DONE;
		}
		output__ref(c, r->op.value, r->op.value_n);
		c->stream = r;
		r->then = chunk_came;
		return PUT_STREAM;
	default: /* nothing to say: noreply */
		return PUT_DONE;
	}
}

static uint32_t weight(const struct req *r)
{
	return r->open && r->line == NULL ? r->op.value_n : 0;
}

static void enqueue(struct conn *c, struct req *r)
{
	r->next = NULL;
	*c->queue_end = r;
	c->queue_end = &r->next;
	c->queue_n++;
}

static void dequeue(struct conn *c)
{
	struct req *r = c->queue;

	c->queue = r->next;
	if (c->queue == NULL)
		c->queue_end = &c->queue;
	c->queue_n--;
}

/* r is complete and not in the queue. */
static void answer(struct conn *c, struct req *r)
{
	r->ready = true;
	if (c->queue != NULL) {
		c->held_bytes += weight(r);
		enqueue(c, r);
		return;
	}
	switch (put_answer(c, r)) {
	case PUT_DONE:
		request__end(c, r);
		break;
	case PUT_HELD:
		output__hold(c, r);
		break;
	case PUT_STREAM:
		enqueue(c, r);
		break;
	}
}

static void answer_line(struct conn *c, struct req *r, enum proto_line_id id)
{
	if (r->noreply)
		r->kind = PROTO_OPS; /* no answer of any kind */
	else
		r->line = &proto_lines[id];
	answer(c, r);
}

/* An answer that needs nothing of the store. s is static memory. */
static void reply(struct conn *c, const char *s, uint32_t n)
{
	struct req *r;

	if (n == 0)
		return;
	if (c->queue == NULL) {
		output__text(c, s, n);
		return;
	}
	r = worker__req(c->w);
	r->conn = c;
	r->kind = PROTO_OPS;
	r->open = r->busy = false;
	r->constant = (struct proto_line){s, n};
	r->line = &r->constant;
	answer(c, r);
}

static void reply_line(struct conn *c, const struct proto_request *rq, enum proto_line_id id)
{
	if (!rq->noreply)
		reply(c, proto_lines[id].s, proto_lines[id].len);
}

/* ---- chunks of long values and of dumps ------------------------------------------------------- */

static void stream_end(struct conn *c, bool held)
{
	struct req *r = c->stream;

	A(r == c->queue);
	c->stream = NULL;
	dequeue(c);
	if (held)
		output__hold(c, r);
	else
		request__end(c, r);
}

static void chunk_came(struct req *r)
{
	struct conn *c = r->conn;
	struct store_op *op = &r->op;

	A(c->stream == r);
	if (r->kind == PROTO_METADUMP) {
		if (op->value_n > 0) {
			output__ref(c, op->value, op->value_n);
			return;
		}
		put_line(c, &proto_lines[PROTO_END]);
		stream_end(c, false);
		return;
	}
	if (op->status != STORE_OK) {
		conn__die(
		    c); /* the length was promised: only the end of the stream tells the truth */
		return;
	}
	output__ref(c, op->value, op->value_n);
	if (op->value_off + op->value_n < op->value_len)
		return;
	put_end(c, r);
	stream_end(c, true);
}

static void stream_on(struct conn *c)
{
	struct req *r = c->stream;

	if (r == NULL || r->busy || c->out != NULL)
		return;
	if (r->kind == PROTO_METADUMP)
		step(r, store_dump(&r->op, &r->cursor));
	else
		step(r, store_get_next(&r->op));
}

void request__emit(struct conn *c)
{
	stream_on(c);
	while (c->stream == NULL && c->queue != NULL && c->queue->ready) {
		struct req *r = c->queue;
		enum put put;

		A(c->held_bytes >= weight(r));
		c->held_bytes -= weight(r);
		put = put_answer(c, r);
		if (put == PUT_STREAM)
			break;
		dequeue(c);
		if (put == PUT_HELD)
			output__hold(c, r);
		else
			request__end(c, r);
	}
}

/* ---- reads ------------------------------------------------------------------------------------ */

static void count_read(struct conn *c, const struct req *r)
{
	struct worker_counters *n = &c->w->count;
	bool hit = r->op.status == STORE_OK;

	switch ((enum proto_op)r->kind) {
	case PROTO_TOUCH:
		count_add(&n->cmd_touch, 1);
		count_add(hit ? &n->touch_hits : &n->touch_misses, 1);
		return;
	case PROTO_ME:
		return;
	case PROTO_GAT:
	case PROTO_GATS:
		count_add(&n->cmd_touch, 1);
		count_add(hit ? &n->touch_hits : &n->touch_misses, 1);
		break;
	default:
		break;
	}
	count_add(&n->cmd_get, 1);
	count_add(hit ? &n->get_hits : &n->get_misses, 1);
}

/* What is known only now of a read's answer. */
static void read_known(struct conn *c, struct req *r)
{
	count_read(c, r);
	if (r->kind != PROTO_TOUCH)
		return;
	if (r->noreply)
		r->kind = PROTO_OPS;
	else
		r->line = &proto_lines[r->op.status == STORE_OK ? PROTO_TOUCHED : PROTO_NOT_FOUND];
}

/* A read in the queue is complete. */
static void read_came(struct req *r)
{
	struct conn *c = r->conn;

	c->pending--;
	if (c->last_read == r)
		c->last_read = NULL;
	read_known(c, r);
	r->ready = true;
	c->held_bytes += weight(r);
}

/* A small value is here and it is its turn: the answer's head is put, and this is where the rest goes. */
static uint8_t *place_value(struct store_op *op)
{
	struct req *r = op->user;
	char *to = output__room(r->conn, PROTO_HEAD_MAX + COPY_MAX + 8);

	r->placed = to + put_head(r, to);
	return (uint8_t *)r->placed;
}

static void answer_placed(struct conn *c, struct req *r)
{
	uint32_t len = r->op.value_len;
	char *to = output__room(c, PROTO_HEAD_MAX + COPY_MAX + 8), *end = r->placed + len;

	A(end - to <= PROTO_HEAD_MAX + COPY_MAX);
	c->mean += (len >> 3) - (c->mean >> 3);
	memcpy(end, "\r\nEND\r\n", 7);
	end += r->last && r->kind != PROTO_MG ? 7 : 2;
	output__wrote(c, (uint32_t)(end - to));
	request__end(c, r);
}

static void begin_read(struct conn *c, struct req *r)
{
	bool head =
	    r->kind == PROTO_TOUCH || r->kind == PROTO_ME || (r->kind == PROTO_MG && !r->value);

	r->then = read_came;
	if (c->queue == NULL) {
		r->op.place = place_value;
		r->op.place_max = COPY_MAX;
	}
	if (store_get(&r->op, head)) {
		read_known(c, r);
		if (r->op.placed)
			answer_placed(c, r);
		else
			answer(c, r);
		return;
	}
	r->busy = true;
	c->busy++;
	c->pending++;
	c->last_read = r;
	enqueue(c, r);
}

/* Begins the reads that were put off; how many. */
static unsigned begin_ahead(struct conn *c)
{
	struct worker *w = c->w;
	unsigned n = w->ahead_n;

	if (n == 0)
		return 0;
	w->ahead_n = 0;
	for (unsigned stage = 1; stage < STORE_PREFETCH_STAGES; stage++)
		for (unsigned i = n > stage * AHEAD_STEP ? n - stage * AHEAD_STEP : 0; i < n; i++)
			store_prefetch(&w->ahead[i]->op, stage);
	for (unsigned i = 0; i < n; i++)
		begin_read(c, w->ahead[i]);
	return n;
}

/* A read: put off for a moment if more input is here, while its cache lines are on their way. */
static void read_key(struct conn *c, const struct proto_request *rq, bool more)
{
	struct worker *w = c->w;
	struct req *r = take(c, rq);

	open_op(r, rq->key, rq->key_len);
	if (!more && w->ahead_n == 0) {
		begin_read(c, r);
		return;
	}
	for (unsigned stage = 0; stage < STORE_PREFETCH_STAGES; stage++) {
		unsigned before = stage * AHEAD_STEP;

		if (before == 0)
			store_prefetch(&r->op, 0);
		else if (w->ahead_n >= before)
			store_prefetch(&w->ahead[w->ahead_n - before]->op, stage);
	}
	w->ahead[w->ahead_n++] = r;
}

/* ---- what holds the input --------------------------------------------------------------------- */

static void let_go(struct conn *c)
{
	c->cur = NULL;
	c->in = IN_LINE;
}

/* The store's buffers go back at once; the results stay readable in the request. */
static void close_op(struct req *r)
{
	store_op_end(&r->op);
	r->open = false;
}

static bool read_pending(const struct conn *c, const struct req *r)
{
	if (c->pending == 0)
		return false;
	if (r->op.key_len == 0)
		return true;
	for (const struct req *q = c->queue; q != NULL; q = q->next)
		if (q->busy && q->open && q->op.key_len == r->op.key_len &&
		    memcmp(q->op.key, r->op.key, r->op.key_len) == 0)
			return true;
	return false;
}

/* Rule 3: runs begin(r) when no earlier read of the key is pending, now or later. */
static void hold(struct conn *c, struct req *r, void (*begin)(struct req *))
{
	c->cur = r;
	c->in = IN_HOLD;
	r->then = begin;
	if (read_pending(c, r))
		c->wait_gets = true;
	else
		begin(r);
}

void request__resume(struct conn *c)
{
	if (!c->wait_gets || c->pending > 0)
		return;
	c->wait_gets = false;
	c->cur->then(c->cur);
}

/* ---- set, add, ms ----------------------------------------------------------------------------- */

static void answer_set(struct conn *c, struct req *r, enum store_status status)
{
	bool meta = r->kind == PROTO_MS;

	if (r->open)
		close_op(r);
	switch (status) {
	case STORE_OK:
		r->rc = PROTO_HD;
		break;
	case STORE_TOO_LARGE:
		answer_line(c, r, PROTO_TOO_LARGE);
		return;
	case STORE_EXISTS:
	case STORE_CONFLICT:
		r->rc = PROTO_NS;
		break;
	default:
		answer_line(c, r, PROTO_UNAVAILABLE);
		return;
	}
	if (meta)
		answer(c, r);
	else
		answer_line(c, r, r->rc == PROTO_HD ? PROTO_STORED : PROTO_NOT_STORED);
}

static void stored(struct req *r)
{
	let_go(r->conn);
	answer_set(r->conn, r, r->op.status);
}

static enum store_mode mode_of(const struct req *r)
{
	return r->kind == PROTO_ADD || r->add ? STORE_ADD : STORE_SET;
}

static void commit(struct req *r)
{
	r->then = stored;
	if (r->body_len == 0)
		step(r, store_set(&r->op, mode_of(r), r->flags, 0));
	else
		step(r, store_set_body(&r->op));
}

/* The store has a place for the next part of the body, or refused. */
static void body_wanted(struct req *r)
{
	struct conn *c = r->conn;

	if (r->op.body_n == 0) {
		let_go(c);
		proto_swallow(&c->proto, (uint64_t)c->body_left + 2);
		answer_set(c, r, r->op.status);
		return;
	}
	A(r->op.body_n <= c->body_left);
	c->in = IN_BODY;
	c->filled = 0;
}

static void begin_set(struct conn *c, const struct proto_request *rq)
{
	struct req *r = take(c, rq);

	count_add(&c->w->count.cmd_set, 1);
	open_op(r, rq->key, rq->key_len);
	c->cur = r;
	c->body_left = rq->body_len;
	c->end_seen = 0;
	c->end_bad = false;
	if (rq->expire) {
		proto_drain(&c->proto, rq->body_len); /* answered with PROTO_BLOCK */
		return;
	}
	if (rq->body_len == 0) {
		c->in = IN_END;
		return;
	}
	c->in = IN_HOLD;
	r->then = body_wanted;
	step(r, store_set(&r->op, mode_of(r), rq->flags, rq->body_len));
}

static void body_came(struct conn *c, uint32_t n)
{
	struct req *r = c->cur;

	A(c->in == IN_BODY && n <= c->body_left);
	c->filled += n;
	c->body_left -= n;
	A(c->filled <= r->op.body_n);
	if (c->filled < r->op.body_n)
		return;
	if (c->body_left == 0) {
		c->in = IN_END;
		return;
	}
	c->in = IN_HOLD;
	r->then = body_wanted;
	step(r, store_set_body(&r->op));
}

static size_t input_body(struct conn *c, const char *p, size_t n)
{
	struct store_op *op = &c->cur->op;
	uint32_t take_n = op->body_n - c->filled;

	if (take_n > n)
		take_n = (uint32_t)n;
	memcpy(op->body + c->filled, p, take_n);
	body_came(c, take_n);
	return take_n;
}

static size_t input_end(struct conn *c, const char *p, size_t n)
{
	struct req *r = c->cur;
	size_t did = 0;

	while (c->end_seen < 2 && did < n)
		c->end_bad |= p[did++] != "\r\n"[c->end_seen++];
	if (c->end_seen < 2)
		return did;
	if (c->end_bad) {
		let_go(c);
		close_op(r);
		count_add(&c->w->count.protocol_errors, 1);
		answer_line(c, r, PROTO_BAD_CHUNK);
		return did;
	}
	hold(c, r, commit);
	return did;
}

uint32_t request__body_room(const struct conn *c)
{
	const struct req *r = c->cur;

	A(c->in == IN_BODY);
	return r->op.body_n - c->filled + (r->body_len <= STORE_WHOLE_MAX ? STORE_BODY_SLACK : 0);
}

void request__body_came(struct conn *c, uint32_t n)
{
	struct store_op *op = &c->cur->op;
	const char *end = (const char *)op->body + op->body_n;
	uint32_t body = op->body_n - c->filled;

	_Static_assert(STORE_BODY_SLACK == 2, "the place of \"\\r\\n\"");
	if (body > n)
		body = n;
	body_came(c, body);
	if (n > body) {
		size_t did = input_end(c, end, n - body);

		A(did == n - body);
	}
}

/* A set that expires at once: the key is removed. */
static void expired(struct req *r)
{
	let_go(r->conn);
	answer_set(r->conn, r, STORE_OK);
}

static void begin_expire(struct req *r)
{
	r->then = expired;
	step(r, store_delete(&r->op));
}

static void block_drained(struct conn *c, bool good)
{
	struct req *r = c->cur;

	AN(r);
	if (good) {
		hold(c, r, begin_expire);
		return;
	}
	let_go(c);
	close_op(r);
	count_add(&c->w->count.protocol_errors, 1);
	answer_line(c, r, PROTO_BAD_CHUNK);
}

/* ---- delete, md, and reads that remove -------------------------------------------------------- */

static void deleted(struct req *r)
{
	struct conn *c = r->conn;
	bool was = r->op.status == STORE_OK;

	let_go(c);
	close_op(r);
	if (r->kind == PROTO_TOUCH) {
		count_add(&c->w->count.cmd_touch, 1);
		count_add(was ? &c->w->count.touch_hits : &c->w->count.touch_misses, 1);
		answer_line(c, r, was ? PROTO_TOUCHED : PROTO_NOT_FOUND);
		return;
	}
	count_add(was ? &c->w->count.delete_hits : &c->w->count.delete_misses, 1);
	r->rc = was ? PROTO_HD : PROTO_NF;
	if (r->kind == PROTO_MD)
		answer(c, r);
	else
		answer_line(c, r, was ? PROTO_DELETED : PROTO_NOT_FOUND);
}

static void begin_remove(struct req *r)
{
	r->then = deleted;
	step(r, store_delete(&r->op));
}

/* md with a cas: what is there is known. */
static void cas_known(struct req *r)
{
	struct conn *c = r->conn;

	if (r->op.status != STORE_OK || r->op.cas == r->cas) {
		char key[STORE_KEY_MAX];
		uint8_t n = r->op.key_len;

		memcpy(key, r->op.key, n);
		close_op(r);
		open_op(r, key, n);
		begin_remove(r);
		return;
	}
	let_go(c);
	close_op(r);
	r->rc = PROTO_EX;
	answer(c, r);
}

static void begin_md(struct req *r)
{
	if (!r->has_cas) {
		begin_remove(r);
		return;
	}
	r->then = cas_known;
	step(r, store_get(&r->op, true));
}

static void removed_after(struct req *r)
{
	let_go(r->conn);
	request__end(r->conn, r);
}

/* gat or mg with a negative expiry: the value is taken, now the key goes. */
static void taken(struct req *r)
{
	struct conn *c = r->conn;
	struct req *d;

	read_known(c, r);
	if (r->op.status != STORE_OK) {
		let_go(c);
		answer(c, r);
		return;
	}
	d = worker__req(c->w);
	d->conn = c;
	d->kind = PROTO_OPS;
	d->busy = d->ready = false;
	d->line = NULL;
	open_op(d, r->op.key, r->op.key_len);
	answer(c, r);
	c->cur = d;
	d->then = removed_after;
	step(d, store_delete(&d->op));
}

static void begin_take(struct req *r)
{
	r->then = taken;
	step(r, store_get(&r->op, r->kind == PROTO_MG && !r->value));
}

static void begin_held(struct conn *c, const struct proto_request *rq, void (*begin)(struct req *))
{
	struct req *r = take(c, rq);

	open_op(r, rq->key, rq->key_len);
	hold(c, r, begin);
}

/* ---- the whole store -------------------------------------------------------------------------- */

static void flushed(struct req *r)
{
	let_go(r->conn);
	answer_line(r->conn, r, PROTO_OK);
}

static void begin_flush(struct req *r)
{
	r->then = flushed;
	step(r, store_flush_all(&r->op));
}

static void flush_all(struct conn *c, const struct proto_request *rq)
{
	count_add(&c->w->count.cmd_flush, 1);
	if (!c->w->net->cfg.allow_flush) {
		reply_line(c, rq, PROTO_FLUSH_REFUSED);
	} else if (rq->delay_s > 0) {
		c->w->flush_at_ns = io_now(c->w->io) + (uint64_t)rq->delay_s * 1000000000u;
		reply_line(c, rq, PROTO_OK);
	} else {
		struct req *r = take(c, rq);

		open_op(r, "", 0);
		hold(c, r, begin_flush);
	}
}

/* A delayed flush belongs to the worker; no connection waits for it. */
static void flush_ended(struct store_op *op)
{
	struct req *r = op->user;
	struct worker *w = (struct worker *)(void *)r->text.at;

	r->text = (struct text){0};
	store_op_end(op);
	w->flush = NULL;
	worker__req_free(w, r);
}

void request__flush_due(struct worker *w)
{
	struct req *r;

	w->flush_at_ns = 0;
	if (w->flush != NULL)
		return;
	r = w->flush = worker__req(w);
	r->text.at = (char *)(void *)w;
	store_op_init(&r->op, w->store, "", 0, flush_ended, r);
	if (store_flush_all(&r->op))
		flush_ended(&r->op);
}

static void dump_begun(struct req *r)
{
	let_go(r->conn);
	answer(r->conn, r);
}

static void metadump(struct conn *c, const struct proto_request *rq)
{
	struct req *r;

	if (atomic_exchange(&c->w->net->dumping, true)) {
		reply_line(c, rq, PROTO_DUMP_BUSY);
		return;
	}
	r = take(c, rq);
	r->dumps = true;
	r->cursor = 0;
	open_op(r, "", 0);
	c->cur = r;
	c->in = IN_HOLD;
	r->then = dump_begun;
	step(r, store_dump(&r->op, &r->cursor));
}

/* ---- stats ------------------------------------------------------------------------------------ */

static void stats(struct conn *c, const struct proto_request *rq)
{
	const struct net_config *cfg = &c->w->net->cfg;
	struct req *r;

	/* memcached ignores what follows "reset", too */
	if (rq->args_len >= 5 && memcmp(rq->args, "reset", 5) == 0 &&
	    (rq->args_len == 5 || rq->args[5] == ' ')) {
		net_reset(c->w->net);
		reply_line(c, rq, PROTO_RESET);
		return;
	}
	r = take(c, rq);
	if (cfg->stats == NULL || !cfg->stats(cfg->stats_arg, rq->args, rq->args_len, &r->text)) {
		answer_line(c, r, PROTO_ERROR);
	} else if (r->text.failed) {
		text_free(&r->text);
		answer_line(c, r, PROTO_OUT_OF_MEMORY);
	} else {
		answer(c, r);
	}
}

/* ---- input ------------------------------------------------------------------------------------ */

bool request__may_begin(const struct conn *c)
{
	uint64_t due;

	if (c->queue_n + c->w->ahead_n >= WINDOW_REQS)
		return false;
	if (c->last_read != NULL && c->last_read->op.waits)
		return false; /* rule 6 */
	due = c->out_bytes + c->held_bytes + (uint64_t)(c->pending + c->w->ahead_n) * c->mean;
	return due < WINDOW_BYTES || (c->out == NULL && c->queue == NULL && c->w->ahead_n == 0);
}

static void refused(struct conn *c, const struct proto_request *rq)
{
	struct worker_counters *n = &c->w->count;

	if (rq->reply_len > 6 && memcmp(rq->reply, "SERVER", 6) == 0)
		count_add(&n->cmd_refused, 1);
	else
		count_add(&n->protocol_errors, 1);
	reply(c, rq->reply, rq->reply_len);
}

static void begin(struct conn *c, const struct proto_request *rq, bool more)
{
	struct worker *w = c->w;

	/* what may be put off; everything else takes its place behind those put off */
	switch (rq->op) {
	case PROTO_GET:
	case PROTO_GETS:
	case PROTO_GAT:
	case PROTO_GATS:
		if (rq->key_len == 0 || rq->expire)
			break;
		read_key(c, rq, more);
		return;
	case PROTO_MG:
	case PROTO_TOUCH:
		if (rq->expire)
			break;
		if (rq->op == PROTO_MG)
			count_add(&w->count.cmd_meta, 1);
		read_key(c, rq, more);
		return;
	case PROTO_ME:
		count_add(&w->count.cmd_meta, 1);
		read_key(c, rq, more);
		return;
	default:
		break;
	}
	begin_ahead(c);
	switch (rq->op) {
	case PROTO_GET:
	case PROTO_GETS:
	case PROTO_GAT:
	case PROTO_GATS:
		if (rq->key_len == 0)
			reply_line(c, rq, PROTO_END);
		else
			begin_held(c, rq, begin_take);
		return;
	case PROTO_MG:
		count_add(&w->count.cmd_meta, 1);
		begin_held(c, rq, begin_take);
		return;
	case PROTO_TOUCH:
		begin_held(c, rq, begin_remove);
		return;
	case PROTO_ME:
		break;
	case PROTO_MS:
		count_add(&w->count.cmd_meta, 1);
		begin_set(c, rq);
		return;
	case PROTO_SET:
	case PROTO_ADD:
		begin_set(c, rq);
		return;
	case PROTO_MD:
		count_add(&w->count.cmd_meta, 1);
		begin_held(c, rq, begin_md);
		return;
	case PROTO_DELETE:
		begin_held(c, rq, begin_remove);
		return;
	case PROTO_FLUSH_ALL:
		flush_all(c, rq);
		return;
	case PROTO_VERSION:
		reply_line(c, rq, PROTO_VERSION_LINE);
		return;
	case PROTO_VERBOSITY:
		log_set_level(rq->number >= 2 ? LOG_DEBUG : LOG_INFO);
		reply_line(c, rq, PROTO_OK);
		return;
	case PROTO_STATS:
		stats(c, rq);
		return;
	case PROTO_QUIT:
		c->closing = true;
		return;
	case PROTO_METADUMP:
		metadump(c, rq);
		return;
	case PROTO_MEMLIMIT:
		reply_line(c, rq,
			   store_set_ram(w->net->store, (uint64_t)rq->number << 20) == 0
			       ? PROTO_OK
			       : PROTO_MEMLIMIT_BAD);
		return;
	case PROTO_MN:
		count_add(&w->count.cmd_meta, 1);
		reply_line(c, rq, PROTO_MN_LINE);
		return;
	case PROTO_OPS:
		break;
	}
	A(false);
}

/* One line, or one key of a list. False: bytes are missing. */
static bool input_line(struct conn *c, const char *p, size_t n, size_t *did)
{
	struct proto_request *rq = &c->w->rq;
	enum proto_result res = proto_parse(&c->proto, p, n, did, rq);

	switch (res) {
	case PROTO_MORE:
		return false;
	case PROTO_REQUEST:
		begin(c, rq, *did < n);
		break;
	case PROTO_BLOCK:
		begin_ahead(c);
		block_drained(c, rq->good);
		break;
	case PROTO_REPLY:
		begin_ahead(c);
		refused(c, rq);
		break;
	case PROTO_HANGUP:
		begin_ahead(c);
		if (rq->reply_len == 0)
			count_add(&c->w->count.foreign_greetings, 1);
		else
			refused(c, rq);
		c->closing = true;
		return false;
	}
	c->served++;
	if (c->bulk && ++c->small_run >= BULK_RUN)
		c->bulk = false;
	return true;
}

/* Until bytes are missing, or something has to happen first. */
static size_t input(struct conn *c, const char *bytes, size_t n)
{
	size_t did = 0, used;

	while (!c->closing && !c->dead) {
		switch ((enum conn_in)c->in) {
		case IN_LINE:
			if (c->w->ahead_n == AHEAD_MAX)
				begin_ahead(c);
			if (c->served >= c->w->net->cfg.turn_requests || !request__may_begin(c))
				return did;
			if (!input_line(c, bytes + did, n - did, &used))
				return did + used;
			did += used;
			break;
		case IN_BODY:
			if (did == n)
				return did;
			did += input_body(c, bytes + did, n - did);
			break;
		case IN_END:
			if (did == n)
				return did;
			did += input_end(c, bytes + did, n - did);
			break;
		case IN_HOLD:
			return did;
		}
	}
	return did;
}

/*
 * Takes from n bytes what can be understood and begun now. Returns how many were taken; the rest is to
 * be given again. When it stops with c->in == IN_LINE and request__may_begin(), the bytes are
 * the beginning of a request.
 */
size_t request__input(struct conn *c, const char *bytes, size_t n)
{
	size_t did = 0;

	do
		did += input(c, bytes + did, n - did);
	while (begin_ahead(c) > 0 && did < n);
	return did;
}

/* ---- ends ------------------------------------------------------------------------------------- */

void request__abort(struct conn *c)
{
	struct req *r = c->cur;

	if (r == NULL || r->busy || c->wait_gets)
		return;
	let_go(c);
	request__end(c, r);
}

/* Of a dead connection: all that the store does not have; the rest when it comes back. */
void request__free_all(struct conn *c)
{
	struct req *r = c->queue, *next;

	c->stream = NULL;
	c->queue = NULL;
	c->queue_end = &c->queue;
	c->queue_n = 0;
	c->held_bytes = 0;
	for (; r != NULL; r = next) {
		next = r->next;
		if (r->busy)
			enqueue(c, r);
		else
			request__end(c, r);
	}
	r = c->cur;
	if (r != NULL && !r->busy) {
		c->cur = NULL;
		request__end(c, r);
	}
}
