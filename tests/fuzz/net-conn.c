/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target for a connection: bytes in chunks through the real state machine, on simulated
 * sockets and the store in memory. Whatever the bytes:
 *   - what is answered is well-formed to the last byte, and ends at the end of an answer;
 *   - of a stream of whole requests there are as many answers as were counted without the parser;
 *   - what waits in the connection is bounded;
 *   - a client that has said all, or is gone, is closed, and every operation of the store is ended.
 *
 * Input: 8 bytes of choice (seed, what is late and short, eight sizes of chunks in two bytes), then
 * the stream as it is (binary if it begins with 0x80), or, if the choice says so, a list of commands by number, of
 * the text or of the binary protocol.
 */
#include <errno.h>
#include <stdio.h>

#define RIG_ITEM_MAX 16384u
#include "tests/unit/net_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define CHOICE  8u
#define OUT_MAX (16u << 20)
#define VALUE   3000u

/* ---- answers ---------------------------------------------------------------------------------- */

static char *out;
static size_t out_n;

static bool starts(const char *s, size_t n, const char *word)
{
	size_t w = strlen(word);

	return n >= w && memcmp(s, word, w) == 0 && (n == w || s[w] == ' ' || s[w] == ':');
}

/* The length in the nth word (from 0) of a line of n bytes. */
static size_t length_in(const char *s, size_t n, unsigned nth)
{
	size_t len = 0, i = 0;

	for (; nth > 0; nth--, i++)
		while (i < n && s[i] != ' ')
			i++;
	A(i < n && s[i] >= '0' && s[i] <= '9');
	for (; i < n && s[i] >= '0' && s[i] <= '9'; i++)
		len = len * 10 + (size_t)(s[i] - '0');
	A(i == n || s[i] == ' ');
	return len;
}

/* Goes through all that was answered; how many answers that is. */
static unsigned answers(void)
{
	static const char *const words[] = {"END",
					    "STORED",
					    "NOT_STORED",
					    "DELETED",
					    "NOT_FOUND",
					    "TOUCHED",
					    "OK",
					    "RESET",
					    "VERSION",
					    "ERROR",
					    "CLIENT_ERROR",
					    "SERVER_ERROR",
					    "MN",
					    "EN",
					    "HD",
					    "NS",
					    "EX",
					    "NF",
					    "ME",
					    "BUSY",
					    "BADCLASS",
					    "MEMLIMIT_TOO_SMALL",
					    "MEMLIMIT_ADJUST_FAILED",
					    "Error"};
	unsigned count = 0;
	size_t at = 0;

	while (at < out_n) {
		const char *s = out + at, *nl = memchr(s, '\n', out_n - at);
		size_t len, body = SIZE_MAX;
		unsigned i = 0;

		AN(nl);
		A(nl > s && nl[-1] == '\r');
		len = (size_t)(nl - 1 - s);
		at += len + 2;
		if (starts(s, len, "VALUE"))
			body = length_in(s, len, 3);
		else if (starts(s, len, "VA"))
			body = length_in(s, len, 1), count++;
		if (body != SIZE_MAX) {
			A(body + 2 <= out_n - at);
			A(memcmp(out + at + body, "\r\n", 2) == 0);
			at += body + 2;
			continue;
		}
		if (starts(s, len, "STAT") || (len > 4 && memcmp(s, "key=", 4) == 0))
			continue;
		while (i < sizeof words / sizeof *words && !starts(s, len, words[i]))
			i++;
		if (i == sizeof words / sizeof *words) {
			fprintf(stderr, "at %zu: no answer: \"%.*s\"\n", at - len - 2,
				(int)(len < 200 ? len : 200), s);
			abort();
		}
		count++;
	}
	return count;
}

