"""Another implementation of the C2SP formats (tlog-scales) reads the logs that we lay out; we verify those it made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import PlainEd25519Signer, Vkey
from tlog_scales.writer import TilesWriter

from strongroom.audit import standalone_verifier
from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.checkpoint import read_checkpoint
from strongroom.audit.merkle import leaf_hash, tree_root, verify_consistency, verify_inclusion
from strongroom.audit.note import VerifierKey
from strongroom.audit.verify import SeenRoot, verify_log
from support.logs import LOG_KEY, ORIGIN
from support.published import key_file, publish

SIZES = (1, 2, 255, 256, 257, 700, 65_536, 66_000)
ENTRIES = [b"entry %d" % n for n in range(SIZES[-1])]


def test_we_verify_a_log_that_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    signer = PlainEd25519Signer("other.example/log", b"o" * 32)
    key = VerifierKey.parse(str(signer.vkey.serialize()))  # type: ignore[no-untyped-call]
    (tmp_path / "log.key").write_text(f"{key}\n")
    folder, source = tmp_path / "log", FolderSource(tmp_path / "log")
    writer, kept = TilesWriter.create(folder, "other.example/log"), list[bytes]()
    for size in (size for size in SIZES if size <= 1000):
        for entry in ENTRIES[writer.size : size]:
            writer.add_leaf(entry)
        writer.commit([signer])
        seen = [SeenRoot.kept(note, key) for note in kept]
        report = verify_log(source, key, entries=None, seen=seen)
        assert report.checkpoint.size == size
        assert len(report.seen) == len(kept)
        kept.append((folder / "checkpoint").read_bytes())
        code = standalone_verifier.main([str(folder), "--key", str(tmp_path / "log.key"), "--jobs", "1", "--json"])
        assert (code, json.loads(capsys.readouterr().out)["size"]) == (0, size)


@pytest.mark.parametrize("size", SIZES)
def test_it_reads_a_log_that_we_lay_out(tmp_path: Path, size: int) -> None:
    folder = publish(tmp_path / "log", ENTRIES[:size])
    head = read_checkpoint((folder / "checkpoint").read_bytes(), LOG_KEY)
    reader = TilesReader(LocalBackend(folder))
    told = reader.get_checkpoint()
    assert (told.origin, told.size, told.root_hash) == (ORIGIN, size, head.root)
    assert reader.calculate_root_hash() == head.root
    verifier = Vkey.from_string(str(LOG_KEY)).get_verifier()
    assert any(verifier.vkey.match(signature) for signature in told.signatures)
    for signature in told.signatures:
        verifier.verify_note(signature, told)
    for index in {0, size // 2, size - 1}:
        assert reader.get_entry(index) == ENTRIES[index]
        proof = reader.get_inclusion_proof(index, size)
        leaf = leaf_hash(ENTRIES[index])
        verify_inclusion(index=index, size=size, leaf=leaf, proof=proof.node_hashes, root=head.root)


@settings(max_examples=30)
@given(st.integers(1, 1500), st.integers(1, 1500))
def test_its_consistency_proofs_convince_us(tmp_path_factory: pytest.TempPathFactory, one: int, other: int) -> None:
    old, new = sorted((one, other))
    reader = TilesReader(LocalBackend(publish(tmp_path_factory.mktemp("log"), ENTRIES[:new])))
    reader.set_size(new)
    proof = reader.get_consistency_proof(old, new)
    roots = [tree_root(leaf_hash(entry) for entry in ENTRIES[:size]) for size in (old, new)]
    verify_consistency(old=old, new=new, old_root=roots[0], new_root=roots[1], proof=proof.node_hashes)


def test_it_has_a_key_of_ours_by_the_same_name_and_id(tmp_path: Path) -> None:
    key_file(tmp_path)
    theirs = Vkey.from_string((tmp_path / "log.key").read_text().strip())
    assert (theirs.name, theirs.key_id.to_bytes(4, "big")) == (LOG_KEY.name, LOG_KEY.key_id)
    assert theirs.serialize() == str(LOG_KEY)  # type: ignore[no-untyped-call]
