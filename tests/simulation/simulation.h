/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deterministic simulation of the store: what its files share. README.md says how to read a failure.
 *
 *   plan.c   a seed becomes a setup and a list of steps
 *   world.c  the machine: disks, a process that opens the store, works by the steps and ends
 *   turn.c   workers that take turns
 *   ops.c    the operations of clients
 *   fault.c  what each I/O is for, and what it meets
 *   death.c  kills and power cuts
 *   state.c  in which states the machines are
 *   names.c  from hashes, records and places to keys
 *   model.c  the checker: what each key may be
 *   walk.c   reads the disks by itself and compares
 *   cover.c  which fault met which state
 *   main.c   seeds, processes, shrinking
 *
 * One thread a process. A violation ends the process: violation() prints what it is and exits.
 */
#ifndef TESTS_SIMULATION_H
#define TESTS_SIMULATION_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/clock.h"
#include "valcached/io/sim.h"
#include "valcached/store/store_int.h"

#define SIM_PATHS    3u
#define SIM_WORKERS  3u
#define SIM_KEYS     256u
#define SIM_SLOTS    10u
#define SIM_ARMS     16u
#define SIM_PENDING  5u      /* operations on one key at a time, with a flush_all */
#define SIM_VIOLATED 3       /* exit status */
#define SIM_STUCK    100000u /* turns without an end of anything */
#define SIM_SEG      ((uint64_t)FORMAT_SEG_MIN)

/* ---- plan.c ------------------------------------------------------------------------------------ */

#define STEP_KINDS(X)                                                                              \
	X(SET, "set")                                                                              \
	X(ADD, "add")                                                                              \
	X(GET, "get")                                                                              \
	X(HEAD, "head")                                                                            \
	X(DELETE, "delete")                                                                        \
	X(FLUSH, "flush_all")                                                                      \
	X(ONLINE, "path online")                                                                   \
	X(PASS, "time passes")                                                                     \
	X(SETTLE, "idle until all is written")                                                     \
	X(RAM, "RAM resize")                                                                       \
	X(DRAIN, "operations end")                                                                 \
	X(FAULT, "fault")                                                                          \
	X(DISK, "path fails")                                                                      \
	X(FULL, "path is full")                                                                    \
	X(HEAL, "path works again")                                                                \
	X(HEAL_ALL, "all paths work again")                                                        \
	X(KILL, "kill")                                                                            \
	X(POWER, "power cut")                                                                      \
	X(STOP, "clean restart")

enum step_kind {
#define X(n, s) STEP_##n,
	STEP_KINDS(X)
#undef X
	    STEPS
};

/* Which submits count for a fault or a crash. */
#define AIMS(X)                                                                                    \
	X(ANY, "any worker")                                                                       \
	X(SERVING, "serving workers")                                                              \
	X(SLOW, "the slow worker")                                                                 \
	X(START, "the next start")                                                                 \
	X(PLACE, "one purpose")                                                                    \
	X(YIELD, "the slow worker's waiting for others")                                           \
	X(RARE, "anybody in a state that is rare")                                                 \
	X(STATE, "anybody while something is in one state")                                        \
	X(OWN, "anybody, for what is in one state")

enum aim {
#define X(n, s) AIM_##n,
	AIMS(X)
#undef X
	    AIM_N
};

/*
 * What an operation may meet. After OUT and HANGS the path stays so; the last two end the machine.
 */
#define FAULTS(X)                                                                                  \
	X(READ_ERROR, "EIO read")                                                                  \
	X(READ_FLIP, "bit read")                                                                   \
	X(READ_SHORT, "short rd")                                                                  \
	X(WRITE_ERROR, "EIO wr")                                                                   \
	X(WRITE_FULL, "ENOSPC")                                                                    \
	X(WRITE_FLIP, "bit wr")                                                                    \
	X(WRITE_LOST, "lost wr")                                                                   \
	X(WRITE_ASTRAY, "astray")                                                                  \
	X(WRITE_SHORT, "short wr")                                                                 \
	X(SYNC_ERROR, "EIO sync")                                                                  \
	X(SLOW, "slow")                                                                            \
	X(LATE, "late")                                                                            \
	X(OUT, "path out")                                                                         \
	X(HANGS, "hangs")                                                                          \
	X(KILL, "kill")                                                                            \
	X(POWER, "power")

enum fault {
#define X(n, s) FAULT_##n,
	FAULTS(X)
#undef X
	    FAULT_N
};

