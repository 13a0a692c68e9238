/* SPDX-License-Identifier: Apache-2.0 */
/*
 * valbench: a load generator for memcached-speaking caches that checks every byte it is given.
 *
 * The main thread opens the connections, deals them to the workers, moves the phases forward,
 * watches the server and the disk at their borders, draws the progress line and prints the report.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/valbench/address.h"
#include "bench/valbench/idle.h"
#include "bench/valbench/report.h"
#include "bench/valbench/value.h"
#include "bench/valbench/wakeup.h"
#include "bench/valbench/worker.h"

#define TICK_MS 20
#define DRAW_MS 200

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	(void)sig;
	interrupted = 1;
}

static void raise_file_limit(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
}

/* --- progress ------------------------------------------------------------------------------- */

struct progress {
	bool on;
	uint64_t drawn_ns;
	uint64_t last_ops, last_ns;
};

static uint64_t ops_so_far(struct worker *workers, unsigned n)
{
	uint64_t ops = 0;

	for (unsigned i = 0; i < n; i++) {
		struct conn_stats *s = &workers[i].stats, *d = &workers[i].discard;

		ops += atomic_load(&s->hit.count) + atomic_load(&s->miss.count) +
		       atomic_load(&s->set.count) + atomic_load(&d->hit.count) +
		       atomic_load(&d->miss.count) + atomic_load(&d->set.count);
	}
	return ops;
}

static void draw(struct progress *p, const char *what, double done, struct worker *workers,
		 unsigned n)
{
	uint64_t now = clock_ns(), ops;
	char bar[31];
	int full;

	if (!p->on || now - p->drawn_ns < DRAW_MS * NS_PER_MS)
		return;
	ops = ops_so_far(workers, n);
	full = (int)((done < 0 ? 0 : done > 1 ? 1 : done) * 30);
	for (int i = 0; i < 30; i++)
		bar[i] = i < full ? '#' : '.';
	bar[30] = '\0';
	fprintf(stderr, "\r%-8s [%s] %3.0f %%  %10.0f ops/s ", what, bar, done * 100,
		p->last_ns == 0 ? 0.0
				: (double)(ops - p->last_ops) * 1e9 / (double)(now - p->last_ns));
	p->drawn_ns = p->last_ns = now;
	p->last_ops = ops;
}

static void draw_end(const struct progress *p)
{
	if (p->on)
		fprintf(stderr, "\r%78s\r", "");
}

/* --- phases --------------------------------------------------------------------------------- */

static void tick(void)
{
	struct timespec ts = {.tv_nsec = TICK_MS * (long)NS_PER_MS};

	nanosleep(&ts, NULL);
}

static bool all_idle(const struct run *run, struct worker *workers, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (atomic_load(&workers[i].idle_in) != atomic_load(&run->phase))
			return false;
	return true;
}

static void run_load(struct run *run, struct worker *workers, unsigned n, struct progress *p,
		     struct report *r)
{
	const struct options *o = run->opt;
	struct watch_sample before, after;
	uint64_t begin = clock_ns();

	watch_take(&before, o->server_pid, o->disk);
	atomic_store(&run->phase, PHASE_LOAD);
	while (!all_idle(run, workers, n) && !interrupted) {
		tick();
		draw(p, "load", (double)atomic_load(&run->load_next) / (double)o->keys.n, workers,
		     n);
	}
	r->load_s = (double)(clock_ns() - begin) / 1e9;
	watch_take(&after, o->server_pid, o->disk);
	r->load_seen = watch_between(&before, &after);
}

static void run_timed(struct run *run, struct worker *workers, unsigned n, struct progress *p,
		      const char *what, double seconds)
{
	const struct options *o = run->opt;
	uint64_t begin = clock_ns();

	for (;;) {
		double spent = (double)(clock_ns() - begin) / 1e9, left;

		/* with --ops, and when all connections are lost, the workers say when it is over */
		if (interrupted || all_idle(run, workers, n))
			return;
		if (seconds > 0 && spent >= seconds)
			return;
		left = seconds - spent;
		if (seconds > 0 && left * 1000 < TICK_MS) {
			struct timespec ts = {.tv_nsec = (long)(left * 1e9)};

			nanosleep(&ts, NULL);
		} else {
			tick();
		}
		draw(p, what,
		     seconds > 0 ? spent / seconds
				 : 1 - (double)atomic_load(&run->ops_left) / (double)o->ops,
		     workers, n);
	}
}

