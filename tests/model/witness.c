/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How late does this machine do what is due? A promise in time holds on a machine that gives its threads their turn
 * when they ask for it; on a busy one a sync, a chain of some ten wake-ups of three processes, comes later than it
 * should. A thread that sleeps and looks at the clock says by how much.
 */
#include <time.h>

#include "base/clock.h"
#include "tests/model/model.h"

#define SLEEP_NS (2 * NS_PER_MS)
#define SLOT_NS  (250 * NS_PER_MS)
#define SLOTS    8u /* two seconds */

static struct {
	_Atomic uint64_t slot, worst; /* which SLOT_NS of the clock; ns */
} late[SLOTS];

static void *watch(void *arg)
{
	const struct timespec tick = {.tv_nsec = SLEEP_NS};

	for (;;) {
		uint64_t before = clock_ns(), now, by, slot;

		nanosleep(&tick, NULL);
		now = clock_ns();
		by = now - before > SLEEP_NS ? now - before - SLEEP_NS : 0;
		slot = now / SLOT_NS;
		if (atomic_load(&late[slot % SLOTS].slot) != slot) {
			atomic_store(&late[slot % SLOTS].worst, 0);
			atomic_store(&late[slot % SLOTS].slot, slot);
		}
		if (by > atomic_load(&late[slot % SLOTS].worst))
			atomic_store(&late[slot % SLOTS].worst, by);
	}
	return arg;
}

bool witness_open(void)
{
	pthread_t thread;

	return pthread_create(&thread, NULL, watch, NULL) == 0 && pthread_detach(thread) == 0;
}

uint64_t witness_worst(void)
{
	uint64_t now = clock_ns() / SLOT_NS, worst = 0;

	for (unsigned i = 0; i < SLOTS; i++)
		if (atomic_load(&late[i].slot) + SLOTS > now && atomic_load(&late[i].worst) > worst)
			worst = atomic_load(&late[i].worst);
	return worst;
}
