"""Acting on security events: who is meant, once for each token, and nothing forgotten.

The keeper has the suspension on record before the token is noted as received, and the token is noted before the sender
is answered. Whatever dies in between, the sender sends again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from strongroom.broker.people.directory import Directory
from strongroom.broker.people.event_errors import EventMalformedError, EventReplayedError
from strongroom.broker.people.events import Subject, SubjectName, signals
from strongroom.broker.people.lowering import Lowering
from strongroom.broker.people.matching import candidates, fold
from strongroom.broker.people.ports import RecordKeys, RecordStore
from strongroom.broker.people.records import Lookup, LookupName, Record, RecordKind
from strongroom.broker.people.signed_events import SKEW, EventToken
from strongroom.core.clock import Clock, Instant
from strongroom.core.errors import MalformedError
from strongroom.core.ids import PersonId

_EVENT: Final = b"strongroom security event v1\x00"
_log = structlog.get_logger("strongroom.broker.people")


class Verifier(Protocol):
    """Verifies a token."""

    def verify(self, token: bytes, now: Instant) -> EventToken:
        """Return the verified token.

        :raises EventRefusedError: it isn't to be acted upon.
        """
        ...


class EventReceiver:
    """Takes tokens, one at a time."""

    def __init__(
        self,
        verifier: Verifier,
        directory: Directory,
        lowering: Lowering,
        *,
        store: RecordStore,
        keys: RecordKeys,
        clock: Clock,
    ) -> None:
        self._verifier = verifier
        self._directory = directory
        self._lowering = lowering
        self._store = store
        self._keys = keys
        self._clock = clock
        self._taking = asyncio.Lock()

    async def take(self, token: bytes) -> None:
        """Carry out what a token says; returns when its sender may forget it.

        The same token again is answered alike and does nothing, as RFC 8935 section 2 asks: its sender may have missed
        the answer.

        :raises EventRefusedError: it isn't acted upon.
        :raises StrongroomError: it couldn't be carried out now: it is to be sent again.
        """
        now = self._clock.now()
        verified = self._verifier.verify(token, now)
        issuer = verified.transmitter.issuer
        name = self._keys.lookup(_EVENT + issuer.encode() + b"\x00" + verified.jti.encode("utf-8", "surrogatepass"))
        digest = self._keys.lookup(_EVENT + token)
        async with self._taking:
            before = await asyncio.to_thread(self._store.seen, name)
            if before == digest:
                return
            if before is not None:
                raise EventReplayedError("another token was received under this `jti`")
            await self._act(verified)
            # Older than this the time alone refuses it.
            until = verified.issued + verified.transmitter.max_age + SKEW
            await asyncio.to_thread(lambda: self._store.note(name, digest, until=until, now=now))

    async def _act(self, token: EventToken) -> None:
        try:
            found = signals(token.claims)
        except MalformedError as error:
            raise EventMalformedError(error.message) from None
        for signal in found:
            if signal.kind not in token.transmitter.events:
                _log.info("event set aside", kind=signal.kind.value)
                continue
            usable = [subject for subject in signal.subjects if _may_name(token, subject)]
            persons = await asyncio.to_thread(self._persons, usable)
            names = [name for subject in usable for name in _names(subject)]
            await self._lowering.lower(persons, signal.cause, source=signal.kind.value, names=names)

    def _persons(self, subjects: Sequence[Subject]) -> Sequence[PersonId]:
        """Return everybody whom the directory's users stand for that the subject's names fit."""
        found = [person for subject in subjects for record in self._records(subject) for person in record.persons]
        return tuple(dict.fromkeys(found))

    def _records(self, subject: Subject) -> list[Record]:
        wanted = [
            Lookup(name, fold(subject.value) if folded else subject.value) for name, folded in _LOOKUPS[subject.name]
        ]
        found = [record for lookup in wanted for record in self._directory.find(RecordKind.USER, lookup)]
        if subject.name is SubjectName.RECORD:
            record = self._directory.get(RecordKind.USER, subject.value)
            found.extend([record] if record else [])
        return found


_LOOKUPS: Final = {
    SubjectName.EMAIL: ((LookupName.EMAIL, True), (LookupName.USER_NAME, True)),
    SubjectName.ISSUED: ((LookupName.EXTERNAL_ID, False), (LookupName.USER_NAME, True)),
    SubjectName.EXTERNAL_ID: ((LookupName.EXTERNAL_ID, False),),
    SubjectName.RECORD: (),
}


def _may_name(token: EventToken, subject: Subject) -> bool:
    allowed = (None, token.transmitter.issuer, *token.transmitter.subject_issuers)
    return subject.issuer in allowed


def _names(subject: Subject) -> tuple[PersonId, ...]:
    if subject.name is SubjectName.EMAIL:
        return candidates(person=None, user_name=subject.value)
    return candidates(person=None, external_id=subject.value)
