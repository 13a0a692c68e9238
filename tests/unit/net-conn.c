/* SPDX-License-Identifier: Apache-2.0 */
/* Connections on simulated sockets: requests cut at every byte, short sends, resets, ends, silence. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "tests/unit/net_rig.h"

#define BIG 300000u

/* A text that grows. */
struct bytes {
	char *at;
	size_t n, room;
};

static void add(struct bytes *b, const void *p, size_t n)
{
	if (b->n + n > b->room) {
		b->room = (b->n + n) * 2;
		b->at = realloc(b->at, b->room);
		assert_non_null(b->at);
	}
	memcpy(b->at + b->n, p, n);
	b->n += n;
}

static void say(struct bytes *b, const char *s)
{
	add(b, s, strlen(s));
}

static void fill(struct bytes *b, char c, size_t n)
{
	char *p = malloc(n);

	assert_non_null(p);
	memset(p, c, n);
	add(b, p, n);
	free(p);
}

/* Takes what is there; true at the end of the stream. */
static bool take(struct rig *r, int fd, struct bytes *b)
{
	char buf[4096];
	int32_t n;

	while ((n = rig_recv(r, fd, buf, sizeof buf)) > 0)
		add(b, buf, (size_t)n);
	return n == 0 || n == -ECONNRESET;
}

/* Everything until nothing more comes; true at the end of the stream. */
static bool take_all(struct rig *r, int fd, struct bytes *b)
{
	size_t before;
	bool end;

	do {
		before = b->n;
		rig_run(r);
		end = take(r, fd, b);
	} while (b->n > before && !end);
	return end;
}

static void same(const struct bytes *got, const struct bytes *want)
{
	size_t n = got->n < want->n ? got->n : want->n, i = 0;

	while (i < n && got->at[i] == want->at[i])
		i++;
	if (i < n || got->n != want->n)
		fail_msg("differs at %zu of %zu (wanted %zu): \"%.*s\", wanted \"%.*s\"", i, got->n,
			 want->n, (int)(got->n - i > 60 ? 60 : got->n - i), got->at + i,
			 (int)(want->n - i > 60 ? 60 : want->n - i), want->at + i);
}

/* One of each kind, and what is answered. Each run is on a store that is empty. */
static void script(struct bytes *in, struct bytes *out, uint32_t big)
{
	char line[128];

	say(in, "get a\r\nset a 1 0 2\r\nAA\r\nget a\r\nget nope a a\r\n");
	say(out, "END\r\nSTORED\r\nVALUE a 1 2\r\nAA\r\nEND\r\n");
	say(out, "VALUE a 1 2\r\nAA\r\nVALUE a 1 2\r\nAA\r\nEND\r\n");
	say(in,
	    "set a 1 0 2 noreply\r\nBB\r\nadd b 0 0 0\r\n\r\nms c 3 Ok1 k\r\nCCC\r\nmg c v f k O9\r\n");
	say(out, "STORED\r\nHD Ok1 kc\r\nVA 3 f0 kc O9\r\nCCC\r\n");
	say(in,
	    "set a 0 0 3\r\ntoolong\r\nmn\r\nmg none v q\r\nmd c q\r\ndelete b\r\ntouch b 0\r\n");
	say(out, "CLIENT_ERROR bad data chunk\r\nERROR\r\nMN\r\nDELETED\r\nNOT_FOUND\r\n");
	say(in,
	    "set x 0 -1 3\r\nxxx\r\nincr a 1\r\nreplace a 0 0 1\r\nx\r\nbogus\r\ngat -1 a\r\nget a\r\n");
	say(out, "STORED\r\nSERVER_ERROR immutable: a stored value never changes\r\n"
		 "SERVER_ERROR immutable: a stored value never changes\r\nERROR\r\n"
		 "VALUE a 1 2\r\nAA\r\nEND\r\nEND\r\n");
	snprintf(line, sizeof line, "set big 7 0 %u\r\n", big);
	say(in, line);
	fill(in, 'b', big);
	snprintf(line, sizeof line, "\r\nset huge 0 0 %u\r\n", (1u << 20) + 1);
	say(in, line);
	fill(in, 'h', (1u << 20) + 1);
	say(in, "\r\nget big\r\nstats\r\nmn\r\n");
	snprintf(line, sizeof line,
		 "STORED\r\nSERVER_ERROR object too large for cache\r\n"
		 "VALUE big 7 %u\r\n",
		 big);
	say(out, line);
	fill(out, 'b', big);
	say(out, "\r\nEND\r\nSTAT a 1\r\nSTAT b 2\r\nEND\r\nMN\r\n");
}

