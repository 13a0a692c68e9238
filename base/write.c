/* SPDX-License-Identifier: Apache-2.0 */
/* Writing all; see write.h. */
#include <errno.h>
#include <unistd.h>

#include "base/write.h"

int write_all(int fd, const void *bytes, size_t len)
{
	const char *from = bytes;

	while (len > 0) {
		ssize_t n = write(fd, from, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		from += n;
		len -= (size_t)n;
	}
	return 0;
}
