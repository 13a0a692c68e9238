/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits of a connection in virtual time: who trickles a request or takes an answer in drops, who asks nothing,
 * who has too much under way while memory for input is short.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "tests/unit/net_rig.h"

#define MINUTE (60 * NS_PER_S)

static uint64_t counter(_Atomic uint64_t *c)
{
	return atomic_load(c);
}

/* Sends text and wants exactly this answer. */
static void ask(struct rig *r, int fd, const char *text, const char *want)
{
	char got[4096];
	int32_t n;

	rig_send_all(r, fd, text, strlen(text));
	rig_run(r);
	n = rig_recv(r, fd, got, sizeof got - 1);
	got[n > 0 ? n : 0] = '\0';
	assert_string_equal(got, want);
}

static bool open_still(struct rig *r, int fd)
{
	return sim_sock_recv(r->env, fd, &(char){0}, 1) == -EAGAIN;
}

static void store_value(struct rig *r, const char *key, size_t n)
{
	char line[64], *value = malloc(n + 2);
	int fd = rig_connect(r);

	assert_non_null(value);
	memset(value, 'v', n);
	memcpy(value + n, "\r\n", 2);
	snprintf(line, sizeof line, "set %s 0 0 %zu\r\n", key, n);
	rig_send_all(r, fd, line, strlen(line));
	rig_send_all(r, fd, value, n + 2);
	ask(r, fd, "", "STORED\r\n");
	sim_sock_close(r->env, fd, false);
	rig_run(r);
	free(value);
}

/* Sends byte by byte, one each step; how long until the daemon hung up, at most max. */
static uint64_t trickle(struct rig *r, int fd, const char *head, char body, uint64_t step,
			uint64_t max)
{
	uint64_t begin = rig_now(r);

	for (size_t i = 0; rig_now(r) - begin < max; i++) {
		char c = i < strlen(head) ? head[i] : body;

		if (!open_still(r, fd))
			break;
		rig_send(r, fd, &c, 1);
		rig_pass(r, step);
	}
	return rig_now(r) - begin;
}

static void slow_requests(void **state)
{
	static const char *const heads[] = {"set k 0 0 100000\r\n",
					    "set k 0 0 5000\r\n",
					    "append k 0 0 90000\r\n",
					    "set k 0 -1 90000\r\n",
					    "gggg",
					    "get k"};
	const struct net_config nc = {.request_ns = MINUTE};

	(void)state;
	for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
		struct rig *r = rig_open(1, NULL, &nc);
		int slow = rig_connect(r), other = rig_connect(r);
		uint64_t took;

		/* four bytes a second are progress, but not enough */
		took = trickle(r, slow, heads[i], 'x', NS_PER_S / 4, 5 * MINUTE);
		assert_in_range(took, MINUTE, MINUTE + 10 * NS_PER_S);
		assert_int_equal(counter(&r->w->count.slow_connections), 1);
		assert_int_equal(counter(&r->w->count.stalled_connections), 0);
		assert_int_equal(rig_conns(r), 1);
		ask(r, other, "mn\r\n", "MN\r\n");
		sim_sock_close(r->env, slow, false);
		sim_sock_close(r->env, other, false);
		rig_close(&r);
	}
}

/* A minute is of one request: who goes on to the next has another. */
static void many_requests(void **state)
{
	const struct net_config nc = {.request_ns = MINUTE};
	struct rig *r = rig_open(2, NULL, &nc);
	int fd = rig_connect(r);

	(void)state;
	for (int i = 0; i < 8; i++) {
		rig_send(r, fd, "m", 1);
		rig_pass(r, 20 * NS_PER_S);
		rig_send(r, fd, "n", 1);
		rig_pass(r, 20 * NS_PER_S);
		ask(r, fd, "\r\n", "MN\r\n");
	}
	/* half a line, silently: not stalled, but a request that takes too long */
	rig_send(r, fd, "m", 1);
	rig_pass(r, 50 * NS_PER_S);
	assert_true(open_still(r, fd));
	rig_pass(r, 15 * NS_PER_S);
	assert_int_equal(rig_conns(r), 0);
	assert_int_equal(counter(&r->w->count.slow_connections), 1);
	sim_sock_close(r->env, fd, false);
	rig_close(&r);
}

