/* SPDX-License-Identifier: Apache-2.0 */
/* Strict sizes and durations; see size.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"

/* Reads the digits at *text and moves it behind them. */
static int digits(const char **text, uint64_t *out)
{
	const char *p = *text;
	uint64_t n = 0;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(n, 10u, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
			return -ERANGE;
	}
	*text = p;
	*out = n;
	return 0;
}

static unsigned size_shift(char unit)
{
	switch (unit) {
	case 'k':
	case 'K':
		return 10;
	case 'm':
	case 'M':
		return 20;
	case 'g':
	case 'G':
		return 30;
	case 't':
	case 'T':
		return 40;
	default:
		return 0;
	}
}

int size_parse_number(const char *text, uint64_t *n)
{
	uint64_t v;
	int ret = digits(&text, &v);

	if (ret != 0)
		return ret;
	if (*text != '\0')
		return -EINVAL;
	*n = v;
	return 0;
}

int size_parse(const char *text, uint64_t *bytes)
{
	uint64_t n;
	unsigned shift = 0;
	int ret = digits(&text, &n);

	if (ret != 0)
		return ret;
	if (*text != '\0') {
		shift = size_shift(*text);
		if (shift == 0 || text[1] != '\0')
			return -EINVAL;
	}
	if (n > UINT64_MAX >> shift)
		return -ERANGE;
	*bytes = n << shift;
	return 0;
}

int size_parse_duration(const char *text, uint64_t *ns)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} unit[] = {
	    {"us", 1000u},
	    {"ms", 1000000u},
	    {"s", 1000000000u},
	    {"m", 60u * 1000000000ull},
	    {"h", 3600u * 1000000000ull},
	};
	uint64_t n;
	int ret = digits(&text, &n);

	if (ret != 0)
		return ret;
	if (*text == '\0' && n == 0) {
		*ns = 0;
		return 0;
	}
	for (size_t i = 0; i < sizeof unit / sizeof unit[0]; i++) {
		if (strcmp(text, unit[i].name) != 0)
			continue;
		if (__builtin_mul_overflow(n, unit[i].ns, &n))
			return -ERANGE;
		*ns = n;
		return 0;
	}
	return -EINVAL;
}

char *size_format(char *buf, size_t len, uint64_t bytes)
{
	static const char unit[] = {'k', 'm', 'g', 't'};
	unsigned u = 0;

	while (u < sizeof unit && bytes != 0 && bytes % 1024 == 0) {
		bytes /= 1024;
		u++;
	}
	snprintf(buf, len, u == 0 ? "%llu" : "%llu%c", (unsigned long long)bytes,
		 u == 0 ? 0 : unit[u - 1]);
	return buf;
}

char *size_human(char *buf, size_t len, double bytes)
{
	static const char *const unit[] = {"", "k", "m", "g", "t", "p"};
	unsigned u = 0;

	while (u + 1 < sizeof unit / sizeof unit[0] && (bytes >= 999.5 || bytes <= -999.5)) {
		bytes /= 1024;
		u++;
	}
	if (u == 0)
		snprintf(buf, len, "%.0f", bytes);
	else
		snprintf(buf, len, "%.*f%s",
			 bytes < 9.995   ? 2
			 : bytes < 99.95 ? 1
					 : 0,
			 bytes, unit[u]);
	return buf;
}
