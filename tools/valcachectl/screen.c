/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal; see screen.h. The signals of interest are blocked except inside ppoll(), so none is
 * lost between a look at the flags and the wait.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/write.h"
#include "tools/valcachectl/screen.h"

#define ENTER "\033[?1049h\033[?25l" /* alternate screen, no cursor */
#define LEAVE "\033[?25h\033[?1049l"

static volatile sig_atomic_t quit, resized, stopped;
static sigset_t before; /* the mask to wait with */
static const int watched[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP};
static struct sigaction kept[sizeof watched / sizeof watched[0]];

static void on_signal(int sig)
{
	if (sig == SIGWINCH)
		resized = 1;
	else if (sig == SIGTSTP)
		stopped = 1;
	else
		quit = 1;
}

static bool show(const char *data, size_t len)
{
	return write_all(STDOUT_FILENO, data, len) == 0;
}

static void enter(struct screen *s)
{
	struct termios raw;

	if (s->keys) {
		raw = s->saved;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO); /* ISIG stays: ctrl-C is SIGINT */
		raw.c_cc[VMIN] = 0;
		raw.c_cc[VTIME] = 0;
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	if (s->tty)
		show(ENTER, sizeof ENTER - 1);
}

static void leave(struct screen *s)
{
	if (s->tty)
		show(LEAVE, sizeof LEAVE - 1);
	if (s->keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &s->saved);
}

int screen_open(struct screen *s)
{
	struct sigaction sa = {.sa_handler = on_signal};
	sigset_t block;

	memset(s, 0, sizeof *s);
	s->tty = isatty(STDOUT_FILENO) == 1;
	s->keys = isatty(STDIN_FILENO) == 1 && tcgetattr(STDIN_FILENO, &s->saved) == 0;
	s->size = 65536;
	s->frame = malloc(s->size);
	if (s->frame == NULL)
		return -ENOMEM;
	sigemptyset(&block);
	for (size_t i = 0; i < sizeof watched / sizeof watched[0]; i++) {
		sigaddset(&block, watched[i]);
		sigaction(watched[i], &sa, &kept[i]);
	}
	sigprocmask(SIG_BLOCK, &block, &before);
	enter(s);
	return 0;
}

void screen_close(struct screen *s)
{
	leave(s);
	for (size_t i = 0; i < sizeof watched / sizeof watched[0]; i++)
		sigaction(watched[i], &kept[i], NULL);
	sigprocmask(SIG_SETMASK, &before, NULL);
	free(s->frame);
	s->frame = NULL;
}

void screen_begin(struct screen *s)
{
	struct winsize w;

	s->rows = 0; /* no limit */
	s->cols = 100;
	if (s->tty && ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row > 0 && w.ws_col > 0) {
		s->rows = w.ws_row;
		s->cols = w.ws_col;
	}
	s->row = 0;
	s->used = 0;
}

static void put(struct screen *s, const char *text, size_t len)
{
	if (len > s->size - s->used)
		len = s->size - s->used;
	memcpy(s->frame + s->used, text, len);
	s->used += len;
}

void screen_line(struct screen *s, enum screen_style style, const char *fmt, ...)
{
	static const char *const on[] = {"", "\033[1m", "\033[7m"};
	char line[512];
	va_list ap;
	size_t len;
	int n;

	if (s->rows > 0 && s->row >= s->rows)
		return;
	va_start(ap, fmt);
	n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	len = n < 0 ? 0 : (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;
	if (len > s->cols)
		len = s->cols;
	/* what a server sends must not steer the terminal */
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	if (style == SCREEN_BAR && s->tty) {
		size_t full = s->cols < sizeof line ? s->cols : sizeof line;

		memset(line + len, ' ', full - len);
		len = full;
	}
	if (!s->tty) {
		put(s, line, len);
		put(s, "\n", 1);
	} else {
		if (s->row > 0)
			put(s, "\r\n", 2);
		put(s, on[style], strlen(on[style]));
		put(s, line, len);
		put(s, "\033[0m\033[K", 7);
	}
	s->row++;
}

bool screen_end(struct screen *s)
{
	if (!s->tty)
		return show(s->frame, s->used) && show("\n", 1);
	return show("\033[H", 3) && show(s->frame, s->used) && show("\033[J", 3);
}

static void stop(struct screen *s)
{
	leave(s);
	raise(SIGSTOP);
	enter(s);
	stopped = 0;
}

enum screen_event screen_wait(struct screen *s, unsigned long long until_ns)
{
	struct pollfd p = {.fd = s->keys ? STDIN_FILENO : -1, .events = POLLIN};

	for (;;) {
		unsigned long long now = clock_ns(), left = until_ns > now ? until_ns - now : 0;
		struct timespec ts = {(time_t)(left / NS_PER_S), (long)(left % NS_PER_S)};
		char key;
		int n;

		if (quit)
			return SCREEN_QUIT;
		if (stopped) {
			stop(s);
			return SCREEN_RESIZED;
		}
		if (resized) {
			resized = 0;
			return SCREEN_RESIZED;
		}
		n = ppoll(&p, 1, &ts, &before);
		if (n == 0)
			return SCREEN_TICK;
		if (n < 0)
			continue; /* a signal: its flag says which */
		if (read(STDIN_FILENO, &key, 1) <= 0)
			p.fd = -1; /* the terminal hung up; SIGHUP follows, or the writes fail */
		else if (key == 'q' || key == 'Q' || key == 4)
			return SCREEN_QUIT;
	}
}
