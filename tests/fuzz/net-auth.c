/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target for the file of users and passwords. Any bytes: either good, and then there are users of which each is
 * somewhere in the file as USER:PASSWORD, or bad with a reason and a line that exists; nothing is read beyond the bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "valcached/net/auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct auth_users u;
	char *bytes = malloc(n);
	unsigned line = 0, lines = 1;
	const char *wrong;

	A(bytes != NULL || n == 0);
	if (n > 0)
		memcpy(bytes, data, n);
	for (size_t i = 0; i < n; i++)
		lines += data[i] == '\n';
	memset(&u, 0xee, sizeof(u));
	wrong = auth_parse(bytes, n, &u, &line);
	A(line <= lines);
	A(u.n <= AUTH_USERS_MAX);
	if (wrong != NULL) {
		A(strlen(wrong) > 0);
		free(bytes);
		return 0;
	}
	A(u.n >= 1 && line == 0);
	for (unsigned i = 0; i < u.n; i++) {
		const struct auth_user *a = &u.user[i];
		char both[2 * AUTH_NAME_MAX + 1];

		A(a->name_len >= 1 && a->name_len <= AUTH_NAME_MAX);
		A(a->pass_len >= 1 && a->pass_len <= AUTH_NAME_MAX);
		A(strlen(a->name) == a->name_len && strlen(a->pass) == a->pass_len);
		memcpy(both, a->name, a->name_len);
		both[a->name_len] = ':';
		memcpy(both + a->name_len + 1, a->pass, a->pass_len);
		AN(memmem(bytes, n, both, a->name_len + 1 + a->pass_len));
	}
	free(bytes);
	return 0;
}
