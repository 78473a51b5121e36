"""The system calls that any ordinary program makes, and with which arguments: what each wall's own list begins with.

Left out on purpose, here and in what is added to it: ptrace and its relatives, io_uring, bpf, perf, userfaultfd, keys,
namespaces, mounts, modules, kexec, memfd_create, shared memory and message queues. So is what can be seen from outside
and carry a message: locks on files that others open too, a thread's name, hints about the page cache, and the choice of
processors.
"""

from __future__ import annotations

import errno
from typing import Final

from strongroom.walls.bpf import ArgumentTest, SyscallRule

ALL_BITS: Final = 0xFFFFFFFF

_FILES: Final = """
    read write readv writev pread64 pwrite64 preadv preadv2 pwritev pwritev2 lseek openat open close close_range
    stat fstat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents getdents64 getcwd
    chdir fchdir dup dup2 dup3 fsync fdatasync ftruncate fallocate sendfile copy_file_range mkdir
    mkdirat unlink unlinkat rmdir rename renameat renameat2 statfs fstatfs umask
"""
_MEMORY: Final = "munmap mremap madvise msync mincore brk mlock munlock mbind get_mempolicy set_mempolicy membarrier"
_THREADS: Final = """
    futex set_robust_list get_robust_list set_tid_address rseq arch_prctl sched_yield sched_getaffinity
    sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min getpriority
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack restart_syscall
    pause tgkill exit exit_group
"""
_FACTS: Final = """
    gettid getpid getppid getpgrp getpgid getsid getuid geteuid getgid getegid getgroups getresuid getresgid uname
    sysinfo getcpu getrandom getrusage getrlimit times time gettimeofday clock_gettime clock_getres clock_nanosleep
    nanosleep setitimer getitimer
"""
_WAITING: Final = """
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd
    eventfd2 timerfd_create timerfd_settime timerfd_gettime signalfd4 pipe pipe2 sendto recvfrom sendmsg recvmsg
    getsockopt setsockopt getsockname getpeername shutdown
"""

# Flags of clone(2): a new thread of this process, and no new namespace of any kind.
_NEW_NAMESPACES: Final = 0x7E020080
_CLONE_THREAD: Final = 0x00010000

# The file controls that can't send a signal elsewhere, and lock nothing: F_SETOWN, F_SETSIG and all locks are not here.
_FCNTL: Final = (0, 1, 2, 3, 4, 1030, 1031, 1032, 1034)
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. Never TIOCSTI, and no device's own controls.
_IOCTL: Final = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# PR_GET_DUMPABLE, PR_GET_NAME, PR_CAPBSET_READ, PR_GET_NO_NEW_PRIVS, PR_GET_MDWE, PR_SET_VMA (names only)
PRCTL_READING: Final = (3, 16, 23, 39, 66, 0x53564D41)


def plain(*groups: str) -> list[SyscallRule]:
    """Return a rule without tests for each name in ``groups`` (separated by spaces)."""
    return [SyscallRule(name) for group in groups for name in group.split()]


def shared_calls() -> list[SyscallRule]:
    """Return the rules that every list begins with: files, memory, threads, facts and waiting."""
    # Writable and executable at once is refused in every mode; MDWE, where used, also refuses one after the other.
    never_both = (ArgumentTest(2, 0x6, (0x0, 0x2, 0x4)),)
    return [
        *plain(_FILES, _MEMORY, _THREADS, _FACTS, _WAITING),
        SyscallRule("mmap", never_both),
        SyscallRule("mprotect", never_both),
        SyscallRule("fcntl", (ArgumentTest(1, ALL_BITS, _FCNTL),)),
        SyscallRule("ioctl", (ArgumentTest(1, ALL_BITS, _IOCTL),), refusal=errno.ENOTTY),
        SyscallRule("socketpair", (ArgumentTest(0, ALL_BITS, (1,)),)),
        # clone3 keeps its flags in memory, where no filter can read them; ENOSYS makes the C library use clone.
        SyscallRule("clone3", refusal=errno.ENOSYS, allowed=False),
    ]


def threads_only() -> list[SyscallRule]:
    """Return the rule for starting threads, and no process."""
    return [SyscallRule("clone", (ArgumentTest(0, _NEW_NAMESPACES | _CLONE_THREAD, (_CLONE_THREAD,)),))]


def threads_and_programs() -> list[SyscallRule]:
    """Return the rules for starting threads, processes and programs, in no namespace of their own."""
    return [SyscallRule("clone", (ArgumentTest(0, _NEW_NAMESPACES, (0,)),)), *plain("wait4 waitid execve")]


def own_limits() -> SyscallRule:
    """Return the rule for the process's own limits: another process is named by a pid other than 0."""
    return SyscallRule("prlimit64", (ArgumentTest(0, ALL_BITS, (0,)),))
