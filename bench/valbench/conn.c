/* SPDX-License-Identifier: Apache-2.0 */
/* Requests out, answers in; see conn.h. Belongs to one worker. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "bench/valbench/conn.h"
#include "bench/valbench/packet.h"
#include "bench/valbench/value.h"

#define COMPLAINTS_MAX 10
#define HEADER_MAX     128

static void bump(_Atomic uint64_t *c, uint64_t by)
{
	hist_bump_(c, by);
}

/* The first few errors are worth a line each; after that the counters say how many. */
static bool may_complain(void)
{
	static _Atomic unsigned complaints;

	return atomic_fetch_add(&complaints, 1) < COMPLAINTS_MAX;
}

int conn_open(struct conn *c, int fd, unsigned number, const struct options *opt,
	      struct conn_stats *stats)
{
	uint32_t room = 1;

	while (room < opt->depth)
		room *= 2;
	memset(c, 0, sizeof *c);
	c->fd = fd;
	c->number = number;
	c->opt = opt;
	c->stats = stats;
	c->mask = room - 1;
	c->ops = calloc(room, sizeof *c->ops);
	c->fills = calloc(room, sizeof *c->fills);
	if (c->ops == NULL || c->fills == NULL) {
		conn_close(c);
		return -ENOMEM;
	}
	key_cursor_init(&c->cursor, &opt->keys, opt->seed, number, opt->connections);
	return 0;
}

void conn_close(struct conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	free(c->ops);
	free(c->fills);
	c->ops = NULL;
	c->fills = NULL;
	c->state = CONN_DEAD;
}

void conn_lose(struct conn *c, const char *why)
{
	if (c->state == CONN_DEAD)
		return;
	bump(&c->stats->lost, 1);
	if (may_complain())
		fprintf(stderr, "valbench: connection %u lost with %u operations in flight: %s\n",
			c->number, conn_in_flight(c), why);
	c->state = CONN_DEAD;
	c->head = c->sent = c->tail;
	/* The descriptor stays open until the worker has forgotten it. */
	shutdown(c->fd, SHUT_RDWR);
}

/* --- requests ------------------------------------------------------------------------------- */

void conn_issue(struct conn *c, enum op_kind kind, struct key key, uint64_t start_ns)
{
	struct op *op = &c->ops[c->tail & c->mask];

	A(conn_has_room(c));
	op->hash = key.hash;
	op->size = key.size;
	op->kind = kind;
	op->start_ns = start_ns;
	op->wire = 0;
	c->tail++;
}

static char *put(char *d, const char *s, size_t n)
{
	memcpy(d, s, n);
	return d + n;
}

static char *put_number(char *d, uint32_t v)
{
	char tmp[10];
	unsigned n = 0;

	do {
		tmp[n++] = (char)('0' + v % 10);
		v /= 10;
	} while (v > 0);
	while (n > 0)
		*d++ = tmp[--n];
	return d;
}

/* The request line of op in d (HEADER_MAX bytes); its length. */
static size_t request_line(const struct op *op, bool meta, char *d)
{
	char *p = d;

	if (op->kind == OP_GET)
		p = meta ? put(p, "mg ", 3) : put(p, "get ", 4);
	else
		p = meta ? put(p, "ms ", 3) : put(p, "set ", 4);
	key_format(op->hash, p);
	p += KEY_LEN;
	if (op->kind == OP_SET && meta) {
		*p++ = ' ';
		p = put_number(p, op->size);
		p = put(p, " F", 2);
		p = put_number(p, value_flags(op->hash));
	} else if (op->kind == OP_SET) {
		*p++ = ' ';
		p = put_number(p, value_flags(op->hash));
		p = put(p, " 0 ", 3);
		p = put_number(p, op->size);
	} else if (meta) {
		p = put(p, " k f v", 6);
	}
	p = put(p, "\r\n", 2);
	return (size_t)(p - d);
}

/* Renders as much of the request from byte `from` on as fits; the number of bytes. */
static size_t render(struct op *op, enum mode mode, uint64_t from, uint8_t *dst, size_t room)
{
	char line[HEADER_MAX];
	size_t len = mode == MODE_BINARY ? packet_request(op, line)
					 : request_line(op, mode == MODE_META, line);
	size_t done = 0, n;

	op->wire = (uint32_t)len;
	if (op->kind == OP_SET)
		op->wire += op->size + (mode == MODE_BINARY ? 0 : 2);
	if (from < len) {
		n = len - from < room ? len - (size_t)from : room;
		memcpy(dst, line + from, n);
		done = n;
	}
	if (op->kind == OP_GET)
		return done;
	if (done < room && from + done < len + op->size) {
		uint64_t pos = from + done - len, left = op->size - pos;

		n = left < room - done ? (size_t)left : room - done;
		value_render(op->hash, pos, dst + done, n);
		done += n;
	}
	for (; done < room && from + done < op->wire; done++)
		dst[done] = from + done == op->wire - 2 ? '\r' : '\n';
	return done;
}

