/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring of the io_uring engine, once it is enabled, refuses every request, request flag and register call that
 * the engine does not make; what it makes goes on, the change of a file's table entry included.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/unit/io_test.h"
#include "valcached/io/uring_int.h"

#define TAG 0x7000u /* user_data of what the test asks for */

struct world {
	struct io *io;
	struct uring *u;
	struct io_file *file;
	char dir[32], path[64];
	void *memory;
};

static void world_open(struct world *w, bool net)
{
	struct io_config c = {.net = net};
	char *cause = NULL;

	strcpy(w->dir, "io-restrict-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof w->path, "%s/store", w->dir);
	assert_int_equal(
	    io_uring_engine.file_open(&io_uring_engine, w->path, 1 << 20, &w->file, &cause), 0);
	assert_int_equal(io_open(&io_uring_engine, &c, &w->io, &cause), 0);
	w->u = container_of(w->io, struct uring, io);
	w->memory = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(w->memory, MAP_FAILED);
	assert_int_equal(io_add_memory(w->io, w->memory, 8 << 20), 0);
	assert_int_equal(io_add_file(w->io, w->file), 0);
	assert_true(io_turn(w->io, 0) >= 0); /* enabled from here on */
}

static void world_close(struct world *w)
{
	io_close(&w->io);
	io_uring_engine.file_close(w->file);
	munmap(w->memory, 8 << 20);
	unlink(w->path);
	rmdir(w->dir);
}

/* The result of a request that is made past the engine. */
static int result(struct world *w, const struct io_uring_sqe *what)
{
	struct io_uring_sqe *sqe = uring_sqe(w->u);
	struct io_uring_cqe *cqe;
	int res;

	assert_non_null(sqe);
	*sqe = *what;
	sqe->user_data = TAG;
	for (;;) {
		assert_int_equal(uring_enter(w->u, true, 1, NULL), 0);
		assert_int_equal(io_uring_peek_cqe(&w->u->ring, &cqe), 0);
		res = cqe->res;
		if (cqe->user_data == TAG)
			break;
		io_uring_cqe_seen(&w->u->ring, cqe);
	}
	io_uring_cqe_seen(&w->u->ring, cqe);
	return res;
}

static int request(struct world *w, unsigned opcode, unsigned flags)
{
	struct io_uring_sqe sqe;

	/* whatever it asks for, the restriction is looked at first */
	io_uring_prep_nop(&sqe);
	sqe.opcode = (__u8)opcode;
	sqe.fd = -1;
	sqe.flags = (__u8)flags;
	return result(w, &sqe);
}

static void other_requests(void **state)
{
	static const bool net[] = {true, false};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		static const uint8_t used[] = {
		    IORING_OP_POLL_ADD,   IORING_OP_ASYNC_CANCEL, IORING_OP_READ,
		    IORING_OP_READ_FIXED, IORING_OP_WRITE,        IORING_OP_WRITE_FIXED,
		    IORING_OP_FSYNC,      IORING_OP_ACCEPT,       IORING_OP_RECV,
		    IORING_OP_SEND,       IORING_OP_SENDMSG};
		struct world w = {0};
		unsigned n = net[i] ? sizeof used : 7, refused = 0;

		world_open(&w, net[i]);
		for (unsigned op = 0; op < 256; op++) {
			int res;

			if (memchr(used, (int)op, n) != NULL)
				continue;
			res = request(&w, op, 0);
			/* -EINVAL: this kernel has no such request at all */
			if (res != -EACCES && (res != -EINVAL || op < IORING_OP_LAST))
				fail_msg("request %u: %d", op, res);
			refused += res == -EACCES;
		}
		assert_true(refused >= IORING_OP_LAST - n);
		world_close(&w);
	}
}

/* The same ring says something else of what is used: so it is the list that refuses above. */
static void own_requests(void **state)
{
	struct world w = {0};
	struct io_uring_sqe sqe;
	char *text = w.path; /* memory that may be read */

	(void)state;
	world_open(&w, true);
	assert_int_equal(request(&w, IORING_OP_FSYNC, 0), -EBADF);
	assert_int_equal(request(&w, IORING_OP_SEND, 0), -EBADF);
	assert_int_equal(request(&w, IORING_OP_ACCEPT, 0), -EBADF);
	io_uring_prep_openat(&sqe, AT_FDCWD, text, O_RDONLY, 0);
	assert_int_equal(result(&w, &sqe), -EACCES);
	io_uring_prep_socket(&sqe, AF_INET, SOCK_STREAM, 0, 0);
	assert_int_equal(result(&w, &sqe), -EACCES);
	world_close(&w);
}

static void other_flags(void **state)
{
	struct world w = {0};

	(void)state;
	world_open(&w, true);
	assert_int_equal(request(&w, IORING_OP_FSYNC, IOSQE_ASYNC), -EACCES);
	assert_int_equal(request(&w, IORING_OP_FSYNC, IOSQE_IO_DRAIN), -EACCES);
	assert_int_equal(request(&w, IORING_OP_FSYNC, IOSQE_IO_LINK), -EACCES);
	assert_int_equal(request(&w, IORING_OP_FSYNC, IOSQE_IO_HARDLINK), -EACCES);
	world_close(&w);
}

static void other_registrations(void **state)
{
	static const uint8_t used[] = {IORING_REGISTER_FILES_UPDATE2,
				       IORING_REGISTER_BUFFERS_UPDATE, IORING_UNREGISTER_RING_FDS};
	struct world w = {0};

	(void)state;
	world_open(&w, true);
	for (unsigned op = 0; op < 64; op++) {
		int res;

		if (memchr(used, (int)op, sizeof used) != NULL)
			continue;
		res = io_uring_register((unsigned)w.u->ring.ring_fd, op, NULL, 0);
		if (res != -EACCES && (res != -EINVAL || op < IORING_REGISTER_LAST))
			fail_msg("register call %u: %d", op, res);
	}
	world_close(&w);
}

static void files_and_memory_later(void **state)
{
	struct world w = {0};
	struct box b = {0};
	char *cause = NULL;

	(void)state;
	world_open(&w, false);
	/* a piece of memory that is registered now */
	io_write(w.io, &b.op, w.file, (char *)w.memory + (5 << 20), 4096, 0, box_done);
	turn_until(w.io, b.lasts == 1);
	assert_int_equal(b.res, 4096);
	/* and a path that is brought back */
	io_uring_engine.file_shut(w.file);
	assert_int_equal(io_add_file(w.io, w.file), 0);
	io_read(w.io, &b.op, w.file, w.memory, 4096, 0, box_done);
	turn_until(w.io, b.lasts == 2);
	assert_true(b.res <= 0);
	assert_int_equal(io_uring_engine.file_reopen(w.file, &cause), 0);
	assert_int_equal(io_add_file(w.io, w.file), 0);
	io_read(w.io, &b.op, w.file, w.memory, 4096, 0, box_done);
	turn_until(w.io, b.lasts == 3);
	assert_int_equal(b.res, 4096);
	assert_true(w.u->files_fixed != 0);
	assert_true(w.u->registered[0] & 1u << (5 >> 1));
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(other_requests),
	    cmocka_unit_test(own_requests),
	    cmocka_unit_test(other_flags),
	    cmocka_unit_test(other_registrations),
	    cmocka_unit_test(files_and_memory_later),
	};

	return cmocka_run_group_tests_name("what a ring may be asked", tests, NULL, NULL);
}
