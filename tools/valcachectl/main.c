/* SPDX-License-Identifier: Apache-2.0 */
/* valcachectl: a look at, and a hand in, one valcached or memcached. One thread. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "tools/valcachectl/ctl.h"

static const struct {
	const char *name;
	int (*run)(const struct ctl *, int, char **);
	const char *usage, *help;
} commands[] = {
    {"ping", ctl_ping, "ping [-n COUNT]", "ask for the version and say how long the answer took"},
    {"stats", ctl_stats, "stats [-r] [WHAT ...]",
     "print counters: general, settings, items, store, latency; -r as sent"},
    {"get", ctl_get, "get [-o FILE] KEY", "write a value to stdout, or to FILE"},
    {"put", ctl_put, "put [-a] [-f FLAGS] [-i FILE] KEY [VALUE]",
     "store VALUE, FILE or stdin; -a only if the key is not there"},
    {"del", ctl_del, "del KEY ...", "remove keys"},
    {"path", ctl_path, "path [online N]",
     "list the paths of the store, how they are and why; or try path N again"},
    {"top", ctl_top, "top [-d TIME] [-n COUNT]", "show rates, latency and pools, redrawn; q quits"},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

static void usage(FILE *to)
{
	fprintf(to, "Usage: valcachectl [-s SERVER] [-Y FILE] [-w TIME] COMMAND\n\n"
		    "Commands\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(to, "  %s\n        %s\n", commands[i].usage, commands[i].help);
	fprintf(to,
		"\nFlags\n"
		"  -s, --server=SERVER  HOST, HOST:PORT, [IPV6]:PORT or the path of a unix socket\n"
		"                       [127.0.0.1:11211]\n"
		"  -Y, --auth-file=FILE say who we are: the first line USER:PASSWORD of FILE\n"
		"  -w, --wait=TIME      give up when the server is silent this long [5s]\n"
		"  -h, --help           print this\n"
		"  -V, --version        print the version\n\n"
		"Exit status: 0 done, 1 the answer is no, 2 bad usage, 3 no server.\n"
		"It works with memcached, too.\n");
}

int ctl_fail(int status, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "valcachectl: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	putc('\n', stderr);
	return status;
}

struct conn *ctl_connect(const struct ctl *ctl)
{
	struct conn *c = malloc(sizeof *c);
	char *cause = NULL;

	if (c == NULL) {
		ctl_fail(CTL_SERVER, "out of memory");
		return NULL;
	}
	if (ctl_open(ctl, c, &cause) != 0) {
		ctl_fail(CTL_SERVER, "%s", cause != NULL ? cause : "out of memory");
		free(cause);
		free(c);
		return NULL;
	}
	return c;
}

void ctl_disconnect(struct conn **c)
{
	if (*c == NULL)
		return;
	conn_close(*c);
	free(*c);
	*c = NULL;
}

int ctl_check_key(const char *key)
{
	size_t len = strlen(key);

	if (len < 1 || len > 250)
		return ctl_fail(CTL_USAGE, "a key has 1 to 250 bytes, this one %zu", len);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)key[i] <= ' ' || key[i] == 0x7f)
			return ctl_fail(CTL_USAGE, "a key has no blanks or control bytes");
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option flags[] = {
	    {"server", required_argument, NULL, 's'}, {"auth-file", required_argument, NULL, 'Y'},
	    {"wait", required_argument, NULL, 'w'},   {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'},      {NULL, 0, NULL, 0},
	};
	struct ctl ctl = {.server = "127.0.0.1:11211", .timeout_ms = 5000};
	uint64_t ns;
	int f;

	signal(SIGPIPE, SIG_IGN);
	while ((f = getopt_long(argc, argv, "+s:Y:w:hV", flags, NULL)) != -1) {
		switch (f) {
		case 's':
			ctl.server = optarg;
			break;
		case 'Y':
			ctl.auth_file = optarg;
			break;
		case 'w':
			if (size_parse_duration(optarg, &ns) != 0 || ns < 1000000 ||
			    ns > 3600 * 1000000000ull)
				return ctl_fail(
				    CTL_USAGE,
				    "-w %s is not allowed: a time from 1ms to 1h is wanted",
				    optarg);
			ctl.timeout_ms = (int)(ns / 1000000);
			break;
		case 'h':
			usage(stdout);
			return CTL_OK;
		case 'V':
			printf("valcachectl %s\n", VALCACHED_VERSION);
			return CTL_OK;
		default:
			return CTL_USAGE;
		}
	}
	if (optind == argc) {
		usage(stderr);
		return CTL_USAGE;
	}
	for (size_t i = 0; i < COMMANDS; i++) {
		char **rest = argv + optind;
		int n = argc - optind;

		if (strcmp(rest[0], commands[i].name) != 0)
			continue;
		if (n > 1 && strcmp(rest[1], "--help") == 0) {
			printf("Usage: valcachectl [-s SERVER] %s\n%s\n", commands[i].usage,
			       commands[i].help);
			return CTL_OK;
		}
		optind = 0; /* glibc: start anew, on the command's own words */
		f = commands[i].run(&ctl, n, rest);
		if (fflush(stdout) != 0 || ferror(stdout))
			return ctl_fail(CTL_SERVER, "cannot write the output: %s", strerror(errno));
		return f;
	}
	return ctl_fail(CTL_USAGE, "there is no command %s; --help lists them", argv[optind]);
}
