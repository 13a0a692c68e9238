/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated machine: virtual time, chance, which of its loops turns next, and what a crash leaves. See
 * sim.h for what it promises; loops are in sim_io.c, files in sim_file.c, contents of disks in
 * sim_disk.c, sockets in sim_net.c. One thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "valcached/io/sim_int.h"

#define MILLION 1000000u

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* xorshift128+ */
static uint64_t next_random(struct sim_env *env)
{
	uint64_t a = env->rng[0], b = env->rng[1];

	env->rng[0] = b;
	a ^= a << 23;
	env->rng[1] = a ^ b ^ a >> 18 ^ b >> 5;
	return env->rng[1] + b;
}

uint64_t sim_random(struct sim_env *env, uint64_t below)
{
	A(below > 0);
	return (next_random(env) >> 11) % below;
}

bool sim_chance(struct sim_env *env, uint32_t in_a_million)
{
	return in_a_million > 0 && sim_random(env, MILLION) < in_a_million;
}

static void defaults(uint64_t range[2], uint64_t least, uint64_t most)
{
	if (range[0] == 0 && range[1] == 0) {
		range[0] = least;
		range[1] = most;
	}
}

struct sim_env *sim_env_new(uint64_t seed, const struct sim_config *config)
{
	struct sim_env *env = calloc(1, sizeof *env);

	AN(env);
	env->engine = (struct io_engine){
	    .name = "sim",
	    .env = env,
	    .open = sim_open,
	    .file_open = sim_file_open,
	    .file_open_made = sim_file_open_made,
	    .file_close = sim_file_close,
	    .file_resize = sim_file_resize,
	    .file_works = sim_file_works,
	    .file_shut = sim_file_shut,
	    .file_reopen = sim_file_reopen,
	};
	if (config != NULL)
		env->config = *config;
	defaults(env->config.read_ns, 50000, 300000);
	defaults(env->config.write_ns, 30000, 300000);
	defaults(env->config.sync_ns, 500000, 3000000);
	defaults(env->config.sock_ns, 1000, 50000);
	sim_env_reseed(env, seed);
	env->now = NS_PER_S;
	return env;
}

void sim_env_reseed(struct sim_env *env, uint64_t seed)
{
	env->rng[0] = mix(seed);
	env->rng[1] = mix(env->rng[0]) | 1;
}

void sim_env_on_submit(struct sim_env *env, sim_fate_fn *fn, void *arg)
{
	env->on_submit = fn;
	env->submit_arg = arg;
}

void sim_env_free(struct sim_env **p)
{
	struct sim_env *env = *p;
	struct sim_disk *d;

	*p = NULL;
	A(env->ios == NULL);
	sim_net_free(env);
	while ((d = env->disks) != NULL) {
		A(d->open == NULL);
		env->disks = d->next;
		sim_disk_free(d);
	}
	free(env);
}

const struct io_engine *sim_env_engine(struct sim_env *env)
{
	return &env->engine;
}

const struct sim_counters *sim_env_counters(const struct sim_env *env)
{
	return &env->count;
}

struct sim_config *sim_env_config(struct sim_env *env)
{
	return &env->config;
}

uint64_t sim_env_now(const struct sim_env *env)
{
	return env->now;
}

void sim_env_advance(struct sim_env *env, uint64_t ns)
{
	env->now += ns;
}

uint64_t sim_env_random(struct sim_env *env, uint64_t n)
{
	return sim_random(env, n);
}

uint64_t sim_env_next(const struct sim_env *env)
{
	uint64_t t = UINT64_MAX;

	for (const struct sim_io *s = env->ios; s != NULL; s = s->next) {
		uint64_t next = sim_io_due_now(s) ? env->now : sim_io_next_due(s);

		t = next < t ? next : t;
	}
	return t;
}

bool sim_env_step(struct sim_env *env)
{
	struct sim_io *best = NULL;
	uint64_t n = 0, t = UINT64_MAX;

	for (struct sim_io *s = env->ios; s != NULL; s = s->next)
		if (sim_io_due_now(s) && sim_random(env, ++n) == 0)
			best = s;
	if (best == NULL)
		for (struct sim_io *s = env->ios; s != NULL; s = s->next)
			if (sim_io_next_due(s) < t) {
				t = sim_io_next_due(s);
				best = s;
			}
	if (best == NULL)
		return false;
	if (t != UINT64_MAX && t > env->now)
		env->now = t;
	AN(io_turn(&best->io, 0) >= 0);
	return true;
}

/* All ios and files are dead from here on; what was in flight has had its effect or never will. */
static void all_dead(struct sim_env *env)
{
	for (struct sim_io *s = env->ios; s != NULL; s = s->next) {
		struct io_op *op;

		s->dead = true;
		for (struct sim_flight *f = s->flight; f != NULL; f = f->next) {
			f->dead = true;
			f->due = env->now;
		}
		while ((op = op_list_pop(&s->wait)) != NULL)
			op_local(&s->local, op, -ENODEV);
	}
	for (struct sim_disk *d = env->disks; d != NULL; d = d->next)
		if (d->open != NULL) {
			d->open->dead = true;
			d->open = NULL;
		}
}

static bool lands_now(const struct sim_flight *f)
{
	const struct io_op *op = f->op;

	return !f->dead && op->kind == IO_WRITE &&
	       op->u.disk.off + op->u.disk.len <= sim_file_of(op)->disk->size;
}

void sim_env_power_loss(struct sim_env *env)
{
	for (struct sim_io *s = env->ios; s != NULL; s = s->next)
		for (struct sim_flight *f = s->flight; f != NULL; f = f->next)
			if (lands_now(f))
				sim_disk_queue(sim_file_of(f->op)->disk,
					       sim_write_new(++env->seq, f->op->u.disk.off,
							     f->op->u.disk.buf, f->op->u.disk.len));
	for (struct sim_disk *d = env->disks; d != NULL; d = d->next)
		sim_disk_power_loss(env, d);
	all_dead(env);
}

void sim_env_kill(struct sim_env *env)
{
	for (struct sim_io *s = env->ios; s != NULL; s = s->next)
		for (struct sim_flight *f = s->flight; f != NULL; f = f->next) {
			struct io_op *op = f->op;
			uint32_t len;

			if (!lands_now(f))
				continue;
			switch (sim_random(env, 3)) {
			case 0:
				env->count.kept++;
				len = op->u.disk.len;
				break;
			case 1:
				env->count.dropped++;
				len = 0;
				break;
			default:
				env->count.torn++;
				len = (uint32_t)sim_random(env, op->u.disk.len / SIM_SECTOR + 1) *
				      SIM_SECTOR;
				break;
			}
			sim_disk_write(env, sim_file_of(op)->disk, op->u.disk.off, op->u.disk.buf,
				       len);
		}
	all_dead(env);
}
