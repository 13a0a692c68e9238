/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "tests/crash/step.h"
#include "valcached/store/store_int.h"

/* ---- what would be left ------------------------------------------------------------------------ */

static void forget(struct sight *v)
{
	for (unsigned i = 0; i < v->n; i++) {
		if (v->file[i].now != NULL)
			munmap((void *)(uintptr_t)v->file[i].now, v->file[i].len);
		free(v->file[i].last);
	}
	v->n = 0;
}

/* The folder has changed: its files are mapped anew. */
static void scan(struct sight *v)
{
	struct dirent *e;
	char name[sizeof v->dir + sizeof e->d_name];
	DIR *d = opendir(v->dir);

	AN(d);
	forget(v);
	while ((e = readdir(d)) != NULL) {
		struct sight_file *f = &v->file[v->n];
		struct stat st;
		int fd;

		if (e->d_name[0] == '.')
			continue;
		A(v->n < SIGHT_FILES);
		A(strlen(e->d_name) < sizeof f->name);
		snprintf(name, sizeof name, "%s/%s", v->dir, e->d_name);
		fd = open(name, O_RDONLY | O_CLOEXEC);
		A(fd >= 0);
		AZ(fstat(fd, &st));
		memset(f, 0, sizeof *f);
		strcpy(f->name, e->d_name);
		f->len = (size_t)st.st_size;
		f->buffers = strstr(f->name, "-writes") != NULL;
		if (f->len > 0) {
			void *map = mmap(NULL, f->len, PROT_READ, MAP_SHARED, fd, 0);

			A(map != MAP_FAILED);
			f->now = map;
			f->last = malloc(f->len);
			AN(f->last);
			memcpy(f->last, f->now, f->len);
		}
		close(fd);
		v->n++;
	}
	closedir(d);
}

/* What happened in the folder is told at once: the process is stopped. */
static bool folder_changed(struct sight *v)
{
	char buf[4096] __attribute__((aligned(8)));
	bool any = false;

	while (read(v->notify, buf, sizeof buf) > 0)
		any = true;
	return any;
}

void sight_open(struct sight *v, const char *dir, const uint8_t *disk, uint64_t disk_size,
		const struct mapped_write *write)
{
	memset(v, 0, sizeof *v);
	snprintf(v->dir, sizeof v->dir, "%s", dir);
	v->notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	A(v->notify >= 0);
	A(inotify_add_watch(v->notify, dir, IN_CREATE | IN_DELETE | IN_MOVE | IN_MODIFY) >= 0);
	v->disk = disk;
	v->disk_size = disk_size;
	v->disk_last = malloc(disk_size);
	AN(v->disk_last);
	memcpy(v->disk_last, disk, disk_size);
	v->write = write;
	scan(v);
}

void sight_close(struct sight *v)
{
	forget(v);
	free(v->disk_last);
	close(v->notify);
}

static unsigned differs(const uint8_t *now, uint8_t *last, size_t len, unsigned what)
{
	if (memcmp(now, last, len) == 0)
		return SIGHT_SAME;
	memcpy(last, now, len);
	return what;
}

/* A page of struct wbuf_shm each, then the images: write.c. */
static unsigned buffers_changed(const struct sight_file *f)
{
	size_t n = f->len / (FORMAT_ALIGN + WBUF_BYTES);
	unsigned what = SIGHT_SAME;

	for (size_t i = 0; i < n; i++) {
		size_t head = i * FORMAT_ALIGN, image = n * FORMAT_ALIGN + i * WBUF_BYTES;
		const struct wbuf_shm *h = (const struct wbuf_shm *)(const void *)(f->now + head);

		what |= differs(f->now + head, f->last + head, sizeof *h, SIGHT_WORDS);
		if (atomic_load(&h->generation) != 0)
			what |= differs(f->now + image, f->last + image, WBUF_BYTES, SIGHT_BYTES);
	}
	return what;
}

unsigned sight_changed(struct sight *v)
{
	uint64_t off = v->write->off, len = v->write->len;
	unsigned what = SIGHT_SAME;

	if (folder_changed(v)) {
		scan(v);
		what = SIGHT_WORDS;
	}
	for (unsigned i = 0; i < v->n; i++) {
		const struct sight_file *f = &v->file[i];

		if (f->buffers)
			what |= buffers_changed(f);
		else if (f->now != NULL)
			what |= differs(f->now, f->last, f->len, SIGHT_WORDS);
	}
	if (len > 0)
		what |= differs(v->disk + off, v->disk_last + off, len, SIGHT_BYTES);
	return what;
}

bool sight_whole(const struct sight *v)
{
	return memcmp(v->disk, v->disk_last, v->disk_size) == 0;
}

void sight_copy(const struct sight *v, const char *dir)
{
	char name[400];

	for (unsigned i = 0; i < v->n; i++) {
		const struct sight_file *f = &v->file[i];
		int fd;

		snprintf(name, sizeof name, "%s/%s", dir, f->name);
		fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		A(fd >= 0);
		for (size_t at = 0; at < f->len;) {
			ssize_t n = write(fd, f->now + at, f->len - at);

			A(n > 0);
			at += (size_t)n;
		}
		close(fd);
	}
}

const struct sight_file *sight_find(const struct sight *v, const char *end)
{
	for (unsigned i = 0; i < v->n; i++) {
		const char *at = strstr(v->file[i].name, end);

		if (at != NULL && strcmp(at, end) == 0)
			return &v->file[i];
	}
	return NULL;
}

/* ---- instructions ------------------------------------------------------------------------------ */

bool step_begin(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return false;
	A(WSTOPSIG(status) == SIGSTOP);
	return ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_EXITKILL) == 0;
}

bool step(pid_t pid, int *status)
{
	if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0 || waitpid(pid, status, 0) != pid)
		return false;
	/* it gets no signals but those of its own mistakes */
	return WIFSTOPPED(*status) && WSTOPSIG(*status) == SIGTRAP;
}

uint64_t step_at(pid_t pid)
{
	struct user_regs_struct regs;
	struct iovec iov = {&regs, sizeof regs};

	if (ptrace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &iov) < 0)
		return 0;
#if defined(__x86_64__)
	return regs.rip;
#elif defined(__aarch64__)
	return regs.pc;
#else
	return 0;
#endif
}
