/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests/clients/libmemcached compiles and runs: libmemcached's calls against a server.
 *     libmemcached text|binary HOST:PORT [USER PASSWORD]
 * Prints what failed and `N passed, N failed`. Values are of this run: a key is used once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <libmemcached-1.0/memcached.h>

#define LARGE (900u * 1024)
#define MANY  500u

static unsigned passed, failed;
static memcached_st *m;

static void same(const char *what, long got, long want)
{
	if (got == want) {
		passed++;
		return;
	}
	failed++;
	printf("FAILED %s\n  want %ld %s\n  got  %ld %s\n", what, want,
	       memcached_strerror(m, (memcached_return_t)want), got,
	       memcached_strerror(m, (memcached_return_t)got));
}

static int set(const char *key, const char *value, size_t n, time_t expiry, uint32_t flags)
{
	return memcached_set(m, key, strlen(key), value, n, expiry, flags);
}

/* 1: the key holds these bytes and flags. */
static int holds(const char *key, const char *value, size_t n, uint32_t flags)
{
	memcached_return_t rc;
	uint32_t f = 0;
	size_t len = 0;
	char *v = memcached_get(m, key, strlen(key), &len, &f, &rc);
	int ok = rc == MEMCACHED_SUCCESS && len == n && f == flags &&
		 (n == 0 || memcmp(v, value, n) == 0);

	free(v);
	return ok;
}

static int get_rc(const char *key)
{
	memcached_return_t rc;
	size_t len;
	uint32_t f;

	free(memcached_get(m, key, strlen(key), &len, &f, &rc));
	return rc;
}

static void one_by_one(int binary)
{
	char *large = malloc(LARGE);

	for (size_t i = 0; i < LARGE; i++)
		large[i] = (char)(i * 2654435761u >> 13);
	same("a miss", get_rc("none"), MEMCACHED_NOTFOUND);
	same("set", set("k", "value", 5, 0, 77), MEMCACHED_SUCCESS);
	same("get", holds("k", "value", 5, 77), 1);
	same("set the same", set("k", "value", 5, 2592000, 77), MEMCACHED_SUCCESS);
	same("set another", set("k", "other", 5, 0, 77),
	     binary ? MEMCACHED_DATA_EXISTS : MEMCACHED_NOTSTORED);
	same("is what it was", holds("k", "value", 5, 77), 1);
	same("add what is there", memcached_add(m, "k", 1, "value", 5, 0, 77),
	     binary ? MEMCACHED_DATA_EXISTS : MEMCACHED_NOTSTORED);
	same("add", memcached_add(m, "a", 1, "1", 1, 3600, 0), MEMCACHED_SUCCESS);
	same("get what was added", holds("a", "1", 1, 0), 1);
	same("a date of 1970", set("past", "v", 1, 2592001, 0), MEMCACHED_SUCCESS);
	same("is over", get_rc("past"), MEMCACHED_NOTFOUND);
	same("an empty value", set("e", "", 0, 0, 1), MEMCACHED_SUCCESS);
	same("comes back", holds("e", "", 0, 1), 1);
	same("a large value", set("large", large, LARGE, 0, 3), MEMCACHED_SUCCESS);
	same("comes back", holds("large", large, LARGE, 3), 1);
	same("exist", memcached_exist(m, "k", 1), MEMCACHED_SUCCESS);
	same("exist of a miss", memcached_exist(m, "none", 4), MEMCACHED_NOTFOUND);
	same("touch", memcached_touch(m, "k", 1, 3600), MEMCACHED_SUCCESS);
	same("touch of a miss", memcached_touch(m, "none", 4, 3600), MEMCACHED_NOTFOUND);
	same("set of what exist was asked for", set("none", "now", 3, 0, 0), MEMCACHED_SUCCESS);
	same("delete", memcached_delete(m, "k", 1, 0), MEMCACHED_SUCCESS);
	same("delete again", memcached_delete(m, "k", 1, 0), MEMCACHED_NOTFOUND);
	same("gone", get_rc("k"), MEMCACHED_NOTFOUND);
	same("set anew", set("k", "other", 5, 0, 0), MEMCACHED_SUCCESS);
	same("holds it", holds("k", "other", 5, 0), 1);
	free(large);
}

