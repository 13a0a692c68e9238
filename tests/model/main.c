/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model checker's program: lives of a daemon, traffic in each, a kill or a power cut between them,
 * a look at every key after each start and at the end. Prints its cases and `N passed, N failed`; exit status
 * 0 or 1.
 */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/size.h"
#include "tests/model/model.h"

struct config config = {.host = "127.0.0.1",
			.threads = 12,
			.ops = 100000,
			.keys = 20000,
			.rounds = 1,
			.mean = 6144,
			.loss_ns = NS_PER_S,
			.seed = 1};

#define CERTAIN_NS                                                                                 \
	(200 * NS_PER_MS) /* of a life that ends by a cut: what happened then must be kept */
#define LIFE_MAX_NS (15 * NS_PER_S)

static unsigned passed, failed, ended[3], ended_early;
static uint64_t losses, loss_sum, loss_max; /* what power cuts were permitted to cost, ns */
static uint64_t demanded, demanded_away;
static uint64_t cut_at; /* uptime */
static char no_names[1], *above = no_names;

static void judge(bool ok, const char *what, uint64_t value)
{
	if (ok)
		passed++;
	else
		failed++;
	printf("%s: %s (%lu)\n", ok ? "ok" : "FAILED", what, (unsigned long)value);
	fflush(stdout);
}

static const char help[] =
    "usage: model --port N [flags] -- DAEMON ARGUMENT ...\n"
    "  --port N        where the daemon listens, on 127.0.0.1\n"
    "  --threads N     connections (12)\n"
    "  --ops N         verified operations, in all rounds together (100000)\n"
    "  --keys N        (20000)\n"
    "  --mean SIZE     of a usual value (6k); a few are up to 940k\n"
    "  --window SIZE   a value must be there while fewer bytes than this were written since (0)\n"
    "  --rounds N      lives of the daemon; all but the last end by SIGKILL in full traffic (1)\n"
    "  --seed N        (1)\n"
    "  --evicts        the data do not fit: keys must have been evicted (else: none may)\n"
    "  --above LIST    with --counters: these counters of `stats` must be above zero, too\n"
    "  --counters      the daemon has valcached's counters; the important ones must be above zero\n"
    "  --life ARGS     more arguments for a life of the daemon; of several one each time\n"
    "  --life-ms A-B   lives last so long, whatever they have done\n"
    "  --first-ms N    but the first one lasts so long\n"
    "  --term N        percent of the lives that end by SIGTERM\n"
    "  --early N       percent chance that a daemon is killed once more while it starts\n"
    "  --cut FILE      lives end by power cuts, and last longer than one may cost: tests/crash/cutfs's control file\n"
    "  --kills N       with --cut: percent of the lives that end by SIGKILL all the same\n"
    "  --loss-ms N     what was answered so long before a cut may be lost (1000)\n"
    "  --store FILE    with --cut: a path of the store\n"
    "  --rate N        MB of values sent a second, at most\n"
    "  --rate-later N  the same, after the first life\n"
    "  --mutable       the daemon lets values be overwritten, as memcached does\n";

static uint64_t number(const char *value)
{
	uint64_t n;

	if (size_parse(value, &n) != 0) {
		fprintf(stderr, "model: %s is not a number\n", value);
		exit(2);
	}
	return n;
}