static void run_phases(struct run *run, struct worker *workers, unsigned n, struct report *r)
{
	const struct options *o = run->opt;
	struct progress p = {.on = !o->quiet && isatty(STDERR_FILENO)};
	struct watch_sample before, after;

	if (o->load)
		run_load(run, workers, n, &p, r);
	if (o->run && o->warmup_s > 0 && !interrupted) {
		atomic_store(&run->phase, PHASE_WARMUP);
		run_timed(run, workers, n, &p, "warm up", o->warmup_s);
	}
	if (o->run && !interrupted) {
		watch_take(&before, o->server_pid, o->disk);
		atomic_store(&run->phase, PHASE_MEASURE);
		run_timed(run, workers, n, &p, "measure", o->ops > 0 ? 0 : o->duration_s);
		watch_take(&after, o->server_pid, o->disk);
		r->seen = watch_between(&before, &after);
	}
	atomic_store(&run->phase, PHASE_DRAIN);
	for (unsigned i = 0; i < n; i++)
		worker_stop(&workers[i]);
	draw_end(&p);
}

/* --- setting up ----------------------------------------------------------------------------- */

/* Opens all connections and deals them out. 0 or an exit code; opened ones are left to worker_stop
 * or, on failure, to the end of the process. */
static int open_connections(const struct options *o, const struct address *a,
			    struct worker *workers)
{
	unsigned number = 0;

	for (unsigned i = 0; i < o->threads; i++) {
		struct worker *w = &workers[i];

		w->conns_count = o->connections / o->threads + (i < o->connections % o->threads);
		w->conns = calloc(w->conns_count, sizeof *w->conns);
		if (w->conns == NULL)
			return 3;
		for (unsigned j = 0; j < w->conns_count; j++) {
			int fd = address_connect(a);

			if (fd < 0) {
				fprintf(stderr, "valbench: cannot connect to %s: %s\n", o->server,
					strerror(-fd));
				return 3;
			}
			if (conn_open(&w->conns[j], fd, number++, o, &w->discard) != 0) {
				fprintf(stderr, "valbench: out of memory\n");
				return 3;
			}
		}
	}
	return 0;
}

static int print_trace(struct options *o)
{
	struct key_cursor c;

	key_cursor_init(&c, &o->keys, o->seed, 0, 1);
	for (uint64_t i = 0; i < o->print_trace; i++) {
		struct key k = keyspace_next(&o->keys, &c, false);
		char text[KEY_LEN];

		key_format(k.hash, text);
		printf("%.*s,%u\n", KEY_LEN, text, k.size);
	}
	return fflush(stdout) == 0 ? 0 : 2;
}

static int bench(struct options *o, const struct address *a, FILE *json, int argc, char **argv)
{
	struct worker *workers = calloc(o->threads, sizeof *workers);
	struct report *r = calloc(1, sizeof *r);
	struct run run = {.opt = o};
	int rc;

	if (workers == NULL || r == NULL) {
		rc = 3;
		goto out;
	}
	rc = open_connections(o, a, workers);
	if (rc != 0)
		goto out;
	atomic_store(&run.ops_left, (int64_t)o->ops);
	for (unsigned i = 0; i < o->threads; i++) {
		rc = worker_start(&workers[i], &run);
		if (rc != 0) {
			fprintf(stderr, "valbench: cannot start a thread: %s\n", strerror(-rc));
			exit(3);
		}
	}
	r->opt = o;
	run_phases(&run, workers, o->threads, r);
	report_collect(r, workers, o->threads);
	if (!o->quiet)
		report_table(r, stdout);
	if (json != NULL)
		report_json(r, json, argc, argv);
	rc = report_failed(r);
	if (interrupted)
		rc = 130;
out:
	for (unsigned i = 0; workers != NULL && i < o->threads; i++)
		free(workers[i].conns);
	free(workers);
	free(r);
	return rc;
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_signal};
	struct address a;
	struct options o;
	FILE *json = NULL;
	char *cause;
	int rc;

	rc = options_parse(&o, argc, argv, &cause);
	if (rc > 0)
		return 0;
	if (rc == 0)
		rc = address_parse(&a, o.server, &cause);
	if (rc == 0)
		rc = keyspace_open(&o.keys, o.trace, &cause);
	if (rc < 0) {
		fprintf(stderr, "valbench: %s\n", cause == NULL ? strerror(-rc) : cause);
		free(cause);
		return 2;
	}
	if (o.keys.dist == KEYS_TRACE && o.ops == 0 && o.duration_s <= 0)
		o.ops = o.keys.requests;
	if (o.json != NULL) {
		json = strcmp(o.json, "-") == 0 ? stdout : fopen(o.json, "we");
		if (json == NULL) {
			fprintf(stderr, "valbench: cannot write %s: %s\n", o.json, strerror(errno));
			return 2;
		}
	}
	value_init();
	raise_file_limit();
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (o.print_trace > 0)
		rc = print_trace(&o);
	else if (o.wakeup)
		rc = wakeup_run(&o, json);
	else if (o.idle > 0)
		rc = idle_run(&o, &a, json);
	else
		rc = bench(&o, &a, json, argc, argv);
	if (json != NULL && json != stdout && fclose(json) != 0) {
		fprintf(stderr, "valbench: cannot write %s: %s\n", o.json, strerror(errno));
		rc = rc == 0 ? 2 : rc;
	}
	keyspace_close(&o.keys);
	return rc;
}
