"""One scanner for one file, started as ``python -I -m strongroom.quarantine.adapters.scan_inside``, its order on stdin.

A fresh process with one thread makes a pid namespace; its child puts up the walls of a process enclave around itself
and becomes the scanner. This process waits, for so long as the order says, and ends with the scanner's exit code.
The gate's own reader (:mod:`.read_inside`) stands behind the same walls, and becomes nothing else.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Final, Never

from strongroom.core.canonical import decode
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import Fields
from strongroom.enclave.adapters import confine
from strongroom.enclave.adapters.view import step
from strongroom.enclave.sandbox import SandboxProfile
from strongroom.walls.adapters import syscalls

_MAX_ORDER: Final = 1 << 20
_LATE: Final = 124
_SIGNALLED: Final = 128


def main(act: Callable[[], None] | None = None) -> int:
    """Do what the order says; returns the child's exit code, 124 if it was too slow, 128 and more for a signal.

    :param act: what the child does behind the walls; without it, it becomes the order's command.
    """
    with Fields(decode(sys.stdin.buffer.read(_MAX_ORDER)), "order") as fields:
        profile = SandboxProfile.from_bytes(fields.text("profile", max_length=_MAX_ORDER).encode())
        command = fields.texts("command", most=128, max_length=4096)
        file, report = fields.integer("file"), fields.integer("report")
        memory, seconds = fields.integer("memory"), fields.integer("seconds")
        gate = fields.integer("gate")
    try:
        privileged = os.geteuid() == 0
        if not privileged:
            confine.enter_own_user_namespace(profile.uid)
        with step("open a pid namespace"):
            syscalls.unshare(syscalls.CLONE_NEWPID)
        # A gate that is killed waits for no scanner: what was delivered must not stay in one's memory for hours.
        with step("follow the gate into death"):
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != gate:
            return 1
    except StrongroomError as error:
        os.write(report, error.message.encode())
        return 1
    asked, mapper = socket.socketpair()
    child = os.fork()
    if child == 0:
        asked.close()
        _wall_in(profile, file, report, memory, mapper.detach() if privileged else None, act, command)
    mapper.close()
    os.close(report)
    with asked:
        # Nothing comes when the child fails before, and nothing when it needs no map.
        if asked.recv(1):
            confine.map_child(child, profile.uid)
            asked.sendall(b"!")
    return _waited(child, seconds)


def _wall_in(
    profile: SandboxProfile,
    file: int,
    report: int,
    memory: int,
    mapper: int | None,
    act: Callable[[], None] | None,
    command: tuple[str, ...],
) -> Never:
    try:
        confine.enter_agent(profile, mapper=mapper)
        confine.close_weights()
        nowhere = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(file, 0)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.set_inheritable(report, False)  # noqa: FBT003 - the function takes it by position
        os.closerange(3, report)
        os.closerange(report + 1, 65536)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        confine.enter_command(profile)
        if act:
            # It starts no program any more; a scanner is one.
            confine.install(profile.settled_syscalls)
        os.write(report, b"+")
        if act:
            act()
            os._exit(0)
        os.execve(command[0], list(command), dict(profile.environment))  # noqa: S606 - no shell
    except StrongroomError as error:
        os.write(report, error.message.encode())
    except OSError as error:
        os.write(report, f"the scanner can't be started: {error.strerror}".encode())
    finally:
        os._exit(1)


def _waited(child: int, seconds: int) -> int:
    handle = os.pidfd_open(child)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    late = not poll.poll(seconds * 1000)
    if late:
        # The first process of its pid namespace: all that it started dies with it.
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if late:
        return _LATE
    return code if code >= 0 else _SIGNALLED - code


if __name__ == "__main__":
    sys.exit(main())
