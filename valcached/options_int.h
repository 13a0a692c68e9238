/* SPDX-License-Identifier: Apache-2.0 */
/* Private to options*.c: the one table of settings. */
#ifndef VALCACHED_OPTIONS_INT_H
#define VALCACHED_OPTIONS_INT_H

#include <stddef.h>
#include <stdint.h>

#include "valcached/options.h"

enum option_kind {
	OPTION_BOOL,     /* bool */
	OPTION_COUNT,    /* unsigned; each -v adds one; --verbose=N sets it */
	OPTION_NUMBER,   /* unsigned */
	OPTION_THREADS,  /* unsigned, or "auto": as many as suit the machine */
	OPTION_OCTAL,    /* unsigned, written in octal */
	OPTION_SIZE,     /* uint64_t bytes */
	OPTION_MIB,      /* uint64_t bytes; a bare number is MiB, as memcached's -m */
	OPTION_DURATION, /* uint64_t nanoseconds */
	OPTION_STRING,   /* char * */
	OPTION_LIST,     /* char ** and a count right behind */
	OPTION_LISTEN,   /* struct options_addr * and a count right behind; commas separate */
	OPTION_CHOICE,   /* an enum; choices in its order */
	OPTION_EXTENDED, /* memcached's -o: NAME=VALUE,... of rows that are marked extended */
	OPTION_OFF,      /* takes only the value "off" or "0": what memcached could switch on */
	OPTION_CONFIG,
	OPTION_HELP,
	OPTION_VERSION,
	OPTION_REFUSED, /* known, refused with the sentence in help */
};

enum option_from { FROM_DEFAULT, FROM_CONFIG, FROM_COMMAND_LINE };

struct option_def {
	const char *name; /* long; what the configuration file uses */
	char letter;      /* 0: none */
	enum option_kind kind;
	size_t offset;       /* in struct options */
	const char *arg;     /* name of the value in --help; NULL: a switch */
	const char *initial; /* default, in the form a user writes; NULL: none */
	uint64_t min, max;
	const char *const *choices;
	const char *allowed; /* ends the sentence "... is wanted" of a bad value */
	const char *help;
	bool extended; /* -o takes it, too, by this name with _ for - */
};

/* Rows with a name of NULL are headings (text in help); the last row has both NULL. */
extern const struct option_def options__table[];

/* options__value() writes the value of d in effect, entry i of a list; false past the last. */
bool options__value(const struct options *o, const struct option_def *d, unsigned i, char *buf,
		    size_t len);

#endif