/* A slow body that keeps up is taken to its end, however long that is. */
static void slow_enough(void **state)
{
	const struct net_config nc = {.request_ns = 5 * NS_PER_S};
	struct rig *r = rig_open(3, NULL, &nc);
	char some[2000];
	int fd = rig_connect(r);

	(void)state;
	memset(some, 'x', sizeof some);
	rig_send(r, fd, "set k 0 0 1000000\r\n", 19);
	for (int i = 0; i < 500; i++) {
		assert_int_equal(rig_send(r, fd, some, sizeof some), sizeof some);
		rig_pass(r, 100 * NS_PER_MS); /* 20 kB a second */
	}
	ask(r, fd, "\r\n", "STORED\r\n");
	assert_int_equal(counter(&r->w->count.slow_connections), 0);
	sim_sock_close(r->env, fd, false);
	rig_close(&r);
}

/* Asks for v, of a million bytes, and takes step bytes each 400 ms, until that is all or it is closed. For how long? */
static uint64_t take_slowly(struct rig *r, int fd, uint32_t step)
{
	uint64_t begin;
	char some[8000];
	int32_t n;

	rig_send(r, fd, "get v\r\n", 7);
	rig_run(r);
	begin = rig_now(r);
	do {
		n = sim_sock_recv(r->env, fd, some, step);
		rig_pass(r, 400 * NS_PER_MS);
	} while (rig_conns(r) == 1 && n > 0);
	return rig_now(r) - begin;
}

static void slow_taking(void **state)
{
	static const struct sim_config sc = {.sock_bytes = 20000};
	const struct net_config nc = {.request_ns = 5 * NS_PER_S};

	(void)state;
	for (int fast = 0; fast < 2; fast++) {
		struct rig *r = rig_open(4, &sc, &nc);
		uint64_t took;
		int fd;

		store_value(r, "v", 1000000);
		fd = rig_connect(r);
		took = take_slowly(r, fd, fast ? 8000 : 100); /* 20 kB or 250 bytes a second */
		assert_int_equal(counter(&r->w->count.slow_connections), fast ? 0 : 1);
		assert_int_equal(rig_conns(r), fast);
		if (!fast)
			assert_in_range(took, 5 * NS_PER_S, 12 * NS_PER_S);
		sim_sock_close(r->env, fd, false);
		rig_close(&r);
	}
}

/*
 * The same on a unix socket, of which is known only what is done. A receive is ended to know it; who takes an answer may
 * take as long as for all that is under way.
 */
static void slow_local(void **state)
{
	static const struct sim_config sc = {.sock_bytes = 20000};
	const struct net_config nc = {.request_ns = 5 * NS_PER_S};
	const uint64_t most = 5 * NS_PER_S + (1u << 20) * (NS_PER_S / SLOW_RATE);
	char some[8000];

	(void)state;
	memset(some, 'x', sizeof some);
	for (int fast = 0; fast < 2; fast++) {
		struct rig *r = rig_open(11, &sc, &nc);
		size_t step = fast ? 8000 : 100, n = 0;
		uint64_t begin, took;
		int fd;

		r->listener.port = 0;
		fd = rig_connect(r);
		rig_send(r, fd, "set v 0 0 1000000\r\n", 19);
		begin = rig_now(r);
		do { /* 20 kB or 250 bytes a second */
			n += rig_send(r, fd, some, 1000000 - n < step ? 1000000 - n : step);
			rig_pass(r, 400 * NS_PER_MS);
		} while (rig_conns(r) == 1 && n < 1000000);
		assert_int_equal(rig_conns(r), fast);
		if (fast)
			ask(r, fd, "\r\n", "STORED\r\n");
		else
			assert_in_range(rig_now(r) - begin, 5 * NS_PER_S, 15 * NS_PER_S);
		sim_sock_close(r->env, fd, false);
		rig_run(r);
		if (!fast)
			store_value(r, "v", 1000000);
		fd = rig_connect(r);
		took = take_slowly(r, fd, (uint32_t)step);
		assert_int_equal(rig_conns(r), fast);
		if (!fast)
			assert_in_range(took, 5 * NS_PER_S, most + 10 * NS_PER_S);
		sim_sock_close(r->env, fd, false);
		rig_close(&r);
	}
}

