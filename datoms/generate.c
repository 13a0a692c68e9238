/* SPDX-License-Identifier: Apache-2.0 */
/* Databases from a seed; see generate.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/xxh.h"
#include "datoms/generate.h"

#define PARTITION_TX   (3ull << 42)
#define PARTITION_USER (4ull << 42)
#define EPOCH_MS       1400000000000ll
#define TX_ENTITIES    20u
#define TEXT_LONGEST   64u

enum kind { COUNTRY, ARTIST, RELEASE, TRACK, LISTENER, PLAY, KINDS };

struct maker {
	uint64_t random;
	struct datom *datoms;
	uint64_t n, room;
	char *texts;
	size_t text_n, text_room;
	uint64_t entities, t;
	int64_t now_ms;
	/* of each kind the numbers of its entities */
	uint32_t *of[KINDS];
	uint32_t of_n[KINDS], of_room[KINDS];
	bool no_memory;
};

/* ---- chance ---- */

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static uint64_t draw(uint64_t *random, uint64_t below)
{
	*random += 0x9e3779b97f4a7c15ull;
	return mix(*random) % below;
}

/* The small ones far more often: half of all draws are in the first eighth. */
static uint64_t skewed(uint64_t *random, uint64_t below)
{
	uint64_t x = draw(random, 1 << 20);

	x = (x * x >> 20) * x >> 20;
	return x * below >> 20;
}

/* ---- datoms ---- */

static void push(struct maker *m, struct datom d)
{
	if (m->n == m->room) {
		uint64_t room = m->room == 0 ? 4096 : m->room + m->room / 2;
		struct datom *more = realloc(m->datoms, room * sizeof *more);

		if (more == NULL) {
			m->no_memory = true;
			return;
		}
		m->datoms = more;
		m->room = room;
	}
	m->datoms[m->n++] = d;
}

static void put(struct maker *m, uint64_t e, uint32_t a, struct value v)
{
	push(m, (struct datom){.e = e, .a = a, .v = v, .t = m->t, .added = true});
}

static void put_number(struct maker *m, uint64_t e, uint32_t a, enum value_type type, int64_t n)
{
	put(m, e, a, (struct value){.type = (uint8_t)type, .n = n});
}

static void put_ref(struct maker *m, uint64_t e, uint32_t a, enum kind kind)
{
	uint32_t n = m->of_n[kind];

	if (n > 0)
		put(m, e, a,
		    (struct value){.type = VALUE_REF,
				   .ref = generate_entity(m->of[kind][skewed(&m->random, n)])});
}

/* Texts move while they grow: till the end a value has its place instead of a pointer. */
static void put_text(struct maker *m, uint64_t e, uint32_t a, const char *text, size_t len)
{
	if (m->texts == NULL || m->text_room - m->text_n < len) {
		size_t room = m->text_room == 0 ? 1 << 16 : m->text_room * 2;
		char *more = realloc(m->texts, room);

		if (more == NULL) {
			m->no_memory = true;
			return;
		}
		m->texts = more;
		m->text_room = room;
	}
	memcpy(m->texts + m->text_n, text, len);
	put(m, e, a,
	    (struct value){.type = VALUE_STRING, .len = (uint32_t)len, .n = (int64_t)m->text_n});
	m->text_n += len;
}

static void put_name(struct maker *m, uint64_t e, uint32_t a, unsigned words)
{
	static const char *const part[] = {"ba",  "sol", "mer", "ti",  "ka",  "lu",  "ven", "dor",
					   "a",   "shi", "nor", "el",  "gra", "pi",  "mo",  "run",
					   "sta", "wel", "o",   "hen", "ci",  "fal", "ju",  "ter"};
	char text[TEXT_LONGEST] = "";
	size_t n = 0;

	for (unsigned w = 0; w < words; w++) {
		size_t begin = n;

		if (n > 0)
			text[n++] = ' ', begin++;
		for (uint64_t left = 2 + draw(&m->random, 2); left > 0 && n < sizeof text - 8;
		     left--) {
			const char *p = part[draw(&m->random, sizeof part / sizeof *part)];

			for (; *p != '\0'; p++)
				text[n++] = *p;
		}
		text[begin] = (char)(text[begin] - 'a' + 'A');
		if (n >= sizeof text - 8)
			break;
	}
	put_text(m, e, a, text, n);
}