struct step {
	uint8_t kind, worker, fault, aim;
	uint8_t place; /* or moment, as aim says */
	uint8_t turns; /* of the machine, afterwards */
	uint8_t leave; /* op: its owner ends it at so manieth turn of its own; 0: it does not */
	uint16_t key;
	uint32_t epoch;
	uint32_t seed; /* of chance from this step on */
	uint64_t n;    /* bytes, nanoseconds, submits, path */
};

struct setup {
	uint64_t seed;
	unsigned paths, workers, keys, slots;
	uint64_t size, ram, buffers, sync_ns, io_timeout_ns, item_max, mean_value, write_budget;
	uint32_t small, middle, align;
	enum store_admit admit;
	bool device; /* block devices, which are told what is no longer needed */
	bool faults;
	bool meets; /* faults wait for states that are rare, and for the first start */
	struct sim_config sim;
};

struct plan {
	struct setup setup;
	struct step *step;
	unsigned n;
};

/* calm: deaths, and no other fault. */
void plan_make(struct plan *p, uint64_t seed, unsigned ops, bool calm);
void plan_free(struct plan *p);
void plan_print_setup(FILE *f, const struct setup *s);
void plan_print_step(FILE *f, const struct setup *s, unsigned i, const struct step *st);
uint64_t plan_mix(uint64_t x);

/* Keys and values, by number. */
#define SIM_KEY_MAX 200u
const char *key_name(unsigned key, unsigned *len);
uint32_t value_len(const struct setup *s, unsigned key, uint32_t epoch);
void value_fill(uint8_t *to, uint32_t from, uint32_t n, unsigned key, uint32_t epoch);
bool value_is(const uint8_t *v, uint32_t from, uint32_t n, unsigned key, uint32_t epoch);

/* ---- model.c ----------------------------------------------------------------------------------- */

enum ask { ASK_GET, ASK_SET, ASK_ADD, ASK_DELETE, ASK_FLUSH };

struct model;
struct model *model_new(const struct setup *s);
void model_free(struct model **m);
/* Which of the key's operations it is; SIM_PENDING: there are too many. */
unsigned model_begin(struct model *m, unsigned key, enum ask ask, uint32_t epoch);
/* seen: a get's epoch, 0 for a miss. */
void model_end(struct model *m, unsigned key, unsigned nth, enum store_status st, uint32_t seen,
	       uint64_t now);
/* Its owner gave it up, or it broke: nobody was told anything. */
void model_forget(struct model *m, unsigned key, unsigned nth, uint64_t now);
/* This value may be missing from now on; revive: and be back after the next start. 0: any value. */
void model_gone(struct model *m, unsigned key, uint32_t epoch, bool revive);
/* Its path failed, and it is written again elsewhere: it is there, but not as long as the promise is [M-6]. */
void model_moved(struct model *m, unsigned key, uint32_t epoch, uint64_t now);
/* Whoever is at it now may find nothing, whatever it is. */
void model_unread(struct model *m, unsigned key);
/* The index has it, and its record is there: it may not be missing. */
void model_there(struct model *m, unsigned key, uint32_t epoch, uint64_t now);
/* Silent damage: any value that the key ever had may be there, or none. */
void model_damaged(struct model *m, unsigned key);
/* What is there is still to be read by the start, or all of it has been [M-5]. */
void model_hide(struct model *m, bool hidden);
/* The process has died; after a power cut what was so at `since` or later may be. */
void model_died(struct model *m, bool power, uint64_t since, uint64_t now);
/* The process has ended: what was under way has been told. */
void model_ended(struct model *m);
bool model_busy(const struct model *m, unsigned key);
bool model_is_damaged(const struct model *m, unsigned key);
/* May the key be absent? May it have this epoch? */
bool model_may(struct model *m, unsigned key, uint32_t epoch);

/* ---- cover.c ----------------------------------------------------------------------------------- */

