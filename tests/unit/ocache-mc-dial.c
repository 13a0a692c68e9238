/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: set=full threads=yes wrap=no limit=60
 * Connections in bounded time: a resolver that hangs, an address that does not answer, nobody there, a stop. The
 * resolver is this program's own; the sockets are real.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ocache/mc_dial.h"
#include "ocache/thread.h"
#include "tests/unit/ocache_rig.h"

#define MS 1000000ull

static struct sockaddr_in dead, alive;
static _Atomic unsigned lookups_out;
static _Atomic bool stopped, hangs;
static int wake_fd;

/* ---- the resolver ---------------------------------------------------------------------- */

static struct addrinfo *address(const struct sockaddr_in *in, struct addrinfo *next)
{
	struct addrinfo *a = calloc(1, sizeof *a + sizeof *in);

	assert_non_null(a);
	a->ai_family = AF_INET;
	a->ai_addrlen = sizeof *in;
	a->ai_addr = (struct sockaddr *)(a + 1);
	memcpy(a->ai_addr, in, sizeof *in);
	a->ai_next = next;
	return a;
}

int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
		struct addrinfo **all)
{
	const struct timespec long_time = {.tv_nsec = 700 * (long)MS}, nap = {.tv_nsec = (long)MS};

	(void)port;
	if (hints->ai_flags & AI_NUMERICHOST)
		return EAI_NONAME;
	if (strcmp(host, "unknown.test") == 0)
		return EAI_NONAME;
	if (strcmp(host, "slow.test") == 0 || strcmp(host, "hung.test") == 0) {
		nanosleep(host[0] == 's' ? &long_time : &nap, NULL);
		while (host[0] == 'h' && atomic_load(&hangs))
			nanosleep(&nap, NULL);
		*all = address(&alive, NULL);
		atomic_fetch_sub(&lookups_out, 1);
		return 0;
	}
	*all = address(&dead, strcmp(host, "two.test") == 0 ? address(&alive, NULL) : NULL);
	return 0;
}

void freeaddrinfo(struct addrinfo *all)
{
	while (all != NULL) {
		struct addrinfo *next = all->ai_next;

		free(all);
		all = next;
	}
}

/* ---- the rig --------------------------------------------------------------------------- */

static bool stop(void *ctx)
{
	(void)ctx;
	return atomic_load(&stopped);
}

static int try(const char *host, unsigned port, uint64_t ns, uint64_t *took)
{
	const struct mc_dial d = {.host = host, .port = port, .wake = wake_fd, .stop = stop};
	uint64_t from = clock_ns();
	int fd = mc_dial(&d, from + ns);

	*took = clock_ns() - from;
	return fd;
}

static int listener(struct sockaddr_in *at, int backlog)
{
	socklen_t n = sizeof *at;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	*at = (struct sockaddr_in){.sin_family = AF_INET};
	at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (const struct sockaddr *)at, sizeof *at), 0);
	assert_int_equal(listen(fd, backlog), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)at, &n), 0);
	return fd;
}

/* Connections until one is not answered: the backlog is full, and the kernel drops what comes. */
static unsigned fill(const struct sockaddr_in *at, int *fd, unsigned most)
{
	for (unsigned i = 0; i < most; i++) {
		struct pollfd p = {.events = POLLOUT};

		fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		assert_true(fd[i] >= 0);
		(void)connect(fd[i], (const struct sockaddr *)at, sizeof *at);
		p.fd = fd[i];
		if (poll(&p, 1, 100) == 0)
			return i + 1;
	}
	fail_msg("a backlog of 0 takes %u connections", most);
	return 0;
}

/* ---- tests ----------------------------------------------------------------------------- */

/* The resolver answers after all: nothing that it touches is gone. */
static void let_go(void)
{
	atomic_store(&hangs, false);
	while (atomic_load(&lookups_out) > 0)
		usleep(10000);
	usleep(50000);
}