static void script_run(uint64_t seed, const struct sim_config *sc, const struct bytes *in,
		       const struct bytes *want, size_t cut)
{
	struct rig *r = rig_open(seed, sc, NULL);
	int fd = rig_connect(r);
	struct bytes got = {0};
	size_t at = 0, n;

	while (at < in->n) {
		n = at < cut ? cut - at : in->n - at;
		n = rig_send(r, fd, in->at + at, n);
		at += n;
		rig_run(r);
		take(r, fd, &got);
		if (n == 0 && got.n == 0)
			A(r->turns < RIG_TURNS);
	}
	assert_false(take_all(r, fd, &got));
	same(&got, want);
	sim_sock_close(r->env, fd, false);
	rig_run(r);
	assert_int_equal(rig_conns(r), 0);
	rig_close(&r);
	free(got.at);
}

/* Whatever the place of the cut, the answers are the same. */
static void cut_at_every_byte(void **state)
{
	static const struct sim_config sc = {.sock_bytes = 2 << 20};
	struct bytes in = {0}, want = {0};
	size_t lines;

	(void)state;
	script(&in, &want, 40000);
	lines = (size_t)((char *)memmem(in.at, in.n, "set big", 7) - in.at) + 30;
	for (size_t cut = 0; cut < lines; cut++)
		script_run(1, &sc, &in, &want, cut);
	for (size_t back = 1; back < 60; back++)
		script_run(1, &sc, &in, &want, in.n - back);
	free(in.at);
	free(want.at);
}

/* Sockets that hold little, moves of a random part, a store that is late, buffers that run out. */
static void cut_by_chance(void **state)
{
	struct bytes in = {0}, want = {0};

	(void)state;
	script(&in, &want, 40000);
	setenv("STORE_MEM_ASYNC", "60", 1);
	setenv("STORE_MEM_DELAY_US", "300", 1);
	setenv("STORE_MEM_BUFFERS", "2", 1);
	for (uint64_t seed = 1; seed <= 30; seed++) {
		const struct sim_config sc = {
		    .cut = 500000, .nobufs = 100000, .sock_bytes = 2000 * (uint32_t)seed};

		script_run(seed, &sc, &in, &want, in.n);
	}
	unsetenv("STORE_MEM_ASYNC");
	unsetenv("STORE_MEM_DELAY_US");
	unsetenv("STORE_MEM_BUFFERS");
	free(in.at);
	free(want.at);
}

static void store_value(struct rig *r, const char *key, char c, uint32_t n)
{
	struct bytes in = {0}, got = {0};
	int fd = rig_connect(r);
	char line[300];

	snprintf(line, sizeof line, "set %s 0 0 %u\r\n", key, n);
	say(&in, line);
	fill(&in, c, n);
	say(&in, "\r\n");
	rig_send_all(r, fd, in.at, in.n);
	take_all(r, fd, &got);
	assert_int_equal(got.n, 8);
	assert_memory_equal(got.at, "STORED\r\n", 8);
	sim_sock_close(r->env, fd, false);
	rig_run(r);
	free(in.at);
	free(got.at);
}

static void want_value(struct bytes *want, const char *key, char c, uint32_t n)
{
	char line[300];

	snprintf(line, sizeof line, "VALUE %s 0 %u\r\n", key, n);
	say(want, line);
	fill(want, c, n);
	say(want, "\r\nEND\r\n");
}

