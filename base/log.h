/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines: to stderr, one event a line, "level: text" with systemd's <N> priority prefix when
 * stderr is the journal. Any thread; one write(2) a line, so lines never interleave.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR = 3, LOG_WARN = 4, LOG_NOTICE = 5, LOG_INFO = 6, LOG_DEBUG = 7 };

/* Lines above this level are dropped; LOG_INFO by default. Any thread, at any time. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)  log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)   log_line(LOG_WARN, __VA_ARGS__)
#define log_notice(...) log_line(LOG_NOTICE, __VA_ARGS__)
#define log_info(...)   log_line(LOG_INFO, __VA_ARGS__)

/*
 * A site that may be hit by every request: at most one line a second, with the number of lines
 * that were held back. Static storage, zeroed; shared by all threads.
 */
struct log_limit {
	_Atomic uint64_t last_ns;
	_Atomic uint64_t held;
};
void log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
