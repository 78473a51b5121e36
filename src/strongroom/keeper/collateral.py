"""The keeper's collateral: what makers publish, imported by people, checked before it comes in, and kept.

Whoever hands it in isn't believed: each item must lead to a pinned root of its maker, and none takes the place of a
newer one. The log names the digest of the bundle in force, so that a restart with another file is seen: the keeper then
starts without collateral, which endorses less and never more, and says so.

A bundle may be larger than a frame of the socket. It comes in parts, and nothing is looked at before it is whole and
has the digest that was announced.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final, Protocol

from strongroom.attestation.bundle.age import held_items, makers_of
from strongroom.attestation.bundle.format import MAX_BUNDLE, Bundle
from strongroom.attestation.bundle.held import Held
from strongroom.attestation.bundle.merge import Merged, admit
from strongroom.attestation.trust_anchors import TrustAnchors, Vendor, vendor_anchors
from strongroom.audit.facts import Fact
from strongroom.core.clock import Clock, Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, DeniedError, MalformedError, UsageError
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.keeper.journal import Recorded
from strongroom.keeper.service import Keeper

MAX_PART: Final = 128 * 1024
"""Bytes of one part. In base64, and with what stands around it, it fits into every frame and body on its way."""
MAX_OPEN: Final = 4
"""Uploads that may be under way at once: each takes up to a bundle's size in memory."""
PART_SECONDS: Final = 120
"""How long an upload may wait for its next part before another takes its place."""


class CollateralStore(Protocol):
    """The keeper's copy of the bundle in force."""

    def load(self, digest: Digest) -> bytes | None:
        """Return the bundle with this digest, if it is kept."""
        ...

    def save(self, digest: Digest, data: bytes) -> None:
        """Make a bundle durable, beside the one in force: a crash in between leaves both."""
        ...

    def keep_only(self, digest: Digest) -> None:
        """Remove every bundle but this one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What came of a bundle that is whole. ``recorded`` is None when everything in it was held before."""

    recorded: Recorded | None
    digest: Digest
    items: int
    added: int
    replaced: int


@dataclass(slots=True)
class _Upload:
    bundle: Digest
    size: int
    touched: Instant
    data: bytearray = field(default_factory=bytearray)


