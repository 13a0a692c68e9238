/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings from command line and file: defaults, memcached's spellings, what wins over what, and
 * that each bad value is refused with a sentence that names flag, value and what is allowed.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "valcached/options.h"

#define ARGV(...)                                                                                  \
	(char *[])                                                                                 \
	{                                                                                          \
		(char *)"valcached", __VA_ARGS__ __VA_OPT__(, ) NULL                               \
	}

static int run(struct options *o, char **argv, char **cause)
{
	int argc = 0;

	while (argv[argc] != NULL)
		argc++;
	return options_parse(o, argc, argv, cause);
}

#define ACCEPT(o, ...)                                                                             \
	do {                                                                                       \
		char *cause_ = NULL;                                                               \
		int ret_ = run((o), ARGV(__VA_ARGS__), &cause_);                                   \
		if (ret_ != 0)                                                                     \
			fail_msg("line %d: %d %s", __LINE__, ret_, cause_);                        \
	} while (0)

#define REFUSE(sentence, ...)                                                                      \
	do {                                                                                       \
		struct options o_;                                                                 \
		char *cause_ = NULL;                                                               \
		assert_true(run(&o_, ARGV(__VA_ARGS__), &cause_) < 0);                             \
		assert_non_null(cause_);                                                           \
		assert_string_equal(cause_, sentence);                                             \
		assert_int_equal(o_.path_n + o_.listen_n, 0);                                      \
		free(cause_);                                                                      \
	} while (0)

static void defaults(void **state)
{
	struct options o;

	(void)state;
	ACCEPT(&o);
	assert_int_equal(o.listen_n, 1);
	assert_string_equal(o.listen[0].host, "127.0.0.1");
	assert_int_equal(o.listen[0].port, 11211);
	assert_null(o.unix_path);
	assert_int_equal(o.unix_mask, 0700);
	assert_int_equal(o.connections, 1024);
	assert_int_equal(o.backlog, 1024);
	assert_int_equal(o.requests_per_event, 20);
	assert_int_equal(o.path_n, 1);
	assert_string_equal(o.path[0], "/var/lib/valcached/valcache");
	assert_int_equal(o.size, 1ull << 30);
	assert_int_equal(o.mean_value, 40 * 1024);
	assert_int_equal(o.item_max, 1 << 20);
	assert_int_equal(o.sync_ns, 1000000000);
	assert_int_equal(o.io_timeout_ns, 10000000000);
	assert_int_equal(o.write_budget, 0);
	assert_int_equal(o.scrub_rate, 1 << 20);
	assert_int_equal(o.admit, OPTIONS_ADMIT_ALL);
	assert_int_equal(o.io, OPTIONS_IO_AUTO);
	assert_false(o.allow_flush);
	assert_int_equal(o.ram_bytes, 64 << 20);
	assert_int_equal(o.buffers_bytes, 64 << 20);
	assert_in_range(o.threads, 1, 4);
	assert_int_equal(o.verbose, 0);
	assert_false(o.daemon);
	assert_null(o.user);
	assert_null(o.pidfile);
	options_free(&o);
}

/* The line a memcached unit file would have, in every way getopt allows to write it. */
static void memcached_spellings(void **state)
{
	struct options o;

	(void)state;
	ACCEPT(&o, "-m", "512", "-p11300", "-u", "nobody", "-l", "0.0.0.0", "-c", "4096", "-P",
	       "/run/x.pid", "-t", "8", "-I", "2m", "-vv", "-d", "-U", "0", "-R", "40", "-b", "64");
	assert_int_equal(o.ram_bytes, 512ull << 20);
	assert_int_equal(o.port, 11300);
	assert_string_equal(o.user, "nobody");
	assert_string_equal(o.listen[0].host, "0.0.0.0");
	assert_int_equal(o.listen[0].port, 11300);
	assert_int_equal(o.connections, 4096);
	assert_string_equal(o.pidfile, "/run/x.pid");
	assert_int_equal(o.threads, 8);
	assert_int_equal(o.item_max, 2 << 20);
	assert_int_equal(o.verbose, 2);
	assert_true(o.daemon);
	assert_int_equal(o.requests_per_event, 40);
	assert_int_equal(o.backlog, 64);
	options_free(&o);

	ACCEPT(&o, "-dvvm", "1g", "--port=1", "--port", "2", "--verbose");
	assert_true(o.daemon);
	assert_int_equal(o.verbose, 3);
	assert_int_equal(o.ram_bytes, 1ull << 30);
	assert_int_equal(o.port, 2);
	options_free(&o);

	ACCEPT(&o, "--verbose=1", "-vvvvvv");
	assert_int_equal(o.verbose, 3);
	options_free(&o);
}

