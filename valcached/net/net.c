/* SPDX-License-Identifier: Apache-2.0 */
/* Start, stop and the counters of net; see net.h. The main thread, save the readers. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "valcached/net/auth.h"
#include "valcached/net/tls_int.h"

int net_open(const struct net_config *cfg, struct net **netp, char **cause)
{
	struct net *net = calloc(1, sizeof *net);
	int rc;

	if (net == NULL)
		return -ENOMEM;
	A(cfg->workers > 0 && cfg->connections > 0 && cfg->turn_requests > 0);
	net->magic = NET_MAGIC;
	net->cfg = *cfg;
	net->start_ns = clock_ns();
	net->held_max = cfg->conn_bytes / cfg->workers;
	pthread_mutex_init(&net->lock, NULL);
	pthread_cond_init(&net->changed, NULL);
	rc = cfg->auth_file != NULL ? auth_open(cfg->auth_file, &net->auth, cause) : 0;
	if (rc == 0)
		rc = address__open(net);
	if (rc == 0)
		rc = tls__open(net, cause);
	if (rc == 0)
		rc = net__listen(net, cause);
	if (rc != 0) {
		net_close(&net);
		return rc;
	}
	*netp = net;
	return 0;
}

void net_reload(struct net *net)
{
	char *cause = NULL;
	int rc;

	MAGIC_OK(net, NET_MAGIC);
	if (net->auth != NULL) {
		rc = auth_load(net->auth, &cause);
		if (rc == 0)
			log_info("read users and passwords again: %u lines", auth_users(net->auth));
		else
			log_error("%s; the users of before stay",
				  cause != NULL ? cause : strerror(-rc));
		free(cause);
		cause = NULL;
	}
	if (net->tls != NULL)
		(void)tls__reload(net, &cause); /* says what is wrong */
	free(cause);
}

/*
 * The loops of all, before any thread gives memory to its own: what a ring itself needs and what it
 * registers count against one limit.
 */
static int open_loops(struct net *net, char **cause)
{
	int rc = 0;

	for (unsigned i = 0; i <= net->cfg.workers && rc == 0; i++) {
		struct worker *w = &net->worker[i];

		w->magic = WORKER_MAGIC;
		w->id = i;
		w->net = net;
		rc = worker__loop(w, i < net->cfg.workers);
		if (rc != 0)
			*cause = w->start_cause;
	}
	return rc;
}

/* Of threads that did not come to be. */
static void close_loops(struct net *net)
{
	for (unsigned i = 0; i <= net->cfg.workers; i++)
		if (net->worker[i].io != NULL)
			io_close(&net->worker[i].io);
}

/* Starts thread id and waits until it is ready or has failed. */
static int start_one(struct net *net, unsigned id, char **cause)
{
	struct worker *w = &net->worker[id];
	int rc;

	rc = pthread_create(&w->thread, NULL,
			    id < net->cfg.workers ? worker__main : worker__slow_main, w);
	if (rc != 0)
		return -rc;
	pthread_mutex_lock(&net->lock);
	while (!w->started)
		pthread_cond_wait(&net->changed, &net->lock);
	pthread_mutex_unlock(&net->lock);
	if (w->start_rc != 0) {
		pthread_join(w->thread, NULL);
		w->started = false;
		*cause = w->start_cause;
	}
	return w->start_rc;
}

static void wake_all(struct net *net)
{
	pthread_mutex_lock(&net->lock);
	for (unsigned i = 0; i <= net->cfg.workers; i++)
		if (net->worker[i].started && net->worker[i].io != NULL)
			io_wake(net->worker[i].io);
	pthread_mutex_unlock(&net->lock);
}

int net_start(struct net *net, const struct io_engine *engine, struct store *store, char **cause)
{
	unsigned n = net->cfg.workers;
	int rc;

	MAGIC_OK(net, NET_MAGIC);
	net->engine = engine;
	net->store = store;
	net->worker = aligned_alloc(64, (n + 1) * sizeof *net->worker);
	if (net->worker == NULL)
		return -ENOMEM;
	memset(net->worker, 0, (n + 1) * sizeof *net->worker);
	rc = open_loops(net, cause);
	for (unsigned i = n + 1; i-- > 0 && rc == 0;)
		rc = start_one(net, i, cause);
	if (rc != 0) {
		net_stop(net, 0);
		close_loops(net);
	}
	return rc;
}

static bool all_gone(struct net *net)
{
	for (unsigned i = 0; i < net->cfg.workers; i++)
		if (net->worker[i].started && !net->worker[i].gone)
			return false;
	/* one may be in a mailbox still */
	return atomic_load(&net->conn_n) == 0;
}

