/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memcached's text, meta and binary protocols: bytes in -> request, response -> bytes out. Pure functions:
 * no I/O, no allocation, no clock, no globals; any thread, one struct proto per connection.
 * What each line means and answers is docs/protocol.md. The first byte of a connection tells the protocol;
 * answers of the binary one are in binary.h.
 *
 * Rules
 *  1. The window is the bytes the connection has received and not yet consumed. proto_parse() may
 * be given any prefix of the stream, cut anywhere. After each call, whatever it returned, the
 * caller drops the first *consumed bytes; the next call starts with the byte after them.
 *  2. PROTO_MORE: nothing to do until bytes are added. What is left of the window then is at most
 *     PROTO_LINE_MAX bytes, so a leftover buffer of PROTO_LINE_MAX + 1 always suffices to continue.
 *  3. Slices in struct proto_request (key, args) point into the window (key may point into
 *     request.keybuf): valid until the window's memory is reused or the request is parsed into
 * again. Whatever outlives that is copied: store_op_init() copies the key, struct proto_meta is a
 * value.
 *  4. A request with body_len (SET, ADD, MS) is followed by a block of body_len bytes and "\r\n".
 * The bytes after *consumed belong to the block; the caller does exactly one of these: a. takes
 * body_len bytes itself (from the window, then straight from the socket into the store's buffer),
 * then two more bytes, and compares them with "\r\n". If they differ it aborts the set and answers
 * PROTO_BAD_CHUNK (text with noreply: nothing; meta: always). Nothing else is swallowed; the next
 * byte starts a line, as in memcached; b. after TOO_LARGE or UNAVAILABLE from the store: answers at
 * once and calls proto_swallow(p, what is left of body_len + 2); the parser then drops these bytes
 * silently; c. request.expire, unless the block is too large, which goes as b.: the set is a delete, an add only looks whether the key is there. proto_drain(p, req.body_len): the parser drops
 * the block, checks the terminator, and returns PROTO_BLOCK (req.good). Then delete and answer as
 * stored, or PROTO_BAD_CHUNK. The key must be copied before (store_op_init does).
 *  5. get, gets, gat, gats: one PROTO_REQUEST per key, in order; `first` on the first, `last` on
 * the one after which "END\r\n" is due. If the end of the line was not known when the last key was
 * given, a request with key_len 0 and `last` follows: only END. (`gat 0` alone is such a one.) A
 * line that is wholly in the window, or shorter than PROTO_LINE_MAX, is validated before its first
 *     key is given: a bad key then gives the error line alone. In a longer list the error comes
 *     after the answers so far, instead of END, and the rest of the line is dropped.
 *  6. PROTO_REPLY: send req.reply (static memory; len 0: nothing, noreply was asked). Blocks
 *     that belong to the refused command are dropped by the parser. Replies keep their place in the
 *     pipeline: it follows the answers of earlier requests.
 *  7. PROTO_HANGUP: send req.reply if it has a length, after the answers of earlier requests, and
 * close. Further calls return the same.
 *  8. Binary (req.bin.on): PROTO_REPLY and PROTO_HANGUP bring req.status instead of req.reply; PROTO_ST_OK
 *     is a hang-up without a word. A block is body_len bytes and nothing after it: of rule 4 hold a. without
 *     the two bytes, b. with body_len instead of body_len + 2, and c. if body_len is not 0. There are no lists: first and last are set.
 */
#ifndef VALCACHED_PROTO_PROTO_H
#define VALCACHED_PROTO_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PROTO_KEY_MAX    250u
#define PROTO_LINE_MAX   2048u /* longest line without its end, key lists of get and gat apart */
#define PROTO_FLAGS_MAX  17u   /* meta flags in a request */
#define PROTO_OPAQUE_MAX 31u
/* Longest output of any proto_put_*() function: "VA", a base64 key, opaque, all flags. */
#define PROTO_HEAD_MAX 640u

enum proto_result {
	PROTO_MORE,    /* rule 2 */
	PROTO_REQUEST, /* a request to carry out */
	PROTO_BLOCK,   /* proto_drain() is done, see req.good (rule 4c) */
	PROTO_REPLY,   /* answered already, send req.reply (rule 6) */
	PROTO_HANGUP,  /* rule 7 */
};

/*
 * What is answered is said beside each; lines named PROTO_... are constants of proto_lines[]. A
 * request with req.noreply is carried out and not answered.
 */
enum proto_op {
	/* Hit: VALUE key flags len; miss: nothing; END after the last (rule 5). */
	PROTO_GET,
	/* The same with the cas unique. */
	PROTO_GETS,
	/* As GET and GETS, and if req.expire the key is removed after the value is taken. */
	PROTO_GAT,
	PROTO_GATS,
	/* TOUCHED or NOT_FOUND; if req.expire the key is removed. Binary: flags, cas. */
	PROTO_TOUCH,
	/*
	 * Body follows. STORED, or NOT_STORED: another value is there. Binary, of either, with req.has_cas: nothing is
	 * written; OK if the key has this cas and these bytes, KEY_MISSING, KEY_EXISTS if it has another cas, IMMUTABLE.
	 */
	PROTO_SET,
	/* Body follows. STORED, or NOT_STORED: any value is there. */
	PROTO_ADD,
	/* DELETED or NOT_FOUND; binary with req.has_cas: KEY_EXISTS unless the value has this cas. */
	PROTO_DELETE,
	/* Without --allow-flush FLUSH_REFUSED, else OK; takes effect after req.delay_s. */
	PROTO_FLUSH_ALL,
	/* VERSION_LINE; binary: VALCACHED_VERSION. */
	PROTO_VERSION,
	/* req.number; OK. */
	PROTO_VERBOSITY,
	/* req.args: the words after "stats", as they came; may be empty. */
	PROTO_STATS,
	/* RESET. */
	PROTO_STATS_RESET,
	/* Close after the answers of earlier requests; binary: after its own, too. */
	PROTO_QUIT,
	/* Binary only; OK, after all earlier answers. */
	PROTO_NOOP,
	/*
	 * A client says who it is: req.key its name (key_len 0: nobody's), req.args its password. STORED or
	 * LOGIN_FAILED; binary OK with LOGIN_OK, or AUTH. Either way proto_set_locked() before the next call.
	 */
	PROTO_LOGIN,
	/* Binary only; OK with "PLAIN". */
	PROTO_SASL_MECHS,
	/* lru_crawler metadump: the lines of store_dump(), then END. */
	PROTO_METADUMP,
	/* cache_memlimit: req.number MiB, at least 8; OK or MEMLIMIT_BAD. */
	PROTO_MEMLIMIT,
	/* path online: req.number; "OK", "SERVER_ERROR" or "CLIENT_ERROR", and a sentence. */
	PROTO_PATH,
	/* OK, TLS_OFF, or "Error " and a sentence. */
	PROTO_REFRESH_CERTS,
	/* MN_LINE, after all earlier answers. */
	PROTO_MN,
	/* proto_put_meta(): VA, the value and "\r\n" if req.value, else HD; or EN. */
	PROTO_MG,
	/* proto_put_me(), or EN_LINE. */
	PROTO_ME,
	/* Body follows. proto_put_meta(HD or NS); req.add: NS if any value is there. */
	PROTO_MS,
	/* proto_put_meta(HD or NF); req.has_cas: EX unless the value has this cas. */
	PROTO_MD,
	PROTO_OPS
};

/*
 * What a meta answer repeats from its request: a value without pointers, to be kept until the
 * answer is made.
 */
struct proto_meta {
	uint8_t nflags; /* letters in flags: what gives something back, in the request's order */
	uint8_t opaque_len;
	bool quiet;  /* q: see proto_quiet() */
	bool base64; /* b: the key is echoed in base64 */
	char flags[PROTO_FLAGS_MAX];
	char opaque[PROTO_OPAQUE_MAX];
};

/* What a binary answer repeats from its request. */
struct proto_bin {
	bool on;    /* the request is a binary one; else nothing else here means anything */
	bool quiet; /* reads answer only hits, everything else only errors */
	uint8_t opcode;
	uint32_t opaque; /* as it came, in no byte order */
};

struct proto_request {
	enum proto_op op;
	struct proto_bin bin;
	uint8_t status;  /* enum proto_status, rule 8 */
	const char *key; /* decoded if it came in base64 */
	uint8_t key_len;
	bool first, last;  /* rule 5; both set on everything that is not a get or gat */
	bool noreply;      /* text: no answer of any kind, also not an error */
	bool expire;       /* the expiry is over: remove the key (for sets see rule 4c) */
	bool value;        /* mg: v was given */
	bool add;          /* ms: mode E */
	bool has_cas;      /* md: C; binary set, add, delete */
	bool good;         /* PROTO_BLOCK: the block ended in "\r\n" */
	bool immutable;    /* PROTO_REPLY: the command would have changed a value */
	uint32_t flags;    /* set, add, ms: client flags */
	uint32_t body_len; /* set, add, ms: at most INT32_MAX - 2; binary: any */
	uint32_t number;   /* verbosity, cache_memlimit, path online */
	int32_t delay_s;   /* flush_all; negative: at once */
	uint64_t cas;
	const char *args;
	uint32_t args_len;
	uint32_t reply_len;
	const char *reply;          /* PROTO_REPLY, PROTO_HANGUP */
	struct proto_meta meta;     /* set for the meta commands only */
	char keybuf[PROTO_KEY_MAX]; /* a decoded key */
};

/* One connection's parser. All zero is its start; the fields are proto's own. */
struct proto {
	uint8_t state;
	uint8_t op;      /* list: which command; drain: what to answer */
	bool begun;      /* a byte of the connection has been seen */
	bool binary;     /* and it was 0x80 */
	bool locked;     /* the client has to say who it is */
	bool text_login; /* it may do so in the text protocol ... */
	bool sasl;       /* ... and by SASL in the binary one */
	bool stepping;   /* SASL: it has begun to */
	bool expire;     /* list: gat with an expiry that is over */
	bool unfinished; /* list: first has been given */
	bool noreply;
	uint8_t tail;     /* drain: terminator bytes that were right */
	uint32_t scanned; /* bytes of the window known to hold no line end */
	uint64_t left;    /* swallow, drain: bytes still to drop */
};

/* consumed is always set. len may be 0. */
enum proto_result proto_parse(struct proto *p, const char *bytes, size_t len, size_t *consumed,
			      struct proto_request *req);
/*
 * Before the first byte: the client has to say who it is, by a set in the text protocol, by SASL in the binary
 * one, or by either. Until then only version, noop, mn, quit and logins are requests; the rest is refused.
 */
void proto_lock(struct proto *p, bool text, bool sasl);
/* After a PROTO_LOGIN: whether it still is nobody we know. */
void proto_set_locked(struct proto *p, bool locked);
static inline bool proto_locked(const struct proto *p)
{
	return p->locked;
}
/* Between two calls of proto_parse() only (rule 4). */
void proto_swallow(struct proto *p, uint64_t n);
void proto_drain(struct proto *p, uint32_t body_len);
/*
 * Between requests: not in a key list nor dropping bytes. With an empty window and no answers due,
 * the connection may be closed without cutting anything off.
 */
bool proto_idle(const struct proto *p);
/* Inside a block that is dropped: the client owes its rest. */
bool proto_in_block(const struct proto *p);

const char *proto_op_name(enum proto_op op);

/* The body of the answer to a SASL login. */
#define PROTO_LOGIN_OK "Authenticated"

/* ---- answers ---------------------------------------------------------------- */

/* A constant line: pointer and length. */
struct proto_line {
	const char *s;
	uint32_t len;
};

/* name, text */
#define PROTO_LINES(X)                                                                             \
	X(STORED, "STORED\r\n")                                                                    \
	X(NOT_STORED, "NOT_STORED\r\n")                                                            \
	X(DELETED, "DELETED\r\n")                                                                  \
	X(NOT_FOUND, "NOT_FOUND\r\n")                                                              \
	X(TOUCHED, "TOUCHED\r\n")                                                                  \
	X(OK, "OK\r\n")                                                                            \
	X(END, "END\r\n")                                                                          \
	X(RESET, "RESET\r\n")                                                                      \
	X(MN_LINE, "MN\r\n")                                                                       \
	X(EN_LINE, "EN\r\n")                                                                       \
	X(VERSION_LINE, "VERSION " VALCACHED_VERSION "\r\n")                                       \
	X(ERROR, "ERROR\r\n")                                                                      \
	X(BAD_FORMAT, "CLIENT_ERROR bad command line format\r\n")                                  \
	X(BAD_CHUNK, "CLIENT_ERROR bad data chunk\r\n")                                            \
	X(TOO_LARGE, "SERVER_ERROR object too large for cache\r\n")                                \
	X(UNAVAILABLE, "SERVER_ERROR no path accepts writes\r\n")                                  \
	X(OUT_OF_MEMORY, "SERVER_ERROR out of memory\r\n")                                         \
	X(LOGIN_FAILED, "CLIENT_ERROR authentication failure\r\n")                                 \
	X(FLUSH_REFUSED, "CLIENT_ERROR flush_all not allowed\r\n")                                 \
	X(DUMP_BUSY, "BUSY currently processing crawler request\r\n")                              \
	X(MEMLIMIT_SMALL, "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n")            \
	X(MEMLIMIT_BAD, "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n")            \
	X(TLS_OFF, "Error TLS not enabled\r\n")                                                    \
	X(TOO_MANY, "ERROR Too many open connections\r\n")

enum proto_line_id {
#define X(n, t) PROTO_##n,
	PROTO_LINES(X)
#undef X
	    PROTO_LINE_IDS
};
extern const struct proto_line proto_lines[PROTO_LINE_IDS];

enum proto_rc { PROTO_VA, PROTO_HD, PROTO_EN, PROTO_NS, PROTO_EX, PROTO_NF };

/* What a hit knows of its item. */
struct proto_item {
	uint32_t flags;
	uint32_t len;
	uint64_t cas;
};

/*
 * Each writes at most PROTO_HEAD_MAX bytes to out, line end included, and returns how many. Values
 * and their "\r\n" are sent by the caller after the line.
 */
size_t proto_put_value(char *out, const char *key, uint8_t key_len, const struct proto_item *it,
		       bool with_cas);
/* What ends a value: "\r\n", and END if it was the last of its list. Writes PROTO_TAIL_MAX bytes. */
#define PROTO_TAIL_MAX 7u
static inline uint32_t proto_put_tail(char *out, bool end)
{
	memcpy(out, "\r\nEND\r\n", PROTO_TAIL_MAX);
	return end ? PROTO_TAIL_MAX : 2;
}
/*
 * The answer of a meta command, me apart. it is the item found (mg) or stored (ms), or NULL: then c is 0 and
 * what else was asked of an item is left out. VA needs it.
 */
size_t proto_put_meta(char *out, const struct proto_meta *m, enum proto_rc rc, const char *key,
		      uint8_t key_len, const struct proto_item *it);
size_t proto_put_me(char *out, const struct proto_meta *m, const char *key, uint8_t key_len,
		    const struct proto_item *it);
/* "STAT name value\r\n"; 0 if it would not fit in n. */
size_t proto_put_stat(char *out, size_t n, const char *name, const char *value);
/* Decimal digits, no terminator; at most 10 and 20. */
size_t proto_put_u32(char *out, uint32_t v);
size_t proto_put_u64(char *out, uint64_t v);
/* What q hides: mg EN, ms HD, md HD. Errors, BAD_CHUNK and TOO_LARGE among them, are never hidden.
 */
bool proto_quiet(enum proto_op op, enum proto_rc rc);

#endif
