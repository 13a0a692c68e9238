/* SPDX-License-Identifier: Apache-2.0 */
/* What replay prints, writes and draws. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/size.h"
#include "bench/replay/replay.h"

void report_table(const struct trace *t, const struct result *r, unsigned n)
{
	char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX];
	uint64_t last_size = 0;
	double lru = -1;

	printf("%s: %lu requests, %u keys, %s distinct, %s requested\n", t->name,
	       (unsigned long)t->n, t->nkeys, size_human(a, sizeof(a), (double)t->distinct_bytes),
	       size_human(b, sizeof(b), (double)t->requested_bytes));
	printf("%-8s %8s | %8s %8s %8s | %8s %8s %8s %8s | %s\n", "policy", "size", "hit", "bytes",
	       "dev/set", "late hit", "bytes", "dev/set", "to LRU", "seconds");
	for (unsigned i = 0; i < n; i++) {
		char diff[16] = "-";

		if (r[i].run.size != last_size)
			for (unsigned j = i; j < n && r[j].run.size == r[i].run.size; j++)
				if (strcmp(r[j].run.name, "LRU") == 0)
					lru = ratio(r[j].run.late.hits, r[j].run.late.gets);
		last_size = r[i].run.size;
		if (lru >= 0)
			snprintf(diff, sizeof(diff), "%+.2f",
				 100 * (ratio(r[i].run.late.hits, r[i].run.late.gets) - lru));
		printf("%-8s %8s | %8.4f %8.4f %8.3f | %8.4f %8.4f %8.3f %8s | %.1f\n",
		       r[i].run.name, size_human(a, sizeof(a), (double)r[i].run.size),
		       ratio(r[i].run.all.hits, r[i].run.all.gets),
		       ratio(r[i].run.all.hit_bytes, r[i].run.all.get_bytes),
		       ratio(r[i].run.all.device_bytes, r[i].run.all.set_bytes),
		       ratio(r[i].run.late.hits, r[i].run.late.gets),
		       ratio(r[i].run.late.hit_bytes, r[i].run.late.get_bytes),
		       ratio(r[i].run.late.device_bytes, r[i].run.late.set_bytes), diff,
		       r[i].run.seconds);
		if (!r[i].real)
			continue;
		printf("         %s written = %.2f laps, %lu segments recycled, %lu records "
		       "re-inserted, %lu values at the end, %.1f %% of gets from RAM",
		       size_human(a, sizeof(a), (double)r[i].run.all.device_bytes),
		       ratio(r[i].run.all.device_bytes, r[i].run.size),
		       (unsigned long)r[i].recycled, (unsigned long)r[i].reinserted,
		       (unsigned long)r[i].items,
		       100 * ratio(r[i].run.all.hits_ram, r[i].run.all.gets));
		if (r[i].run.late.kernel_bytes != 0)
			printf(", %.3f dev/set by the kernel's count",
			       ratio(r[i].run.late.kernel_bytes, r[i].run.late.set_bytes));
		printf(", %lu wrong\n", (unsigned long)r[i].wrong);
	}
}

static void json_tally(FILE *f, const char *name, const struct tally *y, const char *after)
{
	fprintf(
	    f,
	    "\"%s\": {\"gets\": %lu, \"hits\": %lu, \"hits_ram\": %lu, \"get_bytes\": %lu, "
	    "\"hit_bytes\": %lu, \"sets\": %lu, \"set_bytes\": %lu, \"device_bytes\": %lu, "
	    "\"kernel_bytes\": %lu, \"hit_ratio\": %.5f, \"device_bytes_per_set_byte\": %.4f}%s",
	    name, (unsigned long)y->gets, (unsigned long)y->hits, (unsigned long)y->hits_ram,
	    (unsigned long)y->get_bytes, (unsigned long)y->hit_bytes, (unsigned long)y->sets,
	    (unsigned long)y->set_bytes, (unsigned long)y->device_bytes,
	    (unsigned long)y->kernel_bytes, ratio(y->hits, y->gets),
	    ratio(y->device_bytes, y->set_bytes), after);
}

bool report_json(const char *path, const struct trace *t, const struct result *r, unsigned n,
		 uint64_t skip)
{
	FILE *f = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");

	if (f == NULL) {
		fprintf(stderr, "replay: %s cannot be written: %m\n", path);
		return false;
	}
	fprintf(f, "{\"trace\": \"");
	json_name(f, t->name);
	fprintf(f, "\", \"requests\": %lu, \"keys\": %u, \"skip\": %lu, \"results\": [\n",
		(unsigned long)t->n, t->nkeys, (unsigned long)skip);
	for (unsigned i = 0; i < n; i++) {
		fprintf(f, "  {\"policy\": \"%s\", \"size\": %lu, \"seconds\": %.3f, ",
			r[i].run.name, (unsigned long)r[i].run.size, r[i].run.seconds);
		if (r[i].real) {
			fprintf(f,
				"\"wrong\": %lu, \"items\": %lu, \"segments_recycled\": %lu, "
				"\"records_reinserted\": %lu, "
				"\"counters\": {",
				(unsigned long)r[i].wrong, (unsigned long)r[i].items,
				(unsigned long)r[i].recycled, (unsigned long)r[i].reinserted);
#define X(name, s) fprintf(f, "\"" #name "\": %lu, ", (unsigned long)r[i].counters.name);
			STORE_COUNTERS(X)
#undef X
			fprintf(f, "\"end\": 0}, ");
		}
		json_tally(f, "all", &r[i].run.all, ", ");
		json_tally(f, "late", &r[i].run.late, i + 1 < n ? "},\n" : "}\n");
	}
	fprintf(f, "]}\n");
	return f == stdout ? fflush(f) == 0 : fclose(f) == 0;
}

bool report_plot(const char *stem, const struct trace *t, const struct result *r, unsigned n)
{
	static const char *const policies[] = {"all", "second", "LRU", "FIFO", "MIN"};
	static const char *const colours[] = {"#0060ad", "#00855a", "#666666", "#b0b0b0",
					      "#c03030"};
	char path[512], *name;
	int fds[2], status;
	bool seen[5] = {false};
	FILE *f;
	pid_t pid;

	snprintf(path, sizeof(path), "%s.dat", stem);
	f = fopen(path, "we");
	if (f == NULL) {
		fprintf(stderr, "replay: %s cannot be written: %m\n", path);
		return false;
	}
	fprintf(f, "# %s; device bytes per SET byte, hit ratio, size; a block for each policy\n",
		t->name);
	for (unsigned p = 0; p < 5; p++) {
		for (unsigned i = 0; i < n; i++) {
			char s[SIZE_TEXT_MAX];

			if (strcmp(r[i].run.name, policies[p]) != 0)
				continue;
			seen[p] = true;
			fprintf(f, "%.4f %.5f \"%s\"\n",
				ratio(r[i].run.late.device_bytes, r[i].run.late.set_bytes),
				ratio(r[i].run.late.hits, r[i].run.late.gets),
				size_human(s, sizeof(s), (double)r[i].run.size));
		}
		fprintf(f, "%s\n\n", seen[p] ? "" : "NaN NaN \"\"\n");
	}
	if (fclose(f) != 0 || pipe(fds) != 0)
		return false;
	signal(SIGPIPE, SIG_IGN); /* gnuplot may be missing, or end early */
	pid = fork();
	if (pid == 0) {
		dup2(fds[0], STDIN_FILENO);
		close(fds[0]);
		close(fds[1]);
		execlp("gnuplot", "gnuplot", (char *)NULL);
		_exit(127);
	}
	close(fds[0]);
	if (pid < 0) {
		close(fds[1]);
		return false;
	}
	f = fdopen(fds[1], "we");
	name = strdup(t->name);
	if (f == NULL || name == NULL)
		return false;
	for (char *c = name; *c != '\0'; c++)
		if (*c == '"' || *c == '\\' || *c == '_')
			*c = ' ';
	for (int svg = 0; svg < 2; svg++) {
		fprintf(f, "set terminal %s size 900,600 font 'sans,12' background '#ffffff'\n",
			svg ? "svg" : "pngcairo");
		fprintf(f, "set output '%s.%s'\n", stem, svg ? "svg" : "png");
		fprintf(f, "set title \"%s\"\nset grid\nset key outside right top\n", name);
		fprintf(
		    f,
		    "set xlabel 'device bytes written per SET byte'\n"
		    "set ylabel 'hit ratio'\nset xrange [0:*]\nset offsets 0,0.1,0.02,0.02\nplot ");
		for (unsigned p = 0; p < 5; p++)
			if (seen[p])
				fprintf(
				    f,
				    "'%s' index %u using 1:2:3 with labels offset 0,0.8 "
				    "notitle, '' "
				    "index %u using 1:2 with linespoints lw 2 pt %u lc rgb '%s' "
				    "title '%s', ",
				    path, p, p, p + 4, colours[p], policies[p]);
		fprintf(f, "\n");
	}
	free(name);
	fclose(f);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		fprintf(stderr, "replay: gnuplot %s; its data are in %s\n",
			WIFEXITED(status) && WEXITSTATUS(status) == 127
			    ? "is not installed (apt install gnuplot-nox)"
			    : "failed",
			path);
		return false;
	}
	printf("drawn: %s.svg and %s.png\n", stem, stem);
	return true;
}

void progress(const char *what, uint64_t done, uint64_t total)
{
	static uint64_t drawn_ns;
	uint64_t now = clock_ns();
	int width = (int)(done * 40 / total);

	if (!isatty(STDERR_FILENO) || (done != total && now - drawn_ns < NS_PER_S / 5))
		return;
	drawn_ns = now;
	fprintf(stderr, "\r%-8s [%-*.*s] %3lu %%", what, 40, width,
		"########################################", (unsigned long)(done * 100 / total));
	if (done == total)
		fprintf(stderr, "\r%60s\r", "");
}
