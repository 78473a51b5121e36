"""Entering the two confinements: the agent's, and, narrower and for good, the command's."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import Final

from strongroom.enclave.adapters.view import CPU_FACTS, DEVICES, ViewFacts, build_view, close_model_folder, step
from strongroom.enclave.sandbox import MODEL_PATH, SCRATCH_PATH, SandboxError, SandboxProfile, WritableCode
from strongroom.walls.adapters import landlock, syscalls
from strongroom.walls.bpf import SyscallRule, assemble

_CAP_SETPCAP: Final = 8
_LIMITS: Final = {
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "msgqueue": 12,  # RLIMIT_MSGQUEUE, which this Python doesn't name
    "nice": 13,  # RLIMIT_NICE
    "rtprio": 14,  # RLIMIT_RTPRIO
}
_USER_NAMESPACE_REMEDY: Final = (
    "allow user namespaces: `sysctl -w user.max_user_namespaces=15000`, and where they exist "
    "`sysctl -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0`"
)


def enter_own_user_namespace(inside: int) -> None:
    """Move an ordinary user's process into a new user namespace, where its uid and gid appear as ``inside``.

    :raises SandboxError: the host doesn't allow user namespaces.
    """
    uid, gid = os.geteuid(), os.getegid()
    with step("open a user namespace", remedy=_USER_NAMESPACE_REMEDY):
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        _write_maps("/proc/self", f"{inside} {uid} 1", f"{inside} {gid} 1")


def map_child(child: int, uid: int) -> None:
    """Write, as root outside, the maps of the user namespace that ``child`` moved into: one uid, the profile's.

    :raises SandboxError: the kernel refuses the maps.
    """
    with step(f"map uid {uid}", remedy="choose a uid that exists in this container's uid map"):
        _write_maps(f"/proc/{child}", f"{uid} {uid} 1", f"{uid} {uid} 1")


def _write_maps(process: str, uids: str, gids: str) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", uids), ("gid_map", gids)):
        Path(process, name).write_text(text)


def _become_dedicated(uid: int, mapper: int) -> None:
    # The namespace is opened while still root, so that root owns it. Were it opened by the profile's uid, every other
    # process of that uid on the host would hold all capabilities over it, and could read what is inside.
    with step("open a user namespace", remedy=_USER_NAMESPACE_REMEDY):
        os.setgroups([])
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    os.write(mapper, b"?")
    if os.read(mapper, 1) != b"!":
        raise SandboxError("the supervisor didn't map the sandbox's uid")
    # A uid of the host that owns nothing: to the kernel, root without capabilities still owns /proc/sys.
    with step(f"become uid {uid}"):
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def enter_agent(profile: SandboxProfile, *, mapper: int | None) -> ViewFacts:
    """Confine the caller, the first process of a new pid namespace, to what the agent may do.

    ``mapper``: the caller is root on the host and gives that up here, for the profile's uid; the descriptor asks the
    supervisor to map it. None: it already stands in its own user namespace. Afterwards it holds one capability, over
    its own mounts, to close the weights' folder with; :func:`close_weights` gives that up too.

    :raises SandboxError: any step fails. The caller must end: it may be half confined.
    """
    with step("follow its supervisor into death"):
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    with step("open its namespaces", remedy=_USER_NAMESPACE_REMEDY):
        syscalls.unshare(
            syscalls.CLONE_NEWNS
            | syscalls.CLONE_NEWNET
            | syscalls.CLONE_NEWIPC
            | syscalls.CLONE_NEWUTS
            | syscalls.CLONE_NEWCGROUP
        )
    facts = build_view(profile, owner=profile.uid)
    if mapper is not None:
        _become_dedicated(profile.uid, mapper)
        os.close(mapper)
    with step("give up its privileges"):
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        # Held as ambient, or the agent's interpreter would start without it; the bounding set goes in between,
        # because an inheritable capability can't be added once it has left the bounding set.
        syscalls.set_capabilities(syscalls.CAP_SYS_ADMIN, _CAP_SETPCAP)
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, syscalls.CAP_SYS_ADMIN)
        syscalls.drop_bounding_set()
        syscalls.set_capabilities(syscalls.CAP_SYS_ADMIN)
        # A change of uid cleared it.
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    set_limits(profile)
    install(profile.agent_syscalls)
    return facts


def close_weights() -> None:
    """Make the weights' folder read-only and give up the last capability. For the agent, before the command starts.

    :raises SandboxError: the kernel refuses.
    """
    close_model_folder()
    give_up_capabilities()


def give_up_capabilities() -> None:
    """Hold no capability from here on, nor let a program started later regain one."""
    with step("give up its capabilities"):
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
        syscalls.set_capabilities()


def enter_command(profile: SandboxProfile) -> int:
    """Confine the caller, a fresh child of the agent, to what the command may do; returns the Landlock version.

    :raises SandboxError: any step fails. The caller must end.
    """
    with step("follow the agent into death"):
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    give_up_capabilities()
    if profile.writable_code is WritableCode.NEVER:
        with step("forbid memory that is writable first and executable later", remedy="use Linux 6.3 or newer"):
            syscalls.prctl(syscalls.PR_SET_MDWE, syscalls.PR_MDWE_REFUSE_EXEC_GAIN)
    with step(
        "restrict files, signals and sockets", remedy="boot with Landlock in the `lsm=` list (Linux 6.2 or newer)"
    ):
        version = landlock.restrict(_grants(profile))
    install(profile.command_syscalls)
    return version


def install(rules: tuple[SyscallRule, ...]) -> None:
    """Allow only the system calls ``rules`` from here on.

    :raises SandboxError: the kernel refuses the filter.
    """
    with step("install its system call filter", remedy="use a kernel with CONFIG_SECCOMP_FILTER"):
        syscalls.load_filter(assemble(rules, machine=syscalls.machine()))


def set_limits(profile: SandboxProfile) -> None:
    """Apply the profile's resource limits and turn core dumps off.

    :raises SandboxError: a limit is unknown or can't be set.
    """
    for name, value in profile.limits:
        known = _LIMITS.get(name)
        if known is None:
            raise SandboxError(f"the profile sets an unknown limit `{name[:20]}`")
        with step(f"set the limit `{name}`"):
            _lower(known, value)
    with step("turn core dumps off"):
        # 1, not 0: a core pattern that is a pipe ignores 0, and gives up at 1. A hard limit of 0 can't be raised.
        _lower(resource.RLIMIT_CORE, 1)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def _lower(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    least = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (least, least))


def _grants(profile: SandboxProfile) -> tuple[tuple[str, int], ...]:
    return (
        *((root, landlock.READ) for root in profile.readable_roots),
        *((root, landlock.READ | landlock.EXECUTE) for root in profile.executable_roots),
        *((device, landlock.READ_FILE | landlock.WRITE_FILE) for device in DEVICES),
        (CPU_FACTS, landlock.READ),
        ("/proc", landlock.READ),
        (MODEL_PATH, landlock.READ),
        (SCRATCH_PATH, landlock.WRITE if profile.scratch_bytes else landlock.READ),
    )