/* A client's socket takes a little at a time: every byte arrives once, and another is served meanwhile. */
static void short_sends(void **state)
{
	static const struct sim_config sc = {.sock_bytes = 1500, .cut = 300000};
	struct rig *r = rig_open(3, &sc, NULL);
	struct bytes got = {0}, want = {0}, other = {0};
	int slow, quick;

	(void)state;
	store_value(r, "v", 'v', 100000);
	slow = rig_connect(r);
	quick = rig_connect(r);
	for (int i = 0; i < 20; i++) {
		rig_send_all(r, slow, "get v\r\n", 7);
		want_value(&want, "v", 'v', 100000);
	}
	rig_run(r);
	rig_send_all(r, quick, "mn\r\n", 4);
	assert_false(take_all(r, quick, &other));
	assert_int_equal(other.n, 4);
	assert_false(take_all(r, slow, &got));
	same(&got, &want);
	assert_true(atomic_load(&r->w->io->count.short_sends) > 100);
	sim_sock_close(r->env, slow, false);
	sim_sock_close(r->env, quick, false);
	rig_close(&r);
	free(got.at);
	free(want.at);
	free(other.at);
}

/* The client is gone after any byte, and after any turn from there: nothing is left of it. */
static void reset_anywhere(void **state)
{
	static const struct sim_config sc = {.sock_bytes = 60000};
	struct bytes in = {0}, want = {0}, got = {0};
	struct rig *r;
	int other;

	(void)state;
	script(&in, &want, 40000);
	setenv("STORE_MEM_ASYNC", "50", 1);
	setenv("STORE_MEM_DELAY_US", "100", 1);
	r = rig_open(5, &sc, NULL);
	other = rig_connect(r);
	for (size_t n = 1; n < 3000; n += n < 700 ? 1 : 97) {
		int fd = rig_connect(r);

		rig_send(r, fd, in.at, n);
		for (size_t turns = n % 7; turns > 0; turns--)
			rig_turn(r);
		sim_sock_close(r->env, fd, true);
		rig_run(r);
		assert_int_equal(rig_conns(r), 1);
	}
	/* in the middle of a body that is received into its place, and of a value that is sent */
	for (size_t n = 10000; n < 45000; n += 5000) {
		int fd = rig_connect(r);

		rig_send_all(r, fd, in.at, n);
		sim_sock_close(r->env, fd, true);
		rig_run(r);
		assert_int_equal(rig_conns(r), 1);
	}
	store_value(r, "v", 'v', BIG);
	for (int i = 0; i < 40; i++) {
		int fd = rig_connect(r);

		rig_send(r, fd, "get v\r\nget v\r\n", 14);
		for (int turns = i; turns > 0; turns--)
			rig_turn(r);
		sim_sock_close(r->env, fd, true);
		rig_run(r);
		assert_int_equal(rig_conns(r), 1);
	}
	rig_send(r, other, "mn\r\n", 4);
	assert_false(take_all(r, other, &got));
	assert_int_equal(got.n, 4);
	sim_sock_close(r->env, other, false);
	rig_close(&r); /* the store asserts that every operation was ended */
	unsetenv("STORE_MEM_ASYNC");
	unsetenv("STORE_MEM_DELAY_US");
	free(in.at);
	free(want.at);
	free(got.at);
}

/* Who takes no output, or owes the rest of a value, for ten seconds is closed; who is slow is not. */
static void stalled(void **state)
{
	static const struct sim_config sc = {.sock_bytes = 20000};
	struct rig *r = rig_open(7, &sc, NULL);
	int deaf, slow, half, idle;
	struct bytes got = {0};
	char byte[1];

	(void)state;
	store_value(r, "v", 'v', BIG);
	deaf = rig_connect(r), slow = rig_connect(r), half = rig_connect(r), idle = rig_connect(r);
	rig_send(r, deaf, "get v\r\n", 7);
	rig_send(r, slow, "get v\r\n", 7);
	rig_send(r, half, "set h 0 0 100\r\nhalf", 19);
	rig_run(r);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(rig_conns(r), 4);
		rig_pass(r, 3 * NS_PER_S);
		assert_int_equal(rig_recv(r, slow, byte, 1), 1);
	}
	assert_int_equal(rig_conns(r), 4);
	rig_pass(r, 4 * NS_PER_S);
	assert_int_equal(rig_conns(r), 2);
	assert_int_equal(atomic_load(&r->w->count.stalled_connections), 2);
	rig_pass(r, 60 * NS_PER_S);
	assert_int_equal(rig_conns(r),
			 1); /* the slow one has stopped, too; idle may stay for ever */
	rig_send(r, idle, "mn\r\n", 4);
	assert_false(take_all(r, idle, &got));
	assert_int_equal(got.n, 4);
	sim_sock_close(r->env, deaf, false);
	sim_sock_close(r->env, slow, false);
	sim_sock_close(r->env, half, false);
	sim_sock_close(r->env, idle, false);
	rig_close(&r);
	free(got.at);
}

