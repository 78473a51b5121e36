"""The system calls that confined code may make, and with which arguments. Everything absent is refused.

Three lists, each a subset of the one before, because filters stack and can only narrow: the *agent* (opens the weights,
starts the command once), the *command* as it is started, and the command *settled* in its interpreter.

What they share with other walls, and what is left out there on purpose, is in :mod:`strongroom.walls.calls`. Here
sockets are left out as well, but for a nameless pair.
"""

from __future__ import annotations

from typing import Final

from strongroom.walls.bpf import ArgumentTest, SyscallRule
from strongroom.walls.calls import (
    ALL_BITS,
    PRCTL_READING,
    own_limits,
    plain,
    shared_calls,
    threads_and_programs,
    threads_only,
)

# PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_SET_MDWE: while a stage is being entered.
_PRCTL_ENTERING: Final = (1, 4, 22, 38, 65)
_MS_SEAL: Final = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x1000  # ro, nosuid, nodev, noexec, remount, bind


def settled_rules(*, may_exec: bool) -> tuple[SyscallRule, ...]:
    """Return the rules for the command once it runs; with ``may_exec`` it may start programs of the measured roots."""
    return (
        *shared_calls(),
        *(threads_and_programs() if may_exec else threads_only()),
        SyscallRule("prctl", (ArgumentTest(0, ALL_BITS, PRCTL_READING),)),
        own_limits(),
    )


def command_rules(*, may_exec: bool) -> tuple[SyscallRule, ...]:
    """Return the rules under which the command's interpreter is started; :func:`settled_rules` narrow them."""
    children = threads_and_programs() if may_exec else [*threads_only(), SyscallRule("execve")]
    return (
        *shared_calls(),
        *children,
        SyscallRule("prctl", (ArgumentTest(0, ALL_BITS, (*PRCTL_READING, *_PRCTL_ENTERING)),)),
        own_limits(),
        SyscallRule("seccomp"),
    )


def agent_rules() -> tuple[SyscallRule, ...]:
    """Return the rules for the agent: the command's, and what opening the weights and starting the command takes.

    The only mount it can make is the one that turns the weights' folder read-only.
    """
    return (
        *shared_calls(),
        *threads_and_programs(),
        *plain(
            "prctl prlimit64 setrlimit capget capset seccomp landlock_create_ruleset landlock_add_rule "
            "landlock_restrict_self memfd_secret fchmod fchmodat chmod kill setsid pidfd_open pidfd_send_signal"
        ),
        SyscallRule("mount", (ArgumentTest(3, ALL_BITS, (_MS_SEAL,)),)),
    )
