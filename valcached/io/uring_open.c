/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making and ending a ring of the io_uring engine: what the kernel can do is found by trying, and
 * what it refuses is said with the remedy.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/cause.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memcheck.h"
#include "base/size.h"
#include "valcached/io/uring_int.h"

/* What to leave out, in this order, when the kernel does not know it; 6.1 knows all. */
static const struct {
	unsigned drop, add;
} peel[] = {
    {IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_COOP_TASKRUN},
    {IORING_SETUP_SINGLE_ISSUER, 0},
    {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, 0},
    {IORING_SETUP_SUBMIT_ALL, 0},
};

static int ring_setup(struct uring *u, unsigned entries, struct io_uring_params *p)
{
	unsigned flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
			 IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED;
	int r = -EINVAL;

	for (size_t i = 0; r == -EINVAL && i <= sizeof peel / sizeof *peel; i++) {
		if (i > 0)
			flags = (flags & ~peel[i - 1].drop) | peel[i - 1].add;
		/* Multishot requests complete many times: room for eight each. */
		*p = (struct io_uring_params){.flags = flags, .cq_entries = entries * 8};
		r = io_uring_queue_init_params(entries, &u->ring, p);
	}
	if (r < 0)
		u->ring.ring_fd = -1;
	return r;
}

static void memory_cause(char **cause)
{
	struct rlimit lim = {.rlim_cur = RLIM_INFINITY};
	char now[SIZE_TEXT_MAX];

	(void)getrlimit(RLIMIT_MEMLOCK, &lim);
	if (lim.rlim_cur == RLIM_INFINITY)
		cause_say(cause, "no memory for an io_uring ring of every worker: lower -t");
	else
		cause_say(
		    cause,
		    "no memory for an io_uring ring of every worker under a locked-memory limit "
		    "of %s: raise it (LimitMEMLOCK=infinity in the unit file, or ulimit -l "
		    "unlimited), or lower -t",
		    size_human(now, sizeof now, (double)lim.rlim_cur));
}

static void setup_cause(int r, char **cause)
{
	struct utsname un;

	if (uname(&un) < 0)
		un.release[0] = '\0';
	switch (r) {
	case -EPERM:
	case -EACCES:
		cause_say(
		    cause,
		    "io_uring is not allowed here (%s): in a container, its seccomp profile must "
		    "allow the io_uring system calls; elsewhere, sysctl kernel.io_uring_disabled "
		    "must be 0",
		    strerror(-r));
		break;
	case -ENOSYS:
	case -EINVAL:
		cause_say(cause,
			  "this kernel (%s) has no io_uring or one that is too old: Linux 6.1 or "
			  "newer is "
			  "needed",
			  un.release);
		break;
	case -ENOMEM:
		memory_cause(cause);
		break;
	case -EMFILE:
	case -ENFILE:
		cause_say(cause, "no descriptor left for an io_uring ring: raise the limit "
				 "(LimitNOFILE=65536 in "
				 "the unit file, or ulimit -n 65536)");
		break;
	default:
		cause_say(cause, "io_uring cannot be set up: %s", strerror(-r));
		break;
	}
}

/* io_uring of 6.0 or newer? Multishot receive has no feature bit; SEND_ZC came with it. */
static bool new_enough(struct uring *u)
{
	struct io_uring_probe *p = io_uring_get_probe_ring(&u->ring);
	bool ok = p != NULL && io_uring_opcode_supported(p, IORING_OP_SEND_ZC);

	io_uring_free_probe(p);
	return ok;
}

