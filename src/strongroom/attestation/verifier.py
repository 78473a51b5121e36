"""The port that every verifier fills: parse without trust, then genuine, then the claims that a policy asks for.

A verifier is pure. ``parse`` is total and bounded, ``genuine`` gets a typed binding and an instant and reaches for no
network, file or clock, and ``judge`` compares what is genuine with a policy whose every field is mandatory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from strongroom.attestation.bindings import Bound, ItemBinding, Slot
from strongroom.attestation.claims import Claim
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant
from strongroom.core.fields import Fields

Statement = TypeVar("Statement")
KindPolicy = TypeVar("KindPolicy", bound="Policy")


class Policy(Protocol):
    """What is wanted of one kind of evidence. Typed data: every field is mandatory, nothing has a default."""

    @classmethod
    def read(cls, fields: Fields) -> Any:
        """Read the policy's object.

        :raises MalformedError: a field is missing, unknown or out of its range.
        """
        ...

    def to_json(self) -> dict[str, Json]:
        """Return the object that :meth:`read` reads."""
        ...

    @classmethod
    def strictest(cls) -> Any:
        """Return the tightest policy that current hardware and firmware can meet: what a new policy starts from."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Genuine(Generic[Statement]):
    """What genuine evidence states. It isn't wanted yet. There is none without a :class:`Bound`."""

    kind: EvidenceKind
    bound: Bound
    statement: Statement
    """The parsed, now believed, contents in the technology's own words."""
    measurements: Mapping[str, str]
    """What reference values are compared with: name to lower-case hex, or to text for versions."""
    hardware_id: bytes
    """Which chip, module or device; what allow-lists and platform records name. Empty where the maker masks it."""
    isolation: IsolationClass
    """The strongest class that evidence of this kind, by this product under this trust anchor, can support."""
    endorsed_until: Instant
    """The earliest end of anything that this verdict rests on: certificates, revocation lists, collateral."""
    revocation_checked: bool
    """Every certificate that can be revoked was looked up in a list or answer that is current at the instant."""
    reset_count: int | None = None
    """Power cycles of a TPM since its birth; None for other kinds."""
    details: Mapping[str, str] = field(default_factory=dict)
    """What else a person wants to read: product, firmware versions, TCB level. No decision reads it."""


class Verifier(Protocol[Statement, KindPolicy]):
    """One technology's verifier."""

    @property
    def kind(self) -> EvidenceKind:
        """What it judges."""
        ...

    @property
    def max_bytes(self) -> int:
        """The longest body that is read."""
        ...

    @property
    def slots(self) -> frozenset[Slot]:
        """Where this evidence commits to the relying party's bytes."""
        ...

    @property
    def reference_names(self) -> frozenset[str]:
        """Measurements that an image must list to be wanted on this kind."""
        ...

    @property
    def optional_names(self) -> frozenset[str]:
        """Measurements that an image may list besides; they are compared if it does."""
        ...

    @property
    def policy(self) -> type[KindPolicy]:
        """The class of this kind's rules."""
        ...

    def parse(self, body: bytes) -> Statement:
        """Read a body without believing it. Total: returns or raises, in memory and time bounded by ``max_bytes``.

        :raises MalformedError: cut, too long, contradictory, left-over bytes.
        """
        ...

    def genuine(
        self, statement: Statement, binding: ItemBinding, endorsements: Endorsements, at: Instant
    ) -> Genuine[Statement]:
        """Check signature, chain to a pinned anchor, revocation and binding as of ``at``.

        :raises NotGenuineError: a step fails; each has its own subclass or code, with what was seen and wanted.
        :raises MalformedError: a nested structure can't be read.
        """
        ...

    def judge(self, proven: Genuine[Statement], policy: KindPolicy) -> tuple[Claim, ...]:
        """Compare with the policy, one claim for each field; debug modes are refused whatever the policy says."""
        ...
