/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of settings. A row here is all it takes for the command line, the configuration file,
 * --help, the man page and `stats settings` to know a setting. Constant.
 */
#include "valcached/options_int.h"

#define AT(field) offsetof(struct options, field)
#define KIB       1024ull
#define MIB       (1024ull * KIB)
#define GIB       (1024ull * MIB)
#define TIB       (1024ull * GIB)
#define SECOND    1000000000ull

#define HEADING(text)                                                                              \
	{                                                                                          \
		.help = (text)                                                                     \
	}
#define LATER(l, n)                                                                                \
	{                                                                                          \
		.name = (n), .letter = (l), .kind = OPTION_REFUSED,                                \
		.help = "is not supported in this version"                                         \
	}
#define NEVER(l, n, why)                                                                           \
	{                                                                                          \
		.name = (n), .letter = (l), .kind = OPTION_REFUSED, .help = (why)                  \
	}

static const char *const keyformat_choices[] = {"PEM", "DER", NULL};
static const char *const tls_choices[] = {"tlsv1.2", "tlsv1.3", "2", "3", NULL};
static const char *const io_choices[] = {"auto", "uring", "libevent", NULL};
static const char *const sandbox_choices[] = {"auto", "on", "off", NULL};
static const char *const admit_choices[] = {"all", "second", NULL};
static const char *const restart_choices[] = {"auto", "disk", "empty", NULL};

