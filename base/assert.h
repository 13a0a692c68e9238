/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Assertions for our own bugs. They stay on in production: a cache that is unsure of itself must
 * stop, not serve. Bytes that come from a client, a disk or another process never reach these;
 * they get error paths.
 *
 *   A(x)           x holds
 *   AZ(x) AN(x)    x is zero / not zero
 *   MAGIC_OK(p, M) p is not NULL and p->magic is M
 */
#ifndef BASE_ASSERT_H
#define BASE_ASSERT_H

#include <stddef.h>

_Noreturn void assert_fail(const char *what, const char *file, int line, const char *func);

#define A(x)                                                                                       \
	do {                                                                                       \
		if (__builtin_expect(!(x), 0))                                                     \
			assert_fail(#x, __FILE__, __LINE__, __func__);                             \
	} while (0)
#define AZ(x)          A((x) == 0)
#define AN(x)          A((x) != 0)
#define MAGIC_OK(p, M) A((p) != NULL && (p)->magic == (M))

/* Costly checks, compiled in with -DDIAGNOSTIC (the sanitizer builds have it). */
#ifdef DIAGNOSTIC
#define DIAG(x) A(x)
#else
#define DIAG(x)                                                                                    \
	do {                                                                                       \
	} while (0)
#endif

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define likely(x)                       __builtin_expect(!!(x), 1)
#define unlikely(x)                     __builtin_expect(!!(x), 0)

#endif
