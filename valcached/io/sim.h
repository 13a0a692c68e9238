/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated engine: a machine in memory, with disks that fail as real ones do. For tests.
 *
 *     struct sim_env *env = sim_env_new(seed, &config);
 *     io_open(sim_env_engine(env), ...);              and the code under test as in production
 *     while (...) sim_env_step(env);                  or io_turn() on the io
 *     sim_env_power_loss(env);                        close what is left; open again; verify
 *
 * Everything is decided by the seed: the same calls give the same run. One thread only. Time is
 * virtual: io_turn() does not sleep but moves the clock to its io's next completion.
 *
 * What a disk does:
 *   - a write takes effect at some moment between its submit and its done(); ops that are in
 *     flight together complete in any order; a read that overlaps a write in flight sees, sector
 *     by sector, old or new bytes;
 *   - durable is what had completed when a later sync was submitted, once that sync has completed;
 *   - power loss: of each write that is not durable, all, nothing, or some 512-byte sectors are
 *     there afterwards, and overlapping ones may have arrived in another order;
 *   - death of the process: what had completed is there; of a write in flight all, nothing or a
 *     front part.
 *
 * After power loss or death every io and every open file of before is dead: operations in flight
 * and new ones complete with -ENODEV and change nothing, so that the code under test can be closed
 * by its ordinary path. A dead io may also be closed with operations in flight; they get no done().
 */
#ifndef VALCACHED_IO_SIM_H
#define VALCACHED_IO_SIM_H

#include "valcached/io/io.h"

struct sim_env;

struct sim_config {
	/* latency in ns, least and most; {0, 0} is the default in brackets */
	uint64_t read_ns[2];  /* [50 us, 300 us] */
	uint64_t write_ns[2]; /* [30 us, 300 us] */
	uint64_t sync_ns[2];  /* [500 us, 3 ms] */
	uint64_t sock_ns[2];  /* [1 us, 50 us] */

	/* chances in a million, each operation */
	uint32_t read_error, write_error,
	    sync_error; /* -EIO; a failed write may have happened in part */
	uint32_t
	    short_io;   /* the engine has to continue it, see counters short_reads/short_writes */
	uint32_t again; /* -EAGAIN inside, see counter retries */
	uint32_t read_flip;    /* one wrong bit in what a read returns; the disk is right */
	uint32_t write_flip;   /* one wrong bit on the disk */
	uint32_t misdirect;    /* a write lands at another place, and is reported as done */
	uint32_t lost_write;   /* a write is reported as done and never happens */
	uint32_t cut;          /* a receive or a send moves a random part of what it could */
	uint32_t nobufs;       /* a receive finds no buffer, see counter recv_nobufs */
	uint32_t accept_error; /* -EMFILE; who wanted to connect goes on waiting */

	/* power loss: chances in a million that a write is kept whole or lost whole; else it is
	 * torn */
	uint32_t keep, drop; /* both 0: a third each */

	uint64_t space;      /* bytes all files may take together; 0: no limit */
	uint32_t align;      /* 0: 512 */
	uint32_t sock_bytes; /* what a socket holds before its sender must wait; 0: 65536 */
};

/* What the seed did; for tests that must know that they tested something. */
struct sim_counters {
	uint64_t read_errors, write_errors, sync_errors, shorts, agains, read_flips, write_flips;
	uint64_t misdirected, lost_writes, cuts;
	uint64_t kept, dropped, torn, reordered; /* at power losses and deaths */
};

/*
 * What one disk operation meets, decided at its submit on top of what chance does. A continued or repeated one
 * is asked for again.
 */
struct sim_fate {
	enum {
		SIM_FATE_NONE,
		SIM_FATE_ERROR,  /* fails with err; a write may have happened in part */
		SIM_FATE_FLIP,   /* one wrong bit: of a write on the disk, of a read in memory */
		SIM_FATE_LOST,   /* a write is reported as done and never happens */
		SIM_FATE_ASTRAY, /* a write lands at byte `to`, and is reported as done */
		SIM_FATE_SHORT   /* only a part; the engine has to continue */
	} what;
	int32_t err; /* -EIO and the like */
	uint64_t to;
	uint64_t delay_ns; /* longer than its latency */
};
typedef void sim_fate_fn(void *arg, struct io *io, const struct io_op *op, struct sim_fate *fate);

