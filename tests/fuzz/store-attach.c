/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target for the shared memory that a killed daemon leaves: its image of state and index, and that of
 * its write buffers, with bytes changed, the sums over them made right again if the input says so.
 * Whatever the bytes: the start attaches, or refuses them and reads the disk; no crash, no endless loop, and
 * every value that is served was set under its key, then and after the next two starts.
 *
 * Input: one byte of choice, one of lengths, then patches: 1 byte where, 2 bytes offset there, 1 byte length, bytes.
 */
#include <fcntl.h>

#include "base/sum.h"
#include "base/xxh.h"
#include "tests/fuzz/store_machine.h"
#include "valcached/store/index_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { SEAL = 1, RANDOM = 2, TURN = 4, NO_WRITES = 8, MORE = 16, COPY = 32 };

/* A file of shared memory: what the dead process left, and what the input makes of it. */
struct image {
	char name[200];
	uint8_t *was, *is;
	bool *used; /* a page of it that is not zero, or may be changed */
	size_t len;
};

static struct page *pages;
static size_t npages;
static struct image live, writes;

/* Places worth hurting: what is looked at before it is believed, and what is not looked at. */
static struct place {
	struct image *of;
	size_t at, len;
} places[64];
static unsigned nplaces;

static void slurp(struct image *i, const char *name)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	struct stat st;

	A(fd >= 0);
	AZ(fstat(fd, &st));
	snprintf(i->name, sizeof i->name, "%s", name);
	i->len = (size_t)st.st_size;
	i->was = malloc(i->len);
	i->is = malloc(i->len);
	AN(i->was);
	AN(i->is);
	A(pread(fd, i->was, i->len, 0) == (ssize_t)i->len);
	close(fd);
	memcpy(i->is, i->was, i->len);
	i->used = calloc(i->len / PAGE + 1, sizeof *i->used);
	AN(i->used);
	for (size_t at = 0; at < i->len; at++)
		i->used[at / PAGE] |= i->was[at] != 0;
}

