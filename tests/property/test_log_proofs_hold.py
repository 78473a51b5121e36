"""For trees of any size: proofs verify, and stop verifying when any part of them changes."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit.errors import ProofError
from strongroom.audit.merkle import (
    Frontier,
    NodeReader,
    leaf_hash,
    make_consistency,
    make_inclusion,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from strongroom.audit.tiles import TileBuilder, TileReader, tiles_of

LEAVES = [leaf_hash(i.to_bytes(4, "big")) for i in range(1100)]
SIZES = st.integers(min_value=1, max_value=1100)


def nodes(level: int, index: int) -> bytes:
    return tree_root(LEAVES[index << level : (index + 1) << level])


class Tiles:
    """Tiles of a log in memory."""

    def __init__(self, size: int) -> None:
        builder, self.files = TileBuilder(), dict[str, bytes]()
        for leaf in LEAVES[:size]:
            self.files.update({tile.path: data for tile, data in builder.append(leaf)})
        self.files.update({tile.path: data for tile, data in builder.partials()})

    def read(self, path: str) -> bytes | None:
        return self.files.get(path)


def recursive_root(leaves: list[bytes]) -> bytes:
    # The definition of RFC 6962, word for word, as the second opinion.
    if len(leaves) == 1:
        return leaves[0]
    cut = 1
    while cut * 2 < len(leaves):
        cut *= 2
    return hashlib.sha256(b"\x01" + recursive_root(leaves[:cut]) + recursive_root(leaves[cut:])).digest()


@given(SIZES)
def test_frontier_has_the_root_of_the_definition(size: int) -> None:
    assert tree_root(LEAVES[:size]) == recursive_root(LEAVES[:size])


@given(st.data(), SIZES)
def test_inclusion(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(min_value=0, max_value=size - 1))
    proof, root = make_inclusion(index, size, nodes), tree_root(LEAVES[:size])
    verify_inclusion(index=index, size=size, leaf=LEAVES[index], proof=proof, root=root)
    other = data.draw(st.integers(min_value=0, max_value=size - 1).filter(lambda i: i != index)) if size > 1 else 5
    with pytest.raises(ProofError):
        verify_inclusion(index=other, size=size, leaf=LEAVES[index], proof=proof, root=root)
    with pytest.raises(ProofError):
        verify_inclusion(index=index, size=size, leaf=leaf_hash(b"x"), proof=proof, root=root)
    with pytest.raises(ProofError):
        verify_inclusion(index=index, size=size, leaf=LEAVES[index], proof=(*proof, root), root=root)


@given(st.data(), SIZES)
def test_consistency(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(min_value=1, max_value=new))
    proof = make_consistency(old, new, nodes)
    old_root, new_root = tree_root(LEAVES[:old]), tree_root(LEAVES[:new])
    verify_consistency(old=old, new=new, old_root=old_root, new_root=new_root, proof=proof)
    edited = data.draw(st.integers(min_value=0, max_value=old - 1))
    forked = tree_root([*LEAVES[:edited], leaf_hash(b"forged"), *LEAVES[edited + 1 : old]])
    with pytest.raises(ProofError):
        verify_consistency(old=old, new=new, old_root=forked, new_root=new_root, proof=proof)


@given(st.data(), SIZES)
def test_tiles_give_the_same_nodes(data: st.DataObject, size: int) -> None:
    tiles = Tiles(size)
    assert sorted(tiles.files) == sorted(tile.path for tile in tiles_of(size))
    reader: NodeReader = TileReader(tiles, size).node
    index = data.draw(st.integers(min_value=0, max_value=size - 1))
    assert make_inclusion(index, size, reader) == make_inclusion(index, size, nodes)
    old = data.draw(st.integers(min_value=0, max_value=size))
    assert make_consistency(old, size, reader) == make_consistency(old, size, nodes)


@given(SIZES, SIZES)
def test_frontier_survives_its_bytes(size: int, more: int) -> None:
    grown = Frontier()
    for leaf in LEAVES[:size]:
        grown.append(leaf)
    restored = Frontier.from_bytes(size, grown.to_bytes())
    for leaf in LEAVES[:more]:
        grown.append(leaf)
        restored.append(leaf)
    assert restored.root() == grown.root()
