"""The JSON bodies of the API. Unknown members are refused; what is inside an envelope is the keeper's to judge."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from strongroom.broker.ports import RequestState
from strongroom.core.canonical import Json
from strongroom.core.envelope import MAX_PAYLOAD, MAX_SIGNATURES, Envelope
from strongroom.core.fields import Fields

Base64 = Annotated[str, Field(description="base64, RFC 4648 section 4", max_length=174_768)]
MAX_PLATFORM: Final = 96
"""A platform's id is its kind and 64 hex characters."""
EvidenceText = Annotated[str, Field(description="base64, RFC 4648 section 4", max_length=524_288)]
DigestText = Annotated[str, Field(description="`sha256:` and 64 hex characters", max_length=71)]
InstantText = Annotated[str, Field(description="RFC 3339, UTC, whole seconds")]


class Body(BaseModel):
    """A body: strict types, no unknown members."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SignatureBody(Body):
    """One signature of an envelope."""

    keyid: str = Field(max_length=64)
    sig: str = Field(max_length=16384)


class EnvelopeBody(Body):
    """A signed object: DSSE v1, in its JSON form."""

    payloadType: str = Field(max_length=256)  # noqa: N815 - DSSE's own name
    payload: str = Field(max_length=(MAX_PAYLOAD + 2) // 3 * 4)
    signatures: list[SignatureBody] = Field(max_length=MAX_SIGNATURES)

    def envelope(self) -> Envelope:
        """Return the envelope.

        :raises MalformedError: its texts aren't base64.
        """
        with Fields(self.model_dump(), "envelope") as fields:
            return Envelope.read(fields)


class EnvelopeIn(Body):
    """A signed object being posted."""

    envelope: EnvelopeBody


class RequestIn(Body):
    """A request being submitted."""

    request: EnvelopeBody


class SealIn(Body):
    """The publisher's recipient key."""

    recipient_key: Base64


class ManifestIn(Body):
    """A manifest being registered, and the ``seal`` request under which its data key was made."""

    manifest: EnvelopeBody
    request: DigestText


class EnrolmentIn(Body):
    """What a platform hands in to be enrolled."""

    enrolment: Base64


class EnrolmentAnswerIn(Body):
    """The secret that the platform's TPM recovered."""

    answer: Base64


class ChipIn(Body):
    """The kind of evidence by which a chip is to be enrolled."""

    kind: str = Field(max_length=32)


class ChipEvidenceIn(Body):
    """A chip's evidence, in its kind's own encoding."""

    evidence: EvidenceText


class ChallengeIn(Body):
    """The platform that wants to answer a challenge."""

    platform: str = Field(max_length=MAX_PLATFORM)


class ReleaseIn(Body):
    """Evidence for a challenge."""

    challenge: str = Field(max_length=64)
    platform: str = Field(max_length=MAX_PLATFORM)
    evidence: EvidenceText


class CollateralIn(Body):
    """The next part of a bundle: 128 KiB at most. ``bundle`` and ``size`` are those of the whole file."""

    bundle: DigestText
    size: int = Field(ge=1, le=2**25)
    offset: int = Field(ge=0, le=2**25)
    part: Base64


class CollateralQuery(BaseModel):
    """Which items."""

    model_config = ConfigDict(extra="forbid")
    skip: int = Field(0, ge=0, le=4096)
    count: int = Field(512, ge=1, le=512)


class ProofIn(Body):
    """New evidence for a challenge."""

    challenge: str = Field(max_length=64)
    evidence: EvidenceText


class LeaseIn(Body):
    """What an agent asks to have renewed; with new evidence when that is due."""

    use: int = Field(ge=1, le=1_000_000)
    recipient: DigestText
    serial: int = Field(ge=1, lt=2**53)
    nonce: Base64
    proof: ProofIn | None = None


class WaitQuery(BaseModel):
    """How many seconds to wait for an end."""

    model_config = ConfigDict(extra="forbid")
    wait: int = Field(0, ge=0, le=25)


class ListQuery(BaseModel):
    """Which requests, and how many."""

    model_config = ConfigDict(extra="forbid")
    state: RequestState = RequestState.OPEN
    limit: int = Field(50, ge=1, le=200)
    cursor: str = Field("", max_length=96)


