/* SPDX-License-Identifier: Apache-2.0 */
/* What top shows of two samples. Pure but for the screen; one thread. */
#ifndef VALCACHECTL_VIEW_H
#define VALCACHECTL_VIEW_H

#include <stdint.h>

#include "tools/valcachectl/screen.h"
#include "tools/valcachectl/stats.h"

struct sample {
	uint64_t ns; /* clock_ns() when it was asked for; 0: none yet */
	struct stats general, latency, store;
};

/* problem: what keeps now from being fresh, or NULL. */
void view_draw(struct screen *s, const char *server, const struct sample *now,
	       const struct sample *before, const char *problem);

#endif
