"""What a host offers to the protections used here, one fact each: what was seen, and what is lost without it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from strongroom.core.canonical import Json


class FactState(StrEnum):
    """How much of a protection the host gives."""

    OK = "ok"
    DEGRADED = "degraded"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One property of the host. ``lost`` and ``mend`` are empty when all is well."""

    name: str
    state: FactState
    seen: str
    lost: str = ""
    mend: str = ""
    must_have: bool = False
    """Without it the process enclave refuses to start."""

    @property
    def blocks(self) -> bool:
        """Whether nothing can run until this is mended."""
        return self.must_have and self.state is FactState.MISSING

    def to_json(self) -> Json:
        """Return the fact as a JSON object."""
        return {
            "name": self.name,
            "state": self.state.value,
            "seen": self.seen,
            "lost": self.lost,
            "mend": self.mend,
            "must_have": self.must_have,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was read from the host, before it is judged. None: it couldn't be read or isn't there. Sizes in bytes."""

    kernel: tuple[int, int]
    python: tuple[int, int, int]
    user_namespaces: str
    """Empty when one could be opened, otherwise the kernel's answer."""
    landlock_version: int | None
    seccomp: bool
    secret_memory: bool
    deny_write_execute: bool
    locked_memory: int | None
    """The limit; None when there is none."""
    swap: int
    core_pattern: str | None
    core_hard_limit: int | None
    """None when unlimited."""
    ptrace_scope: int | None
    swap_excludable: bool
    tpm_device: str
    """A path that can be opened, a path in brackets that can't, or empty."""
    software_tpm: str
    free_disk: int
    free_memory: int
    clock_synchronised: bool | None
    root: bool


LEAST_LANDLOCK = 3
_MIB = 1 << 20
_GIB = 1 << 30


def judge(seen: Seen) -> tuple[Fact, ...]:
    """Return every fact about the host, the indispensable ones first."""
    return (*_indispensable(seen), *_memory(seen), *_identity(seen), *_surroundings(seen))


def _fact(name: str, state: FactState, seen: str, *, lost: str = "", mend: str = "", must_have: bool = False) -> Fact:
    well = state is FactState.OK
    return Fact(
        name=name, state=state, seen=seen, lost="" if well else lost, mend="" if well else mend, must_have=must_have
    )


def _either(well: bool, *, otherwise: FactState = FactState.MISSING) -> FactState:  # noqa: FBT001 - one question
    return FactState.OK if well else otherwise


def _indispensable(seen: Seen) -> tuple[Fact, ...]:
    version = seen.landlock_version
    scoped = version is not None and version >= 6
    landlock = (
        FactState.MISSING
        if version is None or version < LEAST_LANDLOCK
        else _either(scoped, otherwise=FactState.DEGRADED)
    )
    return (
        _fact(
            "user namespaces",
            _either(not seen.user_namespaces),
            "can be opened" if not seen.user_namespaces else seen.user_namespaces,
            lost="no enclave can be confined",
            mend="sysctl -w user.max_user_namespaces=15000 kernel.apparmor_restrict_unprivileged_userns=0",
            must_have=True,
        ),
        _fact(
            "landlock",
            landlock,
            "not in this kernel" if version is None else f"version {version}",
            lost="no enclave can be confined"
            if landlock is FactState.MISSING
            else "signals and sockets are held by the namespaces and the call filter alone",
            mend="boot with landlock in `lsm=`, on Linux 6.12 or newer",
            must_have=True,
        ),
        _fact(
            "seccomp",
            _either(seen.seccomp),
            "filters can be installed" if seen.seccomp else "no filters",
            lost="no enclave can be confined",
            mend="use a kernel with CONFIG_SECCOMP_FILTER",
            must_have=True,
        ),
        _fact(
            "write or execute",
            _either(seen.deny_write_execute),
            "can be enforced" if seen.deny_write_execute else "not in this kernel",
            lost="the default profile refuses to start; the `compiled` one lets injected code run",
            mend="use Linux 6.3 or newer",
        ),
        _fact(
            "kernel",
            _either(seen.kernel >= (5, 14), otherwise=FactState.MISSING),
            f"Linux {seen.kernel[0]}.{seen.kernel[1]}",
            lost="the view of the file system can't be built",
            mend="use Linux 6.12 or newer",
            must_have=True,
        ),
        _fact(
            "python",
            _either(seen.python >= (3, 11, 0)),
            ".".join(map(str, seen.python)),
            lost="nothing runs",
            mend="use Python 3.11 or newer",
            must_have=True,
        ),
    )


def _memory(seen: Seen) -> tuple[Fact, ...]:
    little = seen.locked_memory is not None and seen.locked_memory < 4 * _MIB
    swap_matters = seen.swap > 0
    piped = (seen.core_pattern or "").startswith("|")
    # A piped pattern ignores a limit of 0; 1 stops it, but a hard limit of 0 can't be raised to 1.
    cores_leak = piped and seen.core_hard_limit == 0
    return (
        _fact(
            "secret memory",
            _either(seen.secret_memory, otherwise=FactState.DEGRADED),
            "memfd_secret" if seen.secret_memory else "locked memory only",
            lost="root can read a key out of the agent's memory while it is in use",
            mend="boot with `secretmem.enable=1`, on Linux 5.14 or newer",
        ),
        _fact(
            "locked memory",
            _either(not little, otherwise=FactState.DEGRADED),
            "unlimited" if seen.locked_memory is None else f"{seen.locked_memory // 1024} KiB",
            lost="few keys at a time can be kept out of swap",
            mend="ulimit -l 8192, or LimitMEMLOCK=8M in the unit",
        ),
        _fact(
            "swap",
            _either(not swap_matters or (seen.swap_excludable and seen.root), otherwise=FactState.DEGRADED),
            f"{seen.swap // _MIB} MiB"
            + (", opened weights are kept out" if swap_matters and seen.swap_excludable else ""),
            lost="opened weights may be written to a swap device",
            mend="swapoff -a, or encrypt swap with a key of each boot's own",
        ),
        _fact(
            "core dumps",
            _either(not cores_leak, otherwise=FactState.DEGRADED),
            seen.core_pattern if seen.core_pattern is not None else "unknown",
            lost="a crash while an interpreter starts may be handed to the host's crash handler",
            mend="sysctl -w kernel.core_pattern=core",
        ),
        _fact(
            "tracing",
            _either(seen.ptrace_scope is not None and seen.ptrace_scope >= 1, otherwise=FactState.DEGRADED),
            "not restricted" if not seen.ptrace_scope else f"yama scope {seen.ptrace_scope}",
            lost="processes of the same user can trace each other; those here make themselves untraceable",
            mend="sysctl -w kernel.yama.ptrace_scope=2, on a kernel with Yama",
        ),
    )


def _identity(seen: Seen) -> tuple[Fact, ...]:
    usable = bool(seen.tpm_device) and not seen.tpm_device.startswith("[")
    return (
        _fact(
            "TPM",
            FactState.OK if usable else FactState.DEGRADED if seen.tpm_device else FactState.MISSING,
            seen.tpm_device or "no device",
            lost="this host can't prove what it runs; only simulated evidence is possible",
            mend="turn the TPM on in the firmware, and add the user to the group `tss`",
        ),
        _fact(
            "software TPM",
            _either(bool(seen.software_tpm), otherwise=FactState.DEGRADED),
            seen.software_tpm or "swtpm isn't installed",
            lost="the demonstration and the tests with a simulated TPM can't run",
            mend="install swtpm",
        ),
        _fact(
            "dedicated uid",
            _either(seen.root, otherwise=FactState.DEGRADED),
            "started as root: enclaves run under a uid of their own" if seen.root else "started as an ordinary user",
            lost="enclaves share their launcher's uid: what runs under it outside can read inside",
            mend="start enclaves from a service that may change its uid",
        ),
    )


def _surroundings(seen: Seen) -> tuple[Fact, ...]:
    return (
        _fact(
            "free memory",
            _either(seen.free_memory >= 2 * _GIB, otherwise=FactState.DEGRADED),
            f"{seen.free_memory / _GIB:.1f} GiB",
            lost="opened weights lie in memory: a model larger than this can't be opened",
            mend="free memory, or use a larger host",
        ),
        _fact(
            "free disk",
            _either(seen.free_disk >= _GIB, otherwise=FactState.DEGRADED),
            f"{seen.free_disk / _GIB:.1f} GiB",
            lost="the log stops when the disk is full, and then nothing is released",
            mend="free space on the deployment's disk",
        ),
        _fact(
            "clock",
            _either(bool(seen.clock_synchronised), otherwise=FactState.DEGRADED),
            {True: "synchronised", False: "not synchronised", None: "unknown"}[seen.clock_synchronised],
            lost="windows, leases and evidence are judged by a clock that may be wrong",
            mend="run chrony or systemd-timesyncd",
        ),
    )
