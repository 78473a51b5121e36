"""What the broker answers: one model for each answer of the HTTP API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from strongroom.broker.bodies import DigestText, EnvelopeBody, InstantText


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


class OdometerAnswer(Answer):
    """How far a model's odometer stands: bits over its whole life, and of the last day.

    ``index`` is where its newest entry stands in the log, ``resumed`` where the one that resumed the model last.
    """

    total: int
    recent: int
    run: int
    index: int | None
    resumed: int | None
    frozen: bool
    policy: DigestText | None


class ReadingAnswer(Answer):
    """The log entry about an odometer, signed by the keeper, and where it stands."""

    index: int
    entry: str


class BreachAnswer(Answer):
    """Where the record of a breach stands; null when the model was frozen before."""

    index: int | None


class AttestedAnswer(Answer):
    """What a release was proved by: the evidence, what it commits to, and the signed result."""

    attested: dict[str, Any]


class LeaseAnswer(Answer):
    """The signed lease, good for one asking."""

    lease: EnvelopeBody


class WordAnswer(Answer):
    """The keeper's signed word on what a workspace asked, good for one asking."""

    word: EnvelopeBody


class DropShown(Answer):
    """A drop: what was charged, and what a reviewer made of it; null before."""

    index: int
    at: InstantText
    request: DigestText
    drop: DigestText
    person: str
    bytes: int
    bits: int
    reviewer: str | None
    outcome: str | None


class DropsAnswer(Answer):
    """A model's drops, newest first."""

    drops: list[DropShown]


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


class PendingShown(Answer):
    """A destruction of a model's keys that was agreed on and waits; a denial, revocation or freeze stops it."""

    request: DigestText
    model: str
    requester: str
    agreed: InstantText
    effective: InstantText
    expires: InstantText


class LogState(Answer):
    """Size and root of the log as far as the keeper knows it to be durable."""

    size: int
    root: str


class PrecautionShown(Answer):
    """A precaution that stands: about whom or what (null for the whole deployment), why, by whom, until when."""

    precaution: DigestText
    kind: str
    subject: str | None
    cause: str
    incident: str | None
    person: str
    taken: InstantText
    until: InstantText | None


class StateAnswer(Answer):
    """The keeper's status, the documents in force, and the newest signed checkpoint."""

    locked: bool
    cause: str
    genesis: DigestText
    suspended: list[str]
    waiting: list[ChangeShown]
    destructions: list[PendingShown]
    destroyed: list[str]
    irrecoverable: list[str]
    closed: list[str]
    lost: list[str]
    precautions: list[PrecautionShown]
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
    log_cosigner: str


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