static void parse(int argc, char **argv)
{
	static const struct option longs[] = {
	    {"port", 1, NULL, 'p'},     {"threads", 1, NULL, 't'},
	    {"ops", 1, NULL, 'o'},      {"keys", 1, NULL, 'k'},
	    {"mean", 1, NULL, 'm'},     {"window", 1, NULL, 'w'},
	    {"rounds", 1, NULL, 'r'},   {"seed", 1, NULL, 's'},
	    {"evicts", 0, NULL, 'e'},   {"counters", 0, NULL, 'c'},
	    {"mutable", 0, NULL, 'M'},  {"above", 1, NULL, 'a'},
	    {"first-ms", 1, NULL, 'F'}, {"rate-later", 1, NULL, 'r' + 128},
	    {"life", 1, NULL, 'L'},     {"life-ms", 1, NULL, 'l'},
	    {"term", 1, NULL, 'T'},     {"early", 1, NULL, 'E'},
	    {"cut", 1, NULL, 'C'},      {"kills", 1, NULL, 'K'},
	    {"loss-ms", 1, NULL, 'x'},  {"store", 1, NULL, 'S'},
	    {"rate", 1, NULL, 'R'},     {"help", 0, NULL, 'h'},
	    {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "+h", longs, NULL)) != -1) {
		switch (c) {
		case 'p':
			config.port = (unsigned)number(optarg);
			break;
		case 't':
			config.threads = (unsigned)number(optarg);
			break;
		case 'o':
			config.ops = number(optarg);
			break;
		case 'k':
			config.keys = (uint32_t)number(optarg);
			break;
		case 'm':
			config.mean = (uint32_t)number(optarg);
			break;
		case 'w':
			config.window = number(optarg);
			break;
		case 'r':
			config.rounds = (unsigned)number(optarg);
			break;
		case 's':
			config.seed = number(optarg);
			break;
		case 'e':
			config.evicts = true;
			break;
		case 'c':
			config.counters = true;
			break;
		case 'a':
			above = optarg;
			break;
		case 'L':
			if (config.lives == LIVES_MAX)
				exit(2);
			config.life[config.lives++] = optarg;
			break;
		case 'l':
			if (sscanf(optarg, "%u-%u", &config.life_ms_min, &config.life_ms_max) !=
				2 ||
			    config.life_ms_max < config.life_ms_min) {
				fprintf(stderr, "model: --life-ms wants two numbers: 300-1500\n");
				exit(2);
			}
			break;
		case 'F':
			config.first_ms = (unsigned)number(optarg);
			break;
		case 'r' + 128:
			config.rate_later_mb = (unsigned)number(optarg);
			break;
		case 'T':
			config.term_percent = (unsigned)number(optarg);
			break;
		case 'E':
			config.early_percent = (unsigned)number(optarg);
			break;
		case 'C':
			config.cut = optarg;
			break;
		case 'K':
			config.kill_percent = (unsigned)number(optarg);
			break;
		case 'x':
			config.loss_ns = number(optarg) * NS_PER_MS;
			break;
		case 'S':
			config.store = optarg;
			break;
		case 'R':
			config.rate_mb = (unsigned)number(optarg);
			break;
		case 'M':
			config.mutable_values = true;
			break;
		case 'h':
			fputs(help, stdout);
			exit(0);
		default:
			exit(2);
		}
	}
	config.daemon = argv + optind;
	if ((config.cut != NULL) != (config.store != NULL) || config.port == 0 ||
	    config.daemon[0] == NULL || config.keys < 64 || config.rounds == 0 ||
	    config.threads == 0 || config.mean == 0) {
		fputs(help, stderr);
		exit(2);
	}
}

static void progress(void)
{
	if (!isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r%lu of %lu operations, %lu violations ",
		(unsigned long)atomic_load(&totals.ops), (unsigned long)config.ops,
		(unsigned long)atomic_load(&totals.violations));
}

/* Counters that are looked at: those that must be above zero, then those that must be zero. */
#define COUNTED_MAX 24u
static const char *counted[COUNTED_MAX];
static unsigned counted_up, counted_n;

static void count_names(char *list)
{
	static const char *const zero[] = {"corrupt_reads", "read_errors", "write_errors",
					   "broken_values"};

	if (!config.counters)
		return;
	counted[counted_up++] = "tombstones";
	counted[counted_up++] = "immutable_conflicts";
	if (config.evicts) {
		counted[counted_up++] = "segments_recycled";
		counted[counted_up++] = "records_reinserted";
	}
	for (char *name = strtok(list, ","); name != NULL && counted_up < COUNTED_MAX - 4;
	     name = strtok(NULL, ","))
		counted[counted_up++] = name;
	counted_n = counted_up;
	for (unsigned i = 0; i < 4; i++)
		counted[counted_n++] = zero[i];
}