/* What an I/O is for: the state of the store's machine that submits it. */
#define PLACES(X)                                                                                  \
	X(GET_HEAD, "get: head of a candidate")                                                    \
	X(GET_WHOLE, "get: whole value")                                                           \
	X(GET_AHEAD, "get: chunk read ahead")                                                      \
	X(SET_FIND, "set: is the key there")                                                       \
	X(DELETE_FIND, "delete: find")                                                             \
	X(BLOCK, "write buffer: block")                                                            \
	X(LONG_CHUNK, "long set: chunk")                                                           \
	X(LONG_HEAD, "long set: head")                                                             \
	X(SYNC, "sync")                                                                            \
	X(TABLE, "seal: table and footer")                                                         \
	X(R_FOOTER, "recycle: read footer")                                                        \
	X(R_TABLE, "recycle: read table")                                                          \
	X(R_COPY, "recycle: read records")                                                         \
	X(R_BLOCK, "recycle: write copies")                                                        \
	X(R_SYNC, "recycle: sync copies")                                                          \
	X(HEADER, "next header: write")                                                            \
	X(HEADER_SYNC, "next header: sync")                                                        \
	X(WALK, "seal: walk what a killed process left")                                           \
	X(PROBE, "failed path: read superblock")                                                   \
	X(EPOCH, "failed path: write delete epoch")                                                \
	X(BACK_HEADER, "path back: read headers")                                                  \
	X(BACK_SUPER, "path back: write superblock")                                               \
	X(SUPER_SYNC, "epoch, path back: sync")                                                    \
	X(DISCARD, "recycle: discard")                                                             \
	X(O_SUPER, "start: read superblock")                                                       \
	X(O_SUPER_WRITE, "start: write superblock")                                                \
	X(O_HEADER, "start: read header")                                                          \
	X(O_FOOTER, "start: read footer")                                                          \
	X(O_READ, "start: read tables, blocks, heads")                                             \
	X(O_REPLAY, "start: write what was buffered")                                              \
	X(O_SYNC, "start: sync")

enum place {
#define X(n, s) PLACE_##n,
	PLACES(X)
#undef X
	    PLACE_N
};

/* In which states the machines are when a fault comes, beside what the I/O is for. */
#define MOMENTS(X)                                                                                 \
	X(VIRGIN, "segment: virgin")                                                               \
	X(CLEAN, "segment: clean")                                                                 \
	X(OPEN, "segment: open")                                                                   \
	X(FULL, "segment: full")                                                                   \
	X(SEALED, "segment: sealed")                                                               \
	X(RECYCLING, "segment: recycling")                                                         \
	X(QUARANTINE, "segment: quarantined")                                                      \
	X(UNWALKED, "segment: of a killed process, not walked")                                    \
	X(PENDING, "segment: recycled, and a late read pins it")                                   \
	X(GRACE, "slow worker: waits until all have turned")                                       \
	X(PINS, "recycle: waits for reads")                                                        \
	X(ONLINE, "path: online")                                                                  \
	X(READONLY, "path: read-only")                                                             \
	X(OFFLINE, "path: offline")                                                                \
	X(SILENT, "path: too slow")                                                                \
	X(RETURN, "path: being brought back")                                                      \
	X(EMPTY, "write buffer: empty")                                                            \
	X(DIRTY, "write buffer: with records")                                                     \
	X(WRITING, "write buffer: block in flight")                                                \
	X(AGAIN, "write buffer: block tried again")                                                \
	X(CLOSING, "write buffer: closing")                                                        \
	X(LOST, "write buffer: lost, its values go elsewhere")                                     \
	X(HELD, "write buffer: lost, held for its ends")                                           \
	X(FINDING, "get: finding")                                                                 \
	X(STREAMING, "get: between chunks")                                                        \
	X(BODY, "set: body awaited")                                                               \
	X(SETTING, "set: is the key there")                                                        \
	X(RECEIVING, "long set: between chunks")                                                   \
	X(DELETING, "delete: under way")                                                           \
	X(FLUSHING, "flush_all: under way")                                                        \
	X(WAIT_WRITE, "waiting: for room to write")                                                \
	X(WAIT_MEMORY, "waiting: for memory")                                                      \
	X(SHM_GOOD, "shared memory: good")                                                         \
	X(SHM_DOUBT, "shared memory: in doubt")                                                    \
	X(SHM_OWED, "shared memory: DROP records owed")                                            \
	X(START_CLEAN, "start: after a stop")                                                      \
	X(START_KILL, "start: after a kill")                                                       \
	X(START_POWER, "start: after a power cut")                                                 \
	X(START_START, "start: after one that gave up")                                            \
	X(LOADING, "start: reads on, and serves")                                                  \
	X(STOPPING, "stop: under way")                                                             \
	X(IDLE, "nothing under way")

enum moment {
#define X(n, s) MOMENT_##n,
	MOMENTS(X)
#undef X
	    MOMENT_N
};

/* How a start goes about it, by how the process before has ended. */
#define LAYERS(X)                                                                                  \
	X(SHM, "start: from shared memory")                                                        \
	X(DISK, "start: from disk")                                                                \
	X(EMPTY, "start: empty")                                                                   \
	X(NONE, "start: not to the end")

enum layer {
#define X(n, s) LAYER_##n,
	LAYERS(X)
#undef X
	    LAYER_N
};

