/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The binary protocol: a packet's head, extras and key -> request, and its answers. What follows the key is
 * the caller's (a value) or is dropped here. binary.h draws a packet.
 *
 * Each opcode is a row of a table: what it asks, and which extras, key and value it must come with. Of a
 * packet that fits no row nothing is believed but the lengths of its head, which are checked first against
 * each other. What is refused, with which status, and after which refusals the connection ends is memcached's.
 *
 * Pure functions; any thread, one struct proto at a time.
 */
#include <assert.h>
#include <string.h>

#include "base/assert.h"
#include "base/copy.h"
#include "valcached/proto/binary.h"
#include "valcached/proto/proto_int.h"

/* What an opcode may bring besides its head. */
enum {
	KEY = 1,      /* a key, of at least a byte; without it none */
	ANY_KEY = 2,  /* a key or none */
	VALUE = 4,    /* a value, may be empty; without it none */
	QUIET = 8,    /* no answer if all went well, for reads if nothing was found */
	EXTRAS_0 = 16 /* its extras may also be missing */
};

enum form { FORM_UNKNOWN, FORM_CARRY_OUT, FORM_IMMUTABLE, FORM_SASL };

struct opcode {
	uint8_t form; /* enum form */
	uint8_t op;   /* enum proto_op, if carried out */
	uint8_t extras;
	uint8_t has;
};

#define ROW(f, o, e, h)                                                                            \
	{                                                                                          \
		.form = FORM_##f, .op = (o), .extras = (e), .has = (h)                             \
	}

static const struct opcode opcodes[256] = {
    [0x00] = ROW(CARRY_OUT, PROTO_GET, 0, KEY),
    [0x01] = ROW(CARRY_OUT, PROTO_SET, 8, KEY | VALUE),
    [0x02] = ROW(CARRY_OUT, PROTO_ADD, 8, KEY | VALUE),
    [0x03] = ROW(IMMUTABLE, 0, 8, KEY | VALUE), /* replace */
    [0x04] = ROW(CARRY_OUT, PROTO_DELETE, 0, KEY),
    [0x05] = ROW(IMMUTABLE, 0, 20, KEY), /* increment */
    [0x06] = ROW(IMMUTABLE, 0, 20, KEY), /* decrement */
    [0x07] = ROW(CARRY_OUT, PROTO_QUIT, 0, 0),
    [0x08] = ROW(CARRY_OUT, PROTO_FLUSH_ALL, 4, EXTRAS_0),
    [0x09] = ROW(CARRY_OUT, PROTO_GET, 0, KEY | QUIET),
    [0x0a] = ROW(CARRY_OUT, PROTO_NOOP, 0, 0),
    [0x0b] = ROW(CARRY_OUT, PROTO_VERSION, 0, 0),
    [0x0c] = ROW(CARRY_OUT, PROTO_GET, 0, KEY),
    [0x0d] = ROW(CARRY_OUT, PROTO_GET, 0, KEY | QUIET),
    [0x0e] = ROW(IMMUTABLE, 0, 0, KEY | VALUE), /* append */
    [0x0f] = ROW(IMMUTABLE, 0, 0, KEY | VALUE), /* prepend */
    [0x10] = ROW(CARRY_OUT, PROTO_STATS, 0, ANY_KEY),
    [0x11] = ROW(CARRY_OUT, PROTO_SET, 8, KEY | VALUE | QUIET),
    [0x12] = ROW(CARRY_OUT, PROTO_ADD, 8, KEY | VALUE | QUIET),
    [0x13] = ROW(IMMUTABLE, 0, 8, KEY | VALUE | QUIET),
    [0x14] = ROW(CARRY_OUT, PROTO_DELETE, 0, KEY | QUIET),
    [0x15] = ROW(IMMUTABLE, 0, 20, KEY | QUIET),
    [0x16] = ROW(IMMUTABLE, 0, 20, KEY | QUIET),
    [0x17] = ROW(CARRY_OUT, PROTO_QUIT, 0, QUIET),
    [0x18] = ROW(CARRY_OUT, PROTO_FLUSH_ALL, 4, EXTRAS_0 | QUIET),
    [0x19] = ROW(IMMUTABLE, 0, 0, KEY | VALUE | QUIET),
    [0x1a] = ROW(IMMUTABLE, 0, 0, KEY | VALUE | QUIET),
    [0x1c] = ROW(CARRY_OUT, PROTO_TOUCH, 4, KEY),
    [0x1d] = ROW(CARRY_OUT, PROTO_GAT, 4, KEY),
    [0x1e] = ROW(CARRY_OUT, PROTO_GAT, 4, KEY | QUIET),
    [0x20] = ROW(SASL, PROTO_SASL_MECHS, 0, 0),
    [0x21] = ROW(SASL, PROTO_LOGIN, 0, KEY | VALUE),
    [0x22] = ROW(SASL, PROTO_LOGIN, 0, KEY | VALUE),
    [0x23] = ROW(CARRY_OUT, PROTO_GAT, 4, KEY),
    [0x24] = ROW(CARRY_OUT, PROTO_GAT, 4, KEY | QUIET),
};

