"""The log in a backup is read once over all of its shards, not once for each: a log of many shards is restored, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from strongroom.backup.adapters import log_copy
from strongroom.backup.adapters.log_copy import BackedUpLog, whole_log
from strongroom.backup.contents import LOG_ENTRIES, final_name
from strongroom.backup.entries import Rebuilt, read_entries, rebuilding, write_entry
from strongroom.backup.header import Position
from strongroom.core.digest import Digest, DigestAlgorithm
from support.logs import GENESIS
from support.shards import ShardedLog

SHARDS = 12


@pytest.fixture
def log() -> ShardedLog:
    made = ShardedLog().grow(9)
    for number in range(1, SHARDS):
        made.turn().grow(number)
    return made


def taken_out(log: ShardedLog, home: Path) -> BackedUpLog:
    place = home / LOG_ENTRIES
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"".join(write_entry(entry) for shard in log.shards for entry in shard))
    for number in range(1, SHARDS):
        (home / final_name(number)).parent.mkdir(parents=True, exist_ok=True)
        (home / final_name(number)).write_bytes(log.note(number))
    newest = log.checkpoint(SHARDS)
    root = Digest(DigestAlgorithm.SHA256, newest.root)
    return BackedUpLog(home, Position(origin=newest.origin, size=log.size, root=root, checkpoint=log.note(SHARDS)))


def test_each_entry_is_read_once_in_order(log: ShardedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, read = taken_out(log, tmp_path), 0

    def counted(chunks: Iterable[bytes]) -> Iterator[bytes]:
        nonlocal read
        for entry in read_entries(chunks):
            read += 1
            yield entry

    monkeypatch.setattr(log_copy, "read_entries", counted)
    rebuilt = Rebuilt(GENESIS)
    assert [*rebuilding(whole_log(copy, rebuilt), rebuilt, most=log.size)] == [
        entry for shard in log.shards for entry in shard
    ]
    assert read == log.size
    # As the store is filled: each shard again, from where it begins.
    for shard, entries in zip(log.succession.shards, log.shards, strict=True):
        assert [*copy.entries(shard)] == entries
    assert read == 2 * log.size


def test_a_shard_in_the_middle_is_found_without_the_ones_before(log: ShardedLog, tmp_path: Path) -> None:
    copy = taken_out(log, tmp_path)
    for number in (7, 3, 12, 1, 7):
        assert [*copy.entries(log.succession.shards[number - 1])] == log.shards[number - 1]


def test_who_stops_reading_in_the_middle_spoils_nothing(log: ShardedLog, tmp_path: Path) -> None:
    copy = taken_out(log, tmp_path)
    begun = copy.entries(log.succession.shards[4])
    assert next(begun) == log.shards[4][0]
    begun.close()  # type: ignore[attr-defined]
    assert [*copy.entries(log.succession.shards[4])] == log.shards[4]
