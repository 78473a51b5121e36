"""Whatever is done to a log of several shards, both verifiers refuse it, and give the same reason and place."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from strongroom.audit import standalone_verifier
from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.errors import LogError
from strongroom.audit.reading.proven import read_proven
from strongroom.audit.reading.view import PublishedView, entry_at
from strongroom.audit.replay import EntryChecks
from strongroom.audit.succession import Succession
from strongroom.audit.verify_shards import LogReport, verify_shards
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.core.signature import Ed25519Signer
from support.logs import GENESIS, KEEPER, sample_facts
from support.published import key_file
from support.shards import ShardedLog, signer_of

CHECKS = EntryChecks(keeper_key=KEEPER.public_key, genesis=GENESIS.digest)
THIEF = Ed25519Signer.from_seed(b"T" * 32)


def log() -> ShardedLog:
    return ShardedLog().grow(300).turn().grow(20).turn().grow(5)


def by_both(folder: Path, *kept: bytes) -> LogReport:
    """Verify by both; what they say must be the same. Raises what ours raises."""
    key = key_file(folder.parent)
    arguments = [str(folder), "--key", str(key), "--keeper", str(KEEPER.public_key), "--jobs", "1", "--json"]
    for number, note in enumerate(kept):
        place = folder.parent / f"kept-{number}"
        place.write_bytes(note)
        arguments += ["--previous", str(place)]
    with redirect_stdout(io.StringIO()) as printed:
        standalone_verifier.main(arguments)
    theirs = json.loads(printed.getvalue())
    try:
        report = verify_shards(
            FolderSource(folder),
            Succession.of(GENESIS),
            entries=CHECKS,
            keeper_key=KEEPER.public_key,
            kept=kept,
            cosigned=False,
        )
    except StrongroomError as error:
        agree(theirs, error.reason, getattr(error, "index", None))
        raise
    assert theirs["ok"], theirs
    assert (theirs["size"], theirs["shards"]) == (report.size, len(report.reports))
    assert theirs["continues"] == [one.size for one in report.seen]
    return report


def agree(theirs: dict[str, object], reason: str, index: int | None) -> None:
    """Check what the other verifier said of a log that ours refused."""
    if reason in {"log-genesis-mismatch", "log-sequence-gap"} or theirs["ok"]:
        # What stands in the entries is read by ours alone.
        assert theirs["ok"] or theirs["code"] != reason
        return
    assert theirs["code"] == reason
    # The place of what follows an end is told by whoever reads all entries.
    assert theirs["index"] in {index, None}


def refused(made: ShardedLog, folder: Path, *kept: bytes, change: Callable[[Path], None] = lambda _f: None) -> str:
    place = made.publish(folder / "log")
    change(place)
    with pytest.raises(StrongroomError) as caught:
        by_both(place, *kept)
    return caught.value.reason


def test_a_sound_log_is_verified_over_every_seam(tmp_path: Path) -> None:
    made = log()
    report = by_both(made.publish(tmp_path / "log"), made.note(1, 200), made.note(2), made.note(3, 4))
    assert report.size == made.size
    assert report.succession == made.succession
    assert [one.size for one in report.seen] == [200, 324, 328]
    entries = report.entries
    assert entries is not None
    assert entries.events[EventName.SHARD_CLOSED] == entries.events[EventName.SHARD_CONTINUED] == 2


@pytest.mark.parametrize(("shard", "at"), [(1, 7), (1, 301), (2, 0), (2, 21), (3, 0), (3, 4)])
def test_an_entry_that_was_edited_is_found_in_its_shard(tmp_path: Path, shard: int, at: int) -> None:
    made = log()
    place = made.publish(tmp_path / "log")
    folder, data = (place if shard == 1 else place / "shards" / str(shard)), made.shards[shard - 1][at]
    for bundle in (folder / "tile" / "entries").rglob("*"):
        if bundle.is_file():
            bundle.write_bytes(bundle.read_bytes().replace(data, data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]))
    with pytest.raises(LogError) as caught:
        by_both(place)
    base = made.succession.shards[shard - 1].base
    assert (caught.value.reason, caught.value.index) == ("log-entry-edited", base + at)


@pytest.mark.parametrize("gone", [2, 3])
def test_a_shard_that_was_left_out_is_missed(tmp_path: Path, gone: int) -> None:
    def change(folder: Path) -> None:
        shutil.rmtree(folder / "shards" / str(gone))

    assert refused(log(), tmp_path, change=change) == "log-shard-missing"


def test_a_successor_of_an_open_shard_is_refused(tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        shutil.copytree(folder / "shards" / "3", folder / "shards" / "4")

    assert refused(log(), tmp_path, change=change) == "log-succession-broken"


def test_a_successor_under_another_key_is_refused(tmp_path: Path) -> None:
    made = log()

    def change(folder: Path) -> None:
        (folder / "shards" / "3" / "checkpoint").write_bytes(made.checkpoint(3).sign(THIEF))

    assert refused(made, tmp_path, change=change) == "log-key-wrong"


def test_a_thief_who_closes_the_shard_for_a_key_of_theirs_is_refused(tmp_path: Path) -> None:
    made = ShardedLog().grow(4)
    made.turn(by=THIEF, closing={"key": THIEF.public_key})
    place = made.publish(tmp_path / "log")
    (place / "shards" / "2" / "checkpoint").write_bytes(made.checkpoint(2).sign(THIEF))
    with pytest.raises(StrongroomError) as caught:
        by_both(place)
    assert caught.value.reason == "log-entry-forged"


@pytest.mark.parametrize("closing", [{"next": 3}, {"base": 4}, {"base": 6}])
def test_an_end_that_names_another_place_is_refused(tmp_path: Path, closing: dict[str, int]) -> None:
    made = ShardedLog().grow(3).turn(closing=closing)
    assert refused(made, tmp_path) == "log-succession-broken"


def test_an_entry_behind_the_closing_one_is_refused(tmp_path: Path) -> None:
    made = log()
    made.shards[0].append(made.shards[0][5])
    # To the tree alone it is a shard that isn't closed; whoever reads the entries sees what follows the end.
    with pytest.raises(StrongroomError) as caught:
        by_both(made.publish(tmp_path / "log"))
    assert caught.value.reason in {"log-succession-broken", "log-sequence-gap"}


@pytest.mark.parametrize("said", [{"base": 3}, {"shard": 3}, {"predecessor": GENESIS.digest}])
def test_an_opening_that_does_not_continue_the_shard_before_is_refused(tmp_path: Path, said: dict[str, object]) -> None:
    made = ShardedLog().grow(3).turn(**said)  # type: ignore[arg-type]
    place = made.publish(tmp_path / "log")
    with pytest.raises(LogError) as caught:
        verify_shards(
            FolderSource(place),
            Succession.of(GENESIS),
            entries=CHECKS,
            keeper_key=KEEPER.public_key,
            cosigned=False,
        )
    assert (caught.value.reason, caught.value.index) == ("log-succession-broken", 5)


def test_numbers_go_on_over_a_seam(tmp_path: Path) -> None:
    made = log()
    made.seq += 1
    made.write(EventName.REFUSED, sample_facts(EventName.REFUSED))
    with pytest.raises(LogError) as caught:
        by_both(made.publish(tmp_path / "log"))
    assert (caught.value.reason, caught.value.index) == ("log-sequence-gap", made.size - 1)


def test_a_kept_checkpoint_of_a_shard_that_is_not_there_is_missed(tmp_path: Path) -> None:
    whole, made = log().turn(), log()
    assert refused(made, tmp_path, whole.note(4)) == "log-rows-missing"


def test_a_kept_checkpoint_of_another_tree_is_a_fork(tmp_path: Path) -> None:
    made, other = log(), ShardedLog().grow(300).turn().grow(21)
    assert refused(made, tmp_path, other.note(2, 22)) in {"log-forked", "log-rows-missing"}
    forked = made.checkpoint(2)
    note = type(forked)(forked.origin, 5, b"\x05" * 32).sign(signer_of(2))
    assert refused(made, tmp_path / "again", note) == "log-forked"


def pruned(folder: Path, bundles: int, *, recorded: int) -> Path:
    """Publish a log whose first shard lacks so many bundles, and says below which index entries were left out."""
    made = ShardedLog().grow(700).turn().grow(3)
    if recorded:
        made.write(EventName.SHARD_PRUNED, {"shard": 1, "minimum": recorded})
    place = made.publish(folder / "log")
    for index in range(bundles):
        (place / "tile" / "entries" / f"{index:03d}").unlink()
    return place


def ours(place: Path) -> LogReport:
    return verify_shards(
        FolderSource(place), Succession.of(GENESIS), entries=CHECKS, keeper_key=KEEPER.public_key, cosigned=False
    )


@pytest.mark.parametrize(("bundles", "recorded"), [(1, 256), (2, 512), (1, 512)])
def test_a_log_that_was_pruned_and_says_so_is_verified_by_its_tiles(
    tmp_path: Path, bundles: int, recorded: int
) -> None:
    report = ours(pruned(tmp_path, bundles, recorded=recorded))
    assert report.pruned == {1: bundles * 256}
    # The other verifier wants every entry, and says which is missing.
    with redirect_stdout(io.StringIO()) as printed:
        standalone_verifier.main([str(tmp_path / "log"), "--key", str(key_file(tmp_path)), "--json"])
    theirs = json.loads(printed.getvalue())
    assert (theirs["code"], theirs["index"]) == ("log-rows-missing", 0)


@pytest.mark.parametrize(("bundles", "recorded"), [(1, 0), (2, 256), (3, 512)])
def test_entries_that_nobody_said_were_pruned_are_missing(tmp_path: Path, bundles: int, recorded: int) -> None:
    place = pruned(tmp_path, min(bundles, 2), recorded=recorded)
    if bundles == 3:
        shutil.rmtree(place / "tile" / "entries")
    with pytest.raises(LogError) as caught:
        ours(place)
    assert (caught.value.reason, caught.value.index) == ("log-rows-missing", 0)


def test_a_hole_is_not_pruning(tmp_path: Path) -> None:
    place = pruned(tmp_path, 0, recorded=512)
    (place / "tile" / "entries" / "001").unlink()
    with pytest.raises(LogError) as caught:
        ours(place)
    assert (caught.value.reason, caught.value.index) == ("log-rows-missing", 256)


def test_a_hash_of_what_was_pruned_that_was_changed_is_found(tmp_path: Path) -> None:
    place = pruned(tmp_path, 1, recorded=256)
    tile = place / "tile" / "0" / "000"
    data = tile.read_bytes()
    tile.write_bytes(data[:64] + bytes(32) + data[96:])
    with pytest.raises(LogError) as caught:
        ours(place)
    assert caught.value.reason in {"log-entry-edited", "log-tile-damaged"}


def test_the_hashes_alone_say_nothing_of_what_was_left_out(tmp_path: Path) -> None:
    place = pruned(tmp_path, 1, recorded=256)
    with pytest.raises(LogError) as caught:
        verify_shards(
            FolderSource(place), Succession.of(GENESIS), entries=None, keeper_key=KEEPER.public_key, cosigned=False
        )
    assert caught.value.reason == "log-rows-missing"


def test_entries_of_every_shard_are_proven_together(tmp_path: Path) -> None:
    made = log()
    made.publish(tmp_path / "log")
    view = PublishedView(FolderSource(tmp_path / "log"), Succession.of(GENESIS).current.verifier, KEEPER.public_key)
    head = view.head()
    places = [*range(0, head.size, 7), head.size - 1]
    assert read_proven(view, head, places) == {place: entry_at(view, head, place)[1] for place in places}


def test_an_entry_that_was_kept_is_proven_in_a_pruned_log(tmp_path: Path) -> None:
    place = pruned(tmp_path, 2, recorded=512)
    view = PublishedView(FolderSource(place), Succession.of(GENESIS).current.verifier, KEEPER.public_key)
    head = view.head()
    assert entry_at(view, head, 600)[1].seq == 599
    with pytest.raises(LogError):
        entry_at(view, head, 3)