/* The same for packets. Those of stat but the last are no answers. */
static unsigned packets(void)
{
	unsigned count = 0;
	size_t at = 0;

	while (at < out_n) {
		const uint8_t *h = (const uint8_t *)out + at;
		uint32_t body, key;

		A(out_n - at >= PROTO_BIN_HEAD);
		body = (uint32_t)h[8] << 24 | (uint32_t)h[9] << 16 | (uint32_t)h[10] << 8 | h[11];
		key = (uint32_t)h[2] << 8 | h[3];
		A(h[0] == 0x81 && h[5] == 0);
		A(key + h[4] <= body && body <= out_n - at - PROTO_BIN_HEAD);
		count += h[1] != 0x10 || key == 0;
		at += PROTO_BIN_HEAD + body;
	}
	return count;
}

/* ---- requests of which the number of answers is known ------------------------------------------ */

static const struct {
	const char *text;
	unsigned value; /* bytes of a block that follows */
	unsigned answers;
} commands[] = {
    {"get a\r\n", 0, 1},
    {"get a b c nope\r\n", 0, 1},
    {"gets b\r\n", 0, 1},
    {"gat 0 a b\r\n", 0, 1},
    {"gat -1 a b\r\n", 0, 1},
    {"set a 0 0 2\r\nAA\r\n", 0, 1},
    {"set a 0 0 2 noreply\r\nAA\r\n", 0, 0},
    {"set b 5 0 3000\r\n", VALUE, 1},
    {"add c 0 0 3000\r\n", VALUE, 1},
    {"set d 0 -1 3000\r\n", VALUE, 1},
    {"replace d 0 0 3000\r\n", VALUE, 1},
    {"append d 0 0 3000 noreply\r\n", VALUE, 0},
    {"ms e 3000 c k\r\n", VALUE, 1},
    {"ms e 2 ME\r\nee\r\n", 0, 1},
    {"ms e 2 MX\r\nee\r\n", 0, 1},
    {"mg e v k c t f\r\n", 0, 1},
    {"mg nope v q\r\n", 0, 0},
    {"mg e\r\n", 0, 1},
    {"me e\r\n", 0, 1},
    {"mn\r\n", 0, 1},
    {"md a\r\n", 0, 1},
    {"md a C1\r\n", 0, 1},
    {"delete b\r\n", 0, 1},
    {"delete b noreply\r\n", 0, 0},
    {"touch c 0\r\n", 0, 1},
    {"touch c -1\r\n", 0, 1},
    {"incr a 1\r\n", 0, 1},
    {"set a 0 0 x\r\n", 0, 1},
    {"set huge 0 0 20000\r\n", 20000, 1},
    {"set direct 0 0 12000\r\n", 12000, 1},
    {"get direct\r\n", 0, 1},
    {"bogus\r\n", 0, 1},
    {"\r\n", 0, 1},
    {"stats\r\n", 0, 1},
    {"stats reset\r\n", 0, 1},
    {"stats what\r\n", 0, 1},
    {"flush_all\r\n", 0, 1},
    {"version\r\n", 0, 1},
    {"lru_crawler metadump all\r\n", 0, 1},
    {"cache_memlimit 64\r\n", 0, 1},
    {"set f 0 0 3\r\nfour\r\n", 0, 2}, /* the block is bad, and its rest a line */
};

