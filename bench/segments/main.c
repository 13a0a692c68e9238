/* SPDX-License-Identifier: Apache-2.0 */
/* Options and commands; see segments.h. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/size.h"
#include "bench/segments/segments.h"
#include "efs/efs.h"
#include "ocache/memcached.h"

void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("segments: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

struct seg_id *list_read(const char *path, uint32_t *n)
{
	FILE *f = fopen(path, "rb");
	struct seg_id *ids;
	struct stat st;

	if (f == NULL || fstat(fileno(f), &st) != 0)
		die("%s: %s", path, strerror(errno));
	*n = (uint32_t)((size_t)st.st_size / sizeof *ids);
	ids = malloc(*n * sizeof *ids + 1);
	if (ids == NULL || *n == 0 || fread(ids, sizeof *ids, *n, f) != *n)
		die("%s is not a list of ids", path);
	if (fclose(f) != 0)
		die("%s: %s", path, strerror(errno));
	return ids;
}

struct tier *files_open(const struct options *o)
{
	struct efs_config cfg = {.struct_size = sizeof cfg,
				 .path = o->dir,
				 .threads = o->files,
				 .record = true,
				 .no_sync = true};
	struct tier *t;
	char *cause;

	if (efs_open(&cfg, &t, &cause) != 0)
		die("%s", cause);
	return t;
}

struct tier *server_open(const struct options *o)
{
	struct tier_memcached_config cfg = {.struct_size = sizeof cfg,
					    .servers = &o->server,
					    .servers_count = 1,
					    .key = "valcached"};
	struct tier *t;
	char *cause;

	if (tier_memcached_open(&cfg, &t, &cause) != 0)
		die("%s", cause);
	return t;
}

double cpu_s(void)
{
	struct rusage u;

	if (getrusage(RUSAGE_SELF, &u) != 0)
		die("getrusage: %s", strerror(errno));
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static const char usage[] =
    "segments COMMAND [OPTIONS]\n"
    "\n"
    "  make     databases of datoms into an efs folder, until there are --count segments; their ids into --list\n"
    "  drop     the pages of those files out of the page cache\n"
    "  read     the ids of the list from one tier alone: --server if it is given, else the files\n"
    "  decode   the same segments from memory: envelope and decoder alone\n"
    "  chain    through ocache, over --server and the files, to objects\n"
    "\n"
    "  --dir=FOLDER --list=FILE --server=HOST:PORT|/SOCKET\n"
    "  --count=10000     segments\n"
    "  --seed=1          of the databases\n"
    "  --datoms=2m       datoms of a database\n"
    "  --depth=32        reads at a time\n"
    "  --threads=2       that decode\n"
    "  --files=0         threads of efs; 0: its own number\n"
    "  --budget=256m     of the object cache\n"
    "  --by=submit       or get: --depth threads that wait\n"
    "  --deadline=1s     of the server\n"
    "  --no-fill         what comes from the files is not written to the server\n";

static uint64_t number(const char *name, const char *text, bool size, uint64_t least, uint64_t most)
{
	uint64_t v;

	if ((size ? size_parse(text, &v) : size_parse_number(text, &v)) != 0 || v < least ||
	    v > most)
		die("--%s=%s: not a number from %llu to %llu", name, text,
		    (unsigned long long)least, (unsigned long long)most);
	return v;
}

static void option(struct options *o, int c, const char *name, const char *arg)
{
	switch (c) {
	case 'd':
		o->dir = arg;
		break;
	case 'l':
		o->list = arg;
		break;
	case 's':
		o->server = arg;
		break;
	case 'c':
		o->count = number(name, arg, true, 1, 1 << 24);
		break;
	case 'e':
		o->seed = number(name, arg, false, 0, UINT64_MAX);
		break;
	case 'D':
		o->datoms = number(name, arg, true, 1, 1 << 28);
		break;
	case 'q':
		o->depth = (uint32_t)number(name, arg, false, 1, 4096);
		break;
	case 't':
		o->threads = (uint32_t)number(name, arg, false, 1, 256);
		break;
	case 'f':
		o->files = (uint32_t)number(name, arg, false, 0, 256);
		break;
	case 'b':
		o->budget = number(name, arg, true, OCACHE_BUDGET_MIN, UINT64_MAX);
		break;
	case 'B':
		o->by = arg;
		if (strcmp(arg, "submit") != 0 && strcmp(arg, "get") != 0)
			die("--by is submit or get");
		break;
	case 'n':
		o->no_fill = true;
		break;
	case 'T':
		if (size_parse_duration(arg, &o->deadline_ns) != 0)
			die("--deadline=%s: not a time, such as 50ms", arg);
		break;
	case 'h':
		fputs(usage, stdout);
		exit(0);
	default:
		fputs(usage, stderr);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
	    {"dir", 1, NULL, 'd'},     {"list", 1, NULL, 'l'},    {"server", 1, NULL, 's'},
	    {"count", 1, NULL, 'c'},   {"seed", 1, NULL, 'e'},    {"datoms", 1, NULL, 'D'},
	    {"depth", 1, NULL, 'q'},   {"threads", 1, NULL, 't'}, {"files", 1, NULL, 'f'},
	    {"budget", 1, NULL, 'b'},  {"by", 1, NULL, 'B'},      {"deadline", 1, NULL, 'T'},
	    {"no-fill", 0, NULL, 'n'}, {"help", 0, NULL, 'h'},    {NULL, 0, NULL, 0}};
	static const struct {
		const char *name;
		int (*run)(const struct options *);
	} command[] = {{"make", make_segments},
		       {"drop", drop_segments},
		       {"read", read_tier},
		       {"decode", decode_segments},
		       {"chain", read_chain}};
	struct options o = {.by = "submit",
			    .count = 10000,
			    .seed = 1,
			    .budget = 256u << 20,
			    .depth = 32,
			    .threads = 2,
			    .datoms = 2000000};
	int c, which = 0;

	while ((c = getopt_long(argc, argv, "", longs, &which)) != -1)
		option(&o, c, longs[which].name, optarg);
	if (optind + 1 != argc)
		option(&o, '?', "", NULL);
	if (o.dir == NULL || o.list == NULL)
		die("--dir and --list are wanted");
	for (size_t i = 0; i < sizeof command / sizeof *command; i++)
		if (strcmp(argv[optind], command[i].name) == 0)
			return command[i].run(&o);
	die("%s is no command: segments --help lists them", argv[optind]);
}
