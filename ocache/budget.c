/* SPDX-License-Identifier: Apache-2.0 */
/* The budget of who names none: a quarter of the memory that the process may use. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ocache/cache_int.h"

/* The file's text in buf; false: there is none. */
static bool read_file(const char *path, char *buf, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, buf, room - 1);
	(void)close(fd);
	if (n <= 0)
		return false;
	buf[n] = '\0';
	return true;
}

/*
 * The least of this file in a group's folder and those above it; "max" and what is no number: none.
 */
static uint64_t least(const char *mount, char *group, const char *file)
{
	uint64_t limit = UINT64_MAX;
	char path[1024], text[64];

	for (;;) {
		char *slash;

		if (snprintf(path, sizeof path, "%s%s/%s", mount, group, file) < (int)sizeof path &&
		    read_file(path, text, sizeof text) && text[0] >= '0' && text[0] <= '9') {
			uint64_t n = strtoull(text, NULL, 10);

			limit = n < limit ? n : limit;
		}
		slash = strrchr(group, '/');
		if (slash == NULL)
			return limit;
		*slash = '\0';
	}
}

/* What the cgroups of either version allow this process. */
static uint64_t cgroup_limit(void)
{
	char groups[4096];
	uint64_t limit = UINT64_MAX;

	if (!read_file("/proc/self/cgroup", groups, sizeof groups))
		return limit;
	/* lines of number:controllers:/group */
	for (char *line = groups, *end; line != NULL && *line != '\0'; line = end) {
		char *names = strchr(line, ':'),
		     *group = names != NULL ? strchr(names + 1, ':') : NULL;
		uint64_t n = UINT64_MAX;

		end = strchr(line, '\n');
		if (end != NULL)
			*end++ = '\0';
		if (group == NULL)
			continue;
		*group++ = '\0';
		if (names[1] == '\0')
			n = least("/sys/fs/cgroup", group, "memory.max");
		else if (strstr(names, "memory") != NULL)
			n = least("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes");
		limit = n < limit ? n : limit;
	}
	return limit;
}

uint64_t ocache__default_budget(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
	uint64_t all = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 1ull << 30;
	uint64_t limit = cgroup_limit();

	all = (limit < all ? limit : all) / 4;
	return all < OCACHE_BUDGET_MIN ? OCACHE_BUDGET_MIN : all;
}