static uint64_t note_loss(void)
{
	uint64_t loss = daemon_loss();

	if (loss > loss_max)
		loss_max = loss;
	loss_sum += loss;
	losses++;
	return loss;
}

/* How this life ends, and, if lives are counted in time, after how long. */
static enum end choose_end(uint64_t random)
{
	if (random % 100 < config.term_percent)
		return END_TERM;
	return config.cut != NULL && random / 100 % 100 >= config.kill_percent ? END_CUT : END_KILL;
}

static bool end_life(enum end end, uint64_t random)
{
	uint64_t at = daemon_uptime();

	ended[end]++;
	atomic_store(&killing, true);
	if (end == END_TERM)
		return daemon_stop();
	if (end == END_KILL) {
		daemon_kill();
		return true;
	}
	cut_at = at;
	atomic_store(&cutting, true);
	return daemon_cut(random);
}

/* A cut may cost all of a life that is short, on a machine that is late: nothing would be demanded after it. */
static bool too_short(enum end end, uint64_t began)
{
	uint64_t lived = clock_ns() - began;

	return end == END_CUT && lived < LIFE_MAX_NS && lived < daemon_loss_now() + CERTAIN_NS;
}

/* Traffic until `until` operations were verified or time is up, or the daemon is gone; then its end. */
static bool traffic(unsigned round, uint64_t until, bool end_it, uint64_t *sums)
{
	uint64_t random = mix64(config.seed * 7919 + round), over = UINT64_MAX, began = clock_ns();
	enum end end = choose_end(random);
	struct worker *w = calloc(config.threads, sizeof(*w));
	struct timespec tick = {0};
	bool ok = w != NULL;
	unsigned n = 0;

	if (config.life_ms_max > 0) {
		until = UINT64_MAX;
		uint64_t ms = config.life_ms_min +
			      mix64(random) % (config.life_ms_max - config.life_ms_min + 1);

		if (round == 0 && config.first_ms != 0)
			ms = config.first_ms;
		over = began + ms * NS_PER_MS;
	}
	tick.tv_nsec = over != UINT64_MAX ? 1000000 : 20000000;
	atomic_store(&stopping, false);
	atomic_store(&killing, false);
	atomic_store(&cutting, false);
	cut_at = 0;
	keys_rate(round > 0 && config.rate_later_mb != 0 ? config.rate_later_mb : config.rate_mb);
	for (; ok && n < config.threads; n++) {
		w[n].id = n;
		w[n].random = mix64(config.seed * 1000003 + round * 1009 + n);
		ok = pthread_create(&w[n].thread, NULL, worker_main, &w[n]) == 0;
		if (!ok)
			break;
	}
	while (ok && atomic_load(&totals.ops) < until &&
	       (clock_ns() < over || (end_it && too_short(end, began))) &&
	       atomic_load(&totals.violations) == 0) {
		nanosleep(&tick, NULL);
		progress();
		if (!daemon_alive()) {
			violation(0, "the daemon is gone");
			ok = false;
		}
	}
	if (ok && counted_n > 0 && !daemon_stats(counted, sums, counted_n)) {
		violation(0, "no answer to stats");
		ok = false;
	}
	if (ok && end_it)
		ok = end_life(end, random);
	atomic_store(&stopping, true);
	for (unsigned i = 0; i < n; i++)
		pthread_join(w[i].thread, NULL);
	if (cut_at != 0)
		keys_cut(cut_at, note_loss());
	free(w);
	return ok;
}

static bool look_at_all(void)
{
	struct conn c;
	bool ok = conn_open(&c);

	if (ok) {
		ok = ops_sweep(&c);
		conn_close(&c);
	}
	return ok;
}

