/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing and checking of valbench's flags; see options.h. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cause.h"
#include "base/size.h"
#include "bench/valbench/options.h"

static const char help_text[] =
    "usage: valbench [flags]\n"
    "Load generator for servers that speak memcached's text, meta or binary protocol. Every byte of a\n"
    "value, its length and its flags are functions of the key, and every get is checked fully.\n"
    "\n"
    "where\n"
    "  --server HOST:PORT|PATH  TCP address or unix socket (default 127.0.0.1:11211)\n"
    "  --threads N              client threads (1)\n"
    "  --connections N          connections in all, spread over the threads (8)\n"
    "  --depth N                requests in flight on each connection (1)\n"
    "  --mode text|meta|binary  protocol (text)\n"
    "what\n"
    "  --keys N                 number of keys (10000)\n"
    "  --first-key N            number of the first key (0); keys never written make misses\n"
    "  --new-from N             number of the first new key of recent and churn (after --keys)\n"
    "  --key-dist D             uniform | zipf:THETA | seq | recent | churn | trace:FILE\n"
    "                           (uniform)\n"
    "                           seq: each connection walks the keys from its own start\n"
    "                           recent: sets write new keys, gets ask for one of the last N\n"
    "                           churn: sets write new keys, gets ask for the first N\n"
    "                           trace: lines of `key,bytes`, read through zcat when *.gz; the\n"
    "                           first size of a key holds; replayed in order, again and again\n"
    "  --size S                 32k | 1k-64k | list:1k:50,32k:40,200k:10 |\n"
    "                           lognormal:MEAN:SIGMA[:MAX] (32k; MAX is 1m)\n"
    "  --mix GET:SET            ratio, for example 70:30, 100:0, 0:100 (100:0)\n"
    "  --load                   first write every key once, in order\n"
    "  --load-only              the same, and then stop\n"
    "  --fill                   set a key after its get missed (read-through)\n"
    "  --seed N                 of the random choices (1); each connection derives its own\n"
    "how long\n"
    "  --warmup S               seconds before measuring (0)\n"
    "  --duration S             seconds to measure (5)\n"
    "  --ops N                  measure this many operations instead (trace: one pass if N is 0)\n"
    "  --rate OPS               operations a second in all; latency counts from when an\n"
    "                           operation was due, so a stalled server is not flattered\n"
    "  --timeout S              no answer at all for so long is an error (30)\n"
    "checks\n"
    "  --verify full|frame      full: key, flags, length and every byte of each value (default);\n"
    "                           frame: only that answers are well formed (for nullserver)\n"
    "  --tolerate-server-errors SERVER_ERROR answers are counted but do not fail the run\n"
    "watching\n"
    "  --server-pid PID         CPU and context switches of that process per operation, its RSS\n"
    "  --disk DEV               reads per hit from /sys/block/DEV/stat\n"
    "  --json FILE              all figures as JSON (- is stdout)\n"
    "  --quiet                  no progress line, no table\n"
    "instead\n"
    "  --idle N                 open N connections, hold them for --duration, check that all\n"
    "                           still answer; shows RSS and CPU of --server-pid\n"
    "  --print-trace N          print N requests as `key,bytes`, the form --key-dist trace: reads\n"
    "  --wakeup                 measure how long a sleeping thread takes to wake on this machine\n"
    "\n"
    "exit: 0 all answers right; 1 a wrong byte, an error answer or a lost connection;\n"
    "      2 bad flags; 3 cannot connect\n";

enum {
	OPT_HELP = 256,
	OPT_SERVER,
	OPT_THREADS,
	OPT_CONNECTIONS,
	OPT_DEPTH,
	OPT_MODE,
	OPT_KEYS,
	OPT_FIRST_KEY,
	OPT_KEY_DIST,
	OPT_NEW_FROM,
	OPT_SIZE,
	OPT_MIX,
	OPT_LOAD,
	OPT_LOAD_ONLY,
	OPT_FILL,
	OPT_SEED,
	OPT_WARMUP,
	OPT_DURATION,
	OPT_OPS,
	OPT_RATE,
	OPT_TIMEOUT,
	OPT_VERIFY,
	OPT_TOLERATE,
	OPT_SERVER_PID,
	OPT_DISK,
	OPT_JSON,
	OPT_QUIET,
	OPT_IDLE,
	OPT_WAKEUP,
	OPT_PRINT_TRACE,
};

