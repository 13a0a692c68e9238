/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGKILL of a real process with a real ring: what it had answered is there, what it had deleted is
 * not, the lock is free soon, and nothing stays behind in shared memory. Five times over one store.
 */
#include <signal.h>
#include <sys/wait.h>

#include "tests/unit/store_rig.h"

#define ROUNDS 5u
#define PER    2000u

struct told {
	uint32_t k;
	bool there;
};

/* The child: sets, and deletes every third key a little later, and says so; until it is killed. */
static void work(struct rig *r, uint32_t first, int to)
{
	rig_open(r);
	for (uint32_t k = first;; k++) {
		struct told t = {k, true};

		if (set_k(r, k, k, 100 + k % 7000) != STORE_OK ||
		    write(to, &t, sizeof t) != sizeof t)
			_exit(1);
		if (k >= first + 20 && k % 3 == 0) {
			t = (struct told){k - 18, false};
			if (del_k(r, t.k) != STORE_OK || write(to, &t, sizeof t) != sizeof t)
				_exit(1);
		}
		rig_turn(r);
	}
}

static void killed(void **state)
{
	static struct told told[ROUNDS * PER * 2];
	static bool there[ROUNDS * PER * 4], unsure[ROUNDS * PER * 4];
	struct rig r;
	uint32_t last = 0;

	(void)state;
	rig_init(&r, NULL);
	r.cfg.size = 256 * MIB;
	for (unsigned round = 0; round < ROUNDS; round++) {
		size_t n = 0, want = (500 + round * 300) * sizeof told[0];
		uint32_t first = last + 1;
		int fd[2], status;
		ssize_t got;
		pid_t pid;

		assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			close(fd[0]);
			work(&r, first, fd[1]);
		}
		close(fd[1]);
		while (n < want && (got = read(fd[0], (char *)told + n, want - n)) > 0)
			n += (size_t)got;
		assert_int_equal(kill(pid, SIGKILL), 0);
		/* what was said before it died was answered, too */
		while ((got = read(fd[0], (char *)told + n, sizeof told - n)) > 0)
			n += (size_t)got;
		close(fd[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		assert_true(n >= want);
		for (size_t i = 0; i < n / sizeof told[0]; i++) {
			there[told[i].k] = told[i].there;
			if (told[i].k > last)
				last = told[i].k;
		}
		/* what was under way: the next key, or a delete that nobody was told of */
		unsure[last + 1] = unsure[last - 18] = unsure[last - 17] = true;
		last += 1;
		assert_true(last < ROUNDS * PER * 4);
		/* a child verifies: a process that has had a ring must not fork */
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			unsigned wrong = 0;
			const char *layer;

			/* every second time also from the disk alone */
			r.cfg.no_attach = round % 2;
			rig_open(&r);
			layer = r.s->layer;
			for (uint32_t k = 1; k <= last; k++)
				if (get_k(&r, k, k, 100 + k % 7000) != there[k] && !unsure[k])
					wrong++;
			if (rig_files(r.shm) != 3)
				wrong += 1000;
			rig_close(&r);
			/* the index, for the next start */
			if (rig_files(r.shm) != 1)
				wrong += 10000;
			if (strcmp(layer, round % 2 ? "disk" : "shm") != 0)
				wrong += 100000;
			_exit(wrong > 0 ? 2 : 0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
