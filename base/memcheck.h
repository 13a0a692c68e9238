/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memcheck.h: whether valgrind runs us, and what it cannot know of a ring, told to it.
 *
 * It does not see what the kernel writes into memory for a request, and it keeps its one lock while
 * a thread sleeps in io_uring_enter(2), so that all other threads would stand. Built without its
 * headers, or run without it, nothing of this happens.
 */
#ifndef BASE_MEMCHECK_H
#define BASE_MEMCHECK_H

#include <stdbool.h>
#include <stddef.h>

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>

static inline bool memcheck_runs(void)
{
	return RUNNING_ON_VALGRIND != 0;
}

/* The kernel has filled these bytes. */
static inline void memcheck_filled(const void *p, size_t n)
{
	(void)VALGRIND_MAKE_MEM_DEFINED_IF_ADDRESSABLE(p, n);
}

/* For tests: these bytes are a secret; a branch that hangs on one is an error. How many there were. */
static inline void memcheck_unknown(const void *p, size_t n)
{
	(void)VALGRIND_MAKE_MEM_UNDEFINED(p, n);
}
static inline unsigned long memcheck_errors(void)
{
	return VALGRIND_COUNT_ERRORS;
}
#else
static inline bool memcheck_runs(void)
{
	return false;
}

static inline void memcheck_filled(const void *p, size_t n)
{
	(void)p;
	(void)n;
}
static inline void memcheck_unknown(const void *p, size_t n)
{
	(void)p;
	(void)n;
}
static inline unsigned long memcheck_errors(void)
{
	return 0;
}
#endif

#endif
