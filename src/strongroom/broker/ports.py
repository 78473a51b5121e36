"""What the broker leans on: the keeper, the log and the store, as it sees them.

The store is hostile by design: what it returns is bytes to hand on, and is checked by whoever decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from strongroom.audit.protocol import ProvenEntry
from strongroom.audit.succession import Seam
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant
from strongroom.core.fields import Fields


class VoiceKind(StrEnum):
    """What was said about a request. The values are those of ``approvals.kind``."""

    APPROVE = "approve"
    DENY = "deny"


class RequestState(StrEnum):
    """Which requests a list holds."""

    OPEN = "open"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """A stored request. ``closed`` is when a single-use request was carried out, as far as the broker knows."""

    digest: str
    action: str
    model: str
    requester: str
    created: Instant
    envelope: str
    expires: Instant | None = None
    closed: Instant | None = None
    log_index: int | None = None
    checkpoint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSummary:
    """A request as lists show it, with how many voices are stored."""

    row: RequestRow
    approvals: int
    denials: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceRow:
    """A stored approval or denial."""

    request: str
    kind: VoiceKind
    envelope: str
    created: Instant
    log_index: int | None = None
    checkpoint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """A stored manifest."""

    model: str
    version: int
    digest: str
    envelope: str
    log_index: int | None = None
    checkpoint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedRow:
    """A stored wrapped data key; ``body`` is JSON."""

    data_key: str
    model: str
    version: int
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformRow:
    """A stored enrolment record."""

    platform: str
    envelope: str


class KeeperPort(Protocol):
    """The keeper's socket protocol."""

    async def call(self, operation: str, **members: Json) -> Fields:
        """Call an operation and return its answer.

        :raises StrongroomError: what the keeper refused with, or that it can't be reached.
        """
        ...


class LogPort(Protocol):
    """The log, for reading."""

    async def checkpoint(self) -> tuple[int, str]:
        """Return the size and the newest signed checkpoint."""
        ...

    async def seams(self, first: int) -> tuple[Seam, ...]:
        """Return how shards were closed, from shard ``first`` (counted from 1) on, some at a time."""
        ...

    async def read(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return entries from ``start`` on: at most ``count``, fewer where an answer would grow too large."""
        ...

    async def prove_entries(self, places: Sequence[int], size: int) -> tuple[ProvenEntry, ...]:
        """Return the first of these entries of one shard at least, each with its audit path."""
        ...

    async def prove_inclusion(self, index: int, size: int) -> tuple[bytes, tuple[bytes, ...]]:
        """Return a leaf hash and its audit path."""
        ...

    async def prove_consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of ``old`` entries is a prefix of that of ``new``."""
        ...


class StorePort(Protocol):
    """The broker's store. What a ``put`` was given is durable when it returns; a second one replaces the first."""

    async def put_document(self, *, kind: str, epoch: int, digest: str, envelope: str) -> None:
        """Store a document that the keeper adopted."""
        ...

    async def document(self, kind: str, digest: str) -> str | None:
        """Return a document's envelope."""
        ...

    async def put_request(self, row: RequestRow) -> None:
        """Store a request."""
        ...

    async def request(self, digest: str) -> RequestRow | None:
        """Return a request."""
        ...

    async def close_request(self, digest: str, at: Instant) -> None:
        """Note that a single-use request was carried out."""
        ...

    async def requests(
        self, state: RequestState, *, now: Instant, before: tuple[Instant, str] | None, limit: int
    ) -> Sequence[RequestSummary]:
        """Return requests, newest first, those before a place in that order."""
        ...

    async def put_voice(self, row: VoiceRow, instead_of: str | None = None) -> None:
        """Store an approval or denial, once; ``instead_of`` is the envelope of an earlier one whose place it takes."""
        ...

    async def voices(self, request: str) -> Sequence[VoiceRow]:
        """Return what is stored for a request, oldest first."""
        ...

    async def put_platform(self, row: PlatformRow) -> None:
        """Store an enrolment record."""
        ...

    async def platform(self, platform: str) -> PlatformRow | None:
        """Return an enrolment record."""
        ...

    async def platforms(self, *, after: str, limit: int) -> Sequence[PlatformRow]:
        """Return enrolment records in the order of their ids."""
        ...

    async def put_manifest(self, row: ManifestRow) -> None:
        """Store a manifest."""
        ...

    async def manifest(self, model: str, version: int) -> ManifestRow | None:
        """Return a manifest."""
        ...

    async def put_wrapped(self, row: WrappedRow) -> None:
        """Store a wrapped data key."""
        ...

    async def wrapped_rows(self, model: str, *, after: str, limit: int) -> Sequence[WrappedRow]:
        """Return wrapped data keys of a model in the order of their names, those behind ``after``."""
        ...

    async def erase_wrapped(self, model: str) -> None:
        """Erase every wrapped data key of a model whose keys were destroyed."""
        ...

    async def swap_wrapped(self, changes: Sequence[tuple[WrappedRow, str]]) -> int:
        """Replace the bodies of rows that are still as they were read, all at once; returns how many were."""
        ...

    async def wrapped(self, data_key: str) -> WrappedRow | None:
        """Return a wrapped data key by its name."""
        ...

    async def newest_wrapped(self, model: str, version: int | None = None) -> WrappedRow | None:
        """Return the newest wrapped data key of a model, or of one of its versions."""
        ...