/* Now and then a daemon that starts is killed, or has its power cut, before it answers. */
static bool end_early(uint64_t random)
{
	bool ok = true;

	for (; ok && random % 100 < config.early_percent; random = mix64(random)) {
		enum end end = choose_end(random / 100);

		ended_early++;
		ok = daemon_start_short(random, (unsigned)(random / 10000 % 120000), end);
		if (ok && end == END_CUT)
			keys_cut(daemon_uptime(), note_loss());
	}
	return ok;
}

int main(int argc, char **argv)
{
	uint64_t sums[COUNTED_MAX] = {0}, start = clock_ns();
	bool ok = true, clean = false;

	parse(argc, argv);
	count_names(above);
	signal(SIGPIPE, SIG_IGN);
	if (!keys_open() || !witness_open())
		return 1;
	for (unsigned round = 0; ok && round < config.rounds; round++) {
		bool last = round + 1 == config.rounds;

		if (round > 0)
			ok = end_early(mix64(config.seed * 104729 + round));
		ok = ok && daemon_start(mix64(config.seed * 613 + round));
		if (ok && round > 0) {
			keys_count_demands(&demanded, &demanded_away);
			ok = look_at_all();
		}
		if (ok)
			ok = traffic(round, config.ops * (round + 1) / config.rounds, !last, sums);
		if (last) {
			if (ok)
				ok = look_at_all();
			clean = daemon_stop();
		} else if (!ok && daemon_alive()) {
			daemon_stop();
		}
	}
	printf(
	    "%lu operations in %.1f s: %lu hits (%lu MB), %lu misses, %lu stored, %lu refused, %lu "
	    "deleted, %lu without answer, %lu evictions seen, %lu MB sent, %lu keys there at the "
	    "end\n",
	    (unsigned long)totals.ops, (double)(clock_ns() - start) / 1e9,
	    (unsigned long)totals.hits, (unsigned long)(totals.bytes >> 20),
	    (unsigned long)totals.misses, (unsigned long)totals.stored,
	    (unsigned long)totals.refused, (unsigned long)totals.deleted,
	    (unsigned long)totals.lost, (unsigned long)totals.evicted_seen,
	    (unsigned long)(keys_written() >> 20), (unsigned long)keys_present());
	if (config.rounds > 1)
		printf(
		    "%u lives ended by SIGKILL, %u by SIGTERM, %u by power cuts, %u more while they "
		    "started; looks afterwards at keys that had to be there: %lu, that had to be "
		    "away: %lu\n",
		    ended[END_KILL], ended[END_TERM], ended[END_CUT], ended_early,
		    (unsigned long)demanded, (unsigned long)demanded_away);
	if (losses > 0)
		printf("power cuts were permitted to cost the last %lu ms, at worst %lu\n",
		       (unsigned long)(loss_sum / losses / NS_PER_MS),
		       (unsigned long)(loss_max / NS_PER_MS));
	judge(totals.violations == 0, "answers that are not permitted", totals.violations);
	judge(ok && totals.ops >= config.ops, "verified operations", totals.ops);
	judge(clean, "clean stop by SIGTERM", clean);
	if (config.evicts)
		judge(totals.evicted_seen > 0, "evictions seen", totals.evicted_seen);
	else
		judge(totals.evicted_seen == 0 && keys_written() < config.window,
		      "evictions seen, of data that fit", totals.evicted_seen);
	if (config.rounds > 1 && demanded_away == 0)
		judge(false, "keys that had to be away", 0);
	if (config.rounds > 1 && config.rate_mb == 0) /* else nothing may be under way */
		judge(totals.lost > 0, "changes whose answer a kill swallowed", totals.lost);
	for (unsigned i = 0; i < counted_n; i++)
		judge((sums[i] > 0) == (i < counted_up), counted[i], sums[i]);
	printf("%u passed, %u failed\n", passed, failed);
	return failed == 0 ? 0 : 1;
}