/* Its answers to reads hold the key: getk, getkq, gatk, gatkq. */
static bool gives_key(uint8_t opcode)
{
	return opcode == 0x0c || opcode == 0x0d || opcode == 0x23 || opcode == 0x24;
}

/* ---- reading ---------------------------------------------------------------------------------- */

static uint16_t u16(const char *b)
{
	const uint8_t *u = (const uint8_t *)b;

	return (uint16_t)(u[0] << 8 | u[1]);
}

static uint32_t u32(const char *b)
{
	return (uint32_t)u16(b) << 16 | u16(b + 2);
}

static uint64_t u64(const char *b)
{
	return (uint64_t)u32(b) << 32 | u32(b + 4);
}

static enum proto_result refuse(struct proto_request *req, enum proto_status st)
{
	req->status = (uint8_t)st;
	req->reply_len = 0;
	return PROTO_REPLY;
}

/* As far as memcached answers at all, it says why before it hangs up. */
static enum proto_result refuse_and_end(struct proto *p, struct proto_request *req,
					enum proto_status st)
{
	enum proto_result r = proto__hangup(p, req);

	req->bin.on = true;
	req->status = (uint8_t)st;
	return r;
}

/* The extras, the key and what is left of the body fit what the opcode takes. */
static bool fits(const struct opcode *o, uint32_t extras, uint32_t key, uint32_t rest)
{
	if (extras != o->extras && !(extras == 0 && (o->has & EXTRAS_0)))
		return false;
	if ((o->has & (KEY | ANY_KEY)) == 0 ? key > 0 : key == 0 && (o->has & KEY))
		return false;
	return rest == 0 || (o->has & VALUE);
}

/* What is understood from a client that has not said who it is. */
static bool for_strangers(const struct opcode *o)
{
	return o->form == FORM_SASL ||
	       (o->form == FORM_CARRY_OUT &&
		(o->op == PROTO_VERSION || o->op == PROTO_NOOP || o->op == PROTO_QUIT));
}

static void drop(struct proto *p, uint32_t n)
{
	if (n > 0)
		proto_swallow(p, n);
}

/* Extras, key: all that has to be there before it is understood. */
static void carry_out(const struct opcode *o, const char *b, uint32_t extras, uint32_t key,
		      struct proto_request *req)
{
	const char *at = b + PROTO_BIN_HEAD;