enum ended { ENDED_CLEAN, ENDED_KILL, ENDED_POWER, ENDED_START, ENDED_N };

/* Counts; in memory that all processes of a run share. */
struct cover {
	_Atomic uint64_t io[PLACE_N][FAULT_N];
	_Atomic uint64_t all[PLACE_N];
	_Atomic uint64_t
	    of[MOMENT_N][FAULT_N]; /* of what the I/O is for: its segment, path, buffer */
	_Atomic uint64_t at[MOMENT_N][FAULT_N]; /* of anything in the process */
	_Atomic uint64_t layer[LAYER_N][ENDED_N];
	_Atomic uint64_t start[LAYER_N][FAULT_N];
	_Atomic uint64_t schedules, ops, restarts, kills, powers, cut_starts, laps, recycled,
	    sealed, hits, misses, stored, same, conflicts, deleted, flushes, longs, admitted,
	    reinserted, rescued, moved, lost, victims, quarantined, offline, returned, emptied,
	    refused, left, walked, damaged, evicted, parked, ram_only;
};
extern struct cover *cover;

void cover_io(enum place p, enum fault f);
/* Sets of moments, a bit each. */
void cover_of(uint64_t moments, enum fault f);
void cover_at(uint64_t moments, enum fault f);
/* Can this fault meet this I/O? One for what is in this state? Any while something is? */
bool cover_can(enum place p, enum fault f);
bool cover_can_of(enum moment m, enum fault f);
bool cover_can_at(enum moment m, enum fault f);
/* Cells that a full run must have met and has not; prints the table. */
unsigned cover_print(FILE *f, bool must);

/* ---- world.c ----------------------------------------------------------------------------------- */

struct sop {
	struct store_op op;
	bool used, done, under_way;
	uint8_t kind, worker, leave;
	unsigned key, nth;
	uint32_t epoch, len, at;
	bool given_up;
	unsigned flush_nth[SIM_KEYS];
};

struct world {
	const struct plan *plan;
	struct sim_env *env;
	struct store *s;
	struct io *io[SIM_WORKERS + 1];
	struct store_worker *w[SIM_WORKERS + 1];
	bool busy[SIM_WORKERS + 1]; /* it is on the stack */
	struct store_config cfg;
	char path[SIM_PATHS][16];
	struct model *model;
	struct sop slot[SIM_SLOTS];
	unsigned next; /* step */
	unsigned depth;
	/* armed by steps */
	struct {
		bool on;
		uint8_t fault, aim, place;
		uint64_t in;
	} arm[SIM_ARMS];
	bool dead, power, starting, stopping, checking;
	bool parked[SIM_PATHS], was_offline[SIM_PATHS],
	    failed[SIM_PATHS]; /* ...  in this life of the store */
	bool away[SIM_PATHS], full[SIM_PATHS], hangs[SIM_PATHS]; /* what the disk is */
	enum ended ended;                                        /* the process before */
	bool after_kill;                                         /* this one has followed a kill */
	/* when a write to a segment went wrong unnoticed, in this life of it; 0: never */
	uint64_t hurt[SIM_PATHS][64];
	bool super_damaged, silent_damage, start_fault;
	uint32_t start_met;        /* bits of the faults that this start has met */
	uint64_t start_gone[4096]; /* places that the hook named during a start ... */
	uint64_t start_life[4096]; /* ... and their generation; 0: it was not known yet */
	unsigned nstart_gone;
	bool made;    /* some start has come to its end */
	bool loading; /* the start still reads its disks, and serves */
	uint64_t digest;
	uint64_t died_at, delays, turns, idle_turns, recycled;
	uint64_t hash[SIM_KEYS], hashed_with; /* of the keys, with the store's secret */
	uint32_t header_of[SIM_PATHS]; /* segment whose next header has been submitted last */
	enum place last_slow;          /* what the slow worker did last */
	int64_t heap;                  /* bytes of it after the first start */
	bool verbose;
};

extern struct world *world;   /* the one */
extern uint64_t world_digest; /* of all answers of the last run */

