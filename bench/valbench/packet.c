/* SPDX-License-Identifier: Apache-2.0 */
/* Packets; see packet.h. */
#include <string.h>

#include "bench/valbench/packet.h"
#include "bench/valbench/value.h"

enum { GET = 0x00, SET = 0x01 };

static void put_u32(char *o, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		o[i] = (char)(v >> (24 - 8 * i));
}

uint32_t packet_u32(const char *b)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < 4; i++)
		v = v << 8 | (uint8_t)b[i];
	return v;
}

uint32_t packet_opaque(const struct op *op)
{
	return (uint32_t)op->hash;
}

uint8_t packet_opcode(const struct op *op)
{
	return op->kind == OP_GET ? GET : SET;
}

size_t packet_request(const struct op *op, char *d)
{
	unsigned extras = op->kind == OP_SET ? 8 : 0;

	memset(d, 0, PACKET_HEAD + extras);
	d[0] = (char)0x80;
	d[1] = (char)packet_opcode(op);
	d[3] = KEY_LEN;
	d[4] = (char)extras;
	put_u32(d + 8, extras + KEY_LEN + (op->kind == OP_SET ? op->size : 0));
	put_u32(d + 12, packet_opaque(op));
	if (op->kind == OP_SET)
		put_u32(d + PACKET_HEAD, value_flags(op->hash));
	key_format(op->hash, d + PACKET_HEAD + extras);
	return PACKET_HEAD + extras + KEY_LEN;
}

bool packet_read(const char *h, struct packet *p)
{
	p->opcode = (uint8_t)h[1];
	p->key = (uint16_t)((uint8_t)h[2] << 8 | (uint8_t)h[3]);
	p->extras = (uint8_t)h[4];
	p->status = (uint16_t)((uint8_t)h[6] << 8 | (uint8_t)h[7]);
	p->body = packet_u32(h + 8);
	p->opaque = packet_u32(h + 12);
	return (uint8_t)h[0] == 0x81 && (uint32_t)p->key + p->extras <= p->body;
}
