"""The launcher's child, outside the confinement: makes the pid namespace, starts the agent in it, waits, reports.

Run as ``python -I -m strongroom.enclave.adapters.supervisor ORDER``, one fresh single-threaded process for each
enclave, because a launcher with threads can't safely fork into namespaces itself. It reads nothing from the inside.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import Final, Never

from strongroom.core import canonical
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import reading
from strongroom.enclave import frames
from strongroom.enclave.adapters import confine
from strongroom.enclave.adapters.channel import DESCRIPTOR_VARIABLE
from strongroom.enclave.adapters.view import step
from strongroom.enclave.sandbox import SandboxError, SandboxProfile
from strongroom.walls.adapters import syscalls

INSIDE: Final = "strongroom.enclave.adapters.inside"
NO_BYTECODE: Final = "/no-bytecode"
"""A folder that isn't there and can't be made: the view's root is read-only."""
PYTHON_OPTIONS: Final = ("-I", "-B", "-X", f"pycache_prefix={NO_BYTECODE}")
"""Isolated; neither reading the bytecode that lies beside the sources (sources are measured, bytecode isn't) nor
writing any: bytecode in the scratch folder could be changed by the command, and then be run by the agent."""
_MAX_PROFILE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Order:
    """What to start: the agent's module, and which descriptors mean what. Written by the launcher as JSON."""

    module: str
    report: int
    lifeline: int
    passed: tuple[tuple[str, int], ...]
    """Descriptors for the agent by name; ``profile`` is always among them."""

    @classmethod
    def parse(cls, text: str) -> Order:
        """Read the launcher's order.

        :raises MalformedError: not an order.
        """
        with reading(canonical.parse(text.encode()), "order") as f:
            passed = f.child("passed")
            names = f.texts("names", most=16, max_length=32)
            order = cls(
                module=f.text("module"),
                report=f.integer("report", most=65535),
                lifeline=f.integer("lifeline", most=65535),
                passed=tuple((name, passed.integer(name, most=65535)) for name in names),
            )
            passed.end()
        return order


def main(arguments: list[str]) -> int:
    """Start what the one argument orders; returns the agent's exit code, or 128 plus the signal that ended it."""
    started = time.monotonic_ns()
    order = Order.parse(arguments[0])
    passed = dict(order.passed)
    _close_all_but({0, 1, 2, order.report, order.lifeline, *passed.values()})
    try:
        profile = SandboxProfile.from_bytes(os.pread(passed["profile"], _MAX_PROFILE, 0))
        privileged = _open_pid_namespace(profile)
    except StrongroomError as error:
        _report_failure(order.report, error)
        return 1
    asked, mapper = socket.socketpair()
    child = os.fork()
    if child == 0:
        os.close(order.lifeline)
        asked.close()
        _become_agent(order, profile, mapper=mapper.detach() if privileged else None, started=started)
    mapper.close()
    for descriptor in passed.values():
        os.close(descriptor)
    with asked:
        # Nothing comes when the child fails before, and nothing when it needs no map.
        if asked.recv(1):
            confine.map_child(child, profile.uid)
            asked.sendall(b"!")
    return _watch(child, order, profile, privileged=privileged)


def _close_all_but(kept: set[int]) -> None:
    low = 0
    for descriptor in sorted(kept):
        if low < descriptor:  # an empty range that ends at 0 would close everything
            os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, max(low + 1, os.sysconf("SC_OPEN_MAX")))


def _open_pid_namespace(profile: SandboxProfile) -> bool:
    privileged = os.geteuid() == 0
    if not privileged:
        confine.enter_own_user_namespace(profile.uid)
    with step("open a pid namespace", remedy="run as an ordinary user with user namespaces, or with CAP_SYS_ADMIN"):
        syscalls.unshare(syscalls.CLONE_NEWPID)
    return privileged


def _become_agent(order: Order, profile: SandboxProfile, *, mapper: int | None, started: int) -> Never:
    try:
        facts = confine.enter_agent(profile, mapper=mapper)
        environment = dict(profile.environment)
        for name, descriptor in order.passed:
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - the function takes it by position
            environment[DESCRIPTOR_VARIABLE + name.upper()] = str(descriptor)
        entered = (time.monotonic_ns() - started) // 1000
        report: canonical.Json = {
            "entered": {
                "microseconds": entered,
                "swap_excluded": facts.swap_excluded,
                "private_proc": facts.private_proc,
                "dedicated_uid": mapper is not None,
            }
        }
        # What may go wrong from here on (the interpreter isn't in the view) is reported after it, by the next frame.
        with step("start its interpreter", remedy="name the interpreter's folders as code roots"):
            os.access(sys.executable, os.X_OK) or _missing()
            os.write(order.report, frames.frame(report))
            os.set_inheritable(order.report, False)  # noqa: FBT003 - as above
            os.execve(  # noqa: S606 - no shell
                sys.executable, [sys.executable, *PYTHON_OPTIONS, "-m", INSIDE, "agent", order.module], environment
            )
    except StrongroomError as error:
        _report_failure(order.report, error)
    except BaseException as error:  # noqa: BLE001 - nothing may continue here, half confined, whatever happened
        _report_failure(order.report, SandboxError(f"the sandbox failed while it was entered: {type(error).__name__}"))
    os._exit(1)


def _missing() -> Never:
    raise SandboxError(
        "the interpreter isn't in the sandbox's view",
        remedy="name the interpreter's folders as code roots",
    )


def _report_failure(report: int, error: StrongroomError) -> None:
    os.write(
        report, frames.frame({"failed": {"message": error.message, "remedy": error.remedy, "reason": error.reason}})
    )


def _watch(child: int, order: Order, profile: SandboxProfile, *, privileged: bool) -> int:
    _drop_own_privileges(profile, privileged=privileged)
    handle = os.pidfd_open(child)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.register(order.lifeline, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if order.lifeline in ready:
            # The launcher closed its end or died. The agent is its pid namespace's first process: all inside die too.
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            poll.unregister(order.lifeline)
        if handle in ready:
            break
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    ended: canonical.Json = {"ended": {"code": code} if code >= 0 else {"signal": -code}}
    os.write(order.report, frames.frame(ended))
    return code if code >= 0 else 128 - code


def _drop_own_privileges(profile: SandboxProfile, *, privileged: bool) -> None:
    # Only waiting and one kill are left to do, and the same uid suffices for both.
    with step("give up the supervisor's privileges"):
        if privileged:
            os.setgroups([])
            os.setresgid(profile.uid, profile.uid, profile.uid)
            os.setresuid(profile.uid, profile.uid, profile.uid)
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.set_capabilities()
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