static void own_flags(void **state)
{
	struct options o;

	(void)state;
	ACCEPT(&o, "--path=/a", "--path", "/b", "--size=100g", "--mean-value=8k", "--io=uring",
	       "--sync=250ms", "--admit=second", "--write-budget=50m", "--allow-flush",
	       "--buffers=128m", "--scrub=0");
	assert_int_equal(o.path_n, 2);
	assert_string_equal(o.path[0], "/a");
	assert_string_equal(o.path[1], "/b");
	assert_int_equal(o.size, 100ull << 30);
	assert_int_equal(o.mean_value, 8192);
	assert_int_equal(o.io, OPTIONS_IO_URING);
	assert_int_equal(o.sync_ns, 250000000);
	assert_int_equal(o.admit, OPTIONS_ADMIT_SECOND);
	assert_int_equal(o.write_budget, 50 << 20);
	assert_int_equal(o.scrub_rate, 0);
	assert_true(o.allow_flush);
	assert_int_equal(o.buffers_bytes, 128 << 20);
	options_free(&o);
}

static void sixteen_paths_at_most(void **state)
{
	char *argv[19] = {(char *)"valcached"}, path[] = "--path=/a", *cause;
	struct options o;

	(void)state;
	for (int i = 1; i <= 17; i++)
		argv[i] = path;
	assert_int_equal(options_parse(&o, 17, argv, &cause), 0);
	assert_int_equal(o.path_n, 16);
	options_free(&o);
	assert_int_equal(options_parse(&o, 18, argv, &cause), -EINVAL);
	assert_string_equal(
	    cause,
	    "--path=/a is not allowed: the name of a file or block device, 16 of them at most, is "
	    "wanted");
	free(cause);
}

static void addresses(void **state)
{
	static const struct {
		const char *host;
		unsigned port;
	} want[] = {
	    {"10.0.0.1", 5}, {"localhost", 7},    {"::1", 5},
	    {"::1", 8},      {"fe80::1%eth0", 5}, {"*", 5},
	};
	struct options o;

	(void)state;
	ACCEPT(&o, "-l", "10.0.0.1, localhost:7,::1,  [::1]:8", "-l", "[fe80::1%eth0]", "-p", "5",
	       "--listen=*");
	assert_int_equal(o.listen_n, 6);
	for (unsigned i = 0; i < 6; i++) {
		assert_string_equal(o.listen[i].host, want[i].host);
		assert_int_equal(o.listen[i].port, want[i].port);
	}
	options_free(&o);
}

static void unix_socket_alone_has_no_tcp(void **state)
{
	struct options o;

	(void)state;
	ACCEPT(&o, "-s", "/run/v.sock", "-a", "0770");
	assert_string_equal(o.unix_path, "/run/v.sock");
	assert_int_equal(o.unix_mask, 0770);
	assert_int_equal(o.listen_n, 0);
	options_free(&o);

	ACCEPT(&o, "-s", "/run/v.sock", "-p", "11300");
	assert_int_equal(o.listen_n, 1);
	assert_int_equal(o.listen[0].port, 11300);
	options_free(&o);

	ACCEPT(&o, "-p", "0", "-s", "/run/v.sock");
	assert_int_equal(o.listen_n, 0);
	options_free(&o);

	/* an address with a port of its own stays when -p is 0 */
	ACCEPT(&o, "-p", "0", "-l", "127.0.0.1,127.0.0.1:9");
	assert_int_equal(o.listen_n, 1);
	assert_int_equal(o.listen[0].port, 9);
	options_free(&o);
	REFUSE("-p 0 leaves nothing to listen on: give -s FILE, or a port", "-p", "0");
}

