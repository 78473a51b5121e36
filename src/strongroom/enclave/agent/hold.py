"""The agent's hold on its lease: when to ask, what to believe, and when it is over. Pure: the agent's clock goes in.

The launcher carries the askings and the answers, and isn't believed. What it can do is withhold, and then the deadline
passes. A word that the lease ended needs no proof: whoever can say it could have withheld as well. Nor does a word that
new evidence is due: it says what runs here, to whoever asks, and is good for the keeper's own challenge alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PlatformId
from strongroom.release.lease import (
    NONCE_BYTES,
    LeaseAsk,
    LeaseEndedError,
    LeaseLostError,
    LeaseProof,
    accept_lease,
)

ASKINGS: Final = 3
"""How often a lease is asked for in one period: one lost answer ends nothing."""


@dataclass(frozen=True, slots=True)
class EvidenceDue:
    """A challenge that new evidence must answer before the next lease comes."""

    challenge: str
    nonce: bytes


@dataclass(frozen=True, slots=True)
class _Asked:
    ask: LeaseAsk
    at: float


@dataclass(slots=True)
class Hold:
    """One release as its agent holds it. Times are seconds of a clock that only runs forward."""

    genesis: Genesis
    request: Digest
    platform: PlatformId
    use: int
    recipient: Digest
    period: int
    since: float
    """When the lease that is held was asked for: the evidence for the first, the asking for each later one."""
    refused: int = 0
    """Answers that weren't a lease for the newest asking."""
    _serial: int = 0
    _asked: _Asked | None = field(default=None)

    @property
    def until(self) -> float:
        """The deadline."""
        return self.since + self.period

    def due(self) -> float:
        """Return when to ask next."""
        return (self._asked.at if self._asked else self.since) + self.period / ASKINGS

    def check(self, now: float) -> None:
        """Refuse to go on after the deadline.

        :raises LeaseLostError: it has passed.
        """
        if now >= self.until:
            raise LeaseLostError(
                f"no lease came within its period of {self.period} seconds",
                remedy="see whether the launcher reaches the deployment, and the deployment is up; then run it again",
            )

    def ask(self, now: float, nonce: bytes, proof: LeaseProof | None = None) -> Json:
        """Return the message that asks for the next lease. Whatever was asked before isn't waited for any more.

        :param now: for an asking with evidence, when the evidence was begun: the lease counts from there.
        """
        self._serial += 1
        ask = LeaseAsk(use=self.use, recipient=self.recipient, serial=self._serial, nonce=nonce)
        self._asked = _Asked(ask, now)
        message: dict[str, Json] = {"renew": dict(ask.to_json())}
        return message if proof is None else {**message, "proof": proof.to_json()}

    def hear(self, message: Json) -> EvidenceDue | None:
        """Take a message of the launcher's; returns what new evidence must answer, if that is what it says.

        :raises LeaseEndedError: it says that the lease ended.
        :raises MalformedError: it isn't one of the messages that may come now.
        """
        with Fields(message, "message") as fields:
            if fields.optional("fell"):
                raise LeaseEndedError(fields.text("fell", max_length=96))
            if fields.optional("prove"):
                with fields.child("prove") as told:
                    return EvidenceDue(
                        told.text("challenge", max_length=64), told.binary("nonce", max_length=NONCE_BYTES)
                    )
            with fields.child("lease") as lease:
                envelope = Envelope.read(lease)
        self._take(envelope)
        return None

    def _take(self, envelope: Envelope) -> None:
        asked = self._asked
        if asked is None:
            self.refused += 1
            return
        try:
            lease = accept_lease(envelope, self.genesis, request=self.request, platform=self.platform, ask=asked.ask)
        except StrongroomError:
            # It changes nothing: neither does it prolong, nor may it end what another answer can still prolong.
            self.refused += 1
            return
        self.since, self.period, self._asked = asked.at, lease.period, None
