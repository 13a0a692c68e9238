/* SPDX-License-Identifier: Apache-2.0 */
/* ping, get, put, del. One thread. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/size.h"
#include "base/write.h"
#include "tools/valcachectl/ctl.h"

#define VALUE_MAX (1024u * 1024 * 1024) /* memcached's own limit for -I */

static int lost(const struct ctl *ctl, int error)
{
	return ctl_fail(CTL_SERVER, "%s: %s", ctl->server, conn_error(error));
}

/* --- ping --------------------------------------------------------------------------------------
 */

int ctl_ping(const struct ctl *ctl, int argc, char **argv)
{
	uint64_t count = 1, best = UINT64_MAX, worst = 0, sum = 0;
	struct conn *c;
	char line[200];
	int f, ret = 0;

	while ((f = getopt(argc, argv, "+n:")) != -1) {
		if (f != 'n')
			return CTL_USAGE;
		if (size_parse_number(optarg, &count) != 0 || count < 1 || count > 1000000)
			return ctl_fail(
			    CTL_USAGE, "-n %s is not allowed: a number from 1 to 1000000 is wanted",
			    optarg);
	}
	if (optind != argc)
		return ctl_fail(CTL_USAGE, "ping takes no argument");
	c = ctl_connect(ctl);
	if (c == NULL)
		return CTL_SERVER;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t t = clock_ns();

		ret = conn_send(c, "version\r\n", 9);
		if (ret == 0)
			ret = conn_line(c, line, sizeof line);
		if (ret < 0)
			break;
		t = clock_ns() - t;
		if (strncmp(line, "VERSION ", 8) != 0) {
			ret = -EPROTO;
			break;
		}
		sum += t;
		best = t < best ? t : best;
		worst = t > worst ? t : worst;
		printf("%s: version %s, %.3f ms\n", ctl->server, line + 8, (double)t / 1e6);
		fflush(stdout);
		if (i + 1 < count)
			nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
	}
	if (ret >= 0 && count > 1)
		printf("%llu answers: least %.3f, mean %.3f, most %.3f ms\n",
		       (unsigned long long)count, (double)best / 1e6,
		       (double)sum / 1e6 / (double)count, (double)worst / 1e6);
	ctl_disconnect(&c);
	return ret < 0 ? lost(ctl, ret) : CTL_OK;
}

/* --- get ---------------------------------------------------------------------------------------
 */

/*
 * A file is written beside its name and renamed when it is whole: a get that fails leaves what was
 * there before.
 */
struct sink {
	const char *file; /* NULL: stdout */
	char *part;
	int fd;
};

