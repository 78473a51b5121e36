"""The log's part of an odometer, as a governor's process sees it."""

from __future__ import annotations

from typing import Protocol

from strongroom.client.told import OdometerTold
from strongroom.core.envelope import Envelope
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId
from strongroom.egress.odometer import Block
from strongroom.release.metering import LoggedReading, read_resumption


class OdometerLog(Protocol):
    """Whoever has odometer entries appended to the log (steps 1 and 3 of docs/spec/egress-budget.md). Calls may block.

    What they return was checked: the keeper signed it, for this release.
    """

    def open(self, seen: bytes | None) -> LoggedReading:
        """Begin a run, for a governor that kept the entry ``seen``.

        :raises StrongroomError: the log isn't there, or refuses.
        """
        ...

    def advance(self, block: Block) -> LoggedReading:
        """Have the entry appended that answers ``block``.

        :raises StrongroomError: the log isn't there, or refuses.
        """
        ...

    def breach(self, cause: str) -> None:
        """Have the model frozen, everywhere.

        :raises StrongroomError: nobody was told.
        """
        ...


class DeploymentPort(Protocol):
    """The deployment as a governor's process reaches it; :class:`strongroom.client.api.BrokerApi` is one."""

    def odometer(self, model: ModelId) -> OdometerTold:
        """Return how far a model's odometer stands, as the server says."""
        ...

    def entries(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return entries of the log."""
        ...

    def open_odometer(self, delivery: Envelope, seen: bytes | None) -> bytes:
        """Begin a run; returns a log entry that nobody has checked."""
        ...

    def advance_odometer(self, delivery: Envelope, block: Block) -> bytes:
        """Have more mirrored; returns a log entry that nobody has checked."""
        ...

    def report_breach(self, delivery: Envelope, cause: str) -> None:
        """Have the model frozen."""
        ...


def last_resumption(deployment: DeploymentPort, genesis: Genesis, model: ModelId) -> int | None:
    """Return the keeper's number of the entry that resumed a model last; None if none did.

    A server that isn't believed may hide one. It can't make one up: the keeper signed it, with that number.

    :raises StrongroomError: no answer, or an entry that isn't the keeper's.
    """
    told = deployment.odometer(model)
    if told.resumed is None:
        return None
    found = deployment.entries(told.resumed, 1)
    return read_resumption(found[0], genesis.keeper_key, model) if found else None
