/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text commands that are one line, and the first lines of set and its kin. Each function is one
 * command; what it refuses, with which words, and in which order it looks is memcached's.
 * `l->n` counts the command's own word. Pure functions, any thread.
 */
#include <string.h>

#include "valcached/proto/proto_int.h"

/* The block of a set is at most this long; above it the length is a bad number. */
#define BODY_MAX (INT32_MAX - 2)

static bool ends_in_noreply(const struct proto__line *l)
{
	return proto__word_is(&l->w[l->n - 1], "noreply");
}

static enum proto_result bad_format(struct proto_request *req)
{
	return PROTO__REPLY(req, "CLIENT_ERROR bad command line format", req->noreply);
}

static enum proto_result error(struct proto_request *req)
{
	return PROTO__REPLY(req, "ERROR", req->noreply);
}

static bool take_key(struct proto_request *req, const struct proto__word *w)
{
	if (w->len > PROTO_KEY_MAX)
		return false;
	req->key = w->s;
	req->key_len = (uint8_t)w->len;
	return true;
}

enum store { STORE_SET, STORE_ADD, STORE_CHANGE, STORE_CAS };

/* set|add|replace|append|prepend <key> <flags> <exptime> <bytes> [noreply]; cas: and <unique> */
static enum proto_result update(struct proto *p, const struct proto__line *l,
				struct proto_request *req, enum store what)
{
	unsigned want = what == STORE_CAS ? 6 : 5;
	int64_t exptime, bytes;

	if (l->n != want && l->n != want + 1)
		return error(req);
	req->noreply = ends_in_noreply(l);
	if (!take_key(req, &l->w[1]))
		return bad_format(req);
	if (!proto__u32(&l->w[2], &req->flags) || !proto__i64(&l->w[3], &exptime) ||
	    !proto__i64(&l->w[4], &bytes))
		return bad_format(req);
	if (what == STORE_CAS && !proto__u64(&l->w[5], &req->cas))
		return bad_format(req);
	if (bytes < 0 || bytes > BODY_MAX)
		return bad_format(req);
	if (what == STORE_CHANGE || what == STORE_CAS)
		return proto__immutable(p, req, true, (uint32_t)bytes, req->noreply);
	req->op = what == STORE_ADD ? PROTO_ADD : PROTO_SET;
	req->expire = proto__is_over(exptime);
	req->body_len = (uint32_t)bytes;
	return PROTO_REQUEST;
}

/* touch <key> <exptime> [noreply] */
static enum proto_result touch(const struct proto__line *l, struct proto_request *req)
{
	int64_t exptime;

	if (l->n != 3 && l->n != 4)
		return error(req);
	req->noreply = ends_in_noreply(l);
	if (!take_key(req, &l->w[1]))
		return bad_format(req);
	if (!proto__i64(&l->w[2], &exptime))
		return PROTO__REPLY(req, "CLIENT_ERROR invalid exptime argument", req->noreply);
	req->op = PROTO_TOUCH;
	req->expire = proto__is_over(exptime);
	return PROTO_REQUEST;
}

/* incr|decr <key> <delta> [noreply] */
static enum proto_result arithmetic(struct proto *p, const struct proto__line *l,
				    struct proto_request *req)
{
	uint64_t delta;

	if (l->n != 3 && l->n != 4)
		return error(req);
	req->noreply = ends_in_noreply(l);
	if (!take_key(req, &l->w[1]))
		return bad_format(req);
	if (!proto__u64(&l->w[2], &delta))
		return PROTO__REPLY(req, "CLIENT_ERROR invalid numeric delta argument",
				    req->noreply);
	return proto__immutable(p, req, false, 0, req->noreply);
}

/* delete <key> [0] [noreply] */
static enum proto_result delete_key(const struct proto__line *l, struct proto_request *req)
{
	if (l->n < 2 || l->n > 4)
		return error(req);
	if (l->n > 2) {
		bool zero = proto__word_is(&l->w[2], "0");

		req->noreply = ends_in_noreply(l);
		if (!(l->n == 3 ? zero || req->noreply : zero && req->noreply))
			return PROTO__REPLY(
			    req,
			    "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]",
			    req->noreply);
	}
	if (!take_key(req, &l->w[1]))
		return bad_format(req);
	req->op = PROTO_DELETE;
	return PROTO_REQUEST;
}

