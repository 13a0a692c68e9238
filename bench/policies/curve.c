/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libocache's sampled miss-ratio curve (ocache/metrics.h) beside the exact one of LRU, on traces:
 * a table, and a drawing.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "bench/policies/policies.h"
#include "ocache/ocache.h"

#define STEPS  100u /* sizes, up to all bytes of the trace */
#define PANELS 24u

struct panel {
	char trace[96];
	double exact[STEPS + 1], sampled[STEPS + 1];
};

static struct panel panels[PANELS];
static unsigned drawn;

static void destroy(void *ctx, void *object)
{
	(void)ctx;
	(void)object;
}

/* The trace through a cache that has room for a tenth of it; what it tells of LRU at any size. */
static bool sample(const struct trace *t, uint32_t one_in, struct ocache_curve *curve)
{
	static const struct ocache_decoder decoder = {.destroy = destroy};
	static const struct ocache_hint hint = {.flags = OCACHE_CACHED_ONLY};
	static char object;
	struct ocache_config cfg = {
	    .struct_size = sizeof cfg, .budget = t->distinct_bytes / 10, .curve_one_in = one_in};
	struct ocache_ref ref;
	struct ocache *c;

	if (cfg.budget < 16 * OCACHE_BUDGET_MIN)
		cfg.budget = 16 * OCACHE_BUDGET_MIN;
	if (ocache_open(&cfg, &c, NULL) != 0)
		return false;
	for (uint64_t i = 0; i < t->n; i++) {
		uint32_t k = t->key[i];
		struct seg_id id = {mix64(k), mix64(~(uint64_t)k)};

		if (ocache_get(c, id, &hint, NULL, &ref) == 0)
			ocache_release(&ref);
		else
			(void)ocache_add(c, id, &decoder, &object, t->size[k], NULL);
	}
	A(ocache_curve(c, false, curve) == 0 && curve->accesses == t->n);
	AZ(ocache_close(&c));
	return true;
}

int curve_trace(const struct trace *t, uint32_t one_in)
{
	struct panel *p = &panels[drawn < PANELS ? drawn++ : PANELS - 1];
	struct ocache_curve *curve = malloc(sizeof(*curve));
	uint64_t *distance = stack_distances(t);
	double sum = 0, most = 0;
	bool ok = curve != NULL && distance != NULL && sample(t, one_in, curve);

	if (ok && p == panels)
		printf("%-24s %8s %8s %8s   %s\n", "misses, percent", "keys", "followed", "one in",
		       "LRU / sampled at 2, 10, 30, 60 % of the bytes;  error: mean, most");
	snprintf(p->trace, sizeof(p->trace), "%s", t->name);
	for (unsigned i = 0; ok && i <= STEPS; i++) {
		uint64_t bytes = (uint64_t)((double)t->distinct_bytes * i / STEPS);
		double error;

		p->exact[i] = 1 - ratio(stack_hits(distance, t->n, bytes), t->n);
		p->sampled[i] = ocache_curve_misses(curve, bytes);
		error = fabs(p->exact[i] - p->sampled[i]);
		sum += i > 0 ? error : 0;
		most = i > 0 && error > most ? error : most;
	}
	if (ok) {
		printf("%-24s %8u %8lu %8.0f  ", t->name, t->nkeys, (unsigned long)curve->objects,
		       curve->one_in);
		for (unsigned i = 0; i < 4; i++) {
			unsigned at = (const unsigned[]){2, 10, 30, 60}[i];

			printf(" %6.2f /%6.2f", 100 * p->exact[at], 100 * p->sampled[at]);
		}
		printf("  %6.4f %6.4f\n", sum / STEPS, most);
		fflush(stdout);
	} else {
		fprintf(stderr, "policies: no memory for a curve of %s\n", t->name);
	}
	free(curve);
	free(distance);
	return ok ? 0 : 1;
}

/* ---- drawing ---- */

#define COLUMNS 3u
#define WIDTH   260.0
#define HEIGHT  150.0
#define MARGIN  40.0

static void path(FILE *f, const double y[STEPS + 1], const char *style)
{
	fprintf(f, "<polyline fill=\"none\" %s points=\"", style);
	for (unsigned i = 0; i <= STEPS; i++)
		fprintf(f, "%.1f,%.1f ", WIDTH * i / STEPS, HEIGHT * (1 - y[i]));
	fprintf(f, "\"/>\n");
}

bool curve_draw(const char *file)
{
	unsigned rows = (drawn + COLUMNS - 1) / COLUMNS;
	FILE *f = fopen(file, "we");

	if (f == NULL) {
		fprintf(stderr, "policies: %s cannot be written: %m\n", file);
		return false;
	}
	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
		"font-family=\"sans-serif\" font-size=\"11\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
		COLUMNS * (WIDTH + MARGIN) + MARGIN, rows * (HEIGHT + MARGIN * 1.4) + MARGIN);
	fprintf(f,
		"<text x=\"%.0f\" y=\"18\">misses (0 to 1) by budget (0 to all bytes of the "
		"trace): <tspan fill=\"#999\">exact LRU</tspan>, "
		"<tspan fill=\"#c00\">sampled by libocache</tspan></text>\n",
		MARGIN);
	for (unsigned i = 0; i < drawn; i++) {
		unsigned row = i / COLUMNS;

		fprintf(f, "<g transform=\"translate(%.0f %.0f)\">\n",
			MARGIN + i % COLUMNS * (WIDTH + MARGIN),
			MARGIN * 1.2 + row * (HEIGHT + MARGIN * 1.4));
		fprintf(f,
			"<rect width=\"%.0f\" height=\"%.0f\" fill=\"none\" stroke=\"#ccc\"/>\n"
			"<path d=\"M0 %.0fH%.0f\" stroke=\"#eee\"/>\n<text x=\"4\" y=\"-4\">",
			WIDTH, HEIGHT, HEIGHT / 2, WIDTH);
		for (const char *c = panels[i].trace; *c != '\0'; c++)
			fputc(strchr("<>&", *c) != NULL ? ' ' : *c, f);
		fprintf(f,
			"</text>\n<text x=\"-14\" y=\"9\">1</text>"
			"<text x=\"-14\" y=\"%.0f\">0</text>\n",
			HEIGHT);
		path(f, panels[i].exact, "stroke=\"#999\" stroke-width=\"4\"");
		path(f, panels[i].sampled, "stroke=\"#c00\" stroke-width=\"1.2\"");
		fprintf(f, "</g>\n");
	}
	fprintf(f, "</svg>\n");
	if (ferror(f) != 0 || fclose(f) != 0) {
		fprintf(stderr, "policies: %s cannot be written: %m\n", file);
		return false;
	}
	return true;
}
