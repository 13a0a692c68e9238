/* SPDX-License-Identifier: Apache-2.0 */
/* Traces from files; see trace.h. Made ones are in trace_make.c. */
#include "bench/sim/trace.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/sim/sim.h"

/* Names of the file to dense numbers: open addressing, doubled at half full. */
struct names {
	uint64_t *name;
	uint32_t *number; /* + 1; 0: free */
	uint64_t mask, used;
};

static int names_init(struct names *m, uint64_t slots)
{
	m->name = malloc(slots * sizeof(*m->name));
	m->number = calloc(slots, sizeof(*m->number));
	m->mask = slots - 1;
	m->used = 0;
	return m->name != NULL && m->number != NULL ? 0 : -ENOMEM;
}

static void names_free(struct names *m)
{
	free(m->name);
	free(m->number);
}

static uint64_t names_slot(const struct names *m, uint64_t name)
{
	uint64_t i = mix64(name) & m->mask;

	while (m->number[i] != 0 && m->name[i] != name)
		i = (i + 1) & m->mask;
	return i;
}

static int names_grow(struct names *m)
{
	struct names bigger;

	if (names_init(&bigger, (m->mask + 1) * 2) != 0) {
		names_free(&bigger);
		return -ENOMEM;
	}
	for (uint64_t i = 0; i <= m->mask; i++) {
		if (m->number[i] != 0) {
			uint64_t j = names_slot(&bigger, m->name[i]);

			bigger.name[j] = m->name[i];
			bigger.number[j] = m->number[i];
		}
	}
	bigger.used = m->used;
	names_free(m);
	*m = bigger;
	return 0;
}

static int grow(void *array, uint64_t *cap, uint64_t used, size_t one)
{
	void **p = array, *bigger;

	if (used < *cap)
		return 0;
	bigger = realloc(*p, (*cap == 0 ? 4096 : *cap * 2) * one);
	if (bigger == NULL)
		return -ENOMEM;
	*p = bigger;
	*cap = *cap == 0 ? 4096 : *cap * 2;
	return 0;
}

/* gzip itself reads .gz: no shell, so that any file name is only a file name. */
static FILE *open_text(const char *path, pid_t *child)
{
	size_t len = strlen(path);
	int fds[2];

	*child = 0;
	if (len < 3 || strcmp(path + len - 3, ".gz") != 0)
		return fopen(path, "re");
	if (access(path, R_OK) != 0 || pipe(fds) != 0)
		return NULL;
	*child = fork();
	if (*child == 0) {
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		execlp("gzip", "gzip", "-dc", "--", path, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	if (*child < 0) {
		close(fds[0]);
		return NULL;
	}
	return fdopen(fds[0], "re");
}

static int parse_line(const char *s, uint64_t *name, uint64_t *bytes)
{
	char *end;

	errno = 0;
	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	*name = strtoull(s, &end, 10);
	if (errno != 0 || *end != ',' || !isdigit((unsigned char)end[1]))
		return -EINVAL;
	*bytes = strtoull(end + 1, &end, 10);
	if (errno != 0 || (*end != '\n' && *end != '\r' && *end != '\0'))
		return -EINVAL;
	return 0;
}

int trace_load(struct trace *t, const char *path, uint64_t limit, char **cause)
{
	struct names names = {0};
	uint64_t key_cap = 0, size_cap = 0, line_no = 0, name, bytes;
	char *line = NULL;
	const char *base = strrchr(path, '/');
	size_t line_cap = 0;
	pid_t child = 0;
	FILE *f;
	int r = 0, status = 0;

	memset(t, 0, sizeof(*t));
	snprintf(t->name, sizeof(t->name), "%s", base != NULL ? base + 1 : path);
	f = open_text(path, &child);
	if (f == NULL) {
		r = errno != 0 ? -errno : -EIO;
		*cause = text("the trace %s cannot be read: %s", path, strerror(-r));
		return r;
	}
	r = names_init(&names, 1 << 16);
	while (r == 0 && (limit == 0 || t->n < limit) && getline(&line, &line_cap, f) > 0) {
		uint64_t i;

		line_no++;
		if (parse_line(line, &name, &bytes) != 0 || bytes > UINT32_MAX) {
			if (line_no == 1)
				continue; /* column names */
			*cause = text("line %lu of %s is not \"key,bytes\"", line_no, path);
			r = -EINVAL;
			break;
		}
		i = names_slot(&names, name);
		if (names.number[i] == 0) {
			if ((r = grow(&t->size, &size_cap, t->nkeys, sizeof(*t->size))) != 0)
				break;
			t->size[t->nkeys] = (uint32_t)bytes;
			t->distinct_bytes += bytes;
			names.name[i] = name;
			names.number[i] = ++t->nkeys;
			if (++names.used * 2 > names.mask) {
				if ((r = names_grow(&names)) != 0)
					break;
				i = names_slot(&names, name);
			}
		}
		if ((r = grow(&t->key, &key_cap, t->n, sizeof(*t->key))) != 0)
			break;
		t->key[t->n++] = names.number[i] - 1;
		t->requested_bytes += t->size[names.number[i] - 1];
	}
	free(line);
	fclose(f);
	names_free(&names);
	if (child > 0) {
		waitpid(child, &status, 0);
		/* with a limit gzip may die of the closed pipe */
		if (r == 0 && limit == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
			*cause = text("gzip could not unpack %s", path);
			r = -EIO;
		}
	}
	if (r == 0 && t->n == 0) {
		*cause = text("%s holds no requests", path);
		r = -EINVAL;
	}
	if (r == -ENOMEM)
		*cause = text("no memory for the trace %s", path);
	if (r != 0)
		trace_free(t);
	return r;
}

void trace_free(struct trace *t)
{
	free(t->key);
	free(t->size);
	memset(t, 0, sizeof(*t));
}

uint64_t *trace_next_uses(const struct trace *t)
{
	uint64_t *next = malloc(t->n * sizeof(*next));
	uint64_t *last = malloc((uint64_t)t->nkeys * sizeof(*last));

	if (next == NULL || last == NULL) {
		free(next);
		free(last);
		return NULL;
	}
	memset(last, 0xff, (uint64_t)t->nkeys * sizeof(*last));
	for (uint64_t i = t->n; i-- > 0;) {
		next[i] = last[t->key[i]];
		last[t->key[i]] = i;
	}
	free(last);
	return next;
}

char *text(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	return s;
}

void json_name(FILE *f, const char *name)
{
	for (const char *c = name; *c != '\0'; c++)
		fputc(*c == '"' || *c == '\\' || (unsigned char)*c < ' ' ? '_' : *c, f);
}
