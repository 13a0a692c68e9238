/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The top command: asks for three stats each second, keeps the sample before, and draws (view.c). A
 * server that goes away is said so on the screen and tried again. One thread.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/size.h"
#include "tools/valcachectl/ctl.h"
#include "tools/valcachectl/screen.h"
#include "tools/valcachectl/view.h"

static void sample_free(struct sample *s)
{
	stats_free(&s->general);
	stats_free(&s->latency);
	stats_free(&s->store);
	memset(s, 0, sizeof *s);
}

static int sample_take(struct conn *c, struct sample *s)
{
	int ret;

	memset(s, 0, sizeof *s);
	s->ns = clock_ns();
	ret = stats_fetch(c, NULL, &s->general);
	if (ret == 0)
		ret = stats_fetch(c, "latency", &s->latency);
	if (ret == 0)
		ret = stats_fetch(c, "store", &s->store);
	if (ret != 0)
		sample_free(s);
	return ret;
}

/* Connects if need be and takes a sample; on failure why says what is wrong. */
static bool refresh(const struct ctl *ctl, struct conn *c, struct sample *now,
		    struct sample *before, char *why, size_t why_len)
{
	struct sample fresh;
	char *cause = NULL;
	int ret = 0;

	if (c->fd < 0 && ctl_open(ctl, c, &cause) != 0) {
		snprintf(why, why_len, "%s", cause != NULL ? cause : "out of memory");
		free(cause);
		return false;
	}
	ret = sample_take(c, &fresh);
	if (ret != 0) {
		snprintf(why, why_len, "%s: %s", ctl->server, conn_error(ret));
		conn_close(c);
		return false;
	}
	sample_free(before);
	*before = *now;
	*now = fresh;
	return true;
}

int ctl_top(const struct ctl *ctl, int argc, char **argv)
{
	struct sample now = {0}, before = {0};
	uint64_t every = NS_PER_S, count = 0, shown = 0, next;
	char why[400] = "";
	struct screen screen;
	struct conn *c;
	bool ok = false;
	int status = CTL_OK, f;

	while ((f = getopt(argc, argv, "+d:n:")) != -1) {
		switch (f) {
		case 'd':
			if (size_parse_duration(optarg, &every) != 0 || every < 100 * NS_PER_MS ||
			    every > 3600 * NS_PER_S)
				return ctl_fail(
				    CTL_USAGE,
				    "-d %s is not allowed: a time from 100ms to 1h is wanted",
				    optarg);
			break;
		case 'n':
			if (size_parse_number(optarg, &count) != 0 || count < 1)
				return ctl_fail(
				    CTL_USAGE,
				    "-n %s is not allowed: a number of frames from 1 is wanted",
				    optarg);
			break;
		default:
			return CTL_USAGE;
		}
	}
	if (optind != argc)
		return ctl_fail(CTL_USAGE, "top takes no argument");
	/* the first connection must work: a mistyped name is no reason for an empty screen */
	c = ctl_connect(ctl);
	if (c == NULL)
		return CTL_SERVER;
	if (screen_open(&screen) != 0) {
		ctl_disconnect(&c);
		return ctl_fail(CTL_SERVER, "out of memory");
	}
	next = clock_ns();
	for (;;) {
		enum screen_event e;

		if (clock_ns() >= next) {
			ok = refresh(ctl, c, &now, &before, why, sizeof why);
			next += every;
			if (next < clock_ns()) /* the server was slow: no catching up */
				next = clock_ns() + every;
			shown++;
		}
		screen_begin(&screen);
		view_draw(&screen, ctl->server, &now, &before, ok ? NULL : why);
		if (!screen_end(&screen)) {
			status = CTL_SERVER;
			break;
		}
		if (count > 0 && shown >= count)
			break;
		e = screen_wait(&screen, next);
		if (e == SCREEN_QUIT)
			break;
	}
	screen_close(&screen);
	if (!ok && status == CTL_OK)
		status = ctl_fail(CTL_SERVER, "%s", why);
	sample_free(&now);
	sample_free(&before);
	ctl_disconnect(&c);
	return status;
}
