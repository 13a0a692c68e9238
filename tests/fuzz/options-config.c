/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target for the settings: a configuration file and flags of any bytes. Either a struct that
 * keeps its promises, or one sentence; what was understood can be written down as flags and
 * is understood the same again.
 *
 * Input: the configuration file, then after each 0 byte a flag (without line ends: a sentence quotes it).
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "valcached/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define FLAGS 12u

static void one(void *user, const char *name, const char *value)
{
	AN(name);
	AN(value);
	*(size_t *)user += strlen(name) + strlen(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static int file = -1;
	char *argv[FLAGS + 3] = {(char *)(uintptr_t) "valcached"}, config[64], *text, *cause = NULL;
	struct options o;
	size_t conf_n, sum = 0;
	int argc = 1, rc;

	if (file < 0) {
		file = memfd_create("config", MFD_CLOEXEC);
		A(file >= 0);
	}
	text = malloc(n + 1);
	AN(text);
	memcpy(text, data, n);
	text[n] = '\0';
	conf_n = strlen(text);
	AZ(ftruncate(file, 0));
	A(pwrite(file, text, conf_n, 0) == (ssize_t)conf_n);
	if (conf_n > 0) {
		snprintf(config, sizeof config, "--config=/proc/self/fd/%d", file);
		argv[argc++] = config;
	}
	for (size_t at = conf_n + 1; at < n && argc < (int)FLAGS; at += strlen(text + at) + 1)
		if (strncmp(text + at, "--config", 8) != 0 && strcmp(text + at, "-h") != 0 &&
		    strcmp(text + at, "--help") != 0 && strchr(text + at, '\n') == NULL)
			argv[argc++] = text + at;
	rc = options_parse(&o, argc, argv, &cause);
	if (rc < 0) {
		AN(cause); /* a sentence */
		A(strlen(cause) > 10 && strchr(cause, '\n') == NULL);
		free(cause);
	} else if (rc == 0) {
		A(o.path_n > 0 && o.threads > 0 && o.connections > 0 && o.size >= 64ull << 20);
		A(o.item_max <= 64ull << 20 && o.port <= 65535);
		options_each(&o, one, &sum);
		A(sum > 0);
		options_free(&o);
	}
	free(text);
	return 0;
}
