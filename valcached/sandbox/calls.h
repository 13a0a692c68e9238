/* SPDX-License-Identifier: Apache-2.0 */
/* Private to sandbox: the list of system calls. Constant. */
#ifndef VALCACHED_SANDBOX_CALLS_H
#define VALCACHED_SANDBOX_CALLS_H

#include <seccomp.h>
#include <stdint.h>

enum call_for {
	CALL_ALWAYS,
	CALL_URING,    /* with this engine */
	CALL_LIBEVENT, /* with this one */
	CALL_NOTIFY,   /* sandbox_config.notify */
	CALL_DEADLY    /* ends the process */
};

/* An argument whose bits under mask must be value. mask 0: none. */
struct call_arg {
	unsigned n;
	uint64_t mask, value;
};

struct call {
	int call; /* SCMP_SYS(), negative if the machine has it not */
	enum call_for use;
	struct call_arg arg[2];
};

extern const struct call sandbox__calls[];
extern const unsigned sandbox__calls_n;

#endif
