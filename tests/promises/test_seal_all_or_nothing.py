"""A sealed directory appears whole or not at all: refused sources, full disks and killed processes publish nothing.

What a full disk or a kill interrupts stays under a temporary name, and the next call goes on with it
(test_seal_goes_on_where_it_was.py); what was refused is removed.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.core.errors import StrongroomError, UsageError
from strongroom.sealing.adapters.directory import open_directory, read_envelope
from strongroom.sealing.adapters.publish import local_target, partial_of
from strongroom.sealing.errors import (
    DestinationBusyError,
    DestinationExistsError,
    NameCollisionError,
    NoSpaceError,
    NothingToSealError,
    SourceChangedError,
    SpecialFileError,
    SymlinkError,
    TooManyFilesError,
    UnsafeNameError,
)
from strongroom.sealing.manifest import MAX_OBJECTS
from support.sealed import FILES, ROOM, CountedRandom, content, data_key, seal_model, verified, write_model


def _nothing_but(folder: Path, *names: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


def _link_to_file(folder: Path) -> None:
    (folder / "weights.bin").symlink_to("config.json")


def _link_to_folder(folder: Path) -> None:
    (folder / "sub").symlink_to("1_Pooling")


def _dangling(folder: Path) -> None:
    (folder / "weights.bin").symlink_to("nowhere")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def _socket(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("s")
    os.chdir(here)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_link_to_file, SymlinkError),
        (_link_to_folder, SymlinkError),
        (_dangling, SymlinkError),
        (_pipe, SpecialFileError),
        (lambda folder: (folder / "CONFIG.json").write_bytes(b""), NameCollisionError),
        (lambda folder: (folder / "a\\b").write_bytes(b""), UnsafeNameError),
        (lambda folder: (folder / "a\nb").write_bytes(b""), UnsafeNameError),
        (lambda folder: (folder / "end. ").write_bytes(b""), UnsafeNameError),
        (lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).write_bytes(b""), UnsafeNameError),
        (lambda folder: (folder / "/".join("d" * 17)).mkdir(parents=True), UnsafeNameError),
    ],
)
def test_a_source_that_is_not_plain_files_is_refused(
    tmp_path: Path, change: Callable[[Path], object], error: type[StrongroomError]
) -> None:
    change(write_model(tmp_path / "m"))
    with pytest.raises(error):
        seal_model(tmp_path / "m", tmp_path / "m.sealed")
    assert _nothing_but(tmp_path, "m")


def test_an_empty_source_and_one_with_too_many_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m" / "sub").mkdir(parents=True)
    with pytest.raises(NothingToSealError):
        seal_model(tmp_path / "m", tmp_path / "m.sealed")
    for number in range(MAX_OBJECTS + 1):
        (tmp_path / "m" / str(number)).touch()
    with pytest.raises(TooManyFilesError):
        seal_model(tmp_path / "m", tmp_path / "m.sealed")
    assert _nothing_but(tmp_path, "m")


def test_a_linked_source_and_a_destination_inside_are_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    (tmp_path / "link").symlink_to("m")
    with pytest.raises(SymlinkError):
        seal_model(tmp_path / "link", tmp_path / "m.sealed")
    with pytest.raises(UsageError):
        seal_model(tmp_path / "m", tmp_path / "m" / "m.sealed")


def test_a_source_that_changes_is_refused(tmp_path: Path) -> None:
    def grow(_done: int, _total: int) -> None:
        with (tmp_path / "m" / "model.safetensors").open("ab") as file:
            file.write(b"more")

    def add(_done: int, _total: int) -> None:
        (tmp_path / "m" / "new").touch()

    for change in (grow, add):
        with pytest.raises(SourceChangedError):
            seal_model(write_model(tmp_path / "m"), tmp_path / "m.sealed", progress=change)
        assert _nothing_but(tmp_path, "m")


def test_an_existing_directory_is_replaced_only_when_asked(tmp_path: Path) -> None:
    first = seal_model(write_model(tmp_path / "m"), tmp_path / "m.sealed")
    with pytest.raises(DestinationExistsError):
        seal_model(tmp_path / "m", tmp_path / "m.sealed", random_bytes=CountedRandom(b"2"))
    assert read_envelope(tmp_path / "m.sealed") == first.envelope
    second = seal_model(
        tmp_path / "m",
        tmp_path / "m.sealed",
        version=2,
        predecessor=first.manifest.digest,
        random_bytes=CountedRandom(b"2"),
        replace=True,
    )
    assert read_envelope(tmp_path / "m.sealed") == second.envelope
    assert _nothing_but(tmp_path, "m", "m.sealed")


def test_a_full_disk_publishes_nothing_and_says_what_to_free(tmp_path: Path) -> None:
    first = seal_model(write_model(tmp_path / "m"), tmp_path / "m.sealed")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * ROOM, hard))
    try:
        with pytest.raises(NoSpaceError) as caught:
            seal_model(
                tmp_path / "m", tmp_path / "m.sealed", replace=True, version=2, predecessor=first.manifest.digest
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(tmp_path) in caught.value.remedy
    assert "free" in caught.value.remedy
    assert not (partial_of(tmp_path / "m.sealed") / "manifest.json").exists()
    assert read_envelope(tmp_path / "m.sealed") == first.envelope


def test_too_little_room_is_told_before_anything_is_written(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    with (tmp_path / "m" / "huge.bin").open("wb") as file:
        file.truncate(1 << 43)
    with pytest.raises(NoSpaceError, match="are free") as caught:
        seal_model(tmp_path / "m", tmp_path / "m.sealed")
    assert "free at least" in caught.value.remedy
    assert _nothing_but(tmp_path, "m")


KILLED = """
import os, signal, sys
from pathlib import Path
from support.sealed import CountedRandom, seal_model
from strongroom.core.digest import Digest