static const struct option long_options[] = {
    {"help", no_argument, NULL, OPT_HELP},
    {"server", required_argument, NULL, OPT_SERVER},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"connections", required_argument, NULL, OPT_CONNECTIONS},
    {"depth", required_argument, NULL, OPT_DEPTH},
    {"mode", required_argument, NULL, OPT_MODE},
    {"keys", required_argument, NULL, OPT_KEYS},
    {"first-key", required_argument, NULL, OPT_FIRST_KEY},
    {"new-from", required_argument, NULL, OPT_NEW_FROM},
    {"key-dist", required_argument, NULL, OPT_KEY_DIST},
    {"size", required_argument, NULL, OPT_SIZE},
    {"mix", required_argument, NULL, OPT_MIX},
    {"load", no_argument, NULL, OPT_LOAD},
    {"load-only", no_argument, NULL, OPT_LOAD_ONLY},
    {"fill", no_argument, NULL, OPT_FILL},
    {"seed", required_argument, NULL, OPT_SEED},
    {"warmup", required_argument, NULL, OPT_WARMUP},
    {"duration", required_argument, NULL, OPT_DURATION},
    {"ops", required_argument, NULL, OPT_OPS},
    {"rate", required_argument, NULL, OPT_RATE},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"verify", required_argument, NULL, OPT_VERIFY},
    {"tolerate-server-errors", no_argument, NULL, OPT_TOLERATE},
    {"server-pid", required_argument, NULL, OPT_SERVER_PID},
    {"disk", required_argument, NULL, OPT_DISK},
    {"json", required_argument, NULL, OPT_JSON},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"idle", required_argument, NULL, OPT_IDLE},
    {"wakeup", no_argument, NULL, OPT_WAKEUP},
    {"print-trace", required_argument, NULL, OPT_PRINT_TRACE},
    {NULL, 0, NULL, 0},
};

/* The size at the start of s, up to a separator; *end is behind it. */
static int parse_size(const char *s, const char **end, uint64_t *v)
{
	size_t len = strcspn(s, ":,-");
	char text[SIZE_TEXT_MAX];

	if (len >= sizeof text)
		return -EINVAL;
	memcpy(text, s, len);
	text[len] = '\0';
	*end = s + len;
	return size_parse(text, v);
}

static int parse_value_size(const char *s, const char **end, uint32_t *v)
{
	uint64_t big;

	if (parse_size(s, end, &big) != 0 || big > (1u << 30))
		return -EINVAL;
	*v = (uint32_t)big;
	return 0;
}

static int parse_count(const char *s, uint64_t min, uint64_t max, uint64_t *v)
{
	return size_parse(s, v) != 0 || *v < min || *v > max ? -EINVAL : 0;
}

static int parse_real(const char *s, double *v)
{
	char *end;

	*v = strtod(s, &end);
	return end == s || *end != '\0' || !(*v >= 0) || isinf(*v) ? -EINVAL : 0;
}

static int parse_size_list(const char *s, struct size_spec *spec)
{
	double weight[SIZE_LIST_MAX], sum = 0, upto = 0;
	const char *end;

	spec->dist = SIZE_LIST;
	for (spec->n = 0; spec->n < SIZE_LIST_MAX; s = end + 1) {
		unsigned i = spec->n++;

		weight[i] = 1;
		if (parse_value_size(s, &end, &spec->value[i]) != 0)
			return -EINVAL;
		if (*end == ':') {
			char *after;

			weight[i] = strtod(end + 1, &after);
			if (after == end + 1 || !(weight[i] > 0))
				return -EINVAL;
			end = after;
		}
		sum += weight[i];
		if (*end == '\0')
			break;
		if (*end != ',' || spec->n == SIZE_LIST_MAX)
			return -EINVAL;
	}
	for (unsigned i = 0; i < spec->n; i++)
		spec->weight_upto[i] = upto += weight[i] / sum;
	return 0;
}

