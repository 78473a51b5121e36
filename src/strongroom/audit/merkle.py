"""The Merkle tree of RFC 6962, section 2.1: hashing, the compact frontier, proofs made and verified.

A node is named ``(level, index)``: the hash over entries ``index << level`` up to ``(index + 1) << level``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from strongroom.audit.errors import ProofError, StoreDamagedError

HASH_SIZE: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

NodeReader = Callable[[int, int], bytes]
"""Returns the hash of the complete subtree ``(level, index)``."""

_sha256 = hashlib.sha256


def leaf_hash(entry: bytes) -> bytes:
    """Hash an entry. The prefix keeps an entry from passing as an inner node (second-preimage attacks)."""
    return _sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two children."""
    return _sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: one hash for each bit that is set in its size, largest subtree first."""

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self._peaks = list(peaks)
        if len(self._peaks) != size.bit_count() or any(len(p) != HASH_SIZE for p in self._peaks):
            raise StoreDamagedError(f"a frontier of size {size} has {size.bit_count()} hashes of 32 bytes")

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Frontier:
        """Read what :meth:`to_bytes` wrote.

        :raises StoreDamagedError: the length doesn't fit the size.
        """
        return cls(size, (data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)))

    @classmethod
    def over(cls, leaves: Iterable[bytes]) -> Frontier:
        """Return the frontier of the tree over leaf hashes."""
        frontier = cls()
        for leaf in leaves:
            frontier.append(leaf)
        return frontier

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """The roots of the largest complete subtrees, from left to right."""
        return tuple(self._peaks)

    def to_bytes(self) -> bytes:
        """Return the peaks, one after the other."""
        return b"".join(self._peaks)

    def copy(self) -> Frontier:
        """Return a frontier that grows on its own."""
        return Frontier(self.size, self._peaks)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        peaks, node, size = self._peaks, leaf, self.size
        while size & 1:
            node = _sha256(b"\x01" + peaks.pop() + node).digest()
            size >>= 1
        peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Return the root of the tree so far."""
        return fold_peaks(self._peaks)


def fold_peaks(peaks: Sequence[bytes]) -> bytes:
    """Return the root over the roots of complete subtrees, largest first."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes."""
    return Frontier.over(leaves).root()


def complete_root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over a power of two of hashes; faster than :func:`tree_root`, level by level."""
    while len(hashes) > 1:
        hashes = [_sha256(b"\x01" + a + b).digest() for a, b in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]


def range_root(begin: int, end: int, node: NodeReader) -> bytes:
    """Return the hash over entries ``begin`` to ``end``, where ``begin`` is aligned as in RFC 6962's recursion."""
    parts: list[bytes] = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        parts.append(node(level, begin >> level))
        begin += 1 << level
    root = parts.pop()
    while parts:
        root = node_hash(parts.pop(), root)
    return root


def _split(count: int) -> int:
    # The largest power of two below count: where RFC 6962 cuts a tree in two.
    return 1 << ((count - 1).bit_length() - 1)


def make_inclusion(index: int, size: int, node: NodeReader) -> tuple[bytes, ...]:
    """Return the audit path of entry ``index`` in the tree of ``size`` entries (RFC 6962, section 2.1.1).

    :raises ProofError: the tree has no such entry.
    """
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} entries has no entry {index}")
    begin, end, path = 0, size, []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(range_root(middle, end, node))
            end = middle
        else:
            path.append(range_root(begin, middle, node))
            begin = middle
    return tuple(reversed(path))


def make_consistency(old: int, new: int, node: NodeReader) -> tuple[bytes, ...]:
    """Return the proof that the tree of ``old`` entries is a prefix of the one of ``new`` (RFC 6962, section 2.1.2).

    Empty where either size is zero or both are equal.

    :raises ProofError: ``old`` is greater than ``new``.
    """
    if not 0 <= old <= new:
        raise ProofError(f"a tree of {new} entries can't continue one of {old}")
    if old in (0, new):
        return ()
    begin, end, path, whole = 0, new, [], True
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(range_root(middle, end, node))
            end = middle
        else:
            path.append(range_root(begin, middle, node))
            begin, whole = middle, False
    if not whole:
        path.append(range_root(begin, end, node))
    return tuple(reversed(path))


def _check_hashes(hashes: Iterable[bytes]) -> None:
    # First of all: a hash of another length could shift bytes between a node's two children.
    if any(len(value) != HASH_SIZE for value in hashes):
        raise ProofError("every hash of a proof has 32 bytes")


def verify_inclusion(*, index: int, size: int, leaf: bytes, proof: Iterable[bytes], root: bytes) -> None:
    """Check that the entry with hash ``leaf`` stands at ``index`` (RFC 9162, section 2.1.3.2).

    :raises ProofError: it isn't proven.
    """
    path = tuple(proof)
    _check_hashes((leaf, root, *path))
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} entries has no entry {index}")
    at, last, value = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise ProofError("the inclusion proof is too long")
        if at & 1 or at == last:
            value = node_hash(sibling, value)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        at, last = at >> 1, last >> 1
    if last != 0 or value != root:
        raise ProofError(f"the proof doesn't show entry {index} in the tree of {size} entries")


def verify_consistency(*, old: int, new: int, old_root: bytes, new_root: bytes, proof: Iterable[bytes]) -> None:
    """Check that the tree of ``old`` entries is a prefix of the one of ``new`` (RFC 9162, section 2.1.4.2).

    The empty tree is a prefix of every tree, but only under its own root, with an empty proof.

    :raises ProofError: it isn't proven.
    """
    path = tuple(proof)
    _check_hashes((old_root, new_root, *path))
    if not 0 <= old <= new:
        raise ProofError(f"a tree of {new} entries can't continue one of {old}")
    if (old == 0 and old_root != EMPTY_ROOT) or (new == 0 and new_root != EMPTY_ROOT):
        raise ProofError("the empty tree has one root, the hash of nothing")
    if old == new and old_root != new_root:
        raise ProofError(f"two different roots are claimed for {old} entries")
    if old in (0, new):
        if path:
            raise ProofError("the consistency proof must be empty for these sizes")
        return
    _climb(old, new, old_root, new_root, path)


def _climb(old: int, new: int, old_root: bytes, new_root: bytes, path: tuple[bytes, ...]) -> None:
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    # A complete old tree is itself the first hash of the path; the prover leaves it out.
    hashes = path if at else (old_root, *path)
    if not hashes:
        raise ProofError("the consistency proof is too short")
    first = second = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise ProofError("the consistency proof is too long")
        if at & 1 or at == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        at, last = at >> 1, last >> 1
    if last != 0 or first != old_root or second != new_root:
        raise ProofError(f"the proof doesn't show that {new} entries continue {old} entries")