/* flush_all [delay] [noreply] */
static enum proto_result flush_all(const struct proto__line *l, struct proto_request *req)
{
	int64_t delay = 0;

	if (l->n > 3)
		return error(req);
	req->noreply = ends_in_noreply(l);
	if (l->n != (req->noreply ? 2u : 1u) && !proto__i64(&l->w[1], &delay))
		return PROTO__REPLY(req, "CLIENT_ERROR invalid exptime argument", req->noreply);
	req->delay_s = delay > INT32_MAX ? INT32_MAX : delay < -1 ? -1 : (int32_t)delay;
	req->op = PROTO_FLUSH_ALL;
	return PROTO_REQUEST;
}

/* verbosity <level> [noreply] */
static enum proto_result verbosity(const struct proto__line *l, struct proto_request *req)
{
	if (l->n != 2 && l->n != 3)
		return error(req);
	req->noreply = ends_in_noreply(l);
	if (!proto__u32(&l->w[1], &req->number))
		return bad_format(req);
	req->op = PROTO_VERBOSITY;
	return PROTO_REQUEST;
}

/* cache_memlimit <megabytes> [noreply] */
static enum proto_result cache_memlimit(const struct proto__line *l, struct proto_request *req)
{
	uint64_t mib;

	if (l->n != 2 && l->n != 3)
		return error(req);
	req->noreply = ends_in_noreply(l);
	if (!proto__u64(&l->w[1], &mib))
		return error(req);
	if (mib < 8)
		return PROTO__REPLY(req, "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m",
				    req->noreply);
	if (mib > 1000000000)
		return PROTO__REPLY(
		    req, "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes", req->noreply);
	req->number = (uint32_t)mib;
	req->op = PROTO_MEMLIMIT;
	return PROTO_REQUEST;
}

/* lru_crawler metadump all|hash; the rest steers a crawler that this store does not have. */
static enum proto_result lru_crawler(const struct proto__line *l, struct proto_request *req)
{
	const struct proto__word *sub = &l->w[1];
	uint32_t n;

	if (l->n == 3 && proto__word_is(sub, "metadump")) {
		if (!proto__word_is(&l->w[2], "all") && !proto__word_is(&l->w[2], "hash"))
			return PROTO__REPLY(req, "BADCLASS invalid class id", false);
		req->op = PROTO_METADUMP;
		return PROTO_REQUEST;
	}
	if (l->n == 3 && proto__word_is(sub, "crawl"))
		return PROTO__REPLY(req, "CLIENT_ERROR lru crawler disabled", false);
	if (l->n == 3 && (proto__word_is(sub, "sleep") || proto__word_is(sub, "tocrawl"))) {
		if (!proto__u32(&l->w[2], &n))
			return bad_format(req);
		if (proto__word_is(sub, "sleep") && n > 1000000)
			return PROTO__REPLY(req, "CLIENT_ERROR sleep must be one second or less",
					    false);
		return PROTO__REPLY(req, "OK", false);
	}
	if (l->n == 2 && proto__word_is(sub, "enable"))
		return PROTO__REPLY(req, "ERROR failed to start lru crawler thread", false);
	if (l->n == 2 && proto__word_is(sub, "disable"))
		return PROTO__REPLY(req, "OK", false);
	return error(req);
}

/* slabs reassign|automove: there are no slab classes to move pages between. */
static enum proto_result slabs(const struct proto__line *l, struct proto_request *req)
{
	uint32_t n;

	if (l->n == 4 && proto__word_is(&l->w[1], "reassign"))
		return PROTO__REPLY(req, "CLIENT_ERROR slab reassignment disabled", false);
	if (l->n >= 3 && proto__word_is(&l->w[1], "automove")) {
		req->noreply = ends_in_noreply(l);
		if (!proto__u32(&l->w[2], &n))
			return bad_format(req);
		return n <= 2 ? PROTO__REPLY(req, "OK", req->noreply) : error(req);
	}
	return error(req);
}

/* lru tune|mode|temp_ttl: there are no lists of classes to steer. */
static enum proto_result lru(const struct proto__line *l, struct proto_request *req)
{
	if (l->n < 3)
		return error(req);
	req->noreply = ends_in_noreply(l);
	if (!proto__word_is(&l->w[1], "tune") && !proto__word_is(&l->w[1], "mode") &&
	    !proto__word_is(&l->w[1], "temp_ttl"))
		return error(req);
	return PROTO__REPLY(req, "CLIENT_ERROR the store has no slab LRUs", req->noreply);
}

