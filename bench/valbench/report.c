/* SPDX-License-Identifier: Apache-2.0 */
/* Adding up and printing; see report.h. */
#include <string.h>

#include "bench/valbench/report.h"

static uint64_t get(const _Atomic uint64_t *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

static void add(_Atomic uint64_t *to, const _Atomic uint64_t *from)
{
	hist_bump_(to, get(from));
}

static uint64_t ops_of(const struct conn_stats *s)
{
	return get(&s->hit.count) + get(&s->miss.count) + get(&s->set.count);
}

void report_collect(struct report *r, struct worker *workers, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct worker *w = &workers[i];
		const struct conn_stats *s = &w->stats;
		double seconds = w->end_ns > w->begin_ns && w->begin_ns > 0
				     ? (double)(w->end_ns - w->begin_ns) / 1e9
				     : 0;

		hist_merge(&r->stats.hit, &s->hit);
		hist_merge(&r->stats.miss, &s->miss);
		hist_merge(&r->stats.set, &s->set);
		add(&r->stats.bytes_in, &s->bytes_in);
		add(&r->stats.bytes_out, &s->bytes_out);
		add(&r->stats.stored, &s->stored);
		add(&r->stats.not_stored, &s->not_stored);
		r->wrong_values += get(&s->wrong_values) + get(&w->discard.wrong_values);
		r->protocol_errors += get(&s->protocol_errors) + get(&w->discard.protocol_errors);
		r->lost += get(&s->lost) + get(&w->discard.lost);
		r->server_errors += get(&s->server_errors) + get(&w->discard.server_errors);
		r->loaded += get(&w->loaded);
		if (seconds > 0)
			r->rate += (double)ops_of(s) / seconds;
		if (seconds > r->seconds)
			r->seconds = seconds;
	}
}

bool report_failed(const struct report *r)
{
	return r->wrong_values > 0 || r->protocol_errors > 0 || r->lost > 0 ||
	       (r->server_errors > 0 && !r->opt->tolerate);
}

static double over(double a, double b)
{
	return b > 0 ? a / b : 0;
}

static void table_line(FILE *f, const char *name, const struct hist *h, double seconds)
{
	uint64_t n = get(&h->count);

	if (n == 0)
		return;
	fprintf(f, "%-9s %12llu %12.0f %9.1f %9.1f %9.1f %9.1f %10.1f\n", name,
		(unsigned long long)n, over((double)n, seconds),
		(double)hist_quantile(h, 0.50) / 1e3, (double)hist_quantile(h, 0.90) / 1e3,
		(double)hist_quantile(h, 0.99) / 1e3, (double)hist_quantile(h, 0.999) / 1e3,
		(double)get(&h->max) / 1e3);
}

void report_table(const struct report *r, FILE *f)
{
	const struct conn_stats *s = &r->stats;
	const struct watch_sample *d = &r->seen;
	double ops = (double)ops_of(s), hits = (double)get(&s->hit.count);
	double gets = hits + (double)get(&s->miss.count);

	if (r->opt->load)
		fprintf(f, "loaded %llu keys in %.2f s (%.0f/s)\n", (unsigned long long)r->loaded,
			r->load_s, over((double)r->loaded, r->load_s));
	if (r->opt->run) {
		fprintf(f, "%-9s %12s %12s %9s %9s %9s %9s %10s   (us)\n", "", "count", "per s",
			"p50", "p90", "p99", "p99.9", "max");
		table_line(f, "get hit", &s->hit, r->seconds);
		table_line(f, "get miss", &s->miss, r->seconds);
		table_line(f, "set", &s->set, r->seconds);
		fprintf(f, "total %.0f ops/s over %.2f s; in %.1f MiB/s, out %.1f MiB/s", r->rate,
			r->seconds, over((double)get(&s->bytes_in) / 1048576, r->seconds),
			over((double)get(&s->bytes_out) / 1048576, r->seconds));
		if (gets > 0)
			fprintf(f, "; hit ratio %.4f", hits / gets);
		fprintf(f, "\nclient CPU %.2f us/op", over(d->self_cpu_s * 1e6, ops));
		if (d->have_process)
			fprintf(
			    f,
			    "; server CPU %.2f us/op (user %.2f, system %.2f), context switches "
			    "%.3f/op, RSS %.1f MiB",
			    over((d->cpu_user_s + d->cpu_system_s) * 1e6, ops),
			    over(d->cpu_user_s * 1e6, ops), over(d->cpu_system_s * 1e6, ops),
			    over((double)(d->switches_voluntary + d->switches_forced), ops),
			    (double)d->rss_bytes / 1048576);
		if (d->have_io)
			fprintf(f, "\nserver read %.0f bytes per hit, wrote %.1f MiB",
				over((double)d->read_bytes, hits),
				(double)d->write_bytes / 1048576);
		if (d->have_disk)
			fprintf(f,
				"\ndisk: %.4f reads per hit, %.0f bytes read per hit, %.1f MiB "
				"written",
				over((double)d->disk_reads, hits),
				over((double)d->disk_read_bytes, hits),
				(double)d->disk_write_bytes / 1048576);
		fputc('\n', f);
	}
	if (get(&s->not_stored) > 0)
		fprintf(f, "%llu sets were not stored\n", (unsigned long long)get(&s->not_stored));
	if (r->server_errors > 0)
		fprintf(f, "%llu SERVER_ERROR answers\n", (unsigned long long)r->server_errors);
	if (report_failed(r))
		fprintf(f,
			"FAILED: %llu wrong values, %llu protocol errors, %llu connections "
			"lost\n",
			(unsigned long long)r->wrong_values, (unsigned long long)r->protocol_errors,
			(unsigned long long)r->lost);
	else
		fprintf(f, "no wrong answer%s\n",
			r->opt->verify ? "" : " (frames only; contents were not verified)");
}

