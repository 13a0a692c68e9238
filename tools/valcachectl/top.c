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
	if (ret == 0 && s->general.refused[0] != '\0')
		return 0;
	if (ret == 0)
		ret = stats_fetch(c, "latency", &s->latency);
	if (ret == 0)
		ret = stats_fetch(c, "store", &s->store);
	if (ret != 0)
		sample_free(s);
	return ret;
}

/* Connects if need be and takes a sample; an exit status, and if it is not CTL_OK why says what is wrong. */
static int refresh(const struct ctl *ctl, struct conn *c, struct sample *now, struct sample *before,
		   char *why, size_t why_len)
{
	struct sample fresh;
	char *cause = NULL;
	int ret = 0;

	if (c->fd < 0 && ctl_open(ctl, c, &cause) != 0) {
		snprintf(why, why_len, "%s", cause != NULL ? cause : "out of memory");
		free(cause);
		return CTL_SERVER;
	}
	ret = sample_take(c, &fresh);
	if (ret != 0 || fresh.general.refused[0] != '\0') {
		snprintf(why, why_len, "%s: %s", ctl->server,
			 ret != 0 ? conn_error(ret) : ctl_refusal(ctl, fresh.general.refused));
		conn_close(c);
		sample_free(&fresh);
		return ret != 0 ? CTL_SERVER : CTL_NO;
	}
	sample_free(before);
	*before = *now;
	*now = fresh;
	return CTL_OK;
}

int ctl_top(const struct ctl *ctl, int argc, char **argv)
{
	struct sample now = {0}, before = {0};
	uint64_t every = NS_PER_S, count = 0, shown = 1, next;
	char why[400] = "";
	struct screen screen;
	struct conn *c;
	int status, f;

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
	c = ctl_connect(ctl);
	if (c == NULL)
		return CTL_SERVER;
	/* the first answer must be one: a mistyped name or no login is no reason for an empty screen */
	status = refresh(ctl, c, &now, &before, why, sizeof why);
	if (status != CTL_OK) {
		ctl_disconnect(&c);
		return ctl_fail(status, "%s", why);
	}
	if (screen_open(&screen) != 0) {
		sample_free(&now);
		ctl_disconnect(&c);
		return ctl_fail(CTL_SERVER, "out of memory");
	}
	next = clock_ns() + every;
	for (;;) {
		enum screen_event e;

		if (clock_ns() >= next) {
			status = refresh(ctl, c, &now, &before, why, sizeof why);
			next += every;
			if (next < clock_ns()) /* the server was slow: no catching up */
				next = clock_ns() + every;
			shown++;
		}
		screen_begin(&screen);
		view_draw(&screen, ctl->server, &now, &before, status == CTL_OK ? NULL : why);
		if (!screen_end(&screen)) {
			snprintf(why, sizeof why, "cannot write to the screen");
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
	if (status != CTL_OK)
		ctl_fail(status, "%s", why);
	sample_free(&now);
	sample_free(&before);
	ctl_disconnect(&c);
	return status;
}