root, at = Path(sys.argv[1]), int(sys.argv[2])
real = CountedRandom(b"second")

def random_bytes(count):
    if real.calls == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(count)

seal_model(root / "m", root / "m.sealed", replace=True, version=2, predecessor=Digest.of(b"first"),
           random_bytes=random_bytes)
"""


@pytest.mark.parametrize("at", [1, 7, 12])
def test_a_killed_seal_leaves_the_old_version_whole(tmp_path: Path, at: int) -> None:
    sealed = seal_model(write_model(tmp_path / "m"), tmp_path / "m.sealed")
    tests = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), str(at)],
        env=os.environ | {"PYTHONPATH": f"{tests}:{tests.parent / 'src'}"},
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert _nothing_but(tmp_path, "m", "m.sealed", ".m.sealed.partial")
    assert not (partial_of(tmp_path / "m.sealed") / "manifest.json").exists()
    with open_directory(tmp_path / "m.sealed", data_key=data_key(), manifest=verified(sealed)) as model:
        for name, (_mode, data) in FILES.items():
            assert b"".join(bytes(chunk) for chunk in model.chunks(name)) == data
    seal_model(
        tmp_path / "m",
        tmp_path / "m.sealed",
        replace=True,
        version=2,
        predecessor=sealed.manifest.digest,
        random_bytes=CountedRandom(b"third"),
    )
    assert _nothing_but(tmp_path, "m", "m.sealed")


def test_two_seals_to_one_place_do_not_meet(tmp_path: Path) -> None:
    write_model(tmp_path / "m", {"a": (0o644, content(ROOM))})
    refused: list[DestinationBusyError] = []

    def other(_done: int, _total: int) -> None:
        for replace in (False, True):
            with pytest.raises(DestinationBusyError) as caught:
                seal_model(tmp_path / "m", tmp_path / "m.sealed", random_bytes=CountedRandom(b"other"), replace=replace)
            refused.append(caught.value)

    sealed = seal_model(tmp_path / "m", tmp_path / "m.sealed", progress=other)
    assert refused
    assert all("wait" in error.remedy for error in refused)
    assert read_envelope(tmp_path / "m.sealed") == sealed.envelope
    assert _nothing_but(tmp_path, "m", "m.sealed")


def test_a_seal_that_waited_for_its_lock_does_not_clear_what_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loser opens the temporary folder, the winner gives it its name, the loser gets the lock of what is public."""
    place = tmp_path / "m.sealed"
    partial_of(place).mkdir()
    real = fcntl.flock

    def published_first(fd: int, operation: int) -> None:
        partial_of(place).rename(place)
        (place / "manifest.json").touch()
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", published_first)
    with pytest.raises(DestinationBusyError), local_target(place, replace=True):
        pass
    assert (place / "manifest.json").exists()


def test_a_destination_that_appears_meanwhile_is_not_touched(tmp_path: Path) -> None:
    write_model(tmp_path / "m", {"a": (0o644, content(ROOM))})

    def appear(_done: int, _total: int) -> None:
        (tmp_path / "m.sealed").mkdir(exist_ok=True)
        (tmp_path / "m.sealed" / "theirs").touch()

    with pytest.raises(DestinationExistsError):
        seal_model(tmp_path / "m", tmp_path / "m.sealed", progress=appear)
    assert _nothing_but(tmp_path / "m.sealed", "theirs")
    assert _nothing_but(tmp_path, "m", "m.sealed")


def test_a_folder_that_somebody_else_prepared_is_not_used(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to somebody else")
    write_model(tmp_path / "m")
    (tmp_path / ".m.sealed.partial").mkdir()
    os.chown(tmp_path / ".m.sealed.partial", 12345, 12345)
    with pytest.raises(DestinationBusyError, match="somebody else"):
        seal_model(tmp_path / "m", tmp_path / "m.sealed")
    assert not (tmp_path / "m.sealed").exists()