class CollateralRegistry:
    """Imports, keeps and shows the collateral; ``keeper.bundle`` is what verifiers are given."""

    def __init__(self, keeper: Keeper, store: CollateralStore, clock: Clock) -> None:
        self._keeper = keeper
        self._store = store
        self._clock = clock
        self._makers: dict[Digest, Vendor] = {}
        self._uploads: dict[PersonId, _Upload] = {}
        self._importing = asyncio.Lock()
        self.lost = False
        """True when the log names a bundle that isn't here: it has to be imported again."""

    def load(self) -> None:
        """Take the bundle that the log names into force; called once, after the log was replayed."""
        named = self._keeper.journal.ledger.collateral
        if named is None:
            return
        data = self._store.load(named)
        # Another file, or none: items are checked whenever they are used, so to go on without them is safe.
        self.lost = True
        if data is not None and Digest.of(data) == named:
            bundle = Bundle.parse(data)
            self._take(bundle, makers_of(bundle, self._anchors(), self._clock.now()))

    @property
    def digest(self) -> Digest:
        """How the bundle in force is named."""
        return self._keeper.bundle.digest

    def held(self, *, skip: int, count: int) -> tuple[Held, ...]:
        """Return a page of what is held."""
        return held_items(self._keeper.bundle, self._makers)[skip : skip + count]

    @property
    def count(self) -> int:
        """How many items are held."""
        return len(self._keeper.bundle.items)

    async def receive(self, by: PersonId, *, bundle: Digest, size: int, offset: int, part: bytes) -> int | Imported:
        """Take the next part of a bundle: returns how many bytes are there, or, with the last, what came of it.

        :raises MalformedError: the bundle is too large, isn't what was announced, or can't be read.
        :raises ConflictError: the part isn't the next one.
        :raises DeniedError: too many uploads are under way, or ``by`` isn't an active person of the roster.
        :raises CollateralUnprovenError: no pinned root vouches for an item; nothing is imported.
        :raises CollateralRollbackError: an item is older than the one that is held; nothing is imported.
        """
        self._keeper.require_unlocked()
        self._require_person(by)
        upload = self._upload(by, bundle, size, offset)
        if len(upload.data) + len(part) > size or not part:
            del self._uploads[by]
            raise MalformedError("the parts of a bundle are more, or less, than its announced size")
        upload.data += part
        upload.touched = self._clock.now()
        if len(upload.data) < size:
            return len(upload.data)
        del self._uploads[by]
        data = bytes(upload.data)
        if Digest.of(data) != bundle:
            raise MalformedError("the parts of a bundle make up another one than was announced")
        return await self._import(by, data)

    def _upload(self, by: PersonId, bundle: Digest, size: int, offset: int) -> _Upload:
        now = self._clock.now()
        if not 0 < size <= MAX_BUNDLE:
            raise MalformedError(f"a bundle has at most {MAX_BUNDLE} bytes")
        if offset == 0:
            self._uploads = {
                who: one for who, one in self._uploads.items() if who != by and one.touched + PART_SECONDS > now
            }
            if len(self._uploads) >= MAX_OPEN:
                raise DeniedError(
                    "too many bundles are being handed in", reason="collateral-busy", remedy="try again in two minutes"
                )
            self._uploads[by] = _Upload(bundle, size, now)
        upload = self._uploads.get(by)
        if upload is None or (upload.bundle, upload.size, len(upload.data)) != (bundle, size, offset):
            raise ConflictError(
                "the part isn't the next one of a bundle that is being handed in",
                reason="collateral-part",
                remedy="begin again with its first part",
            )
        return upload

    async def _import(self, by: PersonId, data: bytes) -> Imported:
        async with self._importing:
            # Thousands of certificates take seconds, and a freeze needn't wait for them: all of it in a thread.
            held, now, anchors = self._keeper.bundle, self._clock.now(), self._anchors()
            merged, news = await asyncio.to_thread(_admitted, held, data, anchors, now)
            self._keeper.require_unlocked()
            if anchors != self._anchors():
                raise ConflictError(
                    "the reference values changed while the bundle was checked",
                    reason="collateral-roots-changed",
                    remedy="import it again",
                )
            if not merged.changed and not self.lost:
                return self._imported(merged, None)
            bundle, makers = merged.bundle, {**self._makers, **news}
            await asyncio.to_thread(self._store.save, bundle.digest, bundle.to_bytes())
            facts: dict[str, Fact] = {"digest": bundle.digest, "items": len(bundle.items), "by": by}
            recording = self._keeper.record(EventName.COLLATERAL_IMPORTED, facts)
            # In force at once with its record: a list that revokes must not wait for a disk.
            self._take(bundle, makers)
            self._keeper.changed()
            recorded = await self._keeper.pinned(recording)
            self._store.keep_only(bundle.digest)
            return self._imported(merged, recorded)

    def _imported(self, merged: Merged, recorded: Recorded | None) -> Imported:
        return Imported(
            recorded=recorded,
            digest=merged.bundle.digest,
            items=len(merged.bundle.items),
            added=merged.added,
            replaced=merged.replaced,
        )

    def _take(self, bundle: Bundle, makers: dict[Digest, Vendor]) -> None:
        self._makers, self.lost = makers, False
        self._keeper.bundle = bundle
        # Parsed here once, not by the first release that needs them.
        _ = bundle.collateral.lists

    def _anchors(self) -> TrustAnchors:
        values = self._keeper.documents.reference_values
        return vendor_anchors().joined(values.anchors if values else ())

    def _require_person(self, by: PersonId) -> None:
        if not self._keeper.roster().person(by).active or by in self._keeper.journal.ledger.suspended:
            raise UsageError("whoever hands collateral in must be an active person of the roster")


def _admitted(held: Bundle, data: bytes, anchors: TrustAnchors, at: Instant) -> tuple[Merged, dict[Digest, Vendor]]:
    return admit(held, Bundle.parse(data), anchors, at)
