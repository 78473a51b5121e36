"""RFC 6962 proofs by others: what must verify does, what must fail does, each through the public functions."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from strongroom.audit.errors import ProofError
from strongroom.audit.merkle import EMPTY_ROOT, Frontier, leaf_hash, tree_root, verify_consistency, verify_inclusion
from support.vectors import vectors_folder

# The reference inputs of RFC 6962 implementations: eight leaves and the root over all of them.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOT_OF_8 = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"

# This vector's roots have 11 bytes. The reference compares two equal strings; we refuse any root that isn't a hash.
STRICTER = {"sizes-are-equal-one-and-proof-is-empty.json"}


def load(kind: str) -> list[tuple[Path, dict[str, Any]]]:
    cases = [(path, json.loads(path.read_text())) for path in sorted((vectors_folder("merkle") / kind).rglob("*.json"))]
    assert len(cases) == 98
    return cases


def outcome(check: Any, **arguments: Any) -> bool:
    try:
        check(**arguments)
    except ProofError:
        return False
    return True


def test_inclusion_vectors() -> None:
    wrong = [
        path.name
        for path, case in load("inclusion")
        if outcome(
            verify_inclusion,
            index=case["leafIdx"],
            size=case["treeSize"],
            leaf=b64decode(case["leafHash"]),
            proof=[b64decode(item) for item in case["proof"] or []],
            root=b64decode(case["root"]),
        )
        == case["wantErr"]
    ]
    assert wrong == []


def test_consistency_vectors() -> None:
    wrong = {
        path.name
        for path, case in load("consistency")
        if outcome(
            verify_consistency,
            old=case["size1"],
            new=case["size2"],
            old_root=b64decode(case["root1"]),
            new_root=b64decode(case["root2"]),
            proof=[b64decode(item) for item in case["proof"] or []],
        )
        == case["wantErr"]
    }
    assert wrong == STRICTER


def test_reference_root() -> None:
    assert tree_root(leaf_hash(bytes.fromhex(leaf)) for leaf in LEAVES).hex() == ROOT_OF_8


def test_empty_tree_is_a_prefix_under_its_own_root_only() -> None:
    root = leaf_hash(b"a")
    verify_consistency(old=0, new=1, old_root=EMPTY_ROOT, new_root=root, proof=())
    with pytest.raises(ProofError):
        verify_consistency(old=0, new=1, old_root=root, new_root=root, proof=())
    with pytest.raises(ProofError):
        verify_consistency(old=0, new=1, old_root=EMPTY_ROOT, new_root=root, proof=(root,))
    assert Frontier().root() == EMPTY_ROOT