static int parse_size_lognormal(const char *s, struct size_spec *spec)
{
	const char *end;
	uint32_t mean;
	char *after;

	spec->dist = SIZE_LOGNORMAL;
	spec->max = 1u << 20;
	if (parse_value_size(s, &end, &mean) != 0 || mean == 0 || *end != ':')
		return -EINVAL;
	spec->sigma = strtod(end + 1, &after);
	if (after == end + 1 || !(spec->sigma >= 0))
		return -EINVAL;
	end = after;
	if (*end == ':' && parse_value_size(end + 1, &end, &spec->max) != 0)
		return -EINVAL;
	/* the mean of a lognormal is exp(mu + sigma^2 / 2) */
	spec->mu = log(mean) - spec->sigma * spec->sigma / 2;
	return *end == '\0' ? 0 : -EINVAL;
}

static int parse_size_spec(const char *s, struct size_spec *spec)
{
	const char *end;

	memset(spec, 0, sizeof *spec);
	if (strncmp(s, "list:", 5) == 0)
		return parse_size_list(s + 5, spec);
	if (strncmp(s, "lognormal:", 10) == 0)
		return parse_size_lognormal(s + 10, spec);
	spec->dist = SIZE_RANGE;
	if (parse_value_size(s, &end, &spec->min) != 0)
		return -EINVAL;
	spec->max = spec->min;
	if (*end == '-' && parse_value_size(end + 1, &end, &spec->max) != 0)
		return -EINVAL;
	return *end == '\0' && spec->max >= spec->min ? 0 : -EINVAL;
}

static int parse_key_dist(const char *s, struct options *o)
{
	struct keyspace *ks = &o->keys;

	if (strcmp(s, "uniform") == 0) {
		ks->dist = KEYS_UNIFORM;
	} else if (strcmp(s, "seq") == 0) {
		ks->dist = KEYS_SEQ;
	} else if (strcmp(s, "recent") == 0) {
		ks->dist = KEYS_RECENT;
	} else if (strcmp(s, "churn") == 0) {
		ks->dist = KEYS_CHURN;
	} else if (strncmp(s, "zipf:", 5) == 0) {
		ks->dist = KEYS_ZIPF;
		return parse_real(s + 5, &ks->theta) == 0 && ks->theta > 0 ? 0 : -EINVAL;
	} else if (strncmp(s, "trace:", 6) == 0) {
		ks->dist = KEYS_TRACE;
		o->trace = s + 6;
	} else {
		return -EINVAL;
	}
	return 0;
}

static int parse_unsigned(const char *s, unsigned min, unsigned max, unsigned *v)
{
	uint64_t big;

	if (parse_count(s, min, max, &big) != 0)
		return -EINVAL;
	*v = (unsigned)big;
	return 0;
}

static int parse_mix(const char *s, struct options *o)
{
	char junk;

	if (sscanf(s, "%u:%u%c", &o->get_share, &o->set_share, &junk) != 2)
		return -EINVAL;
	return o->get_share <= 1000000 && o->set_share <= 1000000 && o->get_share + o->set_share > 0
		   ? 0
		   : -EINVAL;
}

static int parse_mode(const char *s, enum mode *mode)
{
	static const char *const names[] = {
	    [MODE_TEXT] = "text", [MODE_META] = "meta", [MODE_BINARY] = "binary"};

	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(s, names[i]) == 0) {
			*mode = (enum mode)i;
			return 0;
		}
	return -EINVAL;
}

static int parse_word(const char *s, const char *no, const char *yes, bool *v)
{
	*v = strcmp(s, yes) == 0;
	return *v || strcmp(s, no) == 0 ? 0 : -EINVAL;
}

