/* SPDX-License-Identifier: Apache-2.0 */
/* Saving what is in the cache, and loading it again; see ocache.h and warm.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cause.h"
#include "ocache/keys.h"
#include "ocache/load.h"
#include "ocache/thread.h"
#include "ocache/warm.h"

#define LOADS     32u
#define SAVE_NS   (600 * NS_PER_S)
#define WALK_STEP 4096u /* entries that are looked at under a shard's lock */

/* ---- saving -------------------------------------------------------------------------- */

struct kept {
	struct seg_id id;
	unsigned worth;
};

struct collect {
	const struct ocache_decoder *decoder;
	struct kept *all;
	uint64_t n, room;
	uint64_t of_worth[POLICY_WORTH_MAX + 1];
	bool no_memory;
};

static void collect_one(void *ctx, const struct entry *e)
{
	struct collect *k = ctx;

	/* what another decoder has made is not loaded by the configuration's */
	if (e->decoder != k->decoder || k->no_memory)
		return;
	if (k->n == k->room) {
		uint64_t room = k->room == 0 ? 4096 : k->room * 2;
		struct kept *more = realloc(k->all, room * sizeof *more);

		if (more == NULL) {
			k->no_memory = true;
			return;
		}
		k->all = more;
		k->room = room;
	}
	k->all[k->n] = (struct kept){e->id, policy_worth(e)};
	k->of_worth[k->all[k->n++].worth]++;
}

static void collect(struct ocache *c, struct collect *k)
{
	for (unsigned i = 0; i < c->shards; i++) {
		struct shard *s = &c->shard[i];
		struct shard_walk walk = {0};
		bool more = true;

		while (more) { /* hits need no lock, and others get it in between */
			pthread_mutex_lock(&s->lock);
			more = shard_walk(s, &walk, WALK_STEP, collect_one, k);
			pthread_mutex_unlock(&s->lock);
		}
	}
}

int ocache_save(struct ocache *c, const char *path, uint64_t *saved, char **cause)
{
	struct collect k = {.decoder = c->decoder};
	uint64_t place[POLICY_WORTH_MAX + 1], at = 0;
	struct seg_id *id;
	int err;

	MAGIC_OK(c, OCACHE_MAGIC);
	if (cause != NULL)
		*cause = NULL;
	collect(c, &k);
	id = malloc((k.n > 0 ? k.n : 1) * sizeof *id);
	if (id == NULL || k.no_memory) {
		free(id);
		free(k.all);
		return cause_fail(cause, -ENOMEM, "%s: there is not enough memory for its ids",
				  path);
	}
	for (unsigned w = POLICY_WORTH_MAX + 1; w-- > 0; at += k.of_worth[w])
		place[w] = at;
	for (uint64_t i = 0; i < k.n; i++)
		id[place[k.all[i].worth]++] = k.all[i].id;
	pthread_mutex_lock(&c->save_lock); /* two of the same name would write into one path.new */
	err = keys_write(path, id, k.n);
	pthread_mutex_unlock(&c->save_lock);
	free(id);
	free(k.all);
	if (err != 0)
		return cause_fail(cause, err, "%s: %s", path, strerror(-err));
	if (saved != NULL)
		*saved = k.n;
	return 0;
}

/* ---- loading ------------------------------------------------------------------------- */

struct loading {
	struct ocache *cache;
	const _Atomic bool *stop;
	unsigned most;
	uint64_t limit; /* bytes of objects */
	pthread_mutex_t lock;
	pthread_cond_t less;
	/* under lock: */
	unsigned out;
	uint64_t loaded, failed, bytes; /* failed: the tiers could not tell */
	bool cancelled;
};

static void loaded_one(void *user, unsigned index, int status, struct ocache_ref *ref)
{
	struct loading *l = user;

	(void)index;
	pthread_mutex_lock(&l->lock);
	l->loaded += status == 0;
	l->failed += status != 0 && status != -ENOENT && status != -EBADMSG;
	l->bytes += status == 0 ? ref->size : 0;
	l->cancelled = l->cancelled || status == -ECANCELED;
	l->out--;
	if (status == 0)
		ocache_release(ref);
	pthread_cond_signal(&l->less);
	pthread_mutex_unlock(&l->lock);
}

