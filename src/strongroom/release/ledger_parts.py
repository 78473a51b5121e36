"""What the ledger is made of: documents, requests, grants, uses, versions and releases, as entries of the log say."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId, PersonId, PlatformId
from strongroom.core.signature import PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A document in force: its epoch and digest."""

    epoch: int
    document: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A registered version of a model."""

    version: int
    manifest: Digest
    data_key: str
    publisher_key: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One recorded use of a grant: its number, where its record stands, and to whom it went."""

    number: int
    index: int
    recipient: Digest
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """For which version a data key was made, under whose request."""

    model: ModelId
    version: int
    request: Digest
    requester: PersonId


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A recorded request: who asked for what, and when it was recorded."""

    requester: PersonId
    action: str
    model: ModelId
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A permission that was issued once a quorum agreed. It is judged again at each use."""

    requester: PersonId
    model: ModelId
    access: str
    """The class of access: what RAND's caps on people count."""
    at: Instant
    expires: Instant
    uses: int
    """How many it was issued for."""
    approvers: tuple[PersonId, ...]
    """On whose word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakGlass:
    """A break-glass opening that waits for its review."""

    request: Digest
    model: ModelId
    at: Instant
    people: frozenset[PersonId]
    """Who asked and who approved: none of them may review it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A document that waits for its time."""

    kind: str
    epoch: int
    at: Instant
    effective: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What one release to an enclave rested on, as it was logged: its lease stands and falls with these."""

    request: Digest
    use: int
    recipient: Digest
    model: ModelId
    platform: PlatformId
    isolation: str
    reset_count: int | None
    """The TPM's, when the evidence was made; None for a platform without one."""
    requester: PersonId
    approvers: tuple[PersonId, ...]
