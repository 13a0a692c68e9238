/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A seed that failed: run again in a child of its own, with ever fewer of its steps (delta debugging), and
 * printed.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/simulation/simulation.h"

/* Runs rather than seconds, so that a busy machine shrinks as far as an idle one. */
#define SHRINK_RUNS 2000u

/* What a failure is about: its first line without numbers. */
static void gist(const char *text, char out[200])
{
	const char *v = strstr(text, ", step ");
	size_t n = 0;

	v = v != NULL ? strchr(v + 7, ':') : text;
	v = v != NULL ? v : text;
	for (; *v != '\0' && *v != '\n' && n < 199; v++)
		if (*v < '0' || *v > '9')
			out[n++] = *v;
	out[n] = '\0';
}

void run_child(const struct plan *p, bool show, struct outcome *o)
{
	size_t n = 0;
	int fd[2], status;
	ssize_t got;
	pid_t pid;

	memset(o, 0, sizeof *o);
	AZ(pipe(fd));
	pid = fork();
	A(pid >= 0);
	if (pid == 0) {
		close(fd[0]);
		if (!show)
			dup2(fd[1], STDERR_FILENO);
		close(fd[1]);
		alarm(show ? 600 : SIM_SECONDS);
		world_run(p, show);
		_exit(0);
	}
	close(fd[1]);
	while ((got = read(fd[0], o->text + n, SIM_TEXT - 1 - n)) > 0 ||
	       (got < 0 && errno == EINTR)) {
		n += got > 0 ? (size_t)got : 0;
		if (n == SIM_TEXT - 1) {
			/* the start of what it has to say is enough, the end matters more */
			memmove(o->text, o->text + SIM_TEXT / 2, n - SIM_TEXT / 2);
			n -= SIM_TEXT / 2;
		}
	}
	o->text[n] = '\0';
	close(fd[0]);
	A(waitpid(pid, &status, 0) == pid);
	o->failed = status != 0;
	if (WIFSIGNALED(status))
		snprintf(o->text + n, SIM_TEXT - n, "died of signal %d (%s)\n", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
}

static void shrink(struct plan *p, const struct outcome *was)
{
	const char *at_step = strstr(was->text, ", step ");
	char want[200], have[200];
	unsigned runs = 0, step;

	gist(was->text, want);
	/* what comes after the failure has no part in it */
	if (at_step != NULL && sscanf(at_step, ", step %u", &step) == 1 && step < p->n)
		p->n = step;
	for (unsigned chunk = (p->n + 1) / 2; chunk > 0 && runs < SHRINK_RUNS;) {
		bool any = false;

		for (unsigned at = p->n; at > 0 && runs < SHRINK_RUNS;) {
			unsigned n = chunk < at ? chunk : at, from = at - n;
			struct plan less = {.setup = p->setup, .n = p->n - n};
			struct outcome o;

			less.step = malloc((less.n + 1) * sizeof *less.step);
			AN(less.step != NULL);
			memcpy(less.step, p->step, from * sizeof *p->step);
			memcpy(less.step + from, p->step + at, (p->n - at) * sizeof *p->step);
			run_child(&less, false, &o);
			runs++;
			gist(o.text, have);
			if (o.failed && strcmp(have, want) == 0) {
				free(p->step);
				p->step = less.step;
				p->n = less.n;
				any = true;
			} else {
				free(less.step);
			}
			at = from;
		}
		if (!any || chunk > 1)
			chunk /= 2;
	}
	fprintf(stderr, "shrunk to %u steps in %u runs\n", p->n, runs);
}

void report(const struct report_how *how, uint64_t seed, int status, int said)
{
	struct outcome o;
	struct plan p;

	plan_make(&p, seed, how->ops, how->calm);
	run_child(&p, false, &o);
	if (!o.failed) {
		fprintf(stderr,
			"seed %" PRIu64 " failed with status %x, but not when it ran alone\n", seed,
			(unsigned)status);
		if (pread(said, o.text, SIM_TEXT - 1, 0) > 0)
			fprintf(stderr, "%s", o.text);
		plan_free(&p);
		return;
	}
	fprintf(stderr, "seed %" PRIu64 " failed:\n%s", seed, o.text);
	if (how->shrink) {
		shrink(&p, &o);
		run_child(&p, false, &o);
		plan_print_setup(stderr, &p.setup);
		for (unsigned i = 0; i < p.n && i < 200; i++)
			plan_print_step(stderr, &p.setup, i, &p.step[i]);
		fprintf(stderr, "%s", o.text);
	}
	if (how->verbose)
		run_child(&p, true, &o);
	fprintf(stderr, "again: tests/simulate --seed %" PRIu64 "%s%s --verbose\n", seed,
		how->calm ? " --calm" : "", how->ops != SIM_OPS ? " with the same --ops" : "");
	plan_free(&p);
}