static void refused(void **state)
{
	char longest[200];

	(void)state;
	REFUSE("-p 65536 is not allowed: a port from 1 to 65535, or 0 for no TCP, is wanted", "-p",
	       "65536");
	REFUSE("--port=http is not allowed: a port from 1 to 65535, or 0 for no TCP, is wanted",
	       "--port=http");
	REFUSE("--port= is not allowed: a port from 1 to 65535, or 0 for no TCP, is wanted",
	       "--port=");
	REFUSE(
	    "--size=100q is not allowed: a size from 64m to 16t, such as 500m or 100g, is wanted",
	    "--size=100q");
	REFUSE("--size=1m is not allowed: a size from 64m to 16t, such as 500m or 100g, is wanted",
	       "--size", "1m");
	REFUSE("--sync=1 is not allowed: a time from 0 to 1h, such as 500ms or 1s, is wanted",
	       "--sync=1");
	REFUSE("--sync=2h is not allowed: a time from 0 to 1h, such as 500ms or 1s, is wanted",
	       "--sync=2h");
	REFUSE("--admit=some is not allowed: all or second is wanted", "--admit=some");
	REFUSE("--io=epoll is not allowed: auto, uring or libevent is wanted", "--io=epoll");
	REFUSE("-I 65m is not allowed: a size from 1k to 64m is wanted", "-I", "65m");
	REFUSE("-t 0 is not allowed: a number from 1 to 128, or auto, is wanted", "-t", "0");
	REFUSE("-c -1 is not allowed: a number from 1 to 1000000 is wanted", "-c", "-1");
	REFUSE("-a 888 is not allowed: an octal mode from 0 to 0777 is wanted", "-a", "888");
	REFUSE("-a 1777 is not allowed: an octal mode from 0 to 0777 is wanted", "-a1777");
	REFUSE("-U 11211 is not allowed: 0 (there is no UDP here) is wanted", "-U", "11211");
	REFUSE("-m 0 is not allowed: MiB as a number, or a size with a unit, from 4m to 16t, is "
	       "wanted",
	       "-m", "0");
	REFUSE("--path= is not allowed: the name of a file or block device, 16 of them at most, is "
	       "wanted",
	       "--path=");
	REFUSE("--path needs a value: the name of a file or block device, 16 of them at most, is "
	       "wanted",
	       "--path");
	REFUSE(
	    "-m needs a value: MiB as a number, or a size with a unit, from 4m to 16t, is wanted",
	    "-m");
	REFUSE("--allow-flush takes no value, but yes was given", "--allow-flush=yes");
	REFUSE("--verbose=4 is not allowed: a number from 0 to 3 is wanted", "--verbose=4");
	REFUSE("--prot: there is no such flag; --help lists them all", "--prot=1");
	REFUSE("--: there is no such flag; --help lists them all", "--");
	REFUSE("-x: there is no such flag; --help lists them all", "-x");
	REFUSE("-x: there is no such flag; --help lists them all", "-vx");
	REFUSE("start: there are no arguments besides flags", "start");
	REFUSE("-: there are no arguments besides flags", "-");

	memset(longest, 'a', sizeof longest);
	longest[108] = '\0';
	{
		struct options o;
		char *cause;

		assert_int_equal(run(&o, ARGV("-s", longest), &cause), -EINVAL);
		assert_non_null(strstr(cause, "a path of 1 to 107 bytes is wanted"));
		free(cause);
		longest[107] = '\0';
		ACCEPT(&o, "-s", longest);
		options_free(&o);
	}
}

