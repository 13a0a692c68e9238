/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model checker: many connections work on one daemon, and a model of every key says which answers
 * are permitted. Black box: sockets, a process that is started and killed, and `stats`.
 *
 * Values. Every value that is new for its key gets the key's next generation number g, from 1 on;
 * its length, flags and bytes are functions of (key, g), and its first bytes name both. A
 * generation that was refused, deleted or replaced never comes back, so generations of a key that
 * can be seen only grow. This is what makes answers judgeable while others change the key.
 *
 *  [MC-1] At most one change of a key is under way (it is "claimed"); any number of reads are.
 *  [MC-2] A change is entered in the model before it is sent (intent) and after its answer
 * (outcome); each bumps the key's version. A read looks at the model before it is sent and after
 * its answer. [MC-3] A hit of g is permitted if g was sent, was not refused, and was not dead when
 * the read began. [MC-4] A miss of a key that was there when the read began, and that nobody
 * changed until the answer, is permitted only if at least `window` bytes were written since the
 * key's value certainly was. The same holds for changes whose answer says that the key was not
 * there. [MC-5] After a kill, a change without answer may have happened or not, until an answered
 * one settles it. [MC-6] One key in eight is free: its value never changes, and everybody sets,
 * adds, deletes and reads it at any time, unclaimed. Nothing but its bytes is judged.
 *  [MC-7] After a power cut, each key may be in the state that it had one interval of promised loss
 * before the cut, or in any that it had since. The interval counts only time in which a daemon
 *        was up, and is longer by what the machine was late: ten times the worst wake-up of the last
 *        two seconds, and twice the disk's slowest write or fsync of that life.
 */
#ifndef TESTS_MODEL_MODEL_H
#define TESTS_MODEL_MODEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_TEXT_MAX 250u
#define VALUE_MAX    (1024u * 1024)
#define LIVES_MAX    16u
#define STRIPES      256u

struct config {
	const char *host;
	unsigned port;
	unsigned threads; /* connections; each has its thread */
	uint64_t ops;     /* verified operations in all */
	uint32_t keys;
	uint64_t window; /* bytes [MC-4]; 0: any miss is explained */
	unsigned rounds; /* lives of the daemon; all but the last end by SIGKILL */
	uint32_t mean;   /* bytes of a usual value */
	uint64_t seed;
	bool mutable_values; /* the daemon overwrites (memcached): sets of other values succeed */
	bool counters;       /* the daemon has our counters, and they must be above zero */
	bool evicts;         /* the store is smaller than the data */
	/* how lives differ and end; tests/crash */
	unsigned life_ms_min, life_ms_max; /* 0: a life ends after its share of the operations */
	unsigned first_ms;                 /* not 0: of the first life */
	unsigned term_percent;  /* of the lives that end by SIGTERM, in full traffic, too */
	unsigned kill_percent;  /* with cut: of those that end by SIGKILL all the same */
	unsigned early_percent; /* chance that a daemon is ended once more while it starts */
	const char *store;      /* a path of the store: names its files in /dev/shm */
	const char *cut;        /* control file of tests/crash/cutfs: lives end by power cuts */
	uint64_t loss_ns;       /* what a power cut may cost [MC-7] */
	char *life[LIVES_MAX];  /* more arguments, one of these for each life of the daemon */
	unsigned lives;
	unsigned rate_later_mb; /* the same, after the first life; 0: as in it */
	unsigned rate_mb;       /* MB of records sent a second, at most; 0: no bound */
	char **daemon;          /* argv of the daemon */
};
extern struct config config;

/* ---- keys.c: the model --------------------------------------------------------------------------
 */

enum change {
	CHANGE_SET_NEW,
	CHANGE_SET_SAME,
	CHANGE_SET_OTHER,
	CHANGE_ADD_SAME,
	CHANGE_ADD_OTHER,
	CHANGE_DELETE,
	CHANGE_TOUCH,  /* with a negative expiry: removes the key */
	CHANGE_EXPIRED /* a set with a negative expiry: takes the value, removes the key */
};
enum answer { ANSWER_STORED, ANSWER_NOT_STORED, ANSWER_GONE, ANSWER_NOT_FOUND, ANSWER_LOST };

/* What a reader saw of the model before it sent its request. */
struct glimpse {
	uint32_t key, cur, dead, version;
	bool settled; /* nothing under way could have taken the key away */
	uint64_t written_at;
};

/* A change under way. */
struct claim {
	uint32_t key, gen; /* gen: of the value that is sent; 0: none */
	enum change change;
	uint64_t written; /* bytes sent by all before it */
};

