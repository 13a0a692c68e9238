/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test: set=full threads=yes wrap=no limit=240
 * The tier over the memcached protocol against the real valcached and the real memcached: there and back, thousands in
 * flight from several threads, servers that are killed, stopped and away, under a cache with a damaged value; and against
 * servers that say what no server should.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ocache/memcached.h"
#include "ocache/thread.h"
#include "tests/unit/ocache_tier.h"
#include "tests/unit/server.h"

static struct tier *tier_at(const struct server *s, unsigned n)
{
	const char *names[8];
	struct tier_memcached_config cfg = {.struct_size = sizeof cfg,
					    .servers = names,
					    .servers_count = n,
					    .stall_ns = 3 * NS_PER_S};
	struct tier *t = NULL;
	char *cause;

	for (unsigned i = 0; i < n; i++)
		names[i] = s[i].sock;
	if (tier_memcached_open(&cfg, &t, &cause) != 0)
		fail_msg("%s", cause);
	return t;
}

/* ---- requests, and each answered exactly once ------------------------------------------ */

struct batch {
	pthread_mutex_t lock;
	pthread_cond_t all;
	unsigned out;
};

struct get {
	struct seg_read r;
	struct batch *b;
	unsigned answers;
};

struct put {
	struct seg_write w;
	struct batch *b;
};

static _Atomic unsigned hits_now; /* of all */

static void batch_init(struct batch *b)
{
	memset(b, 0, sizeof *b);
	AZ(pthread_mutex_init(&b->lock, NULL));
	thread_cond_init(&b->all);
}

static void one_less(struct batch *b)
{
	pthread_mutex_lock(&b->lock);
	A(b->out > 0);
	if (--b->out == 0)
		pthread_cond_broadcast(&b->all);
	pthread_mutex_unlock(&b->lock);
}

static void got(struct seg_read *r)
{
	struct get *g = r->user;

	A(++g->answers == 1);
	A((r->status == 0) == (r->bytes != NULL));
	atomic_fetch_add(&hits_now, r->status == 0);
	one_less(g->b);
}

static void put_done(struct seg_write *w)
{
	one_less(((struct put *)w->user)->b);
}

static bool batch_wait(struct batch *b, uint64_t ns)
{
	struct timespec ts = thread_timespec((int64_t)(clock_ns() + ns));
	int err = 0;
	bool over;

	pthread_mutex_lock(&b->lock);
	while (b->out > 0 && err == 0)
		err = pthread_cond_timedwait(&b->all, &b->lock, &ts);
	over = b->out == 0;
	pthread_mutex_unlock(&b->lock);
	return over;
}

static void ask(struct tier *t, struct batch *b, struct get *g, uint64_t key)
{
	struct seg_read *r = &g->r;

	memset(g, 0, sizeof *g);
	g->b = b;
	r->id = id_of(key);
	r->deadline_ns = INT64_MAX;
	r->done = got;
	r->user = g;
	pthread_mutex_lock(&b->lock);
	b->out++;
	pthread_mutex_unlock(&b->lock);
	t->ops->read(t, &r, 1);
}

/* What a get of the key says; its bytes are compared. */
static int look(struct tier *t, uint64_t key)
{
	struct batch b;
	struct get g;

	batch_init(&b);
	ask(t, &b, &g, key);
	assert_true(batch_wait(&b, 20 * NS_PER_S));
	if (g.r.status == 0) {
		struct seg_buf *want = fake_bytes(id_of(key), FAKE_GOOD, false);

		assert_int_equal(seg_buf_len(g.r.bytes), seg_buf_len(want));
		assert_memory_equal(seg_buf_data(g.r.bytes), seg_buf_data(want), seg_buf_len(want));
		seg_buf_drop(want);
		seg_buf_drop(g.r.bytes);
	}
	return g.r.status;
}

static int write_bytes(struct tier *t, uint64_t key, struct seg_buf *bytes)
{
	struct batch b;
	struct put p = {.b = &b};
	struct seg_write *w = &p.w;

	batch_init(&b);
	b.out = 1;
	*w = (struct seg_write){.id = id_of(key), .bytes = bytes, .done = put_done, .user = &p};
	t->ops->write(t, &w, 1);
	assert_true(batch_wait(&b, 20 * NS_PER_S));
	return w->status;
}

static int store(struct tier *t, uint64_t key)
{
	struct seg_buf *bytes = fake_bytes(id_of(key), FAKE_GOOD, false);
	int status = write_bytes(t, key, bytes);

	seg_buf_drop(bytes);
	return status;
}