static bool stopped(const struct loading *l)
{
	struct shard *s = &l->cache->shard[0];
	bool closing;

	if (l->stop != NULL)
		return atomic_load_explicit(l->stop, memory_order_relaxed);
	pthread_mutex_lock(&s->lock);
	closing = s->closing;
	pthread_mutex_unlock(&s->lock);
	return closing;
}

/* Waits until fewer than `below` loads are out. May one more begin? */
static bool wait_below(struct loading *l, unsigned below)
{
	bool more;

	pthread_mutex_lock(&l->lock);
	while (l->out >= below)
		pthread_cond_wait(&l->less, &l->lock);
	more = !l->cancelled && l->bytes < l->limit && !stopped(l);
	l->out += more;
	pthread_mutex_unlock(&l->lock);
	return more;
}

/* The ids of a block. 0; -ENOMEM; -ECANCELED: no more of them. */
static int load_block(struct loading *l, const struct keys_block *b, struct iostats *io)
{
	struct ocache_stats st;

	ocache_stats(l->cache, &st, sizeof st);
	if (st.resident + st.leaving >= l->limit) /* others fill it, too */
		return -ECANCELED;
	for (uint32_t i = 0; i < b->count; i++) {
		const struct ocache_want want = {.id = b->id[i]};

		if (!wait_below(l, l->most))
			return -ECANCELED;
		if (ocache_submit(l->cache, &want, 1, 0, io, loaded_one, l) != 0) {
			pthread_mutex_lock(&l->lock);
			l->out--;
			pthread_mutex_unlock(&l->lock);
			return -ENOMEM;
		}
	}
	return 0;
}

/* The file's ids in their order, as far as the limit goes. */
static int load_file(struct loading *l, const char *path, struct iostats *io, char **cause)
{
	struct keys_block b;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), res = 1;
	uint32_t good = 0, number;
	struct stat st;

	if (fd < 0)
		return cause_fail(cause, -errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		close(fd);
		return cause_fail(cause, -EBADMSG, "%s: it is not a file",
				  path); /* it may have no end */
	}
	for (number = 0; res == 1 && !stopped(l); number++) {
		res = keys_read(fd, number, &b);
		if (res != 1)
			break;
		good += b.count > 0;
		if (b.count > 0)
			res = load_block(l, &b, io) == 0 ? 1 : 0;
	}
	close(fd);
	if (res < 0)
		return cause_fail(cause, res, "%s: %s", path, strerror(-res));
	if (good == 0 && number > 0)
		return cause_fail(cause, -EBADMSG, "%s: there are no ids in it; it is not used",
				  path);
	return 0;
}

/* l.loaded and l.failed say how many. */
static int load_all(struct loading *l, const struct ocache_warm *how, const char *path,
		    struct iostats *io, char **cause)
{
	struct ocache_stats st;
	int err;

	l->most = how != NULL && how->loads != 0 ? how->loads : LOADS;
	l->limit = how != NULL ? how->bytes : 0;
	if (l->limit == 0) {
		ocache_stats(l->cache, &st, sizeof st);
		l->limit = st.overhead < st.budget ? (st.budget - st.overhead) / 10 * 9 : 0;
	}
	if (cause != NULL)
		*cause = NULL;
	AZ(pthread_mutex_init(&l->lock, NULL));
	AZ(pthread_cond_init(&l->less, NULL));
	err = load_file(l, path, io, cause);
	pthread_mutex_lock(&l->lock);
	while (l->out > 0)
		pthread_cond_wait(&l->less, &l->lock);
	pthread_mutex_unlock(&l->lock);
	AZ(pthread_cond_destroy(&l->less));
	AZ(pthread_mutex_destroy(&l->lock));
	return err;
}

