"""Notes, checkpoints and tiles made by others: the examples of C2SP and a small log written by Tessera."""

from __future__ import annotations

import json
import shutil
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from strongroom.audit import standalone_verifier
from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.checkpoint import read_checkpoint
from strongroom.audit.errors import ForgedCheckpointError, MissingRowsError, NoteError, ProofError, WrongKeyError
from strongroom.audit.merkle import leaf_hash, make_consistency, make_inclusion, verify_consistency, verify_inclusion
from strongroom.audit.note import Note, VerifierKey
from strongroom.audit.tiles import Tile, TileBuilder, TileReader, bundles_of, encode_bundle, read_bundle, tiles_of
from strongroom.audit.verify import SeenRoot, verify_log
from support.vectors import vectors_folder

C2SP_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_NOTE = (
    "This is an example message.\n\n\N{EM DASH} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1"
    "ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
TESSERA_KEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"


def test_example_note_verifies_and_round_trips() -> None:
    key = VerifierKey.parse(C2SP_KEY)
    note = Note.parse(C2SP_NOTE)
    note.verify(key)
    assert str(key) == C2SP_KEY
    assert note.to_bytes() == C2SP_NOTE


def test_example_note_with_one_changed_letter_is_refused() -> None:
    with pytest.raises(NoteError):
        Note.parse(C2SP_NOTE.replace(b"This", b"That")).verify(VerifierKey.parse(C2SP_KEY))


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(None, 0, 3), "tile/entries/000.p/3"),
        (Tile(63, 999), "tile/63/999"),
        (Tile(1, 1000, 255), "tile/1/x001/000.p/255"),
    ],
)
def test_tile_paths(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert Tile.parse(path) == tile


def test_layout_of_70000_and_of_256() -> None:
    tiles = list(tiles_of(70_000))
    assert len([t for t in tiles if t.level == 0 and t.width == 256]) == 273
    assert tiles[273:] == [Tile(0, 273, 112), Tile(1, 0), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]


def test_tessera_log_is_read_proven_and_written_again() -> None:
    folder = vectors_folder("tessera-log")
    source, key = FolderSource(folder), VerifierKey.parse(TESSERA_KEY)
    heads = [read_checkpoint((folder / f"checkpoint.{size}").read_bytes(), key) for size in range(16)]
    assert [head.size for head in heads] == list(range(16))
    entries = [entry for bundle in bundles_of(15) for entry in read_bundle(source, bundle)]
    reader, builder = TileReader(source, 15), TileBuilder()
    for size, entry in enumerate(entries, 1):
        list(builder.append(leaf_hash(entry)))
        for tile, data in builder.partials():
            assert source.read(tile.path) == data
        assert source.read(Tile(None, 0, size).path) == encode_bundle(entries[:size])
    for old in range(16):
        proof = make_consistency(old, 15, reader.node)
        verify_consistency(old=old, new=15, old_root=heads[old].root, new_root=heads[15].root, proof=proof)
        for index in range(old):
            path = make_inclusion(index, old, reader.node)
            leaf = leaf_hash(entries[index])
            verify_inclusion(index=index, size=old, leaf=leaf, proof=path, root=heads[old].root)


def test_every_pair_of_tessera_checkpoints_is_consistent() -> None:
    folder = vectors_folder("tessera-log")
    key, reader = VerifierKey.parse(TESSERA_KEY), TileReader(FolderSource(folder), 15)
    heads = [read_checkpoint((folder / f"checkpoint.{size}").read_bytes(), key) for size in range(16)]
    for old, new in combinations_with_replacement(range(16), 2):
        proof = make_consistency(old, new, reader.node)
        roots = {"old_root": heads[old].root, "new_root": heads[new].root}
        verify_consistency(old=old, new=new, proof=proof, **roots)
        if 0 < old < new:
            with pytest.raises(ProofError):
                verify_consistency(
                    old=old, new=new, proof=proof, old_root=heads[old - 1].root, new_root=heads[new].root
                )


@pytest.mark.parametrize("size", range(16))
def test_the_tessera_log_verifies_at_each_of_its_checkpoints(
    tmp_path: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, log = vectors_folder("tessera-log"), tmp_path / "log"
    shutil.copytree(folder, log)
    shutil.copy(folder / f"checkpoint.{size}", log / "checkpoint")
    (tmp_path / "key").write_text(TESSERA_KEY)
    kept = [folder / f"checkpoint.{older}" for older in range(size + 1)]
    seen = [SeenRoot.kept(path.read_bytes(), VerifierKey.parse(TESSERA_KEY)) for path in kept]
    report = verify_log(FolderSource(log), VerifierKey.parse(TESSERA_KEY), entries=None, seen=seen)
    assert (report.checkpoint.size, len(report.seen)) == (size, size + 1)
    previous = [word for path in kept for word in ("--previous", str(path))]
    code = standalone_verifier.main([str(log), "--key", str(tmp_path / "key"), "--json", *previous])
    assert (code, json.loads(capsys.readouterr().out)["size"]) == (0, size)
    # An auditor of a later day isn't content with this one.
    if size < 15:
        newer = SeenRoot.kept((folder / "checkpoint.15").read_bytes(), VerifierKey.parse(TESSERA_KEY))
        with pytest.raises(MissingRowsError):
            verify_log(FolderSource(log), VerifierKey.parse(TESSERA_KEY), entries=None, seen=[newer])


def test_tessera_checkpoint_is_refused_when_changed_or_under_another_key() -> None:
    data = (vectors_folder("tessera-log") / "checkpoint").read_bytes()
    with pytest.raises(ForgedCheckpointError):
        read_checkpoint(data.replace(b"\n15\n", b"\n14\n"), VerifierKey.parse(TESSERA_KEY))
    with pytest.raises(WrongKeyError):
        read_checkpoint(data, VerifierKey.parse(C2SP_KEY))
