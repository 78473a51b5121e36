"""The system calls that confined code may make, and with which arguments. Everything absent is refused.

Three lists, each a subset of the one before, because filters stack and can only narrow: the *agent* (opens the weights,
starts the command once), the *command* as it is started, and the command *settled* in its interpreter.

What is left out on purpose: sockets other than a nameless pair, ptrace and its relatives, io_uring, bpf, perf,
userfaultfd, keys, namespaces, mounts, modules, kexec, memfd_create, shared memory and message queues. So is what can be
seen from outside and carry a message: locks on files that others open too, a thread's name, hints about the page cache,
and the choice of processors.
"""

from __future__ import annotations

import errno
from typing import Final

from strongroom.enclave.bpf import ArgumentTest, SyscallRule

_ALL: Final = 0xFFFFFFFF

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
_PRCTL: Final = (3, 16, 23, 39, 66, 0x53564D41)
# PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_SET_MDWE: while a stage is being entered.
_PRCTL_ENTERING: Final = (1, 4, 22, 38, 65)
_MS_SEAL: Final = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x1000  # ro, nosuid, nodev, noexec, remount, bind


def _plain(*groups: str) -> list[SyscallRule]:
    return [SyscallRule(name) for group in groups for name in group.split()]


def _shared() -> list[SyscallRule]:
    # Writable and executable at once is refused in every mode; MDWE, where used, also refuses one after the other.
    never_both = (ArgumentTest(2, 0x6, (0x0, 0x2, 0x4)),)
    return [
        *_plain(_FILES, _MEMORY, _THREADS, _FACTS, _WAITING),
        SyscallRule("mmap", never_both),
        SyscallRule("mprotect", never_both),
        SyscallRule("fcntl", (ArgumentTest(1, _ALL, _FCNTL),)),
        SyscallRule("ioctl", (ArgumentTest(1, _ALL, _IOCTL),), refusal=errno.ENOTTY),
        SyscallRule("socketpair", (ArgumentTest(0, _ALL, (1,)),)),
        # clone3 keeps its flags in memory, where no filter can read them; ENOSYS makes the C library use clone.
        SyscallRule("clone3", refusal=errno.ENOSYS, allowed=False),
    ]


def _children(*, allowed: bool) -> list[SyscallRule]:
    if allowed:
        return [SyscallRule("clone", (ArgumentTest(0, _NEW_NAMESPACES, (0,)),)), *_plain("wait4 waitid execve")]
    return [SyscallRule("clone", (ArgumentTest(0, _NEW_NAMESPACES | _CLONE_THREAD, (_CLONE_THREAD,)),))]


def settled_rules(*, may_exec: bool) -> tuple[SyscallRule, ...]:
    """Return the rules for the command once it runs; with ``may_exec`` it may start programs of the measured roots."""
    return (
        *_shared(),
        *_children(allowed=may_exec),
        SyscallRule("prctl", (ArgumentTest(0, _ALL, _PRCTL),)),
        # Only its own limits: another process is named by a pid other than 0.
        SyscallRule("prlimit64", (ArgumentTest(0, _ALL, (0,)),)),
    )


def command_rules(*, may_exec: bool) -> tuple[SyscallRule, ...]:
    """Return the rules under which the command's interpreter is started; :func:`settled_rules` narrow them."""
    children = _children(allowed=True) if may_exec else [*_children(allowed=False), SyscallRule("execve")]
    return (
        *_shared(),
        *children,
        SyscallRule("prctl", (ArgumentTest(0, _ALL, (*_PRCTL, *_PRCTL_ENTERING)),)),
        SyscallRule("prlimit64", (ArgumentTest(0, _ALL, (0,)),)),
        SyscallRule("seccomp"),
    )


def agent_rules() -> tuple[SyscallRule, ...]:
    """Return the rules for the agent: the command's, and what opening the weights and starting the command takes.

    The only mount it can make is the one that turns the weights' folder read-only.
    """
    return (
        *_shared(),
        *_children(allowed=True),
        *_plain(
            "prctl prlimit64 setrlimit capget capset seccomp landlock_create_ruleset landlock_add_rule "
            "landlock_restrict_self memfd_secret fchmod fchmodat chmod kill setsid pidfd_open pidfd_send_signal"
        ),
        SyscallRule("mount", (ArgumentTest(3, _ALL, (_MS_SEAL,)),)),
    )
