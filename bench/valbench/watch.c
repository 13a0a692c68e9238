/* SPDX-License-Identifier: Apache-2.0 */
/* Reading /proc/PID and /sys/block/DEV; see watch.h. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/valbench/watch.h"

static bool read_cpu(struct watch_sample *s, int pid)
{
	char path[64], text[1024], *p;
	unsigned long long user, system;
	size_t n;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (f == NULL)
		return false;
	n = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	text[n] = '\0';
	p = strrchr(text, ')'); /* the command's name may hold anything */
	if (p == NULL || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
				&user, &system) != 2)
		return false;
	s->cpu_user_s = (double)user / (double)sysconf(_SC_CLK_TCK);
	s->cpu_system_s = (double)system / (double)sysconf(_SC_CLK_TCK);
	return true;
}

/* Adds the counters of one status file (a process or one of its threads). */
static void read_status(struct watch_sample *s, const char *path, bool whole)
{
	char line[256];
	FILE *f = fopen(path, "re");
	unsigned long long v;

	if (f == NULL)
		return;
	while (fgets(line, sizeof line, f) != NULL) {
		if (whole && sscanf(line, "VmRSS: %llu kB", &v) == 1)
			s->rss_bytes = v * 1024;
		else if (whole && sscanf(line, "Threads: %llu", &v) == 1)
			s->threads = v;
		else if (!whole && sscanf(line, "voluntary_ctxt_switches: %llu", &v) == 1)
			s->switches_voluntary += v;
		else if (!whole && sscanf(line, "nonvoluntary_ctxt_switches: %llu", &v) == 1)
			s->switches_forced += v;
	}
	fclose(f);
}

static void read_schedstat(struct watch_sample *s, const char *path)
{
	FILE *f = fopen(path, "re");
	unsigned long long ns;

	if (f == NULL)
		return;
	if (fscanf(f, "%llu", &ns) == 1)
		s->run_ns += ns;
	fclose(f);
}

/* Unlike the device's counters these are not disturbed by others who use the disk. */
static void read_io(struct watch_sample *s, int pid)
{
	char path[64], line[128];
	unsigned long long v;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/io", pid);
	f = fopen(path, "re");
	if (f == NULL)
		return;
	while (fgets(line, sizeof line, f) != NULL) {
		if (sscanf(line, "read_bytes: %llu", &v) == 1) {
			s->read_bytes = v;
			s->have_io = true;
		} else if (sscanf(line, "write_bytes: %llu", &v) == 1) {
			s->write_bytes = v;
		}
	}
	fclose(f);
}

static void read_process(struct watch_sample *s, int pid)
{
	char path[320];
	struct dirent *e;
	DIR *d;

	s->have_process = read_cpu(s, pid);
	read_io(s, pid);
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	read_status(s, path, true);
	snprintf(path, sizeof path, "/proc/%d/task", pid);
	d = opendir(path);
	if (d == NULL)
		return;
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "/proc/%d/task/%s/status", pid, e->d_name);
		read_status(s, path, false);
		snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, e->d_name);
		read_schedstat(s, path);
	}
	closedir(d);
}

static void read_disk(struct watch_sample *s, const char *disk)
{
	unsigned long long reads, read_sectors, writes, write_sectors;
	char path[256];
	FILE *f;

	snprintf(path, sizeof path, "/sys/block/%s/stat", disk);
	f = fopen(path, "re");
	if (f == NULL)
		return;
	if (fscanf(f, "%llu %*u %llu %*u %llu %*u %llu", &reads, &read_sectors, &writes,
		   &write_sectors) == 4) {
		s->have_disk = true;
		s->disk_reads = reads;
		s->disk_read_bytes = read_sectors * 512;
		s->disk_writes = writes;
		s->disk_write_bytes = write_sectors * 512;
	}
	fclose(f);
}

void watch_take(struct watch_sample *s, int pid, const char *disk)
{
	struct rusage ru;

	memset(s, 0, sizeof *s);
	if (pid > 0)
		read_process(s, pid);
	if (disk != NULL)
		read_disk(s, disk);
	if (getrusage(RUSAGE_SELF, &ru) == 0)
		s->self_cpu_s = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
				(double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

struct watch_sample watch_between(const struct watch_sample *b, const struct watch_sample *a)
{
	struct watch_sample d = *a;

	d.have_process = a->have_process && b->have_process;
	d.have_disk = a->have_disk && b->have_disk;
	d.cpu_user_s -= b->cpu_user_s;
	d.cpu_system_s -= b->cpu_system_s;
	d.run_ns -= d.run_ns < b->run_ns ? d.run_ns : b->run_ns;
	d.switches_voluntary -= b->switches_voluntary;
	d.switches_forced -= b->switches_forced;
	d.have_io = a->have_io && b->have_io;
	d.read_bytes -= b->read_bytes;
	d.write_bytes -= b->write_bytes;
	d.disk_reads -= b->disk_reads;
	d.disk_read_bytes -= b->disk_read_bytes;
	d.disk_writes -= b->disk_writes;
	d.disk_write_bytes -= b->disk_write_bytes;
	d.self_cpu_s -= b->self_cpu_s;
	return d;
}