static void until(struct tier *t, uint64_t key, int status)
{
	uint64_t end = clock_ns() + 20 * NS_PER_S;

	int is;

	while ((is = look(t, key)) != status) {
		if (clock_ns() >= end)
			fail_msg("key %" PRIu64 " is still %d", key, is);
		nap(5 * MS);
	}
}

/* ---- tests: real servers --------------------------------------------------------------- */

static void there_and_back(void **state)
{
	(void)state;
	for (unsigned valcached = 0; valcached < 2; valcached++) {
		struct server s = {0};
		struct seg_buf *big, *back;
		struct tier *t;
		struct batch b;
		struct get g;

		server_start(&s, valcached, "a");
		t = tier_at(&s, 1);
		assert_string_equal(t->key, "memcached");
		assert_int_equal(look(t, 1), -ENOENT);
		for (uint64_t k = 0; k < 300; k++)
			assert_int_equal(store(t, k), 0);
		assert_int_equal(store(t, 7), 0); /* it has it */
		for (uint64_t k = 0; k < 300; k++)
			assert_int_equal(look(t, k), 0);
		t->ops->drop(t, id_of(7));
		assert_int_equal(look(t, 7), -ENOENT); /* in order */
		t->ops->drop(t, id_of(7));
		assert_int_equal(look(t, 8), 0);

		big = seg_buf_new(5 << 20);
		for (size_t i = 0; i < 5 << 20; i++)
			((uint8_t *)seg_buf_data(big))[i] = (uint8_t)(i * 2654435761u >> 13);
		assert_int_equal(write_bytes(t, 5000, big), 0);
		batch_init(&b);
		ask(t, &b, &g, 5000);
		assert_true(batch_wait(&b, 20 * NS_PER_S));
		assert_int_equal(g.r.status, 0);
		back = g.r.bytes;
		assert_int_equal(seg_buf_len(back), seg_buf_len(big));
		assert_memory_equal(seg_buf_data(back), seg_buf_data(big), seg_buf_len(big));
		seg_buf_drop(back);
		seg_buf_drop(big);

		/* refused before its end, and the stream stays in step */
		big = seg_buf_new(20 << 20);
		memset(seg_buf_data(big), 'x', 20 << 20);
		assert_int_equal(write_bytes(t, 5001, big), -EIO);
		assert_int_equal(look(t, 8), 0);
		seg_buf_drop(big);
		t->ops->close(t);
		server_end(&s, SIGTERM);
	}
}

struct crowd {
	struct tier *t;
	unsigned seed;
	unsigned hits, failures, misses;
};

#define EACH 2000u
#define KEYS 500u

static void *crowd_run(void *arg)
{
	struct crowd *c = arg;
	struct get *g = calloc(EACH, sizeof *g);
	struct batch b;

	AN(g);
	batch_init(&b);
	for (unsigned i = 0; i < EACH; i++) {
		ask(c->t, &b, &g[i], (c->seed + i * 7) % KEYS);
		if (i % 500 == 499)
			A(batch_wait(
			    &b, 30 * NS_PER_S)); /* four threads of them stay below the bound */
	}
	A(batch_wait(&b, 30 * NS_PER_S));
	for (unsigned i = 0; i < EACH; i++) {
		c->hits += g[i].r.status == 0;
		c->misses += g[i].r.status == -ENOENT;
		c->failures += g[i].r.status != 0 && g[i].r.status != -ENOENT;
		if (g[i].r.status == 0) {
			uint64_t key = (c->seed + i * 7) % KEYS;
			struct seg_buf *want = fake_bytes(id_of(key), FAKE_GOOD, false);

			A(seg_buf_len(g[i].r.bytes) == seg_buf_len(want));
			AZ(memcmp(seg_buf_data(g[i].r.bytes), seg_buf_data(want),
				  seg_buf_len(want)));
			seg_buf_drop(want);
			seg_buf_drop(g[i].r.bytes);
		}
	}
	free(g);
	return NULL;
}