/*
 * There is one buffer and a client sits on it. Of those that wait each gets it in turn: a pipeline of
 * requests has one place in the queue, not many.
 */
static void fair_buffers(void **state)
{
	static const struct sim_config sc = {.sock_bytes = 50000};
	struct bytes got = {0}, first = {0}, want = {0};
	int sitter, greedy, modest;
	struct rig *r;

	(void)state;
	setenv("STORE_MEM_BUFFERS", "1", 1);
	r = rig_open(9, &sc, NULL);
	store_value(r, "v", 'v', BIG);
	store_value(r, "s", 's', 40000);
	sitter = rig_connect(r), greedy = rig_connect(r), modest = rig_connect(r);
	rig_send(r, sitter, "get v\r\n", 7);
	rig_run(r);
	rig_send(r, greedy, "get s\r\nget s\r\nget s\r\n", 21);
	rig_run(r);
	rig_send(r, modest, "get s\r\n", 7);
	rig_run(r);
	assert_int_equal(rig_recv(r, greedy, &(char){0}, 1), -EAGAIN);
	assert_int_equal(rig_recv(r, modest, &(char){0}, 1), -EAGAIN);
	take_all(r, sitter, &got); /* the buffer comes back */
	want_value(&want, "v", 'v', BIG);
	same(&got, &want);
	/* greedy has one answer in its socket, and not taken it: modest has its own all the same */
	want.n = 0;
	want_value(&want, "s", 's', 40000);
	assert_false(take_all(r, modest, &first));
	same(&first, &want);
	got.n = 0;
	take_all(r, greedy, &got);
	want_value(&want, "s", 's', 40000);
	want_value(&want, "s", 's', 40000);
	same(&got, &want);
	sim_sock_close(r->env, sitter, false);
	sim_sock_close(r->env, greedy, false);
	sim_sock_close(r->env, modest, false);
	rig_close(&r);
	unsetenv("STORE_MEM_BUFFERS");
	free(got.at);
	free(first.at);
	free(want.at);
}

/*
 * There is one buffer: reads that wait for it, then a set of one of their keys. The set must not take the
 * buffer and wait for the read that waits for it.
 */
static void set_behind_starved_reads(void **state)
{
	static const char in[] = "get v\r\nget w\r\nset w 0 0 3\r\nwww\r\nmn\r\n";
	struct bytes got = {0}, want = {0};
	struct rig *r;
	int sitter, fd;

	(void)state;
	setenv("STORE_MEM_BUFFERS", "1", 1);
	r = rig_open(19, &(struct sim_config){.sock_bytes = 50000}, NULL);
	store_value(r, "v", 'v', BIG);
	store_value(r, "w", 'w', 3);
	sitter = rig_connect(r), fd = rig_connect(r);
	rig_send(r, sitter, "get v\r\n", 7);
	rig_run(r);
	rig_send(r, fd, in, sizeof in - 1);
	rig_run(r);
	take_all(r, sitter, &got);
	got.n = 0;
	want_value(&want, "v", 'v', BIG);
	want_value(&want, "w", 'w', 3);
	say(&want, "STORED\r\nMN\r\n");
	assert_false(take_all(r, fd, &got));
	same(&got, &want);
	sim_sock_close(r->env, sitter, false);
	sim_sock_close(r->env, fd, false);
	rig_close(&r);
	unsetenv("STORE_MEM_BUFFERS");
	free(got.at);
	free(want.at);
}

/*
 * There is one buffer. Who takes no output loses it soon when another waits, and only then; who takes a little at a
 * time keeps it for as long as it needs.
 */
