/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay: hit ratio and device writes of the real store on a trace, beside LRU, FIFO and Belady's
 * MIN with the same number of bytes. Exit status 0, 1 (a wrong value, or it could not run), 2 (bad
 * arguments).
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/size.h"
#include "bench/replay/replay.h"
#include "bench/sim/args.h"

#define RESULTS_MAX 64u

struct options {
	struct trace_spec spec;
	struct drive drive;
	const char *trace, *json, *out, *policies;
	uint64_t size, limit;
	double skip;
	bool frontier, check;
};

static const char help[] =
    "usage: replay --trace FILE[.gz] --size SIZE [flags]\n"
    "       replay --make zipf|loop|scan|walk|drift --size SIZE [flags]\n"
    "       replay --check\n"
    "\n"
    "Replays a trace against the store through a real file (a get, and after a miss a set), "
    "compares\n"
    "every byte, and prints hit ratio and device bytes written per SET byte, beside exact LRU, "
    "FIFO\n"
    "and Belady's MIN, which are given SIZE bytes of values and pay nothing for keys and headers.\n"
    "\n"
    "  --trace FILE       lines of \"key,bytes\", plain or .gz\n"
    "  --limit N          only its first N requests\n"
    "  --make KIND        make a trace: zipf, loop, scan (zipf and 30 % new keys), walk (root,\n"
    "                     directory, leaf), drift (zipf by age)\n"
    "  --alpha A          of all but loop (0.9)\n"
    "  --keys N           (1000000)\n"
    "  --requests N       (9000000)\n"
    "  --value SIZE       of each value; 0: log-normal around 32k (8k)\n"
    "  --seed N           of trace, keys and values (1)\n"
    "\n"
    "  --size SIZE        of the store's file, and budget of the others (1g)\n"
    "  --ram SIZE         RAM tier (64m)\n"
    "  --path FILE        the store's file; overwritten, removed at the end (var/replay.store)\n"
    "  --keep             do not remove it\n"
    "  --policy LIST      of all, second, lru, fifo, min, ocache (all,second,lru,fifo,min)\n"
    "  --depth N          requests in flight (16)\n"
    "  --skip F           the late columns begin after this part of the trace (0.3333)\n"
    "  --reboot HOW       there the store is stopped and started again: shm from shared memory, disk\n"
    "                     from its file, lost from its file and without what it knew of use (no)\n"
    "  --disk DEV         count its writes in /sys/block/DEV/stat, too\n"
    "\n"
    "  --frontier         run at a quarter, half and all of SIZE and draw hit ratio against "
    "writes\n"
    "  --out STEM         of the drawing: STEM.svg, STEM.png, STEM.dat (var/frontier)\n"
    "  --json FILE        write all results; -: to standard output\n"
    "  --quiet            no progress\n"
    "  --check            compare the simulators with brute force on small traces\n"
    "\n"
    "Sizes take k, m, g, t.\n";

static uint64_t size_arg(const char *name, const char *value)
{
	uint64_t n;

	if (size_parse(value, &n) != 0)
		args_bad(name, value, "is not a size such as 64m");
	return n;
}

static void parse(int argc, char **argv, struct options *o)
{
	enum {
		TRACE = 1,
		LIMIT,
		MAKE,
		ALPHA,
		KEYS,
		REQUESTS,
		VALUE,
		SEED,
		SIZE,
		RAM,
		PATH,
		KEEP,
		POLICY,
		DEPTH,
		SKIP,
		REBOOT,
		DISK,
		FRONTIER,
		OUT,
		JSON,
		QUIET,
		CHECK,
		HELP
	};
	static const struct option longs[] = {
	    {"trace", 1, NULL, TRACE},   {"limit", 1, NULL, LIMIT}, {"make", 1, NULL, MAKE},
	    {"alpha", 1, NULL, ALPHA},   {"keys", 1, NULL, KEYS},   {"requests", 1, NULL, REQUESTS},
	    {"value", 1, NULL, VALUE},   {"seed", 1, NULL, SEED},   {"size", 1, NULL, SIZE},
	    {"ram", 1, NULL, RAM},       {"path", 1, NULL, PATH},   {"keep", 0, NULL, KEEP},
	    {"policy", 1, NULL, POLICY}, {"depth", 1, NULL, DEPTH}, {"skip", 1, NULL, SKIP},
	    {"reboot", 1, NULL, REBOOT}, {"disk", 1, NULL, DISK},   {"frontier", 0, NULL, FRONTIER},
	    {"out", 1, NULL, OUT},       {"json", 1, NULL, JSON},   {"quiet", 0, NULL, QUIET},
	    {"check", 0, NULL, CHECK},   {"help", 0, NULL, HELP},   {NULL, 0, NULL, 0}};
	int c, at = 0;

	while ((c = getopt_long(argc, argv, "h", longs, &at)) != -1) {
		const char *name = c == 'h' || c == '?' ? "" : longs[at].name;

		switch (c) {
		case TRACE:
			o->trace = optarg;
			break;
		case LIMIT:
			o->limit = args_number(name, optarg, 1, UINT64_MAX);
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
			o->spec.value = (uint32_t)size_arg(name, optarg);
			if (size_arg(name, optarg) > 1u << 20)
				args_bad(name, optarg, "is above 1m, the store's item limit here");
			break;
		case SEED:
			o->spec.seed = args_number(name, optarg, 0, UINT64_MAX);
			break;
		case SIZE:
			o->size = size_arg(name, optarg);
			break;
		case RAM:
			o->drive.ram = size_arg(name, optarg);
			break;
		case PATH:
			o->drive.path = optarg;
			break;
		case KEEP:
			o->drive.keep = true;
			break;
		case POLICY:
			o->policies = optarg;
			break;
		case DEPTH:
			o->drive.depth = (unsigned)args_number(name, optarg, 1, 4096);
			break;
		case SKIP:
			o->skip = args_real(name, optarg, 0, 0.99);
			break;
		case REBOOT:
			if (strcmp(optarg, "shm") == 0)
				o->drive.reboot = REBOOT_SHM;
			else if (strcmp(optarg, "disk") == 0)
				o->drive.reboot = REBOOT_DISK;
			else if (strcmp(optarg, "lost") == 0)
				o->drive.reboot = REBOOT_LOST;
			else
				args_bad(name, optarg, "is none of shm, disk and lost");
			break;
		case DISK:
			o->drive.disk = optarg;
			break;
		case FRONTIER:
			o->frontier = true;
			break;
		case OUT:
			o->out = optarg;
			break;
		case JSON:
			o->json = optarg;
			break;
		case QUIET:
			o->drive.progress = false;
			break;
		case CHECK:
			o->check = true;
			break;
		case HELP:
		case 'h':
			fputs(help, stdout);
			exit(0);
		default:
			fprintf(stderr, "replay --help lists the flags\n");
			exit(2);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "replay: %s is not a flag; --help lists them\n", argv[optind]);
		exit(2);
	}
}

