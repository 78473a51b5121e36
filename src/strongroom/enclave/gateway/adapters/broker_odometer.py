"""The odometer in the deployment's log, over the broker: an answer is the keeper's entry for this release, or none."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from strongroom.core.envelope import Envelope
from strongroom.core.errors import UnavailableError
from strongroom.core.genesis import Genesis
from strongroom.egress.errors import Limit, LimitReachedError
from strongroom.egress.odometer import Block
from strongroom.enclave.gateway.odometer import DeploymentPort
from strongroom.release.metering import LoggedReading, Metered, read_reading

PAUSES: Final = (0.25, 0.5, 1.0, 2.0)
"""Seconds between tries when nobody answers. Answers wait meanwhile; nothing leaves uncounted."""
T = TypeVar("T")


class BrokerOdometer:
    """One release's odometer. ``delivery`` is what the release was answered with, and says that it is this one's."""

    def __init__(
        self,
        deployment: DeploymentPort,
        genesis: Genesis,
        metered: Metered,
        delivery: Envelope,
        *,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._deployment, self._key, self._metered = deployment, genesis.keeper_key, metered
        self._delivery, self._pause = delivery, pause

    def open(self, seen: bytes | None) -> LoggedReading:
        """Begin a run (step 1)."""
        return self._read(self._tried(lambda: self._deployment.open_odometer(self._delivery, seen)))

    def advance(self, block: Block) -> LoggedReading:
        """Have more mirrored (step 3)."""
        try:
            return self._read(self._tried(lambda: self._deployment.advance_odometer(self._delivery, block)))
        except LimitReachedError as error:
            # What another process told of carries no numbers.
            day = error.reason.endswith(Limit.MODEL_DAY.value)
            reached = Limit.MODEL_DAY if day else Limit.LIFETIME
            raise LimitReachedError(reached, seen=0, wanted=block.through, passes_at=None) from None

    def breach(self, cause: str) -> None:
        """Have the model frozen."""
        self._tried(lambda: self._deployment.report_breach(self._delivery, cause))

    def _read(self, data: bytes) -> LoggedReading:
        return read_reading(data, self._key, metered=self._metered)

    def _tried(self, call: Callable[[], T]) -> T:
        # An answer that was lost may have been recorded: asked again, a run begins anew and a block gives nothing more.
        for pause in PAUSES:
            try:
                return call()
            except UnavailableError:
                self._pause(pause)
        return call()
