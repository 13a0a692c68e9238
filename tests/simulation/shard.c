/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shards: a run over many seeds keeps in a file how far it is and what it has met, so that it can be stopped at any
 * time, and many of them be added up.
 */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "tests/simulation/simulation.h"

#define MAGIC 0x3144524148534d53ull /* "SMSHARD1" */

struct head {
	uint64_t magic, size, first, last, next, failures;
};

static bool load(const char *path, struct shard *s)
{
	FILE *f = fopen(path, "rbe");
	struct head h;
	bool good;

	if (f == NULL)
		return false;
	good = fread(&h, sizeof h, 1, f) == 1 && h.magic == MAGIC && h.size == sizeof s->cover &&
	       fread(&s->cover, sizeof s->cover, 1, f) == 1;
	(void)fclose(f);
	s->first = h.first;
	s->last = h.last;
	s->next = h.next;
	s->failures = h.failures;
	return good;
}

bool shard_load(const char *path, struct shard *s)
{
	uint64_t first = s->first, last = s->last;

	if (access(path, F_OK) != 0)
		return true;
	return load(path, s) && s->first == first && s->last == last;
}

void shard_save(const char *path, const struct shard *s)
{
	struct head h = {MAGIC, sizeof s->cover, s->first, s->last, s->next, s->failures};
	char tmp[4096];
	FILE *f;
	bool good;

	snprintf(tmp, sizeof tmp, "%s.tmp", path);
	f = fopen(tmp, "wbe");
	good = f != NULL && fwrite(&h, sizeof h, 1, f) == 1 &&
	       fwrite(&s->cover, sizeof s->cover, 1, f) == 1;
	if (f != NULL)
		good = fclose(f) == 0 && good;
	if (!good || rename(tmp, path) != 0) {
		perror(path);
		_exit(2);
	}
}

uint64_t shard_total(char *const *path, unsigned n, struct cover *sum)
{
	_Atomic uint64_t *to = (_Atomic uint64_t *)sum;
	uint64_t all = 0;

	for (unsigned i = 0; i < n; i++) {
		static struct shard s;
		_Atomic uint64_t *from = (_Atomic uint64_t *)&s.cover;

		if (!load(path[i], &s)) {
			fprintf(stderr, "%s: no shard of this version\n", path[i]);
			return 0;
		}
		for (size_t k = 0; k < sizeof s.cover / sizeof *from; k++)
			to[k] += from[k];
		printf("%s: seeds %" PRIu64 "-%" PRIu64 ", %" PRIu64 " run, %" PRIu64 " failed\n",
		       path[i], s.first, s.last, s.next - s.first, s.failures);
		all += s.next - s.first;
	}
	return all;
}