/* Of a value that comes on a unix socket: a daemon that had no CPU for a while does not blame the client for it. */
static void local_after_a_pause(void **state)
{
	char some[500];
	struct rig *r;
	int sends, waits;

	(void)state;
	memset(some, 'x', sizeof some);
	setenv("STORE_MEM_BUFFERS", "1", 1);
	r = rig_open(12, NULL, NULL);
	r->listener.port = 0;
	sends = rig_connect(r), waits = rig_connect(r);
	rig_send(r, sends, "set v 0 0 150000\r\n", 18);
	rig_run(r);
	rig_send(r, waits, "set w 0 0 5000\r\n", 16);
	for (int i = 0; i < 300; i++) { /* 10 kB a second */
		assert_int_equal(rig_send(r, sends, some, sizeof some), sizeof some);
		if (i > 50 && i < 62)
			sim_env_advance(r->env, 50 * NS_PER_MS);
		else
			rig_pass(r, 50 * NS_PER_MS);
	}
	ask(r, sends, "\r\n", "STORED\r\n");
	assert_int_equal(counter(&r->w->count.stalled_connections), 0);
	sim_sock_close(r->env, sends, false);
	sim_sock_close(r->env, waits, false);
	rig_close(&r);
	unsetenv("STORE_MEM_BUFFERS");
}

/* Time in which the client waits for us is not its own: the store takes up to a minute for each step. */
static void waits_for_us(void **state)
{
	const struct net_config nc = {.request_ns = 5 * NS_PER_S};
	struct rig *r;
	int fd;

	(void)state;
	setenv("STORE_MEM_ASYNC", "100", 1);
	setenv("STORE_MEM_DELAY_US", "60000000", 1);
	r = rig_open(5, NULL, &nc);
	fd = rig_connect(r);
	rig_send(r, fd, "set k 0 0 5\r\nab", 15);
	do /* the place for the body is waited for */
		rig_pass(r, 100 * NS_PER_MS);
	while (r->w->conns->in != IN_BODY);
	rig_pass(r, 4 * NS_PER_S);
	rig_send(r, fd, "cde\r\nget k\r\n", 12);
	rig_pass(r, 3 * MINUTE);
	ask(r, fd, "", "STORED\r\nVALUE k 0 5\r\nabcde\r\nEND\r\n");
	assert_int_equal(counter(&r->w->count.slow_connections), 0);
	sim_sock_close(r->env, fd, false);
	rig_close(&r);
	unsetenv("STORE_MEM_ASYNC");
	unsetenv("STORE_MEM_DELAY_US");
}

static void idle(void **state)
{
	const struct net_config nc = {.idle_ns = 10 * NS_PER_S};
	struct rig *r = rig_open(6, NULL, &nc);
	int silent = rig_connect(r), asks = rig_connect(r), half = rig_connect(r);

	(void)state;
	rig_send(r, half, "set k 0 0 3\r\na", 14);
	for (int i = 0; i < 30; i++) {
		ask(r, asks, "mn\r\n", "MN\r\n");
		if (i % 5 == 0 && i < 25)
			rig_send(r, half, i == 0 ? "b" : "", i == 0);
		rig_pass(r, 300 * NS_PER_MS);
	}
	assert_int_equal(rig_conns(r), 3);
	for (int i = 0; i < 10; i++) {
		ask(r, asks, "mn\r\n", "MN\r\n");
		rig_pass(r, 300 * NS_PER_MS);
	}
	/* who has begun a request is not idle: the other limits are about that one */
	assert_int_equal(counter(&r->w->count.idle_kicks), 1);
	assert_int_equal(sim_sock_recv(r->env, silent, &(char){0}, 1), 0);
	rig_pass(r, 20 * NS_PER_S);
	assert_int_equal(counter(&r->w->count.idle_kicks), 2);
	assert_int_equal(rig_conns(r), 0);
	sim_sock_close(r->env, silent, false);
	sim_sock_close(r->env, asks, false);
	sim_sock_close(r->env, half, false);
	rig_close(&r);
}

