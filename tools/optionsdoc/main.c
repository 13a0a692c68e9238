/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Build helper: prints what the table of settings gives for documents.
 *   options-doc man < valcached.8.in > valcached.8      the line @OPTIONS@ becomes the list
 *   options-doc conf > valcached.conf
 */
#include <stdio.h>
#include <string.h>

#include "valcached/options.h"

int main(int argc, char **argv)
{
	char line[1024];

	if (argc == 2 && strcmp(argv[1], "conf") == 0) {
		options_print_conf(stdout);
	} else if (argc == 2 && strcmp(argv[1], "man") == 0) {
		while (fgets(line, sizeof line, stdin) != NULL) {
			if (strcmp(line, "@OPTIONS@\n") == 0)
				options_print_man(stdout);
			else
				fputs(line, stdout);
		}
	} else {
		fprintf(stderr, "usage: options-doc man|conf\n");
		return 2;
	}
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
