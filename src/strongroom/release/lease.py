"""Step 7, second half: a release is a lease, and this is its renewal: what the keeper signs and what an agent accepts.

Time inside the enclave is its agent's own clock, which only runs forward. A lease holds for its period from the moment
when the agent *asked* for it: whoever moves a wall clock, or delays the answer, gains nothing. ``issued`` informs only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, payload_type, verify
from strongroom.core.errors import DeniedError, MalformedError, TamperedError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PlatformId, platform_id
from strongroom.release.dossier import MAX_EVIDENCE

LEASE_TYPE: Final = payload_type("lease.v1")
LEASE_SECONDS: Final = 60
LEAST_SECONDS: Final = 5
MOST_SECONDS: Final = 3600
NONCE_BYTES: Final = 32
MAX_USE: Final = 1_000_000
MAX_LEASE: Final = 4096


class Sampling(StrEnum):
    """How many of a model's answers a second engine replays."""

    POLICY = "policy"
    """The share that its egress policy says."""
    WHOLE = "whole"
    """Every one: a precaution asks for that."""


class LeaseMismatchError(TamperedError):
    """A genuine lease, but not the one that was asked for: another enclave's, or an old one that is played again."""

    code = "lease-mismatch"


class LeaseEndedError(DeniedError):
    """The release doesn't hold any more. ``reason`` says what fell."""

    code = "lease-ended"

    def __init__(self, reason: str) -> None:
        said = reason.replace("-", " ")
        super().__init__(f"the lease ended: {said}", remedy="make a new request once that is mended", reason=reason)


class ReattestationDueError(DeniedError):
    """What the enclave proved when it got its key would be too old before the next lease ends. New evidence is due."""

    code = "reattestation-due"


class PlatformRestartedError(DeniedError):
    """The machine was started anew since its release: what was measured then is gone."""

    code = "platform-restarted"


class LeaseLostError(DeniedError):
    """No good lease came in time. Nobody said that the release fell; nobody said that it holds either."""

    code = "lease-lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseAsk:
    """What an agent asks to have renewed. ``serial`` numbers its askings from 1; the nonce is fresh for each."""

    use: int
    recipient: Digest
    serial: int
    nonce: bytes

    @classmethod
    def read(cls, fields: Fields) -> LeaseAsk:
        """Read the JSON form.

        :raises MalformedError: another form, or a nonce of another length.
        """
        ask = cls(
            use=fields.integer("use", least=1, most=MAX_USE),
            recipient=fields.digest("recipient"),
            serial=fields.integer("serial", least=1),
            nonce=fields.binary("nonce", max_length=NONCE_BYTES),
        )
        if len(ask.nonce) != NONCE_BYTES:
            raise MalformedError(f"`{fields.where}.nonce` must have {NONCE_BYTES} bytes")
        return ask

    def to_json(self) -> dict[str, str | int]:
        """Return the JSON form."""
        return {
            "use": self.use,
            "recipient": str(self.recipient),
            "serial": self.serial,
            "nonce": to_base64(self.nonce),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseProof:
    """New evidence with an asking: for a challenge of the keeper's, and of the same recipient key."""

    challenge: str
    evidence: bytes

    @classmethod
    def read(cls, fields: Fields) -> LeaseProof:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        return cls(
            challenge=fields.text("challenge", max_length=64),
            evidence=fields.binary("evidence", max_length=MAX_EVIDENCE),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {"challenge": self.challenge, "evidence": to_base64(self.evidence)}


def evidence_due(attested: Instant | None, *, now: Instant, period: int, most: int) -> bool:
    """Tell whether a lease of ``period`` seconds may be given only for new evidence.

    A lease must end before what it rests on is older than ``most`` seconds; whoever was never seen has proved nothing.
    """
    return attested is None or now + period > attested + most


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The keeper's word that a release still holds: for one use of one request, one recipient key, one asking."""

    genesis: Digest
    request: Digest
    platform: PlatformId
    ask: LeaseAsk
    issued: Instant
    period: int
    """Seconds, from when the agent asked."""
    sampling: Sampling
    """For the gateway in front of the enclave: whoever takes this word away takes the lease with it."""

    @classmethod
    def parse(cls, payload: bytes) -> Lease:
        """Read canonical bytes.

        :raises MalformedError: another form, or a period out of bounds.
        """
        with Fields(decode(payload, max_bytes=MAX_LEASE), "lease") as fields:
            fields.constant("v", 1)
            return cls(
                genesis=fields.digest("genesis"),
                request=fields.digest("request"),
                platform=fields.parsed("platform", platform_id),
                ask=LeaseAsk.read(fields),
                issued=fields.instant("issued"),
                period=fields.integer("period", least=LEAST_SECONDS, most=MOST_SECONDS),
                sampling=fields.parsed("sampling", Sampling),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that the keeper signs."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "request": str(self.request),
                "platform": self.platform,
                **self.ask.to_json(),
                "issued": format_instant(self.issued),
                "period": self.period,
                "sampling": self.sampling.value,
            }
        )


def accept_lease(
    envelope: Envelope, genesis: Genesis, *, request: Digest, platform: PlatformId, ask: LeaseAsk
) -> Lease:
    """Check a lease against the measured genesis and against what was asked.

    :param ask: the newest asking. Its nonce is what refuses a lease from before: the launcher may keep old ones.
    :raises SignatureError: not signed by this deployment's keeper.
    :raises MalformedError: not a lease.
    :raises LeaseMismatchError: for another deployment, request, platform, use or recipient, or an older asking.
    """
    verify(envelope, LEASE_TYPE, [genesis.keeper_key], threshold=1)
    lease = Lease.parse(envelope.payload)
    wanted: list[tuple[str, object, object]] = [
        ("deployment", lease.genesis, genesis.digest),
        ("request", lease.request, request),
        ("platform", lease.platform, platform),
        ("use", lease.ask.use, ask.use),
        ("recipient key", lease.ask.recipient, ask.recipient),
        ("asking", (lease.ask.serial, lease.ask.nonce), (ask.serial, ask.nonce)),
    ]
    for name, seen, expected in wanted:
        if seen != expected:
            raise LeaseMismatchError(f"the keeper's lease is for another {name}")
    return lease
