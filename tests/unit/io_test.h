/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests/unit/io-*.c: the engine under test, an op that remembers how it ended, and loops that run until
 * it did.
 */
#ifndef TESTS_UNIT_IO_TEST_H
#define TESTS_UNIT_IO_TEST_H

#include <errno.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/clock.h"
#include "valcached/io/io.h"

/* The same tests run on each engine of real machines; see run_on_engines(). */
static const struct io_engine *engine = &io_uring_engine;

static inline bool on_uring(void)
{
	return engine == &io_uring_engine;
}

static inline int run_on_engines(const char *what, int (*group)(const char *name))
{
	static const struct io_engine *const all[] = {&io_uring_engine, &io_libevent_engine};
	int failed = 0;

	for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
		char name[64];

		engine = all[i];
		snprintf(name, sizeof name, "%s on %s", what, engine->name);
		failed += group(name);
	}
	return failed;
}

struct box {
	struct io_op op; /* first */
	int calls, lasts;
	int32_t res; /* of the last call */
	char *got;   /* received bytes are appended here */
	size_t got_n, got_room;
	int fd[64]; /* accepted */
	int fd_n;
	struct io *io;
};

static inline void box_done(struct io_op *op)
{
	struct box *b = container_of(op, struct box, op);

	b->calls++;
	b->res = op->res;
	if (!op->more) {
		b->lasts++;
		assert_int_equal(op->kind, IO_NONE);
	} else {
		assert_int_not_equal(op->kind, IO_NONE);
	}
	if (op->data != NULL && op->res > 0) {
		size_t n = (size_t)op->res;

		if (b->got_n + n > b->got_room) {
			b->got_room = (b->got_n + n) * 2;
			b->got = realloc(b->got, b->got_room);
			assert_non_null(b->got);
		}
		memcpy(b->got + b->got_n, op->data, n);
		b->got_n += n;
	}
}

static inline void box_accepted(struct io_op *op)
{
	struct box *b = container_of(op, struct box, op);

	b->calls++;
	b->res = op->res;
	if (!op->more)
		b->lasts++;
	if (op->res >= 0 && b->fd_n < 64)
		b->fd[b->fd_n++] = op->res;
}

static inline void box_free(struct box *b)
{
	free(b->got);
	*b = (struct box){0};
}

/* Turns until cond holds; fails the test after ten seconds of the clock on the wall. */
#define turn_until(io, cond)                                                                       \
	do {                                                                                       \
		uint64_t until_ = clock_ns() + 10 * NS_PER_S;                                      \
		while (!(cond)) {                                                                  \
			int r_ = io_turn((io), 20 * (int64_t)NS_PER_MS);                           \
			assert_true(r_ >= 0);                                                      \
			if (clock_ns() > until_)                                                   \
				fail_msg("timed out waiting for %s", #cond);                       \
		}                                                                                  \
	} while (0)

/* valgrind holds its one lock during io_uring_enter(2): other threads stand while a loop sleeps. */
static inline bool on_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

static inline uint64_t counter(const _Atomic uint64_t *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

#endif
