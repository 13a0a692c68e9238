/* SPDX-License-Identifier: Apache-2.0 */
/* The file of users and passwords: what is a good one, what is said of a bad one, and that a bad one changes nothing. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/memcheck.h"
#include "valcached/net/auth.h"

#define K50  "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
#define K250 K50 K50 K50 K50 K50

static char dir[] = "/tmp/net-auth-XXXXXX", file[64];

static void put(const char *bytes, size_t n)
{
	int fd = open(file, O_CREAT | O_TRUNC | O_WRONLY, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, n), n);
	close(fd);
}

static bool check(struct auth *a, const char *name, const char *pass)
{
	return auth_check(a, name, strlen(name), pass, strlen(pass));
}

static void lines(void **state)
{
	static const struct {
		const char *text;
		size_t n;
		const char *wrong; /* NULL: good, with `users` */
		unsigned at;
	} files[] = {
#define F(t, w, l) {t, sizeof(t) - 1, w, l}
	    F("a:b\n", NULL, 1),
	    F("a:b", NULL, 1),
	    F("a:b\r\nc:d\r\n", NULL, 2),
	    F("\na:b\n\n\nc:d e:f\n", NULL, 2),
	    F(K250 ":" K250 "\n", NULL, 1),
	    F("#a:b\n", NULL, 1),
	    F("", "there is no user in it", 0),
	    F("\n\r\n", "there is no user in it", 0),
	    F("a:b\nc\n", "there is no colon between user and password", 2),
	    F("a:b\n:c\n", "there is no user before the colon", 2),
	    F("a:\n", "there is no password behind the colon", 1),
	    F("a:b\n\na b:c", "the user has a space in it", 3),
	    F("a:b\0c\n", "it has a zero byte", 1),
	    F("\0\0\0\0", "it has a zero byte", 1),
	    F(K250 "k:a\n", "user and password may have 250 bytes each", 1),
	    F("a:" K250 "k\n", "user and password may have 250 bytes each", 1),
	};
	struct auth_users u;
	unsigned line;

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		const char *wrong = auth_parse(files[i].text, files[i].n, &u, &line);

		if (files[i].wrong == NULL) {
			assert_null(wrong);
			assert_int_equal(u.n, files[i].at);
		} else {
			assert_non_null(wrong);
			assert_string_equal(wrong, files[i].wrong);
			assert_int_equal(line, files[i].at);
		}
	}
	assert_null(auth_parse("a:b\n\nc:d e:f\n", 13, &u, &line));
	assert_string_equal(u.user[1].name, "c");
	assert_string_equal(u.user[1].pass, "d e:f");
}

static void how_many(void **state)
{
	static char text[AUTH_FILE_MAX + 10];
	struct auth_users u;
	unsigned line;
	size_t n = 0;

	(void)state;
	for (unsigned i = 0; i < AUTH_USERS_MAX; i++)
		n += (size_t)sprintf(text + n, "user%u:pass%u\n", i, i);
	assert_null(auth_parse(text, n, &u, &line));
	assert_int_equal(u.n, AUTH_USERS_MAX);
	n += (size_t)sprintf(text + n, "one:more\n");
	assert_non_null(auth_parse(text, n, &u, &line));
	assert_int_equal(line, AUTH_USERS_MAX + 1);
	memset(text, '\n', sizeof(text));
	assert_non_null(auth_parse(text, AUTH_FILE_MAX + 1, &u, &line));
	assert_int_equal(line, 0);
}

static void right_and_wrong(void **state)
{
	char *cause = NULL;
	struct auth *a = NULL;

	(void)state;
	put("user:pass\nuser:next\n" K250 ":" K250 "\n", 19 + 1 + 502);
	assert_int_equal(auth_open(file, &a, &cause), 0);
	assert_int_equal(auth_users(a), 3);
	assert_true(check(a, "user", "pass"));
	assert_true(check(a, "user", "next"));
	assert_true(check(a, K250, K250));
	assert_false(check(a, "user", "pas"));
	assert_false(check(a, "user", "passs"));
	assert_false(check(a, "user", "Pass"));
	assert_false(check(a, "use", "pass"));
	assert_false(check(a, "userr", "pass"));
	assert_false(check(a, "", ""));
	assert_false(check(a, "", "pass"));
	assert_false(check(a, "user", ""));
	assert_false(auth_check(a, "user\0", 5, "pass", 4));
	assert_false(auth_check(a, "user", 4, "pass\0", 5));
	assert_false(check(a, K250 "k", K250));
	assert_false(check(a, K250, K250 "k"));
	assert_false(check(a, K250, K250 K250 K250 K250));
	auth_close(&a);
	assert_null(a);
}

