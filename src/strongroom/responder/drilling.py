"""A drill begins with a signed token, which becomes the synthetic event that its playbook begins with. Pure.

The event goes through the detector, the incident, the playbook and the port as any other does. Only what is made here
is a drill's, and all that it names is the token's stand-ins: a real event is real, whatever it carries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.signature import PublicKey
from strongroom.detection.sensors.reading import Event
from strongroom.response.drills import DrillToken, open_drill, synthetic_event

DRILL: Final = "drill"
"""The source of a drill's events. No sensor may be called so."""


class Drills:
    """Holds drills.

    :param masters: the keys of those who may hold a drill, as the roster in force lists them.
    :param used: tokens that were used before.
    :param begins: is told of each token that is good, right before its event.
    :param take: shows the rules that event, as one of :data:`DRILL`.
    """

    def __init__(
        self,
        genesis: Digest,
        masters: Callable[[], tuple[PublicKey, ...]],
        used: Callable[[], frozenset[Digest]],
        begins: Callable[[Digest, DrillToken], None],
        take: Callable[[Event], object],
        clock: Clock,
    ) -> None:
        self._genesis = genesis
        self._masters = masters
        self._used = used
        self._begins = begins
        self._take = take
        self._clock = clock

    def hold(self, envelope: Envelope) -> None:
        """Hold the drill that a token asks for.

        :raises SignatureError: nobody who may hold drills signed it. :raises MalformedError: it isn't a token.
        :raises DrillRefusedError: another deployment's, not to be held now, or held before.
        """
        # Nothing is waited for in here: of two with the same token, the second finds it used.
        token = open_drill(envelope, self._masters(), genesis=self._genesis, now=self._clock.now(), used=self._used())
        self._begins(envelope.digest, token)
        self._take(dict(synthetic_event(token, envelope.digest)))
