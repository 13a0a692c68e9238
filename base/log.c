/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines to stderr; see log.h. Any thread. */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/write.h"

/* relaxed: a line more or less around a change is nobody's loss */
static _Atomic enum log_level log_max = LOG_INFO;

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&log_max, level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
	return level <= atomic_load_explicit(&log_max, memory_order_relaxed);
}

static const char *level_name(enum log_level level)
{
	switch (level) {
	case LOG_ERROR:
		return "error: ";
	case LOG_WARN:
		return "warning: ";
	case LOG_NOTICE:
	case LOG_INFO:
		return "";
	case LOG_DEBUG:
		return "debug: ";
	}
	return "";
}

static void vline(enum log_level level, uint64_t held, const char *fmt, va_list ap)
{
	char line[1024];
	size_t used = 0;
	int n;

	/* systemd sets JOURNAL_STREAM when stderr is the journal, which reads <N> as priority. */
	if (getenv("JOURNAL_STREAM") != NULL)
		used = (size_t)snprintf(line, sizeof line, "<%d>", (int)level);
	used += (size_t)snprintf(line + used, sizeof line - used, "%s", level_name(level));
	n = vsnprintf(line + used, sizeof line - used - 48, fmt, ap);
	if (n > 0) {
		size_t room = sizeof line - used - 49;

		used += (size_t)n < room ? (size_t)n : room;
	}
	if (held > 0)
		used += (size_t)snprintf(line + used, 40, " (%llu more held back)",
					 (unsigned long long)held);
	/* what somebody gave us is in it: one event stays one line */
	for (size_t i = 0; i < used; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[used++] = '\n';
	/* if stderr is gone, there is nobody left to tell */
	(void)write_all(STDERR_FILENO, line, used);
}

void log_line(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	vline(level, 0, fmt, ap);
	va_end(ap);
}

void log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
{
	uint64_t now = clock_ns();
	uint64_t last = atomic_load_explicit(&limit->last_ns, memory_order_relaxed);
	va_list ap;

	if (!log_enabled(level))
		return;
	if ((last != 0 && now - last < 1000000000u) ||
	    !atomic_compare_exchange_strong(&limit->last_ns, &last, now)) {
		atomic_fetch_add_explicit(&limit->held, 1, memory_order_relaxed);
		return;
	}
	va_start(ap, fmt);
	vline(level, atomic_exchange(&limit->held, 0), fmt, ap);
	va_end(ap);
}
