/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that say who they are. What a stranger may ask is decided by the parser (proto/auth.c); here is who is
 * known. The connection's worker; the users are shared (auth.h).
 */
#include "base/log.h"
#include "valcached/net/auth.h"
#include "valcached/net/request_int.h"

void login__begin(struct worker *w, struct conn *c)
{
	const struct net *net = w->net;

	if (net->auth != NULL)
		proto_lock(&c->proto, net->cfg.text_login, net->cfg.sasl);
}

void login__try(struct conn *c, const struct proto_request *rq)
{
	static struct log_limit limit;
	struct worker_counters *n = &c->w->count;
	bool known = auth_check(c->w->net->auth, rq->key, rq->key_len, rq->args, rq->args_len);

	proto_set_locked(&c->proto, !known);
	count_add(&n->auth_cmds, 1);
	if (!known) {
		count_add(&n->auth_errors, 1);
		log_limited(&limit, LOG_WARN, "a client came with a wrong user or password");
	}
	if (rq->bin.on)
		binary__answer(c, &rq->bin, known ? PROTO_ST_OK : PROTO_ST_AUTH, PROTO_LOGIN_OK,
			       sizeof(PROTO_LOGIN_OK) - 1);
	else
		answer__constant(c, rq, known ? PROTO_STORED : PROTO_LOGIN_FAILED);
}
