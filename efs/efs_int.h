/* SPDX-License-Identifier: Apache-2.0 */
/* Private to efs. Files on one side, requests and threads on the other. */
#ifndef EFS_EFS_INT_H
#define EFS_EFS_INT_H

#include <stdbool.h>
#include <stdint.h>

#include <ocache/tier.h>

struct efs_dir {
	int fd;     /* of the folder */
	int tmp_fd; /* of its tmp/; -1: read only */
	bool no_sync;
	bool no_tmpfile;         /* the file system has no O_TMPFILE; or a test says so */
	_Atomic uint64_t serial; /* of names in tmp/ */
	/* a bit for each of the 4096 folders: its own name is on the disk, as a sync here has seen to */
	_Atomic uint64_t named[4096 / 64];
};

/* Each returns 0 or -errno and leaves nothing behind on failure. Any thread, several at a time. */
int efs__dir_open(const char *path, bool read_only, struct efs_dir *d);
void efs__dir_close(struct efs_dir *d);
/* -ENOENT: there is none; -EBADMSG: it is not whole, or of another id. */
int efs__file_read(struct efs_dir *d, struct seg_id id, struct seg_buf **bytes);
/* What is there already stays. */
int efs__file_write(struct efs_dir *d, struct seg_id id, const struct seg_buf *bytes);
int efs__file_drop(struct efs_dir *d, struct seg_id id);

/* The name of a segment's file, its folder before the slash. */
#define EFS_NAME 41
void efs__name(struct seg_id id, char name[EFS_NAME]);

/* For tests. */
struct efs_dir *efs__dir_of(struct tier *t);

#endif
