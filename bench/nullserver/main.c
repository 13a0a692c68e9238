/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nullserver: the bound for what a socket server can do here. It receives, it sends, it has no
 * logic: each line is answered with one fixed reply (-r BYTES, framed as memcached frames a value),
 * or, with -S, each text `set` is swallowed and answered STORED.
 *
 * valbench reads it with --verify frame. The main thread accepts and deals connections out.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/size.h"
#include "bench/nullserver/loop.h"

#define THREADS_MAX 64
#define TAIL_MIN    (256u << 10) /* behind the last start, so that every send can be big */
#define BACKLOG     1024

static const char help_text[] =
    "usage: nullserver [-p PORT] [-s PATH] [-t THREADS] [-r BYTES [-w BYTES] | -S]\n"
    "                  [-b BYTES] [-n COUNT]\n"
    "  -p PORT     TCP port on 127.0.0.1 (11311)\n"
    "  -s PATH     unix socket instead\n"
    "  -t THREADS  workers, each with its own io_uring (1)\n"
    "  -r BYTES    length of the value in every reply (100)\n"
    "  -w BYTES    replies are taken from so much memory: give it the size of the hot set of\n"
    "              the server it is compared with, else its copies come from nearer caches (0)\n"
    "  -S          swallow `set` bodies and answer STORED\n"
    "  -b BYTES    size of a receive buffer (4k; with -S 32k)\n"
    "  -n COUNT    receive buffers of a worker, a power of two (256; with -S 64)\n";

static int listen_tcp(unsigned port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
	    bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return fd;
}

static int listen_unix(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof sa.sun_path)
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	unlink(path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return fd;
}

/* One reply, repeated to the size of the working set and a tail. */
static int make_replies(struct loop_config *cfg, size_t value_len, size_t working_set)
{
	/* a key as long as valbench's, so that as many bytes travel as from a real server */
	static const char key[] = "00000000-0000-0000-0000-000000000000";
	char *one = malloc(value_len + 128);
	uint8_t *block;
	size_t n;

	if (one == NULL)
		return -ENOMEM;
	if (cfg->sink) {
		n = (size_t)sprintf(one, "STORED\r\n");
	} else {
		n = (size_t)sprintf(one, "VALUE %s 0 %zu\r\n", key, value_len);
		memset(one + n, 'x', value_len);
		n += value_len;
		n += (size_t)sprintf(one + n, "\r\nEND\r\n");
	}
	cfg->reply_len = n;
	cfg->starts = working_set / n + 1;
	cfg->replies_len = (cfg->starts + TAIL_MIN / n) * n;
	block = malloc(cfg->replies_len);
	if (block != NULL)
		for (size_t at = 0; at < cfg->replies_len; at += n)
			memcpy(block + at, one, n);
	free(one);
	cfg->replies = block;
	return block == NULL ? -ENOMEM : 0;
}

static void raise_file_limit(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
}

static void accept_forever(int fd, struct loop **loops, uint64_t threads)
{
	for (uint64_t turn = 0;; turn++) {
		int one = 1, c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (c < 0) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			fprintf(stderr, "nullserver: accept: %s\n", strerror(errno));
			usleep(100000);
			continue;
		}
		setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		loop_give(loops[turn % threads], c);
	}
}

int main(int argc, char **argv)
{
	uint64_t port = 11311, threads = 1, reply = 100, working_set = 0, buffer_size = 0,
		 buffers = 0;
	struct loop *loops[THREADS_MAX];
	struct loop_config cfg = {0};
	const char *path = NULL;
	int opt, rc = 0, fd;

	while ((opt = getopt(argc, argv, "p:s:t:r:w:Sb:n:h")) != -1) {
		switch (opt) {
		case 'p':
			rc |= size_parse_number(optarg, &port);
			break;
		case 's':
			path = optarg;
			break;
		case 't':
			rc |= size_parse_number(optarg, &threads);
			break;
		case 'r':
			rc |= size_parse(optarg, &reply);
			break;
		case 'w':
			rc |= size_parse(optarg, &working_set);
			break;
		case 'S':
			cfg.sink = true;
			break;
		case 'b':
			rc |= size_parse(optarg, &buffer_size);
			break;
		case 'n':
			rc |= size_parse_number(optarg, &buffers);
			break;
		case 'h':
			fputs(help_text, stdout);
			return 0;
		default:
			rc = -EINVAL;
		}
	}
	if (buffer_size == 0)
		buffer_size = cfg.sink ? 32768 : 4096;
	if (buffers == 0)
		buffers = cfg.sink ? 64 : 256;
	if (rc != 0 || optind < argc || threads < 1 || threads > THREADS_MAX || port > 65535 ||
	    reply > (64u << 20) || working_set > (8ull << 30) || buffer_size > (16u << 20) ||
	    buffers > 32768 || (buffers & (buffers - 1)) != 0) {
		fprintf(stderr, "nullserver: bad flags\n%s", help_text);
		return 2;
	}
	cfg.buffer_size = (unsigned)buffer_size;
	cfg.buffers = (unsigned)buffers;
	raise_file_limit();
	rc = make_replies(&cfg, reply, working_set);
	fd = path != NULL ? listen_unix(path) : listen_tcp((unsigned)port);
	if (rc == 0 && fd < 0)
		rc = fd;
	for (uint64_t i = 0; rc == 0 && i < threads; i++)
		rc = loop_start(&loops[i], &cfg);
	if (rc != 0) {
		fprintf(stderr, "nullserver: cannot serve: %s\n", strerror(-rc));
		free(cfg.replies);
		return 1;
	}
	accept_forever(fd, loops, threads);
	return 0;
}
