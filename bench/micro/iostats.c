/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io-stats: one access counted, in a context of this thread's and in one of another's; a whole
 * call.
 */
#include <errno.h>
#include <pthread.h>

#include "bench/micro/micro.h"
#include "ocache/iostats.h"

static struct {
	struct iostats *mine, *other;
	unsigned users;
} B;

static void *begin_other(void *arg)
{
	(void)arg;
	B.other = iostats_begin("query", "bench/other", NULL);
	return NULL;
}

static int setup(void **state)
{
	pthread_t t;

	*state = &B;
	if (B.users++ > 0)
		return 0;
	B.mine = iostats_begin("query", "bench/mine", NULL);
	/* a lane is taken over by the next thread, so this one must have its own already */
	if (pthread_create(&t, NULL, begin_other, NULL) != 0 || pthread_join(t, NULL) != 0)
		return -EAGAIN;
	return B.mine != NULL && B.other != NULL ? 0 : -ENOMEM;
}

static void teardown(void *state)
{
	(void)state;
	if (--B.users > 0)
		return;
	iostats_drop(B.mine);
	iostats_drop(B.other);
}

static uint64_t count(struct iostats *io, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		iostats_access(io, (enum iostats_sort)(1 + (i & 3)), (i & 7) == 0, false);
	return n;
}

static uint64_t access_mine(void *state, uint64_t n)
{
	(void)state;
	return count(B.mine, n);
}

static uint64_t access_other(void *state, uint64_t n)
{
	(void)state;
	return count(B.other, n);
}

static uint64_t call(void *state, uint64_t n)
{
	(void)state;
	for (uint64_t i = 0; i < n; i++) {
		struct iostats *io = iostats_begin("query", "bench/call", B.mine);

		iostats_access(io, IOSTATS_EAVT, false, false);
		iostats_finish(&io);
	}
	return n;
}

static const struct micro table[] = {
    {.name = "iostats/access",
     .batch = 4096,
     .setup = setup,
     .run = access_mine,
     .teardown = teardown},
    {.name = "iostats/access_lane",
     .batch = 4096,
     .setup = setup,
     .run = access_other,
     .teardown = teardown},
    {.name = "iostats/call", .batch = 64, .setup = setup, .run = call, .teardown = teardown},
};
MICRO_TABLE(table)
