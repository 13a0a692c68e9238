/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may come in: users and passwords, from a file of lines USER:PASSWORD.
 *
 * The file is memcached's (-Y): one line a user, what follows the first colon is the password. A user may have
 * several lines; each of its passwords is right, so that one can be replaced without a gap. Empty lines are
 * skipped; everything else that is no such line makes the whole file bad, and a bad file is never used.
 *
 * A file named "credential:NAME" is NAME in $CREDENTIALS_DIRECTORY, where systemd puts credentials.
 *
 * Threads: auth_check() and auth_load() may be called from any thread at any time.
 */
#ifndef VALCACHED_NET_AUTH_H
#define VALCACHED_NET_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUTH_USERS_MAX 64u
#define AUTH_NAME_MAX  250u /* bytes of a user's name, of a password */
#define AUTH_FILE_MAX  (64u * 1024)

/* One line: zeros behind name and password, so that they can be compared in constant time. */
struct auth_user {
	uint32_t name_len, pass_len;
	char name[AUTH_NAME_MAX + 2], pass[AUTH_NAME_MAX + 2];
};

struct auth_users {
	unsigned n; /* at least 1 */
	struct auth_user user[AUTH_USERS_MAX];
};

/*
 * The lines of a file. NULL: good; else what is wrong with it, static memory, and *line which it is (0: the
 * whole).
 */
const char *auth_parse(const char *bytes, size_t n, struct auth_users *out, unsigned *line);

struct auth;
/* -errno; *cause then is a sentence for the operator, without any password in it (malloc'd). */
int auth_open(const char *file, struct auth **auth, char **cause);
/* Reads the file again. If it is bad those of before stay, and *cause is why. */
int auth_load(struct auth *auth, char **cause);
/*
 * How long it takes depends on the number of lines alone. Lengths may be anything; none above AUTH_NAME_MAX is
 * ever right.
 */
bool auth_check(struct auth *auth, const char *name, size_t name_len, const char *pass,
		size_t pass_len);
unsigned auth_users(struct auth *auth);
void auth_close(struct auth **auth);

#endif
