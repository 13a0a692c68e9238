/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store that lives in memory: everything store.h promises, no disk, linked instead of libstore
 * by tests of net/. It makes awkward on purpose what the real store makes awkward by chance:
 *
 *   STORE_MEM_ASYNC=N      N percent of the steps complete later, from the worker's turn
 *   STORE_MEM_DELAY_US=N   ... after up to N microseconds (0: on the next turn)
 *   STORE_MEM_BUFFERS=N    each worker has N buffers; further operations wait, first come first served
 *   STORE_MEM_BREAK=N      the Nth get_next since start answers BROKEN
 *   STORE_MEM_SEED=N
 *
 * Values have memory of exactly their length, so that the sanitizers see a byte too far. Leaks are
 * found at close: an operation that was not ended, a buffer that was not given back.
 *
 * Threads: as store.h; the table is under one mutex, everything else belongs to a worker.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "valcached/store/store.h"

#define STORE_MAGIC  0x53746f4du
#define WORKER_MAGIC 0x5374576bu
#define BUCKETS      4096u
#define COUNT(sw, n) __atomic_fetch_add(&(sw)->count.n, 1, __ATOMIC_RELAXED)

struct value {
	_Atomic unsigned refs;
	uint32_t flags, len;
	uint64_t cas;
	uint8_t bytes[];
};

struct entry {
	struct entry *next;
	struct value *value;
	uint8_t key_len;
	char key[STORE_KEY_MAX];
};

struct store {
	unsigned magic;
	struct store_config cfg;
	pthread_mutex_t lock; /* bucket, items, bytes, ram */
	struct entry *bucket[BUCKETS];
	uint64_t items, bytes, ram;
	unsigned async, delay_us, buffers;
	_Atomic unsigned break_in;
	_Atomic(struct store_worker *) worker[129]; /* counters are read while workers open */
};

struct store_worker {
	unsigned magic, id;
	struct store *s;
	struct io *io;
	uint64_t rnd;
	unsigned held; /* buffers in use */
	unsigned open; /* operations between init and end */
	bool stopping;
	struct store_op *pending; /* completes later; unordered */
	struct store_op *wait_head, **wait_tail;
	struct store_counters count;
	struct hist lat[STORE_LATS];
};

enum { K_GET, K_NEXT, K_SET, K_BODY, K_DELETE, K_FLUSH, K_DUMP };

static unsigned env(const char *name, unsigned otherwise)
{
	const char *v = getenv(name);

	return v != NULL ? (unsigned)strtoul(v, NULL, 10) : otherwise;
}

static uint64_t hash(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ b[i]) * 0x100000001b3u;
	return h != 0 ? h : 1;
}

static void value_put(struct value *v)
{
	if (v != NULL && atomic_fetch_sub(&v->refs, 1) == 1)
		free(v);
}

static struct value *value_new(uint32_t len, uint32_t flags)
{
	struct value *v = malloc(sizeof *v + len + STORE_BODY_SLACK);

	AN(v);
	atomic_init(&v->refs, 1);
	v->len = len;
	v->flags = flags;
	v->cas = 0;
	return v;
}

/* ---- opening and closing ---------------------------------------------------------------------- */

int store_open(const struct store_config *cfg, const struct io_engine *engine, struct store **sp,
	       char **cause)
{
	struct store *s = calloc(1, sizeof *s);

	(void)engine;
	(void)cause;
	AN(s);
	s->magic = STORE_MAGIC;
	s->cfg = *cfg;
	s->ram = cfg->ram_bytes;
	pthread_mutex_init(&s->lock, NULL);
	s->async = env("STORE_MEM_ASYNC", 0);
	s->delay_us = env("STORE_MEM_DELAY_US", 0);
	s->buffers = env("STORE_MEM_BUFFERS", 0);
	s->break_in = env("STORE_MEM_BREAK", 0);
	*sp = s;
	log_info("store: in memory, for tests (async %u %%, delay %u us, buffers %u)", s->async,
		 s->delay_us, s->buffers);
	return 0;
}