static void refused_addresses(void **state)
{
	static const char *const bad[] = {
	    "",     ",",  "a,",  ",a",      "[",   "[::1",   "[::1]x", "[::1]:",
	    "[]:1", "a:", "a:0", "a:65536", "a:x", ":11211", "a b",    "a:99999999999999999999"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct options o;
		char *cause = NULL, want[200];

		assert_int_equal(run(&o, ARGV("-l", (char *)(uintptr_t)bad[i]), &cause), -EINVAL);
		snprintf(want, sizeof want,
			 "-l %s is not allowed: HOST, HOST:PORT, [IPV6] or [IPV6]:PORT, several "
			 "separated by commas, is wanted",
			 bad[i]);
		assert_string_equal(cause, want);
		free(cause);
	}
}

static void extended(void **state)
{
	struct options o;

	(void)state;
	ACCEPT(&o);
	assert_int_equal(o.idle_ns, 0);
	assert_int_equal(o.sandbox, OPTIONS_SANDBOX_AUTO);
	assert_int_equal(o.request_ns, 60000000000);
	assert_int_equal(o.conn_bytes, 64u << 20);
	options_free(&o);
	ACCEPT(&o, "-o", "maxconns_fast,idle_timeout=90,ssl_wbuf_size=16", "-c", "10000");
	assert_int_equal(o.idle_ns, 90000000000);
	assert_int_equal(o.conn_bytes, 10000u * 32768u);
	options_free(&o);
	ACCEPT(&o, "-o", "drop_privileges,idle_timeout=90");
	assert_int_equal(o.sandbox, OPTIONS_SANDBOX_ON);
	options_free(&o);
	ACCEPT(&o, "--sandbox=on", "-o", "no_drop_privileges");
	assert_int_equal(o.sandbox, OPTIONS_SANDBOX_OFF);
	options_free(&o);
	ACCEPT(&o, "--extended=idle_timeout=2m", "--conn-buffers=1m");
	assert_int_equal(o.idle_ns, 120000000000);
	assert_int_equal(o.conn_bytes, 1u << 20);
	options_free(&o);
	REFUSE(
	    "-o idle_timeout needs a value: a time, such as 90s or 30m, or 0 for no limit, is wanted",
	    "-o", "idle_timeout");
	REFUSE(
	    "-o idle_timeout=x is not allowed: a time, such as 90s or 30m, or 0 for no limit, is "
	    "wanted",
	    "-o", "idle_timeout=x");
	REFUSE("--sandbox=maybe is not allowed: auto, on or off is wanted", "--sandbox=maybe");
	REFUSE("-o idle_timeout= is not allowed: a time, such as 90s or 30m, or 0 for no limit, is "
	       "wanted",
	       "-o", "idle_timeout=");
	REFUSE("-o port is memcached's own; the settings here have long names (--help)", "-o",
	       "idle_timeout=1,port=1");
	REFUSE("-o needs a value: NAME=VALUE, several separated by commas, is wanted", "-o");
}

static void later_and_never(void **state)
{
	(void)state;
	REFUSE("-A (--enable-shutdown) is not supported in this version", "-A");
	REFUSE("--admin is not supported in this version", "--admin=127.0.0.1:8080");
	REFUSE("-M (--disable-evictions) cannot work here: the oldest values always make room",
	       "-M");
	REFUSE("-o modern is memcached's own; the settings here have long names (--help)", "-o",
	       "modern");
}

static char conf[] = "/tmp/valcached-options-XXXXXX";

