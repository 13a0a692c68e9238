/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to ocache. What a memcached server answers to get, set and delete, a line at a time. Pure
 * functions.
 */
#ifndef OCACHE_MC_REPLY_H
#define OCACHE_MC_REPLY_H

#include <stddef.h>
#include <stdint.h>

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

#endif
