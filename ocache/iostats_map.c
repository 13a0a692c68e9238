/* SPDX-License-Identifier: Apache-2.0 */
/* io-stats maps: made of sums, asked, written and read; see iostats.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ocache/iostats_int.h"

struct iostats_map {
	struct data root;
};

static const char *const sort_key[SORTS] = {
    [IOSTATS_EAVT] = "eavt",
    [IOSTATS_AEVT] = "aevt",
    [IOSTATS_AVET] = "avet",
    [IOSTATS_VAET] = "vaet",
};

/* key and key-load, by a sort or by all that are directory nodes */
static bool put_pair(struct data *reads, const char *key, uint64_t all, uint64_t loads)
{
	char load[32];

	snprintf(load, sizeof load, "%s-load", key);
	return data_put_count(reads, key, all) && data_put_count(reads, load, loads);
}

static bool put_reads(struct data *reads, const struct totals *t)
{
	uint64_t all = 0, dir[2] = {0}, n[2];
	char ms[TIER_KEY_LEN + 8];
	bool ok = true;

	reads->kind = DATA_MAP;
	for (unsigned s = 0; s < SORTS; s++) {
		for (unsigned load = 0; load < 2; load++) {
			n[load] = t->access[s][0][load] + t->access[s][1][load];
			dir[load] += t->access[s][1][load];
		}
		all += n[0] + n[1];
		if (sort_key[s] != NULL)
			ok = ok && put_pair(reads, sort_key[s], n[0] + n[1], n[1]);
	}
	ok = ok && put_pair(reads, "dir", dir[0] + dir[1], dir[1]);
	ok = ok && data_put_count(reads, "ocache", all);
	for (unsigned i = 0; ok && i < TIERS_CELLS; i++) {
		if (t->tier[i].key[0] == '\0')
			continue;
		snprintf(ms, sizeof ms, "%s-ms", t->tier[i].key);
		ok = data_put_count(reads, t->tier[i].key, t->tier[i].reads) &&
		     data_put_ms(reads, ms, t->tier[i].ns, false);
	}
	return ok && data_put_ms(reads, "inflight-lookup-ms", t->inflight_ns, false) &&
	       data_put_count(reads, "deserialize", t->deserialize) &&
	       data_put_ms(reads, "deserialize-ms", t->deserialize_ns, false);
}

static bool put_all(struct data *map, const char *api, const char *io_context, uint64_t api_ns,
		    const struct totals *t, const struct nested *nested)
{
	struct data *d;

	map->kind = DATA_MAP;
	if (io_context != NULL && !data_put_keyword(map, "io-context", io_context))
		return false;
	if (!data_put_keyword(map, "api", api) || !data_put_ms(map, "api-ms", api_ns, true))
		return false;
	d = data_put(map, "reads");
	if (d == NULL || !put_reads(d, t))
		return false;
	if (nested == NULL)
		return true;
	d = data_put(map, "nested");
	if (d == NULL)
		return false;
	d->kind = DATA_MAP;
	for (; nested != NULL; nested = nested->next) {
		struct data *kid = data_put(d, nested->io_context);

		if (kid == NULL || !put_all(kid, nested->api, nested->io_context, nested->api_ns,
					    &nested->totals, nested->nested))
			return false;
	}
	return true;
}

struct iostats_map *iostats__map(const char *api, const char *io_context, uint64_t api_ns,
				 const struct totals *t, const struct nested *nested)
{
	struct iostats_map *map = calloc(1, sizeof *map);

	if (map != NULL && !put_all(&map->root, api, io_context, api_ns, t, nested)) {
		iostats_map_free(map);
		map = NULL;
	}
	return map;
}

void iostats_map_free(struct iostats_map *map)
{
	if (map == NULL)
		return;
	data_clear(&map->root);
	free(map);
}

/* ---- asking ---- */

static const struct data *find(const struct iostats_map *map, const char *path)
{
	const struct data *d = map != NULL ? &map->root : NULL;

	while (d != NULL && *path != '\0') {
		size_t n = strcspn(path, " ");

		d = data_get(d, path, n);
		path += n;
		path += *path == ' ';
	}
	return d;
}

double iostats_map_number(const struct iostats_map *map, const char *path)
{
	return data_number(find(map, path));
}

bool iostats_map_has(const struct iostats_map *map, const char *path)
{
	return find(map, path) != NULL;
}

const char *iostats_map_name(const struct iostats_map *map, const char *path)
{
	const struct data *d = find(map, path);

	if (d == NULL ||
	    (d->kind != DATA_STRING && d->kind != DATA_KEYWORD && d->kind != DATA_SYMBOL))
		return NULL;
	return d->text;
}

bool iostats_map_each(const struct iostats_map *map, const char *path,
		      void (*each)(void *ctx, const char *key, double number), void *ctx)
{
	const struct data *d = find(map, path);

	if (d == NULL || d->kind != DATA_MAP)
		return false;
	for (size_t i = 0; i + 1 < d->kids; i += 2)
		if (d->kid[i].text != NULL)
			each(ctx, d->kid[i].text, data_number(&d->kid[i + 1]));
	return true;
}

/* ---- texts ---- */

char *iostats_edn(const struct iostats_map *map)
{
	struct data_out o = {0};

	if (map == NULL)
		return NULL;
	edn_write(&o, &map->root);
	return data_out_end(&o);
}

char *iostats_json(const struct iostats_map *map)
{
	struct data_out o = {0};

	if (map == NULL)
		return NULL;
	json_write(&o, &map->root);
	return data_out_end(&o);
}

static int read_map(int (*read)(const char *, size_t, struct data *), const char *text, size_t len,
		    struct iostats_map **out)
{
	struct iostats_map *map = calloc(1, sizeof *map);
	int err;

	*out = NULL;
	if (map == NULL)
		return -ENOMEM;
	err = read(text, len, &map->root);
	if (err == 0 && map->root.kind != DATA_MAP)
		err = -EINVAL;
	if (err != 0) {
		iostats_map_free(map);
		return err;
	}
	*out = map;
	return 0;
}

int iostats_edn_read(const char *text, size_t len, struct iostats_map **map)
{
	return read_map(edn_read, text, len, map);
}

int iostats_json_read(const char *text, size_t len, struct iostats_map **map)
{
	return read_map(json_read, text, len, map);
}
