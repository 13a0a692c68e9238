/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers: constant lines, and the lines that carry a key, flags, lengths. No function here writes
 * more than PROTO_HEAD_MAX bytes (asserted below for the longest). Pure functions, any thread.
 */
#include <assert.h>
#include <string.h>

#include "valcached/proto/proto_int.h"
#include "base/assert.h"
#include "base/copy.h"

const struct proto_line proto_lines[PROTO_LINE_IDS] = {
#define X(n, t) [PROTO_##n] = {t, sizeof(t) - 1},
    PROTO_LINES(X)
#undef X
};

static const char *const op_names[PROTO_OPS] = {
    [PROTO_GET] = "get",
    [PROTO_GETS] = "gets",
    [PROTO_GAT] = "gat",
    [PROTO_GATS] = "gats",
    [PROTO_TOUCH] = "touch",
    [PROTO_SET] = "set",
    [PROTO_ADD] = "add",
    [PROTO_DELETE] = "delete",
    [PROTO_FLUSH_ALL] = "flush_all",
    [PROTO_VERSION] = "version",
    [PROTO_VERBOSITY] = "verbosity",
    [PROTO_STATS] = "stats",
    [PROTO_STATS_RESET] = "stats reset",
    [PROTO_QUIT] = "quit",
    [PROTO_NOOP] = "noop",
    [PROTO_LOGIN] = "login",
    [PROTO_SASL_MECHS] = "sasl mechs",
    [PROTO_METADUMP] = "lru_crawler metadump",
    [PROTO_MEMLIMIT] = "cache_memlimit",
    [PROTO_PATH] = "path online",
    [PROTO_REFRESH_CERTS] = "refresh_certs",
    [PROTO_MN] = "mn",
    [PROTO_MG] = "mg",
    [PROTO_ME] = "me",
    [PROTO_MS] = "ms",
    [PROTO_MD] = "md",
};

const char *proto_op_name(enum proto_op op)
{
	A(op < PROTO_OPS);
	return op_names[op];
}

/* The longest: "VA <len>", each flag once, the key in base64 and its " b", the opaque, line end. */
static_assert(3 + 10                                        /* VA */
		      + 2 + 10                              /* s */
		      + 2 + 2                               /* t-1 */
		      + 2 + 20                              /* c */
		      + 2 + 10                              /* f */
		      + 3 + 3                               /* l0 h0 */
		      + 2 + PROTO_OPAQUE_MAX                /* O */
		      + 2 + (PROTO_KEY_MAX + 2) / 3 * 4 + 2 /* k b */
		      + 2 <=
		  PROTO_HEAD_MAX,
	      "a meta answer fits");

static char *put(char *o, const char *s, size_t n)
{
	copy_key(o, s, n);
	return o + n;
}

static char *put_eol(char *o)
{
	o[0] = '\r';
	o[1] = '\n';
	return o + 2;
}

size_t proto_put_value(char *out, const char *key, uint8_t key_len, const struct proto_item *it,
		       bool with_cas)
{
	char *o = out;

	A(key_len <= PROTO_KEY_MAX);
	o = put(o, "VALUE ", 6);
	o = put(o, key, key_len);
	*o++ = ' ';
	o += proto_put_u32(o, it->flags);
	*o++ = ' ';
	o += proto_put_u32(o, it->len);
	if (with_cas) {
		*o++ = ' ';
		o += proto_put_u64(o, it->cas);
	}
	return (size_t)(put_eol(o) - out);
}

static char *put_key(char *o, const struct proto_meta *m, const char *key, uint8_t key_len)
{
	A(key_len <= PROTO_KEY_MAX);
	*o++ = ' ';
	*o++ = 'k';
	if (!m->base64)
		return put(o, key, key_len);
	o += proto__base64_encode(o, key, key_len);
	return put(o, " b", 2);
}

static char *put_opaque(char *o, const struct proto_meta *m)
{
	A(m->opaque_len <= PROTO_OPAQUE_MAX);
	*o++ = ' ';
	*o++ = 'O';
	return put(o, m->opaque, m->opaque_len);
}

static char *put_u32(char *o, char flag, uint32_t v)
{
	*o++ = ' ';
	*o++ = flag;
	return o + proto_put_u32(o, v);
}

/* What was asked for and is known of the item; it may be NULL. */
static char *put_flag(char *o, char flag, enum proto_rc rc, const struct proto_item *it)
{
	if (it == NULL)
		return flag == 'c' && rc != PROTO_EN ? put(o, " c0", 3) : o;
	switch (flag) {
	case 's':
		return put_u32(o, 's', it->len);
	case 't':
		return put(o, " t-1", 4);
	case 'c':
		o = put(o, " c", 2);
		return o + proto_put_u64(o, it->cas);
	case 'f':
		return put_u32(o, 'f', it->flags);
	case 'l':
		return put(o, " l0", 3);
	case 'h':
		return put(o, " h0", 3);
	default:
		return o;
	}
}

size_t proto_put_meta(char *out, const struct proto_meta *m, enum proto_rc rc, const char *key,
		      uint8_t key_len, const struct proto_item *it)
{
	static const char names[][3] = {[PROTO_VA] = "VA", [PROTO_HD] = "HD", [PROTO_EN] = "EN",
					[PROTO_NS] = "NS", [PROTO_EX] = "EX", [PROTO_NF] = "NF"};
	char *o = out;

	A(m->nflags <= PROTO_FLAGS_MAX);
	o = put(o, names[rc], 2);
	if (rc == PROTO_VA) {
		*o++ = ' ';
		o += proto_put_u32(o, it->len);
	}
	for (unsigned i = 0; i < m->nflags; i++) {
		if (m->flags[i] == 'O')
			o = put_opaque(o, m);
		else if (m->flags[i] == 'k')
			o = put_key(o, m, key, key_len);
		else
			o = put_flag(o, m->flags[i], rc, it);
	}
	return (size_t)(put_eol(o) - out);
}

size_t proto_put_me(char *out, const struct proto_meta *m, const char *key, uint8_t key_len,
		    const struct proto_item *it)
{
	char *o = out;

	A(key_len <= PROTO_KEY_MAX);
	o = put(o, "ME ", 3);
	if (m->base64)
		o += proto__base64_encode(o, key, key_len);
	else
		o = put(o, key, key_len);
	o = put(o, " exp=-1 la=0 cas=", 17);
	o += proto_put_u64(o, it->cas);
	o = put(o, " fetch=no cls=1 size=", 21);
	o += proto_put_u32(o, it->len);
	return (size_t)(put_eol(o) - out);
}

size_t proto_put_stat(char *out, size_t n, const char *name, const char *value)
{
	size_t nl = strlen(name), vl = strlen(value);
	char *o = out;

	if (n < 8 || nl > n - 8 || vl > n - 8 - nl)
		return 0;
	o = put(o, "STAT ", 5);
	o = put(o, name, nl);
	*o++ = ' ';
	o = put(o, value, vl);
	return (size_t)(put_eol(o) - out);
}

bool proto_quiet(enum proto_op op, enum proto_rc rc)
{
	switch (op) {
	case PROTO_MG:
		return rc == PROTO_EN;
	case PROTO_MS:
	case PROTO_MD:
		return rc == PROTO_HD;
	default:
		return false;
	}
}
