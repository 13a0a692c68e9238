/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A full-screen view: lines are put one below the other, clipped at the window's edges, and shown
 * at once. If stdout is no terminal, each frame is plain text behind the one before. One thread.
 *
 * The terminal is as it was before after screen_close(), after SIGINT, SIGTERM, SIGHUP (which only
 * set a flag that screen_wait() reports) and while stopped by SIGTSTP.
 */
#ifndef VALCACHECTL_SCREEN_H
#define VALCACHECTL_SCREEN_H

#include <stdbool.h>
#include <stddef.h>
#include <termios.h>

enum screen_style { SCREEN_PLAIN, SCREEN_BOLD, SCREEN_BAR };

struct screen {
	bool tty;  /* stdout is a terminal */
	bool keys; /* stdin is one, too, and was changed */
	struct termios saved;
	unsigned rows, cols, row;
	char *frame;
	size_t used, size;
};

/* 0 or -errno. */
int screen_open(struct screen *s);
void screen_close(struct screen *s);

/* A new, empty frame of the window's present size. */
void screen_begin(struct screen *s);
void screen_line(struct screen *s, enum screen_style style, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Shows the frame; false if it cannot be written. */
bool screen_end(struct screen *s);

enum screen_event { SCREEN_TICK, SCREEN_RESIZED, SCREEN_QUIT };
/* Waits until clock_ns() reaches until_ns, the window's size changes, or the user has enough. */
enum screen_event screen_wait(struct screen *s, unsigned long long until_ns);

#endif