class PageQuery(BaseModel):
    """Which page."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(50, ge=1, le=200)
    cursor: str = Field("", max_length=96)


class EntriesQuery(BaseModel):
    """Which entries of the log."""

    model_config = ConfigDict(extra="forbid")
    start: int = Field(0, ge=0, lt=2**53)
    count: int = Field(64, ge=1, le=256)


class InclusionQuery(BaseModel):
    """Which entry, in the tree of which size."""

    model_config = ConfigDict(extra="forbid")
    index: int = Field(ge=0, lt=2**53)
    size: int = Field(ge=1, lt=2**53)


class ConsistencyQuery(BaseModel):
    """Which two sizes."""

    model_config = ConfigDict(extra="forbid")
    old: int = Field(ge=1, lt=2**53)
    new: int = Field(ge=1, lt=2**53)


class NoticesQuery(BaseModel):
    """Notices of entries after which one, how long to wait for the first, and about which request."""

    model_config = ConfigDict(extra="forbid")
    after: int | None = Field(None, ge=0, lt=2**53)
    wait: int = Field(0, ge=0, le=25, description="seconds")
    request: str = Field("", max_length=71)


class DecisionsQuery(BaseModel):
    """How many kept decisions, and how many of the newest to leave out: who has them already asks for older ones."""

    model_config = ConfigDict(extra="forbid")
    count: int = Field(100, ge=1, le=500)
    skip: int = Field(0, ge=0, le=10_000)


class Answer(BaseModel):
    """An answer's JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Recorded(Answer):
    """Where the record stands in the log, and the signed checkpoint that covers it."""

    index: int
    checkpoint: str


class AdoptedAnswer(Answer):
    """Where the adoption, or the proposal, stands in the log; null when it was recorded before.

    ``effective`` is when a document that must wait may come into force; null when it is in force.
    """

    index: int | None
    effective: InstantText | None


class EnvelopeAnswer(Answer):
    """A signed object."""

    envelope: EnvelopeBody


class PersonShown(Answer):
    """Who somebody is today. Findings and references aren't shown to anybody."""

    person: str
    kind: str
    unit: str
    roles: list[str]
    active: bool
    suspended: bool
    tier: int
    vetted_until: InstantText | None
    serial: int
    hardware_keys: int


class CapShown(Answer):
    """A class of access: how many people hold live grants of it, and how many may at SL3 and above."""

    access: str
    people: int
    cap: int


class PeopleAnswer(Answer):
    """Everybody of the roster in force, and the caps."""

    people: list[PersonShown]
    caps: list[CapShown]


class GrantShown(Answer):
    """A grant. It is judged again at each use, whatever stands here."""

    grant: DigestText
    requester: str
    model: str
    access: str
    issued: InstantText
    expires: InstantText
    uses: int
    last_used: InstantText | None
    live: bool


class GrantsAnswer(Answer):
    """Grants, newest first."""

    grants: list[GrantShown]


class DecisionsAnswer(Answer):
    """Kept decisions, canonical JSON in base64; the log holds the digest of each."""

    decisions: list[str]


class SubmittedAnswer(Recorded):
    """A recorded request."""

    request: DigestText


class RequestShown(Answer):
    """A request in a list. Counts are of stored rows: the keeper alone says what they are worth."""

    digest: DigestText
    action: str
    model: str
    requester: str
    created: InstantText
    expires: InstantText | None
    approvals: int
    denials: int


class RequestsAnswer(Answer):
    """A page of requests, newest first; ``next`` is the cursor of the following page."""

    requests: list[RequestShown]
    next: str | None


class RequestAnswer(Answer):
    """A request with everything said about it."""

    request: EnvelopeBody
    approvals: list[EnvelopeBody]
    denials: list[EnvelopeBody]


class CheckShown(Answer):
    """One numbered step as the keeper carried it out."""

    step: str
    name: str
    passed: bool
    found: str
    reason: str
    remedy: str


class OtherRefusal(Answer):
    """A further reason for a refusal."""

    reason: str
    remedy: str


class HeldGrant(Answer):
    """A grant: when it was issued, on whose approvals, and what is left of it."""

    issued: InstantText
    approvers: list[str]
    access: str
    expires: InstantText
    uses: int
    used: int
    ended: bool


class ExplanationAnswer(Answer):
    """How the keeper would judge the request now; ``grant`` is null before one was issued."""

    allowed: bool
    checks: list[CheckShown]
    others: list[OtherRefusal]
    grant: HeldGrant | None


class DecisionAnswer(Answer):
    """A decision as it was recorded. ``record`` are the bytes whose digest the log entry names, in base64."""

    allowed: bool
    checks: list[CheckShown]
    others: list[OtherRefusal]
    record: str


class DeliveryAnswer(Answer):
    """The signed delivery that carries a data key, encrypted to its recipient."""

    delivery: EnvelopeBody