static void crowd(struct tier *t, struct crowd sum[1])
{
	struct crowd c[4];
	pthread_t thread[4];

	memset(sum, 0, sizeof *sum);
	for (unsigned i = 0; i < 4; i++) {
		c[i] = (struct crowd){.t = t, .seed = i * 31};
		assert_int_equal(pthread_create(&thread[i], NULL, crowd_run, &c[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(thread[i], NULL);
		sum->hits += c[i].hits;
		sum->misses += c[i].misses;
		sum->failures += c[i].failures;
	}
}

static void many_at_once(void **state)
{
	struct server s[3] = {0};
	struct crowd sum;
	struct tier *t, *one;
	unsigned of_one = 0;

	(void)state;
	server_start(&s[0], true, "a");
	server_start(&s[1], false, "b");
	server_start(&s[2], false, "c");
	t = tier_at(s, 3);
	for (uint64_t k = 0; k < KEYS; k++)
		assert_int_equal(store(t, k), 0);
	crowd(t, &sum);
	assert_int_equal(sum.hits, 4 * EACH);
	/* one of three goes: its share is lost, which the names of the sockets decide, and nobody else's */
	one = tier_at(&s[1], 1);
	for (uint64_t k = 0; k < KEYS; k++)
		of_one += look(one, k) == 0;
	one->ops->close(one);
	assert_in_range(of_one, 1, KEYS - 1);
	server_end(&s[1], SIGKILL);
	crowd(t, &sum);
	assert_int_equal(sum.misses, 0);
	assert_int_equal(sum.failures,
			 of_one * (4 * EACH / KEYS)); /* each key was asked for so often */
	assert_int_equal(sum.hits, 4 * EACH - sum.failures);
	server_start(&s[1], false, "b");
	for (uint64_t k = 0; k < KEYS; k++)
		if (look(t, k) != 0)
			until(t, k, -ENOENT);
	t->ops->close(t);
	for (unsigned i = 0; i < 3; i++)
		server_end(&s[i], SIGTERM);
}

struct killer {
	struct server *s;
	_Atomic unsigned times;
	_Atomic bool over;
};

static void *killer_run(void *arg)
{
	struct killer *k = arg;

	while (!atomic_load(&k->over)) {
		unsigned before = atomic_load(&hits_now);
		uint64_t end = clock_ns() + 10 * NS_PER_S;

		/* in the middle of its answers, however long the client took to find it again */
		while (atomic_load(&hits_now) - before < 100 && !atomic_load(&k->over) &&
		       clock_ns() < end)
			nap(MS);
		nap(50 * MS);
		server_end(k->s, SIGKILL);
		nap(30 * MS);
		server_start(k->s, k->s->valcached, "a");
		atomic_fetch_add(&k->times, 1);
	}
	return NULL;
}

/* Everybody gets an answer, a right one or a failure; valcached has all of it afterwards. */
static void killed_in_the_middle(void **state)
{
	struct server s = {0};
	struct killer k = {.s = &s};
	struct crowd sum;
	unsigned hits = 0;
	pthread_t thread;
	struct tier *t;

	(void)state;
	server_start(&s, true, "a");
	t = tier_at(&s, 1);
	for (uint64_t key = 0; key < KEYS; key++)
		assert_int_equal(store(t, key), 0);
	assert_int_equal(pthread_create(&thread, NULL, killer_run, &k), 0);
	/* misses are allowed: one that is killed while it starts reads the disk while it serves */
	for (uint64_t end = clock_ns() + 60 * NS_PER_S;
	     (hits <= EACH || atomic_load(&k.times) <= 3) && clock_ns() < end;) {
		crowd(t, &sum);
		hits += sum.hits;
	}
	atomic_store(&k.over, true);
	pthread_join(thread, NULL);
	server_end(&s, SIGKILL); /* it dies with the thread that has started it */
	server_start(&s, true, "a");
	assert_true(atomic_load(&k.times) > 3);
	assert_true(hits > EACH);
	/* all of it is there */
	for (uint64_t key = 0; key < KEYS; key++)
		until(t, key, 0);
	t->ops->close(t);
	server_end(&s, SIGTERM);
}

/* A server that hangs: who cancels is free at once, and what it says later is nobody's. */
static void stopped(void **state)
{
	struct server s = {0};
	struct batch b;
	struct get g[100];
	struct tier *t;
	uint64_t begin;

	(void)state;
	server_start(&s, false, "a");
	t = tier_at(&s, 1);
	for (uint64_t k = 0; k < 100; k++)
		assert_int_equal(store(t, k), 0);
	batch_init(&b);
	server_hold(&s);
	for (unsigned i = 0; i < 100; i++)
		ask(t, &b, &g[i], i);
	nap(50 * MS);
	begin = clock_ns();
	for (unsigned i = 0; i < 100; i++)
		t->ops->cancel(t, &g[i].r);
	assert_true(batch_wait(&b, NS_PER_S));
	assert_true(clock_ns() - begin < 2 * NS_PER_S); /* in three they would fail by themselves */
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(g[i].r.status, -ECANCELED);
		t->ops->cancel(t, &g[i].r); /* too late is no harm */
	}
	assert_int_equal(kill(s.pid, SIGCONT), 0);
	for (uint64_t k = 0; k < 100; k++)
		assert_int_equal(look(t, 99 - k), 0);
	/* and who does not cancel hears of it */
	server_hold(&s);
	nap(50 * MS);
	begin = clock_ns();
	assert_int_equal(look(t, 1), -ETIMEDOUT);
	assert_in_range(clock_ns() - begin, 2 * NS_PER_S, 8 * NS_PER_S);
	assert_int_equal(kill(s.pid, SIGCONT), 0);
	until(t, 1, 0);
	t->ops->close(t);
	server_end(&s, SIGTERM);
}

static void nobody_there(void **state)
{
	struct server s = {0};
	struct tier *t;
	uint64_t begin;

	(void)state;
	snprintf(s.sock, sizeof s.sock, "%s", file("nobody"));
	t = tier_at(&s, 1);
	begin = clock_ns();
	for (uint64_t k = 0; k < 1000; k++)
		assert_int_equal(look(t, k), -ECONNREFUSED);
	assert_true(clock_ns() - begin < 10 * NS_PER_S); /* they do not wait for its pauses */
	t->ops->drop(t, id_of(1));
	server_start(&s, false, "nobody");
	until(t, 1, -ENOENT);
	t->ops->close(t);
	server_end(&s, SIGTERM);
}

/* Bad bytes under a key in valcached, planted by another client: one repair, then hits. */
static void poisoned(void **state)
{
	struct server s = {0};
	struct fake *far = fake_new("far", 0);
	struct ocache_tier chain[2] = {{.deadline_ns = 20 * NS_PER_S},
				       {.tier = &far->tier, .deadline_ns = 20 * NS_PER_S}};
	struct ocache_config cfg = {.struct_size = sizeof cfg,
				    .budget = 8 << 20,
				    .tiers = chain,
				    .tiers_count = 2,
				    .decoder = &object_decoder};
	struct ocache_stats st;
	struct ocache_tier_stats ts;
	struct ocache *cache;
	struct ocache_ref ref;
	char *cause, line[200], id[SEG_ID_TEXT];
	int fd, n;

	(void)state;
	server_start(&s, true, "poisoned");
	chain[0].tier = tier_at(&s, 1);
	far->has[3] = FAKE_GOOD;
	fd = dial(s.sock);
	assert_true(fd >= 0);
	n = snprintf(line, sizeof line, "set %s 0 0 6\r\npoison\r\n", seg_id_format(id_of(3), id));
	assert_int_equal(write(fd, line, (size_t)n), n);
	assert_int_equal(read(fd, line, sizeof line), 8);
	assert_memory_equal(line, "STORED\r\n", 8);
	close(fd);
	if (ocache_open(&cfg, &cache, &cause) != 0)
		fail_msg("%s", cause);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(ocache_get(cache, id_of(3), NULL, NULL, &ref), 0);
		ocache_release(&ref);
		WAIT_FOR(tier_of(cache, 0).writes == 1); /* the repair is in the background */
		assert_true(ocache_forget(cache, id_of(3)));
	}
	ocache_stats(cache, &st, sizeof st);
	assert_int_equal(st.repairs, 1);
	assert_int_equal(ocache_tier_stats(cache, 0, &ts, sizeof ts), 0);
	assert_int_equal(ts.damaged, 1);
	assert_int_equal(ts.reads, 5);
	assert_int_equal(far->reads, 1);
	assert_int_equal(ocache_close(&cache), 0);
	server_end(&s, SIGTERM);
}

/* ---- tests: logins -------------------------------------------------------------------------- */

static struct tier *tier_as(const struct server *s, const char *user, const char *password)
{
	struct tier_memcached_config cfg = {.struct_size = sizeof cfg,
					    .servers = &(const char *){s->sock},
					    .servers_count = 1,
					    .user = user,
					    .password = password};
	struct tier *t = NULL;
	char *cause;

	if (tier_memcached_open(&cfg, &t, &cause) != 0)
		fail_msg("%s", cause);
	return t;
}

static void logs_in(void **state)
{
	static const char users[] = "ann:a long/pass:word\nbob:pw\n";
	int fd = open(file("users"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	(void)state;
	assert_int_equal(write(fd, users, sizeof users - 1), sizeof users - 1);
	assert_int_equal(close(fd), 0);
	for (unsigned valcached = 0; valcached < 2; valcached++) {
		struct server s = {.users = strdup(file("users"))};
		struct tier *t;

		server_start(&s, valcached, "login");
		t = tier_as(&s, NULL, NULL);
		assert_int_equal(look(t, 1), -EPROTO);
		t->ops->close(t);
		t = tier_as(&s, "ann", "wrong");
		assert_int_equal(look(t, 1), -EACCES);
		t->ops->close(t);
		/* memcached 1.6.18 splits at all blanks */
		t = valcached ? tier_as(&s, "ann", "a long/pass:word") : tier_as(&s, "bob", "pw");
		assert_int_equal(look(t, 1), -ENOENT);
		for (uint64_t k = 0; k < 50; k++)
			assert_int_equal(store(t, k), 0);
		assert_int_equal(look(t, 7), 0);
		server_end(&s, SIGKILL);
		server_start(&s, valcached, "login"); /* and again on the next connection */
		until(t, 7, valcached ? 0 : -ENOENT);
		t->ops->close(t);
		server_end(&s, SIGTERM);
		free((void *)(uintptr_t)s.users);
	}
}

/* ---- tests: servers that are none --------------------------------------------------------- */

struct liar {
	int fd;
	_Atomic unsigned accepted;
	const char *says;
	size_t n;
	_Atomic bool over;
};

/* Answers the first bytes of each connection with its text, and hangs up when the client does. */
static void *liar_run(void *arg)
{
	struct liar *l = arg;

	while (!atomic_load(&l->over)) {
		struct pollfd p = {.fd = l->fd, .events = POLLIN};
		char in[4096];
		int fd;

		if (poll(&p, 1, 20) <= 0)
			continue;
		fd = accept(l->fd, NULL, NULL);
		if (fd < 0)
			continue;
		atomic_fetch_add(&l->accepted, 1);
		if (read(fd, in, sizeof in) > 0)
			(void)!send(fd, l->says, l->n, MSG_NOSIGNAL);
		shutdown(fd, SHUT_WR);
		while (read(fd, in, sizeof in) > 0)
			;
		close(fd);
	}
	return NULL;
}

static void lies(void **state)
{
	static const struct {
		const char *says;
		int status;
	} all[] = {
	    {"hello\r\n", -EPROTO},
	    {"ERROR\r\n", -EPROTO},
	    {"CLIENT_ERROR bad data chunk\r\n", -EPROTO},
	    {"STORED\r\n", -EPROTO},
	    {"VALUE 00000000-0000-0000-0000-000000000000 0 1\r\nx\r\nEND\r\n", -EPROTO},
	    {"VALUE %s 0 99999999999\r\n", -EPROTO},
	    {"VALUE %s 0 900000000\r\n", -EPROTO},
	    {"VALUE %s 0 3\r\nabcd\r\nEND\r\n", -EPROTO},
	    {"VALUE %s 0 3\r\nab\r\nEND\r\n", -EPROTO},
	    {"VALUE %s 0 1\r\na\r\nVALUE %s 0 1\r\na\r\nEND\r\n", -EPROTO},
	    {"VALUE %s 0 1\r\na\r\nSERVER_ERROR no\r\n", -EPROTO},
	    {"VALUE %s 0 100\r\na", -ECONNRESET},
	    {"VALUE %s 0 1", -ECONNRESET},
	    {"", -ECONNRESET},
	    {"SERVER_ERROR busy\r\n", -EIO},
	    {"END\r\n", -ENOENT},
	    {"END\r\nEND\r\n", -ENOENT},
	};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	char id[SEG_ID_TEXT], endless[5000];

	(void)state;
	seg_id_format(id_of(1), id);
	for (size_t i = 0; i <= sizeof all / sizeof all[0]; i++) {
		struct liar l = {0};
		struct server s = {0};
		char says[5001];
		pthread_t thread;
		struct tier *t;
		int want;

		if (i < sizeof all / sizeof all[0]) {
			const char *at = strstr(all[i].says, "%s"),
				   *more = at ? strstr(at + 2, "%s") : NULL;

			want = all[i].status;
			if (at == NULL)
				snprintf(says, sizeof says, "%s", all[i].says);
			else if (more == NULL)
				snprintf(says, sizeof says, "%.*s%s%s", (int)(at - all[i].says),
					 all[i].says, id, at + 2);
			else
				snprintf(says, sizeof says, "%.*s%s%.*s%s%s",
					 (int)(at - all[i].says), all[i].says, id,
					 (int)(more - at - 2), at + 2, id, more + 2);
		} else {
			memset(endless, 'z', sizeof endless);
			memcpy(says, endless, sizeof endless);
			says[sizeof endless] = '\0';
			want = -EPROTO;
		}
		l.says = says;
		l.n = strlen(says);
		snprintf(s.sock, sizeof s.sock, "%s", file("liar"));
		unlink(s.sock);
		snprintf(un.sun_path, sizeof un.sun_path, "%.107s", s.sock);
		l.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(bind(l.fd, (const struct sockaddr *)&un, sizeof un), 0);
		assert_int_equal(listen(l.fd, 10), 0);
		assert_int_equal(pthread_create(&thread, NULL, liar_run, &l), 0);
		t = tier_at(&s, 1);
		for (unsigned k = 0; k < 2; k++) {
			int is = look(t, 1);

			/* the second may come while nobody is asked, or while the first one's end is noticed */
			if (is != want && (k == 0 || (is != -ECONNRESET && is != -EPROTO)))
				fail_msg("%.60s: %d, not %d", says, is, want);
		}
		t->ops->close(t);
		atomic_store(&l.over, true);
		pthread_join(thread, NULL);
		close(l.fd);
	}
}

/* A socket that listens, and a tier for it. */
static struct tier *listening(const char *name, uint32_t in_flight, int *fd)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct tier_memcached_config cfg = {
	    .struct_size = sizeof cfg, .servers_count = 1, .in_flight = in_flight};
	const char *path = file(name);
	struct tier *t = NULL;

	snprintf(un.sun_path, sizeof un.sun_path, "%.107s", path);
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(*fd, (const struct sockaddr *)&un, sizeof un), 0);
	assert_int_equal(listen(*fd, 10), 0);
	cfg.servers = &path;
	assert_int_equal(tier_memcached_open(&cfg, &t, NULL), 0);
	return t;
}

/* What is above in_flight fails at once. */
static void too_many(void **state)
{
	struct get g[10];
	struct batch b;
	struct tier *t;
	int fd;

	(void)state;
	t = listening("full", 4, &fd); /* nobody answers */
	batch_init(&b);
	for (unsigned i = 0; i < 10; i++)
		ask(t, &b, &g[i], i);
	for (unsigned i = 0; i < 10; i++) {
		if (i < 4) {
			t->ops->cancel(t, &g[i].r);
			assert_int_equal(g[i].r.status, -ECANCELED);
		} else {
			assert_int_equal(g[i].answers, 1);
			assert_int_equal(g[i].r.status, -EAGAIN);
		}
	}
	assert_true(batch_wait(&b, 20 * NS_PER_S));
	t->ops->close(t);
	close(fd);
}

/* Between two attempts at a server that is no use there is a pause, in which requests fail at once. */
static void pauses(void **state)
{
	struct liar l = {.says = "hello\r\n", .n = 7};
	uint64_t begun = clock_ns(), took;
	unsigned asked = 0;
	pthread_t thread;
	struct tier *t;

	(void)state;
	t = listening("hello", 0, &l.fd);
	assert_int_equal(pthread_create(&thread, NULL, liar_run, &l), 0);
	for (; clock_ns() - begun < 400 * MS || asked < 100; asked++)
		assert_int_not_equal(look(t, 1), 0);
	took = clock_ns() - begun;
	t->ops->close(t);
	atomic_store(&l.over, true);
	pthread_join(thread, NULL);
	close(l.fd);
	/* after 15, 30, 60, 120 ms at least, and then less often */
	assert_in_range(l.accepted, 1, 8 + took / (NS_PER_S / 2));
	assert_true(asked > l.accepted);
}

/* ---- tests: a server that is slow, and one that has stopped -------------------------------------- */

#define SLOW_PIECE 16384u

struct slow {
	int fd;
	bool answers;
	unsigned sets; /* it is sent so many, of bytes each */
	size_t bytes;
	uint64_t nap_ns; /* between two pieces that it reads */
	_Atomic bool over;
	pthread_t thread;
};

/* Reads requests slowly, and answers each set when it has it. */
static void *slow_run(void *arg)
{
	struct slow *s = arg;
	size_t got = 0, each = 0, done = 0;
	char *in = malloc(SLOW_PIECE);
	int fd = accept(s->fd, NULL, NULL);
	ssize_t n;

	AN(in);
	while ((n = read(fd, in, SLOW_PIECE)) > 0) {
		if (got == 0) /* all are as long as the first */
			each =
			    (size_t)((char *)memchr(in, '\n', (size_t)n) + 1 - in) + s->bytes + 2;
		got += (size_t)n;
		for (; s->answers && done < got / each; done++)
			(void)!send(fd, "STORED\r\n", 8, MSG_NOSIGNAL);
		if (got < each * s->sets && !atomic_load(&s->over))
			nap(s->nap_ns);
	}
	close(fd);
	free(in);
	return NULL;
}

static struct tier *slow_start(struct slow *s, bool tcp, uint64_t stall_ns)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct tier_memcached_config cfg = {
	    .struct_size = sizeof cfg, .servers_count = 1, .stall_ns = stall_ns};
	socklen_t len = sizeof in;
	struct tier *t = NULL;
	char name[108];
	int small = 8192;

	s->fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (tcp) { /* what it has not read waits at the client */
		assert_int_equal(setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
		assert_int_equal(bind(s->fd, (const struct sockaddr *)&in, sizeof in), 0);
		assert_int_equal(getsockname(s->fd, (struct sockaddr *)&in, &len), 0);
		snprintf(name, sizeof name, "127.0.0.1:%u", ntohs(in.sin_port));
	} else {
		snprintf(name, sizeof name, "%.107s", file("slow"));
		unlink(name);
		memcpy(un.sun_path, name, sizeof un.sun_path);
		assert_int_equal(bind(s->fd, (const struct sockaddr *)&un, sizeof un), 0);
	}
	assert_int_equal(listen(s->fd, 10), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, slow_run, s), 0);
	cfg.servers = &(const char *){name};
	assert_int_equal(tier_memcached_open(&cfg, &t, NULL), 0);
	return t;
}

