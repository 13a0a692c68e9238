/* SPDX-License-Identifier: Apache-2.0 */
/* Reports of metrics as text; see metrics.h. */
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
