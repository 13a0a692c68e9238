/* SPDX-License-Identifier: Apache-2.0 */
/* The table of settings as text: --help, man page, example file, values in effect. One thread. */
#include <inttypes.h>
#include <string.h>

#include "base/size.h"
#include "valcached/options_int.h"

#define HELP_INDENT 30
#define HELP_WIDTH  96
#define MAN_WIDTH   78

/* Words of text, broken at width columns, each further line begun with prefix. */
static void print_wrapped(FILE *to, const char *text, int column, int width, const char *prefix)
{
	int used = column;

	while (*text != '\0') {
		int len = (int)strcspn(text, " ");

		if (used > column && used + 1 + len > width) {
			fprintf(to, "\n%s", prefix);
			used = column;
		}
		if (used > column) {
			putc(' ', to);
			used++;
		}
		fprintf(to, "%.*s", len, text);
		used += len;
		text += len;
		text += strspn(text, " ");
	}
	putc('\n', to);
}

static bool shown(const struct option_def *d)
{
	return d->kind != OPTION_REFUSED;
}

void options_print_help(FILE *to)
{
	char prefix[HELP_INDENT + 1];

	memset(prefix, ' ', HELP_INDENT);
	prefix[HELP_INDENT] = '\0';
	fprintf(to, "Usage: valcached [FLAGS]\n"
		    "A memcached-speaking cache of immutable values on NVMe files.\n");
	for (const struct option_def *d = options__table; d->help != NULL; d++) {
		char head[80], text[600];
		int n;

		if (d->name == NULL) {
			fprintf(to, "\n%s\n", d->help);
			continue;
		}
		if (!shown(d))
			continue;
		n = snprintf(head, sizeof head, "  %c%c%s --%s%s%s", d->letter ? '-' : ' ',
			     d->letter ? d->letter : ' ', d->letter ? "," : " ", d->name,
			     d->arg != NULL ? "=" : "", d->arg != NULL ? d->arg : "");
		snprintf(text, sizeof text, "%s%s%s%s", d->help, d->initial != NULL ? " [" : "",
			 d->initial != NULL ? d->initial : "", d->initial != NULL ? "]" : "");
		if (n < HELP_INDENT)
			fprintf(to, "%-*s", HELP_INDENT, head);
		else
			fprintf(to, "%s\n%s", head, prefix);
		print_wrapped(to, text, HELP_INDENT, HELP_WIDTH, prefix);
	}
	fprintf(to,
		"\nSizes take k, m, g or t (powers of 1024), times us, ms, s, m or h.\n"
		"Defaults are in brackets. memcached's short flags mean what they mean there.\n");
}

void options_print_man(FILE *to)
{
	for (const struct option_def *d = options__table; d->help != NULL; d++) {
		if (d->name == NULL) {
			fprintf(to, ".SS %s\n", d->help);
			continue;
		}
		if (!shown(d))
			continue;
		fprintf(to, ".TP\n");
		if (d->letter != '\0')
			fprintf(to, "\\fB\\-%c\\fR, ", d->letter);
		fputs("\\fB\\-\\-", to);
		for (const char *c = d->name; *c != '\0'; c++)
			fprintf(to, *c == '-' ? "\\-" : "%c", *c);
		fputs("\\fR", to);
		if (d->arg != NULL)
			fprintf(to, "=\\fI%s\\fR", d->arg);
		fprintf(to, "\n");
		print_wrapped(to, d->help, 0, MAN_WIDTH, "");
		if (d->initial != NULL)
			fprintf(to, "Default: %s.\n", d->initial);
	}
}

void options_print_conf(FILE *to)
{
	fprintf(to, "# valcached's settings, read with --config=FILE. A line is NAME = VALUE; the "
		    "names are\n"
		    "# the long flags of valcached(8), and a flag on the command line wins. Lines "
		    "that begin\n"
		    "# with # show the defaults.\n");
	for (const struct option_def *d = options__table; d->help != NULL; d++) {
		if (d->name == NULL) {
			fprintf(to, "\n# --- %s ---\n", d->help);
			continue;
		}
		if (!shown(d) || d->kind == OPTION_OFF || d->kind == OPTION_CONFIG ||
		    d->kind == OPTION_EXTENDED || d->kind == OPTION_HELP ||
		    d->kind == OPTION_VERSION)
			continue;
		fprintf(to, "\n# ");
		print_wrapped(to, d->help, 2, HELP_WIDTH, "# ");
		if (d->kind == OPTION_BOOL)
			fprintf(to, "#%s = no\n", d->name);
		else
			fprintf(to, "#%s =%s%s\n", d->name, d->initial != NULL ? " " : "",
				d->initial != NULL ? d->initial : "");
	}
}

bool options__value(const struct options *o, const struct option_def *d, unsigned i, char *buf,
		    size_t len)
{
	const void *at = (const char *)o + d->offset;
	uint64_t ns;

	if (i > 0 && d->kind != OPTION_LIST && d->kind != OPTION_LISTEN)
		return false;
	switch (d->kind) {
	case OPTION_BOOL:
		snprintf(buf, len, "%s", *(const bool *)at ? "yes" : "no");
		return true;
	case OPTION_COUNT:
	case OPTION_NUMBER:
	case OPTION_THREADS:
		snprintf(buf, len, "%u", *(const unsigned *)at);
		return true;
	case OPTION_OCTAL:
		snprintf(buf, len, "%04o", *(const unsigned *)at);
		return true;
	case OPTION_SIZE:
	case OPTION_MIB:
		size_format(buf, len, *(const uint64_t *)at);
		return true;
	case OPTION_DURATION:
		ns = *(const uint64_t *)at;
		if (ns % 1000000000u == 0)
			snprintf(buf, len, "%" PRIu64 "s", ns / 1000000000u);
		else if (ns % 1000000u == 0)
			snprintf(buf, len, "%" PRIu64 "ms", ns / 1000000u);
		else
			snprintf(buf, len, "%" PRIu64 "us", ns / 1000u);
		return true;
	case OPTION_STRING:
	case OPTION_CONFIG:
		if (*(char *const *)at == NULL)
			return false;
		snprintf(buf, len, "%s", *(char *const *)at);
		return true;
	case OPTION_LIST:
		if (i >= o->path_n)
			return false;
		snprintf(buf, len, "%s", o->path[i]);
		return true;
	case OPTION_LISTEN:
		if (i >= o->listen_n)
			return false;
		snprintf(buf, len, strchr(o->listen[i].host, ':') ? "%s[%s]:%u" : "%s%s:%u",
			 o->listen[i].plain ? "notls:" : "", o->listen[i].host,
			 (unsigned)o->listen[i].port);
		return true;
	case OPTION_CHOICE:
		snprintf(buf, len, "%s", d->choices[*(const unsigned *)at]);
		return true;
	case OPTION_EXTENDED:
	case OPTION_OFF:
	case OPTION_HELP:
	case OPTION_VERSION:
	case OPTION_REFUSED:
		return false;
	}
	return false;
}

void options_each(const struct options *o,
		  void (*fn)(void *user, const char *name, const char *value), void *user)
{
	char value[4400];

	for (const struct option_def *d = options__table; d->help != NULL; d++) {
		if (d->name == NULL)
			continue;
		for (unsigned i = 0; options__value(o, d, i, value, sizeof value); i++)
			fn(user, d->name, value);
	}
}