/* len bytes of it. */
static void spill(const struct image *i, size_t len)
{
	int fd = open(i->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	A(fd >= 0);
	AZ(ftruncate(fd, (off_t)len));
	for (size_t at = 0; at < len && at < i->len; at += PAGE) {
		size_t k = len - at < PAGE ? len - at : PAGE;

		k = k < i->len - at ? k : i->len - at;
		if (i->used[at / PAGE])
			A(pwrite(fd, i->is + at, k, (off_t)at) == (ssize_t)k);
	}
	close(fd);
}

static void place(struct image *of, size_t at, size_t len)
{
	A(nplaces < 64 && at + len <= of->len && len > 0);
	places[nplaces++] = (struct place){of, at, len};
	of->used[at / PAGE] = of->used[(at + len - 1) / PAGE] = true;
}

/* A long value of which half has been received when the process dies. */
static void half_a_set(struct machine *m, struct wait *w, unsigned k)
{
	uint8_t key = (uint8_t)('A' + k);

	store_op_init(&w->op, m->w[0], &key, 1, done, w);
	w->done = store_set(&w->op, STORE_SET, k, STORE_WHOLE_MAX + 9000);
	until(m, w);
	A(w->op.body_n > 0);
	memset(w->op.body, (int)k, w->op.body_n);
	w->done = false;
	w->done = store_set_body(&w->op) || w->done;
	until(m, w);
}

static void template_make(void)
{
	const struct live *l;
	struct wait half = {.done = false};
	struct machine m = {0};
	unsigned nwbuf;

	shm_folder();
	m.env = sim_env_new(1, NULL);
	AZ(machine_open(&m));
	for (unsigned k = 0; k < KEYS; k++)
		set(&m, k);
	for (unsigned k = 0; k < KEYS; k += 6)
		del(&m, k);
	machine_close(&m);
	AZ(machine_open(&m)); /* all of before is sealed */
	for (unsigned k = KEYS; k < KEYS + 10; k++)
		set(&m, k);
	for (unsigned i = 0; i < 5000; i++)
		turn(&m);
	half_a_set(&m, &half, 60);
	/* not written yet: a value, the end of another */
	for (unsigned k = KEYS + 10; k < KEYS + 13; k++)
		set(&m, k);
	del(&m, 9);
	nwbuf = m.s->nwbuf;
	slurp(&live, m.s->shm_index);
	slurp(&writes, m.s->shm_wbuf);
	sim_env_kill(m.env);
	pages = disk_pages(&m, &npages);
	store_op_end(&half.op);
	machine_close(&m);
	sim_env_free(&m.env);

	l = (const struct live *)(const void *)live.was;
	place(&live, 0, offsetof(struct live, sum) + 8);
	place(&live, offsetof(struct live, serial), 24);
	place(&live, offsetof(struct live, complete), 40);
	place(&live, offsetof(struct live, seq), 8);
	place(&live, offsetof(struct live, generation), 8);
	place(&live, offsetof(struct live, large), 4 * sizeof(struct large_set));
	place(&live, offsetof(struct live, seg), 6 * sizeof(struct live_seg));
	place(&live, l->index_off, 64);
	for (size_t at = l->index_off + HEADER_BYTES; at < live.len && nplaces < 40;
	     at += LINE_BYTES) {
		const struct line *line = (const struct line *)(const void *)(live.was + at);

		if (line_empty_slot(line) != 0)
			place(&live, at, LINE_BYTES);
	}
	for (unsigned i = 0; i < nwbuf && nplaces < 62; i++) {
		const struct wbuf_shm *h = (const void *)(writes.was + (size_t)i * PAGE);

		if (atomic_load(&h->generation) == 0)
			continue;
		place(&writes, (size_t)i * PAGE, sizeof *h);
		place(&writes, (size_t)nwbuf * PAGE + (size_t)i * WBUF_BYTES + h->block_off, PAGE);
	}
	A(nplaces > 12);
}

/* Sums that are made right, so that what lies behind those gates is met. */
static void seal(void)
{
	struct live *l = (struct live *)(void *)live.is;
	uint64_t *index =
	    (uint64_t *)(void *)(live.is + ((struct live *)(void *)live.was)->index_off);

	l->sum = sum64(l, offsetof(struct live, sum));
	index[3] = XXH3_64bits(index, 24);
}

static void patch(unsigned where, unsigned off, const uint8_t *bytes, size_t n)
{
	const struct place *p = &places[where % nplaces];

	off %= (unsigned)p->len;
	memcpy(p->of->is + p->at + off, bytes, n < p->len - off ? n : p->len - off);
}

static void patches(uint8_t choice, const uint8_t *data, size_t n)
{
	if (choice & RANDOM) /* short inputs stand for many random patches */
		for (unsigned i = 0; i < 1 + n % 16; i++) {
			uint64_t x = XXH3_64bits_withSeed(data, n, i), y = XXH3_64bits(&x, 8);
			/* lines of the index most often */
			unsigned where =
			    y % 3 == 0 ? (unsigned)(y >> 32) : 8 + (unsigned)(y >> 32) % 32;

			patch(where, (unsigned)(y >> 8) % PAGE, (const uint8_t *)&x, 1 + y % 8);
		}
	if (choice & COPY) { /* a slot where another key's is expected */
		const struct place *a = &places[8 + (n > 0 ? data[0] : 0) % 32],
				   *b = &places[8 + (n > 1 ? data[1] : 0) % 32];

		if (a->len == LINE_BYTES && b->len == LINE_BYTES)
			memcpy(a->of->is + a->at + 8, b->of->was + b->at + 8, LINE_BYTES - 8);
	}
	while (n >= 4) {
		const uint8_t *head = data;
		size_t len = data[3] % 64u;

		data += 4;
		n -= 4;
		len = len < n ? len : n;
		patch(head[0], head[1] | (unsigned)head[2] << 8, data, len);
		data += len;
		n -= len;
	}
}

/* Lives a while; what is served is right, or the keys are not there. */
static void life(struct machine *m, unsigned choice)
{
	AZ(machine_open(m)); /* a healthy disk: whatever is in memory, there is a start */
	for (unsigned k = 0; k < KEYS + 13; k++)
		get(m, k, false);
	set(m, 3);
	del(m, 4);
	get(m, 4, false);
	if (choice & TURN)
		for (unsigned i = 0; i < 300; i++)
			turn(m);
	if (choice & MORE)
		for (unsigned k = 64; k < 72; k++)
			set(m, k);
	machine_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct machine m = {0};
	size_t live_len, writes_len;
	uint8_t choice, lens;

	if (pages == NULL)
		template_make();
	if (n < 2)
		return 0;
	choice = data[0];
	lens = data[1];
	for (unsigned i = 0; i < nplaces; i++)
		memcpy(places[i].of->is + places[i].at, places[i].of->was + places[i].at,
		       places[i].len);
	patches(choice, data + 2, n - 2);
	if (choice & SEAL)
		seal();
	live_len = lens % 16 == 1 ? lens * 37u : lens % 16 == 2 ? live.len + lens * 512u : live.len;
	writes_len = lens / 16 == 1 ? lens * 8191u : lens / 16 == 2 ? writes.len / 2 : writes.len;
	m.env = sim_env_new(2, NULL);
	disk_make(&m, pages, npages);
	spill(&live, live_len);
	if (choice & NO_WRITES)
		(void)unlink(writes.name);
	else
		spill(&writes, writes_len);
	life(&m, choice);
	life(&m, choice & MORE);
	life(&m, 0);
	sim_env_free(&m.env);
	return 0;
}