static void kept_memory(void **state)
{
	static const struct sim_config sc = {.sock_bytes = 20000};
	struct bytes got = {0}, want = {0};
	int deaf, steady, other;
	struct rig *r;

	(void)state;
	setenv("STORE_MEM_BUFFERS", "1", 1);
	r = rig_open(21, &sc, NULL);
	store_value(r, "v", 'v', BIG);
	store_value(r, "s", 's', 5000);
	deaf = rig_connect(r);
	rig_send(r, deaf, "get v\r\n", 7);
	rig_pass(r, 5 * NS_PER_S);
	assert_int_equal(rig_conns(r), 1); /* nobody waits */
	other = rig_connect(r);
	rig_send(r, other, "get s\r\n", 7);
	rig_pass(r, 60 * NS_PER_MS);
	assert_int_equal(rig_conns(r), 2);
	rig_pass(r, 140 * NS_PER_MS);
	assert_int_equal(rig_conns(r), 1);
	assert_int_equal(atomic_load(&r->w->count.stalled_connections), 1);
	want_value(&want, "s", 's', 5000);
	assert_false(take_all(r, other, &got));
	same(&got, &want);
	steady = rig_connect(r);
	rig_send(r, steady, "get v\r\n", 7);
	rig_run(r);
	rig_send(r, other, "get s\r\n", 7);
	got.n = want.n = 0;
	for (int i = 0; i < 60; i++) {
		char some[1000];
		int32_t n = rig_recv(r, steady, some, sizeof some);

		assert_int_equal(n, sizeof some);
		add(&got, some, (size_t)n);
		rig_pass(r, 50 * NS_PER_MS);
	}
	assert_int_equal(rig_conns(r), 2);
	assert_int_equal(rig_recv(r, other, &(char){0}, 1), -EAGAIN);
	assert_false(take_all(r, steady, &got));
	want_value(&want, "v", 'v', BIG);
	same(&got, &want);
	got.n = want.n = 0;
	assert_false(take_all(r, other, &got));
	want_value(&want, "s", 's', 5000);
	same(&got, &want);
	sim_sock_close(r->env, deaf, false);
	sim_sock_close(r->env, steady, false);
	sim_sock_close(r->env, other, false);
	rig_close(&r);
	unsetenv("STORE_MEM_BUFFERS");
	free(got.at);
	free(want.at);
}

/* A connection has little under way until its client has shown that it takes answers. */
static void window_grows(void **state)
{
	static const struct sim_config sc = {.sock_bytes = 20000};
	struct rig *r = rig_open(23, &sc, NULL);
	struct bytes got = {0}, want = {0};
	int fd;

	(void)state;
	store_value(r, "v", 'v', 50000);
	fd = rig_connect(r);
	for (int i = 0; i < 60; i++) {
		rig_send_all(r, fd, "get v\r\n", 7);
		want_value(&want, "v", 'v', 50000);
	}
	rig_run(r);
	assert_true(r->w->conns->out_bytes + r->w->conns->held_bytes < WINDOW_FIRST + 60000);
	assert_false(take_all(r, fd, &got));
	same(&got, &want);
	assert_int_equal(r->w->conns->window, WINDOW_BYTES);
	sim_sock_close(r->env, fd, false);
	rig_close(&r);
	free(got.at);
	free(want.at);
}

/* One too many is told so and closed; a place that becomes free is given. */
static void limit(void **state)
{
	const struct net_config nc = {.connections = 2};
	struct rig *r = rig_open(11, NULL, &nc);
	static const char told[] = "ERROR Too many open connections\r\n";
	struct bytes got = {0};
	int a, b, c;

	(void)state;
	a = rig_connect(r), b = rig_connect(r), c = rig_connect(r);
	assert_true(take_all(r, c, &got));
	assert_int_equal(got.n, sizeof told - 1);
	assert_memory_equal(got.at, told, sizeof told - 1);
	assert_int_equal(rig_conns(r), 2);
	assert_int_equal(atomic_load(&r->w->count.rejected_connections), 1);
	sim_sock_close(r->env, c, false);
	sim_sock_close(r->env, a, false);
	rig_run(r);
	a = rig_connect(r);
	got.n = 0;
	rig_send(r, a, "mn\r\n", 4);
	assert_false(take_all(r, a, &got));
	assert_int_equal(got.n, 4);
	sim_sock_close(r->env, a, false);
	sim_sock_close(r->env, b, false);
	rig_close(&r);
	free(got.at);
}