/* One policy by its name at one size. 0: it ran; 1: it did not; 2: there is no such policy. */
static int run_one(const struct options *o, const struct trace *t, const char *name, size_t len,
		   uint64_t size, uint64_t skip, struct result *r)
{
	static const struct {
		const char *name;
		sim_fn *run;
		enum store_admit admit;
	} known[] = {{"all", NULL, STORE_ADMIT_ALL},
		     {"second", NULL, STORE_ADMIT_SECOND},
		     {"lru", sim_lru, 0},
		     {"fifo", sim_fifo, 0},
		     {"min", sim_min, 0},
		     {"ocache", sim_ocache, 0}};
	struct drive drive = o->drive;
	char *cause = NULL;

	for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strlen(known[i].name) != len || strncmp(known[i].name, name, len) != 0)
			continue;
		if (known[i].run != NULL) {
			if (known[i].run(t, size, skip, &r->run))
				return 0;
			fprintf(stderr, "replay: no memory for the simulation of %s\n",
				known[i].name);
			return 1;
		}
		drive.size = size;
		drive.admit = known[i].admit;
		if (drive_store(t, &drive, skip, r, &cause) == 0)
			return 0;
		fprintf(stderr, "replay: %s\n", cause != NULL ? cause : "the store could not run");
		free(cause);
		return 1;
	}
	fprintf(stderr,
		"replay: there is no policy %.*s; all, second, lru, fifo, min and ocache are\n",
		(int)len, name);
	return 2;
}

int main(int argc, char **argv)
{
	struct options o = {
	    .spec = {NULL, 0.9, 1000000, 9000000, 8192, 1},
	    .drive = {.path = "var/replay.store", .ram = 64 << 20, .depth = 16, .progress = true},
	    .size = 1ull << 30,
	    .skip = 1.0 / 3,
	    .out = "var/frontier",
	    .policies = "all,second,lru,fifo,min"};
	static struct result results[RESULTS_MAX];
	struct trace t;
	char *cause = NULL;
	unsigned n = 0;
	uint64_t skip, wrong = 0;
	int status = 0;

	parse(argc, argv, &o);
	if (o.check)
		return check_simulators(o.spec.seed) == 0 ? 0 : 1;
	if ((o.trace == NULL) == (o.spec.kind == NULL)) {
		fprintf(stderr, "replay: give one of --trace and --make; --help lists the flags\n");
		return 2;
	}
	log_set_level(LOG_WARN);
	o.drive.seed = o.spec.seed;
	if ((o.trace != NULL ? trace_load(&t, o.trace, o.limit, &cause)
			     : trace_make(&t, &o.spec, &cause)) != 0) {
		fprintf(stderr, "replay: %s\n", cause != NULL ? cause : "no memory");
		free(cause);
		return 1;
	}
	skip = (uint64_t)((double)t.n * o.skip);
	for (unsigned shift = o.frontier ? 2 : 0; status == 0; shift--) {
		for (const char *p = o.policies; status == 0 && *p != '\0' && n < RESULTS_MAX;) {
			size_t len = strcspn(p, ",");

			status = run_one(&o, &t, p, len, o.size >> shift, skip, &results[n]);
			if (status == 0)
				wrong += results[n++].wrong;
			p += len + (p[len] == ',');
		}
		if (shift == 0)
			break;
	}
	if (n > 0)
		report_table(&t, results, n);
	if (n > 0 && o.json != NULL && !report_json(o.json, &t, results, n, skip) && status == 0)
		status = 1;
	if (n > 0 && o.frontier && !report_plot(o.out, &t, results, n) && status == 0)
		status = 1;
	if (wrong > 0) {
		fprintf(stderr, "replay: %lu wrong answers\n", (unsigned long)wrong);
		status = 1;
	}
	trace_free(&t);
	return status;
}
