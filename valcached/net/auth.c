/* SPDX-License-Identifier: Apache-2.0 */
/* Users and passwords; see auth.h. Any thread: the table is read and replaced under its lock. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/log.h"
#include "valcached/net/auth.h"

#define CREDENTIAL "credential:"

struct auth {
	pthread_mutex_t lock; /* users */
	struct auth_users *users;
	char *file; /* where it is; for "credential:NAME" resolved */
};

/* ---- the file's text -------------------------------------------------------------------------- */

static const char *parse_line(const char *s, size_t n, struct auth_user *u)
{
	const char *colon = memchr(s, ':', n);
	size_t name, pass;

	if (memchr(s, '\0', n) != NULL)
		return "it has a zero byte";
	if (colon == NULL)
		return "there is no colon between user and password";
	name = (size_t)(colon - s);
	pass = n - name - 1;
	if (name == 0)
		return "there is no user before the colon";
	if (pass == 0)
		return "there is no password behind the colon";
	if (memchr(s, ' ', name) != NULL)
		return "the user has a space in it";
	if (name > AUTH_NAME_MAX || pass > AUTH_NAME_MAX)
		return "user and password may have 250 bytes each";
	memset(u, 0, sizeof(*u));
	u->name_len = (uint32_t)name;
	u->pass_len = (uint32_t)pass;
	memcpy(u->name, s, name);
	memcpy(u->pass, colon + 1, pass);
	return NULL;
}

const char *auth_parse(const char *bytes, size_t n, struct auth_users *out, unsigned *line)
{
	const char *s = bytes, *end = bytes + n;

	out->n = 0;
	*line = 0;
	if (n > AUTH_FILE_MAX)
		return "it is longer than 64 KiB";
	while (s < end) {
		const char *nl = memchr(s, '\n', (size_t)(end - s)), *eol = nl != NULL ? nl : end;
		const char *wrong;

		++*line;
		if (eol > s && eol[-1] == '\r')
			eol--;
		if (eol > s) {
			if (out->n == AUTH_USERS_MAX)
				return "it is one user more than the 64 that are possible";
			wrong = parse_line(s, (size_t)(eol - s), &out->user[out->n]);
			if (wrong != NULL)
				return wrong;
			out->n++;
		}
		s = nl != NULL ? nl + 1 : end;
	}
	*line = 0;
	return out->n > 0 ? NULL : "there is no user in it";
}

/* ---- the file --------------------------------------------------------------------------------- */

static int say(char **cause, int rc, const char *file, const char *why)
{
	if (asprintf(cause, "the users and passwords in %s cannot be read: %s", file, why) < 0)
		*cause = NULL;
	return rc;
}

/* Reads all of it, at most AUTH_FILE_MAX + 1 bytes; how many, or -errno. */
static ssize_t read_all(int fd, char *to)
{
	size_t n = 0;

	while (n < AUTH_FILE_MAX + 1) {
		ssize_t got = read(fd, to + n, AUTH_FILE_MAX + 1 - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		n += (size_t)got;
	}
	return (ssize_t)n;
}

/* The table of memory that held passwords goes back empty. */
static void forget(void *memory, size_t n)
{
	if (memory != NULL)
		explicit_bzero(memory, n);
	free(memory);
}

static int parse_into(const char *file, const char *bytes, size_t n, struct auth_users *users,
		      char **cause)
{
	unsigned line;
	const char *wrong = auth_parse(bytes, n, users, &line);
	char why[128];

	if (wrong == NULL)
		return 0;
	if (line == 0)
		return say(cause, -EINVAL, file, wrong);
	snprintf(why, sizeof(why), "line %u: %s", line, wrong);
	return say(cause, -EINVAL, file, why);
}

static int read_users(const char *file, struct auth_users *users, char **cause)
{
	/* not to be kept waiting by a pipe */
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;
	char *bytes = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return say(cause, -errno, file, strerror(errno));
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		rc = say(cause, -EINVAL, file, "it is no regular file");
		goto out;
	}
	bytes = malloc(AUTH_FILE_MAX + 1);
	if (bytes == NULL) {
		rc = -ENOMEM;
		goto out;
	}
	n = read_all(fd, bytes);
	if (n < 0) {
		rc = say(cause, (int)n, file, strerror((int)-n));
		goto out;
	}
	rc = parse_into(file, bytes, (size_t)n, users, cause);
	if (rc == 0 && (st.st_mode & S_IROTH))
		log_warn("every user of this machine can read the passwords in %s: chmod o-r",
			 file);
out:
	forget(bytes, AUTH_FILE_MAX + 1);
	close(fd);
	return rc;
}

