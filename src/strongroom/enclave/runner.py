"""The port through which an enclave is started and spoken to. The process enclave is its first implementation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from strongroom.core.canonical import Json
from strongroom.enclave.sandbox import SandboxProfile


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How an enclave ended: an exit code, or the number of the signal that killed it."""

    code: int | None
    signal: int | None

    @property
    def succeeded(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.code == 0


@dataclass(frozen=True, slots=True)
class Entered:
    """What the confinement reported about itself as it was entered. It is self-reported: no evidence of anything.

    ``microseconds`` is the time from the supervisor's first instruction to the agent's start.
    """

    microseconds: int
    swap_excluded: bool
    """The kernel keeps the memory-only folders out of swap."""
    private_proc: bool
    """The view has a /proc that shows the process itself and nothing else."""
    dedicated_uid: bool
    """The confined code runs under the profile's own uid; otherwise under the launcher's."""


class Running(Protocol):
    """A started enclave. Leaving the ``with`` block kills it."""

    entered: Entered

    def send(self, message: Json, *, timeout: float) -> None:
        """Send one message to the agent within ``timeout`` seconds."""

    def receive(self, *, timeout: float) -> Json:
        """Return the agent's next message, waiting at most ``timeout`` seconds."""

    def wait(self, *, timeout: float) -> ExitStatus:
        """Return how the enclave ended, waiting at most ``timeout`` seconds."""

    def kill(self) -> None:
        """End everything inside at once, and its memory with it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_exc: object) -> None: ...


class Runner(Protocol):
    """Starts enclaves."""

    def launch(self, profile: SandboxProfile, *, module: str, inherited: Mapping[str, int], timeout: float) -> Running:
        """Start the agent ``module`` confined by ``profile``, with the descriptors ``inherited`` by name.

        :raises SandboxError: the confinement can't be entered as the profile demands.
        """
