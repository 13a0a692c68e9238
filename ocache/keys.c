/* SPDX-License-Identifier: Apache-2.0 */
/* Files of ids; see keys.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/write.h"
#include "base/xxh.h"
#include "ocache/keys.h"

#define MAGIC 0x313059454b434fffull /* "\xffOCKEY01" */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file is little-endian");

static uint64_t sum_of(struct keys_block *b)
{
	uint64_t was = b->sum, sum;

	b->sum = 0;
	sum = XXH3_64bits(b, sizeof *b);
	b->sum = was;
	return sum;
}

static int write_blocks(int fd, const struct seg_id *id, uint64_t n)
{
	struct keys_block b;
	int err = 0;

	for (uint32_t number = 0; n > 0 && err == 0; number++) {
		uint32_t count = n < KEYS_IDS ? (uint32_t)n : KEYS_IDS;

		memset(&b, 0, sizeof b);
		b.magic = MAGIC;
		b.number = number;
		b.count = count;
		memcpy(b.id, id, count * sizeof *id);
		b.sum = sum_of(&b);
		err = write_all(fd, &b, sizeof b);
		id += count;
		n -= count;
	}
	return err;
}

int keys_write(const char *path, const struct seg_id *id, uint64_t n)
{
	char tmp[PATH_MAX];
	int fd, err;

	if (snprintf(tmp, sizeof tmp, "%s.new", path) >= (int)sizeof tmp)
		return -ENAMETOOLONG;
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	err = write_blocks(fd, id, n);
	if (err == 0 && fdatasync(fd) != 0)
		err = -errno;
	if (close(fd) != 0 && err == 0)
		err = -errno;
	if (err == 0 && rename(tmp, path) != 0)
		err = -errno;
	if (err != 0)
		(void)unlink(tmp);
	return err;
}

int keys_read(int fd, uint32_t number, struct keys_block *b)
{
	size_t at = 0;

	while (at < sizeof *b) {
		ssize_t did = pread(fd, (char *)b + at, sizeof *b - at,
				    (off_t)number * (off_t)sizeof *b + (off_t)at);

		if (did < 0 && errno != EINTR)
			return -errno;
		if (did == 0 && at == 0)
			return 0;
		if (did == 0) { /* a part of a block */
			b->count = 0;
			return 1;
		}
		at += did > 0 ? (size_t)did : 0;
	}
	if (b->magic != MAGIC || b->number != number || b->count > KEYS_IDS || b->sum != sum_of(b))
		b->count = 0;
	return 1;
}
