/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the server process and the disk did meanwhile, from /proc and /sys. CPU is utime + stime of
 * the whole process in ticks of 10 ms: measure for seconds. For a server that is idle there is the scheduler's
 * own account, in ns. Main thread.
 */
#ifndef VALBENCH_WATCH_H
#define VALBENCH_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct watch_sample {
	bool have_process, have_disk;
	double cpu_user_s, cpu_system_s;
	uint64_t
	    run_ns; /* of all threads alive, by the scheduler; 0: the kernel keeps no account */
	uint64_t switches_voluntary, switches_forced; /* over all threads alive */
	uint64_t rss_bytes, threads;
	bool have_io;                     /* /proc/PID/io is only shown to the same user or root */
	uint64_t read_bytes, write_bytes; /* of the process, from and to devices */
	uint64_t disk_reads, disk_read_bytes, disk_writes, disk_write_bytes;
	double self_cpu_s;
};

/* pid 0 and disk NULL are left out; what cannot be read is left out too, and have_* says so. */
void watch_take(struct watch_sample *s, int pid, const char *disk);
/* after - before, field by field; rss and threads are those of `after`. */
struct watch_sample watch_between(const struct watch_sample *before,
				  const struct watch_sample *after);

#endif