static void put_gid(struct maker *m, uint64_t e, uint32_t a)
{
	struct seg_id id = {mix(e ^ m->random), mix(e + m->random)};
	char text[SEG_ID_TEXT];

	seg_id_format(id, text);
	put_text(m, e, a, text, SEG_ID_TEXT - 1);
}

static struct value keyword_of(uint32_t a, uint64_t which)
{
	static const char *const artist[] = {"artist.type/person", "artist.type/group",
					     "artist.type/other"};
	static const char *const status[] = {"release.status/official", "release.status/promotion",
					     "release.status/bootleg", "release.status/withdrawn"};
	const char *text = a == A_ARTIST_TYPE ? artist[which % 3] : status[which % 4];

	return (struct value){.type = VALUE_KEYWORD, .len = (uint32_t)strlen(text), .text = text};
}

/* ---- entities ---- */

uint64_t generate_entity(uint64_t number)
{
	return PARTITION_USER + number;
}

static uint64_t begin_entity(struct maker *m, enum kind kind)
{
	if (m->of_n[kind] == m->of_room[kind]) {
		uint32_t room = m->of_room[kind] == 0 ? 64 : m->of_room[kind] * 2;
		uint32_t *more = realloc(m->of[kind], room * sizeof *more);

		if (more == NULL) {
			m->no_memory = true;
			return PARTITION_USER;
		}
		m->of[kind] = more;
		m->of_room[kind] = room;
	}
	m->of[kind][m->of_n[kind]++] = (uint32_t)m->entities;
	return generate_entity(m->entities++);
}

static void add_entity(struct maker *m, enum kind kind)
{
	uint64_t e = begin_entity(m, kind), *r = &m->random;

	switch (kind) {
	case COUNTRY:
		put_name(m, e, A_ARTIST_NAME, 1); /* countries have names as artists do */
		break;
	case ARTIST:
		put_gid(m, e, A_ARTIST_GID);
		put_name(m, e, A_ARTIST_NAME, 1 + (unsigned)draw(r, 3));
		put(m, e, A_ARTIST_TYPE, keyword_of(A_ARTIST_TYPE, skewed(r, 3)));
		put_ref(m, e, A_ARTIST_COUNTRY, COUNTRY);
		if (draw(r, 3) > 0)
			put_number(m, e, A_ARTIST_START, VALUE_LONG, 1920 + (int64_t)draw(r, 100));
		break;
	case RELEASE:
		put_gid(m, e, A_RELEASE_GID);
		put_name(m, e, A_RELEASE_NAME, 1 + (unsigned)draw(r, 4));
		for (uint64_t i = draw(r, 8) == 0 ? 3 : 1; i > 0; i--)
			put_ref(m, e, A_RELEASE_ARTISTS, ARTIST);
		put_number(m, e, A_RELEASE_YEAR, VALUE_LONG, 1950 + (int64_t)draw(r, 70));
		put(m, e, A_RELEASE_STATUS, keyword_of(A_RELEASE_STATUS, skewed(r, 3)));
		break;
	case TRACK:
		put_name(m, e, A_TRACK_NAME, 1 + (unsigned)draw(r, 5));
		put_number(m, e, A_TRACK_POSITION, VALUE_LONG, 1 + (int64_t)draw(r, 20));
		put_number(m, e, A_TRACK_DURATION, VALUE_LONG, 60000 + (int64_t)draw(r, 400000));
		put_ref(m, e, A_TRACK_RELEASE, RELEASE);
		put_ref(m, e, A_TRACK_ARTISTS, ARTIST);
		break;
	case LISTENER:
		put_name(m, e, A_LISTENER_NAME, 2);
		put_number(m, e, A_LISTENER_JOINED, VALUE_INSTANT, m->now_ms);
		put_ref(m, e, A_LISTENER_COUNTRY, COUNTRY);
		break;
	case PLAY:
		put_ref(m, e, A_PLAY_TRACK, TRACK);
		put_ref(m, e, A_PLAY_LISTENER, LISTENER);
		put_number(m, e, A_PLAY_AT, VALUE_INSTANT, m->now_ms - (int64_t)draw(r, 3600000));
		put_number(m, e, A_PLAY_SECONDS, VALUE_LONG, (int64_t)draw(r, 460));
		break;
	case KINDS:
		break;
	}
}

