/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls that the daemon makes after its start; whatever is not here is refused. A row that has to come
 * says what makes the call. tests/lib/daemon.py fails every test in which one was refused.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "valcached/sandbox/calls.h"

#define ALL UINT32_MAX

#define ROW(name, for_)                                                                            \
	{                                                                                          \
		SCMP_SYS(name), for_,                                                              \
		{                                                                                  \
			{                                                                          \
				0                                                                  \
			}                                                                          \
		}                                                                                  \
	}
#define ROW1(name, for_, n, mask, value)                                                           \
	{                                                                                          \
		SCMP_SYS(name), for_,                                                              \
		{                                                                                  \
			{                                                                          \
				n, mask, value                                                     \
			}                                                                          \
		}                                                                                  \
	}
#define ROW2(name, for_, n, mask, value, n2, mask2, value2)                                        \
	{                                                                                          \
		SCMP_SYS(name), for_,                                                              \
		{                                                                                  \
			{n, mask, value},                                                          \
			{                                                                          \
				n2, mask2, value2                                                  \
			}                                                                          \
		}                                                                                  \
	}

#define THREAD (CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)
#define NAMESPACES                                                                                 \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
	 CLONE_NEWPID | CLONE_NEWNET)

/* clang-format off */
const struct call sandbox__calls[] = {
	/* memory; no page can be made executable */
	ROW1(mmap, CALL_ALWAYS, 2, PROT_EXEC, 0),
	ROW1(mprotect, CALL_ALWAYS, 2, PROT_EXEC, 0), /* stacks of threads */
	ROW(munmap, CALL_ALWAYS),
	ROW(mremap, CALL_ALWAYS),
	ROW(madvise, CALL_ALWAYS),
	ROW(brk, CALL_ALWAYS),

	/* threads: of the disk (libevent), of stopping */
	ROW1(clone, CALL_ALWAYS, 0, THREAD | NAMESPACES, THREAD),
	ROW(futex, CALL_ALWAYS),
	ROW(set_robust_list, CALL_ALWAYS),
	ROW(rseq, CALL_ALWAYS),
	ROW(sched_yield, CALL_ALWAYS),
	ROW(sched_getaffinity, CALL_ALWAYS),
	ROW(gettid, CALL_ALWAYS),
	ROW(getpid, CALL_ALWAYS),
	ROW1(prctl, CALL_ALWAYS, 0, ALL, PR_SET_NAME),
	ROW(exit, CALL_ALWAYS),
	ROW(exit_group, CALL_ALWAYS),

	/* signals; tgkill() of this process is added by sandbox.c */
	ROW(rt_sigaction, CALL_ALWAYS), /* abort() */
	ROW(rt_sigprocmask, CALL_ALWAYS),
	ROW(rt_sigreturn, CALL_ALWAYS),
	ROW(rt_sigtimedwait, CALL_ALWAYS), /* main's sigwait() */
	ROW(restart_syscall, CALL_ALWAYS),

	/* time and chance; most of it needs no call where there is a vDSO */
	ROW(clock_gettime, CALL_ALWAYS),
	ROW(clock_nanosleep, CALL_ALWAYS),
	ROW(nanosleep, CALL_ALWAYS),
	ROW(gettimeofday, CALL_ALWAYS),
	ROW(time, CALL_ALWAYS),
	ROW(getrandom, CALL_ALWAYS), /* OpenSSL */

	/* what stats say of the process and the machine */
	ROW(getrusage, CALL_ALWAYS),
	ROW(sysinfo, CALL_ALWAYS), /* cache_memlimit: how much there is */
	ROW1(prlimit64, CALL_ALWAYS, 2, UINT64_MAX, 0),

	/* descriptors */
	ROW(read, CALL_ALWAYS),
	ROW(write, CALL_ALWAYS),
	ROW(close, CALL_ALWAYS),
	ROW(lseek, CALL_ALWAYS),
	ROW(fstat, CALL_ALWAYS),
	ROW(newfstatat, CALL_ALWAYS),
	ROW1(fcntl, CALL_ALWAYS, 1, ALL, F_GETFL),
	ROW1(fcntl, CALL_ALWAYS, 1, ALL, F_SETFL),
	ROW(poll, CALL_ALWAYS),
	ROW(ppoll, CALL_ALWAYS),

	/* a path that comes back, and what SIGHUP reads: never to write only, to cut, or to append */
	ROW1(openat, CALL_ALWAYS, 2, O_WRONLY | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY), 0),
	ROW(geteuid, CALL_ALWAYS), /* who may not open it */
	ROW(statx, CALL_ALWAYS),
	ROW(statfs, CALL_ALWAYS),
	ROW(fstatfs, CALL_ALWAYS),
	ROW(flock, CALL_ALWAYS),
	ROW(dup2, CALL_ALWAYS),
	ROW(dup3, CALL_ALWAYS),
	ROW(pread64, CALL_ALWAYS),
	ROW(fsync, CALL_ALWAYS),
	ROW(ftruncate, CALL_ALWAYS), /* a store that has become smaller */
	ROW(fallocate, CALL_ALWAYS),
	ROW1(ioctl, CALL_ALWAYS, 1, ALL, BLKGETSIZE64),
	ROW1(ioctl, CALL_ALWAYS, 1, ALL, BLKSSZGET),
	ROW(unlink, CALL_ALWAYS), /* the socket and the pid file, at the end */
	ROW1(unlinkat, CALL_ALWAYS, 2, ALL, 0),

	/* sockets that are there */
	ROW2(getsockopt, CALL_ALWAYS, 1, ALL, IPPROTO_TCP, 2, ALL, TCP_INFO),
	ROW2(getsockopt, CALL_ALWAYS, 1, ALL, SOL_SOCKET, 2, ALL, SO_PEERCRED),
	ROW(getpeername, CALL_ALWAYS),
	ROW(shutdown, CALL_ALWAYS),
	ROW(sendto, CALL_ALWAYS), /* what is said at once, before hanging up */
	ROW1(ioctl, CALL_ALWAYS, 1, ALL, FIONREAD),
	ROW1(ioctl, CALL_ALWAYS, 1, ALL, TIOCOUTQ),

	/* uring; IORING_REGISTER_USE_REGISTERED_RING may stand in the topmost bit */
	ROW(io_uring_enter, CALL_URING),
	ROW1(io_uring_register, CALL_URING, 1, INT32_MAX, IORING_REGISTER_FILES_UPDATE2),
	ROW1(io_uring_register, CALL_URING, 1, INT32_MAX, IORING_REGISTER_BUFFERS_UPDATE),
	ROW1(io_uring_register, CALL_URING, 1, INT32_MAX, IORING_UNREGISTER_RING_FDS),

	/* libevent */
	ROW(epoll_wait, CALL_LIBEVENT),
	ROW(epoll_pwait, CALL_LIBEVENT),
	ROW(epoll_pwait2, CALL_LIBEVENT),
	ROW(epoll_ctl, CALL_LIBEVENT),
	ROW(accept4, CALL_LIBEVENT),
	ROW(recvfrom, CALL_LIBEVENT),
	ROW(sendmsg, CALL_LIBEVENT),
	ROW(io_submit, CALL_LIBEVENT),
	ROW(io_getevents, CALL_LIBEVENT),
	ROW(io_cancel, CALL_LIBEVENT),
	ROW(io_destroy, CALL_LIBEVENT),
	ROW(pwrite64, CALL_LIBEVENT),
	ROW(fdatasync, CALL_LIBEVENT),
	ROW1(ioctl, CALL_LIBEVENT, 1, ALL, BLKDISCARD),

	/* sd_notify() */
	ROW2(socket, CALL_NOTIFY, 0, ALL, AF_UNIX, 1, ALL & ~(uint32_t)(SOCK_CLOEXEC | SOCK_NONBLOCK), SOCK_DGRAM),
	ROW1(getsockopt, CALL_NOTIFY, 1, ALL, SOL_SOCKET),
	ROW1(setsockopt, CALL_NOTIFY, 1, ALL, SOL_SOCKET),
	ROW(sendmsg, CALL_NOTIFY),
	ROW(getuid, CALL_NOTIFY),
	ROW(getgid, CALL_NOTIFY),
	ROW(getegid, CALL_NOTIFY),

	/* no mistake of a library's, but a stranger at work */
	ROW(execve, CALL_DEADLY),
	ROW(execveat, CALL_DEADLY),
	ROW(fork, CALL_DEADLY),
	ROW(vfork, CALL_DEADLY),
	ROW1(clone, CALL_DEADLY, 0, CLONE_THREAD, 0),
	ROW(ptrace, CALL_DEADLY),
	ROW(process_vm_readv, CALL_DEADLY),
	ROW(process_vm_writev, CALL_DEADLY),
	ROW(io_uring_setup, CALL_DEADLY), /* a ring without restrictions */
	ROW(bpf, CALL_DEADLY),
	ROW(userfaultfd, CALL_DEADLY),
	ROW(perf_event_open, CALL_DEADLY),
	ROW(init_module, CALL_DEADLY),
	ROW(finit_module, CALL_DEADLY),
	ROW(kexec_load, CALL_DEADLY),
	ROW(kexec_file_load, CALL_DEADLY),
	ROW(mount, CALL_DEADLY),
	ROW(umount2, CALL_DEADLY),
	ROW(pivot_root, CALL_DEADLY),
	ROW(chroot, CALL_DEADLY),
	ROW(setns, CALL_DEADLY),
	ROW(unshare, CALL_DEADLY),
	ROW(add_key, CALL_DEADLY),
	ROW(request_key, CALL_DEADLY),
	ROW(keyctl, CALL_DEADLY),
};
/* clang-format on */
const unsigned sandbox__calls_n = sizeof sandbox__calls / sizeof *sandbox__calls;
