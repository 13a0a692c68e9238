/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named shared memory of the simulated machine, in place of valcached/store/shm.c: files in memory that outlive
 * the process that works on them, and not the power. One that is removed lives on for those who have
 * it mapped.
 *
 * A kill keeps a copy of all, since the dead process goes on as a shade until it has closed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/simulation/simulation.h"

#define FILES 8u

static struct file {
	char name[200]; /* "": it was removed */
	void *mem;      /* NULL: no file */
	size_t len;
	unsigned mapped;
	bool kept; /* not a file, but the copy of one */
} file[FILES];
static bool refused;  /* write buffers had no room beside those of the process before */
static unsigned late; /* how often they were made after those */

/* A shade lets go before the next start: who finds a name held has broken [AT-9]. */
static char held[FILES][200];

static struct file *by_name(const char *name, bool kept)
{
	for (unsigned i = 0; i < FILES; i++)
		if (file[i].mem != NULL && file[i].kept == kept && strcmp(file[i].name, name) == 0)
			return &file[i];
	return NULL;
}

static struct file *make(const char *name, size_t len, bool kept)
{
	for (unsigned i = 0; i < FILES; i++)
		if (file[i].mem == NULL) {
			A(strlen(name) < sizeof file[i].name);
			strcpy(file[i].name, name);
			AZ(posix_memalign(&file[i].mem, FORMAT_ALIGN, len));
			file[i].len = len;
			file[i].mapped = 0;
			file[i].kept = kept;
			return &file[i];
		}
	violation("more than %u files of shared memory", FILES);
}

static void release(struct file *f)
{
	f->name[0] = '\0';
	if (f->mapped > 0)
		return;
	free(f->mem);
	f->mem = NULL;
}

/* Whether a file of write buffers is there already, or what was removed lives on. */
static bool crowded(const char *new)
{
	char old[200];

	snprintf(old, sizeof old, "%.*s", (int)(strlen(new) - strlen(".new")), new);
	for (unsigned i = 0; i < FILES; i++)
		if (file[i].mem != NULL && !file[i].kept && file[i].name[0] == '\0')
			return true;
	return by_name(old, false) != NULL;
}

void *shm_map(const char *name, size_t len, const char *what, const char *remedy, char **cause)
{
	uint64_t seed = world->plan->setup.seed;
	const char *ext = strstr(name, ".new");
	struct file *f;

	(void)remedy;
	if (strncmp(held[0], name, strlen(held[0]) - 4) != 0) /* but for "lock" */
		violation("shared memory is made that is not held");
	shm_remove(name);
	/* every third schedule has no room for two files of write buffers; by the seed alone */
	if (ext != NULL && seed % 3 == 0) {
		if (crowded(name)) {
			if (asprintf(cause, "no room for %s", what) < 0)
				*cause = NULL;
			refused = true;
			errno = ENOSPC;
			return NULL;
		}
		/* when the old file is gone and the new one not there yet */
		if (refused && (seed / 3 + late++) % 3 == 0)
			world_die(world, false);
		refused = false;
	}
	f = make(name, len, false);
	memset(f->mem, 0, len);
	f->mapped = 1;
	return f->mem;
}

void *shm_attach(const char *name, size_t *len)
{
	struct file *f = by_name(name, false);

	if (f == NULL)
		return NULL;
	f->mapped++;
	*len = f->len;
	return f->mem;
}

void shm_unmap(void *mem, size_t len)
{
	for (unsigned i = 0; i < FILES; i++)
		if (file[i].mem == mem) {
			A(file[i].mapped > 0 && file[i].len == len);
			if (--file[i].mapped == 0 && file[i].name[0] == '\0')
				release(&file[i]);
			return;
		}
	violation("shared memory is unmapped that was not mapped");
}

void shm_remove(const char *name)
{
	struct file *f = by_name(name, false);

	if (f != NULL)
		release(f);
}

int shm_rename(const char *from, const char *to)
{
	struct file *f = by_name(from, false);

	if (f == NULL)
		return -ENOENT;
	shm_remove(to);
	strcpy(f->name, to);
	return 0;
}

int shm_hold(const char *name, const char *path, char **cause)
{
	(void)path, (void)cause;
	for (unsigned i = 0; i < FILES; i++)
		if (strcmp(held[i], name) == 0)
			violation("shared memory is held twice");
	for (unsigned i = 0; i < FILES; i++)
		if (held[i][0] == '\0') {
			A(strlen(name) < sizeof held[i]);
			strcpy(held[i], name);
			return (int)i;
		}
	violation("more than %u names are held", FILES);
}

void shm_let_go(int hold, const char *name)
{
	A(hold >= 0 && hold < (int)FILES && strcmp(held[hold], name) == 0);
	held[hold][0] = '\0';
}

void sim_shm_keep(void)
{
	for (unsigned i = 0; i < FILES; i++)
		if (file[i].mem != NULL && !file[i].kept && file[i].name[0] != '\0')
			memcpy(make(file[i].name, file[i].len, true)->mem, file[i].mem,
			       file[i].len);
}

void sim_shm_lose(void)
{
	refused = false;
	late = 0;
	for (unsigned i = 0; i < FILES; i++)
		if (file[i].mem != NULL) {
			A(file[i].mapped == 0);
			release(&file[i]);
		}
}

void sim_shm_restore(void)
{
	refused = false;
	for (unsigned i = 0; i < FILES; i++)
		if (file[i].mem != NULL && !file[i].kept) {
			A(file[i].mapped == 0);
			release(&file[i]);
		}
	for (unsigned i = 0; i < FILES; i++)
		file[i].kept = false;
}