	req->op = (enum proto_op)o->op;
	req->key = at + extras;
	req->key_len = (uint8_t)key;
	switch (req->op) {
	case PROTO_SET:
	case PROTO_ADD:
		req->flags = u32(at);
		req->expire = proto__is_over(u32(at + 4));
		req->cas = u64(b + 16);
		req->has_cas = req->cas != 0;
		break;
	case PROTO_GAT:
	case PROTO_TOUCH:
		req->expire = proto__is_over(u32(at));
		break;
	case PROTO_DELETE:
		req->cas = u64(b + 16);
		req->has_cas = req->cas != 0;
		break;
	case PROTO_FLUSH_ALL: {
		uint32_t delay = extras > 0 ? u32(at) : 0;

		req->delay_s = delay > INT32_MAX ? INT32_MAX : (int32_t)delay;
		break;
	}
	case PROTO_STATS:
		req->args = req->key;
		req->args_len = key;
		req->key_len = 0;
		if (key >= 5 && memcmp(req->args, "reset", 5) == 0)
			req->op = PROTO_STATS_RESET;
		break;
	default:
		break;
	}
}

/* n bytes of the request are still to come. */
static enum proto_result refuse_change(struct proto *p, uint32_t n, struct proto_request *req)
{
	drop(p, n);
	req->immutable = true;
	return refuse(req, PROTO_ST_IMMUTABLE);
}

enum proto_result proto__binary(struct proto *p, const char *b, size_t len, size_t *consumed,
				struct proto_request *req)
{
	const struct opcode *o;
	uint32_t extras, key, body, rest;

	proto__request_clear(req);
	if ((unsigned char)b[0] != 0x80)
		return refuse_and_end(p, req, PROTO_ST_OK); /* without a word */
	if (len < PROTO_BIN_HEAD)
		return PROTO_MORE;
	o = &opcodes[(uint8_t)b[1]];
	key = u16(b + 2);
	extras = (uint8_t)b[4];
	body = u32(b + 8);
	req->bin.on = true;
	req->bin.quiet = (o->has & QUIET) != 0;
	req->bin.opcode = (uint8_t)b[1];
	memcpy(&req->bin.opaque, b + 12, sizeof(req->bin.opaque));
	if (extras + key > body)
		return refuse_and_end(p, req, PROTO_ST_UNKNOWN);
	rest = body - extras - key;
	if (unlikely(p->locked) && !for_strangers(o))
		return refuse_and_end(p, req, PROTO_ST_AUTH);
	if (key > PROTO_KEY_MAX)
		return refuse_and_end(p, req, PROTO_ST_INVALID);
	if (o->form != FORM_UNKNOWN && !fits(o, extras, key, rest))
		return refuse_and_end(p, req, PROTO_ST_INVALID);
	if (o->form == FORM_UNKNOWN || (o->form == FORM_SASL && !p->sasl)) {
		*consumed = PROTO_BIN_HEAD;
		drop(p, body);
		return refuse(req, PROTO_ST_UNKNOWN);
	}
	if (o->form == FORM_IMMUTABLE) {
		*consumed = PROTO_BIN_HEAD;
		return refuse_change(p, body, req);
	}
	if (o->form == FORM_SASL && o->op == PROTO_LOGIN)
		return proto__sasl(p, req->bin.opcode == 0x22, b, len, key, body, consumed, req);
	if (len < PROTO_BIN_HEAD + extras + key)
		return PROTO_MORE;
	*consumed = PROTO_BIN_HEAD + extras + key;
	req->body_len = rest;
	carry_out(o, b, extras, key, req);
	if (req->has_cas && req->expire) /* who means to remove it has delete with a cas */
		return refuse_change(p, rest, req);
	return PROTO_REQUEST;
}

/* ---- answers ---------------------------------------------------------------------------------- */

static const struct {
	uint16_t code;
	uint8_t len;
	const char *text;
} statuses[PROTO_STS] = {
#define X(n, c, t) [PROTO_ST_##n] = {.code = (c), .len = sizeof(t) - 1, .text = (t)},
    PROTO_STATUSES(X)
#undef X
};

