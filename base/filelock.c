/* SPDX-License-Identifier: Apache-2.0 */
#include "base/filelock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"

#define WAIT_NS (FILELOCK_WAIT_S * NS_PER_S)
#define SAY_NS  (200 * NS_PER_MS) /* a killed process keeps the lock for some tens of ms */
#define STEP_NS (20 * NS_PER_MS)

/* The process that holds the lock, by /proc/locks; 0 if that cannot be told. */
static long holder(int fd)
{
	char line[256], want[64];
	struct stat st;
	long pid = 0;
	FILE *f;

	if (fstat(fd, &st) < 0)
		return 0;
	f = fopen("/proc/locks", "re");
	if (f == NULL)
		return 0;
	snprintf(want, sizeof want, "%02x:%02x:%llu", major(st.st_dev), minor(st.st_dev),
		 (unsigned long long)st.st_ino);
	while (pid == 0 && fgets(line, sizeof line, f) != NULL) {
		char kind[16], mode[16], access[16], at[64];
		long p;

		if (sscanf(line, "%*s %15s %15s %15s %ld %63s", kind, mode, access, &p, at) == 5 &&
		    strcmp(kind, "FLOCK") == 0 && strcmp(at, want) == 0)
			pid = p;
	}
	(void)fclose(f);
	return pid;
}

int filelock(int fd, const char *name, const char *why, char who[static 32])
{
	uint64_t begin = clock_ns();
	bool said = false;
	long pid;

	who[0] = '\0';
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		const struct timespec step = {.tv_nsec = (long)STEP_NS};

		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (!said && clock_ns() - begin >= SAY_NS) {
			said = true;
			pid = holder(fd);
			if (pid > 0)
				snprintf(who, 32, " (process %ld)", pid);
			log_info("%s: %s%s: waiting up to %u s for it to end", name, why, who,
				 FILELOCK_WAIT_S);
		}
		if (clock_ns() - begin >= WAIT_NS)
			return -EBUSY;
		nanosleep(&step, NULL);
	}
	return 0;
}
