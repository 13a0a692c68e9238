/* SPDX-License-Identifier: Apache-2.0 */
/* Packets of memcached's binary protocol, as far as gets and sets go. Pure functions, any thread. */
#ifndef VALBENCH_PACKET_H
#define VALBENCH_PACKET_H

#include "bench/valbench/conn.h"

#define PACKET_HEAD 24u

enum { PACKET_OK = 0, PACKET_MISS = 1, PACKET_EXISTS = 2 };

/* The head of an answer. */
struct packet {
	uint8_t opcode, extras;
	uint16_t key, status;
	uint32_t body, opaque;
};

/* What comes before the value of a request, in d; its length. */
size_t packet_request(const struct op *op, char *d);
/* What the answer gives back, by which it is known whose it is. */
uint32_t packet_opaque(const struct op *op);
uint8_t packet_opcode(const struct op *op);
/* False: these PACKET_HEAD bytes are no head of an answer. */
bool packet_read(const char *h, struct packet *p);
uint32_t packet_u32(const char *b);

#endif