static void write_conf(const char *text)
{
	FILE *f = fopen(conf, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void file_then_command_line(void **state)
{
	struct options o;

	(void)state;
	write_conf("# a comment\n"
		   "port = 11400   ; the reason\n"
		   "[valcached]\n"
		   "path = /a\n"
		   "   path = /b\n" /* not a continuation of the line above */
		   "listen = ::1,127.0.0.1\n"
		   "allow-flush = yes\n"
		   "daemon = off\n"
		   "verbose = 2\n"
		   "size = 2g\n"
		   "memory-limit = 128\n");
	ACCEPT(&o, "--config", conf);
	assert_int_equal(o.port, 11400);
	assert_int_equal(o.path_n, 2);
	assert_string_equal(o.path[0], "/a");
	assert_string_equal(o.path[1], "/b");
	assert_int_equal(o.listen_n, 2);
	assert_string_equal(o.listen[0].host, "::1");
	assert_int_equal(o.listen[1].port, 11400);
	assert_true(o.allow_flush);
	assert_int_equal(o.verbose, 2);
	assert_int_equal(o.size, 2ull << 30);
	assert_int_equal(o.ram_bytes, 128 << 20);
	assert_string_equal(o.config, conf);
	options_free(&o);

	/* the flag wins wherever it stands; a list on the command line replaces the file's */
	ACCEPT(&o, "--path=/c", "-p", "11500", "-v", "--config", conf, "--size=3g");
	assert_int_equal(o.path_n, 1);
	assert_string_equal(o.path[0], "/c");
	assert_int_equal(o.port, 11500);
	assert_int_equal(o.verbose, 1);
	assert_int_equal(o.size, 3ull << 30);
	assert_int_equal(o.listen_n, 2);
	options_free(&o);
}

static void bad_files(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
	    {"port = 1\nsise = 1g\n", " line 2: there is no setting sise; --help lists them all"},
	    {"\n\nport = x\n", " line 3: port = x is not allowed: a port from 1 to 65535, or 0 for "
			       "no TCP, is wanted"},
	    {"port 1\n", " line 1: a line must be NAME = VALUE or [valcached]"},
	    {"[valcached\nport = 1\n", " line 1: a line must be NAME = VALUE or [valcached]"},
	    {"port = 1\nport = 2\n", " line 2: port = 2: the setting is given twice"},
	    {"[memcached]\nport = 1\n",
	     " line 2: section [memcached] is unknown: only [valcached], or none, is allowed"},
	    {"allow-flush = maybe\n",
	     " line 1: allow-flush = maybe is not allowed: yes or no is wanted"},
	    {"config = /x\n", " line 1: config belongs on the command line only"},
	    {"enable-shutdown = yes\n",
	     " line 1: enable-shutdown is not supported in this version"},
	    {"path =\n", " line 1: path =  is not allowed: the name of a file or block device, 16 "
			 "of them at most, is "
			 "wanted"},
	};
	static const char *const zero[] = {"p=\0001\n", "p=1\0\n", "\0p=1\n", "\0\0\n\n\n",
					   "p=12\0"};
	char longest[400], want[400];
	struct options o;
	char *cause;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		write_conf(bad[i].text);
		assert_int_equal(run(&o, ARGV("--config", conf), &cause), -EINVAL);
		snprintf(want, sizeof want, "%s%s", conf, bad[i].says);
		assert_string_equal(cause, want);
		free(cause);
	}

	memset(longest, 'a', sizeof longest);
	memcpy(longest, "path=/", 6);
	longest[sizeof longest - 1] = '\0';
	write_conf(longest);
	assert_int_equal(run(&o, ARGV("--config", conf), &cause), -EINVAL);
	assert_non_null(strstr(cause, " line 1: the line is longer than 198 bytes; shorten it, "));
	free(cause);
	longest[0] = '#';
	longest[sizeof longest - 6] = '\n';
	memcpy(longest + sizeof longest - 5, "p=1\n", 5);
	write_conf(longest);
	assert_int_equal(run(&o, ARGV("--config", conf), &cause), -EINVAL);
	assert_non_null(strstr(cause, " line 2: there is no setting p; "));
	free(cause);

	/* in the middle of a line, at its end, and where the file ends without one */
	for (size_t i = 0; i < sizeof zero / sizeof zero[0]; i++) {
		FILE *f = fopen(conf, "w");

		assert_non_null(f);
		assert_int_equal(fwrite(zero[i], 1, 5, f), 5);
		assert_int_equal(fclose(f), 0);
		assert_int_equal(run(&o, ARGV("--config", conf), &cause), -EINVAL);
		assert_non_null(strstr(cause, " line 1: there is a zero byte in the line; "));
		free(cause);
	}

	assert_int_equal(run(&o, ARGV("--config=/nowhere/x.conf"), &cause), -ENOENT);
	assert_string_equal(cause,
			    "--config=/nowhere/x.conf cannot be read: No such file or directory");
	free(cause);
	assert_int_equal(run(&o, ARGV("--config=/"), &cause), -EISDIR);
	assert_string_equal(cause, "--config=/ cannot be read: Is a directory");
	free(cause);
}

