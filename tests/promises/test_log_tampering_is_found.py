"""Whoever holds the log's key finds every way of rewriting what was published, and learns where it begins."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.checkpoint import Checkpoint, read_checkpoint
from strongroom.audit.entries import MAX_ENTRY, read_entry
from strongroom.audit.errors import (
    EditedEntryError,
    EntryError,
    EntryForgedError,
    ForgedCheckpointError,
    ForkError,
    GenesisMismatchError,
    LogError,
    MissingRowsError,
    PartialTileMissingError,
    SequenceError,
    TileError,
    WrongKeyError,
)
from strongroom.audit.facts import Producer
from strongroom.audit.merkle import leaf_hash, tree_root
from strongroom.audit.note import VerifierKey
from strongroom.audit.reading.view import PublishedView, entry_at
from strongroom.audit.replay import EntryChecks
from strongroom.audit.tiles import Tile, TileBuilder, bundles_of, encode_bundle, read_bundle, tiles_of
from strongroom.audit.verify import Report, SeenRoot, verify_log
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.events import EventName
from strongroom.core.signature import Ed25519Signer
from support.logs import AT, GENESIS, KEEPER, LOG_KEY, LOG_SIGNER, ORIGIN, LocalLog, opening, sample_entry, some_entries

CHECKS = EntryChecks(keeper_key=KEEPER.public_key, genesis=GENESIS.digest)
SIZE = 600  # two full tiles, a partial one, and a second level


@pytest.fixture
def log(tmp_path: Path) -> LocalLog:
    made = LocalLog(tmp_path)
    made.append(some_entries(SIZE))
    return made


def check(log: LocalLog, previous: bytes | None = None) -> Report:
    seen = [] if previous is None else [SeenRoot.kept(previous, LOG_KEY)]
    return verify_log(FolderSource(log.public), LOG_KEY, entries=CHECKS, seen=seen)


def published(log: LocalLog) -> list[bytes]:
    source = FolderSource(log.public)
    return [entry for bundle in bundles_of(SIZE) for entry in read_bundle(source, bundle)]


def write_folder(folder: Path, entries: list[bytes], signer: Ed25519Signer = LOG_SIGNER) -> None:
    """Publish ``entries`` as a dishonest holder of the log's key would: everything consistent, everything signed."""
    shutil.rmtree(folder, ignore_errors=True)
    files: dict[str, bytes] = {}
    builder = TileBuilder()
    for entry in entries:
        files.update({tile.path: data for tile, data in builder.append(leaf_hash(entry))})
    files.update({tile.path: data for tile, data in builder.partials()})
    for bundle in bundles_of(len(entries)):
        files[bundle.path] = encode_bundle(entries[bundle.index * 256 :][: bundle.width])
    root = tree_root(leaf_hash(entry) for entry in entries)
    files["checkpoint"] = Checkpoint(ORIGIN, len(entries), root).sign(signer)
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def test_untouched_log_verifies(log: LocalLog) -> None:
    report = check(log)
    assert report.checkpoint.size == SIZE
    assert report.entries is not None
    assert report.entries.signatures == SIZE - 1
    assert sum(report.entries.events.values()) == SIZE
    view = PublishedView(FolderSource(log.public), LOG_KEY, KEEPER.public_key)
    assert entry_at(view, view.head(), 300)[1].seq == 299


def test_layout_is_exactly_the_one_of_the_size(log: LocalLog) -> None:
    found = {str(path.relative_to(log.public)) for path in log.public.rglob("*") if path.is_file()}
    wanted = {tile.path for tile in (*tiles_of(SIZE), *bundles_of(SIZE))} | {"checkpoint"}
    # Partial tiles of earlier published sizes may stay until their full tile is there.
    extra = {Tile.parse(path) for path in found - wanted}
    assert wanted <= found
    assert all(tile.width < 256 and (tile.full.path not in found) for tile in extra)