static void drop_all(struct store *s)
{
	for (unsigned b = 0; b < BUCKETS; b++)
		while (s->bucket[b] != NULL) {
			struct entry *e = s->bucket[b];

			s->bucket[b] = e->next;
			value_put(e->value);
			free(e);
		}
	s->items = s->bytes = 0;
}

void store_close(struct store **sp)
{
	struct store *s = *sp;

	*sp = NULL;
	MAGIC_OK(s, STORE_MAGIC);
	for (unsigned i = 0; i <= s->cfg.workers; i++)
		A(s->worker[i] == NULL);
	drop_all(s);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

int store_give(const struct store *s, uid_t user, gid_t group, const char **what)
{
	(void)s, (void)user, (void)group, (void)what;
	return 0;
}

unsigned store_late(const struct store *s)
{
	(void)s;
	return 0;
}

int store_worker_open(struct store *s, struct io *io, unsigned id, struct store_worker **swp,
		      char **cause)
{
	struct store_worker *sw = calloc(1, sizeof *sw);

	(void)cause;
	AN(sw);
	A(id <= s->cfg.workers && s->worker[id] == NULL);
	sw->magic = WORKER_MAGIC;
	sw->s = s;
	sw->io = io;
	sw->id = id;
	sw->rnd = 0x9e3779b97f4a7c15u * (env("STORE_MEM_SEED", 1) + id + 1);
	sw->wait_tail = &sw->wait_head;
	s->worker[id] = sw;
	*swp = sw;
	return 0;
}

void store_worker_woken(struct store_worker *sw)
{
	MAGIC_OK(sw, WORKER_MAGIC);
}

void store_worker_stop(struct store_worker *sw)
{
	MAGIC_OK(sw, WORKER_MAGIC);
	A(sw->open == 0);
	sw->stopping = true;
}

bool store_worker_idle(const struct store_worker *sw)
{
	MAGIC_OK(sw, WORKER_MAGIC);
	return sw->pending == NULL && sw->wait_head == NULL;
}

void store_worker_close(struct store_worker **swp)
{
	struct store_worker *sw = *swp;

	*swp = NULL;
	MAGIC_OK(sw, WORKER_MAGIC);
	A(store_worker_idle(sw));
	A(sw->held == 0);
	A(sw->open == 0);
	sw->s->worker[sw->id] = NULL;
	free(sw);
}

/* ---- the table, under the lock ---------------------------------------------------------------- */

static struct entry **find(struct store *s, const struct store_op *op)
{
	struct entry **e = &s->bucket[op->hash % BUCKETS];

	while (*e != NULL &&
	       ((*e)->key_len != op->key_len || memcmp((*e)->key, op->key, op->key_len) != 0))
		e = &(*e)->next;
	return e;
}

static struct value *held(const struct store_op *op)
{
	return (struct value *)(void *)op->buf;
}

static void take_buffer(struct store_op *op)
{
	A(!op->charge);
	op->charge = 1;
	op->sw->held++;
}

static void look_up(struct store_op *op)
{
	struct store *s = op->sw->s;
	struct entry *e;

	pthread_mutex_lock(&s->lock);
	e = *find(s, op);
	op->status = e == NULL ? STORE_MISS : STORE_OK;
	if (e != NULL) {
		struct value *v = e->value;

		op->flags = v->flags;
		op->value_len = v->len;
		op->cas = v->cas;
		if (!op->head) {
			atomic_fetch_add(&v->refs, 1);
			op->buf = (struct buf *)(void *)v;
			op->value = v->bytes;
			op->value_n = v->len > STORE_WHOLE_MAX ? STORE_CHUNK : v->len;
			op->value_off = 0;
			take_buffer(op);
		}
		COUNT(op->sw, get_hits_ram);
		op->from_ram = true;
	} else {
		COUNT(op->sw, get_misses);
	}
	pthread_mutex_unlock(&s->lock);
}

static void look_next(struct store_op *op)
{
	struct value *v = held(op);
	uint32_t left;

	op->value_off += op->value_n;
	A(op->value_off < v->len);
	left = v->len - op->value_off;
	op->value = v->bytes + op->value_off;
	op->value_n = left < STORE_CHUNK ? left : STORE_CHUNK;
	op->status = STORE_OK;
	if (atomic_load(&op->sw->s->break_in) != 0 &&
	    atomic_fetch_sub(&op->sw->s->break_in, 1) == 1) {
		op->status = STORE_BROKEN;
		op->value_n = 0;
	}
}

static void publish(struct store_op *op)
{
	struct store *s = op->sw->s;
	struct value *v = held(op);
	struct entry **e;

	v->cas = hash(v->bytes, v->len);
	op->cas = v->cas;
	op->body_n = 0;
	op->body = NULL;
	pthread_mutex_lock(&s->lock);
	e = find(s, op);
	if (*e != NULL) {
		const struct value *was = (*e)->value;

		if (was->len != v->len || memcmp(was->bytes, v->bytes, v->len) != 0)
			op->status = STORE_CONFLICT;
		else
			op->status = op->mode == STORE_ADD ? STORE_EXISTS : STORE_OK;
		if (op->status == STORE_CONFLICT) {
			op->cas = was->cas;
			COUNT(op->sw, immutable_conflicts);
		} else
			COUNT(op->sw, sets_same);
	} else if (op->mode == STORE_COMPARE) {
		op->status = STORE_MISS;
	} else {
		*e = calloc(1, sizeof **e);
		AN(*e);
		(*e)->key_len = op->key_len;
		memcpy((*e)->key, op->key, op->key_len);
		atomic_fetch_add(&v->refs, 1);
		(*e)->value = v;
		op->status = STORE_OK;
		s->items++;
		s->bytes += v->len;
		COUNT(op->sw, sets_stored);
	}
	pthread_mutex_unlock(&s->lock);
}

static void body_step(struct store_op *op)
{
	struct value *v = held(op);
	uint32_t left = v->len - op->value_off;

	op->body = v->bytes + op->value_off;
	op->body_n = v->len > STORE_WHOLE_MAX && left > STORE_CHUNK ? STORE_CHUNK : left;
	op->status = STORE_OK;
	if (left == 0)
		publish(op);
}

static void begin_set(struct store_op *op)
{
	struct store *s = op->sw->s;

	op->body_n = 0;
	if (op->value_len > s->cfg.item_max) {
		op->status = STORE_TOO_LARGE;
		return;
	}
	take_buffer(op);
	op->buf = (struct buf *)(void *)value_new(op->value_len, op->flags);
	op->value_off = 0;
	body_step(op);
}

static void remove_key(struct store_op *op)
{
	struct store *s = op->sw->s;
	struct entry **e, *old;

	pthread_mutex_lock(&s->lock);
	e = find(s, op);
	old = *e;
	op->status = old == NULL ? STORE_MISS : STORE_OK;
	if (old != NULL) {
		*e = old->next;
		s->items--;
		s->bytes -= old->value->len;
		value_put(old->value);
		free(old);
		COUNT(op->sw, deletes);
	} else {
		COUNT(op->sw, delete_misses);
	}
	pthread_mutex_unlock(&s->lock);
}

/* value_off is the bucket to go on with; batches end at bucket borders. */
static void dump_step(struct store_op *op)
{
	struct store *s = op->sw->s;
	struct value *v;
	size_t n = 0, room = 65536;
	uint64_t b = op->value_off;

	value_put(held(op));
	v = value_new((uint32_t)room, 0);
	op->buf = (struct buf *)(void *)v;
	pthread_mutex_lock(&s->lock);
	for (; b < BUCKETS && n < 4096; b++)
		for (const struct entry *e = s->bucket[b]; e != NULL && room - n > 512; e = e->next)
			n += (size_t)snprintf(
			    (char *)v->bytes + n, room - n,
			    "key=%.*s exp=-1 la=0 cas=%llu fetch=no cls=1 size=%u\r\n", e->key_len,
			    e->key, (unsigned long long)e->value->cas, e->value->len);
	pthread_mutex_unlock(&s->lock);
	op->value_off = (uint32_t)b;
	op->value = v->bytes;
	op->value_n = (uint32_t)n;
	op->status = STORE_OK;
}

/* ---- operations ------------------------------------------------------------------------------- */

static void execute(struct store_op *op)
{
	switch (op->kind) {
	case K_GET:
		look_up(op);
		break;
	case K_NEXT:
		look_next(op);
		break;
	case K_SET:
		begin_set(op);
		break;
	case K_BODY:
		op->value_off += op->body_n;
		body_step(op);
		break;
	case K_DELETE:
		remove_key(op);
		break;
	case K_FLUSH:
		pthread_mutex_lock(&op->sw->s->lock);
		drop_all(op->sw->s);
		pthread_mutex_unlock(&op->sw->s->lock);
		op->status = STORE_OK;
		break;
	case K_DUMP:
		dump_step(op);
		break;
	default:
		A(false);
	}
}

static uint64_t rnd(struct store_worker *sw)
{
	sw->rnd ^= sw->rnd << 13;
	sw->rnd ^= sw->rnd >> 7;
	sw->rnd ^= sw->rnd << 17;
	return sw->rnd;
}

static void delay(struct store_op *op)
{
	struct store_worker *sw = op->sw;

	op->start_ns =
	    io_now(sw->io) + (sw->s->delay_us != 0 ? rnd(sw) % (sw->s->delay_us * 1000ull) : 0);
	op->next = sw->pending;
	sw->pending = op;
}

static bool begin(struct store_op *op, unsigned kind)
{
	struct store_worker *sw = op->sw;

	MAGIC_OK(sw, WORKER_MAGIC);
	A(op->step == 1); /* initialised, and not under way */
	op->kind = (uint8_t)kind;
	op->step = 2;
	if (sw->s->buffers != 0 && sw->held >= sw->s->buffers &&
	    ((kind == K_GET && !op->head) || kind == K_SET)) {
		COUNT(sw, buffer_waits);
		op->waits = true;
		op->next = NULL;
		*sw->wait_tail = op;
		sw->wait_tail = &op->next;
		return false;
	}
	if (sw->s->async != 0 && rnd(sw) % 100 < sw->s->async) {
		delay(op);
		return false;
	}
	execute(op);
	op->step = 1;
	return true;
}

uint64_t store_worker_turn(struct store_worker *sw)
{
	struct store_op **at = &sw->pending, *op;
	uint64_t now = io_now(sw->io), due = UINT64_MAX;
	struct store_op *ready = NULL;

	MAGIC_OK(sw, WORKER_MAGIC);
	while (*at != NULL) {
		op = *at;
		if (op->start_ns > now) {
			at = &op->next;
			continue;
		}
		*at = op->next;
		op->next = ready;
		ready = op;
	}
	while (sw->wait_head != NULL && sw->held < sw->s->buffers) {
		op = sw->wait_head;
		sw->wait_head = op->next;
		if (sw->wait_head == NULL)
			sw->wait_tail = &sw->wait_head;
		op->waits = false;
		execute(op);
		op->step = 1;
		op->done(op);
	}
	while (ready != NULL) {
		op = ready;
		ready = op->next;
		execute(op);
		op->step = 1;
		op->done(op);
	}
	for (op = sw->pending; op != NULL; op = op->next)
		if (op->start_ns < due)
			due = op->start_ns;
	if (sw->wait_head != NULL && sw->held < sw->s->buffers)
		due = 0;
	return due;
}

void store_op_init(struct store_op *op, struct store_worker *sw, const void *key, uint8_t key_len,
		   store_done_fn *done, void *user)
{
	MAGIC_OK(sw, WORKER_MAGIC);
	A(!sw->stopping);
	A(key_len <= STORE_KEY_MAX);
	memset(op, 0xa5, sizeof *op); /* nobody may count on what was there */
	op->done = done;
	op->user = user;
	op->sw = sw;
	op->key_len = key_len;
	memcpy(op->key, key, key_len);
	op->hash = hash(key, key_len);
	op->buf = NULL;
	op->charge = 0;
	op->head = op->waits = op->placed = false;
	op->place = NULL;
	op->step = 1;
	op->value_n = op->body_n = op->under_way = 0;
	sw->open++;
}

void store_op_end(struct store_op *op)
{
	A(op->step == 1);
	op->step = 0;
	value_put(held(op));
	op->buf = NULL;
	if (op->charge)
		op->sw->held--;
	op->charge = 0;
	A(op->sw->open > 0);
	op->sw->open--;
	if (op->sw->wait_head != NULL)
		io_wake(op->sw->io); /* the next turn serves who waits */
}

uint64_t store_memory_wanted(const struct store_worker *sw)
{
	return sw->wait_head != NULL ? (uint64_t)sw->s->buffers * STORE_WHOLE_MAX : 0;
}

enum store_places store_places(const struct store_worker *sw)
{
	(void)sw;
	return STORE_PLACES_FREE;
}

uint64_t store_op_held(const struct store_op *op)
{
	return op->charge ? op->value_len : 0;
}

bool store_get(struct store_op *op, bool head)
{
	op->head = head;
	op->value_n = 0;
	return begin(op, K_GET);
}

bool store_get_next(struct store_op *op)
{
	return begin(op, K_NEXT);
}

void store_prefetch(const struct store_op *op, unsigned stage)
{
	(void)op;
	(void)stage;
}

bool store_set(struct store_op *op, enum store_mode mode, uint32_t flags, uint32_t value_len)
{
	op->mode = (uint8_t)mode;
	op->flags = flags;
	op->value_len = value_len;
	return begin(op, K_SET);
}

bool store_set_body(struct store_op *op)
{
	return begin(op, K_BODY);
}

bool store_delete(struct store_op *op)
{
	return begin(op, K_DELETE);
}

bool store_flush_all(struct store_op *op)
{
	return begin(op, K_FLUSH);
}

bool store_dump(struct store_op *op, uint64_t *cursor)
{
	if (*cursor == 0)
		op->value_off = 0;
	*cursor = 1;
	return begin(op, K_DUMP);
}

bool store_path_online(struct store_op *op, unsigned n)
{
	(void)n;
	op->value = (const uint8_t *)"there is no such path";
	op->value_n = (uint32_t)strlen((const char *)op->value);
	op->status = STORE_MISS;
	return true;
}

void store_paths_online(struct store *s)
{
	(void)s;
}

/* ---- looking inside --------------------------------------------------------------------------- */

int store_set_ram(struct store *s, uint64_t bytes)
{
	pthread_mutex_lock(&s->lock);
	s->ram = bytes;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

void store_stats(const struct store *s, store_emit_fn *emit, void *arg)
{
	emit(arg, "ram_bytes_max", "%llu", (unsigned long long)s->cfg.ram_bytes);
}

void store_stats_items(const struct store *s, store_emit_fn *emit, void *arg)
{
	uint64_t items, bytes;

	store_totals(s, &items, &bytes);
	emit(arg, "items:1:number", "%llu", (unsigned long long)items);
}

void store_stats_reset(struct store *s)
{
	(void)s;
}

void store_latency(const struct store *s, enum store_latency which, struct hist *into)
{
	for (unsigned i = 0; i <= s->cfg.workers; i++) {
		const struct store_worker *sw = s->worker[i];

		if (sw != NULL)
			hist_merge(into, &sw->lat[which]);
	}
}

void store_counters(const struct store *s, struct store_counters *out)
{
	memset(out, 0, sizeof *out);
	for (unsigned i = 0; i <= s->cfg.workers; i++) {
		const struct store_worker *sw = s->worker[i];
		const uint64_t *from;
		uint64_t *to = (uint64_t *)out;

		if (sw == NULL)
			continue;
		from = (const uint64_t *)&sw->count;
		for (size_t k = 0; k < sizeof *out / sizeof *to; k++)
			to[k] += __atomic_load_n(&from[k], __ATOMIC_RELAXED);
	}
}

void store_totals(const struct store *s, uint64_t *items, uint64_t *bytes)
{
	struct store *w = (struct store *)(uintptr_t)s;

	pthread_mutex_lock(&w->lock);
	*items = s->items;
	*bytes = s->bytes;
	pthread_mutex_unlock(&w->lock);
}
