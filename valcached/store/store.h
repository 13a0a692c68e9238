/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: immutable values under keys of 1 to 250 bytes, in a log of segments on NVMe files,
 * under an index and a RAM tier. A state machine over io.h: nothing here blocks, save
 * store_open() and store_close().
 *
 * Threads: a struct store is shared by all workers. Each worker (and the one slow thread that
 * evicts, seals and syncs) has its own struct store_worker on its own io and calls with it from its
 * own thread only. Any worker serves any key.
 *
 * Operations are struct store_op, memory of the caller's. A call that starts or continues one
 * returns true if it is complete now (op's results are filled in, done() is not called), or false:
 * done(op) will be called once, later, from io_turn() of the same thread. Until then the op is the
 * store's. One step is under way per op at a time. Results stay valid until the next call with the op.
 *
 * The life of an op:
 *     store_op_init -> store_get  -> [send value -> store_get_next ...] -> store_op_end
 *     store_op_init -> store_set  -> [fill body  -> store_set_body ...] -> store_op_end
 *     store_op_init -> store_delete                                     -> store_op_end
 * store_op_end gives back every buffer that the op holds; it may be called in any state in which the
 * op is the caller's, also half-way through a set (which aborts it) or a get.
 */
#ifndef VALCACHED_STORE_STORE_H
#define VALCACHED_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "valcached/io/io.h"
#include "base/hist.h"
#include "valcached/store/shrink.h"

#define STORE_KEY_MAX 250u
#define STORE_CHUNK                                                                                \
	(256u * 1024 >> STORE_SHRINK) /* unit of streaming and of checksums of long values */
#define STORE_WHOLE_MAX                                                                            \
	(1024u * 1024 >> STORE_SHRINK) /* values up to here are read and sent in one piece */
#define STORE_PATHS_MAX 16u
/* Bytes behind a body of up to STORE_WHOLE_MAX that the caller may overwrite: the terminator's place. */
#define STORE_BODY_SLACK 2u
#define STORE_VALUE_MAX  (64u * 1024 * 1024)

struct store;
struct store_worker;
struct store_op;
struct buf;

/* Status of an operation: enum, name, what it means. */
#define STORE_STATUSES(X)                                                                          \
	X(OK, "ok", "get: a value; set: stored, or the same value was there; delete: removed")     \
	X(MISS, "miss", "no such key")                                                             \
	X(EXISTS, "exists", "add: the same value is there already; nothing was written")           \
	X(CONFLICT, "conflict", "the key is there with another value; nothing was written")        \
	X(TOO_LARGE, "too large", "value_len is above the item limit")                             \
	X(BROKEN, "broken",                                                                        \
	  "get_next: the rest of the value cannot be read: close the connection")                  \
	X(UNAVAILABLE, "unavailable", "set, delete, flush: no path accepts writes")

enum store_status {
#define X(n, s, t) STORE_##n,
	STORE_STATUSES(X)
#undef X
};

/* COMPARE writes nothing: it tells what a set of this value would have met. */
enum store_mode { STORE_SET, STORE_ADD, STORE_COMPARE };
enum store_admit { STORE_ADMIT_ALL, STORE_ADMIT_SECOND };

enum store_gone {
	STORE_GONE_RECYCLED,   /* its segment begins its next life */
	STORE_GONE_VICTIM,     /* the index had no place for it, or it was never published */
	STORE_GONE_UNREADABLE, /* a read failed, or brought something else */
	STORE_GONE_UNWRITTEN,  /* its write failed for good */
	STORE_GONE_MOVED, /* ... but it is written again elsewhere: it is there, not yet durable */
	STORE_GONE_PATH,  /* all that the index has on this path: it came back empty */
	STORE_GONE_SEGMENT, /* all that the index has in this segment: a read of it failed */
	STORE_GONE_UNREAD,  /* for who asks now: its path is offline, or the read is late */
};

struct store_config {
	const char *paths[STORE_PATHS_MAX];
	unsigned npaths;
	uint64_t size;       /* bytes per path */
	uint64_t mean_value; /* bytes; sizes the index */
	uint64_t item_max;   /* largest value */
	unsigned workers; /* store_worker_open() with id 0 .. workers - 1; the slow one is extra */
	uint64_t ram_bytes;     /* RAM tier */
	uint64_t ram_bytes_max; /* for store_set_ram(); 0: four times ram_bytes */
	uint64_t buffer_bytes;  /* in-flight buffers, all workers together */
	uint64_t sync_ns;       /* power-cut promise */
	uint64_t io_timeout_ns; /* so long a disk operation is waited for; 0: without a limit */
	enum store_admit admit;
	uint64_t write_budget; /* bytes a second over all paths, 0 = no bound */
	uint64_t
	    scrub_rate; /* bytes a second that the scrub reads over all paths, 0: it does not */
	uint64_t recency_ns;   /* recency is saved to the paths so often at most; 0: the default */
	uint64_t recency_room; /* bytes of each path that a save takes at most; 0: all there is */
	double
	    reinsert_all; /* share of a segment that is written again at recycling, at most; 0: */
	double reinsert_second; /* the defaults, .70 and .60 (docs/decisions.md) */
	bool fresh;             /* forget what the paths hold */
	bool forget_paths;      /* go on without those of the store's paths that are not given */
	bool no_attach;         /* read it from the paths even if shared memory has it */
	const char *shm_dir;    /* folder for named shared memory; NULL = /dev/shm */
	uint64_t seed;          /* 0: from the kernel; tests: fixed */
	/*
	 * Called by the slow worker while it waits for the others to turn; NULL where they have threads of
	 * their own. Tests and simulations on one thread turn them here.
	 */
	void (*yield)(void *arg);
	void *yield_arg;
	/*
	 * Called when a value stops being served though nobody deleted it; NULL: nobody wants to know. hash is
	 * the key's, or 0 if that is not known; loc its record's place, or for a whole segment its first
	 * unit. May be called under locks: it must not call the store. For tests that must know of each value
	 * whether it may be missing.
	 */
	void (*gone)(void *arg, enum store_gone why, uint64_t hash, uint64_t loc);
	void *gone_arg;
};

/*
 * After store_open() by root, before the process becomes another user: gives that user the shared
 * memory, which it removes at the end, and the paths that are files, which it may have to open again.
 * -errno, and the file that it was.
 */
int store_give(const struct store *s, uid_t user, gid_t group, const char **what);

/*
 * Opens (or makes) the store; blocking. Its index is taken over from the process before, or is built from the
 * disk: then workers may be opened and serve before it is complete (store_loading()). *cause is one sentence
 * for the operator with the remedy (malloc'd). Logs one line per decision.
 */
int store_open(const struct store_config *cfg, const struct io_engine *engine, struct store **s,
	       char **cause);
/* All workers are closed. After a clean close the next open finds everything sealed. */
void store_close(struct store **s);
/* The slow worker is still reading what the disk holds: a miss may be no more than not yet read. Any thread. */
bool store_loading(const struct store *s);
/* Disk operations that nobody waits for any more and the kernel still has. Any thread. */
unsigned store_late(const struct store *s);

/*
 * id < cfg.workers: a serving worker. id == cfg.workers: the slow thread's. io must outlive it.
 * May be called from another thread than the one that will use it, before that thread starts.
 */
int store_worker_open(struct store *s, struct io *io, unsigned id, struct store_worker **sw,
		      char **cause);
/*
 * Once every loop turn, after io_turn(): timers, flushes, quiescence. Returns when (io_now() time)
 * it wants to be called again at the latest, UINT64_MAX for "only when something happens".
 */
uint64_t store_worker_turn(struct store_worker *sw);
/* io_wake()'s handler must end here (io->on_wake is the owner's; the owner calls this). */
void store_worker_woken(struct store_worker *sw);
/*
 * Begins to stop: flushes what is buffered. store_worker_idle() turns true when nothing of this
 * worker is in flight; keep turning until then. All ops must have ended. The slow worker stops last.
 */
void store_worker_stop(struct store_worker *sw);
bool store_worker_idle(const struct store_worker *sw);
void store_worker_close(struct store_worker **sw);

/* ---- operations ------------------------------------------------------------------------------- */

typedef void store_done_fn(struct store_op *op);

struct store_op {
	/* the caller's */
	store_done_fn *done;
	void *user;
	/*
	 * A get of a value of up to place_max bytes that is in RAM may be copied at once, which is cheaper
	 * than a reference. place(op) is called, only within store_get() and with flags, value_len and
	 * cas filled in, and says where to; it must be quick and must not call the store. Then placed
	 * is true and value_n 0. store_op_init() sets NULL: no copies.
	 */
	uint8_t *(*place)(struct store_op *op);
	uint32_t place_max;
	bool placed;
	/* results */
	enum store_status status;
	bool from_ram; /* get: no disk read was needed */
	uint8_t key_len;
	bool waits;     /* under way: for memory; the caller begins nothing that would hold more */
	uint32_t flags; /* memcached client flags */
	uint32_t under_way;   /* get: bytes of memory that its read has taken; 0: none yet */
	uint32_t value_len;   /* whole length */
	uint64_t cas;         /* never 0 */
	const uint8_t *value; /* get: value_n bytes of the value are here ... */
	uint32_t value_n;     /* ... all of them, or the next chunk of a value > STORE_WHOLE_MAX */
	uint32_t value_off;   /* where in the whole this chunk begins */
	uint8_t *body;        /* set: put the next bytes here ... */
	uint32_t body_n;      /* ... exactly this many; 0: the set is finished, see status */
	/* the store's */
	struct store_worker *sw;
	uint64_t hash;
	uint64_t start_ns;
	struct store_op *next; /* queue of those that wait for a buffer */
	struct buf *buf;
	uint32_t charge;      /* of buf, in the worker's in-flight account */
	uint32_t body_charge; /* the same among large bodies, while it is received */
	uint8_t step, kind, tries, mode;
	bool head, timed;
	char key[STORE_KEY_MAX];
	struct store_io
	    *run; /* state of an op that went to the disk; taken from the worker's pool */
};

void store_op_init(struct store_op *op, struct store_worker *sw, const void *key, uint8_t key_len,
		   store_done_fn *done, void *user);
void store_op_end(struct store_op *op);

/*
 * While operations of this worker wait for memory: how much all of it is, in bytes; else 0. And what op, which
 * is the caller's, has of it: a reference to what lives in RAM is not counted.
 */
uint64_t store_memory_wanted(const struct store_worker *sw);
uint64_t store_op_held(const struct store_op *op);
/*
 * Long values that this worker receives hold places, of which the store has few, for as long as their clients
 * take to send them: none does, some do, or some do and a set of any worker waits for one.
 */
enum store_places { STORE_PLACES_FREE, STORE_PLACES_HELD, STORE_PLACES_WANTED };
enum store_places store_places(const struct store_worker *sw);

/*
 * Status OK or MISS. With head only flags, value_len and cas are wanted, and value_n is 0. A value of
 * up to STORE_WHOLE_MAX comes whole; of a longer one the first chunk, and store_get_next() gives
 * the others in order (OK or BROKEN). The value's memory is shared and read-only; it stays until
 * the next call with this op.
 */
bool store_get(struct store_op *op, bool head);
bool store_get_next(struct store_op *op);
/*
 * Brings what a get of this initialised op will touch into the CPU's cache, one dependent load a stage:
 * 0 the table's line, 1 the object's state, 2 its record. Call the stages of several ops in turn, a few
 * requests apart, then store_get(). Only a hint.
 */
#define STORE_PREFETCH_STAGES 3u
void store_prefetch(const struct store_op *op, unsigned stage);

/*
 * Begins a set. On return true or done(): body_n > 0: fill body with exactly body_n bytes, then call
 * store_set_body(); or body_n == 0: finished, status says how (TOO_LARGE, UNAVAILABLE come before the
 * body: the caller swallows it). An empty value finishes at once.
 * Finished: OK, EXISTS (add), CONFLICT, UNAVAILABLE. COMPARE: OK, MISS, or CONFLICT with the cas of what is there.
 * OK: after SIGKILL the value is there; after a power cut it may be lost for sync_ns.
 */
bool store_set(struct store_op *op, enum store_mode mode, uint32_t flags, uint32_t value_len);
bool store_set_body(struct store_op *op);

/*
 * OK (was there and is gone) or MISS. After SIGKILL the key stays gone. UNAVAILABLE: nothing has changed, because
 * no path is left that could remember it.
 */
bool store_delete(struct store_op *op);
/* Forgets everything, durably: OK or UNAVAILABLE. */
bool store_flush_all(struct store_op *op);

/*
 * Tries to bring path n, which is read-only or offline, back. OK, UNAVAILABLE (still offline), or MISS (there is
 * no such path); value and value_n are a sentence that says what came of it.
 */
bool store_path_online(struct store_op *op, unsigned n);
/* The same for all that are not online; any thread, nobody waits, the log says what came of it. */
void store_paths_online(struct store *s);

/* ---- looking inside --------------------------------------------------------------------------- */

/*
 * A walk over all keys, for metadump: *cursor starts at 0; op is used as a get whose results are one
 * batch of text lines in value/value_n (value_n == 0: the end). Reads the disk at low rate.
 */
bool store_dump(struct store_op *op, uint64_t *cursor);

/* Live resize of the RAM tier (memcached's cache_memlimit). 0 or -errno. Any thread. */
int store_set_ram(struct store *s, uint64_t bytes);

/* Calls emit(arg, name, value) for each line of `stats store` (names in docs/protocol.md). */
typedef void store_emit_fn(void *arg, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void store_stats(const struct store *s, store_emit_fn *emit, void *arg);
/* `stats items` by size class. */
void store_stats_items(const struct store *s, store_emit_fn *emit, void *arg);
void store_stats_reset(struct store *s);

/*
 * Latency of one kind of operation over all workers, from start to result. Gets from disk and sets are all
 * counted; of hits in RAM and of misses one get in 16 is timed.
 */
enum store_latency {
	STORE_LAT_GET_RAM,
	STORE_LAT_GET_DISK,
	STORE_LAT_MISS,
	STORE_LAT_SET,
	STORE_LATS
};
void store_latency(const struct store *s, enum store_latency which, struct hist *into);

/* General counters for `stats` (sums over workers since start or reset). */
#define STORE_COUNTERS(X)                                                                          \
	X(get_hits_ram, "gets answered from the RAM tier")                                         \
	X(get_hits_disk, "gets answered from the disk")                                            \
	X(get_misses, "gets of keys that were not there")                                          \
	X(false_reads, "disk reads of a record that had another key (tag collision)")              \
	X(disk_reads, "disk reads for gets, sets and deletes")                                     \
	X(stale_reads, "disk reads that found a recycled place and were tried again")              \
	X(corrupt_reads, "records with a bad checksum")                                            \
	X(read_errors, "disk reads that failed")                                                   \
	X(write_errors, "disk writes that failed")                                                 \
	X(values_rescued,                                                                          \
	  "values whose path failed before they were written: they are on another")                \
	X(values_lost, "values that were answered and could not be written: they are gone")        \
	X(io_timeouts, "disk operations that took longer than --io-timeout")                       \
	X(offline_misses, "reads that were not tried: their path is offline")                      \
	X(broken_values, "long values whose later chunk was bad; the connection was closed")       \
	X(sets_stored, "sets that wrote a record")                                                 \
	X(sets_same, "sets of a key that had the same value")                                      \
	X(sets_ram_only, "sets that were not admitted to the disk")                                \
	X(admitted_later, "RAM-only records written to disk at their second touch")                \
	X(immutable_conflicts, "sets of a key that had another value")                             \
	X(sets_retried, "sets checked again because the key's lines changed meanwhile")            \
	X(deletes, "keys removed")                                                                 \
	X(delete_misses, "deletes of keys that were not there")                                    \
	X(tombstones, "tombstones written")                                                        \
	X(buffer_waits, "operations that waited for a buffer")                                     \
	X(write_waits, "sets and deletes that waited for a write buffer")                          \
	X(user_bytes, "record bytes written for sets")                                             \
	X(disk_write_bytes, "bytes written to disk in all")

struct store_counters {
#define X(n, s) uint64_t n;
	STORE_COUNTERS(X)
#undef X
};
void store_counters(const struct store *s, struct store_counters *out);
/* Keys in the index and in the RAM tier alone; bytes of values' records on disk. */
void store_totals(const struct store *s, uint64_t *items, uint64_t *bytes);

#endif
