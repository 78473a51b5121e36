"""Serves SL3-WPI-01: what the running keeper may still do, whoever takes it over: a short list, and nothing else.

Whoever finds a fault in how it reads a hostile log, row or document ends up behind these walls: no program to start, no
other process to read or signal, no network, no file but its own. They don't take from it what it holds: its keys.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from strongroom.core.canonical import Json
from strongroom.keys.uri import KeyUri, Service
from strongroom.walls.bpf import ArgumentTest, SyscallRule
from strongroom.walls.calls import ALL_BITS, PRCTL_READING, own_limits, plain, shared_calls, threads_only

_AF_UNIX: Final = 1
_AF_NETWORK: Final = (
    2,
    10,
    16,
)  # AF_INET, AF_INET6, and AF_NETLINK, by which the C library asks which of them there are
_STARTING: Final = "bind listen chmod fchmod fchmodat"
_TALKING: Final = "connect accept accept4"
_SECRETS: Final = "memfd_secret"
_RECORD_LOCKS: Final = (5, 6, 7)
"""F_GETLK, F_SETLK, F_SETLKW."""
_LIBRARY: Final = "flock shmget shmat shmdt shmctl semget semop semctl fchmod chmod"


class Reach(StrEnum):
    """How far the keeper must reach for what holds its root key."""

    LOCAL = "local"
    """Nowhere: a passphrase, or a TPM behind a socket or device of this machine."""
    NETWORK = "network"
    """A key service over the network."""
    LIBRARY = "library"
    """Somebody's PKCS#11 library, which does what its maker thought of."""


_REACHES: Final = {Service.LOCAL: Reach.LOCAL, Service.TPM2: Reach.LOCAL, Service.PKCS11: Reach.LIBRARY}


def reach_of(providers: Collection[KeyUri]) -> Reach:
    """Return how far the keeper of a root key that ``providers`` hold must reach: the farthest of them."""
    farthest = [_REACHES.get(uri.service, Reach.NETWORK) for uri in providers]
    return max(farthest, key=list(Reach).index, default=Reach.LOCAL)


def files_of(providers: Collection[KeyUri]) -> tuple[str, ...]:
    """Return the files and devices that the providers' URIs name: what proves who asks, and where a TPM is."""
    named = {value for uri in providers for name, value in uri.settings if name.endswith("-file")}
    named |= {path for uri in providers for name, path in uri.parts if name == "file"}
    return tuple(sorted(named))


def folders_of(providers: Collection[KeyUri]) -> tuple[str, ...]:
    """Return the folders of the files that prove who asks.

    An agent renews such a file by putting another one in its place, and the wall knows files and not names: it is the
    folder that has to be open, to read.
    """
    named = {PurePath(value).parent for uri in providers for name, value in uri.settings if name.endswith("-file")}
    return tuple(sorted(str(folder) for folder in named if folder != folder.parent))


def starting_rules(reach: Reach, *, pid: int) -> tuple[SyscallRule, ...]:
    """Return the calls that the keeper may make from before it reads its log until it serves."""
    more = plain(_STARTING, "seccomp") if reach is not Reach.LIBRARY else plain("bind listen fchmodat seccomp")
    return (*serving_rules(reach, pid=pid), *more)


def serving_rules(reach: Reach, *, pid: int) -> tuple[SyscallRule, ...]:
    """Return the calls that the keeper may make while it serves: a subset of :func:`starting_rules`.

    :param pid: its own; it signals no other process.
    """
    families = (_AF_UNIX,) if reach is Reach.LOCAL else (_AF_UNIX, *_AF_NETWORK)
    replaced = {"tgkill", "fcntl"} if reach is Reach.LIBRARY else {"tgkill"}
    shared = [rule for rule in shared_calls() if rule.name not in replaced]
    return (
        *shared,
        *threads_only(),
        *plain(_TALKING, _SECRETS),
        *(SyscallRule(name, (ArgumentTest(0, ALL_BITS, (pid,)),)) for name in ("tgkill", "kill")),
        SyscallRule("socket", (ArgumentTest(0, ALL_BITS, families),)),
        SyscallRule("prctl", (ArgumentTest(0, ALL_BITS, PRCTL_READING),)),
        own_limits(),
        *((*plain(_LIBRARY), _locking(shared_calls())) if reach is Reach.LIBRARY else ()),
    )


def _locking(shared: Collection[SyscallRule]) -> SyscallRule:
    # A module that keeps keys in files locks them while it makes or destroys one: without that none is renewed.
    (rule,) = (rule for rule in shared if rule.name == "fcntl")
    (test,) = rule.tests
    return replace(rule, tests=(replace(test, allowed=(*test.allowed, *_RECORD_LOCKS)),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The walls as they stand. What the kernel doesn't have is said, and not passed over."""

    reach: Reach
    providers: tuple[KeyUri, ...]
    system_calls: bool
    files: int
    """Landlock's version; 0: no wall around files."""
    anchor: str
    """Where in a TPM the pins are anchored; empty: nowhere."""
    secrets: str
    """Where keys are kept: a :class:`strongroom.walls.adapters.secret_memory.SecretMemoryKind`."""

    def to_json(self) -> dict[str, Json]:
        """Return the form that `status` shows."""
        return {
            "reach": self.reach.value,
            "system_calls": self.system_calls,
            "files": self.files,
            "secrets": self.secrets,
            "anchor": self.anchor,
        }