static void slow_end(struct slow *s, struct tier *t)
{
	t->ops->close(t);
	atomic_store(&s->over, true);
	pthread_join(s->thread, NULL);
	close(s->fd);
}

/* So many sets at once, and how the last of them ended; they all did alike. */
static int slow_sets(struct slow *s, struct tier *t)
{
	struct seg_buf *bytes = seg_buf_new(s->bytes);
	struct put p[4] = {{.b = NULL}};
	struct batch b;

	assert_non_null(bytes);
	memset(seg_buf_data(bytes), 'v', s->bytes);
	batch_init(&b);
	b.out = s->sets;
	for (unsigned i = 0; i < s->sets; i++) {
		struct seg_write *w = &p[i].w;

		p[i].b = &b;
		*w = (struct seg_write){
		    .id = id_of(i), .bytes = bytes, .done = put_done, .user = &p[i]};
		t->ops->write(t, &w, 1);
	}
	assert_true(batch_wait(&b, 60 * NS_PER_S));
	seg_buf_drop(bytes);
	for (unsigned i = 1; i < s->sets; i++)
		assert_int_equal(p[i].w.status, p[0].w.status);
	return p[0].w.status;
}

/* It takes much longer than stall_ns for a set, but it takes it: from the socket's buffer, at last. */
static void slow_is_no_stall(void **state)
{
	(void)state;
	for (unsigned tcp = 0; tcp < 2; tcp++) {
		/* in TCP all of the set is soon in the client's buffer; else the rest of one while the next is sent */
		struct slow s = {
		    .answers = true, .sets = tcp ? 1 : 3, .nap_ns = tcp ? 25 * MS : 60 * MS};
		uint64_t begun = clock_ns();
		struct tier *t;

		s.bytes = tcp ? 2000000 : 500000;
		t = slow_start(&s, tcp, 1000 * MS);
		assert_int_equal(slow_sets(&s, t), 0);
		assert_true(clock_ns() - begun > 2000 * MS); /* else it was not slow */
		slow_end(&s, t);
	}
}

