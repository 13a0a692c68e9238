/* SPDX-License-Identifier: Apache-2.0 */
/* Making the segments, and dropping their pages; see segments.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/segments/segments.h"
#include "datoms/generate.h"
#include "efs/efs_int.h"

struct listed {
	struct seg_id *ids;
	uint64_t n, most, bytes, datoms;
};

static void note(void *ctx, enum datom_sort sort, enum segment_level level, struct seg_id id,
		 uint32_t datoms, size_t len)
{
	struct listed *l = ctx;

	(void)sort;
	if (l->n == l->most ||
	    level == SEGMENT_ROOT) /* of roots there are few, and they are small */
		return;
	l->ids[l->n++] = id;
	l->bytes += len;
	l->datoms += datoms;
}

/* In the order of a shuffled pack: neighbours in a tree are not read one after the other. */
static void shuffle(struct listed *l)
{
	uint64_t x = 88172645463325252ull;

	for (uint64_t i = l->n; i > 1; i--) {
		struct seg_id t = l->ids[i - 1];
		uint64_t j;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		j = x % i;
		l->ids[i - 1] = l->ids[j];
		l->ids[j] = t;
	}
}

int make_segments(const struct options *o)
{
	struct listed l = {.ids = calloc(o->count, sizeof(struct seg_id)), .most = o->count};
	struct ocache_tier tier = {.tier = files_open(o), .deadline_ns = 60 * NS_PER_S};
	struct ocache_config cfg = {.struct_size = sizeof cfg,
				    .budget = OCACHE_BUDGET_MIN,
				    .tiers = &tier,
				    .tiers_count = 1};
	struct ocache *cache;
	char *cause;
	FILE *f;

	if (l.ids == NULL)
		die("no memory");
	if (ocache_open(&cfg, &cache, &cause) != 0)
		die("%s", cause);
	for (uint64_t seed = o->seed; l.n < l.most; seed++) {
		struct generate_count count;
		struct tree_roots roots;
		struct generated *g;
		int err = generate(seed, o->datoms, &g);

		if (err == 0)
			err = generate_store(g, cache, &roots, &count, note, &l);
		if (err != 0)
			die("database %llu: %s", (unsigned long long)seed, strerror(-err));
		generate_free(g);
	}
	if (ocache_close(&cache) != 0)
		die("the cache is still in use");
	shuffle(&l);
	f = fopen(o->list, "wb");
	if (f == NULL || fwrite(l.ids, sizeof *l.ids, l.n, f) != l.n || fclose(f) != 0)
		die("%s: %s", o->list, strerror(errno));
	printf(
	    "{\"segments\": %llu, \"bytes\": %llu, \"bytes_mean\": %.0f, \"datoms_mean\": %.0f}\n",
	    (unsigned long long)l.n, (unsigned long long)l.bytes, (double)l.bytes / (double)l.n,
	    (double)l.datoms / (double)l.n);
	free(l.ids);
	return 0;
}

int drop_segments(const struct options *o)
{
	uint32_t n;
	struct seg_id *ids = list_read(o->list, &n);
	int dir = open(o->dir, O_RDONLY | O_DIRECTORY);

	if (dir < 0)
		die("%s: %s", o->dir, strerror(errno));
	for (uint32_t i = 0; i < n; i++) {
		char name[EFS_NAME];
		int fd, err;

		efs__name(ids[i], name);
		fd = openat(dir, name, O_RDONLY);
		if (fd < 0 || fdatasync(fd) != 0)
			die("%s/%s: %s", o->dir, name, strerror(errno));
		err = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		if (err != 0)
			die("%s/%s: %s", o->dir, name, strerror(err));
		close(fd);
	}
	close(dir);
	free(ids);
	printf("{\"segments\": %u}\n", n);
	return 0;
}
