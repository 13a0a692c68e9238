/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policies: the miss ratios of libocache's object cache and of simulated eviction policies on
 * traces, at some sizes. Exit status 0, 1 (it could not run), 2 (bad arguments).
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "bench/policies/policies.h"
#include "bench/sim/args.h"

struct options {
	struct trace_spec spec;
	const char *trace, *json, *write;
	struct table_spec table;
	const char *draw;
	uint32_t curve; /* 0: no */
	bool suite;
};

static const char help[] =
    "usage: policies --suite [--trace FILE[.gz]] [flags]\n"
    "       policies --trace FILE[.gz] | --make zipf|loop|scan|walk|drift [flags]\n"
    "\n"
    "Replays traces (a get, and after a miss an add) against libocache's object cache and\n"
    "simulated policies, and prints the misses in percent of the requests after the first third.\n"
    "\n"
    "  --suite            the made traces of docs/policies.md, after FILE\n"
    "  --trace FILE       lines of \"key,bytes\", plain or .gz\n"
    "  --make KIND        make a trace: zipf, loop, scan (zipf and 30 % new keys), walk (root,\n"
    "                     directory, leaf), drift (zipf by age)\n"
    "  --alpha A          of all but loop (0.9)\n"
    "  --keys N           (300000)\n"
    "  --requests N       (3000000)\n"
    "  --value SIZE       of each value; 0: log-normal around 32k (8k)\n"
    "  --seed N           (1)\n"
    "\n"
    "  --share LIST       sizes in percent of the trace's distinct bytes (1,10,30)\n"
    "  --policy LIST      of ocache, net (ocache that does not pay for its own memory), lru, clock,\n"
    "                     s3fifo, sieve, tinylfu, min (all)\n"
    "  --skip F           requests before this part of the trace are not counted (0.3333)\n"
    "  --json FILE        write the results; -: to standard output\n"
    "  --curve N          instead: libocache's miss-ratio curve, which follows one object in N, beside\n"
    "                     that of exact LRU, over the whole trace\n"
    "  --draw FILE.svg    with --curve: both, for each trace\n"
    "  --write FILE       write the trace instead, as --trace reads it; with --suite a folder, and a\n"
    "                     file NAME.csv for each (spaces and commas in NAME become -)\n"
    "\n"
    "Sizes take k, m, g, t.\n";

static void shares_arg(const char *name, char *value, struct table_spec *table)
{
	char *save = NULL;

	table->shares = 0;
	for (char *s = strtok_r(value, ",", &save); s != NULL; s = strtok_r(NULL, ",", &save)) {
		if (table->shares == SHARES_MAX)
			args_bad(name, value, "are too many");
		table->share[table->shares++] = args_real(name, s, 0.001, 1000);
	}
	if (table->shares == 0)
		args_bad(name, value, "names no size");
}

static void parse(int argc, char **argv, struct options *o)
{
	enum {
		TRACE = 1,
		MAKE,
		ALPHA,
		KEYS,
		REQUESTS,
		VALUE,
		SEED,
		SHARE,
		POLICY,
		SKIP,
		JSON,
		WRITE,
		CURVE,
		DRAW,
		SUITE,
		HELP
	};
	static const struct option longs[] = {{"trace", 1, NULL, TRACE},
					      {"make", 1, NULL, MAKE},
					      {"alpha", 1, NULL, ALPHA},
					      {"keys", 1, NULL, KEYS},
					      {"requests", 1, NULL, REQUESTS},
					      {"value", 1, NULL, VALUE},
					      {"seed", 1, NULL, SEED},
					      {"share", 1, NULL, SHARE},
					      {"policy", 1, NULL, POLICY},
					      {"skip", 1, NULL, SKIP},
					      {"json", 1, NULL, JSON},
					      {"write", 1, NULL, WRITE},
					      {"curve", 1, NULL, CURVE},
					      {"draw", 1, NULL, DRAW},
					      {"suite", 0, NULL, SUITE},
					      {"help", 0, NULL, HELP},
					      {NULL, 0, NULL, 0}};
	uint64_t n;
	int c, at = 0;

	while ((c = getopt_long(argc, argv, "h", longs, &at)) != -1) {
		const char *name = c == 'h' || c == '?' ? "" : longs[at].name;

		switch (c) {
		case TRACE:
			o->trace = optarg;
			break;
		case MAKE:
			o->spec.kind = optarg;
			break;
		case ALPHA:
			o->spec.alpha = args_real(name, optarg, 0, 10);
			break;
		case KEYS:
			o->spec.keys = (uint32_t)args_number(name, optarg, 1, 1u << 31);
			break;
		case REQUESTS:
			o->spec.requests = args_number(name, optarg, 1, 1ull << 36);
			break;
		case VALUE:
			if (size_parse(optarg, &n) != 0 || n > UINT32_MAX)
				args_bad(name, optarg, "is not a size such as 8k");
			o->spec.value = (uint32_t)n;
			break;
		case SEED:
			o->spec.seed = args_number(name, optarg, 0, UINT64_MAX);
			break;
		case SHARE:
			shares_arg(name, optarg, &o->table);
			break;
		case POLICY:
			o->table.policies = optarg;
			break;
		case SKIP:
			o->table.skip = args_real(name, optarg, 0, 0.99);
			break;
		case JSON:
			o->json = optarg;
			break;
		case WRITE:
			o->write = optarg;
			break;
		case CURVE:
			o->curve = (uint32_t)args_number(name, optarg, 1, UINT32_MAX);
			break;
		case DRAW:
			o->draw = optarg;
			break;
		case SUITE:
			o->suite = true;
			break;
		case HELP:
		case 'h':
			fputs(help, stdout);
			exit(0);
		default:
			fprintf(stderr, "policies --help lists the flags\n");
			exit(2);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "policies: %s is not a flag; --help lists them\n", argv[optind]);
		exit(2);
	}
	if (o->draw != NULL && o->curve == 0) {
		fprintf(stderr, "policies: --draw needs --curve; --help lists the flags\n");
		exit(2);
	}
	if (o->suite ? o->spec.kind != NULL : (o->trace == NULL) == (o->spec.kind == NULL)) {
		fprintf(stderr,
			"policies: give one of --suite, --trace and --make; --help lists the "
			"flags\n");
		exit(2);
	}
}