/* clang-format off */
const struct option_def options__table[] = {
	HEADING("Network"),
	{.name = "port", .letter = 'p', .kind = OPTION_NUMBER, .offset = AT(port), .arg = "PORT",
	 .initial = "11211", .max = 65535, .allowed = "a port from 1 to 65535, or 0 for no TCP,",
	 .help = "TCP port; 0 switches TCP off."},
	{.name = "listen", .letter = 'l', .kind = OPTION_LISTEN, .offset = AT(listen), .arg = "ADDR",
	 .initial = "127.0.0.1",
	 .allowed = "HOST, HOST:PORT, [IPV6] or [IPV6]:PORT, several separated by commas,",
	 .help = "Address to listen on: HOST, HOST:PORT, [IPV6] or [IPV6]:PORT, or * for every "
	         "address. Repeatable, and takes lists with commas. Without it only this host can "
	         "connect; memcached would listen on every address."},
	{.name = "unix-socket", .letter = 's', .kind = OPTION_STRING, .offset = AT(unix_path),
	 .arg = "FILE", .max = 107, .allowed = "a path of 1 to 107 bytes",
	 .help = "Listen on this unix socket. TCP is then off unless -p or -l is given too."},
	{.name = "unix-mask", .letter = 'a', .kind = OPTION_OCTAL, .offset = AT(unix_mask),
	 .arg = "MODE", .initial = "0700", .max = 0777, .allowed = "an octal mode from 0 to 0777",
	 .help = "Permissions of the unix socket, in octal."},
	{.name = "unix-owner", .kind = OPTION_STRING, .offset = AT(unix_owner), .arg = "USER", .max = 255,
	 .allowed = "the name or number of a user",
	 .help = "Owner of the unix socket; without it the user that the daemon runs as."},
	{.name = "unix-group", .kind = OPTION_STRING, .offset = AT(unix_group), .arg = "GROUP", .max = 255,
	 .allowed = "the name or number of a group",
	 .help = "Group of the unix socket; without it that of the daemon. With -a 0770 its members can "
	         "connect."},
	{.name = "unix-allow", .kind = OPTION_STRING, .offset = AT(unix_allow), .arg = "USERS",
	 .max = 4095, .allowed = "names or numbers of users, separated by commas,",
	 .help = "Only processes of these users are served on the unix socket, whatever its permissions; "
	         "others are hung up on."},
	{.name = "conn-limit", .letter = 'c', .kind = OPTION_NUMBER, .offset = AT(connections),
	 .arg = "N", .initial = "1024", .min = 1, .max = 1000000,
	 .allowed = "a number from 1 to 1000000",
	 .help = "Connections served at a time."},
	{.name = "conns-per-address", .kind = OPTION_NUMBER, .offset = AT(per_address), .arg = "N",
	 .initial = "0", .max = 1000000, .allowed = "a number up to 1000000, or 0 for no limit,",
	 .help = "TCP connections of one address (of IPv6 one /64) served at a time; 0 is no limit."},
	{.name = "conn-buffers", .kind = OPTION_SIZE, .offset = AT(conn_bytes), .arg = "SIZE",
	 .initial = "0", .max = 1 * TIB, .allowed = "a size up to 1t, or 0 for 32k a connection,",
	 .help = "RAM for requests not yet understood, requests under way, short answers and replies "
	         "to stats, of all connections together. Above it each has one request at a time. 0: 32k for each of "
	         "-c, and at least 64m."},
	{.name = "idle-timeout", .kind = OPTION_DURATION, .offset = AT(idle_ns), .arg = "TIME",
	 .initial = "0", .max = 30 * 86400 * SECOND, .extended = true,
	 .allowed = "a time, such as 90s or 30m, or 0 for no limit,",
	 .help = "A connection that asks nothing for so long is closed; 0 is no limit. memcached's -o "
	         "idle_timeout."},
	{.name = "request-timeout", .kind = OPTION_DURATION, .offset = AT(request_ns), .arg = "TIME",
	 .initial = "60s", .max = 86400 * SECOND,
	 .allowed = "a time up to 24h, such as 60s, or 0 for no limit,",
	 .help = "A client has so long to send a request or to take an answer, and from then on must keep "
	         "up 16 KiB a second; 0 is no limit. (One that does nothing for 10 s is closed anyway.)"},
	{.name = "listen-backlog", .letter = 'b', .kind = OPTION_NUMBER, .offset = AT(backlog),
	 .arg = "N", .initial = "1024", .min = 1, .max = 65535, .allowed = "a number from 1 to 65535",
	 .help = "Connections the kernel keeps waiting to be accepted."},
	{.name = "max-reqs-per-event", .letter = 'R', .kind = OPTION_NUMBER,
	 .offset = AT(requests_per_event), .arg = "N", .initial = "20", .min = 1, .max = 100000,
	 .allowed = "a number from 1 to 100000",
	 .help = "Requests of one connection served before it is another's turn."},
	{.name = "auth-file", .letter = 'Y', .kind = OPTION_STRING, .offset = AT(auth_file), .arg = "FILE",
	 .max = 4095, .allowed = "a file name",
	 .help = "Serve only clients that say who they are, as memcached's text authentication does: "
	         "lines of USER:PASSWORD. credential:NAME is a credential of systemd. Read again on "
	         "SIGHUP."},
	{.name = "enable-sasl", .letter = 'S', .kind = OPTION_BOOL, .offset = AT(sasl),
	 .help = "Let clients of the binary protocol say who they are by SASL PLAIN. Users are those of "
	         "--auth-file; without it those of the file that MEMCACHED_SASL_PWDB names, and the "
	         "text protocol is refused."},
	{.name = "udp-port", .letter = 'U', .kind = OPTION_OFF, .arg = "0",
	 .allowed = "0 (there is no UDP here)",
	 .help = "Accepted with 0 only: there is no UDP."},

	HEADING("TLS"),
	{.name = "enable-ssl", .letter = 'Z', .kind = OPTION_BOOL, .offset = AT(ssl),
	 .help = "TLS on every TCP address but those given as -l notls:ADDR. Needs --ssl-chain-cert. The unix "
	         "socket has none. memcached's -o takes the settings here with _ for -."},
	{.name = "ssl-chain-cert", .kind = OPTION_STRING, .offset = AT(ssl_chain_cert), .arg = "FILE",
	 .max = 4095, .extended = true, .allowed = "a file name",
	 .help = "Certificate and those above it, in PEM. Read again at SIGHUP and at refresh_certs, as the "
	         "other files here."},
	{.name = "ssl-key", .kind = OPTION_STRING, .offset = AT(ssl_key), .arg = "FILE", .max = 4095,
	 .extended = true, .allowed = "a file name",
	 .help = "Private key, if it is not in the file of --ssl-chain-cert."},
	{.name = "ssl-keyformat", .kind = OPTION_CHOICE, .offset = AT(ssl_keyformat), .arg = "PEM|DER",
	 .initial = "PEM", .choices = keyformat_choices, .extended = true, .allowed = "PEM or DER",
	 .help = "Format of the key."},
	{.name = "ssl-verify-mode", .kind = OPTION_NUMBER, .offset = AT(ssl_verify_mode), .arg = "N",
	 .initial = "0", .max = 3, .extended = true, .allowed = "a number from 0 to 3",
	 .help = "0: clients are not asked for a certificate. 1: asked, and it must be good if they have one. "
	         "2, 3: they must have a good one. Good is what --ssl-ca-cert vouches for."},
	{.name = "ssl-ca-cert", .kind = OPTION_STRING, .offset = AT(ssl_ca_cert), .arg = "FILE",
	 .max = 4095, .extended = true, .allowed = "a file name",
	 .help = "Authorities of clients' certificates, in PEM."},
	{.name = "ssl-min-version", .kind = OPTION_CHOICE, .offset = AT(ssl_min_version),
	 .arg = "VERSION", .initial = "tlsv1.2", .choices = tls_choices, .extended = true,
	 .allowed = "tlsv1.2 or tlsv1.3 (memcached's 2 or 3)",
	 .help = "Oldest version of TLS to speak: tlsv1.2 or tlsv1.3."},
	{.name = "ssl-ciphers", .kind = OPTION_STRING, .offset = AT(ssl_ciphers), .arg = "LIST",
	 .max = 1023, .extended = true, .allowed = "a list of ciphers as OpenSSL writes it",
	 .help = "Ciphers of TLS 1.2 to offer, or, if the first name begins with TLS_, of TLS 1.3."},
	{.name = "ssl-session-cache", .kind = OPTION_BOOL, .offset = AT(ssl_session_cache),
	 .extended = true,
	 .help = "Keep up to 20480 sessions for clients of TLS 1.2 that resume them without tickets. Those with "
	         "tickets always can."},

	HEADING("Store"),
	{.name = "path", .kind = OPTION_LIST, .offset = AT(path), .arg = "FILE",
	 .initial = "/var/lib/valcached/valcache", .max = 16,
	 .allowed = "the name of a file or block device, 16 of them at most,",
	 .help = "File or block device that keeps the values; made if it is missing. Repeatable: "
	         "values are spread over all paths."},
	{.name = "size", .kind = OPTION_SIZE, .offset = AT(size), .arg = "SIZE", .initial = "1g",
	 .min = 64 * MIB, .max = 16 * TIB,
	 .allowed = "a size from 64m to 16t, such as 500m or 100g,",
	 .help = "Bytes used of each path."},
	{.name = "mean-value", .kind = OPTION_SIZE, .offset = AT(mean_value), .arg = "SIZE",
	 .initial = "40k", .min = 64, .max = 64 * MIB, .allowed = "a size from 64 to 64m, such as 40k,",
	 .help = "Expected mean size of a value; sizes the index, which does not grow later."},
	{.name = "max-item-size", .letter = 'I', .kind = OPTION_SIZE, .offset = AT(item_max),
	 .arg = "SIZE", .initial = "1m", .min = KIB, .max = 64 * MIB,
	 .allowed = "a size from 1k to 64m",
	 .help = "Largest value that is taken. --size must be 32 times as much."},
	{.name = "sync", .kind = OPTION_DURATION, .offset = AT(sync_ns), .arg = "TIME",
	 .initial = "1s", .max = 3600 * SECOND, .allowed = "a time from 0 to 1h, such as 500ms or 1s,",
	 .help = "Longest time until what was stored is safe from a power cut; 0 syncs each flush."},
	{.name = "io-timeout", .kind = OPTION_DURATION, .offset = AT(io_timeout_ns), .arg = "TIME",
	 .initial = "10s", .max = 3600 * SECOND, .allowed = "a time from 0 to 1h, such as 500ms or 10s,",
	 .help = "Longest time that a device may take for a read or a write: then a get is a miss, and a "
	         "path that does not answer is offline until it does. 0 waits without a limit."},
	{.name = "admit", .kind = OPTION_CHOICE, .offset = AT(admit), .arg = "all|second",
	 .initial = "all", .choices = admit_choices, .allowed = "all or second",
	 .help = "What goes to disk once the store is full: all, or what is asked for or stored a "
	         "second time. The rest lives in RAM only: a stop, a kill and a power cut lose it."},
	{.name = "write-budget", .kind = OPTION_SIZE, .offset = AT(write_budget), .arg = "SIZE",
	 .initial = "0", .max = 1 * TIB, .allowed = "bytes a second as a size up to 1t, such as 50m, or 0 for no limit,",
	 .help = "Bytes a second written to the devices, at most; 0 is no limit."},
	{.name = "scrub", .kind = OPTION_SIZE, .offset = AT(scrub_rate), .arg = "SIZE",
	 .initial = "1m", .max = 1 * TIB, .allowed = "bytes a second as a size up to 1t, such as 1m, or 0 for none,",
	 .help = "Bytes a second read in the background, at most, to find damaged values before they are "
	         "asked for: 1m verifies 600 GB in a week, with four reads a second. 0 reads none."},
	{.name = "restart", .kind = OPTION_CHOICE, .offset = AT(restart), .arg = "auto|disk|empty",
	 .initial = "auto", .choices = restart_choices, .allowed = "auto, disk or empty",
	 .help = "What a start is built from: auto takes the index that a daemon before left in "
	         "shared memory, if it passes every check, else the disk; disk reads the disk; empty "
	         "forgets all values."},
	{.name = "forget-paths", .kind = OPTION_BOOL, .offset = AT(forget_paths),
	 .help = "Go on without those of the store's paths that are not given, and without their values. "
	         "For one start: a path that is missing by mistake stops a start otherwise."},
	{.name = "allow-flush", .kind = OPTION_BOOL, .offset = AT(allow_flush),
	 .help = "Let flush_all empty the store; it is refused otherwise."},
	{.name = "io", .kind = OPTION_CHOICE, .offset = AT(io), .arg = "auto|uring|libevent",
	 .initial = "auto", .choices = io_choices, .allowed = "auto, uring or libevent",
	 .help = "I/O engine: io_uring, or libevent with threads for the disk, which costs more CPU time. "
	         "auto takes io_uring where it is allowed; in many containers it is not."},
	{.name = "io-threads", .kind = OPTION_NUMBER, .offset = AT(io_threads), .arg = "N",
	 .initial = "4", .min = 1, .max = 64, .allowed = "a number from 1 to 64",
	 .help = "With --io=libevent: threads of each worker that wait for the disk, at most."},

	HEADING("Memory"),
	{.name = "memory-limit", .letter = 'm', .kind = OPTION_MIB, .offset = AT(ram_bytes),
	 .arg = "MIB", .initial = "64", .min = 4 * MIB, .max = 16 * TIB,
	 .allowed = "MiB as a number, or a size with a unit, from 4m to 16t,",
	 .help = "RAM that keeps values asked for often. A bare number is MiB."},
	{.name = "buffers", .kind = OPTION_SIZE, .offset = AT(buffers_bytes), .arg = "SIZE",
	 .initial = "64m", .min = 4 * MIB, .max = 1 * TIB, .allowed = "a size from 4m to 1t",
	 .help = "RAM for values on their way in or out."},

	HEADING("Process"),
	{.name = "threads", .letter = 't', .kind = OPTION_THREADS, .offset = AT(threads), .arg = "N",
	 .initial = "auto", .min = 1, .max = 128, .allowed = "a number from 1 to 128, or auto,",
	 .help = "Worker threads; auto is one a processor, at most 4."},
	{.name = "spin", .kind = OPTION_DURATION, .offset = AT(spin_ns), .arg = "TIME",
	 .initial = "0", .max = SECOND / 1000, .allowed = "a time from 0 to 1ms, such as 100us,",
	 .help = "A worker whose waits are short looks so long for what comes next before it sleeps: "
	         "latency for CPU time. For processors to spare."},
	{.name = "user", .letter = 'u', .kind = OPTION_STRING, .offset = AT(user), .arg = "NAME",
	 .max = 255, .allowed = "a user name",
	 .help = "Become this user once ports and files are open (started as root); they are made its own."},
	{.name = "sandbox", .kind = OPTION_CHOICE, .offset = AT(sandbox), .arg = "auto|on|off",
	 .initial = "auto", .choices = sandbox_choices, .allowed = "auto, on or off",
	 .help = "Before the first client is let in, give up every capability and all system calls but those "
	         "that serving needs. auto does what the kernel allows and says what it does not; on stops "
	         "instead. memcached's -o drop_privileges and no_drop_privileges are on and off."},
	{.name = "daemon", .letter = 'd', .kind = OPTION_BOOL, .offset = AT(daemon),
	 .help = "Run in the background."},
	{.name = "pidfile", .letter = 'P', .kind = OPTION_STRING, .offset = AT(pidfile),
	 .arg = "FILE", .max = 4095, .allowed = "a file name",
	 .help = "Write the process id to this file."},
	{.name = "verbose", .letter = 'v', .kind = OPTION_COUNT, .offset = AT(verbose),
	 .initial = "0", .max = 3, .allowed = "a number from 0 to 3",
	 .help = "Log more, for those who look for a fault."},
	{.name = "extended", .letter = 'o', .kind = OPTION_EXTENDED, .arg = "NAME=VALUE,...",
	 .allowed = "NAME=VALUE, several separated by commas,",
	 .help = "memcached's way to give some of the settings here, by their names with _ for -: "
	         "idle_timeout=SECONDS."},
	{.name = "config", .kind = OPTION_CONFIG, .offset = AT(config), .arg = "FILE", .max = 4095,
	 .allowed = "a file name",
	 .help = "Read settings from this file first: lines of NAME = VALUE with the long names "
	         "here. What the command line says wins."},
	{.name = "help", .letter = 'h', .kind = OPTION_HELP, .help = "Print this and exit."},
	{.name = "version", .letter = 'V', .kind = OPTION_VERSION,
	 .help = "Print the version and exit."},

	/* A memcached unit file may hold any of these; each deserves an answer of its own. */
	LATER(0, "admin"),
	LATER('k', "lock-memory"),
	LATER('r', "enable-coredumps"),
	LATER('A', "enable-shutdown"),
	LATER('B', "protocol"),
	LATER('X', "disable-dumping"),
	LATER('W', "disable-watch"),
	LATER('N', "napi-ids"),
	NEVER('M', "disable-evictions", "cannot work here: the oldest values always make room"),
	NEVER('C', "disable-cas", "cannot work here: the CAS value is a hash and costs nothing"),
	NEVER('F', "disable-flush-all", "is not needed: flush_all is off unless --allow-flush is given"),
	NEVER('e', "memory-file", "is memcached's own; --path names the file that keeps the values"),
	NEVER('f', "slab-growth-factor", "has no meaning here: there are no slabs"),
	NEVER('n', "slab-min-size", "has no meaning here: there are no slabs"),
	NEVER('L', "enable-largepages", "has no meaning here: there are no slabs"),
	NEVER('D', "stats-prefix", "is not offered: stats by key prefix are not kept"),
	{0},
};
/* clang-format on */