/* One that has all of a set and says nothing, or stops in the middle of it, is one. */
static void stopped_is_a_stall(void **state)
{
	(void)state;
	for (unsigned middle = 0; middle < 2; middle++) {
		struct slow s = {.sets = 1, .bytes = 2000000, .nap_ns = middle ? 2000 * MS : 0};
		struct tier *t = slow_start(&s, true, 400 * MS);
		uint64_t begun = clock_ns();

		assert_int_equal(slow_sets(&s, t), -ETIMEDOUT);
		assert_true(clock_ns() - begun > 390 * MS);
		if (middle) /* in an idle machine; and before it goes on reading in any */
			assert_true(clock_ns() - begun < 1900 * MS);
		slow_end(&s, t);
	}
}

#define LONG_NAME "a-name-of-thirty-six-bytes-in-all---"

static void bad_config(void **state)
{
	static const char *const bad[] = {"",    ":1",   "h:",     "h:0", "h:65536", "h:1x",
					  "::1", "[::1", "[::1]x", "[]",  "[::1]:",  "h:123456"};
	static const char *const logins[][2] = {{"u", NULL},   {NULL, "p"},  {"", "p"},
						{"u", ""},     {"u v", "p"}, {"u", "p\r\n"},
						{"u", "\x7f"}, {"u\t", "p"}};
	static const char *const good[] = {"h", "h:1", "[::1]", "[::1]:65535", "/a/socket"};
	struct tier_memcached_config cfg = {.struct_size = sizeof cfg, .servers_count = 1};
	struct tier *t = NULL;
	char *cause;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		cfg.servers = &bad[i];
		assert_int_equal(tier_memcached_open(&cfg, &t, &cause), -EINVAL);
		assert_non_null(strstr(cause, bad[i]));
		free(cause);
	}
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		cfg.servers = &good[i];
		assert_int_equal(tier_memcached_open(&cfg, &t, &cause), 0);
		t->ops->close(t);
	}
	cfg.servers = &(const char *){"/tmp/" LONG_NAME LONG_NAME LONG_NAME};
	assert_int_equal(tier_memcached_open(&cfg, &t, &cause), -ENAMETOOLONG);
	assert_non_null(strstr(cause, "at most 107 bytes"));
	free(cause);
	cfg.servers = &good[0];
	cfg.key = "Bad Key";
	assert_int_equal(tier_memcached_open(&cfg, &t, NULL), -EINVAL);
	cfg.key = NULL;
	cfg.ring = TIER_MEMCACHED_SPYMEMCACHED; /* its name has an address, and "h" has none */
	assert_int_equal(tier_memcached_open(&cfg, &t, &cause), -EINVAL);
	assert_non_null(strstr(cause, "memcached: h: "));
	free(cause);
	cfg.ring_names = &(const char *){"h/10.0.0.1:11211"};
	assert_int_equal(tier_memcached_open(&cfg, &t, &cause), 0);
	t->ops->close(t);
	cfg.ring_names = &(const char *){
	    LONG_NAME LONG_NAME LONG_NAME LONG_NAME LONG_NAME LONG_NAME LONG_NAME LONG_NAME};
	assert_int_equal(tier_memcached_open(&cfg, &t, NULL), -EINVAL);
	cfg.ring_names = NULL;
	cfg.ring = TIER_MEMCACHED_SPYMEMCACHED_LIB;
	cfg.weights = &(uint32_t){65535};
	assert_int_equal(tier_memcached_open(&cfg, &t, NULL), 0);
	t->ops->close(t);
	cfg.weights = &(uint32_t){65536};
	assert_int_equal(tier_memcached_open(&cfg, &t, NULL), -EINVAL);
	cfg.weights = &(uint32_t){0};
	assert_int_equal(tier_memcached_open(&cfg, &t, NULL), -EINVAL);
	cfg.weights = NULL;
	cfg.ring = (enum tier_memcached_ring)3;
	assert_int_equal(tier_memcached_open(&cfg, &t, NULL), -EINVAL);
	cfg.ring = TIER_MEMCACHED_LIBMEMCACHED;
	for (unsigned i = 0; i < sizeof logins / sizeof logins[0]; i++) {
		cfg.user = logins[i][0];
		cfg.password = logins[i][1];
		assert_int_equal(tier_memcached_open(&cfg, &t, &cause), -EINVAL);
		assert_string_equal(cause,
				    "memcached: user or password are not what memcached.h says");
		free(cause);
	}
	cfg.servers_count = 0;
	assert_int_equal(tier_memcached_open(&cfg, &t, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(slow_is_no_stall),
	    cmocka_unit_test(stopped_is_a_stall),
	    cmocka_unit_test(too_many),
	    cmocka_unit_test(pauses),
	    cmocka_unit_test(logs_in),
	    cmocka_unit_test(bad_config),
	    cmocka_unit_test(there_and_back),
	    cmocka_unit_test(nobody_there),
	    cmocka_unit_test(lies),
	    cmocka_unit_test(many_at_once),
	    cmocka_unit_test(stopped),
	    cmocka_unit_test(killed_in_the_middle),
	    cmocka_unit_test(poisoned),
	};

	return cmocka_run_group_tests_name("ocache-memcached", tests, make_root, remove_root);
}
