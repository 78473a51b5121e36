"""Proof files: what was logged is proven offline by one file, and no other entry, index, size or policy is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.errors import CosignatureOtherLogError, LogError, ProofError, QuorumMissingError
from strongroom.audit.merkle import leaf_hash, node_hash, tree_root
from strongroom.audit.note import Note
from strongroom.audit.proof_file import ProofFile, make_proof
from strongroom.audit.witness_policy import WitnessPolicy
from strongroom.core.errors import MalformedError, StrongroomError
from support.cosigners import witness
from support.examples import examples
from support.logs import AT, LOG_KEY, LOG_SIGNER, ORIGIN

ENTRIES = [f"entry {number}".encode() for number in range(70)]
WITNESS = witness(1)
POLICY = WitnessPolicy.parse(f"log {LOG_KEY}\nwitness W {WITNESS.key}\nquorum W\n".encode())


def node(level: int, index: int) -> bytes:
    if level == 0:
        return leaf_hash(ENTRIES[index])
    return node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))


def checkpoint(size: int) -> bytes:
    head = Checkpoint(ORIGIN, size, tree_root(leaf_hash(entry) for entry in ENTRIES[:size]))
    return Note.parse(head.sign(LOG_SIGNER)).signed_also((WITNESS.cosign(head, AT),)).to_bytes()


CHECKPOINTS = {size: checkpoint(size) for size in (1, 2, 3, 64, 65, 70)}


@given(size=st.sampled_from(sorted(CHECKPOINTS)), data=st.data(), extra=st.none() | st.binary(max_size=40))
@settings(max_examples=examples(40))
def test_what_was_logged_is_proven_and_nothing_else(size: int, data: st.DataObject, extra: bytes | None) -> None:
    index = data.draw(st.integers(0, size - 1))
    made = replace(make_proof(index, CHECKPOINTS[size], node), extra=extra)
    read = ProofFile.parse(made.to_bytes())
    assert read == made
    assert read.verify(ENTRIES[index], POLICY, now=AT + 10**9).counted == {"W": AT}
    with pytest.raises(ProofError):
        read.verify(ENTRIES[(index + 1) % 70], POLICY, now=AT)
    other = data.draw(st.integers(0, 80).filter(lambda value: value != index))
    with pytest.raises(ProofError):
        replace(read, index=other).verify(ENTRIES[index], POLICY, now=AT)
    with pytest.raises(ProofError):
        replace(read, hashes=(*read.hashes, bytes(32))).verify(ENTRIES[index], POLICY, now=AT)


@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
@settings(max_examples=examples(80))
def test_a_changed_bit_of_a_proof_is_found(place: int, bit: int) -> None:
    good = make_proof(33, CHECKPOINTS[70], node).to_bytes()
    changed = bytearray(good)
    changed[place % len(good)] ^= 1 << bit
    try:
        read = ProofFile.parse(bytes(changed))
        found = read.verify(ENTRIES[33], POLICY, now=AT)
    except StrongroomError:
        return
    # A bit of a stranger's line, or of a name: what is said stays the same.
    assert (found.checkpoint.size, read.index) == (70, 33)


def test_other_policies_do_not_believe_it() -> None:
    proof = make_proof(3, CHECKPOINTS[64], node)
    others = WitnessPolicy.parse(f"log {LOG_KEY}\nwitness V {witness(2).key}\nquorum V\n".encode())
    with pytest.raises(QuorumMissingError):
        proof.verify(ENTRIES[3], others, now=AT)
    with pytest.raises(CosignatureOtherLogError):
        proof.verify(ENTRIES[3], WitnessPolicy.parse(b"quorum none\n"), now=AT)
    with pytest.raises(LogError):
        proof.verify(ENTRIES[3], POLICY, now=AT - 3600)
    with pytest.raises(ProofError):
        make_proof(64, CHECKPOINTS[64], node)


GOOD = make_proof(3, CHECKPOINTS[64], node).to_bytes().decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        GOOD.replace("@v1", "@v2"),
        GOOD.replace("index 3", "index 03"),
        GOOD.replace("index 3", "index -3"),
        GOOD.replace("index 3", "index 3\nindex 3"),
        GOOD.replace("index 3", "extra AAAA\nextra AAAA\nindex 3"),
        GOOD.replace("index 3", "index 3\nextra AAAA"),
        GOOD.replace("index 3", "extra AAA\nindex 3"),
        GOOD.replace("index 3\n", "index 3\n\n"),
        GOOD.replace("index 3\n", "index 3\nAAAA\n"),
        GOOD.replace("index 3\n", "index 3\n" + ("A" * 43 + "=\n") * 64),
        GOOD.replace("index 3\n", ""),
        GOOD.partition("\n\n")[0],
        GOOD.replace("index 3", "extra " + "A" * 200_000 + "\nindex 3"),
        GOOD + "x" * (1 << 20),
    ],
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        ProofFile.parse(text.encode())
