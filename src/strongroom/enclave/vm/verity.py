"""The hash tree of dm-verity, version 1, SHA-256 (Documentation/admin-guide/device-mapper/verity.rst). Pure.

The kernel checks each block of the root file system against the tree when it is read, and the tree's root stands on the
measured command line: a changed byte is never run. Built here rather than by ``veritysetup``, so that a prediction
takes nothing but the artefacts; the two agree (tests/integration/test_vm_image_is_reproducible.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from strongroom.core.errors import MalformedError

BLOCK: Final = 4096
MAX_BLOCKS: Final = 1 << 24
_MAGIC: Final = b"verity\0\0"
_ALGORITHM: Final = b"sha256".ljust(32, b"\0")


@dataclass(frozen=True, slots=True)
class HashTree:
    """The tree over some data."""

    root: bytes
    """32 bytes."""
    appended: bytes
    """Superblock and tree, to lie right behind the data."""
    data_bytes: int


def hash_tree(data: bytes | memoryview, *, salt: bytes, identifier: bytes) -> HashTree:
    """Return the tree over ``data``, whole blocks of 4,096 bytes.

    :param salt: 32 bytes, hashed before each block. :param identifier: 16 bytes that name the device; not hashed.
    :raises MalformedError: no data, not whole blocks, or too many.
    """
    view = memoryview(data)
    count, rest = divmod(len(view), BLOCK)
    if rest or not 1 < count <= MAX_BLOCKS:
        raise MalformedError(f"a root file system has whole blocks of {BLOCK} bytes, 2 to {MAX_BLOCKS}")
    seed = hashlib.sha256(salt)
    levels: list[bytes] = []
    below = view
    while len(below) > BLOCK:
        hashes = b"".join(_salted(seed, below[at : at + BLOCK]) for at in range(0, len(below), BLOCK))
        levels.append(hashes.ljust(-(-len(hashes) // BLOCK) * BLOCK, b"\0"))
        below = memoryview(levels[-1])
    # The highest level lies first.
    tree = b"".join(reversed(levels))
    superblock = _superblock(count, salt=salt, identifier=identifier)
    return HashTree(root=_salted(seed, below), appended=superblock.ljust(BLOCK, b"\0") + tree, data_bytes=len(view))


def _salted(seed: object, block: memoryview) -> bytes:
    running = seed.copy()  # type: ignore[attr-defined]
    running.update(block)
    digest: bytes = running.digest()
    return digest


def _superblock(count: int, *, salt: bytes, identifier: bytes) -> bytes:
    if len(salt) != 32 or len(identifier) != 16:
        raise MalformedError("a hash tree has a salt of 32 bytes and an identifier of 16")
    numbers = (1).to_bytes(4, "little") + (1).to_bytes(4, "little")  # superblock version 1, hash type 1
    sizes = BLOCK.to_bytes(4, "little") * 2 + count.to_bytes(8, "little") + len(salt).to_bytes(2, "little")
    return _MAGIC + numbers + identifier + _ALGORITHM + sizes + bytes(6) + salt.ljust(256, b"\0")