/*
 * How long it takes tells nothing of what was asked or is right: under valgrind, which is told that a stranger's
 * name and password are not known, no branch and no address hangs on them. tests/system/auth-time runs it there.
 */
static void no_branch(void **state)
{
	static const char *const tried[] = {"pass", "pasS", "Pass", "next", "????"};
	char *cause = NULL, name[4], pass[4];
	struct auth *a = NULL;
	volatile bool right;

	(void)state;
	put("user:pass\nuser:next\n", 20);
	assert_int_equal(auth_open(file, &a, &cause), 0);
	for (unsigned i = 0; i < sizeof tried / sizeof *tried; i++) {
		unsigned long before = memcheck_errors();

		memcpy(name, "user", 4);
		memcpy(pass, tried[i], 4);
		memcheck_unknown(name, 4);
		memcheck_unknown(pass, 4);
		right = auth_check(a, name, 4, pass, 4);
		memcheck_filled((const void *)&right, sizeof right);
		assert_int_equal(memcheck_errors(), before);
		assert_int_equal(right, i == 0 || i == 3);
	}
	auth_close(&a);
}

static void bad_reload(void **state)
{
	static const struct {
		const char *text;
		const char *says;
	} bad[] = {{"user\n", "line 1: there is no colon"}, {"", "there is no user in it"}};
	char *cause = NULL;
	struct auth *a = NULL;

	(void)state;
	put("user:pass\n", 10);
	assert_int_equal(auth_open(file, &a, &cause), 0);
	for (size_t i = 0; i < 2; i++) {
		put(bad[i].text, strlen(bad[i].text));
		assert_int_equal(auth_load(a, &cause), -EINVAL);
		assert_non_null(strstr(cause, bad[i].says));
		assert_non_null(strstr(cause, file));
		free(cause);
		assert_true(check(a, "user", "pass"));
	}
	unlink(file);
	assert_int_equal(auth_load(a, &cause), -ENOENT);
	free(cause);
	assert_true(check(a, "user", "pass"));
	assert_int_equal(mkdir(file, 0700), 0);
	assert_int_equal(auth_load(a, &cause), -EINVAL);
	assert_non_null(strstr(cause, "no regular file"));
	free(cause);
	rmdir(file);
	assert_int_equal(mkfifo(file, 0600), 0);
	assert_int_equal(auth_load(a, &cause), -EINVAL);
	free(cause);
	unlink(file);
	put("other:word\n", 11);
	assert_int_equal(auth_load(a, &cause), 0);
	assert_true(check(a, "other", "word"));
	assert_false(check(a, "user", "pass"));
	auth_close(&a);
}

static void bad_open(void **state)
{
	char *cause = NULL;
	struct auth *a = NULL;

	(void)state;
	put("user:secret\nb\n", 14);
	assert_int_equal(auth_open(file, &a, &cause), -EINVAL);
	assert_null(a);
	assert_non_null(strstr(cause, "line 2"));
	assert_null(strstr(cause, "secret"));
	free(cause);
	assert_int_equal(auth_open("/nowhere/at/all", &a, &cause), -ENOENT);
	free(cause);
}

static void credentials(void **state)
{
	char *cause = NULL;
	struct auth *a = NULL;

	(void)state;
	put("user:pass\n", 10);
	unsetenv("CREDENTIALS_DIRECTORY");
	assert_int_equal(auth_open("credential:auth", &a, &cause), -ENOENT);
	assert_non_null(strstr(cause, "LoadCredential="));
	free(cause);
	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	assert_int_equal(auth_open("credential:../auth", &a, &cause), -EINVAL);
	free(cause);
	assert_int_equal(auth_open("credential:", &a, &cause), -EINVAL);
	free(cause);
	assert_int_equal(auth_open("credential:auth", &a, &cause), 0);
	assert_true(check(a, "user", "pass"));
	auth_close(&a);
}

static int setup(void **state)
{
	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(file, sizeof(file), "%s/auth", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(file);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(lines),           cmocka_unit_test(how_many),
	    cmocka_unit_test(right_and_wrong), cmocka_unit_test(bad_reload),
	    cmocka_unit_test(bad_open),        cmocka_unit_test(credentials),
	    cmocka_unit_test(no_branch),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
