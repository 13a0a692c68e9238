/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. What a memcached server answers to get, set and delete: lines, and from them the
 * answer to one request after the other. No I/O: bytes are put in, answers are taken out. One thread.
 */
#ifndef OCACHE_MC_REPLY_H
#define OCACHE_MC_REPLY_H

#include <stdbool.h>
#include <sys/uio.h>

#include "ocache/tier.h"

#define MC_LINE_MAX 1024u /* with its end; errors have a sentence */

enum mc_what {
	MC_MORE,  /* the line is not whole yet */
	MC_VALUE, /* its bytes follow, and a line end */
	MC_END,
	MC_STORED,
	MC_KEPT, /* NOT_STORED, EXISTS: the key has a value */
	MC_DELETED,
	MC_NOT_FOUND,
	MC_SERVER_ERROR, /* this request failed, the stream is in step */
	MC_BROKEN,       /* anything else: nothing that follows can be believed */
};

struct mc_line {
	enum mc_what what;
	size_t used;     /* bytes of the line with its end; 0 with MC_MORE */
	const char *key; /* MC_VALUE: in the line */
	size_t key_len;
	uint64_t bytes; /* MC_VALUE */
};

/* The line that begins at in; n bytes are there. */
struct mc_line mc_line(const char *in, size_t n);

/* ---- answers ------------------------------------------------------------------------ */

enum mc_kind { MC_GET, MC_SET, MC_DELETE };

/* The request that is answered next. */
struct mc_asked {
	enum mc_kind kind;
	bool begun, written; /* some of it, all of it is with the server */
	const char *key;     /* SEG_ID_TEXT - 1 characters */
};

#define MC_IN_BYTES (64u << 10)

struct mc_reader {
	uint64_t value_max;   /* a value that is announced longer is not believed */
	struct seg_buf *body; /* of the answer that has come in part */
	size_t body_at;       /* of its bytes and line end, those that are there */
	bool in_body;
	size_t at, n; /* in `in`: what is looked at next, and the end */
	char in[MC_IN_BYTES];
};

void mc_reader_init(struct mc_reader *r, uint64_t value_max);
/* Forgets what it has; for a new stream, or for good. */
void mc_reader_reset(struct mc_reader *r);
/* Where the next bytes go: 1 or 2 pieces, the first of a value in its place. All answers are taken. */
int mc_reader_room(struct mc_reader *r, struct iovec v[2]);
/* n bytes have come there. */
void mc_reader_put(struct mc_reader *r, size_t n);
/*
 * The answer to `asked` (NULL: nobody asks). 1: *status is 0 (with *bytes for a get), -ENOENT or -EIO, as of a
 * tier; a set may be refused before it is written, and the rest of it is still expected. 0: more bytes are
 * needed. -EPROTO: this is no answer to that, and nothing that follows can be believed. -ENOMEM.
 */
int mc_reader_take(struct mc_reader *r, const struct mc_asked *asked, int *status,
		   struct seg_buf **bytes);

#endif