static int sink_open(struct sink *s, const char *file)
{
	s->file = file;
	s->part = NULL;
	s->fd = STDOUT_FILENO;
	if (file == NULL)
		return 0;
	if (asprintf(&s->part, "%s.part", file) < 0) {
		s->part = NULL;
		return ctl_fail(CTL_SERVER, "out of memory");
	}
	s->fd = open(s->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (s->fd >= 0)
		return 0;
	ctl_fail(CTL_SERVER, "%s cannot be written: %s", s->part, strerror(errno));
	free(s->part);
	s->part = NULL;
	return CTL_SERVER;
}

/* Keeps what was written if good; returns status, or CTL_SERVER if that fails. */
static int sink_close(struct sink *s, int status)
{
	if (s->part == NULL)
		return status; /* stdout */
	if (close(s->fd) != 0 && status == CTL_OK)
		status = ctl_fail(CTL_SERVER, "%s: %s", s->part, strerror(errno));
	if (status == CTL_OK && rename(s->part, s->file) != 0)
		status = ctl_fail(CTL_SERVER, "%s: %s", s->file, strerror(errno));
	if (status != CTL_OK)
		unlink(s->part);
	free(s->part);
	return status;
}

/* Copies the value of len bytes and the end of the answer from c. */
static int copy_value(const struct ctl *ctl, struct conn *c, uint64_t len, const char *file)
{
	struct sink sink;
	char line[200];
	uint64_t left = len;
	int status = sink_open(&sink, file);

	if (status != 0)
		return status;
	while (left > 0) {
		const char *data;
		int n = conn_some(c, &data, left < 65536 ? left : 65536), ret;

		if (n < 0) {
			status =
			    ctl_fail(CTL_SERVER, "%s: %s after %llu of %llu bytes", ctl->server,
				     conn_error(n), (unsigned long long)(len - left),
				     (unsigned long long)len);
			break;
		}
		ret = write_all(sink.fd, data, (size_t)n);
		if (ret != 0) {
			status = ctl_fail(CTL_SERVER, "cannot write the value: %s", strerror(-ret));
			break;
		}
		left -= (uint64_t)n;
	}
	if (status == CTL_OK) {
		int ret = conn_crlf(c);

		if (ret == 0)
			ret = conn_line(c, line, sizeof line);
		if (ret >= 0 && strcmp(line, "END") != 0)
			ret = -EPROTO;
		if (ret < 0)
			status = lost(ctl, ret);
	}
	return sink_close(&sink, status);
}

int ctl_get(const struct ctl *ctl, int argc, char **argv)
{
	const char *file = NULL, *key;
	char line[1024], request[300];
	unsigned long long len, flags;
	struct conn *c;
	int f, n, ret, status;

	while ((f = getopt(argc, argv, "+o:")) != -1) {
		if (f != 'o')
			return CTL_USAGE;
		file = optarg;
	}
	if (argc - optind != 1)
		return ctl_fail(CTL_USAGE, "get wants one key");
	key = argv[optind];
	if (ctl_check_key(key) != 0)
		return CTL_USAGE;
	c = ctl_connect(ctl);
	if (c == NULL)
		return CTL_SERVER;
	n = snprintf(request, sizeof request, "get %s\r\n", key);
	ret = conn_send(c, request, (size_t)n);
	if (ret == 0)
		ret = conn_line(c, line, sizeof line);
	if (ret < 0)
		status = lost(ctl, ret);
	else if (strcmp(line, "END") == 0)
		status = ctl_fail(CTL_NO, "%s: not there", key);
	else if (sscanf(line, "VALUE %*250s %llu %llu", &flags, &len) == 2 && len <= VALUE_MAX)
		status = copy_value(ctl, c, len, file);
	else
		status = ctl_fail(CTL_SERVER, "%s: %s", ctl->server, ctl_refusal(ctl, line));
	ctl_disconnect(&c);
	return status;
}

/* --- put ---------------------------------------------------------------------------------------
 */

/* All of fd in memory of the caller's; 0 or -errno, -EFBIG above VALUE_MAX. */
static int read_all(int fd, char **data, size_t *len)
{
	size_t size = 65536, used = 0;
	char *buf = malloc(size);
	int ret = 0;

	while (buf != NULL && ret == 0) {
		ssize_t n;

		if (used == size) {
			char *grown = size < 2ull * VALUE_MAX ? realloc(buf, size * 2) : NULL;

			if (grown == NULL) {
				ret = size < 2ull * VALUE_MAX ? -ENOMEM : -EFBIG;
				break;
			}
			buf = grown;
			size *= 2;
		}
		n = read(fd, buf + used, size - used);
		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
			ret = -errno;
		if (n > 0)
			used += (size_t)n;
		if (used > VALUE_MAX)
			ret = -EFBIG;
	}
	if (buf == NULL)
		return -ENOMEM;
	if (ret != 0) {
		free(buf);
		return ret;
	}
	*data = buf;
	*len = used;
	return 0;
}

static int load(const char *file, char **data, size_t *len)
{
	int fd = STDIN_FILENO, ret;

	if (file != NULL && strcmp(file, "-") != 0) {
		fd = open(file, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return ctl_fail(CTL_USAGE, "%s cannot be read: %s", file, strerror(errno));
	}
	ret = read_all(fd, data, len);
	if (fd != STDIN_FILENO)
		close(fd);
	if (ret != 0)
		return ctl_fail(CTL_USAGE, "%s cannot be read: %s",
				fd != STDIN_FILENO ? file : "stdin", strerror(-ret));
	return 0;
}

int ctl_put(const struct ctl *ctl, int argc, char **argv)
{
	const char *file = NULL, *key, *text = NULL;
	char line[1024], head[400], *loaded = NULL;
	uint64_t flags = 0;
	bool add = false;
	size_t len = 0;
	struct conn *c;
	int f, n, ret, status;

	while ((f = getopt(argc, argv, "+af:i:")) != -1) {
		switch (f) {
		case 'a':
			add = true;
			break;
		case 'f':
			if (size_parse_number(optarg, &flags) != 0 || flags > UINT32_MAX)
				return ctl_fail(
				    CTL_USAGE,
				    "-f %s is not allowed: a number below 2^32 is wanted", optarg);
			break;
		case 'i':
			file = optarg;
			break;
		default:
			return CTL_USAGE;
		}
	}
	if (argc - optind < 1 || argc - optind > 2)
		return ctl_fail(CTL_USAGE,
				"put wants one key, and a value unless it comes from elsewhere");
	key = argv[optind];
	if (ctl_check_key(key) != 0)
		return CTL_USAGE;
	if (argc - optind == 2) {
		if (file != NULL)
			return ctl_fail(CTL_USAGE, "put takes a value or -i, not both");
		text = argv[optind + 1];
		len = strlen(text);
	} else {
		if (load(file, &loaded, &len) != 0)
			return CTL_USAGE;
		text = loaded;
	}
	c = ctl_connect(ctl);
	if (c == NULL) {
		free(loaded);
		return CTL_SERVER;
	}
	n = snprintf(head, sizeof head, "%s %s %llu 0 %zu\r\n", add ? "add" : "set", key,
		     (unsigned long long)flags, len);
	ret = conn_send(c, head, (size_t)n);
	if (ret == 0)
		ret = conn_send(c, text, len);
	if (ret == 0)
		ret = conn_send(c, "\r\n", 2);
	/* a server that refuses may close before it has read all; its reason is still there to read
	 */
	if (ret != -ETIMEDOUT)
		ret = conn_line(c, line, sizeof line);
	if (ret < 0)
		status = lost(ctl, ret);
	else if (strcmp(line, "STORED") == 0)
		status = CTL_OK;
	else if (strcmp(line, "NOT_STORED") == 0)
		status = ctl_fail(CTL_NO, "%s: not stored: the key is there already%s", key,
				  add ? "" : " with another value");
	else
		status = ctl_fail(CTL_NO, "%s: %s", key, ctl_refusal(ctl, line));
	ctl_disconnect(&c);
	free(loaded);
	return status;
}

/* --- del ---------------------------------------------------------------------------------------
 */

int ctl_del(const struct ctl *ctl, int argc, char **argv)
{
	struct conn *c;
	int status = CTL_OK;

	if (getopt(argc, argv, "+") != -1)
		return CTL_USAGE;
	if (optind == argc)
		return ctl_fail(CTL_USAGE, "del wants a key");
	for (int i = optind; i < argc; i++)
		if (ctl_check_key(argv[i]) != 0)
			return CTL_USAGE;
	c = ctl_connect(ctl);
	if (c == NULL)
		return CTL_SERVER;
	for (int i = optind; i < argc; i++) {
		char request[300], line[1024];
		int n = snprintf(request, sizeof request, "delete %s\r\n", argv[i]);
		int ret = conn_send(c, request, (size_t)n);

		if (ret == 0)
			ret = conn_line(c, line, sizeof line);
		if (ret < 0) {
			status = lost(ctl, ret);
			break;
		}
		if (strcmp(line, "NOT_FOUND") == 0)
			status = ctl_fail(CTL_NO, "%s: not there", argv[i]);
		else if (strcmp(line, "DELETED") != 0)
			status = ctl_fail(CTL_NO, "%s: %s", argv[i], ctl_refusal(ctl, line));
	}
	ctl_disconnect(&c);
	return status;
}
