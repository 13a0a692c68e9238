/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One worker of net/ on the simulated engine and the store in memory (tests/double), on one thread in
 * virtual time: the caller is the kernel's other end. Used by tests/unit/net-*.c and tests/fuzz.
 *
 *     struct rig *r = rig_open(seed, &sim_config, &net_config);
 *     int fd = rig_connect(r);            a client
 *     rig_send(r, fd, bytes, n);          what its socket takes
 *     rig_run(r);                         until nothing but timers of 20 ms and more is left
 *     rig_recv(r, fd, buf, room);
 *     rig_close(&r);                      stops as the daemon does; nothing may be left
 */
#ifndef TESTS_UNIT_NET_RIG_H
#define TESTS_UNIT_NET_RIG_H

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "valcached/io/sim_int.h"
#include "valcached/net/net_int.h"

#define RIG_SOON    (20 * (int64_t)NS_PER_MS)
#define RIG_TURNS   2000000u /* a run that takes more never ends */
#define RIG_STALL_S 10u
#ifndef RIG_ITEM_MAX
#define RIG_ITEM_MAX (1u << 20)
#endif

struct rig {
	struct sim_env *env;
	struct store *store;
	struct net net;
	struct listener listener;
	struct worker *w;
	uint64_t turns;
	void (*look)(struct rig *); /* after each turn; may be NULL */
};

static inline bool rig_stats(void *arg, const char *group, size_t n, struct text *out)
{
	(void)arg;
	(void)group;
	if (n != 0)
		return false;
	text_printf(out, "STAT a %d\r\nSTAT b 2\r\nEND\r\n", 1);
	return true;
}

static inline struct rig *rig_open(uint64_t seed, const struct sim_config *sc,
				   const struct net_config *nc)
{
	struct store_config sconf = {.workers = 1, .item_max = RIG_ITEM_MAX, .ram_bytes = 64 << 20};
	struct rig *r = calloc(1, sizeof *r);
	char *cause = NULL;

	AN(r);
	log_set_level(LOG_ERROR);
	r->env = sim_env_new(seed, sc);
	AZ(store_open(&sconf, sim_env_engine(r->env), &r->store, &cause));
	if (nc != NULL)
		r->net.cfg = *nc;
	if (r->net.cfg.connections == 0)
		r->net.cfg.connections = 64;
	if (r->net.cfg.turn_requests == 0)
		r->net.cfg.turn_requests = 20;
	r->net.cfg.workers = 1;
	r->net.cfg.allow_flush = true;
	r->net.cfg.item_max = RIG_ITEM_MAX;
	r->net.cfg.stall_ns = RIG_STALL_S * NS_PER_S;
	r->net.cfg.stats = rig_stats;
	r->net.magic = NET_MAGIC;
	r->net.engine = sim_env_engine(r->env);
	r->net.store = r->store;
	r->net.listener = &r->listener;
	r->net.listener_n = 1;
	r->listener.net = &r->net;
	r->listener.port = 1; /* as TCP */
	if (r->net.cfg.conn_bytes == 0)
		r->net.cfg.conn_bytes = 64u << 20;
	r->net.held_max = r->net.cfg.conn_bytes;
	AZ(address__open(&r->net));
	r->listener.fd = sim_sock_listen(r->env);
	pthread_mutex_init(&r->net.lock, NULL);
	pthread_cond_init(&r->net.changed, NULL);
	/* the slow thread's place stays empty: the store in memory has nothing to do in the background */
	r->net.worker = aligned_alloc(64, 2 * sizeof *r->net.worker);
	AN(r->net.worker);
	memset(r->net.worker, 0, 2 * sizeof *r->net.worker);
	r->w = &r->net.worker[0];
	r->w->magic = WORKER_MAGIC;
	r->w->net = &r->net;
	atomic_store(&r->net.stage, NET_SERVING);
	AZ(worker__loop(r->w, true));
	AZ(worker__open(r->w));
	return r;
}

static inline uint64_t rig_now(const struct rig *r)
{
	return sim_env_now(r->env);
}

/* False: the worker has ended. */
static inline bool rig_turn(struct rig *r)
{
	bool on = worker__turn(r->w);

	A(++r->turns < RIG_TURNS);
	if (r->look != NULL)
		r->look(r);
	return on;
}

static inline bool rig_quiet(const struct rig *r)
{
	const struct sim_io *io = container_of(r->w->io, struct sim_io, io);

	return !sim_io_due_now(io) && sim_io_next_due(io) == UINT64_MAX && r->w->dirty == NULL &&
	       (r->w->timeout_ns < 0 || r->w->timeout_ns > RIG_SOON);
}

static inline void rig_run(struct rig *r)
{
	do {
		if (rig_quiet(r)) /* what was sent is looked at now, not when a timer is due */
			r->w->timeout_ns = 0;
		A(rig_turn(r));
	} while (!rig_quiet(r));
}

/* Lets time pass. */
static inline void rig_pass(struct rig *r, uint64_t ns)
{
	uint64_t end = rig_now(r) + ns;

	while (rig_now(r) < end) {
		int64_t left = (int64_t)(end - rig_now(r));

		if (r->w->timeout_ns < 0 || r->w->timeout_ns > left)
			r->w->timeout_ns = left;
		A(rig_turn(r));
		if (rig_quiet(r) && r->w->timeout_ns < 0)
			sim_env_advance(r->env, end - rig_now(r));
	}
	rig_run(r);
}

static inline int rig_connect(struct rig *r)
{
	int fd = sim_sock_connect(r->env, r->listener.fd);

	A(fd >= 0);
	return fd;
}

/* How many bytes the socket took. */
static inline size_t rig_send(struct rig *r, int fd, const void *bytes, size_t n)
{
	int32_t did = sim_sock_send(r->env, fd, bytes, (uint32_t)n);

	return did > 0 ? (size_t)did : 0;
}

/* All of it, however small the socket. */
static inline void rig_send_all(struct rig *r, int fd, const void *bytes, size_t n)
{
	size_t at = 0;

	for (;;) {
		at += rig_send(r, fd, (const char *)bytes + at, n - at);
		if (at == n)
			return;
		rig_run(r);
	}
}

static inline int32_t rig_recv(struct rig *r, int fd, void *buf, uint32_t room)
{
	return sim_sock_recv(r->env, fd, buf, room);
}

static inline unsigned rig_conns(const struct rig *r)
{
	return atomic_load(&r->net.conn_n);
}

/* As net_stop() does; the clients' ends must be closed after. */
static inline void rig_stop(struct rig *r)
{
	atomic_store(&r->net.stage, NET_DRAINING);
	io_wake(r->w->io);
	while (!r->w->gone)
		A(rig_turn(r));
	A(rig_conns(r) == 0);
	atomic_store(&r->net.stage, NET_CLOSING);
	while (rig_turn(r))
		;
	worker__close(r->w);
}

static inline void rig_free(struct rig **rp)
{
	struct rig *r = *rp;

	*rp = NULL;
	store_close(&r->store);
	address__close(&r->net);
	sim_sock_close(r->env, r->listener.fd, false);
	sim_env_free(&r->env);
	free(r->net.worker);
	pthread_cond_destroy(&r->net.changed);
	pthread_mutex_destroy(&r->net.lock);
	free(r);
}

static inline void rig_close(struct rig **rp)
{
	rig_stop(*rp);
	rig_free(rp);
}

#endif
