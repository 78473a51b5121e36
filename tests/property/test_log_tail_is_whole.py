"""The end of a log, checked with one proof: every entry of it, in its place, or it is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit.errors import ProofError
from strongroom.audit.merkle import leaf_hash, make_inclusion, node_hash, tree_root
from strongroom.audit.tail import verify_tail


class Tree:
    def __init__(self, size: int) -> None:
        self.entries = [f"entry {n}".encode() for n in range(size)]
        self.root = tree_root(leaf_hash(one) for one in self.entries)

    def node(self, level: int, index: int) -> bytes:
        if level == 0:
            return leaf_hash(self.entries[index])
        return node_hash(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))

    def proof(self, start: int) -> tuple[bytes, ...]:
        return make_inclusion(start, len(self.entries), self.node)


@given(st.integers(1, 70).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))))
def test_the_true_end_of_a_log_is_accepted(drawn: tuple[int, int]) -> None:
    size, start = drawn
    tree = Tree(size)
    verify_tail(start=start, entries=tree.entries[start:], size=size, root=tree.root, proof=tree.proof(start))


@given(st.integers(2, 70).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))), st.data())
def test_an_end_that_lacks_adds_changes_or_swaps_an_entry_is_refused(
    drawn: tuple[int, int], data: st.DataObject
) -> None:
    size, start = drawn
    tree = Tree(size)
    tail = tree.entries[start:]
    at = data.draw(st.integers(0, len(tail) - 1))
    wrong = [
        tail[:at] + tail[at + 1 :],
        [*tail[:at], b"forged", *tail[at:]],
        [*tail[:at], b"forged", *tail[at + 1 :]],
        [*tail, b"one more"],
    ]
    if at:
        wrong.append([*tail[: at - 1], tail[at], tail[at - 1], *tail[at + 1 :]])
    for entries in wrong:
        with pytest.raises(ProofError):
            verify_tail(start=start, entries=entries, size=size, root=tree.root, proof=tree.proof(start))


@given(
    start=st.integers(-1, 40),
    size=st.integers(0, 40),
    proof=st.lists(st.binary(max_size=40) | st.binary(min_size=32, max_size=32), max_size=8),
    entries=st.lists(st.binary(max_size=8), max_size=8),
)
def test_any_other_proof_is_refused_and_nothing_else_happens(
    start: int, size: int, proof: list[bytes], entries: list[bytes]
) -> None:
    with pytest.raises(ProofError):
        verify_tail(start=start, entries=entries, size=size, root=bytes(32), proof=proof)
