/* SPDX-License-Identifier: Apache-2.0 */
/*
 * valcached: reads its settings, opens the port, the store and the workers, waits for the signal to
 * stop, and undoes it all in reverse.
 *
 * Order of the start, each step one log line or one sentence of failure:
 *   settings -> background (before any thread or ring exists) -> limits, user's name -> engine -> port
 *   -> pid file -> store
 *   -> user -> workers -> sandbox -> clients are let in, readiness
 * The port opens before the store is loaded, so that clients wait instead of failing; they are
 * served after. From the sandbox on nothing is opened but what sandbox/ lists.
 *
 * Threads: main waits in sigwait(), and while it stops another looks after it; the signals that stop it
 * (SIGTERM, SIGINT, SIGUSR1 as memcached) and SIGHUP, which tries paths that failed again and reads passwords and
 * certificates anew, are blocked everywhere else.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/size.h"
#include "valcached/admin/admin.h"
#include "valcached/io/io.h"
#include "valcached/net/net.h"
#include "valcached/options.h"
#include "valcached/privileges.h"
#include "valcached/store/store.h"

#define STALL_NS (10 * NS_PER_S)
#define DRAIN_NS (5 * NS_PER_S)
#define STOP_NS  (1 * NS_PER_S) /* beyond that, if the device does not answer */
/* Descriptors besides those of connections: listeners, rings, stores, logs, libraries'. */
#define SPARE_FILES 128u

struct daemon {
	struct options opt;
	struct net_addr *addr;
	struct net *net;
	struct store *store;
	struct admin admin;
	const struct io_engine *engine;
	char *engine_reason;
	bool pidfile_made;
	struct privileges priv;
	pthread_mutex_t guard_lock; /* the store is there until guard_over */
	bool guard_over;
	int ready_pipe; /* -d: the parent waits at the other end; -1: none */
};

static int fail(const char *what, char *cause, int rc)
{
	log_error("%s", cause != NULL ? cause : strerror(-rc));
	if (cause == NULL)
		log_error("(while %s)", what);
	free(cause);
	return -1;
}

/* ---- the process ------------------------------------------------------------------------------ */

/*
 * The parent stays until the child serves or has failed, and its exit code says which; so a script
 * may connect as soon as `valcached -d` returns. Before any thread: rings do not survive a fork.
 */
static int to_background(struct daemon *d)
{
	int fd[2], null;
	char ok = 0;
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) != 0 || (pid = fork()) < 0) {
		log_error("cannot run in the background: %s; run without -d", strerror(errno));
		return -1;
	}
	if (pid > 0) {
		close(fd[1]);
		_exit(read(fd[0], &ok, 1) == 1 && ok == 1 ? 0 : 1);
	}
	close(fd[0]);
	d->ready_pipe = fd[1];
	setsid();
	/* the folder stays: relative names of the settings mean what they meant when written */
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		close(null);
	}
	return 0;
}

static void say_ready(struct daemon *d)
{
	int null;

	sd_notify(0, "READY=1");
	if (d->ready_pipe < 0)
		return;
	if (write(d->ready_pipe, "\1", 1) != 1)
		log_warn("the process that started this one is gone");
	close(d->ready_pipe);
	d->ready_pipe = -1;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0 && d->opt.verbose == 0)
		dup2(null, STDERR_FILENO);
	if (null >= 0)
		close(null);
}

static int raise_files(const struct options *o)
{
	struct rlimit lim;
	rlim_t want = (rlim_t)o->connections + o->path_n + 8 * (rlim_t)o->threads + SPARE_FILES;

	if (getrlimit(RLIMIT_NOFILE, &lim) != 0 || lim.rlim_cur >= want)
		return 0;
	if (lim.rlim_max < want) {
		struct rlimit more = {want, want};

		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			return 0;
		log_error("%u connections need %llu open files, but the limit is %llu; raise it "
			  "(LimitNOFILE=, ulimit -Hn) or lower -c",
			  o->connections, (unsigned long long)want,
			  (unsigned long long)lim.rlim_max);
		return -1;
	}
	lim.rlim_cur = want;
	if (setrlimit(RLIMIT_NOFILE, &lim) != 0) {
		log_error("cannot raise the limit of open files to %llu: %s",
			  (unsigned long long)want, strerror(errno));
		return -1;
	}
	return 0;
}

/*
 * The right to lock memory for the rings, which root has without asking, for -u's user, too. Without
 * CAP_SYS_RESOURCE as far as it goes; io/ says what is missing.
 */