static int write_trace(const struct options *o, const struct trace *t)
{
	char *path = o->suite ? text("%s/%s.csv", o->write, t->name) : strdup(o->write);
	FILE *f = NULL;
	int status = 0;

	if (path != NULL) {
		if (o->suite)
			for (char *c = path + strlen(o->write) + 1; *c != '\0'; c++)
				*c = *c == ' ' || *c == ',' || *c == '/' ? '-' : *c;
		f = fopen(path, "we");
	}
	if (f != NULL)
		for (uint64_t i = 0; i < t->n; i++)
			fprintf(f, "%u,%u\n", t->key[i], t->size[t->key[i]]);
	if (f == NULL || ferror(f) != 0 || fclose(f) != 0) {
		fprintf(stderr, "policies: %s cannot be written: %m\n", path != NULL ? path : "?");
		status = 1;
	}
	free(path);
	return status;
}

/* One trace: from the file, or made (file NULL), with another name or its own (NULL). */
static int run_trace(const struct options *o, const char *file, const struct trace_spec *spec,
		     const char *name, struct table *out)
{
	struct trace t;
	char *cause = NULL;
	int status;

	if ((file != NULL ? trace_load(&t, file, 0, &cause) : trace_make(&t, spec, &cause)) != 0) {
		fprintf(stderr, "policies: %s\n", cause != NULL ? cause : "no memory");
		free(cause);
		return 1;
	}
	if (name != NULL)
		snprintf(t.name, sizeof(t.name), "%s", name);
	status = o->write != NULL ? write_trace(o, &t)
		 : o->curve != 0  ? curve_trace(&t, o->curve)
				  : table_trace(&o->table, &t, out);
	trace_free(&t);
	return status;
}

static int run_suite(const struct options *o, struct table *out)
{
	static const struct {
		const char *name;
		const char *kind;
		double alpha;
		uint32_t keys;
		uint32_t value;
	} made[] = {{"zipf 0.6", "zipf", 0.6, 300000, 8192},
		    {"zipf 0.8", "zipf", 0.8, 300000, 8192},
		    {"zipf 0.9", "zipf", 0.9, 300000, 8192},
		    {"zipf 0.99", "zipf", 0.99, 300000, 8192},
		    {"zipf 1.2", "zipf", 1.2, 300000, 8192},
		    {"zipf 0.9, sizes differ", "zipf", 0.9, 300000, 0},
		    {"zipf 0.9 and scans", "scan", 0.9, 300000, 8192},
		    {"zipf 0.6 and scans", "scan", 0.6, 300000, 8192},
		    {"demand drifts 0.7", "drift", 0.7, 300000, 8192},
		    {"demand drifts 0.9", "drift", 0.9, 300000, 8192},
		    {"loop", "loop", 0, 300000, 8192},
		    {"tree walk 0.9", "walk", 0.9, 300000, 8192},
		    {"tree walk 0.6", "walk", 0.6, 300000, 8192}};
	int status = 0;

	if (o->trace != NULL)
		status = run_trace(o, o->trace, NULL, NULL, out);
	for (unsigned i = 0; status == 0 && i < sizeof(made) / sizeof(made[0]); i++) {
		struct trace_spec spec = o->spec;

		spec.kind = made[i].kind;
		spec.alpha = made[i].alpha;
		spec.keys = made[i].keys;
		spec.value = made[i].value;
		status = run_trace(o, NULL, &spec, made[i].name, out);
	}
	return status;
}

int main(int argc, char **argv)
{
	struct options o = {.spec = {NULL, 0.9, 300000, 3000000, 8192, 1},
			    .table = {.share = {1, 10, 30},
				      .shares = 3,
				      .skip = 1.0 / 3,
				      .policies = "ocache,net,lru,clock,s3fifo,sieve,tinylfu,min"}};
	static struct table table;
	int status;

	parse(argc, argv, &o);
	status = o.suite ? run_suite(&o, &table) : run_trace(&o, o.trace, &o.spec, NULL, &table);
	if (status == 0 && o.draw != NULL)
		return curve_draw(o.draw) ? 0 : 1;
	if (status == 0 && o.write == NULL && o.curve == 0) {
		table_summary(&table);
		if (o.json != NULL && !table_json(&table, o.json))
			status = 1;
	}
	return status;
}
