/* SPDX-License-Identifier: Apache-2.0 */
/* The epoll loop of a client thread; see worker.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "bench/valbench/value.h"
#include "bench/valbench/worker.h"

#define IN_SIZE    (256u << 10)
#define EVENTS_MAX 256
#define DRAW       64 /* operations drawn from a shared counter at once */

/* --- what to do next ------------------------------------------------------------------------ */

static bool draw_load(struct worker *w, struct key *key)
{
	struct keyspace *ks = &w->run->opt->keys;

	if (w->load_at == w->load_upto) {
		w->load_at = atomic_fetch_add(&w->run->load_next, DRAW);
		if (w->load_at >= ks->n) {
			w->load_upto = w->load_at;
			return false;
		}
		w->load_upto = w->load_at + DRAW < ks->n ? w->load_at + DRAW : ks->n;
	}
	*key = keyspace_nth(ks, w->load_at++);
	hist_bump_(&w->loaded, 1);
	return true;
}

static bool draw_op(struct worker *w)
{
	if (w->run->opt->ops == 0 || w->phase != PHASE_MEASURE)
		return true;
	if (w->ops_held == 0) {
		int64_t left = atomic_fetch_sub(&w->run->ops_left, DRAW);

		w->ops_held = left <= 0 ? 0 : left < DRAW ? left : DRAW;
		if (w->ops_held == 0)
			return false;
	}
	w->ops_held--;
	return true;
}

/* Issues one operation on c; false when this phase has none. */
static bool issue_one(struct worker *w, struct conn *c, uint64_t start_ns)
{
	const struct options *o = w->run->opt;
	enum op_kind kind = OP_SET;
	struct key key;

	switch (w->phase) {
	case PHASE_LOAD:
		if (!draw_load(w, &key))
			return false;
		break;
	case PHASE_WARMUP:
	case PHASE_MEASURE:
		if (!draw_op(w))
			return false;
		if (c->fill_head != c->fill_tail) {
			key = c->fills[c->fill_head++ & c->mask];
			break;
		}
		if (o->set_share == 0 ||
		    (o->get_share > 0 &&
		     key_random(&c->cursor) % (o->get_share + o->set_share) < o->get_share))
			kind = OP_GET;
		key = keyspace_next(&w->run->opt->keys, &c->cursor, kind == OP_SET);
		break;
	default:
		return false;
	}
	conn_issue(c, kind, key, start_ns);
	return true;
}

/* --- the socket ----------------------------------------------------------------------------- */

static void watch(struct worker *w, struct conn *c, bool write)
{
	struct epoll_event ev = {.events = EPOLLIN | (write ? EPOLLOUT : 0u), .data.ptr = c};

	if (c->want_write == write)
		return;
	c->want_write = write;
	AZ(epoll_ctl(w->epfd, EPOLL_CTL_MOD, c->fd, &ev));
}

static void push(struct worker *w, struct conn *c)
{
	int rc;

	if (c->state == CONN_DEAD)
		return;
	rc = conn_send(c, w->out);
	if (rc >= 0)
		watch(w, c, rc == 1);
}

static void refill(struct worker *w, struct conn *c, uint64_t now_ns)
{
	if (w->interval_ns == 0 || w->phase == PHASE_LOAD)
		while (conn_has_room(c) && issue_one(w, c, now_ns))
			;
	push(w, c);
}

