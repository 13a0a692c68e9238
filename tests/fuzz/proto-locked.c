/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target for a connection whose client has to say who it is. The first byte tells how it may: 1 text, 2 SASL.
 * Whatever the bytes: nothing but logins and what needs no right comes out of the parser until user and password are
 * right; the outcome does not depend on how the bytes were cut; what is kept is bounded.
 */
#include "tests/unit/proto_harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Items of the transcript up to the first login that is known. */
static void only_for_strangers(const char *t)
{
	static const char *const may[] = {"version;",    "noop;", "mn;",    "quit;",
					  "sasl mechs;", "R:",    "login ", "HANGUP;"};

	while (*t != '\0') {
		const char *end = strchr(t, ';');
		unsigned i = 0;

		AN(end);
		if (*t == '#')
			t = strchr(t, ' ') + 1;
		while (i < sizeof(may) / sizeof(*may) && strncmp(t, may[i], strlen(may[i])) != 0)
			i++;
		if (i == sizeof(may) / sizeof(*may)) {
			fprintf(stderr, "a stranger's: %.100s\n", t);
			abort();
		}
		if (strncmp(t, "login user (pass) known;", 24) == 0)
			return;
		/* user and password may hold anything, also a ';' */
		if (strncmp(t, "login ", 6) == 0) {
			end = strstr(t, ") nobody;");
			AN(end);
			end += 8;
		}
		t = end + 1;
	}
}

static void feed(struct harness *h, unsigned how, const char *s, size_t n, size_t step)
{
	h_open(h);
	proto_lock(&h->p, how & 1, (how & 2) != 0);
	for (size_t at = 0, k; at < n; at += k) {
		k = n - at < step ? n - at : step;
		h_feed(h, s + at, k);
		A(h->leftover_max <= PROTO_LINE_MAX);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct harness whole, cut;
	const char *s;

	/* of a password that holds the words behind it the transcript does not say where it ends */
	if (n < 2 || (data[0] & 3) == 0 || memmem(data, n, ") nobody;", 9) != NULL)
		return 0;
	s = (const char *)data + 1;
	n--;
	feed(&whole, data[0], s, n, n);
	only_for_strangers(whole.out);
	for (size_t step = 1; step < 12; step += 10) {
		feed(&cut, data[0], s, n, step);
		if (n <= PROTO_LINE_MAX)
			A(strcmp(whole.out, cut.out) == 0);
		h_close(&cut);
	}
	h_close(&whole);
	return 0;
}
