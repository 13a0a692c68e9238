/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection: requests out, answers in.
 *
 *   ring of operations, in the order they were issued:
 *
 *     head                 sent                    tail
 *      | waiting for answer | being sent (sent_pos) |  free ...
 *
 * 1. Answers come in order; the oldest unanswered operation is always ops[head].
 * 2. Nothing to be sent is kept as bytes: any part of a request is rendered again from its
 *    operation when the socket takes more. So a connection costs its ring, not buffers.
 * 3. Answers are checked where recv() put them, piece by piece; only a line cut by the end of the
 *    receive buffer is carried over.
 *
 * Threads: a connection belongs to one worker.
 */
#ifndef VALBENCH_CONN_H
#define VALBENCH_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hist.h"
#include "bench/valbench/keys.h"
#include "bench/valbench/options.h"

/* Longest answer line accepted: a key of 250 bytes and its numbers, or an error sentence. */
#define CONN_LINE_MAX 2048
#define CONN_OUT_SIZE (128u << 10)

enum op_kind { OP_GET, OP_SET };

struct op {
	uint64_t hash;
	uint64_t start_ns;
	uint32_t size; /* of the value */
	uint32_t wire; /* length of the request; 0 until rendered */
	enum op_kind kind;
};

enum conn_state {
	CONN_LINE, /* the first line of an answer; binary: its head */
	CONN_BODY, /* the value */
	CONN_CR,   /* its \r\n */
	CONN_LF,
	CONN_END, /* the line END of a text get */
	CONN_DEAD,
};

/* Counters and histograms of one worker; one writer. */
struct conn_stats {
	struct hist hit, miss, set; /* nanoseconds */
	_Atomic uint64_t bytes_in, bytes_out;
	_Atomic uint64_t stored, not_stored, server_errors;
	_Atomic uint64_t wrong_values, protocol_errors, lost;
};

struct conn {
	int fd;
	unsigned number;
	const struct options *opt;
	struct conn_stats *stats;
	struct key_cursor cursor;
	bool want_write;

	struct op *ops;
	uint32_t mask, head, sent, tail;
	uint64_t sent_pos;

	struct key *fills; /* keys to set after a miss */
	uint32_t fill_head, fill_tail;

	enum conn_state state;
	uint64_t body_len, body_pos;
	bool body_wrong;
	uint32_t carry_len;
	char carry[CONN_LINE_MAX];
};

int conn_open(struct conn *c, int fd, unsigned number, const struct options *opt,
	      struct conn_stats *stats);
void conn_close(struct conn *c);

static inline uint32_t conn_in_flight(const struct conn *c)
{
	return c->tail - c->head;
}

static inline bool conn_has_room(const struct conn *c)
{
	return c->state != CONN_DEAD && conn_in_flight(c) < c->opt->depth;
}

/* Room must have been asked for. */
void conn_issue(struct conn *c, enum op_kind kind, struct key key, uint64_t start_ns);

/*
 * Sends what is pending, through the scratch buffer out of CONN_OUT_SIZE. 0 when all went, 1 when
 * the socket is full, -errno when the connection is broken (it is dead then).
 */
int conn_send(struct conn *c, uint8_t *out);

/*
 * Takes n bytes that arrived at now_ns. The number of operations they completed, or -EPROTO when
 * the stream is out of step (the connection is dead then; the reason was printed).
 */
int conn_receive(struct conn *c, const uint8_t *p, size_t n, uint64_t now_ns);

/* Marks the connection dead, counts it as lost, says why. */
void conn_lose(struct conn *c, const char *why);

#endif
