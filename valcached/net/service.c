/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is asked of the whole daemon: flush_all, metadump, stats. A delayed flush_all belongs to the worker
 * that was asked, not to a connection. The workers.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "valcached/net/request_int.h"
#include "valcached/net/tls_int.h"

/* ---- the whole store -------------------------------------------------------------------------- */

static void flushed(struct req *r)
{
	request__let_go(r->conn);
	answer__line(r->conn, r, r->op.status == STORE_OK ? PROTO_OK : PROTO_UNAVAILABLE);
}

static void begin_flush(struct req *r)
{
	r->then = flushed;
	request__step(r, store_flush_all(&r->op));
}

void service__flush_all(struct conn *c, const struct proto_request *rq)
{
	count_add(&c->w->count.cmd_flush, 1);
	if (!c->w->net->cfg.allow_flush) {
		answer__constant(c, rq, PROTO_FLUSH_REFUSED);
	} else if (rq->delay_s > 0) {
		c->w->flush_at_ns = io_now(c->w->io) + (uint64_t)rq->delay_s * 1000000000u;
		answer__constant(c, rq, PROTO_OK);
	} else {
		struct req *r = request__take(c, rq);

		request__open(r, "", 0);
		request__hold(c, r, begin_flush);
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

void service__flush_due(struct worker *w)
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
	request__let_go(r->conn);
	answer__give(r->conn, r);
}

void service__metadump(struct conn *c, const struct proto_request *rq)
{
	struct req *r;

	if (atomic_exchange(&c->w->net->dumping, true)) {
		answer__constant(c, rq, PROTO_DUMP_BUSY);
		return;
	}
	r = request__take(c, rq);
	r->dumps = true;
	r->cursor = 0;
	request__open(r, "", 0);
	c->cur = r;
	c->in = IN_HOLD;
	r->then = dump_begun;
	request__step(r, store_dump(&r->op, &r->cursor));
}

/* An answer that was made up: memory of connections until the client has taken it. */
static void give_text(struct conn *c, struct req *r)
{
	if (r->text.failed) {
		text_free(&r->text);
		answer__line(c, r, PROTO_OUT_OF_MEMORY);
		return;
	}
	worker__hold(c->w, r->text.room);
	answer__give(c, r);
}

static void path_tried(struct req *r)
{
	static const char *const word[] = {[STORE_OK] = "OK", [STORE_MISS] = "CLIENT_ERROR"};
	enum store_status st = r->op.status;

	request__let_go(r->conn);
	text_printf(&r->text, "%s %.*s\r\n",
		    st == STORE_OK || st == STORE_MISS ? word[st] : "SERVER_ERROR",
		    (int)r->op.value_n, (const char *)r->op.value);
	give_text(r->conn, r);
}

static void try_path(struct req *r)
{
	r->then = path_tried;
	request__step(r, store_path_online(&r->op, (unsigned)r->cursor));
}

void service__path(struct conn *c, const struct proto_request *rq)
{
	struct req *r = request__take(c, rq);

	r->cursor = rq->number;
	request__open(r, "", 0);
	request__hold(c, r, try_path);
}

/* Milliseconds of this worker, and a line in the log: not more often than once a second, whoever asks. */
void service__refresh_certs(struct conn *c, const struct proto_request *rq)
{
	struct net *net = c->w->net;
	char *cause = NULL;
	struct req *r;

	if (net->tls == NULL) {
		answer__constant(c, rq, PROTO_TLS_OFF);
		return;
	}
	r = request__take(c, rq);
	if (!tls__may_ask(net)) {
		text_printf(&r->text, "Error that was asked for less than a second ago\r\n");
	} else if (tls__reload(net, &cause) == 0) {
		answer__line(c, r, PROTO_OK);
		return;
	} else {
		text_printf(&r->text, "Error %s\r\n", cause != NULL ? cause : "out of memory");
	}
	free(cause);
	give_text(c, r);
}

/* ---- stats ------------------------------------------------------------------------------------ */

void service__stats(struct conn *c, const struct proto_request *rq)
{
	const struct net_config *cfg = &c->w->net->cfg;
	struct req *r = request__take(c, rq);

	if (cfg->stats == NULL || !cfg->stats(cfg->stats_arg, rq->args, rq->args_len, &r->text)) {
		answer__line(c, r, PROTO_ERROR);
		return;
	}
	if (r->bin.on)
		binary__stats(r);
	give_text(c, r);
}
