/* SPDX-License-Identifier: Apache-2.0 */
/* Private to valcached/io: kernel constants that are newer than liburing 2.3's headers. */
#ifndef VALCACHED_IO_URING_COMPAT_H
#define VALCACHED_IO_URING_COMPAT_H

#include <liburing.h>
#include <sys/ioctl.h>

#ifndef IORING_ENTER_NO_IOWAIT /* 6.15: a waiting loop is idle, not waiting for a disk */
#define IORING_ENTER_NO_IOWAIT (1U << 7)
#endif
#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1U << 17)
#endif
#ifndef BLOCK_URING_CMD_DISCARD /* 6.12 */
#define BLOCK_URING_CMD_DISCARD _IO(0x12, 0)
#endif

#endif
