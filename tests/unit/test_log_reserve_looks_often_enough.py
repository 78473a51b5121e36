"""The log's disk is looked at now and then while there is much room, and for each append once it fills up."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from strongroom.audit.adapters.reserve import LOOK_SECONDS, MOST, Reserve
from strongroom.audit.space import Space

FREE = 1 << 40


class Disk:
    """A file system with so many bytes free, and a clock."""

    def __init__(self) -> None:
        self.free = FREE
        self.now = 1000.0
        self.looks = 0

    def statvfs(self, _path: Path) -> SimpleNamespace:
        self.looks += 1
        return SimpleNamespace(f_blocks=FREE, f_frsize=1, f_bavail=self.free)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    monkeypatch.setattr(os, "statvfs", made.statvfs)
    monkeypatch.setattr("strongroom.audit.adapters.reserve.time.monotonic", lambda: made.now)
    return made


def looks(disk: Disk, opened: Reserve, times: int) -> int:
    before = disk.looks
    for _ in range(times):
        opened.space()
    return disk.looks - before


def test_far_from_full_a_look_lasts_a_while_and_no_longer(tmp_path: Path, disk: Disk) -> None:
    opened = Reserve(tmp_path / "reserve")
    assert opened.space() is Space.AMPLE
    assert looks(disk, opened, 100) == 0
    disk.now += LOOK_SECONDS
    disk.free = MOST - 1
    assert opened.space() is Space.RESERVE
    assert not (tmp_path / "reserve").exists()


def test_when_it_fills_up_each_append_looks(tmp_path: Path, disk: Disk) -> None:
    opened = Reserve(tmp_path / "reserve")
    assert opened.space() is Space.AMPLE
    for free, told in ((4 * MOST, Space.AMPLE), (2 * MOST - 1, Space.TIGHT), (MOST - 1, Space.RESERVE)):
        disk.now += LOOK_SECONDS
        disk.free = free
        assert opened.space() is told
        assert looks(disk, opened, 100) == 100