@pytest.mark.parametrize("index", [0, 1, 255, 256, 511, 599])
def test_edited_entry_is_found(log: LocalLog, index: int) -> None:
    edited = sample_entry(EventName.REFUSED, index - 1, at=AT + 1) if index else opening(Digest.of(b"another"))
    bundle = next(b for b in bundles_of(SIZE) if b.index == index // 256)
    entries = list(read_bundle(FolderSource(log.public), bundle))
    entries[index % 256] = edited
    (log.public / bundle.path).write_bytes(encode_bundle(entries))
    with pytest.raises(EditedEntryError) as caught:
        check(log)
    assert caught.value.index == index
    assert caught.value.code == "log-entry-edited"


def test_edited_entry_with_rewritten_tiles_is_found(log: LocalLog) -> None:
    checkpoint = (log.public / "checkpoint").read_bytes()
    entries = published(log)
    entries[300] = sample_entry(EventName.REFUSED, 299, at=AT + 1)
    write_folder(log.public, entries)
    (log.public / "checkpoint").write_bytes(checkpoint)
    with pytest.raises(EditedEntryError):
        check(log)


def test_edited_entry_under_the_logs_own_key_is_found_by_the_keepers_signature(log: LocalLog) -> None:
    entries = published(log)
    entries[300] = entries[300].replace(b'"at":"2026', b'"at":"2025')
    write_folder(log.public, entries)
    with pytest.raises(EntryForgedError) as caught:
        check(log)
    assert caught.value.index == 300


def test_left_out_entry_under_the_logs_own_key_is_found_by_the_counter(log: LocalLog) -> None:
    entries = published(log)
    write_folder(log.public, entries[:300] + entries[301:])
    with pytest.raises(SequenceError) as caught:
        check(log)
    assert caught.value.index == 300


def test_entry_doubled_or_swapped_under_the_logs_own_key_is_found(log: LocalLog) -> None:
    entries = published(log)
    write_folder(log.public, [*entries[:300], entries[299], *entries[300:]])
    with pytest.raises(SequenceError):
        check(log)
    write_folder(log.public, [*entries[:300], entries[301], entries[300], *entries[302:]])
    with pytest.raises(SequenceError):
        check(log)


def cut_bundle(log: LocalLog) -> None:
    bundle = Tile(None, 2, SIZE - 512)
    entries = read_bundle(FolderSource(log.public), bundle)
    (log.public / bundle.path).write_bytes(encode_bundle(entries[:-1]))


def remove_bundle(log: LocalLog) -> None:
    (log.public / Tile(None, 2, SIZE - 512).path).unlink()


def cut_bytes(log: LocalLog) -> None:
    path = log.public / Tile(None, 2, SIZE - 512).path
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [cut_bundle, remove_bundle, cut_bytes])
def test_deleted_newest_rows_are_found(log: LocalLog, damage: Callable[[LocalLog], None]) -> None:
    damage(log)
    with pytest.raises(MissingRowsError) as caught:
        check(log)
    assert caught.value.code == "log-rows-missing"
    assert caught.value.index is not None
    assert caught.value.index >= 512


def test_log_rolled_back_to_an_older_checkpoint_is_found(log: LocalLog) -> None:
    newest = (log.public / "checkpoint").read_bytes()
    write_folder(log.public, published(log)[:400])
    assert check(log).checkpoint.size == 400  # sound in itself: only a kept checkpoint can tell
    with pytest.raises(MissingRowsError) as caught:
        check(log, previous=newest)
    assert caught.value.index == 400


def test_truncated_then_continued_is_found(log: LocalLog, tmp_path: Path) -> None:
    newest = (log.public / "checkpoint").read_bytes()
    entries = published(log)[:400]
    entries += [sample_entry(EventName.REFUSED, seq, at=AT + 9) for seq in range(399, 799)]
    write_folder(tmp_path / "forked", entries)
    forked = LocalLog(tmp_path / "elsewhere")
    shutil.move(tmp_path / "forked", forked.public)
    assert check(forked).checkpoint.size == 800
    with pytest.raises(ForkError) as caught:
        check(forked, previous=newest)
    assert caught.value.code == "log-forked"


def test_two_roots_for_one_size_are_a_fork(log: LocalLog) -> None:
    previous = Checkpoint(ORIGIN, SIZE, b"\x01" * 32).sign(LOG_SIGNER)
    with pytest.raises(ForkError):
        check(log, previous=previous)


def test_forged_checkpoint_is_found(log: LocalLog) -> None:
    path = log.public / "checkpoint"
    path.write_bytes(path.read_bytes().replace(b"\n600\n", b"\n599\n"))
    with pytest.raises(ForgedCheckpointError) as caught:
        check(log)
    assert caught.value.code == "log-checkpoint-forged"


