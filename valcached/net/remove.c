/* SPDX-License-Identifier: Apache-2.0 */
/* delete, md, and touch with an expiry that is over. The connection's worker. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "valcached/net/request_int.h"

/* ---- delete, md, and reads that remove -------------------------------------------------------- */

static void deleted(struct req *r)
{
	struct conn *c = r->conn;
	bool was = r->op.status == STORE_OK;

	bool refused = r->op.status == STORE_UNAVAILABLE;

	request__let_go(c);
	request__close(r);
	if (unlikely(refused)) {
		answer__line(c, r, PROTO_UNAVAILABLE);
		return;
	}
	if (r->kind == PROTO_TOUCH) {
		count_add(&c->w->count.cmd_touch, 1);
		count_add(was ? &c->w->count.touch_hits : &c->w->count.touch_misses, 1);
		answer__line(c, r, was ? PROTO_TOUCHED : PROTO_NOT_FOUND);
		return;
	}
	count_add(was ? &c->w->count.delete_hits : &c->w->count.delete_misses, 1);
	r->rc = was ? PROTO_HD : PROTO_NF;
	if (r->kind == PROTO_MD)
		answer__give(c, r);
	else
		answer__line(c, r, was ? PROTO_DELETED : PROTO_NOT_FOUND);
}

void remove__key(struct req *r)
{
	r->then = deleted;
	request__step(r, store_delete(&r->op));
}

/* md or a binary delete with a cas: what is there is known. */
static void cas_known(struct req *r)
{
	struct conn *c = r->conn;

	if (r->op.status != STORE_OK || r->op.cas == r->cas) {
		char key[STORE_KEY_MAX];
		uint8_t n = r->op.key_len;

		memcpy(key, r->op.key, n);
		request__close(r);
		request__open(r, key, n);
		remove__key(r);
		return;
	}
	request__let_go(c);
	request__close(r);
	r->rc = PROTO_EX;
	r->status = PROTO_ST_KEY_EXISTS;
	answer__give(c, r);
}

void remove__meta(struct req *r)
{
	if (!r->has_cas) {
		remove__key(r);
		return;
	}
	r->then = cas_known;
	request__step(r, store_get(&r->op, true));
}