/* ---- the table -------------------------------------------------------------------------------- */

static int locate(const char *file, char **path, char **cause)
{
	size_t n = sizeof(CREDENTIAL) - 1;
	const char *dir;

	if (strncmp(file, CREDENTIAL, n) != 0) {
		*path = strdup(file);
		return *path != NULL ? 0 : -ENOMEM;
	}
	dir = getenv("CREDENTIALS_DIRECTORY");
	if (dir == NULL)
		return say(cause, -ENOENT, file,
			   "systemd has passed no credentials; LoadCredential= in the unit does");
	if (file[n] == '\0' || strchr(file + n, '/') != NULL)
		return say(cause, -EINVAL, file, "that is no name of a credential");
	if (asprintf(path, "%s/%s", dir, file + n) < 0)
		return -ENOMEM;
	return 0;
}

int auth_open(const char *file, struct auth **authp, char **cause)
{
	struct auth *a = calloc(1, sizeof *a);
	int rc;

	*cause = NULL;
	if (a == NULL)
		return -ENOMEM;
	pthread_mutex_init(&a->lock, NULL);
	rc = locate(file, &a->file, cause);
	if (rc == 0)
		rc = auth_load(a, cause);
	if (rc != 0) {
		auth_close(&a);
		return rc;
	}
	*authp = a;
	return 0;
}

int auth_load(struct auth *a, char **cause)
{
	struct auth_users *users = calloc(1, sizeof *users), *old = users;
	int rc = users != NULL ? read_users(a->file, users, cause) : -ENOMEM;

	if (rc == 0) {
		pthread_mutex_lock(&a->lock);
		old = a->users;
		a->users = users;
		pthread_mutex_unlock(&a->lock);
	}
	forget(old, sizeof *old);
	return rc;
}

/* All n bytes are looked at, whatever they are. */
static uint32_t differ(const char *a, const char *b, size_t n)
{
	uint32_t d = 0;

	for (size_t i = 0; i < n; i++)
		d |= (uint32_t)(uint8_t)a[i] ^ (uint8_t)b[i];
	return d;
}

static uint32_t fill(char *to, const char *from, size_t n)
{
	size_t take = n <= AUTH_NAME_MAX ? n : AUTH_NAME_MAX;

	if (take > 0)
		memcpy(to, from, take);
	return (uint32_t)(n <= AUTH_NAME_MAX ? n : AUTH_NAME_MAX + 1);
}

bool auth_check(struct auth *a, const char *name, size_t name_len, const char *pass,
		size_t pass_len)
{
	struct auth_user asked = {0};
	uint32_t right = 0;

	asked.name_len = fill(asked.name, name, name_len);
	asked.pass_len = fill(asked.pass, pass, pass_len);
	pthread_mutex_lock(&a->lock);
	for (unsigned i = 0; i < a->users->n; i++) {
		const struct auth_user *u = &a->users->user[i];
		uint32_t d = (u->name_len ^ asked.name_len) | (u->pass_len ^ asked.pass_len) |
			     differ(u->name, asked.name, sizeof(u->name)) |
			     differ(u->pass, asked.pass, sizeof(u->pass));

		right |= (uint32_t)(((uint64_t)d - 1) >> 63); /* 1 if d is 0 */
	}
	pthread_mutex_unlock(&a->lock);
	explicit_bzero(&asked, sizeof(asked));
	return right != 0;
}

unsigned auth_users(struct auth *a)
{
	unsigned n;

	pthread_mutex_lock(&a->lock);
	n = a->users->n;
	pthread_mutex_unlock(&a->lock);
	return n;
}

void auth_close(struct auth **authp)
{
	struct auth *a = *authp;

	if (a == NULL)
		return;
	*authp = NULL;
	forget(a->users, sizeof *a->users);
	pthread_mutex_destroy(&a->lock);
	free(a->file);
	free(a);
}
