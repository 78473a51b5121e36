"""What a workspace's agent asks of the keeper, and the two signed answers it accepts: docs/spec/drop-protocol.md. Pure.

Before it opens any weights, the agent has its input's digest recorded; before a byte leaves, it has the drop charged.
Launcher and broker carry asking and answer, and can only withhold them: an answer counts if the keeper of the measured
genesis signed it, for this asking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, payload_type, verify
from strongroom.core.errors import DeniedError, MalformedError, TamperedError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PersonId, model_id, person_id
from strongroom.egress.archive import MAX_ARCHIVE
from strongroom.egress.workspace import MAX_DROP
from strongroom.keys.recipient import parse_public, public_text
from strongroom.release.lease import MAX_USE, NONCE_BYTES

BEGUN_TYPE: Final = payload_type("workspace.v1")
TICKET_TYPE: Final = payload_type("drop-ticket.v1")
REVIEWER: Final = "drop-reviewer"
"""The role whose holders see what leaves a workspace before its requester does."""
MAX_READERS: Final = 16
MAX_TICKET: Final = 65536
_MAX_KEY: Final = 2048


class TicketMismatchError(TamperedError):
    """A genuine answer of the keeper's, but not the one that was asked for."""

    code = "ticket-mismatch"


class WorkspaceRefusedError(DeniedError):
    """The release doesn't allow a workspace, or not this input or drop. ``reason`` says why."""

    code = "workspace-refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageAsk:
    """What shall pass: an archive on its way in, or one on its way out. The nonce is fresh for each asking."""

    use: int
    recipient: Digest
    nonce: bytes
    digest: Digest
    """Of the archive."""
    size: int
    """Its bytes."""

    @classmethod
    def read(cls, fields: Fields) -> PassageAsk:
        """Read the JSON form.

        :raises MalformedError: another form, or a nonce of another length.
        """
        ask = cls(
            use=fields.integer("use", least=1, most=MAX_USE),
            recipient=fields.digest("recipient"),
            nonce=fields.binary("nonce", max_length=NONCE_BYTES),
            digest=fields.digest("digest"),
            size=fields.integer("bytes", least=1, most=MAX_ARCHIVE),
        )
        if len(ask.nonce) != NONCE_BYTES:
            raise MalformedError(f"`{fields.where}.nonce` must have {NONCE_BYTES} bytes")
        return ask

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {
            "use": self.use,
            "recipient": str(self.recipient),
            "nonce": to_base64(self.nonce),
            "digest": str(self.digest),
            "bytes": self.size,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The keeper's word that an input stands in the log: the weights may be opened beside it."""

    genesis: Digest
    request: Digest
    ask: PassageAsk
    log_index: int

    @classmethod
    def parse(cls, payload: bytes) -> Begun:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(payload, max_bytes=MAX_TICKET), "workspace") as fields:
            fields.constant("v", 1)
            return cls(
                genesis=fields.digest("genesis"),
                request=fields.digest("request"),
                ask=PassageAsk.read(fields),
                log_index=fields.integer("log_index"),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that the keeper signs."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "request": str(self.request),
                **self.ask.to_json(),
                "log_index": self.log_index,
            }
        )


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody a drop is encrypted to: an id and the 1,216-byte public key that they had recorded."""

    person: PersonId
    public: bytes

    @classmethod
    def read(cls, fields: Fields) -> Reader:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        return cls(fields.parsed("person", person_id), fields.parsed("key", parse_public, max_length=_MAX_KEY))

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"person": self.person, "key": public_text(self.public)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The keeper's word that a drop is charged and in the log, and to whom it may go.

    :raises MalformedError: (construction) no reviewer, too many, one twice, or the researcher among them.
    """

    genesis: Digest
    request: Digest
    model: ModelId
    ask: PassageAsk
    bits: int
    """What was charged."""
    log_index: int
    reviewers: tuple[Reader, ...]
    researcher: Reader
    """Who asked for the release: a reviewer who accepts encrypts the drop to this key."""

    def __post_init__(self) -> None:
        people = [one.person for one in self.reviewers]
        if not 1 <= len(people) <= MAX_READERS or len(set(people)) != len(people) or self.researcher.person in people:
            raise MalformedError(f"a drop goes to 1 to {MAX_READERS} reviewers, none of them its researcher")
        if self.ask.size > MAX_DROP:
            raise MalformedError(f"a drop has at most {MAX_DROP} bytes")

    @classmethod
    def parse(cls, payload: bytes) -> Ticket:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(payload, max_bytes=MAX_TICKET), "ticket") as fields:
            fields.constant("v", 1)
            with fields.child("researcher") as child:
                researcher = Reader.read(child)
            return cls(
                genesis=fields.digest("genesis"),
                request=fields.digest("request"),
                model=fields.parsed("model", model_id),
                ask=PassageAsk.read(fields),
                bits=fields.integer("bits", least=1),
                log_index=fields.integer("log_index"),
                reviewers=fields.objects("reviewers", Reader.read, most=MAX_READERS),
                researcher=researcher,
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that the keeper signs."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "request": str(self.request),
                "model": self.model,
                **self.ask.to_json(),
                "bits": self.bits,
                "log_index": self.log_index,
                "reviewers": [one.to_json() for one in self.reviewers],
                "researcher": self.researcher.to_json(),
            }
        )


def accept_begun(envelope: Envelope, genesis: Genesis, *, request: Digest, ask: PassageAsk) -> Begun:
    """Check the keeper's word on an input.

    :raises SignatureError: not signed by this deployment's keeper.
    :raises MalformedError: not such a word.
    :raises TicketMismatchError: for another deployment, request or asking.
    """
    verify(envelope, BEGUN_TYPE, [genesis.keeper_key], threshold=1)
    begun = Begun.parse(envelope.payload)
    _same(genesis.digest, request, ask, begun.genesis, begun.request, begun.ask)
    return begun


def accept_ticket(envelope: Envelope, genesis: Genesis, *, request: Digest, ask: PassageAsk) -> Ticket:
    """Check a ticket against the measured genesis and against what was asked.

    :raises SignatureError: not signed by this deployment's keeper.
    :raises MalformedError: not a ticket.
    :raises TicketMismatchError: for another deployment, request, drop or asking: an old one names people who left.
    """
    verify(envelope, TICKET_TYPE, [genesis.keeper_key], threshold=1)
    ticket = Ticket.parse(envelope.payload)
    _same(genesis.digest, request, ask, ticket.genesis, ticket.request, ticket.ask)
    return ticket


def _same(
    genesis: Digest, request: Digest, ask: PassageAsk, seen: Digest, seen_request: Digest, seen_ask: PassageAsk
) -> None:
    if (genesis, request, ask) != (seen, seen_request, seen_ask):
        raise TicketMismatchError("the keeper's answer is for another deployment, request or asking")
