"""The digest of a sealed object's ciphertext: the root of a Merkle tree (RFC 6962 section 2.1, SHA-256).

Leaf 0 is the 4,096-byte header, leaf i the (i-1)-th segment. A tree and not one long hash, so that leaves can be hashed
in parallel, and later a single segment proved. It needs no key: a scanner or a mirror can check what it holds.
"""

from __future__ import annotations

import hashlib

from strongroom.core.digest import Digest, DigestAlgorithm


def leaf(data: bytes | bytearray | memoryview) -> bytes:
    """Return a leaf's hash. Large buffers are hashed without the interpreter lock."""
    hasher = hashlib.sha256(b"\0")
    hasher.update(data)
    return hasher.digest()


class Tree:
    """A root computed leaf by leaf, in O(log n) memory."""

    __slots__ = ("_peaks",)

    def __init__(self) -> None:
        self._peaks: list[tuple[int, bytes]] = []

    def add(self, leaf_hash: bytes) -> None:
        """Append a leaf's hash."""
        height, value = 0, leaf_hash
        while self._peaks and self._peaks[-1][0] == height:
            value = _node(self._peaks.pop()[1], value)
            height += 1
        self._peaks.append((height, value))

    def root(self) -> Digest:
        """Return the root over what was added so far; at least one leaf must have been."""
        value = self._peaks[-1][1]
        for _height, left in reversed(self._peaks[:-1]):
            value = _node(left, value)
        return Digest(DigestAlgorithm.SHA256, value)


def _node(left: bytes, right: bytes) -> bytes:
    # The prefix byte keeps an inner node from being passed off as a leaf.
    return hashlib.sha256(b"\1" + left + right).digest()