int ocache_warm(struct ocache *c, const char *path, const struct ocache_warm *how,
		struct iostats *io, uint64_t *loaded, char **cause)
{
	struct loading l = {.cache = c};
	int err;

	MAGIC_OK(c, OCACHE_MAGIC);
	if (how != NULL && how->struct_size != sizeof *how) {
		if (cause != NULL)
			*cause = NULL;
		return cause_fail(cause, -EINVAL, "%s: struct_size is not that of this library",
				  path);
	}
	ocache__busy(c); /* also between two loads */
	err = load_all(&l, how, path, io, cause);
	ocache__idle(c);
	if (loaded != NULL)
		*loaded = l.loaded;
	return err;
}

/* ---- by itself ----------------------------------------------------------------------- */

struct warm {
	struct ocache *cache;
	char *path;
	struct ocache_warm how;
	uint64_t save_ns;
	pthread_t thread;
	_Atomic bool stop;
	pthread_mutex_t lock; /* one save at a time */
	pthread_cond_t wake;
	bool may_save, last; /* under lock: at the close, [WM-1]; the last save has been made */
};

static void save(struct warm *w)
{
	struct ocache *c = w->cache;

	if (ocache_save(c, w->path, NULL, NULL) == 0)
		atomic_fetch_add_explicit(&c->saves, 1, memory_order_relaxed);
	else
		atomic_fetch_add_explicit(&c->saves_failed, 1, memory_order_relaxed);
}

static void *run(void *arg)
{
	struct warm *w = arg;
	struct loading l = {.cache = w->cache, .stop = &w->stop};
	uint64_t due;

	(void)load_all(&l, &w->how, w->path, NULL, NULL);
	atomic_fetch_add_explicit(&w->cache->warmed, l.loaded, memory_order_relaxed);
	pthread_mutex_lock(&w->lock);
	w->may_save = w->may_save || (!atomic_load(&w->stop) && l.failed <= l.loaded);
	due = clock_ns() + w->save_ns;
	while (!atomic_load(&w->stop)) {
		struct timespec ts = thread_timespec((int64_t)due);

		if (pthread_cond_timedwait(&w->wake, &w->lock, &ts) != ETIMEDOUT)
			continue;
		save(w);
		w->may_save = true;
		due = clock_ns() + w->save_ns;
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

int warm_open(struct ocache *c, const struct ocache_config *cfg, struct warm **warm)
{
	struct warm *w;
	int err = -ENOMEM;

	*warm = NULL;
	if (cfg->keys_file == NULL)
		return 0;
	w = calloc(1, sizeof *w);
	if (w == NULL)
		return err;
	w->cache = c;
	w->save_ns = thread_ns(cfg->keys_save_ns, SAVE_NS);
	w->how = (struct ocache_warm){.struct_size = sizeof w->how, .loads = cfg->warm_loads};
	AZ(pthread_mutex_init(&w->lock, NULL));
	thread_cond_init(&w->wake);
	w->path = strdup(cfg->keys_file);
	w->may_save = access(cfg->keys_file, F_OK) != 0 && errno == ENOENT; /* nothing to lose */
	if (w->path != NULL)
		err = thread_start(&w->thread, "ocache-warm", run, w);
	if (err == 0) {
		*warm = w;
		return 0;
	}
	AZ(pthread_cond_destroy(&w->wake));
	AZ(pthread_mutex_destroy(&w->lock));
	free(w->path);
	free(w);
	return err;
}

void warm_stop(struct warm *w)
{
	if (w == NULL)
		return;
	atomic_store(&w->stop, true);
	pthread_mutex_lock(&w->lock);
	if (w->may_save && !w->last)
		save(w);
	w->last = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
}

void warm_close(struct warm **warm)
{
	struct warm *w = *warm;

	if (w == NULL)
		return;
	AZ(pthread_join(w->thread, NULL));
	AZ(pthread_cond_destroy(&w->wake));
	AZ(pthread_mutex_destroy(&w->lock));
	free(w->path);
	free(w);
	*warm = NULL;
}
