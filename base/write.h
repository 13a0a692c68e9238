/* SPDX-License-Identifier: Apache-2.0 */
/* write(2) of all, for descriptors that block. */
#ifndef BASE_WRITE_H
#define BASE_WRITE_H

#include <stddef.h>

/* Every byte, however many calls it takes. 0 or -errno: some may have been written. */
int write_all(int fd, const void *bytes, size_t len);

#endif
