"""Precautions, taken at the keeper by a statement of the responder's: each only ever takes something away."""

from __future__ import annotations

from typing import Final

from strongroom.client.precautions import longest
from strongroom.client.service import Session
from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.errors import ConflictError
from strongroom.ipc.adapters.client import UnixClient
from strongroom.release.errors import STATEMENT_KNOWN
from strongroom.release.precautions import PRECAUTION_TYPE, Cause, Precaution, PrecautionKind
from strongroom.release.statements import StatementKind

_TAKEN: Final = frozenset({"precaution-stands", STATEMENT_KNOWN})
"""What the keeper says where it stands already: taken twice is taken once."""


class KeeperPrecautions:
    """Takes precautions. Lifting one is people's own request."""

    def __init__(self, client: UnixClient, session: Session, clock: Clock) -> None:
        self._client = client
        self._session = session
        self._clock = clock

    async def because_of(self, incident: str, kind: PrecautionKind, subject: str | None) -> None:
        """Take one because of an incident, for as long as one may stand; once it stands, a second time changes nothing.

        :param subject: a model, a person, or None for the whole deployment.
        :raises StrongroomError: the keeper refuses it, or doesn't answer.
        """
        now = self._clock.now()
        await self._take(
            Precaution(
                genesis=self._genesis,
                kind=kind,
                subject=subject,
                cause=Cause.INCIDENT,
                incident=incident,
                at=now,
                until=longest(kind, now),
            )
        )

    async def one_more_approver(self, person: str, seconds: int) -> None:
        """Ask one approver more of a person because statistics found them unusual.

        :raises StrongroomError: the keeper refuses it, or doesn't answer.
        """
        now = self._clock.now()
        most = longest(PrecautionKind.APPROVER, now)
        await self._take(
            Precaution(
                genesis=self._genesis,
                kind=PrecautionKind.APPROVER,
                subject=person,
                cause=Cause.STATISTICS,
                incident=None,
                at=now,
                until=now + seconds if most is None else min(now + seconds, most),
            )
        )

    @property
    def _genesis(self) -> Digest:
        return self._session.wallet.genesis().digest

    async def _take(self, precaution: Precaution) -> None:
        envelope = sign(PRECAUTION_TYPE, precaution.to_bytes(), self._session.wallet.signer())
        try:
            await self._client.call("state", kind=StatementKind.PRECAUTION.value, envelope=envelope.to_json())
        except ConflictError as error:
            if error.reason not in _TAKEN:
                raise