/* Without descriptors accepting pauses, does not spin, and goes on by itself or when one is free. */
static void no_descriptors(void **state)
{
	struct rig *r = rig_open(13, NULL, NULL);
	struct bytes got = {0};
	int a = rig_connect(r), b;
	uint64_t turns;

	(void)state;
	rig_run(r);
	assert_int_equal(rig_conns(r), 1);
	sim_env_config(r->env)->accept_error = 1000000;
	b = rig_connect(r);
	rig_send(r, b, "mn\r\n", 4);
	turns = r->turns;
	rig_pass(r, 10 * NS_PER_S);
	assert_int_equal(rig_conns(r), 1);
	assert_in_range(atomic_load(&r->w->count.accept_pauses), 40, 60); /* five a second */
	assert_true(r->turns - turns < 400);
	assert_false(atomic_load(&r->net.accepting));
	rig_send(r, a, "mn\r\n", 4);
	assert_false(take_all(r, a, &got)); /* others are served */
	assert_int_equal(got.n, 4);
	sim_env_config(r->env)->accept_error = 0;
	sim_sock_close(r->env, a, false); /* no waiting for the pause to end */
	rig_run(r);
	assert_int_equal(rig_conns(r), 1);
	assert_true(atomic_load(&r->net.accepting));
	got.n = 0;
	assert_false(take_all(r, b, &got));
	assert_int_equal(got.n, 4);
	sim_sock_close(r->env, b, false);
	rig_close(&r);
	free(got.at);
}

/* A client that has said all: answered in full, then closed; what it began and did not end is dropped. */
static void half_closed(void **state)
{
	static const char *const tails[] = {"",
					    "get",
					    "get v v",
					    "set x 0 0 9\r\nhalf",
					    "set x 0 0 4\r\nhalf",
					    "set x 0 -1 4\r\nha",
					    "replace x 0 0 20\r\nha",
					    "set x 0 0 70000\r\nhalf"};
	static const struct sim_config sc = {.sock_bytes = 30000};
	struct rig *r = rig_open(15, &sc, NULL);

	(void)state;
	store_value(r, "v", 'v', BIG);
	for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
		struct bytes got = {0}, want = {0};
		int fd = rig_connect(r);

		rig_send(r, fd, "get v\r\nset w 0 0 1\r\nw\r\n", 23);
		rig_send(r, fd, tails[i], strlen(tails[i]));
		sim_sock_shutdown(r->env, fd, SHUT_WR);
		assert_true(take_all(r, fd, &got));
		want_value(&want, "v", 'v', BIG);
		say(&want, "STORED\r\n");
		same(&got, &want);
		assert_int_equal(rig_conns(r), 0);
		sim_sock_close(r->env, fd, false);
		free(got.at);
		free(want.at);
	}
	rig_close(&r);
}

/* At the end what a socket held is answered, whole requests only; then the stream ends without a reset. */
static void drained(void **state)
{
	for (int i = 0; i < 2; i++) {
		static const struct sim_config sc = {.sock_bytes = 3000};
		struct rig *r = rig_open(17, &sc, NULL);
		struct bytes got = {0}, want = {0};
		int fd = rig_connect(r), idle = rig_connect(r);
		bool end = false;

		store_value(r, "v", 'v', 5000);
		rig_send(r, fd, "get v\r\n", 7);
		for (int turns = 0; i == 1 && turns < 3; turns++)
			rig_turn(r);
		rig_send(r, fd, "get v\r\nset w 0 0 1\r\nw\r\nset x 0 0 10\r\nhalf", 41);
		atomic_store(&r->net.stage, NET_DRAINING);
		io_wake(r->w->io);
		while (!end) {
			A(rig_turn(r));
			end = take(r, fd, &got);
			if (!end) /* more and more, as a client does that has not heard yet */
				rig_send(r, fd, "mn\r\n", 4);
		}
		want_value(&want, "v", 'v', 5000);
		want_value(&want, "v", 'v', 5000);
		say(&want, "STORED\r\n");
		assert_true(got.n >= want.n);
		got.n = want.n; /* some of the "mn" may have been in time, never half an answer */
		same(&got, &want);
		assert_int_equal(sim_sock_recv(r->env, fd, &(char){0}, 1), 0);
		sim_sock_close(r->env, fd, false);
		rig_stop(r);
		assert_int_equal(sim_sock_recv(r->env, idle, &(char){0}, 1), 0);
		sim_sock_close(r->env, idle, false);
		rig_free(&r);
		free(got.at);
		free(want.at);
	}
	(void)state;
}

