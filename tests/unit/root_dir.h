/* SPDX-License-Identifier: Apache-2.0 */
/* A folder of the test's own, and names in it. */
#ifndef TESTS_UNIT_ROOT_DIR_H
#define TESTS_UNIT_ROOT_DIR_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static char root[100];

/* A path in it; the last four are valid. */
static inline const char *file(const char *name)
{
	static char path[4][160];
	static unsigned n;

	n = (n + 1) % 4;
	snprintf(path[n], sizeof path[n], "%s/%s", root, name);
	return path[n];
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

/* For cmocka: set-up and tear-down of a test or of a group. */
static int make_root(void **state)
{
	const char *tmp = getenv("TEST_TMP");

	(void)state;
	snprintf(root, sizeof root, "%s/unit.XXXXXX", tmp != NULL ? tmp : "/tmp");
	return mkdtemp(root) == NULL;
}

static int remove_root(void **state)
{
	(void)state;
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