/* The same in packets; only those whose number of answers depends on nothing. */
static const struct {
	uint8_t opcode, extras;
	const char *key;
	unsigned value;
	uint8_t expiry, cas; /* high byte of the expiry, low byte of the cas */
	unsigned answers;
} binaries[] = {
    {0x00, 0, "a", 0, 0, 0, 1},        {0x00, 0, "nope", 0, 0, 0, 1},
    {0x0c, 0, "b", 0, 0, 0, 1},        {0x09, 0, "nope", 0, 0, 0, 0},
    {0x0d, 0, "nope", 0, 0, 0, 0},     {0x00, 0, "direct", 0, 0, 0, 1},
    {0x01, 8, "a", 2, 0, 0, 1},        {0x01, 8, "b", VALUE, 0, 0, 1},
    {0x02, 8, "c", VALUE, 0, 0, 1},    {0x01, 8, "e", 0, 0, 0, 1},
    {0x01, 8, "d", VALUE, 1, 0, 1},    {0x01, 8, "e", 0, 1, 0, 1},
    {0x02, 8, "e", 1, 1, 0, 1},        {0x01, 8, "huge", 20000, 0, 0, 1},
    {0x12, 8, "huge", 20000, 0, 0, 1}, {0x01, 8, "direct", 12000, 0, 0, 1},
    {0x01, 8, "a", 7, 0, 9, 1},        {0x11, 8, "a", VALUE, 0, 9, 1},
    {0x04, 0, "a", 0, 0, 0, 1},        {0x04, 0, "a", 0, 0, 1, 1},
    {0x14, 0, "nope", 0, 0, 0, 1},     {0x1c, 4, "c", 0, 0, 0, 1},
    {0x1c, 4, "c", 0, 1, 0, 1},        {0x1d, 4, "b", 0, 1, 0, 1},
    {0x24, 4, "nope", 0, 0, 0, 0},     {0x23, 4, "b", 0, 0, 0, 1},
    {0x03, 8, "a", VALUE, 0, 0, 1},    {0x19, 0, "a", 3, 0, 0, 1},
    {0x05, 20, "a", 0, 0, 0, 1},       {0x0a, 0, "", 0, 0, 0, 1},
    {0x0b, 0, "", 0, 0, 0, 1},         {0x10, 0, "", 0, 0, 0, 1},
    {0x10, 0, "what", 0, 0, 0, 1},     {0x10, 0, "reset", 0, 0, 0, 1},
    {0x08, 0, "", 0, 0, 0, 1},         {0x18, 4, "", 0, 0, 0, 0},
    {0x77, 7, "k", VALUE, 0, 0, 1},    {0x20, 0, "", 0, 0, 0, 1},
};

static char *in;
static size_t in_n, in_room;

static void add(const void *p, size_t n)
{
	if (in_n + n > in_room) {
		in_room = 2 * (in_n + n);
		in = realloc(in, in_room);
		AN(in);
	}
	if (n > 0)
		memcpy(in + in_n, p, n);
	in_n += n;
}

static unsigned compose(const uint8_t *data, size_t n)
{
	static char block[20002];
	unsigned want = 0;

	if (block[0] == 0)
		memset(block, 'v', sizeof block);
	for (size_t i = 0; i < n && i < 100; i++) {
		unsigned k = data[i] % (sizeof commands / sizeof *commands);

		add(commands[k].text, strlen(commands[k].text));
		if (commands[k].value != 0) {
			add(block, commands[k].value);
			add("\r\n", 2);
		}
		want += commands[k].answers;
	}
	return want;
}

static unsigned compose_binary(const uint8_t *data, size_t n)
{
	static char block[20002];
	unsigned want = 0;

	for (size_t i = 0; i < n && i < 100; i++) {
		unsigned k = data[i] % (sizeof binaries / sizeof *binaries);
		uint32_t key = (uint32_t)strlen(binaries[k].key);
		uint32_t body = binaries[k].extras + key + binaries[k].value;
		uint8_t h[PROTO_BIN_HEAD + 20] = {0x80, binaries[k].opcode, 0, (uint8_t)key,
						  binaries[k].extras};

		h[8] = (uint8_t)(body >> 24);
		h[9] = (uint8_t)(body >> 16);
		h[10] = (uint8_t)(body >> 8);
		h[11] = (uint8_t)body;
		h[23] = binaries[k].cas;
		if (binaries[k].extras >= 4)
			h[PROTO_BIN_HEAD + binaries[k].extras - 4] = binaries[k].expiry;
		add(h, PROTO_BIN_HEAD + binaries[k].extras);
		add(binaries[k].key, key);
		add(block, binaries[k].value);
		want += binaries[k].answers;
	}
	return want;
}

/* ---- one run ---------------------------------------------------------------------------------- */

/* Bounds of net/README.md: what waits here, whatever the client does. */
static void look(struct rig *r)
{
	for (const struct conn *c = r->w->conns; c != NULL; c = c->next) {
		A(c->queue_n <= WINDOW_REQS + AHEAD_MAX);
		A(c->left_n <= LEFT_MAX + (1u << 16));
		A(c->out_bytes <= WINDOW_BYTES + STORE_WHOLE_MAX + OUT_BLOCK * 4);
	}
}

