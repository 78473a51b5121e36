"""The JSON bodies that come in at the API. Unknown members are refused; envelopes are the keeper's to judge."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from strongroom.audit.protocol import MAX_PROVEN
from strongroom.broker.ports import RequestState
from strongroom.core.canonical import Json
from strongroom.core.envelope import MAX_PAYLOAD, MAX_SIGNATURES, Envelope
from strongroom.core.fields import Fields
from strongroom.release.drop import PassageAsk

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


class EscrowPlanIn(Body):
    """Who shall keep shares of the root key, for the order that names this plan's digest."""

    plan: Base64


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


class BlockBody(Body):
    """How far a governor's run wants to get, and what it has settled, in bits and in tokens since the run began."""

    model: str = Field(max_length=64)
    run: int = Field(ge=1, lt=2**53)
    through: int = Field(ge=0, lt=2**53)
    settled: int = Field(ge=0, lt=2**53)
    tokens: int = Field(ge=0, lt=2**53)
    verified: int = Field(ge=0, lt=2**53)


class OdometerIn(Body):
    """A governor that begins, with the delivery that its release was answered with, and the newest entry it kept."""

    delivery: EnvelopeBody
    seen: Base64 | None = None


class BlockIn(Body):
    """A block that a governor asks for."""

    delivery: EnvelopeBody
    block: BlockBody


class BreachIn(Body):
    """That something came out of a model which nothing explains; ``cause`` is a code."""

    delivery: EnvelopeBody
    cause: str = Field(max_length=64)


class AskBody(Body):
    """An archive that shall pass into a workspace, or out of it."""

    use: int = Field(ge=1, le=1_000_000)
    recipient: DigestText
    nonce: Base64
    digest: DigestText
    bytes: int = Field(ge=1, lt=2**53)

    def passage(self) -> PassageAsk:
        """Return what is asked.

        :raises MalformedError: a member that isn't what it must be.
        """
        with Fields(self.model_dump(), "ask") as fields:
            return PassageAsk.read(fields)


class PassageIn(Body):
    """What a workspace's agent asks for, with the delivery that answered its release."""

    delivery: EnvelopeBody
    ask: AskBody


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


class SeamsQuery(BaseModel):
    """Which shards of the log: from ``first`` on, counted from 1."""

    model_config = ConfigDict(extra="forbid")
    first: int = Field(1, ge=1, le=4096)


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


class TogetherQuery(BaseModel):
    """Which entries of one shard, in the tree of which size."""

    model_config = ConfigDict(extra="forbid")
    at: str = Field(pattern=rf"^[0-9]{{1,15}}(,[0-9]{{1,15}}){{0,{MAX_PROVEN - 1}}}$")
    size: int = Field(ge=1, lt=2**53)

    @property
    def places(self) -> tuple[int, ...]:
        """Where they stand."""
        return tuple(int(one) for one in self.at.split(","))


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
    """How many kept decisions, and before which one: who has newer ones asks for those before the oldest of them."""

    model_config = ConfigDict(extra="forbid")
    count: int = Field(100, ge=1, le=500)
    before: str = Field("", max_length=71)


def binary(text: str, name: str, *, max_length: int) -> bytes:
    """Decode a base64 member.

    :raises MalformedError: not base64, or too long.
    """
    value: Json = {name: text}
    with Fields(value, "body") as fields:
        return fields.binary(name, max_length=max_length)
