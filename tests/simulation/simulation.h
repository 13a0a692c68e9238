/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deterministic simulation of the store: what its files share. README.md says how to read a failure.
 *
 *   plan.c   a seed becomes a setup and a list of steps
 *   world.c  the machine: disks, processes that die, workers that take turns at every I/O
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
#define SIM_KEYS     512u
#define SIM_SLOTS    10u
#define SIM_PENDING  5u /* operations on one key at a time, with a flush_all */
#define SIM_VIOLATED 3  /* exit status */

/* ---- plan.c ------------------------------------------------------------------------------------ */

#define STEP_KINDS(X)                                                                              \
	X(SET, "set")                                                                              \
	X(ADD, "add")                                                                              \
	X(GET, "get")                                                                              \
	X(HEAD, "head")                                                                            \
	X(DELETE, "delete")                                                                        \
	X(FLUSH, "flush_all")                                                                      \
	X(PASS, "time passes")                                                                     \
	X(SETTLE, "idle until all is written")                                                     \
	X(RAM, "RAM resize")                                                                       \
	X(DRAIN, "operations end")                                                                 \
	X(FAULT, "fault")                                                                          \
	X(DISK, "path fails")                                                                      \
	X(HEAL, "path works again")                                                                \
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
	X(START, "the next start")

enum aim {
#define X(n, s) AIM_##n,
	AIMS(X)
#undef X
	    AIM_N
};

/* What an operation may meet. The last two end the machine. */
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
	X(GONE, "path out")                                                                        \
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
	uint64_t size, ram, buffers, sync_ns, item_max, mean_value, write_budget;
	uint32_t small, middle, align;
	enum store_admit admit;
	bool device; /* block devices, which are told what is no longer needed */
	bool faults;
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
unsigned key_name(char out[SIM_KEY_MAX + 1], unsigned key);
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
/* The index has it, and its record is there: it may not be missing. */
void model_there(struct model *m, unsigned key, uint32_t epoch, uint64_t now);
/* Silent damage: any value that the key ever had may be there, or none. */
void model_damaged(struct model *m, unsigned key);
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
	X(PROBE, "failed path: read superblock")                                                   \
	X(EPOCH, "failed path: write delete epoch")                                                \
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

/* What else the machines are in when a process dies. */
#define MOMENTS(X)                                                                                 \
	X(VIRGIN, "segment virgin")                                                                \
	X(CLEAN, "segment clean")                                                                  \
	X(OPEN, "segment open")                                                                    \
	X(FULL, "segment full")                                                                    \
	X(SEALED, "segment sealed")                                                                \
	X(RECYCLING, "segment recycling")                                                          \
	X(QUARANTINE, "segment quarantined")                                                       \
	X(GRACE, "recycle: grace and pins")                                                        \
	X(GETTING, "get under way")                                                                \
	X(STREAMING, "get: between chunks")                                                        \
	X(BODY, "set: body awaited")                                                               \
	X(SETTING, "set under way")                                                                \
	X(RECEIVING, "long set: between chunks")                                                   \
	X(DELETING, "delete under way")                                                            \
	X(WAIT_WRITE, "waiting for room")                                                          \
	X(WAIT_MEMORY, "waiting for memory")                                                       \
	X(WRITING, "block in flight")                                                              \
	X(DIRTY, "record not in flight")                                                           \
	X(IDLE, "nothing under way")

enum moment {
#define X(n, s) MOMENT_##n,
	MOMENTS(X)
#undef X
	    MOMENT_N
};

/* Counts; in memory that all processes of a run share. */
struct cover {
	_Atomic uint64_t io[PLACE_N][FAULT_N];
	_Atomic uint64_t all[PLACE_N];
	_Atomic uint64_t at[MOMENT_N][FAULT_N];
	_Atomic uint64_t schedules, ops, restarts, kills, powers, cut_starts, laps, recycled,
	    sealed, hits, misses, stored, same, conflicts, deleted, flushes, longs, admitted,
	    reinserted, victims, quarantined, offline, refused, left, walked, damaged, evicted,
	    ram_only;
};
extern struct cover *cover;

void cover_io(enum place p, enum fault f);
void cover_crash(enum moment m, enum fault f);
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
	char shm[96], path[SIM_PATHS][16];
	struct model *model;
	struct sop slot[SIM_SLOTS];
	unsigned next; /* step */
	unsigned depth;
	/* armed by steps */
	struct {
		bool on;
		uint8_t fault, aim;
		uint64_t in;
	} arm[8];
	bool dead, power, starting, stopping, checking, was_offline[SIM_PATHS];
	bool away[SIM_PATHS]; /* the disk is failing */
	bool hurt[SIM_PATHS]
		 [64]; /* segments in which a write went wrong unnoticed, in this life of theirs */
	bool super_damaged, silent_damage, start_fault;
	uint64_t start_gone[512]; /* places that the hook named during a start */
	unsigned nstart_gone;
	uint64_t digest;
	uint64_t died_at, delays, turns, idle_turns;
	uint32_t header_of[SIM_PATHS]; /* segment whose next header has been submitted last */
	enum place last_slow;          /* what the slow worker did last */
	struct corpse {
		char name[8][200];
		void *mem[8];
		size_t len[8];
		unsigned n;
	} corpse;
	bool verbose;
};

extern struct world *world;   /* the one */
extern uint64_t world_digest; /* of all answers of the last run */

/* Runs a plan; returns if it held. */
void world_run(const struct plan *p, bool verbose);
void violation(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Who is it, by hash? SIM_KEYS: nobody. */
unsigned world_key(uint64_t hash);
/* The record at loc, in a write buffer or on the disk now: its key (SIM_KEYS: none) and epoch. */
unsigned world_record(uint64_t loc, uint32_t *epoch);
/* The epoch of the key that the index leads to; 0: none. */
uint32_t world_where(unsigned key);

/* ---- walk.c ------------------------------------------------------------------------------------ */

/* After a start, nothing running: the disks' records and the index say the same. */
void walk_compare(struct world *w);
/* Every key that has a record in this part of a disk, whole segments. */
void walk_damage(struct world *w, unsigned path, uint64_t off, uint64_t len);
/* Every key of the records in a block's bytes. */
void walk_damage_bytes(struct world *w, const uint8_t *mem, uint32_t len);

#endif
