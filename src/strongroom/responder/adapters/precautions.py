"""Precautions, taken at the keeper by a statement of the responder's: each only ever takes something away."""

from __future__ import annotations

from typing import Final

from strongroom.client.precautions import MARGIN_SECONDS, longest, signed
from strongroom.client.service import Session
from strongroom.core.envelope import Envelope
from strongroom.core.errors import ConflictError
from strongroom.ipc.adapters.client import UnixClient
from strongroom.release.errors import STATEMENT_KNOWN
from strongroom.release.precautions import APPROVER_SECONDS, Cause, PrecautionKind
from strongroom.release.statements import StatementKind

_TAKEN: Final = frozenset({"precaution-stands", STATEMENT_KNOWN})
"""What the keeper says where it stands already: taken twice is taken once."""


class KeeperPrecautions:
    """Takes precautions. Lifting one is people's own request."""

    def __init__(self, client: UnixClient, session: Session) -> None:
        self._client = client
        self._session = session

    async def because_of(self, incident: str, kind: PrecautionKind, subject: str | None) -> None:
        """Take one because of an incident, for as long as one may stand; once it stands, a second time changes nothing.

        :param subject: a model, a person, or None for the whole deployment.
        :raises StrongroomError: the keeper refuses it, or doesn't answer.
        """
        until = longest(kind, self._session.clock.now())
        await self._take(signed(self._session, kind, subject, cause=Cause.INCIDENT, incident=incident, until=until))

    async def one_more_approver(self, person: str, seconds: int) -> None:
        """Ask one approver more of a person because statistics found them unusual.

        :raises StrongroomError: the keeper refuses it, or doesn't answer.
        """
        now, kind = self._session.clock.now(), PrecautionKind.APPROVER
        until = now + min(seconds, APPROVER_SECONDS - MARGIN_SECONDS)
        await self._take(signed(self._session, kind, person, cause=Cause.STATISTICS, incident=None, until=until))

    async def _take(self, envelope: Envelope) -> None:
        try:
            await self._client.call("state", kind=StatementKind.PRECAUTION.value, envelope=envelope.to_json())
        except ConflictError as error:
            if error.reason not in _TAKEN:
                raise