/* The most that was held in a run. */
static uint64_t held_max;
static void look(struct rig *r)
{
	uint64_t n = atomic_load(&r->w->held);

	held_max = n > held_max ? n : held_max;
}

/*
 * Many who ask for a lot and take nothing: memory for requests and short answers stays near its limit, and
 * one who takes its answers has all of them, in order.
 */
static void tight(void **state)
{
	enum { DEAF = 40, LIMIT = 1 << 20 };
	static const struct sim_config sc = {.sock_bytes = 4000};
	const struct net_config nc = {.conn_bytes = LIMIT};
	struct rig *r = rig_open(7, &sc, &nc);
	int deaf[DEAF], fd;
	char got[4000];
	size_t n = 0, one = strlen("VALUE v 0 900\r\n") + 900 + strlen("\r\nEND\r\n");
	int32_t did;

	(void)state;
	store_value(r, "v", 900);
	r->look = look;
	held_max = 0;
	for (int i = 0; i < DEAF; i++) {
		deaf[i] = rig_connect(r);
		for (int k = 0; k < 200; k++) {
			rig_send(r, deaf[i], "get v\r\n", 7);
			rig_turn(r);
		}
	}
	fd = rig_connect(r);
	for (int k = 0; k < 100; k++)
		rig_send_all(r, fd, "get v\r\n", 7);
	for (int k = 0; k < 4000 && n < 100 * one; k++) {
		rig_run(r);
		did = rig_recv(r, fd, got, sizeof got);
		n += did > 0 ? (size_t)did : 0;
	}
	assert_int_equal(n, 100 * one);
	/* above the limit each may have one request, its answer and a little input */
	assert_in_range(held_max, LIMIT / 2, LIMIT + DEAF * (sizeof(struct out) + 4096));
	/* they take nothing, so some are closed before their ten seconds are over */
	rig_pass(r, 3 * NS_PER_S);
	assert_in_range(counter(&r->w->count.stalled_connections), 1, DEAF);
	assert_true(atomic_load(&r->w->held) <= LIMIT);
	for (int i = 0; i < DEAF; i++)
		sim_sock_close(r->env, deaf[i], false);
	sim_sock_close(r->env, fd, false);
	rig_run(r);
	assert_int_equal(atomic_load(&r->w->held), 0);
	rig_close(&r);
}

/* As long as that of a daemon. */
static bool long_stats(void *arg, const char *group, size_t n, struct text *out)
{
	(void)arg;
	(void)group;
	(void)n;
	for (unsigned i = 0; i < 200; i++)
		text_printf(out, "STAT a_name_of_what_is_counted %u\r\n", i);
	text_add(out, "END\r\n", 5);
	return true;
}

/* Replies that wait for their clients. */
static uint64_t waiting_max;
static void look_at_replies(struct rig *r)
{
	uint64_t n = 0;

	for (const struct conn *c = r->w->conns; c != NULL; c = c->next)
		n += c->out_bytes;
	waiting_max = n > waiting_max ? n : waiting_max;
}