static void take(struct worker *w, struct conn *c)
{
	ssize_t n;
	uint64_t now;

	do
		n = recv(c->fd, w->in, IN_SIZE, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return;
	if (n <= 0) {
		conn_lose(c, n == 0 ? "the server closed it" : strerror(errno));
		return;
	}
	now = w->heard_ns = clock_ns();
	if (conn_receive(c, w->in, (size_t)n, now) > 0)
		refill(w, c, now);
}

/* --- the loop ------------------------------------------------------------------------------- */

/* Operations at a rate: gives what is due to connections with room, each in its turn. */
static void issue_due(struct worker *w, uint64_t now_ns)
{
	unsigned full = 0;

	while (w->due_ns <= now_ns && full < w->conns_count) {
		struct conn *c = &w->conns[w->turn];

		w->turn = w->turn + 1 == w->conns_count ? 0 : w->turn + 1;
		if (!conn_has_room(c)) {
			full++;
			continue;
		}
		if (!issue_one(w, c, w->due_ns))
			return;
		full = 0;
		w->due_ns += w->interval_ns;
	}
	for (unsigned i = 0; i < w->conns_count; i++)
		if (w->conns[i].sent != w->conns[i].tail && !w->conns[i].want_write)
			push(w, &w->conns[i]);
}

static void set_counting(struct worker *w, bool counting)
{
	struct conn_stats *to = counting ? &w->stats : &w->discard;

	/* errors outside the measured phase count too: they make the run fail */
	for (unsigned i = 0; i < w->conns_count; i++)
		w->conns[i].stats = to;
	w->counting = counting;
}

static void enter_phase(struct worker *w, int phase)
{
	uint64_t now = clock_ns();

	if (w->counting)
		w->end_ns = now;
	set_counting(w, phase == PHASE_MEASURE);
	w->phase = phase;
	w->due_ns = now;
	w->heard_ns = now;
	if (phase == PHASE_MEASURE)
		w->begin_ns = now;
	for (unsigned i = 0; i < w->conns_count; i++) {
		if (phase == PHASE_DRAIN)
			w->conns[i].fill_head = w->conns[i].fill_tail;
		refill(w, &w->conns[i], now);
	}
}

static bool in_flight(const struct worker *w)
{
	for (unsigned i = 0; i < w->conns_count; i++)
		if (w->conns[i].state != CONN_DEAD && conn_in_flight(&w->conns[i]) > 0)
			return true;
	return false;
}

static bool all_dead(const struct worker *w)
{
	for (unsigned i = 0; i < w->conns_count; i++)
		if (w->conns[i].state != CONN_DEAD)
			return false;
	return true;
}

/* Nothing in flight and nothing more to come in this phase. */
static bool is_idle(const struct worker *w)
{
	bool none = w->phase == PHASE_DRAIN ||
		    (w->phase == PHASE_LOAD && w->load_at == w->load_upto &&
		     atomic_load(&w->run->load_next) >= w->run->opt->keys.n) ||
		    (w->phase == PHASE_MEASURE && w->run->opt->ops > 0 && w->ops_held == 0 &&
		     atomic_load(&w->run->ops_left) <= 0);

	return w->phase != PHASE_START && (all_dead(w) || (none && !in_flight(w)));
}

static void check_stall(struct worker *w, uint64_t now)
{
	if ((double)(now - w->heard_ns) < w->run->opt->timeout_s * 1e9)
		return;
	if (!in_flight(w)) {
		w->heard_ns = now;
		return;
	}
	for (unsigned i = 0; i < w->conns_count; i++)
		if (conn_in_flight(&w->conns[i]) > 0)
			conn_lose(&w->conns[i], "no answer within --timeout");
}

/* How long to sleep: until something is due, at most PHASE_POLL_MS. */
static struct timespec sleep_span(const struct worker *w, uint64_t now)
{
	uint64_t ns = PHASE_POLL_MS * NS_PER_MS;

	if (w->interval_ns > 0 && (w->phase == PHASE_WARMUP || w->phase == PHASE_MEASURE)) {
		/* what is overdue waits for a connection with room, that is, for an answer */
		if (w->due_ns > now && w->due_ns - now < ns)
			ns = w->due_ns - now;
	}
	return (struct timespec){.tv_sec = 0, .tv_nsec = (long)ns};
}

static void *worker_loop(void *arg)
{
	struct worker *w = arg;
	struct epoll_event events[EVENTS_MAX];
	uint64_t polled = 0;

	for (;;) {
		int phase = atomic_load(&w->run->phase), n;
		struct timespec span;
		uint64_t now;

		if (phase != w->phase)
			enter_phase(w, phase);
		now = clock_ns(); /* after what enter_phase() noted */
		if (w->interval_ns > 0 && (phase == PHASE_WARMUP || phase == PHASE_MEASURE))
			issue_due(w, now);
		if (now - polled > PHASE_POLL_MS * NS_PER_MS) {
			polled = now;
			check_stall(w, now);
		}
		if (atomic_load_explicit(&w->idle_in, memory_order_relaxed) != w->phase &&
		    is_idle(w)) {
			if (w->counting) {
				w->end_ns = w->heard_ns > w->begin_ns ? w->heard_ns : now;
				set_counting(w, false);
			}
			atomic_store(&w->idle_in, w->phase);
			if (w->phase == PHASE_DRAIN)
				return NULL;
		}
		span = sleep_span(w, clock_ns());
		n = epoll_pwait2(w->epfd, events, EVENTS_MAX, &span, NULL);
		if (n < 0) {
			A(errno == EINTR);
			continue;
		}
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if (c->state == CONN_DEAD) {
				epoll_ctl(w->epfd, EPOLL_CTL_DEL, c->fd, NULL);
				continue;
			}
			if (events[i].events & EPOLLOUT)
				push(w, c);
			if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				take(w, c);
		}
	}
}

int worker_start(struct worker *w, struct run *run)
{
	int rc;

	w->run = run;
	w->phase = PHASE_START;
	w->interval_ns = 0;
	if (run->opt->rate > 0)
		w->interval_ns =
		    (uint64_t)(1e9 * run->opt->connections / run->opt->rate / w->conns_count);
	w->in = malloc(IN_SIZE);
	w->out = malloc(CONN_OUT_SIZE);
	w->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (w->in == NULL || w->out == NULL || w->epfd < 0) {
		rc = w->epfd < 0 ? -errno : -ENOMEM;
		goto fail;
	}
	for (unsigned i = 0; i < w->conns_count; i++) {
		struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &w->conns[i]};

		w->conns[i].stats = &w->discard;
		AZ(epoll_ctl(w->epfd, EPOLL_CTL_ADD, w->conns[i].fd, &ev));
	}
	rc = -pthread_create(&w->thread, NULL, worker_loop, w);
	if (rc == 0)
		return 0;
fail:
	if (w->epfd >= 0)
		close(w->epfd);
	free(w->in);
	free(w->out);
	return rc;
}

void worker_stop(struct worker *w)
{
	AZ(pthread_join(w->thread, NULL));
	close(w->epfd);
	free(w->in);
	free(w->out);
	for (unsigned i = 0; i < w->conns_count; i++)
		conn_close(&w->conns[i]);
}
