"""What can be told of sealed objects by anybody, without a key: their claims, and whether the ciphertext is whole."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.core.digest import Digest
from strongroom.sealing.errors import CiphertextMismatchError
from strongroom.sealing.header import HEADER_LENGTH, Geometry, SealedHeader
from strongroom.sealing.manifest import Manifest, ManifestObject
from strongroom.sealing.open import check_header
from strongroom.sealing.source import PositionalSource, exactly
from strongroom.sealing.spread import Engine, spread
from strongroom.sealing.tree import Tree, leaf


@dataclass(frozen=True, slots=True)
class DirectoryFacts:
    """What a sealed directory says of itself. Nothing of it is verified: that takes the publisher's key, or the log."""

    manifest: Manifest
    digest: Digest
    signed_by: tuple[str, ...]
    """Ids of the keys that are said to have signed."""
    headers: dict[str, SealedHeader]
    """By object name; only those of objects that are there and have a header."""


def ciphertext_root(source: PositionalSource, geometry: Geometry, engine: Engine, *, object_name: str) -> Digest:
    """Return the tree root over an object's ciphertext, whatever it holds.

    :raises TruncatedError: the storage ended early.
    """
    leaves = [b""] * geometry.segments
    length = geometry.segment_length

    def hash_run(run: range, _scratch: memoryview) -> None:
        size = (len(run) - 1) * length + geometry.length(run[-1])
        piece = exactly(source, geometry.offset(run[0]), size, object_name=object_name)
        for number, position in enumerate(run):
            leaves[position] = leaf(piece[number * length : number * length + geometry.length(position)])

    each = max(1, source.stride // length)
    runs = [range(start, min(start + each, geometry.segments)) for start in range(0, geometry.segments, each)]
    spread(engine, runs, hash_run, scratch=0, depth=source.depth)
    tree = Tree()
    for one in (leaf(exactly(source, 0, HEADER_LENGTH, object_name=object_name)), *leaves):
        tree.add(one)
    return tree.root()


def verify_ciphertext(source: PositionalSource, manifest: Manifest, item: ManifestObject, engine: Engine) -> None:
    """Check one object's every byte against the manifest, without the data key.

    It also stops a holder of the data key who isn't the publisher and forges segments that open.

    :raises SealedObjectError: steps 1 to 4 of :mod:`strongroom.sealing.open`.
    :raises CiphertextMismatchError: a segment isn't the one that the publisher signed.
    """
    expected = manifest.expectation(item)
    _header, geometry = check_header(source, expected)
    root = ciphertext_root(source, geometry, engine, object_name=expected.name)
    if not root.matches(item.root):
        raise CiphertextMismatchError("the ciphertext isn't what the publisher signed", object_name=expected.name)
