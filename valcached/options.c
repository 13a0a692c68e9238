/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading settings; see options.h for what wins over what. Start-up only, one thread.
 *
 *  1. Every value, a default too, goes through set_value(), so no path skips a check.
 *  2. from[] remembers who set a row last: a list that a stronger source touches starts anew, and
 *     a row that is given twice in the file is an error unless it is a list.
 *  3. The command line is read twice: for --config, --help and --version, then, after the file,
 *     for the rest. The first reading checks nothing it does not need.
 */
#include <errno.h>
#include <ini.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/size.h"
#include "valcached/options_int.h"

#define ROWS_MAX    96
#define THREADS_MAX 4 /* of the default; -t may ask for more */

struct parse {
	struct options *o;
	enum option_from from[ROWS_MAX];
	char **cause;
	/* while the file is read */
	const char *file;
	FILE *stream;
	unsigned line;
	int error;
	int read_error; /* errno, for which inih has no name */
};

static int fail(struct parse *p, int error, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct parse *p, int error, const char *fmt, ...)
{
	va_list ap;

	free(*p->cause);
	*p->cause = NULL;
	va_start(ap, fmt);
	if (vasprintf(p->cause, fmt, ap) < 0)
		*p->cause = NULL;
	va_end(ap);
	return error;
}

static void *field(struct options *o, const struct option_def *d)
{
	return (char *)o + d->offset;
}

static bool takes_value(const struct option_def *d)
{
	return d->arg != NULL;
}

static const struct option_def *find_name(const char *name, size_t len)
{
	for (const struct option_def *d = options__table; d->help != NULL; d++)
		if (d->name != NULL && strncmp(d->name, name, len) == 0 && d->name[len] == '\0')
			return d;
	return NULL;
}

static const struct option_def *find_letter(char c)
{
	for (const struct option_def *d = options__table; d->help != NULL; d++)
		if (d->letter == c && c != '\0')
			return d;
	return NULL;
}

/* --- values ------------------------------------------------------------------------------------
 */

/* One element more for the list of *ptr and the count behind it; NULL without memory. */
static void *list_grow(void *ptr, unsigned *n, size_t element)
{
	void **list = ptr;
	char *grown = reallocarray(*list, *n + 1, element);

	if (grown == NULL)
		return NULL;
	*list = grown;
	memset(grown + *n * element, 0, element);
	return grown + (*n)++ * element;
}

static void free_paths(struct options *o)
{
	for (unsigned i = 0; i < o->path_n; i++)
		free(o->path[i]);
	free(o->path);
	o->path = NULL;
	o->path_n = 0;
}

static void free_listen(struct options *o)
{
	for (unsigned i = 0; i < o->listen_n; i++)
		free(o->listen[i].host);
	free(o->listen);
	o->listen = NULL;
	o->listen_n = 0;
}

/*
 * One address of len bytes. Two colons or more without brackets are an IPv6 address and no port.
 * Port 0 says "that of -p", so it cannot be asked for.
 */
static int add_address(struct options *o, const char *text, size_t len)
{
	const char *host = text, *end = text + len, *host_end = end, *port = NULL;
	struct options_addr *a;
	uint64_t n = 0;
	bool plain = len > 6 && strncmp(text, "notls:", 6) == 0;

	if (plain) {
		text += 6;
		host = text;
		len -= 6;
	}
	if (len > 0 && *text == '[') {
		host = text + 1;
		host_end = memchr(host, ']', (size_t)(end - host));
		if (host_end == NULL)
			return -EINVAL;
		if (host_end + 1 != end) {
			if (host_end[1] != ':')
				return -EINVAL;
			port = host_end + 2;
		}
	} else {
		const char *colon = memchr(text, ':', len);

		if (colon != NULL && memchr(colon + 1, ':', (size_t)(end - colon - 1)) == NULL) {
			host_end = colon;
			port = colon + 1;
		}
	}
	if (host_end == host || memchr(host, ' ', (size_t)(host_end - host)) != NULL)
		return -EINVAL;
	if (port != NULL) {
		char digits[8];

		if (end - port >= (ptrdiff_t)sizeof digits)
			return -EINVAL;
		memcpy(digits, port, (size_t)(end - port));
		digits[end - port] = '\0';
		if (size_parse_number(digits, &n) != 0 || n < 1 || n > 65535)
			return -EINVAL;
	}
	a = list_grow(&o->listen, &o->listen_n, sizeof *a);
	if (a == NULL)
		return -ENOMEM;
	a->host = strndup(host, (size_t)(host_end - host));
	a->port = (uint16_t)n;
	a->plain = plain;
	return a->host != NULL ? 0 : -ENOMEM;
}

