/* SPDX-License-Identifier: Apache-2.0 */
/* Putting the process into its sandbox; see sandbox.h. The main thread, but for the handler of SIGSYS. */
#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/cause.h"
#include "base/log.h"
#include "base/memcheck.h"
#include "valcached/sandbox/calls.h"
#include "valcached/sandbox/sandbox.h"

/* Numbers of system calls below this have a name in the log, and each is logged once. */
#define CALLS_MAX 1024

#ifndef SYS_SECCOMP /* si_code; glibc 2.36 does not give the kernel's name */
#define SYS_SECCOMP 1
#endif

#if defined(__x86_64__)
#define RESULT(uc) ((uc)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define RESULT(uc) ((uc)->uc_mcontext.regs[0])
#endif

static _Atomic uint64_t refused_n;
static _Atomic bool said[CALLS_MAX];
static char *names[CALLS_MAX]; /* written before the filter is there */

uint64_t sandbox_refused(void)
{
	return atomic_load_explicit(&refused_n, memory_order_relaxed);
}

const char *sandbox_unfit(void)
{
#ifdef INSTRUMENTED
	return "this build makes system calls of its own (a sanitizer, or coverage)";
#else
	return memcheck_runs() ? "valgrind makes system calls of its own" : NULL;
#endif
}

/* ---- rights ------------------------------------------------------------------------------------ */

int sandbox_begin(char **cause)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
		int err = errno;

		cause_say(cause, "no_new_privs cannot be set: %s", strerror(err));
		return -err;
	}
	/* Needs a capability itself; who has none gets none, with the above. Ends after the last that there is. */
	for (unsigned long cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
		;
	return 0;
}

/* The kernel's answer, not that of who forbade the question. */
static bool has_none(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3] = {{0}};
	uint32_t any = 0;

	if (syscall(SYS_capget, &head, have) != 0)
		return false;
	for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		any |= have[i].effective | have[i].permitted | have[i].inheritable;
	return any == 0;
}

int sandbox_drop(char **cause)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0,
		    0); /* the others' end is theirs */
	if (syscall(SYS_capset, &head, none) != 0) {
		int err = errno;

		if (has_none()) /* a filter around us; see the unit file */
			return 0;
		cause_say(cause, "capabilities cannot be dropped: %s", strerror(err));
		return -err;
	}
	return 0;
}

/* ---- system calls ------------------------------------------------------------------------------ */

#ifdef RESULT
/*
 * The call was not made; it gets its result here. The signal comes at a system call, never elsewhere, and
 * log_line() takes neither locks nor memory.
 */
static void refused(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	unsigned call = (unsigned)info->si_syscall;
	int err = errno;
	bool known = call < CALLS_MAX && names[call] != NULL;

	(void)sig;
	if (info->si_code != SYS_SECCOMP) /* somebody's kill -SYS */
		return;
	/* what is newer than libseccomp has another way behind it in who tries it, if there seems to be none */
	RESULT(uc) = known ? -EPERM : -ENOSYS;
	atomic_fetch_add_explicit(&refused_n, 1, memory_order_relaxed);
	if (call < CALLS_MAX && !atomic_exchange(&said[call], true))
		log_error(
		    "sandbox: refused the system call %s (%u), which is not made by a daemon that is well; "
		    "further ones of it are only counted (sandbox_refused_calls)",
		    known ? names[call] : "without a name", call);
	errno = err;
}
#endif

static uint32_t catch_refused(void)
{
#ifdef RESULT
	struct sigaction sa = {.sa_sigaction = refused, .sa_flags = SA_SIGINFO | SA_RESTART};

	for (int i = 0; i < CALLS_MAX; i++)
		names[i] = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, i);
	if (sigaction(SIGSYS, &sa, NULL) == 0)
		return SCMP_ACT_TRAP;
#endif
	return SCMP_ACT_ERRNO(EPERM); /* unseen, but refused */
}

static bool wanted(const struct call *c, const struct sandbox_config *cfg)
{
	switch (c->use) {
	case CALL_URING:
		return cfg->uring;
	case CALL_LIBEVENT:
		return !cfg->uring;
	case CALL_NOTIFY:
		return cfg->notify;
	default:
		return true;
	}
}

static int add(scmp_filter_ctx filter, const struct call *c)
{
	struct scmp_arg_cmp arg[2];
	unsigned n = 0;
	int r;

	for (unsigned i = 0; i < 2 && c->arg[i].mask != 0; i++)
		arg[n++] = (struct scmp_arg_cmp){.arg = c->arg[i].n,
						 .op = SCMP_CMP_MASKED_EQ,
						 .datum_a = c->arg[i].mask,
						 .datum_b = c->arg[i].value};
	r = seccomp_rule_add_array(filter,
				   c->use == CALL_DEADLY ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ALLOW,
				   c->call, n, arg);
	return r == -EEXIST ? 0 : r; /* two have a use for it */
}

static int fill(scmp_filter_ctx filter, const struct sandbox_config *cfg)
{
	const struct call own = {
	    SCMP_SYS(tgkill), CALL_ALWAYS, {{0, UINT32_MAX, (uint32_t)getpid()}}};
	int r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);

	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = add(filter, &own);
	/* glibc then takes clone(2), whose flags are no pointer */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	for (unsigned i = 0; r == 0 && i < sandbox__calls_n; i++)
		if (wanted(&sandbox__calls[i], cfg))
			r = add(filter, &sandbox__calls[i]);
	if (r != 0)
		return r;
	/* what may be missing in an older kernel or library: a tree instead of a list, the kernel's errno, and no
	 * change of the processor's speculation, which would cost every thread and guard only foreign code */
	(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	(void)seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
	(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
	return 0;
}

int sandbox_shut(const struct sandbox_config *cfg, char **cause)
{
	scmp_filter_ctx filter = seccomp_init(catch_refused());
	int r = -ENOMEM;

	if (filter != NULL) {
		r = fill(filter, cfg);
		if (r == 0)
			r = seccomp_load(filter);
		seccomp_release(filter);
	}
	if (r != 0)
		cause_say(cause, "the filter of system calls (seccomp) is refused: %s",
			  strerror(r > 0 ? EINVAL : -r));
	return r > 0 ? -EINVAL : r;
}