/* A multi-get: in the binary protocol getkq's and a noop; keys of which every third is there. */
static void many(void)
{
	static char name[MANY][16];
	const char *keys[MANY];
	size_t lens[MANY];
	unsigned there = 0, right = 0;
	memcached_return_t rc;
	memcached_result_st *r;

	for (unsigned i = 0; i < MANY; i++) {
		lens[i] = (size_t)sprintf(name[i], "many%u", i);
		keys[i] = name[i];
		if (i % 3 == 0) {
			there++;
			if (set(name[i], name[i], lens[i], 0, i) != MEMCACHED_SUCCESS)
				there = 0;
		}
	}
	same("set of many", there, (MANY + 2) / 3);
	same("mget", memcached_mget(m, keys, lens, MANY), MEMCACHED_SUCCESS);
	while ((r = memcached_fetch_result(m, NULL, &rc)) != NULL) {
		unsigned i = memcached_result_flags(r);

		if (i < MANY && memcached_result_length(r) == lens[i] &&
		    memcmp(memcached_result_value(r), name[i], lens[i]) == 0 &&
		    memcmp(memcached_result_key_value(r), name[i], lens[i]) == 0)
			right++;
		memcached_result_free(r);
	}
	same("all that are there came", right, there);
}

/* Quiet sets, buffered by the library, which then connects anew: they may be carried out a moment later. */
static void pipelined(void)
{
	unsigned right = 0;
	char key[16];

	memcached_behavior_set(m, MEMCACHED_BEHAVIOR_BUFFER_REQUESTS, 1);
	memcached_behavior_set(m, MEMCACHED_BEHAVIOR_NOREPLY, 1);
	for (unsigned i = 0; i < MANY; i++) {
		sprintf(key, "pipe%u", i);
		set(key, key, strlen(key), 0, i);
	}
	same("flush of the buffers", memcached_flush_buffers(m), MEMCACHED_SUCCESS);
	memcached_behavior_set(m, MEMCACHED_BEHAVIOR_NOREPLY, 0);
	memcached_behavior_set(m, MEMCACHED_BEHAVIOR_BUFFER_REQUESTS, 0);
	for (unsigned i = 0; i < MANY; i++) {
		sprintf(key, "pipe%u", i);
		for (unsigned wait = 0; wait < 2000 && get_rc(key) == MEMCACHED_NOTFOUND; wait++)
			usleep(5000);
		right += (unsigned)holds(key, key, strlen(key), i);
	}
	same("what was stored without an answer", right, MANY);
}

static void refused(void)
{
	char *huge = calloc(1, 1100000);
	uint64_t v;

	set("n", "1", 1, 0, 0);
	same("increment is refused", memcached_increment(m, "n", 1, 1, &v) != MEMCACHED_SUCCESS, 1);
	same("in step", holds("n", "1", 1, 0), 1);
	same("append is refused", memcached_append(m, "n", 1, "x", 1, 0, 0) != MEMCACHED_SUCCESS,
	     1);
	same("in step", holds("n", "1", 1, 0), 1);
	same("replace is refused", memcached_replace(m, "n", 1, "x", 1, 0, 0) != MEMCACHED_SUCCESS,
	     1);
	same("in step", holds("n", "1", 1, 0), 1);
	same("too large", set("huge", huge, 1100000, 0, 0), MEMCACHED_E2BIG);
	same("in step", holds("n", "1", 1, 0), 1);
	free(huge);
}

static void again(void)
{
	memcached_quit(m);
	same("after quit it connects anew", holds("n", "1", 1, 0), 1);
	same("version", memcached_version(m), MEMCACHED_SUCCESS);
}

/* The server is killed and started again meanwhile. */
static void restarted(void)
{
	char line[80];

	puts("restart");
	fflush(stdout);
	same("is there again", fgets(line, sizeof line, stdin) != NULL, 1);
	for (unsigned i = 0; i < 300 && !holds("n", "1", 1, 0); i++)
		usleep(100000); /* after an error the library leaves it alone for a while */
	same("after a restart of the server", holds("n", "1", 1, 0), 1);
}

int main(int argc, char **argv)
{
	int binary = argc > 1 && strcmp(argv[1], "binary") == 0, secret = argc == 5;
	char *port = argc > 2 ? strchr(argv[2], ':') : NULL;

	if ((argc != 3 && argc != 5) || port == NULL)
		return 2;
	*port++ = 0;
	m = memcached_create(NULL);
	memcached_behavior_set(m, MEMCACHED_BEHAVIOR_BINARY_PROTOCOL, (uint64_t)binary);
	memcached_behavior_set(m, MEMCACHED_BEHAVIOR_RCV_TIMEOUT, 10000000);
	memcached_server_add(m, argv[2], (in_port_t)atoi(port));
	if (secret)
		same("sasl data", memcached_set_sasl_auth_data(m, argv[3], argv[4]),
		     MEMCACHED_SUCCESS);
	if (secret && strcmp(argv[4], "wrong") == 0) {
		same("is not let in", set("k", "v", 1, 0, 0) != MEMCACHED_SUCCESS, 1);
	} else {
		one_by_one(binary);
		many();
		pipelined();
		refused();
		again();
		restarted();
	}
	memcached_free(m);
	printf("%u passed, %u failed\n", passed, failed);
	return failed > 0;
}
