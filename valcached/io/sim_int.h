/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the simulated engine: sim.c (the machine), sim_io.c (loops),
 * sim_file.c (files), sim_disk.c (contents), sim_net.c (sockets).
 */
#ifndef VALCACHED_IO_SIM_INT_H
#define VALCACHED_IO_SIM_INT_H

#include "valcached/io/io_int.h"
#include "valcached/io/sim.h"

#define SIM_PAGE   4096u
#define SIM_SECTOR 512u
#define SIM_FAULTS 64u

/* A completed write that is not yet durable. */
struct sim_write {
	struct sim_write *next;
	uint64_t seq, off;
	uint32_t len;
	unsigned char data[];
};

/* All of a disk's bytes. */
struct sim_image {
	unsigned char *mem;
};

struct sim_disk {
	struct sim_disk *next;
	char *path;
	uint64_t size;
	bool block_device;
	struct sim_file *open; /* holds the lock */
	struct sim_image now, durable;
	struct sim_write *writes, **writes_tail; /* in order of completion */
	struct {
		uint64_t off, len;
		enum sim_fault fault;
	} fault[SIM_FAULTS];
	unsigned faults;
	bool hangs;
};

struct sim_file {
	struct io_file pub;
	struct sim_env *env;
	struct sim_disk *disk;
	bool dead, shut;
};

struct sim_flight {
	struct sim_flight *next;
	struct io_op *op;
	uint64_t due, seq; /* seq: of the last write that was done at submit */
	struct sim_fate fate;
	bool dead;
};

struct sim_io {
	struct io io; /* first: the callers' handle */
	struct sim_env *env;
	struct sim_io *next;
	struct sim_flight *flight;
	struct op_list wait, local;
	unsigned disk_now, disk_depth, recv_size;
	bool woken, dead;
};

struct sim_env {
	struct io_engine engine;
	struct sim_config config;
	struct sim_counters count;
	uint64_t now, seq;
	uint64_t rng[2];
	sim_fate_fn *on_submit;
	void *submit_arg;
	struct sim_io *ios;
	struct sim_disk *disks;
	struct sim_sock **sock; /* by descriptor - SIM_FD */
	unsigned socks;
};

uint64_t sim_random(struct sim_env *, uint64_t below);
bool sim_chance(struct sim_env *, uint32_t in_a_million);

struct sim_disk *sim_disk_find(struct sim_env *, const char *path);
struct sim_disk *sim_disk_new(struct sim_env *, const char *path, uint64_t size);
void sim_disk_grow(struct sim_disk *, uint64_t size);
/* No write that is not durable may cross it. */
void sim_disk_cut(struct sim_disk *, uint64_t size);
void sim_disk_free(struct sim_disk *);
enum sim_fault sim_disk_faulty(const struct sim_disk *, uint64_t off, uint64_t len);
void sim_disk_write(struct sim_env *, struct sim_disk *, uint64_t off, const void *buf,
		    uint32_t len);
/* Writes up to seq are durable. */
void sim_disk_sync(struct sim_disk *, uint64_t seq);
void sim_disk_power_loss(struct sim_env *, struct sim_disk *);
struct sim_write *sim_write_new(uint64_t seq, uint64_t off, const void *buf, uint32_t len);
void sim_disk_queue(struct sim_disk *, struct sim_write *);

static inline struct sim_file *sim_file_of(const struct io_op *op)
{
	return container_of(op->u.disk.file, struct sim_file, pub);
}

int sim_file_open_made(const struct io_engine *, const char *path, uint64_t size, struct io_file **,
		       char **cause);
int sim_file_open(const struct io_engine *, const char *path, uint64_t size, struct io_file **,
		  char **cause);
void sim_file_close(struct io_file *);
int sim_file_resize(struct io_file *, uint64_t size, char **cause);
bool sim_file_works(struct io_file *);
void sim_file_shut(struct io_file *);
int sim_file_reopen(struct io_file *, char **cause);
/* The effect of a file operation, now. Its result, as a kernel would give it. */
int32_t sim_file_do(struct sim_env *, struct sim_flight *);

int sim_open(const struct io_engine *, const struct io_config *, struct io **, char **cause);
/* Does a turn of this loop find something to do now? */
bool sim_io_due_now(const struct sim_io *);
/* When the next of its operations can land, if nothing else happens; UINT64_MAX: never. */
uint64_t sim_io_next_due(const struct sim_io *);

extern const struct io_sock_ops sim_sock_ops;

/* Can this socket operation get on? */
bool sim_net_ready(const struct sim_env *, const struct io_op *);

enum sim_net_next {
	SIM_NET_LAST, /* *res is the result */
	SIM_NET_MORE, /* *res is one of several */
	SIM_NET_AGAIN /* nothing for the owner yet */
};
/* One step of a ready socket operation. Received bytes: op->data, malloc'd, the caller frees. */
enum sim_net_next sim_net_do(struct sim_io *, struct io_op *, int32_t *res);
void sim_net_free(struct sim_env *);

#endif
