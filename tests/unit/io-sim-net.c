/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated sockets: every byte arrives once and in order, however it is cut; ends are ends. */
#include <fcntl.h>
#include <sys/socket.h>

#include "tests/unit/io_test.h"
#include "valcached/io/sim.h"

#define TOTAL 200000u

static const struct sim_config rough = {
    .cut = 500000,
    .nobufs = 100000,
    .sock_bytes = 5000,
};

struct rig {
	struct sim_env *env;
	struct io *a, *b;
	int fd[2];
	struct box s, r;
	unsigned char out[TOTAL], in[TOTAL];
};

static struct rig *rig_new(uint64_t seed)
{
	struct io_config c = {.net = true, .recv_buffer_size = 1500};
	struct rig *r = calloc(1, sizeof *r);

	assert_non_null(r);
	r->env = sim_env_new(seed, &rough);
	assert_int_equal(io_open(sim_env_engine(r->env), &c, &r->a, NULL), 0);
	assert_int_equal(io_open(sim_env_engine(r->env), &c, &r->b, NULL), 0);
	sim_sock_pair(r->env, r->fd);
	for (unsigned i = 0; i < TOTAL; i++)
		r->out[i] = (unsigned char)sim_env_random(r->env, 256);
	return r;
}

static void rig_free(struct rig *r)
{
	io_close(&r->a);
	io_close(&r->b);
	for (int i = 0; i < 2; i++)
		sim_sock_close(r->env, r->fd[i], false);
	assert_int_equal(sim_sock_count(r->env), 0);
	sim_env_free(&r->env);
	box_free(&r->r);
	free(r);
}

static void step(struct rig *r)
{
	assert_true(sim_env_step(r->env));
}

static void by_multi_and_some(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct rig *r = rig_new(seed);
		struct iovec iov[7];
		size_t at = 0;

		for (int i = 0; i < 7; i++) { /* some pieces are empty */
			iov[i].iov_base = r->out + at;
			iov[i].iov_len = i == 6 ? TOTAL - at : sim_env_random(r->env, 3) * 9000;
			at += iov[i].iov_len;
		}
		io_send(r->a, &r->s.op, r->fd[0], iov, 7, box_done);
		if (seed % 2 == 0) {
			io_recv_multi(r->b, &r->r.op, r->fd[1], box_done);
			while (r->r.got_n < TOTAL)
				step(r);
		}
		while (r->r.got_n < TOTAL) {
			uint32_t max = 1 + (uint32_t)sim_env_random(r->env, 3000);
			int before = r->r.lasts;

			io_recv_some(r->b, &r->r.op, r->fd[1], max, box_done);
			while (r->r.lasts == before)
				step(r);
			assert_in_range(r->r.res, 1, max);
		}
		while (r->s.lasts == 0)
			step(r);
		assert_int_equal(r->s.res, TOTAL);
		assert_int_equal(r->s.calls, 1);
		assert_int_equal(r->r.got_n, TOTAL);
		assert_memory_equal(r->r.got, r->out, TOTAL);
		assert_true(counter(&r->a->count.short_sends) > 0);
		assert_true(counter(&r->b->count.recv_nobufs) > 0);
		assert_true(sim_env_counters(r->env)->cuts > 10);
		if (seed % 2 == 0) {
			sim_sock_shutdown(r->env, r->fd[0], SHUT_WR);
			while (r->r.lasts == 0)
				step(r);
			assert_int_equal(r->r.res, 0);
		}
		rig_free(r);
	}
}