/* Another status for some release: the old one is retracted, unless this transaction asserted it. */
static void change(struct maker *m)
{
	struct datom *d = &m->datoms[draw(&m->random, m->n)], was = *d;
	struct value now = keyword_of(A_RELEASE_STATUS, draw(&m->random, 4));

	if (was.a != A_RELEASE_STATUS || !was.added || was.t == m->t ||
	    value_compare(&was.v, &now) == 0)
		return;
	was.t = m->t;
	was.added = false;
	push(m, was);
	put(m, was.e, was.a, now);
}

static enum kind next_kind(struct maker *m)
{
	uint64_t x = draw(&m->random, 100);

	if (m->of_n[LISTENER] == 0)
		return LISTENER;
	return m->of_n[ARTIST] == 0 || x < 5     ? ARTIST
	       : m->of_n[RELEASE] == 0 || x < 17 ? RELEASE
	       : m->of_n[TRACK] == 0 || x < 60   ? TRACK
	       : x < 65                          ? LISTENER
						 : PLAY;
}

static void transact(struct maker *m, uint64_t number)
{
	m->t = PARTITION_TX + number;
	m->now_ms += 1 + (int64_t)draw(&m->random, 60000);
	put_number(m, m->t, A_TX_INSTANT, VALUE_INSTANT, m->now_ms);
	for (unsigned i = 0; i < TX_ENTITIES && !m->no_memory; i++) {
		add_entity(m, number == 0 ? COUNTRY : next_kind(m));
		for (unsigned c = 0; c < 4; c++)
			change(m);
	}
}

/* ---- sorting ---- */

static int by_eavt(const void *x, const void *y)
{
	return datom_compare(SORT_EAVT, x, y, DATOM_PARTS);
}
static int by_aevt(const void *x, const void *y)
{
	return datom_compare(SORT_AEVT, x, y, DATOM_PARTS);
}
static int by_avet(const void *x, const void *y)
{
	return datom_compare(SORT_AVET, x, y, DATOM_PARTS);
}
static int by_vaet(const void *x, const void *y)
{
	return datom_compare(SORT_VAET, x, y, DATOM_PARTS);
}
static int (*const by_sort[DATOM_SORTS])(const void *, const void *) = {by_eavt, by_aevt, by_avet,
									by_vaet};

static bool indexed(uint32_t a)
{
	static const bool is[] = {
#define X(id, name, type, indexed) [id] = (indexed),
	    GENERATE_ATTRIBUTES(X)
#undef X
	};

	return a < sizeof is && is[a];
}

int generate_sorted(const struct generated *g, enum datom_sort sort, struct datom **out,
		    uint64_t *n)
{
	struct datom *d = malloc((size_t)g->n * sizeof *d);
	uint64_t kept = 0;

	if (d == NULL)
		return -ENOMEM;
	for (uint64_t i = 0; i < g->n; i++)
		if (datom_in_sort(sort, &g->datoms[i]) &&
		    (sort != SORT_AVET || indexed(g->datoms[i].a)))
			d[kept++] = g->datoms[i];
	if (sort != SORT_EAVT)
		qsort(d, kept, sizeof *d, by_sort[sort]);
	*out = d;
	*n = kept;
	return 0;
}

/* Texts get their pointers, all is sorted, and what is there twice (an artist drawn twice) goes. */
static void finish(struct maker *m)
{
	uint64_t kept = 1;

	for (uint64_t i = 0; i < m->n; i++)
		if (m->datoms[i].v.type == VALUE_STRING)
			m->datoms[i].v.text = m->texts + m->datoms[i].v.n;
	qsort(m->datoms, m->n, sizeof *m->datoms, by_eavt);
	for (uint64_t i = 1; i < m->n; i++)
		if (by_eavt(&m->datoms[kept - 1], &m->datoms[i]) != 0)
			m->datoms[kept++] = m->datoms[i];
	m->n = kept;
}

