"""The real kernel asks before a guarded file is opened: decoys stay shut by any name, and who tried is told."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from strongroom.detection.adapters import fanotify
from strongroom.detection.adapters.fanotify import FileGuard, GuardUnavailableError, Opening

pytestmark = pytest.mark.integration


@contextmanager
def guarded(decoys: list[Path], watched: list[Path]) -> Iterator[list[Opening]]:
    try:
        guard = FileGuard(decoys, watched)
    except GuardUnavailableError as error:
        pytest.skip(f"this kernel or user can't guard files: {error.message}")
    told: list[Opening] = []
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            guard.look_again()
            if guard.wait(0.05):
                guard.answer(told.append)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield told
    finally:
        stop.set()
        worker.join()
        guard.close()


def reads(path: Path) -> str:
    done = subprocess.run(["cat", path], capture_output=True, text=True, check=False, timeout=20)
    return done.stdout


def test_a_decoy_stays_shut_by_any_name_and_the_opener_is_told(tmp_path: Path) -> None:
    decoy, other = tmp_path / "m-00007.floe", tmp_path / "innocent.txt"
    decoy.write_text("nothing of worth")
    other.hardlink_to(decoy)
    (tmp_path / "link").symlink_to(decoy)
    with guarded([decoy], []) as told:
        for name in (decoy, other, tmp_path / "link"):
            assert reads(name) == ""
        moved = tmp_path / "moved"
        decoy.rename(moved)
        assert reads(moved) == ""
    assert [opening.denied for opening in told] == [True] * 4
    assert {Path(opening.exe).name for opening in told} == {"cat"}
    assert {opening.uid for opening in told} == {os.getuid()}
    assert reads(moved) == "nothing of worth"


def test_a_watched_file_opens_and_is_told(tmp_path: Path) -> None:
    shard, beside = tmp_path / "m-00001.floe", tmp_path / "notes"
    shard.write_text("sealed")
    beside.write_text("notes")
    with guarded([], [shard]) as told:
        assert reads(shard) == "sealed"
        assert reads(beside) == "notes"
    assert [(Path(opening.path).name, opening.denied) for opening in told] == [("m-00001.floe", False)]


def test_a_file_that_takes_a_watched_one_s_place_is_watched(tmp_path: Path) -> None:
    shard = tmp_path / "index.sealed"
    shard.write_text("sealed")
    with guarded([], [shard]) as told:
        for text in ("sealed anew", "and again"):
            (tmp_path / "new").write_text(text)
            (tmp_path / "new").replace(shard)
            time.sleep(0.5)
            assert reads(shard) == text
    assert [Path(opening.path).name for opening in told] == ["index.sealed"] * 2


def test_a_link_in_a_watched_file_s_place_is_told_and_followed_nowhere(tmp_path: Path) -> None:
    shard, needed = tmp_path / "index.sealed", tmp_path / "needed"
    shard.write_text("sealed")
    needed.write_text("needed")
    with guarded([], [shard]) as told:
        shard.unlink()
        shard.symlink_to(needed)
        time.sleep(0.5)
        assert reads(shard) == "needed"
    assert told == []
    shard.unlink()
    shard.write_text("sealed")
    with FileGuard([], [shard]) as guard:
        shard.unlink()
        shard.symlink_to(needed)
        guard.look_again()
        guard.look_again()
        assert guard.lost == 1


def test_a_decoy_that_is_taken_away_moved_or_changed_is_told_once(tmp_path: Path) -> None:
    need_guard(tmp_path)
    names = ("deleted", "moved", "cut", "replaced", "linked", "touched", "stays")
    deleted, moved, cut, replaced, linked, touched, stays = decoys = [tmp_path / name for name in names]
    for path in decoys:
        path.write_text("nothing of worth")
    with FileGuard(decoys) as guard:
        assert guard.gone() == ()
        deleted.unlink()
        moved.rename(tmp_path / "elsewhere")
        # Without opening it: the kernel asks nobody.
        os.truncate(cut, 3)
        replaced.unlink()
        replaced.write_text("another")
        linked.unlink()
        linked.symlink_to(stays)
        os.utime(touched, (1, 1))
        # What doesn't take it away: a link to it, another mode.
        (tmp_path / "link").hardlink_to(stays)
        stays.chmod(0o600)
        assert set(guard.gone()) == {deleted, moved, cut, replaced, linked, touched}
        assert guard.gone() == ()
        stays.unlink()
        assert guard.gone() == (stays,)


def test_a_decoy_whose_folder_is_gone_is_told_and_many_are_looked_at_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_guard(tmp_path)
    monkeypatch.setattr(fanotify, "DECOY_LOOKS", 2)
    folder = tmp_path / "archive"
    folder.mkdir()
    decoys = [folder / f"m-{number}" for number in range(5)]
    for path in decoys:
        path.write_text("x")
    with FileGuard(decoys) as guard:
        folder.rename(tmp_path / "away")
        told = [guard.gone() for _turn in range(4)]
    assert [len(one) for one in told] == [2, 2, 1, 0]
    assert {path for one in told for path in one} == set(decoys)


def need_guard(folder: Path) -> None:
    probe = folder / "probe"
    probe.touch()
    with guarded([probe], []):
        pass


def test_every_one_of_many_openers_is_answered(tmp_path: Path) -> None:
    decoy = tmp_path / "decoy"
    decoy.write_text("x")
    program = (
        "import sys\nfor _ in range(100):\n try: open(sys.argv[1])\n except PermissionError: pass\n else: sys.exit(1)"
    )
    with guarded([decoy], []) as told:
        openers = [subprocess.Popen([sys.executable, "-c", program, decoy]) for _n in range(4)]
        assert [opener.wait(timeout=60) for opener in openers] == [0] * 4
    assert len(told) == 400


def test_a_file_that_is_not_there_can_not_be_guarded(tmp_path: Path) -> None:
    with pytest.raises((GuardUnavailableError, FileNotFoundError)):
        FileGuard([tmp_path / "none"])