struct sim_env *sim_env_new(uint64_t seed,
			    const struct sim_config *config); /* aborts without memory */
void sim_env_free(struct sim_env **env); /* after its ios and files were closed */

const struct io_engine *sim_env_engine(struct sim_env *env);
const struct sim_counters *sim_env_counters(const struct sim_env *env);

/* May be changed at any time; from the next operation on. */
struct sim_config *sim_env_config(struct sim_env *env);

uint64_t sim_env_now(const struct sim_env *env); /* ns */
void sim_env_advance(struct sim_env *env, uint64_t ns);

/* A number of the environment's own generator, for choices of the test: below n. */
uint64_t sim_env_random(struct sim_env *env, uint64_t n);

/*
 * Turns one io: of those that have something due a random one, else the one whose completion is
 * next, moving the clock. False: nothing is in flight anywhere.
 */
bool sim_env_step(struct sim_env *env);

/*
 * fn is called at each submit of a disk operation (NULL: no longer). It may end the machine by
 * sim_env_power_loss() or sim_env_kill(): then this operation has not begun.
 */
void sim_env_on_submit(struct sim_env *env, sim_fate_fn *fn, void *arg);

/* Chance begins again from here, as if the environment had been made with this seed. */
void sim_env_reseed(struct sim_env *env, uint64_t seed);

/* When something can complete next; now if it is due already; UINT64_MAX: nothing is under way. */
uint64_t sim_env_next(const struct sim_env *env);

void sim_env_power_loss(struct sim_env *env);
void sim_env_kill(struct sim_env *env); /* SIGKILL of the process that holds all open ios */

/* ---- disks; a path beginning with /dev/ is a block device and must be made first --------------
 */

void sim_disk_make(struct sim_env *env, const char *path, uint64_t size);

enum sim_fault { SIM_OK, SIM_READ_ERROR = 1, SIM_WRITE_ERROR = 2, SIM_DEAD = 3 };
/* From now on ops that touch the range fail; SIM_OK heals it. At most 64 ranges a disk. */
void sim_disk_fault(struct sim_env *env, const char *path, uint64_t off, uint64_t len,
		    enum sim_fault fault);

/* While it hangs no operation on the disk completes, neither those in flight nor new ones. */
void sim_disk_hang(struct sim_env *env, const char *path, bool hangs);

/* Looks at or changes what is on the disk, past every engine. The path must exist. */
void sim_disk_peek(struct sim_env *env, const char *path, uint64_t off, void *buf, size_t len);
/* All that is on the disk now; good until the disk changes. */
const unsigned char *sim_disk_bytes(struct sim_env *env, const char *path);
void sim_disk_poke(struct sim_env *env, const char *path, uint64_t off, const void *buf,
		   size_t len);
void sim_disk_flip(struct sim_env *env, const char *path,
		   uint64_t bit);                                  /* bit number in the file */
uint64_t sim_disk_size(struct sim_env *env, const char *path);     /* 0: there is none */
uint64_t sim_disk_unsynced(struct sim_env *env, const char *path); /* writes a power loss may eat */

/* ---- sockets: streams inside the machine, for code that is given descriptors ------------------
 */

/*
 * Descriptors of their own kind, not the kernel's: only io_*() of this engine and these calls know
 * them. Both ends of a pair may be used by io_*() or by sim_sock_*(), which never wait.
 */
#define SIM_FD (1 << 24)

void sim_sock_pair(struct sim_env *env, int fd[2]);
int sim_sock_listen(struct sim_env *env);
int sim_sock_connect(struct sim_env *env, int listener); /* the other end waits for io_accept() */

/* A count, 0 at the end of the stream, -EAGAIN, -EPIPE or -ECONNRESET. */
int32_t sim_sock_send(struct sim_env *env, int fd, const void *buf, uint32_t len);
int32_t sim_sock_recv(struct sim_env *env, int fd, void *buf, uint32_t len);

void sim_sock_shutdown(struct sim_env *env, int fd, int how); /* SHUT_RD, SHUT_WR, SHUT_RDWR */
void sim_sock_close(struct sim_env *env, int fd, bool reset); /* no operation may be in flight */
unsigned sim_sock_count(const struct sim_env *env);           /* open descriptors */

#endif
