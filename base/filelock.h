/* SPDX-License-Identifier: Apache-2.0 */
/* A lock on an open file, which the kernel takes back when the process ends, however it ends. */
#ifndef BASE_FILELOCK_H
#define BASE_FILELOCK_H

#include <stddef.h>

#define FILELOCK_WAIT_S 5u

/*
 * flock()s fd for this process alone; blocking, for the start. Waits FILELOCK_WAIT_S for another one to end, and
 * says so once in the log: name, why. 0; -EBUSY, and who holds it: " (process 12)", or "" if that cannot be told;
 * or -errno.
 */
int filelock(int fd, const char *name, const char *why, char who[static 32]);

#endif
