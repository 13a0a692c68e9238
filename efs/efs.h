/* SPDX-License-Identifier: Apache-2.0 */
/*
 * efs: a tier of libocache (ocache/tier.h) that keeps segments as files, on a local or a shared
 * file system. One file a segment, which is there whole or not at all, and verified when it is
 * read. Usable from C++.
 *
 *     DIR/3f8/6243cb8a-2b3c-4031-a4cd-8c7df49e33f8   an envelope; the folder is the id's end
 *     DIR/tmp/                                       what is being written, without O_TMPFILE or over a damaged file
 *
 * Several processes, on several hosts, may use one folder at a time: a file that is there is never
 * written again, so whoever comes second has nothing to do. What is in a file is believed only if
 * the envelope is whole and of that id; else the read is -EBADMSG, and the chain drops the file and
 * repairs it. A write that finds such a file replaces it.
 */
#ifndef EFS_EFS_H
#define EFS_EFS_H

#include <stdbool.h>
#include <stddef.h>

#include <ocache/tier.h>

#ifdef __cplusplus
extern "C" {
#endif

struct efs_config {
	size_t struct_size; /* sizeof(struct efs_config): later versions add fields at the end */
	const char *path;   /* an existing folder */
	const char *key;    /* in io-stats; NULL: "efs" */
	unsigned threads;   /* that read and write; at most 256; 0: 16 */
	bool read_only;     /* nothing is written or dropped */
	bool record;        /* it is the storage of record (TIER_RECORD) */
	bool no_sync;       /* a write is answered before it is on disk: a power cut may lose it */
};

/*
 * 0 and *tier, for ocache_open(). -errno with a sentence in *cause, malloc'd, or NULL without
 * memory: the folder cannot be used, a bad key; -ENOMEM. Nothing is left on failure. cause may be
 * NULL.
 */
int efs_open(const struct efs_config *config, struct tier **tier, char **cause);

#ifdef __cplusplus
}
#endif

#endif
