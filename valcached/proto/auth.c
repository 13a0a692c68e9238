/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection that has not said who it is (p->locked): memcached's text authentication, which is a set whose
 * block is "<user> <password>", and what SASL PLAIN sends. Of everything else only what asks for nothing is
 * understood. A line and its block, or a packet, are taken when they are whole; they have to fit in
 * PROTO_LINE_MAX bytes, so that a stranger can make the daemon keep no more than a line of any kind.
 *
 * Pure functions, any thread.
 */
#include <string.h>
#include <strings.h>

#include "valcached/proto/binary.h"
#include "valcached/proto/proto_int.h"

static enum proto_result ask(struct proto_request *req, enum proto_op op)
{
	req->op = op;
	return PROTO_REQUEST;
}

/* A name that is too long for any user is nobody's. */
static enum proto_result login(struct proto_request *req, const char *user, size_t user_len,
			       const char *pass, size_t pass_len)
{
	req->key = user;
	req->key_len = user_len <= PROTO_KEY_MAX ? (uint8_t)user_len : 0;
	req->args = pass;
	req->args_len = (uint32_t)pass_len;
	return ask(req, PROTO_LOGIN);
}

/* ---- text ------------------------------------------------------------------------------------- */

/* The block of n bytes and "\r\n" at b. */
static enum proto_result block(const char *b, uint32_t n, struct proto_request *req)
{
	const char *space = memchr(b, ' ', n);

	if (memcmp(b + n, "\r\n", 2) != 0)
		return PROTO__REPLY(req, "CLIENT_ERROR bad command line termination", false);
	if (space == NULL || space == b)
		return PROTO__REPLY(req, "CLIENT_ERROR bad authentication token format", false);
	return login(req, b, (size_t)(space - b), space + 1, (size_t)(b + n - space - 1));
}

/* len bytes of the window, the line ends before nl. Key, flags and expiry are not looked at. */
enum proto_result proto__locked_line(struct proto *p, const struct proto__line *l, const char *b,
				     const char *nl, size_t len, size_t *consumed,
				     struct proto_request *req)
{
	size_t line = (size_t)(nl + 1 - b), want;
	uint32_t n;

	*consumed = line;
	if (l->n == 1 && proto__word_is(&l->w[0], "version"))
		return ask(req, PROTO_VERSION);
	if (l->n == 1 && proto__word_is(&l->w[0], "quit"))
		return ask(req, PROTO_QUIT);
	if (l->n == 1 && proto__word_is(&l->w[0], "mn"))
		return ask(req, PROTO_MN);
	if (l->n < 5 || !proto__word_is(&l->w[0], "set") || !proto__u32(&l->w[4], &n))
		return PROTO__REPLY(req, "CLIENT_ERROR unauthenticated", false);
	want = line + n + 2;
	if (want > PROTO_LINE_MAX) {
		proto_swallow(p, (uint64_t)n + 2);
		return PROTO__REPLY(req, "CLIENT_ERROR bad authentication token format", false);
	}
	if (len < want) {
		*consumed = 0;
		return PROTO_MORE;
	}
	*consumed = want;
	return block(b + line, n, req);
}

/* ---- SASL ------------------------------------------------------------------------------------- */

static bool is_plain(const char *mech, uint32_t n)
{
	return n == 5 && strncasecmp(mech, "PLAIN", 5) == 0;
}

/* RFC 4616: [authzid] NUL authcid NUL passwd. Who asks to act for another is refused. */
static enum proto_result plain(const char *b, uint32_t n, struct proto_request *req)
{
	const char *user = memchr(b, '\0', n), *pass, *end = b + n;

	if (user == NULL)
		return login(req, b, 0, b, 0);
	user++;
	pass = memchr(user, '\0', (size_t)(end - user));
	if (pass == NULL)
		return login(req, b, 0, b, 0);
	if (user - 1 > b &&
	    (user - 1 - b != pass - user || memcmp(b, user, (size_t)(pass - user)) != 0))
		return login(req, b, 0, b, 0);
	return login(req, user, (size_t)(pass - user), pass + 1, (size_t)(end - pass - 1));
}

enum proto_result proto__sasl(struct proto *p, bool step, const char *b, size_t len, uint32_t mech,
			      uint32_t body, size_t *consumed, struct proto_request *req)
{
	const char *at = b + PROTO_BIN_HEAD;

	/* As in memcached a login that was begun goes on until another is: neither a wrong step nor 0004 ends it. */
	if (mech > 32 || PROTO_BIN_HEAD + (uint64_t)body > PROTO_LINE_MAX) {
		*consumed = PROTO_BIN_HEAD;
		if (body > 0)
			proto_swallow(p, body);
		if (mech > 32) {
			req->status = PROTO_ST_INVALID;
			return PROTO_REPLY;
		}
		return login(req, b, 0, b, 0);
	}
	if (len < PROTO_BIN_HEAD + body)
		return PROTO_MORE;
	*consumed = PROTO_BIN_HEAD + body;
	if (!step)
		p->stepping = false;
	if (!is_plain(at, mech) || (step && !p->stepping))
		return login(req, b, 0, b, 0);
	if (!step && body == mech) {
		p->stepping = true; /* the client waits to be asked */
		req->status = PROTO_ST_CONTINUE;
		return PROTO_REPLY;
	}
	return plain(at + mech, body - mech, req);
}