/* Waits until no connection is left, or bound_ns have passed (UINT64_MAX: no bound). */
static bool wait_gone(struct net *net, uint64_t bound_ns)
{
	uint64_t begin = clock_ns();
	struct timespec ts;
	bool gone;

	pthread_mutex_lock(&net->lock);
	while (!(gone = all_gone(net)) && clock_ns() - begin < bound_ns) {
		/* the count of connections is not signalled: look again soon */
		clock_gettime(CLOCK_REALTIME, &ts);
		ts.tv_nsec += 5000000;
		if (ts.tv_nsec >= (long)NS_PER_S) {
			ts.tv_nsec -= (long)NS_PER_S;
			ts.tv_sec++;
		}
		pthread_cond_timedwait(&net->changed, &net->lock, &ts);
	}
	pthread_mutex_unlock(&net->lock);
	return gone;
}

static void to_stage(struct net *net, enum net_stage stage)
{
	atomic_store(&net->stage, stage);
	wake_all(net);
}

void net_serve(struct net *net)
{
	MAGIC_OK(net, NET_MAGIC);
	to_stage(net, NET_SERVING);
}

void net_stop(struct net *net, uint64_t bound_ns)
{
	struct worker *slow;

	MAGIC_OK(net, NET_MAGIC);
	if (net->worker == NULL)
		return;
	to_stage(net, NET_DRAINING);
	if (!wait_gone(net, bound_ns)) {
		log_warn("%u connections were still busy and are closed",
			 atomic_load(&net->conn_n));
		to_stage(net, NET_KILLING);
		wait_gone(net, UINT64_MAX);
	}
	to_stage(net, NET_CLOSING);
	for (unsigned i = 0; i < net->cfg.workers; i++)
		if (net->worker[i].started) {
			AZ(pthread_join(net->worker[i].thread, NULL));
			net->worker[i].started = false;
		}
	slow = &net->worker[net->cfg.workers];
	to_stage(net, NET_SLOW_STOP);
	if (slow->started) {
		AZ(pthread_join(slow->thread, NULL));
		slow->started = false;
	}
	AZ(atomic_load(&net->conn_n));
}

void net_close(struct net **netp)
{
	struct net *net = *netp;

	*netp = NULL;
	MAGIC_OK(net, NET_MAGIC);
	net__unlisten(net);
	auth_close(&net->auth);
	address__close(net);
	tls__close(net);
	free(net->worker);
	pthread_cond_destroy(&net->changed);
	pthread_mutex_destroy(&net->lock);
	net->magic = 0;
	free(net);
}

uint64_t net_tls_age(const struct net *net)
{
	return net->tls != NULL ? tls__age(net) : 0;
}

uint16_t net_port(const struct net *net, unsigned i)
{
	return i < net->listener_n ? net->listener[i].port : 0;
}

const struct net_config *net_config(const struct net *net)
{
	return &net->cfg;
}

struct store *net_store(const struct net *net)
{
	return net->store;
}

uint64_t net_uptime(const struct net *net)
{
	return (clock_ns() - net->start_ns) / NS_PER_S;
}

const struct io_counters *net_io_counters(const struct net *net, unsigned id)
{
	return net->worker != NULL && id <= net->cfg.workers && net->worker[id].io != NULL
		   ? &net->worker[id].io->count
		   : NULL;
}

static void sum(const struct net *net, struct net_counters *out)
{
	memset(out, 0, sizeof *out);
	for (unsigned i = 0; net->worker != NULL && i < net->cfg.workers; i++) {
		const struct worker_counters *from = &net->worker[i].count;

#define X(n, s) out->n += atomic_load_explicit(&from->n, memory_order_relaxed);
		NET_COUNTERS(X)
#undef X
	}
}

void net_counters(const struct net *net, struct net_counters *out)
{
	struct net *unlocked = (struct net *)(uintptr_t)net;

	pthread_mutex_lock(&unlocked->lock); /* also the sum: it must not be older than the base */
	sum(net, out);
#define X(n, s) out->n -= net->base.n;
	NET_COUNTERS(X)
#undef X
	pthread_mutex_unlock(&unlocked->lock);
	out->curr_connections = atomic_load_explicit(&net->conn_n, memory_order_relaxed);
	out->conn_bytes = 0;
	for (unsigned i = 0; net->worker != NULL && i < net->cfg.workers; i++)
		out->conn_bytes += atomic_load_explicit(&net->worker[i].held, memory_order_relaxed);
	out->accepting = atomic_load_explicit(&net->accepting, memory_order_relaxed);
}

void net_reset(struct net *net)
{
	pthread_mutex_lock(&net->lock);
	sum(net, &net->base);
	pthread_mutex_unlock(&net->lock);
	store_stats_reset(net->store);
}