static int make_buffers(struct uring *u, unsigned n, unsigned size)
{
	struct io_uring_buf_reg reg = {.ring_entries = n, .bgid = RECV_GROUP};
	void *p;
	int r;

	u->bufs_len = n * sizeof(struct io_uring_buf);
	u->buf_base_len = (size_t)n * size;
	p = mmap(NULL, u->bufs_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	u->bufs = p;
	p = mmap(NULL, u->buf_base_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	u->buf_base = p;
	reg.ring_addr = (uintptr_t)u->bufs;
	r = io_uring_register_buf_ring(&u->ring, &reg, 0);
	if (r < 0)
		return r;
	u->buf_n = n;
	u->buf_size = size;
	io_uring_buf_ring_init(u->bufs);
	for (unsigned i = 0; i < n; i++)
		io_uring_buf_ring_add(u->bufs, u->buf_base + (size_t)i * size, size,
				      (unsigned short)i, (int)(n - 1), (int)i);
	io_uring_buf_ring_advance(u->bufs, (int)n);
	return 0;
}

static void log_features(const struct uring *u, const struct io_uring_params *p)
{
	static _Atomic bool said;

	if (atomic_exchange(&said, true))
		return;
	log_info("io: io_uring, %u+%u entries a ring%s%s%s%s%s%s", p->sq_entries, p->cq_entries,
		 p->flags & IORING_SETUP_DEFER_TASKRUN ? ", deferred task work" : "",
		 p->flags & IORING_SETUP_COOP_TASKRUN ? ", cooperative task work" : "",
		 p->flags & IORING_SETUP_SINGLE_ISSUER ? ", single issuer" : "",
		 u->table_files ? ", registered files" : "",
		 u->table_buffers ? ", registered buffers" : "",
		 p->features & IORING_FEAT_NO_IOWAIT ? ", no iowait" : "");
}

static void uring_free(struct uring *u)
{
	if (u->ring.ring_fd >= 0) {
		/*
		 * A registered ring descriptor is its thread's and goes with that thread; another
		 * thread would give back one of its own.
		 */
		if (u->enter_flags & IORING_ENTER_REGISTERED_RING && u->owner != gettid()) {
			u->ring.int_flags = 0;
			u->ring.enter_ring_fd = u->ring.ring_fd;
		}
		io_uring_queue_exit(&u->ring);
	}
	if (u->bufs != NULL)
		munmap(u->bufs, u->bufs_len);
	if (u->buf_base != NULL)
		munmap(u->buf_base, u->buf_base_len);
	if (u->wake_fd >= 0)
		close(u->wake_fd);
	u->magic = 0;
	free(u);
}

void uring_close(struct io *io)
{
	struct uring *u = uring_of(io);

	A(u->in_kernel == 0 && u->disk_now == 0);
	A(u->local.head == NULL && u->backlog.head == NULL && u->sends.head == NULL &&
	  u->starved.head == NULL && u->disk_wait.head == NULL);
	uring_free(u);
}

static int open_once(const struct io_engine *engine, const struct io_config *c, struct io **io,
		     char **cause)
{
	unsigned entries = c->entries != 0 ? c->entries : 512;
	unsigned buf_n = c->recv_buffers != 0 ? c->recv_buffers : 64;
	unsigned buf_size = c->recv_buffer_size != 0 ? c->recv_buffer_size : 16384;
	struct io_uring_params p;
	struct uring *u;
	int r = -ENOMEM;

	A((buf_n & (buf_n - 1)) == 0 && buf_n <= 32768);
	u = calloc(1, sizeof *u);
	if (u == NULL) {
		cause_say(cause, "no memory for an event loop");
		return r;
	}
	u->magic = URING_MAGIC;
	u->io.ops = &uring_ops;
	u->io.engine = engine;
	u->io.now_ns = clock_ns();
	u->ring.ring_fd = -1;
	u->disk_depth = c->disk_depth != 0 ? c->disk_depth : 128;
	u->spin_ns = c->spin_ns;
	op_list_init(&u->disk_wait);
	op_list_init(&u->backlog);
	op_list_init(&u->local);
	op_list_init(&u->sends);
	op_list_init(&u->starved);
	op_list_init(&u->cancels);
	u->memcheck = memcheck_runs();

	u->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (u->wake_fd < 0) {
		r = -errno;
		setup_cause(r, cause);
		goto fail;
	}
	r = ring_setup(u, entries, &p);
	if (r < 0) {
		setup_cause(r, cause);
		goto fail;
	}
	if (!(p.features & IORING_FEAT_EXT_ARG) || !(p.features & IORING_FEAT_NODROP) ||
	    !new_enough(u)) {
		r = -ENOSYS;
		setup_cause(r, cause);
		goto fail;
	}
	if (p.features & IORING_FEAT_NO_IOWAIT)
		u->enter_flags |= IORING_ENTER_NO_IOWAIT;
	for (unsigned i = 0; i < p.sq_entries; i++)
		u->ring.sq.array[i] = i;
	(void)io_uring_ring_dontfork(&u->ring);
	if (c->net) {
		r = make_buffers(u, buf_n, buf_size);
		if (r < 0) {
			setup_cause(r, cause);
			goto fail;
		}
	}
	/* Tables without entries yet; where they are refused we go on without. */
	u->table_files = io_uring_register_files_sparse(&u->ring, IO_FILES_MAX) == 0;
	u->table_buffers = io_uring_register_buffers_sparse(&u->ring, PIECES_MAX) == 0;
	log_features(u, &p);
	*io = &u->io;
	return 0;

fail:
	uring_free(u);
	return r;
}

/*
 * A ring that was closed, or whose process was killed, gives its locked memory back in the background. Who tries whether
 * there is room waits a little for that; who opens one after such a trial knows that there is, and waits until the
 * trial's own rings are gone, also on a busy machine.
 */
#define TRIAL_WAIT_NS  (200 * NS_PER_MS)
#define MEMORY_WAIT_NS (5 * NS_PER_S)

int uring_open(const struct io_engine *engine, const struct io_config *c, struct io **io,
	       char **cause)
{
	const struct timespec pause = {.tv_nsec = 2 * NS_PER_MS};
	uint64_t begin = clock_ns(), wait = c->trial ? TRIAL_WAIT_NS : MEMORY_WAIT_NS;
	int r;

	while ((r = open_once(engine, c, io, cause)) == -ENOMEM && clock_ns() - begin < wait) {
		if (cause != NULL)
			free(*cause);
		nanosleep(&pause, NULL);
	}
	return r;
}
