"""A governor's folder keeps the entry that says most, as it was signed, and believes nothing else that lies there."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.core.errors import StrongroomError
from strongroom.egress.odometer import Block
from strongroom.enclave.gateway.adapters.governor_folder import GovernorFolder
from strongroom.enclave.gateway.errors import OdometerFileError
from support.egress import ATLAS, BOREAS, policy
from support.file_odometer import FileOdometer
from support.logs import AT


def test_what_is_kept_never_says_less(tmp_path: Path) -> None:
    log, folder = FileOdometer(tmp_path / "log", policy()), GovernorFolder(tmp_path, ATLAS)
    assert folder.stored() is None
    opened = folder.open(log)
    assert folder.stored() == opened.data
    more = log.advance(Block(model=ATLAS, run=1, through=10, settled=0, tokens=0, verified=0))
    folder.keep(more)
    folder.keep(opened)
    assert folder.stored() == more.data
    # A log that lost everything is told by the entry, as the keeper signed it.
    again = folder.open(FileOdometer(tmp_path / "empty", policy()))
    assert (again.entry.run, again.entry.total) == (2, 10)


def test_anything_else_that_lies_there_is_refused(tmp_path: Path) -> None:
    log, folder = FileOdometer(tmp_path / "log", policy()), GovernorFolder(tmp_path, ATLAS)
    opened = folder.open(log)
    other = FileOdometer(tmp_path / "other", policy(BOREAS)).open(None)
    for data in (other.data, b"", b"{}", opened.data[:-1], bytes(100_000)):
        (tmp_path / f"{ATLAS}.odometer.json").write_bytes(data)
        with pytest.raises(StrongroomError):
            folder.keep(opened)
        with pytest.raises(StrongroomError):
            folder.open(log)


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OdometerFileError):
        GovernorFolder(tmp_path / "file", ATLAS).freeze("drill", AT, seq=1)
    (tmp_path / f"{ATLAS}.frozen.json").mkdir()
    with pytest.raises(OdometerFileError):
        GovernorFolder(tmp_path, ATLAS).check_resumed(lambda: 9)