/* While there is a connection. */
static void turns_for(struct rig *r, uint64_t ns)
{
	r->w->timeout_ns = 0;
	for (uint64_t until = rig_now(r) + ns; rig_now(r) < until && rig_conns(r) > 0;) {
		int64_t left = (int64_t)(until - rig_now(r));

		if (r->w->timeout_ns < 0 || r->w->timeout_ns > left)
			r->w->timeout_ns = left;
		A(rig_turn(r));
	}
}

/*
 * What was told the end of the stream has a number of looks to hang up, not a time: where the machine stood still, it
 * had none, and a close would reset it.
 */
static void drained_after_a_pause(void **state)
{
	struct rig *r = rig_open(27, NULL, NULL);
	struct bytes got = {0};
	int fd = rig_connect(r);

	(void)state;
	rig_run(r);
	rig_send(r, fd, "mn\r\n", 4);
	atomic_store(&r->net.stage, NET_DRAINING);
	io_wake(r->w->io);
	do
		A(rig_turn(r));
	while (!take(r, fd, &got));
	assert_int_equal(got.n, 4);
	turns_for(r, 450 * NS_PER_MS);
	rig_send(r, fd, "mn\r\n", 4); /* it has not heard yet */
	turns_for(r, 80 * NS_PER_MS);
	sim_env_advance(r->env, 2 * NS_PER_S);
	turns_for(r, 250 * NS_PER_MS);
	assert_int_equal(rig_conns(r), 1);
	turns_for(r, 450 * NS_PER_MS);
	assert_int_equal(rig_conns(r), 0);
	sim_sock_close(r->env, fd, false);
	rig_stop(r);
	rig_free(&r);
	free(got.at);
}

/* A delayed flush_all comes before what is asked after its time, also when the loop had no turn between. */
static void flush_in_time(void **state)
{
	struct rig *r = rig_open(29, NULL, NULL);
	struct bytes got = {0}, want = {0};
	int fd = rig_connect(r);

	(void)state;
	store_value(r, "v", 'v', 5);
	rig_send_all(r, fd, "flush_all 2\r\nget v\r\n", 20);
	assert_false(take_all(r, fd, &got));
	say(&want, "OK\r\n");
	want_value(&want, "v", 'v', 5);
	sim_env_advance(r->env, 2 * NS_PER_S);
	rig_send_all(r, fd, "get v\r\n", 7);
	assert_false(take_all(r, fd, &got));
	say(&want, "END\r\n");
	same(&got, &want);
	sim_sock_close(r->env, fd, false);
	rig_close(&r);
	free(got.at);
	free(want.at);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(cut_at_every_byte),
	    cmocka_unit_test(cut_by_chance),
	    cmocka_unit_test(short_sends),
	    cmocka_unit_test(reset_anywhere),
	    cmocka_unit_test(stalled),
	    cmocka_unit_test(fair_buffers),
	    cmocka_unit_test(limit),
	    cmocka_unit_test(no_descriptors),
	    cmocka_unit_test(set_behind_starved_reads),
	    cmocka_unit_test(kept_memory),
	    cmocka_unit_test(window_grows),
	    cmocka_unit_test(half_closed),
	    cmocka_unit_test(drained),
	    cmocka_unit_test(drained_after_a_pause),
	    cmocka_unit_test(flush_in_time),
	};

	return cmocka_run_group_tests_name("net-conn", tests, NULL, NULL);
}
