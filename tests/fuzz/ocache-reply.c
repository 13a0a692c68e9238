/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target for what a memcached server answers: of any bytes, whole, cut as the input says, and byte by
 * byte, the requests get the same answers, and none gets the bytes of another.
 *
 * Input: a byte with the number of requests (1 to 8), a byte for each with its kind and how far it has been written, a
 * byte for the cuts, then what the server says. Their keys end in 0, 1, 2 ...
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/xxh.h"
#include "ocache/mc_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define ASKED     8u
#define VALUE_MAX 100000u

struct answer {
	int rc, status;
	size_t len;
	uint64_t sum;
};

struct session {
	struct mc_asked asked[ASKED];
	char key[ASKED][SEG_ID_TEXT];
	unsigned n;
};

/* Answers, until there is none or the stream is broken. Returns false when it is. */
static bool take_all(const struct session *s, struct mc_reader *r, struct answer *a, unsigned *n)
{
	for (;;) {
		struct seg_buf *bytes;
		int status = 0;
		int rc = mc_reader_take(r, *n < s->n ? &s->asked[*n] : NULL, &status, &bytes);

		if (rc == 0)
			return true;
		A(rc == 1 || (rc == -EPROTO && bytes == NULL));
		a[*n] = (struct answer){.rc = rc};
		if (rc == 1) {
			enum mc_kind kind = s->asked[*n].kind;

			A(*n < s->n);
			A(status == 0 || status == -EIO || (status == -ENOENT && kind == MC_GET));
			A((bytes != NULL) == (kind == MC_GET && status == 0));
			a[*n].status = status;
		}
		if (bytes != NULL) {
			a[*n].len = seg_buf_len(bytes);
			A(a[*n].len <= VALUE_MAX);
			a[*n].sum = XXH3_64bits(seg_buf_data(bytes), a[*n].len);
			seg_buf_drop(bytes);
		}
		++*n;
		if (rc < 0)
			return false;
	}
}

/* The stream in pieces of at most `most` bytes; 0: as large as there is room. Returns the answers. */
static unsigned run(const struct session *s, const uint8_t *in, size_t n, size_t most,
		    struct answer a[ASKED + 1])
{
	struct mc_reader *r = malloc(sizeof *r);
	unsigned got = 0;
	bool whole = true;

	AN(r != NULL);
	mc_reader_init(r, VALUE_MAX);
	while (whole && n > 0) {
		struct iovec v[2];
		int pieces = mc_reader_room(r, v);
		size_t put = 0;

		A(pieces == 1 || pieces == 2);
		for (int i = 0; i < pieces; i++) {
			size_t part = n - put < v[i].iov_len ? n - put : v[i].iov_len;

			if (most != 0 && part > most - put)
				part = most - put;
			memcpy(v[i].iov_base, in + put, part);
			put += part;
		}
		AN(put); /* all answers were taken, so there is room */
		in += put;
		n -= put;
		mc_reader_put(r, put);
		whole = take_all(s, r, a, &got);
	}
	mc_reader_reset(r);
	free(r);
	return got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char key[] = "01234567-89ab-cdef-0123-456789abcdef";
	struct session s = {0};
	struct answer whole[ASKED + 1], cut[ASKED + 1];
	size_t most;
	unsigned got;

	_Static_assert(sizeof key == SEG_ID_TEXT, "a key is a UUID's text");
	if (n < 1 || n < 2 + (size_t)(data[0] % ASKED + 1))
		return 0;
	s.n = data[0] % ASKED + 1;
	for (unsigned i = 0; i < s.n; i++) {
		memcpy(s.key[i], key, sizeof key);
		s.key[i][SEG_ID_TEXT - 2] = (char)('0' + i);
		s.asked[i] = (struct mc_asked){.kind = (enum mc_kind)(data[1 + i] % 3),
					       .begun = data[1 + i] % 16 != 15,
					       .written = data[1 + i] % 16 < 14,
					       .key = s.key[i]};
	}
	most = data[1 + s.n];
	data += 2 + s.n;
	n -= 2 + s.n;
	memset(whole, 0, sizeof whole);
	got = run(&s, data, n, 0, whole);
	for (unsigned way = 0; way < 2; way++) {
		memset(cut, 0, sizeof cut);
		A(run(&s, data, n, way == 0 ? 1 : most + 1, cut) == got);
		AZ(memcmp(whole, cut, sizeof whole));
	}
	return 0;
}