static void raise_locked(void)
{
	const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	struct rlimit most;

	if (setrlimit(RLIMIT_MEMLOCK, &all) != 0 && getrlimit(RLIMIT_MEMLOCK, &most) == 0) {
		most.rlim_cur = most.rlim_max;
		(void)setrlimit(RLIMIT_MEMLOCK, &most);
	}
}

static int write_pidfile(struct daemon *d)
{
	FILE *f;

	if (d->opt.pidfile == NULL)
		return 0;
	f = fopen(d->opt.pidfile, "we");
	if (f == NULL || fprintf(f, "%d\n", (int)getpid()) < 0 || fclose(f) != 0) {
		log_error("cannot write the process id to %s: %s; choose another file with -P",
			  d->opt.pidfile, strerror(errno));
		return -1;
	}
	d->pidfile_made = true;
	return 0;
}

/* ---- the engine -------------------------------------------------------------------------------- */

/* Those of the workers and of the slow thread. */
static unsigned loops_of(const struct daemon *d)
{
	return d->opt.threads + 1;
}

/*
 * sysctl kernel.io_uring_disabled=1 refuses users what root may do, and the workers will be -u's: a child that
 * becomes that user tries. 0, or -errno with a sentence.
 */
static int try_as_user(const struct daemon *d, const struct io_engine *engine, char **cause)
{
	char text[1024];
	size_t have = 0;
	ssize_t n;
	int fd[2], status = 0;
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) != 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		close(fd[0]);
		close(fd[1]);
		return -errno;
	}
	if (pid == 0) {
		int rc = -EPERM;

		log_set_level(LOG_ERROR);
		if (privileges_be_user(&d->priv) == 0)
			rc = io_try(engine, loops_of(d), cause);
		if (rc != 0 && *cause != NULL &&
		    write(fd[1], *cause, strlen(*cause)) != (ssize_t)strlen(*cause))
			_exit(EPIPE);
		_exit(-rc);
	}
	close(fd[1]);
	while (have < sizeof text - 1 &&
	       ((n = read(fd[0], text + have, sizeof text - 1 - have)) > 0 ||
		(n < 0 && errno == EINTR)))
		have += n > 0 ? (size_t)n : 0;
	text[have] = '\0';
	close(fd[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	*cause = have > 0 ? strdup(text) : NULL;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EPERM;
}

static int choose_engine(struct daemon *d)
{
	enum options_io asked = d->opt.io;
	char *cause = NULL;
	int rc = 0;

	if (asked != OPTIONS_IO_LIBEVENT)
		rc = d->priv.changes_user ? try_as_user(d, &io_uring_engine, &cause)
					  : io_try(&io_uring_engine, loops_of(d), &cause);
	if (rc != 0 && asked == OPTIONS_IO_URING) {
		log_error("--io=uring: %s; or start with --io=auto, which goes on without it",
			  cause != NULL ? cause : strerror(-rc));
		free(cause);
		return -1;
	}
	d->engine_reason = strdup(cause != NULL              ? cause
				  : rc != 0                  ? strerror(-rc)
				  : asked == OPTIONS_IO_AUTO ? "io_uring is allowed here"
							     : "it was asked for by --io");
	free(cause);
	d->engine =
	    rc != 0 || asked == OPTIONS_IO_LIBEVENT ? &io_libevent_engine : &io_uring_engine;
	if (d->engine_reason == NULL)
		return fail("starting", NULL, -ENOMEM);
	log_info("io: engine %s: %s", d->engine->name, d->engine_reason);
	return 0;
}

/* ---- the parts -------------------------------------------------------------------------------- */

static int open_net(struct daemon *d)
{
	const struct options *o = &d->opt;
	struct net_config cfg = {
	    .addr_n = o->listen_n,
	    .unix_path = o->unix_path,
	    .unix_mode = o->unix_mask,
	    .unix_owner = o->unix_owner,
	    .unix_group = o->unix_group,
	    .unix_allow = o->unix_allow,
	    .backlog = o->backlog,
	    .connections = o->connections,
	    .turn_requests = o->requests_per_event,
	    .workers = o->threads,
	    .allow_flush = o->allow_flush,
	    .item_max = o->item_max,
	    .auth_file = o->auth_file,
	    .text_login = o->auth_file != NULL,
	    .sasl = o->sasl,
	    .tls = {.chain_cert = o->ssl ? o->ssl_chain_cert : NULL,
		    .key = o->ssl_key,
		    .ca_cert = o->ssl_ca_cert,
		    .ciphers = o->ssl_ciphers,
		    .verify = o->ssl_verify_mode,
		    .key_der = o->ssl_keyformat == OPTIONS_KEY_DER,
		    .min_13 = o->ssl_min_version == OPTIONS_TLS13 ||
			      o->ssl_min_version == OPTIONS_TLS13_NUMBER,
		    .session_cache = o->ssl_session_cache},
	    .spin_ns = o->spin_ns,
	    .per_address = o->per_address,
	    .conn_bytes = o->conn_bytes,
	    .idle_ns = o->idle_ns,
	    .request_ns = o->request_ns,
	    .disk_threads = o->io_threads,
	    .stall_ns = STALL_NS,
	    .stats = admin_stats,
	    .stats_arg = &d->admin,
	    .opened = privileges_of_thread,
	    .opened_arg = &d->priv,
	};
	char *cause = NULL;
	int rc;

	if (o->auth_file == NULL && o->sasl) {
		cfg.auth_file = getenv("MEMCACHED_SASL_PWDB");
		if (cfg.auth_file == NULL) {
			log_error("-S needs users and passwords: name a file with -Y (lines of "
				  "USER:PASSWORD)");
			return -1;
		}
	}
	d->addr = calloc(o->listen_n + 1, sizeof *d->addr);
	if (d->addr == NULL)
		return fail("starting", NULL, -ENOMEM);
	for (unsigned i = 0; i < o->listen_n; i++)
		d->addr[i] =
		    (struct net_addr){o->listen[i].host, o->listen[i].port, o->listen[i].plain};
	cfg.addr = d->addr;
	rc = net_open(&cfg, &d->net, &cause);
	if (rc != 0)
		return fail("opening the port", cause, rc);
	return 0;
}

static uint64_t machine_memory(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* What cache_memlimit may ask for: four times -m, as far as the machine has it. */
static uint64_t most_ram(const struct options *o)
{
	uint64_t have = machine_memory() - o->buffers_bytes, most = 4 * o->ram_bytes;

	return most < have ? most : have;
}

/* Registered with the rings it is locked from the start: more than there is ends in the kernel's OOM killer. */
static int check_memory(const struct options *o)
{
	uint64_t have = machine_memory();
	char ram[SIZE_TEXT_MAX], buffers[SIZE_TEXT_MAX], all[SIZE_TEXT_MAX];

	if (o->ram_bytes + o->buffers_bytes <= have)
		return 0;
	log_error("-m %s and --buffers=%s are more than the memory of this machine, %s: lower them",
		  size_human(ram, sizeof ram, (double)o->ram_bytes),
		  size_human(buffers, sizeof buffers, (double)o->buffers_bytes),
		  size_human(all, sizeof all, (double)have));
	return -1;
}

struct opening {
	const struct store_config *cfg;
	struct daemon *d;
	char *cause;
	int rc;
};

/*
 * The kernel's workers for the ring that reads a store at its start belong to the thread, with its rights, and
 * end with it; main's would keep root's beyond -u.
 */
static void *opening_thread(void *opening)
{
	struct opening *at = opening;

	at->rc = store_open(at->cfg, at->d->engine, &at->d->store, &at->cause);
	return NULL;
}

static int open_store(struct daemon *d)
{
	const struct options *o = &d->opt;
	struct store_config cfg = {
	    .npaths = o->path_n,
	    .size = o->size,
	    .mean_value = o->mean_value,
	    .item_max = o->item_max,
	    .workers = o->threads,
	    .ram_bytes = o->ram_bytes,
	    .ram_bytes_max = most_ram(o),
	    .buffer_bytes = o->buffers_bytes,
	    .sync_ns = o->sync_ns,
	    .io_timeout_ns = o->io_timeout_ns,
	    .admit = o->admit == OPTIONS_ADMIT_SECOND ? STORE_ADMIT_SECOND : STORE_ADMIT_ALL,
	    .write_budget = o->write_budget,
	    .scrub_rate = o->scrub_rate,
	    .fresh = o->restart == OPTIONS_RESTART_EMPTY,
	    .forget_paths = o->forget_paths,
	    .no_attach = o->restart == OPTIONS_RESTART_DISK,
	};
	struct opening at = {.cfg = &cfg, .d = d};
	pthread_t thread;
	int rc;

	if (o->path_n > STORE_PATHS_MAX) {
		log_error("%u paths are given, but at most %u are supported; leave some --path out",
			  o->path_n, STORE_PATHS_MAX);
		return -1;
	}
	for (unsigned i = 0; i < o->path_n; i++)
		cfg.paths[i] = o->path[i];
	rc = pthread_create(&thread, NULL, opening_thread, &at);
	if (rc != 0)
		return fail("opening the store", NULL, -rc);
	AZ(pthread_join(thread, NULL));
	if (at.rc != 0)
		return fail("opening the store", at.cause, at.rc);
	return 0;
}

static int start(struct daemon *d)
{
	char *cause = NULL;
	int rc;

	raise_locked();
	if (raise_files(&d->opt) != 0 || check_memory(&d->opt) != 0 ||
	    privileges_find(&d->priv, &d->opt) != 0 || choose_engine(d) != 0 || open_net(d) != 0 ||
	    write_pidfile(d) != 0 || open_store(d) != 0 ||
	    privileges_lower(&d->priv, d->engine, d->net, d->store) != 0)
		return -1;
	d->admin.net = d->net;
	d->admin.options = &d->opt;
	d->admin.engine = d->engine->name;
	d->admin.engine_reason = d->engine_reason;
	rc = net_start(d->net, d->engine, d->store, &cause);
	if (rc != 0)
		return fail("starting the workers", cause, rc);
	if (privileges_shut(&d->priv) != 0)
		return -1;
	d->admin.sandbox = privileges_state(&d->priv);
	d->admin.sandbox_reason = privileges_reason(&d->priv);
	net_serve(d->net);
	log_info("serving with %u worker%s, engine %s, at most %u connections", d->opt.threads,
		 d->opt.threads == 1 ? "" : "s", d->engine->name, d->opt.connections);
	return 0;
}

/*
 * A device that never gives back what it was asked for would keep the workers from ending. Then the process ends as
 * if it was killed: nothing that was answered is lost by that, the next start finds it in shared memory.
 */
static void *guard_stop(void *arg)
{
	struct daemon *d = arg;
	struct timespec ts = {.tv_nsec = 100 * 1000000};

	for (uint64_t begin = clock_ns();; nanosleep(&ts, NULL)) {
		pthread_mutex_lock(&d->guard_lock);
		if (d->guard_over) {
			pthread_mutex_unlock(&d->guard_lock);
			return NULL;
		}
		if (clock_ns() - begin > DRAIN_NS + STOP_NS && store_late(d->store) > 0) {
			log_error(
			    "stopping without %u operations that the device has not done; what they "
			    "would have written is in shared memory for the next start",
			    store_late(d->store));
			if (d->pidfile_made)
				unlink(d->opt.pidfile);
			_exit(1);
		}
		pthread_mutex_unlock(&d->guard_lock);
	}
}

static void stop_workers(struct daemon *d)
{
	pthread_t guard;
	bool guarded = d->store != NULL && pthread_create(&guard, NULL, guard_stop, d) == 0;

	net_stop(d->net, DRAIN_NS);
	pthread_mutex_lock(&d->guard_lock);
	d->guard_over = true;
	pthread_mutex_unlock(&d->guard_lock);
	if (guarded)
		pthread_join(guard, NULL);
}

static void undo(struct daemon *d)
{
	if (d->net != NULL)
		stop_workers(d);
	if (d->store != NULL)
		store_close(&d->store);
	if (d->net != NULL)
		net_close(&d->net);
	if (d->pidfile_made)
		unlink(d->opt.pidfile);
	free(d->addr);
	free(d->engine_reason);
	privileges_free(&d->priv);
	options_free(&d->opt);
}

int main(int argc, char **argv)
{
	struct daemon d = {.guard_lock = PTHREAD_MUTEX_INITIALIZER, .ready_pipe = -1};
	char *cause = NULL;
	sigset_t stop;
	int rc, sig = 0;

	rc = options_parse(&d.opt, argc, argv, &cause);
	if (rc > 0)
		return 0;
	if (rc < 0) {
		fail("reading the settings", cause, rc);
		return 2;
	}
	if (d.opt.verbose > 0)
		log_set_level(LOG_DEBUG);
	log_info("valcached %s", VALCACHED_VERSION);
	if (d.opt.daemon && to_background(&d) != 0)
		return 1;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* ulimit -f: an error of the write, with a sentence */
	/* before any thread exists, so that all inherit it */
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigaddset(&stop, SIGUSR1);
	sigaddset(&stop, SIGHUP);
	AZ(pthread_sigmask(SIG_BLOCK, &stop, NULL));

	rc = start(&d);
	if (rc == 0) {
		say_ready(&d);
		while (sigwait(&stop, &sig) != 0 || sig == SIGHUP)
			if (sig == SIGHUP) {
				log_info("SIGHUP: trying paths that are not online");
				store_paths_online(d.store);
				net_reload(d.net);
				sig = 0;
			}
		sd_notify(0, "STOPPING=1");
		log_info("stopping on %s", sig == SIGTERM   ? "SIGTERM"
					   : sig == SIGUSR1 ? "SIGUSR1"
							    : "SIGINT");
	}
	undo(&d);
	if (rc == 0)
		log_info("stopped cleanly");
	return rc == 0 ? 0 : 1;
}