static bool take(struct rig *r, int fd, bool hungry)
{
	int32_t n;

	do {
		n = rig_recv(r, fd, out + out_n, (uint32_t)(OUT_MAX - out_n));
		if (n > 0)
			out_n += (size_t)n;
		A(out_n < OUT_MAX);
	} while (n > 0 && hungry);
	return n == 0 || n == -ECONNRESET;
}

static void converse(struct rig *r, const uint8_t *choice, bool leaves)
{
	uint16_t sizes = (uint16_t)(choice[4] | choice[5] << 8);
	unsigned step = 0, idle = 0;
	int fd = rig_connect(r);
	bool end = false;
	size_t at = 0;

	while (at < in_n && !end) {
		size_t n = 1ull << (2 * (sizes >> (step % 4 * 4) & 7)), did;

		n += choice[6] % 7;
		if (in_n > 20000 && n < 1024)
			n = 1024;
		step++;
		did = rig_send(r, fd, in + at, n < in_n - at ? n : in_n - at);
		at += did;
		for (unsigned t = choice[7] % 4; t > 0; t--) {
			if (rig_quiet(r)) /* not a jump to the timer that closes the silent */
				r->w->timeout_ns = 0;
			rig_turn(r);
		}
		if (leaves && at * 256 >= in_n * choice[6]) {
			sim_sock_close(r->env, fd, choice[7] & 4);
			rig_run(r);
			A(rig_conns(r) == 0);
			return;
		}
		if (choice[7] & 8 || did == 0) {
			size_t before = out_n;

			rig_run(r);
			end = take(r, fd, true);
			idle = did > 0 || out_n > before ? 0 : idle + 1;
			A(end || idle < 100); /* stuck */
		}
	}
	sim_sock_shutdown(r->env, fd, SHUT_WR);
	for (idle = 0; !end; idle++) {
		size_t before = out_n;

		rig_run(r);
		end = take(r, fd, true);
		if (out_n > before)
			idle = 0;
		A(idle < 10); /* stuck */
	}
	sim_sock_close(r->env, fd, false);
	rig_run(r);
	A(rig_conns(r) == 0);
}

static void number(const char *name, unsigned v)
{
	char text[16];

	snprintf(text, sizeof text, "%u", v);
	setenv(name, text, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct sim_config sc = {0};
	bool counted, leaves, binary;
	unsigned want = 0;
	struct rig *r;

	if (n < CHOICE || n > CHOICE + 20000)
		return 0;
	if (out == NULL) {
		out = malloc(OUT_MAX);
		AN(out);
	}
	counted = data[1] & 1;
	leaves = (data[1] & 6) == 6;
	binary = data[1] & 32;
	sc.cut = data[1] & 8 ? 300000 : 0;
	sc.nobufs = data[1] & 16 ? 100000 : 0;
	sc.sock_bytes = 500u << (data[2] % 12);
	number("STORE_MEM_ASYNC", data[2] >> 4 ? (data[2] >> 4) * 6 : 0);
	number("STORE_MEM_DELAY_US", data[3] % 2 * 200);
	number("STORE_MEM_BUFFERS", data[3] / 2 % 4);
	in_n = out_n = 0;
	if (counted && binary)
		want = compose_binary(data + CHOICE, n - CHOICE);
	else if (counted)
		want = compose(data + CHOICE, n - CHOICE);
	else
		add(data + CHOICE, n - CHOICE);
	if (in_n > 20000 && sc.sock_bytes < 8000)
		sc.sock_bytes = 8000;
	r = rig_open(data[0], &sc, NULL);
	r->look = look;
	converse(r, data, leaves);
	if (!leaves) {
		unsigned got = in_n > 0 && (uint8_t)in[0] == 0x80 ? packets() : answers();

		if (counted && got != want) {
			fprintf(stderr, "%u answers, not %u\n", got, want);
			abort();
		}
	}
	rig_close(&r);
	return 0;
}