/* The same of replies to `stats`, by clients that have taken some before: their windows are wide. */
static void tight_stats(void **state)
{
	enum { DEAF = 40, LIMIT = 1 << 20 };
	static const struct sim_config sc = {.sock_bytes = 4000};
	static const unsigned char packet[24] = {0x80, 0x10};
	const struct net_config nc = {.conn_bytes = LIMIT};
	char got[4000];

	(void)state;
	for (int binary = 0; binary < 2; binary++) {
		struct rig *r = rig_open(10, &sc, &nc);
		const void *ask = binary ? (const void *)packet : "stats\r\n";
		size_t one = binary ? sizeof packet : 7;
		int deaf[DEAF];

		r->net.cfg.stats = long_stats;
		r->look = look_at_replies;
		waiting_max = 0;
		for (int i = 0; i < DEAF; i++) {
			deaf[i] = rig_connect(r);
			for (int k = 0; k < 8; k++) {
				rig_send_all(r, deaf[i], ask, one);
				for (rig_run(r); rig_recv(r, deaf[i], got, sizeof got) > 0;)
					rig_run(r);
			}
		}
		for (int i = 0; i < DEAF; i++)
			for (int k = 0; k < 200; k++) {
				rig_send(r, deaf[i], ask, one);
				rig_turn(r);
			}
		/* above the limit each may have one */
		assert_in_range(waiting_max, LIMIT / 4, LIMIT + DEAF * 8192);
		rig_pass(r, 3 * NS_PER_S);
		assert_in_range(counter(&r->w->count.stalled_connections), 1, DEAF);
		assert_true(atomic_load(&r->w->held) <= LIMIT);
		for (int i = 0; i < DEAF; i++)
			sim_sock_close(r->env, deaf[i], false);
		rig_run(r);
		assert_int_equal(atomic_load(&r->w->held), 0);
		rig_close(&r);
	}
}

/* What costs much is a turn's worth, however many are asked for at once. */
static void turns(void **state)
{
	static const struct {
		const char *ask;
		unsigned n, least, most;
	} all[] = {{"version\r\n", 50, 2, 3}, {"stats\r\n", 50, 50, 51}};

	(void)state;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		struct rig *r = rig_open(9, NULL, NULL);
		int fd = rig_connect(r);
		char text[1024] = "", got[4096];

		for (unsigned k = 0; k < all[i].n; k++)
			strcat(text, all[i].ask);
		rig_send_all(r, fd, text, strlen(text));
		for (rig_run(r); rig_recv(r, fd, got, sizeof got) > 0;)
			rig_run(r);
		assert_in_range(counter(&r->w->count.yields), all[i].least, all[i].most);
		sim_sock_close(r->env, fd, false);
		rig_close(&r);
	}
}

/* All clients of the rig come from one address. */
static void by_address(void **state)
{
	const struct net_config nc = {.per_address = 2};
	struct rig *r = rig_open(8, NULL, &nc);
	static const char told[] = "ERROR Too many open connections\r\n";
	int a = rig_connect(r), b = rig_connect(r), c = rig_connect(r);

	(void)state;
	rig_run(r);
	ask(r, c, "", told);
	assert_int_equal(counter(&r->w->count.rejected_addresses), 1);
	assert_int_equal(rig_conns(r), 2);
	sim_sock_close(r->env, c, false);
	sim_sock_close(r->env, a, false);
	rig_run(r);
	a = rig_connect(r);
	ask(r, a, "mn\r\n", "MN\r\n");
	ask(r, b, "mn\r\n", "MN\r\n");
	sim_sock_close(r->env, a, false);
	sim_sock_close(r->env, b, false);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(slow_requests), cmocka_unit_test(many_requests),
	    cmocka_unit_test(slow_enough),   cmocka_unit_test(slow_taking),
	    cmocka_unit_test(waits_for_us),  cmocka_unit_test(idle),
	    cmocka_unit_test(tight),         cmocka_unit_test(by_address),
	    cmocka_unit_test(turns),         cmocka_unit_test(slow_local),
	    cmocka_unit_test(tight_stats),   cmocka_unit_test(local_after_a_pause),
	};

	return cmocka_run_group_tests_name("net-limits", tests, NULL, NULL);
}
