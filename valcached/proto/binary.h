/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers of memcached's binary protocol: response -> bytes. What is asked comes out of proto_parse() as
 * the same struct proto_request that the text protocol gives, with req.bin.on. Pure functions, any thread.
 *
 * A packet, numbers in network byte order, requests and answers alike:
 *
 *      0 magic 80 asked, 81 answered     4 extras length     8 body length: extras, key, value
 *      1 opcode                          5 data type         12 opaque: given back as it came
 *      2 key length                      6 asked: vbucket    16 cas
 *                                          answered: status  24 extras, key, value
 *
 * Values are sent by the caller after what is put here; nothing follows them.
 */
#ifndef VALCACHED_PROTO_BINARY_H
#define VALCACHED_PROTO_BINARY_H

#include "valcached/proto/proto.h"

#define PROTO_BIN_HEAD 24u

/*
 * name, code, the text that goes with it. Codes and texts are memcached's as far as it has them; 0083, 0086
 * and 0021 are in the protocol's description.
 */
#define PROTO_STATUSES(X)                                                                          \
	X(OK, 0x0000, "")                                                                          \
	X(KEY_MISSING, 0x0001, "Not found")                                                        \
	X(KEY_EXISTS, 0x0002, "Data exists for key.")                                              \
	X(TOO_BIG, 0x0003, "Too large.")                                                           \
	X(INVALID, 0x0004, "Invalid arguments")                                                    \
	X(AUTH, 0x0020, "Auth failure.")                                                           \
	X(CONTINUE, 0x0021, "")                                                                    \
	X(UNKNOWN, 0x0081, "Unknown command")                                                      \
	X(NO_MEMORY, 0x0082, "Out of memory")                                                      \
	X(IMMUTABLE, 0x0083, "immutable: a stored value never changes")                            \
	X(NO_PATH, 0x0086, "no path accepts writes")

enum proto_status {
#define X(n, code, text) PROTO_ST_##n,
	PROTO_STATUSES(X)
#undef X
	    PROTO_STS
};

/* What a constant line of the text protocol is here: its words have no place in a packet. */
enum proto_status proto_bin_status(enum proto_line_id id);

/*
 * Each writes at most PROTO_HEAD_MAX bytes to out and returns how many.
 */
/* A packet without a value of the store's: body (n <= 255 bytes) if the status is OK, else the status' text. */
size_t proto_bin_put(char *out, const struct proto_bin *b, enum proto_status st, uint64_t cas,
		     const char *body, uint32_t n);
/*
 * What comes before a hit's value: flags, and the key if the opcode gives it back. Of a touch, which has no
 * value, it is the whole answer.
 */
size_t proto_bin_put_hit(char *out, const struct proto_bin *b, const char *key, uint8_t key_len,
			 const struct proto_item *it);
size_t proto_bin_put_miss(char *out, const struct proto_bin *b, const char *key, uint8_t key_len);
/* One line of stats: what comes before the value. The last of them is an OK without a body. */
size_t proto_bin_put_stat(char *out, const struct proto_bin *b, const char *name, uint8_t name_len,
			  uint32_t value_len);

#endif