static void resolver_hangs(void **state)
{
	uint64_t took;

	(void)state;
	atomic_store(&lookups_out, 1);
	atomic_store(&hangs, true);
	assert_int_equal(try("hung.test", 1, 100 * MS, &took), -ETIMEDOUT);
	assert_in_range(took, 90 * MS, 10000 * MS);
	assert_int_equal(atomic_load(&lookups_out), 1);
	let_go();
}

static void resolver_is_slow(void **state)
{
	uint64_t took;
	int fd;

	(void)state;
	atomic_store(&lookups_out, 1);
	fd = try("slow.test", 1, 20000 * MS, &took);
	assert_true(fd >= 0);
	assert_in_range(took, 600 * MS, 10000 * MS); /* not at its deadline */
	close(fd);
}

static void resolver_knows_nobody(void **state)
{
	uint64_t took;

	(void)state;
	assert_int_equal(try("unknown.test", 1, 20000 * MS, &took), -EHOSTUNREACH);
	assert_in_range(took, 0, 10000 * MS);
}

/* The second address has its share of the time, which the first has not used up. */
static void first_address_is_silent(void **state)
{
	uint64_t took;
	int fd = try("two.test", 1, 3000 * MS, &took);

	(void)state;
	assert_true(fd >= 0);
	assert_in_range(took, 1400 * MS, 10000 * MS); /* its half, not the kernel's two minutes */
	close(fd);
	assert_int_equal(try("one.test", 1, 200 * MS, &took), -ETIMEDOUT);
	assert_in_range(took, 190 * MS, 10000 * MS); /* the kernel tries for two minutes */
}

static void nobody_listens(void **state)
{
	struct sockaddr_in was = alive;
	char path[200];
	uint64_t took;
	int fd;

	(void)state;
	fd = listener(&alive, 1);
	close(fd);
	atomic_store(&lookups_out, 1);
	assert_int_equal(try("slow.test", 1, 5000 * MS, &took), -ECONNREFUSED);
	alive = was;
	assert_int_equal(try("/nowhere/socket", 0, 1000 * MS, &took), -ECONNREFUSED);
	memset(path, 'x', sizeof path - 1);
	path[0] = '/';
	path[sizeof path - 1] = '\0';
	assert_int_equal(try(path, 0, 1000 * MS, &took), -ENAMETOOLONG);
}

static void *stop_soon(void *arg)
{
	uint64_t one = 1;

	usleep(50000);
	atomic_store(&stopped, true);
	assert_int_equal(write(wake_fd, &one, sizeof one), sizeof one);
	return arg;
}

static void stopped_while_it_waits(void **state)
{
	static const char *const host[] = {"hung.test", "one.test"};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		pthread_t thread;
		uint64_t took;

		atomic_store(&stopped, false);
		atomic_store(&hangs, true);
		atomic_store(&lookups_out, i == 0);
		assert_int_equal(pthread_create(&thread, NULL, stop_soon, NULL), 0);
		/* woken, and not by its deadline */
		assert_int_equal(try(host[i], 1, 20000 * MS, &took), -ECANCELED);
		assert_in_range(took, 0, 10000 * MS);
		pthread_join(thread, NULL);
		let_go();
	}
	atomic_store(&stopped, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(resolver_hangs),        cmocka_unit_test(resolver_is_slow),
	    cmocka_unit_test(resolver_knows_nobody), cmocka_unit_test(first_address_is_silent),
	    cmocka_unit_test(nobody_listens),        cmocka_unit_test(stopped_while_it_waits),
	};
	int taken[64], silent = listener(&dead, 0), open = listener(&alive, 16), failed;
	unsigned n = fill(&dead, taken, 64);

	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(wake_fd >= 0);
	failed = cmocka_run_group_tests_name("ocache-mc-dial", tests, NULL, NULL);
	while (n > 0)
		close(taken[--n]);
	close(silent);
	close(open);
	close(wake_fd);
	return failed;
}