int generate(uint64_t seed, uint64_t n, struct generated **out)
{
	struct maker m = {.random = mix(seed + 1), .now_ms = EPOCH_MS};
	struct generated *g = malloc(sizeof *g);

	for (uint64_t tx = 0; g != NULL && m.n < n && !m.no_memory; tx++)
		transact(&m, tx);
	for (unsigned k = 0; k < KINDS; k++)
		free(m.of[k]);
	if (g == NULL || m.no_memory) {
		free(m.datoms);
		free(m.texts);
		free(g);
		return -ENOMEM;
	}
	finish(&m);
	*g = (struct generated){
	    .seed = seed, .n = m.n, .datoms = m.datoms, .texts = m.texts, .entities = m.entities};
	*out = g;
	return 0;
}

void generate_free(struct generated *g)
{
	if (g == NULL)
		return;
	free(g->datoms);
	free(g->texts);
	free(g);
}

/* ---- storing ---- */

struct store {
	const struct generated *g;
	struct ocache *cache;
	enum datom_sort sort;
	struct generate_count *count;
	void (*each)(void *ctx, enum datom_sort sort, enum segment_level level, struct seg_id id,
		     uint32_t datoms, size_t len);
	void *ctx;
};

/* A UUID of version 4, as far as it can be seen. */
static struct seg_id name(void *ctx, enum segment_level level, uint32_t number)
{
	const struct store *s = ctx;
	uint64_t what[5] = {s->g->seed, s->g->n, s->sort, level, number};
	XXH128_hash_t h = XXH3_128bits(what, sizeof what);

	return (struct seg_id){(h.high64 & ~0xf000ull) | 0x4000,
			       (h.low64 & ~(3ull << 62)) | 2ull << 62};
}

static int emit(void *ctx, enum segment_level level, struct seg_id id, uint32_t datoms,
		const void *bytes, size_t len)
{
	struct store *s = ctx;

	s->count->segments[s->sort][level]++;
	s->count->bytes += len;
	if (s->each != NULL)
		s->each(s->ctx, s->sort, level, id, datoms, len);
	return ocache_put(s->cache, id, bytes, len, 0);
}

int generate_store(const struct generated *g, struct ocache *cache, struct tree_roots *roots,
		   struct generate_count *count,
		   void (*each)(void *, enum datom_sort, enum segment_level, struct seg_id,
				uint32_t, size_t),
		   void *ctx)
{
	struct store s = {.g = g, .cache = cache, .count = count, .each = each, .ctx = ctx};
	struct tree_writer w = {.name = name, .emit = emit, .ctx = &s};
	int err = 0;

	memset(roots, 0, sizeof *roots);
	memset(count, 0, sizeof *count);
	for (unsigned i = 0; i < DATOM_SORTS && err == 0; i++) {
		struct datom *d;
		uint64_t n;

		s.sort = (enum datom_sort)i;
		err = generate_sorted(g, s.sort, &d, &n);
		if (err != 0)
			break;
		if (n > 0)
			err = tree_write(s.sort, d, n, &w, &roots->id[i]);
		free(d);
	}
	return err;
}

/* ---- calls ---- */

const char *const generate_call_name[CALLS] = {"lookup", "entity", "range", "referrers"};

enum generate_call generate_call(const struct generated *g, uint64_t i, struct tree_range *range)
{
	uint64_t random = mix(g->seed ^ mix(i)), x = draw(&random, 100);
	/* a datom of a popular entity: so there is one */
	const struct datom *d = &g->datoms[skewed(&random, g->n)];
	uint64_t left = g->n;
	struct value to;

	/* the first datom from there on that the call can be about; a lookup if there is none */
	while (x >= 75 && left > 0 &&
	       (x < 90 ? !indexed(d->a) || value_is_text(d->v.type) : d->v.type != VALUE_REF)) {
		d = d + 1 < g->datoms + g->n ? d + 1 : g->datoms;
		left--;
	}
	to = d->v;
	if (x < 50 || left == 0) {
		*range = tree_lookup(d->e, d->a);
		return CALL_LOOKUP;
	}
	if (x < 75) {
		*range = tree_entity(d->e);
		return CALL_ENTITY;
	}
	if (x < 90) {
		to.n += d->v.type == VALUE_INSTANT ? 600000 : 1;
		*range = tree_values(d->a, d->v, to);
		return CALL_RANGE;
	}
	*range =
	    draw(&random, 2) == 0 ? tree_referrers(d->v.ref) : tree_referrers_by(d->v.ref, d->a);
	return CALL_REFERRERS;
}
