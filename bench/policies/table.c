/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the policies and prints what they miss. */
#include <string.h>

#include "base/assert.h"
#include "base/size.h"
#include "bench/policies/policies.h"
#include "ocache/ocache.h"

static const struct {
	const char *flag;
	sim_fn *run;
} known[] = {{"ocache", sim_ocache}, {"net", sim_ocache_net},  {"lru", sim_lru},
	     {"fifo", sim_fifo},     {"clock", sim_clock},     {"s3fifo", sim_s3fifo},
	     {"sieve", sim_sieve},   {"tinylfu", sim_tinylfu}, {"min", sim_min}};
_Static_assert(sizeof(known) / sizeof(known[0]) == POLICIES_MAX, "room for each");

/* Percent of the requests that are counted. */
static double misses(const struct run *r)
{
	return 100 * (1 - ratio(r->late.hits, r->late.gets));
}

static sim_fn *find(const char *flag, size_t len)
{
	for (unsigned i = 0; i < POLICIES_MAX; i++)
		if (strlen(known[i].flag) == len && strncmp(known[i].flag, flag, len) == 0)
			return known[i].run;
	return NULL;
}

static int policies_of(const char *list, sim_fn **run)
{
	int n = 0;

	for (const char *p = list; *p != '\0';) {
		size_t len = strcspn(p, ",");
		sim_fn *one = find(p, len);

		if (one == NULL || n == (int)POLICIES_MAX) {
			fprintf(stderr, "policies: there is no policy %.*s; --help lists them\n",
				(int)len, p);
			return -1;
		}
		run[n++] = one;
		p += len + (p[len] == ',');
	}
	return n;
}

static void print_line(const struct line *l, unsigned policies)
{
	char size[SIZE_TEXT_MAX];

	printf("%-24s %5.4g %8s", l->trace, l->share,
	       size_human(size, sizeof(size), (double)l->size));
	for (unsigned i = 0; i < policies; i++)
		printf(" %10.2f", misses(&l->run[i]));
	printf("\n");
	fflush(stdout);
}

static void print_head(const struct line *l, unsigned policies)
{
	printf("%-24s %5s %8s", "misses, percent", "%", "size");
	for (unsigned i = 0; i < policies; i++)
		printf(" %10s", l->run[i].name);
	printf("\n");
}

int table_trace(const struct table_spec *spec, const struct trace *t, struct table *out)
{
	sim_fn *run[POLICIES_MAX] = {NULL};
	int policies = policies_of(spec->policies, run);

	if (policies < 0)
		return 2;
	out->policies = (unsigned)policies;
	for (unsigned s = 0; s < spec->shares; s++) {
		struct line *l = &out->line[out->lines];

		if (out->lines == LINES_MAX) {
			fprintf(stderr, "policies: a table has at most %u lines\n", LINES_MAX);
			return 1;
		}
		snprintf(l->trace, sizeof(l->trace), "%s", t->name);
		l->share = spec->share[s];
		l->requests = t->n;
		l->size = (uint64_t)((double)t->distinct_bytes * l->share / 100);
		if (l->size < OCACHE_BUDGET_MIN) {
			fprintf(stderr, "policies: %g %% of %s is less than a cache may have\n",
				l->share, l->trace);
			return 1;
		}
		for (unsigned i = 0; i < out->policies; i++) {
			AN(run[i]);
			if (!run[i](t, l->size, (uint64_t)((double)t->n * spec->skip),
				    &l->run[i])) {
				fprintf(stderr, "policies: no memory for a run of %s\n", l->trace);
				return 1;
			}
		}
		if (out->lines++ == 0)
			print_head(l, out->policies);
		print_line(l, out->policies);
	}
	return 0;
}

void table_summary(const struct table *table)
{
	unsigned lru = 0;

	while (lru < table->policies && strcmp(table->line[0].run[lru].name, "LRU") != 0)
		lru++;
	printf("%-39s", "mean");
	for (unsigned i = 0; i < table->policies; i++) {
		double sum = 0;

		for (unsigned n = 0; n < table->lines; n++)
			sum += misses(&table->line[n].run[i]);
		printf(" %10.2f", sum / table->lines);
	}
	printf("\n");
	if (lru == table->policies)
		return;
	printf("%-39s", "most above LRU, points");
	for (unsigned i = 0; i < table->policies; i++) {
		double most = -100;

		for (unsigned n = 0; n < table->lines; n++) {
			double d =
			    misses(&table->line[n].run[i]) - misses(&table->line[n].run[lru]);

			most = d > most ? d : most;
		}
		printf(" %+10.2f", most);
	}
	printf("\n");
}

bool table_json(const struct table *table, const char *path)
{
	FILE *f = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");

	if (f == NULL) {
		fprintf(stderr, "policies: %s cannot be written: %m\n", path);
		return false;
	}
	fprintf(f, "[");
	for (unsigned n = 0; n < table->lines; n++) {
		const struct line *l = &table->line[n];

		fprintf(f, "%s{\"trace\": \"", n > 0 ? ",\n " : "");
		json_name(f, l->trace);
		fprintf(
		    f, "\", \"share\": %g, \"size\": %lu, \"requests\": %lu, \"misses_percent\": {",
		    l->share, (unsigned long)l->size, (unsigned long)l->requests);
		for (unsigned i = 0; i < table->policies; i++)
			fprintf(f, "%s\"%s\": %.3f", i > 0 ? ", " : "", l->run[i].name,
				misses(&l->run[i]));
		fprintf(f, "}, \"byte_misses_percent\": {");
		for (unsigned i = 0; i < table->policies; i++)
			fprintf(
			    f, "%s\"%s\": %.3f", i > 0 ? ", " : "", l->run[i].name,
			    100 * (1 - ratio(l->run[i].late.hit_bytes, l->run[i].late.get_bytes)));
		fprintf(f, "}, \"overhead\": {");
		for (unsigned i = 0; i < table->policies; i++)
			fprintf(f, "%s\"%s\": %lu", i > 0 ? ", " : "", l->run[i].name,
				(unsigned long)l->run[i].overhead);
		fprintf(f, "}}");
	}
	fprintf(f, "]\n");
	return f == stdout ? fflush(f) == 0 : fclose(f) == 0;
}