bool keys_open(void);
bool key_is_free(uint32_t k);
void keys_glimpse(uint32_t k, struct glimpse *g);
/* gen 0: a miss. cas 0: not asked for. */
void keys_judge_read(const struct glimpse *g, uint32_t gen, uint64_t cas);
/* Claims the key for a change that suits its state, by the wish r (random). False: somebody else
 * has it. */
bool keys_claim(uint32_t k, uint64_t r, struct claim *c);
void keys_settle(const struct claim *c, enum answer a);
/* For the report: keys that were acknowledged and not deleted since; bytes of records sent. */
uint64_t keys_present(void);
uint64_t keys_written(void);
/* Bytes that may have been sent by now: what a cut may cost is little beside what must be there. */
uint64_t keys_allowance(void);
/* From now on so many MB a second; 0: any number. */
void keys_rate(unsigned mb);
/* The power was cut when uptime was at, and loss_ns may be lost; nothing is under way any more [MC-7]. */
void keys_cut(uint64_t at, uint64_t loss_ns);
/* Adds up what the next look at all keys can find wrong: keys that must be there, or must not. */
void keys_count_demands(uint64_t *there, uint64_t *away);

unsigned key_text(uint32_t k, char *to); /* length; no terminator */
uint32_t value_len(uint32_t k, uint32_t gen);
uint32_t value_flags(uint32_t k, uint32_t gen);
void value_fill(uint32_t k, uint32_t gen, uint8_t *to);
/* The generation of a value of key k, or 0 if any bit of it is wrong. */
uint32_t value_check(uint32_t k, const uint8_t *value, uint32_t len, uint32_t flags);

/* A violation: printed (the first ones), counted. */
void violation(uint32_t key, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Sums over all threads. */
struct totals {
	_Atomic uint64_t ops, hits, misses, stored, refused, deleted, lost, evicted_seen, bytes,
	    violations;
};
extern struct totals totals;

/* ---- conn.c: a connection with buffers both ways ------------------------------------------------
 */

struct conn {
	int fd;
	uint8_t *out;
	size_t out_n, out_cap;
	uint8_t *in;
	size_t in_at, in_n, in_cap;
};

bool conn_open(struct conn *c);
void conn_close(struct conn *c);
void conn_put(struct conn *c, const void *bytes, size_t n);
void conn_printf(struct conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Sends all that was put, and meanwhile reads what comes. False: the connection is lost. */
bool conn_send(struct conn *c);
/* A line without its \r\n, terminated, valid until the next call; NULL: lost (or no answer in 20
 * s). */
char *conn_line(struct conn *c);
/* n bytes and the \r\n after them, valid until the next call. */
const uint8_t *conn_block(struct conn *c, size_t n);

/* ---- ops.c: batches of requests
 * ------------------------------------------------------------------ */

enum end { END_KILL, END_TERM, END_CUT };

struct worker {
	pthread_t thread;
	unsigned id;
	uint64_t random;
	struct conn conn;
};
void *worker_main(void *arg);
/* Reads every key once and judges it. */
bool ops_sweep(struct conn *c);

extern _Atomic bool stopping; /* the round is over */
extern _Atomic bool killing;  /* connections may break now */
/* The power is gone, the process not yet: its misses say nothing, its other answers come too late. */
extern _Atomic bool cutting;

/* ---- daemon.c
 * ------------------------------------------------------------------------------------ */

bool daemon_start(uint64_t random);
/* Starts it, and ends it after so many us, whatever it does by then. */
bool daemon_start_short(uint64_t random, unsigned us, enum end end);
void daemon_kill(void);
/* Power is cut: cutfs decides by the seed what the disk has, and /dev/shm is empty. False: no cutfs. */
bool daemon_cut(uint64_t seed);
/* What that may cost [MC-7], ns; _now: if it came now. */
uint64_t daemon_loss(void);
uint64_t daemon_loss_now(void);

/* A thread that watches how late threads are woken, for as long as this process lives. */
bool witness_open(void);
uint64_t witness_worst(void); /* in the last two seconds, ns */
bool daemon_stop(void);       /* SIGTERM; true: it went with status 0 */
bool daemon_alive(void);
/* Time in which a daemon was up and answering, in all its lives; ns. */
uint64_t daemon_uptime(void);
/* Adds the value of each of n names in the answers to `stats` and `stats store`. */
bool daemon_stats(const char *const *names, uint64_t *sums, unsigned n);

static inline uint64_t mix64(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

#endif
