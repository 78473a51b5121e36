"""What only a person can say about a measure: signed, bounded in time, with the documents it rests on by digest.

One person may say that a measure is met where software can't see it. That another measure reaches the same goal, or
that one doesn't apply, two different people say: it takes a measure out of the count. No statement outweighs an
observation that says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.assurance.errors import StatementInvalidError
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, payload_type, verify
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import KeyId, PersonId, person_id
from strongroom.core.signature import PublicKey
from strongroom.framework.ids import MeasureId, measure_id

STATEMENT_TYPE: Final = payload_type("assurance-statement.v1")
ATTESTOR: Final = "attestor"
"""The role of those whose statements count."""
Attestors = Mapping[KeyId, tuple[PersonId, PublicKey]]
"""Their keys, and whose each is."""
MAX_STATEMENT: Final = 64 * 1024
MAX_DOCUMENTS: Final = 32
MAX_TEXT: Final = 1024
LONGEST: Final = 366 * 86400
"""Seconds that a statement may count for: a year."""
MAX_STATEMENTS: Final = 512


class Claim(StrEnum):
    """What a statement says of its measure."""

    MET = "met"
    ALTERNATIVE = "alternative"
    """Something else reaches the same goal (RAND allows for that)."""
    NOT_APPLICABLE = "not-applicable"

    @property
    def signers(self) -> int:
        """How many people have to sign it."""
        return 1 if self is Claim.MET else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document that a statement rests on. It isn't kept here; the digest says which one it was."""

    name: str
    digest: Digest

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"digest": str(self.digest), "name": self.name}

    @classmethod
    def read(cls, f: Fields) -> Document:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        return cls(name=f.text("name"), digest=f.digest("digest"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What one named person says of one measure.

    :ivar text: what is done, in the person's words; for an alternative, what reaches the same goal and why.
    :ivar scope: what it covers: which sites, devices, people.
    """

    genesis: Digest
    measure: MeasureId
    claim: Claim
    person: PersonId
    text: str
    scope: str
    documents: tuple[Document, ...]
    at: Instant
    expires: Instant

    def __post_init__(self) -> None:
        if not 0 < self.expires - self.at <= LONGEST:
            raise MalformedError("a statement counts for at least a second and at most 366 days")
        if not self.text.strip() or not self.scope.strip():
            raise MalformedError("a statement says what is done, and what it covers")

    @classmethod
    def parse(cls, payload: bytes) -> Statement:
        """Read canonical bytes.

        :raises MalformedError: another form, no text, or a life of more than a year.
        """
        with Fields(decode(payload, max_bytes=MAX_STATEMENT), "statement") as f:
            f.constant("v", 1)
            return cls(
                genesis=f.digest("genesis"),
                measure=f.parsed("measure", measure_id),
                claim=f.parsed("claim", Claim),
                person=f.parsed("person", person_id),
                text=f.text("text", max_length=MAX_TEXT),
                scope=f.text("scope", max_length=MAX_TEXT),
                documents=f.objects("documents", Document.read, most=MAX_DOCUMENTS),
                at=f.instant("at"),
                expires=f.instant("expires"),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that are signed."""
        return encode(
            {
                "at": format_instant(self.at),
                "claim": self.claim.value,
                "documents": [document.to_json() for document in self.documents],
                "expires": format_instant(self.expires),
                "genesis": str(self.genesis),
                "measure": self.measure,
                "person": self.person,
                "scope": self.scope,
                "text": self.text,
                "v": 1,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """A statement whose signatures were checked, by whom, and under which name."""

    digest: Digest
    statement: Statement
    signers: tuple[PersonId, ...]

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "claim": self.statement.claim.value,
            "digest": str(self.digest),
            "documents": [document.to_json() for document in self.statement.documents],
            "expires": format_instant(self.statement.expires),
            "measure": self.statement.measure,
            "scope": self.statement.scope,
            "signers": [*self.signers],
            "stated": format_instant(self.statement.at),
            "text": self.statement.text,
        }

    @classmethod
    def read(cls, f: Fields, genesis: Digest) -> Attested:
        """Read the JSON form, as it stands in an assessment of the deployment ``genesis``.

        :raises MalformedError: another form.
        """
        signers = tuple(person_id(text) for text in f.texts("signers", most=16))
        if not signers:
            raise MalformedError(f"`{f.where}.signers` must name somebody")
        return cls(
            digest=f.digest("digest"),
            statement=Statement(
                genesis=genesis,
                measure=f.parsed("measure", measure_id),
                claim=f.parsed("claim", Claim),
                person=signers[0],
                text=f.text("text", max_length=MAX_TEXT),
                scope=f.text("scope", max_length=MAX_TEXT),
                documents=f.objects("documents", Document.read, most=MAX_DOCUMENTS),
                at=f.instant("stated"),
                expires=f.instant("expires"),
            ),
            signers=signers,
        )


def signers_of(envelope: Envelope, kind: str, attestors: Attestors) -> tuple[PersonId, ...]:
    """Return who signed: every signature has to be an attestor's, and to verify.

    :raises SignatureError: a signature doesn't verify, or the envelope holds something else than ``kind``.
    :raises StatementInvalidError: a key is no attestor's.
    """
    signers: list[PersonId] = []
    for signature in envelope.signatures:
        if signature.key_id not in attestors:
            raise StatementInvalidError(
                f"key `{signature.key_id[:32]}` is no attestor's: an active, vetted person with the role `{ATTESTOR}`",
                reason="not-an-attestor",
                remedy="give the person the role in the roster, or have another attestor sign",
            )
        person, key = attestors[signature.key_id]
        verify(Envelope(envelope.kind, envelope.payload, (signature,)), kind, [key], threshold=1)
        signers.append(person)
    return tuple(dict.fromkeys(signers))


def verify_statement(envelope: Envelope, attestors: Attestors, *, genesis: Digest, now: Instant) -> Attested:
    """Check a signed statement.

    :param attestors: the keys of those whose statements count today.
    :raises SignatureError: a signature doesn't verify, or the envelope holds something else.
    :raises MalformedError: another form.
    :raises StatementInvalidError: it is for another deployment, not in force, or too few attestors signed.
    """
    signers = signers_of(envelope, STATEMENT_TYPE, attestors)
    statement = Statement.parse(envelope.payload)
    if statement.genesis != genesis:
        raise StatementInvalidError("the statement is about another deployment", reason="statement-elsewhere")
    if not statement.at <= now < statement.expires:
        raise StatementInvalidError(
            f"the statement on `{statement.measure}` isn't in force",
            reason="statement-expired",
            remedy="sign a new one",
        )
    distinct = tuple(dict.fromkeys((statement.person, *signers)))
    if statement.person not in signers or len(distinct) < statement.claim.signers:
        raise StatementInvalidError(
            f"the claim `{statement.claim.value}` takes {statement.claim.signers} attestors, its author among them",
            reason="statement-signers-missing",
            remedy="have another attestor sign the same file: strongroom assess statement sign",
        )
    return Attested(digest=envelope.digest, statement=statement, signers=distinct)