enum proto_status proto_bin_status(enum proto_line_id id)
{
	switch (id) {
	case PROTO_NOT_STORED:
		return PROTO_ST_KEY_EXISTS;
	case PROTO_NOT_FOUND:
	case PROTO_ERROR: /* a group of statistics that there is not */
		return PROTO_ST_KEY_MISSING;
	case PROTO_TOO_LARGE:
		return PROTO_ST_TOO_BIG;
	case PROTO_UNAVAILABLE:
		return PROTO_ST_NO_PATH;
	case PROTO_OUT_OF_MEMORY:
		return PROTO_ST_NO_MEMORY;
	case PROTO_FLUSH_REFUSED:
		return PROTO_ST_AUTH;
	default:
		return PROTO_ST_OK;
	}
}

static_assert(PROTO_BIN_HEAD + 4 + PROTO_KEY_MAX <= PROTO_HEAD_MAX, "a hit's head fits");
static_assert(PROTO_BIN_HEAD + UINT8_MAX <= PROTO_HEAD_MAX, "a status and its text fit");

static char *put_u32(char *o, uint32_t v)
{
	o[0] = (char)(v >> 24);
	o[1] = (char)(v >> 16);
	o[2] = (char)(v >> 8);
	o[3] = (char)v;
	return o + 4;
}

/* The cas is written as memcached and clients take it: the high byte first. */
static char *put_head(char *o, const struct proto_bin *b, enum proto_status st, uint8_t extras,
		      uint8_t key, uint32_t body, uint64_t cas)
{
	o[0] = (char)0x81;
	o[1] = (char)b->opcode;
	o[2] = 0;
	o[3] = (char)key;
	o[4] = (char)extras;
	o[5] = 0;
	o[6] = (char)(statuses[st].code >> 8);
	o[7] = (char)statuses[st].code;
	put_u32(o + 8, body);
	memcpy(o + 12, &b->opaque, sizeof(b->opaque));
	put_u32(o + 16, (uint32_t)(cas >> 32));
	return put_u32(o + 20, (uint32_t)cas);
}

size_t proto_bin_put(char *out, const struct proto_bin *b, enum proto_status st, uint64_t cas,
		     const char *body, uint32_t n)
{
	char *o;

	A(n <= UINT8_MAX);
	if (st != PROTO_ST_OK) {
		body = statuses[st].text;
		n = statuses[st].len;
	}
	o = put_head(out, b, st, 0, 0, n, cas);
	copy_key(o, body, n);
	return PROTO_BIN_HEAD + n;
}

size_t proto_bin_put_hit(char *out, const struct proto_bin *b, const char *key, uint8_t key_len,
			 const struct proto_item *it)
{
	uint8_t k = gives_key(b->opcode) ? key_len : 0;
	uint32_t value = b->opcode == 0x1c ? 0 : it->len;
	char *o = put_head(out, b, PROTO_ST_OK, 4, k, 4 + k + value, it->cas);

	o = put_u32(o, it->flags);
	copy_key(o, key, k);
	return PROTO_BIN_HEAD + 4 + (size_t)k;
}

size_t proto_bin_put_miss(char *out, const struct proto_bin *b, const char *key, uint8_t key_len)
{
	char *o;

	if (!gives_key(b->opcode))
		return proto_bin_put(out, b, PROTO_ST_KEY_MISSING, 0, NULL, 0);
	o = put_head(out, b, PROTO_ST_KEY_MISSING, 0, key_len, key_len, 0);
	copy_key(o, key, key_len);
	return PROTO_BIN_HEAD + (size_t)key_len;
}

size_t proto_bin_put_stat(char *out, const struct proto_bin *b, const char *name, uint8_t name_len,
			  uint32_t value_len)
{
	char *o = put_head(out, b, PROTO_ST_OK, 0, name_len, name_len + value_len, 0);

	copy_key(o, name, name_len);
	return PROTO_BIN_HEAD + (size_t)name_len;
}
