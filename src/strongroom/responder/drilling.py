"""A drill's own door: a line is a signed token, and becomes the synthetic event that its playbook begins with. Pure.

The event goes through the detector, the incident, the playbook and the port as any other does. Only what comes in by
this door is a drill's, and all that it names is the token's stand-ins: a real event is real, whatever it carries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.signature import PublicKey
from strongroom.detection.sensors.reading import MAX_LINE, Read
from strongroom.response.drills import DrillToken, open_drill, synthetic_event

DRILL: Final = "drill"
"""The source of a drill's events. No sensor may be called so."""


class DrillReader:
    """Reads tokens.

    :param masters: the keys of those who may hold a drill, as the roster in force lists them.
    :param used: tokens that were used before.
    :param begins: is told of each token that is good, right before its event.
    """

    def __init__(
        self,
        genesis: Digest,
        masters: Callable[[], tuple[PublicKey, ...]],
        used: Callable[[], frozenset[Digest]],
        begins: Callable[[Digest, DrillToken], None],
        clock: Clock,
    ) -> None:
        self._genesis = genesis
        self._masters = masters
        self._used = used
        self._begins = begins
        self._clock = clock

    def __call__(self, line: bytes) -> Read:
        """Read one line.

        :raises MalformedError: not a token that may be used now. It is counted as a line that wasn't read, which is
            told: who tries drills that aren't theirs is worth a look.
        """
        if len(line) > MAX_LINE:
            raise MalformedError("a drill's line is too long")
        try:
            envelope = Envelope.parse(line)
            token = open_drill(
                envelope, self._masters(), genesis=self._genesis, now=self._clock.now(), used=self._used()
            )
        except StrongroomError as error:
            raise MalformedError(f"no drill begins: {error.message}") from None
        self._begins(envelope.digest, token)
        return Read(events=(dict(synthetic_event(token, envelope.digest)),))