int conn_send(struct conn *c, uint8_t *out)
{
	while (c->sent != c->tail) {
		uint32_t at = c->sent;
		uint64_t from = c->sent_pos;
		size_t len = 0, left;
		ssize_t n;

		while (at != c->tail && len < CONN_OUT_SIZE) {
			len += render(&c->ops[at & c->mask], c->opt->mode, from, out + len,
				      CONN_OUT_SIZE - len);
			from = 0;
			at++;
		}
		do
			n = send(c->fd, out, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		while (n < 0 && errno == EINTR);
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 1;
		if (n < 0) {
			int err = errno;

			conn_lose(c, strerror(err));
			return -err;
		}
		bump(&c->stats->bytes_out, (uint64_t)n);
		for (left = (size_t)n; left > 0;) {
			struct op *op = &c->ops[c->sent & c->mask];
			uint64_t rest = op->wire - c->sent_pos;

			if (left < rest) {
				c->sent_pos += left;
				break;
			}
			left -= (size_t)rest;
			c->sent_pos = 0;
			c->sent++;
		}
		if ((size_t)n < len)
			return 1;
	}
	return 0;
}

/* --- answers -------------------------------------------------------------------------------- */

static int out_of_step(struct conn *c, const char *what, const char *line, size_t len)
{
	bump(&c->stats->protocol_errors, 1);
	if (may_complain())
		fprintf(stderr, "valbench: connection %u: %s: \"%.*s\"\n", c->number, what,
			(int)(len < 120 ? len : 120), line);
	c->state = CONN_DEAD;
	c->head = c->sent = c->tail;
	shutdown(c->fd, SHUT_RDWR);
	return -EPROTO;
}

static void wrong_value(struct conn *c, const struct op *op, const char *what, uint64_t at)
{
	char key[KEY_LEN];

	if (!c->body_wrong)
		bump(&c->stats->wrong_values, 1);
	c->body_wrong = true;
	if (!may_complain())
		return;
	key_format(op->hash, key);
	fprintf(stderr, "valbench: connection %u: key %.*s of %u bytes: wrong %s (byte %llu)\n",
		c->number, KEY_LEN, key, op->size, what, (unsigned long long)at);
}

static void complete(struct conn *c, struct hist *h, uint64_t now_ns)
{
	struct op *op = &c->ops[c->head & c->mask];

	hist_add(h, now_ns > op->start_ns ? now_ns - op->start_ns : 0);
	c->head++;
	c->state = CONN_LINE;
}

static bool starts(const char *line, size_t len, const char *with, size_t n)
{
	return len >= n && memcmp(line, with, n) == 0;
}

#define STARTS(line, len, lit) starts(line, len, lit, sizeof(lit) - 1)
#define IS(line, len, lit)     ((len) == sizeof(lit) - 1 && STARTS(line, len, lit))

/* A decimal number at *p; false when there is none or it is out of range. */
static bool take_number(const char **p, const char *end, uint64_t *v)
{
	const char *s = *p;

	*v = 0;
	while (*p < end && **p >= '0' && **p <= '9' && *v < (1ull << 40))
		*v = *v * 10 + (uint64_t)(*(*p)++ - '0');
	return *p > s;
}

/*
 * The line before a value: "VALUE <key> <flags> <bytes>" or "VA <bytes> k<key> f<flags>", whose
 * return flags may come in any order.
 */
static bool value_line(const char *line, size_t len, bool meta, const char **key, size_t *key_len,
		       uint64_t *flags, uint64_t *bytes)
{
	const char *p = line + (meta ? 3 : 6), *end = line + len, *e;
	bool have_flags = false;

	*key = NULL;
	if (!meta) {
		e = memchr(p, ' ', (size_t)(end - p));
		if (e == NULL)
			return false;
		*key = p;
		*key_len = (size_t)(e - p);
		p = e + 1;
		if (!take_number(&p, end, flags) || p == end || *p++ != ' ')
			return false;
		return take_number(&p, end, bytes) && p == end;
	}
	if (!take_number(&p, end, bytes))
		return false;
	while (p < end && *p == ' ') {
		p++;
		e = memchr(p, ' ', (size_t)(end - p));
		if (e == NULL)
			e = end;
		if (p < e && *p == 'k') {
			*key = p + 1;
			*key_len = (size_t)(e - p - 1);
		} else if (p < e && *p == 'f') {
			p++;
			have_flags = take_number(&p, e, flags);
		}
		p = e;
	}
	return p == end && *key != NULL && have_flags;
}

static int begin_value(struct conn *c, const struct op *op, const char *line, size_t len)
{
	uint64_t flags = 0, bytes = 0;
	size_t key_len = 0;
	const char *key;

	if (!value_line(line, len, c->opt->mode == MODE_META, &key, &key_len, &flags, &bytes))
		return out_of_step(c, "malformed line before a value", line, len);
	c->body_len = bytes;
	c->body_pos = 0;
	c->body_wrong = false;
	c->state = bytes == 0 ? CONN_CR : CONN_BODY;
	if (c->opt->verify) {
		char want[KEY_LEN];

		key_format(op->hash, want);
		if (key_len != KEY_LEN || memcmp(key, want, KEY_LEN) != 0)
			wrong_value(c, op, "key in the answer", 0);
		if (flags != value_flags(op->hash))
			wrong_value(c, op, "flags", 0);
		if (bytes != op->size)
			wrong_value(c, op, "length", bytes);
	}
	return 0;
}

static void finish_get(struct conn *c, uint64_t now_ns)
{
	complete(c, &c->stats->hit, now_ns);
}

static void finish_miss(struct conn *c, const struct op *op, uint64_t now_ns)
{
	/* one slot per operation in flight, and a fill is issued before the next key */
	if (c->opt->fill && c->fill_tail - c->fill_head <= c->mask)
		c->fills[c->fill_tail++ & c->mask] = (struct key){op->hash, op->size};
	complete(c, &c->stats->miss, now_ns);
}

/* A line that begins an answer. 1 when it completed the operation. */
static int answer_line(struct conn *c, const char *line, size_t len, uint64_t now_ns)
{
	const struct op *op = &c->ops[c->head & c->mask];
	bool meta = c->opt->mode == MODE_META;

	if (c->head == c->tail)
		return out_of_step(c, "answer to no request", line, len);
	if (STARTS(line, len, "SERVER_ERROR")) {
		bump(&c->stats->server_errors, 1);
		if (!c->opt->tolerate && may_complain())
			fprintf(stderr, "valbench: connection %u: %s: %.*s\n", c->number,
				op->kind == OP_GET ? "get" : "set", (int)len, line);
		c->head++;
		return 1;
	}
	if (op->kind == OP_GET) {
		if (meta ? STARTS(line, len, "VA ") : STARTS(line, len, "VALUE "))
			return begin_value(c, op, line, len);
		/* memcached 1.6 repeats the k flag behind EN */
		if (meta ? IS(line, len, "EN") || STARTS(line, len, "EN ") : IS(line, len, "END")) {
			finish_miss(c, op, now_ns);
			return 1;
		}
		return out_of_step(c, "bad answer to a get", line, len);
	}
	if (meta ? STARTS(line, len, "HD") : IS(line, len, "STORED"))
		bump(&c->stats->stored, 1);
	else if (meta ? STARTS(line, len, "NS") : IS(line, len, "NOT_STORED"))
		bump(&c->stats->not_stored, 1);
	else
		return out_of_step(c, "bad answer to a set", line, len);
	complete(c, &c->stats->set, now_ns);
	return 1;
}

static int take_line(struct conn *c, const char *line, size_t len, uint64_t now_ns)
{
	if (len == 0 || line[len - 1] != '\r')
		return out_of_step(c, "line without \\r", line, len);
	len--;
	if (c->state == CONN_LINE)
		return answer_line(c, line, len, now_ns);
	if (!IS(line, len, "END"))
		return out_of_step(c, "expected END", line, len);
	finish_get(c, now_ns);
	return 1;
}

/* Up to need bytes in carry; false: more must come. */
static bool gather(struct conn *c, const uint8_t **p, const uint8_t *end, uint32_t need)
{
	size_t n = (size_t)(end - *p);

	if (c->carry_len >= need)
		return true;
	if (n > need - c->carry_len)
		n = need - c->carry_len;
	memcpy(c->carry + c->carry_len, *p, n);
	c->carry_len += (uint32_t)n;
	*p += n;
	return c->carry_len == need;
}

/* A packet whose head, and flags or sentence, are in carry. 1 when it completed the operation. */
static int answer_packet(struct conn *c, const struct packet *a, uint64_t now_ns)
{
	const struct op *op = &c->ops[c->head & c->mask];
	const char *rest = c->carry + PACKET_HEAD;

	if (a->opcode != packet_opcode(op) || a->opaque != packet_opaque(op))
		return out_of_step(c, "the answer to another request", rest, 0);
	if (op->kind == OP_GET && a->status == PACKET_MISS) {
		finish_miss(c, op, now_ns);
		return 1;
	}
	if (op->kind == OP_SET && (a->status == PACKET_OK || a->status == PACKET_EXISTS)) {
		bump(a->status == PACKET_OK ? &c->stats->stored : &c->stats->not_stored, 1);
		complete(c, &c->stats->set, now_ns);
		return 1;
	}
	if (a->status != PACKET_OK) {
		bump(&c->stats->server_errors, 1);
		if (!c->opt->tolerate && may_complain())
			fprintf(stderr, "valbench: connection %u: %s: %04x %.*s\n", c->number,
				op->kind == OP_GET ? "get" : "set", a->status, (int)a->body, rest);
		c->head++;
		return 1;
	}
	c->body_len = a->body - a->extras - a->key;
	c->body_pos = 0;
	c->body_wrong = false;
	c->state = CONN_BODY;
	if (c->opt->verify && packet_u32(rest) != value_flags(op->hash))
		wrong_value(c, op, "flags", 0);
	if (c->opt->verify && c->body_len != op->size)
		wrong_value(c, op, "length", c->body_len);
	if (c->body_len > 0)
		return 0;
	finish_get(c, now_ns);
	return 1;
}

/* The head of a packet, with the flags of a hit or the sentence of an error. */
static int take_head(struct conn *c, const uint8_t **p, const uint8_t *end, uint64_t now_ns)
{
	struct packet a;
	uint32_t more;

	if (!gather(c, p, end, PACKET_HEAD))
		return 0;
	if (!packet_read(c->carry, &a))
		return out_of_step(c, "no head of a packet", c->carry, 0);
	if (c->head == c->tail)
		return out_of_step(c, "answer to no request", c->carry, 0);
	more = a.body;
	if (a.status == PACKET_OK && c->ops[c->head & c->mask].kind == OP_GET) {
		if (a.extras != 4 || a.key != 0)
			return out_of_step(c, "a hit with other extras than flags", c->carry, 0);
		more = 4;
	}
	if (more > CONN_LINE_MAX - PACKET_HEAD)
		return out_of_step(c, "sentence too long", c->carry, 0);
	if (!gather(c, p, end, PACKET_HEAD + more))
		return 0;
	c->carry_len = 0;
	return answer_packet(c, &a, now_ns);
}

static void take_body(struct conn *c, const uint8_t *p, size_t n)
{
	const struct op *op = &c->ops[c->head & c->mask];
	int64_t bad;

	if (c->opt->verify && !c->body_wrong) {
		bad = value_check(op->hash, c->body_pos, p, n);
		if (bad >= 0)
			wrong_value(c, op, "content", c->body_pos + (uint64_t)bad);
	}
	c->body_pos += n;
}

int conn_receive(struct conn *c, const uint8_t *p, size_t n, uint64_t now_ns)
{
	const uint8_t *end = p + n, *lf;
	int completed = 0, rc;
	size_t len;

	bump(&c->stats->bytes_in, n);
	while (p < end) {
		switch (c->state) {
		case CONN_LINE:
		case CONN_END:
			if (c->opt->mode == MODE_BINARY) {
				rc = take_head(c, &p, end, now_ns);
				if (rc < 0)
					return rc;
				completed += rc;
				break;
			}
			lf = memchr(p, '\n', (size_t)(end - p));
			len = (size_t)((lf == NULL ? end : lf) - p);
			if (lf != NULL && c->carry_len == 0) {
				rc = take_line(c, (const char *)p, len, now_ns);
			} else {
				if (c->carry_len + len > CONN_LINE_MAX)
					return out_of_step(c, "line too long", c->carry, 64);
				memcpy(c->carry + c->carry_len, p, len);
				c->carry_len += (uint32_t)len;
				if (lf == NULL)
					return completed;
				len = c->carry_len;
				c->carry_len = 0;
				rc = take_line(c, c->carry, len, now_ns);
			}
			if (rc < 0)
				return rc;
			completed += rc;
			p = lf + 1;
			break;
		case CONN_BODY:
			len = (size_t)(end - p);
			if (len > c->body_len - c->body_pos)
				len = (size_t)(c->body_len - c->body_pos);
			take_body(c, p, len);
			p += len;
			if (c->body_pos < c->body_len)
				break;
			c->state = CONN_CR;
			if (c->opt->mode == MODE_BINARY) {
				finish_get(c, now_ns);
				completed++;
			}
			break;
		case CONN_CR:
			if (*p++ != '\r')
				return out_of_step(c, "no \\r\\n after a value", "", 0);
			c->state = CONN_LF;
			break;
		case CONN_LF:
			if (*p++ != '\n')
				return out_of_step(c, "no \\r\\n after a value", "", 0);
			c->state = CONN_END;
			if (c->opt->mode == MODE_META) {
				finish_get(c, now_ns);
				completed++;
			}
			break;
		case CONN_DEAD:
			return completed;
		}
	}
	return completed;
}