class ReleaseAnswer(DeliveryAnswer):
    """The delivery, and the signed attestation result, which may be shown to anybody."""

    result: str


class AttestedAnswer(Answer):
    """What a release was proved by: the evidence, what it commits to, and the signed result."""

    attested: dict[str, Any]


class LeaseAnswer(Answer):
    """The signed lease, good for one asking."""

    lease: EnvelopeBody


class LeaseEndAnswer(Answer):
    """Why a lease ended; null while it hasn't."""

    ended: str | None


class ManifestAnswer(Answer):
    """A registered manifest."""

    manifest: EnvelopeBody


class EnrolmentAnswer(Answer):
    """The credential that only the platform's TPM opens."""

    session: str
    credential_blob: str
    encrypted_secret: str
    platform: str
    isolation: str


class ChipAnswer(Answer):
    """The challenge that an enrolling chip's evidence must answer."""

    session: str
    nonce: str
    expires: InstantText


class PlatformAnswer(Answer):
    """The keeper's signed record of an enrolled platform."""

    platform: EnvelopeBody


class PlatformShown(Answer):
    """An enrolled platform in a list."""

    platform: str
    record: EnvelopeBody


class PlatformsAnswer(Answer):
    """A page of platforms."""

    platforms: list[PlatformShown]
    next: str | None


class CollateralItemShown(Answer):
    """An item of collateral; ``maker`` is null where no pinned root vouches for it."""

    kind: str
    name: str
    maker: str | None
    issued: InstantText
    ends: InstantText
    size: int
    digest: str


class CollateralAnswer(Answer):
    """A page of the collateral in force. ``lost``: the log names a bundle that the keeper doesn't have any more."""

    digest: str
    lost: bool
    count: int
    items: list[CollateralItemShown]


class ImportedAnswer(Answer):
    """What came of a whole bundle; ``index`` is null when all of it was there before."""

    index: int | None
    digest: str
    items: int
    added: int
    replaced: int


class PartAnswer(Answer):
    """How many bytes of the bundle are there; with the last part, what came of it."""

    received: int
    imported: ImportedAnswer | None


class ChallengeAnswer(Answer):
    """A challenge."""

    challenge: str
    nonce: str
    expires: InstantText


class AdoptedShown(Answer):
    """A model's current version, as the keeper's ledger has it."""

    version: int
    manifest: DigestText
    data_key: str
    frozen: bool


class ChangeShown(Answer):
    """A document that the root quorum signed and that waits; any approver may stop it."""

    kind: str
    epoch: int
    document: DigestText
    effective: InstantText


class LogState(Answer):
    """Size and root of the log as far as the keeper knows it to be durable."""

    size: int
    root: str


class StateAnswer(Answer):
    """The keeper's status, the documents in force, and the newest signed checkpoint."""

    locked: bool
    cause: str
    genesis: DigestText
    suspended: list[str]
    waiting: list[ChangeShown]
    models: dict[str, AdoptedShown]
    frozen: list[str]
    log: LogState
    latest: InstantText
    documents: dict[str, EnvelopeBody]
    checkpoint: str


class GenesisAnswer(Answer):
    """The genesis. Compare its digest with the one you pinned."""

    v: Literal[1]
    deployment: str
    created: InstantText
    root_keys: list[str]
    root_threshold: int
    keeper_key: str
    log_origin: str
    log_key: str


class CheckpointAnswer(Answer):
    """The newest signed checkpoint (C2SP signed note)."""

    size: int
    checkpoint: str


class EntriesAnswer(Answer):
    """Entries of the log from ``start`` on."""

    start: int
    entries: list[str]


class InclusionAnswer(Answer):
    """A leaf hash and its audit path, leaf to root."""

    leaf: str
    proof: list[str]


class ConsistencyAnswer(Answer):
    """A consistency proof."""

    proof: list[str]


class NoticeShown(Answer):
    """A notice: that an entry is in the log. What it says of a request is the log's, to choose from, not to sign by."""

    kind: str
    index: int
    at: InstantText
    priority: Literal["normal", "page"]
    request: DigestText | None
    action: str | None
    model: str | None
    requester: str | None
    text: str


class NoticesAnswer(Answer):
    """Notices in the order of the log; ``after`` is what to ask with next."""

    notices: list[NoticeShown]
    after: int


class HealthAnswer(Answer):
    """What the process says of itself."""

    status: str


def binary(text: str, name: str, *, max_length: int) -> bytes:
    """Decode a base64 member.

    :raises MalformedError: not base64, or too long.
    """
    value: Json = {name: text}
    with Fields(value, "body") as fields:
        return fields.binary(name, max_length=max_length)