void report_json_string(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s != '\0'; s++) {
		if (*s == '"' || *s == '\\')
			fprintf(f, "\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			fprintf(f, "\\u%04x", (unsigned)*s);
		else
			fputc(*s, f);
	}
	fputc('"', f);
}

static void json_hist(FILE *f, const char *name, const struct hist *h)
{
	uint64_t n = get(&h->count);

	fprintf(
	    f,
	    "  \"%s\": {\"count\": %llu, \"mean_us\": %.3f, \"p50_us\": %.3f, \"p90_us\": %.3f, "
	    "\"p99_us\": %.3f, \"p999_us\": %.3f, \"max_us\": %.3f},\n",
	    name, (unsigned long long)n, over((double)get(&h->sum) / 1e3, (double)n),
	    (double)hist_quantile(h, 0.50) / 1e3, (double)hist_quantile(h, 0.90) / 1e3,
	    (double)hist_quantile(h, 0.99) / 1e3, (double)hist_quantile(h, 0.999) / 1e3,
	    (double)get(&h->max) / 1e3);
}

static void json_seen(FILE *f, const char *name, const struct watch_sample *d, double ops,
		      double hits)
{
	fprintf(f, "  \"%s\": {\"client_cpu_us_per_op\": %.4f", name,
		over(d->self_cpu_s * 1e6, ops));
	if (d->have_process)
		fprintf(f,
			", \"server_cpu_us_per_op\": %.4f, \"server_user_s\": %.2f, "
			"\"server_system_s\": %.2f, \"switches_voluntary\": %llu, "
			"\"switches_forced\": %llu, \"switches_per_op\": %.4f, "
			"\"server_rss_bytes\": %llu, \"server_threads\": %llu",
			over((d->cpu_user_s + d->cpu_system_s) * 1e6, ops), d->cpu_user_s,
			d->cpu_system_s, (unsigned long long)d->switches_voluntary,
			(unsigned long long)d->switches_forced,
			over((double)(d->switches_voluntary + d->switches_forced), ops),
			(unsigned long long)d->rss_bytes, (unsigned long long)d->threads);
	if (d->have_io)
		fprintf(f, ", \"server_read_bytes\": %llu, \"server_write_bytes\": %llu",
			(unsigned long long)d->read_bytes, (unsigned long long)d->write_bytes);
	if (d->have_disk)
		fprintf(f,
			", \"disk_reads\": %llu, \"disk_read_bytes\": %llu, \"disk_writes\": %llu, "
			"\"disk_write_bytes\": %llu, \"disk_reads_per_hit\": %.5f",
			(unsigned long long)d->disk_reads, (unsigned long long)d->disk_read_bytes,
			(unsigned long long)d->disk_writes, (unsigned long long)d->disk_write_bytes,
			over((double)d->disk_reads, hits));
	fprintf(f, "},\n");
}

void report_json(const struct report *r, FILE *f, int argc, char **argv)
{
	const struct conn_stats *s = &r->stats;
	double ops = (double)ops_of(s), hits = (double)get(&s->hit.count);
	double gets = hits + (double)get(&s->miss.count);

	fprintf(f, "{\n  \"command\": [");
	for (int i = 0; i < argc; i++) {
		if (i > 0)
			fputs(", ", f);
		report_json_string(f, argv[i]);
	}
	fprintf(f, "],\n  \"threads\": %u, \"connections\": %u, \"depth\": %u, \"keys\": %llu,\n",
		r->opt->threads, r->opt->connections, r->opt->depth,
		(unsigned long long)r->opt->keys.n);
	if (r->opt->keys.dist == KEYS_RECENT || r->opt->keys.dist == KEYS_CHURN)
		fprintf(f, "  \"next_key\": %llu,\n",
			(unsigned long long)(r->opt->keys.first + get(&r->opt->keys.written)));
	fprintf(f, "  \"verify\": \"%s\", \"mode\": \"%s\",\n", r->opt->verify ? "full" : "frame",
		r->opt->mode == MODE_BINARY ? "binary"
		: r->opt->mode == MODE_META ? "meta"
					    : "text");
	fprintf(f, "  \"loaded\": %llu, \"load_s\": %.4f,\n", (unsigned long long)r->loaded,
		r->load_s);
	json_seen(f, "during_load", &r->load_seen, (double)r->loaded, 0);
	fprintf(f, "  \"seconds\": %.4f, \"ops\": %.0f, \"ops_per_s\": %.2f,\n", r->seconds, ops,
		r->rate);
	fprintf(f, "  \"hit_ratio\": %.6f,\n", over(hits, gets));
	json_hist(f, "get_hit", &s->hit);
	json_hist(f, "get_miss", &s->miss);
	json_hist(f, "set", &s->set);
	fprintf(f,
		"  \"bytes_in\": %llu, \"bytes_out\": %llu, \"stored\": %llu, "
		"\"not_stored\": %llu,\n",
		(unsigned long long)get(&s->bytes_in), (unsigned long long)get(&s->bytes_out),
		(unsigned long long)get(&s->stored), (unsigned long long)get(&s->not_stored));
	json_seen(f, "watched", &r->seen, ops, hits);
	fprintf(f,
		"  \"wrong_values\": %llu, \"protocol_errors\": %llu, \"lost\": %llu, "
		"\"server_errors\": %llu,\n  \"failed\": %s\n}\n",
		(unsigned long long)r->wrong_values, (unsigned long long)r->protocol_errors,
		(unsigned long long)r->lost, (unsigned long long)r->server_errors,
		report_failed(r) ? "true" : "false");
}