/* The example file is all comments; with them removed it is a valid file that changes nothing. */
static void example_file_is_the_defaults(void **state)
{
	FILE *f = fopen(conf, "w");
	char *text = NULL, *at;
	size_t len = 0;
	FILE *mem = open_memstream(&text, &len);
	struct options o;

	(void)state;
	assert_non_null(f);
	assert_non_null(mem);
	options_print_conf(mem);
	assert_int_equal(fclose(mem), 0);
	for (at = strtok(text, "\n"); at != NULL; at = strtok(NULL, "\n")) {
		/* "#name = value"; a sentence has a blank behind the # */
		if (at[0] == '#' && at[1] != ' ' && strstr(at, " = ") != NULL)
			fprintf(f, "%s\n", at + 1);
	}
	assert_int_equal(fclose(f), 0);
	free(text);
	ACCEPT(&o, "--config", conf);
	assert_int_equal(o.port, 11211);
	assert_int_equal(o.listen_n, 1);
	assert_int_equal(o.path_n, 1);
	assert_int_equal(o.size, 1ull << 30);
	options_free(&o);
}

static void help_and_version_end_well(void **state)
{
	struct options o;
	char *cause;

	(void)state;
	assert_true(run(&o, ARGV("--help"), &cause) > 0);
	assert_true(run(&o, ARGV("-h"), &cause) > 0);
	assert_true(run(&o, ARGV("-p", "1", "-V"), &cause) > 0);
	assert_true(run(&o, ARGV("--version"), &cause) > 0);
	assert_int_equal(o.listen_n, 0);
}

struct seen {
	unsigned n, paths;
	bool size, unix_socket;
};

static void see(void *user, const char *name, const char *value)
{
	struct seen *s = user;

	s->n++;
	if (strcmp(name, "path") == 0)
		s->paths++;
	if (strcmp(name, "size") == 0 && strcmp(value, "2g") == 0)
		s->size = true;
	if (strcmp(name, "unix-socket") == 0)
		s->unix_socket = true;
}

static void each_setting_once(void **state)
{
	struct seen s = {0};
	struct options o;

	(void)state;
	ACCEPT(&o, "--path=/a", "--path=/b", "--size=2048m");
	options_each(&o, see, &s);
	assert_int_equal(s.paths, 2);
	assert_true(s.size);
	assert_false(s.unix_socket);
	assert_in_range(s.n, 20, 40);
	options_free(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(defaults),
	    cmocka_unit_test(memcached_spellings),
	    cmocka_unit_test(own_flags),
	    cmocka_unit_test(sixteen_paths_at_most),
	    cmocka_unit_test(addresses),
	    cmocka_unit_test(unix_socket_alone_has_no_tcp),
	    cmocka_unit_test(refused),
	    cmocka_unit_test(refused_addresses),
	    cmocka_unit_test(extended),
	    cmocka_unit_test(later_and_never),
	    cmocka_unit_test(file_then_command_line),
	    cmocka_unit_test(bad_files),
	    cmocka_unit_test(example_file_is_the_defaults),
	    cmocka_unit_test(help_and_version_end_well),
	    cmocka_unit_test(each_setting_once),
	};
	int fd = mkstemp(conf), ret;

	if (fd < 0)
		return 1;
	close(fd);
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(conf);
	return ret;
}