/* Receives that are cancelled at any moment lose nothing: the next goes on where they stopped. */
static void whole_with_cancels(void **state)
{
	int cancelled = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct rig *r = rig_new(seed);
		struct iovec iov = {r->out, TOTAL};
		uint32_t at = 0;

		io_send(r->a, &r->s.op, r->fd[0], &iov, 1, box_done);
		while (at < TOTAL) {
			uint32_t n = 1 + (uint32_t)sim_env_random(r->env, 20000);
			int before = r->r.lasts;
			bool stop = sim_env_random(r->env, 3) == 0;

			if (n > TOTAL - at)
				n = TOTAL - at;
			io_recv(r->b, &r->r.op, r->fd[1], r->in + at, n, box_done);
			while (r->r.lasts == before) {
				if (stop && sim_env_random(r->env, 5) == 0)
					io_cancel(r->b, &r->r.op);
				step(r);
			}
			assert_in_range(r->r.res, 0, n);
			cancelled += (uint32_t)r->r.res < n;
			at += (uint32_t)r->r.res;
		}
		assert_memory_equal(r->in, r->out, TOTAL);
		while (r->s.lasts == 0)
			step(r);
		rig_free(r);
	}
	assert_true(cancelled > 40);
}

static void ends(void **state)
{
	struct rig *r = rig_new(1);
	struct iovec iov = {r->out, TOTAL};
	unsigned char c[3];

	(void)state;
	/* end of stream in the middle */
	assert_int_equal(sim_sock_send(r->env, r->fd[0], "abc", 3), 3);
	sim_sock_shutdown(r->env, r->fd[0], SHUT_WR);
	io_recv(r->b, &r->r.op, r->fd[1], r->in, 100, box_done);
	while (r->r.lasts == 0)
		step(r);
	assert_int_equal(r->r.res, 3);
	/* a sender without a reader stays, until it is cancelled */
	io_send(r->b, &r->s.op, r->fd[1], &iov, 1, box_done);
	while (sim_env_step(r->env))
		;
	assert_int_equal(r->s.lasts, 0);
	assert_int_equal(io_turn(r->b, NS_PER_S), 0);
	io_cancel(r->b, &r->s.op);
	while (r->s.lasts == 0)
		step(r);
	assert_int_equal(r->s.res, -ECANCELED);
	/* a peer that closes with unread bytes resets; then the pipe is broken */
	sim_sock_close(r->env, r->fd[0], false);
	io_recv_multi(r->b, &r->r.op, r->fd[1], box_done);
	while (r->r.lasts == 1)
		step(r);
	assert_int_equal(r->r.res, -ECONNRESET);
	iov = (struct iovec){r->out, 10};
	io_send(r->b, &r->s.op, r->fd[1], &iov, 1, box_done);
	while (r->s.lasts == 1)
		step(r);
	assert_int_equal(r->s.res, -EPIPE);
	assert_int_equal(sim_sock_recv(r->env, r->fd[1], c, 3), 0);
	r->fd[0] = sim_sock_listen(r->env);
	rig_free(r);
}

static void accepting(void **state)
{
	struct rig *r = rig_new(1);
	int l = sim_sock_listen(r->env), c[5];
	char got[3];

	(void)state;
	assert_int_equal(sim_sock_connect(r->env, r->fd[0]), -ECONNREFUSED);
	io_accept(r->a, &r->s.op, l, box_accepted);
	assert_int_equal(io_turn(r->a, NS_PER_S), 0);
	for (int i = 0; i < 5; i++)
		c[i] = sim_sock_connect(r->env, l);
	while (r->s.fd_n < 5)
		step(r);
	for (int i = 0; i < 5; i++) {
		char m[3] = {'m', (char)('0' + i), '\n'};

		assert_int_equal(sim_sock_send(r->env, c[i], m, 3), 3);
		assert_int_equal(sim_sock_recv(r->env, r->s.fd[i], got, 3), 3);
		assert_memory_equal(got, m, 3);
		sim_sock_close(r->env, c[i], false);
		assert_int_equal(sim_sock_recv(r->env, r->s.fd[i], got, 3), 0);
		sim_sock_close(r->env, r->s.fd[i], false);
	}
	io_cancel(r->a, &r->s.op);
	while (r->s.lasts == 0)
		step(r);
	assert_int_equal(r->s.res, -ECANCELED);
	sim_sock_close(r->env, l, false);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(by_multi_and_some),
	    cmocka_unit_test(whole_with_cancels),
	    cmocka_unit_test(ends),
	    cmocka_unit_test(accepting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