/* Runs a plan; returns if it held. */
void world_run(const struct plan *p, bool verbose);
/* memory.c */
void memory_begin(struct world *w);
void memory_check(const struct world *w);
void violation(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline uint64_t world_rnd(struct world *w, uint64_t n)
{
	return sim_env_random(w->env, n);
}

/* ---- turn.c ------------------------------------------------------------------------------------ */

/* Everybody once; then time moves to what comes next. */
void world_turn(struct world *w);
/* Begins the plan's next step if it is an operation; also while somebody else is on the stack. */
void world_pump(struct world *w);
/* From inside a submit: those who are not on the stack. */
void world_turn_others(struct world *w);
/* store_config.yield: the slow worker waits. */
void world_on_yield(void *arg);
/* Until no operation is under way. */
void world_drain(struct world *w);
void world_watch_paths(struct world *w);

/* ---- ops.c ------------------------------------------------------------------------------------- */

/* Begins what the step says. False: not now. */
bool sop_start(struct world *w, const struct step *st);
void sops_go_on(struct world *w);
bool sop_any(const struct world *w);

/* ---- fault.c ----------------------------------------------------------------------------------- */

/* sim_env_on_submit(). */
void fault_on_submit(void *arg, struct io *io, const struct io_op *op, struct sim_fate *fate);
void fault_arm(struct world *w, enum fault f, const struct step *st);
void fault_disarm(struct world *w);
/* Does a kill or a power cut wait for this moment of the slow worker's waiting? Then it comes. */
void fault_on_yield(struct world *w);
/* All disks work. */
void fault_heal(struct world *w);
void fault_heal_path(struct world *w, unsigned path);

/* ---- state.c ----------------------------------------------------------------------------------- */

/* Bits of moments: of all machines; of the segment, the path and the write buffer that an I/O is for. */
uint64_t state_all(const struct world *w);
uint64_t state_of(const struct world *w, unsigned path, const struct io_op *op);

/* ---- death.c ----------------------------------------------------------------------------------- */

void world_die(struct world *w, bool power);
/* What has been written since to segments that are not what the store believes. */
void world_hurt_again(struct world *w);

/* ---- shm.c ------------------------------------------------------------------------------------- */

/* At a kill; then what was kept is what is there, or, after a power cut, nothing. */
void sim_shm_keep(void);
void sim_shm_restore(void);
void sim_shm_lose(void); /* all of it, kept or not */

/* ---- names.c ----------------------------------------------------------------------------------- */

/* The key of a name that need not end in 0; SIM_KEYS: it is none. */
unsigned key_of(const char *name, unsigned n);
/* All that the index has between two locations may be missing from now on, and be back after a start. */
void world_may_go(uint64_t from, uint64_t to);
/* store_config.gone. */
void world_on_gone(void *arg, enum store_gone why, uint64_t hash, uint64_t loc);
/* The hash of a key in the store that is open. */
uint64_t world_hash(unsigned key);
/* Who is it, by hash? SIM_KEYS: nobody. */
unsigned world_key(uint64_t hash);
/* The record at loc, in a write buffer or on the disk now: its key (SIM_KEYS: none) and epoch. */
unsigned world_record(uint64_t loc, uint32_t *epoch);
/* The epoch of the key that the index leads to; 0: none. */
uint32_t world_where(unsigned key);

/* Has a path failed in this life of the store? It may be back when this is asked. */
bool any_offline(const struct world *w);

/* ---- walk.c ------------------------------------------------------------------------------------ */

/* After a start, nothing running: the disks' records and the index say the same. */
void walk_compare(struct world *w);
/* Every key that has a record in this part of a disk, whole segments. */
void walk_damage(struct world *w, unsigned path, uint64_t off, uint64_t len);
/* Every key of the records in a block's bytes. */
void walk_damage_bytes(struct world *w, const uint8_t *mem, uint32_t len);

/* ---- shrink.c ---------------------------------------------------------------------------------- */

#define SIM_OPS     2000u /* a schedule */
#define SIM_SECONDS 60u   /* one may take */
#define SIM_TEXT    4096u

struct outcome {
	bool failed;
	char text[SIM_TEXT];
};
struct report_how {
	unsigned ops;
	bool calm, verbose, shrink;
};

/* Runs a plan in a child of its own; show: to stderr, with all that happens. */
void run_child(const struct plan *p, bool show, struct outcome *o);
/* Prints what is known of a seed that failed; said: a file with what the child said that met it. */
void report(const struct report_how *how, uint64_t seed, int status, int said);

/* ---- shard.c ----------------------------------------------------------------------------------- */

/* A run over many seeds that goes on where it was stopped: what its file says. */
struct shard {
	uint64_t first, last, next, failures;
	struct cover cover;
};

/* False: the file is there, and is of another run. No file: a shard that begins. */
bool shard_load(const char *path, struct shard *s);
void shard_save(const char *path, const struct shard *s);
/* Adds up files into one cover. Schedules, or 0: one could not be read. */
uint64_t shard_total(char *const *path, unsigned n, struct cover *sum);

#endif