def test_wrong_key_is_told_from_a_forgery(log: LocalLog) -> None:
    other = VerifierKey(ORIGIN, Ed25519Signer.from_seed(b"O" * 32).public_key)
    with pytest.raises(WrongKeyError):
        verify_log(FolderSource(log.public), other, entries=None)
    write_folder(log.public, published(log), signer=Ed25519Signer.from_seed(b"O" * 32))
    with pytest.raises(WrongKeyError):
        check(log)


def test_the_key_of_another_log_is_refused_also_by_the_same_owner(log: LocalLog) -> None:
    other = VerifierKey("vault.example/another-log", LOG_SIGNER.public_key)
    with pytest.raises(WrongKeyError) as caught:
        verify_log(FolderSource(log.public), other, entries=None)
    assert caught.value.code == "log-key-wrong"


def test_an_entry_too_large_for_a_bundle_is_never_logged(log: LocalLog) -> None:
    large = b'{"at":"' + b"x" * MAX_ENTRY + b'"}'
    with pytest.raises(EntryError) as caught:
        read_entry(large)
    assert caught.value.code == "bad-log-entry"
    with pytest.raises(MalformedError):
        encode_bundle([large])
    assert check(log).checkpoint.size == SIZE


def test_missing_partial_tile_is_found(log: LocalLog) -> None:
    (log.public / Tile(0, 2, SIZE - 512).path).unlink()
    with pytest.raises(PartialTileMissingError) as caught:
        check(log)
    assert caught.value.index == 512


@pytest.mark.parametrize("tile", list(tiles_of(SIZE)))
def test_every_damaged_or_missing_hash_tile_is_found(log: LocalLog, tile: Tile) -> None:
    path = log.public / tile.path
    good = path.read_bytes()
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:-32], good + good[:32]):
        path.write_bytes(bad)
        with pytest.raises(TileError):
            check(log)
    path.unlink()
    with pytest.raises(TileError):
        check(log)


def test_log_of_another_deployment_is_refused(log: LocalLog) -> None:
    with pytest.raises(GenesisMismatchError):
        verify_log(
            FolderSource(log.public), LOG_KEY, entries=EntryChecks(keeper_key=None, genesis=Digest.of(b"another"))
        )


def test_published_folder_is_rebuilt_from_the_store(log: LocalLog) -> None:
    before = {path.relative_to(log.public): path.read_bytes() for path in log.public.rglob("*") if path.is_file()}
    shutil.rmtree(log.public / "tile" / "0")
    (log.public / "checkpoint").unlink()
    store, publisher = log.open()
    publisher.publish()
    store.close()
    wanted = {tile.path for tile in (*tiles_of(SIZE), *bundles_of(SIZE))} | {"checkpoint"}
    for path in wanted:
        assert (log.public / path).read_bytes() == before[Path(path)]
    check(log)


def test_published_tile_of_a_fork_is_never_overwritten(log: LocalLog) -> None:
    path = log.public / Tile(0, 2, SIZE - 512).path
    path.write_bytes(b"\x00" * (32 * (SIZE - 512)))
    (log.public / "checkpoint").unlink()
    store, publisher = log.open()
    with pytest.raises(TileError):
        publisher.publish()
    store.close()


def test_every_error_has_its_own_code() -> None:
    def leaves(kind: type[LogError]) -> list[type[LogError]]:
        return [kind, *(leaf for sub in kind.__subclasses__() for leaf in leaves(sub))]

    codes = [kind.code for kind in leaves(LogError)]
    assert len(set(codes)) == len(codes)


def test_sample_log_has_every_event_of_the_keeper(log: LocalLog) -> None:
    events = {read_entry(entry).event for entry in published(log)}
    # What stands at a seam has tests of its own.
    seams = {EventName.SHARD_CLOSED, EventName.SHARD_CONTINUED, EventName.SHARD_PRUNED}
    assert events == set(EventName) - seams
    assert read_checkpoint((log.public / "checkpoint").read_bytes(), LOG_KEY).size == SIZE
    assert {read_entry(entry).by for entry in published(log)} == set(Producer)
