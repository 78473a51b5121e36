"""Putting collateral together: forwards only. An item never takes the place of a newer one of its series.

An older revocation list would bring a revoked certificate back, an older TCB information a hole that Intel has named
since. Both are rightly signed; only the order tells.
"""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.attestation.bundle.format import Bundle
from strongroom.attestation.bundle.proof import prove_all
from strongroom.attestation.bundle.reading import ReadItem
from strongroom.attestation.trust_anchors import TrustAnchors, Vendor
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError


class CollateralRollbackError(ConflictError):
    """What was handed in is older than what is held."""

    code = "collateral-rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A bundle, and how it came from the one before. Everything else that was handed in was there already."""

    bundle: Bundle
    added: int
    """Items of a series that wasn't held."""
    replaced: int
    """Items that took the place of an older one, which is dropped."""

    @property
    def changed(self) -> bool:
        """True when something new came in."""
        return bool(self.added or self.replaced)


def merge(held: Bundle, handed_in: Bundle) -> Merged:
    """Add items to those that are held.

    :raises CollateralRollbackError: one is older than the one of its series that is held.
    :raises MalformedError: together they are more than a bundle may have.
    """
    places = {read.place: read for read in held.items}
    before = set(places)
    added: set[tuple[str, str]] = set()
    replaced: set[tuple[str, str]] = set()
    # Several of one series in one file: from the oldest on, so that the newest stays.
    for read in sorted(handed_in.items, key=lambda read: read.order):
        known = places.get(read.place)
        if known is None:
            added.add(read.place)
        elif not _follows(known, read, in_one_file=read.place not in before or read.place in replaced):
            continue
        elif read.place in before:
            replaced.add(read.place)
        places[read.place] = read
    return Merged(bundle=Bundle.of(places.values()), added=len(added), replaced=len(replaced))


def admit(held: Bundle, handed_in: Bundle, anchors: TrustAnchors, at: Instant) -> tuple[Merged, dict[Digest, Vendor]]:
    """Import a bundle: every item leads to a root of its maker, and none is older than what is held; or none comes in.

    Returns whose root vouches for each item that wasn't held, too.

    :raises CollateralUnprovenError: items that no pinned root vouches for; names them.
    :raises CollateralRollbackError: as in :func:`merge`.
    :raises MalformedError: as in :func:`merge`.
    """
    merged = merge(held, handed_in)
    # What is held was proven when it came, and is checked again whenever it is used.
    known = {read.item.digest for read in held.items}
    news = [read for read in handed_in.items if read.item.digest not in known]
    # Through certificates that are held, or of this very file.
    through = (*held.collateral.certificates, *handed_in.collateral.certificates)
    return merged, prove_all(news, through, anchors, at)


def _follows(known: ReadItem, read: ReadItem, *, in_one_file: bool) -> bool:
    """Tell whether ``read`` takes the place of ``known``: it isn't older, and isn't the same."""
    pairs = list(zip(known.order, read.order, strict=True))
    if any(new < old for old, new in pairs):
        if in_one_file:
            return False
        item = read.item
        raise CollateralRollbackError(
            f"`{item.kind}` `{item.name[:120]}` of {format_instant(item.not_before)} is older than the one that is "
            f"held, of {format_instant(known.item.not_before)}",
            remedy="leave it out, or get the maker's newest; nothing was imported",
        )
    return read.item.digest != known.item.digest
