"""What the broker told, parsed and typed. None of it is believed for that alone."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.access.policy import MAX_APPROVALS
from strongroom.attestation.bundle.held import Held
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, PersonId, PlatformId, model_id, person_id


def signed_object(fields: Fields, name: str) -> Envelope:
    """Read the member ``name``: a signed object, whose signatures nobody looked at yet."""
    with fields.child(name) as child:
        return Envelope.read(child)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Where a record stands in the log, and a signed checkpoint that covers it."""

    index: int
    checkpoint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What became of a document: recorded where (None if before), and until when it waits (None if in force)."""

    index: int | None
    effective: Instant | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantShown:
    """A grant, as the keeper says."""

    grant: Digest
    requester: PersonId
    model: ModelId
    access: str
    issued: Instant
    expires: Instant
    uses: int
    last_used: Instant | None
    live: bool

    @classmethod
    def read(cls, fields: Fields) -> GrantShown:
        """Read the JSON form."""
        return cls(
            grant=fields.digest("grant"),
            requester=fields.parsed("requester", person_id),
            model=fields.parsed("model", model_id),
            access=fields.text("access", max_length=16),
            issued=fields.instant("issued"),
            expires=fields.instant("expires"),
            uses=fields.integer("uses"),
            last_used=fields.instant("last_used") if fields.optional("last_used") else None,
            live=fields.boolean("live"),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form, times written out."""
        return {
            "grant": str(self.grant),
            "requester": self.requester,
            "model": self.model,
            "access": self.access,
            "issued": format_instant(self.issued),
            "expires": format_instant(self.expires),
            "uses": self.uses,
            "last_used": None if self.last_used is None else format_instant(self.last_used),
            "live": self.live,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRequest:
    """A request in a list: the server's summary, to choose from, never to sign by."""

    digest: Digest
    action: str
    model: str
    requester: str
    created: Instant
    expires: Instant | None
    approvals: int
    denials: int

    @classmethod
    def read(cls, fields: Fields) -> ListedRequest:
        """Read the JSON form."""
        return cls(
            digest=fields.digest("digest"),
            action=fields.text("action", max_length=64),
            model=fields.text("model", max_length=64),
            requester=fields.text("requester", max_length=64),
            created=fields.instant("created"),
            expires=fields.instant("expires") if fields.optional("expires") else None,
            approvals=fields.integer("approvals"),
            denials=fields.integer("denials"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPage:
    """Some requests of a list, and where the next ones begin; empty at the end."""

    requests: tuple[ListedRequest, ...]
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFile:
    """A request's envelope and everything that was said about it."""

    request: Envelope
    approvals: tuple[Envelope, ...]
    denials: tuple[Envelope, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckShown:
    """One numbered step of the keeper's judgement."""

    step: str
    name: str
    passed: bool
    found: str
    reason: str
    remedy: str

    @classmethod
    def read(cls, fields: Fields) -> CheckShown:
        """Read the JSON form."""
        return cls(
            step=fields.text("step", max_length=8),
            name=fields.text("name", max_length=64),
            passed=fields.boolean("passed"),
            found=fields.text("found", max_length=4096),
            reason=fields.text("reason"),
            remedy=fields.text("remedy", max_length=4096),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantTold:
    """A grant as the keeper says it through a server that isn't believed: good to know, never to sign by."""

    issued: Instant
    approvers: tuple[str, ...]
    access: str
    expires: Instant
    uses: int
    used: int
    ended: bool

    @classmethod
    def read(cls, fields: Fields) -> GrantTold:
        """Read the JSON form."""
        return cls(
            issued=fields.instant("issued"),
            approvers=fields.texts("approvers", most=MAX_APPROVALS, max_length=64),
            access=fields.text("access", max_length=16),
            expires=fields.instant("expires"),
            uses=fields.integer("uses"),
            used=fields.integer("used"),
            ended=fields.boolean("ended"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How the keeper judges a request now."""

    allowed: bool
    checks: tuple[CheckShown, ...]
    others: tuple[tuple[str, str], ...]
    """Further reasons of a refusal: code, and what would pass."""
    grant: GrantTold | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeTold:
    """A challenge to an enclave."""

    challenge: str
    nonce: bytes
    expires: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentTold:
    """A credential that only the platform's TPM opens."""

    session: str
    credential_blob: bytes
    encrypted_secret: bytes
    platform: PlatformId
    isolation: str


@dataclass(frozen=True, slots=True)
class ReleaseTold:
    """A signed delivery, and the attestation result as a token (EAR) that may be shown to anybody."""

    delivery: Envelope
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OdometerTold:
    """How far a model's odometer stands, as the server says; the log has an entry about it."""

    total: int
    recent: int
    run: int
    index: int | None
    resumed: int | None
    frozen: bool
    policy: Digest | None

    @classmethod
    def read(cls, fields: Fields) -> OdometerTold:
        """Read the JSON form."""
        return cls(
            total=fields.integer("total"),
            recent=fields.integer("recent"),
            run=fields.integer("run"),
            index=fields.integer("index") if fields.optional("index") else None,
            resumed=fields.integer("resumed") if fields.optional("resumed") else None,
            frozen=fields.boolean("frozen"),
            policy=fields.digest("policy") if fields.optional("policy") else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipTold:
    """The challenge that an enrolling chip's evidence must answer."""

    session: str
    nonce: bytes
    expires: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeTold:
    """That an entry is in the log, as the server tells it: a reason to look, never something to sign by."""

    kind: str
    index: int
    at: Instant
    priority: str
    request: Digest | None
    action: str
    model: str
    requester: str
    """These three are empty where there is no request."""
    text: str

    @classmethod
    def read(cls, fields: Fields) -> NoticeTold:
        """Read the JSON form."""

        def about(name: str) -> str:
            return fields.text(name, max_length=96) if fields.optional(name) else ""

        return cls(
            kind=fields.text("kind", max_length=64),
            index=fields.integer("index"),
            at=fields.instant("at"),
            priority=fields.text("priority", max_length=16),
            request=fields.digest("request") if fields.optional("request") else None,
            action=about("action"),
            model=about("model"),
            requester=about("requester"),
            text=fields.text("text", max_length=512),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticePage:
    """Notices in the order of the log, and the place to ask from next."""

    notices: tuple[NoticeTold, ...]
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralShown:
    """The collateral that the keeper holds, as the server says."""

    digest: Digest
    lost: bool
    """The log names a bundle that the keeper doesn't have any more: it has to be imported again."""
    items: tuple[Held, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralImported:
    """What came of a bundle that was handed in."""

    index: int | None
    """Where its record stands; None when everything in it was held before."""
    digest: Digest
    items: int
    added: int
    replaced: int

    @classmethod
    def read(cls, fields: Fields) -> CollateralImported:
        """Read the JSON form."""
        return cls(
            index=fields.integer("index") if fields.optional("index") else None,
            digest=fields.digest("digest"),
            items=fields.integer("items"),
            added=fields.integer("added"),
            replaced=fields.integer("replaced"),
        )
