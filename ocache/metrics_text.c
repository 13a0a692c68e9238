/* SPDX-License-Identifier: Apache-2.0 */
/* Reports of metrics and curves as text; see metrics.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ocache/data.h"
#include "ocache/metrics.h"

static bool put_value(struct data *map, const char *keyword, const struct ocache_metric *m,
		      double value)
{
	if (strcmp(m->unit, "msec") == 0)
		return data_put_ms(map, keyword, (uint64_t)(value * 1e6 + 0.5), true);
	return data_put_whole(map, keyword, (uint64_t)value);
}

static bool put_metric(struct data *map, const struct ocache_metric *m)
{
	struct data *d;

	if (strcmp(m->name, "ObjectCacheCount") == 0)
		return put_value(map, m->name, m, m->sum);
	d = data_put(map, m->name);
	if (d == NULL)
		return false;
	d->kind = DATA_MAP;
	return put_value(d, "lo", m, m->lo) && put_value(d, "hi", m, m->hi) &&
	       put_value(d, "sum", m, m->sum) && data_put_whole(d, "count", m->count);
}

static char *text_of(const struct ocache_metrics *report,
		     void (*write)(struct data_out *, const struct data *))
{
	struct data map = {.kind = DATA_MAP};
	struct data_out out = {0};
	bool ok = true;

	for (unsigned i = 0; ok && i < report->n; i++)
		ok = put_metric(&map, &report->metric[i]);
	if (ok)
		write(&out, &map);
	data_clear(&map);
	return ok ? data_out_end(&out) : NULL;
}

char *ocache_metrics_edn(const struct ocache_metrics *report)
{
	return text_of(report, edn_write);
}

char *ocache_metrics_json(const struct ocache_metrics *report)
{
	return text_of(report, json_write);
}

/* ---- the curve ---- */

double ocache_curve_misses(const struct ocache_curve *curve, uint64_t bytes)
{
	struct ocache_curve_point from = {0, 1}, to;
	unsigned i = 0;

	while (i < curve->n && curve->point[i].bytes <= bytes)
		i++;
	if (i > 0)
		from = curve->point[i - 1];
	if (i == curve->n)
		return from.misses;
	to = curve->point[i];
	return from.misses + (to.misses - from.misses) * (double)(bytes - from.bytes) /
				 (double)(to.bytes - from.bytes);
}

static bool add_number(struct data *list, const char *number)
{
	struct data *d = data_add(list);

	return d != NULL && data_text(d, DATA_NUMBER, number, strlen(number));
}

static bool add_point(struct data *list, const struct ocache_curve_point *p)
{
	struct data *d = data_add(list);
	unsigned part = (unsigned)(p->misses * 10000 + 0.5);
	char bytes[24], misses[16];

	if (d == NULL)
		return false;
	d->kind = DATA_VECTOR;
	/* in whole numbers: the program's locale may want a comma */
	snprintf(bytes, sizeof bytes, "%" PRIu64, p->bytes);
	snprintf(misses, sizeof misses, "%u.%04u", part / 10000, part % 10000);
	return add_number(d, bytes) && add_number(d, misses);
}

static char *text_of_curve(const struct ocache_curve *curve,
			   void (*write)(struct data_out *, const struct data *))
{
	struct data map = {.kind = DATA_MAP}, *points = NULL;
	struct data_out out = {0};
	bool ok = data_put_whole(&map, "accesses", curve->accesses) &&
		  data_put_whole(&map, "objects", curve->objects) &&
		  data_put_whole(&map, "one-in", (uint64_t)(curve->one_in + 0.5));

	if (ok)
		points = data_put(&map, "points");
	ok = points != NULL;
	if (ok)
		points->kind = DATA_VECTOR;
	for (unsigned i = 0; ok && i < curve->n; i++)
		ok = add_point(points, &curve->point[i]);
	if (ok)
		write(&out, &map);
	data_clear(&map);
	return ok ? data_out_end(&out) : NULL;
}

char *ocache_curve_edn(const struct ocache_curve *curve)
{
	return text_of_curve(curve, edn_write);
}

char *ocache_curve_json(const struct ocache_curve *curve)
{
	return text_of_curve(curve, json_write);
}