static enum proto_result watch(const struct proto__line *l, struct proto_request *req)
{
	req->noreply = ends_in_noreply(l);
	return PROTO__REPLY(req, "CLIENT_ERROR watch commands not allowed", req->noreply);
}

static enum proto_result stats(const struct proto__line *l, struct proto_request *req)
{
	req->op = PROTO_STATS;
	req->args = l->end;
	req->args_len = 0;
	if (l->n > 1) {
		const char *end = l->end;

		while (end[-1] == ' ')
			end--;
		req->args = l->w[1].s;
		req->args_len = (uint32_t)(end - req->args);
		/* what follows is ignored, as in memcached */
		if (proto__word_is(&l->w[1], "reset"))
			req->op = PROTO_STATS_RESET;
	}
	return PROTO_REQUEST;
}

/* path online <number>: ours */
static enum proto_result path(const struct proto__line *l, struct proto_request *req)
{
	uint32_t n;

	if (l->n != 3 || !proto__word_is(&l->w[1], "online"))
		return error(req);
	if (!proto__u32(&l->w[2], &n))
		return bad_format(req);
	req->op = PROTO_PATH;
	req->number = n;
	return PROTO_REQUEST;
}

static enum proto_result plain(struct proto_request *req, enum proto_op op)
{
	req->op = op;
	return PROTO_REQUEST;
}

enum proto_result proto__text(struct proto *p, const struct proto__line *l,
			      struct proto_request *req)
{
	const struct proto__word *c = &l->w[0];

	switch (c->len) {
	case 3:
		if (proto__word_is(c, "set"))
			return update(p, l, req, STORE_SET);
		if (proto__word_is(c, "add"))
			return update(p, l, req, STORE_ADD);
		if (proto__word_is(c, "cas"))
			return update(p, l, req, STORE_CAS);
		if (proto__word_is(c, "lru"))
			return lru(l, req);
		break;
	case 4:
		if (proto__word_is(c, "incr") || proto__word_is(c, "decr"))
			return arithmetic(p, l, req);
		if (proto__word_is(c, "path"))
			return path(l, req);
		if (proto__word_is(c, "quit"))
			return plain(req, PROTO_QUIT);
		break;
	case 5:
		if (proto__word_is(c, "touch"))
			return touch(l, req);
		if (proto__word_is(c, "stats"))
			return stats(l, req);
		if (proto__word_is(c, "slabs"))
			return slabs(l, req);
		if (proto__word_is(c, "watch"))
			return watch(l, req);
		break;
	case 6:
		if (proto__word_is(c, "delete"))
			return delete_key(l, req);
		if (proto__word_is(c, "append"))
			return update(p, l, req, STORE_CHANGE);
		break;
	case 7:
		if (proto__word_is(c, "replace") || proto__word_is(c, "prepend"))
			return update(p, l, req, STORE_CHANGE);
		if (proto__word_is(c, "version"))
			return plain(req, PROTO_VERSION);
		break;
	case 8:
		if (proto__word_is(c, "shutdown"))
			return PROTO__REPLY(req, "ERROR: shutdown not enabled", false);
		break;
	case 9:
		if (proto__word_is(c, "flush_all"))
			return flush_all(l, req);
		if (proto__word_is(c, "verbosity"))
			return verbosity(l, req);
		break;
	case 11:
		if (proto__word_is(c, "lru_crawler"))
			return lru_crawler(l, req);
		break;
	case 13:
		if (proto__word_is(c, "refresh_certs"))
			return plain(req, PROTO_REFRESH_CERTS);
		break;
	case 14:
		if (proto__word_is(c, "cache_memlimit"))
			return cache_memlimit(l, req);
		break;
	default:
		break;
	}
	/*
	 * A web browser. memcached hangs up by the same test, and makes it when it has looked the command up: not
	 * of a word that begins like one of its frequent commands, or of a single byte.
	 */
	if (c->len >= 2 && strchr("gsacidt", c->s[0]) == NULL && !(c->len == 2 && c->s[0] == 'm') &&
	    l->w[l->n - 1].len >= 5 && memcmp(l->w[l->n - 1].s, "HTTP/", 5) == 0)
		return proto__hangup(p, req);
	return error(req);
}
