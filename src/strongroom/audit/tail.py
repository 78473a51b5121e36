"""The newest part of a log, checked whole with one proof: no entry of it is forged, left out or out of place.

An inclusion proof of the part's first entry holds, among its hashes, the roots of everything before: the hashes that
stand to the left of the path are exactly the frontier of the tree without the part. Growing that frontier by the part's
entries must give the root that the log signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from strongroom.audit.errors import ProofError, StoreDamagedError
from strongroom.audit.merkle import Frontier, leaf_hash


def verify_tail(*, start: int, entries: Iterable[bytes], size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Check that ``entries`` are all those from ``start`` to the end of the log of ``size`` entries.

    :param proof: the inclusion proof of entry ``start`` in that log (RFC 9162, section 2.1.3.1); unused where it is 0.
    :raises ProofError: they aren't, or the proof isn't one of that entry.
    """
    try:
        frontier = Frontier(start, _left_of(start, size, proof))
    except StoreDamagedError:
        raise ProofError(f"the proof doesn't fit entry {start} of a log of {size} entries") from None
    for entry in entries:
        frontier.append(leaf_hash(entry))
    if frontier.size != size or frontier.root() != root:
        raise ProofError(f"the entries shown from {start} on aren't the end of the signed log of {size} entries")


def _left_of(index: int, size: int, proof: Sequence[bytes]) -> list[bytes]:
    """Return the proof's hashes to the left of the path, largest subtree first."""
    if not 0 <= index < size:
        raise ProofError(f"a log of {size} entries has no entry {index}")
    at, last, left = index, size - 1, []
    for sibling in proof if index else ():
        if last == 0:
            raise ProofError("the inclusion proof is too long")
        if at & 1 or at == last:
            left.append(sibling)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        at, last = at >> 1, last >> 1
    return left[::-1]