static int parse_one(struct options *o, int opt, const char *arg)
{
	unsigned pid;

	switch (opt) {
	case OPT_SERVER:
		o->server = arg;
		return 0;
	case OPT_THREADS:
		return parse_unsigned(arg, 1, 256, &o->threads);
	case OPT_CONNECTIONS:
		return parse_unsigned(arg, 1, 100000, &o->connections);
	case OPT_DEPTH:
		return parse_unsigned(arg, 1, 4096, &o->depth);
	case OPT_MODE:
		return parse_mode(arg, &o->mode);
	case OPT_KEYS:
		return parse_count(arg, 1, 1ull << 40, &o->keys.n);
	case OPT_FIRST_KEY:
		return parse_count(arg, 0, 1ull << 60, &o->keys.first);
	case OPT_NEW_FROM:
		return parse_count(arg, 1, 1ull << 60, &o->keys.new_from);
	case OPT_KEY_DIST:
		return parse_key_dist(arg, o);
	case OPT_SIZE:
		return parse_size_spec(arg, &o->keys.size);
	case OPT_MIX:
		return parse_mix(arg, o);
	case OPT_LOAD:
		o->load = true;
		return 0;
	case OPT_LOAD_ONLY:
		o->load = true;
		o->run = false;
		return 0;
	case OPT_FILL:
		o->fill = true;
		return 0;
	case OPT_SEED:
		return parse_count(arg, 0, UINT64_MAX, &o->seed);
	case OPT_WARMUP:
		return parse_real(arg, &o->warmup_s);
	case OPT_DURATION:
		return parse_real(arg, &o->duration_s);
	case OPT_OPS:
		o->duration_s = 0;
		return parse_count(arg, 0, UINT64_MAX, &o->ops);
	case OPT_RATE:
		return parse_real(arg, &o->rate);
	case OPT_TIMEOUT:
		return parse_real(arg, &o->timeout_s);
	case OPT_VERIFY:
		return parse_word(arg, "frame", "full", &o->verify);
	case OPT_TOLERATE:
		o->tolerate = true;
		return 0;
	case OPT_SERVER_PID:
		if (parse_unsigned(arg, 1, 1u << 30, &pid) != 0)
			return -EINVAL;
		o->server_pid = (int)pid;
		return 0;
	case OPT_DISK:
		o->disk = arg;
		return 0;
	case OPT_JSON:
		o->json = arg;
		return 0;
	case OPT_QUIET:
		o->quiet = true;
		return 0;
	case OPT_PRINT_TRACE:
		return parse_count(arg, 1, UINT64_MAX, &o->print_trace);
	case OPT_WAKEUP:
		o->wakeup = true;
		return 0;
	case OPT_IDLE:
		return parse_unsigned(arg, 1, 1000000, &o->idle);
	}
	return -EINVAL;
}

int options_parse(struct options *o, int argc, char **argv, char **cause)
{
	int opt, index = 0;

	*cause = NULL;
	memset(o, 0, sizeof *o);
	o->server = "127.0.0.1:11211";
	o->threads = 1;
	o->connections = 8;
	o->depth = 1;
	o->keys.n = 10000;
	o->keys.dist = KEYS_UNIFORM;
	o->keys.size = (struct size_spec){.dist = SIZE_RANGE, .min = 32768, .max = 32768};
	o->get_share = 100;
	o->run = true;
	o->verify = true;
	o->duration_s = 5;
	o->timeout_s = 30;
	o->seed = 1;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, "", long_options, &index)) != -1) {
		if (opt == OPT_HELP) {
			fputs(help_text, stdout);
			return 1;
		}
		if (opt == '?')
			return cause_fail(cause, -EINVAL,
					  "unknown flag or missing value: %s (see --help)",
					  argv[optind - 1]);
		if (parse_one(o, opt, optarg) != 0)
			return cause_fail(cause, -EINVAL, "--%s: bad value `%s` (see --help)",
					  long_options[index].name, optarg == NULL ? "" : optarg);
	}
	if (optind < argc)
		return cause_fail(cause, -EINVAL, "unexpected argument: %s (see --help)",
				  argv[optind]);
	if (o->threads > o->connections)
		return cause_fail(cause, -EINVAL, "--threads %u is more than --connections %u",
				  o->threads, o->connections);
	if (o->keys.new_from > 0 && o->keys.new_from < o->keys.first + o->keys.n)
		return cause_fail(cause, -EINVAL, "--new-from lies within the first --keys");
	o->keys.in_flight = (uint64_t)o->connections * o->depth;
	if (o->idle == 0 && o->duration_s <= 0 && o->ops == 0 && o->keys.dist != KEYS_TRACE &&
	    o->run)
		return cause_fail(cause, -EINVAL, "give --duration or --ops above 0");
	return 0;
}