static int add_addresses(struct options *o, const char *text)
{
	for (;;) {
		size_t len = strcspn(text, ",");
		int ret = add_address(o, text, len);

		if (ret != 0 || text[len] == '\0')
			return ret;
		text += len + 1;
		text += strspn(text, " ");
	}
}

static int parse_bool(const char *text, bool *b)
{
	static const char *const yes[] = {"yes", "true", "on", "1"};
	static const char *const no[] = {"no", "false", "off", "0"};

	for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
		if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
			*b = strcmp(text, yes[i]) == 0;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_octal(const char *text, uint64_t *n)
{
	uint64_t v = 0;

	if (*text == '\0' || strlen(text) > 6)
		return -EINVAL;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '7')
			return -EINVAL;
		v = v * 8 + (uint64_t)(*text - '0');
	}
	*n = v;
	return 0;
}

static int parse_choice(const struct option_def *d, const char *text, uint64_t *n)
{
	for (unsigned i = 0; d->choices[i] != NULL; i++) {
		if (strcmp(d->choices[i], text) == 0) {
			*n = i;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_mib(const char *text, uint64_t *n)
{
	uint64_t bare;

	if (size_parse_number(text, &bare) != 0)
		return size_parse(text, n);
	if (bare > UINT64_MAX >> 20)
		return -ERANGE;
	*n = bare << 20;
	return 0;
}

static unsigned default_threads(void)
{
	cpu_set_t set;
	int n = 1;

	if (sched_getaffinity(0, sizeof set, &set) == 0)
		n = CPU_COUNT(&set);
	return n < 1 ? 1 : n > THREADS_MAX ? THREADS_MAX : (unsigned)n;
}

/* 0, -EINVAL or -ERANGE (a value that is not allowed), or -ENOMEM. */
static int set_value(struct options *o, const struct option_def *d, const char *text)
{
	void *at = field(o, d);
	uint64_t n = 0;
	bool b = false;
	char *copy;
	int ret = 0;

	switch (d->kind) {
	case OPTION_BOOL:
		ret = parse_bool(text, &b);
		if (ret == 0)
			*(bool *)at = b;
		return ret;
	case OPTION_COUNT:
	case OPTION_NUMBER:
		ret = size_parse_number(text, &n);
		break;
	case OPTION_THREADS:
		n = default_threads();
		if (strcmp(text, "auto") != 0)
			ret = size_parse_number(text, &n);
		break;
	case OPTION_OCTAL:
		ret = parse_octal(text, &n);
		break;
	case OPTION_CHOICE:
		ret = parse_choice(d, text, &n);
		if (ret == 0)
			*(unsigned *)at = (unsigned)n;
		return ret;
	case OPTION_SIZE:
		ret = size_parse(text, &n);
		break;
	case OPTION_MIB:
		ret = parse_mib(text, &n);
		break;
	case OPTION_DURATION:
		ret = size_parse_duration(text, &n);
		break;
	case OPTION_OFF:
		return strcmp(text, "0") == 0 || strcmp(text, "off") == 0 ? 0 : -EINVAL;
	case OPTION_STRING:
	case OPTION_CONFIG:
		if (*text == '\0' || strlen(text) > d->max)
			return -EINVAL;
		copy = strdup(text);
		if (copy == NULL)
			return -ENOMEM;
		free(*(char **)at);
		*(char **)at = copy;
		return 0;
	case OPTION_LIST: {
		char **element;

		if (*text == '\0' || o->path_n >= d->max)
			return -EINVAL;
		element = list_grow(&o->path, &o->path_n, sizeof *element);
		if (element == NULL)
			return -ENOMEM;
		*element = strdup(text);
		return *element != NULL ? 0 : -ENOMEM;
	}
	case OPTION_LISTEN:
		return add_addresses(o, text);
	case OPTION_EXTENDED:
	case OPTION_HELP:
	case OPTION_VERSION:
	case OPTION_REFUSED:
		return -EINVAL;
	}
	if (ret != 0)
		return ret;
	if (n < d->min || n > d->max)
		return -ERANGE;
	if (d->kind == OPTION_COUNT || d->kind == OPTION_NUMBER || d->kind == OPTION_THREADS ||
	    d->kind == OPTION_OCTAL)
		*(unsigned *)at = (unsigned)n;
	else
		*(uint64_t *)at = n;
	return 0;
}

static int give_extended(struct parse *p, enum option_from from, const char *flag,
			 const char *text);

/* set_value() with rule 2 and the sentence; flag is what the operator wrote, as in "-p". */
static int give(struct parse *p, const struct option_def *d, enum option_from from,
		const char *flag, const char *text)
{
	size_t row = (size_t)(d - options__table);
	char where[1200];
	int ret;

	A(row < ROWS_MAX);
	if (d->kind == OPTION_EXTENDED)
		return give_extended(p, from, flag, text);
	if (from == FROM_CONFIG)
		snprintf(where, sizeof where, "%s line %u: %s = %s", p->file, p->line, flag, text);
	else
		snprintf(where, sizeof where, "%s%s%s", flag,
			 flag[1] == '-' || strchr(flag, ' ') != NULL ? "=" : " ", text);

	if (d->kind == OPTION_LIST && p->from[row] != from)
		free_paths(p->o);
	if (d->kind == OPTION_LISTEN && p->from[row] != from)
		free_listen(p->o);
	if (from == FROM_CONFIG && p->from[row] == from && d->kind != OPTION_LIST &&
	    d->kind != OPTION_LISTEN)
		return fail(p, -EINVAL, "%s: the setting is given twice", where);
	p->from[row] = from;

	ret = set_value(p->o, d, text);
	if (ret == -ENOMEM)
		return fail(p, ret, "%s: out of memory", where);
	if (ret != 0)
		return fail(p, -EINVAL, "%s is not allowed: %s is wanted", where,
			    d->kind == OPTION_BOOL ? "yes or no" : d->allowed);
	return 0;
}

/* What memcached's -o could say and changes nothing here. */
static bool no_matter(const char *name)
{
	static const char *const names[] = {"maxconns_fast", "ssl_wbuf_size"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* memcached's two names for a choice of ours. */
static const char *of_sandbox(const char *name)
{
	return strcmp(name, "drop_privileges") == 0      ? "on"
	       : strcmp(name, "no_drop_privileges") == 0 ? "off"
							 : NULL;
}

/* The row of memcached's name, which has _ where ours has -. */
static const struct option_def *find_extended(const char *theirs)
{
	for (const struct option_def *d = options__table; d->help != NULL; d++) {
		size_t i = 0;

		if (!d->extended)
			continue;
		while (d->name[i] != '\0' && theirs[i] == (d->name[i] == '-' ? '_' : d->name[i]))
			i++;
		if (d->name[i] == '\0' && theirs[i] == '\0')
			return d;
	}
	return NULL;
}

/* -o NAME[=VALUE][,...]: the same settings under memcached's names; a bare time is in seconds there. */
static int give_extended(struct parse *p, enum option_from from, const char *flag, const char *text)
{
	int ret = 0;

	while (ret == 0 && *text != '\0') {
		char item[1100], where[64], *value;
		size_t len = strcspn(text, ",");
		const struct option_def *d;

		if (len >= sizeof item - 2)
			return fail(p, -EINVAL, "%s %.40s... is too long", flag, text);
		memcpy(item, text, len);
		item[len] = '\0';
		text += len + (text[len] == ',');
		value = strchr(item, '=');
		if (value != NULL)
			*value++ = '\0';
		if (no_matter(item))
			continue;
		if (value == NULL && of_sandbox(item) != NULL) {
			snprintf(where, sizeof where, "%s %.40s", flag, item);
			ret = give(p, find_name("sandbox", 7), from, where, of_sandbox(item));
			continue;
		}
		d = find_extended(item);
		if (d == NULL)
			return fail(
			    p, -EINVAL,
			    "%s %.40s is memcached's own; the settings here have long names "
			    "(--help)",
			    flag, item);
		snprintf(where, sizeof where, "%s %.40s", flag, item);
		if (takes_value(d) && value == NULL)
			return fail(p, -EINVAL, "%s needs a value: %s is wanted", where,
				    d->allowed);
		if (d->kind == OPTION_DURATION && value != NULL && *value != '\0' &&
		    value[strspn(value, "0123456789")] == '\0')
			strcat(value, "s");
		ret = give(p, d, from, where, value != NULL ? value : "yes");
	}
	return ret;
}

static void set_defaults(struct parse *p)
{
	for (const struct option_def *d = options__table; d->help != NULL; d++) {
		A(d - options__table < ROWS_MAX);
		if (d->name != NULL && d->initial != NULL)
			AZ(set_value(p->o, d, d->initial));
	}
}

/* --- the configuration file --------------------------------------------------------------------
 */

/*
 * inih's line source. It counts lines, which inih does not tell, drops leading blanks, which inih would
 * take for the continuation of the setting before, and what a comment has beyond inih's buffer.
 */
static char *read_line(char *buf, int size, void *stream)
{
	struct parse *p = stream;
	size_t len, blank;

	if (p->error != 0)
		return NULL;
	memset(buf, '\n', (size_t)size); /* then the last zero byte is fgets' own */
	if (fgets(buf, size, p->stream) == NULL) {
		if (ferror(p->stream) != 0)
			p->read_error = errno;
		return NULL;
	}
	p->line++;
	len = strlen(buf);
	if (memrchr(buf, '\0', (size_t)size) != buf + len) {
		p->error =
		    fail(p, -EINVAL,
			 "%s line %u: there is a zero byte in the line; take it out, or save the "
			 "file as plain text",
			 p->file, p->line);
		return NULL;
	}
	blank = strspn(buf, " \t");
	if (len + 1 == (size_t)size && buf[len - 1] != '\n') {
		int c = 0;

		if (buf[blank] != '#' && buf[blank] != ';') {
			p->error =
			    fail(p, -EINVAL,
				 "%s line %u: the line is longer than %d bytes; shorten it, or "
				 "give this setting on the command line",
				 p->file, p->line, size - 2);
			return NULL;
		}
		while (c != '\n' && c != EOF)
			c = getc(p->stream);
	}
	memmove(buf, buf + blank, len + 1 - blank);
	return buf;
}

static int take_line(void *user, const char *section, const char *name, const char *value)
{
	struct parse *p = user;
	const struct option_def *d = find_name(name, strlen(name));

	if (p->error != 0)
		return 0;
	if (*section != '\0' && strcmp(section, "valcached") != 0)
		p->error = fail(
		    p, -EINVAL,
		    "%s line %u: section [%s] is unknown: only [valcached], or none, is allowed",
		    p->file, p->line, section);
	else if (d == NULL)
		p->error =
		    fail(p, -EINVAL, "%s line %u: there is no setting %s; --help lists them all",
			 p->file, p->line, name);
	else if (d->kind == OPTION_REFUSED)
		p->error = fail(p, -EINVAL, "%s line %u: %s %s", p->file, p->line, name, d->help);
	else if (d->kind == OPTION_CONFIG || d->kind == OPTION_HELP || d->kind == OPTION_VERSION)
		p->error = fail(p, -EINVAL, "%s line %u: %s belongs on the command line only",
				p->file, p->line, name);
	else
		p->error = give(p, d, FROM_CONFIG, name, value);
	return p->error == 0;
}

static int read_config(struct parse *p, const char *file)
{
	int ret;

	p->file = file;
	p->stream = fopen(file, "re");
	if (p->stream == NULL) {
		ret = -errno;
		return fail(p, ret, "--config=%s cannot be read: %s", file, strerror(-ret));
	}
	ret = ini_parse_stream(read_line, p, take_line, p);
	if (p->error == 0 && p->read_error != 0)
		p->error = fail(p, -p->read_error, "--config=%s cannot be read: %s", file,
				strerror(p->read_error));
	else if (p->error == 0 && ret > 0)
		p->error =
		    fail(p, -EINVAL, "%s line %d: a line must be NAME = VALUE or [valcached]", file,
			 ret);
	else if (p->error == 0 && ret < 0)
		p->error = fail(p, -ENOMEM, "%s: out of memory", file);
	fclose(p->stream);
	return p->error;
}

/* --- the command line --------------------------------------------------------------------------
 */

/*
 * Walks argv and calls fn for each setting with its value ("yes" for a switch); stops at the first
 * result that is not 0. flag is the text to name it by, valid during the call.
 */
static int walk(struct parse *p, int argc, char **argv,
		int (*fn)(struct parse *, const struct option_def *, const char *flag,
			  const char *text))
{
	for (int i = 1; i < argc; i++) {
		const struct option_def *d;
		const char *arg = argv[i], *value;
		int ret;

		if (arg[0] != '-' || arg[1] == '\0')
			return fail(p, -EINVAL, "%s: there are no arguments besides flags", arg);
		if (arg[1] == '-') {
			size_t len = strcspn(arg + 2, "=");
			char flag[64];

			d = find_name(arg + 2, len);
			if (d == NULL || len == 0)
				return fail(p, -EINVAL,
					    "%.*s: there is no such flag; --help lists them all",
					    (int)len + 2, arg);
			snprintf(flag, sizeof flag, "--%s", d->name);
			if (d->kind == OPTION_REFUSED)
				return fail(p, -EINVAL, "%s %s", flag, d->help);
			value = arg[len + 2] == '=' ? arg + len + 3 : NULL;
			if (takes_value(d)) {
				if (value == NULL && (value = argv[++i]) == NULL)
					return fail(p, -EINVAL, "%s needs a value: %s is wanted",
						    flag, d->allowed);
			} else if (value != NULL && d->kind != OPTION_COUNT) {
				return fail(p, -EINVAL, "%s takes no value, but %s was given", flag,
					    value);
			}
			ret = fn(p, d, flag, value);
			if (ret != 0)
				return ret;
			continue;
		}
		for (const char *c = arg + 1; *c != '\0';) {
			char flag[3] = {'-', *c++, '\0'};

			d = find_letter(flag[1]);
			if (d == NULL)
				return fail(p, -EINVAL,
					    "%s: there is no such flag; --help lists them all",
					    flag);
			if (d->kind == OPTION_REFUSED)
				return fail(p, -EINVAL, "%s (--%s) %s", flag, d->name, d->help);
			value = NULL;
			if (takes_value(d)) {
				value = *c != '\0' ? c : argv[++i];
				if (value == NULL)
					return fail(p, -EINVAL, "%s needs a value: %s is wanted",
						    flag, d->allowed);
				c = "";
			}
			ret = fn(p, d, flag, value);
			if (ret != 0)
				return ret;
		}
	}
	return 0;
}

/* First reading: rule 3. */
static int look(struct parse *p, const struct option_def *d, const char *flag, const char *text)
{
	switch (d->kind) {
	case OPTION_HELP:
		options_print_help(stdout);
		return 1;
	case OPTION_VERSION:
		printf("valcached %s\n", VALCACHED_VERSION);
		return 1;
	case OPTION_CONFIG:
		AN(text); /* takes_value() */
		return give(p, d, FROM_COMMAND_LINE, flag, text);
	default:
		return 0;
	}
}

static int take(struct parse *p, const struct option_def *d, const char *flag, const char *text)
{
	switch (d->kind) {
	case OPTION_CONFIG:
		return 0;
	case OPTION_COUNT:
		if (text == NULL) { /* one more, as memcached's -vv; too many are not an error */
			size_t row = (size_t)(d - options__table);
			unsigned *n = field(p->o, d);

			if (p->from[row] != FROM_COMMAND_LINE)
				*n = 0;
			p->from[row] = FROM_COMMAND_LINE;
			if (*n < d->max)
				++*n;
			return 0;
		}
		break;
	default:
		break;
	}
	return give(p, d, FROM_COMMAND_LINE, flag, text != NULL ? text : "yes");
}

static bool given(const struct parse *p, const char *name)
{
	const struct option_def *d = find_name(name, strlen(name));

	return p->from[d - options__table] != FROM_DEFAULT;
}

/* What depends on several settings: which TCP addresses are left, and with which port. */
static int settle(struct parse *p)
{
	struct options *o = p->o;
	unsigned kept = 0;

	if (o->ssl && o->ssl_chain_cert == NULL)
		return fail(
		    p, -EINVAL,
		    "-Z needs a certificate: give --ssl-chain-cert=FILE (-o ssl_chain_cert=FILE)");
	if (!o->ssl && (o->ssl_chain_cert != NULL || o->ssl_key != NULL || o->ssl_ca_cert != NULL))
		return fail(p, -EINVAL, "files of TLS are given, but not -Z, which switches it on");
	if (o->ssl && o->ssl_verify_mode > 0 && o->ssl_ca_cert == NULL)
		return fail(
		    p, -EINVAL,
		    "--ssl-verify-mode=%u needs authorities to verify with: give --ssl-ca-cert=FILE",
		    o->ssl_verify_mode);
	if (o->conn_bytes == 0) {
		o->conn_bytes = (uint64_t)o->connections * (32u << 10);
		if (o->conn_bytes < 64u << 20)
			o->conn_bytes = 64u << 20;
	}
	if (o->unix_path == NULL &&
	    (o->unix_owner != NULL || o->unix_group != NULL || o->unix_allow != NULL))
		return fail(
		    p, -EINVAL,
		    "--unix-owner, --unix-group and --unix-allow are about the unix socket: "
		    "give -s FILE, too");
	if (o->unix_path != NULL && !given(p, "port") && !given(p, "listen"))
		free_listen(o);
	for (unsigned i = 0; i < o->listen_n; i++) {
		struct options_addr *a = &o->listen[i];

		if (a->port == 0)
			a->port = (uint16_t)o->port;
		if (a->port == 0)
			free(a->host);
		else
			o->listen[kept++] = *a;
	}
	o->listen_n = kept;
	if (o->listen_n == 0 && o->unix_path == NULL)
		return fail(p, -EINVAL,
			    "-p 0 leaves nothing to listen on: give -s FILE, or a port");
	return 0;
}

int options_parse(struct options *o, int argc, char **argv, char **cause)
{
	struct parse p = {.o = o, .cause = cause};
	int ret;

	memset(o, 0, sizeof *o);
	*cause = NULL;
	set_defaults(&p);
	ret = walk(&p, argc, argv, look);
	if (ret == 0 && o->config != NULL)
		ret = read_config(&p, o->config);
	if (ret == 0)
		ret = walk(&p, argc, argv, take);
	if (ret == 0)
		ret = settle(&p);
	if (ret != 0)
		options_free(o);
	return ret;
}

void options_free(struct options *o)
{
	free_listen(o);
	free_paths(o);
	free(o->unix_path);
	free(o->auth_file);
	free(o->unix_owner);
	free(o->unix_group);
	free(o->unix_allow);
	free(o->ssl_chain_cert);
	free(o->ssl_key);
	free(o->ssl_ca_cert);
	free(o->ssl_ciphers);
	free(o->user);
	free(o->pidfile);
	free(o->config);
	memset(o, 0, sizeof *o);
}
