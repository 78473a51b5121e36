"""A responder's heartbeat: signed by it, and only while all that it watches with works. Pure.

Whoever wants to steal unseen ends the detector first. Then its heartbeats end, and with them releases and renewals:
what can't be watched isn't let out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from strongroom.access.request import LogHead
from strongroom.core.canonical import decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, payload_type, sign, verify
from strongroom.core.errors import DeniedError
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId, person_id
from strongroom.core.signature import Signer
from strongroom.personnel.roster import Roster
from strongroom.release.ledger import Ledger

HEARTBEAT_TYPE: Final = payload_type("heartbeat.v1")
RESPONDER: Final = "responder"
"""The role whose heartbeats count."""
MAX_HEARTBEAT: Final = 4096


class HeartbeatRefusedError(DeniedError):
    """A heartbeat that doesn't count; ``reason`` says why."""

    code = "heartbeat-refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """That a responder watched at a time, and how far it had read the log."""

    genesis: Digest
    responder: PersonId
    at: Instant
    log: LogHead

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(payload, max_bytes=MAX_HEARTBEAT), "heartbeat") as fields:
            fields.constant("v", 1)
            with fields.child("log") as log:
                head = LogHead(size=log.integer("size", least=1), root=log.digest("root"))
            return cls(
                genesis=fields.digest("genesis"),
                responder=fields.parsed("responder", person_id),
                at=fields.instant("at"),
                log=head,
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "responder": self.responder,
                "at": format_instant(self.at),
                "log": {"size": self.log.size, "root": str(self.log.root)},
            }
        )

    def sign(self, signer: Signer) -> Envelope:
        """Sign it."""
        return sign(HEARTBEAT_TYPE, self.to_bytes(), signer)


def read_heartbeat(envelope: Envelope, *, genesis: Digest, roster: Roster, ledger: Ledger, now: Instant) -> Heartbeat:
    """Return a heartbeat that counts. Its age is told by what it says, not by when it came: replay gains nothing.

    :param now: the keeper's clock; the responder reads the clock of the same machine.
    :raises MalformedError: another form. :raises SignatureError: not the responder's signature.
    :raises UnknownPersonError: the roster has nobody of that name.
    :raises HeartbeatRefusedError: another deployment's; somebody who isn't an active responder; from the future; or
        its log isn't the one that the keeper wrote.
    """
    told = Heartbeat.parse(envelope.payload)
    person = roster.person(told.responder)
    verify(envelope, HEARTBEAT_TYPE, person.keys, threshold=1)
    known = told.log.size <= ledger.size and told.log.root.value == ledger.root_at(told.log.size)
    for wrong, reason, message in (
        (told.genesis != genesis, "other-deployment", "the heartbeat belongs to another deployment"),
        (RESPONDER not in person.roles, "not-a-responder", f"`{person.id}` isn't a responder"),
        (
            not person.active or person.id in ledger.suspended,
            "responder-inactive",
            f"`{person.id}` isn't active",
        ),
        # One that is kept back for later would say that somebody watches then.
        (told.at > now, "heartbeat-from-future", "the heartbeat is from the future"),
        (not known, "log-forked", f"`{person.id}` read another log than this deployment's"),
    ):
        if wrong:
            raise HeartbeatRefusedError(message, reason=reason, remedy="see what the responder says of itself")
    return told
